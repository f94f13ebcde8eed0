"""One step of a training: chips to a loss, a loss to gradients, gradients to weights."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from xglof.errors import TrainError
from xglof.models.spec import ModelSpec
from xglof.train.augment import Augmentation, augment
from xglof.train.average import batch_norms
from xglof.train.batch import ChipBatch, Sample, prepare

if TYPE_CHECKING:
    import pandas as pd
    from lightning.fabric import Fabric
    from torch.optim.lr_scheduler import LRScheduler

# what random numbers are for: equal steps of different purposes must not share them
START, BATCHES, AUGMENT, NETWORK, RECALIBRATE, CHIPS, SETTLE = range(7)


class Loss(Protocol):
    """A loss over logits (B, 1, H, W) and labels (B, H, W): the whole, and its parts by name."""

    def __call__(self, logits: Tensor, label: Tensor, /) -> tuple[Tensor, dict[str, Tensor]]:
        """Scalars."""


def derived_seed(seed: int, purpose: int, *numbers: int) -> int:
    """A seed for one purpose at one step: nothing depends on what was drawn before it.

    Parameters
    ----------
    seed
        Of the training.
    purpose
        A constant of this module.
    numbers
        Such as rank and batch.
    """
    state = np.random.SeedSequence([seed, purpose, *numbers]).generate_state(2, np.uint32)
    return int(state[0]) << 31 ^ int(state[1])


def on_device(batch: ChipBatch, device: torch.device) -> ChipBatch:
    """The same chips on a device; what is already there is not copied."""
    planes = {name: plane.to(device, non_blocking=True) for name, plane in batch.planes.items()}
    return replace(batch, planes=planes, label=batch.label.to(device, non_blocking=True))


@dataclass(frozen=True, slots=True)
class Drawing:
    """Chips as the network is trained on them: prepared and augmented, the same for the same number.

    Attributes
    ----------
    spec
        The model.
    augmentation
        Its settings.
    seed
        Of the training.
    rank
        Of the process: each augments by numbers of its own.
    device
        Where to.
    """

    spec: ModelSpec
    augmentation: Augmentation
    seed: int
    rank: int
    device: torch.device

    def sample(self, batch: ChipBatch, number: int, *, purpose: int = AUGMENT) -> Sample:
        """The sample of the batch of this number."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, purpose, self.rank, number))
        prepared = prepare(self.spec, on_device(batch, self.device))
        return augment(prepared, self.augmentation, generator, self.spec)


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the optimiser over one or more batches.

    Attributes
    ----------
    fabric
        Devices, precision and processes.
    network
        As :meth:`lightning.fabric.Fabric.setup` returned it.
    optimiser, schedule
        The same; the schedule moves once a step.
    loss
        Of logits and labels.
    drawing
        Chips to samples.
    clip
        Largest norm of the gradients; 0 for any.
    index
        Of the chips: names them where a loss is not finite.
    settled_from
        The step from which on batch norms keep their statistics.
    """

    fabric: Fabric
    network: Any
    optimiser: Any
    schedule: LRScheduler
    loss: Loss
    drawing: Drawing
    clip: float
    index: pd.DataFrame
    settled_from: int

    def take(self, step: int, batches: Sequence[ChipBatch]) -> dict[str, float]:
        """Move the weights once; the loss and its parts, the norm of the gradients and the learning rate.

        Parameters
        ----------
        step
            From 0.
        batches
            Chips of this process; their gradients are averaged.

        Raises
        ------
        TrainError
            A loss or a gradient is not finite; names the chips.
        """
        told: list[Tensor] = []
        names: list[str] = []
        self.network.train()
        if step >= self.settled_from:
            for layer in batch_norms(self.network).values():
                layer.eval()
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            with self.fabric.no_backward_sync(self.network, enabled=not last):
                parts = self._backward(step * len(batches) + number, batch, len(batches))
            names = list(parts)
            told.append(torch.stack([parts[name] for name in names]))
        norm = self._clip(step, batches)
        rate = max(group["lr"] for group in self.optimiser.param_groups)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        with warnings.catch_warnings():
            if self._scaled:  # a scaler may leave out the first steps, and the rate goes on as it is to
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            self.schedule.step()
        values = dict(zip(names, torch.stack(told).mean(dim=0).tolist(), strict=True))
        return values | {"gradient_norm": norm, "lr": rate}

    def _backward(self, number: int, batch: ChipBatch, share: int) -> dict[str, Tensor]:
        sample = self.drawing.sample(batch, number)
        # dropout: a number of the batch's own, so that a resumed run draws the same
        torch.manual_seed(derived_seed(self.drawing.seed, NETWORK, self.drawing.rank, number))
        logits = self.network(dict(sample.inputs))
        check_logits(self.drawing.spec, logits, sample.label)
        total, parts = self.loss(logits, sample.label)
        values = torch.stack([total.detach(), *(part.detach() for part in parts.values())])
        # one number for all processes: a loss that is not finite anywhere ends them all
        means = self.fabric.all_reduce(values, reduce_op="mean")
        if not bool(torch.isfinite(means[0])):
            raise TrainError(self._blame(number // share, sample, logits))
        self.fabric.backward(total / share)
        return dict(zip(("loss", *(f"loss_{name}" for name in parts)), means, strict=True))

    def _clip(self, step: int, batches: Sequence[ChipBatch]) -> float:
        largest = self.clip or float("inf")
        norm = self.fabric.clip_gradients(
            self.network, self.optimiser, max_norm=largest, error_if_nonfinite=False
        )
        value = float(norm)  # type: ignore[arg-type]
        if not np.isfinite(value) and not self._scaled:  # a scaler leaves out such a step, as it should
            rows = torch.cat([batch.rows for batch in batches])
            raise TrainError(
                f"step {step}: the loss is finite and its gradients are not, at {self._named(rows)}; lower "
                "the learning rate or train in precision '32'"
            )
        return value

    @property
    def _scaled(self) -> bool:
        """Whether losses are scaled, so that their gradients fit 16 bits."""
        return getattr(self.fabric.strategy.precision, "scaler", None) is not None

    def _blame(self, step: int, sample: Sample, logits: Tensor) -> str:
        """Which chips made a loss that is not finite, as far as can be told."""
        inputs = torch.stack([_finite(values) for values in sample.inputs.values()]).all(dim=0).cpu()
        outputs = _finite(logits).cpu()
        if not inputs.all():
            what, rows = "the inputs of", sample.rows[~inputs]
        elif not outputs.all():
            what, rows = "the network's answer to", sample.rows[~outputs]
        elif not bool(torch.isfinite(self.loss(logits, sample.label)[0])):
            what, rows = "the loss over", sample.rows
        else:
            return f"step {step}: the loss is not finite in another process, which names the chips"
        return (
            f"step {step}: not finite: {what} {self._named(rows)}; look at these chips, lower the learning "
            "rate or train in precision '32'"
        )

    def _named(self, rows: Tensor) -> str:
        chips = self.index["chip_id"].iloc[rows.tolist()].tolist()
        return f"chip{'s' * (len(chips) > 1)} {', '.join(map(str, chips))}"


def _finite(values: Tensor) -> Tensor:
    return torch.isfinite(values.detach()).flatten(1).all(dim=1)


def check_logits(spec: ModelSpec, logits: Tensor, label: Tensor) -> None:
    """Refuse a network whose answer has another shape than it must.

    Raises
    ------
    TrainError
        It is not ``(B, 1, H, W)`` of the labels.
    """
    wanted = (label.shape[0], len(spec.classes), *label.shape[1:])
    if not isinstance(logits, Tensor) or tuple(logits.shape) != wanted:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise TrainError(f"the network of {spec.name!r} answers with {shape}, expected logits {wanted}")
