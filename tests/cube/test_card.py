from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import odc.geo.xr
import pytest
import xarray as xr
from odc.geo.geobox import GeoBox

from counting_array import on_disk
from lake_maps import UTM, lake_map
from xglof import open_cube
from xglof.cube import card_facts
from xglof.cube.card import card_html, card_text
from xglof.cube.card_facts import bytes_text, card_of
from xglof.cube.flags import Flag

VOID = {"br", "hr", "img", "input", "link", "meta"}
HOSTILE = "<script>alert('x')</script>\x1b[31m\" onload=\"y"


class Page(HTMLParser):
    """What is in a piece of HTML; fails where tags do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if self.open[-1:] != ["style"] else ""


def cube_of(flags: np.ndarray) -> xr.Dataset:
    """A cube of two bands in memory, with flags and what comes from an archive."""
    cube = lake_map(flags > 0, flags=flags).drop_vars("lake")
    steps = len(flags)
    bands = {name: cube["flags"].copy(data=np.full(flags.shape, 500, "uint16")) for name in ("B02", "B03")}
    coords = {
        "s2_items": ("time", [f"S2-{step}" for step in range(steps)]),
        "s1_items": ("time", [""] * steps),
        "orbit_state": ("time", ["ascending"] * steps),
        "s1_gap_days": ("time", [1.25] * steps),
    }
    attrs = {
        "catalog": "tiny",
        "items_found": 5,
        "items_used": 3,
        "items_rejected": ["A: cloud cover 90 % above 60 %", "B: outside the time"],
        "items_repaired": ["C: rows run north"],
    }
    return cube.assign(bands).assign_coords(coords).assign_attrs(attrs)


@pytest.fixture
def cube() -> xr.Dataset:
    flags = np.zeros((3, 20, 40), "uint16")
    flags[1, :10] = Flag.cloud
    flags[2] = Flag.s2_nodata
    return cube_of(flags)


def test_a_cube_tells_grid_dates_sensors_items_and_shares(cube: xr.Dataset) -> None:
    facts = dict(card_of(cube).facts)
    assert facts["grid"] == "EPSG:32645, 20 x 40 pixels of 10 m"
    west, south, east, north = UTM[:20, :40].geographic_extent.boundingbox.bbox
    numbers = [float(number) for number in re.findall(r"([\d.]+)°", facts["bounds"])]
    np.testing.assert_allclose(numbers, [west, east, south, north], atol=1e-4)
    assert facts["dates"] == "3, 2023-07-01 to 2023-07-21"
    assert facts["sensors"] == "Sentinel-2 L2A (B02, B03)"
    assert facts["items"] == "5 found in tiny, 3 used, 2 rejected, 1 repaired"
    assert facts["pixels"] == "14.4 kB in 3 variables, in memory"
    dates = card_of(cube).dates
    assert dates.share == (1.0, 0.5, 0.0)
    assert dates.caption == "observed: 50% on average"
    text = card_text(cube)
    assert text.splitlines()[0] == "<xglof cube>"
    assert all(fact in text for fact in facts.values())
    page = Page(card_html(cube))
    assert all(fact in page.text for fact in facts.values())
    told = ("S2-2", "100%", "1.2", "2 rejected", "A: cloud cover 90 % above 60 %", "C: rows run north")
    assert all(text in page.text for text in told)
    assert ("title", "2023-07-11: 50% observed") in page.attributes
    assert ("style", "height:50.0%") in page.attributes


def test_the_accessor_shows_it(cube: xr.Dataset) -> None:
    assert repr(cube.glof) == card_text(cube)
    assert cube.glof._repr_html_() == card_html(cube)


@pytest.mark.usefixtures("no_compute")
def test_nothing_lazy_is_computed(cube: xr.Dataset) -> None:
    lazy = cube.chunk(time=1)
    lazy = lazy.assign_coords(s2_items=lazy["s2_items"].chunk(time=1))
    assert "not read yet" in card_text(lazy)
    Page(card_html(lazy))
    assert card_of(lazy).dates.share is None


def test_nothing_is_read_from_a_file(cube: xr.Dataset) -> None:
    flags, counting = on_disk(cube["flags"])
    stored = cube.assign(flags=flags)
    assert "observed: not read yet" in card_text(stored)
    Page(card_html(stored))
    assert counting.largest == 0


def test_cloud_cover_stands_in_for_what_was_not_read(cube: xr.Dataset) -> None:
    lazy = cube.chunk().assign_coords(cloud_cover=("time", [0.0, 30.0, np.nan]))
    dates = card_of(lazy).dates
    assert dates.means == "cloud"
    np.testing.assert_allclose(dates.share, [0, 0.3, np.nan])
    page = Page(card_html(lazy))
    assert ("title", "2023-07-11: 30% cloud") in page.attributes
    assert ("title", "2023-07-21: unknown") in page.attributes
    assert "cloud cover as the items state it" in page.text
    known = lazy.assign_coords(s2_observed=("time", [1.0, 0.25, 0.0]))
    assert card_of(known).dates.share == (1.0, 0.25, 0.0)


def test_too_many_pixels_are_not_counted_for_a_picture(
    cube: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card_facts, "_MOST_PIXELS", cube["flags"].size - 1)
    assert card_of(cube).dates.share is None
    assert "not counted here; .glof.coverage() counts it" in card_text(cube)


def test_radar_alone_is_observed_where_it_has_data() -> None:
    flags = np.zeros((1, 4, 4), "uint16")
    flags[0, :1] = Flag.s1_nodata
    cube = cube_of(flags).rename(B02="vv", B03="vh").drop_vars("s2_items")
    cube["vv"].attrs["product"] = "RTC gamma0"
    assert card_of(cube).dates.share == (0.75,)
    assert dict(card_of(cube).facts)["sensors"] == "Sentinel-1 RTC gamma0 (vv, vh)"


def test_a_segmentation_tells_its_model_and_what_it_saw() -> None:
    lake = np.zeros((2, 10, 10), "uint8")
    lake[1, :4] = 255
    seg = lake_map(lake, flags=lake * 0).assign_coords(s2_items=("time", ["a", "b"]))
    seg.attrs |= {"model": "water-index", "caveat": "thresholds"}
    assert card_text(seg).splitlines()[0] == "<xglof segmentation>"
    facts = dict(card_of(seg).facts)
    assert facts["sensors"] == "made from Sentinel-2 L2A"
    assert facts["model"] == "water-index: thresholds"
    assert card_of(seg).dates.share == (1.0, 0.6)
    assert "items" not in facts


def test_what_an_archive_says_is_text_and_nothing_else(cube: xr.Dataset) -> None:
    hostile = cube.assign_coords(s2_items=("time", [HOSTILE] * 3), orbit_state=("time", [HOSTILE] * 3))
    names = ("catalog", "items_found", "items_rejected", "items_repaired")
    hostile.attrs |= {name: [HOSTILE] if name.startswith("items_re") else HOSTILE for name in names}
    hostile["B02"].attrs["product"] = HOSTILE
    for data in (hostile, hostile.assign(lake=hostile["flags"]).assign_attrs(model=HOSTILE, caveat=HOSTILE)):
        page = Page(card_html(data))
        assert "script" not in page.tags
        assert not any(name.startswith("on") for name, _ in page.attributes)
        assert "alert('x')" in page.text
        assert "\x1b" not in card_text(data) + page.text


def test_html_needs_nothing_from_elsewhere(cube: xr.Dataset) -> None:
    text = card_html(cube)
    assert not re.search(r"https?:|url\(|@import|<script|<link|src=", text)
    assert set(Page(text).tags) >= {"style", "dl", "table", "details"}


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


BARE = xr.Dataset({"a": (("time", "y", "x"), np.zeros((2, 3, 4)))})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (xr.Dataset(), "no variables"),
        (BARE, "none: no rows and columns with coordinates"),
        (BARE, "2 steps without dates"),
        (BARE.assign_coords(y=[3.0, 2, 1], x=[0.0, 1, 2, 3]), "without a CRS"),
        (BARE.assign_coords(time=["spring", "autumn"]), "2, spring to autumn"),
        (BARE.assign_coords(time=np.array(["NaT", "2020-01-01"], "M8[ns]")), "2, NaT to 2020-01-01"),
        (BARE.isel(time=slice(0, 0)).assign_coords(time=np.array([], "M8[ns]")), "dates"),
        (BARE.assign_coords(lat=(("y", "x"), np.zeros((3, 4)))), "no band of Sentinel-1"),
        (xr.Dataset({1: ("q", [1]), ("a", 2): ("q", [2])}), "2 variables"),
        (BARE.assign_attrs(items_found=Unprintable(), catalog=Unprintable()), "not readable (RuntimeError)"),
        (BARE.assign_attrs(items_found=2.5, items_rejected=3, items_repaired=None), "3 rejected"),
        (BARE.assign_attrs(items_found=np.int64(7), items_rejected="A: cut"), "7 found, 1 rejected"),
        (BARE.assign_attrs(items_found=1, items_repaired={"transform": 2}), "2 repaired"),
        (BARE.assign_coords(time=[1, 2]).assign(flags=("time", [1, 2])), "not counted here"),
        (BARE.assign_coords(time=[1, 2]).assign(flags=BARE["a"] * 1.5), "not counted here"),
        (xr.Dataset(coords={"time": np.datetime64("2020-05-06", "ns")}), "dates    2020-05-06"),
    ],
)
def test_any_dataset_has_a_card(data: xr.Dataset, said: str) -> None:
    assert said in card_text(data)
    Page(card_html(data))


def test_a_grid_in_degrees_over_the_day_line() -> None:
    grid = GeoBox.from_bbox((179.5, -17.0, 180.5, -16.0), "EPSG:4326", resolution=0.1)
    data = xr.Dataset({"dem": odc.geo.xr.wrap_xr(np.zeros(grid.shape, "float32"), grid)})
    facts = dict(card_of(data).facts)
    assert facts["grid"] == "EPSG:4326, 10 x 10 pixels of 0.1 °"
    assert "17.0000°S to 16.0000°S" in facts["bounds"]


def test_many_dates_and_reasons_are_cut_short() -> None:
    cube = cube_of(np.zeros((150, 1, 1), "uint16"))
    cube.attrs["items_rejected"] = [f"item-{number}: no" for number in range(150)]
    page = Page(card_html(cube))
    assert page.tags.count("tr") == 101
    assert page.tags.count("i") == 150  # but every date has its bar
    assert page.text.count("and 50 more") == 2


def test_sizes_in_words() -> None:
    assert [bytes_text(number) for number in (0, 999, 1000, 12_345_678, 3.2e9, 7e15)] == [
        "0 B", "999 B", "1.0 kB", "12.3 MB", "3.2 GB", "7000.0 TB",
    ]  # fmt: skip


def test_a_simulated_cube_before_and_after_reading(simulated: Path) -> None:
    cube = open_cube(catalog=simulated, time="2021", modalities=("S2L2A", "DEM"))
    assert "not read yet" in card_text(cube)
    assert "Sentinel-2 L2A (12 bands, SCL); Copernicus DEM (dem)" in card_text(cube)
    read = cube.assign(flags=cube["flags"].compute())
    np.testing.assert_allclose(card_of(read).dates.share, cube.glof.coverage()["s2_observed"])
