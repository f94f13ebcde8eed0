"""Areas of lakes through time, with their errors and bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xglof.errors import CubeError
from xglof.lakes.layer import Float
from xglof.plot.maps import new_axes

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # Okabe & Ito (2008)
_OTHERS = "#9a9a9a"
_LABEL_GAP = 0.075  # of the height of the axes, between two labels


def area_series(
    ts: xr.Dataset,
    truth: xr.Dataset | xr.DataArray | None = None,
    ax: Any = None,
    *,
    emphasise: str | None = None,
) -> Any:
    """Axes with the area of lakes through time.

    Filled circles are areas with one sigma, thin bars the bounds; hollow circles stand on the lower bound
    where too little was observed to say, hollow squares where the lake was frozen. The six largest lakes are
    labelled, the others grey.

    Parameters
    ----------
    ts
        As :func:`xglof.lakes.lake_area` returns it, ``(lake, time)``.
    truth
        True area in m2 of the same lakes, ``(lake, time)``, or a Dataset with ``area``: a thin dashed line.
    ax
        matplotlib Axes to draw on; ``None`` for a new figure.
    emphasise
        Id of a lake to draw heavier.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    CubeError
        ``ts`` has no time.
    """
    if "time" not in ts.dims:
        raise CubeError("the areas have no time; a series needs more than one date")
    ax = new_axes(ax, (10, 4))
    ts = ts.transpose("lake", "time").load()
    true_area = truth["area"] if isinstance(truth, xr.Dataset) else truth
    size, unit = _unit(ts)
    ranked = _ranked(ts, emphasise)
    span = np.ptp(days_of(ts["time"])) if ts.sizes["time"] else 0.0
    labels = []
    for rank, (name, colour) in enumerate(zip(ranked, _COLOURS, strict=False)):
        one = ts.sel(lake=name)
        days = days_of(one["time"]) + (rank - len(_COLOURS) / 2) * span * 0.002  # bars side by side
        _draw_observations(ax, one, days, size, colour, heavy=name == emphasise)
        labels.append((name, colour, *_last(one, days, size)))
        if true_area is not None and name in true_area["lake"]:
            true = true_area.sel(lake=name)
            ax.plot(days_of(true["time"]), true.to_numpy() / size, color=colour, lw=1, ls=(0, (4, 2)))
    for name in ranked[len(_COLOURS) :]:
        known = ts["area"].sel(lake=name).dropna("time")
        ax.plot(days_of(known["time"]), known.to_numpy() / size, color=_OTHERS, lw=0.7, zorder=1)
    _dress(ax, unit)
    _label_ends(ax, labels, others=len(ranked) - len(labels), emphasise=emphasise)
    return ax


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


def _draw_observations(
    ax: Any, one: xr.Dataset, days: Float, size: float, colour: str, *, heavy: bool
) -> None:
    area, sigma, lower, upper = (
        one[name].to_numpy() / size for name in ("area", "area_sigma", "area_lower", "area_upper")
    )
    known = np.isfinite(area)
    frozen = ~known & (one["frozen_fraction"].to_numpy() >= 0.5)
    order = 4 if heavy else 3
    ax.vlines(days, lower, upper, color=colour, alpha=0.3, lw=3, zorder=2)
    ax.errorbar(
        days[known],
        area[known],
        sigma[known],
        color=colour,
        lw=2.4 if heavy else 1.2,
        marker="o",
        ms=7 if heavy else 4.5,
        elinewidth=1.2,
        capsize=3,
        zorder=order,
    )
    hollow = {"mfc": "white", "mec": colour, "ms": 6 if heavy else 4.5, "zorder": order, "clip_on": False}
    for which, marker in ((frozen, "s"), (~known & ~frozen, "o")):
        ax.plot(days[which], lower[which], marker, **hollow)


def _last(one: xr.Dataset, days: Float, size: float) -> tuple[float, float]:
    """Where a lake's line ends; its label points there."""
    area = one["area"].to_numpy()
    seen = np.flatnonzero(np.isfinite(area))
    if seen.size:
        return float(days[seen[-1]]), float(area[seen[-1]] / size)
    lower = one["area_lower"].fillna(0).to_numpy() / size
    return (float(days[-1]), float(lower[-1])) if days.size else (0.0, 0.0)


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


def spread(heights: list[float], gap: float) -> list[float]:
    """Ascending heights, moved as little as keeps them ``gap`` apart and, where they fit, between 0 and 1."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + gap) if placed else max(height, 0.0))
    limit = max(1.0, gap * (len(placed) - 1))
    for index in range(len(placed) - 1, -1, -1):
        placed[index] = min(placed[index], limit)
        limit = placed[index] - gap
    return placed
