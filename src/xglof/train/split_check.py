"""Whether the folds of an index keep apart: distances along the ground, lakes, dates."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np

from xglof.errors import TrainError
from xglof.train.ground import Float, nearest_pair, pairs_within, places_of, squares_apart_m
from xglof.train.schemes import DROPPED, FOLDS, Bool, Scheme

if TYPE_CHECKING:
    import pandas

#: What a split can fail by: footprints too near, a lake in two folds, a place in two folds.
Failure = Literal["distance", "lakes", "places"]

_PLACE = ["longitude", "latitude", "side_m"]
_NOISE_M = 1e-3  # what a distance may be off by
_LISTED = 3


@dataclass(frozen=True, slots=True)
class Gap:
    """How far two folds are apart.

    Attributes
    ----------
    folds
        Their names.
    distance_m
        Smallest distance along the ground between a footprint of the one and one of the other, m; infinite
        where a fold is empty.
    chips
        ``chip_id`` (or row number) of those two.
    too_near
        Chips of both folds whose footprints are nearer to the other fold than they may.
    """

    folds: tuple[str, str]
    distance_m: float
    chips: tuple[str, str]
    too_near: int


@dataclass(frozen=True, slots=True)
class SplitReport:
    """What the folds of an index are, and what they share.

    Attributes
    ----------
    counts
        Chips by fold, "dropped" among them.
    places
        Different places by fold: dates of a place count once.
    gaps
        How far folds are apart, by pair. Footprints are squares whose sides run north and east: a raster that
        is turned may bring two of them nearer, by up to 21% of the sum of their sides. Empty where sources
        are worlds of their own.
    apart_m
        What the distances must not fall below, m; at 0 footprints must not meet.
    lakes
        Ids of lakes that chips of two folds touch.
    lakes_known
        Different lakes that chips of the folds touch, as far as ``lake_ids`` tell. At 0 they tell nothing: no
        lake is shared because none is known.
    chips_with_lakes
        Chips of the folds whose ``lake_ids`` name any.
    divided
        Places with chips in two folds, at different dates.
    problems
        What is wrong, in sentences by kind; empty where the split passes.
    """

    counts: Mapping[str, int]
    places: Mapping[str, int]
    gaps: tuple[Gap, ...]
    apart_m: float
    lakes: tuple[str, ...]
    lakes_known: int
    chips_with_lakes: int
    divided: int
    problems: Mapping[Failure, str]

    @property
    def passes(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def require(self, *, despite: Collection[Failure] = ()) -> None:
        """Refuse a split that fails.

        Parameters
        ----------
        despite
            Kinds of failure that are accepted, for a published split whose faults are known.

        Raises
        ------
        TrainError
            The folds are too near, or share a lake or a place.
        """
        wrong = [text for kind, text in self.problems.items() if kind not in despite]
        if wrong:
            raise TrainError(f"the split fails its check: {'; '.join(wrong)}")

    def __str__(self) -> str:
        total = max(sum(self.counts.values()), 1)
        lines = [f"{'fold':<8} {'chips':>9} {'share':>7} {'places':>9}"]
        for fold in (*FOLDS, DROPPED):
            share = self.counts[fold] / total
            lines.append(f"{fold:<8} {self.counts[fold]:>9} {share:>7.1%} {self.places[fold]:>9}")
        lines += ["", f"{'between':<14} {'nearest footprints':>19} {'too near':>9}"]
        for gap in self.gaps:
            far = "none" if math.isinf(gap.distance_m) else f"{gap.distance_m:,.0f} m"
            lines.append(f"{' and '.join(gap.folds):<14} {far:>19} {gap.too_near:>9}")
        if not self.gaps:
            lines.append("not measured: every source is a world of its own")
        lines += [
            "",
            f"lakes: {self._lakes()}",
            f"passes: {'yes' if self.passes else 'no'}",
            *(f"- {t}" for t in self.problems.values()),
        ]
        return "\n".join(lines)

    def _lakes(self) -> str:
        if not self.lakes_known:
            return "not known, so not compared"
        shared = f"{len(self.lakes)} shared" if self.lakes else "no lake shared"
        kept = sum(self.counts[fold] for fold in FOLDS)
        return f"{shared} among {self.lakes_known} lakes, which {self.chips_with_lakes} of {kept} chips touch"


def report(rule: Scheme, index: pandas.DataFrame) -> SplitReport:
    """The report on an index with folds; see :meth:`xglof.train.splits.Split.check`."""
    fold = index["fold"].astype(str)
    counts = {name: int((fold == name).sum()) for name in (*FOLDS, DROPPED)}
    worlds = ["source"] if rule.ground == "separate" else []
    sites = index.assign(fold=fold)[[*worlds, *_PLACE, "fold"]].drop_duplicates()
    kept = sites[sites["fold"] != DROPPED]
    divided = int((kept.groupby([*worlds, *_PLACE]).size() > 1).sum())
    gaps = (
        ()
        if worlds
        else tuple(_gap(index.assign(fold=fold), pair, rule.apart_m) for pair in combinations(FOLDS, 2))
    )
    named = _kept_lakes(index, fold, worlds)
    lakes = _shared(named, worlds)
    return SplitReport(
        counts=counts,
        places={name: int((sites["fold"] == name).sum()) for name in counts},
        gaps=gaps,
        apart_m=rule.apart_m,
        lakes=lakes,
        lakes_known=len(named[["lake", *worlds]].drop_duplicates()),
        chips_with_lakes=int(named.index.nunique()),
        divided=divided,
        problems=_problems(gaps, rule.apart_m, lakes, divided),
    )


def _gap(index: pandas.DataFrame, folds: tuple[str, str], apart_m: float) -> Gap:
    rows = [np.flatnonzero(index["fold"] == name) for name in folds]
    found = [places_of(index.iloc[each], _PLACE) for each in rows]
    squares = [sites.to_numpy(np.float64) for sites, _ in found]
    distance, *nearest = nearest_pair(squares[0], squares[1])
    names = index["chip_id"] if "chip_id" in index else index.index.to_series()
    chips = [
        str(names.iloc[each[np.flatnonzero(place == one)[0]]]) if math.isfinite(distance) else ""
        for each, (_, place), one in zip(rows, found, nearest, strict=True)
    ]
    too_near = 0
    if distance < _least(apart_m):
        sites_near = too_near_squares(squares[0], squares[1], apart_m)
        too_near = sum(int(near[place].sum()) for near, (_, place) in zip(sites_near, found, strict=True))
    return Gap(folds, distance, (chips[0], chips[1]), too_near)


def _least(apart_m: float) -> float:
    """What a measured distance must reach: at a buffer of 0, more than nothing."""
    return max(apart_m - _NOISE_M, _NOISE_M)


def too_near_squares(first: Float, second: Float, apart_m: float) -> tuple[Bool, Bool]:
    """Which squares of two groups are nearer to the other group than they may, or meet it where that is 0.

    Parameters
    ----------
    first, second
        ``(square, 3)`` as :func:`xglof.train.ground.squares_apart_m` takes them.
    apart_m
        Least distance, m.
    """
    ours, theirs = np.zeros(len(first), bool), np.zeros(len(second), bool)
    for one, other in pairs_within(first, second, apart_m):
        near = squares_apart_m(first[one], second[other]) < _least(apart_m)
        ours[one[near]] = theirs[other[near]] = True
    return ours, theirs


def _kept_lakes(index: pandas.DataFrame, fold: pandas.Series, worlds: list[str]) -> pandas.DataFrame:
    """A row a chip and lake that it touches: ``lake``, ``fold`` and the world; of the folds' chips only."""
    from xglof.train.splits import lakes_by_row

    named = lakes_by_row(index if "lake_ids" in index else index.assign(lake_ids=""))
    table = named.to_frame("lake").assign(fold=fold.to_numpy(object)[named.index])
    for name in worlds:
        table[name] = index[name].to_numpy()[named.index]
    return table[table["fold"] != DROPPED]


