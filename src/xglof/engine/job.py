"""What is the same for every block of a segmentation, as a frozen value that travels in the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from xglof.engine.lattice import Axis
from xglof.models.spec import ModelSpec

Augmentation = Literal["flip"] | None
#: First pixel, and the one after the last.
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Job:
    """Model, lattice and numerics.

    Attributes
    ----------
    spec
        The model.
    y, x
        The lattice along the two axes of the whole raster, north-up.
    batch
        Windows a forward pass, always filled up.
    device
        ``"cpu"`` or ``"cuda:N"``.
    platform
        Model of the device and build of torch.
    tta
        ``"flip"`` averages the logits over the four flips.
    """

    spec: ModelSpec
    y: Axis
    x: Axis
    batch: int
    device: str
    platform: str
    tta: Augmentation = None

    @property
    def numerics(self) -> str:
        """The numerics key: results are equal to the bit only under one key (design note, rule 3)."""
        return f"{self.platform}; float32; batch {self.batch}; threads 1; tta {self.tta}"
