"""A simulated valley written as a static STAC catalogue of COGs, laid out as the real collections are."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray

from xglof.bands import MODALITIES
from xglof.cube.files import make_collection, make_item, save_catalog, write_cog
from xglof.outputs import new_folder
from xglof.simulate.elevation import observed_dem
from xglof.simulate.optical import OpticalScene, render_optical
from xglof.simulate.passes import OpticalPass, RadarPass
from xglof.simulate.radar import RADAR_NODATA, render_radar
from xglof.simulate.scene import DEM_EPOCH, Valley
from xglof.simulate.truth import write_truth

if TYPE_CHECKING:
    import pystac
    from odc.geo.geobox import GeoBox

_CREATED = "2024-01-01T00:00:00Z"  # fixed, so that one seed gives the same bytes
_DEM_TIME = datetime(2021, 4, 22, tzinfo=UTC)  # what every tile of the real collection says
_DESCRIPTIONS = {
    "sentinel-2-l2a": "Simulated Sentinel-2 L2A over a simulated glacial valley. No satellite saw this.",
    "sentinel-1-rtc": "Simulated Sentinel-1 terrain-corrected gamma0, linear power. No satellite saw this.",
    "cop-dem-glo-30": f"Simulated Copernicus DEM GLO-30 of epoch {DEM_EPOCH}, water flattened.",
}


def write_catalog(place: Valley, out: str | os.PathLike[str], *, threads: int = 2) -> Path:
    """Path of ``catalog.json`` of a static STAC catalogue, written with every pixel it names.

    Collections ``sentinel-2-l2a``, ``sentinel-1-rtc`` and ``cop-dem-glo-30``, with the assets, properties,
    dtypes, scales and offsets of the Planetary Computer's; ``truth/`` lies beside them, see
    :func:`read_truth`. The folder appears whole or not at all.

    Parameters
    ----------
    place
        What :func:`xglof.simulate.valley` returned.
    out
        A folder that does not exist or is empty.
    threads
        How many observations are rendered and compressed at once.

    Raises
    ------
    OutputError
        ``out`` holds something already, or cannot be written.
    """
    with new_folder(out) as folder:
        _write(place, folder, threads)
    return Path(out).resolve() / "catalog.json"


def _write(place: Valley, root: Path, threads: int) -> None:
    import pystac

    catalog = pystac.Catalog(
        id=f"simulated-valley-{place.seed}",
        title="Simulated glacial valley",
        description=f"A simulated valley with known lakes (seed {place.seed}). Nothing in it was observed.",
    )
    jobs = {
        "sentinel-2-l2a": [partial(_optical_item, place, i, root) for i in range(len(place.optical))],
        "sentinel-1-rtc": [partial(_radar_item, place, i, root) for i in range(len(place.radar))],
        "cop-dem-glo-30": [partial(_dem_item, place, root)],
    }
    tasks = {name: [delayed(job, pure=False)() for job in members] for name, members in jobs.items()}
    truth = delayed(partial(write_truth, place, root / "truth"), pure=False)()
    # threads whatever scheduler is set: the tasks write files here
    items, _ = compute(tasks, truth, scheduler="threads", num_workers=max(threads, 1))
    for name, members in items.items():
        catalog.add_child(make_collection(name, f"Simulated {name}", _DESCRIPTIONS[name], members))
    save_catalog(catalog, root)


def _optical_item(place: Valley, index: int, root: Path) -> pystac.Item:
    view = place.optical[index]
    scene = render_optical(place, index)
    name = f"S2{'AB'[index % 2]}_MSIL2A_{view.time:%Y%m%dT%H%M%S}_SIM{place.seed:04d}"
    folder = root / "sentinel-2-l2a" / name
    files = []
    for band, numbers in zip(MODALITIES["S2L2A"].bands, scene.dn, strict=True):
        # 10 m bands keep the scene's pixels whatever its resolution: 20 and 60 m average 2 x 2 and 6 x 6
        values, grid = _coarsen(numbers, place.geobox, round(band.native_m / 10))
        files.append(write_cog(folder, band.name, values, grid, 0))
    scl, grid = _every_other(scene.scl, place.geobox)
    files.append(write_cog(folder, "SCL", scl, grid, 0))
    return make_item(name, view.time, files, _optical_properties(view, scene, index))


def _optical_properties(view: OpticalPass, scene: OpticalScene, index: int) -> dict[str, Any]:
    return {
        "created": _CREATED,
        "platform": f"Sentinel-2{'AB'[index % 2]}",
        "constellation": "Sentinel 2",
        "instruments": ["msi"],
        "eo:cloud_cover": scene.cloud_percent,
        "s2:processing_baseline": view.baseline,
        "s2:mgrs_tile": "00SIM",
        "s2:nodata_pixel_percentage": round(float(100 * (scene.scl == 0).mean()), 2),
        "s2:mean_solar_azimuth": round(view.sun_azimuth, 4),
        "s2:mean_solar_zenith": round(90 - view.sun_elevation, 4),
        "view:sun_azimuth": round(view.sun_azimuth, 4),
        "view:sun_elevation": round(view.sun_elevation, 4),
        "sat:orbit_state": "descending",
        "sat:relative_orbit": 19,
    }


def _radar_item(place: Valley, index: int, root: Path) -> pystac.Item:
    view: RadarPass = place.radar[index]
    scene = render_radar(place, index)
    name = f"S1A_IW_GRDH_1SDV_{view.time:%Y%m%dT%H%M%S}_rtc_SIM{place.seed:04d}"
    folder = root / "sentinel-1-rtc" / name
    pairs = (("vv", scene.vv), ("vh", scene.vh))
    files = [write_cog(folder, key, values, scene.geobox, RADAR_NODATA) for key, values in pairs]
    properties = {
        "created": _CREATED,
        "platform": "SENTINEL-1A",
        "constellation": "Sentinel-1",
        "sar:instrument_mode": "IW",
        "sar:frequency_band": "C",
        "sar:polarizations": ["VV", "VH"],
        "sar:product_type": "GRD",
        "sat:orbit_state": view.orbit_state,
        "sat:relative_orbit": view.relative_orbit,
        "view:incidence_angle": round(view.incidence, 3),
    }
    return make_item(name, view.time, files, properties)


def _dem_item(place: Valley, root: Path) -> pystac.Item:
    heights, grid = observed_dem(place)
    name = f"Copernicus_DSM_COG_10_SIM{place.seed:04d}_DEM"
    file = write_cog(root / "cop-dem-glo-30" / name, "data", heights, grid, None)
    return make_item(name, _DEM_TIME, [file], {"created": _CREATED, "gsd": 30, "platform": "TanDEM-X"})


def _coarsen(numbers: NDArray[np.uint16], geobox: GeoBox, factor: int) -> tuple[NDArray[np.uint16], GeoBox]:
    """Mean of the known numbers in every ``factor`` x ``factor`` pixels; the last ones repeat the edge."""
    from odc.geo.geobox import GeoBox

    if factor == 1:
        return numbers, geobox
    rows, columns = (-(-n // factor) for n in numbers.shape)
    pad = [(0, rows * factor - numbers.shape[0]), (0, columns * factor - numbers.shape[1])]
    cells = np.pad(numbers, pad, mode="edge").reshape(rows, factor, columns, factor)
    known = (cells > 0).sum(axis=(1, 3))
    total = cells.sum(axis=(1, 3), dtype=np.float64)
    mean = np.where(known > 0, np.rint(total / np.maximum(known, 1)), 0).astype(np.uint16)
    return mean, GeoBox((rows, columns), geobox.affine * geobox.affine.scale(factor), geobox.crs)


def _every_other(values: NDArray[np.uint8], geobox: GeoBox) -> tuple[NDArray[np.uint8], GeoBox]:
    """Classes on the 20 m grid: one pixel of each four."""
    from odc.geo.geobox import GeoBox

    taken = np.ascontiguousarray(values[::2, ::2])
    return taken, GeoBox(taken.shape, geobox.affine * geobox.affine.scale(2), geobox.crs)
