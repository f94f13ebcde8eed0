"""Reading on the absolute lattice with odc-stac: one cell a task, the same bits for every cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import odc.stac
import pystac
import rasterio
from odc.loader import RioDriver
from shapely.geometry import mapping

from xglof.bands import MODALITIES, SCL, Band
from xglof.cube.grid import READ_CELL_PX, ReadLattice, canonical
from xglof.cube.scenes import Chosen, Scene, hrefs
from xglof.cube.providers import Provider
from xglof.errors import CatalogError

#: GDAL drivers of the archives' rasters; none of them reads another file than the one it is given.
FORMATS = ("GTiff", "JP2OpenJPEG")

_COLLECTION = "xglof"
_FOOTPRINT_MARGIN_DEG = 1e-3


def band_of(modality: str, name: str) -> Band:
    """The :class:`~xglof.bands.Band` of a variable of a cube."""
    return next((band for band in MODALITIES[modality].bands if band.name == name), SCL)


def read_planes(
    chosen: Chosen,
    groups: Sequence[Sequence[Scene]],
    lattice: ReadLattice,
    root: Path | str | None,
    sign: Callable[[str], str],
) -> dict[str, Any]:
    """The bands of a modality as lazy arrays, numbers as the files hold them.

    Parameters
    ----------
    chosen
        The modality's scenes and their product.
    groups
        Scenes that are fused into one plane each, first valid pixel first.
    lattice
        The grid and the cells it is read in.
    root
        As :func:`xglof.cube.sources.asset_href` takes it.
    sign
        Applied to each address.

    Returns
    -------
    dict
        Band name -> Dask array ``(group, y, x)`` on the asked grid, dtype of the product (``SCL`` uint8);
        nodata NaN for floats and 0 for integers. A task reads one cell of 2016 x 2016 pixels of one band:
        8 MB for uint16, 16 MB for float32, and as much again while it reprojects.
    """
    product, bands = chosen.product, chosen.bands
    numbered = [(index, scene) for index, group in enumerate(groups) for scene in group]
    items = [_plain_item(scene, hrefs(scene, product, root), sign) for _, scene in numbered]
    settings = {
        name: {"data_type": "uint8" if name == "SCL" else product.dtype, "nodata": product.nodata}
        for name in bands
    }
    loaded = odc.stac.load(
        items,
        bands=list(bands),
        geobox=lattice.geobox,
        groupby=lambda item, parsed, index: numbered[index][0],
        chunks={"time": 1, "y": READ_CELL_PX, "x": READ_CELL_PX},
        resampling={name: band_of(product.modality, name).resampling for name in bands},
        nodata=float("nan") if product.dtype == "float32" else None,
        stac_cfg={_COLLECTION: {"assets": settings}},
        driver=LatticeDriver(),
    )
    return {name: loaded[name].data[:, lattice.rows, lattice.columns] for name in bands}


def signer(provider: Provider | None) -> Callable[[str], str]:
    """What makes an address readable: Planetary Computer's tokens, else nothing.

    Raises
    ------
    CatalogError
        The package that signs is not installed.
    """
    if provider is None or not provider.signed:
        return str
    try:
        import planetary_computer
    except ImportError as error:
        raise CatalogError(
            f"{provider.name} needs signed addresses; install the package that signs them: "
            'pip install "xglof[planetary-computer]"'
        ) from error
    sign: Callable[[str], str] = planetary_computer.sign
    return sign


@dataclass(frozen=True, slots=True)
class CellReader:
    """A reader of one file that always sees a cell at the same floating-point place.

    The file must be of :data:`FORMATS` whatever its name: others, such as a VRT, may name further files, and
    so lead out of the folder of a catalogue.
    """

    inner: Any
    uri: str

    def read(self, cfg: Any, dst_geobox: Any, *, dst: Any = None, selection: Any = None) -> Any:
        """Part of a cell that the file covers, as odc-loader's readers return it.

        A file that declares no nodata of its own has that of its product, so that fill is never blended
        into its neighbours.
        """
        with rasterio.open(self.uri, sharing=False) as file:
            found = file.driver
        if found not in FORMATS:
            place = self.uri.partition("?")[0]  # what follows may be a token
            raise CatalogError(f"{place} is a {found} file; expected one of {', '.join(FORMATS)}")
        nodata = None if cfg.meta is None else cfg.meta.nodata
        settings = replace(cfg, src_nodata_fallback=nodata)
        return self.inner.read(settings, canonical(dst_geobox), dst=dst, selection=selection)


class LatticeDriver(RioDriver):
    """odc-loader's rasterio driver over :class:`CellReader`."""

    def open(self, src: Any, ctx: Any) -> Any:
        """A reader of one source."""
        return CellReader(super().open(src, ctx), src.uri)


def _plain_item(scene: Scene, addresses: Mapping[str, str], sign: Callable[[str], str]) -> Any:
    """The scene as a bare item under canonical band names: no archive's metadata steers the reader."""
    # footprints are rounded; a cell that a file reaches by a pixel must still open it
    footprint = scene.footprint.buffer(_FOOTPRINT_MARGIN_DEG)
    item = pystac.Item(
        scene.id, mapping(footprint), list(footprint.bounds), scene.when, {}, collection=_COLLECTION
    )
    for band, href in addresses.items():
        item.add_asset(band, pystac.Asset(sign(href), media_type=pystac.MediaType.COG, roles=["data"]))
    return item
