"""Scenes and time steps: which scenes are seen at once, and which belong together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from xglof.cube.harmonise import Offset
from xglof.cube.items import asset_grid
from xglof.cube.products import Product


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
        """Date by the sun at the middle of the footprint: one pass over the day line is one date."""
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
        """Number of the orbit in its cycle as text; ``""`` where the item does not say."""
        return self.text("sat:relative_orbit")

    @property
    def passage(self) -> tuple[object, ...]:
        """What the radar scenes of one passage share, and no others: one view of the terrain."""
        if self.product.mosaic:
            return self.when, self.end
        # Sentinel-1 passes northwards in the evening and southwards in the morning
        direction = self.orbit_state or ("morning" if self._solar_time.hour < 12 else "evening")
        return self.solar_date, direction, self.relative_orbit

    def grid(self, band: str) -> Any | None:
        """GeoBox of the file of a band as its item states it; ``None`` where it does not."""
        return asset_grid(self.item, self.product.assets[band])

    def text(self, name: str) -> str:
        """A property as text, ``""`` where the item does not have it."""
        value = self.item.properties.get(name)
        return "" if value is None else str(value)

    @property
    def _solar_time(self) -> datetime:
        west, _, east, _ = self.footprint.bounds
        return self.when + timedelta(hours=(west + east) / 2 / 15)

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
    """One step a solar day; each scene keeps its own radiometric offset."""
    return _steps(scenes, lambda scene: scene.solar_date)


def s1_steps(scenes: Sequence[Scene]) -> list[Step]:
    """One step a passage: ascending and descending, or two relative orbits, are never fused."""
    return _steps(scenes, lambda scene: scene.passage)


def _steps(scenes: Sequence[Scene], together: Callable[[Scene], Any]) -> list[Step]:
    members: dict[Any, list[Scene]] = {}
    for scene in sorted(scenes, key=by_time):
        members.setdefault(together(scene), []).append(scene)
    return sorted(
        (Step(tuple(group)) for group in members.values()), key=lambda step: (step.when, step.scenes[0].id)
    )


def by_time(scene: Scene) -> tuple[datetime, str]:
    """Sorting key: earliest first, then by id."""
    return scene.when, scene.id
