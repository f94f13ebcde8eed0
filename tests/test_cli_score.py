"""``xglof score``: its options are the rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely

from commands import Command
from lake_maps import UTM, empty, lake_map
from xglof.outputs import write_zarr
from xglof.scoring import ScoreRules


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> list[ScoreRules]:
    """Rules that the command was run with; nothing is scored."""
    seen: list[ScoreRules] = []

    def run_score(*_: Any, rules: ScoreRules, **__: Any) -> None:
        seen.append(rules)

    monkeypatch.setattr("xglof.scoring.run_score", run_score)
    return seen


def test_defaults_are_those_of_the_library(xglof: Command, rules: list[ScoreRules]) -> None:
    assert xglof("score", "run", "truth.zarr").code == 0
    assert rules == [ScoreRules()]


def test_every_option_is_a_rule(xglof: Command, rules: list[ScoreRules]) -> None:
    options = {
        "--threshold": 0.4,
        "--tolerance-m": 30,
        "--chip": 64,
        "--block-m": 800,
        "--min-iou": 0.3,
        "--min-area": 900,
        "--dates": "seen",
        "--tolerance": "45D",
    }
    words = [word for pair in options.items() for word in pair]
    assert xglof("score", "run", "truth.gpkg", *words, "--all-touched").code == 0
    assert rules == [
        ScoreRules(
            threshold=0.4,
            tolerance_m=30,
            chip_px=64,
            block_m=800,
            min_iou=0.3,
            min_area=900,
            all_touched=True,
            dates="seen",
            tolerance="45D",
        )
    ]


def test_help_tells_defaults_and_units(xglof: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    lines = xglof("score", "--help").out.splitlines()
    told = {
        "--tolerance-m": ("Metres", "20"),
        "--chip": ("pixels", "224"),
        "--block-m": ("metres", "5000"),
        "--min-iou": ("0 to 1", "0.5"),
        "--min-area": ("Square metres", "0"),
        "--all-touched": ("centre",),
        "--dates": ("every date",),
        "--tolerance ": ("45D",),
    }
    for option, words in told.items():
        place = next(number for number, line in enumerate(lines) if f"{option}" in line)
        text = " ".join(lines[place : place + 3])
        assert all(word in text for word in words), text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map of two dates, as its own truth, and an inventory of the first date."""
    folder = tmp_path_factory.mktemp("score")
    values = empty(2)
    values[0, 5:25, 5:25] = 1
    seg = lake_map(values, chunks={"time": 1})
    write_zarr(seg, folder / "map.zarr")
    west, north = UTM.transform * (5, 5)
    lake = shapely.box(west - 2, north - 200, west + 200, north)
    seen = pd.to_datetime(seg["time"].values[:1]) - np.timedelta64(2, "D")
    frame = geopandas.GeoDataFrame({"seen": seen}, geometry=[lake], crs="EPSG:32645")
    frame.to_file(folder / "inventory.gpkg")
    return folder


def test_polygons_of_a_date_hold_for_dates_near_it(xglof: Command, folder: Path, tmp_path: Path) -> None:
    words = ("--dates", "seen", "--tolerance", "5D", "--all-touched", "--min-area", "50000")
    ran = xglof("score", folder / "map.zarr", folder / "inventory.gpkg", *words, "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    figures = json.loads((tmp_path / "out" / "scores.json").read_text())
    pixels = figures["pixels"]
    assert (pixels["fp"], pixels["fn"], pixels["unobserved"]) == (0, 20, 60 * 80)
    assert figures["lakes"][-1]["true_lakes"] == 0
    assert figures["rules"]["min_area"] == 50_000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--all-touched"], "all_touched came for"),
        (["--dates", "seen", "--tolerance", "5D"], "dates, tolerance came for"),
        (["--min-iou", "0"], "min_iou is 0"),
        (["--block-m", "2"], "at least a pixel"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    xglof: Command, folder: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    ran = xglof("score", folder / "map.zarr", folder / "map.zarr", *words, "--out", tmp_path / "out")
    assert ran.code == 2
    assert message in ran.err
    assert not (tmp_path / "out").exists()
