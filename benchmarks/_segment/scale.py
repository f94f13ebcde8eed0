"""Time and memory by the size of the raster: from a store on disk to a store on disk."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from _segment.compare import own_process
from _segment.contenders import counted, segment_as
from _segment.memory import MIB, forget_peak, peak
from _segment.raster import grid_of, memory_cube, repeated, tile
from _segment.report import Section, table
from _segment.settings import Settings, find_spec

Source = Literal["zarr", "dask"]
#: How a source is opened, as the heading says it, and what that means.
_SOURCES: dict[Source, tuple[str, str]] = {
    "zarr": ("Zarr without Dask", "opened without Dask: a block reads its own pixels"),
    "dask": (
        "Zarr with Dask",
        "opened with Dask in chunks of a block: a chunk is read once and waits until the blocks beside it\n"
        "are done",
    ),
}
#: Observed rows at the top of each block, as a share of it; the rest is nodata.
_OBSERVED = 1 / 9
_HEADER = ("raster", "Mpx", "blocks", "windows run", "seconds", "peak MiB above the libraries")
_EXPLAINED = """\
Each size in a process of its own, after a warm-up. The source is a Zarr store
{source}.
It is written before; the result goes to Zarr. Of each block one row of pixels in nine is observed, at
its top, so most windows are skipped: what is measured is the path of the pixels. Pixels are made up
and files lie in the page cache."""


@dataclass(frozen=True, slots=True)
class Point:
    """One size of raster."""

    side: int
    blocks: int
    windows: int
    seconds: float
    peak_bytes: int


def scale(settings: Settings, sides: Sequence[int], source: Source = "zarr") -> Section:
    """Run every side and fit straight lines of time and peak over pixels; blocks are ``settings.chunks``."""
    settings, points = settings.resolved(), []
    for side in sides:
        print(f"{side} px", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="xglof-benchmark-") as folder:
            _write_source(settings.model, side, settings.chunks, Path(folder))
            points.append(own_process(_measure, settings, side, source, Path(folder)))
    rows = [
        (f"{p.side} px", f"{p.side**2 / 1e6:.1f}", f"{p.blocks}", f"{p.windows}", f"{p.seconds:.1f}",
         f"{p.peak_bytes / MIB:.0f}") for p in points
    ]  # fmt: skip
    name, meaning = _SOURCES[source]
    heading = (
        f"By the size of the raster: {settings.model}, {name}, blocks of {settings.chunks} px, "
        f"{settings.kind.upper()}"
    )
    notes = _EXPLAINED.format(source=meaning)
    return Section(heading, f"{table(_HEADER, rows)}\n\n{_fits(points)}\n\n{notes}")


def _fits(points: Sequence[Point]) -> str:
    """Lines over megapixels, and how the peak grows where the side grows fourfold."""
    if len(points) < 2:
        return "No lines are fitted to one size."
    mpx = [p.side**2 / 1e6 for p in points]
    lines = []
    for name, unit, values in (
        ("time", "s", [p.seconds for p in points]),
        ("peak", "MiB", [p.peak_bytes / MIB for p in points]),
    ):
        slope, intercept = np.polyfit(mpx, values, 1)
        off = max(abs(np.polyval((slope, intercept), mpx) / np.array(values) - 1))
        lines.append(
            f"- {name}: {slope:.4f} {unit} a megapixel and {intercept:.1f} {unit}; "
            f"the line is off by {off:.0%} at most"
        )
    by_side = {p.side: p.peak_bytes for p in points}
    large = max(by_side)
    small = large // 4 if large // 4 in by_side else min(by_side)
    lines.append(f"- peak at {large} px over that at {small} px: {by_side[large] / by_side[small]:.3f}")
    return "\n".join(lines)


def _write_source(model: str, side: int, chunks: int, folder: Path) -> None:
    """A store of one block, repeated: written block by block, and small on disk."""
    import dask.array as da
    import xarray as xr
    from odc.geo.xr import wrap_xr

    from xglof.bands import MODALITIES
    from xglof.outputs import write_zarr

    grid, pixels, times = grid_of(side, chunks), np.arange(chunks), -(-side // chunks)
    variables: dict[str, Any] = {}
    for source in find_spec(model).inputs:
        bands = {band.name: band for band in MODALITIES[source.modality].bands}
        for name in source.bands:
            block = repeated(tile(name), pixels, pixels)
            if source.has_time:
                block[round(_OBSERVED * chunks) :] = bands[name].nodata
            plane = da.tile(da.from_array(block, chunks=-1), (times, times))[:side, :side]
            time_of: dict[str, Any] = (
                {"time": np.array(["2021-07-05"], "datetime64[ns]")} if source.has_time else {}
            )
            variables[name] = wrap_xr(plane[np.newaxis] if time_of else plane, grid, **time_of)
    write_zarr(xr.Dataset(variables), folder / "source.zarr")


def _measure(settings: Settings, side: int, source: Source, folder: Path) -> Point:
    """Segment the store into another."""
    from xglof.outputs import read_zarr, write_zarr

    spec = find_spec(settings.model)
    network = spec.load(settings.device)
    write_zarr(segment_as(settings, memory_cube(spec, spec.window), settings.chunks), folder / "warm-up.zarr")
    chunks = {"y": settings.chunks, "x": settings.chunks} if source == "dask" else None
    base = forget_peak()
    with counted(network) as batches:
        begin = time.perf_counter()
        seg = segment_as(settings, read_zarr(folder / "source.zarr", chunks=chunks), settings.chunks)
        write_zarr(seg, folder / "result.zarr")
        seconds = time.perf_counter() - begin
    blocks = int(np.prod(seg["lake"].data.numblocks))
    return Point(side, blocks, sum(batches), seconds, peak() - base)
