"""The area asked for, and the one grid of a cube."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from xglof.errors import CubeError

#: Side of a reading cell, pixels: a multiple of the windows of the networks (224, 168, 112, 56).
READ_CELL_PX = 2016
DEFAULT_RESOLUTION_M = 10.0


def area_of(aoi: object) -> Any:
    """Area of interest as a shapely geometry in degrees (EPSG:4326).

    Parameters
    ----------
    aoi
        ``(west, south, east, north)`` in degrees, a shapely geometry in degrees, a GeoDataFrame or
        GeoSeries in any CRS, a GeoJSON dict, or the path of a GeoJSON file.

    Raises
    ------
    CubeError
        Nothing of that kind, no area, outside the globe, or across the antimeridian.
    """
    shape = _shape_of(aoi)
    if shape.is_empty or not shape.area > 0:
        what = "without coordinates" if shape.is_empty else f"without extent, {shape.bounds}"
        raise CubeError(
            f"the area of interest is empty (a {shape.geom_type} {what}); expected a polygon or a bbox"
        )
    west, south, east, north = shape.bounds
    if west < -180 or east > 180 or south < -90 or north > 90:
        raise CubeError(
            f"the area of interest spans {shape.bounds}; expected degrees of longitude and latitude "
            "(give metres as a GeoDataFrame with its CRS)"
        )
    if east - west > 180:
        raise CubeError(
            f"the area of interest spans {east - west:.1f} degrees of longitude, as one that crosses the "
            "antimeridian does; split it at 180 degrees and open one cube on each side"
        )
    return shape


def _shape_of(aoi: object) -> Any:
    import shapely
    from shapely.geometry.base import BaseGeometry

    if isinstance(aoi, BaseGeometry):
        return aoi
    if isinstance(aoi, (str, Path)):
        return _from_geojson(_read_geojson(Path(aoi)))
    if isinstance(aoi, dict):
        return _from_geojson(aoi)
    if hasattr(aoi, "union_all") and hasattr(aoi, "crs"):
        return _from_frame(aoi)
    if isinstance(aoi, Sequence) and len(aoi) == 4 and all(isinstance(v, (int, float)) for v in aoi):
        west, south, east, north = (float(v) for v in aoi)
        if not all(map(math.isfinite, (west, south, east, north))):
            raise CubeError(f"the bbox {tuple(aoi)} is not finite")
        if west > east:
            raise CubeError(
                f"the bbox {tuple(aoi)} runs west to east from {west} to {east}, across the antimeridian or "
                "reversed; give (west, south, east, north) and open one cube on each side of 180 degrees"
            )
        if south > north:
            raise CubeError(f"the bbox {tuple(aoi)} has its south above its north")
        return shapely.box(west, south, east, north)
    raise CubeError(
        f"an area of interest of type {type(aoi).__name__} is not understood; expected (west, south, east, "
        "north), a shapely geometry, a GeoDataFrame, a GeoJSON dict or the path of a GeoJSON file"
    )


def _from_frame(frame: Any) -> Any:
    if frame.crs is None:
        raise CubeError("the GeoDataFrame of the area of interest has no CRS; set one with set_crs()")
    return frame.to_crs("EPSG:4326").union_all()


def _read_geojson(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CubeError(f"cannot read the area of interest {path}: {error.strerror}") from error
    except ValueError as error:
        raise CubeError(f"{path} is not GeoJSON ({error}); give a file with a Polygon") from error
    if not isinstance(content, dict):
        raise CubeError(f"{path} is not GeoJSON: expected an object, got {type(content).__name__}")
    return content


def _from_geojson(content: dict[str, Any]) -> Any:
    import shapely
    from shapely.geometry import shape

    if content.get("type") == "FeatureCollection":
        return shapely.union_all([_from_geojson(feature) for feature in content.get("features", [])])
    geometry = content.get("geometry") if content.get("type") == "Feature" else content
    if geometry is None:
        raise CubeError("the Feature of the area of interest has no geometry (null); give it a Polygon")
    try:
        return shape(geometry)
    except (AttributeError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError) as error:
        raise CubeError(f"the GeoJSON of the area of interest holds no geometry: {error}") from error


def check_grid_request(aoi: object, resolution: float | None, crs: object, geobox: Any) -> None:
    """Refuse contradicting or unusable wishes about the grid, before anything is searched.

    Raises
    ------
    CubeError
        ``geobox`` together with ``aoi``, ``resolution`` or ``crs``; a geobox without CRS, empty or rotated;
        a resolution that is not above 0, or in metres on a grid in degrees.
    """
    if geobox is not None:
        given = [n for n, v in (("aoi", aoi), ("resolution", resolution), ("crs", crs)) if v is not None]
        if given:
            raise CubeError(f"geobox= says it all; leave out {', '.join(given)}")
        _check_geobox(geobox)
        return
    number = isinstance(resolution, Real) and math.isfinite(resolution) and resolution > 0
    if resolution is not None and not number:
        raise CubeError(f"resolution is {resolution!r}; expected a number above 0, in units of the CRS")
    if crs is not None:
        _check_units(_crs_of(crs), resolution)


def _crs_of(crs: object) -> Any:
    from odc.geo import CRS

    try:
        return CRS(crs)
    except Exception as error:  # pyproj and odc-geo raise several kinds
        raise CubeError(
            f"crs={crs!r} is not understood ({error}); expected such as 'EPSG:32645', or leave it out"
        ) from error


def _check_units(crs: Any, resolution: float | None) -> None:
    if not crs.geographic:
        return
    if resolution is None or resolution > 1:
        got = "none given" if resolution is None else f"{resolution:g}, which looks like metres"
        raise CubeError(
            f"crs {crs} is in degrees and needs a resolution in degrees (got {got}); "
            "10 m is about resolution=0.00009"
        )


def _check_geobox(geobox: Any) -> None:
    from odc.geo.geobox import GeoBox

    if not isinstance(geobox, GeoBox):
        raise CubeError(f"geobox= is a {type(geobox).__name__}; expected odc.geo.geobox.GeoBox")
    if geobox.crs is None:
        raise CubeError("the geobox has no CRS; build it with one")
    if geobox.is_empty():
        raise CubeError(f"the geobox is empty: shape {tuple(geobox.shape)}")
    if not geobox.axis_aligned:
        raise CubeError(
            f"the geobox is rotated ({geobox.transform!r}); expected rows and columns along the axes"
        )


def grid_of(area: Any, resolution: float | None, crs: object, *, densify: bool = True) -> Any:
    """The GeoBox that covers an area, its pixel edges at multiples of the resolution.

    Parameters
    ----------
    area
        Shapely geometry in degrees.
    resolution
        In units of the CRS; ``None`` for 10 m.
    crs
        Anything that pyproj reads; ``None`` for the UTM zone of the area's centroid.
    densify
        Follow straight lines in degrees, as a bbox means them. Footprints of files are straight in their
        own projection, so only their corners count.
    """
    from odc.geo.geobox import GeoBox
    from odc.geo.geom import Geometry

    target = utm_of(area) if crs is None else _crs_of(crs)
    west, south, east, north = area.bounds
    step = max(east - west, north - south) / 64 if densify else None
    bounds = Geometry(area, "EPSG:4326").to_crs(target, step).boundingbox
    if not all(map(math.isfinite, bounds.bbox)):
        raise CubeError(
            f"the area of interest {area.bounds} cannot be projected to {target}; pass another crs="
        )
    step_size = DEFAULT_RESOLUTION_M if resolution is None else float(resolution)
    return GeoBox.from_bbox(bounds, resolution=step_size)


def utm_of(area: Any) -> Any:
    """CRS of the UTM zone in which the centroid of an area in degrees lies.

    Raises
    ------
    CubeError
        The centroid lies beyond 84 N or 80 S, where UTM ends.
    """
    from odc.geo import CRS

    centre = area.centroid
    if not -80 <= centre.y <= 84:
        raise CubeError(f"the area of interest lies at {centre.y:.1f} N, where UTM ends; pass crs=")
    zone = min(int((centre.x + 180) // 6) + 1, 60)
    return CRS(f"EPSG:{(32600 if centre.y >= 0 else 32700) + zone}")
