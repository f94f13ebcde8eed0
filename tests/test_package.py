"""Promises of the package as a whole: light to import, and imports in one direction."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr

import xglof

SOURCE = Path(xglof.__file__).parent
#: Each folder may import those before it; see the design note.
ORDER = ("bands", "errors", "cube", "features", "models", "engine", "lakes", "evaluate", "train", "batch")
#: What trains and runs batches also reads and writes files, and tells of its progress.
SURFACE = {"train": {"outputs", "progress"}, "batch": {"outputs", "progress"}}
HEAVY = (
    "torch",
    "terratorch",
    "rasterio",
    "geopandas",
    "skimage",
    "matplotlib",
    "odc.geo",
    "pystac",
    "lightning",
)


def test_import_is_light_and_registers_the_accessor() -> None:
    code = (
        "import sys, xglof, xarray as xr\n"
        "assert hasattr(xr.Dataset, 'glof') and hasattr(xr.DataArray, 'glof')\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def imported(path: Path) -> set[str]:
    """First word after ``xglof.`` of every import in a file."""
    words = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("xglof."):
            words.add(str(node.module).split(".")[1])
        if isinstance(node, ast.Import):
            words |= {name.name.split(".")[1] for name in node.names if name.name.startswith("xglof.")}
    return words


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_follow_the_order(path: Path) -> None:
    place = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if place not in ORDER:  # the surface (accessor, commands, plots) and the simulator may import all
        return
    allowed = {*ORDER[: ORDER.index(place) + 1], "_version", *SURFACE.get(place, ())}
    assert imported(path) <= allowed


def test_cube_and_lakes_know_no_torch() -> None:
    for folder in ("cube", "lakes"):
        for path in (SOURCE / folder).glob("*.py"):
            assert "torch" not in path.read_text(encoding="utf-8"), path


def test_every_public_name_is_there_and_documented() -> None:
    for name in xglof.__all__:
        thing = getattr(xglof, name)
        assert name == "__version__" or thing.__doc__


def test_accessor_carries_the_signature_and_docs_of_the_free_function() -> None:
    accessor = xr.Dataset().glof
    assert accessor.segment.__doc__ == xglof.segment.__doc__
    assert accessor.lake_area.__wrapped__ is xglof.lakes.lake_area


def test_versions_name_the_installed_package() -> None:
    versions = xglof.show_versions()
    assert versions["xglof"] == xglof.__version__
    assert versions["torch"] != "absent"
