"""What the graph of a segmentation costs before anything runs."""

from __future__ import annotations

import pickle
import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from _segment.compare import own_process
from _segment.raster import grid_of, memory_cube
from _segment.report import Section, table
from _segment.settings import Settings, find_spec

_HEADER = (
    "blocks", "variables", "seconds to build", "ms a block", "tasks a block of the segment layer",
    "tasks a block of all layers", "pickled bytes a block of the segment layer",
)  # fmt: skip
_EXPLAINED = """\
The call of `xglof.segment` over lazy zeros in blocks of one window: median of {repeats} builds. Tasks
are those beyond the inputs' own; all layers are those of `lake_probability`, `lake` and `flags`
together, before Dask fuses them. The layer with most tasks is the segment layer, pickled as one; no
weights and no pixels are in it."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one graph."""

    variables: int
    seconds: float
    segment_tasks: int
    all_tasks: int
    pickled_bytes: int


def graph(settings: Settings, blocks: int, repeats: int) -> Section:
    """Build the graph over ``blocks`` x ``blocks`` blocks."""
    cost: Cost = own_process(_build, settings, blocks, repeats)
    number = blocks**2
    row = (
        f"{number}", f"{cost.variables}", f"{cost.seconds:.2f}", f"{1000 * cost.seconds / number:.3f}",
        f"{cost.segment_tasks / number:.2f}", f"{cost.all_tasks / number:.2f}",
        f"{cost.pickled_bytes / number:.0f}",
    )  # fmt: skip
    return Section(
        f"The graph: {settings.model}, {number} blocks",
        f"{table(_HEADER, [row])}\n\n{_EXPLAINED.format(repeats=repeats)}",
    )


def _build(settings: Settings, blocks: int, repeats: int) -> Cost:
    import dask.array as da
    import xarray as xr
    from odc.geo.xr import wrap_xr

    import xglof

    spec = find_spec(settings.model)
    side = blocks * spec.window
    grid = grid_of(side)
    variables: dict[str, Any] = {}
    for name, band in memory_cube(spec, 1).items():
        timed = "time" in band.dims
        chunks = (1, spec.window, spec.window)[-band.ndim :]
        plane = da.zeros((1, side, side)[-band.ndim :], dtype=band.dtype, chunks=chunks)
        time_of: dict[str, Any] = {"time": np.array(["2021-07-05"], "datetime64[ns]")} if timed else {}
        variables[str(name)] = wrap_xr(plane, grid, **time_of)
    cube = xr.Dataset(variables)
    xglof.segment(cube.isel(y=slice(1), x=slice(1)), model=spec)  # imports, and the check of the weights
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        seg = xglof.segment(cube, model=spec, overlap=settings.overlap, chunks=spec.window)
        seconds.append(time.perf_counter() - begin)
    inputs = cube.__dask_graph__().layers
    added = {name: layer for name, layer in seg.__dask_graph__().layers.items() if name not in inputs}
    largest = max(added.values(), key=len)
    return Cost(
        variables=len(variables),
        seconds=statistics.median(seconds),
        segment_tasks=len(largest),
        all_tasks=sum(len(layer) for layer in added.values()),
        pickled_bytes=len(pickle.dumps(dict(largest))),
    )
