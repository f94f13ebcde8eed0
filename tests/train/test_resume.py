"""A training that is killed at any moment ends with the same bits as one that is not."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file

import learners
import xglof
from xglof.errors import TrainError
from xglof.train.config import read_config
from xglof.train.curve import Curve
from xglof.train.learner import Learner
from xglof.train.loader import ChipLoader
from xglof.train.run import Run
from xglof.train.run_folder import RunFolder, by_the_first
from xglof.train.training import fit

#: All that has a state: dropout and augmentation, two averages and a soup, steps of two batches; an epoch
#: ends within a step.
EVERYTHING: dict[str, Any] = {
    "chips": {"epoch_chips": 20},
    "augment": {
        "rot90": True,
        "jitter": {"S1RTC": 0.1},
        "noise": {"DEM": {"offset": 0.1}},
        "drop": {"DEM": 0.3},
    },
    "average": {"ema": 0.8, "swa_start": 0.5, "soup": 2, "recalibrate": 3, "settle": 0.6},
    "fit": {
        "steps": 8,
        "batch_size": 4,
        "threads": 1,
        "accumulate": 2,
        "validate_every": 4,
        "checkpoint_every": 3,
    },
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learners.valleys(tmp_path_factory.mktemp("valleys"))


@pytest.fixture(scope="module")
def unbroken(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "run"
    fit(learners.config(data, out, **EVERYTHING), quiet=True)
    return out


def same_ends(first: Path, second: Path) -> None:
    for file in ("metrics.csv", "trained.json"):  # the latter has the scores of all averages
        assert (first / file).read_bytes() == (second / file).read_bytes(), file
    for name in ("best", "average"):
        mine, theirs = (load_file(run / name / "weights.safetensors") for run in (first, second))
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_a_killed_run_ends_as_an_unbroken_one(
    data: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    config = learners.config(data, out, **EVERYTHING)
    (tmp_path / "config.toml").write_text(config.to_toml(), encoding="utf-8")
    script = "import sys; from xglof.train.training import fit; fit(sys.argv[1], quiet=True)"
    tests = str(Path(learners.__file__).parent)
    # two batches a step: in the second batch of step 8, after the checkpoint of step 6 and rows of step 7
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "config.toml")],
        env=os.environ | {learners.KILL_AT: "16", "PYTHONPATH": tests},
        timeout=600,
    )
    assert done.returncode == -9
    assert [step for step, _ in RunFolder(out).checkpoints()] == [4, 6]
    assert len((out / "metrics.csv").read_text().splitlines()) == 1 + 7
    assert not (out / "trained.json").exists()

    read, real = [], ChipLoader.batches

    def watched(self: ChipLoader, epoch: int, start: int = 0) -> Any:
        read.append((epoch, start))
        return real(self, epoch, start)

    monkeypatch.setattr(ChipLoader, "batches", watched)
    fit(tmp_path / "config.toml", quiet=True)
    assert read[:2] == [(2, 2), (3, 0)], "an epoch is 5 batches: 12 are done, and its end is crossed"
    same_ends(unbroken, out)


def test_a_full_disk_leaves_the_checkpoint_before_it(
    data: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    config = learners.config(data, out, **EVERYTHING)
    real, calls = torch.save, []

    def full(state: Any, file: Any) -> None:
        calls.append(state["step"])
        real(state, file)
        if state["step"] == 6:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(TrainError, match=r"step 6 could not be written.*disk is full.*step 4 is good"):
            fit(config, quiet=True)
    assert calls == [3, 4, 6]
    assert sorted(os.listdir(out / "checkpoints")) == ["step-00000003.ckpt", "step-00000004.ckpt"]

    fit(config, quiet=True)
    same_ends(unbroken, out)


def test_a_full_disk_while_a_model_is_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.torch

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(TrainError, match=r"model best could not be written.*disk is full.*step 4 is good"):
        fit(learners.config(data, tmp_path / "run"), quiet=True)


def test_a_finished_run_is_not_trained_again(
    data: Path, unbroken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xglof.train.folds.open_folds", None)  # nothing is opened
    again = fit(learners.config(data, unbroken, **EVERYTHING), quiet=True)
    assert again.best == unbroken / "best"
    assert again.average == unbroken / "average"
    assert again.metrics["steps"] == 8


def test_a_run_is_neither_overwritten_nor_mixed(data: Path, unbroken: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="holds a training already"):
        fit(learners.config(data, unbroken, **EVERYTHING), resume=False, quiet=True)
    with pytest.raises(TrainError, match=r"optimiser\.lr was 0\.01 and is 0\.02"):
        fit(learners.config(data, unbroken, **EVERYTHING, optimiser={"lr": 0.02}), quiet=True)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").write_text("Dear Sir")
    with pytest.raises(TrainError, match="is taken and is no folder of a training"):
        fit(learners.config(data, tmp_path / "letters"), quiet=True)


def test_other_chips_under_the_same_config(data: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(data, tmp_path / "valleys")
    config = learners.config(copy, tmp_path / "run", fit={"steps": 4, "checkpoint_every": 2})
    fit(config, quiet=True)
    (tmp_path / "run" / "trained.json").unlink()
    lakes = copy / "lakes" / "val-0.zarr"
    lake = xglof.read_zarr(lakes, chunks=None).load()
    lake["lake"][:8, :8] = 1 - lake["lake"][:8, :8]
    xglof.write_zarr(lake, lakes, overwrite=True)
    with pytest.raises(TrainError, match="learned from other chips"):
        fit(config, quiet=True)
    shutil.copytree(data / "lakes" / "val-0.zarr", lakes, dirs_exist_ok=True)
    cube = xglof.read_zarr(copy / "train-1.zarr", chunks=None).load()
    xglof.write_zarr(cube.assign(vh=cube["vh"] + 1), copy / "train-1.zarr", overwrite=True)
    with pytest.raises(TrainError, match="learned from other pixels of the same chips"):
        fit(config, quiet=True)
    xglof.write_zarr(cube, copy / "train-1.zarr", overwrite=True)
    assert fit(config, quiet=True).metrics["steps"] == 4
    (tmp_path / "run" / "trained.json").unlink()
    learners.valley(copy, "train-2", seed=9, left=800_000)
    with pytest.raises(TrainError, match="learned from other chips"):
        fit(config, quiet=True)


def test_settings_that_were_edited_in_the_folder_of_a_run(data: Path, tmp_path: Path) -> None:
    """Neither a file that another config came to, nor one that was changed by hand, is gone on with."""
    config = learners.config(data, tmp_path / "run", fit={"steps": 4, "checkpoint_every": 2})
    fit(config, quiet=True)
    (tmp_path / "run" / "trained.json").unlink()
    file = tmp_path / "run" / "config.toml"
    file.write_text(file.read_text().replace("lr = 0.01", "lr = 0.5"))
    with pytest.raises(TrainError, match=r"optimiser\.lr was 0\.01 and is 0\.5"):
        fit(file, quiet=True)
    with pytest.raises(TrainError, match=r"optimiser\.lr was 0\.5 and is 0\.01"):
        fit(config, quiet=True)
    file.unlink()
    with pytest.raises(TrainError, match="is taken and is no folder of a training"):
        fit(config, quiet=True)


def test_a_damaged_checkpoint_is_named(data: Path, tmp_path: Path) -> None:
    config = learners.config(data, tmp_path / "run", fit={"steps": 4, "checkpoint_every": 2})
    fit(config, quiet=True)
    (tmp_path / "run" / "trained.json").unlink()
    last = RunFolder(tmp_path / "run").checkpoints()[-1][1]
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(TrainError, match=r"step-00000004\.ckpt can't be read.*from the one before"):
        fit(config, quiet=True)
    last.unlink()
    assert fit(config, quiet=True).metrics["steps"] == 4


class Killed(BaseException):
    """Stands for a kill at a place that a signal can't be timed for."""


