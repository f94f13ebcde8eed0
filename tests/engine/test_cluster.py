"""Processes and workers: the same bits, refused where they would differ, and again after a death."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster, Nanny, SpecCluster
from distributed.scheduler import Scheduler

import xglof
from toys import raster, spec

# workers are told to say nothing of what these tests do to them
QUIET = {"silence_logs": "CRITICAL", "dashboard_address": None}


def bits(seg: xr.Dataset) -> list[bytes]:
    return [seg[name].values.tobytes() for name in ("lake_probability", "lake", "flags")]


@pytest.fixture(scope="module")
def cube() -> xr.Dataset:
    return raster(70, 60, left=500_070)


@pytest.fixture(scope="module")
def reference(cube: xr.Dataset) -> list[bytes]:
    with dask.config.set(scheduler="synchronous"):
        return bits(xglof.segment(cube, model=spec("context"), device="cpu").compute())


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=request.param, threads_per_worker=1, processes=True, **QUIET) as cluster:
        yield cluster


@pytest.mark.parametrize("cluster", [1, 2], indirect=True)
def test_workers_agree_to_the_bit(cluster: LocalCluster, cube: xr.Dataset, reference: list[bytes]) -> None:
    with Client(cluster):
        for part in (cube, cube.chunk({"time": 1, "y": 23, "x": 40})):
            seg = xglof.segment(part, model=spec("context"), device="cpu", chunks=25)
            assert bits(seg.compute()) == reference


@pytest.mark.parametrize("cluster", [2], indirect=True)
def test_workers_read_a_store_and_run_terramind_to_the_same_bits(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    cube = raster(230, 250, modalities=("S2L2A", "S1RTC", "DEM"), times=1)
    options: dict[str, Any] = {"model": "terramind-tiny-demo", "device": "cpu", "overlap": 0.25}
    with dask.config.set(scheduler="synchronous"):
        whole = bits(xglof.segment(cube, **options).compute())
        xglof.write_zarr(cube, tmp_path / "cube.zarr")
    stored = xglof.read_zarr(tmp_path / "cube.zarr", chunks=None)
    with Client(cluster):
        assert bits(xglof.segment(stored, chunks=140, **options).compute()) == whole


def test_processes_agree_to_the_bit(cube: xr.Dataset, reference: list[bytes]) -> None:
    seg = xglof.segment(cube, model=spec("context"), device="cpu", chunks=30)
    with dask.config.set(scheduler="processes", num_workers=2):
        assert bits(seg.compute()) == reference


@pytest.mark.parametrize("cluster", [2], indirect=True)
def test_a_killed_worker_changes_nothing(
    cluster: LocalCluster, cube: xr.Dataset, reference: list[bytes], tmp_path: Path
) -> None:
    marker = tmp_path / "killed"
    with Client(cluster):
        model = spec("killer", kwargs={"marker": str(marker)})
        seg = xglof.segment(cube.chunk({"y": 30, "x": 30}), model=model, device="cpu", chunks=25)
        result = bits(seg.compute())
    assert marker.exists()
    assert result == reference


def worker(name: str, **environment: str) -> dict[str, Any]:
    """A worker whose torch has other kernels, as on another machine."""
    options = {"nthreads": 1, "env": environment, "silence_logs": "CRITICAL", "dashboard": False}
    return {name: {"cls": Nanny, "options": options}}


def other_workers(*specs: dict[str, Any]) -> SpecCluster:
    scheduler = {"cls": Scheduler, "options": {"dashboard": False, "port": 0, "host": "127.0.0.1"}}
    workers = {name: options for each in specs for name, options in each.items()}
    return SpecCluster(workers, scheduler=scheduler, silence_logs="CRITICAL")


def test_workers_of_two_kinds_are_refused_before_a_graph_is_built(cube: xr.Dataset) -> None:
    two = other_workers(worker("a"), worker("b", ATEN_CPU_CAPABILITY="default"))
    with (
        two as cluster,
        Client(cluster),
        pytest.raises(xglof.ModelError, match="differ in the last bits") as told,
    ):
        xglof.segment(cube, model=spec("context"), device="cpu")
    assert "DEFAULT" in str(told.value)


def test_a_worker_of_another_kind_is_asked_or_refused(cube: xr.Dataset) -> None:
    made_here = xglof.segment(cube, model=spec("context"), device="cpu", chunks=30)
    with other_workers(worker("b", ATEN_CPU_CAPABILITY="default")) as cluster, Client(cluster):
        with pytest.raises(xglof.ModelError, match="was made for"):
            made_here.compute()
        made_there = xglof.segment(cube, model=spec("context"), device="cpu", chunks=30)
        assert "DEFAULT" in made_there.attrs["numerics"]
        assert made_there.attrs["numerics"] != made_here.attrs["numerics"]
        np.testing.assert_allclose(
            made_there["lake_probability"].values,
            made_here["lake_probability"].compute(scheduler="sync"),
            atol=1e-5,
        )
