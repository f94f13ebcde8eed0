"""Windows of time that composites are made over: months, seasons, or dates a user names."""

from __future__ import annotations

import re
from calendar import isleap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import TypeGuard

import numpy as np

from xglof.cube.sources import Period, parse_period
from xglof.errors import CubeError

#: First letters of the months, twice, so that a season may cross New Year.
_LETTERS = "JFMAMJJASOND" * 2
_LAST_DAY = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
#: Nanoseconds since 1970 in 64 bits reach no further.
_YEARS = (1678, 2261)
_EXPECTED = (
    "expected 'month', 'season', a season's months such as 'JJAS', its first and last day such as "
    "('06-15', '09-30'), or a list of (start, end) pairs of dates"
)


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time in UTC: its start belongs to it, its end does not."""

    start: datetime
    end: datetime

    @property
    def middle(self) -> datetime:
        """Half way between the ends."""
        return self.start + (self.end - self.start) / 2


@dataclass(frozen=True, slots=True)
class _Season:
    """The same days every year, both ends included; one that ends before it starts crosses New Year."""

    first: tuple[int, int]
    last: tuple[int, int]

    def of(self, year: int) -> Window:
        """The window that starts in a year."""
        year_of_last = year + (self.last < self.first)
        month, day = self.last
        if (month, day) == (2, 29) and not isleap(year_of_last):
            day = 28
        end = datetime(year_of_last, month, day, tzinfo=UTC) + timedelta(days=1)
        return Window(datetime(year, *self.first, tzinfo=UTC), end)


def windows(
    freq: object, period: Period | str | None = None, *, season_start: int = 12
) -> tuple[Window, ...]:
    """The windows of a composite, in order of time and whole, that share a moment with a period.

    Parameters
    ----------
    freq
        - ``"month"``: calendar months.
        - ``"season"``: four seasons a year of three months each.
        - the first letters of two to twelve months in a row, such as ``"JJAS"`` or ``"NDJF"``: that season
          once a year.
        - ``("06-15", "09-30")``: once a year from the first day to the last, both included. A season that
          ends before it starts crosses New Year, such as ``("11-15", "03-31")`` for a southern summer. As a
          last day ``"02-29"`` is the end of February in every year.
        - a list of ``(start, end)`` pairs of texts, dates or datetimes. A year, month or day belongs to the
          window to its end, ``("2023-07", "2023-08")`` is two months; a moment ends it.
    period
        A :class:`~xglof.cube.sources.Period`, or a text as for :func:`~xglof.cube.sources.parse_period`.
        With pairs of dates ``None`` keeps all of them.
    season_start
        For ``"season"``: a month, 1 to 12, in which one of the seasons starts. 12 gives the meteorological
        seasons DJF, MAM, JJA and SON.

    Raises
    ------
    CubeError
        ``freq`` is none of these, windows overlap or are reversed, or a period with an open end where the
        windows repeat.

    Examples
    --------
    >>> for window in windows("season", "2023-07/2023-12"):
    ...     print(window.start.date(), window.end.date())
    2023-06-01 2023-09-01
    2023-09-01 2023-12-01
    2023-12-01 2024-03-01
    >>> [str(window.end.date()) for window in windows(("12-01", "02-29"), "2023-01/2024-03")]
    ['2023-03-01', '2024-03-01']
    """
    span = parse_period(period) if isinstance(period, str) else period or Period()
    seasons = _seasons(freq, season_start)
    found = _explicit(freq) if seasons is None else sorted(_repeated(seasons, span), key=_start)
    return tuple(window for window in found if _touches(window, span))


def repeats(freq: object) -> bool:
    """Whether :func:`windows` needs a period for ``freq``: all but a list of dates come again every year."""
    return isinstance(freq, str) or _is_days(freq)


def describe(freq: object, season_start: int = 12) -> str:
    """What :func:`windows` makes of ``freq``, in a few words, for attributes."""
    if freq == "season":
        first = season_start - 1
        names = (_LETTERS[(first + step) % 12 :][:3] for step in (0, 3, 6, 9))
        return f"season ({', '.join(names)})"
    if isinstance(freq, str):
        return freq
    return " to ".join(freq) if _is_days(freq) else "dates given"


def _start(window: Window) -> datetime:
    return window.start


def _touches(window: Window, span: Period) -> bool:
    return (span.end is None or window.start <= span.end) and (span.start is None or window.end > span.start)


def _seasons(freq: object, season_start: int) -> list[_Season] | None:
    """The seasons that repeat every year; ``None`` where ``freq`` is a list of dates."""
    if isinstance(season_start, bool) or season_start not in range(1, 13):
        raise CubeError(f"season_start is {season_start!r}; expected the number of a month, 1 to 12")
    if freq == "month":
        return [_months(first, 1) for first in range(12)]
    if freq == "season":
        return [_months((season_start - 1 + step) % 12, 3) for step in (0, 3, 6, 9)]
    if isinstance(freq, str):
        first = _LETTERS.find(freq)
        if not 2 <= len(freq) <= 12 or first < 0:
            raise CubeError(f"freq={freq!r} is not understood; {_EXPECTED}")
        return [_months(first, len(freq))]
    if _is_days(freq):
        return [_Season(_month_day(freq[0], freq), _month_day(freq[1], freq, last=True))]
    return None


def _months(first: int, count: int) -> _Season:
    last = (first + count - 1) % 12
    return _Season((first + 1, 1), (last + 1, _LAST_DAY[last]))


def _is_days(freq: object) -> TypeGuard[tuple[str, str]]:
    """Whether it is a pair of texts, of which a list of pairs has none."""
    return isinstance(freq, Sequence) and len(freq) == 2 and all(isinstance(each, str) for each in freq)


def _month_day(text: str, freq: object, *, last: bool = False) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{2})-(\d{2})", text)
    month, day = (int(match[1]), int(match[2])) if match else (0, 0)
    if not (1 <= month <= 12 and 1 <= day <= _LAST_DAY[month - 1]):
        raise CubeError(
            f"freq={freq!r} holds {text!r}, which is no day such as '06-15'; a single window of dates is "
            "given as [(start, end)]"
        )
    if (month, day) == (2, 29) and not last:
        raise CubeError(f"freq={freq!r} starts on '02-29', which most years lack; give '02-28' or '03-01'")
    return month, day


def _repeated(seasons: list[_Season], span: Period) -> Iterator[Window]:
    if span.start is None or span.end is None:
        raise CubeError("the period has an open end; give both ends such as '2023-07/2023-09'")
    _check_years(span.start, span.end)
    for year in range(span.start.year - 1, span.end.year + 1):
        yield from (season.of(year) for season in seasons)


def _explicit(freq: object) -> list[Window]:
    if not isinstance(freq, Sequence) or not freq:
        raise CubeError(f"freq={freq!r} is not understood; {_EXPECTED}")
    found = sorted((_window(pair) for pair in freq), key=_start)
    for before, after in pairwise(found):
        if after.start < before.end:
            raise CubeError(
                f"the windows of freq= overlap: one ends {_short(before.end)} and the next starts "
                f"{_short(after.start)}; a year, month or day belongs to its window to its end"
            )
    return found


def _window(pair: object) -> Window:
    if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
        raise CubeError(f"freq= holds {pair!r}; {_EXPECTED}")
    start, end = (_parse(each) for each in pair)
    last = end.end
    if start.start is None or last is None:
        raise CubeError(f"freq= holds {pair!r}, which has an open end; give both")
    if last.microsecond == 999_999:  # the last moment of a year, month or day
        last += timedelta(microseconds=1)
    if last <= start.start:
        raise CubeError(f"freq= holds {pair!r}, which is reversed or empty: it ends before it starts")
    _check_years(start.start, last)
    return Window(start.start, last)


def _parse(each: object) -> Period:
    """The span of time that a text, a date or a datetime names."""
    if isinstance(each, np.datetime64) and not np.isnat(each):
        return parse_period(str(each if np.datetime_data(each)[0] in "YMD" else each.astype("M8[us]")))
    if isinstance(each, date):  # a datetime is one as well
        return parse_period(each.isoformat())
    if isinstance(each, str) and each and "/" not in each:
        return parse_period(each)
    raise CubeError(f"freq= holds {each!r}; expected a date, a datetime or a text such as '2023-07-15'")


def _check_years(start: datetime, end: datetime) -> None:
    if not (_YEARS[0] <= start.year and end.year <= _YEARS[1]):
        raise CubeError(
            f"windows from {start.year} to {end.year} are asked for; expected years from {_YEARS[0]} to "
            f"{_YEARS[1]}"
        )


def _short(moment: datetime) -> str:
    return moment.isoformat(timespec="minutes").removesuffix("+00:00").removesuffix("T00:00")
