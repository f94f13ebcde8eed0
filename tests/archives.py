"""A simulated valley as each archive would hold it: items and files rewritten to the archive's own form.

The valley is read from the catalogue of :func:`xglof.simulate.write_catalog`, and made harder: dark pixels at
and below the radiometric offset, and radar pixels without data. Field names, and who states what where, are
those of real items of the archives and of the code with which the Copernicus Data Space makes its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from xglof.bands import MODALITIES
from xglof.cube.files import make_collection, save_catalog
from xglof.cube.providers import CDSE, EARTH_SEARCH, OPERA

Document = dict[str, Any]

OFFSET = 1000
S2_NAMES = MODALITIES["S2L2A"].names
#: Digital numbers put into every scene under the offset, along a diagonal: nothing of them is left, or 1.
DARK = (1, 950, OFFSET, OFFSET + 1)
#: Columns of radar at the western edge that archives without nodata there fill with 0.
BORDER = 9
TILE = "45RVL"


@dataclass(frozen=True)
class Layer:
    """The pixels of one band: digital numbers, classes, linear power with NaN for none, or metres."""

    values: np.ndarray
    grid: GeoBox

    def cut(self, rows: slice) -> Layer:
        """Some rows of it."""
        return Layer(self.values[rows], self.grid[rows, :])


@dataclass(frozen=True)
class Observation:
    """An item of the valley and its pixels."""

    item: pystac.Item
    layers: dict[str, Layer]

    @property
    def when(self) -> datetime:
        assert self.item.datetime is not None
        return self.item.datetime

    @property
    def baseline(self) -> str:
        return str(self.item.properties["s2:processing_baseline"])

    @property
    def offset(self) -> int:
        return OFFSET if float(self.baseline) >= 4 else 0


@dataclass(frozen=True)
class Place:
    """The valley: what was seen of it, earliest first."""

    optical: tuple[Observation, ...]
    radar: tuple[Observation, ...]
    dem: Observation

    @property
    def grid(self) -> GeoBox:
        return self.optical[0].layers["B02"].grid


def read_place(folder: Path) -> Place:
    """The valley in a folder of :func:`xglof.simulate.write_catalog`, made harder."""
    seen: dict[str, list[Observation]] = {}
    for item in pystac.Catalog.from_file(str(folder / "catalog.json")).get_items(recursive=True):
        layers = {name: _read(str(asset.get_absolute_href())) for name, asset in item.assets.items()}
        seen.setdefault(str(item.collection_id), []).append(Observation(item, layers))
    ordered = {name: sorted(found, key=lambda seen: seen.when) for name, found in seen.items()}
    return Place(
        tuple(_darkened(scene) for scene in ordered["sentinel-2-l2a"]),
        tuple(_with_gaps(scene) for scene in ordered["sentinel-1-rtc"]),
        ordered["cop-dem-glo-30"][0],
    )


def _read(path: str) -> Layer:
    with rasterio.open(path) as file:
        return Layer(file.read(1), GeoBox(file.shape, file.transform, f"EPSG:{file.crs.to_epsg()}"))


def _darkened(scene: Observation) -> Observation:
    layers = dict(scene.layers)
    for name in S2_NAMES if scene.offset else ():
        values = layers[name].values.copy()
        for number, dark in enumerate(DARK, 1):
            values[tuple(np.array(values.shape) * number // 6)] = dark
        layers[name] = Layer(values, layers[name].grid)
    return replace(scene, layers=layers)


def _with_gaps(scene: Observation) -> Observation:
    """No data at the western edge and in a block; an archive writes them as it does."""
    layers = {}
    for name, layer in scene.layers.items():
        values = np.where(layer.values > 0, layer.values, np.nan).astype(np.float32)
        values[:, :BORDER] = np.nan
        values[60:75, 80:100] = np.nan
        layers[name] = Layer(values, layer.grid)
    return replace(scene, layers=layers)


@dataclass(frozen=True)
class Shelf:
    """A folder for the files of an archive, and the address under which its items name them."""

    root: Path
    address: str

    def put(self, path: str, layer: Layer, nodata: float | None) -> str:
        """Address of a written GeoTIFF, or of a lossless JPEG 2000 by the end of its name."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        form = {"driver": "GTiff", "tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
        if path.endswith(".jp2"):
            form = {"driver": "JP2OpenJPEG", "REVERSIBLE": "YES", "QUALITY": "100", "YCBCR420": "NO"}
            form |= {"BLOCKXSIZE": "1024", "BLOCKYSIZE": "1024"}
        height, width = layer.values.shape
        shape = {"width": width, "height": height, "count": 1, "dtype": layer.values.dtype, "nodata": nodata}
        with rasterio.open(
            target, "w", crs=str(layer.grid.crs), transform=layer.grid.affine, **shape, **form
        ) as file:
            file.write(layer.values, 1)
        return f"{self.address}/{path}"


