"""Files that are read at their own pixels: Sentinel-2 tiles and radar scenes, made of known numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
from affine import Affine
from odc.geo.geobox import GeoBox

from xglof.bands import MODALITIES
from xglof.cube.files import make_item, write_cog

TILE_PX = 4200  # at 10 m; a multiple of 6, so that 20 m and 60 m fit
NATIVE = {band.name: int(band.native_m // 10) for band in MODALITIES["S2L2A"].bands} | {"SCL": 2}
WRITTEN = ("B02", "B05", "B01", "SCL")  # one band of each pixel size, and the classes


def reflectance(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Numbers that depend on the place on the ground alone, and compress as badly as real ones."""
    rows, columns = rows.astype(np.uint32), columns.astype(np.uint32)
    noise = (rows * np.uint32(2654435761) ^ columns * np.uint32(2246822519)) >> np.uint32(22)
    return (200 + rows // 16 * 7 % 1500 + columns // 16 * 3 % 1500 + noise).astype(np.uint16)


def tile(folder: Path, name: str, left_px: int, top_px: int, when: datetime) -> pystac.Item:
    """A scene as Planetary Computer has it, of which only some bands are files."""
    files = []
    for band in (*MODALITIES["S2L2A"].names, "SCL"):
        step = NATIVE[band]
        shape = (TILE_PX // step, TILE_PX // step)
        origin = Affine(10 * step, 0, 600000 + 10 * left_px, 0, -10 * step, 3100020 - 10 * top_px)
        grid = GeoBox(shape, origin, "EPSG:32645")
        values = np.ones((1, 1), np.uint16)
        if band in WRITTEN:
            rows, columns = np.ogrid[: shape[0], : shape[1]]
            values = reflectance(rows + top_px // step, columns + left_px // step) + np.uint16(1000)
        if band == "SCL":
            values = (values % 11 + 1).astype(np.uint8)
        written = write_cog(folder / name, band, values, grid, 0)
        files.append(written if band in WRITTEN else type(written)(band, written.path, grid, "uint16", 0))
    item = make_item(name, when, files, {"s2:processing_baseline": "05.09", "s2:mgrs_tile": name})
    item.collection_id = "sentinel-2-l2a"
    return item


def at(items: list[pystac.Item], root: Path, address: str) -> list[pystac.Item]:
    moved = [item.clone() for item in items]
    for item in moved:
        for asset in item.assets.values():
            asset.href = asset.href.replace(str(root), address)
    return moved


def radar(folder: Path, name: str, grid: GeoBox, values: np.ndarray, **properties: Any) -> pystac.Item:
    files = [write_cog(folder / name, band, values, grid, -32768.0) for band in ("vv", "vh")]
    item = make_item(name, datetime(2023, 7, 1, 12, tzinfo=UTC), files, properties)
    item.collection_id = "sentinel-1-rtc"
    return item


#: Odd on purpose: starts inside a pixel of 20 m and of 60 m, and reaches over both tiles.
AREA = GeoBox((3300, 6001), Affine(10, 0, 600000 + 10 * 901, 0, -10, 3100020 - 10 * 733), "EPSG:32645")
