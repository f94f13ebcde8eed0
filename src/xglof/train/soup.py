"""Soups: uniform means of several sets of weights of one network.

Source: Wortsman et al. 2022, arXiv 2203.05482.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from xglof.errors import TrainError
from xglof.train.optim import plain_name

#: Name of the weights in the folder of a model.
_WEIGHTS = "weights.safetensors"
#: Counts that differ between runs and mean nothing in an average.
_COUNT = "num_batches_tracked"


def soup(members: Sequence[Mapping[str, Tensor] | str | os.PathLike[str]]) -> dict[str, Tensor]:
    """The uniform mean of several sets of weights of one network, as a state dict on the CPU.

    Means are taken in float64, a tensor at a time, and half precision comes back as float32. Tensors of
    integers must agree; counts of batches are those of the last member. Batch statistics are no longer those
    of the weights: call
    :func:`xglof.train.average.recalibrate_batch_norm` with the network that the mean is loaded into.

    Parameters
    ----------
    members
        State dicts, safetensors files, or folders of models with a ``weights.safetensors``. What
        ``torch.compile`` adds to names is dropped.

    Raises
    ------
    TrainError
        There are no members; a file is absent or not safetensors; names, shapes or integers differ (they are
        listed); or a value is not finite.

    Examples
    --------
    >>> soup([{"weight": torch.tensor([1.0])}, {"weight": torch.tensor([2.0])}])
    {'weight': tensor([1.5000])}
    """
    if isinstance(members, str | os.PathLike | Mapping) or not members:
        raise TrainError("a soup is made of a list of state dicts or files, at least one")
    with ExitStack() as stack:
        opened = [_opened(member, number, stack) for number, member in enumerate(members)]
        for member in opened[1:]:
            refuse_others(opened[0].shapes, member.shapes, member.label, opened[0].label)
        return {name: _mean(name, opened) for name in opened[0].shapes}


@dataclass(frozen=True, slots=True)
class _Member:
    """Weights that are read a tensor at a time."""

    label: str
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor]


def _opened(member: Mapping[str, Tensor] | str | os.PathLike[str], number: int, stack: ExitStack) -> _Member:
    if isinstance(member, Mapping):
        plain = {plain_name(name): tensor.detach().cpu() for name, tensor in member.items()}
        shapes = {name: tuple(tensor.shape) for name, tensor in plain.items()}
        return _Member(f"member {number}", shapes, plain.__getitem__)
    from safetensors import SafetensorError, safe_open

    path = Path(member) / _WEIGHTS if Path(member).is_dir() else Path(member)
    if not path.is_file():
        raise TrainError(f"weights {path} for the soup are not there; give the path of a .safetensors file")
    try:
        file = stack.enter_context(safe_open(path, framework="pt"))
    except SafetensorError as error:
        raise TrainError(f"weights {path} for the soup are no whole safetensors file: {error}") from error
    names = {plain_name(name): name for name in file.keys()}  # noqa: SIM118  # it is no mapping
    shapes = {plain: tuple(file.get_slice(name).get_shape()) for plain, name in names.items()}
    return _Member(str(path), shapes, lambda plain: file.get_tensor(names[plain]))


def _mean(name: str, members: Sequence[_Member]) -> Tensor:
    tensors = [member.read(name) for member in members]
    if not all(tensor.is_floating_point() for tensor in tensors):
        odd = [m.label for m, t in zip(members, tensors, strict=True) if not torch.equal(t, tensors[-1])]
        if odd and not name.endswith(_COUNT):
            raise TrainError(f"{name} holds integers that differ between {odd[0]} and {members[-1].label}")
        return tensors[-1].clone()
    for member, tensor in zip(members, tensors, strict=True):
        if not tensor.isfinite().all():
            raise TrainError(f"{name} of {member.label} is not finite; leave that member out of the soup")
    total = torch.zeros_like(tensors[0], dtype=torch.float64)
    for tensor in tensors:
        total += tensor
    dtype = torch.float64 if tensors[0].dtype == torch.float64 else torch.float32
    return (total / len(tensors)).to(dtype)


def refuse_others(
    first: Mapping[str, tuple[int, ...]],
    second: Mapping[str, tuple[int, ...]],
    label: str,
    against: str = "the average",
) -> None:
    """Raise a :class:`TrainError` that lists how the names and shapes of two sets of weights differ."""
    if first == second:
        return
    missing = [name for name in first if name not in second]
    extra = [name for name in second if name not in first]
    shapes = [
        f"{name} {tuple(second[name])} for {tuple(first[name])}"
        for name in first
        if name in second and tuple(first[name]) != tuple(second[name])
    ]
    found = {"lacks": missing, "has besides": extra, "differs in shape": shapes}
    said = "; ".join(f"{what} {_listed(names)}" for what, names in found.items() if names)
    raise TrainError(f"{label} is of another network than {against}: {said}")


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
