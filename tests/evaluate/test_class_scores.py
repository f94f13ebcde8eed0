from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from lake_maps import lake_map
from xglof.cube.flags import Flag
from xglof.errors import CubeError
from xglof.evaluate import confusion_matrix, score, score_classes

CLASSES = ("land", "lake", "ice", "debris")


def class_map(values, **options):
    return lake_map(values, **options).rename(lake="classes")


@given(st.integers(0, 1000), st.integers(1, 6))
@settings(max_examples=8, deadline=None)
def test_the_matrix_and_its_scores_are_those_of_a_loop(seed, chunk):
    rng = np.random.default_rng(seed)
    shape = (2, 5, 6)
    mapped, actual = (rng.choice([0, 1, 2, 255], shape) for _ in range(2))
    flags = rng.choice([0, Flag.not_requested.value], shape, p=[0.9, 0.1])
    seg = class_map(mapped, flags=flags, chunks={"time": 1, "y": chunk, "x": 4})
    matrix = confusion_matrix(seg, class_map(actual), classes=CLASSES).compute()
    want = np.zeros((4, 4), int)
    for true, found, flag in zip(actual.ravel(), mapped.ravel(), flags.ravel(), strict=True):
        if 255 not in (true, found) and not flag:
            want[true, found] += 1
    assert matrix.values.tolist() == want.tolist()
    scores = score_classes(matrix)
    for place, name in enumerate(CLASSES):
        tp, union = want[place, place], want[place].sum() + want[:, place].sum() - want[place, place]
        expected = tp / union if union else np.nan
        np.testing.assert_allclose(scores["iou"].sel({"class": name}), expected, atol=1e-12)
    assert float(scores["accuracy"]) == pytest.approx(np.trace(want) / want.sum())
    assert float(scores["mean_iou"]) == pytest.approx(np.nanmean(scores["iou"].values))


def test_two_classes_score_as_a_lake_map_does():
    rng = np.random.default_rng(0)
    seg, truth = (lake_map(rng.choice([0, 1, 255], (3, 6, 7))) for _ in range(2))
    pair = (seg.rename(lake="classes"), truth["lake"])
    table = score_classes(confusion_matrix(*pair, classes=("land", "lake"), dim=("y", "x")))
    one = score(seg, truth, dim=("y", "x"))
    lake = table.sel({"class": "lake"}, drop=True)
    for name in ("tp", "fp", "fn", "tn", "iou", "f1", "precision", "recall"):
        xr.testing.assert_equal(lake[name], one[name])
    by_date = confusion_matrix(*pair, classes=("land", "lake"), dim=("y", "x"))
    xr.testing.assert_equal(by_date.sum("time"), confusion_matrix(*pair, classes=("land", "lake")))


@pytest.mark.usefixtures("no_compute")
def test_nothing_is_computed():
    seg = class_map(np.ones((2, 12, 12)), chunks={"time": 1, "y": 5, "x": 6})
    scores = score_classes(confusion_matrix(seg, seg, classes=CLASSES))
    assert all(variable.chunks is not None for variable in scores.data_vars.values())


def test_classes_without_a_name_and_names_twice_are_refused():
    seg = class_map(np.full((2, 2), 3))
    with pytest.raises(CubeError, match="prediction holds class 3, but 2 names"):
        confusion_matrix(seg, class_map(np.zeros((2, 2))), classes=CLASSES[:2])
    with pytest.raises(CubeError, match="different names"):
        confusion_matrix(seg, seg, classes=("land", "land"))
    with pytest.raises(CubeError, match="expected 'classes'"):
        confusion_matrix(lake_map(np.zeros((2, 2))), seg, classes=CLASSES)
    with pytest.raises(CubeError, match="expected uint8"):
        confusion_matrix(seg.astype("int32"), seg, classes=CLASSES)
    with pytest.raises(CubeError, match="a square of"):
        score_classes(xr.DataArray(np.zeros((2, 3)), dims=("truth", "prediction")))
