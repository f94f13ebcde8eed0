from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lake_series import area_series, season_dates
from xglof.errors import CubeError
from xglof.lakes.fusion import fuse_sensors
from xglof.lakes.series import flag_series
from xglof.lakes.trends import trend

NUMBERS = ("slope", "slope_lower", "slope_upper", "tau", "p_value")


def yearly(values, **options):
    """A series with one date a year, in August of 2014 and on."""
    times = [f"{2014 + i}-08-10" for i in range(len(values))]
    return area_series([values], times=np.array(times, "datetime64[ns]"), **options)


def slopes(years, values):
    return np.median(
        [
            (b - a) / (y - x)
            for x, a in zip(years, values, strict=True)
            for y, b in zip(years, values, strict=True)
            if y > x
        ]
    )


def test_slope_and_test_are_those_of_scipy_on_the_medians_of_years():
    rng = np.random.default_rng(2)
    values = 1e5 + np.arange(96) // 12 * 900 + 1500 * rng.standard_normal((6, 96))
    flags = flag_series(area_series(values))
    found = trend(flags)
    years = flags.time.dt.year.values
    for lake in range(6):
        good = flags.quality[lake].values == 0
        medians = [np.median(values[lake][good & (years == year)]) for year in np.unique(years)]
        line = stats.theilslopes(medians, np.unique(years), alpha=0.05)
        test = stats.kendalltau(np.unique(years), medians)
        expected = (line.slope, line.low_slope, line.high_slope, test.statistic, test.pvalue)
        np.testing.assert_allclose([float(found[name][lake]) for name in NUMBERS], expected)
        assert float(found.slope[lake]) == pytest.approx(slopes(np.unique(years), medians))
    assert (flags.quality > 0).any()
    assert found.years.values.tolist() == [8] * 6
    assert found.computable.all()
    assert (found.reason == "").all()


def test_the_interval_covers_the_slope():
    rng = np.random.default_rng(4)
    values = 1e5 + np.arange(8) * 300 + 1000 * rng.standard_normal((400, 8))
    times = np.array([f"{2014 + i}-08-10" for i in range(8)], "datetime64[ns]")
    found = trend(area_series(values, times=times), confidence=0.9)
    covered = (found.slope_lower <= 300) & (found.slope_upper >= 300)
    assert 0.86 < float(covered.mean()) < 0.97  # ranks are whole: 90% or a little more


def false_trends(early, late):
    """Share of 300 lakes without change whose slope has p < 0.05, and their trends; 4 and 4 years."""
    rng = np.random.default_rng(11)
    radar = rng.random((300, 96)) < np.where(np.arange(96) < 48, early, late)
    values = 1e5 * (1 + 0.01 * rng.standard_normal((300, 96)) - 0.05 * radar)
    found = trend(area_series(values, sensors=np.where(radar, "s1", "s2"), orbit="19"))
    return float((found.p_value < 0.05).mean()), found


@pytest.mark.parametrize(("early", "late"), [(1.0, 0.0), (0.0, 0.5), (0.25, 0.5), (0.0, 0.25), (0.5, 0.5)])
def test_a_change_of_sensors_is_no_trend(early, late):
    share, found = false_trends(early, late)
    assert share < 0.075
    assert float(found.computable.mean()) >= (0.9 if early == late else 0.0)
    if early > late:
        assert not found.computable.any()
        assert found.slope.isnull().all()
        assert (found.years == 8).all()
        assert set(found.reason.values) == {
            "not computable: sensors change between the years (radar alone 100% of the first half, 0% of the "
            "last); fuse_sensors first"
        }


def test_fused_series_have_a_trend_whatever_the_sensors():
    rng = np.random.default_rng(12)
    radar, optics = (1e5 * (1 + 0.01 * rng.standard_normal((40, 96))) for _ in range(2))
    radar[:, 60:], optics[:, :36] = np.nan, np.nan  # both for two years
    times = season_dates(8)
    fused = fuse_sensors(
        area_series(0.95 * radar, times=times, sensors="s1"), area_series(optics, times=times)
    )
    assert (fused.pairs >= 15).all()
    found = trend(fused)
    assert found.computable.all()
    assert float((found.p_value < 0.05).mean()) < 0.15


def test_a_series_without_dates_or_lakes_has_no_trend():
    series = area_series([[1e4] * 12])
    found = trend(series.isel(time=slice(0, 0)))
    assert found.reason.item() == "not computable: 0 years with a value in June to October, 4 are needed"
    assert trend(series.isel(lake=slice(0, 0))).slope.shape == (0,)


def test_one_wild_year_does_not_turn_the_slope():
    assert trend(yearly([1e4, 1.1e4, 1.2e4, 9e4, 1.4e4, 1.5e4, 1.6e4])).slope.item() == pytest.approx(1000)


