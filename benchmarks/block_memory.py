"""Peak memory of a segmentation by the size of its blocks, one block at a time.

Each size runs in a process of its own, so that a peak belongs to it::

    python benchmarks/block_memory.py [--model water-index] [--side 1008 --side 2016]

Prints the peak of the process, and what of it lies above the interpreter, the libraries and the network.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys

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
    from xglof.models.registry import get_spec

    get_spec(model).load("cpu")
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
    seg = xglof.segment(xr.Dataset(variables), model=model, device="cpu", chunks=side)
    with dask.config.set(scheduler="synchronous"):
        seg["lake"].data.blocks[0, 1, 1].compute()
    print(before, peak())


def peak() -> int:
    """Peak resident memory of this process, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Run every size in a process of its own and print a row each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="water-index")
    parser.add_argument("--side", type=int, action="append", help="block side, pixels")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.model, arguments.measure)
        return
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, {arguments.model}")
    print("block | peak of the process | above the libraries and the network")
    for side in arguments.side or (504, 1008, 2016):
        command = [sys.executable, __file__, "--model", arguments.model, "--measure", str(side)]
        before, after = map(int, subprocess.check_output(command, text=True).split())  # noqa: S603
        print(f"{side} px | {after / MIB:.0f} MiB | {(after - before) / MIB:.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
