"""Areas of lakes through time, with bounds, errors and how much of the lake was observed."""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.errors import CubeError
from xglof.lakes.footprints import Footprints, beyond_grid, footprints, with_names
from xglof.lakes.layer import dates_of, lake_layer, pixel_metres
from xglof.lakes.lineage import holders
from xglof.lakes.pixels import count_pixels, flag_layer, probability_layer
from xglof.lakes.polygons import area_sigma, effective_resolution, find_lakes
from xglof.lakes.tally import QUANTITIES
from xglof.lakes.tracking import track
from xglof.lakes.zonal import UNIT

if TYPE_CHECKING:
    import geopandas

_ATTRS: dict[str, dict[str, str]] = {
    "area": {
        "long_name": "lake area",
        "units": "m2",
        "standard_name": "area",
        "comment": "wet pixels; NaN where too little of the lake was requested and observed. Low by what was "
        "not, see area_lower, area_upper and requested_fraction",
        "ancillary_variables": "area_sigma area_lower area_upper perimeter observed_fraction frozen_fraction "
        "requested_fraction s1_fraction s2_fraction part_of",
    },
    "area_sigma": {
        "long_name": "one sigma of lake area by its boundary pixels",
        "units": "m2",
        "comment": "(P / G) x 0.6872 x G^2 / 2, Hanshaw & Bookhagen (2014), doi:10.5194/tc-8-359-2014; P is "
        "perimeter, G effective_resolution_m of the attributes, or the pixel size. Kept for comparability "
        "with inventories. Its sum takes the errors of all border pixels as fully correlated, so it can be "
        "ten times a lake's real scatter: intervals and alerts use sigma_repeat",
    },
    "perimeter": {
        "long_name": "length of the lake's outline along pixel edges",
        "units": "m",
        "comment": "sides of wet pixels on the ellipsoid, islands included: a quarter longer than a smooth "
        "outline",
    },
    "area_lower": {"long_name": "lower bound of lake area: observed water", "units": "m2"},
    "area_upper": {
        "long_name": "upper bound of lake area: observed water and all unobserved",
        "units": "m2",
        "comment": "unobserved pixels of the lake's largest extent and of the buffer around it; land under "
        "snow in the buffer counts as land. Lakes that have been at one place may count a pixel twice",
    },
    "area_fractional": {
        "long_name": "lake area weighted by probability",
        "units": "m2",
        "comment": "sum of lake_probability over the observed pixels of the buffered footprint, times the "
        "size of a pixel; NaN where area is",
    },
    "observed_fraction": {
        "long_name": "share of the requested core that was observed",
        "units": "1",
        "comment": "the core is what two successive dates of the lake's outlines share",
    },
    "frozen_fraction": {"long_name": "share of the requested core under snow or ice", "units": "1"},
    "requested_fraction": {"long_name": "share of the core that was requested", "units": "1"},
    "s1_fraction": {"long_name": "share of the observed core that rests on Sentinel-1", "units": "1"},
    "s2_fraction": {"long_name": "share of the observed core that rests on Sentinel-2", "units": "1"},
    "part_of": {
        "long_name": "index along lake of the lake that holds this lake's place",
        "comment": "itself, or another before a split or after a merge, which then has this lake's pixels",
    },
    "longitude": {"long_name": "longitude of a point in the lake", "units": "degrees_east"},
    "latitude": {"long_name": "latitude of a point in the lake", "units": "degrees_north"},
    "lake": {"long_name": "lake id: GL, thousandths of degrees east (0 to 360) and north or south"},
}
_KEPT_ATTRS = ("model", "model_sha256", "threshold", "composite", "composite_window")


