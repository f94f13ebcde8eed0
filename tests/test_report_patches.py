"""What the report does with patches of noise, with small lakes, and with lakes that are gone."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from lake_maps import lake_map
from report_page import Page
from xglof.cube.flags import Flag
from xglof.lakes import find_lakes, lake_area
from xglof.lakes.alerts import find_alerts
from xglof.lakes.series import flag_series
from xglof.lakes.tracking import track
from xglof.plot.account import told_events
from xglof.plot.findings import find_facts
from xglof.plot.locator import locator
from xglof.plot.run_facts import summary_facts
from xglof.report import write_report

DATES = np.array(
    [f"{year}-{month}-10" for year in range(2018, 2023) for month in ("06", "07", "08", "09")],
    "datetime64[ns]",
)


@pytest.fixture(scope="module")
def run():
    """A lake of 0.03 km2 and a pond of 0.01 that are gone in the last year, one that stays; two patches."""
    lake = np.zeros((20, 60, 80), "uint8")
    rng = np.random.default_rng(3)
    for step in range(20):
        lake[step, 5:25, 5 : 22 + int(rng.integers(0, 2))] = 1
        lake[step, 40:50, 5 : 15 + int(rng.integers(0, 2))] = 1
        lake[step, 30:50, 50 : 65 + int(rng.integers(0, 2))] = 1
    lake[17:, :, :30] = 0
    lake[3, 55:57, 40:43] = 1
    lake[5, 10:13, 60:62] = 1
    seg = lake_map(lake, flags=np.full(lake.shape, Flag.s2_used, "uint16")).assign_coords(time=DATES)
    band = seg["lake"].copy(data=np.where(lake == 1, 400, 1200).astype("uint16"))
    cube = xr.Dataset(dict.fromkeys(("B02", "B03", "B04"), band)).assign(flags=seg["flags"])
    lakes = track(find_lakes(seg))
    return cube, seg, lakes, flag_series(lake_area(seg, lakes).compute())


@pytest.fixture(scope="module")
def found(run):
    return find_facts(run[3], run[2])


def test_patches_are_small_without_alert_and_seen_once(run, found):
    size = run[3]["area_lower"].max("time")
    assert found.patches == {*size["lake"].values[size.values < 5_000].tolist()}
    assert len(found.patches) == 2
    assert len(found.small) == 3
    assert len(found.lakes) == 3
    assert found.patches.isdisjoint(found.shown(20))
    told = dict(summary_facts(found, run[0], run[1]))["Lakes"]
    assert (
        told == "1 lake with water at the last view, 5 ids ever, 2 of them patches seen once or never whole"
    )


def test_a_lake_that_is_gone_is_on_the_map(run, found):
    place = locator(found, run[0], run[1])
    written = [text.get_text() for text in place.figure.axes[0].texts]
    gone = [str(name) for name in run[3]["lake"].values if float(run[3]["area"].sel(lake=name)[-1]) == 0]
    for name in {*gone} - found.patches:
        assert name in written
        assert f"{name} (2022-06-10)" in place.alt
        assert f"{name} (2022-06-10)" in place.caption
    assert "Hatched" not in place.caption
    assert "the outlines of that day, 1 id" in place.caption
    ids = {text for text in written if text.startswith("GL")}
    assert {*place.alt.split("Named: ")[1].rstrip(".").split(", ")} == ids == {*found.lakes}


def test_a_map_without_an_alert_tells_of_no_intact_outline(run):
    quiet = find_facts(run[3], run[2], alerts=find_alerts(run[3])[:0])
    place = locator(quiet, run[0], run[1])
    assert "Dashed" not in place.caption + place.alt
    assert "with alerts" not in place.caption


def test_events_of_patches_are_left_out_and_counted(found):
    shown, left = told_events(found)
    assert {*shown["lake_id"]}.isdisjoint(found.patches)
    assert left == found.events["lake_id"].isin(found.patches).sum() > 0
    assert len(shown) + left == len(found.events)


def test_splits_and_mergers_with_patches_alone_are_no_event(found):
    import dataclasses

    import pandas as pd

    (big, *_), (patch, other) = found.lakes, sorted(found.patches)
    rows = [
        (0, big, "split", ""), (0, patch, "split", big),  # a patch came off
        (1, big, "merge", f"{big} {patch}"),
        (2, found.lakes[1], "merge", f"{big} {found.lakes[1]} {other}"),
        (3, big, "split", ""), (3, found.lakes[1], "split", big), (3, patch, "split", big),
    ]  # fmt: skip
    events = pd.DataFrame(rows, columns=["time", "lake_id", "event", "parents"])
    events["time"] = DATES[events["time"]]
    shown, left = told_events(dataclasses.replace(found, events=events))
    assert shown.index.tolist() == [3, 4, 5]
    assert left == 4
    assert shown["parents"].iloc[0] == f"{big} {found.lakes[1]}"


def test_the_page_folds_patches_and_sets_small_lakes_apart(run, found, tmp_path):
    cube, seg, lakes, series = run
    named = lakes.assign(name=np.where(lakes["lake_id"] == found.lakes[0], "Imja <Tsho>", ""))
    path = write_report(tmp_path / "r.html", cube=cube, seg=seg, lakes=named, series=series)
    page, html = Page.read(path), path.read_text()
    assert f"Imja <Tsho> ({found.lakes[0]})" in page.text
    assert "2 patches seen once or never whole" in page.text
    assert len(page.all("details")) == 1
    assert "open" not in page.all("details")[0]
    folded = html[html.index("<details>") : html.index("</details>")]
    assert all(name in folded for name in found.patches)
    assert not any(name in folded for name in found.lakes)
    alerts = html[html.index('<section id="alerts"') : html.index('<section id="summary"')]
    large, small = alerts.split("Lakes that were always small")
    pond = next(name for name in found.lakes if name in found.small)
    assert pond in small
    assert pond not in large
    assert "events of patches left out" in page.text
