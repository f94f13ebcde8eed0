"""The benchmark runs; what it prints is for docs/performance.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from reports import BENCHMARKS, run, tables

import xglof
from xglof.models.registry import WATER_INDEX


def test_it_writes_a_row_a_size(tmp_path: Path) -> None:
    report = tmp_path / "performance.md"
    run("block_memory.py", "--side", "224", "--batch", "2", "--write", str(report))
    text = report.read_text(encoding="utf-8")
    assert "\n## Memory of a block: water-index\n" in text
    assert "- command: `python benchmarks/block_memory.py --side 224 --batch 2`\n" in text
    (rows,) = tables(text)
    (row,) = rows.values()
    assert row["block"] == "224 px"
    whole, above = (float(row[f"{name}, MiB"])
                    for name in ("peak of the process", "above the libraries and the network"))  # fmt: skip
    assert 0 <= above < whole < 4000
    assert WATER_INDEX.window_bytes is not None
    assert float(row["reckoned, MiB"]) * 2**20 > 2 * WATER_INDEX.window_bytes  # a batch and its pixels


@pytest.mark.parametrize(("side", "batch"), [(224, 4), (336, 2)])
def test_reckoned_is_what_the_engine_reckons(monkeypatch: pytest.MonkeyPatch, side: int, batch: int) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from block_memory import cube_around, reckoned_bytes

    cube = cube_around(side)
    given: dict[str, Any] = {"model": WATER_INDEX, "batch_size": batch, "device": "cpu", "chunks": side}
    size = reckoned_bytes(cube, WATER_INDEX, xglof.segment(cube, **given)["lake"].data.chunks, batch)
    xglof.segment(cube, **given, memory_budget=size)
    with pytest.raises(xglof.ModelError, match="memory_budget is"):
        xglof.segment(cube, **given, memory_budget=size - 1)


def test_a_window_takes_at_least_its_own_pixels() -> None:
    printed = run("block_memory.py", "--window", "--model", "terramind-tiny-demo", "--batch", "2")
    found = re.fullmatch(r"window_bytes=([\d_]+) \(batches of 2\)\n", printed)
    assert found is not None, printed
    assert 15 * 224**2 * 4 < int(found[1]) < 10**9
