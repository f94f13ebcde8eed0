"""Cubes: how long a graph takes to build, and how often reading touches each block of a file.

::

    python benchmarks/cube.py --graph [--side 10000] [--dates 73] [--runs 3] [--write REPORT]
    python benchmarks/cube.py --reading [--side 4200] [--write REPORT]

``--graph`` makes the items of a year as Planetary Computer has them (four Sentinel-2 tiles a date,
Sentinel-1, the DEM), names no file that exists, and opens a cube of 12 bands, radar, elevation and flags.
``--reading`` writes two overlapping tiles, serves them by byte range on the loopback, and reads one band of
each pixel size in two ways: as xglof does, and by ``odc.stac.load`` on the 10 m grid.
``--write docs/performance.md`` puts the tables there, in the place of those of an earlier run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import odc.stac
import pystac
from _segment.report import Section, table, tell
from affine import Affine
from odc.geo.geobox import GeoBox

from xglof.bands import MODALITIES, SCL
from xglof.cube import open_cube
from xglof.cube.files import RasterFile, make_item, write_cog

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from cog_server import serve_cogs

_BANDS = (*MODALITIES["S2L2A"].bands, SCL)
_BEGIN = datetime(2023, 1, 1, 5, tzinfo=UTC)
_UTM = "EPSG:32645"
_OVERLAP_M = 9780  # of two tiles of the military grid
_READ = ("B02", "B05", "B01")  # one band of each pixel size
_GRAPH_EXPLAINED = """\
`xglof.open_cube` over {side} x {side} pixels of 10 m and {dates} Sentinel-2 dates of four tiles each,
with Sentinel-1, the DEM and flags, from items in memory: median, least and most of {runs} runs. No file is
opened; tasks are those of the whole graph before optimisation."""
_READING_EXPLAINED = """\
One band a row, over two tiles of {side} x {side} pixels of 10 m (COGs of 512 px blocks, DEFLATE) on a
loopback server, on a 10 m grid that reaches over both. Touches: bytes sent of a block's, by block, over
the blocks that the grid touches; requests and MB are those of the server. **odc.stac.load**: the same
items on the same grid with bilinear resampling and chunks of 2048 px, which is what a cube asked of a 10 m
grid directly does."""


def tiles_of(side: int) -> tuple[tuple[int, int], ...]:
    """Corners of four tiles (metres east and south of a corner) that cover a square of pixels."""
    step = side * 10 // 2
    return tuple((east, south) for south in (0, step) for east in (0, step))


def year_of_items(side: int, dates: int) -> Iterator[pystac.Item]:
    """Items in Planetary Computer's form whose files do not exist."""
    reach = side * 10 // 2 + _OVERLAP_M
    for number in range(dates):
        for tile, (east, south) in enumerate(tiles_of(side)):
            files = [_absent(band.name, band.native_m, east, south, reach) for band in _BANDS]
            properties = {
                "s2:processing_baseline": "05.09",
                "s2:mgrs_tile": f"45R{tile}",
                "s2:mean_solar_azimuth": 150.0 + number / 4,
                "s2:mean_solar_zenith": 35.0 + number / 4,
            }
            when = _BEGIN + timedelta(days=5 * number)
            yield _collected(make_item(f"s2-{number}-{tile}", when, files, properties), "sentinel-2-l2a")
        radar = [_absent(band, 10, 3.3 + number, 1.7 - number, 10 * side) for band in ("vv", "vh")]
        orbit = {"sat:orbit_state": "descending", "sat:relative_orbit": 121}
        when = _BEGIN + timedelta(days=5 * number, hours=19)
        yield _collected(make_item(f"s1-{number}", when, radar, orbit), "sentinel-1-rtc")
    for south in range(26, 30):
        for west in range(85, 89):
            step = 1 / 3600
            place = Affine(step, 0, west - step / 2, 0, -step, south + 1 + step / 2)
            grid = GeoBox((3600, 3600), place, "EPSG:4326")
            file = RasterFile("data", Path(f"/absent/{south}-{west}.tif"), grid, "float32", None)
            yield _collected(make_item(f"dem-{south}-{west}", _BEGIN, [file], {}), "cop-dem-glo-30")


