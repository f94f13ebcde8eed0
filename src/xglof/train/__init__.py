"""Training from datacubes: splits, chips, shards, and the training itself. torch comes with the first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xglof.train.batch import prepare
    from xglof.train.chip_audit import audit_chips
    from xglof.train.config import TrainConfig, read_config
    from xglof.train.dataset import ChipDataset
    from xglof.train.labels import rasterise
    from xglof.train.loader import ChipLoader
    from xglof.train.parquet import ParquetChips, read_shards
    from xglof.train.sampling import chips
    from xglof.train.shard_writing import write_shards
    from xglof.train.splits import Split
    from xglof.train.stages import check_stages, leakage
    from xglof.train.training import Trained, fit

__all__ = [
    "ChipDataset",
    "ChipLoader",
    "ParquetChips",
    "Split",
    "TrainConfig",
    "Trained",
    "audit_chips",
    "check_stages",
    "chips",
    "fit",
    "leakage",
    "prepare",
    "rasterise",
    "read_config",
    "read_shards",
    "write_shards",
]

#: Where each name is defined; no module has the name of what it defines, so that it can't hide it.
_HOMES = {
    "ChipDataset": "dataset",
    "ChipLoader": "loader",
    "ParquetChips": "parquet",
    "Split": "splits",
    "TrainConfig": "config",
    "Trained": "training",
    "audit_chips": "chip_audit",
    "check_stages": "stages",
    "chips": "sampling",
    "fit": "training",
    "leakage": "stages",
    "prepare": "batch",
    "rasterise": "labels",
    "read_config": "config",
    "read_shards": "parquet",
    "write_shards": "shard_writing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, *globals()]
