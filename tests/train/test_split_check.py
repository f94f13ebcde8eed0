"""The check of a split measures what lies between folds."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from split_cases import GEOD, border, chips_at, cloud, nearest_m
from xglof.errors import TrainError
from xglof.train.ground import nearest_pair, squares_apart_m
from xglof.train.splits import Split

ANY = Split.given(["train"])
FOLDS = ["train", "val", "test"]


def squares(index: pd.DataFrame) -> np.ndarray:
    return index[["longitude", "latitude", "side_m"]].to_numpy(float)


def test_two_squares_at_known_distances() -> None:
    centre = np.array([[77.0, 43.0, 2240.0]])
    for azimuth, distance, apart in (
        (0, 7240.0, 5000.0),
        (90, 7240.0, 5000.0),
        (45, 2240 * math.sqrt(2) + 1000, 1000.0),  # corner to corner
        (0, 2000.0, 0.0),
        (33, 0.0, 0.0),
    ):
        lon, lat, _ = GEOD.fwd(77.0, 43.0, azimuth, distance)
        found = squares_apart_m(centre, np.array([[lon, lat, 2240.0]]))
        assert found[0] == pytest.approx(apart, abs=1.5)  # north turns by 0.06 degrees in 7 km


@settings(deadline=None, max_examples=25)
@given(
    longitude=st.sampled_from([-180.0, 179.99, 12.3]),
    latitude=st.sampled_from([-89.99, -55.0, 0.0, 43.0, 84.0]),
    seed=st.integers(0, 2**31),
    spread=st.sampled_from([4_000, 15_000, 60_000]),
)
def test_the_smallest_distance_is_that_of_all_pairs(
    longitude: float, latitude: float, seed: int, spread: float
) -> None:
    side = np.random.default_rng(seed).uniform(500, 4000, 16)
    index = cloud(longitude, latitude, 16, spread, seed, side_m=side)
    borders = [border(*chip, 0.0, points=60) for chip in squares(index)]
    distance, one, other = nearest_pair(squares(index[:6]), squares(index[6:]))
    # points along borders are 17 m apart or more densely; squares that overlap may have none that near
    if distance > 0:
        assert -1e-3 <= nearest_m(borders[:6], borders[6:]) - distance <= 35
        assert nearest_m([borders[one]], [borders[6 + other]]) - distance <= 35
    else:
        away = GEOD.inv(*squares(index)[one, :2], *squares(index)[6 + other, :2])[2]
        assert away < (side[one] + side[6 + other]) / math.sqrt(2)
    every = [squares_apart_m(squares(index[i : i + 1]).repeat(10, 0), squares(index[6:])) for i in range(6)]
    assert distance == pytest.approx(np.min(every), abs=1e-3)


def test_what_is_too_near_is_counted_and_named() -> None:
    latitude = 43 + np.array([0, 3000, 9000, 9000, 30_000]) / 111_100
    index = chips_at([77.0] * 5, latitude, side_m=2000.0, fold=["train", "val", "test", "test", "train"])
    report = Split.given(["train"], buffer_m=1500).check(index)
    assert report.counts == {"train": 2, "val": 1, "test": 2, "dropped": 0}
    assert report.places["test"] == 1  # two dates
    gaps = {gap.folds: gap for gap in report.gaps}
    assert gaps["train", "val"].distance_m == pytest.approx(1000, abs=5)
    assert gaps["train", "val"].chips == ("chip-0", "chip-1")
    assert gaps["train", "val"].too_near == 2
    assert gaps["val", "test"].distance_m == pytest.approx(4000, abs=10)
    assert gaps["val", "test"].too_near == 0
    assert not report.passes
    with pytest.raises(
        TrainError, match=r"train and val are 1,0\d\d m apart \(chip-0 and chip-1\), expected at"
    ):
        report.require()
    assert "train and val" in str(report)
    assert "passes: no" in str(report)
    assert Split.given(["train"], buffer_m=900).check(index).passes


def test_footprints_that_meet_are_leakage_though_centres_are_apart() -> None:
    index = chips_at(
        [77.0, 77.0], [43.0, 43.01], fold=["train", "test"]
    )  # centres 1.1 km apart, sides 2.24 km
    report = ANY.check(index)
    assert report.gaps[1].distance_m == 0
    assert report.problems["distance"].endswith("2 chips are too near")


def test_a_place_with_two_folds_is_told() -> None:
    index = chips_at([77.0, 77.0, 78.0], [43.0, 43.0, 44.0], fold=["train", "val", "dropped"])
    report = ANY.check(index)
    assert report.divided == 1
    assert set(report.problems) == {"distance", "places"}
    with pytest.raises(TrainError, match="1 places have chips in two folds at different dates"):
        report.require(despite=["distance"])


def test_valleys_of_their_own_share_no_ground() -> None:
    index = chips_at([77.0, 77.0], [43.0, 43.0], source=[0, 1], lake_ids=["1", "1"])
    shared = Split.given(["train", "val"]).check(index)
    assert set(shared.problems) == {"distance", "lakes", "places"}
    separate = Split.given(["train", "val"], ground="separate").check(index)
    assert separate.passes
    assert separate.gaps == ()
    assert "world of its own" in str(separate)


def test_lakes_that_are_not_known_are_told() -> None:
    index = chips_at([77.0, 78.0, 79.0, 80.0], 43.0, fold=["train", "val", "test", "dropped"])
    for unknown in (index, index.drop(columns="lake_ids")):
        report = ANY.check(unknown)
        assert (report.lakes_known, report.chips_with_lakes) == (0, 0)
        assert "lakes: not known, so not compared\npasses: yes" in str(report)
    known = ANY.check(index.assign(lake_ids=["a b", "", "c", "d"]))
    assert (known.lakes_known, known.chips_with_lakes) == (3, 2)
    assert "lakes: no lake shared among 3 lakes, which 2 of 3 chips touch\npasses: yes" in str(known)
    shared = ANY.check(index.assign(lake_ids=["a b", "a", "c", "d"]))
    assert "lakes: 1 shared among 3 lakes, which 3 of 3 chips touch\npasses: no" in str(shared)
    worlds = Split.given(["train", "val"], ground="separate")
    apart = worlds.check(index.assign(lake_ids="1", source=[0, 1, 1, 1]).iloc[:2])
    assert (apart.lakes_known, apart.passes) == (2, True)


def test_an_empty_fold_is_infinitely_far() -> None:
    report = ANY.check(chips_at([77.0], [43.0]))
    assert [math.isinf(gap.distance_m) for gap in report.gaps] == [True] * 3
    assert report.passes


def test_folds_by_another_name_are_refused() -> None:
    with pytest.raises(TrainError, match=r"the folds \['valid'\]"):
        ANY.check(chips_at([77.0], [43.0], fold="valid"))


def test_far_groups_are_measured_at_once() -> None:
    index = pd.concat([cloud(77.0, 43.0, 50, 5000, 1), cloud(-70.0, -33.0, 50, 5000, 2)])
    distance, *_ = nearest_pair(squares(index[:50]), squares(index[50:]))
    assert distance == pytest.approx(GEOD.inv(77, 43, -70, -33)[2], abs=15_000)
