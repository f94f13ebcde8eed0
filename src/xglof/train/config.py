"""What a training is to do, as frozen values and as a TOML file.

Each table of the file is a value of this module, each key one of its attributes; whatever is not known is
refused with the nearest name that is.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from xglof.errors import TrainError
from xglof.models.registry import names
from xglof.train.augment import Augmentation
from xglof.train.settings import (
    AverageConfig,
    ChipsConfig,
    DataConfig,
    FitConfig,
    LossConfig,
    ModelConfig,
    OptimiserConfig,
    SplitConfig,
)
from xglof.train.tables import read_table, write_tables


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """A training, complete: equal configs on equal data give equal weights on a CPU.

    Attributes
    ----------
    name
        Of the model that comes out.
    out
        Folder of the run.
    model, data, split, chips, augment, loss, optimiser, average, fit
        Tables of the file, see their types.
    seed
        Decides the start, the order of chips, the augmentation and dropout.
    """

    name: str
    out: str
    model: ModelConfig
    data: tuple[DataConfig, ...]
    fit: FitConfig
    split: SplitConfig = field(default_factory=SplitConfig)
    chips: ChipsConfig = field(default_factory=ChipsConfig)
    augment: Augmentation = field(default_factory=Augmentation)
    loss: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    average: AverageConfig = field(default_factory=AverageConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def from_mapping(cls, table: Mapping[str, Any], *, base: str | os.PathLike[str] = ".") -> TrainConfig:
        """The config of a table as ``tomllib`` reads it.

        Parameters
        ----------
        table
            Tables by name.
        base
            Folder that relative paths begin at.

        Raises
        ------
        TrainError
            An unknown key, a value of another type, or values that do not go together.
        """
        config = read_table(cls, table, "")
        return _with_paths(config, Path(base).resolve())

    def to_mapping(self) -> dict[str, Any]:
        """The config as tables of plain values, all defaults filled in."""
        mapping: dict[str, Any] = _plain(asdict(self))
        return mapping

    def recorded(self) -> dict[str, Any]:
        """The same, with addresses as they may be written down: without queries, which may be tokens."""
        from xglof.cube.access import without_query

        mapping = self.to_mapping()
        for data in mapping["data"]:
            data |= {key: without_query(value) for key, value in data.items() if "://" in str(value)}
        return mapping

    def to_toml(self) -> str:
        """A TOML file of what is recorded: all defaults filled in, all paths absolute."""
        return write_tables(self.recorded())


def read_config(path: str | os.PathLike[str]) -> TrainConfig:
    """The config in a TOML file; paths in it are relative to the file.

    Raises
    ------
    TrainError
        No such file, no TOML, or as :meth:`TrainConfig.from_mapping`.
    """
    file = Path(path)
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainError(f"config {file} can't be read ({error.strerror}); give a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainError(f"config {file} is no TOML: {error}") from error
    return TrainConfig.from_mapping(table, base=file.parent)


def _with_paths(config: TrainConfig, base: Path) -> TrainConfig:
    def absolute(value: str) -> str:
        if not value or "://" in value:
            return value
        return os.path.normpath(base / Path(value).expanduser())

    model = config.model
    folder = absolute(model.name)
    if model.name not in ("", *names()) and (os.sep in model.name or Path(folder).is_dir()):
        model = replace(model, name=folder)
    if model.start not in ("", "random", "own"):
        model = replace(model, start=absolute(model.start))
    data = tuple(
        replace(
            d,
            cube=absolute(d.cube),
            label=absolute(d.label),
            scores=absolute(d.scores),
            shards=absolute(d.shards),
        )
        for d in config.data
    )
    split = replace(config.split, file=absolute(config.split.file))
    return replace(config, model=model, data=data, split=split, out=absolute(config.out))


def _plain(value: Any) -> Any:
    """Mappings as dicts, tuples as lists, and without what is ``None``: TOML has no null."""
    if is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _check(config: TrainConfig) -> None:
    for where in _not_numbers(config.to_mapping(), ""):
        raise TrainError(f"{where} is nan; give a number")
    _check_model(config)
    _check_data(config)
    _check_numbers(config)


def _check_model(config: TrainConfig) -> None:
    model = config.model
    if bool(model.name) == bool(model.factory):
        raise TrainError("[model] needs a name (of the registry, or a model folder) or a factory, not both")
    if model.factory and not model.inputs:
        raise TrainError('[model] with a factory needs its inputs, such as inputs = ["S2L2A", "DEM"]')
    for key, said in (("which", model.which != "auto"), ("part", bool(model.part))):
        if said and model.start in ("", "random", "own"):
            raise TrainError(
                f"[model] {key} is {getattr(model, key)!r}, which says what of a file of weights to take; "
                "give the path of one as start, or leave it out"
            )
    if model.resolution is not None and not 0 < model.resolution < math.inf:
        raise TrainError(f"[model] resolution is {model.resolution}; give metres above 0")
    if not config.name or not config.out:
        raise TrainError("a training needs a name for its model and a folder out for its files")


def _check_numbers(config: TrainConfig) -> None:
    fit = config.fit
    if (fit.steps != 0) == (fit.epochs != 0):
        raise TrainError("[fit] needs steps or epochs above 0, not both")
    for table, keys in _AT_LEAST_ONE.items():
        for key in keys:
            value = getattr(getattr(config, table), key)
            if value is not None and value < 1:
                raise TrainError(f"[{table}] {key} is {value}; give 1 or more")
    for table, keys in _AT_LEAST_NOTHING.items():
        for key in keys:
            value = getattr(getattr(config, table), key)
            if not 0 <= value < math.inf:
                raise TrainError(f"[{table}] {key} is {value}; give 0 or more")
    for table, keys in _SHARES.items():
        for key in keys:
            value = getattr(getattr(config, table), key)
            if value is not None and not 0 <= value <= 1:
                raise TrainError(f"[{table}] {key} is {value}; give a share from 0 to 1")
    if config.average.ema >= 1:
        raise TrainError(f"[average] ema is {config.average.ema}: nothing would move; give less than 1")
    for key in ("lr", "layer_decay", "backbone_multiplier"):
        if (rate := getattr(config.optimiser, key)) <= 0:
            raise TrainError(f"[optimiser] {key} is {rate}; give a number above 0")
    rates = config.optimiser
    if rates.warmup >= rates.floor_from:
        raise TrainError(
            f"[optimiser] warmup is {rates.warmup} and floor_from {rates.floor_from}; the rate must be at "
            "its top before it is at its floor"
        )
    if config.seed < 0:
        raise TrainError(f"seed is {config.seed}; give 0 or more")
    if config.chips.hard is not None and not any(data.scores for data in config.data):
        raise TrainError("[chips] hard draws by the scores of [[data]], and none has any; leave it out")


_AT_LEAST_ONE = {
    "fit": (
        "batch_size",
        "accumulate",
        "threads",
        "checkpoint_every",
        "validate_every",
        "keep",
        "validate_chips",
    ),
    "chips": ("stride", "count", "epoch_chips", "dates", "mix", "threads"),
}
_AT_LEAST_NOTHING = {
    "optimiser": ("weight_decay", "freeze", "clip"),
    "average": ("soup", "recalibrate"),
    "chips": ("balance",),
    "fit": ("steps", "epochs", "patience"),
}
_SHARES = {
    "optimiser": ("warmup", "floor", "floor_from"),
    "average": ("ema", "swa_start", "settle"),
    "chips": ("min_valid", "positive", "hard"),
}


def _not_numbers(value: Any, where: str) -> Iterator[str]:
    """Where a NaN is, which no comparison finds."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _not_numbers(item, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for item in value:
            yield from _not_numbers(item, where)
    elif isinstance(value, float) and math.isnan(value):
        yield where


