"""IoU, F1, precision and recall from pooled counts."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import xarray as xr

from xglof.evaluate.counts import count_outcomes
from xglof.evaluate.pairing import pair_lakes
from xglof.evaluate.reduction import pooled_dims
from xglof.evaluate.shares import add_shares


def score(
    seg: xr.Dataset | xr.DataArray,
    truth: xr.Dataset | xr.DataArray,
    *,
    threshold: float | None = None,
    dim: Hashable | Iterable[Hashable] | None = None,
) -> xr.Dataset:
    """Agreement of lake maps with a truth, over the pixels that both observed.

    The counts are pooled over ``dim`` before anything is divided (the dataset IoU), so an empty date neither
    helps nor harms. Lazy where its inputs are; a task reads one block of each. Chip by chip, along shores,
    lake by lake, at every threshold and with intervals: :mod:`xglof.evaluate`.

    Parameters
    ----------
    seg
        Segmentation, or its ``lake``: ``([time,] y, x)`` uint8, 0 land, 1 lake, 255 unobserved.
        Pixels that its ``flags`` call ``not_requested`` count nowhere.
    truth
        ``lake`` of the same kind (or bool, observed everywhere), or a Dataset with it, on the same grid and
        dates. Without ``time`` it holds for every date of ``seg``.
    threshold
        Instead of ``lake``, ``lake_probability >= threshold`` is scored, NaN unobserved.
    dim
        What the counts are pooled over: ``None`` for everything, ``("y", "x")`` for scores of every date,
        ``"time"`` for a map of scores.

    Returns
    -------
    xarray.Dataset
        ``iou``, ``f1``, ``precision``, ``recall``: float64 between 0 and 1, NaN where 0 is divided by 0;
        ``tp``, ``fp``, ``fn``, ``tn``, ``unobserved``: int64 pixels. Dims: those of ``seg`` not in ``dim``.

    Raises
    ------
    CubeError
        As :func:`xglof.evaluate.confusion_counts`, and for a ``dim`` that ``seg`` has not.
    """
    pair = pair_lakes(seg, truth, threshold=threshold)
    scores = add_shares(count_outcomes(pair, pooled_dims(pair.mapped, dim)))
    return scores.assign_attrs({} if threshold is None else {"threshold": threshold})
