"""A segmentation as cloud-optimised GeoTIFFs, one a variable and time step, written block by block."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof._version import __version__
from xglof.errors import CubeError, OutputError
from xglof.lakes.layer import UNOBSERVED, grid_dims, north_up
from xglof.outputs import FolderKind, new_folder, write_zarr

_TILE_PX = 512  # side of a tile of the files
_WINDOW_PX = 4 * _TILE_PX  # side of what is copied at once: whole tiles, each of which is then written once
_CACHE_BYTES = 256 * 2**20  # of GDAL, which by itself takes a share of the machine's memory
_SOFTWARE = "TIFFTAG_SOFTWARE"
_NODATA = {"lake": UNOBSERVED, "classes": UNOBSERVED}  # also where their attributes were lost on the way
_ATTRS_KEPT = ("long_name", "units", "comment", "flag_values", "flag_masks", "flag_meanings")


def _are_ours(folder: Path) -> bool:
    """Whether every file is a GeoTIFF that says it comes from here, or the statistics a viewer put beside."""
    import rasterio

    if not folder.is_dir():
        return False
    for path in folder.iterdir():
        if path.name.endswith(".tif.aux.xml") and path.with_name(path.name[: -len(".aux.xml")]).is_file():
            continue
        if path.suffix != ".tif" or not path.is_file():
            return False
        try:
            with rasterio.open(path) as file:
                if not file.tags().get(_SOFTWARE, "").startswith("xglof "):
                    return False
        except rasterio.errors.RasterioIOError:
            return False
    return True


COGS = FolderKind(
    "folder of GeoTIFFs of xglof", "holds something else than GeoTIFFs of xglof", "overwrite=True", _are_ours
)


def write_cogs(
    seg: xr.Dataset, folder: str | os.PathLike[str], *, compact: bool = True, overwrite: bool = False
) -> list[Path]:
    """Write every variable and time step as a cloud-optimised GeoTIFF, and return the files' paths.

    Files are named ``<variable>_<YYYYMMDD>.tif``, ``<variable>_<YYYYMMDD>T<HHMMSS>.tif`` where steps share a
    day, and ``<variable>.tif`` without time. Rows run from north to south and columns from west to east,
    whatever the order in ``seg``. The folder takes its place when it is complete.

    This computes ``seg`` once, under whatever Dask scheduler is set, into a Zarr store beside ``folder`` and
    streams from there; each file is read again and compared. Peak memory is that of the blocks at work, or
    256 MiB of GDAL's cache and two windows of 2048 px with their bands, never the raster; the disk holds the
    store and one more file until it is done.

    Parameters
    ----------
    seg
        As :func:`xglof.segment` or :func:`read_zarr` returns it: variables of ``([class,] [time,] y, x)`` on
        one unrotated grid with a CRS. Another dim than space and time becomes bands.
    folder
        A folder to make on this machine.
    compact
        Write ``lake_probability``, ``entropy``, ``tile_mismatch`` as uint8 (255 nodata) and ``logit`` as
        int16 (-32768 nodata) with GDAL's scale, as :func:`write_zarr` packs them; else they are float32 with
        nodata NaN. Integers are written as they are.
    overwrite
        Replace the folder, if it holds nothing but files that this function wrote.

    Returns
    -------
    list of pathlib.Path
        In the order of the variables, then of time. Each has the CRS, the transform, nodata (that of a
        variable's ``nodata`` where it is an integer), scale, units, names of bands, and as tags the scalar
        attributes of ``seg`` (``model``, ``model_sha256``, ``numerics``, ``threshold``, ...), ``time``,
        ``long_name``, ``units`` and the meanings of flags. Overviews of integers take the nearest pixel,
        those of the other layers the mean of what is not nodata.

    Raises
    ------
    CubeError
        No CRS, a rotated grid, a variable without rows and columns or with more than one dim besides time,
        times that are no dates or not different to the second, or no time at all.
    OutputError
        ``folder`` is taken or cannot be written, the disk is full, a layer cannot be packed, or a file does
        not hold what was written to it.

    References
    ----------
    OGC 21-026, Cloud Optimized GeoTIFF.
    """
    layers = _layers(seg)
    stamps = _stamps(layers)
    written: list[str] = []
    with (
        new_folder(folder, overwrite=overwrite, kind=COGS) as made,
        tempfile.TemporaryDirectory(dir=made.parent) as scratch,
    ):
        store = Path(scratch) / "layers.zarr"
        write_zarr(layers, store, compact=compact)
        raw = xr.open_zarr(store, mask_and_scale=False, decode_coords="all", chunks=None)
        for name in layers:
            overview = "average" if layers[name].dtype.kind == "f" else "nearest"
            for stamp, step in _steps(raw[name], stamps):
                file = "_".join(part for part in (str(name), stamp) if part) + ".tif"
                _write_cog(step, made / file, Path(scratch) / "draft.tif", overview, _tags(raw, step))
                written.append(file)
    return [Path(folder).resolve() / file for file in written]


def _layers(seg: xr.Dataset) -> xr.Dataset:
    """The variables north-up, as ``([other,] [time,] y, x)``."""
    if not seg.data_vars:
        raise CubeError("the dataset has no variables to write; expected those of segment()")
    layers = {}
    for name, array in seg.data_vars.items():
        rows, columns = grid_dims(array)
        others = [dim for dim in array.dims if dim not in (rows, columns, "time")]
        if len(others) > 1 or not {rows, columns} <= set(array.dims) or array.dtype.kind not in "uif":
            raise CubeError(
                f"variable {name!r} is {array.dtype} with dims {array.dims}; expected numbers with {rows!r}, "
                f"{columns!r}, 'time' and at most one more: drop or convert it"
            )
        times = [dim for dim in array.dims if dim == "time"]
        layers[name] = north_up(array.transpose(*others, *times, rows, columns))
    return xr.Dataset(layers, attrs=seg.attrs)


def _stamps(layers: xr.Dataset) -> list[str]:
    """What tells the files of each time step apart: its day, or where two share one its second."""
    if "time" not in layers.coords:
        if "time" in layers.dims:
            raise CubeError("the dim 'time' has no coordinate of dates (datetime64); assign one")
        return []
    times = np.atleast_1d(layers["time"].values)
    if not len(times):
        raise CubeError("no time step is left to write; select at least one date")
    if times.dtype.kind != "M" or np.isnat(times).any():
        raise CubeError(f"'time' is {times.dtype} or has gaps; expected dates (datetime64), which name files")
    seconds = [str(text).replace("-", "").replace(":", "") for text in np.datetime_as_string(times, unit="s")]
    twice = sorted({text for text in seconds if seconds.count(text) > 1})
    if twice:
        raise CubeError(f"several time steps are named {', '.join(twice[:5])}; merge or drop them")
    days = [text[:8] for text in seconds]
    return [text if days.count(day) > 1 else day for text, day in zip(seconds, days, strict=True)]


def _steps(layer: xr.DataArray, stamps: list[str]) -> Iterator[tuple[str, xr.DataArray]]:
    if "time" in layer.dims:
        for index, stamp in enumerate(stamps):
            yield stamp, layer.isel(time=index)
    else:
        yield (stamps[0] if "time" in layer.coords else ""), layer


def _tags(data: xr.Dataset, step: xr.DataArray) -> dict[str, str]:
    """Provenance and meanings as text, which is all that a GeoTIFF's tags hold."""
    scalars = {key: value for key, value in data.attrs.items() if isinstance(value, str | int | float)}
    scalars.pop("Conventions", None)  # of netCDF and its like
    own = {key: step.attrs[key] for key in _ATTRS_KEPT if key in step.attrs}
    if "time" in step.coords:
        own["time"] = np.datetime_as_string(step["time"].values, unit="s")
    tags = {**scalars, **own, _SOFTWARE: f"xglof {__version__}"}
    return {str(key): value if isinstance(value, str) else _text(value) for key, value in tags.items()}


def _text(value: Any) -> str:
    return " ".join(str(each) for each in np.ravel(value).tolist())


def _write_cog(step: xr.DataArray, path: Path, draft: Path, overview: str, tags: Mapping[str, str]) -> None:
    """Copy a raster from its store to a tiled GeoTIFF, window by window, and that to a COG."""
    import rasterio
    import rasterio.shutil

    options = {"compress": "DEFLATE", "predictor": "YES", "bigtiff": "IF_SAFER", "blocksize": _TILE_PX}
    try:
        with rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES):
            _write_draft(step, draft, tags)
            rasterio.shutil.copy(draft, path, driver="COG", overview_resampling=overview, **options)
            draft.unlink()
            # an error of GDAL's last flush, as it closes a file, reaches nobody
            held = _holds(path, step)
    except Exception as error:  # GDAL's own have no public name
        raise OutputError(f"can't write {path.name}: {error}; see that the disk has space left") from error
    if not held:
        raise OutputError(
            f"{path.name} does not hold what was written to it; see that the disk has space left"
        )


