"""What alerts promise, on simulated series: few false ones, steps found, spikes and raw values left alone."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from lake_series import area_series, season_dates
from xglof.lakes.alerts import find_alerts
from xglof.lakes.series import SeriesFlag, flag_series

LAKES, YEARS, A_YEAR, STEP_AT = 4000, 5, 12, 36
AREA, SIGMA = 1e5, 1000.0


def scatter(seed: int, lakes: int = LAKES) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(lakes, YEARS * A_YEAR))


def stable(seed: int, **options: object) -> xr.Dataset:
    return area_series(AREA + SIGMA * scatter(seed), times=season_dates(YEARS), **options)


def issued(series: xr.Dataset, budget: float = 0.01) -> float:
    """Alerts issued in a lake-year over the budget."""
    years = series.sizes["lake"] * series.sizes["time"] / A_YEAR
    return len(find_alerts(series, false_alarms=budget, withdrawn=True)) / years / budget


@pytest.mark.parametrize(("budget", "seed"), [(0.01, 11), (0.05, 12)])
def test_stable_lakes_alert_no_more_often_than_the_budget(budget: float, seed: int) -> None:
    assert 0.3 < issued(stable(seed), budget) <= 1  # and the budget is used


def test_two_biased_sensors_keep_the_budget() -> None:
    second = np.arange(YEARS * A_YEAR) % 2 == 1
    area = AREA + SIGMA * np.where(second, 3 + 2 * scatter(13), scatter(13))
    series = area_series(area, times=season_dates(YEARS), sensors=np.where(second, "s1", "s2"))
    assert issued(series) <= 1


ORBITS = {
    "alternating": np.arange(60) % 2 == 1,
    "joins late": (np.arange(60) % 2 == 1) & (np.arange(60) >= STEP_AT),
    "the other stops": np.arange(60) >= STEP_AT,
}


@pytest.mark.parametrize("second", ORBITS.values(), ids=ORBITS.keys())
def test_a_bias_between_sensors_larger_than_the_outline_keeps_the_budget(second: np.ndarray) -> None:
    area = 1e6 * (1 + 0.01 * scatter(21, 1000)) * np.where(second, 0.95, 1.0)
    series = area_series(area, times=season_dates(YEARS), sensors=np.where(second, "s1", "s2"))
    assert 3 * series["area_sigma"].mean() < 0.05 * 1e6
    assert issued(series) <= 1


@pytest.mark.parametrize("second", [ORBITS["alternating"], ORBITS["joins late"]], ids=["always", "late"])
def test_a_sensor_of_huge_bias_gets_a_baseline_of_its_own(second: np.ndarray) -> None:
    lakes = 300
    area = 1e6 * (1 + 0.01 * scatter(22, lakes)) * np.where(second, 0.85, 1.0)
    sensors = np.where(second, "s1", "s2")
    told = find_alerts(area_series(area, times=season_dates(YEARS), sensors=sensors), withdrawn=True)
    assert len(told) <= 2.3 * lakes  # the first two views, then what chance makes
    assert (told["status"] == "confirmed").mean() < 0.1
    area[:, 50:] *= 0.9  # and it is watched from then on
    series = area_series(area, times=season_dates(YEARS), sensors=sensors)
    after = find_alerts(series)
    found = after[(after["kind"] == "drainage") & (after["raised"] >= series["time"].to_numpy()[50])]
    assert found["lake"].nunique() > 0.98 * lakes


@pytest.mark.parametrize("left", [0.0, 0.4])
def test_a_lake_that_drains_leaves_its_past_alone(left: float) -> None:
    area = AREA + 2 * SIGMA * scatter(23, 2000)
    area[:, 30:] *= left
    series = area_series(area, times=season_dates(YEARS))
    told = find_alerts(series, withdrawn=True)
    before = told["first_changed"] < series["time"].to_numpy()[29]  # a view before the drop pairs with it
    assert before.sum() <= 0.01 * 2000 * 29 / A_YEAR


@pytest.mark.parametrize("size", [1e4, 4e4, 1e5])
@pytest.mark.parametrize("error", [0.02, 0.05])
@pytest.mark.parametrize("dates", range(2, 13))
def test_a_large_drop_is_found_from_two_dates_before_on(size: float, error: float, dates: int) -> None:
    lakes = 200
    area = size * (1 + error * scatter(31 + dates, lakes)[:, : dates + 2])
    area[:, dates:] *= 0.4
    series = area_series(area, times=season_dates(2)[: dates + 2])
    told = find_alerts(series)
    found = (told["kind"] == "drainage") & (told["first_changed"] == series["time"].to_numpy()[dates])
    assert told[found]["lake"].nunique() >= 0.9 * lakes


def hidden(area: np.ndarray, share: np.ndarray) -> xr.Dataset:
    """Series in which a share of the water was hidden, with a tenth more around it."""
    series = area_series(area, times=season_dates(YEARS), observed=1 - share)
    series["area"] = series["area_lower"] = series["area"] * (1 - share)
    series["area_upper"] = series["area_lower"] + share * 1.1 * AREA
    return series


@pytest.mark.parametrize("often", [0.3, 1.0])
def test_partly_hidden_views_keep_the_budget(often: float) -> None:
    rng = np.random.default_rng(24)
    area = AREA + SIGMA * scatter(24)
    share = np.where(rng.random(area.shape) < often, rng.uniform(0.1, 0.3, area.shape), 0.0)
    assert issued(hidden(area, share)) <= 1
    area[:, STEP_AT:] *= 0.4
    told = find_alerts(hidden(area[:500], share[:500]))
    assert told[told["kind"] == "drainage"]["lake"].nunique() == 500


def test_gaps_and_partial_views_keep_the_budget() -> None:
    rng = np.random.default_rng(14)
    area = AREA + SIGMA * scatter(14)
    observed = np.where(rng.random(area.shape) < 0.3, rng.random(area.shape), 1.0)
    series = area_series(area, times=season_dates(YEARS), observed=observed)
    series["area_upper"] = series["area_lower"] + (1 - observed) * 1.1 * AREA  # a buffer is hidden too
    series["area"] = series["area"].where(series["observed_fraction"] >= 0.7)
    series["area"] = series["area"].where(series["observed_fraction"] == 1)
    assert issued(series) <= 1


def test_steps_of_four_sigma_are_found_within_two_views_in_nine_of_ten_lakes() -> None:
    sign = np.where(np.arange(LAKES) % 2, 1, -1)[:, None]
    area = AREA + SIGMA * (scatter(15) + 4 * sign * (np.arange(YEARS * A_YEAR) >= STEP_AT))
    series = area_series(area, times=season_dates(YEARS))
    alerts = find_alerts(series, withdrawn=True)
    first, second = series["time"].to_numpy()[[STEP_AT, STEP_AT + 1]]
    kind = dict(
        zip(series["lake"].to_numpy(), np.where(sign[:, 0] > 0, "expansion", "drainage"), strict=True)
    )
    mine = alerts[(alerts["kind"] == alerts["lake"].map(kind)) & alerts["raised"].between(first, second)]
    assert mine["lake"].nunique() >= 0.9 * LAKES


def test_a_lasting_drop_of_sixty_percent_is_confirmed_in_every_lake() -> None:
    lakes = 200
    area = AREA + SIGMA * scatter(16, lakes)
    area[:, STEP_AT:] -= 0.6 * AREA
    series = area_series(area, times=season_dates(YEARS))
    alerts = find_alerts(series)
    first, second = series["time"].to_numpy()[[STEP_AT, STEP_AT + 1]]
    mine = alerts[(alerts["kind"] == "drainage") & (alerts["status"] == "confirmed")]
    assert mine[mine["raised"] == first]["lake"].nunique() == lakes
    assert (mine[mine["raised"] == first]["decided"] <= second).all()


def test_a_spike_is_flagged_and_withdrawn_and_nothing_is_overwritten() -> None:
    rows = np.arange(LAKES)
    at, sign = 20 + rows % 30, np.where(rows % 2, 1, -1)
    area = AREA + SIGMA * scatter(17)
    area[rows, at] += 12 * SIGMA * sign
    series = area_series(area, times=season_dates(YEARS))
    before = series.copy(deep=True)
    flagged = flag_series(series)
    flags = flagged["quality"].to_numpy()[rows, at]
    assert (flags & SeriesFlag.outlier > 0).mean() > 0.97  # not where the date before stood apart as well
    told = find_alerts(series, withdrawn=True)
    place = series["lake"].to_index().get_indexer(told["lake"])
    spikes = told[
        (told["raised"].to_numpy() == series["time"].to_numpy()[at[place]])
        & (told["kind"] == np.where(sign[place] > 0, "expansion", "drainage"))
    ]
    assert spikes["lake"].nunique() == LAKES
    assert (spikes["status"] == "withdrawn").mean() > 0.985  # else a view beside it agreed by chance
    listed = find_alerts(series)
    assert not (listed["status"] == "withdrawn").any()
    xr.testing.assert_identical(series, before)
    assert np.array_equal(flagged["area"].to_numpy().view("uint64"), area.view("uint64"))
