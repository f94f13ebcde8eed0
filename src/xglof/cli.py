"""The command line: ``xglof demo | cube | segment | report | train | score | doctor | models | versions``."""

from __future__ import annotations

import logging
import sys
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
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
_REAL_CUBE = (
    "xglof cube --catalog earth-search --aoi 86.90,27.88,86.96,27.92 --time 2023-09/2023-11 "
    "--modalities S2L2A,DEM --out imja.zarr --dry-run"
)

Catalog = Annotated[
    str,
    typer.Option(
        help="An archive such as earth-search, the URL of a STAC API, or the path of a catalogue, an "
        "ItemCollection, a .parquet file or a .toml profile."
    ),
]
Area = Annotated[
    str | None,
    typer.Option(
        help="west,south,east,north in degrees, or the path of a GeoJSON file.",
        show_default="all of a catalogue on disk",
    ),
]
Period = Annotated[str | None, typer.Option(help="Such as 2023-07/2023-09, UTC.")]
Modalities = Annotated[str, typer.Option(help="Some of S2L2A, S1RTC, DEM, with commas.")]
MaxCloud = Annotated[float, typer.Option(help="Percent; cloudier Sentinel-2 items are left out.")]
Freq = Annotated[
    str | None,
    typer.Option(
        help="month, season or months such as JJAS: a composite each; with --time.", show_default="every date"
    ),
]
Composite = Annotated[
    str | None, typer.Option(help="median, medoid or best; with --freq.", show_default="median")
]
Orbit = Annotated[
    str | None,
    typer.Option(help="Of Sentinel-1: ascending, descending or a relative orbit.", show_default="any"),
]
OnError = Annotated[
    str | None, typer.Option(help="A file can't be read: raise, or flag its pixels.", show_default="raise")
]
Resolution = Annotated[
    float | None, typer.Option(help="Pixel size in units of the CRS.", show_default="10 m")
]
Crs = Annotated[str | None, typer.Option(help="Of the grid.", show_default="the UTM zone of the AOI")]
ModelName = Annotated[str, typer.Option("--model", help="A name of `xglof models`.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run at --out.")]
_RULES, _OUTLINES = "What is counted how", "A truth of polygons"  # groups of options of score


def main() -> None:
    """Run the command line; bad input ends with one sentence and exit status 2."""
    # rasterio hides this one about its own buffers with catch_warnings, which leaks between threads
    warnings.filterwarnings("ignore", message="Dataset has no geotransform", module=r"rasterio\.")
    logging.getLogger("odc.loader").setLevel(logging.CRITICAL)  # what it could not read is said in our words
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
    time: Period = None,
    modalities: Modalities = "S2L2A,S1RTC,DEM",
    model: ModelName = "water-index",
    resolution: Resolution = None,
    crs: Crs = None,
    max_cloud: MaxCloud = 60,
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
        modalities=_listed(modalities),
        model=model,
        resolution=resolution,
        crs=crs,
        max_cloud_cover=max_cloud,
    )
    options: dict[str, Any] = {"overlap": overlap, "threshold": threshold, "device": device}
    run_survey(request, out, overwrite=overwrite, tta="flip" if tta else None, **options)


@app.command(epilog=f"Example: {_REAL_CUBE}")
def cube(
    catalog: Catalog,
    out: Annotated[Path, typer.Option(help="Zarr store to make.")] = Path("cube.zarr"),
    aoi: Area = None,
    time: Period = None,
    modalities: Modalities = "S2L2A,S1RTC,DEM",
    resolution: Resolution = None,
    crs: Crs = None,
    max_cloud: MaxCloud = 60,
    freq: Freq = None,
    composite: Composite = None,
    orbit: Orbit = None,
    on_error: OnError = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print items, bytes to read and the plan; read no pixel.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the Zarr store at --out.")] = False,
) -> None:
    """Read the scenes of an area through time onto one grid and write them as Zarr."""
    from xglof.ingest import CubeRequest, run_ingest

    request = CubeRequest(
        aoi=aoi,
        time=time,
        catalog=catalog,
        modalities=_listed(modalities),
        resolution=resolution,
        crs=crs,
        max_cloud_cover=max_cloud,
        freq=freq,
        composite=composite,
        orbit=orbit,
        on_error=on_error,
    )
    run_ingest(request, out, overwrite=overwrite, dry_run=dry_run)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Folder that `xglof demo` or `xglof segment` made.")],
    out: Annotated[
        Path | None, typer.Option(help="HTML file to make.", show_default="report.html in the folder")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file at --out.")] = False,
) -> None:
    """Write what a run found as one HTML file: alerts, maps, a table of lakes and a card for each of some."""
    from xglof.report.run import report_run

    report_run(run, out, overwrite=overwrite)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


@app.command()
def doctor() -> None:
    """Check device, memory, GDAL, models, proxies, and which archives answer."""
    console = open_console()
    with console.status("looking around"):
        from xglof.doctor import examine, print_findings

        findings = examine()
    print_findings(console, findings)


