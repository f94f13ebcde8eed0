"""One series from one of radar and one of optics, with the bias between them taken out and said."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.errors import CubeError
from xglof.lakes.scatter import Float
from xglof.lakes.series import SENSORS, SeriesFlag, bare, check_dates, flagged, series_flag_attrs

__all__ = ["fuse_sensors", "split_sensors"]

#: Pairs that a bias needs.
LEAST_PAIRS = 5
#: Standard error of the median of normal values over that of their mean, sqrt(pi / 2).
_MEDIAN_TO_MEAN = 1.2533
_TEXT = np.dtype("<U120")
_USED = ("area", "quality", "sensors", "sigma_repeat", "sigma_repeat_dof")
_UNFIT = SeriesFlag.outlier | SeriesFlag.provisional | SeriesFlag.held
_DAILY, _OF_LAKE = (
    ("area", "sigma_repeat", "sigma_repeat_dof", "sensors", "quality"),
    ("s1_bias", "s1_bias_sigma", "pairs"),
)


class _Measured(NamedTuple):
    """Areas, their variances (m4), degrees of freedom, sensors and flags, on one shape."""

    area: Float
    variance: Float
    dof: Float
    sensors: NDArray[np.uint8]
    quality: NDArray[np.uint16]


def split_sensors(series: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """The series of radar alone and the series with optics, out of a mixed one.

    Values that rest on both sensors go with optics: what sets a value apart is that nobody but the radar saw
    the lake. Lazy where the series is.

    Parameters
    ----------
    series
        As :func:`xglof.lakes.flag_series` returns it, or :func:`xglof.lakes.lake_area`: it is flagged then.

    Returns
    -------
    tuple of xarray.Dataset
        Both with all dates and ``area``, ``quality``, ``sensors``, ``sigma_repeat``, ``sigma_repeat_dof``;
        ``area`` is NaN where the value belongs to the other or to none.

    Raises
    ------
    CubeError
        What :func:`xglof.lakes.flag_series` raises.
    """
    check_dates(series)
    flags = flagged(series)
    names = [name for name in _USED if name in flags]
    radar = flags["sensors"] == SENSORS.index("s1")
    optics = flags["sensors"] >= SENSORS.index("s2")
    of_s1, of_s2 = (flags[names].assign(area=flags["area"].where(own)) for own in (radar, optics))
    return of_s1, of_s2


def fuse_sensors(s1: xr.Dataset, s2: xr.Dataset, *, max_gap_days: float = 12) -> xr.Dataset:
    """One series of the same lakes from radar alone and from optics, on the level of the optics.

    The bias of a lake is the median of the differences of pairs of values no more than ``max_gap_days``
    apart, each value in one pair at most, with its nearest. Its standard error is 1.2533 times that of their
    mean. On every day on which either has a value: the optical one where there is one, the radar's less the
    bias elsewhere, and the mean by inverse variance where both have one and both have a sigma. The variance
    of the bias is added to the radar's; it is common to all radar dates of a lake and does not average out.

    Outliers, held values and provisional ones (radar alone outside the open-water season) are left out.
    Lazy where the series are. The series that came are not changed.

    Parameters
    ----------
    s1, s2
        Series of radar alone and of optics, flagged or as :func:`xglof.lakes.lake_area` returns them, or the
        two of :func:`split_sensors`. Lakes in any order.
    max_gap_days
        Days between the values of a pair, at most.

    Returns
    -------
    xarray.Dataset
        Dims ``(lake, time)``, ``time`` being the days (UTC) of either: ``area``, ``sigma_repeat`` float64 m2,
        ``sigma_repeat_dof`` float64 (Welch 1947), NaN without a value; ``sensors`` uint8, 0 where there is
        none; ``quality`` uint16, the flags of the values that went in, so that
        :func:`xglof.lakes.trends.trend` takes the series. Dims ``(lake)``: ``s1_bias``, ``s1_bias_sigma``
        float64 m2, NaN from less than 5 pairs, where the radar is left out and the str ``bias_reason`` says
        so; ``pairs`` int64.

    Raises
    ------
    CubeError
        What :func:`xglof.lakes.flag_series` raises; other lakes in one than in the other; a lake twice;
        ``max_gap_days`` below 0.

    References
    ----------
    Welch (1947), Biometrika 34, 28-35, doi:10.1093/biomet/34.1-2.28 (degrees of freedom of a sum).
    """
    radar, optics = _ready(s1, "s1"), _ready(s2, "s2")
    _check_lakes(radar, optics, max_gap_days)
    radar = radar.sel(lake=optics["lake"].values)
    dates = radar["time"].values, optics["time"].values
    days = np.unique(np.concatenate([_days(each) for each in dates]))
    kernel = functools.partial(_fuse, dates=dates, days=days, max_gap_days=float(max_gap_days))
    inputs = [
        bare(of[name]).rename(time=f"time_{sensor}")
        for sensor, of in (("s1", radar), ("s2", optics))
        for name in _USED
    ]
    arrays = xr.apply_ufunc(
        kernel,
        *inputs,
        input_core_dims=[[f"time_{sensor}"] for sensor in ("s1", "s2") for _ in _USED],
        output_core_dims=[["time"]] * len(_DAILY) + [[]] * len(_OF_LAKE),
        dask="parallelized",
        dask_gufunc_kwargs={"output_sizes": {"time": len(days)}},
        output_dtypes=[np.float64] * 3 + [np.uint8, np.uint16] + [np.float64] * 2 + [np.int64],
        keep_attrs=False,
    )
    fused = xr.Dataset(dict(zip((*_DAILY, *_OF_LAKE), arrays, strict=True)))
    fused["bias_reason"] = _reasons(fused["pairs"], max_gap_days)
    places = {name: at for name, at in optics.coords.items() if at.dims == ("lake",)}
    fused = fused.assign_coords({**places, "time": days.astype("datetime64[ns]")})
    season = {name: optics.attrs[name] for name in ("open_water_months",) if name in optics.attrs}
    return _with_attrs(fused.assign_attrs(season), max_gap_days)


def _ready(series: xr.Dataset, name: str) -> xr.Dataset:
    try:
        check_dates(series)
        flags = flagged(series)
    except CubeError as error:
        raise CubeError(f"{name}: {error}") from error
    if missing := [each for each in _USED if each not in flags]:
        raise CubeError(f"{name} has no {', '.join(missing)}; expected what xglof.lakes.flag_series returns")
    return flags


def _check_lakes(radar: xr.Dataset, optics: xr.Dataset, max_gap_days: float) -> None:
    lakes = [of.indexes["lake"] for of in (radar, optics) if "lake" in of.indexes]
    if len(lakes) < 2 or not all(ids.is_unique for ids in lakes):
        raise CubeError(
            "a series has no lake ids, or one twice; expected lake as xglof.lakes.lake_area has it"
        )
    if apart := sorted(set(lakes[0]) ^ set(lakes[1])):
        raise CubeError(
            f"{len(apart)} lakes are in one series alone, {apart[0]} first; make both with lake_area over "
            "the same tracked polygons"
        )
    if not 0 <= max_gap_days < np.inf:
        raise CubeError(f"max_gap_days is {max_gap_days}; expected days, 0 or more")


def _days(dates: NDArray[Any]) -> NDArray[Any]:
    return dates.astype("datetime64[D]")


def _fuse(*arrays: NDArray[Any], dates: Any, days: Any, max_gap_days: float) -> tuple[NDArray[Any], ...]:
    """The outputs of :func:`fuse_sensors` from the five variables of each series, ``(lake, its time)``."""
    radar, optics = _measured(*arrays[:5]), _measured(*arrays[5:])
    since = [(each - days[:1]) / np.timedelta64(1, "D") for each in dates]
    bias, bias_sigma, pairs = _bias(radar.area, optics.area, since, max_gap_days)
    one, two = (
        _by_day(each, np.searchsorted(days, _days(when)), len(days))
        for each, when in zip((radar, optics), dates, strict=True)
    )
    # after the days are made: the passes of one day share the error of the bias
    error = np.square(bias_sigma)[:, None] + np.zeros_like(one.area)
    moved = one._replace(
        area=one.area - bias[:, None],
        variance=one.variance + error,
        dof=_welch((one.variance, error), (one.dof, pairs[:, None] - 1.0)),
    )
    fused = _mean(two, moved)
    seen = np.isfinite(fused.area)
    dof = np.where(seen, fused.dof, np.nan)
    told = (np.where(seen, each, 0).astype(each.dtype) for each in (fused.sensors, fused.quality))
    return fused.area, np.sqrt(fused.variance), dof, *told, bias, bias_sigma, pairs


def _measured(
    area: Float, quality: NDArray[Any], sensors: NDArray[Any], sigma: Float, dof: Float
) -> _Measured:
    fit = np.isfinite(area) & (quality & _UNFIT == 0)
    variance = np.where(fit, np.square(sigma), np.nan)
    told = np.where(fit, sensors, 0).astype(np.uint8), np.where(fit, quality, 0).astype(np.uint16)
    return _Measured(np.where(fit, area, np.nan), variance, dof, *told)


def _bias(
    radar: Float, optics: Float, since: list[Float], max_gap_days: float
) -> tuple[Float, Float, NDArray[np.int64]]:
    """Median difference of each lake, its standard error, and how many pairs it is of."""
    bias, error, pairs = (
        np.full(len(radar), np.nan),
        np.full(len(radar), np.nan),
        np.zeros(len(radar), np.int64),
    )
    for lake in range(len(radar)):
        one, two = np.flatnonzero(np.isfinite(radar[lake])), np.flatnonzero(np.isfinite(optics[lake]))
        first, second = _pairs(since[0][one], since[1][two], max_gap_days)
        difference = radar[lake, one[first]] - optics[lake, two[second]]
        pairs[lake] = count = len(difference)
        if count >= LEAST_PAIRS:
            bias[lake] = np.median(difference)
            error[lake] = _MEDIAN_TO_MEAN * np.std(difference, ddof=1) / np.sqrt(count)
    return bias, error, pairs


def _pairs(one: Float, two: Float, max_gap_days: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places in both of dates that are each other's nearest and near enough; both are in order."""
    if not len(one) or not len(two):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    of_two, of_one = _nearest(one, two), _nearest(two, one)
    mutual = of_two[of_one] == np.arange(len(two))
    near = np.abs(one[of_one] - two) <= max_gap_days
    second = np.flatnonzero(mutual & near)
    return of_one[second], second


