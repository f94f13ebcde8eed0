"""What lies under each window of a labelled cube: one pass over labels and flags, block by block in Dask.

Bands are read where flags do not tell: in cubes without flags of :func:`xglof.open_cube`, and in the blocks
where a flag says that a sensor has no data, since that flag is also set where a sensor's data is defective.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.base import compute

from xglof.cube.flags import Flag
from xglof.engine.job import Span
from xglof.engine.lattice import Axis
from xglof.engine.nodata import fill_own
from xglof.errors import TrainError
from xglof.models.spec import ModelInput, ModelSpec
from xglof.train.cells import Cover, cover, in_cells, under_windows
from xglof.train.labels import IGNORE
from xglof.train.rasters import LABEL, SCORES, WHERE, Raster
from xglof.train.reader import on_one_chunking
from xglof.train.stored import stored_edges

Arrays = Mapping[str, npt.NDArray[Any]]
Counts = dict[str, npt.NDArray[np.float64]]

#: Least side of the blocks of the pass, pixels: smaller ones are counted together.
_BLOCK_PX = 1024
#: Windows whose counts are held at a time.
_WINDOWS = 1 << 21
#: The flag under which a modality may have no data.
_NODATA = {"S2L2A": Flag.s2_nodata, "S1RTC": Flag.s1_nodata, "S1GRD": Flag.s1_nodata}


@dataclass(frozen=True, slots=True)
class Pass:
    """What a task counts.

    Attributes
    ----------
    spec, inputs
        The model, and its inputs that the cube has.
    y, x
        The lattice.
    trusted
        Modalities whose nodata the flags tell: they are :func:`xglof.open_cube`'s own.
    """

    spec: ModelSpec
    inputs: tuple[ModelInput, ...]
    y: Axis
    x: Axis
    trusted: tuple[str, ...]


def count_windows(raster: Raster, spec: ModelSpec, y: Axis, x: Axis) -> Iterator[tuple[int, Counts]]:
    """Counts of pixels under all windows that touch a raster, some time steps at a time.

    Parameters
    ----------
    raster
        The labelled cube.
    spec
        The model.
    y, x
        The lattice of windows.

    Yields
    ------
    step : int
        The first time step.
    counts : dict of numpy.ndarray
        By name ``(time, windows down, windows across)`` float64: ``"valid"`` pixels with a label that are
        observed under the model's rule, ``"lake"`` among them, by modality those that its sensor observes
        (reflections included, as inference counts them), and with a score map ``"land"`` valid land pixels
        with a score and ``"score"`` the sum of these scores.

    Raises
    ------
    TrainError
        A label is none of 0, 1 and 255.
    """
    inputs = tuple(raster.inputs(spec))
    flags = raster.arrays.get("flags")
    ours = flags is not None and "cloud_mask" in flags.attrs
    trusted = tuple(each.modality for each in inputs if ours and each.modality in _NODATA)
    work = Pass(spec, inputs, y, x, trusted)
    lazy = _lazy(raster)
    spans = _spans(lazy)
    windows = len(y.starts(0, y.size)) * len(x.starts(0, x.size))
    for times in _slabs(spans[0], windows):
        yield times[0][0], _counted(work, lazy, [times, *spans[1:]])


def _counted(work: Pass, lazy: Mapping[str, xr.DataArray], spans: Sequence[Sequence[Span]]) -> Counts:
    """Counts over the blocks of some time steps: by flags alone, then with bands where those do not tell."""
    begin, end = spans[0][0][0], spans[0][-1][1]
    shape = (end - begin, *(len(axis.starts(0, axis.size)) for axis in (work.y, work.x)))
    names = ["valid", "lake", *(each.modality for each in work.inputs)]
    totals = {name: np.zeros(shape) for name in [*names, *(("land", "score") if SCORES in lazy else ())]}
    told = [name for name in lazy if name not in _untold(work)]
    found = _blocks(work, spans, {name: lazy[name] for name in told}).compute()
    unknown = [place for place, counts in np.ndenumerate(found) if counts is None]
    if unknown:
        again = _blocks(work, spans, lazy)
        for place, block in zip(unknown, compute(*(again.blocks[p] for p in unknown)), strict=True):
            found[place] = block.item()
    for (t, _, _), (down, across, counts) in np.ndenumerate(found):
        here = slice(spans[0][t][0] - begin, spans[0][t][1] - begin)
        for name, values in counts.items():
            totals[name][here, down, across] += values
    return totals


def _untold(work: Pass) -> set[str]:
    """Bands that need not be read where flags tell that there is no nodata, or which."""
    return {name for each in work.inputs if each.modality in work.trusted for name in each.bands}


def _blocks(work: Pass, spans: Sequence[Sequence[Span]], lazy: Mapping[str, xr.DataArray]) -> da.Array:
    """The counts of each block, as an array of objects with one a block."""
    begin, end = spans[0][0][0], spans[0][-1][1]
    arrays = [array.data[begin:end] if array.ndim == 3 else array.data[None] for array in lazy.values()]
    empty: npt.NDArray[np.object_] = np.empty((0, 0, 0), dtype=object)
    counted: da.Array = da.map_blocks(
        partial(_count, work, spans, tuple(lazy)),
        *arrays,
        dtype=object,
        meta=empty,
        chunks=tuple((1,) * len(each) for each in spans),
    )
    return counted


def _count(
    work: Pass,
    spans: Sequence[Sequence[Span]],
    names: Sequence[str],
    *blocks: npt.NDArray[Any],
    block_id: tuple[int, int, int],
) -> npt.NDArray[np.object_]:
    """The windows over a block and the sums under them; ``None`` where bands are needed to tell."""
    arrays = dict(zip(names, blocks, strict=True))
    found = np.empty((1, 1, 1), dtype=object)
    seen = _observed(work, arrays)
    if seen is not None:
        rows, cols = spans[1][block_id[1]], spans[2][block_id[2]]
        down, across = cover(work.y, rows), cover(work.x, cols)
        found[0, 0, 0] = down.windows, across.windows, _sums(work, arrays, seen, down, across)
    return found


def _sums(
    work: Pass, arrays: Arrays, seen: Mapping[str, npt.NDArray[np.bool_]], down: Cover, across: Cover
) -> Counts:
    label = arrays[LABEL]
    _check_label(label)
    valid = _answer(work, seen, arrays.get("flags")) & (label != IGNORE)
    if WHERE in arrays:
        valid &= arrays[WHERE]
    kinds: dict[str, npt.NDArray[Any]] = {"valid": valid, "lake": valid & (label == 1)}
    if SCORES in arrays:
        land = valid & (label == 0) & np.isfinite(arrays[SCORES])
        kinds |= {"land": land, "score": np.where(land, arrays[SCORES], 0.0)}
    found = {
        name: under_windows(in_cells(kind, down, across), down.inside, across.inside)
        for name, kind in kinds.items()
    }
    for name, mask in seen.items():
        found[name] = under_windows(in_cells(mask, down, across), down.seen, across.seen)
    return found


def _check_label(label: npt.NDArray[Any]) -> None:
    strange = ~((label == 0) | (label == 1) | (label == IGNORE))
    if strange.any():
        raise TrainError(
            f"the label holds {label[strange].flat[0]}; expected 0 land, 1 lake and {IGNORE} ignored"
        )


def _observed(work: Pass, arrays: Arrays) -> dict[str, npt.NDArray[np.bool_]] | None:
    """Pixels that the sensors of a block have data for, by modality; ``None`` where bands are needed to tell.

    By the rule of inference. ``s1_nodata`` is that rule; ``s2_nodata`` is also set where data is defective.
    """
    import torch

    from xglof.engine.stage import standardise

    seen = {}
    for each in work.inputs:
        if all(name in arrays for name in each.bands):
            planes = {name: torch.from_numpy(arrays[name].copy()) for name in each.bands}
            seen[each.modality] = np.asarray(standardise(each, planes)[1].numpy())
            continue
        nodata = (arrays["flags"] & int(_NODATA[each.modality])) != 0
        if each.modality == "S2L2A" and nodata.any():
            return None
        seen[each.modality] = ~nodata
    return seen


def _answer(
    work: Pass, seen: Mapping[str, npt.NDArray[np.bool_]], flags: npt.NDArray[Any] | None
) -> npt.NDArray[np.bool_]:
    """Pixels that have an answer, by the rule of inference, ``(time, y, x)``."""
    import torch

    from xglof.engine.stage import observed_pixels

    masks = {each: torch.from_numpy(seen[each.modality]) for each in work.inputs}
    bits = None if flags is None else torch.from_numpy(flags.copy())
    return np.asarray(observed_pixels(work.spec, masks, bits).numpy())


def _lazy(raster: Raster) -> dict[str, xr.DataArray]:
    """The arrays in Dask, on one chunking of at least 1024 pixels a side where they lie in files."""
    arrays = dict(raster.arrays)
    if raster.scores is not None:
        arrays[SCORES] = raster.scores
    lazy = {}
    for name, array in arrays.items():
        if array.chunks is None:
            edges = stored_edges(array.variable)
            array = array.chunk(
                {dim: _joined(each, dim) for dim, each in zip(array.dims, edges, strict=True)}
            )
        if name in raster.fills:
            array = array.copy(data=fill_own(array.data, raster.fills[name]))
        lazy[name] = array
    return on_one_chunking(lazy)


def _joined(edges: Sequence[int], dim: object) -> tuple[int, ...]:
    """Sizes of blocks, small neighbours together."""
    if dim == "time":
        return tuple(np.diff(edges).tolist())
    kept = [0]
    for edge in edges[1:]:
        if edge - kept[-1] >= _BLOCK_PX or edge == edges[-1]:
            kept.append(edge)
    return tuple(np.diff(kept).tolist())


def _spans(lazy: Mapping[str, xr.DataArray]) -> list[list[Span]]:
    """The blocks along time, y and x."""
    full = max(lazy.values(), key=lambda array: array.ndim)
    assert full.chunks is not None  # noqa: S101  (for the type checker)
    chunks = full.chunks if full.ndim == 3 else ((1,), *full.chunks)
    return [list(itertools.pairwise(itertools.accumulate(sizes, initial=0))) for sizes in chunks]


def _slabs(times: Sequence[Span], windows: int) -> Iterator[list[Span]]:
    """Blocks along time together as long as the counts of their windows are few enough to be held."""
    slab: list[Span] = []
    for span in times:
        if slab and (span[1] - slab[0][0]) * windows > _WINDOWS:
            yield slab
            slab = []
        slab.append(span)
    yield slab
