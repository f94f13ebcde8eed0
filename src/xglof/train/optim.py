"""Optimisers for transformers that are fine-tuned: slower the deeper, and how the rates rise and fall.

Layer-wise decay: Clark et al. 2020, arXiv 2003.10555; Bao et al. 2022, arXiv 2106.08254. AdamW: Loshchilov &
Hutter 2019, arXiv 1711.05101. Exponents are those of CryoSentinel's published code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR

from xglof.errors import TrainError

#: Parts of names that wrappers put in: compilation, sharding, recomputed activations.
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


def bare(network: nn.Module) -> nn.Module:
    """The network inside of ``torch.compile``, ``DistributedDataParallel`` and ``DataParallel``."""
    while True:
        inner = getattr(network, "_orig_mod", None)
        if isinstance(network, DistributedDataParallel | DataParallel):
            inner = network.module
        if not isinstance(inner, nn.Module):
            return network
        network = inner


def plain_name(name: str) -> str:
    """Name of a parameter or module without the parts that wrappers put in, wherever they stand.

    Examples
    --------
    >>> plain_name("_orig_mod.encoder._orig_mod.encoder.0.norm1.weight")
    'encoder.encoder.0.norm1.weight'
    """
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def param_groups(
    network: nn.Module,
    *,
    lr: float,
    weight_decay: float = 1e-4,
    layer_decay: float = 1.0,
    backbone_multiplier: float = 1.0,
    freeze: int = 0,
    decayed: Literal["matrices", "all"] = "matrices",
    blocks: str | None = None,
    encoder: str | None = None,
) -> list[dict[str, Any]]:
    """Groups of parameters for an optimiser, each with its ``lr``, ``weight_decay`` and ``name``.

    Block i of an encoder of n blocks, counted from 0, learns at
    ``lr * backbone_multiplier * layer_decay ** (n - i)``; the rest of the encoder (embeddings and, as
    CryoSentinel has it, the closing normalisation) with the exponent ``n + 1``; whatever is outside of the
    encoder at ``lr``. A parameter that takes a gradient is in exactly one group, any other in none. Names
    that ``torch.compile`` or ``DistributedDataParallel`` changed are understood.

    Parameters
    ----------
    network
        A TerraMind network, on its own or anywhere inside of another, is found; see ``blocks`` for others.
    lr
        Rate of the decoder, the highest.
    weight_decay
        Of AdamW, decoupled from the gradient.
    layer_decay
        Ratio of the rates of neighbouring blocks, up to 1.
    backbone_multiplier
        Ratio of the encoder's rates to ``lr``.
    freeze
        The first blocks that learn nothing, with what of the encoder is before them. **Changes the network**,
        see :func:`freeze_blocks`.
    decayed
        ``"matrices"``: no decay of vectors (biases, normalisations). ``"all"``: decay of everything.
    blocks
        Dotted name of the module whose children are the blocks, in order, such as ``"backbone.blocks"``.
    encoder
        Dotted name of the encoder; by default the module that ``blocks`` is a part of. Blocks right under
        the network are an encoder by themselves: what comes before them then learns at ``lr``.

    Raises
    ------
    TrainError
        A number is out of its range; ``blocks`` or ``encoder`` is not in the network; nothing is left to
        learn; the network has no blocks and yet layers are to learn at different rates.

    Examples
    --------
    >>> network = nn.ModuleDict({"encoder": nn.ModuleDict({"blocks": nn.Sequential(nn.Linear(2, 2))})})
    >>> network["head"] = nn.Linear(2, 1)
    >>> groups = param_groups(network, lr=1e-3, layer_decay=0.5, decayed="all", blocks="encoder.blocks")
    >>> [(group["name"], group["lr"]) for group in groups]
    [('block 0', 0.0005), ('decoder', 0.001)]
    """
    _check_rates(lr, weight_decay, layer_decay, backbone_multiplier)
    found = _find(bare(network), blocks, encoder)
    if found is None and (layer_decay != 1 or backbone_multiplier != 1):
        raise TrainError(
            "the network has no encoder of blocks that is known here, so its layers can't learn at different "
            'rates; name its blocks, such as blocks="backbone.blocks", or set layer_decay and '
            "backbone_multiplier to 1"
        )
    freeze_blocks(network, freeze, blocks=blocks, encoder=encoder)
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in bare(network).named_parameters():
        if not parameter.requires_grad:
            continue
        part, depth = found.place(plain_name(name)) if found else ("network", None)
        spared = decayed == "matrices" and parameter.ndim < 2
        label = f"{part}, no decay" if spared else part
        rate = lr if depth is None else lr * backbone_multiplier * layer_decay**depth
        group = {"params": [], "lr": rate, "weight_decay": 0.0 if spared else weight_decay, "name": label}
        groups.setdefault(label, group)["params"].append(parameter)
    if not groups:
        raise TrainError("no parameter of the network takes a gradient; freeze less of it")
    return list(groups.values())


def freeze_blocks(
    network: nn.Module, count: int, *, blocks: str | None = None, encoder: str | None = None
) -> None:
    """Stop the first ``count`` blocks of an encoder from learning, and what of it comes before them.

    What comes before is what the encoder's class made before the blocks: patch, modality and position
    embeddings, not a normalisation after the last block. To be called before a network is given to
    ``DistributedDataParallel``, which waits for the gradients of all that learned when it was made.

    Parameters
    ----------
    network, blocks, encoder
        As for :func:`param_groups`.
    count
        From 0, which changes nothing.

    Raises
    ------
    TrainError
        The network has no blocks, or fewer.
    """
    if count == 0:
        return
    found = _find(bare(network), blocks, encoder)
    if found is None or not 0 < count <= len(found.keys):
        there = (
            f"{len(found.keys)} blocks"
            if found
            else 'no blocks that are known here (name them, blocks="...")'
        )
        raise TrainError(f"can't freeze {count} blocks of a network with {there}")
    before = True
    for name, parameter in bare(network).named_parameters():
        block = found.block(plain_name(name))
        before = before and block is None
        if (block is not None and block < count) or (before and found.holds(plain_name(name))):
            parameter.requires_grad_(False)


@dataclass(frozen=True, slots=True)
class _Encoder:
    """Where the blocks of an encoder are, in plain names: ``{container}.{key}`` for each of them."""

    prefix: str
    container: str
    keys: tuple[str, ...]

    def block(self, name: str) -> int | None:
        """Number of the block that a parameter is in."""
        if not name.startswith(f"{self.container}."):
            return None
        key = name.removeprefix(f"{self.container}.").split(".")[0]
        return self.keys.index(key) if key in self.keys else None

    def holds(self, name: str) -> bool:
        """Whether a parameter is in the encoder."""
        return name.startswith(f"{self.prefix}.")

    def place(self, name: str) -> tuple[str, int | None]:
        """What a parameter is a part of, and how many decays below the decoder."""
        block = self.block(name)
        if block is not None:
            return f"block {block}", len(self.keys) - block
        return ("embeddings", len(self.keys) + 1) if self.holds(name) else ("decoder", None)


def _find(network: nn.Module, blocks: str | None, encoder: str | None) -> _Encoder | None:
    # the inner one of a wrapper and its content comes later, and is what stays under their common name
    modules = {plain_name(name): module for name, module in network.named_modules()}
    if blocks is None:
        if encoder is not None:
            raise TrainError(f'encoder {encoder!r} is given without its blocks; name them too, blocks="..."')
        blocks = _terramind_blocks(modules)
        if blocks is None:
            return None
    for name in (blocks, encoder):
        if name is not None and name not in modules:
            raise TrainError(f"the network has no part {name!r}; {_near(name, modules)}")
    inside = blocks.rpartition(".")[0] or blocks
    prefix = inside if encoder is None else encoder
    if not f"{blocks}.".startswith(f"{prefix}."):
        raise TrainError(f"blocks {blocks!r} are no part of the encoder {prefix!r}")
    keys = tuple(
        key for key, child in modules[blocks].named_children() if any(True for _ in child.parameters())
    )
    if not keys:
        raise TrainError(f"{blocks!r} has no children with parameters, so it is no list of blocks")
    return _Encoder(prefix, blocks, keys)


def _terramind_blocks(modules: dict[str, nn.Module]) -> str | None:
    # terratorch's own class is another one with the same parts, and counts as well
    found = []
    for name, module in modules.items():
        container = f"{name}.encoder".lstrip(".")
        parts = {key for key, _ in module.named_children()}
        if "encoder_embeddings" in parts and isinstance(modules.get(container), nn.ModuleList):
            found.append(container)
    if len(found) > 1:
        raise TrainError(f"the network has several encoders; pass one of {', '.join(found)} as blocks")
    return found[0] if found else None


def _near(name: str, modules: dict[str, nn.Module]) -> str:
    """What a name may have been meant to be: the parts at the first level that is wrong."""
    parent = name
    while parent not in modules:
        parent = parent.rpartition(".")[0]
    parts = [key for key, _ in modules[parent].named_children()]
    return f"{parent or 'the network'} has {', '.join(parts[:8]) or 'no parts'}"


def _check_rates(lr: float, weight_decay: float, layer_decay: float, backbone_multiplier: float) -> None:
    if not 0 < lr < math.inf:
        raise TrainError(f"lr {lr} must be above 0")
    if not 0 <= weight_decay < math.inf:
        raise TrainError(f"weight_decay {weight_decay} must be 0 or above")
    if not 0 < layer_decay <= 1:
        raise TrainError(f"layer_decay {layer_decay} must be above 0 and at most 1, which is none")
    if not 0 < backbone_multiplier < math.inf:
        raise TrainError(
            f"backbone_multiplier {backbone_multiplier} must be above 0; freeze blocks to stop them"
        )


def optimiser(
    network: nn.Module,
    *,
    lr: float,
    weight_decay: float = 1e-4,
    layer_decay: float = 1.0,
    backbone_multiplier: float = 1.0,
    freeze: int = 0,
    betas: Sequence[float] = (0.9, 0.999),
    decayed: Literal["matrices", "all"] = "matrices",
    blocks: str | None = None,
    encoder: str | None = None,
) -> torch.optim.AdamW:
    """AdamW over the groups of :func:`param_groups`.

    Parameters
    ----------
    network, lr, weight_decay, layer_decay, backbone_multiplier, freeze, decayed, blocks, encoder
        As for :func:`param_groups`.
    betas
        Decays of the two moments.

    Raises
    ------
    TrainError
        As :func:`param_groups`, and where ``betas`` are not two numbers from 0 to below 1.
    """
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise TrainError(f"betas {tuple(betas)} must be two numbers from 0 to below 1, such as (0.9, 0.999)")
    groups = param_groups(
        network,
        lr=lr,
        weight_decay=weight_decay,
        layer_decay=layer_decay,
        backbone_multiplier=backbone_multiplier,
        freeze=freeze,
        decayed=decayed,
        blocks=blocks,
        encoder=encoder,
    )
    return torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay, betas=(betas[0], betas[1]))


def warmup_cosine(
    optimiser: torch.optim.Optimizer, *, steps: int, warmup: int, floor: float = 0.0, floor_from: float = 1.0
) -> LambdaLR:
    """A schedule that raises the rates linearly from 0, then lowers them along half a cosine.

    Every group keeps its ratio to the others. The rates follow from the number of steps done alone, so a
    resumed schedule goes on with the same bits. Step it once after each step of the optimiser.

    Parameters
    ----------
    optimiser
        Its rates are those at the top.
    steps
        Steps of the whole run.
    warmup
        Steps until the top; the very first step is taken at rate 0, or at the top where there is no warm-up.
    floor
        Lowest rate, as a share of the highest.
    floor_from
        Share of the run after which the rates stay at the floor, below 1 for an average of weights
        that still move (Izmailov et al. 2018, arXiv 1803.05407).

    Raises
    ------
    TrainError
        The warm-up does not end before the floor is reached, or a number is out of its range.

    Examples
    --------
    >>> weight = nn.Parameter(torch.zeros(1))
    >>> adam = torch.optim.AdamW([weight], lr=0.8)
    >>> schedule = warmup_cosine(adam, steps=6, warmup=2)
    >>> rates = []
    >>> for _ in range(6):
    ...     rates.append(round(schedule.get_last_lr()[0], 3))
    ...     adam.step()
    ...     schedule.step()
    >>> rates
    [0.0, 0.4, 0.8, 0.683, 0.4, 0.117]
    """
    if not 0 < floor_from <= 1 or not 0 <= floor <= 1:
        raise TrainError(
            f"floor {floor} must be from 0 to 1, and floor_from {floor_from} above 0 and at most 1"
        )
    end = floor_from * steps
    if not 0 <= warmup < end:
        raise TrainError(
            f"a warm-up of {warmup} steps must be 0 or more, and end before step {end:g} of {steps}"
        )

    def factor(step: int) -> float:
        if step < warmup:
            return step / warmup
        progress = min((step - warmup) / (end - warmup), 1.0)
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimiser, factor)
