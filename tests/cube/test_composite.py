"""A composite against an oracle that looks at one pixel after the other, in plain Python."""

from __future__ import annotations

import math
import statistics
from datetime import datetime
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr

from counting_array import on_disk
from xglof.bands import CLD, LAYERS, MODALITIES, S1_MASK, SCL
from xglof.cube.composite import UNUSABLE, composite
from xglof.cube.flags import Flag, flag_attrs
from xglof.cube.sources import parse_period
from xglof.cube.windows import windows
from xglof.errors import CubeError
from xglof.outputs import read_zarr, write_zarr

S2_BANDS, S1_BANDS = MODALITIES["S2L2A"].bands, MODALITIES["S1RTC"].bands
BANDS = {band.name: band for band in (*S2_BANDS, SCL, CLD, *S1_BANDS, S1_MASK)}
S2_NAMES = {band.name for band in (*S2_BANDS, SCL, CLD)}
OPTICAL = {"s2_nodata", "cloud", "cloud_shadow", "terrain_shadow", "low_sun", "snow", "ice"}
RADAR = {"s1_nodata", "s1_layover", "s1_unknown"}
FROZEN = {"snow", "ice"}
NO_DAY = -(2**31)
UTM = GeoBox.from_bbox((500_000, 3_100_000, 502_000, 3_102_000), "EPSG:32645", resolution=10)
DEGREES = GeoBox.from_bbox((86.0, 27.0, 86.02, 27.02), "EPSG:4326", resolution=1e-4)


def make_cube(
    seed: int,
    times: list[str],
    shape: tuple[int, int] = (3, 4),
    names: tuple[str, ...] = ("B03", "B08", "SCL", "CLD", "vv", "vh", "s1_mask"),
    *,
    grid: GeoBox = UTM,
    dem: bool = True,
) -> xr.Dataset:
    """A cube of few different values, so that ties are frequent, with every flag and gap there can be."""
    rng = np.random.default_rng(seed)
    full = (len(times), *shape)
    moments = np.array(times, "datetime64[ns]")
    variables: dict[str, Any] = {}
    for name in names:
        band = BANDS[name]
        if band.dtype == "float32":
            values = rng.choice(np.float32([-25.5, -14.25, -3.0]), full)
        else:
            values = rng.integers(1, 7, full) * (1 if band.dtype == "uint8" else 9001)
        gaps = rng.random(full) < 0.1
        values = np.where(gaps, np.array(band.nodata, band.dtype), values.astype(band.dtype))
        variables[name] = wrap_xr(values, grid[: shape[0], : shape[1]], time=moments)
        variables[name].attrs = {"units": band.units, "nodata": band.nodata, "long_name": band.long_name}
    bits = np.zeros(full, "uint16")
    for flag in Flag:
        if flag < Flag.not_requested:
            bits |= np.where(rng.random(full) < 0.15, np.uint16(flag), np.uint16(0))
    variables["flags"] = wrap_xr(bits, grid[: shape[0], : shape[1]], time=moments)
    variables["flags"].attrs = flag_attrs() | {"cloud_mask": "SCL"}
    if dem:
        heights = np.where(rng.random(shape) < 0.2, np.nan, rng.uniform(3000, 6000, shape)).astype("float32")
        variables["dem"] = wrap_xr(heights, grid[: shape[0], : shape[1]])
    cube = xr.Dataset(variables)
    for variable in cube.data_vars.values():
        variable.encoding["grid_mapping"] = "spatial_ref"
    days = rng.integers(-3, 4, len(times)) * np.timedelta64(1, "D")
    items = np.array([f"R{rng.integers(3)}" if rng.random() < 0.8 else "" for _ in times], dtype=object)
    return cube.assign_coords(
        s1_items=("time", items),
        s1_time=("time", np.where(rng.random(len(times)) < 0.2, np.datetime64("NaT"), moments + days)),
        s1_gap_days=("time", np.abs(days) / np.timedelta64(1, "D")),
        s2_items=("time", np.array([f"A{number}" for number in range(len(times))], dtype=object)),
        sun_elevation=("time", rng.choice([20.0, 40.0, np.nan], len(times)), {"units": "degree"}),
        sun_azimuth=("time", rng.uniform(120, 180, len(times)), {"units": "degree"}),
    ).assign_attrs(catalog="made up")


def chunked(cube: xr.Dataset, **chunks: Any) -> xr.Dataset:
    """In chunks, with its coordinates in memory as those of an opened cube are."""
    return cube.chunk(chunks).assign_coords(cube.coords)


# ---------------------------------------------------------------------------------------------- the oracle


def seconds(moment: Any) -> int:
    return int(np.datetime64(moment, "s").astype(int))


def names_of(bits: int) -> set[str]:
    return {str(flag.name) for flag in Flag if bits & flag}


