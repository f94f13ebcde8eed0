"""The benchmark runs; what it prints is for docs/performance.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from reports import BENCHMARKS, run, tables


def test_it_writes_a_row_a_way(tmp_path: Path) -> None:
    report = tmp_path / "performance.md"
    printed = run("cold_start.py", "--runs", "1", "--way", "light", f"--write={report}")
    text = report.read_text(encoding="utf-8")
    assert printed.strip() in text
    assert printed.startswith(
        "## Cold start\n\n- command: `python benchmarks/cold_start.py --runs 1 --way light`\n"
    )
    (rows,) = tables(text)
    (row,) = rows.values()
    assert row["way"] == "light"
    assert row["median s"] == row["min s"] == row["max s"]  # of one run
    assert float(row["median s"]) > 0
    assert 100 < float(row["peak of the process, MiB"]) < 4000


def test_a_failing_process_is_no_row() -> None:
    command = [sys.executable, str(BENCHMARKS / "cold_start.py"), "--runs", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "at least one run" in done.stderr
