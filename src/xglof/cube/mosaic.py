"""The graph from native blocks to planes of a cube: one task a block of the cube lays the files side by side.

A task takes the native blocks that its part of the cube touches, joins those that lie on one pixel grid,
resamples each grid once and lets the first valid value win. So seams between files of one grid are
interpolated across, and no block is read twice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.array import Array
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import NDArray

from xglof.bands import Resampling
from xglof.cube.harmonise import RadarUnits, remove_offset, to_power
from xglof.cube.pixel_grid import PixelGrid, Window
from xglof.cube.resample import halo_px, is_nodata, resample
from xglof.cube.stacks import SourceFile, Stack


@dataclass(frozen=True, slots=True)
class Finish:
    """How the pixels of one band become those of the cube.

    Attributes
    ----------
    dtype, nodata
        Of the result.
    how
        Resampling.
    units
        Of radar backscatter, which is resampled in linear power; ``None`` for everything else.
    seams
        Fill gaps of one native pixel between known ones (elevation).
    sea
        South and west of the degrees in which what no file covers is 0 (elevation).
    fill
        Nodata of the blocks that are read.
    mark
        What a block holds that could not be read; ``None`` where failures raise.
    """

    dtype: str
    nodata: float
    how: Resampling
    units: RadarUnits | None = None
    seams: bool = False
    sea: tuple[tuple[int, int], ...] = ()
    fill: float = math.nan
    mark: float | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Blocks of the files on one pixel grid that a part of the cube needs, the first file first.

    Attributes
    ----------
    grid, window
        The pixels that are needed.
    places
        First row and column of each block.
    reaches
        Where the file of each block has pixels.
    """

    grid: PixelGrid
    window: Window
    places: tuple[tuple[int, int], ...]
    reaches: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """A block of the cube and where its pixels come from."""

    target: PixelGrid
    wanted: Window
    sources: tuple[Source, ...]


_TILE_EDGE_DEG = 6 / 3600  # half of the widest pixel of the DEM, and a little

Keys = list[tuple[Any, ...]]
Offsets = tuple[tuple[int, ...], ...]


def mosaic(
    planes: Sequence[Sequence[SourceFile]],
    stacks: Mapping[SourceFile, Stack],
    target: PixelGrid,
    tiling: tuple[Sequence[Window], ...],
    finish: Finish,
    *,
    name: str,
) -> tuple[Any, Any | None]:
    """A band of a cube, lazily, and where its files could not be read.

    Parameters
    ----------
    planes
        For each plane its files, in order of precedence.
    stacks
        The files that are within reach.
    target
        The grid of the cube.
    tiling
        Rows of windows: the blocks of the result.
    finish
        What is done to the pixels.
    name
        Prefix of the keys.

    Returns
    -------
    tuple
        Dask array ``(plane, y, x)`` of ``finish.dtype``, and a bool one of the same shape, ``None`` without
        ``finish.mark``. A task takes one block of the cube, and the native blocks under it.
    """
    within = [[file for file in plane if file in stacks] for plane in planes]
    arrays = {stacks[file].array.name: stacks[file].array for plane in within for file in plane}
    spans = [
        [(file.offset, stacks[file].array.name, stacks[file].index) for file in plane] for plane in within
    ]
    key = f"{name}-" + tokenize(
        spans, [[stacks[f].window for f in p] for p in within], target, tiling, finish
    )
    cells = _Cells(target)
    layer: dict[Any, Any] = {}
    lost: dict[Any, Any] = {}
    for g, plane in enumerate(within):
        held = [stacks[file] for file in plane]
        for i, row in enumerate(tiling):
            for j, window in enumerate(row):
                cell, picked = cells.of(held, window)
                keys = [[(held[p].array.name, held[p].index, *rest) for p, *rest in part] for part in picked]
                offsets = tuple(tuple(plane[p].offset for p, *_ in part) for part in picked)
                layer[key, g, i, j] = (fill_cell, cell, finish, offsets, keys)
                if finish.mark is not None:
                    lost["failed-" + key, g, i, j] = (failed_cell, cell, finish, (key, g, i, j), keys)
    chunks = (
        (1,) * len(within),
        tuple(row[0].shape[0] for row in tiling),
        tuple(window.shape[1] for window in tiling[0]),
    )
    graph = HighLevelGraph.from_collections(key, layer, dependencies=list(arrays.values()))
    band = Array(graph, key, chunks, dtype=finish.dtype)
    if finish.mark is None:
        return band, None
    inputs: Any = [band, *arrays.values()]
    graph = HighLevelGraph.from_collections("failed-" + key, lost, dependencies=inputs)
    return band, Array(graph, "failed-" + key, chunks, dtype=bool)


