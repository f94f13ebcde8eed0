"""Lakes that share their water, added up across their exchanges: a split must not look like a drainage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bool = NDArray[np.bool_]
Whole = NDArray[Any]

#: Views after an exchange before the lakes that came out of it have baselines of their own.
OWN_BASELINE = 2


@dataclass(frozen=True, slots=True)
class Unit:
    """Lakes whose areas are followed as one sum over some dates.

    Attributes
    ----------
    lakes
        Indices along ``lake``.
    start, stop
        Dates over which no lake outside exchanges water with them.
    bridge
        First and last date of the views that only this sum can judge, around an exchange among the lakes;
        ``None`` for a lake followed alone.
    """

    lakes: tuple[int, ...]
    start: int
    stop: int
    bridge: tuple[int, int] | None = None


def place_seen(part_of: Whole, seen: Bool) -> Bool:
    """Whether the place of each lake was seen at each date, in its own area or its holder's."""
    return np.asarray(np.take_along_axis(seen, part_of.astype(np.int64), axis=0))


def exchanges(part_of: Whole) -> NDArray[np.int64]:
    """How many times a lake gained or lost kin up to each date, ``(lake, time)``."""
    found = np.zeros(part_of.shape, np.int64)
    for family in _families(part_of):
        groups = _groups(_within(part_of, family))
        changed = (groups[:, :, 1:] != groups[:, :, :-1]).any(axis=1)
        found[family, 1:] = np.cumsum(changed, axis=1)
    return found


def followed(part_of: Whole, seen: Bool) -> list[Unit]:
    """What is followed: every lake by itself between its exchanges, and sums of kin across them.

    Parameters
    ----------
    part_of
        ``(lake, time)``: index of the lake that holds a lake's place, itself where none does.
    seen
        ``(lake, time)``: there is an area.
    """
    lakes, dates = part_of.shape
    families = _families(part_of)
    kin = np.concatenate([np.zeros(0, np.int64), *families])
    units = [Unit((int(lake),), 0, dates) for lake in np.setdiff1d(np.arange(lakes), kin)]
    for family in families:
        holders = _within(part_of, family)
        views = seen[family] | (holders != np.arange(len(family))[:, None])
        for unit in (*_alone(holders), *_across(holders, views)):
            units.append(
                Unit(tuple(int(family[place]) for place in unit.lakes), unit.start, unit.stop, unit.bridge)
            )
    return units


def _families(part_of: Whole) -> list[NDArray[np.int64]]:
    """Lakes that are ever connected by holding one another, two or more at a time."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(part_of)
    lake, date = np.nonzero(part_of != np.arange(count)[:, None])
    links = coo_array((np.ones(lake.size), (lake, part_of[lake, date])), shape=(count, count))
    number, label = connected_components(links, directed=False)
    order = np.argsort(label, kind="stable")
    ends = np.cumsum(np.bincount(label, minlength=number))[:-1]
    return [family for family in np.split(order, ends) if family.size > 1]


def _within(part_of: Whole, family: NDArray[np.int64]) -> Whole:
    """``part_of`` of a family, as places in it (a family is in rising order)."""
    return np.searchsorted(family, part_of[family])


def _groups(holders: Whole) -> Bool:
    """``(holder, lake, time)``: who holds whom."""
    return np.asarray(holders[None] == np.arange(len(holders))[:, None, None])


def _alone(holders: Whole) -> Iterator[Unit]:
    """Runs of dates over which a lake holds the same places."""
    groups = _groups(holders)
    dates = holders.shape[1]
    for lake, held in enumerate(groups):
        cuts = np.flatnonzero((held[:, 1:] != held[:, :-1]).any(axis=0)) + 1
        for start, stop in zip([0, *cuts], [*cuts, dates], strict=True):
            if held[lake, start]:
                yield Unit(tuple(np.flatnonzero(held[:, start])), int(start), int(stop))


def _across(holders: Whole, views: Bool) -> Iterator[Unit]:
    """The sum of kin around every exchange."""
    dates = holders.shape[1]
    for date in np.flatnonzero((holders[:, 1:] != holders[:, :-1]).any(axis=0)) + 1:
        left = set(np.flatnonzero(holders[:, date] != holders[:, date - 1]).tolist())
        while left:
            kin, start = _kin_with_baseline(holders, views, left.pop(), int(date))
            left -= set(np.flatnonzero(kin).tolist())
            stop = next((at for at in range(date, dates) if not _closed(kin, holders[:, at])), dates)
            seen = date + np.flatnonzero(views[kin, date:stop].all(axis=0))
            last = seen[:OWN_BASELINE][-1] if seen.size >= OWN_BASELINE else stop - 1
            yield Unit(tuple(np.flatnonzero(kin)), start, int(stop), (int(date), int(last)))


def _kin_with_baseline(holders: Whole, views: Bool, lake: int, date: int) -> tuple[Bool, int]:
    """Lakes that exchange water with one at a date, and since when they do so with no others.

    Where that is too short for a baseline, those of the exchange before it are kin as well.
    """
    earliest = date - 1
    while True:
        kin = _connected(holders[:, earliest : date + 1], lake)
        start = next((at + 1 for at in range(earliest, -1, -1) if not _closed(kin, holders[:, at])), 0)
        if start == 0 or views[kin, start:date].all(axis=0).sum() >= OWN_BASELINE:
            return kin, start
        earliest = start - 1


def _connected(holders: Whole, lake: int) -> Bool:
    kin: Bool = np.arange(len(holders)) == lake
    while True:
        more: Bool = kin | kin[holders].any(axis=1)
        more[holders[more].ravel()] = True
        if (more == kin).all():
            return kin
        kin = more


def _closed(kin: Bool, holder: Whole) -> bool:
    """No lake among the kin is held from outside, none outside by the kin."""
    return bool((kin[holder] == kin).all())
