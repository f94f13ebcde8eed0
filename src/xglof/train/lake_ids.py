"""Which lakes of an inventory chips touch: so that a lake lies in one fold."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xglof.errors import TrainError
from xglof.lakes.layer import to_degrees
from xglof.lakes.tracking import glims_id
from xglof.train.inventory import Objects, in_crs, polygons_near, read_polygons, repaired_polygons

if TYPE_CHECKING:
    import geopandas

    Polygons: TypeAlias = geopandas.GeoDataFrame | str | os.PathLike[str]


def lakes_at(polygons: Polygons, squares: geopandas.GeoSeries, *, names: str = "lake_id") -> Objects:
    """Ids of the lakes that each square touches, as an index of chips has them in ``lake_ids``.

    Parameters
    ----------
    polygons
        As :func:`xglof.train.labels.rasterise` takes them.
    squares
        Polygons in any CRS, such as the windows of a cube in its own.
    names
        Column of the polygons' ids, which must be the same for one lake at all dates and in all cubes. Where
        there is no such column, or no id in it, polygons that touch each other are a lake, named by a point
        in it. All of the inventory counts for that, wherever the squares are: a lake has one name in all
        cubes.

    Returns
    -------
    numpy.ndarray
        ``(square,)`` str: ids in order, separated by a space; "" for none.

    Raises
    ------
    TrainError
        As :func:`xglof.train.labels.rasterise`, but for polygons that are elsewhere; squares without a CRS.
    """
    import pandas as pd
    import shapely

    frame, _ = read_polygons(polygons)
    if squares.crs is None:
        raise TrainError("the squares have no CRS; set the one their numbers are in with set_crs()")
    found = np.full(len(squares), "", object)
    near = polygons_near(frame, squares.total_bounds, squares.crs)
    if not len(near):
        return found
    shapes, _ = repaired_polygons(np.asarray(frame.geometry.to_numpy(), object)[near])
    moved = in_crs(shapes, frame.crs, squares.crs)
    square, polygon = shapely.STRtree(moved).query(squares.to_numpy(), predicate="intersects")
    touched, place = np.unique(near[polygon], return_inverse=True)
    pairs = pd.DataFrame({"square": square, "id": _names(frame, names, touched)[place]})
    joined = pairs.drop_duplicates().sort_values(["square", "id"]).groupby("square")["id"].agg(" ".join)
    found[joined.index.to_numpy()] = joined.to_numpy(object)
    return found


def _names(frame: geopandas.GeoDataFrame, column: str, rows: NDArray[np.int64]) -> Objects:
    """Names of the lakes of some rows: their ids, or their places where they have none."""
    import pandas as pd

    known = pd.Series(pd.NA, index=range(len(frame)), dtype="string")
    if column in frame:
        # whole numbers with a gap among them are read as floats: 7 is 7 in every file
        known = frame[column].reset_index(drop=True).convert_dtypes().astype("string")
        known = known.str.split().str.join("_").replace("", pd.NA)
    nameless = known.isna().to_numpy(bool)
    found = known.iloc[rows].to_numpy(object)
    missing = nameless[rows]
    if missing.any():
        found[missing] = _place_names(frame, rows[missing], nameless)
    return np.asarray(found, object)


def _place_names(
    frame: geopandas.GeoDataFrame, rows: NDArray[np.int64], nameless: NDArray[np.bool_]
) -> Objects:
    """A name for some rows, the same for those that touch: a point of the northernmost of them."""
    import shapely

    member, group = _touching(frame, rows, nameless)
    shapes, _ = repaired_polygons(np.asarray(frame.geometry.to_numpy(), object)[member])
    points = shapely.point_on_surface(shapes)
    x, y = to_degrees(frame.crs).transform(shapely.get_x(points), shapely.get_y(points))
    order = np.lexsort((x, -np.asarray(y)))
    groups, first = np.unique(group[order], return_index=True)
    named = {each: glims_id(x[order[at]], y[order[at]]) for each, at in zip(groups, first, strict=True)}
    return np.array([named[each] for each in group[np.searchsorted(member, rows)]], object)


def _touching(
    frame: geopandas.GeoDataFrame, rows: NDArray[np.int64], nameless: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The nameless rows that some touch, followed as far as it goes in the frame, and the group of each."""
    import shapely
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    geometry = np.asarray(frame.geometry.to_numpy(), object)
    fresh = np.unique(rows)
    reached = np.isin(np.arange(len(geometry)), fresh)
    links = []
    while len(fresh):
        one, other = frame.sindex.query(shapely.box(*shapely.bounds(geometry[fresh]).T))
        one, other = fresh[one[nameless[other]]], other[nameless[other]]
        pair, place = np.unique(np.stack([one, other]), return_inverse=True)
        ours, theirs = repaired_polygons(geometry[pair])[0][place.reshape(2, -1)]
        meets = shapely.intersects(ours, theirs)
        links.append(np.stack([one, other])[:, meets])
        fresh = np.unique(other[meets & ~reached[other]])
        reached[fresh] = True
    one, other = np.concatenate(links, axis=1)
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(len(geometry),) * 2)
    _, group = connected_components(graph, directed=False)
    return np.flatnonzero(reached), group[reached]
