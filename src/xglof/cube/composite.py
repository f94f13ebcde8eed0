"""Composites: one plane a window of time from the usable observations of each pixel, lazily."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from datetime import UTC, datetime
from numbers import Integral
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from xglof.bands import CLD, LAYERS, MODALITIES, SAR_BANDS, Band, resolve
from xglof.cube.flags import Flag, check_flags, flag_attrs
from xglof.cube.reduce import FROZEN, NO_DAY, OPTICAL, RADAR, STEP, Sensor, Use
from xglof.cube.sources import Period, parse_period
from xglof.cube.window_stack import Groups, Method, Recipe, planes
from xglof.cube.windows import Window, describe, repeats, windows
from xglof.errors import CubeError

if TYPE_CHECKING:
    import xarray as xr

#: Flags that keep an observation out of a composite, unless a user says otherwise. Snow and ice are seen,
#: ``s1_unknown`` is all that most archives offer, and reflectance under a sun this low is no measure.
UNUSABLE = (
    *("s2_nodata", "cloud", "cloud_shadow", "terrain_shadow", "low_sun"),
    *("s1_nodata", "s1_layover", "failed_read"),
)
_MASKING = OPTICAL | RADAR | Flag.failed_read
_TEXTS = ("s2_items", "s2_baseline", "s2_offset_source", "s1_items", "orbit_state", "relative_orbit")


def _known() -> dict[str, tuple[str, bool, Band]]:
    """Variables along time: sensor, whether a pixel without it is unobserved, and the band."""
    found: dict[str, tuple[str, bool, Band]] = {}
    for sensor, modality in (("s2", "S2L2A"), ("s1", "S1RTC")):
        found |= {band.name: (sensor, True, band) for band in MODALITIES[modality].bands}
        found |= {band.name: (sensor, False, band) for band in LAYERS[modality]}
    return found


_KNOWN = _known()


def composite(
    cube: xr.Dataset,
    freq: object,
    *,
    method: Method = "median",
    unusable: Sequence[str] = UNUSABLE,
    season_start: int = 12,
    min_observations: int = 1,
    period: Period | str | None = None,
) -> xr.Dataset:
    """A lazy cube with one step a window of time, made of the usable observations of each pixel.

    Parameters
    ----------
    cube
        As :func:`xglof.open_cube` gives it: ``flags`` and any of the bands, in order of time. It may lie in
        Dask, in memory or in a file.
    freq
        ``"month"``, ``"season"``, the months of a season such as ``"JJAS"``, its first and last day such as
        ``("11-15", "03-31")``, or ``[(start, end), ...]``: see :func:`~xglof.cube.windows.windows`.
    method
        What stands for Sentinel-2 in a pixel.

        - ``"median"``: of each band, rounded half to even.
        - ``"medoid"``: the observation nearest to the medians of all bands, the earlier of two.
        - ``"best"``: the observation with the fewest flags (of those not in ``unusable``), of these the one
          with the highest ``sun_elevation``, then the one nearest to the window's middle, then the earlier.

        Sentinel-1 goes with it: the median of linear power, or the observation nearest in time to that of
        Sentinel-2, or to the window's middle where there is none.
    unusable
        Flags that keep an observation out, each for its own sensor; by default all but ``snow``, ``ice`` and
        ``s1_unknown``. A pixel without data in a band is never used. ``failed_read`` counts against the
        sensor that lacks data, or against both where nothing is missing.
    season_start
        Month in which one of the four seasons of ``"season"`` starts.
    min_observations
        Fewest usable observations of a sensor; with fewer it is unobserved.
    period
        Which windows: all that share a moment with it, whole. By default, and for an open end, the cube's
        times.

    Returns
    -------
    xarray.Dataset
        Dims of the cube, its bands and their types. ``time`` is the start of each window and ``time_bnds``
        both ends, of which the second is excluded. Windows without an observation stay, as unobserved.

        - Bands and layers; nodata where nothing usable is left. ``SCL`` and ``s1_mask`` under ``"median"``
          are the most frequent class (of several the smallest), ``CLD`` is a median.
        - ``dem`` and all else without time: untouched.
        - ``s2_day``, ``s1_day``: int32, days since 1970-01-01 (UTC), nodata -2147483648: of the pixel's
          observation, under ``"median"`` of the usable one in the middle (of two the earlier). Where steps
          hold the nearest acquisition of a sensor and the cube has no ``s1_time`` or ``s2_time`` for it, they
          are days of the steps; ``comment`` says so.
        - ``s2_count``, ``s1_count``: uint16, usable observations. An acquisition that several steps share
          (by ``s1_items``, ``s2_items``) counts once, here and in a median.
        - ``flags``: where a sensor has nothing usable, every bit that it had in the window; its nodata bit
          only where none of these tells why. Elsewhere the bits not in ``unusable`` that the observation has,
          under ``"median"`` those that at least half of the usable ones have. ``snow`` and ``ice`` are
          Sentinel-2's; where only Sentinel-1 is usable, those of its steps, under ``"median"`` of more than
          half.

        Texts along time are joined; ``sun_azimuth`` and ``sun_elevation`` are means over the window's
        steps. ``s2_offset``, ``s1_gap_days``, ``s1_time`` and others are dropped: no one value holds for a
        window. ``attrs`` gain ``composite`` (the method), ``composite_window``, ``composite_unusable``,
        ``composite_min_observations``.

    Raises
    ------
    CubeError
        No ``flags``, no time or times out of order, a composite already, a variable or units that are not
        those of :mod:`xglof.bands`, or an argument that is not understood.

    Notes
    -----
    Bits do not depend on the chunks, which rows and columns keep. A task holds one variable of one window's
    steps over a block, with a byte more for each pixel and step; the one that looks for a medoid holds all
    optical bands. Planes of 2016 x 2016 pixels, 15 steps: 0.2 GB and 1.5 GB. Where ``flags`` are not stored,
    bands wait in memory from the making of the flags to their turn.

    References
    ----------
    Flood, N. (2013). Seasonal composite Landsat TM/ETM+ images using the medoid (a multi-dimensional median).
    Remote Sensing 5(12), 6481-6500. Its medoid has the least sum of distances to the other observations; the
    one here is the nearest to the marginal medians, which takes n and not n * n distances.
    CF conventions 1.11, section 7.1, cell boundaries.

    Examples
    --------
    >>> import xarray as xr
    >>> times = np.array(["2023-07-03", "2023-07-08", "2023-07-13"], "datetime64[ns]")
    >>> green = np.array([800, 4000, 900], "uint16").reshape(3, 1, 1)
    >>> flags = np.array([0, Flag.cloud, 0], "uint16").reshape(3, 1, 1)
    >>> cube = xr.Dataset({"B03": (("time", "y", "x"), green), "flags": (("time", "y", "x"), flags)})
    >>> july = composite(cube.assign_coords(time=times), "month")
    >>> july["B03"].values.item(), july["s2_count"].values.item()
    (850, 2)
    """
    _check_arguments(method, unusable, min_observations)
    cube = _checked(cube, method)
    times = cube["time"].values.astype("datetime64[ns]")
    found = windows(freq, _period(period, times, freq), season_start=season_start)
    if not found:
        raise CubeError(f"no window of freq={freq!r} lies in the period {period!r}; give another period=")
    layers = {str(name): _KNOWN[str(name)] for name in cube.data_vars if name in _KNOWN}
    sensors = _sensors(unusable, {sensor for sensor, _, _ in layers.values()})
    spans = [slice(*np.searchsorted(times, [_ns(each.start), _ns(each.end)]).tolist()) for each in found]
    groups = Groups.of(spans, len(times))
    recipe = Recipe(method, int(min_observations), sensors, layers, groups, _steps(cube, found, groups))
    return _dataset(cube, recipe, planes(cube, recipe), found, spans).assign_attrs(
        composite=method,
        composite_window=describe(freq, season_start),
        composite_unusable=" ".join(unusable),
        composite_min_observations=int(min_observations),
    )


def _check_arguments(method: object, unusable: object, min_observations: object) -> None:
    if method not in get_args(Method):
        raise CubeError(f"method is {method!r}; expected one of {', '.join(map(repr, get_args(Method)))}")
    if isinstance(unusable, str) or not isinstance(unusable, Sequence):
        raise CubeError(
            f"unusable is {unusable!r}; expected names of flags such as ('cloud', 'cloud_shadow')"
        )
    masking = [flag.name for flag in _MASKING]
    for name in unusable:
        if name not in masking:
            raise CubeError(f"unusable names {name!r}; expected some of {', '.join(map(str, masking))}")
    whole = isinstance(min_observations, Integral) and not isinstance(min_observations, bool)
    if not whole or min_observations < 1:  # type: ignore[operator]
        raise CubeError(f"min_observations is {min_observations!r}; expected a whole number, at least 1")


def _checked(cube: xr.Dataset, method: Method) -> xr.Dataset:
    """The cube under the names of :mod:`xglof.bands`, if a composite can be made of it."""
    if "composite" in cube.attrs or "time_bnds" in cube.variables:
        raise CubeError("the cube is a composite already; make another one from the cube it came from")
    if "time" not in cube.dims or "time" not in cube.coords:
        raise CubeError("the cube has no time; a composite takes one with a dim and coordinate 'time'")
    if "flags" not in cube:
        raise CubeError(
            "the cube has no flags, which tell what is usable; open it with xglof.open_cube, or add 'flags' "
            "of xglof.cube.flags.Flag (0 where every observation is good)"
        )
    _check_times(cube["time"].values)
    names = resolve(cube.data_vars)
    cube = cube.rename({met: name for met, name in names.items() if name not in cube.coords})
    check_flags(cube["flags"])
    for name in cube.data_vars:
        _check_variable(cube, str(name))
    if not any(name in _KNOWN for name in cube.data_vars):
        raise CubeError(f"the cube has nothing to composite; expected some of {', '.join(_KNOWN)}")
    if method == "medoid" and any(name in cube for name in ("SCL", "CLD")) and not _optical_bands(cube):
        raise CubeError("method='medoid' compares bands, and the cube has none of Sentinel-2; use 'best'")
    return cube


def _optical_bands(cube: xr.Dataset) -> list[str]:
    return [name for name in MODALITIES["S2L2A"].names if name in cube]


def _check_times(times: NDArray[Any]) -> None:
    if times.dtype.kind != "M" or np.isnat(times).any() or not len(times):
        raise CubeError(
            f"time holds {len(times)} values of {times.dtype}; expected dates, at least one, no gaps"
        )
    if (np.diff(times) < np.timedelta64(0)).any():
        raise CubeError("the cube's times are out of order; sort them with cube.sortby('time')")


def _check_variable(cube: xr.Dataset, name: str) -> None:
    array = cube[name]
    if "time" not in array.dims:
        return
    if name != "flags" and name not in _KNOWN:
        raise CubeError(
            f"variable {name!r} has no rule for a composite; drop it, and compute it from the composite"
        )
    dims = cube["flags"].dims
    if array.dims != dims or array.ndim != 3 or array.dims[0] != "time":
        raise CubeError(
            f"variable {name!r} has dims {array.dims} and flags {dims}; expected ('time', rows, columns) of "
            "both"
        )
    if name == "flags":
        return
    band, attrs = _KNOWN[name][2], array.attrs
    nodata = attrs.get("nodata", attrs.get("_FillValue", band.nodata))
    units = attrs.get("units", band.units) if name in SAR_BANDS else band.units
    same = nodata == band.nodata or (nodata != nodata and band.nodata != band.nodata)
    if array.dtype.name != band.dtype or units != band.units or not same:
        raise CubeError(
            f"{name} is {array.dtype} in {units} with nodata {nodata}; expected {band.dtype} in {band.units} "
            f"with nodata {band.nodata:g}: load it with xglof.open_cube, or convert it"
        )


def _sensors(unusable: Sequence[str], held: set[str]) -> dict[str, Sensor]:
    """Bits of the sensors that the cube holds."""
    bits = functools.reduce(operator.or_, (Flag[name] for name in unusable), Flag(0))
    # what else tells of snow, without Sentinel-2, goes with the sensor that looked
    own = {"s2": OPTICAL, "s1": RADAR if "s2" in held else RADAR | FROZEN}
    return {
        name: Sensor(
            own=int(own[name]),
            unusable=int(bits & (own[name] | Flag.failed_read)),
            missing=int(Flag[f"{name}_nodata"]),
            use=int(Use[name]),
            counted=int(Use[f"{name}_once"]),
            failed=int(Use[f"{name}_failed"]),
        )
        for name in ("s2", "s1")
        if name in held
    }


def _period(period: Period | str | None, times: NDArray[Any], freq: object) -> Period:
    """The period as asked for; where windows repeat, its open ends are those of the cube's times."""
    span = parse_period(period) if isinstance(period, str) else period or Period()
    if not repeats(freq):
        return span
    first, last = (each.astype("M8[us]").item().replace(tzinfo=UTC) for each in times[[0, -1]])
    return Period(span.start or first, span.end or last)


