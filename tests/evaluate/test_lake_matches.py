from __future__ import annotations

from itertools import permutations

import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from xglof.errors import CubeError
from xglof.evaluate import match_lakes

CRS = "EPSG:32645"


def lakes(*boxes, **columns):
    """Lakes of (west, south, east, north), metres."""
    shapes = [shapely.box(*box) for box in boxes]
    return geopandas.GeoDataFrame(columns, geometry=shapes, crs=CRS)


def outcomes(table):
    return sorted(zip(table["outcome"], table["mapped_row"], table["true_row"], strict=True))


def test_a_lake_in_two_parts_is_found_once():
    true = lakes((0, 0, 300, 100))
    mapped = lakes((0, 0, 200, 100), (210, 0, 300, 100))
    table = match_lakes(mapped, true)
    assert outcomes(table) == [("false", 1, -1), ("found", 0, 0)]
    part = table[table["outcome"] == "false"].iloc[0]
    assert part["covered"] == 1
    assert part["mapped_counts"]
    assert not part["true_counts"]


def test_two_lakes_mapped_as_one_are_found_once_at_most():
    true = lakes((0, 0, 300, 100), (310, 0, 410, 100))
    one = match_lakes(lakes((0, 0, 410, 100)), true)
    assert outcomes(one) == [("found", 0, 0), ("missed", -1, 1)]
    assert one["covered"].iloc[1] == 1
    alike = lakes((0, 0, 200, 100), (210, 0, 410, 100))
    none = match_lakes(lakes((0, 0, 410, 100)), alike, min_iou=0.6)
    assert outcomes(none) == [("false", 0, -1), ("missed", -1, 0), ("missed", -1, 1)]


def test_halves_of_exactly_half_are_found_once():
    table = match_lakes(lakes((0, 0, 50, 100), (50, 0, 100, 100)), lakes((0, 0, 100, 100)))
    assert [kind for kind, *_ in outcomes(table)] == ["false", "found"]
    assert table["iou"].iloc[0] == 0.5


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_the_pairing_is_the_best_of_all(data):
    """Strips along a line: every one-to-one pairing is tried."""
    ends = st.lists(st.integers(1, 30), min_size=2, max_size=8, unique=True).map(sorted)
    tables = []
    for _ in range(2):
        cuts = data.draw(ends)
        tables.append(lakes(*((a, 0, b, 1) for a, b in zip(cuts[::2], cuts[1::2], strict=False))))
    least = data.draw(st.sampled_from([0.05, 0.3, 0.5, 0.8]))
    mapped, true = tables
    iou = np.array(
        [[a.intersection(b).area / a.union(b).area for b in true.geometry] for a in mapped.geometry]
    )
    iou[iou < least] = 0
    few, many = sorted(iou.shape)
    square = iou if iou.shape[0] == few else iou.T
    best = max(square[np.arange(few), list(each)].sum() for each in permutations(range(many), few))
    found = match_lakes(mapped, true, min_iou=least)
    pairs = found[found["outcome"] == "found"]
    assert pairs["iou"].sum() == pytest.approx(best)
    assert (pairs["iou"] >= least).all()
    for name, table in (("mapped_row", mapped), ("true_row", true)):
        rows = found.loc[found[name] >= 0, name]
        assert sorted(rows) == list(range(len(table)))
    mixed = match_lakes(mapped.iloc[::-1], true.iloc[::-1], min_iou=least)
    assert mixed["iou"].sum() == pytest.approx(found["iou"].sum())


def test_lakes_of_other_dates_do_not_match():
    days = np.array(["2023-07-01", "2023-08-01"], "datetime64[ns]")
    mapped = lakes((0, 0, 100, 100), time=days[:1])
    true = lakes((0, 0, 100, 100), (0, 0, 100, 100), time=days)
    table = match_lakes(mapped, true)
    assert outcomes(table) == [("found", 0, 0), ("missed", -1, 1)]
    assert table["time"].tolist() == true["time"].tolist()
    with pytest.raises(CubeError, match="only one of the tables has a time"):
        match_lakes(mapped, true.drop(columns="time"))


def test_partly_seen_and_small_lakes_match_and_count_nowhere():
    true = lakes(
        (0, 0, 100, 100), (200, 0, 300, 100), (400, 0, 420, 20), touches_unobserved=[True, True, False]
    )
    mapped = lakes((0, 0, 100, 100), (200, 0, 220, 100), (230, 0, 250, 20), (600, 0, 700, 100))
    mapped["touches_edge"] = [False, False, False, True]
    table = match_lakes(mapped, true, min_area=500)
    assert table["outcome"].value_counts().to_dict() == {"false": 3, "missed": 2, "found": 1}
    assert not table["true_counts"].any()
    assert not table["mapped_counts"].any()
    counted = match_lakes(mapped, true, partial="count")
    assert counted["true_counts"].sum() == 3
    assert counted["mapped_counts"].sum() == 4


def test_a_whole_lake_counts_though_its_partner_is_cut():
    table = match_lakes(lakes((0, 0, 100, 100), touches_unobserved=[True]), lakes((0, 0, 100, 90)))
    assert (table["true_counts"].item(), table["mapped_counts"].item()) == (True, False)


def test_areas_are_geodesic_and_any_crs_will_do():
    true = lakes((497_000, 3_080_000, 497_100, 3_080_100))
    table = match_lakes(true, true.to_crs("EPSG:4326"))
    assert table["iou"].item() == pytest.approx(1, abs=1e-6)
    assert table["area_m2"].item() == pytest.approx(table["true_area_m2"].item(), rel=1e-6)
    assert table["area_m2"].item() == pytest.approx(10_000 / 0.9996**2, rel=1e-5)
    stated = match_lakes(true.assign(area_m2=[5.0], area_sigma_m2=[2.0]), true)
    assert (stated["area_m2"].item(), stated["area_sigma_m2"].item()) == (5.0, 2.0)


def test_no_lakes_are_no_rows():
    none, one = lakes(), lakes((0, 0, 100, 100))
    assert len(match_lakes(none, none)) == 0
    assert outcomes(match_lakes(none, one)) == [("missed", -1, 0)]
    assert outcomes(match_lakes(one, none)) == [("false", 0, -1)]


def test_no_lakes_at_any_date_have_the_dates_of_the_other_table():
    days = np.array(["2023-07-01", "2023-08-01"], "datetime64[ns]")
    dated, none = lakes((0, 0, 100, 100), (0, 0, 100, 100), time=days), lakes(time=days[:0])
    missed, false = match_lakes(none, dated), match_lakes(dated, none)
    assert outcomes(missed) == [("missed", -1, 0), ("missed", -1, 1)]
    assert outcomes(false) == [("false", 0, -1), ("false", 1, -1)]
    assert missed["time"].tolist() == false["time"].tolist() == dated["time"].tolist()
    assert len(match_lakes(none, lakes())) == 0


def test_bad_input_is_refused():
    one = lakes((0, 0, 100, 100))
    with pytest.raises(CubeError, match="true lakes have no CRS"):
        match_lakes(one, one.set_crs(None, allow_override=True))
    for options in ({"min_iou": 0}, {"min_iou": 1.1}, {"min_area": -1}, {"partial": "drop"}):
        with pytest.raises(CubeError, match="expected a share above 0"):
            match_lakes(one, one, **options)