class Pixel:
    """What a composite of some steps of one pixel must be."""

    def __init__(
        self, cube: xr.Dataset, steps: list[int], y: int, x: int, middle: datetime, rules: Any
    ) -> None:
        self.method, self.unusable, self.least = rules
        self.middle = seconds(middle.replace(tzinfo=None))
        self.values = {
            name: [cube[name].values[step, y, x].item() for step in steps] for name in cube if name in BANDS
        }
        self.bits = [names_of(int(cube["flags"].values[step, y, x])) for step in steps]
        self.sun = [cube["sun_elevation"].values[step] for step in steps]
        self.times = [seconds(cube["time"].values[step]) for step in steps]
        told = [cube["s1_time"].values[step] for step in steps]
        self.radar_times = [
            self.times[n] if np.isnat(told[n]) else seconds(told[n]) for n in range(len(steps))
        ]
        self.items = {name: [cube[f"{name}_items"].values[step] for step in steps] for name in ("s1", "s2")}
        self.has = {
            "s2": any(name in S2_NAMES for name in self.values),
            "s1": any(name not in S2_NAMES for name in self.values),
        }
        self.dem_gap = "dem" in cube and bool(np.isnan(cube["dem"].values[y, x]))
        self.chosen: dict[str, int | None] = {}

    def gap(self, name: str, step: int) -> bool:
        value, nodata = self.values[name][step], BANDS[name].nodata
        return math.isnan(value) if math.isnan(nodata) else value == nodata

    def lacks(self, sensor: str, step: int, *, bands_only: bool = False) -> bool:
        own = [name for name in self.values if (name in S2_NAMES) == (sensor == "s2")]
        layers = {layer.name for group in LAYERS.values() for layer in group}
        return any(self.gap(name, step) for name in own if not (bands_only and name in layers)) or (
            not bands_only and f"{sensor}_nodata" in self.bits[step]
        )

    def own_bits(self, sensor: str, step: int) -> set[str]:
        own = set(OPTICAL) if sensor == "s2" else set(RADAR)
        if sensor == "s1" and not self.has["s2"]:
            own |= FROZEN
        found = self.bits[step] & own
        if "failed_read" in self.bits[step]:
            other = "s1" if sensor == "s2" else "s2"
            elsewhere = self.lacks(other, step) or "dem_nodata" in self.bits[step]
            if self.lacks(sensor, step) or not elsewhere:
                found.add("failed_read")
        return found

    def usable(self, sensor: str) -> list[int]:
        return [
            step
            for step in range(len(self.bits))
            if not self.lacks(sensor, step, bands_only=True)
            and not self.own_bits(sensor, step) & set(self.unusable)
        ]

    def distinct(self, sensor: str) -> list[int]:
        items = self.items[sensor]
        return [s for s in self.usable(sensor) if not items[s] or items[s] not in items[:s]]

    def median(self, name: str, steps: list[int]) -> float:
        values = [self.values[name][step] for step in steps]
        if name in ("vv", "vh"):
            return 10 * math.log10(statistics.median(10 ** (value / 10) for value in values))
        return round(statistics.median(values))  # Python rounds half to even

    def choose(self, sensor: str) -> int | None:
        usable, distinct = self.usable(sensor), self.distinct(sensor)
        if len(distinct) < self.least:
            return None
        if self.method == "median":
            return distinct[(len(distinct) - 1) // 2]
        if sensor == "s1":
            optical = self.chosen.get("s2")
            target = self.middle if optical is None else self.times[optical]
            return min(usable, key=lambda step: abs(self.radar_times[step] - target))
        if self.method == "best":
            return min(usable, key=self.demerits)
        bands = [name for name in self.values if name in {band.name for band in S2_BANDS}]
        middle = {name: statistics.median(self.values[name][step] for step in usable) for name in bands}
        return min(usable, key=lambda step: sum((self.values[n][step] - middle[n]) ** 2 for n in bands))

    def demerits(self, step: int) -> tuple[float, ...]:
        sun = self.sun[step]
        return (
            len(self.own_bits("s2", step)),
            math.inf if math.isnan(sun) else -sun,
            abs(self.times[step] - self.middle),
        )

    def flags(self, sensor: str) -> set[str]:
        only_radar = self.chosen.get("s2") is None and self.chosen.get("s1") is not None
        if self.chosen[sensor] is None:
            every: set[str] = set().union(*(self.own_bits(sensor, step) for step in range(len(self.bits))))
            every -= FROZEN if only_radar else set()
            missing = {f"{sensor}_nodata"}
            return every - missing if every & set(self.unusable) - missing else every | missing
        if self.method != "median":
            lent = self.bits[self.chosen[sensor]] & FROZEN if only_radar else set()
            return self.own_bits(sensor, self.chosen[sensor]) | lent
        distinct = self.distinct(sensor)
        count = {
            flag: sum(flag in self.own_bits(sensor, step) for step in distinct) for flag in OPTICAL | RADAR
        }
        count["failed_read"] = sum("failed_read" in self.own_bits(sensor, step) for step in distinct)
        if only_radar:
            frozen = {flag: sum(flag in self.bits[step] for step in distinct) for flag in FROZEN}
            count |= {flag: number if 2 * number > len(distinct) else 0 for flag, number in frozen.items()}
        return {flag for flag, number in count.items() if number and 2 * number >= len(distinct)}

    def all(self) -> dict[str, Any]:
        out: dict[str, Any] = {}
        told: set[str] = {"dem_nodata"} if self.dem_gap else set()
        for sensor in ("s2", "s1"):
            if not self.has[sensor]:
                continue
            step = self.chosen[sensor] = self.choose(sensor)
            times = self.times if sensor == "s2" else self.radar_times
            out[f"{sensor}_day"] = NO_DAY if step is None else times[step] // 86400
            out[f"{sensor}_count"] = len(self.distinct(sensor))
            for name in self.values:
                if (name in S2_NAMES) == (sensor == "s2"):
                    out[name] = self.value(name, sensor, step)
        told = told.union(*(self.flags(sensor) for sensor in self.chosen))
        if self.bits:
            told |= {"dem_nodata"} & set().union(*self.bits)
            if all({"dem_nodata", "failed_read"} <= bits for bits in self.bits):
                told.add("failed_read")
        out["flags"] = sum(Flag[name].value for name in told)
        return out

    def value(self, name: str, sensor: str, step: int | None) -> float:
        if step is None:
            return BANDS[name].nodata
        if self.method != "median":
            return self.values[name][step]
        known = [each for each in self.distinct(sensor) if not self.gap(name, each)]
        if not known:
            return BANDS[name].nodata
        if name in ("SCL", "s1_mask"):
            values = [self.values[name][each] for each in known]
            return min(values, key=lambda value: (-values.count(value), value))
        return self.median(name, known)


def oracle(
    cube: xr.Dataset,
    freq: Any,
    period: str | None = None,
    method: str = "median",
    unusable: tuple[str, ...] = UNUSABLE,
    least: int = 1,
) -> dict[str, np.ndarray]:
    times = cube["time"].values
    found = windows(freq, period)
    sizes = tuple(cube["flags"].sizes.values())[1:]
    out: dict[str, np.ndarray] = {}
    for number, window in enumerate(found):
        start, end = (np.datetime64(each.replace(tzinfo=None)) for each in (window.start, window.end))
        steps = [n for n, time in enumerate(times) if start <= time < end]
        for y, x in np.ndindex(*sizes):
            rules = (method, unusable, least)
            for name, value in Pixel(cube, steps, y, x, window.middle, rules).all().items():
                out.setdefault(name, np.zeros((len(found), *sizes), np.float64))[number, y, x] = value
    return out


def check(made: xr.Dataset, expected: dict[str, np.ndarray]) -> None:
    names = {str(name) for name in made.data_vars if "time" in made[name].dims}
    assert names == set(expected)
    for name, values in expected.items():
        # decibels are float32, and the oracle's logarithm another
        rtol = 1e-6 if name in ("vv", "vh") else 0
        np.testing.assert_allclose(made[name].values.astype(float), values, rtol=rtol, err_msg=name)


# ------------------------------------------------------------------------------------------------ the tests

TIMES = ["2023-06-01", "2023-06-04T10:30", "2023-06-20", "2023-06-30T23:59:59", "2023-07-01"]
TIMES += ["2023-09-02", "2023-09-12", "2023-09-22", "2023-09-24", "2023-12-30", "2024-01-03"]


@st.composite
def cuts(draw: st.DrawFn, size: int) -> tuple[int, ...]:
    edges = sorted(draw(st.sets(st.integers(1, size - 1), max_size=3)) | {0, size}) if size > 1 else [0, size]
    return tuple(np.diff(edges).tolist())


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_composite_is_that_of_every_pixel_alone(data: st.DataObject) -> None:
    draw = data.draw
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    times = sorted(draw(st.sets(st.sampled_from(TIMES), min_size=1)))
    optional = ["B03", "B08", "B12", "SCL", "CLD", "vv", "vh", "s1_mask"]
    names = draw(st.sets(st.sampled_from(optional), min_size=1).map(lambda found: tuple(sorted(found))))
    method = draw(st.sampled_from(["median", "medoid", "best"]))
    if method == "medoid" and not {"B03", "B08", "B12"} & set(names):
        names = ("B03", *names)
    flags = [str(flag.name) for flag in Flag if flag < Flag.not_requested and flag != Flag.dem_nodata]
    unusable = draw(st.just(UNUSABLE) | st.sets(st.sampled_from(flags)).map(tuple))
    freq = draw(
        st.sampled_from(["month", "season", "JAS", ("06-04", "06-30"), ("12-15", "02-29")])
        | st.just([("2023-06-04", "2023-06-20"), ("2023-07-01", "2024-01-03"), ("2024-06", "2024-06")])
    )
    cube = make_cube(draw(st.integers(0, 10**6)), times, shape, names, dem=draw(st.booleans()))
    period = None if isinstance(freq, list) else "2023-05/2024-02"
    least = draw(st.integers(1, 3))
    chunks = {"time": draw(cuts(len(times))), "y": draw(cuts(shape[0])), "x": draw(cuts(shape[1]))}
    rules = {"method": method, "unusable": unusable, "period": period}
    made = composite(chunked(cube, **chunks), freq, min_observations=least, **rules)
    expected = oracle(cube, freq, period, method, unusable, least)
    assert made["flags"].chunks == ((1,) * made.sizes["time"], chunks["y"], chunks["x"])
    check(made, expected)


@pytest.mark.parametrize("method", ["median", "medoid", "best"])
def test_chunks_and_where_the_cube_lies_change_no_bit(method: Any, tmp_path: Path, no_compute: None) -> None:
    names = ("B02", "B8A", "B12", "SCL", "CLD", "vv", "vh")
    cube = make_cube(5, TIMES, (150, 17), names)  # more rows than a kernel takes at once
    # reflectance and decibels of every kind, so that rounding and logarithms are tried
    rng = np.random.default_rng(6)
    for name in names:
        if BANDS[name].dtype != "uint8":
            drawn = rng.integers(1, 65536, cube[name].shape)
            values = drawn if BANDS[name].dtype == "uint16" else -drawn / np.float32(2000)
            cube[name] = cube[name].copy(
                data=np.where(cube[name] > 0, values, cube[name]).astype(cube[name].dtype)
            )
            cube[name].encoding["grid_mapping"] = "spatial_ref"
    with dask.config.set(scheduler="synchronous"):
        stored = write_zarr(chunked(cube, time=1, y=64), tmp_path / "cube.zarr")
        opened = read_zarr(tmp_path / "cube.zarr", chunks=None)
    whole = composite(cube, "month", method=method)
    others = [
        composite(chunked(cube, time=(3, 8), y=(1, 100, 49), x=(10, 7)), "month", method=method),
        composite(cube.assign(B8A=cube["B8A"].chunk(time=2, y=40)), "month", method=method),
        composite(stored, "month", method=method),
        composite(opened, "month", method=method),
    ]
    with dask.config.set(scheduler="threads"):
        whole = whole.compute()
        assert min(int((whole[name] > 1).sum()) for name in ("s2_count", "s1_count")) > 100
        for other in others:
            xr.testing.assert_identical(other.compute(), whole)


def test_a_window_reads_its_own_steps_and_nothing_is_read_early(no_compute: None) -> None:
    cube = chunked(make_cube(1, TIMES), time=1)
    read: list[int] = []

    def noted(block: Any, block_info: Any = None) -> Any:
        read.append(block_info[0]["array-location"][0][0])
        return block

    cube["B03"] = cube["B03"].copy(data=cube["B03"].data.map_blocks(noted, dtype="uint16"))
    made = composite(cube, [("2023-06-02", "2023-06-20"), ("2023-09", "2023-09")])
    read.clear()  # Dask tries the function on nothing
    made["B03"].isel(time=0).compute(scheduler="synchronous")
    assert sorted(read) == [1, 2]


def test_a_file_is_read_by_blocks() -> None:
    cube = make_cube(2, TIMES[:3], (1100, 5), ("B03",))
    expected = composite(cube, "month").compute()
    counting = {}
    for name in ("B03", "flags"):
        cube[name], counting[name] = on_disk(cube[name])
    made = composite(cube, "month")
    assert all(each.largest == 0 for each in counting.values())
    xr.testing.assert_identical(made.compute(), expected)
    assert {each.largest for each in counting.values()} == {3 * 1008 * 5}


def one_pixel(times: list[str], flags: Any = 0, **values: list[float]) -> xr.Dataset:
    shape = (len(times), 1, 1)
    variables: dict[str, Any] = {
        name: (("time", "y", "x"), np.array(each, BANDS[name].dtype).reshape(shape))
        for name, each in values.items()
    }
    bits = np.broadcast_to(np.array(flags, "uint16"), len(times)).reshape(shape)
    return xr.Dataset(
        variables | {"flags": (("time", "y", "x"), bits)}, coords={"time": np.array(times, "datetime64[ns]")}
    )


def computed(cube: xr.Dataset, freq: Any, **options: Any) -> xr.Dataset:
    return composite(cube, freq, **options).compute()


JULY = ["2023-07-03", "2023-07-08", "2023-07-13", "2023-07-18"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 1, 2, 2], 2),  # 1.5
        ([2, 2, 3, 3], 2),  # 2.5
        ([1, 2, 1, 0], 1),
        ([1, 0, 0, 0], 1),
        ([1, 2, 0, 0], 2),
        ([65535, 65535, 65534, 65535], 65535),
        ([65534, 65535, 0, 0], 65534),
        ([65535, 0, 65535, 0], 65535),
    ],
)
def test_a_median_is_rounded_half_even_and_never_nodata(values: list[float], expected: int) -> None:
    made = computed(one_pixel(JULY, B03=values), "month")
    assert made["B03"].dtype == np.uint16
    assert made["B03"].item() == expected
    assert made["s2_count"].item() == sum(value > 0 for value in values)


