"""Tiles: lake layers side by side on one lattice of pixels, their places counted in whole pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.cube.pixel_grid import SNAP_PX, PixelGrid, Window
from xglof.errors import CubeError
from xglof.lakes.layer import lake_layer

_BLOCK_PX = 2016  # side of a block of layers that have no chunks of their own, as segment() has them
_STEP_SHARE = 1e-9  # sizes of pixels further apart drift by a thousandth of a pixel within a million

Segmentations = xr.Dataset | xr.DataArray | Sequence[xr.Dataset | xr.DataArray]


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """One lake layer and its place on the lattice.

    Attributes
    ----------
    values
        Dask array ``(time, y, x)`` uint8, north-up: 0 land, 1 lake, 255 unobserved.
    times
        ``(time,)`` datetime64[ns]; one NaT where the layer has no time.
    window
        Absolute rows and columns.
    """

    values: Any
    times: NDArray[np.datetime64]
    window: Window


@dataclass(frozen=True, slots=True, eq=False)
class Tiling:
    """Tiles of one lattice, none over another at the same date.

    Attributes
    ----------
    tiles
        In the order given.
    lattice
        Their pixels, without bounds. Its phase is rounded to a millionth of a pixel, so that a part of a map
        and the whole have the same lattice.
    """

    tiles: tuple[Tile, ...]
    lattice: PixelGrid


def tile_segmentations(seg: Segmentations) -> Tiling:
    """The lake layers of one segmentation or several, placed on one lattice, lazily.

    Parameters
    ----------
    seg
        What :func:`xglof.lakes.layer.lake_layer` takes, or a sequence of it.

    Raises
    ------
    CubeError
        What ``lake_layer`` raises; no segmentation; some with dates and some without; a missing date; other
        CRS, pixel sizes or pixel lines than those of the first; two over the same pixels at the same date.
    """
    layers = [lake_layer(each) for each in segmentations(seg)]
    grids = [layer.odc.geobox for layer in layers]
    placed = [PixelGrid.of(grid) for grid in grids]
    for number, (grid, (lattice, window)) in enumerate(zip(grids, placed, strict=True)):
        if grid.crs != grids[0].crs:
            raise CubeError(
                f"seg[{number}] is in {_short(grid.crs)} and seg[0] in {_short(grids[0].crs)}; expected "
                "tiles of one grid: reproject one of them, or find the lakes of each CRS apart"
            )
        _check_lattice(number, lattice, window, placed[0][0])
    # not the first given: the polygons must not depend on the order of the tiles
    first = min(range(len(placed)), key=lambda number: (placed[number][1].top, placed[number][1].left))
    lattice = placed[first][0]
    windows = [_on(lattice, *each) for each in placed]
    times = [_times(number, layer) for number, layer in enumerate(layers)]
    _check_times(layers)
    _check_overlap(windows, times)
    values = [_blocks(layer) for layer in layers]
    return Tiling(tuple(map(Tile, values, times, windows)), lattice)


def segmentations(seg: Segmentations) -> list[xr.Dataset | xr.DataArray]:
    """One segmentation or a sequence of them as a list.

    Raises
    ------
    CubeError
        The sequence is empty or holds something else.
    """
    if isinstance(seg, xr.Dataset | xr.DataArray):
        return [seg]
    given = list(seg)
    if not given:
        raise CubeError("there is no segmentation in seg; expected a Dataset with 'lake', or a list of them")
    strange = [type(each).__name__ for each in given if not isinstance(each, xr.Dataset | xr.DataArray)]
    if strange:
        raise CubeError(f"seg holds a {strange[0]}; expected Datasets with 'lake' or such arrays")
    return given


def _short(crs: Any) -> str:
    return f"EPSG:{crs.epsg}" if crs.epsg is not None else str(crs)


def _check_lattice(number: int, lattice: PixelGrid, window: Window, first: PixelGrid) -> None:
    steps = ((lattice.step_y, first.step_y), (lattice.step_x, first.step_x))
    if any(abs(step / other - 1) > _STEP_SHARE for step, other in steps):
        raise CubeError(
            f"the pixels of seg[{number}] measure {lattice.step_x:g} x {-lattice.step_y:g} and those of "
            f"seg[0] {first.step_x:g} x {-first.step_y:g} in units of the CRS; expected tiles of one grid: "
            "find the lakes of each apart, or resample one of them"
        )
    place = _on(first, lattice, window)
    shifts = (
        window.top + lattice.phase_y - place.top - first.phase_y,
        window.left + lattice.phase_x - place.left - first.phase_x,
    )
    if any(abs(shift) > SNAP_PX for shift in shifts):
        raise CubeError(
            f"the pixels of seg[{number}] lie {shifts[0]:.3g} rows and {shifts[1]:.3g} columns beside "
            "the lines of those of seg[0]; expected tiles of one grid: find the lakes of each apart, or "
            "resample one of them"
        )


def _on(lattice: PixelGrid, own: PixelGrid, window: Window) -> Window:
    """A tile's window on another lattice that differs by less than a pixel."""
    down, across = round(own.phase_y - lattice.phase_y), round(own.phase_x - lattice.phase_x)
    return Window(window.top + down, window.bottom + down, window.left + across, window.right + across)


def _times(number: int, layer: xr.DataArray) -> NDArray[np.datetime64]:
    if "time" not in layer.dims:
        return np.array(["NaT"], "datetime64[ns]")
    times = layer["time"].to_numpy().astype("datetime64[ns]")
    if np.isnat(times).any():
        raise CubeError(f"seg[{number}] has a time step without a date (NaT); drop it or give it its date")
    return times


def _check_times(layers: Sequence[xr.DataArray]) -> None:
    timed = ["time" in layer.dims for layer in layers]
    if any(timed) and not all(timed):
        raise CubeError(
            f"seg[{timed.index(True)}] has the dim 'time' and seg[{timed.index(False)}] has not; expected "
            "all tiles with dates or none: give the others theirs with .expand_dims(time=[...])"
        )


def _check_overlap(windows: Sequence[Window], times: Sequence[NDArray[np.datetime64]]) -> None:
    edges = np.array([(w.top, w.bottom, w.left, w.right) for w in windows])
    top, bottom, left, right = edges.T[:, :, None]
    over = (top < bottom.T) & (left < right.T)
    for one, other in np.argwhere(np.triu(over & over.T, 1)).tolist():
        shared = np.isin(times[one].view("int64"), times[other].view("int64"))
        if shared.any():
            date = times[one][shared][0]
            when = "" if np.isnat(date) else f" at {np.datetime_as_string(date, 's')}"
            raise CubeError(
                f"seg[{other}] lies over seg[{one}] on {(windows[one] & windows[other]).shape} pixels{when}; "
                "expected tiles that share no pixel at one date: cut one of them with .isel(), or merge them"
            )


def _blocks(layer: xr.DataArray) -> Any:
    if layer.chunks is None:
        layer = layer.chunk({dim: 1 if dim == "time" else _BLOCK_PX for dim in layer.dims})
    return layer.data if "time" in layer.dims else layer.data[None]


def block_windows(tile: Tile) -> list[list[Window]]:
    """Absolute rows and columns of a tile's blocks, by block row and block column."""
    _, heights, widths = tile.values.chunks
    rows = (tile.window.top + np.cumsum((0, *heights))).tolist()
    columns = (tile.window.left + np.cumsum((0, *widths))).tolist()
    return [[Window(*row, *column) for column in pairwise(columns)] for row in pairwise(rows)]
