"""``xglof segment``: lakes of an area through time, with an account of the scenes and the errors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from rich.console import Console
from rich.table import Table

from xglof.cube import open_cube
from xglof.errors import CubeError
from xglof.mapping import Mapped, map_lakes
from xglof.models.registry import get_spec
from xglof.models.spec import ModelSpec
from xglof.outputs import new_folder, write_summary

_MOST_REASONS = 12


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
        Folder to make: ``cube.zarr``, ``segmentation.zarr``, ``lakes.parquet``, ``areas.csv``, ``map.png``,
        ``summary.json``.
    overwrite
        Replace ``out`` where it is there.
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
    console = console or Console()
    model = get_spec(request.model)
    with new_folder(out, overwrite=overwrite) as folder:
        with console.status(f"searching {request.catalog}"):
            cube = open_cube(
                _area(request.aoi),
                request.time,
                catalog=request.catalog,
                modalities=request.modalities,
                resolution=request.resolution,
                crs=request.crs,
                max_cloud_cover=request.max_cloud_cover,
            )
        _print_scenes(console, cube)
        mapped = map_lakes(cube, folder, model=model, console=console, **options)
        summary = _summary(request, mapped, model)
        write_summary(summary, folder / "summary.json")
        _draw(mapped, folder / "map.png", model)
    _print_result(console, summary, Path(out))
    return summary


def _area(aoi: str | None) -> object:
    """The bounds that the text gives, or the text as a path."""
    if aoi is None:
        return None
    parts = aoi.split(",")
    if len(parts) != 4:
        return aoi
    try:
        return tuple(float(part) for part in parts)
    except ValueError as error:
        raise CubeError(f"--aoi {aoi!r} is neither west,south,east,north in degrees nor a file") from error


def _print_scenes(console: Console, cube: xr.Dataset) -> None:
    """Scenes found, used and rejected with the reason, and what there is to read."""
    rejected = [str(reason) for reason in cube.attrs["items_rejected"]]
    console.print(
        f"{cube.attrs['items_found']} scenes found in {cube.attrs['catalog']}, "
        f"{cube.attrs['items_used']} used, {len(rejected)} rejected"
    )
    for reason in rejected[:_MOST_REASONS]:
        console.print(f"  rejected {reason}", highlight=False)
    if len(rejected) > _MOST_REASONS:
        console.print(f"  and {len(rejected) - _MOST_REASONS} more")
    rows, cols = cube.odc.geobox.shape
    steps = cube.sizes.get("time", 1)
    console.print(f"{steps} dates on {rows} x {cols} pixels: {cube.nbytes / 1e6:.0f} MB of pixels to read")


def _summary(request: Request, mapped: Mapped, model: ModelSpec) -> dict[str, Any]:
    lake = mapped.seg["lake"]
    areas = mapped.areas if "time" in mapped.areas.dims else mapped.areas.expand_dims("time", axis=1)
    observed = np.atleast_1d((lake != 255).mean(lake.dims[-2:]).values)
    total = areas[["area_lower", "area_upper"]].sum("lake")
    sigma = np.sqrt((areas["area_sigma"] ** 2).sum("lake"))
    dates = areas["time"].dt.strftime("%Y-%m-%d").values if "time" in mapped.areas.dims else ["undated"]
    return {
        "catalog": str(mapped.cube.attrs["catalog"]),
        "items_found": int(mapped.cube.attrs["items_found"]),
        "items_used": int(mapped.cube.attrs["items_used"]),
        "items_rejected": [str(reason) for reason in mapped.cube.attrs["items_rejected"]],
        "pixel_bytes_read": int(mapped.cube.nbytes),
        "model": model.name,
        "model_sha256": model.weights.sha256 if model.weights else "",
        "caveat": model.caveat,
        "lakes": int(mapped.areas.sizes["lake"]),
        "combine": "quadrature",
        "dates": [
            {
                "date": str(date),
                "observed": round(float(observed[step]), 4),
                "area_km2": round(float(total["area_lower"][step]) / 1e6, 6),
                "sigma_km2": round(float(sigma[step]) / 1e6, 6),
                "upper_km2": round(float(total["area_upper"][step]) / 1e6, 6),
            }
            for step, date in enumerate(dates)
        ],
    }


def _draw(mapped: Mapped, path: Path, model: ModelSpec) -> None:
    from xglof.plot import overview

    title = f"Lakes mapped by {model.name}"
    overview(mapped.cube, mapped.seg, mapped.lakes, mapped.areas, title=title, caveat=model.caveat, path=path)


def _print_result(console: Console, summary: dict[str, Any], out: Path) -> None:
    table = Table(title=f"{summary['lakes']} lakes by {summary['model']}", title_justify="left")
    for name in ("date", "observed", "lakes, km²", "error (1 sigma)", "at most, km²"):
        table.add_column(name, justify="left" if name == "date" else "right")
    for row in summary["dates"]:
        table.add_row(
            row["date"],
            f"{row['observed']:.0%}",
            f"{row['area_km2']:.4f}",
            f"± {row['sigma_km2']:.4f}",
            f"{row['upper_km2']:.4f}",
        )
    console.print(table)
    console.print("At most: with every pixel that could not be seen counted as lake.")
    if summary["caveat"]:
        console.print(f"{summary['model']}: {summary['caveat']}.")
    console.print(f"Written to {out}/; look at {out / 'map.png'}.")
    console.print(
        f"Next: python -c \"import geopandas; print(geopandas.read_parquet('{out}/lakes.parquet'))\""
    )
