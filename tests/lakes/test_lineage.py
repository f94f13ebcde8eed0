from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from lake_rows import EAST_LAKE, HISTORY, LAKE, LEFT, RIGHT, box, frame
from xglof.errors import CubeError
from xglof.lakes.lineage import holders, lineage
from xglof.lakes.tracking import track

YEARS = np.array([f"{year}-08-01" for year in range(2021, 2027)], "datetime64[ns]")


def rows(*given):
    """Table of (year, lake, event, parents)."""
    table = pd.DataFrame(given, columns=["time", "lake_id", "event", "parents"])
    return table.assign(time=pd.to_datetime([f"{year}-08-01" for year in table["time"]]))


def slow_holders(table, ids, times):
    """Oracle: walk the rows up to a date, lake by lake."""
    found = np.empty((len(ids), len(times)), int)
    for column, date in enumerate(times):
        for place, name in enumerate(ids):
            while True:
                holder, first, when = name, None, None
                for row in table.sort_values("time", kind="stable").itertuples():
                    if row.lake_id == name and first is None:
                        first = row
                    if row.time > date:
                        continue
                    if row.lake_id == name:
                        holder, when = name, row.time
                    elif row.event == "merge" and name in row.parents.split() and row.time != when:
                        holder, when = row.lake_id, row.time
                if when is None and first.event == "split" and first.parents:
                    holder = first.parents.split()[0]
                if holder == name:
                    break
                name = holder
            found[place, column] = ids.index(name)
    return found


def test_a_part_is_held_by_its_parent_before_it_splits_off():
    table = rows((2021, "A", "new", ""), (2023, "A", "split", ""), (2023, "B", "split", "A"))
    assert holders(table, ["A", "B"], YEARS[:4]).tolist() == [[0] * 4, [0, 0, 1, 1]]


def test_a_merged_lake_is_held_until_it_is_seen_alone_again():
    table = rows(
        (2021, "A", "new", ""), (2021, "B", "new", ""),
        (2022, "A", "merge", "A B"),
        (2024, "B", "split", "A"),
    )  # fmt: skip
    assert holders(table, ["B", "A"], YEARS).tolist() == [[0, 1, 1, 0, 0, 0], [1] * 6]


def test_a_chain_of_holders_is_followed_to_the_end():
    table = rows(
        (2021, "A", "new", ""), (2021, "B", "new", ""), (2021, "C", "new", ""),
        (2022, "B", "merge", "B C"), (2022, "A", "", ""),
        (2023, "A", "merge", "A B"),
        (2024, "C", "split", "A"), (2024, "A", "split", ""),
    )  # fmt: skip
    assert holders(table, list("ABC"), YEARS).T.tolist() == [
        [0, 1, 2], [0, 1, 1], [0, 0, 0], [0, 0, 2], [0, 0, 2], [0, 0, 2],
    ]  # fmt: skip


def test_a_lake_whose_part_joined_another_holds_itself():
    table = rows(
        (2021, "A", "new", ""), (2021, "B", "new", ""), (2022, "A", "split", ""), (2022, "B", "merge", "B A")
    )
    assert holders(table, ["A", "B"], YEARS[:3]).tolist() == [[0, 0, 0], [1, 1, 1]]


def test_times_between_before_after_and_in_any_order():
    table = rows((2022, "A", "new", ""), (2022, "B", "new", ""), (2024, "A", "merge", "A B"))
    times = np.array(["2030-01-01", "2000-01-01", "2024-07-31", "2024-08-01"], "datetime64[D]")
    assert holders(table, ["A", "B"], times)[1].tolist() == [0, 1, 1, 0]
    assert holders(table, ["A", "B"], times[:0]).shape == (2, 0)


