from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from tiny_catalog import GRID, S2_NAMES, Written, raw_band, raw_scl
from xglof.cube import open_cube
from xglof.cube.flags import (
    SHADOW_DISTANCE_M,
    Flag,
    dem_bits,
    flag_attrs,
    optical_bits,
    quality_flags,
    radar_bits,
    terrain_shadow,
)
from xglof.cube.ice import frozen_prior
from xglof.cube.shadow import cast_shadow
from xglof.errors import CubeError


def _bands(value: int = 5000, **changed: int) -> dict[str, np.ndarray]:
    return {name: np.full((1, 1), changed.get(name, value), dtype="uint16") for name in S2_NAMES}


@pytest.mark.parametrize("scl", range(12))
@pytest.mark.parametrize("b08", [1999, 2000, 3999, 4000])
def test_optical_bits_of_every_class(scl: int, b08: int) -> None:
    expected = {
        0: Flag.s2_nodata,
        1: Flag.s2_nodata,  # saturated or defective: not an observation
        3: Flag.cloud_shadow,
        8: Flag.cloud,
        9: Flag.cloud,
        10: Flag.cloud,
        11: Flag(0) if b08 < 2000 else Flag.ice if b08 < 4000 else Flag.snow,
    }.get(scl, 0)
    bits = optical_bits(np.array([[False]]), _bands(B08=b08), np.array([[scl]], dtype="uint8"))
    assert bits.dtype == np.uint16
    assert bits.item() == expected


@pytest.mark.parametrize("band", S2_NAMES)
def test_a_zero_in_any_band_is_nodata(band: str) -> None:
    assert optical_bits(np.array([[False]]), _bands(**{band: 0}), None).item() == Flag.s2_nodata
    assert optical_bits(np.array([[True]]), _bands(**{band: 0}), None).item() == Flag.s2_nodata | Flag.low_sun
    assert not optical_bits(np.array([[False]]), _bands(**{band: 1}), None).item() & Flag.s2_nodata


@pytest.mark.parametrize("scl", [None, 4, 6, 11])
@pytest.mark.parametrize(
    ("percent", "threshold", "cloudy"),
    [
        (49, 50, False),
        (50, 50, True),
        (100, 50, True),
        (255, 50, False),
        (255, 1, False),
        (20, 20, True),
    ],
)
def test_cloud_probability_beside_scl(scl: int | None, percent: int, threshold: int, cloudy: bool) -> None:
    one = np.array([[scl]], dtype="uint8") if scl is not None else None
    bits = optical_bits(
        np.array([[False]]), _bands(), one, np.array([[percent]], dtype="uint8"), cloud_probability=threshold
    )
    assert bool(bits.item() & Flag.cloud) == cloudy
    assert bool(bits.item() & Flag.snow) == (scl == 11)


def test_snow_that_scl_takes_for_cloud_has_both_bits() -> None:
    bands = _bands(9000, B11=900)
    for scl in (8, 9):
        bits = optical_bits(np.array([[False]]), bands, np.array([[scl]], dtype="uint8"))
        assert bits.item() == Flag.cloud | Flag.snow
    assert (
        optical_bits(np.array([[False]]), bands | {"B01": np.zeros((1, 1), "uint16")}, None).item()
        == Flag.s2_nodata
    )


def _naive_optical(pixel: dict[str, int], scl: int, percent: int) -> int:
    bits = Flag.s2_nodata if scl in (0, 1) or 0 in pixel.values() else Flag(0)
    if scl in (8, 9, 10) or 50 <= percent <= 100:
        bits |= Flag.cloud
    if scl == 3:
        bits |= Flag.cloud_shadow
    if bits & Flag.s2_nodata:
        return bits
    ndsi = (pixel["B03"] - pixel["B11"]) / (pixel["B03"] + pixel["B11"])
    if (scl == 11 or ndsi >= 0.4) and pixel["B08"] >= 2000:
        bits |= Flag.snow if pixel["B08"] >= 4000 else Flag.ice
    return bits


