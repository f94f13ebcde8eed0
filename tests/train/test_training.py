"""A training from a config to a model that segments, and the trainings that are refused."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
import torch
import xarray as xr
from safetensors.torch import load_file, save_file

import learners
import toys
import xglof
from xglof.errors import TrainError, XglofError
from xglof.models.folder import read_model
from xglof.train import run
from xglof.train.batch import prepare
from xglof.train.folds import open_folds
from xglof.train.learner import Learner
from xglof.train.start import first_network, spec_of
from xglof.train.training import Trained, fit, make_fabric

LONG = {"steps": 60, "validate_every": 20, "checkpoint_every": 60}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learners.valleys(tmp_path_factory.mktemp("valleys"))


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    out = tmp_path_factory.mktemp("trained") / "run"
    return fit(learners.config(data, out, fit=LONG, average={"ema": 0.9, "recalibrate": 4}), quiet=True)


def curve(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_it_learns_and_the_model_segments(trained: Trained, data: Path) -> None:
    rows = curve(trained.folder)
    assert [int(row["step"]) for row in rows] == list(range(1, 61))
    first, last = (np.mean([float(row["loss"]) for row in part]) for part in (rows[:10], rows[-10:]))
    assert last < 0.7 * first
    assert trained.average is not None
    spec = read_model(trained.average, factories=["learners:"])
    assert (spec.name, spec.window, spec.resolution) == ("small", toys.WINDOW, None)
    cube = xglof.read_zarr(data / "val-0.zarr")
    truth = xglof.read_zarr(data / "lakes" / "val-0.zarr")["lake"]
    threshold = trained.metrics["average"]["best_threshold"]
    mapped = xglof.segment(cube, model=spec, threshold=threshold).compute()
    assert float(xglof.evaluate.score(mapped, truth).compute()["iou"]) > 0.5


def test_the_folder_of_a_run(trained: Trained, data: Path) -> None:
    folder = trained.folder
    assert {path.name for path in folder.iterdir()} == {
        "average", "best", "checkpoints", "config.toml", "metrics.csv", "tensorboard", "trained.json",
    }  # fmt: skip
    assert any(path.stat().st_size > 1000 for path in (folder / "tensorboard").iterdir())
    account = json.loads((folder / "best" / "training.json").read_text())
    assert account["seed"] == 5
    assert account["split"]["scheme"] == "given-v1"
    assert account["recipe"]["optimiser"]["lr"] == 0.01
    split = json.loads((folder / "best" / "split.json").read_text())
    assert split["settings"]["sources"][0] == f"{data.name}/train-0.zarr"
    told = json.dumps([account, split])
    assert str(folder.parent) not in told, "a model tells no path of its maker"
    assert str(data) not in told
    places = (folder / "best" / "places.csv").read_text().splitlines()
    assert places[0] == "source,longitude,latitude,side_m,fold"
    assert {line.rpartition(",")[2] for line in places[1:]} == {"train", "val"}
    best = trained.metrics["best"]
    scores = {row["step"]: row["validation_iou"] for row in curve(folder) if row["validation_iou"]}
    assert list(scores) == ["20", "40", "60"]
    assert float(scores[str(best["step"])]) == max(map(float, scores.values())) == best["iou"]
    # the same config from the folder itself: the run is over, and nothing is trained
    assert fit(folder / "config.toml", quiet=True) == trained


def test_validation_counts_every_pixel_of_every_chip(trained: Trained, data: Path) -> None:
    assert trained.average is not None
    network = read_model(trained.average, factories=["learners:"]).load()
    config = learners.config(data, data / "unused")
    val = open_folds(config, spec_of(config)).val
    tp = fp = fn = 0
    for row in range(len(val)):
        sample = prepare(val.spec, val.read([row]))
        lake = torch.sigmoid(network(dict(sample.inputs)))[:, 0] >= 0.5
        truth, counted = sample.label == 1, sample.label != 255
        tp += int((lake & truth & counted).sum())
        fp += int((lake & ~truth & counted).sum())
        fn += int((~lake & truth & counted).sum())
    assert trained.metrics["average"]["chips"] == len(val)
    assert trained.metrics["average"]["iou"] == tp / (tp + fp + fn)


def test_a_training_that_gets_no_better_ends(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.3, 0.5, 0.4, 0.5])
    real = run.validate

    def scored(*args: Any, **kwargs: Any) -> Any:
        return replace(real(*args, **kwargs), iou=next(scores))

    monkeypatch.setattr(run, "validate", scored)
    changes = {"fit": {"steps": 30, "validate_every": 1, "patience": 2}}
    ended = fit(learners.config(data, tmp_path / "run", **changes), quiet=True)
    assert ended.metrics == {"steps": 4, "best": {"step": 2, "iou": 0.5}}
    assert ended.average is None
    (tmp_path / "run" / "trained.json").unlink()
    again = fit(learners.config(data, tmp_path / "run", **changes), quiet=True)
    assert again.metrics == ended.metrics, "the last checkpoint knows that it is over"


def test_a_mean_that_begins_at_the_very_end(data: Path, tmp_path: Path) -> None:
    """Whatever share of a run is over before it begins, the weights of the last step are in it."""
    average = {"swa_start": 0.999, "use": "swa", "recalibrate": 0}
    ended = fit(learners.config(data, tmp_path / "run", average=average, fit={"steps": 4}), quiet=True)
    assert ended.average is not None
    assert ended.metrics["average"]["kind"] == "swa"
    mean, last = (load_file(path / "weights.safetensors") for path in (ended.average, ended.best))
    assert ended.metrics["best"]["step"] == 4, "the only validation"
    assert all(torch.equal(mean[key], last[key]) for key in mean)


def test_settled_norms_stay_and_are_those_of_the_averages(data: Path, tmp_path: Path) -> None:
    fitted = {"steps": 6, "validate_every": 6, "checkpoint_every": 1, "keep": 6}
    average = {"ema": 0.5, "swa_start": 0.1, "recalibrate": 2, "settle": 0.5}
    out = tmp_path / "run"
    ended = fit(learners.config(data, out, average=average, fit=fitted), quiet=True)
    found: dict[str, list[torch.Tensor]] = {"network": [], "ema": [], "swa": []}
    for step in range(1, 7):
        state = torch.load(out / "checkpoints" / f"step-{step:08}.ckpt", weights_only=True)["learner"]
        networks = {"network": state["network"]} | {
            name: kept["network"] for name, kept in state["averages"].items()
        }
        for name, tensors in networks.items():
            found[name].append(tensors["norm.running_var"])
    own = found["network"]
    assert not any(torch.equal(first, second) for first, second in itertools.pairwise(own[:4]))
    for name in found:
        for settled in found[name][3:]:  # step 4 is the first with them
            torch.testing.assert_close(settled, own[3], rtol=1e-6, atol=0)
    written = load_file(ended.average / "weights.safetensors")  # type: ignore[operator]
    torch.testing.assert_close(written["norm.running_var"], own[3], rtol=1e-6, atol=0)
    unmeasured = learners.config(data, tmp_path / "bad", average={"settle": 0.5, "recalibrate": 0})
    with pytest.raises(TrainError, match=r"settle measures norms over recalibrate batches; give 1 or more"):
        fit(unmeasured, quiet=True)


def test_what_the_caller_sees_and_keeps(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    threads = torch.get_num_threads()
    save_file(learners.small().state_dict(), tmp_path / "foreign.safetensors")
    torch.manual_seed(1)
    start = {"start": str(tmp_path / "foreign.safetensors")}
    fit(learners.config(data, tmp_path / "run", model=start, fit={"threads": threads + 1}))
    assert torch.equal(torch.rand(1), expected)
    assert torch.get_num_threads() == threads
    out, err = capfd.readouterr()
    lines = err.splitlines()
    assert out == ""
    told = [line.split(":")[0] for line in lines]
    assert told == ["note", "step 4 of 8", "step 8 of 8"], "and no adverts"
    assert "no split.json lies beside the start" in lines[0]
    assert "validation IoU 0." in lines[1]


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_leaves_elevation_in_metres(
    precision: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[tuple[torch.dtype, torch.dtype]] = set()
    forward = learners.Small.forward

    def watched(self: learners.Small, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = forward(self, inputs)
        seen.add((inputs["DEM"].dtype, logits.dtype))
        return logits

    monkeypatch.setattr(learners.Small, "forward", watched)
    ended = fit(learners.config(data, tmp_path / "run", fit={"precision": precision, "steps": 4}), quiet=True)
    half = torch.bfloat16 if precision == "bf16-mixed" else torch.float16
    assert seen == {(torch.float32, half)}
    weights = load_file(ended.best / "weights.safetensors")
    assert weights["head.weight"].dtype == torch.float32
    state = torch.load(next((tmp_path / "run" / "checkpoints").glob("*.ckpt")), weights_only=True)
    assert ("scale" in state["learner"]["scaler"]) == (precision == "16-mixed")


def test_a_loss_that_is_not_finite_names_its_chips(data: Path, tmp_path: Path) -> None:
    bound = 0.5
    changes = {"model": {"factory": "learners:hopeless", "kwargs": {"at": bound}}, "augment": {"flip": 0.0}}
    config = learners.config(data, tmp_path / "run", **changes)
    with pytest.raises(TrainError, match=r"step \d+: not finite: the network's answer to chips? ") as caught:
        fit(config, quiet=True)
    train = open_folds(config, spec_of(config)).train
    named = str(caught.value).partition("answer to chip")[2].partition(";")[0].removeprefix("s").strip()
    rows = [train.index.index[train.index["chip_id"] == name][0] for name in named.split(", ")]
    assert 0 < len(rows) < 4, "those of the batch that are to blame"
    for row in rows:
        assert float(prepare(train.spec, train.read([int(row)])).inputs["S1RTC"][0, 0, 0, 0]) > bound


def test_gradients_that_are_not_finite(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = learners.Small.forward

    def steep(self: learners.Small, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return forward(self, inputs) + (self.head.bias * 0).sqrt()

    monkeypatch.setattr(learners.Small, "forward", steep)
    with pytest.raises(TrainError, match=r"step 0: the loss is finite and its gradients are not, at chips "):
        fit(learners.config(data, tmp_path / "run"), quiet=True)


def test_accumulated_batches_are_one_batch(data: Path) -> None:
    weights = []
    for parts in (1, 2):
        config = learners.config(
            data,
            data / "unused",
            augment={"flip": 0.0},
            loss={"weights": {"bce": 1}, "settings": {"pos_weight": 1, "hardest": 1}},
            fit={"accumulate": parts},
            optimiser={"warmup": 0.0},
        )  # fmt: skip
        fabric = make_fabric(config, spec_of(config))
        fabric.launch()
        folds = open_folds(config, spec_of(config))
        network = first_network(config, folds.train.spec)
        learner = Learner(fabric, config, network, folds.train.spec, steps=4, index=folds.train.index)
        learner.network.norm = torch.nn.Identity()
        learner.network.dropout = torch.nn.Identity()
        rows = [0, 1, 2, 3]
        size = len(rows) // parts
        batches = [folds.train.read(rows[first : first + size]) for first in range(0, len(rows), size)]
        values = learner.take(0, batches)
        weights.append((values["loss"], learner.network.radar.weight.detach().clone()))
    assert weights[0][0] == pytest.approx(weights[1][0], rel=1e-6)
    torch.testing.assert_close(weights[0][1], weights[1][1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("match", "changes"),
    [
        ("inputs name 'S9'; known are S2L2A", {"model": {"inputs": ["S9"]}}),
        ("can't be had", {"model": {"factory": "nowhere:build"}}),
        ("asks for what is not there", {"fit": {"accelerator": "cuda"}}),
        ("no full batch of 1000", {"fit": {"batch_size": 1000}}),
        ("too few for a step", {"fit": {"steps": 0, "epochs": 1, "accumulate": 1000}}),
        ("no cube is at", {"data": [{"cube": "/nowhere/*.zarr", "label": "x", "fold": "train"}]}),
    ],
)  # fmt: skip
def test_what_is_refused_before_the_first_step(
    match: str, changes: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    if not torch.cuda.is_available() or "accelerator" not in str(changes):
        with pytest.raises(TrainError, match=match):
            fit(learners.config(data, tmp_path / "run", **changes), quiet=True)
        assert not (tmp_path / "run" / "metrics.csv").exists()


@pytest.mark.parametrize(
    ("match", "changes"),
    [
        ("S1RTC can't be dropped", {"augment": {"drop": {"S1RTC": 0.5}}}),
        (
            "recalibrate_drop: S1RTC can't be dropped",
            {"average": {"ema": 0.5, "recalibrate": 2, "recalibrate_drop": {"S1RTC": 0.5}}},
        ),
        (
            "recalibrate_drop names S2L2A; 'small' takes S1RTC, DEM",
            {"average": {"ema": 0.5, "recalibrate_drop": {"S2L2A": 0.5}}},
        ),
        ("recalibrate_drop: drop of DEM is 2.0", {"average": {"recalibrate_drop": {"DEM": 2.0}}}),
        ("use is 'swa', which is not taken; set swa_start", {"average": {"use": "swa"}}),
        (
            "patience may end the training before that mean begins",
            {"average": {"use": "swa", "swa_start": 0.5}, "fit": {"patience": 1}},
        ),
        ("no loss 'bces'; did you mean 'bce'", {"loss": {"weights": {"bces": 1.0}}}),
        ("no encoder of blocks", {"optimiser": {"layer_decay": 0.5}}),
        (r"nothing is at /nowhere/a\.ckpt", {"model": {"start": "/nowhere/a.ckpt"}}),
        ("say start = 'own'", {"model": {"factory": "", "name": "terramind-tiny-demo", "window": None}}),
        (
            "has no weights of its own",
            {"model": {"factory": "", "name": "water-index", "start": "own", "window": None}},
        ),
    ],
)
def test_what_is_refused_before_the_data_are_opened(
    match: str, changes: dict[str, Any], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xglof.train.folds.open_folds", None)
    if "factory" in changes.get("model", {}):
        changes = {"model": changes["model"] | {"inputs": []}}
    with pytest.raises(TrainError, match=match):
        fit(learners.config(data, tmp_path / "run", **changes), quiet=True)
    assert not (tmp_path / "run").exists()


def entry(cube: Path, label: Path, fold: str) -> dict[str, str]:
    return {"cube": str(cube), "label": str(label), "fold": fold}


def test_cubes_that_lack_bands_or_labels(data: Path, tmp_path: Path) -> None:
    cube = xglof.read_zarr(data / "train-0.zarr")
    xglof.write_zarr(cube.drop_vars("vv"), tmp_path / "bare.zarr")
    label = data / "lakes" / "train-0.zarr"
    with pytest.raises(XglofError, match="vv"):
        fit(
            learners.config(data, tmp_path / "run", data=[entry(tmp_path / "bare.zarr", label, "train")]),
            quiet=True,
        )
    missing = entry(data / "train-0.zarr", tmp_path / "none.gpkg", "train")
    with pytest.raises(TrainError, match=r"label .*none\.gpkg of cube .*train-0\.zarr is not there"):
        fit(learners.config(data, tmp_path / "run", data=[missing]), quiet=True)


def test_folds_that_are_empty_or_too_near(data: Path, tmp_path: Path) -> None:
    label = data / "lakes" / "train-0.zarr"
    train = entry(data / "train-0.zarr", label, "train")
    with pytest.raises(TrainError, match="no chip is in the fold 'val'"):
        fit(learners.config(data, tmp_path / "run", data=[train]), quiet=True)
    shutil.copytree(data / "train-0.zarr", tmp_path / "copy.zarr")
    near = [train, entry(tmp_path / "copy.zarr", label, "val")]
    with pytest.raises(TrainError, match="the split fails its check"):
        fit(learners.config(data, tmp_path / "run", data=near), quiet=True)


def test_no_lake_to_learn_from(data: Path, tmp_path: Path) -> None:
    lake = xglof.read_zarr(data / "lakes" / "train-0.zarr")
    xglof.write_zarr(xr.zeros_like(lake).compute(), tmp_path / "dry.zarr")
    dry = [
        entry(data / "train-0.zarr", tmp_path / "dry.zarr", "train"),
        entry(data / "val-0.zarr", data / "lakes" / "val-0.zarr", "val"),
    ]
    with pytest.raises(
        TrainError, match=r"chips has lake on 0\.20% of its pixels or more: nothing can be learned"
    ):
        fit(learners.config(data, tmp_path / "run", data=dry), quiet=True)


def test_a_further_stage_keeps_to_the_split(trained: Trained, data: Path, tmp_path: Path) -> None:
    start = {"model": {"start": str(trained.best)}}
    same = fit(learners.config(data, tmp_path / "same", **start, optimiser={"lr": 1e-12}), quiet=True)
    before, after = (load_file(folder / "weights.safetensors") for folder in (trained.best, same.best))
    torch.testing.assert_close(before["head.weight"], after["head.weight"])
    names = ("val-0", "train-1", "train-0")  # what was learned from is now to measure by
    folds = ("train", "train", "val")
    swapped = [
        entry(data / f"{name}.zarr", data / "lakes" / f"{name}.zarr", fold)
        for name, fold in zip(names, folds, strict=True)
    ]
    with pytest.raises(TrainError, match="start model was trained on"):
        fit(learners.config(data, tmp_path / "other", **start, data=swapped), quiet=True)


def test_weights_of_another_network(trained: Trained, data: Path, tmp_path: Path) -> None:
    model = {"factory": "toys:context", "start": str(trained.best)}
    with pytest.raises(TrainError, match=r"factory|not those|do not fit"):
        fit(learners.config(data, tmp_path / "run", model=model), quiet=True)


def test_labels_of_polygons_and_maps_of_what_is_hard(data: Path, tmp_path: Path) -> None:
    cube = xglof.read_zarr(data / "train-0.zarr")
    left, top = float(cube["x"][0]) - 5, float(cube["y"][0]) + 5
    lake = shapely.box(left, top - 240, left + 160, top)  # 24 rows and 16 columns, in another CRS below
    frame = geopandas.GeoDataFrame({"lake_id": ["one"]}, geometry=[lake], crs=32645)
    frame.to_crs(4326).to_file(tmp_path / "lakes.gpkg")
    score = xr.zeros_like(cube["dem"]).compute()
    score[:, 32:] = 0.75
    xglof.write_zarr(score.to_dataset(name="lake_probability"), tmp_path / "train-0-score.zarr")
    train = entry(data / "train-0.zarr", tmp_path / "lakes.gpkg", "train")
    train["scores"] = str(tmp_path / "{stem}-score.zarr")
    val = entry(data / "val-0.zarr", data / "lakes" / "val-0.zarr", "val")
    config = learners.config(data, tmp_path / "run", data=[train, val])
    index = open_folds(config, spec_of(config)).train.index
    first = index[(index["row"] == 0) & (index["col"] == 0)]
    assert first["lake_fraction"].tolist() == [1, 1]
    assert first["lake_ids"].tolist() == ["one", "one"]
    right = index[index["col"] == 32]
    assert len(right)
    assert set(right["hardness"]) == {0.75}
    assert set(right["lake_fraction"]) == {0}
    Path(train["scores"].replace("{stem}", "train-0")).rename(tmp_path / "away")
    with pytest.raises(TrainError, match=r"score map .*train-0-score\.zarr of cube .* is not there"):
        open_folds(config, spec_of(config))
