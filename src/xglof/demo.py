"""``xglof demo``: a simulated valley through the whole product, scored against its truth."""

from __future__ import annotations

import itertools
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
        table, loss = _table(mapped, scores, seed), _largest_loss(mapped.areas)
    console.print(table)
    console.print(loss)
    if not summary["held_out"]:
        console.print(f"Seed {seed} was trained on: its score proves nothing.")
    if model.caveat:
        console.print(f"{model.name}: {model.caveat}.")
    console.print(f"{summary['seconds']:.0f} s. Written to {out}/; look at {Path(out) / 'overview.png'}.")
    return summary


def _scores(
    mapped: Mapped, truth: xr.DataArray, model: ModelSpec
) -> dict[str, tuple[xr.Dataset, xr.Dataset]]:
    """By model, the counts of every date and the pooled scores."""
    maps = {model.name: mapped.seg, WATER_INDEX.name: segment(mapped.cube, model=WATER_INDEX)}
    truth = truth.sel(time=mapped.seg["time"])
    return {
        name: (score(seg, truth, dim=("y", "x")).compute(), score(seg, truth).compute())
        for name, seg in maps.items()
    }


def _draw(mapped: Mapped, true_lakes: Any, path: Path, model: ModelSpec, seed: int) -> None:
    from xglof.plot import overview

    overview(
        mapped.cube,
        mapped.seg,
        mapped.lakes,
        mapped.areas,
        truth_lakes=true_lakes,
        title=f"Simulated valley {seed}, mapped by {model.name}",
        caveat=model.caveat,
        path=path,
    )


def _summary(
    scores: dict[str, tuple[xr.Dataset, xr.Dataset]], model: ModelSpec, seed: int, seconds: float
) -> dict[str, Any]:
    measures = ("iou", "f1", "precision", "recall")
    return {
        "simulated": True,
        "seed": seed,
        "held_out": seed not in DEMO_TRAINING_SEEDS,
        "model": model.name,
        "model_sha256": model.weights.sha256 if model.weights else "",
        "caveat": model.caveat,
        "scores": {
            name: {measure: round(float(pooled[measure]), 4) for measure in measures}
            for name, (_, pooled) in scores.items()
        },
        "seconds": round(seconds, 1),
    }


def _table(mapped: Mapped, scores: dict[str, tuple[xr.Dataset, xr.Dataset]], seed: int) -> Table:
    """A row a date: what was seen, what was found, and how well."""
    table = Table(title=f"simulated valley {seed}: lakes against the truth", title_justify="left")
    for name in ("date", "observed", "lakes, km²", *(f"IoU {name}" for name in scores)):
        table.add_column(name, justify="left" if name == "date" else "right")
    area = (mapped.areas["area_lower"].sum("lake") / 1e6).values
    observed = (mapped.seg["lake"] != 255).mean(mapped.seg["lake"].dims[1:]).values
    for step, date in enumerate(mapped.seg["time"].dt.strftime("%Y-%m-%d").values):
        ious = [_share(counts["iou"].values[step]) for counts, _ in scores.values()]
        table.add_row(str(date), f"{observed[step]:.0%}", f"{area[step]:.3f}", *ious)
    table.add_section()
    pooled = [_share(float(total["iou"])) for _, total in scores.values()]
    table.add_row("all dates", f"{observed.mean():.0%}", "", *pooled)
    return table


def _share(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


def _largest_loss(areas: xr.Dataset) -> str:
    """A sentence on the lake that lost most of its area between two dates with a value."""
    worst = ("", 0.0, 0.0, "")
    for lake in areas["lake"].values:
        series = areas["area"].sel(lake=lake).dropna("time")
        for before, after in itertools.pairwise(series):
            if float(before) - float(after) > worst[1] - worst[2]:
                worst = (
                    str(lake),
                    float(before),
                    float(after),
                    str(after["time"].dt.strftime("%Y-%m-%d").values),
                )
    if not worst[0]:
        return "No lake lost area between two dates."
    lake, before_m2, after_m2, date = worst
    return f"Largest loss: {lake} from {before_m2 / 1e6:.3f} to {after_m2 / 1e6:.3f} km² by {date}."
