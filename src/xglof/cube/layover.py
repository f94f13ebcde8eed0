"""Radar layover and shadow from the DEM and the geometry of the orbit.

The wavefront is a plane that comes down at one incidence over the grid. In a vertical plane along the look
direction a point at ground distance ``s`` and height ``z`` has the slant range ``s sin(i) - z cos(i)``.
Points that share their slant range with another are laid over, actively (the slope faces the radar and is
steeper than ``i``) or passively (they lie before or behind such a slope); points that the terrain hides from
the radar are in shadow. This is the geometry of Kropatsch and Strobl (1990, IEEE Trans. Geosci. Remote Sens.
28, 98) and of Small (2011, same, 49, 3081), marched pixel by pixel instead of mapped to slant range.

Three marches of :func:`~xglof.cube.shadow.cast_shadow` answer it: a point is laid over where terrain behind
it rises above the wavefront through it, or where terrain before it falls below that wavefront, and shadow is
the shadow of a sun in the radar's place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xglof.cube.marching import REACH_M, GridOnGround, march_blocks
from xglof.cube.shadow import cast_shadow
from xglof.errors import CubeError

#: Codes of a layover mask, those of :data:`xglof.bands.S1_MASK` and of OPERA RTC-S1.
CLEAR, SHADOW, LAYOVER, BOTH, UNKNOWN = 0, 1, 2, 3, 255
#: Incidence at the near and the far edge of Sentinel-1's IW swath, degrees, over all orbit altitudes
#: (ESA, Sentinel-1 SAR User Guide, Interferometric Wide Swath).
IW_INCIDENCE_DEG = (29.1, 46.0)
#: Widths across the look direction that a whole IW scene (250 km) may have, metres.
IW_WIDTH_M = (220e3, 290e3)
#: Angles of the radar are given in such steps, degrees: less than what they are good for.
ANGLE_STEP_DEG = 0.5

_INCLINATION_DEG = 98.18  # Sentinel-1's orbit
_ORBITS, _DAYS = 175, 12  # its repeat cycle, which gives the period
_EARTH_TURN = 7.292115e-5  # radians a second
_EARTH_M, _ORBIT_M = 6371.0e3, 7071.0e3  # radii; 700 km of altitude is within 15 km of any on the orbit


def layover_and_shadow(
    dem: Any,
    margin_px: int,
    resolution: tuple[float, float],
    look_azimuth: Sequence[float],
    incidence: Sequence[float],
    chunks: tuple[tuple[int, ...], ...],
    *,
    latitude: NDArray[np.float64] | None = None,
    convergence: float = 0.0,
) -> Any:
    """Layover and shadow of the radar at every time step, lazily.

    Shadowed terrain still lays over other terrain here, as in Kropatsch and Strobl: the layover is, if
    anything, too wide. Terrain farther than 5 km from a pixel does not count.

    Parameters
    ----------
    dem, margin_px, resolution, chunks, latitude, convergence
        As :func:`~xglof.cube.shadow.terrain_shadow` takes them.
    look_azimuth
        Where the radar looks, per step, degrees clockwise from true north (:func:`radar_geometry`).
    incidence
        Angle between the wave's direction and the vertical over level ground, per step, degrees.
        NaN in either leaves the step unknown.

    Returns
    -------
    dask.array.Array
        ``(time, y, x)`` uint8: 0 clear, 1 shadow, 2 layover, 3 both, 255 unknown (the DEM is NaN, or no
        geometry). A task looks at one block and its margin; steps of one geometry share their tasks.

    Raises
    ------
    CubeError
        An incidence is not between 0 and 90 degrees, or the margin is shorter than 5 km.

    Examples
    --------
    A wall seen from the west under 45 degrees covers what is before it and hides what is behind it:

    >>> import dask.array as da
    >>> wall = np.zeros((1, 16), "float32"); wall[0, 8] = 1500.0
    >>> dem = da.from_array(np.pad(wall, 5, mode="edge"))
    >>> layover_and_shadow(dem, 5, (-1000.0, 1000.0), [90.0], [45.0], ((1,), (1,), (16,))).compute()[0, 0]
    array([0, 0, 0, 0, 0, 0, 0, 2, 2, 1, 0, 0, 0, 0, 0, 0], dtype=uint8)
    """
    if wrong := [angle for angle in incidence if not math.isnan(angle) and not 0 < angle < 90]:
        raise CubeError(
            f"the incidence angle {wrong[0]:g} cannot be; expected degrees between 0 and 90, or NaN"
        )
    ground = GridOnGround(resolution, latitude, convergence)
    return march_blocks(
        layover_codes, dem, margin_px, (look_azimuth, incidence), chunks, ground, fill=UNKNOWN
    )


def layover_codes(
    dem: NDArray[np.float32],
    look_azimuth: float,
    incidence: float,
    resolution: tuple[float, float],
    margin_px: int = 0,
) -> NDArray[np.uint8]:
    """Layover and shadow of one look, in memory.

    Parameters
    ----------
    dem
        ``(y, x)`` floating point, metres, nodata NaN; north up.
    look_azimuth, incidence
        Degrees; the azimuth from grid north.
    resolution
        Pixel size along y and x, metres.
    margin_px
        Pixels along each edge that count but are left out of the answer.

    Returns
    -------
    numpy.ndarray
        ``(y - 2 margin, x - 2 margin)`` uint8: 0 clear, 1 shadow, 2 layover, 3 both, 255 on a DEM of NaN.
    """

    def rises(ground: NDArray[np.float32], towards: float, angle: float) -> NDArray[np.bool_]:
        return cast_shadow(
            ground,
            azimuth=towards,
            elevation=angle,
            resolution=resolution,
            max_distance_m=REACH_M,
            margin_px=margin_px,
        )

    behind = rises(dem, look_azimuth, incidence)
    # a fall before the point is a rise of the ground turned upside down
    before = rises(-dem, look_azimuth + 180.0, incidence)
    hidden = rises(dem, look_azimuth + 180.0, 90.0 - incidence)
    codes = np.where(behind | before, LAYOVER, 0) + np.where(hidden, SHADOW, 0)
    inner = tuple(slice(margin_px, size - margin_px) for size in dem.shape)
    return np.where(np.isnan(dem[inner]), UNKNOWN, codes).astype(np.uint8)


def radar_geometry(
    orbit_state: str | None, incidence: float | None, footprint: Any | None, point: tuple[float, float]
) -> tuple[float, float]:
    """Look azimuth and incidence of Sentinel-1 at a point, from what a STAC item says.

    The look azimuth follows from the orbit (right-looking, inclination 98.18 degrees, 175 orbits in 12 days,
    beam at right angles to the track over the turning Earth). The incidence is the stated one, carried from
    the footprint's middle to the point along the look direction; where none is stated, the middle of a
    footprint as wide as the IW swath is taken to be that of the swath. On a sphere, at 700 km: within 1
    degree of azimuth up to 70 degrees of latitude, within 0.5 degree of incidence where it is stated and 2
    degrees where not.

    Parameters
    ----------
    orbit_state
        ``"ascending"`` or ``"descending"`` (``sat:orbit_state``); anything else is unknown.
    incidence
        ``view:incidence_angle`` of the item, degrees, at the middle of its footprint; ``None`` or NaN: not
        stated.
    footprint
        The item's geometry, longitude and latitude: a GeoJSON mapping, or an object with
        ``__geo_interface__``. ``None``: unknown. A bounding box is no footprint of a swath.
    point
        Longitude and latitude, degrees.

    Returns
    -------
    tuple of float
        Look azimuth, degrees clockwise from true north, and incidence, degrees, in steps of half a degree;
        both NaN where either cannot be known: no orbit state, nothing stated and no footprint of a whole
        swath, a point outside the footprint, a latitude that the swath of this side never covers.

    Examples
    --------
    >>> radar_geometry("ascending", 38.0, None, (86.9, 27.9))
    (79.5, 38.0)
    >>> radar_geometry("descending", None, None, (86.9, 27.9))
    (nan, nan)
    """
    unknown = (math.nan, math.nan)
    stated = None if incidence is None or math.isnan(incidence) else _ground_angle(incidence)
    if orbit_state not in ("ascending", "descending") or (stated is None and footprint is None):
        return unknown
    middle = _IW_MIDDLE if stated is None else stated
    look, angle = _look_azimuth(orbit_state, point[1], middle), middle
    if footprint is not None:
        near, far = _chord(footprint, point, look)
        if not near <= 0 <= far:
            return unknown
        if stated is None and not IW_WIDTH_M[0] <= far - near <= IW_WIDTH_M[1]:
            return unknown
        angle = middle - 0.5 * (near + far) / _EARTH_M
        look = _look_azimuth(orbit_state, point[1], angle)
    seen = _incidence(angle)
    if not (math.isfinite(look) and 0 < seen < 90):
        return unknown
    return _in_steps(look) % 360.0, _in_steps(seen)


def _in_steps(angle: float) -> float:
    return round(angle / ANGLE_STEP_DEG) * ANGLE_STEP_DEG


def _ground_angle(incidence: float) -> float:
    """Angle at the Earth's centre between the point below the satellite and where it looks, radians."""
    seen = math.radians(incidence)
    return seen - math.asin(_EARTH_M / _ORBIT_M * math.sin(seen))


