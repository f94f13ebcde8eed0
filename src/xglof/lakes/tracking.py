"""Lakes that keep their identity from date to date while they grow, split, merge, vanish and come back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xglof.errors import CubeError
from xglof.lakes.knots import Objects
from xglof.lakes.layer import Float, to_degrees
from xglof.lakes.succession import Register, succeed

if TYPE_CHECKING:
    import geopandas

_COLUMNS = ("lake_id", "event", "parents")
_PARTIAL = ("touches_unobserved", "touches_edge")
_DIGITS = 6  # of degrees, 0.1 m: what is as far north must be so whichever CRS it was reprojected from
_CUT_W = -169.0  # Bering Strait: lakes of the far side of 180 degrees lie beside those of the near one
_LEVEL = 0.4871  # share of the height at which a line runs: no whole number of rows of pixels
_EDGE = 1e-7  # degrees; a centroid so near the shore may fall on either side of it by rounding


def track(
    lakes: geopandas.GeoDataFrame, *, known: geopandas.GeoDataFrame | None = None, min_overlap: float = 0.25
) -> geopandas.GeoDataFrame:
    """The same polygons with the ids of their lakes, which stay as they are when dates are added.

    Dates are walked in order of time. A polygon goes on with a lake where they share ``min_overlap`` of the
    smaller one of the polygon and the lake's last outline, or else its largest one, on its own, so far. A
    lake that is not seen keeps its outline, and so its id, until it is. The ids do not depend on the order
    of rows, on the CRS or on how one call of ``find_lakes`` was given its tiles. Polygons that were cut at
    tiles, each found on its own, are other polygons.

    split
        Several polygons of one lake: that with the largest overlap keeps the id, the others are new lakes.
        Where the lake was last goes before where it was of old.
    merge
        Several lakes in one polygon: it goes on under the id of that which was ever the largest, of as large
        the oldest. The others are held by it; seen alone again they have their old ids back.
    partial views
        ``touches_unobserved`` and ``touches_edge`` (where there are such columns) tell of polygons that may
        be visible parts of lakes. Two or more of one lake that are cut off by the same are that lake in
        parts and share its id; one that is whole has land around it and is a part of its own. The outline
        of a lake seen in part is the old one united with what is seen, less what is another lake by then:
        a cloud does not shrink it. A partial polygon over two lakes has merged them: it shows the water
        between.

    Append new dates, which may be earlier ones too, with what is known already::

        tracked = pandas.concat([tracked, track(more, known=tracked)], ignore_index=True)

    Each date is reprojected on its own: the peak memory is that of ``lakes`` and ``known`` and of the
    polygons of two dates.

    Parameters
    ----------
    lakes
        Polygons in any CRS with ``time`` (datetime64), as :func:`xglof.lakes.find_lakes` gives them. Without
        ``time``, or with NaT only, they are one date, on which every polygon is a lake.
    known
        What this function returned for other dates, in any CRS. It is taken as it stands. Polygons with a
        ``lake_id`` only, an inventory, are fine; rows without a date come before all others. A date before
        the first sight of a known lake is compared with the outline of that first sight.
    min_overlap
        Area of the intersection over the smaller area, above 0 and up to 1. Ratios within 0.0001 of it
        count, so that one pixel of four is a quarter in every CRS.

    Returns
    -------
    geopandas.GeoDataFrame
        The rows of ``lakes`` in their order, with

        - ``lake_id``: GLIMS's form, ``GL087945E27781N``, of the centroid at first sight, or of a point
          inside where that lies outside. Lakes of the same thousandth of a degree get ``-2``, ``-3`` by
          first sight, within a date from north to south, then from west to east.
        - ``event``: ``"new"``, ``"split"``, ``"merge"`` or ``""``. A merge of lakes of which one is also
          seen alone, and a split at the same time, is a merge.
        - ``parents``: ids with a space between. Of a split: ``""`` for the part that keeps the id, else the
          lake it was part of, by the largest overlap. Of a merge: all lakes that went into it, its own
          first.

    Raises
    ------
    CubeError
        No GeoDataFrame or CRS, things other than valid polygons, times that are no dates or missing in some
        rows only, ``lakes`` that have ids, dates that ``known`` has, ``min_overlap`` out of range.

    Examples
    --------
    >>> import geopandas, pandas, shapely
    >>> from xglof.lakes.tracking import track
    >>> lakes = geopandas.GeoDataFrame(
    ...     {"time": pandas.to_datetime(["2021-09-01", "2022-09-01", "2022-09-01"])},
    ...     geometry=[shapely.box(86.92, 27.89, 86.93, 27.9), shapely.box(86.92, 27.89, 86.926, 27.9),
    ...               shapely.box(86.928, 27.89, 86.93, 27.9)], crs="EPSG:4326")
    >>> for row in track(lakes)[["lake_id", "event", "parents"]].to_numpy():
    ...     print(row.tolist())
    ['GL086925E27895N', 'new', '']
    ['GL086925E27895N', 'split', '']
    ['GL086929E27895N', 'split', 'GL086925E27895N']
    """
    if not 0 < min_overlap <= 1:
        raise CubeError(f"min_overlap is {min_overlap}; expected a share above 0 and up to 1")
    rows, old = _untracked(lakes), _tracked(known)
    _check_dates(rows, old, known)
    register = Register(_names(old), min_overlap)
    if len(old.time) and len(rows.time) and rows.time.min() < old.time.max():
        register.expect(*_first_sights(old, register))
    for date in np.unique(np.concatenate([rows.time, old.time])):
        if len(there := old.at(date)):
            there, shapes = old.from_north(there)
            lake = register.numbers(old.labels["lake_id"][there])
            labels = (old.labels[name][there] for name in ("event", "parents"))
            register.settle(lake, shapes, old.partial[there], *labels)
        else:
            _track_date(register, rows, rows.at(date))
    tracked: geopandas.GeoDataFrame = lakes.assign(**rows.labels)
    return tracked


def _track_date(register: Register, rows: _Rows, there: NDArray[np.intp]) -> None:
    """Name the polygons of one date."""
    there, shapes = rows.from_north(there)
    partial = rows.partial[there]
    lake, event, parents = succeed(register, shapes, partial)
    unnamed = np.flatnonzero(lake < 0)
    lake[unnamed] = _name(register, shapes[unnamed])
    register.settle(lake, shapes, partial, event, parents)
    rows.labels["lake_id"][there] = np.array(register.ids, object)[lake]
    rows.labels["event"][there], rows.labels["parents"][there] = event, parents


@dataclass(frozen=True, slots=True)
class _Rows:
    """Polygons of a frame in its own CRS, by date (int64 nanoseconds, the least where there is none)."""

    shapes: Objects
    time: NDArray[np.int64]
    partial: NDArray[np.uint8]
    labels: dict[str, Objects]
    degrees: Any
    order: NDArray[np.intp]

    def at(self, date: np.int64) -> NDArray[np.intp]:
        """Numbers of the rows of a date."""
        start = np.searchsorted(self.time, date, "left", self.order)
        return self.order[start : np.searchsorted(self.time, date, "right", self.order)]

    def polygons(self, there: NDArray[np.intp]) -> Objects:
        """Polygons of rows, longitude and latitude on WGS 84."""
        return _to_lonlat(self.shapes[there], self.degrees)

    def from_north(self, there: NDArray[np.intp]) -> tuple[NDArray[np.intp], Objects]:
        """Rows and their polygons in an order that does not depend on the one they came in."""
        shapes = self.polygons(there)
        order = _north_to_south(shapes, self.partial[there])
        return there[order], shapes[order]


def _rows(lakes: Any, labels: dict[str, Objects]) -> _Rows:
    time = _times(lakes)
    partial = np.zeros(len(lakes), np.uint8)
    for bit, name in enumerate(_PARTIAL):
        if name in lakes:
            partial |= lakes[name].isin([True]).to_numpy(np.uint8) << np.uint8(bit)
    return _Rows(
        np.asarray(lakes.geometry.to_numpy(), object),
        time, partial, labels, to_degrees(lakes.crs), np.argsort(time, kind="stable"),
    )  # fmt: skip


def _untracked(lakes: Any) -> _Rows:
    check_polygons(lakes)
    if taken := [name for name in _COLUMNS if name in lakes]:
        raise CubeError(
            f"the polygons already have {', '.join(taken)}; drop these columns to track anew, or pass the "
            "rows that have ids as known= and the others as lakes"
        )
    return _rows(lakes, {name: np.full(len(lakes), "", object) for name in _COLUMNS})


def _tracked(known: Any) -> _Rows:
    import geopandas

    if known is None:
        nothing = {name: np.empty(0, object) for name in _COLUMNS}
        return _rows(geopandas.GeoDataFrame(geometry=[], crs="EPSG:4326"), nothing)
    check_polygons(known)
    if "lake_id" not in known:
        raise CubeError("known has no column 'lake_id'; pass what track() returned for other dates")
    if known["lake_id"].isna().any() or (known["lake_id"] == "").any():
        raise CubeError("rows of known have no lake_id; pass these as lakes, or drop them")
    # an inventory, or dates of one appended to others, has no events
    given = {name: known[name].fillna("").astype(str) for name in _COLUMNS if name in known}
    labels = {name: given[name].to_numpy(object) if name in given else _blank(known) for name in _COLUMNS}
    return _rows(known, labels)


def _blank(frame: Any) -> Objects:
    return np.full(len(frame), "", object)


def _times(frame: Any) -> NDArray[np.int64]:
    if "time" not in frame:
        return np.full(len(frame), np.iinfo(np.int64).min)
    column = frame["time"]
    if column.isna().all():
        return np.full(len(frame), np.iinfo(np.int64).min)
    if column.dtype.kind != "M":
        raise CubeError(
            f"the column 'time' is {column.dtype}; expected dates (datetime64), make them with to_datetime()"
        )
    if getattr(column.dtype, "tz", None) is not None:
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    return np.asarray(column.to_numpy("datetime64[ns]").astype(np.int64))


def _check_dates(rows: _Rows, old: _Rows, known: Any) -> None:
    undated = rows.time == np.iinfo(np.int64).min
    if undated.any() and (known is not None or not undated.all()):
        raise CubeError(
            f"{undated.sum()} of {len(undated)} polygons have no date in 'time'; give every row its date"
            + (", so that they can be put in order with those of known" if known is not None else "")
        )
    if len(both := np.intersect1d(rows.time, old.time)):
        days = ", ".join(str(np.datetime64(int(ns), "ns").astype("datetime64[s]")) for ns in both[:5])
        raise CubeError(
            f"{len(both)} dates of lakes are in known too ({days}); to map these dates anew and keep the ids "
            "pass known=known[['lake_id', 'geometry']], an inventory without dates, else drop them from lakes"
        )


def check_polygons(lakes: Any) -> Objects:
    """Geometries of a frame of lakes in its own CRS, all of them valid polygons.

    Raises
    ------
    CubeError
        No GeoDataFrame, no CRS, geometries that are missing, empty, invalid or no polygons.
    """
    import shapely

    if not hasattr(lakes, "to_crs") or not hasattr(lakes, "columns"):
        raise CubeError(
            f"lakes is a {type(lakes).__name__}; expected a GeoDataFrame, as find_lakes() gives it"
        )
    if lakes.crs is None:
        raise CubeError("the GeoDataFrame of lakes has no CRS; set the one its numbers are in with set_crs()")
    shapes = np.asarray(lakes.geometry.to_numpy(), object)
    wrong = ~np.isin(shapely.get_type_id(shapes), (3, 6))  # Polygon, MultiPolygon; -1 is missing
    wrong |= shapely.is_empty(shapes)
    if wrong.any():
        raise CubeError(
            f"{wrong.sum()} of {len(shapes)} lakes are no polygons (missing, empty, points or lines); "
            "drop them"
        )
    broken = ~shapely.is_valid(shapes)
    if broken.any():
        reason = shapely.is_valid_reason(shapes[broken][0])
        raise CubeError(
            f"{broken.sum()} of {len(shapes)} polygons are invalid ({reason}); repair them with "
            "lakes.geometry.make_valid() and keep the polygons of what it returns"
        )
    return shapes


def glims_id(longitude: float, latitude: float) -> str:
    """GLIMS-like id of a point: thousandths of degrees, longitude from 0 to 360 east.

    Examples
    --------
    >>> glims_id(87.9452, 27.7811), glims_id(-72.5, -50.0004)
    ('GL087945E27781N', 'GL287500E50000S')
    """
    east = round(longitude * 1000) % 360_000
    north = round(latitude * 1000)
    return f"GL{east:06d}E{abs(north):05d}{'N' if north >= 0 else 'S'}"


def _to_lonlat(shapes: Objects, degrees: Any) -> Objects:
    """Polygons in degrees, each in one piece at 180 degrees."""
    import shapely

    moved = shapely.transform(shapes, lambda xy: np.column_stack(degrees.transform(xy[:, 0], xy[:, 1])))
    west, south, east, north = shapely.bounds(moved).T
    # `not ... all`, so that NaN counts too; infinite is what a CRS gives that cannot hold the numbers
    if not (np.abs([south, north]) <= 90).all() or not (np.abs([west, east]) <= 540).all():
        raise CubeError("lakes lie beyond the earth in their CRS; set the CRS that their numbers are in")
    torn = east - west > 180
    whole = np.where(east < _CUT_W, 360.0, np.where(west >= _CUT_W + 360, -360.0, 0.0))
    for number in np.flatnonzero(torn | (whole != 0)):
        turn = 0.0 if torn[number] else whole[number]
        moved[number] = shapely.transform(moved[number], lambda xy, turn=turn: _turned(xy, turn))
    return np.asarray(moved, object)


def _turned(lonlat: Float, turn: float) -> Float:
    """Longitudes moved by whole turns, or without a jump at 180 degrees where no turn is given."""
    shift = turn if turn else np.where(lonlat[:, 0] < 0, 360.0, 0.0)
    return np.column_stack([lonlat[:, 0] + shift, lonlat[:, 1]])


def _north_to_south(shapes: Objects, partial: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Order of polygons from north to south, then from west to east."""
    import shapely

    points = shapely.centroid(shapes)
    west, south = (np.round(get(points), _DIGITS) for get in (shapely.get_x, shapely.get_y))
    return np.lexsort((partial, -shapely.area(shapes), west, -south))


