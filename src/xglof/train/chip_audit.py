"""``audit_chips``: the label audit over chips of any source, by the rule that cubes are audited by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from xglof.bands import MODALITIES
from xglof.engine.layers import class_probabilities
from xglof.errors import TrainError
from xglof.evaluate.audit_rule import COUNTS, OUTCOMES, VOTES, AuditRule, ChipView, count_chips
from xglof.evaluate.audited import Audit
from xglof.train.batch import ChipBatch, prepare
from xglof.train.parquet import ParquetChips

if TYPE_CHECKING:
    from xglof.models.spec import ModelSpec
    from xglof.train.batch import ChipSource

#: From a batch to its probabilities of lake ``(B, H, W)``.
Predictor = Callable[[ChipBatch], NDArray[np.floating[Any]]]
_BATCH = 16
_SELECTED = (
    "The chips come from Parquet shards. Those that CryoSentinel publishes were selected by MNDWI itself, by "
    "its agreement with the labels (IoU from 0.2, up to 3 times the water of the label, up to 5% of a chip "
    "without lakes): on them it is no independent witness, and the labels that it contradicts most are not "
    "among them."
)


def audit_chips(
    source: ChipSource, probability: NDArray[np.floating[Any]] | Predictor, *, rule: AuditRule | None = None
) -> Audit:
    """Audit of the labels of chips by a rule fixed in advance, over all of them. Computes, batch by batch.

    Parameters
    ----------
    source
        Chips with ``B03``, ``B11`` and, by the default rule, ``B08``; they need not be made for the model
        that is audited with. A chip without Sentinel-2 is counted, and MNDWI says nothing of it.
    probability
        Probabilities of lake ``(chips, H, W)`` in the order of the source's index, or what makes those
        of a batch, such as :func:`predictor`. NaN where the model has no answer: such pixels count nowhere.
    rule
        The rule; ``AuditRule()`` by default.

    Returns
    -------
    xglof.evaluate.audited.Audit
        With all chips that have a pixel which counts, by their ``chip_id``. Chips that overlap count a pixel
        more than once, in the raw scores as in the others. Of Parquet shards, its ``notes`` say that MNDWI
        selected those that CryoSentinel publishes.

    Raises
    ------
    TrainError
        A source without the bands of the rule, or probabilities of another shape.
    """
    rule = rule or AuditRule()
    bands = {name for each in source.spec.inputs for name in each.bands}
    if missing := [name for name in rule.bands if name not in bands]:
        raise TrainError(
            f"the audit needs {', '.join(missing)}, which {source.spec.name!r} does not take; make the chips "
            "for a model that takes them, and pass the probabilities of the one that is audited"
        )
    given = _Given(source, probability, tuple(dict.fromkeys((*rule.bands, *MODALITIES["S2L2A"].names))))
    if not callable(probability) and len(probability) != len(source.index):
        raise TrainError(
            f"{len(probability)} maps of probability for {len(source.index)} chips; give one each"
        )
    index = source.index
    counts = np.zeros((len(index), len(COUNTS)), dtype=np.int64)
    side = source.read([0]).label.shape[-1] if len(index) else 1
    pixel_m = index["side_m"] / side
    for rows in _batches(index, rule, pixel_m):
        counts[rows] = count_chips(given.view(rows), rule, float(pixel_m.iloc[rows[0]]))
    told = {"chip": index["chip_id"], "time": index["time"]}
    told |= {name: index[name] for name in ("longitude", "latitude")}
    told |= {"pixel_m": pixel_m, "pixel_m2": pixel_m**2}
    chips = pd.DataFrame(told | dict(zip(COUNTS, counts.T, strict=True)))
    rows = np.flatnonzero(counts[:, : len(OUTCOMES) * len(VOTES)].sum(axis=1))
    notes = (_SELECTED,) if isinstance(source, ParquetChips) else ()
    return Audit(rule, chips.iloc[rows].reset_index(drop=True), _Views(given, rows), notes)


def predictor(spec: ModelSpec, *, device: str = "cpu") -> Predictor:
    """What makes a model's probabilities of lake for a batch of chips, NaN where it has no answer.

    Parameters
    ----------
    spec
        The model; the chips hold its bands.
    device
        As torch names it.
    """

    def predict(batch: ChipBatch) -> NDArray[np.float32]:
        missing = [each for each in spec.inputs if each.modality not in batch.modalities]
        if any(not each.optional for each in missing) or all(e in missing for e in spec.inputs if e.has_time):
            return np.full(tuple(batch.label.shape), np.nan, np.float32)
        sample = prepare(spec, replace(batch, label=torch.zeros_like(batch.label)))
        with torch.inference_mode():
            inputs = {name: values.to(device) for name, values in sample.inputs.items()}
            lake = class_probabilities(spec, spec.load(device)(inputs).float())[:, spec.classes.index("lake")]
        found = np.array(lake.cpu().numpy(), dtype=np.float32)
        found[~sample.valid.numpy()] = np.nan
        return found

    return predict


@dataclass(frozen=True, slots=True, eq=False)
class _Given:
    """Chips and their probabilities."""

    source: ChipSource
    probability: NDArray[np.floating[Any]] | Predictor
    bands: tuple[str, ...]

    def view(self, rows: NDArray[np.intp]) -> ChipView:
        """What there is to see of rows of one set of modalities, ``(chips, y, x)``."""
        batch = self.source.read(rows.tolist())
        label = batch.label.numpy()
        found = self.probability(batch) if callable(self.probability) else self.probability[rows]
        if found.shape != label.shape:
            raise TrainError(
                f"probabilities have the shape {found.shape}; expected {label.shape}, chips first"
            )
        taken = {name for each in self.source.spec.inputs for name in each.bands}
        nothing = np.zeros(label.shape, np.uint16)
        planes = {name: plane.numpy() for name, plane in batch.planes.items()}
        return ChipView(
            label=label,
            probability=np.asarray(found),
            bands={name: planes.get(name, nothing) for name in self.bands if name in taken},
            flags=planes.get("flags"),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Views:
    """From a row of an audit to what there is to see of its chip."""

    given: _Given
    rows: NDArray[np.intp]

    def __call__(self, row: int) -> ChipView:
        view = self.given.view(self.rows[[row]])
        flags = None if view.flags is None else view.flags[0]
        bands = {name: band[0] for name, band in view.bands.items()}
        return ChipView(view.label[0], view.probability[0], bands, flags)


def _batches(index: pd.DataFrame, rule: AuditRule, pixel_m: pd.Series) -> Iterator[NDArray[np.intp]]:
    """Rows that can be read and counted together, neighbours in the store after each other."""
    width_px = [rule.width_px(metres) for metres in pixel_m]  # the lengths themselves differ everywhere
    keys = pd.DataFrame(
        {"modalities": index["modalities"].to_numpy(), "width": width_px, "block": index["block"].to_numpy()}
    )
    for _, part in keys.groupby(["modalities", "width"], sort=True):
        rows = part.sort_values("block", kind="stable").index.to_numpy()
        for start in range(0, len(rows), _BATCH):
            yield rows[start : start + _BATCH]
