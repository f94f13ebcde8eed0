"""Floor, xglof and peers in one run: a process each, warmed up once, taking turns."""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from _segment.contenders import FLOORS, OURS, PEERS, Contender, IncomparableError, counted, windows_of_blocks
from _segment.memory import MIB, forget_peak, peak
from _segment.raster import write_archive
from _segment.report import Section, table
from _segment.settings import Settings, find_spec
from xglof.engine.lattice import stride_of

_TIMES = (
    "contender", "median s", "min-max s", "× floor", "× floor and halo", "ms a window", "windows/s", "Mpx/s",
)  # fmt: skip
_COUNTS = (
    "contender", "windows run", "of its blocks", "halo factor", "by formula", "input MiB", "peak MiB",
    "peak of GPU MiB",
)  # fmt: skip
_EXPLAINED = """\
Times are from {repeats} interleaved repeats, each contender in a process of its own after one warm-up;
the number of blocks is in brackets.

- **floor**: forward passes over the {ideal} windows of the lattice that cover the raster, already
  standardised, cut and on the device; nothing else.{floor}
- **× floor**: ratio of medians. **× floor and halo**: the same over the halo factor as well, which is
  what remains beside the windows that blocks have in common with their neighbours.
- **windows run**: counted at the network, with those that fill up a last batch; **ms a window** and
  **windows/s** are of these. **of its blocks**: the windows that touch each block, summed; the **halo
  factor** is their ratio to {ideal} (that of the windows run where there are no blocks). **by
  formula**: ((C + W - S) / C)² for the largest block (C), W = {window}, S = {stride}; it counts no
  overhang of the raster and no narrow last block.
- **input**: what lies in memory before the timing begins: a cube of uint16 and float32 for xglof, one
  standardised float32 array for the peers, the windows themselves for the floor. **peak**: most
  resident memory above the libraries and the network, input included; of a GPU what torch allocated,
  network included.
- The peers get the raster standardised and padded to the lattice, so that they run the same windows;
  xglof standardises, marks what is unobserved and takes the sigmoid within its time. From COGs to Zarr
  it also searches the catalogue, mosaics, masks and computes terrain shadow; its files lie in the page
  cache.
- Pixels are made up (every window is observed). {caveat}"""


@dataclass(slots=True)
class Measured:
    """A contender's figures; ``seconds`` grow by one a round."""

    title: str
    counted: int
    blocks: list[list[int]] | None
    input_bytes: int
    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    gpu_bytes: int | None = None


# --- in the process of a contender -------------------------------------------------------------------------

_held: list[tuple[Contender, int]] = []  # the contender of this process, and the memory before its input


def _begin(title: str, settings: Settings) -> Measured:
    """Import, load the network and the input, and run once, counting the windows."""
    import torch

    contender = {**FLOORS[settings.kind], **OURS, **PEERS}[title](settings)
    torch.set_float32_matmul_precision("highest")  # importing terratorch lowers it: all do the same work
    base = forget_peak()
    size = contender.load()
    with counted(contender.network) as batches:
        contender.run()
    contender.rest()
    _held.append((contender, base))
    return Measured(
        title=title,
        counted=sum(batches),
        blocks=contender.blocks(),
        input_bytes=size,
    )


def _run() -> float:
    """Seconds of one run."""
    contender = _held[0][0]
    contender.wake()
    begin = time.perf_counter()
    contender.run()
    seconds = time.perf_counter() - begin
    contender.rest()
    return seconds


def _end() -> tuple[int, int | None]:
    """Peak above the libraries and the network, and of the GPU, bytes."""
    import torch

    gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else None
    return peak() - _held[0][1], gpu


# --- in the process of the command -------------------------------------------------------------------------


