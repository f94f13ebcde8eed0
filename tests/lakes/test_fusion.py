from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake_series import area_series, season_dates
from xglof.errors import CubeError
from xglof.lakes.fusion import _pairs, fuse_sensors, split_sensors
from xglof.lakes.scatter import interval
from xglof.lakes.series import SeriesFlag, flag_series

TRUE, BIAS = 1e5, 3000.0
DAYS = season_dates(5)


def two(lakes=300, *, seed=0, every=2):
    """Radar, biased, four days after optics, and on the same day every fourth time; optics every second."""
    rng = np.random.default_rng(seed)
    later = DAYS + np.timedelta64(4, "D") + np.timedelta64(7, "h")
    later[::4] = DAYS[::4] + np.timedelta64(7, "h")
    radar = TRUE + BIAS + 2000 * rng.standard_normal((lakes, 60))
    optics = TRUE + 800 * rng.standard_normal((lakes, 60))
    optics[:, np.arange(60) % every > 0] = np.nan
    return area_series(radar, times=later, sensors="s1"), area_series(optics, times=DAYS)


@given(
    st.lists(st.integers(0, 60), max_size=12, unique=True).map(sorted),
    st.lists(st.integers(0, 60), max_size=12, unique=True).map(sorted),
    st.integers(0, 20),
)
def test_pairs_are_each_others_nearest(one, two, gap):
    first, second = _pairs(np.array(one, float), np.array(two, float), gap)

    def nearest(date, among):
        return min(range(len(among)), key=lambda at: (abs(among[at] - date), among[at]))

    expected = [
        (nearest(date, one), at)
        for at, date in enumerate(two)
        if one and nearest(one[nearest(date, one)], two) == at and abs(one[nearest(date, one)] - date) <= gap
    ]
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == expected


def test_bias_is_found_and_its_error_is_what_it_scatters_by():
    fused = fuse_sensors(*two())
    assert float(fused.s1_bias.mean()) == pytest.approx(BIAS, abs=4 * 500 / np.sqrt(300))
    assert float(fused.s1_bias_sigma.mean()) == pytest.approx(float(fused.s1_bias.std()), rel=0.12)
    assert (fused.pairs >= 25).all()
    assert (fused.bias_reason == "").all()


def test_sigma_is_what_the_fused_areas_scatter_by_and_intervals_cover():
    fused = fuse_sensors(*two())
    ends = interval(fused)
    covered = (ends.lower <= TRUE) & (ends.upper >= TRUE)
    for sensors in (1, 2, 3):
        mine = fused.sensors == sensors
        scatter = float(np.sqrt(np.square((fused.area - TRUE).where(mine)).mean()))
        assert scatter == pytest.approx(
            float(np.sqrt(np.square(fused.sigma_repeat.where(mine)).mean())), rel=0.06
        )
        assert float(covered.where(mine).mean()) == pytest.approx(0.95, abs=0.02)


def test_optics_stand_as_they_are_and_radar_comes_less_the_bias():
    s1, s2 = (flag_series(series) for series in two(3))
    fused = fuse_sensors(s1, s2)
    for lake in range(3):
        good = {
            name: {
                str(day)[:10]: (float(area), float(sigma))
                for day, area, sigma, quality in zip(
                    of.time.values,
                    of.area[lake].values,
                    of.sigma_repeat[lake].values,
                    of.quality[lake].values,
                    strict=True,
                )
                if np.isfinite(area) and not quality & SeriesFlag.outlier
            }
            for name, of in (("s1", s1), ("s2", s2))
        }
        bias, error = float(fused.s1_bias[lake]), float(fused.s1_bias_sigma[lake])
        for step, day in enumerate(fused.time.values):
            radar, optics = good["s1"].get(str(day)[:10]), good["s2"].get(str(day)[:10])
            found = tuple(float(fused[name][lake, step]) for name in ("area", "sigma_repeat"))
            sensors = int(fused.sensors[lake, step])
            if radar is None and optics is None:
                assert np.isnan(found).all()
                assert sensors == 0
            elif radar is None:
                assert found == optics
                assert sensors == 2
            else:
                moved, sigma = radar[0] - bias, np.hypot(radar[1], error)
                if optics is None:
                    assert found == pytest.approx((moved, sigma))
                    assert sensors == 1
                else:
                    weights = sigma**-2, optics[1] ** -2
                    mean = (weights[0] * moved + weights[1] * optics[0]) / sum(weights)
                    assert found == pytest.approx((mean, sum(weights) ** -0.5))
                    assert sensors == 3


