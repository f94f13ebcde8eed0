from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pystac
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from tiny_catalog import GRID, S2_NAMES, bare_item
from xglof.cube.scenes import Scene, Selection, Step, choose, nearest, s1_steps, s2_steps
from xglof.cube.sources import ItemArchive, Period, parse_period
from xglof.errors import CatalogError

AREA = GRID.footprint("EPSG:4326", buffer=-0.25).geom


def _s2(name: str, when: str = "2022-07-10T04:50:00", baseline: str = "04.00", **more: Any) -> pystac.Item:
    properties = {"s2:processing_baseline": baseline, "s2:mgrs_tile": "45RVL"} | more
    item = bare_item(name, "sentinel-2-l2a", when, **properties)
    for band in (*S2_NAMES, "SCL"):
        item.add_asset(band, pystac.Asset(f"https://example.org/{name}/{band}.tif"))
    return item


def _s1(name: str, when: str, orbit: str) -> pystac.Item:
    item = bare_item(name, "sentinel-1-rtc", when, **{"sat:orbit_state": orbit})
    for band in ("vv", "vh"):
        item.add_asset(band, pystac.Asset(f"https://example.org/{name}/{band}.tif"))
    return item


def _chosen(
    items: Sequence[pystac.Item], modality: str = "S2L2A", period: str | None = None, **more: Any
) -> tuple[list[Scene], list[str]]:
    selection = Selection()
    archive = ItemArchive("test", tuple(items))
    chosen = choose(archive, modality, parse_period(period), AREA, selection, **more)
    assert selection.found == len(chosen.scenes) + len(selection.rejected)
    return list(chosen.scenes), selection.rejected


