from __future__ import annotations

import json
import shutil
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import xarray as xr
from odc.geo.geobox import GeoBox

from tiny_catalog import (
    DEM_GRID,
    GRID,
    S2_NAMES,
    SIZE,
    Written,
    native_step,
    raw_band,
    raw_scl,
    write_catalog,
)
from xglof.cube import open_cube
from xglof.errors import CatalogError, CubeError

CELL_EDGE = 120  # of the fixture's grid: the corner of four reading cells


@pytest.fixture(scope="module")
def cube(written: Written) -> xr.Dataset:
    return open_cube(catalog=written.root, geobox=GRID, max_cloud_cover=50)


@pytest.fixture(scope="module")
def values(cube: xr.Dataset) -> xr.Dataset:
    return cube.compute()


def test_nothing_is_computed(written: Written, no_compute: None) -> None:
    cube = open_cube(catalog=written.root, geobox=GRID, chunks={"x": 100, "y": 70, "time": 2})
    assert cube.flags.chunks == ((2, 2), (70, 70, 70, 30), (100, 100, 40))
    assert {name: v.chunks for name, v in cube.data_vars.items()} == {
        name: cube.flags.chunks[-v.ndim :] for name, v in cube.data_vars.items()
    }


def test_contract_of_the_dataset(cube: xr.Dataset) -> None:
    assert cube.odc.geobox == GRID
    assert cube.odc.spatial_dims == ("y", "x")
    np.testing.assert_array_equal(cube.x, GRID.coordinates["x"].values)
    np.testing.assert_array_equal(cube.y, GRID.coordinates["y"].values)
    assert set(cube.data_vars) == {*S2_NAMES, "SCL", "vv", "vh", "dem", "flags"}
    for name in (*S2_NAMES, "vv", "vh"):
        assert cube[name].dims == ("time", "y", "x")
        assert cube[name].dtype == ("float32" if name in ("vv", "vh") else "uint16")
        assert cube[name].encoding["grid_mapping"] == "spatial_ref"
        assert "_FillValue" not in cube[name].attrs
    assert cube.B02.attrs["nodata"] == 0
    assert cube.B02.attrs["units"] == "1e-4"
    assert cube.SCL.dtype == "uint8"
    assert cube.vv.attrs["units"] == "dB"
    assert cube.vv.attrs["product"] == "RTC gamma0"
    assert cube.dem.dims == ("y", "x")
    assert cube.dem.attrs["epoch"] == cube.attrs["dem_epoch"] == "2011/2015"
    assert cube.dem.attrs["vertical_datum"] == "EGM2008"
    assert cube.attrs["Conventions"].startswith("CF-")
    assert cube.attrs["catalog"] == "tiny"


def test_time_and_its_coordinates(cube: xr.Dataset) -> None:
    expected = ["2021-07-05T04:50:11", "2022-07-10T04:50:12", "2022-07-20T04:50:10"]
    assert cube.time.dtype == "datetime64[ns]"
    np.testing.assert_array_equal(cube.time, np.array(expected, dtype="datetime64[ns]"))
    assert cube.s2_items.values.tolist() == ["A", "B", "C-left,C-right"]
    assert cube.s2_baseline.values.tolist() == ["03.01", "04.00", "03.01,04.00"]
    assert cube.s2_offset.values.tolist() == [0, 1000, 1000]
    assert cube.s2_offset_source.values.tolist() == ["baseline"] * 3
    assert cube.sun_azimuth.values.tolist() == [180.0] * 3
    assert cube.sun_elevation.values.tolist() == [30.0] * 3
    assert cube.s1_items.values.tolist() == ["", "R-asc", "R-late"]
    assert cube.orbit_state.values.tolist() == ["", "ascending", "ascending"]
    assert cube.relative_orbit.values.tolist() == ["", "12", "12"]
    gaps = [np.nan, (16 * 3600 + 40 * 60 + 12) / 86400, (4 * 86400 + 7 * 3600 + 19 * 60 + 50) / 86400]
    np.testing.assert_allclose(cube.s1_gap_days, gaps, rtol=1e-12)


def test_ten_metre_bands_come_back_exactly(values: xr.Dataset) -> None:
    for name in ("B02", "B03", "B04", "B08"):
        raw = raw_band(name).astype(int)
        np.testing.assert_array_equal(values[name][0], raw)
        np.testing.assert_array_equal(values[name][1], np.where(raw == 0, 0, np.maximum(raw - 1000, 1)))
        assert values[name][1, 0, :5].values.tolist() == [0, 1, 1, 1, 1]


