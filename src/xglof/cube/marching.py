"""Marching over a DEM block by block: how a grid lies on the ground, margins, and azimuths on the grid.

A kernel looks along one azimuth and answers for each pixel from the terrain within :data:`REACH_M` of it.
Every block is given that margin, and whatever depends on latitude is taken at absolute bands of it, so a
block's answer is the same however the grid is cut.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xglof.errors import CubeError

if TYPE_CHECKING:
    from odc.geo.crs import CRS
    from odc.geo.geobox import GeoBox

#: How far from a pixel the terrain counts, metres; the DEM is read with that margin.
REACH_M = 5000.0
#: Rows of a geographic grid within such a span of latitude, degrees, are as wide as the span's middle.
BAND_DEG = 0.05
#: Grid north is told from true north in such steps, degrees, so that neighbouring grids march alike.
CONVERGENCE_STEP_DEG = 0.5
_WGS84_RADIUS_M, _WGS84_E2 = 6378137.0, 6.69437999014e-3

#: ``(dem, azimuth, angle, pixel size along y and x in metres, margin_px) -> answer without the margin``
Kernel = Callable[[NDArray[np.float32], float, float, tuple[float, float], int], NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class GridOnGround:
    """How a grid lies on the ground: what marching over its DEM has to know.

    Attributes
    ----------
    resolution
        Signed pixel size along y and x: metres, or degrees where there is a ``latitude``.
    latitude
        Of the rows' centres, degrees, of a geographic grid; else ``None``.
    convergence
        True bearing of grid north at the grid's centre, degrees, in steps of half a degree; an azimuth from
        grid north is the true one less this.
    """

    resolution: tuple[float, float]
    latitude: NDArray[np.float64] | None = None
    convergence: float = 0.0

    @classmethod
    def of(cls, geobox: GeoBox) -> GridOnGround:
        """What a GeoBox says.

        Raises
        ------
        CubeError
            It has no CRS, or it is rotated.
        """
        transform = geobox.affine
        if geobox.crs is None or abs(transform.b) + abs(transform.d) > 1e-9 * abs(transform.a):
            raise CubeError("the grid is rotated or has no CRS; expected rows and columns along a CRS's axes")
        if geobox.crs.geographic:
            rows = transform.f + transform.e * (np.arange(geobox.shape[0]) + 0.5)
            return cls((transform.e, transform.a), rows)
        unit = geobox.crs.proj.axis_info[0].unit_conversion_factor
        return cls((transform.e * unit, transform.a * unit), None, _convergence(geobox, geobox.crs))

    def margin_px(self, distance_m: float = REACH_M) -> int:
        """Pixels that reach ``distance_m`` metres in every direction from every row."""
        return math.ceil(distance_m / self.finest_m - 1e-9)

    @property
    def finest_m(self) -> float:
        """The shortest side of any pixel, metres."""
        if self.latitude is None:
            return min(abs(size) for size in self.resolution)
        ends = [self.latitude[rows.start] for rows, _ in _latitude_bands(self.latitude)]
        return min(min(pixel_size_m(self.resolution, _band_middle(latitude))) for latitude in ends)


def _convergence(geobox: GeoBox, crs: CRS) -> float:
    """True bearing of grid north at the centre of a projected grid, degrees, 0 where it is not defined."""
    import pyproj

    centre = geobox.extent.centroid.to_crs("EPSG:4326").coords[0]
    bearing = pyproj.Proj(crs.proj).get_factors(*centre).meridian_convergence
    if not math.isfinite(bearing):
        return 0.0
    return round(bearing / CONVERGENCE_STEP_DEG) * CONVERGENCE_STEP_DEG


def pixel_size_m(resolution_deg: tuple[float, float], latitude: float) -> tuple[float, float]:
    """Metres that a pixel of a geographic grid takes along y and x (WGS 84's radii of curvature).

    Examples
    --------
    >>> [round(size, 1) for size in pixel_size_m((-1 / 3600, 1 / 3600), 60.0)]
    [30.9, 15.5]
    """
    squared = math.sin(math.radians(latitude)) ** 2
    across = _WGS84_RADIUS_M / math.sqrt(1 - _WGS84_E2 * squared)
    along = across * (1 - _WGS84_E2) / (1 - _WGS84_E2 * squared)
    parallel = across * math.cos(math.radians(latitude))
    return tuple(  # type: ignore[return-value]
        abs(math.radians(size)) * radius
        for size, radius in zip(resolution_deg, (along, parallel), strict=True)
    )


def _band_index(latitude: Any) -> Any:
    return np.floor(np.asarray(latitude) / BAND_DEG + 1e-6).astype(int)


def _band_middle(latitude: float) -> float:
    return float((_band_index(latitude) + 0.5) * BAND_DEG)


def _latitude_bands(latitude: NDArray[np.float64]) -> Iterator[tuple[slice, float]]:
    """Runs of rows within one absolute band of latitude, with the band's middle."""
    index = _band_index(latitude)
    edges = [0, *(np.flatnonzero(np.diff(index)) + 1).tolist(), len(index)]
    for start, stop in itertools.pairwise(edges):
        yield slice(start, stop), _band_middle(float(latitude[start]))


def march_blocks(
    kernel: Kernel,
    dem: Any,
    margin_px: int,
    angles: tuple[Sequence[float], Sequence[float]],
    chunks: tuple[tuple[int, ...], ...],
    ground: GridOnGround,
    *,
    fill: bool | int,
) -> Any:
    """A kernel over every block of a DEM and every pair of angles, lazily.

    Steps with the same pair share their tasks.

    Parameters
    ----------
    kernel
        Looks along an azimuth no farther than :data:`REACH_M`.
    dem, margin_px, chunks
        As :func:`~xglof.cube.shadow.terrain_shadow` takes them.
    angles
        True azimuth, and the kernel's other angle, per step, degrees.
    ground
        The grid, without the margin.
    fill
        The answer of a step whose angles are NaN; its type is the result's.

    Returns
    -------
    dask.array.Array
        ``(time, y, x)`` bool or uint8.
    """
    import dask.array as da

    if margin_px * ground.finest_m < REACH_M * (1 - 1e-9):
        raise CubeError(
            f"the DEM reaches {margin_px} px ({margin_px * ground.finest_m:.0f} m) beyond the grid; expected "
            f"{REACH_M:g} m: read it with GridOnGround.margin_px"
        )
    times, rows, columns = chunks
    halo = _with_halo(dem, margin_px, rows, columns)
    pairs = [tuple(map(float, pair)) for pair in zip(*angles, strict=True)]
    keys = [tuple(None if math.isnan(value) else value for value in pair) for pair in pairs]
    unique = list(dict.fromkeys(keys))
    values = np.array(unique, dtype=float).reshape(-1, 2, 1, 1)  # None becomes NaN
    latitude = np.full(sum(rows), np.nan) if ground.latitude is None else np.asarray(ground.latitude)
    dtype = np.dtype(bool if isinstance(fill, bool) else np.uint8)
    planes = da.map_blocks(
        _march_block,
        halo[None],
        da.from_array(values[:, 0], chunks=(1, 1, 1)),
        da.from_array(values[:, 1], chunks=(1, 1, 1)),
        da.from_array(latitude[None, :, None], chunks=(1, rows, 1)),
        kernel=kernel,
        margin_px=margin_px,
        ground=(ground.resolution, ground.convergence),
        fill=fill,
        dtype=dtype,
        chunks=((1,) * len(unique), rows, columns),
        meta=np.empty((0, 0, 0), dtype=dtype),
    )
    if len(unique) < len(keys):
        planes = da.concatenate([planes[place : place + 1] for place in map(unique.index, keys)])
    return planes.rechunk({0: times})


def _with_halo(dem: Any, margin_px: int, rows: Sequence[int], columns: Sequence[int]) -> Any:
    """Blocks of the grid, each with its margin, as one array of overlapping blocks."""
    import dask.array as da

    return da.block(
        [
            [
                dem[y : y + height + 2 * margin_px, x : x + width + 2 * margin_px].rechunk(-1)
                for x, width in zip(_starts(columns), columns, strict=True)
            ]
            for y, height in zip(_starts(rows), rows, strict=True)
        ]
    )


def _starts(sizes: Sequence[int]) -> list[int]:
    return [sum(sizes[:index]) for index in range(len(sizes))]


def _march_block(
    dem: NDArray[np.float32],
    azimuth: NDArray[np.float64],
    angle: NDArray[np.float64],
    latitude: NDArray[np.float64],
    *,
    kernel: Kernel,
    margin_px: int,
    ground: tuple[tuple[float, float], float],
    fill: bool | int,
) -> NDArray[Any]:
    (down, across), convergence = ground
    shape = tuple(size - 2 * margin_px for size in dem.shape[1:])
    answer = np.full((1, *shape), fill, dtype=bool if isinstance(fill, bool) else np.uint8)
    if not (np.isfinite(azimuth).all() and np.isfinite(angle).all()):
        return answer
    towards = float(azimuth.item()) - convergence
    if down > 0:  # south-up: the picture is mirrored north to south
        towards = 180.0 - towards
    if across < 0:
        towards = -towards
    bands: list[tuple[slice, tuple[float, float]]] = [(slice(0, shape[0]), (abs(down), abs(across)))]
    if np.isfinite(latitude).all():
        by_band = _latitude_bands(latitude[0, :, 0])
        bands = [(rows, pixel_size_m((down, across), middle)) for rows, middle in by_band]
    for rows, size in bands:
        slab = dem[0, rows.start : rows.stop + 2 * margin_px]
        answer[0, rows] = kernel(slab, towards, float(angle.item()), size, margin_px)
    return answer
