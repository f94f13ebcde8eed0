"""The same promises on a GPU, where one is at hand."""

from __future__ import annotations

from typing import Any

import dask
import numpy as np
import pytest
import torch
import xarray as xr

import xglof
from toys import raster, spec
from xglof.engine.job import Job, Span
from xglof.engine.stage import HostBlock, lay_out
from xglof.models.registry import TINY_DEMO

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
EVERY = ("probability", "logit", "classes", "entropy", "tile_mismatch")
LARGE = xglof.ModelSpec(
    name="terramind-large-random",
    factory="xglof.models.terramind:segmenter",
    inputs=TINY_DEMO.inputs,
    kwargs={"size": "large"},
)


def bits(seg: xr.Dataset) -> dict[str, bytes]:
    return {str(name): variable.values.tobytes() for name, variable in seg.data_vars.items()}


def run(cube: xr.Dataset, **options: Any) -> xr.Dataset:
    return xglof.segment(cube, device="cuda", output=EVERY, **options).compute()


@pytest.mark.parametrize("model", ["toy", "terramind-tiny-demo", "large"])
@pytest.mark.parametrize("tta", [None, "flip"])
def test_chunks_and_threads_change_no_bit(model: str, tta: str | None) -> None:
    three = ("S2L2A", "S1RTC", "DEM")
    chosen = {"toy": spec("context", three, optional=three), "large": LARGE}.get(model, model)
    cube = raster(500, 450, modalities=three, times=2, left=500_310, top=3_100_770)
    cube["vv"].values[:, :, :120] = np.nan
    whole = bits(run(cube, model=chosen, tta=tta))
    for chunks in ((170, 260), {"time": 1, "y": 320}):
        with dask.config.set(scheduler="threads", num_workers=4):
            assert bits(run(cube, model=chosen, tta=tta, chunks=chunks)) == whole


def test_a_gpu_agrees_with_the_cpu_but_for_its_precision() -> None:
    cube = raster(300, 300, modalities=("S2L2A", "S1RTC", "DEM"), times=1)
    there = run(cube, model="terramind-tiny-demo")
    here = xglof.segment(cube, model="terramind-tiny-demo", device="cpu").compute()
    assert "bfloat16" in there.attrs["numerics"]
    difference = np.abs(there["lake_probability"] - here["lake_probability"])
    assert float(difference.mean()) < 0.01


def test_what_does_not_fit_is_staged_in_parts_and_memory_follows_the_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = spec("context", ("S1RTC", "DEM"), window=224, kwargs={"side": 224})
    small, large = (raster(*shape, modalities=("S1RTC", "DEM")) for shape in ((1008, 1008), (2016, 4032)))
    peaks = []
    for cube in (small, large):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        run(cube, model=model, chunks={"time": 2, "y": 1008, "x": 1008})
        peaks.append(torch.cuda.max_memory_allocated())
    assert peaks[1] < 2.5 * peaks[0]  # two blocks may lie there at once
    whole = bits(run(small, model=model, chunks={"time": 2}))
    laid_out: list[int] = []

    def watched(job: Job, times: Span, rows: Span, *others: Any) -> HostBlock:
        laid_out.append(rows[1] - rows[0])
        return lay_out(job, times, rows, *others)

    monkeypatch.setattr("xglof.engine.runner.lay_out", watched)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(0.7 * peaks[0] / total)
    try:
        assert bits(run(small, model=model, chunks={"time": 2})) == whole
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert min(laid_out) < max(laid_out)  # it was staged in parts
