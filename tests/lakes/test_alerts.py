from __future__ import annotations

import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from lake_series import area_series, season_dates
from xglof.errors import CubeError
from xglof.lakes.alerts import detectability, find_alerts
from xglof.lakes.kin import Unit, exchanges, followed
from xglof.lakes.series import flag_series

STEADY = 1e5 + 600 * np.random.default_rng(2).normal(size=60)


def rows(table, *columns):
    return [tuple(row) for row in table[list(columns)].itertuples(index=False)]


def dropped(share=0.4, *, at=40, steps=60):
    area = STEADY[:steps].copy()
    area[at:] *= 1 - share
    return area


def test_a_drop_of_sixty_percent_in_four_dates_is_confirmed():
    times = pd.to_datetime(["2023-07-01", "2023-08-01", "2023-09-01", "2023-10-01"])
    table = find_alerts(area_series([1e5, 1.01e5, 4e4, 4.1e4], times=times))
    (alert,) = table.to_dict("records")
    assert (alert["lake"], alert["kind"], alert["status"]) == ("GL086500E28000N", "drainage", "confirmed")
    assert [alert[name] for name in ("last_intact", "first_changed", "raised", "decided")] == [
        *times[1:3],
        times[2],
        times[3],
    ]
    assert alert["area_before_m2"] == 100_500
    assert alert["area_after_m2"] == alert["area_lower_m2"] == alert["area_upper_m2"] == 4e4
    assert alert["change_m2"] == -60_500
    assert alert["change_share"] == pytest.approx(-0.602, abs=1e-3)
    assert alert["sigma_source"] == "outline"  # four dates tell no scatter
    assert alert["sigma_m2"] == pytest.approx(1374.4 * np.sqrt(10.05))
    assert alert["change_sigmas"] == pytest.approx(-60_500 / alert["sigma_m2"])
    assert alert["threshold_m2"] < 60_500
    assert alert["days_without_view"] == 31
    assert (alert["s2_last_intact"], alert["s2_first_changed"]) == (times[1], times[2])
    assert pd.isna(alert["s1_last_intact"])
    assert pd.isna(alert["s1_first_changed"])
    assert (alert["kin"], alert["longitude"], alert["latitude"]) == ("", 86.5, 28.0)


def test_a_long_series_is_measured_by_its_own_scatter():
    series = area_series(dropped(0.04), sigma=5000.0)
    table = find_alerts(series)
    assert rows(table, "kind", "status", "sigma_source") == [("drainage", "confirmed", "repeat")]
    assert table["sigma_m2"][0] == pytest.approx(float(np.std(STEADY)), rel=0.25)
    assert abs(table["change_m2"][0]) > table["threshold_m2"][0]


def test_a_spike_is_flagged_and_listed_only_when_asked_for():
    area = STEADY.copy()
    area[40] *= 1.3
    series = area_series(area)
    assert find_alerts(series).empty
    table = find_alerts(series, withdrawn=True)
    times = series["time"].to_numpy()
    assert rows(table, "kind", "status", "first_changed", "decided") == [
        ("expansion", "withdrawn", times[40], times[41])
    ]
    assert rows(find_alerts(series.isel(time=slice(41))), "status", "first_changed") == [
        ("provisional", times[40])
    ]


def test_every_alert_is_told_in_order_with_stated_types():
    area = np.array([dropped(at=40), STEADY, dropped(at=30), dropped(at=40)])
    table = find_alerts(area_series(area[:, :60]))
    assert list(table["first_changed"]) == sorted(table["first_changed"])
    assert rows(table, "lake") == [("GL086520E28000N",), ("GL086500E28000N",), ("GL086530E28000N",)]
    empty = find_alerts(area_series(STEADY))
    assert len(empty) == 0
    assert list(empty.columns) == list(table.columns)
    assert (empty.dtypes == table.dtypes).all()
    assert set(map(str, table.dtypes)) == {"object", "datetime64[ns]", "float64", "int64"}
    assert table.attrs["false_alarms"] == 0.01
    assert table.attrs["model"] == "synthetic"
    assert "budget" in table.attrs["rule"]


def test_a_larger_budget_finds_what_a_smaller_one_does_not():
    series = area_series(dropped(0.022))
    counts = [len(find_alerts(series, false_alarms=budget)) for budget in (1e-6, 0.05)]
    assert counts == [0, 1]


