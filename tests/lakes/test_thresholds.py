from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from xglof.lakes.external import external_ratio
from xglof.lakes.scatter import differences_dof
from xglof.lakes.thresholds import (
    EACH,
    PAIR_SHARE,
    SINGLE_SHARE,
    pair_quantile,
    per_observation,
    single_quantile,
    smallest_step,
)


def test_quantiles_are_students_and_normal_for_a_known_sigma():
    budget = np.array([1e-4, 1e-3, 1e-2, 1e-3])
    dof = np.array([5.0, 12.5, 40.0, np.inf])
    for quantile, share in ((single_quantile, SINGLE_SHARE), (pair_quantile, PAIR_SHARE)):
        passed = quantile(budget, dof)
        np.testing.assert_allclose(stats.t.sf(passed[:3], dof[:3]) * 2, budget[:3] * share, rtol=1e-9)
        assert stats.norm.sf(passed[3]) * 2 == pytest.approx(1e-3 * share)


def test_quantiles_keep_shape_and_say_nan_where_there_is_no_sigma():
    found = single_quantile(np.array([[1e-3], [1e-4]]), np.array([10.0, np.nan, np.inf]))
    assert found.shape == (2, 3)
    assert np.isnan(found[:, 1]).all()
    assert np.isfinite(found[:, [0, 2]]).all()


def test_the_budget_of_a_lake_year_is_shared_among_its_views():
    np.testing.assert_allclose(per_observation(0.01, [12, 1, 0.2]), [0.01 / 12, 0.01, 0.01])


@pytest.mark.parametrize("shared", [1 / 3, 1 / 24])
def test_the_smallest_step_is_found_within_two_views_with_its_chance(shared):
    rng = np.random.default_rng(4)
    count, quantile, high = 400_000, 3.4, 3.9
    low = quantile * np.sqrt(1 / 2 + shared)
    step = float(smallest_step(0.9, low, 1.0, shared))
    baseline = np.sqrt(shared) * rng.normal(size=count)
    first, second = step + baseline + rng.normal(size=(2, count))
    pair = ((first + second) / 2 > low) & (np.minimum(first, second) > EACH * low)
    found = pair | (np.maximum(first, second) > high * np.sqrt(1 + shared))
    assert 0.9 < found.mean() < 0.96
    assert np.isnan(smallest_step(0.9, np.nan, 1.0, 0.1))


def naive_ratio(area, outline, days, pool, stable, level, at):
    """Squared differences within pools over what is expected, before or after the neighbours of a date."""
    places = np.flatnonzero(stable & (outline > 0))
    before = max(places[places < at], default=0)
    after = min(places[places > at], default=len(area))
    squares = []
    dates = [place for place in places if pool[place] == pool[at]]
    for begin, end in itertools.pairwise(dates):
        apart = end < before or begin > after
        if level[begin] == level[end] and apart and days[end] - days[begin] <= 200:
            squares.append((area[end] - area[begin]) ** 2 / (outline[begin] ** 2 + outline[end] ** 2))
    return np.sqrt(np.mean(squares)) if squares else np.nan, len(squares)


def ratios(area, *, outline=1.0, step=30.0, pool=0, source=None, stable=True, level=0):
    area = np.atleast_2d(area)
    whole = {
        name: np.array(np.broadcast_to(value, area.shape))
        for name, value in {"outline": outline, "pool": pool, "stable": stable, "level": level}.items()
    }
    source = whole["pool"] if source is None else np.array(np.broadcast_to(source, area.shape))
    days = step * np.arange(area.shape[1])
    pools = whole["pool"], source
    return external_ratio(area, whole["outline"], days, pools, whole["stable"], whole["level"])


def test_external_ratio_equals_a_loop_over_the_differences():
    rng = np.random.default_rng(8)
    shape = 6, 60
    outline = rng.choice([0.0, 1.0, 1.1], p=[0.05, 0.5, 0.45], size=shape)
    area = rng.normal(size=shape) * outline
    pool = rng.integers(0, 2, shape)
    stable = rng.random(shape) < 0.85
    level = np.cumsum(rng.random(shape) < 0.04, axis=1)
    ratio, dof = ratios(area, outline=outline, step=60.0, pool=pool, stable=stable, level=level)
    for lake in range(len(area)):
        rows = [array[lake] for array in (pool, stable, level)]
        for date in range(shape[1]):
            expected, count = naive_ratio(area[lake], outline[lake], 60.0 * np.arange(shape[1]), *rows, date)
            if dof[lake, date] >= 6 and differences_dof(count, 1) >= 6:
                assert dof[lake, date] <= differences_dof(count, count)
                assert ratio[lake, date] == pytest.approx(expected)
    assert (dof >= 6).mean() > 0.8


def test_a_change_is_not_in_the_ratio_it_is_measured_by():
    area = np.random.default_rng(2).normal(size=30)
    spiked = area.copy()
    spiked[12] += 1000
    before, after = ratios(area)[0], ratios(spiked)[0]
    assert after[0, 12] == pytest.approx(before[0, 12])
    assert after[0, 20] > 50 * before[0, 20]


def test_few_dates_and_dates_far_apart_have_no_ratio():
    assert np.isnan(ratios(np.zeros(4))[0]).all()
    assert np.isnan(ratios(np.zeros(30), step=201.0)[0]).all()
    assert (ratios(np.zeros(30))[0] == 0).all()
    assert np.isnan(ratios(np.zeros(30), outline=0.0)[0]).all()  # an empty lake tells nothing


def test_a_smaller_lake_has_a_ratio_of_its_own_and_leaves_the_past_alone():
    rng = np.random.default_rng(3)
    later = np.arange(400) >= 200
    area = np.where(later, 50, 100) + rng.normal(size=400) * np.where(later, 0.5, 2.0)
    ratio, _ = ratios(area, outline=np.where(later, 0.7, 1.0), level=later.astype(int))
    assert ratio[0, :200] == pytest.approx(2.0, rel=0.2)
    assert ratio[0, 200] > 1.9  # the first small one is compared with the large ones
    assert ratio[0, 202:] == pytest.approx(0.5 / 0.7, rel=0.2)


def test_a_noisier_stratum_keeps_its_own_ratio_and_a_quiet_one_does_not():
    rng = np.random.default_rng(3)
    stratum = np.arange(400) // 2 % 2
    area = rng.normal(size=400) * np.where(stratum == 1, 5.0, 1.0)
    ratio, _ = ratios(area, pool=stratum, source=0)
    assert np.median(ratio[0, stratum == 1]) == pytest.approx(5, rel=0.15)
    assert np.median(ratio[0, stratum == 0]) == pytest.approx(np.sqrt(13), rel=0.15)
