"""Windows of rasters, read by stored blocks, each of which is decoded once while it is held."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, pairwise, product
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.base import compute

from xglof.engine.lattice import reflect
from xglof.engine.nodata import Fill, fill_own
from xglof.train.stored import stored_edges

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
#: Number of a raster, of a group of its variables, and of a block.
Key = tuple[int, int, tuple[int, ...]]
Edges = tuple[tuple[int, ...], ...]
Kind = Literal["file", "dask", "memory"]

#: One in so many bytes of a cache is for blocks without time.
STILL = 8


@dataclass(frozen=True, slots=True)
class Window:
    """A square of a raster: time step, and first pixel, which is negative where it hangs over."""

    step: int
    row: int
    col: int


@dataclass(frozen=True, slots=True)
class Part:
    """What one block of one group holds of a window, and where it goes."""

    group: int
    block: tuple[int, ...]
    source: tuple[int | slice, ...]
    target: tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Run:
    """Pixels of a raster along an axis that follow each other in a window, from ``target`` on.

    ``begin`` to ``end`` (excluded) of the raster; in the opposite order where they are a reflection.
    """

    begin: int
    end: int
    target: int
    reflected: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Variables of a raster that are stored in the same blocks.

    Attributes
    ----------
    variables
        By name, ``(time, y, x)`` or ``(y, x)``.
    edges
        By dim, the first pixel of each block and, last, the size.
    kind
        ``"file"``: each variable is read alone; ``"dask"``: all together, as they may share work;
        ``"memory"``: nothing is to be read.
    """

    variables: Mapping[str, xr.Variable]
    edges: Edges
    kind: Kind

    def read(self, block: tuple[int, ...], fills: Mapping[str, Fill], names: Sequence[str]) -> Arrays:
        """Variables over a block, in the units and nodata of :mod:`xglof.bands`."""
        part = tuple(slice(edges[i], edges[i + 1]) for edges, i in zip(self.edges, block, strict=True))
        found = {name: self.variables[name][part] for name in names}
        if self.kind == "dask":
            lazy = {name: variable.data for name, variable in found.items()}
            arrays: Arrays = compute(lazy, scheduler="threads")[
                0
            ]  # never a client's workers: pixels come here
        else:
            arrays = {name: variable.values for name, variable in found.items()}
        return _filled(arrays, fills)

    def parts(self, number: int, step: int, rows: Sequence[Run], cols: Sequence[Run]) -> Iterator[Part]:
        """The blocks that hold any of some rows and columns at a time step, and where they go."""
        times = [] if len(self.edges) == 2 else [[Run(step, step + 1, 0)]]
        lines = [
            [found for run in runs for found in _meetings(edges, run)]
            for edges, runs in zip(self.edges, [*times, rows, cols], strict=True)
        ]
        for found in product(*lines):
            block, source, target = zip(*found, strict=True)
            lead = () if len(found) == 2 else (source[0].start,)
            yield Part(number, block, (*lead, *source[-2:]), (target[-2], target[-1]))


def _filled(arrays: Arrays, fills: Mapping[str, Fill]) -> Arrays:
    """The arrays with their own nodata in the place of what the file has for it."""
    return arrays | {name: fill_own(arrays[name], fills[name]) for name in arrays.keys() & fills.keys()}


def _meetings(edges: Sequence[int], run: Run) -> Iterator[tuple[int, slice, slice]]:
    """Blocks that hold any pixel of a run: number, the part of the block, and the part of the window."""
    for block in range(bisect_right(edges, run.begin) - 1, len(edges) - 1):
        low, high = edges[block], edges[block + 1]
        if low >= run.end:
            return
        begin, end = max(low, run.begin), min(high, run.end)
        if run.reflected:
            stop = begin - low - 1
            target = run.target + run.end - end
            yield (
                block,
                slice(end - low - 1, stop if stop >= 0 else None, -1),
                slice(target, target + end - begin),
            )
        else:
            target = run.target + begin - run.begin
            yield block, slice(begin - low, end - low), slice(target, target + end - begin)


def runs_of(start: int, size: int, full: int) -> list[Run]:
    """What a window shows of a raster along an axis: its own pixels, and reflections beyond the edges."""
    if start >= 0 and start + size <= full:
        return [Run(start, start + size, 0)]
    if full == 1:
        return [Run(0, 1, target) for target in range(size)]
    pixels = reflect(np.arange(start, start + size), full)
    turns = np.flatnonzero(np.diff(pixels, n=2)) + 2
    runs, cuts = [], [0, *turns.tolist(), size]
    for begin, end in pairwise(cuts):
        first, last = int(pixels[begin]), int(pixels[end - 1])
        runs.append(Run(min(first, last), max(first, last) + 1, begin, reflected=last < first))
    return runs


def groups_of(arrays: Mapping[str, xr.DataArray], fills: Mapping[str, Fill]) -> list[Group]:
    """Variables by the blocks in which they are stored; what is in memory has its fills replaced."""
    alike = on_one_chunking({name: array for name, array in arrays.items() if array.chunks is not None})
    found: dict[tuple[Edges, Kind], dict[str, xr.Variable]] = {}
    for name, array in arrays.items():
        edges, kind = _blocks_of(alike.get(name, array))
        variable = alike.get(name, array).variable
        if kind == "memory":
            variable = variable.copy(data=_filled({name: variable.values}, fills)[name])
        found.setdefault((edges, kind), {})[name] = variable
    return [Group(variables, edges, kind) for (edges, kind), variables in found.items()]


def on_one_chunking(arrays: Mapping[str, xr.DataArray]) -> dict[str, xr.DataArray]:
    """Dask arrays with chunks in common."""
    alike: Any = xr.unify_chunks(*arrays.values())
    return dict(zip(arrays, alike, strict=True))


