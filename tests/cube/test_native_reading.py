"""Reading at the files' own pixels: each block once, seams closed, both backends alike."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pystac
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from cog_server import blocks_of, serve_cogs
from native_files import AREA, NATIVE, TILE_PX, WRITTEN, at, radar, reflectance, tile
from xglof.cube import open_cube
from xglof.cube.files import make_item, write_cog
from xglof.cube.flags import Flag
from xglof.cube.products import Product, Provider
from xglof.cube.providers import EARTH_SEARCH, PLANETARY_COMPUTER
from xglof.errors import CatalogError


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[pystac.Item]]:
    """Two tiles of one pass that overlap by 480 px, as those of the military grid do."""
    folder = tmp_path_factory.mktemp("tiles")
    when = datetime(2023, 7, 1, 5, tzinfo=UTC)
    return folder, [tile(folder, "45RVL", 0, 0, when), tile(folder, "45RWL", TILE_PX - 480, 0, when)]


def test_each_block_of_a_file_is_read_once(tiles: tuple[Path, list[pystac.Item]]) -> None:
    """Bands of 10, 20 and 60 m, two tiles, nine blocks of the cube."""
    (root, items), counted = tiles, 0
    with serve_cogs(root) as server:
        cube = open_cube(catalog=at(items, root, server.url), geobox=AREA, modalities=["S2L2A"])
        assert server.requests == []  # the items state the grids: nothing is opened to build the graph
        values = cube[["B02", "B05", "B01", "SCL"]].compute()
        for item in items:
            for band in WRITTEN:
                name = f"{item.id}/{band}.tif"
                sizes = {block: end - begin for block, (begin, end) in blocks_of(root / name).items()}
                # the smallest overviews lie beside the header, and are read with it
                touches = {b: times for b, times in server.block_touches(name).items() if b[0] == 0 and times}
                needed = sum(sizes[block] for block in touches)
                assert sum(sizes[block] * times for block, times in touches.items()) <= 1.3 * needed, name
                # GDAL fetches pages of 16 kB, and so parts of small neighbours with a block
                assert max(t for b, t in touches.items() if sizes[b] > 64_000 or band == "B01") <= 1.3, name
                counted += len(touches)
    assert counted > 100
    rows, columns = np.ogrid[733 : 733 + 3300, 901 : 901 + 6001]
    np.testing.assert_array_equal(values.B02[0], reflectance(rows, columns))
    classes = (reflectance(rows // 2, columns // 2) + 1000) % 11 + 1
    np.testing.assert_array_equal(values.SCL[0], classes)


def test_bands_of_20_m_are_interpolated_across_blocks_and_tiles(
    tiles: tuple[Path, list[pystac.Item]],
) -> None:
    _, items = tiles
    cube = open_cube(catalog=items, geobox=AREA, modalities=["S2L2A"])
    whole = cube.B05[0].compute().values.astype(float)
    # the oracle: the numbers of both tiles on one 20 m grid, bilinear by hand
    rows, columns = np.ogrid[:TILE_PX, :TILE_PX]
    native = reflectance(rows, columns).astype(float)
    y, x = (np.arange(733, 733 + 3300) + 0.5) / 2 - 0.5, (np.arange(901, 901 + 6001) + 0.5) / 2 - 0.5
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    wy, wx = (y - y0)[:, None], (x - x0)[None]
    upper = native[np.ix_(y0, x0)] * (1 - wx) + native[np.ix_(y0, x0 + 1)] * wx
    lower = native[np.ix_(y0 + 1, x0)] * (1 - wx) + native[np.ix_(y0 + 1, x0 + 1)] * wx
    np.testing.assert_array_equal(whole, np.rint(upper * (1 - wy) + lower * wy))


def test_stackstac_gives_the_same_bits(tiles: tuple[Path, list[pystac.Item]]) -> None:
    _, items = tiles
    arguments: dict[str, Any] = {"catalog": items, "geobox": AREA, "modalities": ["S2L2A"]}
    ours = open_cube(**arguments)[["B02", "B05", "B01", "SCL"]].compute()
    theirs = open_cube(**arguments, backend="stackstac")[["B02", "B05", "B01", "SCL"]].compute()
    xr.testing.assert_identical(ours, theirs)
    assert ours.B02.dtype == theirs.B02.dtype == np.uint16


def test_a_south_up_file_is_read_the_right_way_round(tmp_path: Path) -> None:
    """Planetary Computer's RTC of late 2024 carries a positive pixel size along y."""
    power = np.linspace(0.01, 0.5, 200, dtype=np.float32)[:, None] * np.ones((1, 200), np.float32)
    north_up = GeoBox((200, 200), Affine(10, 0, 600000, 0, -10, 3100000), "EPSG:32645")
    south_up = GeoBox((200, 200), Affine(10, 0, 600000, 0, 10, 3098000), "EPSG:32645")
    area = north_up[20:180, 30:170]
    arguments: dict[str, Any] = {"geobox": area, "modalities": ["S1RTC"]}
    expected = open_cube(catalog=[radar(tmp_path, "n", north_up, power)], **arguments).vv.compute()
    turned = open_cube(catalog=[radar(tmp_path, "s", south_up, power[::-1])], **arguments).vv.compute()
    np.testing.assert_allclose(turned, expected, atol=1e-3)
    assert np.isfinite(expected).all()


