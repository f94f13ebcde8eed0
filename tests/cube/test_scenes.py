from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pystac
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from shapely import make_valid
from shapely.geometry import MultiPolygon, box, mapping, shape

from scene_items import choose_from, item_of, s2_item, usable
from tiny_catalog import GRID, bare_item
from xglof.cube.providers import CDSE, EARTH_SEARCH, PLANETARY_COMPUTER, Product
from xglof.cube.scenes import hrefs
from xglof.cube.steps import Scene, s2_steps
from xglof.errors import CatalogError


def test_reasons() -> None:
    beside = GeoBox.from_bbox((88, 28, 88.1, 28.1), resolution=0.01)
    far = bare_item("far", "sentinel-2-l2a", "2022-07-10T04:50:00", beside)
    touching = bare_item("touching", "sentinel-2-l2a", "2022-07-10T04:50:00", GRID.right)
    scenes, rejected = usable(
        [
            s2_item("late", "2022-08-01T00:00:00"),
            far,
            touching,
            s2_item("cloudy", **{"eo:cloud_cover": 60.5}),
            s2_item("at the limit", **{"eo:cloud_cover": 60.0}),
            s2_item("silent about cloud", "2022-07-11T04:50:00"),
        ],
        period="2022-07",
        max_cloud_cover=60,
    )
    assert [scene.id for scene in scenes] == ["at the limit", "silent about cloud"]
    assert rejected == [
        "late: outside the time",
        "far: outside the area of interest",
        "touching: outside the area of interest",
        "cloudy: cloud cover 60.5 % above 60 %",
    ]


@given(st.permutations(["02.14", "04.00", "05.09", "N0510"]))
def test_the_newest_baseline_of_a_tile_and_moment_stays(order: list[str]) -> None:
    scenes, rejected = usable([s2_item(f"i{text}", baseline=text) for text in order])
    assert [scene.id for scene in scenes] == ["iN0510"]
    assert sorted(rejected) == [
        f"i{text}: duplicate of a newer baseline" for text in ("02.14", "04.00", "05.09")
    ]


def test_other_tiles_and_moments_are_no_duplicates() -> None:
    scenes, _ = usable(
        [
            s2_item("a", baseline="02.14"),
            s2_item("b", **{"s2:mgrs_tile": "45RUL"}),
            s2_item("c", "2022-07-10T04:50:05"),
            s2_item("d", baseline="04.00", **{"s2:mgrs_tile": None, "grid:code": "MGRS-44RZZ"}),
            s2_item("e", baseline="02.14", **{"s2:mgrs_tile": None}),
        ]
    )
    assert {scene.id for scene in scenes} == {"a", "b", "c", "d", "e"}


def test_missing_baseline_is_no_guess() -> None:
    with pytest.raises(CatalogError, match="item b has no s2:processing_baseline"):
        usable([s2_item("a"), s2_item("b", baseline="")])


def test_a_band_absent_from_one_item() -> None:
    short = s2_item("short", "2022-07-11T04:50:00")
    del short.assets["B8A"]
    with pytest.raises(CatalogError, match=r"band B8A .* is absent from 1 of 2 S2L2A items"):
        usable([s2_item("a"), short])


def test_time_of_the_dem_is_not_asked() -> None:
    item = bare_item("dem", "cop-dem-glo-30", "2021-04-22T00:00:00")
    item.add_asset("data", pystac.Asset("https://example.org/dem.tif"))
    scenes, _ = usable([item], "DEM", period="2030")
    assert [scene.id for scene in scenes] == ["dem"]


def test_message_when_nothing_is_left() -> None:
    with pytest.raises(
        CatalogError, match=r"3 found in sentinel-2-l2a, .* \(2 outside the time, 1 cloud cover"
    ):
        usable(
            [s2_item("a"), s2_item("b"), s2_item("c", "2023-01-01T00:00:00", **{"eo:cloud_cover": 99})],
            period="2023",
            max_cloud_cover=10,
        )


def test_scenes_of_a_day_and_their_offsets() -> None:
    scenes, _ = usable(
        [
            s2_item("b", "2022-07-10T04:50:20", **{"s2:mgrs_tile": "45RUL"}),
            s2_item("a", "2022-07-10T04:50:10", "03.01"),
            s2_item("c", "2022-07-12T04:50:10.9"),
            s2_item("d", "2022-07-10T04:50:30", "05.09", **{"s2:mgrs_tile": "45RUM"}),
        ]
    )
    steps = s2_steps(scenes)
    assert [[scene.id for scene in step.scenes] for step in steps] == [["a", "b", "d"], ["c"]]
    assert [scene.offset and scene.offset.value for scene in steps[0].scenes] == [0, 1000, 1000]
    assert steps[0].joined(lambda scene: scene.offset.baseline if scene.offset else "") == "03.01,04.00,05.09"
    assert steps[1].when.isoformat() == "2022-07-12T04:50:10+00:00"


