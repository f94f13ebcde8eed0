"""Labels: what is lake on the grid and dates of a cube, from polygons or from a raster."""

from __future__ import annotations

import os
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.errors import TrainError
from xglof.lakes.layer import LAKE, LAND, check_values, grid_dims, lake_layer
from xglof.lakes.reading import date_places, naive_utc
from xglof.train.inventory import Objects, Outlines, outlines_on

if TYPE_CHECKING:
    import geopandas
    import pandas
    from odc.geo.geobox import GeoBox

    Polygons: TypeAlias = geopandas.GeoDataFrame | str | os.PathLike[str]

#: Value of a label that takes no part in a loss or a score.
IGNORE = 255

_BLOCK_PX = 2016  # a block of a segmentation: where the cube is not in Dask
_SAME_PX = 1e-3  # grids that are shifted by less, in pixels, are the same
_STORE = ("zarr.json", ".zgroup", ".zmetadata")
_LISTED = 3

Sizes = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """Polygons, in the pixels of the grid, that may meet one block of it."""

    shapes: Objects
    top: int
    left: int
    shape: tuple[int, int]
    all_touched: bool


def labels_of(
    label: xr.Dataset | xr.DataArray | Polygons,
    cube: xr.Dataset,
    *,
    all_touched: bool = False,
    dates: str | None = None,
    tolerance: str | np.timedelta64 | None = None,
) -> xr.DataArray:
    """Labels on the grid and dates of a cube, lazily.

    Parameters
    ----------
    label
        A Dataset with ``lake`` or that variable, ``([time,] y, x)`` uint8 (0 land, 1 lake, 255 ignored) or
        bool; the path of a Zarr store with it; or polygons, as :func:`rasterise` takes them. A raster may
        reach beyond the cube and have more dates.
    cube
        The cube; nothing of it is read but its grid and dates.
    all_touched, dates, tolerance
        For polygons, see :func:`rasterise`.

    Returns
    -------
    xarray.DataArray
        ``lake``: ``([time,] y, x)`` uint8, 0 land, 1 lake, 255 ignored, with the dims and coordinates of the
        cube, whichever way its rows run. Without ``time`` it holds for every date. In Dask where the label
        is, and for polygons; a store is opened without Dask if the cube is without.

    Raises
    ------
    TrainError
        Another grid than the cube's, dates of the cube that the label lacks, no such file; as
        :func:`rasterise`.
    CubeError
        No ``lake``, another dtype, no CRS; other values than 0, 1 and 255, as soon as they are read in Dask
        or memory.
    """
    if isinstance(label, xr.Dataset | xr.DataArray):
        return _from_raster(label, cube)
    if isinstance(label, str | os.PathLike) and any((Path(label) / name).exists() for name in _STORE):
        from xglof.outputs import read_zarr

        in_dask = any(variable.chunks for variable in cube.variables.values())
        return _from_raster(read_zarr(label, chunks="stored" if in_dask else None), cube)
    return rasterise(label, cube, all_touched=all_touched, dates=dates, tolerance=tolerance)


