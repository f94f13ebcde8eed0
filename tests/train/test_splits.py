"""Every place has one fold, and the footprints of two folds keep apart, anywhere on earth."""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from split_cases import GEOD, border, chips_at, cloud, nearest_m
from xglof.errors import TrainError
from xglof.train.ground import quarter_meridian_m
from xglof.train.schemes import FOLDS
from xglof.train.splits import Split

#: (latitude, longitude), fold with blocks of 0.15 degrees, of 0.25 degrees. The first two are places of test
#: chips that CryoSentinel's audit of labels names (docs/figures of its repository).
PUBLISHED = [
    ((42.9998, 76.7119), "test", "dropped"),
    ((42.9897, 76.7119), "test", "dropped"),
    ((43.05, 77.07), "dropped", "train"),
    ((43.054, 76.985), "dropped", "dropped"),
    ((43.08, 77.15), "train", "train"),
    ((27.86, 86.92), "test", "train"),
    ((44.18, 78.68), "train", "test"),
    ((43.9, 79.98), "val", "dropped"),
    ((43.15, 80.29), "val", "train"),
    ((45.12, 76.55), "test", "train"),
    ((-13.74, -71.09), "dropped", "dropped"),
    ((-0.08, -0.08), "train", "train"),
]


def published(latitude: float, longitude: float, size: float, buffer: float = 0.02) -> str:
    """CryoSentinel's rule, a chip at a time."""
    for value in (latitude, longitude):
        share = (value / size) % 1.0
        if min(share, 1.0 - share) * size < buffer:
            return "dropped"
    block = math.floor(latitude / size), math.floor(longitude / size)
    digits = hashlib.sha1(f"cryosentinel-blocks-v1|{block[0]}|{block[1]}".encode()).hexdigest()  # noqa: S324
    number = int(digits[:8], 16) % 100
    return "train" if number < 80 else "val" if number < 90 else "test"


def test_the_published_split_is_reproduced_on_given_coordinates() -> None:
    latitude, longitude = np.array([place for place, *_ in PUBLISHED]).T
    index = chips_at(longitude, latitude)
    for size, column in ((0.15, 1), (0.25, 2)):
        found = Split.cryosentinel(block_deg=size).assign(index)["fold"]
        assert found.tolist() == [row[column] for row in PUBLISHED]


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**31),
    size=st.sampled_from([0.1, 0.15, 0.25, 0.3, 1 / 3]),
    digits=st.sampled_from([1, 2, 3, None]),
)
def test_the_published_rule_holds_to_the_last_bit(seed: int, size: float, digits: int | None) -> None:
    rng = np.random.default_rng(seed)
    places = rng.uniform([-90, -180], [90, 180], (40, 2))
    places = places if digits is None else places.round(digits)  # upon edges of blocks and buffers
    if digits == 3:
        places = places.astype(np.float32).astype(np.float64)
    index = chips_at(places[:, 1], places[:, 0])
    found = Split.cryosentinel(block_deg=size).assign(index)["fold"]
    assert found.tolist() == [published(*place, size) for place in places.tolist()]


def fold_at(longitude: float, latitude: float, split: Split) -> str:
    """The fold of the block that a place lies in, worked out for one place."""
    size, shares = split.rule.block_m, split.rule.shares
    north = math.copysign(GEOD.inv(0, 0, 0, latitude)[2], latitude)
    band = math.floor(north / size)
    edge = min(max(abs(band), abs(band + 1)) * size, quarter_meridian_m())
    latitude_of_edge = math.radians(GEOD.fwd(0, 0, 0, edge)[1])
    radius = GEOD.a * math.cos(latitude_of_edge) / math.sqrt(1 - GEOD.es * math.sin(latitude_of_edge) ** 2)
    count = max(math.floor(2 * math.pi * max(radius, 0) / size), 1)
    cell = min(math.floor((longitude % 360) / (360 / count)), count - 1)
    digits = hashlib.sha256(f"{split.rule.salt}|{band}|{cell}".encode()).hexdigest()
    number = int(digits[:8], 16) % 100
    return "train" if number < shares[0] else "val" if number < shares[0] + shares[1] else "test"


