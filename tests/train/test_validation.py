"""Scores of a network over chips, and those that can not be told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import learners
from published_shards import Chips, toy_chips
from xglof.errors import TrainError
from xglof.train.batch import prepare
from xglof.train.folds import open_folds
from xglof.train.losses import compose
from xglof.train.start import spec_of
from xglof.train.training import make_fabric
from xglof.train.validation import validate


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learners.valleys(tmp_path_factory.mktemp("valleys"))


def test_an_answer_that_is_not_finite_is_no_score(data: Path) -> None:
    config = learners.config(data, data / "unused")
    val = open_folds(config, spec_of(config)).val

    class Hopeless(torch.nn.Module):
        def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
            logits = inputs["S1RTC"][:, :1].clone()
            return torch.where(logits[:, :, :1, :1] > 0, torch.nan, logits)

    fabric = make_fabric(config, val.spec)
    fabric.launch()
    with pytest.raises(TrainError, match=r"answer to \d+ chips is not finite: .*; look at these") as caught:
        validate(Hopeless(), val, loss=compose({"bce": 1.0}), batch_size=4, fabric=fabric)
    firsts = [
        float(prepare(val.spec, val.read([row])).inputs["S1RTC"][0, 0, 0, 0]) for row in range(len(val))
    ]
    bad = val.index["chip_id"][np.array(firsts) > 0].tolist()
    told = str(caught.value)
    assert 0 < len(bad) < len(val)
    assert f"answer to {len(bad)} chips" in told
    named = told.partition("finite: ")[2].partition(";")[0].partition(" and ")[0].split(", ")
    assert set(named) <= set(bad)
    assert len(named) == min(len(bad), 8)


class Land(torch.nn.Module):
    """No lake anywhere."""

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.full_like(inputs["S2L2A"][:, :1], -5.0)


def scores(chips: Chips) -> float:
    fabric = make_fabric(learners.config(Path("/data"), Path("/run")), chips.spec)
    fabric.launch()
    return validate(Land(), chips, loss=compose({"bce": 1.0}), batch_size=2, fabric=fabric).iou


def test_no_lake_at_all_is_no_score() -> None:
    """It would be no number where no lake is mapped, and 0 where one is: better were worse."""
    chips = toy_chips()
    chips.planes["flags"][:] = 0
    assert scores(chips) == 0
    chips.label[chips.label == 1] = 0
    with pytest.raises(
        TrainError, match=r"none of the 5 chips of validation has a pixel of lake that is lab"
    ):
        scores(chips)