def test_backscatter_is_averaged_as_power() -> None:
    cube = one_pixel(JULY[:2], vv=[-10.0, -20.0], vh=[-17.123, -17.123])
    made = computed(cube, "month")
    assert made["vv"].item() == pytest.approx(10 * math.log10((0.1 + 0.01) / 2), abs=1e-6)
    assert made["vh"].item() == cube["vh"][0].item()  # equal values keep their bits
    only_vv = computed(one_pixel(JULY[:2], vv=[-10.0, -20.0], vh=[math.nan, -17.123]), "month")
    assert only_vv["vv"].item() == -20.0  # of the date that vh has too
    assert only_vv["s1_count"].item() == 1


def test_the_median_of_many_powers_is_between_the_middle_ones() -> None:
    made = computed(one_pixel(JULY, vv=[-3.0, -30.0, -10.0, -20.0]), "month")
    assert made["vv"].item() == pytest.approx(10 * math.log10(0.055), abs=1e-6)
    assert made["s1_day"].item() == seconds("2023-07-08") // 86400


def test_a_southern_summer_crosses_new_year() -> None:
    times = ["2022-12-31T23:59", "2023-01-01", "2023-03-31T12:00", "2023-04-01", "2023-11-15", "2024-03-31"]
    made = computed(one_pixel(times, B03=[10, 20, 30, 1000, 40, 50]), ("11-15", "03-31"))
    assert made["time"].values.astype("M8[D]").astype(str).tolist() == ["2022-11-15", "2023-11-15"]
    assert made["time_bnds"].values.astype("M8[D]").astype(str).tolist() == [
        ["2022-11-15", "2023-04-01"],
        ["2023-11-15", "2024-04-01"],
    ]
    assert made["B03"].values.ravel().tolist() == [20, 45]
    assert made["s2_day"].values.ravel().tolist() == [
        seconds("2023-01-01") // 86400,
        seconds("2023-11-15") // 86400,
    ]


