"""What a training begins with: the spec of its model, and the network's first weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from xglof.errors import ModelError, TrainError
from xglof.models.registry import TERRAMIND_INPUTS, get_spec
from xglof.models.spec import ModelInput, ModelSpec
from xglof.models.weights import UNTRAINED
from xglof.train.config import TrainConfig
from xglof.train.module import START, derived_seed
from xglof.train.optim import plain_name
from xglof.train.settings import ModelConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from xglof.models.checkpoint import Checkpoint

_REPLACED = (
    "window", "multiple_of", "resolution", "min_share", "unobserved_when", "licence", "caveat", "summary",
)  # fmt: skip


def spec_of(config: TrainConfig) -> ModelSpec:
    """The spec of the model that is trained, without weights.

    Raises
    ------
    TrainError
        No such model or modality, a model of several classes, or weights that nothing is said about.
    """
    model = config.model
    if model.start not in ("", "random", "own") and not Path(model.start).exists():
        raise TrainError(
            f"[model] start: nothing is at {model.start}; give a model folder or a file of weights"
        )
    changes: dict[str, Any] = {
        name: getattr(model, name) for name in _REPLACED if getattr(model, name) is not None
    }
    if model.inputs:
        changes["inputs"] = tuple(_input(source) for source in model.inputs)
    try:
        if model.factory:
            spec = ModelSpec(name=config.name, factory=model.factory, kwargs=_pairs(model.kwargs), **changes)
        else:
            known = get_spec(model.name)
            _check_start(model, known)
            kwargs = _pairs(dict(known.kwargs) | dict(model.kwargs))
            spec = replace(known, name=config.name, weights=None, kwargs=kwargs, **changes)
    except ModelError as error:
        raise TrainError(f"[model]: {error}") from error
    if len(spec.classes) != 1 or spec.activation != "sigmoid":
        raise TrainError(
            f"model {spec.name!r} has the classes {', '.join(spec.classes)} and {spec.activation}; only "
            "networks of one class, 'lake', and a sigmoid can be trained"
        )
    return spec


def _pairs(kwargs: Any) -> tuple[tuple[str, Any], ...]:
    return tuple(kwargs.items())


def _input(source: str | ModelInput) -> ModelInput:
    if isinstance(source, ModelInput):
        return source
    if source not in TERRAMIND_INPUTS:
        raise TrainError(f"[model] inputs name {source!r}; known are {', '.join(TERRAMIND_INPUTS)}")
    return TERRAMIND_INPUTS[source]


def _check_start(model: ModelConfig, known: ModelSpec) -> None:
    own = known.weights not in (None, UNTRAINED)
    if own and not model.start:
        raise TrainError(
            f"model {model.name!r} has weights: say start = 'own' to train on from them, or start = 'random'"
        )
    if model.start == "own" and not own:
        raise TrainError(f"model {model.name!r} has no weights of its own; leave start out, or give a path")


def first_network(config: TrainConfig, spec: ModelSpec) -> nn.Module:
    """The network with the weights that the training begins with, on the CPU, the same for the same seed.

    Raises
    ------
    TrainError
        The weights are not there or of another network.
    """
    torch.manual_seed(derived_seed(config.seed, START))
    model = config.model
    try:
        network = spec.build()
        if model.start == "own":
            weights = get_spec(model.name).weights
            assert weights is not None  # noqa: S101  # spec_of() asked
            weights.load_into(network)
        elif model.start not in ("", "random"):
            load_start(network, spec, model)
    except ModelError as error:
        raise TrainError(f"[model]: {error}") from error
    return network


def load_start(network: nn.Module, spec: ModelSpec, model: ModelConfig) -> None:
    """Load weights of a model folder, a safetensors file or a checkpoint; every key of the network matched.

    Raises
    ------
    ModelError
        They are not there, or of another network.
    """
    from xglof.models.checkpoint import fit_checkpoint, read_checkpoint
    from xglof.models.folder import is_model_folder, read_model

    path = Path(model.start)
    if is_model_folder(path):
        weights = read_model(path, factories=[spec.factory]).weights
        if weights is None:
            raise ModelError(f"model folder {path} holds no weights to start from")
        weights.check()
        path = weights.path
    checkpoint = read_checkpoint(path)
    if model.part:
        _load_part(network, model.part, checkpoint, checkpoint.choose(model.which))
    else:
        network.load_state_dict(fit_checkpoint(spec, checkpoint, model.which).state)


def _load_part(
    network: nn.Module, name: str, checkpoint: Checkpoint, chosen: Literal["model", "ema"]
) -> None:
    """Load the weights of a part, which the file has under the part's own names or the network's."""
    try:
        part = network.get_submodule(name)
    except AttributeError as error:
        parts = ", ".join(key for key, _ in network.named_children())
        raise ModelError(f"the network has no part {name!r}; it has {parts}") from error
    expected = part.state_dict()
    found = _of_part(checkpoint.model, name, expected)
    if chosen == "ema":
        average = _of_part(checkpoint.ema, name, expected)
        if not average:
            raise ModelError(f"the average in {checkpoint.path} has nothing of the part {name!r}")
        found |= average  # it lacks buffers, as a rule: the model's own stand for them
    missing = [key for key in expected if key not in found]
    odd = [key for key, value in expected.items() if not missing and found[key].shape != value.shape]
    if missing or odd:
        what, names = ("lacks", missing) if missing else ("has in another shape", odd)
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise ModelError(f"{checkpoint.path} {what} {', '.join(names[:5])}{more} of the part {name!r}")
    part.load_state_dict(found)


def _of_part(tensors: Mapping[str, Tensor], name: str, expected: Iterable[str]) -> dict[str, Tensor]:
    """Those of some tensors that are of a part, by its own names; what wraps names is taken off."""
    plain = {plain_name(key): tensor for key, tensor in tensors.items()}
    places = [
        {key: plain_name(prefix + key) for key in expected} for prefix in (f"{name}.", f"model.{name}.", "")
    ]
    held = [{key: plain[at] for key, at in place.items() if at in plain} for place in places]
    return max(held, key=len)