def test_optical_bits_agree_with_a_loop_over_pixels() -> None:
    rng = np.random.default_rng(8)
    shape = (40, 50)
    bands = {name: rng.integers(1, 9000, shape).astype("uint16") for name in S2_NAMES}
    bands["B11"][:20] //= 6
    bands["B05"][rng.random(shape) < 0.1] = 0
    scl = rng.integers(0, 12, shape).astype("uint8")
    percent = rng.choice([0, 10, 49, 50, 90, 255], shape).astype("uint8")
    got = optical_bits(np.array([[False]]), bands, scl, percent)
    expected = [
        [
            _naive_optical({name: int(b[r, c]) for name, b in bands.items()}, scl[r, c], percent[r, c])
            for c in range(50)
        ]
        for r in range(40)
    ]
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([], Flag.s1_unknown),
        ([0], 0),
        ([1], Flag.s1_layover),
        ([2], Flag.s1_layover),
        ([3], Flag.s1_layover),
        ([255], Flag.s1_unknown),
        ([77], Flag.s1_unknown),
        ([0, 2], 0),  # the mask of the product is trusted first
        ([255, 2], Flag.s1_layover),
        ([255, 0], 0),
        ([3, 0], Flag.s1_layover),
        ([255, 255], Flag.s1_unknown),
    ],
)
def test_masks_of_layover(codes: list[int], expected: int) -> None:
    masks = [np.array([code], dtype="uint8") for code in codes]
    decibels, gone = np.array([-10], dtype="float32"), np.array([np.nan], dtype="float32")
    assert radar_bits(decibels, decibels, *masks).item() == expected
    without = Flag.s1_nodata | (expected & Flag.s1_layover)
    assert radar_bits(decibels, gone, *masks).item() == without


def test_radar_and_dem_bits() -> None:
    one, gone = np.float32(-10), np.float32(np.nan)
    vv, vh = np.array([one, one, gone, gone]), np.array([one, gone, one, gone])
    assert radar_bits(vv, vh).tolist() == [Flag.s1_unknown, *[Flag.s1_nodata] * 3]
    assert dem_bits(np.array([one, gone])).tolist() == [0, Flag.dem_nodata]


def test_attributes_follow_cf() -> None:
    attrs = flag_attrs()
    masks, meanings = attrs["flag_masks"], str(attrs["flag_meanings"]).split()
    assert [Flag[name].value for name in meanings] == list(masks)  # type: ignore[call-overload]
    assert len(set(meanings)) == len(Flag)


@pytest.mark.parametrize(
    "chunks", [((1, 1), (40,), (50,)), ((2,), (7, 33), (20, 30)), ((1, 1), (4,) * 10, (50,))]
)
def test_shadow_by_blocks_is_the_shadow_of_the_whole(
    chunks: tuple[tuple[int, ...], ...], no_compute: None
) -> None:
    margin, resolution = 10, 600.0  # 10 px of 600 m reach past 5000 m
    dem = np.random.default_rng(0).uniform(0, 4000, (60, 70)).astype("float32")
    sun = ([135.0, 300.0], [20.0, 35.0])
    lazy = terrain_shadow(da.from_array(dem, chunks=17), margin, (-resolution, resolution), *sun, chunks)
    assert lazy.chunks == chunks
    got = lazy.compute(scheduler="synchronous")
    for index, (azimuth, elevation) in enumerate(zip(*sun, strict=True)):
        whole = cast_shadow(
            dem, azimuth=azimuth, elevation=elevation, resolution=resolution, max_distance_m=SHADOW_DISTANCE_M
        )
        np.testing.assert_array_equal(got[index], whole[margin:-margin, margin:-margin])
    assert 0 < got.mean() < 1


def test_mirrored_grids_see_the_sun_from_the_same_side() -> None:
    dem = np.random.default_rng(1).uniform(0, 4000, (40, 40)).astype("float32")
    chunks = ((1,), (20,), (20,))
    plain = terrain_shadow(da.from_array(dem), 10, (-600.0, 600.0), [100.0], [25.0], chunks)
    for flip, signs in ((np.s_[::-1, :], (1, 1)), (np.s_[:, ::-1], (-1, -1)), (np.s_[::-1, ::-1], (1, -1))):
        size = (600.0 * signs[0], 600.0 * signs[1])
        turned = terrain_shadow(da.from_array(dem[flip].copy()), 10, size, [100.0], [25.0], chunks)
        np.testing.assert_array_equal(turned[0].compute()[flip], plain[0].compute())


def test_no_sun_no_shadow() -> None:
    dem = da.from_array(np.random.default_rng(1).uniform(0, 4000, (40, 40)).astype("float32"))
    shadow = terrain_shadow(dem, 10, (-600.0, 600.0), [np.nan], [20.0], ((1,), (20,), (20,)))
    assert not shadow.compute().any()