def _points_inside(shapes: Objects) -> tuple[Float, Float]:
    """Longitude and latitude of the centroids, or of points inside where these are not."""
    import shapely

    points = shapely.centroid(shapes)
    outside = ~shapely.contains(shapes, points)
    outside |= shapely.distance(points, shapely.boundary(shapes)) < _EDGE
    points[outside] = _points_on_water(shapes[outside])
    return np.round(shapely.get_x(points), _DIGITS), np.round(shapely.get_y(points), _DIGITS)


def _points_on_water(shapes: Objects) -> Objects:
    """Middle of the widest stretch of water on a line from west to east through the largest part.

    Not shapely's point on the surface: of arms as wide, as pixels often make them, the last bits of a
    reprojection would choose.
    """
    import shapely

    parts, owner = shapely.get_parts(shapes, return_index=True)
    west, _, _, north = np.round(shapely.bounds(parts), _DIGITS).T
    largest = parts[_first_of(owner, -_steps(shapely.area(parts)), -north, west)]
    west, south, east, north = shapely.bounds(largest).T
    level = south + _LEVEL * (north - south)
    ends = np.stack([west - _EDGE, level, east + _EDGE, level], axis=1).reshape(-1, 2, 2)
    stretches, owner = shapely.get_parts(
        shapely.intersection(largest, shapely.linestrings(ends)), return_index=True
    )
    west = shapely.bounds(stretches)[:, 0]
    widest = stretches[_first_of(owner, -_steps(shapely.length(stretches)), west)]
    return np.asarray(shapely.line_interpolate_point(widest, 0.5, normalized=True))


