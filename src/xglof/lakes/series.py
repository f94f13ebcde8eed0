"""Series of lake areas with flags: what values rest on, which stand apart, how far they scatter."""

from __future__ import annotations

import functools
from enum import IntFlag
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.cube.flags import mask_attrs
from xglof.errors import CubeError
from xglof.lakes.hampel import isolated_dates, kept_variance
from xglof.lakes.scatter import Float, Repeats, repeat_sigma, robust_scatter, rounding_floor, strata
from xglof.lakes.seasons import in_months, month_pair, open_water_months

__all__ = ["SENSORS", "SeriesFlag", "bare", "check_dates", "flag_series", "flagged", "series_flag_attrs"]

#: Values of ``sensors``: the place in the tuple.
SENSORS = ("unknown", "s1", "s2", "s1_and_s2")
#: From this share of the observed footprint on, an area rests on a sensor, or a lake is frozen.
HALF = 0.5
_NEEDED = (
    "area",
    "area_sigma",
    "frozen_fraction",
    "requested_fraction",
    "s1_fraction",
    "s2_fraction",
    "part_of",
)


class SeriesFlag(IntFlag):
    """Bits of ``quality`` (uint16) of a series. No bit: a value that nothing speaks against."""

    suspect = 1 << 0
    outlier = 1 << 1
    partial = 1 << 2
    frozen = 1 << 3
    provisional = 1 << 4
    held = 1 << 5


def series_flag_attrs() -> dict[str, object]:
    """CF attributes of ``quality`` (``flag_masks``, ``flag_meanings``, ``long_name``)."""
    return mask_attrs(SeriesFlag, "quality of the area of a lake at a date")


def flag_series(
    series: xr.Dataset, *, open_water: tuple[int, int] | None = None, hampel: float = 3.0
) -> xr.Dataset:
    """The series with flags, sensors and the scatter of repeated measurements beside its variables.

    Every variable that came stays as it is, to the bit; nothing is filled in, interpolated or taken out.

    - ``suspect``: the value deviates from the median of the up to 5 fit values of its source before it by
      more than ``hampel`` scales (Hampel 1974). A source is the sensors and, with radar, the relative orbit:
      between sources there is a bias. A fit value is finite, not provisional, not held and no outlier; at
      least 3 of the source are needed, else nothing is flagged. The scale is the larger of 1.4826 times the
      median absolute deviation of those values and :func:`~xglof.lakes.scatter.robust_scatter` of the
      date's stratum times the outline of the latest of them, and not below half a cell.
    - ``outlier``: the next fit value of the source is back within that band around that median. It stands
      for ``suspect`` then, and the value takes no part in ``sigma_repeat``. Only single dates can be
      outliers, and only where no other source between the values around the date deviates to the same side:
      what two sources saw is no accident. Where the next value is not back, the level has changed: both
      values begin a new window, the first stays ``suspect``, and the source is compared with what came after.
    - ``partial``: no point value though part of the place was requested: too little was observed.
    - ``frozen``: a point value, with half the footprint or more under floating ice or snow.
    - ``provisional``: a point value from radar alone outside the open-water season. Radar cannot tell water
      from ice, wind-roughened water or wet snow, and no optical view is there to check.
    - ``held``: at this date the place belongs to another lake, ``part_of``.

    Lazy where the series is: a task takes some lakes with all their dates, a few hundred bytes a date.

    Parameters
    ----------
    series
        As :func:`xglof.lakes.lake_area` returns it, ``(lake, time)``, dates in order; there may be none.
    open_water
        First and last month, both inclusive; ``(12, 4)`` passes the turn of the year. ``None``: June to
        October north of 23.5 N, December to April south of 23.5 S, all year between them, by the
        ``latitude`` of each lake. That is a convention, not a measurement: ice goes later the higher a lake
        lies, and between the tropics high lakes freeze too. State the months of your region.
    hampel
        Width of the band, in scales.

    Returns
    -------
    xarray.Dataset
        The series and, on ``(lake, time)``: ``quality`` uint16, CF flags of :class:`SeriesFlag`; ``sensors``
        uint8, 0 unknown, 1 s1, 2 s2, 3 s1_and_s2, a sensor from a share of one half on; ``sigma_repeat``
        float64 m2 and ``sigma_repeat_dof`` float64, see :func:`~xglof.lakes.scatter.repeat_sigma`.

    Raises
    ------
    CubeError
        No ``time``, dates that are none, out of order or twice, a variable that is missing, a series that has
        flags already, months or ``hampel`` out of range.

    References
    ----------
    Hampel (1974), Journal of the American Statistical Association 69, 383-393,
    doi:10.1080/01621459.1974.10482962.
    """
    _check(series, open_water, hampel)
    water = in_months(bare(series["time"]).dt.month, open_water_months(series, open_water))
    numbers = {name: bare(series[name]) for name in _NEEDED}
    sensors = _sensors(numbers)
    quality = bare(_told_bits(numbers, sensors, water))
    kernel = functools.partial(_judge, time=series["time"].to_numpy(), hampel=float(hampel))
    judged = xr.apply_ufunc(
        kernel,
        numbers["area"],
        numbers["area_sigma"],
        sensors,
        quality,
        rounding_floor(series),
        _orbit(series),
        input_core_dims=[*[["time"]] * 4, [], ["time"]],
        output_core_dims=[["time"]] * 3,
        dask="parallelized",
        output_dtypes=[np.uint16, np.float64, np.float64],
        keep_attrs=False,
    )
    found = dict(zip(("quality", "sigma_repeat", "sigma_repeat_dof"), judged, strict=True))
    season = "by latitude" if open_water is None else [int(month) for month in open_water]
    said = {"open_water_months": season, "hampel": float(hampel)}
    return _dressed(series, {**found, "sensors": sensors}, said)