def test_flags_of_a_cube(written: Written) -> None:
    cube = open_cube(catalog=written.root, geobox=GRID, time="2022-07-10").compute()
    flags = cube.flags[0].values
    assert (cube.flags.dtype, cube.flags.dims) == (np.uint16, ("time", "y", "x"))
    assert cube.flags.attrs["cloud_mask"] == "SCL"
    scl = raw_scl().repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal((flags & Flag.cloud) > 0, np.isin(scl, (8, 9, 10)))
    np.testing.assert_array_equal((flags & Flag.cloud_shadow) > 0, scl == 3)
    missing = scl == 1
    for name in S2_NAMES:
        missing |= cube[name][0].values == 0
    bright = cube.B08[0].values >= 2000
    np.testing.assert_array_equal((flags & (Flag.snow | Flag.ice)) > 0, (scl == 11) & bright & ~missing)
    assert 0 < bright[scl == 11].mean() < 1
    np.testing.assert_array_equal((flags & Flag.s2_nodata) > 0, missing)
    assert missing[0, 0]
    assert (raw_band("B02") == 0).sum() <= (missing & (scl != 1)).sum() < 100
    gone = np.isnan(cube.vv[0].values) | np.isnan(cube.vh[0].values)
    np.testing.assert_array_equal((flags & Flag.s1_nodata) > 0, gone)
    np.testing.assert_array_equal((flags & Flag.s1_unknown) > 0, ~gone)
    assert not (flags & (Flag.dem_nodata | Flag.low_sun | Flag.s1_layover | Flag.failed_read)).any()
    assert 0 < ((flags & Flag.terrain_shadow) > 0).mean() < 1  # the sun stands at 30 degrees in the south


def test_low_sun_marks_the_whole_step(written: Written) -> None:
    item = written.items["A"].clone()
    item.properties["view:sun_elevation"] = 9.5  # goes before the mean zenith
    cube = open_cube(catalog=[item], geobox=GRID, modalities=["S2L2A"])
    assert cube.sun_elevation.item() == 9.5
    assert cube.flags.attrs["low_sun"] == "sun_elevation below 10 degrees"
    assert ((cube.flags.compute() & Flag.low_sun) > 0).all()


def test_sensors_that_were_not_asked_for_set_no_bit(written: Written) -> None:
    only_s2 = Flag.s1_nodata | Flag.s1_unknown | Flag.dem_nodata | Flag.terrain_shadow
    cube = open_cube(catalog=written.root, geobox=GRID, modalities=["S2L2A"], time="2021")
    assert not (cube.flags.compute() & only_s2).any()
    assert cube.flags.attrs["terrain_shadow"].startswith("none")
    radar = open_cube(catalog=written.root, geobox=GRID, modalities=["S1RTC"]).flags.compute()
    assert set(np.unique(radar)) == {Flag.s1_nodata, Flag.s1_unknown}
    dem = open_cube(catalog=written.root, geobox=GRID.pad(3000), modalities=["DEM"]).flags
    assert dem.dims == ("y", "x")
    assert set(np.unique(dem[::50, ::50].compute())) == {0, Flag.dem_nodata}


def test_without_sun_angles_nothing_is_shaded(written: Written) -> None:
    item = written.items["A"].clone()
    for name in ("s2:mean_solar_azimuth", "s2:mean_solar_zenith"):
        del item.properties[name]
    cube = open_cube(catalog=[item, written.items["dem"]], geobox=GRID, modalities=["S2L2A", "DEM"])
    assert np.isnan(cube.sun_elevation).all()
    assert cube.flags.attrs["terrain_shadow"].startswith("none")
    assert not (cube.flags.compute() & (Flag.terrain_shadow | Flag.low_sun)).any()
    assert cube.flags.attrs["low_sun"] == "unknown: the items state no sun angles"


def test_low_sun_says_where_nobody_knows_the_sun(no_compute: None) -> None:
    cube = _cube("S2")
    rule = "sun_elevation below 10 degrees"
    assert quality_flags(cube, None).attrs["low_sun"] == rule  # lazy: not read to be told
    partly = cube.assign_coords(sun_elevation=("time", [np.nan, 5.0]))
    assert quality_flags(partly, None).attrs["low_sun"] == f"{rule}; unknown on 1 of 2 dates"
    assert quality_flags(_cube("vv", "vh"), None).attrs["low_sun"] == "none: no Sentinel-2"


