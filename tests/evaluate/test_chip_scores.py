from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from lake_maps import UTM, lake_map
from xglof.errors import CubeError
from xglof.evaluate import chip_iou, score, score_chips

#: The first pixel lies on an edge of the lattice of 8 px.
GRID = UTM.translate_pix(-4, 0)


def maps():
    """Chips of 8 px: agreed water, half of it, false water, none at all, hidden; the last column is cut."""
    mapped, actual = np.zeros((2, 8, 43), "uint8")
    actual[:4, :8] = mapped[:4, :8] = 1
    actual[:4, 8:16], mapped[:2, 8:16] = 1, 1
    mapped[:1, 16:24] = 1
    mapped[:, 32:40] = 255
    return lake_map(mapped, GRID), lake_map(actual, GRID)


def test_empty_chips_follow_the_rule():
    skipped, taken = (score_chips(*maps(), size=8, empty=rule) for rule in ("skip", "one"))
    np.testing.assert_array_equal(skipped["iou"].values[0], [1, 0.5, 0, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(taken["iou"].values[0], [1, 0.5, 0, 1, np.nan, np.nan])
    assert skipped["counted"].values[0].tolist() == [True] * 4 + [False] * 2
    assert skipped["empty"].values[0].tolist() == [False] * 3 + [True] + [False] * 2
    assert taken.attrs["empty"] == "one"


def test_a_chip_cut_by_the_edge_counts_where_enough_of_it_is_seen():
    least = score_chips(*maps(), size=8, min_observed=3 / 8)
    assert least["counted"].values[0].tolist() == [True] * 4 + [False, True]
    assert int(least["unobserved"][0, 4]) == 64
    any_share = score_chips(*maps(), size=8, min_observed=0, empty="one")
    assert any_share["counted"].values[0].tolist() == [True] * 4 + [False, True]
    assert np.isnan(any_share["iou"].values[0, 4])


def test_chips_add_up_to_the_pooled_score_and_to_the_same_in_chunks():
    rng = np.random.default_rng(0)
    seg, truth = (lake_map(rng.choice([0, 1, 255], (2, 30, 40))) for _ in range(2))
    chips = score_chips(seg, truth, size=7)
    pooled = score(seg, truth)
    for name in ("tp", "fp", "fn", "tn", "unobserved"):
        assert int(chips[name].sum()) == int(pooled[name])
    lazy = score_chips(seg.chunk({"time": 1, "y": 11, "x": 13}), truth, size=7)
    xr.testing.assert_identical(lazy.compute(), chips)
    iou = chip_iou(*(chips[name].values for name in ("tp", "fp", "fn")))
    np.testing.assert_array_equal(iou[chips["counted"]], chips["iou"].values[chips["counted"]])
    assert chips.odc.geobox.resolution.x == 70


@pytest.mark.usefixtures("no_compute")
def test_nothing_is_computed():
    seg = lake_map(np.ones((2, 12, 12)), chunks={"time": 1, "y": 5, "x": 6})
    chips = score_chips(seg, seg, size=4)
    assert all(variable.chunks is not None for variable in chips.data_vars.values())


def test_other_rules_are_refused():
    with pytest.raises(CubeError, match="'skip' or 'one'"):
        score_chips(*maps(), empty="zero")
    with pytest.raises(CubeError, match="pixels from 1"):
        score_chips(*maps(), size=0)
    with pytest.raises(CubeError, match="a share from 0 to 1"):
        score_chips(*maps(), min_observed=2)