def test_flags_do_not_decide_and_a_flagged_series_gives_the_same():
    series = area_series(dropped())
    pd.testing.assert_frame_equal(find_alerts(series), find_alerts(flag_series(series)))


def test_the_series_stays_as_it_is_to_the_bit():
    series = area_series(np.array([dropped(), STEADY]))
    before = series.copy(deep=True)
    find_alerts(series)
    detectability(series)
    xr.testing.assert_identical(series, before)


def test_a_lazy_series_gives_the_same_table():
    series = area_series(np.array([dropped(), STEADY]))
    lazy = series.chunk(lake=1, time=7)
    assert isinstance(lazy["area"].data, dask.array.Array)
    pd.testing.assert_frame_equal(find_alerts(lazy), find_alerts(series))


def test_a_hidden_lake_that_must_have_drained_is_alerted():
    series = area_series(dropped())
    gone = series["time"] >= series["time"][40]
    series["area"] = series["area"].where(~gone)
    series["area_lower"] = series["area_lower"].where(~gone, 2e4)
    series["area_upper"] = series["area_upper"].where(~gone, 7e4)
    series["observed_fraction"] = series["observed_fraction"].where(~gone, 0.5)
    (alert,) = find_alerts(series).to_dict("records")
    assert (alert["kind"], alert["status"], alert["observed_fraction"]) == ("drainage", "confirmed", 0.5)
    assert np.isnan(alert["area_after_m2"])
    assert (alert["area_lower_m2"], alert["area_upper_m2"]) == (2e4, 7e4)
    assert alert["change_m2"] == pytest.approx(7e4 - alert["area_before_m2"])
    series["area_upper"] = series["area_upper"].where(~gone, 1.2e5)
    assert find_alerts(series).empty


def test_radar_in_winter_raises_and_optical_in_summer_confirms():
    times = season_dates(5)
    winter = np.array(["2020-12-01", "2020-12-13"], "datetime64[ns]")
    summer = np.array(["2021-06-02", "2021-06-12"], "datetime64[ns]")
    area = np.append(STEADY, [4e4, 4e4, 4e4, 4e4])
    sensors = np.array(["s2"] * 60 + ["s1", "s1", "s2", "s2"])
    dates = np.concatenate([times, winter, summer])
    known = area_series(area[:62], times=dates[:62], sensors=sensors[:62])
    assert rows(find_alerts(known), "status", "first_changed") == [("provisional", winter[0])]
    (alert,) = find_alerts(area_series(area, times=dates, sensors=sensors)).to_dict("records")
    assert (alert["status"], alert["first_changed"], alert["decided"]) == ("confirmed", winter[0], summer[0])
    assert (alert["s1_first_changed"], alert["s2_first_changed"]) == (winter[0], summer[0])
    assert alert["s2_last_intact"] == times[-1]
    assert pd.isna(alert["s1_last_intact"])


def test_each_sensor_has_its_last_intact_and_first_changed_view():
    sensors = np.where(np.arange(60) % 2, "s1", "s2")
    series = area_series(dropped(at=41), sensors=sensors)
    times = series["time"].to_numpy()
    (alert,) = find_alerts(series).to_dict("records")
    assert (alert["s1_last_intact"], alert["s1_first_changed"]) == (times[39], times[41])
    assert (alert["s2_last_intact"], alert["s2_first_changed"]) == (times[40], times[42])


def test_floating_ice_may_raise_but_confirms_nothing():
    frozen = np.zeros(60)
    frozen[40:42] = 1
    (alert,) = find_alerts(area_series(dropped()[:42], frozen=frozen[:42])).to_dict("records")
    assert (alert["status"], alert["views_since"]) == ("provisional", 1)
    (alert,) = find_alerts(area_series(dropped(), frozen=frozen)).to_dict("records")
    times = area_series(STEADY)["time"].to_numpy()
    assert (alert["status"], alert["decided"], alert["views_since"]) == ("confirmed", times[42], 19)
    limits = [detectability(area_series(STEADY, frozen=ice)) for ice in (0.0, np.arange(60) >= 58)]
    assert limits[0]["smallest_detectable_share"] != limits[1]["smallest_detectable_share"]  # not in it


def hidden_view(series, at, share):
    """The series with this share of the water hidden at a date; there is a point value still."""
    for name, kept in (("area", 1 - share), ("area_lower", 1 - share), ("area_upper", 1.02)):
        series[name][:, at] = series[name][:, at] * kept
    series["observed_fraction"][:, at] = 1 - share
    return series


