"""Pictures of scores: the sweep over thresholds and the reliability diagram."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import xarray as xr

from xglof.errors import CubeError
from xglof.evaluate.shares import SHARES
from xglof.evaluate.sweep import best_threshold

#: Share -> its name, colour, width and dashes; hues after Okabe & Ito (2008).
_LINES: dict[str, tuple[str, str, float, Any]] = {
    "iou": ("IoU", "#0072b2", 2.6, "solid"),
    "f1": ("F1", "#cc79a7", 1.5, (0, (6, 1.5, 1, 1.5))),
    "precision": ("precision", "#d55e00", 1.5, (0, (5, 2))),
    "recall": ("recall", "#009e73", 1.5, (0, (1.2, 1.4))),
}
_CURVE, _GAP, _QUIET = "#0072b2", "#d55e00", "0.35"
#: Thresholds whose IoU lies so near the best are shaded: a flat top is worth more than its summit.
NEAR_BEST = 0.005


def sweep_curves(
    sweep: xr.Dataset,
    path: str | os.PathLike[str] | None = None,
    *,
    used: float | None = None,
    title: str = "",
) -> Any:
    """Figure with IoU, F1, precision and recall at every threshold.

    The best IoU is marked, and the thresholds whose IoU is at most 0.005 lower are shaded.

    Parameters
    ----------
    sweep
        As :func:`xglof.evaluate.sweep_counts` returns it, dim ``threshold`` only.
    path
        Where to write a PNG; ``None`` writes none.
    used
        The threshold of the map, marked besides.
    title
        Stands above.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    CubeError
        Other dims, or fewer than two thresholds.
    """
    from matplotlib.figure import Figure

    if tuple(sweep["iou"].dims) != ("threshold",) or sweep.sizes["threshold"] < 2:
        raise CubeError(
            f"the sweep has {dict(sweep['iou'].sizes)}; expected 'threshold' alone: pool the rest"
        )
    sweep = sweep.load()
    figure = Figure(figsize=(7.4, 4.4), dpi=120, layout="constrained")
    ax = figure.add_subplot()
    thresholds = sweep["threshold"].to_numpy()
    for name in reversed(SHARES):  # IoU on top
        label, colour, width, dashes = _LINES[name]
        ax.plot(thresholds, sweep[name].to_numpy(), color=colour, lw=width, ls=dashes, label=label)
    ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="least probability of a lake (threshold)", ylabel="score")
    _dress(ax)
    found = bool(np.isfinite(sweep["iou"]).any())
    _head(ax, title, _mark(ax, sweep, used) if found else "no lake in either map")
    lines = ax.get_legend_handles_labels()[0][::-1]
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), frameon=False, fontsize=10)
    if path is not None:
        figure.savefig(path)
    return figure


def _mark(ax: Any, sweep: xr.Dataset, used: float | None) -> str:
    """Mark the best threshold, those nearly as good, and the one of the map; what they are in words."""
    iou, thresholds = sweep["iou"].to_numpy(), sweep["threshold"].to_numpy()
    best, most = best_threshold(sweep)
    good = thresholds[np.nan_to_num(iou, nan=-1) >= most - NEAR_BEST]
    ax.axvspan(good.min(), good.max(), color=_CURVE, alpha=0.12, lw=0, zorder=0)
    ax.plot(best, most, "o", color=_CURVE, ms=7, zorder=5)
    told = f"best IoU {most:.3f} at {best:g} (filled; shaded: at most {NEAR_BEST:g} lower)"
    if used is None:
        return told
    value = float(sweep["iou"].sel(threshold=used, method="nearest"))
    ax.plot(used, value, "o", mfc="white", mec=_CURVE, mew=1.8, ms=7, zorder=5)
    return f"map: IoU {value:.3f} at {used:g} (hollow); {told}"


def reliability_diagram(
    calibration: xr.Dataset, path: str | os.PathLike[str] | None = None, *, title: str = ""
) -> Any:
    """Figure with the share of lake among pixels of each probability, and below it how many there are.

    On the dashed diagonal three in ten of the pixels with a probability of 0.3 are lake. Bars from it to the
    points are the errors whose mean, weighted by pixels, is the expected calibration error (ECE).

    Parameters
    ----------
    calibration
        As :func:`xglof.evaluate.score_calibration` returns it, dim ``group`` only.
    path
        Where to write a PNG; ``None`` writes none.
    title
        Stands above.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    CubeError
        Other dims.
    """
    from matplotlib.figure import Figure

    if tuple(calibration["pixels"].dims) != ("group",):
        raise CubeError(
            f"the calibration has {dict(calibration['pixels'].sizes)}; expected 'group' alone: pool the rest"
        )
    table = calibration.load()
    figure = Figure(figsize=(5.6, 6.4), dpi=120, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    _draw_reliability(upper, table)
    _draw_counts(lower, table)
    error = f"calibration error {float(table['ece']):.4f}, of one group at most {float(table['mce']):.3f}"
    _head(upper, title, f"{error}\nabove the dashed line there is more lake than the map says")
    if path is not None:
        figure.savefig(path)
    return figure


def _draw_reliability(ax: Any, table: xr.Dataset) -> None:
    said, true = table["mean_probability"].to_numpy(), table["lake_share"].to_numpy()
    ax.plot([0, 1], [0, 1], color=_QUIET, lw=1, ls=(0, (4, 3)), zorder=1)
    ax.vlines(said, said, true, color=_GAP, lw=3, alpha=0.55, zorder=2)
    known = np.isfinite(true)
    ax.plot(said[known], true[known], "-o", color=_CURVE, lw=1.6, ms=5, zorder=3)
    ax.set(xlim=(0, 1), ylim=(-0.02, 1.02), ylabel="share that is lake")
    _dress(ax)


def _draw_counts(ax: Any, table: xr.Dataset) -> None:
    """Pixels of each group, and the lake among them, on a logarithmic axis."""
    left, width = table["lower"].to_numpy(), (table["upper"] - table["lower"]).to_numpy()
    for name, label, colour in (("pixels", "all", "#d0d0d0"), ("lake_pixels", "of them lake", _CURVE)):
        height = table[name].to_numpy()
        ax.bar(left + 0.06 * width, height, 0.88 * width, align="edge", color=colour, label=label, zorder=2)
    ax.set_ylim(0.7, 30 * max(float(table["pixels"].max()), 1))  # the key stands above the bars
    ax.set_yscale("log")
    ax.set(xlabel="probability of lake in the map", ylabel="pixels")
    ax.legend(loc="upper center", ncols=2, frameon=False, fontsize=9, borderaxespad=0.1)
    _dress(ax)


def _head(ax: Any, title: str, words: str) -> None:
    """A title and, below it, what the picture says in figures."""
    lines = words.count("\n") + 1
    ax.set_title(title, loc="left", fontsize=11, pad=8 + 13 * lines)
    ax.annotate(words, (0, 1), (0, 6), "axes fraction", "offset points", fontsize=9, color=_QUIET)


def _dress(ax: Any) -> None:
    ax.grid(axis="y", color="0.9", lw=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
