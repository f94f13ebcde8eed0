"""Lakes that split, merge or lie close together: whose pixels are whose at each date."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from lake_maps import UTM, empty, lake_map
from xglof.lakes.area import lake_area
from xglof.lakes.footprints import footprints
from xglof.lakes.layer import pixel_metres
from xglof.lakes.polygons import find_lakes
from xglof.lakes.tracking import track
from xglof.plot.summary import true_areas

FLOATS = (
    "area",
    "area_sigma",
    "perimeter",
    "area_lower",
    "area_upper",
    "observed_fraction",
    "frozen_fraction",
    "requested_fraction",
    "s1_fraction",
    "s2_fraction",
)


def pixels(series, name="area"):
    """Areas as numbers of pixels."""
    return series[name].values / pixel_metres(UTM, series["x"].values, series["y"].values)[2][:, None]


def split_map():
    """A lake of 12 x 10 pixels that falls apart into 7 x 10 and 4 x 10 on the third date."""
    values = empty(4)
    values[:, 20:30, 20:32] = 1
    values[2:, 20:30, 27] = 0
    return values


def merge_map():
    """Two lakes that become one on the third date and two again on the fourth."""
    values = empty(4)
    values[:, 20:30, 20:32] = 1
    values[[0, 1, 3], 20:30, 27] = 0
    return values


def tracked(values):
    return track(find_lakes(lake_map(values)))


def test_a_split_is_no_loss():
    values = split_map()
    series = lake_area(lake_map(values, flags=np.zeros(values.shape)), tracked(values)).compute()
    west = int(np.argmin(series["x"].values))
    east = 1 - west
    np.testing.assert_allclose(pixels(series)[[west, east]], [[120, 120, 70, 70], [np.nan, np.nan, 40, 40]])
    assert series["part_of"].values[[west, east]].tolist() == [[west] * 4, [west, west, east, east]]
    assert series["part_of"].dtype == np.int32
    np.testing.assert_allclose(
        series["area"].sum("lake") / series["area"].sum("lake")[0], [1, 1, 11 / 12, 11 / 12]
    )
    for name in FLOATS:
        assert series[name][east, :2].isnull().all(), name
    assert (series["observed_fraction"][west] == 1).all()
    # the outline of the undivided lake knows no edge between the homes of its parts
    np.testing.assert_allclose(series["perimeter"][west, 0], 440, rtol=1e-3)
    np.testing.assert_allclose(series["perimeter"].values[[west, east], 3], [340, 280], rtol=1e-3)


def test_a_merge_is_no_gain_and_a_lake_seen_alone_again_has_its_own_area():
    values = merge_map()
    series = lake_area(lake_map(values), tracked(values)).compute()
    west = int(np.argmin(series["x"].values))
    east = 1 - west
    np.testing.assert_allclose(pixels(series)[[west, east]], [[70, 70, 120, 70], [40, 40, np.nan, 40]])
    assert series["part_of"].values[east].tolist() == [east, east, west, east]
    np.testing.assert_allclose(series["perimeter"][west, 2], 440, rtol=1e-3)


def test_what_is_hidden_counts_for_every_lake_whose_place_it_was():
    values = split_map()
    lakes = tracked(values)
    values[1, 20:30, 27:] = 255  # half of what will be the eastern lake's
    values[3, 20:30, 28:30] = 255
    series = lake_area(lake_map(values), lakes, buffer_px=0, min_observed=0.5).compute()
    west = int(np.argmin(series["x"].values))
    np.testing.assert_allclose(series["observed_fraction"][west], [1, 7 / 12, 1, 10 / 12])
    np.testing.assert_allclose(series["observed_fraction"][1 - west], [np.nan, np.nan, 1, 0.5])
    np.testing.assert_allclose(pixels(series, "area_lower")[west], [120, 70, 70, 70])
    np.testing.assert_allclose(pixels(series, "area_upper")[west], [120, 120, 70, 90])
    np.testing.assert_allclose(pixels(series, "area_upper")[1 - west], [np.nan, np.nan, 40, 40])


@given(
    seed=st.integers(0, 10_000),
    chunks=st.fixed_dictionaries(
        {"time": st.integers(1, 6), "y": st.integers(3, 60), "x": st.integers(3, 80)}
    ),
)
@settings(max_examples=10, deadline=None)
def test_all_water_of_a_clear_series_is_some_lakes_water_once(seed, chunks):
    rng = np.random.default_rng(seed)
    values = empty(5)
    for step in values:
        for left, top in rng.integers(20, 40, (5, 2)):
            width, height = rng.integers(2, 9, 2)
            step[top : top + height, left : left + width] = 1
    lakes = tracked(values)
    series = lake_area(lake_map(values, chunks=chunks), lakes).compute(scheduler="sync")
    ground = series["area"].sum("lake") / values.sum(axis=(1, 2))
    np.testing.assert_allclose(ground, ground[0], rtol=1e-4)
    whole = lake_area(lake_map(values), lakes.sample(frac=1, random_state=seed)).compute(scheduler="sync")
    assert series.identical(whole)
    held = series["part_of"] != np.arange(series.sizes["lake"])[:, None]
    assert (series["area"].isnull() == held).all()


def taken_over():
    """A lake, and another that grows over its place when it is gone."""
    values = empty(2)
    values[0, 10:20, 10:14] = 1
    values[1, 10:20, 10:30] = 1
    return values


def test_water_is_the_lakes_whose_outline_of_that_date_has_it():
    values = taken_over()
    lakes = find_lakes(lake_map(values)).assign(lake_id=["small", "large"], event="new", parents="")
    series = lake_area(lake_map(values), lakes).sel(lake=["small", "large"])
    np.testing.assert_allclose(pixels(series), [[40, 0], [0, 200]])
    for zone in ("UTC", None):
        other = lakes.assign(time=lakes["time"].dt.tz_localize(zone)).to_crs("EPSG:4326")
        again = lake_area(lake_map(values), other).sel(lake=["small", "large"])
        np.testing.assert_allclose(pixels(again), [[40, 0], [0, 200]], rtol=1e-6)


def test_without_an_outline_of_the_date_the_nearest_and_then_the_smallest_footprint_decides():
    values = taken_over()
    lakes = find_lakes(lake_map(values)).assign(lake_id=["small", "large"], event="new", parents="")
    for undated in (lakes.drop(columns="time"), lakes.assign(time=lakes["time"] - np.timedelta64(90, "D"))):
        series = lake_area(lake_map(values), undated).sel(lake=["small", "large"])
        np.testing.assert_allclose(pixels(series), [[40, 40], [0, 160]])
    some = lake_area(lake_map(values), lakes.iloc[[0, 1, 0]].assign(lake_id=["a", "b", "c"]).iloc[[0, 2, 1]])
    np.testing.assert_allclose(pixels(some.sel(lake=["a", "b", "c"])), [[40, 0], [0, 200], [0, 0]])


def test_one_date_of_a_segmentation_has_the_lakes_of_that_date():
    values = split_map()
    lakes = tracked(values)
    series = lake_area(lake_map(values), lakes)
    for step in range(4):
        one = lake_area(lake_map(values).isel(time=step), lakes)
        assert one["area"].dims == ("lake",)
        assert one["time"] == series["time"][step]
        for name in (*FLOATS, "part_of"):
            np.testing.assert_array_equal(one[name], series[name][:, step], err_msg=name)


def test_lakes_that_join_twice_under_different_heirs_keep_their_water():
    values = empty(6)
    values[:, 10:20, 10:20] = values[:, 10:20, 22:31] = 1
    values[2:, 10:20, 31:60] = 1
    values[[1, 3], 10:20, 20:22] = 1
    series = lake_area(lake_map(values), tracked(values)).compute()
    west, east = np.argsort(series["x"].values)
    nan = np.nan
    np.testing.assert_allclose(pixels(series)[west], [100, 210, 100, nan, 100, 100])
    np.testing.assert_allclose(pixels(series)[east], [90, nan, 380, 500, 380, 380])


def test_one_wrong_outline_does_not_hide_that_a_lake_was_observed():
    values = empty(6)
    values[:, 20:30, 20:30] = 1
    values[2, 10:55, 15:75] = 1  # 27 times the lake
    values[3, 35:] = values[4, :, 45:] = 255
    series = lake_area(lake_map(values), tracked(values))
    np.testing.assert_array_equal(series["observed_fraction"], 1)
    np.testing.assert_allclose(pixels(series), [[100, 100, 2700, 100, 100, 100]])
    assert (series["area_upper"] > series["area_lower"])[0, 3:5].all()  # it may have gone that far again


def test_of_outlines_that_clouds_cut_nobody_knows_how_much_of_the_lake_they_are():
    values = empty(4)
    values[:, 20:30, 20:30] = 1
    values[1, 20:30, 22:] = values[2, 20:30, 22:] = 255
    lakes = tracked(values)
    for seen in ([0, 1, 2], [0, 1, 2, 3]):  # one date of the whole lake and two
        series = lake_area(
            lake_map(values).isel(time=seen), lakes[lakes["time"].isin(lakes["time"].unique()[seen])]
        )
        np.testing.assert_allclose(series["observed_fraction"][0, :3], [1, 0.2, 0.2])


def test_a_pixel_in_reach_of_two_lakes_goes_to_the_nearer_and_then_to_the_smaller():
    values = empty(2)
    values[:, 10:20, 10:20] = 1
    values[:, 10:18, 23:28] = 1
    lakes = tracked(values)
    values[1, 12, 20:23] = 1  # one pixel nearer to each, one between
    series = lake_area(lake_map(values), lakes)
    west = int(np.argmin(series["x"].values))
    np.testing.assert_allclose(pixels(series)[[west, 1 - west]], [[100, 101], [40, 42]])


def test_one_wrong_outline_over_two_lakes_joins_them_for_that_date_only():
    values = empty(5)
    values[:, 10:20, 10:20] = 1
    values[:, 10:20, 25:33] = 1
    values[2, 15, 20:25] = 1  # a false bridge
    series = lake_area(lake_map(values), tracked(values)).compute()
    west = int(np.argmin(series["x"].values))
    np.testing.assert_allclose(
        pixels(series)[[west, 1 - west]], [[100, 100, 185, 100, 100], [80, 80, np.nan, 80, 80]]
    )


def test_the_true_outline_of_a_part_is_that_part_and_not_the_lake_it_was():
    values = split_map()
    lakes = tracked(values)
    series = lake_area(lake_map(values), lakes)
    known = true_areas(lakes, find_lakes(lake_map(values)), series)
    np.testing.assert_allclose(known, series["area"].fillna(0).transpose(*known.dims), rtol=1e-5)


def test_ids_that_are_numbers_are_names_too():
    values = merge_map()
    lakes = tracked(values)
    number = {name: place for place, name in enumerate(dict.fromkeys(lakes["lake_id"]), 7)}
    parents = [" ".join(str(number[name]) for name in row.split()) for row in lakes["parents"]]
    numbered = lake_area(
        lake_map(values), lakes.assign(lake_id=lakes["lake_id"].map(number), parents=parents)
    )
    named = lake_area(lake_map(values), lakes)
    assert set(numbered["lake"].values.tolist()) == {"7", "8"}
    assert numbered.drop_vars("lake").equals(named.drop_vars("lake"))


def test_footprints_are_north_to_south_and_independent_of_rows_and_crs():
    lakes = tracked(merge_map())
    found = footprints(lakes, UTM.crs)
    assert sorted(found.ids) == sorted(set(lakes["lake_id"]))
    assert (np.diff(found.latitude) <= 0).all()
    assert sorted(shapely.area(found.geometry) / 100) == [40, 120]
    assert sorted(shapely.area(found.core) / 100) == [40, 70]
    assert [len(found.outlines.lake), len(np.unique(found.outlines.time))] == [7, 4]
    other = footprints(lakes.iloc[::-1].to_crs("EPSG:4326"), UTM.crs)
    assert other.ids == found.ids
    np.testing.assert_allclose(other.x, found.x, atol=1e-3)
    assert shapely.contains_xy(found.geometry, found.x, found.y).all()


def test_a_point_of_a_ring_lies_in_the_ring():
    values = empty(1)
    values[0, 10:30, 10:30] = 1
    values[0, 12:28, 12:28] = 0
    found = footprints(tracked(values), UTM.crs)
    assert shapely.contains_xy(found.geometry, found.x, found.y).all()
    assert (found.x[0], found.y[0]) != pytest.approx((497_200, 3_079_800))
