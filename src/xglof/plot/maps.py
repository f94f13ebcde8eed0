"""Maps of one date: true colour, a layer, outlines of lakes, and what was not observed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.bands import resolve
from xglof.cube.card_facts import day
from xglof.errors import CubeError
from xglof.lakes.layer import UNOBSERVED, lake_layer, north_up
from xglof.lakes.pixels import flag_layer, requested
from xglof.plot.frame import Frame, frame_of
from xglof.plot.labels import casing, write_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    import geopandas

# apart in hue and lightness for every kind of colour vision
MODEL_COLOUR, TRUTH_COLOUR = "#ffe14d", "#ff5ad1"
TRUTH_DASHES = (0, (3, 2))
_MAX_PX = 1200  # of a drawn raster's longer side
_BRIGHTEST = 0.3  # reflectance drawn white: snow saturates, rock and water do not
_GAMMA = 1.4
_NODATA_GREY = 0.87
_TRUE_COLOUR = ("B04", "B03", "B02")
_RADAR_DB = (-25.0, 0.0)  # of VV, drawn black and white: water lies below -15, rock and firn above -12


def true_colour(cube_step: xr.Dataset, ax: Any = None) -> Any:
    """Axes with one date in true colour, reflectance from 0 to 0.3, gamma 1.4, no data light grey.

    Parameters
    ----------
    cube_step
        ``B04``, ``B03``, ``B02`` (or their aliases), ``(y, x)``, reflectance x 10,000, nodata 0.
    ax
        matplotlib Axes to draw on; ``None`` for a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        North up, in kilometres of the projection or degrees, with a scale bar.

    Raises
    ------
    CubeError
        A band or the CRS is missing, a rotated grid, or more than one date.
    """
    cube_step = cube_step.rename(resolve(cube_step.variables))
    missing = [name for name in _TRUE_COLOUR if name not in cube_step]
    if missing:
        raise CubeError(f"true colour needs B04, B03 and B02; missing: {', '.join(missing)}")
    bands = [thinned(cube_step[name]) for name in _TRUE_COLOUR]
    raw = np.stack([band.to_numpy() for band in bands], axis=-1)
    light = np.clip(raw / 10_000 / _BRIGHTEST, 0, 1) ** (1 / _GAMMA)
    light[(raw == 0).any(axis=-1)] = _NODATA_GREY
    return drawn(light, bands[0].odc.geobox, ax)


def map_lakes(
    cube: xr.Dataset,
    lakes: geopandas.GeoDataFrame,
    truth: geopandas.GeoDataFrame | None = None,
    seg: xr.Dataset | xr.DataArray | None = None,
    time: Any = None,
    ax: Any = None,
    *,
    label: bool | Sequence[str] = False,
) -> Any:
    """Axes with the lakes of one date over true colour, else over radar in grey, else over plain grey.

    Parameters
    ----------
    cube
        As :func:`xglof.open_cube` returns it.
    lakes, truth
        Polygons in any CRS, tracked or not: solid, and dashed. Where they have dates (``time``), those of the
        map's date.
    seg
        Segmentation; what it was asked for and did not observe is hatched, what it was not asked for (the
        flag ``not_requested``) lies under a plain pale veil.
    time
        Date; may be left out where there is one only. A day is enough where it has one observation.
    ax
        matplotlib Axes to draw on; ``None`` for a new figure, which gets a key.
    label
        Write the ``lake_id`` of the eight largest lakes of the date beside them, or of the lakes named.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    CubeError
        No such date; polygons or cube without CRS, or on a rotated grid; ``label`` without ``lake_id``.
    """
    step = at_date(cube, time)
    step = step.rename(resolve(step.variables))
    own = ax is None
    ax = _ground(step, ax)
    veils = () if seg is None else _veil(at_date(seg, time), ax)
    date = step["time"].to_numpy() if "time" in step.coords else None
    outline(ax, lakes, step, date, color=MODEL_COLOUR, linestyle="solid", width=1.5)
    if truth is not None:
        outline(ax, truth, step, date, color=TRUTH_COLOUR, linestyle=TRUTH_DASHES, width=1.3)
    if label is not False:
        write_ids(ax, of_date(lakes, date), _any_layer(step).odc.geobox, None if label is True else [*label])
    if own:
        key = map_key(
            truth=truth is not None, unobserved="unobserved" in veils, not_requested="not requested" in veils
        )
        ax.figure.legend(handles=key, loc="outside lower center", ncols=len(key), frameon=False)
    return ax


def map_key(*, truth: bool = False, unobserved: bool = True, not_requested: bool = False) -> list[Any]:
    """Handles of a legend for what :func:`map_lakes` draws."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    key: list[Any] = [
        Line2D([], [], color=MODEL_COLOUR, lw=2, path_effects=casing(3.5), label="mapped outline")
    ]
    if truth:
        key.append(Line2D([], [], color=TRUTH_COLOUR, lw=2, ls=TRUTH_DASHES, label="true outline"))
    if unobserved:
        key.append(Patch(facecolor="white", edgecolor="0.3", hatch="////", label="unobserved"))
    if not_requested:
        key.append(Patch(facecolor="0.85", edgecolor="0.6", label="not requested"))
    return key


