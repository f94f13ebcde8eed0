"""``xglof demo``: a simulated valley through the whole product, scored against its truth."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from rich.console import Console
from rich.table import Table

from xglof.cube import open_cube
from xglof.engine.apply import segment
from xglof.evaluate import score
from xglof.mapping import Mapped, map_lakes
from xglof.models.registry import DEMO_TRAINING_SEEDS, WATER_INDEX
from xglof.models.spec import ModelSpec
from xglof.outputs import new_folder, write_summary
from xglof.simulate import read_truth, valley, write_catalog

#: Side of the demo's valley, pixels of 10 m.
SIDE_PX = 448


def run_demo(
    out: str | Path,
    *,
    model: ModelSpec,
    seed: int = 7,
    side_px: int = SIDE_PX,
    overwrite: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Simulate a valley, map its lakes through time, and score the maps against the truth.

    Parameters
    ----------
    out
        Folder to make: ``catalog/`` (STAC and COGs, with the truth), ``cube.zarr``, ``segmentation.zarr``,
        ``lakes.parquet``, ``areas.csv``, ``overview.png`` and ``summary.json``.
    model
        The model; ``water-index`` is scored beside it.
    seed
        Of the valley.
    side_px
        Side of the valley, pixels of 10 m.
    overwrite
        Replace ``out`` where it is there.
    console
        Where to print; standard output by default.

    Returns
    -------
    dict
        The figures of ``summary.json``.

    Raises
    ------
    OutputError
        If ``out`` is taken.
    ModelError
        If the model's weights fail their check.
    """
    console = console or Console()
    begin = time.perf_counter()
    with new_folder(out, overwrite=overwrite) as folder:
        with console.status("simulating the valley"):
            catalog = write_catalog(valley(seed, shape=(side_px, side_px)), folder / "catalog")
        truth, true_lakes = read_truth(catalog)
        cube = open_cube(catalog=catalog, geobox=truth.odc.geobox)
        mapped = map_lakes(cube, folder, model=model, console=console)
        scores = _scores(mapped, truth["lake"], model)
        _draw(mapped, true_lakes, folder / "overview.png", model, seed)
        summary = _summary(scores, model, seed, time.perf_counter() - begin)
        write_summary(summary, folder / "summary.json")
    _report(console, mapped, scores, summary, Path(out))
    return summary


def _scores(mapped: Mapped, truth: xr.DataArray, model: ModelSpec) -> dict[str, tuple[xr.Dataset, xr.Dataset]]:
    """By model, the counts of every date and the pooled scores."""
    maps = {model.name: mapped.seg, WATER_INDEX.name: segment(mapped.cube, model=WATER_INDEX)}
    truth = truth.sel(time=mapped.seg["time"])
    return {
        name: (score(seg, truth, dim=("y", "x")).compute(), score(seg, truth).compute())
        for name, seg in maps.items()
    }