def rasterise(
    polygons: Polygons,
    cube: xr.Dataset | xr.DataArray,
    *,
    all_touched: bool = False,
    dates: str | None = None,
    tolerance: str | np.timedelta64 | None = None,
) -> xr.DataArray:
    """Lakes of an inventory on the grid of a cube, lazily: a task draws the polygons of one block.

    Land is where no polygon lies: the inventory must be complete within the cube.

    Parameters
    ----------
    polygons
        GeoDataFrame, or path of a GeoPackage, shapefile, GeoParquet or another file that GDAL reads, in any
        CRS. Polygons that cross themselves are repaired, and counted.
    cube
        Whose grid, dates and chunks are taken; nothing of it is read.
    all_touched
        Whether every pixel that a polygon touches is lake, and not only those whose centre it holds. Adds
        about half a pixel all around: some 45% to a lake of 50 m at 10 m.
    dates
        Column with the date at which a polygon was seen, for an inventory of several dates, each of which
        covers the cube. Every date of the cube takes the nearest date of the whole inventory, the later of
        two as near; it is all land where that date has no lake within the cube, as when lakes have drained,
        and 255 where none is within the tolerance. Where regions were seen at dates of their own, give the
        rows of the cube's region only. Without ``dates``, the polygons hold for all dates.
    tolerance
        Such as ``"45D"``.

    Returns
    -------
    xarray.DataArray
        ``lake``: ``([time,] y, x)`` uint8, 0 land, 1 lake, 255 no polygons of that date; with ``time`` only
        with ``dates``. Attributes state ``source``, ``polygons`` within the cube, ``repaired`` ones of them,
        ``all_touched`` (1 or 0), and with dates how many of the cube's are ignored (``ignored_dates``) and
        how many are all land because the nearest has no lake there (``lakeless_dates``).

    Raises
    ------
    TrainError
        No such file; no CRS; nothing within the cube; geometries that are missing, empty or no polygons;
        dates without a tolerance, or that are none, or of which none is near to the cube's.
    CubeError
        The cube has no grid, no CRS or a rotated one.

    References
    ----------
    https://gdal.org/en/stable/programs/gdal_rasterize.html, which draws.

    Examples
    --------
    >>> import geopandas, shapely
    >>> from odc.geo.geobox import GeoBox
    >>> from odc.geo.xr import wrap_xr
    >>> grid = GeoBox.from_bbox((500_000, 3_100_000, 500_060, 3_100_040), "EPSG:32645", resolution=10)
    >>> cube = xr.Dataset({"B03": wrap_xr(np.zeros(grid.shape, "uint16"), grid)})
    >>> lakes = geopandas.GeoDataFrame(geometry=[shapely.box(500_012, 3_100_008, 500_034, 3_100_031)],
    ...                                crs="EPSG:32645")
    >>> rasterise(lakes.to_crs("EPSG:4326"), cube).values
    array([[0, 0, 0, 0, 0, 0],
           [0, 1, 1, 0, 0, 0],
           [0, 1, 1, 0, 0, 0],
           [0, 0, 0, 0, 0, 0]], dtype=uint8)
    """
    from xglof.engine.inputs import geobox_of, spatial_dims

    cube = cube.to_dataset(name="cube") if isinstance(cube, xr.DataArray) else cube
    grid, dims = geobox_of(cube), spatial_dims(cube)
    found = outlines_on(polygons, grid)
    sizes = _block_sizes(cube, dims)
    if dates is None:
        if tolerance is not None:
            raise TrainError("tolerance= came without dates=; name the column of the polygons' dates")
        ignored: dict[str, Any] = {}
        layer = _burned(found.shapes, sizes, all_touched)
    else:
        layer, ignored = _burned_by_date(found, cube, sizes, all_touched, dates, tolerance)
    label = _wrapped(layer, cube, dims, grid)
    label.attrs |= {
        "source": found.source,
        "polygons": len(found.shapes),
        "repaired": found.repaired,
        "all_touched": int(all_touched),
        **ignored,
    }
    return label


def _wrapped(layer: Any, cube: xr.Dataset, dims: tuple[str, str], grid: GeoBox) -> xr.DataArray:
    import odc.geo.xr  # noqa: F401  registers .odc

    leading = ("time",) if layer.ndim == 3 else ()
    label = xr.DataArray(layer, dims=(*leading, *dims), name="lake")
    label = label.assign_coords({name: cube[name] for name in (*leading, *dims)})
    label.attrs = {
        "long_name": "lake, as labelled",
        "flag_values": np.array([LAND, LAKE, IGNORE], np.uint8),
        "flag_meanings": "land lake ignored",
    }
    placed: xr.DataArray = label.odc.assign_crs(grid.crs)
    return placed


def _block_sizes(cube: xr.Dataset, dims: tuple[str, str]) -> Sizes:
    """Sizes of the blocks along rows and columns: those of the cube's first variable in Dask."""
    for variable in cube.variables.values():
        if variable.chunks is not None and set(dims) <= set(variable.dims):
            chunks = variable.chunksizes
            return chunks[dims[0]], chunks[dims[1]]
    sizes = [cube.sizes[dim] for dim in dims]
    rows, columns = (
        tuple(min(_BLOCK_PX, size - start) for start in range(0, size, _BLOCK_PX)) for size in sizes
    )
    return rows, columns


