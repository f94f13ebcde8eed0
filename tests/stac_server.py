"""A STAC API on the loopback that speaks as much as a search needs: landing page, paged POST, files."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pystac

from xglof.cube.providers import EARTH_SEARCH

_GEOJSON = "application/geo+json"
_CONFORMANCE = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/item-search",
]


class _Handler(BaseHTTPRequestHandler):
    items: list[dict[str, Any]]
    root: Path
    requests: list[dict[str, Any]]
    page = 1

    def do_GET(self) -> None:
        if self.path == "/":
            self._json(self._landing())
        else:
            self._file(self.root / self.path.removeprefix("/files/"))

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append(body)
        wanted = [item for item in self.items if item["collection"] in body["collections"]]
        start = int(body.get("token", 0))
        links = []
        if start + self.page < len(wanted):
            following = body | {"token": start + self.page}
            links = [{"rel": "next", "method": "POST", "href": f"{self._base}/search", "body": following}]
        page = wanted[start : start + self.page]
        self._json({"type": "FeatureCollection", "features": page, "links": links})

    @property
    def _base(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def _landing(self) -> dict[str, Any]:
        links = [
            {"rel": "self", "href": f"{self._base}/", "type": "application/json"},
            {"rel": "root", "href": f"{self._base}/", "type": "application/json"},
            {"rel": "search", "href": f"{self._base}/search", "method": "POST", "type": _GEOJSON},
        ]
        return {
            "type": "Catalog", "id": "loopback", "stac_version": "1.0.0", "description": "test",
            "conformsTo": _CONFORMANCE, "links": links,
        }  # fmt: skip

    def _json(self, content: dict[str, Any]) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _file(self, path: Path) -> None:
        if not path.is_file():
            self._send(404, b"", {})
            return
        content = path.read_bytes()
        asked = self.headers.get("Range")
        if asked is None:
            self._send(200, content, {"Accept-Ranges": "bytes"})
            return
        first, last = asked.removeprefix("bytes=").split("-")
        part = content[int(first) : int(last or len(content)) + 1]
        span = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
        self._send(206, part, {"Accept-Ranges": "bytes", "Content-Range": span})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serve(root: Path) -> Iterator[tuple[str, type[_Handler]]]:
    """URL of a running API over the files of a folder, and the handler that holds its items."""
    handler = type("Handler", (_Handler,), {"root": root, "items": [], "requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", handler
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def as_earth_search(item: pystac.Item, files: str, *, applied: bool) -> dict[str, Any]:
    """A Sentinel-2 item as Earth Search spells it, its bands at ``files/B02.tif`` and so on."""
    document = item.to_dict(include_self_link=False, transform_hrefs=False)
    product = EARTH_SEARCH.products[0]
    document["assets"] = {
        asset: {
            "href": f"{files}/{band}.tif",
            "raster:bands": [{"data_type": "uint16", "scale": 0.0001, "offset": -0.1}],  # not to be trusted
        }
        for band, asset in product.assets.items()
    }
    document["properties"]["proj:code"] = "EPSG:32645"
    document["properties"]["earthsearch:boa_offset_applied"] = applied
    return document | {"links": []}


def dem_document(item: pystac.Item, href: str) -> dict[str, Any]:
    """An item of the DEM with its file at an address."""
    document = item.to_dict(include_self_link=False, transform_hrefs=False)
    document["assets"]["data"]["href"] = href
    return document | {"links": []}
