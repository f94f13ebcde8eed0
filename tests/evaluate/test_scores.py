from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lake_maps import UTM, lake_map
from xglof.cube.flags import Flag
from xglof.errors import CubeError
from xglof.evaluate import confusion_counts, score

CELLS = st.sampled_from([0, 1, 255])
NAMES = ("tp", "fp", "fn", "tn", "unobserved")


def oracle(mapped, actual):
    """Counts of two arrays, pixel by pixel."""
    counts = dict.fromkeys(NAMES, 0)
    for wet, true in zip(mapped.ravel().tolist(), actual.ravel().tolist(), strict=True):
        if 255 in (wet, true):
            counts["unobserved"] += 1
        else:
            counts[{(1, 1): "tp", (1, 0): "fp", (0, 1): "fn", (0, 0): "tn"}[wet, true]] += 1
    return counts


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_what_was_not_requested_counts_nowhere(data):
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)))
    mapped, actual = (data.draw(hnp.arrays(np.uint8, shape, elements=CELLS)) for _ in range(2))
    kinds = st.sampled_from([0, Flag.cloud.value, Flag.not_requested.value])
    flags = data.draw(hnp.arrays(np.uint16, shape, elements=kinds))
    asked = (flags & Flag.not_requested) == 0
    mapped[~asked] = 255
    seg = lake_map(mapped, flags=flags, chunks={"time": 1, "y": 2, "x": 3})
    probability = np.where(mapped == 255, np.nan, mapped).astype("float32")
    seg["lake_probability"] = seg["lake"].copy(data=probability)
    turned = seg.isel(y=slice(None, None, -1)).transpose("x", "time", "y")
    for given_map, threshold in ((seg, None), (turned, None), (seg, 0.5)):
        counts = score(given_map, lake_map(actual), threshold=threshold).compute()
        assert {name: int(counts[name]) for name in NAMES} == oracle(mapped[asked], actual[asked])
    blind = score(seg["lake"], lake_map(actual))  # the map alone can't tell
    assert {name: int(blind[name]) for name in NAMES} == oracle(mapped, actual)


def share(part, whole):
    return part / whole if whole else np.nan


@st.composite
def pairs(draw):
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)))
    return tuple(draw(hnp.arrays(np.uint8, shape, elements=CELLS)) for _ in range(2))


