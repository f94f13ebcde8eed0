"""Settings of a training: what is read, what is refused and how it is said."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import learners
from xglof import ModelInput
from xglof.errors import TrainError
from xglof.train.config import TrainConfig, read_config
from xglof.train.settings import DataConfig, FitConfig, ModelConfig
from xglof.train.tables import write_tables

PLACE = Path("/data")


def refused(match: str, **changes: Any) -> None:
    with pytest.raises(TrainError, match=match):
        TrainConfig.from_mapping(learners.tables(PLACE, PLACE / "run", **changes))


def test_a_file_and_python_say_the_same(tmp_path: Path) -> None:
    text = """
        name = "lakes"
        out = "run"
        [model]
        name = "terramind-tiny-demo"
        start = "random"
        [[data]]
        cube = "cubes/*.zarr"
        label = "../labels/{stem}.gpkg"
        all_touched = true
        [fit]
        steps = 10
        [augment.noise.S2L2A]
        offset = 40
        band_gain = [0.1, 0.2]
        [loss]
        weights = { bce = 1, tversky = 2 }
        settings = { tversky_alpha = 0.25 }
    """
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    config = read_config(tmp_path / "config.toml")
    assert config.out == str(tmp_path / "run")
    assert config.data == (
        DataConfig(
            cube=str(tmp_path / "cubes/*.zarr"),
            label=str(tmp_path.parent / "labels/{stem}.gpkg"),
            all_touched=True,
        ),
    )
    assert config.model == ModelConfig(name="terramind-tiny-demo", start="random")
    assert config.fit == FitConfig(steps=10)
    assert config.augment.noise["S2L2A"].offset == 40.0
    assert config.augment.noise["S2L2A"].band_gain == (0.1, 0.2)
    assert config.loss.weights == {"bce": 1.0, "tversky": 2.0}
    assert config.loss.settings.tversky_alpha == 0.25


def test_what_is_written_reads_back_equal() -> None:
    config = learners.config(
        PLACE,
        PLACE / "run",
        name='a "name" with \\ and \x7f',
        augment={"noise": {"S2L2A": {"band_offset": [1.0, 2.5]}}, "drop": {"DEM": 0.1}},
        model={"kwargs": {"widths": [1, 2], "deep": True, "how": "so"}},
        optimiser={"lr": 4e-5},
    )
    assert TrainConfig.from_mapping(tomllib.loads(config.to_toml())) == config
    assert isinstance(config.model.inputs[0], ModelInput)


TEXT = st.text(max_size=5)
VALUES = st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | TEXT
NESTED = VALUES | st.lists(VALUES, max_size=3) | st.dictionaries(TEXT, VALUES, max_size=3)
TABLES = st.dictionaries(TEXT, NESTED | st.lists(NESTED, max_size=2), max_size=4)


@settings(max_examples=50, deadline=None)
@given(TABLES)
def test_tables_survive_a_file(tables: dict[str, Any]) -> None:
    assert tomllib.loads(write_tables(tables)) == tables


def test_an_unknown_key_is_told_with_its_nearest() -> None:
    refused(r"\[fit\] has no setting 'batchsize'; did you mean 'batch_size'", fit={"batchsize": 3})
    refused(r"the config has no setting 'sed'; did you mean 'seed'", sed=1)
    refused(r"\[augment\.noise\.DEM\] has no setting 'ofset'", augment={"noise": {"DEM": {"ofset": 1}}})
    refused(r"\[chips\] has no setting 'zzz'; it has sampling, stride", chips={"zzz": 1})


@pytest.mark.parametrize(
    ("match", "changes"),
    [
        ("fit.steps is 1.5; expected a whole number", {"fit": {"steps": 1.5}}),
        ("fit.steps is True; expected a whole number", {"fit": {"steps": True}}),
        ("optimiser.lr is 'high'; expected a number", {"optimiser": {"lr": "high"}}),
        ("fit.precision is '16-mixd'; did you mean '16-mixed'", {"fit": {"precision": "16-mixd"}}),
        ("optimiser.betas has 1 values; give 2", {"optimiser": {"betas": [0.9]}}),
        ("loss.weights.bce is 'much'; expected a number", {"loss": {"weights": {"bce": "much"}}}),
        ("data is 3; expected a list", {"data": 3}),
        ("model is 'mine'; expected a table", {"model": "mine"}),
        ("fit.devices is 1.5; expected", {"fit": {"devices": 1.5}}),
        (
            r"\[model.inputs\].*modality 'S9' is unknown",
            {"model": {"inputs": [{"modality": "S9", "mean": [0], "std": [1]}]}},
        ),
    ],
)  # fmt: skip
def test_values_of_another_type(match: str, changes: dict[str, Any]) -> None:
    refused(match, **changes)


@pytest.mark.parametrize(
    ("match", "changes"),
    [
        ("needs a name .* or a factory, not both", {"model": {"name": "cryosentinel"}}),
        ("needs steps or epochs", {"fit": {"epochs": 2}}),
        ("needs steps or epochs", {"fit": {"steps": 0}}),
        (r"\[fit\] steps is -5; give 0 or more", {"fit": {"steps": -5}}),
        (r"\[model\] resolution is -10.0; give metres above 0", {"model": {"resolution": -10}}),
        (r"\[model\] part is 'encoder', which", {"model": {"part": "encoder"}}),
        (r"\[model\] which is 'ema', .* path of one as start", {"model": {"which": "ema", "start": "own"}}),
        (r"\[split\] scheme is 'published', which only Parquet", {"split": {"scheme": "published"}}),
        (
            r"\[split\] has the folds that \[\[data\]\] say and says block_m, salt",
            {"split": {"block_m": 10_000, "salt": "mine"}},
        ),
        (
            r"\[split\] has the scheme 'blocks' and says block_deg",
            {"split": {"block_deg": 0.25}, "data": [{"shards": "a"}]},
        ),
        (
            r"\[split\] names a file and says shares, .* leave it out",
            {"split": {"file": "split.json", "shares": [70, 15, 15]}, "data": [{"shards": "a"}]},
        ),
        (r"\[chips\] hard draws by the scores of \[\[data\]\], and none has any", {"chips": {"hard": 0.5}}),
        ("put all shards under one folder", {"data": [{"shards": "a"}, {"shards": "b"}]}),
        (r"\[fit\] batch_size is 0; give 1 or more", {"fit": {"batch_size": 0}}),
        (r"\[chips\] positive is 1.5; give a share", {"chips": {"positive": 1.5}}),
        (r"\[optimiser\] warmup is 1.5; give a share", {"optimiser": {"warmup": 1.5}}),
        (r"\[average\] ema is 1.0: nothing would move", {"average": {"ema": 1.0}}),
        (
            r"\[optimiser\] warmup is 0.5 and floor_from 0.4; the rate",
            {"optimiser": {"warmup": 0.5, "floor_from": 0.4}},
        ),
        (r"\[optimiser\] lr is 0.0", {"optimiser": {"lr": 0}}),
        ("seed is -1; give 0 or more", {"seed": -1}),
        ("number 1 says one fold for all of its shards", {"data": [{"shards": "a", "fold": "train"}]}),
        ("a training needs data", {"data": []}),
        ("number 1 needs a cube .* or shards, not both", {"data": [{}]}),
        ("number 1 has cubes without a label", {"data": [{"cube": "a.zarr"}]}),
        (
            "some .* say their fold and some do not",
            {"data": [{"shards": "a"}, {"cube": "a", "label": "b", "fold": "val"}]},
        ),
        ("give one of the two", {"split": {"file": "split.json"}}),
        ("needs a name for its model", {"name": ""}),
    ],
)
def test_values_that_do_not_go_together(match: str, changes: dict[str, Any]) -> None:
    refused(match, **changes)


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("optimiser", "weight_decay"), ("optimiser", "freeze"), ("optimiser", "clip"), ("average", "soup"),
        ("average", "recalibrate"), ("fit", "patience"), ("chips", "balance"),
    ],
)  # fmt: skip
def test_numbers_that_can_not_be_negative(table: str, key: str) -> None:
    refused(rf"\[{table}\] {key} is -1(\.0)?; give 0 or more", **{table: {key: -1}})


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("fit", "batch_size"), ("fit", "accumulate"), ("fit", "threads"), ("fit", "checkpoint_every"),
        ("fit", "validate_every"), ("fit", "keep"), ("fit", "validate_chips"), ("chips", "stride"),
        ("chips", "count"), ("chips", "epoch_chips"), ("chips", "dates"), ("chips", "mix"),
        ("chips", "threads"),
    ],
)  # fmt: skip
def test_counts_of_nothing(table: str, key: str) -> None:
    for value in (0, -2):
        refused(rf"\[{table}\] {key} is {value}; give 1 or more", **{table: {key: value}})


@pytest.mark.parametrize("key", ["layer_decay", "backbone_multiplier"])
def test_rates_of_layers_that_are_none(key: str) -> None:
    refused(rf"\[optimiser\] {key} is 0\.0; give a number above 0", optimiser={key: 0})
    refused(rf"\[optimiser\] {key} is -0\.5; give a number above 0", optimiser={key: -0.5})


@pytest.mark.parametrize(("table", "key"), [("optimiser", "floor_from"), ("chips", "hard")])
def test_shares_that_are_none(table: str, key: str) -> None:
    refused(rf"\[{table}\] {key} is 1.5; give a share", **{table: {key: 1.5}})


@pytest.mark.parametrize(
    ("match", "changes"),
    [
        ("optimiser.lr", {"optimiser": {"lr": float("nan")}}),
        ("optimiser.betas", {"optimiser": {"betas": [0.9, float("nan")]}}),
        ("loss.weights.bce", {"loss": {"weights": {"bce": float("nan")}}}),
        ("split.block_m", {"split": {"block_m": float("nan")}}),
    ],
)
def test_what_is_no_number(match: str, changes: dict[str, Any]) -> None:
    refused(f"{match} is nan; give a number", **changes)


def test_a_missing_table_is_named() -> None:
    table = learners.tables(PLACE, PLACE / "run")
    del table["fit"]
    with pytest.raises(TrainError, match="the config lacks fit"):
        TrainConfig.from_mapping(table)


def test_files_that_are_no_config(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"none\.toml can't be read .*give a TOML file"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = = 1")
    with pytest.raises(TrainError, match=r"bad\.toml is no TOML"):
        read_config(tmp_path / "bad.toml")


def test_addresses_and_names_are_no_paths(tmp_path: Path) -> None:
    config = TrainConfig.from_mapping(
        learners.tables(
            PLACE, PLACE, model={"factory": "", "name": "terramind-tiny-demo", "start": "own", "inputs": []},
            data=[{"cube": "https://host/a.zarr?sig=SECRET", "label": "b.gpkg", "fold": "train"}],
        ),
        base=tmp_path,
    )  # fmt: skip
    assert config.data[0].cube == "https://host/a.zarr?sig=SECRET"
    assert "SECRET" not in config.to_toml(), "what is written down holds no token"
    assert "https://host/a.zarr" in config.to_toml()
    assert config.data[0].label == str(tmp_path / "b.gpkg")
    assert (config.model.name, config.model.start) == ("terramind-tiny-demo", "own")


def test_all_paths_begin_at_the_file(tmp_path: Path) -> None:
    table = learners.tables(
        PLACE, Path("run"), model={"start": "a/best"}, split={"file": "a/best/split.json"},
        data=[{"cube": "c/*.zarr", "label": "../l.gpkg", "scores": "s/{stem}.zarr"}],
    )  # fmt: skip
    (tmp_path / "config.toml").write_text(write_tables(table), encoding="utf-8")
    config = read_config(tmp_path / "config.toml")
    found = [config.out, config.model.start, config.split.file]
    assert found == [str(tmp_path / name) for name in ("run", "a/best", "a/best/split.json")]
    store = config.data[0]
    assert (store.cube, store.label) == (str(tmp_path / "c/*.zarr"), str(tmp_path.parent / "l.gpkg"))
    assert store.scores == str(tmp_path / "s/{stem}.zarr")
    shards = TrainConfig.from_mapping(
        learners.tables(PLACE, PLACE, data=[{"shards": "d"}]), base=tmp_path
    ).data[0]
    assert shards.shards == str(tmp_path / "d")


def test_the_configs_of_the_repository_are_read() -> None:
    files = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))
    assert files
    for file in files:
        assert read_config(file).out
