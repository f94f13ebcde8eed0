"""The chips of a training by fold: from the tables of a config to what is learned from and measured by."""

from __future__ import annotations

import glob
import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xglof.cube.access import without_query
from xglof.errors import TrainError
from xglof.models.spec import ModelSpec
from xglof.train.config import TrainConfig
from xglof.train.earlier import check_earlier, read_split, stage_before
from xglof.train.module import CHIPS, derived_seed
from xglof.train.settings import DataConfig, SplitConfig

if TYPE_CHECKING:
    import pandas as pd

    from xglof.train.split_check import SplitReport
    from xglof.train.splits import Split

_STORE = ("zarr.json", ".zgroup", ".zmetadata")
#: Columns of an index that decide which chips are drawn, or tell one set of data from another.
_TOLD = (
    "chip_id", "fold", "source", "time", "longitude", "latitude", "side_m", "modalities", "block", "walk",
    "lake_fraction", "valid_fraction", "lake_ids", "hardness",
)  # fmt: skip
#: Chips of a fold whose pixels are compared.
_LOOKED_AT = 16
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
        """sha256 of what the index says of its chips: a run can be resumed only where it is equal.

        Of every chip, training, validation and the rest: its name, fold, source, date, place, side and
        modalities, its shares of lake and of pixels that count, its lakes and its score as a hard one. So a
        label that moves the share of lake of any chip makes another digest; values of bands do not, see
        :attr:`pixels`.
        """
        import pandas as pd

        told = self.index[[name for name in _TOLD if name in self.index]]
        rows = pd.util.hash_pandas_object(told.round(_DIGITS), index=False)
        return hashlib.sha256(rows.to_numpy("<u8").tobytes()).hexdigest()

    @property
    def pixels(self) -> str:
        """sha256 of the bands and labels of a few chips, spread evenly over training and validation.

        It tells cubes that were made anew from those that were not, at the price of reading so few. A change
        of single dates or places may pass it.
        """
        found = hashlib.sha256()
        for source in (self.train, self.val):
            for row in np.unique(np.linspace(0, len(source.index) - 1, _LOOKED_AT).astype(int)).tolist():
                batch = source.read([row])
                for name in sorted(batch.planes):
                    found.update(f"{name} {batch.planes[name].dtype}".encode())
                    found.update(batch.planes[name].contiguous().numpy().tobytes())
                found.update(batch.label.contiguous().numpy().tobytes())
        return found.hexdigest()


def open_folds(config: TrainConfig, spec: ModelSpec) -> Folds:
    """The chips that a config names, indexed, split and checked; one pass over flags and labels, no bands.

    Raises
    ------
    TrainError
        No data, no chip of a fold, no chip with lake to learn from or to measure by, or a split that fails
        its check. What needs no data is refused first.
    """
    stores = _stores(config)
    split = split_of(config.split, [store.data.fold for store in stores], [s.name for s in stores])
    before = stage_before(config.model, split)
    source = _cut(config, spec, stores) if stores else _shards(config, spec)
    index = split.assign(source.index)
    report = split.check(index)
    report.require(despite=config.split.despite)
    rows = _rows(config, index, report)
    ancestry = check_earlier(before, split, index)
    train, val = (source.select(rows[fold]) for fold in ("train", "val"))
    return Folds(train, val, split, index, str(report), ancestry.places, ancestry.notes)


def _rows(config: TrainConfig, index: pd.DataFrame, report: SplitReport) -> dict[str, Any]:
    """Rows of the chips to learn from and to measure by; refuses those by which neither can be done."""
    rows = {fold: np.flatnonzero((index["fold"] == fold).to_numpy()) for fold in ("train", "val")}
    for fold, found in rows.items():
        if len(found) == 0:
            raise TrainError(
                f"no chip is in the fold {fold!r}; add data, or choose another salt, smaller blocks or "
                f"another stride. The folds are:\n{report}"
            )
    lake = index["lake_fraction"].to_numpy()
    if not (lake[rows["train"]] >= config.chips.positive).any():
        raise TrainError(
            f"none of the {len(rows['train'])} training chips has lake on {config.chips.positive:.2%} of its "
            "pixels or more: nothing can be learned; check the labels, their dates and CRS, or lower [chips] "
            "positive"
        )
    if config.fit.validate_chips is not None:
        rows["val"] = _some(rows["val"], config.fit.validate_chips, config.seed)
    if not (lake[rows["val"]] > 0).any():
        raise TrainError(
            f"none of the {len(rows['val'])} chips of validation has lake, so no IoU can be told; put cubes "
            "with lakes into the fold val, or raise [fit] validate_chips"
        )
    return rows


