"""Rules by which a place on the earth belongs to training, validation or test."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from xglof.errors import TrainError
from xglof.train.ground import latitude_at, northing_m, parallel_radius_m, places_of

if TYPE_CHECKING:
    import pandas

Bool = NDArray[np.bool_]
Float = NDArray[np.float64]
Whole = NDArray[np.int64]
Words = NDArray[np.object_]

FOLDS = ("train", "val", "test")
DROPPED = "dropped"
_CELLS = 2**32  # more than any band has
_STEPS = 8  # a side of a chip, where chips that are not known are looked for around it
#: One world for all sources, or another one for each (simulated valleys, whose places mean nothing).
Ground = Literal["shared", "separate"]


class Scheme(Protocol):
    """A rule that gives folds."""

    name: ClassVar[str]
    #: Whether chips are dropped so that no lake lies in two folds.
    whole_lakes: ClassVar[bool]

    @property
    def ground(self) -> Ground:
        """Whether places of different sources lie in one world."""

    @property
    def apart_m(self) -> float:
        """Least distance between footprints of different folds, m."""

    def folds(self, index: pandas.DataFrame) -> Words:
        """A fold, or "dropped", for every row of an index of chips."""

    def may_train_on(self, index: pandas.DataFrame) -> Bool:
        """Whether any chip as large as a row's, sides north and east, could meet it and be in train.

        Never False where one could.
        """


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks of equal size on the ellipsoid; see :meth:`xglof.train.splits.Split.blocks`."""

    name: ClassVar[str] = "ellipsoid-v1"
    whole_lakes: ClassVar[bool] = True
    ground: ClassVar[Ground] = "shared"
    block_m: float = 20_000.0
    buffer_m: float = 5_000.0
    salt: str = "xglof-blocks-v1"
    shares: tuple[int, ...] = (80, 10, 10)

    def __post_init__(self) -> None:
        for field in ("block_m", "buffer_m"):
            object.__setattr__(self, field, float(getattr(self, field)))
        object.__setattr__(self, "shares", tuple(self.shares))
        if not (0 < self.block_m <= 1_000_000 and 0 <= self.buffer_m < self.block_m):
            raise TrainError(
                f"block_m is {self.block_m:g} and buffer_m {self.buffer_m:g}; expected a block of at most "
                "1000 km and a buffer smaller than it"
            )
        whole = all(float(share).is_integer() for share in self.shares)  # NaN is none
        if len(self.shares) != 3 or not whole or sum(self.shares) != 100 or min(self.shares) < 0:
            raise TrainError(
                f"shares is {self.shares}; expected whole percents of train, val and test that sum to 100"
            )
        object.__setattr__(self, "shares", tuple(map(int, self.shares)))

    @property
    def apart_m(self) -> float:
        """The buffer, m."""
        return self.buffer_m

    def folds(self, index: pandas.DataFrame) -> Words:
        """A fold, or "dropped", for every row: of its longitude, latitude and side only."""
        first, place = places_of(index, ["longitude", "latitude", "side_m"])
        longitude, latitude, side_m = (first[name].to_numpy(np.float64) for name in first)
        fold, lost = self._folds_at(longitude, latitude, self._reach(side_m))
        found = np.array(FOLDS, object)[fold]
        found[lost] = DROPPED
        return np.asarray(found[place])

    def may_train_on(self, index: pandas.DataFrame) -> Bool:
        """Whether a chip of training could meet each row; in doubt by an eighth of its side, it could.

        Centres are tried in steps. What is kept between two blocks may be as narrow as a slot, so they are
        tried with a reach that is shorter by half the diagonal of a step: a centre that is kept with the
        whole reach then has one beside it that is kept with the shorter.
        """
        first, place = places_of(index, ["longitude", "latitude", "side_m"])
        longitude, latitude, side_m = (first[name].to_numpy(np.float64) for name in first)
        step_m = _bent(side_m, latitude) / _STEPS
        reach = self._reach(side_m) - step_m * math.sqrt(2) / 2
        # around a pole parallels are no lines: there, anything could be
        met = (step_m * _STEPS > (1 + 1 / _STEPS) * side_m) & (self.shares[0] > 0)
        for north in range(-_STEPS, _STEPS + 1):
            there = latitude_at(northing_m(latitude) + north * step_m)
            degrees = np.degrees(step_m / np.maximum(parallel_radius_m(there), 1.0))
            for east in range(-_STEPS, _STEPS + 1):
                rest = np.flatnonzero(~met)
                turned = longitude[rest] + east * degrees[rest]
                fold, lost = self._folds_at(turned, there[rest], reach[rest])
                met[rest] = (fold == 0) & ~lost
        return np.asarray(met[place])

    def _reach(self, side_m: Float) -> Float:
        """How far from its centre a square wants no other fold, m: the circle around it, and half the buffer.

        Whichever way its raster is turned, a square lies in that circle.
        """
        reach = self.buffer_m / 2 + side_m / math.sqrt(2)
        if reach.size and 2 * reach.max() >= self.block_m:
            raise TrainError(
                f"blocks of {self.block_m:g} m have no room for chips of {side_m.max():g} m and a buffer of "
                f"{self.buffer_m:g} m; take block_m above {2 * reach.max():.0f}"
            )
        return np.asarray(reach)

    def _folds_at(self, longitude: Float, latitude: Float, reach: Float) -> tuple[Whole, Bool]:
        """Number of the fold of the block that each place lies in, and whether another is within reach."""
        north, east = northing_m(latitude), np.mod(longitude, 360)
        band = np.floor(north / self.block_m).astype(np.int64)
        least_radius = parallel_radius_m(latitude_at(np.abs(north) + reach))
        blocks, near = [], []
        for step, away_m in (
            (0, 0.0),
            (-1, north - band * self.block_m),
            (1, (band + 1) * self.block_m - north),
        ):
            cell, count = self._cells(band + step, east)
            width = 360 / count
            for turn, degrees in ((0, 0.0), (-1, east - cell * width), (1, (cell + 1) * width - east)):
                blocks.append(_key(band + step, (cell + turn) % count))
                # no path there is shorter: it goes this far north, and this far east on no smaller a circle
                near.append(np.hypot(away_m, least_radius * np.radians(degrees)) < reach)
        fold = self._hashed(np.stack(blocks))
        return fold[0], (np.stack(near) & (fold != fold[0])).any(axis=0)

    def _cells(self, band: Whole, east: Float) -> tuple[Whole, Whole]:
        """The block of a band that longitudes (0 to 360) lie in, and how many the band has."""
        bands, back = np.unique(band, return_inverse=True)
        edge = np.maximum(np.abs(bands), np.abs(bands + 1)) * self.block_m
        narrowest = 2 * np.pi * parallel_radius_m(latitude_at(edge))
        count = np.maximum(narrowest // self.block_m, 1).astype(np.int64)[back]
        return np.minimum(east // (360 / count), count - 1).astype(np.int64), count

    def _hashed(self, blocks: Whole) -> Whole:
        """Number of the fold of each block."""
        keys, back = np.unique(blocks, return_inverse=True)
        ends = np.cumsum(self.shares)[:2]
        names = zip((keys // _CELLS).tolist(), (keys % _CELLS).tolist(), strict=True)
        numbers = np.array([bucket(hashlib.sha256, f"{self.salt}|{b}|{c}") for b, c in names], np.int64)
        return np.asarray(np.searchsorted(ends, numbers, side="right")[back].reshape(blocks.shape))


def _key(band: Whole, cell: Whole) -> Whole:
    return band * _CELLS + cell


@dataclass(frozen=True, slots=True)
class CryoSentinelBlocks:
    """Blocks of equal degrees, as published; see :meth:`xglof.train.splits.Split.cryosentinel`."""

    name: ClassVar[str] = "cryosentinel-v1"
    whole_lakes: ClassVar[bool] = False
    ground: ClassVar[Ground] = "shared"
    block_deg: float = 0.15
    buffer_deg: float = 0.02
    salt: str = "cryosentinel-blocks-v1"

    def __post_init__(self) -> None:
        for field in ("block_deg", "buffer_deg"):
            object.__setattr__(self, field, float(getattr(self, field)))
        if not (1e-3 <= self.block_deg <= 180 and 0 <= self.buffer_deg < self.block_deg / 2):
            raise TrainError(
                f"block_deg is {self.block_deg:g} and buffer_deg {self.buffer_deg:g}; expected blocks of "
                "0.001 to 180 degrees and a buffer below half the block"
            )

    @property
    def apart_m(self) -> float:
        """0: the scheme promises no distance in metres, only that footprints do not meet."""
        return 0.0

    def folds(self, index: pandas.DataFrame) -> Words:
        """A fold, or "dropped", for every row: of its longitude and latitude only."""
        first, place = places_of(index, ["latitude", "longitude"])
        centre = first.to_numpy(np.float64)
        size = self.block_deg
        # float64 operations in the published order: others would move chips that lie on an edge
        within = np.mod(centre / size, 1.0)
        edge = np.minimum(within, 1.0 - within) * size
        fold = np.array(FOLDS, object)[self._hashed(np.floor(centre / size).astype(np.int64))]
        fold[(edge < self.buffer_deg).any(axis=1)] = DROPPED
        return np.asarray(fold[place])

    def may_train_on(self, index: pandas.DataFrame) -> Bool:
        """Whether a chip of training could meet each row: from what the blocks around it keep."""
        first, place = places_of(index, ["latitude", "longitude", "side_m"])
        latitude, longitude, side_m = (first[name].to_numpy(np.float64) for name in first)
        away = _bent(side_m, latitude)
        north = latitude_at(northing_m(latitude) + away) - latitude
        south = latitude - latitude_at(northing_m(latitude) - away)
        radius = parallel_radius_m(np.minimum(np.abs(latitude) + np.maximum(north, south), 90.0))
        east = np.degrees(away / np.maximum(radius, away / math.pi))
        rows = list(self._kept_near(latitude, south, north, (-90.0, 90.0)))
        met = np.zeros(len(first), bool)
        for turn in (-360.0, 0.0, 360.0):
            for column, in_columns in self._kept_near(longitude + turn, east, east, (-180.0, 180.0)):
                for row, in_rows in rows:
                    here = np.flatnonzero(in_columns & in_rows & ~met)
                    met[here] = self._hashed(np.column_stack([row[here], column[here]])) == 0
        return np.asarray(met[place])

    def _kept_near(
        self, centre: Float, before: Float, after: Float, bounds: tuple[float, float]
    ) -> Iterator[tuple[Whole, Bool]]:
        """Numbers of blocks along an axis near to places, one by one, and whether what each keeps is within.

        What a block keeps for centres is itself less the buffer, as far as the earth has such coordinates.
        """
        first = np.floor((centre - before) / self.block_deg).astype(np.int64)
        last = np.floor((centre + after) / self.block_deg).astype(np.int64)
        for step in range(int((last - first).max(initial=-1)) + 1):
            number = first + step
            low = np.maximum(number * self.block_deg + self.buffer_deg, bounds[0])
            high = np.minimum((number + 1) * self.block_deg - self.buffer_deg, bounds[1])
            yield number, (low <= high) & (low < centre + after) & (high > centre - before)

    def _hashed(self, cells: Whole) -> Whole:
        """Number of the fold of blocks, from their rows and columns."""
        blocks, home = np.unique(_key(cells[:, 0], cells[:, 1] + _CELLS // 2), return_inverse=True)
        names = zip((blocks // _CELLS).tolist(), (blocks % _CELLS - _CELLS // 2).tolist(), strict=True)
        numbers = np.array([bucket(hashlib.sha1, f"{self.salt}|{b}|{c}") for b, c in names], np.int64)
        return np.asarray(np.searchsorted([80, 90], numbers, side="right")[home])


@dataclass(frozen=True, slots=True)
class Given:
    """Folds that are known; see :meth:`xglof.train.splits.Split.given`."""

    name: ClassVar[str] = "given-v1"
    whole_lakes: ClassVar[bool] = False
    given: tuple[str, ...]
    sources: tuple[str, ...] = ()
    ground: Ground = "shared"
    buffer_m: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "given", tuple(self.given))
        object.__setattr__(self, "sources", tuple(map(str, self.sources)))
        object.__setattr__(self, "buffer_m", float(self.buffer_m))
        strange = sorted(set(self.given) - {*FOLDS, DROPPED})
        if strange or not self.given:
            raise TrainError(
                f"the given folds are {', '.join(map(repr, strange)) or 'none'}; expected one of "
                f"{', '.join(map(repr, (*FOLDS, DROPPED)))} for every source"
            )
        if self.sources and len(self.sources) != len(self.given):
            raise TrainError(
                f"{len(self.given)} folds came with {len(self.sources)} names of sources; expected one each"
            )
        if self.ground not in ("shared", "separate"):
            raise TrainError(f"ground is {self.ground!r}; expected 'shared' or 'separate'")
        if not 0 <= self.buffer_m < math.inf:
            raise TrainError(f"buffer_m is {self.buffer_m:g}; expected metres, 0 or more")

    @property
    def apart_m(self) -> float:
        """The buffer that the folds are said to keep, m."""
        return self.buffer_m

    def folds(self, index: pandas.DataFrame) -> Words:
        """The fold of every row's source."""
        source = index["source"].to_numpy(np.int64)
        if source.size and not 0 <= source.min() <= source.max() < len(self.given):
            raise TrainError(
                f"the index has chips of source {source.max()}, but folds were given for {len(self.given)} "
                "sources, counted from 0; give one for each"
            )
        return np.asarray(np.array(self.given, object)[source])

    def may_train_on(self, index: pandas.DataFrame) -> Bool:
        """True everywhere where a source is training: where it lies is not known."""
        return np.full(len(index), "train" in self.given)


@dataclass(frozen=True, slots=True)
class Published:
    """Folds that came with the chips; see :meth:`xglof.train.splits.Split.published`."""

    name: ClassVar[str] = "published-v1"
    whole_lakes: ClassVar[bool] = False
    ground: ClassVar[Ground] = "shared"
    apart_m: ClassVar[float] = 0.0

    def folds(self, index: pandas.DataFrame) -> Words:
        """The word of ``published_split`` in every row; "dropped" where it is no fold."""
        if "published_split" not in index:
            raise TrainError(
                "the index has no published_split, which the folds of this scheme are; read Parquet shards, "
                "or choose another scheme"
            )
        words = index["published_split"].to_numpy(object)
        return np.asarray(np.where(np.isin(words, FOLDS), words, DROPPED), object)

    def may_train_on(self, index: pandas.DataFrame) -> Bool:
        """True everywhere: where the chips of training lie is not known."""
        return np.full(len(index), True)


def _bent(side_m: Float, latitude: Float) -> Float:
    """How far along a meridian a square may begin that meets one at a latitude, m.

    Squares are compared where north is up at the centre; a parallel bends away from there by half of
    ``side_m**2`` over its radius at most.
    """
    return np.asarray(side_m * (1 + side_m / np.maximum(parallel_radius_m(latitude), side_m)))


def bucket(algorithm: Any, key: str) -> int:
    """A number from 0 to 99 from the first 8 hexadecimal digits of a hash.

    Examples
    --------
    >>> bucket(hashlib.sha1, "cryosentinel-blocks-v1|286|513")
    68
    """
    return int(algorithm(key.encode()).hexdigest()[:8], 16) % 100


SCHEMES: Sequence[Any] = (Blocks, CryoSentinelBlocks, Given, Published)
