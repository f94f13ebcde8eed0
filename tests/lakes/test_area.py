"""Areas, bounds and perimeters of lakes through time."""

from __future__ import annotations

import geopandas
import numpy as np
import pytest
import shapely
from odc.geo.geobox import Affine, GeoBox

from lake_maps import UTM, empty, lake_map
from xglof.lakes.area import lake_area
from xglof.lakes.layer import pixel_metres
from xglof.lakes.polygons import find_lakes
from xglof.lakes.tracking import glims_id, track


def two_lakes(times=3):
    values = empty(times)
    values[:, 10:20, 20:30] = 1
    values[:, 40:45, 50:60] = 1
    return values


def test_a_square_of_100_metres_has_the_published_area_and_sigma():
    series = lake_area(lake_map(two_lakes(), chunks={"time": 1, "y": 16, "x": 16})).compute()
    assert series["area"].dims == ("lake", "time")
    np.testing.assert_allclose(series["area"][0], 10_000, rtol=2e-3)
    np.testing.assert_allclose(series["area_sigma"][0], 1374.4, rtol=2e-3)
    np.testing.assert_allclose(series["area"][1], 5_000, rtol=2e-3)
    np.testing.assert_allclose(series["perimeter"], [[400] * 3, [300] * 3], rtol=2e-3)
    np.testing.assert_array_equal(series["area_lower"], series["area_upper"])
    assert (series["observed_fraction"] == 1).all()
    assert series["area"].attrs["units"] == "m2"
    assert series["area"].dtype == np.float64


def test_areas_agree_with_the_polygons():
    values = empty(1)
    values[0, 10:30, 20:50] = 1
    values[0, 15:20, 30:35] = 0
    seg = lake_map(values)
    lakes, series = find_lakes(seg), lake_area(seg)
    assert float(series["area"][0, 0]) == pytest.approx(lakes.area_m2[0], rel=1e-5)
    assert float(series["perimeter"][0, 0]) == pytest.approx(lakes.perimeter_m[0], rel=1e-5)
    assert float(series["area_sigma"][0, 0]) == pytest.approx(lakes.area_sigma_m2[0], rel=1e-5)


def test_ids_say_where_a_lake_is():
    series = lake_area(lake_map(two_lakes()))
    ids = series["lake"].values.tolist()
    assert ids == [
        glims_id(*p) for p in zip(series["longitude"].values, series["latitude"].values, strict=True)
    ]
    assert series["x"].values.tolist() == [497_250, 497_550]
    assert series["y"].values.tolist() == [3_080_000 - 150, 3_080_000 - 425]
    assert (np.diff(series["latitude"]) < 0).all()


