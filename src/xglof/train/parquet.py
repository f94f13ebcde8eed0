"""Chips in Parquet shards of CryoSentinel's schema: read as a chip source, and written from one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import xarray as xr

from xglof.engine.inputs import for_radar
from xglof.errors import TrainError
from xglof.models.registry import get_spec
from xglof.models.spec import ModelSpec
from xglof.train.batch import ChipBatch
from xglof.train.indexed import IndexedChips
from xglof.train.order import Walks
from xglof.train.shard_files import RowGroups, Shard, find_shards
from xglof.train.shard_index import (
    SEPARATOR,
    Ignored,
    count_pixels,
    label_of,
    planes_of,
    table_of,
    wanted_columns,
)
from xglof.train.shard_rows import DEM, STACKS, Array
from xglof.train.shard_writing import write_shards

__all__ = ["ParquetChips", "read_shards", "write_shards"]

#: Columns of an index, in order.
_COLUMNS = (
    "chip_id", "source", "time", "row", "col", "longitude", "latitude", "side_m", "lake_fraction",
    "valid_fraction", "lake_ids", "modalities", "block", "hardness", "fold", "region", "year",
    "published_split", "water_frac", "nearest_lake", "group", "place",
)  # fmt: skip
_CACHE_BYTES = 1 << 30
_MOST_WALKS = 64
_PRODUCTS = {"S1GRD": "GRD sigma0", "S1RTC": "RTC gamma0"}


class ParquetChips(IndexedChips):
    """Chips in Parquet shards: a chip source that reads the row groups it needs, and no others.

    Made by :func:`read_shards`; can be pickled, and then starts with nothing kept.

    Attributes
    ----------
    spec
        The model that the chips are read for.
    index
        A row a chip, columns as in :mod:`xglof.train.batch`; besides them ``region``, ``year``,
        ``published_split`` (as stored), ``water_frac`` (as stored, NaN where it is not), ``nearest_lake``
        (``lake_id`` as stored), ``group`` (row group of the file) and ``place`` (row of the group).
        ``source`` counts :attr:`files`, ``block`` the row groups of all files; ``row`` and ``col`` are -1,
        since shards state no grid. ``lake_ids`` is "" unless :func:`write_shards` wrote the shard: the
        published id is that of the lake closest to a chip, in it or not, and tells of no other lake in it.
    left_out
        Chips of the files that are not in the index, for want of pixels that count.
    """

    def __init__(
        self,
        spec: ModelSpec,
        shards: Sequence[Shard],
        index: pd.DataFrame,
        *,
        side: int,
        ignored: Ignored,
        cache_bytes: int,
        left_out: int = 0,
    ) -> None:
        self.spec, self.index, self.left_out = spec, index.reset_index(drop=True), left_out
        self._shards, self._side, self._ignored, self._cache_bytes = tuple(shards), side, ignored, cache_bytes
        self._open()

    def _open(self) -> None:
        self._process = os.getpid()
        columns = wanted_columns(self.spec, self._ignored)
        self._groups = RowGroups(self._shards, columns, self._side, self._cache_bytes)

    @property
    def files(self) -> tuple[Path, ...]:
        """The shards, in the order that ``source`` counts."""
        return tuple(shard.path for shard in self._shards)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_groups"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __repr__(self) -> str:
        shards = len(self._shards)
        chips = f"{len(self):,} chips of {self._side} px"
        return f"<ParquetChips: {chips} from {shards} shards: {self._told_folds()}>"

    @property
    def walks(self) -> Walks:
        """How :class:`xglof.train.loader.ChipLoader` is to walk: over as many row groups as can be kept."""
        chips = max((size for shard in self._shards for size in np.diff(shard.groups)), default=1)
        stacks = [stack for stack in STACKS if stack.column in wanted_columns(self.spec, self._ignored)]
        # elevation is float32 once it is decoded
        chip_bytes = sum(stack.nbytes(self._side) * (2 if stack is DEM else 1) for stack in stacks)
        most = min(max(self._cache_bytes // (int(chips) * chip_bytes), 1), _MOST_WALKS)
        return Walks((), most, most)

    def with_index(self, index: pd.DataFrame) -> ParquetChips:
        """The same source with another index, such as one that a split has assigned folds in.

        Parameters
        ----------
        index
            Rows of :attr:`index`, all or some, with columns changed or added.
        """
        return ParquetChips(
            self.spec,
            self._shards,
            index,
            side=self._side,
            ignored=self._ignored,
            cache_bytes=self._cache_bytes,
            left_out=self.left_out,
        )

    def read(self, rows: Sequence[int]) -> ChipBatch:
        """The chips of these rows, in this order; rows of one set of modalities.

        Decodes each row group among them once, and none that is kept from before.

        Parameters
        ----------
        rows
            Row numbers of :attr:`index`.

        Raises
        ------
        TrainError
            The rows have different modalities, or a row group can't be decoded.
        """
        if self._process != os.getpid():  # a lock that a thread of the parent held would stay shut
            self._open()
        numbers = self._rows(rows)
        chips = self.index.iloc[numbers]
        modalities = self._modalities(numbers)
        inputs = [source for source in self.spec.inputs if source.modality in modalities]
        names = [*(name for source in inputs for name in source.bands), "flags"]
        planes: dict[str, Array] = {}
        label = np.empty((len(numbers), self._side, self._side), np.uint8)
        for (source, group), part in chips.reset_index(drop=True).groupby(["source", "group"]):
            arrays = self._groups.get(int(source), int(group))
            found, into, out_of = planes_of(arrays), part.index.to_numpy(), part["place"].to_numpy()
            label[into] = label_of({name: array[out_of] for name, array in arrays.items()}, self._ignored)
            for name in (name for name in names if name in found):
                if name not in planes:  # zeros: of chips without flags no bit is set
                    planes[name] = np.zeros(label.shape, found[name].dtype)
                planes[name][into] = found[name][out_of]
        return ChipBatch(
            planes={name: torch.from_numpy(plane) for name, plane in planes.items()},
            label=torch.from_numpy(label),
            rows=torch.from_numpy(numbers),
            modalities=modalities,
        )


def read_shards(
    root: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | ModelSpec = "cryosentinel",
    regions: Sequence[str] | None = None,
    years: Sequence[int] | None = None,
    size: int | None = None,
    ignored: Ignored = "stored",
    check: Literal["pixels", "metadata"] = "pixels",
    min_valid: float = 0.0,
    cache_bytes: int = _CACHE_BYTES,
) -> ParquetChips:
    """Chips of a folder of Parquet shards in CryoSentinel's schema, as a chip source.

    Files are mapped into memory, and a row group is decoded when a chip of it is asked for. What is decoded
    is the row group as a whole: published shards may hold some 370 chips in one, 0.7 GB. Where that is too
    much, write them once more with :func:`write_shards`, which makes row groups of 16 chips.

    Parameters
    ----------
    root
        Folder with ``<region>/<year>/shard_*.parquet``.
    model
        What the chips are read for: name, model folder or spec. Planes are those of its inputs.
    regions, years
        Names of folders; ``None`` for all.
    size
        Side of the chips, pixels; the model's window by default. Chips of another size are refused.
    ignored
        ``"stored"``: labels as they are; pixels that the model has no answer for leave losses and scores as
        with any other source. ``"published"``: besides, all pixels that the published training leaves out: no
        Sentinel-2 **or** no Sentinel-1 **or** no elevation.
    check
        ``"pixels"`` reads everything once, checks it and counts pixels; some hundred chips a second and
        thread. ``"metadata"`` takes the word of the rows: ``lake_fraction`` is ``water_frac``,
        ``valid_fraction`` NaN, and every chip has all modalities; bytes are checked when they are read.
    min_valid
        Chips are left out whose share of pixels that count is below this; those without any always are.
    cache_bytes
        What decoded row groups may take, beside those in work. The loader draws the chips of a stretch from
        as many row groups as fit: the more, the better mixed.

    Returns
    -------
    ParquetChips
        ``time`` is NaT where a shard states the year alone; Sentinel-1 is ``S1GRD`` unless a shard written by
        :func:`write_shards` says otherwise, and the spec's radar input follows it where
        :func:`xglof.engine.inputs.for_radar` can. ``chip_id`` is ``<region>/<year>/<stored id>``.

    Raises
    ------
    TrainError
        No shards, or no such region or year; a shard that is truncated or lacks columns; bytes that do not
        fit their shape, or another shape; an id that is there twice; a model that takes another radar product
        or, with ``"metadata"``, shards without ``water_frac``. The message names file and row.
    """
    spec = model if isinstance(model, ModelSpec) else get_spec(model)
    if ignored not in ("stored", "published") or check not in ("pixels", "metadata"):
        raise TrainError(
            f"ignored={ignored!r}, check={check!r}; expected 'stored' or 'published', 'pixels' or 'metadata'"
        )
    side = spec.window if size is None else size
    if side < 1 or side % spec.multiple_of:
        raise TrainError(f"size is {side} px; model {spec.name!r} needs a multiple of {spec.multiple_of} px")
    shards = find_shards(Path(root), regions, years)
    table = table_of(shards, side)
    spec = _for_radar(spec, table, shards)
    counts = count_pixels(shards, spec, side, ignored) if check == "pixels" else _told(table, spec, shards)
    index = pd.concat([table, counts], axis=1)[list(_COLUMNS)]
    kept = ~(index["valid_fraction"] <= 0) & ~(index["valid_fraction"] < min_valid)
    return ParquetChips(
        spec,
        shards,
        index[kept],
        side=side,
        ignored=ignored,
        cache_bytes=cache_bytes,
        left_out=int((~kept).sum()),
    )


def _for_radar(spec: ModelSpec, table: pd.DataFrame, shards: Sequence[Shard]) -> ModelSpec:
    """The spec with the radar input that the shards hold."""
    held = table["s1_modality"].unique()
    if len(held) > 1 or held[0] not in _PRODUCTS:
        row = table[table["s1_modality"] != held[0]].iloc[0] if len(held) > 1 else table.iloc[0]
        raise TrainError(
            f"the shards hold Sentinel-1 as {' and '.join(map(repr, held))} (first in "
            f"{shards[int(row['source'])].path}); expected one of {', '.join(_PRODUCTS)}: read them apart"
        )
    product = xr.DataArray(0.0, attrs={"product": _PRODUCTS[held[0]]})
    spec = for_radar(spec, xr.Dataset({"vv": product}))
    wrong = [source.modality for source in spec.inputs if source.modality in _PRODUCTS]
    if wrong and wrong[0] != held[0]:
        raise TrainError(
            f"model {spec.name!r} takes {wrong[0]}, and the shards hold {held[0]}; pass a spec whose network "
            f"and statistics are {held[0]}, or one without radar"
        )
    return spec


def _told(table: pd.DataFrame, spec: ModelSpec, shards: Sequence[Shard]) -> pd.DataFrame:
    """What is counted elsewhere, as the rows tell it."""
    untold = table["water_frac"].isna()
    if untold.any():
        row = table[untold].iloc[0]
        shard = shards[int(row["source"])]
        raise TrainError(f"{shard.path} states no water_frac; read it with check='pixels'")
    return pd.DataFrame(
        {
            "lake_fraction": table["water_frac"].astype(np.float32),
            "valid_fraction": np.float32(np.nan),
            "modalities": SEPARATOR.join(source.modality for source in spec.inputs),
        }
    )
