"""A block on its way to the device: laid out on the host, copied once, standardised there."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xglof.bands import MODALITIES
from xglof.cube.flags import Flag
from xglof.engine.job import Job, Span
from xglof.engine.lattice import Axis, reflect
from xglof.models.spec import ModelInput, ModelSpec

Arrays = Mapping[str, npt.NDArray[np.generic]]
#: Variables over a part of the raster, and time step, row and column of their first pixel.
Patch = tuple[tuple[int, int, int], Arrays]

_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class HostBlock:
    """The pixels that a block's windows see, reflections included, in one stretch of memory.

    Attributes
    ----------
    times, rows, cols
        The block, in time steps and pixels of the raster.
    corner
        Row and column of the raster at the first pixel of the planes; negative outside it.
    planes
        By variable name, ``(time, y, x)``, ``time`` 1 for what has none: views of ``buffer``.
    buffer
        uint8, pinned where it goes to a GPU.
    """

    times: Span
    rows: Span
    cols: Span
    corner: tuple[int, int]
    planes: dict[str, npt.NDArray[np.generic]]
    buffer: Tensor

    def to(self, device: str) -> dict[str, Tensor]:
        """The planes on a device, in a single copy; no copy on the CPU."""
        copied = self.buffer.to(device, non_blocking=True)
        base = self.buffer.numpy().ctypes.data
        planes = {}
        for name, plane in self.planes.items():
            begin = plane.ctypes.data - base
            kind = torch.from_numpy(np.empty(0, plane.dtype)).dtype
            planes[name] = copied[begin : begin + plane.nbytes].view(kind).view(plane.shape)
        return planes


def lay_out(job: Job, times: Span, rows: Span, cols: Span, patches: Iterable[Patch]) -> HostBlock:
    """Put patches side by side and reflect them where windows hang over the edge of the raster.

    Parameters
    ----------
    job
        The lattice.
    times, rows, cols
        The block; ends excluded.
    patches
        They hold, together, all pixels that the block's windows read
        (:meth:`xglof.engine.lattice.Axis.reads`); what they hold beyond is left out.
    """
    parts = list(patches)
    low, high = zip(*(_room(axis, span) for axis, span in ((job.y, rows), (job.x, cols))), strict=True)
    shape = (high[0] - low[0], high[1] - low[1])
    buffer, planes = _allocate(parts, times[1] - times[0], shape, pinned=job.device != "cpu")
    for place, arrays in parts:
        for name, array in arrays.items():
            _put(planes[name], array, (place[0] - times[0], place[1] - low[0], place[2] - low[1]))
    for plane in planes.values():
        _reflect_edges(plane, job.x, low[1], -1)
        _reflect_edges(plane, job.y, low[0], -2)
    return HostBlock(times, rows, cols, (low[0], low[1]), planes, buffer)


def _room(axis: Axis, span: Span) -> Span:
    """Pixels to make room for: the windows', and those that only a reflection reads."""
    extent, reads = axis.extent(*span), axis.reads(*span)
    return min(extent[0], reads[0]), max(extent[1], reads[1])


def _allocate(
    parts: list[Patch], steps: int, shape: tuple[int, int], *, pinned: bool
) -> tuple[Tensor, dict[str, npt.NDArray[np.generic]]]:
    kinds: dict[str, tuple[np.dtype[np.generic], tuple[int, ...]]] = {}
    for _, arrays in parts:
        for name, array in arrays.items():
            depth = steps if array.ndim == 3 else 1
            kinds.setdefault(name, (array.dtype.newbyteorder("="), (depth, *shape)))
    sizes = [dtype.itemsize * int(np.prod(full)) for dtype, full in kinds.values()]
    places = np.cumsum([0, *(-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes)]).tolist()
    buffer = torch.empty(places[-1], dtype=torch.uint8, pin_memory=pinned)
    memory = buffer.numpy()
    planes = {
        name: memory[begin : begin + size].view(dtype).reshape(full)
        for (name, (dtype, full)), begin, size in zip(kinds.items(), places[:-1], sizes, strict=True)
    }
    return buffer, planes


def _put(plane: npt.NDArray[np.generic], array: npt.NDArray[np.generic], place: tuple[int, int, int]) -> None:
    """Write the part of an array that a plane has room for; ``place`` may be outside it."""
    if array.ndim == 2:
        array, place = array[np.newaxis], (0, *place[1:])
    if plane.shape[0] == 1:
        array, place = array[:1], (0, *place[1:])
    into, out_of = [], []
    for begin, size, room in zip(place, array.shape, plane.shape, strict=True):
        first, last = max(begin, 0), min(begin + size, room)
        if first >= last:
            return
        into.append(slice(first, last))
        out_of.append(slice(first - begin, last - begin))
    plane[tuple(into)] = array[tuple(out_of)]


