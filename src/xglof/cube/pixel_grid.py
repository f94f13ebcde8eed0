"""Unbounded grids of pixels: which files lie on one, and which pixels of it a piece of a cube needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

#: Below this share of a pixel an origin counts as lying on the pixel line.
SNAP_PX = 1e-3
_METRES_A_DEGREE = 111_320.0
_EDGE_POINTS = 33  # a side of a piece is followed by as many points into another projection


@dataclass(frozen=True, slots=True)
class Window:
    """Part of a :class:`PixelGrid`, in pixels from its origin; the ends are excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, 0 where there is nothing."""
        return max(self.bottom - self.top, 0), max(self.right - self.left, 0)

    def __bool__(self) -> bool:
        return self.bottom > self.top and self.right > self.left

    def __and__(self, other: Window) -> Window:
        return Window(
            max(self.top, other.top),
            min(self.bottom, other.bottom),
            max(self.left, other.left),
            min(self.right, other.right),
        )

    def widened(self, margin: int) -> Window:
        """The window with a margin on all sides."""
        return Window(self.top - margin, self.bottom + margin, self.left - margin, self.right + margin)

    def cells(self, side: int) -> tuple[tuple[Window, ...], ...]:
        """Rows of the whole cells of the absolute lattice of ``side`` pixels that the window touches."""
        return tuple(
            tuple(
                Window(top, top + side, left, left + side)
                for left in range(self.left // side * side, self.right, side)
            )
            for top in range(self.top // side * side, self.bottom, side)
        )

    def within(self, outer: Window) -> tuple[slice, slice]:
        """Slices that cut the window out of an array over ``outer``."""
        top, left = self.top - outer.top, self.left - outer.left
        return slice(top, top + self.shape[0]), slice(left, left + self.shape[1])


@dataclass(frozen=True, slots=True)
class PixelGrid:
    """A grid of pixels without bounds: all files on one can be laid side by side without resampling.

    Attributes
    ----------
    crs
        Authority's code or WKT. Text, because a CRS takes long to compare and to hash.
    step_y, step_x
        Signed pixel size in units of the CRS; ``step_y`` is negative where rows run southwards.
    phase_y, phase_x
        By how much of a pixel the grid is shifted from the origin of the CRS, 0 to 1.
    """

    crs: str
    step_y: float
    step_x: float
    phase_y: float
    phase_x: float

    @classmethod
    def of(cls, geobox: Any) -> tuple[PixelGrid, Window]:
        """The grid on which an odc-geo GeoBox lies, and the part of it that the GeoBox is."""
        matrix = geobox.transform
        step_y, step_x = clean_step(matrix.e), clean_step(matrix.a)
        (top, phase_y), (left, phase_x) = first_pixel(matrix.f, step_y), first_pixel(matrix.c, step_x)
        window = Window(top, top + geobox.shape[0], left, left + geobox.shape[1])
        return cls(_named(str(geobox.crs)), step_y, step_x, phase_y, phase_x), window

    @property
    def step_m(self) -> float:
        """Size of a pixel along a meridian, metres."""
        return abs(self.step_y) * (_METRES_A_DEGREE if _crs(self.crs).geographic else 1.0)

    def geobox(self, window: Window) -> Any:
        """The GeoBox of a window: one set of bits for one place."""
        from odc.geo.geobox import GeoBox

        return GeoBox(window.shape, self.affine(window), self.crs)

    def affine(self, window: Window) -> Any:
        """The transform of a window."""
        from affine import Affine

        return Affine(
            self.step_x, 0, (window.left + self.phase_x) * self.step_x,
            0, self.step_y, (window.top + self.phase_y) * self.step_y,
        )  # fmt: skip

    def degrees(self, rows: Any, columns: Any) -> tuple[Any, Any]:
        """Latitude and longitude of pixels' centres, from their absolute rows and columns."""
        x = (columns + 0.5 + self.phase_x) * self.step_x
        y = (rows + 0.5 + self.phase_y) * self.step_y
        longitude, latitude = _transformer(self.crs, "EPSG:4326")(x, y)
        return latitude, longitude

    def refinement(self, finer: PixelGrid) -> int | None:
        """How many pixels of ``finer`` lie along a side of one of this, where their lines agree; or ``None``.

        1 is the same grid.
        """
        if self.crs != finer.crs:
            return None
        ratio = self.step_x / finer.step_x
        factor = round(ratio)
        if factor < 1 or abs(ratio - factor) > 1e-9 or abs(self.step_y / finer.step_y - factor) > 1e-9:
            return None
        apart = (self.phase_y * factor - finer.phase_y, self.phase_x * factor - finer.phase_x)
        return factor if all(abs(d - round(d)) <= SNAP_PX for d in apart) else None

    def shift(self, finer: PixelGrid, factor: int) -> tuple[int, int]:
        """Rows and columns of ``finer`` from its origin to that of this grid."""
        return (
            round(self.phase_y * factor - finer.phase_y),
            round(self.phase_x * factor - finer.phase_x),
        )

    def covering(self, other: PixelGrid, window: Window, margin: int) -> Window:
        """The pixels of this grid under a window of another one, and a margin of pixels around them."""
        xs, ys = _outline(other, window)
        if self.crs != other.crs:
            xs, ys = _transformer(other.crs, self.crs)(xs, ys)
        if _crs(self.crs).geographic and np.isfinite(xs).all():
            xs = xs[0] + (xs - xs[0] + 180) % 360 - 180  # a piece near 180 degrees does not span the globe
        rows, columns = ys / self.step_y - self.phase_y, xs / self.step_x - self.phase_x
        if not (np.isfinite(rows).all() and np.isfinite(columns).all()):
            return Window(0, 0, 0, 0)  # beyond where the projection is defined
        inside = Window(
            math.floor(rows.min()), math.ceil(rows.max()), math.floor(columns.min()), math.ceil(columns.max())
        )
        return inside.widened(margin)


