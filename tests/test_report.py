"""The report: whole, safe, readable without a net, a mouse or eyes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image

from lake_maps import lake_map
from report_page import Page, browse
from xglof.cube.flags import Flag
from xglof.errors import CubeError, OutputError
from xglof.lakes import find_lakes, lake_area
from xglof.lakes.series import flag_series
from xglof.lakes.tracking import track
from xglof.report import write_report

YEARS, STEPS = 5, 20
MODEL = '<b>net</b> & "co"'


@pytest.fixture(scope="module")
def run():
    """Four dates in each of five summers: a lake that drains in the last, one that splits, clouds."""
    times = [f"{year}-{month}-10" for year in range(2018, 2018 + YEARS) for month in ("06", "07", "08", "09")]
    lake = np.zeros((STEPS, 60, 80), "uint8")
    rng = np.random.default_rng(1)
    for step in range(STEPS):
        lake[step, 10:26, 10 : 30 + int(rng.integers(0, 2))] = 1
        lake[step, 40:52, 45 : 66 + int(rng.integers(0, 2))] = 1
    lake[12:, 10:26, 20] = 0
    lake[17:, 40:52, 50:] = 0
    flags = np.full(lake.shape, Flag.s2_used, "uint16")
    flags[6, :, 45:] |= np.uint16(Flag.cloud)
    lake[6, :, 45:] = 255
    dates = np.array(times, "datetime64[ns]")
    seg = lake_map(lake, flags=flags).assign_coords(time=dates)
    seg.attrs |= {"model": MODEL, "model_sha256": "ab" * 32, "threshold": 0.5, "caveat": "sees <water>"}
    ground = rng.integers(800, 1600, lake.shape)
    band = seg["lake"].copy(data=np.where(lake == 1, 400, ground).astype("uint16"))
    cube = xr.Dataset(dict.fromkeys(("B02", "B03", "B04"), band)).assign(flags=seg["flags"])
    cube.attrs |= {"catalog": "simulated-<i>valley</i>", "items_used": 20}
    lakes = track(find_lakes(seg))
    return {"cube": cube, "seg": seg, "lakes": lakes, "series": flag_series(lake_area(seg, lakes).compute())}


@pytest.fixture(scope="module")
def drained(run):
    """Alerts as they are found, those of the lake that drains."""
    from xglof.lakes.alerts import find_alerts

    alerts = find_alerts(run["series"])
    assert "drainage" in set(alerts["kind"])
    return alerts


@pytest.fixture(scope="module")
def report(run, drained, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    assert write_report(path, **run, alerts=drained, title="Lakes <of> a valley") == path
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
    return path


@pytest.fixture(scope="module")
def page(report):
    return Page.read(report)


def test_nothing_is_loaded_from_elsewhere(report, page):
    for tag, attrs in page.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster", "style"):
            value = attrs.get(name) or ""
            assert value.startswith(("data:image/png;base64,", "#")) or not value, (tag, value[:80])
    assert {tag for tag, _ in page.elements}.isdisjoint(
        {"script", "link", "iframe", "object", "base", "form"}
    )
    text = re.sub(r'data:image/png;base64,[^"]*', "", report.read_text())
    assert not re.search(r"https?:|url\(|@import|//\w", text)
    policy = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv")]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_text_of_data_is_text(page):
    assert MODEL in page.text
    assert "sees <water>" in page.text
    assert "Lakes <of> a valley" in page.text
    assert "simulated-<i>valley</i>" in page.text
    assert not page.all("b")
    assert not page.all("i")


def test_the_head_says_what_it_rests_on(page):
    assert "Simulated data: no satellite saw this." in page.text
    assert page.text.count("ab" * 32) == 1
    assert "20 dates, 2018-06-10 to 2022-09-10" in page.text


def test_alerts_come_first_with_their_dates(run, drained, page):
    names = [attrs["id"] for attrs in page.all("section")]
    assert names == ["alerts", "summary", "overview", "lakes", "cards", "lineage", "method", "terms"]
    row = drained[(drained["kind"] == "drainage") & (drained["status"] == "confirmed")].iloc[-1]
    assert str(row["first_changed"])[:10] == "2022-07-10"
    assert "Drainage, confirmed: first changed 2022-07-10" in page.text
    assert "1 false alarm in 100 lake-years" in page.text


def test_every_lake_is_in_the_table_and_links_lead_somewhere(run, page):
    for name in run["series"]["lake"].values:
        assert str(name) in page.text
    places = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(set(places)) == len(places)
    links = [attrs["href"][1:] for attrs in page.all("a")]
    assert links
    assert set(links) <= set(places)


def test_figures_are_those_of_the_series(run, page):
    one = run["series"].isel(lake=0)
    last = float(one["area"].dropna("time")[-1]) / 1e6
    assert f"{last:.4f} km²" in page.text
    assert " km² (95 %)" in page.text
    assert "Smallest detectable change" in page.text
    assert "million m³" in page.text
    assert "split" in page.text


def test_the_page_is_accessible(page):
    assert page.all("html")[0]["lang"] == "en"
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))
    images = page.all("img")
    assert len(images) >= 5
    assert all(len(image["alt"]) > 20 and int(image["width"]) > 300 for image in images)
    assert len({image["alt"] for image in images}) == len(images)
    assert all(cell.get("scope") in ("col", "row") for cell in page.all("th"))
    tags = [tag for tag, _ in page.elements]
    assert tags.count("h1") == 1
    assert tags.count("caption") == tags.count("table")


def test_without_an_alert_it_says_what_could_have_been_found(run, drained, tmp_path):
    page = Page.read(write_report(tmp_path / "r.html", **run, alerts=drained[:0], largest=1))
    assert "No alert at a budget of 1 false alarm in 100 lake-years." in page.text
    assert "Smallest detectable change" in page.text
    assert len(page.all("article")) == 1
    assert "1 lake of" in page.text


def test_composites_get_no_alerts(run, tmp_path):
    composite = {"composite": "median", "composite_window": "months"}
    series = run["series"].assign_attrs(composite)
    page = Page.read(write_report(tmp_path / "r.html", **(run | {"series": series}), largest=1))
    assert "No alert is looked for in composites" in page.text
    assert "median, months" in page.text


def test_a_place_without_a_lake_is_reported(run, tmp_path):
    seg = run["seg"].assign(lake=run["seg"]["lake"] * 0)
    lakes = track(find_lakes(seg))
    series = flag_series(lake_area(seg, lakes).compute())
    path = write_report(tmp_path / "r.html", cube=run["cube"], seg=seg, lakes=lakes, series=series)
    assert "No alert" in Page.read(path).text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: {"lakes": run["lakes"].drop(columns="lake_id")}, "no 'lake_id'"),
        (lambda run: {"series": run["series"].isel(time=0)}, "the series has no time"),
        (lambda run: {"series": run["series"].isel(time=slice(0, 0))}, "the series has a time but no date"),
        (lambda run: {"cube": run["cube"].isel(time=slice(0, 0))}, "the cube has a time but no date"),
        (lambda run: {"largest": -1}, "largest is -1"),
    ],
)
def test_what_cannot_be_reported_is_refused(run, tmp_path, change, message):
    with pytest.raises(CubeError, match=message):
        write_report(tmp_path / "r.html", **(run | change(run)))
    assert list(tmp_path.iterdir()) == []


def test_files_are_never_overwritten_unasked(run, drained, tmp_path):
    path = tmp_path / "r.html"
    path.write_text("mine")
    with pytest.raises(OutputError, match="is there already"):
        write_report(path, **run)
    assert path.read_text() == "mine"
    write_report(path, **run, alerts=drained[:0], largest=0, overwrite=True)
    assert "<!doctype html>" in path.read_text()
    for place, message in (
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "r.html", "is not there; make it first"),
        ("s3://bucket/r.html", "is an address"),
    ):
        with pytest.raises(OutputError, match=message):
            write_report(place, **run)


def test_a_failure_leaves_nothing(run, drained, tmp_path, monkeypatch):
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OutputError, match="No space left"):
        write_report(tmp_path / "r.html", **run, alerts=drained[:0], largest=0)
    assert list(tmp_path.iterdir()) == []


def test_a_browser_without_a_net_shows_alert_and_lakes(run, report, tmp_path):
    dom = browse(report, tmp_path / "profile", "--dump-dom")
    assert "Drainage, confirmed: first changed 2022-07-10" in dom
    for name in run["series"]["lake"].values:
        assert str(name) in dom
    assert dom.rstrip().endswith("</html>")


@pytest.mark.parametrize("width", [1200, 500])
def test_a_browser_paints_it(report, tmp_path, width):
    picture = tmp_path / "page.png"
    browse(report, tmp_path / "profile", f"--screenshot={picture}", f"--window-size={width},1600")
    with Image.open(picture) as image:
        assert image.size == (width, 1600)
        colours = image.convert("RGB").getcolors(1 << 24)
        assert len(colours) > 200  # the maps
        most, _ = max(colours)
        assert most < 0.95 * width * 1600


def test_an_alert_of_a_lake_without_a_card_is_no_link(run, drained, tmp_path, monkeypatch):
    monkeypatch.setattr("xglof.report.page.MOST_ALERT_CARDS", 0)
    page = Page.read(write_report(Path(tmp_path / "r.html"), **run, alerts=drained, largest=0))
    assert not page.all("a")
    assert not page.all("article")
    assert pd.unique(drained["lake"])[0] in page.text
