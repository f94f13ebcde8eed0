from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lake_maps import empty, lake_map
from xglof.cube.flags import Flag
from xglof.errors import CubeError
from xglof.evaluate import lake_matches, lake_scores, score_lakes


def valley():
    """True lakes of 4, 1 and 0.25 ha; the map has the first too small, not the second, and a false one."""
    true, mapped = empty(), empty()
    true[5:25, 5:25], true[5:15, 35:45], true[40:45, 5:10] = 1, 1, 1
    mapped[5:25, 5:23], mapped[40:45, 5:10], mapped[40:50, 50:60] = 1, 1, 1
    return mapped, true


def test_lakes_are_counted_by_their_own_size():
    mapped, true = valley()
    table = score_lakes(lake_map(mapped), lake_map(true))
    assert table.index.tolist() == [
        "below 1 ha",
        "1 to 2 ha",
        "2 to 10 ha",
        "10 to 100 ha",
        "from 100 ha",
        "all",
    ]
    counts = table[["true_lakes", "found", "missed", "mapped_lakes", "right", "false"]]
    assert counts.loc["below 1 ha"].tolist() == [1, 1, 0, 1, 1, 0]
    assert counts.loc["1 to 2 ha"].tolist() == [1, 0, 1, 1, 0, 1]
    assert counts.loc["2 to 10 ha"].tolist() == [1, 1, 0, 1, 1, 0]
    assert counts.loc["all"].tolist() == [3, 2, 1, 3, 2, 1]
    assert table.loc["all", ["recall", "precision", "f1"]].tolist() == pytest.approx([2 / 3] * 3)
    assert table.loc["2 to 10 ha", "area_bias"] == pytest.approx(-0.1)
    assert np.isnan(table.loc["from 100 ha", ["recall", "precision", "f1", "area_bias"]].astype(float)).all()


def test_sigma_of_the_outline_tells_which_areas_agree():
    mapped, true = valley()
    table = score_lakes(lake_map(mapped), lake_map(true))
    # 76 edges of 10 m: sigma 76 x 0.6872 x 100 / 2 = 2611 m2, and 4000 m2 are missing
    assert table.loc["2 to 10 ha", ["within_1_sigma", "within_2_sigma"]].tolist() == [0, 1]


def test_water_under_a_cloud_is_neither_missed_nor_false():
    mapped, true = valley()
    mapped[:30, 30:] = 255  # hides the missed lake
    true[35:, 45:] = 255  # and the truth is blind where the false one is
    table = score_lakes(lake_map(mapped), lake_map(true))
    assert table.loc["all", ["missed", "false"]].tolist() == [0, 0]
    flags = np.zeros(mapped.shape, "uint16")
    mapped, true = valley()
    flags[5:7, 5:25] = Flag.not_requested
    cut = score_lakes(lake_map(mapped, flags=flags), lake_map(true))
    assert cut.loc["2 to 10 ha", ["true_lakes", "mapped_lakes"]].tolist() == [0, 0]


def test_the_table_is_the_same_for_any_chunks_and_a_truth_without_dates():
    rng = np.random.default_rng(0)
    mapped = np.kron(rng.choice([0, 1, 255], (2, 9, 9), p=[0.6, 0.38, 0.02]), np.ones((1, 3, 3)))
    true = np.kron(rng.choice([0, 1], (9, 9), p=[0.6, 0.4]), np.ones((3, 3)))
    whole = lake_matches(lake_map(mapped), lake_map(true), min_iou=0.1, partial="count")
    for chunks in ({"time": 1, "y": 4, "x": 5}, {"time": 2, "y": 11, "x": 27}):
        cut = lake_matches(lake_map(mapped, chunks=chunks), lake_map(true), min_iou=0.1, partial="count")
        pd.testing.assert_frame_equal(cut, whole)
    assert set(whole["outcome"]) == {"found", "missed", "false"}
    assert whole["time"].nunique() == 2
    parts = [
        lake_matches(lake_map(mapped).isel(time=[t]), lake_map(true), min_iou=0.1, partial="count")
        for t in range(2)
    ]
    pd.testing.assert_frame_equal(lake_scores(pd.concat(parts)), lake_scores(whole))


def test_a_threshold_reads_the_probability():
    mapped, true = valley()
    seg = lake_map(empty())
    probability = seg["lake"].copy(data=np.where(mapped == 1, np.float32(0.7), np.float32(0)))
    seg = seg.assign(lake_probability=probability)
    assert score_lakes(seg, lake_map(true)).loc["all", "found"] == 0
    assert score_lakes(seg, lake_map(true), threshold=0.7).loc["all", "found"] == 2


def test_a_map_that_finds_nothing_scores_zero_and_only_two_empty_ones_nothing():
    blank, true = lake_map(empty(2)), lake_map(np.stack([valley()[1]] * 2))
    shares = ["true_lakes", "mapped_lakes", "recall", "precision", "f1"]
    missed = score_lakes(blank, true).loc["all", shares]
    assert missed.tolist() == pytest.approx([6, 0, 0, np.nan, 0], nan_ok=True)
    false = score_lakes(true, blank).loc["all", shares]
    assert false.tolist() == pytest.approx([0, 6, np.nan, 0, 0], nan_ok=True)
    nothing = score_lakes(blank, blank).loc["all", shares]
    assert nothing.tolist() == pytest.approx([0, 0, np.nan, np.nan, np.nan], nan_ok=True)


def test_a_lake_that_changes_its_class_is_no_error():
    """1.2 ha of truth, 0.9 ha in the map: found in one class and right in the one below."""
    true, mapped = empty(), empty()
    true[5:15, 5:17], mapped[5:15, 5:14] = 1, 1
    table = score_lakes(lake_map(mapped), lake_map(true))
    assert table.loc[["below 1 ha", "1 to 2 ha", "all"], "f1"].tolist() == [1, 1, 1]
    assert table.loc["1 to 2 ha", ["recall", "mapped_lakes"]].tolist() == [1, 0]


def test_edges_of_classes_rise():
    mapped, true = valley()
    matches = lake_matches(lake_map(mapped), lake_map(true))
    assert lake_scores(matches, classes_ha=()).index.tolist() == ["all"]
    for edges in ((2, 1), (0, 1), (1, 1)):
        with pytest.raises(CubeError, match="hectares above 0, rising"):
            lake_scores(matches, classes_ha=edges)
