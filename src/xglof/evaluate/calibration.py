"""Calibration: whether three in ten of the pixels with a probability of 0.3 are lake."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np
import xarray as xr

from xglof.errors import CubeError
from xglof.evaluate.histogram import probability_histogram
from xglof.evaluate.sweep import PROBABILITY_UNIT

#: Groups of equal width between 0 and 1.
GROUPS = 20


def score_calibration(
    seg: xr.Dataset | xr.DataArray,
    truth: xr.Dataset | xr.DataArray,
    *,
    groups: int = GROUPS,
    dim: Hashable | Iterable[Hashable] | None = None,
) -> xr.Dataset:
    """How often pixels of each probability are lake, and by how much the probabilities are off.

    Lazy where its inputs are; cost as of :func:`xglof.evaluate.probability_histogram`.

    Parameters
    ----------
    seg, truth, dim
        As of :func:`xglof.evaluate.probability_histogram`.
    groups
        Groups of equal width that the probabilities are put in, a divisor of 1000.

    Returns
    -------
    xarray.Dataset
        As :func:`reliability`.

    Raises
    ------
    CubeError
        As :func:`xglof.evaluate.probability_histogram`, and for other numbers of groups.
    """
    return reliability(probability_histogram(seg, truth, dim=dim), groups=groups)


def reliability(histogram: xr.Dataset, *, groups: int = GROUPS) -> xr.Dataset:
    """What a histogram of probabilities says of their calibration.

    A map of lakes is nearly all land, with probabilities near 0. The calibration error is a mean over all
    pixels, so that it is small for any map that finds the land: read it with the curve.

    Parameters
    ----------
    histogram
        Sums of :func:`xglof.evaluate.probability_histogram`.
    groups
        Groups of equal width, a divisor of the number of steps (1000). A probability of exactly 1 belongs to
        the last one.

    Returns
    -------
    xarray.Dataset
        Dims ``(..., group)``: ``pixels`` int64; ``lake_pixels`` int64; ``mean_probability`` and
        ``lake_share`` (how many of the pixels are lake) float64, NaN for an empty group. Dims ``(...)``:
        ``ece``, the expected calibration error: the mean distance of the two, weighted by pixels; ``mce``,
        the largest. Coordinates ``lower`` and ``upper`` are the groups' edges.

    Raises
    ------
    CubeError
        Numbers of groups that do not divide the steps.

    References
    ----------
    Naeini, Cooper & Hauskrecht (2015), AAAI 29, 2901-2907, https://doi.org/10.1609/aaai.v29i1.9602
    """
    steps = histogram.sizes["bin"] - 1
    if groups < 1 or steps % groups:
        divisors = [str(number) for number in range(1, steps + 1) if steps % number == 0]
        raise CubeError(f"groups is {groups}; expected a divisor of {steps}: {', '.join(divisors)}")
    pixels = _grouped(histogram["pixels"].sum("truth"), groups)
    lake = _grouped(histogram["pixels"].isel(truth=1, drop=True), groups)
    total = _grouped(histogram["probability_sum"].sum("truth"), groups)
    full = pixels.where(pixels > 0)
    found = xr.Dataset({"pixels": pixels, "lake_pixels": lake})
    found["mean_probability"] = total * PROBABILITY_UNIT / full
    found["lake_share"] = lake / full
    off: xr.DataArray = abs(found["lake_share"] - found["mean_probability"])
    whole = pixels.sum("group")
    found["ece"] = (off * pixels).sum("group") / whole.where(whole > 0)
    found["mce"] = off.max("group")
    edges = np.arange(groups + 1) / groups
    for name, long_name in _LONG_NAMES.items():
        found[name].attrs = {"long_name": long_name, "units": "1"}
    return found.assign_coords(lower=("group", edges[:-1]), upper=("group", edges[1:]))


_LONG_NAMES = {
    "pixels": "observed pixels with probabilities of the group",
    "lake_pixels": "those of them that are lake",
    "mean_probability": "mean of their probabilities",
    "lake_share": "share of them that is lake",
    "ece": "expected calibration error",
    "mce": "largest calibration error of a group",
}


def _grouped(counts: xr.DataArray, groups: int) -> xr.DataArray:
    """Sums of neighbouring bins; the last bin, of exactly 1, joins the last group."""
    steps = counts.sizes["bin"] - 1
    group = xr.DataArray(np.minimum(np.arange(steps + 1) // (steps // groups), groups - 1), dims="bin")
    matrix = (group == xr.DataArray(np.arange(groups), dims="group")).astype(np.int64)
    sums: xr.DataArray = xr.dot(counts, matrix, dim="bin")
    return sums
