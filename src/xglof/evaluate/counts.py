"""Confusion counts of a lake map against a truth, over the pixels that both observed."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.evaluate.pairing import Pair, pair_lakes
from xglof.evaluate.reduction import Reduction, Squares, count_pixels
from xglof.lakes.layer import LAKE, UNOBSERVED, check_values

#: Names of the counts, in the order of their codes, and what they are.
OUTCOMES = {
    "tp": "pixels that are lake in both",
    "fp": "pixels that are lake in the prediction only",
    "fn": "pixels that are lake in the truth only",
    "tn": "pixels that are lake in neither",
    "unobserved": "requested pixels that the prediction or the truth did not observe",
}
_TP, _FP, _FN, _TN, _UNSEEN, _NOWHERE = range(6)


def confusion_counts(
    prediction: xr.Dataset | xr.DataArray, truth: xr.Dataset | xr.DataArray, *, threshold: float | None = None
) -> xr.Dataset:
    """Counts of agreement of every time step, over the pixels that prediction and truth both observed.

    Lazy where its inputs are; a task reads one block of each. The counts add: sum them over dates or tiles
    before dividing.

    Parameters
    ----------
    prediction
        Segmentation, or its ``lake``: ``([time,] y, x)`` uint8, 0 land, 1 lake, 255 unobserved. Pixels that
        its ``flags`` (uint16) call ``not_requested`` count nowhere.
    truth
        ``lake`` of the same kind (or bool, observed everywhere), or a Dataset with it, on the same grid and
        dates. Without ``time`` it holds for every date of the prediction.
    threshold
        Instead of ``lake``, ``lake_probability >= threshold`` is the prediction, NaN unobserved.

    Returns
    -------
    xarray.Dataset
        ``tp``, ``fp``, ``fn``, ``tn``, ``unobserved``: int64 pixels, dims ``(time)`` or none.

    Raises
    ------
    CubeError
        A layer is missing or of another dtype, grids or dates differ, a date occurs twice, ``flags`` that are
        no bits, a threshold that is not between 0 and 1; where it is computed, values besides 0, 1 and 255.
    """
    pair = pair_lakes(prediction, truth, threshold=threshold)
    return count_outcomes(pair, [dim for dim in pair.mapped.dims if dim != "time"])


def count_outcomes(pair: Pair, dims: Iterable[Hashable], *, squares: Squares | None = None) -> xr.Dataset:
    """Confusion counts of a pair of lake maps, summed over dims, along others by square."""
    counts = count_pixels(_CONFUSION, pair.layers, pool=dims, squares=squares)
    named = {name: counts.isel(code=code) for code, name in enumerate(OUTCOMES)}
    for name, each in named.items():
        each.attrs = {"long_name": OUTCOMES[name], "units": "1"}
    return xr.Dataset(named)


def outcome_codes(
    mapped: NDArray[np.uint8], actual: NDArray[np.uint8], asked: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """Of every pixel, which of :data:`OUTCOMES` it is, and 5 where nothing was asked."""
    wet, true = check_values(mapped) == LAKE, check_values(actual) == LAKE
    codes = np.where(wet, np.where(true, _TP, _FP), np.where(true, _FN, _TN)).astype(np.uint8)
    codes = np.where((mapped == UNOBSERVED) | (actual == UNOBSERVED), np.uint8(_UNSEEN), codes)
    return codes if asked is None else np.where(asked, codes, np.uint8(_NOWHERE))


_CONFUSION = Reduction(outcome_codes, len(OUTCOMES))
