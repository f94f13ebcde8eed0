"""One map a year of a place or of a lake, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xglof.bands import resolve
from xglof.cube.card_facts import day
from xglof.errors import CubeError
from xglof.plot.dates import clearest_of_years
from xglof.plot.frame import frame_of
from xglof.plot.labels import casing
from xglof.plot.maps import at_date, map_key, map_lakes, of_date, outline

if TYPE_CHECKING:
    import geopandas

FIRST_COLOUR = "#4de1ff"
_DASHES = (0, (4, 2))
_MOST_COLUMNS = 4
_PANEL_INCH = 3.1
_LEAST_SIDE_M = 400.0  # of a window on a lake: a pond alone tells nothing of its place
_MARGIN = 0.6  # of the lake's larger side, on each side


def small_multiples(
    cube: xr.Dataset,
    lakes: geopandas.GeoDataFrame,
    seg: xr.Dataset | xr.DataArray | None = None,
    *,
    lake: str | None = None,
    years: Sequence[int] | None = None,
) -> Any:
    """Figure with a map a year: its clearest date in the months of open water, all of the same place.

    The outlines of the date are solid, those of the first year that has any dashed and in another colour.
    A year without a date in those months (:data:`xglof.lakes.seasons.OPEN_WATER`) shows its clearest other
    one and says so.

    Parameters
    ----------
    cube
        As :func:`xglof.open_cube` returns it, ``(time, y, x)``.
    lakes
        Polygons with ``time``, and ``lake_id`` where ``lake`` is given.
    seg
        Segmentation; what it did not observe is hatched.
    lake
        Id of the lake to zoom to: a window around all its outlines.
    years
        Years to show; ``None`` for all that have a date.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    CubeError
        The cube has no time or no date in the years, or there is no such lake.
    """
    if "time" not in cube.dims:
        raise CubeError("the cube has no time; a map a year needs one with dates")
    if lake is not None:
        bounds = lake_window(lakes, lake, cube.odc.geobox)
        cube, seg = cropped(cube, bounds), None if seg is None else cropped(seg, bounds)
    shown = clearest_of_years(cube, years=years)
    if not shown:
        raise CubeError(f"the cube has no date in {list(years or [])}; give years of its dates")
    figure, panels = _panels(cube.odc.geobox, len(shown))
    first = _first_mapped(cube, lakes, [date for date, _ in shown.values()])
    for ax, (date, inside) in zip(panels, shown.values(), strict=False):
        map_lakes(cube, lakes, seg=seg, time=date, ax=ax)
        if first is not None and date != first:
            step = at_date(cube, date)
            step = step.rename(resolve(step.variables))
            outline(ax, lakes, step, first, color=FIRST_COLOUR, linestyle=_DASHES, width=1.3)
        ax.set_title(day(date) + ("" if inside else ", outside the season"), fontsize=10, loc="left")
        ax.set(xlabel="", ylabel="")
        ax.tick_params(labelsize=7)
        ax.locator_params(nbins=3)
    for ax in panels[len(shown) :]:
        ax.remove()
    if lake is not None:
        figure.suptitle(lake, x=0.01, ha="left", fontsize=12)
    figure.legend(
        handles=_key(first, with_seg=seg is not None), loc="outside lower center", ncols=4, frameon=False
    )
    return figure


def _panels(grid: Any, count: int) -> tuple[Any, Any]:
    """A figure and axes for maps of a grid, at most four side by side."""
    from matplotlib.figure import Figure

    frame = frame_of(grid)
    west, east, south, north = frame.extent
    ratio = float(np.clip((north - south) / (east - west) * frame.aspect, 0.4, 2.5))
    columns = min(count, _MOST_COLUMNS)
    rows = -(-count // columns)
    size = (_PANEL_INCH * columns, ((_PANEL_INCH - 0.45) * ratio + 0.5) * rows + 0.7)
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False).ravel()


def lake_window(lakes: Any, lake: str, grid: Any) -> tuple[float, float, float, float]:
    """West, south, east, north in the grid's CRS of a square window around all outlines of a lake.

    Raises
    ------
    CubeError
        The polygons have no ids, or none is this lake's.
    """
    if "lake_id" not in lakes or not (lakes["lake_id"] == lake).any():
        raise CubeError(
            f"no polygon has the lake_id {lake!r}; give those that track() returned and one of them"
        )
    own = of_date(lakes[lakes["lake_id"] == lake], None).to_crs(grid.crs.wkt)
    west, south, east, north = own.total_bounds
    metres = frame_of(grid).metres * frame_of(grid).scale  # of one unit of x
    half = max(max(east - west, north - south) * (0.5 + _MARGIN), _LEAST_SIDE_M / metres / 2)
    x, y = (west + east) / 2, (south + north) / 2
    return x - half, y - half, x + half, y + half


def cropped(data: Any, bounds: tuple[float, float, float, float]) -> Any:
    """The pixels of a cube or layer with their centres within bounds in its CRS, lazily.

    Raises
    ------
    CubeError
        No pixel lies there.
    """
    rows, columns = data.odc.spatial_dims
    west, south, east, north = bounds
    y, x = data[rows].to_numpy(), data[columns].to_numpy()
    inside = {
        rows: np.flatnonzero((y >= south) & (y <= north)),
        columns: np.flatnonzero((x >= west) & (x <= east)),
    }
    if not all(steps.size > 1 for steps in inside.values()):
        raise CubeError("the lake lies outside the cube; give the cube that it was mapped on")
    return data.isel({dim: slice(int(steps[0]), int(steps[-1]) + 1) for dim, steps in inside.items()})


def _first_mapped(cube: xr.Dataset, lakes: Any, dates: list[Any]) -> Any:
    """The first of the dates with an outline in the window."""
    grid = cube.odc.geobox
    west, south, east, north = grid.boundingbox.bbox
    near = lakes.to_crs(grid.crs.wkt).cx[west:east, south:north]
    return next((date for date in dates if "time" in near and len(of_date(near, date))), None)


def _key(first: Any, *, with_seg: bool) -> list[Any]:
    from matplotlib.lines import Line2D

    key = map_key(unobserved=with_seg)
    if first is not None:
        label = f"outline of {day(first)}"
        style: dict[str, Any] = {"color": FIRST_COLOUR, "lw": 2, "ls": _DASHES}
        key.insert(1, Line2D([], [], **style, path_effects=casing(3.5), label=label))
    return key
