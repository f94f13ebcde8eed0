"""The lattice of windows: integers only.

Windows start at the multiples of the stride on the *absolute* pixel grid of the affine, so two cubes over
overlapping areas cut the same windows. They are never shifted inwards or re-spaced at an edge: a window may
hang over, and reads real neighbours, or reflections where the raster itself ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Share of a pixel below which an origin counts as lying on the pixel above. Plain rounding would flip for
#: grids whose origin lies half a pixel off.
_SNAP = 1e-3


def pixel_index(origin: float, resolution: float) -> int:
    """Absolute index of the first pixel of an axis.

    Parameters
    ----------
    origin
        Outer edge of the first pixel, in units of the CRS, counted in the direction in which the axis runs
        (for a north-up ``y`` axis: minus the northing of the top edge).
    resolution
        Pixel size in the same units; the sign is ignored.
    """
    return math.floor(origin / abs(resolution) + _SNAP)


@dataclass(frozen=True, slots=True)
class Axis:
    """Windows along one axis of a raster.

    Attributes
    ----------
    size
        Pixels of the raster along the axis.
    first
        Absolute index of its first pixel (:func:`pixel_index`).
    window, stride
        Pixels; ``1 <= stride <= window``.
    """

    size: int
    first: int
    window: int
    stride: int

    def starts(self, begin: int, end: int) -> range:
        """Starts of all windows that touch the pixels ``begin`` (included) to ``end`` (excluded).

        In pixels of the raster; negative for a window that hangs over the first edge.
        """
        lowest = (self.first + begin - self.window) // self.stride + 1
        highest = -((-self.first - end) // self.stride) - 1
        return range(lowest * self.stride - self.first, highest * self.stride - self.first + 1, self.stride)

    def extent(self, begin: int, end: int) -> tuple[int, int]:
        """The pixels, inside the raster or not, under the windows that touch ``begin`` to ``end``."""
        starts = self.starts(begin, end)
        return starts[0], starts[-1] + self.window

    def reads(self, begin: int, end: int) -> tuple[int, int]:
        """The pixels of the raster that these windows read, reflections included."""
        pixels = reflect(np.arange(*self.extent(begin, end)), self.size)
        return int(pixels.min()), int(pixels.max()) + 1


def reflect(index: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """Map any integer index into ``0 .. size - 1`` by reflection about the edge pixels.

    Period ``2 (size - 1)``; for ``size == 1`` every index maps to 0.

    Examples
    --------
    >>> reflect(np.arange(-3, 6), 3).tolist()
    [1, 2, 1, 0, 1, 2, 1, 0, 1]
    """
    if size == 1:
        return np.zeros_like(index)
    period = 2 * (size - 1)
    folded = np.mod(index, period)
    return np.asarray(np.minimum(folded, period - folded))


def stride_of(window: int, overlap: float) -> int:
    """Stride in pixels of windows that overlap by a fraction ``overlap`` of their width."""
    return max(1, round(window * (1 - overlap)))
