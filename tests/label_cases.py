"""Cubes and lakes for the tests of labels, and a slow way to draw them."""

from __future__ import annotations

import geopandas
import numpy as np
import odc.geo.xr  # noqa: F401
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr
from pyproj import Transformer

UTM = GeoBox((60, 80), Affine(10, 0, 497_000, 0, -10, 3_080_000), "EPSG:32645")


def cube_on(grid=UTM, *, times=None, chunks=None) -> xr.Dataset:
    """A cube of zeros."""
    shape = grid.shape if times is None else (len(times), *grid.shape)
    coords = {} if times is None else {"time": np.array(times, "datetime64[ns]")}
    cube = xr.Dataset({"B03": wrap_xr(np.zeros(shape, "uint16"), grid, **coords)})
    return cube if chunks is None else cube.chunk(chunks)


def lakes_on(grid=UTM, *, count=6, seed=0, crs=None, **columns) -> geopandas.GeoDataFrame:
    """Star-shaped lakes with islands, some of them across the edge of a grid."""
    rng = np.random.default_rng(seed)
    shapes = []
    for _ in range(count):
        column, row, size = rng.uniform(0, grid.shape[1]), rng.uniform(0, grid.shape[0]), rng.uniform(2, 12)
        angle = np.linspace(0, 2 * np.pi, 14)[:-1]
        radius = size * rng.uniform(0.5, 1, 13)
        ring = np.column_stack([column + radius * np.cos(angle), row + radius * np.sin(angle)])
        hole = np.column_stack([column + 0.2 * size * np.cos(angle), row + 0.2 * size * np.sin(angle)])
        shapes.append(shapely.Polygon(ring, [hole]))
    placed = [shapely.affinity.affine_transform(each, grid.transform.to_shapely()) for each in shapes]
    frame = geopandas.GeoDataFrame(columns, geometry=placed, crs=str(grid.crs))
    return frame if crs is None else frame.to_crs(crs)


def drawn(lakes: geopandas.GeoDataFrame, grid=UTM) -> tuple[np.ndarray, np.ndarray]:
    """Pixels whose centre lies in a lake, pixel by pixel in the lakes' CRS, and those too near to tell."""
    found, near = np.zeros(grid.shape, bool), np.zeros(grid.shape, bool)
    to_lakes = Transformer.from_crs(str(grid.crs), lakes.crs, always_xy=True)
    border = shapely.boundary(shapely.union_all(lakes.geometry.to_crs(str(grid.crs))))
    for row in range(grid.shape[0]):
        for column in range(grid.shape[1]):
            centre = grid.transform @ (column + 0.5, row + 0.5)
            point = shapely.Point(to_lakes.transform(*centre))
            found[row, column] = any(shape.contains(point) for shape in lakes.geometry)
            near[row, column] = border.distance(shapely.Point(centre)) < 0.1
    return found, near
