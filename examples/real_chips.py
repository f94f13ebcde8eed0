"""The whole path on real pixels: a folder of co-registered chips, a catalogue, a cube, lakes, scores.

Takes chips as TerraMesh lays them out (``S2L2A/``, ``S1RTC/``, ``DEM/``, ``LULC/``, one GeoTIFF of the same
name in each), writes them as a static STAC catalogue, and maps water with ``open_cube``, ``segment`` and
``lakes``. The land cover's water class is the reference. No chip need show a glacial lake: this shows that
real pixels go through, not how well glacial lakes are mapped. ::

    python examples/real_chips.py CHIPS OUT [--model water-index --model terramind-tiny-demo]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import rasterio
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr

import xglof
from xglof.bands import MODALITIES
from xglof.cube.files import make_collection, make_item, save_catalog, write_cog
from xglof.outputs import new_folder

WATER, CLOUD = 1, 8  # TerraMesh land cover
S1_NODATA = -32768.0
#: Raw numbers of baseline 04.00 and later carry +1000; hardly a pixel of theirs is below this.
OFFSET_FLOOR = 900
DEM_TIME = datetime(2021, 4, 22, tzinfo=UTC)
MODELS = ("water-index", "terramind-tiny-demo")


@dataclass(frozen=True, slots=True)
class Chip:
    """One place: its name, grid, times, and pixels ``(band, y, x)`` as the files hold them."""

    name: str
    geobox: GeoBox
    s2_time: datetime
    s1_time: datetime
    s2: np.ndarray
    s1_db: np.ndarray
    dem: np.ndarray
    land_cover: np.ndarray

    @classmethod
    def read(cls, folder: Path, name: str) -> Chip:
        """Read the four files of a chip."""
        layers: dict[str, Any] = {}
        for layer in ("S2L2A", "S1RTC", "DEM", "LULC"):
            with rasterio.open(folder / layer / f"{name}.tif") as source:
                tags = source.tags()
                layers[layer] = source.read(), tags.get("datetime")
                if layer == "S2L2A":
                    geobox = GeoBox(source.shape, source.transform, source.crs)
        return cls(
            name,
            geobox,
            _time(layers["LULC"][1]),  # the land cover was made for the optical date
            _time(layers["S1RTC"][1]),
            layers["S2L2A"][0],
            layers["S1RTC"][0],
            layers["DEM"][0],
            layers["LULC"][0][0],
        )

    @property
    def baseline(self) -> str:
        """Processing baseline as the pixels tell it, for the chips do not say: with or without the offset."""
        return "04.00" if np.percentile(self.s2, 0.1) > OFFSET_FLOOR else "03.00"

    @property
    def truth(self) -> xr.DataArray:
        """Water of the land cover: uint8 (y, x), 0 land, 1 water, 255 cloud or unknown."""
        unknown = np.isin(self.land_cover, (0, CLOUD))
        return wrap_xr(np.where(unknown, 255, self.land_cover == WATER).astype("uint8"), self.geobox)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.split(".")[0]).replace(tzinfo=UTC)


def read_chips(folder: Path) -> Iterator[Chip]:
    """Every chip of a folder, by name."""
    for path in sorted((folder / "S2L2A").glob("*.tif")):
        yield Chip.read(folder, path.stem)


def write_catalog(chips: Sequence[Chip], root: Path) -> Path:
    """Write chips as a static STAC catalogue: Sentinel-1 in linear power, the rest as it is."""
    items: dict[str, list[pystac.Item]] = {"sentinel-2-l2a": [], "sentinel-1-rtc": [], "cop-dem-glo-30": []}
    for chip in chips:
        power = np.where(np.isfinite(chip.s1_db), 10 ** (chip.s1_db / 10), S1_NODATA).astype("float32")
        folders = {name: root / name / f"{name}-{chip.name}" for name in items}
        s2 = [
            write_cog(folders["sentinel-2-l2a"], band, plane.astype("uint16"), chip.geobox, 0)
            for band, plane in zip(MODALITIES["S2L2A"].names, chip.s2, strict=True)
        ]
        s1 = [
            write_cog(folders["sentinel-1-rtc"], band, plane, chip.geobox, S1_NODATA)
            for band, plane in zip(("vv", "vh"), power, strict=True)
        ]
        dem = [write_cog(folders["cop-dem-glo-30"], "data", chip.dem[0].astype("float32"), chip.geobox, None)]
        properties = {"s2:processing_baseline": chip.baseline}
        for (name, folder), time, files, said in zip(
            folders.items(),
            (chip.s2_time, chip.s1_time, DEM_TIME),
            (s2, s1, dem),
            (properties, {}, {}),
            strict=True,
        ):
            items[name].append(make_item(folder.name, time, files, said))
    catalog = pystac.Catalog("chips", "Co-registered chips of Sentinel-2, Sentinel-1 and the Copernicus DEM")
    for name, members in items.items():
        catalog.add_child(make_collection(name, name, f"{name} of the chips", members))
    return save_catalog(catalog, root)


def score_chip(chip: Chip, catalog: Path, model: str) -> dict[str, Any]:
    """Map one chip by one model and score it against the land cover."""
    cube = xglof.open_cube(catalog=catalog, geobox=chip.geobox)
    seg = cube.glof.segment(model=model).compute()
    scores = seg.glof.score(chip.truth).compute()
    lakes = seg.glof.lakes()
    return {
        "chip": chip.name,
        "model": model,
        "offset": int(cube["s2_offset"].values[0]),
        "water": float((chip.truth == 1).mean()),
        "observed": float((seg["lake"] != 255).mean()),
        "polygons": len(lakes),
        "area_km2": float(lakes["area_m2"].sum() / 1e6),
        **{name: float(scores[name]) for name in ("iou", "precision", "recall")},
    }


def run(folder: Path, out: Path, models: Sequence[str] = MODELS) -> list[dict[str, Any]]:
    """Catalogue the chips of a folder under ``out`` and score every model on each."""
    chips = list(read_chips(folder))
    if not chips:
        raise SystemExit(f"no chips in {folder / 'S2L2A'}")
    with new_folder(out) as root:
        write_catalog(chips, root)
    return [score_chip(chip, out / "catalog.json", model) for model in models for chip in chips]


def main() -> None:
    """Print a row a model and chip."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("chips", type=Path, help="folder with S2L2A/, S1RTC/, DEM/ and LULC/")
    parser.add_argument("out", type=Path, help="folder to make, for the catalogue")
    parser.add_argument("--model", action="append", help="by default both shipped models")
    arguments = parser.parse_args()
    columns = ("chip", "model", "offset", "water", "observed", "iou", "precision", "recall", "polygons")
    print(" | ".join(columns))
    for row in run(arguments.chips, arguments.out, arguments.model or MODELS):
        cells = (f"{row[name]:.3f}" if isinstance(row[name], float) else str(row[name]) for name in columns)
        print(" | ".join(cells), flush=True)


if __name__ == "__main__":
    main()
