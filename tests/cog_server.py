"""A loopback server of COGs by byte range that misbehaves on demand and remembers every request."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import rasterio

#: "slow" answers after :attr:`CogServer.slow_s` seconds, "cut" closes the connection inside the body,
#: "truncated" answers as if the file ended after half its bytes, "403-expired" as Azure does to an old token.
How = Literal["404", "403-expired", "429", "500", "503", "slow", "cut", "truncated"]


@dataclass(frozen=True, slots=True)
class Request:
    """One answered request; ``span`` is the first byte served and the one after the last, or ``None``."""

    method: str
    path: str
    query: str
    span: tuple[int, int] | None
    status: int
    fault: str | None


@dataclass(slots=True)
class _Fault:
    pattern: str
    how: How
    times: float
    after: int
    method: str


class CogServer:
    """A folder of files over HTTP, its faults and its memory; safe to use from many threads.

    Attributes
    ----------
    url
        Of the folder, without a slash at its end.
    requests
        Every answered request in the order of the answers.
    faults
        How many requests a fault befell.
    busiest
        The most requests that were under way at one moment.
    slow_s
        Seconds that a "slow" answer takes.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.url, self.slow_s = root, "", 30.0
        self.requests: list[Request] = []
        self.busiest = self.faults = 0
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._busy = 0
        self._faults: list[_Fault] = []
        self._tokens: dict[str, list[float]] | None = None  # uses left, moment of expiry
        self._numbers = count(1)

    def fail(
        self, pattern: str, *, how: How, times: float = float("inf"), after: int = 0, method: str = "*"
    ) -> None:
        """Let requests whose path matches a pattern fail ``times`` times, once ``after`` others went well."""
        with self._lock:
            self._faults.append(_Fault(pattern, how, times, after, method))

    def heal(self) -> None:
        """Forget every fault."""
        self._faults = []

    def forget(self) -> None:
        """Forget what was requested so far."""
        self.requests, self.busiest = [], 0

    def token(self, *, uses: float = float("inf"), seconds: float = float("inf")) -> str:
        """A new query ``sig=...``, good for some requests or seconds; from the first on, one is required."""
        with self._lock:
            name = f"SECRET{next(self._numbers):04d}"
            self._tokens = self._tokens or {}
            self._tokens[name] = [uses, time.monotonic() + seconds]
            return f"sig={name}"

    def expire(self) -> None:
        """Let every token given so far be refused from now on."""
        with self._lock:
            self._tokens = {}

    def requested(self, path: str, *, status: int | None = None) -> list[Request]:
        """The requests of one file, or those of them with one status."""
        with self._lock:
            known = list(self.requests)
        return [entry for entry in known if entry.path == f"/{path}" and status in (None, entry.status)]

    def block_touches(self, path: str) -> dict[tuple[int, int, int], float]:
        """How often each block of a COG was served: bytes of it that went out over its bytes.

        Returns
        -------
        dict
            ``(level, row, column)`` -> times; level 0 is the image, 1 its first overview. Sparse blocks,
            which have no bytes, are left out.
        """
        spans = [request.span for request in self.requested(path) if request.span is not None]
        return {
            block: sum(max(0, min(last, end) - max(first, start)) for start, end in spans) / (last - first)
            for block, (first, last) in blocks_of(self.root / path).items()
        }

    def begin(self, method: str, path: str) -> How | None:
        """Count a request that arrives; the fault that befalls it."""
        with self._lock:
            self._busy += 1
            self.busiest = max(self.busiest, self._busy)
            for fault in self._faults:
                if fault.times and fnmatch(path, fault.pattern) and fnmatch(method, fault.method):
                    if fault.after:
                        fault.after -= 1
                        continue
                    fault.times -= 1
                    self.faults += 1
                    return fault.how
        return None

    def end(self) -> None:
        """Count a request that is over."""
        with self._lock:
            self._busy -= 1

    def admits(self, query: str) -> bool:
        """Whether a request bears a token that is still good, where one is required."""
        with self._lock:
            if self._tokens is None:
                return True
            left = self._tokens.get(parse_qs(query).get("sig", [""])[0], [0, 0])
            left[0] -= 1
            return left[0] >= 0 and time.monotonic() < left[1]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    service: CogServer

    def do_GET(self) -> None:
        place = urlsplit(self.path)
        fault = self.service.begin(self.command, place.path.lstrip("/"))
        try:
            self._answer(place.path, place.query, fault)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            self.service.end()

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, path: str, query: str, fault: How | None) -> None:
        file = self.service.root / path.lstrip("/")
        if fault == "slow":
            self.service.closing.wait(self.service.slow_s)
        if fault == "403-expired" or not self.service.admits(query):
            self._refuse(403, path, query, fault)
        elif fault in ("404", "429", "500", "503") or not file.is_file():
            self._refuse(int(fault) if fault and fault.isdigit() else 404, path, query, fault)
        else:
            self._serve(file.read_bytes(), path, query, fault)

    def _refuse(self, status: int, path: str, query: str, fault: How | None) -> None:
        self.service.requests.append(Request(self.command, path, query, None, status, fault))
        self._send(status, b"<Error>refused</Error>", {"Content-Type": "application/xml"})

    def _serve(self, content: bytes, path: str, query: str, fault: How | None) -> None:
        if fault == "truncated":
            content = content[: len(content) // 2]
        first, last, status, headers = 0, len(content), 200, {"Accept-Ranges": "bytes"}
        if (asked := self.headers.get("Range")) is not None:
            start, _, end = asked.removeprefix("bytes=").partition("-")
            first, last = int(start), min(int(end or last - 1) + 1, last)
            if first >= len(content):
                return self._refuse(416, path, query, fault)
            status = 206
            headers["Content-Range"] = f"bytes {first}-{last - 1}/{len(content)}"
        served = None if self.command == "HEAD" or fault in ("cut", "slow") else (first, last)
        self.service.requests.append(Request(self.command, path, query, served, status, fault))
        self._send(status, content[first:last], headers, cut=fault == "cut")

    def _send(self, status: int, body: bytes, headers: dict[str, str], *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut

    def log_message(self, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that timed out closed its connection, as it was meant to."""


def blocks_of(path: Path) -> dict[tuple[int, int, int], tuple[int, int]]:
    """``(level, row, column)`` -> where the bytes of each block of a COG's first band lie."""
    spans = {}
    with rasterio.open(path) as file:
        levels = len(file.overviews(1)) + 1
    for level in range(levels):
        opened = {} if level == 0 else {"overview_level": level - 1}
        with rasterio.open(path, **opened) as file:
            height, width = file.block_shapes[0]
            rows, columns = -(-file.height // height), -(-file.width // width)
            for row, column in ((row, column) for row in range(rows) for column in range(columns)):
                first = file.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=1)
                size = file.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=1)
                if first and size:
                    spans[level, row, column] = (int(first), int(first) + int(size))
    return spans


@contextmanager
def serve_cogs(root: Path) -> Iterator[CogServer]:
    """A running server of the files of a folder."""
    service = CogServer(root)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"service": service}))
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
