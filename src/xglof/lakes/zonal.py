"""Foreign polygons: how much of each pixel of a grid they cover.

Outlines that were drawn on another grid, or by hand, cut pixels. Each pixel then counts by the share of it
that the polygon covers. The outlines of the grid's own maps cut none and do not come here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xglof.lakes.cells import Cells
from xglof.lakes.layer import Float

#: Shares and probabilities are rounded to this, so that sums of them are exact in float64 in any order.
UNIT = 2.0**-24


def covered_cells(
    geometry: NDArray[Any],
    core: NDArray[Any],
    parts: NDArray[Any],
    corner: tuple[int, int],
    shape: tuple[int, int],
) -> Cells:
    """Pixels of a window that polygons cover in part or in whole.

    Parameters
    ----------
    geometry, core, parts
        Footprints in columns and rows of the grid, their cores, and what of them is at home there and in no
        smaller footprint.
    corner
        First row and column of the window.
    shape
        Rows and columns of the window.

    Returns
    -------
    Cells
        All inside, with the shares of the pixel that the polygons cover.
    """
    import shapely

    size = shape[0] * shape[1]
    key, reach = covered_pixels(geometry, corner, shape)
    cells = [reach]
    for others in (core, parts):
        share = reach.copy()
        other = np.flatnonzero(~shapely.equals_exact(others, geometry))
        share[np.isin(key // size, other)] = 0
        pixel, covered = covered_pixels(others[other], corner, shape)
        wanted = other[pixel // size] * size + pixel % size
        place = np.minimum(np.searchsorted(key, wanted), max(len(key) - 1, 0))
        there = key[place] == wanted if len(key) else np.zeros(len(wanted), bool)
        share[place[there]] = np.minimum(covered[there], reach[place[there]])
        cells.append(share)
    return Cells(key % size, (key // size).astype(np.int32), np.ones(len(key), bool), *cells)


def covered_pixels(
    geometry: NDArray[Any], corner: tuple[int, int], shape: tuple[int, int]
) -> tuple[NDArray[np.int64], Float]:
    """Shares of the pixels of a window that polygons cover.

    Parameters
    ----------
    geometry
        Polygons in columns and rows of the grid.
    corner
        First row and column of the window.
    shape
        Rows and columns of the window.

    Returns
    -------
    tuple
        Number of the polygon times the size of the window plus the place of the pixel, ascending, and the
        share of that pixel.

    References
    ----------
    exactextract, https://github.com/isciences/exactextract: the shares are exact but for float32.

    Examples
    --------
    >>> import shapely
    >>> at, share = covered_pixels(np.array([shapely.box(1.5, 0, 3, 1)]), (0, 0), (1, 4))
    >>> at.tolist(), share.tolist()
    ([1, 2], [0.5, 1.0])
    """
    import shapely
    from exactextract import exact_extract
    from exactextract.feature import JSONFeatureSource
    from exactextract.raster import NumPyRasterSource

    top, left = corner
    bottom, right = top + shape[0], left + shape[1]
    there = np.flatnonzero(~shapely.is_empty(geometry))  # smaller ones may have taken all
    if not len(there):
        return np.empty(0, np.int64), np.empty(0)
    # its rows run from north to south, so that a row number is a distance to the south
    flipped = shapely.transform(geometry[there], lambda xy: xy * (1, -1))
    raster = NumPyRasterSource(np.zeros(shape, np.uint8), xmin=left, xmax=right, ymin=-bottom, ymax=-top)
    outlines = [shapely.geometry.mapping(each) for each in flipped]
    features = JSONFeatureSource([{"type": "Feature", "properties": {}, "geometry": o} for o in outlines])
    found = exact_extract(raster, features, ["cell_id", "coverage"], output="pandas")
    home = np.repeat(there, [len(each) for each in found["cell_id"]])
    key = home * shape[0] * shape[1] + np.concatenate(found["cell_id"].to_list()).astype(np.int64)
    share = np.round(np.concatenate(found["coverage"].to_list()) / UNIT) * UNIT
    order = np.argsort(key)
    kept = order[share[order] > 0]
    return key[kept], share[kept]
