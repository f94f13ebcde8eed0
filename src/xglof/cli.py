"""The command line: ``xglof demo | segment | doctor | models | versions``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from xglof.errors import XglofError

#: Exit status after bad input.
BAD_INPUT = 2

app = typer.Typer(
    help="Glacial lakes from Sentinel-1, Sentinel-2 and Copernicus DEM cubes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ModelName = Annotated[str, typer.Option("--model", help="A model of `xglof models`.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:N or auto.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the folder where it is there.")]


def main() -> None:
    """Run the command line; bad input ends with one sentence and exit status 2."""
    try:
        app(standalone_mode=True)
    except XglofError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(
            f"[bold red]xglof:[/] {escape(str(error))}"
        )
        sys.exit(BAD_INPUT)


def escape(text: str) -> str:
    """Text that rich prints as it is."""
    from rich.markup import escape as escape_markup

    return escape_markup(text)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder to make.")] = Path("xglof-demo"),
    model: ModelName = "terramind-tiny-demo",
    seed: Annotated[int, typer.Option(help="Seed of the simulated valley.")] = 7,
    side: Annotated[int, typer.Option(help="Side of the valley, pixels of 10 m.", min=64)] = 448,
    overwrite: Overwrite = False,
) -> None:
    """Map the lakes of a simulated valley through time and score them against the truth."""
    from xglof.demo import run_demo
    from xglof.models.registry import get_spec

    run_demo(out, model=get_spec(model), seed=seed, side_px=side, overwrite=overwrite)


@app.command()
def segment(
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    catalog: Annotated[
        str,
        typer.Option(help="earth-search, planetary-computer, the URL of a STAC API, or a catalogue's path."),
    ],
    aoi: Annotated[
        str | None, typer.Option(help="west,south,east,north in degrees, or the path of a GeoJSON file.")
    ] = None,
    time: Annotated[str | None, typer.Option(help="Such as 2023-07/2023-09, UTC.")] = None,
    modalities: Annotated[
        str, typer.Option(help="Among S2L2A, S1RTC, DEM, with commas.")
    ] = "S2L2A,S1RTC,DEM",
    model: ModelName = "water-index",
    resolution: Annotated[float | None, typer.Option(help="Pixel size in units of the CRS; 10 m.")] = None,
    crs: Annotated[str | None, typer.Option(help="Of the maps; the AOI's UTM zone by default.")] = None,
    max_cloud: Annotated[float, typer.Option(help="Percent; cloudier Sentinel-2 items are left out.")] = 60,
    overlap: Annotated[float, typer.Option(help="Share that windows have in common.")] = 0.5,
    threshold: Annotated[float, typer.Option(help="Least probability of a lake.")] = 0.5,
    tta: Annotated[bool, typer.Option("--tta", help="Average over flips, at four times the work.")] = False,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Map the lakes of an area through time from an archive or a catalogue on disk."""
    from xglof.survey import Request, run_survey

    request = Request(
        aoi=aoi,
        time=time,
        catalog=catalog,
        modalities=tuple(name.strip() for name in modalities.split(",") if name.strip()),
        model=model,
        resolution=resolution,
        crs=crs,
        max_cloud_cover=max_cloud,
    )
    options: dict[str, Any] = {"overlap": overlap, "threshold": threshold, "device": device}
    run_survey(request, out, overwrite=overwrite, tta="flip" if tta else None, **options)


@app.command()
def doctor() -> None:
    """Check device, memory, GDAL, models and proxies, and which archives answer."""
    from xglof.doctor import examine, print_findings

    console = Console()
    with console.status("looking around"):
        findings = examine()
    print_findings(console, findings)


@app.command()
def models() -> None:
    """List the models that ship with xglof."""
    from xglof.models.registry import get_spec, names

    table = Table("model", "takes", "what it is", "caveat", "licence")
    for name in names():
        spec = get_spec(name)
        takes = ", ".join(source.modality for source in spec.inputs)
        table.add_row(name, takes, spec.summary, spec.caveat, spec.licence)
    Console().print(table)


@app.command()
def versions() -> None:
    """Print the versions of what a result depends on."""
    from xglof.show_versions import show_versions

    for package, number in show_versions().items():
        print(f"{package:<20} {number}")


if __name__ == "__main__":
    main()