def test_with_few_pairs_radar_is_left_out_and_said():
    s1, s2 = two(2)
    few = s2.where(s2.time < s2.time[8]).assign(part_of=s2.part_of, s2_fraction=s2.s2_fraction)
    fused = fuse_sensors(s1, few)
    assert fused.pairs.values.tolist() == [4, 4]
    assert np.isnan(fused.s1_bias).all()
    assert np.isnan(fused.s1_bias_sigma).all()
    assert (
        fused.bias_reason.values.tolist()
        == ["radar left out: 4 pairs no more than 12 days apart, 5 are needed"] * 2
    )
    assert set(np.unique(fused.sensors)) == {0, 2}
    assert int(fused.area.notnull().sum()) == 8
    none = fuse_sensors(s1, s2, max_gap_days=0)
    assert (none.pairs == 0).all()  # seven hours are more than no day


def test_outliers_and_provisional_values_take_no_part():
    s1, s2 = two(1)
    s1["area"][0, 20] = 9e5
    assert float(fuse_sensors(s1, s2).area.max()) < 2e5
    dates = np.array([f"2016-12-{day}" for day in range(10, 30)], "datetime64[ns]")
    radar, optics = (
        area_series([[9e5] * 20], times=dates, sensors="s1"),
        area_series([[TRUE] * 20], times=dates),
    )
    snow = fuse_sensors(radar, optics)
    assert snow.pairs.item() == 0
    assert (snow.area == TRUE).all()


def test_two_passes_of_a_day_count_as_one():
    times = np.sort(np.concatenate([DAYS[:24], DAYS[:24] + np.timedelta64(12, "h")]))
    rng = np.random.default_rng(1)
    s1 = area_series(TRUE + 1000 * rng.standard_normal((1, 48)), times=times, sensors="s1")
    s2 = area_series(TRUE + 100 * rng.standard_normal((1, 24)), times=DAYS[:24] + np.timedelta64(1, "D"))
    fused = fuse_sensors(s1, s2)
    flags = flag_series(s1)
    assert fused.sizes["time"] == len(np.unique([str(d)[:10] for d in [*times, *s2.time.values]]))
    fit = (flags.quality[0] & SeriesFlag.outlier) == 0
    alone = ~np.isin(times.astype("M8[D]"), s2.time.values.astype("M8[D]"))
    day = next(i for i in range(0, 48, 2) if fit[i] and fit[i + 1] and alone[i])
    weights = 1 / flags.sigma_repeat[0, day : day + 2].values ** 2
    mean = np.average(s1.area[0, day : day + 2], weights=weights) - fused.s1_bias.item()
    assert fused.area[0].sel(time=times[day].astype("M8[D]")).item() == pytest.approx(mean)


def test_a_mixed_series_is_split_by_what_values_rest_on():
    sensors = np.tile(["s1", "s2", "s1_and_s2", "unknown"], 9)
    series = area_series([np.arange(36) + 1e4], sensors=sensors)
    before = series.copy(deep=True)
    radar, optics = split_sensors(series)
    np.testing.assert_array_equal(radar.area.notnull()[0], sensors == "s1")
    np.testing.assert_array_equal(optics.area.notnull()[0], np.isin(sensors, ["s2", "s1_and_s2"]))
    assert series.identical(before)
    fused = fuse_sensors(radar, optics)
    assert fused.pairs.item() >= 5
    assert set(np.unique(fused.sensors)) <= {0, 1, 2, 3}


