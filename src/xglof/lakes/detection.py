"""The walk along the observations of many lakes at once: baselines, suspicion, alerts.

Arrays only; what is a date, a sensor or a lake's name is for :mod:`xglof.lakes.alerts`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xglof.lakes.scatter import ENOUGH_DOF
from xglof.lakes.thresholds import BIAS_OF_OUTLINE, EACH, pair_quantile, per_observation, single_quantile

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Int = NDArray[np.int64]

#: A baseline is the mean of the steady observations of this many days, the latest 32 of them at the most,
#: and of the last two however old they are.
BASELINE_DAYS, BASELINE_MOST, BASELINE_LEAST = 730.5, 32, 2
PROVISIONAL, CONFIRMED, WITHDRAWN = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Views:
    """What was seen of each lake, or group of lakes, at each date; ``(lake, time)`` unless said.

    Attributes
    ----------
    days
        ``(time,)`` float64, days since any origin, rising.
    area
        Float64, m2, NaN where there is no point value.
    lower, upper
        What the area is at least and at most, float64, m2, NaN for none; both are the area where all was
        seen, and the lower one is where there is a point value.
    ratio, dof
        Scatter of repeated measurement over the sigma of the outline, and its degrees of freedom; NaN where
        it is not computable.
    outline
        Sigma of the outline, m2, taken as known; NaN for none.
    floor
        ``(lake,)`` float64, m2: no scatter is smaller.
    weak
        A value that confirms nothing, withdraws nothing and enters no baseline.
    source
        Whole numbers: observations of one number share their bias.
    rate
        ``(lake,)`` float64, point values a year.
    """

    days: Float
    area: Float
    lower: Float
    upper: Float
    ratio: Float
    dof: Float
    outline: Float
    floor: Float
    weak: Bool
    source: NDArray[Any]
    rate: Float


@dataclass(frozen=True, slots=True)
class Judged:
    """One date of all lakes against their baselines; ``(lake,)``, m2 and m4.

    Attributes
    ----------
    before, count
        The baseline, and of how many observations it is the mean.
    variance, spread
        Of the view in this comparison, and of what another view would share: the baseline, and the bias
        between sources where they are compared.
    own
        Variance of the view as one of a baseline.
    repeat
        The variance is that of repeated measurement, not of the outline.
    new
        The view is compared with other sources: its own has no baseline yet.
    quantile
        Student's, for the mean of two in a row.
    low, high
        Thresholds of such a mean and of a single observation.
    change
        View less baseline; where a part was hidden what is certain of it.
    side
        Sign of a change that could be one of two in a row, else 0.
    told
        The view shows a change, or that there is none, whatever was hidden.
    """

    before: Float
    count: Int
    variance: Float
    spread: Float
    own: Float
    repeat: Bool
    new: Bool
    quantile: Float
    low: Float
    high: Float
    change: Float
    side: Int
    told: Bool


#: What is kept of the first suspicious view.
_FIRST = (
    "date",
    "area",
    "source",
    "steady",
    "before",
    "variance",
    "spread",
    "own",
    "quantile",
    "change",
    "repeat",
    "new",
    "hidden",
    "outline",
)
_RECORD: dict[str, Any] = {
    "lake": np.int64, "side": np.int64, "first": np.int64, "intact": np.int64, "raised": np.int64,
    "decided": np.int64, "status": np.int64, "before": np.float64, "change": np.float64,
    "threshold": np.float64, "sigma": np.float64, "repeat": np.bool_,
}  # fmt: skip


@dataclass(slots=True)
class _State:
    """Where the walk stands; the newest observation of a baseline lies in column 0."""

    values: Float
    variances: Float
    outlines: Float
    hidden: Float  # what may be missing from a value
    days: Float
    sources: NDArray[Any]
    intact: Int
    side: Int  # of the observations that are not explained: suspicious, or alerted and open
    open: Int  # number of the open alert, -1 for none
    first: dict[str, NDArray[Any]]  # the first of those observations
    records: list[dict[str, NDArray[Any]]] = field(default_factory=list)
    decisions: list[tuple[Int, int, int]] = field(default_factory=list)
    alerts: int = 0


def walk(views: Views, false_alarms: float) -> tuple[dict[str, NDArray[Any]], Judged]:
    """Every alert as it would have been issued date by date, and the state after the last date.

    Returns
    -------
    tuple
        Arrays of one length, an alert an entry: ``lake``, ``first``, ``intact``, ``raised``, ``decided``
        (indices along time; -1 for none), ``side`` (1 expansion, -1 drainage), ``status``, ``before``,
        ``change``, ``threshold``, ``sigma`` (m2), ``repeat`` (sigma is that of repeated measurement). And
        the thresholds that a next observation like the last one of each lake would meet.
    """
    lakes, dates = views.area.shape
    state = _start(lakes)
    budget = per_observation(false_alarms, views.rate)
    last = np.full(lakes, -1)
    for date in range(dates):
        seen = _judge(views, state, budget, np.full(lakes, date), np.full(lakes, views.days[date]))
        last = np.where(np.isfinite(views.area[:, date]) & ~views.weak[:, date], date, last)
        _advance(state, seen, views, date)
    end = np.full(lakes, views.days[-1] if dates else 0.0)
    return _records(state), _judge(views, state, budget, last, end)


def _start(lakes: int) -> _State:
    values, variances, outlines, hidden, days = (np.full((lakes, BASELINE_MOST), np.nan) for _ in range(5))
    kinds = {"date": int, "steady": bool, "repeat": bool, "source": int, "new": bool}
    first: dict[str, NDArray[Any]] = {name: np.zeros(lakes, kinds.get(name, float)) for name in _FIRST}
    none, sources = np.full(lakes, -1), np.full(values.shape, -1)
    side = np.zeros(lakes, int)
    return _State(values, variances, outlines, hidden, days, sources, none.copy(), side, none, first)


def _judge(views: Views, state: _State, budget: Float, date: Int, today: Float) -> Judged:
    """The views of a date (one for each lake) against the baselines.

    Under test is that the lake stands still, so the scatter of a view is that of an area like its baseline.
    """
    every = np.arange(len(date))
    source, outline, dof = (array[every, date] for array in (views.source, views.outline, views.dof))
    used, alike = _baseline(state, today, source)
    count = used.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        before, mean, square, hidden = (
            np.where(used, array, 0).sum(axis=1) / count
            for array in (state.values, state.variances, state.outlines**2, state.hidden)
        )
        border = np.fmax(np.sqrt(square), outline)
        trusted = (dof >= ENOUGH_DOF) & np.isfinite(views.ratio[every, date])
        own, scatter = (_variance(views, every, date, of, trusted) for of in (outline, border))
        repeat = alike & trusted
        variance = np.where(repeat, scatter, np.fmax(np.fmax(scatter, border**2), mean))
        spread = mean / count + np.where(alike, 0.0, (BIAS_OF_OUTLINE * border) ** 2)
        freedom = np.where(repeat, dof, np.inf)
        quantile = pair_quantile(budget, freedom)
        low = quantile * np.sqrt(variance / 2 + spread)
        high = single_quantile(budget, freedom) * np.sqrt(variance + spread)
        lower, upper = (array[every, date] for array in (views.lower, views.upper))
        change = _certain(lower - before - hidden, upper - before)
        far = np.where(count < BASELINE_LEAST, high, EACH * low)  # two views that differ are a baseline
        side = np.where((np.abs(change) > far) & (low > 0), np.sign(change), 0).astype(int)
        within = (before - lower <= far) & (upper - before - hidden <= far)
    told = (side != 0) | within | (np.isfinite(views.area[every, date]) & ~(low > 0))
    return Judged(
        before, count, variance, spread, own, repeat, ~alike, quantile, low, high, change, side, told
    )


def _variance(views: Views, every: Int, date: Int, outline: Float, trusted: Bool) -> Float:
    """Of a view with this outline: of repeated measurement; not below the outline's from too few dates."""
    scatter = np.fmax(views.ratio[every, date] * outline, views.floor)
    found = np.where(trusted, scatter, np.maximum(outline, scatter))
    return np.asarray(found**2)