def test_windows_without_observations_stay() -> None:
    cube = make_cube(3, ["2023-02-10", "2023-06-10"], names=("B03", "SCL", "CLD", "vv"))
    made = computed(cube, "month", period="2022-12/2023-07")
    assert made["time"].dt.month.values.tolist() == [12, 1, 2, 3, 4, 5, 6, 7]
    empty = made.isel(time=[0, 1, 3, 4, 5, 7])
    for name in ("B03", "SCL", "s2_count", "s1_count"):
        assert (empty[name] == 0).all()
        assert (made[name].isel(time=[2, 6]) > 0).any()
    assert (empty["CLD"] == 255).all()
    assert np.isnan(empty["vv"]).all()
    assert (empty["s2_day"] == NO_DAY).all()
    unseen = Flag.s2_nodata | Flag.s1_nodata
    expected = np.where(np.isnan(cube["dem"]), unseen | Flag.dem_nodata, unseen)
    np.testing.assert_array_equal(empty["flags"], np.broadcast_to(expected, empty["flags"].shape))
    assert empty["s2_items"].values.tolist() == [""] * 6
    assert np.isnan(empty["sun_elevation"]).all()


def test_nothing_in_any_window() -> None:
    cube = make_cube(3, TIMES)
    made = computed(cube, "month", period="2010")
    assert made.sizes["time"] == 12
    assert not made["B03"].any()
    xr.testing.assert_identical(made["dem"].drop_vars("spatial_ref"), cube["dem"].drop_vars("spatial_ref"))


