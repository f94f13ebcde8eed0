"""Lakes joined across the borders of blocks and tiles, exactly: everything here is whole pixels.

The same rings come out however the map was cut, because they are normalised after the union: no vertex within
a straight edge, each ring from its least vertex on, exteriors clockwise in (column, row), which is
counter-clockwise where rows run southwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xglof.cube.pixel_grid import Window
from xglof.lakes.outlines import BlockLakes, Int

_FORWARD = ((0, 1), (1, -1), (1, 0), (1, 1))  # half of the neighbours: each pair is met once
_AROUND = (*_FORWARD, *((-down, -across) for down, across in _FORWARD))


@dataclass(frozen=True, slots=True, eq=False)
class JoinedLakes:
    """The lakes of one date, by the row and then the column of their first pixel.

    Attributes
    ----------
    geometry
        ``(lake,)`` shapely polygons and multipolygons, x the column and y the row, absolute.
    touches_unobserved
        A neighbour of a pixel is 255.
    touches_edge
        A neighbour of a pixel lies in no tile.
    resolution_m
        The coarsest of the blocks in which the lake lies, metres.
    """

    geometry: NDArray[Any]
    touches_unobserved: NDArray[np.bool_]
    touches_edge: NDArray[np.bool_]
    resolution_m: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class _Pieces:
    """The fields of several :class:`BlockLakes` in one, pieces numbered through."""

    parts: NDArray[Any]
    piece: Int
    near_unobserved: NDArray[np.bool_]
    rim_row: Int
    rim_column: Int
    rim_piece: Int
    unobserved_row: Int
    unobserved_column: Int
    resolution_m: NDArray[np.float64]


def join_blocks(
    blocks: Sequence[BlockLakes], resolutions_m: Sequence[float], windows: Sequence[Window]
) -> JoinedLakes:
    """The lakes of one date from all its blocks.

    Parameters
    ----------
    blocks
        In any order.
    resolutions_m
        The effective resolution of each block, metres; 0 for the size of its pixels.
    windows
        Of the tiles that hold the date.
    """
    pieces = _gathered(blocks, resolutions_m)
    lake = _lakes_of_pieces(pieces)
    count = int(lake.max(initial=-1)) + 1
    geometry = _geometry(pieces, lake, count)
    flags = np.zeros((2, count), bool)
    flags[0, lake[pieces.near_unobserved]] = True
    flags[0, lake[pieces.rim_piece[_near_unobserved(pieces)]]] = True
    flags[1, lake[pieces.rim_piece[_at_the_edge(pieces.rim_row, pieces.rim_column, windows)]]] = True
    resolution = np.zeros(count)
    np.maximum.at(resolution, lake, pieces.resolution_m)
    order = _reading_order(geometry)
    return JoinedLakes(geometry[order], flags[0, order], flags[1, order], resolution[order])


def _gathered(blocks: Sequence[BlockLakes], resolutions_m: Sequence[float]) -> _Pieces:
    counts = [len(block.near_unobserved) for block in blocks]
    begins = np.cumsum([0, *counts])[:-1].tolist()
    each = list(zip(blocks, begins, strict=True))
    return _Pieces(
        parts=np.concatenate([block.parts for block in blocks]),
        piece=np.concatenate([block.piece + begin for block, begin in each]),
        near_unobserved=np.concatenate([block.near_unobserved for block in blocks]),
        rim_row=np.concatenate([block.rim_row for block in blocks]),
        rim_column=np.concatenate([block.rim_column for block in blocks]),
        rim_piece=np.concatenate([block.rim_piece + begin for block, begin in each]),
        unobserved_row=np.concatenate([block.unobserved_row for block in blocks]),
        unobserved_column=np.concatenate([block.unobserved_column for block in blocks]),
        resolution_m=np.repeat(np.asarray(resolutions_m, float), counts),
    )


def _keys(pieces: _Pieces) -> tuple[Int, Int, int]:
    """One number a pixel, of the lake and the unobserved ones of rims, and the difference of two rows."""
    rows = np.concatenate([pieces.rim_row, pieces.unobserved_row])
    columns = np.concatenate([pieces.rim_column, pieces.unobserved_column])
    if len(rows) == 0:
        return rows, rows, 1
    left = columns.min()
    span = int(columns.max() - left) + 3  # a column free on both sides: a step sideways meets no other row
    keys = (rows - rows.min()) * span + columns - left
    return keys[: len(pieces.rim_row)], keys[len(pieces.rim_row) :], span


def _lakes_of_pieces(pieces: _Pieces) -> Int:
    """The number of the lake of each piece: pieces with neighbouring pixels are one lake."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(pieces.near_unobserved)
    if count == 0:
        return np.empty(0, np.int64)
    wet, _, span = _keys(pieces)
    order = np.argsort(wet)
    key, piece = wet[order], pieces.rim_piece[order]
    pairs = [np.empty((2, 0), np.int64)]
    for down, across in _FORWARD:
        wanted = key + down * span + across
        at = np.minimum(np.searchsorted(key, wanted), max(len(key) - 1, 0))
        met = key[at] == wanted if len(key) else np.empty(0, bool)
        pairs.append(np.stack([piece[met], piece[at[met]]]))
    first, second = np.concatenate(pairs, axis=1)
    touching = coo_array((np.ones(len(first), bool), (first, second)), shape=(count, count))
    return np.asarray(connected_components(touching, directed=False)[1], np.int64)


