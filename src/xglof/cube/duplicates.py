"""One acquisition, several items: which of them a cube is made of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from xglof.cube.harmonise import baseline_number
from xglof.cube.products import Product

if TYPE_CHECKING:
    from xglof.cube.scenes import Selection
    from xglof.cube.steps import Scene

#: Share of a footprint that newer items must cover before an older one is a duplicate: a tile may be cut into
#: two products where the ground stations changed, and only one of them be processed anew.
_COVERED = 0.8
_DATATAKE = re.compile(r"S(2[A-D])(?:_MSIL2A)?_(\d{8}T\d{6})")
_TILE = re.compile(r"_T(\d{2}[A-Z]{3})_")
_GRANULE = re.compile(r"(OPERA_L2_RTC-S1_T\d{3}-\d{6}-IW[123]_\d{8}T\d{6}Z)_(\d{8}T\d{6}Z)_")

#: Preference of the product, then age of the processing; larger is newer.
_Rank = tuple[int, float | str]


def newest(scenes: Iterable[Scene], preferred: Sequence[Product], selection: Selection) -> list[Scene]:
    """Of the scenes of one acquisition, those that count.

    Parameters
    ----------
    scenes
        Of one modality.
    preferred
        Products, the preferred one first: of two that hold an acquisition, its scenes count.
    selection
        Gets the others, as duplicates.

    Returns
    -------
    list
        Within one product the scenes of the highest processing baseline (Sentinel-2) or of the last
        processing (OPERA RTC-S1), and older ones that cover ground of their own.
    """
    ranks = {product: -index for index, product in reversed(list(enumerate(preferred)))}
    groups: dict[Any, list[Scene]] = {}
    for scene in scenes:
        groups.setdefault(_acquisition(scene), []).append(scene)
    kept: list[Scene] = []
    for group in groups.values():
        kept += _best(group, {scene: _rank(scene, ranks[scene.product]) for scene in group}, selection)
    return kept


def _best(group: Sequence[Scene], ranks: dict[Scene, _Rank], selection: Selection) -> list[Scene]:
    if len(group) == 1:
        return list(group)
    kept: list[Scene] = []
    for scene in sorted(group, key=ranks.__getitem__, reverse=True):
        newer = [other for other in kept if ranks[other] > ranks[scene]]
        if newer and _covered(scene, newer):
            better = "a newer baseline" if scene.offset else "a later processing"
            if ranks[newer[0]][0] > ranks[scene][0]:
                better = f"one in {newer[0].product.collection}"
            selection.reject(scene.id, f"duplicate of {better}")
        else:
            kept.append(scene)
    return kept


def _covered(scene: Scene, newer: Sequence[Scene]) -> bool:
    import shapely

    area = scene.footprint.area
    common = shapely.union_all([other.footprint for other in newer]).intersection(scene.footprint)
    return bool(common.area >= _COVERED * area)


def _acquisition(scene: Scene) -> tuple[str, str]:
    """What all items of one acquisition of one place share."""
    granule = _GRANULE.match(scene.id)
    if granule:
        return granule[1], ""
    named = _TILE.search(scene.id)
    tile = scene.text("s2:mgrs_tile") or scene.text("grid:code").removeprefix("MGRS-")
    tile = tile or (named[1] if named and scene.product.modality == "S2L2A" else "")
    if not tile or scene.product.modality != "S2L2A":
        return scene.id, str(scene.product.collection)
    for text in (scene.text("s2:datatake_id"), scene.text("eopf:datatake_id"), scene.id):
        datatake = _DATATAKE.search(text)
        if datatake:
            return tile, f"{datatake[1]} {datatake[2]}"
    return tile, scene.when.isoformat()


def _rank(scene: Scene, preference: int) -> _Rank:
    granule = _GRANULE.match(scene.id)
    if granule:
        return preference, granule[2]
    baseline = scene.offset.baseline if scene.offset else ""
    return preference, baseline_number(scene.id, baseline, name=scene.product.baseline_property)
