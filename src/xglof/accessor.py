"""The accessor ``.glof``: free functions, bound to the data before the dot."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import xarray as xr

from xglof.engine.apply import segment
from xglof.evaluate.scores import score
from xglof.lakes.area import lake_area
from xglof.lakes.polygons import find_lakes
from xglof.outputs import write_zarr
from xglof.rasters import write_cogs

P = ParamSpec("P")
R = TypeVar("R")


def _method(function: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """The free function as a method, with its signature and docstring."""

    @functools.wraps(function)
    def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return function(self._data, *args, **kwargs)

    return method


@xr.register_dataset_accessor("glof")
class GlofDatasetAccessor:
    """``ds.glof``: segmentation of cubes; lakes, areas, scores and files of segmentations."""

    def __init__(self, data: xr.Dataset) -> None:
        self._data = data

    segment = _method(segment)
    lakes = _method(find_lakes)
    lake_area = _method(lake_area)
    score = _method(score)
    to_zarr = _method(write_zarr)
    to_cogs = _method(write_cogs)


@xr.register_dataarray_accessor("glof")
class GlofArrayAccessor:
    """``da.glof`` on a ``lake`` map (uint8: 0 land, 1 lake, 255 unobserved): lakes and scores."""

    def __init__(self, data: xr.DataArray) -> None:
        self._data = data

    lakes = _method(find_lakes)
    score = _method(score)
