"""Chips turned and scaled: everything that belongs to them goes along, and labels stay crisp."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from chip_samples import OFF, changed, planes, sample
from xglof.errors import TrainError
from xglof.train.augment import Augmentation
from xglof.train.batch import Sample


def turns(chip: torch.Tensor) -> list[torch.Tensor]:
    """The eight turns and flips of a square, the rotations first."""
    rotations = [torch.rot90(chip, k, (-2, -1)) for k in range(4)]
    return rotations + [turned.flip(-1) for turned in rotations]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (Augmentation(flip=0.5), {0, 2, 4, 6}),
        (Augmentation(flip=0.5, rot90=True), set(range(8))),
        (Augmentation(flip=0, rot90=True), {0, 1, 2, 3}),
        (Augmentation(flip=1), {2}),
        (OFF, {0}),
    ],
)
def test_all_planes_of_a_chip_turn_alike_and_every_turn_occurs(how: Augmentation, expected: set[int]) -> None:
    before = sample(chips=128, side=3)
    after = changed(before, how)
    found = []
    for chip in range(128):
        fits = [
            {
                number
                for number, turned in enumerate(turns(plane[chip]))
                if torch.equal(turned, planes(after)[name][chip])
            }
            for name, plane in planes(before).items()
        ]
        (number,) = set.intersection(*fits)
        found.append(number)
    assert set(found) == expected
    assert min(np.bincount(found)[sorted(expected)]) > 128 / len(expected) / 3  # each about as likely


def test_oblong_chips_are_flipped_but_not_turned() -> None:
    square = sample(chips=2)
    oblong = Sample(
        {name: values[..., :5] for name, values in square.inputs.items()},
        square.label[..., :5],
        square.rows,
        {name: mask[..., :5] for name, mask in square.seen.items()},
    )
    assert changed(oblong, Augmentation()).label.shape == (2, 8, 5)
    with pytest.raises(TrainError, match="8 x 5 px can't be turned"):
        changed(oblong, Augmentation(rot90=True))


def ramps(chips: int, side: int, seed: int = 3) -> Sample:
    """Chips whose radar says which row and column a pixel came from."""
    given = sample(chips, side, seed)
    row, col = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    radar = torch.stack([row, col]).float().expand(chips, 2, side, side).clone()
    seen = given.seen | {"S1RTC": torch.ones(chips, side, side, dtype=torch.bool)}
    return Sample(given.inputs | {"S1RTC": radar}, given.label, given.rows, seen)


def source_places(line: torch.Tensor) -> np.ndarray:
    """Where the pixels of an axis came from, from the ramp seen along it, away from reflections."""
    values = line.double().numpy()
    rising = np.flatnonzero((np.diff(values) > 0.5) & (values[:-1] > 0.5) & (values[1:] < len(values) - 1.5))
    slope, start = np.polyfit(rising, values[rising], 1)
    return start + slope * np.arange(len(values))


def reflected(place: int, size: int) -> int:
    return int(size - 1 - abs(place % (2 * (size - 1)) - (size - 1)))


def naive_value(values: np.ndarray, seen: np.ndarray, y: float, x: float) -> np.ndarray:
    """Bilinear mean of the pixels around a place that have data; the nearest pixel where that has none."""
    height, width = seen.shape
    near = reflected(int(np.floor(y + 0.5)), height), reflected(int(np.floor(x + 0.5)), width)
    if not seen[near]:
        return np.asarray(values[:, *near])
    total, weights = np.zeros(len(values)), 0.0
    for row in (int(np.floor(y)), int(np.floor(y)) + 1):
        for col in (int(np.floor(x)), int(np.floor(x)) + 1):
            pixel = reflected(row, height), reflected(col, width)
            weight = (1 - abs(y - row)) * (1 - abs(x - col)) * seen[pixel]
            total, weights = total + weight * values[:, *pixel], weights + weight
    return total / weights


@pytest.mark.parametrize("scale", [(0.8, 0.8), (1.2, 1.2), (0.5, 0.5), (0.7, 1.6)])
def test_scaled_chips_equal_a_naive_resampling(scale: tuple[float, float]) -> None:
    side = 14
    before = ramps(3, side)
    after = changed(before, replace(OFF, scale=scale, scale_chance=1))
    for chip in range(3):
        rows = source_places(after.inputs["S1RTC"][chip, 0, :, side // 2])
        cols = source_places(after.inputs["S1RTC"][chip, 1, side // 2])
        step = rows[1] - rows[0]
        assert 1 / scale[1] - 1e-5 <= step <= 1 / scale[0] + 1e-5
        assert cols[1] - cols[0] == pytest.approx(step, abs=1e-5)  # both axes alike
        for name, values in before.inputs.items():
            seen = before.seen[name][chip].numpy()
            for i, y in enumerate(rows):
                for j, x in enumerate(cols):
                    expected = naive_value(values[chip].double().numpy(), seen, y, x)
                    np.testing.assert_allclose(after.inputs[name][chip, :, i, j], expected, atol=2e-4)
        nearest = [np.floor(places + 0.5).astype(int) for places in (rows, cols)]
        inside = [(places >= 0) & (places < side) for places in nearest]
        folded = np.ix_(*[[reflected(place, side) for place in places] for places in nearest])
        crisp = np.where(np.outer(*inside), before.label[chip].numpy()[folded], 255)
        np.testing.assert_array_equal(after.label[chip], crisp)
        for name, mask in before.seen.items():
            np.testing.assert_array_equal(after.seen[name][chip], mask[chip].numpy()[folded])


def test_scaled_chips_are_some_and_the_others_stay_to_the_bit() -> None:
    before = sample(chips=40)
    after = changed(before, replace(OFF, scale=(0.8, 0.9), scale_chance=0.4))
    stayed = [
        all(torch.equal(planes(after)[name][chip], plane[chip]) for name, plane in planes(before).items())
        for chip in range(40)
    ]
    assert 12 < sum(stayed) < 36
    ignored = (after.label == 255).sum(dim=(1, 2)) > (before.label == 255).sum(dim=(1, 2))
    assert all(
        kept != more for kept, more in zip(stayed, ignored.tolist(), strict=True)
    )  # padding counts not