def _reflect_edges(plane: npt.NDArray[np.generic], axis: Axis, low: int, dim: int) -> None:
    """Fill what lies outside the raster along one axis with the pixels mirrored at its edge."""
    pixels = np.arange(low, low + plane.shape[dim])
    outside = np.flatnonzero((pixels < 0) | (pixels >= axis.size))
    if len(outside):
        along = np.moveaxis(plane, dim, 0)
        along[outside] = along[reflect(pixels[outside], axis.size) - low]


@dataclass(frozen=True, slots=True)
class Modality:
    """One input of the network over the windows of a block, on the device.

    ``values`` (T, C, Y, X) float32 standardised; ``observed`` (T, Y, X) bool. ``T`` is 1 without time.
    """

    source: ModelInput
    values: Tensor
    observed: Tensor


@dataclass(frozen=True, slots=True)
class Staged:
    """A block on the device: its modalities over all its windows, and of its own pixels what is known.

    ``worth`` (T, Y, X) bool, over the windows: has an answer to give. ``flags`` int32 and ``requested`` bool,
    (T, rows, cols) or with ``T`` 1: the block without its margin, which is ``inner`` of the windows.
    """

    modalities: tuple[Modality, ...]
    worth: Tensor
    flags: Tensor | None
    requested: Tensor | None
    inner: tuple[slice, slice]

    def of_block(self, plane: Tensor) -> Tensor:
        """The block's own part of a plane over its windows."""
        return plane[..., self.inner[0], self.inner[1]]


def stage(job: Job, block: HostBlock) -> Staged:
    """Copy a block to the device, standardise its bands and find the pixels that can have an answer."""
    planes = block.to(job.device)
    area, inner = [], []
    for axis, span, low in zip((job.y, job.x), (block.rows, block.cols), block.corner, strict=True):
        first, last = axis.extent(*span)
        area.append(slice(first - low, last - low))
        inner.append(slice(span[0] - first, span[1] - first))
    windows = {name: plane[:, *area] for name, plane in planes.items()}
    modalities = tuple(
        Modality(source, *standardise(source, windows))
        for source in job.spec.inputs
        if source.bands[0] in windows  # the cube has an optional modality whole or not at all
    )
    flags = bits(windows["flags"]) if "flags" in windows else None
    requested = windows.get("where")
    worth = observed_pixels(job.spec, {m.source: m.observed for m in modalities}, flags)
    if requested is not None:
        worth = worth & requested
    inside = (inner[0], inner[1])
    own = [None if plane is None else plane[:, *inside] for plane in (flags, requested)]
    return Staged(modalities, worth, own[0], own[1], inside)


def bits(flags: Tensor) -> Tensor:
    """Flags as int32: torch has next to no operations on uint16."""
    return flags.to(torch.int32)


def standardise(source: ModelInput, planes: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """A modality as a network takes it, for inference and training alike.

    Parameters
    ----------
    source
        The modality, with its statistics and fill.
    planes
        By variable name, ``(time, y, x)`` or ``(y, x)`` in the cube's units and nodata, on the device.

    Returns
    -------
    values : torch.Tensor
        ``(time, band, y, x)`` float32, clipped, nodata filled, standardised; ``time`` is 1 where the planes
        have none.
    observed : torch.Tensor
        ``(time, y, x)`` bool: every band has data.
    """
    nodata = {band.name: band.nodata for band in MODALITIES[source.modality].bands}
    first = planes[source.bands[0]]
    times = first.shape[0] if first.ndim == 3 else 1
    shape = (times, len(source.bands), *first.shape[-2:])
    values = torch.empty(shape, dtype=torch.float32, device=first.device)
    observed = torch.ones((times, *first.shape[-2:]), dtype=torch.bool, device=first.device)
    for number, name in enumerate(source.bands):  # one band at a time: no second copy of them all
        plane = planes[name].to(torch.float32)
        good = torch.isfinite(plane) & (plane != nodata[name])  # a NaN nodata differs from everything
        if source.clip is not None:  # after nodata was found: clipped, it would look like data
            plane = plane.clamp(*source.clip)
        filled = torch.where(good, plane, source.fill[number])
        values[:, number] = (filled - source.mean[number]) / source.std[number]
        observed &= good
    return values, observed


def observed_pixels(spec: ModelSpec, seen: Mapping[ModelInput, Tensor], flags: Tensor | None) -> Tensor:
    """Pixels with an answer: seen by a sensor and by every required one, and not flagged.

    Parameters
    ----------
    spec
        The model: which modalities are required, and which flags forbid an answer.
    seen
        ``(time, y, x)`` bool by input, as :func:`standardise` returns it.
    flags
        ``(time, y, x)`` or ``(y, x)`` whole numbers of :class:`xglof.cube.flags.Flag`, or ``None``.

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
        forbidden = functools.reduce(operator.or_, (Flag[name] for name in spec.unobserved_when), Flag(0))
        observed = observed & ((bits(flags) & int(forbidden)) == 0)
    return observed
