"""Chips as a network takes them, of noise, and what is asked of them after augmentation."""

from __future__ import annotations

import numpy as np
import torch

from toys import spec as toy_spec
from xglof.models.spec import ModelSpec
from xglof.train.augment import Augmentation, augment
from xglof.train.batch import Sample

ALL = ("S2L2A", "S1RTC", "DEM")
SPEC = toy_spec("context", ALL, optional=ALL)
BANDS = {"S2L2A": 12, "S1RTC": 2, "DEM": 1}
OFF = Augmentation(flip=0)


def sample(chips: int = 4, side: int = 8, seed: int = 0, *, modalities: tuple[str, ...] = ALL) -> Sample:
    """Chips of noise with holes; the label is worth nothing where no sensor sees."""
    rng = np.random.default_rng(seed)
    shape = (chips, side, side)
    seen = {name: torch.from_numpy(rng.random(shape) < 0.8) for name in modalities}
    observed = torch.stack([mask for name, mask in seen.items() if name != "DEM"]).any(dim=0)
    label = torch.from_numpy(rng.choice(np.array([0, 1, 255], np.uint8), shape, p=[0.6, 0.3, 0.1]))
    inputs = {
        name: torch.from_numpy(rng.normal(size=(chips, BANDS[name], side, side)).astype(np.float32))
        for name in modalities
    }
    return Sample(inputs, torch.where(observed, label, 255).to(torch.uint8), torch.arange(chips), seen)


def changed(given: Sample, how: Augmentation, seed: int = 0, spec: ModelSpec = SPEC) -> Sample:
    return augment(given, how, torch.Generator().manual_seed(seed), spec)


def planes(of: Sample) -> dict[str, torch.Tensor]:
    """Every plane of a sample, channels last but for the chip: (B, n, H, W)."""
    parts = {f"input {name}": values for name, values in of.inputs.items()}
    parts |= {f"seen {name}": mask[:, None] for name, mask in of.seen.items()}
    return parts | {"label": of.label[:, None]}


def same(one: Sample, other: Sample) -> bool:
    first, second = planes(one), planes(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
