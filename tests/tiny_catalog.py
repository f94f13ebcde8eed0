"""A tiny static catalogue in Planetary Computer's form, made of known numbers (nothing observed).

Its grid straddles a corner of four reading cells: x = 443520 m and y = 3124800 m are multiples of 20160 m.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from xglof.bands import MODALITIES

SIZE = 240
GRID = GeoBox((SIZE, SIZE), Affine(10, 0, 443520 - 1200, 0, -10, 3124800 + 1200), "EPSG:32645")
DEM_GRID = GeoBox.from_bbox((86.34, 28.16, 86.52, 28.32), crs="EPSG:4326", resolution=1 / 3600)
S1_GRID = GeoBox((200, 200), Affine(10, 0, 442423.3, 0, -10, 3125896.6), "EPSG:32645")
S2_NAMES = MODALITIES["S2L2A"].names

#: item id -> moment, baseline, tile, cloud cover, columns with data
S2_PASSES = {
    "A": ("2021-07-05T04:50:11", "03.01", "45RVL", 5.0, (0, SIZE)),
    "B": ("2022-07-10T04:50:12.345", "04.00", "45RVL", 10.0, (0, SIZE)),
    "B-old": ("2022-07-10T04:50:12.345", "03.01", "45RVL", 10.0, (0, SIZE)),
    "C-left": ("2022-07-20T04:50:10", "03.01", "45RUL", 20.0, (0, 120)),
    "C-right": ("2022-07-20T04:50:20", "04.00", "45RVL", 20.0, (100, SIZE)),
    "D-cloudy": ("2022-07-25T04:50:10", "05.09", "45RVL", 90.0, (0, SIZE)),
}
#: item id -> moment, orbit, constant power of vv
S1_PASSES = {
    "R-asc": ("2022-07-09T12:10:00", "ascending", 12, 0.1),
    "R-desc": ("2022-07-09T00:10:00", "descending", 121, 0.01),
    "R-late": ("2022-07-24T12:10:00", "ascending", 12, 1.0),
}


def raw_band(name: str, columns: tuple[int, int] = (0, SIZE)) -> np.ndarray:
    """Digital numbers of a Sentinel-2 band at its own pixel size: a ramp with known corners."""
    index = (*S2_NAMES, "SCL").index(name)
    step = native_step(name)
    rows, cols = np.mgrid[0 : SIZE // step, 0 : SIZE // step]
    raw = (1500 + 10 * index + 3 * cols + 7 * rows).astype(np.uint16)
    raw[0, :5] = (0, 1, 950, 1000, 1001)
    raw[:, : columns[0] // step] = 0
    raw[:, columns[1] // step :] = 0
    return raw


def raw_scl(columns: tuple[int, int] = (0, SIZE)) -> np.ndarray:
    """Classes of the scene classification in vertical stripes of ten 20 m pixels."""
    scl = np.repeat(np.arange(12, dtype=np.uint8), 10)[None].repeat(SIZE // 2, axis=0)
    scl = np.where(scl == 0, 6, scl).astype(np.uint8)
    scl[:, : columns[0] // 2] = 0
    scl[:, columns[1] // 2 :] = 0
    return scl


def native_step(name: str) -> int:
    """Pixels of the 10 m grid in one of the band."""
    if name == "SCL":
        return 2
    return int({band.name: band.native_m for band in MODALITIES["S2L2A"].bands}[name] // 10)


def rough(shape: tuple[int, int], seed: int) -> np.ndarray:
    """A rough positive field that shows any change of resampling."""
    return np.random.default_rng(seed).uniform(0.01, 1.0, shape).astype(np.float32)


def elevation() -> np.ndarray:
    """A rough slope with a tall wall south of the grid's middle."""
    field = 4000 + 300 * rough(DEM_GRID.shape, 7)
    field[DEM_GRID.shape[0] // 2 + 20, :] += 900
    return field.astype(np.float32)


def write_tif(path: Path, values: np.ndarray, grid: GeoBox, nodata: float | None) -> str:
    """A tiled GeoTIFF; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = values.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=1, dtype=values.dtype, nodata=nodata,
        crs=str(grid.crs), transform=grid.transform, tiled=True, blockxsize=128, blockysize=128,
    ) as sink:  # fmt: skip
        sink.write(values, 1)
    return str(path)


@dataclass(frozen=True)
class Written:
    """The catalogue on disk, and its items opened from there."""

    root: Path
    items: dict[str, pystac.Item]

    def of(self, *names: str) -> list[pystac.Item]:
        return [self.items[name] for name in names]


def bare_item(name: str, collection: str, when: str, grid: GeoBox = GRID, **properties: Any) -> pystac.Item:
    """An item without assets over a grid."""
    outline = grid.extent.to_crs("EPSG:4326")
    moment = datetime.fromisoformat(when).replace(tzinfo=UTC)
    return pystac.Item(
        name, outline.json, list(outline.boundingbox.bbox), moment, properties, collection=collection
    )


def _s2_item(root: Path, name: str) -> pystac.Item:
    when, baseline, tile, cloud, columns = S2_PASSES[name]
    item = bare_item(
        name, "sentinel-2-l2a", when,
        **{"s2:processing_baseline": baseline, "s2:mgrs_tile": tile, "eo:cloud_cover": cloud,
           "s2:mean_solar_azimuth": 180.0, "s2:mean_solar_zenith": 60.0},
    )  # fmt: skip
    for band in (*S2_NAMES, "SCL"):
        values = raw_scl(columns) if band == "SCL" else raw_band(band, columns)
        grid = GRID.zoom_out(native_step(band))
        nodata = None if band == "B12" else 0  # one band whose file forgets to say it
        href = write_tif(root / "s2" / name / f"{band}.tif", values, grid, nodata)
        item.add_asset(band, pystac.Asset(href, roles=["data"]))
    return item


def _s1_item(root: Path, name: str) -> pystac.Item:
    when, orbit, number, power = S1_PASSES[name]
    item = bare_item(
        name, "sentinel-1-rtc", when, S1_GRID, **{"sat:orbit_state": orbit, "sat:relative_orbit": number}
    )
    vv = np.full(S1_GRID.shape, power, np.float32)
    vv[:30, :30] = -32768
    vv[-30:, -30:] = 0
    for band, values in (("vv", vv), ("vh", rough(S1_GRID.shape, 3))):
        href = write_tif(root / "s1" / name / f"{band}.tif", values, S1_GRID, -32768)
        item.add_asset(band, pystac.Asset(href, roles=["data"]))
    return item


def _dem_item(root: Path) -> pystac.Item:
    item = bare_item("dem", "cop-dem-glo-30", "2021-04-22T00:00:00", DEM_GRID)
    item.add_asset("data", pystac.Asset(write_tif(root / "dem" / "dem.tif", elevation(), DEM_GRID, None)))
    return item


def write_catalog(root: Path) -> Written:
    """Everything above, saved as a static catalogue and opened again."""
    catalog = pystac.Catalog("tiny", "Known numbers, nothing observed")
    catalog.add_items([_s2_item(root, name) for name in S2_PASSES])
    catalog.add_items([_s1_item(root, name) for name in S1_PASSES])
    catalog.add_item(_dem_item(root))
    catalog.normalize_hrefs(str(root))
    catalog.make_all_asset_hrefs_relative()
    catalog.save(pystac.CatalogType.SELF_CONTAINED)
    opened = pystac.Catalog.from_file(str(root / "catalog.json"))
    return Written(root, {item.id: item for item in opened.get_items()})
