"""Counts of pixels of a kind over any dims, squares and blocks: chunk, combine, finalize.

Chunk: every pixel of a block gets the code of its kind, and the codes are counted. Combine: whole numbers are
added, so the counts are the same for any chunks and workers. Finalize: what asked for the counts gives them
names and divides.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.cube.pixel_grid import PixelGrid
from xglof.errors import CubeError
from xglof.lakes.layer import grid_dims

Codes = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Reduction:
    """How pixels are counted.

    Attributes
    ----------
    code
        From blocks of the layers, which broadcast against each other, to the code of every pixel: whole
        numbers below ``size``, and ``size`` for what counts nowhere.
    size
        How many codes there are.
    weight
        From the same blocks to whole numbers, whose sums by code follow after the counts; ``None`` for none.
    """

    code: Callable[..., Codes]
    size: int
    weight: Callable[..., NDArray[Any]] | None = None

    @property
    def length(self) -> int:
        """How many numbers a block gives for each of its groups of pixels."""
        return self.size * (1 if self.weight is None else 2)


@dataclass(frozen=True, slots=True, eq=False)
class Squares:
    """Squares of the absolute lattice of pixels, the same for a map and any part of it.

    Attributes
    ----------
    ids
        By dim, the number of the row or column of squares in which each pixel lies; they never fall.
    centres
        By dim, coordinates of the centres of those rows or columns, in the order of their numbers.
    """

    ids: Mapping[Hashable, NDArray[np.int64]]
    centres: Mapping[Hashable, NDArray[np.float64]]


def squares_of(layer: xr.DataArray, rows_px: int, columns_px: int) -> Squares:
    """Squares of ``rows_px`` by ``columns_px`` pixels over a layer with a grid; those at its edge are cut."""
    lattice, window = PixelGrid.of(layer.odc.geobox)
    rows, columns = grid_dims(layer)
    axes = (
        (rows, rows_px, window.top, window.bottom, lattice.phase_y, lattice.step_y),
        (columns, columns_px, window.left, window.right, lattice.phase_x, lattice.step_x),
    )
    ids: dict[Hashable, NDArray[np.int64]] = {}
    centres: dict[Hashable, NDArray[np.float64]] = {}
    for dim, side, first, last, phase, step in axes:
        ids[dim] = np.arange(first, last, dtype=np.int64) // side
        centres[dim] = np.asarray(((np.unique(ids[dim]) + 0.5) * side + phase) * step, np.float64)
    return Squares(ids, centres)


def count_pixels(
    reduction: Reduction,
    layers: Sequence[xr.DataArray | None],
    *,
    pool: Iterable[Hashable],
    squares: Squares | None = None,
) -> xr.DataArray:
    """Counts of every code, lazily where a layer is lazy.

    Parameters
    ----------
    reduction
        What is counted.
    layers
        Of one grid; the first has all dims, the others all or the last ones of them.
    pool
        Dims that are summed over.
    squares
        Along whose dims counts are those of squares.

    Returns
    -------
    xarray.DataArray
        int64, dims those of the first layer that are not pooled, then ``code``. A task holds one block of the
        layers, some 30 bytes a pixel of it and two or three times the counts that it gives: 8 bytes for each
        code of each place of the dims that are not pooled.
    """
    plan = _plan(reduction, layers, set(pool), squares)
    count = partial(
        count_block, reduction=reduction, layers=len(layers), pooled=plan.pooled, grouped=plan.grouped
    )
    lazy = any(layer is not None and layer.chunks is not None for layer in layers)
    counts = _lazy_counts(count, plan) if lazy else _eager_counts(count, plan)
    whole, kept = plan.whole, [dim for axis, dim in enumerate(plan.dims) if axis not in plan.pooled]
    plain = set(kept) - set(() if squares is None else squares.ids)
    coords = {name: coord for name, coord in whole.coords.items() if set(coord.dims) <= plain}
    if squares is not None:
        coords |= {dim: (dim, squares.centres[dim], whole[dim].attrs) for dim in squares.ids}
    return xr.DataArray(counts, dims=[*kept, "code"], coords=coords)


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """Which axes are summed over, and which are cut into squares, by their numbers of squares."""

    whole: xr.DataArray
    layers: Sequence[xr.DataArray | None]
    size: int
    pooled: tuple[int, ...]
    groups: Mapping[int, NDArray[np.int64]]

    @property
    def dims(self) -> tuple[Hashable, ...]:
        return self.whole.dims

    @property
    def sizes(self) -> Mapping[Hashable, int]:
        return self.whole.sizes

    @property
    def grouped(self) -> tuple[int, ...]:
        return tuple(sorted(self.groups))


def _plan(
    reduction: Reduction,
    layers: Sequence[xr.DataArray | None],
    pool: set[Hashable],
    squares: Squares | None,
) -> _Plan:
    whole = next(layer for layer in layers if layer is not None)
    ids = {} if squares is None else squares.ids
    pooled = tuple(axis for axis, dim in enumerate(whole.dims) if dim in pool - set(ids))
    groups = {axis: ids[dim] for axis, dim in enumerate(whole.dims) if dim in ids}
    return _Plan(whole, layers, reduction.length, pooled, groups)


def _eager_counts(count: Callable[..., NDArray[np.int64]], plan: _Plan) -> NDArray[np.int64]:
    blocks = [None if layer is None else layer.to_numpy() for layer in plan.layers]
    counts = count(*blocks, *(plan.groups[axis] for axis in plan.grouped))
    return np.asarray(counts.sum(axis=plan.pooled))


def _lazy_counts(count: Callable[..., NDArray[np.int64]], plan: _Plan) -> Any:
    import dask.array as da

    chunks = _common_chunks(plan)
    arguments: list[Any] = []
    for layer in plan.layers:
        own = (
            None if layer is None else layer.chunk({dim: chunks[plan.dims.index(dim)] for dim in layer.dims})
        )
        axes = None if own is None else tuple(plan.dims.index(dim) for dim in own.dims)
        arguments += [None if own is None else own.data, axes]
    lengths = {axis: (1,) * len(chunks[axis]) for axis in plan.pooled}
    pieces = {axis: _pieces(plan.groups[axis], chunks[axis]) for axis in plan.grouped}
    for axis, found in pieces.items():
        arguments += [da.from_array(plan.groups[axis], chunks=(chunks[axis],)), (axis,)]
        lengths[axis] = tuple(len(part) for part in found)
    last = len(plan.dims)
    counts = da.blockwise(
        count,
        (*range(last), last),
        *arguments,
        new_axes={last: plan.size},
        adjust_chunks=lengths,
        dtype=np.int64,
        meta=np.empty((0,) * (last + 1), np.int64),
    )
    for axis, found in pieces.items():
        counts = _merged(counts, axis, np.concatenate(found))
    return counts.sum(axis=plan.pooled) if plan.pooled else counts


def _common_chunks(plan: _Plan) -> list[tuple[int, ...]]:
    """Chunks along each dim: those of the first layer that has any."""
    chunks: dict[Hashable, tuple[int, ...]] = {}
    for layer in plan.layers:
        if layer is not None and layer.chunks is not None:
            chunks = {**layer.chunksizes, **chunks}
    return [chunks.get(dim, (size,)) for dim, size in plan.sizes.items()]


def _pieces(group: NDArray[np.int64], sizes: tuple[int, ...]) -> list[NDArray[np.int64]]:
    """Numbers of the squares in each chunk along a dim."""
    return [np.unique(part) for part in np.split(group, np.cumsum(sizes)[:-1])]


def _merged(counts: Any, axis: int, numbers: NDArray[np.int64]) -> Any:
    """Counts of squares that several blocks hold pieces of, added."""
    import dask.array as da

    starts = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 1))
    if len(starts) == len(numbers):
        return counts
    counts = counts.rechunk({axis: -1})
    chunks = tuple((len(starts),) if place == axis else sizes for place, sizes in enumerate(counts.chunks))
    how = {"indices": starts, "axis": axis}
    return da.map_blocks(np.add.reduceat, counts, **how, dtype=np.int64, chunks=chunks, meta=counts._meta)


def count_block(
    *blocks: Any, reduction: Reduction, layers: int, pooled: tuple[int, ...], grouped: tuple[int, ...]
) -> NDArray[np.int64]:
    """Counts of one block: length 1 along pooled axes, one entry a square along grouped ones, then codes."""
    planes, groups = blocks[:layers], dict(zip(grouped, blocks[layers:], strict=True))
    codes = np.asarray(reduction.code(*planes))
    place, lengths = np.zeros((1,) * codes.ndim, np.intp), [1] * codes.ndim
    for axis in (axis for axis in range(codes.ndim) if axis not in pooled):
        found = groups.get(axis, np.arange(codes.shape[axis]))
        numbers, along = np.unique(found, return_inverse=True)
        lengths[axis] = len(numbers)
        place = place * len(numbers) + along.reshape([-1 if a == axis else 1 for a in range(codes.ndim)])
    size, pieces = reduction.size + 1, int(np.prod(lengths))
    index = (place * size + codes).ravel()
    found = [np.bincount(index, minlength=pieces * size)]
    if reduction.weight is not None:
        weight = np.broadcast_to(reduction.weight(*planes), codes.shape)
        found.append(np.bincount(index, weight.ravel(), minlength=pieces * size))  # exact below 2^53
    counts = [each.astype(np.int64).reshape(*lengths, size)[..., :-1] for each in found]
    return np.concatenate(counts, axis=-1)


def pooled_dims(layer: xr.DataArray, dim: Hashable | Iterable[Hashable] | None) -> list[Hashable]:
    """The dims that a ``dim`` argument names, all for ``None``.

    Raises
    ------
    CubeError
        The layer has no such dim.
    """
    if dim is None:
        return list(layer.dims)
    dims = [dim] if isinstance(dim, str) or not isinstance(dim, Iterable) else list(dim)
    unknown = [name for name in dims if name not in layer.dims]
    if unknown:
        raise CubeError(f"dim names {unknown}, but the maps have {tuple(layer.dims)}")
    return dims
