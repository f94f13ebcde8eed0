"""Time from the start of a process to its first logits, for the demonstration model, on a CPU.

Two ways, each in fresh processes, by turns, after one of each that fills the disk cache and is not counted::

    python benchmarks/cold_start.py [--runs 3] [--way light --way full] [--write REPORT]

``light`` is what the package does: the spec's own factory. ``full`` builds the same network through
terratorch's ``EncoderDecoderFactory``. Both load the same weights and run 8 chips of 224 pixels with all
three modalities. Prints seconds until the logits are there, the peak memory of the process then, and the
ratio; ``--write docs/performance.md`` puts them there, in the place of those of an earlier run. terratorch
comes with ``pip install ".[benchmarks]"``.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _segment.memory import MIB, peak
from _segment.report import Section, table, tell

if TYPE_CHECKING:
    from torch import nn

WAYS = ("light", "full")
CHIPS = 8
_HEADER = ("way", "median s", "min s", "max s", "peak of the process, MiB")
_EXPLAINED = """\
Seconds from the start of a process to the logits of {chips} chips of 224 px, by `terramind-tiny-demo`
with all its modalities, on a CPU. The ways take turns; runs of each: {runs}, after one that fills the
disk cache. The peak is the median of theirs. **light**: the factory of the spec. **full**: the same
network and weights through terratorch's `EncoderDecoderFactory`."""


def through_terratorch(*, decoder_channels: int = 32, features: int = 16) -> nn.Module:
    """The network of ``xglof.models.terramind:tiny_demo``, its core built by terratorch."""
    from terratorch.models import EncoderDecoderFactory

    from xglof.models.terramind import TinyDemo

    core = EncoderDecoderFactory().build_model(
        task="segmentation",
        backbone="terramind_v1_tiny",
        backbone_pretrained=False,
        backbone_modalities=["S2L2A", "S1RTC", "DEM"],
        necks=[
            {"name": "SelectIndices", "indices": [2, 5, 8, 11]},
            {"name": "ReshapeTokensToImage", "remove_cls_token": False},
            {"name": "LearnedInterpolateToPyramidal"},
        ],
        decoder="UperNetDecoder",
        decoder_channels=decoder_channels,
        decoder_scale_modules=False,
        num_classes=features,
    )
    core.register_forward_hook(_tensor)
    return TinyDemo(core, features)


def _tensor(module: Any, given: Any, output: Any) -> Any:
    return output.output


def measure(way: str) -> None:
    """Load the network, run the chips, and print the peak memory of this process, bytes."""
    import torch

    from xglof.models.registry import TINY_DEMO

    spec = TINY_DEMO if way == "light" else replace(TINY_DEMO, factory="cold_start:through_terratorch")
    network = spec.load("cpu")
    chips = {source.modality: torch.zeros(CHIPS, len(source.bands), 224, 224) for source in spec.inputs}
    with torch.inference_mode():
        logits = network(chips)
    assert logits.shape == (CHIPS, 1, 224, 224)  # noqa: S101
    assert (way == "full") == any(name.split(".")[0] == "terratorch" for name in sys.modules)  # noqa: S101
    print(peak(), flush=True)


def run(way: str) -> tuple[float, int]:
    """Seconds from the start of a process until it has the logits, and its peak memory, bytes."""
    begin = time.perf_counter()
    command = [sys.executable, __file__, "--measure", way]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None  # noqa: S101
        line = process.stdout.readline()
        seconds = time.perf_counter() - begin
    if process.returncode or not line:
        raise SystemExit(f"the process of {way!r} ended with {process.returncode}; its message is above")
    return seconds, int(line)


def compare(ways: list[str], runs: int) -> Section:
    """Run the ways by turns: a row each, and the ratio where there are two."""
    rounds = [{way: run(way) for way in ways} for _ in range(runs + 1)][1:]
    rows, medians = [], {}
    for way in ways:
        seconds = [each[way][0] for each in rounds]
        medians[way] = statistics.median(seconds)
        memory = statistics.median(each[way][1] for each in rounds)
        figures = [f"{value:.1f}" for value in (medians[way], min(seconds), max(seconds))]
        rows.append((way, *figures, f"{memory / MIB:.0f}"))
    parts = [table(_HEADER, rows), _EXPLAINED.format(chips=CHIPS, runs=runs)]
    if len(ways) == len(WAYS):
        parts.insert(1, f"- light over full: {medians['light'] / medians['full']:.2f} of the medians")
    return Section("Cold start", "\n\n".join(parts))


def main() -> None:
    """Run the ways by turns, print their table, and write it where that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=3, help="runs of each way that count")
    parser.add_argument("--way", action="append", choices=WAYS, help="only this one; repeatable")
    parser.add_argument("--write", type=Path, help="Markdown file to put the table in")
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure)
        return
    if arguments.runs < 1:
        parser.error(f"--runs {arguments.runs}: at least one run must count")
    ways = [way for way in WAYS if way in (arguments.way or WAYS)]
    tell([compare(ways, arguments.runs)], arguments.write)


if __name__ == "__main__":
    main()