def test_what_was_hidden_is_no_drainage_and_enters_no_baseline():
    series = hidden_view(area_series(STEADY), [10, 30, 31, 50], 0.25)
    assert find_alerts(series, withdrawn=True).empty
    limits = [detectability(of)["smallest_detectable_change"].item() for of in (series, area_series(STEADY))]
    assert limits[0] == pytest.approx(limits[1], rel=0.2)
    drained = hidden_view(area_series(dropped()), [40, 41], 0.25)
    (alert,) = find_alerts(drained).to_dict("records")
    assert (alert["status"], alert["first_changed"]) == ("confirmed", drained["time"].to_numpy()[40])
    assert alert["change_m2"] == pytest.approx(alert["area_upper_m2"] - alert["area_before_m2"])
    assert alert["area_after_m2"] < alert["area_upper_m2"]


def test_a_lake_that_was_never_seen_whole_has_a_baseline_that_may_be_larger():
    series = hidden_view(area_series(STEADY), np.arange(40), 0.3)
    assert find_alerts(series, withdrawn=True).empty  # the whole views later are no expansion
    series["area"][:, 40:] *= 0.3
    series["area_lower"][:, 40:] *= 0.3
    series["area_upper"][:, 40:] *= 0.3
    assert rows(find_alerts(series), "kind", "status") == [("drainage", "confirmed")]


def kin_series(first, second, *, until=30, **options):
    """Two lakes; until a date the first holds the second."""
    area = np.array([first, second], float)
    area[1, :until] = np.nan
    part_of = np.array([np.zeros(60), np.where(np.arange(60) < until, 0, 1)], int)
    return area_series(area, part_of=part_of, **options)


SMALL = STEADY[::-1] - 6e4


def test_a_split_or_a_merger_alone_is_no_alert():
    split = kin_series(np.where(np.arange(60) < 30, STEADY, STEADY - 4e4), SMALL)
    assert find_alerts(split, withdrawn=True).empty
    merged = split.isel(time=slice(None, None, -1)).assign_coords(time=split["time"].to_numpy())
    merged["area"] = merged["area"].copy()
    assert find_alerts(merged, withdrawn=True).empty


def test_a_lake_that_drains_into_two_ponds_is_one_alert():
    ponds = kin_series(np.where(np.arange(60) < 30, STEADY, STEADY - 7e4), SMALL - 2e4)
    (alert,) = find_alerts(ponds).to_dict("records")
    first, second = ponds["lake"].to_numpy()
    assert (alert["lake"], alert["kind"], alert["status"]) == (first, "drainage", "confirmed")
    assert alert["kin"] == f"{first} {second}"
    assert alert["first_changed"] == ponds["time"].to_numpy()[30]
    assert alert["area_after_m2"] == pytest.approx(STEADY[30] - 7e4 + SMALL[30] - 2e4)


def test_after_a_split_each_lake_is_watched_by_itself():
    area = np.where(np.arange(60) < 30, STEADY, STEADY - 4e4)
    series = kin_series(area, np.where(np.arange(60) < 45, SMALL, SMALL - 3e4))
    (alert,) = find_alerts(series).to_dict("records")
    assert (alert["lake"], alert["kin"]) == (series["lake"].to_numpy()[1], "")
    assert alert["first_changed"] == series["time"].to_numpy()[45]


def test_what_is_followed_around_a_split():
    part_of = np.array([[0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1], [2, 2, 2, 2, 2, 2]])
    units = followed(part_of, part_of == np.arange(3)[:, None])
    assert units == [
        Unit((2,), 0, 6),
        Unit((0, 1), 0, 3),
        Unit((0,), 3, 6),
        Unit((1,), 3, 6),
        Unit((0, 1), 0, 6, (3, 4)),
    ]
    np.testing.assert_array_equal(exchanges(part_of), [[0, 0, 0, 1, 1, 1]] * 2 + [[0] * 6])


def test_a_second_exchange_soon_after_the_first_counts_the_kin_of_both():
    part_of = np.array([[0] * 8, [0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 2, 2, 2]])
    units = [unit for unit in followed(part_of, part_of == np.arange(3)[:, None]) if unit.bridge]
    assert units == [Unit((0, 1, 2), 0, 8, (4, 5)), Unit((0, 1, 2), 0, 8, (5, 6))]


