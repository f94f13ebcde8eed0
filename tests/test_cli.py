from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
import pystac
import pytest

from commands import Command, Ran
from stac_server import as_earth_search, dem_document, serve
from xglof import Weights
from xglof.cube.providers import EARTH_SEARCH, PROVIDERS
from xglof.models import registry
from xglof.outputs import read_zarr

AOI = "86.481,28.283,86.491,28.292"  # inside the simulated valley


def tree(folder: Path) -> dict[str, int]:
    """Everything below a folder, hidden or not, and its size."""
    return {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*"))}


def assert_refused(ran: Ran, message: str) -> None:
    """Bad input ends with one sentence and exit status 2."""
    assert ran.code == 2
    assert ran.err.startswith("xglof: ")
    assert ran.err.count("\n") == 1
    assert message in ran.err
    assert "Traceback" not in ran.err + ran.out


@pytest.fixture
def survey(simulated: Path) -> list[object]:
    """Arguments that are right; those given after them win."""
    return ["segment", "--catalog", simulated, "--modalities", "S2L2A", "--model", "water-index"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--aoi", "10,10,10.1,10.1"], "outside the area of interest"),
        (["--aoi", "86.48,28.28,86.49"], "neither west,south,east,north in degrees nor a GeoJSON file"),
        (["--aoi", "no-such.geojson"], "neither west,south,east,north in degrees nor a GeoJSON file"),
        (["--aoi", '{"type": "Point"}' * 20], "neither west,south,east,north in degrees nor a GeoJSON file"),
        (["--aoi", "86.49,28.28,86.48,28.29"], "reversed"),
        (["--time", "2010"], "no usable S2L2A item in 2010-01-01"),
        (["--time", "2022-09/2022-07"], "is reversed"),
        (["--time", "summer"], "is not understood"),
        (["--model", "unet"], "model 'unet' is unknown; there are terramind-tiny-demo, water-index"),
        (["--catalog", "nowhere"], "neither a known archive nor a file"),
        (["--catalog", "earth-search", "--aoi", AOI], "--time is needed to search earth-search"),
        (["--modalities", "S3"], "modality 'S3' is unknown"),
        (["--modalities", "DEM"], "needs S2L2A or S1RTC"),
        (["--modalities", ","], "modalities= is empty"),
        (["--threshold", "2"], "threshold is 2.0"),
        (["--overlap", "1"], "overlap is 1.0"),
        (["--device", "tpu"], "device is 'tpu'"),
        (["--crs", "EPSG:nowhere"], "is not understood"),
        (["--resolution", "-1"], "above 0"),
        (["--max-cloud", "400"], "percent, 0 to 100"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    xglof: Command, survey: list[object], tmp_path: Path, arguments: list[str], message: str
) -> None:
    assert_refused(xglof(*survey, *arguments, "--out", tmp_path / "new" / "out"), message)
    assert tree(tmp_path) == {}


@pytest.fixture
def damaged(simulated: Path, tmp_path: Path) -> Path:
    """A copy of the simulated catalogue to spoil."""
    return Path(shutil.copytree(simulated, tmp_path / "catalog"))


def test_a_missing_band(xglof: Command, survey: list[object], damaged: Path, tmp_path: Path) -> None:
    path = next(damaged.glob("sentinel-2-l2a/*/*.json"))
    item = json.loads(path.read_text())
    del item["assets"]["B11"]
    path.write_text(json.dumps(item))
    before = tree(tmp_path)
    ran = xglof(*survey, "--catalog", damaged, "--out", tmp_path / "out")
    assert_refused(ran, "band B11 (asset 'B11') is absent from 1 of")
    assert tree(tmp_path) == before


def test_a_damaged_file_ends_a_run_half_way(
    xglof: Command, survey: list[object], damaged: Path, tmp_path: Path
) -> None:
    path = next(damaged.glob("sentinel-2-l2a/*20210710*/B03.tif"))
    path.write_bytes(path.read_bytes()[:2000])
    before = tree(tmp_path)
    ran = xglof(*survey, "--catalog", damaged, "--out", tmp_path / "out")
    assert_refused(ran, "B03.tif of simulated-valley-3 could not be read after 1 attempt")
    assert "3 used" in ran.out
    assert tree(tmp_path) == before


@pytest.mark.parametrize("command", ["segment", "demo"])
def test_corrupt_weights(
    xglof: Command,
    survey: list[object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"as it was published")
    spec = registry.TINY_DEMO.with_weights(Weights.of(path))
    path.write_bytes(b"damaged on the way ")
    monkeypatch.setitem(registry._SPECS, spec.name, spec)
    before = tree(tmp_path)
    arguments = [*survey, "--model", spec.name] if command == "segment" else [command]
    ran = xglof(*arguments, "--out", tmp_path / "out")
    assert_refused(ran, "the file is damaged or another one")
    assert tree(tmp_path) == before


def test_places_that_cannot_be_written(xglof: Command, survey: list[object], tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("years of work")
    before = tree(tmp_path)
    assert_refused(xglof(*survey, "--out", tmp_path / "taken"), "is there already")
    assert_refused(xglof(*survey, "--out", tmp_path / "taken", "--overwrite"), "no run of xglof")
    assert_refused(xglof(*survey, "--out", tmp_path / "taken" / "thesis.txt" / "out"), "can't write to")
    assert_refused(xglof("demo", "--model", "water-index", "--out", tmp_path / "taken"), "is there already")
    assert tree(tmp_path) == before


def test_a_run_never_replaces_its_own_input(xglof: Command, survey: list[object], damaged: Path) -> None:
    before = tree(damaged.parent)
    ran = xglof(*survey, "--catalog", damaged, "--out", damaged.parent, "--overwrite")
    assert_refused(ran, "holds the input")
    assert tree(damaged.parent) == before


def test_overwriting_waits_for_success(xglof: Command, survey: list[object], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "summary.json").write_text("{}")
    (out / "old.txt").write_text("old")
    before = tree(tmp_path)
    assert_refused(xglof(*survey, "--out", out, "--overwrite", "--time", "2010"), "no usable S2L2A")
    assert tree(tmp_path) == before
    ran = xglof(*survey, "--out", out, "--overwrite", "--time", "2021-07", "--threshold", "1")
    assert ran.code == 0
    assert not (out / "old.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert "0 in all" in ran.out  # no lake is no failure
    assert len(pd.read_csv(out / "areas.csv")) == 0
    assert json.loads((out / "summary.json").read_text())["dates"][0]["sigma_km2"] is None


def test_exit_status_of_the_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "xglof.cli", "segment", "--catalog", str(tmp_path / "none"),
         "--out", str(tmp_path / "out")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert_refused(Ran(done.returncode, done.stdout, done.stderr), "neither a known archive nor a file")
    assert done.stdout == ""
    assert tree(tmp_path) == {}


@pytest.fixture
def earth_search(simulated: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The simulated valley behind an API on the loopback that stands in for Earth Search."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    items = list(pystac.Catalog.from_file(str(simulated / "catalog.json")).get_items(recursive=True))
    with serve(simulated) as (url, handler):
        for item in items:
            files = f"{url}/files/{item.collection_id}/{item.id}"
            if item.collection_id == "sentinel-2-l2a":
                handler.items.append(as_earth_search(item, files, applied=False))
            elif item.collection_id == "cop-dem-glo-30":
                handler.items.append(dem_document(item, f"{files}/data.tif"))
        profiles = MappingProxyType({**PROVIDERS, "earth-search": replace(EARTH_SEARCH, url=url)})
        monkeypatch.setattr("xglof.cube.sources.PROVIDERS", profiles)
        yield url


def test_a_lake_from_an_archive(xglof: Command, earth_search: str, tmp_path: Path) -> None:
    out = tmp_path / "lake"
    request = ["--catalog", "earth-search", "--aoi", AOI, "--modalities", "S2L2A,DEM"]
    ran = xglof(
        "segment", *request, "--time", "2021-07/2023-09", "--model", "water-index", "--out", out, "--tta"
    )
    assert (ran.code, ran.err) == (0, "")
    assert "5 scenes found in earth-search, 4 used, 1 rejected" in ran.out
    assert "rejected S2B_MSIL2A_20230812T043435_SIM0003: cloud cover 76.97 % above 60 %" in ran.out
    assert f"to read: {json.loads((out / 'summary.json').read_text())['pixel_bytes'] / 1e6:.1f} MB" in ran.out
    assert "Caveat of water-index: thresholds on water indices" in ran.out
    assert str(out / "map.png") in ran.out
    assert max(map(len, ran.out[ran.out.index("Lakes by") : ran.out.index("Written to")].splitlines())) <= 80
    command = shlex.split(ran.out.rstrip().splitlines()[-1].partition(": ")[2])
    assert command[:6] == ["xglof", "segment", *request[:4]]
    assert command[command.index("--time") + 1] == "2017/2023"
    assert command[-3:] == ["--out", f"{out}-since-2017", "--tta"]
    assert_account_agrees_with_files(ran.out, out)


def assert_account_agrees_with_files(printed: str, out: Path) -> None:
    """The rows printed are those of the maps and of the series on disk."""
    seg = read_zarr(out / "segmentation.zarr")
    series = pd.read_csv(out / "areas.csv").groupby("time")
    observed = (seg["lake"] != 255).mean(["y", "x"]).values
    sigma = series["area_sigma_m2"].agg(lambda each: np.sqrt((each**2).sum())).to_numpy() / 1e6
    area = series["area_lower_m2"].sum().to_numpy() / 1e6
    assert seg.sizes["time"] == len(area)
    assert area.max() > 0.01
    for step, date in enumerate(seg["time"].dt.strftime("%Y-%m-%d").values):
        row = next(line for line in printed.splitlines() if str(date) in line).replace(" ", "").split("│")
        assert row[2] == f"{observed[step]:.0%}"
        assert row[4] == f"{area[step]:.4f}"
        assert row[5] == f"±{sigma[step]:.4f}"


def test_radar_alone_is_mapped_and_drawn(xglof: Command, survey: list[object], tmp_path: Path) -> None:
    ran = xglof(*survey, "--modalities", "S1RTC", "--aoi", AOI, "--out", tmp_path / "radar")
    assert (ran.code, ran.err) == (0, "")
    assert "3 scenes found in simulated-valley-3, 3 used, 0 rejected" in ran.out
    assert "Next, the areas lake by lake: python -c" in ran.out
    assert sorted(path.name for path in (tmp_path / "radar").iterdir()) == [
        "alerts.csv", "areas.csv", "cube.zarr", "lakes.parquet", "map.png", "segmentation.zarr",
        "summary.json",
    ]  # fmt: skip
    assert (tmp_path / "radar" / "map.png").read_bytes().startswith(b"\x89PNG")


def test_models_are_readable_on_a_narrow_terminal(xglof: Command) -> None:
    ran = xglof("models")
    lines = ran.out.splitlines()
    assert max(map(len, lines)) <= 80
    for name in registry.names():
        assert name in lines
        assert registry.get_spec(name).caveat in " ".join(ran.out.split())


def test_versions_and_help(xglof: Command) -> None:
    assert "terratorch" in xglof("versions").out
    text = xglof("--help").out
    assert all(verb in text for verb in ("demo", "segment", "doctor", "models", "versions"))
    assert "--max-cloud" in xglof("segment", "--help").out


def test_a_misspelt_option_is_refused(xglof: Command, tmp_path: Path) -> None:
    ran = xglof("demo", "--sides", "100", "--out", tmp_path / "out")
    assert ran.code == 2
    assert "--sides" in ran.err
    assert tree(tmp_path) == {}
