"""A prediction and a truth, laid pixel on pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xglof.errors import CubeError
from xglof.lakes.layer import UNOBSERVED, grid_dims, lake_layer, north_up
from xglof.lakes.pixels import flag_layer, requested

_SAME_PX = 1e-3  # grids whose corners differ by less, in pixels, are the same


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Layers of one grid and its dates, lazily, rows from north to south and columns from west to east.

    Attributes
    ----------
    mapped
        ``([time,] y, x)``: uint8, 0 land, 1 lake (or a class), 255 unobserved; or probabilities, NaN
        unobserved.
    actual
        ``([time,] y, x)`` uint8, likewise; without time it holds for every date.
    asked
        Where a map was asked for, bool; ``None`` for everywhere.
    """

    mapped: xr.DataArray
    actual: xr.DataArray
    asked: xr.DataArray | None

    @property
    def layers(self) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray | None]:
        """The three, as a reduction takes them."""
        return self.mapped, self.actual, self.asked


def pair_lakes(
    prediction: xr.Dataset | xr.DataArray, truth: xr.Dataset | xr.DataArray, *, threshold: float | None = None
) -> Pair:
    """Lake maps of a prediction and a truth; see :func:`xglof.evaluate.confusion_counts`."""
    return _pair(_predicted(prediction, threshold), prediction, lake_layer(truth))


def pair_probability(prediction: xr.Dataset | xr.DataArray, truth: xr.Dataset | xr.DataArray) -> Pair:
    """Probabilities of lake of a prediction, and the lake map of a truth.

    Raises
    ------
    CubeError
        No probabilities, or what :func:`xglof.evaluate.confusion_counts` raises.
    """
    layer = _probability(prediction, "a sweep over thresholds")
    return _pair(layer, prediction, lake_layer(truth))


def pair_classes(prediction: xr.Dataset | xr.DataArray, truth: xr.Dataset | xr.DataArray) -> Pair:
    """Maps of classes, ``classes`` of a Dataset or that layer: uint8, 255 unobserved."""
    return _pair(_classes(prediction), prediction, _classes(truth))


def _pair(mapped: xr.DataArray, prediction: xr.Dataset | xr.DataArray, actual: xr.DataArray) -> Pair:
    actual = _on_grid_of(mapped, actual)
    flags = flag_layer(prediction, mapped)
    return Pair(mapped, actual, None if flags is None else requested(flags))


def _classes(given: xr.Dataset | xr.DataArray) -> xr.DataArray:
    if isinstance(given, xr.Dataset):
        if "classes" not in given:
            raise CubeError(
                f"the dataset holds {sorted(map(str, given))}; expected 'classes', as "
                "segment(output=('probability', 'classes')) gives it"
            )
        given = given["classes"]
    if given.dtype != np.uint8:
        raise CubeError(f"the map of classes is {given.dtype}; expected uint8, 255 unobserved")
    return lake_layer(given).rename("classes")


def _predicted(prediction: xr.Dataset | xr.DataArray, threshold: float | None) -> xr.DataArray:
    if threshold is None:
        return lake_layer(prediction)
    if not 0 <= threshold <= 1:
        raise CubeError(f"threshold is {threshold}; expected a probability between 0 and 1")
    probability = _probability(prediction, f"threshold={threshold}")
    # float32 0.7 lies below float64 0.7: compare as the layer was thresholded, in its own precision
    wet = (probability >= probability.dtype.type(threshold)).astype("uint8")
    return lake_layer(wet.where(probability.notnull(), np.uint8(UNOBSERVED)))


def _probability(prediction: xr.Dataset | xr.DataArray, asker: str) -> xr.DataArray:
    if isinstance(prediction, xr.Dataset):
        if "lake_probability" not in prediction:
            raise CubeError(
                f"{asker} needs 'lake_probability', but the dataset holds "
                f"{sorted(map(str, prediction))}; score() without a threshold takes 'lake'"
            )
        prediction = prediction["lake_probability"]
    if prediction.dtype.kind != "f":
        raise CubeError(f"{asker} needs probabilities (floats), got {prediction.dtype}")
    grid_dims(prediction)  # raises where there is none
    dims = lake_layer(prediction.isnull()).dims  # checked as a map is
    return north_up(prediction.transpose(*dims))


def _on_grid_of(mapped: xr.DataArray, actual: xr.DataArray) -> xr.DataArray:
    """The truth with the prediction's coordinates, once both are known to be the same."""
    here, there = mapped.odc.geobox, actual.odc.geobox
    if not _same_grid(here, there):
        raise CubeError(
            "prediction and truth lie on different grids; bring the truth to the prediction's with "
            f"truth.odc.reproject(seg.odc.geobox, resampling='nearest'):\n  prediction: {_described(here)}\n"
            f"  truth:      {_described(there)}"
        )
    if "time" in actual.dims:
        actual = _same_dates(mapped, actual)
    names = dict(zip(grid_dims(actual), grid_dims(mapped), strict=True))
    actual = actual.rename({old: new for old, new in names.items() if old != new})
    # coordinates that differ in the last bit would be dropped by xarray's alignment
    return actual.reset_coords(drop=True).assign_coords({dim: mapped[dim] for dim in names.values()})


def _same_grid(here: Any, there: Any) -> bool:
    if here.crs != there.crs or here.shape != there.shape:
        return False
    step = np.abs([here.resolution.x, here.resolution.y])
    corners = [np.array(box.boundingbox.bbox).reshape(2, 2) for box in (here, there)]
    return bool((np.abs(corners[0] - corners[1]) < _SAME_PX * step).all())


def _described(grid: Any) -> str:
    west, south, east, north = grid.boundingbox.bbox
    height, width = grid.shape
    code = f"EPSG:{grid.crs.epsg}" if grid.crs.epsg else "its own CRS"
    return f"{height} x {width} px in {code}, x {west:.10g} to {east:.10g}, y {south:.10g} to {north:.10g}"


def _same_dates(mapped: xr.DataArray, actual: xr.DataArray) -> xr.DataArray:
    if "time" not in mapped.dims:
        raise CubeError(
            "the truth has dates and the prediction none; select the truth's date with .sel(time=...)"
        )
    ours, theirs = mapped.indexes["time"], actual.indexes["time"]
    problems = []
    for missing, side in ((ours.difference(theirs), "truth"), (theirs.difference(ours), "prediction")):
        if len(missing):
            listed = ", ".join(str(t) for t in missing[:5])
            problems.append(f"{len(missing)} missing in the {side}: {listed}")
    if problems:
        raise CubeError(
            f"the dates of prediction and truth differ ({'; '.join(problems)}); "
            "select the same ones with .sel(time=...) on both"
        )
    return actual.sel(time=mapped["time"])
