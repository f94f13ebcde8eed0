"""The command line: ``xglof demo | segment | doctor | models | versions``."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from xglof.errors import XglofError
from xglof.progress import open_console

#: Exit status after bad input.
BAD_INPUT = 2

app = typer.Typer(
    help="Glacial lakes from Sentinel-1, Sentinel-2 and Copernicus DEM cubes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

#: A first run on real data, as the README has it.
_REAL_LAKE = (
    "xglof segment --catalog earth-search --aoi 86.90,27.88,86.96,27.92 --time 2023-09/2023-11 "
    "--modalities S2L2A,DEM --model water-index --out imja"
)

Catalog = Annotated[
    str, typer.Option(help="earth-search, planetary-computer, the URL of a STAC API, or a catalogue's path.")
]
Area = Annotated[
    str | None,
    typer.Option(
        help="west,south,east,north in degrees, or the path of a GeoJSON file.",
        show_default="all of a catalogue on disk",
    ),
]
Resolution = Annotated[
    float | None, typer.Option(help="Pixel size in units of the CRS.", show_default="10 m")
]
Crs = Annotated[str | None, typer.Option(help="Of the maps.", show_default="the UTM zone of the AOI")]
ModelName = Annotated[str, typer.Option("--model", help="A name of `xglof models`.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run at --out.")]


def main() -> None:
    """Run the command line; bad input ends with one sentence and exit status 2."""
    # rasterio hides this one about its own buffers with catch_warnings, which leaks between threads
    warnings.filterwarnings("ignore", message="Dataset has no geotransform", module=r"rasterio\.")
    try:
        app(prog_name="xglof")
    except XglofError as error:
        sentence = " ".join(str(error).split())
        open_console(stderr=True).print(Text.assemble(("xglof:", "bold red"), " ", sentence), soft_wrap=True)
        sys.exit(BAD_INPUT)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder to make.")] = Path("xglof-demo"),
    model: ModelName = "terramind-tiny-demo",
    seed: Annotated[int, typer.Option(help="Seed of the simulated valley.", min=0)] = 7,
    side: Annotated[int, typer.Option(help="Side of the valley, pixels of 10 m.", min=64)] = 448,
    overwrite: Overwrite = False,
) -> None:
    """Map the lakes of a simulated valley and score them against the truth."""
    from xglof.demo import run_demo

    run_demo(out, model=model, seed=seed, side_px=side, overwrite=overwrite)
    open_console().print(f"Next, a real lake: {_REAL_LAKE}", soft_wrap=True)


@app.command(epilog=f"Example: {_REAL_LAKE}")
def segment(
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    catalog: Catalog,
    aoi: Area = None,
    time: Annotated[str | None, typer.Option(help="Such as 2023-07/2023-09, UTC.")] = None,
    modalities: Annotated[
        str, typer.Option(help="Some of S2L2A, S1RTC, DEM, with commas.")
    ] = "S2L2A,S1RTC,DEM",
    model: ModelName = "water-index",
    resolution: Resolution = None,
    crs: Crs = None,
    max_cloud: Annotated[float, typer.Option(help="Percent; cloudier Sentinel-2 items are left out.")] = 60,
    overlap: Annotated[float, typer.Option(help="Share that windows have in common.")] = 0.5,
    threshold: Annotated[float, typer.Option(help="Least probability of a lake.")] = 0.5,
    tta: Annotated[bool, typer.Option("--tta", help="Average over flips, at four times the work.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N or auto.")] = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Map the lakes of an area through time, from an archive or a catalogue on disk."""
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
    """Check device, memory, GDAL, models, proxies, and which archives answer."""
    console = open_console()
    with console.status("looking around"):
        from xglof.doctor import examine, print_findings

        findings = examine()
    print_findings(console, findings)


@app.command()
def models() -> None:
    """List the models that ship with xglof."""
    from xglof.models.registry import get_spec, names

    console = open_console()
    for name in names():
        spec = get_spec(name)
        takes = ", ".join(source.modality + "?" * source.optional for source in spec.inputs)
        console.print(Text(name, "bold"))
        table = Table(show_header=False, box=None)
        table.add_column(no_wrap=True)
        table.add_column()
        for what, text in (("is", spec.summary), ("takes", takes), ("caveat", spec.caveat)):
            table.add_row(what, text)
        table.add_row("licence", spec.licence)
        console.print(table)
    console.print("?: may be left out; one of S2L2A and S1RTC is needed.")


@app.command()
def versions() -> None:
    """Print the versions of what a result depends on."""
    from xglof.show_versions import show_versions

    for package, number in show_versions().items():
        print(f"{package:<20} {number}")


if __name__ == "__main__":
    main()
