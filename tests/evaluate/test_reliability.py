from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from lake_maps import lake_map
from xglof.errors import CubeError
from xglof.evaluate import probability_histogram, reliability, score_calibration


def maps(seed, shape=(2, 7, 9)):
    rng = np.random.default_rng(seed)
    seg = lake_map(np.zeros(shape))
    values = rng.choice([0, 0.05, 0.25, 0.7, 1, np.nan], shape) * rng.choice([1, 0.9, 0.999], shape)
    return seg.assign(lake_probability=seg["lake"].copy(data=values.astype("float32"))), lake_map(
        rng.choice([0, 1, 255], shape)
    )


def naive(probability, label, groups):
    """Expected and largest calibration error, group by group in double precision."""
    seen = ~np.isnan(probability) & (label != 255)
    values, true = probability[seen], label[seen] == 1
    errors, pixels = [], []
    for number in range(groups):
        lower, upper = (np.float32(place / groups) for place in (number, number + 1))
        inside = (values >= lower) & ((values < upper) | (number == groups - 1))
        if inside.any():
            errors.append(abs(true[inside].mean() - values[inside].astype(float).mean()))
            pixels.append(inside.sum())
    return np.average(errors, weights=pixels), max(errors)


@given(st.integers(0, 1000), st.sampled_from([1, 4, 10, 20]))
@settings(max_examples=12, deadline=None)
def test_errors_are_those_of_a_loop(seed, groups):
    seg, truth = maps(seed)
    found = score_calibration(seg, truth, groups=groups)
    ece, mce = naive(seg["lake_probability"].values, truth["lake"].values, groups)
    assert float(found["ece"]) == pytest.approx(ece, abs=1e-6)
    assert float(found["mce"]) == pytest.approx(mce, abs=1e-6)


def test_probabilities_near_zero_are_not_taken_for_the_middle_of_their_bin():
    seg, truth = lake_map(np.zeros((1, 20, 20))), lake_map(np.zeros((1, 20, 20)))
    tiny = seg["lake"].astype("float32") + np.float32(1e-5)
    found = score_calibration(seg.assign(lake_probability=tiny), truth)
    assert float(found["ece"]) == pytest.approx(1e-5, rel=1e-2)


def test_parts_add_up_to_the_whole():
    seg, truth = maps(3)
    parts = [probability_histogram(seg.isel(time=[t]), truth.isel(time=[t])) for t in range(2)]
    xr.testing.assert_equal(reliability(parts[0] + parts[1]), score_calibration(seg, truth))
    by_date = score_calibration(seg.chunk({"time": 1, "y": 3, "x": 4}), truth, dim=("y", "x"))
    assert by_date["ece"].dims == ("time",)
    xr.testing.assert_equal(
        by_date.isel(time=1, drop=True).compute(),
        reliability(parts[1]).assign_coords(by_date["spatial_ref"].coords),
    )


def test_what_was_not_seen_has_no_error():
    seg, truth = maps(0)
    blind = score_calibration(seg, truth.map(lambda layer: xr.full_like(layer, 255)))
    assert np.isnan(blind["ece"])
    assert int(blind["pixels"].sum()) == 0
    assert np.isnan(blind["lake_share"]).all()


def test_groups_that_cut_bins_are_refused():
    with pytest.raises(CubeError, match=r"divisor of 1000: 1, 2, 4, .* 100, 125, 200, 250, 500, 1000$"):
        score_calibration(*maps(0), groups=15)
    assert score_calibration(*maps(0), groups=125).sizes["group"] == 125
