"""Write the simulated valleys that ``terramind-tiny-demo`` is trained and scored on.

::

    python scripts/demo_valleys.py WORK

Each valley is written as a catalogue and read back through ``open_cube``, so that a network learns from
what it will be given: ``WORK/train/1000.zarr`` is a cube, ``WORK/train/lakes/1000.zarr`` its true lakes.
Valleys that are there already are left as they are. Everything here is simulated.
"""

from __future__ import annotations

import argparse
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import dask

import xglof
from xglof.models.registry import DEMO_TRAINING_SEEDS

#: Seeds by what they are for. Those of ``held-out`` decide nothing in the training.
SEEDS = {"train": DEMO_TRAINING_SEEDS, "val": range(8000, 8004), "held-out": range(9000, 9006)}
SCENE_PX = (448, 448)


def write_valley(seed: int, folder: Path) -> None:
    """Write cube and true lakes of one valley; the lakes come last, and tell that it is whole."""
    cube_path, lake_path = folder / f"{seed}.zarr", folder / "lakes" / f"{seed}.zarr"
    if lake_path.exists():
        return
    dask.config.set(scheduler="sync")
    catalog = folder / f"{seed}-catalog"
    shutil.rmtree(catalog, ignore_errors=True)
    xglof.simulate.write_catalog(xglof.simulate.valley(seed, shape=SCENE_PX, crs=None), catalog, threads=1)
    truth, _ = xglof.simulate.read_truth(catalog)
    cube = xglof.open_cube(catalog=catalog, geobox=truth.odc.geobox)
    xglof.write_zarr(cube, cube_path, overwrite=True)
    lake = truth[["lake"]].sel(time=cube["time"])
    xglof.write_zarr(lake, lake_path, overwrite=True)
    shutil.rmtree(catalog)


def write_valleys(work: Path) -> None:
    """Write all valleys, two at a time."""
    begin = time.perf_counter()
    jobs = [(seed, work / kind) for kind, seeds in SEEDS.items() for seed in seeds]
    for _, folder in jobs:
        (folder / "lakes").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(2) as pool:
        for done, _ in enumerate(pool.map(write_valley, *zip(*jobs, strict=True)), 1):
            print(f"{done}/{len(jobs)} valleys, {time.perf_counter() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the simulated valleys of terramind-tiny-demo.")
    parser.add_argument("work", type=Path, help="folder for the valleys")
    write_valleys(parser.parse_args().work)
