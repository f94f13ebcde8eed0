"""Maps of one date: true colour, a layer, outlines of lakes, and what was not observed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.bands import resolve
from xglof.errors import CubeError
from xglof.lakes.events import day
from xglof.lakes.layer import UNOBSERVED, lake_layer, north_up, pixel_metres

if TYPE_CHECKING:
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


@dataclass(frozen=True, slots=True)
class Frame:
    """How a grid's coordinates are drawn: kilometres of a projection, or degrees."""

    scale: float
    extent: tuple[float, float, float, float]
    labels: tuple[str, str]
    aspect: float
    metres: float  # on the ground, of one drawn unit of x


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
) -> Any:
    """Axes with the lakes of one date over true colour, else over radar in grey, else over plain grey.

    Parameters
    ----------
    cube
        As :func:`xglof.open_cube` returns it.
    lakes, truth
        Polygons in any CRS: solid, and dashed. Where they have dates (``time``), those of the map's date.
    seg
        Segmentation; what it did not observe is hatched.
    time
        Date; may be left out where there is one only. A day is enough where it has one observation.
    ax
        matplotlib Axes to draw on; ``None`` for a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    CubeError
        No such date; polygons or cube without CRS, or on a rotated grid.
    """
    step = at_date(cube, time)
    step = step.rename(resolve(step.variables))
    ax = _ground(step, ax)
    if seg is not None:
        _hatch(lake_layer(at_date(seg, time)), ax)
    date = step["time"].to_numpy() if "time" in step.coords else None
    _outline(ax, lakes, step, date, color=MODEL_COLOUR, linestyle="solid", width=1.5)
    if truth is not None:
        _outline(ax, truth, step, date, color=TRUTH_COLOUR, linestyle=TRUTH_DASHES, width=1.3)
    return ax


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


def frame_of(grid: Any) -> Frame:
    """How a grid's coordinates are drawn."""
    west, south, east, north = grid.boundingbox.bbox
    geographic = grid.crs.geographic
    scale = 1.0 if geographic else 1e-3
    centre = np.array([(west + east) / 2]), np.array([(south + north) / 2])
    width, height, _ = (float(v[0]) for v in pixel_metres(grid, *centre))
    x_metres, y_metres = width / abs(grid.resolution.x) / scale, height / abs(grid.resolution.y) / scale
    labels = ("longitude, °E", "latitude, °N") if geographic else ("easting, km", "northing, km")
    extent = (west * scale, east * scale, south * scale, north * scale)
    return Frame(scale, extent, labels, y_metres / x_metres, x_metres)


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


def casing(width: float) -> list[Any]:
    """A dark rim that sets a line or a text off from any ground."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width, foreground="black")]


def _hatch(layer: xr.DataArray, ax: Any) -> None:
    """A pale hatched veil over what was not observed."""
    layer = thinned(layer)
    hidden = np.pad(layer.to_numpy() == UNOBSERVED, 1)  # closed at the grid's edge, where contours end
    if not hidden.any():
        return
    grid, frame = layer.odc.geobox, frame_of(layer.odc.geobox)
    x = (grid.transform.c + grid.resolution.x * (np.arange(hidden.shape[1]) - 0.5)) * frame.scale
    y = (grid.transform.f + grid.resolution.y * (np.arange(hidden.shape[0]) - 0.5)) * frame.scale
    veil = ax.contourf(x, y, hidden, levels=[0.5, 1.5], colors=["#ffffff30"], hatches=["////"])
    veil.set_edgecolor("#303030")
    veil.set_linewidth(0)
    ax.set_xlim(frame.extent[:2])
    ax.set_ylim(frame.extent[2:])


def _outline(
    ax: Any, lakes: Any, step: xr.Dataset, date: Any, *, color: str, linestyle: Any, width: float
) -> None:
    import shapely
    from matplotlib.collections import LineCollection

    if lakes.crs is None:
        raise CubeError("the GeoDataFrame of lakes has no CRS; set the one its numbers are in with set_crs()")
    if date is not None and "time" in lakes and lakes["time"].notna().any():
        lakes = lakes[lakes["time"] == date]
    grid = _any_layer(step).odc.geobox
    polygons = shapely.get_parts(lakes.geometry.to_crs(grid.crs.wkt).to_numpy())
    rings = [shapely.get_coordinates(ring) * frame_of(grid).scale for ring in shapely.get_rings(polygons)]
    halo = casing(width + 1.2) if linestyle == "solid" else []
    lines = LineCollection(rings, colors=color, linestyles=[linestyle], linewidths=width, path_effects=halo)
    ax.add_collection(lines, autolim=False)
