"""Gamma0 and sigma0 are two sensors to a network: which of them a cube holds decides what it is fed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import xarray as xr

from toys import raster, spec
from xglof import ModelInput, ModelSpec, segment
from xglof.engine.inputs import find_inputs, for_radar, radar_of
from xglof.errors import CubeError
from xglof.models.registry import TERRAMIND_INPUTS, get_spec

BOTH = ("S2L2A", "S1RTC", "S1GRD", "DEM")


def cube_of(product: str | None, modalities: tuple[str, ...] = ("S2L2A", "S1RTC", "DEM")) -> xr.Dataset:
    cube = raster(40, 40, modalities=modalities)
    for name in ("vv", "vh") if product is not None else ():
        cube[name].attrs["product"] = product
    return cube


def terramind(modalities: tuple[str, ...] = BOTH, **changes: Any) -> ModelSpec:
    inputs = tuple(TERRAMIND_INPUTS[name] for name in ("S2L2A", "S1RTC", "DEM"))
    kwargs = {"size": "tiny", "modalities": modalities, "decoder_channels": 8}
    made = ModelSpec(name="mine", factory="xglof.models.terramind:segmenter", inputs=inputs, kwargs=kwargs)
    return replace(made, **changes)


def test_statistics_are_those_that_terramind_was_pretrained_with() -> None:
    register = pytest.importorskip("terratorch.models.backbones.terramind.model.terramind_register")
    keys = {"S2L2A": "sen2l2a", "S1RTC": "sen1rtc", "S1GRD": "sen1grd", "DEM": "dem"}
    assert set(TERRAMIND_INPUTS) == set(keys)
    for name, source in TERRAMIND_INPUTS.items():
        assert source.mean == tuple(register.v1_pretraining_mean[f"untok_{keys[name]}@224"])
        assert source.std == tuple(register.v1_pretraining_std[f"untok_{keys[name]}@224"])


@pytest.mark.parametrize(
    ("product", "held"), [(None, None), ("RTC gamma0", "S1RTC"), ("GRD sigma0", "S1GRD"), ("grd", "S1GRD")]
)
def test_what_a_cube_says(product: str | None, held: str | None) -> None:
    assert radar_of(cube_of(product)) == held


def test_a_cube_without_radar_says_nothing() -> None:
    assert radar_of(raster(8, 8, modalities=("S2L2A",))) is None


@pytest.mark.parametrize("product", ["gamma0", "", "Sentinel-1 RTC"])
def test_a_product_that_cannot_be_read_is_refused(product: str) -> None:
    with pytest.raises(CubeError, match="expected a text such as 'RTC gamma0'"):
        radar_of(cube_of(product))


def test_polarisations_of_two_products_are_refused() -> None:
    cube = cube_of("RTC gamma0")
    cube["vh"].attrs["product"] = "GRD sigma0"
    with pytest.raises(CubeError, match="vv is 'RTC gamma0' and vh is 'GRD sigma0'"):
        radar_of(cube)


def test_sigma0_is_standardised_as_sigma0_where_the_network_takes_it() -> None:
    fitted = for_radar(terramind(), cube_of("GRD sigma0"))
    assert [source.modality for source in fitted.inputs] == ["S2L2A", "S1GRD", "DEM"]
    assert fitted.inputs[1].mean == (-12.599, -20.293)
    assert fitted.inputs[1].std == (5.195, 5.89)
    found = find_inputs(cube_of("GRD sigma0"), fitted, ("y", "x"))
    assert {"vv", "vh"} <= set(found)


def test_gamma0_is_standardised_as_gamma0_where_the_spec_was_made_for_sigma0() -> None:
    grd = for_radar(terramind(), cube_of("GRD sigma0"))
    assert for_radar(grd, cube_of("RTC gamma0")) == terramind()


def test_an_input_that_cannot_be_left_out_stays_so() -> None:
    needed = replace(TERRAMIND_INPUTS["S1RTC"], optional=False)
    fitted = for_radar(terramind(inputs=(needed,)), cube_of("GRD sigma0"))
    assert fitted.inputs == (replace(TERRAMIND_INPUTS["S1GRD"], optional=False),)


def test_the_network_runs_on_what_was_fitted() -> None:
    fitted = for_radar(terramind(), cube_of("GRD sigma0"))
    given = {source.modality: torch.zeros(1, len(source.bands), 64, 64) for source in fitted.inputs}
    assert fitted.build().eval()(given).shape == (1, 1, 64, 64)


@pytest.mark.parametrize("product", [None, "RTC gamma0"])
def test_gamma0_and_silence_change_nothing(product: str | None) -> None:
    for model in (terramind(), get_spec("terramind-tiny-demo"), get_spec("water-index")):
        assert for_radar(model, cube_of(product)) is model
        assert "vv" in find_inputs(cube_of(product), model, ("y", "x"))


@pytest.mark.parametrize(
    "model",
    [
        get_spec("terramind-tiny-demo"),
        get_spec("water-index"),
        spec("context"),
        terramind(("S2L2A", "S1RTC", "DEM")),
        terramind(inputs=(ModelInput("S1RTC", mean=(-9.25, -18), std=(5.9, 5.92)),)),
    ],
    ids=["demo", "water-index", "toy", "rtc-only", "own-statistics"],
)
def test_sigma0_is_never_fed_to_a_network_of_gamma0(model: ModelSpec, no_compute: None) -> None:
    cube = cube_of("GRD sigma0").chunk()
    assert for_radar(model, cube) is model
    with pytest.raises(CubeError, match=r"takes S1RTC, and the cube holds GRD sigma0 \(S1GRD\)"):
        segment(cube, model=model, device="cpu")


def test_gamma0_is_never_fed_to_a_network_of_sigma0() -> None:
    with pytest.raises(CubeError, match=r"takes S1GRD, and the cube holds RTC gamma0 \(S1RTC\)"):
        find_inputs(cube_of("RTC gamma0"), spec("context", ("S1GRD",)), ("y", "x"))


def test_without_the_radar_the_other_sensor_is_enough() -> None:
    cube = cube_of("GRD sigma0").drop_vars(["vv", "vh"])
    assert set(find_inputs(cube, get_spec("water-index"), ("y", "x"))) == {"B03", "B08", "B11", "dem"}
