"""Areas of lakes through time, with bounds, errors and how much of the lake was observed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.errors import CubeError
from xglof.lakes.footprints import Footprints, footprints
from xglof.lakes.layer import Float, lake_layer, pixel_metres
from xglof.lakes.pixels import QUANTITIES, count_pixels, flag_layer
from xglof.lakes.polygons import area_sigma, check_resolution, find_lakes

if TYPE_CHECKING:
    import geopandas

_ATTRS: dict[str, dict[str, str]] = {
    "area": {
        "long_name": "lake area",
        "units": "m2",
        "standard_name": "area",
        "comment": "wet pixels; NaN where too little of the lake was requested and observed. Low by what was "
        "not, see area_lower, area_upper and requested_fraction",
        "ancillary_variables": "area_sigma area_lower area_upper observed_fraction frozen_fraction "
        "requested_fraction",
    },
    "area_sigma": {
        "long_name": "one sigma of lake area by its boundary pixels",
        "units": "m2",
        "comment": "(P / G) x 0.6872 x G^2 / 2, Hanshaw & Bookhagen (2014), doi:10.5194/tc-8-359-2014; "
        "P is the length of the staircase of the wet pixels' edges",
    },
    "area_lower": {"long_name": "lower bound of lake area: observed water", "units": "m2"},
    "area_upper": {"long_name": "upper bound of lake area: observed water and all unobserved", "units": "m2"},
    "observed_fraction": {"long_name": "share of the requested footprint that was observed", "units": "1"},
    "frozen_fraction": {"long_name": "share of the requested footprint under snow or ice", "units": "1"},
    "requested_fraction": {"long_name": "share of the footprint that was requested", "units": "1"},
    "longitude": {"long_name": "longitude of a point in the lake", "units": "degrees_east"},
    "latitude": {"long_name": "latitude of a point in the lake", "units": "degrees_north"},
    "lake": {"long_name": "lake id: GL, thousandths of degrees east (0 to 360) and north or south"},
}
_MODEL_ATTRS = ("model", "model_sha256", "threshold")


def lake_area(
    seg: xr.Dataset | xr.DataArray,
    lakes: geopandas.GeoDataFrame | None = None,
    *,
    buffer_px: int = 2,
    min_observed: float = 0.7,
    resolution_m: float | None = None,
) -> xr.Dataset:
    """Area of every lake at every time step.

    A lake's footprint is all polygons, of any date, that intersect directly or by way of others; a buffer
    around it leaves room to grow. Water in the buffered footprint is the lake's. What was not observed is
    never taken for land: pixels of 255 in the buffered footprint, and, in the footprint itself, pixels of 0
    under snow or ice. Pixels with the flag ``not_requested``, outside ``where=`` of :func:`xglof.segment`,
    are neither water nor unobserved: ``requested_fraction`` says how much of the footprint is left, and a
    part of a lake has no bounds.

    Lazy: a task counts the pixels of one block at one time chunk, and only blocks with lakes are read. Its
    peak memory is the block's ``lake`` and ``flags`` and about thirty bytes a pixel of one time step. With
    ``lakes=None`` the polygons are found first, which **computes** (see :func:`xglof.lakes.find_lakes`).

    Parameters
    ----------
    seg
        Segmentation, or its ``lake``: ``([time,] y, x)`` uint8, 0 land, 1 lake, 255 unobserved. Without
        ``flags`` (whole numbers) nothing is known of snow and ice, ``frozen_fraction`` is NaN, and every 255
        counts as requested.
    lakes
        Polygons in any CRS, of one date or many.
    buffer_px
        Width of the buffer in pixels. A pixel in reach of two footprints goes to the nearer one.
    min_observed
        ``area`` and its error are NaN where a smaller share of the footprint was requested and observed.
    resolution_m
        Effective resolution of the error, metres; ``None`` for the pixel size at the lake.

    Returns
    -------
    xarray.Dataset
        Dims ``(lake, time)``, or ``(lake)`` where ``seg`` has no time; float64. ``area``, ``area_sigma``,
        ``area_lower``, ``area_upper`` in m2 on the WGS 84 ellipsoid: pixels times the size of one at the
        lake. ``area`` is the observed water and so low by at most ``area_upper - area_lower``; the bounds
        are NaN where part of the footprint was not requested. ``observed_fraction`` and ``frozen_fraction``
        of the requested part of the unbuffered footprint, NaN where there is none, and
        ``requested_fraction`` of all of it; what lies outside the grid is requested and unobserved. All are
        NaN for a lake too small to hold the centre of a pixel. Coordinates: ``lake`` (ids, north to south),
        and ``longitude``, ``latitude`` (degrees), ``x``, ``y`` (the grid's CRS) of a point inside.

    Raises
    ------
    CubeError
        What :func:`xglof.lakes.find_lakes` raises; ``lakes`` without CRS or with other things than valid
        polygons; ``flags`` of other meanings or dims; ``buffer_px`` or ``min_observed`` out of range.

    References
    ----------
    Hanshaw & Bookhagen (2014), The Cryosphere 8, 359-376.
    """
    _check_numbers(buffer_px, min_observed)
    check_resolution(resolution_m)
    layer = lake_layer(seg)
    flags = flag_layer(seg, layer)
    found = footprints(find_lakes(layer) if lakes is None else lakes, layer.odc.geobox.crs)
    counts = count_pixels(layer, flags, found.geometry, buffer_px=buffer_px)
    series = _areas(counts, found, layer.odc.geobox, min_observed, resolution_m)
    if flags is None:
        series["frozen_fraction"] = series["frozen_fraction"] * np.nan
    for name in (*series.variables,):
        series[name].attrs.update(_ATTRS.get(str(name), {}))
    kept = {name: seg.attrs[name] for name in _MODEL_ATTRS if name in seg.attrs}
    return series.assign_attrs({**kept, "min_observed": min_observed, "buffer_px": buffer_px})


def _check_numbers(buffer_px: int, min_observed: float) -> None:
    if buffer_px != int(buffer_px) or buffer_px < 0:
        raise CubeError(f"buffer_px is {buffer_px}; expected whole pixels, 0 or more")
    if not 0 <= min_observed <= 1:
        raise CubeError(f"min_observed is {min_observed}; expected a share between 0 and 1")


def _areas(
    counts: xr.DataArray, found: Footprints, grid: Any, min_observed: float, resolution_m: float | None
) -> xr.Dataset:
    """Square metres and shares from pixel counts, ``(lake, [time,] quantity)`` int64."""
    width, height, area = pixel_metres(grid, found.x, found.y)
    outside = xr.DataArray(_pixels_outside(found.geometry, grid), dims="lake")
    places = {"longitude": found.longitude, "latitude": found.latitude, "x": found.x, "y": found.y}
    coords: dict[str, Any] = {"lake": found.ids, **{name: ("lake", v) for name, v in places.items()}}
    of = {name: counts.sel(quantity=name, drop=True).assign_coords(coords) for name in QUANTITIES}
    pixel, upright, level = (xr.DataArray(v, dims="lake") for v in (area, height, width))
    skipped = of["core_not_requested"]
    asked = (of["core"] + outside).where(of["core"] > 0)
    footprint = (of["core"] + skipped + outside).where(of["core"] + skipped > 0)
    wet = of["wet"] * pixel
    lower = wet.where((of["core"] > 0) & (skipped == 0))
    seen = of["core"] - of["core_unobserved"]
    enough = seen / footprint.where(of["core"] > 0) >= min_observed
    staircase = of["upright_edges"] * upright + of["level_edges"] * level
    sigma = area_sigma(staircase, np.sqrt(pixel) if resolution_m is None else resolution_m)
    series = {
        "area": wet.where(enough),
        "area_sigma": sigma.where(enough),
        "area_lower": lower,
        "area_upper": lower + (of["unobserved"] + outside) * pixel,
        "observed_fraction": seen / asked,
        "frozen_fraction": of["core_frozen"] / asked,
        "requested_fraction": 1 - skipped / footprint,
    }
    return xr.Dataset(series)


def _pixels_outside(geometry: NDArray[Any], grid: Any) -> Float:
    """How many pixels of each footprint lie beyond the edge of the grid, not rounded."""
    import shapely

    beyond = shapely.difference(geometry, shapely.box(*grid.boundingbox.bbox))
    share = np.asarray(shapely.area(beyond) / abs(grid.resolution.x * grid.resolution.y), float)
    return np.where(share < 1e-6, 0.0, share)  # coordinates' last bits are no land