def ground_note(cube: xr.Dataset) -> str:
    """What a map's title adds on the ground under the outlines: nothing where it is in true colour."""
    held = cube.rename(resolve(cube.variables)).variables
    if all(name in held for name in _TRUE_COLOUR):
        return ""
    return ", over radar (VV)" if "vv" in held else ", no picture of the ground"


def _ground(step: xr.Dataset, ax: Any) -> Any:
    """Axes with one date in the best picture that a cube (names resolved) has of the ground."""
    if all(name in step for name in _TRUE_COLOUR):
        return true_colour(step, ax)
    if "vv" in step:
        layer = thinned(step["vv"])
        decibels = layer.to_numpy()
        grey = (decibels - _RADAR_DB[0]) / (_RADAR_DB[1] - _RADAR_DB[0])
        grey = np.where(np.isnan(decibels), _NODATA_GREY, grey)
    else:
        layer = thinned(_any_layer(step))
        grey = np.full(layer.shape, _NODATA_GREY)
    return drawn(grey, layer.odc.geobox, ax, cmap="gray", vmin=0, vmax=1)


def _any_layer(step: xr.Dataset) -> xr.DataArray:
    """A variable of a dataset that has a grid."""
    for variable in step.data_vars.values():
        if variable.odc.spatial_dims is not None:
            return variable
    raise CubeError(f"no variable with a grid among {sorted(map(str, step.data_vars))}; expected a cube")


