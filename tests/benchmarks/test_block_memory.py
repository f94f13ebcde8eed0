"""The benchmark runs; what it prints is for docs/results.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "block_memory.py"


def test_it_prints_a_row_a_size() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--side", "224"], check=True, capture_output=True, text=True
    )
    rows = done.stdout.splitlines()
    assert rows[-1].startswith("224 px | ")
    assert 0 < float(rows[-1].split("|")[1].split()[0]) < 4000
