"""Versions of what a result depends on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "xglof",
    "torch",
    "xarray",
    "dask",
    "distributed",
    "numpy",
    "scipy",
    "zarr",
    "odc-stac",
    "odc-geo",
    "rasterio",
    "geopandas",
    "shapely",
    "pyproj",
    "pystac",
    "pystac-client",
    "safetensors",
    "planetary-computer",
    "terratorch",
)


def show_versions() -> dict[str, str]:
    """Versions of Python, the platform and the packages that xglof stands on, or ``"absent"``.

    Read from the installed metadata: nothing is imported.

    Examples
    --------
    >>> show_versions()["xglof"]
    '0.1.0'
    """
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found
