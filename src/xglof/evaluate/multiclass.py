"""Agreement of maps of several classes: a confusion matrix and the scores of each class."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.errors import CubeError
from xglof.evaluate.pairing import pair_classes
from xglof.evaluate.reduction import Reduction, count_pixels, pooled_dims
from xglof.evaluate.shares import SHARES, add_shares
from xglof.lakes.layer import UNOBSERVED

_MOST = 254  # 255 is unobserved


def confusion_matrix(
    prediction: xr.Dataset | xr.DataArray,
    truth: xr.Dataset | xr.DataArray,
    *,
    classes: Sequence[str],
    dim: Hashable | Iterable[Hashable] | None = None,
) -> xr.DataArray:
    """Pixels of every true class by the class that was mapped, over the pixels that both observed.

    The counts add over dates, tiles and workers. Lazy where its inputs are; a task reads one block of each.

    Parameters
    ----------
    prediction, truth
        Datasets with ``classes`` or such layers: ``([time,] y, x)`` uint8, the place of the class in
        ``classes``, 255 unobserved; grids, dates and ``flags`` as of :func:`xglof.evaluate.score`.
    classes
        Names, in the order of their numbers from 0 on.
    dim
        What is pooled over; ``None`` for everything.

    Returns
    -------
    xarray.DataArray
        ``(..., truth, prediction)`` int64 pixels; both coordinates are the names.

    Raises
    ------
    CubeError
        As :func:`xglof.evaluate.score`; fewer than two names or some twice; where it is computed, numbers
        that have no name.
    """
    names = [str(name) for name in classes]
    if not 2 <= len(names) <= _MOST or len(set(names)) < len(names):
        raise CubeError(f"classes are {names}; expected 2 to {_MOST} different names")
    pair = pair_classes(prediction, truth)
    count = Reduction(_ClassCodes(len(names)), len(names) ** 2)
    counts = count_pixels(count, pair.layers, pool=pooled_dims(pair.mapped, dim))
    shape = (*counts.shape[:-1], len(names), len(names))
    dims = (*counts.dims[:-1], "truth", "prediction")
    attrs = {"long_name": "pixels by true and by mapped class", "units": "1"}
    matrix = xr.DataArray(counts.data.reshape(shape), dims=dims, coords=counts.coords, attrs=attrs)
    return matrix.assign_coords(truth=names, prediction=names)


def score_classes(matrix: xr.DataArray) -> xr.Dataset:
    """Scores of each class against all others, and over all classes.

    Parameters
    ----------
    matrix
        Sums of :func:`confusion_matrix`, ``(..., truth, prediction)``.

    Returns
    -------
    xarray.Dataset
        Dims ``(..., class)``: ``tp``, ``fp``, ``fn``, ``tn`` int64 pixels; ``iou``, ``f1``, ``precision``,
        ``recall`` float64, NaN where 0 is divided by 0. Dims ``(...)``: ``mean_iou``, over the classes that
        occur in either map (others have no IoU and are left out), and ``accuracy``, the share of the pixels
        that have their class.

    Raises
    ------
    CubeError
        No such matrix.

    Examples
    --------
    >>> matrix = xr.DataArray([[8, 2], [0, 2]], dims=("truth", "prediction"))
    >>> scores = score_classes(matrix.assign_coords(truth=["land", "lake"], prediction=["land", "lake"]))
    >>> scores["iou"].values.tolist(), float(scores["accuracy"])
    ([0.8, 0.5], 0.8333333333333334)
    """
    if {"truth", "prediction"} - set(matrix.dims) or matrix.sizes["truth"] != matrix.sizes["prediction"]:
        raise CubeError(f"the matrix has {dict(matrix.sizes)}; expected a square of 'truth' and 'prediction'")
    names = matrix["truth"].to_numpy()
    place = xr.DataArray(np.arange(len(names)), dims="class", coords={"class": names})
    plain = matrix.drop_vars(["truth", "prediction"])
    tp = plain.isel(truth=place, prediction=place)
    fn, fp = plain.sum("prediction").isel(truth=place) - tp, plain.sum("truth").isel(prediction=place) - tp
    total = plain.sum(("truth", "prediction"))
    scores = add_shares(xr.Dataset({"tp": tp, "fp": fp, "fn": fn, "tn": total - tp - fp - fn}))
    scores["mean_iou"] = scores["iou"].mean("class")
    scores["accuracy"] = tp.sum("class") / total.where(total > 0)
    order = [*(dim for dim in scores.dims if dim != "class"), "class"]
    for name in ("tp", "fp", "fn", "tn", *SHARES):
        scores[name].attrs.setdefault("units", "1")
    return scores.transpose(*order)


@dataclass(frozen=True, slots=True)
class _ClassCodes:
    """Of every pixel ``true class * classes + mapped class``; the square of their number counts nowhere."""

    classes: int

    def __call__(
        self, mapped: NDArray[np.uint8], actual: NDArray[np.uint8], asked: NDArray[np.bool_] | None
    ) -> NDArray[Any]:
        for name, values in (("prediction", mapped), ("truth", actual)):
            strange = (values >= self.classes) & (values != UNOBSERVED)
            if strange.any():
                number = int(values[strange].ravel()[0])
                raise CubeError(
                    f"the {name} holds class {number}, but {self.classes} names were given; name all classes "
                    "in the order of their numbers"
                )
        codes = actual.astype(np.int32) * self.classes + mapped
        seen = (mapped != UNOBSERVED) & (actual != UNOBSERVED)
        return np.where(seen if asked is None else seen & asked, codes, np.int32(self.classes**2))
