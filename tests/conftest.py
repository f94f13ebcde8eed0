"""Fixtures that every folder of tests shares."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest

from commands import Command, Ran
from tiny_catalog import Written, write_catalog


def _refuse(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("something was computed while a graph was built")


@pytest.fixture
def no_compute() -> Iterator[None]:
    """Make any Dask computation fail while the fixture is active."""
    with dask.config.set(scheduler=_refuse):
        yield


@pytest.fixture
def xglof(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line in this process, on a terminal of 80 columns."""
    from xglof.cli import main

    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["xglof", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return Ran(ended.value.code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A tiny catalogue of known numbers."""
    return write_catalog(tmp_path_factory.mktemp("tiny-catalog"))


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the catalogue of a small simulated valley: four summer dates, one lake that drains."""
    from xglof import simulate

    place = simulate.valley(
        3, shape=(128, 128), dates=["2021-07-10", "2021-08-20", "2022-08-05", "2023-08-12"]
    )
    folder = tmp_path_factory.mktemp("simulated") / "valley"
    simulate.write_catalog(place, folder)
    return folder
