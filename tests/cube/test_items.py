from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pystac
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from xglof.cube.items import asset_grid, repair
from xglof.errors import CatalogError

SAMPLES = os.environ.get("XGLOF_SAMPLES", "")
needs_samples = pytest.mark.skipif(
    not SAMPLES, reason="real items are not at hand; XGLOF_SAMPLES names their folder"
)
UTM = GeoBox((300, 200), Affine(20, 0, 600000, 0, -20, 3100000), "EPSG:32645")
GDAL_ORDER = [600000.0, 20.0, 0.0, 3100000.0, 0.0, -20.0]


def _item(grid: GeoBox = UTM, on_asset: bool = True, name: str = "x", **fields: Any) -> pystac.Item:
    """An item with one asset that states its grid, fields put over it; ``None`` takes one away."""
    outline = grid.extent.to_crs("EPSG:4326")
    stated = {
        "proj:code": f"EPSG:{grid.crs.epsg}",
        "proj:shape": list(grid.shape),
        "proj:transform": list(grid.transform)[:6],
    }
    stated = {key: value for key, value in (stated | fields).items() if value is not None}
    item = pystac.Item(
        name,
        outline.json,
        list(outline.boundingbox.bbox),
        datetime(2023, 1, 1, tzinfo=UTC),
        {} if on_asset else stated,
    )
    item.add_asset("a", pystac.Asset("https://example.org/a.tif", extra_fields=stated if on_asset else {}))
    return item


def _repaired(item: pystac.Item) -> tuple[GeoBox | None, tuple[str, ...]]:
    before = item.to_dict()
    repaired, texts = repair(item)
    assert item.to_dict() == before, "the item given was changed"
    assert (repaired is item) == (not texts)
    again, more = repair(repaired)
    assert (again, more) == (repaired, ()), "a repaired item is repaired again"
    return asset_grid(repaired, "a"), texts


both_levels = pytest.mark.parametrize("on_asset", [True, False], ids=["asset", "item"])


@both_levels
def test_a_sound_item_is_left_alone(on_asset: bool) -> None:
    assert _repaired(_item(on_asset=on_asset)) == (UTM, ())


@both_levels
def test_trap_transform_in_gdal_order(on_asset: bool) -> None:
    grid, texts = _repaired(_item(on_asset=on_asset, **{"proj:transform": GDAL_ORDER}))
    assert grid == UTM
    assert texts == ("proj:transform put from GDAL's order into STAC's",)


def test_trap_gdal_order_of_a_dem_tile_at_the_prime_meridian() -> None:
    # the origin of such a tile is nearer to 0 than a pixel is wide
    grid = GeoBox((3600, 2400), Affine(1 / 2400, 0, -1 / 4800, 0, -1 / 3600, 60 + 1 / 7200), "EPSG:4326")
    a, b, c, d, e, f = list(grid.transform)[:6]
    found, texts = _repaired(_item(grid, **{"proj:transform": [c, a, b, f, d, e]}))
    assert found == grid
    assert len(texts) == 1


@given(
    size=st.sampled_from([10.0, 20.0, 60.0, 1 / 3600]),
    east=st.integers(-900_000, 900_000),
    north=st.integers(-9_000_000, 9_000_000),
)
def test_a_transform_in_the_right_order_is_never_reordered(size: float, east: int, north: int) -> None:
    transform = [size, 0.0, float(east), 0.0, -size, float(north)]
    _, texts = repair(_item(**{"proj:transform": transform}))
    assert texts == ()
    repaired, texts = repair(_item(**{"proj:transform": [float(east), size, 0.0, float(north), 0.0, -size]}))
    assert texts
    assert repaired.assets["a"].extra_fields["proj:transform"] == transform


@both_levels
@pytest.mark.parametrize("length", [6, 9])
def test_trap_positive_y_pixel_size_with_the_origin_on_top(on_asset: bool, length: int) -> None:
    # Planetary Computer, Sentinel-1 RTC of late 2024 (microsoft/PlanetaryComputer#417)
    wrong = [20.0, 0.0, 600000.0, 0.0, 20.0, 3100000.0, 0.0, 0.0, 1.0][:length]
    grid, texts = _repaired(_item(on_asset=on_asset, **{"proj:transform": wrong}))
    assert grid == UTM
    assert texts == ("positive y pixel size made negative",)


@both_levels
def test_trap_positive_y_pixel_size_with_the_origin_below(on_asset: bool) -> None:
    south_up = [20.0, 0.0, 600000.0, 0.0, 20.0, 3100000.0 - 300 * 20]
    grid, texts = _repaired(_item(on_asset=on_asset, **{"proj:transform": south_up}))
    assert grid == UTM
    assert texts == ("rows that run northwards turned",)


