from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from lake_maps import lake_map
from xglof.errors import CubeError
from xglof.evaluate import block_counts, bootstrap_intervals, score, score_intervals

MANY = 30


def tables(rng, blocks=MANY, pixels=60):
    """Counts by block and by pixel of water whose errors are alike within a block."""
    right = rng.random((blocks, pixels)) < rng.beta(4, 1, (blocks, 1))
    found = []
    for tp, whole in ((right.sum(axis=1), pixels), (right.ravel().astype(int), 1)):
        table = {"tp": tp, "fp": 0 * tp, "fn": whole - tp}
        found.append(xr.Dataset({name: ("block", counts) for name, counts in table.items()}))
    return found


def test_blocks_hold_the_truth_as_often_as_they_say_and_pixels_do_not():
    """Errors of a block are alike: the true recall is the mean of a Beta(4, 1), 0.8."""
    rng, trials = np.random.default_rng(0), 60
    holds, widths = np.zeros(2), np.zeros(2)
    for _ in range(trials):
        for place, counts in enumerate(tables(rng)):
            found = bootstrap_intervals(counts, resamples=100)["recall"]
            lower, upper = found.sel(bound=["lower", "upper"]).values
            holds[place] += lower <= 0.8 <= upper
            widths[place] += (upper - lower) / trials
    assert holds[0] / trials > 0.8
    assert holds[1] / trials < 0.6
    assert widths[0] > 2.5 * widths[1]


def plain(counts, draws):
    """Recall of blocks drawn one by one."""
    tp, fn = counts["tp"].values, counts["fn"].values
    return [tp[each].sum() / (tp[each].sum() + fn[each].sum()) for each in draws]


def test_bounds_are_percentiles_of_draws_with_replacement():
    counts = tables(np.random.default_rng(1))[0]
    found = bootstrap_intervals(counts, resamples=4000, level=0.9)
    draws = np.random.default_rng(2).integers(0, MANY, (4000, MANY))
    want = np.quantile(plain(counts, draws), [0.05, 0.95])
    np.testing.assert_allclose(found["recall"].sel(bound=["lower", "upper"]), want, atol=0.006)
    assert found["recall"].sel(bound="estimate") == plain(counts, [np.arange(MANY)])[0]
    assert found.attrs["blocks"] == found.attrs["blocks_with_lake"] == MANY


def test_a_seed_gives_the_same_bounds_whatever_is_held_at_a_time(monkeypatch):
    counts = tables(np.random.default_rng(1))[0]
    one, other = (bootstrap_intervals(counts, resamples=50, seed=seed) for seed in (3, 4))
    assert not one.equals(other)
    monkeypatch.setattr("xglof.evaluate.bootstrap._DRAWN", 7 * MANY)
    xr.testing.assert_identical(bootstrap_intervals(counts, resamples=50, seed=3), one)


def maps(side=10, blocks=(5, 6)):
    """Every square of a map has its own share of errors."""
    rng = np.random.default_rng(0)
    shape = tuple(side * number for number in blocks)
    share = np.kron(rng.beta(4, 1, blocks), np.ones((side, side)))
    mapped = np.stack([rng.random(shape) < share for _ in range(2)])
    return lake_map(mapped.astype("uint8")), lake_map(np.ones((2, *shape)))


def test_blocks_of_a_map_hold_all_dates_and_add_up():
    seg, truth = maps()
    counts = block_counts(seg, truth, block_m=100)
    assert counts.sizes == {"block": 30}
    assert (counts["tp"] + counts["fn"] == 200).all()
    assert int(counts["tp"].sum()) == int(score(seg, truth)["tp"])
    assert counts["x"].values[0] % 100 == 50
    lazy = block_counts(seg.chunk({"time": 1, "y": 7, "x": 23}), truth, block_m=100)
    xr.testing.assert_identical(lazy.compute(), counts)


def test_wider_blocks_give_wider_intervals_where_errors_are_alike_nearby():
    seg, truth = maps()
    found = {metres: score_intervals(seg, truth, block_m=metres, resamples=300) for metres in (10, 100)}
    width = {metres: float(each["iou"][2] - each["iou"][0]) for metres, each in found.items()}
    assert width[100] > 3 * width[10]
    assert found[100].attrs["block_m"] == 100
    assert float(found[10]["iou"].sel(bound="estimate")) == float(score(seg, truth)["iou"])


def test_blocks_that_saw_nothing_are_left_out_and_those_of_land_are_not():
    counts = tables(np.random.default_rng(1))[0]
    land = xr.Dataset({"tn": ("block", [0, 5]), **{name: ("block", [0, 0]) for name in ("tp", "fp", "fn")}})
    joined = xr.concat([counts.assign(tn=counts["fp"]), land], "block")
    found = bootstrap_intervals(joined, resamples=20)
    assert (found.attrs["blocks"], found.attrs["blocks_with_lake"]) == (MANY + 1, MANY)


def test_too_few_blocks_are_refused_and_few_ones_warned_of():
    counts = tables(np.random.default_rng(1))[0]
    with pytest.raises(CubeError, match="hold a lake: 4; an interval needs 5"):
        bootstrap_intervals(counts.isel(block=slice(4)))
    with pytest.warns(UserWarning, match="hold a lake: 19; from fewer than 20"):
        bootstrap_intervals(counts.isel(block=slice(19)), resamples=5)
    with pytest.raises(CubeError, match="5000 m that hold a lake: 1;"):
        score_intervals(*maps())
    with pytest.raises(CubeError, match="expected 'block'"):
        bootstrap_intervals(counts.rename(block="valley"))
    with pytest.raises(CubeError, match=r"expected 'tp', 'fp' and 'fn'.* of dim 'block' alone"):
        bootstrap_intervals(counts.drop_vars("fp"))
    with pytest.raises(CubeError, match="sum over the other dims"):
        bootstrap_intervals(counts.expand_dims(time=2))
    with pytest.raises(CubeError, match="level is 95"):
        bootstrap_intervals(counts, level=95)
    with pytest.raises(CubeError, match="at least a pixel"):
        block_counts(*maps(), block_m=5)


@pytest.mark.usefixtures("no_compute")
def test_counting_blocks_computes_nothing():
    seg = lake_map(np.ones((2, 12, 12)), chunks={"time": 1, "y": 5, "x": 6})
    assert block_counts(seg, seg, block_m=40)["tp"].chunks is not None
