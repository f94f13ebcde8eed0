"""Truth of a simulated valley on disk: rasters of lakes and classes, and a table of outlines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xglof.errors import CatalogError
from xglof.simulate.scene import Valley
from xglof.simulate.states import classes, lake_numbers

if TYPE_CHECKING:
    import geopandas as gpd
    import xarray as xr


def write_truth(place: Valley, folder: Path) -> None:
    """Write ``lakes.parquet``, ``lake_number.tif`` and ``classes.tif`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    inside = place.interior
    passes = range(len(place.optical))
    numbers = np.stack([lake_numbers(place, i)[inside] for i in passes])
    _write_stack(place, folder / "lake_number.tif", numbers)
    _write_stack(place, folder / "classes.tif", np.stack([classes(place, i)[inside] for i in passes]))
    lake_table(place, numbers).to_parquet(folder / "lakes.parquet")


def lake_table(place: Valley, numbers: NDArray[np.uint16]) -> gpd.GeoDataFrame:
    """One row a lake and date: outline along pixel edges, area, water and ice.

    Parameters
    ----------
    place
        The valley.
    numbers
        ``(time, y, x)`` uint16 lake numbers on the scene's grid, 0 land.

    Returns
    -------
    geopandas.GeoDataFrame
        ``lake_id``, ``lake_number``, ``time``, ``kind`` (stable, growing, draining, splitting), ``level_m``
        and ``drained_level_m`` (before and after the outburst or the split), ``turbidity``, ``frozen``,
        ``area_m2`` (planar, in the scene's CRS), ``geometry`` in the same; an emptied lake has area 0 and an
        empty polygon, a lake that split a MultiPolygon.
    """
    import geopandas as gpd
    import pandas as pd
    from rasterio.features import shapes
    from shapely import MultiPolygon, Polygon, union_all
    from shapely.geometry import shape

    rows: list[dict[str, Any]] = []
    for view, layer in zip(place.optical, numbers, strict=True):
        parts: dict[int, list[Any]] = {}
        for outline, number in shapes(layer, mask=layer > 0, transform=place.geobox.affine):
            parts.setdefault(int(number), []).append(shape(outline))
        for lake in place.lakes:
            geometry = union_all(parts[lake.number]) if lake.number in parts else Polygon()
            rows.append(
                {
                    "lake_id": lake.id,
                    "lake_number": lake.number,
                    "time": np.datetime64(view.time.replace(tzinfo=None), "ns"),
                    "kind": lake.kind,
                    "level_m": lake.level_m,
                    "drained_level_m": lake.drained_level_m,
                    "turbidity": lake.turbidity,
                    "frozen": view.winter,
                    "area_m2": float(geometry.area),
                    "geometry": geometry if isinstance(geometry, Polygon | MultiPolygon) else Polygon(),
                }
            )
    return gpd.GeoDataFrame(pd.DataFrame(rows), geometry="geometry", crs=str(place.geobox.crs))


def _write_stack(place: Valley, path: Path, stack: NDArray[Any]) -> None:
    import rasterio

    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=stack.shape[1],
        width=stack.shape[2],
        count=stack.shape[0],
        dtype=stack.dtype.name,
        crs=str(place.geobox.crs),
        transform=place.geobox.affine,
        compress="deflate",
        zlevel=1,
        tiled=True,
        blockxsize=256,
        blockysize=256,
    ) as target:
        target.write(stack)
        for band, view in enumerate(place.optical, start=1):
            target.set_band_description(band, f"{view.time:%Y-%m-%dT%H:%M:%S}")
        target.update_tags(seed=place.seed, simulated="yes")


def read_truth(path: str | os.PathLike[str]) -> tuple[xr.Dataset, gpd.GeoDataFrame]:
    """Truth that lies beside a simulated catalogue.

    Parameters
    ----------
    path
        The folder of :func:`write_catalog`, or its ``catalog.json``.

    Returns
    -------
    xarray.Dataset
        As :func:`true_lakes`: ``lake`` uint8, ``classes`` uint8, ``lake_number`` uint16, dims
        ``(time, y, x)``, with ``spatial_ref``; in memory.
    geopandas.GeoDataFrame
        One row a lake and date, see the columns of ``truth/lakes.parquet``.

    Raises
    ------
    CatalogError
        There is no truth at ``path``.
    """
    import geopandas as gpd
    import rasterio
    from affine import Affine
    from odc.geo.geobox import GeoBox

    from xglof.simulate.states import truth_dataset

    root = Path(path)
    folder = (root.parent if root.suffix == ".json" else root) / "truth"
    if not (folder / "lakes.parquet").is_file():
        raise CatalogError(
            f"no truth at {folder}; expected the folder that xglof.simulate.write_catalog wrote"
        )
    with rasterio.open(folder / "lake_number.tif") as source:
        numbers, times, tags = source.read(), source.descriptions, source.tags()
        geobox = GeoBox((source.height, source.width), Affine(*source.transform[:6]), source.crs.to_string())
    with rasterio.open(folder / "classes.tif") as source:
        cover = source.read()
    stamps = np.array([np.datetime64(time, "ns") for time in times])
    truth = truth_dataset(geobox, stamps, numbers, cover, seed=int(tags["seed"]))
    return truth, gpd.read_parquet(folder / "lakes.parquet")