@pytest.mark.parametrize(
    "change",
    [
        {"proj:transform": [20.0, 0.0, 600000.0, 0.0, 20.0, 4100000.0]},
        {"proj:shape": None},
        {"proj:code": None},
    ],
    ids=["elsewhere", "no shape", "no CRS"],
)
def test_a_positive_y_pixel_size_that_nothing_explains_is_no_grid(change: dict[str, Any]) -> None:
    wrong = {"proj:transform": [20.0, 0.0, 600000.0, 0.0, 20.0, 3100000.0]}
    grid, texts = _repaired(_item(**wrong | change))
    assert grid is None
    assert texts == ("positive y pixel size that the bounds do not explain: transform dropped",)


def test_bounds_over_the_date_line_and_with_heights() -> None:
    grid = GeoBox((300, 200), Affine(1000, 0, 700000, 0, -1000, 5900000), "EPSG:32660")
    item = _item(grid, **{"proj:transform": [1000, 0, 700000, 0, 1000, 5900000]})
    item.bbox = [179.9, 50.4, 0.0, -176.8, 53.2, 8000.0]
    assert _repaired(item) == (grid, ("positive y pixel size made negative",))


@both_levels
def test_trap_proj_code_against_proj_epsg(on_asset: bool) -> None:
    contradicting = _item(on_asset=on_asset, **{"proj:epsg": 32644})
    where = "item x, asset 'a'" if on_asset else "item x"
    with pytest.raises(CatalogError, match=f"{where}: proj:code is EPSG:32645 and proj:epsg is 32644"):
        repair(contradicting)
    assert _repaired(_item(on_asset=on_asset, **{"proj:epsg": 32645})) == (UTM, ())
    assert _repaired(_item(on_asset=on_asset, **{"proj:code": None, "proj:epsg": 32645})) == (UTM, ())


def test_an_asset_may_lie_in_another_zone_than_its_item_says() -> None:
    item = _item()
    item.properties["proj:epsg"] = 32644
    assert _repaired(item) == (UTM, ())


@both_levels
def test_crs_as_wkt2(on_asset: bool) -> None:
    wkt = CRS("EPSG:32645").to_wkt()
    grid, texts = _repaired(_item(on_asset=on_asset, **{"proj:code": None, "proj:wkt2": wkt}))
    assert (grid, texts) == (UTM, ())
    null = _item(on_asset=on_asset, **{"proj:wkt2": wkt})
    (null.assets["a"].extra_fields if on_asset else null.properties)["proj:code"] = None
    assert asset_grid(null, "a") == UTM


@both_levels
@pytest.mark.parametrize("kind", ["sar:product_type", "product:type"])
def test_trap_made_up_grid_of_ground_range(on_asset: bool, kind: str) -> None:
    grid = GeoBox.from_bbox((86, 27, 88, 29), "EPSG:4326", shape=(100, 80))
    item = _item(grid, on_asset, **{"proj:epsg": 4326})
    item.properties[kind] = "GRD" if kind == "sar:product_type" else "IW_GRDH_1S"
    found, texts = _repaired(item)
    assert found is None
    assert texts == ("made-up grid of a product with ground control points dropped",)
    repaired, _ = repair(item)
    held = {**repaired.properties, **repaired.assets["a"].extra_fields}
    assert not any(key.startswith("proj:") for key in held)


def test_trap_planetary_computer_calls_its_rtc_grd() -> None:
    item = _item(on_asset=False, **{"sar:product_type": "GRD"})
    assert _repaired(item) == (UTM, ())


@pytest.mark.parametrize("broken", [[20.0, 0.0, 600000.0], "20 0 600000", [20.0, 0.0, 6e5, 0.0, None, 3e6],
                                    [20.0, 0.0, float("nan"), 0.0, -20.0, 3e6]])  # fmt: skip
def test_a_transform_that_is_no_list_of_numbers(broken: Any) -> None:
    repaired, texts = repair(_item(**{"proj:transform": broken}))
    assert asset_grid(repaired, "a") is None
    assert texts == ("proj:transform that is no list of numbers dropped",)


@pytest.mark.parametrize(
    "fields",
    [
        {"proj:shape": None},
        {"proj:transform": None},
        {"proj:code": None},
        {"proj:code": "EPSG:999999"},
        {"proj:shape": [300]},
        {"proj:shape": [0, 200]},
        {"proj:shape": [300.5, 200]},
        {"proj:shape": ["300", "200"]},
        {"proj:transform": [20.0, 0.0, 600000.0, 0.0, 0.0, 3100000.0]},
    ],
    ids=str,
)
def test_a_grid_that_is_not_fully_stated_is_none(fields: dict[str, Any]) -> None:
    assert asset_grid(_item(**fields), "a") is None


