from __future__ import annotations

import dask.array as da
import numpy as np
import pytest

from tiny_catalog import GRID, S2_NAMES, Written, raw_band, raw_scl
from xglof.cube import open_cube
from xglof.cube.flags import (
    SHADOW_DISTANCE_M,
    Flag,
    dem_bits,
    flag_attrs,
    optical_bits,
    radar_bits,
    terrain_shadow,
)
from xglof.cube.shadow import cast_shadow


def _bands(value: int = 5000, **changed: int) -> dict[str, np.ndarray]:
    return {name: np.full((1, 1), changed.get(name, value), dtype="uint16") for name in S2_NAMES}


@pytest.mark.parametrize("scl", range(12))
@pytest.mark.parametrize("b08", [3999, 4000])
def test_optical_bits_of_every_class(scl: int, b08: int) -> None:
    expected = {
        0: Flag.s2_nodata,
        3: Flag.cloud_shadow,
        8: Flag.cloud,
        9: Flag.cloud,
        10: Flag.cloud,
        11: Flag.ice if b08 < 4000 else Flag.snow,
    }.get(scl, 0)
    bits = optical_bits(np.array([[False]]), _bands(B08=b08), np.array([[scl]], dtype="uint8"))
    assert bits.dtype == np.uint16
    assert bits.item() == expected


@pytest.mark.parametrize("band", S2_NAMES)
def test_a_zero_in_any_band_is_nodata(band: str) -> None:
    assert optical_bits(np.array([[False]]), _bands(**{band: 0}), None).item() == Flag.s2_nodata
    assert optical_bits(np.array([[True]]), _bands(**{band: 0}), None).item() == Flag.s2_nodata | Flag.low_sun
    assert optical_bits(np.array([[False]]), _bands(**{band: 1}), None).item() == 0


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


@pytest.mark.parametrize("chunks", [((1, 1), (40,), (50,)), ((2,), (7, 33), (20, 30))])
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
    assert cube.flags.dtype == np.uint16
    assert cube.flags.dims == ("time", "y", "x")
    assert cube.flags.attrs["cloud_mask"] == "SCL"
    scl = raw_scl().repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal((flags & Flag.cloud) > 0, np.isin(scl, (8, 9, 10)))
    np.testing.assert_array_equal((flags & Flag.cloud_shadow) > 0, scl == 3)
    np.testing.assert_array_equal((flags & (Flag.snow | Flag.ice)) > 0, scl == 11)
    missing = np.zeros(scl.shape, dtype=bool)
    for name in S2_NAMES:
        missing |= cube[name][0].values == 0
    np.testing.assert_array_equal((flags & Flag.s2_nodata) > 0, missing)
    assert missing[0, 0]
    assert (raw_band("B02") == 0).sum() <= missing.sum() < 100
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
    assert ((cube.flags.compute() & Flag.low_sun) > 0).all()


def test_sensors_that_were_not_asked_for_set_no_bit(written: Written) -> None:
    only_s2 = Flag.s1_nodata | Flag.s1_unknown | Flag.dem_nodata | Flag.terrain_shadow
    cube = open_cube(catalog=written.root, geobox=GRID, modalities=["S2L2A"], time="2021")
    assert not (cube.flags.compute() & only_s2).any()
    assert cube.flags.attrs["terrain_shadow"] == "none: needs Sentinel-2 and the DEM"
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
    assert cube.flags.attrs["terrain_shadow"] == "none: the items state no sun angles"
    assert not (cube.flags.compute() & (Flag.terrain_shadow | Flag.low_sun)).any()