def lake_area(
    seg: xr.Dataset | xr.DataArray,
    lakes: geopandas.GeoDataFrame | None = None,
    *,
    buffer_px: int = 2,
    min_observed: float = 0.7,
    resolution_m: float | None = None,
    fractional: bool = False,
) -> xr.Dataset:
    """Area of every lake at every time step.

    Water that was seen at a date is the lake's whose polygon of that date has it. Water in no polygon of the
    date (``lakes`` of other dates or without time, some lakes only, polygons of another grid) is at home: in
    the nearest footprint, the union of a lake's polygons of all dates, if it reaches there with a buffer
    that leaves room to grow. It counts for the lake that holds that home then. So each pixel of water is one
    lake's, a split takes none from the sum over kin, and a merge brings none.

    What was not observed is never taken for land: pixels of 255 in the buffered footprint, lake pixels under
    snow there, and in the footprint itself all pixels under snow and those of land under ice. They count for
    every lake in whose buffered footprint they lie, for it may have been any one's, so the bounds of a lake
    hold whatever others did; sums of upper bounds may count them twice. A lake pixel under ice is floating
    ice and stays lake, see ``frozen_fraction``. Pixels with the flag ``not_requested``, outside ``where=`` of
    :func:`xglof.segment`, are neither water nor unobserved: ``requested_fraction`` says how much is left, and
    a part of a lake has no bounds.

    How much was observed is said of the core: what two successive dates of the lake's own polygons share, so
    that one wrong outline of a date does not count, or the whole footprint where there are no two such
    polygons that touch nothing unobserved. Appended dates change no count of water; they may widen the
    footprint and so upper bounds and, in the fifth digit, the size of a pixel, which is taken at a point in
    it, and the core and so the fractions and whether there is a point value.

    Lazy: a task counts the pixels of one block at one time chunk, only blocks with lakes are read, and the
    number of tasks does not grow with the lakes in a block. Only lakes in reach of each other take their
    polygons of each date along. Its peak memory is the block's ``lake``, ``flags`` and ``lake_probability``
    and about two hundred bytes a pixel of buffered footprints; drawing these takes twenty bytes a pixel of
    the block once. With ``lakes=None`` the polygons are found and tracked first, which **computes** (see
    :func:`xglof.lakes.find_lakes`).

    Parameters
    ----------
    seg
        Segmentation, or its ``lake``: ``([time,] y, x)`` uint8, 0 land, 1 lake, 255 unobserved. Without
        ``flags`` (whole numbers) nothing is known of snow, ice and sensors, ``frozen_fraction`` is NaN, and
        every 255 counts as requested.
    lakes
        Polygons in any CRS, of one date or many, with the ids of :func:`xglof.lakes.track`. Without
        ``lake_id`` they are tracked first.
    buffer_px
        Width of the buffer in pixels. Water in no polygon of the date and in reach of two footprints goes to
        the nearer one, to the smaller of two as near.
    min_observed
        ``area`` and its error are NaN where a smaller share of the core was requested and observed.
    resolution_m
        Effective resolution of the error, metres; ``None`` for ``effective_resolution_m`` of the attributes
        of ``seg`` where it is coarser than a pixel, else the pixel size at the lake.
    fractional
        Add ``area_fractional``.

    Returns
    -------
    xarray.Dataset
        Dims ``(lake, time)``, or ``(lake)`` where ``seg`` has no time; float64 where nothing else is said.

        - ``area``, ``area_sigma``, ``area_lower``, ``area_upper`` in m2 on the WGS 84 ellipsoid: pixels times
          the size of one at the lake. ``area`` is the observed water and so low by at most
          ``area_upper - area_lower``; the bounds are NaN where part of the footprint was not requested.
          ``perimeter`` in m.
        - ``area_fractional`` in m2, on request: sum of ``lake_probability`` over the observed pixels of the
          buffered footprint. A probability counts as a multiple of 2**-24, which makes the sum the same to
          the bit for any chunks.
        - ``observed_fraction`` and ``frozen_fraction`` of the requested part of the core, NaN where there is
          none, and ``requested_fraction`` of all of it; what lies outside the grid is
          requested and unobserved.
        - ``s1_fraction``, ``s2_fraction`` of its observed part: where the answer rests on that sensor. NaN
          without flags, and where no pixel of the lake says which.
        - ``part_of`` int32: index along ``lake`` of the lake that holds this lake's place.

        All but ``part_of`` are NaN for a lake that another holds, which then has its place, and for one too
        small to hold the centre of a pixel. Coordinates: ``lake`` (str ids, north to south), ``longitude``,
        ``latitude`` (degrees), ``x``, ``y`` (the grid's CRS) of a point inside, and those of ``seg`` along
        time, or its one ``time``. The attributes ``effective_resolution_m`` (where it is not the pixel size),
        ``composite`` and ``composite_window`` of ``seg`` go along.

    Raises
    ------
    CubeError
        What :func:`xglof.lakes.find_lakes` and :func:`xglof.lakes.track` raise; ``lakes`` without CRS or with
        other things than valid polygons; ``flags`` of other meanings or dims; ``buffer_px`` or
        ``min_observed`` out of range; ``fractional`` without ``lake_probability``, or, when it is computed,
        one that is not from 0 to 1.

    Notes
    -----
    Outlines of the grid's own maps follow its pixels. Foreign polygons cut pixels: with a buffer the pixel's
    centre decides; with ``buffer_px=0`` each pixel counts by the share of it that the polygon covers, and the
    perimeter takes the water at an edge by the difference of the shares on its sides.

    References
    ----------
    Hanshaw & Bookhagen (2014), The Cryosphere 8, 359-376.

    Examples
    --------
    A lake of 5 x 4 pixels of 10 m, of which a cloud hides a row at the second date:

    >>> from odc.geo.geobox import GeoBox
    >>> from odc.geo.xr import wrap_xr
    >>> grid = GeoBox.from_bbox((500_000, 3_080_000, 500_100, 3_080_100), "EPSG:32645", resolution=10)
    >>> dates = np.array(["2023-07-01", "2023-08-01"], "datetime64[ns]")
    >>> lake = wrap_xr(np.zeros((2, 10, 10), np.uint8), grid, time=dates)
    >>> lake[:, 3:7, 2:7] = 1
    >>> lake[1, 6] = 255
    >>> series = lake_area(lake)
    >>> [series[name].values.round(-1).tolist() for name in ("area_lower", "area_upper")]
    [[[2000.0, 1500.0]], [[2000.0, 2400.0]]]
    >>> series["observed_fraction"].values.tolist()
    [[1.0, 0.75]]
    """
    _check(seg, buffer_px, min_observed)
    resolution_m = effective_resolution(seg, resolution_m)
    layer = lake_layer(seg)
    flags = flag_layer(seg, layer)
    probability = probability_layer(seg, layer) if fractional else None
    if lakes is None:
        lakes = find_lakes(layer)
    tracked = with_names(lakes) if hasattr(lakes, "columns") and "lake_id" in lakes else track(lakes)
    grid = layer.odc.geobox
    found = footprints(tracked, grid.crs)
    held = _held(tracked, found.ids, layer)
    counts = count_pixels(layer, found, held, buffer_px=buffer_px, flags=flags, probability=probability)
    beyond = beyond_grid(found, held, grid, buffer_px)
    outside = [xr.DataArray(px.reshape(counts.shape[:-1]), dims=counts.dims[:-1]) for px in beyond]
    series = _areas(counts, outside, _pixel_sizes(grid, found), min_observed, resolution_m)
    series["part_of"] = counts.dims[:-1], held.reshape(counts.shape[:-1])
    if probability is None:
        series = series.drop_vars("area_fractional")
    if flags is None:
        series["frozen_fraction"] = series["frozen_fraction"] * np.nan
    series = _described(series, seg, found)
    settings = {"min_observed": min_observed, "buffer_px": buffer_px}
    return series.assign_attrs({**_kept_attrs(seg, resolution_m), **settings})


