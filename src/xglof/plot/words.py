"""Numbers as a reader gets them: rounded, with units, and a word where there is no number."""

from __future__ import annotations

from typing import Any

import numpy as np

from xglof.cube.card_facts import day

NONE = "-"
_LEAST_KM2_M2 = 10_000.0  # below it four decimals of km² hide what is there


def area_words(square_metres: float) -> str:
    """An area in km² with four decimals, a step of 100 m2; below 0.01 km² in m²; a dash for NaN."""
    if not np.isfinite(square_metres):
        return NONE
    return f"{_number(square_metres, square_metres)} {_unit(square_metres)}"


def range_words(lower: float, upper: float) -> str:
    """Two ends of an area in the unit that fits the upper one, cut at 0: no lake is smaller than none."""
    if not np.isfinite([lower, upper]).all():
        return NONE
    low, high = max(lower, 0.0), max(upper, 0.0)
    return f"{_number(low, high)} to {_number(high, high)} {_unit(high)}"


def change_words(square_metres: float, share: float = np.nan) -> str:
    """A change of area with its sign, and the share of the area before where there is one."""
    if not np.isfinite(square_metres):
        return NONE
    sign = "+" if square_metres > 0 else "-" if square_metres < 0 else ""
    part = f" ({share:+.0%})" if np.isfinite(share) else ""
    return f"{sign}{area_words(abs(square_metres))}{part}"


def interval_words(area: float, lower: float, upper: float, outline_sigma: float) -> str:
    """The 95% interval of an area; where the scatter is unknown, one sigma of the outline, and so said."""
    if np.isfinite([lower, upper]).all():
        return f"{range_words(lower, upper)} (95 %)"
    if np.isfinite(area) and outline_sigma > 0:
        return f"{range_words(area - outline_sigma, area + outline_sigma)} (1 sigma, outline error)"
    return NONE


def _unit(square_metres: float) -> str:
    return "m²" if abs(square_metres) < _LEAST_KM2_M2 else "km²"


def _number(square_metres: float, like: float) -> str:
    """In the unit of another area."""
    if not square_metres:
        return "0"
    return f"{square_metres:,.0f}" if _unit(like) == "m²" else f"{square_metres / 1e6:.4f}"


def share(value: float) -> str:
    """A share in percent."""
    return NONE if not np.isfinite(value) else f"{value:.0%}"


def days(value: float) -> str:
    """A number of days, in years too where there are many."""
    if not np.isfinite(value):
        return "unknown"
    return f"{value:.0f} days" + (f" ({value / 365.25:.1f} years)" if value >= 730 else "")


def is_date(value: Any) -> bool:
    """Whether a date is one: NumPy's and pandas' NaT, like NaN, are not equal to themselves."""
    return bool(value == value)


def date(value: Any) -> str:
    """A day, and a dash for no date."""
    return day(value) if is_date(value) else NONE


def degrees(longitude: float, latitude: float) -> str:
    """A place as people say it."""
    east = (longitude + 180) % 360 - 180
    return (
        f"{abs(latitude):.4f}° {'N' if latitude >= 0 else 'S'}, {abs(east):.4f}° {'E' if east >= 0 else 'W'}"
    )
