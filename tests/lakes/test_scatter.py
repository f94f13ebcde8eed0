from __future__ import annotations

import itertools

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lake_series import area_series, season_dates
from xglof.errors import CubeError
from xglof.lakes.scatter import (
    Repeats,
    differences_dof,
    interval,
    repeat_sigma,
    robust_scatter,
    rounding_floor,
    strata,
)
from xglof.lakes.series import flag_series

TRUE = 1e5


def group_of(code, level, depth):
    """The group of a date, finest first: both of its level, stratum, sensors and orbit, sensors, lake."""
    sensors, orbit, _quarter = code
    return [(*code, level), (sensors, orbit, level), code, (sensors, orbit), (sensors,), ()][depth]


def slow_sigma(of, codes, stable, level, at):
    """The sigma of one date of one lake, and its degrees of freedom, as the docstring tells it."""
    area, outline, days = of
    others = [i for i in range(len(area)) if stable[i] and outline[i] > 0 and i != at]
    for depth, least in ((0, 6), (1, 6), (2, 6), (3, 6), (4, 6), (5, 2)):
        within = (
            2 if depth in (0, 2) else 3
        )  # a difference is of one level and stratum, or of one source and any quarter
        mine = [
            i for i in others if group_of(codes[i], level[i], depth) == group_of(codes[at], level[at], depth)
        ]
        squares, count, runs = 0.0, 0, 0
        for chain in sorted({(group_of(codes[i], level[i], within), level[i]) for i in mine}):
            dates = [i for i in mine if (group_of(codes[i], level[i], within), level[i]) == chain]
            joined = False
            for one, two in itertools.pairwise(dates):
                runs += days[two] - days[one] <= 200 and not joined
                joined = days[two] - days[one] <= 200
                count += joined
                squares += joined * (area[two] - area[one]) ** 2 / (outline[one] ** 2 + outline[two] ** 2)
        if count and (dof := 2 * count**2 / (3 * count - runs)) >= least:
            return np.sqrt(squares / count) * outline[at], dof
    return np.nan, 0.0


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 3))
def test_sigma_is_that_of_a_loop_over_lakes_and_dates(seed, steps, lakes):
    rng = np.random.default_rng(seed)
    area = rng.normal(1000, 50, (lakes, steps)).round(1)
    outline = rng.uniform(0.5, 2, (lakes, steps)) * (rng.random((lakes, steps)) < 0.95)
    sensors, orbit = rng.integers(0, 4, (lakes, steps)), rng.integers(0, 2, steps)
    month, stable = rng.integers(1, 13, steps), rng.random((lakes, steps)) < 0.8
    level = np.cumsum(rng.random((lakes, steps)) < 0.05, axis=1)
    days = np.cumsum(rng.integers(1, rng.choice([20, 150]), steps)).astype(float)
    of = Repeats(area, outline, days, *strata(sensors, orbit, month))
    sigma, dof = repeat_sigma(of, stable, level, floor=np.zeros(lakes))
    for lake in range(lakes):
        radar = np.isin(sensors[lake], (1, 3))
        codes = [
            (int(s), int(o) if r else -1, int(m) % 12 // 3)
            for s, o, r, m in zip(sensors[lake], orbit, radar, month, strict=True)
        ]
        for at in range(steps):
            mine = area[lake], outline[lake], days
            expected = slow_sigma(mine, codes, stable[lake], level[lake], at)
            np.testing.assert_allclose((sigma[lake, at], dof[lake, at]), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n", [2, 3, 8, 30])
def test_degrees_of_freedom_are_those_of_the_variance_of_the_estimate(n):
    values = np.random.default_rng(n).standard_normal((200_000, n))
    estimate = np.square(np.diff(values, axis=1)).sum(axis=1) / (2 * (n - 1))
    assert estimate.mean() == pytest.approx(1, abs=0.02)
    assert 2 / estimate.var() == pytest.approx(differences_dof(n - 1), rel=0.03)
    assert differences_dof(n - 1) == pytest.approx(2 * (n - 1) ** 2 / (3 * n - 4))


def test_degrees_of_freedom_of_separate_runs_add_up():
    assert differences_dof(6, 3) == pytest.approx(3 * differences_dof(2))
    assert differences_dof(0, 0) == 0


def test_sigma_squared_is_unbiased_although_outliers_are_taken_out():
    values = TRUE + 1000 * np.random.default_rng(7).standard_normal((4000, 60))
    flags = flag_series(area_series(values))
    assert 0.005 < float((flags.quality == 2).mean()) < 0.012  # they are taken out
    assert float((flags.sigma_repeat**2).mean()) / 1000**2 == pytest.approx(1, abs=0.015)
    narrow = flag_series(area_series(values), hampel=2.0)
    assert float((narrow.sigma_repeat**2).mean()) / 1000**2 == pytest.approx(1, abs=0.05)


def stable(kind, lakes=1500):
    """12 dates a year over 5 years; one sigma for each of sensors, orbits and seasons."""
    times, options, orbit = season_dates(5), {}, None
    sensors = np.array(["s2"])
    if kind == "orbits":
        sensors, orbit = np.array(["s2", "s1", "s1"] * 20), np.array(["", "12", "85"] * 20)
        sigma = np.array([800.0, 2000.0, 2600.0] * 20)
        sigma = sigma * np.where(times.astype("datetime64[M]").astype(int) % 12 >= 8, 1.25, 1.0)
    elif kind == "all year":
        month = np.arange(60) % 12 + 1
        times = np.array([f"{2016 + i // 12}-{m:02d}-10" for i, m in enumerate(month)], "datetime64[ns]")
        optical = (month >= 6) & (month <= 10)
        sensors, options = np.where(optical, "s2", "s1"), {"latitude": 10.0}
        orbit = np.where(optical, "", np.where(np.arange(60) % 2, "12", "85"))
        sigma = np.where(optical, 900.0, 2200.0)
    elif kind == "seasons":
        sigma = np.where(times.astype("datetime64[M]").astype(int) % 12 >= 8, 2000.0, 1000.0)
    else:
        sensors, orbit = np.array(["s2", "s1", "s1_and_s2", "s2"] * 15), np.array(["", "12", "12", ""] * 15)
        sigma = np.array([800.0, 2500.0, 700.0, 800.0] * 15)
    values = TRUE + sigma * np.random.default_rng(3).standard_normal((lakes, 60))
    return flag_series(area_series(values, times=times, sensors=sensors, orbit=orbit, **options))


@pytest.mark.parametrize("kind", ["orbits", "all year", "seasons", "sensors"])
def test_intervals_cover_the_truth_as_often_as_they_say(kind):
    series = stable(kind)
    for confidence, tolerance in ((0.68, 0.03), (0.95, 0.02)):
        ends = interval(series, confidence=confidence)
        covered = float(((ends.lower <= TRUE) & (ends.upper >= TRUE)).mean())
        assert covered == pytest.approx(confidence, abs=tolerance)


def test_a_trend_hardly_enters_sigma():
    noise = 500 * np.random.default_rng(1).standard_normal((500, 60))
    rising = TRUE + np.arange(60) * 50 + noise  # 6 sigma in all
    flags = flag_series(area_series(rising))
    assert np.var(rising, axis=1).mean() > 3 * 500**2  # what a plain variance would say
    assert float((flags.sigma_repeat**2).mean()) == pytest.approx(500**2, rel=0.06)


def test_a_change_of_level_does_not_enter_sigma():
    level = np.where(np.arange(60) < 30, 1.0, 0.4)
    outline = 500 * np.sqrt(level)  # the error of an outline goes with its length
    noise = outline * np.random.default_rng(2).standard_normal((500, 60))
    flags = flag_series(area_series(TRUE * level + noise))
    found = np.sqrt((flags.sigma_repeat**2).mean("lake"))
    np.testing.assert_allclose(found, outline, rtol=0.06)


@pytest.mark.parametrize("share", [0.0, 0.4])
@pytest.mark.parametrize("scatter", ["of the area", "of the outline"])
def test_intervals_cover_before_and_after_a_drainage(share, scatter):
    level = np.where(np.arange(60) < 30, 1.0, share)
    sigma = 0.02 * TRUE * (level if scatter == "of the area" else np.sqrt(level))
    values = TRUE * level + sigma * np.random.default_rng(6).standard_normal((1000, 60))
    flags = flag_series(area_series(values))
    ends = interval(flags, confidence=0.68)
    covered = ((ends.lower <= TRUE * level) & (ends.upper >= TRUE * level)).mean("lake")
    for dates in (slice(0, 30), slice(30, 60)) if share else (slice(0, 30),):
        assert float(covered[dates].mean()) == pytest.approx(0.68, abs=0.04)
    if not share:
        np.testing.assert_allclose(flags.sigma_repeat[:, 30:], 100 / np.sqrt(12))
        assert (covered[30:] == 1).all()


@pytest.mark.parametrize("per_year", [2, 4, 12])
def test_growth_over_the_years_is_no_scatter(per_year):
    times = season_dates(10, per_year=per_year)
    years = (times - times[0]) / np.timedelta64(1, "D") / 365.25
    truth = TRUE * 1.05**years
    values = truth * (1 + 0.02 * np.random.default_rng(9).standard_normal((600, len(times))))
    flags = flag_series(area_series(values, times=times))
    for confidence, tolerance in ((0.68, 0.05), (0.95, 0.03)):
        ends = interval(flags, confidence=confidence)
        covered = float(((ends.lower <= truth) & (ends.upper >= truth)).mean())
        assert covered == pytest.approx(confidence, abs=tolerance)


def test_a_last_value_that_nothing_followed_does_not_enter_sigma():
    values = TRUE + 500 * np.random.default_rng(2).standard_normal((200, 30))
    values[:, -1] -= 60_000
    assert float(flag_series(area_series(values)).sigma_repeat.max()) < 1500


def test_dates_without_a_value_have_the_sigma_of_their_lake():
    values = TRUE + 500 * np.random.default_rng(2).standard_normal((1, 24))
    values[0, 5] = np.nan
    flags = flag_series(area_series(values))
    squares = np.square(np.diff(values[0][np.isfinite(values[0])]))
    assert flags.sigma_repeat[0, 5] > 0
    assert float(flags.sigma_repeat_dof[0, 5]) >= float(flags.sigma_repeat_dof[0, 4])
    assert float(flags.sigma_repeat[0, 5]) < 2 * np.sqrt(squares.mean())


def test_sigma_goes_with_the_latest_outline_that_is_known():
    values = 1e5 + 500 * np.random.default_rng(2).standard_normal((2, 24))
    series = area_series(values, sigma=np.where(np.arange(24) < 12, 1000.0, 2000.0))
    series["area_sigma"][0, [0, 1, 12, 13]] = np.nan
    series["area_sigma"][1] = np.nan
    flags = flag_series(series)
    ratio = flags.sigma_repeat[0] / [*[1000.0] * 14, *[2000.0] * 10]
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=0.25)
    assert np.isnan(flags.sigma_repeat[1]).all()  # nothing tells its outline
    assert (flags.sigma_repeat_dof[1] == 0).all()


def test_dates_a_year_apart_tell_growth_and_not_scatter():
    values = 1e5 * 1.05 ** np.arange(10)
    yearly = area_series(values, times=season_dates(10, per_year=1))
    assert np.isnan(flag_series(yearly).sigma_repeat).all()
    pairs = area_series(np.repeat(values, 2), times=season_dates(10, per_year=2))
    assert (flag_series(pairs).sigma_repeat < 100).all()


def test_too_few_differences_are_no_sigma():
    flags = flag_series(area_series([[1e4, 1.1e4] + [np.nan] * 4, [np.nan] * 6]))
    assert np.isnan(flags.sigma_repeat).all()
    assert (flags.sigma_repeat_dof == 0).all()
    assert np.isnan(interval(flags).lower).all()


def test_sigma_is_never_below_the_rounding_to_a_cell():
    flags = flag_series(area_series([[1e4] * 12]))  # 10 m cells
    np.testing.assert_allclose(flags.sigma_repeat, 100 / np.sqrt(12))
    unknown = flag_series(area_series([[1e4] * 12]).drop_vars("perimeter"))
    assert (unknown.sigma_repeat == 0).all()
    series = area_series([[1e4] * 12, [np.nan] * 12])
    np.testing.assert_allclose(rounding_floor(series), [100 / np.sqrt(12), 0])


def test_robust_scatter_stays_with_spikes_and_steps():
    values = 1000 * np.random.default_rng(4).standard_normal((300, 60))
    values[:, 30] += 50_000
    values[:, 40:] -= 50_000

    def of(dates):
        number, orbits = strata(np.full((300, dates), 2), np.zeros(dates, int), np.full(dates, 7))
        return Repeats(
            values[:, :dates], np.full((300, dates), 500.0), np.arange(dates) * 9.0, number, orbits
        )

    assert float(robust_scatter(of(60), np.ones((300, 60), bool)).mean()) == pytest.approx(2, rel=0.1)
    assert (robust_scatter(of(3), np.ones((300, 3), bool)) == 0).all()


def test_interval_is_students_and_says_what_it_rests_on():
    dims = ("lake", "time")
    numbers = {"area": [[1e4, np.nan]], "sigma_repeat": [[100.0, 100.0]], "sigma_repeat_dof": [[7.5, 7.5]]}
    series = xr.Dataset({name: (dims, values) for name, values in numbers.items()})
    ends = interval(series, confidence=0.9)
    reach = 100 * stats.t.ppf(0.95, 7.5)
    np.testing.assert_allclose(ends.lower, [[1e4 - reach, np.nan]])
    np.testing.assert_allclose(ends.upper, [[1e4 + reach, np.nan]])
    assert ends.attrs == {"confidence": 0.9, "interval_rests_on": "sigma_repeat"}
    assert ends.lower.attrs["units"] == "m2"
    with pytest.raises(CubeError, match="no sigma_repeat, sigma_repeat_dof"):
        interval(series[["area"]])
    with pytest.raises(CubeError, match="confidence is 95"):
        interval(series, confidence=95)


def test_interval_stays_lazy(no_compute):
    ends = interval(flag_series(area_series(np.full((4, 24), 1e4)).chunk(lake=2)))
    assert ends.lower.chunks is not None
