"""Footprints: where a lake was seen at any date, as one polygon with an id, and as pixels of a grid."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xglof.errors import CubeError
from xglof.lakes.layer import Float, to_degrees


@dataclass(frozen=True, slots=True)
class Footprints:
    """Lakes through time, north to south.

    Attributes
    ----------
    ids
        Like ``GL087945E27781N``: GLIMS's form, from a point inside.
    geometry
        Shapely polygons in the grid's CRS.
    x, y
        Point inside, in the grid's CRS.
    longitude, latitude
        The same, degrees on WGS 84.
    """

    ids: list[str]
    geometry: NDArray[Any]
    x: Float
    y: Float
    longitude: Float
    latitude: Float


def footprints(lakes: Any, crs: Any) -> Footprints:
    """Join polygons of all dates that intersect, directly or by way of others, into one footprint a lake.

    Independent of the order of the rows.

    Raises
    ------
    CubeError
        ``lakes`` has no CRS, or geometries that are missing, invalid or no polygons.
    """
    import shapely

    shapes = _checked_polygons(lakes, crs)
    groups = _connected(shapes)
    members = [shapes[groups == group] for group in range(groups.max(initial=-1) + 1)]
    joined = np.array([shapely.normalize(shapely.union_all(each)) for each in members], object)
    points = shapely.centroid(joined)
    outside = ~shapely.contains(joined, points)
    points[outside] = shapely.point_on_surface(joined[outside])
    x, y = shapely.get_x(points), shapely.get_y(points)
    longitude, latitude = (np.asarray(v, float) for v in to_degrees(crs).transform(x, y))
    order = np.lexsort((longitude, -latitude))
    ids = _unique([glims_id(longitude[i], latitude[i]) for i in order])
    return Footprints(ids, joined[order], x[order], y[order], longitude[order], latitude[order])


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


def _unique(ids: list[str]) -> list[str]:
    seen: Counter[str] = Counter()
    named = []
    for name in ids:
        seen[name] += 1
        named.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return named


def _checked_polygons(lakes: Any, crs: Any) -> NDArray[Any]:
    import shapely

    if not hasattr(lakes, "to_crs"):
        raise CubeError(
            f"lakes is a {type(lakes).__name__}; expected a GeoDataFrame, as find_lakes() gives it"
        )
    if lakes.crs is None:
        raise CubeError("the GeoDataFrame of lakes has no CRS; set the one its numbers are in with set_crs()")
    shapes = np.asarray(lakes.geometry.to_crs(crs.to_wkt()).to_numpy(), object)
    kinds = shapely.get_type_id(shapes)
    wrong = ~np.isin(kinds, (3, 6)) | shapely.is_empty(shapes)  # Polygon, MultiPolygon; -1 is missing
    if wrong.any():
        raise CubeError(
            f"{wrong.sum()} of {len(shapes)} lakes are no polygons (missing, empty, points or lines)"
        )
    broken = ~shapely.is_valid(shapes)
    if broken.any():
        reason = shapely.is_valid_reason(shapes[broken][0])
        raise CubeError(
            f"{broken.sum()} of {len(shapes)} polygons are invalid ({reason}); repair with make_valid()"
        )
    return shapes


def _connected(shapes: NDArray[Any]) -> NDArray[np.int32]:
    """Number of the group of each polygon."""
    import shapely
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    touching = coo_array((np.ones(len(first), bool), (first, second)), shape=(len(shapes), len(shapes)))
    if len(shapes) == 0:
        return np.empty(0, np.int32)
    return np.asarray(connected_components(touching, directed=False)[1])


def label_image(
    geometry: NDArray[Any], numbers: NDArray[np.int32], transform: Any, shape: tuple[int, int], buffer_px: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Pixels of footprints, and with a buffer around them.

    Parameters
    ----------
    geometry, numbers
        Polygons and the number (1 or more) of each.
    transform, shape
        Affine transform and ``(rows, columns)`` of the image.
    buffer_px
        Distance in pixels, Euclidean; a pixel within reach of two footprints goes to the nearer one, and to
        the lower number between two as near.

    Returns
    -------
    core, buffered
        ``(rows, columns)`` int32, 0 outside. The pixel's centre decides.
    """
    from rasterio.features import rasterize

    padded = (shape[0] + 2 * buffer_px, shape[1] + 2 * buffer_px)
    moved = transform * type(transform).translation(-buffer_px, -buffer_px)
    core = np.zeros(padded, np.int32)
    if len(geometry):
        rasterize(zip(geometry, numbers.tolist(), strict=True), out=core, transform=moved)
    buffered = _grown(core, buffer_px)
    inner = slice(buffer_px, padded[0] - buffer_px), slice(buffer_px, padded[1] - buffer_px)
    return core[inner], buffered[inner]


def _grown(core: NDArray[np.int32], reach: int) -> NDArray[np.int32]:
    # not skimage's expand_labels: its choice between two as near depends on what else is in the image, and a
    # pixel must get the same lake whatever the block it is looked at in
    grown = core.copy()
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    far = rows**2 + columns**2
    for distance in np.unique(far[(far > 0) & (far <= reach**2)]):
        nearest = np.full(core.shape, np.iinfo(np.int32).max, np.int32)
        for dy, dx in zip(rows[far == distance], columns[far == distance], strict=True):
            there, here = _shifted(core.shape, dy, dx)
            neighbour = np.where(core[there] > 0, core[there], nearest[here])
            nearest[here] = np.minimum(nearest[here], neighbour)
        free = (grown == 0) & (nearest < np.iinfo(np.int32).max)
        grown[free] = nearest[free]
    return grown


def _shifted(shape: tuple[int, ...], dy: int, dx: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices of the neighbours at an offset, and of the pixels that have such a neighbour."""
    height, width = shape
    there = slice(max(dy, 0), height + min(dy, 0)), slice(max(dx, 0), width + min(dx, 0))
    here = slice(max(-dy, 0), height + min(-dy, 0)), slice(max(-dx, 0), width + min(-dx, 0))
    return there, here
