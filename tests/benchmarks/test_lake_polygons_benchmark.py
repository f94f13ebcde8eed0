"""The benchmark of polygons runs; what it prints is for docs/performance.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from reports import BENCHMARKS, run, tables


def test_every_side_is_measured(tmp_path: Path) -> None:
    report = tmp_path / "performance.md"
    run("lake_polygons.py", "--side", "2000", "--block", "480", "--write", str(report))
    text = report.read_text(encoding="utf-8")
    assert "\n## Polygons of a large mask\n" in text
    (rows,) = tables(text)
    assert list(rows) == ["500 px", "1000 px", "2000 px"]
    lakes = [int(row["lakes"]) for row in rows.values()]
    assert 0 < lakes[0] < lakes[1] < lakes[2] < (2000 / 256 + 2) ** 2
    assert 0 < int(rows["2000 px"]["of these cut by borders"]) < lakes[2]
    assert all(float(row["peak above the start, MiB"]) < 500 for row in rows.values())


def test_the_mask_does_not_depend_on_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from lake_polygons import mask

    whole, cut = (mask(1300, block).to_numpy() for block in (1300, 317))
    np.testing.assert_array_equal(whole, cut)
    assert set(np.unique(whole)) == {0, 1, 255}
