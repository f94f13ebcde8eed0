"""Promises of tracking as properties: ids know no order, no CRS and no later date."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from lake_rows import box, frame
from xglof.lakes.lineage import holders
from xglof.lakes.tracking import track

NAMES = ["lake_id", "event", "parents"]
corner = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(1, 6), st.integers(1, 6))
dates = st.lists(st.lists(corner, max_size=5), min_size=1, max_size=5)
relaxed = settings(max_examples=60, deadline=None)


def lakes_of(drawn, hidden=0):
    shapes = [[box(x, y, x + width, y + height) for x, y, width, height in date] for date in drawn]
    count = sum(map(len, shapes))
    partial = np.random.default_rng(hidden).random(count) < 0.3 if hidden else np.zeros(count, bool)
    return frame(*shapes, touches_unobserved=partial)


def names(tracked):
    return tracked.sort_index()[NAMES].to_numpy().tolist()


@given(dates, st.integers(0, 9), st.randoms(use_true_random=False))
@relaxed
def test_the_order_of_rows_and_the_crs_change_nothing(drawn, hidden, random):
    lakes = lakes_of(drawn, hidden).drop_duplicates(["time", "geometry"])
    order = list(lakes.index)
    random.shuffle(order)
    assert names(track(lakes.loc[order].to_crs("EPSG:4326"))) == names(track(lakes))


@given(dates, st.integers(0, 9), st.integers(1, 4))
@relaxed
def test_later_dates_change_nothing_and_can_be_appended(drawn, hidden, years):
    lakes = lakes_of(drawn, hidden)
    early = lakes["time"].dt.year < 2021 + years
    whole, known = track(lakes), track(lakes[early])
    assert names(whole[early]) == names(known)
    assert names(whole[~early]) == names(track(lakes[~early], known=known))


@given(dates, dates)
@relaxed
def test_earlier_dates_add_to_what_is_known(drawn, before):
    known = track(lakes_of(drawn))
    years = pd.DateOffset(years=10)
    more = lakes_of(before)
    added = track(more.assign(time=more["time"] - years), known=known)
    fresh = set(added.loc[added["event"] == "new", "lake_id"])
    assert not fresh & set(known["lake_id"])
    splits = added.loc[(added["event"] == "split") & (added["parents"] != ""), "parents"]
    assert set(splits) <= {*added["lake_id"], *known["lake_id"]}


@given(dates, st.integers(0, 9))
@relaxed
def test_every_lake_is_held_by_one_that_is_seen_last(drawn, hidden):
    tracked = track(lakes_of(drawn, hidden))
    ids = list(dict.fromkeys(tracked["lake_id"]))
    times = np.unique(tracked["time"])
    held = holders(tracked, ids, times)
    for column, date in enumerate(times):
        for name in tracked.loc[tracked["time"] == date, "lake_id"]:
            assert ids[held[ids.index(name), column]] == name  # what is seen is its own
        last = held[:, column]
        assert (last[last] == last).all()  # followed to the end


@given(dates)
@relaxed
def test_full_views_give_each_polygon_a_lake_of_its_own(drawn):
    tracked = track(lakes_of(drawn))
    assert not tracked.duplicated(["time", "lake_id"]).any()
    first = tracked.sort_values("time", kind="stable").drop_duplicates("lake_id")
    assert set(first["event"]) <= {"new", "split"}
    for row in tracked.itertuples():
        assert (row.event == "merge") == (len(row.parents.split()) > 1)
        if row.event == "merge":
            assert row.parents.split()[0] == row.lake_id
