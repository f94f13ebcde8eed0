"""Files that a run leaves: written aside, then renamed, so that none is ever half there."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from xglof.errors import OutputError

if TYPE_CHECKING:
    import pandas
    import xarray as xr

#: The last file that a run writes; its presence marks a folder as a run's.
SUMMARY = "summary.json"
#: Layers from 0 to 1: in a compact file uint8, a step is 1/250 and 255 is NaN.
SHARES = ("lake_probability", "entropy", "tile_mismatch")
_SHARE_STEPS, _SHARE_FILL = 250, 255
_LOGIT_STEP, _LOGIT_MOST, _LOGIT_FILL = 0.001, 32767, -32768
_IN_WORDS = ("quality", "sensors")  # CF flags that a table has in words
#: Side of a stored chunk, pixels, where the data have none or uneven ones. Half a block of a segmentation:
#: while it is written, strips and not whole blocks wait for the blocks of the next row.
_CHUNK_PX = 1008
#: Side of a stored chunk where it divides the data's: a block and its margin then decode little else.
_FINE_PX = 504


@dataclass(frozen=True, slots=True)
class FolderKind:
    """What a folder is, so that only its like ever replaces it.

    Attributes
    ----------
    name, lacks
        What it is, and what a folder that is none lacks: for messages.
    option
        What a user adds to replace one.
    is_one
        Tells whether a folder is one.
    """

    name: str
    lacks: str
    option: str
    is_one: Callable[[Path], bool]


def _is_store(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (".zgroup", "zarr.json"))


RUN = FolderKind(
    "run of xglof", f"holds no {SUMMARY}", "--overwrite", lambda folder: (folder / SUMMARY).is_file()
)
STORE = FolderKind("Zarr store", "holds no .zgroup or zarr.json", "overwrite=True", _is_store)


@contextmanager
def new_folder(
    path: str | os.PathLike[str], *, overwrite: bool = False, kind: FolderKind = RUN
) -> Iterator[Path]:
    """A folder to fill, which takes its place at ``path`` when the block ends well and is gone when it fails.

    What was opened lazily inside the block must be read inside it: the files move when it ends.

    Parameters
    ----------
    path
        Where the folder shall be.
    overwrite
        Replace what is there, once the new one is complete. Nothing but an empty folder or one of the same
        kind is ever replaced.
    kind
        What the folder will be: by default a run, which is known by its ``summary.json``.

    Raises
    ------
    OutputError
        If something is at ``path`` already, nothing can be written beside it, the disk is full, or what was
        to be replaced cannot be put back after a failure: the message says where it is kept.
    """
    if "://" in str(path):
        raise OutputError(f"{path} is an address; give a folder on this machine and copy it from there")
    target = Path(path).resolve()
    _check_target(target, overwrite, kind)
    made_parents: list[Path] = []
    try:
        made_parents += _make_parents(target.parent)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        _remove_empty(made_parents)
        raise OutputError(f"can't write to {target.parent}: {error.strerror}; give another folder") from error
    made, old = aside / "new", aside / "old"
    try:
        made.mkdir()
        yield made
        _check_target(target, overwrite, kind)  # the work took its time, and another may have been quicker
        _put_in_place(made, target, old)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OutputError(f"no space is left for {target}; give a folder on another disk") from error
    finally:
        shutil.rmtree(made if old.exists() else aside, ignore_errors=True)  # not what could not go back
        _remove_empty(made_parents)


def _check_target(target: Path, overwrite: bool, kind: FolderKind) -> None:
    """Refuse a place that is taken by anything but an empty folder or, to be overwritten, one of its kind."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not overwrite:
        raise OutputError(f"{target} is there already; give another folder or {kind.option}")
    if not kind.is_one(target):
        raise OutputError(
            f"{target} {kind.lacks}, so it is no {kind.name} and is not overwritten; "
            "give another folder or remove it yourself"
        )


