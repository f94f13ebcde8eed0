"""``fit``: from a config to model folders, through a run that can be killed at any moment and goes on.

The loop is ours and Lightning's Fabric does what differs between machines: devices, processes, precision,
logs. Every random number follows from the seed and the number of the batch, and batches from the seed and
the epoch, so a run that goes on from a checkpoint takes the steps that an unbroken one would.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from xglof.errors import TrainError
from xglof.models.spec import ModelSpec
from xglof.progress import open_console
from xglof.train.config import TrainConfig, read_config
from xglof.train.run_folder import RunFolder, by_the_first
from xglof.train.start import spec_of
from xglof.train.telling import quiet_lightning

if TYPE_CHECKING:
    from lightning.fabric import Fabric
    from rich.console import Console
    from torch import nn


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training left.

    Attributes
    ----------
    folder
        Of the run.
    best
        Model folder of the weights that scored best in validation.
    average
        Model folder of the averaged weights; ``None`` where the config asks for no average, or the training
        ended before the only one began.
    metrics
        Scores in validation, by ``"best"`` and ``"average"``, with the step or kind they are of.
    """

    folder: Path
    best: Path
    average: Path | None
    metrics: Mapping[str, Any]


def fit(
    config: str | os.PathLike[str] | TrainConfig,
    *,
    resume: Literal["auto"] | bool = "auto",
    quiet: bool = False,
) -> Trained:
    """Model folders with trained weights, which :func:`xglof.segment` takes as its ``model``.

    Parameters
    ----------
    config
        The path of a TOML file, or a config.
    resume
        ``"auto"``: go on where the folder holds a run of the same config, which may also be finished.
        ``False``: refuse such a folder.
    quiet
        Print nothing.

    Raises
    ------
    TrainError
        A config, data or a split that can't be used, before the first step; a loss that is not finite, with
        the chips that made it; a file that can't be written, with the checkpoint that is good.
    """
    settled = config if isinstance(config, TrainConfig) else read_config(config)
    settled = TrainConfig.from_mapping(settled.to_mapping())  # types of what came from Python, absolute paths
    if resume not in ("auto", True, False):
        raise TrainError(f"resume is {resume!r}; give 'auto' or False")
    with ExitStack() as stack:
        stack.enter_context(quiet_lightning())
        stack.enter_context(_numerics(settled))
        spec = spec_of(settled)
        fabric = make_fabric(settled, spec)
        fabric.launch()
        console = None if quiet or not fabric.is_global_zero else open_console(stderr=True)
        return _train(fabric, settled, spec, bool(resume), console)


def make_fabric(config: TrainConfig, spec: ModelSpec) -> Fabric:
    """Lightning's Fabric for the devices, the processes and the precision of a config.

    Parameters
    ----------
    config
        Of the training.
    spec
        The model: where it can do without a modality, some weights have no gradient at some steps, which
        several processes must know.

    Raises
    ------
    TrainError
        What is asked for is not there.
    """
    from lightning.fabric import Fabric
    from lightning.fabric.strategies.ddp import DDPStrategy

    from xglof.train.precision import precision_plugin

    wanted = config.fit
    strategy: Any = wanted.strategy
    if strategy == "ddp" or (strategy == "auto" and wanted.devices not in (1, "1")):
        strategy = DDPStrategy(find_unused_parameters=any(source.optional for source in spec.inputs))
    machine: dict[str, Any] = {
        "accelerator": wanted.accelerator, "devices": wanted.devices, "strategy": strategy
    }  # fmt: skip
    try:
        fabric = Fabric(**machine)
        plugin = precision_plugin(wanted.precision, fabric.device.type)
        return fabric if plugin is None else Fabric(**machine, plugins=[plugin])
    except Exception as error:  # Lightning's own class derives from Exception alone
        if (
            not isinstance(error, ValueError | RuntimeError | TypeError)
            and _LIGHTNINGS not in type(error).__name__
        ):
            raise
        raise TrainError(
            f"[fit] asks for what is not there: {error} Leave accelerator, devices and strategy out to take "
            "what there is"
        ) from error


_LIGHTNINGS = "Misconfiguration"


@contextmanager
def _numerics(config: TrainConfig) -> Iterator[None]:
    """The caller's random state and threads are afterwards what they were; float32 is float32."""
    from xglof.engine.device import full_precision

    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), full_precision():
        try:
            if config.fit.threads is not None:
                torch.set_num_threads(config.fit.threads)
            yield
        finally:
            torch.set_num_threads(threads)


def _train(
    fabric: Fabric, config: TrainConfig, spec: ModelSpec, resume: bool, console: Console | None
) -> Trained:
    from xglof.train.folds import open_folds
    from xglof.train.outcome import finish
    from xglof.train.run import Run, check_same

    folder = RunFolder(Path(config.out))
    finished = _finished(folder, config)
    if finished is not None and resume:
        return finished
    folder.check(resume=resume)
    if folder.checkpoints():
        check_same(read_config(folder.config), config, folder)
    network = _checked_network(config, spec)
    folds = open_folds(config, spec)
    if console is not None:
        for note in folds.notes:
            console.print(note, soft_wrap=True)
    by_the_first(fabric, lambda: folder.begin(config.to_toml()))
    run = Run(fabric, config, folder, folds, network, console)
    run.take_steps()
    metrics = finish(run)
    by_the_first(fabric, lambda: folder.write_text("trained.json", json.dumps(metrics, indent=1) + "\n"))
    return _trained(folder, metrics)


def _checked_network(config: TrainConfig, spec: ModelSpec) -> nn.Module:
    """The network to begin with, after all refusals that need no data: the pass over it may take hours."""
    from xglof.train.learner import optimiser_of
    from xglof.train.losses import compose
    from xglof.train.outcome import check_average
    from xglof.train.start import first_network

    _check_augmented(config, spec)
    check_average(config, spec)
    compose(config.loss.weights, **asdict(config.loss.settings))
    network = first_network(config, spec)
    optimiser_of(config, network)
    return network


def _check_augmented(config: TrainConfig, spec: ModelSpec) -> None:
    """Refuse what can't be done to the model's inputs, and names of others, which would be passed over."""
    taken = [source.modality for source in spec.inputs]
    for key in ("jitter", "noise", "drop"):
        if others := sorted(set(getattr(config.augment, key)) - set(taken)):
            raise TrainError(
                f"[augment] {key} names {', '.join(others)}; {spec.name!r} takes {', '.join(taken)}"
            )
    config.augment.check(spec)


def _finished(folder: RunFolder, config: TrainConfig) -> Trained | None:
    """A training that is over already."""
    file = folder.path / "trained.json"
    if not file.is_file():
        return None
    from xglof.train.run import check_same

    check_same(read_config(folder.config), config, folder)
    return _trained(folder, json.loads(file.read_text(encoding="utf-8")))


def _trained(folder: RunFolder, metrics: Mapping[str, Any]) -> Trained:
    return Trained(folder.path, folder.best, folder.average if "average" in metrics else None, metrics)
