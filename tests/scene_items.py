"""Items as archives spell them, and what is chosen of them, for tests of the choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pystac

from tiny_catalog import GRID, S2_NAMES, bare_item
from xglof.cube.providers import Product, Provider
from xglof.cube.scenes import Chosen, Selection, choose
from xglof.cube.sources import ItemArchive, parse_period
from xglof.cube.steps import Scene

#: The ground of the tiny catalogue, a quarter of a pixel inwards.
AREA = GRID.footprint("EPSG:4326", buffer=-0.25).geom


def s2_item(
    name: str, when: str = "2022-07-10T04:50:00", baseline: str = "04.00", **more: Any
) -> pystac.Item:
    properties = {"s2:processing_baseline": baseline, "s2:mgrs_tile": "45RVL"} | more
    item = bare_item(name, "sentinel-2-l2a", when, **properties)
    for band in (*S2_NAMES, "SCL"):
        item.add_asset(band, pystac.Asset(f"https://example.org/{name}/{band}.tif"))
    return item


def s1_item(
    name: str, when: str, orbit: str = "", collection: str = "sentinel-1-rtc", **more: Any
) -> pystac.Item:
    stated = {"sat:orbit_state": orbit} if orbit else {}
    item = bare_item(name, collection, when, **stated | more)
    spelt = {"sentinel-1-global-mosaics": ("VV", "VH"), "OPERA_L2_RTC-S1_V1_1": ("0_VV", "0_VH", "0_mask")}
    for band in spelt.get(collection, ("vv", "vh")):
        item.add_asset(band, pystac.Asset(f"https://example.org/{name}/{band}.tif"))
    return item


def item_of(product: Product, name: str, when: str = "2022-07-10T04:50:00", **properties: Any) -> pystac.Item:
    """An item of a product with all its assets."""
    item = bare_item(name, product.collection, when, **properties)
    for asset in product.assets.values():
        item.add_asset(asset, pystac.Asset(f"https://example.org/{name}/{asset}.tif"))
    return item


def choose_from(
    items: Sequence[pystac.Item], modality: str, provider: Provider | None = None, **more: Any
) -> tuple[Chosen, Selection]:
    """What is chosen of some items over :data:`AREA`; every item is used or rejected."""
    selection = Selection()
    archive = ItemArchive("test", tuple(items), provider=provider)
    period = parse_period(more.pop("period", None))
    chosen = choose(archive, modality, period, AREA, selection, **more)
    assert selection.found == len(chosen.scenes) + len(selection.rejected)
    return chosen, selection


def usable(
    items: Sequence[pystac.Item], modality: str = "S2L2A", **more: Any
) -> tuple[list[Scene], list[str]]:
    """The scenes that are chosen, and why the others are not."""
    chosen, selection = choose_from(items, modality, **more)
    return list(chosen.scenes), selection.rejected
