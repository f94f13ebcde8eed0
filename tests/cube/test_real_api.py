"""Search and reading through a real STAC API: stac-fastapi on pgstac, as ``.ci/stac_api.sh`` starts it."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import requests
import shapely
import xarray as xr
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from real_api import LIGHT, light_documents, loaded, matching, tiny_documents
from stac_server import serve
from tiny_catalog import GRID, Written
from xglof.cube import open_cube
from xglof.cube.sources import Period, open_archive, parse_period
from xglof.errors import CatalogError, CubeError

URL = os.environ.get("XGLOF_STAC_API", "")
pytestmark = pytest.mark.skipif(
    not URL,
    reason="no real STAC API is at hand; `.ci/stac_api.sh pytest` starts one and names it in XGLOF_STAC_API",
)
LIGHT_ITEMS = light_documents()
SECOND = timedelta(seconds=1)


@pytest.fixture(scope="module")
def api(written: Written) -> Iterator[str]:
    """The API with the tiny catalogue, its files behind a server of their own, and the light items."""
    with pytest.MonkeyPatch.context() as environment, serve(written.root) as (files, _):
        environment.setenv("NO_PROXY", "127.0.0.1")
        environment.setenv("no_proxy", "127.0.0.1")
        items = tiny_documents(written, f"{files}/files") | {LIGHT: LIGHT_ITEMS}
        with loaded(URL, items):
            yield URL


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Bodies of the searches that are sent while the test runs."""
    bodies: list[dict[str, Any]] = []
    send = requests.Session.send

    def recorded(
        self: requests.Session, request: requests.PreparedRequest, **kwargs: Any
    ) -> requests.Response:
        if request.method == "POST" and str(request.url).endswith("/search"):
            bodies.append(json.loads(bytes(request.body)))  # type: ignore[arg-type]
        return send(self, request, **kwargs)

    monkeypatch.setattr(requests.Session, "send", recorded)
    return bodies


def _utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


def test_every_page_is_asked_for_once_and_nothing_is_lost_or_doubled(
    api: str, searches: list[dict[str, Any]]
) -> None:
    found = [item.id for item in open_archive(api).find([LIGHT], None, Period())]
    assert Counter(found) == Counter(document["id"] for document in LIGHT_ITEMS)
    pages = math.ceil(len(LIGHT_ITEMS) / searches[0]["limit"])
    assert len(searches) == pages >= 3
    tokens = [body.get("token") for body in searches]
    assert tokens[0] is None
    assert len(set(tokens)) == pages


@pytest.mark.parametrize(
    "bounds",
    [(86, 27, 86.4, 27.4), (86.9, 27.9, 86.901, 27.901), (80, 20, 95, 35), (0, 0, 1, 1), (178, 26, 180, 28)],
)
def test_a_search_by_bounds_goes_by_footprints(api: str, bounds: tuple[float, ...]) -> None:
    found = {item.id for item in open_archive(api).find([LIGHT], bounds, Period())}
    assert found == matching(LIGHT_ITEMS, shapely.box(*bounds), Period())


def test_the_boxes_of_the_light_items_would_find_too_much() -> None:
    area = shapely.box(86.9, 27.9, 86.901, 27.901)
    by_box = {d["id"] for d in LIGHT_ITEMS if shapely.box(*d["bbox"]).intersects(area)}
    assert 0 < len(matching(LIGHT_ITEMS, area, Period())) < len(by_box)


_MOMENTS = st.none() | st.integers(-10, 375).map(lambda day: _utc(2022, 1, 1) + timedelta(days=day))
_EDGES = st.tuples(st.integers(850, 890), st.integers(260, 300), st.integers(1, 20), st.integers(1, 20))


_PHASES = [Phase.explicit, Phase.reuse, Phase.generate]  # to shrink a failure asks the server for minutes


@given(edges=st.none() | _EDGES, ends=st.tuples(_MOMENTS, _MOMENTS))
@settings(max_examples=40, deadline=None, phases=_PHASES)
def test_any_bounds_in_any_period(
    api: str, edges: tuple[int, ...] | None, ends: tuple[datetime | None, datetime | None]
) -> None:
    if ends[0] is not None and ends[1] is not None:
        ends = (min(ends[0], ends[1]), max(ends[0], ends[1]))
    bounds = area = None
    if edges is not None:
        west, south, width, height = edges
        bounds = (west / 10, south / 10, (west + width) / 10, (south + height) / 10)
        area = shapely.box(*bounds)
    period = Period(*ends)
    found = {item.id for item in open_archive(api).find([LIGHT], bounds, period)}
    assert found >= matching(LIGHT_ITEMS, area, period)
    assert found <= matching(LIGHT_ITEMS, area, period.widened(SECOND / timedelta(days=1)))


