"""A small scene with labels that are wrong on purpose, and a model that is right about them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr

from xglof.cube.flags import Flag, flag_attrs

SIZE = 32
#: Upper left corner on a corner of the lattice's squares of 32 pixels of 10 m.
LEFT, TOP = 320 * 1600, 320 * 9700
#: Reflectance x 10,000 of ground, water and fresh snow.
_GROUND = {"B02": 900, "B03": 1200, "B04": 1500, "B08": 2200, "B11": 2600}
_WATER = {"B02": 900, "B03": 1100, "B04": 700, "B08": 350, "B11": 90}
_SNOW = {"B02": 9000, "B03": 9000, "B04": 8900, "B08": 8300, "B11": 900}


@dataclass(frozen=True)
class Scene:
    cube: xr.Dataset
    seg: xr.Dataset
    label: xr.Dataset

    def chunk(self, chunks: dict[str, object]) -> Scene:
        return Scene(self.cube.chunk(chunks), self.seg.chunk(chunks), self.label.chunk(chunks))

    def isel(self, **part: slice) -> Scene:
        return Scene(self.cube.isel(part), self.seg.isel(part), self.label.isel(part))


def box(shape: tuple[int, int], rows: tuple[int, int], cols: tuple[int, int]) -> np.ndarray:
    where = np.zeros(shape, bool)
    where[slice(*rows), slice(*cols)] = True
    return where


def scene(
    water: np.ndarray, label: np.ndarray, model: np.ndarray, *, snow: np.ndarray | None = None, times: int = 1
) -> Scene:
    """A cube of given ground truth, label 0, 1, 255 and model probability, the same at every date."""
    shape = water.shape
    grid = GeoBox(shape, Affine(10, 0, LEFT, 0, -10, TOP), "EPSG:32643")
    dates = np.datetime64("2023-07-01", "ns") + np.arange(times) * np.timedelta64(10, "D")

    def timed(values: np.ndarray) -> xr.DataArray:
        return wrap_xr(np.broadcast_to(values, (times, *shape)).copy(), grid, time=dates)

    bands = {}
    for name in _GROUND:
        values = np.where(water, _WATER[name], _GROUND[name])
        bands[name] = timed(
            (values if snow is None else np.where(snow, _SNOW[name], values)).astype("uint16")
        )
    flags = timed(np.zeros(shape, "uint16")).assign_attrs(flag_attrs())
    probability = timed(model.astype("float32"))
    return Scene(
        xr.Dataset(bands | {"flags": flags}),
        xr.Dataset({"lake_probability": probability, "lake": (probability >= 0.5).astype("uint8")}),
        xr.Dataset({"lake": timed(label.astype("uint8"))}),
    )


def mislabelled() -> Scene:
    """Four squares: a lake that the label has not, one that only the label has, a good label, and ice.

    The outlines of the good label lie two pixels beside the water, as inventories do; the model takes the
    frozen lake, of which MNDWI can't tell, for water that the label has not.
    """
    shape = (2 * SIZE, 2 * SIZE)
    omitted, committed = box(shape, (6, 18), (5, 20)), box(shape, (8, 20), (SIZE + 6, SIZE + 22))
    good, frozen = (
        box(shape, (SIZE + 6, SIZE + 24), (6, 26)),
        box(shape, (SIZE + 4, SIZE + 20), (SIZE + 4, SIZE + 20)),
    )
    beside = np.roll(good, (2, 2), (0, 1))
    model = np.where(omitted | good | frozen, 0.9, 0.1)
    return scene(omitted | good, committed | beside, model, snow=frozen)


def cloud(cube: xr.Dataset, where: np.ndarray) -> xr.Dataset:
    flags = cube["flags"].copy()
    flags.values[:, where] |= np.uint16(Flag.cloud)
    return cube.assign(flags=flags)
