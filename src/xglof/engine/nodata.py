"""Nodata that a variable states in its attributes, where it is not that of :mod:`xglof.bands`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from xglof.bands import MODALITIES
from xglof.errors import CubeError

#: What is nodata in a variable, and what takes its place.
Fill = tuple[float, float]


def other_fills(found: Mapping[str, xr.DataArray]) -> dict[str, Fill]:
    """Of variables whose attributes state a nodata that is not that of :mod:`xglof.bands`: it, and ours.

    Raises
    ------
    CubeError
        It is no number.
    """
    own = {band.name: band.nodata for modality in MODALITIES.values() for band in modality.bands}
    fills = {}
    for name in own.keys() & found.keys():
        attrs = found[name].attrs
        stated = attrs.get("nodata", attrs.get("_FillValue", own[name]))
        try:
            number = float(stated)
        except (TypeError, ValueError) as error:
            raise CubeError(
                f"{name} has the nodata {stated!r} in its attributes; expected a number"
            ) from error
        if number != own[name] and not np.isnan(number):  # NaN is never data
            fills[name] = (number, float(own[name]))
    return fills


def filled_dtype(dtype: np.dtype[Any], fill: Fill) -> np.dtype[Any]:
    """The dtype of :func:`fill_own`: float32 where whole numbers (heights, say) are to hold NaN."""
    if np.isnan(fill[1]) and dtype.kind in "iu":
        return np.dtype(np.float32)
    return dtype


def fill_own(values: Any, fill: Fill) -> Any:
    """A NumPy or Dask array with its own nodata in the place of the one that it states."""
    stated, own = fill
    dtype = filled_dtype(values.dtype, fill)
    return np.where(values == stated, dtype.type(own), values.astype(dtype, copy=False))
