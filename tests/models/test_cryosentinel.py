"""CryoSentinel's inputs, against a naive form of the preparation that its code publishes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

import toys
import xglof
from xglof import CubeError, ModelError, ModelInput
from xglof.bands import MODALITIES
from xglof.engine.stage import standardise
from xglof.models.registry import CRYOSENTINEL, TERRAMIND_INPUTS, get_spec
from xglof.train.batch import ChipBatch, prepare

S2, S1, DEM = CRYOSENTINEL.inputs
SIDE = 6


def raw() -> dict[str, np.ndarray]:
    """A chip as the data set holds it, with every odd case: (C, y, x) by modality."""
    rng = np.random.default_rng(5)
    s2 = rng.integers(1, 9_000, (12, SIDE, SIDE)).astype("uint16")
    s1 = rng.normal(-12, 4, (2, SIDE, SIDE)).astype("float32")
    dem = rng.integers(2_000, 6_000, (1, SIDE, SIDE)).astype("int16")
    s2[:, 0, 0] = 0  # nodata: all bands
    s2[:, 0, 1], s2[3, 0, 2] = 16_000, 40_000  # at the limit, and over it
    s2[7, 1, 0] = 1
    s1[:, 1, 1], s1[0, 1, 2] = np.nan, np.nan
    s1[1, 1, 3] = 12.5
    dem[0, 2, 0], dem[0, 2, 1], dem[0, 2, 2] = -32_768, -600, 9_500
    return {"S2L2A": s2, "S1GRD": s1, "DEM": dem}


def as_cube(chip: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """The chip in the variables, units and nodata of a cube."""
    planes = {
        band.name: torch.from_numpy(plane)
        for modality in chip
        for band, plane in zip(MODALITIES[modality].bands, chip[modality], strict=True)
    }
    dem = chip["DEM"][0].astype("float32")
    return planes | {"dem": torch.from_numpy(np.where(np.abs(dem) >= 32_000, np.nan, dem).astype("float32"))}


def published(chip: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Pixel by pixel: what is invalid, found on raw numbers; then limits, -25 dB, mean and deviation."""
    prepared = {name: np.empty(values.shape, "float32") for name, values in chip.items()}
    valid = np.ones((SIDE, SIDE), bool)
    sources = {source.modality: source for source in CRYOSENTINEL.inputs}
    for row in range(SIDE):
        for column in range(SIDE):
            s2, s1, dem = (chip[name][:, row, column].astype("float32") for name in chip)
            valid[row, column] = (
                any(s2 != 0) and all(np.isfinite(s1)) and not any(abs(height) >= 32_000 for height in dem)
            )
            limited = {
                "S2L2A": [min(max(value, 0), 16_000) for value in s2],
                "S1GRD": [-25 if np.isnan(value) else value for value in s1],
                "DEM": [min(max(value, -500), 9_000) for value in dem],
            }
            for name, values in limited.items():
                source = sources[name]
                for band, value in enumerate(values):
                    mean, std = np.float32(source.mean[band]), np.float32(source.std[band])
                    prepared[name][band, row, column] = (np.float32(value) - mean) / std
    return prepared, valid


def test_inputs_are_those_of_the_published_preparation() -> None:
    chip = raw()
    prepared, valid = published(chip)
    observed = np.ones((SIDE, SIDE), bool)
    for source in CRYOSENTINEL.inputs:
        values, seen = standardise(source, as_cube(chip))
        np.testing.assert_array_equal(values[0].numpy(), prepared[source.modality])
        observed &= seen[0].numpy()
    np.testing.assert_array_equal(observed, valid)


def test_a_pixel_without_one_band_is_unobserved_and_its_numbers_are_as_published() -> None:
    chip = raw()
    chip["S2L2A"][4, 5, 5] = 0  # in a cube no valid number is 0, in the data set it may be
    values, seen = standardise(S2, as_cube(chip))
    np.testing.assert_array_equal(values[0].numpy(), published(chip)[0]["S2L2A"])
    assert not seen[0, 5, 5]


def test_chips_are_prepared_by_the_same_code() -> None:
    planes = {name: plane[None] for name, plane in as_cube(raw()).items()}
    label = torch.ones((1, SIDE, SIDE), dtype=torch.uint8)
    batch = ChipBatch(planes, label, torch.arange(1), ("S2L2A", "S1GRD", "DEM"))
    sample = prepare(CRYOSENTINEL, batch)
    for source in CRYOSENTINEL.inputs:
        assert torch.equal(sample.inputs[source.modality], standardise(source, planes)[0])
    ignored = (sample.label[0] == 255).nonzero().tolist()
    assert ignored == [[0, 0], [1, 1], [1, 2]]  # no sensor's void; a void of the DEM is no void of the answer


@pytest.mark.parametrize("name", ["S2L2A", "S1RTC", "DEM"])
def test_without_limits_nothing_has_changed(name: str) -> None:
    source = TERRAMIND_INPUTS[name]
    planes = {key: plane[None] for key, plane in as_cube(raw()).items()}
    values, seen = standardise(source, planes)
    for number, band in enumerate(MODALITIES[name].bands):
        plane = planes[band.name].to(torch.float32)
        good = torch.isfinite(plane) & (plane != band.nodata)
        filled = torch.where(good, plane, source.fill[number])
        assert torch.equal(values[:, number], (filled - source.mean[number]) / source.std[number])
    wide = replace(source, clip=(-40_000, 70_000))
    assert all(torch.equal(*pair) for pair in zip(standardise(wide, planes), (values, seen), strict=True))


def test_a_map_of_unlimited_numbers_is_that_of_limited_ones() -> None:
    cube = toys.raster(40, 37, seed=3)
    limits = (-0.5, 0.75)
    spec = toys.spec("context")
    limited = replace(spec, inputs=(replace(spec.inputs[0], clip=limits),))
    cube["vv"][0, 3, 4] = np.nan
    before = xglof.segment(cube.clip(*limits), model=spec, device="cpu")
    after = xglof.segment(cube, model=limited, device="cpu")
    xr.testing.assert_equal(before.compute(), after.compute())
    assert not after.equals(xglof.segment(cube, model=spec, device="cpu"))


@pytest.mark.parametrize("clip", [(1, 1), (2, 1), (1,), (1, 2, 3), (float("nan"), 1)])
def test_limits_are_checked(clip: tuple[float, ...]) -> None:
    with pytest.raises(ModelError, match="clip is"):
        ModelInput("DEM", mean=(0,), std=(1,), clip=clip)  # type: ignore[arg-type]


def test_terrain_corrected_radar_is_refused() -> None:
    cube = toys.raster(30, 30, modalities=("S2L2A", "S1RTC", "DEM"), times=1)
    for name in ("vv", "vh"):
        cube[name].attrs["product"] = "RTC gamma0"
    spec = replace(CRYOSENTINEL, weights=None)
    with pytest.raises(CubeError, match="takes S1GRD, and the cube holds RTC gamma0"):
        xglof.segment(cube, model=spec, device="cpu")


def test_it_does_not_run_without_its_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    cube = toys.raster(30, 30, modalities=("S2L2A", "S1GRD", "DEM"), times=1)
    with pytest.raises(ModelError, match="xglof models fetch cryosentinel"):
        xglof.segment(cube, model="cryosentinel", device="cpu")
    with pytest.raises(ModelError, match="no trained weights"):
        xglof.segment(cube.drop_vars(["vv", "vh"]), model="terramind-large", device="cpu")
    assert get_spec("cryosentinel").weights == CRYOSENTINEL.weights
