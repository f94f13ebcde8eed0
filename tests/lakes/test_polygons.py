from __future__ import annotations

import numpy as np
import pytest
import shapely
from odc.geo.geobox import Affine, GeoBox

from lake_maps import UTM, Computed, empty, lake_map, raising_scheduler
from xglof.errors import CubeError
from xglof.lakes.polygons import effective_resolution, find_lakes


def square(columns=slice(20, 30)):
    values = empty()
    values[10:20, columns] = 1
    return values


def test_a_square_of_100_metres_has_the_published_area_and_sigma():
    lakes = find_lakes(lake_map(square()))
    assert len(lakes) == 1
    assert lakes.area_m2[0] == pytest.approx(10_000, rel=2e-3)
    assert lakes.perimeter_m[0] == pytest.approx(400, rel=1e-3)
    assert lakes.area_sigma_m2[0] == pytest.approx(1374.4, rel=2e-3)
    assert lakes.small[0]
    assert not lakes.touches_edge[0]
    assert not lakes.touches_unobserved[0]


def test_the_polygon_lies_on_the_outer_edges_of_its_pixels():
    lakes = find_lakes(lake_map(square()))
    assert lakes.crs == "EPSG:32645"
    west, north = 497_000 + 200, 3_080_000 - 100
    assert lakes.geometry[0].equals(shapely.box(west, north - 100, west + 100, north))
    assert lakes.geometry[0].exterior.is_ccw


def test_resolution_sets_the_error_only():
    fine, coarse = (find_lakes(lake_map(square()), resolution_m=g) for g in (10, 20))
    assert coarse.area_sigma_m2[0] == pytest.approx(2 * fine.area_sigma_m2[0])
    assert coarse.area_m2[0] == fine.area_m2[0]


def test_islands_are_holes_and_count_in_the_perimeter():
    values = square()
    values[14:16, 24:26] = 0
    lakes = find_lakes(lake_map(values))
    assert len(lakes.geometry[0].interiors) == 1
    assert lakes.area_m2[0] == pytest.approx(9600, rel=2e-3)
    assert lakes.perimeter_m[0] == pytest.approx(480, rel=2e-3)


def test_an_island_that_meets_the_shore_at_a_corner_stays_a_hole():
    values = square()
    values[11, 21] = values[10, 20] = 0  # the bay at the corner and the island share a corner
    values[14, 24] = values[15, 25] = 0  # two islands that share one
    lakes = find_lakes(lake_map(values))
    assert lakes.geom_type.tolist() == ["Polygon"]
    assert lakes.geometry.is_valid.all()
    assert len(lakes.geometry[0].interiors) == 3
    assert lakes.geometry[0].area == 9600
    assert lakes.perimeter_m[0] == pytest.approx(400 + 3 * 40, rel=1e-3)


def test_a_lake_on_an_island_of_a_lake_is_another_lake():
    values = np.ones((9, 9), "uint8")
    values[2:7, 2:7] = 0
    values[4, 4] = 1
    lakes = find_lakes(lake_map(values))
    assert lakes.geometry.area.tolist() == [100 * (81 - 25), 100]
    assert lakes.touches_edge.tolist() == [True, False]


def test_pixels_that_meet_at_a_corner_are_one_lake_of_two_parts():
    values = empty()
    values[10, 10] = values[11, 11] = 1
    lakes = find_lakes(lake_map(values))
    assert lakes.geom_type.tolist() == ["MultiPolygon"]
    assert lakes.geometry.is_valid.all()
    assert lakes.area_m2[0] == pytest.approx(200, rel=2e-3)


def test_the_error_follows_from_the_resolution_that_the_segmentation_states():
    seg = lake_map(square())
    at_pixels = find_lakes(seg).area_sigma_m2[0]
    stated = seg.assign_attrs(effective_resolution_m=20)
    on_the_layer = seg.copy()
    on_the_layer["lake"] = seg["lake"].assign_attrs(effective_resolution_m=20)
    for told in (stated, on_the_layer, on_the_layer["lake"]):
        assert effective_resolution(told) == 20
        assert find_lakes(told).area_sigma_m2[0] == pytest.approx(2 * at_pixels, rel=2e-3)
    assert effective_resolution(stated, 30) == 30
    assert find_lakes(stated, resolution_m=30).area_sigma_m2[0] == pytest.approx(3 * at_pixels, rel=2e-3)
    assert effective_resolution([seg, stated]) == 20


@pytest.mark.parametrize("metres", [5, 10])
def test_no_map_is_sharper_than_its_pixels(metres):
    seg = lake_map(square()).assign_attrs(effective_resolution_m=metres)
    assert effective_resolution(seg) is None
    assert find_lakes(seg).area_sigma_m2[0] == find_lakes(lake_map(square())).area_sigma_m2[0]


def test_a_stated_resolution_is_compared_with_pixels_on_the_ground():
    degrees = GeoBox((60, 80), Affine(0.0001, 0, 86.93, 0, -0.0001, 27.81), "EPSG:4326")  # 9.9 m by 11.1 m
    seg = lake_map(square(), degrees)
    assert effective_resolution(seg.assign_attrs(effective_resolution_m=10)) is None
    assert effective_resolution(seg.assign_attrs(effective_resolution_m=20)) == 20


@pytest.mark.parametrize("stated", ["coarse", -20, np.nan])
def test_a_stated_resolution_that_is_no_length_is_refused(stated):
    with pytest.raises(CubeError, match="effective_resolution_m is"):
        find_lakes(lake_map(square()).assign_attrs(effective_resolution_m=stated))


