"""Scatter of a lake without the observation under test: a change must not hide in its own yardstick."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xglof.lakes.scatter import ENOUGH_DOF, LEAST_DOF, LONGEST_DAYS, differences_dof

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Whole = NDArray[Any]

#: A stratum that scatters more than its source, by this many standard errors of its sigma, keeps to itself.
#: Few: a stratum of half as much scatter again that is taken for a quiet one alerts ten times as often.
_NOISIER = 0.8
#: Change of the outline (logarithm) from which on a lake is another one: the ratio need not stay the same.
_OTHER_SIZE = np.log(1.25)


def external_ratio(
    area: Float, outline: Float, days: Float, pools: tuple[Whole, Whole], stable: Bool, level: Whole
) -> tuple[Float, Float]:
    """Sigma of repeated measurement over sigma of the outline, from differences the date has no part in.

    Border errors grow with the border, so the successive differences ``d`` of stable dates within a source
    or a stratum count in units of the outline: ``c^2 = sum(d^2 / (u1^2 + u2^2)) / k``, sigma being ``c u``.
    Only those count that lie before the date and its neighbours in time, or after them. None spans a change
    that begins at the date, and a single observation and a pair of them are independent of the sigma that
    they are measured by, as Student's distribution asks.

    A date has the ratio of its source, because thresholds far out in the tails need degrees of freedom; or of
    its stratum, where that scatters more. Levels are pooled as long as the outline changes by less than a
    quarter between them, and a date has the ratio of the level before it: that is what it is compared with.
    From less than 6 degrees of freedom sizes are pooled, then the sources of the lake, there from 2 on.

    Parameters
    ----------
    area, outline, stable, level
        ``(lake, time)``: m2; sigma of the outline, m2, which tells nothing where it is 0; values that count;
        changes of level up to the date.
    days
        ``(time,)``, rising.
    pools
        ``(lake, time)`` whole numbers of strata, and of the sources that they are part of.

    Returns
    -------
    tuple of numpy.ndarray
        The ratio and its degrees of freedom, ``(lake, time)``; NaN where not computable.
    """
    stratum, source = pools
    stable = stable & (outline > 0)
    before, _ = neighbours(stable)
    size = _sizes(outline, stable, level, before)
    earlier = np.take_along_axis(size, before, axis=1)
    of_source = _Differences(area, outline, days, source, stable, level)
    of_stratum = _Differences(area, outline, days, stratum, stable, level)
    sizes, nothing = int(size.max(initial=0)) + 1, np.zeros_like(source)
    ratio, dof = np.full(area.shape, np.nan), np.full(area.shape, np.nan)
    for differences, own, asked, least, reach in (
        (of_source, nothing, nothing, LEAST_DOF, -np.inf),
        (of_source, source, source, ENOUGH_DOF, -np.inf),
        (of_source, source * sizes + size, source * sizes + earlier, ENOUGH_DOF, -np.inf),
        (of_stratum, stratum * sizes + size, stratum * sizes + earlier, ENOUGH_DOF, _NOISIER),
    ):
        found, free = differences.without(own, asked, least)
        with np.errstate(invalid="ignore", divide="ignore"):
            take = (free > 0) & ~(found <= ratio * (1 + reach / np.sqrt(2 * free)))
        ratio, dof = np.where(take, found, ratio), np.where(take, free, dof)
    return ratio, dof


def _sizes(outline: Float, stable: Bool, level: Whole, before: Whole) -> Whole:
    """How many changes of level came before each date that changed the outline by a quarter or more."""
    change = np.maximum(outline, 1e-9) / np.maximum(np.take_along_axis(outline, before, axis=1), 1e-9)
    changed = stable & np.take_along_axis(stable, before, axis=1) & (np.abs(np.log(change)) > _OTHER_SIZE)
    return np.cumsum(changed & (level != np.take_along_axis(level, before, axis=1)), axis=1)


class _Differences:
    """Squared successive differences of stable dates of one kind, at the dates where they begin and end."""

    def __init__(
        self, area: Float, outline: Float, days: Float, within: Whole, stable: Bool, level: Whole
    ) -> None:
        dates = area.shape[1]
        at = np.flatnonzero(stable)
        key = within.ravel()[at] + (int(within.max(initial=0)) + 1) * (at // max(dates, 1))
        order = np.argsort(key, kind="stable")
        at, key = at[order], key[order]
        day = days[at % max(dates, 1)]
        joined = (key[1:] == key[:-1]) & (level.ravel()[at[1:]] == level.ravel()[at[:-1]])
        joined &= day[1:] - day[:-1] <= LONGEST_DAYS
        begin, end = at[:-1][joined], at[1:][joined]
        expected = outline.ravel()[begin] ** 2 + outline.ravel()[end] ** 2
        square = (area.ravel()[end] - area.ravel()[begin]) ** 2 / expected
        self.at_begin, self.at_end = np.zeros(area.shape), np.zeros(area.shape)
        self.at_begin.ravel()[begin], self.at_end.ravel()[end] = square, square
        self.begins, self.ends = np.zeros(area.shape, bool), np.zeros(area.shape, bool)
        self.begins.ravel()[begin], self.ends.ravel()[end] = True, True
        self.before, self.after = neighbours(stable)

    def without(self, own: Whole, asked: Whole, least: float) -> tuple[Float, Float]:
        """Ratio and degrees of freedom of the pool that each date asks, from what lies apart from it."""
        ratio, dof = np.full(own.shape, np.nan), np.full(own.shape, np.nan)
        for number in np.unique(asked):
            rows = np.flatnonzero((asked == number).any(axis=1))
            mine = own[rows] == number
            begins, ends = self.begins[rows] & mine, self.ends[rows] & mine
            total = self._rest(self.at_begin[rows] * mine, self.at_end[rows] * mine, rows)
            count = self._rest(begins.astype(float), ends.astype(float), rows)
            runs = (begins & ~ends).sum(axis=1, keepdims=True)
            free = differences_dof(count, np.clip(runs, 1, np.maximum(count, 1)))
            row, date = np.nonzero((asked[rows] == number) & (free >= least))
            ratio[rows[row], date] = np.sqrt(total[row, date] / count[row, date])
            dof[rows[row], date] = free[row, date]
        return ratio, dof

    def _rest(self, at_begin: Float, at_end: Float, rows: Whole) -> Float:
        """Sum over what ends before the date before each date, or begins after the one after it."""
        none = np.zeros((len(at_end), 1))
        ended = np.concatenate([none, np.cumsum(at_end, axis=1)], axis=1)
        to_come = np.concatenate([np.cumsum(at_begin[:, ::-1], axis=1)[:, ::-1], none, none], axis=1)
        found: Float = np.take_along_axis(ended, self.before[rows], axis=1)
        return np.asarray(found + np.take_along_axis(to_come, self.after[rows] + 1, axis=1))


def neighbours(stable: Bool) -> tuple[Whole, Whole]:
    """The stable date before each date, 0 for none, and the one after, the number of dates for none."""
    dates = stable.shape[1]
    place = np.arange(dates)
    first, last = np.zeros((len(stable), 1), np.int64), np.full((len(stable), 1), dates)
    before = np.maximum.accumulate(np.where(stable, place, 0), axis=1)[:, :-1]
    after = np.minimum.accumulate(np.where(stable, place, dates)[:, ::-1], axis=1)[:, ::-1][:, 1:]
    return np.concatenate([first, before], axis=1), np.concatenate([after, last], axis=1)
