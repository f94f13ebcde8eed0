"""Elevation from tiles of the Copernicus DEM: seams, sea, edges."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pystac
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from native_files import at
from stac_server import serve
from xglof.cube import open_cube
from xglof.cube.files import make_item, write_cog
from xglof.cube.flags import Flag
from xglof.cube.pixel_grid import PixelGrid
from xglof.cube.providers import EARTH_SEARCH


def _heights(grid: GeoBox) -> np.ndarray:
    """A slope of 30 degrees: a height that is linear in longitude and latitude."""
    x, y = grid.coordinates[grid.dimensions[1]].values, grid.coordinates[grid.dimensions[0]].values
    return (4000 + 60000 * (x[None] - 87) + 40000 * (y[:, None] - 28)).astype(np.float32)


def _dem_tile(folder: Path, south: int, west: int, values: np.ndarray | None = None) -> pystac.Item:
    """A part of a tile's pixels is enough: what is left out of the file is not known to the item."""
    step = 1 / 3600
    grid = GeoBox((3600, 3600), Affine(step, 0, west - step / 2, 0, -step, south + 1 + step / 2), "EPSG:4326")
    file = write_cog(
        folder / f"N{south}E{west}", "data", _heights(grid) if values is None else values, grid, None
    )
    item = make_item(f"N{south}E{west}", datetime(2021, 4, 22, tzinfo=UTC), [file], {})
    item.collection_id = "cop-dem-glo-30"
    return item


@pytest.fixture(scope="module")
def dem_tiles(tmp_path_factory: pytest.TempPathFactory) -> list[pystac.Item]:
    """Two tiles west and east of 87 E, the western one without its last column."""
    folder = tmp_path_factory.mktemp("dem")
    step = 1 / 3600
    western = GeoBox((3600, 3600), Affine(step, 0, 86 - step / 2, 0, -step, 28 + step / 2), "EPSG:4326")
    cut = _heights(western)
    cut[:, -1] = np.nan
    return [_dem_tile(folder, 27, 86, cut), _dem_tile(folder, 27, 87)]


def test_elevation_is_smooth_over_the_seam_of_two_tiles(dem_tiles: list[pystac.Item]) -> None:
    """Warped tile by tile the heights are 7.8 m wrong beside the seam, and its gap stays empty."""
    grid = GeoBox.from_bbox((86.99, 27.5, 87.01, 27.52), "EPSG:4326", resolution=0.0001)
    dem = open_cube(catalog=dem_tiles, geobox=grid, modalities=["DEM"]).dem.compute()
    assert np.isfinite(dem).all()
    np.testing.assert_allclose(dem, _heights(grid), atol=0.6)  # 2 % of a pixel: GDAL's tolerance is 12 %


def _searched(items: list[pystac.Item], grid: GeoBox, *, known: bool = True) -> xr.Dataset:
    """The DEM from a STAC API that has these items and no others, of a known archive or of a stranger."""
    root = Path(items[0].assets["data"].href).parents[1]
    with serve(root) as (url, handler):
        handler.items = [
            {**item.to_dict(include_self_link=False, transform_hrefs=False), "links": []}
            for item in at(items, root, f"{url}/files")
        ]
        catalog = replace(EARTH_SEARCH, url=url) if known else url
        return open_cube(catalog=catalog, geobox=grid, modalities=["DEM"]).compute()


def test_where_a_searched_archive_has_no_tile_there_is_sea(dem_tiles: list[pystac.Item]) -> None:
    grid = GeoBox.from_bbox((87.4, 26.98, 87.42, 27.02), "EPSG:4326", resolution=0.0002)
    cube = _searched(dem_tiles, grid)
    latitude = grid.coordinates["latitude"].values
    assert (cube.dem[latitude < 27 - 1 / 3600] == 0).all()  # between lies the shore, which is interpolated
    assert (cube.dem[latitude > 27 + 1 / 3600] < -100).all()
    assert (cube.flags == 0).all()
    # a folder and a mirror may not have been given every tile
    folder = open_cube(catalog=dem_tiles, geobox=grid, modalities=["DEM"]).compute()
    for unsure in (folder, _searched(dem_tiles, grid, known=False)):
        assert np.isnan(unsure.dem[latitude < 27 - 1 / 3600]).all()
        assert (unsure.flags[latitude < 27 - 1 / 3600] == Flag.dem_nodata).all()


def test_elevation_at_the_edge_of_a_tile_is_that_of_a_larger_cube(dem_tiles: list[pystac.Item]) -> None:
    """The next tile is needed for the last pixels, though the cube does not reach into it."""
    whole = GeoBox.from_bbox((86.99, 27.5, 87.01, 27.51), "EPSG:4326", resolution=0.0002)
    west = whole.coordinates["longitude"].values < 87 - 0.5 / 3600
    part = whole[:, : int(west.sum())]
    expected = _searched(dem_tiles, whole).dem[:, west]
    np.testing.assert_array_equal(_searched(dem_tiles, part).dem, expected)


def test_withheld_tiles_are_no_sea(tmp_path: Path) -> None:
    item = _dem_tile(tmp_path, 39, 45, np.full((3600, 3600), 900, np.float32))
    grid = GeoBox.from_bbox((45.98, 39.5, 46.02, 39.52), "EPSG:4326", resolution=0.0005)
    cube = _searched([item], grid)
    east = grid.coordinates["longitude"].values > 46
    assert np.isnan(cube.dem[:, east]).all()
    assert (cube.flags[:, east] == Flag.dem_nodata).all()
    assert (cube.dem[:, ~east] == 900).all()


def test_sea_is_0_at_every_size_of_pixel(dem_tiles: list[pystac.Item]) -> None:
    """In blocks that no file touches, and where the pixels of the cube are larger than the files'."""
    zone = GeoBox.from_bbox((500_000, 2_950_000, 560_000, 3_010_000), "EPSG:32645", resolution=20)
    for grid in (zone[1100:, 400:900], zone.zoom_out(10)):
        cube = _searched(dem_tiles, grid)
        assert np.isfinite(cube.dem).all()
        south = grid.footprint("EPSG:4326").boundingbox.bottom < 26.9
        assert south
        assert (cube.dem[-5:] == 0).all()


def test_near_the_antimeridian_windows_stay_small() -> None:
    """A piece of the last UTM zone bulges over 180 degrees; its window of the DEM does not span the globe."""
    grid = GeoBox.from_bbox((179.8, 66, 179.99, 66.1), "EPSG:4326", resolution=0.001)
    utm, window = PixelGrid.of(
        GeoBox.from_bbox(grid.footprint("EPSG:32660").boundingbox.bbox, "EPSG:32660", resolution=10)
    )
    tile = GeoBox((3600, 3600), Affine(1 / 3600, 0, 179, 0, -1 / 3600, 67), "EPSG:4326")
    needed = PixelGrid.of(tile)[0].covering(utm, window, 3)
    assert 0 < needed.shape[1] < 2000
