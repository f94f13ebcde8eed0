from __future__ import annotations

import json
import shutil
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stac_server import as_earth_search, dem_document, serve
from tiny_catalog import GRID, Written, bare_item, raw_band
from xglof.cube import open_cube
from xglof.cube.providers import EARTH_SEARCH, PLANETARY_COMPUTER
from xglof.cube.reader import signer
from xglof.cube.sources import Period, open_archive, parse_period
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
    assert parse_period("2023-07-15").widened(1.5).interval == "2023-07-13T12:00:00Z/2023-07-17T11:59:59Z"


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
    with pytest.raises(CatalogError, match="cannot be read as a STAC catalogue"):
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


@pytest.fixture
def api(written: Written, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Any]]:
    """An API whose items are spelt as Earth Search spells them."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve(written.root) as (url, handler):
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
    s2 = [body for body in handler.requests if body["collections"] == ["sentinel-2-l2a"]]
    assert [body.get("token", 0) for body in s2] == [0, 1, 2]
    assert s2[0]["datetime"] == "2021-01-01T00:00:00Z/2022-12-31T23:59:59Z"
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
    monkeypatch.setattr("xglof.cube.sources._RETRIES", 0)
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
    for provider in (PLANETARY_COMPUTER, EARTH_SEARCH):
        assert open_archive(provider.name).provider is provider
        assert open_archive(provider.url + "/").provider is provider
    assert open_archive("https://example.org/stac").provider is None


def test_signing_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "planetary_computer", None)
    with pytest.raises(CatalogError, match=r'pip install "xglof\[planetary-computer\]"'):
        signer(PLANETARY_COMPUTER)
    assert signer(EARTH_SEARCH)("x") == "x"
    assert signer(None)("x") == "x"


def test_a_collection_nobody_knows() -> None:
    item = bare_item("x", "my-own-collection", "2022-07-10T00:00:00")
    with pytest.raises(CatalogError, match="0 found in sentinel-2-l2a"):
        open_cube(catalog=[item], geobox=GRID)
