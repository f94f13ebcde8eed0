"""From a cube to the files that a run leaves: the steps that the commands have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr
from rich.console import Console

from xglof.engine.apply import segment
from xglof.lakes import find_lakes, lake_area
from xglof.models.spec import ModelSpec
from xglof.outputs import write_areas, write_lakes, write_zarr
from xglof.progress import TaskProgress

if TYPE_CHECKING:
    import geopandas


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a run found, as written: the cube and segmentation lazily from Zarr, the rest in memory."""

    cube: xr.Dataset
    seg: xr.Dataset
    lakes: geopandas.GeoDataFrame
    areas: xr.Dataset


def map_lakes(
    cube: xr.Dataset, folder: Path, *, model: ModelSpec, console: Console, **options: Any
) -> Mapped:
    """Read, segment, outline and measure; write each as it comes.

    Parameters
    ----------
    cube
        As :func:`xglof.open_cube` returns it.
    folder
        Takes ``cube.zarr``, ``segmentation.zarr``, ``lakes.parquet`` and ``areas.csv``.
    model
        The model.
    console
        Where progress is shown.
    options
        Further arguments of :func:`xglof.segment`.
    """
    segment(cube, model=model, **options)  # what is wrong with the request shows before anything is read
    with TaskProgress("reading the cube", console):
        cube = write_zarr(cube, folder / "cube.zarr")
    with TaskProgress(f"segmenting, {model.name}", console):
        seg = write_zarr(segment(cube, model=model, **options), folder / "segmentation.zarr")
    with TaskProgress("outlines and areas", console):
        lakes = find_lakes(seg)
        areas = lake_area(seg, lakes).compute()
    write_lakes(lakes, folder / "lakes.parquet")
    write_areas(areas, folder / "areas.csv")
    return Mapped(cube, seg, lakes, areas)
