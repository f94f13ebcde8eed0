"""What counts of agreement say: IoU, F1, precision and recall. The last step of every reduction."""

from __future__ import annotations

import xarray as xr

#: Names of the shares that :func:`add_shares` gives, in the order of a table.
SHARES = ("iou", "f1", "precision", "recall")


def add_shares(counts: xr.Dataset) -> xr.Dataset:
    """The counts, and the shares that follow from them, lazily where the counts are.

    Parameters
    ----------
    counts
        With ``tp``, ``fp``, ``fn``: whole numbers of pixels or of lakes, any dims, already summed over all
        that shall be pooled: shares do not add, counts do.

    Returns
    -------
    xarray.Dataset
        With ``iou``, ``f1``, ``precision``, ``recall`` besides: float64 between 0 and 1, NaN where 0 is
        divided by 0, dims of the counts.

    Examples
    --------
    >>> one = add_shares(xr.Dataset({"tp": 6, "fp": 2, "fn": 4}))
    >>> float(one["iou"]), float(one["precision"]), float(one["recall"])
    (0.5, 0.75, 0.6)
    """
    tp, fp, fn = counts["tp"], counts["fp"], counts["fn"]
    shares = {
        "iou": ("intersection over union", tp, tp + fp + fn),
        "f1": ("F1, the harmonic mean of precision and recall", 2 * tp, 2 * tp + fp + fn),
        "precision": ("share of what was mapped as lake that is lake", tp, tp + fp),
        "recall": ("share of what is lake that was mapped", tp, tp + fn),
    }
    named = {name: part / whole.where(whole > 0) for name, (_, part, whole) in shares.items()}
    for name, share in named.items():
        share.attrs = {"long_name": shares[name][0], "units": "1"}
    return counts.assign(named)
