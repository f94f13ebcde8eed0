from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from lake_series import area_series
from xglof.errors import CubeError
from xglof.lakes.hampel import isolated_dates, kept_variance
from xglof.lakes.scatter import Repeats, interval
from xglof.lakes.seasons import in_months, open_water_months
from xglof.lakes.series import SeriesFlag, flag_series, flagged

GAP = np.nan
STEADY = [1e4, 1.01e4, 0.99e4, 1e4, 1.01e4, 1e4, 0.99e4, 1e4]


def bits(values, **options):
    return flag_series(area_series(values, **options)).quality.values


def months(*names):
    return np.array([f"2020-{name}-15" for name in names], "datetime64[ns]")


def slow_isolated(area, outline, fit, scatter, least, hampel):
    """One source of one lake, date by date, with lists: dates apart and their sides, what cleared, begins."""
    apart, side, cleared, begins = set(), {}, {}, set()
    window, waiting, band = [], None, np.inf
    last = intact = None
    for at in np.flatnonzero(fit):
        value = area[at]
        if waiting is not None:
            date, middle, band = waiting
            waiting = None
            if abs(value - middle) <= band:
                cleared[date] = (intact, at)
                window.append(at)
            else:
                side[at] = np.sign(value - middle)
                begins |= {date} | ({at} if abs(value - area[date]) > band else set())
                window = [date, at]
            last = intact = at
            continue
        if len(window) < 3:
            if last is not None and abs(value - area[last]) > band:
                begins.add(at)
                side[at] = np.sign(value - area[last])
            window.append(at)
            last = intact = at
            continue
        middle = np.median(area[window[-5:]])
        spread = 1.4826 * np.median(np.abs(area[window[-5:]] - middle))
        reach = hampel * max(spread, scatter[at] * outline[window[-1]], least)
        if abs(value - middle) > reach:
            apart.add(at)
            side[at] = np.sign(value - middle)
            waiting, band = (at, middle, reach), reach
        else:
            window.append(at)
            intact = at
        last = at
    if waiting is not None:
        begins.add(waiting[0])
    return apart, side, cleared, begins


