"""The accessor ``.glof``: free functions, bound to the data before the dot."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import xarray as xr

from xglof.cube.card import card_html, card_text
from xglof.cube.complete import complete
from xglof.cube.composite import composite
from xglof.cube.coverage import coverage
from xglof.cube.registration import sensor_shift
from xglof.engine.apply import segment
from xglof.evaluate.bootstrap import score_intervals
from xglof.evaluate.boundary import score_boundary
from xglof.evaluate.calibration import score_calibration
from xglof.evaluate.chips import score_chips
from xglof.evaluate.histogram import sweep_thresholds
from xglof.evaluate.objects import score_lakes
from xglof.evaluate.scores import score
from xglof.lakes.alerts import detectability, find_alerts
from xglof.lakes.area import lake_area
from xglof.lakes.polygons import find_lakes
from xglof.lakes.scatter import interval
from xglof.lakes.series import flag_series
from xglof.lakes.totals import total_area
from xglof.lakes.trends import trend
from xglof.lakes.volume import lake_volume
from xglof.outputs import write_zarr
from xglof.rasters import write_cogs
from xglof.train.sampling import chips

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
    """``ds.glof``: of a cube, its segmentation and chips to train on; of maps, lakes and scores.

    Of a series of areas, its flags, intervals, trends, alerts, totals and volumes.
    """

    def __init__(self, data: xr.Dataset) -> None:
        self._data = data

    def __repr__(self) -> str:
        """Grid, dates, sensors and items in a few lines; nothing is computed."""
        return card_text(self._data)

    def _repr_html_(self) -> str:
        return card_html(self._data)

    complete = _method(complete)
    composite = _method(composite)
    coverage = _method(coverage)
    sensor_shift = _method(sensor_shift)
    segment = _method(segment)
    chips = _method(chips)
    lakes = _method(find_lakes)
    lake_area = _method(lake_area)
    flag_series = _method(flag_series)
    interval = _method(interval)
    trend = _method(trend)
    alerts = _method(find_alerts)
    detectability = _method(detectability)
    total_area = _method(total_area)
    lake_volume = _method(lake_volume)
    score = _method(score)
    score_chips = _method(score_chips)
    score_boundary = _method(score_boundary)
    score_lakes = _method(score_lakes)
    score_intervals = _method(score_intervals)
    sweep_thresholds = _method(sweep_thresholds)
    score_calibration = _method(score_calibration)
    to_zarr = _method(write_zarr)
    to_cogs = _method(write_cogs)


@xr.register_dataarray_accessor("glof")
class GlofArrayAccessor:
    """``da.glof`` on a ``lake`` map (uint8: 0 land, 1 lake, 255 unobserved): lakes and scores.

    On a layer ``lake_probability`` (floating point from 0 to 1, NaN unobserved): sweep and calibration.
    """

    def __init__(self, data: xr.DataArray) -> None:
        self._data = data

    lakes = _method(find_lakes)
    score = _method(score)
    score_chips = _method(score_chips)
    score_boundary = _method(score_boundary)
    score_lakes = _method(score_lakes)
    score_intervals = _method(score_intervals)
    sweep_thresholds = _method(sweep_thresholds)
    score_calibration = _method(score_calibration)
