"""``xglof segment``: lakes of an area through time, with an account of the scenes and the errors."""

from __future__ import annotations

import inspect
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from rich.console import Console
from rich.table import Table

from xglof.cube import open_cube
from xglof.cube.card_facts import counted, day
from xglof.cube.sources import parse_period
from xglof.engine.apply import segment
from xglof.ingest import area_of_option, check_request, print_scenes, searches
from xglof.lakes.totals import total_area
from xglof.mapping import Mapped, alert_lines, map_to_files, print_alerts, ready_spec
from xglof.models.spec import ModelSpec
from xglof.outputs import new_folder, write_summary
from xglof.progress import open_console

_MOST_REASONS = 12
_FIRST_YEAR = 2017  # of Sentinel-2 L2A in the archives
_MORE_YEARS = 4


@dataclass(frozen=True, slots=True)
class Request:
    """What to map: the arguments of :func:`xglof.open_cube` as a command line gives them.

    ``aoi`` is ``"west,south,east,north"`` in degrees or the path of a GeoJSON file; ``model`` a name.
    """

    aoi: str | None
    time: str | None
    catalog: str
    modalities: tuple[str, ...]
    model: str
    resolution: float | None = None
    crs: str | None = None
    max_cloud_cover: float | None = None


def run_survey(
    request: Request,
    out: str | Path,
    *,
    overwrite: bool = False,
    console: Console | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Search, read, segment, outline and measure; print an account and write the files.

    Parameters
    ----------
    request
        What to map.
    out
        Folder to make: ``cube.zarr``, ``segmentation.zarr``, ``lakes.parquet``, ``areas.csv``,
        ``alerts.csv``, ``map.png``, ``summary.json``.
    overwrite
        Replace the run at ``out``.
    console
        Where to print; standard output by default.
    options
        Further arguments of :func:`xglof.segment`.

    Returns
    -------
    dict
        The figures of ``summary.json``.

    Raises
    ------
    XglofError
        One of its children, in one sentence, for anything wrong with the request; nothing is left behind.
    """
    console = console or open_console()
    model = ready_spec(request.model)
    area = area_of_option(request.aoi)
    check_request(request.catalog, request.time, request.aoi, Path(out))
    with new_folder(out, overwrite=overwrite) as folder:
        with console.status(f"searching {request.catalog}"):
            cube = open_cube(
                area,
                request.time,
                catalog=request.catalog,
                modalities=request.modalities,
                resolution=request.resolution,
                crs=request.crs,
                max_cloud_cover=request.max_cloud_cover,
            )
        print_scenes(console, cube)
        rows, cols = cube.odc.geobox.shape
        dates = counted(cube.sizes.get("time", 1), "date")
        megabytes = _pixel_bytes(cube) / 1e6
        console.print(f"{dates} on {rows} x {cols} pixels; to read: {megabytes:.1f} MB of pixels")
        mapped = map_to_files(cube, folder, model=model, console=console, **options)
        with console.status("drawing"):
            _draw(mapped, folder / "map.png", model)
        summary = _summary(mapped, model)
        write_summary(summary, folder)
    _print_result(console, summary, Path(out))
    console.print(f"Next, {_next_step(request, Path(out), options)}", soft_wrap=True)
    return summary


def _pixel_bytes(cube: xr.Dataset) -> int:
    """Size of the bands as they are in memory; the compressed files hold less, their margins more."""
    return int(sum(array.nbytes for name, array in cube.data_vars.items() if name != "flags"))


def _summary(mapped: Mapped, model: ModelSpec) -> dict[str, Any]:
    areas, observed = mapped.areas, mapped.observed.values
    total = total_area(areas, combine="quadrature")
    measured = total["lakes_measured"].values
    lower, upper, sigma = (total[f"area_{name}"].values / 1e6 for name in ("lower", "upper", "sigma"))
    return {
        "catalog": str(mapped.cube.attrs["catalog"]),
        "items_found": int(mapped.cube.attrs["items_found"]),
        "items_used": int(mapped.cube.attrs["items_used"]),
        "items_rejected": [str(reason) for reason in mapped.cube.attrs["items_rejected"]],
        "pixel_bytes": _pixel_bytes(mapped.cube),
        "model": model.name,
        "model_sha256": model.weights.sha256 if model.weights else "",
        "caveat": model.caveat,
        "lakes": int(areas.sizes["lake"]),
        "sigma_combined_by": "quadrature over the lakes measured",
        "dates": [
            {
                "date": day(date),
                "observed": _known(observed[step], 4),
                "lakes_measured": int(measured[step]),
                "area_km2": _known(lower[step], 6),
                "sigma_km2": _known(sigma[step], 6) if measured[step] else None,
                "upper_km2": _known(upper[step], 6),
            }
            for step, date in enumerate(areas["time"].values)
        ],
        "alerts": alert_lines(mapped.alerts),
    }


def _known(value: float, digits: int) -> float | None:
    """Some digits, and ``None`` for NaN (nothing was requested), which JSON has no word for."""
    return None if np.isnan(value) else round(float(value), digits)


def _draw(mapped: Mapped, path: Path, model: ModelSpec) -> None:
    from xglof.plot import overview

    title = f"Lakes from {mapped.cube.attrs['catalog']}, mapped by {model.name}"
    overview(
        mapped.cube,
        mapped.seg,
        mapped.lakes,
        mapped.areas,
        alerts=mapped.alerts,
        title=title,
        caveat=model.caveat,
        path=path,
    )


def _print_result(console: Console, summary: dict[str, Any], out: Path) -> None:
    table = Table(title=f"Lakes by {summary['model']}: {summary['lakes']} in all", title_justify="left")
    table.add_column("date", no_wrap=True)
    for name in ("observed", "lakes\nmeasured", "area\nkm²", "error\n1 sigma", "at most\nkm²"):
        table.add_column(name, justify="right")
    for row in summary["dates"]:
        sigma = row["sigma_km2"]
        table.add_row(
            row["date"],
            "-" if row["observed"] is None else f"{row['observed']:.0%}",
            str(row["lakes_measured"]),
            _told(row["area_km2"]),
            "-" if sigma is None else f"± {sigma:.4f}",
            _told(row["upper_km2"]),
        )
    console.print(table)
    console.print(
        "Area: all water seen. Measured: lakes of which 70 % or more was observed; the error is theirs."
    )
    console.print("At most: with all that was not observed in and around the lakes counted as water.")
    print_alerts(console, summary["alerts"])
    console.print(f"Caveat of {summary['model']}: {summary['caveat']}.")
    console.print(
        f"Written to {out}; look at {out / 'map.png'}, or make a page of it: xglof report {out}",
        soft_wrap=True,
    )


def _told(area_km2: float | None) -> str:
    return "-" if area_km2 is None else f"{area_km2:.4f}"


def _next_step(request: Request, out: Path, options: dict[str, Any]) -> str:
    """A command for after this one: a longer series where there may be one, else the series in a table."""
    period = parse_period(request.time)
    if not (searches(request.catalog) and period.start and period.end and period.start.year > _FIRST_YEAR):
        code = f"import pandas; print(pandas.read_csv({json.dumps(str(out / 'areas.csv'))}))"
        return f"the areas lake by lake: python -c {shlex.quote(code)}"
    first = max(period.start.year - _MORE_YEARS, _FIRST_YEAR)
    wanted = {
        "--catalog": request.catalog,
        "--aoi": request.aoi,
        "--time": f"{first}/{period.end.year}",
        "--modalities": ",".join(request.modalities),
        "--model": request.model,
        "--resolution": request.resolution,
        "--crs": request.crs,
        "--max-cloud": request.max_cloud_cover,
        "--out": f"{out}-since-{first}",
    }
    words = [str(word) for pair in wanted.items() if pair[1] is not None for word in pair]
    return f"a longer series: {shlex.join(['xglof', 'segment', *words, *_changed(options)])}"


def _changed(options: dict[str, Any]) -> list[str]:
    """The options of :func:`xglof.segment` that are not the default ones, as a command line has them."""
    known = inspect.signature(segment).parameters
    changed = {name: value for name, value in options.items() if value != known[name].default}
    return [
        word
        for name, value in changed.items()
        for word in (["--tta"] if name == "tta" else [f"--{name}", str(value)])
    ]
