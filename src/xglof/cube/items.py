"""STAC items as they should be: what archives are known to state wrongly is put right, and said.

Field names are those of STAC's projection extension, of its version 1 (``proj:epsg``) and 2 (``proj:code``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from xglof.errors import CatalogError

_GRID_FIELDS = (
    *("proj:transform", "proj:shape", "proj:bbox", "proj:code", "proj:epsg", "proj:wkt2"),
    *("proj:projjson", "proj:geometry", "proj:centroid"),
)
#: Kinds of Sentinel-1 products whose files hold ground control points instead of a grid.
_GCP_KINDS = re.compile(r"(^|_)(GRD|SLC)", re.IGNORECASE)

#: Sentinel-1 bursts count on through the cycle of 175 orbits in 12 days: their period, the time of the first
#: one after the ascending node, and the period of an orbit, seconds (ESA's map of burst ids).
_BURST_S, _PREAMBLE_S, _ORBIT_S = 2.758273, 2.299849, 12 * 86400 / 175
_BURST_ID = re.compile(r"OPERA_L2_RTC-S1_T(\d{3})-(\d{6})-IW[123]_")

#: Holder (``None`` for the item itself, else an asset), field, new value (``None`` removes it).
_Change = tuple[str | None, str, object]


def check_stated_crs(document: Mapping[str, Any]) -> None:
    """Refuse an item's document that states two CRSs, before pystac keeps one of them without a word.

    Raises
    ------
    CatalogError
        ``proj:code`` and ``proj:epsg`` differ, of the item or of an asset.
    """
    assets = document.get("assets")
    parts = {None: document.get("properties"), **(assets if isinstance(assets, Mapping) else {})}
    for holder, fields in parts.items():
        if isinstance(fields, Mapping):
            _check_codes(document.get("id"), holder, fields)


def repair(item: Any) -> tuple[Any, tuple[str, ...]]:
    """An item with what is known to be wrong put right, and what that was.

    Parameters
    ----------
    item
        A pystac item; it is never changed.

    Returns
    -------
    item
        A copy with the repairs, or ``item`` itself where nothing was wrong.
    texts
        One for each kind of repair, the same words for every item.

        - ``proj:transform`` in GDAL's order of numbers is put in STAC's.
        - A positive y pixel size becomes negative. The item's bounds decide whether the origin is at the
          upper or at the lower edge; where they agree with neither, the transform is dropped.
        - Grids of products that have ground control points only are dropped: archives make them from the
          bounds. Sentinel-1 GRD is known by its product type and geographic coordinates.
        - A transform that is no list of finite numbers is dropped.
        - An item without a self link takes its canonical link as the base of relative addresses.
        - Items of OPERA RTC-S1 state no orbit: it follows from their burst id.

    Raises
    ------
    CatalogError
        ``proj:code`` and ``proj:epsg`` contradict each other.
    """
    changes: list[_Change] = []
    texts: list[str] = []
    for text, change in (*_grid_changes(item), *_orbit_changes(item)):
        changes.append(change)
        texts.append(text)
    base = _missing_base(item)
    if not changes and base is None:
        return item, ()
    repaired = item.clone()
    for holder, name, value in changes:
        fields = repaired.properties if holder is None else repaired.assets[holder].extra_fields
        if value is None:
            fields.pop(name, None)
        else:
            fields[name] = value
    if base is not None:
        repaired.set_self_href(base)
        texts.append("relative addresses given the canonical link as their base")
    return repaired, tuple(dict.fromkeys(texts))


def asset_grid(item: Any, asset_name: str) -> Any | None:
    """The grid of an asset's file as its item states it, or ``None`` where it is not fully stated.

    Parameters
    ----------
    item
        A pystac item that :func:`repair` returned.
    asset_name
        Key of the asset.

    Returns
    -------
    GeoBox or None
        From ``proj:shape`` and ``proj:transform``, both of the asset or both of the item, and from
        ``proj:code``, ``proj:epsg`` or ``proj:wkt2`` of the asset, else of the item.
    """
    own, shared = item.assets[asset_name].extra_fields, item.properties
    placed = own if "proj:transform" in own or "proj:shape" in own else shared
    transform, shape = placed.get("proj:transform"), placed.get("proj:shape")
    if not transform or not shape:
        return None
    crs = _crs_text(own) or _crs_text(shared)
    if crs is None:
        return None
    try:
        return _geobox(crs, tuple(shape), tuple(transform))
    except TypeError:  # something in them is no number
        return None


def _holders(item: Any) -> Iterator[tuple[str | None, Mapping[str, Any]]]:
    yield None, item.properties
    for name, asset in item.assets.items():
        yield name, asset.extra_fields


def _grid_changes(item: Any) -> Iterator[tuple[str, _Change]]:
    for holder, fields in _holders(item):
        _check_codes(item.id, holder, fields)
    if _has_gcps_only(item):
        for holder, fields in _holders(item):
            for name in _GRID_FIELDS:
                if fields.get(name) is not None:
                    yield "made-up grid of a product with ground control points dropped", (holder, name, None)
        return
    for holder, fields in _holders(item):
        if fields.get("proj:transform") is not None:
            yield from _transform_changes(item, holder, fields)


def _transform_changes(
    item: Any, holder: str | None, fields: Mapping[str, Any]
) -> Iterator[tuple[str, _Change]]:
    numbers = fields["proj:transform"]
    if not _is_affine(numbers):
        yield "proj:transform that is no list of numbers dropped", (holder, "proj:transform", None)
        return
    t = list(numbers)
    # an affine with these zeros would have its axes swapped and its origin at x = 0: no raster has
    if len(t) == 6 and t[2] == 0 and t[4] == 0 and t[1] != 0 and t[5] != 0:
        t = [t[1], t[2], t[0], t[4], t[5], t[3]]
        yield "proj:transform put from GDAL's order into STAC's", (holder, "proj:transform", t)
    if t[1] == 0 and t[3] == 0 and t[4] > 0:
        text, turned = _turned(item, fields, t)
        yield text, (holder, "proj:transform", turned)


def _is_affine(numbers: object) -> bool:
    return (
        isinstance(numbers, Sequence)
        and len(numbers) in (6, 9)
        and all(isinstance(n, (int, float)) and math.isfinite(n) for n in numbers)
    )


def _turned(item: Any, fields: Mapping[str, Any], t: list[float]) -> tuple[str, list[float] | None]:
    """A transform with a positive y pixel size, turned by what the bounds of the item say."""
    unsettled = "positive y pixel size that the bounds do not explain: transform dropped"
    shape = fields.get("proj:shape") or item.properties.get("proj:shape")
    rows = shape[0] if isinstance(shape, Sequence) and shape else None
    crs = _crs_text(fields) or _crs_text(item.properties)
    bounds = _bounds(item)
    if not isinstance(rows, (int, float)) or crs is None or bounds is None:
        return unsettled, None
    west, south, east, north = bounds
    east += 360 if east < west else 0
    try:
        _, y = _from_degrees(crs).transform((west + east) / 2, (south + north) / 2)
    except Exception as error:  # pyproj has no common base for what a bad CRS raises
        raise CatalogError(f"item {item.id}: {crs} is not a CRS that can be used ({error})") from error
    height = rows * t[4]
    above, below = abs(y - t[5] - height / 2), abs(y - t[5] + height / 2)
    if not min(above, below) < height / 4:
        return unsettled, None
    if above < below:
        return "rows that run northwards turned", [*t[:4], -t[4], t[5] + height, *t[6:]]
    return "positive y pixel size made negative", [*t[:4], -t[4], *t[5:]]


def _bounds(item: Any) -> Sequence[float] | None:
    if item.bbox is not None and len(item.bbox) in (4, 6):
        half = len(item.bbox) // 2  # six numbers hold heights, too
        return (*item.bbox[:2], *item.bbox[half : half + 2])
    if item.geometry is None:
        return None
    from shapely.geometry import shape

    bounds: Sequence[float] = shape(item.geometry).bounds
    return bounds


def _check_codes(name: object, holder: str | None, fields: Mapping[str, Any]) -> None:
    code, epsg = fields.get("proj:code"), fields.get("proj:epsg")
    if code is not None and epsg is not None and str(code).upper() != f"EPSG:{epsg}":
        where = f"item {name}" + (f", asset {holder!r}" if holder else "")
        raise CatalogError(
            f"{where}: proj:code is {code} and proj:epsg is {epsg}; expected the same CRS from both. Correct "
            "the item, or pass a list without it as catalog="
        )


def _has_gcps_only(item: Any) -> bool:
    """Whether an item is Sentinel-1 in radar geometry; Planetary Computer calls its RTC ``GRD``, too."""
    properties = item.properties
    kind = properties.get("sar:product_type") or properties.get("product:type") or ""
    if not _GCP_KINDS.search(str(kind)):
        return False
    code = next((found for _, fields in _holders(item) if (found := _crs_text(fields))), None)
    return code is None or code.upper() == "EPSG:4326"


def _missing_base(item: Any) -> str | None:
    """The canonical link of an item that has relative addresses and no self link."""
    from pystac.utils import is_absolute_href

    if item.get_self_href() is not None:
        return None
    link = item.get_single_link("canonical")
    base = None if link is None else link.get_href(transform_href=False)
    if base is None or not is_absolute_href(base):
        return None
    relative = any(not is_absolute_href(asset.href) for asset in item.assets.values())
    return str(base) if relative else None


def _orbit_changes(item: Any) -> Iterator[tuple[str, _Change]]:
    match = _BURST_ID.match(item.id)
    if match is None or item.properties.get("sat:orbit_state"):
        return
    orbit, burst = int(match[1]), int(match[2])
    # from ascending node to ascending node: 0 to 1
    place = (((burst - 0.5) * _BURST_S + _PREAMBLE_S) / _ORBIT_S - (orbit - 1)) % 1
    state = "ascending" if place < 0.25 or place > 0.75 else "descending"
    text = "orbit taken from the burst id"
    yield text, (None, "sat:relative_orbit", orbit)
    yield text, (None, "sat:orbit_state", state)


def _crs_text(fields: Mapping[str, Any]) -> str | None:
    code = fields.get("proj:code")
    if code is not None:
        return str(code)
    epsg = fields.get("proj:epsg")
    if epsg is not None:
        return f"EPSG:{epsg}"
    wkt: str | None = fields.get("proj:wkt2")
    return wkt


@lru_cache(maxsize=256)
def _from_degrees(crs: str) -> Any:
    from pyproj import Transformer

    return Transformer.from_crs("EPSG:4326", crs, always_xy=True)


@lru_cache(maxsize=256)
def _crs(text: str) -> Any | None:
    from odc.geo.crs import CRS
    from pyproj.exceptions import CRSError

    try:
        return CRS(text)
    except (CRSError, ValueError):
        return None


@lru_cache(maxsize=8192)
def _geobox(crs_text: str, shape: tuple[Any, ...], transform: tuple[Any, ...]) -> Any | None:
    from affine import Affine
    from odc.geo.geobox import GeoBox

    crs = _crs(crs_text)
    if crs is None or len(shape) != 2 or not _is_affine(transform):
        return None
    rows, columns = shape
    if rows < 1 or columns < 1 or rows != int(rows) or columns != int(columns):
        return None
    affine = Affine(*transform[:6])
    return None if affine.is_degenerate else GeoBox((int(rows), int(columns)), affine, crs)
