"""Scores chip by chip, with a stated rule for chips that no lake touches."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.errors import CubeError
from xglof.evaluate.counts import OUTCOMES, count_outcomes
from xglof.evaluate.pairing import pair_lakes
from xglof.evaluate.reduction import squares_of
from xglof.evaluate.shares import SHARES, add_shares

#: What the IoU of a chip is where neither map has a lake: none, so that a mean leaves the chip out, or 1.
Empty = Literal["skip", "one"]


def score_chips(
    seg: xr.Dataset | xr.DataArray,
    truth: xr.Dataset | xr.DataArray,
    *,
    size: int = 224,
    empty: Empty = "skip",
    min_observed: float = 0.5,
    threshold: float | None = None,
) -> xr.Dataset:
    """Scores of every chip of every date: a coarse map of where the maps agree.

    A mean over chips weighs a chip with a pond like one with a large lake, and depends on the rule for
    empty ones; the pooled :func:`xglof.evaluate.score` does neither. A chip with a lake in one map only has
    an IoU of 0 under both rules. Lazy where its inputs are; a task reads one block of each.

    Parameters
    ----------
    seg, truth, threshold
        As of :func:`xglof.evaluate.score`.
    size
        Side of a chip, pixels. The chips lie side by side on the absolute lattice of the grid, so that a part
        of a map has those of the whole; the raster's edge cuts some.
    empty
        IoU where neither map has a lake: ``"skip"`` is NaN, ``"one"`` is 1.
    min_observed
        Chips of which less than this share of ``size`` times ``size`` was observed by both have NaN shares.

    Returns
    -------
    xarray.Dataset
        ``([time,] y, x)``, a value a chip, coordinates of the chips' centres: ``iou``, ``f1``, ``precision``,
        ``recall`` float64, NaN as said; ``tp``, ``fp``, ``fn``, ``tn``, ``unobserved`` int64 pixels;
        ``counted`` bool, enough observed; ``empty`` bool, counted and without lake in both. Attributes state
        the rules.

    Raises
    ------
    CubeError
        As :func:`xglof.evaluate.score`; a size below 1, another rule, a share not in 0 to 1.
    """
    if empty not in get_args(Empty):
        raise CubeError(f"empty is {empty!r}; expected 'skip' or 'one'")
    if size < 1 or not 0 <= min_observed <= 1:
        raise CubeError(
            f"size is {size} and min_observed {min_observed}; expected pixels from 1 and a share from 0 to 1"
        )
    pair = pair_lakes(seg, truth, threshold=threshold)
    counts = count_outcomes(pair, (), squares=squares_of(pair.mapped, size, size))
    scores = add_shares(counts)
    seen = sum(counts[name] for name in OUTCOMES if name != "unobserved")
    counted = (seen > 0) & (seen >= min_observed * size * size)
    no_lake = counted & (counts["tp"] + counts["fp"] + counts["fn"] == 0)
    if empty == "one":
        scores["iou"] = xr.where(no_lake, 1.0, scores["iou"], keep_attrs=True)
    for name in SHARES:
        scores[name] = scores[name].where(counted)
    scores["counted"], scores["empty"] = counted, no_lake
    rules: dict[str, Any] = {"chip_px": size, "empty": empty, "min_observed": min_observed}
    return scores.assign_attrs(rules if threshold is None else rules | {"threshold": threshold})


def chip_iou(
    tp: NDArray[np.integer[Any]],
    fp: NDArray[np.integer[Any]],
    fn: NDArray[np.integer[Any]],
    *,
    empty: Empty = "skip",
) -> NDArray[np.float64]:
    """IoU of chips from their counts: float64 of the same shape, without any lake as ``empty`` says.

    Examples
    --------
    >>> counts = np.array([3, 0, 0]), np.array([1, 2, 0]), np.array([2, 0, 0])
    >>> chip_iou(*counts).tolist(), chip_iou(*counts, empty="one").tolist()
    ([0.5, 0.0, nan], [0.5, 0.0, 1.0])
    """
    union = np.asarray(tp) + fp + fn
    nothing = 1.0 if empty == "one" else np.nan
    return np.where(union > 0, tp / np.maximum(union, 1), nothing)