#: January and August over a valley of Nepal.
_TIMES = np.array(["2023-01-15", "2023-08-20"], dtype="datetime64[ns]")
_SHAPE = (2, 12, 16)


def _cube(*variables: str, chunks: dict[str, Any] | None = None) -> xr.Dataset:
    """A cube of chosen variables with something of everything in it."""
    rng = np.random.default_rng(3)
    geobox = GeoBox.from_bbox((480_000, 3_090_000, 480_160, 3_090_120), "EPSG:32645", resolution=10)
    decibels = rng.uniform(-20, -5, _SHAPE).astype("float32")
    arrays = {name: rng.integers(1, 9000, _SHAPE).astype("uint16") for name in S2_NAMES}
    arrays["B02"][:, :3] = 0
    arrays |= {
        "SCL": rng.integers(1, 12, _SHAPE).astype("uint8"),
        "CLD": rng.choice([0, 60, 255], _SHAPE).astype("uint8"),
        "vv": np.where(rng.random(_SHAPE) < 0.1, np.nan, decibels).astype("float32"),
        "vh": decibels - 7,
        "s1_mask": rng.choice([0, 1, 2, 3, 255, 255], _SHAPE).astype("uint8"),
        "dem": np.linspace(500, 7500, _SHAPE[1] * _SHAPE[2], dtype="float32").reshape(_SHAPE[1:]),
    }
    names = [*(S2_NAMES if "S2" in variables else ()), *(name for name in variables if name != "S2")]
    data = {name: (("time", "y", "x")[-arrays[name].ndim :], arrays[name]) for name in names}
    cube = xr.Dataset(data, coords=dict(xr_coords(geobox)) | {"time": _TIMES})
    cube = cube.assign_coords(sun_elevation=("time", [40.0, 5.0]))
    return cube.chunk(chunks or {"time": 1, "y": 5, "x": 16})


_ALL = ("S2", "SCL", "CLD", "vv", "vh", "s1_mask", "dem")


def test_every_source_at_once_is_lazy_and_the_same_in_any_chunks(no_compute: None) -> None:
    rng = np.random.default_rng(6)
    layover = rng.choice([0, 1, 2, 3, 255], _SHAPE).astype("uint8")
    shadow, failed = rng.random(_SHAPE) < 0.3, rng.random(_SHAPE[1:]) < 0.2
    results = []
    for chunks in ({"time": 1, "y": 5, "x": 16}, {"time": 2, "y": 12, "x": 3}, {"time": 2, "y": 12, "x": 16}):
        flags = quality_flags(
            _cube(*_ALL, chunks=chunks),
            da.from_array(shadow, chunks=7),
            layover=da.from_array(layover, chunks=4),
            failed={"S1": da.from_array(failed, chunks=9)},
        )
        assert flags.dtype == np.uint16
        assert flags.dims == ("time", "y", "x")
        assert set(flags.coords) >= {"time", "y", "x", "spatial_ref"}
        results.append(flags.compute(scheduler="synchronous"))
    for other in results[1:]:
        xr.testing.assert_identical(results[0], other)
    bits, cube = results[0].values, _cube(*_ALL).compute(scheduler="synchronous")
    np.testing.assert_array_equal((bits & Flag.terrain_shadow) > 0, shadow)
    np.testing.assert_array_equal((bits & Flag.failed_read) > 0, np.broadcast_to(failed, _SHAPE))
    code = np.where(cube.s1_mask.values == 255, layover, cube.s1_mask.values)
    np.testing.assert_array_equal((bits & Flag.s1_layover) > 0, (code > 0) & (code < 255))
    np.testing.assert_array_equal((bits & Flag.s1_unknown) > 0, (code == 255) & ~np.isnan(cube.vv.values))
    only_radar = ((bits & Flag.s2_nodata) > 0) & ~np.isnan(cube.vv.values)
    cold = frozen_prior(cube.dem.values, 27.93, np.array([15, 232]).reshape(2, 1, 1))
    ice = (bits & Flag.ice) > 0
    np.testing.assert_array_equal(ice[only_radar], cold[only_radar])
    assert 0 < cold[0].mean() < 1
    assert results[0].attrs["cloud_mask"] == "SCL or CLD >= 50 %"
    assert results[0].attrs["radar_geometry"] == "mask of the product, else DEM and orbit"
    assert results[0].attrs["ice_prior"].startswith("ice by elevation, latitude and season")


