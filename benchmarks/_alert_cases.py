"""SIMULATED alerts beside the main ones: outside the assumptions, in later runs, of small lakes."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from lake_series import area_series, season_dates
from xglof.lakes.alerts import find_alerts
from xglof.lakes.polygons import area_sigma
from xglof.lakes.series import flag_series
from xglof.lakes.thresholds import pair_quantile, per_observation

Float = NDArray[np.float64]

_YEARS, _A_YEAR, _SCATTER, _STEP_AT = 5, 12, 0.01, 36
_HECTARES = (0.3, 0.5, 1, 2, 4, 10, 30, 100)
RESOLUTIONS = (10, 20)  # m


def outside(lakes: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Rows: alerts in 100 lake-years at a budget of 0.01, where its assumptions fail."""
    times = season_dates(_YEARS)
    shape = lakes, times.size
    normal, second = rng.normal(size=shape), np.arange(times.size) % 2 == 1
    year = (times - times[0]) / np.timedelta64(1, "D") / 365.25
    season = np.sin(2 * np.pi * (np.arange(times.size) % _A_YEAR) / _A_YEAR)
    late = second & (np.arange(times.size) >= _STEP_AT)
    cases: list[tuple[str, Float, Float, NDArray[np.bool_]]] = [
        ("none (stands still, normal errors)", normal, np.ones(1), np.zeros(1, bool)),
        ("errors hang together, AR(1) 0.5", _remembering(normal, 0.5), np.ones(1), np.zeros(1, bool)),
        (
            "long tails, Student's t of 3",
            rng.standard_t(3, shape) / np.sqrt(3),
            np.ones(1),
            np.zeros(1, bool),
        ),
        ("trend of 5% a year", normal, 1 + 0.05 * year, np.zeros(1, bool)),
        ("seasonal cycle, amplitude 3 sigma", normal, 1 + 3 * _SCATTER * season, np.zeros(1, bool)),
        ("second sensor 5% smaller, in turns", normal, 1 - 0.05 * second, second),
        ("second sensor 5% smaller, joins late", normal, 1 - 0.05 * late, late),
        ("second sensor 15% smaller, in turns", normal, 1 - 0.15 * second, second),
    ]
    rows = []
    for name, errors, factor, radar in cases:
        area = 1e6 * factor * (1 + _SCATTER * errors)
        sensors = np.broadcast_to(np.where(radar, "s1", "s2"), shape)
        told = find_alerts(area_series(area, times=times, sensors=sensors), withdrawn=True)
        counts = (len(told), *((told["status"] == status).sum() for status in ("confirmed", "withdrawn")))
        rows.append((name, *(f"{100 * count / (lakes * _YEARS):.2f}" for count in counts)))
    return rows


def _remembering(normal: Float, share: float) -> Float:
    """Errors of variance 1 of which each keeps a share of the one before."""
    found = normal.copy()
    for date in range(1, normal.shape[1]):
        found[:, date] = share * found[:, date - 1] + np.sqrt(1 - share**2) * normal[:, date]
    return found


def rewritten(lakes: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Rows: confirmed alerts of runs at every date of the last two years, and what the last run lists."""
    rows = []
    for name, step in (("stable", 0), ("step of 4 sigma", 4), ("step of 6 sigma", 6)):
        sign = np.where(np.arange(lakes) % 2, 1, -1)[:, None]
        errors = rng.normal(size=(lakes, _YEARS * _A_YEAR))
        errors += step * sign * (np.arange(_YEARS * _A_YEAR) >= _STEP_AT)
        series = area_series(1e5 * (1 + _SCATTER * errors), times=season_dates(_YEARS))
        shown: set[tuple[str, str, int]] = set()
        for dates in range(_STEP_AT, _YEARS * _A_YEAR + 1):
            last = _confirmed(series.isel(time=slice(dates)))
            shown |= last
        lost = sum(
            not any((lake, kind, first + shift) in last for shift in (-1, 0, 1))
            for lake, kind, first in shown
        )
        share = f"{lost / len(shown):.1%}" if shown else "-"
        rows.append((name, str(lakes), str(len(shown)), str(len(shown) - lost), str(lost), share))
    return rows


def _confirmed(series: xr.Dataset) -> set[tuple[str, str, int]]:
    """Lake, kind, and number of the first changed view of each confirmed alert."""
    told = find_alerts(flag_series(series))
    told = told[told["status"] == "confirmed"]
    first = np.searchsorted(series["time"].to_numpy(), told["first_changed"].to_numpy())
    return set(zip(told["lake"], told["kind"], first.tolist(), strict=True))


def smallest(budget: float) -> list[tuple[str, ...]]:
    """Rows: the low threshold of two views after two, by the outline of a square lake, as a share of it."""
    quantile = float(pair_quantile(per_observation(budget, _A_YEAR), np.inf))
    rows = []
    for hectares in _HECTARES:
        area = 1e4 * hectares
        outline = [float(area_sigma(4 * np.sqrt(area), side)) for side in RESOLUTIONS]
        shares = [quantile * sigma / area for sigma in outline]  # 1/2 + 1/2 under the root
        rows.append((f"{hectares:g}", *(f"{share:.0%}" if share < 1 else "none" for share in shares)))
    return rows
