"""Scores at every threshold from one pass over the probabilities: a histogram whose edges are thresholds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.errors import CubeError
from xglof.evaluate.shares import add_shares
from xglof.lakes.layer import LAKE, check_values

#: Steps from 0 to 1: the thresholds offered are 0, 0.001, ... 1.
STEPS = 1000
#: Probabilities are summed in whole numbers of this, so that sums are the same in any order.
PROBABILITY_UNIT = 2.0**-24  # what float32 resolves between 0.5 and 1; 5e8 pixels of it stay exact in float64

_OVER_ONE = 1e-6  # what rounding may add to a probability of 1
_NEAR = 1e-9  # thresholds closer than this are one


def histogram_counts(
    probability: NDArray[Any], label: NDArray[Any], *, steps: int = STEPS
) -> NDArray[np.int64]:
    """Counts of land and of lake pixels by probability; they add by ``+``.

    A pixel lies in the bin of the highest threshold that it reaches: bin ``k`` holds those with
    ``k / steps <= probability < (k + 1) / steps``, both ends rounded to the probability's own dtype as
    :func:`xglof.segment` rounds its threshold (0.7 in float32 lies below 0.7 in float64). So a sweep over the
    counts decides at every ``k / steps`` exactly as ``probability >= threshold`` does.

    Parameters
    ----------
    probability
        Of lake, floating point from 0 to 1, any shape; NaN counts nowhere.
    label
        Of the same shape, uint8: 0 land, 1 lake, 255 counts nowhere; or bool.
    steps
        Bins between 0 and 1; one more holds what is exactly 1.

    Returns
    -------
    numpy.ndarray
        ``(2, steps + 1)`` int64 pixels: land, then lake.

    Raises
    ------
    CubeError
        Probabilities that are no floats or not in 0 to 1, labels of other values, two shapes.

    Examples
    --------
    >>> probability = np.array([0.2, 0.7, 0.9, np.nan], "float32")
    >>> counts = histogram_counts(probability, np.array([0, 1, 0, 1], "uint8"), steps=10)
    >>> counts.nonzero()[0].tolist(), counts.nonzero()[1].tolist()
    ([0, 0, 1], [2, 9, 7])
    """
    probability, label = np.asarray(probability), np.asarray(label)
    if probability.shape != label.shape:
        raise CubeError(
            f"probabilities have the shape {probability.shape} and labels {label.shape}; expected one shape"
        )
    codes = histogram_codes(probability, label, steps=steps)
    counts = np.bincount(codes.ravel(), minlength=2 * (steps + 1) + 1)[:-1]
    return counts.reshape(2, steps + 1).astype(np.int64, copy=False)


def histogram_codes(
    probability: NDArray[Any], label: NDArray[Any], *, steps: int = STEPS
) -> NDArray[np.int32]:
    """Of every pixel ``bin + label * (steps + 1)``; what counts nowhere has ``2 * (steps + 1)``."""
    if probability.dtype.kind != "f":
        raise CubeError(f"probabilities are {probability.dtype}; expected floats from 0 to 1, NaN unobserved")
    if label.dtype != bool:
        check_values(_as_uint8(label))
    known = ~np.isnan(probability) & (label <= LAKE)
    values = np.where(known, probability, probability.dtype.type(0))
    strange = (values < 0) | (values > 1 + _OVER_ONE)
    if strange.any():
        raise CubeError(
            f"the probabilities hold {values[strange].ravel()[0]:g}; expected 0 to 1, NaN unobserved: "
            "logits take a sigmoid first"
        )
    codes = _bins(values, steps) + np.asarray(label == LAKE, np.int32) * (steps + 1)
    return np.where(known, codes, np.int32(2 * (steps + 1)))


def _as_uint8(label: NDArray[Any]) -> NDArray[np.uint8]:
    if label.dtype != np.uint8:
        raise CubeError(f"labels are {label.dtype}; expected uint8 (0 land, 1 lake, 255 ignored) or bool")
    return label


def _bins(values: NDArray[Any], steps: int) -> NDArray[np.int32]:
    """Index of the highest threshold that each value from 0 to 1 reaches."""
    edges = np.append(thresholds_of(steps).astype(values.dtype), values.dtype.type(np.inf))
    # an edge lies within one rounding of k / steps: the product is off by one bin at most
    bins = np.minimum((values.astype(np.float64) * steps).astype(np.int32), steps)
    bins -= values < edges[bins]
    bins += values >= edges[bins + 1]
    return bins


def thresholds_of(steps: int = STEPS) -> NDArray[np.float64]:
    """The thresholds of a histogram, ``(steps + 1,)``: 0, 1 / steps, ... 1."""
    return np.arange(steps + 1) / steps


def sweep_counts(
    counts: NDArray[Any] | xr.DataArray, *, thresholds: Iterable[float] | None = None
) -> xr.Dataset:
    """Scores at every threshold from the counts of a histogram.

    Parameters
    ----------
    counts
        Sums of :func:`histogram_counts`, ``(..., 2, bins)``: land and lake pixels by probability. Of a
        DataArray the last two dims are these, and the others stay.
    thresholds
        Multiples of ``1 / (bins - 1)``, 0.001 by default; ``None`` for all of them.

    Returns
    -------
    xarray.Dataset
        Dims ``(..., threshold)``: ``tp``, ``fp``, ``fn``, ``tn`` int64 pixels; ``iou``, ``f1``,
        ``precision``, ``recall`` float64, NaN where 0 is divided by 0. Coordinate ``threshold`` float64.

    Raises
    ------
    CubeError
        Counts of another shape, a threshold between two bins.

    Examples
    --------
    >>> probability, label = np.array([0.2, 0.7, 0.9], "float32"), np.array([0, 1, 0], "uint8")
    >>> found = sweep_counts(histogram_counts(probability, label), thresholds=[0.5, 0.7, 0.8])
    >>> found["iou"].values.tolist()
    [0.5, 0.5, 0.0]
    """
    table = _table(counts)
    reached = table.isel(bin=slice(None, None, -1)).cumsum("bin").isel(bin=slice(None, None, -1))
    lake, land = reached.isel(truth=1, drop=True), reached.isel(truth=0, drop=True)
    found = xr.Dataset(
        {
            "tp": lake,
            "fp": land,
            "fn": lake.isel(bin=0) - lake,
            "tn": land.isel(bin=0) - land,
        }
    )
    found = found.rename(bin="threshold").assign_coords(threshold=thresholds_of(table.sizes["bin"] - 1))
    found["threshold"].attrs = {"long_name": "least probability of a lake", "units": "1"}
    wanted = None if thresholds is None else _offered(list(thresholds), table.sizes["bin"] - 1)
    return add_shares(found if wanted is None else found.isel(threshold=wanted))


def best_threshold(found: xr.Dataset) -> tuple[float, float]:
    """The threshold with the best IoU, the lowest of several, and that IoU; NaN where there is no lake.

    On the maps that it was chosen on, that IoU is a little too good.

    Parameters
    ----------
    found
        As :func:`sweep_counts` returns it, dim ``threshold`` only.
    """
    iou = found["iou"].to_numpy()
    if not np.isfinite(iou).any():
        return float("nan"), float("nan")
    place = int(np.nanargmax(iou))
    return float(found["threshold"][place]), float(iou[place])


def _table(counts: NDArray[Any] | xr.DataArray) -> xr.DataArray:
    if counts.ndim < 2 or counts.shape[-2] != 2 or counts.shape[-1] < 2 or counts.dtype.kind not in "iu":
        raise CubeError(
            f"counts are {counts.dtype} of the shape {counts.shape}; expected whole numbers (..., 2, bins), "
            "as histogram_counts() returns them"
        )
    if isinstance(counts, xr.DataArray):
        table = counts.rename(dict(zip(counts.dims[-2:], ("truth", "bin"), strict=True)))
    else:
        table = xr.DataArray(counts, dims=[*(f"dim_{n}" for n in range(counts.ndim - 2)), "truth", "bin"])
    return table.drop_vars(["truth", "bin"], errors="ignore").astype(np.int64)


def _offered(thresholds: list[float], steps: int) -> list[int]:
    places = [round(threshold * steps) for threshold in thresholds]
    for threshold, place in zip(thresholds, places, strict=True):
        if not 0 <= place <= steps or abs(threshold - place / steps) > _NEAR:
            raise CubeError(
                f"threshold {threshold} is not offered; expected multiples of {1 / steps:g} from 0 to 1"
            )
    return places
