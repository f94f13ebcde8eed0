"""The index of chips of labelled cubes: where they lie on the ground and in the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from xglof.train.ground import geod
from xglof.train.lake_ids import lakes_at
from xglof.train.order import Layout
from xglof.train.rasters import Raster

_COLUMNS = (
    "chip_id", "source", "time", "step", "row", "col", "longitude", "latitude", "side_m", "lake_fraction",
    "valid_fraction", "lake_ids", "modalities", "walk", "block", "hardness", "fold",
)  # fmt: skip


def index_of(
    found: pd.DataFrame,
    rasters: Sequence[Raster],
    layouts: Sequence[Layout],
    strips: Sequence[int],
    size: int,
) -> pd.DataFrame:
    """The index, in reading order.

    Parameters
    ----------
    found
        A row a window: ``source``, ``step``, ``row``, ``col`` and what was counted.
    rasters, layouts, strips
        The cubes, their stored blocks, and the widths of the strips to walk down.
    size
        Side of a chip, pixels.
    """
    parts, first = [], np.zeros(2, dtype=np.int64)
    for number, (raster, layout, strip) in enumerate(zip(rasters, layouts, strips, strict=True)):
        own = found[found["source"] == number]
        step, row, col = (own[name].to_numpy() for name in ("step", "row", "col"))
        walk, block = (a + b for a, b in zip(first, layout.numbers(step, row, col, strip), strict=True))
        first += np.prod(layout.shape)
        longitude, latitude, side_m = _on_ground(raster, row, col, size)
        times = np.full(len(own), np.datetime64("NaT"), "datetime64[ns]")
        if raster.times is not None:
            times = raster.times[step]
        names = [
            f"{number}.{t}.{r}.{c}" for t, r, c in zip(step.tolist(), row.tolist(), col.tolist(), strict=True)
        ]
        own = own.assign(
            chip_id=names,
            time=times,
            longitude=longitude,
            latitude=latitude,
            side_m=side_m,
            walk=walk,
            block=block,
        )
        parts.append(own.sort_values(["block", "step", "row", "col"], kind="stable"))
    index = pd.concat(parts, ignore_index=True).assign(lake_ids="", fold="")
    return index.astype({"source": np.int32})[list(_COLUMNS)]


def _on_ground(
    raster: Raster, row: npt.NDArray[np.int64], col: npt.NDArray[np.int64], size: int
) -> tuple[npt.NDArray[np.float64], ...]:
    """Longitude and latitude of the centres of squares, degrees, and the longer of their sides, m."""
    from pyproj import Transformer

    places, place = np.unique(np.column_stack([row, col]), axis=0, return_inverse=True)
    to_degrees = Transformer.from_crs(raster.geobox.crs.proj, "EPSG:4326", always_xy=True)
    half = size / 2
    middle = places + half
    ends = {}
    for name, down, across in (("c", 0, 0), ("n", -half, 0), ("s", half, 0), ("w", 0, -half), ("e", 0, half)):
        ends[name] = to_degrees.transform(*_corner(raster, middle[:, 0] + down, middle[:, 1] + across))
    sides = [np.asarray(geod().inv(*ends[a], *ends[b])[2]) for a, b in ("ns", "we")]
    longitude, latitude = (np.asarray(each) for each in ends["c"])
    return longitude[place], latitude[place], np.maximum(*sides)[place]


def _corner(raster: Raster, row: npt.NDArray[Any], col: npt.NDArray[Any]) -> tuple[Any, Any]:
    """Coordinates of the upper left corners of pixels, in the raster's CRS."""
    affine = raster.geobox.affine
    return affine.c + affine.a * col, affine.f + affine.e * row


def lake_ids(
    index: pd.DataFrame, rasters: Sequence[Raster], inventories: Sequence[Any], size: int
) -> npt.NDArray[np.object_]:
    """Ids of the lakes that each chip touches, "" where a cube has no inventory (``None``)."""
    import geopandas
    import shapely

    found = np.full(len(index), "", dtype=object)
    for number, (raster, inventory) in enumerate(zip(rasters, inventories, strict=True)):
        own = np.flatnonzero(index["source"] == number)
        if inventory is None or not len(own):
            continue
        corners = index[["row", "col"]].to_numpy()[own]
        places, place = np.unique(corners, axis=0, return_inverse=True)
        left, top = _corner(raster, places[:, 0], places[:, 1])
        right, bottom = _corner(raster, places[:, 0] + size, places[:, 1] + size)
        squares = geopandas.GeoSeries(shapely.box(left, bottom, right, top), crs=raster.geobox.crs.proj)
        found[own] = lakes_at(inventory, squares)[place]
    return found