def _make_parents(folder: Path) -> list[Path]:
    """Make a folder and what it lies in; those that were not there, the outermost first."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()][::-1]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folders: list[Path]) -> None:
    for folder in reversed(folders):
        with suppress(OSError):  # it holds the result, or was never made
            folder.rmdir()


def _put_in_place(made: Path, target: Path, old: Path) -> None:
    """Rename a folder to its place; what it replaces moves to ``old``, and back if that fails."""
    try:
        if target.exists():
            target.rename(old)
        made.rename(target)
    except BaseException as error:
        if old.exists() and not target.exists():
            _put_back(old, target, error)
        raise


def _put_back(old: Path, target: Path, error: BaseException) -> None:
    try:
        old.rename(target)
    except OSError as again:
        raise OutputError(
            f"can't write {target} ({error}), nor put back what was there ({again}); it is kept in {old}: "
            "move it back yourself"
        ) from error


def write_zarr(
    data: xr.Dataset, path: str | os.PathLike[str], *, compact: bool = False, overwrite: bool = False
) -> xr.Dataset:
    """Write a cube or segmentation as Zarr and return it lazily as written.

    The store takes its place when it is complete. This computes, block by block; what was opened lazily
    from a store that is replaced must be opened again. Uneven chunks are cut to 1008 px, and so are the
    planes of an array without chunks, which is never loaded as a whole. Where a block fails on a cluster,
    those that workers still write may leave a hidden folder ``.<name>-...`` beside ``path``: remove it.

    Format 2: its strings and consolidated metadata are specified, those of format 3 are not yet. Integers
    get no ``_FillValue``, so that they are read as integers; floats get NaN.

    Parameters
    ----------
    data
        Variables of any dims, along the last two of which (rows, columns) large ones are cut.
    path
        Where the store shall be: a folder on this machine.
    compact
        Write ``lake_probability``, ``entropy`` and ``tile_mismatch`` (0 to 1) as uint8 with
        ``scale_factor`` 1/250 and 255 for NaN, and ``logit`` as int16 with 0.001, clipped to +-32.767.
        Readers of CF decode them, at most 1/500 and 0.0005 off. All else is written as it is: ``lake`` stays
        that of the exact probability.
    overwrite
        Replace the Zarr store at ``path``; anything else that is there is kept.

    Returns
    -------
    xarray.Dataset
        As :func:`read_zarr` opens it.

    Raises
    ------
    OutputError
        If ``path`` is taken or cannot be written, the disk is full, or a layer to be packed is not in 0 to 1.

    References
    ----------
    CF conventions 1.11, section 8.1, packed data.
    """
    plain = _storable(data, compact)
    with new_folder(path, overwrite=overwrite, kind=STORE) as folder, _own_threads() as threads:
        plain.to_zarr(folder, zarr_format=2, mode="w-", chunkmanager_store_kwargs=threads)
    return read_zarr(path)


def read_zarr(
    path: str | os.PathLike[str], *, chunks: Mapping[str, int] | Literal["stored"] | None = "stored"
) -> xr.Dataset:
    """Open, lazily, a cube or segmentation that :func:`write_zarr` wrote, compact or not, with its CRS.

    Parameters
    ----------
    path
        Of the store.
    chunks
        Sizes of Dask's chunks, or ``"stored"`` for those of the store. ``None`` opens without Dask: a block
        of :func:`xglof.segment` then reads just its own pixels.

    Returns
    -------
    xarray.Dataset
        The variables lazily; coordinates in memory. Packed layers are float32 (float64 without Dask), NaN
        where they were; integers are as they were written.

    Raises
    ------
    OutputError
        No store is at ``path``.
    """
    import xarray as xr

    sizes = None if chunks is None else {} if chunks == "stored" else dict(chunks)
    try:
        data: xr.Dataset = xr.open_zarr(path, decode_coords="all", chunks=sizes)
    except FileNotFoundError as error:
        raise OutputError(f"{path} is no Zarr store; give a folder that write_zarr() wrote") from error
    for name, variable in data.data_vars.items():
        # xarray decodes to float64, which holds nothing more
        if "scale_factor" in variable.encoding and variable.chunks is not None:
            data[name] = variable.astype("float32")
            data[name].encoding = variable.encoding
    return data.assign_coords({name: coord.load() for name, coord in data.coords.items()})


@contextmanager
def _own_threads() -> Iterator[dict[str, Any]]:
    """Arguments of a computation by threads that have all ended when the block does.

    Where a task fails, those beside it go on: in Dask's own threads they would write what was just removed
    once more. Empty, and so without effect, where another scheduler or pool is set.
    """
    import dask
    from dask import threaded
    from dask.array.core import Array
    from dask.base import get_scheduler
    from dask.system import CPU_COUNT

    if get_scheduler(cls=Array) is not threaded.get or dask.config.get("pool", None) is not None:
        yield {}
        return
    with ThreadPoolExecutor(dask.config.get("num_workers", None) or CPU_COUNT) as pool:
        yield {"pool": pool}


_SECONDS = {"units": "seconds since 1970-01-01", "calendar": "proleptic_gregorian", "dtype": "int64"}


def _storable(data: xr.Dataset, compact: bool) -> xr.Dataset:
    """The data, lazily, in chunks that Zarr takes and with the encodings of the file."""
    plain = data.drop_encoding()
    for name, coord in data.coords.items():
        bounds = coord.attrs.get("bounds") or coord.encoding.get("bounds")
        if bounds in plain.coords:  # both must count time alike
            plain[name].attrs["bounds"] = bounds
            plain[name].encoding |= _SECONDS
    for name, variable in data.data_vars.items():
        stored = _evenly_chunked(plain[name].variable)
        packing = _packing(str(name)) if compact and stored.dtype.kind == "f" else None
        if packing is not None:
            stored = _packable(stored, str(name))
            stored.encoding.update(packing)
        elif stored.dtype.kind == "f":
            stored.encoding["_FillValue"] = stored.dtype.type("nan")
        if stored.chunks is not None and stored.ndim >= 2:
            stored.encoding["chunks"] = _stored_chunks(stored.chunks)
        named = variable.encoding.get("grid_mapping", stored.attrs.pop("grid_mapping", "spatial_ref"))
        mapping = named if named in plain.coords else "spatial_ref"
        if mapping in plain.coords:
            stored.encoding["grid_mapping"] = mapping
        plain[name] = stored
    return plain


def _evenly_chunked(variable: xr.Variable) -> xr.Variable:
    """The variable in chunks of one size along each dim, the last one smaller at most: Zarr has no others."""
    if variable.chunks is None:
        if variable.ndim < 2:
            return variable
        *others, rows, columns = variable.dims
        return variable.chunk({rows: _CHUNK_PX, columns: _CHUNK_PX, **dict.fromkeys(others, 1)})
    uneven = {
        dim: min(max(sizes), _CHUNK_PX)
        for dim, sizes in zip(variable.dims, variable.chunks, strict=True)
        if len({*sizes[:-1]}) > 1 or sizes[-1] > sizes[0]
    }
    return variable.chunk(uneven) if uneven else variable


def _stored_chunks(chunks: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    """Sizes of the stored chunks: the data's, cut finer along rows and columns where that leaves no rest."""
    sides = [sizes[0] for sizes in chunks]
    return (*sides[:-2], *(_FINE_PX if side % _FINE_PX == 0 else side for side in sides[-2:]))


