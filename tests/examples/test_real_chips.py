"""The real-pixel path of ``examples/real_chips.py``; skipped where the sample chips are not at hand."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import xglof

ROOT = Path(__file__).parents[2]
CHIPS = Path(os.environ.get("XGLOF_SAMPLES", "absent")) / "terramind" / "examples"

pytestmark = pytest.mark.skipif(
    not CHIPS.is_dir(), reason="the sample chips are absent; XGLOF_SAMPLES names the folder that holds them"
)


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("real_chips", ROOT / "examples" / "real_chips.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["real_chips"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def catalog(example: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("chips")
    return Path(example.write_catalog(list(example.read_chips(CHIPS)), root))


@pytest.mark.parametrize(
    ("name", "offset"),
    [
        ("282D_485L_3_3", 0),
        ("38D_378R_2_3", 0),
        ("433D_629L_3_1", 1000),
        ("609U_541L_3_0", 0),
        ("637U_59R_1_3", 0),
    ],
)
def test_the_cube_holds_the_chips_pixels(example: ModuleType, catalog: Path, name: str, offset: int) -> None:
    chip = example.Chip.read(CHIPS, name)
    cube = xglof.open_cube(catalog=catalog, geobox=chip.geobox).compute()
    assert cube["s2_offset"].item() == offset  # 433D alone still carries it
    expected = np.clip(chip.s2.astype("int64") - offset, 1, None)
    for number, band in enumerate(("B01", "B02", "B03", "B04")):
        np.testing.assert_array_equal(cube[band].values[0], expected[number])
    np.testing.assert_allclose(cube["vv"].values[0], chip.s1_db[0], atol=1e-3)
    np.testing.assert_allclose(cube["dem"].values, chip.dem[0], atol=1e-3)
    assert cube.odc.geobox.crs == chip.geobox.crs


def test_water_of_a_real_coast_is_found(example: ModuleType, catalog: Path) -> None:
    chip = example.Chip.read(CHIPS, "282D_485L_3_3")
    row = example.score_chip(chip, catalog, "water-index")
    assert row["precision"] > 0.95  # half of the reference is a dry sand bar that day: see docs/results.md
    assert 0.4 < row["recall"] < 0.7
    assert row["polygons"] > 0


def test_dry_land_stays_dry(example: ModuleType, catalog: Path) -> None:
    for name in ("38D_378R_2_3", "637U_59R_1_3"):
        row = example.score_chip(example.Chip.read(CHIPS, name), catalog, "water-index")
        assert row["area_km2"] < 0.01


@pytest.mark.slow
def test_the_demo_model_runs_on_real_pixels(example: ModuleType, catalog: Path) -> None:
    row = example.score_chip(example.Chip.read(CHIPS, "282D_485L_3_3"), catalog, "terramind-tiny-demo")
    assert row["observed"] == 1
    assert row["precision"] > 0.9  # docs/results.md: 0.994, and a recall of 0.558
    assert 0.4 < row["recall"] < 0.75
