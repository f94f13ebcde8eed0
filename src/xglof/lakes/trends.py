"""Trends of lake areas over the years, with intervals, and "not computable" as an answer."""

from __future__ import annotations

import calendar
import functools
import math
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.errors import CubeError
from xglof.lakes.scatter import Float
from xglof.lakes.seasons import in_months, month_pair, open_water_months
from xglof.lakes.series import SENSORS, bare, check_dates, flagged

__all__ = ["trend"]

_LEAST_YEARS = 4  # the exact Mann-Kendall test of 3 values cannot fall below p = 0.33
_TEXT = np.dtype("<U160")
#: Radar and optics differ by a bias. Where the share of radar alone in the first and the last half of the
#: years differs by more, a bias of 5 sigma makes a false trend (p < 0.05) more often than once in 17 lakes.
_MOST_SHIFT = 0.25
_NUMBERS = ("slope", "slope_lower", "slope_upper", "tau", "p_value", "years", "early", "late")


def trend(
    series: xr.Dataset,
    *,
    months: tuple[int, int] | None = None,
    confidence: float = 0.95,
    min_years: int = 4,
) -> xr.Dataset:
    """Trend of every lake's area: Theil-Sen slope with its interval, and the test of Mann and Kendall.

    A year counts with one value, the median of those in the season that no flag speaks against. The slope is
    the median of the slopes between all pairs of years; its interval is Sen's, from the ranks of those
    slopes. Both take the values of years as independent. Where years are too few the answer is NaN with a
    reason. With 4 years no interval reaches 95%: the widest one, from the least to the greatest slope,
    covers with ``1 - 2 / 4! = 92%``, so that ``confidence=0.9`` is the most to ask for. Ranks are whole
    numbers, and the interval covers with at least ``confidence``: with 98.3% for 95% at 5 years.

    Radar alone and optics see a lake differently large. Where the share of values of radar alone is not the
    same in the first and the last half of the years (the mean of the years' shares, apart by more than
    0.25), a slope would be that bias: it is not computable. :func:`xglof.lakes.fusion.fuse_sensors` takes
    the bias out; what it returns is taken as it is.

    Lazy where the series is; a lake costs about a millisecond.

    Parameters
    ----------
    series
        As :func:`xglof.lakes.flag_series` returns it, :func:`xglof.lakes.fusion.fuse_sensors`, or
        :func:`xglof.lakes.lake_area`: it is flagged then.
    months
        First and last month of the season, both inclusive, such as ``(8, 9)``. A season that passes the turn
        of the year counts for the year in which it ends. ``None``: the open-water season of the flags.
    confidence
        Probability that the interval covers, from 0.5 to below 1.
    min_years
        Years with a value that a trend needs, at least 4.

    Returns
    -------
    xarray.Dataset
        Dims ``(lake)``. float64: ``slope``, ``slope_lower``, ``slope_upper`` (m2 a year), ``tau`` (Kendall's
        tau-b; 0 where all years are alike), ``p_value`` (two-sided, no trend); int64 ``years`` with a value;
        bool ``computable``; str ``reason``, empty where there is nothing to say.

    Raises
    ------
    CubeError
        What :func:`xglof.lakes.flag_series` raises; months, ``confidence`` or ``min_years`` out of range.

    References
    ----------
    Sen (1968), Journal of the American Statistical Association 63, 1379-1389,
    doi:10.1080/01621459.1968.10480934. Mann (1945), Econometrica 13, 245-259, doi:10.2307/1907187. Kendall
    (1975), Rank Correlation Methods, Griffin.
    """
    _check(months, confidence, min_years)
    check_dates(series)
    flags = flagged(series)
    season, dates = _season(flags, months), bare(flags["time"])
    area, radar = bare(flags["area"]), bare(flags["sensors"]) == SENSORS.index("s1")
    if "s1_bias" in flags:
        radar = xr.zeros_like(radar)  # fused: on one level
    use = in_months(dates.dt.month, season) & (bare(flags["quality"]) == 0) & area.notnull()
    kernel = functools.partial(_lines, confidence=confidence, min_years=min_years)
    numbers = xr.apply_ufunc(
        kernel,
        area,
        bare(use),
        radar,
        bare(_years(dates, season)),
        input_core_dims=[["time"]] * 4,
        output_core_dims=[[]] * len(_NUMBERS),
        dask="parallelized",
        output_dtypes=[np.float64] * len(_NUMBERS),
        keep_attrs=False,
    )
    found = xr.Dataset(dict(zip(_NUMBERS, numbers, strict=True)))
    found["years"] = found["years"].astype(np.int64)
    found["reason"] = _reasons(found, season, confidence, min_years)
    found = found.drop_vars(["early", "late"])
    found["computable"] = found["slope"].notnull()
    places = {name: at for name, at in flags.coords.items() if at.dims == ("lake",)}
    return _with_attrs(found.assign_coords(places), confidence, min_years)


def _check(months: Any, confidence: float, min_years: int) -> None:
    if months is not None:
        month_pair(months, "months")
    if not 0.5 <= confidence < 1:
        raise CubeError(
            f"confidence is {confidence}; expected a probability from 0.5 to below 1, such as 0.95"
        )
    if min_years != int(min_years) or min_years < _LEAST_YEARS:
        raise CubeError(f"min_years is {min_years}; expected whole years, {_LEAST_YEARS} or more")


