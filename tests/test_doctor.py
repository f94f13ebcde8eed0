from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
from rich.console import Console

from stac_server import serve
from xglof import Weights
from xglof.cube.providers import EARTH_SEARCH
from xglof.doctor import examine, print_findings
from xglof.models import registry

SECRET = "hunter2"  # noqa: S105


@pytest.fixture
def closed_port() -> Iterator[str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, never listening: connections are refused
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def archives(monkeypatch: pytest.MonkeyPatch, **urls: str) -> None:
    profiles = {name: replace(EARTH_SEARCH, name=name, url=url) for name, url in urls.items()}
    monkeypatch.setattr("xglof.doctor.PROVIDERS", MappingProxyType(profiles))


@pytest.mark.usefixtures("no_proxy")
def test_archives_that_answer_and_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, closed_port: str
) -> None:
    with serve(tmp_path) as (url, _):
        archives(monkeypatch, here=f"{url}/", closed=closed_port, gone=f"{url}/files/no-such-page")
        found = dict(examine())
    assert found["archive here"] == f"answers (200), {url}/"
    assert found["archive closed"].startswith("does not answer: ")
    assert "refused" in found["archive closed"]
    assert found["archive gone"].startswith("answers with an error, 404")
    assert found["proxies"] == "none set"
    assert "core" in found["device"] or "GiB" in found["device"]
    assert found["memory"].endswith("GiB free")
    assert "rasterio" in found["GDAL"]
    assert found["model water-index"] == "ready, no weights needed"


@pytest.mark.usefixtures("no_proxy")
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (f"http://me:{SECRET}@127.0.0.1:1", "http://***@127.0.0.1:1"),
        (f"http://me:p@{SECRET}@127.0.0.1:1/", "http://***@127.0.0.1:1/"),
        (f"http://me:p/{SECRET}@127.0.0.1:1", "http://***@127.0.0.1:1"),
        (f"me:{SECRET}@127.0.0.1:1", "***@127.0.0.1:1"),
        (f"http://me:p:{SECRET}@127.0.0.1:port", "http://***@127.0.0.1:port"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1"),
    ],
)
@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY"])
def test_secrets_of_proxies_stay_secret(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, shown: str
) -> None:
    archives(monkeypatch, there="http://archive.invalid/stac")
    monkeypatch.setenv(name, value)
    console = Console(file=io.StringIO(), width=80)
    findings = examine(timeout_s=2)
    print_findings(console, findings)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert dict(findings)["http_proxy"] == shown
    assert dict(findings)["archive there"].endswith("http://archive.invalid/stac")
    assert "answers (200)" not in text
    assert SECRET not in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.usefixtures("no_proxy")
def test_weights_are_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    archives(monkeypatch)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"numbers")
    spec = registry.TINY_DEMO.with_weights(Weights.of(path))
    monkeypatch.setitem(registry._SPECS, spec.name, spec)
    assert dict(examine())[f"model {spec.name}"].startswith("ready, 0 MB, SHA-256 ")
    path.write_bytes(b"other numbers")
    assert "the file is damaged" in dict(examine())[f"model {spec.name}"]