@cache
def _transformer(source: str, target: str) -> Any:
    return _crs(source).transformer_to_crs(_crs(target))


@cache
def _named(text: str) -> str:
    """A CRS by its EPSG code, where it has one: files and Datasets spell the same CRS out as WKT."""
    epsg = _crs(text).to_epsg()
    code = f"EPSG:{epsg}"
    return code if epsg is not None and _crs(code) == _crs(text) else text


@cache
def _crs(text: str) -> Any:
    from odc.geo import CRS

    return CRS(text)


def _outline(grid: PixelGrid, window: Window) -> tuple[Any, Any]:
    """Points along the edges and the middle lines of a window, in the grid's CRS."""
    rows = (np.linspace(window.top, window.bottom, _EDGE_POINTS) + grid.phase_y) * grid.step_y
    columns = (np.linspace(window.left, window.right, _EDGE_POINTS) + grid.phase_x) * grid.step_x
    lines_x = [*columns[[0, _EDGE_POINTS // 2, -1]]]
    lines_y = [*rows[[0, _EDGE_POINTS // 2, -1]]]
    xs = np.concatenate([*(np.full(_EDGE_POINTS, x) for x in lines_x), *(columns for _ in lines_y)])
    ys = np.concatenate([*(rows for _ in lines_x), *(np.full(_EDGE_POINTS, y) for y in lines_y)])
    return xs, ys


def first_pixel(origin: float, step: float) -> tuple[int, float]:
    """Absolute index of an axis's first pixel, and by how much of a pixel the grid is shifted."""
    index = math.floor(origin / step + SNAP_PX)
    return index, round(origin / step - index, 6)


def clean_step(step: float) -> float:
    """A pixel size freed of the rounding of text: 0.000277777778 degrees is 1/3600.

    Examples
    --------
    >>> clean_step(0.000277777777778) == 1 / 3600, clean_step(-10.0)
    (True, -10.0)
    """
    inverse = 1 / step
    if abs(inverse) > 1 and abs(inverse - round(inverse)) < 1e-8 * abs(inverse):
        return 1 / round(inverse)
    return step
