"""The benchmark of alerts runs, and puts its tables between their marks in the page."""

from __future__ import annotations

from pathlib import Path

from reports import run, tables

PAGE = """# Alerts

Kept above.

<!-- begin false alarms -->
old
<!-- end false alarms -->

Kept between.

<!-- begin detection -->
<!-- end detection -->
"""


def share(cell: str) -> float:
    return float(cell.split("%")[0]) / 100


def test_rates_are_simulated_and_written(tmp_path: Path) -> None:
    page, picture = tmp_path / "alerts.md", tmp_path / "curve.png"
    page.write_text(PAGE, encoding="utf-8")
    run("alerts.py", "--lakes", "60", "--years", "3", "--write", str(page), str(picture))
    text = page.read_text(encoding="utf-8")
    assert "old" not in text
    assert text.index("Kept above.") < text.index("SIMULATED series") < text.index("Kept between.")
    alarms, detection, coverage, outside, later, smallest = tables(text)
    assert set(alarms) == {"one sensor", "two sensors", "noisy autumn"}
    assert all(float(row["issued"]) < 100 for row in alarms.values())
    assert list(detection) == ["1", "2", "3", "4", "5", "6"]
    for name in ("drop within 2", "rise within 2"):
        assert share(detection["1"][name]) < 0.2
        assert share(detection["4"][name]) > 0.7
        assert share(detection["6"][name]) > 0.9
    assert abs(share(coverage["68%"]["truth inside"]) - 0.68) < 0.05
    assert len(outside) == 8
    assert all(0 <= float(row["issued in 100"]) < 500 for row in outside.values())
    assert list(later) == ["stable", "step of 4 sigma", "step of 6 sigma"]
    assert int(later["step of 6 sigma"]["still listed"]) > 10
    assert (
        smallest["1"]["smallest drop of 2 views, 10 m"],
        smallest["0.5"]["smallest drop of 2 views, 20 m"],
    ) == (
        "47%",
        "none",
    )
    assert picture.read_bytes().startswith(b"\x89PNG")
    first = text
    run("alerts.py", "--lakes", "60", "--years", "3", "--write", str(page), str(picture))
    assert page.read_text(encoding="utf-8") == first  # the same seed, the same page
