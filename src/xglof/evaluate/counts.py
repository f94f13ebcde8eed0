"""Confusion counts of a lake map against a truth, over the pixels that both observed."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xglof.errors import CubeError
from xglof.lakes.layer import LAKE, UNOBSERVED, grid_dims, lake_layer
from xglof.lakes.pixels import flag_layer, requested

_SAME_PX = 1e-3  # grids whose corners differ by less, in pixels, are the same
_LONG_NAMES = {
    "tp": "pixels that are lake in both",
    "fp": "pixels that are lake in the prediction only",
    "fn": "pixels that are lake in the truth only",
    "tn": "pixels that are lake in neither",
    "unobserved": "requested pixels that the prediction or the truth did not observe",
}


def confusion_counts(
    prediction: xr.Dataset | xr.DataArray, truth: xr.Dataset | xr.DataArray, *, threshold: float | None = None
) -> xr.Dataset:
    """Counts of agreement of every time step, over the pixels that prediction and truth both observed.

    Lazy where its inputs are; a task reads one block of each. The counts add: sum them over dates or tiles
    before dividing.

    Parameters
    ----------
    prediction
        Segmentation, or its ``lake``: ``([time,] y, x)`` uint8, 0 land, 1 lake, 255 unobserved. Pixels that
        its ``flags`` (uint16) call ``not_requested`` count nowhere.
    truth
        ``lake`` of the same kind (or bool, observed everywhere), or a Dataset with it, on the same grid and
        dates. Without ``time`` it holds for every date of the prediction.
    threshold
        Instead of ``lake``, ``lake_probability >= threshold`` is the prediction, NaN unobserved.

    Returns
    -------
    xarray.Dataset
        ``tp``, ``fp``, ``fn``, ``tn``, ``unobserved``: int64 pixels, dims ``(time)`` or none.

    Raises
    ------
    CubeError
        A layer is missing or of another dtype, grids or dates differ, a date occurs twice, ``flags`` that are
        no bits, a threshold that is not between 0 and 1.
    """
    where = outcomes(prediction, truth, threshold=threshold)
    return count(where, [dim for dim in where.dims if dim != "time"])


def outcomes(
    prediction: xr.Dataset | xr.DataArray, truth: xr.Dataset | xr.DataArray, *, threshold: float | None = None
) -> xr.Dataset:
    """Which pixels are ``tp``, ``fp``, ``fn``, ``tn``, ``unobserved``: bool, see :func:`confusion_counts`."""
    mapped = _predicted(prediction, threshold)
    actual = _on_grid_of(mapped, lake_layer(truth))
    seen = (mapped != UNOBSERVED) & (actual != UNOBSERVED)
    unseen = ~seen
    flags = flag_layer(prediction, mapped)
    if flags is not None:
        asked = requested(flags)
        seen, unseen = seen & asked, unseen & asked
    wet, true = mapped == LAKE, actual == LAKE
    found = {
        "tp": seen & wet & true,
        "fp": seen & wet & ~true,
        "fn": seen & ~wet & true,
        "tn": seen & ~wet & ~true,
        "unobserved": unseen,
    }
    return xr.Dataset(found)


def count(where: xr.Dataset, dims: Any) -> xr.Dataset:
    """Sums of outcomes over dims: int64, units ``1``."""
    counts = where.sum(dims, dtype="int64")
    for name, long_name in _LONG_NAMES.items():
        counts[name].attrs = {"long_name": long_name, "units": "1"}
    return counts


def _predicted(prediction: xr.Dataset | xr.DataArray, threshold: float | None) -> xr.DataArray:
    if threshold is None:
        return lake_layer(prediction)
    if not 0 <= threshold <= 1:
        raise CubeError(f"threshold is {threshold}; expected a probability between 0 and 1")
    if isinstance(prediction, xr.Dataset):
        if "lake_probability" not in prediction:
            raise CubeError(
                f"threshold={threshold} needs 'lake_probability', but the dataset holds "
                f"{sorted(map(str, prediction))}; leave the threshold out to score 'lake'"
            )
        prediction = prediction["lake_probability"]
    return _thresholded(prediction, threshold)


def _thresholded(probability: xr.DataArray, threshold: float) -> xr.DataArray:
    if probability.dtype.kind != "f":
        raise CubeError(f"threshold={threshold} needs probabilities (floats), got {probability.dtype}")
    grid_dims(probability)  # raises where there is none
    # float32 0.7 lies below float64 0.7: compare as the layer was thresholded, in its own precision
    wet = (probability >= probability.dtype.type(threshold)).astype("uint8")
    return lake_layer(wet.where(probability.notnull(), np.uint8(UNOBSERVED)))


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