places = st.tuples(
    st.floats(-180, 180) | st.sampled_from([-180.0, 179.99, 0.0]),
    st.floats(-89.9, 89.9) | st.sampled_from([0.0, 43.0, -72.0, 88.7, -89.4]),
)
block_splits = st.builds(
    lambda block, buffer, salt: Split.blocks(
        block_m=block, buffer_m=buffer, salt=f"salt {salt}", shares=(34, 33, 33)
    ),
    st.sampled_from([12_000, 20_000, 33_333]),
    st.sampled_from([500, 3_000, 5_000]),
    st.integers(0, 1000),
)


@settings(deadline=None, max_examples=25)
@given(place=places, split=block_splits, seed=st.integers(0, 2**31))
def test_footprints_of_two_folds_are_a_buffer_apart_however_they_are_turned(
    place: tuple[float, float], split: Split, seed: int
) -> None:
    index = split.assign(cloud(*place, 30, 20_000, seed, side_m=1280.0))
    turns = np.random.default_rng(seed).uniform(0, 90, len(index))
    squares = {"train": [], "val": [], "test": [], "dropped": []}
    for chip, turn in zip(index.itertuples(), turns, strict=True):
        squares[chip.fold].append(border(chip.longitude, chip.latitude, chip.side_m, turn))
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        assert nearest_m(squares[one], squares[other]) >= split.rule.buffer_m - 1e-3
    report = split.check(index)
    assert report.passes
    assert sum(report.counts.values()) == 30


@pytest.mark.parametrize("latitude", [43.0, -78.0, 89.75, -89.8])
def test_the_buffer_holds_across_meridians(latitude: float) -> None:
    """Points a metre less than half the buffer from a border: not both sides may be kept."""
    pairs = 0
    for salt in range(3):
        split = Split.blocks(block_m=12_000, buffer_m=5_000, salt=str(salt), shares=(34, 33, 33))
        around = np.arange(0, 360, 0.1)
        points = chips_at(around, latitude, side_m=0.01)
        reach = split.rule._reach(points["side_m"].to_numpy())
        fold = np.array(FOLDS)[split.rule._folds_at(around, points["latitude"], reach)[0]]
        for place in np.flatnonzero(fold[1:] != fold[:-1])[:4]:
            low, high = around[place], around[place + 1]
            for _ in range(40):
                middle = (low + high) / 2
                same = fold_at(middle, latitude, split) == fold[place]
                low, high = (middle, high) if same else (low, middle)
            sides = GEOD.fwd([low, low], [latitude] * 2, [90, 270], [2_499] * 2)[:2]
            assert "dropped" in split.assign(chips_at(*sides, side_m=0.01))["fold"].tolist()
            pairs += 1
    assert pairs > 5


@settings(deadline=None, max_examples=40)
@given(place=places, split=block_splits, seed=st.integers(0, 2**31))
def test_only_chips_near_another_fold_are_dropped(
    place: tuple[float, float], split: Split, seed: int
) -> None:
    if abs(place[1]) > 88:
        return  # there, whole bands are dropped
    index = split.assign(cloud(*place, 6, 20_000, seed, side_m=1280.0))
    reach = split.rule.buffer_m / 2 + 1280 / math.sqrt(2)
    azimuth, share = (each.ravel() for each in np.meshgrid(np.arange(0, 360, 20), [0.5, 1]))
    for chip in index.itertuples():
        own = fold_at(chip.longitude, chip.latitude, split)
        assert chip.fold in (own, "dropped")
        ones = np.ones(len(azimuth))
        for factor, verdict in ((0.98, "dropped"), (1.05, own)):
            lon, lat, _ = GEOD.fwd(
                chip.longitude * ones, chip.latitude * ones, azimuth, factor * reach * share
            )
            around = {fold_at(*each, split) for each in zip(lon, lat, strict=True)}
            if verdict == "dropped" and around != {own}:
                assert chip.fold == "dropped"
            if verdict == own and around == {own} and _far_from_corners(chip, split, reach):
                assert chip.fold == own


def _far_from_corners(chip, split: Split, reach: float) -> bool:
    """Whether the points above can't have missed a corner of a block: no border north or south is near."""
    north = abs(GEOD.inv(0, 0, 0, chip.latitude)[2]) % split.rule.block_m
    return min(north, split.rule.block_m - north) > 1.05 * reach


