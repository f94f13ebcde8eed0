"""Findings in sentences and rows, the same ones on a card and in a report."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xglof.cube.card_facts import counted
from xglof.lakes.attributes import lake_attributes
from xglof.lakes.volume import lake_volume
from xglof.plot.alert_words import alert_sentence
from xglof.plot.findings import Findings, Latest
from xglof.plot.words import area_words, date, days, degrees, interval_words, range_words, share

NOT_COMPUTABLE = "not computable"
WORDS = {
    "new": "first seen",
    "split": "split",
    "merge": "merged",
    "vanish": "gone: its place was seen without water",
    "return": "seen again",
}


def is_simulated(cube: xr.Dataset) -> bool:
    """Whether a cube is of a simulated valley, as its catalogue is called."""
    return "simulated" in str(cube.attrs.get("catalog", "")).lower()


def source_line(found: Findings, seg: xr.Dataset) -> str:
    """Dates and model in one line."""
    times = found.series["time"].to_numpy()
    model = str(seg.attrs.get("model", "unknown"))
    return f"{counted(len(times), 'date')}, {date(times[0])} to {date(times[-1])}. Model {model}."


def hash_words(seg: xr.Dataset) -> str:
    """The SHA-256 of a model's weights, or that it has none."""
    found = str(seg.attrs.get("model_sha256", ""))
    return f"SHA-256 {found}" if found else "without weights"


def place_words(found: Findings, lake: str, cube: xr.Dataset) -> str:
    """Where a lake lies, and how high where a DEM tells."""
    one = found.series.sel(lake=lake)
    text = degrees(float(one["longitude"]), float(one["latitude"]))
    if "dem" not in cube:
        return text
    rows = found.polygons[found.polygons["lake_id"] == lake]
    dem = cube["dem"].assign_attrs(dem_epoch=cube.attrs.get("dem_epoch", "unknown"))
    height = float(lake_attributes(rows, dem=dem)["elevation_m"].iloc[0])
    if not np.isfinite(height):
        return text
    epoch = str(cube.attrs.get("dem_epoch", "")).replace("/", " to ")
    return f"{text}, {height:,.0f} m" + (f" (DEM of {epoch})" if epoch else " (DEM)")


def figures(found: Findings, lake: str) -> list[tuple[str, str]]:
    """Names and values of what is known of a lake."""
    now = found.latest(lake)
    one = found.series.sel(lake=lake)
    rows = [
        ("Latest area", f"{area_words(now.area)}, {date(now.date)}"),
        ("95 % interval", _interval(now)),
        (
            "Outline error",
            f"{area_words(now.sigma)} (1 sigma)" if now.area > 0 else "none without an outline",
        ),
        ("Latest view", f"{date(now.view)}, {share(now.observed)} observed"),
        ("Bounds then", range_words(now.least, now.most)),
        ("Values", f"{int(np.isfinite(one['area']).sum())} of {counted(one.sizes['time'], 'date')}"),
        ("Trend", trend_words(found, lake)),
    ]
    if np.isnan(now.area):
        rows[:3] = [("Latest area", "no value yet: too little was observed")]
    if found.limits is not None:
        limit = found.limits.sel(lake=lake)
        least = float(limit["smallest_detectable_change"])
        rows += [
            ("Detectable change", _least_words(least, limit)),
            ("Longest blind", days(float(limit["longest_blind_interval"]))),
        ]
    return [*rows, ("Volume band", volume_words(now.area))]


def _interval(now: Latest) -> str:
    if not np.isfinite([now.lower, now.upper]).all():
        stand_in = "; the outline error stands in" if now.area > 0 else ""
        return f"unknown: too few stable dates tell this lake's scatter{stand_in}"
    return interval_words(now.area, now.lower, now.upper, now.sigma)


def _least_words(least: float, limit: xr.Dataset) -> str:
    if np.isnan(least):
        return _plain(limit["reason"])
    part = float(limit["smallest_detectable_share"])
    told = f" ({part:.0%})" if part <= 1 else ""  # of a lake smaller than that a share says nothing
    return f"{area_words(least)}{told} within two views"


def trend_words(found: Findings, lake: str) -> str:
    """Slope with its interval, or why there is none."""
    one = found.trends.sel(lake=lake)
    if not bool(one["computable"]):
        return _plain(one["reason"])
    slope, low, high = (f"{float(one[name]):+,.0f}" for name in ("slope", "slope_lower", "slope_upper"))
    known = np.isfinite(float(one["slope_lower"]))
    ends = f"{low} to {high} at 95 %" if known else f"interval {NOT_COMPUTABLE}"
    years = counted(int(one["years"]), "year")
    return f"{slope} m² a year ({ends}), p = {float(one['p_value']):.2g}, {years}"


def _plain(value: Any) -> str:
    text = str(value.item() if hasattr(value, "item") else value).strip()
    return text if text.startswith(NOT_COMPUTABLE) else f"{NOT_COMPUTABLE}: {text or 'too few values'}"


