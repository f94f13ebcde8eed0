"""Cast shadow: where terrain hides the sun, by marching along the sun's azimuth.

Follows the plain ray test of Dozier and Frew (1990, IEEE Trans. Geosci. Remote Sens. 28, 963): a pixel
is dark when somewhere towards the sun the terrain rises above the line of sight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xglof.cube.marching import REACH_M, GridOnGround, march_blocks
from xglof.errors import CubeError

#: How far a ridge may be from what it shades, metres; the DEM is read with that margin.
SHADOW_DISTANCE_M = REACH_M
_STRIP_ROWS = (
    32  # of a block of 2016 pixels, a quarter of a megabyte: measured three times as fast as the whole
)


def cast_shadow(
    dem: NDArray[np.floating[Any]],
    *,
    azimuth: float,
    elevation: float,
    resolution: float | tuple[float, float],
    max_distance_m: float,
    margin_px: int = 0,
) -> NDArray[np.bool_]:
    """Mask of the pixels from which terrain hides the sun.

    Rays step from one grid line to the next along the sun's azimuth, with linear interpolation between
    the two pixels of that line. The answer at a pixel depends on pixels within ``max_distance_m`` of it
    and on nothing else, so any cut of the array with that overlap gives the same bits.

    Parameters
    ----------
    dem
        ``(y, x)`` floating point, metres, nodata NaN; north up (rows run southwards).
    azimuth
        Where the sun stands, degrees clockwise from grid north.
    elevation
        Height of the sun above the horizon, degrees. At or below 0 every pixel with an elevation is dark.
    resolution
        Pixel size, metres; two numbers where it differs along y and x.
    max_distance_m
        How far a ridge may be from what it shades, metres.
    margin_px
        Pixels along each edge of ``dem`` that may cast shadow but are left out of the answer.

    Returns
    -------
    numpy.ndarray
        ``(y - 2 margin, x - 2 margin)`` bool. NaN neither casts shadow nor receives it.

    Raises
    ------
    CubeError
        ``dem`` is not two-dimensional floating point, or a number is out of its range.

    Examples
    --------
    >>> ridge = np.zeros((1, 6)); ridge[0, 4] = 25.0
    >>> cast_shadow(ridge, azimuth=90, elevation=45, resolution=10, max_distance_m=100).astype(int)
    array([[0, 0, 1, 1, 0, 0]])
    """
    down, across = resolution if isinstance(resolution, tuple) else (resolution, resolution)
    _check(dem, azimuth, elevation, (down, across), max_distance_m, margin_px)
    inner = dem[margin_px : dem.shape[0] - margin_px, margin_px : dem.shape[1] - margin_px]
    if elevation <= 0:
        return np.asarray(np.isfinite(inner))
    hidden = np.zeros(inner.shape, dtype=bool)
    if elevation >= 90 or not np.isfinite(dem).any():
        return hidden
    unit = min(down, across)  # pixels of the finer axis a metre; square pixels keep their bits
    east = math.sin(math.radians(azimuth)) * (unit / across)
    south = -math.cos(math.radians(azimuth)) * (unit / down)
    major = max(abs(east), abs(south))
    step_m = unit / major
    rise = math.tan(math.radians(elevation)) * step_m
    highest = float(np.nanmax(dem))
    # rounding keeps sin(180 degrees) = 1e-16 from pulling in a neighbour with no weight
    offsets = [
        (round(step * south / major, 9), round(step * east / major, 9))
        for step in range(1, int(max_distance_m / step_m + 1e-9) + 1)
    ]
    for top in range(0, inner.shape[0], _STRIP_ROWS):
        strip = (margin_px + top, min(margin_px + top + _STRIP_ROWS, dem.shape[0] - margin_px))
        _march_strip(hidden, dem, offsets, (rise, highest), margin_px, strip)
    return hidden


def _march_strip(
    hidden: NDArray[np.bool_],
    dem: NDArray[np.floating[Any]],
    offsets: list[tuple[float, float]],
    heights: tuple[float, float],
    margin_px: int,
    strip: tuple[int, int],
) -> None:
    """March from some rows of ``dem``, few enough for the processor's cache.

    ``heights``: how far the ray rises with each offset, and the highest terrain, metres.
    """
    here = dem[slice(*strip), margin_px : dem.shape[1] - margin_px]
    if not np.isfinite(here).any():
        return
    rise_m, relief = heights[0], heights[1] - float(np.nanmin(here))
    for step, offset in enumerate(offsets, start=1):
        # beyond the relief nothing can rise above the ray: the end comes sooner, the answer is the same
        if step * rise_m > relief or abs(offset[0]) >= dem.shape[0] or abs(offset[1]) >= dem.shape[1]:
            break
        _mark(hidden, dem, offset, step * rise_m, margin_px, strip)


def _mark(
    hidden: NDArray[np.bool_],
    dem: NDArray[np.floating[Any]],
    offset: tuple[float, float],
    rise_m: float,
    margin_px: int,
    strip: tuple[int, int],
) -> None:
    """Set ``hidden`` where the terrain at ``offset`` pixels is more than ``rise_m`` above the pixel."""
    low = (math.floor(offset[0]), math.floor(offset[1]))
    weight = max(offset[0] - low[0], offset[1] - low[1])  # one of the two is a whole number
    high = (math.ceil(offset[0]), math.ceil(offset[1]))
    rows = _overlap(dem.shape[0], low[0], high[0], strip)
    columns = _overlap(dem.shape[1], low[1], high[1], (margin_px, dem.shape[1] - margin_px))
    here = (slice(*rows), slice(*columns))
    terrain = dem[_moved(rows, low[0]), _moved(columns, low[1])]
    if weight > 0:
        other = dem[_moved(rows, high[0]), _moved(columns, high[1])]
        terrain = terrain + (other - terrain) * dem.dtype.type(weight)
    answer = (_moved(rows, -margin_px), _moved(columns, -margin_px))
    hidden[answer] |= terrain - dem[here] > dem.dtype.type(rise_m)


def _overlap(size: int, low: int, high: int, span: tuple[int, int]) -> tuple[int, int]:
    """Indices ``i`` of the span for which ``i + low`` and ``i + high`` are inside ``[0, size)``."""
    start = max(span[0], -low)
    return start, max(start, min(span[1], size - high))


def _moved(span: tuple[int, int], offset: int) -> slice:
    return slice(span[0] + offset, span[1] + offset)


def _check(
    dem: object,
    azimuth: float,
    elevation: float,
    resolution: tuple[float, float],
    max_distance_m: float,
    margin_px: int,
) -> None:
    if not isinstance(dem, np.ndarray) or dem.ndim != 2 or dem.dtype.kind != "f":
        got = f"{dem.dtype} {dem.shape}" if isinstance(dem, np.ndarray) else type(dem).__name__
        raise CubeError(f"dem is {got}; expected a floating point array (y, x) in metres")
    if not (math.isfinite(azimuth) and math.isfinite(elevation)):
        raise CubeError(f"azimuth {azimuth} and elevation {elevation} must be finite degrees")
    if not all(size > 0 and math.isfinite(size) for size in resolution):
        raise CubeError(f"resolution is {resolution}; expected metres above 0")
    if not (max_distance_m >= 0 and math.isfinite(max_distance_m)):
        raise CubeError(f"max_distance_m is {max_distance_m}; expected metres, 0 or more")
    if not 0 <= 2 * margin_px < min(dem.shape, default=0) + 1:
        raise CubeError(f"margin_px is {margin_px}; expected 0 or more, and within a dem of {dem.shape}")


def terrain_shadow(
    dem: Any,
    margin_px: int,
    resolution: tuple[float, float],
    azimuth: Sequence[float],
    elevation: Sequence[float],
    chunks: tuple[tuple[int, ...], ...],
    *,
    latitude: NDArray[np.float64] | None = None,
    convergence: float = 0.0,
) -> Any:
    """Mask of the terrain's cast shadow at every time step, lazily.

    Parameters
    ----------
    dem
        Dask array ``(y, x)`` float32, metres, that reaches ``margin_px`` beyond the grid on all sides.
    margin_px
        Pixels; at least :data:`SHADOW_DISTANCE_M` (:meth:`GridOnGround.margin_px`).
    resolution
        Signed pixel size along y and x, metres, or degrees where ``latitude`` is given; ``y`` is negative
        on a north-up grid.
    azimuth, elevation
        Of the sun per step, degrees; the azimuth is taken from true north. NaN gives no shadow.
    chunks
        Of the result: time, y, x.
    latitude, convergence
        As :class:`GridOnGround` has them. A pixel's width in metres is that of its absolute band of
        latitude (0.05 degrees), whatever the block: within 0.2 % up to 65 degrees.

    Returns
    -------
    dask.array.Array
        ``(time, y, x)`` bool. A task looks at one block and its margin.

    Raises
    ------
    CubeError
        The margin is shorter than the distance.
    """
    ground = GridOnGround(resolution, latitude, convergence)
    return march_blocks(_shadow_kernel, dem, margin_px, (azimuth, elevation), chunks, ground, fill=False)


def _shadow_kernel(
    dem: NDArray[np.float32], azimuth: float, elevation: float, size: tuple[float, float], margin_px: int
) -> NDArray[np.bool_]:
    return cast_shadow(
        dem,
        azimuth=azimuth,
        elevation=elevation,
        resolution=size,
        max_distance_m=SHADOW_DISTANCE_M,
        margin_px=margin_px,
    )
