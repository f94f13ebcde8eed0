"""A network that learns in a second, valleys to learn from, and configs: for tests of ``fit``."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

import toys
import xglof
from xglof.train.config import TrainConfig

SIDE = 48
#: Environment variable: the training step in which the process kills itself.
KILL_AT = "XGLOF_TEST_KILL_AT"


class Small(nn.Module):
    """Radar and, where it is given, elevation; with a batch norm and dropout, so that all state counts."""

    def __init__(self) -> None:
        super().__init__()
        self.radar, self.slope = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(1, 4, 3, padding=1)
        self.norm, self.dropout, self.head = nn.BatchNorm2d(4), nn.Dropout(0.2), nn.Conv2d(4, 1, 1)
        self.steps = 0

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        if self.training:
            self.steps += 1
            if str(self.steps) == os.environ.get(KILL_AT):
                os.kill(os.getpid(), signal.SIGKILL)
        deep = self.radar(inputs["S1RTC"])
        if "DEM" in inputs:
            deep = deep + self.slope(inputs["DEM"])
        return cast(Tensor, self.head(self.dropout(torch.relu(self.norm(deep)))))


def small() -> nn.Module:
    return Small()


def hopeless(at: float = 0.0) -> nn.Module:
    """Its answer to a chip is NaN where the first radar value of the chip is above a number."""

    class Hopeless(Small):
        def forward(self, inputs: dict[str, Tensor]) -> Tensor:
            logits = super().forward(inputs)
            bad = inputs["S1RTC"][:, :1, :1, :1] > at
            return torch.where(bad & self.training, torch.nan, logits)

    return Hopeless()


def valley(folder: Path, name: str, *, seed: int, left: float) -> None:
    """A cube of noise and its lakes, where the noise is smooth enough for a lake: ``NAME.zarr``."""
    cube = toys.raster(SIDE, SIDE, modalities=("S1RTC", "DEM"), times=2, seed=seed, left=left)
    smooth = cube["vv"].rolling(x=5, y=5, center=True, min_periods=1).mean()
    lake = (smooth > 0.15).astype(np.uint8).to_dataset(name="lake")
    lake["lake"].attrs = {}
    cube["vv"] = cube["vv"] - 2 * xr.where(lake["lake"] == 1, 1, 0).astype(np.float32)
    xglof.write_zarr(cube, folder / f"{name}.zarr")
    (folder / "lakes").mkdir(exist_ok=True)
    xglof.write_zarr(lake, folder / "lakes" / f"{name}.zarr")


def valleys(folder: Path) -> Path:
    """Two valleys to learn from, ``train-*``, and one to measure by, ``val-0``, 50 km apart."""
    for number, name in enumerate(("train-0", "train-1", "val-0")):
        valley(folder, name, seed=number, left=500_000 + 50_000 * number)
    return folder


def tables(data: Path, out: Path, /, **changes: Any) -> dict[str, Any]:
    """A config as ``tomllib`` gives it; ``changes`` are keys of tables that differ."""
    found: dict[str, Any] = {
        "name": "small",
        "out": str(out),
        "seed": 5,
        "model": {
            "factory": "learners:small",
            "inputs": [
                {"modality": "S1RTC", "mean": [0, 0], "std": [1, 1]},
                {"modality": "DEM", "mean": [0], "std": [1], "optional": True},
            ],
            "window": toys.WINDOW,
        },
        "data": [
            {"cube": str(data / f"{fold}-*.zarr"), "label": str(data / "lakes/{stem}.zarr"), "fold": fold}
            for fold in ("train", "val")
        ],
        "chips": {"balance": 1, "stride": 16},
        "optimiser": {"lr": 0.01, "warmup": 0.2},
        "fit": {"steps": 8, "batch_size": 4, "threads": 1, "validate_every": 4, "checkpoint_every": 3},
    }
    for name, table in changes.items():
        found[name] = found.get(name, {}) | table if isinstance(table, dict) else table
    return found


def config(data: Path, out: Path, /, **changes: Any) -> TrainConfig:
    """The same as a config."""
    return TrainConfig.from_mapping(tables(data, out, **changes))
