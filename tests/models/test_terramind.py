"""The demonstration model: one import of terratorch (about 20 s) for all of these."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

import xglof
from toys import raster
from xglof.models.registry import get_spec

pytestmark = pytest.mark.slow

SPEC = get_spec("terramind-tiny-demo")
BANDS = {"S2L2A": 12, "S1RTC": 2, "DEM": 1}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return SPEC.load("cpu")


@pytest.fixture(scope="module")
def cube() -> xr.Dataset:
    noise = raster(300, 280, modalities=("S2L2A", "S1RTC", "DEM"), times=1, left=500_370, top=3_100_410)
    for name, variable in noise.data_vars.items():
        if str(name).startswith("B"):
            noise[name] = variable * np.uint16(400)
    return noise.assign(vv=noise["vv"] * 4 - 12, vh=noise["vh"] * 4 - 18, dem=noise["dem"] * 50 + 4500)


def inputs(names: tuple[str, ...]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(2, BANDS[name], 224, 224, generator=generator) for name in names}


@pytest.mark.parametrize("names", [n for k in (1, 2, 3) for n in itertools.combinations(BANDS, k)])
def test_any_set_of_modalities_gives_one_logit(network: nn.Module, names: tuple[str, ...]) -> None:
    with torch.inference_mode():
        logits = network(inputs(names))
    assert logits.shape == (2, 1, 224, 224)
    assert torch.isfinite(logits).all()


def test_the_order_in_which_modalities_come_changes_no_bit(network: nn.Module) -> None:
    given = inputs(tuple(BANDS))
    with torch.inference_mode():
        assert torch.equal(network(given), network(dict(reversed(given.items()))))


def test_the_encoder_is_terramind_tiny_by_terratorch(network: nn.Module) -> None:
    encoder = network.get_submodule("core.encoder")
    assert type(encoder).__module__.startswith("terratorch.")
    assert len(encoder.get_submodule("encoder")) == 12
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(6.07e6, rel=0.01)


def test_the_weights_are_half_precision_and_small() -> None:
    from safetensors import safe_open

    assert SPEC.weights is not None
    assert SPEC.weights.path.stat().st_size <= 20e6
    with safe_open(SPEC.weights.path, "pt") as file:
        dtypes = {file.get_tensor(name).dtype for name in file.keys() if "num_batches" not in name}  # noqa: SIM118
    assert dtypes == {torch.float16}


def test_three_chunkings_and_a_sub_area_give_the_same_bits(cube: xr.Dataset) -> None:
    whole = xglof.segment(cube, model=SPEC, device="cpu").compute()
    for chunks in (280, 130, (97, 211)):
        cut = xglof.segment(cube, model=SPEC, device="cpu", chunks=chunks).compute()
        xr.testing.assert_identical(cut, whole)
    part = {"y": slice(0, None), "x": slice(20, None)}
    inner = {"x": slice(224, None)}
    sub = xglof.segment(cube.isel(part), model=SPEC, device="cpu").compute()
    xr.testing.assert_identical(sub.isel(inner), whole.isel(part).isel(inner))


def test_a_cube_of_one_sensor_is_served(cube: xr.Dataset) -> None:
    seg = xglof.segment(cube[["vv", "vh"]].isel(y=slice(0, 60), x=slice(0, 60)), model=SPEC, device="cpu")
    assert not seg["lake_probability"].isnull().any()
    assert np.unique(seg["flags"]).tolist() == [int(xglof.cube.flags.Flag.s1_used)]