def _near_unobserved(pieces: _Pieces) -> NDArray[np.bool_]:
    """Which lake pixels of rims have an unobserved neighbour on a rim."""
    wet, unobserved, span = _keys(pieces)
    near = np.zeros(len(wet), bool)
    for down, across in _AROUND:
        near |= np.isin(wet + down * span + across, unobserved)
    return near


def _at_the_edge(rows: Int, columns: Int, windows: Sequence[Window]) -> NDArray[np.bool_]:
    """Which pixels have a neighbour outside all windows."""
    edge = np.ones(len(rows), bool)
    for window in windows:  # those within a tile, which are most, need no look at other tiles
        edge &= ~_inside(rows, columns, window.widened(-1))
    row, column = rows[edge], columns[edge]
    free = np.zeros(len(row), bool)
    for down, across in _AROUND:
        covered = np.zeros(len(row), bool)
        for window in windows:
            covered |= _inside(row + down, column + across, window)
        free |= ~covered
    edge[edge] = free
    return edge


def _inside(rows: Int, columns: Int, window: Window) -> NDArray[np.bool_]:
    down = (rows >= window.top) & (rows < window.bottom)
    return down & (columns >= window.left) & (columns < window.right)


def _geometry(pieces: _Pieces, lake: Int, count: int) -> NDArray[Any]:
    """Normalised Polygon or MultiPolygon of each lake, from the number of each piece's lake."""
    import shapely

    if count == 0:
        return np.empty(0, object)
    owner = lake[pieces.piece]
    cut = np.bincount(lake, minlength=count)[owner] > 1
    united, number = _united(pieces.parts[cut], owner[cut])
    parts, owner = np.concatenate([pieces.parts[~cut], united]), np.concatenate([owner[~cut], number])
    order = np.argsort(owner, kind="stable")
    parts, owner = _straightened(parts[order]), owner[order]
    geometry = np.asarray(shapely.multipolygons(parts, indices=owner), object)
    alone = np.bincount(owner, minlength=count) == 1
    geometry[alone] = parts[alone[owner]]
    return np.asarray(shapely.normalize(geometry), object)


def _united(parts: NDArray[Any], lake: Int) -> tuple[NDArray[Any], Int]:
    """Parts of one lake with common edges made one, and the lake of each."""
    import shapely

    if len(parts) == 0:
        return parts, lake
    order = np.argsort(lake, kind="stable")
    parts, lake = parts[order], lake[order]
    begins = np.flatnonzero(np.diff(lake, prepend=-1))
    whole = np.array([shapely.union_all(group) for group in np.split(parts, begins[1:])], object)
    single, origin = shapely.get_parts(whole, return_index=True)
    return single, lake[begins][origin]


def _straightened(parts: NDArray[Any]) -> NDArray[Any]:
    """Polygons without the vertices that lie within a straight edge."""
    import shapely

    kind, vertices, (ring_ends, part_ends) = shapely.to_ragged_array(parts)
    first, last = ring_ends[:-1], ring_ends[1:] - 1  # a ring's last vertex is its first again
    at = np.arange(len(vertices))
    before, after = at - 1, at + 1
    before[first], after[last] = last - 1, first + 1
    into, out = vertices - vertices[before], vertices[after] - vertices
    turns = into[:, 0] * out[:, 1] != into[:, 1] * out[:, 0]
    turns[last] = False
    ring = np.repeat(np.arange(len(first)), np.diff(ring_ends))[turns]
    kept = vertices[turns]
    sizes = np.bincount(ring, minlength=len(first))
    begins = np.cumsum([0, *sizes])[:-1]
    closed = np.insert(kept, begins + sizes, kept[begins], axis=0)
    ends = np.concatenate([[0], np.cumsum(sizes + 1)])
    return np.asarray(shapely.from_ragged_array(kind, closed, (ends, part_ends)), object)


def _reading_order(geometry: NDArray[Any]) -> Int:
    """Order by the row and then the column of the first pixel, whose corner is a vertex."""
    import shapely

    vertices, lake = shapely.get_coordinates(geometry, return_index=True)
    order = np.lexsort((vertices[:, 0], vertices[:, 1], lake))
    corner = vertices[order[np.flatnonzero(np.diff(lake, prepend=-1))]]
    return np.asarray(np.lexsort((corner[:, 0], corner[:, 1])), np.int64)
