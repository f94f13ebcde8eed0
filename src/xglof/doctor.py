"""``xglof doctor``: what this machine offers, and which archives answer."""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

from rich.console import Console
from rich.table import Table

from xglof.cube.providers import PROVIDERS
from xglof.errors import ModelError
from xglof.models.registry import get_spec, names
from xglof.models.weights import UNTRAINED
from xglof.show_versions import show_versions

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def examine(*, timeout_s: float = 5.0) -> list[tuple[str, str]]:
    """Findings as pairs of subject and state: device, memory, GDAL, models, proxies, archives.

    Nothing is secret in them: users and passwords of proxies are left out.

    Parameters
    ----------
    timeout_s
        How long to wait for an archive, seconds; all are asked at once.
    """
    urls = [provider.url for provider in PROVIDERS.values()]
    with ThreadPoolExecutor(max(len(urls), 1)) as pool:
        answers = pool.map(lambda url: _answer(url, timeout_s), urls)
        findings = [("xglof", show_versions()["xglof"]), ("device", _device()), ("memory", _memory())]
        findings.append(("GDAL", _gdal()))
        findings += [(f"model {name}", _model(name)) for name in names()]
        findings += [(name, _without_secret(value)) for name, value in _proxies()]
        findings += [(f"archive {name}", answer) for name, answer in zip(PROVIDERS, answers, strict=True)]
    return findings


def print_findings(console: Console, findings: list[tuple[str, str]]) -> None:
    """Print what :func:`examine` found; long addresses are folded, not cut."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for subject, state in findings:
        table.add_row(subject, state)
    console.print(table)


def _device() -> str:
    import torch

    cores = len(os.sched_getaffinity(0))
    if not torch.cuda.is_available():
        return f"CPU, {cores} cores; no CUDA device, torch {torch.__version__}"
    gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return "; ".join(f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB" for gpu in gpus)


def _memory() -> str:
    import psutil

    memory = psutil.virtual_memory()
    return f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free"


def _gdal() -> str:
    import rasterio

    return f"{rasterio.__gdal_version__} (rasterio {rasterio.__version__})"


def _model(name: str) -> str:
    weights = get_spec(name).weights
    if weights is None:
        return "ready, no weights needed"
    if weights == UNTRAINED:
        return "for training: random weights"
    try:
        weights.check()
    except ModelError as error:
        return f"not usable: {error}"
    return f"ready, {weights.path.stat().st_size / 1e6:.0f} MB, SHA-256 {weights.sha256[:12]}..."


def _proxies() -> list[tuple[str, str]]:
    found = {name: os.environ.get(name) or os.environ.get(name.upper()) for name in _PROXIES}
    return [(name, value) for name, value in found.items() if value] or [("proxies", "none set")]


def _without_secret(value: str) -> str:
    """A proxy's address without the user and password that it may carry, however oddly it is written."""
    secret, at, host = value.rpartition("@")
    if not at:
        return value
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", secret)
    return f"{scheme[0] if scheme else ''}***@{host}"


def _answer(url: str, timeout_s: float) -> str:
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as response:  # noqa: S310  (addresses of profiles)
            return f"answers ({response.status}), {url}"
    except urllib.error.HTTPError as error:
        error.close()
        return f"answers with an error, {error.code} {error.reason}, {url}"
    except OSError as error:
        return f"does not answer: {getattr(error, 'reason', error)}; {url}"
    except (HTTPException, ValueError) as error:  # their texts may quote a proxy's address, secret included
        return f"could not be asked ({type(error).__name__}; check the proxy settings); {url}"
