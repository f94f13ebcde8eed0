from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from xglof.engine.lattice import Axis
from xglof.train.cells import cover, in_cells, under_windows

axes = st.builds(Axis, st.integers(1, 20), st.integers(-50, 50), st.integers(1, 9), st.integers(1, 12))


def mirrored(pixel: int, size: int) -> int:
    """The pixel that a window sees at a place, by walking to and fro between the edges."""
    while not 0 <= pixel < size:
        pixel = -pixel if pixel < 0 else 2 * (size - 1) - pixel
        if size == 1:
            return 0
    return pixel


@settings(max_examples=25, deadline=None)
@given(axes, axes, st.data())
def test_sums_under_windows_are_those_of_a_loop_over_pixels(y: Axis, x: Axis, data: st.DataObject) -> None:
    cuts = [sorted({0, axis.size, *data.draw(st.lists(st.integers(0, axis.size)))}) for axis in (y, x)]
    values = np.random.default_rng(y.size).random((2, y.size, x.size)) < 0.5
    starts = [list(axis.starts(0, axis.size)) for axis in (y, x)]
    inside, seen = (np.zeros((2, len(starts[0]), len(starts[1]))) for _ in range(2))
    for rows in pairwise(cuts[0]):
        for cols in pairwise(cuts[1]):
            down, across = cover(y, rows), cover(x, cols)
            cells = in_cells(values[:, slice(*rows), slice(*cols)], down, across)
            here = (slice(None), down.windows, across.windows)
            inside[here] += under_windows(cells, down.inside, across.inside)
            seen[here] += under_windows(cells, down.seen, across.seen)
    for i, top in enumerate(starts[0]):
        for j, left in enumerate(starts[1]):
            places = [(r, c) for r in range(top, top + y.window) for c in range(left, left + x.window)]
            own = [values[:, r, c] for r, c in places if 0 <= r < y.size and 0 <= c < x.size]
            np.testing.assert_array_equal(inside[:, i, j], np.sum(own, axis=0))
            all_seen = [values[:, mirrored(r, y.size), mirrored(c, x.size)] for r, c in places]
            np.testing.assert_array_equal(seen[:, i, j], np.sum(all_seen, axis=0))


def test_scores_are_summed_like_counts() -> None:
    axis = Axis(6, 0, 4, 2)
    values = np.arange(36.0).reshape(6, 6) / 7
    down = cover(axis, (0, 6))
    sums = under_windows(in_cells(values, down, down), down.inside, down.inside)
    assert sums[1, 2] == np.float64(values[:4, 2:6].sum())
