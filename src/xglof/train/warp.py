"""Chips turned, flipped and scaled, with all that belongs to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from xglof.engine.lattice import reflect
from xglof.train.batch import Sample
from xglof.train.labels import IGNORE


def turn(sample: Sample, flip: float, generator: torch.Generator, *, rot90: bool = False) -> Sample:
    """The chips flipped and turned, each by its own draw; no value changes, only its place.

    Parameters
    ----------
    sample
        Chips; squares where ``rot90``.
    flip
        Chance of a flip left to right, and of one top to bottom.
    generator
        Where the draws come from, on the CPU.
    rot90
        Turn by a multiple of 90 degrees before, each as likely.
    """
    chips = len(sample.label)
    down, across = torch.rand((2, chips), generator=generator) < flip
    quarters = torch.randint(4 if rot90 else 1, (chips,), generator=generator)
    # a quarter turn is a transposition and a flip: three steps at most reach every turn and flip of a square
    over = quarters % 2 == 1
    down = down ^ ((quarters == 1) | (quarters == 2))
    across = across ^ (quarters >= 2)

    def apply(values: Tensor) -> Tensor:
        values = _where(over, values.transpose(-1, -2), values)
        values = _where(down, values.flip(-2), values)
        return _where(across, values.flip(-1), values)

    return _with_each(sample, apply)


def _where(chosen: Tensor, moved: Tensor, values: Tensor) -> Tensor:
    """``moved`` in the chosen chips, else ``values``; ``chosen`` lies on the CPU."""
    if not chosen.any():
        return values
    return torch.where(chosen.to(values.device).view(-1, *[1] * (values.ndim - 1)), moved, values)


def _with_each(sample: Sample, apply: Callable[[Tensor], Tensor]) -> Sample:
    """A sample of whose planes each, ``(B, [C,] H, W)``, is replaced."""
    return replace(
        sample,
        inputs={name: apply(values) for name, values in sample.inputs.items()},
        label=apply(sample.label),
        seen={name: apply(mask) for name, mask in sample.seen.items()},
    )


def rescale(sample: Sample, scale: tuple[float, float], chance: float, generator: torch.Generator) -> Sample:
    """Some of the chips enlarged or shrunk about a drawn place, on as many pixels as before.

    Values are interpolated bilinearly between pixels that have data; a pixel without takes the values of the
    nearest, which stand for nodata. Labels are those of the nearest pixel. Beyond the edge of a chip lies its
    reflection (:func:`xglof.engine.lattice.reflect`), labelled 255.

    Parameters
    ----------
    sample
        Chips.
    scale
        Smallest and largest factor of enlargement; drawn evenly, of both axes the same.
    chance
        Chance that a chip is scaled; the others stay as they are, to the bit.
    generator
        Where the draws come from, on the CPU.
    """
    draws = torch.rand((len(sample.label), 4), generator=generator, dtype=torch.float64).numpy()
    chosen = np.flatnonzero(draws[:, 0] < chance)
    if not len(chosen):
        return sample
    factor = scale[0] + (scale[1] - scale[0]) * draws[chosen, 1]
    rows, cols = (
        _Line.of(size, factor, draws[chosen, axis])
        for size, axis in zip(sample.label.shape[-2:], (2, 3), strict=True)
    )
    return _resample(sample, torch.from_numpy(chosen).to(sample.label.device), rows, cols)


@dataclass(frozen=True, slots=True)
class _Line:
    """Where the pixels of one axis come from, ``(chips, size)``: place (fractional) and nearest pixel."""

    place: npt.NDArray[np.float64]
    nearest: npt.NDArray[np.int64]

    @classmethod
    def of(cls, size: int, factor: npt.NDArray[np.float64], draw: npt.NDArray[np.float64]) -> _Line:
        """A chip's axis seen through a frame that holds ``size / factor`` of its pixels, put at random."""
        begin = draw * (size - size / factor)
        place = begin[:, np.newaxis] + (np.arange(size) + 0.5) / factor[:, np.newaxis] - 0.5
        return cls(place, np.floor(place + 0.5).astype(np.int64))

    @property
    def size(self) -> int:
        return int(self.place.shape[1])

    @property
    def inside(self) -> npt.NDArray[np.bool_]:
        return (self.nearest >= 0) & (self.nearest < self.size)

    @property
    def unit(self) -> npt.NDArray[np.float64]:
        """The place as ``grid_sample`` counts: -1 and 1 are the centres of the outer pixels."""
        return 2 * self.place / max(self.size - 1, 1) - 1


def _resample(sample: Sample, chosen: Tensor, rows: _Line, cols: _Line) -> Sample:
    device = sample.label.device
    pixel = torch.from_numpy(
        reflect(rows.nearest, rows.size)[:, :, np.newaxis] * cols.size
        + reflect(cols.nearest, cols.size)[:, np.newaxis]
    ).to(device)
    inside = torch.from_numpy(rows.inside[:, :, np.newaxis] & cols.inside[:, np.newaxis]).to(device)
    grid = torch.from_numpy(
        np.stack(np.broadcast_arrays(cols.unit[:, np.newaxis], rows.unit[..., np.newaxis]), -1)
    )

    def nearest(planes: Tensor) -> Tensor:
        """Planes ``(n, [C,] H, W)`` at the nearest pixels."""
        index = pixel if planes.ndim == 3 else pixel[:, np.newaxis].expand_as(planes)
        return planes.flatten(-2).gather(-1, index.flatten(-2)).view_as(planes)

    def replaced(planes: Tensor, by: Tensor) -> Tensor:
        return planes.index_copy(0, chosen, by)

    label = nearest(sample.label[chosen])
    seen = {name: nearest(mask[chosen]) for name, mask in sample.seen.items()}
    inputs = {}
    for name, planes in sample.inputs.items():
        values, mask = planes[chosen], sample.seen[name][chosen]
        smooth = _bilinear(values, mask, grid.to(values))
        inputs[name] = replaced(planes, torch.where(seen[name][:, np.newaxis], smooth, nearest(values)))
    return replace(
        sample,
        inputs=inputs,
        label=replaced(sample.label, torch.where(inside, label, torch.full_like(label, IGNORE))),
        seen={name: replaced(mask, seen[name]) for name, mask in sample.seen.items()},
    )


def _bilinear(values: Tensor, seen: Tensor, grid: Tensor) -> Tensor:
    """Means of the pixels around each place that have data; nonsense where the nearest has none."""
    weight = seen[:, np.newaxis].to(values)
    planes = torch.cat([torch.where(seen[:, np.newaxis], values, 0.0), weight], dim=1)
    # with aligned corners its reflection has the period 2 (n - 1) of the engine's
    drawn = F.grid_sample(planes, grid, mode="bilinear", padding_mode="reflection", align_corners=True)
    return drawn[:, :-1] / drawn[:, -1:].clamp(min=0.125)  # the nearest pixel alone weighs a quarter or more
