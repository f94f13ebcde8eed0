"""The raster of a comparison: made-up pixels, as a cube in memory, standardised, or as COGs on disk."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from _segment.settings import ALIGNED_PX, Settings, first_pixels
from xglof.bands import MODALITIES
from xglof.models.spec import ModelSpec

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

#: Side of the picture that is repeated; its edges meet without a step.
_TILE_PX = 512
_PIXEL_M = 10
_TIME = datetime(2021, 7, 5, 4, 50, 11, tzinfo=UTC)
_CLEAR = 5  # bare soil in Sentinel-2's scene classification
_RADAR_FILL = -32768.0
_NAMES = tuple(band.name for key in ("S2L2A", "S1RTC", "DEM") for band in MODALITIES[key].bands)


def grid_of(side: int, aligned: int = ALIGNED_PX) -> GeoBox:
    """A square grid of 10 m whose first pixel is a multiple of ``aligned`` on the absolute grid."""
    from affine import Affine
    from odc.geo.geobox import GeoBox

    column, row = first_pixels(aligned)
    corner = Affine(_PIXEL_M, 0, column * _PIXEL_M, 0, -_PIXEL_M, -row * _PIXEL_M)
    return GeoBox((side, side), corner, "EPSG:32645")


@functools.cache
def tile(name: str) -> NDArray[Any]:
    """``(512, 512)`` of a band in the cube's units and dtype: every pixel observed, texture and noise."""
    from xglof.simulate.terrain import fractal

    rng = np.random.default_rng(_NAMES.index(name))
    shape = (_TILE_PX, _TILE_PX)
    if name == "dem":  # too flat for cast shadows
        return np.asarray(4000 + 20 * fractal(rng, shape, 4.0, coarsest=256), dtype=np.float32)
    field = fractal(rng, shape, 2.4, coarsest=128) + 0.03 * rng.normal(size=shape)
    if name in ("vv", "vh"):
        return np.asarray((-12.0 if name == "vv" else -19.0) + 2 * field, dtype=np.float32)
    return np.clip(1200 + 350 * field, 1, 10_000).astype(np.uint16)


def repeated(picture: NDArray[Any], rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[Any]:
    """The picture repeated without end, at these rows and columns."""
    found: NDArray[Any] = picture[np.ix_(rows % _TILE_PX, columns % _TILE_PX)]
    return found


def memory_cube(spec: ModelSpec, side: int) -> xr.Dataset:
    """A cube of NumPy arrays with the bands of a model, one date."""
    import xarray as xr
    from odc.geo.xr import wrap_xr

    grid, pixels = grid_of(side), np.arange(side)
    variables = {}
    for source in spec.inputs:
        for name in source.bands:
            plane = repeated(tile(name), pixels, pixels)
            if source.has_time:
                time = np.array([_TIME.replace(tzinfo=None)], "datetime64[ns]")
                variables[name] = wrap_xr(plane[np.newaxis], grid, time=time)
            else:
                variables[name] = wrap_xr(plane, grid)
    return xr.Dataset(variables)


def standardised(settings: Settings, spec: ModelSpec) -> NDArray[np.float32]:
    """``(band, y, x)`` float32 as the network takes it, over the windows of the lattice, edges reflected."""
    from xglof.engine.lattice import reflect

    rows, columns = (
        reflect(np.arange(starts[0], starts[-1] + axis.window), axis.size)
        for axis, starts in ((axis, axis.starts(0, axis.size)) for axis in settings.axes())
    )
    bands = sum(len(source.bands) for source in spec.inputs)
    values = np.empty((bands, len(rows), len(columns)), dtype=np.float32)
    channel = 0
    for source in spec.inputs:
        for name, mean, std in zip(source.bands, source.mean, source.std, strict=True):
            values[channel] = repeated((tile(name).astype(np.float32) - mean) / std, rows, columns)
            channel += 1
    return values


def write_archive(settings: Settings) -> Path:
    """Write the raster as a static STAC catalogue of COGs: one date of each sensor, and the DEM."""
    import pystac

    from xglof.cube.files import make_collection, make_item, save_catalog, write_cog

    root = settings.folder / "catalog"
    grid = grid_of(settings.side)
    optical = [_optical_file(root / "sentinel-2-l2a" / "s2", band.name, grid, round(band.native_m / _PIXEL_M))
               for band in MODALITIES["S2L2A"].bands]  # fmt: skip
    optical.append(_optical_file(root / "sentinel-2-l2a" / "s2", "SCL", grid, 2))
    radar = []
    pixels = np.arange(settings.side)
    for name in ("vv", "vh"):
        power = repeated(10 ** (tile(name) / np.float32(10)), pixels, pixels)
        radar.append(write_cog(root / "sentinel-1-rtc" / "s1", name, power, grid, _RADAR_FILL))
    sun = {"s2:mean_solar_azimuth": 150.0, "s2:mean_solar_zenith": 30.0}
    items = {
        "sentinel-2-l2a": make_item("s2", _TIME, optical, {"s2:processing_baseline": "03.01", **sun}),
        "sentinel-1-rtc": make_item("s1", _TIME, radar, {"sat:orbit_state": "descending"}),
        "cop-dem-glo-30": make_item("dem", _TIME, [_dem_file(root / "cop-dem-glo-30" / "dem", grid)], {}),
    }
    catalog = pystac.Catalog(id="benchmark", description="Made-up pixels. No satellite saw this.")
    for name, item in items.items():
        catalog.add_child(make_collection(name, f"Made-up {name}", "Made-up pixels.", [item]))
    return save_catalog(catalog, root)


def _optical_file(folder: Path, name: str, grid: GeoBox, step: int) -> Any:
    """One Sentinel-2 asset at its own pixel size."""
    from odc.geo.geobox import GeoBox

    from xglof.cube.files import write_cog

    side = -(-grid.shape[0] // step)
    native = GeoBox((side, side), grid.affine * grid.affine.scale(step), grid.crs)
    if name == "SCL":
        return write_cog(folder, name, np.full((side, side), _CLEAR, np.uint8), native, 0)
    pixels = np.arange(side) * step
    return write_cog(folder, name, repeated(tile(name), pixels, pixels), native, 0)


def _dem_file(folder: Path, grid: GeoBox) -> Any:
    """The DEM at one arc second, wide enough for the search of terrain that casts shadows."""
    from odc.geo.geobox import GeoBox

    from xglof.cube.files import write_cog

    box = grid.extent.to_crs("EPSG:4326", resolution=1000).boundingbox.buffered(0.08)
    degrees = GeoBox.from_bbox(box.bbox, crs="EPSG:4326", resolution=1 / 3600)
    rows, columns = (np.arange(size) for size in degrees.shape)
    return write_cog(folder, "data", repeated(tile("dem"), rows, columns), degrees, None)
