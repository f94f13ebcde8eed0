"""The graph of a composite: arrays cut at the windows, and one lazy plane a window (Dask only)."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from xglof.bands import CLD, Band
from xglof.cube import reduce
from xglof.cube.flags import dem_bits
from xglof.cube.reduce import NO_DAY, Sensor

if TYPE_CHECKING:
    import xarray as xr

Method = Literal["median", "medoid", "best"]

#: Side of a block, pixels, of variables that lie in a file or in memory: what files are written in.
_BLOCK_PX = 1008


@dataclass(frozen=True, slots=True)
class Groups:
    """A cube's steps in runs: those of one window, or those between windows.

    Attributes
    ----------
    sizes
        Steps of each group.
    of_window
        Group of each window; ``None`` for a window without steps.
    """

    sizes: tuple[int, ...]
    of_window: tuple[int | None, ...]

    @classmethod
    def of(cls, spans: Sequence[slice], steps: int) -> Groups:
        """Groups of windows given by their steps."""
        held = [span for span in spans if span.start < span.stop]
        edges = sorted({0, steps, *(span.start for span in held), *(span.stop for span in held)})
        starts = {edge: group for group, edge in enumerate(edges)}
        numbers = tuple(starts[span.start] if span in held else None for span in spans)
        return cls(tuple(after - before for before, after in pairwise(edges)), numbers)

    def steps(self) -> list[slice]:
        """The steps of each group."""
        return [slice(*pair) for pair in pairwise(accumulate(self.sizes, initial=0))]

    def runs(self) -> Iterator[tuple[int, slice | None]]:
        """Windows side by side: how many, and their groups, which follow each other, or ``None``."""
        shifts = [None if group is None else group - number for number, group in enumerate(self.of_window)]
        for shift, run in groupby(range(len(shifts)), shifts.__getitem__):
            numbers = list(run)
            yield len(numbers), None if shift is None else slice(numbers[0] + shift, numbers[-1] + shift + 1)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a composite is made of, once the arguments are checked.

    Attributes
    ----------
    method, least
        As the user has them; ``least`` is ``min_observations``.
    sensors
        ``"s2"`` and ``"s1"``, of those that the cube holds.
    layers
        Variables along time: sensor, whether a pixel without it is unobserved, and the band.
    groups, steps
        The windows, and :data:`xglof.cube.reduce.STEP` of each step.
    """

    method: Method
    least: int
    sensors: Mapping[str, Sensor]
    layers: Mapping[str, tuple[str, bool, Band]]
    groups: Groups
    steps: NDArray[np.void]

    def bands(self, sensor: str) -> list[str]:
        """Names of the bands of a sensor, layers such as SCL left out."""
        return [name for name, (own, needed, _) in self.layers.items() if own == sensor and needed]


def planes(cube: xr.Dataset, recipe: Recipe) -> dict[str, Any]:
    """Name -> Dask array ``(window, y, x)`` of every variable along time, with days, counts and flags.

    Parameters
    ----------
    cube
        Variables ``(time, y, x)``: ``flags`` and those of ``recipe.layers``; a ``dem`` ``(y, x)`` tells
        where it has nodata.
    """
    whole = _on_common_chunks(cube[["flags", *recipe.layers]], recipe.groups.sizes)
    whole["flags"] = whole["flags"].astype(np.uint16)  # whole numbers of any size until here
    stack = _Stack(recipe, whole, _use(whole, recipe))
    index = stack.indices()
    made = {name: stack.values(name, index) for name in recipe.layers}
    for name in recipe.sensors:
        made[f"{name}_day"] = stack.day(name, index[name])
        made[f"{name}_count"] = stack.count(name)
    made["flags"] = stack.flags(index)
    if "dem" in cube:
        _, rows, columns = made["flags"].chunks
        dem = cube["dem"].variable.chunk(dict(zip(cube["dem"].dims, (rows, columns), strict=True))).data
        made["flags"] = made["flags"] | dem.map_blocks(dem_bits, dtype=np.uint16)[None]
    return made


def _on_common_chunks(cube: xr.Dataset, sizes: tuple[int, ...]) -> dict[str, Any]:
    """Dask arrays on chunks in common; what is in no chunks yet is cut at the windows."""
    import xarray as xr

    lazy = {name: array for name, array in cube.data_vars.items() if array.chunks is not None}
    alike: Any = xr.unify_chunks(*lazy.values())
    chunks: Any = alike[0].chunks if alike else (sizes, _BLOCK_PX, _BLOCK_PX)
    found: dict[Any, Any] = dict(zip(lazy, alike, strict=True))
    for name, array in cube.data_vars.items():
        if name not in found:
            found[name] = array.chunk(dict(zip(array.dims, chunks, strict=True)))
    return {str(name): found[name].data for name in cube.data_vars}