def _ns(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.replace(tzinfo=None), "ns")


def _steps(cube: xr.Dataset, found: Sequence[Window], groups: Groups) -> NDArray[np.void]:
    """What every step of the cube is: :data:`xglof.cube.reduce.STEP` ``(time, 1, 1)``."""
    spans = groups.steps()
    steps = np.zeros(cube.sizes["time"], STEP)
    steps["sun"] = cube["sun_elevation"].values if "sun_elevation" in cube.coords else np.nan
    for name in ("s2", "s1"):
        steps[name] = _moments(cube, f"{name}_time").astype(np.int64)
        steps[f"new_{name}"] = True
        if f"{name}_items" in cube.coords:
            texts = [str(text) for text in cube[f"{name}_items"].values]
            for span in spans:
                steps[f"new_{name}"][span] = _first_of_each(texts[span])
    for window, group in zip(found, groups.of_window, strict=True):
        if group is not None:
            steps["middle"][spans[group]] = _ns(window.middle).astype(np.int64)
    return steps[:, None, None]


def _moments(cube: xr.Dataset, name: str) -> NDArray[np.datetime64]:
    """When a sensor looked; where that is not told, the step's own time."""
    times = cube["time"].values.astype("datetime64[ns]")
    told = cube[name].values.astype("datetime64[ns]") if name in cube.coords else times
    return np.where(np.isnat(told), times, told)


