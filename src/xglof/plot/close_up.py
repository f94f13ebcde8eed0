"""Maps of one lake: which dates, its own outline heavy, other lakes thin, its last intact one dashed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xglof.bands import resolve
from xglof.cube.card_facts import counted, day
from xglof.plot.dates import clear_share
from xglof.plot.findings import Findings
from xglof.plot.labels import casing
from xglof.plot.maps import MODEL_COLOUR, at_date, has_hatching, map_lakes, of_date, outline
from xglof.plot.observations import observations_of
from xglof.plot.series import days_of
from xglof.plot.words import is_date

if TYPE_CHECKING:
    import geopandas
    import pandas as pd

OTHER_COLOUR, INTACT_COLOUR = "#c9ced4", "#4de1ff"
INTACT_DASHES = (0, (4, 2))
_OWN_WIDTH, _OTHER_WIDTH, INTACT_WIDTH = 2.4, 0.8, 1.6


@dataclass(frozen=True, slots=True)
class CloseUp:
    """What a map of one lake shows.

    Attributes
    ----------
    own
        The lake has an outline at the date.
    others
        Outlines of other lakes.
    intact
        Date of the last intact outline drawn; NaT for none.
    hatched
        Something was not observed.
    """

    own: bool
    others: int
    intact: Any
    hatched: bool

    @property
    def words(self) -> str:
        """What is drawn, in a sentence without its colours."""
        parts = ["the lake's outline" if self.own else "no outline of the lake"]
        if self.others:
            parts.append(counted(self.others, "other outline"))
        if is_date(self.intact):
            parts.append(f"the last intact outline of {day(self.intact)} dashed")
        if self.hatched:
            parts.append("unobserved ground hatched")
        return ", ".join(parts)


def intact_outlines(lakes: geopandas.GeoDataFrame, alert: Any) -> geopandas.GeoDataFrame:
    """Outlines of an alert's lake, and of all that its sum is over, at the last intact date."""
    ids = {str(alert["lake"]), *str(alert.get("kin", "")).split()}
    return lakes[lakes["lake_id"].isin(ids) & (lakes["time"] == alert["last_intact"])]


def lake_dates(cube: xr.Dataset, found: Findings, lake: str) -> list[tuple[str, Any]]:
    """Titles and dates of the maps of a lake: around its last alert, else its first and latest clear views.

    Parameters
    ----------
    cube
        Cut to the lake: how clear a date is counts there.
    found
        With the series of the lake in memory.
    lake
        Its id.
    """
    alert = found.latest_alert(lake)
    times = cube["time"].to_numpy().astype("datetime64[ns]")
    if alert is not None:
        ends = [
            (word, date)
            for word, date in (("before", alert["last_intact"]), ("after", alert["first_changed"]))
            if is_date(date)
        ]
        nearest = [(word, times[np.argmin(np.abs(times - np.datetime64(date, "ns")))]) for word, date in ends]
        return [(f"{day(date)}, {word} the {alert['kind']}", date) for word, date in nearest]
    one = found.series.sel(lake=lake)
    seen = observations_of(one, days_of(one["time"]), 1.0)
    valid = np.flatnonzero(seen.joined & np.isin(one["time"].to_numpy().astype("datetime64[ns]"), times))
    if not valid.size:
        clear = clear_share(cube, times)
        best = times[int(np.argmax(clear))]
        return [(f"{day(best)}, clearest view, no area", best)]
    shown = one["time"].to_numpy()[[*dict.fromkeys((int(valid[0]), int(valid[-1])))]]
    words = ("first valid view", "latest valid view")[-len(shown) :]
    return [(f"{day(date)}, {word}", date) for word, date in zip(words, shown, strict=True)]


