"""Polygons of the lakes of every date, with geodesic areas and their errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.errors import CubeError
from xglof.lakes.layer import LAKE, UNOBSERVED, Float, check_values, lake_layer, pixel_metres, to_degrees

if TYPE_CHECKING:
    import geopandas

#: Lakes below 0.02 km2 are flagged, not dropped: ICIMOD's inventory takes those from 0.02 km2 on as able to
#: cause outburst floods, but the flood of Thame (2024) came from one of 0.038 km2.
SMALL_M2 = 20_000.0

_Values = TypeVar("_Values", Float, xr.DataArray)

_SIGMA_SHARE = 0.6872  # share of boundary pixels off by up to one sigma, Hanshaw & Bookhagen (2014)
_MAX_EDGE_PX = 100  # longer straight edges get points in between: they are not straight on the ellipsoid


def find_lakes(
    seg: xr.Dataset | xr.DataArray, *, min_area: float = 0.0, resolution_m: float | None = None
) -> geopandas.GeoDataFrame:
    """Polygons of the lakes of every time step.

    A lake is a group of lake pixels that touch by edges or corners. Its geometry follows the pixels' outer
    edges, unsmoothed; parts that touch at a corner only are the parts of a MultiPolygon, islands are holes.

    This **computes**: one time chunk after the other. The peak memory is that chunk's ``lake`` (a byte a
    pixel), plus about ten bytes a pixel of one time step.

    Parameters
    ----------
    seg
        Dataset with ``lake`` or that variable: ``([time,] y, x)`` uint8, 0 land, 1 lake, 255 unobserved.
    min_area
        Lakes below this geodesic area (m2) are left out; 0 keeps all.
    resolution_m
        Effective resolution G of the error of area, metres; ``None`` for the grid's pixel size at the lake.
        Pass the sensor's where the grid is finer.

    Returns
    -------
    geopandas.GeoDataFrame
        In the CRS of the grid, one row a lake and time step, by time and by first pixel from the north-west:
        ``time`` (NaT where ``seg`` has none), ``area_m2`` and ``perimeter_m`` (geodesic on WGS 84; the
        perimeter is that of the pixel staircase with islands, a quarter longer than a smooth outline),
        ``area_sigma_m2``, ``small`` (below 0.02 km2, ICIMOD's size of lakes able to cause outburst floods),
        ``touches_unobserved`` (a neighbour of a pixel is 255), ``touches_edge`` (of the grid).

    Raises
    ------
    CubeError
        No ``lake`` or no CRS, a rotated grid, a date twice, other values than 0, 1 and 255, a negative
        ``min_area``, a ``resolution_m`` that is not above 0.

    References
    ----------
    Hanshaw & Bookhagen (2014), The Cryosphere 8, 359-376: sigma = (P / G) x 0.6872 x G^2 / 2.
    """
    import geopandas

    if not min_area >= 0:
        raise CubeError(f"min_area is {min_area}; expected square metres, 0 or more")
    check_resolution(resolution_m)
    layer = lake_layer(seg)
    grid = layer.odc.geobox
    steps = [_lakes_of_step(values, grid, time, resolution_m) for time, values in _steps(layer)]
    columns = {name: np.concatenate([step[name] for step in steps]) for name in steps[0]} if steps else _NONE
    frame = geopandas.GeoDataFrame(columns, geometry="geometry", crs=grid.crs.wkt)
    frame = frame[frame["area_m2"] >= min_area]
    return frame.sort_values("time", kind="stable", ignore_index=True)


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


def _steps(layer: xr.DataArray) -> Iterator[tuple[np.datetime64, NDArray[np.uint8]]]:
    """Dates and their values; one chunk in time is held at once, so that no block is computed twice."""
    if "time" not in layer.dims:
        yield np.datetime64("NaT", "ns"), check_values(layer.to_numpy())
        return
    start = 0
    for size in layer.variable.chunksizes.get("time", (1,) * layer.sizes["time"]):
        part = layer.isel(time=slice(start, start + size)).compute()
        yield from zip(part["time"].to_numpy(), check_values(part.to_numpy()), strict=True)
        start += size


def _lakes_of_step(
    values: NDArray[np.uint8], grid: Any, time: np.datetime64, resolution_m: float | None
) -> dict[str, NDArray[Any]]:
    """Columns of the table for the lakes of one time step."""
    from scipy.ndimage import binary_dilation, label

    labels, count = label(values == LAKE, np.ones((3, 3)), output=np.int32)
    if count == 0:
        return _NONE
    near_unobserved = binary_dilation(values == UNOBSERVED, np.ones((3, 3), bool))
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    geometries = _outlines(labels, count, grid.transform)
    area, perimeter = geodesic_size(geometries, grid)
    return {
        "time": np.full(count, time, "datetime64[ns]"),
        "area_m2": area,
        "perimeter_m": perimeter,
        "area_sigma_m2": area_sigma(perimeter, resolution_m or _pixel_size(geometries, grid)),
        "small": area < SMALL_M2,
        "touches_unobserved": np.isin(np.arange(1, count + 1), labels[near_unobserved]),
        "touches_edge": np.isin(np.arange(1, count + 1), border),
        "geometry": geometries,
    }


def _outlines(labels: NDArray[np.int32], count: int, transform: Any) -> NDArray[Any]:
    """Polygon or MultiPolygon of each label from 1 to ``count``, exteriors counter-clockwise."""
    import shapely
    from rasterio.features import shapes
    from shapely.geometry.polygon import orient

    parts: list[list[Any]] = [[] for _ in range(count)]
    for outline, number in shapes(labels, mask=labels > 0, connectivity=4, transform=transform):
        parts[int(number) - 1].append(orient(shapely.geometry.shape(outline)))
    geometries = np.empty(count, object)
    geometries[:] = [each[0] if len(each) == 1 else shapely.MultiPolygon(each) for each in parts]
    return geometries


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