@app.command(epilog="Example: xglof train configs/terramind-tiny-demo.toml")
def train(
    config: Annotated[Path, typer.Argument(help="TOML file; see configs/ in the repository.")],
    new: Annotated[
        bool,
        typer.Option("--new", help="Refuse a folder that holds a run, in place of going on with it."),
    ] = False,
) -> None:
    """Train a model on labelled cubes or shards; a run that was cut off goes on where it was."""
    from xglof.train.training import fit

    trained = fit(config, resume=False if new else "auto")
    console = open_console()
    console.print(f"Trained: {trained.average or trained.best}", soft_wrap=True)
    console.print(f"Use it: xglof segment --model {trained.average or trained.best} ...", soft_wrap=True)


ToleranceM = Annotated[
    float, typer.Option(help="Metres on the ground that a shore may be off.", min=0, rich_help_panel=_RULES)
]
ChipPx = Annotated[int, typer.Option("--chip", help="Side of a chip, pixels.", min=1, rich_help_panel=_RULES)]
BlockM = Annotated[
    float,
    typer.Option(help="Side of a block of ground that is resampled, metres.", rich_help_panel=_RULES),
]
MinIou = Annotated[
    float, typer.Option(help="IoU, 0 to 1, from which on two lakes are one.", rich_help_panel=_RULES)
]
MinArea = Annotated[
    float, typer.Option(help="Square metres; smaller lakes do not count.", min=0, rich_help_panel=_RULES)
]
AllTouched = Annotated[
    bool,
    typer.Option(
        "--all-touched",
        help="Every pixel that a polygon touches is lake.",
        show_default="those whose centre it holds",
        rich_help_panel=_OUTLINES,
    ),
]
Dates = Annotated[
    str | None,
    typer.Option(
        help="Column with the date of each polygon; with --tolerance.",
        show_default="they hold for every date",
        rich_help_panel=_OUTLINES,
    ),
]
Tolerance = Annotated[
    str | None,
    typer.Option(
        help="Such as 45D: how far from its date a polygon holds; with --dates.",
        show_default="none",
        rich_help_panel=_OUTLINES,
    ),
]


@app.command(epilog="Example: xglof score run truth.zarr --out scores")
def score(
    seg: Annotated[Path, typer.Argument(help="Zarr store of a segmentation, or the folder of a run.")],
    truth: Annotated[
        Path, typer.Argument(help="Zarr store with lake, polygons in a file, or a simulated catalogue.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to make.")] = Path("scores"),
    threshold: Annotated[
        float | None, typer.Option(help="Least probability of a lake.", show_default="lake as it was mapped")
    ] = None,
    tolerance_m: ToleranceM = 20,
    chip: ChipPx = 224,
    block_m: BlockM = 5000,
    min_iou: MinIou = 0.5,
    min_area: MinArea = 0,
    all_touched: AllTouched = False,
    dates: Dates = None,
    tolerance: Tolerance = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace earlier scores at --out.")] = False,
) -> None:
    """Score a map against a truth: pixels, shores, lakes by size, thresholds, calibration, with intervals."""
    from xglof.scoring import ScoreRules, run_score

    rules = ScoreRules(
        threshold=threshold,
        tolerance_m=tolerance_m,
        chip_px=chip,
        block_m=block_m,
        min_iou=min_iou,
        min_area=min_area,
        all_touched=all_touched,
        dates=dates,
        tolerance=tolerance,
    )
    run_score(seg, truth, out, rules=rules, overwrite=overwrite)


models = typer.Typer(invoke_without_command=True, help="List the models, convert checkpoints, fetch weights.")
app.add_typer(models, name="models")


class Which(StrEnum):
    """Which weights of a checkpoint that holds two sets."""

    auto = "auto"
    model = "model"
    ema = "ema"


Choice = Annotated[Which, typer.Option(help="model: as trained last; ema: their moving average.")]
Trust = Annotated[
    bool, typer.Option("--trust", help="Read a pickle that holds more than numbers: its code is run.")
]


@models.callback()
def list_models(context: typer.Context) -> None:
    """List the models that ship with xglof, or see the commands."""
    if context.invoked_subcommand is None:
        from xglof.models.listing import list_models as print_models

        print_models(open_console())


@models.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="Lightning .ckpt, .pt or .safetensors.")],
    out: Annotated[Path, typer.Option(help="Model folder to make.")],
    model: Annotated[str, typer.Option(help="Whose network it is: a name of `xglof models`, or a folder.")],
    which: Choice = Which.auto,
    trust: Trust = False,
) -> None:
    """Make a model folder of a checkpoint; each key must match the network."""
    from xglof.models.listing import run_convert

    run_convert(open_console(), checkpoint, out, model=model, which=which.value, trust=trust)


@models.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Such as cryosentinel.")],
    revision: Annotated[
        str | None,
        typer.Option(help="Commit, branch or tag.", show_default="main, or that of the first time"),
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="What the file must have.")] = None,
    which: Choice = Which.auto,
    trust: Trust = False,
) -> None:
    """Download published weights once, convert them, and keep commit and SHA-256 for every later load."""
    from xglof.models.listing import run_fetch

    run_fetch(open_console(), name, revision=revision, sha256=sha256, which=which.value, trust=trust)


@app.command()
def versions() -> None:
    """Print the versions of what a result depends on."""
    from xglof.show_versions import show_versions

    for package, number in show_versions().items():
        print(f"{package:<20} {number}")


if __name__ == "__main__":
    main()
