"""Scatter of repeated measurements of a lake, and the intervals that rest on it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.errors import CubeError
from xglof.lakes.polygons import area_sigma

__all__ = [
    "Repeats",
    "differences_dof",
    "interval",
    "repeat_sigma",
    "robust_scatter",
    "rounding_floor",
    "strata",
]

Float = NDArray[np.float64]
Int = NDArray[np.int64]

#: From this many degrees of freedom on a group of dates speaks for itself.
ENOUGH_DOF = 6.0
#: Fewer, over all dates of a lake, are no estimate.
LEAST_DOF = 2.0
#: Days that a difference may span: within an open-water season, whose five months fit, but not from the end
#: of one to the begin of the next (213 days and more), or it would hold the growth of a year.
LONGEST_DAYS = 200.0
QUARTERS, _SENSORS = 4, 4
_ENOUGH_DIFFERENCES, _LEAST_DIFFERENCES = 8, 3
_MEDIAN_OF_NORMAL = 0.67449  # median of the absolute value, sigma 1


def differences_dof(differences: Any, runs: Any = 1) -> Any:
    """Degrees of freedom of a variance from sums of squared successive differences.

    ``runs`` unbroken runs of values give ``differences`` differences ``d``, k for short. Neighbours among
    them share a value, so that ``sum(d^2) / (2 k)`` has the variance ``sigma^4 (3 k - runs) / k^2`` under
    normal scatter, as a chi-squared variable with ``2 k^2 / (3 k - runs)`` degrees of freedom has. For one
    run of n values that is ``2 (n - 1)^2 / (3 n - 4)``: about two thirds of the n - 1 of the usual variance.

    Parameters
    ----------
    differences, runs
        Counts, numbers or arrays. Every run has at least one difference.

    Returns
    -------
    float or numpy.ndarray
        0 where there are no differences.

    References
    ----------
    von Neumann, Kent, Bellinson & Hart (1941), Annals of Mathematical Statistics 12, 153-162,
    doi:10.1214/aoms/1177731746 (the variance; the number of degrees is the one of equal variance).

    Examples
    --------
    >>> differences_dof(1), differences_dof(10), differences_dof(10, 5)
    (1.0, 6.896551724137931, 8.0)
    """
    count = np.asarray(differences, float)
    free = 3 * count - np.asarray(runs, float)
    found = np.divide(2 * count**2, free, out=np.zeros(np.broadcast(count, free).shape), where=count > 0)
    return found if found.ndim else float(found)


def strata(sensors: NDArray[Any], orbit: NDArray[Any], month: NDArray[Any]) -> tuple[Int, int]:
    """Numbers of the strata in which dates are alike, and how many orbits there are.

    Parameters
    ----------
    sensors
        ``(lake, time)``, 0 unknown, 1 Sentinel-1, 2 Sentinel-2, 3 both.
    orbit
        ``(time,)``, whole numbers from 0 on. It counts where radar takes part.
    month
        ``(time,)``, 1 to 12; quarters of the year are December to February and so on.

    Returns
    -------
    tuple
        ``(lake, time)`` int64, ``(sensors x orbits + orbit) x 4 + quarter``, and ``orbits``.
    """
    orbits = int(orbit.max(initial=0)) + 1
    radar = (sensors == 1) | (sensors == 3)
    path = np.where(radar, orbit, 0)
    quarter = month % 12 // 3
    return (sensors.astype(np.int64) * orbits + path) * QUARTERS + quarter, orbits


def rounding_floor(series: xr.Dataset) -> xr.DataArray:
    """One sigma of the rounding of an area to whole cells: no scatter is smaller.

    ``G^2 / sqrt(12)``, that of an even distribution over one cell of the effective resolution ``G``, which is
    read from ``area_sigma`` and ``perimeter``: Hanshaw's sigma is linear in it.

    Parameters
    ----------
    series
        ``area_sigma`` (m2) and ``perimeter`` (m), ``(lake, time)``, as :func:`xglof.lakes.lake_area` returns
        them.

    Returns
    -------
    xarray.DataArray
        ``(lake)`` float64, m2, without coordinates, lazy where the series is; 0 where nothing tells ``G``.
    """
    if not {"area_sigma", "perimeter"} <= set(series) or not series.sizes["time"]:
        return xr.DataArray(np.zeros(series.sizes["lake"]), dims="lake")
    sigma, perimeter = series["area_sigma"].variable, series["perimeter"].variable  # no coords to compare
    side = sigma / area_sigma(perimeter.where(perimeter > 0), 1.0)
    return xr.DataArray((side.min("time") ** 2 / np.sqrt(12)).fillna(0.0))


@dataclass(frozen=True, slots=True)
class Repeats:
    """What repeated measurements of lakes are compared by.

    Attributes
    ----------
    area
        ``(lake, time)`` float64, m2.
    outline
        ``(lake, time)`` float64, m2: ``area_sigma``, by which the errors of areas of one lake are compared.
    days
        ``(time,)`` float64.
    stratum, orbits
        From :func:`strata`.
    """

    area: Float
    outline: Float
    days: Float
    stratum: Int
    orbits: int

    def pools(self) -> tuple[Int, Int, Int, Int]:
        """``(lake, time)`` numbers of the lake, its sensors, its sources and its strata, over all lakes."""
        width = _SENSORS * self.orbits * QUARTERS
        own = self.stratum + width * np.arange(len(self.stratum))[:, None]
        return own // width, own // (self.orbits * QUARTERS), own // QUARTERS, own


def repeat_sigma(
    of: Repeats, stable: NDArray[np.bool_], level: Int, *, floor: Float, kept: float = 1.0
) -> tuple[Float, Float]:
    """One sigma of repeated measurement at every date, and its degrees of freedom.

    The error of an area is that of its outline, so that it follows the outline ``u`` (``area_sigma``, the
    perimeter times the resolution) when a lake drains or grows: ``sigma = c u``. ``c`` comes from the
    successive differences ``d`` of stable dates within a stratum (sensors, orbit where radar takes part,
    quarter of the year): ``c^2 = sum(d^2 / (u1^2 + u2^2)) / k`` over ``k`` of them. Differences across a
    change of level are left out, and so are those of dates more than 200 days apart. A trend enters by what
    the lake changes between two such dates, little where there are several a season.

    The dates of one level and stratum speak for themselves from 6 degrees of freedom on. Where there are
    fewer, levels are pooled, then quarters (successive dates of any quarter count then), orbits and sensors;
    where the whole lake has less than 6, those of the lake count from 2 on. Less is no estimate: NaN.

    A value takes no part in the sum of its own date: it would widen its own interval and hide its own
    change. So ``c`` differs a little from date to date in a stratum. An area of 0 has no outline, takes no
    part and has the sigma ``floor``; nor do dates without ``u`` take part.

    Parameters
    ----------
    of
        The areas, m2, and what they are compared by.
    stable
        ``(lake, time)`` bool: a value that counts.
    level
        ``(lake, time)`` int64, how many changes of level came before.
    kept
        Share of a normal variance that taking out outliers leaves; the variance is divided by it.
    floor
        ``(lake,)``, m2: no sigma is smaller, see :func:`rounding_floor`.

    Returns
    -------
    tuple of numpy.ndarray
        ``(lake, time)`` float64: m2, NaN where there are too few differences, and degrees of freedom, 0
        there. Dates without a value have those of their stratum too.

    References
    ----------
    von Neumann, Kent, Bellinson & Hart (1941), Annals of Mathematical Statistics 12, 153-162,
    doi:10.1214/aoms/1177731746.
    """
    lake, sensors, source, stratum = of.pools()
    levels = int(level.max(initial=0)) + 1
    ratio, dof = np.full(of.area.shape, np.nan), np.zeros(of.area.shape)
    of_source = _differences(of, source, stable, level, LONGEST_DAYS)
    of_stratum = _differences(of, stratum, stable, level, LONGEST_DAYS)
    for found, pool, least in (
        (of_source, lake, LEAST_DOF),
        (of_source, sensors, ENOUGH_DOF),
        (of_source, source, ENOUGH_DOF),
        (of_stratum, stratum, ENOUGH_DOF),
        (of_source, source * levels + level, ENOUGH_DOF),
        (of_stratum, stratum * levels + level, ENOUGH_DOF),
    ):
        squares, count, runs = _sums_of_others(of, found, pool)
        free = differences_dof(count, runs)
        with np.errstate(invalid="ignore", divide="ignore"):
            pooled = np.maximum(squares, 0) / (count * kept)
        take = free >= least
        ratio, dof = np.where(take, pooled, ratio), np.where(take, free, dof)
    return np.maximum(np.sqrt(ratio) * of.outline, np.where(dof > 0, floor[:, None], np.nan)), dof


def robust_scatter(of: Repeats, usable: NDArray[np.bool_]) -> Float:
    """A scale of the scatter of each date's stratum that spikes and steps hardly move, over the outline.

    The median of the absolute successive differences, each over ``sqrt(u1^2 + u2^2)``, over 0.674, its value
    for normal scatter of one sigma. Pooled like :func:`repeat_sigma`, from 8 differences on, for a lake from
    3 on. Dates far apart count too: a value is compared with those before it, however long before.

    Parameters
    ----------
    of
        As for :func:`repeat_sigma`.
    usable
        ``(lake, time)`` bool: a value that counts.

    Returns
    -------
    numpy.ndarray
        ``(lake, time)`` float64, without unit, to be multiplied by an outline; 0 where there are fewer
        differences.
    """
    lake, sensors, source, stratum = of.pools()
    scale, level = np.zeros(of.area.shape), np.zeros_like(of.stratum)
    of_source = _differences(of, source, usable, level, np.inf)
    of_stratum = _differences(of, stratum, usable, level, np.inf)
    for found, pool, least in (
        (of_source, lake, _LEAST_DIFFERENCES),
        (of_source, sensors, _ENOUGH_DIFFERENCES),
        (of_source, source, _ENOUGH_DIFFERENCES),
        (of_stratum, stratum, _ENOUGH_DIFFERENCES),
    ):
        group, mine, groups = _grouped(found, pool)
        count = np.bincount(group, minlength=groups)
        median = _group_median(group, np.abs(found.size), count)
        scale = np.where(count[mine] >= least, median[mine] / _MEDIAN_OF_NORMAL, scale)
    return scale


def interval(series: xr.Dataset, *, confidence: float = 0.95) -> xr.Dataset:
    """Interval of each area from the scatter of repeated measurements.

    ``area`` plus and minus Student's t times ``sigma_repeat``, with ``sigma_repeat_dof`` degrees of freedom.
    It says how far the same lake would come out again, and takes the errors as independent from view to
    view. Where they are not, as with snow or shadow that stays for weeks, differences of neighbours are too
    small and so is the interval: with errors that correlate by 0.5 from date to date (an autoregressive
    process of the first order), intervals of 68% cover about 52% and those of 95% about 84%. A bias that all
    dates share, as of a model that maps every shore too wide, is not in it.

    Parameters
    ----------
    series
        ``area``, ``sigma_repeat``, ``sigma_repeat_dof`` as :func:`xglof.lakes.series.flag_series` and
        :func:`xglof.lakes.fusion.fuse_sensors` return them.
    confidence
        Probability that the interval covers, between 0 and 1.

    Returns
    -------
    xarray.Dataset
        ``lower`` and ``upper``, float64 m2 on the dims of ``area``, lazy where it is. NaN where ``area`` or
        its sigma is. ``lower`` may be below 0.

    Raises
    ------
    CubeError
        A variable is missing, or ``confidence`` is no probability.

    References
    ----------
    Student (1908), Biometrika 6, 1-25, doi:10.1093/biomet/6.1.1.
    """
    if missing := [name for name in ("area", "sigma_repeat", "sigma_repeat_dof") if name not in series]:
        raise CubeError(f"the series has no {', '.join(missing)}; make them with xglof.lakes.flag_series")
    if not 0 < confidence < 1:
        raise CubeError(f"confidence is {confidence}; expected a probability between 0 and 1")
    quantile = functools.partial(_student_t, confidence=confidence)
    reach = series["sigma_repeat"] * xr.apply_ufunc(
        quantile, series["sigma_repeat_dof"], dask="parallelized", output_dtypes=[np.float64]
    )
    ends = xr.Dataset({"lower": series["area"] - reach, "upper": series["area"] + reach})
    for name, end in ends.data_vars.items():
        end.attrs = {
            "long_name": f"{name} end of the {confidence:.0%} interval of lake area",
            "units": "m2",
            "comment": "area and Student's t times sigma_repeat, by sigma_repeat_dof degrees of freedom",
        }
    return ends.assign_attrs({"confidence": confidence, "interval_rests_on": "sigma_repeat"})


def _student_t(dof: Float, *, confidence: float) -> Float:
    from scipy.special import stdtrit

    quantile: Float = stdtrit(np.where(dof > 0, dof, np.nan), 0.5 + confidence / 2)
    return quantile


@dataclass(frozen=True, slots=True)
class _Differences:
    """Successive differences of values, each ``(difference,)``.

    ``size`` is the difference over the root of the sum of the squares of the two outlines, ``before`` and
    ``after`` the flat places of its two values, ``begins`` whether it begins an unbroken run, ``ends``
    whether it ends one; ``longest`` the days that it may span.
    """

    size: Float
    before: Int
    after: Int
    begins: NDArray[np.bool_]
    ends: NDArray[np.bool_]
    longest: float


def _differences(
    of: Repeats, within: Int, usable: NDArray[np.bool_], level: Int, longest: float
) -> _Differences:
    at = np.flatnonzero(usable & (of.outline > 0))
    at = at[np.argsort(within.ravel()[at], kind="stable")]
    before, after = at[:-1], at[1:]
    alike = [numbers.ravel()[before] == numbers.ravel()[after] for numbers in (within, level)]
    joined = alike[0] & alike[1] & (_days_between(of, before, after) <= longest)
    before, after = before[joined], after[joined]
    linked = np.concatenate([[False], after[:-1] == before[1:], [False]])[: len(before) + 1]
    return _Differences(_sizes(of, before, after), before, after, ~linked[:-1], ~linked[1:], longest)


def _days_between(of: Repeats, before: Int, after: Int) -> Float:
    steps = max(len(of.days), 1)
    return of.days[after % steps] - of.days[before % steps]


def _sizes(of: Repeats, before: Int, after: Int) -> Float:
    area, outline = of.area.ravel(), of.outline.ravel()
    return (area[after] - area[before]) / np.hypot(outline[before], outline[after])


def _sums_of_others(of: Repeats, found: _Differences, pool: Int) -> tuple[Float, Float, Float]:
    """Sum of squares, count and runs of each date's pool, as they are without that date."""
    group, mine, groups = _grouped(found, pool)
    parts = found.size**2, np.ones_like(found.size), found.begins.astype(float)
    squares, count, runs = (
        np.bincount(group, weights=part, minlength=groups)[mine] - less.reshape(mine.shape)
        for part, less in zip(parts, _own_part(of, found), strict=True)
    )
    return squares, count, runs


