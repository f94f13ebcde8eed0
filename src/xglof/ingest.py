"""``xglof cube``: the scenes of an area through time, chosen, read onto one grid and written as Zarr."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from rich.console import Console
from rich.table import Table

from xglof.cube import open_cube
from xglof.cube.card_facts import bytes_text, card_of, counted, day
from xglof.cube.coverage import coverage
from xglof.cube.providers import PROVIDERS
from xglof.errors import CubeError, OutputError
from xglof.outputs import read_zarr, write_zarr
from xglof.progress import TaskProgress, open_console
from xglof.reading_plan import listed_items, plan_facts

_MOST_REASONS = 12
_COMMON = 4  # items with one reason, from which on they share a line


@dataclass(frozen=True, slots=True)
class CubeRequest:
    """The arguments of :func:`xglof.open_cube` as a command line gives them; ``None`` is its default.

    ``aoi`` is ``"west,south,east,north"`` in degrees or the path of a GeoJSON file; ``orbit`` a direction or
    the number of a relative orbit.
    """

    aoi: str | None
    time: str | None
    catalog: str
    modalities: tuple[str, ...]
    resolution: float | None = None
    crs: str | None = None
    max_cloud_cover: float | None = None
    freq: str | None = None
    composite: str | None = None
    orbit: str | None = None
    on_error: str | None = None

    def open(self) -> xr.Dataset:
        """The cube, lazily."""
        if self.composite is not None and self.freq is None:
            raise CubeError(f"--composite {self.composite} needs --freq, such as --freq season")
        orbit = int(self.orbit) if self.orbit is not None and self.orbit.isdecimal() else self.orbit
        wishes = {
            "freq": self.freq,
            "composite": self.composite,
            "orbit": orbit,
            "on_error": self.on_error,
            "resolution": self.resolution,
            "crs": self.crs,
            "max_cloud_cover": self.max_cloud_cover,
        }
        given: dict[str, Any] = {name: wish for name, wish in wishes.items() if wish is not None}
        area = area_of_option(self.aoi)
        return open_cube(area, self.time, catalog=self.catalog, modalities=self.modalities, **given)

    def command(self, out: Path) -> str:
        """The command that makes this cube, for a shell."""
        options = {
            "--catalog": self.catalog,
            "--aoi": self.aoi,
            "--time": self.time,
            "--modalities": ",".join(self.modalities),
            "--resolution": self.resolution,
            "--crs": self.crs,
            "--max-cloud": None if self.max_cloud_cover is None else f"{self.max_cloud_cover:g}",
            "--freq": self.freq,
            "--composite": self.composite,
            "--orbit": self.orbit,
            "--on-error": self.on_error,
            "--out": out,
        }
        return shlex.join(["xglof", "cube", *option_words(options)])


def run_ingest(
    request: CubeRequest,
    out: str | Path,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
    console: Console | None = None,
) -> xr.Dataset:
    """The cube, from its Zarr store; of a dry run, the lazy cube that was printed.

    Parameters
    ----------
    request
        What to gather.
    out
        Zarr store to make.
    overwrite
        Replace the Zarr store at ``out``.
    dry_run
        Print the items, what there is to read and the plan; read no pixel and write nothing.
    console
        Where to print; standard output by default.

    Raises
    ------
    XglofError
        One of its children, in one sentence, for anything wrong with the request; nothing is left behind.
    """
    console, out, begin = console or open_console(), Path(out), time.perf_counter()
    check_request(request.catalog, request.time, request.aoi, out)
    if not (dry_run or overwrite) and out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise OutputError(f"{out} is there already; give another --out or add --overwrite")
    with console.status(f"searching {request.catalog}"):
        cube = request.open()
    if dry_run:
        _print_plan(console, cube, request, out)
        return cube
    print_scenes(console, cube)
    with TaskProgress("reading the cube", console):
        write_zarr(cube, out, overwrite=overwrite)
    stored = read_zarr(out)
    if "time" in stored.dims:
        with TaskProgress("counting what was observed", console):
            table = coverage(stored).drop_vars("clamped", errors="ignore").compute()
        _print_coverage(console, table)
    _print_end(console, stored, out, time.perf_counter() - begin)
    return stored


def area_of_option(aoi: str | None) -> object:
    """The bounds that the text of ``--aoi`` gives, or the text as a path.

    Raises
    ------
    CubeError
        It is neither.
    """
    if aoi is None or os.path.isfile(aoi):  # Path.is_file raises where the text is too long for a name
        return aoi
    try:
        bounds = tuple(float(part) for part in aoi.split(","))
    except ValueError:
        bounds = ()
    if len(bounds) != 4:
        raise CubeError(f"--aoi {aoi!r} is neither west,south,east,north in degrees nor a GeoJSON file")
    return bounds


def searches(catalog: str) -> bool:
    """Whether a catalogue is a STAC API."""
    return catalog in PROVIDERS or catalog.startswith(("http://", "https://"))


def check_request(catalog: str, period: str | None, aoi: str | None, out: Path) -> None:
    """Refuse what would search an archive's whole history, or replace its own input."""
    if searches(catalog) and period is None:
        raise CubeError(f"--time is needed to search {catalog}, such as --time 2023-07/2023-09")
    for given in (catalog, aoi):
        if given and os.path.exists(given) and Path(given).resolve().is_relative_to(out.resolve()):
            raise OutputError(f"--out {out} holds the input {given}; give another folder")