def _document(
    seen: Observation, name: str, collection: str, properties: Mapping[str, Any], assets: Mapping[str, Any]
) -> Document:
    stated = {"datetime": _text(seen.when)} | dict(properties)
    box = list(seen.item.bbox or ())
    return {
        "type": "Feature", "stac_version": "1.0.0", "stac_extensions": [], "id": name, "links": [],
        "collection": collection, "geometry": seen.item.geometry, "bbox": box, "properties": stated,
        "assets": dict(assets),
    }  # fmt: skip


def _text(when: datetime) -> str:
    return when.isoformat().replace("+00:00", "Z")


def _picked(seen: Observation, *names: str) -> dict[str, Any]:
    return {name: seen.item.properties[name] for name in names}


def _code(layer: Layer) -> str:
    return f"EPSG:{layer.grid.crs.to_epsg()}"


def _placed(layer: Layer) -> dict[str, Any]:
    """Shape and transform of a file, as STAC has them."""
    return {"proj:shape": list(layer.grid.shape), "proj:transform": list(layer.grid.affine)[:6]}


def gdal_ordered(t: Sequence[float]) -> list[float]:
    """A transform in the order of GDAL's numbers."""
    return [t[2], t[0], t[1], t[5], t[3], t[4]]


def _product_name(scene: Observation) -> str:
    """Id of a scene with its processing baseline, as ESA names its products."""
    return f"{scene.item.id[:26]}_N{scene.baseline.replace('.', '')}_R019_T{TILE}_{scene.when:%Y%m%d}T120000"


def as_simulated(place: Place, shelf: Shelf) -> list[Document]:
    """The form in which :mod:`xglof.simulate` wrote it: Planetary Computer's, with all metadata."""
    documents = []
    for seen in (*place.optical, *place.radar, place.dem):
        collection, item = str(seen.item.collection_id), seen.item
        assets = {}
        for name, layer in seen.layers.items():
            kind, nodata = _kind(collection)
            values = (
                np.where(np.isnan(layer.values), nodata, layer.values) if kind == "radar" else layer.values
            )
            path = f"{collection}/{item.id}/{name}.tif"
            href = shelf.put(path, Layer(values.astype(layer.values.dtype), layer.grid), nodata)
            assets[name] = {"href": href, "raster:bands": item.assets[name].extra_fields["raster:bands"]}
            assets[name] |= _placed(layer)
        documents.append(_document(seen, item.id, collection, item.properties, assets))
    return documents


def _kind(collection: str) -> tuple[str, float | None]:
    kinds = {"sentinel-2-l2a": ("optical", 0.0), "sentinel-1-rtc": ("radar", -32768.0)}
    return kinds.get(collection, ("elevation", None))


def planetary_computer(place: Place, shelf: Shelf) -> list[Document]:
    """No dtype and no nodata of Sentinel-2, ``proj:epsg``, radar that states its grid for the whole item.

    One radar item has the positive y pixel size of late 2024. Radar fills its border with 0.
    """
    documents = []
    for scene in place.optical:
        assets = {
            name: {"href": shelf.put(f"{scene.item.id}/{name}.tif", layer, None)} | _placed(layer)
            for name, layer in scene.layers.items()
        }
        stated = _picked(
            scene, "s2:processing_baseline", "eo:cloud_cover", "s2:mean_solar_azimuth",
            "s2:mean_solar_zenith", "sat:orbit_state", "sat:relative_orbit",
        )  # fmt: skip
        stated |= {"proj:epsg": place.grid.crs.to_epsg(), "s2:mgrs_tile": TILE}
        documents.append(_document(scene, scene.item.id, "sentinel-2-l2a", stated, assets))
    for number, scene in enumerate(place.radar):
        documents.append(_pc_radar(scene, shelf, turned=number == 1))
    return [*documents, dem_document(place.dem, shelf, "cop-dem-glo-30")]


