"""Which items a cube is made of, what is refused and why, and which belong to one time step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from xglof.cube.harmonise import Offset, baseline_number, decide_offset
from xglof.cube.providers import Product, collections_of, recognise
from xglof.cube.sources import Archive, Period, asset_href
from xglof.errors import CatalogError


@dataclass(frozen=True, slots=True)
class Scene:
    """A STAC item that a cube may use.

    Attributes
    ----------
    id, item
        The pystac item and its id.
    when
        Acquisition, UTC.
    footprint
        Shapely geometry in degrees.
    offset
        Sentinel-2 only.
    """

    id: str
    item: Any
    when: datetime
    footprint: Any
    offset: Offset | None = None

    @property
    def solar_date(self) -> date:
        """Date by the sun at the middle of the footprint: one pass over the day line is one date."""
        west, _, east, _ = self.footprint.bounds
        return (self.when + timedelta(hours=(west + east) / 2 / 15)).date()

    @property
    def solar_elevation(self) -> float:
        """Height of the sun, degrees; NaN where the item does not say."""
        zenith = self._number("s2:mean_solar_zenith")
        return self._number("view:sun_elevation", 90.0 - zenith)

    @property
    def solar_azimuth(self) -> float:
        """Where the sun stands, degrees clockwise from north; NaN where the item does not say."""
        return self._number("view:sun_azimuth", self._number("s2:mean_solar_azimuth"))

    def text(self, name: str) -> str:
        """A property as text, ``""`` where the item does not have it."""
        value = self.item.properties.get(name)
        return "" if value is None else str(value)

    def _number(self, name: str, default: float = float("nan")) -> float:
        value = self.item.properties.get(name)
        return float(value) if isinstance(value, (int, float)) else default


@dataclass(frozen=True, slots=True)
class Step:
    """A time step of one sensor: groups of scenes that are read into one plane each."""

    groups: tuple[tuple[Scene, ...], ...]

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """All scenes, earliest first."""
        return tuple(sorted((s for group in self.groups for s in group), key=_by_time))

    @property
    def when(self) -> datetime:
        """Acquisition of the first scene, whole seconds, UTC."""
        return self.scenes[0].when.replace(microsecond=0)

    def joined(self, value: Callable[[Scene], str]) -> str:
        """The distinct texts of the scenes, in order of time, joined by commas."""
        return ",".join(dict.fromkeys(value(scene) for scene in self.scenes))


@dataclass(slots=True)
class Selection:
    """What was found, used and refused while a cube was put together (filled step by step)."""

    found: int = 0
    rejected: list[str] = field(default_factory=list)

    def reject(self, scene_id: str, reason: str) -> None:
        """Note a refused item."""
        self.rejected.append(f"{scene_id}: {reason}")


@dataclass(frozen=True, slots=True)
class Chosen:
    """The scenes of one modality and how its archive spells the bands."""

    product: Product
    scenes: tuple[Scene, ...]

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands that the items have, the optional scene classification included where it is there."""
        held = self.scenes[0].item.assets
        return tuple(band for band, asset in self.product.assets.items() if asset in held)


def choose(
    archive: Archive,
    modality: str,
    period: Period,
    area: Any | None,
    selection: Selection,
    max_cloud_cover: float | None = None,
) -> Chosen:
    """The usable scenes of one modality, earliest first.

    Parameters
    ----------
    archive
        Where to look.
    modality
        ``S2L2A``, ``S1RTC`` or ``DEM``.
    period
        Ignored for a modality without time.
    area
        Shapely geometry in degrees; ``None`` takes everything.
    selection
        Gets the numbers and the reasons.
    max_cloud_cover
        Percent; items that state no cloud cover pass.

    Raises
    ------
    CatalogError
        No item is left, a band is absent, or the offset of a Sentinel-2 item cannot be told.
    """
    collections = collections_of(modality, archive.provider)
    when = Period() if modality == "DEM" else period
    items = archive.find(collections, None if area is None else area.bounds, when)
    selection.found += len(items)
    already = len(selection.rejected)
    scenes = [scene for item in items if (scene := _usable(item, when, area, selection, max_cloud_cover))]
    if not scenes:
        raise CatalogError(_nothing(archive, modality, collections, when, selection.rejected[already:]))
    product = recognise(modality, (scene.item.assets for scene in scenes), archive.provider)
    if modality == "S2L2A":
        scenes = _newest_baselines([_with_offset(scene, product) for scene in scenes], selection)
    for scene in scenes:  # every path is checked before anything is built
        hrefs(scene, product, archive.root)
    return Chosen(product, tuple(sorted(scenes, key=_by_time)))


