"""An array on a make-believe disk, which remembers how much was read from it at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing


class CountingArray(BackendArray):
    """Lazily indexed; ``largest`` is the number of pixels of the largest part that was read."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.largest = 0

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[int | slice, ...]) -> np.ndarray:
        part = self.values[key]
        self.largest = max(self.largest, part.size)
        return part


def on_disk(array: xr.DataArray) -> tuple[xr.DataArray, CountingArray]:
    """The array as one of a file opened without Dask, and what counts its reads."""
    counting = CountingArray(array.values)
    return array.copy(data=indexing.LazilyIndexedArray(counting)), counting