def test_dates_given_are_kept_beyond_the_cube_and_a_period_may_be_open() -> None:
    cube = one_pixel(JULY, B03=[1, 2, 3, 4])
    assert computed(cube, [("2020", "2020"), ("2023", "2023")])["s2_count"].values.ravel().tolist() == [0, 4]
    for period in ("2023-06/..", parse_period("2023-06/..")):
        made = computed(cube, "month", period=period)
        assert made["s2_count"].values.ravel().tolist() == [0, 4]
    assert computed(cube, "month").sizes["time"] == 1


def test_an_acquisition_that_several_steps_share_counts_once() -> None:
    cube = one_pixel(JULY, vv=[-10.0, -10.0, -10.0, -20.0]).assign_coords(
        s1_items=("time", np.array(["R", "R", "R", "S"], dtype=object))
    )
    made = computed(cube, "month")
    assert made["s1_count"].item() == 2
    assert made["vv"].item() == pytest.approx(10 * math.log10(0.055), abs=1e-6)
    assert computed(cube, "month", min_observations=3)["vv"].isnull().item()
    weeks = computed(cube, [("2023-07-01", "2023-07-05"), ("2023-07-06", "2023-07-31")])
    assert weeks["s1_count"].values.ravel().tolist() == [1, 2]


def test_sentinel_1_is_the_one_nearest_to_the_chosen_sentinel_2() -> None:
    cube = one_pixel(
        JULY, [0, Flag.cloud, Flag.cloud, Flag.cloud], B03=[5, 5, 5, 5], vv=[-1.0, -2.0, -3.0, -4.0]
    )
    cube = cube.assign_coords(
        s1_time=("time", np.array(["2023-07-07", "2023-07-02", "2023-07-13", "2023-07-17T12:00"], "M8[ns]"))
    )
    made = computed(cube, "month", method="best")
    assert made["vv"].item() == -2
    assert made["s1_day"].item() == seconds("2023-07-02") // 86400
    assert made["s2_day"].item() == seconds("2023-07-03") // 86400
    cloudy = computed(cube.assign(flags=cube["flags"] | np.uint16(Flag.cloud)), "month", method="best")
    assert cloudy["vv"].item() == -4  # nearest to 16 July, 12:00
    assert cloudy["flags"].item() == Flag.cloud
    assert made["flags"].item() == 0


