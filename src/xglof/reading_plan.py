"""What it takes to read a cube: its items, the bytes behind it, tasks and size, without reading a pixel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xglof.bands import LAYERS, MODALITIES, Band
from xglof.cube.card_facts import bytes_text, counted, day
from xglof.lakes.layer import pixel_metres

_BANDS: dict[str, Band] = {
    band.name: band for name in ("S2L2A", "S1RTC", "DEM") for band in (*MODALITIES[name].bands, *LAYERS[name])
}
_OPTICAL = {band.name for band in (*MODALITIES["S2L2A"].bands, *LAYERS["S2L2A"])}


@dataclass(frozen=True, slots=True)
class ListedItem:
    """A STAC item that a cube is made of.

    Attributes
    ----------
    id, sensor
        ``sensor`` is ``"Sentinel-1"``, ``"Sentinel-2"`` or ``"DEM"``.
    date
        Of the acquisition, else of the step or window that the item is part of; ``""`` for the DEM.
    cloud_percent
        As the items of its step state it, on average; ``None`` where they do not, and for others.
    orbit
        Direction and number, ``""`` where unknown.
    """

    id: str
    sensor: str
    date: str
    cloud_percent: float | None = None
    orbit: str = ""


def listed_items(cube: xr.Dataset) -> list[ListedItem]:
    """The items of a cube of :func:`xglof.open_cube`, in order of time, each once; the DEM's last."""
    found: dict[str, ListedItem] = {}
    for item in (*_optical_items(cube), *_radar_items(cube)):
        found.setdefault(item.id, item)
    tiles = [ListedItem(str(name), "DEM", "") for name in cube.attrs.get("dem_items", ())]
    return [*sorted(found.values(), key=lambda item: (item.date, item.sensor[::-1], item.id)), *tiles]


def _optical_items(cube: xr.Dataset) -> Iterator[ListedItem]:
    covers = cube["cloud_cover"].values if "cloud_cover" in cube.coords else None
    for step, ids in enumerate(_texts(cube, "s2_items")):
        cover = None if covers is None or not np.isfinite(covers[step]) else float(covers[step])
        for name in filter(None, ids.split(",")):
            yield ListedItem(name, "Sentinel-2", day(cube["time"].values[step]), cover)


def _radar_items(cube: xr.Dataset) -> Iterator[ListedItem]:
    moments = cube["s1_time" if "s1_time" in cube.coords else "time"].values if "time" in cube.coords else ()
    orbits = zip(_texts(cube, "orbit_state"), _texts(cube, "relative_orbit"), strict=True)
    for ids, (state, number), moment in zip(_texts(cube, "s1_items"), orbits, moments, strict=False):
        orbit = "" if "," in state + number else f"{state} {number}".strip()  # of which item, nothing tells
        for name in filter(None, ids.split(",")):
            yield ListedItem(name, "Sentinel-1", day(moment), None, orbit)


def _texts(cube: xr.Dataset, name: str) -> list[str]:
    return [str(text) for text in cube[name].values] if name in cube.coords else []


def plan_facts(cube: xr.Dataset) -> list[tuple[str, str]]:
    """What reading a lazy cube takes, as names and texts."""
    about = "at most about" if "composite" in cube.attrs else "about"
    facts = [("to read", f"{about} {bytes_text(source_bytes(cube))} of native source pixels, uncompressed")]
    sized, files = (int(cube.attrs.get(name, 0)) for name in ("files_sized", "files_used"))
    if sized:
        stated = bytes_text(int(cube.attrs["files_bytes"]))
        facts.append(
            ("files", f"{counted(files, 'file')}; {sized} state a size, {stated} together, read in part")
        )
    sizes = next((array.chunks[-2:] for array in cube.data_vars.values() if array.chunks is not None), None)
    if sizes is not None:
        high, wide = (max(side) for side in sizes)
        blocks = counted(len(sizes[0]) * len(sizes[1]), "block")
        facts.append(("blocks", f"{blocks} a band and date, up to {high} x {wide} pixels"))
    graph: Any = cube.__dask_graph__()
    facts.append(("tasks", f"about {len(graph) if graph is not None else 0:,}"))
    facts.append(("on disk", f"at most {bytes_text(cube.nbytes)}: the cube, uncompressed"))
    return facts


def source_bytes(cube: xr.Dataset) -> int:
    """Bytes of the source pixels under the grid at each band's own pixel size, uncompressed.

    Every acquisition counts with the whole grid, the DEM with the margin that its shadows need: the blocks of
    the files reach further, compression leaves less. In a composite every item counts with the whole grid.
    """
    rows, columns = cube.odc.geobox.shape
    height, width = _pixel_metres(cube.odc.geobox)
    total = 0.0
    for name, array in cube.data_vars.items():
        band = _BANDS.get(str(name))
        if band is None:
            continue
        margin = _dem_margin(cube) if name == "dem" else 0.0
        area = (rows * height + 2 * margin) * (columns * width + 2 * margin)
        total += area / band.native_m**2 * array.dtype.itemsize * _acquisitions(cube, str(name))
    return round(total)


def _pixel_metres(grid: Any) -> tuple[float, float]:
    """Height and width on the ground of a pixel in the middle of a grid."""
    west, south, east, north = grid.boundingbox.bbox
    middle = np.array([(west + east) / 2]), np.array([(south + north) / 2])
    width, height, _ = pixel_metres(grid, *middle)
    return float(height[0]), float(width[0])


def _acquisitions(cube: xr.Dataset, name: str) -> int:
    """How many planes of a band are read: steps, or in a composite items; one of what has no time."""
    if "time" not in cube[name].dims:
        return 1
    steps = {text for text in _texts(cube, "s2_items" if name in _OPTICAL else "s1_items") if text}
    if "composite" in cube.attrs:
        return len({item for step in steps for item in step.split(",")})
    return len(steps)


def _dem_margin(cube: xr.Dataset) -> float:
    """Metres of DEM around the grid, as the flags say how far shadows are cast."""
    said = " ".join(str(text) for text in cube["flags"].attrs.values()) if "flags" in cube else ""
    reach = re.search(r"terrain within (\d+(?:\.\d+)?) m\b", said)
    return float(reach[1]) if reach else 0.0