def test_sun_angles() -> None:
    plain = {"s2:mean_solar_zenith": 62.0, "s2:mean_solar_azimuth": 155.0}
    both = plain | {"view:sun_elevation": 30.0, "view:sun_azimuth": 160.0}
    [a, b, c], _ = usable(
        [
            s2_item("a", "2022-07-01T00:00:00", **plain),
            s2_item("b", "2022-07-02T00:00:00", **both),
            s2_item("c", "2022-07-03T00:00:00"),
        ]
    )
    assert (a.solar_elevation, a.solar_azimuth) == (28.0, 155.0)
    assert (b.solar_elevation, b.solar_azimuth) == (30.0, 160.0)
    assert math.isnan(c.solar_elevation)
    assert math.isnan(c.solar_azimuth)


C1, OLD = EARTH_SEARCH.products_of("S2L2A")
TILE = {"grid:code": "MGRS-45RVL"}
DATATAKE = TILE | {"s2:datatake_id": "GS2A_20220710T044701_036800_N04.00"}


def test_trap_one_acquisition_in_both_collections_of_earth_search() -> None:
    def item(product: Product, name: str, baseline: str, **more: Any) -> pystac.Item:
        when = "2022-07-10T04:50:31" if product is C1 else "2022-07-10T04:50:29.024"  # they need not agree
        return item_of(product, name, when, **DATATAKE | {"s2:processing_baseline": baseline} | more)

    items = [
        item(OLD, "S2A_45RVL_20220710_0_L2A", "05.10", **{"earthsearch:boa_offset_applied": True}),
        item(C1, "S2A_T45RVL_20220710T044701_L2A", "05.00"),
        item(OLD, "S2A_45RUL_20220710_0_L2A", "04.00", **{"grid:code": "MGRS-45RUL"}),
    ]
    chosen, selection = choose_from(items, "S2L2A", EARTH_SEARCH)
    assert [scene.id for scene in chosen.scenes] == [
        "S2A_45RUL_20220710_0_L2A",
        "S2A_T45RVL_20220710T044701_L2A",
    ]
    assert selection.rejected == ["S2A_45RVL_20220710_0_L2A: duplicate of one in sentinel-2-c1-l2a"]
    assert [scene.product for scene in chosen.scenes] == [OLD, C1]
    assert [scene.offset and scene.offset.value for scene in chosen.scenes] == [1000, 1000]
    assert chosen.bands[-2:] == ("SCL", "CLD")
    assert ["CLD" in hrefs(scene, None) for scene in chosen.scenes] == [False, True]


def test_trap_cdse_keeps_its_baseline_elsewhere() -> None:
    [product] = CDSE.products_of("S2L2A")
    start = "S2B_MSIL2A_20200322T074609"
    names = {
        f"{start}_N0214_R135_T36NYH_20200322T110000": "02.14",
        f"{start}_N0500_R135_T36NYH_20230612T214223": "05.00",
    }
    items = [item_of(product, name, **{"processing:version": version}) for name, version in names.items()]
    for item in items:
        del item.assets["CLD_20m"]  # old items have none
    chosen, selection = choose_from(items, "S2L2A", CDSE)
    [scene] = chosen.scenes
    assert scene.offset is not None
    assert (scene.offset.value, scene.offset.baseline) == (1000, "05.00")
    assert selection.rejected == [f"{next(iter(names))}: duplicate of a newer baseline"]
    assert "CLD" not in chosen.bands


@pytest.mark.parametrize(("baseline", "offset"), [("05.00", 1000), ("02.14", 0)])
def test_trap_the_offset_follows_the_baseline_and_never_the_date(baseline: str, offset: int) -> None:
    [scene] = usable([s2_item("a", "2018-07-10T04:50:00", baseline)])[0]
    assert scene.offset is not None
    assert scene.offset.value == offset


