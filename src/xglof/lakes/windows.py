"""Windows: the parts of a layer's blocks that lakes may touch, and the blocks that hold their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xglof.lakes.cells import drawn

#: Number of a block along an axis, and the pixels of it that are read.
Piece = tuple[int, slice]
#: One block, or rows of blocks.
Blocks = NDArray[Any] | Sequence[Sequence[NDArray[Any]]]

_CORNER_PX = 1e-6  # coordinates' last bits are no pixel


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a block that lakes may touch.

    Attributes
    ----------
    rows, columns
        Where it lies in the layer.
    down, across
        The blocks that it reads from: its own, and the first row or column of the next where a lake goes on
        there. Those neighbours say whether the block's edge is the lake's; elsewhere the next block is not
        read.
    homes
        The homes that may have pixels here or in reach, ascending.
    lakes
        The lakes that hold one of them at some date, ascending: those that are counted here.
    """

    rows: slice
    columns: slice
    down: tuple[Piece, ...]
    across: tuple[Piece, ...]
    homes: NDArray[np.intp]
    lakes: NDArray[np.intp]

    @property
    def read(self) -> tuple[slice, slice]:
        """Rows and columns with the neighbours."""
        below, beside = len(self.down) - 1, len(self.across) - 1
        return (
            slice(self.rows.start, self.rows.stop + below),
            slice(self.columns.start, self.columns.stop + beside),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Its size without the neighbours."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


def windows(
    chunks: tuple[tuple[int, ...], tuple[int, ...]], boxes: NDArray[np.int64], held: NDArray[np.integer]
) -> list[Window]:
    """Windows of the blocks that homes may touch.

    Parameters
    ----------
    chunks
        Sizes of the blocks along rows and columns.
    boxes
        ``(home, 4)`` as :func:`pixel_boxes` returns them.
    held
        ``(home, time)``: the lake that holds each home.
    """
    import shapely

    down, across = (_spans(sizes) for sizes in chunks)
    places = [(i, j) for i in range(len(down)) for j in range(len(across))]
    if not places or not len(boxes):
        return []
    edges = [(across[j][1].start, down[i][1].start, across[j][1].stop, down[i][1].stop) for i, j in places]
    tree = shapely.STRtree(shapely.box(*boxes[:, [2, 0, 3, 1]].T))
    block, home = tree.query(shapely.box(*np.array(edges).T))  # with those that only touch it
    order = np.lexsort((home, block))
    numbers, start = np.unique(block[order], return_index=True)
    found = []
    for number, homes in zip(numbers.tolist(), np.split(home[order], start[1:]), strict=True):
        i, j = places[number]
        window = _window(boxes[homes], homes, held[homes], down[i : i + 2], across[j : j + 2])
        found += [] if window is None else [window]
    return found


def _spans(sizes: tuple[int, ...]) -> list[tuple[int, slice]]:
    """Number and pixels of the blocks along an axis; those without any are left out."""
    ends = np.cumsum(sizes, dtype=int).tolist()
    places = enumerate(zip(ends, sizes, strict=True))
    return [(number, slice(end - size, end)) for number, (end, size) in places if size]


def _window(
    boxes: NDArray[np.int64],
    homes: NDArray[np.intp],
    held: NDArray[np.integer],
    down: list[tuple[int, slice]],
    across: list[tuple[int, slice]],
) -> Window | None:
    """Window of a block and the homes that touch it or lie right beside it; ``None`` without any in it."""
    (_, block_rows), (_, block_columns) = down[0], across[0]
    here = (boxes[:, 0] < block_rows.stop) & (boxes[:, 1] > block_rows.start)
    here &= (boxes[:, 2] < block_columns.stop) & (boxes[:, 3] > block_columns.start)
    if not here.any():
        return None
    top, _, left, _ = (int(v) for v in boxes[here].min(axis=0))
    _, bottom, _, right = (int(v) for v in boxes[here].max(axis=0))
    rows = slice(max(top, block_rows.start), min(bottom, block_rows.stop))
    columns = slice(max(left, block_columns.start), min(right, block_columns.stop))
    beside_rows = (boxes[:, 0] < rows.stop) & (boxes[:, 1] > rows.start)
    below_columns = (boxes[:, 2] < columns.stop) & (boxes[:, 3] > columns.start)
    # not only the homes of this block: one that begins right beyond its edge may be of the same lake
    below = below_columns & (boxes[:, 0] <= rows.stop) & (boxes[:, 1] > rows.stop)
    beside = beside_rows & (boxes[:, 2] <= columns.stop) & (boxes[:, 3] > columns.stop)
    near = here | below | beside
    return Window(
        rows,
        columns,
        _pieces(rows, down if below.any() else down[:1]),
        _pieces(columns, across if beside.any() else across[:1]),
        homes=homes[near],
        lakes=np.unique(held[here]).astype(np.intp),
    )


def _pieces(part: slice, blocks: Sequence[tuple[int, slice]]) -> tuple[Piece, ...]:
    """The block's own pixels of a window, and the first of the next block."""
    (number, block), *after = blocks
    own = (number, slice(part.start - block.start, part.stop - block.start))
    return own, *((number, slice(0, 1)) for number, _ in after)


def pixel_boxes(geometry: NDArray[Any], buffer_px: int) -> NDArray[np.int64]:
    """First and last (excluded) row and column of buffered polygons, not cut at the grid's edge.

    Parameters
    ----------
    geometry
        Polygons in pixels, as :func:`xglof.lakes.footprints.in_pixels` returns them.
    buffer_px
        Width of the buffer.
    """
    import shapely

    left, top, right, bottom = shapely.bounds(geometry).T if len(geometry) else np.empty((4, 0))
    low = np.floor(np.stack([top, left]) + _CORNER_PX) - buffer_px
    high = np.ceil(np.stack([bottom, right]) - _CORNER_PX) + buffer_px
    return np.stack([low[0], high[0], low[1], high[1]], axis=1).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Shown:
    """Polygons of lakes at their dates, as far as a window shows them: their pixels are the lake's.

    Attributes
    ----------
    step
        Time step of each, ascending.
    place
        Place of its lake in the window's lakes, or their number for a lake of another window.
    geometry
        Shapely polygons in the grid's CRS; within a date, of two that overlap the first has the pixel.
    transform
        Affine transform of the window with its neighbours.
    """

    step: NDArray[np.intp]
    place: NDArray[np.intp]
    geometry: NDArray[Any]
    transform: Any

    def between(self, times: slice) -> Shown | None:
        """Those of some time steps, counted from the first of these; ``None`` for none."""
        start, stop = np.searchsorted(self.step, [times.start, times.stop])
        if start == stop:
            return None
        rows = slice(start, stop)
        return Shown(self.step[rows] - times.start, self.place[rows], self.geometry[rows], self.transform)

    def image(self, step: int, shape: tuple[int, int]) -> NDArray[np.int32] | None:
        """Place plus one of the lake that each pixel shows, 0 for none; ``None`` without polygons."""
        start, stop = np.searchsorted(self.step, [step, step + 1])
        if start == stop:
            return None
        return drawn(self.geometry[start:stop], self.place[start:stop], self.transform, shape)


def joined(pieces: Blocks, window: Window) -> NDArray[Any]:
    """``(time, y, x)`` values of a window with its neighbours, from the block or blocks that it reads."""
    if isinstance(pieces, np.ndarray):
        (_, rows), (_, columns) = window.down[0], window.across[0]
        return np.asarray(pieces[:, rows, columns])
    cut = [
        [block[:, rows, columns] for block, (_, columns) in zip(line, window.across, strict=True)]
        for line, (_, rows) in zip(pieces, window.down, strict=True)
    ]
    return np.asarray(np.block(cut))
