"""The benchmarks' scripts, run, and the tables in what they print."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

#: Row -> column -> cell; rows by their first cell.
Table = dict[str, dict[str, str]]


def run(script: str, *words: str) -> str:
    """What a script prints."""
    command = [sys.executable, str(BENCHMARKS / script), *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def tables(text: str) -> list[Table]:
    """Each Markdown table."""
    found = []
    for block in re.findall(r"(?:^\|.*\n?)+", text, flags=re.MULTILINE):
        header, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines())
        found.append({row[0]: dict(zip(header, row, strict=True)) for row in rows})
    return found
