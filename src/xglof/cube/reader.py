"""How a file is read: through its archive's access, checked for its format, cell by cell of one lattice."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from dask.base import tokenize
from odc.geo.geobox import GeoBox
from odc.loader import RioDriver

from xglof.cube.access import Access, without_query
from xglof.cube.pixel_grid import PixelGrid
from xglof.cube.stacks import FAILED, OnError
from xglof.errors import CatalogError

#: GDAL drivers of the archives' rasters; none of them reads another file than the one it is given.
FORMATS = ("GTiff", "JP2OpenJPEG")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BlockReader:
    """A reader of one file that always sees a block at the same floating-point place.

    The file must be of :data:`FORMATS` whatever its name: others, such as a VRT, may name further files, and
    so lead out of the folder of a catalogue.
    """

    source: Any
    context: Any
    access: Access
    on_error: OnError

    def read(self, cfg: Any, dst_geobox: Any, *, dst: Any = None, selection: Any = None) -> Any:
        """Part of a block that the file covers, as odc-loader's readers return it.

        A file that declares no nodata of its own has that of its product, so that fill is never blended
        into its neighbours. A file that cannot be read raises, or gives a block of :data:`FAILED`.
        """
        nodata = None if cfg.meta is None else cfg.meta.nodata
        settings = replace(cfg, src_nodata_fallback=nodata, fail_on_error=True)
        grid, window = PixelGrid.of(dst_geobox)
        box = grid.geobox(window)  # one set of bits for one place

        def read(address: str) -> Any:
            with open_raster(address):
                pass
            inner = RioDriver().open(replace(self.source, uri=address), self.context)
            return inner.read(settings, box, dst=dst, selection=selection)

        try:
            return self.access.attempt(read, self.source.uri)
        except CatalogError as error:
            if self.on_error == "raise":
                raise
            _log.warning("flagged as failed_read: %s", error)
            lost = np.full(dst_geobox.shape, FAILED[str(np.dtype(cfg.dtype))], dtype=cfg.dtype)
            if dst is not None:
                dst[...] = lost
            return np.s_[0 : lost.shape[0], 0 : lost.shape[1]], lost if dst is None else dst


class ArchiveDriver(RioDriver):
    """odc-loader's rasterio driver over :class:`BlockReader`.

    It captures no environment: what reaches a task is the archive's :class:`~xglof.cube.access.Access`, in
    which there are no secrets.
    """

    def __init__(self, access: Access, on_error: OnError) -> None:
        super().__init__()
        self.access, self.on_error = access, on_error

    def open(self, src: Any, ctx: Any) -> Any:
        """A reader of one source."""
        return BlockReader(src, ctx, self.access, self.on_error)

    def __dask_tokenize__(self) -> tuple[Access, OnError]:
        return self.access, self.on_error

    def capture_env(self) -> dict[str, Any]:
        """Nothing but a name: odc-loader's keys are made of the environment, and not of the driver."""
        return {"access": tokenize(self)}

    @contextmanager
    def restore_env(self, env: dict[str, Any], load_state: Any) -> Iterator[Any]:
        """A block without an environment: that of GDAL is the access's."""
        yield None


class StackReader:
    """stackstac's reader of one asset, signed late and tried again as the archive's access says."""

    def __init__(self, driver: Any, *, url: str, **settings: Any) -> None:
        self.access, self.on_error, self.url, self.settings = driver.access, driver.on_error, url, settings

    def read(self, window: Any, **kwargs: Any) -> Any:
        """Pixels of a window of the stack's grid."""
        from stackstac.rio_reader import AutoParallelRioReader

        def read(address: str) -> Any:
            with open_raster(address):
                pass
            reader = AutoParallelRioReader(url=address, **self.settings)
            try:
                return reader.read(window, **kwargs)
            except RuntimeError as error:  # stackstac wraps what rasterio raises
                wrapped = error.__cause__ or error
            finally:
                reader.close()
            raise wrapped

        try:
            return self.access.attempt(read, self.url)
        except CatalogError as error:
            if self.on_error == "raise":
                raise
            _log.warning("flagged as failed_read: %s", error)
            dtype = np.dtype(self.settings["dtype"])
            return np.full((int(window.height), int(window.width)), FAILED[str(dtype)], dtype)


def file_grid(href: str, access: Access) -> Any:
    """The grid of a file as its header states it: an odc-geo GeoBox.

    Raises
    ------
    CatalogError
        The file cannot be opened, has no CRS, or is placed by ground control points only.
    """

    def read(address: str) -> Any:
        with open_raster(address) as file:
            return _north_up(file) if file.crs else None

    geobox = access.attempt(read, href)
    if geobox is None or geobox.crs is None:
        raise CatalogError(
            f"{without_query(href)} has no map projection of its own (ground control points or nothing); "
            "expected a file in a CRS, such as a terrain-corrected product"
        )
    return geobox


def _north_up(file: Any) -> Any:
    """The grid of a file, its rows running southwards whichever way they are stored."""
    transform = file.transform
    if transform.e > 0:
        transform = transform * Affine.translation(0, file.height) * Affine.scale(1, -1)
    return GeoBox(file.shape, transform, file.crs)


def open_raster(address: str) -> Any:
    """The opened file, if it is of a format that names no further files.

    Raises
    ------
    CatalogError
        It is of another format.
    """
    file = rasterio.open(address, sharing=False)
    if file.driver not in FORMATS:
        found = file.driver
        file.close()
        raise CatalogError(
            f"{without_query(address)} is a {found} file; expected one of {', '.join(FORMATS)}"
        )
    return file
