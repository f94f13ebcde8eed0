from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.control import GroundControlPoint

from scene_items import choose_from, s1_item, usable
from tiny_catalog import GRID, S1_GRID, bare_item, write_tif
from xglof.cube import open_cube
from xglof.cube.access import Access
from xglof.cube.harmonise import GRD_WARNING
from xglof.cube.providers import CDSE, OPERA, Product, Provider
from xglof.cube.reader import file_grid
from xglof.cube.scenes import Selection, choose
from xglof.cube.sources import ItemArchive, Period
from xglof.cube.steps import s1_steps
from xglof.errors import CatalogError, CubeError


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
    scenes, _ = usable(
        [
            s1_item("a", "2022-07-10T00:10:00", "descending"),
            s1_item("b", "2022-07-10T00:10:25", "descending"),
            s1_item("c", "2022-07-10T12:10:00", "ascending"),
        ],
        "S1RTC",
    )
    assert [step.joined(lambda scene: scene.id) for step in s1_steps(scenes)] == ["a,b", "c"]


def test_relative_orbits_are_never_fused() -> None:
    orbits = [12, 12, 85, 85, 12]
    times = ["10T12:10:00", "10T12:10:25", "10T11:00:00", "10T11:00:25", "22T12:10:00"]
    scenes, _ = usable(
        [
            s1_item(str(index), f"2022-07-{time}", "ascending", **{"sat:relative_orbit": orbit})
            for index, (orbit, time) in enumerate(zip(orbits, times, strict=True))
        ],
        "S1RTC",
    )
    assert [step.joined(lambda scene: scene.id) for step in s1_steps(scenes)] == ["2,3", "0,1", "4"]


def test_morning_and_evening_are_not_fused_where_no_orbit_is_stated() -> None:
    scenes, _ = usable(
        [
            s1_item("a", "2022-07-10T00:10:00"),
            s1_item("b", "2022-07-10T12:10:00"),
            s1_item("c", "2022-07-10T00:10:25"),
        ],
        "S1RTC",
    )
    assert [step.joined(lambda scene: scene.id) for step in s1_steps(scenes)] == ["a,c", "b"]


ORBITS = [
    s1_item("a", "2022-07-10T12:10:00", "ascending", **{"sat:relative_orbit": 12}),
    s1_item("b", "2022-07-11T00:10:00", "descending", **{"sat:relative_orbit": 121}),
    s1_item("c", "2022-07-12T12:10:00", "ascending", **{"sat:relative_orbit": 85}),
    s1_item("d", "2022-07-13T12:10:00"),
]


@pytest.mark.parametrize(
    ("orbit", "kept", "reasons"),
    [
        (None, "abcd", []),
        ("ascending", "ac", ["b: orbit descending and not ascending", "d: orbit not stated"]),
        ("descending", "b", ["a: orbit ascending and not descending", "c: orbit ascending and not descending",
                             "d: orbit not stated"]),
        (85, "c", ["a: relative orbit 12 and not 85", "b: relative orbit 121 and not 85",
                   "d: relative orbit not stated"]),
    ],
)  # fmt: skip
def test_only_some_orbits(orbit: Any, kept: str, reasons: list[str]) -> None:
    scenes, rejected = usable(ORBITS, "S1RTC", orbit=orbit)
    assert [scene.id for scene in scenes] == list(kept)
    assert rejected == reasons


def test_no_orbit_left_and_orbits_that_are_none() -> None:
    with pytest.raises(CatalogError, match=r"1 relative orbit 12 and not 7.*1 relative orbit not stated"):
        usable(ORBITS, "S1RTC", orbit=7)
    for wrong in (True, 0, 176, 12.0, "up"):
        with pytest.raises(CubeError, match=r"orbit=.* is not understood; expected 'ascending'"):
            usable(ORBITS, "S1RTC", orbit=wrong)


def test_polarisations_that_are_stated_and_not_enough() -> None:
    single = s1_item("hh", "2022-07-10T00:10:00", **{"sar:polarizations": ["HH"]})
    del single.assets["vh"]
    dual = s1_item("vv", "2022-07-10T00:10:00", **{"sar:polarizations": ["VV", "VH"]})
    scenes, rejected = usable([single, dual], "S1RTC")
    assert [scene.id for scene in scenes] == ["vv"]
    assert rejected == ["hh: polarisation HH without VV and VH"]