def _steps(sizes: Float) -> Float:
    """Sizes in steps of a thousandth of themselves: what is as large in pixels is as large."""
    return np.round(np.log(np.maximum(sizes, 1e-300)) * 1000)


def _first_of(group: NDArray[np.intp], *keys: Float) -> NDArray[np.intp]:
    """Place of the first of each group, by keys of which the first counts most."""
    order = np.lexsort((*keys[::-1], group))
    return order[np.unique(group[order], return_index=True)[1]]


def _name(register: Register, shapes: Objects) -> NDArray[np.intp]:
    """Numbers of new lakes at polygons."""
    longitude, latitude = _points_inside(shapes)
    order = np.lexsort((longitude, -latitude))
    numbers = np.empty(len(shapes), np.intp)
    numbers[order] = register.add(glims_id(longitude[i], latitude[i]) for i in order)
    return numbers


def _names(old: _Rows) -> Sequence[str]:
    """Ids of known lakes, by first sight."""
    names = old.labels["lake_id"]
    return list(dict.fromkeys(names[np.lexsort((names, old.time))]))


def _first_sights(old: _Rows, register: Register) -> tuple[Objects, Iterable[tuple[int, str]]]:
    """Outline of each known lake at its first date, and the lakes that were parts of others before it."""
    import shapely

    outlines = np.full(len(register.ids), None, object)
    lake = register.numbers(old.labels["lake_id"])
    begin = np.full(len(outlines), np.iinfo(np.int64).max)
    np.minimum.at(begin, lake, old.time)
    first = np.flatnonzero(old.time == begin[lake])
    shapes = old.polygons(first)
    for number, shape in zip(lake[first], shapes, strict=True):
        there = outlines[number]
        outlines[number] = shape if there is None else shapely.union(there, shape)
    split = first[(old.labels["event"][first] == "split") & (old.labels["parents"][first] != "")]
    return outlines, [(int(lake[i]), old.labels["parents"][i].split()[0]) for i in split]
