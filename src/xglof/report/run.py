"""``xglof report``: a report of the folder that a run left."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr
from rich.console import Console

from xglof.cube.card_facts import counted
from xglof.errors import OutputError
from xglof.lakes.area import lake_area
from xglof.lakes.series import flag_series
from xglof.lakes.tracking import track
from xglof.outputs import read_zarr
from xglof.progress import TaskProgress, open_console
from xglof.report.write import write_report

if TYPE_CHECKING:
    import geopandas

_PARTS = ("cube.zarr", "segmentation.zarr", "lakes.parquet")


def report_run(
    run: str | Path,
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
    console: Console | None = None,
) -> Path:
    """The HTML file with the report of a run's folder.

    Parameters
    ----------
    run
        Folder that ``xglof demo`` or ``xglof segment`` made.
    out
        Of the file; ``None`` for ``report.html`` in the folder.
    overwrite
        Replace the file.
    console
        Where to print; standard output by default.

    Raises
    ------
    OutputError
        No such folder, a part of the run that is missing or unreadable, or as
        :func:`xglof.report.write_report`.
    CubeError
        The run has one map without a date.
    """
    console = console or open_console()
    folder = Path(run)
    target = folder / "report.html" if out is None else Path(out)
    cube, seg, lakes = _read(folder)
    with console.status("tracking lakes"):
        lakes = lakes if "lake_id" in lakes else track(lakes)
    with TaskProgress("measuring", console):
        series = flag_series(lake_area(seg, lakes).compute())
    with console.status("writing the report"):
        title = f"Lakes of {cube.attrs.get('catalog', folder.name)}"
        written = write_report(
            target, cube=cube, seg=seg, lakes=lakes, series=series, title=title, overwrite=overwrite
        )
    size = written.stat().st_size / 1e6
    console.print(
        f"{counted(series.sizes['lake'], 'lake')}; written to {written} ({size:.1f} MB)", soft_wrap=True
    )
    return written


def _read(folder: Path) -> tuple[xr.Dataset, xr.Dataset, geopandas.GeoDataFrame]:
    """Cube, segmentation and polygons of a run."""
    import geopandas

    if not folder.is_dir():
        raise OutputError(f"{folder} is no folder; give one that `xglof demo` or `xglof segment` made")
    missing = [name for name in _PARTS if not (folder / name).exists()]
    if missing:
        raise OutputError(
            f"{folder} holds no {', '.join(missing)}; give a folder that `xglof demo` or `xglof segment` made"
        )
    try:
        lakes = geopandas.read_parquet(folder / "lakes.parquet")
    except (OSError, ValueError) as error:
        raise OutputError(f"{folder / 'lakes.parquet'} can't be read: {error}; run it again") from error
    return read_zarr(folder / "cube.zarr"), read_zarr(folder / "segmentation.zarr"), lakes
