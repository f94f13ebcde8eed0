"""The notebooks of ``examples/`` run from top to bottom, offline, and hold what their text says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import nbformat
import numpy as np
import odc.geo.xr  # noqa: F401  registers .odc
import pandas as pd
import pystac
import pytest
import xarray as xr
from nbclient import NotebookClient
from odc.geo.geom import Geometry

import xglof
from xglof import simulate
from xglof.cube.flags import Flag

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = [EXAMPLES / "aoi_to_cube.ipynb", EXAMPLES / "ten_years.ipynb"]

#: Runs in the notebook's own kernel before its last cell takes the simulated files away.
KEEP = """
import json, shutil

for kept in ("cube", "monthly", "completed", "flagged"):
    xglof.write_zarr(globals()[kept], f"{kept}.zarr")
np.save("own.npy", own["B03"].values)
shutil.copytree(catalog.parent / "truth", "truth")
kept = {
    "decisions": {name: [str(value) for value in decisions[name]] for name in decisions},
    "message": message,
    "same_grid": completed.odc.geobox == own.odc.geobox,
    "seen": {str(name): [float(value) for value in seen[name]] for name in seen},
    "seen_flagged": {str(name): [float(value) for value in seen_flagged[name]] for name in seen_flagged},
}
Path("kept.json").write_text(json.dumps(kept))
"""
KEEP_TEN_YEARS = """
import json, shutil