def new_axes(ax: Any, size: tuple[float, float]) -> Any:
    """The axes, or those of a new figure of a size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained").add_subplot() if ax is None else ax


def at_date(data: Any, time: Any) -> Any:
    """The one step of a dataset or array at a date."""
    if "time" not in data.dims:
        return data
    if time is None:
        found = data
    else:
        try:
            found = data.sel(time=time)
        except KeyError as error:
            dates = ", ".join(day(t) for t in data["time"].to_numpy())
            raise CubeError(f"no observation at {time}; expected one of {dates}") from error
    if "time" in found.dims:
        if found.sizes["time"] != 1:
            raise CubeError(
                f"time={time} means {found.sizes['time']} observations; give one of the cube's dates"
            )
        found = found.isel(time=0)
    return found


def thinned(layer: xr.DataArray) -> xr.DataArray:
    """A layer in memory, north-up, with no more pixels than a screen shows."""
    if layer.ndim != 2:
        raise CubeError(
            f"a map needs one date, the layer has dims {layer.dims}; select one with .sel(time=...)"
        )
    layer = north_up(layer)
    step = max(math.ceil(max(layer.shape) / _MAX_PX), 1)
    return layer.isel({dim: slice(None, None, step) for dim in layer.dims}).load()


def drawn(image: NDArray[Any], grid: Any, ax: Any, **style: Any) -> Any:
    """Axes with a north-up raster, axes labels and a scale bar."""
    ax = new_axes(ax, (7, 7))
    frame = frame_of(grid)
    ax.imshow(image, extent=frame.extent, interpolation="nearest", **style)
    ax.set_aspect(frame.aspect)
    ax.set_xlabel(frame.labels[0])
    ax.set_ylabel(frame.labels[1])
    ax.ticklabel_format(useOffset=False)
    ax.locator_params(nbins=5)
    _scale_bar(ax, frame)
    return ax


def _scale_bar(ax: Any, frame: Frame) -> None:
    west, east, south, north = frame.extent
    wanted = (east - west) * frame.metres / 5
    power = 10.0 ** math.floor(math.log10(wanted))
    metres = max(n for n in (1, 2, 5) if n * power <= wanted) * power
    x, y = west + 0.04 * (east - west), south + 0.04 * (north - south)
    ends = [x, x + metres / frame.metres]
    ax.plot(ends, [y, y], color="white", lw=4, solid_capstyle="butt", path_effects=casing(6), zorder=6)
    text = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
    ax.annotate(
        text,
        (sum(ends) / 2, y),
        (0, 5),
        textcoords="offset points",
        ha="center",
        va="bottom",
        color="white",
        fontsize=10,
        path_effects=casing(3),
        zorder=6,
    )


def _veil(step: xr.Dataset | xr.DataArray, ax: Any) -> tuple[str, ...]:
    """Hatch what was not observed, pale what was not requested; which of the two a map has."""
    layer = lake_layer(step)
    flags = flag_layer(step, layer)
    layer = thinned(layer)
    hidden = layer.to_numpy() == UNOBSERVED
    asked = hidden | True if flags is None else thinned(requested(flags)).to_numpy()
    grid = layer.odc.geobox
    drawn_veils = []
    for name, where, colour, hatch in (
        ("not requested", ~asked, "#ffffff80", ""),
        ("unobserved", hidden & asked, "#ffffff30", "////"),
    ):
        if where.any():
            _shade(where, grid, ax, colour, hatch)
            drawn_veils.append(name)
    return tuple(drawn_veils)


def has_hatching(ax: Any) -> bool:
    """Whether a map shows something that was not observed."""
    return any(hatch for veil in ax.collections for hatch in getattr(veil, "hatches", ()))


def _shade(where: NDArray[np.bool_], grid: Any, ax: Any, colour: str, hatch: str) -> None:
    frame = frame_of(grid)
    closed = np.pad(where, 1)  # at the grid's edge, where contours end
    x = (grid.transform.c + grid.resolution.x * (np.arange(closed.shape[1]) - 0.5)) * frame.scale
    y = (grid.transform.f + grid.resolution.y * (np.arange(closed.shape[0]) - 0.5)) * frame.scale
    veil = ax.contourf(x, y, closed, levels=[0.5, 1.5], colors=[colour], hatches=[hatch])
    veil.set_edgecolor("#303030")
    veil.set_linewidth(0)
    ax.set_xlim(frame.extent[:2])
    ax.set_ylim(frame.extent[2:])


def of_date(lakes: Any, date: Any) -> Any:
    """The rows of a date; all of polygons without dates.

    Raises
    ------
    CubeError
        The polygons have no CRS.
    """
    if lakes.crs is None:
        raise CubeError("the GeoDataFrame of lakes has no CRS; set the one its numbers are in with set_crs()")
    if date is not None and "time" in lakes and lakes["time"].notna().any():
        return lakes[lakes["time"] == date]
    return lakes


def outline(
    ax: Any, lakes: Any, step: xr.Dataset, date: Any, *, color: str, linestyle: Any, width: float
) -> None:
    """Draw the polygons of a date, or all where that is ``None``, on axes with the grid of ``step``."""
    import shapely
    from matplotlib.collections import LineCollection

    lakes = of_date(lakes, date)
    grid = _any_layer(step).odc.geobox
    polygons = shapely.get_parts(lakes.geometry.to_crs(grid.crs.wkt).to_numpy())
    rings = [shapely.get_coordinates(ring) * frame_of(grid).scale for ring in shapely.get_rings(polygons)]
    halo = casing(width + 1.2) if linestyle == "solid" else []
    lines = LineCollection(rings, colors=color, linestyles=[linestyle], linewidths=width, path_effects=halo)
    ax.add_collection(lines, autolim=False)
