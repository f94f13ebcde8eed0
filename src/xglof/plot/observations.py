"""How one lake's observations are drawn: values, errors, bounds, flags, gaps and alerts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.lakes.layer import Float
from xglof.lakes.series import SeriesFlag

Mask = NDArray[np.bool_]

ALERT_COLOUR = "#b2182b"
_BLIND_COLOUR = "0.945"
_CROWDED = 0.25  # of the width of the axes: alerts nearer than this are named one below the other
_LEVELS = 4


@dataclass(frozen=True, slots=True)
class Observations:
    """One lake's series, in the unit drawn, and what each observation is drawn as.

    Attributes
    ----------
    days
        Dates, days since 1970.
    area, lower, upper
        In the unit drawn; ``area`` NaN where there is no value.
    repeat, outline
        One sigma by the lake's own scatter, NaN where unknown, and by the outline's length.
    plain, suspect, frozen, outlier, provisional
        Observations with a value, each in one of these.
    bound, icy_bound
        Observations without a value that have a lower bound; under ice or not.
    """

    days: Float
    area: Float
    lower: Float
    upper: Float
    repeat: Float
    outline: Float
    plain: Mask
    suspect: Mask
    frozen: Mask
    outlier: Mask
    provisional: Mask
    bound: Mask
    icy_bound: Mask

    @property
    def joined(self) -> Mask:
        """The observations that the line goes through: neither outliers nor provisional."""
        return self.plain | self.suspect | self.frozen

    def blind(self, longest_days: float) -> list[tuple[float, float]]:
        """Intervals longer than this between two observations that the line could go through."""
        seen = self.days[self.joined]
        far = np.flatnonzero(np.diff(seen) > longest_days)
        return [(float(seen[i]), float(seen[i + 1])) for i in far]


def observations_of(one: xr.Dataset, days: Float, size: float) -> Observations:
    """The observations of one lake of a series, flagged or not.

    Parameters
    ----------
    one
        ``(time)`` of :func:`xglof.lakes.lake_area` or of :func:`xglof.lakes.series.flag_series`, in memory.
    days
        Where each date is drawn.
    size
        Square metres of the unit drawn.
    """
    area, lower, upper, outline = (
        one[name].to_numpy() / size for name in ("area", "area_lower", "area_upper", "area_sigma")
    )
    repeat = one["sigma_repeat"].to_numpy() / size if "sigma_repeat" in one else np.full(area.shape, np.nan)
    quality = one["quality"].to_numpy() if "quality" in one else np.zeros(area.shape, "uint16")
    known = np.isfinite(area)
    icy = (one["frozen_fraction"].to_numpy() >= 0.5) | has(quality, SeriesFlag.frozen)
    left, kinds = known, {}
    for kind in (SeriesFlag.outlier, SeriesFlag.provisional, SeriesFlag.suspect, SeriesFlag.frozen):
        kinds[kind.name] = left & has(quality, kind)
        left = left & ~kinds[kind.name]
    bound = ~known & np.isfinite(lower)
    return Observations(
        days, area, lower, upper, repeat, outline, left,
        suspect=kinds["suspect"], frozen=kinds["frozen"], outlier=kinds["outlier"],
        provisional=kinds["provisional"], bound=bound & ~icy, icy_bound=bound & icy,
    )  # fmt: skip


def has(quality: NDArray[Any], flag: SeriesFlag) -> Mask:
    """Where a bit of the quality of a series is set."""
    return np.asarray((quality.astype("uint16") & np.uint16(flag.value)) != 0)


def draw(ax: Any, seen: Observations, colour: str, *, heavy: bool, longest_days: float) -> None:
    """Draw one lake's observations, its line broken over the blind intervals."""
    size, order = (7.0, 4) if heavy else (4.5, 3)
    ax.vlines(seen.days, seen.lower, seen.upper, color=colour, alpha=0.3, lw=3, zorder=2)
    _draw_line(ax, seen, colour, 2.4 if heavy else 1.2, longest_days, order)
    known = np.isfinite(seen.area)
    own = known & np.isfinite(seen.repeat)
    for which, sigma, style in (
        (own, seen.repeat, {"elinewidth": 1.3, "capsize": 3}),
        (known & ~own, seen.outline, {"elinewidth": 0.7, "capsize": 0}),
    ):
        if which.any():
            ax.errorbar(
                seen.days[which],
                seen.area[which],
                sigma[which],
                ls="none",
                ecolor=colour,
                zorder=order,
                **style,
            )
    for kind, style in _MARKERS.items():
        which = getattr(seen, kind)
        height = seen.lower if kind in ("bound", "icy_bound") else seen.area
        if which.any():
            look = {"color": colour, "ms": size, "zorder": order + 1, "clip_on": False, **style}
            ax.plot(seen.days[which], height[which], ls="none", **look)


