from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chip_cubes import SPEC, in_file, labelled
from xglof.errors import TrainError
from xglof.train import stored
from xglof.train.batch import ChipBatch
from xglof.train.loader import ChipLoader
from xglof.train.order import Walks
from xglof.train.sampling import chips


class Listed:
    """Chips that hold nothing but their rows; remembers what was read."""

    spec = SPEC

    def __init__(self, index: pd.DataFrame, walks: Walks | None = None) -> None:
        self.index, self.reads = index, []
        self.walks = walks

    def read(self, rows: Sequence[int]) -> ChipBatch:
        self.reads.append(list(rows))
        time.sleep(0.001 * (rows[0] % 3))  # so that threads overtake each other
        return ChipBatch({}, torch.zeros(len(rows), 1, 1, dtype=torch.uint8), torch.tensor(rows), ())


def index_of(
    count: int, *, blocks: int = 10, lakes: float = 0.3, sets: int = 2, dates: int = 1, seed: int = 0
) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    block = np.sort(rng.integers(blocks, size=count))
    return pd.DataFrame(
        {
            "block": block,
            "walk": block // 3,
            "modalities": rng.choice(["S2L2A", "S2L2A+S1RTC", "S1RTC"][:sets], count),
            "lake_fraction": np.where(rng.random(count) < lakes, 0.1, 0).astype("float32"),
            "hardness": np.full(count, np.nan, "float32"),
            "longitude": np.arange(count) // dates * 0.01,
            "latitude": 28.0,
        }
    )


def rows_of(plan: list[Any]) -> list[int]:
    return [row for batch in plan for row in batch.tolist()]


