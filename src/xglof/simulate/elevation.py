"""The DEM of a simulated valley, as a mission would have seen it years before."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from xglof.simulate.scene import Valley
from xglof.simulate.states import lake_numbers, surface_height
from xglof.simulate.terrain import Float, fractal

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

_ARCSECOND = 1 / 3600


def observed_dem(place: Valley) -> tuple[Float, GeoBox]:
    """Elevation at one arc second as of the DEM's epoch, and its grid.

    The old glacier still stands where the lake grows later, the lake that drains is full, water is flat.

    Returns
    -------
    tuple
        ``(y, x)`` float32 metres, no gaps; GeoBox in EPSG:4326 that covers the scene by 0.01 degrees and
        more.
    """
    from rasterio.warp import Resampling, reproject
    from scipy.ndimage import gaussian_filter

    source = place.geobox.pad(place.margin)
    heights = surface_height(place, None)
    shape = (heights.shape[0], heights.shape[1])
    error = fractal(np.random.default_rng([place.seed, 13]), shape, 2.0, coarsest=60)
    seen = gaussian_filter(heights, 12 / place.resolution) + 0.6 * error
    grid = _degree_grid(place)
    dem = np.full(grid.shape, np.nan, dtype=np.float32)
    common = {
        "src_crs": str(source.crs),
        "src_transform": source.affine,
        "dst_crs": "EPSG:4326",
        "dst_transform": grid.affine,
    }
    reproject(seen, dem, resampling=Resampling.bilinear, dst_nodata=np.nan, **common)
    numbers = np.zeros(grid.shape, dtype=np.uint16)
    reproject(lake_numbers(place, None), numbers, resampling=Resampling.mode, **common)
    for lake in place.lakes:
        dem[numbers == lake.number] = lake.level_m
    return dem, grid


def _degree_grid(place: Valley) -> GeoBox:
    """Grid of one arc second, whole arc seconds at its edges, 0.01 degrees beyond the scene."""
    from affine import Affine
    from odc.geo.geobox import GeoBox

    box = place.geobox.extent.to_crs("EPSG:4326", resolution=1000).boundingbox
    west, south = (math.floor((edge - 0.01) * 3600) for edge in (box.left, box.bottom))
    east, north = (math.ceil((edge + 0.01) * 3600) for edge in (box.right, box.top))
    corner = Affine(_ARCSECOND, 0, west * _ARCSECOND, 0, -_ARCSECOND, north * _ARCSECOND)
    return GeoBox((north - south, east - west), corner, "EPSG:4326")
