"""Tracking of lakes: seconds and memory to give ids to the polygons of many dates.

::

    python benchmarks/lake_tracking.py [--lakes 2084 --lakes 50000] [--dates 24] [--write REPORT]

Simulated lakes of 16 corners lie 400 m apart; from date to date their shores move by a pixel, they grow,
fall in two, join their neighbours, hide and come back, and some are seen in part. Each number of lakes runs
in a process of its own, so that a peak belongs to it. ``--write docs/performance.md`` puts the table there,
in the place of that of an earlier run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import shapely
from _segment.memory import MIB, forget_peak, peak
from _segment.report import Section, table, tell
from numpy.typing import NDArray

from xglof.lakes.tracking import track

_PIXEL_M = 10
_APART_PX = 40
_CORNER = np.array([300_000, 3_300_000])
_SHARES = {"hidden": 0.05, "partial": 0.1, "split": 0.02, "merge": 0.02}  # of the lakes, at every date
_HEADER = (
    "lakes of the place", "dates", "polygons", "seconds", "us a polygon", "polygons alone, MiB",
    "peak of the process, MiB", "ids", "ids per lake", "splits", "merges",
)  # fmt: skip
_EXPLAINED = """\
`track` of simulated lakes of 16 corners, {dates} dates: shores that move by a pixel, lakes that grow, and at
every date {hidden:.0%} hidden, {partial:.0%} seen in part, {split:.0%} in two, {merge:.0%} joined to a
neighbour. One run each, in a process of its own. **polygons alone**: what the process holds before, most of
it the polygons. **ids per lake**: 1 if nothing fell in two."""


def polygons_of(number: NDArray[np.int64], top: NDArray[Any], date: int, strips: slice) -> NDArray[Any]:
    """Lakes of four strips of pixels, or some of their strips, at one date."""
    random = np.random.default_rng([date, 7])
    low = random.integers(-1, 2, (len(top), 4))
    high = random.integers(-1, 2, (len(top), 4))
    left, right = 8 - date // 6 + low, 16 + number[:, None] % 5 + date // 3 + high
    rows = np.arange(5)[strips.start : strips.stop + 1] * 3
    sides = [np.repeat(edge[:, strips], 2, axis=1) for edge in (left, right)]
    heights = np.repeat(rows, 2)[1:-1]
    x = np.concatenate([sides[1], sides[0][:, ::-1], sides[1][:, :1]], axis=1)
    y = np.concatenate([heights, heights[::-1], heights[:1]])
    corners = _CORNER + np.stack([top[:, :1] + x, top[:, 1:] - y], axis=-1) * _PIXEL_M
    return np.asarray(shapely.polygons(corners))


def lakes_of(count: int, dates: int) -> geopandas.GeoDataFrame:
    """Polygons of all dates."""
    number = np.arange(count)
    side = int(np.ceil(np.sqrt(count)))
    top = np.column_stack([number % side, -(number // side)]) * _APART_PX
    frames = []
    for date in range(dates):
        draw = np.random.default_rng(date).random(count)
        fate = np.digitize(draw, np.cumsum([*_SHARES.values()]))
        hidden, partial, split, merge = (fate == place for place in range(len(_SHARES)))
        whole = polygons_of(number, top, date, slice(0, 4))
        with_next = np.flatnonzero(merge & (number % side < side - 1))
        whole[with_next] = shapely.union(whole[with_next], _channels(top[with_next]))
        joined = shapely.union(whole[with_next], whole[np.minimum(with_next + 1, count - 1)])
        single = shapely.get_type_id(joined) == 3
        whole[with_next[single]] = joined[single]
        gone = hidden.copy()
        gone[np.minimum(with_next[single] + 1, count - 1)] = True
        halves = [polygons_of(number, top, date, half)[split & ~gone] for half in (slice(0, 2), slice(2, 4))]
        halves[1] = shapely.transform(halves[1], lambda xy: xy - [0, _PIXEL_M])
        shapes = np.concatenate([whole[~gone & ~split], *halves])
        seen = np.concatenate([partial[~gone & ~split], np.zeros(len(shapes) - (~gone & ~split).sum(), bool)])
        time_ = np.full(len(shapes), np.datetime64("2020-07-01", "ns") + np.timedelta64(30 * date, "D"))
        frames.append({"time": time_, "touches_unobserved": seen, "geometry": shapes})
    columns = {name: np.concatenate([frame[name] for frame in frames]) for name in frames[0]}
    return geopandas.GeoDataFrame(columns, geometry="geometry", crs="EPSG:32645")


def _channels(top: NDArray[Any]) -> NDArray[Any]:
    """A strip of water from a lake to the one east of it."""
    west, north = (_CORNER + top * _PIXEL_M).T
    return np.asarray(shapely.box(west + 120, north - 40, west + 520, north - 20))


def measure(count: int, dates: int) -> None:
    """Track, and print what the table says of it."""
    lakes = lakes_of(count, dates)
    before = forget_peak()
    begin = time.perf_counter()
    tracked = track(lakes)
    seconds = time.perf_counter() - begin
    ids = tracked["lake_id"].nunique()
    events = tracked["event"].value_counts()
    print(len(lakes), seconds, before, peak(), ids, events.get("split", 0), events.get("merge", 0))


def compare(counts: list[int], dates: int) -> Section:
    """Track each number of lakes in a process of its own: a row each."""
    rows = []
    for count in counts:
        command = [sys.executable, __file__, "--measure", "--lakes", str(count), "--dates", str(dates)]
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)  # noqa: S603
        if done.returncode:
            raise SystemExit(f"the process of {count} lakes ended with {done.returncode}; see above")
        polygons, seconds, before, most, ids, splits, merges = map(float, done.stdout.split())
        figures = (f"{seconds:.1f}", f"{seconds / polygons * 1e6:.1f}", f"{before / MIB:.0f}")
        ends = (f"{most / MIB:.0f}", f"{ids:.0f}", f"{ids / count:.2f}", f"{splits:.0f}", f"{merges:.0f}")
        rows.append((str(count), str(dates), f"{polygons:.0f}", *figures, *ends))
    return Section("Tracking lakes", f"{table(_HEADER, rows)}\n\n{_EXPLAINED.format(dates=dates, **_SHARES)}")


def main() -> None:
    """Track what is asked for, print the table, and write it where that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--lakes", type=int, action="append", help="of the place; repeatable (2084, 50000)")
    parser.add_argument("--dates", type=int, default=24)
    parser.add_argument("--write", type=Path, help="Markdown file to put the table in")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    counts = arguments.lakes or [2084, 50_000]
    if min(*counts, arguments.dates, 1) < 1:
        parser.error("give at least one lake and one date")
    if arguments.measure:
        measure(counts[0], arguments.dates)
        return
    tell([compare(counts, arguments.dates)], arguments.write)


if __name__ == "__main__":
    main()
