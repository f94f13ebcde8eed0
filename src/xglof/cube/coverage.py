"""What the sensors saw of a cube at every date: pixel counts by flag, and the shares made of them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xglof.bands import MODALITIES, resolve
from xglof.cube.flags import Flag, check_flags
from xglof.cube.reduce import failed_of
from xglof.errors import CubeError

if TYPE_CHECKING:
    import xarray as xr

#: What hides the ground from Sentinel-2, ``failed_read`` where it was its own. Snow, ice, a low sun do not.
HIDES_S2 = Flag.s2_nodata | Flag.cloud | Flag.cloud_shadow | Flag.terrain_shadow | Flag.failed_read
#: The bits that a cube's sensors set, by what a cube must hold for them to mean something.
SENSOR_FLAGS: Mapping[str, tuple[Flag, ...]] = {
    "S2L2A": (
        Flag.s2_nodata,
        Flag.cloud,
        Flag.cloud_shadow,
        Flag.terrain_shadow,
        Flag.low_sun,
        Flag.snow,
        Flag.ice,
    ),
    "S1RTC": (Flag.s1_nodata, Flag.s1_layover, Flag.s1_unknown),
    "DEM": (Flag.dem_nodata,),
}
#: Where a pixel of Sentinel-2 goes when every pixel is counted once: to the first of these whose bit it has,
#: ``failed_read`` only where it was its own.
SIGHTS: Mapping[str, Flag] = {
    "failed_read": Flag.failed_read,
    "s2_nodata": Flag.s2_nodata,
    "cloud": Flag.cloud,
    "cloud_shadow": Flag.cloud_shadow,
    "terrain_shadow": Flag.terrain_shadow,
    "ice": Flag.ice,
    "snow": Flag.snow,
    "clear": Flag(0),
}
_CELL_PX = 2016  # blocks of data that have none
_BITS = 12  # those above are of segmentations


def coverage(cube: xr.Dataset) -> xr.Dataset:
    """A table along ``time`` of what was observed, lazily.

    Parameters
    ----------
    cube
        With ``flags``, as :func:`xglof.open_cube` gives them. Which sensors it holds is told by its bands or,
        in a segmentation, by the coordinates ``s2_items`` and ``s1_items``.

    Returns
    -------
    xarray.Dataset
        Dim ``time``, with the cube's coordinates along it (item ids, orbit, gap in days, sun):
        ``.to_dataframe()`` makes a row a date. What is told of a sensor is there if the cube holds it.

        - ``pixels``: int64, of the grid.
        - ``s2_observed``: float64, share of the pixels that Sentinel-2 saw the ground of: no ``s2_nodata``,
          ``cloud``, ``cloud_shadow``, ``terrain_shadow`` nor a ``failed_read`` of its own. Snow and ice are
          seen. ``failed_read`` says not which file failed: it is Sentinel-2's where that has no data, or
          where neither Sentinel-1 nor the elevation lacks data.
        - ``s1_observed``: float64, share of the pixels that have Sentinel-1 data.
        - ``cloud``, ``snow``, ``s1_layover`` and so on, one a :class:`~xglof.cube.flags.Flag`: float64, share
          of the pixels that have the flag. A pixel may have several.
        - ``sight_clear``, ``sight_snow``, ``sight_ice``, ``sight_terrain_shadow``, ``sight_cloud_shadow``,
          ``sight_cloud``, ``sight_s2_nodata``, ``sight_failed_read``: float64, the same for Sentinel-2 with
          every pixel counted once, as the last of these that it is. All add up to 1, the first three to
          ``s2_observed``.
        - ``clamped``: int64, pixels with data in every Sentinel-2 band and a 1 in one, on dates under a
          radiometric offset (``s2_offset`` above 0): what it takes to 0 or below is set to 1. A raw number
          one above the offset counts too; an interpolated band counts only where it is 1 exactly. Absent
          without the coordinate ``s2_offset``.

        A task counts one block of ``flags``. Only ``clamped`` reads the bands of a cube that is on disk: take
        the other variables first where that is too much. :func:`count_flags` gives counts to add over tiles.

    Raises
    ------
    CubeError
        No ``flags``, flags of another meaning, or no sign of which sensors they are of.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from xglof.cube.flags import Flag
    >>> flags = np.array([[[0, Flag.snow], [Flag.cloud, Flag.cloud | Flag.snow]]], dtype="uint16")
    >>> cube = xr.Dataset({"flags": (("time", "y", "x"), flags)}, coords={"s2_items": ("time", ["a"])})
    >>> table = coverage(cube).compute()
    >>> [float(table[name][0]) for name in ("s2_observed", "cloud", "snow", "sight_snow")]
    [0.5, 0.5, 0.5, 0.25]
    """
    table = shares(count_flags(cube))
    clamped = _clamped(cube)
    return table if clamped is None else table.assign(clamped=clamped)


def count_flags(cube: xr.Dataset) -> xr.Dataset:
    """Numbers of pixels along ``time``, lazily, int64: ``pixels``, and one a share of :func:`coverage`.

    They are sums over blocks, the same for any chunking. Those of tiles that share no pixel may be added.

    Raises
    ------
    CubeError
        As :func:`coverage`.
    """
    import xarray as xr

    if "flags" not in cube:
        held = sorted(map(str, cube.data_vars))
        raise CubeError(f"the dataset holds {held}; expected 'flags', as open_cube() gives them")
    sensors = sensors_of(cube)
    if not sensors:
        raise CubeError(
            "nothing tells which sensors the flags are of; keep the bands, or the coordinates s2_items and "
            "s1_items"
        )
    flags = _blocked(check_flags(cube["flags"]))
    per_date = _count_blocks(flags.data, sensors)
    pixels = np.full(flags.shape[0], flags.shape[1] * flags.shape[2], dtype=np.int64)
    counts = {name: ("time", per_date[:, index]) for index, name in enumerate(_masks(sensors)[0])}
    return xr.Dataset({"pixels": ("time", pixels), **counts}, coords=_along_time(cube))


def shares(counts: xr.Dataset) -> xr.Dataset:
    """Counts of :func:`count_flags`, or sums of them over tiles, as shares of ``pixels`` (NaN for none)."""
    whole = counts["pixels"].assign_attrs(long_name="pixels of the grid", units="1")
    table = {"pixels": whole}
    for name in map(str, counts.data_vars):
        if name != "pixels":
            table[name] = (counts[name] / whole.where(whole > 0)).assign_attrs(_share_attrs(name))
    return counts.assign(table)


def _share_attrs(name: str) -> dict[str, str]:
    if name.endswith("_observed"):
        told = f"that Sentinel-{name[1]} observed"
    elif name.startswith("sight_"):
        told = f"that are {name.removeprefix('sight_')} to Sentinel-2, each counted once"
    else:
        told = f"with the flag {name}"
    return {"long_name": f"share of pixels {told}", "units": "1"}


def sensors_of(cube: xr.Dataset) -> tuple[str, ...]:
    """Modalities whose flags mean something in a cube, or in a segmentation of one."""
    held = {*resolve(cube.variables).values(), *map(str, cube.variables)}
    signs = {"S2L2A": "s2_items", "S1RTC": "s1_items", "DEM": "dem"}
    return tuple(
        name for name, sign in signs.items() if sign in held or not held.isdisjoint(MODALITIES[name].names)
    )


def _along_time(cube: xr.Dataset) -> dict[str, xr.Variable]:
    """The coordinates of every date; of a cube of one date without the dim, those that have no dim."""
    if "time" in cube["flags"].dims:
        return {str(name): coord.variable for name, coord in cube.coords.items() if coord.dims == ("time",)}
    single = {str(name): coord.variable for name, coord in cube.coords.items() if not coord.dims}
    mapping = cube["flags"].encoding.get("grid_mapping", "spatial_ref")
    return {name: coord.expand_dims("time") for name, coord in single.items() if name != mapping}


def optical_sight(flags: NDArray[Any]) -> NDArray[Any]:
    """Flags as they matter to Sentinel-2: without a ``failed_read`` of Sentinel-1 or of the elevation.

    Parameters
    ----------
    flags
        Bits of :class:`~xglof.cube.flags.Flag`, whole numbers of any size.

    Returns
    -------
    numpy.ndarray
        The same type and shape. The ground was seen where no bit of :data:`HIDES_S2` is left.
    """
    lacks = {name: (flags & int(Flag[f"{name}_nodata"])) != 0 for name in ("s2", "s1", "dem")}
    failed = (flags & int(Flag.failed_read)) != 0
    elsewhere = failed & ~failed_of("s2", failed, lacks)
    return np.where(elsewhere, flags ^ int(Flag.failed_read), flags)


@functools.cache
def _masks(sensors: tuple[str, ...]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Names of the counts, and ``(pattern, count)``: 1 where a pattern of the bits belongs to a count."""
    patterns = np.arange(1 << _BITS)
    sight = optical_sight(patterns)
    masks: dict[str, Any] = {}
    if "S2L2A" in sensors:
        masks["s2_observed"] = sight & HIDES_S2 == 0
    if "S1RTC" in sensors:
        masks["s1_observed"] = patterns & Flag.s1_nodata == 0
    for flag in [*(flag for name in sensors for flag in SENSOR_FLAGS[name]), Flag.failed_read]:
        masks[str(flag.name)] = patterns & flag != 0
    if "S2L2A" in sensors:
        left = np.ones(patterns.shape, dtype=bool)
        sights = {}
        for name, flag in SIGHTS.items():
            sights[f"sight_{name}"] = left & (sight & flag == flag)
            left = left & (sight & flag != flag)
        masks |= dict(reversed(sights.items()))
    return tuple(masks), np.stack([*masks.values()], axis=1).astype(np.int64)


