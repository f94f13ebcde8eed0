"""The benchmark of tracking runs; what it prints is for docs/performance.md."""

from __future__ import annotations

from pathlib import Path

from reports import run, tables


def test_tracking_is_measured(tmp_path: Path) -> None:
    report = tmp_path / "performance.md"
    run("lake_tracking.py", "--lakes", "60", "--lakes", "120", "--dates", "6", f"--write={report}")
    (found,) = tables(report.read_text(encoding="utf-8"))
    assert list(found) == ["60", "120"]
    for count, row in found.items():
        assert int(row["polygons"]) > 5 * int(count)
        assert float(row["peak of the process, MiB"]) >= float(row["polygons alone, MiB"]) > 0
        assert int(row["splits"]) > 0
        assert int(row["merges"]) > 0
        # a lake that falls in two is two ids, however often it does: no date makes new ones of the same
        assert 1 <= float(row["ids per lake"]) < 1.3
