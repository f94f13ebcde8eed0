"""What comes out of a training: the averages, measured and chosen, and model folders with their account."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.metadata import version
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from xglof._version import __version__
from xglof.errors import TrainError
from xglof.models.spec import ModelSpec
from xglof.train.average import recalibrate_batch_norm
from xglof.train.config import TrainConfig
from xglof.train.earlier import PLACES_FILE, places_text
from xglof.train.folds import Folds
from xglof.train.module import RECALIBRATE
from xglof.train.run_folder import RunFolder, by_the_first, saying_what_stays
from xglof.train.soup import soup

if TYPE_CHECKING:
    from torch import nn

    from xglof.train.run import Run


def finish(run: Run) -> dict[str, Any]:
    """Scores of the best and the averaged weights; the average that is wanted is written.

    Parameters
    ----------
    run
        After its last step. All its processes take part.

    Raises
    ------
    TrainError
        A file can't be written.
    """
    step, iou = run.validations[run.best_place]
    metrics: dict[str, Any] = {"steps": run.done, "best": {"step": step, "iou": iou}}
    networks = averaged(run)
    scores = {}
    for name, network in networks.items():
        settings = run.config.average
        if settings.recalibrate and (settings.settle == 1 or name == "soup"):  # whose snapshots may be older
            measure_norms(run, network, RECALIBRATE)
        scores[name] = run.validate(network).as_dict()
    if scores:
        chosen = max(scores, key=lambda name: scores[name]["iou"])
        metrics |= {"average": {"kind": chosen, **scores[chosen]}, "averages": scores}
        account = {"average": chosen, "averages": scores, **scores[chosen]}
        by_the_first(run.fabric, lambda: run.write("average", networks[chosen], account))
    plain: dict[str, Any] = _json_numbers(metrics)
    return plain


def averaged(run: Run) -> dict[str, nn.Module]:
    """The averages that may be written, by name: all, or the one that the config names."""
    wanted = run.config.average.use
    found = {name: average.network for name, average in run.learner.averages.items() if average.count}
    if run.config.average.soup and wanted in ("soup", "best"):
        network = run.folds.train.spec.build()
        network.load_state_dict(soup([run.folder.snapshot(step) for step in run.best_steps]))
        found["soup"] = network.to(run.fabric.device)
    return found if wanted == "best" else {wanted: found[wanted]}


def measure_norms(run: Run, network: nn.Module, purpose: int) -> None:
    """Measure batch norms again, over chips drawn from all blocks, as a short walk would see a few alone.

    Each process has its own batches; the first one's statistics are written.
    """
    settings, drawing = run.config.average, run.learner.drawing
    if settings.recalibrate_drop is not None:
        augmentation = replace(drawing.augmentation, drop=settings.recalibrate_drop)
        drawing = replace(drawing, augmentation=augmentation)
    sets = run.folds.train.index["modalities"].nunique()
    batches = settings.recalibrate + sets  # of each set of modalities, one may not be full
    chips = batches * run.config.fit.batch_size * run.fabric.world_size
    loader = run.loader_of(chips, purpose)

    def inputs() -> Iterator[dict[str, Tensor]]:
        for number, batch in enumerate(islice(loader.batches(0), settings.recalibrate)):
            yield dict(drawing.sample(batch, number, purpose=purpose).inputs)

    with run.fabric.autocast():
        recalibrate_batch_norm(network, inputs())


def write_network(
    folder: RunFolder,
    name: str,
    network: nn.Module,
    *,
    config: TrainConfig,
    folds: Folds,
    steps: int,
    scores: Mapping[str, Any],
) -> None:
    """Write a model folder with ``split.json``, ``places.csv`` and ``training.json`` beside the weights.

    Raises
    ------
    TrainError
        It could not be written; the one before it stays.
    """
    from xglof.models.folder import write_model

    extra: dict[str, object] = {
        "split.json": folds.split.to_json(),
        "training.json": account(config, folds, steps, scores),
        PLACES_FILE: places_text(folds.places),
    }
    with saying_what_stays(f"the model {name}", folder):
        write_model(folds.train.spec, network, folder.path / name, extra=extra)


def account(config: TrainConfig, folds: Folds, steps: int, scores: Mapping[str, Any]) -> dict[str, Any]:
    """How weights came about, without what only this machine knows: paths and addresses.

    Parameters
    ----------
    config, folds
        Of the training.
    steps
        That were taken.
    scores
        In validation.
    """
    tables = config.to_mapping()
    names = ("chips", "augment", "loss", "optimiser", "average", "fit")
    start = config.model.start
    return {
        "name": config.name,
        "start": start if start in ("random", "own") else "given weights" if start else "random",
        "seed": config.seed,
        "steps": steps,
        "validation": _json_numbers(scores),
        "chips": {"train": len(folds.train), "val": len(folds.val), "sha256": folds.digest},
        "split": {"scheme": folds.split.scheme, "sha256": folds.split.digest},
        "split_check": folds.report.splitlines(),
        "earlier_stages": list(folds.notes),
        "recipe": {name: tables[name] for name in names},
        "versions": {"xglof": __version__, "torch": torch.__version__, "lightning": version("lightning")},
    }


def _json_numbers(value: Any) -> Any:
    """Numbers as JSON has them, which knows no NaN."""
    if isinstance(value, Mapping):
        return {key: _json_numbers(item) for key, item in value.items()}
    return None if isinstance(value, float) and value != value else value


def check_average(config: TrainConfig, spec: ModelSpec) -> None:
    """Refuse averages that could not be written in the end.

    Raises
    ------
    TrainError
        The one to write is none of those that the config asks for, or may not have begun when the training
        ends; or norms are to be measured without a modality that the model requires.
    """
    settings = config.average
    if settings.settle < 1 and not settings.recalibrate:
        raise TrainError("[average] settle measures norms over recalibrate batches; give 1 or more of them")
    taken = {"ema": settings.ema > 0, "swa": settings.swa_start < 1, "soup": settings.soup > 0}
    if settings.use != "best" and not taken[settings.use]:
        raise TrainError(
            f"[average] use is {settings.use!r}, which is not taken; set {settings.use}"
            f"{'_start' if settings.use == 'swa' else ''} or leave use out"
        )
    if settings.use == "swa" and config.fit.patience:
        raise TrainError(
            "[average] use is 'swa', and [fit] patience may end the training before that mean begins; leave "
            "out one of the two"
        )
    if settings.recalibrate_drop is not None:
        taken_in = [source.modality for source in spec.inputs]
        if others := sorted(set(settings.recalibrate_drop) - set(taken_in)):
            raise TrainError(
                f"[average] recalibrate_drop names {', '.join(others)}; {spec.name!r} takes "
                f"{', '.join(taken_in)}"
            )
        try:
            replace(config.augment, drop=settings.recalibrate_drop).check(spec)
        except TrainError as error:
            raise TrainError(f"[average] recalibrate_drop: {error}") from error
