from __future__ import annotations

import numpy as np
import xarray as xr

from xglof.lakes.events import Drop, drop_sentence, largest_drop


def series(*lakes, sigma=1.0):
    area = np.array(lakes, float)
    names = [f"lake{i}" for i in range(len(area))]
    return xr.Dataset(
        {"area": (("lake", "time"), area), "area_sigma": (("lake", "time"), np.where(area > 0, sigma, 0.0))},
        coords={"lake": names},
    )


def test_the_drop_lies_between_the_observations_around_it():
    gap = np.nan
    assert largest_drop(series([100, 100, gap, 40, 41, gap])) == Drop("lake0", 1, 3, 0.59)


def test_an_area_that_comes_back_did_not_drop():
    assert largest_drop(series([100, 100, 5, 100])) is None


def test_one_false_outline_does_not_drain():
    assert largest_drop(series([10, 10, 100, 10, 10])) is None


def test_small_losses_and_losses_within_the_error_are_none():
    assert largest_drop(series([100, 100, 85, 85])) is None
    assert largest_drop(series([100, 100, 50, 50], sigma=20)) is None
    assert largest_drop(series([0, 0, 0])) is None
    assert largest_drop(series([np.nan, np.nan])) is None


def test_an_outburst_comes_before_a_speck_that_vanishes():
    drop = largest_drop(series([6, 6, 6, 0], [1000, 1000, 600, 600]))
    assert drop == Drop("lake1", 1, 2, 0.4)


def test_a_drop_in_words():
    days = np.array(["2023-07-01", "2023-08-10", "2023-09-30"], "datetime64[ns]")
    ts = series([1e5, 1.2e5, 3e4]).assign_coords(time=days)
    said = drop_sentence(ts, Drop("lake0", 1, 2, 0.7))  # 0.7 of 0.1, the lower of the two before
    assert said == ("lake0: 0.120 km² on 2023-08-10, 0.030 km² on 2023-09-30 (at least 70% lost for good)")
