"""What is the same for every block of a segmentation, as a frozen value that travels in the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from xglof.engine.lattice import Axis
from xglof.models.spec import ModelSpec

Augmentation = Literal["flip"] | None
#: What a segmentation may hold beside ``lake`` and ``flags``.
Layer = Literal["probability", "logit", "classes", "entropy", "tile_mismatch"]
#: First pixel, and the one after the last.
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Job:
    """Model, lattice, numerics and what is to come out.

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
        Model of the device and build of torch (:func:`xglof.engine.device.platform`).
    tta
        ``"flip"`` averages the logits over the four flips.
    layers
        Among :data:`Layer`, what is wanted beside the lake probability.
    """

    spec: ModelSpec
    y: Axis
    x: Axis
    batch: int
    device: str
    platform: str
    tta: Augmentation = None
    layers: tuple[Layer, ...] = ()

    @property
    def precision(self) -> str:
        """Arithmetic of the network's matrix products; logits are summed in float32 everywhere."""
        return "float32" if self.device == "cpu" else "bfloat16"

    @property
    def flips(self) -> tuple[tuple[int, ...], ...]:
        """The flips of test-time augmentation, as the axes turned."""
        return ((),) if self.tta is None else ((), (-1,), (-2,), (-2, -1))

    @property
    def planes(self) -> dict[str, slice]:
        """Where each layer lies in a block's result; ``flags`` and ``probability`` come first."""
        depth = {"logit": len(self.spec.classes)}
        found, begin = {"flags": slice(0, 1), "probability": slice(1, 2)}, 2
        for layer in (name for name in self.layers if name != "probability"):
            found[layer] = slice(begin, begin + depth.get(layer, 1))
            begin = found[layer].stop
        return found

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the values of ``classes``: where every class has a logit of its own, land is the rest."""
        own = self.spec.classes
        return own if self.spec.activation == "softmax" else ("land", *own)

    @property
    def numerics(self) -> str:
        """The numerics key: results are equal to the bit only under one key (design note, rule 3)."""
        return f"{self.platform}; {self.precision}; batch {self.batch}; threads 1; tta {self.tta}"