def _pc_radar(scene: Observation, shelf: Shelf, *, turned: bool) -> Document:
    layer = scene.layers["vv"]
    shared = _placed(layer)
    if turned:
        shared["proj:transform"][4] *= -1
    stated = _picked(
        scene, "sar:polarizations", "sar:product_type", "sar:instrument_mode", "sat:orbit_state",
        "sat:relative_orbit", "view:incidence_angle",
    )  # fmt: skip
    assets = {}
    for name, band in scene.layers.items():
        power = np.where(np.isnan(band.values), np.float32(-32768), band.values)
        power[:, : BORDER - 2] = 0
        href = shelf.put(f"{scene.item.id}/{name}.tif", Layer(power, band.grid), -32768.0)
        assets[name] = {"href": href, "raster:bands": [{"nodata": -32768, "data_type": "float32"}]}
    stated |= {"proj:epsg": layer.grid.crs.to_epsg(), "proj:bbox": list(layer.grid.boundingbox)} | shared
    return _document(scene, scene.item.id, "sentinel-1-rtc", stated, assets)


def dem_document(dem: Observation, shelf: Shelf, collection: str, *, gdal_order: bool = False) -> Document:
    """The DEM, its grid stated for the whole item."""
    layer = dem.layers["data"]
    shared = _placed(layer)
    if gdal_order:
        shared["proj:transform"] = gdal_ordered(shared["proj:transform"])
    name = "Copernicus_DSM_COG_10_N28_00_E086_00_DEM"
    asset = {"href": shelf.put(f"{name}/{name}.tif", layer, None), "raster:bands": [{"sampling": "point"}]}
    return _document(dem, name, collection, {"proj:epsg": 4326, "gsd": 30} | shared, {"data": asset})


def without_offset(layer: Layer) -> Layer:
    """Digital numbers from which an archive removed the offset: those at or below it are lost as 0."""
    return Layer(np.where(layer.values > OFFSET, layer.values - OFFSET, 0).astype(np.uint16), layer.grid)


def earth_search(
    scenes: Iterable[Observation], shelf: Shelf, collection: str, removed: Mapping[str, bool | None]
) -> list[Document]:
    """Common names of bands and ``raster:bands`` with an offset that says nothing.

    ``removed`` tells by the scene's baseline what the flag says; where it is true the files are without the
    offset, and ``None`` leaves the flag out.
    """
    product = next(p for p in EARTH_SEARCH.products if p.collection == collection)
    documents = []
    for scene in scenes:
        flag, assets = removed[scene.baseline], {}
        name = f"S2{scene.item.id[2]}_{TILE}_{scene.when:%Y%m%d}_0_L2A"
        for band, layer in scene.layers.items():
            asset = product.assets[band]
            held = without_offset(layer) if flag and band in S2_NAMES else layer
            stated = {"nodata": 0, "data_type": str(held.values.dtype)}
            if band in S2_NAMES:
                stated |= {"scale": 0.0001, "offset": -0.1}
            href = shelf.put(f"{collection}/{name}/{asset}.tif", held, 0.0)
            assets[asset] = {"href": href, "raster:bands": [stated]} | _placed(held)
            assets[f"{asset}-jp2"] = {"href": f"{shelf.address}/none/{asset}.jp2"}
        stated = _picked(
            scene, "s2:processing_baseline", "eo:cloud_cover", "view:sun_azimuth", "view:sun_elevation"
        )
        stated |= {"proj:code": _code(scene.layers["B02"]), "grid:code": f"MGRS-{TILE}"}
        stated["s2:datatake_id"] = (
            f"GS{scene.item.id[1:3]}_{scene.when:%Y%m%dT%H%M%S}_000001_N{scene.baseline}"
        )
        if flag is not None:
            stated["earthsearch:boa_offset_applied"] = flag
        documents.append(_document(scene, name, collection, stated, assets))
    return documents


