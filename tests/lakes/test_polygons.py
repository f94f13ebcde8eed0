from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from odc.geo.geobox import GeoBox

from lake_maps import UTM, Computed, empty, lake_map, raising_scheduler
from xglof.errors import CubeError
from xglof.lakes import find_lakes


def flood(wet):
    """Oracle: lists of 8-connected pixels, by their first pixel in reading order."""
    seen, groups = set(), []
    for row, column in zip(*np.nonzero(wet), strict=True):
        if (row, column) in seen:
            continue
        stack, group = [(row, column)], []
        seen.add((row, column))
        while stack:
            y, x = stack.pop()
            group.append((y, x))
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    at = (y + dy, x + dx)
                    inside = 0 <= at[0] < wet.shape[0] and 0 <= at[1] < wet.shape[1]
                    if inside and wet[at] and at not in seen:
                        seen.add(at)
                        stack.append(at)
        groups.append(group)
    return groups


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


@given(
    hnp.arrays(
        np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0, 1, 255])
    )
)
@settings(max_examples=60, deadline=None)
def test_lakes_are_the_eight_connected_pixels(values):
    lakes = find_lakes(lake_map(values))
    groups = flood(values == 1)
    assert len(lakes) == len(groups)
    wet = {(y, x) for y, x in np.argwhere(values == 1).tolist()}
    for row, group in zip(lakes.itertuples(), groups, strict=True):
        assert row.geometry.is_valid
        assert row.geometry.area == pytest.approx(100 * len(group))
        for y, x in group:
            centre = shapely.Point(497_000 + 10 * x + 5, 3_080_000 - 10 * y - 5)
            assert row.geometry.contains(centre)
        edges = sum(
            (y + dy, x + dx) not in wet for y, x in group for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
        )
        assert row.geometry.length == pytest.approx(10 * edges)
        near = {(y + dy, x + dx) for y, x in group for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
        inside = [(y, x) for y, x in near if 0 <= y < values.shape[0] and 0 <= x < values.shape[1]]
        assert row.touches_unobserved == any(values[at] == 255 for at in inside)
        assert row.touches_edge == (len(inside) < len(near))


def test_islands_are_holes_and_count_in_the_perimeter():
    values = square()
    values[14:16, 24:26] = 0
    lakes = find_lakes(lake_map(values))
    assert len(lakes.geometry[0].interiors) == 1
    assert lakes.area_m2[0] == pytest.approx(9600, rel=2e-3)
    assert lakes.perimeter_m[0] == pytest.approx(480, rel=2e-3)


def test_pixels_that_meet_at_a_corner_are_one_lake_of_two_parts():
    values = empty()
    values[10, 10] = values[11, 11] = 1
    lakes = find_lakes(lake_map(values))
    assert lakes.geom_type.tolist() == ["MultiPolygon"]
    assert lakes.geometry.is_valid.all()
    assert lakes.area_m2[0] == pytest.approx(200, rel=2e-3)


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
        assert turned.geometry.geom_equals(lakes.geometry).all()


@pytest.mark.parametrize("chunks", [{"time": 1, "y": 7, "x": 9}, {"time": 3, "y": 60, "x": 13}])
def test_chunks_change_nothing(chunks):
    rng = np.random.default_rng(1)
    values = (rng.random((4, 30, 40)) > 0.6).astype("uint8")
    plain, chunked = find_lakes(lake_map(values)), find_lakes(lake_map(values, chunks=chunks))
    assert plain.equals(chunked)


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
