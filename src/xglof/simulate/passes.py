"""Overpasses of a simulated scene: when, with the sun or the radar where, and which processing baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

import numpy as np

#: Sentinel-2 products made from this day on carry the radiometric offset of baseline 04.00.
_BASELINE_04 = date(2022, 1, 25)


@dataclass(frozen=True, slots=True)
class OpticalPass:
    """One Sentinel-2 observation.

    Attributes
    ----------
    time
        UTC, whole seconds.
    sun_azimuth, sun_elevation
        Degrees, clockwise from north and above the horizon.
    baseline
        Processing baseline; from ``04.00`` on the numbers carry an offset of 1000.
    cloud_cover
        Share of the sky that is clouded, 0 to 1, as drawn (the scene says what came of it).
    winter
        Lakes are frozen.
    wedge
        The swath's edge crosses the scene: a corner holds no data.
    """

    time: datetime
    sun_azimuth: float
    sun_elevation: float
    baseline: str
    cloud_cover: float
    winter: bool
    wedge: bool

    @property
    def offset(self) -> int:
        """What the product adds to reflectance x 10,000: 0 or 1000, by the baseline alone."""
        return 1000 if float(self.baseline) >= 4 else 0


@dataclass(frozen=True, slots=True)
class RadarPass:
    """One Sentinel-1 observation.

    Attributes
    ----------
    time
        UTC, whole seconds.
    orbit_state, relative_orbit
        As in the STAC satellite extension.
    look_azimuth, incidence
        Direction in which the radar looks, degrees clockwise from north, and incidence angle, degrees.
    wind
        0 calm to 1 rough.
    optical
        Index of the Sentinel-2 observation that it goes with.
    """

    time: datetime
    orbit_state: Literal["ascending", "descending"]
    relative_orbit: int
    look_azimuth: float
    incidence: float
    wind: float
    optical: int


def sun_position(time: datetime, longitude: float, latitude: float) -> tuple[float, float]:
    """Azimuth and elevation of the sun, degrees.

    Declination and equation of time by the Fourier series of Spencer (1971, Search 2, 172), which are
    good to about 0.05 degrees; refraction is left out.

    Parameters
    ----------
    time
        With its time zone.
    longitude, latitude
        Degrees east and north.

    Returns
    -------
    tuple of float
        Azimuth clockwise from north in [0, 360), and elevation above the horizon.
    """
    utc = time.astimezone(UTC)
    hours = utc.hour + utc.minute / 60 + utc.second / 3600
    angle = 2 * math.pi * (utc.timetuple().tm_yday - 1 + (hours - 12) / 24) / 365
    declination = (
        0.006918
        - 0.399912 * math.cos(angle)
        + 0.070257 * math.sin(angle)
        - 0.006758 * math.cos(2 * angle)
        + 0.000907 * math.sin(2 * angle)
        - 0.002697 * math.cos(3 * angle)
        + 0.00148 * math.sin(3 * angle)
    )
    minutes = 229.18 * (
        0.000075
        + 0.001868 * math.cos(angle)
        - 0.032077 * math.sin(angle)
        - 0.014615 * math.cos(2 * angle)
        - 0.040849 * math.sin(2 * angle)
    )
    hour_angle = math.radians(15 * (hours + longitude / 15 + minutes / 60 - 12))
    phi = math.radians(latitude)
    east = -math.cos(declination) * math.sin(hour_angle)
    north = math.sin(declination) * math.cos(phi) - math.cos(declination) * math.cos(hour_angle) * math.sin(
        phi
    )
    up = math.sin(declination) * math.sin(phi) + math.cos(declination) * math.cos(hour_angle) * math.cos(phi)
    azimuth = math.degrees(math.atan2(east, north)) % 360
    return azimuth, math.degrees(math.asin(max(-1.0, min(1.0, up))))


def year_phase(day: date | datetime, latitude: float) -> float:
    """Angle of the season in radians: 0 at the end of the melt season, pi in deep winter."""
    warmest = 235 if latitude >= 0 else 235 - 182
    return 2 * math.pi * (day.timetuple().tm_yday - warmest) / 365.25


def default_days(rng: np.random.Generator, latitude: float) -> list[date]:
    """Twelve days over 2019 to 2023: ten between June and October, two in winter (south: shifted)."""
    plan = [(2019, 7), (2019, 9), (2020, 2), (2020, 7), (2020, 9), (2021, 6), (2021, 8), (2021, 10)]
    plan += [(2022, 8), (2023, 1), (2023, 7), (2023, 9)]
    days = [date(year, month, 1) + timedelta(days=int(rng.integers(2, 27))) for year, month in plan]
    return days if latitude >= 0 else [day - timedelta(days=182) for day in days]


def optical_passes(
    rng: np.random.Generator, days: Sequence[date], longitude: float, latitude: float, cloudiness: float
) -> tuple[OpticalPass, ...]:
    """Sentinel-2 observations near 10:30 local time on ``days``, in order of time."""
    early = [i for i, day in enumerate(days) if day < _BASELINE_04]
    again = early[len(early) // 2] if early else -1  # an old scene that was processed anew
    wedge = int(rng.integers(len(days)))
    clear = rng.random(len(days)) < 0.45
    cover = np.where(clear, 0.0, cloudiness * rng.beta(1.1, 2.2, len(days)))
    cover = np.minimum(cover * 0.9, 0.4)
    passes = []
    for index, day in enumerate(days):
        noon = datetime(day.year, day.month, day.day, 10, 30, tzinfo=UTC)
        time = noon - timedelta(seconds=round(longitude / 15 * 3600) + int(rng.integers(-600, 600)))
        azimuth, elevation = sun_position(time, longitude, latitude)
        passes.append(
            OpticalPass(
                time=time,
                sun_azimuth=azimuth,
                sun_elevation=elevation,
                baseline="05.00" if index == again else _baseline(day),
                cloud_cover=float(cover[index]),
                winter=math.cos(year_phase(day, latitude)) < -0.45,
                wedge=index == wedge and len(days) > 1,
            )
        )
    return tuple(passes)


def _baseline(day: date) -> str:
    if day < _BASELINE_04:
        return "03.01" if day >= date(2021, 6, 30) else "02.12"
    return "05.09" if day >= date(2022, 12, 6) else "04.00"


def radar_passes(
    rng: np.random.Generator, optical: Sequence[OpticalPass], longitude: float, events: Sequence[date] = ()
) -> tuple[RadarPass, ...]:
    """Sentinel-1 observations within five days of the optical ones, all but one; orbits alternate.

    A pass shows what its optical pass shows, so none lies on the other side of one of ``events``.
    """
    without = int(rng.integers(1, len(optical))) if len(optical) > 1 else -1
    incidence = {"ascending": rng.uniform(33, 43), "descending": rng.uniform(33, 43)}
    passes = []
    for index, view in enumerate(optical):
        gap, minute = int(rng.integers(-5, 6)), int(rng.integers(0, 25))
        wind = float(rng.beta(0.7, 1.6))
        if index == without:
            continue
        state: Literal["ascending", "descending"] = "ascending" if index % 2 == 0 else "descending"
        hour = 18 if state == "ascending" else 6
        local = datetime(view.time.year, view.time.month, view.time.day, hour, minute, tzinfo=UTC)
        local -= timedelta(seconds=round(longitude / 15 * 3600))
        passes.append(
            RadarPass(
                time=_same_side(local + timedelta(days=gap), local, view.time, events),
                orbit_state=state,
                relative_orbit=85 if state == "ascending" else 19,
                look_azimuth=78.0 if state == "ascending" else 282.0,
                incidence=float(incidence[state]),
                wind=wind,
                optical=index,
            )
        )
    return tuple(sorted(passes, key=lambda item: item.time))


def _same_side(time: datetime, nearest: datetime, optical: datetime, events: Sequence[date]) -> datetime:
    """``time``, or a day from ``nearest`` on the optical side of an event that would lie between."""
    for event in events:
        after = optical.date() >= event
        if (time.date() >= event) != after:
            return nearest + timedelta(days=1 if after else -1)
    return time