def test_the_prior_counts_only_where_radar_alone_saw() -> None:
    flags = quality_flags(_cube("vv", "vh", "dem"), None).compute()
    cold = frozen_prior(_cube("dem").dem.values, 27.93, np.array([15, 232]).reshape(2, 1, 1))
    seen = (flags.values & Flag.s1_nodata) == 0
    np.testing.assert_array_equal((flags.values & Flag.ice) > 0, cold & seen)
    assert (cold & ~seen).any()
    assert not (flags.values & Flag.snow).any()
    for names, reason in ((("vv", "vh"), "needs the DEM"), (("S2", "dem"), "no Sentinel-1")):
        other = quality_flags(_cube(*names), None)
        assert reason in other.attrs["ice_prior"]
    undated = quality_flags(_cube("vv", "vh", "dem").drop_vars("time").isel(time=0), None)
    assert "needs the DEM, dates" in undated.attrs["ice_prior"]
    assert undated.dims == ("y", "x")
    without = quality_flags(_cube("S2", "dem"), None).compute().values
    assert ((without & Flag.ice) > 0)[:, :3].sum() == 0  # no data, no radar: nothing said


@pytest.mark.parametrize(
    ("names", "layover", "expected"),
    [
        (("vv", "vh"), False, "unknown"),
        (("vv", "vh"), True, "DEM and orbit"),
        (("vv", "vh", "s1_mask"), False, "mask of the product"),
    ],
)
def test_who_told_the_geometry_of_the_radar(names: tuple[str, ...], layover: bool, expected: str) -> None:
    codes = da.zeros(_SHAPE, dtype="uint8", chunks=5) if layover else None
    flags = quality_flags(_cube(*names), None, layover=codes)
    assert flags.attrs["radar_geometry"] == expected
    unknown = (flags.compute().values & Flag.s1_unknown) > 0
    assert unknown.any() != layover


def test_a_failed_read_is_told_from_cloud_and_from_nodata() -> None:
    cube = _cube("S2", "SCL", "vv", "vh", "dem")
    failed = np.zeros(_SHAPE, dtype=bool)
    failed[0] = True
    plain = quality_flags(cube, None).compute().values
    bits = quality_flags(cube, None, failed={"S2L2A": da.from_array(failed)}).compute().values
    np.testing.assert_array_equal(bits[0], plain[0] | Flag.failed_read)
    np.testing.assert_array_equal(bits[1], plain[1])
    one_time = quality_flags(cube, None, failed={"DEM": da.from_array(failed[0])}).compute().values
    np.testing.assert_array_equal(one_time, plain | Flag.failed_read)
    alone = quality_flags(_cube("dem"), None, failed={"DEM": da.from_array(failed[0])})
    assert alone.dims == ("y", "x")
    assert ((alone.compute() & Flag.failed_read) > 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"failed": {"S3": da.zeros(_SHAPE, dtype=bool)}},
            "failed names 'S3'; expected one of S2L2A, S1, DEM",
        ),
        ({"failed": {"S1": da.zeros((2, 3), dtype=bool)}}, "expected"),
        ({"layover": da.zeros((2, 11, 16), dtype="uint8")}, r"layover has the shape \(2, 11, 16\)"),
        ({"layover": da.zeros((12, 16), dtype=bool)}, "layover is bool"),
        ({"layover": da.zeros((16,), dtype="uint8")}, "layover has the shape"),
        ({"cloud_probability": 0}, "expected percent, 1 to 100"),
        ({"cloud_probability": 101}, "expected percent, 1 to 100"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], message: str, no_compute: None) -> None:
    with pytest.raises(CubeError, match=message):
        quality_flags(_cube("S2", "vv", "vh", "dem"), None, **options)


def test_another_threshold_of_cloud_probability_reaches_the_pixels() -> None:
    cube = _cube("S2", "CLD")
    at_60 = quality_flags(cube, None, cloud_probability=60)
    at_61 = quality_flags(cube, None, cloud_probability=61)
    assert at_61.attrs["cloud_mask"] == "CLD >= 61 %"
    np.testing.assert_array_equal((at_60.compute() & Flag.cloud) > 0, cube.CLD.compute() == 60)
    assert not (at_61.compute() & Flag.cloud).any()
