from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xglof.cube.harmonise import (
    DARK_BANDS,
    Offset,
    baseline_number,
    check_offset,
    check_radar_units,
    dark_level,
    decide_offset,
    describe_radar,
    radar_modality,
    remove_offset,
    stated_offset,
    to_db,
    to_power,
)
from xglof.errors import CatalogError, CubeError

FLAG = "earthsearch:boa_offset_applied"
BASELINE = "s2:processing_baseline"


def test_the_four_numbers_of_the_contract() -> None:
    raw = np.array([0, 1, 950, 1000, 1001, 65535], dtype="uint16")
    out = remove_offset(raw, 1000)
    assert out.dtype == np.uint16
    assert out.tolist() == [0, 1, 1, 1, 1, 64535]
    assert remove_offset(raw, 0).tolist() == raw.tolist()


@given(arrays(np.uint16, st.tuples(st.integers(1, 5), st.integers(1, 5))), st.sampled_from([0, 1000]))
def test_offset_never_wraps_and_keeps_validity(raw: np.ndarray, offset: int) -> None:
    out = remove_offset(raw, offset)
    for before, after in zip(raw.ravel().tolist(), out.ravel().tolist(), strict=True):
        assert after == (0 if before == 0 else max(before - offset, 1))


def test_offsets_broadcast_along_time() -> None:
    raw = np.full((2, 1, 3), 1500, dtype="uint16")
    out = remove_offset(raw, np.array([0, 1000])[:, None, None])
    assert out[:, 0, 0].tolist() == [1500, 500]


def test_decibels() -> None:
    power = np.array([1, 0.1, 10, 0, -32768, np.nan, np.inf], dtype="float32")
    out = to_db(power)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, np.array([0, -10, 10] + [np.nan] * 4, dtype="float32"))


def test_decibels_do_not_depend_on_the_place_in_the_block() -> None:
    power = np.random.default_rng(0).uniform(1e-4, 2, 10_000).astype("float32")
    whole = to_db(power)
    parts = np.concatenate([to_db(power[start : start + 37]) for start in range(0, 10_000, 37)])
    np.testing.assert_array_equal(whole, parts)


