"""What flags say about the observation of a lake: snow, ice, sensors, and what was not requested."""

from __future__ import annotations

import numpy as np
import pytest

from lake_maps import UTM, empty, lake_map
from xglof.cube.flags import Flag
from xglof.evaluate.counts import confusion_counts
from xglof.lakes.area import lake_area
from xglof.lakes.layer import pixel_metres
from xglof.lakes.polygons import find_lakes
from xglof.lakes.tracking import track


def two_lakes(times=3):
    values = empty(times)
    values[:, 10:20, 20:30] = 1
    values[:, 40:45, 50:60] = 1
    return values


def test_frozen_and_snowed_in_is_unobserved_never_no_lake():
    values = two_lakes(3)
    values[1:, 10:20, 20:30] = 0
    flags = np.zeros(values.shape, "uint16")
    flags[1] = Flag.ice
    series = lake_area(lake_map(values, flags=flags))
    assert np.isnan(series["area"][0, 1])
    assert series["frozen_fraction"][0].values.tolist() == [0, 1, 0]
    assert series["area_lower"][0, 1] == 0
    assert series["area_upper"][0, 1] == series["area_upper"][0, 0]
    assert series["area"][0, 2] == 0  # without ice it is gone
    # a lake that the model sees through its ice is measured, and its ice is still said
    assert series["frozen_fraction"][1].values.tolist() == [0, 1, 0]
    assert series["area"][1, 1] == series["area"][1, 0]
    unknown = lake_area(lake_map(values))
    assert unknown["frozen_fraction"].isnull().all()
    assert unknown["area"][0, 1] == 0


def test_floating_ice_stays_lake_and_snow_is_unobserved_whatever_the_map_says():
    values = two_lakes(3)
    flags = np.zeros(values.shape, "uint16")
    flags[1] = Flag.ice
    flags[2] = Flag.snow
    series = lake_area(lake_map(values, flags=flags), buffer_px=0)
    np.testing.assert_array_equal(series["frozen_fraction"], [[0, 1, 1]] * 2)
    np.testing.assert_array_equal(series["observed_fraction"], [[1, 1, 0]] * 2)
    assert (series["area"][:, 1] == series["area"][:, 0]).all()
    assert series["area"][:, 2].isnull().all()
    assert (series["area_lower"][:, 2] == 0).all()
    assert (series["area_upper"][:, 2] == series["area"][:, 0]).all()


def test_lake_under_snow_in_the_buffer_is_no_growth_but_may_be():
    values = two_lakes(1)
    lakes = find_lakes(lake_map(values))
    values[0, 10:20, 30] = 1
    flags = np.zeros(values.shape, "uint16")
    flags[0, :, 30] = Flag.snow
    snow = lake_area(lake_map(values, flags=flags), lakes)
    assert float(snow["area"][0, 0] / snow["area"][1, 0]) == pytest.approx(2, rel=1e-4)
    assert float(snow["area_upper"][0, 0] / snow["area"][0, 0]) == pytest.approx(1.1)


def test_sensors_are_shares_of_the_observed_footprint():
    values = two_lakes(4)
    flags = np.zeros(values.shape, "uint16")
    flags[0, 10:20, 20:26] = Flag.s1_used
    flags[0, 10:20, 24:30] |= np.uint16(Flag.s2_used)
    flags[1] = Flag.s1_used
    values[1, 10:12] = 255
    values[2] = 255
    flags[2] = Flag.s2_used
    series = lake_area(lake_map(values, flags=flags))
    nan = np.nan
    np.testing.assert_allclose(series["s1_fraction"], [[0.6, 1, nan, nan], [nan, 1, nan, nan]])
    np.testing.assert_allclose(series["s2_fraction"], [[0.6, 0, nan, nan], [nan, 0, nan, nan]])
    without = lake_area(lake_map(values))
    assert without["s1_fraction"].isnull().all()
    assert without["s2_fraction"].isnull().all()