class _Cells:
    """Cells by the files that are there: scenes of one tile share theirs, through all bands and dates."""

    def __init__(self, target: PixelGrid) -> None:
        self.target = target
        self.known: dict[Any, tuple[Cell, list[list[tuple[int, int, int]]]]] = {}
        self.covers: dict[Any, Window] = {}

    def of(self, held: Sequence[Stack], window: Window) -> tuple[Cell, list[list[tuple[int, int, int]]]]:
        """The cell, and for each of its sources which block of which stack it takes."""
        signature = (window, tuple((stack.grid, stack.window, stack.reach) for stack in held))
        if signature not in self.known:
            self.known[signature] = self._made(held, window)
        return self.known[signature]

    def _made(self, held: Sequence[Stack], window: Window) -> tuple[Cell, list[list[tuple[int, int, int]]]]:
        grids = sorted(dict.fromkeys(stack.grid for stack in held), key=self._foreign)
        sources, picked = [], []
        for grid in grids:
            needed = self._cover(grid, window)
            places, reaches, blocks = [], [], []
            for number, stack in enumerate(held):
                if stack.grid == grid:
                    for place, row, column in stack.blocks(needed):
                        places.append(place)
                        reaches.append(stack.reach)
                        blocks.append((number, row, column))
            if places:
                sources.append(Source(grid, needed, tuple(places), tuple(reaches)))
                picked.append(blocks)
        return Cell(self.target, window, tuple(sources)), picked

    def _foreign(self, grid: PixelGrid) -> bool:
        """Files on the cube's own lines come before those that must be warped."""
        return grid.refinement(self.target) is None

    def _cover(self, grid: PixelGrid, window: Window) -> Window:
        if (grid, window) not in self.covers:
            margin = 0 if grid.refinement(self.target) == 1 else halo_px(grid, self.target)
            self.covers[grid, window] = grid.covering(self.target, window, margin)
        return self.covers[grid, window]


def fill_cell(
    cell: Cell, finish: Finish, offsets: Offsets, blocks: Sequence[Sequence[NDArray[Any]]]
) -> NDArray[Any]:
    """A block of the cube, ``(1, y, x)`` of ``finish.dtype``.

    Parameters
    ----------
    cell
        Where the blocks lie.
    finish
        What is done to them.
    offsets
        Digital numbers to subtract, by source and block.
    blocks
        Native pixels ``(1, y, x)``, by source and block.
    """
    out = np.full(cell.wanted.shape, finish.nodata, dtype=finish.dtype)
    for source, removed, parts in zip(cell.sources, offsets, blocks, strict=True):
        native = _joined(source, finish, removed, parts)
        values = resample(
            native, source.grid, source.window, cell.target, cell.wanted, nodata=finish.nodata, how=finish.how
        )
        empty = is_nodata(out, finish.nodata)
        if empty.all():
            out = values
        else:
            np.copyto(out, values, where=empty)
    if finish.sea:
        _fill_sea(out, cell, finish.sea)
    return out[None]


