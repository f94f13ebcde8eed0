"""One call from an area and a time to a cube: search, choose, read, harmonise, flag; all of it lazy."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from xglof.bands import Resampling
from xglof.cube.access import Access
from xglof.cube.arguments import (
    check_choices,
    check_chunks,
    check_limits,
    check_modalities,
    check_resampling,
)
from xglof.cube.assemble import RADAR, Plan, Wishes, assemble
from xglof.cube.composite import composite as compose
from xglof.cube.grid import area_of, check_grid_request, grid_of
from xglof.cube.harmonise import GRD_WARNING, check_radar_units
from xglof.cube.planes import Methods, Reading
from xglof.cube.providers import PROVIDERS, Provider, collections_of
from xglof.cube.ranking import RankBy, Ranking
from xglof.cube.scenes import Orbit, Selection, choose
from xglof.cube.sources import Archive, Period, open_archive, parse_period
from xglof.cube.stacks import Backend, OnError
from xglof.cube.window_stack import Method
from xglof.cube.windows import Window, repeats, windows
from xglof.errors import CubeError

if TYPE_CHECKING:
    import xarray as xr


def open_cube(
    aoi: object = None,
    time: str | None = None,
    *,
    catalog: object,
    modalities: Sequence[str] = ("S2L2A", "S1RTC", "DEM"),
    resolution: float | None = None,
    crs: object = None,
    geobox: Any = None,
    chunks: Mapping[str, Any] | None = None,
    max_cloud_cover: float | None = None,
    max_gap_days: float = 7.0,
    orbit: Orbit | None = None,
    freq: object = None,
    composite: Method = "median",
    max_scenes: int | None = None,
    rank_by: RankBy = "cloud_cover",
    offset: Literal["metadata", "pixels"] = "metadata",
    on_error: OnError = "raise",
    backend: Backend = "odc-stac",
    resampling: Mapping[str, Resampling] | None = None,
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
        ``"planetary-computer"``, ``"earth-search"``, ``"cdse"``, ``"opera"``, the URL of a STAC API, the path
        of a ``catalog.json`` or of its folder, of an ItemCollection or of a stac-geoparquet file, a sequence
        of pystac items, an :class:`xglof.Provider`, or the path of a provider's TOML file.
    modalities
        Among ``"S2L2A"``, ``"S1RTC"`` or ``"S1GRD"``, and ``"DEM"``.
    resolution
        Pixel size in units of the CRS; 10 m by default.
    crs
        Of the cube; by default the UTM zone of the area's centroid.
    geobox
        The exact grid, instead of ``aoi``, ``resolution`` and ``crs``.
    chunks
        Dask chunks of the result, such as ``{"x": 1024, "y": 1024}``. How files are read does not depend on
        them, so they change no value.
    max_cloud_cover
        Percent; Sentinel-2 items above it are left out.
    max_gap_days
        How far in time a Sentinel-1 acquisition may be from the Sentinel-2 step it goes with.
    orbit
        Sentinel-1 of this direction or relative orbit only, so that all dates are seen from one side.
    freq
        Composites over windows of time, ``"season"``, ``"month"`` or as
        :func:`xglof.cube.windows.windows` takes it; ``None`` keeps the acquisitions. Windows that ``time``
        touches are whole, so that all of their acquisitions are searched. Every acquisition of Sentinel-1 in
        a window counts, where a cube opened without ``freq`` holds those nearest to Sentinel-2 steps only.
    composite
        ``"median"``, ``"medoid"`` or ``"best"``, as :func:`xglof.composite` takes it.
    max_scenes
        The best so many Sentinel-2 steps only, of each window where there is ``freq``; chosen before any
        band is read.
    rank_by
        What is best: ``"cloud_cover"`` as the items state it, or ``"SCL"``, the share of the grid that is
        clear in a small copy of the scene classification, which is read here and now.
    offset
        ``"metadata"``: the archive's flag, then the processing baseline, decide the radiometric offset.
        ``"pixels"``: small copies of four bands of every scene are read here and now; where their darkest
        numbers contradict what is stated, or nothing is stated, they decide.
    on_error
        What a file that cannot be read does, after all attempts, when the cube is computed: ``"raise"``, or
        ``"flag"``: its pixels are nodata with the flag ``failed_read``.
    backend
        What reads the files: ``"odc-stac"``, or ``"stackstac"`` with the same values.
    resampling
        Band to ``"nearest"``, ``"bilinear"`` or ``"cubic"``, such as ``{"dem": "cubic"}``; others keep what
        :mod:`xglof.bands` says: bilinear, and nearest for classes, which take no other.

    Returns
    -------
    xarray.Dataset
        Dims ``(time, y, x)``, on geographic grids ``(time, latitude, longitude)``; the CRS is in
        ``spatial_ref``.

        - ``B01`` ... ``B12``: uint16, reflectance x 10,000 without the radiometric offset, nodata 0; ``SCL``
          uint8, nodata 0, and where the archive has it ``CLD`` uint8 percent, nodata 255. One step a solar
          day and relative orbit.
        - ``vv``, ``vh``: float32 dB, nodata NaN, of what ``attrs["product"]`` says: the acquisition nearest
          to each Sentinel-2 step; without Sentinel-2 the steps are those of Sentinel-1. Passes of one day,
          direction and relative orbit make one acquisition. ``s1_mask`` uint8 where the product brings it.
        - ``dem``: float32 ``(y, x)``, metres above EGM2008, nodata NaN.
        - ``flags``: uint16 bits of :class:`~xglof.cube.flags.Flag`.

        Coordinates along time: ``s2_items``, ``s2_time``, ``s2_baseline``, ``s2_offset`` (the largest of the
        step's scenes), ``s2_offset_source``, ``s2_offset_by_item``, ``cloud_cover``, ``sun_azimuth``,
        ``sun_elevation``; ``s1_items``, ``s1_time``, ``orbit_state``, ``relative_orbit``, ``s1_gap_days``.
        Attributes tell the items found, used, rejected and repaired.

        Unless ``rank_by`` or ``offset`` ask for pixels, nothing is read here but the headers of files whose
        items do not state their grid. A task reads one block of 2048 x 2048 native pixels (8 MB for uint16,
        16 MB for float32) or fills one block of a band; a ``flags`` task holds a block of every band, and of
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
    names = check_modalities(modalities)
    check_grid_request(aoi, resolution, crs, geobox)
    check_limits(names, max_cloud_cover, max_gap_days, orbit, max_scenes)
    check_choices(composite=composite, rank_by=rank_by, offset=offset, on_error=on_error, backend=backend)
    if freq is None and composite != "median":
        raise CubeError(
            f"composite={composite!r} needs windows of time: say which with freq=, such as 'month'"
        )
    methods = check_resampling(resampling)
    period = parse_period(time)
    spans = _windows(freq, period)
    if spans:  # whole windows: the period says which
        period = Period(spans[0].start, spans[-1].end - timedelta(microseconds=1))
    area = None if aoi is None else area_of(aoi)
    grid = geobox if area is None else grid_of(area, resolution, crs)
    archive = reach(catalog, names)
    wishes = Wishes(
        period,
        max_cloud_cover,
        max_gap_days,
        orbit,
        None if max_scenes is None else Ranking(max_scenes, rank_by, spans),
        offset,
    )
    if grid is None:
        grid = _grid_of_items(archive, names, wishes, resolution, crs)
    plan = Plan(archive, grid, reading_of(archive, on_error, backend, methods), wishes)
    wanted = check_chunks(chunks, grid.dimensions)
    if freq is None:
        return assemble(plan, names, wanted)
    return compose(assemble(plan, names, wanted, "each"), freq, method=composite, period=period)


def _windows(freq: object, period: Period) -> tuple[Window, ...]:
    """The windows of a composite, where they can be known before the search."""
    if freq is None:
        return ()
    if period.start is None or period.end is None:
        windows(freq, "2020")  # a word that is not understood is said first
    if repeats(freq) and (period.start is None or period.end is None):
        raise CubeError(f"freq={freq!r} needs a time with both ends, such as time='2019/2023'")
    return windows(freq, period)


def reach(catalog: object, modalities: Sequence[str]) -> Archive:
    """The archive, once it is known to hold the modalities in a form that can be used."""
    stated = PROVIDERS.get(catalog) if isinstance(catalog, str) else catalog
    if isinstance(stated, Provider):
        for name in modalities:
            collections_of(name, stated)
            for product in stated.products_of(name) if name in RADAR else ():
                check_radar_units(str(product.units))
    if "S1GRD" in modalities:
        warnings.warn(GRD_WARNING, stacklevel=3)
    return open_archive(catalog)


def reading_of(archive: Archive, on_error: OnError, backend: Backend, resampling: Methods = ()) -> Reading:
    """How an archive's files are read."""
    provider = archive.provider
    if provider is None:
        return Reading(Access(archive.name), archive.root, on_error, backend, resampling)
    access = Access(
        provider.name, provider.signing, tuple(sorted(provider.environment.items())), provider.concurrency
    )
    return Reading(access, archive.root, on_error, backend, resampling, archive.searchable)


def _grid_of_items(
    archive: Archive, modalities: tuple[str, ...], wishes: Wishes, resolution: float | None, crs: object
) -> Any:
    """The grid over the footprints of the first modality that a cube is made of."""
    import shapely

    if archive.searchable:
        raise CubeError(f"aoi= is needed to search {archive.name}; give one, or geobox=")
    chosen = choose(
        archive,
        modalities[0],
        wishes.period,
        None,
        Selection(),
        max_cloud_cover=wishes.max_cloud_cover,
        offset_needed=False,  # of no consequence to a footprint
    )
    return grid_of(
        shapely.union_all([scene.footprint for scene in chosen.scenes]), resolution, crs, densify=False
    )
