"""How a raster is cut into blocks, and what memory a block takes: no torch, no pixel."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral

from xglof.engine.job import Job
from xglof.engine.lattice import Axis
from xglof.errors import ModelError

#: Side of a block, pixels: a multiple of 224 and of its usual strides 168, 112 and 56.
BLOCK = 2016
#: Sides that are tried, the largest that fits a stated memory is taken.
_SIDES = (2016, 1344, 1008, 672, 448, 336, 224)
#: Pixels that a block may be larger, so that no sliver is left beside it.
_SLIVER = 224
#: Batches that a block should fill, so that little of the last one is filling.
_BATCHES_A_BLOCK = 8
#: What a process takes with its first block, whatever its size (measured: some 20 MB).
_ONCE_BYTES = 32_000_000

Sides = int | tuple[int, int] | Mapping[str, int] | None


@dataclass(frozen=True, slots=True)
class Blocks:
    """Sizes of the blocks along time, y and x."""

    times: tuple[int, ...]
    rows: tuple[int, ...]
    cols: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PixelBytes:
    """What a pixel of a cube's variables takes as it is, and as float32 for the network.

    Attributes
    ----------
    step, step_bands
        Bytes and bands of a pixel in each time step.
    once, once_bands
        The same of what has no time.
    """

    step: int
    step_bands: int
    once: int
    once_bands: int

    def raw(self, steps: int) -> int:
        """Bytes of a pixel with all its time steps."""
        return self.step * steps + self.once

    def standardised(self, steps: int) -> int:
        """Bytes of the same as float32, with what finds the observed pixels (measured: some 40 a pixel)."""
        return 4 * (self.step_bands * steps + self.once_bands) + 48 * steps


def cut_raster(
    job: Job,
    pixel: PixelBytes,
    steps: int,
    chunks: Sides,
    dims: tuple[str, str],
    budget: int | None,
    batches: int,
) -> Blocks:
    """Blocks as asked for, or of the usual size, or of the largest that fits a memory budget.

    Parameters
    ----------
    job
        The lattice and the batch.
    pixel
        Memory of a pixel.
    steps
        Time steps of the raster.
    chunks
        Side, (rows, columns), or a mapping with ``"time"`` and the names of the spatial dims; ``None`` to
        choose.
    dims
        Names of the rows' and columns' dims.
    budget
        Bytes that a task may take on the device, or ``None``.
    batches
        Forward passes that run at the same time.

    Raises
    ------
    ModelError
        If ``chunks`` is nothing of this kind, or the budget is too small.
    """
    asked = _sides(chunks, dims)
    tried = [(side, side, None) for side in _SIDES] if asked is None else [asked]
    for rows, cols, times in tried:
        spare = _SLIVER if asked is None else 0
        blocks = Blocks(
            _even(steps, times or _steps_a_block(job, rows, cols)),
            _on_lattice(job.y, rows, spare),
            _on_lattice(job.x, cols, spare),
        )
        if budget is None or task_bytes(job, pixel, blocks, batches) <= budget:
            return blocks
    assert budget is not None  # noqa: S101  (for the type checker)
    raise ModelError(_too_small(job, pixel, blocks, budget, batches, fixed=asked is not None))


def _sides(chunks: Sides, dims: tuple[str, str]) -> tuple[int, int, int | None] | None:
    if chunks is None:
        return None
    if isinstance(chunks, Mapping):
        if unknown := set(chunks) - {"time", *dims}:
            raise ModelError(
                f"chunks names {', '.join(sorted(unknown))}; the dims are time, {', '.join(dims)}"
            )
        sides = tuple(chunks.get(dim, BLOCK) for dim in dims)
        times = chunks.get("time")
    else:
        sides, times = chunks if isinstance(chunks, tuple) else (chunks, chunks), None
    given = [*sides, 1 if times is None else times]
    if len(sides) != 2 or not all(isinstance(size, Integral) and size > 0 for size in given):
        raise ModelError(
            f"chunks is {chunks!r}; give a number of pixels above 0, (rows, columns), or a mapping of dims "
            "to sizes"
        )
    return int(sides[0]), int(sides[1]), times if times is None else int(times)


def _steps_a_block(job: Job, rows: int, cols: int) -> int:
    """Time steps that together fill enough batches: a date of a small raster fills next to none."""
    windows = math.prod(
        (min(side, axis.size) + axis.window) // axis.stride
        for side, axis in zip((rows, cols), (job.y, job.x), strict=True)
    )
    return math.ceil(_BATCHES_A_BLOCK * job.batch / (windows * len(job.flips)))


def _even(size: int, side: int) -> tuple[int, ...]:
    return tuple(min(side, size - begin) for begin in range(0, size, side))


def _on_lattice(axis: Axis, side: int, spare: int) -> tuple[int, ...]:
    """Sizes of blocks cut at multiples of ``side`` on the absolute lattice, save where two fit in one.

    A block may be larger by ``spare``: the margin of a sliver beside it would cost more than the sliver.
    """
    edges = range(axis.first // side * side - axis.first + side, axis.size, side)
    sizes: list[int] = []
    for begin, end in itertools.pairwise([0, *edges, axis.size]):
        if sizes and sizes[-1] + end - begin <= side + spare:
            sizes[-1] += end - begin
        else:
            sizes.append(end - begin)
    return tuple(sizes)


def task_bytes(job: Job, pixel: PixelBytes, blocks: Blocks, batches: int) -> int:
    """Peak memory of a task above the network and the libraries, an upper estimate, bytes.

    On a CPU the chunks of the cube, their layout and all that is made of them; on a GPU what lies there.
    """
    steps, rows, cols = max(blocks.times), max(blocks.rows), max(blocks.cols)
    with_margin = _longest(job.y, blocks.rows) * _longest(job.x, blocks.cols)
    held = 2 if job.device == "cpu" else 1
    inputs: int = with_margin * (held * pixel.raw(steps) + pixel.standardised(steps))
    kinds = len(job.spec.classes)
    planes: int = max(part.stop for part in job.planes.values())
    doubles = 4 * kinds if job.spec.activation == "softmax" else 0  # exponentials are taken in float64
    result = rows * cols * steps * 4 * (2 * kinds + doubles + planes + 3)
    return _ONCE_BYTES + inputs + result + batches * _batch_bytes(job)


def _longest(axis: Axis, sizes: tuple[int, ...]) -> int:
    """Pixels under the windows of the largest block along an axis."""
    spans = itertools.pairwise(itertools.accumulate(sizes, initial=0))
    return max(high - low for low, high in (axis.extent(*span) for span in spans))


def _batch_bytes(job: Job) -> int:
    if job.spec.window_bytes is None:
        raise ModelError(
            f"model {job.spec.name!r} does not say what memory a window takes in a forward pass, so "
            "memory_budget can't be kept; measure it with benchmarks/block_memory.py --window and give it as "
            "ModelSpec(window_bytes=...)"
        )
    return job.batch * job.spec.window_bytes


def _too_small(job: Job, pixel: PixelBytes, blocks: Blocks, budget: int, batches: int, *, fixed: bool) -> str:
    """What does not fit, in numbers, and what would."""
    needed, forward = task_bytes(job, pixel, blocks, batches), batches * _batch_bytes(job)
    text = (
        f"a task of {max(blocks.times)} x {max(blocks.rows)} x {max(blocks.cols)} (time, y, x) takes about "
        f"{_gb(needed)}, of which {batches} forward passes of {job.batch} windows take {_gb(forward)}, and "
        f"memory_budget is {_gb(budget)}; "
    )
    if fixed and forward < budget / 2:
        return text + "pass smaller chunks, or none to have them chosen"
    fits = int(budget / 2 / forward * job.batch)
    if 2 <= fits < job.batch:
        return text + f"pass batch_size={fits}, which is another numerics key: compute the whole map with it"
    return text + f"give it at least {_gb(needed)}"


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
