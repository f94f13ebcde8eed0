from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lake_maps import lake_map
from xglof.cube.flags import Flag
from xglof.errors import CubeError
from xglof.evaluate import best_threshold, histogram_counts, score, sweep_counts, sweep_thresholds
from xglof.evaluate.histogram import probability_histogram
from xglof.evaluate.sweep import PROBABILITY_UNIT, STEPS, thresholds_of

NAMES = ("tp", "fp", "fn", "tn")


def naive(probability, label, threshold):
    """Counts at one threshold, as segment() takes it: rounded to the probability's dtype."""
    seen = ~np.isnan(probability) & (label != 255)
    wet, true = probability >= probability.dtype.type(threshold), label == 1
    outcomes = (wet & true, wet & ~true, ~wet & true, ~wet & ~true)
    return [int((seen & each).sum()) for each in outcomes]


def at_edges(dtype, steps=STEPS):
    """Every threshold as the dtype has it, and its neighbours on both sides."""
    edges = thresholds_of(steps).astype(dtype)
    beside = [np.nextafter(edges, dtype(end)) for end in (0, 2)]
    return np.clip(np.concatenate([edges, *beside]), 0, 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_threshold_decides_as_a_comparison_does(dtype):
    probability = at_edges(dtype)
    label = (np.arange(probability.size) % 3 % 2).astype("uint8")
    found = sweep_counts(histogram_counts(probability, label))
    assert found.sizes["threshold"] == 1001
    for place, threshold in enumerate(thresholds_of()):
        counts = [int(found[name][place]) for name in NAMES]
        assert counts == naive(probability, label, threshold), threshold


def test_the_seven_tenths_of_float32_lie_below_those_of_float64():
    probability = np.array([0.7], "float32")
    assert probability[0].astype(float) < 0.7
    found = sweep_counts(histogram_counts(probability, np.ones(1, "uint8")), thresholds=[0.7])
    assert found["tp"].values.tolist() == [1]


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_counts_add_up_and_are_those_of_a_loop(data):
    size, steps = data.draw(st.integers(0, 30)), data.draw(st.sampled_from([1, 7, 10]))
    floats = st.floats(0, 1, width=32) | st.just(np.nan)
    probability = data.draw(hnp.arrays(np.float32, size, elements=floats))
    label = data.draw(hnp.arrays(np.uint8, size, elements=st.sampled_from([0, 1, 255])))
    counts = histogram_counts(probability, label, steps=steps)
    cut = data.draw(st.integers(0, size))
    parts = [
        histogram_counts(probability[part], label[part], steps=steps)
        for part in (slice(cut), slice(cut, None))
    ]
    assert counts.dtype == np.int64
    assert np.array_equal(counts, parts[0] + parts[1])
    want = np.zeros((2, steps + 1), int)
    for value, truth in zip(probability, label, strict=True):
        if truth != 255 and not np.isnan(value):
            want[truth, sum(value >= np.float32(k / steps) for k in range(1, steps + 1))] += 1
    assert np.array_equal(counts, want)


def seg_and_truth(seed=0, chunks=None):
    rng = np.random.default_rng(seed)
    seg = lake_map(np.zeros((2, 9, 11)))
    values = rng.random((2, 9, 11), dtype="float32")
    values[rng.random(values.shape) < 0.1] = np.nan
    values.ravel()[:3] = 0, 1, np.float32(0.7)
    seg = seg.assign(lake_probability=seg["lake"].copy(data=values))
    return seg if chunks is None else seg.chunk(chunks), lake_map(rng.choice([0, 1, 255], (2, 9, 11)))


def test_a_sweep_over_maps_is_score_at_each_threshold_in_any_chunks():
    whole, truth = seg_and_truth()
    for dim in (None, ("y", "x")):
        table = sweep_thresholds(whole, truth, dim=dim, thresholds=[0, 0.3, 0.7, 1])
        for chunks in ({"time": 1, "y": 4, "x": 3}, {"time": 2, "y": 9, "x": 5}):
            lazy = sweep_thresholds(whole.chunk(chunks), truth, dim=dim, thresholds=[0, 0.3, 0.7, 1])
            xr.testing.assert_equal(lazy.compute(), table)
        for threshold in (0, 0.3, 0.7, 1):
            one = score(whole, truth, threshold=threshold, dim=dim)
            for name in (*NAMES, "iou", "recall"):
                xr.testing.assert_equal(table[name].sel(threshold=threshold, drop=True), one[name])


def test_what_was_not_requested_counts_nowhere():
    whole, truth = seg_and_truth(2)
    asked = np.random.default_rng(0).random((2, 9, 11)) < 0.5
    flags = np.where(asked, 0, Flag.not_requested.value).astype("uint16")
    found = probability_histogram(whole.assign(flags=whole["lake"].copy(data=flags)), truth)
    hidden = whole.assign(lake_probability=whole["lake_probability"].where(asked))
    xr.testing.assert_equal(found, probability_histogram(hidden, truth))
    assert 0 < int(found["pixels"].sum()) < int(probability_histogram(whole, truth)["pixels"].sum())


def test_sums_of_probabilities_are_exact_whole_numbers():
    whole, truth = seg_and_truth(1)
    found = probability_histogram(whole, truth)
    lazy = probability_histogram(whole.chunk({"time": 1, "y": 2, "x": 7}), truth)
    xr.testing.assert_identical(lazy.compute(), found)
    seen = ~np.isnan(whole["lake_probability"].values) & (truth["lake"].values != 255)
    want = whole["lake_probability"].values[seen].astype(float).sum()
    assert int(found["pixels"].sum()) == seen.sum()
    assert abs(int(found["probability_sum"].sum()) * PROBABILITY_UNIT - want) < seen.sum() * PROBABILITY_UNIT


def test_the_best_threshold_is_the_lowest_of_the_best():
    probability = np.array([0.2, 0.6, 0.9], "float32")
    table = sweep_counts(histogram_counts(probability, np.array([0, 1, 1], "uint8")))
    assert best_threshold(table) == (0.201, 1.0)
    nothing = sweep_counts(histogram_counts(probability * 0, np.zeros(3, "uint8")), thresholds=[0.5, 0.6])
    assert np.isnan(best_threshold(nothing)).all()


@pytest.mark.usefixtures("no_compute")
def test_nothing_is_computed():
    whole, truth = seg_and_truth(chunks={"time": 1, "y": 4, "x": 3})
    table = sweep_thresholds(whole, truth, thresholds=[0.5])
    assert all(variable.chunks is not None for variable in table.data_vars.values())


@pytest.mark.usefixtures("no_compute")
def test_a_histogram_of_every_pixel_is_refused():
    """It would take 32 kB a pixel."""
    whole, truth = seg_and_truth(chunks={"time": 1, "y": 4, "x": 3})
    for dim in ("time", ("time", "y"), ("x",)):
        with pytest.raises(CubeError, match=r"expected both 'y' and 'x' among them"):
            probability_histogram(whole, truth, dim=dim)
        with pytest.raises(CubeError, match="32 kB"):
            sweep_thresholds(whole, truth, dim=dim)


def test_strange_values_are_refused():
    probability, label = np.array([0.5, 0.2], "float32"), np.array([0, 1], "uint8")
    with pytest.raises(CubeError, match="hold 3; expected 0 to 1"):
        histogram_counts(np.array([3, 0.2], "float32"), label)
    with pytest.raises(CubeError, match="hold -1"):
        histogram_counts(np.array([-1, 0.2]), label)
    with pytest.raises(CubeError, match="int64; expected floats"):
        histogram_counts(np.array([1, 0]), label)
    with pytest.raises(CubeError, match="labels are float32"):
        histogram_counts(probability, probability)
    with pytest.raises(CubeError, match=r"holds \[7\]"):
        histogram_counts(probability, label + np.uint8(6) * label)
    with pytest.raises(CubeError, match="expected one shape"):
        histogram_counts(probability, label[:1])
    with pytest.raises(CubeError, match=r"threshold 0\.5005 is not offered"):
        sweep_counts(histogram_counts(probability, label), thresholds=[0.5005])
    with pytest.raises(CubeError, match="expected whole numbers"):
        sweep_counts(np.zeros((3, 5), int))
    with pytest.raises(CubeError, match="lake_probability"):
        sweep_thresholds(lake_map(np.zeros((1, 2, 2))), lake_map(np.zeros((1, 2, 2))))