def _first_of_each(texts: Sequence[str]) -> list[bool]:
    """Whether no text before it is the same; an empty one says nothing."""
    return [not text or text not in texts[:number] for number, text in enumerate(texts)]


def _dataset(
    cube: xr.Dataset, recipe: Recipe, arrays: dict[str, Any], found: Sequence[Window], spans: Sequence[slice]
) -> xr.Dataset:
    """The planes with coordinates and attributes, beside what of the cube has no time."""
    dims = cube["flags"].dims
    median = recipe.method == "median"
    attrs = {name: _band_attrs(cube[name].attrs, name, median) for name in recipe.layers}
    attrs["flags"] = cube["flags"].attrs | flag_attrs() | {"comment": _FLAGS_COMMENT}
    for sensor in recipe.sensors:
        exact = f"{sensor}_time" in cube.coords or f"{sensor}_gap_days" not in cube.coords
        attrs |= _sensor_attrs(sensor, median, exact)
    kept = cube.drop_vars([name for name, array in cube.variables.items() if "time" in array.dims])
    made = kept.assign({name: (dims, array, attrs[name]) for name, array in arrays.items()})
    mapping = cube["flags"].encoding.get("grid_mapping", "spatial_ref")
    for name in arrays:
        source = cube[name] if name in cube else cube["flags"]
        made[name].encoding["grid_mapping"] = source.encoding.get("grid_mapping", mapping)
    first = [*(str(name) for name in cube.data_vars if name != "flags"), *arrays]
    made = made[[*dict.fromkeys([*(name for name in first if name != "flags"), "flags"])]]
    return made.assign_coords(_coordinates(cube, found, spans))


