"""What an inventory says of a lake besides its areas: its name, its review, ice and glaciers near it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xglof.plot.words import date, is_date

if TYPE_CHECKING:
    import geopandas


def given_names(lakes: geopandas.GeoDataFrame) -> dict[str, str]:
    """Names by id, of a table of :func:`xglof.lakes.keep_review`; empty where it has none."""
    if "name" not in lakes or "lake_id" not in lakes:
        return {}
    pairs = zip(lakes["lake_id"].astype(str), lakes["name"], strict=True)
    return {lake: str(name).strip() for lake, name in pairs if _told(name)}


def inventory_words(lakes: geopandas.GeoDataFrame, lake: str) -> str:
    """Review, ice contact and distance to glaciers of a lake in a line; empty where nothing is known.

    Parameters
    ----------
    lakes
        As :func:`xglof.lakes.lake_attributes` and :func:`xglof.lakes.keep_review` return it; columns may be
        missing.
    lake
        Its id.
    """
    rows = lakes[lakes["lake_id"] == lake].sort_values("time", kind="stable")
    parts = []
    if certainty := _last(rows, "certainty"):
        parts.append(f"Certainty: {certainty[0]}")
    if "verified" in rows:
        by = _last(rows, "verified_by")
        verified = bool(rows["verified"].astype(bool).any())
        parts.append(f"Verified{f' by {by[0]}' if by else ''}" if verified else "Not verified")
    if contact := _last(rows, "contact", passed="unknown"):
        parts.append(f"{str(contact[0]).capitalize()}" + (f" ({date(contact[1])})" if contact[1] else ""))
    if distance := _last(rows, "glacier_distance_m"):
        metres = float(distance[0])
        parts.append(f"{metres:,.0f} m from a glacier outline" if metres else "Touches a glacier outline")
    return ". ".join(parts) + "." if parts else ""


def _last(rows: Any, column: str, *, passed: str = "") -> tuple[Any, Any] | None:
    """The last value that says something, and its date where it has one."""
    if column not in rows:
        return None
    known = rows[[_told(value) and value != passed for value in rows[column]]]
    if not len(known):
        return None
    when = known["time"].iloc[-1]
    return known[column].iloc[-1], when if is_date(when) else None


def _told(value: Any) -> bool:
    """Neither empty nor missing, of text and of numbers."""
    import pandas as pd

    return bool(value.strip()) if isinstance(value, str) else not pd.isna(value)
