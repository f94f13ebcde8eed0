"""Chips know the lakes they touch."""

from __future__ import annotations

import geopandas
import numpy as np
import pytest
import shapely

from xglof.errors import TrainError
from xglof.train.lake_ids import lakes_at
from xglof.train.splits import lakes_by_row

SQUARES = geopandas.GeoSeries(
    [shapely.box(x, 3_080_000, x + 1000, 3_081_000) for x in (500_000, 501_000, 505_000)], crs="EPSG:32645"
)
LAKES = geopandas.GeoDataFrame(
    {"lake_id": ["b", "a 1", "b", "far"]},
    geometry=[
        shapely.box(500_200, 3_080_200, 500_400, 3_080_400),
        shapely.box(500_900, 3_080_900, 501_100, 3_081_100),
        shapely.box(500_300, 3_080_300, 500_500, 3_080_500),
        shapely.box(600_000, 3_080_000, 600_100, 3_080_100),
    ],
    crs="EPSG:32645",
)


@pytest.mark.parametrize("crs", ["EPSG:32645", "EPSG:4326", "EPSG:32644"])
def test_ids_of_the_lakes_that_squares_touch(crs: str) -> None:
    assert lakes_at(LAKES.to_crs(crs), SQUARES).tolist() == ["a_1 b", "a_1", ""]
    assert lakes_at(LAKES, SQUARES.to_crs("EPSG:4326")).tolist() == ["a_1 b", "a_1", ""]
    named = LAKES.rename(columns={"lake_id": "glims"})
    assert lakes_at(named, SQUARES, names="glims").tolist() == ["a_1 b", "a_1", ""]


def test_lakes_without_ids_are_named_by_their_place() -> None:
    found = lakes_at(LAKES.drop(columns="lake_id"), SQUARES)
    first, second = found[0].split(), found[1].split()
    assert len(first) == 2  # the two polygons that touch are one lake
    assert set(second) < set(first)
    assert found[2] == ""
    assert all(name.startswith("GL0870") and "E278" in name for name in first)
    later = LAKES.assign(geometry=LAKES.buffer(1)).drop(columns="lake_id").iloc[::-1]
    assert lakes_at(later, SQUARES)[0].split() == sorted(first)


def test_a_lake_has_one_name_in_all_cubes() -> None:
    """Polygons in a row, each touching the next: a cube that sees the last one names it as the others do."""
    chain = geopandas.GeoDataFrame(
        geometry=[shapely.box(500_000, 3_080_000 + 600 * n, 500_100, 3_080_600 + 600 * n) for n in range(40)],
        crs="EPSG:32645",
    )
    cubes = [SQUARES.iloc[:1], SQUARES.iloc[:1].translate(0, 12_000), SQUARES.iloc[:1].translate(0, 23_000)]
    found = [lakes_at(chain, cube)[0] for cube in cubes]
    assert found[0] != ""
    assert found == [lakes_at(chain, geopandas.GeoSeries(chain.union_all(), crs=chain.crs))[0]] * 3
    apart = [lakes_at(chain.drop(index=20), cube)[0] for cube in cubes]
    assert apart[0] != apart[2] == found[2]


def test_a_bow_tie_far_from_the_cube_links_as_its_repair_does() -> None:
    tie = shapely.Polygon(
        [(500_050, 3_081_500), (500_150, 3_082_500), (500_150, 3_081_500), (500_050, 3_082_500)]
    )
    near, far = (
        shapely.box(500_000, 3_080_500, 500_060, 3_081_600),
        shapely.box(500_140, 3_082_400, 500_200, 3_083_000),
    )
    frame = geopandas.GeoDataFrame(geometry=[near, tie, far], crs="EPSG:32645")
    assert not tie.is_valid
    whole = lakes_at(frame, SQUARES.iloc[:1])[0]
    assert whole == lakes_at(frame.iloc[2:], SQUARES.iloc[:1].translate(0, 2_000))[0]
    assert whole != lakes_at(frame.iloc[:1], SQUARES.iloc[:1])[0]


def test_lakes_whose_id_is_missing_are_named_by_their_place() -> None:
    placed = lakes_at(LAKES.iloc[[1]].drop(columns="lake_id"), SQUARES)[0]
    for ids in (["b", None, "b", None], ["b", np.nan, "b", ""], ["b", "  ", "b", "x"]):
        assert lakes_at(LAKES.assign(lake_id=ids), SQUARES).tolist() == [f"{placed} b", placed, ""]
    numbers = lakes_at(LAKES.assign(lake_id=[7.0, np.nan, 7.0, np.nan]), SQUARES)
    assert numbers.tolist() == [f"7 {placed}", placed, ""]
    assert lakes_at(LAKES.assign(lake_id=[7, 8, 7, 9]), SQUARES).tolist() == ["7 8", "8", ""]


def test_ids_by_row_are_those_that_were_joined() -> None:
    index = geopandas.GeoDataFrame({"lake_ids": lakes_at(LAKES, SQUARES)})
    named = lakes_by_row(index)
    assert list(zip(named.index, named, strict=True)) == [(0, "a_1"), (0, "b"), (1, "a_1")]


def test_nothing_there_is_no_lake() -> None:
    far = SQUARES.translate(200_000)
    assert lakes_at(LAKES, far).tolist() == ["", "", ""]
    with pytest.raises(TrainError, match="the squares have no CRS"):
        lakes_at(LAKES, SQUARES.set_crs(None, allow_override=True))
    with pytest.raises(TrainError, match="has no CRS"):
        lakes_at(LAKES.set_crs(None, allow_override=True), SQUARES)
    assert lakes_at(LAKES, SQUARES.iloc[:0]).shape == (0,)
    assert np.array_equal(lakes_at(LAKES.iloc[:0], SQUARES), ["", "", ""])