def test_scenes_without_both_bands_are_left_out_where_nothing_is_stated() -> None:
    dual, single, polar = (s1_item(name, "2022-07-10T00:10:00") for name in ("dual", "single", "polar"))
    del single.assets["vh"]
    polar.assets = {"hh": polar.assets["vv"], "hv": polar.assets["vh"]}
    scenes, rejected = usable([single, dual, polar], "S1RTC")
    assert [scene.id for scene in scenes] == ["dual"]
    assert rejected == ["single: no asset vh", "polar: no asset vv and vh"]
    with pytest.raises(CatalogError, match=r"2 found in .* \(1 no asset vh, 1 no asset vv and vh\)"):
        usable([single, polar], "S1RTC")


def _mosaic(month: int, tile: str = "45RVL", end: str = "") -> pystac.Item:
    start = f"2022-{month:02}-01T00:00:00"
    period = {"start_datetime": f"{start}Z", "end_datetime": end or f"2022-{month:02}-28T23:59:59Z"}
    return s1_item(
        f"Sentinel-1_IW_mosaic_2022_M{month:02}_{tile}", start, "", "sentinel-1-global-mosaics", **period
    )


def test_trap_monthly_mosaics_are_periods_and_no_acquisitions() -> None:
    items = [_mosaic(month, tile) for month in (6, 7, 8) for tile in ("45RVL", "45RUL")]
    chosen, selection = choose_from(items, "S1RTC", CDSE, period="2022-07-15/2022-08-02")
    steps = s1_steps(chosen.scenes)
    assert [len(step.scenes) for step in steps] == [2, 2]
    assert [step.when.isoformat()[:10] for step in steps] == ["2022-07-01", "2022-08-01"]
    assert [step.end.isoformat()[:10] for step in steps] == ["2022-07-28", "2022-08-28"]
    assert chosen.product.mosaic
    assert selection.rejected == [f"{item.id}: outside the time" for item in items[:2]]
    with pytest.raises(CatalogError, match="relative orbit not stated by a mosaic"):
        choose_from(items, "S1RTC", CDSE, orbit=12)


def test_a_mosaic_is_of_its_own_month_only() -> None:
    """Its end may be the first moment of the next month, its datetime any moment of its own."""
    items = [_mosaic(month, end=f"2022-{month + 1:02}-01T00:00:00Z") for month in (6, 7, 8)]
    for item in items:
        item.datetime = item.datetime and item.datetime.replace(day=16)
    for asked in ("2022-07", "2022-07-01/2022-07-10", "2022-07-01T00:00:00Z"):
        chosen, _ = choose_from(items, "S1RTC", CDSE, period=asked)
        assert [scene.id for scene in chosen.scenes] == [items[1].id]
        assert chosen.scenes[0].when.isoformat() == "2022-07-01T00:00:00+00:00"
    items[1].properties["end_datetime"] = "garbage"
    with pytest.raises(CatalogError, match="end_datetime is 'garbage'; expected a moment"):
        choose_from(items, "S1RTC", CDSE)


def test_an_acquisition_ends_when_it_begins() -> None:
    [scene] = usable(
        [s1_item("a", "2022-07-10T00:10:00", **{"end_datetime": "2022-07-10T00:10:25Z"})], "S1RTC"
    )[0]
    assert scene.end == scene.when


def test_mosaics_and_acquisitions_are_not_mixed() -> None:
    with pytest.raises(
        CatalogError, match=r"of sentinel-1-rtc \(such as a\) and of sentinel-1-global-mosaics"
    ):
        choose_from([s1_item("a", "2022-07-10T00:10:00", "ascending"), _mosaic(7)], "S1RTC")


def test_bursts_of_opera_are_passes_with_a_mask() -> None:
    def burst(place: str, made: str, hour: str = "00") -> pystac.Item:
        name = f"OPERA_L2_RTC-S1_{place}_20220710T{hour}1000Z_{made}T120000Z_S1A_30_v1.0"
        return s1_item(name, f"2022-07-10T{hour}:10:00", "", "OPERA_L2_RTC-S1_V1_1")

    items = [
        burst("T071-151200-IW1", "20220711"),
        burst("T071-151200-IW1", "20230101"),
        burst("T071-151201-IW1", "20220711"),
        burst("T064-135518-IW1", "20220711", "12"),
    ]
    chosen, selection = choose_from(items, "S1RTC", OPERA)
    assert selection.rejected == [f"{items[0].id}: duplicate of a later processing"]
    assert [len(step.scenes) for step in s1_steps(chosen.scenes)] == [2, 1]
    assert {(scene.orbit_state, scene.relative_orbit) for scene in chosen.scenes} == {
        ("descending", "71"),
        ("ascending", "64"),
    }
    assert chosen.bands == ("vv", "vh", "s1_mask")
    assert selection.repairs == {"orbit taken from the burst id": 3}


