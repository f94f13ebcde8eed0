"""Peak memory of a segmentation by the size of its blocks, one block at a time.

Each size runs in a process of its own, so that a peak belongs to it::

    python benchmarks/block_memory.py [--model water-index] [--side 1008 --side 2016]

Prints the peak of the process, what of it lies above the interpreter, the libraries and the network, and what
``memory_budget`` reckons with. ``--window`` measures what a window of a batch takes in a forward pass: the
``window_bytes`` of a spec (``--model`` takes any ``ModelSpec`` by ``module:name``).
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import resource
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr

    from xglof import ModelSpec

MIB = 2**20


def measure(model: str, side: int) -> None:
    """Segment one block of noise with its margin and print the peak before and after, bytes."""
    import dask
    import dask.array as da
    import numpy as np
    import xarray as xr
    from affine import Affine
    from odc.geo.geobox import GeoBox
    from odc.geo.xr import wrap_xr

    import xglof
    from xglof.bands import MODALITIES

    spec = find_spec(model)
    spec.load("cpu")
    before = peak()
    margin = 224
    shape = (side + 2 * margin, side + 2 * margin)
    corner = (10 * (200 * side - margin), -10 * (100 * side - margin))  # one whole block inside
    grid = GeoBox(shape, Affine(10, 0, corner[0], 0, -10, corner[1]), "EPSG:32645")
    variables = {}
    for modality in ("S2L2A", "S1RTC", "DEM"):
        for band in MODALITIES[modality].bands:
            lead = (1,) if MODALITIES[modality].has_time else ()
            plane = da.full((*lead, *shape), 400, dtype=band.dtype, chunks=(*lead, side, side))
            time = {"time": np.array(["2021-07-01"], "datetime64[ns]")} if lead else {}
            variables[band.name] = wrap_xr(plane, grid, **time)
    cube = xr.Dataset(variables)
    seg = xglof.segment(cube, model=spec, device="cpu", chunks=side)
    with dask.config.set(scheduler="synchronous"):
        seg["lake"].data.blocks[0, 1, 1].compute()
    print(before, peak(), reckoned_bytes(cube, spec, side))


def reckoned_bytes(cube: xr.Dataset, spec: ModelSpec, side: int) -> int:
    """What ``memory_budget`` takes for such a block, bytes; 0 where the spec has no ``window_bytes``."""
    import xglof

    if spec.window_bytes is None:
        return 0
    try:
        xglof.segment(cube, model=spec, device="cpu", chunks=side, memory_budget=1)
    except xglof.ModelError as error:
        found = re.search(r"takes about ([\d.]+) GB", str(error))
    return int(float(found[1]) * 1e9) if found else 0


def measure_window(model: str, batch: int) -> None:
    """Run forward passes on noise and print the growth of the peak by window, bytes."""
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
    print(before, peak(), batch)


def find_spec(name: str) -> ModelSpec:
    """A shipped spec by its name, or any by ``module:name``."""
    import importlib

    from xglof.models.registry import get_spec

    module, colon, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute) if colon else get_spec(name)


def peak() -> int:
    """Peak resident memory of this process, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Run every size in a process of its own and print a row each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="water-index", help="a shipped model, or module:name of a spec")
    parser.add_argument("--window", action="store_true", help="measure a window of a batch")
    parser.add_argument("--batch", type=int, default=4, help="windows of the forward pass that is measured")
    parser.add_argument("--side", type=int, action="append", help="block side, pixels")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure == 0:
        measure_window(arguments.model, arguments.batch)
        return
    if arguments.measure:
        measure(arguments.model, arguments.measure)
        return
    again = [sys.executable, __file__, "--model", arguments.model]
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, {arguments.model}")
    if arguments.window:
        command = [*again, "--measure", "0", "--batch", str(arguments.batch)]
        before, after, batch = map(int, subprocess.check_output(command, text=True).split())  # noqa: S603
        print(f"window_bytes={(after - before) // batch:_} (batches of {batch})")
        return
    print("block | peak of the process | above the libraries and the network | reckoned")
    for side in arguments.side or (504, 1008, 2016):
        command = [*again, "--measure", str(side)]
        before, after, reckoned = map(int, subprocess.check_output(command, text=True).split())  # noqa: S603
        sizes = [f"{size / MIB:.0f} MiB" if size else "-" for size in (after, after - before, reckoned)]
        print(f"{side} px | {' | '.join(sizes)}", flush=True)


if __name__ == "__main__":
    main()
