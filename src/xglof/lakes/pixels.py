"""Counts of a segmentation's pixels by lake, block by block; only blocks with lakes are read."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.cube.flags import Flag, check_flags
from xglof.errors import CubeError
from xglof.lakes.cells import label_cells, layers
from xglof.lakes.footprints import Footprints, by_size, home_parts, in_pixels, on_corners
from xglof.lakes.layer import dates_of, north_up
from xglof.lakes.tally import QUANTITIES, count_window, gathered
from xglof.lakes.windows import Shown, Window, pixel_boxes, windows
from xglof.lakes.zonal import covered_cells

_BLOCK_PX = 2016  # of layers that are no Dask arrays


def flag_layer(seg: xr.Dataset | xr.DataArray, layer: xr.DataArray) -> xr.DataArray | None:
    """The flags of a segmentation, lazily, north-up and in the order of its lake layer.

    Parameters
    ----------
    seg
        Dataset, with ``flags`` (whole numbers) or without; a ``lake`` array has none.
    layer
        Its lake layer, as :func:`xglof.lakes.layer.lake_layer` returns it.

    Raises
    ------
    CubeError
        ``flags`` that are no whole numbers, have other meanings, or other dims than ``lake``.
    """
    if not isinstance(seg, xr.Dataset) or "flags" not in seg:
        return None
    return _like(check_flags(seg["flags"]), layer)


def probability_layer(seg: xr.Dataset | xr.DataArray, layer: xr.DataArray) -> xr.DataArray:
    """The ``lake_probability`` of a segmentation, lazily, north-up and in the order of its lake layer.

    Raises
    ------
    CubeError
        It is not there, no floating point, or of other dims than ``lake``.
    """
    if not isinstance(seg, xr.Dataset) or "lake_probability" not in seg:
        raise CubeError(
            "fractional=True needs 'lake_probability', which the segmentation does not hold; "
            "pass the Dataset that segment() returns, or leave fractional out"
        )
    probability = seg["lake_probability"]
    if probability.dtype.kind != "f":
        raise CubeError(f"'lake_probability' is {probability.dtype}; expected floating point from 0 to 1")
    return _like(probability, layer)


def _like(array: xr.DataArray, layer: xr.DataArray) -> xr.DataArray:
    if set(array.dims) != set(layer.dims):
        raise CubeError(f"{array.name!r} has dims {array.dims} and 'lake' {layer.dims}; expected the same")
    return north_up(array.transpose(*layer.dims))


def requested(flags: xr.DataArray) -> xr.DataArray:
    """Where a segmentation was asked for: bool, without the bit ``not_requested``, lazily."""
    return (flags.astype("uint16", copy=False) & Flag.not_requested.value) == 0


def count_pixels(
    layer: xr.DataArray,
    found: Footprints,
    held: NDArray[np.integer],
    *,
    buffer_px: int,
    flags: xr.DataArray | None = None,
    probability: xr.DataArray | None = None,
) -> xr.DataArray:
    """Counts of :data:`~xglof.lakes.tally.QUANTITIES` for every lake and time step, lazily.

    One task a block with lakes draws their pixels for all dates, one a block and time chunk counts. Water is
    the lake's whose polygon of that date covers it, else of the lake that holds the pixel's home. All else
    counts for every lake in whose reach it lies.

    Parameters
    ----------
    layer
        ``([time,] y, x)`` uint8, north-up, with a coordinate ``time`` where it has dates.
    found
        Footprints of the lakes in the layer's CRS. Each pixel is at home at the nearest, of those as near at
        the smallest.
    held
        ``(lake, time)`` the lake for which a home counts, itself or another; time 1 without dates.
    buffer_px
        Width of the buffer. With 0, footprints that cut pixels count these by the share that they cover, and
        the homes alone decide.
    flags, probability
        Of the same dims as the layer, whole numbers and floating point, or ``None``.

    Returns
    -------
    xarray.DataArray
        ``(lake, [time,] quantity)`` float64, one chunk a time chunk of ``layer``. Whole numbers, but for
        shares of pixels that footprints cut. Sums are exact, so that they are the same for any chunks.
    """
    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph

    stack, *others = _stacks(layer, flags, probability)
    inputs = [stack, *(each for each in others if each is not None)]
    cells, parts, table, shown = _windows(layer, stack.chunks[1:], found, held, buffer_px)
    name = "lake-pixels-" + _token([each.name for each in inputs], layer, found, held, buffer_px)
    graph: dict[Any, Any] = {("cells-" + name, number): (draw,) for number, draw in enumerate(cells)}
    places = [_places(window, table[window.homes]) for window in parts]
    for t, times in enumerate(_slices(stack.chunks[0])):
        keys = [("counts-" + name, t, number) for number in range(len(parts))]
        for number, (key, window) in enumerate(zip(keys, parts, strict=True)):
            dated, place = shown[number], _same(places[number][:, times])
            at = None if dated is None else dated.between(times)
            count = partial(count_window, window=window, places=place, shown=at)
            blocks = [None if each is None else _blocks(each, t, window) for each in (stack, *others)]
            graph[key] = (count, ("cells-" + name, number), *blocks)
        shape = (len(found.ids), times.stop - times.start, len(QUANTITIES))
        graph[name, 0, t, 0] = (partial(gathered, [window.lakes for window in parts], shape), keys)
    chunks = ((len(found.ids),), stack.chunks[0], (len(QUANTITIES),))
    array = da.Array(HighLevelGraph.from_collections(name, graph, inputs), name, chunks, dtype=np.float64)
    counts = xr.DataArray(array, dims=("lake", "time", "quantity"), coords={"quantity": list(QUANTITIES)})
    return counts.assign_coords(time=layer["time"].variable) if "time" in layer.dims else counts.isel(time=0)


def _stacks(layer: xr.DataArray, *others: xr.DataArray | None) -> list[Any]:
    """Dask arrays ``(time, y, x)`` on the chunks of the first."""
    rows, columns = layer.dims[-2:]
    timed = layer if "time" in layer.dims else layer.expand_dims("time")
    if timed.chunks is None:
        timed = timed.chunk({"time": 1, rows: _BLOCK_PX, columns: _BLOCK_PX})
    arrays = [timed.data]
    for other in others:
        same = None if other is None else other if "time" in other.dims else other.expand_dims("time")
        arrays.append(None if same is None else same.chunk(timed.chunksizes).data)
    return arrays


def _windows(
    layer: xr.DataArray,
    chunks: tuple[tuple[int, ...], tuple[int, ...]],
    found: Footprints,
    held: NDArray[np.integer],
    buffer_px: int,
) -> tuple[list[partial[Any]], list[Window], NDArray[np.integer], list[Shown | None]]:
    """What draws each window's pixels, the windows, each home's lake, and what windows show of each date."""
    grid = layer.odc.geobox
    placed = in_pixels(found.geometry, grid)
    order = by_size(found, placed)
    placed, table = placed[order], held[order]
    dated = table.shape[1] > 0
    parts = windows(chunks, pixel_boxes(placed, buffer_px), table) if dated else []
    shapes, cores = found.geometry[order], found.core[order]
    if buffer_px == 0 and not on_corners(placed):
        kinds = placed, in_pixels(cores, grid), home_parts(placed)
        drawing: list[partial[Any]] = []
        for part in parts:
            whole, core, own = (each[part.homes] for each in kinds)
            place = (part.rows.start, part.columns.start), tuple(grid[part.read].shape)
            drawing.append(partial(covered_cells, whole, core, own, *place))
        return drawing, parts, table, [None] * len(parts)
    image, contested = layers(placed, buffer_px)
    cells = []
    for part in parts:
        homes, read = part.homes, grid[part.read]  # a task carries its own polygons, not images
        place = read.transform, tuple(read.shape)
        cells.append(partial(label_cells, shapes[homes], cores[homes], image[homes], *place, buffer_px))
    return cells, parts, table, _shown(layer, found, order, contested, parts)


def _shown(
    layer: xr.DataArray,
    found: Footprints,
    order: NDArray[np.intp],
    contested: NDArray[np.bool_],
    parts: list[Window],
) -> list[Shown | None]:
    """Polygons of each date in each window, of lakes in whose reach others are: the rest need none."""
    import pandas
    import shapely

    rank = np.argsort(order)
    of, grid = found.outlines, layer.odc.geobox
    step = pandas.Index(dates_of(layer).astype(np.int64)).get_indexer(of.time)
    rows = np.flatnonzero((step >= 0) & contested[rank[of.lake]]) if len(parts) else np.empty(0, np.intp)
    rows = rows[np.lexsort((rank[of.lake[rows]], step[rows]))]
    tree = shapely.STRtree(shapely.box(*shapely.bounds(in_pixels(of.geometry[rows], grid)).T))
    reads = [part.read for part in parts]
    edges = [(across.start, down.start, across.stop, down.stop) for down, across in reads]
    window, row = tree.query(shapely.box(*np.array(edges, float).reshape(-1, 4).T))
    row = row[np.lexsort((row, window))]
    start = np.cumsum(np.bincount(window, minlength=len(parts)))
    shown: list[Shown | None] = []
    for part, mine in zip(parts, np.split(row, start[:-1]), strict=False):
        own = rows[mine]
        place = _places(part, of.lake[own])
        transform = grid[part.read].transform
        shown.append(Shown(step[own], place, of.geometry[own], transform) if len(own) else None)
    return shown


def _places(window: Window, lake: NDArray[np.integer]) -> NDArray[np.intp]:
    """Place of lakes in the window's, their number for those of another window."""
    place = np.minimum(np.searchsorted(window.lakes, lake), len(window.lakes) - 1)
    return np.where(window.lakes[place] == lake, place, len(window.lakes))


def _same(places: NDArray[np.intp]) -> NDArray[np.intp]:
    """The same places, of one date where they never change."""
    return places[:, :1] if (places == places[:, :1]).all() else places


def _blocks(array: Any, time: int, window: Window) -> Any:
    """Keys of the blocks that a window reads from, in rows where there are several."""
    keys = [[(array.name, time, i, j) for j, _ in window.across] for i, _ in window.down]
    return keys[0][0] if len(keys) == len(keys[0]) == 1 else keys


def _token(
    names: list[str], layer: xr.DataArray, found: Footprints, held: NDArray[np.integer], buffer_px: int
) -> str:
    import shapely
    from dask.base import tokenize

    grid, of = layer.odc.geobox, found.outlines
    where = grid.crs.to_wkt(), tuple(grid.transform), tuple(grid.shape), dates_of(layer)
    shapes = [shapely.to_wkb(each).tolist() for each in (found.geometry, found.core, of.geometry)]
    token: str = tokenize(names, where, found.ids, shapes, of.lake, of.time, held, buffer_px)
    return token


def _slices(sizes: tuple[int, ...]) -> list[slice]:
    ends = np.cumsum(sizes, dtype=int).tolist()
    return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
