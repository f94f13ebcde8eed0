"""``xglof demo``: a simulated valley through the whole product, scored against its truth."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from dask.base import compute
from rich.console import Console
from rich.table import Table

from xglof.cube import open_cube
from xglof.cube.card_facts import day
from xglof.engine.apply import segment
from xglof.evaluate import score
from xglof.mapping import Mapped, alert_lines, map_to_files, print_alerts, ready_spec
from xglof.models.registry import DEMO_TRAINING_SEEDS, TINY_DEMO, WATER_INDEX
from xglof.models.spec import ModelSpec
from xglof.outputs import new_folder, write_summary
from xglof.progress import TaskProgress, open_console
from xglof.simulate import read_truth, valley, write_catalog

if TYPE_CHECKING:
    import geopandas

#: By model, the scores of every date and the pooled ones, in memory.
Scores = dict[str, tuple[xr.Dataset, xr.Dataset]]


def run_demo(
    out: str | Path,
    *,
    model: str,
    seed: int,
    side_px: int,
    overwrite: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Simulate a valley, map its lakes through time, and score the maps against the truth.

    Parameters
    ----------
    out
        Folder to make: ``catalog/`` (STAC and COGs, with the truth), ``cube.zarr``, ``segmentation.zarr``,
        ``lakes.parquet``, ``areas.csv``, ``alerts.csv``, ``overview.png`` and ``summary.json``.
    model
        Name of the model; ``water-index`` is scored beside it.
    seed
        Of the valley.
    side_px
        Side of the valley, pixels of 10 m, from 64.
    overwrite
        Replace the run at ``out``.
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
        If the model is unknown or its weights fail their check.
    """
    console = console or open_console()
    spec = ready_spec(model)
    begin = time.perf_counter()
    with new_folder(out, overwrite=overwrite) as folder:
        with TaskProgress("simulating the valley", console):
            catalog = write_catalog(valley(seed, shape=(side_px, side_px)), folder / "catalog")
            truth, true_lakes = read_truth(catalog)
        cube = open_cube(catalog=catalog, geobox=truth.odc.geobox)
        mapped = map_to_files(cube, folder, model=spec, console=console)
        with TaskProgress("scoring against the truth", console):
            scores = _scores(mapped, truth["lake"], spec)
        with console.status("drawing"):
            _draw(mapped, true_lakes, folder / "overview.png", spec, seed)
        summary = _summary(scores, spec, seed, alert_lines(mapped.alerts), time.perf_counter() - begin)
        table = _table(mapped, true_lakes, scores, seed)
        write_summary(summary, folder)
    console.print(table)
    _print_notes(console, summary, Path(out))
    return summary


def _scores(mapped: Mapped, truth: xr.DataArray, model: ModelSpec) -> Scores:
    """Scores of the model and, beside it, of the water index."""
    maps = {model.name: mapped.seg}
    if model.name != WATER_INDEX.name:
        maps[WATER_INDEX.name] = segment(mapped.cube, model=WATER_INDEX)
    truth = truth.sel(time=mapped.seg["time"])
    lazy = {name: (score(seg, truth, dim=("y", "x")), score(seg, truth)) for name, seg in maps.items()}
    computed: Scores = compute(lazy)[0]
    return computed


def _draw(
    mapped: Mapped, true_lakes: geopandas.GeoDataFrame, path: Path, model: ModelSpec, seed: int
) -> None:
    from xglof.plot import overview

    overview(
        mapped.cube,
        mapped.seg,
        mapped.lakes,
        mapped.areas,
        truth_lakes=true_lakes,
        alerts=mapped.alerts,
        title=f"Simulated valley {seed}, mapped by {model.name}",
        caveat=model.caveat,
        path=path,
    )


def _summary(
    scores: Scores, model: ModelSpec, seed: int, alerts: list[str], seconds: float
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
            name: {measure: _number(pooled[measure]) for measure in measures}
            for name, (_, pooled) in scores.items()
        },
        "alerts": alerts,
        "seconds": round(seconds, 1),
    }


def _number(value: xr.DataArray) -> float | None:
    """Four digits, and ``None`` for NaN, which JSON has no word for."""
    return None if np.isnan(value) else round(float(value), 4)


def _table(mapped: Mapped, true_lakes: geopandas.GeoDataFrame, scores: Scores, seed: int) -> Table:
    """A row a date: what was seen, what was found, and how well; it fits 80 columns with two models."""
    table = Table(title=f"Simulated valley {seed}: lakes against the truth", title_justify="left")
    heads = ("observed", "mapped\nkm²", "true\nkm²", *(f"IoU\n{name}" for name in scores))
    table.add_column("date", no_wrap=True)
    for name in heads:
        table.add_column(name, justify="right")
    mapped_km2 = (mapped.areas["area_lower"].sum("lake") / 1e6).values
    true_km2 = true_lakes.groupby("time")["area_m2"].sum() / 1e6
    observed = mapped.observed.values
    for step, date in enumerate(mapped.seg["time"].values):
        ious = [_share(by_date["iou"].values[step]) for by_date, _ in scores.values()]
        areas = f"{mapped_km2[step]:.3f}", f"{true_km2.get(date, np.nan):.3f}"
        table.add_row(day(date), f"{observed[step]:.0%}", *areas, *ious)
    table.add_section()
    pooled = [_share(float(total["iou"])) for _, total in scores.values()]
    table.add_row("all dates", f"{observed.mean():.0%}", "", "", *pooled)
    return table


def _share(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


def _print_notes(console: Console, summary: dict[str, Any], out: Path) -> None:
    console.print("IoU: over the pixels that were observed. Mapped: the water seen. Everything is simulated.")
    print_alerts(console, summary["alerts"])
    if not summary["held_out"]:
        seed = summary["seed"]
        console.print(f"Seed {seed} was trained on: the score of {TINY_DEMO.name} proves nothing here.")
    console.print(f"Caveat of {summary['model']}: {summary['caveat']}.")
    console.print(
        f"{summary['seconds']:.0f} s. Written to {out}; look at {out / 'overview.png'}, or make a page of "
        f"it: xglof report {out}",
        soft_wrap=True,
    )
