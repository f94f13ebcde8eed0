"""What an inventory says of a lake besides its outline: place, provenance, glaciers, ice, and a review."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.errors import CubeError
from xglof.lakes.contact import ice_contact
from xglof.lakes.layer import Float, grid_dims, north_up, to_degrees
from xglof.lakes.reading import date_places, read_windows, window_around
from xglof.lakes.review import REVIEW_FIELDS

if TYPE_CHECKING:
    import geopandas

#: Variables of a series and the columns that they become. A series holds whole lakes, a row one part of a
#: lake: hence the prefix.
_FROM_SERIES = {
    "area": "lake_area_m2",
    "area_sigma": "lake_area_sigma_m2",
    "area_lower": "lake_area_lower_m2",
    "area_upper": "lake_area_upper_m2",
    "observed_fraction": "observed_fraction",
}
_FLAGS = {"sensors": "sensors", "quality": "quality"}
_MAX_REACH_M = 2_000_000.0  # beyond it a plane around the lakes stretches distances by more than 2%
_FAR_M = 5_000_000.0  # glaciers beyond it are nobody's nearest, and the plane turns itself inside out


def lake_attributes(
    lakes: geopandas.GeoDataFrame,
    series: xr.Dataset | None = None,
    *,
    seg: xr.Dataset | None = None,
    dem: xr.DataArray | None = None,
    glaciers: geopandas.GeoDataFrame | None = None,
) -> geopandas.GeoDataFrame:
    """The table of lakes with what an inventory says of each, a row a lake part and date as before.

    This **computes** what it reads of ``series``, ``dem`` and ``seg``: windows around the lakes, of ``seg``
    one date after the other. Store a segmentation first.

    Parameters
    ----------
    lakes
        Rows of :func:`xglof.lakes.track`: ``lake_id``, ``time`` (in UTC, or with a time zone), polygons, a
        CRS.
    series
        ``(lake, [time])`` Dataset of :func:`xglof.lakes.lake_area`, flagged or not. Dates are the same
        within a millisecond, so that a table may come back from a GeoPackage.
    seg
        Segmentation with ``lake`` and ``flags`` or ``classes``: where ice was seen, and by which model.
    dem
        ``(y, x)`` numbers, m, on any grid with a CRS. Its attribute ``nodata`` or ``_FillValue``, and NaN,
        are no heights. It has an epoch (its attribute ``dem_epoch`` or ``epoch``) and remembers the lakes
        and glaciers of that time.
    glaciers
        Outlines of glaciers (RGI), in any CRS.

    Returns
    -------
    geopandas.GeoDataFrame
        The same rows, order, index and columns, and

        - ``elevation_m``: float64, median of the DEM on the pixels of the lake's largest outline, one value a
          lake; NaN without ``dem``;
        - ``lake_area_m2``, ``lake_area_sigma_m2``, ``lake_area_lower_m2``, ``lake_area_upper_m2`` and
          ``observed_fraction``: float64, of the whole lake at that date, from the series; else NaN;
        - ``sensors`` and ``quality``: text, meanings of a flagged series, several with spaces between; else
          empty;
        - ``model``, ``model_sha256``: text, from the attributes of ``seg`` or ``series``; else empty;
        - ``glacier_distance_m``: float64, from the outline to the nearest glacier of ``glaciers``, 0 where
          they touch, NaN without. Measured in a plane around the lakes: right to 0.1% within 500 km of their
          centre and to 2% within 2000 km. It is the distance to an outline of the inventory's date;
        - ``contact``: text, ``"ice contact"``, ``"no contact"`` or ``"unknown"``, from the ice seen at the
          row's date within 2 pixels of the lake (:func:`xglof.lakes.ice_contact`). Ice under debris looks
          like rock: ``"no contact"`` at a debris-covered tongue can be wrong;
        - the review: ``name``, ``certainty``, ``verified``, ``verified_by``, ``comment``, empty but for what
          ``lakes`` has already.

        ``attrs`` of the table says where ``elevation_m`` comes from.

    Raises
    ------
    CubeError
        ``lakes`` without ``lake_id``, ``time`` or CRS; a series of other lakes or other dates; a DEM not in
        m or with time; glaciers without CRS, or lakes that lie more than 2000 km from their centre.
    """
    _check_lakes(lakes)
    described = lakes.copy()
    described["elevation_m"] = np.nan if dem is None else _elevation(lakes, dem)
    for name, values in _of_series(lakes, series).items():
        described[name] = values
    attrs = {**(series.attrs if series is not None else {}), **(seg.attrs if seg is not None else {})}
    for name in ("model", "model_sha256"):
        described[name] = str(attrs.get(name, ""))
    described["glacier_distance_m"] = np.nan if glaciers is None else _glacier_distance(lakes, glaciers)
    described["contact"] = "unknown" if seg is None else ice_contact(lakes, seg)
    for name, empty in REVIEW_FIELDS.items():
        if name not in described:
            described[name] = empty
    if dem is not None:
        epoch = dem.attrs.get("dem_epoch", dem.attrs.get("epoch", "unknown"))
        described.attrs["elevation_m"] = f"median of the DEM on the lake's largest outline; epoch {epoch}"
    return described


def _check_lakes(lakes: geopandas.GeoDataFrame) -> None:
    missing = [name for name in ("lake_id", "time") if name not in getattr(lakes, "columns", ())]
    if missing or not hasattr(lakes, "to_crs"):
        raise CubeError(
            f"the table of lakes has no {' and no '.join(missing) or 'geometry'}; run track() first"
        )
    if lakes.crs is None:
        raise CubeError("the GeoDataFrame of lakes has no CRS; set the one its numbers are in with set_crs()")


def _elevation(lakes: geopandas.GeoDataFrame, dem: xr.DataArray) -> Float:
    """Median of the DEM on each row's lake, metres."""
    import shapely

    grid_dims(dem)
    if dem.ndim != 2:
        raise CubeError(
            f"the DEM has dims {dem.dims}; expected rows and columns only, select along the others"
        )
    if dem.attrs.get("units", "m") not in ("m", "metre", "metres", "meter", "meters"):
        raise CubeError(f"the DEM is in {dem.attrs['units']!r}; expected metres")
    nodata = dem.odc.nodata
    dem = north_up(dem.transpose(*grid_dims(dem)))
    grid = dem.odc.geobox
    ids = lakes["lake_id"].to_numpy()
    shapes = np.asarray(lakes.geometry.to_crs(grid.crs.wkt).to_numpy(), object)
    order = np.argsort(shapely.area(shapes), kind="stable")
    largest = dict(zip(ids[order], shapes[order], strict=True))  # the last one, the largest, stays
    windows = [window_around(grid, shape.bounds) for shape in largest.values()]
    blocks = read_windows((dem.data,), windows)
    found = {
        lake: _median(block, shape, grid[window], nodata)
        for (lake, shape), (block,), window in zip(largest.items(), blocks, windows, strict=True)
    }
    return np.array([found[lake] for lake in ids], float)


