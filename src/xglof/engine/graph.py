"""The graph of a segmentation: Dask only, no torch and no pixel.

A block costs one task that gathers references to its variables, up to eight that crop the edges its
neighbours need, and one that computes: a fifteenth of the tasks of ``map_overlap`` over many variables.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from xglof.engine.job import Job, Span

Arrays = dict[str, npt.NDArray[np.generic]]
Slices = tuple[slice, slice]


def segment_graph(job: Job, variables: Mapping[str, da.Array]) -> da.Array:
    """Lazy lake probability and sensor bits over a raster.

    Parameters
    ----------
    job
        Model, lattice and numerics.
    variables
        Dask arrays ``(time, y, x)`` or ``(y, x)`` on one grid and with equal chunks, one time step a chunk.

    Returns
    -------
    dask.array.Array
        ``(2, time, y, x)`` float32 with the chunks of the variables; see
        :func:`xglof.engine.runner.segment_block`.
    """
    name = "segment-" + tokenize(job, job.numerics, {key: array.name for key, array in variables.items()})
    full = max(variables.values(), key=lambda array: array.ndim)
    times = full.chunks[0] if full.ndim == 3 else (1,)
    rows, cols = _spans(full.chunks[-2]), _spans(full.chunks[-1])
    down = [_pieces(job.y.reads(*span), rows) for span in rows]
    across = [_pieces(job.x.reads(*span), cols) for span in cols]
    layer: dict[Any, Any] = {"job-" + name: job}
    blocks = itertools.product(range(len(times)), range(len(rows)), range(len(cols)))
    for time, row, col in blocks:
        sources = [_chunk_key(array, time, row, col) for array in variables.values()]
        layer["pack-" + name, time, row, col] = (_pack, list(variables), sources)
        pieces = [
            [_piece(layer, name, (time, r, c), (ys, xs)) for c, xs in across[col]] for r, ys in down[row]
        ]
        layer[name, 0, time, row, col] = (_compute, "job-" + name, rows[row], cols[col], pieces)
    inputs: Any = list(variables.values())
    graph = HighLevelGraph.from_collections(name, layer, dependencies=inputs)
    return da.Array(graph, name, ((2,), times, *full.chunks[-2:]), dtype=np.float32)


def _spans(chunks: Sequence[int]) -> list[Span]:
    edges = list(itertools.accumulate(chunks, initial=0))
    return list(itertools.pairwise(edges))


def _pieces(read: Span, spans: Sequence[Span]) -> list[tuple[int, slice]]:
    """The chunks that hold the pixels ``read``, with its part of them: ``slice(None)`` for all."""
    pieces = []
    for number, (begin, end) in enumerate(spans):
        first, last = max(read[0], begin), min(read[1], end)
        if first < last:
            whole = (first, last) == (begin, end)
            pieces.append((number, slice(None) if whole else slice(first - begin, last - begin)))
    return pieces


def _chunk_key(array: da.Array, time: int, row: int, col: int) -> tuple[object, ...]:
    return (array.name, time, row, col) if array.ndim == 3 else (array.name, row, col)


def _piece(layer: dict[Any, Any], name: str, block: tuple[int, int, int], part: Slices) -> tuple[object, ...]:
    """Key of a part of a packed block, with its task where the part is not the whole."""
    if part == (slice(None), slice(None)):
        return ("pack-" + name, *block)
    edges = [(side.start, side.stop) for side in part]
    key = ("edge-" + name, *block, *itertools.chain(*edges))
    layer[key] = (_crop, ("pack-" + name, *block), *edges)
    return key


def _pack(names: Sequence[str], arrays: Sequence[npt.NDArray[np.generic]]) -> Arrays:
    return dict(zip(names, arrays, strict=True))


def _crop(block: Arrays, rows: tuple[int | None, int | None], cols: tuple[int | None, int | None]) -> Arrays:
    """A contiguous copy, so that a neighbour holds on to an edge and not to the whole block."""
    part = (..., slice(*rows), slice(*cols))
    return {name: np.ascontiguousarray(array[part]) for name, array in block.items()}


def _compute(job: Job, rows: Span, cols: Span, pieces: list[list[Arrays]]) -> npt.NDArray[np.float32]:
    from xglof.engine.runner import segment_block

    names = pieces[0][0]
    arrays = {name: np.block([[piece[name] for piece in line] for line in pieces]) for name in names}
    return segment_block(job, rows, cols, arrays)
