"""Outlines of the lakes in one block, in whole pixels, and what its neighbours need to join them.

No neighbour is read: a block gives the polygons of its own lakes, and the lake and unobserved pixels along
its rim, by which :mod:`xglof.lakes.joining` joins what crosses a border.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xglof.lakes.layer import LAKE, UNOBSERVED, check_values

Int = NDArray[np.int64]

_EIGHT = np.ones((3, 3), bool)
# rasterio silences a warning about its own buffers in a way that threads undo for each other; nothing is
# lost, because it keeps the interpreter to itself meanwhile
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True, slots=True, eq=False)
class BlockLakes:
    """The lakes of one block at one date. Rows and columns are absolute: counted on the lattice.

    Attributes
    ----------
    parts
        ``(part,)`` shapely polygons, x the column and y the row of pixels' corners: 4-connected.
    piece
        ``(part,)`` the piece, from 0, that the part belongs to. A piece is what of a lake lies in the block:
        8-connected, so that several parts may touch at corners.
    near_unobserved
        ``(piece,)`` bool: a pixel of 255 in the block is among the 8 neighbours.
    rim_row, rim_column, rim_piece
        Lake pixels of the block's outermost rows and columns.
    unobserved_row, unobserved_column
        Pixels of 255 there.
    """

    parts: NDArray[Any]
    piece: Int
    near_unobserved: NDArray[np.bool_]
    rim_row: Int
    rim_column: Int
    rim_piece: Int
    unobserved_row: Int
    unobserved_column: Int


def outline_block(
    block: NDArray[np.uint8],
    tops: tuple[int, ...],
    lefts: tuple[int, ...],
    block_id: tuple[int, ...] = (0, 0, 0),
) -> NDArray[Any]:
    """A :class:`BlockLakes` for every date of a block.

    Parameters
    ----------
    block
        ``(time, y, x)`` uint8: 0 land, 1 lake, 255 unobserved.
    tops, lefts
        Absolute first row of each row of blocks, and first column of each column of blocks.
    block_id
        Which block it is along time, y and x.

    Returns
    -------
    numpy.ndarray
        ``(time, 1, 1)`` objects.

    Raises
    ------
    CubeError
        Other values than 0, 1 and 255.
    """
    found = np.empty((len(block), 1, 1), object)
    for step, values in enumerate(block):
        found[step, 0, 0] = outline_lakes(values, tops[block_id[1]], lefts[block_id[2]])
    return found


def outline_lakes(values: NDArray[np.uint8], top: int, left: int) -> BlockLakes:
    """The lakes of a block ``(y, x)`` uint8 whose first pixel lies at an absolute row and column."""
    from scipy.ndimage import label

    check_values(values)
    height, width = values.shape
    rows, columns = _rim(height, width)
    dark = values[rows, columns] == UNOBSERVED
    dark_row, dark_column = rows[dark] + top, columns[dark] + left
    wet = values == LAKE
    if not wet.any():
        none = np.empty(0, np.int64)
        return BlockLakes(
            np.empty(0, object), none, np.empty(0, bool), none, none, none, dark_row, dark_column
        )
    labels, count = label(wet, _EIGHT, output=np.int32)
    near = np.zeros(count, bool)
    near[labels[_beside_unobserved(values) & wet] - 1] = True
    parts, piece = _trace(labels, wet, top, left)
    here = wet[rows, columns]
    rows, columns = rows[here], columns[here]
    rim_piece = labels[rows, columns].astype(np.int64) - 1
    return BlockLakes(parts, piece, near, rows + top, columns + left, rim_piece, dark_row, dark_column)


def _beside_unobserved(values: NDArray[np.uint8]) -> NDArray[np.bool_]:
    # rows and then columns: a tenth of the time of binary_dilation
    near: NDArray[np.bool_] = values == UNOBSERVED
    if near.any():
        for along in (near, near.T):
            given = along.copy()
            along[1:] |= given[:-1]
            along[:-1] |= given[1:]
    return near


def _rim(height: int, width: int) -> tuple[Int, Int]:
    """Rows and columns of a block's outermost pixels, each once."""
    first_row, first_column = np.arange(width), np.arange(height) * width
    last_row, last_column = (height - 1) * width + first_row, first_column + width - 1
    rows, columns = np.divmod(
        np.unique(np.concatenate([first_row, last_row, first_column, last_column])), width
    )
    return rows, columns


def _trace(
    labels: NDArray[np.int32], wet: NDArray[np.bool_], top: int, left: int
) -> tuple[NDArray[Any], Int]:
    """4-connected polygons of labels, and the label less 1 of each."""
    import shapely
    from affine import Affine
    from rasterio.features import shapes

    rings: list[list[tuple[float, float]]] = []
    ends, piece = [0], []
    place = Affine.translation(left, top)
    with _ONE_AT_A_TIME:
        for outline, number in shapes(labels, mask=wet, connectivity=4, transform=place):
            rings.extend(outline["coordinates"])
            ends.append(len(rings))
            piece.append(int(number) - 1)
    vertices = np.array(list(chain.from_iterable(rings)), np.float64)
    ring_ends = np.cumsum([0, *map(len, rings)])
    parts = shapely.from_ragged_array(shapely.GeometryType.POLYGON, vertices, (ring_ends, np.array(ends)))
    return parts, np.array(piece, np.int64)
