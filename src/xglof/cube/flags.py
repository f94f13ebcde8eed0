"""The quality bits of a cube and of a segmentation (CF ``flag_masks``)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntFlag
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xglof.bands import CLD, MODALITIES, S1_MASK, SAR_BANDS
from xglof.cube.ice import frozen_prior, latitude_of, snow_and_ice
from xglof.cube.layover import BOTH, SHADOW, UNKNOWN
from xglof.cube.shadow import SHADOW_DISTANCE_M, terrain_shadow
from xglof.errors import CubeError

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "CLOUD_PROBABILITY_PERCENT",
    "LOW_SUN_DEG",
    "SENSORS",
    "SHADOW_DISTANCE_M",
    "Flag",
    "check_flags",
    "dem_bits",
    "flag_attrs",
    "mask_attrs",
    "optical_bits",
    "quality_flags",
    "radar_bits",
    "shadow_bits",
    "terrain_shadow",
]

#: Below this height of the sun, degrees, a whole step is marked.
LOW_SUN_DEG = 10.0
#: From this cloud probability on, percent, a pixel is cloud whatever SCL says. Sen2Cor itself begins "medium"
#: at 20 and "high" at 80 (35 and 65 in its first versions). Its later tests for snow, water and bright ground
#: overrule the number, and a threshold near 20 would undo them; 50 is the middle of both pairs.
CLOUD_PROBABILITY_PERCENT = 50
#: What a failed read can be told of.
SENSORS = ("S2L2A", "S1", "DEM")
_NODATA, _CLOUD, _CLOUD_SHADOW, _SNOW = (0, 1), (8, 9, 10), 3, 11  # classes of SCL


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
    return mask_attrs(Flag, "quality flags")


def mask_attrs(bits: type[IntFlag], long_name: str) -> dict[str, object]:
    """CF attributes of a uint16 variable that holds bits of any kind."""
    return {
        "long_name": long_name,
        "flag_masks": np.array([bit.value for bit in bits], dtype="uint16"),
        "flag_meanings": " ".join(str(bit.name) for bit in bits),
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
    low_sun: NDArray[np.bool_],
    bands: Mapping[str, NDArray[Any]],
    scl: NDArray[np.uint8] | None,
    cloud_percent: NDArray[np.uint8] | None = None,
    *,
    cloud_probability: int = CLOUD_PROBABILITY_PERCENT,
) -> NDArray[np.uint16]:
    """What Sentinel-2 tells about each pixel.

    Bits stand side by side where the sources disagree: bright snow that SCL takes for cloud (classes 8 and 9)
    has both ``cloud`` and ``snow``. Class 2 (dark ground, often a shaded lake) and class 6 (water) set none.

    Parameters
    ----------
    low_sun
        bool, broadcast against the bands: the sun stands below 10 degrees.
    bands
        The 12 bands or some of them, uint16 reflectance x 10,000, nodata 0; of a user's own cube floats too,
        nodata NaN or 0. A pixel without data in any of them is ``s2_nodata``.
    scl
        Scene classification (0 nodata, 1 saturated or defective, 3 cloud shadow, 8-10 cloud, 11 snow) or
        ``None``. A defective pixel is no observation: ``s2_nodata``.
    cloud_percent
        Cloud probability, uint8 percent, 255 unknown, or ``None``.
    cloud_probability
        ``cloud`` from this percentage on.

    Returns
    -------
    numpy.ndarray
        uint16 bits of :class:`Flag`. ``snow`` and ``ice`` are those of
        :func:`~xglof.cube.ice.snow_and_ice`, which SCL 11 enters; a pixel of no data has neither. Without
        B03, B08 and B11 as reflectance x 10,000 (whole numbers) SCL 11 alone is ``snow``.
    """
    known = [*bands.values(), *(layer for layer in (scl, cloud_percent) if layer is not None)]
    missing = np.zeros(known[0].shape, dtype=bool)
    for band in bands.values():
        missing |= (band == 0) | (np.isnan(band) if band.dtype.kind == "f" else False)
    cloud = np.zeros(missing.shape, dtype=bool)
    classified = None if scl is None else scl == _SNOW
    needed = [
        bands[name] for name in ("B03", "B08", "B11") if name in bands and bands[name].dtype.kind in "ui"
    ]
    if len(needed) == 3:
        snow, ice = snow_and_ice(needed[0], needed[1], needed[2], classified)
    else:
        snow, ice = (cloud if classified is None else classified), cloud
    bits = np.where(low_sun, Flag.low_sun, 0) + np.zeros(missing.shape, dtype=np.uint16)
    if scl is not None:
        missing |= np.isin(scl, _NODATA)
        cloud |= np.isin(scl, _CLOUD)
        bits |= np.where(scl == _CLOUD_SHADOW, Flag.cloud_shadow, 0)
    if cloud_percent is not None:
        cloud |= (cloud_percent >= cloud_probability) & (cloud_percent != int(CLD.nodata))
    bits |= np.where(cloud, Flag.cloud, 0)
    bits |= np.where(snow & ~missing, Flag.snow, 0) | np.where(ice & ~missing, Flag.ice, 0)
    bits |= np.where(missing, Flag.s2_nodata, 0)
    return bits.astype(np.uint16)


def radar_bits(
    vv: NDArray[np.float32], vh: NDArray[np.float32], *codes: NDArray[np.uint8]
) -> NDArray[np.uint16]:
    """What Sentinel-1 tells about each pixel.

    Parameters
    ----------
    vv, vh
        float32 dB, nodata NaN. ``s1_nodata`` where either is NaN.
    codes
        uint8 masks of layover and shadow, the most trusted first: 0 clear, 1 shadow, 2 layover, 3 both,
        anything else unknown. ``s1_layover`` where the first that knows says 1 to 3, even where there is no
        data: it says why. A pixel with data of which none knows is ``s1_unknown``.

    Returns
    -------
    numpy.ndarray
        uint16 bits of :class:`Flag`.
    """
    missing = np.isnan(vv) | np.isnan(vh)
    known = np.full(missing.shape, UNKNOWN, dtype=np.uint8)
    for code in codes:
        known = np.where((known > BOTH) & (code <= BOTH), code, known)
    bits = np.where(missing, Flag.s1_nodata, np.where(known > BOTH, Flag.s1_unknown, 0))
    bits |= np.where((known >= SHADOW) & (known <= BOTH), Flag.s1_layover, 0)
    return bits.astype(np.uint16)


def dem_bits(dem: NDArray[np.float32]) -> NDArray[np.uint16]:
    """``dem_nodata`` where the elevation is NaN."""
    return np.where(np.isnan(dem), Flag.dem_nodata, 0).astype(np.uint16)


def shadow_bits(shadow: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """``terrain_shadow`` where the terrain hides the sun."""
    return np.where(shadow, Flag.terrain_shadow, 0).astype(np.uint16)


def failed_bits(failed: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """``failed_read`` where a source could not be read."""
    return np.where(failed, Flag.failed_read, 0).astype(np.uint16)


def prior_bits(
    bits: NDArray[np.uint16],
    dem: NDArray[np.float32],
    latitude: NDArray[np.float32],
    day_of_year: NDArray[np.int64],
    *,
    optical: bool,
) -> NDArray[np.uint16]:
    """The bits with ``ice`` added where only radar saw a pixel, in deep winter where lakes freeze.

    Parameters
    ----------
    bits
        uint16 bits of :class:`Flag`, the sensors' own.
    dem, latitude, day_of_year
        As :func:`~xglof.cube.ice.frozen_prior` takes them.
    optical
        The cube holds Sentinel-2; then the prior counts only where that has no data.

    Returns
    -------
    numpy.ndarray
        uint16.
    """
    only_radar = (bits & Flag.s1_nodata) == 0
    if optical:
        only_radar &= (bits & Flag.s2_nodata) != 0
    frozen = only_radar & frozen_prior(dem, latitude, day_of_year)
    return (bits | np.where(frozen, Flag.ice, 0)).astype(np.uint16)


def quality_flags(
    cube: xr.Dataset,
    shadow: Any | None,
    *,
    layover: Any | None = None,
    failed: Mapping[str, Any] | None = None,
    cloud_probability: int = CLOUD_PROBABILITY_PERCENT,
) -> xr.DataArray:
    """The ``flags`` of a cube, lazily; sensors that it does not hold set no bit.

    Parameters
    ----------
    cube
        Variables of :func:`xglof.open_cube`, on one chunking. ``SCL``, ``CLD`` and ``s1_mask`` count where it
        holds them.
    shadow
        Dask array ``(time, y, x)`` bool from :func:`terrain_shadow`, or ``None``.
    layover
        Dask array ``(time, y, x)`` uint8 from :func:`~xglof.cube.layover.layover_and_shadow`, or ``None``. It
        decides where ``s1_mask`` does not.
    failed
        Sensor (:data:`SENSORS`) to a Dask array ``(time, y, x)`` or ``(y, x)`` bool: the pixels that a read
        error left without data. They are ``failed_read``, beside whatever their fill value sets.
    cloud_probability
        Percent of ``CLD`` from which a pixel is ``cloud``.

    Returns
    -------
    xarray.DataArray
        uint16, dims of the cube. A task costs a few passes over its block's bands. Attributes say who
        decided: ``cloud_mask``, ``radar_geometry`` and ``ice_prior``; ``low_sun`` says where nobody could.

    Raises
    ------
    CubeError
        ``failed`` names another sensor, an array has another shape, or the percentage is not 1 to 100.
    """
    import functools
    import operator

    if not 1 <= cloud_probability <= 100:
        raise CubeError(f"cloud_probability is {cloud_probability}; expected percent, 1 to 100")
    parts: list[xr.DataArray] = []
    if _optical_names(cube):
        kernel = functools.partial(_optical, names=_optical_names(cube), cloud_probability=cloud_probability)
        bands = [cube[name] for name in _optical_names(cube)]
        parts.append(_lazy(kernel, cube.sun_elevation < LOW_SUN_DEG, *bands))
    if radar := [cube[name] for name in SAR_BANDS if name in cube]:
        parts.append(_lazy(radar_bits, radar[0], radar[-1], *_layover_codes(cube, layover)))
    if "dem" in cube:
        parts.append(_lazy(dem_bits, cube.dem))
    if shadow is not None:
        parts.append(_lazy(shadow_bits, _placed("shadow", shadow, parts[0])))
    for sensor, where in (failed or {}).items():
        if sensor not in SENSORS:
            raise CubeError(f"failed names {sensor!r}; expected one of {', '.join(SENSORS)}")
        parts.append(_lazy(failed_bits, _placed(f"failed[{sensor!r}]", where, parts[0])))
    flags = functools.reduce(operator.or_, parts)
    flags, prior = _with_prior(cube, flags)
    return flags.assign_attrs(
        flag_attrs(),
        cloud_mask=_cloud_source(cube, cloud_probability),
        radar_geometry=_geometry_source(cube, layover),
        ice_prior=prior,
        low_sun=_sun_source(cube),
    )


def _optical_names(cube: xr.Dataset) -> list[str]:
    return [name for name in (*MODALITIES["S2L2A"].names, "SCL", CLD.name) if name in cube]


def _optical(
    low_sun: NDArray[np.bool_], *arrays: NDArray[Any], names: list[str], cloud_probability: int
) -> NDArray[np.uint16]:
    given = dict(zip(names, arrays, strict=True))
    scl, percent = given.pop("SCL", None), given.pop(CLD.name, None)
    return optical_bits(low_sun, given, scl, percent, cloud_probability=cloud_probability)


def _layover_codes(cube: xr.Dataset, layover: Any | None) -> list[xr.DataArray]:
    codes = [cube[S1_MASK.name]] if S1_MASK.name in cube else []
    if layover is not None and layover.dtype != np.uint8:
        raise CubeError(f"layover is {layover.dtype}; expected the uint8 codes of layover_and_shadow")
    return codes if layover is None else [*codes, _placed("layover", layover, cube.vv)]


def _with_prior(cube: xr.Dataset, flags: xr.DataArray) -> tuple[xr.DataArray, str]:
    """The flags with the prior for ice, and what the attribute says about it."""
    import functools

    import odc.geo.xr  # noqa: F401 - registers `.odc`
    import xarray as xr

    if not all(name in cube for name in SAR_BANDS):
        return flags, "none: no Sentinel-1"
    dated = "time" in cube.vv.dims and cube.time.dtype.kind == "M"
    if "dem" not in cube or not dated or cube.odc.geobox is None:
        return flags, "none: needs the DEM, dates and a CRS"
    kernel = functools.partial(prior_bits, optical=bool(_optical_names(cube)))
    days = xr.DataArray(cube.time.dt.dayofyear.values, dims="time")
    marked = _lazy(kernel, flags, cube.dem, latitude_of(cube, cube.dem), days)
    return marked, "ice by elevation, latitude and season where only Sentinel-1 saw a pixel"


def _cloud_source(cube: xr.Dataset, cloud_probability: int) -> str:
    sources = ["SCL"] if "SCL" in cube else []
    sources += [f"{CLD.name} >= {cloud_probability} %"] if CLD.name in cube else []
    return " or ".join(sources) or "none"


def _sun_source(cube: xr.Dataset) -> str:
    """What decided about ``low_sun``; angles that are not in memory are not asked."""
    if not all(name in cube for name in MODALITIES["S2L2A"].names):
        return "none: no Sentinel-2"
    rule = f"sun_elevation below {LOW_SUN_DEG:g} degrees"
    if cube.sun_elevation.chunks is not None:
        return rule
    unknown = np.isnan(np.atleast_1d(cube.sun_elevation.values))
    if unknown.all():
        return "unknown: the items state no sun angles"
    return f"{rule}; unknown on {unknown.sum()} of {unknown.size} dates" if unknown.any() else rule


def _geometry_source(cube: xr.Dataset, layover: Any | None) -> str:
    sources = ["mask of the product"] if S1_MASK.name in cube else []
    sources += ["DEM and orbit"] if layover is not None else []
    return ", else ".join(sources) or "unknown"


def _placed(name: str, array: Any, like: xr.DataArray) -> xr.DataArray:
    """A bare array under the trailing dims of a variable, on its chunks."""
    import xarray as xr

    dims = like.dims[-array.ndim :] if array.ndim <= like.ndim else ()
    expected = tuple(like.sizes[dim] for dim in dims)
    if array.ndim < 2 or tuple(array.shape) != expected:
        raise CubeError(f"{name} has the shape {tuple(array.shape)}; expected {like.shape} or its last two")
    placed = xr.DataArray(array, dims=dims)
    return placed.chunk({dim: like.chunksizes[dim] for dim in dims}) if like.chunksizes else placed


def _lazy(kernel: Any, *arrays: xr.DataArray) -> xr.DataArray:
    import xarray as xr

    bits: xr.DataArray = xr.apply_ufunc(
        kernel, *arrays, dask="parallelized", output_dtypes=[np.uint16], keep_attrs=False
    )
    return bits
