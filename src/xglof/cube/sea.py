"""Sea in the Copernicus DEM: its tiles of one degree cover all land, and where there is none there is sea.

Not everywhere: GLO-30 is published without the tiles over Armenia and Azerbaijan (Copernicus DEM Product
Handbook), which stay without data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from xglof.cube.pixel_grid import PixelGrid, Window

#: Where tiles of the land are withheld: west, south, east, north, degrees, generously.
WITHHELD = (43, 38, 51, 42)


def parts_of_sea(
    tiles: Iterable[Any], target: PixelGrid, wanted: Window
) -> tuple[tuple[PixelGrid, Window], ...]:
    """The parts of the tiles' grids that a cube touches and that no tile covers.

    Parameters
    ----------
    tiles
        GeoBoxes of the tiles that are there, each of one degree.
    target, wanted
        The grid of the cube and its window.

    Returns
    -------
    tuple
        Pixel grid and window of each missing tile; nothing where the tiles are not of one degree.
    """
    whole = [tile for tile in dict.fromkeys(tiles) if _is_tile(tile)]
    held = {_corner(tile) for tile in whole}
    samples = {PixelGrid.of(tile)[0]: tile for tile in whole}  # one tile of each grid gives its lines
    found: list[tuple[PixelGrid, Window]] = []
    for grid, sample in samples.items():
        window, (south, west) = PixelGrid.of(sample)[1], _corner(sample)
        rows, columns = round(1 / abs(grid.step_y)), round(1 / abs(grid.step_x))
        reach = grid.covering(target, wanted, 4)
        first_row, last_row = (reach.top - window.top) // rows, (reach.bottom - 1 - window.top) // rows
        first, last = (reach.left - window.left) // columns, (reach.right - 1 - window.left) // columns
        for i in range(first_row, last_row + 1):
            for j in range(first, last + 1):
                corner = (south - i, west + j)
                if corner not in held and not _is_withheld(*corner):
                    top, left = window.top + i * rows, window.left + j * columns
                    found.append((grid, Window(top, top + rows, left, left + columns)))
    return tuple(found)


def _is_tile(geobox: Any) -> bool:
    box = geobox.boundingbox
    spans = (box.right - box.left, box.top - box.bottom)
    return bool(geobox.crs.geographic and all(abs(span - 1) < 1e-3 for span in spans))


def _corner(geobox: Any) -> tuple[int, int]:
    """South and west of a tile; its pixels' centres, not their edges, lie on whole degrees."""
    box = geobox.boundingbox
    return math.floor((box.bottom + box.top) / 2), math.floor((box.left + box.right) / 2)


def _is_withheld(south: int, west: int) -> bool:
    return WITHHELD[0] <= west < WITHHELD[2] and WITHHELD[1] <= south < WITHHELD[3]
