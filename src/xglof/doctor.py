"""``xglof doctor``: what this machine offers, and which archives answer."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from xglof.cube.providers import PROVIDERS
from xglof.errors import ModelError
from xglof.models.registry import get_spec, names
from xglof.show_versions import show_versions

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def examine(*, timeout_s: float = 5.0) -> list[tuple[str, str]]:
    """Findings as pairs of subject and state: device, memory, GDAL, models, proxies, archives.

    Parameters
    ----------
    timeout_s
        How long to wait for an archive, seconds.
    """
    findings = [("xglof", show_versions()["xglof"]), ("device", _device()), ("memory", _memory())]
    findings.append(("GDAL", _gdal()))
    findings += [(f"model {name}", _model(name)) for name in names()]
    findings += [(name, _without_secret(value)) for name, value in _proxies()]
    findings += [(f"archive {p.name}", _answer(p.url, timeout_s)) for p in PROVIDERS.values()]
    return findings


def print_findings(console: Console, findings: list[tuple[str, str]]) -> None:
    """Print what :func:`examine` found."""
    table = Table(show_header=False, box=None)
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
    try:
        weights.check()
    except ModelError as error:
        return str(error)
    return f"ready, {weights.path.stat().st_size / 1e6:.0f} MB, SHA-256 {weights.sha256[:12]}..."


def _proxies() -> list[tuple[str, str]]:
    found = {name: os.environ.get(name) or os.environ.get(name.upper()) for name in _PROXIES}
    return [(name, value) for name, value in found.items() if value] or [("proxies", "none set")]


def _without_secret(value: str) -> str:
    """A proxy's address without the user and password that it may carry."""
    secret, at, _ = urlsplit(value).netloc.rpartition("@")
    return value.replace(secret + at, "***@") if at else value


def _answer(url: str, timeout_s: float) -> str:
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as response:  # noqa: S310  (addresses of profiles)
            return f"answers ({response.status}), {url}"
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        return f"does not answer: {reason}; {url}"
