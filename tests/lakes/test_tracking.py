from __future__ import annotations

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from pyproj import Transformer
from shapely.affinity import translate

from lake_maps import empty, lake_map
from lake_rows import EAST_LAKE, HISTORY, LAKE, LEFT, RIGHT, WIDE, box, frame, told
from xglof.errors import CubeError
from xglof.lakes.polygons import find_lakes
from xglof.lakes.tracking import check_polygons, glims_id, track


def test_a_lake_that_grows_around_its_outline_keeps_its_id():
    assert told(track(frame([LAKE], [WIDE], [LAKE]))) == [("A", "new", ""), ("A", "", ""), ("A", "", "")]


def test_a_ring_around_the_old_outline_is_another_lake():
    ring = shapely.difference(box(-5, -5, 15, 15), LAKE)
    assert [lake for lake, *_ in told(track(frame([LAKE], [ring])))] == ["A", "B"]


def test_the_share_is_of_the_smaller_area():
    quarter = box(5, 5, 15, 15)
    less = box(6, 5, 16, 15)
    assert told(track(frame([LAKE], [quarter])))[1][0] == "A"
    assert told(track(frame([LAKE], [less])))[1] == ("B", "new", "")
    assert told(track(frame([LAKE], [less]), min_overlap=0.2))[1][0] == "A"
    assert told(track(frame([LAKE], [box(5, 5, 7, 7)]), min_overlap=1))[1][0] == "A"


def test_a_lake_splits_the_larger_part_keeps_the_id_and_merges_under_it():
    tracked = track(frame([LAKE], [RIGHT, LEFT], [LAKE], [LAKE], [RIGHT, LEFT]))
    assert told(tracked) == [
        ("A", "new", ""),
        ("B", "split", "A"), ("A", "split", ""),
        ("A", "merge", "A B"),
        ("A", "", ""),
        ("B", "split", "A"), ("A", "split", ""),
    ]  # fmt: skip


def test_a_merge_goes_on_under_the_largest_and_gives_the_others_their_ids_back():
    both = box(0, 0, 20, 10)
    tracked = track(frame([EAST_LAKE, LAKE], [both], [EAST_LAKE], [LAKE, EAST_LAKE]))
    assert told(tracked) == [
        ("A", "new", ""), ("B", "new", ""),
        ("B", "merge", "B A"),
        ("A", "split", "B"),
        ("B", "", ""), ("A", "", ""),
    ]  # fmt: skip


def test_a_lake_that_vanished_returns_under_its_id():
    other = box(50, 50, 60, 60)
    tracked = track(frame([LAKE, other], [other], [other], [box(2, 2, 8, 8), other]))
    assert tracked["lake_id"].iloc[[0, 4]].nunique() == 1
    assert tracked["event"].tolist() == ["new", "new", "", "", "", ""]


def test_two_steps_of_splitting():
    tracked = track(frame([LAKE], [LEFT, RIGHT], [LEFT, box(7, 0, 10, 6), box(7, 7, 10, 10)]))
    assert told(tracked)[1:] == [
        ("A", "split", ""), ("B", "split", "A"),
        ("A", "", ""), ("B", "split", ""), ("C", "split", "B"),
    ]  # fmt: skip


def test_two_steps_of_merging_and_all_apart_again():
    a, b, c = box(0, 0, 10, 10), box(11, 0, 16, 10), box(17, 0, 20, 10)
    ab, abc = box(0, 0, 16, 10), box(0, 0, 20, 10)
    tracked = track(frame([a, b, c], [ab, c], [abc], [abc], [c, b, a]))
    assert told(tracked)[3:] == [
        ("A", "merge", "A B"), ("C", "", ""),
        ("A", "merge", "A C"),
        ("A", "", ""),
        ("C", "split", "A"), ("B", "split", "A"), ("A", "split", ""),
    ]  # fmt: skip


def test_a_holder_that_is_held_gives_back_what_it_holds():
    a, b, c = box(0, 0, 4, 10), box(5, 0, 8, 10), box(9, 0, 30, 10)
    tracked = track(frame([a, b, c], [box(0, 0, 8, 10), c], [box(0, 0, 30, 10)], [b, c]))
    assert told(tracked)[3:] == [
        ("A", "merge", "A B"), ("C", "", ""),
        ("C", "merge", "C A"),
        ("B", "split", "C"), ("C", "split", ""),
    ]  # fmt: skip