def _holds(path: Path, step: xr.DataArray) -> bool:
    """Whether a file has the raster's values to the bit, and overviews that can be read."""
    import rasterio

    with rasterio.open(path) as file:
        for window, values in _parts(step):
            if file.read(window=window).tobytes() != values.tobytes():
                return False
        levels = len(file.overviews(1))
    for level in range(levels):
        with rasterio.open(path, overview_level=level) as small:
            for window in _windows(*small.shape):
                small.read(window=window)
    return True


def _write_draft(step: xr.DataArray, draft: Path, tags: Mapping[str, str]) -> None:
    import rasterio

    grid, attrs = step.odc.geobox, step.attrs
    count = _bands(step)
    with rasterio.open(
        draft,
        "w",
        driver="GTiff",
        height=grid.shape[0],
        width=grid.shape[1],
        count=count,
        dtype=step.dtype.name,
        crs=grid.crs.to_wkt(),
        transform=grid.affine,
        nodata=attrs.get("_FillValue", attrs.get("nodata", _NODATA.get(str(step.name)))),
        tiled=True,
        blockxsize=_TILE_PX,
        blockysize=_TILE_PX,
        compress="DEFLATE",
        zlevel=1,
        bigtiff="IF_SAFER",
    ) as target:
        target.update_tags(**tags)
        target.scales = [float(attrs.get("scale_factor", 1))] * count
        target.units = [tags.get("units", "")] * count
        target.descriptions = _band_names(step)
        for window, values in _parts(step):
            target.write(values, window=window)


def _bands(step: xr.DataArray) -> int:
    return 1 if step.ndim == 2 else len(step)


def _parts(step: xr.DataArray) -> Iterator[tuple[Any, NDArray[Any]]]:
    """Windows of a raster and their values, ``(band, y, x)``: no more of it is loaded at once."""
    for window in _windows(*step.shape[-2:]):
        rows, columns = window.toslices()
        part = step[..., rows, columns].values
        yield window, part.reshape(_bands(step), *part.shape[-2:])


def _band_names(step: xr.DataArray) -> list[str]:
    if step.ndim == 2:
        return [str(step.attrs.get("long_name", step.name))]
    dim = step.dims[0]
    return (
        [str(name) for name in step[dim].values]
        if dim in step.coords
        else [f"{dim} {number}" for number in range(len(step))]
    )


def _windows(height: int, width: int) -> Iterator[Any]:
    from rasterio.windows import Window

    for top in range(0, height, _WINDOW_PX):
        for left in range(0, width, _WINDOW_PX):
            yield Window(left, top, min(_WINDOW_PX, width - left), min(_WINDOW_PX, height - top))
