"""Chips by fold: which stores are cubes, what is refused, and when two sets of data are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr

import learners
import xglof
from published_shards import Chips, toy_chips
from xglof.errors import TrainError
from xglof.train import folds
from xglof.train.config import TrainConfig
from xglof.train.folds import Folds, cube_paths, open_folds, split_of
from xglof.train.parquet import write_shards
from xglof.train.settings import DataConfig, SplitConfig
from xglof.train.splits import Split
from xglof.train.start import spec_of


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learners.valleys(tmp_path_factory.mktemp("valleys"))


def opened(config: TrainConfig) -> Folds:
    return open_folds(config, spec_of(config))


def test_a_cube_is_named_once(data: Path) -> None:
    """Or a valley that is a world of its own would be learned from and measured by."""
    tables = learners.tables(data, data / "unused", split={"ground": "separate"})
    tables["data"][1]["cube"] = tables["data"][1]["cube"].replace("val-", "*-")
    config = TrainConfig.from_mapping(tables)
    with pytest.raises(TrainError, match=r"train-0\.zarr is named more than once in \[\[data\]\]"):
        open_folds(config, spec_of(config))


def test_labels_and_scores_among_cubes_are_none(tmp_path: Path) -> None:
    for name in ("a{1}", "a{1}-lake", "a{1}-score", "b", "b-lake", "all"):
        (tmp_path / f"{name}.zarr").mkdir()
    data = DataConfig(
        cube=f"{tmp_path}/*.zarr",
        label=f"{tmp_path}/{{stem}}-lake.zarr",
        scores=f"{tmp_path}/{{stem}}-score.zarr",
    )
    assert [Path(path).stem for path in cube_paths(data)] == ["all", "a{1}", "b"]
    # a cube that holds its own labels
    own = DataConfig(cube=f"{tmp_path}/b.zarr", label=f"{tmp_path}/b.zarr")
    assert cube_paths(own) == [f"{tmp_path}/b.zarr"]
    # one store of labels for all cubes
    common = DataConfig(cube=f"{tmp_path}/*l*.zarr", label=f"{tmp_path}/all.zarr")
    assert [Path(path).stem for path in cube_paths(common)] == ["a{1}-lake", "b-lake"]
    with pytest.raises(TrainError, match=r"no cube is at .*none\*\.zarr"):
        cube_paths(DataConfig(cube=f"{tmp_path}/none*.zarr", label="x"))


INDEX = pd.DataFrame(
    {
        "chip_id": ["0-0", "0-1"], "source": np.int32(0), "longitude": 77.1, "latitude": 43.2,
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
        {"chip_id": ["0-0", "0-2"]}, {"fold": "val"}, {"longitude": 77.100001},
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


def looked_at(chips: Chips) -> str:
    return Folds(chips, chips, Split.given(["train"]), chips.index, "", chips.index).pixels


def test_pixels_tell_data_that_were_made_anew() -> None:
    first = looked_at(toy_chips())
    assert looked_at(toy_chips()) == first
    band, label = toy_chips(), toy_chips()
    band.planes["vv"][3, 8, 8] += 1  # no gap more or less: the index says the same
    label.label[4, 0, 0] ^= 1
    assert len({first, looked_at(band), looked_at(label)}) == 3
    many = toy_chips(5)
    monthly = Chips(many.spec, pd.concat([many.index] * 40, ignore_index=True), many.planes, many.label)
    read: list[int] = []
    monthly.read = lambda rows: read.extend(rows) or many.read([row % 5 for row in rows])  # type: ignore[method-assign]
    looked_at(monthly)
    assert len(read) == 2 * folds._LOOKED_AT, "however many there are, few are read"
    assert (min(read), max(read)) == (0, 199)


def entries(**labels: Path) -> list[dict[str, Any]]:
    """Tables of cubes by name, each with its label; the first words of names are folds."""
    return [
        {"cube": name.replace("_", "-"), "label": str(label), "fold": name.partition("_")[0]}
        for name, label in labels.items()
    ]


def with_labels(data: Path, out: Path, **labels: Path) -> TrainConfig:
    tables = [table | {"cube": str(data / f"{table['cube']}.zarr")} for table in entries(**labels)]
    return learners.config(data, out, data=tables)


def test_a_lake_of_polygons_lies_in_one_fold(data: Path, tmp_path: Path) -> None:
    """Two cubes 100 km apart, and a lake of one id in both: as a lake that two dates or two cubes map."""
    boxes = []
    for name in ("train-0", "val-0"):
        cube = xglof.read_zarr(data / f"{name}.zarr")
        left, top = float(cube["x"][0]), float(cube["y"][0])
        boxes.append(shapely.box(left, top - 240, left + 160, top))
    for ids, shared in ((["one", "two"], False), (["one", "one"], True)):
        path = tmp_path / f"lakes-{shared}.gpkg"
        geopandas.GeoDataFrame({"lake_id": ids}, geometry=boxes, crs=32645).to_file(path)
        config = with_labels(data, tmp_path / "run", train_0=path, val_0=path)
        if shared:
            with pytest.raises(TrainError, match=r"split fails its check: 1 lakes lie in two folds \(one\)"):
                opened(config)
        else:
            assert "no lake shared among 2 lakes" in opened(config).report


def test_chips_to_measure_by_have_lake(data: Path, tmp_path: Path) -> None:
    """Without any, an IoU is of nothing, or of what was mapped in error."""
    lake = xglof.read_zarr(data / "lakes" / "val-0.zarr")
    xglof.write_zarr(xr.zeros_like(lake).compute(), tmp_path / "dry.zarr")
    labels = {"train_0": data / "lakes" / "train-0.zarr", "val_0": tmp_path / "dry.zarr"}
    with pytest.raises(TrainError, match=r"none of the \d+ chips of validation has lake, so no IoU"):
        opened(with_labels(data, tmp_path / "run", **labels))


@pytest.mark.parametrize(
    ("match", "changes"),
    [
        ("block_m is -1", {"split": {"block_m": -1.0}}),
        ("shares is", {"split": {"shares": [80, 10, 5]}}),
        (
            "expected blocks of 0.001 to 180 degrees",
            {"split": {"scheme": "cryosentinel-v1", "block_deg": 0.0}},
        ),
        ("scheme is .given., and not every", {"split": {"scheme": "given"}}),
        (r"split .*none\.json can't be read", {"split": {"file": "/none.json"}}),
    ],
)
def test_a_split_that_is_none_is_refused_before_a_cube_is_opened(
    match: str, changes: dict[str, Any], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folds, "_cut", None)
    cubes = {"cube": str(data / "*.zarr"), "label": str(data / "lakes" / "{stem}.zarr")}
    with pytest.raises(TrainError, match=match):
        opened(learners.config(data, tmp_path / "run", data=[cubes], **changes))


def test_other_refusals_before_a_cube_is_opened(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folds, "_cut", None)
    labels = {"train_0": data / "lakes" / "train-0.zarr", "val_0": tmp_path / "none.gpkg"}
    with pytest.raises(TrainError, match=r"label .*none\.gpkg of cube .*val-0\.zarr is not there"):
        opened(with_labels(data, tmp_path / "run", **labels))
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "split.json").write_text(Split.given(["train", "val"]).to_json())
    start = {"start": str(tmp_path / "old")}
    with pytest.raises(TrainError, match=r"no places\.csv in .*old tells where they lay"):
        opened(learners.config(data, tmp_path / "run", model=start))


def test_shards_have_folds_of_their_own(tmp_path: Path) -> None:
    chips = toy_chips()
    chips.index["lake_ids"] = ""
    write_shards(chips, tmp_path / "shards", region="tien_shan")
    tables = [{"shards": str(tmp_path / "shards")}]
    settings = {"split": {"scheme": "published"}, "chips": {"stride": None, "min_valid": 0.0}}
    found = open_folds(learners.config(tmp_path, tmp_path / "run", data=tables, **settings), chips.spec)
    words = found.index["published_split"].tolist()
    assert sorted(zip(words, found.index["fold"], strict=True)) == [
        ("UNKNOWN", "dropped"), ("dropped", "dropped"), ("test", "test"), ("train", "train"), ("val", "val"),
    ]  # fmt: skip
    assert (len(found.train), len(found.val)) == (1, 1)
    assert Split.from_json(found.split.to_json()) == found.split == Split.published()
    assert set(found.places["fold"]) == {"train", "val", "test", "dropped"}


def test_what_a_config_says_of_its_split() -> None:
    assert split_of(SplitConfig(scheme="published"), [], []) == Split.published()
    blocks = SplitConfig(block_m=30_000, buffer_m=1000, salt="a", shares=(60, 20, 20))
    expected = Split.blocks(block_m=30_000, buffer_m=1000, salt="a", shares=(60, 20, 20))
    assert split_of(blocks, [None, None], ["a/1.zarr", "a/2.zarr"]) == expected
    degrees = SplitConfig(scheme="cryosentinel-v1", block_deg=0.25)
    assert split_of(degrees, [], []) == Split.cryosentinel(block_deg=0.25)
    given = Split.given(["train", "val"], sources=["a/1.zarr", "b/1.zarr"], ground="separate", buffer_m=5)
    config = SplitConfig(ground="separate", buffer_m=5)
    assert split_of(config, ["train", "val"], ["a/1.zarr", "b/1.zarr"]) == given
    with pytest.raises(TrainError, match="scheme is 'given', and not every"):
        split_of(SplitConfig(scheme="given"), [], [])
    with pytest.raises(TrainError, match="the index has no published_split"):
        Split.published().assign(INDEX)
