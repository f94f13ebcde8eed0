"""Chips of cubes as a torch Dataset: what the windows of inference hold, with a label."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from xglof.engine.nodata import filled_dtype
from xglof.models.spec import ModelSpec
from xglof.train.batch import ChipBatch
from xglof.train.indexed import IndexedChips
from xglof.train.labels import IGNORE
from xglof.train.order import Walks
from xglof.train.rasters import LABEL, WHERE, Raster
from xglof.train.reader import BlockCache, Key, RasterReader, Want, Window

Array = npt.NDArray[Any]

_ALIGNMENT = 64


class ChipDataset(IndexedChips):
    """Chips of labelled cubes, read when they are asked for; a :class:`xglof.train.batch.ChipSource`.

    It can be pickled and be read from several threads and processes. Stored blocks are held, the last used
    first, up to ``cache_bytes``; what is pickled holds none.

    Attributes
    ----------
    spec
        The model that the chips are cut for.
    size
        Side of a chip, pixels.
    rasters
        The labelled cubes, by number ``source`` of the index.
    index
        A row a chip: see :func:`xglof.train.sampling.chips`.
    walks
        How :class:`xglof.train.loader.ChipLoader` is to walk through them.
    """

    def __init__(
        self,
        spec: ModelSpec,
        size: int,
        rasters: Sequence[Raster],
        index: pd.DataFrame,
        *,
        cache_bytes: int,
        walks: Walks,
    ) -> None:
        self.spec, self.size, self.rasters = spec, size, tuple(rasters)
        self.index = index.reset_index(drop=True)
        self.cache_bytes, self.walks = cache_bytes, walks
        self._open()

    def _open(self) -> None:
        self._process = os.getpid()
        self._cache = BlockCache(self.cache_bytes)
        self._readers = [RasterReader(i, each.arrays, each.fills) for i, each in enumerate(self.rasters)]
        self._places = self.index[["source", "step", "row", "col"]].to_numpy(np.int64)
        kinds: dict[str, set[np.dtype[Any]]] = {}
        for raster in self.rasters:
            for name, array in raster.arrays.items():
                dtype = array.dtype.newbyteorder("=")
                fill = raster.fills.get(name)
                kinds.setdefault(name, set()).add(dtype if fill is None else filled_dtype(dtype, fill))
        self._dtypes = {name: np.result_type(*found) for name, found in kinds.items()}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __repr__(self) -> str:
        cubes = len(self.rasters)
        return (
            f"<ChipDataset: {len(self):,} chips of {self.size} px from {cubes} cubes: {self._told_folds()}>"
        )

    def with_index(self, index: pd.DataFrame) -> ChipDataset:
        """Chips of another index over the same cubes."""
        return ChipDataset(
            self.spec, self.size, self.rasters, index, cache_bytes=self.cache_bytes, walks=self.walks
        )

    def read(self, rows: Sequence[int]) -> ChipBatch:
        """The chips of these rows, in this order; rows of one set of modalities.

        A chip's planes are the pixels of inference's window at its place, bit for bit. Those of the
        modalities that inference leaves out of the window are not read.

        Raises
        ------
        TrainError
            Rows of several sets of modalities, or that are not there.
        """
        if self._process != os.getpid():  # a lock that a thread of the parent held would stay shut
            self._open()
        chosen = self._rows(rows)
        modalities = self._modalities(chosen)
        names = [name for each in self.spec.inputs if each.modality in modalities for name in each.bands]
        names += ["flags"] if "flags" in self._dtypes else []
        kinds = {name: self._dtypes[name] for name in names} | {LABEL: np.dtype(np.uint8)}
        planes = _side_by_side(kinds, (len(chosen), self.size, self.size))
        label = planes.pop(LABEL)
        self._cut(chosen, planes, label)
        return ChipBatch(
            planes={name: torch.from_numpy(plane) for name, plane in planes.items()},
            label=torch.from_numpy(label),
            rows=torch.from_numpy(chosen),
            modalities=tuple(each.modality for each in self.spec.inputs if each.modality in modalities),
        )

    def _cut(
        self, rows: npt.NDArray[np.int64], planes: dict[str, Array], label: npt.NDArray[np.uint8]
    ) -> None:
        """Fill planes and labels from the stored blocks, each fetched once for all the chips."""
        names = {*planes, LABEL, WHERE}
        wanted: dict[Key, Want] = {}
        parts = []
        for source, *place in self._places[rows].tolist():
            reader = self._readers[source]
            parts.append(reader.parts(Window(*place), self.size, names))
            wanted |= reader.wants(parts[-1], names)
        held = self._cache.fetch(wanted)
        for number, (source, _, row, col) in enumerate(self._places[rows].tolist()):
            reader, has = self._readers[source], self.rasters[source].arrays
            into = {name: plane[number] for name, plane in planes.items() if name in has}
            into[LABEL] = label[number]
            if WHERE in has:
                into[WHERE] = np.empty(label.shape[1:], bool)
            reader.put(parts[number], into, held)
            for name in planes.keys() - into.keys():
                planes[name][number] = 0  # a cube without flags has none set
            if WHERE in into:
                label[number][~into[WHERE]] = IGNORE
            _ignore_beyond(label[number], row, col, (reader.height, reader.width))


def _side_by_side(kinds: Mapping[str, np.dtype[Any]], shape: tuple[int, ...]) -> dict[str, Array]:
    """Empty planes by name, in one stretch of memory: pages of many small ones cost as much as the pixels."""
    count = int(np.prod(shape))
    sizes = [-(-count * kind.itemsize // _ALIGNMENT) * _ALIGNMENT for kind in kinds.values()]
    memory = np.empty(sum(sizes), dtype=np.uint8)
    begins = accumulate(sizes, initial=0)
    return {
        name: memory[begin : begin + count * kind.itemsize].view(kind).reshape(shape)
        for (name, kind), begin in zip(kinds.items(), begins, strict=False)
    }


def _ignore_beyond(label: npt.NDArray[np.uint8], row: int, col: int, shape: tuple[int, int]) -> None:
    """Ignore the pixels of a chip's label beyond the edges of its raster: reflections have no label."""
    for lines, start, full in ((label, row, shape[0]), (label.T, col, shape[1])):
        lines[: max(-start, 0)] = IGNORE
        lines[max(full - start, 0) :] = IGNORE
