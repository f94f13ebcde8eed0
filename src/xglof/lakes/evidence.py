"""The table of alerts: what was seen before and after, by which sensor, and how certain it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xglof.lakes.detection import CONFIRMED, PROVISIONAL, WITHDRAWN
from xglof.lakes.followed import Followed
from xglof.lakes.thresholds import EACH

if TYPE_CHECKING:
    import pandas

Records = dict[str, NDArray[Any]]

_STATUS = {PROVISIONAL: "provisional", CONFIRMED: "confirmed", WITHDRAWN: "withdrawn"}
_SENSORS = {"s1": 1, "s2": 2}
_COLUMNS = (
    "lake", "kind", "status", "first_changed", "raised", "decided", "last_intact", "area_before_m2",
    "area_after_m2", "area_lower_m2", "area_upper_m2", "change_m2", "change_share", "change_sigmas",
    "threshold_m2", "sigma_m2", "sigma_source", "observed_fraction", "days_without_view", "views_since",
    "s1_last_intact", "s1_first_changed", "s2_last_intact", "s2_first_changed", "kin", "longitude",
    "latitude",
)  # fmt: skip


def alert_table(lakes: Followed, alerts: Records) -> pandas.DataFrame:
    """A row for each alert, in order; the columns are told at :func:`xglof.lakes.alerts.find_alerts`.

    Parameters
    ----------
    lakes
        What was followed.
    alerts
        Of its units, as :func:`xglof.lakes.detection.walk` returns them.
    """
    import pandas as pd

    alerts = _once({**alerts, "reported": _largest(lakes, alerts)}, lakes)
    unit, first, intact = alerts["lake"], alerts["first"], alerts["intact"]
    views, before = lakes.views, alerts["before"]
    later = np.arange(len(lakes.time)) > first[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(before > 0, alerts["change"] / before, np.nan)
    columns = {
        "lake": lakes.ids[alerts["reported"]].astype(object),
        "kind": np.where(alerts["side"] > 0, "expansion", "drainage").astype(object),
        "status": np.array([_STATUS[int(status)] for status in alerts["status"]], object),
        "first_changed": lakes.time[first],
        "raised": lakes.time[alerts["raised"]],
        "decided": _dates(lakes, alerts["decided"]),
        "last_intact": lakes.time[intact],
        "area_before_m2": before,
        "area_after_m2": views.area[unit, first],
        "area_lower_m2": lakes.lower[unit, first],
        "area_upper_m2": lakes.upper[unit, first],
        "change_m2": alerts["change"],
        "change_share": share,
        "change_sigmas": alerts["change"] / alerts["sigma"],
        "threshold_m2": alerts["threshold"],
        "sigma_m2": alerts["sigma"],
        "sigma_source": np.where(alerts["repeat"], "repeat", "outline").astype(object),
        "observed_fraction": lakes.observed[unit, first],
        "days_without_view": views.days[first] - views.days[intact],
        "views_since": (np.isfinite(views.area[unit]) & later).sum(axis=1),
        **_by_sensor(lakes, alerts),
        "kin": np.array([_kin(lakes, row) for row in unit], object),
        "longitude": lakes.longitude[alerts["reported"]],
        "latitude": lakes.latitude[alerts["reported"]],
    }
    table = pd.DataFrame({name: columns[name] for name in _COLUMNS})
    return table.sort_values(["first_changed", "lake", "raised"], kind="stable", ignore_index=True)


def _dates(lakes: Followed, place: NDArray[Any]) -> NDArray[np.datetime64]:
    """Dates at places along time, NaT for -1."""
    return np.where(place >= 0, lakes.time[np.maximum(place, 0)], np.datetime64("NaT", "ns"))


def _largest(lakes: Followed, alerts: Records) -> NDArray[np.int64]:
    """The lake of each alert's unit that was the largest at the last intact date."""
    found = []
    for row, date in zip(alerts["lake"], alerts["intact"], strict=True):
        members = np.array(lakes.units[row].lakes)
        area = np.nan_to_num(lakes.area[members, date], nan=-1.0)
        found.append(members[np.argmax(area)])
    return np.array(found, np.int64)


def _once(alerts: Records, lakes: Followed) -> Records:
    """Alerts of sums of kin only around the exchange, and none of a lake that such a sum tells as well."""
    bridges = [lakes.units[row].bridge for row in alerts["lake"]]
    told: set[tuple[int, int, int]] = set()
    kept = []
    for number, bridge in enumerate(bridges):
        first, decided = alerts["first"][number], alerts["decided"][number]
        if bridge is None or first > bridge[1] or 0 <= decided < bridge[0]:
            continue
        members = lakes.units[alerts["lake"][number]].lakes
        key = (int(alerts["side"][number]), int(first))
        if not any((*key, lake) in told for lake in members):
            told |= {(*key, lake) for lake in members}
            kept.append(number)
    for number, bridge in enumerate(bridges):
        mine = (int(alerts["side"][number]), int(alerts["first"][number]), int(alerts["reported"][number]))
        if bridge is None and mine not in told:
            kept.append(number)
    order = np.array(sorted(kept), np.int64)
    return {name: values[order] for name, values in alerts.items()}


def _kin(lakes: Followed, row: int) -> str:
    unit = lakes.units[row]
    return "" if unit.bridge is None else " ".join(str(lakes.ids[lake]) for lake in unit.lakes)


def _by_sensor(lakes: Followed, alerts: Records) -> dict[str, NDArray[np.datetime64]]:
    """Last intact and first changed date of each sensor, by the areas that it saw."""
    unit, first = alerts["lake"], alerts["first"][:, None]
    date = np.arange(len(lakes.time))
    side, before = alerts["side"][:, None], alerts["before"][:, None]
    needed = np.minimum(EACH * alerts["threshold"], np.abs(alerts["change"]))[:, None] * (1 - 1e-12)
    bounds = [(getattr(lakes.views, name)[unit] - before) * side for name in ("lower", "upper")]
    changed = np.minimum(*bounds) > needed
    point = np.isfinite(lakes.views.area[unit])
    kept = point & ~(np.maximum(*bounds) > needed)
    found: dict[str, NDArray[np.datetime64]] = {}
    for name, bit in _SENSORS.items():
        seen = lakes.sensors[unit] & bit > 0
        intact = seen & kept & (date < first)
        after = seen & changed & (point | (date == first)) & (date >= first)
        last = np.where(intact.any(axis=1), len(date) - 1 - np.argmax(intact[:, ::-1], axis=1), -1)
        begin = np.where(after.any(axis=1), np.argmax(after, axis=1), -1)
        found |= {f"{name}_last_intact": _dates(lakes, last), f"{name}_first_changed": _dates(lakes, begin)}
    return found