def _use(whole: Mapping[str, Any], recipe: Recipe) -> Any:
    """What every observation is good for, step by step as the cube is cut: no task holds a window's bands."""
    import dask.array as da

    flags = whole["flags"]
    return da.map_blocks(
        reduce.usable,
        flags,
        da.from_array(recipe.steps, chunks=(flags.chunks[0], 1, 1)),
        *(whole[name] for name in recipe.layers),
        gaps=tuple((sensor, needed, band.nodata) for sensor, needed, band in recipe.layers.values()),
        sensors=dict(recipe.sensors),
        dtype=np.uint8,
        meta=np.empty((0, 0, 0), np.uint8),
    )


class _Stack:
    """The arrays of a cube with one chunk along time a group, and what is made of them."""

    def __init__(self, recipe: Recipe, whole: Mapping[str, Any], use: Any) -> None:
        import dask.array as da

        self.recipe, self.sizes = recipe, recipe.groups.sizes
        # by tasks even on a cluster: its shuffle would write every step to disk
        self.arrays = {name: array.rechunk({0: self.sizes}, method="tasks") for name, array in whole.items()}
        self.use = use.rechunk({0: self.sizes}, method="tasks")
        self.steps = da.from_array(recipe.steps, chunks=(self.sizes, 1, 1))

    def indices(self) -> dict[str, Any]:
        """Chosen step of each sensor, a plane a group."""
        recipe, index = self.recipe, {}
        for name, sensor in recipe.sensors.items():
            options = {"sensor": sensor, "least": recipe.least}
            if recipe.method == "median":
                index[name] = self._each(reduce.middle_index, self.use, dtype=np.int16, **options)
            elif name == "s1":
                arguments = (self.use, self.steps, *([index["s2"]] if "s2" in index else []))
                index[name] = self._each(reduce.nearest_index, *arguments, dtype=np.int16, **options)
            elif recipe.method == "medoid":
                bands = [self.arrays[band] for band in recipe.bands(name)]
                index[name] = self._each(reduce.medoid_index, self.use, *bands, dtype=np.int16, **options)
            else:
                arguments = (self.use, self.arrays["flags"], self.steps)
                index[name] = self._each(reduce.best_index, *arguments, dtype=np.int16, **options)
        return index

    def values(self, name: str, index: Mapping[str, Any]) -> Any:
        """A variable, a plane a window."""
        own, needed, band = self.recipe.layers[name]
        array, chosen = self.arrays[name], index[own]
        options: dict[str, Any] = {"nodata": band.nodata, "dtype": array.dtype}
        if self.recipe.method != "median":
            return self._windows(self._each(reduce.take, array, chosen, **options), band.nodata)
        kernel = reduce.median if needed or band == CLD else reduce.mode
        bit = self.recipe.sensors[own].counted
        return self._windows(self._each(kernel, array, self.use, chosen, bit=bit, **options), band.nodata)

    def day(self, name: str, chosen: Any) -> Any:
        """Day of the chosen step, a plane a window."""
        return self._windows(
            self._each(reduce.day, chosen, self.steps, field=name, dtype=np.int32), nodata=NO_DAY
        )

    def count(self, name: str) -> Any:
        """Usable observations, a plane a window."""
        bit = self.recipe.sensors[name].counted
        return self._windows(self._each(reduce.count, self.use, bit=bit, dtype=np.uint16), nodata=0)

    def flags(self, index: Mapping[str, Any]) -> Any:
        """Flags, a plane a window."""
        flags = self.arrays["flags"]
        parts = [self._each(reduce.dem_flags, flags, dtype=np.uint16)]
        for name, sensor in self.recipe.sensors.items():
            options = {"sensor": sensor, "majority": self.recipe.method == "median"}
            chosen = [index[name], *(index[other] for other in index if other != name)]
            parts.append(
                self._each(reduce.sensor_flags, flags, self.use, *chosen, dtype=np.uint16, **options)
            )
        missing = functools.reduce(operator.or_, (each.missing for each in self.recipe.sensors.values()))
        return self._windows(functools.reduce(operator.or_, parts), nodata=missing)

    def _each(self, kernel: Callable[..., NDArray[Any]], *arrays: Any, dtype: Any, **options: Any) -> Any:
        """A kernel over every group: one plane of each."""
        import dask.array as da

        chunks = ((1,) * len(self.sizes), *self.use.chunks[1:])
        meta = np.empty((0, 0, 0), dtype)
        return da.map_blocks(kernel, *arrays, chunks=chunks, dtype=dtype, meta=meta, **options)

    def _windows(self, planes: Any, nodata: float) -> Any:
        """The planes of the windows among those of the groups; nodata for windows without steps."""
        import dask.array as da

        _, rows, columns = planes.chunks
        parts = []
        for number, groups in self.recipe.groups.runs():
            if groups is not None:
                parts.append(planes[groups])
                continue
            shape, chunks = (number, *planes.shape[1:]), ((1,) * number, rows, columns)
            parts.append(da.full(shape, nodata, dtype=planes.dtype, chunks=chunks))
        return parts[0] if len(parts) == 1 else da.concatenate(parts)
