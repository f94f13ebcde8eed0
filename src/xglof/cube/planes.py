"""From chosen scenes to lazy planes on the grid of a cube."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xglof.bands import LAYERS, MODALITIES, Band
from xglof.cube.access import Access
from xglof.cube.grid import READ_CELL_PX
from xglof.cube.mosaic import Finish, mosaic
from xglof.cube.pixel_grid import PixelGrid, Window
from xglof.cube.scenes import Chosen, hrefs
from xglof.cube.sea import parts_of_sea
from xglof.cube.stacks import Backend, FileType, OnError, SourceFile, open_stacks
from xglof.cube.steps import Scene

_HEADERS_AT_ONCE = 8


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
    whole
        The archive itself was searched, so that what is not found is not there.
    """

    access: Access
    root: Path | str | None
    on_error: OnError = "raise"
    backend: Backend = "odc-stac"
    whole: bool = False


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
    types = {band: _file_type(chosen, band) for band in files}
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
        finish = _finish(chosen, band, reading)
        if chosen.product.worldwide and reading.whole:
            tiles = [file.geobox for plane in planes for file in plane]
            finish = replace(finish, sea=parts_of_sea(tiles, target, wanted))
        prefix = f"{chosen.modality}-{band}"
        bands[band], lost = mosaic(planes, stacks[band], target, _tiling(wanted), finish, name=prefix)
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

    def file(scene: Scene, band: str) -> SourceFile:
        address = addresses[scene][band]
        grid = scene.grid(band) or headers[address]
        optical = chosen.modality == "S2L2A" and band in MODALITIES["S2L2A"].names
        return SourceFile(scene.id, address, grid, scene.offset.value if optical and scene.offset else 0)

    return {
        band: [[file(scene, band) for scene in group if band in addresses[scene]] for group in groups]
        for band in chosen.bands
    }


def _headers(addresses: Iterable[str], access: Access) -> dict[str, Any]:
    from xglof.cube.reader import file_grid

    distinct = list(dict.fromkeys(addresses))
    read: Callable[[str], Any] = lambda address: file_grid(address, access)  # noqa: E731
    with ThreadPoolExecutor(_HEADERS_AT_ONCE) as threads:
        return dict(zip(distinct, threads.map(read, distinct), strict=True))


def _file_type(chosen: Chosen, band: str) -> FileType:
    product = chosen.product
    how, linear = band_of(chosen.modality, band).resampling, product.units in (None, "power")
    return FileType(product.dtype_of(band), product.nodata_of(band), how, linear)


def _finish(chosen: Chosen, band: str, reading: Reading) -> Finish:
    layer = band_of(chosen.modality, band)
    return Finish(
        dtype=layer.dtype,
        nodata=layer.nodata,
        how=layer.resampling,
        units=chosen.product.units if layer.units == "dB" else None,
        seams=band == "dem",
        failures=reading.on_error == "flag",
    )


def _tiling(wanted: Window) -> tuple[list[Window], ...]:
    """The blocks of a window: cells of the absolute lattice, those at its edges cut."""
    side = READ_CELL_PX
    return tuple(
        [
            Window(top, top + side, left, left + side) & wanted
            for left in range(wanted.left // side * side, wanted.right, side)
        ]
        for top in range(wanted.top // side * side, wanted.bottom, side)
    )
