"""A block through a network.

:func:`segment_block` is what a task of the graph runs. Everything in it depends on nothing but the block's
pixels and the :class:`Job`, so a block can be computed anywhere, again, with the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from xglof.cube.flags import Flag
from xglof.engine.blend import UNITY, window_weights
from xglof.engine.choose import Chosen, Inputs, Window, choose_windows, used_bits
from xglof.engine.device import full_precision, gpu_turn, in_order, place_for_a_block, platform
from xglof.engine.job import Job, Span
from xglof.engine.layers import class_probabilities, classes, entropy, says_lake
from xglof.engine.stage import HostBlock, Patch, Staged, lay_out, stage
from xglof.errors import ModelError


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows of one forward pass.

    ``index`` (batch, 3) is the time step, row and column of each, filled up by repeating the last; ``count``
    are no filling; ``flip`` is the number of the flip that the first is shown in.
    """

    inputs: Inputs
    index: Tensor
    count: int
    flip: int


def segment_block(
    job: Job, times: Span, rows: Span, cols: Span, patches: Iterable[Patch]
) -> npt.NDArray[np.float32]:
    """Flags, lake probability and the other layers of a job over one block.

    Parameters
    ----------
    job
        Model, lattice and numerics.
    times, rows, cols
        The block, in time steps and pixels of the raster, ends excluded.
    patches
        The variables, in the cube's units and nodata, over all pixels that the block's windows read
        (:func:`xglof.engine.stage.lay_out`).

    Returns
    -------
    numpy.ndarray
        ``(planes, time, rows, cols)`` float32 in the order of :attr:`Job.planes`: the bits of
        :class:`xglof.cube.flags.Flag` as a number, the rest NaN where there is no answer.

    Raises
    ------
    ModelError
        If this machine has other numerics than the job was made for; if the network returns another shape
        than its spec says, or a value that is not finite; if not even one row of windows fits the device.
    """
    here = platform(job.device) if _is_here(job.device) else "no such device"
    if here != job.platform:
        raise ModelError(
            f"this process has {here} for {job.device}, and the segmentation was made for {job.platform}: "
            "results would differ in the last bits. Call segment() while the Dask client is active, which "
            "asks the workers, or compute on workers like the one that called it"
        )
    return _segment(job, _network(job), times, rows, cols, list(patches))


def _is_here(device: str) -> bool:
    return device == "cpu" or int(device.partition(":")[2]) < torch.cuda.device_count()


def _network(job: Job) -> nn.Module:
    try:
        return job.spec.load(job.device)
    except torch.OutOfMemoryError as error:
        raise ModelError(f"{job.device} has no memory for model {job.spec.name!r}: {error}") from error


def _segment(
    job: Job, network: nn.Module, times: Span, rows: Span, cols: Span, patches: list[Patch]
) -> npt.NDArray[np.float32]:
    """The block; in two parts where it does not fit the device, which changes no bit."""
    begin, end = rows
    small = end - begin <= job.y.stride
    for alone in (False, True):  # on a GPU another block may take the room
        try:
            with torch.inference_mode(), full_precision(), place_for_a_block(job.device, alone=alone):
                return _on_device(job, network, lay_out(job, times, rows, cols, patches))
        except torch.OutOfMemoryError as error:
            reason = str(error).partition("\n")[0]  # the error itself would keep the tensors of its frames
        if job.device != "cpu":
            torch.cuda.empty_cache()
        if not small:
            middle = (begin + end) // 2
            parts = [
                _segment(job, network, times, span, cols, patches)
                for span in ((begin, middle), (middle, end))
            ]
            return np.concatenate(parts, axis=-2)
    less = f"pass batch_size={job.batch // 2}" if job.batch > 3 else "use another device"
    raise ModelError(
        f"{job.device} has no memory for one row of windows in batches of {job.batch} ({reason}); "
        f"{less}, which is another numerics key: compute the whole map with it"
    )


def _on_device(job: Job, network: nn.Module, block: HostBlock) -> npt.NDArray[np.float32]:
    staged = stage(job, block)
    chosen = choose_windows(job, staged)
    with gpu_turn(job.device):
        logits, votes = _blend(job, network, staged, chosen)
        result = _layers(job, staged, used_bits(job, staged, chosen), logits, votes)
        if result.is_cuda:
            host = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
            host.copy_(result, non_blocking=True)
            torch.cuda.current_stream().synchronize()
            return np.asarray(host.numpy())
    return np.asarray(result.numpy())


def _blend(job: Job, network: nn.Module, staged: Staged, chosen: Chosen) -> tuple[Tensor, Tensor]:
    """Weighted sums over the block of the windows' logits, (T, K, rows, cols), and of what they call lake.

    The latter is (T, rows, cols), empty where it is not asked for. Product and sum stay two operations (a
    fused one rounds once, and only in part of an array), and windows come in the order of :data:`Chosen`, so
    a pixel's bits depend on its windows alone.
    """
    times, height, width = staged.of_block(staged.worth).shape
    wanted = "tile_mismatch" in job.layers
    shape = (times, len(job.spec.classes), height, width)
    total = torch.zeros(shape, dtype=torch.float32, device=job.device)
    votes = torch.zeros((times, height, width) if wanted else (0,), dtype=torch.float32, device=job.device)
    weights = _weights(job).to(job.device)
    for (time, row, col), logit in _window_logits(job, network, staged, chosen):
        down, below = _meet(row * job.y.stride, job.spec.window, staged.inner[0])
        across, beside = _meet(col * job.x.stride, job.spec.window, staged.inner[1])
        total[time, :, below, beside] += weights[down, across] * logit[:, down, across]
        if wanted:
            votes[time, below, beside] += weights[down, across] * says_lake(job.spec, logit)[down, across]
    if not torch.isfinite(total).all():
        raise ModelError(
            f"model {job.spec.name!r} returned a value that is not finite; check its weights and the "
            "statistics of its spec"
        )
    return total, votes


