"""A labelled cube of made-up pixels on disk: texture and noise, every pixel observed, some of it lake."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _segment.raster import grid_of, repeated, tile

from xglof.models.registry import TINY_DEMO

_FIRST = np.datetime64("2021-07-05", "ns")


@dataclass(frozen=True, slots=True)
class Store:
    """A cube and its label on disk, and how they were made.

    ``side`` of the raster and ``chunk`` of the stored blocks in pixels; ``dates`` time steps.
    """

    folder: Path
    side: int
    chunk: int
    dates: int

    @property
    def cube(self) -> Path:
        """Of the bands."""
        return self.folder / "cube.zarr"

    @property
    def label(self) -> Path:
        """Of ``lake``."""
        return self.folder / "label.zarr"

    def open(self) -> tuple[Any, Any]:
        """The cube and the label, lazily and without Dask."""
        import xglof

        return xglof.read_zarr(self.cube, chunks=None), xglof.read_zarr(self.label, chunks=None)


def write_store(store: Store) -> None:
    """Write cube and label, a stored block at a time."""
    import dask.array as da
    import xarray as xr
    from odc.geo.xr import wrap_xr

    import xglof

    grid, pixels = grid_of(store.side), np.arange(store.side)
    times = _FIRST + np.arange(store.dates) * np.timedelta64(10, "D")
    chunks = (1, store.chunk, store.chunk)

    def timed(plane: Any) -> Any:
        lazy = da.broadcast_to(da.from_array(plane, chunks=chunks[1:]), (store.dates, *plane.shape))
        return wrap_xr(lazy.rechunk(chunks), grid, time=times)

    variables = {}
    for source in TINY_DEMO.inputs:
        for name in source.bands:
            plane = repeated(tile(name), pixels, pixels)
            if source.has_time:
                variables[name] = timed(plane)
            else:
                variables[name] = wrap_xr(da.from_array(plane, chunks=chunks[1:]), grid)
    lake = (repeated(tile("B03"), pixels, pixels) > 1700).astype(np.uint8)
    xglof.write_zarr(xr.Dataset(variables), store.cube)
    xglof.write_zarr(timed(lake).to_dataset(name="lake"), store.label)
