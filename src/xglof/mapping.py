"""From a cube to the files that a run leaves: the steps that the commands have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr
from rich.console import Console

from xglof.cube.card_facts import counted
from xglof.engine.apply import segment
from xglof.lakes import find_alerts, find_lakes, flag_series, lake_area, track, write_lakes
from xglof.lakes.layer import UNOBSERVED
from xglof.lakes.pixels import requested
from xglof.models.registry import get_spec
from xglof.models.spec import ModelSpec
from xglof.outputs import read_zarr, write_alerts, write_areas, write_zarr
from xglof.progress import TaskProgress

if TYPE_CHECKING:
    import geopandas
    import pandas

_MOST_ALERTS = 5  # in a terminal


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a run found, as written: the cube and segmentation lazily from Zarr, the rest in memory.

    The lazy ones are good only until the run's folder is renamed to its place.
    """

    cube: xr.Dataset
    seg: xr.Dataset
    lakes: geopandas.GeoDataFrame
    areas: xr.Dataset
    alerts: pandas.DataFrame

    @property
    def observed(self) -> xr.DataArray:
        """Share of the requested pixels of every date that were observed, in memory; NaN where none was."""
        lake, asked = self.seg["lake"], requested(self.seg["flags"])
        rows_columns = lake.dims[-2:]
        whole = asked.sum(rows_columns)
        return (((lake != UNOBSERVED) & asked).sum(rows_columns) / whole.where(whole > 0)).compute()


def ready_spec(name: str) -> ModelSpec:
    """The spec of a shipped model whose weights are there and whole.

    Checked before anything is searched or written: a network is loaded much later.

    Raises
    ------
    ModelError
        If there is no such model, or its weights are absent or damaged.
    """
    spec = get_spec(name)
    if spec.weights is not None:
        spec.weights.check()
    return spec


def map_to_files(
    cube: xr.Dataset, folder: Path, *, model: ModelSpec, console: Console, **options: Any
) -> Mapped:
    """Read, segment, outline, follow and measure; write each as it comes.

    Parameters
    ----------
    cube
        As :func:`xglof.open_cube` returns it.
    folder
        Takes ``cube.zarr``, ``segmentation.zarr``, ``lakes.parquet``, ``areas.csv`` and ``alerts.csv``.
    model
        The model.
    console
        Where progress is shown.
    options
        Further arguments of :func:`xglof.segment`.

    Raises
    ------
    CatalogError
        If a file of the catalogue cannot be read.
    XglofError
        What :func:`xglof.segment` raises, before anything is read.
    """
    with console.status("starting torch"):  # what is wrong with the request shows before anything is read
        segment(cube, model=model, **options)
    with TaskProgress("reading the cube", console):
        cube = write_zarr(cube, folder / "cube.zarr")
    stored = read_zarr(folder / "cube.zarr", chunks=None)  # a block reads its own pixels and waits for none
    with TaskProgress(f"segmenting, {model.name}", console):
        seg = write_zarr(segment(stored, model=model, **options), folder / "segmentation.zarr")
    with TaskProgress("outlines and areas", console):
        lakes = track(find_lakes(seg))
        areas = flag_series(lake_area(seg, lakes).compute())
    alerts = find_alerts(areas, withdrawn=True)
    write_lakes(lakes, folder / "lakes.parquet")
    write_areas(areas, folder / "areas.csv")
    write_alerts(alerts, folder / "alerts.csv")
    return Mapped(cube, seg, lakes, areas, alerts[alerts["status"] != "withdrawn"])


def alert_lines(alerts: pandas.DataFrame) -> list[str]:
    """A line an alert, the latest last."""
    from xglof.plot.alert_words import alert_line

    return [alert_line(row) for row in alerts.to_dict("records")]


def print_alerts(console: Console, lines: list[str]) -> None:
    """Print how many alerts there are, and the latest ones."""
    console.print(f"{counted(len(lines), 'alert')}, at a budget of one false alarm in 100 lake-years.")
    for line in lines[-_MOST_ALERTS:]:
        console.print(f"  {line}.", soft_wrap=True)
    if len(lines) > _MOST_ALERTS:
        console.print(f"  The {len(lines) - _MOST_ALERTS} before these are in alerts.csv.")