def test_only_a_wish_removes_small_lakes():
    values = square()
    values[40, 40] = 1
    assert len(find_lakes(lake_map(values))) == 2
    assert len(find_lakes(lake_map(values), min_area=1000)) == 1


def test_rows_go_by_time_then_place_whatever_the_order_of_the_cube():
    values = np.stack([square(), square(slice(40, 50))])
    values[:, 30, 5] = 1
    seg = lake_map(values)
    lakes = find_lakes(seg)
    assert lakes.time.is_monotonic_increasing
    assert lakes.centroid.x.tolist() == [497_250, 497_055, 497_450, 497_055]
    for other in (
        seg.isel(time=[1, 0]),
        seg.isel(y=slice(None, None, -1)),
        seg.isel(x=slice(None, None, -1)),
    ):
        turned = find_lakes(other)
        assert turned.drop(columns="geometry").equals(lakes.drop(columns="geometry"))
        assert turned.geometry.to_wkb().equals(lakes.geometry.to_wkb())


def test_one_time_step_without_the_dim_time():
    lakes = find_lakes(lake_map(square())["lake"])
    assert lakes.time.isna().all()
    assert str(lakes.time.dtype).startswith("datetime64")


def test_bool_truths_are_read():
    assert find_lakes(lake_map(square())["lake"].astype(bool)).area_m2[0] == pytest.approx(10_000, rel=2e-3)


@pytest.mark.parametrize("value", [0, 255])
def test_no_lake_gives_an_empty_table_with_all_columns(value):
    full = find_lakes(lake_map(square()[None]))
    lakes = find_lakes(lake_map(np.full((2, 5, 5), value)))
    assert len(lakes) == 0
    assert lakes.crs == "EPSG:32645"
    assert lakes.dtypes.equals(full.dtypes)
    assert len(find_lakes(lake_map(empty(1)).isel(time=slice(0, 0)))) == 0


def test_dates_without_lakes_or_without_view_have_no_rows():
    values = np.stack([square(), empty(), np.full((60, 80), 255), square()])
    seg = lake_map(values)
    lakes = find_lakes(seg)
    assert lakes.time.tolist() == seg.indexes["time"][[0, 3]].tolist()
    assert not lakes.touches_unobserved.any()


def test_a_missing_date_is_refused():
    seg = lake_map(np.stack([square()] * 2))
    times = seg["time"].values.copy()
    times[1] = np.datetime64("NaT")
    with pytest.raises(CubeError, match=r"seg\[0\] has a time step without a date"):
        find_lakes(seg.assign_coords(time=times))


def ellipse(grid):
    """A lake of about 1.3 km2 around 86.95 E 27.8 N, drawn by distance on the ground."""
    import pyproj

    x, y = np.meshgrid(
        grid.coordinates[grid.dimensions[1]].values, grid.coordinates[grid.dimensions[0]].values
    )
    longitude, latitude = pyproj.Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform(x, y)
    east, north = (longitude - 86.95) * 98_550, (latitude - 27.8) * 110_800
    return ((east / 800) ** 2 + (north / 520) ** 2 <= 1).astype("uint8")


@pytest.mark.parametrize(("crs", "resolution"), [("EPSG:6933", 10), ("EPSG:4326", 0.0001), ("EPSG:3857", 11)])
def test_areas_do_not_depend_on_the_crs(crs, resolution):
    box = GeoBox.from_bbox((86.93, 27.79, 86.97, 27.81), "EPSG:4326", resolution=0.0001)
    utm = GeoBox.from_bbox(box.extent.to_crs("EPSG:32645").boundingbox, resolution=10)
    other = GeoBox.from_bbox(box.extent.to_crs(crs).boundingbox, resolution=resolution)
    here, there = (find_lakes(lake_map(ellipse(grid), grid)) for grid in (utm, other))
    assert len(there) == 1
    assert there.area_m2[0] == pytest.approx(here.area_m2[0], rel=5e-3)
    assert here.area_m2[0] == pytest.approx(np.pi * 800 * 520, rel=5e-3)
    assert not here.small[0]
    assert there.to_crs(here.crs).centroid[0].distance(here.centroid[0]) < 10


def test_a_map_without_crs_or_on_a_rotated_grid_is_refused():
    seg = lake_map(square())
    with pytest.raises(CubeError, match="no CRS"):
        find_lakes(seg.drop_vars("spatial_ref"))
    rotated = UTM.rotate(10)
    with pytest.raises(CubeError, match="rotated"):
        find_lakes(lake_map(square(), rotated))


def test_other_layers_are_refused():
    seg = lake_map(np.stack([square()] * 2))
    with pytest.raises(CubeError, match="expected 'lake'"):
        find_lakes(seg.rename(lake="water"))
    with pytest.raises(CubeError, match="mask_and_scale"):
        find_lakes(seg.astype("float32"))
    with pytest.raises(CubeError, match=r"holds \[7\]"):
        find_lakes(seg * np.uint8(7))
    with pytest.raises(CubeError, match="occur twice"):
        find_lakes(seg.isel(time=[0, 0]))
    with pytest.raises(CubeError, match="datetime64"):
        find_lakes(seg.assign_coords(time=[1, 2]))
    with pytest.raises(CubeError, match="expected 'time' besides"):
        find_lakes(seg["lake"].expand_dims("model"))


@pytest.mark.parametrize("wish", [{"min_area": -1}, {"min_area": np.nan}, {"resolution_m": 0}])
def test_numbers_out_of_range_are_refused_before_computing(wish):
    seg = lake_map(square(), chunks={"y": 20, "x": 20})
    with raising_scheduler(), pytest.raises(CubeError, match=next(iter(wish))):
        find_lakes(seg, **wish)
    with raising_scheduler(), pytest.raises(Computed):
        find_lakes(seg)
