"""The benchmark of bootstrap intervals runs, and says that few blocks are too few."""

from __future__ import annotations

from reports import run, tables


def test_coverage_rises_with_the_number_of_blocks() -> None:
    words = ("--trials", "40", "--resamples", "60")
    text = run("bootstrap_coverage.py", *words)
    (found,) = tables(text)
    assert list(found) == ["5", "10", "20", "50", "100"]
    held = [float(row["intervals of 95% that hold the true IoU"].rstrip("%")) for row in found.values()]
    assert held[0] < 85 < held[-1] <= 100
    widths = [float(row["mean width"]) for row in found.values()]
    assert widths[1:] == sorted(widths[1:], reverse=True)