def test_too_few_years_are_no_trend():
    found = trend(area_series([[1e4] * 24, [1e4] * 12 + [np.nan] * 12]))
    assert np.isnan(found[list(NUMBERS)].to_array()).all()
    assert not found.computable.any()
    assert found.reason.values.tolist() == [
        "not computable: 2 years with a value in June to October, 4 are needed",
        "not computable: 1 year with a value in June to October, 4 are needed",
    ]


def test_four_years_have_a_slope_but_no_interval_of_95_percent():
    found = trend(yearly([1e4, 1.1e4, 1.2e4, 1.25e4]))
    assert found.slope.item() == pytest.approx((2500 / 3 + 1000) / 2)
    assert np.isnan(found.slope_lower).all()
    assert found.computable.all()
    assert found.reason.item() == "no interval of 0.95: 4 years allow 0.917"
    wide = trend(yearly([1e4, 1.1e4, 1.2e4, 1.25e4]), confidence=0.9)
    assert (wide.slope_lower.item(), wide.slope_upper.item()) == (500.0, 1000.0)
    assert wide.reason.item() == ""


def test_years_that_are_all_alike_have_no_trend():
    found = trend(yearly([1e4] * 6))
    assert [found[name].item() for name in NUMBERS] == [0, 0, 0, 0, 1]


def test_only_the_season_and_unflagged_dates_count():
    times = season_dates(6, months=range(1, 13))
    month = times.astype("datetime64[M]").astype(int) % 12 + 1
    year = times.astype("datetime64[Y]").astype(int) + 1970
    values = 1e5 + 1000.0 * (year - 2016)
    values[(month < 6) | (month > 10)] = 5e5
    flags = flag_series(area_series(values, times=times))
    flags["quality"][:] = 0
    assert trend(flags).slope.item() == pytest.approx(1000)
    values[month == 8] = 0
    spoilt = flag_series(area_series(values, times=times))
    spoilt["quality"][0] = np.where(month == 8, 2, 0)
    assert trend(spoilt).slope.item() == pytest.approx(1000)
    assert trend(spoilt, months=(1, 5)).slope.item() == 0


def test_a_season_past_new_year_belongs_to_the_year_it_ends_in():
    dates = [f"{y}-{m}-10" for y in range(2015, 2021) for m in ("01", "12")]
    ends = np.array([y + (m == "12") for y in range(2015, 2021) for m in ("01", "12")])
    series = area_series(
        1e5 + 500.0 * (ends - 2015), times=np.array(dates, "datetime64[ns]"), latitude=-40.0, sensors="s2"
    )
    found = trend(series)
    assert found.years.item() == 7
    assert found.slope.item() == pytest.approx(500)


def test_the_season_of_the_flags_is_the_season_of_the_trend():
    values = [1e4, 1.1e4, 1.2e4, 1.3e4, 1.4e4]
    flags = flag_series(yearly(values), open_water=(3, 5))
    assert trend(flags).reason.item().endswith("0 years with a value in March to May, 4 are needed")
    assert trend(flags, months=(8, 8)).computable.all()


def test_trends_stay_lazy(no_compute):
    found = trend(area_series(np.full((5, 60), 1e4)).chunk(lake=2, time=7))
    assert all(found[name].chunks for name in (*NUMBERS, "years", "computable", "reason"))


def test_lazy_and_eager_agree():
    values = np.random.default_rng(8).normal(1e4, 500, (5, 60))
    values[1, 24:] = np.nan  # a reason in the first block and none in the last
    series = area_series(values)
    lazy = trend(series.chunk(lake=2, time=9)).compute()
    assert lazy.identical(trend(series))
    assert lazy.reason[1].item() == "not computable: 2 years with a value in June to October, 4 are needed"


def test_attributes_tell_units_and_settings():
    found = trend(yearly([1e4] * 6), confidence=0.8, min_years=5)
    assert found.attrs == {"confidence": 0.8, "min_years": 5}
    assert found.slope.attrs["units"] == "m2 year-1"
    assert all(found[name].attrs["long_name"] for name in found.data_vars)
    assert list(found.coords) == ["lake", "longitude", "latitude", "x", "y"]


def test_bad_input_is_refused():
    series = yearly([1e4] * 6)
    for bad, options, message in (
        (series.isel(time=0), {}, "segment a cube with dates"),
        (series, {"months": (8,)}, "months is"),
        (series, {"confidence": 95}, "confidence is 95"),
        (series, {"confidence": 0.05}, "confidence is 0.05"),
        (series, {"min_years": 3}, "min_years is 3"),
    ):
        with pytest.raises(CubeError, match=message):
            trend(bad, **options)