def _certain(above: Float, below: Float) -> Float:
    """Change that is certain whatever was hidden, from how far the bounds lie above the baseline."""
    return np.where(below < 0, below, np.where(above > 0, above, 0.0))


def _baseline(state: _State, today: Float, source: NDArray[Any]) -> tuple[Bool, Bool]:
    """Which steady observations a view is compared with, and whether they share its bias.

    Those of its own source where there are two or more. Else all: what the sources differ by is not known
    then. Of these the ones that were seen whole, where there are two or more.
    """
    recent = today[:, None] - state.days <= BASELINE_DAYS
    recent[:, :BASELINE_LEAST] = np.isfinite(state.days[:, :BASELINE_LEAST])
    same = recent & (state.sources == source[:, None])
    alike = (same.sum(axis=1) >= BASELINE_LEAST) | (same == recent).all(axis=1)
    used = np.where(alike[:, None], same, recent)
    whole = used & (state.hidden**2 <= state.variances)
    enough = whole.sum(axis=1) >= BASELINE_LEAST
    return np.where(enough[:, None], whole, used), alike


def _advance(state: _State, seen: Judged, views: Views, date: int) -> None:
    """One step of every lake: confirm, withdraw, raise, suspect, or take into the baseline."""
    weak, is_open = views.weak[:, date], state.open >= 0
    again = (seen.side != 0) & (seen.side == state.side)
    alone, clear = np.abs(seen.change) > seen.high, np.abs(seen.change) > seen.low
    confirmed = is_open & again & clear & ~weak
    withdrawn = is_open & seen.told & ~again & ~weak
    _decide(state, confirmed, date, CONFIRMED)
    _decide(state, withdrawn, date, WITHDRAWN)
    free = seen.told & (~is_open | withdrawn)
    mean, needed = _of_two(state, seen)
    company = ~alone | (np.abs(state.first["change"]) > seen.low)  # a spike carries no pair by itself
    pair = free & again & ~is_open & (mean > needed) & company
    suspicious = free & ~pair & (seen.side != 0)
    ready = seen.count >= BASELINE_LEAST
    unheard = free & ~pair & (state.side != 0) & state.first["new"] & state.first["steady"]
    _take(state, unheard, state.first, views.days[np.maximum(state.first["date"], 0)])
    quiet = (state.side == 0) & (seen.side == 0) & ~is_open
    view = _as_first(seen, views, date)
    _note_first(state, suspicious, seen, view)
    _raise(state, suspicious & ready & alone, seen, date, seen.high)
    _raise(state, pair & ready, seen, date, needed)
    _decide(state, pair & ready & ~weak, date, CONFIRMED)
    changed = confirmed | (pair & ~weak)
    _restart(state, changed, view, views, date)
    steady = free & (seen.side == 0)
    state.side = np.where(steady | changed, 0, state.side)
    state.intact = np.where(steady | changed, date, state.intact)
    _take(state, (steady | quiet) & ~weak, view, views.days[date])


