"""Small simulated lake maps for the tests."""

from __future__ import annotations

import dask
import numpy as np
import odc.geo.xr
import xarray as xr
from odc.geo.geobox import GeoBox

UTM = GeoBox((60, 80), odc.geo.geobox.Affine(10, 0, 497_000, 0, -10, 3_080_000), "EPSG:32645")


def lake_map(values, grid=UTM, *, first="2023-07-01", chunks=None, flags=None) -> xr.Dataset:
    """Dataset of a uint8 array ``([time,] y, x)`` on a grid (cut to the array's shape)."""
    values = np.asarray(values, "uint8")
    grid = grid[: values.shape[-2], : values.shape[-1]]
    names = {"lake": values} if flags is None else {"lake": values, "flags": np.asarray(flags, "uint16")}
    arrays = {}
    for name, array in names.items():
        kwargs = {}
        if values.ndim == 3:
            steps = np.arange(len(values)) * np.timedelta64(10, "D")
            kwargs["time"] = (np.datetime64(first, "D") + steps).astype("datetime64[ns]")
        arrays[name] = odc.geo.xr.wrap_xr(array, grid, **kwargs)
    seg = xr.Dataset(arrays)
    return seg if chunks is None else seg.chunk(chunks)


def empty(times=None, shape=(60, 80)):
    return np.zeros(shape if times is None else (times, *shape), "uint8")


class Computed(Exception):  # noqa: N818
    """Something computed that should have been lazy."""


def raising_scheduler():
    def refuse(*_args, **_kwargs):
        raise Computed("a lazy call computed")

    return dask.config.set(scheduler=refuse)
