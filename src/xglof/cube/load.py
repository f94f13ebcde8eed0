"""One call from an area and a time to a cube: search, choose, read, harmonise, flag; all of it lazy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xglof.cube.assemble import Plan, assemble
from xglof.cube.grid import area_of, check_grid_request, grid_of
from xglof.cube.scenes import Selection, choose
from xglof.cube.providers import PROVIDERS, collections_of
from xglof.cube.sources import Archive, Period, open_archive, parse_period
from xglof.errors import CubeError

if TYPE_CHECKING:
    import xarray as xr

_HELD = ("S2L2A", "S1RTC", "DEM")


def open_cube(
    aoi: object = None,
    time: str | None = None,
    *,
    catalog: object,
    modalities: Sequence[str] = _HELD,
    resolution: float | None = None,
    crs: object = None,
    geobox: Any = None,
    chunks: Mapping[str, Any] | None = None,
    max_cloud_cover: float | None = None,
    max_gap_days: float = 7.0,
) -> xr.Dataset:
    """A lazy cube of Sentinel-2, Sentinel-1 and the Copernicus DEM on one grid.

    Parameters
    ----------
    aoi
        ``(west, south, east, north)`` in degrees, a shapely geometry in degrees, a GeoDataFrame or
        GeoSeries, a GeoJSON dict or the path of a GeoJSON file. The cube covers its bounds. ``None``: the
        extent of ``geobox``, or the footprints of a static catalogue's Sentinel-2 (else Sentinel-1) items.
    time
        STAC-style: ``"2023-07/2023-09"`` (both months whole), ``"2023-07-15"``, ``"2023-07/.."``. UTC.
    catalog
        ``"planetary-computer"``, ``"earth-search"``, the URL of a STAC API, the path of a ``catalog.json`` or
        of its folder, or a sequence of pystac items.
    modalities
        Among ``"S2L2A"``, ``"S1RTC"``, ``"DEM"``.
    resolution
        Pixel size in units of the CRS; 10 m by default.
    crs
        Of the cube; by default the UTM zone of the area's centroid.
    geobox
        The exact grid, instead of ``aoi``, ``resolution`` and ``crs``.
    chunks
        Dask chunks of the result, such as ``{"x": 1024, "y": 1024}``. Files are read in cells of
        2016 x 2016 pixels of an absolute lattice whatever this says, so it changes no value.
    max_cloud_cover
        Percent; Sentinel-2 items above it are left out.
    max_gap_days
        How far in time a Sentinel-1 acquisition may be from the Sentinel-2 step it goes with.

    Returns
    -------
    xarray.Dataset
        Dims ``(time, y, x)``, on geographic grids ``(time, latitude, longitude)``; the CRS is in
        ``spatial_ref``.

        - ``B01`` ... ``B12``: uint16, reflectance x 10,000 without the radiometric offset, nodata 0; ``SCL``
          uint8, nodata 0. One step a solar day.
        - ``vv``, ``vh``: float32 dB of RTC gamma0, nodata NaN: the acquisition nearest to each Sentinel-2
          step; without Sentinel-2 the steps are those of Sentinel-1.
        - ``dem``: float32 ``(y, x)``, metres above EGM2008, nodata NaN.
        - ``flags``: uint16 bits of :class:`~xglof.cube.flags.Flag`.

        Coordinates along time: ``s2_items``, ``s2_baseline``, ``s2_offset``, ``s2_offset_source``,
        ``sun_azimuth``, ``sun_elevation``; ``s1_items``, ``orbit_state``, ``relative_orbit``,
        ``s1_gap_days``. Attributes tell the items found, used and rejected.

        Nothing is read here. A task reads one cell of one band of one step (8 MB for uint16, 16 MB for
        float32, as much again while it reprojects); a ``flags`` task holds a block of every band, and of
        the DEM with 5 km around it.

    Raises
    ------
    CubeError
        Arguments that contradict each other or cannot be read.
    CatalogError
        A catalogue that cannot be opened, or that has nothing usable for a modality.

    Examples
    --------
    >>> cube = xglof.open_cube((86.9, 27.85, 87.0, 27.95), "2023-09/2023-11",
    ...                        catalog="planetary-computer", max_cloud_cover=30)  # doctest: +SKIP
    """
    names = _check_modalities(modalities)
    check_grid_request(aoi, resolution, crs, geobox)
    _check_limits(max_cloud_cover, max_gap_days)
    period = parse_period(time)
    area = None if aoi is None else area_of(aoi)
    grid = geobox if area is None else grid_of(area, resolution, crs)
    if isinstance(catalog, str) and catalog in PROVIDERS:
        for name in names:
            collections_of(name, PROVIDERS[catalog])
    archive = open_archive(catalog)
    if grid is None:
        grid = _grid_of_items(archive, names, period, resolution, crs, max_cloud_cover)
    wanted = _check_chunks(chunks, grid.dimensions)
    return assemble(
        Plan(archive, names, period, grid, _signer(archive), max_cloud_cover, max_gap_days, Selection()),
        wanted,
    )


def _check_modalities(modalities: Sequence[str]) -> tuple[str, ...]:
    if isinstance(modalities, str):
        modalities = (modalities,)
    for name in modalities:
        if name == "S1GRD":
            raise CubeError(
                "S1GRD is refused: archives hold uncalibrated digital numbers in ground range, "
                "whose decibels are not sigma0; use S1RTC"
            )
        if name not in _HELD:
            raise CubeError(f"modality {name!r} is unknown; expected some of {', '.join(_HELD)}")
    if not modalities:
        raise CubeError(f"modalities= is empty; expected some of {', '.join(_HELD)}")
    return tuple(name for name in _HELD if name in modalities)


def _check_limits(max_cloud_cover: float | None, max_gap_days: float) -> None:
    if max_cloud_cover is not None and not 0 <= max_cloud_cover <= 100:
        raise CubeError(f"max_cloud_cover is {max_cloud_cover}; expected percent, 0 to 100")
    if not 0 <= max_gap_days < math.inf:
        raise CubeError(f"max_gap_days is {max_gap_days}; expected days, 0 or more")


def _check_chunks(chunks: Mapping[str, Any] | None, dimensions: tuple[str, str]) -> dict[str, Any]:
    """User's chunks under the names of the cube's dims (``y`` and ``x`` are understood on any grid)."""
    names = {"time": "time", "y": dimensions[0], "x": dimensions[1]} | {name: name for name in dimensions}
    unknown = [name for name in chunks or {} if name not in names]
    if unknown:
        raise CubeError(f"chunks= names {unknown[0]!r}; expected dims among time, {', '.join(dimensions)}")
    return {names[name]: size for name, size in (chunks or {}).items()}


def _signer(archive: Archive) -> Callable[[str], str]:
    from xglof.cube.reader import signer

    return signer(archive.provider)


def _grid_of_items(
    archive: Archive,
    modalities: tuple[str, ...],
    period: Period,
    resolution: float | None,
    crs: object,
    max_cloud_cover: float | None,
) -> Any:
    """The grid over the footprints of the first modality that a cube is made of."""
    import shapely

    if archive.searchable:
        raise CubeError(f"aoi= is needed to search {archive.name}; give one, or geobox=")
    chosen = choose(archive, modalities[0], period, None, Selection(), max_cloud_cover)
    return grid_of(
        shapely.union_all([scene.footprint for scene in chosen.scenes]), resolution, crs, densify=False
    )