series.assign(true_area=true).reset_coords(drop=True).to_netcdf("series.nc")
history.to_csv("history.csv", index=False)
every.to_csv("alerts.csv", index=False)
table.to_csv("trends.csv")
shutil.copy(report, "report.html")
shutil.copy(here / "lakes.gpkg", "lakes.gpkg")
shutil.copytree(collection.parent, "lakes")
kept = {"kinds": kinds.to_dict(), "burst": burst["lake"], "rows": len(lakes)}
kept |= {"split": SPLIT, "outburst": OUTBURST}
Path("kept.json").write_text(json.dumps(kept))
"""


@dataclass(frozen=True)
class Run:
    """The notebook with its outputs, and what was kept of its variables."""

    cells: list[Any]
    folder: Path
    kept: dict[str, Any]

    def opened(self, name: str) -> xr.Dataset:
        return xglof.read_zarr(self.folder / f"{name}.zarr", chunks=None).load()

    def outputs(self, kind: str) -> list[str]:
        """The outputs of a MIME type, or the text of a stream, in order."""
        return [
            output["text"] if output["output_type"] == "stream" else output["data"][kind]
            for cell in self.cells
            for output in cell.get("outputs", ())
            if kind in (output.get("name"), *output.get("data", ()))
        ]


def executed(path: Path, folder: Path, keep: str, timeout_s: int) -> Run:
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(-1, nbformat.v4.new_code_cell(keep))
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, kernel_name="python3", timeout=timeout_s, resources=where).execute()
    return Run(notebook.cells, folder, json.loads((folder / "kept.json").read_text()))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return executed(NOTEBOOKS[0], tmp_path_factory.mktemp("cube"), KEEP, 300)


@pytest.fixture(scope="module")
def decade(tmp_path_factory: pytest.TempPathFactory) -> Run:
    # its network takes 80 s of processor time, and a machine may be busy with other things
    return executed(NOTEBOOKS[1], tmp_path_factory.mktemp("decade"), KEEP_TEN_YEARS, 1500)


def at(cube: xr.Dataset, day: str) -> xr.Dataset:
    """The one step of a day."""
    (index,) = np.flatnonzero(cube["time"].dt.strftime("%Y-%m-%d") == day)
    return cube.isel(time=int(index))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_is_stored_without_outputs(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    assert all(
        not cell.outputs and cell.execution_count is None for cell in cells if cell.cell_type == "code"
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_says_that_the_valley_is_simulated(path: Path) -> None:
    first = nbformat.read(path, as_version=4).cells[0]
    assert "**The valley is simulated.** No satellite saw it" in first.source


@pytest.mark.slow
def test_pictures_and_tables_are_shown(run: Run) -> None:
    assert len(run.outputs("image/png")) == 5
    card, decisions, shares, completed = run.outputs("text/html")
    assert "not read yet" in card
    assert "EPSG:32645, 348 x 349 pixels of 10 m" in card
    assert decisions.count("<tr") == shares.count("<tr") == 10  # two of heads and eight dates
    assert "EPSG:4326, 177 x 199 pixels" in completed
    assert "Warning" not in "".join(run.outputs("stderr"))


@pytest.mark.slow
def test_the_cube_covers_the_area(run: Run) -> None:
    box = run.opened("cube").odc.geobox.geographic_extent.boundingbox
    assert box.left <= 85.477
    assert box.bottom <= 28.247
    assert box.right >= 85.512
    assert box.top >= 28.278


@pytest.mark.slow
def test_the_offset_follows_the_baseline(run: Run) -> None:
    decided = run.kept["decisions"]
    assert decided["s2_baseline"] == ["02.12", "05.00", *["05.09"] * 6]
    assert decided["s2_offset"] == ["0", *["1000"] * 7]
    assert set(decided["s2_offset_source"]) == {"baseline"}
    # one ground under both baselines: bare rock is as bright in 2020 as in the scene that was processed anew
    cube = run.opened("cube")
    both = [at(cube, day) for day in ("2020-10-10", "2021-10-05")]
    clear = (both[0]["flags"] | both[1]["flags"]) & ~np.uint16(Flag.s1_layover | Flag.s1_nodata) == 0
    medians = [float(step["B08"].where(clear).median()) for step in both]
    assert abs(medians[0] - medians[1]) < 200


@pytest.mark.slow
def test_the_date_without_radar_is_empty_in_radar(run: Run) -> None:
    cube = run.opened("cube")
    assert run.kept["decisions"]["s1_gap_days"][2] == "nan"
    assert all(float(gap) <= 7 for gap in np.delete(run.kept["decisions"]["s1_gap_days"], 2))
    assert np.isnan(cube["vv"].values[2]).all()
    assert run.kept["seen"]["s1_observed"][2] == 0
    assert min(np.delete(run.kept["seen"]["s1_observed"], 2)) > 0.98


@pytest.mark.slow
def test_orbits_hide_different_slopes(run: Run) -> None:
    cube = run.opened("cube")
    hidden = {
        orbit: (cube["flags"].values[np.flatnonzero(cube["orbit_state"] == orbit)[-1]] & Flag.s1_layover) > 0
        for orbit in ("ascending", "descending")
    }
    both = hidden["ascending"] & hidden["descending"]
    assert all(0.02 < mask.mean() < 0.3 and both.sum() < 0.3 * mask.sum() for mask in hidden.values())


@pytest.mark.slow
def test_every_pixel_is_counted_once_among_the_sights(run: Run) -> None:
    seen = run.kept["seen"]
    sights = [seen[name] for name in seen if name.startswith("sight_")]
    np.testing.assert_allclose(np.sum(sights, axis=0), 1, rtol=0, atol=1e-12)
    assert seen["terrain_shadow"][2] > 0.1  # December
    assert min(seen["cloud"][3:5]) > 0.2  # both dates of July
    assert seen["s2_nodata"][5] > 0.02  # the swath's edge


@pytest.mark.slow
def test_the_dark_lake_drained_between_the_two_dates(run: Run) -> None:
    _, lakes = simulate.read_truth(run.folder)
    draining = lakes[lakes["kind"] == "draining"]
    draining = draining.set_index(draining["time"].dt.strftime("%Y-%m-%d"))
    full = draining.loc["2023-07-27"]
    assert draining.loc["2023-08-11", "area_m2"] == 0
    inside = Geometry(full["geometry"].buffer(-20), lakes.crs)
    wet = {}
    for day in ("2023-07-27", "2023-08-11"):
        step = at(run.opened("cube"), day)[["B03", "B08"]].odc.crop(inside, apply_mask=True).astype(float)
        step = step.where(step > 0)
        wet[day] = float(((step["B03"] - step["B08"]) / (step["B03"] + step["B08"])).median())
    assert wet["2023-07-27"] > 0.5
    assert wet["2023-08-11"] < 0.1  # wet silt


@pytest.mark.slow
def test_every_pixel_of_a_month_is_that_of_its_date(run: Run) -> None:
    cube, monthly = run.opened("cube"), run.opened("monthly")
    assert list(monthly["time"].dt.strftime("%Y-%m").values) == ["2023-06", "2023-07", "2023-08", "2023-09"]
    days = monthly["s2_day"].values
    told = 0
    for day in np.unique(days[monthly["s2_count"].values > 0]):
        scene = at(cube, str(np.datetime64(int(day), "D")))
        for month in range(4):
            here = days[month] == day
            told += int(here.sum())
            for band in ("B02", "B08", "B11", "SCL"):
                np.testing.assert_array_equal(monthly[band].values[month][here], scene[band].values[here])
    assert told == (monthly["s2_count"].values > 0).sum()


@pytest.mark.slow
def test_what_no_date_saw_stays_unobserved(run: Run) -> None:
    cube, monthly = run.opened("cube"), run.opened("monthly")
    assert all((monthly[band].values[0] == 0).all() for band in ("B02", "B08", "SCL", "s2_count"))
    hides = Flag.s2_nodata | Flag.cloud | Flag.cloud_shadow | Flag.terrain_shadow | Flag.low_sun
    never = ((cube["flags"].values[3:5] & hides) != 0).all(axis=0)  # both dates of July
    assert never.any()
    np.testing.assert_array_equal(monthly["s2_count"].values[1] == 0, never)
    np.testing.assert_array_equal(monthly["B08"].values[1] == 0, never)


@pytest.mark.slow
def test_a_cube_of_ones_own_keeps_its_pixels_and_gains_the_rest(run: Run) -> None:
    cube, completed = run.opened("cube"), run.opened("completed")
    assert run.kept["same_grid"]
    np.testing.assert_array_equal(completed["B03"], np.load(run.folder / "own.npy"))
    assert set(completed.data_vars) == {"B03", "B08", "SCL", "vv", "vh", "dem", "flags"}
    assert bool(completed["dem"].notnull().all())
    assert abs(float(completed["dem"].mean()) - float(cube["dem"].mean())) < 100
    assert np.isfinite(completed["vv"].values).mean(axis=(1, 2))[[0, 1, *range(3, 8)]].min() > 0.98


@pytest.mark.slow
def test_the_damaged_file_is_named_and_flagged(run: Run) -> None:
    assert "20230826" in run.kept["message"]
    assert "B04.tif of simulated-valley-12 could not be read" in run.kept["message"]
    flagged = run.opened("flagged")
    lost = (flagged["flags"].values & Flag.failed_read) != 0
    assert lost[3].all()  # 26 August
    assert not lost[[0, 1, 2, 4]].any()
    assert (flagged["B04"].values[3] == 0).all()
    assert (flagged["B03"].values[3] > 0).all()
    assert run.kept["seen_flagged"]["sight_failed_read"] == [0, 0, 0, 1, 0]


def alerts_of(run: Run) -> pd.DataFrame:
    found = pd.read_csv(
        run.folder / "alerts.csv", parse_dates=["first_changed", "last_intact", "raised", "decided"]
    )
    return found.assign(in_truth=found["lake"].map(run.kept["kinds"]))


@pytest.mark.slow
def test_the_decade_is_shown(decade: Run) -> None:
    assert len(decade.outputs("image/png")) == 5
    assert "Warning" not in "".join(decade.outputs("stderr"))
    assert sorted(decade.kept["kinds"].values()).count("splitting") == 2
    assert {"growing", "draining", "stable"} <= set(decade.kept["kinds"].values())


@pytest.mark.slow
def test_the_outburst_is_alerted_at_the_first_view_after_it(decade: Run) -> None:
    day = pd.Timestamp(decade.kept["outburst"])
    dates = pd.DatetimeIndex(xr.open_dataset(decade.folder / "series.nc")["time"])
    found = alerts_of(decade)
    burst = found[(found["in_truth"] == "draining") & (found["status"] == "confirmed")]
    assert burst["lake"].tolist() == [decade.kept["burst"]]
    (alert,) = burst.itertuples()
    assert alert.kind == "drainage"
    assert alert.last_intact < day <= alert.raised == dates[dates >= day][0]
    assert alert.decided == dates[dates >= day][1]
    assert -0.6 < alert.change_share < -0.4  # 56% of the true area


@pytest.mark.slow
def test_what_stood_was_true(decade: Run) -> None:
    found = alerts_of(decade)
    stood = found[found["status"] == "confirmed"]
    assert sorted(stood["in_truth"]) == ["draining", "splitting"]


@pytest.mark.slow
def test_the_split_is_in_the_lineage_on_its_date(decade: Run) -> None:
    history = pd.read_csv(decade.folder / "history.csv", parse_dates=["time"]).fillna("")
    split = history[history["event"] == "split"]
    assert split["time"].nunique() == 1
    seen = split["time"].iloc[0] - pd.Timestamp(decade.kept["split"])
    assert pd.Timedelta(0) <= seen < pd.Timedelta(days=30)
    mother = split.loc[split["parents"] == "", "lake_id"].tolist()
    assert split.loc[split["parents"] != "", "parents"].tolist() == mother
    assert all(decade.kept["kinds"][lake] == "splitting" for lake in split["lake_id"])


@pytest.mark.slow
def test_the_growth_is_in_the_trend_and_not_in_the_alerts(decade: Run) -> None:
    trends = pd.read_csv(decade.folder / "trends.csv").set_index("in_truth")
    growing = trends.loc["growing"]
    assert 0 < growing["slope_lower"] <= growing["true_slope"] <= growing["slope_upper"]
    assert growing["p_value"] < 0.001
    assert trends.loc["stable", "slope_lower"] <= 0 <= trends.loc["stable", "slope_upper"]
    assert not (
        (stood := alerts_of(decade))["in_truth"].eq("growing") & stood["status"].eq("confirmed")
    ).any()


@pytest.mark.slow
def test_areas_lie_near_the_truth(decade: Run) -> None:
    series = xr.open_dataset(decade.folder / "series.nc").load()
    share = (
        (series["area"] / series["true_area"] - 1)
        .median("time")
        .to_series()
        .groupby(decade.kept["kinds"])
        .median()
    )
    assert share[["stable", "draining", "splitting"]].abs().max() < 0.06
    assert -0.2 < share["growing"] < -0.02  # too small at the ice, as the text says


@pytest.mark.slow
def test_the_files_and_the_report_hold_the_lakes(decade: Run) -> None:
    table = geopandas.read_file(decade.folder / "lakes.gpkg")
    assert len(table) == decade.kept["rows"]
    assert table.crs.to_epsg() == 32645
    assert set(table["lake_id"]) == set(decade.kept["kinds"])
    assert (
        len(list(pystac.Collection.from_file(str(decade.folder / "lakes" / "collection.json")).get_items()))
        >= 60
    )
    page = (decade.folder / "report.html").read_text(encoding="utf-8")
    assert "Ten years of one valley" in page
    assert decade.kept["burst"] in page
    assert "Simulated data: no satellite saw this." in page
    assert "2023-08-05" in page  # the alert's date
    assert 'src="http' not in page
