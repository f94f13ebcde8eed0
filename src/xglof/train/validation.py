"""Scores of a network over chips, in inference's own way: no augmentation, norms as they are."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xglof.errors import TrainError
from xglof.evaluate.sweep import STEPS, histogram_counts, sweep_counts
from xglof.train.batch import ChipBatch, ChipSource, prepare
from xglof.train.module import Loss, check_logits, on_device

if TYPE_CHECKING:
    import pandas as pd
    from lightning.fabric import Fabric
    from torch import nn

_FLIPS: dict[str, tuple[tuple[int, ...], ...]] = {"none": ((),), "flips": ((), (-1,), (-2,), (-2, -1))}
#: Most chips that a message names.
_NAMED = 8


@dataclass(frozen=True, slots=True)
class Validation:
    """Scores of all pixels of all chips together; pixels that are ignored count nowhere.

    Attributes
    ----------
    loss
        Mean over the chips.
    iou, precision, recall
        At a threshold of 0.5, of pixels that chips share as often as they are in one.
    best_iou, best_threshold
        At the threshold where the IoU is highest, from 0.05 to 0.95 by 0.05.
    chips
        How many.
    """

    loss: float
    iou: float
    precision: float
    recall: float
    best_iou: float
    best_threshold: float
    chips: int

    def as_dict(self) -> dict[str, float]:
        """The numbers by name; a share of nothing is ``nan``."""
        return {name: getattr(self, name) for name in self.__slots__}


def batches_of(index: pd.DataFrame, size: int, *, rank: int = 0, world: int = 1) -> list[NDArray[np.int64]]:
    """Rows of every chip once: batches of one set of modalities, in the order in which chips are stored.

    Parameters
    ----------
    index
        Of a :class:`xglof.train.batch.ChipSource`.
    size
        Most chips of a batch.
    rank, world
        This process among those that share the chips.
    """
    batches = []
    for _, group in index.groupby("modalities", sort=True):
        rows = group.sort_values(["source", "block"], kind="stable").index.to_numpy(np.int64)
        batches += [rows[first : first + size] for first in range(0, len(rows), size)]
    return batches[rank::world]


def reading_ahead(source: ChipSource, batches: list[NDArray[np.int64]]) -> Iterator[ChipBatch]:
    """The batches in order; the next is read while one is used."""
    with ThreadPoolExecutor(1, "xglof-validation") as pool:
        waiting = [pool.submit(source.read, rows.tolist()) for rows in batches[:1]]
        for number in range(len(batches)):
            current = waiting.pop()
            if number + 1 < len(batches):
                waiting.append(pool.submit(source.read, batches[number + 1].tolist()))
            yield current.result()


def validate(
    network: nn.Module,
    source: ChipSource,
    *,
    loss: Loss,
    batch_size: int,
    fabric: Fabric,
    tta: Literal["none", "flips"] = "none",
) -> Validation:
    """The scores of a network over all chips of a source.

    Parameters
    ----------
    network
        On the device, not wrapped for several processes; left in evaluation mode.
    source, loss, batch_size
        Chips, the loss of logits and labels, and most chips at a time.
    fabric
        Devices, precision and processes: each takes its share, the counts are added.
    tta
        ``"flips"``: the mean of the logits over four flips.

    Raises
    ------
    TrainError
        The network's answer at a labelled pixel is not finite; names the chips. Or no pixel of lake is
        labelled and observed: an IoU would be of nothing.
    """
    network.eval()
    counts = np.zeros((2, STEPS + 1), np.int64)
    lost = chips = 0.0
    bad: list[int] = []
    mine = batches_of(source.index, batch_size, rank=fabric.global_rank, world=fabric.world_size)
    with torch.inference_mode():
        for batch in reading_ahead(source, mine):
            sample = prepare(source.spec, on_device(batch, fabric.device))
            with fabric.autocast():
                logits = flipped_mean(network, dict(sample.inputs), tta)
            check_logits(source.spec, logits, sample.label)
            lost += float(loss(logits, sample.label)[0]) * len(batch.rows)
            chips += len(batch.rows)
            unknown = ~torch.isfinite(logits[:, 0]) & sample.valid
            bad += batch.rows[unknown.flatten(1).any(dim=1).to(batch.rows.device)].tolist()
            counts += _counts(logits, sample.label)
    sums: Any = torch.tensor([lost, chips, len(bad)], dtype=torch.float64, device=fabric.device)
    table: Any = torch.from_numpy(counts).to(fabric.device)
    sums, table = (fabric.all_reduce(part, reduce_op="sum") for part in (sums, table))
    if sums[2]:
        raise TrainError(_blame(source.index["chip_id"].iloc[bad].tolist(), int(sums[2])))
    if not table[1].any():
        raise TrainError(
            f"none of the {int(sums[1])} chips of validation has a pixel of lake that is labelled and "
            "observed, so no IoU can be told; put chips with lake into the fold val, or raise [fit] "
            "validate_chips"
        )
    return _scores(float(sums[0] / sums[1]), int(sums[1]), table.cpu().numpy())


def _blame(chips: list[str], count: int) -> str:
    named = ", ".join(chips[:_NAMED]) or "which another process names"
    more = f" and {count - _NAMED} more" if len(chips) > _NAMED else ""
    return (
        f"in validation the network's answer to {count} chips is not finite: {named}{more}; look at these "
        "chips, lower the learning rate or train in precision '32'"
    )


def _counts(logits: Tensor, label: Tensor) -> NDArray[np.int64]:
    probability = torch.sigmoid(logits.float())[:, 0]
    return histogram_counts(probability.cpu().numpy(), label.cpu().numpy())


def flipped_mean(network: nn.Module, inputs: dict[str, Tensor], tta: Literal["none", "flips"]) -> Tensor:
    """Logits (B, K, H, W) float32, the mean over the flips."""
    logits = []
    for dims in _FLIPS[tta]:
        turned = {name: values.flip(dims) if dims else values for name, values in inputs.items()}
        answer = network(turned)
        logits.append((answer.flip(dims) if dims else answer).float())
    return torch.stack(logits).mean(dim=0) if len(logits) > 1 else logits[0]


def _scores(loss: float, chips: int, counts: NDArray[np.int64]) -> Validation:
    thresholds = [number / 20 for number in range(1, 20)]
    table = sweep_counts(counts, thresholds=thresholds)
    at_half = table.sel(threshold=0.5)
    iou = table["iou"].values
    best = int(np.argmax(iou))
    return Validation(
        loss=loss,
        iou=float(at_half["iou"]),
        precision=float(at_half["precision"]),
        recall=float(at_half["recall"]),
        best_iou=float(iou[best]),
        best_threshold=thresholds[best],
        chips=chips,
    )