def _season(flags: xr.Dataset, months: tuple[int, int] | None) -> xr.DataArray:
    """First and last month of each lake, ``(lake, month)``."""
    stated = flags.attrs.get("open_water_months", "by latitude")
    if months is None and not isinstance(stated, str):
        first, last = (int(month) for month in stated)
        months = (first, last)
    return open_water_months(flags, months)


def _years(time: xr.DataArray, season: xr.DataArray) -> xr.DataArray:
    """``(lake, time)`` int64: the year in which the season of each date ends."""
    first, last = season.isel(month=0), season.isel(month=1)
    passes = (first > last) & (time.dt.month >= first)
    return (time.dt.year + passes).astype(np.int64)


def _lines(
    area: Float,
    use: NDArray[np.bool_],
    radar: NDArray[np.bool_],
    year: NDArray[np.int64],
    *,
    confidence: float,
    min_years: int,
) -> tuple[Float, ...]:
    """Slope, its ends, tau, p, years and shares of radar alone of every lake, each ``(lake,)`` float64."""
    found = np.full((len(_NUMBERS), len(area)), np.nan)
    for lake in range(len(area)):
        mine = use[lake]
        years, values, share = _yearly(area[lake][mine], radar[lake][mine], year[lake][mine])
        half = len(years) // 2
        early, late = (float(part.mean()) if half else 0.0 for part in (share[:half], share[-half:]))
        found[5:, lake] = len(years), early, late
        if len(years) >= min_years and not _shifted(early, late):
            found[:5, lake] = _line(years, values, confidence)
    return tuple(found)


def _shifted(early: float, late: float) -> bool:
    """Whether the sensors change between the years by so much that a slope would be their bias."""
    return abs(late - early) > _MOST_SHIFT


def _yearly(
    values: Float, radar: NDArray[np.bool_], year: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Float, Float]:
    """Years with a value, in order, the median of each, and the share of radar alone."""
    years = np.unique(year)
    medians, shares = (
        np.array([of(each[year == one]) for one in years])
        for of, each in ((np.median, values), (np.mean, radar))
    )
    return years, medians, shares


def _line(years: NDArray[np.int64], values: Float, confidence: float) -> tuple[float, ...]:
    from scipy import stats

    line = stats.theilslopes(values, years, alpha=1 - confidence)
    ends = (line.low_slope, line.high_slope) if _attainable(len(years)) >= confidence else (np.nan, np.nan)
    if np.ptp(values) == 0:  # tau-b is 0 / 0; Kendall's sum of signs is 0, which speaks for no trend
        return line.slope, *ends, 0.0, 1.0
    test = stats.kendalltau(years, values)
    return line.slope, *ends, test.statistic, test.pvalue


def _attainable(years: int) -> float:
    """Confidence of the widest interval: not all slopes have one sign by chance."""
    return 1 - 2 / math.factorial(years)


def _reasons(found: xr.Dataset, season: xr.DataArray, confidence: float, min_years: int) -> xr.DataArray:
    reasons: xr.DataArray = xr.apply_ufunc(
        functools.partial(_reasons_of, confidence=confidence, min_years=min_years),
        *(found[name] for name in ("years", "early", "late")),
        season.isel(month=0),
        season.isel(month=1),
        dask="parallelized",
        output_dtypes=[_TEXT],
        keep_attrs=False,
    )
    return reasons


def _reasons_of(*numbers: NDArray[Any], confidence: float, min_years: int) -> NDArray[Any]:
    said = functools.partial(_reason, confidence=confidence, min_years=min_years)
    return np.array([said(*each) for each in zip(*(array.tolist() for array in numbers), strict=True)], _TEXT)


def _reason(
    years: int, early: float, late: float, first: int, last: int, *, confidence: float, min_years: int
) -> str:
    if years < min_years:
        found = f"{years} year{'' if years == 1 else 's'} with a value"
        span = f"{calendar.month_name[first]} to {calendar.month_name[last]}"
        return f"not computable: {found} in {span}, {min_years} are needed"
    if _shifted(early, late):
        shares = f"radar alone {early:.0%} of the first half, {late:.0%} of the last"
        return f"not computable: sensors change between the years ({shares}); fuse_sensors first"
    most = _attainable(years)
    return "" if most >= confidence else f"no interval of {confidence:.4g}: {years} years allow {most:.3g}"


def _with_attrs(found: xr.Dataset, confidence: float, min_years: int) -> xr.Dataset:
    slope = {"units": "m2 year-1", "ancillary_variables": "slope_lower slope_upper p_value years reason"}
    attrs: dict[str, dict[str, Any]] = {
        "slope": {
            "long_name": "Theil-Sen slope of lake area",
            **slope,
            "comment": "of one median a year in the same season, unflagged dates; Sen (1968), "
            "doi:10.1080/01621459.1968.10480934; NaN where computable is false, see reason",
        },
        "slope_lower": {"long_name": "lower end of the interval of the slope", "units": "m2 year-1"},
        "slope_upper": {"long_name": "upper end of the interval of the slope", "units": "m2 year-1"},
        "tau": {"long_name": "Kendall's tau-b of area and year", "units": "1"},
        "p_value": {"long_name": "two-sided p of the Mann-Kendall test of no trend", "units": "1"},
        "years": {"long_name": "years with a value", "units": "1"},
        "computable": {"long_name": "whether there is a slope: years enough, and the same sensors"},
        "reason": {"long_name": "why there is no slope or no interval"},
    }
    for name, said in attrs.items():
        found[name].attrs = said
    return found.assign_attrs({"confidence": confidence, "min_years": int(min_years)})
