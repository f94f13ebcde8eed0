"""The graph of a segmentation: Dask only, no torch and no pixel.

The chunks of a Dask cube are gathered to tiles of at most a block. A tile costs one task that gathers
references to its variables and up to four that cut strips for its neighbours; a block costs one that
computes. A block of a cube that lies in a file costs that one alone, which reads what it needs.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from xglof.engine.blocks import Blocks
from xglof.engine.job import Job, Span
from xglof.engine.nodata import Fill, fill_own

Arrays = dict[str, npt.NDArray[np.generic]]
Place = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Opened:
    """Variables that lie in a file and not in Dask, ``(time, y, x)`` or ``(y, x)``.

    A block reads its own pixels with their margin from them, so it waits for no other block. ``fills`` is,
    by variable, a value that the file has for nodata and the one to put in its place.
    """

    variables: Mapping[str, xr.Variable]
    fills: Mapping[str, Fill]

    def read(self, times: Span, rows: Span, cols: Span) -> Arrays:
        """The variables over a part of the raster."""
        part = tuple(slice(*span) for span in (times, rows, cols))
        arrays = {name: each[part[-each.ndim :]].values for name, each in self.variables.items()}
        return arrays | {name: fill_own(arrays[name], fill) for name, fill in self.fills.items()}


def segment_graph(
    job: Job,
    blocks: Blocks,
    lazy: Mapping[str, da.Array],
    opened: Mapping[str, xr.DataArray],
    fills: Mapping[str, Fill],
) -> da.Array:
    """Lazy layers of a segmentation over a raster.

    Parameters
    ----------
    job
        Model, lattice, numerics and layers.
    blocks
        The chunks of the result, on whole time chunks of ``lazy``.
    lazy
        Dask arrays ``(time, y, x)`` or ``(y, x)`` on one grid and with equal chunks.
    opened
        Variables on the same grid that lie in files.
    fills
        Of ``opened``: what is nodata there, and what it shall be.

    Returns
    -------
    dask.array.Array
        ``(planes, time, y, x)`` float32; see :func:`xglof.engine.runner.segment_block`.
    """
    # a variable in a file is named as Dask would name it, which reads nothing
    named = {key: array.name for key, array in lazy.items()}
    named |= {key: array.chunk(-1).data.name for key, array in opened.items()}
    name = "segment-" + tokenize(job, job.numerics, blocks, named, dict(fills))
    layer: dict[Any, Any] = {"job-" + name: job}
    if opened:
        layer["opened-" + name] = Opened({key: array.variable for key, array in opened.items()}, dict(fills))
    chunks = _Tiles(lazy, job, blocks, "pack-" + name)
    spans = [list(enumerate(_spans(sizes))) for sizes in (blocks.times, blocks.rows, blocks.cols)]
    for (t, times), (r, rows), (c, cols) in itertools.product(*spans):
        places, keys = chunks.pieces(layer, times, rows, cols)
        source = "opened-" + name if opened else None
        layer[name, 0, t, r, c] = (_compute, "job-" + name, times, rows, cols, source, places, keys)
    inputs: Any = list(lazy.values())
    graph = HighLevelGraph.from_collections(name, layer, dependencies=inputs)
    depth = max(part.stop for part in job.planes.values())
    sizes = ((depth,), blocks.times, blocks.rows, blocks.cols)
    return da.Array(graph, name, sizes, dtype=np.float32)


class _Tiles:
    """The Dask arrays by tiles of whole chunks, and the tasks that hand these out in whole or in strips."""

    def __init__(self, arrays: Mapping[str, da.Array], job: Job, blocks: Blocks, name: str) -> None:
        self.arrays, self.job, self.name = arrays, job, name
        full = max(arrays.values(), key=lambda array: array.ndim, default=None)
        sizes: tuple[tuple[int, ...], ...] = () if full is None else full.chunks
        self.times = _spans(sizes[0]) if len(sizes) == 3 else None
        self.rows, self.cols = [], []
        if sizes:
            self.rows = _gathered(sizes[-2], max(blocks.rows))
            self.cols = _gathered(sizes[-1], max(blocks.cols))
        self.cuts: dict[tuple[int, Span], list[tuple[int, slice]]] = {}

    def pieces(
        self, layer: dict[Any, Any], times: Span, rows: Span, cols: Span
    ) -> tuple[list[Place], list[Any]]:
        """Places and keys of what a block reads; their tasks are added to the layer."""
        down = self._cut(0, self.rows, self.job.y.reads, rows)
        across = self._cut(1, self.cols, self.job.x.reads, cols)
        steps = [(0, times)] if self.times is None else enumerate(self.times)  # without time: good for all
        found = []
        for t, (begin, end) in steps:
            if times[0] <= begin and end <= times[1]:
                for (r, ys), (c, xs) in itertools.product(down, across):
                    found.append(self._piece(layer, (t, r, c), begin, ys, xs))
        return [place for place, _ in found], [key for _, key in found]

    def _cut(self, axis: int, tiles: list[_Tile], reads: Any, block: Span) -> list[tuple[int, slice]]:
        """The tiles that hold what a block reads, with its part of them: ``slice(None)`` for all."""
        if (axis, block) not in self.cuts:
            first, last = reads(*block)
            self.cuts[axis, block] = [
                (number, _part(tile.pixels, (first, last)))
                for number, tile in enumerate(tiles)
                if tile.pixels[0] < last and tile.pixels[1] > first
            ]
        return self.cuts[axis, block]

    def _piece(
        self, layer: dict[Any, Any], tile: Place, time: int, ys: slice, xs: slice
    ) -> tuple[Place, tuple[object, ...]]:
        """A tile or a strip over all its columns or all its rows: corners are cut when they are used."""
        _, r, c = tile
        top, left = self.rows[r].pixels[0], self.cols[c].pixels[0]
        pack = (self.name, *tile)
        if pack not in layer:
            # a task's strings could be keys of the user's graph: names and axes are bound, not passed
            layer[pack] = (
                partial(_pack, tuple(self.arrays)),
                *(self._keys(a, tile) for a in self.arrays.values()),
            )
        whole = slice(None)
        if ys == whole and xs == whole:
            return (time, top, left), pack
        axis, part = ("cols", xs) if ys == whole else ("rows", ys)
        key = (f"{axis}-{self.name}", *tile, part.start, part.stop)
        layer.setdefault(key, (partial(_strip, axis, part.start, part.stop), pack))
        down, across = (part.start, 0) if axis == "rows" else (0, part.start)
        return (time, top + down, left + across), key

    def _keys(self, array: da.Array, tile: Place) -> list[list[tuple[object, ...]]]:
        """Keys of an array's chunks in a tile, by rows."""
        t, r, c = tile
        lead = (array.name, t) if array.ndim == 3 else (array.name,)
        return [[(*lead, y, x) for x in range(*self.cols[c].chunks)] for y in range(*self.rows[r].chunks)]


