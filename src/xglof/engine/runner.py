"""A block through a network: the only module of the engine that knows torch.

:func:`segment_block` is what a task of the graph runs. Everything in it depends on nothing but the block's
pixels and the :class:`Job`, so a block can be computed anywhere, again, with the same bits.
"""

from __future__ import annotations

import functools
import operator
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.special import expit
from torch import Tensor, nn

from xglof.bands import MODALITIES
from xglof.cube.flags import Flag
from xglof.engine.blend import UNITY, window_weights
from xglof.engine.job import Augmentation, Job, Span
from xglof.errors import ModelError
from xglof.models.spec import ModelInput, ModelSpec

#: A window of a block: time step, row and column of the block's own part of the lattice.
Window = tuple[int, int, int]
#: The windows to run, in lattice order, each with the numbers of the inputs it is run with.
Chosen = dict[Window, tuple[int, ...]]
Task = tuple[tuple[int, ...], list[tuple[Window, tuple[int, ...]]]]

#: Flips of test-time augmentation, as the axes turned.
_FLIPS: dict[Augmentation, tuple[tuple[int, ...], ...]] = {
    None: ((),),
    "flip": ((), (-1,), (-2,), (-2, -1)),
}
_USED = {"S2L2A": Flag.s2_used, "S1RTC": Flag.s1_used, "S1GRD": Flag.s1_used}
_DEVICE_LOCKS: dict[str, threading.Lock] = {}
_DEFAULT_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class _Staged:
    """One modality of a block on the device, windows laid out without gaps.

    ``values`` (T, C, Y, X) float32 standardised; ``observed`` (T, Y, X) bool. ``T`` is 1 without time.
    """

    source: ModelInput
    values: Tensor
    observed: Tensor

    def at(self, time: int) -> int:
        """Where a time step lies: what has no time holds for all."""
        return time if self.values.shape[0] > 1 else 0


def segment_block(
    job: Job, rows: Span, cols: Span, arrays: Mapping[str, npt.NDArray[np.generic]]
) -> npt.NDArray[np.float32]:
    """Lake probability and the sensors used over one block.

    Parameters
    ----------
    job
        Model, lattice and numerics.
    rows, cols
        The block, in pixels of the raster, end excluded.
    arrays
        By variable name, ``(time, Y, X)`` or ``(Y, X)`` over all pixels that the block's windows read
        (:meth:`xglof.engine.lattice.Axis.reads`), in the cube's units and nodata.

    Returns
    -------
    numpy.ndarray
        ``(2, time, rows, cols)`` float32: the probability, NaN where unobserved, and the sum of the bits
        ``s2_used`` and ``s1_used`` of :class:`xglof.cube.flags.Flag`.

    Raises
    ------
    ModelError
        If the network returns another shape than its spec says, or a value that is not finite.
    """
    starts = job.y.starts(*rows), job.x.starts(*cols)
    origin = starts[0][0], starts[1][0]
    with torch.inference_mode():
        index = _source_index(job, rows, cols, starts)
        staged = [
            _stage(source, arrays, index, job.device)
            for source in job.spec.inputs
            if source.bands[0] in arrays  # the cube has an optional modality whole or not at all
        ]
        seen = {stage.source: stage.observed for stage in staged}
        flags = arrays["flags"][..., index[0][:, None], index[1]] if "flags" in arrays else None
        observed = observed_pixels(job.spec, seen, flags)
        chosen = _choose_inputs(job, staged, observed)
        logits = _run_windows(job, staged, chosen)
        probability = _activate(job.spec, _blend(job, logits, rows, cols, observed.shape[0], origin))
        used = _used_bits(job, staged, chosen, rows, cols, origin)
    inner = [slice(s[0] - o, s[1] - o) for s, o in zip((rows, cols), origin, strict=True)]
    # a pixel whose only sensor was left out of every window over it has no answer of its own
    answered = observed[:, *inner].cpu().numpy() & (used > 0)
    return np.stack([np.where(answered, probability, np.nan), np.where(answered, used, 0)]).astype(np.float32)


