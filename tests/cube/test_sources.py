from __future__ import annotations

import json
import shutil
import socket
import traceback
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest

from stac_server import as_earth_search, dem_document, serve
from tiny_catalog import GRID, Written, bare_item, raw_band
from xglof.cube import open_cube
from xglof.cube.providers import EARTH_SEARCH, PLANETARY_COMPUTER, PROVIDERS
from xglof.cube.sources import ItemArchive, Period, asset_href, open_archive, parse_period
from xglof.errors import CatalogError, CubeError


def _utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        (None, None, None),
        ("2023", _utc(2023, 1, 1), _utc(2023, 12, 31, 23, 59, 59, 999999)),
        ("2024-02", _utc(2024, 2, 1), _utc(2024, 2, 29, 23, 59, 59, 999999)),
        ("2023-07/2023-09", _utc(2023, 7, 1), _utc(2023, 9, 30, 23, 59, 59, 999999)),
        ("2023-07-15", _utc(2023, 7, 15), _utc(2023, 7, 15, 23, 59, 59, 999999)),
        ("2023-07-15/..", _utc(2023, 7, 15), None),
        ("../2023", None, _utc(2023, 12, 31, 23, 59, 59, 999999)),
        ("2023-07-15T10:00:00Z/2023-07-15T12:00:00+02:00", _utc(2023, 7, 15, 10), _utc(2023, 7, 15, 10)),
    ],
)
def test_periods(text: str | None, start: datetime | None, end: datetime | None) -> None:
    assert parse_period(text) == Period(start, end)


@pytest.mark.parametrize(
    "text", ["20230715", "2023-W05", "summer", "2023-13", "2023-02-30", "2023/2024/2025", "", "..", 2023]
)
def test_texts_that_are_no_period(text: Any) -> None:
    with pytest.raises(CubeError, match="is not understood"):
        parse_period(text)


def test_interval_for_a_search() -> None:
    assert parse_period("2023-07/..").interval == "2023-07-01T00:00:00Z/.."
    assert parse_period(None).interval is None
    assert (
        parse_period("2023-07-15").widened(1.5).interval == "2023-07-13T12:00:00Z/2023-07-17T11:59:59.999999Z"
    )