def flagged(series: xr.Dataset) -> xr.Dataset:
    """The series as it is where it has flags, else :func:`flag_series` of it."""
    return series if "quality" in series else flag_series(series)


def _check(series: xr.Dataset, open_water: Any, hampel: float) -> None:
    check_dates(series)
    if missing := [name for name in _NEEDED if name not in series]:
        raise CubeError(
            f"the series has no {', '.join(missing)}; expected what xglof.lakes.lake_area returns"
        )
    if "quality" in series:
        raise CubeError("the series has quality already; flag it once, or drop what flag_series added")
    if not 0 < hampel < np.inf:
        raise CubeError(f"hampel is {hampel}; expected a width of the band above 0, such as 3")
    if open_water is not None:
        month_pair(open_water, "open_water")


def check_dates(series: xr.Dataset) -> None:
    """Raise where a series is not ``(lake, time)`` with dates in order, each once.

    Raises
    ------
    CubeError
        It has no ``area``, no ``time``, no ``lake``, no dates there, or they are out of order or come twice.
    """
    if "area" not in series or set(series["area"].dims) != {"lake", "time"}:
        dims = series["area"].dims if "area" in series else "no area"
        raise CubeError(f"the series has {dims}; expected area on (lake, time): segment a cube with dates")
    dates = series["time"].to_numpy()
    if dates.dtype.kind != "M" or np.isnat(dates).any():
        raise CubeError(f"time is {dates.dtype}; expected dates (datetime64), none of them missing")
    if (np.diff(dates) <= np.timedelta64(0)).any():
        raise CubeError(
            "time is out of order or has a date twice; sort it with series.sortby('time') and drop one"
        )


def bare(array: xr.DataArray) -> xr.DataArray:
    """A variable of a series without coordinates, ``lake`` first and, where lazy, with one chunk in time.

    xarray compares coordinates that are lazy by computing them. Dask cannot put nothing into one chunk.
    """
    plain = array.transpose("lake", "time", missing_dims="ignore").drop_vars(array.coords)
    if not plain.size:
        return plain.copy(data=np.empty(plain.shape, plain.dtype))
    return plain if plain.chunks is None or "time" not in plain.dims else plain.chunk(time=-1)


def _sensors(numbers: dict[str, xr.DataArray]) -> xr.DataArray:
    s1, s2 = numbers["s1_fraction"] >= HALF, numbers["s2_fraction"] >= HALF
    return (s1.astype("uint8") + 2 * s2.astype("uint8")).astype("uint8")


