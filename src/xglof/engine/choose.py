"""Which windows of a block run, and with which modalities: what has nothing to say is never run."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from xglof.cube.flags import Flag
from xglof.engine.job import Job
from xglof.engine.lattice import Axis
from xglof.engine.stage import Staged

#: A window of a block: time step, row and column of the block's own part of the lattice.
Window = tuple[int, int, int]
#: Numbers of the modalities that a window is run with.
Inputs = tuple[int, ...]
#: The windows to run, by what they are run with; both in order, so that sums over a pixel have one.
Chosen = dict[Inputs, list[Window]]

_USED = {"S2L2A": Flag.s2_used, "S1RTC": Flag.s1_used, "S1GRD": Flag.s1_used}


def choose_windows(job: Job, staged: Staged) -> Chosen:
    """The windows that hold a pixel with an answer to give, each with the modalities seen on enough of it."""
    worth = per_window(job, staged.worth) > 0
    needed = max(job.spec.min_share * job.spec.window**2, 1)
    counts = [np.broadcast_to(per_window(job, m.observed), worth.shape) for m in staged.modalities]
    kept = np.stack([
        (count >= needed) | (not modality.source.optional)
        for modality, count in zip(staged.modalities, counts, strict=True)
    ])  # fmt: skip
    sensors = [number for number, m in enumerate(staged.modalities) if m.source.has_time]
    blind = ~kept[sensors].any(axis=0)
    for number in sensors:  # sensors below the share are better than no sensor at all
        kept[number] |= blind & (counts[number] > 0)
    chosen: Chosen = {}
    for t, row, col in np.argwhere(worth).tolist():
        inputs = tuple(np.flatnonzero(kept[:, t, row, col]).tolist())
        chosen.setdefault(inputs, []).append((t, row, col))
    return dict(sorted(chosen.items()))


def per_window(job: Job, mask: Tensor) -> npt.NDArray[np.int32]:
    """Number of true pixels in each window, (T, rows, columns) int32."""
    side = job.spec.window
    # from running sums: a sum over unfolded windows copies every pixel once a window
    totals = F.pad(mask.cumsum(-1, dtype=torch.int32).cumsum(-2, dtype=torch.int32), (1, 0, 1, 0))
    rows = totals[..., side :: job.y.stride, :] - totals[..., : -side : job.y.stride, :]
    counts = rows[..., side :: job.x.stride] - rows[..., : -side : job.x.stride]
    return np.asarray(counts.cpu().numpy())


def used_bits(job: Job, staged: Staged, chosen: Chosen) -> Tensor:
    """Bits of the sensors that at least one window over a pixel was given, where the sensor saw it.

    (T, rows, cols) int32 over the block, on the device.
    """
    times, height, width = staged.worth.shape
    used = torch.zeros(staged.of_block(staged.worth).shape, dtype=torch.int32, device=staged.worth.device)
    down = _covered(job.y, job.spec.window, height, staged.inner[0]).to(used.device)
    across = _covered(job.x, job.spec.window, width, staged.inner[1]).to(used.device)
    for number, modality in enumerate(staged.modalities):
        if not modality.source.has_time:
            continue
        given = torch.zeros((times, down.shape[1], across.shape[1]))
        for inputs, windows in chosen.items():
            if number in inputs:
                given[tuple(torch.tensor(windows).T)] = 1
        over = (down @ given.to(used.device) @ across.T) > 0  # sums of zeros and ones: above 0 or not
        seen = staged.of_block(modality.observed) & over
        used |= torch.where(seen, int(_USED[modality.source.modality]), 0)
    return used


def _covered(axis: Axis, window: int, size: int, inner: slice) -> Tensor:
    """Which pixels of the block lie in which windows of its lattice, (pixels, windows) float32 of 0 and 1."""
    pixels = torch.arange(size)[inner, None]
    starts = torch.arange(0, size - window + 1, axis.stride)
    return ((pixels >= starts) & (pixels < starts + window)).float()