def slow_lake(area, outline, fit, source, scatter, least, hampel):
    """Suspect and outlier dates and levels of one lake, from its sources."""
    walks = [
        slow_isolated(area, outline, fit & (source == one), scatter, least, hampel) for one in set(source)
    ]
    apart, outlier, begins = set(), set(), set()
    for walk in walks:
        apart |= walk[0]
        begins |= walk[3]
        others = {at: side for each in walks if each is not walk for at, side in each[1].items()}
        for date, (before, after) in walk[2].items():
            if any(others.get(at) == walk[1][date] for at in range(before + 1, after)):
                begins |= {date, after}
            else:
                outlier.add(date)
    level = np.cumsum([at in begins for at in range(len(area))])
    return apart - outlier, outlier, level


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 40), st.sampled_from([1.0, 2.0, 3.0]), st.integers(1, 3))
def test_dates_apart_are_those_of_a_loop_over_lists(seed, steps, hampel, sources):
    rng = np.random.default_rng(seed)
    area = rng.normal(100, 1, (3, steps)) + 30 * rng.integers(-1, 2, (3, steps)) * (
        rng.random((3, steps)) < 0.3
    )
    area += np.where(np.arange(steps) > steps // 2, 50, 0) * (rng.random((3, 1)) < 0.5)
    fit, scatter = rng.random((3, steps)) < 0.9, rng.uniform(0.5, 3, (3, steps))
    outline, least = rng.uniform(0.5, 2, (3, steps)), rng.uniform(0, 2, 3)
    source = rng.integers(0, sources, (3, steps))
    of = Repeats(area, outline, np.arange(steps) * 9.0, source * 4 + rng.integers(0, 4, (3, steps)), 1)
    suspect, outlier, level = isolated_dates(of, fit, scatter, least=least, hampel=hampel)
    for lake in range(3):
        expected = slow_lake(*(each[lake] for each in (area, outline, fit, source, scatter, least)), hampel)
        assert set(np.flatnonzero(suspect[lake])) == expected[0]
        assert set(np.flatnonzero(outlier[lake])) == expected[1]
        np.testing.assert_array_equal(level[lake], expected[2])


@pytest.mark.parametrize("chunks", [None, {"lake": 1, "time": 3}])
def test_what_came_stays_to_the_bit(chunks):
    values = [[*STEADY, 4e4, 1e4, GAP, 1e4], [*STEADY, 3e3, 3e3, 3e3, GAP]]
    series = area_series(values, sensors="s1", frozen=0.6, observed=0.8)
    before = series.copy(deep=True)
    flags = flag_series(series if chunks is None else series.chunk(chunks))
    for name in before.variables:
        assert flags[name].values.tobytes() == before[name].values.tobytes()
        assert flags[name].attrs == before[name].attrs
        assert flags[name].dims == before[name].dims
    assert set(flags.variables) - set(before.variables) == {
        "quality",
        "sensors",
        "sigma_repeat",
        "sigma_repeat_dof",
    }
    assert series.identical(before)


def test_a_single_date_apart_is_an_outlier_once_the_next_is_back():
    assert bits([*STEADY, 4e4])[0, 8] == SeriesFlag.suspect
    assert bits([*STEADY, 4e4, 1e4])[0].tolist() == [0] * 8 + [SeriesFlag.outlier, 0]
    assert (
        bits([*STEADY, 0.0, GAP, 1e4])[0, 8] == SeriesFlag.outlier
    )  # a date without a value decides nothing


def test_a_change_that_persists_is_never_an_outlier():
    drained = bits([*STEADY, 4e3, 4.1e3, 4e3, 3.9e3, 4e3, 1e4])[0]
    assert drained[:8].tolist() == [0] * 8
    assert drained[8] == SeriesFlag.suspect  # the first of the new level
    assert drained[9:13].tolist() == [0] * 4
    assert drained[13] == SeriesFlag.suspect  # judged by the new level
    assert not (drained & SeriesFlag.outlier).any()


def test_two_dates_apart_are_no_outliers():
    assert not (bits([*STEADY, 4e4, 4e4, 1e4, 1e4, 1e4]) & SeriesFlag.outlier).any()


def two_sources(s1, s2, *, rare=1):
    """Quality of a lake that radar sees after every ``rare`` dates of optics, and sensors of the dates."""
    values, sensors = [], []
    s1, s2 = list(s1), list(s2)
    while s2:
        values += s2[:rare] + s1[:1]
        sensors += ["s2"] * len(s2[:rare]) + ["s1"] * len(s1[:1])
        s1, s2 = s1[1:], s2[rare:]
    return bits(values, sensors=np.array(sensors), orbit="19")[0], np.array(sensors)


def test_each_source_is_judged_by_itself():
    low = [9.5e3, 9.6e3, 9.4e3, 9.5e3, 9.5e3, 9.6e3, 9.4e3, 9.5e3]
    assert not two_sources(low, STEADY)[0].any()
    spiked = [*low[:5], 1e4 + 4e4, *low[6:]]
    quality, sensors = two_sources(spiked, STEADY)
    assert quality[sensors == "s1"].tolist() == [0] * 5 + [SeriesFlag.outlier, 0, 0]
    assert not quality[sensors == "s2"].any()
    assert not two_sources([9.5e3, 2e4], STEADY, rare=4)[0].any()  # less than three before it


def test_passes_of_two_orbits_are_two_sources():
    orbit = np.where(np.arange(24) % 2, "85", "19")
    values = np.where(np.arange(24) % 2, 1e4, 8e3) + np.tile([0.0, 0.0, 100.0, 100.0], 6)
    assert not bits(values, sensors="s1", orbit=orbit).any()


@pytest.mark.parametrize("start", [10, 11, 13, 15])
@pytest.mark.parametrize("length", [2, 3, 20])
@pytest.mark.parametrize("rare", [1, 3])
def test_a_drainage_that_two_sources_see_is_never_an_outlier(start, length, rare):
    radar = np.arange(40) % (rare + 1) == rare
    values = np.where(radar, 9.5e4, 1e5) * (1 + 0.01 * np.random.default_rng(start).standard_normal((50, 40)))
    drained = (np.arange(40) >= start) & (np.arange(40) < start + length)
    spike, whole = values.copy(), np.where(radar, "s1", "s2")
    values[:, drained] *= 0.3
    quality = bits(values, sensors=whole, orbit="19")
    first = [np.flatnonzero(drained & of)[:1] for of in (radar, ~radar)]
    if all(each.size and np.sum(of[:start]) >= 3 for each, of in zip(first, (radar, ~radar), strict=True)):
        assert not (quality[:, np.concatenate(first)] & SeriesFlag.outlier).any()
    spike[:, start] *= 0.3  # the same, seen by one of them on one date
    cleared = (bits(spike, sensors=whole, orbit="19")[:, start] & SeriesFlag.outlier) > 0
    if radar[: start + 1].sum() > 3 or not radar[start]:
        assert cleared.mean() > 0.8


def test_nothing_is_flagged_with_less_than_three_values_before():
    assert bits([1e4, 9e4])[0].tolist() == [0, 0]
    assert bits([1e4, 9e4, 1e4])[0].tolist() == [0, 0, 0]
    assert bits([1e4, 1e4, 1e4, 9e4])[0].tolist() == [0, 0, 0, SeriesFlag.suspect]


def test_a_flip_of_one_cell_stands_apart_from_nothing():
    assert not bits([1e4] * 6 + [1.01e4] + [1e4] * 5).any()  # cells of 100 m2


def test_a_noisy_sensor_is_judged_by_its_own_scatter():
    rng = np.random.default_rng(5)
    sensors = np.array(["s2", "s1", "s1"] * 20)
    sigma = np.where(sensors == "s1", 3000.0, 300.0)
    flags = flag_series(area_series(1e5 + sigma * rng.standard_normal((400, 60)), sensors=sensors))
    apart = (flags.quality & (SeriesFlag.outlier | SeriesFlag.suspect)) > 0
    assert float(apart.where(flags.sensors == 1).mean()) < 0.02


def test_stable_series_are_left_alone_but_for_one_date_in_a_hundred():
    values = 1e5 + 1000 * np.random.default_rng(0).standard_normal((1000, 60))
    quality = flag_series(area_series(values)).quality
    assert float((quality > 0).mean()) < 0.012


def test_sensors_count_from_a_share_of_one_half():
    series = area_series([[1e4] * 6])
    series["s1_fraction"][0] = [GAP, 0.49, 0.5, 0.2, 0.7, 0.1]
    series["s2_fraction"][0] = [GAP, 0.49, 0.2, 0.8, 0.6, GAP]
    sensors = flag_series(series).sensors
    assert sensors.values.tolist() == [[0, 0, 1, 2, 3, 0]]
    assert sensors.dtype == np.uint8
    assert sensors.attrs["flag_meanings"] == "unknown s1 s2 s1_and_s2"
    assert sensors.attrs["flag_values"].tolist() == [0, 1, 2, 3]


def test_bits_of_one_date():
    series = area_series([[1e4, GAP, GAP, 1e4, 1e4], [GAP] * 5], frozen=[0.0, 0.9, 0.0, 0.5, 0.4])
    series["requested_fraction"][:, 2] = 0
    series["part_of"][1, 3:] = 0
    quality = flag_series(series).quality
    partial, held = SeriesFlag.partial, SeriesFlag.held
    assert quality.values.tolist() == [
        [0, partial, 0, SeriesFlag.frozen, 0],
        [partial, partial, 0, held, held],
    ]
    assert quality.dtype == np.uint16
    assert quality.attrs["flag_masks"].tolist() == [1, 2, 4, 8, 16, 32]
    assert quality.attrs["flag_meanings"] == "suspect outlier partial frozen provisional held"


def test_radar_alone_is_provisional_outside_the_open_water_season():
    dates = months("01", "05", "06", "10", "11", "12")
    for sensors, latitude, expected in (
        ("s1", 28.0, [1, 1, 0, 0, 1, 1]),
        ("s1", -33.0, [0, 1, 1, 1, 1, 0]),
        ("s1", -10.0, [0, 0, 0, 0, 0, 0]),
        ("s1_and_s2", 28.0, [0] * 6),
        ("s2", 28.0, [0] * 6),
        ("unknown", 28.0, [0] * 6),
    ):
        quality = bits([[1e4] * 6], times=dates, sensors=sensors, latitude=latitude)
        assert (quality[0] // SeriesFlag.provisional).tolist() == expected
    stated = flag_series(area_series([[1e4] * 6], times=dates, sensors="s1"), open_water=(11, 5))
    assert (stated.quality[0] // SeriesFlag.provisional).values.tolist() == [0, 0, 1, 1, 0, 0]
    assert stated.attrs["open_water_months"] == [11, 5]


def test_provisional_and_frozen_values_stay_out_of_sigma():
    rng = np.random.default_rng(3)
    values = np.tile(1e5, 48) + 500 * rng.standard_normal(48)
    month = np.arange(48) % 12 + 1
    dates = np.array([f"{2016 + i // 12}-{m:02d}-10" for i, m in enumerate(month)], "datetime64[ns]")
    winter = (month < 6) | (month > 10)
    wild = values + np.where(winter, 20_000 * rng.standard_normal(48), 0)
    radar = flag_series(area_series(wild, times=dates, sensors="s1"))
    frozen = flag_series(area_series(wild, times=dates, frozen=np.where(winter, 1.0, 0.0)), hampel=1e3)
    assert (radar.quality[0].values[winter] == SeriesFlag.provisional).all()
    assert (frozen.quality[0].values[winter] == SeriesFlag.frozen).all()
    for flags in (radar, frozen):
        assert 0 < float(flags.sigma_repeat.max()) < 1500


def test_months_pass_the_turn_of_the_year():
    lakes = area_series([[1e4]] * 4, latitude=[23.6, 23.5, -23.5, -23.6])
    assert open_water_months(lakes).values.tolist() == [[6, 10], [1, 12], [1, 12], [12, 4]]
    dates = area_series([[1e4] * 3], times=months("04", "05", "12"), latitude=-40.0)
    assert in_months(dates.time.dt.month, open_water_months(dates)).values.tolist() == [[True, False, True]]


def test_kept_variance_is_that_of_drawn_values():
    drawn = np.random.default_rng(0).standard_normal((400_000, 6))
    kept = np.abs(drawn[:, 5] - np.median(drawn[:, :5], axis=1)) <= 2.5
    assert drawn[kept, 5].var() == pytest.approx(kept_variance(2.5), abs=0.005)


def test_dims_keep_the_order_of_area():
    series = area_series([[*STEADY, 4e4, 1e4]] * 2)
    flags = flag_series(series.transpose("time", "lake"))
    assert flags.quality.dims == flags.sigma_repeat.dims == ("time", "lake")
    assert flags.transpose("lake", "time").identical(flag_series(series))


def test_flagging_stays_lazy_and_is_the_same(no_compute):
    series = area_series(np.tile([*STEADY, 4e4, 1e4], (5, 1)), sensors="s1").chunk(lake=2, time=4)
    series["relative_orbit"] = series.relative_orbit.astype(object)  # as a cube has it
    flags = flag_series(series)
    assert all(flags[name].chunks for name in ("quality", "sensors", "sigma_repeat", "sigma_repeat_dof"))


def test_lazy_and_eager_agree():
    rng = np.random.default_rng(8)
    series = area_series(rng.normal(1e4, 500, (7, 40)), sensors=rng.choice(["s1", "s2"], (7, 40)))
    assert flag_series(series.chunk(lake=3, time=9)).compute().identical(flag_series(series))
    assert flagged(flag_series(series)).identical(flagged(series))


def test_empty_and_single_series():
    none = flag_series(area_series([[1e4] * 3]).isel(lake=slice(0, 0)))
    assert none.quality.shape == none.sigma_repeat.shape == (0, 3)
    assert flag_series(area_series([[1e4]])).quality.values.tolist() == [[0]]
    for series in (area_series([[1e4] * 3]), area_series([[1e4] * 3]).chunk(lake=1, time=2)):
        undated = flag_series(series.isel(time=slice(0, 0)))
        assert undated.quality.values.shape == undated.sigma_repeat.values.shape == (1, 0)
        assert interval(undated).lower.values.shape == (1, 0)


def test_bad_series_are_refused():
    series = area_series([[1e4] * 4])
    for bad, message in (
        (series.drop_vars("area"), "the series has no area"),
        (series.isel(time=0), "segment a cube with dates"),
        (series.drop_vars("part_of"), "has no part_of; expected what xglof.lakes.lake_area returns"),
        (series.assign_coords(time=[0, 1, 2, 3]), "expected dates"),
        (series.isel(time=[0, 2, 1, 3]), "out of order"),
        (series.isel(time=[0, 1, 1, 2]), "a date twice"),
        (series.drop_vars("latitude"), "no latitude"),
        (series.assign_coords(latitude=("lake", [GAP])), "a lake has no latitude"),
        (flag_series(series), "quality already"),
    ):
        with pytest.raises(CubeError, match=message):
            flag_series(bad)
    for options, message in (
        ({"hampel": 0}, "hampel is 0"),
        ({"hampel": np.inf}, "hampel is inf"),
        ({"open_water": (0, 4)}, "expected first and last month"),
        ({"open_water": 6}, "expected first and last month"),
        ({"open_water": (6, 8, 9)}, "expected first and last month"),
    ):
        with pytest.raises(CubeError, match=message):
            flag_series(series, **options)


def test_orbits_as_a_cube_has_them_do_not_stop_a_lazy_series():
    values = np.random.default_rng(0).normal(1e5, 500, (2, 24))
    series = area_series(values, sensors="s1_and_s2")
    orbits = np.where(np.arange(24) % 2, "85", "19").astype(object)
    series = series.assign_coords(relative_orbit=("time", orbits))
    lazy = flag_series(series.chunk(lake=1, time=5))
    xr.testing.assert_identical(lazy.compute(), flag_series(series))
