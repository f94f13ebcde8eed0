"""A simulated glacial valley whose every lake is known, date by date."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xglof.errors import CubeError
from xglof.simulate.basins import Ground, carve
from xglof.simulate.passes import (
    OpticalPass,
    RadarPass,
    default_days,
    optical_passes,
    radar_passes,
    year_phase,
)
from xglof.simulate.terrain import Character, Lake, Terrain, fractal, mountains, slope_degrees

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

#: Year in which the DEM was observed, before the lake grew and before the outburst.
DEM_EPOCH = 2013
_UTM_LATITUDES = {32632: (45, 47), 32633: (46, 48), 32643: (32, 38), 32644: (29, 33), 32645: (27, 30)}
_UTM_LATITUDES |= {32646: (28, 30), 32606: (59, 62), 32719: (-34, -14), 32718: (-13, -9), 32759: (-45, -43)}


class Surface(IntEnum):
    """What covers a pixel (uint8); 0 is nothing."""

    water_clear = 1
    water_silty = 2
    lake_ice = 3
    ice = 4
    debris_ice = 5
    snow = 6
    debris = 7
    dark_debris = 8
    rock = 9
    dark_rock = 10
    meadow = 11
    wet_sediment = 12


@dataclass(frozen=True, slots=True, eq=False)
class Valley:
    """A simulated place through time; nothing in it was ever observed.

    Attributes
    ----------
    seed
        What it was drawn from.
    geobox
        Grid of the scene (10 m, north up). Arrays of the terrain carry ``margin`` more pixels all round.
    margin
        Pixels of terrain around the scene, for shadows and for the DEM.
    character, terrain, ground_cover
        What the seed drew; ground and basins; classes of the bare ground, uint8, without season.
    optical, radar
        Sentinel-2 and Sentinel-1 observations, in order of time.
    outburst
        Day from which on passes see the draining lake drained; None: its pass was not asked for, see
        :func:`xglof.simulate.states.drained_from`.
    split
        Day from which on passes see the splitting lake in two parts; None where no lake splits.
    """

    seed: int
    geobox: GeoBox
    margin: int
    character: Character
    terrain: Terrain
    ground_cover: NDArray[np.uint8]
    optical: tuple[OpticalPass, ...]
    radar: tuple[RadarPass, ...]
    outburst: date | None = None
    split: date | None = None

    @property
    def lakes(self) -> tuple[Lake, ...]:
        """The lakes, by number."""
        return self.terrain.lakes

    @property
    def resolution(self) -> float:
        """Pixel size, metres."""
        return float(abs(self.geobox.resolution.x))

    @property
    def interior(self) -> tuple[slice, slice]:
        """Rows and columns of the scene inside the padded arrays."""
        rows, columns = self.terrain.bed.shape
        return slice(self.margin, rows - self.margin), slice(self.margin, columns - self.margin)


def valley(
    seed: int = 0,
    *,
    shape: tuple[int, int] = (512, 512),
    resolution: float = 10.0,
    crs: str | None = "EPSG:32645",
    dem: xr.DataArray | None = None,
    dates: Iterable[str | date | datetime] | None = None,
    outburst: str | date | None = None,
    split: str | date | None = None,
) -> Valley:
    """Simulated glacial valley with lakes, one that grows, one that drains and, on request, one that splits.

    Parameters
    ----------
    seed
        Fixes everything: terrain, height, latitude, lakes, turbidity, snow, haze, cloud, dates.
    shape
        ``(y, x)`` in pixels, from 64; ignored where ``dem`` is given.
    resolution
        Pixel size, metres; ignored where ``dem`` is given.
    crs
        A projected CRS in metres; None draws a UTM zone of a glaciated range.
    dem
        Ground to carve basins into: ``(y, x)`` float metres, north up, square pixels, projected CRS, no
        gaps. Its grid becomes the scene's. None simulates mountains.
    dates
        Days of the Sentinel-2 observations; None draws twelve over 2019 to 2023.
    outburst
        Day (UTC) from which on the draining lake is seen drained; None takes the pass after three fifths of
        those over open water.
    split
        Day (UTC) on which the level of one lake more falls below a sill in its bed, and two lakes remain;
        None leaves that lake out. The others keep number, place and level; a new moraine may take a few
        pixels of a neighbour.

    Returns
    -------
    Valley
        A value of a few numpy arrays; rendering is left to :func:`render_optical` and
        :func:`render_radar`.

    Raises
    ------
    CubeError
        A CRS that is not in metres, a grid too small, a DEM with gaps, dates that repeat, an event that no
        two passes enclose, or no room for the lake that splits.

    Examples
    --------
    >>> place = valley(1, shape=(96, 96))
    >>> sorted({lake.kind for lake in place.lakes})
    ['draining', 'growing', 'stable']
    """
    if seed < 0:
        raise CubeError(f"seed is {seed}; expected 0 or more")
    events = {"outburst": outburst, "split": split}
    known = {name: _days([day], name)[0] for name, day in events.items() if day is not None}
    rng = np.random.default_rng([seed, 1])
    geobox = _scene_grid(rng, shape, resolution, crs) if dem is None else _dem_grid(dem)
    longitude, latitude = _centre_degrees(geobox)
    character = _draw_character(rng, dem)
    margin = _margin(geobox)
    padded = (geobox.shape.y + 2 * margin, geobox.shape.x + 2 * margin)
    size = float(abs(geobox.resolution.x))
    if dem is None:
        elevation, along, across = mountains(rng, padded, size, character)
        ground = Ground(elevation, along, across, size, margin)
    else:
        rows_first = dem.transpose(*dem.odc.spatial_dims).values
        heights = np.pad(np.asarray(rows_first, dtype=np.float32), margin, mode="symmetric")
        ground = Ground(heights, None, None, size, margin)
    parting = None if split is None else np.random.default_rng([seed, 14])
    terrain = carve(np.random.default_rng([seed, 2]), ground, splitting=parting)
    days = default_days(rng, latitude) if dates is None else _days(dates)
    optical = optical_passes(
        np.random.default_rng([seed, 3]), days, longitude, latitude, character.cloudiness
    )
    _check_enclosed(known, optical)
    return Valley(
        seed=seed,
        geobox=geobox,
        margin=margin,
        character=character,
        terrain=terrain,
        ground_cover=_cover_ground(np.random.default_rng([seed, 4]), terrain, character, size),
        optical=optical,
        radar=radar_passes(np.random.default_rng([seed, 5]), optical, longitude, list(known.values())),
        outburst=known.get("outburst"),
        split=known.get("split"),
    )


def _days(dates: Iterable[str | date | datetime], name: str = "dates") -> list[date]:
    try:
        days = sorted(np.datetime64(day, "D").astype(date) for day in dates)
    except ValueError as error:
        raise CubeError(f"a day of {name} can't be read: {error}; expected such as 2021-07-15") from error
    if not days or len(set(days)) < len(days):
        raise CubeError(f"{name} are {days}; expected one or more different days")
    return days


def _check_enclosed(events: dict[str, date], optical: tuple[OpticalPass, ...]) -> None:
    first, last = optical[0].time.date(), optical[-1].time.date()
    for name, day in events.items():
        if not first < day <= last:
            raise CubeError(
                f"{name} is {day}; expected a day after the first pass, {first}, up to the last, {last}"
            )


def _draw_character(rng: np.random.Generator, dem: xr.DataArray | None) -> Character:
    floor = rng.uniform(0, 1200) if rng.random() < 0.35 else rng.uniform(1200, 5000)
    relief = rng.uniform(600, 1500)
    if dem is not None:
        low, high = np.percentile(dem.values, [5, 98])
        floor, relief = float(low), max(float(high - low), 100.0)
    return Character(
        floor_m=float(floor),
        relief_m=float(relief),
        gradient=float(rng.uniform(0.02, 0.06)),
        snow_line_m=float(floor + relief * rng.uniform(0.65, 1.35)),
        snow_swing_m=float(relief * rng.uniform(1.2, 1.9)),
        meadow_top_m=float(floor + relief * rng.uniform(-0.1, 0.6)),
        meadow_share=float(rng.uniform(0, 1)),
        dark_share=float(rng.uniform(0.05, 0.5)),
        haze=float(rng.random()),
        cloudiness=float(rng.uniform(0.3, 1.0)),
    )


def _scene_grid(
    rng: np.random.Generator, shape: tuple[int, int], resolution: float, crs: str | None
) -> GeoBox:
    from affine import Affine
    from odc.geo.geobox import GeoBox

    if min(shape) < 64 or not resolution > 0:
        raise CubeError(f"shape is {shape} at {resolution} m; expected 64 px or more a side, metres above 0")
    chosen = int(rng.choice(list(_UTM_LATITUDES)))
    projected = _projected(crs if crs is not None else f"EPSG:{chosen}")
    default = (28, 47) if projected.to_epsg() is None or projected.to_epsg() < 32700 else (-46, -15)
    low, high = _UTM_LATITUDES.get(projected.to_epsg() or 0, default)
    latitude = rng.uniform(low, high)
    northing = latitude * 110_900 + (0 if latitude >= 0 else 10_000_000)
    snap = 6 * resolution  # bands of 10, 20 and 60 m share their corner
    left, top = (round(value / snap) * snap for value in (rng.uniform(350_000, 640_000), northing))
    return GeoBox(shape, Affine(resolution, 0, left, 0, -resolution, top), projected.to_string())


def _projected(crs: Any) -> Any:
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        parsed = CRS.from_user_input(crs)
    except CRSError as error:
        raise CubeError(f"crs is {crs!r}, which is none; expected such as EPSG:32645") from error
    if not parsed.is_projected or parsed.axis_info[0].unit_conversion_factor != 1:
        raise CubeError(
            f"crs is {parsed.to_string()}; expected a projected CRS in metres, such as EPSG:32645"
        )
    return parsed


def _dem_grid(dem: xr.DataArray) -> GeoBox:
    import odc.geo.xr  # noqa: F401  registers .odc

    geobox: GeoBox | None = dem.odc.geobox
    if geobox is None or geobox.crs is None:
        raise CubeError("dem has no CRS; expected a DataArray (y, x) with spatial_ref, as odc-geo writes it")
    _projected(str(geobox.crs))
    transform = geobox.affine
    if dem.ndim != 2 or transform.b or transform.d or transform.a <= 0 or transform.e != -transform.a:
        raise CubeError(
            f"dem has dims {dem.dims} and affine {tuple(transform)[:6]}; expected north-up squares"
        )
    if min(dem.shape) < 64 or not bool(np.isfinite(dem.values).all()):
        raise CubeError(
            f"dem is {dem.shape} or has gaps; expected 64 px or more a side and every pixel known"
        )
    return geobox


def _centre_degrees(geobox: GeoBox) -> tuple[float, float]:
    centre = geobox.extent.centroid.to_crs("EPSG:4326")
    (longitude, latitude) = centre.coords[0]
    return float(longitude), float(latitude)


def _margin(geobox: GeoBox) -> int:
    """Pixels of terrain that the DEM's rectangle in degrees needs around the scene."""
    from odc.geo.geom import box

    degrees = geobox.extent.to_crs("EPSG:4326", resolution=1000).boundingbox
    rim = (
        box(*degrees.buffered(0.012).bbox, "EPSG:4326").to_crs(str(geobox.crs), resolution=0.005).boundingbox
    )
    here = geobox.boundingbox
    need = max(here.left - rim.left, rim.right - here.right, here.bottom - rim.bottom, rim.top - here.top)
    return math.ceil(float(need) / float(abs(geobox.resolution.x))) + 2


