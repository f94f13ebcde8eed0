"""How many pixels of a kind lie under each window, block by block: arrays only.

A window's count is the sum of the counts of its parts, so blocks are counted on their own, each read once,
and added up. Within a block, pixels are first summed to cells, whose borders are those of the windows.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xglof.engine.job import Span
from xglof.engine.lattice import Axis, reflect

Weights = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Cover:
    """Which windows of an axis lie over which pixels of a block.

    Attributes
    ----------
    first
        Number of the first of these windows among all that touch the raster.
    cells
        First pixel of each cell of the block.
    inside
        ``(windows, cells)``: 1 where a window lies over a cell.
    seen
        How often a window sees a cell, reflections included where it hangs over the edge of the raster.
    """

    first: int
    cells: npt.NDArray[np.int64]
    inside: Weights
    seen: Weights

    @property
    def windows(self) -> slice:
        """The windows, among all that touch the raster."""
        return slice(self.first, self.first + len(self.inside))


@functools.lru_cache(maxsize=256)
def cover(axis: Axis, block: Span) -> Cover:
    """Windows of an axis over the pixels of a block, those that see it only in a reflection included.

    Parameters
    ----------
    axis
        The lattice.
    block
        First pixel, and the one after the last.
    """
    begin, end = block
    everywhere = axis.starts(0, axis.size)
    # a reflection is seen from no farther than a window's width
    starts = axis.starts(max(begin - axis.window, 0), min(end + axis.window, axis.size))
    pixels = np.array(starts, dtype=np.int64)[:, None] + np.arange(axis.window)
    inside, seen = (_weights(each, block) for each in (pixels, reflect(pixels, axis.size)))
    changes = (np.diff(inside) != 0).any(axis=0) | (np.diff(seen) != 0).any(axis=0)
    cells = np.concatenate([[0], np.flatnonzero(changes) + 1])
    first = (starts[0] - everywhere[0]) // axis.stride if starts else 0
    return Cover(first, cells, inside[:, cells], seen[:, cells])


def _weights(pixels: npt.NDArray[np.int64], block: Span) -> Weights:
    """How often each line of pixel numbers names each pixel of a block, ``(lines, pixels)``."""
    weights = np.zeros((len(pixels), block[1] - block[0]))
    line, column = np.nonzero((pixels >= block[0]) & (pixels < block[1]))
    np.add.at(weights, (line, pixels[line, column] - block[0]), 1)
    return weights


def in_cells(values: npt.NDArray[np.generic], down: Cover, across: Cover) -> npt.NDArray[np.float64]:
    """Sum of the values of each cell, ``(..., cells down, cells across)`` float64.

    Parameters
    ----------
    values
        ``(..., rows, columns)`` of a block, bool or float.
    down, across
        Its windows.
    """
    kind = np.int32 if values.dtype == np.bool_ else np.float64
    lines = np.add.reduceat(values, down.cells, axis=-2, dtype=kind)
    return np.asarray(np.add.reduceat(lines, across.cells, axis=-1), dtype=np.float64)


def under_windows(cells: npt.NDArray[np.float64], down: Weights, across: Weights) -> npt.NDArray[np.float64]:
    """Sum over each window, ``(..., windows down, windows across)`` float64.

    Parameters
    ----------
    cells
        As :func:`in_cells` gives them.
    down, across
        ``inside`` or ``seen`` of a :class:`Cover`.
    """
    return np.asarray(down @ cells @ across.T)
