"""A review by hand survives a new run, and what finds no lake is handed back."""

from __future__ import annotations

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely

from xglof.errors import CubeError
from xglof.lakes.export import write_lakes
from xglof.lakes.review import keep_review
from xglof.lakes.tracking import track


def table(ids, **columns):
    times = pd.date_range("2023-07-01", periods=len(ids), freq="10D")
    shapes = [shapely.box(500_000, 3e6, 500_010, 3_000_010)] * len(ids)
    return geopandas.GeoDataFrame(
        {"lake_id": list(ids), "time": times, **columns}, geometry=shapes, crs="EPSG:32645"
    )


def test_a_review_of_a_lake_holds_at_all_its_dates_and_leaves_others_empty():
    old = table("aab", name=["", "Imja", ""], verified=[False, True, False], comment=["", "", "calving"])
    lakes, orphans = keep_review(table("abac", area_m2=[1.0, 2.0, 3.0, 4.0]), old)
    assert lakes["name"].tolist() == ["Imja", "", "Imja", ""]
    assert lakes["verified"].tolist() == [True, False, True, False]
    assert lakes["verified"].dtype == bool
    assert lakes["comment"].tolist() == ["", "calving", "", ""]
    assert lakes["area_m2"].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert len(orphans) == 0


def test_reviews_without_a_lake_are_handed_back_whole():
    old = table("abc", certainty=["high", "low", ""], depth=[1, 2, 3])
    lakes, orphans = keep_review(table("c"), old)
    assert orphans["lake_id"].tolist() == ["a", "b"]  # c is there, and nobody reviewed it
    pd.testing.assert_frame_equal(orphans, old.iloc[:2])
    assert lakes["certainty"].tolist() == [""]


#: Two ponds in one thousandth of a degree, 60 m apart: the northern one is seen and named first.
NORTH = shapely.box(86.92460, 27.89520, 86.92500, 27.89540)
SOUTH = shapely.box(86.92460, 27.89460, 86.92500, 27.89480)


def seen(*outlines, date="2023-07-01"):
    times = pd.to_datetime([date] * len(outlines))
    return geopandas.GeoDataFrame({"time": times}, geometry=list(outlines), crs="EPSG:4326")


def reviewed_ponds():
    """Both ponds, tracked and reviewed: the ids differ in a suffix only."""
    previous = track(seen(NORTH, SOUTH)).assign(name=["upper", "lower"], verified=[True, False])
    assert previous["lake_id"].tolist() == ["GL086925E27895N", "GL086925E27895N-2"]
    return previous


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32645"])
def test_a_review_does_not_go_to_the_pond_next_to_it(crs):
    new = track(seen(SOUTH).to_crs(crs))  # tracked alone, it gets the id of the other
    assert new["lake_id"].tolist() == ["GL086925E27895N"]
    lakes, orphans = keep_review(new, reviewed_ponds())
    assert lakes["name"].tolist() == [""]
    assert lakes["verified"].tolist() == [False]
    assert orphans["name"].tolist() == ["upper", "lower"]


def test_the_same_pair_keeps_its_reviews_when_the_previous_lakes_are_known():
    previous = reviewed_ponds()
    grown = shapely.buffer(SOUTH, 0.0001, join_style="mitre")
    new = track(seen(grown), known=previous[["lake_id", "geometry"]])
    lakes, orphans = keep_review(new, previous)
    assert lakes["lake_id"].tolist() == ["GL086925E27895N-2"]
    assert lakes["name"].tolist() == ["lower"]
    assert orphans["name"].tolist() == ["upper"]


@pytest.mark.parametrize(("share", "kept"), [(0.24, False), (0.25, True), (0.26, True)])
def test_a_quarter_of_the_smaller_outline_over_all_dates_is_enough(share, kept):
    old = table("ab", name=["Imja", ""])
    far = shapely.box(500_500, 3e6, 500_510, 3_000_010)
    west = 500_010 - 10 * share  # shares so much of the old square, is larger, and was elsewhere once
    new = table("aab").set_geometry(
        [far, shapely.box(west, 3e6, west + 20, 3_000_010), far], crs="EPSG:32645"
    )
    lakes, orphans = keep_review(new, old)
    assert lakes["name"].tolist() == (["Imja", "Imja", ""] if kept else ["", "", ""])
    assert len(orphans) == (not kept)


