"""Rendering of Sentinel-1 terrain-corrected backscatter over a simulated valley."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xglof.cube.shadow import cast_shadow
from xglof.simulate.scene import Surface, Valley
from xglof.simulate.states import classes, lake_numbers, surface_height
from xglof.simulate.terrain import Float, fractal

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

#: Nodata of the real collection.
RADAR_NODATA = -32768.0
_FRAME_PX = 6  # the radar image reaches a little beyond the optical one
_LOOKS = 4.4  # equivalent number of looks of IW GRD
#: Mean gamma0 in dB, VV and VH, dry or wet where the season matters.
_BACKSCATTER: dict[Surface, tuple[float, float]] = {
    Surface.lake_ice: (-13.0, -20.5),
    Surface.ice: (-10.0, -17.0),
    Surface.debris_ice: (-8.8, -15.8),
    Surface.snow: (-10.5, -17.5),
    Surface.debris: (-9.0, -16.0),
    Surface.dark_debris: (-9.5, -16.5),
    Surface.rock: (-8.0, -15.0),
    Surface.dark_rock: (-8.5, -15.5),
    Surface.meadow: (-11.0, -17.0),
    Surface.wet_sediment: (-13.0, -20.5),
}
_WET_SNOW, _CALM, _ROUGH = (-17.0, -24.5), (-20.5, -28.5), (-13.0, -22.0)


@dataclass(frozen=True, slots=True, eq=False)
class RadarScene:
    """Sentinel-1 gamma0 of one pass.

    Attributes
    ----------
    geobox
        Its own grid, a fraction of a pixel off the optical one.
    vv, vh
        ``(y, x)`` float32 linear power, nodata -32768.
    """

    geobox: GeoBox
    vv: Float
    vh: Float


def render_radar(place: Valley, index: int) -> RadarScene:
    """Sentinel-1 gamma0 of radar pass ``index`` over a simulated valley.

    Means by class and season, what terrain flattening leaves over, layover, radar shadow, and gamma
    distributed speckle of 4.4 looks.

    Parameters
    ----------
    place
        What :func:`xglof.simulate.valley` returned.
    index
        Into ``place.radar``.

    Returns
    -------
    RadarScene
        On its own grid, which covers the scene.
    """
    view = place.radar[index]
    rng = np.random.default_rng([place.seed, 11, index])
    shift = np.random.default_rng([place.seed, 12, view.relative_orbit]).uniform(0.15, 0.85, 2)
    means = _means(place, index, rng)
    slope, layover, shadow = _geometry(place, index)
    residual = 10 ** (np.clip(0.09 * slope, -2.5, 3.0) / 10)
    residual = np.where(layover, residual * 3.5, residual).astype(np.float32)
    geobox, window = _grid(place, shift)
    hidden = _resample(shadow.astype(np.float32), window, shift) > 0.5
    lost = hidden & (fractal(rng, (hidden.shape[0], hidden.shape[1]), 2.5, coarsest=40) > -0.2)
    images = []
    for mean, noise_db in zip(means, (-23.0, -29.0), strict=True):
        power = _resample((mean * residual).astype(np.float32), window, shift)
        noise = np.float32(10 ** (noise_db / 10))
        power = np.where(hidden, noise, power + 0.1 * noise)
        speckle = rng.standard_gamma(_LOOKS, power.shape, dtype=np.float32) / np.float32(_LOOKS)
        images.append(np.where(lost, np.float32(RADAR_NODATA), power * speckle).astype(np.float32))
    return RadarScene(geobox, images[0], images[1])


def _grid(place: Valley, shift: NDArray[np.float64]) -> tuple[GeoBox, tuple[slice, slice]]:
    """The radar's grid, and the padded pixels (one row and column more) that it is sampled from."""
    from odc.geo.geobox import GeoBox

    rows, columns = place.geobox.shape
    start = place.margin - _FRAME_PX
    shape = (rows + 2 * _FRAME_PX - 1, columns + 2 * _FRAME_PX - 1)
    corner = place.geobox.affine * place.geobox.affine.translation(shift[1] - _FRAME_PX, shift[0] - _FRAME_PX)
    window = (slice(start, start + shape[0] + 1), slice(start, start + shape[1] + 1))
    return GeoBox(shape, corner, place.geobox.crs), window


def _resample(values: Float, window: tuple[slice, slice], shift: NDArray[np.float64]) -> Float:
    """Bilinear sample of ``values`` a fraction of a pixel down and right."""
    field = values[window]
    down, right = (np.float32(part) for part in shift)
    rows = field[:-1] + down * (field[1:] - field[:-1])
    return np.asarray(rows[:, :-1] + right * (rows[:, 1:] - rows[:, :-1]), dtype=np.float32)


def _means(place: Valley, index: int, rng: np.random.Generator) -> tuple[Float, Float]:
    """Speckle-free linear power in VV and VH, ``(y, x)`` padded."""
    view = place.radar[index]
    cover, numbers = classes(place, view.optical), lake_numbers(place, view.optical)
    melting = not place.optical[view.optical].winter
    table = np.zeros((2, max(Surface) + 1), dtype=np.float32)
    for item, decibels in _BACKSCATTER.items():
        table[:, item] = decibels
    if melting:
        wet = rng.uniform(0.2, 1.0)
        table[:, Surface.snow] += wet * (np.array(_WET_SNOW) - table[:, Surface.snow])
        table[:, Surface.ice] -= 2.0 * wet
    grain = fractal(rng, (cover.shape[0], cover.shape[1]), 2.2, coarsest=300 / place.resolution)
    images = []
    for channel in range(2):
        decibels = table[channel][cover] + 1.1 * grain
        for lake in place.lakes:
            here = (numbers == lake.number) & (cover != Surface.lake_ice)
            rough = view.wind * (0.4 + 0.6 * lake.roughness)
            water = _CALM[channel] + rough * (_ROUGH[channel] - _CALM[channel])
            decibels[here] = water + 0.5 * grain[here]
        images.append((10 ** (decibels / 10)).astype(np.float32))
    return images[0], images[1]


def _geometry(place: Valley, index: int) -> tuple[Float, NDArray[np.bool_], NDArray[np.bool_]]:
    """Slope towards the radar in degrees, layover and radar shadow, ``(y, x)`` padded."""
    from scipy.ndimage import binary_dilation, gaussian_filter

    view = place.radar[index]
    height = gaussian_filter(surface_height(place, view.optical), 1.2)
    south, east = np.gradient(height, np.float32(place.resolution))
    azimuth = math.radians(view.look_azimuth)
    # ground that rises along the look direction faces the radar
    facing = np.degrees(np.arctan(east * math.sin(azimuth) - south * math.cos(azimuth)))
    layover = binary_dilation(facing > view.incidence, iterations=2)
    shadow = cast_shadow(
        height.astype(np.float32),
        azimuth=(view.look_azimuth + 180) % 360,
        elevation=90 - view.incidence,
        resolution=place.resolution,
        max_distance_m=400.0,
    )
    return facing.astype(np.float32), layover, shadow