def test_a_day_under_two_offsets_is_corrected_scene_by_scene(values: xr.Dataset) -> None:
    left = raw_band("B03", (0, 120)).astype(int)
    right = raw_band("B03", (100, SIZE)).astype(int)
    right = np.where(right == 0, 0, np.maximum(right - 1000, 1))
    np.testing.assert_array_equal(values.B03[2], np.where(left > 0, left, right))


def test_scene_classification_is_nearest(values: xr.Dataset) -> None:
    np.testing.assert_array_equal(values.SCL[0], raw_scl().repeat(2, axis=0).repeat(2, axis=1))


def test_nodata_is_not_blended_where_the_file_declares_none(written: Written) -> None:
    cube = open_cube(catalog=written.of("C-right"), geobox=GRID, modalities=["S2L2A"])
    coarse = cube[["B11", "B12"]].isel(time=0, y=slice(20, None)).compute()  # B12's files carry no nodata
    np.testing.assert_array_equal(coarse.B12 == 0, coarse.B11 == 0)
    assert (
        coarse.B12.values[coarse.B12.values > 0].min() > 600
    )  # the ramp less its offset, nothing halfway to 0


def test_decibels_of_known_power(values: xr.Dataset) -> None:
    vv = values.vv
    assert np.isnan(vv[0]).all()
    assert np.isnan(values.vh[0]).all()
    assert vv[1, 120, 120] == np.float32(10 * np.log10(np.float64(np.float32(0.1))))
    assert vv[2, 120, 120] == 0
    assert np.isnan(vv[1, 20, 20])  # -32768
    assert np.isnan(vv[1, 205, 205])  # zero border
    finite = vv[1].values[np.isfinite(vv[1].values)]
    assert finite.min() >= -20  # a border blends halfway with zero at most, never with -32768
    assert finite.max() <= -9.99


def test_ascending_and_descending_of_one_date_are_two_steps(written: Written) -> None:
    cube = open_cube(catalog=written.root, geobox=GRID, modalities=["S1RTC"])
    assert cube.s1_items.values.tolist() == ["R-desc", "R-asc", "R-late"]
    assert cube.orbit_state.values.tolist() == ["descending", "ascending", "ascending"]
    assert "s1_gap_days" not in cube.coords
    np.testing.assert_allclose(cube.vv[:, 120, 120].compute(), [-20, -10, 0], atol=1e-5)


def test_gap_limit_is_kept(written: Written) -> None:
    cube = open_cube(catalog=written.root, geobox=GRID, time="2022-07-20", max_gap_days=4.0)
    assert cube.s1_items.values.tolist() == [""]
    assert np.isnan(cube.s1_gap_days).all()
    assert np.isnan(cube.vv.compute()).all()


def test_dem_alone_has_no_time(written: Written) -> None:
    cube = open_cube(catalog=written.root, geobox=GRID, modalities="DEM")
    assert cube.sizes == {"y": SIZE, "x": SIZE}
    dem = cube.dem.compute()
    assert np.isfinite(dem).all()
    assert 4000 <= dem.min() < dem.max() <= 5200


def test_report_of_the_selection(cube: xr.Dataset) -> None:
    assert cube.attrs["items_found"] == 10
    rejected = cube.attrs["items_rejected"]
    assert sorted(rejected) == [
        "B-old: duplicate of a newer baseline",
        "D-cloudy: cloud cover 90 % above 50 %",
        "R-desc: nearest to no step of the cube within 7 days",
    ]
    assert cube.attrs["items_found"] == cube.attrs["items_used"] + len(rejected)
    json.dumps(rejected)


@pytest.mark.parametrize("chunks", [{"x": 150, "y": 100}, {"x": -1, "y": -1, "time": 2}])
def test_values_do_not_depend_on_the_chunks(
    written: Written, values: xr.Dataset, chunks: dict[str, int]
) -> None:
    again = open_cube(catalog=written.root, geobox=GRID, max_cloud_cover=50, chunks=chunks).compute()
    xr.testing.assert_identical(again, values)


