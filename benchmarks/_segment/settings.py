"""What a comparison is run with, and what follows from it: spec, device, batch and lattice."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from xglof.engine.lattice import Axis, stride_of
from xglof.models.registry import TINY_DEMO, get_spec
from xglof.models.spec import ModelSpec

#: Blocks are cut at multiples of their side on the absolute grid: rasters begin at one of 2016 px.
ALIGNED_PX = 2016
#: Absolute index of the first column and row, near 28 N in UTM zone 45.
_COLUMN, _ROW = 24 * ALIGNED_PX, -154 * ALIGNED_PX
_RANDOM = re.compile(r"terramind-(tiny|small|base|large)-random")


@dataclass(frozen=True, slots=True)
class Settings:
    """One comparison.

    Attributes
    ----------
    model
        A shipped model, or ``terramind-{tiny,small,base,large}-random``.
    side
        Of the square raster, pixels.
    overlap
        Share of its width that a window has in common with the next.
    device
        ``"cpu"``, ``"cuda:N"``, or ``"auto"``.
    batch
        Windows a forward pass; ``None`` for the engine's own choice.
    chunks
        Side of the small blocks, pixels.
    folder
        Where files go.
    """

    model: str
    side: int
    overlap: float
    device: str
    batch: int | None
    chunks: int
    folder: Path

    def resolved(self) -> Settings:
        """The same with the device named and the batch that the engine takes there."""
        import torch

        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        device = "cuda:0" if device == "cuda" else device
        return replace(self, device=device, batch=self.batch or _engine_batch(find_spec(self.model), device))

    @property
    def kind(self) -> str:
        """``"cpu"`` or ``"cuda"``, once resolved."""
        return self.device.partition(":")[0]

    def axes(self) -> tuple[Axis, Axis]:
        """The lattice of windows along y and x."""
        window = find_spec(self.model).window
        column, row = first_pixels(ALIGNED_PX)
        stride = stride_of(window, self.overlap)
        return Axis(self.side, row, window, stride), Axis(self.side, column, window, stride)

    def ideal_windows(self) -> int:
        """How many windows of the lattice cover the raster."""
        down, across = self.axes()
        return len(down.starts(0, self.side)) * len(across.starts(0, self.side))


def first_pixels(aligned: int) -> tuple[int, int]:
    """Absolute index of the first column and row of a raster, multiples of ``aligned``."""
    return _COLUMN // aligned * aligned, _ROW // aligned * aligned


def find_spec(name: str) -> ModelSpec:
    """The spec of a shipped model, or of a TerraMind segmenter with random weights, for its time alone."""
    random = _RANDOM.fullmatch(name)
    if random is None:
        return get_spec(name)
    return ModelSpec(
        name=name,
        factory="xglof.models.terramind:segmenter",
        kwargs=(
            ("size", random[1]),
            ("modalities", tuple(source.modality for source in TINY_DEMO.inputs)),
            ("num_classes", 1),
        ),
        inputs=TINY_DEMO.inputs,
        resolution=TINY_DEMO.resolution,
        caveat="random weights: for its time alone",
    )


def _engine_batch(spec: ModelSpec, device: str) -> int:
    """The batch that the engine takes by itself, as the numerics key of a lazy result says it."""
    import xglof
    from _segment.raster import memory_cube

    numerics = str(xglof.segment(memory_cube(spec, spec.window), model=spec, device=device).attrs["numerics"])
    found = re.search(r"\bbatch (\d+)", numerics)
    if found is None:
        raise LookupError(f"the numerics key {numerics!r} names no batch; give --batch-size")
    return int(found[1])
