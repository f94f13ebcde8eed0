"""The benchmark of the tiled inference: its tables and counts, never its times."""

from __future__ import annotations

import importlib.util
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from reports import BENCHMARKS, run, tables

SIDE, WINDOW, STRIDE = 300, 224, 112


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def touching(begin: int, end: int) -> int:
    """Windows over the pixels ``begin`` to ``end``, counted one by one; the raster begins on the lattice."""
    return sum(begin < start + WINDOW and start < end for start in range(-10 * STRIDE, SIDE + 1, STRIDE))


@pytest.mark.slow
def test_all_contenders_run_the_windows_that_they_must(tmp_path: Path) -> None:
    report = tmp_path / "performance.md"
    common = ("--model", "water-index", "--side", f"{SIDE}", "--device", "cpu", "--write", str(report))
    run("segment.py", "--peers", "--only", "small", "COGs", "terratorch", "MONAI", "--chunks", f"{STRIDE}",
        "--repeats", "1", *common)  # fmt: skip
    times, counts = tables(report.read_text(encoding="utf-8"))

    ideal = touching(0, SIDE) ** 2
    edges = [*range(0, SIDE, STRIDE), SIDE]
    of_blocks = sum(touching(*span) for span in itertools.pairwise(edges)) ** 2
    floors = [title for title in counts if title.startswith("floor")]
    assert len(floors) == 2
    for title in (*floors, "terratorch tiled_inference"):
        assert int(counts[title]["windows run"]) == ideal
        assert counts[title]["halo factor"] == "1.000"
    small = counts["xglof in memory, small blocks"]
    assert int(small["of its blocks"]) == of_blocks > ideal
    assert float(small["halo factor"]) == pytest.approx(of_blocks / ideal, abs=1e-3)
    assert int(small["windows run"]) >= of_blocks  # and what fills up batches
    disk = counts["xglof from COGs to Zarr"]
    assert int(disk["of its blocks"]) == ideal
    assert ideal <= int(disk["windows run"]) < of_blocks  # all of the made-up raster is observed
    assert min(float(times[title]["× floor"]) for title in floors) == 1
    monai = "MONAI sliding_window_inference"
    if importlib.util.find_spec("monai") is None:
        assert times[monai]["median s"].startswith("absent")
        assert monai not in counts
    else:
        assert int(counts[monai]["windows run"]) == ideal
        assert float(times[monai]["median s"]) > 0


@pytest.mark.slow
def test_a_peer_that_would_run_other_windows_is_a_row_that_says_so() -> None:
    text = run("segment.py", "--peers", "--only", "MONAI", "--model", "water-index", "--side", f"{WINDOW}",
               "--overlap", "0.6", "--device", "cpu", "--repeats", "1")  # fmt: skip
    times, counts = tables(text)
    monai = "MONAI sliding_window_inference"
    assert times[monai]["median s"].startswith("refused: its windows would lie 89 px apart, not 90 px")
    assert monai not in counts
    assert all(float(row["median s"]) > 0 for title, row in times.items() if title != monai)


@pytest.mark.parametrize(("overlap", "stride"), [(0.6, 90), (0.8, 45), (0.1, 202)])
def test_monai_is_refused_where_it_rounds_otherwise(tmp_path: Path, overlap: float, stride: int) -> None:
    from _segment.contenders import IncomparableError, Monai
    from _segment.settings import Settings

    settings = Settings("water-index", SIDE, overlap, "cpu", 4, STRIDE, tmp_path)
    assert settings.axes()[0].stride == stride
    with pytest.raises(IncomparableError, match=f"{stride - 1} px apart, not {stride} px"):
        Monai(settings)


