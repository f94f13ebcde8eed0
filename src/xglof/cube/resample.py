"""From a file's pixels to those of the cube: the same bits for one place, whatever is cut around it.

Kernels over NumPy arrays. Pixels on the cube's own grid are copied. Those of a grid whose pixels are whole
multiples of the cube's are interpolated in whole numbers, which no cut can change. Everything else goes
through GDAL's warper in cells of an absolute lattice.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xglof.bands import Resampling
from xglof.cube.pixel_grid import PixelGrid, Window

#: Side of a warped cell, pixels; a quarter of a reading cell.
WARP_CELL_PX = 504
_HALO_PX = 3


def halo_px(source: PixelGrid, target: PixelGrid) -> int:
    """Source pixels around what a piece of the cube covers that its interpolation may look at."""
    return _HALO_PX * max(1, math.ceil(target.step_m / source.step_m))


def is_nodata(values: NDArray[Any], nodata: float) -> NDArray[np.bool_]:
    """Where an array holds its nodata value, NaN included."""
    missing: NDArray[np.bool_] = np.isnan(values) if np.isnan(nodata) else values == nodata
    return missing


def resample(
    values: NDArray[Any],
    source: PixelGrid,
    held: Window,
    target: PixelGrid,
    wanted: Window,
    *,
    nodata: float,
    how: Resampling,
) -> NDArray[Any]:
    """Pixels of a window of the cube's grid.

    Parameters
    ----------
    values
        ``(y, x)`` over ``held`` of ``source``, any dtype; it must reach :func:`halo_px` beyond ``wanted``
        wherever there is something to interpolate with.
    source, held
        Where the values lie.
    target, wanted
        The window to fill.
    nodata
        What stands for no value, in ``values`` and in the answer. A pixel has a value if the source pixel in
        which its centre lies has one; missing neighbours do not count.
    how
        ``"nearest"``, ``"bilinear"`` or ``"cubic"``; cubic only where the grids do not fit.

    Returns
    -------
    numpy.ndarray
        ``(y, x)`` over ``wanted``, dtype of ``values``.
    """
    factor = source.refinement(target)
    if factor == 1:
        shift = source.shift(target, 1)
        moved = Window(
            wanted.top - shift[0], wanted.bottom - shift[0], wanted.left - shift[1], wanted.right - shift[1]
        )
        return _cut(values, held, moved, nodata)
    if factor is not None and how != "cubic":
        return _refined(values, source, held, target, wanted, factor, nodata, how)
    out = np.full(wanted.shape, nodata, dtype=values.dtype)
    for cell in (cell for row in wanted.cells(WARP_CELL_PX) for cell in row):
        part = cell & wanted
        out[part.within(wanted)] = _warped(values, source, held, target, cell, nodata, how)[part.within(cell)]
    return out


def _cut(values: NDArray[Any], held: Window, wanted: Window, nodata: float) -> NDArray[Any]:
    """The values over a window, nodata where they do not reach."""
    shared = held & wanted
    if shared == wanted:
        return np.ascontiguousarray(values[wanted.within(held)])
    out = np.full(wanted.shape, nodata, dtype=values.dtype)
    if shared:
        out[shared.within(wanted)] = values[shared.within(held)]
    return out


def _warped(
    values: NDArray[Any],
    source: PixelGrid,
    held: Window,
    target: PixelGrid,
    cell: Window,
    nodata: float,
    how: Resampling,
) -> NDArray[Any]:
    """A whole cell through GDAL: from the same source window, whoever asks, so that the bits are the same."""
    import rasterio
    from rasterio.enums import Resampling as Method
    from rasterio.warp import reproject

    window = source.covering(target, cell, halo_px(source, target))
    out = np.full(cell.shape, nodata, dtype=values.dtype)
    if not window & held:
        return out
    _quiet()
    with rasterio.Env():
        reproject(
            _cut(values, held, window, nodata),
            out,
            src_transform=source.affine(window),
            src_crs=source.crs,
            src_nodata=nodata,
            dst_transform=target.affine(cell),
            dst_crs=target.crs,
            dst_nodata=nodata,
            resampling=Method[how],
        )
    return out


@cache
def _quiet() -> None:
    """Silence a warning of rasterio's about its own buffers; how it does so itself leaks between threads."""
    import warnings

    warnings.filterwarnings("ignore", message="Dataset has no geotransform")


def _refined(
    values: NDArray[Any],
    source: PixelGrid,
    held: Window,
    target: PixelGrid,
    wanted: Window,
    factor: int,
    nodata: float,
    how: Resampling,
) -> NDArray[Any]:
    """Pixels of a grid that is finer by a whole number, interpolated from exact sums."""
    shift = source.shift(target, factor)
    rows = _Axis.of(wanted.top - shift[0], wanted.bottom - shift[0], factor)
    columns = _Axis.of(wanted.left - shift[1], wanted.right - shift[1], factor)
    window = Window(rows.first, rows.last + 1, columns.first, columns.last + 1)
    native = _cut(values, held, window, nodata)
    own = native[np.ix_(rows.own, columns.own)]
    if how == "nearest":
        return own
    missing = is_nodata(native, nodata)
    weighed = np.where(missing, 0, native).astype(np.float64)
    total = _blend(weighed, rows, columns)
    if missing.any():
        share = _blend((~missing).astype(np.float64), rows, columns)
        mean = total / np.where(share > 0, share, 1)
    else:
        mean = total / (4.0 * factor * factor)
    if values.dtype.kind in "ui":
        np.rint(mean, out=mean)
    out = mean.astype(values.dtype)
    return np.where(is_nodata(own, nodata), values.dtype.type(nodata), out)


class _Axis:
    """Which two native pixels each target pixel lies between, and with which whole-number weights."""

    __slots__ = ("first", "high", "last", "low", "own", "weight_high", "weight_low")

    def __init__(self, low: NDArray[np.int64], high_weight: NDArray[np.int64], own: Any, factor: int) -> None:
        self.first, self.last = int(low.min()), int(low.max()) + 1
        self.low, self.high = low - self.first, low - self.first + 1
        self.own = own - self.first
        self.weight_high = high_weight.astype(np.float64)
        self.weight_low = 2.0 * factor - self.weight_high

    @classmethod
    def of(cls, begin: int, end: int, factor: int) -> _Axis:
        """Of the target pixels ``begin`` to ``end`` (excluded), counted from the native origin."""
        place = np.arange(begin, end, dtype=np.int64)
        centre = 2 * place + 1 - factor  # twice the factor times the native coordinate
        return cls(centre // (2 * factor), centre % (2 * factor), place // factor, factor)


def _blend(native: NDArray[np.float64], rows: _Axis, columns: _Axis) -> NDArray[np.float64]:
    """Weighted sums of the four native pixels around each target pixel; the weights are whole numbers."""
    across = native[:, columns.low] * columns.weight_low + native[:, columns.high] * columns.weight_high
    blended: NDArray[np.float64] = (
        across[rows.low] * rows.weight_low[:, None] + across[rows.high] * rows.weight_high[:, None]
    )
    return blended