def test_detectability_of_a_steady_lake_is_what_the_alerts_find():
    series = area_series(STEADY)
    limits = detectability(series)
    (change,) = limits["smallest_detectable_change"].to_numpy()
    (sigma,) = limits["sigma_repeat"].to_numpy()
    assert 3.3 < change / sigma < 4.8
    assert limits["smallest_detectable_share"].item() == pytest.approx(change / STEADY[-24:].mean(), rel=0.01)
    assert limits["observations_per_year"].item() == pytest.approx(12, rel=0.01)
    assert (limits["sigma_source"].item(), limits["reason"].item()) == ("repeat", "")
    assert limits.attrs["false_alarms"] == 0.01
    tight = detectability(series, false_alarms=1e-4)["smallest_detectable_change"].item()
    assert tight > 1.2 * change
    found = [
        len(find_alerts(area_series(np.where(np.arange(60) < 58, STEADY, STEADY - size * change))))
        for size in (0.3, 1.7)
    ]
    assert found == [0, 1]


def test_detectability_says_why_there_is_no_number():
    area = np.array([STEADY, np.full(60, np.nan), STEADY, STEADY])
    area[2, 1:] = np.nan
    area[3, 30:] = np.nan
    part_of = np.broadcast_to(np.arange(4)[:, None], area.shape).copy()
    part_of[3, 30:] = 0
    limits = detectability(area_series(area, part_of=part_of, observed=np.isfinite(area)))
    first = limits["lake"].to_numpy()[0]
    assert list(limits["reason"].to_numpy()) == [
        "", "no valid view", "fewer than two steady views since the last change", f"held by {first}",
    ]  # fmt: skip
    assert list(np.isnan(limits["smallest_detectable_change"])) == [False, True, True, True]
    assert limits["longest_blind_interval"].to_numpy()[3] == limits["longest_blind_interval"].to_numpy()[0]


def test_a_lake_with_few_dates_has_a_number_by_its_outline():
    limits = detectability(area_series(STEADY[:3]))
    assert (limits["sigma_source"].item(), limits["reason"].item()) == ("outline", "")
    assert np.isnan(limits["sigma_repeat"].item())
    outline = area_series(STEADY[:3])["area_sigma"].to_numpy().mean()
    assert 4 < limits["smallest_detectable_change"].item() / outline < 6


def test_a_series_without_dates_has_an_empty_table_and_reasons():
    series = area_series(np.array([STEADY, STEADY]))
    none = series.isel(time=slice(0))
    table, limits = find_alerts(none), detectability(none)
    assert table.empty
    assert (table.dtypes == find_alerts(series).dtypes).all()
    assert list(limits["reason"].to_numpy()) == ["no valid view"] * 2
    assert limits["reason"].dtype.kind == "U"
    for name in ("smallest_detectable_change", "longest_blind_interval", "blind_from", "sigma_repeat"):
        assert limits[name].isnull().all()


def test_the_longest_blind_interval_counts_both_ends():
    times = pd.to_datetime(["2021-01-01", "2021-01-11", "2021-02-01", "2021-02-05", "2021-06-01"])
    gap = np.nan
    area = np.array([[gap, 1, gap, 1, 1], [1, 1, 1, 1, gap], [gap] * 5, [1, gap, gap, 1, 1]]) * 1e5
    limits = detectability(area_series(area, times=times, observed=np.isfinite(area)))
    np.testing.assert_array_equal(limits["longest_blind_interval"], [116, 116, 151, 116])
    begins = ["2021-02-05", "2021-02-05", "2021-01-01", "2021-02-05"]
    np.testing.assert_array_equal(limits["blind_from"], np.array(begins, "datetime64[ns]"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.assign_attrs(composite="median"), "composites.*dates one by one"),
        (lambda s: s.isel(time=0), "lake, time"),
        (lambda s: s.drop_vars("area"), "no area"),
        (lambda s: s.drop_vars("area_sigma"), "area_sigma"),
        (lambda s: s.isel(time=[0, 1, 1, 2]), "twice"),
    ],
)
def test_bad_series_are_refused(change, said):
    series = change(area_series(STEADY))
    for function in (find_alerts, detectability):
        with pytest.raises(CubeError, match=said):
            function(series)


@pytest.mark.parametrize("budget", [0, -0.1, 1.5, np.nan])
def test_bad_budgets_are_refused(budget):
    with pytest.raises(CubeError, match="false_alarms"):
        find_alerts(area_series(STEADY), false_alarms=budget)
