"""Small tables of lakes' polygons for the tests of tracking."""

from __future__ import annotations

import geopandas
import pandas as pd
import shapely

EAST, NORTH = 497_000, 3_080_000


def box(west, south, east, north):
    """Rectangle in pixels of 10 m."""
    return shapely.box(EAST + 10 * west, NORTH + 10 * south, EAST + 10 * east, NORTH + 10 * north)


def frame(*dates, crs="EPSG:32645", first=2021, **columns):
    """Polygons of one date a year."""
    years = [year for year, shapes in enumerate(dates, first) for _ in shapes]
    time = pd.to_datetime([f"{year}-08-01" for year in years]).astype("datetime64[ns]")
    shapes = [shape for shapes in dates for shape in shapes]
    return geopandas.GeoDataFrame({"time": time, **columns}, geometry=shapes, crs=crs)


def told(tracked):
    """A letter for each lake by first sight, the event and its parents, by row."""
    letters = {}
    for name in tracked.sort_values("time", kind="stable")["lake_id"]:
        letters.setdefault(name, chr(ord("A") + len(letters)))
    parents = [" ".join(letters[name] for name in row.split()) for row in tracked["parents"]]
    return list(zip(tracked["lake_id"].map(letters), tracked["event"], parents, strict=True))


LAKE, WIDE = box(0, 0, 10, 10), box(-3, -3, 14, 14)
LEFT, RIGHT = box(0, 0, 6, 10), box(7, 0, 10, 10)
EAST_LAKE = box(12, 0, 20, 10)

HISTORY = (
    [LAKE, EAST_LAKE, box(40, 40, 44, 44)],
    [box(0, 0, 20, 10), box(40, 40, 42, 44), box(43, 40, 44, 44)],
    [LEFT, RIGHT, EAST_LAKE, box(40, 40, 44, 44)],
    [LAKE, EAST_LAKE, box(70, 0, 72, 2)],
)
