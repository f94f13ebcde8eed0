"""One figure of a run: maps around the clearest drop of area, the probability, areas through time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xglof.cube.flags import Flag
from xglof.lakes.events import Drop, day, drop_sentence, largest_drop
from xglof.plot.maps import (
    MODEL_COLOUR,
    TRUTH_COLOUR,
    TRUTH_DASHES,
    at_date,
    casing,
    drawn,
    frame_of,
    ground_note,
    map_lakes,
    thinned,
)
from xglof.plot.series import area_series, days_of

if TYPE_CHECKING:
    import geopandas

# places in the figure, from 0 to 1: a layout engine leaves other gaps for every shape of map
_MAPS = ((0.055, 0.485, 0.265, 0.42), (0.37, 0.485, 0.265, 0.42), (0.68, 0.485, 0.265, 0.42))
_SERIES = (0.055, 0.085, 0.82, 0.32)
_PER_STEP = 0.15  # how much clearer a date must be to be shown instead of the one nearer to the drop
_HIDES_GROUND = Flag.s2_nodata | Flag.cloud | Flag.cloud_shadow | Flag.snow


def overview(
    cube: xr.Dataset,
    seg: xr.Dataset,
    lakes: geopandas.GeoDataFrame,
    ts: xr.Dataset,
    truth_lakes: geopandas.GeoDataFrame | None = None,
    path: str | os.PathLike[str] | None = None,
    *,
    title: str = "",
    caveat: str = "",
) -> Any:
    """Figure of a whole run: maps around the clearest drop of area, the probability, areas through time.

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
    drop = largest_drop(ts)
    emphasised = drop.lake if drop else None
    dates = _telling_dates(cube, ts, drop)
    figure = Figure(figsize=(16, 10.4), dpi=100)
    panels = [figure.add_axes(rectangle) for rectangle in _MAPS]
    for when, date, ax in zip(("before", "after"), dates, panels[:2], strict=True):
        map_lakes(cube, lakes, truth_lakes, seg, date, ax)
        note = f", {when} the clearest drop" if drop else ""
        ax.set_title(f"{day(date)}{note}{ground_note(cube)}", fontsize=12, loc="left")
        _name_lake(ax, ts, emphasised, cube.odc.geobox)
    _draw_probability(seg, dates[1], panels[2])
    for ax in panels:
        ax.set_anchor("N")
    for ax in panels[1:]:
        ax.set_ylabel("")
    truth = None if truth_lakes is None else true_areas(lakes, truth_lakes, ts)
    ax = area_series(ts, truth, figure.add_axes(_SERIES), emphasise=emphasised)
    for date in dates:
        ax.axvline(float(days_of(date)), color="0.7", lw=1, zorder=0)
    if drop:
        ax.set_title(drop_sentence(ts, drop), fontsize=12, loc="left")
    _head(figure, title, caveat, with_truth=truth_lakes is not None)
    if path is not None:
        figure.savefig(path, dpi=100, format="png")
    return figure


def _telling_dates(cube: xr.Dataset, ts: xr.Dataset, drop: Drop | None) -> tuple[Any, Any]:
    """The clearest date of up to three on each side of a drop, else of the first and the last half."""
    times = ts["time"].to_numpy()
    clear = _clear_share(cube, times)
    if drop is None:
        half = (len(times) + 1) // 2
        sides = np.arange(half), np.arange(min(half, len(times) - 1), len(times))
    else:
        known = np.flatnonzero(np.isfinite(ts["area"].sel(lake=drop.lake).to_numpy()))
        sides = known[known <= drop.before][-3:], known[known >= drop.after][:3]
    near = sides[0][::-1], sides[1]
    before, after = (side[np.argmax(clear[side] - _PER_STEP * np.arange(len(side)))] for side in near)
    return times[before], times[after]


def _clear_share(cube: xr.Dataset, times: Any) -> Any:
    """Share of the scene that true colour shows at each date; 1 where nothing is known of it."""
    if "flags" not in cube or "time" not in cube["flags"].dims:
        return np.ones(len(times))
    hidden = (cube["flags"].sel(time=times) & np.uint16(_HIDES_GROUND)) != 0
    return 1 - hidden.mean([dim for dim in hidden.dims if dim != "time"]).to_numpy()


