"""One figure of a run: maps around its clearest alert, the probability, areas through time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.cube.card_facts import day
from xglof.plot.alert_words import alert_line
from xglof.plot.dates import telling_dates
from xglof.plot.frame import frame_of
from xglof.plot.labels import write_name
from xglof.plot.maps import at_date, drawn, ground_note, map_key, map_lakes, thinned
from xglof.plot.series import area_series, days_of, series_key

if TYPE_CHECKING:
    import geopandas
    import pandas

# places in the figure, from 0 to 1: a layout engine leaves other gaps for every shape of map
_MAPS = ((0.055, 0.485, 0.265, 0.42), (0.37, 0.485, 0.265, 0.42), (0.68, 0.485, 0.265, 0.42))
_SERIES = (0.055, 0.125, 0.82, 0.285)
_COLUMNS = 5  # of the key: more are wider than the figure


def overview(
    cube: xr.Dataset,
    seg: xr.Dataset,
    lakes: geopandas.GeoDataFrame,
    ts: xr.Dataset,
    *,
    truth_lakes: geopandas.GeoDataFrame | None = None,
    path: str | os.PathLike[str] | None = None,
    alerts: pandas.DataFrame | None = None,
    title: str = "",
    caveat: str = "",
) -> Any:
    """Figure of a whole run: maps around its clearest alert, the probability, areas through time.

    A drainage comes before an expansion, and of the same kind the change of the most sigmas.

    Parameters
    ----------
    cube, seg
        Cube, drawn in true colour or else by its radar, and its segmentation with ``lake`` and
        ``lake_probability``.
    lakes, ts
        What :func:`xglof.lakes.find_lakes` and :func:`xglof.lakes.lake_area` made of ``seg``.
    truth_lakes
        True polygons with ``time`` and, for the true areas, ``area_m2``.
    path
        Where to write a PNG, 1600 px wide; ``None`` writes none.
    alerts
        What :func:`xglof.lakes.find_alerts` found in ``ts``; ``None`` for none.
    title
        Of the figure.
    caveat
        Line under the title, as "demonstration model trained on simulated scenes".

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    CubeError
        As :func:`map_lakes` and :func:`area_series`.
    """
    from matplotlib.figure import Figure

    ts = ts.load()
    alert = _clearest(alerts)
    emphasised = None if alert is None else str(alert["lake"])
    dates = telling_dates(cube, ts, alert)
    figure = Figure(figsize=(16, 10.4), dpi=100)
    panels = [figure.add_axes(rectangle) for rectangle in _MAPS]
    for when, date, ax in zip(("before", "after"), dates, panels[:2], strict=True):
        map_lakes(cube, lakes, truth_lakes, seg, date, ax)
        note = f", {when} the {alert['kind']}" if alert else ""
        ax.set_title(f"{day(date)}{note}{ground_note(cube)}", fontsize=12, loc="left")
        _name_lake(ax, ts, emphasised, cube.odc.geobox)
    _draw_probability(seg, dates[1], panels[2])
    _align(panels)
    truth = None if truth_lakes is None else true_areas(lakes, truth_lakes, ts)
    ax = area_series(ts, truth, figure.add_axes(_SERIES), emphasise=emphasised, alerts=alerts)
    for date in dates:
        ax.axvline(float(days_of(date)), color="0.7", lw=1, zorder=0)
    if alert:
        ax.set_title(alert_line(alert), fontsize=12, loc="left")
    _head(figure, title, caveat)
    key = map_key(truth=truth_lakes is not None)
    key += series_key(ts, emphasise=emphasised, truth=truth is not None)
    figure.legend(handles=key, loc="lower center", ncols=min(len(key), _COLUMNS), frameon=False, fontsize=11)
    if path is not None:
        figure.savefig(path, dpi=100, format="png")
    return figure


def _align(panels: list[Any]) -> None:
    """Maps level at the top, with one label of the northing."""
    for ax in panels:
        ax.set_anchor("N")
    for ax in panels[1:]:
        ax.set_ylabel("")


def _clearest(alerts: pandas.DataFrame | None) -> dict[str, Any] | None:
    """The drainage of the most sigmas, else the expansion."""
    if alerts is None or not len(alerts):
        return None
    order = np.lexsort((-alerts["change_sigmas"].abs(), alerts["kind"] != "drainage"))
    return dict(alerts.iloc[order[0]])


def true_areas(
    lakes: geopandas.GeoDataFrame, truth_lakes: geopandas.GeoDataFrame, ts: xr.Dataset
) -> xr.DataArray | None:
    """True area (m2), ``(lake, time)``, of the lakes of a series; ``None`` where the truth has no areas.

    A true polygon counts for the mapped footprint of the largest intersection over union: a part that split
    off lies in its own footprint and in that of the lake it was, and is more like its own. Lakes that another
    one holds at a date (``part_of``) are passed over. 0 where a lake was not there.
    """
    import shapely

    from xglof.lakes.footprints import footprints
    from xglof.lakes.tracking import track

    if "area_m2" not in truth_lakes or "time" not in truth_lakes:
        return None
    found = footprints(lakes if "lake_id" in lakes else track(lakes), lakes.crs)
    shapes = truth_lakes.geometry.to_crs(lakes.crs).to_numpy()
    times = ts["time"].to_numpy().astype("datetime64[ns]")  # of any unit; tolist() gives whole numbers
    steps = dict(zip(times.tolist(), range(len(times)), strict=True))
    held = _held(ts, found.ids)
    whole = shapely.area(found.geometry)
    areas = np.zeros((len(found.ids), ts.sizes["time"]))
    dates = truth_lakes["time"].to_numpy("datetime64[ns]").tolist()
    for shape, date, area in zip(shapes, dates, truth_lakes["area_m2"], strict=True):
        if date in steps:
            shared = shapely.area(shapely.intersection(found.geometry, shape))
            shared[held[:, steps[date]]] = 0
            if shared.max(initial=0) > 0:
                alike = shared / (whole + shape.area - shared)
                areas[int(np.argmax(alike)), steps[date]] += area
    coords = {"lake": found.ids, "time": ts["time"].to_numpy()}
    known = xr.DataArray(areas, dims=("lake", "time"), coords=coords)
    return known.sel(lake=[name for name in ts["lake"].values if name in known["lake"]])


def _held(ts: xr.Dataset, ids: list[str]) -> NDArray[np.bool_]:
    """Where another lake holds a lake's place, ``(lake, time)`` for ids that a series may lack."""
    held = np.zeros((len(ids), ts.sizes["time"]), bool)
    if "part_of" in ts:
        holder = ts["part_of"].transpose("lake", "time").to_numpy()
        rows = {str(name): row for row, name in enumerate(ts["lake"].values)}
        for place, name in enumerate(ids):
            if name in rows:
                held[place] = holder[rows[name]] != rows[name]
    return held


def _name_lake(ax: Any, ts: xr.Dataset, name: str | None, grid: Any) -> None:
    if name is not None:
        scale = frame_of(grid).scale
        x, y = (float(ts[axis].sel(lake=name)) * scale for axis in "xy")
        write_name(ax, name, x, y)


def _draw_probability(seg: xr.Dataset, date: Any, ax: Any) -> None:
    from matplotlib import colormaps

    layer = thinned(at_date(seg, date)["lake_probability"])
    colours = colormaps["cividis"].with_extremes(bad="0.87")
    drawn(layer.to_numpy(), layer.odc.geobox, ax, cmap=colours, vmin=0, vmax=1)
    bar = ax.figure.colorbar(ax.images[0], cax=ax.inset_axes((1.03, 0, 0.04, 1)))
    bar.set_label("lake probability (light grey: unobserved)")
    ax.set_title(f"{day(date)}, probability", fontsize=12, loc="left")


def _head(figure: Any, title: str, caveat: str) -> None:
    text = "\n".join(filter(None, (title, caveat)))
    figure.suptitle(text, x=_MAPS[0][0], y=0.985, ha="left", va="top", fontsize=15)
