"""Checkpoints in the forms that trainers leave them in, of a toy and of the smallest TerraMind."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import toys
from xglof.models.checkpoint import Which, fit_checkpoint, read_checkpoint
from xglof.models.registry import CRYOSENTINEL

#: CryoSentinel's form on the smallest encoder.
TINY = replace(
    CRYOSENTINEL,
    name="cryosentinel-tiny",
    weights=None,
    kwargs=(("size", "tiny"), ("modalities", ("S2L2A", "S1GRD", "DEM")), ("decoder_channels", 8)),
)
TOY = toys.spec("context")


@functools.cache
def numbers(seed: int, tiny: bool = True) -> dict[str, Tensor]:
    """Tensors of the network, of one seed."""
    torch.manual_seed(seed)
    state = (TINY if tiny else TOY).build().state_dict()
    return {
        name: tensor + (0.01 if tensor.is_floating_point() else 1) * seed for name, tensor in state.items()
    }


def toy(seed: int = 1) -> dict[str, Tensor]:
    return numbers(seed, tiny=False)


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


@functools.cache
def learned() -> frozenset[str]:
    """What an average of parameters holds: no statistics of batches, no fixed positions or biases."""
    return frozenset(name for name, _ in TINY.build().named_parameters())


def lightning(state: dict[str, Tensor], **more: object) -> dict[str, object]:
    """A checkpoint of Lightning around a state."""
    return {
        "epoch": 29,
        "global_step": 1605,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": state,
        "loops": {},
        "callbacks": {},
        "optimizer_states": [],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"backbone": "terramind_v1_large", "lr": 6e-5},
    } | more


def saved(content: object, folder: Path, **options: Any) -> Path:
    path = folder / "soup.ckpt"
    torch.save(content, path, **options)
    return path


def taken(path: Path, which: Which = "auto", spec: Any = TINY) -> dict[str, Tensor]:
    return fit_checkpoint(spec, read_checkpoint(path), which).state


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
