"""Which items a cube is made of, and what is refused and why."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np

from xglof.bands import MODALITIES
from xglof.cube.duplicates import newest
from xglof.cube.harmonise import decide_offset, stated_offset
from xglof.cube.items import repair
from xglof.cube.providers import Product, Provider, candidates, check_whole, collections_of, product_of
from xglof.cube.sources import Archive, Period, asset_href
from xglof.cube.steps import Scene, by_time
from xglof.errors import CatalogError, CubeError

Orbit = Literal["ascending", "descending"] | int

_ORBITS = 175  # of Sentinel-1 in a cycle of 12 days
_INSTANT = timedelta(microseconds=1)
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Selection:
    """What was found, used, repaired and refused while a cube was put together (filled step by step)."""

    found: int = 0
    rejected: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)

    @property
    def repairs(self) -> Counter[str]:
        """How often each repair was made."""
        return Counter(text.partition(": ")[2] for text in self.repaired)

    def reject(self, scene_id: str, reason: str) -> None:
        """Note a refused item."""
        self.rejected.append(f"{scene_id}: {reason}")

    def note_repairs(self, scene: Scene) -> None:
        """Note and log what was put right in an item that is used."""
        for text in scene.repairs:
            self.repaired.append(f"{scene.id}: {text}")
            _log.info("item %s: %s", scene.id, text)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The scenes of one modality, earliest first; each has its own product."""

    modality: str
    scenes: tuple[Scene, ...]

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands that some of the items have: those of the modality in all, ``SCL`` in all or none, layers."""
        held = {band for scene in self.scenes for band in scene.bands}
        ordered = dict.fromkeys(band for scene in self.scenes for band in scene.product.assets)
        return tuple(band for band in ordered if band in held)

    @property
    def product(self) -> Product:
        """That of the first scene: dtype, nodata, units, calibration and ``mosaic`` are those of all."""
        return self.scenes[0].product


def choose(
    archive: Archive,
    modality: str,
    period: Period,
    area: Any | None,
    selection: Selection,
    max_cloud_cover: float | None = None,
    orbit: Orbit | None = None,
    *,
    offset_needed: bool = True,
) -> Chosen:
    """The usable scenes of one modality, earliest first.

    Parameters
    ----------
    archive
        Where to look.
    modality
        Name in :data:`xglof.bands.MODALITIES`.
    period
        Ignored for a modality without time. A mosaic is in it when its period meets it.
    area
        Shapely geometry in degrees; ``None`` takes everything.
    selection
        Gets the numbers, the reasons and the repairs.
    max_cloud_cover
        Percent; items that state no cloud cover pass.
    orbit
        Radar only: ``"ascending"``, ``"descending"`` or the number of a relative orbit; ``None`` takes all.
    offset_needed
        Refuse Sentinel-2 items whose radiometric offset neither flag nor baseline tells; else their scenes
        have no offset, and something else must tell.

    Raises
    ------
    CatalogError
        No item is left, a band is absent, an item contradicts itself, or the offset of a Sentinel-2 item
        cannot be told.
    CubeError
        ``orbit`` is none.
    """
    check_orbit(orbit)
    collections = collections_of(modality, archive.provider)
    when = period if MODALITIES[modality].has_time else Period()
    asked = _Asked(modality, archive.provider, when, area, max_cloud_cover, orbit)
    items = archive.find(collections, None if area is None else area.bounds, when)
    selection.found += len(items)
    already = len(selection.rejected)
    scenes = [scene for item in _once(items, selection) if (scene := _usable(item, asked, selection))]
    if not scenes:
        raise CatalogError(_nothing(archive, asked, collections, len(items), selection.rejected[already:]))
    check_whole(modality, [(scene.product, scene.item.assets) for scene in scenes])
    _check_alike(modality, scenes)
    if modality == "S2L2A":
        scenes = [_with_offset(scene, needed=offset_needed) for scene in scenes]
    scenes = newest(scenes, candidates(modality, archive.provider), selection)
    for scene in scenes:  # every path is checked before anything is built
        hrefs(scene, archive.root)
        selection.note_repairs(scene)
    return Chosen(modality, tuple(sorted(scenes, key=by_time)))


def check_orbit(orbit: object) -> None:
    """Refuse what is no choice of orbits.

    Raises
    ------
    CubeError
        Neither ``None``, a direction nor the number of a relative orbit.
    """
    number = isinstance(orbit, int) and not isinstance(orbit, bool) and 1 <= orbit <= _ORBITS
    if not (orbit is None or number or orbit in ("ascending", "descending")):
        raise CubeError(
            f"orbit={orbit!r} is not understood; expected 'ascending', 'descending' or the number of a "
            f"relative orbit, 1 to {_ORBITS}"
        )


def hrefs(scene: Scene, root: Path | str | None) -> dict[str, str]:
    """Canonical band name -> address of its file, for the bands that the scene has."""
    return {band: asset_href(scene.item, scene.product.assets[band], root) for band in scene.bands}


def _once(items: Iterable[Any], selection: Selection) -> list[Any]:
    """The items without those that a search returned twice."""
    seen: set[tuple[str | None, str]] = set()
    once = []
    for item in items:
        if (item.collection_id, item.id) in seen:
            selection.reject(item.id, "found twice")
        else:
            seen.add((item.collection_id, item.id))
            once.append(item)
    return once


@dataclass(frozen=True, slots=True)
class _Asked:
    modality: str
    provider: Provider | None
    period: Period
    area: Any | None
    max_cloud_cover: float | None
    orbit: Orbit | None


def _usable(item: Any, asked: _Asked, selection: Selection) -> Scene | None:
    """The scene of an item, or ``None`` with the reason noted; what is refused need not be sound."""
    product = product_of(asked.modality, item.collection_id, item.assets, asked.provider)
    if product is None:
        other = item.collection_id
        selection.reject(item.id, f"of another collection, {other}" if other else "without a collection")
        return None
    begin, end = _span(item, mosaic=product.mosaic)
    # the end of a period is the first moment of the next
    if not asked.period.meets(begin, max(begin, end - _INSTANT)):
        selection.reject(item.id, "outside the time")
        return None
    footprint = _footprint(item)
    if asked.area is not None and not footprint.intersects(asked.area):
        selection.reject(item.id, "outside the area of interest")
        return None
    cover = math.nan if asked.max_cloud_cover is None else _cloud_cover(item)
    if asked.max_cloud_cover is not None and cover > asked.max_cloud_cover:
        selection.reject(item.id, f"cloud cover {cover:g} % above {asked.max_cloud_cover:g} %")
        return None
    repaired, texts = repair(item)
    scene = Scene(item.id, repaired, begin, end, footprint, product, repairs=texts)
    reason = _radar_refusal(scene, asked.orbit) if product.units is not None else ""
    if reason:
        selection.reject(item.id, reason)
    return None if reason else scene


def _radar_refusal(scene: Scene, orbit: Orbit | None) -> str:
    stated = scene.item.properties.get("sar:polarizations")
    if isinstance(stated, Sequence) and not {"VV", "VH"} <= {str(name).upper() for name in stated}:
        return f"polarisation {' '.join(map(str, stated))} without VV and VH"
    absent = [asset for asset in scene.product.required.values() if asset not in scene.item.assets]
    if absent:
        return f"no asset {' and '.join(absent)}"
    if orbit is None:
        return ""
    own = scene.relative_orbit if isinstance(orbit, int) else scene.orbit_state
    kind = "relative orbit" if isinstance(orbit, int) else "orbit"
    if not own:
        return f"{kind} not stated" + (" by a mosaic" if scene.product.mosaic else "")
    return "" if own == str(orbit) else f"{kind} {own} and not {orbit}"


def _span(item: Any, *, mosaic: bool) -> tuple[datetime, datetime]:
    """First and last moment: those of a mosaic's period, equal for an acquisition."""
    start = _stated_moment(item, "start_datetime") if mosaic or item.datetime is None else None
    begin = start or item.datetime
    if begin is None:
        raise CatalogError(f"item {item.id} has neither datetime nor start_datetime; set one")
    end = _stated_moment(item, "end_datetime") if mosaic else None
    return _utc(begin), _utc(end or begin)


