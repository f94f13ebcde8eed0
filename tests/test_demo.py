from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from rich.console import Console

from xglof.cube.flags import Flag
from xglof.demo import _print_notes, _summary, run_demo
from xglof.evaluate import score
from xglof.models.registry import DEMO_TRAINING_SEEDS, WATER_INDEX
from xglof.outputs import read_zarr
from xglof.simulate import read_truth


@dataclass(frozen=True)
class Ran:
    """A demo that ran: its folder, what it returned and what it printed at 80 columns."""

    out: Path
    summary: dict[str, Any]
    text: str

    @property
    def seg(self) -> xr.Dataset:
        return read_zarr(self.out / "segmentation.zarr")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    out = tmp_path_factory.mktemp("demo") / "run"
    console = Console(file=io.StringIO(), width=80)
    summary = run_demo(out, model="water-index", seed=3, side_px=160, console=console)
    return Ran(out, summary, console.file.getvalue())  # type: ignore[attr-defined]


def test_all_files_are_there_and_no_other(demo: Ran) -> None:
    assert sorted(path.name for path in demo.out.iterdir()) == [
        "alerts.csv", "areas.csv", "catalog", "cube.zarr", "lakes.parquet", "overview.png",
        "segmentation.zarr", "summary.json",
    ]  # fmt: skip
    assert [path.name for path in demo.out.parent.iterdir()] == ["run"]
    assert (demo.out / "catalog" / "catalog.json").is_file()


def test_rasters_are_georeferenced_and_keep_their_types(demo: Ran) -> None:
    truth, _ = read_truth(demo.out / "catalog")
    cube = read_zarr(demo.out / "cube.zarr")
    assert cube.odc.geobox == demo.seg.odc.geobox == truth.odc.geobox
    assert demo.seg["lake"].dtype == "uint8"
    assert demo.seg["flags"].dtype == cube["B03"].dtype == "uint16"
    assert cube["vv"].dtype == demo.seg["lake_probability"].dtype == "float32"
    lake = demo.seg["lake"].values
    assert set(np.unique(lake)) == {0, 1, 255}
    np.testing.assert_array_equal(np.isnan(demo.seg["lake_probability"].values), lake == 255)


def test_polygons_and_series(demo: Ran) -> None:
    lakes = geopandas.read_parquet(demo.out / "lakes.parquet")
    assert lakes.crs.to_epsg() == 32645
    assert set(lakes["time"]) <= {pd.Timestamp(time) for time in demo.seg["time"].values}
    table = pd.read_csv(demo.out / "areas.csv", parse_dates=["time"])
    dates = demo.seg.sizes["time"]
    assert len(table) == dates * table["lake"].nunique()
    assert {"area_m2", "area_sigma_m2", "area_lower_m2", "area_upper_m2"} < set(table.columns)
    free = (demo.seg["flags"] & Flag.snow.value) == 0  # water under snow is unobserved
    pixels = ((demo.seg["lake"] == 1) & free).sum(["y", "x"]).values * 100
    seen = table.groupby("time")["area_lower_m2"].sum().to_numpy()
    np.testing.assert_allclose(seen, pixels, rtol=5e-3)


def test_the_picture_is_a_png_of_1600_pixels(demo: Ran) -> None:
    content = (demo.out / "overview.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert int.from_bytes(content[16:20], "big") == 1600


def test_the_table_agrees_with_the_files(demo: Ran) -> None:
    truth, _ = read_truth(demo.out / "catalog")
    seg = demo.seg
    observed = (seg["lake"] != 255).mean(["y", "x"]).values
    assert observed.min() < 0.95 < observed.max()
    scores = score(seg, truth["lake"].sel(time=seg["time"]), dim=("y", "x"))["iou"].values
    true_km2 = (truth["lake"] == 1).sum(["y", "x"]).values * 1e-4
    lines = demo.text.splitlines()
    for step, date in enumerate(seg["time"].dt.strftime("%Y-%m-%d").values):
        row = next(line for line in lines if line.startswith(f"│ {date}")).replace(" ", "").split("│")
        assert row[2] == f"{observed[step]:.0%}"
        assert float(row[4]) == pytest.approx(true_km2[step], abs=6e-4)
        assert row[5] == ("-" if np.isnan(scores[step]) else f"{scores[step]:.3f}")
    pooled = float(score(seg, truth["lake"].sel(time=seg["time"]))["iou"])
    assert f"{pooled:.3f}" in next(line for line in lines if "all dates" in line)
    assert demo.summary["scores"]["water-index"]["iou"] == pytest.approx(pooled, abs=1e-4)


def test_what_is_said(demo: Ran) -> None:
    text = " ".join(demo.text.split())
    assert text.count("imulated") >= 2
    assert "IoU" in text
    alerts = pd.read_csv(demo.out / "alerts.csv")
    assert f"{(alerts['status'] != 'withdrawn').sum()} alert" in text
    assert all(line in text for line in demo.summary["alerts"])
    assert "Caveat of water-index: thresholds on water indices" in text
    assert str(demo.out / "overview.png") in demo.text
    assert "trained on" not in text
    table = [line for line in demo.text.splitlines() if line.startswith(("│", "┃"))]
    assert max(map(len, table)) <= 80


def test_the_summary(demo: Ran) -> None:
    written = json.loads((demo.out / "summary.json").read_text())
    assert written == demo.summary
    assert written["simulated"] is True
    assert written["held_out"] is True
    assert written["model"] == "water-index"
    assert set(written["scores"]) == {"water-index"}
    assert 0 < written["scores"]["water-index"]["iou"] < 1


def test_a_seed_of_the_training_is_said(demo: Ran) -> None:
    summary = _summary({}, WATER_INDEX, DEMO_TRAINING_SEEDS[0], [], 1.0)
    assert summary["held_out"] is False
    console = Console(file=io.StringIO(), width=80)
    _print_notes(console, summary, demo.out)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"Seed {summary['seed']} was trained on" in text
    assert "0 alerts" in text