def _told_bits(numbers: dict[str, xr.DataArray], sensors: xr.DataArray, water: xr.DataArray) -> xr.DataArray:
    """The bits that follow from a date alone."""
    seen = numbers["area"].notnull()
    lake = xr.DataArray(np.arange(seen.sizes["lake"]), dims="lake")
    held = numbers["part_of"] != lake
    told = {
        SeriesFlag.partial: ~seen & ~held & (numbers["requested_fraction"] > 0),
        SeriesFlag.frozen: seen & (numbers["frozen_fraction"] >= HALF),
        SeriesFlag.provisional: seen & (sensors == SENSORS.index("s1")) & ~water,
        SeriesFlag.held: held,
    }
    bits = [where.astype("uint16") * np.uint16(flag) for flag, where in told.items()]
    return functools.reduce(lambda a, b: a | b, bits)


def _orbit(series: xr.Dataset) -> xr.DataArray:
    """``(time)`` the orbit of the radar, in one chunk; all alike where the series does not tell."""
    if "relative_orbit" not in series.coords:
        return xr.DataArray(np.zeros(series.sizes["time"], np.int64), dims="time")
    return bare(series["relative_orbit"].astype("U16"))  # of objects Dask knows no size


def _judge(
    area: Float,
    outline: Float,
    sensors: NDArray[Any],
    told: NDArray[Any],
    floor: Float,
    orbit: NDArray[Any],
    *,
    time: NDArray[Any],
    hampel: float,
) -> tuple[NDArray[np.uint16], Float, Float]:
    """Quality, sigma of repeated measurement and its degrees of freedom, ``(lake, time)``."""
    fit = np.isfinite(area) & (told & (SeriesFlag.provisional | SeriesFlag.held) == 0)
    month = time.astype("datetime64[M]").astype(int) % 12 + 1
    stratum, orbits = strata(sensors, np.unique(orbit.astype(str), return_inverse=True)[1], month)
    days = (time - time[:1]) / np.timedelta64(1, "D")
    of = Repeats(area, _carried(outline), days, stratum, orbits)
    least = np.sqrt(3) * floor  # half a cell
    suspect, outlier, level = isolated_dates(of, fit, robust_scatter(of, fit), least=least, hampel=hampel)
    stable = fit & ~outlier & (told & SeriesFlag.frozen == 0)
    sigma, dof = repeat_sigma(of, stable, level, floor=floor, kept=kept_variance(hampel))
    quality = told | suspect * np.uint16(SeriesFlag.suspect) | outlier * np.uint16(SeriesFlag.outlier)
    return quality.astype(np.uint16), sigma, dof


def _carried(values: Float) -> Float:
    """The last finite value up to each date, before the first one the first; NaN where there is none."""
    if not values.size:
        return values
    known = np.isfinite(values)
    place = np.maximum.accumulate(np.where(known, np.arange(values.shape[1]), -1), axis=1)
    first = known.argmax(axis=1)[:, None]
    return np.take_along_axis(values, np.where(place < 0, first, place), axis=1)


def _dressed(series: xr.Dataset, found: dict[str, xr.DataArray], said: dict[str, Any]) -> xr.Dataset:
    """The series with the variables that were found, their dims as those of ``area``, and attributes."""
    attrs: dict[str, dict[str, Any]] = {
        "quality": series_flag_attrs(),
        "sensors": {
            "long_name": "sensors that the area rests on",
            "flag_values": np.arange(len(SENSORS), dtype="uint8"),
            "flag_meanings": " ".join(SENSORS),
            "comment": "a sensor counts from half of the observed footprint on",
        },
        "sigma_repeat": {
            "long_name": "one sigma of repeated measurement of lake area",
            "units": "m2",
            "comment": "area_sigma times a factor from successive differences of stable dates by level, "
            "sensors, orbit and quarter of year, von Neumann et al. (1941), doi:10.1214/aoms/1177731746; "
            "NaN where there are too few",
            "ancillary_variables": "sigma_repeat_dof",
        },
        "sigma_repeat_dof": {"long_name": "degrees of freedom of sigma_repeat", "units": "1"},
    }
    added = {name: found[name].transpose(*series["area"].dims) for name in attrs}
    for name, array in added.items():
        array.attrs = attrs[name]
    return series.assign(added).assign_attrs(said)