def test_the_best_has_no_snow_then_a_high_sun_then_the_middle() -> None:
    cube = one_pixel(JULY, [Flag.snow, 0, 0, 0], B03=[1, 2, 3, 4], SCL=[11, 5, 6, 7])
    cube = cube.assign_coords(sun_elevation=("time", [60.0, 50.0, 50.0, 40.0]))
    made = computed(cube, "month", method="best")
    assert (made["B03"].item(), made["SCL"].item()) == (3, 6)
    snowy = computed(cube.assign(flags=cube["flags"] | np.uint16(Flag.snow)), "month", method="best")
    assert (snowy["B03"].item(), snowy["flags"].item()) == (1, Flag.snow)
    assert computed(cube.drop_vars("sun_elevation"), "month", method="best")["B03"].item() == 4


def test_a_medoid_was_observed() -> None:
    cube = one_pixel(JULY[:3], B03=[100, 900, 500], B08=[100, 480, 900])
    made = computed(cube, "month", method="medoid")
    assert (made["B03"].item(), made["B08"].item()) == (900, 480)  # the medians are 500 and 480
    assert made["s2_day"].item() == seconds("2023-07-08") // 86400
    assert computed(cube, "month")["B03"].item() == 500


def test_snow_and_ice_are_seen_and_told() -> None:
    cube = one_pixel(JULY, [Flag.snow, Flag.snow | Flag.ice, 0, Flag.cloud], B03=[5, 6, 7, 8])
    made = computed(cube, "month")
    assert (made["B03"].item(), made["s2_count"].item(), made["flags"].item()) == (6, 3, Flag.snow)
    without = computed(cube, "month", unusable=("cloud", "snow"))
    assert (without["B03"].item(), without["flags"].item()) == (7, 0)
    cloudy = computed(cube, "month", unusable=())
    assert (cloudy["s2_count"].item(), cloudy["flags"].item()) == (4, Flag.snow)


@pytest.mark.parametrize(
    ("bits", "vv", "median", "best"),
    [
        ([Flag.ice, 0], [-12, -20], 0, 0),
        ([Flag.ice, Flag.ice, 0], [-12, -20, -20], Flag.ice, 0),
        ([0, 0, Flag.ice], [-12, -20, -20], 0, Flag.ice),  # 13 July is nearest to the middle
        ([Flag.ice, 0], [-12, math.nan], Flag.ice, Flag.ice),
        ([Flag.ice, 0], [math.nan, -20], 0, 0),
        ([Flag.ice, Flag.cloud | Flag.snow], [-12, math.nan], Flag.ice | Flag.cloud, Flag.ice | Flag.cloud),
    ],
)
def test_where_radar_alone_is_usable_ice_is_that_of_its_own_steps(
    bits: list[int], vv: list[float], median: int, best: int
) -> None:
    shown = [0 if not bit & Flag.cloud else 5 for bit in bits]
    bits = [bit if bit & Flag.cloud else bit | Flag.s2_nodata for bit in bits]
    cube = one_pixel(JULY[: len(bits)], bits, B03=shown, vv=vv)
    for method, expected in (("median", median), ("best", best)):
        made = computed(cube, "month", method=method)
        assert made["s2_count"].item() == 0
        assert made["flags"].item() == expected | (0 if expected & Flag.cloud else Flag.s2_nodata)
        alone = computed(cube.drop_vars("B03"), "month", method=method)  # as in a cube without Sentinel-2
        assert alone["flags"].item() & Flag.ice == expected & Flag.ice


def test_ice_where_nothing_is_usable_and_where_sentinel_2_is() -> None:
    frozen = Flag.s2_nodata | Flag.ice
    cube = one_pixel(JULY[:2], [frozen, 0], B03=[0, 5], vv=[-12, -20])
    assert computed(cube, "month")["flags"].item() == 0
    hidden = one_pixel(JULY[:2], [frozen | Flag.s1_layover, Flag.cloud], B03=[0, 5], vv=[-12, math.nan])
    assert computed(hidden, "month")["flags"].item() & Flag.ice


def test_too_few_observations_are_none() -> None:
    cube = one_pixel(JULY, [Flag.snow, 0, 0, 0], B03=[5, 0, 0, 0])
    made = computed(cube, "month", min_observations=2)
    assert (made["B03"].item(), made["s2_count"].item(), made["s2_day"].item()) == (0, 1, NO_DAY)
    assert made["flags"].item() == Flag.snow | Flag.s2_nodata  # snow alone would say that it was seen