@pytest.mark.parametrize(
    ("share", "kept"), [(1.0, {"new"}), (0.9, {"new"}), (0.5, {"old", "new"}), (0.05, {"old", "new"})]
)
def test_half_a_tile_that_was_not_processed_anew_stays(share: float, kept: set[str]) -> None:
    old, new = s2_item("old", baseline="03.01"), s2_item("new", baseline="05.00")
    west, south, east, north = new.bbox or []
    new.geometry = mapping(box(west, south, west + share * (east - west), north))
    assert {scene.id for scene in usable([old, new])[0]} == kept


def test_an_item_found_twice_counts_once() -> None:
    item = s2_item("a")
    scenes, rejected = usable([item, item.clone(), s2_item("b", "2022-07-11T00:00:00"), item])
    assert [scene.id for scene in scenes] == ["a", "b"]
    assert rejected == ["a: found twice"] * 2


def test_repairs_are_counted_logged_and_never_made_in_the_items_given(caplog: Any) -> None:
    items = [s2_item("a"), s2_item("b", "2022-07-11T04:50:00"), s2_item("late", "2023-07-11T04:50:00")]
    for item in items:
        item.properties["proj:code"] = "EPSG:32645"
        item.properties["proj:shape"] = [300, 200]
        item.properties["proj:transform"] = [600000, 20, 0, 3100000, 0, -20]
    given = [item.to_dict() for item in items]
    with caplog.at_level("INFO", logger="xglof"):
        chosen, selection = choose_from(items, "S2L2A", period="2022")
    text = "proj:transform put from GDAL's order into STAC's"
    assert selection.repairs == {text: 2}
    assert [record.getMessage() for record in caplog.records] == [f"item a: {text}", f"item b: {text}"]
    assert [scene.repairs for scene in chosen.scenes] == [(text,)] * 2
    assert [item.to_dict() for item in items] == given
    grid = chosen.scenes[0].grid("B02")
    assert grid is not None
    assert (grid.shape, grid.resolution.x, grid.crs.epsg) == ((300, 200), 20, 32645)


def test_an_item_that_contradicts_itself_matters_only_where_it_is_used() -> None:
    odd = s2_item("odd", "2023-07-10T04:50:00", **{"proj:code": "EPSG:32645", "proj:epsg": 32644})
    assert len(usable([s2_item("a"), odd], period="2022")[0]) == 1
    with pytest.raises(CatalogError, match="item odd: proj:code is EPSG:32645 and proj:epsg is 32644"):
        usable([s2_item("a"), odd])


def test_a_grid_that_no_item_states() -> None:
    [scene] = usable([s2_item("a")])[0]
    assert scene.grid("B02") is None


def test_a_polygon_that_crosses_itself_is_made_whole() -> None:
    item = s2_item("a")
    west, south, east, north = item.bbox or []
    ring = [[west, south], [east, north], [east, south], [west, north], [west, south]]
    item.geometry = {"type": "Polygon", "coordinates": [ring]}
    [scene] = usable([item])[0]
    assert scene.footprint.is_valid
    assert scene.footprint.area > 0


def test_two_orbits_of_one_day_are_two_steps() -> None:
    """North of about 55 degrees orbits overlap: their suns and views differ."""
    named = "S2A_MSIL2A_20220710T{}_N0400_R{}_T45RVL_20220711T000000"
    scenes, _ = usable(
        [
            s2_item("a", "2022-07-10T04:50:00", **{"sat:relative_orbit": 25}),
            s2_item(named.format("045010", "025"), "2022-07-10T04:50:20"),
            s2_item(
                "b", "2022-07-10T06:30:00", **{"s2:product_uri": named.format("063000", "068") + ".SAFE"}
            ),
            s2_item("c", "2022-07-10T06:30:20", **{"sat:relative_orbit": 68}),
        ]
    )
    steps = s2_steps(scenes)
    assert [len(step.scenes) for step in steps] == [2, 2]
    assert [step.joined(lambda scene: scene.relative_orbit) for step in steps] == ["25", "68"]


def test_scenes_that_state_no_orbit_are_of_the_passage_that_they_are_seen_with() -> None:
    times = {"a": "04:50:00", "b": "04:50:10", "c": "06:30:00", "d": "06:30:10"}
    items = [s2_item(name, f"2022-07-10T{time}") for name, time in times.items()]
    assert [len(step.scenes) for step in s2_steps(usable(items)[0])] == [4]  # nothing tells them apart
    for item, orbit in ((items[1], 25), (items[2], 68)):
        item.properties["sat:relative_orbit"] = orbit
    steps = s2_steps(usable(items)[0])
    assert [step.joined(lambda scene: scene.id) for step in steps] == ["a,b", "c,d"]