def own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a fresh process."""
    with _process() as process:
        return process.submit(function, *arguments).result()


def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def compare(settings: Settings, *, peers: bool, repeats: int, only: Sequence[str] = ()) -> Section:
    """Run every contender and tell.

    Parameters
    ----------
    settings
        Without a folder: a temporary one is made.
    peers
        Run terratorch and MONAI as well; one that is not installed, or that would run other windows, gets a
        row that says so.
    repeats
        Timed runs of each contender.
    only
        Beside the floor, only contenders whose title has one of these in it; all where none is given.
    """
    with tempfile.TemporaryDirectory(prefix="xglof-benchmark-") as folder, ExitStack() as stack:
        settings = replace(settings.resolved(), folder=Path(folder))
        others = [title for title in (*OURS, *(PEERS if peers else ()))
                  if not only or any(word in title for word in only)]  # fmt: skip
        write_archive(settings)
        measured: list[Measured] = []
        processes: list[ProcessPoolExecutor] = []
        absent: list[tuple[str, str]] = []
        for title in (*FLOORS[settings.kind], *others):
            _say(f"{title}: warming up")
            process = stack.enter_context(_process())
            try:
                measured.append(process.submit(_begin, title, settings).result())
                processes.append(process)
            except ModuleNotFoundError as error:
                if title not in PEERS:
                    raise
                absent.append((title, f"absent: {error}"))
            except IncomparableError as error:
                absent.append((title, f"refused: {error}"))
        _take_turns(measured, processes, repeats)
    return _section(settings, measured, absent, repeats)


def _take_turns(measured: list[Measured], processes: list[ProcessPoolExecutor], repeats: int) -> None:
    """One run of each, again and again, so that a noisy moment hits all."""
    for number in range(repeats):
        for one, process in zip(measured, processes, strict=True):
            one.seconds.append(process.submit(_run).result())
            _say(f"round {number + 1} of {repeats}, {one.title}: {one.seconds[-1]:.2f} s")
    for one, process in zip(measured, processes, strict=True):
        one.peak_bytes, one.gpu_bytes = process.submit(_end).result()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _section(
    settings: Settings, measured: list[Measured], absent: list[tuple[str, str]], repeats: int
) -> Section:
    floors = [one for one in measured if one.title in FLOORS[settings.kind]]
    floor = min(floors, key=lambda one: statistics.median(one.seconds))
    seconds = statistics.median(floor.seconds)
    times = [_times(settings, one, seconds) for one in measured]
    times += [(title, why, *[""] * (len(_TIMES) - 2)) for title, why in absent]
    counts = [_counts(settings, one) for one in measured]
    spec = find_spec(settings.model)
    faster = f" Of the two ways, the floor is the faster: {floor.title.removeprefix('floor, ')}."
    notes = _EXPLAINED.format(
        repeats=repeats,
        ideal=settings.ideal_windows(),
        floor=faster if len(floors) > 1 else "",
        window=spec.window,
        stride=stride_of(spec.window, settings.overlap),
        caveat=f"{spec.name}: {spec.caveat}." if spec.caveat else "",
    )
    facts = f"One date, overlap {settings.overlap:g}, batch {settings.batch}, device `{settings.device}`."
    parts = (facts, table(_TIMES, times), table(_COUNTS, counts), notes)
    heading = f"Against the floor and peers: {settings.model}, {settings.side} px, {settings.kind.upper()}"
    return Section(heading, "\n\n".join(parts))


def _halo(settings: Settings, one: Measured) -> float:
    """Windows of the blocks, or where there are none those that were run, over the ideal windows."""
    number = windows_of_blocks(settings.axes(), one.blocks) if one.blocks else one.counted
    return number / settings.ideal_windows()


def _times(settings: Settings, one: Measured, floor: float) -> tuple[str, ...]:
    median = statistics.median(one.seconds)
    blocks = f" ({len(one.blocks[0]) * len(one.blocks[1])})" if one.blocks else ""
    return (
        one.title + blocks,
        f"{median:.2f}",
        f"{min(one.seconds):.2f}-{max(one.seconds):.2f}",
        f"{median / floor:.3f}",
        f"{median / floor / _halo(settings, one):.3f}",
        f"{1000 * median / one.counted:.2f}" if one.counted else "not counted",
        f"{one.counted / median:.1f}" if one.counted else "not counted",
        f"{settings.side**2 / median / 1e6:.3f}",
    )


def _counts(settings: Settings, one: Measured) -> tuple[str, ...]:
    windows, formula, axes = "", "", settings.axes()
    if one.blocks:
        side = max(one.blocks[0])
        windows = f"{windows_of_blocks(axes, one.blocks)}"
        formula = f"{((side + axes[0].window - axes[0].stride) / side) ** 2:.3f}"
    return (
        one.title,
        f"{one.counted}" if one.counted else "not counted",
        windows,
        f"{_halo(settings, one):.3f}",
        formula,
        f"{one.input_bytes / MIB:.0f}",
        f"{one.peak_bytes / MIB:.0f}",
        "" if one.gpu_bytes is None else f"{one.gpu_bytes / MIB:.0f}",
    )
