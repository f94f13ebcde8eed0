"""Every loss equals a naive loop over pixels in double precision, and ignored pixels are nothing to it."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from collections.abc import Callable
from dataclasses import asdict
from math import exp, hypot, log
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from xglof.errors import TrainError
from xglof.train.boundary import signed_distance
from xglof.train.losses import CRYOSENTINEL, PARTS, Loss, LossSettings, compose
from xglof.train.pixels import Pixels

Logits = npt.NDArray[np.float64]
Labels = npt.NDArray[np.uint8]
Naive = Callable[[Logits, Labels, LossSettings], float]


def counted(logits: Logits, label: Labels) -> list[tuple[float, int]]:
    """Logit and truth of the pixels that count, of any number of chips."""
    return [(float(x), int(y)) for x, y in zip(logits.ravel(), label.ravel(), strict=True) if y != 255]


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x)) if x >= 0 else exp(x) / (1 + exp(x))


def log_sigmoid(x: float) -> float:
    return -log(1 + exp(-x)) if x >= 0 else x - log(1 + exp(x))


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def naive_bce(logits: Logits, label: Labels, s: LossSettings) -> float:
    pixels = counted(logits, label)
    lakes = sum(y for _, y in pixels)
    weight = s.pos_weight or min(max((len(pixels) - lakes) / max(lakes, 1), 1), s.pos_weight_max)
    losses = [-(weight * y * log_sigmoid(x) + (1 - y) * log_sigmoid(-x)) for x, y in pixels]
    number = min(max(s.hardest_least, int(s.hardest * len(pixels))), len(pixels))
    return mean(sorted(losses, reverse=True)[:number])


def naive_focal(logits: Logits, label: Labels, s: LossSettings) -> float:
    losses = []
    for x, y in counted(logits, label):
        p, alpha = (sigmoid(x), s.focal_alpha) if y else (sigmoid(-x), 1 - s.focal_alpha)
        losses.append(-alpha * (1 - p) ** s.focal_gamma * log_sigmoid(x if y else -x))
    return mean(losses)


def naive_dice(logits: Logits, label: Labels, s: LossSettings) -> float:
    pixels = [(sigmoid(x), y) for x, y in counted(logits, label)]
    both = sum(p * y for p, y in pixels)
    return 1 - (2 * both + s.smooth) / (sum(p for p, _ in pixels) + sum(y for _, y in pixels) + s.smooth)


def naive_tversky(logits: Logits, label: Labels, s: LossSettings) -> float:
    pixels = [(sigmoid(x), y) for x, y in counted(logits, label)]
    right = sum(p for p, y in pixels if y)
    alarms, misses = sum(p for p, y in pixels if not y), sum(1 - p for p, y in pixels if y)
    return 1 - (right + s.smooth) / (right + s.tversky_alpha * alarms + s.tversky_beta * misses + s.smooth)


def jaccard_loss(wrong: set[int], truth: list[int]) -> float:
    """1 - IoU of a map that is the truth but for some pixels, by sets."""
    mapped = {i for i, y in enumerate(truth) if (i in wrong) != bool(y)}
    lake = {i for i, y in enumerate(truth) if y}
    return 1 - len(mapped & lake) / len(mapped | lake) if mapped | lake else 0.0


def naive_lovasz(logits: Logits, label: Labels, s: LossSettings) -> float:
    chips = []
    for x, y in zip(logits, label, strict=True):
        pixels = counted(x, y)
        truth = [lake for _, lake in pixels]
        errors = [1 - (2 * lake - 1) * logit for logit, lake in pixels]
        order = sorted(range(len(errors)), key=lambda i: -errors[i])
        total = 0.0
        for rank, pixel in enumerate(order):
            rise = jaccard_loss(set(order[: rank + 1]), truth) - jaccard_loss(set(order[:rank]), truth)
            total += max(errors[pixel], 0) * rise
        if pixels:
            chips.append(total)
    return mean(chips)


def naive_distance(label: Labels) -> npt.NDArray[np.float64]:
    """Signed distance of one chip by looking at every pair of pixels."""
    out = np.zeros(label.shape)
    places = {value: np.argwhere(label == value).tolist() for value in (0, 1)}
    if places[0] and places[1]:
        for value, sign in ((0, 1), (1, -1)):
            for y, x in places[value]:
                out[y, x] = sign * min(hypot(y - row, x - col) for row, col in places[1 - value])
    return out


def naive_boundary(logits: Logits, label: Labels, s: LossSettings) -> float:
    distance = np.stack([naive_distance(chip) for chip in label])
    pairs = zip(logits.ravel(), distance.ravel(), label.ravel(), strict=True)
    return mean([sigmoid(x) * phi for x, phi, y in pairs if y != 255])


NAIVE: dict[str, Naive] = {
    "bce": naive_bce,
    "focal": naive_focal,
    "dice": naive_dice,
    "tversky": naive_tversky,
    "lovasz": naive_lovasz,
    "boundary": naive_boundary,
}


def batch(
    seed: int, shape: tuple[int, ...], ignored: float = 0.2, lake: float = 0.3
) -> tuple[Logits, Labels]:
    """Logits that float32 holds, and labels."""
    rng = np.random.default_rng(seed)
    shares = [(1 - ignored) * (1 - lake), (1 - ignored) * lake, ignored]
    label = rng.choice(np.array([0, 1, 255], np.uint8), shape, p=shares)
    return rng.normal(scale=4, size=shape).astype(np.float32).astype(np.float64), label


def value(name: str, logits: Logits | Tensor, label: Labels, **how: float) -> Tensor:
    x = torch.as_tensor(logits)
    x = x.float() if x.dtype == torch.float64 else x
    total, parts = compose({name: 1}, **how)(x[:, None], torch.from_numpy(label))
    assert torch.equal(total, parts[name])
    return total


@pytest.mark.parametrize("name", PARTS)
@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)),
    ignored=st.sampled_from([0.0, 0.2, 0.9, 1.0]),
    lake=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    how=st.sampled_from(
        [
            {"hardest_least": 3},
            {"hardest": 0.3, "hardest_least": 1, "pos_weight": 2.5, "focal_gamma": 0.5, "focal_alpha": 0.6},
            {
                "hardest": 1.0,
                "pos_weight_max": 1.5,
                "tversky_alpha": 0.25,
                "tversky_beta": 0.75,
                "smooth": 0.1,
            },
        ]
    ),
)
def test_losses_equal_naive_loops(
    name: str,
    seed: int,
    shape: tuple[int, int, int],
    ignored: float,
    lake: float,
    how: dict[str, float],
) -> None:
    logits, label = batch(seed, shape, ignored, lake)
    expected = NAIVE[name](logits, label, LossSettings(**how))  # type: ignore[arg-type]
    assert float(value(name, logits, label, **how)) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", PARTS)
def test_gradients_equal_differences_of_the_naive_loops(name: str) -> None:
    logits, label = batch(3, (2, 4, 5))
    x = torch.from_numpy(logits).float().requires_grad_()
    value(name, x, label, hardest_least=3).backward()
    assert x.grad is not None
    step, how = 1e-5, LossSettings(hardest_least=3)
    for place in np.ndindex(logits.shape):
        moved = [logits.copy(), logits.copy()]
        moved[0][place] += step
        moved[1][place] -= step
        high, low = (NAIVE[name](many, label, how) for many in moved)
        assert float(x.grad[place]) == pytest.approx((high - low) / (2 * step), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", PARTS)
def test_what_is_ignored_changes_no_bit_and_has_no_gradient(name: str) -> None:
    logits, label = batch(5, (3, 6, 6), ignored=0.4)
    results = []
    for wild in (0.0, 1e4, float("nan"), float("inf"), -float("inf")):
        x = torch.from_numpy(np.where(label == 255, wild, logits)).float().requires_grad_()
        loss = value(name, x, label, hardest_least=3)
        loss.backward()
        assert x.grad is not None
        assert (x.grad[torch.from_numpy(label == 255)] == 0).all()
        assert x.grad.abs().sum() > 0
        results.append((loss.item(), x.grad.tolist()))
    assert all(result == results[0] for result in results)


def test_a_batch_without_a_label_costs_nothing_and_teaches_nothing() -> None:
    x = torch.randn(2, 1, 4, 4, requires_grad=True)
    total, parts = compose(CRYOSENTINEL)(x, torch.full((2, 4, 4), 255, dtype=torch.uint8))
    total.backward()
    assert total == 0
    assert all(part == 0 for part in parts.values())
    assert x.grad is not None
    assert (x.grad == 0).all()


@pytest.mark.parametrize("name", ["bce", "focal", "dice", "tversky", "lovasz"])
def test_lake_on_a_batch_without_lake_costs_something(name: str) -> None:
    x = torch.full((2, 4, 4), 2.0, requires_grad=True)
    value(name, x, np.zeros((2, 4, 4), np.uint8)).backward()
    assert x.grad is not None
    assert x.grad.sum() > 0
    assert (x.grad >= 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    logits = torch.randn(2, 1, 40, 40, generator=torch.Generator().manual_seed(0)).mul(4).to(dtype)
    label = torch.from_numpy(batch(1, (2, 40, 40))[1])
    loss = compose(CRYOSENTINEL)
    x = logits.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, _ = loss(x, label)
    total.backward()
    assert total.dtype == torch.float32
    assert x.grad is not None
    assert x.grad.dtype == dtype
    assert torch.equal(total, loss(logits.float(), label)[0])


@pytest.mark.parametrize(("lakes", "weight"), [(1, 100.0), (20, 19.0), (300, 1.0)])
def test_the_weight_of_lakes_is_clamped(lakes: int, weight: float) -> None:
    label = np.zeros((1, 20, 20), np.uint8)
    label.ravel()[:lakes] = 1
    expected = (weight * lakes + 400 - lakes) * log(2) / 400
    assert float(value("bce", np.zeros(label.shape), label, hardest=1.0)) == pytest.approx(expected, rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0, 1))
def test_the_lovasz_hinge_is_the_jaccard_loss_where_errors_are_0_or_1(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    _, label = batch(seed, (1, 4, 5))
    wrong = rng.random(label.shape) < share
    logits = np.where(wrong, 0.0, np.where(label == 1, 1.0, -1.0))
    valid = label != 255
    expected = jaccard_loss(set(np.flatnonzero(wrong[valid]).tolist()), label[valid].tolist())
    assert float(value("lovasz", logits, label)) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    side=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    ignored=st.sampled_from([0.0, 0.1, 0.6]),
    lake=st.sampled_from([0.03, 0.3, 0.95]),
)
def test_distances_go_to_the_nearest_known_pixel(
    seed: int, side: tuple[int, int], ignored: float, lake: float
) -> None:
    _, label = batch(seed, (2, *side), ignored, lake)
    expected = np.stack([naive_distance(chip) for chip in label])
    found = signed_distance(torch.from_numpy(label))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def their_losses() -> Any:
    """The losses of segmentation-models-pytorch by themselves: the package imports a zoo of encoders."""
    package = importlib.util.find_spec("segmentation_models_pytorch")
    assert package is not None
    assert package.origin is not None
    file = Path(package.origin).parent / "losses" / "__init__.py"
    spec = importlib.util.spec_from_file_location(
        "their_losses", file, submodule_search_locations=[str(file.parent)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["their_losses"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_losses_equal_those_of_segmentation_models_pytorch_where_it_is_right() -> None:
    smp = their_losses()
    logits, label = batch(9, (3, 9, 9))
    x, y = torch.from_numpy(logits).float(), torch.from_numpy(label)
    theirs = {
        "focal": smp.FocalLoss("binary", alpha=0.25, gamma=2.0, ignore_index=255),
        "dice": smp.DiceLoss("binary", smooth=0.5, ignore_index=255),  # its smooth counts twice
        "tversky": smp.TverskyLoss("binary", smooth=1.0, ignore_index=255, alpha=0.3, beta=0.7),
        "lovasz": smp.LovaszLoss("binary", per_image=True, ignore_index=255),
    }
    for name, loss in theirs.items():
        assert float(value(name, x, label)) == pytest.approx(float(loss(x[:, None], y)), rel=1e-5)


def test_parts_add_up_by_their_weights_and_carry_no_gradient() -> None:
    logits, label = batch(4, (2, 8, 8))
    x = torch.from_numpy(logits).float()[:, None].requires_grad_()
    total, parts = compose(CRYOSENTINEL, hardest_least=8)(x, torch.from_numpy(label))
    assert parts.keys() == CRYOSENTINEL.keys() == PARTS.keys()
    assert total.item() == pytest.approx(sum(CRYOSENTINEL[name] * float(parts[name]) for name in parts))
    assert not any(part.requires_grad for part in parts.values())
    some, only = compose({"dice": 2, "bce": 0})(x, torch.from_numpy(label))
    assert list(only) == ["dice"]
    assert some.item() == pytest.approx(2 * float(parts["dice"]))


def test_a_loss_survives_a_pickle() -> None:
    loss = compose({"dice": 1.0}, smooth=2.0)
    assert pickle.loads(pickle.dumps(loss)) == loss  # noqa: S301
    assert loss == Loss({"dice": 1.0}, LossSettings(**{**asdict(LossSettings()), "smooth": 2.0}))


@pytest.mark.parametrize(
    ("weights", "how", "said"),
    [
        ({"dise": 1}, {}, "no loss 'dise'; did you mean 'dice'"),
        ({"dice": -1}, {}, "the weight of 'dice' is -1"),
        ({"dice": 0}, {}, "no part of the loss has a weight above 0"),
        ({"dice": 1}, {"smoth": 1}, "no setting 'smoth'; did you mean 'smooth'"),
        ({"dice": 1}, {"smooth": 0.0}, "smooth of the loss is 0.0"),
        ({"bce": 1}, {"hardest": 0.0}, "hardest of the loss is 0.0"),
        ({"bce": 1}, {"pos_weight": float("nan")}, "pos_weight of the loss is nan"),
    ],
)
def test_losses_that_can_not_be_are_refused(
    weights: dict[str, float], how: dict[str, float], said: str
) -> None:
    with pytest.raises(TrainError, match=said):
        compose(weights, **how)


@pytest.mark.parametrize(
    ("logits", "label", "said"),
    [
        (torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8), "do not fit"),
        (torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 5, dtype=torch.uint8), "do not fit"),
        (torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4), "the label is torch.float32; give uint8"),
        (torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1), 2, dtype=torch.uint8), r"the values \[2\]"),
    ],
)
def test_what_is_no_lake_label_is_refused(logits: Tensor, label: Tensor, said: str) -> None:
    with pytest.raises(TrainError, match=said):
        Pixels.of(logits, label)