def _stated_moment(item: Any, name: str) -> datetime | None:
    try:
        moment: datetime | None = getattr(item.common_metadata, name)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise CatalogError(
            f"item {item.id}: {name} is {item.properties[name]!r}; expected a moment such as "
            "'2023-07-01T00:00:00Z'"
        ) from error
    return moment


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _cloud_cover(item: Any) -> float:
    """Percent; NaN where the item does not say."""
    cover = item.properties.get("eo:cloud_cover")
    if cover is None:
        return math.nan
    if isinstance(cover, bool) or not isinstance(cover, (int, float)):
        raise CatalogError(f"item {item.id}: eo:cloud_cover is {cover!r}; expected a number of percent")
    return float(cover)


def _footprint(item: Any) -> Any:
    """The polygons of an item's geometry, made valid: a spike or a fold leaves lines, which are dropped."""
    import shapely
    from shapely.geometry import shape

    if item.geometry is None:
        raise CatalogError(f"item {item.id} has no geometry; set its footprint")
    try:
        with np.errstate(invalid="ignore"):  # NaN among the corners
            footprint = shape(item.geometry)
        if not np.isfinite(shapely.get_coordinates(footprint)).all():
            raise ValueError("a corner is not finite")
        if not footprint.is_valid:
            footprint = shapely.make_valid(footprint)
        if footprint.geom_type == "GeometryCollection":
            parts = shapely.get_parts(footprint)
            footprint = shapely.union_all([part for part in parts if part.geom_type.endswith("Polygon")])
    except (KeyError, TypeError, ValueError, AttributeError, shapely.errors.ShapelyError) as error:
        raise CatalogError(
            f"item {item.id} has a geometry that is no GeoJSON ({type(error).__name__}: {error}); set its "
            "footprint"
        ) from error
    if not footprint.area > 0:
        raise CatalogError(f"item {item.id} has a geometry without area; expected a polygon as its footprint")
    return footprint