def test_a_part_that_joins_the_neighbour_leaves_both_lakes_their_ids():
    tracked = track(frame([LAKE, EAST_LAKE], [box(0, 0, 6, 10), box(7, 0, 20, 10)]))
    assert told(tracked)[2:] == [("A", "split", ""), ("B", "merge", "B A")]
    again = track(frame([LAKE, EAST_LAKE], [box(0, 0, 6, 10), box(7, 0, 20, 10)], [LEFT, EAST_LAKE]))
    assert told(again)[4:] == [("A", "", ""), ("B", "", "")]


def test_a_puddle_where_a_held_lake_was_is_not_that_lake():
    both = box(0, 0, 20, 10)
    less = shapely.difference(both, box(17, 0, 20, 10))
    tracked = track(frame([LAKE, EAST_LAKE], [both], [less, box(18, 0, 19, 1)], [LAKE, EAST_LAKE]))
    assert told(tracked)[3:5] == [("A", "split", ""), ("C", "split", "A")]
    assert told(tracked)[5:] == [("A", "split", ""), ("B", "merge", "B C")]


def test_lakes_that_overlap_in_an_inventory_stay_apart():
    shapes = [LAKE, box(5, 0, 15, 10), box(1, 1, 2, 2)]
    bare = geopandas.GeoDataFrame(geometry=shapes, crs="EPSG:32645")
    assert track(bare)["lake_id"].nunique() == 3
    assert track(bare.assign(time=pd.NaT))["event"].tolist() == ["new"] * 3
    assert told(track(frame(shapes, shapes)))[3:] == [("A", "", ""), ("B", "", ""), ("C", "", "")]


def test_a_lake_that_flickers_in_two_has_two_ids_for_ever():
    tracked = track(frame([LAKE], *[[LEFT, RIGHT], [LAKE]] * 5))
    assert tracked["lake_id"].nunique() == 2
    assert tracked["event"].tolist() == ["new", *["split", "split", "merge"] * 5]


def test_as_much_overlap_goes_to_the_larger_then_the_northern_then_the_western():
    south, north = box(0, 0, 10, 4), box(0, 6, 10, 10)
    assert told(track(frame([LAKE], [south, north])))[1:] == [("B", "split", "A"), ("A", "split", "")]
    degrees = [shapely.box(*shape) for shape in ((7, 46, 8, 47), (7.6, 46, 8, 47), (7, 46, 7.4, 47))]
    whole, east, west = [shapely.transform(shape, lambda xy: xy / 100) for shape in degrees]
    assert told(track(frame([whole], [east, west], crs="EPSG:4326")))[1:] == [
        ("B", "split", "A"),
        ("A", "split", ""),
    ]
    larger = box(0, -5, 10, 4)
    assert told(track(frame([LAKE], [north, larger])))[1:] == [("B", "split", "A"), ("A", "split", "")]


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:6933", "EPSG:32644"])
def test_another_crs_and_another_order_of_rows_give_the_same(crs):
    straight = frame(*HISTORY)
    turned = straight.to_crs(crs).sample(frac=1, random_state=1)
    names = ["lake_id", "event", "parents"]
    pd.testing.assert_frame_equal(
        pd.DataFrame(track(turned).sort_index()[names]), pd.DataFrame(track(straight)[names])
    )


def test_rows_order_and_index_are_kept_and_the_input_is_left_alone():
    lakes = frame(*HISTORY).iloc[::-1].set_index(pd.Index([f"row {i}" for i in range(13)]))
    copy = lakes.copy()
    tracked = track(lakes)
    assert tracked.index.equals(lakes.index)
    pd.testing.assert_frame_equal(pd.DataFrame(lakes), pd.DataFrame(copy))
    assert list(tracked.columns) == [*lakes.columns, "lake_id", "event", "parents"]
    assert tracked.crs == lakes.crs


def test_ids_say_where_the_lake_was_first_seen():
    assert track(frame([LAKE], [WIDE]))["lake_id"].tolist() == ["GL086970E27845N"] * 2
    centre = geopandas.GeoSeries([LAKE], crs="EPSG:32645").to_crs(4326)[0].centroid
    assert glims_id(centre.x, centre.y) == "GL086970E27845N"


def test_a_lake_around_an_island_is_named_by_a_point_in_the_water():
    ring = shapely.difference(shapely.box(8.0, 46.0, 8.04, 46.04), shapely.box(8.01, 46.01, 8.03, 46.03))
    name = track(geopandas.GeoDataFrame(geometry=[ring], crs="EPSG:4326"))["lake_id"][0]
    assert name == "GL008005E46019N"  # of two arms as wide the western one
    moved = geopandas.GeoDataFrame(geometry=[ring.reverse()], crs="EPSG:4326").to_crs("EPSG:3035")
    assert track(moved)["lake_id"][0] == name