def test_the_default_is_pinned() -> None:
    latitude, longitude = np.meshgrid([-44.3, 27.86, 43.05, 61.2, 78.4], [-180, -72.9, 7.1, 77.05, 86.92])
    found = Split.blocks().assign(chips_at(longitude.ravel(), latitude.ravel()))["fold"].tolist()
    assert (
        "".join(fold[0].upper() if fold == "test" else fold[0] for fold in found)
        == "TtTtdtdtvtttttdvdTttttttt"
    )
    assert Split.blocks().digest == "6b8a305fd365048ed2986f8959c05d708a71091327bcb175da41603e2f3174e8"
    assert Split.cryosentinel().digest == "c789ae22dc022ab02f37241606fa4855b5e62db84e93178d12eac504ce6db142"


def test_order_dates_and_other_chips_change_nothing() -> None:
    split = Split.blocks(salt="order")
    index = cloud(77.0, 43.0, 400, 60_000, 1)
    fold = split.assign(index).set_index("chip_id")["fold"]
    assert set(fold) == {"train", "val", "test", "dropped"}
    mixed = index.sample(frac=0.5, random_state=3)
    assert (split.assign(mixed).set_index("chip_id")["fold"] == fold[mixed["chip_id"]]).all()
    dated = pd.concat([index.assign(time=year) for year in (2017, 2023)], ignore_index=True)
    again = split.assign(dated)
    assert (again["fold"].to_numpy() == np.tile(fold.to_numpy(), 2)).all()
    assert (again.drop(columns="fold") == dated.drop(columns="fold")).all(axis=None)
    assert (index["fold"] == "").all()  # the one given is left as it was


def test_longitudes_go_around() -> None:
    split = Split.blocks(salt="around")
    index = cloud(180.0, -49.0, 300, 40_000, 5)
    turned = index.assign(
        longitude=np.where(index["longitude"] < 0, index["longitude"] + 360, index["longitude"])
    )
    fold = split.assign(index)["fold"]
    assert (fold == split.assign(turned)["fold"]).all()
    assert fold.nunique() > 1


def test_a_lake_lies_in_one_fold() -> None:
    places = chips_at([77.0] * 6, np.linspace(40, 45, 6), lake_ids=["", "a", "a b", "b c", "c", "d"])
    dated = pd.concat([places.assign(time=1), places.assign(time=2, lake_ids="")], ignore_index=True)
    split = _drawn(["test", "train", "val", "train", "train", "train"], dated)
    found = split.assign(dated)["fold"].tolist()
    # val keeps lakes a and b; the second chip and the fourth go at both dates, so lake c stays in train
    assert found == ["test", "dropped", "val", "dropped", "train", "train"] * 2
    assert split.check(split.assign(dated)).lakes == ()
    alone = split.check(dated.assign(fold=["test", "train", "val", "train", "train", "train"] * 2))
    assert alone.lakes == ("a", "b")
    with pytest.raises(TrainError, match=r"2 lakes lie in two folds \(a, b\)"):
        alone.require()
    alone.require(despite=["lakes"])


def _drawn(folds: list[str], index: pd.DataFrame) -> Split:
    """A split of blocks whose salt happens to give these folds to the first places."""
    for salt in range(200_000):
        split = Split.blocks(salt=str(salt), shares=(60, 20, 20), buffer_m=0)
        found = [
            fold_at(*place, split) for place in index[["longitude", "latitude"]].to_numpy()[: len(folds)]
        ]
        if found == folds and (split.rule.folds(index)[: len(folds)] == folds).all():
            return split
    raise AssertionError("no salt found")


def test_given_folds_are_those_of_the_sources() -> None:
    split = Split.given(["train", "val", "dropped"], sources=["a.zarr", "b.zarr", "c.zarr"])
    index = chips_at([10.0, 20, 30, 40], 46.0, source=[2, 0, 1, 0])
    assert split.assign(index)["fold"].tolist() == ["dropped", "train", "val", "train"]
    with pytest.raises(TrainError, match=r"source 3, but folds were given for 3 sources"):
        split.assign(index.assign(source=3))
    assert split.digest != Split.given(["train", "val", "dropped"]).digest


