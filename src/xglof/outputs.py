"""Files that a run leaves: written aside, then renamed, so that none is ever half there."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from xglof.errors import OutputError

if TYPE_CHECKING:
    import geopandas
    import xarray as xr


@contextmanager
def new_folder(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """A folder to fill, which takes its place at ``path`` when the block ends well and is gone when it fails.

    Parameters
    ----------
    path
        Where the folder shall be.
    overwrite
        Replace what is there, once the new folder is complete. An empty folder is replaced in any case.

    Raises
    ------
    OutputError
        If something is at ``path`` already, or nothing can be written beside it.
    """
    target = Path(path).resolve()
    taken = target.exists() and not (target.is_dir() and not any(target.iterdir()))
    if taken and not overwrite:
        raise OutputError(f"{target} is there already; give another folder or --overwrite")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise OutputError(f"can't write to {target.parent}: {error.strerror}; give another folder") from error
    try:
        made = aside / "new"
        made.mkdir()
        yield made
        if target.exists():
            target.rename(aside / "old")
        made.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_zarr(data: xr.Dataset, path: Path) -> xr.Dataset:
    """Write a cube or segmentation as Zarr and return it lazily as written.

    Format 2: its strings and consolidated metadata are specified, those of format 3 are not yet.
    """
    plain = data.drop_encoding()
    for variable in plain.data_vars.values():
        if variable.dtype.kind == "f":
            variable.encoding["_FillValue"] = variable.dtype.type("nan")
        if "spatial_ref" in plain.coords:
            variable.encoding["grid_mapping"] = "spatial_ref"
    plain.to_zarr(path, zarr_format=2, mode="w-")
    return read_zarr(path)


def read_zarr(path: str | Path) -> xr.Dataset:
    """Open, lazily, a cube or segmentation that :func:`write_zarr` wrote, with its CRS."""
    import xarray as xr

    data: xr.Dataset = xr.open_zarr(path, decode_coords="all")
    return data.assign_coords({name: coord.load() for name, coord in data.coords.items()})


def write_lakes(lakes: geopandas.GeoDataFrame, path: Path) -> None:
    """Write lake polygons as GeoParquet 1.1."""
    lakes.to_parquet(path, index=False)


def write_areas(areas: xr.Dataset, path: Path) -> None:
    """Write a ``(lake, time)`` series as CSV, a row a lake and date; areas in square metres."""
    measured = ["area", "area_sigma", "area_lower", "area_upper"]
    table = areas.to_dataframe().reset_index().rename(columns={name: f"{name}_m2" for name in measured})
    keys = [name for name in ("lake", "time") if name in table]
    first = [*keys, *(f"{name}_m2" for name in measured), "observed_fraction", "frozen_fraction"]
    rest = [name for name in table if name not in {"x", "y", "spatial_ref", *first}]
    table = table.sort_values(keys, kind="stable")[[*first, *rest]]
    table.to_csv(path, index=False, float_format="%.8g")


def write_summary(summary: dict[str, object], path: Path) -> None:
    """Write a run's figures as JSON."""
    path.write_text(json.dumps(summary, indent=2, default=str) + "\n", encoding="utf-8")
