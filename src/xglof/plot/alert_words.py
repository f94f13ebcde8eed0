"""Alerts with their evidence, in sentences and rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from xglof.cube.card_facts import counted
from xglof.plot.words import area_words, change_words, date, days, is_date, range_words, share

_SENSORS = (("Sentinel-2", "s2"), ("Sentinel-1", "s1"))
_SOURCES = {"repeat": "its repeat scatter", "outline": "the outline error"}


def alert_line(row: Any) -> str:
    """An alert of :func:`xglof.lakes.find_alerts` in one line, for a terminal or a title."""
    return (
        f"{row['lake']}: {row['kind']}, {row['status']}, between {date(row['last_intact'])} and "
        f"{date(row['first_changed'])}, {area_words(row['area_before_m2'])} before, change {_change(row)}, "
        f"{abs(row['change_sigmas']):.1f} sigma"
    )


def alert_sentence(row: Any) -> str:
    """An alert of :func:`xglof.lakes.alerts.find_alerts` with its evidence."""
    after = row["area_after_m2"]
    seen = f"{area_words(after)} then" if np.isfinite(after) else "no value then"
    parts = [
        f"{row['kind']}, {row['status']}: first changed {date(row['first_changed'])}, last intact "
        f"{date(row['last_intact'])}, {days(row['days_without_view'])} without a valid view",
        f"{area_words(row['area_before_m2'])} before, {seen} (bounds {_bounds(row)}, "
        f"{share(row['observed_fraction'])} observed)",
        f"change {_change(row)}, {abs(row['change_sigmas']):.1f} sigma by {_source(row)}, "
        f"threshold {area_words(abs(row['threshold_m2']))}",
        *(f"{name}: {_views(row, key)}" for name, key in _SENSORS),
    ]
    if (since := row.get("views_since")) is not None:
        parts.append(f"{counted(int(since), 'valid view')} since" if since else "no valid view since")
    if kin := _kin(row):
        parts.append(f"sum over {', '.join(kin)}")
    return ". ".join(part[0].upper() + part[1:] for part in parts) + "."


def alert_table(rows: Any) -> tuple[list[str], list[list[object]]]:
    """Heads and rows of alerts, the largest gain or loss first; the first cell is the lake's id."""
    heads = ["lake", "kind", "status", "between", "before", "after (bounds)", "change", "sigma"]
    order = np.argsort(-np.abs(rows["change_m2"].to_numpy(float)), kind="stable")
    cells = [
        [
            row["lake"],
            row["kind"],
            row["status"],
            f"{date(row['last_intact'])} and {date(row['first_changed'])}",
            area_words(row["area_before_m2"]),
            _after(row),
            _change(row),
            f"{abs(row['change_sigmas']):.1f}",
        ]
        for _, row in rows.iloc[order].iterrows()
    ]
    return heads, cells


def _after(row: Any) -> str:
    value = row["area_after_m2"]
    return f"{area_words(value) if np.isfinite(value) else 'no value'} ({_bounds(row)})"


def _bounds(row: Any) -> str:
    return range_words(row["area_lower_m2"], row["area_upper_m2"])


def _change(row: Any) -> str:
    """Without a share where the area before can't be told from 0."""
    told = row["area_before_m2"] > 2 * row.get("sigma_m2", 0.0)
    return change_words(row["change_m2"], row["change_share"] if told else np.nan)


def _source(row: Any) -> str:
    return _SOURCES.get(str(row["sigma_source"]), str(row["sigma_source"]))


def _views(row: Any, sensor: str) -> str:
    """The last intact and the first changed view of one sensor."""
    intact, changed = (row[f"{sensor}_{word}"] for word in ("last_intact", "first_changed"))
    if not (is_date(intact) or is_date(changed)):
        return "no view"
    return f"intact {date(intact)}, changed {date(changed)}"


def _kin(row: Any) -> list[str]:
    return str(row["kin"]).split()
