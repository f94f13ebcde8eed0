from __future__ import annotations

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from counting_array import on_disk
from lake_maps import lake_map
from xglof import open_cube
from xglof.cube.card_facts import card_of
from xglof.cube.coverage import HIDES_S2, SIGHTS, count_flags, coverage, shares
from xglof.cube.flags import Flag, flag_attrs
from xglof.errors import CubeError

CUBE_BITS = 12


def flagged(flags: np.ndarray, sensors: str = "s2 s1", **coords: object) -> xr.Dataset:
    """A cube of flags alone, whose coordinates say which sensors they are of."""
    steps = len(flags)
    times = np.datetime64("2023-07-01", "ns") + np.arange(steps) * np.timedelta64(10, "D")
    items = {
        f"{name}_items": ("time", [f"{name}-{step}" for step in range(steps)]) for name in sensors.split()
    }
    return xr.Dataset(
        {"flags": (("time", "y", "x"), np.asarray(flags, "uint16"), flag_attrs())},
        coords={"time": times, **items, **coords},
    )


def random_flags(seed: int, shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << CUBE_BITS, shape).astype("uint16")


def naive(flags: np.ndarray) -> dict[str, int]:
    """Counts of one date, pixel by pixel."""
    counts = dict.fromkeys(["s2_observed", "s1_observed", *(f"sight_{name}" for name in SIGHTS)], 0)
    counts |= {flag.name: 0 for flag in Flag if flag.value < 1 << CUBE_BITS}
    for value in flags.ravel().tolist():
        bits = Flag(value)
        for flag in bits:
            counts[str(flag.name)] += 1
        elsewhere = bits & (Flag.s1_nodata | Flag.dem_nodata)
        if elsewhere and Flag.s2_nodata not in bits:
            bits &= ~Flag.failed_read  # not Sentinel-2's
        counts["s2_observed"] += not bits & HIDES_S2
        counts["s1_observed"] += Flag.s1_nodata not in bits
        first = next(name for name, flag in SIGHTS.items() if flag in bits)
        counts[f"sight_{first}"] += 1
    del counts["dem_nodata"]  # the cube holds no elevation
    return counts