def test_ground_range_is_chosen_by_its_name_and_says_what_it_is() -> None:
    chosen, _ = choose_from([s1_item("a", "2022-07-10T00:10:00", "ascending", "sentinel-1-grd")], "S1GRD")
    assert (chosen.product.units, chosen.product.calibration) == ("digital_number", "")


def _ground_range(folder: Path, href: str) -> Provider:
    """An archive of calibrated ground range, whose two bands are one file."""
    item = bare_item("grd", "grd", "2022-07-10T00:10:00", S1_GRID, **{"sar:product_type": "GRD"})
    for band in ("vv", "vh"):
        item.add_asset(band, pystac.Asset(href))
    path = folder / "items.json"
    pystac.ItemCollection([item]).save_object(str(path))
    assets = {"vv": "vv", "vh": "vh"}
    product = Product("S1GRD", "grd", assets, "float32", 0, units="power", calibration="sigma0")
    return Provider("mine", str(path), (product,))


def _by_control_points(path: Path) -> str:
    """A file that only ground control points place, as those of Sentinel-1 GRD are."""
    points = [
        GroundControlPoint(row, column, 86.3 + 0.001 * column, 28.3 - 0.001 * row)
        for row in (0, 32, 64)
        for column in (0, 32, 64)
    ]
    profile = {"driver": "GTiff", "height": 64, "width": 64, "count": 1, "dtype": "float32"}
    with rasterio.open(path, "w", **profile, gcps=points, crs="EPSG:4326") as sink:
        sink.write(np.full((64, 64), 0.1, np.float32), 1)
    return str(path)


def test_ground_range_is_opened_with_a_warning(tmp_path: Path) -> None:
    href = write_tif(tmp_path / "flat.tif", np.full(S1_GRID.shape, 0.1, np.float32), S1_GRID, 0)
    with pytest.warns(UserWarning, match="over mountains use S1RTC") as caught:
        cube = open_cube(catalog=_ground_range(tmp_path, href), geobox=GRID, modalities=["S1GRD"])
    [place] = [warning.filename for warning in caught if str(warning.message) == GRD_WARNING]
    assert place == __file__
    assert cube.vv.attrs["product"] == "GRD sigma0"
    seen = cube.vv.values[np.isfinite(cube.vv.values)]
    assert seen.size > 0
    np.testing.assert_allclose(seen, -10, atol=1e-5)


@pytest.mark.parametrize("backend", ["odc-stac", "stackstac"])
def test_trap_ground_range_by_control_points_is_refused(tmp_path: Path, backend: Any) -> None:
    """odc-stac would read it over an ellipsoid without terrain, and stackstac would crash."""
    if backend == "stackstac":
        pytest.importorskip("stackstac")
    archive = _ground_range(tmp_path, _by_control_points(tmp_path / "grd.tif"))
    with (
        pytest.warns(UserWarning, match="knows no terrain"),
        pytest.raises(CatalogError, match=r"grd.tif has no map projection .*ground control points"),
    ):
        open_cube(catalog=archive, geobox=GRID, modalities=["S1GRD"], backend=backend)


def test_ground_range_as_archives_have_it_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    item = s1_item("a", "2022-07-10T00:10:00", "ascending", "sentinel-1-grd")
    with (
        pytest.warns(UserWarning, match="knows no terrain"),
        pytest.raises(CatalogError, match="uncalibrated digital numbers"),
    ):
        open_cube(catalog=[item], geobox=GRID, modalities=["S1GRD"])


@pytest.mark.skipif(
    not os.environ.get("XGLOF_SAMPLES"), reason="real files are not at hand; XGLOF_SAMPLES names their folder"
)
def test_a_real_file_by_control_points_is_refused() -> None:
    part = Path("s1_grd_gcps", "tests", "fixtures", "cog_gcps.tif")
    path = Path(os.environ["XGLOF_SAMPLES"]) / part
    with rasterio.open(path) as file:
        assert file.gcps[0]
    with pytest.raises(CatalogError, match=r"cog_gcps.tif has no map projection of its own"):
        file_grid(str(path), Access("test"))
