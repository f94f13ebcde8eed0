"""A training by two processes, which is what several GPUs do, on a CPU."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import learners
from xglof.models.folder import read_model
from xglof.train.batch import prepare
from xglof.train.folds import open_folds
from xglof.train.start import spec_of

CHANGES: dict[str, Any] = {
    "augment": {"rot90": True, "drop": {"DEM": 0.3}},
    "average": {"ema": 0.8, "recalibrate": 2},
    "fit": {"batch_size": 2, "accumulate": 2, "accelerator": "cpu", "devices": 2, "strategy": "ddp"},
}


def train(data: Path, out: Path) -> None:
    """Train by two processes that torchrun starts."""
    file = out.parent / f"{out.name}.toml"
    file.write_text(learners.config(data, out, **CHANGES).to_toml(), encoding="utf-8")
    script = out.parent / "train.py"
    script.write_text("import sys\nfrom xglof.train.training import fit\nfit(sys.argv[1], quiet=True)\n")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run(
        [*launcher, str(script), str(file)],
        env=os.environ | {"PYTHONPATH": str(Path(learners.__file__).parent), "OMP_NUM_THREADS": "1"},
        timeout=600,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learners.valleys(tmp_path_factory.mktemp("valleys"))


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("processes") / "run"
    train(data, out)
    return out


def curve(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_one_of_them_writes(run: Path) -> None:
    assert [int(row["step"]) for row in curve(run)] == list(range(1, 9))
    assert {path.name for path in run.iterdir()} == {
        "average", "best", "checkpoints", "config.toml", "metrics.csv", "tensorboard", "trained.json",
    }  # fmt: skip


def test_their_scores_are_those_of_all_chips(run: Path, data: Path, tmp_path: Path) -> None:
    network = read_model(run / "average", factories=["learners:"]).load()
    config = learners.config(data, tmp_path / "unused", **CHANGES)
    val = open_folds(config, spec_of(config)).val
    tp = wrong = 0
    for row in range(len(val)):
        sample = prepare(val.spec, val.read([row]))
        lake = torch.sigmoid(network(dict(sample.inputs)))[:, 0] >= 0.5
        truth, counted = sample.label == 1, sample.label != 255
        tp += int((lake & truth & counted).sum())
        wrong += int(((lake != truth) & counted).sum())
    told = json.loads((run / "trained.json").read_text())["average"]
    assert told["chips"] == len(val)
    assert told["iou"] == pytest.approx(tp / (tp + wrong), abs=1e-12)


def test_a_run_that_was_cut_ends_alike(run: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    (out / "trained.json").unlink()
    for name in ("best", "average"):
        shutil.rmtree(out / name)
    last = max((out / "checkpoints").iterdir())
    last.unlink()
    assert len(list((out / "checkpoints").iterdir())) == 1
    train(data, out)
    assert curve(out) == curve(run)
    for name in ("best", "average"):
        mine, theirs = (load_file(folder / name / "weights.safetensors") for folder in (out, run))
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