@pytest.mark.parametrize(
    ("vv", "b03", "bits", "counts", "flags"),
    [
        (-9.0, 5, Flag.failed_read, (0, 0), Flag.failed_read),  # nothing tells what failed
        (math.nan, 5, Flag.failed_read, (1, 0), Flag.failed_read),
        (-9.0, 0, Flag.failed_read, (0, 1), Flag.failed_read),
        (math.nan, 0, Flag.failed_read, (0, 0), Flag.failed_read),
        (-9.0, 5, Flag.failed_read | Flag.dem_nodata, (1, 1), Flag.failed_read | Flag.dem_nodata),
        (-9.0, 5, Flag.failed_read | Flag.s1_nodata, (1, 0), Flag.failed_read),
    ],
)  # fmt: skip
def test_a_failed_read_counts_against_what_is_missing(
    vv: float, b03: int, bits: int, counts: tuple[int, int], flags: int
) -> None:
    made = computed(one_pixel(JULY[:1], bits, B03=[b03], vv=[vv]), "month")
    assert (made["s2_count"].item(), made["s1_count"].item()) == counts
    assert made["flags"].item() == flags


def test_bits_of_one_sensor_say_nothing_of_the_other() -> None:
    bits = [Flag.cloud | Flag.s1_layover, Flag.cloud | Flag.s1_unknown | Flag.dem_nodata]
    made = computed(one_pixel(JULY[:2], bits, B03=[5, 5], vv=[-9.0, -12.0]), "month")
    assert (made["B03"].item(), made["vv"].item()) == (0, -12)
    assert made["flags"].item() == Flag.cloud | Flag.s1_unknown | Flag.dem_nodata


@pytest.mark.parametrize(("grid", "dims"), [(UTM, ("y", "x")), (DEGREES, ("latitude", "longitude"))])
def test_zarr_keeps_a_composite(grid: GeoBox, dims: tuple[str, str], tmp_path: Path) -> None:
    made = composite(chunked(make_cube(4, TIMES, (20, 30), tuple(BANDS), grid=grid), time=1), "month")
    assert made["B03"].dims == ("time", *dims)
    again = write_zarr(made, tmp_path / "composite.zarr")
    assert again.odc.geobox == made.odc.geobox == grid[:20, :30]
    assert {name: array.dtype for name, array in again.data_vars.items()} == {
        name: array.dtype for name, array in made.data_vars.items()
    }
    assert again.attrs == made.attrs
    for name in [*made.data_vars, "time_bnds", "sun_azimuth", "sun_elevation"]:
        xr.testing.assert_identical(again[name].variable, made[name].variable)
    for name in ("time", "s1_items", "s2_items"):
        assert again[name].values.tolist() == made[name].values.tolist()
    assert set(again["s2_day"].attrs) == {"long_name", "units", "epoch", "nodata", "comment"}
    assert (again["s2_day"] == NO_DAY).any()
    assert again["time"].encoding["bounds"] == "time_bnds"
    with pytest.raises(CubeError, match="a composite already"):
        composite(again, "season")


def test_what_says_where_a_composite_comes_from() -> None:
    cube = make_cube(4, TIMES[:6]).assign_coords(
        sun_azimuth=("time", [358.0, 4.0, np.nan, 1.0, 90.0, 270.0], {"units": "degree"}),
        sun_elevation=("time", [10.0, 20.0, np.nan, 30.0, np.nan, 5.0]),
        s2_items=("time", np.array(["A,B", "B,C", "", "A", "D", "E"], dtype=object)),
        orbit_state=("time", np.array(["ascending"] * 6)),
        s2_offset=("time", np.zeros(6, "int32")),
    )
    made = composite(cube, "month", unusable=["cloud"], min_observations=2)
    assert made.attrs == {
        "catalog": "made up",
        "composite": "median",
        "composite_window": "month",
        "composite_unusable": "cloud",
        "composite_min_observations": 2,
    }
    assert made["s2_items"].values.tolist() == ["A,B,C", "D", "", "E"]
    assert made["orbit_state"].values.tolist() == ["ascending", "ascending", "", "ascending"]
    np.testing.assert_allclose(made["sun_azimuth"], [1, 90, np.nan, 270], atol=1e-9)
    np.testing.assert_allclose(made["sun_elevation"], [20, np.nan, np.nan, 5])
    assert made["sun_azimuth"].attrs == {"units": "degree"}
    assert {"s2_offset", "s1_gap_days", "s1_time"}.isdisjoint(made.variables)
    assert made["time"].attrs["bounds"] == "time_bnds"
    assert made["B03"].attrs["cell_methods"] == "time: median"
    assert made["SCL"].attrs["cell_methods"] == "time: mode"
    assert made["flags"].attrs["flag_meanings"] == flag_attrs()["flag_meanings"]
    assert made["flags"].attrs["cloud_mask"] == "SCL"
    assert {made[name].encoding["grid_mapping"] for name in made.data_vars} == {"spatial_ref"}
    assert "not of the acquisition" not in made["s1_day"].attrs["comment"]
    assert (
        "not of the acquisition" in composite(cube.drop_vars("s1_time"), "month")["s1_day"].attrs["comment"]
    )
    assert "cell_methods" not in composite(cube, "month", method="best")["B03"].attrs