def _some(rows: Any, count: int, seed: int) -> Any:
    if len(rows) <= count:
        return rows
    rng = np.random.default_rng(derived_seed(seed, CHIPS))
    return np.sort(rng.choice(rows, count, replace=False))


class _Store(NamedTuple):
    """A cube with what goes with it, as paths."""

    data: DataConfig
    cube: str
    label: str
    scores: str

    @property
    def name(self) -> str:
        """In ``split.json``: with its folder, for train and val may have cubes of one name.

        Not the whole path, which tells of its maker and differs where the same data lie elsewhere.
        """
        return "/".join(without_query(self.cube).rstrip("/").split("/")[-2:])


def _stores(config: TrainConfig) -> list[_Store]:
    """All cubes of a config, whose labels and score maps are there; none where it has shards."""
    if any(data.shards for data in config.data):
        return []
    stores = [
        _Store(
            data,
            cube,
            _beside(data.label, cube, "label"),
            _beside(data.scores, cube, "score map") if data.scores else "",
        )
        for data in config.data
        for cube in cube_paths(data)
    ]
    counts = Counter(store.cube if "://" in store.cube else os.path.realpath(store.cube) for store in stores)
    if twice := [path for path, count in counts.items() if count > 1]:
        raise TrainError(
            f"the cube {without_query(twice[0])} is named more than once in [[data]], and could be learned "
            "from and measured by; name each cube once"
        )
    return stores


def _shards(config: TrainConfig, spec: ModelSpec) -> Any:
    from xglof.train.parquet import read_shards

    data = config.data[0]
    return read_shards(
        data.shards,
        model=spec,
        regions=data.regions,
        years=data.years,
        ignored=data.ignored,
        check=data.check,
        min_valid=config.chips.min_valid if data.check == "pixels" else 0.0,
    )


def _cut(config: TrainConfig, spec: ModelSpec, stores: Sequence[_Store]) -> Any:
    from xglof.outputs import read_zarr
    from xglof.train.labels import labels_of
    from xglof.train.sampling import chips

    cubes, labels = [], []
    for data, path, label, _ in stores:
        cubes.append(read_zarr(path, chunks=None))
        labels.append(
            labels_of(
                label, cubes[-1], all_touched=data.all_touched, dates=data.dates, tolerance=data.tolerance
            )
        )
    settings = config.chips
    return chips(
        cubes,
        label=labels,
        lakes=[None if is_store(store.label) else store.label for store in stores],
        scores=[_scores(store.scores) if store.scores else None for store in stores],
        model=spec,
        stride=settings.stride,
        min_valid=settings.min_valid,
        sampling=settings.sampling,
        count=settings.count,
        seed=derived_seed(config.seed, CHIPS),
    )


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
    named = {(_named_by(pattern, cube), cube) for pattern in (data.label, data.scores) for cube in found}
    others = {path for path, cube in named if path != cube}  # a cube may hold its own labels
    paths = [path for path in found if path not in others]
    if not paths:
        raise TrainError(f"no cube is at {data.cube}; give the path or the pattern of Zarr stores")
    return paths


def _named_by(pattern: str, cube: str) -> str:
    """The path that a pattern names for a cube."""
    return pattern.replace("{stem}", Path(cube).stem)


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


def split_of(config: SplitConfig, folds: Sequence[str | None], names: Sequence[str]) -> Split:
    """The split that a config asks for.

    Parameters
    ----------
    config
        The table.
    folds, names
        Of every cube: the fold that it is said to be in, and its name. None where the data are shards.

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
        if not said or len(said) != len(folds):
            raise TrainError(
                "[split] scheme is 'given', and not every [[data]] is of cubes that say their fold"
            )
        return Split.given(said, sources=names, ground=config.ground, buffer_m=config.buffer_m or 0.0)
    if config.scheme == "published":
        return Split.published()
    if config.scheme == "cryosentinel-v1":
        salt = {} if config.salt is None else {"salt": config.salt}
        return Split.cryosentinel(block_deg=config.block_deg, buffer_deg=config.buffer_deg, **salt)
    settings: dict[str, Any] = {"block_m": config.block_m, "shares": config.shares}
    settings |= {} if config.buffer_m is None else {"buffer_m": config.buffer_m}
    settings |= {} if config.salt is None else {"salt": config.salt}
    return Split.blocks(**settings)
