"""Time from the start of a process to its first logits, for the demonstration model, on a CPU.

Two ways, each in fresh processes, by turns, after one of each that fills the disk cache and is not counted::

    python benchmarks/cold_start.py [--runs 3] [--way light --way full]

``light`` is what the package does: the spec's own factory. ``full`` builds the same network through
terratorch's ``EncoderDecoderFactory``. Both load the same weights and run 8 chips of 224 pixels with all
three modalities. Prints seconds until the logits are there, the peak memory of the process then, and the
ratio.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

MIB = 2**20
WAYS = ("light", "full")
CHIPS = 8


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
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, flush=True)


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


def main() -> None:
    """Run the ways by turns and print a row each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=3, help="runs of each way that count")
    parser.add_argument("--way", action="append", choices=WAYS, help="only this one; repeatable")
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure)
        return
    if arguments.runs < 1:
        parser.error(f"--runs {arguments.runs}: at least one run must count")
    ways = [way for way in WAYS if way in (arguments.way or WAYS)]
    rounds = [{way: run(way) for way in ways} for _ in range(arguments.runs + 1)][1:]
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, {CHIPS} chips, {arguments.runs} runs")
    print("way | median | min | max | peak of the process")
    medians = {}
    for way in ways:
        seconds = [each[way][0] for each in rounds]
        medians[way] = statistics.median(seconds)
        peak = statistics.median(each[way][1] for each in rounds)
        spread = f"{medians[way]:.1f} s | {min(seconds):.1f} s | {max(seconds):.1f} s"
        print(f"{way} | {spread} | {peak / MIB:.0f} MiB")
    if len(ways) == len(WAYS):
        print(f"light / full: {medians['light'] / medians['full']:.2f} of the medians")


if __name__ == "__main__":
    main()