def test_scenes_of_two_zones_make_one_cube(tmp_path: Path) -> None:
    """Those on the cube's own lines come first; the other zone's fill the rest."""
    own = GeoBox((200, 150), Affine(10, 0, 600000, 0, -10, 3100000), "EPSG:32645")
    far = GeoBox.from_bbox(
        own.pad(100).footprint("EPSG:32644").boundingbox.bbox, "EPSG:32644", resolution=10, tight=False
    )
    items = [
        radar(tmp_path, "own", own, np.full(own.shape, 0.1, np.float32), **{"sat:relative_orbit": 1}),
        radar(tmp_path, "far", far, np.full(far.shape, 0.01, np.float32), **{"sat:relative_orbit": 1}),
    ]
    cube = open_cube(catalog=items, geobox=own.pad(40), modalities=["S1RTC"])
    assert cube.sizes["time"] == 1
    vv = cube.vv.compute().values[0]
    np.testing.assert_allclose(vv[40:-40, 40:-40], -10, atol=1e-4)
    np.testing.assert_allclose(vv[:39], -20, atol=1e-4)


def test_passes_of_two_relative_orbits_are_two_steps(tmp_path: Path) -> None:
    grid = GeoBox((50, 50), Affine(10, 0, 600000, 0, -10, 3100000), "EPSG:32645")
    items = [
        radar(tmp_path, str(orbit), grid, np.full(grid.shape, 0.1, np.float32),
               **{"sat:relative_orbit": orbit, "sat:orbit_state": "ascending"})
        for orbit in (12, 85)
    ]  # fmt: skip
    cube = open_cube(catalog=items, geobox=grid, modalities=["S1RTC"])
    assert cube.relative_orbit.values.tolist() == ["12", "85"]
    one = open_cube(catalog=items, geobox=grid, modalities=["S1RTC"], orbit=85)
    assert one.s1_items.values.tolist() == ["85"]
    assert one.attrs["items_rejected"] == ["12: relative orbit 12 and not 85"]


def test_decibels_and_amplitudes_are_resampled_as_power(tmp_path: Path) -> None:
    """Two pixels of 1 and 0.01: half way between them lies 0.505, not the mean of 0 and -20 dB."""
    power = np.where(np.arange(60) % 2, 1.0, 0.01).astype(np.float32)[None].repeat(60, axis=0)
    grid = GeoBox((60, 60), Affine(10, 0, 600005, 0, -10, 3100000), "EPSG:32645")
    area = GeoBox((40, 40), Affine(10, 0, 600100, 0, -10, 3099900), "EPSG:32645")
    forms = {"power": power, "amplitude": np.sqrt(power), "decibel": 10 * np.log10(power)}
    for units, values in forms.items():
        item = radar(tmp_path, units, grid, values.astype(np.float32))
        (product,) = PLANETARY_COMPUTER.products_of("S1RTC")
        provider = replace(
            PLANETARY_COMPUTER, url=str(tmp_path / f"{units}.json"), signing=None,
            products=(replace(product, units=units),),
        )  # fmt: skip
        pystac.ItemCollection([item]).save_object(provider.url)
        vv = open_cube(catalog=provider, geobox=area, modalities=["S1RTC"]).vv.compute()
        np.testing.assert_allclose(vv, 10 * np.log10(0.505), atol=1e-3)
        coarse = GeoBox((10, 10), Affine(20, 0, 600105, 0, -20, 3099900), "EPSG:32645")
        vv = open_cube(catalog=provider, geobox=coarse, modalities=["S1RTC"]).vv.compute()
        np.testing.assert_allclose(vv, 10 * np.log10(0.505), atol=1e-3)