@pytest.mark.parametrize(
    ("properties", "flag", "expected"),
    [
        ({BASELINE: "03.01"}, None, Offset(0, "baseline", "03.01")),
        ({BASELINE: "04.00"}, None, Offset(1000, "baseline", "04.00")),
        ({BASELINE: "N0509"}, None, Offset(1000, "baseline", "N0509")),
        ({BASELINE: 4.0}, None, Offset(1000, "baseline", "4.0")),
        ({BASELINE: "3.1"}, None, Offset(0, "baseline", "3.1")),
        ({BASELINE: "05.09", FLAG: True}, FLAG, Offset(0, "flag", "05.09")),
        ({BASELINE: "05.09", FLAG: False}, FLAG, Offset(1000, "flag", "05.09")),
        ({BASELINE: "02.14", FLAG: False}, FLAG, Offset(0, "flag", "02.14")),
        ({BASELINE: "05.09"}, FLAG, Offset(1000, "baseline", "05.09")),
        ({FLAG: True}, FLAG, Offset(0, "flag", "")),
        ({BASELINE: "05.09", FLAG: True}, None, Offset(1000, "baseline", "05.09")),
    ],
)
def test_offset_decision(properties: dict[str, object], flag: str | None, expected: Offset) -> None:
    assert decide_offset("x", properties, flag) == expected


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({}, "has no s2:processing_baseline"),
        ({FLAG: False}, "has no s2:processing_baseline"),
        ({BASELINE: "newest"}, "expected a number such as '05.09'"),
        ({BASELINE: "05.09", FLAG: "yes"}, "expected true or false"),
    ],
)
def test_offset_that_cannot_be_told(properties: dict[str, object], message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        decide_offset("x", properties, FLAG)


@pytest.mark.parametrize(("text", "value"), [("02.14", 0), ("05.10", 1000), ("N0510", 1000), ("04.00", 1000)])
def test_the_baseline_is_read_where_the_archive_has_it(text: str, value: int) -> None:
    properties = {"processing:version": text, BASELINE: "unread"}
    expected = Offset(value, "baseline", text)
    assert decide_offset("x", properties, None, baseline_name="processing:version") == expected


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({BASELINE: "05.09"}, "has no processing:version"),
        ({"processing:version": 5}, "processing:version is '5'"),
    ],
)
def test_messages_name_the_property_that_was_looked_at(properties: dict[str, object], message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        decide_offset("x", properties, None, baseline_name="processing:version")


def test_what_is_not_stated_is_none_and_what_cannot_be_read_is_an_error() -> None:
    assert stated_offset("x", {FLAG: False}, FLAG) is None
    assert stated_offset("x", {BASELINE: "05.09"}, None) == Offset(1000, "baseline", "05.09")
    with pytest.raises(CatalogError, match="expected true or false"):
        stated_offset("x", {FLAG: 1}, FLAG)


def bands_of(rng: np.random.Generator, **reflectance: tuple[int, int]) -> dict[str, np.ndarray]:
    """Bands x 10,000 without offset: uniform between two numbers, a tenth nodata."""
    bands = {}
    for name, (low, high) in reflectance.items():
        band = rng.integers(low, high, (60, 60), dtype=np.uint16)
        band[:6] = 0
        bands[name] = band
    return bands


SCENES = {
    "lake": {"B02": (100, 900), "B04": (60, 1200), "B11": (20, 2500), "B12": (10, 2000)},
    "snow in sun": {"B02": (7000, 9900), "B04": (7000, 9900), "B11": (150, 900), "B12": (120, 800)},
    "desert": {"B02": (850, 2000), "B04": (1500, 4000), "B11": (3000, 5000), "B12": (2500, 5000)},
    "cloud": {"B02": (3500, 8000), "B04": (3500, 8000), "B11": (1200, 4000), "B12": (950, 3000)},
}


@pytest.mark.parametrize(
    ("scene", "without", "under"),
    [
        ("lake", 0, 1000),
        ("snow in sun", 0, None),  # dark in the infrared only: a cloud without the offset looks the same
        ("desert", 0, None),
        ("cloud", None, None),
    ],
)
def test_what_the_pixels_of_a_scene_tell(scene: str, without: int | None, under: int | None) -> None:
    bands = bands_of(np.random.default_rng(0), **SCENES[scene])
    raised = {name: np.where(band > 0, band + 1000, 0).astype("uint16") for name, band in bands.items()}
    for held, expected in ((bands, without), (raised, under)):
        level = dark_level(held)
        if expected is None:
            assert level > 1400
        else:
            assert check_offset("x", None, level) == Offset(expected, "pixels", "")


@given(st.lists(st.integers(0, 3000), min_size=400, max_size=400), st.integers(0, 2**32 - 1))
def test_the_dark_level_is_that_of_a_loop(numbers: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    bands = {name: rng.permutation(np.array(numbers, dtype="uint16")).reshape(20, 20) for name in DARK_BANDS}
    bands["B12"] = bands["B12"] // 2
    levels = []
    for pair in (("B02", "B04"), ("B11", "B12")):
        ranked = [sorted(number for number in bands[name].ravel().tolist() if number) for name in pair]
        places = [(len(ranks) - 1) / 100 for ranks in ranked]
        levels.append(
            min(
                ranks[int(at)] + (at - int(at)) * (ranks[min(int(at) + 1, len(ranks) - 1)] - ranks[int(at)])
                if len(ranks) >= 100
                else np.inf
                for ranks, at in zip(ranked, places, strict=True)
            )
        )
    expected = min(levels) if min(levels) < 900 else max(levels)
    assert dark_level(bands) == (
        pytest.approx(expected) if expected < np.inf else pytest.approx(np.nan, nan_ok=True)
    )


def test_few_dark_pixels_do_not_count_and_too_few_tell_nothing() -> None:
    band = np.full((100, 100), 1100, dtype="uint16")
    band[0, :99] = 3
    assert dark_level({"B04": band, "B12": band}) == 1100
    few = np.zeros((100, 100), dtype="uint16")
    few[0, :99] = 1100
    assert np.isnan(dark_level({"B04": few, "B12": few}))
    assert np.isnan(dark_level({"B04": band, "B12": few}))


@pytest.mark.parametrize("names", [(), ("B02", "B04"), ("B11", "B08"), ("SCL",)])
def test_a_dark_level_takes_both_ends_of_the_spectrum(names: tuple[str, ...]) -> None:
    with pytest.raises(CubeError, match="it takes one of B02 and B04 and one of B11 and B12"):
        dark_level({name: np.ones((20, 20), dtype="uint16") for name in names})


@pytest.mark.parametrize(
    ("stated", "darkest", "expected"),
    [
        (Offset(1000, "flag", "05.11"), 1100.0, Offset(1000, "flag", "05.11")),
        (Offset(1000, "flag", "05.11"), 899.9, Offset(0, "pixels", "05.11")),
        (Offset(1000, "baseline", "05.11"), 1400.1, Offset(1000, "baseline", "05.11")),
        (Offset(0, "flag", "05.11"), 900.0, Offset(1000, "pixels", "05.11")),
        (Offset(0, "flag", "05.11"), 1400.0, Offset(1000, "pixels", "05.11")),
        (Offset(0, "baseline", "02.14"), 20.0, Offset(0, "baseline", "02.14")),
        (Offset(0, "baseline", "02.14"), float("nan"), Offset(0, "baseline", "02.14")),
        (Offset(0, "baseline", "02.14"), 1163.0, Offset(0, "baseline", "02.14")),
        (Offset(0, "flag", "N0301"), 900.0, Offset(0, "flag", "N0301")),
        (None, 20.0, Offset(0, "pixels", "")),
        (None, 1200.0, Offset(1000, "pixels", "")),
    ],
)
def test_pixels_decide_where_they_can(stated: Offset | None, darkest: float, expected: Offset) -> None:
    assert check_offset("x", stated, darkest) == expected


@pytest.mark.parametrize(
    ("darkest", "message"),
    [
        (2500.0, "item x states neither.*darkest numbers of 2500 do not tell"),
        (float("nan"), "too few valid pixels"),
    ],
)
def test_nothing_tells(darkest: float, message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        check_offset("x", None, darkest)


@pytest.mark.parametrize(
    "chip", ["282D_485L_3_3", "38D_378R_2_3", "433D_629L_3_1", "609U_541L_3_0", "637U_59R_1_3"]
)
def test_real_chips_of_mixed_radiometry(chip: str) -> None:
    """Only 433D still carries the offset; water, savanna, river, snow and coast are among them."""
    import rasterio

    if "XGLOF_SAMPLES" not in os.environ:
        pytest.skip("needs real chips: set XGLOF_SAMPLES to the folder of samples")
    names = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
    with rasterio.open(f"{os.environ['XGLOF_SAMPLES']}/terramind/examples/S2L2A/{chip}.tif") as source:
        level = dark_level(dict(zip(names, source.read(), strict=True)))
    carries = chip.startswith("433D")
    for stated in (None, Offset(0, "flag", "05.00"), Offset(1000, "baseline", "05.00")):
        assert check_offset(chip, stated, level).value == (1000 if carries else 0)


def test_power_of_every_unit() -> None:
    nan, inf = float("nan"), float("inf")
    cases = {
        "power": ([0.5, 0, -1, -32768, nan, inf], [0.5] + [nan] * 5),
        "amplitude": ([0.5, 0, -1, -32768, nan, inf], [0.25] + [nan] * 5),
        "decibel": ([-10, 0, -32768, nan, inf, -inf], [0.1, 1] + [nan] * 4),
    }
    for units, (values, expected) in cases.items():
        out = to_power(np.array(values, dtype="float32"), units)  # type: ignore[arg-type]
        assert out.dtype == np.float32
        np.testing.assert_allclose(out, expected, rtol=1e-6)
    assert to_power(np.array([0, 300], dtype="uint16"), "amplitude")[1] == 90_000  # no wrap in uint16


@given(arrays(np.float32, 7, elements=st.floats(-50, 30, width=32)))
def test_decibels_come_back_from_power(decibels: np.ndarray) -> None:
    np.testing.assert_allclose(to_db(to_power(decibels, "decibel")), decibels, atol=1e-4)


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ("digital_number", "not sigma0.*calibrate them first.*or use S1RTC"),
        ("dB", "units of Sentinel-1 are 'dB'"),
    ],
)
def test_units_that_are_no_backscatter_are_refused(units: str, message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        check_radar_units(units)
    with pytest.raises(CatalogError, match=message):
        to_power(np.ones(2), units)  # type: ignore[arg-type]


def test_what_the_radar_is_can_be_read_back() -> None:
    assert radar_modality(describe_radar("RTC", "gamma0")) == "S1RTC"
    assert radar_modality(describe_radar("GRD", "sigma0")) == "S1GRD"
    for text in ("", "gamma0", "SLC"):
        with pytest.raises(CubeError, match="expected a text such as"):
            radar_modality(text)


def test_baselines_order() -> None:
    assert baseline_number("x", "") < baseline_number("x", "02.14") < baseline_number("x", "N0400")
    assert baseline_number("x", "04.00") < baseline_number("x", "05.11")


def test_a_baseline_that_was_written_as_a_number() -> None:
    assert baseline_number("x", "4.0") == baseline_number("x", "04.00")
    assert baseline_number("x", "5.1") == baseline_number("x", "05.10") > baseline_number("x", "05.09")
    for text in ("5", "5.", "5.100", "05.1x"):
        with pytest.raises(CatalogError, match=r"expected a number such as '05.09'"):
            baseline_number("x", text)


def test_dry_rock_without_the_offset_is_not_taken_for_one_with_it() -> None:
    rng = np.random.default_rng(0)
    means = {"B02": 1150, "B04": 1350, "B11": 1500, "B12": 1350}
    rock = {name: rng.normal(mean, 80, (100, 100)).astype("uint16") for name, mean in means.items()}
    level = dark_level(rock)
    assert 900 < level < 1400
    assert check_offset("x", Offset(0, "baseline", "02.14"), level).value == 0
    assert check_offset("x", Offset(0, "flag", "05.11"), level).value == 1000
