"""Blending weights that sum to one exactly: arrays only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

#: What the weights over one pixel sum to along one axis. The product over two axes is 2**24, so every
#: product and every partial sum of weights is an integer that float32 holds exactly.
UNITY = 4096


def window_weights(window: int, stride: int) -> npt.NDArray[np.int64]:
    """Integer Hann weights of a window: a partition of unity under shifts by ``stride``.

    Each residue class modulo the stride, which is the set of weights that meet over one pixel, sums to
    :data:`UNITY`; shares are rounded by the method of largest remainder, ties to the smaller index.

    Parameters
    ----------
    window, stride
        Pixels; ``1 <= stride <= window``.

    Returns
    -------
    numpy.ndarray
        ``(window,)`` int64, each from 0 to :data:`UNITY`.

    Notes
    -----
    Hann was the best of the windows compared by Pielawski and Wählby (2020, PLOS ONE 15, e0229839). Plain
    float32 weights miss a sum of one at up to three pixels in four; these never do.

    Examples
    --------
    >>> weights = window_weights(8, 4)
    >>> (weights[:4] + weights[4:]).tolist()
    [4096, 4096, 4096, 4096]
    """
    hann = np.sin(np.pi * (np.arange(window) + 0.5) / window) ** 2
    weights = np.zeros(window, dtype=np.int64)
    for residue in range(min(stride, window)):
        share = hann[residue::stride] / hann[residue::stride].sum() * UNITY
        floor = np.floor(share).astype(np.int64)
        missing = UNITY - int(floor.sum())
        order = np.argsort(-(share - floor), kind="stable")
        floor[order[:missing]] += 1
        weights[residue::stride] = floor
    return weights