@pytest.mark.parametrize("split_of_history", [HISTORY, HISTORY[::-1], (HISTORY[1], *HISTORY)])
def test_holders_of_tracked_lakes_are_those_of_a_walk_through_the_rows(split_of_history):
    tracked = track(frame(*split_of_history))
    ids = sorted(set(tracked["lake_id"]))
    shuffled = tracked.sample(frac=1, random_state=2)
    found = holders(shuffled, ids, YEARS)
    assert found.dtype == np.int32
    assert np.array_equal(found, slow_holders(tracked, ids, YEARS))


def test_without_events_every_lake_holds_itself():
    bare = pd.DataFrame({"lake_id": ["A", "B"]})
    assert holders(bare, ["B", "A"], YEARS[:2]).tolist() == [[0, 0], [1, 1]]
    assert holders(bare, ["B", "A"], [np.datetime64("NaT", "ns")]).tolist() == [[0], [1]]
    dated = frame([LAKE, EAST_LAKE], [LAKE]).assign(lake_id=["A", "B", "A"])
    assert holders(dated, ["A", "B"], YEARS[:2]).tolist() == [[0, 0], [1, 1]]


def test_a_holder_that_was_left_out_is_minus_one():
    table = rows((2021, "A", "new", ""), (2021, "B", "new", ""), (2022, "A", "merge", "A B"))
    assert holders(table, ["B"], YEARS[:2]).tolist() == [[0, -1]]


@pytest.mark.parametrize(
    ("table", "ids", "words"),
    [
        (pd.DataFrame({"time": YEARS}), [], "no column 'lake_id'"),
        (rows((2021, "A", "new", "")), ["A", "Z"], "1 of 2 lakes are not among the polygons, as Z"),
        (rows((2021, "A", "new", "")), ["A", "A"], "twice"),
        (rows((2022, "A", "split", "B"), (2022, "B", "split", "A")), ["A"], "circle"),
    ],
)
def test_tables_that_say_nothing_of_the_ids_are_refused(table, ids, words):
    with pytest.raises(CubeError, match=words):
        holders(table, ids, YEARS[:1])


def series(*values, quality=None, part_of=None):
    dims = ("lake", "time")
    found = xr.Dataset({"area": (dims, np.array(values, float))})
    found = found.assign_coords(lake=list("AB")[: len(values)], time=YEARS[: len(values[0])])
    if quality is not None:
        flags = {
            "flag_masks": np.array([1, 2, 16, 32], "uint16"),
            "flag_meanings": "suspect outlier provisional held",
        }
        found["quality"] = (dims, np.array(quality, "uint16"), flags)
    if part_of is not None:
        found["part_of"] = (dims, np.array(part_of, "int32"))
    return found


FIRST = rows((2021, "A", "new", ""), (2021, "B", "new", ""))


def absences(found):
    table = lineage(FIRST, found)
    table = table[table["event"] != "new"]
    return list(zip(table["time"].dt.year, table["lake_id"], table["event"], strict=True))


def test_lakes_vanish_where_they_were_observed_empty_and_return():
    nan = np.nan
    found = series([5, nan, 0, 0, nan, 3], [0, 0, 4, nan, 0, nan])
    assert absences(found) == [(2023, "A", "vanish"), (2025, "B", "vanish"), (2026, "A", "return")]


def test_doubtful_dates_tell_of_no_absence():
    found = series([5, 0, 0, 0, 3, 3], quality=[[0, 2, 16, 1, 16, 0]])
    assert absences(found) == [(2024, "A", "vanish"), (2026, "A", "return")]


def test_a_lake_held_by_another_is_neither_gone_nor_back():
    found = series([5, 0, 7, 0, 0, 2], [9] * 6, part_of=[[0, 1, 1, 0, 0, 0], [1] * 6])
    assert absences(found) == [(2024, "A", "vanish"), (2026, "A", "return")]


