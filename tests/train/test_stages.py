"""What a later stage is measured by and an earlier one was trained on, in figures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from split_cases import GEOD, chips_at, cloud
from xglof.errors import TrainError
from xglof.train.split_check import too_near_squares
from xglof.train.splits import Split
from xglof.train.stages import check_stages, chip_lattice, covered_shares, leakage

FIRST, SECOND = Split.cryosentinel(block_deg=0.25), Split.cryosentinel(block_deg=0.15)
SITE = ["longitude", "latitude", "side_m"]
ZHETYSU = (78.0, 43.8, 81.5, 45.5)
TIEN_SHAN = (70.0, 38.0, 83.0, 45.5)


def test_the_published_stages_leak_as_the_blocks_say() -> None:
    """57% of the later validation and test were training: where it comes from, place by place."""
    hundredths = np.arange(75) + 0.5  # a period of both lattices, 0.75 degrees, in steps that no edge lies on
    kept = {size: np.minimum(hundredths % size, -hundredths % size) >= 2 for size in (15, 25)}
    both = (kept[15] & kept[25]).sum() / kept[15].sum()
    expected = 0.8 * both**2  # two axes, and a block is training in four of five draws
    assert expected == pytest.approx(0.584, abs=1e-3)
    found = leakage(FIRST, SECOND, bounds=TIEN_SHAN, stride_m=3360.0)
    assert found.both.earlier["train"] == pytest.approx(expected, abs=0.02)
    assert found.both.earlier["dropped"] == pytest.approx(1 - both**2, abs=0.02)
    assert sum(found.both.earlier.values()) == pytest.approx(1)


def test_footprints_leak_more_than_centres() -> None:
    found = leakage(FIRST, SECOND, bounds=ZHETYSU)
    val, test, both = found.folds
    assert (val.fold, test.fold, both.fold) == ("val", "test", "val and test")
    assert both.places == val.places + test.places == 4691
    assert both.earlier["train"] == pytest.approx(0.531, abs=1e-3)
    assert both.covered == pytest.approx(0.604, abs=1e-3)
    assert both.met == pytest.approx(0.682, abs=1e-3)
    assert both.earlier["train"] < both.covered < both.met
    assert "53.1%" in str(found)


def test_a_split_that_is_shared_leaks_nothing() -> None:
    for split in (SECOND, Split.blocks()):
        both = leakage(split, split, bounds=ZHETYSU).both
        assert (both.earlier["train"], both.covered, both.met) == (0, 0, 0)


@settings(deadline=None, max_examples=15)
@given(
    longitude=st.sampled_from([179.995, -71.0]),
    latitude=st.sampled_from([-33.0, 0.0, 61.0, 89.0]),
    seed=st.integers(0, 2**31),
)
def test_covered_shares_are_those_of_the_union(longitude: float, latitude: float, seed: int) -> None:
    side = np.random.default_rng(seed).uniform(400, 2500, 8)
    index = cloud(longitude, latitude, 8, 2000, seed, side_m=side)
    squares = index[["longitude", "latitude", "side_m"]].to_numpy(float)
    found = covered_shares(squares[:3], squares[3:])
    for chip, share in zip(squares[:3], found, strict=True):
        plane = f"+proj=aeqd +lon_0={chip[0]} +lat_0={chip[1]} +datum=WGS84"
        x, y = Transformer.from_crs("EPSG:4326", plane, always_xy=True).transform(*squares.T[:2])
        boxes = [
            shapely.box(*(np.array([-1, -1, 1, 1]) * s / 2 + np.tile(p, 2)))
            for *p, s in zip(x, y, squares[:, 2], strict=True)
        ]
        own = shapely.box(*(np.array([-1, -1, 1, 1]) * chip[2] / 2))
        exact = shapely.area(shapely.intersection(own, shapely.union_all(boxes[3:]))) / chip[2] ** 2
        assert share == pytest.approx(exact, abs=0.07)  # 16 points a side


def test_chips_fill_an_area_evenly() -> None:
    index = chip_lattice((77.0, 42.9, 77.5, 43.3), side_m=1000, stride_m=500)
    one = index[index["latitude"] == index["latitude"].iloc[0]]
    _, _, step = GEOD.inv(*one[["longitude", "latitude"]].iloc[0], *one[["longitude", "latitude"]].iloc[1])
    assert step == pytest.approx(500, abs=0.01)
    rows = np.unique(index["latitude"])
    assert GEOD.inv(77, rows[0], 77, rows[1])[2] == pytest.approx(500, abs=1e-6)
    area, _ = GEOD.geometry_area_perimeter(shapely.box(77.0, 42.9, 77.5, 43.3).segmentize(0.01))
    assert len(index) * 500**2 == pytest.approx(abs(area), rel=0.02)


def test_the_chips_of_the_earlier_stage_count_where_they_are_known() -> None:
    index = chip_lattice(ZHETYSU)
    none = leakage(FIRST, SECOND, index=index, earlier_index=index.assign(latitude=index["latitude"] - 20))
    assert none.both.covered == 0
    assert none.both.earlier["train"] > 0.5
    dated = leakage(FIRST, SECOND, index=index.loc[index.index.repeat(2)].reset_index(drop=True))
    assert dated == leakage(FIRST, SECOND, index=index)


def test_what_is_measured_is_named() -> None:
    with pytest.raises(TrainError, match="either index= or bounds="):
        leakage(FIRST, SECOND)
    with pytest.raises(TrainError, match="stride_m nan; expected metres above 0"):
        leakage(FIRST, SECOND, bounds=ZHETYSU, stride_m=float("nan"))
    with pytest.raises(TrainError, match="no chip of val or test"):
        leakage(FIRST, SECOND, index=chips_at(77.15, 43.08))


def test_stages_with_unequal_splits_are_refused_where_they_leak() -> None:
    index = chip_lattice((78.0, 43.8, 80.0, 45.0))
    check_stages(SECOND, Split.cryosentinel(), index)
    check_stages(Split.blocks(), Split.blocks(), index)
    with pytest.raises(TrainError, match=r"\d+ of \d+ places of validation and test \(\d\d%\) are ground"):
        check_stages(FIRST, SECOND, index)
    with pytest.raises(TrainError, match=r"use the split\.json beside the start model"):
        check_stages(Split.blocks(), Split.blocks(salt="another"), index)


def test_equal_degrees_are_refused_where_their_footprints_meet() -> None:
    """From 60 degrees on, chips of two folds of the published rule overlap, in one stage or in two."""
    index = chip_lattice((13.0, 77.5, 18.0, 78.5))
    fold = SECOND.assign(index)["fold"]
    for known in (None, index[fold == "train"]):
        with pytest.raises(TrainError, match="are ground that the start model was trained on"):
            check_stages(SECOND, SECOND, index[fold != "train"], earlier_index=known)


def test_stages_on_other_ground_pass() -> None:
    index = chip_lattice((78.0, 43.8, 80.0, 45.0))
    elsewhere = index.assign(longitude=index["longitude"] - 150)
    check_stages(FIRST, SECOND, index, earlier_index=elsewhere)
    check_stages(Split.given(["train", "val"]), SECOND, index, earlier_index=elsewhere)
    with pytest.raises(TrainError, match="where its chips lay is not known"):
        check_stages(Split.given(["train", "val"]), SECOND, index)


def test_given_folds_are_compared_by_their_ground_however_equal() -> None:
    """The digest of given folds holds words and names of stores: it tells nothing about where they lie."""
    stores = Split.given(["train", "val"], sources=["a.zarr", "b.zarr"])
    before = chips_at([77.0, 78.0], 43.0, source=[0, 1])
    check_stages(stores, stores, before, earlier_index=before)
    turned = before.assign(longitude=[78.0, 77.0])  # a.zarr and b.zarr in another folder
    with pytest.raises(TrainError, match=r"1 of 1 places .* \(100%\)"):
        check_stages(stores, stores, turned, earlier_index=before)
    with pytest.raises(TrainError, match="pass the index of the earlier stage"):
        check_stages(stores, stores, before)


def test_the_places_of_several_earlier_stages_count() -> None:
    """The second stage had the split of the third but none of its ground; the first one had the ground."""
    third = chip_lattice((78.0, 43.8, 78.6, 44.4))
    second = third.assign(longitude=third["longitude"] + 3)
    check_stages(SECOND, SECOND, third, earlier_index=second)
    both = pd.concat([FIRST.assign(third), SECOND.assign(second)], ignore_index=True)
    with pytest.raises(TrainError, match="are ground that the start model was trained on"):
        check_stages(SECOND, SECOND, third, earlier_index=both)
    with pytest.raises(TrainError, match=r"the folds \['learned'\]"):
        check_stages(SECOND, SECOND, third, earlier_index=both.assign(fold="learned"))


def test_a_strip_that_two_chips_share_is_ground_in_common() -> None:
    one = chips_at(77.0, 43.0)
    for metres, meets in ((2239, True), (2241, False)):
        lon, lat, _ = GEOD.fwd(77.0, 43.0, 90, metres)
        beside = chips_at(lon, lat)
        if meets:
            with pytest.raises(TrainError, match="1 of 1"):
                check_stages(Split.given(["train"]), Split.given(["val"]), one, earlier_index=beside)
        else:
            check_stages(Split.given(["train"]), Split.given(["val"]), one, earlier_index=beside)


def test_worlds_of_their_own_are_known_by_name() -> None:
    valleys = Split.given(["train", "val"], sources=["a", "b"], ground="separate")
    index = chips_at([77.0, 77.0], 43.0, source=[0, 1])
    check_stages(valleys, valleys, index)
    near = chips_at([77.00001], 43.0, source=[0])  # its ground would be in common, had valleys any
    check_stages(valleys, Split.given(["val"]), near, earlier_index=index)
    with pytest.raises(TrainError, match="1 of 1 places"):  # the same cube, called ground now
        check_stages(valleys, Split.given(["val"]), index.iloc[:1], earlier_index=index)
    check_stages(Split.blocks(), valleys, index)
    swapped = Split.given(["train", "test"], sources=["b", "a"], ground="separate")
    with pytest.raises(TrainError, match="1 of 1 places"):
        check_stages(valleys, swapped, index)
    with pytest.raises(TrainError, match="without names nobody can tell"):
        check_stages(valleys, Split.given(["val"], ground="separate"), index.iloc[:1])


@settings(deadline=None, max_examples=12)
@given(
    split=st.sampled_from(
        [
            Split.blocks(block_m=6000, buffer_m=2500, shares=(20, 40, 40)),
            Split.blocks(block_m=9000, buffer_m=0, shares=(50, 25, 25)),
            Split.cryosentinel(block_deg=0.1, buffer_deg=0.046),
            Split.cryosentinel(buffer_deg=0.0),
        ]
    ),
    place=st.sampled_from([(77.0, 43.0), (179.99, -16.0), (-179.9, 69.0), (10.0, -78.0), (0.0, 0.0)]),
    seed=st.integers(0, 2**31),
)
def test_no_chip_that_could_have_been_trained_on_is_missed(split: Split, place: tuple, seed: int) -> None:
    """Whatever narrow strips a rule keeps: a chip of training anywhere around is foreseen where it meets."""
    judged = cloud(*place, 30, 12_000, seed)
    around = cloud(*place, 20_000, 16_000, seed + 1)
    trained = around[split.rule.folds(around) == "train"][SITE].to_numpy(float)
    met, _ = too_near_squares(judged[SITE].to_numpy(float), trained, 0.0)
    foreseen = split.rule.may_train_on(judged)
    assert not (met & ~foreseen).any()


def test_what_is_foreseen_is_hardly_more_than_what_can_be() -> None:
    """Chips drawn densely: nearly all that could have been met are, so that hardly one is refused in vain."""
    for split in (Split.blocks(), Split.cryosentinel()):
        judged = cloud(77.0, 43.0, 150, 20_000, 5)
        around = cloud(77.0, 43.0, 40_000, 25_000, 6)
        trained = around[split.rule.folds(around) == "train"][SITE].to_numpy(float)
        met, _ = too_near_squares(judged[SITE].to_numpy(float), trained, 0.0)
        foreseen = split.rule.may_train_on(judged)
        assert 0.1 < foreseen.mean() < 0.9
        assert (foreseen & ~met).mean() < 0.05


def test_around_the_poles_nothing_is_missed() -> None:
    judged = chips_at(np.arange(-180.0, 180, 30), 89.99)
    for split in (Split.blocks(), FIRST):
        assert split.rule.may_train_on(judged).all()
    assert not Split.blocks(shares=(0, 50, 50)).rule.may_train_on(judged).any()


def test_ground_beside_the_chips_counts_where_places_are_unknown() -> None:
    """A place that the earlier split dropped may still be covered by a chip that it trained on."""
    train = Split.cryosentinel(block_deg=0.25).assign(chips_at(77.15, 43.08))
    assert train["fold"].tolist() == ["train"]
    beside = chips_at(
        77.15, 43.012
    )  # within the buffer of the edge at 43 degrees, 0.9 km from a centre that is not
    assert FIRST.assign(beside)["fold"].tolist() == ["dropped"]
    with pytest.raises(TrainError, match="1 of 1"):
        check_stages(FIRST, Split.given(["val"]), beside)
    far = chips_at(77.15, 43.0, side_m=300.0)
    check_stages(FIRST, Split.given(["val"]), far)