def _check(seg: Any, buffer_px: Any, min_observed: Any) -> None:
    if not isinstance(seg, (xr.Dataset, xr.DataArray)):
        raise CubeError(
            f"seg is a {type(seg).__name__}; expected one Dataset: put tiles together with "
            "xarray.combine_by_coords(), or measure tile by tile with the polygons of all"
        )
    if not _is_within(buffer_px, 0, 1e6) or buffer_px != int(buffer_px):
        raise CubeError(f"buffer_px is {buffer_px!r}; expected whole pixels, 0 or more")
    if not _is_within(min_observed, 0, 1):
        raise CubeError(f"min_observed is {min_observed!r}; expected a share between 0 and 1")


def _is_within(value: Any, least: float, most: float) -> bool:
    return isinstance(value, numbers.Real) and least <= float(value) <= most


def _held(tracked: geopandas.GeoDataFrame, ids: list[str], layer: xr.DataArray) -> NDArray[np.int32]:
    """``(lake, time)`` index of the lake that holds each lake's place; time 1 where there are no dates."""
    dates = dates_of(layer)
    if "time" not in layer.dims and not len(dates):
        return np.arange(len(ids), dtype=np.int32)[:, None]
    if not ids:
        return np.empty((0, len(dates)), np.int32)
    return holders(tracked, ids, dates)