def _burned(shapes: Objects, sizes: Sizes, all_touched: bool) -> Any:
    """Dask array ``(y, x)`` uint8 of polygons in pixels."""
    import dask.array as da
    import shapely
    from dask.base import tokenize
    from dask.highlevelgraph import HighLevelGraph

    tops, lefts = (np.cumsum([0, *each]).tolist() for each in sizes)
    tree = shapely.STRtree(shapes)
    name = "rasterise-" + tokenize(shapely.to_wkb(shapes).tolist(), sizes, all_touched)
    layer: dict[Any, Any] = {}
    for i, height in enumerate(sizes[0]):
        for j, width in enumerate(sizes[1]):
            frame = shapely.box(lefts[j], tops[i], lefts[j] + width, tops[i] + height)
            here = shapes[np.sort(tree.query(frame))]
            layer[name, i, j] = (_burn, _Piece(here, tops[i], lefts[j], (height, width), all_touched))
    return da.Array(HighLevelGraph.from_collections(name, layer), name, sizes, dtype=np.uint8)


def _burn(piece: _Piece) -> NDArray[np.uint8]:
    from affine import Affine
    from rasterio.features import rasterize

    found = np.full(piece.shape, LAND, np.uint8)
    if len(piece.shapes):
        place = Affine.translation(piece.left, piece.top)
        touched = piece.all_touched
        rasterize(piece.shapes.tolist(), out=found, transform=place, default_value=LAKE, all_touched=touched)
    return found


def _burned_by_date(
    found: Outlines,
    cube: xr.Dataset,
    sizes: Sizes,
    all_touched: bool,
    dates: str,
    tolerance: str | np.timedelta64 | None,
) -> tuple[Any, dict[str, Any]]:
    """Dask array ``(time, y, x)``, and the dates of the cube that no polygon is near to."""
    import dask.array as da
    import pandas as pd

    if "time" not in cube.dims:
        raise TrainError(f"dates={dates!r} needs a cube with 'time', and this one has {tuple(cube.dims)}")
    if tolerance is None:
        raise TrainError(
            f"dates={dates!r} needs tolerance=, how far a label's date may be off, such as '45D'"
        )
    seen, known = _polygon_dates(found, dates)
    times = naive_utc(cube["time"].to_numpy())
    nearest = known.get_indexer(times, method="nearest", tolerance=pd.Timedelta(tolerance))
    if (nearest < 0).all():
        raise TrainError(
            f"no date of {found.source} ({known[0].date()} to {known[-1].date()}) is within {tolerance} of "
            f"one of the cube ({times.min().date()} to {times.max().date()}); widen the tolerance"
        )
    ignored = da.full((sum(sizes[0]), sum(sizes[1])), IGNORE, dtype=np.uint8, chunks=sizes)
    layers = {
        place: _burned(found.shapes[seen == known[place]], sizes, all_touched)
        for place in set(nearest) - {-1}
    }
    stacked = da.stack([layers.get(place, ignored) for place in nearest.tolist()])
    lakeless = (nearest >= 0) & ~known[nearest].isin(seen)
    return stacked, {"ignored_dates": int((nearest < 0).sum()), "lakeless_dates": int(lakeless.sum())}


def _polygon_dates(found: Outlines, column: str) -> tuple[pandas.DatetimeIndex, pandas.DatetimeIndex]:
    """Dates of the polygons within the cube, and all different dates of the inventory in order."""
    frame = found.frame
    if column not in frame:
        raise TrainError(f"the polygons have no column {column!r}, but {', '.join(map(str, frame.columns))}")
    values = frame[column]
    if values.dtype.kind in "iufb":
        raise TrainError(
            f"column {column!r} holds numbers such as {values.iloc[found.rows[0]]}; expected dates: give a "
            f"year its day, as in pandas.to_datetime(lakes[{column!r}].astype(str) + '-09-01')"
        )
    try:
        dates = naive_utc(values.to_numpy() if values.dtype.kind == "M" else values)
    except (ValueError, TypeError) as error:
        raise TrainError(f"column {column!r} holds no dates: {error}") from error
    seen = dates[found.rows]
    if seen.isna().any():
        raise TrainError(
            f"{seen.isna().sum()} polygons within the cube have no {column!r}; drop or date them"
        )
    return seen, dates.dropna().unique().sort_values()


