"""Native pixels: the files that lie on one grid as a stack of lazy arrays, in blocks that no file is cut by.

A file is read in blocks of 2048 x 2048 pixels from its own first pixel. Those are whole blocks of any tiled
GeoTIFF or JPEG 2000 of the archives (256, 512, 1024 or 2048 pixels a side), so each is read once, by one
task, however the cube is cut.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

from xglof.bands import Resampling
from xglof.cube.grid import READ_CELL_PX
from xglof.cube.harmonise import RadarUnits
from xglof.cube.pixel_grid import PixelGrid, Window
from xglof.cube.resample import halo_px
from xglof.errors import CatalogError, CubeError

#: Side of a block of native pixels.
BLOCK_PX = 2048

#: What a block holds that could not be read, by dtype of its file: values that no archive uses. 65535 stands
#: for saturated Sentinel-2 pixels.
FAILED: Mapping[str, float] = {"uint8": 254, "uint16": 65534, "int16": -32767, "float32": -math.inf}

Backend = Literal["odc-stac", "stackstac"]
OnError = Literal["raise", "flag"]

_COLLECTION = "xglof"
_LARGEST_RATIO = 4.0  # of a cube's pixels to those of radar that is read whole
_SAME_SIZE = 1.05  # pixels that differ by less count as of one size
_FOOTPRINT_MARGIN_DEG = 1e-3
_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One band of one scene.

    Attributes
    ----------
    scene
        Id of the scene.
    href
        Address, unsigned.
    geobox
        The file's own grid.
    offset
        Digital numbers to subtract.
    """

    scene: str
    href: str
    geobox: Any = field(hash=False)  # a CRS takes long to hash
    offset: int = 0


@dataclass(frozen=True, slots=True)
class FileType:
    """How the files of a band hold their numbers, and how these are resampled.

    Attributes
    ----------
    dtype
        Of the files.
    nodata
        Of those files that declare none.
    resampling
        For a cube of larger pixels.
    units
        Of radar backscatter. Its borders and its decibels must not be averaged as they are, so such files are
        read at their own pixels where the cube's are up to four times as large.
    """

    dtype: str
    nodata: float
    resampling: Resampling
    units: RadarUnits | None = None

    @property
    def fill(self) -> float:
        """Nodata of the arrays that are read: NaN for floats."""
        return float("nan") if self.dtype.startswith("float") else self.nodata