def test_values_do_not_depend_on_the_area(written: Written, values: xr.Dataset) -> None:
    part = np.s_[90:170, 75:130]  # over the corner of four cells
    grid = GRID[part]
    again = open_cube(catalog=written.root, geobox=grid, max_cloud_cover=50).compute()
    assert again.odc.geobox == grid
    expected = values.isel(y=part[0], x=part[1])
    for name in values.data_vars:
        np.testing.assert_array_equal(again[name], expected[name], err_msg=str(name))


def test_values_do_not_depend_on_the_area_in_degrees(written: Written) -> None:
    grid = GeoBox.from_bbox((86.415, 28.24, 86.434, 28.258), crs="EPSG:4326", resolution=0.0001)
    arguments: dict[str, Any] = {"catalog": written.root, "time": "2022-07-10"}
    whole = open_cube(geobox=grid, **arguments).compute()
    part = np.s_[33:150, 11:170]
    again = open_cube(geobox=grid[part], **arguments).compute()
    assert whole.odc.spatial_dims == ("latitude", "longitude")
    assert whole.B03.dims == ("time", "latitude", "longitude")
    assert whole.flags.attrs["terrain_shadow"].startswith("cast shadow")
    assert (whole.B03 > 0).mean() > 0.5
    for name in whole.data_vars:
        expected = whole[name].isel(latitude=part[0], longitude=part[1])
        np.testing.assert_array_equal(again[name], expected, err_msg=str(name))


def test_south_up_grid_holds_the_same_numbers(written: Written, values: xr.Dataset) -> None:
    turned = open_cube(catalog=written.root, geobox=GRID.flipy(), max_cloud_cover=50).compute()
    assert turned.odc.geobox == GRID.flipy()
    np.testing.assert_array_equal(turned.B03, values.B03[:, ::-1])
    shadow = (turned.flags.values[:, ::-1] ^ values.flags.values) & 8
    assert (shadow > 0).mean() < 0.02  # the DEM is reprojected in other cells, so a few pixels may differ


def test_area_of_interest_gives_a_utm_grid_on_whole_pixels(written: Written) -> None:
    cube = open_cube((86.415, 28.24, 86.425, 28.25), catalog=written.root, time="2022-07-10")
    assert cube.odc.geobox.crs.to_epsg() == 32645
    assert cube.odc.geobox.resolution.xy == (10, -10)
    transform = cube.odc.geobox.transform
    assert (transform.c % 10, transform.f % 10) == (0, 0)
    coarse = open_cube((86.415, 28.24, 86.425, 28.25), catalog=written.root, resolution=30, crs="EPSG:32644")
    assert coarse.odc.geobox.crs.to_epsg() == 32644
    assert coarse.odc.geobox.resolution.xy == (30, -30)


def test_no_area_means_the_footprints(written: Written) -> None:
    cube = open_cube(catalog=written.root, modalities=["S2L2A"], time="2022-07")
    assert cube.odc.geobox == GRID
    radar = open_cube(catalog=written.root, modalities=["S1RTC"])
    assert radar.odc.geobox.shape == (201, 201)


def test_items_as_catalogue_need_no_files_at_build_time(written: Written, no_compute: None) -> None:
    cube = open_cube(catalog=written.of("A", "dem"), geobox=GRID, modalities=("S2L2A", "DEM"))
    assert cube.attrs["catalog"] == "2 items"
    assert cube.attrs["items_used"] == 2


def test_items_without_classification(written: Written) -> None:
    item = written.items["A"].clone()
    del item.assets["SCL"]
    cube = open_cube(catalog=[item], geobox=GRID, modalities=["S2L2A"])
    assert "SCL" not in cube
    assert cube.flags.attrs["cloud_mask"] == "none"
    assert set(np.unique(cube.flags.compute())) == {0, 1}


