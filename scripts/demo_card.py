"""Print the scores that the model card of ``terramind-tiny-demo`` quotes, on held-out simulated valleys.

::

    python scripts/demo_valleys.py WORK
    python scripts/demo_card.py WORK --model RUN/average

Valleys of seeds that took no part in the training, all their dates, pixels observed, counts pooled. The
same lakes are mapped with all sensors and with some left out, over the pixels that those left in observed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import xglof

SENSORS = {
    "all": ("S2L2A", "S1RTC", "DEM"),
    "no DEM": ("S2L2A", "S1RTC"),
    "S2 only": ("S2L2A",),
    "S2 and DEM": ("S2L2A", "DEM"),
    "S1 only": ("S1RTC",),
    "S1 and DEM": ("S1RTC", "DEM"),
}
_COUNTS = ("tp", "fp", "fn")


def counts_of(
    model: str, valley: Path, modalities: Sequence[str]
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Pixels that are lake in both, in the map only, in the truth only: ``(3,)``."""
    cube = xglof.read_zarr(valley, chunks=None)
    truth = xglof.read_zarr(valley.parent / "lakes" / valley.name)["lake"]
    names = {band for name in modalities for band in xglof.bands.MODALITIES[name].names}
    cube = cube[[name for name in cube.data_vars if name in names | {"flags"}]]
    scores = xglof.evaluate.score(xglof.segment(cube, model=model, device="cpu"), truth).compute()
    return np.array([int(scores[name]) for name in _COUNTS])


def row_of(label: str, counts: np.ndarray[tuple[int], np.dtype[np.int64]]) -> str:
    """A row of the card's table."""
    tp, fp, fn = counts
    return f"| {label} | {tp / (tp + fp + fn):.3f} | {tp / (tp + fp):.3f} | {tp / (tp + fn):.3f} |"


def print_card(work: Path, models: Sequence[str]) -> None:
    """Tables by model and sensors, and by valley."""
    valleys = sorted((work / "held-out").glob("*.zarr"))
    by_valley: dict[str, list[str]] = {}
    print("| model | sensors | IoU | precision | recall |\n|---|---|---|---|---|", flush=True)
    for model in models:
        for label, modalities in SENSORS.items():
            found = [counts_of(model, valley, modalities) for valley in valleys]
            print(f"| {Path(model).name} {row_of(label, np.sum(found, axis=0))}", flush=True)
            if label == "all":
                by_valley[model] = [f"{tp / (tp + fp + fn):.3f}" for tp, fp, fn in found]
    print("\n| valley |", " | ".join(valley.stem for valley in valleys), "|")
    print("|---|" + "---|" * len(valleys))
    for model, scores in by_valley.items():
        print(f"| IoU {Path(model).name} |", " | ".join(scores), "|")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Scores for the model card of terramind-tiny-demo.")
    parser.add_argument("work", type=Path, help="folder that demo_valleys.py wrote")
    parser.add_argument("--model", action="append", help="name or folder of a model; may be repeated")
    arguments = parser.parse_args()
    print_card(arguments.work, arguments.model or ["terramind-tiny-demo", "water-index"])
