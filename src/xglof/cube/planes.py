"""From chosen scenes to lazy planes on the grid of a cube."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from xglof.bands import LAYERS, MODALITIES, SAR_BANDS, Band, Resampling
from xglof.cube.access import Access, without_query
from xglof.cube.grid import READ_CELL_PX
from xglof.cube.mosaic import Finish, mosaic
from xglof.cube.pixel_grid import PixelGrid, Window
from xglof.cube.scenes import Chosen, hrefs
from xglof.cube.sea import degrees_of_sea
from xglof.cube.stacks import FAILED, Backend, FileType, OnError, SourceFile, open_stacks
from xglof.cube.steps import Scene
from xglof.errors import CatalogError

_HEADERS_AT_ONCE = 8

#: Band name and resampling method.
Methods = tuple[tuple[str, Resampling], ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """How the files of an archive are read, whatever the modality.

    Attributes
    ----------
    access
        How they are reached.
    root
        What they may not leave, as :func:`xglof.cube.sources.asset_href` takes it.
    on_error, backend
        As :func:`xglof.open_cube` takes them.
    resampling
        Band and method of those bands that a user chose one for.
    whole
        A known archive itself was searched, so that what is not found is not there.
    """

    access: Access
    root: Path | str | None
    on_error: OnError = "raise"
    backend: Backend = "odc-stac"
    resampling: Methods = ()
    whole: bool = False

    def how(self, band: Band) -> Resampling:
        """The method for a band."""
        return dict(self.resampling).get(band.name, band.resampling)


@dataclass(frozen=True, slots=True)
class Planes:
    """Bands of one modality.

    Attributes
    ----------
    bands
        Band name -> Dask array ``(plane, y, x)``: uint16 without the radiometric offset, layers uint8, radar
        float32 linear power, elevation float32 m; nodata as :mod:`xglof.bands` has it.
    failed
        Dask array ``(plane, y, x)`` bool: where a file of some band could not be read and no other has a
        value; ``None`` where failures raise.
    """

    bands: dict[str, Any]
    failed: Any | None


def band_of(modality: str, name: str) -> Band:
    """The :class:`~xglof.bands.Band` of a variable of a cube."""
    known = (*MODALITIES[modality].bands, *LAYERS[modality])
    return next(band for band in known if band.name == name)


def read_planes(chosen: Chosen, groups: Sequence[Sequence[Scene]], geobox: Any, reading: Reading) -> Planes:
    """The bands of a modality, lazily.

    Parameters
    ----------
    chosen
        The modality's scenes.
    groups
        Scenes that make up one plane each, first valid pixel first.
    geobox
        The grid of the cube.
    reading
        How files are read.

    Returns
    -------
    Planes
        Chunks are those of the absolute lattice of 2016 pixels. A task fills one block of one band, 8 MB for
        uint16 and 16 MB for float32, from native blocks of the same size.

    Raises
    ------
    CatalogError
        A file whose item does not state its grid cannot be opened.
    """
    from xglof.cube.reader import ArchiveDriver

    target, wanted = PixelGrid.of(geobox)
    files = _source_files(chosen, groups, reading)
    types = {band: _file_type(chosen, band, reading) for band in files}
    stacks = open_stacks(
        {band: [file for plane in planes for file in plane] for band, planes in files.items()},
        types,
        target,
        wanted,
        driver=ArchiveDriver(reading.access, reading.on_error),
        backend=reading.backend,
    )
    bands, failed = {}, None
    for band, planes in files.items():
        finish = _finish(chosen, band, types[band], reading)
        if chosen.product.worldwide and reading.whole:
            tiles = [file.geobox for plane in planes for file in plane]
            finish = replace(finish, sea=degrees_of_sea(tiles, geobox))
        prefix = f"{chosen.modality}-{band}"
        bands[band], lost = mosaic(planes, stacks[band], target, tiling(wanted), finish, name=prefix)
        failed = lost if failed is None or lost is None else failed | lost
    return Planes(bands, failed)


def _source_files(
    chosen: Chosen, groups: Sequence[Sequence[Scene]], reading: Reading
) -> dict[str, list[list[SourceFile]]]:
    """Band -> plane -> files. Files whose items state no grid are opened for their headers."""
    scenes = [scene for group in groups for scene in group]
    addresses = {scene: hrefs(scene, reading.root) for scene in scenes}
    unstated = [
        address
        for scene, held in addresses.items()
        for band, address in held.items()
        if scene.grid(band) is None
    ]
    headers = _headers(unstated, reading.access)

    for scene in dict.fromkeys(scenes):
        _check_place(scene)

    def file(scene: Scene, band: str) -> SourceFile:
        address = addresses[scene][band]
        grid = scene.grid(band) or headers[address]
        optical = chosen.modality == "S2L2A" and band in MODALITIES["S2L2A"].names
        if not grid.axis_aligned:
            raise CatalogError(
                f"{without_query(address)} is rotated; expected rows and columns along the axes of its CRS: "
                "warp the file, or leave the item out"
            )
        name = f"{scene.product.collection}/{scene.id}"  # two collections may use one id
        return SourceFile(name, address, grid, scene.offset.value if optical and scene.offset else 0)

    return {
        band: [[file(scene, band) for scene in group if band in addresses[scene]] for group in groups]
        for band in chosen.bands
    }


def _check_place(scene: Scene) -> None:
    """Refuse an item whose files lie elsewhere by their grid than by its footprint.

    Raises
    ------
    CatalogError
        They do not meet: nothing of them would be read where they were looked for.
    """
    import shapely

    grid = next((grid for band in scene.bands if (grid := scene.grid(band)) is not None), None)
    if grid is None:
        return
    box, footprint = _bounds(grid), shapely.box(*scene.footprint.bounds)
    wide = max(box[2] - box[0], footprint.bounds[2] - footprint.bounds[0]) > 180  # over the antimeridian
    if not (wide or shapely.box(*box).intersects(footprint)):
        place = ", ".join(f"{edge:.2f}" for edge in box)
        raise CatalogError(
            f"item {scene.id}: by its grid in {grid.crs} its files lie at {place} degrees, outside its "
            "geometry; correct the item's projection or leave it out"
        )


@cache
def _bounds(grid: Any) -> tuple[float, ...]:
    return tuple(grid.footprint("EPSG:4326").boundingbox.bbox)


def _headers(addresses: Iterable[str], access: Access) -> dict[str, Any]:
    from xglof.cube.reader import file_grid

    distinct = list(dict.fromkeys(addresses))
    read: Callable[[str], Any] = lambda address: file_grid(address, access)  # noqa: E731
    with ThreadPoolExecutor(_HEADERS_AT_ONCE) as threads:
        return dict(zip(distinct, threads.map(read, distinct), strict=True))


def _file_type(chosen: Chosen, band: str, reading: Reading) -> FileType:
    product = chosen.product
    how = reading.how(band_of(chosen.modality, band))
    units = product.units if band in SAR_BANDS else None
    return FileType(product.dtype_of(band), product.nodata_of(band), how, units)


def _finish(chosen: Chosen, band: str, kind: FileType, reading: Reading) -> Finish:
    layer = band_of(chosen.modality, band)
    return Finish(
        dtype=layer.dtype,
        nodata=layer.nodata,
        how=reading.how(layer),
        units=chosen.product.units if layer.units == "dB" else None,
        seams=band == "dem",
        fill=kind.fill,
        mark=FAILED[kind.dtype] if reading.on_error == "flag" else None,
    )


def tiling(wanted: Window) -> tuple[tuple[Window, ...], ...]:
    """The blocks of a window: cells of the absolute lattice, those at its edges cut."""
    return tuple(tuple(cell & wanted for cell in row) for row in wanted.cells(READ_CELL_PX))
