"""Views in part, and lakes seen where they were of old: what is that lake, and what is another."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lake_maps import empty, lake_map
from lake_rows import EAST_LAKE, LAKE, LEFT, RIGHT, box, frame, told
from xglof.lakes.polygons import find_lakes
from xglof.lakes.tracking import track

BOTH = box(0, 0, 20, 10)
SMALL, PIECE = box(0, 0, 3, 9), box(5, 4, 9, 10)  # of LAKE: 2,700 m2 and 2,400 m2


def hidden(*rows, name="touches_unobserved"):
    return {name: np.array(rows, bool)}


@pytest.mark.parametrize("column", ["touches_unobserved", "touches_edge"])
def test_parts_of_a_lake_under_cloud_are_that_lake(column):
    tracked = track(frame([LAKE], [LEFT, RIGHT], [LAKE], **{column: [False, True, True, False]}))
    assert told(tracked) == [("A", "new", ""), ("A", "", ""), ("A", "", ""), ("A", "", "")]


def test_a_cloud_does_not_shrink_the_outline_that_later_dates_are_compared_with():
    corner, far = box(0, 0, 2, 2), box(7, 7, 10, 10)
    hidden = [False, True, False, False]
    assert told(track(frame([LAKE], [corner], [corner, far], touches_unobserved=hidden)))[2:] == [
        ("B", "split", "A"), ("A", "split", ""),
    ]  # fmt: skip
    assert told(track(frame([LAKE], [corner], [corner, far])))[2:] == [
        ("A", "split", ""), ("B", "split", "A"),
    ]  # fmt: skip


def test_held_lakes_stay_held_while_a_cloud_hides_the_rest():
    both, hidden = box(0, 0, 20, 10), [False, False, False, True, False]
    tracked = track(frame([LAKE, EAST_LAKE], [both], [EAST_LAKE], [both], touches_unobserved=hidden))
    assert told(tracked)[2:] == [("A", "merge", "A B"), ("A", "", ""), ("A", "", "")]


def test_a_partial_polygon_over_two_lakes_has_merged_them():
    tracked = track(frame([LAKE, EAST_LAKE], [box(5, 0, 16, 10)], touches_edge=[False, False, True]))
    assert told(tracked)[2] == ("A", "merge", "A B")


@pytest.mark.parametrize("where", ["edge", "layover"])
def test_lakes_of_which_one_is_always_cut_off_part_again_after_a_false_merge(where):
    values = empty(5)
    left = 0 if where == "edge" else 10
    values[:, 10:20, left : left + 10] = values[:, 10:20, left + 12 : left + 20] = 1
    values[2, 15, left + 10 : left + 12] = 1
    if where == "layover":
        values[:, 9, 10:12] = 255
    tracked = track(find_lakes(lake_map(values)))
    partial = tracked["touches_edge"] | tracked["touches_unobserved"]
    assert partial.groupby(tracked["lake_id"]).all().tolist() == [True, False]
    assert told(tracked)[4:] == [
        ("A", "merge", "A B"), ("A", "split", ""), ("B", "split", "A"), ("A", "", ""), ("B", "", ""),
    ]  # fmt: skip


def test_a_lake_that_is_always_cut_off_can_split_and_what_left_is_no_part_of_it():
    cut = hidden(1, 1, 0, 0, 1, 0, 1, name="touches_edge")
    tracked = track(frame([LAKE], [LEFT, RIGHT], [RIGHT], [LEFT, RIGHT], [LAKE], **cut))
    assert told(tracked)[1:] == [
        ("A", "split", ""), ("B", "split", "A"), ("B", "", ""), ("A", "", ""), ("B", "", ""),
        ("A", "merge", "A B"),
    ]  # fmt: skip


def test_lakes_cut_off_by_different_things_do_not_join():
    cut = hidden(0, 1, 0, name="touches_unobserved") | hidden(0, 0, 1, name="touches_edge")
    assert told(track(frame([LAKE], [LEFT, RIGHT], **cut)))[1:] == [("A", "split", ""), ("B", "split", "A")]


def test_a_whole_island_of_water_between_two_cut_parts_is_a_lake_of_its_own():
    west, middle, east = box(0, 0, 3, 10), box(4, 4, 6, 6), box(7, 0, 10, 10)
    cut = hidden(0, 1, 0, 1, 0, 1, 1)
    assert told(track(frame([LAKE], [west, middle, east], [LAKE], [west, east], **cut))) == [
        ("A", "new", ""),
        ("A", "split", ""), ("B", "split", "A"), ("A", "split", ""),
        ("A", "merge", "A B"),
        ("A", "", ""), ("A", "", ""),
    ]  # fmt: skip


def test_flicker_of_a_lake_that_is_cut_off_gives_two_ids():
    cut = hidden(1, *[1, 0, 1] * 4)
    tracked = track(frame([LAKE], *[[LEFT, RIGHT], [LAKE]] * 4, **cut))
    assert tracked["lake_id"].nunique() == 2
    assert tracked["event"].tolist() == ["new", *["split", "split", "merge"] * 4]


def test_a_held_lake_seen_whole_is_free_and_the_cut_one_stays():
    third = box(22, 0, 26, 10)
    cut = hidden(0, 0, 0, 0, 1, 0)
    tracked = track(frame([LAKE, EAST_LAKE, third], [box(0, 0, 26, 10)], [EAST_LAKE, third], **cut))
    # what is seen of EAST_LAKE may go on under the cloud to LAKE
    assert told(tracked)[3:] == [("A", "merge", "A B C"), ("A", "split", ""), ("C", "split", "A")]
    cut = hidden(0, 0, 0, 0, 0, 1)
    tracked = track(frame([LAKE, EAST_LAKE, third], [box(0, 0, 26, 10)], [LAKE, EAST_LAKE], **cut))
    assert told(tracked)[4:] == [("A", "split", ""), ("B", "split", "A")]


def test_a_piece_of_a_shrunken_lake_elsewhere_is_that_lake():
    tracked = track(frame([LAKE], [SMALL], [PIECE], [LAKE], **hidden(0, 0, 1, 0)))
    assert told(tracked) == [("A", "new", ""), ("A", "", ""), ("A", "", ""), ("A", "", "")]
    # where it was last is not forgotten for that
    again = track(frame([LAKE], [SMALL], [PIECE], [SMALL, box(50, 50, 60, 60)]))
    assert told(again)[2:] == [("A", "", ""), ("A", "", ""), ("B", "new", "")]


@pytest.mark.parametrize(
    ("cut", "events"),
    [
        ((0, 0), [("B", "split", "A"), ("A", "split", "")]),
        ((1, 0), [("B", "split", "A"), ("A", "split", "")]),
        ((1, 1), [("A", "", ""), ("A", "", "")]),
    ],
)
def test_a_piece_beside_the_shrunken_lake_split_off_unless_both_are_cut_off(cut, events):
    large = box(4, 0, 10, 10)  # it shares more with the lake of old than the lake's last outline
    tracked = track(frame([LAKE], [SMALL], [large, SMALL], **hidden(0, 0, *cut)))
    assert told(tracked)[2:] == events


def test_a_piece_where_a_part_was_is_of_that_part():
    east = box(12, 0, 20, 10)
    tracked = track(frame([BOTH], [LAKE, east], [LAKE, box(12, 0, 14, 2)], [LAKE, box(17, 7, 20, 10)]))
    assert told(tracked)[-2:] == [("A", "", ""), ("B", "", "")]


def test_the_place_of_lakes_that_were_joined_for_one_date_is_not_theirs():
    false = box(0, 0, 60, 10)
    tracked = track(frame([LAKE, EAST_LAKE], [false], [LAKE, EAST_LAKE], [box(50, 2, 54, 6)]))
    assert told(tracked)[-1] == ("C", "new", "")


def test_the_heir_of_a_merge_is_the_lake_that_was_largest():
    newcomer = box(4, 10, 14, 18)  # beside what LAKE was, larger than what it is
    tracked = track(frame([LAKE], [SMALL], [SMALL, newcomer], [box(0, 0, 14, 18)]))
    assert told(tracked)[2:] == [("A", "", ""), ("B", "new", ""), ("A", "merge", "A B")]


def test_of_lakes_as_large_the_older_is_the_heir():
    east = box(11, 0, 21, 10)
    tracked = track(frame([east], [east, LAKE], [box(0, 0, 21, 10)]))
    assert told(tracked)[-1] == ("A", "merge", "A B")
    known = track(frame([east], [east, LAKE]))
    added = track(frame([box(0, 0, 21, 10)], first=2023), known=known.iloc[::-1])
    assert added["lake_id"].tolist() == known["lake_id"].iloc[:1].tolist()


@pytest.mark.parametrize("years", [1, 2, 3, 4])
def test_pieces_and_parts_can_be_appended(years):
    lakes = frame([LAKE], [SMALL], [PIECE], [SMALL, PIECE], [BOTH], **hidden(0, 0, 1, 1, 0, 1))
    early = lakes["time"].dt.year < 2021 + years
    known = track(lakes[early])
    names = ["lake_id", "event", "parents"]
    assert track(lakes)[names].equals(pd.concat([known, track(lakes[~early], known=known)])[names])