def _of_two(state: _State, seen: Judged) -> tuple[Float, Float]:
    """Size of the mean change of the first suspicious view and this one, and its threshold, m2.

    Both views may have one baseline in common, so its variance does not halve.
    """
    first = state.first
    variance = (first["variance"] + seen.variance) / 4 + (first["spread"] + seen.spread) / 2
    quantile = np.fmax(first["quantile"], seen.quantile)
    with np.errstate(invalid="ignore"):
        return np.abs(first["change"] + seen.change) / 2, quantile * np.sqrt(variance)


def _as_first(seen: Judged, views: Views, date: int) -> dict[str, NDArray[Any]]:
    """What is kept of a view."""
    area = views.area[:, date]
    found = {name: getattr(seen, name) for name in _FIRST if hasattr(seen, name)}
    return found | {
        "date": np.full(len(area), date), "area": area, "source": views.source[:, date],
        "steady": np.isfinite(area) & ~views.weak[:, date], "hidden": views.upper[:, date] - area,
        "outline": views.outline[:, date],
    }  # fmt: skip


def _note_first(state: _State, where: Bool, seen: Judged, view: dict[str, NDArray[Any]]) -> None:
    """Remember a suspicious view that makes no pair with the one before it."""
    for name, values in view.items():
        state.first[name] = np.where(where, values, state.first[name])
    state.side = np.where(where, seen.side, state.side)


def _raise(state: _State, where: Bool, seen: Judged, date: int, threshold: Float) -> None:
    at = np.flatnonzero(where)
    if not at.size:
        return
    first = {name: values[at] for name, values in state.first.items()}
    state.open[at] = state.alerts + np.arange(at.size)
    state.alerts += at.size
    state.records.append(
        {
            "lake": at, "side": seen.side[at], "first": first["date"], "intact": state.intact[at],
            "raised": np.full(at.size, date), "before": first["before"], "change": first["change"],
            "threshold": threshold[at], "sigma": np.sqrt(first["variance"]), "repeat": first["repeat"],
        }
    )  # fmt: skip


def _decide(state: _State, where: Bool, date: int, status: int) -> None:
    at = np.flatnonzero(where)
    if at.size:
        state.decisions.append((state.open[at].copy(), date, status))
        state.open[at] = -1


def _restart(state: _State, where: Bool, view: dict[str, NDArray[Any]], views: Views, date: int) -> None:
    """Empty the baselines of lakes that changed and begin new ones with the changed observations."""
    if not where.any():
        return
    for array in (state.values, state.variances, state.outlines, state.hidden, state.days):
        array[where] = np.nan
    first = state.first
    _take(state, where & first["steady"], first, views.days[np.maximum(first["date"], 0)])
    _take(state, where, view, views.days[date])


def _take(state: _State, where: Bool, view: dict[str, NDArray[Any]], days: Any) -> None:
    """Put an observation in front of the baselines."""
    at = np.flatnonzero(where & np.isfinite(view["area"]) & np.isfinite(view["own"]))
    if not at.size:
        return
    days = np.broadcast_to(days, where.shape)
    for array, values in (
        (state.values, view["area"]), (state.variances, view["own"]), (state.outlines, view["outline"]),
        (state.hidden, view["hidden"]), (state.days, days), (state.sources, view["source"]),
    ):  # fmt: skip
        array[at] = np.column_stack([values[at], array[at, :-1]])


def _records(state: _State) -> dict[str, NDArray[Any]]:
    decided, status = np.full(state.alerts, -1), np.full(state.alerts, PROVISIONAL)
    for numbers, date, verdict in state.decisions:
        decided[numbers], status[numbers] = date, verdict
    found = {"decided": decided, "status": status}
    for name, kind in _RECORD.items():
        if name not in found:
            parts = [record[name] for record in state.records]
            found[name] = np.concatenate([np.zeros(0, kind), *parts]).astype(kind)
    return found
