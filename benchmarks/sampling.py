"""Chips a second from a stored cube: xglof against the floor, xbatcher and torchgeo; and memory.

::

    python benchmarks/sampling.py [--side 2016] [--chunk 504] [--dates 3] [--stride 224 112] [--repeats 5]
    python benchmarks/sampling.py --memory [--cache 0.25] [--times 2 10]

``--write docs/performance.md`` puts the tables there, in the place of those of earlier runs. xbatcher and
torchgeo are left out where they are not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from _sampling.contenders import BATCH, CONTENDERS, SIDE_PX, Turn
from _sampling.memory import memory
from _sampling.store import Store, write_store
from _segment.compare import _process
from _segment.report import Section, table, tell

_HEADER = ("contender", "chips/s", "min-max", "× xbatcher", "share of the floor", "CPU ms a chip")
_EXPLAINED = """\
Medians of {repeats} interleaved turns, each contender in a process of its own after a first turn that is
not counted. The store is what `write_zarr` makes by default: {dates} dates of {side} x {side} pixels in
blocks of {chunk} pixels, 15 bands and a label, made-up pixels that hardly compress, in the page cache. A
chip is {px} x {px} pixels of all of them. At stride {px} a stored pixel is in one chip, so the chips are the
bytes that are stored; at less it is in several, and the floor, which decodes each block once, cuts none.

- **floor**: zarr reads and decodes every stored block once, by two threads, and does nothing with it.
- **xglof ChipLoader**: an epoch in batches of {batch}, shuffled, by two threads, into tensors of the cube's
  own types; **standardised**: as the network takes them.
- **xbatcher**: patches in the order of the grid, which is the fastest it has; and shuffled, by a DataLoader
  with two worker processes. It decodes the blocks of a patch again for every patch.
- **torchgeo**: its sampler over a dataset of ours that reads each query through xarray, by a DataLoader with
  two workers; and its own XarrayDataset, which merges and warps whole rasters for each query.
- **× xbatcher**: over the faster of its two. A turn of a peer ends after 10 s; the CPU time of worker
  processes is not counted."""


def main() -> None:
    """Run what is asked for, print its tables, and write them where that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--side", type=int, default=2016, help="of the raster, pixels")
    parser.add_argument("--chunk", type=int, default=504, help="side of a stored block, pixels")
    parser.add_argument("--dates", type=int, default=3)
    parser.add_argument("--stride", type=int, nargs="+", default=[224, 112])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=[], help="beside the floor, contenders with such a word")
    parser.add_argument("--memory", action="store_true", help="peak memory by the size of the store")
    parser.add_argument("--cache", type=float, default=0.25, help="of --memory: GB of blocks held")
    parser.add_argument(
        "--times", type=float, nargs="+", default=[2, 10], help="of --memory: stores, in caches"
    )
    parser.add_argument("--write", type=Path, help="Markdown file to put the tables in")
    arguments = parser.parse_args()
    if arguments.memory:
        sections = [memory(arguments.cache, arguments.times, arguments.chunk)]
    else:
        sections = speed(arguments)
    tell(sections, arguments.write)


def speed(arguments: argparse.Namespace) -> list[Section]:
    """Chips a second, a section a stride."""
    with tempfile.TemporaryDirectory(prefix="xglof-benchmark-") as folder:
        store = Store(Path(folder), arguments.side, arguments.chunk, arguments.dates)
        write_store(store)
        return [
            Section(
                f"Chips for training: stride {stride}, blocks of {store.chunk} px",
                _measured(store, stride, arguments) + "\n\n" + _explained(store, arguments),
            )
            for stride in arguments.stride
        ]


def _explained(store: Store, arguments: argparse.Namespace) -> str:
    return _EXPLAINED.format(
        repeats=arguments.repeats,
        dates=store.dates,
        side=store.side,
        chunk=store.chunk,
        px=SIDE_PX,
        batch=BATCH,
    )


def _measured(store: Store, stride: int, arguments: argparse.Namespace) -> str:
    turns: dict[str, list[Turn]] = {}
    with ExitStack() as stack:
        processes = {}
        for number, (title, function, package) in enumerate(CONTENDERS):
            wanted = not arguments.only or any(word in title for word in arguments.only)
            if (wanted or not number) and (package is None or importlib.util.find_spec(package)):
                processes[title] = stack.enter_context(_process()), function
        for turn in range(arguments.repeats + 1):
            for title, (process, function) in processes.items():
                if turn > 1 and turns[title][0].chips < BATCH:
                    continue  # one turn of what takes half a minute a chip says enough
                print(f"stride {stride}, turn {turn}, {title}", file=sys.stderr, flush=True)
                done = process.submit(function, store, stride, turn).result()
                if turn:
                    turns.setdefault(title, []).append(done)
    return _table(turns)


def _table(turns: dict[str, list[Turn]]) -> str:
    rates = {title: [each.chips / each.seconds for each in done] for title, done in turns.items()}
    medians = {title: statistics.median(each) for title, each in rates.items()}
    floor = next(iter(medians.values()))
    peers = [rate for title, rate in medians.items() if title.startswith("xbatcher")]
    rows: list[Sequence[str]] = []
    for title, rate in medians.items():
        cpu = statistics.median(each.cpu_seconds / each.chips for each in turns[title]) * 1e3
        over = f"{rate / max(peers):.1f}" if peers else "-"
        row = (title, f"{rate:.4g}", f"{min(rates[title]):.4g}-{max(rates[title]):.4g}", over)
        rows.append((*row, f"{rate / floor:.0%}", f"{cpu:.2f}" if "workers" not in title else "-"))
    return table(_HEADER, rows)


if __name__ == "__main__":
    main()
