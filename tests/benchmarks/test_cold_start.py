"""The benchmark runs; what it prints is for docs/results.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "cold_start.py"


def test_it_prints_a_row_a_way() -> None:
    command = [sys.executable, str(SCRIPT), "--runs", "1", "--way", "light"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    machine, head, row = done.stdout.splitlines()
    assert machine.endswith("8 chips, 1 runs")
    assert head.split(" | ")[0] == "way"
    way, median, least, most, peak = row.split(" | ")
    assert way == "light"
    assert median == least == most  # of one run
    assert float(median.removesuffix(" s")) > 0
    assert 100 < float(peak.removesuffix(" MiB")) < 4000


def test_a_failing_process_is_no_row() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--runs", "0"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "at least one run" in done.stderr