def option_words(options: Mapping[str, object]) -> list[str]:
    """Options and their values as words of a command; those that are ``None`` are left out."""
    return [str(word) for pair in options.items() if pair[1] is not None for word in pair]


def print_scenes(console: Console, cube: xr.Dataset, most: int | None = _MOST_REASONS) -> None:
    """Scenes found, used, rejected and repaired, with at most so many lines of reasons of each kind.

    A reason that many items share is one line.
    """
    attrs = cube.attrs
    told = [f"{attrs['items_used']} used"]
    reasons = {}
    for what in ("rejected", "repaired"):
        reasons[what] = [str(line) for line in attrs.get(f"items_{what}", ())]
        if reasons[what] or what == "rejected":
            told.append(f"{len(reasons[what])} {what}")
    console.print(f"{counted(attrs['items_found'], 'scene')} found in {attrs['catalog']}, {', '.join(told)}")
    for what, each in reasons.items():
        lines = _grouped(each)
        for line in lines[:most]:
            console.print(f"  {what} {line}", soft_wrap=True)
        if most is not None and len(lines) > most:
            console.print(f"  and {len(lines) - most} more {what}")


def _grouped(reasons: list[str]) -> list[str]:
    """Lines ``id: reason``; those of a common reason as one, at the place of the first."""
    groups: dict[str, list[str]] = {}
    for line in reasons:
        name, _, reason = line.partition(": ")
        groups.setdefault(reason, []).append(name)
    lines: list[str] = []
    for reason, names in groups.items():
        if len(names) < _COMMON:
            lines += [f"{name}: {reason}" for name in names]
        else:
            lines.append(f"{len(names)} items: {reason} ({names[0]} to {names[-1]})")
    return lines


def _print_plan(console: Console, cube: xr.Dataset, request: CubeRequest, out: Path) -> None:
    print_scenes(
        console, cube, most=len(cube.attrs["items_rejected"]) + len(cube.attrs.get("items_repaired", ()))
    )
    when = "window" if "composite" in cube.attrs else "date"
    console.print(f"{when:<11} {'sensor':<11} {'cloud':>6}  {'orbit':<15} item")
    for item in listed_items(cube):
        cloud = "" if item.cloud_percent is None else f"{item.cloud_percent:.0f} %"
        # ids stay whole: they are there to be copied
        text = f"{item.date:<11} {item.sensor:<11} {cloud:>6}  {item.orbit:<15} {item.id}"
        console.print(text.rstrip(), soft_wrap=True)
    wanted = ("grid", "bounds", "dates", "sensors")
    facts = dict(card_of(cube).facts)
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, text in [*((name, facts[name]) for name in wanted if name in facts), *plan_facts(cube)]:
        table.add_row(name, text)
    console.print(table)
    console.print(f"Nothing was read or written. Next: {request.command(out)}", soft_wrap=True)


def _print_coverage(console: Console, table: xr.Dataset) -> None:
    """A row a date: the shares that tell whether the date is of use."""
    columns = {
        "observed": ("s2_observed",),
        "cloud": ("sight_cloud",),
        "shadow": ("sight_cloud_shadow", "sight_terrain_shadow"),
        "snow, ice": ("sight_snow", "sight_ice"),
        "no data": ("sight_s2_nodata",),
        "failed": ("failed_read",),
        "Sentinel-1": ("s1_observed",),
    }
    printed = Table(title="Share of the pixels", title_justify="left")
    printed.add_column("date", no_wrap=True)
    shown = {}
    for head, names in columns.items():
        if names[0] in table and (head != "failed" or table["failed_read"].any()):
            printed.add_column(head, justify="right")
            shown[head] = sum((table[name].to_numpy() for name in names), np.zeros(table.sizes["time"]))
    for step, date in enumerate(table["time"].to_numpy()):
        printed.add_row(day(date), *(f"{share[step]:.0%}" for share in shown.values()))
    console.print(printed)
    if "failed" in shown:
        dates = counted(int((shown["failed"] > 0).sum()), "date")
        console.print(
            f"Failed reads on {dates}: those pixels have the flag failed_read; run again to fill them"
        )


def _print_end(console: Console, stored: xr.Dataset, out: Path, seconds: float) -> None:
    on_disk = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    rows, columns = stored.odc.geobox.shape
    dates = f"{counted(stored.sizes['time'], 'date')} of " if "time" in stored.dims else ""
    console.print(
        f"{seconds:.0f} s. Written to {out}: {dates}{rows} x {columns} pixels, {bytes_text(on_disk)} on disk",
        soft_wrap=True,
    )
    lakes = json.dumps(str(out.with_name(f"{out.stem}-lakes.zarr")))
    code = (
        f"import xglof; cube = xglof.read_zarr({json.dumps(str(out))}, chunks=None); "
        f'cube.glof.segment(model="water-index").glof.to_zarr({lakes})'
    )
    console.print(f"Next, map its lakes: python -c {shlex.quote(code)}", soft_wrap=True)
