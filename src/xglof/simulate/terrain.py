"""Simulated glacial terrain: fractal mountains, a U-shaped valley, and basins carved for lakes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
LakeKind = Literal["stable", "growing", "draining", "splitting"]


@dataclass(frozen=True, slots=True)
class Character:
    """What a seed draws about a place, so that no two valleys look alike (metres, degrees, shares).

    Attributes
    ----------
    floor_m, relief_m, gradient
        Valley floor, height of the mountains over it, rise of the floor per metre upstream.
    snow_line_m, snow_swing_m
        Highest snow line of the year, and how far it comes down in winter.
    meadow_top_m, meadow_share
        Upper limit of vegetation, and how much of the gentle ground below it is green.
    dark_share
        Share of dark rock and dark debris.
    haze, cloudiness
        Strength of the residual haze and scale of the cloud cover, both about 0 to 1.
    """

    floor_m: float
    relief_m: float
    gradient: float
    snow_line_m: float
    snow_swing_m: float
    meadow_top_m: float
    meadow_share: float
    dark_share: float
    haze: float
    cloudiness: float


@dataclass(frozen=True, slots=True)
class Lake:
    """A lake as designed: everything about it but its outline, which the terrain gives.

    Attributes
    ----------
    number
        1, 2, ...: its value in the rasters of lake numbers.
    kind
        ``stable``, ``growing`` (at the glacier's front), ``draining`` (an outburst) or ``splitting`` (a sill
        in its bed parts it when its level falls).
    level_m, drained_level_m
        Water level, and the level after the outburst or the split (equal where there is none).
    turbidity, milkiness
        0 clear to 1 full of glacier flour; 0 turquoise to 1 grey.
    roughness
        How readily wind roughens it, 0 to 1.
    centre
        Row and column in the padded grid.
    """

    number: int
    kind: LakeKind
    level_m: float
    drained_level_m: float
    turbidity: float
    milkiness: float
    roughness: float
    centre: tuple[int, int]

    @property
    def id(self) -> str:
        """Name in the truth table."""
        return f"SIM-{self.number:03d}"


@dataclass(frozen=True, slots=True, eq=False)
class Terrain:
    """Ground and basins on the padded grid; every array is ``(y, x)``.

    Attributes
    ----------
    bed
        float32 m, the ground without water and without the valley glacier.
    basin
        uint16, the number of the lake that fills the place at its largest, 0 elsewhere.
    slope
        float32 degrees, of the bed as seen over some 30 m.
    along, across
        float32 m, distance upstream and sideways from the growing lake's centre.
    reach_m, tongue_half_width_m
        Half length of the growing lake, and half width of the glacier that feeds it.
    lakes
        The lakes, by number.
    """

    bed: Float
    basin: NDArray[np.uint16]
    slope: Float
    along: Float
    across: Float
    reach_m: float
    tongue_half_width_m: float
    lakes: tuple[Lake, ...]


def fractal(
    rng: np.random.Generator,
    shape: tuple[int, int],
    beta: float,
    *,
    coarsest: float = 0.0,
    stretch: tuple[float, float] = (0.0, 1.0),
) -> Float:
    """Gaussian field whose power falls as wavenumber to the ``-beta``: mean 0, deviation 1.

    Parameters
    ----------
    rng
        Where the randomness comes from.
    shape
        ``(y, x)`` in pixels.
    beta
        Spectral exponent; 2 is rough, 4 smooth.
    coarsest
        Wavelength from which the spectrum is flat, pixels; 0 for none.
    stretch
        Direction, radians from the x axis towards the rows, and by how much features are longer that way.

    Returns
    -------
    numpy.ndarray
        ``(y, x)`` float32.
    """
    import scipy.fft

    size = [scipy.fft.next_fast_len(int(n * 1.2) + 8, real=True) for n in shape]  # cut off the period
    spectrum = scipy.fft.rfft2(rng.standard_normal(size, dtype=np.float32))
    ky, kx = scipy.fft.fftfreq(size[0])[:, None], scipy.fft.rfftfreq(size[1])[None, :]
    cos, sin = np.cos(stretch[0]), np.sin(stretch[0])
    wavenumber = np.hypot((kx * cos + ky * sin) * stretch[1], ky * cos - kx * sin)
    floor = 1.0 / coarsest if coarsest else 1.0 / max(size)
    spectrum *= (np.maximum(wavenumber, floor) ** (-beta / 2)).astype(np.float32)
    spectrum[0, 0] = 0
    field = scipy.fft.irfft2(spectrum, s=size)[: shape[0], : shape[1]]
    field -= field.mean()
    return np.asarray(field / max(float(field.std()), 1e-12), dtype=np.float32)


def smoothstep(values: Float) -> Float:
    """Cubic ramp from 0 at 0 to 1 at 1."""
    x = np.clip(values, 0, 1)
    return np.asarray(x * x * (3 - 2 * x), dtype=np.float32)


def mountains(
    rng: np.random.Generator, shape: tuple[int, int], resolution: float, character: Character
) -> tuple[Float, Float, Float]:
    """Fractal mountains along U-shaped valleys.

    Returns
    -------
    tuple of numpy.ndarray
        Elevation, distance upstream, distance from the axis of the nearest valley; each ``(y, x)``
        float32 metres.
    """
    relief = character.relief_m
    y = (np.arange(shape[0], dtype=np.float32)[:, None] - shape[0] / 2) * resolution
    x = (np.arange(shape[1], dtype=np.float32)[None, :] - shape[1] / 2) * resolution
    heading = rng.uniform(0, 2 * np.pi)
    along = x * np.float32(np.cos(heading)) + y * np.float32(np.sin(heading))
    across = -x * np.float32(np.sin(heading)) + y * np.float32(np.cos(heading))
    bends = rng.uniform(120, 380) * np.sin(2 * np.pi * along / rng.uniform(3500, 7000) + rng.uniform(0, 6.3))
    across = across + bends + 90 * fractal(rng, shape, 4.0, coarsest=2500 / resolution)
    spacing = rng.uniform(4800, 6500)  # wide scenes get several parallel valleys
    across = ((across + spacing / 2) % spacing - spacing / 2).astype(np.float32)
    flat, wall = rng.uniform(140, 330), rng.uniform(1.0, 1.5) * relief
    side = 1 - np.exp(-((np.maximum(np.abs(across) - flat, 0) / wall) ** rng.uniform(1.2, 1.6)))
    large = fractal(rng, shape, 4.4, coarsest=4000 / resolution)
    downhill = (heading + np.pi / 2, rng.uniform(1.1, 1.9))  # spurs and gullies run down to the valley
    spurs = 0.8 - np.abs(fractal(rng, shape, 4.4, coarsest=1100 / resolution, stretch=downhill))
    gullied = 0.8 - np.abs(fractal(rng, shape, 4.2, coarsest=400 / resolution, stretch=downhill))
    height = side * (0.9 + 0.2 * large + rng.uniform(0.06, 0.13) * spurs + 0.02 * gullied)
    rough = fractal(rng, shape, 3.0, coarsest=250 / resolution) * (0.7 + rng.uniform(1.5, 3.5) * side)
    elevation = character.floor_m + character.gradient * along + relief * height + rough
    return elevation.astype(np.float32), along.astype(np.float32), across


def slope_degrees(elevation: Float, resolution: float) -> Float:
    """Slope of ``elevation`` ``(y, x)`` metres, in degrees, float32."""
    south, east = np.gradient(elevation, np.float32(resolution))
    return np.asarray(np.degrees(np.arctan(np.hypot(south, east))), dtype=np.float32)