def _band_attrs(attrs: dict[str, Any], name: str, median: bool) -> dict[str, Any]:
    if not median:
        return dict(attrs)
    if name in SAR_BANDS:
        return attrs | {"cell_methods": "time: median (of linear power)"}
    needed = _KNOWN[name][1] or _KNOWN[name][2] == CLD
    return attrs | {"cell_methods": "time: median" if needed else "time: mode"}


_FLAGS_COMMENT = (
    "where a sensor has nothing usable, every bit that it had in the window or its nodata bit; elsewhere "
    "the warnings of what is shown, snow and ice of Sentinel-1's steps where that alone is"
)


def _sensor_attrs(sensor: str, median: bool, exact: bool) -> dict[str, dict[str, Any]]:
    name = {"s2": "Sentinel-2", "s1": "Sentinel-1"}[sensor]
    which = "the usable observation in the middle, of two the earlier" if median else "the observation shown"
    when = "" if exact else "; that of the step it goes with, not of the acquisition itself"
    return {
        # "days" would be read back as a span of time, "days since" as dates, and nodata as one of either
        f"{sensor}_day": {
            "long_name": f"day of {name}, counted from 1970-01-01 UTC",
            "units": "day",
            "epoch": "1970-01-01",
            "nodata": NO_DAY,
            "comment": which + when,
        },
        f"{sensor}_count": {"long_name": f"usable observations of {name}", "units": "1"},
    }


