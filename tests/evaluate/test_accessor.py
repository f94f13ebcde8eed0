"""Scores after a dot are those of the free functions."""

from __future__ import annotations

import pytest
import xarray as xr

from lake_maps import lake_map
from xglof import evaluate

SCORES = (
    "score",
    "score_boundary",
    "score_calibration",
    "score_chips",
    "score_intervals",
    "score_lakes",
    "sweep_thresholds",
)


@pytest.mark.parametrize("name", SCORES)
def test_scores_are_bound_to_maps(name: str) -> None:
    seg = lake_map([[0, 1], [1, 255]])
    for data in (seg, seg["lake"]):
        method = getattr(data.glof, name)
        assert method.__wrapped__ is getattr(evaluate, name)
        assert method.__doc__ == getattr(evaluate, name).__doc__


def test_a_method_takes_the_map_before_the_dot() -> None:
    seg, truth = lake_map([[0, 1], [1, 255]]), lake_map([[0, 1], [0, 0]])
    options = {"size": 1, "min_observed": 0.0}
    for data in (seg, seg["lake"]):
        xr.testing.assert_identical(
            data.glof.score_chips(truth, **options), evaluate.score_chips(data, truth, **options)
        )