def test_absences_do_not_depend_on_chunks_or_order():
    found = series([5, 0, 1, 0, 3, 0], [0, 1, 0, 1, 1, 1])
    turned = found.isel(time=[3, 1, 0, 5, 4, 2]).transpose().chunk(time=2)
    pd.testing.assert_frame_equal(lineage(FIRST, turned), lineage(FIRST, found))


def test_the_table_is_sorted_and_has_a_row_an_event():
    tracked = track(frame([LAKE], [LEFT, RIGHT], [LAKE], touches_edge=[False] * 4))
    table = lineage(tracked.iloc[::-1])
    a, b = tracked["lake_id"][0], tracked["lake_id"][2]
    assert table[["lake_id", "event", "parents"]].to_numpy().tolist() == [
        [a, "new", ""], *sorted([[a, "split", ""], [b, "split", a]]), [a, "merge", f"{a} {b}"],
    ]  # fmt: skip
    assert table["time"].is_monotonic_increasing
    assert table.index.tolist() == [0, 1, 2, 3]
    assert table["certain"].dtype == bool
    assert table["certain"].all()


def test_a_merge_of_a_lake_in_parts_is_one_row():
    both = [box(0, 0, 16, 10), box(17, 0, 20, 10)]
    tracked = track(frame([LAKE, EAST_LAKE], both, touches_unobserved=[False, False, True, True]))
    assert tracked["event"].tolist() == ["new", "new", "merge", "merge"]
    assert lineage(tracked)["event"].tolist() == ["new", "new", "merge"]


@pytest.mark.parametrize(
    ("hidden", "certain"),
    [
        ([0, 0, 0], [True, True, True]),
        ([1, 1, 0], [False, False, False]),  # pieces of one lake at their first sight, for all that is known
        ([1, 0, 0], [False, True, True]),  # one has land all around it
        ([0, 0, 1], [True, True, True]),  # the water between is seen
    ],
)
def test_a_merge_of_lakes_that_were_never_seen_whole_is_not_certain(hidden, certain):
    lakes = frame([LAKE, EAST_LAKE], [box(0, 0, 20, 10)], touches_unobserved=np.array(hidden, bool))
    tracked = track(lakes)
    assert tracked["event"].tolist() == ["new", "new", "merge"]
    table = lineage(tracked)
    assert table.set_index(["time", "lake_id"])["certain"].loc[
        list(zip(tracked["time"], tracked["lake_id"], strict=True))
    ].tolist() == certain  # fmt: skip


def test_a_whole_view_before_makes_a_merge_certain():
    both = box(0, 0, 20, 10)
    hidden = np.array([1, 1, 0, 1, 0], bool)
    lakes = frame([LAKE, EAST_LAKE], [LAKE, EAST_LAKE], [both], touches_edge=hidden)
    assert lineage(track(lakes))["certain"].tolist() == [False, False, True]


def test_a_split_of_which_two_parts_are_cut_off_is_not_certain():
    both = rows((2021, "A", "new", ""), (2022, "A", "split", ""), (2022, "B", "split", "A"))
    one = both.assign(touches_edge=[False, True, False], touches_unobserved=False)
    assert lineage(one)["certain"].all()
    two = one.assign(touches_unobserved=[False, False, True])
    assert lineage(two)["certain"].tolist() == [True, False, False]


def test_ids_are_compared_as_text():
    numbers = FIRST.assign(lake_id=[7, 8])
    assert holders(numbers, [8, 7], YEARS[:1]).tolist() == [[0], [1]]
    assert holders(numbers, ["8", "7"], YEARS[:1]).tolist() == [[0], [1]]
    found = series([5, 0], [1, 1]).assign_coords(lake=[7, 8])
    assert lineage(numbers, found)["lake_id"].tolist() == ["7", "8", "7"]


def test_series_without_time_or_areas():
    assert len(lineage(FIRST, series([5, 0]).isel(time=0))) == 2
    with pytest.raises(CubeError, match="expected 'area'"):
        lineage(FIRST, xr.Dataset({"other": 1}))