def _coordinates(cube: xr.Dataset, found: Sequence[Window], spans: Sequence[slice]) -> dict[str, Any]:
    """Windows, and of the coordinates along time those that can be joined or averaged."""
    bounds = np.array([[_ns(each.start), _ns(each.end)] for each in found])
    # numbers of one unit in both, as CF wants it
    encoding = {"units": "seconds since 1970-01-01", "calendar": "proleptic_gregorian", "dtype": "int64"}
    comment = {"comment": "start of the window, which belongs to it; its end does not"}
    coords: dict[str, Any] = {
        "time": ("time", bounds[:, 0], {"bounds": "time_bnds"} | comment, encoding),
        "time_bnds": (("time", "bnds"), bounds, comment),
    }
    for name in _TEXTS:
        if name in cube.coords and cube[name].dtype.kind in "OUT":
            texts = [str(text) for text in cube[name].values]
            coords[name] = "time", np.array([_joined(texts[span]) for span in spans], dtype=object)
    for name, mean in (("sun_azimuth", _mean_direction), ("sun_elevation", _mean)):
        if name in cube.coords:
            values = cube[name].values
            coords[name] = "time", np.array([mean(values[span]) for span in spans]), dict(cube[name].attrs)
    return coords


def _joined(texts: Sequence[str]) -> str:
    """The distinct parts of texts that are joined by commas."""
    parts = (part for text in texts for part in text.split(","))
    return ",".join(dict.fromkeys(part for part in parts if part))


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan


def _mean_direction(azimuths: NDArray[np.float64]) -> float:
    """Of directions in degrees, 0 to 360: that of 358 and 4 is 1."""
    known = np.radians(azimuths[np.isfinite(azimuths)])
    if not len(known):
        return np.nan
    return float(np.degrees(np.arctan2(np.sin(known).sum(), np.cos(known).sum())) % 360.0)
