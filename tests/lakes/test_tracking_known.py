"""Appending: what is known stays as it is, and new dates, later or earlier, are linked with it."""

from __future__ import annotations

import geopandas
import numpy as np
import pandas as pd
import pytest

from lake_rows import EAST_LAKE, HISTORY, LAKE, LEFT, RIGHT, box, frame, told
from xglof.errors import CubeError
from xglof.lakes.tracking import track

NAMES = ["lake_id", "event", "parents"]


def appended(known, more):
    return pd.concat([known, track(more, known=known)], ignore_index=True)


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("years", [1, 2, 3])
def test_later_dates_get_what_they_would_have_got_at_once(years, hidden):
    lakes = frame(*HISTORY, touches_edge=[hidden and row % 3 == 0 for row in range(13)])
    early = lakes["time"].dt.year < 2021 + years
    known = track(lakes[early])
    assert track(lakes)[NAMES].equals(pd.concat([known, track(lakes[~early], known=known)])[NAMES])


def test_known_rows_in_any_order_and_crs_give_the_same():
    lakes = frame(*HISTORY)
    early = lakes["time"].dt.year < 2023
    known = track(lakes[early])
    turned = known.sample(frac=1, random_state=3).to_crs("EPSG:6933")
    assert track(lakes[~early], known=turned)[NAMES].equals(track(lakes[~early], known=known)[NAMES])


def test_an_earlier_date_is_linked_with_the_first_sight_of_known_lakes():
    known = track(frame([LAKE, EAST_LAKE], first=2021))
    tracked = appended(known, frame([box(2, 2, 8, 8), box(40, 0, 44, 4)], first=2019))
    assert tracked["lake_id"][2] == known["lake_id"][0]
    assert tracked["event"].tolist() == ["new", "new", "", "new"]
    assert tracked["lake_id"].nunique() == 3


def test_before_a_known_split_the_parts_are_one_lake():
    known = track(frame([LAKE], [LEFT, RIGHT], first=2021))
    tracked = track(frame([LAKE], first=2019), known=known)
    assert tracked[NAMES].to_numpy().tolist() == [[known["lake_id"][0], "", ""]]
    parts = track(frame([box(0, 0, 4, 10), box(7, 0, 10, 10)], first=2019), known=known)
    assert parts["lake_id"].tolist() == known["lake_id"].iloc[1:].tolist()
    assert parts["event"].tolist() == ["split", "split"]


def test_a_date_between_known_ones_sees_those_before_and_after():
    known = track(frame([LAKE], [], [LAKE, EAST_LAKE]))
    between = track(frame([LAKE, EAST_LAKE], first=2022), known=known)
    assert between["lake_id"].tolist() == known["lake_id"].iloc[1:].tolist()


def test_a_lake_absorbed_before_its_first_known_sight_comes_back_under_its_id():
    known = track(frame([LAKE, EAST_LAKE], first=2021))
    tracked = appended(known, frame([box(0, 0, 20, 10)], first=2020))
    small, large = known["lake_id"]
    area = [known.geometry[place].area for place in (0, 1)]
    assert area[0] > area[1]
    assert tracked[NAMES].iloc[2].tolist() == [small, "merge", f"{small} {large}"]
    later = track(frame([LAKE, EAST_LAKE], first=2022), known=tracked)
    assert later["lake_id"].tolist() == known["lake_id"].tolist()
    assert later["event"].tolist() == ["", ""]


def test_new_ids_never_meet_known_ones():
    ponds = [box(0, 3, 1, 4), box(0, 0, 1, 1)]
    known = track(frame(ponds))
    name = known["lake_id"][0]
    assert known["lake_id"][1] == f"{name}-2"
    gone = known.iloc[1:]  # the name without a suffix is free again, the other is not
    assert track(frame([box(3, 3, 4, 4), box(3, 0, 4, 1)], first=2022), known=gone)["lake_id"].tolist() == [
        name,
        f"{name}-3",
    ]


def test_an_inventory_with_ids_of_its_own_and_no_dates_is_taken_as_it_stands():
    inventory = geopandas.GeoDataFrame({"lake_id": ["Imja"]}, geometry=[LAKE], crs="EPSG:32645")
    tracked = track(frame([LEFT, RIGHT]), known=inventory)
    assert tracked["lake_id"][0] == "Imja"
    assert tracked["parents"][1] == "Imja"
    again = appended(pd.concat([inventory, tracked], ignore_index=True), frame([LAKE], first=2030))
    assert told(again.iloc[1:].fillna(""))[-1] == ("A", "merge", "A B")


def test_ids_that_are_numbers_are_known_as_text():
    known = track(frame([LAKE])).assign(lake_id=7)
    assert track(frame([LEFT, RIGHT], first=2022), known=known)[NAMES[:2]].iloc[0].tolist() == ["7", "split"]


def test_what_was_stored_with_time_zones_and_text_is_known():
    known = track(frame([LAKE]))
    stored = known.assign(time=known["time"].dt.tz_localize("UTC"), event=known["event"].astype("string"))
    assert track(frame([LAKE], first=2022), known=stored)["event"].tolist() == [""]
    with pytest.raises(CubeError, match="are in known too"):
        track(frame([LAKE]), known=stored)


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (track(frame([LAKE])).drop(columns="lake_id"), "no column 'lake_id'"),
        (track(frame([LAKE])).assign(lake_id=""), "no lake_id"),
        (track(frame([LAKE])).assign(lake_id=np.nan), "no lake_id"),
        (track(frame([LAKE])), r"2021-08-01T00:00:00\); to map these dates anew"),
        (track(frame([LAKE])).set_crs(None, allow_override=True), "no CRS"),
    ],
)
def test_bad_known_rows_are_refused(known, words):
    with pytest.raises(CubeError, match=words):
        track(frame([LAKE], first=2021), known=known)


def test_parents_that_lead_in_a_circle_are_refused():
    known = track(frame([LAKE, EAST_LAKE], first=2021))
    known = known.assign(event="split", parents=known["lake_id"].to_numpy()[::-1])
    with pytest.raises(CubeError, match="circle"):
        track(frame([LAKE], first=2020), known=known)


def test_polygons_without_a_date_cannot_be_appended():
    bare = geopandas.GeoDataFrame(geometry=[LAKE], crs="EPSG:32645")
    with pytest.raises(CubeError, match="in order with those of known"):
        track(bare, known=track(frame([LAKE])))