def _median(values: NDArray[Any], shape: Any, grid: Any, nodata: float | None) -> float:
    """Median of the values on the pixels whose centres lie in the polygon; of all it touches if none does."""
    from rasterio.features import geometry_mask

    if values.size == 0:
        return np.nan
    known = np.isfinite(values) if nodata is None else np.isfinite(values) & (values != nodata)
    for touched in (False, True):
        inside = geometry_mask([shape], values.shape, grid.transform, all_touched=touched, invert=True)
        seen = values[inside & known]
        if seen.size:
            return float(np.median(seen))
    return np.nan


def _of_series(lakes: geopandas.GeoDataFrame, series: xr.Dataset | None) -> dict[str, NDArray[Any]]:
    """Columns from a series, for each row those of its lake and date."""
    columns: dict[str, NDArray[Any]] = {name: np.full(len(lakes), np.nan) for name in _FROM_SERIES.values()}
    columns |= {name: np.full(len(lakes), "", object) for name in _FLAGS.values()}
    if series is None:
        return columns
    known = series.indexes["lake"].get_indexer(lakes["lake_id"])
    if len(lakes) and (known < 0).all():
        raise CubeError(
            "no lake of the table is in the series; pass the series of these lakes: lake_area(seg, lakes)"
        )
    found = known >= 0
    place: dict[str, Any] = {"lake": xr.DataArray(known, dims="row")}
    if "time" in series.dims:
        dates = date_places(series.indexes["time"], lakes["time"])
        if len(lakes) and (dates < 0).all():
            raise CubeError(
                f"no date of the table (the first is {lakes['time'].iloc[0]}) is in the series; pass the "
                "series of these dates: lake_area(seg, lakes)"
            )
        found &= dates >= 0
        place["time"] = xr.DataArray(dates, dims="row")
    rows = series[[v for v in (*_FROM_SERIES, *_FLAGS) if v in series]].isel(place).compute()
    for variable, name in {**_FROM_SERIES, **_FLAGS}.items():
        if variable in rows:
            values = rows[variable].to_numpy()
            texts = flag_words(values, series[variable].attrs) if variable in _FLAGS else values
            columns[name][found] = texts[found]
    return columns


