"""In which order the stored blocks of rasters are walked through, so that each is read about once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xglof.train.reader import STILL, Edges, Group

Numbers = npt.NDArray[np.int64]

#: Bytes of stored blocks that are held where nobody says how many, at least and at most.
_CACHE_BYTES = (1 << 28, 1 << 31)
#: Blocks that chips are to be drawn from at a time: what the cache is made for, and what is of use at most.
_OPEN, _MOST_OPEN = 8, 64


@dataclass(frozen=True, slots=True)
class Layout:
    """The blocks of a raster as they are stored.

    Attributes
    ----------
    edges
        Along time (one step without), y and x, the first pixel of each block and, last, the size.
    block_bytes
        Of all variables over the largest block.
    reach
        Blocks down and across, beyond the one of its first pixel, that a chip touches.
    """

    edges: Edges
    block_bytes: int
    reach: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of blocks along time, y and x."""
        times, rows, cols = (len(each) - 1 for each in self.edges)
        return times, rows, cols

    def held(self, strip: int, spread: int = 1) -> int:
        """Bytes of the blocks that a walk down a strip comes back to, which draws from so many at a time."""
        _, rows, cols = self.shape
        down, across = self.reach
        lines = min(down, rows - 1) * min(strip + across, cols)  # read on the way, come back to on the next
        # those just left are in the way for as long as those they made room for
        return min(lines + across + 2 * spread + 1, rows * cols) * self.block_bytes

    def strip(self, budget: int) -> int:
        """Width in blocks of the widest strips that a walk within a budget of bytes goes down, at least 1."""
        fits = [width for width in range(1, self.shape[2] + 1) if self.held(width) <= budget]
        return max(fits, default=1)

    def numbers(self, step: Numbers, row: Numbers, col: Numbers, strip: int) -> tuple[Numbers, Numbers]:
        """Numbers of the strips and of the blocks that pixels lie in, in reading order.

        A strip is walked down row by row; pixels may lie beyond the edges.
        """
        lines = [
            np.clip(np.searchsorted(edges, place, side="right") - 1, 0, len(edges) - 2)
            for edges, place in zip(self.edges, (step, row, col), strict=True)
        ]
        _, rows, cols = self.shape
        left = lines[2] // strip * strip
        width = np.minimum(strip, cols - left)
        walk = lines[0] * -(-cols // strip) + left // strip
        block = (lines[0] * cols + left) * rows + lines[1] * width + lines[2] - left
        return walk.astype(np.int64), block.astype(np.int64)


def layout_of(groups: Sequence[Group], size: int) -> Layout:
    """The blocks of the variables that take most of a raster's bytes, for chips of a size in pixels."""
    weights = [sum(each.dtype.itemsize for each in group.variables.values()) for group in groups]
    timed = [len(group.edges) == 3 for group in groups]
    main = groups[max(range(len(groups)), key=lambda number: (timed[number], weights[number]))]
    edges = main.edges if len(main.edges) == 3 else ((0, 1), *main.edges)
    sides = [int(np.diff(each).max()) for each in edges]
    once = sum(weight for weight, has_time in zip(weights, timed, strict=True) if not has_time)
    step = sum(weights) - once
    reach = -(-size // sides[1]), -(-size // sides[2])
    return Layout(edges, sides[1] * sides[2] * (sides[0] * step + once), reach)


@dataclass(frozen=True, slots=True)
class Walks:
    """How rasters are walked through.

    Attributes
    ----------
    strips
        By raster, the width of the strips that are walked down, blocks.
    most
        Walks whose blocks the cache holds at the same time.
    spread
        Blocks that chips are drawn from at the same time, of all these walks together.
    """

    strips: tuple[int, ...]
    most: int
    spread: int


def cache_for(layouts: Sequence[Layout]) -> int:
    """Bytes for what a walk down each whole raster comes back to, or for many small rasters."""
    wanted = [
        layout.held(layout.shape[2], _OPEN)
        if np.prod(layout.shape[1:]) > 1
        else _MOST_OPEN * layout.block_bytes
        for layout in layouts
    ]
    return min(max(*wanted, _CACHE_BYTES[0]), _CACHE_BYTES[1])


def walks_in(layouts: Sequence[Layout], cache_bytes: int) -> Walks:
    """Walks that draw from as many blocks at a time as a cache allows.

    Wide strips come first, since blocks at their borders are read twice; then it is weighed whether more
    walks or more blocks of each make more blocks.
    """
    room = cache_bytes - cache_bytes // STILL
    strips = tuple(layout.strip(room) for layout in layouts)
    count = sum(
        layout.shape[0] * -(-layout.shape[2] // strip) for layout, strip in zip(layouts, strips, strict=True)
    )
    best = (1, 1)
    for walks in range(1, min(count, _MOST_OPEN) + 1):
        each = room // walks
        spread = min(_spread(layout, strip, each) for layout, strip in zip(layouts, strips, strict=True))
        if spread and walks * spread >= best[0] * best[1]:
            best = (walks, spread)
    return Walks(strips, best[0], min(best[0] * best[1], _MOST_OPEN))


def _spread(layout: Layout, strip: int, budget: int) -> int:
    """Blocks that a walk within a budget of bytes can draw from at a time."""
    blocks = layout.shape[1] * min(strip, layout.shape[2])
    return max((spread for spread in range(1, blocks + 1) if layout.held(strip, spread) <= budget), default=0)
