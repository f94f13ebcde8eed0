"""What the walk of alerts follows: the areas of every lake, and of kin added up, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.lakes.detection import Views
from xglof.lakes.external import external_ratio, neighbours
from xglof.lakes.kin import Unit, exchanges, followed, place_seen
from xglof.lakes.scatter import rounding_floor, strata
from xglof.lakes.series import SeriesFlag

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

_YEAR_DAYS = 365.25
_SPIKE = 4.0  # sigmas
_QUARTERS = 4
_OPTIONAL = ("area_lower", "area_upper", "observed_fraction")


@dataclass(frozen=True, slots=True)
class Followed:
    """Lakes, the units in which they are followed, and what was seen.

    Attributes
    ----------
    time
        ``(time,)`` datetime64[ns].
    ids, longitude, latitude
        ``(lake,)``.
    area
        ``(lake, time)`` float64, m2.
    part_of
        ``(lake, time)`` index of the holder.
    seen
        ``(lake, time)`` bool: the place had an area, its own or its holder's.
    rate
        ``(lake,)`` areas of the place a year.
    units
        What is followed; all below have a row for each.
    views
        ``(unit, time)``, see :class:`xglof.lakes.detection.Views`.
    sensors, observed
        ``(unit, time)``: 1 for Sentinel-1, 2 for Sentinel-2, 3 for both; the observed share.
    lower, upper
        ``(unit, time)`` bounds of the area, m2, at every date.
    """

    time: NDArray[np.datetime64]
    ids: NDArray[Any]
    longitude: Float
    latitude: Float
    area: Float
    part_of: NDArray[np.int64]
    seen: Bool
    rate: Float
    units: list[Unit]
    views: Views
    sensors: NDArray[Any]
    observed: Float
    lower: Float
    upper: Float


def follow(series: xr.Dataset) -> Followed:
    """The lakes of a flagged series, computed.

    Parameters
    ----------
    series
        As :func:`xglof.lakes.series.flag_series` returns it.
    """
    names = ["area", "area_sigma", "part_of", "quality", "sensors", "sigma_repeat"]
    names += [name for name in _OPTIONAL if name in series]
    plain = series[names].transpose("lake", "time").compute()
    of = {name: plain[name].to_numpy() for name in names}
    time = series["time"].to_numpy().astype("datetime64[ns]")
    nothing = np.full(of["area"].shape, np.nan)
    of = {**dict.fromkeys(_OPTIONAL, nothing), **of}
    part_of = of["part_of"].astype(np.int64)
    seen = place_seen(part_of, np.isfinite(of["area"]))
    units = followed(part_of, np.isfinite(of["area"]))
    days = (time - time[:1]) / np.timedelta64(1, "D")
    rate = _rate(seen, days)
    orbit = _orbits(series)
    stratum, _ = strata(of["sensors"], orbit, series["time"].dt.month.to_numpy())
    source = stratum // _QUARTERS
    kin = _Sums(part_of, units)
    floor = rounding_floor(series).to_numpy()
    views = _views(of, days, (stratum, source), (rate, floor), kin)
    longitude, latitude = (_coordinate(series, name) for name in ("longitude", "latitude"))
    return Followed(
        time, series["lake"].to_numpy(), longitude, latitude, of["area"], part_of, seen, rate, units, views,
        kin.either(of["sensors"]), kin.least(of["observed_fraction"]),
        kin.total(of["area_lower"]), kin.total(of["area_upper"]),
    )  # fmt: skip


def _coordinate(series: xr.Dataset, name: str) -> Float:
    missing = np.full(series.sizes["lake"], np.nan)
    return np.asarray(series[name].to_numpy() if name in series.coords else missing, np.float64)


def _rate(seen: Bool, days: Float) -> Float:
    """Areas a year; those of less than a year count for one.

    The years run from the first area to the last and on to the end of a whole year, if that is no longer than
    a gap within: five summers are five years, not four and a half.
    """
    count, date = seen.sum(axis=1), np.arange(days.size)
    latest = np.maximum.accumulate(np.where(seen, date, -1), axis=1)
    before = np.concatenate([np.full((len(seen), 1), -1), latest[:, :-1]], axis=1)
    gaps = np.where(seen & (before >= 0), days - days[np.maximum(before, 0)], 0.0) / _YEAR_DAYS
    span = gaps.sum(axis=1)
    years = span + np.minimum(gaps.max(axis=1, initial=0.0), np.ceil(span) - span)
    return np.asarray(count / np.maximum(years, 1.0))


def _orbits(series: xr.Dataset) -> NDArray[np.int64]:
    """A whole number for each relative orbit, along time; 0 where none are known."""
    if "relative_orbit" not in series.coords:
        return np.zeros(series.sizes["time"], np.int64)
    return np.unique(series["relative_orbit"].to_numpy().astype(str), return_inverse=True)[1].astype(np.int64)


class _Sums:
    """Values of units from those of lakes; a lake that another holds adds nothing."""

    def __init__(self, part_of: NDArray[np.int64], units: list[Unit]) -> None:
        self.own = part_of == np.arange(len(part_of))[:, None]
        self.units = units
        self.single = np.array([unit.lakes[0] for unit in units], np.int64)
        self.many = [row for row, unit in enumerate(units) if len(unit.lakes) > 1]
        dates = np.arange(part_of.shape[1])
        start, stop = (
            np.array([getattr(unit, end) for unit in units], np.int64) for end in ("start", "stop")
        )
        self.inside = (dates >= start[:, None]) & (dates < stop[:, None])

    def total(self, values: Float) -> Float:
        return self._of(values, 0.0, np.add, np.nan)

    def least(self, values: Any) -> Any:
        return self._of(values, np.inf, np.minimum, np.nan)

    def either(self, values: NDArray[Any]) -> NDArray[Any]:
        return self._of(values, 0, np.bitwise_or, 0)

    def most(self, values: NDArray[Any]) -> NDArray[Any]:
        return self._of(values, -1, np.maximum, -1)

    def _of(self, values: NDArray[Any], neutral: Any, over: np.ufunc, outside: Any) -> NDArray[Any]:
        found = values[self.single]
        for row in self.many:
            lakes = list(self.units[row].lakes)
            found[row] = over.reduce(np.where(self.own[lakes], values[lakes], neutral), axis=0)
        return np.where(self.inside, found, outside)


def _views(
    of: dict[str, Any],
    days: Float,
    pools: tuple[NDArray[Any], NDArray[Any]],
    lakes: tuple[Float, Float],
    kin: _Sums,
) -> Views:
    """What the walk reads; ``pools`` are strata and their sources, ``lakes`` the rate and the floor."""
    area, quality = of["area"], of["quality"]
    point = np.isfinite(area)
    outline = np.where(point, of["area_sigma"], np.nan)
    lower, upper = np.where(point, area, of["area_lower"]), of["area_upper"]
    upper = np.where(point, np.fmax(area, upper), upper)
    with np.errstate(invalid="ignore"):
        whole = upper - area <= outline
    stable = _stable(area, quality, of["sigma_repeat"]) & whole
    suspect = ((quality & SeriesFlag.suspect) > 0) & whole
    level = np.cumsum(suspect, axis=1) + exchanges(of["part_of"].astype(np.int64))
    ratio, dof = external_ratio(area, np.nan_to_num(outline), days, pools, stable, level)
    border = _carried(np.where(outline > 0, outline, np.nan))  # an emptied lake has the ratio of its water
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.sqrt(kin.total((ratio * border) ** 2) / kin.total(border**2))
    members = [list(unit.lakes) for unit in kin.units]
    rate, floor = lakes
    weak = (quality & (SeriesFlag.provisional | SeriesFlag.frozen)) > 0
    return Views(
        days, kin.total(area), kin.total(lower), kin.total(upper), ratio, kin.least(dof),
        np.sqrt(kin.total(_carried(outline) ** 2)), np.array([np.linalg.norm(floor[own]) for own in members]),
        kin.either(weak.astype(np.uint8)) > 0, kin.most(pools[1]),
        np.array([max(rate[own]) for own in members]),
    )  # fmt: skip


def _stable(area: Float, quality: NDArray[Any], sigma: Float) -> Bool:
    """Areas that tell the scatter: no spikes, none under ice, none that do not count.

    An outlier within four sigma of the mean of its neighbours is one that normal scatter makes. Without it
    sigma comes out too small, and there would be half as many false alarms again.
    """
    aside = SeriesFlag.frozen | SeriesFlag.provisional | SeriesFlag.held
    counts = np.isfinite(area) & (quality & aside == 0)
    outlier = (quality & SeriesFlag.outlier) > 0
    before, after = neighbours(counts & ~outlier)
    around = np.concatenate([area, np.full((len(area), 1), np.nan)], axis=1)
    middle = (np.take_along_axis(area, before, axis=1) + np.take_along_axis(around, after, axis=1)) / 2
    with np.errstate(invalid="ignore"):
        ordinary = np.abs(area - middle) <= _SPIKE * np.sqrt(1.5) * sigma
    return np.asarray(counts & (~outlier | ordinary))


def _carried(values: Float) -> Float:
    """The last finite value up to each date."""
    place = np.where(np.isfinite(values), np.arange(values.shape[1]), 0)
    return np.asarray(np.take_along_axis(values, np.maximum.accumulate(place, axis=1), axis=1))
