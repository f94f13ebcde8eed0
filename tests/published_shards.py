"""Parquet shards of exactly the published form, made by hand, and chips to write more from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from toys import WINDOW, spec
from xglof.bands import MODALITIES
from xglof.models.spec import ModelSpec
from xglof.train.batch import ChipBatch

BANDS = MODALITIES["S2L2A"].names


def arrays(seed: int = 0, side: int = WINDOW) -> dict[str, np.ndarray]:
    """The four arrays of a chip, without a gap."""
    rng = np.random.default_rng(seed)
    return {
        "s2": rng.integers(1, 9000, (12, side, side)).astype("<u2"),
        "s1": rng.normal(-12, 4, (2, side, side)).astype("<f4"),
        "dem": rng.integers(3000, 5000, (1, side, side)).astype("<i2"),
        "mask": (rng.random((side, side)) < 0.2).astype("u1"),
    }


def row(held: dict[str, np.ndarray], number: int = 0, **changes: Any) -> dict[str, Any]:
    """A row of a shard, as the published ones have them."""
    told: dict[str, Any] = {
        "chip_id": f"chip{number:03d}",
        "region": "tien_shan",
        "snapshot_year": 2021,
        "split": "train",
        "lake_id": "L1",
        "lat": 42.0 + number / 50,
        "lon": 77.0,
        "water_frac": float(held["mask"].mean()),
    }
    told |= {f"{name}_bytes": array.tobytes() for name, array in held.items()}
    told |= {f"{name}_shape": list(array.shape) for name, array in held.items()}
    return told | changes


def write(
    root: Path, rows: list[dict[str, Any]], folder: str = "tien_shan/2021", number: int = 0, **options: Any
) -> Path:
    """A shard of these rows."""
    path = root / folder / f"shard_{number:03d}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def model(*modalities: str, **changes: Any) -> ModelSpec:
    """A toy model that can do without any one modality."""
    names = modalities or ("S2L2A", "S1GRD", "DEM")
    return spec("context", names, **{"optional": names} | changes)


@dataclass
class Chips:
    """A chip source in memory: planes ``(chips, y, x)``."""

    spec: ModelSpec
    index: pd.DataFrame
    planes: dict[str, np.ndarray]
    label: np.ndarray

    def read(self, rows: Any) -> ChipBatch:
        chosen = np.asarray(rows, np.int64)
        modalities = set(self.index["modalities"].to_numpy()[chosen])
        assert len(modalities) == 1
        kept = tuple(modalities.pop().split("+"))
        names = [name for each in self.spec.inputs if each.modality in kept for name in each.bands]
        return ChipBatch(
            planes={name: torch.from_numpy(self.planes[name][chosen]) for name in (*names, "flags")},
            label=torch.from_numpy(self.label[chosen]),
            rows=torch.from_numpy(chosen),
            modalities=kept,
        )


def toy_chips(count: int = 5, side: int = WINDOW, *modalities: str) -> Chips:
    """Chips with fractional elevation, gaps in every sensor, flags, ignored labels, and one without radar."""
    made = model(*(modalities or ("S2L2A", "S1RTC", "DEM")))
    rng = np.random.default_rng(3)
    shape = (count, side, side)
    planes: dict[str, np.ndarray] = {}
    for band in BANDS:
        planes[band] = rng.integers(1, 65_535, shape).astype("u2")
        planes[band][:, :2] = 0
    for band in ("vv", "vh"):
        planes[band] = rng.normal(-12, 4, shape).astype("f4")
        planes[band][:, :, :3] = np.nan
        planes[band][1] = np.nan
    planes["dem"] = (4000 + 200 * rng.normal(size=shape)).astype("f4")
    planes["dem"][:, -1, -1] = np.nan
    planes["flags"] = rng.integers(0, 1 << 12, shape).astype("u2")
    label = rng.choice([0, 1, 255], shape).astype("u1")
    names = "+".join(each.modality for each in made.inputs)
    index = pd.DataFrame(
        {
            "chip_id": [f"c{number}" for number in range(count)],
            "source": np.int32(0),
            "time": pd.to_datetime(
                [f"{2020 + number % 2}-07-0{1 + number}T05:06:07.089" for number in range(count)]
            ),
            "row": np.int64(0),
            "col": np.int64(0),
            "longitude": 77 + np.arange(count) / 7,
            "latitude": 42 + np.arange(count) / 9,
            "side_m": side * 9.5,
            "lake_fraction": np.float32(0.1),
            "valid_fraction": np.float32(1),
            "lake_ids": ["", "A", "A B", "C", ""][:count],
            "modalities": [names.replace("S1RTC+", "") if number == 1 else names for number in range(count)],
            "block": np.int64(0),
            "hardness": np.float32(np.nan),
            "fold": ["train", "val", "test", "dropped", ""][:count],
        }
    )
    return Chips(made, index, planes, label)


def same(first: Any, second: Any) -> bool:
    """Equal to the bit, NaN included."""
    first, second = np.asarray(first), np.asarray(second)
    return first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()


def same_chips(source: Any, again: Any, pairs: Any) -> None:
    """Fail where pairs of rows of two sources differ."""
    for ours, theirs in pairs:
        one, two = source.read([ours]), again.read([theirs])
        assert one.modalities == two.modalities
        assert set(one.planes) == set(two.planes)
        for name, plane in one.planes.items():
            assert same(plane, two.planes[name]), name
        assert same(one.label, two.label)
