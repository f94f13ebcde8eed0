"""The engine's promises as properties: unity, and the same bits whatever way the work is cut."""

from __future__ import annotations

import io
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xglof
from toys import WINDOW, raster, spec
from xglof.cube.flags import Flag

HEADS = {
    "one logit": spec("context"),
    "two logits": spec("context", kwargs={"classes": 2}, classes=("ice", "lake")),
    "softmax": spec("context", kwargs={"classes": 3}, classes=("land", "lake", "ice"), activation="softmax"),
}
relaxed = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
sides = st.integers(1, 3 * WINDOW)
overlaps = st.sampled_from([0, 0.25, 0.5, 0.6, 0.75])


EVERY = ("probability", "logit", "classes", "entropy", "tile_mismatch")


def same_bits(first: xr.Dataset, second: xr.Dataset) -> bool:
    return set(first.data_vars) == set(second.data_vars) and all(
        np.array_equal(first[name].values, second[name].values, equal_nan=first[name].dtype.kind == "f")
        for name in first.data_vars
    )


def on_disk(cube: xr.Dataset) -> xr.Dataset:
    """The cube as it is opened from a file without Dask."""
    buffer = io.BytesIO(cube.drop_vars("spatial_ref").drop_encoding().to_netcdf(engine="scipy"))
    opened = xr.open_dataset(buffer, engine="scipy", cache=False)
    return opened.assign_coords(cube.coords)


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
@given(sides, sides, st.floats(0, 0.9), st.integers(1, 40), st.integers(0, 40), st.integers(0, 40))
def test_unity_at_any_phase_overlap_and_window(
    height: int, width: int, overlap: float, window: int, dx: int, dy: int
) -> None:
    model = spec("constant", kwargs={"values": (1.0,)}, activation="identity", window=window, multiple_of=1)
    cube = raster(height, width, times=1, left=500_000 + 10 * dx, top=3_100_000 - 10 * dy)
    seg = run(cube, model=model, overlap=overlap, chunks=23)
    assert np.all(seg["lake_probability"].values == np.float32(1))