def cdse(place: Place, shelf: Shelf) -> list[Document]:
    """STAC 1.1: JPEG 2000 by pixel size, ``processing:version``, everything stated asset by asset.

    The DEM, and the second scene, have ``proj:transform`` in GDAL's order. Bands are there at coarser
    pixels, too, which are not to be read: these files do not exist.
    """
    product = CDSE.products_of("S2L2A")[0]
    documents = []
    for number, scene in enumerate(place.optical):
        name, assets = _product_name(scene), {}
        for band, layer in scene.layers.items():
            stated = _placed(layer) | {"proj:code": _code(layer), "nodata": 0}
            stated["data_type"] = str(layer.values.dtype)
            if band in S2_NAMES:
                stated |= {"raster:scale": 0.0001, "raster:offset": -0.1, "bands": [{"name": band}]}
            if number == 1:
                stated["proj:transform"] = gdal_ordered(stated["proj:transform"])
            path = f"Sentinel-2/{name}.SAFE/IMG_DATA/{product.assets[band]}.jp2"
            assets[product.assets[band]] = {
                "href": shelf.put(path, layer, None),
                "type": "image/jp2",
            } | stated
            if band in S2_NAMES and not product.assets[band].endswith("60m"):
                assets[f"{band}_60m"] = {"href": f"{shelf.address}/none/{band}_60m.jp2"}
        stated = _picked(scene, "eo:cloud_cover", "view:sun_azimuth", "view:sun_elevation", "sat:orbit_state")
        moment = _text(scene.when)
        stated |= {"processing:version": scene.baseline, "grid:code": f"MGRS-{TILE}"}
        stated |= {"start_datetime": moment, "end_datetime": moment}
        documents.append(_document(scene, name, "sentinel-2-l2a", stated, assets) | {"stac_version": "1.1.0"})
    return [*documents, dem_document(place.dem, shelf, "cop-dem-glo-30-dged-cog", gdal_order=True)]


