"""The benchmark of cubes runs; what it prints is for docs/performance.md."""

from __future__ import annotations

from pathlib import Path

from reports import run, tables


def test_graphs_and_reading_are_measured(tmp_path: Path) -> None:
    report = tmp_path / "performance.md"
    run(
        "cube.py",
        "--graph",
        "--reading",
        "--side",
        "2400",
        "--dates",
        "2",
        "--runs",
        "2",
        f"--write={report}",
    )
    opening, reading = tables(report.read_text(encoding="utf-8"))
    (row,) = opening.values()
    assert (row["dates"], row["items"]) == ("2", "26")
    assert 0 < float(row["min s"]) <= float(row["median s"]) <= float(row["max s"])
    assert int(row["tasks"]) > 2 * 12 * 4  # two dates of twelve bands in four blocks, at the least
    assert len(reading) == 6
    for name, figures in reading.items():
        if name.endswith("xglof"):
            assert float(figures["most touches"]) <= 1.3
            assert float(figures["MB sent"]) <= 1.3 * float(figures["MB of blocks"])
