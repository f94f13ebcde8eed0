"""The map of a whole place with the lakes that matter by name, and words for what is on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xglof.bands import resolve
from xglof.cube.card_facts import counted, day
from xglof.plot.close_up import draw_intact, intact_outlines
from xglof.plot.dates import clear_share
from xglof.plot.findings import Findings
from xglof.plot.frame import frame_of
from xglof.plot.labels import write_names
from xglof.plot.maps import at_date, ground_note, has_hatching, map_lakes, of_date

_MOST_NAMES = 6


@dataclass(frozen=True, slots=True)
class Locator:
    """A map with its words.

    Attributes
    ----------
    figure
        matplotlib Figure.
    caption
        What every kind of line on it is.
    alt
        The same for those who do not see it, with the names written.
    """

    figure: Any
    caption: str
    alt: str


def locator(found: Findings, cube: xr.Dataset, seg: xr.Dataset) -> Locator:
    """The clearest date of the last third of the dates, with outlines, ids and last intact outlines.

    An id stands at its lake's place whether the lake has water at that date or not.
    """
    from matplotlib.figure import Figure

    date = _late_date(cube)
    figure = Figure(figsize=(8.2, 7.6), dpi=120, layout="constrained")
    ax = map_lakes(cube, found.polygons, seg=seg, time=date, ax=figure.add_subplot())
    grid = cube.odc.geobox
    intact = _draw_last_intact(ax, found, at_date(cube, date))
    named = write_names(ax, _places(found, frame_of(grid).scale))
    mapped = len(set(of_date(found.polygons, date)["lake_id"]))
    when = f"{day(date)}{ground_note(cube)}"
    words = [
        f"Yellow: the outlines of that day, {counted(mapped, 'id')}" if mapped else "No outline that day"
    ]
    if intact:
        words.append(f"Dashed blue: last intact outline of {' and '.join(intact)}")
    if has_hatching(ax):
        words.append("Hatched: unobserved")
    told = _named_words(named, found)
    caption = ". ".join([f"{when}, the clearest of the late dates", *words, *told]) + "."
    alt = f"Map of {when}. {'. '.join(words)}." + (f" Named: {', '.join(named)}." if named else "")
    return Locator(figure, caption, alt)


def _late_date(cube: xr.Dataset) -> Any:
    times = cube["time"].to_numpy()
    late = np.arange(len(times) - max(len(times) // 3, 1), len(times))
    clear = clear_share(cube, times[late])
    return times[late[np.flatnonzero(clear == clear.max())[-1]]]


def _draw_last_intact(ax: Any, found: Findings, step: xr.Dataset) -> list[str]:
    """Draw the last intact outlines of alerts that stand; ids with dates of those that were drawn."""
    step = step.rename(resolve(step.variables))
    drawn = []
    for lake in found.shown(0, most_alerts=_MOST_NAMES):
        alert = found.latest_alert(lake)
        outlines = None if alert is None else intact_outlines(found.polygons, alert)
        if alert is not None and outlines is not None and len(outlines):
            draw_intact(ax, outlines, step)
            drawn.append(f"{lake} ({day(alert['last_intact'])})")
    return drawn


def _places(found: Findings, scale: float) -> list[tuple[str, float, float]]:
    """Ids with their points of the series, which lie in the lake at its first sight, in the drawn unit."""
    names = found.shown(_MOST_NAMES, most_alerts=_MOST_NAMES)[:_MOST_NAMES]
    x, y = ((found.series[axis].sel(lake=names).to_numpy() * scale).tolist() for axis in "xy")
    return [*zip(names, x, y, strict=True)]


def _named_words(named: list[str], found: Findings) -> list[str]:
    """Why the ids on the map are there."""
    alerted = {*found.alerts["lake"].astype(str)} & {*named}
    reasons = (("with alerts", alerted), ("among the largest", {*named} - alerted))
    kinds = [word for word, ids in reasons if ids]
    return [f"Named: lakes {' and '.join(kinds)}"] if kinds else []
