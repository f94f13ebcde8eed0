"""How often bootstrap intervals over blocks hold the true IoU, by the number of blocks.

::

    python benchmarks/bootstrap_coverage.py [--trials 600]

Maps are simulated as counts: every block of ground holds a lake whose pixels follow a lognormal law (sigma of
the logarithm 1.5), of which a share that follows a beta law (4, 1) was mapped. Size and share are independent
of each other, so that the IoU over endless ground is the mean share, 0.8. Seeded: each run prints the same.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from _segment.report import table

from xglof.evaluate.bootstrap import bootstrap_intervals

BLOCKS = (5, 10, 20, 50, 100)
LEVEL = 0.95
_MEDIAN_PX, _SIGMA = 400.0, 1.5  # of lakes
_ALPHA, _BETA = 4.0, 1.0  # of the share that was mapped
TRUE_IOU = _ALPHA / (_ALPHA + _BETA)


def sample(blocks: int, random: np.random.Generator) -> xr.Dataset:
    """Counts of blocks of simulated ground."""
    lake = np.ceil(_MEDIAN_PX * random.lognormal(sigma=_SIGMA, size=blocks)).astype(np.int64)
    found = np.rint(lake * random.beta(_ALPHA, _BETA, blocks)).astype(np.int64)
    counts = {"tp": found, "fp": np.zeros_like(lake), "fn": lake - found}
    return xr.Dataset({name: ("block", values) for name, values in counts.items()})


def coverage(blocks: int, trials: int, resamples: int) -> tuple[float, float]:
    """Share of the intervals that hold the true IoU, and their mean width."""
    random = np.random.default_rng(blocks)
    bounds = np.empty((trials, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that few blocks are too few is what is measured
        for trial in range(trials):
            counts = sample(blocks, random)
            drawn = bootstrap_intervals(counts, resamples=resamples, level=LEVEL, seed=trial)
            bounds[trial] = drawn["iou"].values[[0, 2]]
    lower, upper = bounds.T
    return float(((lower <= TRUE_IOU) & (upper >= TRUE_IOU)).mean()), float((upper - lower).mean())


def rows(trials: int, resamples: int) -> list[tuple[str, ...]]:
    """A row a number of blocks: coverage, its standard error and the mean width."""
    told = []
    for blocks in BLOCKS:
        share, width = coverage(blocks, trials, resamples)
        error = np.sqrt(share * (1 - share) / trials)
        told.append((f"{blocks}", f"{share:.1%}", f"{error:.1%}", f"{width:.3f}"))
    return told


def main(words: Sequence[str] | None = None) -> None:
    """Simulate and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=600, help="simulated maps for each number of blocks")
    parser.add_argument("--resamples", type=int, default=1000, help="draws for each interval")
    asked: Any = parser.parse_args(words)
    if asked.trials < 1 or asked.resamples < 1:
        parser.error("--trials and --resamples: expected 1 or more")
    heads = ("blocks with a lake", f"intervals of {LEVEL:.0%} that hold the true IoU", "+-", "mean width")
    print(table(heads, rows(asked.trials, asked.resamples)))


if __name__ == "__main__":
    main()
