from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xglof.engine.lattice import Axis, pixel_index, reflect, stride_of

axes = st.builds(
    lambda size, first, window, share: Axis(size, first, window, max(1, int(window * share))),
    st.integers(1, 60),
    st.integers(-50, 50),
    st.integers(1, 20),
    st.floats(0.1, 1),
)


@given(axes, st.data())
def test_starts_are_the_windows_that_touch(axis: Axis, data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, axis.size - 1))
    end = data.draw(st.integers(begin + 1, axis.size))
    every = [s for s in range(-200, 200) if (s + axis.first) % axis.stride == 0]
    touching = [s for s in every if any(begin <= pixel < end for pixel in range(s, s + axis.window))]
    assert list(axis.starts(begin, end)) == touching


@given(axes, st.data())
def test_windows_of_a_block_read_just_what_is_declared(axis: Axis, data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, axis.size - 1))
    end = data.draw(st.integers(begin + 1, axis.size))
    mirror = np.pad(np.arange(axis.size), 50, mode="reflect")  # the raster pixel at each position from -50
    seen = {mirror[start + 50 + step] for start in axis.starts(begin, end) for step in range(axis.window)}
    assert axis.extent(begin, end) == (axis.starts(begin, end)[0], axis.starts(begin, end)[-1] + axis.window)
    assert axis.reads(begin, end) == (min(seen), max(seen) + 1)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_reflection_is_numpys(size: int) -> None:
    values = np.arange(size)
    padded = np.pad(values, 20, mode="reflect")
    np.testing.assert_array_equal(values[reflect(np.arange(-20, size + 20), size)], padded)


@pytest.mark.parametrize(
    ("origin", "index"), [(500_000, 50_000), (500_005, 50_000), (500_009.995, 50_001), (-5, -1), (-0.005, 0)]
)
def test_pixel_index_snaps_rounding_errors_only(origin: float, index: int) -> None:
    assert pixel_index(origin, -10) == index


def test_pixel_index_of_degrees_survives_float_noise() -> None:
    assert pixel_index(80.0, 0.09999999999999432) == 800
    assert pixel_index(8.3, 0.1) == 83


@pytest.mark.parametrize(("overlap", "stride"), [(0, 224), (0.25, 168), (0.5, 112), (0.75, 56), (0.9, 22)])
def test_stride(overlap: float, stride: int) -> None:
    assert stride_of(224, overlap) == stride
