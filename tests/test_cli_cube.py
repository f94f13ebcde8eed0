from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from odc.geo.geobox import Affine, GeoBox
from odc.geo.xr import xr_coords
from rich.console import Console

from commands import Command
from xglof import open_cube
from xglof.cube.flags import Flag
from xglof.errors import CubeError
from xglof.ingest import print_scenes
from xglof.outputs import read_zarr
from xglof.reading_plan import ListedItem, listed_items, plan_facts, source_bytes


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def without_pixels(simulated: Path, tmp_path: Path) -> Path:
    """The simulated catalogue with every raster removed."""
    folder = Path(shutil.copytree(simulated, tmp_path / "catalog"))
    for path in [path for path in folder.rglob("*") if path.suffix in (".tif", ".tiff")]:
        path.unlink()
    return folder


def test_a_dry_run_reads_no_pixel_and_tells_the_plan(
    xglof: Command, without_pixels: Path, tmp_path: Path
) -> None:
    before = names(tmp_path)
    out = tmp_path / "cube.zarr"
    ran = xglof("cube", "--catalog", without_pixels, "--out", out, "--dry-run", "--max-cloud", 60)
    assert (ran.code, ran.err) == (0, "")
    assert names(tmp_path) == before
    cube = open_cube(catalog=without_pixels, max_cloud_cover=60)
    used = [item.id for item in listed_items(cube)]
    rows = [line.split() for line in ran.out.splitlines() if line[:2] == "20"]
    assert [row[-1] for row in rows] == [name for name in used if name.startswith("S")]
    assert {row[1] for row in rows} == {"Sentinel-1", "Sentinel-2"}
    assert [line.split() for line in ran.out.splitlines() if line.split()[:1] == ["DEM"]] == [
        ["DEM", *cube.attrs["dem_items"]]
    ]
    for reason in cube.attrs["items_rejected"]:
        assert f"rejected {reason}" in ran.out.replace("\n", "")
    shown = " ".join(ran.out.split())
    facts = dict(plan_facts(cube))
    assert {"to read", "blocks", "tasks", "on disk"} <= set(facts)
    assert all(fact in shown for name, fact in facts.items() if name != "tasks")
    assert "EPSG:32645" in shown
    command = shlex.split(ran.out.splitlines()[-1].partition("Next: ")[2])
    assert command[:2] == ["xglof", "cube"]
    assert "--dry-run" not in command
    assert command[command.index("--out") + 1] == str(out)


def test_the_command_that_a_dry_run_ends_with_makes_the_cube(
    xglof: Command, simulated: Path, tmp_path: Path
) -> None:
    request = ["--catalog", simulated, "--time", "2021", "--modalities", "S2L2A,DEM", "--resolution", 40]
    dry = xglof("cube", *request, "--out", tmp_path / "my cube.zarr", "--dry-run")
    command = shlex.split(dry.out.splitlines()[-1].partition("Next: ")[2])
    ran = xglof(*command[1:])
    assert (ran.code, ran.err) == (0, "")
    stored = read_zarr(tmp_path / "my cube.zarr").load()
    cube = open_cube(
        catalog=simulated, time="2021", modalities=("S2L2A", "DEM"), resolution=40, max_cloud_cover=60
    )
    xr.testing.assert_equal(stored, cube.compute())
    assert stored.attrs["items_used"] == cube.attrs["items_used"]
    assert names(tmp_path) >= {"my cube.zarr"}
    assert not [name for name in names(tmp_path) if name.startswith(".")]
    table = stored.glof.coverage().compute()
    for step, date in enumerate(stored["time"].dt.strftime("%Y-%m-%d").values):
        row = next(line for line in ran.out.splitlines() if f"│ {date}" in line).replace(" ", "").split("│")
        assert row[2] == f"{table['s2_observed'].values[step]:.0%}"
        assert row[3] == f"{table['cloud'].values[step]:.0%}"
    assert f"Written to {tmp_path / 'my cube.zarr'}: {stored.sizes['time']} dates of" in ran.out
    assert "Next, map its lakes: python -c" in ran.out
    printed = ran.out[ran.out.index("Share of") : ran.out.index(" s. Written")].splitlines()
    assert max(map(len, printed)) <= 80


