from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xglof.cube.sources import Period
from xglof.cube.windows import describe, repeats, windows
from xglof.errors import CubeError


def days(freq: Any, period: Any = None, **options: Any) -> list[tuple[str, str]]:
    """Windows as texts, whose moments must all be midnights."""
    found = windows(freq, period, **options)
    assert all(
        end == datetime(end.year, end.month, end.day, tzinfo=UTC) for w in found for end in (w.start, w.end)
    )
    return [(str(window.start.date()), str(window.end.date())) for window in found]


def test_months_are_whole_and_know_leap_years() -> None:
    assert days("month", "2023-12-31/2024-03-01") == [
        ("2023-12-01", "2024-01-01"),
        ("2024-01-01", "2024-02-01"),
        ("2024-02-01", "2024-03-01"),
        ("2024-03-01", "2024-04-01"),
    ]
    assert days("month", "1900-02") == [("1900-02-01", "1900-03-01")]


def test_seasons_are_meteorological_and_cross_new_year() -> None:
    assert days("season", "2024-01") == [("2023-12-01", "2024-03-01")]
    assert days("season", "2023-11-30/2024-03-01") == [
        ("2023-09-01", "2023-12-01"),
        ("2023-12-01", "2024-03-01"),
        ("2024-03-01", "2024-06-01"),
    ]


@pytest.mark.parametrize("first", range(1, 13))
@pytest.mark.parametrize("freq", ["month", "season"])
def test_months_and_seasons_leave_no_moment_out(freq: str, first: int) -> None:
    found = windows(freq, "1999-05/2004-02", season_start=first)
    assert all(before.end == after.start for before, after in pairwise(found))
    assert found[0].start <= datetime(1999, 5, 1, tzinfo=UTC) < found[0].end
    assert found[-1].start < datetime(2004, 3, 1, tzinfo=UTC) <= found[-1].end
    if freq == "season":
        assert {window.start.month % 3 for window in found} == {first % 3}


@pytest.mark.parametrize(
    ("freq", "expected"),
    [
        ("JJAS", [("2022-06-01", "2022-10-01"), ("2023-06-01", "2023-10-01")]),
        ("DJ", [("2021-12-01", "2022-02-01"), ("2022-12-01", "2023-02-01"), ("2023-12-01", "2024-02-01")]),
        ("DJF", [("2021-12-01", "2022-03-01"), ("2022-12-01", "2023-03-01"), ("2023-12-01", "2024-03-01")]),
        ("JFMAMJJASOND", [("2022-01-01", "2023-01-01"), ("2023-01-01", "2024-01-01")]),
        ("NDJFMAMJJASO", [(f"{year}-11-01", f"{year + 1}-11-01") for year in (2021, 2022, 2023)]),
        (("06-15", "09-30"), [("2022-06-15", "2022-10-01"), ("2023-06-15", "2023-10-01")]),
        (("11-15", "03-31"), [(f"{year}-11-15", f"{year + 1}-04-01") for year in (2021, 2022, 2023)]),
        (["07-15", "07-15"], [("2022-07-15", "2022-07-16"), ("2023-07-15", "2023-07-16")]),
        (("12-31", "12-31"), [("2022-12-31", "2023-01-01"), ("2023-12-31", "2024-01-01")]),
    ],
)  # fmt: skip
def test_a_season_comes_once_a_year(freq: Any, expected: list[tuple[str, str]]) -> None:
    assert days(freq, "2022/2023") == expected


def test_the_end_of_february_is_its_last_day() -> None:
    expected = [("2022-12-01", "2023-03-01"), ("2023-12-01", "2024-03-01")]
    assert days(("12-01", "02-29"), "2023-01/2024-02") == days("DJF", "2023-01/2024-02") == expected
    assert days(("12-01", "02-28"), "2024-02") == [("2023-12-01", "2024-02-29")]
    assert days(("03-01", "02-29"), "2024-02") == [("2023-03-01", "2024-03-01")]


def test_the_end_of_a_window_is_no_part_of_it() -> None:
    moment = datetime(2023, 8, 1, tzinfo=UTC)
    assert [window.start.month for window in windows("month", Period(moment, moment))] == [8]
    (window,) = windows("month", "2023-07-31")
    assert (window.start.month, window.end) == (7, moment)
    assert window.middle == datetime(2023, 7, 16, 12, tzinfo=UTC)


def test_dates_are_units_to_their_end_and_moments_are_ends() -> None:
    assert days([("2023-07", "2023-08"), ("2023-12-31", "2023-12-31"), ("2024", "2024")]) == [
        ("2023-07-01", "2023-09-01"),
        ("2023-12-31", "2024-01-01"),
        ("2024-01-01", "2025-01-01"),
    ]
    day = (date(2024, 2, 28), date(2024, 2, 29))
    for pair in (day, [np.datetime64(each) for each in day], ("2024-02-28", np.datetime64("2024-02"))):
        assert days([pair]) == [("2024-02-28", "2024-03-01")]
    moments = (datetime(2024, 2, 28), datetime(2024, 2, 29, tzinfo=UTC))
    for pair in (
        moments,
        [pd.Timestamp(each) for each in moments],
        [np.datetime64(each.replace(tzinfo=None), "ns") for each in moments],
        ("2024-02-28T00:00", "2024-02-29T05:45+05:45"),
    ):
        assert days([pair]) == [("2024-02-28", "2024-02-29")]


