"""One page on one lake: where it is, what was mapped, its series, figures, history and alerts."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import xarray as xr

from xglof._version import __version__
from xglof.plot.account import (
    alert_sentences,
    figures,
    hash_words,
    history,
    is_simulated,
    no_alert,
    place_words,
    source_line,
)
from xglof.plot.close_up import close_up_key, draw_close_up, lake_dates
from xglof.plot.findings import Findings, find_facts
from xglof.plot.inventory import inventory_words
from xglof.plot.maps import ground_note
from xglof.plot.series import area_series, series_key
from xglof.plot.years import cropped, lake_window

if TYPE_CHECKING:
    import geopandas
    import pandas as pd

_PAGE_INCH = (8.27, 11.69)  # A4
_MAPS = ((0.10, 0.605, 0.385, 0.255), (0.565, 0.605, 0.385, 0.255))
_SERIES = (0.10, 0.355, 0.85, 0.185)
_LEFT, _MIDDLE, _RIGHT = 0.06, 0.575, 0.96
_LINE = 0.0135  # of the page's height
_MOST_EVENTS, _MOST_ALERTS = 8, 1
_FLOOR, _TOP = 0.035, 0.278  # of the words


def report_card(
    cube: xr.Dataset,
    seg: xr.Dataset,
    lakes: geopandas.GeoDataFrame,
    series: xr.Dataset,
    lake: str,
    *,
    alerts: pd.DataFrame | None = None,
) -> Any:
    """Figure of one A4 page on one lake: maps, series with flags, figures, history, alerts with evidence.

    Parameters
    ----------
    cube, seg
        Cube and its segmentation.
    lakes
        What :func:`xglof.lakes.tracking.track` returned.
    series
        As :func:`xglof.lakes.lake_area` or :func:`xglof.lakes.series.flag_series` returns it.
    lake
        Id of the lake.
    alerts
        As :func:`xglof.lakes.alerts.find_alerts` returns them; ``None`` finds them here.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    CubeError
        No such lake; as :func:`map_lakes` and :func:`area_series`.
    """
    from matplotlib.figure import Figure

    found = find_facts(series, lakes, alerts=alerts)
    figure = Figure(figsize=_PAGE_INCH, dpi=120)
    bounds = lake_window(lakes, lake, cube.odc.geobox)
    cube, seg = cropped(cube, bounds), cropped(seg, bounds)
    _write_head(figure, cube, seg, found, lake)
    _draw_maps(figure, cube, seg, found, lake)
    _draw_series(figure, found, lake)
    _write_pairs(figure, "Figures", figures(found, lake), _TOP)
    told = alert_sentences(found, lake)[::-1] or [no_alert(found)]
    more = [f"and {len(told) - _MOST_ALERTS} earlier ones"] if len(told) > _MOST_ALERTS else []
    below = _write_list(figure, "Alerts", [*told[:_MOST_ALERTS], *more], _TOP)
    _write_list(figure, "History", history(found, lake, _MOST_EVENTS), below)
    note = f"xglof {__version__}. Unobserved ground is hatched; it is never counted as land."
    figure.text(_LEFT, 0.018, note, fontsize=7, color="0.4")
    return figure


def _draw_maps(figure: Any, cube: xr.Dataset, seg: xr.Dataset, found: Findings, lake: str) -> None:
    """Maps of a cube that is cut to the lake, and their key."""
    alert, shown = found.latest_alert(lake), []
    for place, (title, date) in zip(_MAPS, lake_dates(cube, found, lake), strict=False):
        ax = figure.add_axes(place)
        shown.append(draw_close_up(ax, cube, seg, found.polygons, date, lake, alert))
        ax.set_title(f"{title}{ground_note(cube)}", fontsize=9, loc="left")
        ax.tick_params(labelsize=7)
        ax.set(xlabel="", ylabel="")
    _key(figure, close_up_key(shown), (0.09, 0.593), size=8.0)


def _draw_series(figure: Any, found: Findings, lake: str) -> None:
    own = found.series.sel(lake=[lake])
    ax = area_series(own, ax=figure.add_axes(_SERIES), emphasise=lake, alerts=found.alerts)
    ax.tick_params(labelsize=8)
    _key(figure, series_key(own, emphasise=lake, alerts=found.alerts), (0.05, 0.336), size=7.5)


def _key(figure: Any, handles: list[Any], place: tuple[float, float], *, size: float) -> None:
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=place, ncols=4, frameon=False, fontsize=size
    )


def _write_head(figure: Any, cube: xr.Dataset, seg: xr.Dataset, found: Findings, lake: str) -> None:
    title = found.title(lake)
    size = 17 if len(title) < 42 else 11
    figure.text(_LEFT, 0.962, title, fontsize=size, fontweight="bold", va="center")
    lines = [place_words(found, lake, cube), f"{source_line(found, seg)} {hash_words(seg)}."]
    if known := inventory_words(found.polygons, lake):
        lines.append(known)
    if caveat := seg.attrs.get("caveat"):
        lines.append(f"Caveat: {caveat}.")
    if is_simulated(cube):
        lines.append("Simulated data: no satellite saw this.")
    height = 0.942
    for line in lines:
        for part in textwrap.wrap(str(line), 118):
            figure.text(_LEFT, height, part, fontsize=8.5, va="top", color="0.2")
            height -= _LINE


def _write_pairs(figure: Any, title: str, pairs: list[tuple[str, str]], height: float) -> None:
    figure.text(_LEFT, height, title, fontsize=10, fontweight="bold", va="top")
    height -= 1.5 * _LINE
    for name, value in pairs:
        parts = textwrap.wrap(value, 46) or [""]
        if height - _LINE * len(parts) < _FLOOR:
            return
        figure.text(_LEFT, height, name, fontsize=7.5, va="top", color="0.35")
        for part in parts:
            figure.text(_LEFT + 0.19, height, part, fontsize=7.5, va="top")
            height -= _LINE
        height -= 0.15 * _LINE


def _write_list(figure: Any, title: str, lines: list[str], height: float) -> float:
    """Lines in the right column; the height that is left."""
    figure.text(_MIDDLE, height, title, fontsize=10, fontweight="bold", va="top")
    height -= 1.5 * _LINE
    for line in lines:
        for part in textwrap.wrap(line, 58):
            if height < _FLOOR + _LINE:
                figure.text(_MIDDLE, height, "and more", fontsize=7.5, va="top")
                return _FLOOR
            figure.text(_MIDDLE, height, part, fontsize=7.5, va="top")
            height -= _LINE
        height -= 0.25 * _LINE
    return height - 0.6 * _LINE