def test_a_failed_read_is_flagged_and_told_from_nodata(
    tiles: tuple[Path, list[pystac.Item]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xglof.cube.access.sleep", lambda seconds: None)
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")  # of GDAL's own, inside each attempt
    root, items = tiles
    area = AREA[:300, 2600:3200]  # the left part is covered by the first tile alone
    whole = open_cube(catalog=items, geobox=area, modalities=["S2L2A"])[["B02", "SCL"]].compute()
    with serve_cogs(root) as server:
        moved = at(items, root, server.url)
        arguments: dict[str, Any] = {"geobox": area, "modalities": ["S2L2A"], "catalog": moved}
        server.fail("45RVL/B02.tif", how="503")
        with pytest.raises(
            CatalogError, match=r"45RVL/B02\.tif of 2 items could not be read after 5 attempts"
        ):
            open_cube(**arguments).B02.compute()
        cube = open_cube(**arguments, on_error="flag")
        lost = mosaic_failures(cube)
        flagged = cube[["B02", "SCL"]].compute()
    second = AREA.transform.c + 10 * np.arange(2600, 3200) >= 600000 + 10 * (TILE_PX - 480)
    np.testing.assert_array_equal(lost[0], np.broadcast_to(~second, lost[0].shape))
    assert (flagged.B02[0, :, ~second] == 0).all()
    np.testing.assert_array_equal(flagged.B02[0, :, second], whole.B02[0, :, second])
    xr.testing.assert_equal(flagged.SCL, whole.SCL)


def mosaic_failures(cube: xr.Dataset) -> np.ndarray:
    """The layer of failures of B02, found in the graph of the flags."""
    layers = cube.flags.data.dask.layers
    (name,) = [name for name in layers if name.startswith("failed-S2L2A-B02")]
    chunks = cube.B02.chunks
    return np.asarray(da.Array(cube.flags.data.dask, name, chunks, dtype=bool).compute())


def test_keys_tell_apart_how_files_are_read(tiles: tuple[Path, list[pystac.Item]]) -> None:
    """Two cubes that treat failures otherwise, or are of another archive, share no task."""
    _, items = tiles
    arguments: dict[str, Any] = {"geobox": AREA, "modalities": ["S2L2A"]}

    def tasks(**more: Any) -> set[Any]:
        graph = dict(open_cube(**arguments | {"catalog": items} | more)[["B02", "SCL"]].__dask_graph__())
        return {key for key in graph if isinstance(key, tuple)}  # the others are grids and settings

    assert tasks() == tasks(on_error="raise")
    assert not tasks(on_error="raise") & tasks(on_error="flag")


def test_a_failed_read_of_stackstac_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The causes of its errors go round in a circle."""
    grid = GeoBox((64, 64), Affine(10, 0, 600000, 0, -10, 3100000), "EPSG:32645")
    item = radar(tmp_path, "broken", grid, np.full(grid.shape, 0.1, np.float32))
    path = Path(item.assets["vv"].href)
    path.write_bytes(path.read_bytes()[:600])
    arguments: dict[str, Any] = {"catalog": [item], "geobox": grid, "modalities": ["S1RTC"]}
    for backend in ("odc-stac", "stackstac"):
        with pytest.raises(CatalogError, match=r"vv\.tif"):
            open_cube(**arguments, backend=backend).vv.compute()
        cube = open_cube(**arguments, backend=backend, on_error="flag").compute()
        assert np.isnan(cube.vv).all()
        assert np.isfinite(cube.vh).all()
        assert ((cube.flags & Flag.failed_read) > 0).all()


def test_one_id_in_two_collections_is_two_scenes(tmp_path: Path) -> None:
    when = [datetime(2023, 7, day, 5, tzinfo=UTC) for day in (1, 6)]
    grid = GeoBox((36, 36), Affine(10, 0, 600000, 0, -10, 3100020), "EPSG:32645")
    items = []
    for moment, number, collection in zip(
        when, (1000, 4000), ("sentinel-2-c1-l2a", "sentinel-2-l2a"), strict=True
    ):
        (product,) = (p for p in EARTH_SEARCH.products if p.collection == collection)
        files = []
        for band, asset in product.assets.items():
            step = NATIVE.get(band, 2)
            kind = np.uint16 if band in NATIVE and band != "SCL" else np.uint8
            value = number if kind is np.uint16 else 4
            shape = (36 // step, 36 // step)
            place = grid.transform * Affine.scale(step)
            file = write_cog(
                tmp_path / collection, asset, np.full(shape, value, kind), GeoBox(shape, place, grid.crs), 0
            )
            files.append(file)
        item = make_item("same", moment, files, {"s2:processing_baseline": "02.14", "s2:mgrs_tile": "45RVL"})
        item.collection_id = collection
        items.append(item)
    cube = open_cube(catalog=items, geobox=grid, modalities=["S2L2A"]).compute()
    assert [int(step.max()) for step in cube.B02] == [1000, 4000]


def test_zero_borders_do_not_bleed_into_larger_pixels(tmp_path: Path) -> None:
    """Borders of 0 (before 2018) are no backscatter, at 20 m as at 10 m."""
    power = np.full((120, 120), 0.1, np.float32)
    power[:, :33] = 0
    item = radar(
        tmp_path, "old", GeoBox((120, 120), Affine(10, 0, 600000, 0, -10, 3100000), "EPSG:32645"), power
    )
    for size in (10, 20, 30):
        grid = GeoBox((1200 // size,) * 2, Affine(size, 0, 600000, 0, -size, 3100000), "EPSG:32645")
        vv = open_cube(catalog=[item], geobox=grid, modalities=["S1RTC"]).vv.compute()
        np.testing.assert_allclose(vv.values[np.isfinite(vv)], -10, atol=1e-4)
        assert 0.6 < float(np.isfinite(vv).mean()) < 0.8


def test_a_profile_of_other_numbers_is_honoured(tmp_path: Path) -> None:
    """Elevation as int16 with a nodata of its own, and radar as uint16 amplitude, failures flagged."""
    grid = GeoBox((60, 60), Affine(10, 0, 600000, 0, -10, 3100000), "EPSG:32645")
    heights = np.full(grid.shape, 4321, np.int16)
    heights[:20] = -32768
    amplitude = np.full(grid.shape, 300, np.uint16)
    amplitude[:, :10] = 0
    files = {"dem": heights, "vv": amplitude, "vh": amplitude}
    written = {name: write_cog(tmp_path / name, name, values, grid, None) for name, values in files.items()}
    moment = datetime(2023, 7, 1, 12, tzinfo=UTC)
    items = [
        make_item("dem", moment, [written["dem"]], {}),
        make_item("radar", moment, [written["vv"], written["vh"]], {"sat:orbit_state": "ascending"}),
    ]
    for item in items:
        item.collection_id = item.id
    pystac.ItemCollection(items).save_object(str(tmp_path / "items.json"))
    provider = Provider(
        "mine",
        str(tmp_path / "items.json"),
        (
            Product("DEM", "dem", {"dem": "dem"}, "int16", -32768),
            Product(
                "S1RTC",
                "radar",
                {"vv": "vv", "vh": "vh"},
                "uint16",
                0,
                units="amplitude",
                calibration="gamma0",
            ),
        ),
    )
    for how in ("raise", "flag"):
        cube = open_cube(catalog=provider, geobox=grid, modalities=["S1RTC", "DEM"], on_error=how).compute()
        assert np.isnan(cube.dem[:20]).all()
        assert (cube.dem[20:] == 4321).all()
        np.testing.assert_allclose(cube.vv[0, :, 10:], 20 * np.log10(300), atol=1e-4)
        assert np.isnan(cube.vv[0, :, :10]).all()
        assert not ((cube.flags & Flag.failed_read) > 0).any()


def test_saturated_pixels_are_no_failed_read(tmp_path: Path) -> None:
    """65535 stands for saturation in Sentinel-2."""
    item = tile(tmp_path, "45RVL", 0, 0, datetime(2023, 7, 1, 5, tzinfo=UTC))
    file = item.assets["B02"]
    grid = GeoBox((420, 420), Affine(10, 0, 600000, 0, -10, 3100020), "EPSG:32645")
    written = write_cog(tmp_path / "bright", "B02", np.full(grid.shape, 65535, np.uint16), grid, 0)
    file.href = str(written.path)
    file.extra_fields |= {"proj:shape": [420, 420]}
    area = grid[:100, :100]
    values = [
        open_cube(catalog=[item], geobox=area, modalities=["S2L2A"], on_error=how).B02.compute()
        for how in ("raise", "flag")
    ]
    assert (values[0] == 64535).all()
    np.testing.assert_array_equal(*values)