@given(pairs(), st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_counts_and_scores_are_those_of_a_loop(pair, chunk):
    mapped, actual = pair
    seg, truth = lake_map(mapped, chunks={"time": 1, "y": chunk, "x": 2}), lake_map(actual)
    counts = confusion_counts(seg, truth).compute()
    assert counts.sizes == {"time": len(mapped)}
    for step in range(len(mapped)):
        assert {name: int(counts[name][step]) for name in NAMES} == oracle(mapped[step], actual[step])
    pooled = score(seg, truth).compute()
    want = oracle(mapped, actual)
    assert {name: int(pooled[name]) for name in NAMES} == want
    tp, fp, fn = want["tp"], want["fp"], want["fn"]
    expected = {
        "iou": share(tp, tp + fp + fn),
        "f1": share(2 * tp, 2 * tp + fp + fn),
        "precision": share(tp, tp + fp),
        "recall": share(tp, tp + fn),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(float(pooled[name]), value)


@given(pairs())
@settings(max_examples=10, deadline=None)
def test_counts_add_up_over_any_dims(pair):
    seg, truth = lake_map(pair[0]), lake_map(pair[1])
    pooled = score(seg, truth)
    for dim in (("y", "x"), "time", "y"):
        parts = score(seg, truth, dim=dim)
        assert set(parts["tp"].dims) == {"time", "y", "x"} - set([dim] if isinstance(dim, str) else dim)
        for name in NAMES:
            assert parts[name].dtype == np.int64
            assert int(parts[name].sum()) == int(pooled[name])


def test_pooling_lets_an_empty_date_neither_help_nor_harm():
    mapped = np.zeros((2, 4, 4), "uint8")
    mapped[0, :2] = 1
    actual = np.zeros_like(mapped)
    actual[0, :1] = 1
    each = score(lake_map(mapped), lake_map(actual), dim=("y", "x"))
    assert each["iou"].values.tolist()[0] == 0.5
    assert np.isnan(each["iou"][1])
    assert float(score(lake_map(mapped), lake_map(actual))["iou"]) == 0.5


def test_nothing_observed_scores_nothing():
    scores = score(lake_map(np.full((1, 3, 3), 255)), lake_map(np.ones((1, 3, 3))))
    assert all(np.isnan(float(scores[name])) for name in ("iou", "f1", "precision", "recall"))
    assert int(scores["unobserved"]) == 9


def probabilities():
    seg = lake_map(np.zeros((1, 2, 2)))
    values = np.array([[[0.2, 0.7], [0.5, np.nan]]], "float32")
    return seg.assign(lake_probability=seg["lake"].copy(data=values))


def test_a_threshold_reads_the_probability_and_its_gaps():
    truth = lake_map(np.array([[[0, 1], [0, 1]]]))
    for threshold, expected in ((0.5, (1, 1, 0, 1, 1)), (0.7, (1, 0, 0, 2, 1)), (0.9, (0, 0, 1, 2, 1))):
        for seg in (probabilities(), probabilities()["lake_probability"]):
            scores = score(seg, truth, threshold=threshold)
            assert tuple(int(scores[name]) for name in NAMES) == expected
            assert scores.attrs["threshold"] == threshold
    assert tuple(int(score(probabilities(), truth)[name]) for name in NAMES) == (0, 0, 2, 2, 0)


def test_a_truth_without_dates_holds_for_all():
    mapped = np.stack([np.eye(4), np.ones((4, 4))])
    truth = lake_map(np.eye(4))["lake"].astype(bool)
    assert score(lake_map(mapped), truth, dim=("y", "x"))["tp"].values.tolist() == [4, 4]


def test_the_order_of_dates_and_axes_does_not_matter():
    rng = np.random.default_rng(0)
    seg, truth = (lake_map(rng.choice([0, 1, 255], (3, 5, 7))) for _ in range(2))
    turned = truth.isel(time=[2, 0, 1], y=slice(None, None, -1)).transpose("x", "y", "time")
    assert score(seg, turned).identical(score(seg, truth))


def test_coordinates_that_differ_in_the_last_bit_are_the_same():
    rng = np.random.default_rng(0)
    seg, truth = (lake_map(rng.integers(0, 2, (1, 5, 7))) for _ in range(2))
    shifted = truth.assign_coords(x=truth["x"].copy(data=truth["x"].values + 1e-6))
    shifted["x"].attrs = truth["x"].attrs
    assert score(seg, shifted).identical(score(seg, truth))


@pytest.mark.usefixtures("no_compute")
def test_nothing_is_computed():
    chunks = {"time": 1, "y": 2, "x": 3}
    seg, truth = (lake_map(np.ones((2, 4, 6)), chunks=chunks) for _ in range(2))
    lazy = score(seg, truth)
    counted = confusion_counts(probabilities().chunk(y=1), lake_map(np.ones((1, 2, 2))), threshold=0.5)
    for dataset in (lazy, counted):
        assert all(variable.chunks is not None for variable in dataset.data_vars.values())


def test_other_grids_are_refused_with_both_named():
    seg = lake_map(np.ones((1, 4, 6)))
    moved = lake_map(np.ones((1, 4, 6)), UTM.translate_pix(1, 0))
    with pytest.raises(
        CubeError, match=r"(?s)prediction: 4 x 6 px in EPSG:32645, x 497000 .*truth: .*x 497010"
    ):
        score(seg, moved)
    with pytest.raises(CubeError, match="different grids"):
        score(seg, lake_map(np.ones((1, 4, 5))))
    with pytest.raises(CubeError, match="no CRS"):
        score(seg, seg.drop_vars("spatial_ref"))


def test_other_dates_are_refused_by_name():
    seg, truth = lake_map(np.ones((2, 4, 6))), lake_map(np.ones((3, 4, 6)))
    with pytest.raises(CubeError, match=r"1 missing in the prediction: 2023-07-21"):
        score(seg, truth)
    with pytest.raises(CubeError, match=r"1 missing in the truth: 2023-07-21"):
        score(truth, seg)
    with pytest.raises(CubeError, match="twice"):
        score(seg, truth.isel(time=[0, 1, 1]))
    with pytest.raises(CubeError, match="the prediction none"):
        score(seg.isel(time=0, drop=True), truth)


def test_other_layers_and_wishes_are_refused():
    seg = lake_map(np.ones((1, 4, 6)))
    with pytest.raises(CubeError, match="lake_probability"):
        score(seg, seg, threshold=0.5)
    with pytest.raises(CubeError, match="floats"):
        score(seg["lake"], seg, threshold=0.5)
    with pytest.raises(CubeError, match="between 0 and 1"):
        score(seg, seg, threshold=50)
    with pytest.raises(CubeError, match="expected 'lake'"):
        score(seg, xr.Dataset())
    with pytest.raises(CubeError, match="uint16"):
        score(seg.assign(flags=seg["lake"].astype("float32")), seg)
    with pytest.raises(CubeError, match=r"dim names \['band'\]"):
        score(seg, seg, dim="band")
    for pair in ((seg, 2 * seg), (2 * seg, seg)):  # classes are no lake map
        with pytest.raises(CubeError, match=r"holds \[2\]"):
            score(*(each.assign_coords(seg.coords) for each in pair))