@pytest.mark.slow
@pytest.mark.parametrize(("source", "heading"), [("zarr", "Zarr without Dask"), ("dask", "Zarr with Dask")])
def test_scale_measures_every_side(source: str, heading: str) -> None:
    text = run("segment.py", "--scale", "--source", source, "--sides", "112", "224", "448", "--chunks", "224",
               "--device", "cpu")  # fmt: skip
    assert text.startswith(f"## By the size of the raster: water-index, {heading}, blocks of 224 px, CPU\n")
    (points,) = tables(text)
    assert list(points) == ["112 px", "224 px", "448 px"]
    assert [int(point["blocks"]) for point in points.values()] == [1, 1, 4]
    # the top 25 rows of each block are observed: at least two of three rows of windows see them, of all three
    # columns; at most all run, and batches of four are filled up
    assert 4 * 2 * 3 <= int(points["448 px"]["windows run"]) <= 4 * (3 * 3 + 3)
    assert re.search(r"^- time: \S+ s a megapixel", text, flags=re.MULTILINE)
    assert re.search(r"^- peak: \S+ MiB a megapixel", text, flags=re.MULTILINE)
    assert "- peak at 448 px over that at 112 px: " in text


def test_graph_is_counted_beyond_its_inputs() -> None:
    text = run("segment.py", "--graph", "--model", "water-index", "--blocks", "4", "--repeats", "1")
    (rows,) = tables(text)
    cost = rows["16"]
    assert cost["variables"] == "6"
    segment = float(cost["tasks a block of the segment layer"])
    everything = float(cost["tasks a block of all layers"])
    assert 1 <= segment < everything < 40
    assert 0 < float(cost["pickled bytes a block of the segment layer"]) < 10_000


def test_a_report_keeps_the_sections_that_were_not_run(tmp_path: Path) -> None:
    from _segment.report import Section, write

    path = tmp_path / "performance.md"
    write(path, [Section("On a CPU", "| a |\n| --- |\n| 1 |"), Section("On a GPU", "two\n\nparagraphs")])
    write(path, [Section("On a CPU", "newer"), Section("The graph", "third")])
    write(path, [])
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# Performance\n")
    assert text.count("# Performance") == 1
    parts = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    assert list(parts) == ["On a CPU", "On a GPU", "The graph"]
    assert [part.strip() for part in parts.values()] == ["newer", "two\n\nparagraphs", "third"]
    assert [path] == list(tmp_path.iterdir())


def test_a_report_says_that_no_gpu_was_at_hand_until_one_was(tmp_path: Path) -> None:
    from _segment.report import Section, write

    path = tmp_path / "performance.md"
    heads = []
    for heading in (
        "Against the floor and peers: a, 300 px, CPU",
        "Against the floor and peers: a, 300 px, CUDA",
    ):
        write(path, [Section(heading, "a body that mentions CUDA")])
        heads.append(path.read_text(encoding="utf-8").partition("\n## ")[0])
    assert "No CUDA device has been at hand" in heads[0]
    assert "CUDA" not in heads[1]


def test_peers_are_given_what_the_engine_would_see(tmp_path: Path) -> None:
    from _segment.raster import memory_cube, standardised
    from _segment.settings import Settings, find_spec

    settings = Settings("terramind-tiny-demo", SIDE, 0.5, "cpu", 4, STRIDE, tmp_path)
    spec = find_spec(settings.model)
    values = standardised(settings, spec)
    cube = memory_cube(spec, SIDE)
    overhang = (STRIDE, 2 * STRIDE + WINDOW - SIDE)  # the windows begin at -112, 0, 112 and 224
    channel = 0
    for source in spec.inputs:
        for name, mean, std in zip(source.bands, source.mean, source.std, strict=True):
            plane = cube[name].values.reshape(SIDE, SIDE).astype(np.float32)
            wanted = np.pad((plane - mean) / std, overhang, mode="reflect")
            np.testing.assert_allclose(values[channel], wanted, rtol=1e-5, atol=1e-6)
            channel += 1
    assert values.shape[0] == channel
    assert settings.ideal_windows() == touching(0, SIDE) ** 2


def test_random_terraminds_are_specs() -> None:
    from _segment.settings import find_spec

    spec = find_spec("terramind-large-random")
    assert dict(spec.kwargs)["size"] == "large"
    assert spec.weights is None
    assert find_spec("water-index").name == "water-index"