@given(
    seed=st.integers(0, 99),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    chunks=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
)
@settings(max_examples=30, deadline=None)
def test_counts_are_those_of_a_loop_whatever_the_chunks(
    seed: int, shape: tuple[int, int, int], chunks: tuple[int, int, int]
) -> None:
    flags = random_flags(seed, shape)
    cube = flagged(flags).chunk(dict(zip(("time", "y", "x"), chunks, strict=True)))
    counts = count_flags(cube).compute()
    for step, values in enumerate(flags):
        expected = naive(values) | {"pixels": values.size}
        assert {str(name): int(counts[name][step]) for name in counts} == expected
    table = shares(counts)
    sights = sum(table[f"sight_{name}"] for name in SIGHTS)
    np.testing.assert_allclose(sights, 1, rtol=1e-12)
    seen = table["sight_clear"] + table["sight_snow"] + table["sight_ice"]
    np.testing.assert_allclose(seen, table["s2_observed"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("beside", "seen"),
    [
        (Flag.s1_nodata, 1),
        (Flag.dem_nodata, 1),
        (Flag.s2_nodata, 0),
        (Flag.s2_nodata | Flag.s1_nodata, 0),
        (Flag(0), 0),  # nothing tells what failed
        (Flag.s1_nodata | Flag.cloud, 0),
    ],
)
def test_a_failed_read_of_another_sensor_hides_nothing(beside: Flag, seen: int) -> None:
    cube = flagged(np.full((1, 2, 2), Flag.failed_read | beside))
    table = coverage(cube).compute()
    assert table["s2_observed"].item() == table["sight_clear"].item() == seen
    assert table["failed_read"].item() == 1
    failed = Flag.s2_nodata in beside or not beside
    assert table["sight_failed_read"].item() == failed
    dates = card_of(cube).dates
    assert dates is not None
    assert dates.share == (seen,)


def test_counts_of_tiles_add_up_to_those_of_the_whole() -> None:
    cube = flagged(random_flags(1, (2, 8, 10)))
    left, right = (count_flags(cube.isel(x=part)) for part in (slice(0, 3), slice(3, None)))
    xr.testing.assert_equal((left + right).compute(), count_flags(cube).compute())
    xr.testing.assert_equal(shares(left + right).compute(), coverage(cube).compute())


def test_bits_of_a_segmentation_change_nothing() -> None:
    flags = random_flags(2, (1, 6, 6))
    used = flags | np.uint16(Flag.s2_used | Flag.s1_used | Flag.not_requested)
    xr.testing.assert_equal(count_flags(flagged(used)).compute(), count_flags(flagged(flags)).compute())


@pytest.mark.parametrize(
    ("sensors", "there", "absent"),
    [
        ("s2", {"s2_observed", "cloud", "sight_clear", "failed_read"}, {"s1_observed", "s1_nodata"}),
        ("s1", {"s1_observed", "s1_layover", "failed_read"}, {"s2_observed", "cloud", "sight_clear"}),
    ],
)
def test_nothing_is_told_of_a_sensor_that_the_cube_lacks(
    sensors: str, there: set[str], absent: set[str]
) -> None:
    table = coverage(flagged(np.zeros((1, 2, 2)), sensors))
    assert there <= set(table)
    assert absent.isdisjoint(table)


def test_a_row_a_date_with_items_orbit_and_gap() -> None:
    flags = np.zeros((2, 2, 2), "uint16")
    flags[1, 0] = Flag.cloud
    cube = flagged(flags, orbit_state=("time", ["ascending", ""]), s1_gap_days=("time", [0.5, np.nan]))
    cube = cube.assign_coords(spatial_ref=32645, y=[1.0, 0.0], x=[0.0, 1.0])
    frame = coverage(cube).to_dataframe()
    assert frame.index.name == "time"
    assert frame["s2_items"].tolist() == ["s2-0", "s2-1"]
    assert frame["orbit_state"].tolist() == ["ascending", ""]
    assert frame["s2_observed"].tolist() == [1, 0.5]
    assert {"spatial_ref", "y", "x"}.isdisjoint(frame.reset_index())


def test_one_date_without_the_dim_is_one_row() -> None:
    cube = flagged(random_flags(3, (2, 4, 4)))
    row = coverage(cube.isel(time=1)).to_dataframe().reset_index()
    whole = coverage(cube).to_dataframe().reset_index()
    assert row.to_dict("records") == whole.iloc[1:].to_dict("records")


def test_of_no_pixels_there_is_no_share() -> None:
    table = coverage(flagged(np.zeros((1, 0, 3)))).compute()
    assert table["pixels"].item() == 0
    assert np.isnan(table["s2_observed"].item())


BANDS = ("B02", "B03", "B08")


def with_bands(values: np.ndarray, offsets: list[int]) -> xr.Dataset:
    cube = flagged(np.zeros((len(offsets), *values.shape[2:]))).assign_coords(s2_offset=("time", offsets))
    return cube.assign({name: (("time", "y", "x"), band) for name, band in zip(BANDS, values, strict=True)})


def test_clamped_pixels_are_counted_where_an_offset_was_removed() -> None:
    values = np.full((3, 3, 2, 3), 500, "uint16")
    values[0, :, 0, 0] = 1
    values[1, :, 0, :2] = 1  # the same pixel, and another
    values[2, :, 1, 1] = 1
    values[0, :, 1, 1] = 0  # no data in a band: not a pixel with data
    cube = with_bands(values, [1000, 0, 1000])
    for chunked in (cube, cube.chunk(time=1, y=1, x=2), cube.chunk(x=1)):
        assert coverage(chunked)["clamped"].values.tolist() == [2, 0, 2]
    aliases = cube.rename(B02="blue", B08="nir")
    assert coverage(aliases)["clamped"].values.tolist() == [2, 0, 2]
    assert "clamped" not in coverage(cube.drop_vars("s2_offset"))
    assert coverage(cube.assign_coords(s2_offset=("time", [0, 0, 0])))["clamped"].values.tolist() == [0, 0, 0]


def test_clamped_is_what_the_offset_did() -> None:
    from xglof.cube.harmonise import remove_offset

    raw = np.random.default_rng(5).integers(1, 1400, (3, 1, 20, 20)).astype("uint16")
    raw[raw == 1001] = 1002  # which becomes 1 as well
    cube = with_bands(remove_offset(raw, 1000), [1000])
    assert coverage(cube)["clamped"].values == (raw <= 1000).any(axis=0).sum()


def test_dates_without_an_offset_are_not_read() -> None:
    def read(block: np.ndarray, block_info: dict | None = None) -> np.ndarray:
        if block_info and block_info[0]["chunk-location"][0] == 1:
            raise AssertionError("a date without an offset was read")
        return block

    bands = da.full((2, 4, 4), 1, dtype="uint16", chunks=(1, 4, 4)).map_blocks(read, dtype="uint16")
    cube = flagged(np.zeros((2, 4, 4))).assign_coords(s2_offset=("time", [1000, 0]))
    table = coverage(cube.assign(B02=(("time", "y", "x"), bands)))
    assert table["clamped"].values.tolist() == [16, 0]


@pytest.mark.usefixtures("no_compute")
def test_nothing_is_computed_before_it_is_asked_for() -> None:
    flags = da.zeros((2, 6, 6), dtype="uint16", chunks=(1, 3, 3))
    cube = flagged(np.zeros((2, 6, 6))).assign_coords(s2_offset=("time", [1000, 0]))
    cube = cube.assign(flags=(("time", "y", "x"), flags), B02=(("time", "y", "x"), flags))
    table = coverage(cube)
    assert table["s2_observed"].chunks is not None
    assert table["clamped"].chunks is not None


def test_shares_leave_the_bands_of_a_file_alone() -> None:
    cube = with_bands(np.full((3, 2, 4, 4), 1, "uint16"), [1000, 0])
    stored, counting = on_disk(cube["B02"])
    table = coverage(cube.assign(B02=stored))
    assert table["s2_observed"].values.tolist() == [1, 1]
    assert counting.largest == 0
    assert table["clamped"].values.tolist() == [16, 0]
    assert counting.largest == 16  # a date at a time


@pytest.mark.parametrize(
    ("cube", "message"),
    [
        (xr.Dataset({"B02": ("x", [1])}), "expected 'flags', as open_cube"),
        (flagged(np.zeros((1, 2, 2)), "").drop_vars("s2_items", errors="ignore"), "which sensors the flags"),
        (flagged(np.zeros((1, 2, 2))).astype(float), "flags is float64"),
        (flagged(np.zeros((2, 2, 2))).rename(time="t"), "expected time, rows and columns"),
    ],
)
def test_what_cannot_be_counted(cube: xr.Dataset, message: str) -> None:
    with pytest.raises(CubeError, match=message):
        coverage(cube)


def test_a_segmentation_tells_the_sensors_by_its_coordinates() -> None:
    seg = lake_map(np.zeros((2, 4, 4)), flags=np.zeros((2, 4, 4)))
    seg = seg.assign_coords(s2_items=("time", ["a", "b"]))
    assert seg.glof.coverage()["s2_observed"].values.tolist() == [1, 1]


def test_of_a_real_cube_it_is_the_share_of_its_flags(simulated: Path) -> None:
    cube = open_cube(catalog=simulated, time="2021", modalities=("S2L2A", "S1RTC"))
    table = cube.glof.coverage().compute()
    flags = cube["flags"].compute()
    np.testing.assert_array_equal(table["s2_observed"], ((flags & int(HIDES_S2)) == 0).mean(["y", "x"]))
    np.testing.assert_array_equal(table["cloud"], ((flags & int(Flag.cloud)) != 0).mean(["y", "x"]))
    np.testing.assert_array_equal(table["s1_observed"], cube["vv"].notnull().mean(["y", "x"]))
    assert table["s2_items"].values.tolist() == cube["s2_items"].values.tolist()