def killed(*args: Any, **kwargs: Any) -> None:
    raise Killed


def test_a_kill_between_the_checkpoint_and_the_best_model(
    data: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    config = learners.config(data, out, **EVERYTHING)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "write", killed)
        with pytest.raises(Killed):
            fit(config, quiet=True)
    folder = RunFolder(out)
    assert [step for step, _ in folder.checkpoints()] == [3, 4]
    assert not folder.best.exists()
    # what kills at later steps would have left
    stale = [out / "checkpoints" / "step-00000006.ckpt.part", folder.snapshot(8), folder.snapshot(7)]
    for file in stale:
        file.write_bytes(b"0")
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "take", killed)
        with pytest.raises(Killed):
            fit(config, quiet=True)
    assert json.loads((folder.best / "training.json").read_text())["validation"]["step"] == 4
    assert folder.snapshot(4).exists()
    assert not any(file.exists() for file in stale)
    fit(config, quiet=True)
    same_ends(unbroken, out)


def test_a_kill_between_a_snapshot_and_its_checkpoint(
    data: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The validation of step 8 comes again: its snapshot, its row and the choice of the best are the same."""
    out = tmp_path / "run"
    config, real = learners.config(data, out, **EVERYTHING), RunFolder.save_checkpoint

    def dying(self: RunFolder, step: int, *args: Any, **kwargs: Any) -> None:
        if step == 8:
            raise Killed
        real(self, step, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_checkpoint", dying)
        with pytest.raises(Killed):
            fit(config, quiet=True)
    folder = RunFolder(out)
    assert [step for step, _ in folder.checkpoints()] == [4, 6]
    assert folder.snapshot(8).exists()
    assert len((out / "metrics.csv").read_text().splitlines()) == 1 + 8
    fit(config, quiet=True)
    same_ends(unbroken, out)


def test_an_attempt_without_a_checkpoint_leaves_nothing_to_the_next(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with pytest.raises(TrainError, match="no encoder of blocks"):
        fit(learners.config(data, out, optimiser={"layer_decay": 0.5}), quiet=True)
    assert not out.exists()
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "take", killed)
        with pytest.raises(Killed):
            fit(learners.config(data, out), quiet=True)
    assert RunFolder(out).config.exists()
    for name in ("best", "snapshots", "checkpoints"):
        (out / name).mkdir(exist_ok=True)
        (out / name / "step-00000004.ckpt.part").write_text("")
    second = learners.config(data, out, optimiser={"lr": 0.003}, fit={"steps": 2, "validate_every": 2})
    trained = fit(second, quiet=True)
    assert read_config(out / "config.toml") == second
    assert not list(out.glob("*/*.part"))
    assert fit(second, quiet=True) == trained
    with pytest.raises(TrainError, match=r"optimiser\.lr was 0\.003 and is 0\.01"):
        fit(learners.config(data, out, fit={"steps": 2, "validate_every": 2}), quiet=True)


def test_a_full_disk_at_the_first_file_locks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(TrainError, match="there is no checkpoint yet"):
            folder.begin("a = 1")
    folder.check(resume=False)
    (folder.path / "config.toml.part").write_text("a")  # a kill would have left it
    folder.check(resume=False)
    folder.begin("a = 2")
    assert os.listdir(folder.path) == ["config.toml"]
    assert folder.config.read_text() == "a = 2"


def test_rows_that_a_full_disk_tore_are_no_steps(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for torn in ("4", "4,0.5", "4,0.5,0.", "12,0.5,1", ""):
        folder.metrics.write_text("step,loss,lr\n1,0.7,\n2,0.6,0.1\n14,0.5,0.1\n" + torn)
        Curve(folder, ["loss", "lr"], after=12).add(3, {"loss": 0.25})
        assert folder.metrics.read_text() == "step,loss,lr\n1,0.7,\n2,0.6,0.1\n3,0.25,\n", torn


@dataclass
class Second:
    """The second of two processes, as Fabric shows it: the first one says what happened there."""

    said: str
    is_global_zero: bool = False

    def broadcast(self, own: str) -> str:
        assert own == ""
        return self.said


def test_all_processes_fail_where_the_first_can_not_write() -> None:
    fabric: Any = Second("the disk is full")
    with pytest.raises(TrainError, match="the disk is full"):
        by_the_first(fabric, killed)
    by_the_first(cast(Any, Second("")), killed)