def _incidence(ground_angle: float) -> float:
    """Inverse of :func:`_ground_angle`, degrees."""
    return math.degrees(math.atan2(math.sin(ground_angle), math.cos(ground_angle) - _EARTH_M / _ORBIT_M))


_IW_MIDDLE = sum(map(_ground_angle, IW_INCIDENCE_DEG)) / 2


def _look_azimuth(orbit_state: str, latitude: float, ground_angle: float) -> float:
    """Azimuth of the look at a place seen under a ground angle, degrees; NaN where no orbit sees it so."""
    goal = math.radians(latitude)
    below = goal  # latitude of the point below the satellite, found by iteration
    for _ in range(60):
        across = _heading(orbit_state, below) + math.pi / 2
        reached = math.asin(
            math.sin(below) * math.cos(ground_angle)
            + math.cos(below) * math.sin(ground_angle) * math.cos(across)
        )
        if not math.isfinite(reached) or abs(below) > math.pi / 2:
            return math.nan
        if abs(goal - reached) < 1e-9:
            east = math.sin(across) * math.cos(below)
            north = math.cos(ground_angle) * math.cos(below) * math.cos(across) - math.sin(
                ground_angle
            ) * math.sin(below)
            return math.degrees(math.atan2(east, north))
        below += goal - reached
    return math.nan


