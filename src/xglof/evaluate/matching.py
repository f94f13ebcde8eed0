"""Lakes of a map and of a truth, matched one to one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from xglof.errors import CubeError

if TYPE_CHECKING:
    import geopandas
    import pandas

#: What becomes of lakes of which only a part was observed: they may match, but count nowhere, or they count.
Partial = Literal["ignore", "count"]
#: Above a half no lake has two partners, whatever the other lakes are.
MIN_IOU = 0.5

#: What a row of the table is, in this order.
OUTCOMES = ("found", "missed", "false")

_NONE, _NAT = -1, np.datetime64("NaT")
_MOSTLY = 0.5
_STEP_M, _STEP_DEGREES = 1000.0, 0.01  # longer edges are not straight on the ellipsoid
Rows = NDArray[np.intp]
Float = NDArray[np.float64]


def match_lakes(
    mapped: geopandas.GeoDataFrame,
    true: geopandas.GeoDataFrame,
    *,
    min_iou: float = MIN_IOU,
    min_area: float = 0.0,
    partial: Partial = "ignore",
) -> pandas.DataFrame:
    """Which lakes of a map are which lakes of a truth, and which have no partner.

    Two lakes of one date can be a pair where their IoU, the area that they share over the area of both
    together, is at least ``min_iou``. Every lake has one partner at most; among all such pairings that of the
    largest sum of IoU is taken. So a lake that was mapped in two parts is found once or, where no part is
    large enough, missed, and each part too many is a false lake; a mapped lake over two true ones finds one
    of them at most. ``covered`` tells such lakes from those that are absent from the other map.

    Lakes of which only a part was observed (``touches_unobserved`` or ``touches_edge``, where the tables have
    them), and lakes below ``min_area``, may match but count nowhere; nor does a mapped lake whose partner, or
    more than half of whose area, is such a lake of the truth.

    Parameters
    ----------
    mapped, true
        Polygons, as :func:`xglof.find_lakes` returns them, or any in a CRS. With ``time`` in both or in
        neither; a date of one table only is taken as one on which the other saw no lake, and a table without
        any lake as one of the other's dates. The lakes of one date and table do not overlap. ``area_m2`` is
        taken where it is there, else measured on WGS 84; what is invalid is made valid.
    min_iou
        Above 0, up to 1.
    min_area
        Square metres.
    partial
        ``"ignore"`` as said above, or ``"count"`` to count lakes that touch unobserved ground as others.

    Returns
    -------
    pandas.DataFrame
        A row a pair and a row a lake without partner: ``time``; ``outcome``: ``found``, ``missed`` or
        ``false``; ``mapped_row`` and ``true_row``, places in the tables, -1 for none; ``iou`` (of pairs);
        ``area_m2`` and ``area_sigma_m2`` (mapped), ``true_area_m2``, NaN for none; ``covered``, share of the
        area of the mapped lake, else of the true one, in lakes of the other map; ``mapped_counts`` and
        ``true_counts``, bool.

    Raises
    ------
    CubeError
        No CRS, lakes with dates and lakes without, other values of ``min_iou``, ``min_area`` or ``partial``.
    """
    if not 0 < min_iou <= 1 or not min_area >= 0 or partial not in get_args(Partial):
        raise CubeError(
            f"min_iou is {min_iou}, min_area {min_area} and partial {partial!r}; expected a share above 0, "
            "square metres from 0, and 'ignore' or 'count'"
        )
    tables = _Lakes(mapped, min_area, partial), _Lakes(true.to_crs(_crs_of(mapped, true)), min_area, partial)
    if all(map(len, tables)) and tables[0].dated != tables[1].dated:
        raise CubeError(
            "only one of the tables has a time; give every date its own rows of the other, or select one date"
        )
    left, right, shared = _overlaps(*tables)
    iou = shared / (tables[0].planar[left] + tables[1].planar[right] - shared)
    fit = iou >= min_iou
    pair = _assigned(left[fit], right[fit], iou[fit])
    chosen = np.flatnonzero(fit)[pair]
    return _table(*tables, (left, right, shared), chosen, iou)


def _crs_of(mapped: geopandas.GeoDataFrame, true: geopandas.GeoDataFrame) -> Any:
    for name, frame in (("mapped", mapped), ("true", true)):
        if frame.crs is None:
            raise CubeError(f"the {name} lakes have no CRS; set it with .set_crs('EPSG:...')")
    return mapped.crs


class _Lakes:
    """Columns of a table of lakes that matching needs."""

    def __init__(self, frame: geopandas.GeoDataFrame, min_area: float, partial: Partial) -> None:
        import shapely

        geometry = np.asarray(frame.geometry.array, object)
        self.geometry = np.where(shapely.is_valid(geometry), geometry, shapely.make_valid(geometry))
        self.planar: Float = shapely.area(self.geometry)
        self.area: Float = frame["area_m2"].to_numpy(float) if "area_m2" in frame else _geodesic(frame)
        none = np.full(len(frame), np.nan)
        self.sigma: Float = frame["area_sigma_m2"].to_numpy(float) if "area_sigma_m2" in frame else none
        times = (
            frame["time"].to_numpy().astype("datetime64[ns]") if "time" in frame else np.empty(0, "M8[ns]")
        )
        self.dated = bool(times.size) and not np.isnat(times).all()
        self.time = times if self.dated else np.full(len(frame), "NaT", "datetime64[ns]")
        self.ignored = self.area < min_area
        if partial == "ignore":
            for name in ("touches_unobserved", "touches_edge"):
                self.ignored |= frame[name].to_numpy(bool) if name in frame else False

    def __len__(self) -> int:
        return len(self.geometry)


def _geodesic(frame: geopandas.GeoDataFrame) -> Float:
    """Areas (m2) on WGS 84."""
    from pyproj import Geod

    geod, step = Geod(ellps="WGS84"), _STEP_DEGREES if frame.crs.is_geographic else _STEP_M
    degrees = frame.geometry.segmentize(step).to_crs("EPSG:4326")
    return np.array([abs(geod.geometry_area_perimeter(shape)[0]) for shape in degrees.normalize()], float)


def _overlaps(mapped: _Lakes, true: _Lakes) -> tuple[Rows, Rows, Float]:
    """Rows of lakes of one date that share ground, and how much, in units of the CRS."""
    import shapely

    rows: list[NDArray[np.intp]] = [np.empty((2, 0), np.intp)]
    for date in np.unique(np.concatenate([mapped.time, true.time])):
        own, other = _of_date(mapped.time, date), _of_date(true.time, date)
        near = shapely.STRtree(mapped.geometry[own]).query(true.geometry[other], predicate="intersects")
        rows.append(np.stack([own[near[1]], other[near[0]]]))
    left, right = np.concatenate(rows, axis=1)
    shared = shapely.area(shapely.intersection(mapped.geometry[left], true.geometry[right]))
    order = np.lexsort((right, left))
    order = order[shared[order] > 0]
    return left[order], right[order], shared[order]


def _of_date(times: NDArray[np.datetime64], date: np.datetime64) -> Rows:
    return np.flatnonzero(np.isnat(times) if np.isnat(date) else times == date)


def _assigned(left: Rows, right: Rows, iou: Float) -> Rows:
    """Which candidate pairs make the one-to-one pairing of the largest sum of IoU."""
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(left):
        return np.empty(0, np.intp)
    (_, row), (_, column) = (np.unique(each, return_inverse=True) for each in (left, right))
    first = row.max() + 1
    size = first + column.max() + 1
    graph = coo_array((np.ones(len(row)), (row, first + column)), shape=(size, size))
    group = connected_components(graph, directed=False)[1][row]
    chosen = []
    for pairs in np.split(np.argsort(group, kind="stable"), np.flatnonzero(np.diff(np.sort(group))) + 1):
        if len(pairs) == 1:
            chosen.append(pairs)
            continue
        (_, a), (_, b) = (np.unique(each[pairs], return_inverse=True) for each in (row, column))
        worth, place = np.zeros((a.max() + 1, b.max() + 1)), np.full((a.max() + 1, b.max() + 1), -1)
        worth[a, b], place[a, b] = iou[pairs], pairs
        best = place[linear_sum_assignment(worth, maximize=True)]
        chosen.append(best[best >= 0])
    return np.sort(np.concatenate(chosen))


def _table(
    mapped: _Lakes, true: _Lakes, overlaps: tuple[Rows, Rows, Float], chosen: Rows, iou: Float
) -> pandas.DataFrame:
    import pandas

    left, right, shared = overlaps
    unmatched = np.setdiff1d(np.arange(len(mapped)), left[chosen])
    missed = np.setdiff1d(np.arange(len(true)), right[chosen])
    mine = np.concatenate([left[chosen], np.full(len(missed), _NONE), unmatched])
    theirs = np.concatenate([right[chosen], missed, np.full(len(unmatched), _NONE)])
    alone = theirs == _NONE
    hidden = np.bincount(left, shared * true.ignored[right], len(mapped)) > _MOSTLY * mapped.planar
    ignored = _at(mapped.ignored, mine, True) | _at(true.ignored, theirs, False)
    return pandas.DataFrame(
        {
            "time": np.where(mine == _NONE, _at(true.time, theirs, _NAT), _at(mapped.time, mine, _NAT)),
            "outcome": np.repeat(OUTCOMES, [len(chosen), len(missed), len(unmatched)]),
            "mapped_row": mine,
            "true_row": theirs,
            "iou": np.append(iou[chosen], np.full(len(missed) + len(unmatched), np.nan)),
            "area_m2": _at(mapped.area, mine, np.nan),
            "area_sigma_m2": _at(mapped.sigma, mine, np.nan),
            "true_area_m2": _at(true.area, theirs, np.nan),
            "covered": np.where(
                mine == _NONE,
                _at(_covered(true, right, shared), theirs, np.nan),
                _at(_covered(mapped, left, shared), mine, np.nan),
            ),
            "mapped_counts": ~ignored & ~(alone & _at(hidden, mine, False)),
            "true_counts": ~_at(true.ignored, theirs, True),
        }
    )


def _covered(lakes: _Lakes, rows: Rows, shared: Float) -> Float:
    """Share of each lake that lies in lakes of the other table."""
    total = np.bincount(rows, shared, len(lakes))
    return np.divide(total, lakes.planar, out=np.zeros(len(lakes)), where=lakes.planar > 0)


def _at(values: NDArray[Any], rows: Rows, missing: Any) -> NDArray[Any]:
    """Values of rows; the row -1 is none and has the missing one."""
    return np.append(values, np.array([missing], values.dtype))[rows]
