"""The quality bits of a cube and of a segmentation (CF ``flag_masks``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntFlag
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xglof.bands import MODALITIES
from xglof.errors import CubeError

if TYPE_CHECKING:
    import xarray as xr

#: How far a ridge may be from what it shades, metres; the DEM is read with that margin.
SHADOW_DISTANCE_M = 5000.0
#: Below this height of the sun, degrees, a whole step is marked.
LOW_SUN_DEG = 10.0
#: Snow whose near-infrared reflectance (B08, x 10,000) is below this is bare ice.
ICE_B08_BELOW = 4000
_CLOUD, _CLOUD_SHADOW, _SNOW = (8, 9, 10), 3, 11  # classes of SCL


class Flag(IntFlag):
    """Bits of ``flags`` (uint16). Unobserved is never land; "cannot tell" has bits of its own."""

    s2_nodata = 1 << 0
    cloud = 1 << 1
    cloud_shadow = 1 << 2
    terrain_shadow = 1 << 3
    low_sun = 1 << 4
    snow = 1 << 5
    ice = 1 << 6
    s1_nodata = 1 << 7
    s1_layover = 1 << 8
    s1_unknown = 1 << 9
    dem_nodata = 1 << 10
    failed_read = 1 << 11
    # bits that only a segmentation sets
    not_requested = 1 << 12
    s2_used = 1 << 13
    s1_used = 1 << 14


def flag_attrs() -> dict[str, object]:
    """CF attributes of a flags variable (``flag_masks``, ``flag_meanings``, ``long_name``)."""
    return {
        "long_name": "quality flags",
        "flag_masks": np.array([flag.value for flag in Flag], dtype="uint16"),
        "flag_meanings": " ".join(str(flag.name) for flag in Flag),
    }


def check_flags(flags: xr.DataArray) -> xr.DataArray:
    """The flags as they are, if they are whole numbers of any size with the meanings of :class:`Flag`.

    Raises
    ------
    CubeError
        They are no whole numbers, or their ``flag_meanings`` are others.
    """
    ours = flag_attrs()["flag_meanings"]
    if flags.dtype.kind not in "ui" or flags.attrs.get("flag_meanings", ours) != ours:
        raise CubeError(
            f"flags is {flags.dtype} with the meanings {flags.attrs.get('flag_meanings', '(none)')!r}; "
            "expected uint16 bits of xglof.cube.flags.Flag: drop the variable or rename it"
        )
    return flags


def optical_bits(
    low_sun: NDArray[np.bool_], bands: Mapping[str, NDArray[Any]], scl: NDArray[np.uint8] | None
) -> NDArray[np.uint16]:
    """What Sentinel-2 tells about each pixel.

    Parameters
    ----------
    low_sun
        bool, broadcast against the bands: the sun stands below 10 degrees.
    bands
        The 12 bands, uint16 reflectance x 10,000, nodata 0. A pixel with a 0 in any of them is ``s2_nodata``.
    scl
        Scene classification (0 nodata, 3 cloud shadow, 8-10 cloud, 11 snow) or ``None``.
        Snow with B08 below 4000 is ``ice``.

    Returns
    -------
    numpy.ndarray
        uint16 bits of :class:`Flag`.
    """
    missing = np.zeros(bands["B08"].shape, dtype=bool)
    for band in bands.values():
        missing |= band == 0
    bits = np.where(low_sun, Flag.low_sun, 0) + np.zeros(missing.shape, dtype=np.uint16)
    if scl is not None:
        missing |= scl == 0
        snow, dark = scl == _SNOW, bands["B08"] < ICE_B08_BELOW
        bits |= np.where(np.isin(scl, _CLOUD), Flag.cloud, 0)
        bits |= np.where(scl == _CLOUD_SHADOW, Flag.cloud_shadow, 0)
        bits |= np.where(snow, np.where(dark, Flag.ice, Flag.snow), 0)
    bits |= np.where(missing, Flag.s2_nodata, 0)
    return bits.astype(np.uint16)


def radar_bits(vv: NDArray[np.float32], vh: NDArray[np.float32]) -> NDArray[np.uint16]:
    """What Sentinel-1 tells: ``s1_nodata`` where a polarisation is NaN, else ``s1_unknown``.

    The RTC product of the archives carries no layover mask, so every pixel with data is one of which
    nobody can tell.
    """
    missing = np.isnan(vv) | np.isnan(vh)
    return np.where(missing, Flag.s1_nodata, Flag.s1_unknown).astype(np.uint16)


def dem_bits(dem: NDArray[np.float32]) -> NDArray[np.uint16]:
    """``dem_nodata`` where the elevation is NaN."""
    return np.where(np.isnan(dem), Flag.dem_nodata, 0).astype(np.uint16)


def shadow_bits(shadow: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """``terrain_shadow`` where the terrain hides the sun."""
    return np.where(shadow, Flag.terrain_shadow, 0).astype(np.uint16)


def quality_flags(cube: xr.Dataset, shadow: Any | None) -> xr.DataArray:
    """The ``flags`` of a cube, lazily; sensors that it does not hold set no bit.

    Parameters
    ----------
    cube
        Variables of :func:`xglof.open_cube`, on one chunking.
    shadow
        Dask array ``(time, y, x)`` bool from :func:`terrain_shadow`, or ``None``.

    Returns
    -------
    xarray.DataArray
        uint16, dims of the cube. A task costs a few passes over its block's bands.
    """
    import functools
    import operator

    parts: list[xr.DataArray] = []
    if "B02" in cube:
        parts.append(_lazy(_optical, cube.sun_elevation < LOW_SUN_DEG, *_optical_inputs(cube)))
    if "vv" in cube:
        parts.append(_lazy(radar_bits, cube.vv, cube.vh))
    if "dem" in cube:
        parts.append(_lazy(dem_bits, cube.dem))
    if shadow is not None:
        parts.append(parts[0].copy(data=shadow.map_blocks(shadow_bits, dtype=np.uint16)))
    flags = functools.reduce(operator.or_, parts)
    return flags.assign_attrs(flag_attrs())


def _optical_inputs(cube: xr.Dataset) -> list[xr.DataArray]:
    names = [*MODALITIES["S2L2A"].names, *(["SCL"] if "SCL" in cube else [])]
    return [cube[name] for name in names]


def _optical(low_sun: NDArray[np.bool_], *arrays: NDArray[Any]) -> NDArray[np.uint16]:
    names = MODALITIES["S2L2A"].names
    scl = arrays[len(names)] if len(arrays) > len(names) else None
    return optical_bits(low_sun, dict(zip(names, arrays, strict=False)), scl)


def _lazy(kernel: Any, *arrays: xr.DataArray) -> xr.DataArray:
    import xarray as xr

    bits: xr.DataArray = xr.apply_ufunc(
        kernel, *arrays, dask="parallelized", output_dtypes=[np.uint16], keep_attrs=False
    )
    return bits


def terrain_shadow(
    dem: Any,
    margin_px: int,
    resolution: tuple[float, float],
    azimuth: Sequence[float],
    elevation: Sequence[float],
    chunks: tuple[tuple[int, ...], ...],
) -> Any:
    """Mask of the terrain's cast shadow at every time step, lazily.

    Parameters
    ----------
    dem
        Dask array ``(y, x)`` float32, metres, that reaches ``margin_px`` beyond the grid on all sides.
    margin_px
        Pixels; at least :data:`SHADOW_DISTANCE_M`.
    resolution
        Signed pixel size along y and x, metres; ``y`` is negative on a north-up grid.
    azimuth, elevation
        Of the sun per step, degrees; the azimuth is taken from grid north, which in UTM is within 3 degrees
        of true north. NaN gives no shadow.
    chunks
        Of the result: time, y, x.

    Returns
    -------
    dask.array.Array
        ``(time, y, x)`` bool. A task looks at one block and its margin.
    """
    import dask.array as da

    times, rows, columns = chunks
    halo = da.block(
        [
            [
                dem[y : y + height + 2 * margin_px, x : x + width + 2 * margin_px].rechunk(-1)
                for x, width in zip(_starts(columns), columns, strict=True)
            ]
            for y, height in zip(_starts(rows), rows, strict=True)
        ]
    )
    sun = np.array([azimuth, elevation], dtype=float).T.reshape(-1, 2, 1, 1)
    one = (1,) * len(sun)
    shadow = da.map_blocks(
        _shadow_block,
        halo[None],
        da.from_array(sun[:, 0], chunks=(1, 1, 1)),
        da.from_array(sun[:, 1], chunks=(1, 1, 1)),
        margin_px=margin_px,
        resolution=resolution,
        dtype=bool,
        chunks=(one, rows, columns),
    )
    return shadow.rechunk({0: times})


def _starts(sizes: Sequence[int]) -> list[int]:
    return [sum(sizes[:index]) for index in range(len(sizes))]


def _shadow_block(
    dem: NDArray[np.float32],
    azimuth: NDArray[np.float64],
    elevation: NDArray[np.float64],
    *,
    margin_px: int,
    resolution: tuple[float, float],
) -> NDArray[np.bool_]:
    from xglof.cube.shadow import cast_shadow

    if not (np.isfinite(azimuth).all() and np.isfinite(elevation).all()):
        return np.zeros((1, *(size - 2 * margin_px for size in dem.shape[1:])), dtype=bool)
    towards = float(azimuth.item())
    if resolution[0] > 0:  # south-up: the picture is mirrored north to south
        towards = 180.0 - towards
    if resolution[1] < 0:
        towards = -towards
    shadow = cast_shadow(
        dem[0],
        azimuth=towards,
        elevation=float(elevation.item()),
        resolution=abs(resolution[1]),
        max_distance_m=SHADOW_DISTANCE_M,
        margin_px=margin_px,
    )
    return shadow[None]