def _fill_sea(out: NDArray[Any], cell: Cell, sea: tuple[tuple[int, int], ...]) -> None:
    """Set pixels without a height to 0 in the degrees that are sea."""
    rows, columns = np.nonzero(np.isnan(out))
    if not len(rows):
        return
    latitude, longitude = cell.target.degrees(rows + cell.wanted.top, columns + cell.wanted.left)
    within = np.zeros(len(rows), dtype=bool)
    for south, west in sea:  # tiles begin half a pixel beside whole degrees, so a little outwards
        north_south = (latitude >= south - _TILE_EDGE_DEG) & (latitude < south + 1 + _TILE_EDGE_DEG)
        east_west = (longitude >= west - _TILE_EDGE_DEG) & (longitude < west + 1 + _TILE_EDGE_DEG)
        within |= north_south & east_west
    out[rows[within], columns[within]] = 0


def _joined(
    source: Source, finish: Finish, offsets: Sequence[int], parts: Sequence[NDArray[Any]]
) -> NDArray[Any]:
    """The files of one grid side by side, harmonised; the first valid pixel wins."""
    native = np.full(source.window.shape, finish.nodata, dtype=finish.dtype)
    for place, reach, offset, part in zip(source.places, source.reaches, offsets, parts, strict=True):
        window = _window_of(place, part)
        shared = window & source.window & reach
        if not shared:
            continue
        values = _harmonised(part[0][shared.within(window)], finish, offset)
        into = native[shared.within(source.window)]
        np.copyto(into, values, where=is_nodata(into, finish.nodata))
    return _without_seams(native) if finish.seams else native


def _window_of(place: tuple[int, int], block: NDArray[Any]) -> Window:
    return Window(place[0], place[0] + block.shape[-2], place[1], place[1] + block.shape[-1])


def _harmonised(values: NDArray[Any], finish: Finish, offset: int) -> NDArray[Any]:
    """Numbers of a file as the cube means them, before they are interpolated."""
    missing = np.zeros(values.shape, dtype=bool) if finish.mark is None else values == finish.mark
    if not _alike(finish.fill, finish.nodata):
        missing |= is_nodata(values, finish.fill)
    if finish.units is not None:
        values = to_power(values, finish.units)
    elif offset:
        values = remove_offset(values, offset)
    values = values.astype(finish.dtype, copy=False)
    return np.where(missing, values.dtype.type(finish.nodata), values) if missing.any() else values


def _alike(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def _without_seams(heights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Elevation with gaps of one pixel between two known ones filled by their mean."""
    missing = np.isnan(heights)
    if not missing.any() or missing.all():
        return heights
    filled = heights.copy()
    for axis in (0, 1):
        lines, gaps = np.moveaxis(heights, axis, 0), np.moveaxis(filled, axis, 0)
        between = (lines[:-2] + lines[2:]) / 2  # NaN unless both are known
        inner = gaps[1:-1]
        inner[...] = np.where(np.isnan(inner), between, inner)
    return filled


def failed_cell(
    cell: Cell, finish: Finish, filled: NDArray[Any], blocks: Sequence[Sequence[NDArray[Any]]]
) -> NDArray[np.bool_]:
    """Where a block of the cube has no value and a file that lies there could not be read, ``(1, y, x)``."""
    lost = np.zeros(cell.wanted.shape, dtype=bool)
    for source, parts in zip(cell.sources, blocks, strict=True):
        native = np.zeros(source.window.shape, dtype=np.uint8)
        for place, reach, part in zip(source.places, source.reaches, parts, strict=True):
            window = _window_of(place, part)
            shared = window & source.window & reach
            if not shared:
                continue
            failed = part[0][shared.within(window)] == finish.mark
            native[shared.within(source.window)] |= failed
        if native.any():
            lost |= resample(
                native, source.grid, source.window, cell.target, cell.wanted, nodata=0, how="nearest"
            ).astype(bool)
    return lost[None] & is_nodata(filled, finish.nodata)