def test_dates_are_put_in_order_and_cut_to_a_period_only_on_request() -> None:
    pairs = [("2024", "2024"), ("2022", "2022")]
    assert days(pairs) == [("2022-01-01", "2023-01-01"), ("2024-01-01", "2025-01-01")]
    assert days(pairs, "2023/2024-01") == [("2024-01-01", "2025-01-01")]
    assert days(pairs, Period(end=datetime(2023, 1, 1, tzinfo=UTC))) == [("2022-01-01", "2023-01-01")]
    assert days(pairs, "2023") == []


@given(
    first=st.dates(date(2001, 1, 1), date(2012, 12, 31)),
    last=st.dates(date(2001, 1, 1), date(2012, 12, 31)),
    moment=st.dates(date(2003, 1, 1), date(2010, 12, 31)),
)
@settings(max_examples=100, deadline=None)
def test_a_season_holds_the_days_between_its_ends(first: date, last: date, moment: date) -> None:
    if (first.month, first.day) == (2, 29):
        return
    texts = [f"{each:%m-%d}" for each in (first, last)]
    found = windows(texts, "2003/2010")
    held = sum(str(window.start.date()) <= str(moment) < str(window.end.date()) for window in found)
    month_day = f"{moment:%m-%d}"
    inside = (
        texts[0] <= month_day <= texts[1]
        if texts[0] <= texts[1]
        else month_day >= texts[0] or month_day <= texts[1]
    )
    assert held == inside


@pytest.mark.parametrize(
    ("freq", "message"),
    [
        ("week", "freq='week' is not understood; expected 'month', 'season'"),
        ("J", "'J' is not understood"),
        ("JAS ", "is not understood"),
        ("jjas", "is not understood"),
        ("", "is not understood"),
        ("JFMAMJJASONDJ", "is not understood"),
        (None, "freq=None is not understood"),
        (3, "freq=3 is not understood"),
        ([], "is not understood"),
        (("06-15",), "holds '06-15'"),
        (("06-31", "09-30"), "holds '06-31', which is no day"),
        (("13-01", "09-30"), "holds '13-01', which is no day"),
        (("00-01", "09-30"), "holds '00-01', which is no day"),
        (("02-30", "09-30"), "holds '02-30', which is no day"),
        (("02-29", "09-30"), "starts on '02-29'"),
        (("2023-06-15", "2023-09-30"), r"a single window of dates is given as \[\(start, end\)\]"),
        ([("2023-07-02", "2023-07-01")], "is reversed or empty"),
        ([(datetime(2023, 7, 1), datetime(2023, 7, 1))], "is reversed or empty"),
        ([("2023-07", "2023-08"), ("2023-08-31", "2023-09")], "overlap: one ends 2023-09-01 and the"),
        ([("2023", "2023"), ("2023", "2023")], "overlap"),
        ([("2023-07", "..")], "expected a date|not understood"),
        ([("2023-07/2023-08", "2023-09")], "expected a date"),
        ([("2023-07", "2023-08", "2023-09")], "freq= holds"),
        ([("2023-07", None)], "expected a date"),
        ([("2023-07", np.datetime64("NaT"))], "expected a date"),
        ([("soon", "2023-09")], "is not understood"),
        ([("1066", "1067")], "expected years from 1678"),
    ],
)  # fmt: skip
def test_what_is_no_window_is_refused(freq: Any, message: str) -> None:
    with pytest.raises(CubeError, match=message):
        windows(freq, "2023")


@pytest.mark.parametrize("period", [None, Period(), "2023/..", "../2023"])
@pytest.mark.parametrize("freq", ["month", "season", "JJAS", ("06-15", "09-30")])
def test_windows_that_repeat_need_a_period_with_both_ends(freq: Any, period: Any) -> None:
    assert repeats(freq)
    with pytest.raises(CubeError, match="open end"):
        windows(freq, period)


@pytest.mark.parametrize("month", [0, 13, 1.5, True, "12", None])
def test_the_start_of_a_season_is_a_month(month: Any) -> None:
    with pytest.raises(CubeError, match="season_start"):
        windows("season", "2023", season_start=month)


def test_words_for_attributes() -> None:
    assert describe("season") == "season (DJF, MAM, JJA, SON)"
    assert describe("season", 11) == "season (NDJ, FMA, MJJ, ASO)"
    assert describe("month") == "month"
    assert describe("JJAS") == "JJAS"
    assert describe(("06-15", "09-30")) == "06-15 to 09-30"
    assert describe([("2023", "2023")]) == "dates given"
    assert not repeats([("2023", "2023")])