def hrefs(scene: Scene, product: Product, root: Path | str | None) -> dict[str, str]:
    """Canonical band name -> address of its file, for the bands that the scene has."""
    held = scene.item.assets
    return {
        band: asset_href(scene.item, asset, root) for band, asset in product.assets.items() if asset in held
    }


def s2_steps(scenes: Sequence[Scene]) -> list[Step]:
    """One step a solar day; scenes under different offsets are read apart."""
    return _steps(scenes, lambda s: (s.solar_date,), lambda s: s.offset.value if s.offset else 0)


def s1_steps(scenes: Sequence[Scene]) -> list[Step]:
    """One step a solar date and orbit direction: ascending and descending are never fused."""
    return _steps(scenes, lambda s: (s.solar_date, s.text("sat:orbit_state")), lambda s: 0)


def nearest(step: Step, others: Sequence[Step], max_gap_days: float) -> int | None:
    """Index of the step nearest in time within a gap, the earlier one of two equally near; or ``None``."""
    gaps = [(abs(other.when - step.when), other.when, index) for index, other in enumerate(others)]
    gap, _, index = min(gaps, default=(timedelta.max, step.when, -1))
    return index if gap <= timedelta(days=max_gap_days) else None


def _steps(
    scenes: Sequence[Scene], plane: Callable[[Scene], Any], group: Callable[[Scene], Any]
) -> list[Step]:
    planes: dict[Any, dict[Any, list[Scene]]] = {}
    for scene in sorted(scenes, key=_by_time):
        planes.setdefault(plane(scene), {}).setdefault(group(scene), []).append(scene)
    steps = [Step(tuple(tuple(group) for group in groups.values())) for groups in planes.values()]
    return sorted(steps, key=lambda step: (step.when, step.scenes[0].id))


def _usable(
    item: Any, period: Period, area: Any | None, selection: Selection, max_cloud_cover: float | None
) -> Scene | None:
    scene = Scene(item.id, item, _moment(item), _footprint(item))
    cover = item.properties.get("eo:cloud_cover")
    if not period.holds(scene.when):
        selection.reject(item.id, "outside the time")
    elif area is not None and not _overlaps(scene.footprint, area):
        selection.reject(item.id, "outside the area of interest")
    elif max_cloud_cover is not None and cover is not None and cover > max_cloud_cover:
        selection.reject(item.id, f"cloud cover {cover:g} % above {max_cloud_cover:g} %")
    else:
        return scene
    return None


def _overlaps(footprint: Any, area: Any) -> bool:
    return bool(footprint.intersects(area))


def _moment(item: Any) -> datetime:
    moment = item.datetime or item.common_metadata.start_datetime
    if moment is None:
        raise CatalogError(f"item {item.id} has neither datetime nor start_datetime; set one")
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)  # type: ignore[no-any-return]


def _footprint(item: Any) -> Any:
    from shapely.geometry import shape

    if item.geometry is None:
        raise CatalogError(f"item {item.id} has no geometry; set its footprint")
    return shape(item.geometry)


def _by_time(scene: Scene) -> tuple[datetime, str]:
    return scene.when, scene.id


def _with_offset(scene: Scene, product: Product) -> Scene:
    offset = decide_offset(scene.id, scene.item.properties, product.offset_flag)
    return Scene(scene.id, scene.item, scene.when, scene.footprint, offset)


def _newest_baselines(scenes: Iterable[Scene], selection: Selection) -> list[Scene]:
    """Of the scenes of one tile and moment, those of the highest baseline."""
    groups: dict[tuple[datetime, str], list[Scene]] = {}
    for scene in scenes:
        tile = scene.text("s2:mgrs_tile") or scene.text("grid:code").removeprefix("MGRS-")
        groups.setdefault((scene.when, tile or scene.id), []).append(scene)
    kept = []
    for group in groups.values():
        newest = max(_baseline(scene) for scene in group)
        for scene in group:
            if _baseline(scene) < newest:
                selection.reject(scene.id, "duplicate of a newer baseline")
            else:
                kept.append(scene)
    return kept


def _baseline(scene: Scene) -> float:
    return baseline_number(scene.id, scene.offset.baseline if scene.offset else "")


def _nothing(
    archive: Archive, modality: str, collections: Sequence[str], period: Period, rejected: Sequence[str]
) -> str:
    """What the message says when no item is left: how many were found, and why each was refused."""
    asked = f" in {period.interval}" if period.interval else ""
    reasons = Counter(text.rsplit(": ", 1)[1] for text in rejected)
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    return (
        f"{archive.name} has no usable {modality} item{asked}: {len(rejected)} found in "
        f"{', '.join(collections)}{f' ({why})' if why else ''}. Check the area and the time, or leave "
        f"{modality} out of modalities="
    )
