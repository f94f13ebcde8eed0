"""The ``lake`` layer of a segmentation, checked and north-up, and the size of its pixels on the ground."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.errors import CubeError

LAND, LAKE, UNOBSERVED = 0, 1, 255

Float = NDArray[np.float64]


def lake_layer(seg: xr.Dataset | xr.DataArray) -> xr.DataArray:
    """The lake layer of a segmentation or of a truth, checked, lazily.

    Parameters
    ----------
    seg
        Dataset with ``lake``, or that variable: ``([time,] y, x)`` uint8, 0 land, 1 lake, 255 unobserved
        (bool is read as observed everywhere).

    Returns
    -------
    xarray.DataArray
        ``([time,] y, x)`` uint8 named ``lake``, its rows from north to south and columns from west to east.

    Raises
    ------
    CubeError
        No ``lake``, another dtype, no CRS, a rotated grid, dims besides space and time, times that are no
        dates or occur twice.
    """
    if isinstance(seg, xr.Dataset):
        if "lake" not in seg:
            raise CubeError(
                f"the dataset holds {sorted(map(str, seg))}; expected 'lake', as segment() gives it"
            )
        seg = seg["lake"]
    layer: xr.DataArray = seg
    if layer.dtype == bool:
        layer = layer.astype("uint8")
    if layer.dtype != np.uint8:
        raise CubeError(
            f"the lake layer is {layer.dtype}; expected uint8 (0 land, 1 lake, 255 unobserved) or bool. "
            "A file read with mask_and_scale=True turns integers to floats: open it with False"
        )
    return north_up(_ordered(layer)).rename("lake")


def dates_of(layer: xr.DataArray) -> NDArray[np.datetime64]:
    """Dates of a lake layer (datetime64[ns]): along time, or its one date without that dim, or none."""
    times = np.atleast_1d(layer.coords["time"].to_numpy()) if "time" in layer.coords else np.empty(0)
    if times.dtype.kind != "M" or np.isnat(times).any():
        return np.empty(0, "datetime64[ns]")
    return times.astype("datetime64[ns]")


def _ordered(layer: xr.DataArray) -> xr.DataArray:
    dims = grid_dims(layer)
    extra = set(layer.dims) - {*dims, "time"}
    if extra:
        raise CubeError(
            f"the layer has dims {layer.dims}; expected 'time' besides {dims}, select along {extra}"
        )
    if "time" not in layer.dims:
        return layer.transpose(*dims)
    times = layer.indexes.get("time")
    if times is None or layer["time"].dtype.kind != "M":
        raise CubeError("the dim 'time' has no coordinate of dates (datetime64); assign one")
    if times.has_duplicates:
        twice = sorted({str(t) for t in times[times.duplicated()]})
        raise CubeError(f"these dates occur twice along 'time': {', '.join(twice[:5])}; merge or drop them")
    return layer.transpose("time", *dims)


def grid_dims(layer: xr.DataArray) -> tuple[str, str]:
    """Names of the rows' and the columns' dims of an array on an unrotated grid with a CRS.

    Raises
    ------
    CubeError
        No grid, no CRS, or a rotated one.
    """
    import odc.geo.xr  # noqa: F401  registers .odc

    mapping = layer.encoding.get("grid_mapping", layer.attrs.get("grid_mapping"))
    if mapping is not None and mapping not in layer.coords:
        raise CubeError(
            f"the array has no CRS: its coordinate {mapping!r} is gone; write one with .odc.assign_crs()"
        )
    dims, grid = layer.odc.spatial_dims, layer.odc.geobox
    if dims is None or grid is None:
        raise CubeError(
            f"no grid is found in an array with dims {layer.dims}; expected (time, y, x) and coordinates"
        )
    if grid.crs is None:
        raise CubeError("the array has no CRS; write one with .odc.assign_crs('EPSG:...')")
    if not grid.axis_aligned:
        raise CubeError(
            f"the grid is rotated ({grid.transform!r}); reproject it to rows and columns along the axes"
        )
    return dims[0], dims[1]


def north_up(layer: xr.DataArray) -> xr.DataArray:
    """The same layer with its first row in the north and its first column in the west."""
    rows, columns = grid_dims(layer)
    step = layer.odc.geobox.transform
    flips = {
        dim: slice(None, None, -1) for dim, wrong in ((rows, step.e > 0), (columns, step.a < 0)) if wrong
    }
    return layer.isel(flips) if flips else layer


def check_values(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The values, if they are 0, 1 and 255 only.

    Raises
    ------
    CubeError
        Others are among them, as in a map of classes.
    """
    strange = (values > LAKE) & (values != UNOBSERVED)
    if strange.any():
        raise CubeError(f"the lake layer holds {np.unique(values[strange])[:5]}; expected 0, 1 and 255 only")
    return values


def to_degrees(crs: Any) -> Any:
    """Transformer from a CRS to longitude and latitude on WGS 84, always in the order x, y."""
    from pyproj import Transformer

    return Transformer.from_crs(crs, "EPSG:4326", always_xy=True)


def pixel_metres(grid: Any, x: Float, y: Float) -> tuple[Float, Float, Float]:
    """Width and height (m) and area (m2) on the ellipsoid of one pixel of a grid around points.

    Parameters
    ----------
    grid
        GeoBox.
    x, y
        Coordinates in the grid's CRS.
    """
    from pyproj import Geod

    geod, degrees = Geod(ellps="WGS84"), to_degrees(grid.crs)
    half_x, half_y = grid.resolution.x / 2, grid.resolution.y / 2
    eastward, _, width = geod.inv(*degrees.transform(x - half_x, y), *degrees.transform(x + half_x, y))
    northward, _, height = geod.inv(*degrees.transform(x, y - half_y), *degrees.transform(x, y + half_y))
    # the axes of a grid need not meet at right angles on the ground
    area = width * height * np.abs(np.sin(np.radians(np.subtract(eastward, northward))))
    return np.asarray(width), np.asarray(height), np.asarray(area)
