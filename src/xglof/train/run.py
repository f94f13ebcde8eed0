"""A training from its first to its last step: batches, validations, checkpoints."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import torch

from xglof.errors import TrainError
from xglof.train.batch import ChipBatch
from xglof.train.config import TrainConfig
from xglof.train.curve import Board, Curve
from xglof.train.folds import Folds
from xglof.train.learner import Learner
from xglof.train.loader import ChipLoader
from xglof.train.module import BATCHES, SETTLE, derived_seed
from xglof.train.outcome import measure_norms, write_network
from xglof.train.run_folder import RunFolder, by_the_first
from xglof.train.telling import Telling
from xglof.train.validation import Validation, validate

if TYPE_CHECKING:
    from lightning.fabric import Fabric
    from rich.console import Console
    from torch import nn

#: Settings that a run may be taken up with other values of: they change no step.
_FREE = {"fit.checkpoint_every", "fit.keep", "fit.patience", "chips.threads", "out"}
#: What a checkpoint knows of its data, in words.
_DATA = {"chips": "other chips", "pixels": "other pixels of the same chips", "total": "more or fewer chips"}


class Run:
    """A training between its first and its last step.

    Parameters
    ----------
    fabric
        Launched.
    config, folder, folds
        What to do, where to write, what to learn from.
    network
        With the weights that the training begins with.
    console
        Where to tell; ``None`` for nowhere.

    Attributes
    ----------
    done, total
        Steps.
    validations
        Step and IoU of each.
    """

    def __init__(
        self,
        fabric: Fabric,
        config: TrainConfig,
        folder: RunFolder,
        folds: Folds,
        network: nn.Module,
        console: Console | None,
    ) -> None:
        self.fabric, self.config, self.folder, self.folds = fabric, config, folder, folds
        self._console = console
        self.loader = self._loader()
        fit = config.fit
        self.total = fit.steps or fit.epochs * len(self.loader) // fit.accumulate
        if self.total < 1 or len(self.loader) < 1:
            raise TrainError(
                f"{len(folds.train)} training chips make {len(self.loader)} batches of {fit.batch_size} an "
                "epoch, too few for a step; take smaller batches or more chips"
            )
        self.learner = Learner(
            fabric, config, network, folds.train.spec, steps=self.total, index=folds.train.index
        )
        self.done = 0
        self.validations: list[tuple[int, float]] = []
        self._scores: dict[str, float] = {}  # all of the last validation
        self._data = {"chips": folds.digest, "pixels": folds.pixels, "total": self.total}
        self._take_up()

    def _loader(self) -> ChipLoader:
        """Batches to learn from. A run that is shorter than an epoch has chips of all blocks nevertheless."""
        fit, wanted = self.config.fit, self.config.chips.epoch_chips
        loader = self.loader_of(wanted, BATCHES)
        if wanted is None and 0 < fit.steps * fit.accumulate < len(loader):
            chips = fit.steps * fit.accumulate * fit.batch_size * self.fabric.world_size
            loader = self.loader_of(chips, BATCHES)
        return loader

    def loader_of(self, epoch_chips: int | None, purpose: int) -> ChipLoader:
        """Training chips in full batches, so many an epoch, in an order of its own for every purpose."""
        chips = self.config.chips
        return ChipLoader(
            self.folds.train,
            batch_size=self.config.fit.batch_size,
            seed=derived_seed(self.config.seed, purpose),
            balance=chips.balance or None,
            positive=chips.positive,
            hard=chips.hard,
            dates=chips.dates,
            epoch_chips=epoch_chips,
            mix=chips.mix,
            threads=chips.threads,
            rank=self.fabric.global_rank,
            world=self.fabric.world_size,
        )

    def _take_up(self) -> None:
        """Take up the last checkpoint, if there is one."""
        state = self.folder.last_checkpoint()
        if state is None:
            return
        check_same(TrainConfig.from_mapping(json.loads(state["config"])), self.config, self.folder)
        for key, what in _DATA.items():
            if state.get(key, self._data[key]) != self._data[key]:
                raise TrainError(
                    f"the run in {self.folder.path} learned from {what} than the config gives now: the "
                    "data have changed; choose another folder"
                )
        self.learner.take_up(state["learner"])
        self.done = int(state["step"])
        self.validations = [(int(step), float(iou)) for step, iou in state["validations"]]
        self._scores = dict(state["scores"])
        by_the_first(self.fabric, lambda: self.folder.tidy(self.done))
        if self._just_validated:  # a kill may have come between the checkpoint and the model
            by_the_first(self.fabric, self._after_validation)
        if self._console is not None:
            self._console.print(f"going on from step {self.done} of {self.total}", soft_wrap=True)

    def _save(self) -> None:
        """Write a checkpoint; around it, what a validation leaves.

        A snapshot is there before the checkpoint that counts on it. The best model, and snapshots that are
        not needed any more, change after the checkpoint that knows of it: so a run that goes on never has
        weights of steps that it does not remember.
        """
        if self._just_validated and self.done in self.best_steps:
            self.folder.save_snapshot(self.done, self.learner.measured.state_dict())
        state = {
            "step": self.done,
            "learner": self.learner.state(),
            "validations": [list(pair) for pair in self.validations],
            "scores": self._scores,
            "config": json.dumps(self.config.recorded()),
        } | self._data
        self.folder.save_checkpoint(self.done, state, keep=self.config.fit.keep)
        if self._just_validated:
            self._after_validation()

    @property
    def _just_validated(self) -> bool:
        return bool(self.validations) and self.validations[-1][0] == self.done

    def _after_validation(self) -> None:
        if self.best_place == len(self.validations) - 1:
            self.write("best", self.learner.measured, {"step": self.done, **self._scores})
        self.folder.keep_snapshots(self.best_steps)

    def _batches(self) -> Generator[ChipBatch]:
        """Batches without end, from where the run is."""
        epoch, start = divmod(self.done * self.config.fit.accumulate, len(self.loader))
        while True:
            yield from self.loader.batches(epoch, start=start)
            epoch, start = epoch + 1, 0

    @property
    def over(self) -> bool:
        """All steps are taken, or validation has not become better for as long as the config waits."""
        patience = self.config.fit.patience
        waited = len(self.validations) - 1 - self.best_place if self.validations else 0
        return self.done >= self.total or bool(patience and waited >= patience)

    @property
    def best_place(self) -> int:
        """Number of the validation with the highest IoU, the first of equals."""
        scores = [iou for _, iou in self.validations]
        return scores.index(max(scores))

    @property
    def best_steps(self) -> list[int]:
        """Steps of the snapshots that go into the soup."""
        ranked = sorted(self.validations, key=lambda pair: (-pair[1], pair[0]))
        return [step for step, _ in ranked[: self.config.average.soup]]

    def take_steps(self) -> None:
        """Take all steps that are left.

        Raises
        ------
        TrainError
            A loss is not finite, or a file can't be written.
        """
        if self.over:
            return
        columns = ["loss", *(f"loss_{name}" for name in _counted(self.config)), "gradient_norm", "lr"]
        columns += [f"validation_{name}" for name in Validation.__slots__]
        with ExitStack() as stack:
            logs: list[Curve | Board] = []
            if self.fabric.is_global_zero:
                logs.append(Curve(self.folder, columns, after=self.done))
                logs.append(stack.enter_context(closing(Board(self.folder, after=self.done))))
            telling = stack.enter_context(Telling(self._console, self.total, self.done))
            batches = stack.enter_context(closing(self._batches()))
            while not self.over:
                if self.done == self.learner.settled_from:
                    measure_norms(self, self.learner.network, SETTLE)
                    self.learner.hand_on_norms()
                self._one(batches, telling, logs)

    def _one(self, batches: Iterator[ChipBatch], telling: Telling, logs: list[Curve | Board]) -> None:
        fit = self.config.fit
        values = self.learner.take(self.done, [next(batches) for _ in range(fit.accumulate)])
        self.done += 1
        telling.step(self.done, values["loss"])
        last = self.done == self.total
        if last or self.done % (fit.validate_every or max(1, self.total // 10)) == 0:
            found = self.validate(self.learner.measured)
            self.validations.append((self.done, found.iou))
            self._scores = found.as_dict()
            told = {"loss": values["loss"], "validation_loss": found.loss, "validation_IoU": found.iou}
            telling.mark(self.done, told | {f"at {found.best_threshold:.2f}": found.best_iou})
            values |= {f"validation_{name}": value for name, value in self._scores.items()}
        for log in logs:
            log.add(self.done, values)
        due = self.done % (fit.checkpoint_every or max(1, self.total // 20)) == 0
        if due or self._just_validated or self.over:
            by_the_first(self.fabric, self._save)

    def validate(self, network: nn.Module) -> Validation:
        """Scores of a network over the chips of the fold ``val``."""
        fit = self.config.fit
        if self.fabric.world_size > 1:  # batch norms of each process have seen batches of their own
            for buffer in network.buffers():
                torch.distributed.broadcast(buffer, src=0)
        return validate(
            network,
            self.folds.val,
            loss=self.learner.loss,
            batch_size=fit.batch_size,
            fabric=self.fabric,
            tta=fit.tta,
        )

    def write(self, name: str, network: nn.Module, scores: Mapping[str, Any]) -> None:
        """Write a model folder of the run."""
        write_network(
            self.folder, name, network, config=self.config, folds=self.folds, steps=self.done, scores=scores
        )


def _counted(config: TrainConfig) -> list[str]:
    return [name for name, weight in config.loss.weights.items() if weight > 0]


def check_same(before: TrainConfig, now: TrainConfig, folder: RunFolder) -> None:
    """Refuse to take up a run with settings that would have made another one.

    Raises
    ------
    TrainError
        Which settings differ.
    """
    old, new = _fixed(before), _fixed(now)
    differ = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    if differ:
        told = ", ".join(f"{key} was {old.get(key)!r} and is {new.get(key)!r}" for key in differ)
        raise TrainError(
            f"the run in {folder.path} has other settings: {told}; choose another folder, or go on with "
            "its own config.toml"
        )


def _fixed(config: TrainConfig) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for table, value in config.recorded().items():
        items = value.items() if isinstance(value, Mapping) else [("", value)]
        found |= {f"{table}.{key}".rstrip("."): item for key, item in items}
    return {key: item for key, item in found.items() if key not in _FREE}