def _heading(orbit_state: str, latitude: float) -> float:
    """Heading of the track over the turning Earth, radians clockwise from north."""
    sine = math.cos(math.radians(_INCLINATION_DEG)) / math.cos(latitude)
    if abs(sine) > 1:
        return math.nan
    rate = 2 * math.pi * _ORBITS / (_DAYS * 86400.0)
    east = rate * sine - _EARTH_TURN * math.cos(latitude)
    north = rate * math.sqrt(1 - sine * sine) * (1 if orbit_state == "ascending" else -1)
    return math.atan2(east, north)


def _chord(footprint: Any, point: tuple[float, float], look: float) -> tuple[float, float]:
    """Where the line through a point along the look leaves a footprint, metres before and behind it.

    NaN where the point is not inside.
    """
    east, north = math.sin(math.radians(look)), math.cos(math.radians(look))
    crossings: list[float] = []
    for ring in _rings(footprint):
        x, y = _around(ring, point)
        along, aside = x * east + y * north, x * north - y * east
        for a, b in zip(range(len(along) - 1), range(1, len(along)), strict=True):
            if (aside[a] > 0) != (aside[b] > 0):
                share = aside[a] / (aside[a] - aside[b])
                crossings.append(float(along[a] + share * (along[b] - along[a])))
    before = [where for where in crossings if where <= 0]
    behind = [where for where in crossings if where > 0]
    if len(before) % 2 == 0 or len(behind) % 2 == 0:
        return math.nan, math.nan
    return min(before), max(behind)


def _rings(footprint: Any) -> Iterator[NDArray[np.float64]]:
    """Rings of a polygon or of several, ``(n, 2)`` longitude and latitude, degrees."""
    geometry = footprint if isinstance(footprint, Mapping) else getattr(footprint, "__geo_interface__", {})
    kind, parts = geometry.get("type"), geometry.get("coordinates", [])
    if kind not in ("Polygon", "MultiPolygon"):
        raise CubeError(f"the footprint is a {kind or type(footprint).__name__}; expected a GeoJSON polygon")
    for polygon in [parts] if kind == "Polygon" else parts:
        for ring in polygon:
            yield np.asarray([corner[:2] for corner in ring], dtype=float)


def _around(ring: NDArray[np.float64], point: tuple[float, float]) -> tuple[Any, Any]:
    """Metres east and north of a point on the azimuthal equidistant map around it."""
    longitude, latitude = np.radians(ring).T
    east, here = np.radians(point)
    turn = longitude - east
    cosine = np.sin(here) * np.sin(latitude) + np.cos(here) * np.cos(latitude) * np.cos(turn)
    angle = np.arccos(np.clip(cosine, -1, 1))
    stretch = np.where(angle > 1e-12, angle / np.maximum(np.sin(angle), 1e-12), 1.0) * _EARTH_M
    x = np.cos(latitude) * np.sin(turn)
    y = np.cos(here) * np.sin(latitude) - np.sin(here) * np.cos(latitude) * np.cos(turn)
    return stretch * x, stretch * y
