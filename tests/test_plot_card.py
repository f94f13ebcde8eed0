"""One page on one lake."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.text import Text

from lake_maps import lake_map
from xglof.cube.flags import Flag
from xglof.errors import CubeError
from xglof.lakes import find_lakes, lake_area
from xglof.lakes.series import flag_series
from xglof.lakes.tracking import track
from xglof.plot import report_card
from xglof.plot.alert_words import alert_sentence, alert_table
from xglof.plot.close_up import INTACT_COLOUR, OTHER_COLOUR, close_up, close_up_caption, lake_dates
from xglof.plot.findings import find_facts, no_alerts
from xglof.plot.inventory import inventory_words
from xglof.plot.maps import MODEL_COLOUR
from xglof.plot.words import area_words, change_words, interval_words, is_date, range_words


@pytest.fixture(scope="module")
def run():
    """Three dates in each of five summers: a lake that halves at last; once only its west is seen."""
    dates = [f"{year}-{month}-15" for year in range(2018, 2023) for month in ("07", "08", "09")]
    rng = np.random.default_rng(0)
    lake = np.zeros((15, 60, 80), "uint8")
    for step in range(15):
        lake[step, 20:36, 20 : 44 + int(rng.integers(0, 2))] = 1
    lake[12:, 20:36, 30:] = 0
    flags = np.full(lake.shape, Flag.s2_used, "uint16")
    flags[14, :, 24:] |= np.uint16(Flag.cloud)
    lake[14, :, 24:] = 255
    seg = lake_map(lake, flags=flags).assign_coords(time=np.array(dates, "datetime64[ns]"))
    seg.attrs |= {"model": "net", "model_sha256": "cd" * 32, "caveat": "knows no ice"}
    band = seg["lake"].copy(data=np.where(lake == 1, 400, 1200).astype("uint16"))
    cube = xr.Dataset(dict.fromkeys(("B02", "B03", "B04"), band)).assign(flags=seg["flags"])
    lakes = track(find_lakes(seg))
    return cube, seg, lakes, flag_series(lake_area(seg, lakes).compute())


def words(figure):
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_a_card_holds_what_is_known_of_a_lake(run):
    cube, seg, lakes, series = run
    name = str(series["lake"].values[0])
    figure = report_card(cube, seg, lakes, series, name)
    np.testing.assert_allclose(figure.get_size_inches(), [8.27, 11.69])
    text = words(figure)
    for part in (name, "Model net", "cd" * 32, "Caveat: knows no ice", "first seen", "million m³"):
        assert part in text
    assert "Simulated" not in text
    assert "drainage, confirmed" in text
    assert "2021-09-15, before the drainage" in text
    assert "2022-07-15, after the drainage" in text
    assert "2022-09-15, 16% observed" in text
    latest = float(series["area"].isel(lake=0).dropna("time")[-1])
    assert f"{latest / 1e6:.4f} km², 2022-08-15" in text
    assert " km² (95 %)" in text


def test_without_an_alert_the_first_and_the_latest_valid_views_are_shown(run):
    cube, seg, lakes, series = run
    cube.attrs["catalog"] = "simulated-valley-1"
    name = str(series["lake"].values[0])
    text = words(report_card(cube, seg, lakes, series, name, alerts=no_alerts()))
    assert "2018-07-15, first valid view" in text
    assert "2022-08-15, latest valid view" in text
    assert "No alert at a budget of 1 false alarm in 100" in text
    assert "Simulated data: no satellite saw this." in text


def test_no_letter_leaves_the_page(run):
    cube, seg, lakes, series = run
    figure = report_card(cube, seg, lakes, series, str(series["lake"].values[0]))
    figure.draw_without_rendering()
    page = figure.bbox
    for text in figure.findobj(Text):
        if text.get_text().strip() and text.get_visible():
            box = text.get_window_extent()
            assert box.x0 >= page.x0, text
            assert box.x1 <= page.x1, text
            assert box.y0 >= page.y0, text
            assert box.y1 <= page.y1, text


def test_a_lake_that_is_not_there_is_refused(run):
    cube, seg, lakes, series = run
    with pytest.raises(CubeError, match="no polygon has the lake_id 'x'"):
        report_card(cube, seg, lakes, series, "x")


def test_the_latest_value_passes_over_outliers_and_winter_radar(run):
    _, _, lakes, series = run
    found = find_facts(series, lakes, alerts=no_alerts())
    name = found.names[0]
    last = found.latest(name)
    assert str(last.date)[:10] == "2022-08-15"
    assert str(last.view)[:10] == "2022-09-15"
    assert last.least < last.area < last.most
    quality = series["quality"].copy(deep=True)
    quality[0, 13] = 16
    quality[0, 12] = 2
    again = find_facts(series.assign(quality=quality), lakes, alerts=no_alerts()).latest(name)
    assert str(again.date)[:10] == "2021-09-15"


def row(**changes):
    values = {
        "lake": "GL1", "kind": "drainage", "status": "confirmed", "first_changed": pd.Timestamp("2022-07-10"),
        "last_intact": pd.Timestamp("2021-09-10"), "decided": pd.Timestamp("2022-08-10"),
        "area_before_m2": 50_000.0, "area_after_m2": 20_000.0, "area_lower_m2": 20_000.0,
        "area_upper_m2": 21_000.0, "observed_fraction": 0.98, "change_m2": -30_000.0, "change_share": -0.6,
        "change_sigmas": -12.34, "threshold_m2": 8_000.0, "sigma_source": "repeat",
        "days_without_view": 303.0, "s1_last_intact": pd.NaT, "s1_first_changed": pd.NaT,
        "s2_last_intact": pd.Timestamp("2021-09-10"), "s2_first_changed": pd.Timestamp("2022-07-10"),
        "kin": "",
    }  # fmt: skip
    return pd.Series(values | changes)


def test_an_alert_is_told_with_its_evidence():
    assert alert_sentence(row()) == (
        "Drainage, confirmed: first changed 2022-07-10, last intact 2021-09-10, 303 days without a valid "
        "view. 0.0500 km² before, 0.0200 km² then (bounds 0.0200 to 0.0210 km², 98% observed). Change "
        "-0.0300 km² (-60%), 12.3 sigma by its repeat scatter, threshold 8,000 m². Sentinel-2: intact "
        "2021-09-10, changed 2022-07-10. Sentinel-1: no view."
    )
    assert alert_sentence(row(views_since=3)).endswith("3 valid views since.")
    none = row(area_before_m2=300.0, sigma_m2=400.0, change_m2=4_900.0, change_share=16.34)
    assert "Change +4,900 m²," in alert_sentence(none)  # no share of what can't be told from 0
    partial = alert_sentence(row(area_after_m2=np.nan, sigma_source="outline", kin="GL1 GL2"))
    assert "no value then" in partial
    assert "by the outline error" in partial
    assert partial.endswith("Sum over GL1, GL2.")


def test_a_row_of_the_table_has_a_cell_for_each_head():
    waiting = row(status="provisional", decided=pd.NaT, days_without_view=np.nan)
    heads, rows = alert_table(pd.DataFrame([row(), waiting]))
    assert [len(cells) for cells in rows] == [len(heads)] * 2
    assert rows[0] == [
        "GL1", "drainage", "confirmed", "2021-09-10 and 2022-07-10", "0.0500 km²",
        "0.0200 km² (0.0200 to 0.0210 km²)", "-0.0300 km² (-60%)", "12.3",
    ]  # fmt: skip


def test_the_greatest_change_stands_first():
    alerts = pd.DataFrame([row(lake="a", change_m2=-500.0), row(lake="b", change_m2=9e4), row(lake="c")])
    assert [cells[0] for cells in alert_table(alerts)[1]] == ["b", "c", "a"]


def test_numbers_are_told_in_a_fitting_unit_and_never_below_none():
    assert (area_words(9_999.0), area_words(10_000.0), area_words(np.nan)) == ("9,999 m²", "0.0100 km²", "-")
    assert range_words(-500.0, 20_000.0) == "0 to 0.0200 km²"
    assert interval_words(300.0, -5.0, 605.0, 100.0) == "0 to 605 m² (95 %)"
    assert interval_words(300.0, np.nan, np.nan, 400.0) == "0 to 700 m² (1 sigma, outline error)"
    assert interval_words(0.0, np.nan, np.nan, 0.0) == "-"
    assert (change_words(-60.0, -0.5), change_words(2e4)) == ("-60 m² (-50%)", "+0.0200 km²")


def test_what_an_inventory_says_is_told(run):
    cube, seg, lakes, series = run
    name = str(series["lake"].values[0])
    assert inventory_words(lakes, name) == ""
    known = lakes.assign(
        name="Imja Tsho", certainty="high", verified=True, verified_by="A. Reader", contact="unknown",
        glacier_distance_m=120.4,
    )  # fmt: skip
    known.loc[known["time"] == known["time"].min(), "contact"] = "ice contact"
    told = "Certainty: high. Verified by A. Reader. Ice contact (2018-07-15). 120 m from a glacier outline."
    assert inventory_words(known, name) == told
    text = words(report_card(cube, seg, known, series, name))
    assert f"Imja Tsho ({name})" in text
    assert told in text.replace("\n", " ")
    bare = known.assign(
        certainty="", verified=False, verified_by=None, contact="unknown", glacier_distance_m=np.nan
    )
    assert inventory_words(bare, name) == "Not verified."


def test_a_close_up_tells_own_other_and_last_intact_outlines_apart(run):
    cube, seg, lakes, series = run
    found = find_facts(series, lakes)
    name = found.names[0]
    alert = found.latest_alert(name)
    dates = [date for _, date in lake_dates(cube, found, name)]
    (_, before), (figure, after) = (close_up(cube, seg, found, name, date, "map") for date in dates)
    assert (before.own, before.others, is_date(before.intact)) == (True, 0, False)
    assert after.intact == alert["last_intact"]
    lines = {to_hex(c.get_color()[0]): c for c in figure.axes[0].collections if isinstance(c, LineCollection)}
    own, intact, others = (lines[colour] for colour in (MODEL_COLOUR, INTACT_COLOUR, OTHER_COLOUR))
    assert own.get_linewidth()[0] > 2 * others.get_linewidth()[0]
    assert np.ptp(intact.get_segments()[0][:, 0]) > 2 * np.ptp(own.get_segments()[0][:, 0])
    assert f"last intact outline of {str(alert['last_intact'])[:10]} dashed" in after.words
    assert "Dashed blue" not in close_up_caption([before])
    assert "Dashed blue" in close_up_caption([before, after])
    other = close_up(cube, seg, find_facts(series, lakes.assign(lake_id="x")), name, dates[0], "map")[1]
    assert (other.own, other.others) == (False, 1)