def test_names_of_archives_are_understood() -> None:
    cube = one_pixel(JULY, B03=[1, 2, 3, 4], vv=[-1.0] * 4).rename(B03="green", vv="VV")
    made = composite(cube, "month")
    assert {"B03", "vv"} <= set(made.data_vars)


def test_a_composite_is_segmented() -> None:
    xglof = pytest.importorskip("xglof")
    names = ("B03", "B08", "B11", "vv", "vh")
    cube = make_cube(7, TIMES, (20, 20), names, dem=False)
    water = {"B03": 1200, "B08": 300, "B11": 80}
    for name, value in water.items():
        cube[name] = cube[name].copy(data=np.where(cube[name] > 0, np.uint16(value), np.uint16(0)))
    for name in ("vv", "vh"):
        cube[name] = cube[name].copy(data=np.where(np.isnan(cube[name]), cube[name], np.float32(-26)))
    made = composite(chunked(cube, time=1, x=7), "month", period="2023-06/2023-08")
    seg = xglof.segment(made, model="water-index", device="cpu")
    assert seg.sizes["time"] == 3
    lake = seg["lake"].values
    optical, radar = (made["B03"] > 0).values, made["vv"].notnull().values
    forbidden = Flag.cloud | Flag.cloud_shadow | Flag.terrain_shadow | Flag.failed_read
    hidden = (made["flags"].values & int(forbidden)) != 0
    assert (lake[optical & radar & ~hidden] == 1).all()
    np.testing.assert_array_equal(lake == 255, hidden | ~(optical | radar))
    assert 0 < (lake == 1).mean() < 1
    assert (lake[2] == 255).all()  # no observation in August


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda cube: cube.drop_vars("flags"), {}, "the cube has no flags"),
        (lambda cube: cube.isel(time=0), {}, "the cube has no time"),
        (lambda cube: cube.drop_vars("time"), {}, "the cube has no time"),
        (lambda cube: cube.isel(time=[]), {}, "time holds 0 values"),
        (lambda cube: cube.isel(time=[1, 0]), {}, r"sort them with cube.sortby\('time'\)"),
        (lambda cube: cube.assign_coords(time=[1, 2, 3, 4]), {}, "time holds 4 values of int64"),
        (lambda cube: cube.assign_attrs(composite="best"), {}, "a composite already"),
        (lambda cube: composite(cube, "month"), {}, "a composite already"),
        (lambda cube: cube[["flags"]], {}, "nothing to composite"),
        (lambda cube: cube.assign(ndwi=cube["B03"]), {}, "variable 'ndwi' has no rule"),
        (lambda cube: cube.transpose("y", "x", "time"), {}, r"expected \('time', rows, columns\)"),
        (lambda cube: cube.assign(B03=cube["B03"].transpose()), {}, "variable 'B03' has dims"),
        (lambda cube: cube.assign(B03=cube["B03"] / 10), {}, "B03 is float64 .* expected uint16"),
        (lambda cube: cube.assign(B03=cube["B03"].assign_attrs(nodata=9)), {}, "with nodata 9; expected"),
        (lambda cube: cube.assign(vv=cube["vv"].assign_attrs(units="1")), {}, "vv is float32 in 1 .* in dB"),
        (lambda cube: cube.assign(flags=cube["flags"] * 1.0), {}, "flags is float64"),
        (lambda cube: cube[["SCL", "flags"]], {"method": "medoid"}, "the cube has none of Sentinel-2"),
        (None, {"method": "mean"}, "method is 'mean'; expected one of 'median', 'medoid', 'best'"),
        (None, {"unusable": "cloud"}, "unusable is 'cloud'; expected names"),
        (None, {"unusable": ("clouds",)}, "unusable names 'clouds'; expected some of s2_nodata"),
        (None, {"unusable": ("dem_nodata",)}, "unusable names 'dem_nodata'"),
        (None, {"unusable": ("s2_used",)}, "unusable names 's2_used'"),
        (None, {"unusable": (3,)}, "unusable names 3"),
        (None, {"min_observations": 0}, "min_observations is 0"),
        (None, {"min_observations": 1.5}, "min_observations is 1.5"),
        (None, {"min_observations": True}, "min_observations is True"),
        (None, {"freq": "weekly"}, "freq='weekly' is not understood"),
        (None, {"freq": "NDJ", "period": "2023-06"}, "no window of freq='NDJ' lies in the period"),
        (None, {"period": "soon"}, "is not understood"),
        (None, {"freq": "season", "season_start": 0}, "season_start is 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_composited_is_refused(
    change: Any, options: dict[str, Any], message: str, no_compute: None
) -> None:
    values = {"B03": [1, 2, 3, 4], "SCL": [5] * 4, "vv": [-9.0] * 4}
    cube = chunked(one_pixel(JULY, **values), time=1)
    arguments = {"freq": "month"} | options
    with pytest.raises(CubeError, match=message):
        composite(cube if change is None else change(cube), **arguments)