def flag_words(values: NDArray[Any], attrs: dict[str, Any]) -> NDArray[Any]:
    """Texts of CF flags: the meaning of a value, or those of all bits that are set."""
    meanings = str(attrs.get("flag_meanings", "")).split()
    if "flag_values" in attrs:
        named = dict(zip(np.atleast_1d(attrs["flag_values"]).tolist(), meanings, strict=True))
        texts = [named.get(value, "unknown") for value in values.tolist()]
    else:
        masks = np.atleast_1d(attrs.get("flag_masks", [])).tolist()
        pairs = list(zip(masks, meanings, strict=True))
        texts = [" ".join(word for mask, word in pairs if int(value) & mask) for value in values]
    return np.array(texts, object)


def _glacier_distance(lakes: geopandas.GeoDataFrame, glaciers: geopandas.GeoDataFrame) -> Float:
    """Metres from each outline to the nearest glacier, 0 where they touch; NaN where there is none."""
    if getattr(glaciers, "crs", None) is None:
        raise CubeError(
            "the outlines of glaciers have no CRS; set the one their numbers are in with set_crs()"
        )
    distance = np.full(len(lakes), np.nan)
    outlines = glaciers.geometry[~(glaciers.geometry.is_empty | glaciers.geometry.isna())]
    if not len(lakes) or not len(outlines):
        return distance
    points = lakes.geometry.representative_point()
    longitude, latitude = to_degrees(lakes.crs).transform(points.x.to_numpy(), points.y.to_numpy())
    centre = _centre(longitude, latitude)
    reach = np.max(_metres(centre, longitude, latitude))
    if reach > _MAX_REACH_M:
        raise CubeError(
            f"lakes lie {reach / 1000:.0f} km from their centre; expected 2000 at most, split them by region"
        )
    boxes = outlines.bounds
    x, y = (boxes["minx"] + boxes["maxx"]) / 2, (boxes["miny"] + boxes["maxy"]) / 2
    far = _metres(centre, *to_degrees(glaciers.crs).transform(x.to_numpy(), y.to_numpy()))
    near = outlines[far <= _FAR_M]
    if not len(near):
        return distance
    plane = f"+proj=aeqd +lon_0={centre[0]} +lat_0={centre[1]} +datum=WGS84 +units=m"
    (rows, _), found = near.to_crs(plane).sindex.nearest(
        lakes.geometry.to_crs(plane), return_all=False, return_distance=True
    )
    distance[rows] = found
    return distance


def _metres(centre: tuple[float, float], longitude: Float, latitude: Float) -> Float:
    """Geodesic distance of points from a centre."""
    from pyproj import Geod

    lon, lat = (np.full(longitude.shape, value) for value in centre)
    metres: Float = Geod(ellps="WGS84").inv(lon, lat, longitude, latitude)[2]
    return metres


def _centre(longitude: Float, latitude: Float) -> tuple[float, float]:
    """Longitude and latitude of the middle of points on a sphere, wherever the antimeridian lies."""
    east, north = np.radians(longitude), np.radians(latitude)
    x, y = np.mean(np.cos(north) * np.cos(east)), np.mean(np.cos(north) * np.sin(east))
    z = np.mean(np.sin(north))
    return float(np.degrees(np.arctan2(y, x))), float(np.degrees(np.arctan2(z, np.hypot(x, y))))
