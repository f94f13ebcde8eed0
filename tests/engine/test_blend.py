from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xglof.engine.blend import UNITY, window_weights


@given(st.integers(1, 300), st.data())
def test_weights_that_meet_sum_to_one(window: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, window))
    weights = window_weights(window, stride)
    total = np.bincount(np.arange(window) % stride, weights=weights)
    assert weights.min() >= 0
    np.testing.assert_array_equal(total, UNITY)


def test_weights_follow_a_hann_window() -> None:
    hann = np.sin(np.pi * (np.arange(224) + 0.5) / 224) ** 2
    np.testing.assert_allclose(window_weights(224, 112) / UNITY, hann, atol=1 / UNITY)


def test_products_of_weights_are_exact_in_float32() -> None:
    weights = window_weights(224, 56)
    product = weights[:, None] * weights
    np.testing.assert_array_equal(product.astype(np.float32).astype(np.int64), product)