@pytest.mark.parametrize(
    "split",
    [
        Split.blocks(block_m=25_000, buffer_m=4000, salt="ü", shares=[70, 20, 10]),
        Split.cryosentinel(block_deg=0.25),
        Split.given(["train", "val"], ground="separate", sources=["x", "y"]),
    ],
    ids=lambda split: split.scheme,
)
def test_json_and_back(split: Split) -> None:
    text = split.to_json()
    again = Split.from_json(text)
    assert again == split
    assert again.digest == hashlib.sha256(text.encode()).hexdigest()
    assert Split.from_json(json.dumps(json.loads(text), indent=2)).digest == split.digest
    content = json.loads(text)
    content["settings"]["bands"] = 3
    with pytest.raises(TrainError, match="bands"):
        Split.from_json(json.dumps(content))


def test_numbers_of_any_kind_make_the_same_split() -> None:
    split = Split.blocks(block_m=20_000, buffer_m=np.float64(5000), shares=np.array([80.0, 10, 10]))
    assert split.digest == Split.blocks().digest


@pytest.mark.parametrize("text", ["", "[]", "3", '{"scheme": "ellipsoid-v1"}'])
def test_other_texts_are_no_split(text: str) -> None:
    with pytest.raises(TrainError, match="is no split"):
        Split.from_json(text)


def test_later_formats_are_refused() -> None:
    with pytest.raises(TrainError, match=r"format 2 .* this version knows format 1"):
        Split.from_json('{"format": 2, "scheme": "ellipsoid-v1", "settings": {}}')
    with pytest.raises(TrainError, match="scheme 'ellipsoid-v9'"):
        Split.from_json('{"format": 1, "scheme": "ellipsoid-v9", "settings": {}}')


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"block_m": 5000, "buffer_m": 5000}, "a buffer smaller than it"),
        ({"block_m": float("nan")}, "block_m is nan"),
        ({"buffer_m": float("nan")}, "buffer_m nan"),
        ({"block_m": math.inf, "buffer_m": math.inf}, "block_m is inf"),
        ({"shares": (float("nan"), 50, 50)}, "whole percents"),
        ({"shares": (79.5, 10.5, 10)}, "whole percents"),
        ({"shares": (80, 10)}, "percents of train, val and test"),
        ({"shares": (80, 30, -10)}, "percents of train, val and test"),
    ],
)
def test_settings_that_are_none(settings: dict, message: str) -> None:
    with pytest.raises(TrainError, match=message):
        Split.blocks(**settings)


def test_folds_that_are_none() -> None:
    with pytest.raises(TrainError, match="'validation'; expected one of 'train'"):
        Split.given(["train", "validation"])
    with pytest.raises(TrainError, match="2 folds came with 1 names"):
        Split.given(["train", "val"], sources=["a"])
    with pytest.raises(TrainError, match="ground is 'other'"):
        Split.given(["train"], ground="other")
    with pytest.raises(TrainError, match="below half the block"):
        Split.cryosentinel(block_deg=0.15, buffer_deg=0.1)
    nan = float("nan")
    for block, buffer in ((nan, 0.02), (0.15, nan), (math.inf, 0.02), (math.inf, math.inf), (0.0, 0.0)):
        with pytest.raises(TrainError, match=r"expected blocks of 0\.001 to 180"):
            Split.cryosentinel(block_deg=block, buffer_deg=buffer)
    for buffer in (nan, math.inf, -1.0):
        with pytest.raises(TrainError, match="expected metres, 0 or more"):
            Split.given(["train"], buffer_m=buffer)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"latitude": 91.0}, "beyond the earth"),
        ({"longitude": np.nan}, "beyond the earth"),
        ({"side_m": 0.0}, "without a size"),
        ({"side_m": 12_000.0}, "no room for chips of 12000 m.*take block_m above 21971"),
    ],
)
def test_chips_that_are_none(columns: dict, message: str) -> None:
    with pytest.raises(TrainError, match=message):
        Split.blocks().assign(chips_at(77.0, 43.0).assign(**columns))


def test_missing_columns_are_named() -> None:
    with pytest.raises(TrainError, match="lacks side_m, source"):
        Split.blocks().assign(chips_at(77.0, 43.0).drop(columns=["side_m", "source"]))


def test_no_chips() -> None:
    empty = chips_at(np.empty(0), np.empty(0))
    for split in (Split.blocks(), Split.cryosentinel(), Split.given(["train"])):
        assert len(split.assign(empty)) == 0
        assert split.check(empty).passes