def _from_raster(label: xr.Dataset | xr.DataArray, cube: xr.Dataset) -> xr.DataArray:
    """A raster of lakes where it covers the cube, with the cube's coordinates."""
    from xglof.engine.inputs import geobox_of, reversed_dims, spatial_dims

    layer = label["lake"] if isinstance(label, xr.Dataset) and "lake" in label else label
    if isinstance(layer, xr.DataArray) and layer.dtype == bool and layer.chunks is None:
        layer = layer.chunk()  # a conversion would read what lies in a file
    layer = lake_layer(layer)
    dims = spatial_dims(cube)
    turned = reversed_dims(cube, dims)
    layer = layer.isel(_place_of(geobox_of(cube.isel(turned)), layer))
    if "time" in layer.dims:
        layer = _at_dates(layer, cube)
    names = dict(zip(grid_dims(layer), dims, strict=True))
    layer = layer.drop_vars(list(layer.coords)).rename(names).isel(turned)
    shared = {dim: cube[dim] for dim in layer.dims}
    placed: xr.DataArray = _checked(layer).assign_coords(shared).odc.assign_crs(geobox_of(cube).crs)
    return placed


def _place_of(ours: GeoBox, layer: xr.DataArray) -> dict[Hashable, slice]:
    """Rows and columns of a layer that a grid is; both are north-up."""
    theirs = layer.odc.geobox
    to_pixel = ~theirs.transform
    west, south, east, north = ours.boundingbox.bbox
    (left, top), (right, bottom) = to_pixel @ (west, north), to_pixel @ (east, south)
    corners = np.array([top, left, bottom, right])
    whole = np.rint(corners)
    size = tuple((whole[2:] - whole[:2]).astype(int))
    if theirs.crs != ours.crs or size != tuple(ours.shape) or (np.abs(corners - whole) > _SAME_PX).any():
        raise TrainError(
            f"the label's grid ({_described(theirs)}) is not the cube's ({_described(ours)}); bring it there "
            "with label.odc.reproject(cube.odc.geobox, resampling='nearest'), or give polygons instead"
        )
    if whole.min() < 0 or (whole[2:] > theirs.shape).any():
        raise TrainError(
            f"the label ({_described(theirs)}) does not cover the cube ({_described(ours)}); cut the cube to "
            "it"
        )
    first = whole.astype(int)
    return {
        dim: slice(begin, begin + count)
        for dim, begin, count in zip(grid_dims(layer), first[:2].tolist(), ours.shape, strict=True)
    }


def _described(grid: GeoBox) -> str:
    west, south, east, north = grid.boundingbox.bbox
    code = grid.crs.to_epsg() if grid.crs is not None else None
    name = f"EPSG:{code}" if code else "its own CRS"
    return f"{name}, {grid.resolution.x:g} wide, x {west:.10g} to {east:.10g}, y {south:.10g} to {north:.10g}"


def _at_dates(layer: xr.DataArray, cube: xr.Dataset) -> xr.DataArray:
    """The layer at the dates of a cube."""
    if "time" not in cube.coords:
        raise TrainError("the label has dates and the cube none; select one with label.sel(time=...)")
    times = np.atleast_1d(cube["time"].to_numpy())
    places = date_places(layer.indexes["time"], times)
    if (places < 0).any():
        listed = ", ".join(str(each)[:19] for each in times[places < 0][:_LISTED])
        raise TrainError(
            f"the label lacks {(places < 0).sum()} of the cube's {len(times)} dates ({listed}); cut the cube "
            "with cube.sel(time=...) to those that are labelled"
        )
    if "time" not in cube.dims:
        return layer.isel(time=int(places[0]))
    same = len(places) == layer.sizes["time"] and (places == np.arange(len(places))).all()
    return layer if same else layer.isel(time=places)


def _checked(layer: xr.DataArray) -> xr.DataArray:
    """The layer, whose values are checked: in memory now, in Dask as they come."""
    if layer.chunks is not None:
        return layer.copy(
            data=layer.data.map_blocks(check_values, dtype=np.uint8, meta=np.empty(0, np.uint8))
        )
    if layer.variable._in_memory:  # what lies in a file is checked by whoever reads it
        check_values(layer.values)
    return layer
