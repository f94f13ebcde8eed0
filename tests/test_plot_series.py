"""Series with flags, errors of two kinds, gaps and alerts, as they are drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from lake_series import area_series as synthetic
from xglof.lakes.series import SeriesFlag, flag_series
from xglof.plot import area_series
from xglof.plot.observations import observations_of
from xglof.plot.series import days_of, series_key

AREA = np.array([[2e4, 2.02e4, 2.01e4, 2.03e4, 2e4, 1e4, 2.02e4, 2.01e4, 2e4, 2.01e4, 2.02e4, 2e4]])


def dates(*texts):
    return np.array(texts, "datetime64[ns]")


@pytest.fixture
def flagged():
    """One lake of 12 dates over three years, one of each kind of flag."""
    ts = flag_series(synthetic(AREA)).load()
    quality = np.zeros((1, 12), "uint16")
    for step, flag in ((2, "frozen"), (5, "outlier"), (8, "provisional"), (9, "suspect")):
        quality[0, step] = SeriesFlag[flag]
    return ts.assign(quality=(("lake", "time"), quality))


def drawn(ax, marker):
    """Points drawn with a marker."""
    lines = [line for line in ax.lines if line.get_marker() == marker]
    return np.concatenate([line.get_xydata() for line in lines] or [np.empty((0, 2))])


def runs(ax):
    """Steps that the lines without markers join."""
    return [
        line.get_xydata() for line in ax.lines if line.get_marker() == "None" and line.get_linestyle() == "-"
    ]


def test_outliers_are_crosses_at_their_raw_value_and_no_line_goes_there(flagged):
    ax = area_series(flagged)
    days = days_of(flagged["time"])
    np.testing.assert_allclose(drawn(ax, "X"), [[days[5], 0.01]])
    joined = np.concatenate(runs(ax))
    assert days[5] not in joined[:, 0]
    assert days[8] not in joined[:, 0]
    assert {days[4], days[6]} <= set(joined[:, 0])


def test_provisional_values_are_hollow_diamonds_and_frozen_ones_squares(flagged):
    ax = area_series(flagged)
    days = days_of(flagged["time"])
    np.testing.assert_allclose(drawn(ax, "D"), [[days[8], 0.02]])
    np.testing.assert_allclose(drawn(ax, "s"), [[days[2], 0.0201]])
    diamond = next(line for line in ax.lines if line.get_marker() == "D")
    square = next(line for line in ax.lines if line.get_marker() == "s")
    assert diamond.get_markerfacecolor() == "white"
    assert square.get_markerfacecolor() != "white"


def test_every_value_is_of_one_kind_and_held_dates_are_not_drawn(flagged):
    quality = flagged["quality"].values.copy()
    quality[0, 5] |= SeriesFlag.frozen  # an outlier stays one
    quality[0, 11] = SeriesFlag.held
    area = flagged["area"].values.copy()
    area[0, 11] = np.nan
    held = flagged.assign(quality=(("lake", "time"), quality), area=(("lake", "time"), area))
    for name in ("area_lower", "area_upper", "area_sigma"):
        values = held[name].values.copy()
        values[0, 11] = np.nan
        held[name] = (("lake", "time"), values)
    one = observations_of(held.isel(lake=0), days_of(held["time"]), 1.0)
    kinds = np.stack(
        [one.plain, one.suspect, one.frozen, one.outlier, one.provisional, one.bound, one.icy_bound]
    )
    assert kinds.sum(axis=0).tolist() == [1] * 11 + [0]
    assert one.outlier[5]


def test_the_lakes_own_scatter_is_drawn_with_caps_and_the_outlines_without(flagged):
    sigma = np.full((1, 12), 300.0)
    sigma[0, 6:] = np.nan
    ts = flagged.assign(sigma_repeat=(("lake", "time"), sigma))
    ax = area_series(ts)
    bars = [container.lines for container in ax.containers]
    assert [bool(caps) for _, caps, _ in bars] == [True, False]
    spans = [segment[:, 1] * 1e6 for segment in bars[0][2][0].get_segments()]
    np.testing.assert_allclose([high - low for low, high in spans], 600)
    thin = [segment[:, 1] * 1e6 for segment in bars[1][2][0].get_segments()]
    np.testing.assert_allclose([high - low for low, high in thin], 2 * ts["area_sigma"].values[0, 6:])
    labels = [handle.get_label() for handle in series_key(ts)]
    assert {"1 sigma, repeat scatter", "1 sigma, outline error (thin)"} <= set(labels)


def test_the_key_names_only_what_is_drawn(flagged):
    labels = [handle.get_label() for handle in series_key(flagged.assign(quality=flagged["quality"] * 0))]
    assert not {"outlier, value kept", "provisional, radar alone", "alert"} & set(labels)
    assert "area" in labels
    texts = [text.get_text() for text in area_series(flagged).figure.legends[0].get_texts()]
    assert "outlier, value kept" in texts


@pytest.mark.parametrize(("longest", "breaks"), [(180, 1), (400, 0), (20, 3)])
def test_no_line_crosses_a_long_gap(longest, breaks):
    times = dates("2020-07-01", "2020-08-01", "2021-07-01", "2021-08-01")
    ts = synthetic(AREA[:, :4], times=times)
    ax = area_series(ts, longest_gap_days=longest)
    shaded = [patch for patch in ax.patches if to_hex(patch.get_facecolor()) == to_hex("0.945")]
    assert len(shaded) == breaks
    if breaks == 1:
        gap = days_of(times)[1:3]
        np.testing.assert_allclose(shaded[0].get_x(), gap[0])
        assert not any(run[0, 0] <= gap[0] and run[-1, 0] >= gap[1] for run in runs(ax))
        assert len(runs(ax)) == 2


def test_alerts_point_at_the_first_changed_value(flagged):
    alerts = pd.DataFrame(
        {
            "lake": [str(flagged["lake"].values[0]), "elsewhere"],
            "kind": ["drainage", "expansion"],
            "status": ["confirmed", "provisional"],
            "first_changed": flagged["time"].values[[5, 6]],
        }
    )
    ax = area_series(flagged, alerts=alerts)
    words = [text for text in ax.texts if "confirmed" in text.get_text()]
    assert [text.get_text() for text in words] == ["drainage, confirmed"]
    np.testing.assert_allclose(words[0].xy, (days_of(flagged["time"])[5], 0.01))
    assert not any("expansion" in text.get_text() for text in ax.texts)
    assert words[0].xyann[1] > 0.9
    assert ax.get_ylim()[1] > 1.2 * 0.0203
    assert "alert" in [handle.get_label() for handle in series_key(flagged, alerts=alerts)]
    assert not any("confirmed" in text.get_text() for text in area_series(flagged, alerts=alerts[:0]).texts)


def test_alerts_that_stand_close_are_written_one_below_the_other(flagged):
    times = flagged["time"].values
    name = str(flagged["lake"].values[0])
    alerts = pd.DataFrame(
        {"lake": name, "kind": "drainage", "status": "confirmed", "first_changed": times[[4, 5, 6]]}
    )
    heights = [
        text.xyann[1] for text in area_series(flagged, alerts=alerts).texts if "drainage" in text.get_text()
    ]
    assert len(set(np.round(heights, 3))) == 3
