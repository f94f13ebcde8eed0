"""The engine's promises as properties: unity, and the same bits whatever way the work is cut."""

from __future__ import annotations

from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xglof
from toys import WINDOW, raster, spec

relaxed = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
sides = st.integers(1, 3 * WINDOW)
overlaps = st.sampled_from([0, 0.25, 0.5, 0.6, 0.75])


def same_bits(first: xr.Dataset, second: xr.Dataset) -> bool:
    return all(
        np.array_equal(first[name].values, second[name].values, equal_nan=name == "lake_probability")
        for name in ("lake_probability", "lake", "flags")
    )


def run(cube: xr.Dataset, **options: Any) -> xr.Dataset:
    return xglof.segment(cube, device="cpu", **options).compute()


@pytest.mark.parametrize("side", range(1, 2 * WINDOW + 2))
def test_a_constant_comes_out_exactly_at_every_raster_size(side: int) -> None:
    model = spec("constant", kwargs={"values": (1.0,)}, activation="identity")
    for shape in ((side, side), (side, 2 * WINDOW + 2 - side)):
        seg = run(raster(*shape, times=1), model=model)
        assert np.all(seg["lake_probability"].values == np.float32(1))
        assert np.all(seg["lake"].values == 1)


@relaxed
@given(sides, sides, overlaps, st.integers(0, 40), st.integers(0, 40))
def test_unity_at_any_phase_and_overlap(height: int, width: int, overlap: float, dx: int, dy: int) -> None:
    model = spec("constant", kwargs={"values": (1.0,)}, activation="identity")
    cube = raster(height, width, times=1, left=500_000 + 10 * dx, top=3_100_000 - 10 * dy)
    seg = run(cube, model=model, overlap=overlap, chunks=23)
    assert np.all(seg["lake_probability"].values == np.float32(1))


@relaxed
@given(
    sides,
    sides,
    overlaps,
    st.lists(st.tuples(st.integers(3, 60), st.integers(3, 60)), min_size=2, max_size=2),
    st.sampled_from(["one logit", "softmax"]),
)
def test_chunks_change_no_bit(
    height: int, width: int, overlap: float, chunks: list[tuple[int, int]], head: str
) -> None:
    model = (
        spec("context")
        if head == "one logit"
        else spec("context", kwargs={"classes": 3}, classes=("land", "lake", "ice"), activation="softmax")
    )
    cube = raster(height, width, left=500_070, top=3_100_110)
    cube["vv"].values[:, height // 3 :, width // 2 :] = np.nan
    whole = run(cube, model=model, overlap=overlap)
    for blocks in chunks:
        assert same_bits(run(cube, model=model, overlap=overlap, chunks=blocks), whole)


@relaxed
@given(st.integers(0, 40), st.integers(0, 40))
def test_a_part_agrees_with_the_whole_a_window_from_its_edge(top: int, left: int) -> None:
    cube = raster(90, 85)
    model = spec("context")
    whole = run(cube, model=model)
    part = run(cube.isel(y=slice(top, top + 45), x=slice(left, left + 44)), model=model)
    inner = {"y": slice(WINDOW, 45 - WINDOW), "x": slice(WINDOW, 44 - WINDOW)}
    xr.testing.assert_identical(
        part["lake_probability"].isel(inner),
        whole["lake_probability"].isel(y=slice(top, top + 45), x=slice(left, left + 44)).isel(inner),
    )


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_schedulers_agree(scheduler: str) -> None:
    cube, model = raster(60, 70), spec("context")
    reference = run(cube, model=model, chunks=25)
    with dask.config.set(scheduler=scheduler, num_workers=4):
        assert same_bits(run(cube, model=model, chunks=31), reference)


def test_time_steps_apart_or_together_agree() -> None:
    cube, model = raster(40, 50, times=3), spec("context")
    whole = run(cube, model=model)
    for step in range(3):
        assert same_bits(run(cube.isel(time=[step]), model=model), whole.isel(time=[step]))
        alone = run(cube.isel(time=step), model=model)
        assert alone["lake"].dims == ("y", "x")
        assert same_bits(alone, whole.isel(time=step))


@pytest.mark.parametrize("dims", [("y",), ("x",), ("y", "x")])
def test_south_up_and_east_to_west_are_turned_and_turned_back(dims: tuple[str, ...]) -> None:
    cube, model = raster(40, 50), spec("context")
    upright = run(cube, model=model)
    turn = dict.fromkeys(dims, slice(None, None, -1))
    turned = run(cube.isel(turn), model=model)
    xr.testing.assert_identical(turned.isel(turn), upright)


def test_geographic_grid_keeps_its_names() -> None:
    cube = raster(30, 40, crs="EPSG:4326", left=86.9, top=27.9, resolution=0.0001)
    seg = run(cube, model=spec("context"))
    assert seg["lake"].dims == ("time", "latitude", "longitude")
    assert seg.odc.geobox == cube.odc.geobox
    assert same_bits(run(cube, model=spec("context"), chunks=17), seg)
