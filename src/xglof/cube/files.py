"""Rasters as a static STAC catalogue of COGs that :func:`xglof.open_cube` reads, on any disk.

Assets and collections are named as in Planetary Computer: ``sentinel-2-l2a`` with ``B01`` ... ``B12`` and
``SCL``, ``sentinel-1-rtc`` with ``vv`` and ``vh`` in linear power, ``cop-dem-glo-30`` with ``data``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pystac
    from odc.geo.geobox import GeoBox

#: Schema of each extension by the prefix of its fields.
_EXTENSIONS = {
    "proj": "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "raster": "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
    "eo": "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
    "sar": "https://stac-extensions.github.io/sar/v1.0.0/schema.json",
    "sat": "https://stac-extensions.github.io/sat/v1.0.0/schema.json",
    "view": "https://stac-extensions.github.io/view/v1.0.0/schema.json",
}
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"


@dataclass(frozen=True, slots=True)
class RasterFile:
    """One written asset: its key in an item, where it lies and what STAC says of it."""

    key: str
    path: Path
    geobox: GeoBox
    dtype: str
    nodata: float | None


def write_cog(
    folder: Path, key: str, values: NDArray[Any], geobox: GeoBox, nodata: float | None
) -> RasterFile:
    """Write one band as a cloud-optimised GeoTIFF ``folder/key.tif``.

    Parameters
    ----------
    folder
        Made where it is not there.
    key
        Asset key, such as ``B02``, ``SCL``, ``vv``, ``data``.
    values
        ``(y, x)``, in the units of the product.
    geobox
        Its grid.
    nodata
        Written to the file; ``None`` for none.
    """
    import rasterio

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{key}.tif"
    with rasterio.open(
        path,
        "w",
        driver="COG",
        height=values.shape[0],
        width=values.shape[1],
        count=1,
        dtype=values.dtype.name,
        crs=str(geobox.crs),
        transform=geobox.affine,
        nodata=nodata,
        compress="DEFLATE",
        level=1,
        predictor="FLOATING_POINT" if values.dtype.kind == "f" else "STANDARD",
        blocksize=512,
        overview_resampling="nearest" if key == "SCL" else "average",
    ) as target:
        target.write(values, 1)
    return RasterFile(key, path, geobox, values.dtype.name, nodata)


def make_item(
    name: str,
    time: datetime,
    files: Sequence[RasterFile],
    properties: Mapping[str, Any],
) -> pystac.Item:
    """STAC item of the files of one observation; the finest gives the footprint.

    Parameters
    ----------
    name
        Id of the item.
    time
        When it was observed, with a time zone.
    files
        Its assets, all in one CRS.
    properties
        What the product says of itself, such as ``s2:processing_baseline``, ``view:sun_elevation``,
        ``sat:orbit_state``.
    """
    import pystac

    grid = min(files, key=lambda file: abs(file.geobox.resolution.x)).geobox
    outline = grid.extent.to_crs("EPSG:4326")
    prefixes = {"proj", "raster", *(name.partition(":")[0] for name in properties)}
    item = pystac.Item(
        id=name,
        geometry=outline.json,
        bbox=[float(edge) for edge in outline.boundingbox.bbox],
        datetime=time,
        properties={**_projection(grid.crs), **properties},
        stac_extensions=[schema for prefix, schema in _EXTENSIONS.items() if prefix in prefixes],
    )
    for file in files:
        item.add_asset(file.key, _asset(file))
    return item


def _projection(crs: Any) -> dict[str, Any]:
    """Properties of the projection extension: a code of an authority, or WKT where there is none."""
    epsg = crs.to_epsg()
    if epsg is None:
        return {"proj:code": None, "proj:wkt2": crs.wkt}
    return {"proj:code": f"EPSG:{epsg}"}


def _asset(file: RasterFile) -> pystac.Asset:
    import pystac

    band: dict[str, Any] = {"data_type": file.dtype}
    if file.nodata is not None:
        band["nodata"] = file.nodata if file.dtype == "float32" else int(file.nodata)
    fields = {
        "proj:shape": list(file.geobox.shape),
        "proj:transform": list(file.geobox.affine)[:6],
        "raster:bands": [band],
    }
    return pystac.Asset(href=str(file.path), media_type=_COG, roles=["data"], extra_fields=fields)


def make_collection(
    name: str, title: str, description: str, items: Iterable[pystac.Item]
) -> pystac.Collection:
    """STAC collection of the items of one product, with their extent in space and time."""
    import pystac

    members = list(items)
    boxes = np.array([item.bbox for item in members])
    times = sorted(item.datetime for item in members if item.datetime is not None)
    extent = pystac.Extent(
        pystac.SpatialExtent([[*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()]]),
        pystac.TemporalExtent([[times[0], times[-1]]]),
    )
    collection = pystac.Collection(
        id=name, title=title, description=description, extent=extent, license="other"
    )
    collection.add_items(members)
    return collection


def save_catalog(catalog: pystac.Catalog, root: Path) -> Path:
    """Write a catalogue, self-contained, beside its files; the path of its ``catalog.json``.

    The files of an item must lie in ``root/collection/item/``.
    """
    import pystac

    catalog.normalize_hrefs(str(root))
    for item in catalog.get_items(recursive=True):
        for asset in item.assets.values():
            asset.href = "./" + Path(asset.href).name
    catalog.save(catalog_type=pystac.CatalogType.SELF_CONTAINED)
    return root / "catalog.json"
