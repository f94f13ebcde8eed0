"""The written catalogue: what opens it, what it holds, and that it is whole or absent."""

import filecmp
import json
from pathlib import Path

import numpy as np
import odc.stac
import pystac
import pystac_client
import pytest
import rasterio
from pystac_client.warnings import PystacClientWarning

from xglof.bands import MODALITIES
from xglof.errors import CatalogError, OutputError
from xglof.simulate import catalog as catalog_module
from xglof.simulate import read_truth, render_optical, render_radar, true_lakes, valley, write_catalog
from xglof.simulate.elevation import observed_dem

DAYS = ["2020-07-11", "2021-08-04", "2022-01-20", "2023-07-30"]


@pytest.fixture(scope="module")
def place():
    return valley(2, shape=(128, 140), dates=DAYS)


@pytest.fixture(scope="module")
def path(place, tmp_path_factory):
    return write_catalog(place, tmp_path_factory.mktemp("catalog") / "valley")


@pytest.fixture(scope="module")
def items(path):
    found = list(pystac.Catalog.from_file(str(path)).get_items(recursive=True))
    return {
        name: sorted((i for i in found if i.collection_id == name), key=lambda i: i.datetime)
        for name in ("sentinel-2-l2a", "sentinel-1-rtc", "cop-dem-glo-30")
    }


def test_opens_offline_with_both_clients(path, place, items):
    assert path.name == "catalog.json"
    with pytest.warns(PystacClientWarning):  # a folder offers no search, and the client says so
        client = pystac_client.Client.open(str(path))
    with pytest.warns(PystacClientWarning):
        found = list(client.get_items(recursive=True))
    names = {item.id for item in found}
    assert names == {item.id for members in items.values() for item in members}
    assert len(items["sentinel-2-l2a"]) == len(DAYS)
    assert len(items["sentinel-1-rtc"]) == len(place.radar) == len(DAYS) - 1
    assert "imulated" in client.description
    assert all("imulated" in child.description for child in client.get_children())


def test_hrefs_are_relative_and_files_are_cogs(path, items):
    for file in path.parent.rglob("*.json"):
        assert str(path.parent) not in file.read_text()
    for members in items.values():
        for item in members:
            for asset in item.assets.values():
                with rasterio.open(asset.get_absolute_href()) as source:
                    assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
                    assert list(source.shape) == asset.extra_fields["proj:shape"]
                    assert list(source.transform)[:6] == asset.extra_fields["proj:transform"]
                    assert source.dtypes[0] == asset.extra_fields["raster:bands"][0]["data_type"]
                    assert source.nodata == asset.extra_fields["raster:bands"][0].get("nodata")


def test_items_say_what_the_real_ones_say(place, items):
    for item, view in zip(items["sentinel-2-l2a"], place.optical, strict=True):
        assert set(item.assets) == {*MODALITIES["S2L2A"].names, "SCL"}
        said = item.properties
        assert said["s2:processing_baseline"] == view.baseline
        assert said["view:sun_azimuth"] == pytest.approx(view.sun_azimuth, abs=1e-3)
        assert said["view:sun_elevation"] == pytest.approx(view.sun_elevation, abs=1e-3)
        assert 0 <= said["eo:cloud_cover"] <= 100
        assert said["proj:code"] == "EPSG:32645"
        assert item.datetime == view.time
    for item, view in zip(items["sentinel-1-rtc"], place.radar, strict=True):
        assert item.properties["sat:orbit_state"] == view.orbit_state
        assert item.datetime == view.time
    raw = json.loads(Path(items["cop-dem-glo-30"][0].get_self_href()).read_text())
    assert raw["properties"]["datetime"] == "2021-04-22T00:00:00Z"


def test_a_crs_without_a_code_is_written_as_wkt(tmp_path):
    local = "+proj=laea +lat_0=28 +lon_0=86.5 +datum=WGS84 +units=m"
    place = valley(3, shape=(64, 64), crs=local, dates=["2021-07-10"])
    written = write_catalog(place, tmp_path / "valley")
    found = pystac.Catalog.from_file(str(written)).get_items(recursive=True)
    item = next(each for each in found if each.collection_id == "sentinel-2-l2a")
    assert item.properties["proj:code"] is None
    assert place.geobox.crs == item.properties["proj:wkt2"]
    loaded = odc.stac.load([item], bands=["B03"], geobox=place.geobox, dtype="uint16", nodata=0)
    np.testing.assert_array_equal(loaded.B03[0], render_optical(place, 0).dn[2])


