"""Footprints: where a lake was seen at any date, as one polygon with an id, and as pixels of a grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xglof.errors import CubeError
from xglof.lakes.layer import Float, to_degrees
from xglof.lakes.tracking import check_polygons

_CORNER_PX = 1e-3  # a vertex this near to a pixel's corner is on it
_SLIVER = 1e-6  # of a footprint: two dates that share less share nothing but the last bits of coordinates


@dataclass(frozen=True, slots=True)
class Footprints:
    """Lakes through time, north to south.

    Attributes
    ----------
    ids
        Their ``lake_id``.
    geometry
        Shapely polygons in the grid's CRS: the union of a lake's polygons of all dates, its largest extent.
        Those of several lakes may overlap.
    core
        What two successive dates of the lake's own polygons share, of all dates together: one wrong outline
        does not change it. The footprint where no two whole ones share anything.
    x, y
        Point inside, in the grid's CRS.
    longitude, latitude
        The same, degrees on WGS 84.
    outlines
        The polygons of each date.
    """

    ids: list[str]
    geometry: NDArray[Any]
    core: NDArray[Any]
    x: Float
    y: Float
    longitude: Float
    latitude: Float
    outlines: Outlines


@dataclass(frozen=True, slots=True)
class Outlines:
    """Polygons of lakes by date, one a lake and date.

    Attributes
    ----------
    lake
        Place of the lake among the footprints.
    time
        int64 nanoseconds, the least number where there is no date.
    geometry
        Shapely polygons in the grid's CRS.
    partial
        bool: touches unobserved pixels, so that it may be a part of the lake.
    """

    lake: NDArray[np.intp]
    time: NDArray[np.int64]
    geometry: NDArray[Any]
    partial: NDArray[np.bool_]


def footprints(tracked: Any, crs: Any) -> Footprints:
    """Footprint of every lake: the union of its polygons of all dates.

    Independent of the order of the rows.

    Parameters
    ----------
    tracked
        GeoDataFrame with ``lake_id``, as :func:`xglof.lakes.track` returns it, in any CRS.
    crs
        CRS of the footprints.

    Raises
    ------
    CubeError
        No ``lake_id`` or a row without one; no CRS; geometries that are missing, invalid or no polygons.
    """
    import shapely

    check_polygons(tracked)
    names = with_names(tracked)["lake_id"].to_numpy(object)
    shapes = np.asarray(tracked.geometry.to_crs(crs.to_wkt()).to_numpy(), object)
    ids, lake = np.unique(names.astype(str), return_inverse=True)
    outlines = _outlines(tracked, lake, shapes)
    joined = _union_by(outlines.lake, outlines.geometry)[1]
    points = shapely.centroid(joined)
    outside = ~shapely.contains(joined, points)
    points[outside] = shapely.point_on_surface(joined[outside])
    x, y = shapely.get_x(points), shapely.get_y(points)
    longitude, latitude = (np.asarray(v, float) for v in to_degrees(crs).transform(x, y))
    cores = _cores(outlines, joined)
    order = np.lexsort((ids, longitude, -latitude))
    names = [str(ids[i]) for i in order]
    dated = replace(outlines, lake=np.argsort(order)[outlines.lake])
    x, y, longitude, latitude = (each[order] for each in (x, y, longitude, latitude))
    return Footprints(names, joined[order], cores[order], x, y, longitude, latitude, dated)


def with_names(tracked: Any) -> Any:
    """The same rows with ``lake_id`` as text, whatever it was.

    Raises
    ------
    CubeError
        No ``lake_id``, or rows without one.
    """
    if "lake_id" not in tracked:
        raise CubeError("the GeoDataFrame of lakes has no column 'lake_id'; give it ids with track()")
    missing = tracked["lake_id"].isna()
    if missing.any():
        raise CubeError(f"{missing.sum()} of {len(tracked)} rows have no lake_id; give them ids with track()")
    return tracked.assign(lake_id=tracked["lake_id"].astype(str).astype(object))


def _times(tracked: Any) -> NDArray[np.int64]:
    import pandas

    if "time" not in tracked:
        return np.full(len(tracked), np.iinfo(np.int64).min)
    times = pandas.DatetimeIndex(tracked["time"])
    times = times if times.tz is None else times.tz_convert("UTC").tz_localize(None)
    return np.asarray(times.to_numpy("datetime64[ns]").astype(np.int64))


def _outlines(tracked: Any, lake: NDArray[np.intp], shapes: NDArray[Any]) -> Outlines:
    """One polygon a lake and date, by lake and date."""
    import shapely

    time, partial = _times(tracked), np.zeros(len(tracked), bool)
    if "touches_unobserved" in tracked:
        partial = tracked["touches_unobserved"].isin([True]).to_numpy(bool)
    order = np.lexsort((time, lake))
    lake, time = lake[order], time[order]
    new = np.append(True, (lake[1:] != lake[:-1]) | (time[1:] != time[:-1]))[: len(lake)]
    first, group = np.flatnonzero(new), np.cumsum(new) - 1
    hidden = np.bincount(group, weights=partial[order], minlength=len(first)) > 0
    joined = _union_by(group, shapely.normalize(shapes[order]))[1]
    return Outlines(lake[first], time[first], joined, hidden)


def _union_by(group: NDArray[np.integer], shapes: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Groups in ascending order, and the union of each one's polygons."""
    import pandas
    import shapely

    # sorted by shape: a union's last bits depend on the order. A lake that stands still is joined once
    table = pandas.DataFrame({"group": group, "shape": shapely.to_wkb(shapes)})
    table = table.drop_duplicates().sort_values(["group", "shape"])
    groups, first = np.unique(table["group"].to_numpy(), return_index=True)
    shapes, ends = shapes[table.index.to_numpy()], np.append(first[1:], len(table))
    joined = shapes[first]
    for number in np.flatnonzero(ends - first > 1):
        joined[number] = shapely.normalize(shapely.union_all(shapes[first[number] : ends[number]]))
    return groups.astype(np.intp), joined