def _blocks_of(array: xr.DataArray) -> tuple[Edges, Kind]:
    if array.chunks is not None:
        return tuple(tuple(accumulate(sizes, initial=0)) for sizes in array.chunks), "dask"
    if array.variable._in_memory:
        return tuple((0, size) for size in array.shape), "memory"
    return stored_edges(array.variable), "file"


@dataclass(frozen=True, slots=True)
class Want:
    """Variables of a block that are to be there, and how some are read; all at once if ``together``."""

    names: Collection[str]
    read: Callable[[Sequence[str]], Arrays]
    together: bool


@dataclass(slots=True)
class _Held:
    """What is held of a block, and what is being read."""

    arrays: Arrays = field(default_factory=dict)
    reading: dict[str, Future[None]] = field(default_factory=dict)
    nbytes: int = 0


class BlockCache:
    """The blocks used last, up to a number of bytes, shared by threads: what one reads, no other does.

    Blocks without time, to which every date comes back, are kept longest, up to an eighth of the bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.nbytes, self._still = limit, 0, 0
        self._lock = threading.Lock()
        self._blocks: OrderedDict[Key, _Held] = OrderedDict()

    def fetch(self, wanted: Mapping[Key, Want]) -> dict[Key, Arrays]:
        """Blocks by key, read where they are not held; what another thread is reading is waited for last."""
        found: dict[Key, Arrays] = {}
        elsewhere: list[Future[None]] = []
        for key, want in wanted.items():
            while mine := self._claim(key, want, found, elsewhere):
                self._read(key, *mine, want)
        for future in elsewhere:
            future.result()
        return found

    def _claim(
        self, key: Key, want: Want, found: dict[Key, Arrays], elsewhere: list[Future[None]]
    ) -> tuple[_Held, list[str], Future[None]] | None:
        """Variables of a block for this thread to read; ``None`` where each is there or being read."""
        with self._lock:
            block = self._blocks.setdefault(key, _Held())
            self._blocks.move_to_end(key)
            found[key] = block.arrays
            missing = [name for name in want.names if name not in block.arrays]
            free = [name for name in missing if name not in block.reading]
            if not free:
                elsewhere += {
                    id(future): future for future in map(block.reading.get, missing) if future
                }.values()
                return None
            future: Future[None] = Future()
            taken = free if want.together else free[:1]
            block.reading |= dict.fromkeys(taken, future)
            return block, taken, future

    def _read(self, key: Key, block: _Held, names: list[str], future: Future[None], want: Want) -> None:
        arrays: Arrays = {}
        try:
            arrays = want.read(names)
        except BaseException as error:
            future.set_exception(error)
            raise
        finally:
            with self._lock:
                for name in names:  # after an error whoever comes next tries again
                    del block.reading[name]
                block.arrays |= arrays
                self._grow(key, block, sum(array.nbytes for array in arrays.values()))
                self._shrink(key)
        future.set_result(None)

    def _grow(self, key: Key, block: _Held, size: int) -> None:
        block.nbytes += size
        self.nbytes += size
        self._still += size if len(key[2]) == 2 else 0

    def _shrink(self, last: Key) -> None:
        """Let go of the blocks used longest ago."""
        for any_kind in (False, True):
            if self.nbytes <= self.limit:
                return
            for key in list(self._blocks):
                still = len(key[2]) == 2 and self._still <= self.limit // STILL
                if key != last and not self._blocks[key].reading and (any_kind or not still):
                    block = self._blocks.pop(key)
                    self._grow(key, block, -block.nbytes)
                if self.nbytes <= self.limit:
                    return


class RasterReader:
    """Windows of one raster.

    Parameters
    ----------
    number
        Of the raster: in the keys of its blocks.
    arrays
        By name, ``(time, y, x)`` or ``(y, x)``, of one size and north up.
    fills
        As :func:`xglof.engine.nodata.other_fills` gives them.
    """

    def __init__(self, number: int, arrays: Mapping[str, xr.DataArray], fills: Mapping[str, Fill]) -> None:
        self.number, self.fills = number, fills
        self.groups = groups_of(arrays, fills)
        self.height, self.width = next(iter(arrays.values())).shape[-2:]

    def parts(self, window: Window, size: int, names: Collection[str]) -> list[Part]:
        """Where the pixels of a window of some variables lie."""
        rows, cols = runs_of(window.row, size, self.height), runs_of(window.col, size, self.width)
        return [
            part
            for number, group in enumerate(self.groups)
            if any(name in names for name in group.variables)
            for part in group.parts(number, window.step, rows, cols)
        ]

    def wants(self, parts: Iterable[Part], names: Collection[str]) -> dict[Key, Want]:
        """The blocks that some variables are read from, and how."""
        found: dict[Key, Want] = {}
        for part in parts:
            group = self.groups[part.group]
            if group.kind != "memory":
                together = group.kind == "dask"
                own = group.variables.keys() if together else group.variables.keys() & names
                read = partial(group.read, part.block, self.fills)
                found[self.number, part.group, part.block] = Want(own, read, together)
        return found

    def put(self, parts: Iterable[Part], into: Mapping[str, Array], held: Mapping[Key, Arrays]) -> None:
        """Copy a window of each variable into a plane ``(size, size)``, reflected beyond the edges."""
        for part in parts:
            group = self.groups[part.group]
            if group.kind == "memory":
                block = {name: variable.values for name, variable in group.variables.items()}
            else:
                block = held[self.number, part.group, part.block]
            for name in group.variables.keys() & into.keys():
                into[name][part.target] = block[name][part.source]
