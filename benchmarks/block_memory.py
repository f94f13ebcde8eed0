"""Peak memory of a segmentation by the size of its blocks, one block at a time, on a CPU.

Each size runs in a process of its own, so that a peak belongs to it::

    python benchmarks/block_memory.py [--model water-index] [--side 1008 --side 2016] [--write REPORT]

Prints the peak of the process, what of it lies above the interpreter, the libraries and the network, and what
``memory_budget`` reckons with; ``--write docs/performance.md`` puts them there, in the place of those of an
earlier run. ``--window`` prints what a window of a batch takes in a forward pass instead: the
``window_bytes`` of a spec (``--model`` takes any ``ModelSpec`` by ``module:name``).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _segment.memory import MIB, peak
from _segment.report import Section, table, tell

if TYPE_CHECKING:
    import xarray as xr

    from xglof import ModelSpec

OVERLAP = 0.5
_HEADER = (
    "block", "peak of the process, MiB", "above the libraries and the network, MiB", "reckoned, MiB",
)  # fmt: skip
_EXPLAINED = """\
One block of one date, whole and with its margin, in a process of its own: a Dask cube of the bands of
Sentinel-2, Sentinel-1 and the DEM, overlap {overlap:g}, batch {batch}, on a CPU. **reckoned**: what
`memory_budget` takes for such a block, above the libraries and the network; every core runs a batch."""


def measure(model: str, side: int, batch: int) -> None:
    """Segment one block of noise with its margin and print the peak before and after, bytes."""
    import dask

    import xglof

    spec = find_spec(model)
    spec.load("cpu")
    cube = cube_around(side)  # and the libraries that it takes
    before = peak()
    seg = xglof.segment(cube, model=spec, overlap=OVERLAP, batch_size=batch, device="cpu", chunks=side)
    with dask.config.set(scheduler="synchronous"):
        seg["lake"].data.blocks[0, 1, 1].compute()
    print(before, peak(), reckoned_bytes(cube, spec, seg["lake"].data.chunks, batch))


def cube_around(side: int) -> xr.Dataset:
    """A lazy cube of 15 bands and one date: a block of ``side`` pixels in its middle, and its margin."""
    import dask.array as da
    import numpy as np
    import xarray as xr
    from affine import Affine
    from odc.geo.geobox import GeoBox
    from odc.geo.xr import wrap_xr

    from xglof.bands import MODALITIES

    margin = 224
    shape = (side + 2 * margin, side + 2 * margin)
    corner = (10 * (200 * side - margin), -10 * (100 * side - margin))  # one whole block inside
    grid = GeoBox(shape, Affine(10, 0, corner[0], 0, -10, corner[1]), "EPSG:32645")
    variables = {}
    for modality in ("S2L2A", "S1RTC", "DEM"):
        for band in MODALITIES[modality].bands:
            lead = (1,) if MODALITIES[modality].has_time else ()
            plane = da.full((*lead, *shape), 400, dtype=band.dtype, chunks=(*lead, side, side))
            time: dict[str, Any] = {"time": np.array(["2021-07-01"], "datetime64[ns]")} if lead else {}
            variables[band.name] = wrap_xr(plane, grid, **time)
    return xr.Dataset(variables)


def reckoned_bytes(cube: xr.Dataset, spec: ModelSpec, chunks: tuple[tuple[int, ...], ...], batch: int) -> int:
    """What ``memory_budget`` takes for the largest block, bytes; 0 where the spec has no ``window_bytes``.

    Parameters
    ----------
    cube
        With all bands of the model.
    spec
        The model.
    chunks
        Of a segmentation, along time, y and x.
    batch
        Windows a forward pass.
    """
    if spec.window_bytes is None:
        return 0
    from xglof.engine.blocks import Blocks, PixelBytes, task_bytes
    from xglof.engine.device import side_by_side
    from xglof.engine.inputs import geobox_of
    from xglof.engine.job import Job
    from xglof.engine.lattice import Axis, pixel_index, stride_of

    grid, stride = geobox_of(cube), stride_of(spec.window, OVERLAP)
    first = (pixel_index(-grid.affine.f, grid.affine.e), pixel_index(grid.affine.c, grid.affine.a))
    y, x = (Axis(size, begin, spec.window, stride) for size, begin in zip(grid.shape, first, strict=True))
    bands = [cube[name] for source in spec.inputs for name in source.bands]
    step, once = ([band.dtype.itemsize for band in bands if ("time" in band.dims) == timed]
                  for timed in (True, False))  # fmt: skip
    pixel = PixelBytes(sum(step), len(step), sum(once), len(once))
    job = Job(spec, y, x, batch, device="cpu", platform="")
    return task_bytes(job, pixel, Blocks(*chunks), side_by_side("cpu"))


def measure_window(model: str, batch: int) -> None:
    """Run forward passes on zeros and print the peak before and after, bytes."""
    import torch

    from xglof.bands import MODALITIES

    spec = find_spec(model)
    network = spec.load("cpu")
    shape = (batch, spec.window, spec.window)
    given = {
        source.modality: torch.zeros(shape[0], len(source.bands), *shape[1:])
        for source in spec.inputs
        if source.modality in MODALITIES
    }
    torch.set_num_threads(1)
    before = peak()
    with torch.inference_mode():
        for _ in range(2):
            network(given)
    print(before, peak())


def find_spec(name: str) -> ModelSpec:
    """A shipped spec by its name, or any by ``module:name``."""
    import importlib

    from xglof.models.registry import get_spec

    module, colon, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute) if colon else get_spec(name)


def in_a_process(model: str, side: int, batch: int) -> list[int]:
    """What a process of its own prints for a block's side, or for a window where that is 0."""
    words = ("--model", model, "--measure", str(side), "--batch", str(batch))
    command = [sys.executable, __file__, *words]
    return [int(word) for word in subprocess.check_output(command, text=True).split()]  # noqa: S603


def blocks(model: str, sides: Sequence[int], batch: int) -> Section:
    """A row for each side."""
    rows = []
    for side in sides:
        print(f"{side} px", file=sys.stderr, flush=True)
        before, after, reckoned = in_a_process(model, side, batch)
        sizes = (after, after - before, reckoned)
        rows.append((f"{side} px", *(f"{size / MIB:.0f}" if size else "-" for size in sizes)))
    notes = _EXPLAINED.format(overlap=OVERLAP, batch=batch)
    return Section(f"Memory of a block: {model}", f"{table(_HEADER, rows)}\n\n{notes}")


def main() -> None:
    """Measure a window, or every size of block, whose table is printed, and written where that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="water-index", help="a shipped model, or module:name of a spec")
    parser.add_argument("--window", action="store_true", help="measure a window of a batch")
    parser.add_argument("--batch", type=int, default=4, help="windows a forward pass")
    parser.add_argument("--side", type=int, action="append", help="block side, pixels")
    parser.add_argument("--write", type=Path, help="Markdown file to put the table of blocks in")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    model, batch = arguments.model, arguments.batch
    if arguments.measure == 0:
        measure_window(model, batch)
    elif arguments.measure:
        measure(model, arguments.measure, batch)
    elif arguments.window:
        if arguments.write:
            parser.error("--window is for a spec's window_bytes and no table: leave --write out")
        before, after = in_a_process(model, 0, batch)
        print(f"window_bytes={(after - before) // batch:_} (batches of {batch})")
    else:
        tell([blocks(model, arguments.side or (504, 1008, 2016), batch)], arguments.write)


if __name__ == "__main__":
    main()
