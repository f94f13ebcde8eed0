from __future__ import annotations

import io
import json
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from rich.console import Console

from lake_maps import UTM, empty, lake_map
from xglof.errors import OutputError
from xglof.evaluate import score
from xglof.outputs import write_zarr
from xglof.scoring import ScoreRules, run_score

PICTURES = ("sweep.png", "reliability.png")


def truth_map():
    actual = empty(2)
    actual[:, 5:25, 5:25], actual[1, 40:50, 40:50] = 1, 1
    return lake_map(actual)


def segmentation():
    """A map of two dates with a lake too small and a missed one, and something hidden."""
    actual = truth_map()["lake"]
    probability = np.where(actual == 1, np.float32(0.9), np.float32(0.02))
    probability[:, 5:7, 5:25], probability[1, 40:50, 40:50], probability[0, 55:] = 0.3, 0.2, np.nan
    seg = lake_map(
        np.where(np.isnan(probability), 255, probability >= 0.5), chunks={"time": 1, "y": 30, "x": 40}
    )
    return seg.assign(lake_probability=seg["lake"].copy(data=probability)).assign_attrs(threshold=0.5)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps")
    write_zarr(segmentation(), folder / "run" / "segmentation.zarr")
    write_zarr(segmentation().drop_vars("lake_probability"), folder / "plain.zarr")
    write_zarr(truth_map().chunk(time=1), folder / "truth.zarr")
    return folder


@pytest.fixture(scope="module")
def scored(stores):
    """Figures, folder and printed text of one map."""
    console = Console(file=io.StringIO(), width=80, markup=False, emoji=False, highlight=False)
    rules = ScoreRules(block_m=100)
    figures = run_score(stores / "run", stores / "truth.zarr", stores / "out", rules=rules, console=console)
    return figures, stores / "out", console.file.getvalue()


def test_figures_are_those_of_the_functions(scored):
    figures, folder, _ = scored
    pooled = score(segmentation(), truth_map()).compute()
    for name in ("tp", "fp", "fn", "tn", "unobserved", "iou", "f1", "precision", "recall"):
        assert figures["pixels"][name] == pytest.approx(float(pooled[name]))
    assert figures["sweep"]["iou"]["0.5"] == pytest.approx(float(pooled["iou"]))
    assert figures["sweep"]["iou"]["0.3"] > figures["sweep"]["iou"]["0.5"]
    assert figures["threshold"] == 0.5
    lower, upper = figures["pixels"]["interval"]["iou"]
    assert lower < figures["pixels"]["iou"] < upper
    assert figures["lakes"][-1]["missed"] == 1
    assert json.loads((folder / "scores.json").read_text()) == figures


def test_files_hold_every_date_lake_and_threshold(scored):
    figures, folder, _ = scored
    dates = pd.read_csv(folder / "scores.csv")
    assert dates["tp"].sum() == figures["pixels"]["tp"]
    assert pd.to_datetime(dates["time"]).tolist() == truth_map().indexes["time"].tolist()
    assert len(pd.read_csv(folder / "matches.csv")) == 3
    assert pd.read_csv(folder / "lakes.csv")["size"].tolist()[-1] == "all"
    assert len(pd.read_csv(folder / "sweep.csv")) == 1001
    assert len(pd.read_csv(folder / "calibration.csv")) == 20
    assert all((folder / name).is_file() for name in PICTURES)


def test_tables_fit_a_terminal_of_80_columns(scored):
    figures, folder, text = scored
    assert max(map(len, text.splitlines()[:-1])) <= 80
    assert "…" not in text
    assert f"{figures['pixels']['iou']:.3f}" in text
    assert "2023-07-11" in text
    assert "too narrow" in text
    assert str(folder / "sweep.png") in text


def test_maps_are_pooled_and_one_without_probabilities_is_no_sweep(stores, scored):
    console = Console(file=io.StringIO(), width=80)
    truths = [stores / "truth.zarr"] * 2
    twice = run_score([stores / "run"] * 2, truths, stores / "twice", console=console)
    for name in ("tp", "fp", "fn"):
        assert twice["pixels"][name] == 2 * scored[0]["pixels"][name]
    assert twice["lakes"][-1]["true_lakes"] == 2 * scored[0]["lakes"][-1]["true_lakes"]
    assert twice["sweep"] == scored[0]["sweep"]
    assert "No interval" in console.file.getvalue()
    assert [each["map"] for each in twice["by_map"]] == ["run", "run"]
    assert twice["by_map"][0]["iou"] == scored[0]["pixels"]["iou"]
    assert "2023-07-11" not in console.file.getvalue()
    plain = run_score([stores / "run", stores / "plain.zarr"], truths, stores / "plain", console=console)
    assert plain["sweep"] is None
    assert not (stores / "plain" / "sweep.png").exists()
    assert "no probabilities" in console.file.getvalue()


def test_a_place_in_several_maps_is_one_block(stores, scored):
    rules, console = ScoreRules(block_m=100), Console(file=io.StringIO())
    truths = [stores / "truth.zarr"] * 2
    twice = run_score([stores / "run"] * 2, truths, stores / "places", rules=rules, console=console)
    assert twice["pixels"]["interval"] == scored[0]["pixels"]["interval"]


def test_polygons_are_a_truth_too(stores, scored):
    """The outline of the large lake, which holds for both dates."""
    west, north = UTM.transform * (5, 5)
    lake = shapely.box(west, north - 200, west + 200, north)
    inventory = geopandas.GeoDataFrame({"name": ["lake"]}, geometry=[lake], crs="EPSG:32645")
    inventory.to_crs("EPSG:4326").to_file(stores / "inventory.gpkg")
    found = run_score(
        stores / "run", stores / "inventory.gpkg", stores / "polygons", console=Console(file=io.StringIO())
    )
    assert found["pixels"]["fn"] == 2 * 2 * 20
    assert found["pixels"]["fp"] == 0


def test_other_numbers_and_other_folders_are_refused(stores):
    with pytest.raises(OutputError, match="2 maps came with 1 truths"):
        run_score([stores / "run"] * 2, stores / "truth.zarr", stores / "new")
    with pytest.raises(OutputError, match="no Zarr store"):
        run_score(stores / "none", stores / "truth.zarr", stores / "new")
    with pytest.raises(OutputError, match="is there already"):
        run_score(stores / "run", stores / "truth.zarr", stores / "run")
    with pytest.raises(OutputError, match=r"holds no scores\.json"):
        run_score(stores / "run", stores / "truth.zarr", stores / "run", overwrite=True)
    assert not (stores / "new").exists()


def test_the_truth_of_a_simulated_catalogue_is_found(simulated: Path, tmp_path: Path):
    from xglof.simulate import read_truth

    truth, _ = read_truth(simulated)
    write_zarr(truth[["lake"]].isel(time=[1, 3]), tmp_path / "seg.zarr")
    found = run_score(tmp_path / "seg.zarr", simulated, tmp_path / "out", console=Console(file=io.StringIO()))
    assert found["pixels"]["iou"] == 1
    assert found["boundary"]["boundary_f1"] == 1
    assert found["dates"] == 2
