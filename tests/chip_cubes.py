"""Small labelled cubes to cut chips from, and what inference's own code makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing

from counting_array import CountingArray
from toys import raster, spec
from xglof import ModelSpec
from xglof.cube.flags import Flag, flag_attrs
from xglof.engine.choose import choose_windows
from xglof.engine.inputs import find_inputs, geobox_of, reversed_dims, spatial_dims
from xglof.engine.job import Job
from xglof.engine.lattice import Axis, pixel_index
from xglof.engine.stage import lay_out, stage

ALL = ("S2L2A", "S1RTC", "DEM")
#: The radar and the DEM may be absent, Sentinel-2 too.
SPEC: ModelSpec = spec("bits", ALL, optional=ALL)


def labelled(
    height: int, width: int, *, seed: int = 0, times: int | None = 2, flags: bool = True, **grid: Any
) -> tuple[xr.Dataset, xr.DataArray]:
    """A cube with gaps in each sensor, and a label with lakes and unlabelled pixels."""
    cube = raster(height, width, modalities=ALL, times=times, seed=seed, **grid)
    rng = np.random.default_rng(seed)
    for name, nodata in (("B03", 0), ("vv", np.nan), ("dem", np.nan)):
        values = cube[name].values
        plane = values.reshape(-1, height, width)
        for each in plane:
            top, left = rng.integers(height), rng.integers(width)
            each[top : top + rng.integers(height), left : left + rng.integers(width)] = nodata
    like = cube["B02"]
    if flags:
        bits = np.where(rng.random(like.shape) < 0.1, int(Flag.cloud), 0)
        bits |= np.where(cube["B03"].values == 0, int(Flag.s2_nodata), 0)
        bits |= np.where(np.isnan(cube["vv"].values), int(Flag.s1_nodata), 0)
        defective = rng.random(like.shape) < 0.02  # has data, and is flagged all the same
        bits |= np.where(defective, int(Flag.s2_nodata), 0)
        cube["flags"] = like.copy(data=bits.astype("uint16")).assign_attrs(flag_attrs(), cloud_mask="SCL")
    values = rng.choice([0, 0, 1, 255], like.shape).astype("uint8")
    values[..., 0, 0] = 1  # and seen: there is a chip in every cube
    label = like.copy(data=values)
    for name, seen in (("flags", 0), ("B03", 5), ("vv", -9)):
        if name in cube:
            cube[name].values[..., 0, 0] = seen
    return cube, label


class Store(CountingArray):
    """An array of a make-believe file, which writes down what is read of it."""

    def __init__(self, values: np.ndarray, name: str, log: list[tuple[Any, ...]]) -> None:
        super().__init__(values)
        self.name, self.log = name, log

    def _read(self, key: tuple[int | slice, ...]) -> np.ndarray:
        spans = ((part.start, part.stop) if isinstance(part, slice) else part for part in key)
        self.log.append((self.name, *spans))
        return super()._read(key)


def in_file(
    data: Any, block: tuple[int, ...], *, name: str = "", log: list[tuple[Any, ...]] | None = None
) -> Any:
    """A cube or array as a file has it that was opened without Dask.

    ``block`` is its chunk along (time,) y, x; each read is written to ``log``.
    """
    log = [] if log is None else log
    if isinstance(data, xr.Dataset):
        return data.assign(
            {key: in_file(array, block, name=str(key), log=log) for key, array in data.data_vars.items()}
        )
    found = data.copy(data=indexing.LazilyIndexedArray(Store(data.values, name, log)))
    found.encoding["preferred_chunks"] = dict(zip(data.dims, block[-data.ndim :], strict=True))
    return found


class Inference:
    """All windows over a cube as the engine lays them out, standardises them and chooses their inputs."""

    def __init__(self, cube: xr.Dataset, model: ModelSpec, size: int, stride: int) -> None:
        dims = spatial_dims(cube)
        cube = cube.isel(reversed_dims(cube, dims))
        affine, (height, width) = geobox_of(cube).affine, geobox_of(cube).shape
        self.size = size
        self.y = Axis(height, pixel_index(-affine.f, affine.e), size, stride)
        self.x = Axis(width, pixel_index(affine.c, affine.a), size, stride)
        self.job = Job(model, self.y, self.x, batch=2, device="cpu", platform="")
        arrays = {name: array.values for name, array in find_inputs(cube, model, dims).items()}
        times = (0, cube.sizes.get("time", 1))
        self.block = lay_out(self.job, times, (0, height), (0, width), [((0, 0, 0), arrays)])
        self.staged = stage(self.job, self.block)

    def plane(self, name: str, step: int, row: int, col: int) -> np.ndarray:
        """Pixels of a window, in the cube's own units."""
        plane = self.block.planes[name]
        top, left = row - self.block.corner[0], col - self.block.corner[1]
        return plane[step if plane.shape[0] > 1 else 0, top : top + self.size, left : left + self.size]

    def inputs(self, step: int, row: int, col: int) -> dict[str, np.ndarray]:
        """What the network can be given at a window, by modality."""
        top, left = row - self.y.extent(0, self.y.size)[0], col - self.x.extent(0, self.x.size)[0]
        return {
            each.source.modality: each.values[
                step if each.values.shape[0] > 1 else 0, :, top : top + self.size, left : left + self.size
            ].numpy()
            for each in self.staged.modalities
        }

    def modalities(self) -> dict[tuple[int, int, int], str]:
        """By step, row and column of each window that is run: what it is run with."""
        rows, cols = self.y.starts(0, self.y.size), self.x.starts(0, self.x.size)
        names = [each.source.modality for each in self.staged.modalities]
        return {
            (step, rows[down], cols[across]): "+".join(names[number] for number in inputs)
            for inputs, windows in choose_windows(self.job, self.staged).items()
            for step, down, across in windows
        }