def _cover_ground(
    rng: np.random.Generator, terrain: Terrain, character: Character, resolution: float
) -> NDArray[np.uint8]:
    """Class of the bare ground, ``(y, x)`` uint8: rock, debris, meadow, sediment, bright and dark."""
    from scipy.ndimage import gaussian_filter

    shape = (terrain.bed.shape[0], terrain.bed.shape[1])
    z = terrain.bed
    slope = terrain.slope
    broad = fractal(rng, shape, 2.6, coarsest=1500 / resolution)
    fine = fractal(rng, shape, 2.0, coarsest=500 / resolution)
    dark = fractal(rng, shape, 2.8, coarsest=900 / resolution) > np.sqrt(2) * (1.3 - 3 * character.dark_share)
    rocky = slope + 6 * fine > 33
    cover = np.where(
        rocky,
        np.where(dark, Surface.dark_rock, Surface.rock),
        np.where(dark, Surface.dark_debris, Surface.debris),
    )
    green = (
        (z + 70 * fine < character.meadow_top_m) & (slope < 30) & (broad < 2.6 * character.meadow_share - 1.3)
    )
    cover[green & ~rocky] = Surface.meadow
    flat = (slope_degrees(gaussian_filter(z, 3.0), resolution) < 5) & (
        fractal(rng, shape, 2.4, coarsest=600 / resolution) > 0.4
    )
    cover[flat & (z < character.floor_m + 0.4 * character.relief_m)] = Surface.wet_sediment
    return cover.astype(np.uint8)


def season(place: Valley, index: int) -> float:
    """Angle of the season at an optical pass: 0 at the end of the melt season, pi in deep winter."""
    return year_phase(place.optical[index].time, _centre_degrees(place.geobox)[1])


def snow_line(place: Valley, index: int) -> float:
    """Height of the snow line at an optical pass, metres."""
    winter = (1 - math.cos(season(place, index))) / 2
    return place.character.snow_line_m - place.character.snow_swing_m * winter
