"""Counts of a lake layer's pixels by footprint, block by block; only blocks with lakes are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from dask.delayed import delayed
from numpy.typing import NDArray

from xglof.cube.flags import Flag, check_flags
from xglof.errors import CubeError
from xglof.lakes.footprints import label_image
from xglof.lakes.layer import LAKE, UNOBSERVED, check_values, north_up

#: What is counted for each lake and time step: in the footprint (core) or in the buffered one. A pixel that
#: was not requested is in neither, but for ``core_not_requested``.
QUANTITIES = (
    "wet",  # buffered, lake
    "unobserved",  # buffered: 255; core: land under snow or ice too
    "core",
    "core_unobserved",
    "core_frozen",  # under snow or ice, whatever the map says
    "core_not_requested",
    "upright_edges",  # buffered: edges of wet pixels towards what is not the same lake, to the east or west
    "level_edges",  # the same, to the north or south
)
_FROZEN = Flag.snow | Flag.ice


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a block that lakes may touch.

    Attributes
    ----------
    rows, columns
        Where it lies in the layer.
    below, beside
        1 where a lake goes on beyond the block's southern or eastern edge: the neighbours there say whether
        that edge is the lake's. Elsewhere no pixel of the next block is read.
    numbers
        The footprints that count here, from 1.
    near
        The footprints whose buffers may compete for its pixels, from 1.
    """

    rows: slice
    columns: slice
    below: int
    beside: int
    numbers: NDArray[np.int32]
    near: NDArray[np.int32]

    @property
    def read(self) -> tuple[slice, slice]:
        """Rows and columns with the neighbours."""
        return (
            slice(self.rows.start, self.rows.stop + self.below),
            slice(self.columns.start, self.columns.stop + self.beside),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Its size without the neighbours."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


def flag_layer(seg: xr.Dataset | xr.DataArray, layer: xr.DataArray) -> xr.DataArray | None:
    """The flags of a segmentation, lazily, north-up and in the order of its lake layer.

    Parameters
    ----------
    seg
        Dataset, with ``flags`` (whole numbers) or without; a ``lake`` array has none.
    layer
        Its lake layer, as :func:`xglof.lakes.layer.lake_layer` returns it.

    Raises
    ------
    CubeError
        ``flags`` that are no whole numbers, have other meanings, or other dims than ``lake``.
    """
    if not isinstance(seg, xr.Dataset) or "flags" not in seg:
        return None
    flags = check_flags(seg["flags"])
    if set(flags.dims) != set(layer.dims):
        raise CubeError(f"'flags' has dims {flags.dims} and 'lake' {layer.dims}; expected the same")
    return north_up(flags.transpose(*layer.dims))


def requested(flags: xr.DataArray) -> xr.DataArray:
    """Where a segmentation was asked for: bool, without the bit ``not_requested``, lazily."""
    return (flags.astype("uint16", copy=False) & Flag.not_requested.value) == 0


def count_pixels(
    layer: xr.DataArray, flags: xr.DataArray | None, geometry: NDArray[Any], *, buffer_px: int
) -> xr.DataArray:
    """Counts of :data:`QUANTITIES` for every footprint and time step, lazily.

    Parameters
    ----------
    layer
        ``([time,] y, x)`` uint8, north-up.
    flags
        The same, whole numbers, or ``None``.
    geometry
        Polygons in the layer's CRS.
    buffer_px
        Width of the buffer.

    Returns
    -------
    xarray.DataArray
        ``(lake, [time,] quantity)`` int64, one chunk a time chunk of ``layer``.
    """
    import dask.array as da

    rows, columns = layer.dims[-2:]
    timed = layer if "time" in layer.dims else layer.expand_dims("time")
    if timed.chunks is None:
        timed = timed.chunk({"time": 1, rows: -1, columns: -1})
    bits = (
        None if flags is None else flags.broadcast_like(timed).transpose(*timed.dims).chunk(timed.chunksizes)
    )
    windows = _windows(timed, geometry, buffer_px)
    images = [_image_task(timed, window, geometry, buffer_px) for window in windows]
    shares = [window.numbers - 1 for window in windows]
    parts = []
    for times in _slices(timed.chunksizes["time"]):
        tasks = [_count_task(timed, bits, times, *each) for each in zip(windows, images, strict=True)]
        shape = (len(geometry), times.stop - times.start, len(QUANTITIES))
        total = delayed(_gathered, pure=True)(tasks, shares, shape)
        parts.append(da.from_delayed(total, shape, np.int64))
    counts = xr.DataArray(
        da.concatenate(parts, axis=1) if parts else np.zeros((len(geometry), 0, len(QUANTITIES)), np.int64),
        dims=("lake", "time", "quantity"),
        coords={"quantity": list(QUANTITIES)},
    )
    return counts.assign_coords(time=layer["time"]) if "time" in layer.dims else counts.isel(time=0)


def _slices(sizes: tuple[int, ...]) -> list[slice]:
    ends = np.cumsum(sizes, dtype=int).tolist()
    return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def _windows(timed: xr.DataArray, geometry: NDArray[Any], buffer_px: int) -> list[Window]:
    """Windows of the blocks that buffered footprints may touch."""
    boxes = _pixel_boxes(timed, geometry, buffer_px)
    rows, columns = timed.dims[-2:]
    windows = []
    for down in _slices(timed.chunksizes[rows]):
        in_row = (boxes[:, 0] < down.stop) & (boxes[:, 1] > down.start)
        if not in_row.any():
            continue
        for across in _slices(timed.chunksizes[columns]):
            here = in_row & (boxes[:, 2] < across.stop) & (boxes[:, 3] > across.start)
            if here.any():
                windows.append(_window(boxes, here, down, across, timed.shape[-2:], buffer_px))
    return windows


def _window(
    boxes: NDArray[np.int64],
    here: NDArray[np.bool_],
    down: slice,
    across: slice,
    shape: tuple[int, ...],
    buffer_px: int,
) -> Window:
    top, _, left, _ = (int(v) for v in boxes[here].min(axis=0))
    _, bottom, _, right = (int(v) for v in boxes[here].max(axis=0))
    rows = slice(max(top, down.start), min(bottom, down.stop))
    columns = slice(max(left, across.start), min(right, across.stop))
    reach = buffer_px + 1  # the neighbours' labels depend on what lies in their reach
    near = (boxes[:, 0] <= rows.stop + reach) & (boxes[:, 1] >= rows.start - reach)
    near &= (boxes[:, 2] <= columns.stop + reach) & (boxes[:, 3] >= columns.start - reach)
    return Window(
        rows,
        columns,
        below=int(rows.stop < min(bottom, shape[0])),
        beside=int(columns.stop < min(right, shape[1])),
        numbers=np.flatnonzero(here).astype(np.int32) + 1,
        near=np.flatnonzero(near).astype(np.int32) + 1,
    )


def _pixel_boxes(timed: xr.DataArray, geometry: NDArray[Any], buffer_px: int) -> NDArray[np.int64]:
    """First and last (excluded) row and column of each buffered footprint, not cut at the grid's edge."""
    import shapely

    west, south, east, north = shapely.bounds(geometry).T if len(geometry) else np.empty((4, 0))
    matrix = ~timed.odc.geobox.transform
    top, bottom = matrix.f + matrix.e * north, matrix.f + matrix.e * south
    left, right = matrix.c + matrix.a * west, matrix.c + matrix.a * east
    low, high = np.floor(np.stack([top, left])) - buffer_px, np.ceil(np.stack([bottom, right])) + buffer_px
    return np.stack([low[0], high[0], low[1], high[1]], axis=1).astype(np.int64)


def _image_task(timed: xr.DataArray, window: Window, geometry: NDArray[Any], buffer_px: int) -> Any:
    """Delayed labels of a window, drawn once for all dates: the graph carries polygons, not images."""
    grid = timed.odc.geobox[window.read]
    shapes = geometry[window.near - 1]
    return delayed(label_image, pure=True)(shapes, window.near, grid.transform, tuple(grid.shape), buffer_px)


def _count_task(
    timed: xr.DataArray, bits: xr.DataArray | None, times: slice, window: Window, image: Any
) -> Any:
    """Delayed counts of a window at one time chunk."""
    part = (times, *window.read)
    cut_bits = None if bits is None else bits.data[part]
    return delayed(count_window, pure=True)(timed.data[part], cut_bits, image, window.numbers, window.shape)


def count_window(
    values: NDArray[np.uint8],
    bits: NDArray[np.integer] | None,
    image: tuple[NDArray[np.int32], NDArray[np.int32]],
    numbers: NDArray[np.int32],
    shape: tuple[int, int],
) -> NDArray[np.int64]:
    """Counts of :data:`QUANTITIES` in one window; pixels of ``Flag.not_requested`` belong to no footprint.

    Parameters
    ----------
    values, bits
        ``(time, y, x)`` uint8 lake layer and flags of any whole type, one row and column of neighbours more
        than ``shape`` where there are any.
    image
        ``(core, buffered)`` labels, ``(y, x)`` int32, of the same size.
    numbers
        Labels to count.
    shape
        Size of the window without its neighbours.

    Returns
    -------
    numpy.ndarray
        ``(numbers, time, quantity)`` int64.
    """
    place = np.zeros(int(max(numbers.max(), image[1].max(initial=0))) + 1, np.int64)
    place[numbers] = np.arange(1, len(numbers) + 1)
    labels = place[image[0]], place[image[1]]
    inner = np.s_[: shape[0], : shape[1]]
    steps = []
    for index, step in enumerate(check_values(values)):
        flags = np.zeros(step.shape, np.uint16) if bits is None else bits[index].astype(np.uint16, copy=False)
        frozen, skipped = (flags & _FROZEN) != 0, (flags & Flag.not_requested) != 0
        core, buffered = (np.where(skipped, 0, label) for label in labels)
        own = np.where(step == LAKE, buffered, 0)
        unknown = (step == UNOBSERVED) | (frozen & (step != LAKE) & (core > 0))
        # wet pixels have four edges each; two that are neighbours share one, which is then nobody's
        side = (own[:, 1:] == own[:, :-1])[: shape[0], : shape[1]]
        down = (own[1:] == own[:-1])[: shape[0], : shape[1]]
        layers = [
            own[inner],
            np.where(unknown, buffered, 0)[inner],
            core[inner],
            np.where(unknown, core, 0)[inner],
            np.where(frozen, core, 0)[inner],
            np.where(skipped, labels[0], 0)[inner],
            np.where(side, own[: shape[0], : side.shape[1]], 0),
            np.where(down, own[: down.shape[0], : shape[1]], 0),
        ]
        found = [np.bincount(each.ravel(), minlength=len(numbers) + 1)[1:] for each in layers]
        steps.append([*found[:6], 2 * (found[0] - found[6]), 2 * (found[0] - found[7])])
    return np.array(steps, np.int64).transpose(2, 0, 1)


def _gathered(
    parts: list[NDArray[np.int64]], shares: list[NDArray[np.intp]], shape: tuple[int, int, int]
) -> NDArray[np.int64]:
    """Sum of the windows' counts, each at its lakes' places."""
    total = np.zeros(shape, np.int64)
    for part, lakes in zip(parts, shares, strict=True):
        total[lakes] += part
    return total