def test_broken_catalogues(tmp_path: Path, written: Written) -> None:
    (tmp_path / "catalog.json").write_text("{ not json")
    with pytest.raises(CatalogError, match="cannot be read as a STAC catalogue"):
        open_cube(catalog=tmp_path)
    (tmp_path / "catalog.json").write_text('{"hello": 1}')
    with pytest.raises(CatalogError, match="cannot be read as a STAC catalogue"):
        open_cube(catalog=tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(written.root, broken)
    (broken / "A" / "A.json").write_text("{")
    with pytest.raises(
        CatalogError, match=r"cannot be read as a STAC catalogue \(.*A/A.json: JSONDecodeError"
    ):
        open_cube(catalog=broken)
    document = json.loads((written.root / "A" / "A.json").read_text())
    for key in ("properties", "id", "type"):
        (broken / "A" / "A.json").write_text(json.dumps({k: v for k, v in document.items() if k != key}))
        with pytest.raises(CatalogError, match=r"cannot be read as a STAC catalogue \(.*A/A.json: "):
            open_cube(catalog=broken)


def test_lists_that_are_no_items() -> None:
    with pytest.raises(CatalogError, match="empty list"):
        open_cube(catalog=[])
    with pytest.raises(CatalogError, match="holds a str; expected pystac items"):
        open_cube(catalog=["a"])


@pytest.mark.parametrize("escape", ["relative", "absolute", "file", "symlink", "gdal", "ftp"])
def test_assets_never_leave_the_catalogue(
    written: Written, tmp_path: Path, escape: str, no_compute: None
) -> None:
    root = tmp_path / "catalog"
    shutil.copytree(written.root, root)
    outside = tmp_path / "outside.tif"
    shutil.copy(root / "s2" / "A" / "B02.tif", outside)
    (root / "A" / "link.tif").symlink_to(outside)
    path = root / "A" / "A.json"
    document = json.loads(path.read_text())
    document["assets"]["B02"]["href"] = {
        "relative": "../../outside.tif",
        "absolute": str(outside),
        "file": f"file://{outside}",
        "symlink": "./link.tif",
        "gdal": "/vsizip/archive.zip/B02.tif",
        "ftp": "ftp://example.org/B02.tif",
    }[escape]
    path.write_text(json.dumps(document))
    with pytest.raises(CatalogError, match=r"item A, asset 'B02': .*(outside the catalogue|is not read)"):
        open_cube(catalog=root, geobox=GRID, modalities=["S2L2A"])


def test_relative_address_without_a_base(written: Written) -> None:
    item = written.items["A"].clone()
    item.set_self_href(None)
    with pytest.raises(CatalogError, match="set the item's self href"):
        open_cube(catalog=[item], geobox=GRID, modalities=["S2L2A"])


SECRET = "hunter2"  # noqa: S105


def _moody(handler: Any) -> None:
    """Give an API moods: refusals, moments of being busy, and collections that it tells of."""
    answer_get, answer_post, landing = handler.do_GET, handler.do_POST, handler._landing
    handler.refusal, handler.busy, handler.conformance, handler.collections = None, [], [], None

    def in_a_mood(self: Any) -> bool:
        if self.refusal:
            self._send(*self.refusal, {})
        elif self.busy:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._send(type(self).busy.pop(), b"later", {})
        else:
            return False
        return True

    def get(self: Any) -> None:
        held = self.collections or sorted({item["collection"] for item in self.items})
        documents = {name: _described(name) for name in held}
        if in_a_mood(self):
            return
        place = self.path.partition("?")[0].split("/")[1:]
        if place == ["collections"]:
            self._json({"collections": list(documents.values()), "links": []})
        elif place[0] == "collections" and place[1] in documents:
            self._json(documents[place[1]])
        else:
            self.path = self.path.partition("?")[0]
            answer_get(self)

    handler.do_GET = get
    handler.do_POST = lambda self: in_a_mood(self) or answer_post(self)
    handler._landing = lambda self: _with_collections(landing(self), self.conformance)


def _described(collection: str) -> dict[str, Any]:
    extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
    document = {"type": "Collection", "id": collection, "stac_version": "1.0.0", "description": "test"}
    return document | {"license": "other", "extent": extent, "links": []}


def _with_collections(landing: dict[str, Any], conformance: list[str]) -> dict[str, Any]:
    [base] = [link["href"] for link in landing["links"] if link["rel"] == "self"]
    data = {"rel": "data", "type": "application/json", "href": f"{base}collections"}
    return landing | {
        "conformsTo": [*landing["conformsTo"], *conformance],
        "links": [*landing["links"], *([data] if conformance else [])],
    }


@pytest.fixture
def api(written: Written, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Any]]:
    """An API whose items are spelt as Earth Search spells them."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve(written.root) as (url, handler):
        _moody(handler)
        for name, applied in (("A", False), ("B", True), ("C-right", False)):
            item = as_earth_search(written.items[name], f"{url}/files/s2/{name}", applied=applied)
            handler.items.append(item)
        handler.items.append(dem_document(written.items["dem"], f"{url}/files/dem/dem.tif"))
        yield url, handler


def test_an_api_is_searched_page_by_page_and_read_over_http(api: tuple[str, Any], written: Written) -> None:
    url, handler = api
    cube = open_cube(catalog=url, geobox=GRID, time="2021/2022", modalities=["S2L2A", "DEM"])
    assert cube.s2_items.values.tolist() == ["A", "B", "C-right"]
    assert cube.s2_offset.values.tolist() == [0, 0, 1000]
    assert cube.s2_offset_source.values.tolist() == ["flag"] * 3
    assert cube.attrs["catalog"] == url
    asked = ["sentinel-2-l2a", "sentinel-2-c1-l2a"]
    s2 = [body for body in handler.requests if body["collections"] == asked]
    assert [body.get("token", 0) for body in s2] == [0, 1, 2]
    assert s2[0]["datetime"] == "2021-01-01T00:00:00Z/2022-12-31T23:59:59.999999Z"
    assert len(s2[0]["bbox"]) == 4
    read = cube.B03.compute(scheduler="synchronous")
    np.testing.assert_array_equal(read[1], raw_band("B03"))
    local = open_cube(catalog=written.root, geobox=GRID, modalities=["DEM"])
    np.testing.assert_array_equal(cube.dem.compute(scheduler="synchronous"), local.dem.compute())


def test_an_api_needs_an_area(api: tuple[str, Any]) -> None:
    with pytest.raises(CubeError, match="aoi= is needed to search"):
        open_cube(catalog=api[0], modalities=["S2L2A"])


def test_an_api_may_not_name_local_files(api: tuple[str, Any], written: Written) -> None:
    url, handler = api
    handler.items[0]["assets"]["blue"]["href"] = str(written.root / "s2" / "A" / "B02.tif")
    with pytest.raises(CatalogError, match="may not name local files"):
        open_cube(catalog=url, geobox=GRID, modalities=["S2L2A"])


def test_an_api_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("xglof.cube.stac_api._RETRIES", 0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, never listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(CatalogError, match=r"did not answer as a STAC API .*check the network"):
            open_cube((86.4, 28.2, 86.5, 28.3), catalog=url)


def test_an_address_that_is_no_api(api: tuple[str, Any]) -> None:
    with pytest.raises(CatalogError, match="did not answer as a STAC API"):
        open_cube((86.4, 28.2, 86.5, 28.3), catalog=f"{api[0]}/files/dem/dem.tif")


def test_known_addresses_get_their_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pystac_client.Client.open", lambda url, **kwargs: url)
    for provider in PROVIDERS.values():
        assert open_archive(provider.name).provider is provider
        assert open_archive(provider.url + "/").provider is provider
    assert open_archive("https://example.org/stac").provider is None


def test_a_collection_nobody_knows() -> None:
    item = bare_item("x", "my-own-collection", "2022-07-10T00:00:00")
    said = r"no usable S2L2A item: it has the collections my-own-collection, and none of .*Provider"
    with pytest.raises(CatalogError, match=said):
        open_cube(catalog=[item], geobox=GRID)


def test_a_collection_that_an_api_does_not_know(api: tuple[str, Any]) -> None:
    url, handler = api
    handler.conformance = ["https://api.stacspec.org/v1.0.0/collections"]
    said = r"S1RTC item: it has the collections cop-dem-glo-30, sentinel-2-l2a, and none of sentinel-1-rtc"
    with pytest.raises(CatalogError, match=said):
        open_cube(catalog=url, geobox=GRID, modalities=["S1RTC"])
    handler.items[:] = [item for item in handler.items if item["id"] == "nothing"]
    handler.collections = ["sentinel-2-l2a"]
    with pytest.raises(CatalogError, match=r"no usable S2L2A item: 0 found in .*Check the area and the time"):
        open_cube(catalog=url, geobox=GRID, modalities=["S2L2A"])


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("when", ["opened", "searched"])
def test_a_token_that_an_api_refuses(api: tuple[str, Any], status: int, when: str) -> None:
    url, handler = api
    address = f"{url}?key={SECRET}"
    archive = open_archive(address) if when == "searched" else None
    handler.refusal = (status, f"the key {SECRET} has expired".encode())
    with pytest.raises(CatalogError, match=rf"refused the request \({status}\): a token or key is") as caught:
        (archive or open_archive(address)).find(["sentinel-2-l2a"], None, Period())
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert archive is None or archive.name == url


def test_an_api_that_fails_keeps_the_key_to_itself(api: tuple[str, Any], monkeypatch: Any) -> None:
    monkeypatch.setattr("xglof.cube.stac_api._RETRIES", 0)
    handler = api[1]
    handler.refusal = (500, b"no")
    with pytest.raises(CatalogError, match="did not answer as a STAC API") as caught:
        open_archive(f"{api[0].replace('//', f'//me:{SECRET}@')}?key={SECRET}")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("status", [429, 503])
def test_an_api_that_is_busy_is_asked_again(api: tuple[str, Any], status: int) -> None:
    url, handler = api
    archive = open_archive(url)
    handler.busy = [status, status]
    assert len(archive.find(["sentinel-2-l2a"], None, Period())) == 3
    assert handler.busy == []


@pytest.mark.parametrize(
    ("broken", "name"),
    [("type", "'B'"), ("properties", "'B'"), ("stac_version", "'B'"), ("id", "None")],
)
def test_a_broken_item_of_an_api_is_named(api: tuple[str, Any], broken: str, name: str) -> None:
    url, handler = api
    del handler.items[1][broken]
    with pytest.raises(
        CatalogError, match=rf"returned the item {name}, which is broken .* pass a list of the"
    ):
        open_cube(catalog=url, geobox=GRID, modalities=["S2L2A"])


def test_an_item_without_geometry(written: Written) -> None:
    item = written.items["A"].clone()
    item.geometry = None
    with pytest.raises(CatalogError, match="item A has no geometry; set its footprint"):
        open_cube(catalog=[item], geobox=GRID, modalities=["S2L2A"])
    item.geometry = {"type": "Polygon"}
    with pytest.raises(CatalogError, match=r"item A has a geometry that is no GeoJSON .*; set its footprint"):
        open_cube(catalog=[item], geobox=GRID, modalities=["S2L2A"])


def test_time_reversed_and_no_item_in_range(written: Written) -> None:
    with pytest.raises(CubeError, match=r"time='2023/2022' is reversed: it ends before it starts"):
        open_cube(catalog=written.root, geobox=GRID, time="2023/2022")
    with pytest.raises(
        CatalogError, match=r"no usable S2L2A item in 1999-01-01.*outside the time.*Check the"
    ):
        open_cube(catalog=written.root, geobox=GRID, time="1999")


def _collection(items: list[Any], path: Path) -> Path:
    pystac.ItemCollection(items).save_object(str(path))
    return path


def test_an_item_collection_on_disk_is_the_catalogue(written: Written, tmp_path: Path) -> None:
    root = tmp_path / "valley"
    shutil.copytree(written.root, root)
    items = list(pystac.Catalog.from_file(str(root / "catalog.json")).get_items())
    archive = open_archive(_collection(items, root / "items.json"))
    assert isinstance(archive, ItemArchive)
    assert (archive.name, archive.root, archive.provider) == ("items", root, None)
    assert {item.id for item in archive.items} == set(written.items)
    cube = open_cube(catalog=root / "items.json", geobox=GRID, time="2021", modalities=["S2L2A"])
    np.testing.assert_array_equal(cube.B03.compute(scheduler="synchronous")[0], raw_band("B03"))


def test_relative_addresses_of_an_item_collection_start_from_its_file(
    written: Written, tmp_path: Path
) -> None:
    shutil.copytree(written.root / "dem", tmp_path / "dem")
    document = written.items["dem"].to_dict(include_self_link=False, transform_hrefs=False)
    document["assets"]["data"]["href"] = "./dem/dem.tif"
    for kind in ("Feature", "FeatureCollection"):
        path = tmp_path / f"{kind}.json"
        whole = document if kind == "Feature" else {"type": kind, "features": [document]}
        path.write_text(json.dumps(whole | {"links": []}))
        [item] = open_archive(path).find(["cop-dem-glo-30"], None, Period())
        assert item.assets["data"].get_absolute_href() == str(tmp_path / "dem" / "dem.tif")


def test_an_item_collection_may_not_leave_its_folder(written: Written, tmp_path: Path) -> None:
    path = _collection(list(written.items.values()), tmp_path / "items.json")
    with pytest.raises(
        CatalogError, match=r"lies outside the catalogue's folder .* pass the items as a list"
    ):
        open_cube(catalog=path, geobox=GRID, modalities=["S2L2A"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"type": "FeatureCollection", "features": []}', "as a STAC ItemCollection .*it holds no items"),
        ('{"type": "FeatureCollection"}', "as a STAC ItemCollection .*it holds no items"),
        (
            '{"type": "FeatureCollection", "features": [{"type": "Feature"}]}',
            "item 1 of 1: ValueError: it has no id",
        ),
        ("[]", "cannot be read as a STAC catalogue"),
        ("\u2028 {", "cannot be read as a STAC catalogue"),
    ],
)
def test_broken_item_collections(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "items.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(CatalogError, match=said):
        open_archive(path)


def test_a_provider_is_a_catalogue(written: Written, api: tuple[str, Any]) -> None:
    folder = replace(PLANETARY_COMPUTER, name="valley", url=str(written.root), signing=None)
    archive = open_archive(folder)
    assert isinstance(archive, ItemArchive)
    assert (archive.name, archive.provider, archive.root) == ("valley", folder, written.root)
    remote = replace(EARTH_SEARCH, name="loopback", url=api[0])
    assert open_archive(remote).provider is remote
    assert len(open_archive(remote).find(["sentinel-2-l2a"], None, Period())) == 3


@pytest.mark.parametrize("wrong", [5, None, {"a": 1}.get, "nowhere.json", "nowhere.parquet"])
def test_what_is_no_catalogue(wrong: object) -> None:
    with pytest.raises(CatalogError, match=r"expected one of 'planetary-computer', 'earth-search', 'cdse'"):
        open_archive(wrong)


def test_a_list_of_items_of_a_known_archive_is_read_as_its_own() -> None:
    """Items of a search of Planetary Computer, passed as a list, must be signed."""
    url = "https://planetarycomputer.microsoft.com/api/stac/v1"
    items = [bare_item(name, "sentinel-2-l2a", "2023-07-01T05:00:00") for name in "ab"]
    for item in items:
        item.add_link(pystac.Link("self", f"{url}/collections/sentinel-2-l2a/items/{item.id}"))
    archive = open_archive(items)
    assert archive.provider is PLANETARY_COMPUTER
    assert archive.name == "2 items"
    stranger = bare_item("c", "sentinel-2-l2a", "2023-07-01T05:00:00")
    assert open_archive([*items, stranger]).provider is None
    stranger.add_link(pystac.Link("self", f"{url}.evil.example/items/c"))
    assert open_archive([stranger]).provider is None


@pytest.mark.parametrize("root", ["https://api.example.org", Path("/nowhere")])
@pytest.mark.parametrize(
    "address", [f"ftp://me:{SECRET}@host/x.tif?sig={SECRET}", f"/vsicurl/https://me:{SECRET}@host/x.tif?sig={SECRET}",
                f"/vsicurl/https://me:a@{SECRET}@host/x.tif"]
)  # fmt: skip
def test_an_address_that_is_refused_keeps_its_key_to_itself(root: Any, address: str) -> None:
    item = bare_item("i", "c", "2023-07-01T00:00:00")
    item.add_asset("a", pystac.Asset(address))
    with pytest.raises(CatalogError, match=r"item i, asset 'a': .*host/x.tif ") as caught:
        asset_href(item, "a", root)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_an_item_of_a_list_without_a_collection_is_refused_by_name(written: Written) -> None:
    item = written.items["A"].clone()
    item.collection_id, item.id = None, "stray"
    cube = open_cube(catalog=[item, written.items["B"]], geobox=GRID, modalities=["S2L2A"])
    assert cube.s2_items.values.tolist() == ["B"]
    assert cube.attrs["items_rejected"] == ["stray: without a collection"]


@pytest.mark.parametrize("form", ["folder", "collection", "api"])
def test_two_crss_in_a_document_are_refused(form: str, written: Written, tmp_path: Path) -> None:
    """pystac keeps one of proj:code and proj:epsg when it reads an item, without a word."""
    root = Path(shutil.copytree(written.root, tmp_path / "catalog"))
    path = next(root.rglob("A.json"))
    document = json.loads(path.read_text())
    document["properties"] |= {"proj:code": "EPSG:32645", "proj:epsg": 32644}
    path.write_text(json.dumps(document))
    refused = pytest.raises(CatalogError, match="proj:code is EPSG:32645 and proj:epsg is 32644; expected")
    if form == "folder":
        with refused:
            open_archive(root)
    elif form == "collection":
        saved = tmp_path / "items.json"
        saved.write_text(json.dumps({"type": "FeatureCollection", "features": [document]}))
        with refused:
            open_archive(saved)
    else:
        with serve(root) as (url, handler), refused:
            handler.items = [document | {"collection": "sentinel-2-l2a", "links": []}]
            open_cube(catalog=url, geobox=GRID, modalities=["S2L2A"])


def test_a_grid_away_from_its_footprint_is_refused(written: Written) -> None:
    """Code of one zone, footprint in another: nothing would be found where it was looked for."""
    item = written.items["A"].clone()
    item.properties["proj:code"] = "EPSG:32644"
    for asset in item.assets.values():
        asset.extra_fields |= {"proj:shape": [240, 240], "proj:transform": list(GRID.transform)[:6]}
    with pytest.raises(CatalogError, match="item A: by its grid in EPSG:32644 its files lie at 80"):
        open_cube(catalog=[item], geobox=GRID, modalities=["S2L2A"])
