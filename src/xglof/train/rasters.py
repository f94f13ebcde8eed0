"""A labelled cube as chips are cut from it: north up, checked, nothing read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from xglof.bands import resolve
from xglof.engine.inputs import (
    check_mask,
    check_resolution,
    find_inputs,
    for_radar,
    geobox_of,
    reversed_dims,
    spatial_dims,
)
from xglof.engine.lattice import Axis, pixel_index
from xglof.engine.nodata import Fill, other_fills
from xglof.errors import TrainError
from xglof.models.spec import ModelInput, ModelSpec
from xglof.train.labels import labels_of

#: Names of what is no variable of the cube.
LABEL, WHERE, SCORES = "label", "where", "scores"

Where = xr.DataArray | Callable[[xr.Dataset], xr.DataArray] | None


@dataclass(frozen=True, slots=True, eq=False)
class Raster:
    """A labelled cube.

    Attributes
    ----------
    arrays
        Bands, ``flags`` where there are any, ``label`` uint8 and, where given, ``where`` bool:
        ``(time, y, x)`` or ``(y, x)``.
    scores
        Probability of lake, float, NaN unknown, or ``None``.
    fills
        As :func:`xglof.engine.nodata.other_fills` gives them.
    geobox
        The grid.
    times
        Of the steps, datetime64[ns]; ``None`` without time.
    """

    arrays: Mapping[str, xr.DataArray]
    scores: xr.DataArray | None
    fills: Mapping[str, Fill]
    geobox: Any
    times: npt.NDArray[np.datetime64] | None

    @property
    def steps(self) -> int:
        """Number of time steps; 1 without time."""
        return 1 if self.times is None else len(self.times)

    def inputs(self, spec: ModelSpec) -> list[ModelInput]:
        """The inputs of a model that the cube has; an optional modality is there whole or not at all."""
        return [each for each in spec.inputs if each.bands[0] in self.arrays]

    def axes(self, size: int, stride: int) -> tuple[Axis, Axis]:
        """The lattice of squares along y and x: the same squares for every cube over the same ground."""
        affine, (height, width) = self.geobox.affine, self.geobox.shape
        return (
            Axis(height, pixel_index(-affine.f, affine.e), size, stride),
            Axis(width, pixel_index(affine.c, affine.a), size, stride),
        )


def raster_of(
    cube: xr.Dataset, label: Any, where: Where, scores: xr.Dataset | xr.DataArray | None, spec: ModelSpec
) -> tuple[Raster, ModelSpec]:
    """A cube with its label, and the spec with the Sentinel-1 input that the cube holds.

    Raises
    ------
    CubeError
        As :func:`xglof.segment` raises it.
    TrainError
        The label or the score map does not fit the cube.
    """
    names = resolve(cube.data_vars)
    cube = cube.rename({met: name for met, name in names.items() if name not in cube.coords})
    dims = spatial_dims(cube)
    mask = where(cube) if callable(where) else where
    extra = {LABEL: labels_of(label, cube)}
    if mask is not None:
        extra[WHERE] = check_mask(mask, cube, dims)
    score_map = None if scores is None else _score_map(scores, cube, dims)
    turned = reversed_dims(cube, dims)
    cube = cube.isel(turned)
    spec = for_radar(spec, cube)
    check_resolution(cube, spec)
    arrays = find_inputs(cube, spec, dims)
    fills = other_fills(arrays)
    arrays |= {name: array.isel(turned) for name, array in extra.items()}
    times = cube["time"].to_numpy().astype("datetime64[ns]") if "time" in cube.dims else None
    raster = Raster(
        arrays={name: array.drop_vars(list(array.coords)) for name, array in arrays.items()},
        scores=None if score_map is None else score_map.isel(turned),
        fills=fills,
        geobox=geobox_of(cube),
        times=times,
    )
    return raster, spec


def _score_map(scores: xr.Dataset | xr.DataArray, cube: xr.Dataset, dims: tuple[str, str]) -> xr.DataArray:
    """A map of scores as it is, without coordinates, if it lies on the cube's grid and times."""
    found = scores["lake_probability"] if isinstance(scores, xr.Dataset) else scores
    if found.dtype.kind != "f":
        raise TrainError(f"scores are {found.dtype}; expected probabilities, such as segment() gives")
    if found.dims not in (dims, ("time", *dims)) or geobox_of(found) != geobox_of(cube):
        raise TrainError(
            f"scores lie on another grid than the cube: {dict(found.sizes)} against {dict(cube.sizes)}, or "
            "from another corner; make them with segment() from this cube"
        )
    if "time" in found.dims and not np.array_equal(found["time"].to_numpy(), cube["time"].to_numpy()):
        raise TrainError("scores have other times than the cube; select the cube's with sel(time=cube.time)")
    return found.drop_vars(list(found.coords))
