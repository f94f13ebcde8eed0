"""Batches of chips in an order that reads each stored block about once an epoch.

An epoch's chips are walked through block by block in reading order. Several walks are open at a time and take
turns, so that a batch holds chips of several places while each place's blocks are read in one go. Everything
follows from the seed and the number of the epoch: plans hold row numbers only, and are the same for any
number of threads.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from numbers import Integral, Real

import numpy as np
import numpy.typing as npt
import pandas as pd

from xglof.errors import TrainError
from xglof.train.batch import ChipBatch, ChipSource

Rows = npt.NDArray[np.int64]

#: Blocks to draw from where a source does not say how many it can hold.
_MIX = 4
#: Share of the negatives that are drawn by hardness, where there is any.
_HARD = 0.5


class ChipLoader:
    """Batches of chips, shuffled by stored block, balanced, reproducible.

    Parameters
    ----------
    source
        The chips; their index says which are near each other in the store (``block``).
    batch_size
        Chips a batch; all of one set of modalities.
    seed
        With the number of the epoch it decides everything.
    balance
        Chips with a lake for each one without. By default an epoch holds every chip with a lake once, and as
        many of the others as that asks for, other ones each time, and some more than once where there are
        too few. ``None``: all chips as they are.
    positive
        A chip has a lake from this ``lake_fraction`` on.
    epoch_chips
        Chips an epoch, in the place of that default; more than there are repeats some.
    hard
        Share of the chips without a lake that are drawn with a chance in proportion to their ``hardness``,
        the others all with the same. By default half where the index has any hardness.
    dates
        At most so many dates of a place in an epoch, other ones each time; ``None``: all.
    mix
        Stored blocks that a stretch of chips is drawn from. More mix better; more than the source holds, and
        blocks are read again and again. By default as many as it holds.
    threads
        Read ahead; 0 reads when asked.
    drop_last
        Every batch is full, and every epoch has the same number of batches: the few chips that are left of a
        set of modalities are left out, and as many shown twice. ``False``: every chip once, batches may be
        smaller, and ranks may have a batch more or less.
    rank, world
        This process among those that train together: each reads other blocks.

    Raises
    ------
    TrainError
        An argument is out of its range, the source has no chip, or none with a lake to balance by.
    """

    def __init__(
        self,
        source: ChipSource,
        *,
        batch_size: int,
        seed: int = 0,
        balance: float | None = 3.0,
        positive: float = 0.002,
        epoch_chips: int | None = None,
        hard: float | None = None,
        dates: int | None = None,
        mix: int | None = None,
        threads: int = 2,
        drop_last: bool = True,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.source, self.batch_size, self.seed = source, batch_size, seed
        self.balance, self.positive, self.epoch_chips = balance, positive, epoch_chips
        self.hard, self.dates, self.threads = hard, dates, threads
        walks = getattr(source, "walks", None)
        self.mix = mix if mix is not None else _MIX if walks is None else walks.spread
        self._most = self.mix if walks is None else walks.most
        self.drop_last, self.rank, self.world = drop_last, rank, world
        self._check()
        index = source.index
        self._block = index["block"].to_numpy(np.int64)
        self._walk = index["walk" if "walk" in index else "block"].to_numpy(np.int64)
        self._set = pd.factorize(index["modalities"], sort=True)[0].astype(np.int64)
        self._positive = index["lake_fraction"].to_numpy() >= positive
        self._hardness = np.nan_to_num(index["hardness"].to_numpy(np.float64), nan=0.0)
        self._place = index.groupby(["longitude", "latitude"], sort=False).ngroup().to_numpy(np.int64)
        if not len(index):
            raise TrainError("there is no chip to load; the selection that was made holds none")
        if balance is not None and not self._positive.any():
            raise TrainError(
                f"none of {len(index)} chips has lake on {positive:.2%} of its pixels, so they can't be "
                f"balanced {balance:g} to 1; check the labels, lower positive, or pass balance=None"
            )
        self._check_batches()

    def _check_batches(self) -> None:
        """Refuse an epoch that may hold no full batch, before the one in which it does not."""
        if not self.drop_last:
            return
        mine, total = self._total() // self.world, self._total()
        repeats = -(-total // len(self._place))
        # the most chips of a rank that make no full batch of any set
        idle = np.minimum(np.bincount(self._set) * repeats, self.batch_size - 1).sum()
        if mine <= idle:
            raise TrainError(
                f"an epoch has {total} chips of {self._set.max() + 1} sets of modalities, for {self.world} "
                f"processes, and may hold no full batch of {self.batch_size} of one set; take smaller "
                "batches or more epoch_chips, or pass drop_last=False"
            )

    def _check(self) -> None:
        least = {"batch_size": 1, "mix": 1, "threads": 0, "world": 1, "rank": 0}
        least |= {name: 1 for name in ("epoch_chips", "dates") if getattr(self, name) is not None}
        for name, lowest in least.items():
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < lowest:
                raise TrainError(f"{name} is {value!r}; give a whole number, at least {lowest}")
        if self.rank >= self.world:
            raise TrainError(f"rank is {self.rank} of a world of {self.world}; it counts from 0")
        for name, value, highest in (
            ("balance", self.balance, np.inf), ("positive", self.positive, 1), ("hard", self.hard, 1)
        ):  # fmt: skip
            if value is not None and (not isinstance(value, Real) or not 0 <= value <= highest):
                raise TrainError(f"{name} is {value!r}; give a number from 0 to {highest}")
        if self.balance == 0:
            raise TrainError("balance is 0, which would leave no chip with a lake; pass None for no balance")

    def __len__(self) -> int:
        """Batches an epoch."""
        if self.drop_last:
            return self._total() // (self.batch_size * self.world)
        return len(self.plan(0))

    def plan(self, epoch: int) -> list[Rows]:
        """Rows of each batch of an epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        batches = self._batches(_interleaved(self._lanes(self._choose(rng), rng), rng))
        if not self.drop_last:
            return batches
        full = [rows for rows in batches if len(rows) == self.batch_size]
        wanted = len(self)
        if wanted and not full:
            raise TrainError(
                f"no set of modalities has the {self.batch_size} chips of a batch in epoch {epoch}; take "
                "smaller batches, or pass drop_last=False"
            )
        again = rng.integers(max(len(full), 1), size=max(wanted - len(full), 0))
        return [*full, *(full[number] for number in again.tolist())][:wanted]

    def batches(self, epoch: int, start: int = 0) -> Iterator[ChipBatch]:
        """The batches of an epoch from number ``start`` on; nothing before it is read."""
        plan = iter(self.plan(epoch)[start:])
        if not self.threads:
            yield from (self.source.read(rows.tolist()) for rows in plan)
            return
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="chips")
        try:
            ahead: deque[Future[ChipBatch]] = deque()
            for rows in plan:
                ahead.append(pool.submit(self.source.read, rows.tolist()))
                if len(ahead) > 2 * self.threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _total(self) -> int:
        """Chips of an epoch, of all ranks."""
        if self.epoch_chips is not None:
            return self.epoch_chips
        if self.balance is None:
            return self._dated(np.ones(len(self._place), dtype=bool))
        return round(self._dated(self._positive) * (1 + 1 / self.balance))

    def _dated(self, among: npt.NDArray[np.bool_]) -> int:
        """How many of some chips an epoch can hold when each place shows only so many dates."""
        if self.dates is None:
            return int(among.sum())
        counts = np.bincount(self._place[among])
        return int(np.minimum(counts, self.dates).sum())

    def _choose(self, rng: np.random.Generator) -> Rows:
        """Rows of an epoch, in no particular order."""
        rows = np.arange(len(self._place), dtype=np.int64)
        if self.dates is not None:
            rows = np.sort(_few_of_each(rng.permutation(rows), self._place, self.dates))
        total = self._total()
        if self.balance is None:
            return rows if total == len(rows) else _drawn(rows, total, rng)
        lakes, others = rows[self._positive[rows]], rows[~self._positive[rows]]
        if not len(lakes):  # of the dates drawn, none shows a lake
            lakes = np.flatnonzero(self._positive)
        wanted = total - round(total / (1 + self.balance)) if len(others) else total
        return np.concatenate([_drawn(lakes, wanted, rng), self._negatives(others, total - wanted, rng)])

    def _negatives(self, rows: Rows, count: int, rng: np.random.Generator) -> Rows:
        weights = self._hardness[rows]
        share = _HARD if self.hard is None else self.hard
        hard = min(round(count * share), int((weights > 0).sum()))
        with np.errstate(divide="ignore"):
            keys = np.log(rng.random(len(rows))) / weights  # Efraimidis and Spirakis 2006: without repeats
        first = np.argsort(-keys, kind="stable")[:hard]
        rest = np.delete(rows, first)
        if count - hard > len(rest):
            rest = rows
        return np.concatenate([rows[first], _drawn(rest, count - hard, rng)])

    def _lanes(self, rows: Rows, rng: np.random.Generator) -> list[Rows]:
        """By walk of this rank that is open at a time, the chips in the order in which it comes to them."""
        rows = rng.permutation(rows)
        blocks, block = np.unique(self._block[rows], return_inverse=True)
        walk = self._walk[rows[np.unique(block, return_index=True)[1]]]
        begins = np.flatnonzero(np.concatenate([[True], np.diff(walk) != 0]))
        lanes = min(self.mix, self._most, max(len(begins) // self.world, 1))
        spread = max(self.mix // lanes, 1)
        since = np.arange(len(blocks)) - np.repeat(begins, np.diff(np.append(begins, len(blocks))))
        together = np.cumsum(since % spread == 0)[block]  # blocks that chips are drawn from at the same time
        order = np.argsort(together, kind="stable")
        rows, block = rows[order], block[order]
        pieces = np.split(rows, np.flatnonzero(np.diff(walk[block])) + 1)
        if self.world > 1:
            pieces = _part_of(pieces, self.rank, self.world, rng)
        return _shared(pieces, lanes, rng)

    def _batches(self, rows: Rows) -> list[Rows]:
        """Rows cut to batches of one set of modalities, a batch where its last chip stands."""
        found = []
        for number in range(int(self._set.max()) + 1):
            places = np.flatnonzero(self._set[rows] == number)
            for i in range(0, len(places), self.batch_size):
                batch = places[i : i + self.batch_size]
                found.append((int(batch[-1]), rows[batch]))
        return [batch for _, batch in sorted(found, key=lambda each: each[0])]


def _part_of(pieces: list[Rows], rank: int, world: int, rng: np.random.Generator) -> list[Rows]:
    """The walks of a rank: those of all in a random order, cut into equal parts.

    Walks may be of any length, and a rank must have as many chips as the others: at most one walk is cut
    between one rank and the next.
    """
    mixed = [pieces[i] for i in rng.permutation(len(pieces))]
    ends = np.cumsum([len(piece) for piece in mixed])
    first, last = (ends[-1] * edge // world for edge in (rank, rank + 1))
    cut = [
        piece[max(first - begin, 0) : max(last - begin, 0)]
        for piece, begin in zip(mixed, [0, *ends.tolist()], strict=False)
    ]
    return [piece for piece in cut if len(piece)]


def _shared(pieces: list[Rows], lanes: int, rng: np.random.Generator) -> list[Rows]:
    """Walks shared out so that all lanes have about as many chips."""
    dealt: list[list[Rows]] = [[] for _ in range(lanes)]
    load = [(0, lane) for lane in rng.permutation(lanes).tolist()]
    heapq.heapify(load)
    for piece in sorted((pieces[i] for i in rng.permutation(len(pieces))), key=len, reverse=True):
        chips, lane = heapq.heappop(load)
        dealt[lane].append(piece)
        heapq.heappush(load, (chips + len(piece), lane))
    mixed = [[lane[i] for i in rng.permutation(len(lane))] for lane in dealt]
    return [np.concatenate(lane) if lane else np.empty(0, np.int64) for lane in mixed]


def _interleaved(lanes: list[Rows], rng: np.random.Generator) -> Rows:
    """Lanes as one row: each in its own order, spread evenly, so that all end together."""
    keys = [(np.arange(len(lane)) + rng.random()) / max(len(lane), 1) for lane in lanes]
    return np.concatenate(lanes)[np.argsort(np.concatenate(keys), kind="stable")]


def _drawn(rows: Rows, count: int, rng: np.random.Generator) -> Rows:
    """So many of the rows, each as often as the others or once more."""
    if not len(rows):
        return rows
    whole, rest = divmod(count, len(rows))
    return np.concatenate([np.tile(rows, whole), rng.permutation(rows)[:rest]])


def _few_of_each(rows: Rows, place: Rows, count: int) -> Rows:
    """The first so many rows of each place."""
    order = np.argsort(place[rows], kind="stable")
    sorted_places = place[rows][order]
    starts = np.concatenate([[0], np.flatnonzero(np.diff(sorted_places)) + 1])
    rank = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
    return np.asarray(rows[order[rank < count]])
