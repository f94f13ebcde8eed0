"""The chips of a training by fold: from the tables of a config to what is learned from and measured by."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xglof.cube.access import without_query
from xglof.errors import TrainError
from xglof.models.spec import ModelSpec
from xglof.train.config import TrainConfig
from xglof.train.earlier import check_earlier, read_split
from xglof.train.module import CHIPS, derived_seed
from xglof.train.settings import DataConfig, SplitConfig

if TYPE_CHECKING:
    import pandas as pd

    from xglof.train.splits import Split

_STORE = ("zarr.json", ".zgroup", ".zmetadata")
#: Columns of an index that decide which chips are drawn, or tell one set of data from another.
_TOLD = (
    "chip_id", "fold", "source", "time", "longitude", "latitude", "side_m", "modalities", "block", "walk",
    "lake_fraction", "valid_fraction", "lake_ids", "hardness",
)  # fmt: skip
#: Digits that are compared: the last ones of a place may differ between versions of PROJ.
_DIGITS = 7


@dataclass(frozen=True, slots=True)
class Folds:
    """Chips by what they are for.

    Attributes
    ----------
    train, val
        Chips to learn from and to measure by; no place is in both.
    split
        The rule that assigned them.
    index
        All chips with their ``fold``.
    report
        What the check of the split found, as text.
    places
        Of these chips and of those of the stages before, see :class:`xglof.train.earlier.Ancestry`.
    notes
        What could not be compared with the stages before.
    """

    train: Any
    val: Any
    split: Split
    index: pd.DataFrame
    report: str
    places: pd.DataFrame
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """sha256 of all that an index says of its chips: equal where a run can be resumed."""
        import pandas as pd

        told = self.index[[name for name in _TOLD if name in self.index]]
        rows = pd.util.hash_pandas_object(told.round(_DIGITS), index=False)
        return hashlib.sha256(rows.to_numpy("<u8").tobytes()).hexdigest()


def open_folds(config: TrainConfig, spec: ModelSpec) -> Folds:
    """The chips that a config names, indexed, split and checked; one pass over flags and labels, no bands.

    Raises
    ------
    TrainError
        No data, no chip of a fold, no chip with lake to learn from, or a split that fails its check.
    """
    source, folds, names = _open(config, spec)
    split = split_of(config.split, folds, names, source.index)
    index = split.assign(source.index)
    report = split.check(index)
    report.require(despite=config.split.despite)
    counts = {fold: int((index["fold"] == fold).sum()) for fold in ("train", "val")}
    for fold, count in counts.items():
        if count == 0:
            raise TrainError(
                f"no chip is in the fold {fold!r}; add data, or choose another salt, smaller blocks or "
                f"another stride. The folds are:\n{report}"
            )
    lakes = index.loc[index["fold"] == "train", "lake_fraction"] >= config.chips.positive
    if not lakes.any():
        raise TrainError(
            f"none of the {len(lakes)} training chips has lake on {config.chips.positive:.2%} of its pixels "
            "or more: nothing can be learned; check the labels, their dates and CRS, or lower [chips] "
            "positive"
        )
    ancestry = check_earlier(config.model, split, index)
    rows = {fold: np.flatnonzero((index["fold"] == fold).to_numpy()) for fold in counts}
    if config.fit.validate_chips is not None:
        rows["val"] = _some(rows["val"], config.fit.validate_chips, config.seed)
    train, val = (source.select(rows[fold]) for fold in ("train", "val"))
    return Folds(train, val, split, index, str(report), ancestry.places, ancestry.notes)


def _some(rows: Any, count: int, seed: int) -> Any:
    if len(rows) <= count:
        return rows
    rng = np.random.default_rng(derived_seed(seed, CHIPS))
    return np.sort(rng.choice(rows, count, replace=False))


def _open(config: TrainConfig, spec: ModelSpec) -> tuple[Any, list[str | None], list[str]]:
    """Chips, the fold that each of their sources is said to be in, and the names of cubes."""
    shards = [data for data in config.data if data.shards]
    if shards and len(config.data) > 1:
        raise TrainError("Parquet shards are one [[data]] alone; put all shards under one folder")
    if shards:
        from xglof.train.parquet import read_shards

        data = shards[0]
        source = read_shards(
            data.shards,
            model=spec,
            regions=data.regions,
            years=data.years,
            ignored=data.ignored,
            check=data.check,
            min_valid=config.chips.min_valid if data.check == "pixels" else 0.0,
        )
        return source, [None], []
    return _cut(config, spec)


def _cut(config: TrainConfig, spec: ModelSpec) -> tuple[Any, list[str | None], list[str]]:
    from xglof.outputs import read_zarr
    from xglof.train.labels import labels_of
    from xglof.train.sampling import chips

    cubes, labels, scores, lakes = [], [], [], []
    folds, names = [], []
    for data in config.data:
        for path in cube_paths(data):
            cube = read_zarr(path, chunks=None)
            cubes.append(cube)
            label = _beside(data.label, path, "label")
            labels.append(
                labels_of(
                    label, cube, all_touched=data.all_touched, dates=data.dates, tolerance=data.tolerance
                )
            )
            lakes.append(None if is_store(label) else label)
            scores.append(_scores(_beside(data.scores, path, "score map")) if data.scores else None)
            folds.append(data.fold)
            names.append(_name(path))
    settings = config.chips
    source = chips(
        cubes,
        label=labels,
        lakes=lakes,
        scores=scores,
        model=spec,
        stride=settings.stride,
        min_valid=settings.min_valid,
        sampling=settings.sampling,
        count=settings.count,
        seed=derived_seed(config.seed, CHIPS),
    )
    return source, list(folds), names


def cube_paths(data: DataConfig) -> list[str]:
    """Stores that a pattern names, sorted; labels and score maps that lie among them are left out.

    Raises
    ------
    TrainError
        There is none.
    """
    if "://" in data.cube:
        return [data.cube]
    found = sorted(glob.glob(data.cube))
    others = {_named_by(pattern, path) for pattern in (data.label, data.scores) for path in found}
    # a cube may hold its own labels
    paths = [path for path in found if path not in others or path in _own(data, path)]
    if not paths:
        raise TrainError(f"no cube is at {data.cube}; give the path or the pattern of Zarr stores")
    return paths


def _own(data: DataConfig, cube: str) -> Collection[str]:
    return {_named_by(pattern, cube) for pattern in (data.label, data.scores)}


def _named_by(pattern: str, cube: str) -> str:
    """The path that a pattern names for a cube."""
    return pattern.replace("{stem}", Path(cube).stem)


def _name(path: str) -> str:
    """A source's name in ``split.json``: with its folder, for train and val may have cubes of one name.

    Not the whole path, which tells of its maker and differs where the same data lie elsewhere.
    """
    return "/".join(without_query(path).rstrip("/").split("/")[-2:])


def _beside(pattern: str, cube: str, what: str) -> str:
    """The path that goes with a cube, which must be there."""
    path = _named_by(pattern, cube)
    if "://" not in path and not Path(path).exists():
        raise TrainError(f"the {what} {path} of cube {without_query(cube)} is not there")
    return path


def is_store(path: str) -> bool:
    """Whether a path is that of a Zarr store; it is one of polygons where it is not."""
    return "://" in path or any((Path(path) / name).exists() for name in _STORE)


def _scores(path: str) -> Any:
    from xglof.outputs import read_zarr

    found = read_zarr(path, chunks=None)
    if "lake_probability" not in found:
        raise TrainError(f"the score map {path} has no lake_probability; give what xglof segment wrote")
    return found["lake_probability"]


def split_of(
    config: SplitConfig, folds: Sequence[str | None], names: Sequence[str], index: pd.DataFrame
) -> Split:
    """The split that a config asks for.

    Parameters
    ----------
    config
        The table.
    folds, names
        Of every source of the index: the fold that it is said to be in, and its name.
    index
        Of the chips.

    Raises
    ------
    TrainError
        A file that holds no split, or settings that the scheme does not take.
    """
    from xglof.train.splits import Split

    if config.file:
        return read_split(Path(config.file))
    said = [fold for fold in folds if fold is not None]
    if config.scheme == "given" or said:
        if len(said) != len(folds):
            raise TrainError(
                "[split] scheme is 'given', and not every [[data]] is of cubes that say their fold"
            )
        return Split.given(said, sources=names, ground=config.ground, buffer_m=config.buffer_m or 0.0)
    if config.scheme == "cryosentinel-v1":
        salt = {} if config.salt is None else {"salt": config.salt}
        return Split.cryosentinel(block_deg=config.block_deg, buffer_deg=config.buffer_deg, **salt)
    settings: dict[str, Any] = {"block_m": config.block_m, "shares": config.shares}
    settings |= {} if config.buffer_m is None else {"buffer_m": config.buffer_m}
    settings |= {} if config.salt is None else {"salt": config.salt}
    return Split.blocks(**settings)