def test_shape_and_transform_are_of_one_level() -> None:
    item = _item(on_asset=False)
    item.assets["a"].extra_fields["proj:shape"] = [150, 100]  # at 40 m, whose transform nobody states
    assert asset_grid(item, "a") is None
    item.assets["a"].extra_fields["proj:transform"] = [40, 0, 600000, 0, -40, 3100000]
    assert asset_grid(item, "a") == UTM.zoom_out(2)


def test_relative_addresses_take_the_canonical_link_as_base() -> None:
    item = _item()
    item.assets["a"].href = "./a.tif"
    assert repair(item) == (item, ())
    item.add_link(pystac.Link("canonical", "https://example.org/items/x.json"))
    repaired, texts = repair(item)
    assert texts == ("relative addresses given the canonical link as their base",)
    assert repaired.assets["a"].get_absolute_href() == "https://example.org/items/a.tif"
    assert item.get_self_href() is None
    item.set_self_href("https://example.org/elsewhere/x.json")
    assert repair(item) == (item, ())


@pytest.mark.parametrize(
    ("burst", "orbit", "state"),
    [
        ("T064-135518-IW1", 64, "ascending"),  # Ridgecrest in California is seen by ascending track 64
        ("T071-151200-IW3", 71, "descending"),  # and by descending track 71
        ("T001-000001-IW1", 1, "ascending"),  # the first burst after the node
    ],
)
def test_orbit_of_opera_follows_from_the_burst(burst: str, orbit: int, state: str) -> None:
    name = f"OPERA_L2_RTC-S1_{burst}_20231206T000000Z_20231206T120000Z_S1A_30_v1.0"
    repaired, texts = repair(_item(name=name))
    assert texts == ("orbit taken from the burst id",)
    assert repaired.properties["sat:relative_orbit"] == orbit
    assert repaired.properties["sat:orbit_state"] == state
    stated = _item(name=name)
    stated.properties["sat:orbit_state"] = "descending"
    assert repair(stated) == (stated, ())


def _samples(part: str) -> Iterator[pystac.Item]:
    for path in sorted(Path(SAMPLES, "stac_items").rglob("*.json")):
        document = json.loads(path.read_text())
        if part in str(path) and isinstance(document, dict):
            features = document.get("features", [document])
            for feature in features:
                if feature.get("type") == "Feature":
                    yield pystac.Item.from_dict(feature)


@needs_samples
@pytest.mark.parametrize(
    ("part", "asset", "resolution", "epsg"),
    [
        ("issue1043", "B04_10m", 10, 32636),
        ("issue1547", "SCL_20m", 20, 32655),
        ("stactools-cop-dem/examples/cop-dem-glo-30/Cop", "data", None, 4326),
        ("odc-stac/tests/data/S2B_MSIL2A_20190629T212529_R043_T06VVN", "B8A", 20, 32606),
        ("rtc/sentinel1-rtc-aws/2020/S1A", "gamma0_vv", 20, 32617),
    ],
)
def test_real_items_state_their_grids(part: str, asset: str, resolution: float | None, epsg: int) -> None:
    items = list(_samples(part))
    assert items
    for item in items:
        repaired, texts = repair(item)
        grid = asset_grid(repaired, asset)
        assert texts == ()
        assert grid is not None
        assert grid.crs.epsg == epsg
        assert grid.resolution.y < 0
        if resolution:
            assert (grid.resolution.x, grid.resolution.y) == (resolution, -resolution)
        stated = item.bbox or []
        assert grid.footprint("EPSG:4326").boundingbox.bbox == pytest.approx(stated, abs=1.5)


@needs_samples
def test_real_ground_range_items_lose_their_made_up_grids() -> None:
    items = list(_samples("stactools-sentinel1/examples/grd"))
    assert items
    for item in items:
        assert asset_grid(item, next(name for name in item.assets if name in ("vv", "hh"))) is not None
        repaired, texts = repair(item)
        assert texts == ("made-up grid of a product with ground control points dropped",)
        assert all(asset_grid(repaired, name) is None for name in repaired.assets)


@needs_samples
def test_real_mosaics_state_no_transform() -> None:
    [item] = _samples("search_queried")
    assert repair(item) == (item, ())
    assert asset_grid(item, "B04") is None
