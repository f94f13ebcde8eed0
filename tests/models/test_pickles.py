"""Pickles that hold more than numbers: what is beside the weights is not read, and no code is run."""

from __future__ import annotations

import argparse
import collections
import datetime
import enum
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import TOY, assert_equal, lightning, saved, taken, toy
from torch import nn

from xglof import ModelError
from xglof.models.checkpoint import fit_checkpoint, read_checkpoint
from xglof.models.convert import convert_checkpoint


class Mood(enum.Enum):
    CALM = 1


class OwnList(list[int]):
    pass


class Payload:
    """Runs a command when its pickle is read."""

    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call, self.arguments


HARMLESS = {
    "pathlib.PosixPath": Path("stats.json"),
    "argparse.Namespace": argparse.Namespace(lr=1e-4, inner=[1]),
    "numpy.dtype": np.float64(0.95),
    "numpy.ndarray": np.arange(4.0),
    "collections.defaultdict": collections.defaultdict(list, {"a": [1]}),
    "datetime.datetime": datetime.datetime(2026, 1, 1),
    "test_pickles.Mood": Mood.CALM,
    "torch.nn.modules.linear.Linear": nn.Linear(2, 2),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_objects_beside_the_weights_are_not_read(name: str, tmp_path: Path) -> None:
    content = lightning(toy(1), hyper_parameters={"kept": HARMLESS[name], "also": 1})
    path = saved(content, tmp_path)
    before = set(torch.serialization.get_safe_globals())
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    converted = convert_checkpoint(path, tmp_path / "model", model=TOY)
    assert name in converted.source["stand_ins"]
    assert_equal(taken(path, spec=TOY), toy(1))
    assert set(torch.serialization.get_safe_globals()) == before  # torch is left as it was


class AttributeDict(dict[str, object]):
    """As Lightning's, which keeps hyper-parameters in one."""


def test_all_of_them_at_once(tmp_path: Path) -> None:
    content = lightning(toy(1), hyper_parameters=AttributeDict(HARMLESS))
    checkpoint = read_checkpoint(saved(content, tmp_path))
    assert set(HARMLESS) <= set(checkpoint.stand_ins)
    assert_equal(fit_checkpoint(TOY, checkpoint).state, toy(1))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_a_command_is_refused_and_named(zipped: bool, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    content = lightning(toy(1), hyper_parameters=Payload(os.system, f"touch {marker}"))
    path = saved(content, tmp_path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match=r"posix\.system.*convert --trust") as raised:
        convert_checkpoint(path, tmp_path / "model", model=TOY)
    assert "without running what it holds" in str(raised.value)
    assert not marker.exists()
    assert not (tmp_path / "model").exists()
    converted = convert_checkpoint(path, tmp_path / "model", model=TOY, trust=True)
    assert marker.exists()  # so it would have run
    assert converted.source["trusted"]


@pytest.mark.parametrize("call", [eval, exec])
def test_code_in_a_pickle_is_replaced_and_never_run(call: Callable[..., object], tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    payload = Payload(call, f"__import__('pathlib').Path({str(marker)!r}).touch()")
    path = saved(lightning(toy(1), hyper_parameters={"a": [payload]}), tmp_path)
    assert_equal(taken(path, spec=TOY), toy(1))
    assert not marker.exists()
    read_checkpoint(path, trust=True)
    assert marker.exists()


def test_a_network_as_an_object_is_refused_and_named(tmp_path: Path) -> None:
    path = saved(nn.Sequential(nn.Linear(2, 2)), tmp_path)
    with pytest.raises(ModelError, match=r"container\.Sequential"):
        read_checkpoint(path)


def test_what_a_stand_in_can_not_stand_for_is_refused_and_named(tmp_path: Path) -> None:
    filled = Payload(getattr, collections.UserList([1]), "data")  # a function of a function's result
    assert_equal(taken(saved(lightning(toy(1), callbacks={"a": filled}), tmp_path), spec=TOY), toy(1))
    path = saved(lightning(toy(1), callbacks={"a": OwnList([1, 2])}), tmp_path)
    with pytest.raises(ModelError, match=r"test_pickles\.OwnList"):
        read_checkpoint(path)


def test_other_protocols_of_pickles_are_read_or_refused(tmp_path: Path) -> None:
    path = saved(lightning(toy(1)), tmp_path, pickle_protocol=3)
    assert_equal(taken(path, spec=TOY), toy(1))  # in silence: warnings are errors here
    with pytest.raises(ModelError, match=r"a protocol that torch only reads in full.*--trust"):
        read_checkpoint(saved(lightning(toy(1)), tmp_path, pickle_protocol=4))
