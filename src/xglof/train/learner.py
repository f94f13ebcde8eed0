"""Everything of a training that changes from step to step, and its state for a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from xglof.models.spec import ModelSpec
from xglof.train.average import RunningAverage, ema, swa
from xglof.train.batch import ChipBatch
from xglof.train.config import TrainConfig
from xglof.train.losses import compose
from xglof.train.module import Drawing, Loss, Step
from xglof.train.optim import optimiser, warmup_cosine

if TYPE_CHECKING:
    import pandas as pd
    from lightning.fabric import Fabric
    from torch import nn


class Learner:
    """A network that learns, with its optimiser, schedule and averages.

    Parameters
    ----------
    fabric
        Launched.
    config
        What to do.
    network
        With its first weights; it is changed.
    spec
        The model.
    steps
        Of the whole training.
    index
        Of the chips: names them where a loss is not finite.

    Attributes
    ----------
    network
        As its factory made it, on the device, not wrapped.
    averages
        Running means by name: ``"ema"``, ``"swa"``.
    """

    def __init__(
        self,
        fabric: Fabric,
        config: TrainConfig,
        network: nn.Module,
        spec: ModelSpec,
        *,
        steps: int,
        index: pd.DataFrame,
    ) -> None:
        self._fabric = fabric
        self.loss: Loss = compose(config.loss.weights, **asdict(config.loss.settings))
        self.network = network
        if fabric.world_size > 1 and config.fit.sync_batch_norm and fabric.device.type == "cuda":
            self.network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(self.network)
        own = optimiser_of(config, self.network)
        rates = config.optimiser
        self._schedule = warmup_cosine(
            own,
            steps=steps,
            warmup=round(rates.warmup * steps),
            floor=rates.floor,
            floor_from=rates.floor_from,
        )
        compiled: Any = torch.compile(self.network) if config.fit.compile else self.network
        wrapped, self._wrapped_optimiser = fabric.setup(compiled, own)
        #: The step before which batch norms are measured, to stay so.
        self.settled_from = round(config.average.settle * steps)
        self.drawing = Drawing(spec, config.augment, config.seed, fabric.global_rank, fabric.device)
        self._step = Step(
            fabric,
            wrapped,
            self._wrapped_optimiser,
            self._schedule,
            self.loss,
            self.drawing,
            rates.clip,
            index,
            settled_from=self.settled_from,
        )
        self.averages = self._running(config, steps)

    def _running(self, config: TrainConfig, steps: int) -> dict[str, RunningAverage]:
        found = {}
        if config.average.ema:
            found["ema"] = ema(self.network, decay=config.average.ema)
        if config.average.swa_start < 1:
            found["swa"] = swa(self.network, steps=steps, start=config.average.swa_start)
        return found

    @property
    def measured(self) -> nn.Module:
        """The network that is validated: the exponential mean where there is one."""
        return self.averages["ema"].network if "ema" in self.averages else self.network

    def take(self, step: int, batches: Sequence[ChipBatch]) -> dict[str, float]:
        """A step, and the averages with it; see :meth:`xglof.train.module.Step.take`."""
        values = self._step.take(step, batches)
        for average in self.averages.values():
            average.update(self.network)
        return values

    def hand_on_norms(self) -> None:
        """Give the averages the statistics of the network's batch norms, with which it learns from now on."""
        for average in self.averages.values():
            average.take_norms(self.network)

    def state(self) -> dict[str, Any]:
        """What goes on from here with the same bits: numbers, texts and tensors only."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self._wrapped_optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "averages": {name: average.state_dict() for name, average in self.averages.items()},
            "scaler": self._fabric.strategy.precision.state_dict(),
        }

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` gave."""
        self.network.load_state_dict(state["network"])
        self._wrapped_optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        self._fabric.strategy.precision.load_state_dict(state["scaler"])
        for name, average in self.averages.items():
            average.load_state_dict(state["averages"][name])


def optimiser_of(config: TrainConfig, network: nn.Module) -> torch.optim.AdamW:
    """AdamW over a network as a config asks for it.

    Raises
    ------
    TrainError
        The network can't be trained so, see :func:`xglof.train.optim.param_groups`.
    """
    rates = config.optimiser
    return optimiser(
        network,
        lr=rates.lr,
        weight_decay=rates.weight_decay,
        layer_decay=rates.layer_decay,
        backbone_multiplier=rates.backbone_multiplier,
        freeze=rates.freeze,
        betas=rates.betas,
        decayed=rates.decayed,
        blocks=rates.blocks,
        encoder=rates.encoder,
    )