@dataclass(frozen=True, slots=True)
class Stack:
    """Blocks of one file: where they lie, and under which keys they are in a Dask array.

    Attributes
    ----------
    grid
        On which the file lies.
    window
        The part of the file that is read: whole blocks, from ``window.top`` and ``window.left`` on.
    array
        Dask array ``(file, y, x)``.
    index
        The file's place along the first axis.
    reach
        The part of ``window`` in which the file has pixels.
    side
        Of a block.
    """

    grid: PixelGrid
    window: Window
    array: Any
    index: int
    reach: Window
    side: int = BLOCK_PX

    def blocks(self, wanted: Window) -> list[tuple[tuple[int, int], int, int]]:
        """First row and column, and place in the array, of each block that a window touches."""
        shared = self.reach & wanted
        if not shared:
            return []
        side, top, left = self.side, self.window.top, self.window.left
        return [
            ((top + i * side, left + j * side), i, j)
            for i in range((shared.top - top) // side, -(-(shared.bottom - top) // side))
            for j in range((shared.left - left) // side, -(-(shared.right - left) // side))
        ]


def open_stacks(
    files: Mapping[str, Sequence[SourceFile]],
    types: Mapping[str, FileType],
    target: PixelGrid,
    wanted: Window,
    *,
    driver: Any,
    backend: Backend,
) -> dict[str, dict[SourceFile, Stack]]:
    """The parts of files that a cube needs, lazily.

    Parameters
    ----------
    files
        Band -> its files.
    types
        Band -> their type.
    target, wanted
        The grid of the cube, and its window on it.
    driver
        odc-loader reader driver.
    backend
        What reads: odc-stac, or stackstac with the same values.

    Returns
    -------
    dict
        Band -> file -> its stack; files that the window does not touch are left out. A task reads one block:
        8 MB for uint16, 16 MB for float32. Files of finer pixels than the cube's are read on its own grid,
        from their overviews.
    """
    # odc-stac takes one nodata a call
    native: dict[tuple[Any, str], dict[str, list[SourceFile]]] = {}
    finer: dict[str, dict[str, list[SourceFile]]] = {}
    for band, members in files.items():
        fill = str(types[band].fill)
        for file in dict.fromkeys(members):
            grid, _ = PixelGrid.of(file.geobox)
            if _is_finer(grid, target, types[band]):
                finer.setdefault(fill, {}).setdefault(band, []).append(file)
            else:
                native.setdefault((file.geobox, fill), {}).setdefault(band, []).append(file)
    read = _READERS[backend]
    stacks: dict[str, dict[SourceFile, Stack]] = {band: {} for band in files}
    covers: dict[PixelGrid, Window] = {}
    for (geobox, _), bands in native.items():
        grid, whole = PixelGrid.of(geobox)
        if grid not in covers:
            covers[grid] = grid.covering(target, wanted, halo_px(grid, target))
        if window := _whole_blocks(whole, covers[grid], BLOCK_PX):
            arrays = read(grid.geobox(window), bands, types, BLOCK_PX, driver)
            for band, members in bands.items():
                for index, file in enumerate(members):
                    stacks[band][file] = Stack(grid, window, arrays[band], index, window)
    for bands in finer.values():
        _add_finer(stacks, bands, types, target, wanted, driver, backend)
    return stacks


def _is_finer(grid: PixelGrid, target: PixelGrid, kind: FileType) -> bool:
    """Whether a file is read on the cube's grid, from its overviews."""
    ratio = target.step_m / grid.step_m
    if ratio <= (_SAME_SIZE if kind.units is None else _LARGEST_RATIO):
        return False
    if kind.units not in (None, "power"):
        raise CubeError(
            f"the files hold {kind.units} of {grid.step_m:.0f} m, which are not averaged into pixels of "
            f"{target.step_m:.0f} m; expected at most {_LARGEST_RATIO * grid.step_m:.0f} m: open it so, "
            "coarsen afterwards"
        )
    return True


def _add_finer(
    stacks: dict[str, dict[SourceFile, Stack]],
    files: Mapping[str, Sequence[SourceFile]],
    types: Mapping[str, FileType],
    target: PixelGrid,
    wanted: Window,
    driver: Any,
    backend: Backend,
) -> None:
    """Files resampled to the cube's grid by odc-stac, in cells of its absolute lattice, each file apart."""
    if backend != "odc-stac":
        raise CubeError(
            f"backend={backend!r} reads files at their own pixel size, and these are finer than the cube's; "
            'use backend="odc-stac"'
        )
    side = READ_CELL_PX
    cells = Window(
        wanted.top // side * side, -(-wanted.bottom // side) * side,
        wanted.left // side * side, -(-wanted.right // side) * side,
    )  # fmt: skip
    arrays = _with_odc(target.geobox(cells), files, types, side, driver)
    for band, members in files.items():
        for index, file in enumerate(members):
            grid, whole = PixelGrid.of(file.geobox)
            if reach := target.covering(grid, whole, 0) & wanted:
                stacks[band][file] = Stack(target, cells, arrays[band], index, reach, side)


def _whole_blocks(whole: Window, cover: Window, side: int) -> Window:
    """The blocks of a file that touch a window, the last ones cut by the file's end."""
    part = whole & cover
    if not part:
        return Window(0, 0, 0, 0)

    def outwards(begin: int, end: int, first: int, last: int) -> tuple[int, int]:
        low = first + (begin - first) // side * side
        return low, min(first - (first - end) // side * side, last)

    top, bottom = outwards(part.top, part.bottom, whole.top, whole.bottom)
    left, right = outwards(part.left, part.right, whole.left, whole.right)
    return Window(top, bottom, left, right)


def _with_odc(
    part: Any,
    bands: Mapping[str, Sequence[SourceFile]],
    types: Mapping[str, FileType],
    side: int,
    driver: Any,
) -> dict[str, Any]:
    """Band -> Dask array ``(file, y, x)`` on a GeoBox; on the files' own grid no pixel is resampled."""
    import odc.stac

    items, places = _plain_items(bands)
    native = side == BLOCK_PX
    loaded = odc.stac.load(
        items,
        bands=list(bands),
        geobox=part,
        groupby=lambda item, parsed, index: index,
        chunks={"time": 1, "y": side, "x": side},
        resampling="nearest" if native else {band: types[band].resampling for band in bands},
        nodata=types[next(iter(bands))].fill,
        stac_cfg={
            _COLLECTION: {
                "assets": {
                    band: {"data_type": types[band].dtype, "nodata": types[band].nodata} for band in bands
                }
            }
        },
        driver=driver,
    )
    return {band: _in_order(loaded[band].data, places[band]) for band in bands}


def _in_order(array: Any, places: Sequence[int]) -> Any:
    """The planes of a band's own files; most often all of them, as they are."""
    return array if list(places) == list(range(len(array))) else array[list(places)]


def _with_stackstac(
    part: Any,
    bands: Mapping[str, Sequence[SourceFile]],
    types: Mapping[str, FileType],
    side: int,
    driver: Any,
) -> dict[str, Any]:
    """The same by stackstac: no rescaling, no snapping, the dtype and fill it wants as NumPy scalars."""
    import numpy as np

    from xglof.cube.reader import StackReader

    stackstac, epsg, arrays = _stackstac(), part.crs.to_epsg(), {}
    if epsg is None:
        raise CubeError(f'backend="stackstac" needs files with an EPSG code, not {part.crs}; use "odc-stac"')
    for band, files in bands.items():
        items, _ = _plain_items({band: files})
        dtype = np.dtype(types[band].dtype)
        matrix, box = part.transform, part.boundingbox
        stacked = stackstac.stack(
            [{**item.to_dict(), "links": []} for item in items],
            assets=[band],
            epsg=epsg,
            resolution=(abs(matrix.a), abs(matrix.e)),
            bounds=(box.left, box.bottom, box.right, box.top),
            snap_bounds=False,
            chunksize=(1, 1, side, side),
            dtype=dtype,
            fill_value=dtype.type(types[band].fill),
            rescale=False,
            sortby_date=False,
            xy_coords="center",
            properties=False,
            band_coords=False,
            errors_as_nodata=(),
            reader=partial(StackReader, driver),
        )
        if stacked.shape[2:] != tuple(part.shape):
            raise CubeError(
                f"stackstac cut {stacked.shape[2:]} pixels where {tuple(part.shape)} were asked for"
            )
        arrays[band] = stacked.data[:, 0]
    return arrays


def _stackstac() -> Any:
    try:
        import stackstac
    except ImportError as error:
        raise CatalogError(
            'backend="stackstac" needs stackstac; install it: pip install "xglof[stackstac]"'
        ) from error
    return stackstac


_READERS = {"odc-stac": _with_odc, "stackstac": _with_stackstac}


def _plain_items(
    bands: Mapping[str, Sequence[SourceFile]],
) -> tuple[list[Any], dict[str, list[int]]]:
    """One bare item a scene, and for each band the places of its files among them.

    No metadata of the archive steers the reader.
    """
    import pystac

    outlines: dict[Any, tuple[Any, list[float]]] = {}
    items: list[Any] = []
    places: dict[str, list[int]] = {band: [] for band in bands}
    numbered: dict[str, int] = {}
    for band, files in bands.items():
        for file in files:
            if file.scene not in numbered:
                if file.geobox not in outlines:
                    outlines[file.geobox] = _outline(file.geobox)
                geometry, box = outlines[file.geobox]
                numbered[file.scene] = len(items)
                items.append(pystac.Item(file.scene, geometry, box, _ANY_TIME, {}, collection=_COLLECTION))
            index = numbered[file.scene]
            places[band].append(index)
            items[index].add_asset(
                band, pystac.Asset(file.href, media_type=pystac.MediaType.COG, roles=["data"])
            )
    return items, places


def _outline(geobox: Any) -> tuple[Any, list[float]]:
    """Footprint of a file in degrees, a little too large, and its bounds."""
    from shapely.geometry import mapping

    outline = geobox.extent.to_crs("EPSG:4326").geom.buffer(_FOOTPRINT_MARGIN_DEG)
    return mapping(outline), list(outline.bounds)
