"""Names beside lines and lakes, kept apart from each other."""

from __future__ import annotations

from typing import Any

from xglof.errors import CubeError
from xglof.plot.frame import frame_of

_MOST_LABELS = 8  # on one map; more ids hide what they name
_GAP = 0.06  # of the height of a map, between two ids
_NAME_SHARE = 0.32  # of the width of a map, that an id takes


def casing(width: float) -> list[Any]:
    """A dark rim that sets a line or a text off from any ground."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width, foreground="black")]


def spread(heights: list[float], gap: float) -> list[float]:
    """Ascending heights, moved as little as keeps them ``gap`` apart and, where they fit, between 0 and 1."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + gap) if placed else max(height, 0.0))
    limit = max(1.0, gap * (len(placed) - 1))
    for index in range(len(placed) - 1, -1, -1):
        placed[index] = min(placed[index], limit)
        limit = placed[index] - gap
    return placed


def write_ids(ax: Any, lakes: Any, grid: Any, names: list[str] | None = None) -> None:
    """Write ids on a map, in a column at the side that each lake is nearer to, joined to it by a line.

    Parameters
    ----------
    ax
        Axes of a map, its limits set.
    lakes
        Polygons of one date with ``lake_id``; of a lake in parts the largest one counts.
    grid
        GeoBox of the map.
    names
        Ids to write; ``None`` for the eight largest lakes.

    Raises
    ------
    CubeError
        The polygons have no ids.
    """
    if "lake_id" not in lakes:
        raise CubeError("label= needs polygons with 'lake_id'; give those that track() returned")
    lakes = lakes.to_crs(grid.crs.wkt)
    order = lakes.geometry.area.sort_values(ascending=False, kind="stable").index
    largest = lakes.loc[order].drop_duplicates("lake_id")
    largest = largest.head(_MOST_LABELS) if names is None else largest[largest["lake_id"].isin(names)]
    points = largest.geometry.representative_point()
    scale = frame_of(grid).scale
    places = zip(largest["lake_id"].astype(str), points.x * scale, points.y * scale, strict=True)
    write_names(ax, [(name, float(x), float(y)) for name, x, y in places])


def write_names(ax: Any, places: list[tuple[str, float, float]]) -> list[str]:
    """Write names at the sides of a map, level with their places or as near as they can; those written."""
    (west, east), (south, north) = ax.get_xlim(), ax.get_ylim()
    inside = [place for place in places if west <= place[1] <= east and south <= place[2] <= north]
    for left in (True, False):
        column = [place for place in inside if _stands_left((place[1] - west) / (east - west)) is left]
        column.sort(key=lambda place: place[2])
        heights = spread([(y - south) / (north - south) for *_, y in column], _GAP)
        for (name, x, y), height in zip(column, heights, strict=True):
            anchor = (0.02 if left else 0.98, min(max(height, 0.15), 0.97))  # below stands the scale bar
            _write(ax, name, (x, y), anchor, "axes fraction", "left" if left else "right")
    return [name for name, *_ in inside]


def _stands_left(share: float) -> bool:
    """At the nearer side, unless the name would lie on the place itself."""
    return bool(_NAME_SHARE < share < 0.5 or share > 1 - _NAME_SHARE)


def write_name(ax: Any, name: str, x: float, y: float) -> None:
    """Write one name near its place, towards the middle of a map."""
    (west, east), (south, north) = ax.get_xlim(), ax.get_ylim()
    right, up = x < (west + east) / 2, y < (south + north) / 2
    offset = (45 if right else -45, 45 if up else -45)
    _write(ax, name, (x, y), offset, "offset points", "left" if right else "right")


def _write(
    ax: Any, name: str, place: tuple[float, float], where: tuple[float, float], unit: str, side: str
) -> None:
    ax.annotate(
        name,
        place,
        where,
        textcoords=unit,
        ha=side,
        va="center",
        color="white",
        fontsize=9,
        fontweight="bold",
        path_effects=casing(2.5),
        zorder=7,
        arrowprops={"arrowstyle": "-", "color": "white", "lw": 0.9, "shrinkB": 0},
    )