def test_a_lake_of_which_a_part_was_requested_does_not_shrink():
    """A mask that changes with time cuts a lake that does not change."""
    values = two_lakes(4)
    flags = np.zeros(values.shape, "uint16")
    lakes = track(find_lakes(lake_map(values).isel(time=[0])))
    for step, edge in enumerate(
        (30, 28, 25, 20)
    ):  # all, 80 %, half and nothing of the first, little of the other
        values[step, :, edge:] = 255 if step else values[step, :, edge:]
        flags[step, :, edge:] = Flag.not_requested if step else 0
    values[1, 10:12, 20:28] = 255
    flags[2, 11, 21] = Flag.not_requested
    pixel = float(
        pixel_metres(UTM, *(lakes.geometry.centroid.get_coordinates()[n].values for n in "xy"))[2][0]
    )
    series = lake_area(lake_map(values, flags=flags), lakes, min_observed=0.64)
    np.testing.assert_allclose(series["requested_fraction"], [[1, 0.8, 0.49, 0], [1, 0, 0, 0]])
    np.testing.assert_allclose(series["observed_fraction"], [[1, 0.8, 1, np.nan], [1, *[np.nan] * 3]])
    np.testing.assert_allclose(series["area"][0] / pixel, [100, 64, np.nan, np.nan], rtol=1e-4)
    assert series["area_sigma"][0].isnull().values.tolist() == [False, False, True, True]
    for bound in ("area_lower", "area_upper"):
        np.testing.assert_allclose(series[bound][0] / pixel, [100, np.nan, np.nan, np.nan], rtol=1e-4)
    # four fifths of the four fifths that were asked for are less than 70 % of the lake
    assert lake_area(lake_map(values, flags=flags), lakes)["area"][0, 1:].isnull().all()
    assert (lake_area(lake_map(values), lakes)["requested_fraction"] == 1).all()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64"])
def test_flags_of_any_whole_type_mean_the_same(dtype):
    values = two_lakes(2)
    values[1, 10:20, 20:30] = 0
    flags = np.zeros(values.shape, "uint16")
    flags[1] = Flag.ice
    if dtype != "uint8":  # which has no such bit
        flags[0, 40:42] = Flag.not_requested
    seg = lake_map(values, flags=flags, chunks={"time": 1})
    other = seg.assign(flags=seg["flags"].astype(dtype))
    lakes = find_lakes(seg)
    assert lake_area(other, lakes).compute().identical(lake_area(seg, lakes).compute())
    assert confusion_counts(other, seg).identical(confusion_counts(seg, seg))


def test_what_was_not_requested_is_no_part_of_a_lake():
    values = two_lakes(3)
    flags = np.zeros(values.shape, "uint16")
    seg = lake_map(values, flags=flags)
    values[1, 10:14, 20:30] = 255  # not observed, though asked for
    values[1:, :, 25:] = 255
    flags[1:, :, 25:] = Flag.not_requested
    flags[2] = Flag.not_requested
    values[2] = 255
    series = lake_area(lake_map(values, flags=flags), find_lakes(seg.isel(time=[0])), min_observed=0.5)
    pixel = float(pixel_metres(UTM, series["x"].values, series["y"].values)[2][0])
    np.testing.assert_allclose(series["observed_fraction"], [[1, 0.6, np.nan], [1, np.nan, np.nan]])
    np.testing.assert_allclose(series["frozen_fraction"], [[0, 0, np.nan], [0, np.nan, np.nan]])
    np.testing.assert_allclose(series["requested_fraction"], [[1, 0.5, 0], [1, 0, 0]])
    areas = series[["area", "area_lower", "area_upper", "area_sigma"]].to_array() / pixel
    assert areas.isel(time=[1, 2]).isnull().all()
    some = lake_area(lake_map(values, flags=flags), find_lakes(seg.isel(time=[0])), min_observed=0.3)
    np.testing.assert_allclose(some["area"][0] / pixel, [100, 30, np.nan])
    without = lake_area(lake_map(values), find_lakes(seg.isel(time=[0])))
    np.testing.assert_allclose(without["observed_fraction"], [[1, 0.3, 0], [1, 0, 0]])