@pytest.mark.parametrize("crs", ["EPSG:32645", "EPSG:6933", "EPSG:4326"])
def test_one_square_has_one_size_on_the_grids_of_three_crs(crs):
    """The square is that of UTM, so its sides cut the pixels of the other grids."""
    square = shapely.box(*(UTM.transform * (20, 20)), *(UTM.transform * (30, 10)))
    lake = geopandas.GeoDataFrame(geometry=[square], crs=UTM.crs.wkt)
    west, north = lake.to_crs(crs).total_bounds[[0, 3]]
    step = 10 if crs != "EPSG:4326" else 1e-4
    corner = (west // step - 5) * step, (north // step + 5) * step
    grid = GeoBox((40, 40), Affine(step, 0, corner[0], 0, -step, corner[1]), crs)
    series = lake_area(lake_map(np.ones((40, 40)), grid), lake, buffer_px=0, resolution_m=10)
    np.testing.assert_allclose(series["area"], 10_000, rtol=5e-3)
    np.testing.assert_allclose(series["perimeter"], 400, rtol=5e-3)
    np.testing.assert_allclose(series["area_sigma"], 1374.4, rtol=5e-3)


def test_ids_and_areas_hold_for_polygons_in_another_crs():
    seg = lake_map(two_lakes())
    lakes = find_lakes(seg)
    here, there = lake_area(seg, lakes), lake_area(seg, lakes.to_crs("EPSG:4326"))
    assert here["lake"].values.tolist() == there["lake"].values.tolist()
    np.testing.assert_allclose(here["area"], there["area"], rtol=1e-9)


def test_growth_into_the_buffer_counts():
    values = two_lakes(2)
    seg = lake_map(values)
    lakes = track(find_lakes(seg.isel(time=[0])))
    values[1, 10:20, 30:34] = 1
    grown = lake_area(lake_map(values), lakes)
    np.testing.assert_allclose(grown["area"][0, 1] / grown["area"][0, 0], 1.2)
    fixed = lake_area(lake_map(values), lakes, buffer_px=0)
    assert (fixed["area"][0, 1] == fixed["area"][0, 0]).all()


def test_unobserved_gives_bounds_and_too_much_of_it_no_area():
    values = two_lakes(4)
    values[1, 10:12, 20:30] = 255
    values[2, 10:15, 20:30] = 255
    values[3] = 255
    series = lake_area(lake_map(values))
    pixel = float(pixel_metres(UTM, series["x"].values, series["y"].values)[2][0])
    np.testing.assert_allclose(series["observed_fraction"][0], [1, 0.8, 0.5, 0])
    np.testing.assert_allclose(series["area"][0] / pixel, [100, 80, np.nan, np.nan])
    np.testing.assert_allclose(series["area_lower"][0] / pixel, [100, 80, 50, 0])
    # all that is within two pixels of the square: 14 x 14 less four corners of three pixels
    np.testing.assert_allclose(series["area_upper"][0] / pixel, [100, 100, 100, 14 * 14 - 4 * 3])
    assert series["area_sigma"][0].isnull().values.tolist() == [False, False, True, True]


def test_what_lies_outside_the_grid_is_unobserved():
    seg = lake_map(two_lakes())
    lakes = find_lakes(seg)
    part = lake_area(seg.isel(x=slice(0, 25)), lakes, buffer_px=0)
    np.testing.assert_allclose(part["observed_fraction"][0], 0.5)
    np.testing.assert_allclose(part["area_upper"][0], 10_000, rtol=2e-3)
    assert part["area_upper"][1].isnull().all()
    assert part["area_lower"][1].isnull().all()
    buffered = lake_area(seg.isel(x=slice(0, 25)), lakes)
    beyond = 10 * 5 + 2 * (5 + 10 + 5) + np.pi * 2**2 / 2  # the rest of the square, three sides, two corners
    np.testing.assert_allclose(buffered["area_upper"][0], (50 + beyond) * 100, rtol=2e-3)


def test_a_lake_at_the_edge_of_the_grid_may_go_on_beyond():
    values = two_lakes(1)
    seg = lake_map(values)
    series = lake_area(seg.isel(y=slice(10, None), x=slice(21, None)), find_lakes(seg).iloc[:1])
    assert float(series["observed_fraction"][0, 0]) == pytest.approx(0.9)
    reach = 10 * 10 + 4 * 10 * 2 + np.pi * 2**2  # the square and all within two pixels
    inside = (9 + 2) * (10 + 2) - (4 - np.pi)  # of a corner of the grid
    unobserved = series["area_upper"][0, 0] - series["area"][0, 0]
    np.testing.assert_allclose(unobserved, 100 * (reach - inside), rtol=3e-3)


def test_without_time_the_areas_have_no_time():
    series = lake_area(lake_map(two_lakes()[0]))
    assert series["area"].dims == ("lake",)
    np.testing.assert_allclose(series["area"], [10_000, 5_000], rtol=2e-3)


def test_storage_order_of_the_axes_does_not_matter():
    seg = lake_map(two_lakes(), flags=np.zeros((3, 60, 80)), chunks={"y": 17, "x": 23})
    lakes = find_lakes(seg)
    turned = lake_area(seg.isel(y=slice(None, None, -1)).transpose("x", "time", "y"), lakes)
    assert turned.compute().equals(lake_area(seg, lakes).compute())


def test_no_lakes_give_an_empty_series():
    series = lake_area(lake_map(empty(2))).compute()
    assert dict(series.sizes) == {"lake": 0, "time": 2}
    assert series["lake"].dtype.kind == "U"
    assert series["part_of"].dtype == np.int32
    nothing = lake_map(two_lakes()).isel(time=slice(0, 0))
    empty_dates = lake_area(nothing, find_lakes(lake_map(two_lakes()))).compute()
    assert dict(empty_dates.sizes) == {"lake": 2, "time": 0}
    assert empty_dates["lake"].dtype.kind == "U"


def test_without_pixels_of_water_on_a_date_the_area_is_zero():
    values = two_lakes(2)
    values[1] = 0
    series = lake_area(lake_map(values))
    for name in ("area", "area_sigma", "perimeter", "area_lower", "area_upper"):
        assert (series[name][:, 1] == 0).all(), name


def test_a_date_of_which_nothing_was_observed_has_bounds_but_no_area():
    values = two_lakes(2)
    values[1] = 255
    series = lake_area(lake_map(values))
    assert series["area"][:, 1].isnull().all()
    assert (series["observed_fraction"][:, 1] == 0).all()
    assert (series["area_lower"][:, 1] == 0).all()
    assert (series["area_upper"][:, 1] > series["area"][:, 0]).all()


def test_a_lake_in_parts_and_one_that_touches_itself_are_measured():
    values = empty(1)
    values[0, 10:20, 10:20] = values[0, 20:25, 20:25] = 1  # touch at a corner: one lake in two parts
    values[0, 40:50, 10:20] = 1
    values[0, 45, 15] = values[0, 46, 16] = 0  # islands that touch at a corner
    seg = lake_map(values)
    lakes = find_lakes(seg)
    series = lake_area(seg, lakes)
    np.testing.assert_allclose(series["area"][:, 0], lakes["area_m2"], rtol=1e-5)
    np.testing.assert_allclose(series["perimeter"][:, 0], lakes["perimeter_m"], rtol=1e-5)