def _pixel_sizes(grid: Any, found: Footprints) -> xr.Dataset:
    """``width``, ``height`` (m) and ``area`` (m2) of a pixel at each lake."""
    sizes = zip(("width", "height", "area"), pixel_metres(grid, found.x, found.y), strict=True)
    return xr.Dataset({name: ("lake", size) for name, size in sizes})


def _areas(
    counts: xr.DataArray,
    outside: list[xr.DataArray],
    pixel: xr.Dataset,
    min_observed: float,
    resolution_m: float | None,
) -> xr.Dataset:
    """Square metres and shares from pixel counts, ``(lake, [time,] quantity)``."""
    of = {name: counts.sel(quantity=name, drop=True) for name in QUANTITIES}
    skipped, whole = of["core_not_requested"], of["extent_not_requested"] == 0
    there = of["extent"] + of["extent_not_requested"] > 0
    footprint = (of["core"] + skipped + outside[0]).where(there)
    asked = (footprint - skipped).where(footprint > skipped)
    seen = of["core"] - of["core_unobserved"]
    enough = seen / footprint.where(asked.notnull()) >= min_observed
    wet = of["wet"] * pixel["area"]
    lower = wet.where(there & whole)
    perimeter = of["upright_edges"] * pixel["height"] + of["level_edges"] * pixel["width"]
    sigma = area_sigma(perimeter, np.sqrt(pixel["area"]) if resolution_m is None else resolution_m)
    rests = seen.where(of["core_s1"] + of["core_s2"] > 0)
    series = {
        "area": wet.where(enough),
        "area_sigma": sigma.where(enough),
        "perimeter": perimeter.where(enough),
        "area_lower": lower,
        "area_upper": lower + (of["unobserved"] + outside[1]) * pixel["area"],
        "area_fractional": (of["probability"] * UNIT * pixel["area"]).where(enough),
        "observed_fraction": seen / asked,
        "frozen_fraction": of["core_frozen"] / asked,
        "requested_fraction": 1 - skipped / footprint,
        "s1_fraction": of["core_s1"] / rests,
        "s2_fraction": of["core_s2"] / rests,
    }
    return xr.Dataset(series)


def _described(series: xr.Dataset, seg: xr.Dataset | xr.DataArray, found: Footprints) -> xr.Dataset:
    """The series with its coordinates and their and its variables' attributes."""
    places = {name: ("lake", getattr(found, name)) for name in ("longitude", "latitude", "x", "y")}
    along = {name: each.variable for name, each in seg.coords.items() if each.dims == ("time",)}
    dated = along | {name: seg[name].variable for name in ("time",) if name in seg.coords}
    series = series.assign_coords({"lake": np.array(found.ids, str), **places, **dated})
    for name in (*series.variables,):
        series[name].attrs.update(_ATTRS.get(str(name), {}))
    return series


def _kept_attrs(seg: xr.Dataset | xr.DataArray, resolution_m: float | None) -> dict[str, Any]:
    kept = {name: seg.attrs[name] for name in _KEPT_ATTRS if name in seg.attrs}
    return kept if resolution_m is None else {**kept, "effective_resolution_m": resolution_m}