def _with_offset(scene: Scene, *, needed: bool) -> Scene:
    product = scene.product
    decide = decide_offset if needed else stated_offset
    offset = decide(
        scene.id,
        scene.item.properties,
        product.offset_flag,
        baseline_name=product.baseline_property,
    )
    return replace(scene, offset=offset)


def _check_alike(modality: str, scenes: Sequence[Scene]) -> None:
    """Refuse scenes whose files hold different kinds of numbers."""
    kinds: dict[tuple[object, ...], Scene] = {}
    for scene in scenes:
        own = scene.product
        kinds.setdefault((own.dtype, str(own.nodata), own.units, own.calibration, own.mosaic), scene)
    if len(kinds) > 1:
        first, second, *_ = kinds.values()
        raise CatalogError(
            f"{modality} items are of {first.product.collection} (such as {first.id}) and of "
            f"{second.product.collection} (such as {second.id}), whose numbers differ in kind; expected one "
            "of them. Pass a list of the items of one as catalog="
        )


def _nothing(
    archive: Archive, asked: _Asked, collections: Sequence[str], found: int, rejected: Sequence[str]
) -> str:
    """What the message says when no item is left: how many were found, and why each was refused."""
    modality = asked.modality
    instead = () if found else archive.held_instead(collections)
    if instead:
        return (
            f"{archive.name} has no usable {modality} item: it has the collections {', '.join(instead)}, and "
            f"none of {', '.join(collections)}; pass a Provider or a .toml profile that says which of them "
            f"holds it, or leave {modality} out of modalities="
        )
    during = f" in {asked.period.interval}" if asked.period.interval else ""
    reasons = Counter(text.rsplit(": ", 1)[1] for text in rejected)
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    return (
        f"{archive.name} has no usable {modality} item{during}: {found} found in "
        f"{', '.join(collections)}{f' ({why})' if why else ''}. Check the area and the time, or leave "
        f"{modality} out of modalities="
    )
