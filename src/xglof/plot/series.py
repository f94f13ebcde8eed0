"""Areas of lakes through time, with their errors, bounds, flags, gaps and alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xglof.errors import CubeError
from xglof.lakes.layer import Float
from xglof.plot.labels import spread
from xglof.plot.maps import new_axes
from xglof.plot.observations import (
    ALERT_COLOUR,
    Observations,
    draw,
    mark_alerts,
    observations_of,
    series_handles,
    shade_blind,
)

if TYPE_CHECKING:
    import pandas as pd

#: Days between two valid views beyond which nothing is drawn in between: half a year hides a whole season.
LONGEST_GAP_DAYS = 180.0

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # Okabe & Ito (2008)
_OTHERS = "#9a9a9a"
_LABEL_GAP = 0.075  # of the height of the axes, between two labels


def area_series(
    ts: xr.Dataset,
    truth: xr.Dataset | xr.DataArray | None = None,
    ax: Any = None,
    *,
    emphasise: str | None = None,
    alerts: pd.DataFrame | None = None,
    longest_gap_days: float = LONGEST_GAP_DAYS,
) -> Any:
    """Axes with the area of lakes through time.

    Filled circles are areas; hollow circles stand on the lower bound where too little was observed to say,
    hollow squares where the lake was frozen. Error bars are one sigma: with caps by the lake's own scatter
    (``sigma_repeat``), thin and without by the length of its outline. Pale bars are the bounds. Of a flagged
    series outliers are crosses at their raw value, provisional values hollow diamonds, floating ice filled
    squares, suspect ones black-rimmed. No line crosses a longer gap than stated, an outlier or a provisional
    value. The six largest lakes are labelled, the others grey; one alone bears no
    label.

    Parameters
    ----------
    ts
        As :func:`xglof.lakes.lake_area` or :func:`xglof.lakes.series.flag_series` returns it,
        ``(lake, time)``.
    truth
        True area in m2 of the same lakes, ``(lake, time)``, or a Dataset with ``area``: a thin dashed line.
    ax
        matplotlib Axes to draw on; ``None`` for a new figure, which gets a key (see :func:`series_key`).
    emphasise
        Id of a lake to draw heavier.
    alerts
        As :func:`xglof.lakes.alerts.find_alerts` returns them (``lake``, ``kind``, ``status``,
        ``first_changed``): those of the labelled lakes get an arrow.
    longest_gap_days
        Intervals longer than this without a valid view are shaded: those of the emphasised lake, else those
        in which no labelled lake was seen.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    CubeError
        ``ts`` has no time or no such lake.
    """
    own = ax is None
    ax = new_axes(ax, (10, 4.4))
    ts = _ordered(ts)
    size, unit = _unit(ts)
    ranked = _ranked(ts, emphasise)
    named = dict(zip(ranked, _COLOURS, strict=False))
    seen = _seen(ts, named, size)
    shade_blind(ax, _blind(seen, emphasise, longest_gap_days))
    for name, colour in named.items():
        draw(ax, seen[name], colour, heavy=name == emphasise, longest_days=longest_gap_days)
    if truth is not None:
        _draw_truth(ax, truth["area"] if isinstance(truth, xr.Dataset) else truth, named, size)
    _draw_others(ax, ts, ranked[len(_COLOURS) :], size)
    _dress(ax, unit)
    if alerts is not None:
        _draw_alerts(ax, alerts, seen, named)
    if len(ranked) > 1:
        labels = [(name, colour, *_last(seen[name])) for name, colour in named.items()]
        _label_ends(ax, labels, others=len(ranked) - len(labels), emphasise=emphasise)
    if own:
        shown: dict[str, Any] = {"alerts": alerts, "longest_gap_days": longest_gap_days}
        key = series_key(ts, emphasise=emphasise, truth=truth is not None, **shown)
        ax.figure.legend(handles=key, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return ax


def _draw_others(ax: Any, ts: xr.Dataset, names: list[str], size: float) -> None:
    """Thin grey lines."""
    for name in names:
        known = ts["area"].sel(lake=name).dropna("time")
        ax.plot(days_of(known["time"]), known.to_numpy() / size, color=_OTHERS, lw=0.7, zorder=1)


def series_key(
    ts: xr.Dataset,
    *,
    emphasise: str | None = None,
    alerts: pd.DataFrame | None = None,
    truth: bool = False,
    longest_gap_days: float = LONGEST_GAP_DAYS,
) -> list[Any]:
    """Handles of a legend for what :func:`area_series` draws of a series, as given there."""
    ts = _ordered(ts)
    named = dict(zip(_ranked(ts, emphasise), _COLOURS, strict=False))
    seen = _seen(ts, named, _unit(ts)[0])
    return series_handles(
        [*seen.values()],
        blind=bool(_blind(seen, emphasise, longest_gap_days)),
        alerts=alerts is not None and bool(alerts["lake"].isin(list(named)).any()),
        truth=truth,
    )


def _ordered(ts: xr.Dataset) -> xr.Dataset:
    if "time" not in ts.dims:
        raise CubeError("the areas have no time; a series needs more than one date")
    return ts.transpose("lake", "time", ...).load()


def _seen(ts: xr.Dataset, named: dict[str, str], size: float) -> dict[str, Observations]:
    """Observations of the labelled lakes, a little aside of each other so that bars do not hide bars."""
    days = days_of(ts["time"])
    step = np.ptp(days) * 0.002 if days.size and len(named) > 1 else 0.0
    return {
        name: observations_of(ts.sel(lake=name), days + (rank - len(_COLOURS) / 2) * step, size)
        for rank, name in enumerate(named)
    }


def _blind(seen: dict[str, Observations], emphasise: str | None, longest: float) -> list[tuple[float, float]]:
    if emphasise is not None:
        return seen[emphasise].blind(longest)
    views = np.unique(np.concatenate([each.days[each.joined] for each in seen.values()] or [np.empty(0)]))
    far = np.flatnonzero(np.diff(views) > longest)
    return [(float(views[i]), float(views[i + 1])) for i in far]


def _draw_truth(ax: Any, true_area: xr.DataArray, named: dict[str, str], size: float) -> None:
    for name, colour in named.items():
        if name in true_area["lake"]:
            true = true_area.sel(lake=name)
            ax.plot(days_of(true["time"]), true.to_numpy() / size, color=colour, lw=1, ls=(0, (4, 2)))


def _draw_alerts(ax: Any, alerts: pd.DataFrame, seen: dict[str, Observations], named: dict[str, str]) -> None:
    """Arrows for the alerts of labelled lakes, down to the value of the first changed observation."""
    shown = alerts[alerts["lake"].isin(list(seen)) & alerts["first_changed"].notna()]
    if not len(shown):
        return
    days = days_of(shown["first_changed"].to_numpy())
    heights = np.zeros(len(shown))
    for index, (name, date) in enumerate(zip(shown["lake"], days, strict=True)):
        lake = seen[name]
        nearest = int(np.argmin(np.abs(lake.days - date)))
        value = lake.area[nearest]
        heights[index] = value if np.isfinite(value) else np.nan_to_num(lake.lower[nearest])
    colours = [named[name] if len(named) > 1 else ALERT_COLOUR for name in shown["lake"]]
    mark_alerts(ax, shown, days, heights, colours)


def days_of(times: Any) -> Float:
    """Dates as matplotlib counts them: days since 1970."""
    stamps = np.asarray(times, "datetime64[ns]")
    return np.asarray((stamps - np.datetime64("1970-01-01", "ns")) / np.timedelta64(1, "D"), float)


def _unit(ts: xr.Dataset) -> tuple[float, str]:
    """Square metres of the unit drawn, and its name."""
    largest = ts["area_lower"].max().item() if ts["area_lower"].size else 0.0
    return (1e6, "km²") if not largest < 10_000 else (1.0, "m²")


def _ranked(ts: xr.Dataset, emphasise: str | None) -> list[str]:
    """Lakes from the largest down; the emphasised one first."""
    size = (
        ts["area_lower"].fillna(0).max("time")
        if ts.sizes["time"]
        else ts["lake"].copy(data=ts["lake"].size * [0])
    )
    names = [str(ts["lake"].values[i]) for i in np.argsort(-size.to_numpy(), kind="stable")]
    if emphasise is not None and emphasise not in names:
        raise CubeError(f"the series hold no lake {emphasise!r}")
    return sorted(names, key=lambda name: name != emphasise)


def _last(seen: Observations) -> tuple[float, float]:
    """Where a lake's line ends; its label points there."""
    known = np.flatnonzero(np.isfinite(seen.area))
    if known.size:
        return float(seen.days[known[-1]]), float(seen.area[known[-1]])
    return (float(seen.days[-1]), float(np.nan_to_num(seen.lower[-1]))) if seen.days.size else (0.0, 0.0)


def _dress(ax: Any, unit: str) -> None:
    ax.xaxis_date()
    ax.set_ylabel(f"lake area, {unit}")
    ax.set_ylim(bottom=0)
    ax.grid(axis="y", color="0.9", lw=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _label_ends(ax: Any, labels: list[Any], *, others: int, emphasise: str | None) -> None:
    """Names of lakes at the right, level with the ends of their lines or as near as they can stand."""
    top = ax.get_ylim()[1]
    labels = sorted(labels, key=lambda label: label[3])
    heights = spread([y / top for *_, y in labels], _LABEL_GAP)
    for (name, colour, x, y), height in zip(labels, heights, strict=True):
        ax.annotate(
            name,
            (x, y),
            (1.02, height),
            textcoords="axes fraction",
            color=colour,
            va="center",
            fontsize=10,
            fontweight="bold" if name == emphasise else "normal",
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.6, "alpha": 0.6, "shrinkB": 4},
        )
    if others:
        text = f"grey: {others} smaller {'lake' if others == 1 else 'lakes'}"
        ax.text(0.005, 0.99, text, transform=ax.transAxes, va="top", color="0.35", fontsize=10)