def draw_close_up(
    ax: Any, cube: xr.Dataset, seg: xr.Dataset, lakes: Any, date: Any, lake: str, alert: pd.Series | None
) -> CloseUp:
    """Draw one date of a cube that is cut to a lake; what was drawn.

    Parameters
    ----------
    ax
        Axes to draw on.
    cube, seg
        Cut to the lake.
    lakes
        Tracked polygons.
    date
        Of the map.
    lake
        Id of the lake.
    alert
        Whose last intact outline is drawn dashed, on maps of other dates; ``None`` for none.
    """
    map_lakes(cube, lakes.iloc[:0], seg=seg, time=date, ax=ax)
    step = at_date(cube, date)
    step = step.rename(resolve(step.variables))
    west, south, east, north = cube.odc.geobox.boundingbox.bbox
    near = of_date(lakes, date).to_crs(cube.odc.geobox.crs.wkt).cx[west:east, south:north]
    own = near["lake_id"] == lake
    outline(ax, near[~own], step, None, color=OTHER_COLOUR, linestyle="solid", width=_OTHER_WIDTH)
    outline(ax, near[own], step, None, color=MODEL_COLOUR, linestyle="solid", width=_OWN_WIDTH)
    intact = np.datetime64("NaT")
    if alert is not None and is_date(alert["last_intact"]) and alert["last_intact"] != date:
        before = intact_outlines(lakes, alert)
        if len(before):
            draw_intact(ax, before, step)
            intact = alert["last_intact"]
    return CloseUp(bool(own.any()), int((~own).sum()), intact, has_hatching(ax))


def draw_intact(ax: Any, outlines: geopandas.GeoDataFrame, step: xr.Dataset) -> None:
    """Draw last intact outlines, dashed, on axes with the grid of one date of a cube."""
    outline(ax, outlines, step, None, color=INTACT_COLOUR, linestyle=INTACT_DASHES, width=INTACT_WIDTH)


def close_up(
    cube: xr.Dataset, seg: xr.Dataset, found: Findings, lake: str, date: Any, title: str
) -> tuple[Any, CloseUp]:
    """Figure with one map of a cube that is cut to a lake, small enough for a phone, and what it shows."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 4.45), dpi=110, layout="constrained")
    ax = figure.add_subplot()
    shown = draw_close_up(ax, cube, seg, found.polygons, date, lake, found.latest_alert(lake))
    ax.set_title(title, fontsize=11, loc="left")
    ax.locator_params(nbins=4)
    return figure, shown


def close_up_key(shown: list[CloseUp]) -> list[Any]:
    """Handles of a legend for what maps of a lake show."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    key: list[Any] = []
    if any(one.own for one in shown):
        key.append(Line2D([], [], color=MODEL_COLOUR, lw=2.6, path_effects=casing(4), label="this lake"))
    if any(one.others for one in shown):
        key.append(Line2D([], [], color=OTHER_COLOUR, lw=1, path_effects=casing(2.2), label="other lakes"))
    dates = [one.intact for one in shown if is_date(one.intact)]
    if dates:
        style: dict[str, Any] = {"color": INTACT_COLOUR, "lw": 2, "ls": INTACT_DASHES}
        label = f"last intact outline, {day(dates[0])}"
        key.append(Line2D([], [], **style, path_effects=casing(3.4), label=label))
    if any(one.hatched for one in shown):
        key.append(Patch(facecolor="white", edgecolor="0.3", hatch="////", label="unobserved"))
    return key


def close_up_caption(shown: list[CloseUp]) -> str:
    """A line under maps of a lake: what each kind of line on them is."""
    parts = []
    if any(one.own for one in shown):
        parts.append("Heavy yellow: this lake")
    if any(one.others for one in shown):
        parts.append("Thin grey: other lakes")
    dates = [one.intact for one in shown if is_date(one.intact)]
    if dates:
        parts.append(f"Dashed blue: last intact outline, {day(dates[0])}")
    if any(one.hatched for one in shown):
        parts.append("Hatched: unobserved")
    return ". ".join(parts) + "." if parts else ""