def _cores(outlines: Outlines, joined: NDArray[Any]) -> NDArray[Any]:
    """What two successive dates of a lake share, of all of them together; else the whole footprint."""
    import shapely

    lake, common = _shared(outlines, np.arange(len(outlines.lake)))
    whole, stable = _shared(outlines, np.flatnonzero(~outlines.partial))
    known, both = _union_by(np.append(lake, whole), np.append(common, stable))
    # partial outlines share too little: of them alone nobody knows how much of the lake they are
    whole = whole[shapely.area(stable) > _SLIVER * shapely.area(joined[whole])]
    cores = joined.copy()
    chosen = np.isin(known, whole)
    cores[known[chosen]] = both[chosen]
    return cores


def _shared(outlines: Outlines, rows: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Lakes of which two of these outlines follow each other, and what such two share, joined."""
    import shapely

    pairs = np.flatnonzero(np.diff(outlines.lake[rows]) == 0)
    first, second = outlines.geometry[rows[pairs]], outlines.geometry[rows[pairs + 1]]
    parts, pair = shapely.get_parts(shapely.intersection(first, second), return_index=True)
    areal = shapely.get_type_id(parts) == 3  # those that only touch share lines and points
    return _union_by(outlines.lake[rows[pairs]][pair[areal]], shapely.normalize(parts[areal]))


def in_pixels(geometry: NDArray[Any], grid: Any) -> NDArray[Any]:
    """Polygons in columns and rows of a grid, counted from its north-western corner."""
    import shapely

    matrix = ~grid.transform

    def placed(xy: Float) -> Float:
        return np.column_stack([matrix.c + matrix.a * xy[:, 0], matrix.f + matrix.e * xy[:, 1]])

    return np.asarray(shapely.transform(geometry, placed), object)


def on_corners(geometry: NDArray[Any]) -> bool:
    """Whether all vertices of polygons in pixels lie on corners of pixels: the grid's own outlines."""
    import shapely

    places = shapely.get_coordinates(geometry)
    return bool((np.abs(places - np.round(places)) < _CORNER_PX).all())


def by_size(found: Footprints, geometry: NDArray[Any]) -> NDArray[np.intp]:
    """Order of the footprints from the smallest to the largest, by id where two are as large.

    Where footprints overlap, the smaller one is the pixel's home.
    """
    import shapely

    area = np.round(np.asarray(shapely.area(geometry), float), 6)  # coordinates' last bits make none larger
    return np.lexsort((np.array(found.ids, str), area))


def home_parts(geometry: NDArray[Any]) -> NDArray[Any]:
    """Polygons, from the smallest to the largest, each without its share of the smaller ones.

    The same rule as that of :func:`label_cells`, for polygons that cut pixels.
    """
    import shapely

    first, second = shapely.STRtree(geometry).query(geometry, predicate="intersects")
    pairs = np.unique(np.stack([first, second], axis=1)[second < first], axis=0)
    larger, start = np.unique(pairs[:, 0], return_index=True)
    parts = np.array(geometry, object)
    for number, smaller in zip(larger, np.split(pairs[:, 1], start[1:]), strict=False):
        parts[number] = shapely.difference(geometry[number], shapely.union_all(geometry[smaller]))
    return parts


def beyond_grid(
    found: Footprints, held: NDArray[np.integer], grid: Any, buffer_px: int
) -> tuple[Float, Float]:
    """How many pixels of lakes lie beyond the edge of the grid, ``(lake, time)``; not rounded.

    Parameters
    ----------
    held
        ``(lake, time)`` the lake that holds each lake: it has the places of all that it holds.

    Returns
    -------
    tuple
        Of the cores, and of the buffered footprints.
    """
    import shapely

    frame = shapely.box(0, 0, grid.shape[1], grid.shape[0])
    place = in_pixels(found.geometry, grid)
    boxes = shapely.box(*(shapely.bounds(place).T + np.array([[-1], [-1], [1], [1]]) * buffer_px))
    out = np.flatnonzero(shapely.area(shapely.difference(boxes, frame)) > _CORNER_PX)
    core, reach = np.zeros(held.shape), np.zeros(held.shape)
    cores = in_pixels(found.core, grid)
    known: dict[bytes, tuple[float, float]] = {}
    for step in range(held.shape[1] if len(out) else 0):
        for lake in np.unique(held[out, step]):
            own = out[held[out, step] == lake]
            if own.tobytes() not in known:
                parts = cores[own], shapely.buffer(place[own], buffer_px)
                both = np.array([shapely.union_all(each) for each in parts], object)
                known[own.tobytes()] = tuple(shapely.area(shapely.difference(both, frame)).tolist())
            core[lake, step], reach[lake, step] = known[own.tobytes()]
    return np.where(core < 1e-6, 0.0, core), np.where(reach < 1e-6, 0.0, reach)  # last bits are no land
