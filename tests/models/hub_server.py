"""A stand-in for the Hugging Face Hub on this machine: one repository, one commit, files in a dict."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What it serves, and what it was asked.

    ``recorded`` overrides the SHA-256 that it has on record; ``cut`` ends every download after that many
    bytes, the connection closed.
    """

    repo: str
    files: dict[str, bytes]
    commit: str = COMMIT
    recorded: str | None = None
    cut: int | None = None
    asked: list[str] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)


@contextmanager
def serve(hub: Hub) -> Iterator[str]:
    """The address of a server of ``hub``, while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"  # the end of a connection ends an answer

        def log_message(self, *arguments: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            hub.asked.append(f"{self.command} {self.path}")
            hub.tokens.append(self.headers.get("Authorization"))
            api = f"/api/models/{hub.repo}"
            if self.path.startswith(f"{api}/revision/"):
                revision = self.path.rpartition("/")[2]
                known = revision in ("main", hub.commit)
                self.send(
                    200 if known else 404, _json({"id": hub.repo, "sha": hub.commit}), "RevisionNotFound"
                )
            elif self.path == f"{api}/paths-info/{hub.commit}":
                self.send(200, _json([_entry(hub, name) for name in hub.files]))
            else:
                name = self.path.removeprefix(f"/{hub.repo}/resolve/{hub.commit}/")
                found = hub.files.get(name)
                self.send(404 if found is None else 200, found or b"", "EntryNotFound", body=body, file=True)

        def send(
            self, status: int, content: bytes, code: str = "", *, body: bool = True, file: bool = False
        ) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            if status == 404:
                self.send_header("X-Error-Code", code)
            if file:
                self.send_header("X-Repo-Commit", hub.commit)
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.end_headers()
            if body:
                self.wfile.write(content[: hub.cut] if file else content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _entry(hub: Hub, name: str) -> dict[str, Any]:
    sha256 = hub.recorded or hashlib.sha256(hub.files[name]).hexdigest()
    size = len(hub.files[name])
    lfs = {"oid": sha256, "size": size, "pointerSize": 134}
    return {"type": "file", "path": name, "size": size, "oid": "0" * 40, "lfs": lfs}
