"""Sea in the Copernicus DEM: its tiles of one degree cover all land, and where there is none there is sea.

Not everywhere: GLO-30 is published without the tiles over Armenia and Azerbaijan (Copernicus DEM Product
Handbook), which stay without data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

#: Where tiles of the land are withheld: west, south, east, north, degrees, generously.
WITHHELD = (43, 38, 51, 42)
_MARGIN_DEG = 1e-3


def degrees_of_sea(tiles: Iterable[Any], geobox: Any) -> tuple[tuple[int, int], ...]:
    """The degrees that a grid touches and that no tile covers: south and west of each.

    Parameters
    ----------
    tiles
        GeoBoxes of the tiles that are there, each of one degree; of others nothing can be told.
    geobox
        The grid of the cube.
    """
    distinct = list(dict.fromkeys(tiles))
    if not distinct or not all(_is_tile(tile) for tile in distinct):
        return ()
    held = {_corner(tile) for tile in distinct}
    west, south, east, north = geobox.footprint("EPSG:4326").boundingbox.bbox
    touched = [
        (latitude, longitude)
        for latitude in range(math.floor(south - _MARGIN_DEG), math.ceil(north + _MARGIN_DEG))
        for longitude in range(math.floor(west - _MARGIN_DEG), math.ceil(east + _MARGIN_DEG))
    ]
    return tuple(corner for corner in touched if corner not in held and not _is_withheld(*corner))


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
