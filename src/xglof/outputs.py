"""Files that a run leaves: written aside, then renamed, so that none is ever half there."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from xglof.errors import OutputError

if TYPE_CHECKING:
    import geopandas
    import xarray as xr

#: The last file that a run writes; its presence marks a folder as a run's.
SUMMARY = "summary.json"


@contextmanager
def new_folder(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """A folder to fill, which takes its place at ``path`` when the block ends well and is gone when it fails.

    What was opened lazily inside the block must be read inside it: the files move when it ends.

    Parameters
    ----------
    path
        Where the folder shall be.
    overwrite
        Replace the run that is there, once the new one is complete. Nothing but an empty folder or one with
        a run's ``summary.json`` is ever replaced.

    Raises
    ------
    OutputError
        If something is at ``path`` already, nothing can be written beside it, or the disk is full.
    """
    target = Path(path).resolve()
    _check_target(target, overwrite)
    made_parents: list[Path] = []
    try:
        made_parents += _make_parents(target.parent)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        _remove_empty(made_parents)
        raise OutputError(f"can't write to {target.parent}: {error.strerror}; give another folder") from error
    try:
        made = aside / "new"
        made.mkdir()
        yield made
        _check_target(target, overwrite)  # the run took its time, and another may have been quicker
        _put_in_place(made, target, aside / "old")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OutputError(f"no space is left for {target}; give a folder on another disk") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        _remove_empty(made_parents)


def _check_target(target: Path, overwrite: bool) -> None:
    """Refuse a place that is taken by anything but an empty folder or, to be overwritten, a run."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not overwrite:
        raise OutputError(f"{target} is there already; give another folder or --overwrite")
    if not (target / SUMMARY).is_file():
        raise OutputError(
            f"{target} holds no {SUMMARY}, so it is no run of xglof and is not overwritten; "
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
    if not target.exists():
        made.rename(target)
        return
    target.rename(old)
    try:
        made.rename(target)
    except BaseException:
        old.rename(target)
        raise


def write_zarr(data: xr.Dataset, path: Path) -> xr.Dataset:
    """Write a cube or segmentation as Zarr and return it lazily as written.

    Format 2: its strings and consolidated metadata are specified, those of format 3 are not yet. Integers
    get no ``_FillValue``, so that they are read as integers; floats get NaN.
    """
    plain = data.drop_encoding()
    for variable in plain.data_vars.values():
        if variable.dtype.kind == "f":
            variable.encoding["_FillValue"] = variable.dtype.type("nan")
        if "spatial_ref" in plain.coords:
            variable.encoding["grid_mapping"] = "spatial_ref"
    plain.to_zarr(path, zarr_format=2, mode="w-")
    return read_zarr(path)


def read_zarr(path: str | os.PathLike[str]) -> xr.Dataset:
    """Open, lazily, a cube or segmentation that :func:`write_zarr` wrote, with its CRS."""
    import xarray as xr

    data: xr.Dataset = xr.open_zarr(path, decode_coords="all")
    return data.assign_coords({name: coord.load() for name, coord in data.coords.items()})


def write_lakes(lakes: geopandas.GeoDataFrame, path: Path) -> None:
    """Write lake polygons as GeoParquet 1.1, in their CRS."""
    lakes.to_parquet(path, index=False, schema_version="1.1.0")


def write_areas(areas: xr.Dataset, path: Path) -> None:
    """Write a ``(lake, time)`` series as CSV, a row a lake and date; areas in square metres."""
    measured = ["area", "area_sigma", "area_lower", "area_upper"]
    table = areas.to_dataframe().reset_index().rename(columns={name: f"{name}_m2" for name in measured})
    keys = [name for name in ("lake", "time") if name in table]
    first = [*keys, *(f"{name}_m2" for name in measured), "observed_fraction", "frozen_fraction"]
    rest = [name for name in table if name not in {"x", "y", "spatial_ref", *first}]
    table = table.sort_values(keys, kind="stable")[[*first, *rest]]
    table.to_csv(path, index=False, float_format="%.8g")


def write_summary(summary: dict[str, object], folder: Path) -> None:
    """Write a run's figures as JSON: the last file of a run."""
    text = json.dumps(summary, indent=2, default=str)
    (folder / SUMMARY).write_text(text + "\n", encoding="utf-8")