@pytest.mark.parametrize(
    ("longitude", "latitude", "name"),
    [
        (-0.0021, 42.7, "GL359998E42700N"),
        (-0.0002, 42.7, "GL000000E42700N"),
        (359.9999, 42.7, "GL000000E42700N"),
        (0.0016, 42.7, "GL000002E42700N"),
        (-72.5, -50.0004, "GL287500E50000S"),
        (-179.99995, 66.0, "GL180000E66000N"),
    ],
)
def test_names_at_the_ends_of_the_numbers(longitude, latitude, name):
    lake = shapely.box(longitude - 1e-4, latitude - 1e-4, longitude + 1e-4, latitude + 1e-4)
    lakes = geopandas.GeoDataFrame(geometry=[lake], crs="EPSG:4326")
    assert track(lakes)["lake_id"].tolist() == [name]


def test_a_lake_across_180_degrees_is_one_place():
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:32660", always_xy=True).transform(180, 66)
    there = shapely.box(x - 50, y - 50, x + 50, y + 50)
    lakes = frame([there], [translate(there, 60)], [there], [translate(there, -60)])
    lakes = lakes.set_crs("EPSG:32660", allow_override=True)
    torn = shapely.bounds(lakes.to_crs(4326).geometry.array)
    assert (torn[:, 0] < -179).any()
    assert (torn[:, 2] > 179).any()
    assert track(lakes)["lake_id"].tolist() == ["GL180000E66000N"] * 4


def test_lakes_of_one_thousandth_of_a_degree_get_suffixes_from_north_to_south():
    ponds = [box(0, 0, 1, 1), box(3, 0, 4, 1), box(0, 3, 1, 4)]
    tracked = track(frame(ponds, [box(3, 3, 4, 4), *ponds]))
    name = tracked["lake_id"][2]
    assert tracked["lake_id"].tolist() == [
        f"{name}-2", f"{name}-3", name, f"{name}-4", f"{name}-2", f"{name}-3", name,
    ]  # fmt: skip


def test_polygons_of_a_segmentation_are_tracked():
    values = empty(3)
    values[:, 10:20, 10:20] = 1
    values[1, 10:20, 13] = 255
    values[2, 10:20, 13] = 0
    assert told(track(find_lakes(lake_map(values)))) == [
        ("A", "new", ""), ("A", "", ""), ("A", "", ""), ("B", "split", "A"), ("A", "split", ""),
    ]  # fmt: skip


def test_no_polygons_give_an_empty_table():
    tracked = track(find_lakes(lake_map(empty(2))))
    assert len(tracked) == 0
    assert list(tracked.columns[-3:]) == ["lake_id", "event", "parents"]
    assert tracked["lake_id"].dtype == object
    bare = geopandas.GeoDataFrame(geometry=[], crs="EPSG:4326")
    assert len(track(bare, known=track(frame([LAKE])))) == 0
    assert len(track(frame([LAKE]), known=track(bare))) == 1


@pytest.mark.parametrize(
    ("lakes", "words"),
    [
        (pd.DataFrame({"time": []}), "DataFrame"),
        (frame([LAKE], crs=None), "no CRS"),
        (frame([shapely.Point(0, 0)]), "no polygons"),
        (frame([None]), "missing"),
        (frame([shapely.Polygon()]), "no polygons"),
        (frame([shapely.Polygon([(0, 0), (9, 9), (9, 0), (0, 9)])]), "make_valid"),
        (frame([LAKE]).assign(lake_id="GL1"), "known="),
        (frame([LAKE]).assign(time="2021"), "datetime64"),
        (frame([LAKE, RIGHT]).assign(time=pd.to_datetime(["2021-01-01", None])), "1 of 2 polygons have no"),
        (frame([LAKE], crs="EPSG:4326"), "beyond the earth"),
    ],
)  # fmt: skip
def test_bad_polygons_are_refused(lakes, words):
    with pytest.raises(CubeError, match=words):
        track(lakes)


@pytest.mark.parametrize("share", [0, -0.1, 1.01, np.nan])
def test_shares_out_of_range_are_refused(share):
    with pytest.raises(CubeError, match="min_overlap"):
        track(frame([LAKE]), min_overlap=share)


def test_self_touching_polygons_name_the_place():
    bow = shapely.Polygon([(0, 0), (9, 9), (9, 0), (0, 9)])
    with pytest.raises(CubeError, match=r"1 of 2 polygons are invalid \(Self-intersection\[4.5 4.5\]\)"):
        check_polygons(frame([LAKE, bow]))