def _shared(table: pandas.DataFrame, worlds: list[str]) -> tuple[str, ...]:
    folds = table.groupby(["lake", *worlds])["fold"].nunique()
    return tuple(sorted({str(each) for each in folds[folds > 1].reset_index()["lake"]}))


def _problems(
    gaps: tuple[Gap, ...], apart_m: float, lakes: tuple[str, ...], divided: int
) -> dict[Failure, str]:
    problems: dict[Failure, str] = {}
    near = [gap for gap in gaps if gap.distance_m < _least(apart_m)]
    if near:
        worst = min(near, key=lambda gap: gap.distance_m)
        wanted = f"at least {apart_m:,.0f} m" if apart_m > 0 else "footprints that do not meet"
        problems["distance"] = (
            f"footprints of {worst.folds[0]} and {worst.folds[1]} are {worst.distance_m:,.0f} m apart "
            f"({worst.chips[0]} and {worst.chips[1]}), expected {wanted}; "
            f"{sum(gap.too_near for gap in near)} chips are too near"
        )
    if lakes:
        listed = ", ".join(lakes[:_LISTED]) + (", ..." if len(lakes) > _LISTED else "")
        problems["lakes"] = f"{len(lakes)} lakes lie in two folds ({listed})"
    if divided:
        problems["places"] = f"{divided} places have chips in two folds at different dates"
    return problems
