"""The index of chips in Parquet shards: what the rows say, and one pass over their pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xglof.bands import MODALITIES
from xglof.engine.stage import observed_pixels
from xglof.errors import TrainError
from xglof.models.spec import ModelInput, ModelSpec
from xglof.train.labels import IGNORE
from xglof.train.shard_files import Shard, read_columns, read_group
from xglof.train.shard_rows import (
    ABOUT,
    DEM,
    EXACT_DEM,
    FLAGS,
    MASK,
    OWN,
    S1,
    S2,
    STACKS,
    Array,
    check_shapes,
    published_gaps,
)

_THREADS = 4
_PIXEL_M = 10.0  # of the published chips
#: Between the modalities of a chip.
SEPARATOR = "+"
Ignored = Literal["stored", "published"]


def table_of(shards: Sequence[Shard], side: int) -> pd.DataFrame:
    """What the rows of shards say, a row a chip, without their pixels.

    Parameters
    ----------
    shards
        The files.
    side
        Pixels of a chip.

    Returns
    -------
    pandas.DataFrame
        The columns of a chip source's index (:mod:`xglof.train.batch`) that need no pixels, and
        ``region``, ``year``, ``published_split``, ``water_frac`` (NaN where it is not said), ``nearest_lake``
        (the published ``lake_id``), ``group`` (row group of the file) and ``place`` (row of the group).

    Raises
    ------
    TrainError
        A chip has no place on the Earth, arrays of another shape, or the id of another chip.
    """
    parts, blocks = [], 0
    for number, shard in enumerate(shards):
        part = _rows_of(shard, side)
        part["source"] = np.int32(number)
        part["block"] = part["group"] + blocks
        blocks += len(shard.groups) - 1
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    again = table["chip_id"].duplicated()
    if again.any():
        second = table[again].iloc[0]
        first = table[table["chip_id"] == second["chip_id"]].iloc[0]
        places = " and ".join(_place(shards, row) for row in (first, second))
        raise TrainError(
            f"the chip {second['chip_id']!r} is there twice: {places}; an id stands for one chip of a region "
            "and year, so leave one of them out"
        )
    return table


def _place(shards: Sequence[Shard], row: pd.Series) -> str:
    shard = shards[int(row["source"])]
    return f"{shard.path}, row {shard.groups[int(row['group'])] + int(row['place'])}"


def _rows_of(shard: Shard, side: int) -> pd.DataFrame:
    shapes = [f"{stack.name}_shape" for stack in STACKS]
    own = [name for name in OWN if name not in (EXACT_DEM.column, FLAGS.column)]
    held = read_columns(shard, (*ABOUT, *own, *shapes))
    check_shapes(
        {name.removesuffix("_shape"): held.column(name).to_pylist() for name in shapes}, shard.path, side
    )
    rows = len(held)
    group = np.searchsorted(shard.groups, np.arange(rows), side="right") - 1
    known = {name: held.column(name).to_pandas() for name in held.column_names if name not in shapes}
    _refuse(known["chip_id"].isna(), shard, "has no chip_id")
    places = {
        name: pd.to_numeric(known[name], errors="coerce").to_numpy(np.float64) for name in ("lat", "lon")
    }
    off = ~((np.abs(places["lat"]) <= 90) & (np.abs(places["lon"]) <= 180))
    _refuse(off, shard, "has no lat and lon in degrees")
    return pd.DataFrame(
        {
            "chip_id": f"{shard.region}/{shard.year}/" + known["chip_id"].astype(str),
            "source": np.int32(0),
            "time": _dates(known.get("time"), rows),
            "row": np.int64(-1),
            "col": np.int64(-1),
            "longitude": places["lon"],
            "latitude": places["lat"],
            "side_m": _numbers(known.get("side_m"), rows, side * _PIXEL_M),
            "lake_ids": _words(known.get("lake_ids"), rows),
            "block": np.int64(0),
            "hardness": np.float32(np.nan),
            "fold": "",
            "region": shard.region,
            "year": np.int64(shard.year),
            "published_split": _words(known.get("split"), rows),
            "water_frac": _numbers(known.get("water_frac"), rows, np.nan),
            "nearest_lake": _ids(known.get("lake_id"), rows),
            "s1_modality": _words(known.get("s1_modality"), rows, "S1GRD"),
            "group": group.astype(np.int64),
            "place": np.arange(rows) - np.asarray(shard.groups)[group],
        }
    )


def _refuse(wrong: Any, shard: Shard, what: str) -> None:
    rows = np.flatnonzero(np.asarray(wrong))
    if len(rows):
        raise TrainError(f"{shard.path}, row {rows[0]}: the chip {what}; mend the shard or leave it out")


def _words(column: pd.Series | None, rows: int, default: str = "") -> Any:
    if column is None:
        return np.full(rows, default, dtype=object)
    return column.astype(object).where(column.notna(), default).map(str).to_numpy()


def _ids(column: pd.Series | None, rows: int) -> Any:
    """Ids as words; whole numbers with a gap among them are read as floats: 7 is 7 in every file."""
    return _words(None if column is None else column.convert_dtypes(), rows)


def _numbers(column: pd.Series | None, rows: int, default: float) -> Any:
    values = (
        np.full(rows, np.nan) if column is None else pd.to_numeric(column, errors="coerce").to_numpy(float)
    )
    return np.where(np.isnan(values), default, values)


def _dates(column: pd.Series | None, rows: int) -> Any:
    if column is None:
        return np.full(rows, np.datetime64("NaT", "ns"))
    return pd.to_datetime(column, utc=True).dt.tz_localize(None).to_numpy("datetime64[ns]")


def count_pixels(shards: Sequence[Shard], spec: ModelSpec, side: int, ignored: Ignored) -> pd.DataFrame:
    """Shares of pixels and modalities of every chip, in the order of :func:`table_of`.

    Every row group is decoded once and let go; shards are read side by side.

    Parameters
    ----------
    shards
        The files.
    spec
        The model: which pixels it answers, and from what share on it takes a modality.
    side
        Pixels of a chip.
    ignored
        See :func:`label_of`.

    Returns
    -------
    pandas.DataFrame
        ``lake_fraction`` and ``valid_fraction`` float32, ``modalities`` str.

    Raises
    ------
    TrainError
        A row group can't be decoded, bytes do not have the length of their shape, or a mask has other values
        than 0, 1 and 255; the message names file and row.
    """
    with ThreadPoolExecutor(min(_THREADS, len(shards))) as threads:
        found = list(threads.map(lambda shard: _count_shard(shard, spec, side, ignored), shards))
    return pd.DataFrame([row for rows in found for row in rows]).astype(
        {"lake_fraction": np.float32, "valid_fraction": np.float32}
    )


def _count_shard(shard: Shard, spec: ModelSpec, side: int, ignored: Ignored) -> list[dict[str, Any]]:
    columns = wanted_columns(spec, ignored)
    rows = []
    for group, first in enumerate(shard.groups[:-1]):
        arrays = read_group(shard, group, columns, side)
        mask = arrays[MASK.name]
        strange = (mask > 1) & (mask != IGNORE)
        if strange.any():
            row, *place = np.argwhere(strange)[0]
            raise TrainError(
                f"{shard.path}, row {first + row}: the mask holds {mask[row, *place]}; expected 0 land, 1 "
                "lake and 255 ignored"
            )
        planes, label = planes_of(arrays), label_of(arrays, ignored)
        rows += [
            _count_chip(spec, {name: plane[row] for name, plane in planes.items()}, label[row])
            for row in range(len(label))
        ]
    return rows


def _count_chip(spec: ModelSpec, planes: Mapping[str, Array], label: NDArray[np.uint8]) -> dict[str, Any]:
    import torch

    seen = {source: _seen(source, planes) for source in spec.inputs}
    kept = kept_inputs(spec, {source: int(mask.sum()) for source, mask in seen.items()}, label.size)
    labelled = counted = label != IGNORE
    if any(source.has_time for source in kept):
        masks = {source: torch.from_numpy(seen[source]) for source in kept}
        flags = torch.from_numpy(planes["flags"]) if "flags" in planes else None
        counted = labelled & observed_pixels(spec, masks, flags).numpy()
    else:
        counted = np.zeros_like(labelled)
    return {
        "lake_fraction": int((label == 1).sum()) / max(int(labelled.sum()), 1),
        "valid_fraction": float(counted.mean()),
        "modalities": SEPARATOR.join(source.modality for source in kept),
    }


def _seen(source: ModelInput, planes: Mapping[str, Array]) -> NDArray[np.bool_]:
    """Pixels with data in every band, as :func:`xglof.engine.stage.standardise` finds them."""
    nodata = {band.name: band.nodata for band in MODALITIES[source.modality].bands}
    seen = [np.isfinite(planes[name]) & (planes[name] != nodata[name]) for name in source.bands]
    return np.asarray(np.all(seen, axis=0))


def kept_inputs(spec: ModelSpec, counts: Mapping[ModelInput, int], pixels: int) -> list[ModelInput]:
    """The inputs that a network is given for one window, as :mod:`xglof.engine.choose` decides it.

    Parameters
    ----------
    spec
        The model.
    counts
        Observed pixels of the window by input.
    pixels
        Of the window.
    """
    needed = max(spec.min_share * pixels, 1)
    kept = [source for source in spec.inputs if counts[source] >= needed or not source.optional]
    if not any(source.has_time for source in kept):  # sensors below the share are better than none at all
        kept = [s for s in spec.inputs if s in kept or (s.has_time and counts[s] > 0)]
    return kept


def wanted_columns(spec: ModelSpec, ignored: Ignored) -> list[str]:
    """The columns of bytes that a model and its labels need."""
    modalities = {source.modality for source in spec.inputs}
    everything = ignored == "published"
    wanted = [MASK.column, FLAGS.column]
    wanted += [S2.column] if everything or "S2L2A" in modalities else []
    wanted += [S1.column] if everything or modalities & {"S1GRD", "S1RTC"} else []
    wanted += [DEM.column, EXACT_DEM.column] if everything or "DEM" in modalities else []
    return wanted


def planes_of(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The planes of chips by variable name, ``(rows, y, x)`` in the units and nodata of a cube: views.

    Parameters
    ----------
    arrays
        As :func:`xglof.train.shard_rows.arrays_of` returns them.
    """
    planes = {name: arrays[name] for name in ("dem", "flags") if name in arrays}
    for stack, modality in ((S2, "S2L2A"), (S1, "S1GRD")):
        if stack.name in arrays:
            bands = arrays[stack.name].swapaxes(0, 1)
            planes |= dict(zip(MODALITIES[modality].names, bands, strict=True))
    return planes


def label_of(arrays: Mapping[str, Array], ignored: Ignored) -> NDArray[np.uint8]:
    """The labels of chips, ``(rows, y, x)`` uint8: 0 land, 1 lake, 255 ignored.

    Parameters
    ----------
    arrays
        As :func:`xglof.train.shard_rows.arrays_of` returns them.
    ignored
        ``"stored"`` for the labels as they are; ``"published"`` ignores, besides, what the published training
        leaves out (:func:`xglof.train.shard_rows.published_gaps`).
    """
    label: NDArray[np.uint8] = arrays[MASK.name]
    if ignored == "stored":
        return label
    gaps = published_gaps(arrays[S2.name], arrays[S1.name], arrays[DEM.name])
    return np.where(gaps, np.uint8(IGNORE), label)
