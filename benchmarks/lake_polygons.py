"""Lakes of one large mask as polygons, block by block: seconds, and memory above the start.

Each size runs in a process of its own, so that a peak belongs to it::

    python benchmarks/lake_polygons.py [--side 20000] [--block 2016] [--write REPORT]

The mask is made up block by block, lazily: a lake of up to 120 pixels across in most cells of 256 pixels,
some with an island, and clouds (unobserved) that cover some. What lies at a pixel follows from its absolute
row and column, so that lakes cross the borders of blocks. Sides of a quarter, a half and the whole of
``--side`` are measured. ``--write docs/performance.md`` puts the table there, in the place of that of an
earlier run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from _segment.memory import MIB, forget_peak, peak
from _segment.report import Section, table, tell
from numpy.typing import NDArray

if TYPE_CHECKING:
    import xarray as xr

_CELL_PX = 256
_WIDEST_PX = 60  # a lake's largest radius
_HEADER = (
    "side", "lakes", "of these cut by borders", "vertices", "seconds", "peak above the start, MiB",
    "the mask, MiB",
)  # fmt: skip
_EXPLAINED = """\
`xglof.lakes.find_lakes` on a lazy mask of one date, in blocks of {block} x {block} pixels, on dask's threads,
each side in a process of its own. **peak**: most resident memory less that before, after a small run that
loads the libraries: the blocks at work, which do not grow with the side, and the joining of the polygons,
which grows with their **vertices**. **the mask**: what it would take in memory, a byte a pixel. The seconds
hold the making of the mask, which alone takes {made} s."""


def mask(side: int, block: int) -> xr.DataArray:
    """A lazy square mask of one date, uint8: 0 land, 1 lake, 255 unobserved."""
    import dask.array as da
    from affine import Affine
    from odc.geo.geobox import GeoBox
    from odc.geo.xr import wrap_xr

    sizes = (block,) * (side // block) + ((side % block,) if side % block else ())
    values = da.map_blocks(drawn, sizes, block, chunks=(sizes, sizes), dtype=np.uint8)
    grid = GeoBox((side, side), Affine(10, 0, 300_000, 0, -10, 3_200_000), "EPSG:32645")
    return wrap_xr(values, grid)


def drawn(sizes: tuple[int, ...], block: int, block_id: tuple[int, int] = (0, 0)) -> NDArray[np.uint8]:
    """One block of the mask."""
    top, left = (number * block for number in block_id)
    values = np.zeros((sizes[block_id[0]], sizes[block_id[1]]), np.uint8)
    cells = [
        range((begin - _WIDEST_PX) // _CELL_PX, (begin + size + _WIDEST_PX) // _CELL_PX + 1)
        for begin, size in zip((top, left), values.shape, strict=True)
    ]
    for down in cells[0]:
        for across in cells[1]:
            draw_cell(values, top, left, down, across)
    return values


def draw_cell(values: NDArray[np.uint8], top: int, left: int, down: int, across: int) -> None:
    """Draw what a cell holds into the block ``values`` whose first pixel is at ``top, left``."""
    random = np.random.default_rng((7, down + 1, across + 1))
    size, place = random.random(), random.integers(0, _CELL_PX, 2)
    radius, wave = 2 + (_WIDEST_PX - 3) * size**3, random.uniform(0.1, 0.35)
    row, column = down * _CELL_PX + int(place[0]) - top, across * _CELL_PX + int(place[1]) - left
    rows = np.arange(max(row - _WIDEST_PX, 0), min(row + _WIDEST_PX + 1, values.shape[0]))
    columns = np.arange(max(column - _WIDEST_PX, 0), min(column + _WIDEST_PX + 1, values.shape[1]))
    if not (len(rows) and len(columns)):
        return
    y, x = rows[:, None] - row, columns[None] - column
    distance = np.hypot(y, x)
    shore = radius * (1 - wave * (1 + np.sin(5 * np.arctan2(y, x) + 6 * size)) / 2)
    wet = (distance <= shore) & (distance >= (radius / 4 if down % 3 == 0 else 0))
    part = values[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if size < 0.05:
        part[distance <= _WIDEST_PX] = 255
    else:
        part[wet & (part == 0)] = 1


def measure(side: int, block: int) -> None:
    """Find the lakes of a mask; print how many, those cut, vertices, seconds, those to make it, bytes."""
    import shapely

    from xglof.lakes.polygons import find_lakes

    find_lakes(mask(300, 150))  # loads the libraries
    seg = mask(side, block)
    before = forget_peak()
    begin = time.perf_counter()
    lakes = find_lakes(seg)
    seconds = time.perf_counter() - begin
    above = peak() - before
    begin = time.perf_counter()
    (seg.data == 1).sum().compute()
    made = time.perf_counter() - begin
    bounds = lakes.bounds
    first = np.stack([(3_200_000 - bounds.maxy) // 10, (bounds.minx - 300_000) // 10])
    last = np.stack([(3_200_000 - bounds.miny) // 10 - 1, (bounds.maxx - 300_000) // 10 - 1])
    cut = (first // block != last // block).any(axis=0).sum()
    print(len(lakes), cut, len(shapely.get_coordinates(lakes.geometry)), seconds, made, above)


def in_a_process(side: int, block: int) -> list[float]:
    """What a process of its own prints for a side."""
    command = [sys.executable, __file__, "--measure", str(side), "--block", str(block)]
    return [float(word) for word in subprocess.check_output(command, text=True).split()]  # noqa: S603


def polygons(sides: Sequence[int], block: int) -> Section:
    """A row for each side."""
    rows, spent = [], []
    for side in sides:
        print(f"{side} px", file=sys.stderr, flush=True)
        lakes, cut, vertices, seconds, made, above = in_a_process(side, block)
        figures = (f"{lakes:.0f}", f"{cut:.0f}", f"{vertices:.0f}", f"{seconds:.1f}", f"{above / MIB:.0f}")
        rows.append((f"{side} px", *figures, f"{side**2 / MIB:.0f}"))
        spent.append(f"{made:.1f}")
    explained = _EXPLAINED.format(block=block, made=", ".join(spent))
    return Section("Polygons of a large mask", f"{table(_HEADER, rows)}\n\n{explained}")


def main() -> None:
    """Measure every side, print the table, and write it where that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--side", type=int, default=20_000, help="pixels a side of the largest mask")
    parser.add_argument("--block", type=int, default=2016, help="pixels a side of a block")
    parser.add_argument("--write", type=Path, help="Markdown file to put the table in")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.block)
        return
    if min(arguments.side, arguments.block) < 4:
        parser.error("--side and --block are pixels: at least 4")
    sides = [arguments.side // 4, arguments.side // 2, arguments.side]
    tell([polygons(sides, arguments.block)], arguments.write)


if __name__ == "__main__":
    main()