def _own_part(of: Repeats, found: _Differences) -> tuple[Float, Float, Float]:
    """What each date adds to the squares, the count and the runs of its pool, against being absent."""
    squares, count, runs = np.zeros((3, of.area.size))
    for ends, last in ((found.before, found.ends), (found.after, found.begins)):
        np.add.at(squares, ends, found.size**2)
        np.add.at(count, ends, 1)
        np.add.at(runs, ends, ~last)
    runs = np.where(count > 0, 1 - runs, 0)  # one run with the date; without it what is left on its two sides
    inner = np.flatnonzero(~found.begins)
    before, date, after = found.before[inner - 1], found.before[inner], found.after[inner]
    bridged = _days_between(of, before, after) <= found.longest
    before, date, after = before[bridged], date[bridged], after[bridged]
    squares[date] -= _sizes(of, before, after) ** 2
    count[date] -= 1
    runs[date] = 0
    return squares, count, runs


def _grouped(found: _Differences, pool: Int) -> tuple[Int, Int, int]:
    """Group of each difference, ``(lake, time)`` group of each date, and how many groups there are."""
    numbers, mine = np.unique(pool, return_inverse=True)
    mine = mine.reshape(pool.shape)
    return mine.ravel()[found.after], mine, len(numbers)


def _group_median(group: Int, values: Float, count: Int) -> Float:
    """Median of the values of each group, NaN for an empty one."""
    ordered = np.append(values[np.lexsort((values, group))], np.nan)
    first = np.cumsum(count) - count
    lower = ordered[first + np.maximum(count - 1, 0) // 2]
    upper = ordered[np.minimum(first + count // 2, len(values))]
    return np.where(count > 0, (lower + upper) / 2, np.nan)
