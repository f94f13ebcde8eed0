from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import xglof
from toys import WINDOW, raster, spec
from xglof.cube.flags import Flag
from xglof.engine.blend import UNITY, window_weights
from xglof.engine.choose import per_window
from xglof.engine.device import _one_thread_pool
from xglof.engine.job import Job
from xglof.engine.lattice import Axis
from xglof.engine.stage import HostBlock, Staged, observed_pixels, stage


def naive(
    cube: xr.Dataset, model: xglof.ModelSpec, stride: int, flips: tuple[tuple[int, ...], ...]
) -> np.ndarray:
    """Every window by itself in a loop, float64 sums, edges padded by NumPy."""
    network = model.build().eval()
    values = np.stack([cube["vv"].values, cube["vh"].values], axis=1).astype(np.float32)
    times, _, height, width = values.shape
    grid = cube.odc.geobox.affine
    first = (int(-grid.f // 10), int(grid.c // 10))
    pad = 2 * WINDOW
    padded = np.pad(values, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="reflect")
    total = np.zeros((times, height + 2 * pad, width + 2 * pad))
    weights = np.outer(*[window_weights(WINDOW, stride) / UNITY] * 2)
    for t in range(times):
        for top in range(-WINDOW + 1, height):
            for left in range(-WINDOW + 1, width):
                if (top + first[0]) % stride or (left + first[1]) % stride:
                    continue
                area = (slice(top + pad, top + pad + WINDOW), slice(left + pad, left + pad + WINDOW))
                crop = torch.from_numpy(padded[t, :, *area][None])
                with torch.inference_mode():
                    logits = [network({"S1RTC": crop.flip(f)}).flip(f) for f in flips]
                total[t, *area] += weights * (sum(logits) / len(flips))[0, 0].double().numpy()
    logit = total[:, pad : pad + height, pad : pad + width]
    return 1 / (1 + np.exp(-logit))


@pytest.mark.parametrize("tta", [None, "flip"])
@pytest.mark.parametrize("overlap", [0, 0.5])
def test_against_a_naive_loop(overlap: float, tta: str | None) -> None:
    cube = raster(37, 45, left=500_030, top=3_100_070)
    flips = ((),) if tta is None else ((), (-1,), (-2,), (-2, -1))
    expected = naive(cube, spec("context"), round(WINDOW * (1 - overlap)), flips)
    seg = xglof.segment(cube, model=spec("context"), overlap=overlap, tta=tta, device="cpu")
    np.testing.assert_allclose(seg["lake_probability"].values, expected, atol=2e-6)


def test_softmax_gives_the_share_of_the_lake() -> None:
    model = spec(
        "constant", kwargs={"values": (0.5, 2.0, -1.0)}, classes=("land", "lake", "ice"), activation="softmax"
    )
    seg = xglof.segment(raster(20, 20), model=model, device="cpu")
    shares = np.exp([0.5, 2.0, -1.0])
    np.testing.assert_allclose(seg["lake_probability"].values, shares[1] / shares.sum(), rtol=1e-6)


def test_nodata_is_unobserved_and_windows_without_data_never_run() -> None:
    cube = raster(60, 60, times=1)
    cube["vh"].values[:, :, 30:] = np.nan
    seg = xglof.segment(cube, model=spec("context"), device="cpu").compute()
    assert np.all(np.isnan(seg["lake_probability"].values) == np.isnan(cube["vh"].values))
    assert np.all((seg["lake"].values == 255) == np.isnan(cube["vh"].values))
    empty = xr.full_like(cube, np.nan)
    unrun = xglof.segment(empty, model=spec("wrong", kwargs={"how": "nan"}), device="cpu").compute()
    assert np.all(unrun["lake"].values == 255)  # the network would have raised


def test_flags_make_unobserved_and_are_kept() -> None:
    cube = raster(30, 30, times=1)
    flags = np.zeros((1, 30, 30), "uint16")
    flags[:, 5:9] = Flag.cloud
    flags[:, 12:15] = Flag.snow  # snow alone hides nothing
    cube["flags"] = (cube["vv"].dims, flags)
    seg = xglof.segment(cube, model=spec("context"), device="cpu").compute()
    assert np.all((seg["lake"].values == 255) == (flags == Flag.cloud))
    assert np.all(seg["flags"].values[:, 5:9] == Flag.cloud)
    assert np.all(seg["flags"].values[:, 12:15] == Flag.snow | Flag.s1_used)


BOTH = ("S2L2A", "S1RTC", "DEM")


def test_a_modality_that_is_not_seen_is_left_out_and_said_so() -> None:
    cube = raster(4 * WINDOW, 40, modalities=BOTH, times=1, top=3_100_000 + 10 * (3_100_000 // 10 % 8))
    for name in ("vv", "vh"):
        cube[name].values[:, : 2 * WINDOW] = np.nan
    cube["B03"].values[:, -1] = 0
    model = spec("bits", BOTH, optional=BOTH, activation="identity", unobserved_when=(), min_share=0.4)
    seg = xglof.segment(cube, model=model, overlap=0, device="cpu").compute()
    assert set(np.unique(seg["lake_probability"].values)) == {5.0, 7.0}
    both = Flag.s2_used | Flag.s1_used
    assert set(np.unique(seg["flags"].values)) == {Flag.s2_used, both, Flag.s1_used}
    assert np.all(seg["flags"].values[:, -1] == Flag.s1_used)
    assert not np.isnan(seg["lake_probability"].values).any()


def test_a_required_modality_decides_what_is_observed() -> None:
    cube = raster(30, 30, modalities=BOTH, times=1)
    cube["B11"].values[:, 4] = 0
    model = spec("bits", BOTH, optional=("S1RTC", "DEM"), activation="identity")
    lake = xglof.segment(cube, model=model, device="cpu")["lake"].values
    assert np.all(lake[:, 4] == 255)
    assert not np.any(np.delete(lake, 4, axis=1) == 255)


def test_a_sliver_of_the_only_sensor_is_still_run() -> None:
    cube = raster(WINDOW, WINDOW, modalities=("S2L2A", "S1RTC"), times=1)
    for name in cube.data_vars:
        cube[name].values[:, 1:] = 0 if str(name).startswith("B") else np.nan
    model = spec(
        "bits", ("S2L2A", "S1RTC"), optional=("S2L2A", "S1RTC"), activation="identity", min_share=0.9
    )
    seg = xglof.segment(cube, model=model, device="cpu").compute()
    assert np.all(seg["lake_probability"].values[:, 0] == 3)
    assert np.all(seg["lake"].values[:, 1:] == 255)


@pytest.mark.parametrize(
    ("how", "words"),
    [("shape", "expected a tensor"), ("squeezed", "expected a tensor"), ("nan", "not finite")],
)
def test_a_network_that_breaks_its_contract_is_named(how: str, words: str) -> None:
    seg = xglof.segment(raster(20, 20), model=spec("wrong", kwargs={"how": how}), device="cpu")
    with pytest.raises(xglof.ModelError, match=words):
        seg.compute()


def test_a_forward_pass_has_one_thread_and_other_threads_keep_theirs() -> None:
    def of_a_new_thread() -> int:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(torch.get_num_threads).result()

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        _one_thread_pool.cache_clear()
        cube = raster(60, 60, times=1)
        seg = xglof.segment(cube, model=spec("threads", activation="identity"), device="cpu", chunks=20)
        assert np.unique(seg["lake_probability"].values).tolist() == [1]
        assert (torch.get_num_threads(), of_a_new_thread()) == (3, 3)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("way", ["of old", "by backend"])
def test_the_precision_that_a_process_has_set_changes_no_bit_and_stays(way: str) -> None:
    def precision() -> str:
        return torch.get_float32_matmul_precision() if way == "of old" else products.fp32_precision

    def lower(value: str) -> None:
        if way == "of old":
            torch.set_float32_matmul_precision(value)  # as `import terratorch` does
        else:
            products.fp32_precision = value

    products = getattr(torch.backends.mkldnn, "matmul", None)
    if way == "by backend" and products is None:
        pytest.skip("torch before 2.9")
    seg = xglof.segment(
        raster(40, 40, times=1), model=spec("precision", activation="identity"), device="cpu", chunks=20
    )
    before, low = precision(), "medium" if way == "of old" else "bf16"
    lower(low)
    try:
        assert np.unique(seg["lake_probability"].values).tolist() == [1]
        assert precision() == low
    finally:
        lower(before)


def test_a_flag_named_twice_is_that_flag() -> None:
    seen = {spec("bits").inputs[0]: torch.ones((1, 1, 2), dtype=torch.bool)}
    flags = np.array([[[Flag.cloud, Flag.cloud_shadow]]], "uint16")
    model = spec("bits", unobserved_when=("cloud", "cloud"))
    observed = observed_pixels(model, seen, torch.from_numpy(flags))
    assert observed.tolist() == [[[False, True]]]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
def test_pixels_a_window_are_counted(side: int, stride: int, rows: int, columns: int, seed: int) -> None:
    stride = min(stride, side)
    shape = (2, (rows - 1) * stride + side, (columns - 1) * stride + side)
    mask = np.random.default_rng(seed).random(shape) < 0.5
    axis = Axis(99, 0, side, stride)
    model = spec("bits", window=side, multiple_of=1)
    job = Job(model, axis, axis, batch=2, device="cpu", platform="")
    expected = [
        [[plane[top : top + side, left : left + side].sum() for left in range(0, shape[2] - side + 1, stride)]
         for top in range(0, shape[1] - side + 1, stride)]
        for plane in mask
    ]  # fmt: skip
    np.testing.assert_array_equal(per_window(job, torch.from_numpy(mask)), expected)


def test_a_pixel_seen_only_by_what_was_left_out_is_unobserved() -> None:
    cube = raster(2 * WINDOW, 2 * WINDOW, modalities=("S2L2A", "S1RTC"), times=1)
    for name in cube.data_vars:  # radar alone in the first row, optical alone in the rest
        if str(name).startswith("B"):
            cube[name].values[:, 0] = 0
        else:
            cube[name].values[:, 1:] = np.nan
    both = ("S2L2A", "S1RTC")
    model = spec("bits", both, optional=both, activation="identity", min_share=0.2)
    seg = xglof.segment(cube, model=model, overlap=0, device="cpu").compute()
    used = seg["flags"].values & int(Flag.s1_used | Flag.s2_used)
    assert np.all(seg["lake"].values[:, 0] == 255)
    assert np.all(used[:, 0] == 0)
    assert np.all(seg["lake_probability"].values[:, 1:] == 1)


def names_and_bits(seg: xr.Dataset) -> dict[str, bytes]:
    return {str(name): variable.values.tobytes() for name, variable in seg.data_vars.items()}


def with_room_for(rows: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Make the device too small for blocks of more rows; the rows of those that fitted."""
    fitted: list[int] = []

    def staged(job: Job, block: HostBlock) -> Staged:
        if block.rows[1] - block.rows[0] > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        fitted.append(block.rows[1] - block.rows[0])
        return stage(job, block)

    monkeypatch.setattr("xglof.engine.runner.stage", staged)
    return fitted


def test_a_block_that_does_not_fit_is_staged_in_parts_with_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cube = raster(90, 40, modalities=("S1RTC", "DEM"))
    cube["flags"] = xr.zeros_like(cube["dem"], dtype="uint16")
    cube["flags"][3:50, 5:20] = int(Flag.cloud)
    options: dict[str, Any] = {"output": ("probability", "logit", "tile_mismatch"), "where": cube["dem"] < 1}
    model = spec("context", ("S1RTC", "DEM"))
    seg = xglof.segment(cube, model=model, device="cpu", chunks={"time": 2}, **options)
    assert seg["lake"].chunks == ((2,), (90,), (40,))
    whole = names_and_bits(seg.compute())
    fitted = with_room_for(30, monkeypatch)
    assert names_and_bits(seg.compute(scheduler="sync")) == whole
    assert max(fitted) <= 30
    assert sum(fitted) % 90 == 0


def test_a_network_is_as_trainable_as_if_it_had_been_loaded_first() -> None:
    model = spec("context", name="loaded by a segmentation")
    xglof.segment(raster(20, 20), model=model, device="cpu").compute()
    assert not any(weight.is_inference() for weight in model.load("cpu").parameters())


def test_a_batch_that_does_not_fit_names_the_batch_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    seg = xglof.segment(raster(40, 40), model=spec("context"), device="cpu")
    with_room_for(0, monkeypatch)
    words = r"no memory for one row of windows in batches of 4 \(CUDA out of memory.*pass batch_size=2"
    with pytest.raises(xglof.ModelError, match=words):
        seg.compute()


def test_only_windows_with_something_to_say_run(tmp_path: Path) -> None:
    def windows(cube: xr.Dataset, **options: Any) -> int:
        log = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        log.touch()
        model = spec("counting", kwargs={"log": str(log)})
        xglof.segment(cube, model=model, device="cpu", overlap=0, batch_size=2, **options).compute()
        return log.stat().st_size

    cube = raster(4 * WINDOW, 6 * WINDOW, times=1, left=16 * WINDOW * 10 * 1000, top=16 * WINDOW * 10 * 1000)
    assert windows(cube) == 24
    where = xr.zeros_like(cube["vv"][0].drop_vars("time"), dtype=bool)
    assert windows(cube, where=where) == 0
    where[{"y": slice(WINDOW - 1, WINDOW + 1), "x": 0}] = True
    assert windows(cube, where=where) == 2
    for name in ("vv", "vh"):
        cube[name].values[:, :WINDOW] = np.nan
    assert windows(cube) == 18
    assert windows(cube, where=where) == 2  # one window, filled up to the batch


def test_layers_against_their_definitions() -> None:
    model = spec("context", kwargs={"classes": 3}, classes=("land", "lake", "ice"), activation="softmax")
    every = ("probability", "logit", "classes", "entropy", "tile_mismatch")
    cube = raster(40, 50)
    cube["vv"].values[:, 5:9, 4] = np.nan
    seg = xglof.segment(cube, model=model, device="cpu", output=every).compute()
    logit = seg["logit"].values.astype(float)
    shares = np.exp(logit) / np.exp(logit).sum(axis=0)
    known = ~np.isnan(cube["vv"].values)
    assert seg["logit"].dims == ("class", "time", "y", "x")
    assert seg["class"].values.tolist() == ["land", "lake", "ice"]
    np.testing.assert_allclose(seg["lake_probability"], np.where(known, shares[1], np.nan), atol=1e-6)
    np.testing.assert_array_equal(seg["classes"], np.where(known, np.argmax(logit, axis=0), 255))
    entropy = -(shares * np.log(shares)).sum(axis=0) / np.log(3)
    np.testing.assert_allclose(seg["entropy"], np.where(known, entropy, np.nan), atol=1e-5)
    assert seg["classes"].attrs["flag_meanings"] == "land lake ice unobserved"


def test_layers_of_one_logit() -> None:
    seg = xglof.segment(
        raster(40, 50), model=spec("context"), device="cpu", output=("logit", "classes", "entropy")
    ).compute()
    assert "lake_probability" not in seg
    logit = seg["logit"].values[0].astype(float)
    p = 1 / (1 + np.exp(-logit))
    np.testing.assert_array_equal(seg["classes"], logit >= 0)
    np.testing.assert_array_equal(seg["lake"], seg["classes"])
    bits = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    np.testing.assert_allclose(seg["entropy"], bits, atol=1e-5)
    assert seg["classes"].attrs["flag_meanings"] == "land lake unobserved"


def test_tile_mismatch_against_a_naive_count() -> None:
    cube = raster(24, 24, times=1, left=0, top=0)
    model, network, stride = spec("context"), spec("context").build().eval(), WINDOW // 2
    padded = np.pad(
        np.stack([cube["vv"].values[0], cube["vh"].values[0]]), ((0, 0), (32, 32), (32, 32)), mode="reflect"
    )
    weights = np.outer(*[window_weights(WINDOW, stride) / UNITY] * 2)
    votes, total = np.zeros((88, 88)), np.zeros((88, 88))
    for top in range(32 - stride, 32 + 24, stride):
        for left in range(32 - stride, 32 + 24, stride):
            area = (slice(top, top + WINDOW), slice(left, left + WINDOW))
            with torch.inference_mode():
                crop = torch.from_numpy(padded[:, *area].astype(np.float32)[None])
                logit = network({"S1RTC": crop})[0, 0].numpy()
            votes[area] += weights * (logit >= 0)
            total[area] += weights * logit
    inner = np.s_[32:56, 32:56]
    expected = np.where(total >= 0, 1 - votes, votes)[inner]
    assert 0.05 < expected.mean() < 0.5
    seg = xglof.segment(cube, model=model, device="cpu", output="tile_mismatch").compute()
    np.testing.assert_allclose(seg["tile_mismatch"].values[0], expected, atol=1e-6)