def _packing(name: str) -> dict[str, Any] | None:
    """CF encoding of a layer in a compact file; ``None`` for one that stays as it is."""
    if name in SHARES:
        return {"dtype": "uint8", "scale_factor": 1 / _SHARE_STEPS, "_FillValue": np.uint8(_SHARE_FILL)}
    if name == "logit":
        return {"dtype": "int16", "scale_factor": _LOGIT_STEP, "_FillValue": np.int16(_LOGIT_FILL)}
    return None


def _packable(variable: xr.Variable, name: str) -> xr.Variable:
    """The layer within the range of its integers: beyond it they would wrap."""
    import xarray as xr

    packable: xr.Variable = xr.apply_ufunc(
        _within_range,
        variable,
        kwargs={"name": name},
        dask="parallelized",
        output_dtypes=[variable.dtype],
        keep_attrs=True,
    )
    return packable


def _within_range(values: NDArray[Any], *, name: str) -> NDArray[Any]:
    if name == "logit":
        most = _LOGIT_MOST * _LOGIT_STEP
        return values.clip(-most, most)
    strange = np.abs(values - 0.5) > 0.5 + 0.5 / _SHARE_STEPS  # NaN is not; a last bit too many is no harm
    if strange.any():
        raise OutputError(
            f"{name} holds {values[strange][0]:g}, expected 0 to 1 or NaN: compact=True can't pack it; "
            "write it with compact=False"
        )
    return values.clip(0, 1)


def write_areas(areas: xr.Dataset, path: Path) -> None:
    """Write a ``(lake, time)`` series as CSV, a row a lake and date: units in the heads, flags in words."""
    from xglof.lakes.attributes import flag_words

    plain = areas.drop_vars([*_IN_WORDS, "part_of", "x", "y", "spatial_ref"], errors="ignore")
    table = plain.to_dataframe().reset_index()
    for name in (name for name in _IN_WORDS if name in areas):
        dims = areas[next(iter(plain.data_vars))].dims
        table[name] = flag_words(areas[name].transpose(*dims).to_numpy().ravel(), areas[name].attrs)
    if "part_of" in areas:
        held = areas["part_of"].transpose(*areas["area"].dims).to_numpy().ravel()
        table["part_of"] = areas["lake"].to_numpy()[held]
    units = {str(name): str(array.attrs.get("units", "")) for name, array in areas.data_vars.items()}
    table = table.rename(
        columns={name: f"{name}_{unit}" for name, unit in units.items() if unit in ("m2", "m")}
    )
    keys = [name for name in ("lake", "time") if name in table]
    table = table.sort_values(keys, kind="stable")[[*keys, *(name for name in table if name not in keys)]]
    table.to_csv(path, index=False, float_format="%.8g")


def write_alerts(alerts: pandas.DataFrame, path: Path) -> None:
    """Write the table of :func:`xglof.lakes.find_alerts` as CSV, a row an alert."""
    alerts.to_csv(path, index=False, float_format="%.8g")


def write_summary(summary: dict[str, object], folder: Path) -> None:
    """Write a run's figures as JSON: the last file of a run."""
    text = json.dumps(summary, indent=2, default=str)
    (folder / SUMMARY).write_text(text + "\n", encoding="utf-8")