@dataclass(frozen=True, slots=True)
class _Tile:
    """Pixels of a tile along an axis, and the numbers of its chunks; ends excluded."""

    pixels: Span
    chunks: Span


def _gathered(chunks: Sequence[int], most: int) -> list[_Tile]:
    """Neighbouring chunks together as long as they are no more than ``most`` pixels."""
    tiles: list[_Tile] = []
    for number, (begin, end) in enumerate(_spans(chunks)):
        if tiles and end - tiles[-1].pixels[0] <= most:
            tiles[-1] = _Tile((tiles[-1].pixels[0], end), (tiles[-1].chunks[0], number + 1))
        else:
            tiles.append(_Tile((begin, end), (number, number + 1)))
    return tiles


def _spans(chunks: Sequence[int]) -> list[Span]:
    edges = list(itertools.accumulate(chunks, initial=0))
    return list(itertools.pairwise(edges))


def _part(chunk: Span, read: Span) -> slice:
    first, last = max(read[0], chunk[0]), min(read[1], chunk[1])
    return slice(None) if (first, last) == chunk else slice(first - chunk[0], last - chunk[0])


def _pack(names: Sequence[str], *chunks: list[list[npt.NDArray[np.generic]]]) -> Arrays:
    """The variables over a tile; a lone chunk is not copied."""
    lone = len(chunks[0]) == len(chunks[0][0]) == 1
    arrays = (lines[0][0] if lone else np.block(lines) for lines in chunks)
    return dict(zip(names, arrays, strict=True))


def _strip(axis: str, begin: int, end: int, tile: Arrays) -> Arrays:
    """A contiguous copy, so that a neighbour holds on to a strip and not to the whole tile."""
    part = (..., slice(begin, end)) if axis == "cols" else (..., slice(begin, end), slice(None))
    return {name: np.ascontiguousarray(array[part]) for name, array in tile.items()}


def _compute(
    job: Job,
    times: Span,
    rows: Span,
    cols: Span,
    opened: Opened | None,
    places: list[Place],
    pieces: list[Arrays],
) -> npt.NDArray[np.float32]:
    from xglof.engine.runner import segment_block

    patches = list(zip(places, pieces, strict=True))
    if opened is not None:
        read = job.y.reads(*rows), job.x.reads(*cols)
        patches.append(((times[0], read[0][0], read[1][0]), opened.read(times, *read)))
    return segment_block(job, times, rows, cols, patches)