def _nearest(of: Float, among: Float) -> NDArray[np.int64]:
    """Place in ``among`` of the date nearest to each one, the earlier of two as near."""
    after = np.clip(np.searchsorted(among, of), 1, max(len(among) - 1, 1))
    earlier = of - among[after - 1] <= among[np.minimum(after, len(among) - 1)] - of
    return np.where(earlier, after - 1, np.minimum(after, len(among) - 1))


def _by_day(of: _Measured, day: NDArray[np.int64], days: int) -> _Measured:
    """One value a day, the mean where there are several."""
    area, variance, dof = (np.full((len(of.area), days), np.nan) for _ in range(3))
    found = _Measured(area, variance, dof, np.zeros(area.shape, np.uint8), np.zeros(area.shape, np.uint16))
    arrays: tuple[NDArray[Any], ...] = found
    for step, place in enumerate(day):
        for array, mean in zip(arrays, _mean(_at(found, place), _at(of, step)), strict=True):
            array[:, place] = mean
    return found


def _at(of: _Measured, place: int) -> _Measured:
    return _Measured._make(array[:, place] for array in of)


def _mean(one: _Measured, two: _Measured) -> _Measured:
    """The mean by inverse variance; with a variance unknown the first, the second where it is missing."""
    has_one, has_two = np.isfinite(one.area), np.isfinite(two.area)
    total = one.variance + two.variance
    both = has_one & has_two & np.isfinite(total)
    share = np.divide(one.variance, total, out=np.full(total.shape, 0.5), where=both & (total > 0))  # of two
    parts = np.square(1 - share) * one.variance, np.square(share) * two.variance
    dof = _welch(parts, (one.dof, two.dof))

    def chosen(mean: NDArray[Any], first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
        return np.where(both, mean, np.where(has_one, first, second))

    return _Measured(
        chosen(one.area + share * (two.area - one.area), one.area, two.area),
        chosen(parts[0] + parts[1], one.variance, two.variance),
        chosen(dof, one.dof, two.dof),
        chosen(one.sensors | two.sensors, one.sensors, two.sensors).astype(np.uint8),
        chosen(one.quality | two.quality, one.quality, two.quality).astype(np.uint16),
    )


def _welch(variances: tuple[Float, Float], dofs: tuple[Any, Any]) -> Float:
    """Degrees of freedom of the sum of two variances (Welch 1947); the less of both where the sum is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = variances[0] ** 2 / dofs[0] + variances[1] ** 2 / dofs[1]
        found: Float = (variances[0] + variances[1]) ** 2 / spread
    return np.where(spread == 0, np.minimum(*dofs), found)


def _reasons(pairs: xr.DataArray, max_gap_days: float) -> xr.DataArray:
    said: xr.DataArray = xr.apply_ufunc(
        functools.partial(_said, max_gap_days=max_gap_days),
        pairs,
        dask="parallelized",
        output_dtypes=[_TEXT],
        keep_attrs=False,
    )
    return said


def _said(pairs: NDArray[np.int64], *, max_gap_days: float) -> NDArray[Any]:
    def reason(count: int) -> str:
        found = f"{count} pair{'' if count == 1 else 's'} no more than {max_gap_days:g} days apart"
        return "" if count >= LEAST_PAIRS else f"radar left out: {found}, {LEAST_PAIRS} are needed"

    return np.array([reason(int(count)) for count in pairs], dtype=_TEXT)


def _with_attrs(fused: xr.Dataset, max_gap_days: float) -> xr.Dataset:
    attrs: dict[str, dict[str, Any]] = {
        "area": {
            "long_name": "lake area from radar and optics",
            "standard_name": "area",
            "units": "m2",
            "comment": "optics where valid, else radar less s1_bias; mean by inverse variance where both are",
            "ancillary_variables": "sigma_repeat sigma_repeat_dof sensors s1_bias s1_bias_sigma bias_reason",
        },
        "sigma_repeat": {
            "long_name": "one sigma of repeated measurement of lake area",
            "units": "m2",
            "comment": "holds the error of s1_bias on dates with radar, common to all of them",
            "ancillary_variables": "sigma_repeat_dof",
        },
        "sigma_repeat_dof": {"long_name": "degrees of freedom of sigma_repeat", "units": "1"},
        "sensors": {
            "long_name": "sensors that the area rests on",
            "flag_values": np.arange(len(SENSORS), dtype="uint8"),
            "flag_meanings": " ".join(SENSORS),
        },
        "quality": series_flag_attrs(),
        "s1_bias": {
            "long_name": "area by radar alone less area by optics",
            "units": "m2",
            "comment": f"median of pairs no more than {max_gap_days:g} days apart",
            "ancillary_variables": "s1_bias_sigma pairs bias_reason",
        },
        "s1_bias_sigma": {"long_name": "standard error of s1_bias", "units": "m2"},
        "pairs": {"long_name": "pairs of dates that s1_bias rests on", "units": "1"},
        "bias_reason": {"long_name": "why radar was left out"},
    }
    for name, said in attrs.items():
        fused[name].attrs = said
    return fused.assign_attrs({"max_gap_days": float(max_gap_days)})
