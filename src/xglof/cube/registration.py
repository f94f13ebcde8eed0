"""How far Sentinel-1 lies from Sentinel-2, measured from the pixels: archives have steps in geolocation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xglof.cube.flags import Flag
from xglof.errors import CubeError

if TYPE_CHECKING:
    import xarray as xr

#: Side of the blocks that are correlated, pixels.
BLOCK_PX = 256
#: Shift, in pixels, past which an orbit is marked.
FLAGGED_PX = 0.5
#: Standard deviation of the Gaussian that calms speckle before edges are taken, pixels; both sensors' alike.
_SMOOTH_PX = 1.5
#: Structures wider than this, pixels, are taken out: broad gradients have no place to lie at.
_BROAD_PX = 8.0
#: How far the mask grows, pixels: the edges of clouds are no edges of the ground.
_REACH_PX = 5
#: Height of a peak, in standard deviations of the correlation away from it, below which nothing is told.
_CLEAR_PEAK = 6.0
#: How much higher it must be than anything farther from it than the next number, pixels: outlines that run
#: side by side correlate at their distance.
_LONELY_PEAK = 1.5
_PEAK_PX = 4.0
#: Share of a block that both sensors must see.
_SEEN_SHARE = 0.25
_DARKEST_S2 = 100.0  # reflectance x 10,000: logarithms of near nothing are noise
_DARKEST_DB, _BRIGHTEST_DB = -30.0, 10.0
_HIDDEN_S2 = Flag.s2_nodata | Flag.cloud | Flag.cloud_shadow | Flag.terrain_shadow | Flag.failed_read
_HIDDEN_S1 = Flag.s1_nodata | Flag.s1_layover | Flag.failed_read
_METRES_A_DEGREE = 111_320.0


@dataclass(frozen=True, slots=True)
class Shift:
    """Where one image lies against another, pixels; NaN where it cannot be told.

    Attributes
    ----------
    y, x
        How far the second image is displaced along rows and columns, to larger indices.
    correlation
        Of the edges of the two at that shift, -1 to 1.
    """

    y: float
    x: float
    correlation: float


def sensor_shift(
    cube: xr.Dataset,
    *,
    reference: str = "B08",
    upsample: int = 20,
    max_shift_px: float = 5.0,
    max_blocks: int = 16,
    max_pairs: int = 12,
) -> xr.Dataset:
    """Shift of Sentinel-1 against Sentinel-2 by relative orbit, measured by cross-correlation of edges.

    This computes: of each pair of dates at most ``max_blocks`` blocks of 256 px are read, spread over the
    grid, of 4 variables; peak memory is that of those blocks and of the chunks they lie in. Edges are the
    gradient of the logarithm of reflectance and of the mean decibels of vv and vh: the sensors differ in
    brightness and mostly agree in where it changes. The correlation is summed over the blocks of a pair and
    evaluated around no shift at steps of ``1 / upsample`` pixels by a Fourier sum (Guizar-Sicairos, Thurman
    & Fienup 2008, doi:10.1364/OL.33.000156).

    The radar sees trees, houses and crests on the side that faces it, so a shift of up to a pixel or so may
    be of the ground and not of the archive: compare orbits and dates before anything is moved.

    Parameters
    ----------
    cube
        With dims ``(time, y, x)``, a reference band, ``vv`` and ``vh`` in dB, and the coordinate
        ``relative_orbit`` along time, as :func:`xglof.open_cube` makes it; ``flags`` mask clouds and
        layover where the cube has them.
    reference
        Band of Sentinel-2 that is taken to lie right; 10 m bands are the sharpest.
    upsample
        Steps a pixel.
    max_shift_px
        Largest shift looked for along each axis; a peak at that edge is none.
    max_blocks
        Blocks a pair.
    max_pairs
        Pairs an orbit, spread over time.

    Returns
    -------
    xarray.Dataset
        By ``relative_orbit``: ``shift_y`` and ``shift_x`` (float64, pixels to larger indices), ``shift_y_m``
        and ``shift_x_m`` (float64, metres along the axes of the CRS, north and east), medians over the pairs
        that tell; ``correlation``; ``pairs`` (int64, how many tell, of ``pairs_tried``); ``flagged`` (uint8,
        1 where the shift is longer than half a pixel, 0 where not, 255 cannot tell). By ``pair``: the same
        shifts with ``time`` and ``pair_orbit``. NaN is "cannot tell", never 0.

    Raises
    ------
    CubeError
        A variable or coordinate is missing, the grid is rotated or smaller than 64 px, or a number is out of
        range.
    """
    bands = _check(cube, reference, upsample, max_shift_px, max_blocks, max_pairs)
    orbits = [str(orbit) for orbit in cube["relative_orbit"].values]
    names = list(dict.fromkeys(orbit for orbit in orbits if orbit))
    chosen = {name: _spread([t for t, o in enumerate(orbits) if o == name], max_pairs) for name in names}
    steps = [step for name in names for step in chosen[name]]
    places = _places(cube, max_blocks)
    found = [_pair_shift(cube[bands].isel(time=step), places, upsample, max_shift_px) for step in steps]
    by_name = {name: [found[steps.index(step)] for step in chosen[name]] for name in names}
    return _table(cube, steps, [orbits[step] for step in steps], found, by_name)


def image_shift(
    references: Sequence[NDArray[np.float32]],
    images: Sequence[NDArray[np.float32]],
    *,
    upsample: int = 20,
    max_shift_px: float = 5.0,
) -> Shift:
    """How far images are displaced against references, from edges that the two share.

    Parameters
    ----------
    references, images
        Blocks ``(y, x)`` float32 of one shape and of one displacement, of any unit in which an edge is a
        difference (dB, a logarithm), nodata NaN.
    upsample
        Steps a pixel.
    max_shift_px
        Largest shift looked for.

    Returns
    -------
    Shift
        NaN where the correlation has no clear peak within ``max_shift_px``.

    Examples
    --------
    >>> ground = np.random.default_rng(0).normal(size=(128, 128)).astype("float32")
    >>> shift = image_shift([ground], [np.roll(ground, (2, -1), axis=(0, 1))])
    >>> shift.y, shift.x
    (2.0, -1.0)
    """
    unknown = Shift(math.nan, math.nan, math.nan)
    power: NDArray[np.complex128] | None = None
    energy = np.zeros(2)
    for first, second in zip(references, images, strict=True):
        if (np.isfinite(first) & np.isfinite(second)).mean() < _SEEN_SHARE:
            continue
        edges = [_edges(first), _edges(second)]
        spectra = [np.fft.fft2(edge) for edge in edges]
        block = spectra[1] * spectra[0].conj()
        power = block if power is None else power + block
        energy += [np.sum(edge**2) for edge in edges]
    if power is None or not np.all(energy > 0):
        return unknown
    return _peak(power, math.sqrt(energy[0] * energy[1]), upsample, max_shift_px) or unknown


def _peak(power: NDArray[np.complex128], norm: float, upsample: int, reach: float) -> Shift | None:
    """The peak of the correlation of a cross-power spectrum around no shift, if there is a clear one."""
    frequencies = [np.fft.fftfreq(size) for size in power.shape]
    steps = np.arange(-math.floor(reach * upsample), math.floor(reach * upsample) + 1) / upsample
    waves = [np.exp(2j * np.pi * np.outer(steps, frequency)) for frequency in frequencies]
    near = (waves[0] @ power @ waves[1].T).real / (norm * power.size)
    top = np.unravel_index(np.argmax(near), near.shape)
    if any(index in (0, len(steps) - 1) for index in top):
        return None
    # how far each whole shift is from the peak, around the rim of the block
    away = [
        np.abs((f * len(f) - steps[index] + len(f) / 2) % len(f) - len(f) / 2)
        for f, index in zip(frequencies, top, strict=True)
    ]
    others = (np.fft.ifft2(power).real / norm)[np.hypot(away[0][:, None], away[1]) > _PEAK_PX]
    height, noise = float(near[top]), float(np.sqrt(np.mean(others**2)))
    if height <= max(_CLEAR_PEAK * noise, _LONELY_PEAK * float(others.max())):
        return None
    return Shift(float(steps[top[0]]), float(steps[top[1]]), round(height, 6))


def _edges(image: NDArray[np.float32]) -> NDArray[np.float64]:
    """Strength of the edges about their local mean, 0 where something unseen is near; tapered to the rim."""
    from scipy import ndimage

    seen = np.isfinite(image)
    filled = np.where(seen, image, np.mean(image[seen], dtype=np.float64))
    strength = ndimage.gaussian_gradient_magnitude(filled, _SMOOTH_PX, mode="nearest")
    usable = ndimage.minimum_filter(seen, size=2 * _REACH_PX + 1, mode="nearest").astype(np.float64)
    if not usable.any():
        return np.zeros_like(strength)
    # a few very bright edges would speak for the whole block
    strength = np.minimum(strength, np.percentile(strength[usable > 0], 98))
    share = ndimage.gaussian_filter(usable, _BROAD_PX)
    mean = ndimage.gaussian_filter(strength * usable, _BROAD_PX) / np.maximum(share, 1e-6)
    taper = np.outer(*(np.hanning(size + 2)[1:-1] for size in image.shape))
    edges: NDArray[np.float64] = (strength - mean) * usable * taper
    return edges


def _pair_shift(
    step: xr.Dataset, places: Sequence[dict[str, slice]], upsample: int, max_shift_px: float
) -> Shift:
    from dask.base import compute

    # together, so that a chunk which several blocks lie in is read once
    blocks = compute([step.isel(place) for place in places])[0]
    optical, radar = [], []
    for block in blocks:
        band = block[next(iter(block.data_vars))].values.astype(np.float32)
        decibels = (block["vv"].values + block["vh"].values) / 2
        flags = block["flags"].values if "flags" in block else np.zeros(band.shape, dtype=np.uint16)
        clear = (band > 0) & (flags & int(_HIDDEN_S2) == 0)
        known = np.isfinite(decibels) & (flags & int(_HIDDEN_S1) == 0)
        optical.append(np.where(clear, np.log(np.maximum(band, _DARKEST_S2)), np.nan))
        radar.append(np.where(known, np.clip(decibels, _DARKEST_DB, _BRIGHTEST_DB), np.nan))
    return image_shift(optical, radar, upsample=upsample, max_shift_px=max_shift_px)


def _spread(values: Sequence[int], most: int) -> list[int]:
    """At most so many of the values, evenly over them."""
    if len(values) <= most:
        return list(values)
    return [values[round(place)] for place in np.linspace(0, len(values) - 1, most)]


def _places(cube: xr.Dataset, most: int) -> list[dict[str, slice]]:
    """Blocks of one size, without overlap, evenly over the grid."""
    dims = [str(dim) for dim in cube.odc.spatial_dims]
    sizes = [min(BLOCK_PX, cube.sizes[dim]) for dim in dims]
    counts = [cube.sizes[dim] // size for dim, size in zip(dims, sizes, strict=True)]
    corners = [(row, col) for row in range(counts[0]) for col in range(counts[1])]
    margins = [(cube.sizes[d] - c * s) // 2 for d, c, s in zip(dims, counts, sizes, strict=True)]
    return [
        {
            dim: slice(margin + number * size, margin + (number + 1) * size)
            for dim, margin, number, size in zip(dims, margins, corners[index], sizes, strict=True)
        }
        for index in _spread(range(len(corners)), most)
    ]


def _check(
    cube: xr.Dataset, reference: str, upsample: int, reach: float, max_blocks: int, max_pairs: int
) -> list[str]:
    """The variables to read, the reference first."""
    import odc.geo.xr  # noqa: F401  (registers .odc)

    bands = [reference, "vv", "vh"]
    if missing := [name for name in bands if name not in cube]:
        raise CubeError(f"the cube has no {', '.join(missing)}; open it with S2L2A and S1RTC in modalities=")
    if "relative_orbit" not in cube.coords or "time" not in cube.dims:
        raise CubeError(
            "the cube has no relative_orbit along time; open it with xglof.open_cube, or write one with "
            "cube.assign_coords(relative_orbit=('time', [...]))"
        )
    geobox = cube.odc.geobox
    if geobox is None or geobox.crs is None or not geobox.axis_aligned:
        raise CubeError("the cube has no CRS or a rotated grid; reproject it to a north-up grid first")
    if min(geobox.shape) < 64:
        raise CubeError(f"the cube has {geobox.shape.y} x {geobox.shape.x} pixels; a shift takes 64 x 64")
    if not (upsample >= 1 and 1 <= reach <= 16 and max_blocks >= 1 and max_pairs >= 1):
        raise CubeError(
            f"upsample={upsample}, max_shift_px={reach}, max_blocks={max_blocks}, max_pairs={max_pairs}; "
            "give 1 or more each, and at most 16 px of shift"
        )
    return bands + (["flags"] if "flags" in cube else [])


def _table(
    cube: xr.Dataset,
    steps: Sequence[int],
    orbits: Sequence[str],
    found: Sequence[Shift],
    by_name: dict[str, list[Shift]],
) -> xr.Dataset:
    import xarray as xr

    def median(values: Sequence[float]) -> float:
        told = [value for value in values if math.isfinite(value)]
        return float(np.median(told)) if told else math.nan

    y, x = (np.array([median([getattr(s, a) for s in of]) for of in by_name.values()]) for a in "yx")
    scale = _metres_a_pixel(cube)
    shift = np.hypot(y, x)
    flagged = np.where(np.isnan(shift), 255, shift > FLAGGED_PX).astype(np.uint8)
    told = [sum(math.isfinite(one.y) for one in of) for of in by_name.values()]
    pixels, metres = {"units": "pixel"}, {"units": "m"}
    orbit = "relative_orbit"
    return xr.Dataset(
        {
            "shift_y": (orbit, y, pixels),
            "shift_x": (orbit, x, pixels),
            "shift_y_m": (orbit, y * scale[0], metres),
            "shift_x_m": (orbit, x * scale[1], metres),
            "correlation": (orbit, [median([s.correlation for s in of]) for of in by_name.values()]),
            "pairs": (orbit, np.array(told, dtype=np.int64)),
            "pairs_tried": (orbit, np.array([len(of) for of in by_name.values()], dtype=np.int64)),
            "flagged": (orbit, flagged, _flagged_attrs()),
            "pair_shift_y": ("pair", np.array([one.y for one in found]), pixels),
            "pair_shift_x": ("pair", np.array([one.x for one in found]), pixels),
            "pair_correlation": ("pair", np.array([one.correlation for one in found])),
        },
        coords={
            orbit: np.array(list(by_name), dtype=object),
            "pair_orbit": ("pair", np.array(orbits, dtype=object)),
            "time": ("pair", cube["time"].values[list(steps)]),
        },
    )


def _flagged_attrs() -> dict[str, object]:
    meanings = "within_half_a_pixel past_half_a_pixel cannot_tell"
    return {"flag_values": np.array([0, 1, 255], dtype=np.uint8), "flag_meanings": meanings}


def _metres_a_pixel(cube: xr.Dataset) -> tuple[float, float]:
    """Metres along the axes of the CRS for a step along rows and columns, signed."""
    geobox = cube.odc.geobox
    down, across = geobox.affine.e, geobox.affine.a
    if not geobox.crs.geographic:
        unit = geobox.crs.proj.axis_info[0].unit_conversion_factor
        return down * unit, across * unit
    middle = (geobox.extent.boundingbox.bottom + geobox.extent.boundingbox.top) / 2
    return down * _METRES_A_DEGREE, across * _METRES_A_DEGREE * math.cos(math.radians(middle))