def test_the_next_step_of_a_cube_maps_its_lakes(
    xglof: Command, simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = xglof("cube", "--catalog", simulated, "--time", "2022", "--modalities", "S2L2A")
    words = shlex.split(ran.out.splitlines()[-1].partition(": ")[2])
    assert words[:2] == ["python", "-c"]
    exec(compile(words[2], "next", "exec"), {})  # noqa: S102  our own words, run as a user would
    assert set(read_zarr("cube-lakes.zarr").data_vars) >= {"lake", "lake_probability", "flags"}


def test_only_what_was_given_is_passed_on(xglof: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    passed: dict[str, Any] = {}

    def record(aoi: object, time: object, **given: Any) -> None:
        passed.clear()
        passed.update(given, aoi=aoi, time=time)
        raise CubeError("recorded")

    monkeypatch.setattr("xglof.ingest.open_cube", record)
    assert xglof("cube", "--catalog", "x", "--aoi", "1,2,3,4").err == "xglof: recorded\n"
    assert passed == {
        "aoi": (1.0, 2.0, 3.0, 4.0), "time": None, "catalog": "x", "max_cloud_cover": 60,
        "modalities": ("S2L2A", "S1RTC", "DEM"),
    }  # fmt: skip
    options = ["--freq", "season", "--composite", "best", "--on-error", "flag", "--crs", "EPSG:32645"]
    xglof("cube", "--catalog", "x", *options, "--orbit", "85", "--resolution", 20)
    assert passed["orbit"] == 85
    assert [passed[name] for name in ("freq", "composite", "on_error", "crs", "resolution")] == [
        "season", "best", "flag", "EPSG:32645", 20,
    ]  # fmt: skip
    xglof("cube", "--catalog", "x", "--orbit", "ascending")
    assert passed["orbit"] == "ascending"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--aoi", "10,10,10.1,10.1"], "outside the area of interest"),
        (["--aoi", "86.48,28.28"], "neither west,south,east,north in degrees nor a GeoJSON file"),
        (["--time", "2022-09/2022-07"], "is reversed"),
        (["--catalog", "nowhere"], "nowhere"),
        (["--catalog", "earth-search"], "--time is needed to search earth-search"),
        (["--catalog", "https://stac.invalid/v1"], "--time is needed to search https://stac.invalid/v1"),
        (["--modalities", "S3"], "modality 'S3' is unknown"),
        (["--composite", "best"], "--composite best needs --freq"),
        (["--max-cloud", "400"], "percent, 0 to 100"),
    ],
)
@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_bad_input_is_one_sentence_and_leaves_nothing(
    xglof: Command, simulated: Path, tmp_path: Path, arguments: list[str], message: str, dry: list[str]
) -> None:
    base = ["cube", "--catalog", simulated, "--modalities", "S2L2A", "--out", tmp_path / "new" / "cube.zarr"]
    ran = xglof(*base, *arguments, *dry)
    assert ran.code == 2
    assert ran.err.startswith("xglof: ")
    assert ran.err.count("\n") == 1
    assert message in ran.err
    assert names(tmp_path) == set()


def test_what_is_there_is_kept(xglof: Command, simulated: Path, tmp_path: Path) -> None:
    out = tmp_path / "cube.zarr"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    base = ["cube", "--catalog", simulated, "--modalities", "DEM", "--out"]
    assert "give another --out or add --overwrite" in xglof(*base, out).err
    assert "no Zarr store and is not overwritten" in " ".join(xglof(*base, out, "--overwrite").err.split())
    assert names(tmp_path) == {"cube.zarr", "cube.zarr/thesis.txt"}
    assert (
        "holds the input"
        in xglof("cube", "--catalog", simulated, "--out", simulated.parent, "--overwrite").err
    )
    (out / "thesis.txt").unlink()
    assert xglof(*base, out).code == 0
    assert xglof(*base, out, "--overwrite", "--crs", "EPSG:4326", "--resolution", 0.0001).code == 0
    assert read_zarr(out)["dem"].odc.geobox.crs.geographic


def test_a_file_that_cannot_be_read_leaves_nothing(
    xglof: Command, without_pixels: Path, tmp_path: Path
) -> None:
    before = names(tmp_path)
    ran = xglof("cube", "--catalog", without_pixels, "--modalities", "S2L2A", "--out", tmp_path / "c.zarr")
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert names(tmp_path) == before


def test_failed_reads_are_told_at_the_end(
    xglof: Command, simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **given: Any) -> xr.Dataset:
        cube = open_cube(*arguments, **given)
        failed = xr.where(cube["time"] == cube["time"][0], int(Flag.failed_read), 0).astype("uint16")
        return cube.assign(flags=(cube["flags"] | failed).transpose(*cube["flags"].dims))

    monkeypatch.setattr("xglof.ingest.open_cube", broken)
    base = ["cube", "--catalog", simulated, "--time", "2021", "--modalities", "S2L2A"]
    ran = xglof(*base, "--out", tmp_path / "cube.zarr")
    assert "Failed reads on 1 date" in ran.out
    first = next(line for line in ran.out.splitlines() if line.startswith("│ 2021"))
    assert first.replace(" ", "").split("│")[2] == "0%"
    assert "100%" in first


GRID = GeoBox((100, 200), Affine(10, 0, 450_000, 0, -10, 3_130_000), "EPSG:32645")