def test_outlines_that_people_drew_badly_or_not_at_all_are_compared_as_far_as_they_go():
    crossed = shapely.Polygon([(500_000, 3e6), (500_010, 3_000_010), (500_010, 3e6), (500_000, 3_000_010)])
    old = table("abc", name=["x", "y", "z"]).set_geometry(
        [crossed, None, shapely.Polygon()], crs="EPSG:32645"
    )
    lakes, orphans = keep_review(table("abc"), old)
    assert lakes["name"].tolist() == ["x", "y", "z"]  # without outlines the id is all there is
    assert len(orphans) == 0
    with pytest.raises(CubeError, match="the previous table has no CRS"):
        keep_review(table("a"), old.set_crs(None, allow_override=True))


def test_three_hundred_reviewed_lakes_come_through_in_any_order():
    rng = np.random.default_rng(1)
    ids = np.array([f"GL{number:06d}E27000N" for number in range(300)])
    old = table(ids, name=[f"lake {number}" for number in range(300)], verified=[True] * 300)
    shuffled = rng.permutation(np.repeat(ids[20:], 3))
    lakes, orphans = keep_review(table(shuffled), old)
    names = dict(zip(old["lake_id"], old["name"], strict=True))
    assert lakes["name"].tolist() == [names[lake] for lake in shuffled]
    assert sorted(orphans["lake_id"]) == sorted(ids[:20])


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".csv"])
def test_a_review_survives_a_file(tmp_path, suffix):
    old = table(
        "aab", name=["", "Imja", ""], verified=[True, False, False], comment=["", "", "-2 m since June"]
    )
    path = write_lakes(old, tmp_path / f"reviewed{suffix}")
    read = {".gpkg": geopandas.read_file, ".parquet": geopandas.read_parquet, ".csv": pd.read_csv}[suffix]
    lakes, orphans = keep_review(table("ba"), read(path))
    assert lakes["name"].tolist() == ["", "Imja"]
    assert lakes["verified"].tolist() == [False, True]
    assert lakes["comment"].tolist() == ["-2 m since June", ""]
    assert len(orphans) == 0


def test_comments_of_several_dates_are_joined_once():
    old = table("aaa", comment=["calving", "", "level fell"])
    lakes = keep_review(table("aa"), old).lakes
    assert lakes["comment"].tolist() == ["calving | level fell"] * 2
    lakes.loc[0, "comment"] += " | drained"  # written on in one row, and run again
    again = keep_review(table("a"), lakes).lakes
    assert again["comment"].tolist() == ["calving | level fell | drained"]
    assert keep_review(table("a"), again).lakes["comment"].tolist() == again["comment"].tolist()


@pytest.mark.parametrize(
    ("written", "read"),
    [(1, True), (0.0, False), ("True", True), ("no", False), (np.nan, False), (None, False), ("", False)],
)
def test_a_tick_is_read_whatever_a_file_made_of_it(written, read):
    old = table("a", verified=pd.Series([written], dtype=object))
    assert keep_review(table("a"), old).lakes["verified"].tolist() == [read]


def test_what_nobody_can_choose_is_asked_of_the_reviewer():
    with pytest.raises(CubeError, match="lake a has the name 'Imja' and 'Imja Tsho'; write one"):
        keep_review(table("a"), table("aa", name=["Imja", "Imja Tsho"]))
    with pytest.raises(CubeError, match="lake a has the certainty 'low' and 'high'"):
        keep_review(table("a", certainty=["high"]), table("a", certainty=["low"]))
    with pytest.raises(CubeError, match="verified is 'perhaps'"):
        keep_review(table("a"), table("a", verified=["perhaps"]))
    with pytest.raises(CubeError, match="the previous table has no lake_id"):
        keep_review(table("a"), pd.DataFrame({"name": ["x"]}))
