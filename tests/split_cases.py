"""Chips on the ground for the tests of splits, and slow ways to measure them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from pyproj import Geod, Transformer
from scipy.spatial import cKDTree

GEOD = Geod(ellps="WGS84")
TO_SPACE = Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)


def chips_at(longitude, latitude, *, side_m=2240.0, **columns) -> pd.DataFrame:
    """An index of chips, as far as a split looks at it."""
    index = pd.DataFrame({"longitude": np.atleast_1d(longitude).astype(float), "latitude": latitude})
    index["side_m"], index["source"], index["lake_ids"], index["fold"] = side_m, 0, "", ""
    index["chip_id"] = [f"chip-{number}" for number in range(len(index))]
    return index.assign(**columns)


def cloud(longitude, latitude, count, spread_m, seed, **columns) -> pd.DataFrame:
    """Chips at random around a place, poles and 180 degrees included."""
    rng = np.random.default_rng(seed)
    east, north, _ = GEOD.fwd(
        np.full(count, longitude),
        np.full(count, latitude),
        rng.uniform(0, 360, count),
        spread_m * np.sqrt(rng.uniform(0, 1, count)),
    )
    return chips_at(east, north, **columns)


def border(longitude, latitude, side_m, turn, points=3) -> np.ndarray:
    """Longitude and latitude of points along the border of a square on the ground, turned clockwise."""
    along = np.linspace(-1, 1, points, endpoint=False)
    ones = np.ones(points)
    x = np.concatenate([along, ones, -along, -ones]) * side_m / 2
    y = np.concatenate([ones, -along, -ones, along]) * side_m / 2
    azimuth = np.degrees(np.arctan2(x, y)) + turn
    full = np.ones(len(x))
    return np.stack(GEOD.fwd(longitude * full, latitude * full, azimuth, np.hypot(x, y))[:2])


def nearest_m(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    """Smallest straight distance between points of two groups of borders, m."""
    if not sum(each.size for each in first) or not sum(each.size for each in second):
        return np.inf
    one, other = (
        np.stack(
            TO_SPACE.transform(*np.concatenate(each, axis=1), np.zeros(sum(e.shape[1] for e in each))), -1
        )
        for each in (first, second)
    )
    return float(cKDTree(one).query(other)[0].min())
