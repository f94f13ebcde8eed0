"""Chips by fold: which stores are cubes, and when two sets of data are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from xglof.train.folds import Folds, cube_paths
from xglof.train.settings import DataConfig
from xglof.train.splits import Split


def test_labels_and_scores_among_cubes_are_none(tmp_path: Path) -> None:
    for name in ("a{1}", "a{1}-lake", "a{1}-score", "b", "b-lake", "all"):
        (tmp_path / f"{name}.zarr").mkdir()
    data = DataConfig(
        cube=f"{tmp_path}/*.zarr",
        label=f"{tmp_path}/{{stem}}-lake.zarr",
        scores=f"{tmp_path}/{{stem}}-score.zarr",
    )
    assert [Path(path).stem for path in cube_paths(data)] == ["a{1}", "all", "b"]
    # a cube that holds its own labels
    own = DataConfig(cube=f"{tmp_path}/b.zarr", label=f"{tmp_path}/b.zarr")
    assert cube_paths(own) == [f"{tmp_path}/b.zarr"]


INDEX = pd.DataFrame(
    {
        "chip_id": ["0.0.0.0", "0.1.0.0"], "source": np.int32(0), "longitude": 77.1, "latitude": 43.2,  # noqa: S104  (a chip's name)
        "time": pd.to_datetime(["2020-08-01", None]), "side_m": 640.0, "lake_fraction": np.float32(0.25),
        "valid_fraction": np.float32(1), "lake_ids": "one", "modalities": "S1RTC", "block": 0,
        "hardness": np.float32(np.nan), "fold": "train",
    }
)  # fmt: skip


def digest(**changes: Any) -> str:
    index = INDEX.assign(**changes)
    return Folds(None, None, Split.given(["train"]), index, "", index).digest


@pytest.mark.parametrize(
    "changes",
    [
        {"chip_id": ["0.0.0.0", "0.2.0.0"]}, {"fold": "val"}, {"longitude": 77.100001},  # noqa: S104  (a chip's name)
        {"time": pd.to_datetime(["2020-08-02", None])}, {"lake_fraction": np.float32(0.26)},
        {"valid_fraction": np.float32(0.9)}, {"lake_ids": "two"}, {"modalities": "S1RTC+DEM"},
        {"block": [0, 1]},
        {"hardness": np.float32(0.5)}, {"walk": 0},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_other_data_have_another_digest(changes: dict[str, Any]) -> None:
    assert digest(**changes) != digest()


def test_equal_data_have_one_digest() -> None:
    assert digest() == digest(longitude=77.1 + 1e-13, water_frac=0.5)
    assert len(digest()) == 64
