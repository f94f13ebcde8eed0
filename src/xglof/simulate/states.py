"""State of a simulated valley at one date: water, ice, classes, and the surface that the sun meets."""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xglof.simulate.scene import DEM_EPOCH, Surface, Valley, snow_line
from xglof.simulate.terrain import Float, Lake, fractal

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

_FIRST_SHARE, _LAST_SHARE, _EPOCH_SHARE = 0.36, 0.95, 0.14  # of the growing lake's length that is free of ice


def drained_from(place: Valley) -> int:
    """Index of the first optical pass after the outburst; the number of passes where there is none."""
    if place.outburst is not None:
        return _first_from(place, place.outburst)
    count = len(place.optical)
    open_water = [i for i in range(1, count) if not place.optical[i].winter]
    if not open_water:
        return count
    return open_water[len(open_water) * 3 // 5]


def _first_from(place: Valley, day: date) -> int:
    """Index of the first optical pass on ``day`` or later."""
    return sum(view.time.date() < day for view in place.optical)


def _has_fallen(place: Valley, lake: Lake, index: int | None) -> bool:
    """Whether the lake stands at its lower level at a pass (None: the DEM's epoch)."""
    if index is None:
        return False
    if lake.kind == "splitting" and place.split is not None:
        return index >= _first_from(place, place.split)
    return lake.kind == "draining" and index >= drained_from(place)


def lake_numbers(place: Valley, index: int | None) -> NDArray[np.uint16]:
    """Number of the lake at each pixel, 0 elsewhere, at optical pass ``index`` (None: the DEM's epoch).

    Returns
    -------
    numpy.ndarray
        ``(y, x)`` uint16 on the padded grid. Frozen and clouded lakes are lakes.
    """
    terrain = place.terrain
    numbers = terrain.basin.copy()
    for lake in terrain.lakes:
        here = terrain.basin == lake.number
        if lake.kind == "growing":
            numbers[here & glacier(place, index)] = 0
        elif _has_fallen(place, lake, index):
            numbers[here & (terrain.bed >= lake.drained_level_m)] = 0
    return numbers


def glacier(place: Valley, index: int | None) -> NDArray[np.bool_]:
    """Mask of the valley glacier, ``(y, x)`` bool on the padded grid, at a pass or at the DEM's epoch."""
    return glacier_thickness(place, index) > 0


def glacier_thickness(place: Valley, index: int | None) -> Float:
    """Height of the valley glacier over water or ground, ``(y, x)`` float32 metres, 0 outside.

    The front retreats up the growing lake between the first and the last pass; the sides taper.
    """
    terrain = place.terrain
    half = terrain.tongue_half_width_m
    shape = (terrain.bed.shape[0], terrain.bed.shape[1])
    wander = _noise(place.seed, 6, shape, 400 / place.resolution)
    inward = terrain.along + 0.12 * terrain.reach_m * wander - _front(place, index)
    width = half * (0.95 + 0.3 * np.clip(inward / 1500, 0, 1)) * (1 + 0.06 * wander)
    side = np.clip(1 - (terrain.across / width) ** 2, 0, 1)
    # a DEM from outside knows no valley: ice ends where the ground outgrows it
    height = 12 + 60 * np.sqrt(np.clip(inward / 1500, 0, 1))
    thickness = height * np.sqrt(side)
    above = terrain.bed - (_growing(place).level_m + 0.09 * np.maximum(inward, 0)) > 90
    thickness = np.where((side > 0) & ~above, thickness, 0)
    under = terrain.basin == _growing(place).number  # in the lake ice reaches from shore to shore
    thickness = np.where(under, np.maximum(thickness, height * 0.5), thickness)
    return np.where(inward > 0, thickness, 0).astype(np.float32)


def _growing(place: Valley) -> Lake:
    return next(lake for lake in place.lakes if lake.kind == "growing")


def _front(place: Valley, index: int | None) -> float:
    """Where the glacier ends along its axis, metres upstream from the growing lake's centre."""
    if index is None:
        share = _EPOCH_SHARE
    else:
        first, last = place.optical[0].time, place.optical[-1].time
        span = max((last - first).total_seconds(), 1.0)
        passed = (place.optical[index].time - first).total_seconds() / span
        share = _FIRST_SHARE + (_LAST_SHARE - _FIRST_SHARE) * passed
    return (2 * share - 1) * place.terrain.reach_m


def surface_height(place: Valley, index: int | None) -> Float:
    """Height of what the sun meets, ``(y, x)`` float32 metres, padded: ground, level water, glacier."""
    heights = place.terrain.bed.copy()
    basin = place.terrain.basin
    wet = lake_numbers(place, index)
    for lake in place.lakes:
        fallen = _has_fallen(place, lake, index)
        heights[wet == lake.number] = lake.drained_level_m if fallen else lake.level_m
        if lake.kind == "growing":  # the tongue floats or stands over the lake to come
            under = (basin == lake.number) & (wet == 0)
            heights[under] = lake.level_m
    return (heights + glacier_thickness(place, index)).astype(np.float32)


def classes(place: Valley, index: int) -> NDArray[np.uint8]:
    """Class of every pixel at an optical pass, ``(y, x)`` uint8 on the padded grid, see :class:`Surface`."""
    terrain = place.terrain
    shape = (terrain.bed.shape[0], terrain.bed.shape[1])
    cover, slope = place.ground_cover.copy(), terrain.slope
    patches = _noise(place.seed, 7, shape, 800 / place.resolution)
    ice = glacier(place, index)
    perennial = terrain.bed + 120 * patches > place.character.snow_line_m + 0.25 * place.character.relief_m
    cover[(ice | perennial) & (slope < 42)] = Surface.ice
    dirty = ice & (terrain.along + 500 * patches < terrain.reach_m + 900)
    cover[dirty] = np.where(patches[dirty] > 0.3, Surface.ice, Surface.debris_ice)
    emptied = (terrain.basin > 0) & ~ice
    cover[emptied] = Surface.wet_sediment
    snow = terrain.bed + 90 * patches - 3 * np.maximum(slope - 35, 0) * patches > snow_line(place, index)
    cover[snow & (slope + 8 * patches < 52)] = Surface.snow
    wet = lake_numbers(place, index)
    for lake in place.lakes:
        here = wet == lake.number
        if place.optical[index].winter:
            cover[here] = Surface.lake_ice
        else:
            cover[here] = Surface.water_silty if lake.turbidity > 0.4 else Surface.water_clear
    return cover


@lru_cache(maxsize=4)
def _noise(seed: int, purpose: int, shape: tuple[int, int], coarsest: float) -> Float:
    """Field that stays the same from date to date."""
    return fractal(np.random.default_rng([seed, purpose]), shape, 2.7, coarsest=coarsest)


def true_lakes(place: Valley) -> xr.Dataset:
    """Truth of a valley as a dataset.

    Returns
    -------
    xarray.Dataset
        Dims ``(time, y, x)`` on the scene's grid, ``time`` datetime64[ns] UTC without zone: ``lake`` uint8
        (1 lake, frozen and clouded ones too; 0 land), ``classes`` uint8 (:class:`Surface`),
        ``lake_number`` uint16 (0 land).
    """
    numbers = [lake_numbers(place, i)[place.interior] for i in range(len(place.optical))]
    cover = [classes(place, i)[place.interior] for i in range(len(place.optical))]
    times = np.array([view.time.replace(tzinfo=None) for view in place.optical], dtype="datetime64[ns]")
    return truth_dataset(place.geobox, times, np.stack(numbers), np.stack(cover), seed=place.seed)


def truth_dataset(
    geobox: GeoBox,
    times: NDArray[np.datetime64],
    numbers: NDArray[np.uint16],
    cover: NDArray[np.uint8],
    *,
    seed: int,
) -> xr.Dataset:
    """Dataset of lake numbers and classes ``(time, y, x)`` on their grid and dates."""
    import xarray as xr
    from odc.geo.xr import xr_coords

    dims = ("time", *geobox.dims)
    coords = {"time": times, **xr_coords(geobox)}
    bands = {"lake": (numbers > 0).astype(np.uint8), "classes": cover, "lake_number": numbers}
    variables = {
        name: xr.DataArray(values, dims=dims, attrs={"grid_mapping": "spatial_ref"})
        for name, values in bands.items()
    }
    dataset = xr.Dataset(variables, coords=coords)
    dataset["lake"].attrs |= {
        "long_name": "simulated lake",
        "flag_values": [0, 1],
        "flag_meanings": "land lake",
    }
    dataset["classes"].attrs |= {
        "long_name": "simulated surface class",
        "flag_values": [item.value for item in Surface],
        "flag_meanings": " ".join(item.name for item in Surface),
    }
    return dataset.assign_attrs(title="simulated glacial valley: truth", seed=seed, dem_epoch=DEM_EPOCH)
