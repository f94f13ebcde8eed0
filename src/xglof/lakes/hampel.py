"""Single dates that stand apart from a series and are cleared by the next one (a causal Hampel filter)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xglof.lakes.scatter import QUARTERS, Float, Repeats

Bool = NDArray[np.bool_]

#: Fit values before a date that it is compared with: up to, and at least.
WINDOW, LEAST = 5, 3
#: Times the median absolute deviation of normal values, their sigma.
_MAD_TO_SIGMA = 1.4826
#: Variance of the median of 5 normal values of variance 1 (order statistics).
_MEDIAN_VARIANCE = 0.28683


@dataclass(frozen=True, slots=True)
class _Found:
    """What the walks over the sources wrote down, each ``(lake, time)``.

    ``apart``: the date stands apart from its window. ``side``: 1 above the band, -1 below, of the window or,
    while that fills, of the value before; also of the value after one that stands apart; 0 within.
    ``begins``: a level begins. ``before``, ``after``: at a date that was cleared, the dates of the values of
    its source on both sides, else -1.
    """

    apart: Bool
    side: NDArray[np.int64]
    begins: Bool
    before: NDArray[np.int64]
    after: NDArray[np.int64]


def isolated_dates(
    of: Repeats, fit: Bool, scatter: Float, *, least: Float, hampel: float
) -> tuple[Bool, Bool, NDArray[np.int64]]:
    """Dates that stand apart, those of them that the next one cleared, and changes of level.

    See :func:`xglof.lakes.series.flag_series` for the rule. Each source is walked for itself, for sources
    differ by a bias. Where a deviation was not cleared by the next fit value the level changed at it; a
    second value that lies out of the band around the first begins another level, and so does every one out
    of that band around its predecessor until the window has 3 again. One that nothing followed yet stands on
    a level of its own. A change of level in one source is one of the lake.

    A deviation that was cleared is no outlier if between the two values of its source around it another
    source deviates to the same side: two that saw it are no accident, and it stands on a level of its own.

    Parameters
    ----------
    of
        The areas, m2, and what they are compared by; the quarter in a stratum does not count.
    fit
        ``(lake, time)`` bool: the dates that are looked at.
    scatter
        ``(lake, time)`` float64: times the outline of the latest value of the window, the least scale of a
        deviation at a date.
    least
        ``(lake,)`` float64, m2: no scale is smaller.
    hampel
        Width of the band, in scales.

    Returns
    -------
    tuple of numpy.ndarray
        ``(lake, time)``: suspect, bool; outlier, bool (no date is both); and how many changes of level there
        were up to each date, int64.

    References
    ----------
    Hampel (1974), Journal of the American Statistical Association 69, 383-393,
    doi:10.1080/01621459.1974.10482962.
    """
    shape, source = of.area.shape, of.stratum // QUARTERS
    found = _Found(
        np.zeros(shape, bool), np.zeros(shape, np.int64), np.zeros(shape, bool),
        np.full(shape, -1), np.full(shape, -1),
    )  # fmt: skip
    for one in np.unique(source[fit]):
        _walk(of, fit & (source == one), scatter, least, hampel, found)
    lake, date = np.nonzero(found.after >= 0)
    shared = _seen_by_another(found, lake, date)
    outlier = found.after >= 0
    outlier[lake[shared], date[shared]] = False
    found.begins[lake[shared], date[shared]] = True
    found.begins[lake[shared], found.after[lake, date][shared]] = True
    return found.apart & ~outlier, outlier, np.cumsum(found.begins, axis=1)


def _seen_by_another(found: _Found, lake: NDArray[np.int64], date: NDArray[np.int64]) -> Bool:
    """Whether another source deviates to the same side as each cleared date, ``(cleared,)``.

    Between the values around it, the date itself is the only one of its own source.
    """
    seen = np.zeros(len(lake), np.int64)
    for side in (-1, 1):
        count = np.cumsum(found.side == side, axis=1)
        between = count[lake, found.after[lake, date] - 1] - count[lake, found.before[lake, date]]
        seen += np.where(found.side[lake, date] == side, between, 0)
    return seen > 1


def _walk(of: Repeats, fit: Bool, scatter: Float, least: Float, hampel: float, found: _Found) -> None:
    """Write down what stands apart in one source, whose dates are ``fit``."""
    lakes = len(fit)
    window = np.full((lakes, WINDOW), np.nan)
    middle, band, last, outline = (np.full(lakes, np.nan) for _ in range(4))
    waiting, intact = np.full(lakes, -1), np.full(lakes, -1)  # the date that stands apart, the one before it
    every = np.arange(lakes)
    for step in np.flatnonzero(fit.any(axis=0)):
        value, now = of.area[:, step], fit[:, step]
        followed = now & (waiting >= 0)
        back = followed & (np.abs(value - middle) <= band)
        moved = followed & ~back
        found.after[every[back], waiting[back]] = step
        found.before[every[back], waiting[back]] = intact[back]
        found.begins[every[moved], waiting[moved]] = True
        window[moved] = np.nan
        window[moved, -1] = last[moved]
        count, median, deviation = _middle(window)
        with np.errstate(invalid="ignore"):
            stray = now & (np.abs(value - last) > band) & ~back & (moved | (count < LEAST))
        found.begins[:, step] |= stray
        reach = hampel * np.fmax(np.fmax(_MAD_TO_SIGMA * deviation, scatter[:, step] * outline), least)
        apart = now & ~followed & (count >= LEAST) & (np.abs(value - median) > reach)
        middle, band = np.where(apart, median, middle), np.where(apart, reach, band)
        found.apart[apart, step] = True
        found.side[stray, step] = np.sign(value - last)[stray]
        away = apart | moved
        found.side[away, step] = np.sign(value - middle)[away]
        waiting = np.where(apart, step, np.where(followed, -1, waiting))
        joins = now & ~apart
        window[joins] = np.column_stack([window[joins, 1:], value[joins]])
        last, intact = np.where(now, value, last), np.where(joins, step, intact)
        outline = np.where(joins, of.outline[:, step], outline)
    found.begins[every[waiting >= 0], waiting[waiting >= 0]] = True


def kept_variance(hampel: float) -> float:
    """Share of the variance of normal values that is left once those far from the median are taken out.

    A value and the median of the 5 before it differ with the variance ``1 + 0.287``. Cut off at ``hampel``
    sigmas, the difference loses the share ``2 c f(c) / (2 F(c) - 1)`` of its variance, ``f`` and ``F`` being
    the normal density and distribution and ``c`` the cut in its own sigmas; the value loses what it has of
    it. Without this the scatter of the dates that were kept would be too small by construction.

    Parameters
    ----------
    hampel
        Width of the band, in sigmas of a value.

    Returns
    -------
    float
        Above 0, up to 1.

    Examples
    --------
    >>> round(kept_variance(3.0), 3), round(kept_variance(6.0), 3)
    (0.95, 1.0)
    """
    spread = 1 + _MEDIAN_VARIANCE
    cut = hampel / math.sqrt(spread)
    density = math.exp(-(cut**2) / 2) / math.sqrt(2 * math.pi)
    return 1 - 2 * cut * density / math.erf(cut / math.sqrt(2)) / spread


def _middle(window: Float) -> tuple[NDArray[np.int64], Float, Float]:
    """Count, median and median absolute deviation of the finite values of each row; NaN for none."""
    count = np.isfinite(window).sum(axis=1)
    median = _row_median(window, count)
    return count, median, _row_median(np.abs(window - median[:, None]), count)


def _row_median(values: Float, count: NDArray[np.int64]) -> Float:
    ordered = np.sort(values, axis=1)  # NaN last
    rows = np.arange(len(values))
    median: Float = (
        ordered[rows, np.maximum(count - 1, 0) // 2] + ordered[rows, count // 2 % values.shape[1]]
    ) / 2
    return median
