"""Running means of weights during a training, and the batch statistics that go with averaged weights.

Sources: Polyak & Juditsky 1992, doi 10.1137/0330046 (running means); Izmailov et al. 2018, arXiv 1803.05407
(stochastic weight averaging, and batch statistics measured anew for it).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn

from xglof.errors import TrainError
from xglof.train.optim import bare, plain_name
from xglof.train.soup import refuse_others

#: What becomes of floating-point buffers, such as the statistics of a batch normalisation: averaged like the
#: weights, or copied from the network at every update.
Buffers = Literal["average", "follow"]
#: Takes the averages, the new values and how many there were before, and changes the averages.
_Rule = Callable[[list[Tensor], list[Tensor], int], None]


def ema(
    network: nn.Module,
    *,
    decay: float,
    buffers: Buffers = "average",
    device: torch.device | str | None = None,
) -> RunningAverage:
    """An exponential running mean of a network's weights, updated after every step.

    Each update takes ``decay`` of the mean and ``1 - decay`` of the network; the first one takes the network.

    Parameters
    ----------
    network
        The network that learns; wrappers such as ``torch.compile`` are looked through.
    decay
        From 0 to below 1; 0.999 averages over about the last 1,000 steps.
    buffers
        What becomes of floating-point buffers. Integers always follow the network: a mean of them is not one
        of their values.
    device
        Where the mean is kept; by default where the network is.

    Raises
    ------
    TrainError
        ``decay`` is out of its range, or weights are in half precision, in which so small steps vanish.

    Examples
    --------
    >>> network = nn.Linear(1, 1, bias=False).requires_grad_(False)
    >>> mean = ema(network, decay=0.75)
    >>> for value in (0.0, 4.0, 4.0):
    ...     _ = network.weight.fill_(value)
    ...     mean.update(network)
    >>> mean.network.weight.item()
    1.75
    """
    if not 0 <= decay < 1:
        raise TrainError(f"decay {decay} of an exponential mean must be from 0 to below 1, such as 0.999")
    return RunningAverage(network, rule=get_ema_multi_avg_fn(decay), buffers=buffers, device=device)


def swa(
    network: nn.Module,
    *,
    steps: int,
    start: float = 0.5,
    every: int = 1,
    buffers: Buffers = "average",
    device: torch.device | str | None = None,
) -> RunningAverage:
    """An even mean of a network's weights over the last part of a run (stochastic weight averaging).

    The weights after the last step are in it, and those ``every`` steps before, back to the start.

    Parameters
    ----------
    network, buffers, device
        As for :func:`ema`.
    steps
        Steps of the whole run: updates that will be made.
    start
        Share of the run that is over before the first weights are taken.
    every
        Steps from one set of weights to the next, such as the steps of an epoch.

    Raises
    ------
    TrainError
        A number is out of its range, or weights are in half precision.
    """
    if steps < 1 or every < 1 or not 0 <= start < 1:
        raise TrainError(
            f"steps {steps} and every {every} must be at least 1, and start {start} from 0 to below 1"
        )

    def due(done: int) -> bool:
        return start * steps < done <= steps and (steps - done) % every == 0

    return RunningAverage(network, rule=get_swa_multi_avg_fn(), due=due, buffers=buffers, device=device)


class RunningAverage:
    """A copy of a network that holds a running mean of its weights; made by :func:`ema` or :func:`swa`.

    Unlike :class:`torch.optim.swa_utils.AveragedModel` it pairs weights by name, so that another network is
    refused and a compiled one is not; and it leaves integer buffers whole, which that one truncates (a table
    of constants changes) or fails on.

    Attributes
    ----------
    count
        How many sets of weights are in the mean.
    seen
        How many updates were made.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        rule: _Rule,
        due: Callable[[int], bool] = lambda done: True,
        buffers: Buffers = "average",
        device: torch.device | str | None = None,
    ) -> None:
        _check_precision(network)
        self._network = copy.deepcopy(bare(network)).requires_grad_(False).eval().to(device)
        self._rule, self._due = rule, due
        self.count, self.seen = 0, 0
        averaged = {plain_name(name) for name, _ in self._network.named_parameters()}
        if buffers == "average":  # those that are not in the state dict a resumed run knows nothing of
            averaged |= {plain_name(name) for name in self._network.state_dict()}
        tensors = _tensors(self._network)
        self._averaged = [name for name in tensors if name in averaged and tensors[name].is_floating_point()]

    @property
    def network(self) -> nn.Module:
        """The copy with the mean weights, in evaluation mode; its weights take no gradient.

        Raises
        ------
        TrainError
            There is nothing in the mean yet.
        """
        if self.count == 0:
            raise TrainError(f"nothing has been averaged after {self.seen} updates; the mean starts later")
        return self._network

    @torch.no_grad()
    def take_norms(self, network: nn.Module) -> None:
        """Take the statistics of a network's batch norms as they are."""
        theirs = batch_norms(network)
        for name, layer in batch_norms(self._network).items():
            layer.load_state_dict(theirs[name].state_dict() | dict(layer.named_parameters()))

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take the weights of a network into the mean, where it is their turn.

        Raises
        ------
        TrainError
            The network has other weights than the one that the mean is of.
        """
        mine, theirs = _tensors(self._network), _tensors(bare(network))
        refuse_others({n: t.shape for n, t in mine.items()}, {n: t.shape for n, t in theirs.items()}, "it")
        self.seen += 1
        if not self._due(self.seen):
            return
        means = self._averaged if self.count else []
        if means:
            new = [theirs[name].to(mine[name]) for name in means]
            self._rule([mine[name] for name in means], new, self.count)
        for name in mine.keys() - set(means):
            mine[name].copy_(theirs[name])
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on with the same bits: numbers and tensors only."""
        return {"network": self._network.state_dict(), "count": self.count, "seen": self.seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave.

        Raises
        ------
        TrainError
            The state is that of another network.
        """
        try:
            self._network.load_state_dict(state["network"])
        except RuntimeError as error:
            raise TrainError(f"the average that was saved is of another network: {error}") from error
        self.count, self.seen = int(state["count"]), int(state["seen"])


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by plain name."""
    named = [*network.named_parameters(), *network.named_buffers()]
    return {plain_name(name): tensor.detach() for name, tensor in named}


def _check_precision(network: nn.Module) -> None:
    for name, tensor in network.named_parameters():
        if tensor.is_floating_point() and tensor.dtype.itemsize < 4:
            raise TrainError(
                f"{plain_name(name)} is {tensor.dtype}, in which a running mean stands still; keep the "
                "weights in float32 and train with mixed precision"
            )


def batch_norms(network: nn.Module) -> dict[str, Any]:
    """The layers of a network that keep statistics of batches, by name; wrappers are looked through."""
    return {name: layer for name, layer in bare(network).named_modules() if _measures(layer)}


def recalibrate_batch_norm(network: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> int:
    """Number of batches over which the statistics of batch normalisations were measured anew.

    Averaged weights give other activations than those that the statistics were gathered of. Each mean and
    variance becomes the plain mean of those of the batches. The rest of the network runs as in inference
    (dropout off), gradients are off, and weights, modes and momenta are afterwards what they were. A layer
    that no batch reaches keeps its statistics, and so do all if anything fails. A network without batch
    normalisation is not run at all: 0 comes back.

    Under several processes each measures its own batches: give all of them the same, or measure on one and
    hand its buffers on.

    Parameters
    ----------
    network
        Takes the batches, on any device; wrappers are looked through.
    batches
        Inputs by modality, as the network takes them in training; best without augmentation. A hundred chips
        or more.

    Raises
    ------
    TrainError
        There is no batch, or one that is too small to have a variance, or a statistic is not finite.
    """
    inner = bare(network)
    norms = batch_norms(inner)
    if not norms:
        return 0
    used = 0
    device = next(iter(norms.values())).running_mean.device
    with _measuring(inner, norms), torch.no_grad():
        for batch in batches:
            _run(inner, {name: values.to(device) for name, values in batch.items()})
            used += 1
        if not used:
            raise TrainError("there is no batch to measure the batch normalisations with")
        for name, layer in norms.items():
            if not (layer.running_mean.isfinite().all() and layer.running_var.isfinite().all()):
                raise TrainError(f"the activations that {name} normalises are not finite; check the weights")
    return used


def _run(network: nn.Module, batch: dict[str, Tensor]) -> None:
    try:
        network(batch)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise TrainError("a batch of one chip has no variance in a pooled layer; pass two or more") from error


def _measures(layer: nn.Module) -> bool:
    return isinstance(layer, _BatchNorm) and layer.running_mean is not None


@contextmanager
def _measuring(network: nn.Module, norms: Mapping[str, Any]) -> Iterator[None]:
    """The normalisations emptied and measuring a plain mean, the rest of the network at inference."""
    modes = {module: module.training for module in network.modules()}
    momenta = {layer: layer.momentum for layer in norms.values()}
    former = {
        layer: {n: b.clone() for n, b in layer.named_buffers(recurse=False)} for layer in norms.values()
    }
    network.eval()
    for layer in norms.values():
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over the batches
        layer.train()
    measured = False
    try:
        yield
        measured = True
    finally:
        for layer in norms.values():
            layer.momentum = momenta[layer]
            if not (measured and layer.num_batches_tracked):
                for name, values in former[layer].items():
                    getattr(layer, name).copy_(values)
        for module, mode in modes.items():
            module.training = mode
