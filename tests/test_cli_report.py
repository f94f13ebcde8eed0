"""``xglof report`` on the folder of a run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from commands import Command
from report_page import Page, browse


@pytest.fixture(scope="module")
def mapped(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the small simulated valley."""
    from xglof.survey import Request, run_survey

    out = tmp_path_factory.mktemp("mapped") / "run"
    request = Request(
        aoi=None, time=None, catalog=str(simulated), modalities=("S2L2A", "DEM"), model="water-index"
    )
    run_survey(request, out)
    return out


def test_a_run_is_reported(xglof: Command, mapped: Path, tmp_path: Path) -> None:
    target = tmp_path / "valley.html"
    ran = xglof("report", mapped, "--out", target)
    assert ran.code == 0, ran.err
    assert str(target) in ran.out
    page = Page.read(target)
    assert "Simulated data: no satellite saw this." in page.text
    assert "water-index" in page.text
    assert "4 dates, 2021-07-10 to 2023-08-12" in page.text
    assert "Caveat of water-index" in page.text
    assert "m (DEM of 2011 to 2015)" in page.text
    assert [path.name for path in tmp_path.iterdir()] == ["valley.html"]
    assert "water-index" in browse(target, tmp_path / "profile", "--dump-dom")


def test_the_report_lies_in_the_run_and_is_kept(xglof: Command, mapped: Path, tmp_path: Path) -> None:
    run = shutil.copytree(mapped, tmp_path / "run")
    assert xglof("report", run).code == 0
    first = (run / "report.html").read_bytes()
    ran = xglof("report", run)
    assert ran.code == 2
    assert "is there already" in ran.err
    assert xglof("report", run, "--overwrite").code == 0
    assert (run / "report.html").read_bytes() == first  # nothing in it depends on the day


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("", "is no folder"),
        ("segmentation.zarr", "holds no segmentation.zarr"),
        ("lakes.parquet", "holds no lakes.parquet"),
    ],
)
def test_what_is_no_run_is_said(
    xglof: Command, mapped: Path, tmp_path: Path, missing: str, message: str
) -> None:
    run = tmp_path / "run"
    if missing:
        shutil.copytree(mapped, run)
        gone = run / missing
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    ran = xglof("report", run, "--out", tmp_path / "r.html")
    assert ran.code == 2
    assert message in ran.err
    assert ran.err.count("\n") == 1
    assert not (tmp_path / "r.html").exists()


def test_a_damaged_table_is_said(xglof: Command, mapped: Path, tmp_path: Path) -> None:
    run = shutil.copytree(mapped, tmp_path / "run")
    (run / "lakes.parquet").write_bytes(b"no parquet")
    ran = xglof("report", run)
    assert ran.code == 2
    assert "lakes.parquet can't be read" in ran.err