def test_a_failed_read_raises(written: Written, tmp_path: Path) -> None:
    item = written.items["A"].clone()
    item.assets["B03"].href = str(tmp_path / "gone.tif")
    with pytest.raises(CatalogError, match=r"gone\.tif .* could not be read"):
        open_cube(catalog=[item], geobox=GRID, modalities=["S2L2A"])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"modalities": ["S3"]}, CubeError, "'S3' is unknown; expected some of S2L2A, S1RTC, S1GRD, DEM"),
        ({"modalities": ["S1RTC", "S1GRD"]}, CubeError, "both vv and vh; expected one"),
        ({"orbit": 176}, CubeError, "orbit=176 is not understood"),
        ({"max_scenes": 0}, CubeError, "max_scenes is 0"),
        ({"rank_by": "luck"}, CubeError, "rank_by is 'luck'; expected one of 'cloud_cover', 'SCL'"),
        ({"on_error": "ignore"}, CubeError, "on_error is 'ignore'"),
        ({"backend": "rio"}, CubeError, "backend is 'rio'"),
        ({"composite": "mean"}, CubeError, "composite is 'mean'; expected one of 'median'"),
        ({"composite": "best"}, CubeError, "composite='best' needs windows of time"),
        ({"freq": "fortnight", "time": None}, CubeError, "'fortnight'"),
        ({"orbit": 12, "modalities": ["S2L2A"]}, CubeError, "orbit=12 is of Sentinel-1"),
        ({"max_gap_days": "7"}, CubeError, "max_gap_days is '7'"),
        ({"max_scenes": 2.5}, CubeError, "max_scenes is 2.5"),
        ({"max_gap_days": 1e7}, CubeError, "max_gap_days is 10000000.0"),
        ({"chunks": {"x": 0}}, CubeError, "chunks= gives x 0; expected pixels above 0"),
        ({"chunks": {"x": "big"}}, CubeError, "chunks= gives x 'big'"),
        ({"modalities": 3}, CubeError, "modalities=3 is no list"),
        ({"freq": "month", "time": None}, CubeError, "needs a time with both ends"),
        ({"resampling": {"dme": "cubic"}}, CubeError, "resampling= names 'dme'; expected bands among B01"),
        ({"resampling": {"dem": "lanczos"}}, CubeError, "resampling of dem is 'lanczos'; expected nearest"),
        (
            {"resampling": {"scl": "bilinear"}},
            CubeError,
            "resampling of SCL is 'bilinear'; expected 'nearest'",
        ),
        ({"modalities": []}, CubeError, "modalities= is empty"),
        ({"time": "2022-09/2022-07"}, CubeError, "reversed"),
        ({"time": "2010"}, CatalogError, "no usable S2L2A item in 2010-01-01"),
        ({"aoi": (10, 10, 10.1, 10.1), "geobox": None}, CatalogError, "outside the area of interest"),
        ({"aoi": (86.42, 28.24, 86.42, 28.25), "geobox": None}, CubeError, "empty"),
        ({"aoi": (86.42, 28.24, 86.43, 28.25)}, CubeError, "leave out aoi"),
        ({"resolution": 20}, CubeError, "leave out resolution"),
        ({"crs": "EPSG:32645"}, CubeError, "leave out crs"),
        ({"geobox": GRID.rotate(10)}, CubeError, "rotated"),
        ({"geobox": None, "crs": "EPSG:4326", "resolution": 10}, CubeError, "looks like metres"),
        ({"geobox": None, "crs": "EPSG:4326"}, CubeError, "resolution in degrees"),
        ({"geobox": None, "resolution": -10}, CubeError, "above 0"),
        ({"geobox": None, "crs": "EPSG:nowhere"}, CubeError, "is not understood"),
        ({"chunks": {"band": 1}}, CubeError, "chunks= names 'band'"),
        ({"max_cloud_cover": 400}, CubeError, "percent"),
        ({"max_gap_days": -1}, CubeError, "days, 0 or more"),
        ({"catalog": "planet-computer"}, CatalogError, "neither a known archive nor a file"),
        ({"catalog": 7}, CatalogError, "expected one of 'planetary-computer'"),
        ({"catalog": "earth-search"}, CatalogError, "earth-search holds no S1RTC"),
    ],
)
def test_errors_come_before_any_graph(
    written: Written, no_compute: None, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        open_cube(**({"catalog": written.root, "geobox": GRID} | arguments))


def test_no_sentinel1_item_is_said(written: Written) -> None:
    with pytest.raises(CatalogError, match=r"no usable S1RTC item: it has the collections cop-dem"):
        open_cube(catalog=written.of("A", "dem"), geobox=GRID)


def test_dem_reaches_over_the_margin_of_the_shadow(written: Written) -> None:
    cube = open_cube(catalog=written.root, geobox=GRID, time="2022-07-10")
    assert cube.flags.attrs["terrain_shadow"] == "cast shadow of terrain within 5000 m"
    assert DEM_GRID.extent.contains(GRID.pad(500).footprint("EPSG:4326"))


def test_importing_the_package_stays_light(tmp_path: Path) -> None:
    import subprocess

    script = (
        "import sys, xglof.cube; print([m for m in ('rasterio', 'odc.stac', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_catalogue_that_was_moved_still_opens(written: Written, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(written.root, moved)
    cube = open_cube(catalog=moved / "catalog.json", geobox=GRID, modalities=["S2L2A"], time="2021")
    assert cube.B03[0, 5, 5].compute() == raw_band("B03")[5, 5]
    assert isinstance(pystac.Catalog.from_file(str(moved / "catalog.json")), pystac.Catalog)


def test_graphs_are_named_alike_and_travel(written: Written) -> None:
    import cloudpickle

    first, second = (open_cube(catalog=written.root, geobox=GRID, time="2022") for _ in range(2))
    for name in first.data_vars:
        assert first[name].data.name == second[name].data.name
    travelled = cloudpickle.loads(cloudpickle.dumps(first.B05))
    np.testing.assert_array_equal(travelled.compute(scheduler="synchronous"), second.B05.compute())


def test_a_cube_survives_zarr(written: Written, tmp_path: Path) -> None:
    cube = open_cube(catalog=written.root, geobox=GRID, time="2022", chunks={"x": 120, "y": 120})
    cube.to_zarr(tmp_path / "cube.zarr", zarr_format=2)
    again = xr.open_zarr(tmp_path / "cube.zarr")
    assert again.odc.geobox == GRID
    assert again.B02.dtype == "uint16"
    assert again.flags.dtype == "uint16"
    assert again.attrs == cube.attrs
    assert again.s2_items.values.tolist() == cube.s2_items.values.tolist()
    np.testing.assert_array_equal(again.vh, cube.vh)


def test_a_simulated_valley_opens(tmp_path: Path, no_compute: None) -> None:
    from xglof import simulate

    place = simulate.valley(3, shape=(96, 96), dates=["2021-07-10", "2023-08-12"])
    simulate.write_catalog(place, tmp_path / "valley")
    cube = open_cube(catalog=tmp_path / "valley", geobox=place.geobox, max_gap_days=30)
    assert cube.odc.geobox == place.geobox
    assert set(cube.data_vars) == {*S2_NAMES, "SCL", "vv", "vh", "dem", "flags"}
    assert cube.sizes["time"] == 2
    assert cube.attrs["items_rejected"] == []
    read = cube.compute(scheduler="synchronous")
    assert (read.B03 > 0).mean() > 0.5
    assert np.isfinite(read.dem).all()


def test_steps_without_radar_are_read_by_the_cell(written: Written) -> None:
    grid = GeoBox((6000, 6000), GRID.transform, GRID.crs)
    cube = open_cube(catalog=written.root, geobox=grid, max_cloud_cover=50, modalities=["S2L2A", "S1RTC"])
    assert cube.s1_items.values[0] == ""
    assert cube.vv.chunks == cube.B02.chunks
    tracemalloc.start()
    try:
        assert np.isnan(cube.vv[0, :9, :9].compute(scheduler="synchronous")).all()
        assert tracemalloc.get_traced_memory()[1] < 60e6  # a whole step is 144 MB
    finally:
        tracemalloc.stop()


def test_the_sun_of_a_day_is_averaged_across_north(written: Written) -> None:
    items = [item.clone() for item in written.of("C-left", "C-right")]
    for item, azimuth in zip(items, (358.0, 4.0), strict=True):
        item.properties["view:sun_azimuth"] = azimuth
    cube = open_cube(catalog=items, geobox=GRID, modalities=["S2L2A"])
    assert cube.sun_azimuth.item() == pytest.approx(1.0)


def test_a_file_that_names_other_files_is_not_read(tmp_path):
    catalog = write_catalog(tmp_path / "catalog")
    inside = catalog.root / "s2" / "A" / "B02.tif"
    secret = tmp_path / "secret.tif"
    inside.rename(secret)
    inside.write_text(
        f'<VRTDataset rasterXSize="240" rasterYSize="240"><SRS>EPSG:32645</SRS>'
        f"<GeoTransform>442320,10,0,3126000,0,-10</GeoTransform>"
        f'<VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{secret}</SourceFilename>'
        f"<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    arguments: dict[str, Any] = {"geobox": GRID, "time": "2021", "modalities": ["S2L2A"]}
    with pytest.raises(CatalogError, match="is a VRT file"):  # its header is asked for the grid
        open_cube(catalog=catalog.root, **arguments)
    item = catalog.items["A"]
    item.properties["proj:code"] = "EPSG:32645"
    for band, asset in item.assets.items():
        grid = GRID.zoom_out(native_step(band))
        asset.extra_fields |= {"proj:shape": list(grid.shape), "proj:transform": list(grid.transform)[:6]}
    cube = open_cube(catalog=[item], **arguments)
    with pytest.raises(CatalogError, match="is a VRT file"):
        cube["B02"].compute()


def test_a_band_is_resampled_as_asked(written: Written) -> None:
    """Elevation by nearest neighbour makes terraces: neighbours that share a pixel of 30 m are equal."""
    arguments: dict[str, Any] = {"catalog": written.root, "geobox": GRID, "modalities": ["DEM"]}
    smooth = open_cube(**arguments).dem.compute()
    terraced = open_cube(**arguments, resampling={"elevation": "nearest"}).dem.compute()
    flat = [float((np.diff(dem.values, axis=1) == 0).mean()) for dem in (smooth, terraced)]
    assert flat[0] < 0.01
    assert flat[1] > 0.5


def test_windows_of_a_composite_are_whole(written: Written) -> None:
    """July is searched whole though the time begins in its middle."""
    arguments: dict[str, Any] = {
        "catalog": written.root,
        "geobox": GRID,
        "modalities": ["S2L2A"],
        "freq": "month",
    }
    part = open_cube(**arguments, time="2022-07-15/2022-07-31")
    whole = open_cube(**arguments, time="2022-07")
    assert part.s2_items.values.tolist() == whole.s2_items.values.tolist()
    assert "B" in str(part.s2_items.values[0])


def test_the_best_scenes_are_chosen_before_reading(written: Written) -> None:
    """By what the items state, and by the share of the grid that is clear in a small copy of SCL."""
    arguments: dict[str, Any] = {"catalog": written.root, "geobox": GRID, "modalities": ["S2L2A"]}
    stated = open_cube(**arguments, max_scenes=2)
    assert stated.s2_items.values.tolist() == ["A", "B"]
    assert sum("not among the best 2 by cloud_cover" in text for text in stated.attrs["items_rejected"]) == 3
    # by its footprint the left half of C covers the grid, and what it shows is the clearest
    seen = open_cube(**arguments, max_scenes=1, rank_by="SCL")
    assert seen.s2_items.values.tolist() == ["C-left,C-right"]
    yearly = open_cube(**arguments, max_scenes=1, freq=[("2021", "2021"), ("2022", "2022")])
    assert yearly.s2_items.values.tolist() == ["A", "B"]


def test_pixels_decide_the_offset_where_asked(simulated: Path) -> None:
    """Scenes of a valley, one without the offset in its numbers, that state nothing or the wrong thing."""
    found = pystac.Catalog.from_file(str(simulated / "catalog.json")).get_items(recursive=True)
    items = [item for item in found if item.collection_id == "sentinel-2-l2a"]
    arguments: dict[str, Any] = {"catalog": items, "modalities": ["S2L2A"]}
    truth = open_cube(**arguments)
    assert truth.s2_offset.values.tolist() == [0, 1000, 1000, 1000]
    for item in items:
        item.properties["s2:processing_baseline"] = "05.09"
    looked = open_cube(**arguments, offset="pixels")
    assert looked.s2_offset.values.tolist() == [0, 1000, 1000, 1000]
    assert looked.s2_offset_source.values.tolist() == ["pixels", "baseline", "baseline", "baseline"]
    for item in items:
        del item.properties["s2:processing_baseline"]
    with pytest.raises(CatalogError, match="radiometric offset"):
        open_cube(**arguments)
    with pytest.raises(CatalogError, match=r"20230812.* do not tell"):  # clouds and snow, no shadow
        open_cube(**arguments, offset="pixels")
    looked = open_cube(**arguments, offset="pixels", time="2021/2022")
    assert looked.s2_offset.values.tolist() == [0, 1000, 1000]
    assert set(looked.s2_offset_source.values) == {"pixels"}
    np.testing.assert_array_equal(looked.B04, truth.B04[:3])