def _passing(name: str, longitudes: tuple[float, float], when: datetime, orbit: str) -> Scene:
    """A scene between two longitudes, split where it crosses the date line as GeoJSON wants it."""
    west, east = longitudes
    outline = box(west, 65, east, 66)
    if east > 180:
        outline = MultiPolygon([box(west, 65, 180, 66), box(-180, 65, east - 360, 66)])
    elif west > 180:
        outline = box(west - 360, 65, east - 360, 66)
    properties = {"sat:relative_orbit": int(orbit)} if orbit else {}
    item = pystac.Item(name, mapping(outline), list(outline.bounds), when, properties)
    return Scene(name, item, when, when, outline, PLANETARY_COMPUTER.products_of("S2L2A")[0])


@pytest.mark.parametrize("orbit", ["29", ""])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_a_pass_over_the_date_line_is_one_step(order: tuple[int, ...], orbit: str) -> None:
    places = [(178.5, 179.9), (179.5, 181.1), (180.1, 181.5)]
    scenes = []
    for day in (14, 15, 16):  # the solar dates of its two sides are those of two passes
        begin = datetime(2023, 7, day, 22, 40, tzinfo=UTC)
        for second, index in enumerate(order):
            name = f"{day} {index}"
            scenes.append(_passing(name, places[index], begin + timedelta(seconds=10 * second), orbit))
    steps = s2_steps(scenes[::-1])
    assert [{scene.id[:2] for scene in step.scenes} for step in steps] == [{"14"}, {"15"}, {"16"}]
    assert [len(step.scenes) for step in steps] == [3, 3, 3]


@pytest.mark.parametrize(
    ("longitudes", "day"), [((178.5, 179.9), 15), ((179.5, 180.1), 15), ((179.8, 181.1), 14), ((0, 1), 14)]
)
def test_the_solar_date_is_that_of_the_middle_of_a_footprint(
    longitudes: tuple[float, float], day: int
) -> None:
    scene = _passing("a", longitudes, datetime(2023, 7, 14, 22, 40, tzinfo=UTC), "")
    assert scene.solar_date == date(2023, 7, day)


def _ring(*corners: tuple[float, float]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [[*map(list, corners), list(corners[0])]]}


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({"eo:cloud_cover": "12.5"}, "item a: eo:cloud_cover is '12.5'; expected a number of percent"),
        ({"eo:cloud_cover": True}, "item a: eo:cloud_cover is True"),
        ({"datetime": None, "start_datetime": "garbage"}, "item a: start_datetime is 'garbage'; expected a"),
        ({"datetime": None, "start_datetime": 5}, "item a: start_datetime is 5; expected a moment such as"),
        ({"datetime": None}, "item a has neither datetime nor start_datetime"),
        ({"geometry": _ring((86, 27), (math.nan, 27), (87, 28))}, "no GeoJSON .*a corner is not finite"),
        ({"geometry": {"type": "Polygon", "coordinates": []}}, "item a has a geometry without area"),
        ({"geometry": {"type": "Point", "coordinates": [86, 27]}}, "expected a polygon as its footprint"),
    ],
)
def test_a_malformed_item_is_named_in_one_sentence(properties: dict[str, Any], said: str) -> None:
    item = s2_item("a", **{"eo:cloud_cover": None})
    item.geometry = properties.pop("geometry", item.geometry)
    item.datetime = properties.pop("datetime", item.datetime)
    item.properties |= properties
    with pytest.raises(CatalogError, match=said):
        usable([item], max_cloud_cover=30)


def test_what_is_not_looked_at_need_not_be_sound() -> None:
    odd = s2_item("a", **{"eo:cloud_cover": "12.5", "start_datetime": "garbage"})
    assert [scene.id for scene in usable([odd])[0]] == ["a"]


def test_a_footprint_with_a_spike_loses_it() -> None:
    item = s2_item("a")
    west, south, east, north = item.bbox or []
    top = (east + 1, north + 1)
    item.geometry = _ring((west, south), (east, south), (east, north), top, (east, north), (west, north))
    assert make_valid(shape(item.geometry)).geom_type == "GeometryCollection"
    [scene] = usable([item])[0]
    assert scene.footprint.geom_type in ("Polygon", "MultiPolygon")
    assert scene.footprint.bounds == pytest.approx((west, south, east, north))
