"""A look at small copies of Sentinel-2 scenes before a cube is built: only where a user asks for it.

This is the one place that reads pixels while a graph is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xglof.bands import SCL
from xglof.cube.harmonise import DARK_BANDS, check_offset, dark_level
from xglof.cube.scenes import hrefs
from xglof.cube.steps import Scene, Step

if TYPE_CHECKING:
    from xglof.cube.planes import Reading

#: Longest side of what is read of a file, pixels.
OVERVIEW_PX = 512
_AT_ONCE = 8
_CLEAR = (2, 4, 5, 6, 7, 11)  # classes of SCL that show the ground
_CLOUDY = (8, 9, 10)


def read_overview(href: str, reading: Reading, geobox: Any = None) -> NDArray[Any]:
    """A small copy of a file, ``(y, x)`` of the file's dtype.

    Parameters
    ----------
    href
        Unsigned address.
    reading
        How files are read.
    geobox
        Only the part of the file under this grid; empty where they do not meet.
    """
    import rasterio
    from rasterio.enums import Resampling
    from rasterio.windows import Window, from_bounds

    from xglof.cube.reader import open_raster

    def read(address: str) -> NDArray[Any]:
        with open_raster(address) as file:
            window = Window(0, 0, file.width, file.height)
            if geobox is not None:
                box = geobox.footprint(str(file.crs)).boundingbox
                part = from_bounds(*box.bbox, transform=file.transform)
                try:
                    window = window.intersection(part.round_offsets().round_lengths(op="ceil"))
                except rasterio.errors.WindowError:
                    return np.empty((0, 0), dtype=file.dtypes[0])
            shrink = max(1.0, max(window.width, window.height) / OVERVIEW_PX)
            shape = (max(1, round(window.height / shrink)), max(1, round(window.width / shrink)))
            values: NDArray[Any] = file.read(1, window=window, out_shape=shape, resampling=Resampling.nearest)
            return values

    return reading.access.attempt(read, href)


def look_at_offsets(steps: Sequence[Step], reading: Reading) -> list[Step]:
    """Steps whose scenes had their radiometric offset checked against their darkest pixels.

    Raises
    ------
    CatalogError
        Of a scene neither flag, baseline nor pixels tell; or a file cannot be read.
    """

    def checked(scene: Scene) -> Scene:
        addresses = hrefs(scene, reading.root)
        names = [name for name in (*DARK_BANDS, "SCL") if name in addresses]
        arrays = {name: read_overview(addresses[name], reading) for name in names}
        scl = arrays.pop("SCL", None)
        if scl is not None:
            arrays = {name: _without_clouds(values, scl) for name, values in arrays.items()}
        return replace(scene, offset=check_offset(scene.id, scene.offset, dark_level(arrays)))

    scenes = [scene for step in steps for scene in step.scenes]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        looked = dict(zip(scenes, threads.map(checked, scenes), strict=True))
    return [Step(tuple(looked[scene] for scene in step.scenes)) for step in steps]


def _without_clouds(values: NDArray[Any], scl: NDArray[np.uint8]) -> NDArray[Any]:
    rows = np.arange(values.shape[0]) * scl.shape[0] // values.shape[0]
    columns = np.arange(values.shape[1]) * scl.shape[1] // values.shape[1]
    return np.where(np.isin(scl[np.ix_(rows, columns)], _CLOUDY), 0, values).astype(values.dtype)


def clear_shares(steps: Sequence[Step], geobox: Any, reading: Reading) -> list[float]:
    """Share of the grid's footprint that shows the ground, by the scene classification, per step.

    Parameters
    ----------
    steps
        Of Sentinel-2.
    geobox
        The cube's grid.
    reading
        How files are read.

    Returns
    -------
    list of float
        0 to 1. Parts of the grid that no scene of the step covers show nothing.
    """
    area = geobox.footprint("EPSG:4326").geom

    def clear(scene: Scene) -> float:
        """Of what the scene shows of the grid."""
        values = read_overview(hrefs(scene, reading.root)["SCL"], reading, geobox)
        known = values[values != SCL.nodata]
        return float(np.isin(known, _CLEAR).mean()) if known.size else 0.0

    scenes = [scene for step in steps for scene in step.scenes]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        clearness = dict(zip(scenes, threads.map(clear, scenes), strict=True))
    return [_clear_share(step, clearness, area) for step in steps]


def _clear_share(step: Step, clearness: Mapping[Scene, float], area: Any) -> float:
    """Clear share of an area: where scenes overlap the clearest counts, others for what it leaves out."""
    left, share = area, 0.0
    for scene in sorted(step.scenes, key=lambda each: -clearness[each]):
        shown = left.intersection(scene.footprint).area / area.area
        share += shown * clearness[scene]
        left = left.difference(scene.footprint)
    return share