def _blocked(array: xr.DataArray) -> xr.DataArray:
    """The array in Dask blocks ``(time, rows, columns)``, with a time of one step where it has none."""
    if "time" not in array.dims:
        array = array.drop_vars("time", errors="ignore").expand_dims("time")
    array = array.transpose("time", ...)
    if array.ndim != 3:
        raise CubeError(f"{array.name} has dims {array.dims}; expected time, rows and columns")
    if array.chunks is not None:
        return array
    return array.chunk({"time": 1, array.dims[1]: _CELL_PX, array.dims[2]: _CELL_PX})


def _count_blocks(flags: Any, sensors: tuple[str, ...]) -> Any:
    """Dask array ``(time, count)`` int64 from one ``(time, y, x)`` of flags."""
    import dask.array as da

    times, rows, columns = flags.chunks
    counted = da.map_blocks(
        _count_block,
        flags,
        sensors=sensors,
        chunks=(times, (1,) * len(rows), (1,) * len(columns), (len(_masks(sensors)[0]),)),
        new_axis=[3],
        dtype=np.int64,
        meta=np.empty((0,) * 4, np.int64),
    )
    return counted.sum(axis=(1, 2), dtype=np.int64)


def _count_block(flags: NDArray[np.uint16], *, sensors: tuple[str, ...]) -> NDArray[np.int64]:
    """Counts ``(time, 1, 1, count)`` of a block: a histogram of the patterns of bits, then sums of it."""
    masks = _masks(sensors)[1]
    known = flags & ((1 << _BITS) - 1)
    patterns = np.stack([np.bincount(step.ravel(), minlength=1 << _BITS) for step in known])
    counts: NDArray[np.int64] = (patterns @ masks)[:, None, None, :]
    return counts


