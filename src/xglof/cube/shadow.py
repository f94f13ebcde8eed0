"""Cast shadow: where terrain hides the sun, by marching along the sun's azimuth.

Follows the plain ray test of Dozier and Frew (1990, IEEE Trans. Geosci. Remote Sens. 28, 963): a pixel
is dark when somewhere towards the sun the terrain rises above the line of sight.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xglof.errors import CubeError


def cast_shadow(
    dem: NDArray[np.floating[Any]],
    *,
    azimuth: float,
    elevation: float,
    resolution: float,
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
        ``(y, x)`` floating point, metres, nodata NaN; north up (rows run southwards), square pixels.
    azimuth
        Where the sun stands, degrees clockwise from grid north.
    elevation
        Height of the sun above the horizon, degrees. At or below 0 every pixel with an elevation is dark.
    resolution
        Pixel size, metres.
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
    _check(dem, azimuth, elevation, resolution, max_distance_m, margin_px)
    inner = dem[margin_px : dem.shape[0] - margin_px, margin_px : dem.shape[1] - margin_px]
    if elevation <= 0:
        return np.asarray(np.isfinite(inner))
    hidden = np.zeros(inner.shape, dtype=bool)
    if elevation >= 90 or not np.isfinite(dem).any():
        return hidden
    relief = float(np.nanmax(dem) - np.nanmin(dem))
    east, south = math.sin(math.radians(azimuth)), -math.cos(math.radians(azimuth))
    major = max(abs(east), abs(south))
    step_m = resolution / major
    rise = math.tan(math.radians(elevation)) * step_m
    for step in range(1, int(max_distance_m / step_m + 1e-9) + 1):
        # rounding keeps sin(180 degrees) = 1e-16 from pulling in a neighbour with no weight
        offset = (round(step * south / major, 9), round(step * east / major, 9))
        # beyond the relief nothing can rise above the ray: the end comes sooner, the answer is the same
        if step * rise > relief or abs(offset[0]) >= dem.shape[0] or abs(offset[1]) >= dem.shape[1]:
            break
        _mark(hidden, dem, offset, step * rise, margin_px)
    return hidden


def _mark(
    hidden: NDArray[np.bool_],
    dem: NDArray[np.floating[Any]],
    offset: tuple[float, float],
    rise_m: float,
    margin_px: int,
) -> None:
    """Set ``hidden`` where the terrain at ``offset`` pixels is more than ``rise_m`` above the pixel."""
    low = (math.floor(offset[0]), math.floor(offset[1]))
    weight = max(offset[0] - low[0], offset[1] - low[1])  # one of the two is a whole number
    high = (math.ceil(offset[0]), math.ceil(offset[1]))
    rows = _overlap(dem.shape[0], low[0], high[0], margin_px)
    columns = _overlap(dem.shape[1], low[1], high[1], margin_px)
    here = (slice(*rows), slice(*columns))
    terrain = dem[_moved(rows, low[0]), _moved(columns, low[1])]
    if weight > 0:
        other = dem[_moved(rows, high[0]), _moved(columns, high[1])]
        terrain = terrain + (other - terrain) * dem.dtype.type(weight)
    answer = (_moved(rows, -margin_px), _moved(columns, -margin_px))
    hidden[answer] |= terrain - dem[here] > dem.dtype.type(rise_m)


def _overlap(size: int, low: int, high: int, margin: int) -> tuple[int, int]:
    """Indices ``i`` within the margin for which ``i + low`` and ``i + high`` are inside ``[0, size)``."""
    start = max(margin, -low)
    return start, max(start, min(size - margin, size - high))


def _moved(span: tuple[int, int], offset: int) -> slice:
    return slice(span[0] + offset, span[1] + offset)


def _check(
    dem: object, azimuth: float, elevation: float, resolution: float, max_distance_m: float, margin_px: int
) -> None:
    if not isinstance(dem, np.ndarray) or dem.ndim != 2 or dem.dtype.kind != "f":
        got = f"{dem.dtype} {dem.shape}" if isinstance(dem, np.ndarray) else type(dem).__name__
        raise CubeError(f"dem is {got}; expected a floating point array (y, x) in metres")
    if not (math.isfinite(azimuth) and math.isfinite(elevation)):
        raise CubeError(f"azimuth {azimuth} and elevation {elevation} must be finite degrees")
    if not (resolution > 0 and math.isfinite(resolution)):
        raise CubeError(f"resolution is {resolution}; expected metres above 0")
    if not (max_distance_m >= 0 and math.isfinite(max_distance_m)):
        raise CubeError(f"max_distance_m is {max_distance_m}; expected metres, 0 or more")
    if not 0 <= 2 * margin_px < min(dem.shape, default=0) + 1:
        raise CubeError(f"margin_px is {margin_px}; expected 0 or more, and within a dem of {dem.shape}")
