"""Memory of an epoch by the size of the store, with a small cache."""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from _segment.compare import own_process
from _segment.memory import MIB, forget_peak, peak
from _segment.report import Section, table

from _sampling.contenders import BATCH
from _sampling.store import Store, write_store

_SIDE_PX = 2016
_PIXEL_BYTES = 12 * 2 + 2 * 4 + 1  # of a date: Sentinel-2, Sentinel-1 and the label
_HEADER = (
    "store", "MiB decoded", "× cache", "chips", "chips/s", "blocks read again", "peak of the index MiB",
    "peak of the first tenth MiB", "peak of the rest MiB",
)  # fmt: skip
_EXPLAINED = """\
Each store in a process of its own. The dataset holds {cache:.0f} MiB of stored blocks; a store of
{most:g} times that stands for a cube of as many times a machine's memory. Peaks are of resident
memory above the libraries: while the index is made, in the first tenth of an epoch, and in the rest of
it, which must not be more. Chips of 224 pixels, stride 224, batches of {batch}, two threads. **Blocks
read again**: reads of an epoch over the stored blocks that it needs, less one."""


@dataclass(frozen=True, slots=True)
class Point:
    """What one store took."""

    dates: int
    chips: int
    seconds: float
    again: float
    index_bytes: int
    first_bytes: int
    rest_bytes: int


def memory(cache_gb: float, times: Sequence[float], chunk: int) -> Section:
    """Peaks over stores of several times the cache."""
    cache, points = round(cache_gb * 1e9), []
    date_bytes = _SIDE_PX**2 * _PIXEL_BYTES
    for factor in times:
        print(f"{factor:g} caches", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="xglof-benchmark-") as folder:
            store = Store(Path(folder), _SIDE_PX, chunk, math.ceil(factor * cache / date_bytes))
            write_store(store)
            points.append(own_process(_measure, store, cache))
    rows = []
    for p in points:
        size = p.dates * date_bytes
        peaks = (f"{each / MIB:.0f}" for each in (p.index_bytes, p.first_bytes, p.rest_bytes))
        rates = f"{p.chips}", f"{p.chips / p.seconds:.0f}", f"{p.again:.1%}"
        title = f"{p.dates} x {_SIDE_PX} x {_SIDE_PX}"
        rows.append((title, f"{size / MIB:.0f}", f"{size / cache:.1f}", *rates, *peaks))
    notes = _EXPLAINED.format(cache=cache / MIB, most=max(times), batch=BATCH)
    return Section(
        "Chips for training: memory by the size of the store", f"{table(_HEADER, rows)}\n\n{notes}"
    )


def _measure(store: Store, cache: int) -> Point:
    from xglof.train import reader
    from xglof.train.loader import ChipLoader
    from xglof.train.sampling import chips

    cube, label = store.open()
    chips(cube.isel(time=[0]), label=label, stride=224)  # loads what is imported on the way
    reads, own = [], reader.Group.read

    def counted(group: reader.Group, block: tuple[int, ...], *rest: object) -> reader.Arrays:
        arrays = own(group, block, *rest)  # type: ignore[arg-type]
        reads.append((tuple(group.edges), block, *arrays))
        return arrays

    base = forget_peak()
    source = chips(cube, label=label, stride=224, cache_bytes=cache)
    index_bytes = peak() - base
    forget_peak()
    reader.Group.read = counted  # type: ignore[assignment,method-assign]
    loader = ChipLoader(source, batch_size=BATCH, balance=None)
    begin, first = time.perf_counter(), 0
    for number, _ in enumerate(loader.batches(0)):
        if number == len(loader) // 10:
            first = peak() - base
            forget_peak()
    seconds = time.perf_counter() - begin
    again = len(reads) / len(set(reads)) - 1
    return Point(store.dates, len(source), seconds, again, index_bytes, first, peak() - base)