@relaxed
@given(
    sides,
    sides,
    overlaps,
    st.lists(st.tuples(st.integers(3, 60), st.integers(3, 60)), min_size=2, max_size=2),
    st.sampled_from(["one logit", "two logits", "softmax"]),
    st.sampled_from([None, "flip"]),
)
def test_chunks_change_no_bit_of_any_layer(
    height: int, width: int, overlap: float, chunks: list[tuple[int, int]], head: str, tta: str | None
) -> None:
    cube = raster(height, width, left=500_070, top=3_100_110)
    cube["vv"].values[:, height // 3 :, width // 2 :] = np.nan
    options: dict[str, Any] = {"model": HEADS[head], "overlap": overlap, "output": EVERY, "tta": tta}
    whole = run(cube, **options)
    for blocks, pieces in zip(chunks, chunks[::-1], strict=True):
        assert same_bits(run(cube, chunks=blocks, **options), whole)
        lazy = cube.chunk({"time": 1, "y": pieces[0], "x": pieces[1]})  # other chunks than the blocks
        assert same_bits(run(lazy, chunks=blocks, **options), whole)
        assert same_bits(run(on_disk(cube), chunks=blocks, **options), whole)


PROJECTED = {"crs": "EPSG:32645", "left": 500_070, "top": 3_100_110, "resolution": 10}
GEOGRAPHIC = {"crs": "EPSG:4326", "left": 86.9, "top": 27.9, "resolution": 0.0001}


@relaxed
@given(
    st.integers(0, 40),
    st.integers(0, 40),
    st.sampled_from([0.25, 0.5, 0.75]),
    st.sampled_from([PROJECTED, GEOGRAPHIC]),
    st.booleans(),
)
def test_a_part_agrees_with_the_whole_a_window_from_its_edge(
    top: int, left: int, overlap: float, grid: dict[str, Any], ascending: bool
) -> None:
    cube = raster(90, 85, **grid)
    cube = cube.rename({"latitude": "y", "longitude": "x"}) if grid is GEOGRAPHIC else cube
    if ascending:
        cube = cube.isel(y=slice(None, None, -1))
    options: dict[str, Any] = {"model": HEADS["softmax"], "overlap": overlap, "output": EVERY}
    whole = run(cube, **options)
    part = run(cube.isel(y=slice(top, top + 45), x=slice(left, left + 44)), **options)
    inner = {"y": slice(WINDOW, 45 - WINDOW), "x": slice(WINDOW, 44 - WINDOW)}
    xr.testing.assert_identical(
        part.isel(inner), whole.isel(y=slice(top, top + 45), x=slice(left, left + 44)).isel(inner)
    )


@relaxed
@given(
    st.integers(0, 2**32 - 1), st.floats(0, 1), st.integers(5, 60), st.sampled_from(["y, x", "time, y, x"])
)
def test_a_mask_changes_no_bit_inside_it(seed: int, share: float, chunks: int, dims: str) -> None:
    cube, model = raster(50, 60), spec("context")
    cube["vv"].values[:, 10:20, :30] = np.nan
    rng = np.random.default_rng(seed)
    where = (cube["vv"] if dims == "time, y, x" else cube["vv"][0].drop_vars("time")).copy()
    coarse = rng.random((*where.shape[:-2], 5, 6)) < share
    where = where.copy(data=np.kron(coarse, np.ones((10, 10), bool)))
    options: dict[str, Any] = {"model": model, "output": EVERY, "chunks": chunks}
    whole, part = run(cube, **options), run(cube, where=where.chunk({"y": 17}), **options)
    asked = where.broadcast_like(whole["lake"])
    for name in whole.data_vars:
        outside = part[name].where(~asked)
        np.testing.assert_array_equal(part[name].where(asked), whole[name].where(asked))
        if name == "flags":
            assert np.all(outside.values[~asked.values] == Flag.not_requested)
        else:
            assert np.all(np.isnan(outside) | (outside == 255))


@relaxed
@given(st.sampled_from(["uint16", "int16", "float32", "float64", ">i2", "uint8"]), st.integers(5, 40))
def test_types_of_numbers_change_no_bit(dtype: str, chunks: int) -> None:
    cube = raster(40, 45, modalities=("S2L2A", "DEM"))
    model = spec("context", ("S2L2A", "DEM"))
    whole = run(cube, model=model)
    turned = cube.map(lambda band: band.astype(dtype) if band.dtype == "uint16" else band)
    assert same_bits(run(turned, model=model, chunks=chunks), whole)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_schedulers_agree(scheduler: str) -> None:
    cube, model = raster(60, 70), spec("context")
    reference = run(cube, model=model, chunks=25)
    with dask.config.set(scheduler=scheduler, num_workers=4):
        assert same_bits(run(cube, model=model, chunks=31), reference)


def test_time_steps_apart_or_together_agree() -> None:
    cube, model = raster(40, 50, times=3), spec("context")
    whole = run(cube, model=model)
    for times in (1, 2, 3):
        together = run(cube, model=model, chunks={"time": times, "y": 25})
        assert same_bits(together, whole)
        lazy = cube.chunk({"time": times, "x": 20})
        assert same_bits(run(lazy, model=model), whole)
        assert same_bits(run(lazy, model=model, chunks={"time": 2}), whole)
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
    mapped = run(cube, model=spec("context"), chunks={"latitude": 11, "longitude": 30})
    assert same_bits(mapped, seg)


@pytest.mark.slow
@pytest.mark.parametrize("tta", [None, "flip"])
def test_terramind_gives_the_same_bits_under_any_chunking(tta: str | None) -> None:
    cube = raster(230, 250, modalities=("S2L2A", "S1RTC", "DEM"), times=1, left=500_310, top=3_100_770)
    cube["vv"].values[:, :, :120] = np.nan
    options: dict[str, Any] = {"tta": tta, "overlap": 0 if tta else 0.5, "output": EVERY}
    whole = run(cube, **options)
    assert same_bits(run(cube.chunk({"y": 130, "x": 200}), chunks=(170, 230), **options), whole)
