"""A real STAC API (``.ci/stac_api.sh`` starts one): what tests load into it, and what should come back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import requests
import shapely

from tiny_catalog import Written
from xglof.cube.sources import Period

LIGHT = "xglof-tests-light"
_OURS = "Loaded by the tests of xglof, which remove it"
_TIMEOUT_S = 60


@contextmanager
def loaded(url: str, items: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[None]:
    """Hold items, by collection, in an API through its transaction endpoints; their collections go after."""
    with requests.Session() as session:
        session.trust_env = False  # no proxy stands before the loopback
        try:
            for collection, documents in items.items():
                _remove(session, url, collection)
                _send(session, f"{url}/collections", _collection(collection))
                page = {"type": "FeatureCollection", "features": list(documents)}
                _send(session, f"{url}/collections/{collection}/items", page)
            yield
        finally:
            for collection in items:
                _remove(session, url, collection)


def _send(session: requests.Session, url: str, document: Mapping[str, Any]) -> None:
    answer = session.post(url, json=document, timeout=_TIMEOUT_S)
    assert answer.status_code == 201, answer.text


def _remove(session: requests.Session, url: str, collection: str) -> None:
    """Remove a collection that an earlier run left, and refuse to touch one that no test made."""
    there = session.get(f"{url}/collections/{collection}", timeout=_TIMEOUT_S)
    if there.status_code == 404:
        return
    assert there.json().get("description") == _OURS, f"{url} has a {collection} of its own; give an empty API"
    session.delete(f"{url}/collections/{collection}", timeout=_TIMEOUT_S).raise_for_status()


def _collection(name: str) -> dict[str, Any]:
    extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
    return {
        "type": "Collection", "stac_version": "1.0.0", "id": name, "description": _OURS,
        "license": "Apache-2.0", "links": [], "extent": extent,
    }  # fmt: skip


def tiny_documents(written: Written, files: str) -> dict[str, list[dict[str, Any]]]:
    """The tiny catalogue's items by collection, their assets under an address instead of its folder."""
    documents: dict[str, list[dict[str, Any]]] = {}
    for item in written.items.values():
        document = item.to_dict(include_self_link=False, transform_hrefs=False) | {"links": []}
        for name, asset in item.assets.items():
            path = str(asset.get_absolute_href()).removeprefix(f"{written.root}/")
            document["assets"][name]["href"] = f"{files}/{path}"
        documents.setdefault(str(item.collection_id), []).append(document)
    return documents


def light_documents(count: int = 600) -> list[dict[str, Any]]:
    """Items without assets: triangles within two degrees, moments in whole seconds; some last a few days.

    A triangle's box is twice its size, so that a search by boxes finds too much. Two more lie on either
    side of the antimeridian, and one has a moment in fractions of a second.
    """
    rng = np.random.default_rng(11)
    start = datetime(2022, 1, 1, tzinfo=UTC)
    corners = rng.uniform((86, 27), (88, 29), (count, 1, 2)) + rng.uniform(-0.2, 0.2, (count, 3, 2))
    seconds = rng.integers(0, 365 * 86400, count)
    documents = [
        _light(f"light-{i:03d}", corners[i].round(3), start + timedelta(seconds=int(seconds[i])), i % 50 == 0)
        for i in range(count)
    ]
    last = datetime(2023, 3, 31, 23, 59, 59, 500_000, tzinfo=UTC)
    return [
        *documents,
        _light("west-of-the-line", [(178, 27), (179, 27), (178, 28)], start),
        _light("east-of-the-line", [(-179, 27), (-178, 27), (-178, 28)], start),
        _light("last-half-second", [(86.5, 27.5), (87.5, 27.5), (87.5, 28.5)], last),
    ]


def _light(name: str, corners: Any, when: datetime, lasting: bool = False) -> dict[str, Any]:
    footprint = shapely.Polygon(corners)
    moments: dict[str, str | None] = {"datetime": _text(when)}
    if lasting:
        end = when + timedelta(days=3)
        moments = {"datetime": None, "start_datetime": _text(when), "end_datetime": _text(end)}
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": name, "collection": LIGHT, "assets": {},
        "links": [], "geometry": shapely.geometry.mapping(footprint), "bbox": list(footprint.bounds),
        "properties": moments,
    }  # fmt: skip


def _text(when: datetime) -> str:
    return when.isoformat().replace("+00:00", "Z")


def matching(documents: Iterable[Mapping[str, Any]], area: Any | None, period: Period) -> set[str]:
    """Ids of the items whose footprint meets an area and whose time meets a period, both ends included."""
    ids = set()
    for document in documents:
        properties = document["properties"]
        first = datetime.fromisoformat(properties["datetime"] or properties["start_datetime"])
        last = datetime.fromisoformat(properties["datetime"] or properties["end_datetime"])
        in_time = (period.start is None or last >= period.start) and (
            period.end is None or first <= period.end
        )
        if in_time and (area is None or area.intersects(shapely.geometry.shape(document["geometry"]))):
            ids.add(document["id"])
    return ids