def _weights(job: Job) -> Tensor:
    """Weights of a window over both axes, float32, exact: integers over 2**24."""
    down, across = (torch.from_numpy(window_weights(a.window, a.stride)) for a in (job.y, job.x))
    return (down[:, None] * across).float() / UNITY**2


def _meet(start: int, window: int, inner: slice) -> tuple[slice, slice]:
    """Where a window and the block meet along an axis: in the window, and in the block."""
    begin, end = max(start, inner.start), min(start + window, inner.stop)
    return slice(begin - start, end - start), slice(begin - inner.start, end - inner.start)


def _window_logits(
    job: Job, network: nn.Module, staged: Staged, chosen: Chosen
) -> Iterator[tuple[Window, Tensor]]:
    """Logits (K, W, W) of each chosen window in order, averaged over the flips."""
    views = tuple(
        m.values.unfold(2, job.spec.window, job.y.stride).unfold(3, job.spec.window, job.x.stride)
        for m in staged.modalities
    )
    forward = partial(_forward, job, network, staged, views)
    windows = (window for each in chosen.values() for window in each)
    seen, total = 0, torch.empty(0)
    batches = _batches(job, chosen)
    for batch, output in zip(batches, in_order(job.device, forward, batches), strict=True):
        for logit in output[: batch.count]:
            total = logit if seen == 0 else total + logit
            seen += 1
            if seen == len(job.flips):
                yield next(windows), total / seen
                seen = 0


def _batches(job: Job, chosen: Chosen) -> list[Batch]:
    """Every window in each of its flips, cut to batches."""
    batches = []
    for inputs, windows in chosen.items():
        shown = [window for window in windows for _ in job.flips]
        filled = shown + shown[-1:] * (-len(shown) % job.batch)
        index = torch.tensor(filled).to(job.device)  # once: each copy would wait for what runs
        batches += [
            Batch(inputs, index[i : i + job.batch], min(job.batch, len(shown) - i), i % len(job.flips))
            for i in range(0, len(shown), job.batch)
        ]
    return batches


def _forward(job: Job, network: nn.Module, staged: Staged, views: tuple[Tensor, ...], batch: Batch) -> Tensor:
    """Logits (batch, K, W, W) float32 of the windows of a batch, flips undone.

    ``views`` are the windows of each modality, (T, C, rows, columns, W, W), without a copy.
    """
    times, rows, cols = batch.index.T
    given = {}
    with torch.inference_mode(), _arithmetic(job):
        for modality, view in ((staged.modalities[number], views[number]) for number in batch.inputs):
            crops = view[times if view.shape[0] > 1 else torch.zeros_like(times), :, rows, cols]
            given[modality.source.modality] = _flipped(job, crops, batch.flip)
        output = network(given)
        _check_shape(job, output)
        return _flipped(job, output.float(), batch.flip)


def _flipped(job: Job, crops: Tensor, first: int) -> Tensor:
    """Crops each in its flip, which take turns from the ``first`` on; a flip undoes itself."""
    if len(job.flips) == 1:
        return crops
    turned = crops.clone()
    for number, flip in enumerate(job.flips[1:], 1):
        members = slice((number - first) % len(job.flips), None, len(job.flips))
        turned[members] = crops[members].flip(flip)
    return turned


def _arithmetic(job: Job) -> AbstractContextManager[object]:
    if job.precision == "float32":
        return nullcontext()
    return torch.autocast("cuda", dtype=getattr(torch, job.precision))


def _check_shape(job: Job, output: object) -> None:
    expected = (job.batch, len(job.spec.classes), job.spec.window, job.spec.window)
    if not isinstance(output, Tensor) or tuple(output.shape) != expected:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ModelError(
            f"model {job.spec.name!r} returned {got}, expected a tensor (batch, classes, rows, columns) = "
            f"{expected}; mend its forward or its spec"
        )


def _layers(job: Job, staged: Staged, used: Tensor, logits: Tensor, votes: Tensor) -> Tensor:
    """The layers of the job one upon the other, (planes, T, rows, cols) float32."""
    spec, planes = job.spec, job.planes
    depth = max(part.stop for part in planes.values())
    times, _, height, width = logits.shape
    result = torch.empty((depth, times, height, width), dtype=torch.float32, device=logits.device)
    probabilities = class_probabilities(spec, logits)
    result[planes["probability"]] = probabilities[:, spec.classes.index("lake")]
    if "logit" in planes:
        result[planes["logit"]] = logits.transpose(0, 1)
    if "classes" in planes:
        result[planes["classes"]] = classes(spec, logits)
    if "entropy" in planes:
        result[planes["entropy"]] = entropy(spec, probabilities)
    if "tile_mismatch" in planes:
        result[planes["tile_mismatch"]] = torch.where(says_lake(spec, logits), 1 - votes, votes)
    # a pixel whose only sensor was left out of every window over it has no answer of its own
    answered = staged.of_block(staged.worth) & (used > 0)
    result[1:].masked_fill_(~answered, float("nan"))
    flags = torch.where(answered, used, 0)
    if staged.flags is not None:
        flags = flags | staged.flags
    if staged.requested is not None:
        flags = torch.where(staged.requested, flags, flags | int(Flag.not_requested))
    result[planes["flags"]] = flags.float()
    return result
