"""Chips on their way to a network: as the cube has them, and as the network takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pandas as pd
import torch
from torch import Tensor

from xglof.engine.stage import observed_pixels, standardise
from xglof.errors import TrainError
from xglof.models.spec import ModelSpec
from xglof.train.labels import IGNORE

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class ChipBatch:
    """Chips as the cube has them.

    Attributes
    ----------
    planes
        By variable name, ``(B, H, W)`` in the units, dtypes and nodata of the cube; ``flags`` among them
        where the cube has any. Pixels beyond the edge of a raster are its reflection, as in inference.
    label
        ``(B, H, W)`` uint8: 0 land, 1 lake, 255 ignored (not labelled, beyond the edge of the raster).
    rows
        Which rows of the source's index the chips are, ``(B,)`` int64.
    modalities
        The modalities that the network is given for all of these chips, in the order of the spec.
    """

    planes: Mapping[str, Tensor]
    label: Tensor
    rows: Tensor
    modalities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """Chips as a network takes them.

    Attributes
    ----------
    inputs
        By modality, ``(B, C, H, W)`` float32, standardised, nodata filled.
    label
        ``(B, H, W)`` uint8: 0 land, 1 lake, 255 ignored: not labelled, or not observed by any sensor that is
        among ``inputs``, or under a flag that the model takes no answer from.
    rows
        Which rows of the source's index the chips are, ``(B,)`` int64.
    seen
        By modality of ``inputs``, ``(B, H, W)`` bool: every band has data there. What a label is worth when a
        sensor is left out follows from it.
    """

    inputs: Mapping[str, Tensor]
    label: Tensor
    rows: Tensor
    seen: Mapping[str, Tensor]

    @property
    def valid(self) -> Tensor:
        """Pixels that losses and scores count, ``(B, H, W)`` bool."""
        return self.label != IGNORE


class ChipSource(Protocol):
    """Whatever chips can be read from by row number: cubes, Parquet shards."""

    @property
    def spec(self) -> ModelSpec:
        """The model that the chips are cut for."""

    @property
    def index(self) -> pd.DataFrame:
        """A row a chip; columns as in :mod:`xglof.train.sampling`."""

    def read(self, rows: Sequence[int]) -> ChipBatch:
        """The chips of these rows, in this order; rows of one set of modalities."""


def prepare(spec: ModelSpec, batch: ChipBatch) -> Sample:
    """Chips as the network takes them, by the code that prepares the windows of inference.

    Parameters
    ----------
    spec
        The model: bands, statistics, fills, and the flags under which there is no answer.
    batch
        Chips, on any device.

    Raises
    ------
    TrainError
        The batch has no modality that observes, or lacks one that the model requires.
    """
    sources = [source for source in spec.inputs if source.modality in batch.modalities]
    missing = [s.modality for s in spec.inputs if s not in sources and not s.optional]
    if missing or not any(source.has_time for source in sources):
        raise TrainError(
            f"chips with {', '.join(batch.modalities) or 'no modality'} can't train {spec.name!r}: it needs "
            f"{', '.join(missing) or 'a modality that observes'}"
        )
    staged = {source: standardise(source, batch.planes) for source in sources}
    seen = {source: mask for source, (_, mask) in staged.items()}
    observed = observed_pixels(spec, seen, batch.planes.get("flags"))
    ignored = torch.full_like(batch.label, IGNORE)
    return Sample(
        inputs={source.modality: values for source, (values, _) in staged.items()},
        label=torch.where(observed, batch.label, ignored),
        rows=batch.rows,
        seen={source.modality: mask for source, mask in seen.items()},
    )
