"""Rendering of Sentinel-2 L2A numbers over a simulated valley: spectra, sun, shadow, cloud, mixing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xglof.cube.shadow import cast_shadow
from xglof.simulate.scene import Surface, Valley, season
from xglof.simulate.states import classes, lake_numbers, surface_height
from xglof.simulate.terrain import Float, fractal, smoothstep

#: Reflectance x 10,000 in the order of the bands of S2L2A. Magnitudes after spectra published for glacial
#: terrain (snow and ice: Warren 1982; glacial lakes: Giardino et al. 2010); none is a measurement.
_SPECTRA: dict[Surface, tuple[int, ...]] = {
    Surface.lake_ice: (4600, 4750, 4700, 4450, 4250, 3600, 3400, 3050, 2700, 2200, 300, 220),
    Surface.ice: (4300, 4400, 4500, 4250, 4050, 3750, 3600, 3350, 3100, 2700, 260, 190),
    Surface.debris_ice: (1350, 1450, 1600, 1750, 1820, 1830, 1850, 1850, 1830, 1780, 1650, 1450),
    Surface.snow: (8800, 8900, 8800, 8600, 8400, 8000, 7800, 7400, 7100, 6000, 900, 700),
    Surface.debris: (1150, 1250, 1450, 1650, 1750, 1800, 1850, 1900, 1950, 1950, 2300, 2050),
    Surface.dark_debris: (600, 650, 720, 780, 820, 850, 870, 890, 900, 900, 1050, 950),
    Surface.rock: (950, 1050, 1250, 1450, 1500, 1550, 1580, 1600, 1620, 1620, 1850, 1700),
    Surface.dark_rock: (430, 460, 500, 530, 550, 560, 570, 575, 580, 570, 520, 430),
    Surface.meadow: (380, 450, 750, 650, 1150, 2300, 2700, 2850, 3000, 3000, 2200, 1300),
    Surface.wet_sediment: (850, 1000, 1200, 1300, 1340, 1300, 1290, 1240, 1200, 1100, 850, 600),
}
_DRY_MEADOW = (800, 950, 1250, 1600, 1900, 2300, 2500, 2600, 2800, 2800, 3200, 2300)
_CLEAR = (420, 380, 300, 170, 130, 90, 85, 75, 70, 60, 30, 20)
_TURQUOISE = (950, 1100, 1250, 650, 480, 220, 200, 160, 140, 110, 35, 25)
_GREY = (1250, 1450, 1750, 1700, 1550, 950, 920, 720, 640, 480, 60, 40)
_CLOUD = (7200, 7300, 7300, 7400, 7500, 7500, 7500, 7400, 7300, 6500, 5000, 4200)
#: Share of the light at a sunlit level place that comes from the sky, by band.
_SKY = (0.24, 0.20, 0.15, 0.115, 0.10, 0.085, 0.075, 0.06, 0.055, 0.05, 0.022, 0.016)
#: Path radiance left over by the atmospheric correction, reflectance x 10,000 at haze 1.
_HAZE = (260, 200, 140, 100, 85, 70, 60, 50, 45, 40, 15, 10)


@dataclass(frozen=True, slots=True, eq=False)
class OpticalScene:
    """Sentinel-2 numbers of one pass on the scene's 10 m grid.

    Attributes
    ----------
    dn
        ``(band, y, x)`` uint16 in the order of S2L2A, with the baseline's offset, nodata 0.
    scl
        ``(y, x)`` uint8 scene classification, imperfect as the real one.
    cloud_percent
        Share of the swath's part of the scene under cloud, 0 to 100.
    """

    dn: NDArray[np.uint16]
    scl: NDArray[np.uint8]
    cloud_percent: float


@dataclass(frozen=True, slots=True, eq=False)
class _Light:
    """Light over the scene; every array is ``(y, x)`` float32.

    Attributes
    ----------
    direct
        Direct light relative to level ground, 0 to 2.2.
    sunlit
        Share of the direct light that terrain and cloud let through, 0 to 1.
    cloud, cloud_shade
        Opacity of the cloud overhead, and of the one towards the sun, 0 to 1.
    """

    direct: Float
    sunlit: Float
    cloud: Float
    cloud_shade: Float


def render_optical(place: Valley, index: int) -> OpticalScene:
    """Sentinel-2 numbers of optical pass ``index`` over a simulated valley.

    Light is direct sun by the cosine of incidence, cut off by cast shadow and cloud shadow, plus blue sky
    light; the sum is blurred by the sensor's point spread, so borders mix; then haze, cloud and noise.

    Parameters
    ----------
    place
        What :func:`xglof.simulate.valley` returned.
    index
        Into ``place.optical``.

    Returns
    -------
    OpticalScene
        About 30 bytes a pixel; needs some 100 bytes a pixel while it runs.
    """
    from scipy.ndimage import gaussian_filter

    view = place.optical[index]
    rng = np.random.default_rng([place.seed, 8, index])
    cover, numbers = classes(place, index)[place.interior], lake_numbers(place, index)[place.interior]
    light = _light(place, index, rng)
    shape = (cover.shape[0], cover.shape[1])
    grain, tilt = _grain(place, shape, cover)
    milk = fractal(rng, shape, 3.2, coarsest=700 / place.resolution)
    valid = _swath(place, rng, shape) if view.wedge else np.ones(shape, dtype=bool)
    haze = place.character.haze * rng.uniform(0, 1)
    dn = np.zeros((len(_SKY), *shape), dtype=np.uint16)
    table = _lookup(place, index)
    for band in range(len(_SKY)):
        albedo = table[band][cover]
        _paint_water(albedo, place, numbers, cover, milk, band)
        albedo *= grain * (1 + tilt * np.float32((band - 5) / 6))
        sky = np.float32(_SKY[band])
        radiance = albedo * ((1 - sky) * light.direct * light.sunlit + sky)
        radiance = gaussian_filter(radiance, 0.55, truncate=3)
        radiance += np.float32(haze * _HAZE[band])
        radiance += light.cloud * (np.float32(_CLOUD[band]) * (1 + 0.08 * milk) - radiance)
        radiance += rng.standard_normal(shape, dtype=np.float32) * (8 + 0.012 * radiance)
        numbers_out = np.clip(np.rint(radiance), 1, 20_000) + view.offset
        dn[band] = np.where(valid, numbers_out, 0)
    cloudy = float(100 * (light.cloud[valid] > 0.3).mean())
    return OpticalScene(dn, _classify(rng, cover, light, valid), round(cloudy, 2))


def _lookup(place: Valley, index: int) -> NDArray[np.float32]:
    """Reflectance by band and class for the season, ``(band, class)``."""
    table = np.zeros((len(_SKY), max(Surface) + 1), dtype=np.float32)
    for item, spectrum in _SPECTRA.items():
        table[:, item] = spectrum
    dryness = min(max((1 - math.cos(season(place, index))) / 2 * 2.2, 0.1), 1)
    table[:, Surface.meadow] += dryness * (np.array(_DRY_MEADOW) - table[:, Surface.meadow])
    rng = np.random.default_rng([place.seed, 9])  # the geology of the place
    hue = (
        1
        + rng.normal(0, 0.05, (max(Surface) + 1,))
        + rng.normal(0, 0.1, ()) * np.linspace(-1, 1, 12)[:, None]
    )
    table *= hue.astype(np.float32)
    return table


def _paint_water(
    albedo: Float,
    place: Valley,
    numbers: NDArray[np.uint16],
    cover: NDArray[np.uint8],
    milk: Float,
    band: int,
) -> None:
    """Give every lake its own colour, in place; frozen ones a mosaic of bare ice and snow."""
    for lake in place.lakes:
        here = numbers == lake.number
        if not here.any():
            continue
        if (cover[here] == Surface.lake_ice).all():
            snow = smoothstep(0.5 + 0.5 * milk[here] + (lake.milkiness - 0.5))
            black = np.float32(0.35 + 0.65 * lake.turbidity)
            albedo[here] = albedo[here] * black * (1 - snow) + snow * _SPECTRA[Surface.snow][band]
            continue
        turbid = np.clip(lake.turbidity + 0.08 * milk[here], 0, 1)
        flour = _TURQUOISE[band] + lake.milkiness * (_GREY[band] - _TURQUOISE[band])
        albedo[here] = _CLEAR[band] + turbid * (flour - _CLEAR[band])


def _grain(place: Valley, shape: tuple[int, int], cover: NDArray[np.uint8]) -> tuple[Float, Float]:
    """Texture of albedo (a factor) and of colour (a tilt), ``(y, x)``; land only, water is smooth."""
    rng = np.random.default_rng([place.seed, 10])
    strength = np.full(max(Surface) + 1, 0.16, dtype=np.float32)
    strength[[Surface.snow, Surface.lake_ice]] = 0.05
    strength[[Surface.water_clear, Surface.water_silty]] = 0.02
    strength[Surface.ice] = 0.12
    field = fractal(rng, shape, 2.0, coarsest=400 / place.resolution)
    tilt = fractal(rng, shape, 2.4, coarsest=800 / place.resolution)
    local = strength[cover]
    return np.exp(local * field).astype(np.float32), (0.5 * local * tilt).astype(np.float32)


def _light(place: Valley, index: int, rng: np.random.Generator) -> _Light:
    """Sun, terrain shadow and cloud over the scene at a pass."""
    from scipy.ndimage import gaussian_filter, zoom

    view = place.optical[index]
    surface = surface_height(place, index)
    elevation = max(view.sun_elevation, 3.0)
    zenith, azimuth = math.radians(90 - elevation), math.radians(view.sun_azimuth)
    slope_s, slope_e = np.gradient(gaussian_filter(surface, 0.7), np.float32(place.resolution))
    norm = np.sqrt(1 + slope_s**2 + slope_e**2)
    toward = -slope_e * math.sin(azimuth) * math.sin(zenith) + slope_s * math.cos(azimuth) * math.sin(zenith)
    incidence = (toward + math.cos(zenith)) / norm
    direct = np.clip(incidence / math.cos(zenith), 0, 2.2)
    coarse = np.ascontiguousarray(surface[::2, ::2])
    shade = cast_shadow(
        coarse,
        azimuth=view.sun_azimuth,
        elevation=elevation,
        resolution=2 * place.resolution,
        max_distance_m=min(float(np.ptp(coarse)) / math.tan(math.radians(elevation)), 5000.0),
    )
    smooth = zoom(gaussian_filter(shade.astype(np.float32), 0.5), 2, order=1, grid_mode=True, mode="nearest")
    smooth = smooth[: surface.shape[0], : surface.shape[1]]
    cloud, cloud_shade = _clouds(place, rng, view.cloud_cover, azimuth, elevation)
    sunlit = (1 - smooth) * (1 - 0.85 * cloud_shade)
    inside = place.interior
    return _Light(
        *(part[inside].astype(np.float32) for part in (direct, sunlit, cloud, cloud_shade)),
    )


def _clouds(
    place: Valley, rng: np.random.Generator, cover: float, azimuth: float, elevation: float
) -> tuple[Float, Float]:
    """Opacity of cloud and darkness of its shadow, ``(y, x)`` 0 to 1, padded."""
    shape = (place.terrain.bed.shape[0], place.terrain.bed.shape[1])
    field = fractal(rng, shape, 3.4, coarsest=rng.uniform(1200, 3500) / place.resolution)
    height_m = rng.uniform(500, 1600)
    if cover <= 0:
        empty = np.zeros(shape, dtype=np.float32)
        return empty, empty
    limit = float(np.quantile(field, 1 - cover))
    opacity = smoothstep((field - limit + 0.25) / 0.9) * 0.98
    reach = min(height_m / math.tan(math.radians(elevation)) / place.resolution, place.margin * 1.5)
    away = (round(reach * math.cos(azimuth)), round(-reach * math.sin(azimuth)))  # rows, columns
    rows = np.clip(np.arange(shape[0]) - away[0], 0, shape[0] - 1)
    columns = np.clip(np.arange(shape[1]) - away[1], 0, shape[1] - 1)
    return opacity.astype(np.float32), opacity[np.ix_(rows, columns)].astype(np.float32)


def _swath(place: Valley, rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Mask of the swath, whose edge runs about north to south through a corner."""
    edge = shape[1] * rng.uniform(0.08, 0.2) - 0.21 * np.arange(shape[0])[:, None]
    return np.broadcast_to(np.arange(shape[1])[None, :] >= edge, shape)