def true_areas(
    lakes: geopandas.GeoDataFrame, truth_lakes: geopandas.GeoDataFrame, ts: xr.Dataset
) -> xr.DataArray | None:
    """True area (m2), ``(lake, time)``, of the lakes of a series; ``None`` where the truth has no areas.

    A true polygon counts for the mapped footprint that it covers most of; 0 where a lake was not there.
    """
    import shapely

    from xglof.lakes.footprints import footprints

    if "area_m2" not in truth_lakes or "time" not in truth_lakes:
        return None
    found = footprints(lakes, lakes.crs)
    shapes = truth_lakes.geometry.to_crs(lakes.crs).to_numpy()
    times = ts["time"].to_numpy().astype("datetime64[ns]")  # of any unit; tolist() gives whole numbers
    steps = dict(zip(times.tolist(), range(len(times)), strict=True))
    areas = np.zeros((len(found.ids), ts.sizes["time"]))
    dates = truth_lakes["time"].to_numpy("datetime64[ns]").tolist()
    for shape, date, area in zip(shapes, dates, truth_lakes["area_m2"], strict=True):
        shared = shapely.area(shapely.intersection(found.geometry, shape))
        if date in steps and shared.max(initial=0) > 0:
            areas[int(np.argmax(shared)), steps[date]] += area
    coords = {"lake": found.ids, "time": ts["time"].to_numpy()}
    known = xr.DataArray(areas, dims=("lake", "time"), coords=coords)
    return known.sel(lake=[name for name in ts["lake"].values if name in known["lake"]])


def _name_lake(ax: Any, ts: xr.Dataset, name: str | None, grid: Any) -> None:
    if name is None:
        return
    scale = frame_of(grid).scale
    place = float(ts["x"].sel(lake=name)) * scale, float(ts["y"].sel(lake=name)) * scale
    (west, east), (south, north) = ax.get_xlim(), ax.get_ylim()
    right, up = place[0] < (west + east) / 2, place[1] < (south + north) / 2  # the label points to the middle
    ax.annotate(
        name,
        place,
        (45 if right else -45, 45 if up else -45),
        textcoords="offset points",
        ha="left" if right else "right",
        va="center",
        color="white",
        fontsize=10,
        fontweight="bold",
        path_effects=casing(2.5),
        zorder=7,
        arrowprops={"arrowstyle": "-", "color": "white", "lw": 1},
    )


def _draw_probability(seg: xr.Dataset, date: Any, ax: Any) -> None:
    from matplotlib import colormaps

    layer = thinned(at_date(seg, date)["lake_probability"])
    colours = colormaps["cividis"].with_extremes(bad="0.87")
    drawn(layer.to_numpy(), layer.odc.geobox, ax, cmap=colours, vmin=0, vmax=1)
    bar = ax.figure.colorbar(ax.images[0], cax=ax.inset_axes((1.03, 0, 0.04, 1)))
    bar.set_label("lake probability (light grey: unobserved)")
    ax.set_title(f"{day(date)}, probability", fontsize=12, loc="left")


def _head(figure: Any, title: str, caveat: str, *, with_truth: bool) -> None:
    """Title and caveat at the left, the key of lines and markers below the figure."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    figure.suptitle(
        "\n".join(filter(None, (title, caveat))), x=_MAPS[0][0], y=0.985, ha="left", va="top", fontsize=15
    )
    grey: dict[str, Any] = {"color": "0.3", "ls": "none", "marker": "o"}
    key: list[Any] = [
        Line2D([], [], color=MODEL_COLOUR, lw=2, path_effects=casing(3.5), label="mapped outline")
    ]
    if with_truth:
        key.append(Line2D([], [], color=TRUTH_COLOUR, lw=2, ls=TRUTH_DASHES, label="true outline"))
    key += [
        Patch(facecolor="white", edgecolor="0.3", hatch="////", label="unobserved"),
        Line2D([], [], **grey, label="area, 1 sigma"),
        Line2D([], [], color="0.3", alpha=0.3, lw=5, label="bounds"),
        Line2D([], [], **grey, mfc="white", label="too little observed"),
        Line2D([], [], **(grey | {"marker": "s"}), mfc="white", label="frozen"),
    ]
    if with_truth:
        key.append(Line2D([], [], color="0.3", lw=1, ls=(0, (4, 2)), label="true area"))
    figure.legend(handles=key, loc="lower center", ncols=len(key), frameon=False, fontsize=11)