@settings(max_examples=25, deadline=None)
@given(
    st.integers(8, 300),
    st.integers(1, 40),
    st.integers(1, 3),
    st.integers(1, 9),
    st.integers(1, 3),
    st.integers(1, 20),
    st.integers(0, 9),
)
def test_every_rank_has_as_many_full_batches_of_one_set(
    count: int, blocks: int, sets: int, size: int, world: int, mix: int, epoch: int
) -> None:
    index = index_of(count, blocks=blocks, sets=sets)
    try:
        loaders = [
            ChipLoader(Listed(index), batch_size=size, balance=None, mix=mix, rank=rank, world=world)
            for rank in range(world)
        ]
    except TrainError:  # a rank may have no full batch: told by another test
        assume(False)
    plans = [loader.plan(epoch) for loader in loaders]
    assert {len(plan) for plan in plans} == {len(loader) for loader in loaders} == {count // (size * world)}
    for plan in plans:
        for batch in plan:
            assert len(batch) == size
            assert index["modalities"].iloc[batch].nunique() == 1
    for first in range(world):  # what a rank is shown, no other is
        for second in range(first):
            assert not set(rows_of(plans[first])) & set(rows_of(plans[second]))


@pytest.mark.parametrize("world", [2, 3, 7])
def test_ranks_are_shown_as_much_where_one_walk_holds_most(world: int) -> None:
    index = index_of(2000, blocks=30, sets=1)
    index["walk"] = np.where(index["block"] < 25, 0, index["block"])
    plans = [
        ChipLoader(
            Listed(index), batch_size=5, balance=None, drop_last=False, mix=6, rank=rank, world=world
        ).plan(0)
        for rank in range(world)
    ]
    shown = [rows_of(plan) for plan in plans]
    assert sorted(row for rows in shown for row in rows) == list(range(2000))
    assert max(map(len, shown)) - min(map(len, shown)) <= 1
    read = [index["block"].iloc[rows].nunique() for rows in shown]
    assert sum(read) <= 30 + 6 * (world - 1)  # but for what is cut between ranks, one reads a block


@given(st.integers(1, 200), st.integers(1, 30), st.integers(1, 9), st.integers(1, 3), st.integers(1, 70))
@settings(max_examples=25, deadline=None)
def test_all_chips_come_once_where_none_is_dropped(
    count: int, blocks: int, size: int, world: int, mix: int
) -> None:
    index = index_of(count, blocks=blocks)
    plans = [
        ChipLoader(
            Listed(index), batch_size=size, balance=None, drop_last=False, mix=mix, rank=rank, world=world
        ).plan(3)
        for rank in range(world)
    ]
    assert sorted(row for plan in plans for row in rows_of(plan)) == list(range(count))


def test_lakes_are_balanced_and_all_shown_and_negatives_change() -> None:
    index = index_of(3000, lakes=0.1, sets=1)
    loader = ChipLoader(Listed(index), batch_size=1, balance=3)
    positive = index["lake_fraction"].to_numpy() > 0
    seen = [rows_of(loader.plan(epoch)) for epoch in range(2)]
    for rows in seen:
        assert len(rows) == len(set(rows)) == len(loader) == round(positive.sum() * 4 / 3)
        assert set(np.flatnonzero(positive)) < set(rows)
    negatives = [set(rows) - set(np.flatnonzero(positive)) for rows in seen]
    assert negatives[0] != negatives[1]
    short = ChipLoader(Listed(index), batch_size=1, balance=3, epoch_chips=100).plan(0)
    assert Counter(positive[rows_of(short)].tolist()) == {True: 75, False: 25}
    long = ChipLoader(Listed(index), batch_size=1, balance=1, epoch_chips=1200).plan(0)
    shown = Counter(row for row in rows_of(long) if positive[row])
    assert sum(shown.values()) == 600
    assert max(shown.values()) - min(shown.values()) <= 1


def test_hard_negatives_are_drawn_in_proportion_to_their_hardness() -> None:
    index = index_of(2000, lakes=0.5, sets=1)
    land = index["lake_fraction"].to_numpy() == 0
    hardness = np.where(np.arange(2000) % 4 == 0, 0.9, 0.1).astype("float32")
    hardness[np.arange(2000) % 4 == 1] = np.nan
    index["hardness"] = hardness
    shares = {}
    for hard in (0.0, 1.0, None):
        loader = ChipLoader(Listed(index), batch_size=1, balance=9, hard=hard)
        drawn = np.concatenate([rows_of(loader.plan(epoch)) for epoch in range(60)])
        drawn = drawn[land[drawn]]
        shares[hard] = [
            np.mean(np.nan_to_num(hardness[drawn]) == np.float32(value)) for value in (0.9, 0.1, 0)
        ]
    kinds = [np.mean(np.nan_to_num(hardness[land]) == np.float32(value)) for value in (0.9, 0.1, 0)]
    np.testing.assert_allclose(shares[0.0], kinds, atol=0.03)
    weights = np.array(kinds) * [0.9, 0.1, 0]
    np.testing.assert_allclose(shares[1.0], weights / weights.sum(), atol=0.06)
    assert shares[1.0][2] == 0
    assert shares[0.0][0] < shares[None][0] < shares[1.0][0]


def test_a_place_shows_so_many_dates_an_epoch_and_others_the_next() -> None:
    index = index_of(600, dates=6, sets=1, lakes=0.5)
    loader = ChipLoader(Listed(index), batch_size=1, balance=None, dates=2)
    epochs = [rows_of(loader.plan(epoch)) for epoch in range(3)]
    for rows in epochs:
        assert len(rows) == len(loader) == 200
        assert set(Counter(index["longitude"].iloc[rows]).values()) == {2}
    assert len({tuple(sorted(rows)) for rows in epochs}) == 3
    balanced = ChipLoader(Listed(index), batch_size=4, dates=1)
    assert {len(balanced.plan(epoch)) for epoch in range(4)} == {len(balanced)}


def test_seed_and_epoch_decide_all() -> None:
    index = index_of(400)
    plans = [
        [rows.tolist() for rows in ChipLoader(Listed(index), batch_size=4, seed=seed).plan(epoch)]
        for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert plans[0] == plans[1]
    assert plans[0] != plans[2]
    assert plans[0] != plans[3]


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_threads_change_nothing_and_resuming_reads_nothing_before(threads: int) -> None:
    source = Listed(index_of(200))
    loader = ChipLoader(source, batch_size=4, threads=threads)
    plan = [rows.tolist() for rows in loader.plan(2)]
    assert [batch.rows.tolist() for batch in loader.batches(2)] == plan
    source.reads.clear()
    assert [batch.rows.tolist() for batch in loader.batches(2, start=10)] == plan[10:]
    assert sorted(source.reads) == sorted(plan[10:])


def test_a_loop_that_is_left_leaves_no_thread_and_an_error_comes_through() -> None:
    source = Listed(index_of(200))
    for _ in ChipLoader(source, batch_size=4, threads=3).batches(0):
        break
    assert len(source.reads) < 10
    assert not any(thread.name.startswith("chips") for thread in threading.enumerate())

    def fail(rows: Sequence[int]) -> ChipBatch:
        raise OSError("the disk is gone")

    source.read = fail  # type: ignore[method-assign]
    with pytest.raises(OSError, match="the disk is gone"):
        list(ChipLoader(source, batch_size=4).batches(0))


@pytest.mark.parametrize(("most", "spread"), [(1, 1), (1, 2), (5, 5), (2, 6)])
def test_chips_are_drawn_from_as_many_blocks_as_the_source_holds(most: int, spread: int) -> None:
    index = index_of(2000, blocks=200, sets=1)
    loader = ChipLoader(
        Listed(index, Walks((3,), most, spread)), batch_size=10, balance=None, drop_last=False
    )
    rows = np.array(rows_of(loader.plan(0)))
    block, walk = (index[name].to_numpy()[rows] for name in ("block", "walk"))
    open_blocks, open_walks = (
        [np.flatnonzero(of == each)[[0, -1]] for each in set(of.tolist())] for of in (block, walk)
    )
    at = np.arange(len(rows))
    for spans, limit in ((open_blocks, spread), (open_walks, most)):
        held = sum((first <= at) & (at <= last) for first, last in spans)
        assert held.max() <= limit
        assert np.median(held) >= 0.6 * limit  # and not from fewer


@pytest.mark.parametrize("balance", [None, 1.0])
def test_each_stored_block_is_read_about_once_an_epoch(
    balance: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "_LEAST_PX", 1)
    cube, label = labelled(160, 160, times=2, flags=False)
    cube = cube.fillna(0).assign(B03=cube["B02"])  # all is seen: one set of modalities
    log: list[tuple[Any, ...]] = []
    block = 40 * 40 * (12 * 2 + 2 * 4 + 4 + 1)  # bytes of the variables over 40 x 40 pixels
    source = chips(
        in_file(cube, (1, 40, 40), log=log),
        label=in_file(label, (1, 40, 40), name="label", log=log),
        model=SPEC,
        min_valid=0.2,
        stride=12,
        cache_bytes=16 * block,
    )
    loader = ChipLoader(source, batch_size=4, balance=balance, drop_last=False)
    log.clear()
    for _ in loader.batches(0):
        pass
    assert len(log) <= 1.1 * len(set(log))
    assert loader.mix >= 4
    assert source._cache.nbytes <= 16 * block


def test_what_cannot_be_is_refused() -> None:
    index = index_of(40)
    for options, message in (
        ({"batch_size": 0}, "batch_size is 0"),
        ({"mix": 0}, "mix is 0"),
        ({"rank": 2, "world": 2}, "rank is 2 of a world of 2"),
        ({"balance": 0}, "balance is 0"),
        ({"balance": -1}, "balance is -1"),
        ({"positive": 1.5}, "positive is 1.5"),
        ({"hard": 2}, "hard is 2"),
        ({"dates": 0}, "dates is 0"),
        ({"epoch_chips": 0}, "epoch_chips is 0"),
        ({"positive": 0.5}, "none of 40 chips has lake on 50.00%"),
    ):
        with pytest.raises(TrainError, match=message):
            ChipLoader(Listed(index), **{"batch_size": 2} | options)
    with pytest.raises(TrainError, match="there is no chip"):
        ChipLoader(Listed(index[:0]), batch_size=2)
    for wide in ({"batch_size": 30}, {"batch_size": 41}, {"batch_size": 8, "world": 3}):
        with pytest.raises(TrainError, match=r"an epoch has 40 chips of 2 sets .* may hold no full batch"):
            ChipLoader(Listed(index), balance=None, **wide)
