"""Lengths on the WGS 84 ellipsoid, and how far apart squares on the ground are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas

Float = NDArray[np.float64]
Whole = NDArray[np.int64]

_AT_ONCE = 2000  # squares whose neighbours are held at once
_FAR_M = 100_000.0

_A, _F = 6_378_137.0, 1 / 298.257223563  # WGS 84: semi-major axis (m) and flattening
_E2 = _F * (2 - _F)


@cache
def geod() -> Any:
    """Geodesics of WGS 84 (Karney 2013, doi:10.1007/s00190-012-0578-z)."""
    from pyproj import Geod

    return Geod(a=_A, f=_F)


@cache
def quarter_meridian_m() -> float:
    """Length of the meridian from the equator to a pole, m."""
    return float(geod().inv(0, 0, 0, 90)[2])


def northing_m(latitude: Float) -> Float:
    """Length of the meridian from the equator to latitudes (degrees), m, negative in the south.

    Examples
    --------
    >>> northing_m(np.array([0.0, 45.0, -90.0])).round(3).tolist()
    [0.0, 4984944.378, -10001965.729]
    """
    zero = np.zeros_like(latitude)
    return np.asarray(np.copysign(geod().inv(zero, zero, zero, latitude)[2], latitude))


def latitude_at(northing: Float) -> Float:
    """Latitude (degrees) at lengths of the meridian (m); what lies beyond a pole is the pole."""
    within = np.clip(northing, -quarter_meridian_m(), quarter_meridian_m())
    zero = np.zeros_like(within)
    return np.asarray(geod().fwd(zero, zero, zero, within)[1])


def parallel_radius_m(latitude: Float) -> Float:
    """Radius (m) of the circle of latitude (degrees); 0 at the poles."""
    sine = np.sin(np.radians(latitude))
    radius = _A * np.cos(np.radians(latitude)) / np.sqrt(1 - _E2 * sine**2)
    return np.asarray(np.where(np.abs(latitude) >= 90, 0.0, radius))


def in_space(longitude: Float, latitude: Float) -> Float:
    """Places on the ellipsoid as ``(n, 3)`` earth-centred coordinates, m: no seam and no pole."""
    lon, lat = np.radians(longitude), np.radians(latitude)
    normal = _A / np.sqrt(1 - _E2 * np.sin(lat) ** 2)
    flat = normal * np.cos(lat)
    return np.column_stack([flat * np.cos(lon), flat * np.sin(lon), normal * (1 - _E2) * np.sin(lat)])


def places_of(index: pandas.DataFrame, columns: list[str]) -> tuple[pandas.DataFrame, Whole]:
    """The rows of an index that differ in some columns, each once, and for every row its place among them."""
    place = index.groupby(columns, sort=False, dropna=False).ngroup().to_numpy(np.int64)
    _, first = np.unique(place, return_index=True)
    return index[columns].iloc[first], place


def squares_apart_m(first: Float, second: Float) -> Float:
    """Shortest distances along the ground between pairs of squares, m; 0 where they meet.

    Parameters
    ----------
    first, second
        ``(pair, 3)``: longitude and latitude of the centre, degrees, and side, m. The sides run north and
        east.

    Notes
    -----
    The nearest points are found on the plane around the first centre that keeps distances and directions from
    there, and the geodesic between them is measured: exact to a millimetre for squares of some kilometres
    that are less than 100 km apart.
    """
    import shapely

    lon, lat, side = first.T
    away, back, distance = geod().inv(lon, lat, second[:, 0], second[:, 1])
    away, turn = np.radians(away), np.radians(away - back - 180)
    centre = np.column_stack([distance * np.sin(away), distance * np.cos(away)])
    ours = _squares(np.zeros_like(centre), np.zeros_like(turn), side)
    theirs = _squares(centre, turn, second[:, 2])
    line = shapely.get_coordinates(shapely.shortest_line(ours, theirs)).reshape(-1, 2, 2)
    ends = [
        geod().fwd(lon, lat, np.degrees(np.arctan2(*line[:, end].T)), np.hypot(*line[:, end].T))[:2]
        for end in (0, 1)
    ]
    apart = np.asarray(geod().inv(*ends[0], *ends[1])[2])
    return np.where(shapely.intersects(ours, theirs), 0.0, apart)


def _squares(centre: Float, turn: Float, side: Float) -> NDArray[np.object_]:
    """Polygons of squares on a plane, turned clockwise by an angle (radians)."""
    import shapely

    corners = np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)]) * side[:, None, None] / 2
    east = corners[..., 0] * np.cos(turn)[:, None] + corners[..., 1] * np.sin(turn)[:, None]
    north = corners[..., 1] * np.cos(turn)[:, None] - corners[..., 0] * np.sin(turn)[:, None]
    return np.asarray(shapely.polygons(np.stack([east, north], axis=-1) + centre[:, None]), object)


def pairs_within(first: Float, second: Float, reach_m: float) -> Iterator[tuple[Whole, Whole]]:
    """Places of all pairs of squares that may be as near as ``reach_m``, some thousands of firsts at a time.

    Parameters
    ----------
    first, second
        ``(square, 3)`` as in :func:`squares_apart_m`.
    reach_m
        Of the footprints. Pairs that are further apart are among the found, pairs that are as near are never
        left out: a chord is no longer than the way along the ground.
    """
    from scipy.spatial import cKDTree

    if not len(first) or not len(second):
        return
    tree = cKDTree(in_space(second[:, 0], second[:, 1]))
    places = in_space(first[:, 0], first[:, 1])
    widest = reach_m + (first[:, 2].max() + second[:, 2].max()) / math.sqrt(2)
    for start in range(0, len(first), _AT_ONCE):
        here = cKDTree(places[start : start + _AT_ONCE])
        near = here.sparse_distance_matrix(tree, widest, output_type="ndarray")
        yield near["i"].astype(np.int64) + start, near["j"].astype(np.int64)


def nearest_pair(first: Float, second: Float) -> tuple[float, int, int]:
    """Distance of the two nearest squares of two groups, m, and their places; infinite where one is empty.

    Parameters
    ----------
    first, second
        ``(square, 3)`` as in :func:`squares_apart_m`. Of groups that are 100 km apart or more the nearest
        centres are taken, which are not always the nearest squares.
    """
    from scipy.spatial import cKDTree

    if not len(first) or not len(second):
        return math.inf, -1, -1
    tree = cKDTree(in_space(second[:, 0], second[:, 1]))
    chord, other = tree.query(in_space(first[:, 0], first[:, 1]))
    one = int(np.argmin(chord))
    best = float(squares_apart_m(first[[one]], second[other[[one]]])[0])
    found = best, one, int(other[one])
    if best == 0 or best >= _FAR_M:
        return found
    slack = (first[:, 2].max() + second[:, 2].max()) / math.sqrt(2)
    border = np.flatnonzero(chord <= best + slack)
    for ours, theirs in pairs_within(first[border], second, best):
        apart = squares_apart_m(first[border[ours]], second[theirs])
        least = int(np.argmin(apart)) if len(apart) else 0
        if len(apart) and apart[least] < found[0]:
            found = float(apart[least]), int(border[ours[least]]), int(theirs[least])
    return found