def test_odc_stac_gives_back_what_was_rendered(place, items):
    loaded = odc.stac.load(
        items["sentinel-2-l2a"], bands=["B03", "B04"], geobox=place.geobox, dtype="uint16", nodata=0
    )
    assert loaded.odc.geobox == place.geobox
    for index in range(len(DAYS)):
        dn = render_optical(place, index).dn
        np.testing.assert_array_equal(loaded.B03[index], dn[2])
        np.testing.assert_array_equal(loaded.B04[index], dn[3])


def test_coarse_bands_are_means_on_grids_that_share_the_corner(place, items):
    dn = render_optical(place, 0).dn
    for name, index, factor in (("B11", 10, 2), ("B01", 0, 6)):
        with rasterio.open(items["sentinel-2-l2a"][0].assets[name].get_absolute_href()) as source:
            assert source.transform.a == factor * 10
            assert (source.transform.c, source.transform.f) == (
                place.geobox.affine.c,
                place.geobox.affine.f,
            )
            got = source.read(1)
        for row in range(0, got.shape[0] - 1, 5):
            for column in range(0, got.shape[1] - 1, 5):
                cell = dn[index][row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
                known = cell[cell > 0]
                expected = round(known.mean()) if known.size else 0
                assert abs(int(got[row, column]) - expected) <= 1


def test_radar_and_dem_hold_what_was_rendered(place, items):
    scene = render_radar(place, 0)
    with rasterio.open(items["sentinel-1-rtc"][0].assets["vh"].get_absolute_href()) as source:
        np.testing.assert_array_equal(source.read(1), scene.vh)
        assert source.nodata == -32768
        assert source.crs.to_epsg() == 32645
    heights, grid = observed_dem(place)
    with rasterio.open(items["cop-dem-glo-30"][0].assets["data"].get_absolute_href()) as source:
        np.testing.assert_array_equal(source.read(1), heights)
        assert source.crs.to_epsg() == 4326
        assert source.transform.almost_equals(grid.affine)


def test_truth_comes_back_and_areas_agree_with_rasters(place, path, items):
    truth, table = read_truth(path)
    same, _ = read_truth(path.parent)
    assert truth.identical(same)
    assert truth.identical(true_lakes(place))
    assert truth.odc.geobox == place.geobox
    times = [np.datetime64(i.datetime.replace(tzinfo=None), "ns") for i in items["sentinel-2-l2a"]]
    np.testing.assert_array_equal(truth.time, times)
    assert table.crs.to_epsg() == 32645
    assert len(table) == len(place.lakes) * len(DAYS)
    for row in table.itertuples():
        pixels = int((truth.lake_number.sel(time=row.time) == row.lake_number).sum())
        assert row.area_m2 == pytest.approx(100 * pixels)
        assert row.geometry.is_valid
        assert row.geometry.area == pytest.approx(row.area_m2)
        assert row.geometry.is_empty == (pixels == 0)
    assert set(table[table.time == times[2]].frozen) == {True}


def test_one_seed_writes_the_same_files(place, path, tmp_path):
    again = write_catalog(place, tmp_path / "valley")
    compared = 0
    for file in path.parent.rglob("*"):
        if file.suffix in {".tif", ".json"}:
            assert filecmp.cmp(file, again.parent / file.relative_to(path.parent), shallow=False), file
            compared += 1
    assert compared > 4 * 13


def test_refuses_a_folder_that_holds_something(place, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(OutputError, match="is there already"):
        write_catalog(place, tmp_path)
    assert [item.name for item in tmp_path.iterdir()] == ["mine.txt"]


def test_leaves_nothing_behind_when_it_fails(place, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("disk on fire")

    monkeypatch.setattr(catalog_module, "render_radar", fail)
    with pytest.raises(RuntimeError, match="on fire"):
        write_catalog(place, tmp_path / "valley")
    assert list(tmp_path.iterdir()) == []


def test_absent_truth_is_an_error(tmp_path):
    with pytest.raises(CatalogError, match="no truth"):
        read_truth(tmp_path)