def test_fusion_stays_lazy(no_compute):
    s1, s2 = two(5)
    fused = fuse_sensors(s1.chunk(lake=2, time=9), s2.chunk(lake=2))
    assert all(fused[name].chunks for name in ("area", "sigma_repeat", "sensors", "s1_bias", "bias_reason"))


def test_lazy_and_eager_agree_in_any_order_of_lakes():
    s1, s2 = two(5)
    s2["area"][1] = np.nan
    fused = fuse_sensors(s1, s2)
    assert fuse_sensors(s1.chunk(lake=2, time=9), s2.chunk(lake=2)).compute().identical(fused)
    turned = s1.isel(lake=[3, 0, 4, 1, 2])
    turned["part_of"] = turned.part_of.copy(data=np.broadcast_to(np.arange(5)[:, None], (5, 60)))
    assert fuse_sensors(turned, s2).identical(fused)


def test_series_without_dates_or_lakes_are_fused_to_such():
    s1, s2 = two(2)
    for one, other in ((s1.isel(time=[]), s2.isel(time=[])), (s1.isel(lake=[]), s2.isel(lake=[]))):
        fused = fuse_sensors(one, other)
        assert fused.area.size == 0
        assert (fused.pairs == 0).all()
    fused = fuse_sensors(s1.isel(time=[]), s2)
    assert set(np.unique(fused.sensors)) <= {0, 2}
    assert fused.sizes["time"] == s2.sizes["time"]


def test_flags_of_the_values_that_went_in_are_kept():
    s1, s2 = two(1, every=1)
    s2["area"][0, 40:] += 50_000  # a change: its first value stays suspect
    s1["area"][0, 39:] += 50_000
    fused = fuse_sensors(flag_series(s1), flag_series(s2, open_water=(5, 10)))
    suspect = (fused.quality[0] & SeriesFlag.suspect) > 0
    assert suspect.sel(time=s2.time[40].values.astype("M8[D]"))
    assert not (fused.quality & (SeriesFlag.outlier | SeriesFlag.provisional)).any()
    assert fused.quality.dtype == np.uint16
    assert fused.attrs["open_water_months"] == [5, 10]


def test_a_sensor_seldom_seen_has_a_bias_and_no_outliers():
    radar = np.arange(120) % 6 == 5
    noise = 0.01 * np.random.default_rng(2).standard_normal((300, 120))
    values = TRUE * (1 + noise - 0.05 * radar)
    flags = flag_series(area_series(values, sensors=np.where(radar, "s1", "s2"), orbit="19"))
    apart = (flags.quality & (SeriesFlag.outlier | SeriesFlag.suspect)) > 0
    assert float(apart[:, radar].mean()) < 0.02
    assert float(apart[:, ~radar].mean()) < 0.015
    fused = fuse_sensors(*split_sensors(flags))
    assert float((fused.pairs >= 5).mean()) > 0.98
    assert float(fused.s1_bias.mean()) == pytest.approx(-0.05 * TRUE, rel=0.03)


def test_attributes_tell_units():
    fused = fuse_sensors(*two(1))
    for name in ("area", "sigma_repeat", "s1_bias", "s1_bias_sigma"):
        assert fused[name].attrs["units"] == "m2"
    assert all(fused[name].attrs["long_name"] for name in fused.data_vars)
    assert fused.sensors.dtype == np.uint8


def test_bad_input_is_refused():
    s1, s2 = two(2)
    for one, other, options, message in (
        (s1.isel(time=0), s2, {}, "s1: the series has"),
        (s1, s2.drop_vars("part_of"), {}, "s2: the series has no part_of"),
        (s1.isel(lake=[0]), s2, {}, "1 lakes are in one series alone, GL086510E28000N first"),
        (s1.isel(lake=[0, 0]), s2, {}, "or one twice"),
        (s1, s2, {"max_gap_days": -1}, "max_gap_days is -1"),
        (flag_series(s1).drop_vars("sigma_repeat"), s2, {}, "s1 has no sigma_repeat"),
    ):
        with pytest.raises(CubeError, match=message):
            fuse_sensors(one, other, **options)