def test_reasons() -> None:
    beside = GeoBox.from_bbox((88, 28, 88.1, 28.1), resolution=0.01)
    far = bare_item("far", "sentinel-2-l2a", "2022-07-10T04:50:00", beside)
    touching = bare_item("touching", "sentinel-2-l2a", "2022-07-10T04:50:00", GRID.right)
    scenes, rejected = _chosen(
        [
            _s2("late", "2022-08-01T00:00:00"),
            far,
            touching,
            _s2("cloudy", **{"eo:cloud_cover": 60.5}),
            _s2("at the limit", **{"eo:cloud_cover": 60.0}),
            _s2("silent about cloud", "2022-07-11T04:50:00"),
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
    scenes, rejected = _chosen([_s2(f"i{text}", baseline=text) for text in order])
    assert [scene.id for scene in scenes] == ["iN0510"]
    assert sorted(rejected) == [
        f"i{text}: duplicate of a newer baseline" for text in ("02.14", "04.00", "05.09")
    ]


def test_other_tiles_and_moments_are_no_duplicates() -> None:
    scenes, _ = _chosen(
        [
            _s2("a", baseline="02.14"),
            _s2("b", **{"s2:mgrs_tile": "45RUL"}),
            _s2("c", "2022-07-10T04:50:05"),
            _s2("d", baseline="04.00", **{"s2:mgrs_tile": None, "grid:code": "MGRS-44RZZ"}),
            _s2("e", baseline="02.14", **{"s2:mgrs_tile": None}),
        ]
    )
    assert {scene.id for scene in scenes} == {"a", "b", "c", "d", "e"}


def test_missing_baseline_is_no_guess() -> None:
    with pytest.raises(CatalogError, match="item b has no s2:processing_baseline"):
        _chosen([_s2("a"), _s2("b", baseline="")])


def test_a_band_absent_from_one_item() -> None:
    short = _s2("short", "2022-07-11T04:50:00")
    del short.assets["B8A"]
    with pytest.raises(CatalogError, match=r"band B8A .* is absent from 1 of 2 S2L2A items"):
        _chosen([_s2("a"), short])


def test_time_of_the_dem_is_not_asked() -> None:
    item = bare_item("dem", "cop-dem-glo-30", "2021-04-22T00:00:00")
    item.add_asset("data", pystac.Asset("https://example.org/dem.tif"))
    scenes, _ = _chosen([item], "DEM", "2030")
    assert [scene.id for scene in scenes] == ["dem"]


def test_message_when_nothing_is_left() -> None:
    with pytest.raises(CatalogError, match=r"3 found in sentinel-2-l2a \(2 outside the time, 1 cloud cover"):
        _chosen(
            [_s2("a"), _s2("b"), _s2("c", "2023-01-01T00:00:00", **{"eo:cloud_cover": 99})],
            period="2023",
            max_cloud_cover=10,
        )


def test_scenes_of_a_day_and_their_offsets() -> None:
    scenes, _ = _chosen(
        [
            _s2("b", "2022-07-10T04:50:20", **{"s2:mgrs_tile": "45RUL"}),
            _s2("a", "2022-07-10T04:50:10", "03.01"),
            _s2("c", "2022-07-12T04:50:10.9"),
            _s2("d", "2022-07-10T04:50:30", "05.09", **{"s2:mgrs_tile": "45RUM"}),
        ]
    )
    steps = s2_steps(scenes)
    assert [[[scene.id for scene in group] for group in step.groups] for step in steps] == [
        [["a"], ["b", "d"]],
        [["c"]],
    ]
    assert steps[0].joined(lambda scene: scene.offset.baseline if scene.offset else "") == "03.01,04.00,05.09"
    assert steps[1].when.isoformat() == "2022-07-12T04:50:10+00:00"


def test_one_pass_over_midnight_utc_is_one_solar_day() -> None:
    grid = GeoBox.from_bbox((172, -44, 172.2, -43.8), resolution=0.01)  # 11.5 hours before UTC's midday
    area = grid.footprint("EPSG:4326").geom
    items = [
        bare_item("a", "sentinel-1-rtc", "2022-07-09T23:59:50", grid, **{"sat:orbit_state": "x"}),
        bare_item("b", "sentinel-1-rtc", "2022-07-10T00:00:10", grid, **{"sat:orbit_state": "x"}),
    ]
    for item in items:
        for band in ("vv", "vh"):
            item.add_asset(band, pystac.Asset("https://example.org/x.tif"))
    chosen = choose(ItemArchive("test", tuple(items)), "S1RTC", Period(), area, Selection())
    assert [step.joined(lambda scene: scene.id) for step in s1_steps(chosen.scenes)] == ["a,b"]


def test_ascending_and_descending_are_never_fused() -> None:
    scenes, _ = _chosen(
        [
            _s1("a", "2022-07-10T00:10:00", "descending"),
            _s1("b", "2022-07-10T00:10:25", "descending"),
            _s1("c", "2022-07-10T12:10:00", "ascending"),
        ],
        "S1RTC",
    )
    assert [step.joined(lambda scene: scene.id) for step in s1_steps(scenes)] == ["a,b", "c"]


def _radar(*days: str) -> list[Step]:
    scenes, _ = _chosen([_s1(day, f"2022-07-{day}T00:00:00", "ascending") for day in days], "S1RTC")
    return s1_steps(scenes)


@pytest.mark.parametrize(
    ("day", "gap", "expected"),
    [("08", 7, 0), ("12", 7, 1), ("10", 7, 0), ("10", 3.99, None), ("10", 4, 0), ("30", 7, None)],
)
def test_nearest_acquisition_and_ties(day: str, gap: float, expected: int | None) -> None:
    step = s2_steps(_chosen([_s2("a", f"2022-07-{day}T00:00:00")])[0])[0]
    assert nearest(step, _radar("06", "14"), gap) == expected
    assert nearest(step, [], gap) is None


def test_sun_angles() -> None:
    plain = {"s2:mean_solar_zenith": 62.0, "s2:mean_solar_azimuth": 155.0}
    both = plain | {"view:sun_elevation": 30.0, "view:sun_azimuth": 160.0}
    [a, b, c], _ = _chosen(
        [
            _s2("a", "2022-07-01T00:00:00", **plain),
            _s2("b", "2022-07-02T00:00:00", **both),
            _s2("c", "2022-07-03T00:00:00"),
        ]
    )
    assert (a.solar_elevation, a.solar_azimuth) == (28.0, 155.0)
    assert (b.solar_elevation, b.solar_azimuth) == (30.0, 160.0)
    assert math.isnan(c.solar_elevation)
    assert math.isnan(c.solar_azimuth)