def planned(flag_attrs: dict[str, str] | None = None, **attrs: Any) -> xr.Dataset:
    """Three steps, two of which look at the same radar scene; the sizes of the bands are what counts."""
    blank = np.zeros((3, *GRID.shape), "uint8")
    bands = {"B02": "uint16", "B11": "uint16", "SCL": "uint8", "vv": "float32", "flags": "uint16"}
    data = {name: (("time", "y", "x"), blank.astype(dtype)) for name, dtype in bands.items()}
    coords = {
        "time": np.array(["2023-07-01", "2023-07-11", "2023-08-01"], "M8[ns]"),
        "s2_items": ("time", ["A,B", "C", "D"]),
        "s1_items": ("time", ["R", "R", ""]),
        "orbit_state": ("time", ["ascending", "ascending", ""]),
        "relative_orbit": ("time", ["85", "85", ""]),
        "s1_time": ("time", np.array(["2023-07-05", "2023-07-05", "NaT"], "M8[ns]")),
        "cloud_cover": ("time", [12.5, np.nan, 3.0]),
    }
    cube = xr.Dataset(data, coords={**xr_coords(GRID), **coords}, attrs=attrs)
    cube["dem"] = ("y", "x"), np.zeros(GRID.shape, "float32")
    cube["flags"].attrs |= flag_attrs or {}
    return cube


def test_items_are_listed_once_in_order_of_time() -> None:
    assert listed_items(planned(dem_items=["T"])) == [
        ListedItem("A", "Sentinel-2", "2023-07-01", 12.5),
        ListedItem("B", "Sentinel-2", "2023-07-01", 12.5),
        ListedItem("R", "Sentinel-1", "2023-07-05", None, "ascending 85"),
        ListedItem("C", "Sentinel-2", "2023-07-11", None),
        ListedItem("D", "Sentinel-2", "2023-08-01", 3.0),
        ListedItem("T", "DEM", ""),
    ]


def test_of_a_composite_no_orbit_is_guessed() -> None:
    cube = planned(composite="median").drop_vars(["s1_time", "cloud_cover"])
    cube = cube.assign_coords(orbit_state=("time", ["ascending,descending", "ascending", ""]))
    found = {item.id: item for item in listed_items(cube)}
    assert found["R"] == ListedItem("R", "Sentinel-1", "2023-07-01", None, "")


def test_bytes_to_read_are_those_of_the_native_pixels() -> None:
    area = 1000 * 2000  # m2; the projection is true to 0.1 %
    once = 2 * area / 100 + 2 * area / 400 + area / 400  # B02, B11, SCL
    radar, dem = 4 * area / 100, 4 * area / 900
    assert source_bytes(planned()) == pytest.approx(3 * once + radar + dem, rel=2e-3)
    wide = 4 * (1000 + 2 * 5000) * (2000 + 2 * 5000) / 900
    shadowed = planned({"terrain_shadow": "cast shadow of terrain within 5000 m"})
    assert source_bytes(shadowed) == pytest.approx(3 * once + radar + wide, rel=2e-3)
    composite = planned(composite="median")  # every item may be read whole
    assert source_bytes(composite) == pytest.approx(4 * once + radar + dem, rel=2e-3)
    assert dict(plan_facts(composite))["to read"].startswith("at most about")


def test_sizes_of_files_are_told_where_items_state_them() -> None:
    assert "files" not in dict(plan_facts(planned()))
    facts = dict(plan_facts(planned(files_used=20, files_sized=12, files_bytes=3_400_000_000)))
    assert facts["files"] == "20 files; 12 state a size, 3.4 GB together, read in part"


def test_reasons_that_many_items_share_are_one_line(xglof: Command, simulated: Path, tmp_path: Path) -> None:
    request = ["--catalog", simulated, "--time", "2021-07", "--modalities", "S2L2A"]
    ran = xglof("cube", *request, "--out", tmp_path / "cube.zarr", "--dry-run")
    lines = [line for line in ran.out.splitlines() if line.startswith("  rejected")]
    assert len(lines) == 3  # each named, as long as they are few
    attrs: dict[str, Any] = {"items_found": 9, "items_used": 1, "catalog": "tiny"}
    reasons = [f"item-{number}: outside the time" for number in range(5)] + ["x: cloud cover 9 % above 8 %"]
    console = Console(record=True, width=80, markup=False)
    print_scenes(
        console, xr.Dataset(attrs=attrs | {"items_rejected": reasons, "items_repaired": ["y: a: b"]})
    )
    assert console.export_text().splitlines() == [
        "9 scenes found in tiny, 1 used, 6 rejected, 1 repaired",
        "  rejected 5 items: outside the time (item-0 to item-4)",
        "  rejected x: cloud cover 9 % above 8 %",
        "  repaired y: a: b",
    ]


def test_help_names_the_verb_and_its_options(xglof: Command) -> None:
    assert " cube " in xglof("--help").out
    text = xglof("cube", "--help").out
    assert all(
        f"--{name}" in text for name in ("freq", "composite", "orbit", "on-error", "dry-run", "overwrite")
    )