@pytest.mark.parametrize(
    ("before", "after", "there"), [(0, 0, True), (0, 1, True), (1, 0, True), (-1, 1, False)]
)
def test_both_ends_of_a_period_belong_to_it(api: str, before: int, after: int, there: bool) -> None:
    properties = LIGHT_ITEMS[1]["properties"]
    when = datetime.fromisoformat(properties["datetime"])
    period = Period(when - before * SECOND, when + after * SECOND)
    found = {item.id for item in open_archive(api).find([LIGHT], None, period)}
    assert (LIGHT_ITEMS[1]["id"] in found) is there


@pytest.mark.parametrize("time", ["2023-03-31", "2023-03-31T23:59:59.5Z", "../2023-03-31T23:59:59.5Z"])
def test_a_fraction_of_the_last_second_belongs_to_a_period(api: str, time: str) -> None:
    period = parse_period(time)
    assert "last-half-second" in {item.id for item in open_archive(api).find([LIGHT], None, period)}


@pytest.mark.parametrize(
    "area",
    [
        shapely.Polygon([(86, 27), (88, 29), (88, 28.9), (86.1, 27)]),  # its box holds nearly all items
        shapely.union(shapely.box(179, 27, 180, 28), shapely.box(-180, 27, -178.5, 28)),
    ],
)
def test_a_search_by_intersection(api: str, area: Any) -> None:
    search = open_archive(api).client.search(collections=[LIGHT], intersects=area, limit=50)  # type: ignore[attr-defined]
    pages = [[item.id for item in page] for page in search.pages()]
    found = [name for page in pages for name in page]
    assert Counter(found) == Counter(matching(LIGHT_ITEMS, area, Period()))
    assert 0 < len(found) < len(LIGHT_ITEMS) / 2


def test_time_reversed_is_refused_before_anything_is_asked(api: str, searches: list[dict[str, Any]]) -> None:
    with pytest.raises(CubeError, match=r"time='2023/2022' is reversed"):
        open_cube(catalog=api, geobox=GRID, time="2023/2022")
    assert searches == []


def test_what_the_api_refuses_is_said(api: str) -> None:
    reversed_period = Period(_utc(2023, 1, 1), _utc(2022, 1, 1))
    with pytest.raises(CatalogError, match="Begin date after end date"):
        open_archive(api).find([LIGHT], None, reversed_period)


def test_an_unknown_collection_holds_nothing_and_others_are_named(api: str) -> None:
    archive = open_archive(api)
    assert archive.find(["xglof-tests-absent"], None, Period()) == []
    assert LIGHT in archive.held_instead(["xglof-tests-absent"])
    assert archive.held_instead(["xglof-tests-absent", "sentinel-1-rtc"]) == ()


def test_collections_are_told_apart(api: str, written: Written) -> None:
    archive = open_archive(api)
    for collection in ("sentinel-2-l2a", "sentinel-1-rtc", "cop-dem-glo-30"):
        held = {item.id for item in archive.find([collection], None, Period())}
        assert held == {name for name, item in written.items.items() if item.collection_id == collection}
    both = archive.find(["sentinel-1-rtc", "cop-dem-glo-30"], None, Period())
    assert Counter(item.collection_id for item in both) == {"sentinel-1-rtc": 3, "cop-dem-glo-30": 1}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"geobox": GRID, "time": "1999"}, r"no usable S2L2A item in 1999-01-01T00:00:00Z/.*: 0 found in"),
        ({"aoi": (10.0, 46.0, 10.02, 46.02)}, r"no usable S2L2A item: 0 found in sentinel-2-l2a"),
    ],
)
def test_nothing_found_says_what_was_asked(api: str, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(CatalogError, match=said) as caught:
        open_cube(catalog=api, **asked)
    assert api in str(caught.value)
    assert "Check the area and the time" in str(caught.value)


@pytest.mark.parametrize("time", [None, "2022-07"])
def test_a_cube_equals_that_of_the_static_catalogue(
    api: str, written: Written, time: str | None, no_compute: None
) -> None:
    remote = open_cube(catalog=api, geobox=GRID, time=time)
    local = open_cube(catalog=written.root, geobox=GRID, time=time)
    assert remote.attrs["catalog"] == api
    with_values = [cube.drop_attrs(deep=False).compute(scheduler="synchronous") for cube in (remote, local)]
    xr.testing.assert_identical(*with_values)
    assert np.count_nonzero(with_values[0].B03) > 0