#: What an observation is drawn as. Hollow: not to be relied on; a bound stands where no value does.
_MARKERS: dict[str, dict[str, Any]] = {
    "plain": {"marker": "o"},
    "suspect": {"marker": "o", "mec": "black", "mew": 1.3},
    "frozen": {"marker": "s"},
    "outlier": {"marker": "X", "mec": "white", "mew": 0.6, "ms": 8},
    "provisional": {"marker": "D", "mfc": "white"},
    "bound": {"marker": "o", "mfc": "white"},
    "icy_bound": {"marker": "s", "mfc": "white"},
}
_MEANINGS = {
    "plain": "area",
    "suspect": "suspect: far from those before",
    "frozen": "area, floating ice",
    "outlier": "outlier, value kept",
    "provisional": "provisional, radar alone",
    "bound": "too little observed: lower bound",
    "icy_bound": "frozen: lower bound",
}


def _draw_line(
    ax: Any, seen: Observations, colour: str, width: float, longest_days: float, order: int
) -> None:
    days, area = seen.days[seen.joined], seen.area[seen.joined]
    breaks = np.flatnonzero(np.diff(days) > longest_days) + 1
    for x, y in zip(np.split(days, breaks), np.split(area, breaks), strict=True):
        if x.size > 1:
            ax.plot(x, y, color=colour, lw=width, zorder=order)


def shade_blind(ax: Any, intervals: list[tuple[float, float]]) -> None:
    """Shade intervals without a valid view."""
    for begin, end in intervals:
        ax.axvspan(begin, end, color=_BLIND_COLOUR, lw=0, zorder=0)


def mark_alerts(ax: Any, alerts: Any, days: Float, heights: Float, colours: list[str]) -> None:
    """Write every alert above the date of its first changed observation, with an arrow down to the value.

    Parameters
    ----------
    ax
        Axes of a series, its limits set.
    alerts
        Rows with ``kind`` and ``status``.
    days, heights, colours
        Where and how each alert's first changed observation is drawn.
    """
    begin, end = ax.get_xlim()
    bottom, top = ax.get_ylim()
    ax.set_ylim(bottom, bottom + (top - bottom) * 1.28)  # room for the words
    last, level = -np.inf, 0
    for index in np.argsort(days, kind="stable"):
        row = alerts.iloc[int(index)]
        place = (days[index] - begin) / (end - begin)
        level = (level + 1) % _LEVELS if place - last < _CROWDED else 0
        last = place
        confirmed = str(row["status"]) == "confirmed"
        ax.annotate(
            f"{row['kind']}, {row['status']}",
            (days[index], heights[index]),
            (days[index], 0.985 - 0.07 * level),
            textcoords=("data", "axes fraction"),
            ha="right" if place > 0.85 else "left" if place < 0.15 else "center",
            va="top",
            color=colours[index],
            fontsize=9,
            fontweight="bold" if confirmed else "normal",
            arrowprops={
                "arrowstyle": "-|>",
                "color": colours[index],
                "lw": 1.2,
                "ls": "-" if confirmed else "--",
                "shrinkB": 5,
            },
            zorder=6,
        )


def series_handles(all_seen: list[Observations], *, blind: bool, alerts: bool, truth: bool) -> list[Any]:
    """Handles of a legend for what is drawn of these lakes, and for nothing that is not."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    grey: dict[str, Any] = {"color": "0.3", "ls": "none", "ms": 6}
    key: list[Any] = [
        Line2D([], [], **(grey | style), label=_MEANINGS[kind])
        for kind, style in _MARKERS.items()
        if any(getattr(seen, kind).any() for seen in all_seen)
    ]
    known = [np.isfinite(seen.area) for seen in all_seen]
    own = [np.isfinite(seen.repeat) for seen in all_seen]
    bar: dict[str, Any] = {"color": "0.3", "ls": "none", "marker": "|", "ms": 13}
    if any((k & o).any() for k, o in zip(known, own, strict=True)):
        key.append(Line2D([], [], **bar, mew=1.6, label="1 sigma, repeat scatter"))
    if any((k & ~o).any() for k, o in zip(known, own, strict=True)):
        key.append(Line2D([], [], **bar, mew=0.7, label="1 sigma, outline error (thin)"))
    key.append(Line2D([], [], color="0.3", alpha=0.3, lw=5, label="bounds"))
    if blind:
        key.append(Patch(facecolor=_BLIND_COLOUR, edgecolor="0.8", label="no valid view"))
    if alerts:
        key.append(
            Line2D(
                [],
                [],
                color=ALERT_COLOUR,
                ls="none",
                marker=r"$\downarrow$",
                ms=10,
                label="alert, in the colour of its lake" if len(all_seen) > 1 else "alert",
            )
        )
    if truth:
        key.append(Line2D([], [], color="0.3", lw=1, ls=(0, (4, 2)), label="true area"))
    return key