def volume_words(area: float) -> str:
    """The band of volumes of an area, in millions of cubic metres."""
    if not (np.isfinite(area) and area > 0):
        return NOT_COMPUTABLE
    band = lake_volume(xr.DataArray(area, attrs={"units": "m2"}))
    low, high = float(band["band_lower"]) / 1e6, float(band["band_upper"]) / 1e6
    if not np.isfinite([low, high]).all():
        return f"{NOT_COMPUTABLE}: no relation covers lakes of this size"
    relations = counted(int(np.isfinite(band["volume"]).sum()), "relation")
    return f"{low:.3g} to {high:.3g} million m³, spread of {relations}"


def alert_sentences(found: Findings, lake: str) -> list[str]:
    """A sentence for each alert on a lake."""
    rows = found.alerts[found.alerts["lake"] == lake].sort_values("first_changed", kind="stable")
    return [alert_sentence(row) for _, row in rows.iterrows()]


def no_alert(found: Findings) -> str:
    """What is said where there is no alert."""
    if found.composite:
        return "No alert is looked for in composites: they mix dates. Give the series of single dates."
    return f"No alert at a budget of {_budget(found)}."


def _budget(found: Findings) -> str:
    return f"1 false alarm in {1 / found.false_alarms:.0f} lake-years"


def power(found: Findings) -> list[str]:
    """What could have been found, over all lakes that are no patches."""
    if found.limits is None or not found.lakes:
        return []
    limits = found.limits.sel(lake=found.lakes)
    least = limits["smallest_detectable_change"].to_numpy()
    blind = limits["longest_blind_interval"].to_numpy()
    lines = [f"Budget: {_budget(found)}."]
    known = np.isfinite(least)
    if known.any():
        low, middle, high = (float(v) for v in np.percentile(least[known], [0, 50, 100]))
        lines.append(
            f"Smallest detectable change: {area_words(low)} to {area_words(high)}, in the middle "
            f"{area_words(middle)}, of {counted(int(known.sum()), 'lake')}. A lasting change of that size is "
            "found within two valid views in 9 of 10 cases."
        )
    if (~known).any():
        lines.append(f"Not computable for {counted(int((~known).sum()), 'lake')}: too few stable values.")
    if np.isfinite(blind).any():
        lines.append(f"Longest time that a lake was not seen: {days(float(np.nanmax(blind)))}.")
    return lines


def history(found: Findings, lake: str, most: int | None = None) -> list[str]:
    """Events of a lake in words, the oldest first."""
    events = found.events if lake in found.patches else told_events(found)[0]
    own = (events["lake_id"] == lake) | events["parents"].astype(str).str.split().map(lambda ids: lake in ids)
    rows = [_event_words(row, lake) for _, row in events[own].sort_values("time", kind="stable").iterrows()]
    if most is not None and len(rows) > most:
        return [*rows[: most - 1], f"and {len(rows) - most + 1} more events"]
    return rows


def told_events(found: Findings) -> tuple[Any, int]:
    """Events of lakes that are no patches, with parents that are none, and how many others are left out.

    That a lake split or merged is told where another lake, not only patches, took part.
    """
    events, patches = found.events, found.patches
    parents = [str(text).split() for text in events["parents"]]
    lakes = events["lake_id"].astype(str).tolist()
    steps = [*zip(lakes, events["event"].astype(str), events["time"], parents, strict=True)]
    parted = {(parent, when) for lake, kind, when, of in steps if kind == "split" for parent in of}
    lasting = {
        (parent, when)
        for lake, kind, when, of in steps
        if kind == "split" and lake not in patches
        for parent in of
    }
    told = []
    for lake, kind, when, of in steps:
        only_patches = kind == "merge" and not {*of} - patches - {lake}
        only_patches |= kind == "split" and (lake, when) in parted - lasting and not of
        told.append(lake not in patches and not only_patches)
    shown = events[np.array(told, bool)]
    kept = [" ".join(name for name in str(text).split() if name not in patches) for text in shown["parents"]]
    return shown.assign(parents=kept), len(events) - len(shown)


def _event_words(row: Any, lake: str) -> str:
    word = WORDS.get(str(row["event"]), str(row["event"]))
    parents = str(row["parents"]).split()
    name = str(row["lake_id"])
    if name != lake:
        return f"{date(row['time'])}: {name}, {word}" + (
            " from it" if row["event"] == "split" else " with it"
        )
    others = [parent for parent in parents if parent != lake]
    tail = f" ({'with' if row['event'] == 'merge' else 'from'} {', '.join(others)})" if others else ""
    return f"{date(row['time'])}: {word}{tail}"


def series_sentence(found: Findings, lake: str) -> str:
    """A lake's series in a sentence, for those who do not see its picture."""
    one = found.series.sel(lake=lake)
    area = one["area"].to_numpy()
    known = np.flatnonzero(np.isfinite(area))
    dates = one["time"].to_numpy()
    if not known.size:
        return f"Areas of lake {lake} through time: no value, bounds only"
    return (
        f"Areas of lake {lake} through time: {counted(known.size, 'value')} from {date(dates[known[0]])} to "
        f"{date(dates[known[-1]])}, {range_words(area[known].min(), area[known].max())}, the last "
        f"{area_words(area[known[-1]])}"
    )
