"""Alerts of lakes that grew or drained, with their evidence, and what change each lake would show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.errors import CubeError
from xglof.lakes.detection import BASELINE_DAYS, BASELINE_LEAST, Judged, walk
from xglof.lakes.evidence import alert_table
from xglof.lakes.followed import Followed, follow
from xglof.lakes.scatter import ENOUGH_DOF
from xglof.lakes.series import check_dates, flagged
from xglof.lakes.thresholds import EACH, PAIR_SHARE, SINGLE_SHARE, smallest_step

if TYPE_CHECKING:
    import pandas

__all__ = ["detectability", "find_alerts"]

Float = NDArray[np.float64]

_FOUND = 0.9  # chance with which the smallest detectable change is found
_RULE = (
    f"one area beyond the high threshold, or two in a row whose mean is beyond the low one and each beyond "
    f"{EACH:.2f} of it, against the mean of the steady areas of {BASELINE_DAYS / 365.25:.0f} years; the "
    f"thresholds are Student's quantiles of {SINGLE_SHARE} and {PAIR_SHARE} of the budget, by sigma of "
    "repeated measurement without the tested dates, or normal ones by sigma of the outline from less than "
    f"{ENOUGH_DOF:.0f} degrees of freedom"
)


def find_alerts(
    series: xr.Dataset, *, false_alarms: float = 0.01, withdrawn: bool = False
) -> pandas.DataFrame:
    """Table of the alerts that the lakes of a series would have raised, date by date.

    The areas of a lake are read in the order of their dates. Each is compared with the baseline: the mean of
    the steady areas of the years before since the last confirmed change.
    An area beyond the high threshold raises a ``provisional`` alert at once. The next one decides: beyond
    the low threshold on the same side it is ``confirmed``, back near the baseline ``withdrawn``. Two in a
    row that are each too near the baseline to alert alone, but whose mean passes the low threshold, raise
    a confirmed alert at the second. After a confirmed change the baseline begins anew, so that a lake that
    drains and fills gives a drainage and an expansion. See ``docs/alerts.md`` for the formulas and the
    measured rates.

    The thresholds follow from ``false_alarms``, the number of observations of the lake in a year, and the
    scatter of its repeated measurements (``sigma_repeat``, estimated without the observation under test).
    That scatter and that number are those of the whole series, so a later run may list an alert near its
    threshold no longer, or one more: keep the table of each run. The rest at a date rests on earlier dates
    only. The flags ``suspect`` and ``outlier`` decide nothing by themselves: a spike is an alert on its day,
    and withdrawn on the next.

    - Where a part was hidden only what is certain counts: the upper bound for a drainage, the lower bound
      (or the area, where there is a point value) for an expansion.
    - An area with the flag ``provisional`` or ``frozen`` may raise an alert. It confirms and withdraws none
      and enters no baseline.
    - An area is compared with those of the same sensors (and orbit, with radar). Where there are not two,
      it is with all, by the sigma of the outline and a bias of half a cell along the border.
    - Where few dates tell the scatter, the sigma of the outline stands in, or their scatter where that is
      larger: ``sigma_source`` is ``"outline"`` then.
    - Across a split or a merger the sum over all lakes that took part is compared: one alert, under the lake
      that was the largest, ``kin`` names them all.

    A lazy series **computes** here: a few hundred bytes for each lake and date.

    Parameters
    ----------
    series
        As :func:`xglof.lakes.lake_area` returns it, ``(lake, time)``; it is flagged by
        :func:`xglof.lakes.series.flag_series` where it is not. No composites: they mix dates.
    false_alarms
        Alerts that may be raised in a year of a lake that does not change, of both kinds, those that are
        withdrawn included. Above 0, at most 1.
    withdrawn
        Also list alerts that were withdrawn.

    Returns
    -------
    pandas.DataFrame
        A row an alert, by ``first_changed`` and ``lake``; without alerts the columns alone.

        - ``lake``, ``kind`` ("expansion", "drainage"), ``status`` ("provisional", "confirmed", "withdrawn").
        - ``first_changed``, ``raised``, ``decided`` (NaT while provisional), ``last_intact``: dates.
        - ``area_before_m2`` (the baseline), and at ``first_changed``: ``area_after_m2`` (NaN for a partial
          view), ``area_lower_m2``, ``area_upper_m2``, ``observed_fraction``.
        - ``change_m2`` (of a partial view what is certain), ``change_share`` of the area before,
          ``change_sigmas``, ``threshold_m2`` that it, or the mean of two, passed, ``sigma_m2``,
          ``sigma_source`` ("repeat", "outline").
        - ``days_without_view``: from ``last_intact`` to ``first_changed``. ``views_since`` (int64): areas
          after ``first_changed``, those that decide nothing included. ``s1_last_intact``,
          ``s1_first_changed``, ``s2_last_intact``, ``s2_first_changed``: the same for each sensor, NaT
          where it has no such view.
        - ``kin``: ids of the lakes whose sum this is, separated by spaces; empty for one lake.
          ``longitude``, ``latitude``: degrees.

        ``attrs``: ``false_alarms``, ``rule``, ``model``, ``model_sha256``.

    Raises
    ------
    CubeError
        A series of composites, without ``time`` or ``area``, without errors; ``false_alarms`` out of range;
        what :func:`xglof.lakes.series.flag_series` raises.

    References
    ----------
    Student (1908), doi:10.1093/biomet/6.1.1. Von Neumann et al. (1941), doi:10.1214/aoms/1177731746.
    """
    lakes, alerts, _ = _walked(series, false_alarms)
    table = alert_table(lakes, alerts)
    if not withdrawn:
        table = table[table["status"] != "withdrawn"].reset_index(drop=True)
    table.attrs = _attrs(series, false_alarms)
    return table


def detectability(series: xr.Dataset, *, false_alarms: float = 0.01) -> xr.Dataset:
    """What change of each lake the next two views would show, and when nobody was looking.

    A lazy series **computes** here.

    Parameters
    ----------
    series, false_alarms
        As for :func:`find_alerts`.

    Returns
    -------
    xarray.Dataset
        Dims ``(lake)``. ``smallest_detectable_change`` (float64, m2): the lasting step, up or down, that
        raises an alert within two valid views in 9 of 10 cases (a normal approximation), from the latest
        baseline with the sigma of the latest view; of a lake with few dates by that of the outline.
        ``smallest_detectable_share`` of that baseline. ``longest_blind_interval`` (float64, days) between
        valid views of the lake's place, the ends of the series included, and ``blind_from`` where it begins.
        ``observations_per_year``, ``sigma_repeat`` (m2, as the thresholds use it, NaN where
        the outline stands in), ``sigma_source`` ("repeat", "outline", ""), ``reason`` why there is no number,
        else "". ``attrs`` as for :func:`find_alerts`.

    Raises
    ------
    CubeError
        As :func:`find_alerts`.
    """
    lakes, _, latest = _walked(series, false_alarms)
    own = _units_at_the_end(lakes)
    judged = {
        name: getattr(latest, name)[own]
        for name in ("variance", "spread", "low", "before", "count", "repeat")
    }
    with np.errstate(invalid="ignore", divide="ignore"):
        step = smallest_step(_FOUND, judged["low"], judged["variance"], judged["spread"])
        reason = _reasons(lakes, own, judged, step)
        step = np.where(reason == "", step, np.nan)
        share = np.where(judged["before"] > 0, step / judged["before"], np.nan)
    blind, since = _longest_gap(lakes.seen, lakes.time)
    if not series.sizes["time"]:
        blind, since = np.full(blind.shape, np.nan), np.full(blind.shape, np.datetime64("NaT", "ns"))
    repeat = (reason == "") & judged["repeat"]
    sigma = np.where(repeat, np.sqrt(judged["variance"]), np.nan)
    source = np.where(reason == "", np.where(judged["repeat"], "repeat", "outline"), "")
    found = {
        "smallest_detectable_change": (
            step,
            "smallest lasting step found within two views in 9 of 10 cases",
            "m2",
        ),
        "smallest_detectable_share": (share, "that step over the area of the baseline", "1"),
        "longest_blind_interval": (blind, "longest time between valid views", "days"),
        "blind_from": (since, "begin of the longest time between valid views", None),
        "observations_per_year": (lakes.rate, "areas in a year", "year-1"),
        "sigma_repeat": (sigma, "one sigma of repeated measurement of the latest area", "m2"),
        "sigma_source": (source, "what sigma is: of repeated measurement or of the outline", None),
        "reason": (reason, "why there is no smallest detectable change", None),
    }
    arrays = {
        name: ("lake", values, {"long_name": said} | ({"units": unit} if unit else {}))
        for name, (values, said, unit) in found.items()
    }
    coords = {name: array for name, array in series.coords.items() if array.dims == ("lake",)}
    return xr.Dataset(arrays, coords, _attrs(series, false_alarms))


def _attrs(series: xr.Dataset, false_alarms: float) -> dict[str, Any]:
    kept = {name: series.attrs[name] for name in ("model", "model_sha256") if name in series.attrs}
    return {"false_alarms": float(false_alarms), "rule": _RULE, **kept}


def _walked(series: xr.Dataset, false_alarms: float) -> tuple[Followed, dict[str, NDArray[Any]], Judged]:
    """What was followed, the alerts of each, and where the walk ended."""
    _check(series, false_alarms)
    lakes = follow(flagged(series if series.sizes["time"] else _unseen(series)))
    alerts, latest = walk(lakes.views, false_alarms)
    return lakes, alerts, latest


def _check(series: xr.Dataset, false_alarms: float) -> None:
    if series.attrs.get("composite"):
        raise CubeError(
            f"the series is of composites ({series.attrs['composite']}), which mix dates: a drained lake "
            "would be half there; segment the dates one by one and measure them with lake_area"
        )
    check_dates(series)
    if not 0 < false_alarms <= 1:
        raise CubeError(
            f"false_alarms is {false_alarms}; expected alerts a year of a lake, above 0 and at most 1: 0.01"
        )
    needed = ("area_sigma", "part_of", *(("sensors", "sigma_repeat") if "quality" in series else ()))
    if missing := [name for name in needed if name not in series]:
        raise CubeError(
            f"the series has no {', '.join(missing)}; expected what lake_area and flag_series return: make "
            "it anew"
        )


def _unseen(series: xr.Dataset) -> xr.Dataset:
    """A series without dates, with one on which nothing was seen."""
    count = series.sizes["lake"]
    holder = np.arange(count, dtype=np.int32)[:, None]
    nothing = {name: np.full((count, 1), np.nan) for name in series if series[name].dtype.kind == "f"}
    none = {name: np.zeros((count, 1), series[name].dtype) for name in series if name not in nothing}
    arrays = {
        name: (("lake", "time"), array) for name, array in {**nothing, **none, "part_of": holder}.items()
    }
    dated = series.drop_dims("time").assign(arrays)
    return dated.assign_coords(time=np.zeros(1, "datetime64[ns]"))


def _units_at_the_end(lakes: Followed) -> NDArray[np.int64]:
    """Row of the unit in which each lake is followed after the last date, -1 while another holds it."""
    found = np.full(len(lakes.ids), -1)
    for row, unit in enumerate(lakes.units):
        if unit.bridge is None and unit.stop == len(lakes.time):
            holders = lakes.part_of[list(unit.lakes), -1] if unit.stop else np.array(unit.lakes)
            found[holders[0]] = row
    return found


def _reasons(lakes: Followed, own: NDArray[np.int64], judged: dict[str, Any], step: Float) -> NDArray[Any]:
    """Why a lake has no smallest detectable change, "" where it has one."""
    held = np.array([f"held by {lakes.ids[holder]}" for holder in lakes.part_of[:, -1]], object)
    cases: list[tuple[Any, Any]] = [
        (own < 0, held),
        (~lakes.seen.any(axis=1), "no valid view"),
        (judged["count"] < BASELINE_LEAST, "fewer than two steady views since the last change"),
        (~np.isfinite(step), "no sigma"),
    ]
    found = np.full(len(own), "", object)
    for where, said in reversed(cases):
        found = np.where(where, said, found)
    return found.astype(str)


def _longest_gap(
    seen: NDArray[np.bool_], time: NDArray[np.datetime64]
) -> tuple[Float, NDArray[np.datetime64]]:
    """Days of the longest time between valid views of each lake, the ends included, and its begin."""
    edges = seen.copy()
    edges[:, [0, -1]] = True
    place = np.where(edges, np.arange(len(time)), 0)
    before = np.maximum.accumulate(place, axis=1)[:, :-1]
    gap = np.where(edges[:, 1:], (time[1:] - time[before]) / np.timedelta64(1, "D"), -1.0)
    if not gap.shape[1]:
        return np.zeros(len(seen)), np.repeat(time[:1], len(seen))
    widest = np.argmax(gap, axis=1)
    every = np.arange(len(seen))
    return gap[every, widest], time[before[every, widest]]
