"""How a grid's coordinates are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from xglof.lakes.layer import pixel_metres


@dataclass(frozen=True, slots=True)
class Frame:
    """How a grid's coordinates are drawn: kilometres of a projection, or degrees."""

    scale: float
    extent: tuple[float, float, float, float]
    labels: tuple[str, str]
    aspect: float
    metres: float  # on the ground, of one drawn unit of x


def frame_of(grid: Any) -> Frame:
    """How a grid's coordinates are drawn."""
    west, south, east, north = grid.boundingbox.bbox
    geographic = grid.crs.geographic
    scale = 1.0 if geographic else 1e-3
    centre = np.array([(west + east) / 2]), np.array([(south + north) / 2])
    width, height, _ = (float(v[0]) for v in pixel_metres(grid, *centre))
    x_metres, y_metres = width / abs(grid.resolution.x) / scale, height / abs(grid.resolution.y) / scale
    labels = ("longitude, °E", "latitude, °N") if geographic else ("easting, km", "northing, km")
    extent = (west * scale, east * scale, south * scale, north * scale)
    return Frame(scale, extent, labels, y_metres / x_metres, x_metres)
