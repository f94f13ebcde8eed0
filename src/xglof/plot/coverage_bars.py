"""What the sensors saw at every date: a stacked bar for Sentinel-2, a row for Sentinel-1."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import xarray as xr

from xglof.cube.card_facts import day
from xglof.cube.coverage import count_flags, shares
from xglof.errors import CubeError

#: Sight -> its name, colour and hatch, from the bottom of a bar to its top. Hues after Okabe & Ito (2008);
#: what hides the ground is grey, from light to dark, so that no kind of colour vision mixes the two.
_SIGHTS = {
    "sight_clear": ("observed", "#009e73", ""),
    "sight_snow": ("observed, snow", "#8fd3f5", ""),
    "sight_ice": ("observed, ice", "#0072b2", ""),
    "sight_terrain_shadow": ("terrain shadow", "#3a3a3a", ""),
    "sight_cloud_shadow": ("cloud shadow", "#777777", ""),
    "sight_cloud": ("cloud", "#cfcfcf", ""),
    "sight_s2_nodata": ("no data", "#ffffff", "////"),
    "sight_failed_read": ("failed read", "#d55e00", "xxxx"),
}
_ORBITS = {"ascending": "#cc79a7", "descending": "#e69f00"}
_OTHER_ORBIT = "#9a9a9a"
_BAR, _BAR_INCH, _LEAST_INCH, _MOST_INCH = 0.82, 0.24, 7.0, 18.0
_LABEL_INCH = 0.16  # between two dates under the axes
_FEW = 12  # bars wide enough for a number on them


def coverage(cube_or_table: xr.Dataset, path: str | os.PathLike[str] | None = None) -> Any:
    """Figure with a bar a date: what Sentinel-2 saw, stacked up to 100 %, and the share with Sentinel-1 data.

    Dates stand side by side in order, not to scale. In a bar every pixel counts once.

    Parameters
    ----------
    cube_or_table
        A cube with ``flags``, or the table that :func:`xglof.cube.coverage.coverage` made of one. A cube's
        flags are counted here, block by block.
    path
        Where to write a PNG; ``None`` writes none.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    CubeError
        As :func:`xglof.cube.coverage.coverage`, or a table of neither Sentinel-2 nor Sentinel-1.
    """
    from matplotlib.figure import Figure

    table = _table(cube_or_table)
    rows = [name for name in ("sight_clear", "s1_observed") if name in table]
    if not rows:
        raise CubeError(
            "the table tells of neither Sentinel-2 nor Sentinel-1; expected that of a cube with one"
        )
    count = table.sizes["time"]
    width = float(np.clip(2.6 + _BAR_INCH * count, _LEAST_INCH, _MOST_INCH))
    heights = [{"sight_clear": 3.0, "s1_observed": 0.8}[name] for name in rows]
    figure = Figure(figsize=(width, sum(heights) + 1.9), dpi=120, layout="constrained")
    axes = figure.subplots(len(rows), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for name, ax in zip(rows, axes, strict=True):
        (_optical_bars if name == "sight_clear" else _radar_bars)(ax, table)
        _dress(ax, count)
    _name_dates(axes[-1], table, width)
    handles = [handle for ax in axes for handle in ax.get_legend_handles_labels()[0]]
    figure.legend(
        handles=handles, loc="outside upper left", ncols=_columns(len(handles), width), frameon=False
    )
    if path is not None:
        figure.savefig(path, format="png")
    return figure


def _table(data: xr.Dataset) -> xr.Dataset:
    """The shares in memory; of a cube without the count of clamped pixels, which is not drawn."""
    return (data if "pixels" in data else shares(count_flags(data))).compute()


def _optical_bars(ax: Any, table: xr.Dataset) -> None:
    places = np.arange(table.sizes["time"])
    below = np.zeros(len(places))
    for name, (label, colour, hatch) in _SIGHTS.items():
        share = table[name].fillna(0).to_numpy()
        if share.any():
            rim = {"edgecolor": "#4d4d4d", "linewidth": 0.4} if hatch else {"linewidth": 0}
            held = share > 0  # a bar of no height still has a rim
            ax.bar(
                places[held], share[held], _BAR, below[held], color=colour, hatch=hatch, label=label, **rim
            )
        below += share
    if len(places) <= _FEW:
        for place, share in zip(places, table["s2_observed"].to_numpy(), strict=True):
            if np.isfinite(share):
                ax.text(place, 1.02, f"{share:.0%}", ha="center", va="bottom", fontsize=9)
    ax.set_ylabel("Sentinel-2, pixels")


def _radar_bars(ax: Any, table: xr.Dataset) -> None:
    share = table["s1_observed"].fillna(0).to_numpy()
    orbits = [""] * len(share)
    if "orbit_state" in table.coords:
        orbits = [str(orbit) for orbit in table["orbit_state"].to_numpy()]
    for orbit in sorted({orbit for orbit, seen in zip(orbits, share, strict=True) if seen}):
        here = np.array([other == orbit for other in orbits]) & (share > 0)
        label = f"Sentinel-1, {orbit}" if orbit in _ORBITS else "Sentinel-1"
        ax.bar(np.flatnonzero(here), share[here], _BAR, color=_ORBITS.get(orbit, _OTHER_ORBIT), label=label)
    if (share == 0).any():
        none = np.flatnonzero(share == 0)
        ax.plot(none, np.full(len(none), 0.25), "x", color="0.4", ms=5, label="no Sentinel-1")
    ax.set_ylabel("Sentinel-1")


def _dress(ax: Any, count: int) -> None:
    from matplotlib.ticker import PercentFormatter

    ax.set_ylim(0, 1)
    ax.set_yticks([0, 0.5, 1])
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set_xlim(min(-0.7, count / 2 - 4), max(count - 0.3, count / 2 + 3))  # one date is no wide slab
    ax.grid(axis="y", color="0.9", lw=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _name_dates(ax: Any, table: xr.Dataset, width: float) -> None:
    """Dates under the bars, as many as can be read, and a line where a year begins."""
    count = table.sizes["time"]
    if "time" not in table.coords:
        ax.set_xticks([])
        return
    dates = [day(date) for date in table["time"].to_numpy()]
    room = (width - 1.2) / max(ax.get_xlim()[1] - ax.get_xlim()[0], 1)
    step = max(int(np.ceil(_LABEL_INCH / room)), 1)
    ax.set_xticks(np.arange(0, count, step), dates[::step], rotation=90 if room < 0.8 else 0, fontsize=9)
    for place in range(1, count):
        if dates[place][:4] != dates[place - 1][:4]:
            for every in ax.figure.axes:
                every.axvline(place - 0.5, color="0.75", lw=0.8, zorder=0)


def _columns(entries: int, width: float) -> int:
    return max(min(entries, int(width / 2.2)), 1)