def _classify(
    rng: np.random.Generator, cover: NDArray[np.uint8], light: _Light, valid: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Scene classification with the real one's habits: shadow against water, missed thin cloud."""
    shape = (cover.shape[0], cover.shape[1])
    table = np.full(max(Surface) + 1, 5, dtype=np.uint8)
    table[[Surface.water_clear, Surface.water_silty]] = 6
    table[[Surface.snow, Surface.ice, Surface.lake_ice]] = 11
    table[Surface.meadow] = 4
    scl = table[cover]
    whim = fractal(rng, shape, 2.2, coarsest=60)
    dark = light.sunlit * light.direct < 0.25
    snowy = scl == 11
    scl[dark & ~snowy & ((scl != 6) | (whim > 0.2))] = 2
    scl[dark & snowy & (whim > 0.9)] = 6  # blue shaded snow passes for water
    scl[(cover == Surface.dark_rock) & (whim > 1.0)] = 2
    scl[(cover == Surface.water_silty) & (whim > 1.3)] = 5
    scl[(whim < -2.0) & (scl != 6)] = 7
    scl[(light.cloud_shade > 0.45) & (whim > -0.9)] = 3
    scl[light.cloud + 0.04 * whim > 0.18] = 10
    scl[light.cloud + 0.04 * whim > 0.38] = 8
    scl[light.cloud > 0.68] = 9
    scl[~valid] = 0
    return scl
