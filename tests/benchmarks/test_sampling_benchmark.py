"""The benchmark of chips: its contenders cut the same pixels, and its tables hold; never its times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reports import BENCHMARKS, run, tables

SIDE, DATES = 448, 2


@pytest.fixture
def contenders(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import _sampling.contenders

    return _sampling.contenders


@pytest.fixture
def store(contenders: Any, tmp_path: Path) -> Any:
    from _sampling.store import Store, write_store

    made = Store(tmp_path, SIDE, 160, DATES)
    write_store(made)
    return made


def test_contenders_cut_the_same_pixels(contenders: Any, store: Any) -> None:
    pytest.importorskip("xbatcher")
    source = contenders._source(store, 224)
    inner = source.select(
        source.index.eval("row % 224 == 0 and col % 224 == 0 and row >= 0 and col >= 0").to_numpy()
    )
    assert contenders.xglof_loader(store, 224, 0).chips == len(source.index)
    generator = contenders._generator(store, 224)
    assert len(generator) == contenders.xbatcher_patches(store, 224, 0).chips == DATES * (SIDE // 224) ** 2
    corners = []
    for number, patch in enumerate(generator):
        step, row, col = np.unravel_index(number, (DATES, SIDE // 224, SIDE // 224))
        arrays = contenders._arrays(patch)
        corners.append((int(step), int(row) * 224, int(col) * 224))
        assert arrays["B02"].shape == (224, 224)
        place = inner.index.query("step == @step and row == @row * 224 and col == @col * 224")
        if len(place):
            mine = inner.read(place.index.tolist())
            for name, plane in mine.planes.items():
                np.testing.assert_array_equal(plane[0].numpy(), arrays[name], err_msg=name)
            np.testing.assert_array_equal(mine.label[0].numpy(), arrays["lake"])
    assert len(set(corners)) == len(generator)
    assert len(inner.index) > 0


def test_its_tables(tmp_path: Path) -> None:
    report = tmp_path / "performance.md"
    words = ("--side", f"{SIDE}", "--chunk", "224", "--dates", "2", "--stride", "224", "--repeats", "1")
    run("sampling.py", *words, "--only", "ChipLoader", "BatchGenerator", "--write", str(report))
    (table,) = tables(report.read_text(encoding="utf-8"))
    assert float(table["xglof ChipLoader"]["chips/s"]) > 0
    assert table["floor: zarr reads and decodes"]["share of the floor"] == "100%"
