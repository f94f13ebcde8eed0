"""Scenes and time steps: which scenes are seen at once, and which belong together."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from xglof.cube.harmonise import Offset
from xglof.cube.items import asset_grid
from xglof.cube.products import Product

#: Scenes of one track that follow each other as closely are of one passage; the next passage over a place
#: comes an orbit of 99 minutes later.
_PASSAGE = timedelta(minutes=15)
_HALF_A_DAY = timedelta(hours=12)
#: Relative orbit in the name of a Sentinel-2 product.
_NAMED_ORBIT = re.compile(r"(?:^|_)R(\d{3})(?:_|$)")
_PRODUCT_NAMES = ("s2:product_uri", "s2:datatake_id", "sentinel:product_id")


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A STAC item that a cube may use.

    Attributes
    ----------
    id, item
        The pystac item, repaired, and its id.
    when, end
        Acquisition, UTC; for a mosaic the first and last moment of its period. Else they are equal.
    footprint
        Shapely geometry in degrees.
    product
        What its archive calls the bands, and how the files hold their numbers.
    offset
        Sentinel-2 only.
    repairs
        What was put right in the item, as :func:`xglof.cube.items.repair` says it.
    """

    id: str
    item: Any
    when: datetime
    end: datetime
    footprint: Any
    product: Product
    offset: Offset | None = None
    repairs: tuple[str, ...] = ()

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands and layers that the item has, in the order of its product."""
        held = self.item.assets
        return tuple(band for band, asset in self.product.assets.items() if asset in held)

    @property
    def solar_date(self) -> date:
        """Date by the sun at the middle of the footprint; it differs on either side of the date line."""
        return self._solar_time.date()

    @property
    def solar_elevation(self) -> float:
        """Height of the sun, degrees; NaN where the item does not say."""
        zenith = self._number("s2:mean_solar_zenith")
        return self._number("view:sun_elevation", 90.0 - zenith)

    @property
    def solar_azimuth(self) -> float:
        """Where the sun stands, degrees clockwise from north; NaN where the item does not say."""
        return self._number("view:sun_azimuth", self._number("s2:mean_solar_azimuth"))

    @property
    def orbit_state(self) -> str:
        """``"ascending"`` or ``"descending"``; ``""`` where the item does not say."""
        return self.text("sat:orbit_state").lower()

    @property
    def relative_orbit(self) -> str:
        """Number of the orbit in its cycle as text; ``""`` where neither the item nor its names say."""
        stated = self.text("sat:relative_orbit")
        if stated or self.product.modality != "S2L2A":
            return stated
        names = (self.id, *map(self.text, _PRODUCT_NAMES))
        found = next((match for name in names if (match := _NAMED_ORBIT.search(name))), None)
        return str(int(found[1])) if found else ""

    @property
    def radar_direction(self) -> str:
        """Orbit state of a radar scene, else the time of its day; ``""`` for other sensors and mosaics."""
        if self.product.units is None or self.product.mosaic:
            return ""
        # Sentinel-1 passes northwards in the evening and southwards in the morning
        return self.orbit_state or ("morning" if self._solar_time.hour < 12 else "evening")

    def grid(self, band: str) -> Any | None:
        """GeoBox of the file of a band as its item states it; ``None`` where it does not."""
        return asset_grid(self.item, self.product.assets[band])

    def text(self, name: str) -> str:
        """A property as text, ``""`` where the item does not have it."""
        value = self.item.properties.get(name)
        return "" if value is None else str(value)

    @property
    def _solar_time(self) -> datetime:
        return self.when + timedelta(hours=_middle_longitude(self.footprint) / 15)

    def _number(self, name: str, default: float = float("nan")) -> float:
        value = self.item.properties.get(name)
        return float(value) if isinstance(value, (int, float)) else default


@dataclass(frozen=True, slots=True)
class Step:
    """A time step of one sensor: scenes that make up one plane, earliest first."""

    scenes: tuple[Scene, ...]

    @property
    def when(self) -> datetime:
        """Acquisition of the first scene, whole seconds, UTC."""
        return self.scenes[0].when.replace(microsecond=0)

    @property
    def end(self) -> datetime:
        """Last moment of the last scene, whole seconds, UTC; later than ``when`` for a mosaic's period."""
        return max(scene.end for scene in self.scenes).replace(microsecond=0)

    def joined(self, value: Callable[[Scene], str]) -> str:
        """The distinct texts of the scenes, in order of time, joined by commas."""
        return ",".join(dict.fromkeys(value(scene) for scene in self.scenes))


def s2_steps(scenes: Sequence[Scene]) -> list[Step]:
    """One step a solar day and relative orbit; each scene keeps its own radiometric offset.

    Two orbits see a place north of about 55 degrees on one day, under suns of their own. A passage over the
    date line is one step, with the date of its first scene. Without a stated orbit a solar day is one step.
    """
    return _steps(scenes)


def s1_steps(scenes: Sequence[Scene]) -> list[Step]:
    """One step a passage: ascending and descending, or two relative orbits, are never fused."""
    return _steps(scenes)


def _steps(scenes: Sequence[Scene]) -> list[Step]:
    groups: list[list[Scene]] = []
    recent: list[list[Scene]] = []
    for scene in sorted(scenes, key=by_time):
        recent = [group for group in recent if scene.when - group[-1].when < _HALF_A_DAY]
        own = next((group for group in reversed(recent) if _belongs(scene, group)), None)
        if own is None:
            own = []
            groups.append(own)
            recent.append(own)
        own.append(scene)
    return [Step(tuple(group)) for group in groups]


def _belongs(scene: Scene, group: Sequence[Scene]) -> bool:
    """Whether a scene is of the step of earlier ones: of their passage, or of their orbit and solar day."""
    first, last = group[0], group[-1]
    if scene.product.mosaic:
        return (first.when, first.end) == (scene.when, scene.end)
    orbits = {other.relative_orbit for other in (*group, scene)} - {""}
    if len(orbits) > 1 or first.radar_direction != scene.radar_direction:
        return False
    return scene.when - last.when <= _PASSAGE or first.solar_date == scene.solar_date


def _middle_longitude(footprint: Any) -> float:
    """Longitude halfway between the edges of a footprint, degrees, also of one over the date line."""
    import shapely

    west, _, east, _ = footprint.bounds
    if west < 0 and east - west > 180:  # no scene is as wide: its parts lie at both ends of the map
        longitudes = shapely.get_coordinates(footprint)[:, 0]
        west, east = longitudes[longitudes >= 0].min(), longitudes[longitudes < 0].max() + 360
    middle = float(west + east) / 2
    return middle - 360 if middle > 180 else middle


def by_time(scene: Scene) -> tuple[datetime, str]:
    """Sorting key: earliest first, then by id."""
    return scene.when, scene.id
