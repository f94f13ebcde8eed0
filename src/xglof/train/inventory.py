"""Polygons of an inventory, whatever its file, CRS and state, as pixels of a grid."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xglof.errors import TrainError

if TYPE_CHECKING:
    import geopandas
    from odc.geo.geobox import GeoBox

Objects = NDArray[np.object_]

_PARQUET = (".parquet", ".geoparquet", ".pq")
_POLYGONS = (3, 6)  # shapely's numbers of Polygon and MultiPolygon
#: Vertices are rounded to this share of a pixel (0.15 mm at 10 m): numbers that come back from another CRS
#: differ in their last bits, and an edge along a line of pixels must touch one side of it only.
_STEP_PX = 2.0**-16
_EDGE_POINTS = 33  # a side of the grid is followed by as many points into the CRS of the polygons


@dataclass(frozen=True, slots=True, eq=False)
class Outlines:
    """Polygons that meet a grid.

    Attributes
    ----------
    shapes
        ``(polygon,)`` valid shapely polygons in the grid's pixels: x the column, y the row, from its corner.
    rows
        ``(polygon,)`` int64 places in the GeoDataFrame that they came from.
    frame
        That GeoDataFrame.
    source
        What it came from, in words.
    repaired
        How many of them were invalid.
    """

    shapes: Objects
    rows: NDArray[np.int64]
    frame: geopandas.GeoDataFrame
    source: str
    repaired: int


def outlines_on(polygons: geopandas.GeoDataFrame | str | os.PathLike[str], grid: GeoBox) -> Outlines:
    """The polygons of an inventory that meet a grid, in its pixels.

    Parameters
    ----------
    polygons
        GeoDataFrame, or path of a GeoPackage, shapefile, GeoParquet or another file that GDAL reads.
    grid
        GeoBox with a CRS.

    Raises
    ------
    TrainError
        No such file, or one that is not read; no CRS; geometries that are missing, empty or no polygons, and
        those that can't be repaired; none meets the grid.
    """
    import shapely

    frame, source = read_polygons(polygons)
    near = polygons_near(frame, grid.boundingbox.bbox, grid.crs)
    shapes, repaired = repaired_polygons(np.asarray(frame.geometry.to_numpy(), object)[near])
    shapes = _in_pixels(in_crs(shapes, frame.crs, grid.crs), grid)
    height, width = grid.shape
    meets = shapely.intersects(shapes, shapely.box(0, 0, width, height))
    if not meets.any():
        raise TrainError(_nothing(frame, source, grid))
    return Outlines(shapes[meets], near[meets], frame, source, int(repaired[meets].sum()))


def read_polygons(polygons: Any) -> tuple[geopandas.GeoDataFrame, str]:
    """A GeoDataFrame with a CRS from a GeoDataFrame or a path, and what it came from in words.

    Raises
    ------
    TrainError
        Something else, no such file or one that is not read, no CRS.
    """
    if hasattr(polygons, "to_crs"):
        frame = polygons if hasattr(polygons, "columns") else polygons.to_frame("geometry")
        source = f"a GeoDataFrame of {len(frame)} rows"
    elif isinstance(polygons, str | os.PathLike):
        path = Path(polygons)
        if not path.exists():
            raise TrainError(
                f"there is no file {path}; give a GeoPackage, shapefile or GeoParquet of polygons"
            )
        frame, source = _read(path, path.stat().st_mtime_ns), path.name
    else:
        raise TrainError(
            f"polygons is a {type(polygons).__name__}; expected a GeoDataFrame or the path of a GeoPackage, "
            "shapefile or GeoParquet file"
        )
    if frame.crs is None:
        raise TrainError(f"{source} has no CRS; set the one its numbers are in with set_crs()")
    return frame, source


@lru_cache(maxsize=2)  # one inventory labels many cubes
def _read(path: Path, changed_ns: int) -> geopandas.GeoDataFrame:
    import geopandas

    try:
        if path.suffix.lower() in _PARQUET:
            return geopandas.read_parquet(path)
        frame = geopandas.read_file(path)
    except (RuntimeError, ValueError, OSError) as error:  # pyogrio's errors are RuntimeErrors
        raise TrainError(f"{path} can't be read as polygons: {error}") from error
    if not hasattr(frame, "to_crs"):
        raise TrainError(f"{path} holds a table without geometries; give a layer of polygons")
    return frame


def repaired_polygons(shapes: Objects) -> tuple[Objects, NDArray[np.bool_]]:
    """Valid polygons, and which were repaired: of a figure that crosses itself, what it goes around is kept.

    Raises
    ------
    TrainError
        Geometries that are missing, empty or no polygons; a polygon without an inside.
    """
    import shapely

    wrong = ~np.isin(shapely.get_type_id(shapes), _POLYGONS) | shapely.is_empty(shapes)
    if wrong.any():
        raise TrainError(
            f"{wrong.sum()} of {len(shapes)} geometries are no polygons (missing, empty, points or lines), "
            f"the first in row {int(wrong.argmax())}; drop them"
        )
    broken = ~shapely.is_valid(shapes)
    if broken.any():
        shapes = shapes.copy()
        shapes[broken] = [_areas(each) for each in shapely.make_valid(shapes[broken])]
        if shapely.is_empty(shapes[broken]).any():
            raise TrainError(
                f"{shapely.is_empty(shapes).sum()} of {len(shapes)} polygons are invalid and go around "
                "nothing; drop them"
            )
    return shapes, broken


def _areas(shape: Any) -> Any:
    """The polygons of a geometry, without lines and points that a repair leaves."""
    import shapely

    parts = shapely.get_parts(shapely.get_parts(shape))
    return shapely.union_all(parts[shapely.get_type_id(parts) == _POLYGONS[0]])


def polygons_near(frame: geopandas.GeoDataFrame, bounds: Any, crs: Any) -> NDArray[np.int64]:
    """Places of the geometries whose bounds may meet a box (left, bottom, right, top) in some CRS.

    Geometries that are missing are among them, so that they are not passed over in silence.
    """
    from pyproj import CRS, Transformer

    theirs = CRS.from_user_input(frame.crs)
    transformer = Transformer.from_crs(crs_text(crs), theirs, always_xy=True)
    box = [float(each) for each in bounds]
    west, south, east, north = transformer.transform_bounds(
        box[0], box[1], box[2], box[3], densify_pts=_EDGE_POINTS
    )
    left, bottom, right, top = frame.bounds.to_numpy(np.float64).T
    turns: tuple[float, ...] = (0.0,)
    if theirs.is_geographic:
        # a box across 180 degrees has its west in the east; inventories count from -180 or from 0
        east, turns = east + 360 * (east < west), (-360.0, 0.0, 360.0)
    beside = np.logical_or.reduce([(left + turn <= east) & (right + turn >= west) for turn in turns])
    return np.flatnonzero(np.isnan(left) | (beside & (bottom <= north) & (top >= south)))


def in_crs(shapes: Objects, crs: Any, target: Any) -> Objects:
    """Geometries with every vertex taken to another CRS, x before y."""
    import shapely
    from pyproj import Transformer

    transformer = Transformer.from_crs(crs_text(crs), crs_text(target), always_xy=True)
    return np.asarray(
        shapely.transform(shapes, lambda xy: np.column_stack(transformer.transform(xy[:, 0], xy[:, 1]))),
        object,
    )


def crs_text(crs: Any) -> str:
    """WKT of a CRS, whichever package it comes from."""
    return str(crs.to_wkt())


def _in_pixels(shapes: Objects, grid: GeoBox) -> Objects:
    import shapely

    to_pixel = ~grid.transform

    def move(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        columns = to_pixel.a * xy[:, 0] + to_pixel.b * xy[:, 1] + to_pixel.c
        rows = to_pixel.d * xy[:, 0] + to_pixel.e * xy[:, 1] + to_pixel.f
        return np.asarray(np.round(np.column_stack([columns, rows]) / _STEP_PX) * _STEP_PX)

    return np.asarray(shapely.transform(shapes, move), object)


def _nothing(frame: geopandas.GeoDataFrame, source: str, grid: GeoBox) -> str:
    ours = grid.boundingbox.to_crs("EPSG:4326").bbox
    text = f"none of {source} lies within the cube, longitude {ours[0]:.3f} to {ours[2]:.3f} and latitude "
    text += f"{ours[1]:.3f} to {ours[3]:.3f}"
    return f"{text}; check the file and its CRS ({frame.crs.to_string()[:60]})"