def _source_index(
    job: Job, rows: Span, cols: Span, starts: tuple[range, range]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Which pixel of the arrays stands at each pixel of the windows laid out, reflections included."""
    down, across = (
        axis.source(first[0], first[-1] + axis.window) - axis.reads(*span)[0]
        for axis, span, first in zip((job.y, job.x), (rows, cols), starts, strict=True)
    )
    return down, across


def _stage(
    source: ModelInput,
    arrays: Mapping[str, npt.NDArray[np.generic]],
    index: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    device: str,
) -> _Staged:
    """Copy a modality to the device, standardise it there and lay its windows out."""
    values, observed = standardise(source, arrays, device)
    return _Staged(source, _lay_out(values, index), _lay_out(observed, index))


def _lay_out(plane: Tensor, index: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]) -> Tensor:
    """The pixels at ``index``: a view inside the raster, a copy where edges are reflected."""
    for axis, numbers in zip((-2, -1), index, strict=True):
        if np.all(np.diff(numbers) == 1):
            plane = plane.narrow(axis, int(numbers[0]), len(numbers))
        else:
            plane = plane.index_select(axis, torch.from_numpy(numbers).to(plane.device))
    return plane


def standardise(
    source: ModelInput, arrays: Mapping[str, npt.NDArray[np.generic]], device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    """A modality as a network takes it, for inference and training alike.

    Parameters
    ----------
    source
        The modality, with its statistics and fill.
    arrays
        By variable name, ``(time, y, x)`` or ``(y, x)`` in the cube's units and nodata.
    device
        Where the result lies; each band is copied there once.

    Returns
    -------
    values : torch.Tensor
        ``(time, band, y, x)`` float32, standardised, nodata filled; ``time`` is 1 where the arrays have none.
    observed : torch.Tensor
        ``(time, y, x)`` bool: every band has data.
    """
    nodata = {band.name: band.nodata for band in MODALITIES[source.modality].bands}
    shape = np.broadcast_shapes(*(arrays[name].shape for name in source.bands))
    times, height, width = shape if len(shape) == 3 else (1, *shape)
    values = torch.empty((times, len(source.bands), height, width), dtype=torch.float32, device=device)
    observed = torch.ones((times, height, width), dtype=torch.bool, device=device)
    for number, name in enumerate(source.bands):  # one band at a time: no second copy of them all
        plane = torch.from_numpy(arrays[name].astype(np.float32, copy=False)).to(device)
        good = torch.isfinite(plane) & (plane != nodata[name])  # a NaN nodata differs from everything
        filled = torch.where(good, plane, source.fill[number])
        values[:, number] = (filled - source.mean[number]) / source.std[number]
        observed &= good
    return values, observed


def observed_pixels(
    spec: ModelSpec, seen: Mapping[ModelInput, Tensor], flags: npt.NDArray[np.generic] | None
) -> Tensor:
    """Pixels with an answer: seen by a sensor and by every required one, and not flagged.

    Parameters
    ----------
    spec
        The model: which modalities are required, and which flags forbid an answer.
    seen
        ``(time, y, x)`` bool by input, as :func:`standardise` returns it.
    flags
        ``(time, y, x)`` or ``(y, x)`` uint16, or ``None``.

    Returns
    -------
    torch.Tensor
        ``(time, y, x)`` bool.
    """
    sensors = {source: mask for source, mask in seen.items() if source.has_time}
    observed = torch.stack(list(sensors.values())).any(dim=0)
    for source, mask in sensors.items():
        if not source.optional:
            observed = observed & mask
    if flags is not None:
        forbidden = np.uint16(functools.reduce(operator.or_, (Flag[n] for n in spec.unobserved_when), 0))
        clear = torch.from_numpy((flags.astype(np.uint16) & forbidden) == 0)
        observed = observed & clear.to(observed.device)
    return observed


def _choose_inputs(job: Job, staged: list[_Staged], observed: Tensor) -> Chosen:
    """For each window that has an observed pixel, the modalities to run it with, in lattice order."""
    worth = _per_window(job, observed) > 0
    needed = job.spec.min_share * job.spec.window**2
    seen = [_per_window(job, stage.observed) for stage in staged]
    chosen: Chosen = {}
    for time, row, col in torch.nonzero(worth).tolist():
        counts = [int(count[stage.at(time), row, col]) for count, stage in zip(seen, staged, strict=True)]
        kept = [
            not stage.source.optional or count >= max(needed, 1)
            for count, stage in zip(counts, staged, strict=True)
        ]
        if not any(keep and stage.source.has_time for keep, stage in zip(kept, staged, strict=True)):
            # sensors below the share are better than no sensor at all
            kept = [
                keep or (stage.source.has_time and count > 0)
                for keep, count, stage in zip(kept, counts, staged, strict=True)
            ]
        chosen[time, row, col] = tuple(number for number, keep in enumerate(kept) if keep)
    return chosen


def _per_window(job: Job, mask: Tensor) -> Tensor:
    """Number of true pixels in each window, (T, rows, columns) int64 on the host."""
    side = job.spec.window
    # from running sums: a sum over unfolded windows copies every pixel once a window
    totals = F.pad(mask.cumsum(-1).cumsum(-2), (1, 0, 1, 0))
    rows = totals[..., side :: job.y.stride, :] - totals[..., : -side : job.y.stride, :]
    return (rows[..., side :: job.x.stride] - rows[..., : -side : job.x.stride]).cpu()


def _run_windows(job: Job, staged: list[_Staged], chosen: Chosen) -> dict[Window, Tensor]:
    """Logits (K, W, W) of each chosen window on the device, averaged over the flips."""
    flips = _FLIPS[job.tta]
    groups: dict[tuple[int, ...], list[tuple[Window, tuple[int, ...]]]] = {}
    for window, inputs in chosen.items():
        groups.setdefault(inputs, []).extend((window, flip) for flip in flips)
    tasks = [
        (inputs, items[begin : begin + job.batch])
        for inputs, items in groups.items()
        for begin in range(0, len(items), job.batch)
    ]
    network = job.spec.load(job.device)
    logits: dict[Window, Tensor] = {}
    for (_, items), output in zip(
        tasks, _map_batches(job, lambda task: _forward(job, network, staged, *task), tasks), strict=True
    ):
        # in the order of the list, whatever batch ended first: sums over flips keep their order
        for (window, _), logit in zip(items, output, strict=False):
            logits[window] = logits[window] + logit if window in logits else logit
    return {window: logit / len(flips) for window, logit in logits.items()}


def _forward(
    job: Job,
    network: nn.Module,
    staged: list[_Staged],
    inputs: tuple[int, ...],
    items: list[tuple[Window, tuple[int, ...]]],
) -> Tensor:
    """One forward pass over up to ``batch`` windows, filled up to ``batch`` by repeating the last."""
    filled = items + items[-1:] * (job.batch - len(items))
    side = job.spec.window
    batch: dict[str, Tensor] = {}
    for stage in (staged[number] for number in inputs):
        crops = []
        for (time, row, col), flip in filled:
            top, left = row * job.y.stride, col * job.x.stride
            crop = stage.values[stage.at(time), :, top : top + side, left : left + side]
            crops.append(crop.flip(flip) if flip else crop)
        batch[stage.source.modality] = torch.stack(crops)
    with torch.inference_mode():
        output = network(batch)
    _check_output(job, output)
    pairs = zip(output[: len(items)].float(), items, strict=True)
    return torch.stack([logit.flip(flip) if flip else logit for logit, (_, flip) in pairs])


def _check_output(job: Job, output: object) -> None:
    expected = (job.batch, len(job.spec.classes), job.spec.window, job.spec.window)
    if not isinstance(output, Tensor) or tuple(output.shape) != expected:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ModelError(
            f"model {job.spec.name!r} returned {got}, expected a tensor (batch, classes, rows, columns) = "
            f"{expected}; mend its forward or its spec"
        )
    if not torch.isfinite(output).all():
        raise ModelError(
            f"model {job.spec.name!r} returned a value that is not finite; check its weights and the "
            "statistics of its spec"
        )


def _blend(
    job: Job, logits: Mapping[Window, Tensor], rows: Span, cols: Span, times: int, origin: Span
) -> Tensor:
    """Weighted sum of the windows' logits over the block, (T, K, rows, cols) float32.

    Product and sum stay two operations (a fused one rounds once, and only in part of an array), and windows
    come in lattice order, so a pixel's bits depend on its windows alone.
    """
    shape = (times, len(job.spec.classes), rows[1] - rows[0], cols[1] - cols[0])
    total = torch.zeros(shape, dtype=torch.float32, device=job.device)
    weights = _weights(job).to(job.device)
    for window, logit in sorted(logits.items(), key=lambda item: item[0]):
        inside, block = _overlap(job, window, rows, cols, origin)
        total[window[0], :, *block] += weights[inside] * logit[:, *inside]
    return total


def _weights(job: Job) -> Tensor:
    """Weights of a window over both axes, float32, exact: integers over 2**24."""
    down, across = (torch.from_numpy(window_weights(a.window, a.stride)) for a in (job.y, job.x))
    return (down[:, None] * across).float() / UNITY**2


def _overlap(
    job: Job, window: Window, rows: Span, cols: Span, origin: Span
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a window and the block meet: slices into the window, and into the block."""
    inside, block = [], []
    for axis, span, first, number in zip((job.y, job.x), (rows, cols), origin, window[1:], strict=True):
        start = first + number * axis.stride
        begin, end = max(start, span[0]), min(start + axis.window, span[1])
        inside.append(slice(begin - start, end - start))
        block.append(slice(begin - span[0], end - span[0]))
    return (inside[0], inside[1]), (block[0], block[1])


def _activate(spec: ModelSpec, logits: Tensor) -> npt.NDArray[np.float32]:
    """Probability of the class ``lake``, (T, rows, cols) float32.

    On the host by SciPy's element-wise loop: torch's vectorised sigmoid gives other bits at the end of an
    array than in its middle.
    """
    values = logits.cpu().numpy()
    lake = values[:, spec.classes.index("lake")]
    if spec.activation == "sigmoid":
        return np.asarray(expit(lake), dtype=np.float32)
    if spec.activation == "softmax":
        others = np.exp(values.astype(np.float64) - lake[:, np.newaxis])
        return np.asarray(1 / others.sum(axis=1), dtype=np.float32)
    return np.array(lake)


def _used_bits(
    job: Job, staged: list[_Staged], chosen: Chosen, rows: Span, cols: Span, origin: Span
) -> npt.NDArray[np.uint16]:
    """Bits of the sensors that at least one window over a pixel was given, where the sensor saw it."""
    times = max(stage.values.shape[0] for stage in staged)
    used = np.zeros((times, rows[1] - rows[0], cols[1] - cols[0]), dtype=np.uint16)
    for window, inputs in chosen.items():
        inside, block = _overlap(job, window, rows, cols, origin)
        top, left = window[1] * job.y.stride, window[2] * job.x.stride
        for stage in (staged[number] for number in inputs if staged[number].source.has_time):
            area = (
                slice(top + inside[0].start, top + inside[0].stop),
                slice(left + inside[1].start, left + inside[1].stop),
            )
            seen = stage.observed[window[0], *area].cpu().numpy()
            used[window[0], *block] |= np.where(seen, np.uint16(_USED[stage.source.modality]), np.uint16(0))
    return used


def _map_batches(job: Job, forward: Callable[[Task], Tensor], tasks: list[Task]) -> Iterable[Tensor]:
    """Run the batches in order: one at a time on a GPU, one a core on a CPU."""
    if job.device == "cpu":
        return _one_thread_pool(os.getpid()).map(forward, tasks)
    with _DEVICE_LOCKS.setdefault(job.device, threading.Lock()):
        return [forward(task) for task in tasks]


@functools.cache
def _one_thread_pool(process: int) -> ThreadPoolExecutor:
    """Threads that each run torch on one core, one pool a process (a forked child makes its own).

    The number of threads inside an operation changes its bits; the number of operations side by side does
    not. So every batch on a CPU runs on one thread, and as many batches run as there are cores.
    """
    return ThreadPoolExecutor(len(os.sched_getaffinity(0)), "xglof-forward", initializer=_work_on_one_thread)


def _work_on_one_thread() -> None:
    """Give this thread one core of torch's, and leave what torch gives to other threads as it was."""
    # set_num_threads sets this thread's number and the one that new threads begin with; another thread sets
    # the latter back. Asked for its number first, a thread does not take the default again later.
    with _DEFAULT_LOCK:
        default = torch.get_num_threads()
        torch.set_num_threads(1)
        restore = threading.Thread(target=torch.set_num_threads, args=(default,))
        restore.start()
        restore.join()
