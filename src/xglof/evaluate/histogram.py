"""Probabilities of lake maps against a truth, by bin: what sweeps and calibration follow from."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.errors import CubeError
from xglof.evaluate.pairing import pair_probability
from xglof.evaluate.reduction import Reduction, count_pixels, pooled_dims
from xglof.evaluate.sweep import PROBABILITY_UNIT, STEPS, histogram_codes, sweep_counts
from xglof.lakes.layer import UNOBSERVED, grid_dims

_SIZE = 2 * (STEPS + 1)


def probability_histogram(
    seg: xr.Dataset | xr.DataArray,
    truth: xr.Dataset | xr.DataArray,
    *,
    dim: Hashable | Iterable[Hashable] | None = None,
) -> xr.Dataset:
    """Counts of land and lake pixels by probability, over the pixels that both observed.

    They add over dates, tiles and workers. Lazy where its inputs are; a task reads one block of each and
    holds some 30 bytes a pixel of it, and gives 32 kB for each of its dates that are kept apart.

    Parameters
    ----------
    seg
        Segmentation with ``lake_probability``, or that layer: ``([time,] y, x)`` floating point from 0 to 1,
        NaN unobserved. Pixels that its ``flags`` call ``not_requested`` count nowhere.
    truth
        As :func:`xglof.evaluate.score` takes it.
    dim
        What the counts are pooled over: ``None`` for everything, ``("y", "x")`` for a histogram of every
        date. Rows and columns are always pooled.

    Returns
    -------
    xarray.Dataset
        ``pixels``: ``([time,] truth, bin)`` int64, truth 0 land and 1 lake, bins as of
        :func:`xglof.evaluate.histogram_counts`; ``probability_sum``, of the same dims, int64: the sum of
        their probabilities in units of 2^-24, whole numbers so that it is the same in any order.

    Raises
    ------
    CubeError
        No probabilities or not in 0 to 1, a ``dim`` that leaves rows or columns, and what
        :func:`xglof.evaluate.score` raises.
    """
    pair = pair_probability(seg, truth)
    counts = count_pixels(_HISTOGRAM, pair.layers, pool=_pooled(pair.mapped, dim))
    shape = (*counts.shape[:-1], 2, 2, STEPS + 1)
    pixels, sums = np.moveaxis(counts.data.reshape(shape), -3, 0)
    dims = (*counts.dims[:-1], "truth", "bin")
    found = xr.Dataset({"pixels": (dims, pixels), "probability_sum": (dims, sums)}, coords=counts.coords)
    found["pixels"].attrs = {"long_name": "pixels by truth and probability", "units": "1"}
    found["probability_sum"].attrs = {"long_name": "sum of the probabilities", "units": "2^-24"}
    return found


def _pooled(layer: xr.DataArray, dim: Hashable | Iterable[Hashable] | None) -> list[Hashable]:
    """The dims to pool over, both dims of space among them."""
    dims = pooled_dims(layer, dim)
    rows, columns = grid_dims(layer)
    if {rows, columns} - set(dims):
        size = 2 * _SIZE * np.dtype(np.int64).itemsize / 1000
        raise CubeError(
            f"dim is {dim!r}; expected both {rows!r} and {columns!r} among them, because a histogram of each "
            f"place would take {size:.0f} kB: for a map of scores use score(..., threshold=..., dim='time')"
        )
    return dims


def sweep_thresholds(
    seg: xr.Dataset | xr.DataArray,
    truth: xr.Dataset | xr.DataArray,
    *,
    thresholds: Iterable[float] | None = None,
    dim: Hashable | Iterable[Hashable] | None = None,
) -> xr.Dataset:
    """Scores at every threshold, from one pass over the probabilities.

    At each threshold the counts are those of ``score(seg, truth, threshold=...)``, to the pixel. A compact
    file holds probabilities in steps of 1/250, so that near a threshold its ``lake`` may differ. The best
    threshold on the maps that are reported is a little too good: choose it on others. Lazy where its inputs
    are; cost as of :func:`probability_histogram`.

    Parameters
    ----------
    seg, truth, dim
        As of :func:`probability_histogram`.
    thresholds
        Multiples of 0.001; ``None`` for all of them from 0 to 1.

    Returns
    -------
    xarray.Dataset
        As :func:`xglof.evaluate.sweep_counts`, dims ``([time,] threshold)``.

    Raises
    ------
    CubeError
        As :func:`probability_histogram`, and for a threshold that is not offered.
    """
    return sweep_counts(probability_histogram(seg, truth, dim=dim)["pixels"], thresholds=thresholds)


def _codes(
    probability: NDArray[Any], actual: NDArray[np.uint8], asked: NDArray[np.bool_] | None
) -> NDArray[np.int32]:
    """Bins of the pixels of one block, the truth without dates repeated for all."""
    label = actual if asked is None else np.where(asked, actual, np.uint8(UNOBSERVED))
    shape = np.broadcast_shapes(probability.shape, label.shape)
    return histogram_codes(np.broadcast_to(probability, shape), np.broadcast_to(label, shape), steps=STEPS)


def _units(
    probability: NDArray[Any], actual: NDArray[np.uint8], asked: NDArray[np.bool_] | None
) -> NDArray[np.float64]:
    units: NDArray[np.float64] = np.rint(np.nan_to_num(probability).astype(np.float64) / PROBABILITY_UNIT)
    return units


_HISTOGRAM = Reduction(_codes, _SIZE, _units)
