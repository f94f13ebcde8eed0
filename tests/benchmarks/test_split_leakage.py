"""The benchmark of splits runs, and puts its tables between their marks in the page."""

from __future__ import annotations

from pathlib import Path

from reports import run, tables

PAGE = """# Splits

Kept above.

<!-- begin made up -->
old
<!-- end made up -->

Kept between.
"""


def share(cell: str) -> float:
    return float(cell.rstrip("%")) / 100


def test_leakage_and_distances_are_told_and_written(tmp_path: Path) -> None:
    page = tmp_path / "splits.md"
    page.write_text(PAGE, encoding="utf-8")
    run("split_leakage.py", "--stride", "5600", "--write", str(page))
    text = page.read_text(encoding="utf-8")
    assert "old" not in text
    assert text.index("Kept above.") < text.index("the product") < text.index("Kept between.")
    made_up, stages, distances, cost = tables(text)
    assert made_up["training before: the product"]["share"] == "58.4%"
    both = stages["Tien Shan, val and test"]
    assert abs(share(both["train before"]) - 0.57) < 0.02
    assert sum(share(both[f"{fold} before"]) for fold in ("train", "val", "test", "dropped")) > 0.998
    for row, cells in distances.items():
        if "default" in row:
            assert cells["passes"] == "yes"
            assert float(cells["nearest footprints"].split()[0]) >= 5
    assert distances["Svalbard, 78 N: published, 0.15° blocks"]["footprints by the rule"].startswith("-")
    default = cost["default, 20 km blocks, 5 km buffer"]
    assert share(default["dropped"]) < share(cost["published, 0.15° blocks"]["dropped"])
