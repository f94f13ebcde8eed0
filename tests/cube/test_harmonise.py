from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xglof.cube.harmonise import Offset, baseline_number, clamped_count, decide_offset, remove_offset, to_db
from xglof.errors import CatalogError

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


def test_clamped_count_is_lazy_and_right(no_compute: None) -> None:
    raw = np.array([0, 1, 950, 1000, 1001], dtype="uint16")
    assert clamped_count(raw, 1000) == 3
    assert clamped_count(raw, 0) == 0
    assert isinstance(clamped_count(da.from_array(raw, chunks=2), 1000), da.Array)


def test_decibels() -> None:
    power = np.array([1, 0.1, 10, 0, -32768, np.nan], dtype="float32")
    out = to_db(power)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, np.array([0, -10, 10, np.nan, np.nan, np.nan], dtype="float32"))


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


def test_baselines_order() -> None:
    assert baseline_number("x", "") < baseline_number("x", "02.14") < baseline_number("x", "N0400")
    assert baseline_number("x", "04.00") < baseline_number("x", "05.11")