def _check_data(config: TrainConfig) -> None:
    if not config.data:
        raise TrainError("a training needs data: [[data]] with cube and label, or with shards")
    for number, data in enumerate(config.data, 1):
        where = f"[[data]] number {number}"
        if bool(data.shards) == bool(data.cube):
            raise TrainError(f"{where} needs a cube (with its label) or shards, not both")
        if data.shards and data.fold is not None:
            raise TrainError(
                f"{where} says one fold for all of its shards, which leaves none for the others; leave fold "
                "out, and [split] shares them out"
            )
        if data.cube and not data.label:
            raise TrainError(f"{where} has cubes without a label; give a Zarr store with lake, or polygons")
    given = [data.fold is not None for data in config.data]
    if any(given) and not all(given):
        raise TrainError("some [[data]] say their fold and some do not; all must, or none")
    if any(given) and config.split.file:
        raise TrainError("[[data]] say their fold and [split] names a file; give one of the two")
    if len(config.data) > 1 and any(data.shards for data in config.data):
        raise TrainError("Parquet shards are one [[data]] alone; put all shards under one folder")
    if config.split.scheme == "published" and not all(data.shards for data in config.data):
        raise TrainError("[split] scheme is 'published', which only Parquet shards have; choose another")
    _check_split(config.split, given=all(given))


#: By scheme, the settings that it takes beside ``despite``.
_OF_SCHEMES = {
    "blocks": {"block_m", "buffer_m", "salt", "shares"},
    "cryosentinel-v1": {"block_deg", "buffer_deg", "salt"},
    "given": {"buffer_m", "ground"},
    "published": set[str](),
}


def _check_split(split: SplitConfig, *, given: bool) -> None:
    """Refuse settings that would be passed over: one who wrote them counts on them."""
    kind = "file" if split.file else "given" if given else split.scheme
    taken = {"file"} if split.file else _OF_SCHEMES[kind]
    asked = {f.name for f in fields(split) if getattr(split, f.name) != f.default} - {"despite", "scheme"}
    if kind != split.scheme and split.scheme != "blocks":
        asked.add("scheme")
    if unused := sorted(asked - taken):
        why = {"file": "names a file", "given": "has the folds that [[data]] say"}
        raise TrainError(
            f"[split] {why.get(kind, f'has the scheme {kind!r}')} and says {', '.join(unused)}, which that "
            f"does not take; leave {'it' if len(unused) == 1 else 'them'} out"
        )