def _absent(band: str, size: float, east: float, south: float, reach: int) -> RasterFile:
    pixels = int(reach // size)
    grid = GeoBox((pixels, pixels), Affine(size, 0, 399960 + east, 0, -size, 3200040 - south), _UTM)
    kind = ("float32", -32768.0) if band in ("vv", "vh") else ("uint16", 0)
    return RasterFile(band, Path(f"/absent/{east:g}-{south:g}/{band}.tif"), grid, *kind)


def _collected(item: pystac.Item, collection: str) -> pystac.Item:
    item.collection_id = collection
    return item


def graph(side: int, dates: int, runs: int) -> Section:
    """Seconds to open a cube, and the tasks of its graph."""
    items = list(year_of_items(side, dates))
    area = GeoBox((side, side), Affine(10, 0, 399960, 0, -10, 3200040), _UTM)
    seconds, tasks = [], 0
    for _ in range(runs):
        begin = time.perf_counter()
        cube = open_cube(catalog=items, geobox=area)
        seconds.append(time.perf_counter() - begin)
        tasks = len(dict(cube.__dask_graph__()))
    figures = [f"{value:.2f}" for value in (statistics.median(seconds), min(seconds), max(seconds))]
    header = ("dates", "side, px", "items", "median s", "min s", "max s", "tasks")
    row = (str(dates), str(side), str(len(items)), *figures, str(tasks))
    explained = _GRAPH_EXPLAINED.format(side=side, dates=dates, runs=runs)
    return Section("Opening a cube", f"{table(header, [row])}\n\n{explained}")


def _written_tile(folder: Path, name: str, east: int, side: int) -> pystac.Item:
    """A tile of numbers that compress as real ones do, of which three bands are files."""
    files = []
    for band in _BANDS:
        pixels, size = side * 10 // int(band.native_m), band.native_m
        grid = GeoBox((pixels, pixels), Affine(size, 0, 399960 + east, 0, -size, 3200040), _UTM)
        if band.name in _READ:
            noise = np.random.default_rng(east).integers(0, 256, grid.shape, dtype=np.uint16)
            files.append(write_cog(folder / name, band.name, 1500 + noise, grid, 0))
        else:
            files.append(RasterFile(band.name, folder / name / f"{band.name}.tif", grid, "uint16", 0))
    item = make_item(name, _BEGIN, files, {"s2:processing_baseline": "05.09", "s2:mgrs_tile": name})
    return _collected(item, "sentinel-2-l2a")


def reading(side: int) -> Section:
    """Touches of blocks, requests and bytes of both ways, by band."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiles = {"west": 0, "east": 10 * side - _OVERLAP_M // 60 * 60}
        items = [_written_tile(folder, tile, east, side) for tile, east in tiles.items()]
        # starts within a pixel of 60 m, reaches over both tiles
        area = GeoBox((side - 700, 2 * side - 1900), Affine(10, 0, 403970, 0, -10, 3197030), _UTM)
        ways: dict[str, Callable[[list[pystac.Item], str], Any]] = {
            "xglof": lambda moved, band: open_cube(catalog=moved, geobox=area, modalities=["S2L2A"])[band],
            "odc.stac.load": lambda moved, band: _asked_directly(moved, band, area),
        }
        for band in _READ:
            for way, opened in ways.items():
                rows.append((f"{band}, {way}", *_counted(folder, items, opened, band)))
    header = (
        "band and way",
        "seconds",
        "most touches",
        "mean touches",
        "requests",
        "MB sent",
        "MB of blocks",
    )
    explained = _READING_EXPLAINED.format(side=side)
    return Section("Reading the blocks of files", f"{table(header, rows)}\n\n{explained}")


def _asked_directly(items: list[pystac.Item], band: str, area: GeoBox) -> Any:
    odc.stac.configure_rio(cloud_defaults=True)
    settings = {"sentinel-2-l2a": {"assets": {"*": {"data_type": "uint16", "nodata": 0}}}}
    loaded = odc.stac.load(
        items, bands=[band], geobox=area, chunks={"x": 2048, "y": 2048}, resampling="bilinear",
        groupby="solar_day", stac_cfg=settings,
    )  # fmt: skip
    return loaded[band]


def _counted(
    folder: Path,
    items: list[pystac.Item],
    opened: Callable[[list[pystac.Item], str], Any],
    band: str,
) -> tuple[str, ...]:
    """Figures of one band read one way, from a server of its own, so that nothing is in a cache."""
    with serve_cogs(folder) as server:
        moved = [item.clone() for item in items]
        for item in moved:
            for asset in item.assets.values():
                asset.href = asset.href.replace(str(folder), server.url)
        array = opened(moved, band)
        begin = time.perf_counter()
        array.compute()
        seconds = time.perf_counter() - begin
        touches = [
            times
            for item in items
            for (level, _, _), times in server.block_touches(f"{item.id}/{band}.tif").items()
            if level == 0 and times > 0.5
        ]
        sent = sum(request.span[1] - request.span[0] for request in server.requests if request.span)
    stored = sum((folder / item.id / f"{band}.tif").stat().st_size for item in items)
    return (
        f"{seconds:.2f}",
        f"{max(touches):.2f}",
        f"{statistics.mean(touches):.2f}",
        str(len(server.requests)),
        f"{sent / 1e6:.1f}",
        f"{stored / 1e6:.1f}",
    )


def main() -> None:
    """Run what is asked for, print the tables, and write them where that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--graph", action="store_true", help="time the building of a graph")
    parser.add_argument("--reading", action="store_true", help="count the touches of blocks")
    parser.add_argument("--side", type=int, help="pixels a side; 10000 for a graph, 4200 to read")
    parser.add_argument("--dates", type=int, default=73, help="Sentinel-2 dates of the graph")
    parser.add_argument("--runs", type=int, default=3, help="how often the graph is built")
    parser.add_argument("--write", type=Path, help="Markdown file to put the tables in")
    arguments = parser.parse_args()
    if not (arguments.graph or arguments.reading):
        parser.error("ask for --graph, --reading or both")
    if arguments.runs < 1:
        parser.error(f"--runs {arguments.runs}: at least one run must count")
    sections = []
    if arguments.graph:
        sections.append(graph(arguments.side or 10_000, arguments.dates, arguments.runs))
    if arguments.reading:
        sections.append(reading((arguments.side or 4200) // 60 * 60))
    tell(sections, arguments.write)


if __name__ == "__main__":
    main()
