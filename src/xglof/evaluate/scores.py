"""IoU, F1, precision and recall from pooled counts."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import xarray as xr

from xglof.errors import CubeError
from xglof.evaluate.counts import count, outcomes


def score(
    seg: xr.Dataset | xr.DataArray,
    truth: xr.Dataset | xr.DataArray,
    *,
    threshold: float | None = None,
    dim: Hashable | Iterable[Hashable] | None = None,
) -> xr.Dataset:
    """Agreement of lake maps with a truth, over the pixels that both observed.

    The counts are pooled over ``dim`` before anything is divided (the dataset IoU), so an empty date neither
    helps nor harms. Lazy where its inputs are; a task reads one block of each.

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
    where = outcomes(seg, truth, threshold=threshold)
    scores = count(where, _pooled_dims(where, dim))
    tp, fp, fn = scores["tp"], scores["fp"], scores["fn"]
    shares = {
        "iou": ("intersection over union", tp, tp + fp + fn),
        "f1": ("F1, the harmonic mean of precision and recall", 2 * tp, 2 * tp + fp + fn),
        "precision": ("share of the mapped lake pixels that are lake", tp, tp + fp),
        "recall": ("share of the true lake pixels that were mapped", tp, tp + fn),
    }
    for name, (long_name, part, whole) in shares.items():
        scores[name] = part / whole.where(whole > 0)
        scores[name].attrs = {"long_name": long_name, "units": "1"}
    return scores.assign_attrs({} if threshold is None else {"threshold": threshold})


def _pooled_dims(where: xr.Dataset, dim: Hashable | Iterable[Hashable] | None) -> list[Hashable]:
    if dim is None:
        return list(where.dims)
    dims = [dim] if isinstance(dim, str) or not isinstance(dim, Iterable) else list(dim)
    unknown = [name for name in dims if name not in where.dims]
    if unknown:
        raise CubeError(f"dim names {unknown}, but the maps have {tuple(where.dims)}")
    return dims
