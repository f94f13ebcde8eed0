"""Polygons of the lakes of every date, with geodesic areas and their errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.cube.pixel_grid import PixelGrid, Window
from xglof.errors import CubeError
from xglof.lakes.joining import join_blocks
from xglof.lakes.layer import Float, grid_dims, pixel_metres, to_degrees
from xglof.lakes.outlines import outline_block
from xglof.lakes.tiles import Segmentations, Tile, Tiling, block_windows, segmentations, tile_segmentations

if TYPE_CHECKING:
    import geopandas

#: Lakes below 0.02 km2 are flagged, not dropped: ICIMOD's inventory takes those from 0.02 km2 on as able to
#: cause outburst floods, but the flood of Thame (2024) came from one of 0.038 km2.
SMALL_M2 = 20_000.0

_Values = TypeVar("_Values", Float, xr.DataArray)

_SIGMA_SHARE = 0.6872  # share of boundary pixels off by up to one sigma, Hanshaw & Bookhagen (2014)
_SCALE_SHARE = 0.01  # pixels of a UTM grid are up to 0.1% off their nominal size on the ground
_MAX_EDGE_PX = 100  # longer straight edges get points in between: they are not straight on the ellipsoid


def find_lakes(
    seg: Segmentations, *, min_area: float = 0.0, resolution_m: float | None = None
) -> geopandas.GeoDataFrame:
    """Polygons of the lakes of every time step.

    A lake is a group of lake pixels that touch by edges or corners. Its geometry follows the pixels' outer
    edges, unsmoothed; parts that touch at a corner only are the parts of a MultiPolygon, islands are holes.

    This **computes**. A task outlines one block at one time chunk, in whole pixels, and keeps no pixel;
    lakes that cross the borders of blocks are joined date by date. The polygons are the same to the bit
    however ``seg`` is cut into chunks or tiles. The peak memory of a task is its block of ``lake`` (a byte a
    pixel) and about eight bytes a pixel of one of the block's dates. What is joined takes about 100 bytes a
    vertex of the polygons of a date.

    Parameters
    ----------
    seg
        Dataset with ``lake`` or that variable: ``([time,] y, x)`` uint8, 0 land, 1 lake, 255 unobserved. Or a
        sequence of them: tiles of one grid of pixels, each with its own dates. The polygons of a date are
        those of the tiles that hold it (the same time stamp), joined.
    min_area
        Lakes below this geodesic area (m2) are left out; 0 keeps all.
    resolution_m
        Effective resolution G of the error of area, metres; ``None`` for what the segmentation says of
        itself, see :func:`effective_resolution`, and for a lake in several tiles the coarsest of theirs.

    Returns
    -------
    geopandas.GeoDataFrame
        In the CRS of the grid, one row a lake and time step, by time and by first pixel from the north-west:
        ``time`` (NaT where ``seg`` has none), ``area_m2`` and ``perimeter_m`` (geodesic on WGS 84; the
        perimeter is that of the pixel staircase with islands, a quarter longer than a smooth outline),
        ``area_sigma_m2``, ``small`` (below 0.02 km2, ICIMOD's size of lakes able to cause outburst floods),
        ``touches_unobserved`` (a neighbour of a pixel is 255), ``touches_edge`` (a neighbour of a pixel lies
        outside all tiles of the date).

    Raises
    ------
    CubeError
        No ``lake`` or no CRS, a rotated grid, a date twice, other values than 0, 1 and 255, a negative
        ``min_area``, a ``resolution_m`` that is not above 0; tiles of other CRS, pixel sizes or pixel lines,
        or that share pixels at a date.

    References
    ----------
    Hanshaw & Bookhagen (2014), The Cryosphere 8, 359-376: sigma = (P / G) x 0.6872 x G^2 / 2.

    Examples
    --------
    >>> import numpy as np
    >>> from odc.geo.geobox import Affine, GeoBox
    >>> from odc.geo.xr import wrap_xr
    >>> values = np.zeros((60, 80), "uint8")
    >>> values[10:20, 20:30] = 1
    >>> grid = GeoBox(values.shape, Affine(10, 0, 497_000, 0, -10, 3_080_000), "EPSG:32645")
    >>> lakes = find_lakes(wrap_xr(values, grid))
    >>> lakes.area_m2.round(-1).tolist(), lakes.perimeter_m.round().tolist()
    ([10010.0], [400.0])
    """
    import geopandas
    from dask.base import compute

    if not min_area >= 0:
        raise CubeError(f"min_area is {min_area}; expected square metres, 0 or more")
    tiles = segmentations(seg)
    resolutions = [effective_resolution(each, resolution_m) or 0.0 for each in tiles]
    tiling = tile_segmentations(tiles)
    steps = compute(*_tasks(tiling, resolutions, min_area))
    columns = {name: np.concatenate([step[name] for step in steps]) for name in _NONE} if steps else _NONE
    return geopandas.GeoDataFrame(columns, geometry="geometry", crs=tiling.lattice.crs)


_NONE: dict[str, NDArray[Any]] = {
    "time": np.empty(0, "datetime64[ns]"),
    "area_m2": np.empty(0),
    "perimeter_m": np.empty(0),
    "area_sigma_m2": np.empty(0),
    "small": np.empty(0, bool),
    "touches_unobserved": np.empty(0, bool),
    "touches_edge": np.empty(0, bool),
    "geometry": np.empty(0, object),
}


def check_resolution(resolution_m: float | None) -> None:
    """Refuse an effective resolution that is no length.

    Raises
    ------
    CubeError
        It is neither ``None`` nor above 0.
    """
    if resolution_m is not None and not (np.isfinite(resolution_m) and resolution_m > 0):
        raise CubeError(
            f"resolution_m is {resolution_m}; expected metres above 0, or None for the pixel size"
        )


def effective_resolution(seg: Segmentations, resolution_m: float | None = None) -> float | None:
    """Resolution (m) that the error of an area follows from, or ``None`` for the pixel size at each lake.

    Parameters
    ----------
    seg
        Segmentation, or its ``lake``. Its attribute ``effective_resolution_m``, or else that of ``lake``, is
        taken where it is coarser than the pixels: a map on 10 m pixels that rests on bands of 20 m is no
        sharper than they are. Of several segmentations the coarsest counts.
    resolution_m
        Taken instead where given.

    Raises
    ------
    CubeError
        ``resolution_m`` or the attribute is no length above 0; what
        :func:`xglof.lakes.layer.grid_dims` raises of an array with the attribute.
    """
    check_resolution(resolution_m)
    if resolution_m is not None:
        return resolution_m
    found = [coarse for each in segmentations(seg) if (coarse := _stated_resolution(each)) is not None]
    return max(found, default=None)


def _stated_resolution(seg: xr.Dataset | xr.DataArray) -> float | None:
    layer = seg["lake"] if isinstance(seg, xr.Dataset) and "lake" in seg else seg
    stated = {**layer.attrs, **seg.attrs}.get("effective_resolution_m")
    if stated is None or isinstance(layer, xr.Dataset):
        return None
    try:
        metres = float(stated)
    except (TypeError, ValueError):
        metres = np.nan
    if not (np.isfinite(metres) and metres > 0):
        raise CubeError(
            f"the attribute effective_resolution_m is {stated!r}; expected metres above 0: "
            "correct or delete it, or pass resolution_m"
        )
    grid_dims(layer)
    grid = layer.odc.geobox
    middle = grid.pix2wld(grid.shape[1] / 2, grid.shape[0] / 2)
    pixel = np.sqrt(pixel_metres(grid, *np.atleast_1d(*middle))[2][0])
    return metres if metres > pixel * (1 + _SCALE_SHARE) else None


def _tasks(tiling: Tiling, resolutions: Sequence[float], min_area: float) -> list[Any]:
    """Delayed columns of every date, in order of time."""
    from dask.delayed import delayed

    holders: dict[int, list[tuple[int, int]]] = {}
    for number, tile in enumerate(tiling.tiles):
        for step, time in enumerate(tile.times.view("int64").tolist()):
            holders.setdefault(time, []).append((number, step))
    outlined = [_outlined(tile) for tile in tiling.tiles]
    join = delayed(_lakes_of_date, pure=True)
    tasks = []
    for time, held in sorted(holders.items()):
        blocks = [(*block, resolutions[number]) for number, step in held for block in outlined[number][step]]
        windows = [tiling.tiles[number].window for number, _ in held]
        tasks.append(join(blocks, windows, tiling.lattice, np.datetime64(time, "ns"), min_area))
    return tasks


def _outlined(tile: Tile) -> list[list[tuple[Any, int]]]:
    """For each date, its delayed blocks of outlines, and which of their dates it is."""
    import dask.array as da

    blocks = block_windows(tile)
    outlines = da.map_blocks(
        outline_block,
        tile.values,
        tuple(row[0].top for row in blocks),
        tuple(window.left for window in blocks[0]),
        dtype=object,
        chunks=(tile.values.chunks[0], (1,) * len(blocks), (1,) * len(blocks[0])),
        meta=np.empty((0, 0, 0), object),
    )
    return [
        [(block, step) for block in delayed_blocks.ravel()]
        for delayed_blocks, size in zip(outlines.to_delayed(), tile.values.chunks[0], strict=True)
        for step in range(size)
    ]


def _lakes_of_date(
    blocks: Sequence[tuple[NDArray[Any], int, float]],
    windows: Sequence[Window],
    lattice: PixelGrid,
    time: np.datetime64,
    min_area: float,
) -> dict[str, NDArray[Any]]:
    """Columns of the table for the lakes of one date."""
    lakes = [outlines[step, 0, 0] for outlines, step, _ in blocks]
    joined = join_blocks(lakes, [resolution_m for _, _, resolution_m in blocks], windows)
    if len(joined.geometry) == 0:
        return _NONE
    grid, geometry = lattice.geobox(windows[0]), _georeferenced(joined.geometry, lattice)
    area, perimeter = geodesic_size(geometry, grid)
    resolution_m = np.where(joined.resolution_m > 0, joined.resolution_m, _pixel_size(geometry, grid))
    columns = {
        "time": np.full(len(geometry), time, "datetime64[ns]"),
        "area_m2": area,
        "perimeter_m": perimeter,
        "area_sigma_m2": area_sigma(perimeter, resolution_m),
        "small": area < SMALL_M2,
        "touches_unobserved": joined.touches_unobserved,
        "touches_edge": joined.touches_edge,
        "geometry": geometry,
    }
    return {name: column[area >= min_area] for name, column in columns.items()}


def _georeferenced(geometry: NDArray[Any], lattice: PixelGrid) -> NDArray[Any]:
    """Polygons in whole pixels, x the column and y the row, moved to the lattice's CRS."""
    import shapely

    shift, step = (lattice.phase_x, lattice.phase_y), (lattice.step_x, lattice.step_y)
    return np.asarray(shapely.transform(geometry, lambda corners: (corners + shift) * step), object)


def geodesic_size(geometries: NDArray[Any], grid: Any) -> tuple[Float, Float]:
    """Area (m2) and perimeter (m, holes included) on the WGS 84 ellipsoid of polygons in a grid's CRS.

    The exteriors run counter-clockwise and the holes clockwise.
    """
    import shapely
    from pyproj import Geod

    geod, degrees = Geod(ellps="WGS84"), to_degrees(grid.crs)
    longest = _MAX_EDGE_PX * min(abs(grid.resolution.x), abs(grid.resolution.y))
    dense = shapely.segmentize(geometries, longest)
    lonlat = shapely.transform(dense, lambda xy: np.column_stack(degrees.transform(xy[:, 0], xy[:, 1])))
    area = [abs(geod.geometry_area_perimeter(shape)[0]) for shape in lonlat]
    perimeter = [geod.geometry_length(outline) for outline in shapely.boundary(lonlat)]
    return np.array(area, float), np.array(perimeter, float)


def area_sigma(perimeter_m: _Values, resolution_m: Any) -> _Values:
    """One sigma of area (m2) of Hanshaw & Bookhagen (2014): (P / G) x 0.6872 x G^2 / 2, metres."""
    sigma: _Values = perimeter_m / resolution_m * _SIGMA_SHARE * resolution_m**2 / 2
    return sigma


def _pixel_size(geometries: NDArray[Any], grid: Any) -> Float:
    import shapely

    points = shapely.centroid(geometries)
    return np.sqrt(pixel_metres(grid, shapely.get_x(points), shapely.get_y(points))[2])