def opera(place: Place, shelf: Shelf) -> list[Document]:
    """Two bursts a pass that overlap, NaN for nodata, a mask of layover, no grid and no orbit stated.

    The pixels stay at 10 m; the archive's are 30 m.
    """
    spelt = OPERA.products[0].assets
    documents = []
    for scene in place.radar:
        rows = scene.layers["vv"].grid.shape[0]
        for number, part in enumerate((slice(0, rows // 2 + 6), slice(rows // 2 - 6, rows))):
            place_id = _burst(scene, number)
            name = f"OPERA_L2_RTC-S1_{place_id}_{scene.when:%Y%m%dT%H%M%SZ}_20240101T000000Z_S1A_30_v1.0"
            layers = {band: layer.cut(part) for band, layer in scene.layers.items()}
            lost = np.isnan(layers["vv"].values)
            layers["s1_mask"] = Layer(np.where(lost, 255, 0).astype(np.uint8), layers["vv"].grid)
            assets = {
                spelt[band]: {
                    "href": shelf.put(
                        f"{name}/{spelt[band]}.tif", layer, 255.0 if band == "s1_mask" else np.nan
                    )
                }
                for band, layer in layers.items()
            }
            outline = layers["vv"].grid.extent.to_crs("EPSG:4326")
            own = {"geometry": outline.json, "bbox": list(outline.boundingbox.bbox)}
            documents.append(_document(scene, name, OPERA.products[0].collection, {}, assets) | own)
    return documents


def _burst(scene: Observation, number: int) -> str:
    """Id of a burst of the scene's orbit, a twelfth or five twelfths of an orbit past the ascending node."""
    orbit = int(scene.item.properties["sat:relative_orbit"])
    past = 1 / 12 if scene.item.properties["sat:orbit_state"] == "ascending" else 5 / 12
    orbit_s, burst_s = 12 * 86400 / 175, 2.758273
    return f"T{orbit:03}-{int((orbit - 1 + past) * orbit_s / burst_s) + number:06}-IW1"


def in_units(place: Place, shelf: Shelf, units: str) -> list[Document]:
    """Radar of a user's own archive: amplitude with 0, or decibels with -9999, that no file declares."""
    documents = []
    for scene in place.radar:
        assets = {}
        for name, layer in scene.layers.items():
            number = np.sqrt(layer.values) if units == "amplitude" else 10 * np.log10(layer.values)
            number = np.nan_to_num(number, nan=0 if units == "amplitude" else -9999).astype(np.float32)
            href = shelf.put(f"{units}/{scene.item.id}/{name}.tif", Layer(number, layer.grid), None)
            assets[name.upper()] = {"href": href} | _placed(layer)
        stated = _picked(scene, "sat:orbit_state", "sat:relative_orbit", "view:incidence_angle")
        stated["proj:code"] = _code(scene.layers["vv"])
        documents.append(_document(scene, scene.item.id, "my-radar", stated, assets))
    return documents


def monthly_mosaic(
    seen: Observation,
    shelf: Shelf,
    name: str,
    layers: Mapping[str, Layer],
    span: tuple[str, str],
    **more: Any,
) -> Document:
    """A Sentinel-1 mosaic of the Copernicus Data Space: a period, and no orbit; its CRS on each asset."""
    assets = {}
    for band, layer in layers.items():
        values = np.where(np.isnan(layer.values), np.float32(-32768), layer.values)
        href = shelf.put(f"Global-Mosaics/{name}/{band}.tif", Layer(values, layer.grid), -32768.0)
        stated = {"proj:code": _code(layer), "data_type": "float32", "nodata": -32768} | more
        assets[band] = {"href": href, "sar:polarizations": [band]} | stated
    outline = next(iter(layers.values())).grid.extent.to_crs("EPSG:4326")
    stated = {
        "datetime": span[0], "start_datetime": span[0], "end_datetime": span[1], "gsd": 20,
        "sar:instrument_mode": "IW", "sar:polarizations": list(layers), "product:timeliness": "P1M",
    }  # fmt: skip
    document = _document(seen, name, "sentinel-1-global-mosaics", stated, assets)
    own = {"stac_version": "1.1.0", "geometry": outline.json, "bbox": list(outline.boundingbox.bbox)}
    return document | own


def stripped(documents: Iterable[Document], *, epsg: bool = False) -> list[Document]:
    """The same items without the projection extension, or with ``proj:epsg`` for ``proj:code``."""
    changed = []
    for document in documents:
        holders = [document["properties"], *document["assets"].values()]
        code = next(h["proj:code"] for h in holders if "proj:code" in h)
        kept = [{k: v for k, v in h.items() if not k.startswith("proj:") or epsg} for h in holders]
        for holder in kept:
            if holder.pop("proj:code", None):
                holder["proj:epsg"] = int(code.removeprefix("EPSG:"))
        assets = dict(zip(document["assets"], kept[1:], strict=True))
        changed.append(document | {"properties": kept[0], "assets": assets})
    return changed


def relative(documents: Iterable[Document], address: str) -> list[Document]:
    """The same items with the addresses of their files relative to a folder."""
    return [
        document | {"assets": {
            name: asset | {"href": "./" + asset["href"].removeprefix(f"{address}/")}
            for name, asset in document["assets"].items()
        }}
        for document in documents
    ]  # fmt: skip


def save_static(documents: Sequence[Document], root: Path) -> Path:
    """``catalog.json`` of a self-contained static catalogue; files lie in ``root/collection/item/``."""
    catalog = pystac.Catalog(
        "rewritten", "A simulated valley in an archive's form. Nothing in it was observed."
    )
    items = [pystac.Item.from_dict(document, preserve_dict=True) for document in documents]
    for name in dict.fromkeys(str(item.collection_id) for item in items):
        members = [item for item in items if item.collection_id == name]
        catalog.add_child(make_collection(name, name, "Simulated", members))
    return save_catalog(catalog, root)


def shifted(grid: GeoBox, pixels: float) -> GeoBox:
    """A grid moved by a part of a pixel, and a little smaller."""
    corner = grid.affine * Affine.translation(3 + pixels, 2 + pixels)
    return GeoBox((grid.shape[0] - 10, grid.shape[1] - 7), corner, grid.crs)
