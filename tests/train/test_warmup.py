"""How the rates of all parameters rise and fall over a run."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from xglof.errors import TrainError
from xglof.train.optim import optimiser, warmup_cosine


class Deep(nn.Module):
    """Two blocks and a head, which learn at three rates."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        self.head = nn.Linear(2, 1)


def course(rates: tuple[float, ...], steps: int, taken: int | None = None, **settings: float) -> np.ndarray:
    """Rates of the groups at each step, (steps, groups)."""
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    adam = torch.optim.SGD(groups, lr=1.0)
    schedule = warmup_cosine(adam, steps=steps, **settings)
    rows = []
    for _ in range(taken or steps):
        rows.append(schedule.get_last_lr())
        adam.step()
        schedule.step()
    return np.array(rows)


@settings(deadline=None, max_examples=40)
@given(
    steps=st.integers(1, 40),
    warm=st.floats(0, 0.99),
    floor=st.floats(0, 1),
    floor_from=st.floats(0.3, 1),
)
def test_rates_rise_linearly_and_fall_as_a_cosine(
    steps: int, warm: float, floor: float, floor_from: float
) -> None:
    warmup = int(warm * floor_from * steps)
    end = floor_from * steps
    found = course((2.0, 0.5), steps, steps + 3, warmup=warmup, floor=floor, floor_from=floor_from)
    for step, row in enumerate(found):
        if step < warmup:
            expected = step / warmup
        elif step < end:
            angle = math.pi * (step - warmup) / (end - warmup)
            expected = floor + (1 - floor) / 2 * (1 + math.cos(angle))
        else:
            expected = floor
        assert row == pytest.approx([2.0 * expected, 0.5 * expected], abs=1e-12)


def test_the_course_is_that_of_the_published_recipe() -> None:
    # its own terms: warm-up from 0, then half a cosine to 0
    found = course((6e-5,), 100, warmup=5)[:, 0]
    assert found[:6].tolist() == pytest.approx([0, 1.2e-5, 2.4e-5, 3.6e-5, 4.8e-5, 6e-5])
    assert found[5:].tolist() == pytest.approx(
        [6e-5 * 0.5 * (1 + math.cos(math.pi * i / 95)) for i in range(95)]
    )


def test_a_resumed_schedule_goes_on_with_the_same_bits() -> None:
    def made() -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        torch.manual_seed(0)
        adam = optimiser(Deep(), lr=3e-4, layer_decay=0.7, blocks="blocks")
        return adam, warmup_cosine(adam, steps=20, warmup=4, floor=0.1)

    def taken(adam, schedule, steps: int) -> list[list[float]]:
        rows = []
        for _ in range(steps):
            rows.append([group["lr"] for group in adam.param_groups])
            adam.step()
            schedule.step()
        return rows

    whole = taken(*made(), 20)
    first = made()
    begun = taken(*first, 9)
    second = made()
    for part, saved in zip(second, first, strict=True):
        part.load_state_dict(saved.state_dict())
    assert begun + taken(*second, 11) == whole


@pytest.mark.parametrize(
    "settings",
    [
        {"warmup": 10},
        {"warmup": -1},
        {"warmup": 5, "floor_from": 0.5},
        {"warmup": 0, "floor": 1.5},
        {"warmup": 0, "floor_from": 0.0},
        {"warmup": 0, "floor": math.nan},
    ],
)
def test_courses_that_make_no_sense_are_refused(settings: dict) -> None:
    with pytest.raises(TrainError):
        course((1.0,), 10, **settings)