def _clamped(cube: xr.Dataset) -> xr.DataArray | None:
    """Pixels along time that the offset took to 0 or below; dates without an offset are not read."""
    import dask.array as da
    import xarray as xr

    cube = cube.rename(resolve(cube.data_vars))
    names = [name for name in MODALITIES["S2L2A"].names if name in cube]
    if not names or "s2_offset" not in cube.coords:
        return None
    had_offset = np.atleast_1d(cube["s2_offset"].to_numpy() > 0)
    steps = np.flatnonzero(had_offset)
    found = da.zeros(len(had_offset), dtype=np.int64, chunks=1)
    if steps.size:
        bands = [_blocked(cube[name]).isel(time=steps) for name in names]
        hit = xr.apply_ufunc(_has_clamped, *bands, dask="parallelized", output_dtypes=[bool])
        counted = hit.data.sum(axis=(1, 2), dtype=np.int64)
        places = np.where(had_offset, np.cumsum(had_offset) - 1, steps.size)
        found = da.concatenate([counted, da.zeros(1, dtype=np.int64)])[places]
    attrs = {"long_name": "pixels that the radiometric offset took to 0 or below", "units": "1"}
    return xr.DataArray(found, dims="time", attrs=attrs)


def _has_clamped(*bands: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Where the lowest of the bands is 1: all have data, and one is at the least value that data have."""
    lowest: NDArray[np.uint16] = functools.reduce(np.minimum, bands)
    clamped: NDArray[np.bool_] = lowest == 1
    return clamped
