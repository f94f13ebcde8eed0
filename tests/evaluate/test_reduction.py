from __future__ import annotations

import dask
import numpy as np
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from lake_maps import UTM, lake_map
from xglof.evaluate.reduction import Reduction, count_pixels, squares_of


def codes(plane, other):
    return np.broadcast_arrays(plane, other)[0]


def weights(plane, other):
    return plane.astype(np.int64) * 3 + other


COUNT = Reduction(codes, 3, weights)


def oracle(values, other, pooled, rows, columns):
    """Counts and weights of every code by date and by row and column of squares, pixel by pixel."""
    shape = (1 if "time" in pooled else len(values), rows.max() + 1, columns.max() + 1, 6)
    counts = np.zeros(shape, np.int64)
    for (t, y, x), code in np.ndenumerate(values):
        if code < 3:
            place = (0 if "time" in pooled else t, rows[y], columns[x])
            counts[(*place, code)] += 1
            counts[(*place, code + 3)] += 3 * code + other[y, x]
    return counts


@given(st.data())
@settings(max_examples=10, deadline=None)
def test_counts_by_square_are_those_of_a_loop_in_any_chunks(data):
    shape = data.draw(st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 9)))
    chunks = [data.draw(st.integers(1, size)) for size in shape]
    side = data.draw(st.integers(1, 5))
    offset = data.draw(st.tuples(st.integers(-7, 7), st.integers(-7, 7)))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    values, other = rng.integers(0, 4, shape), rng.integers(0, 3, shape[1:])
    grid = UTM.translate_pix(*offset)
    layer, below = lake_map(values, grid)["lake"], lake_map(other, grid)["lake"]
    pool = data.draw(st.sampled_from([(), ("time",)]))
    squares = squares_of(layer, side, side)
    rows, columns = (ids - ids[0] for ids in (squares.ids["y"], squares.ids["x"]))
    want = oracle(values, other, pool, rows, columns)
    lazy = layer.chunk(dict(zip(("time", "y", "x"), chunks, strict=True)))
    for given_layer in (layer, lazy):
        found = count_pixels(COUNT, [given_layer, below], pool=pool, squares=squares)
        assert np.array_equal(found.values, want[0] if pool else want)
    plain = count_pixels(COUNT, [lazy, below], pool=("y", "x", *pool))
    assert np.array_equal(plain.values, (want[0] if pool else want).sum(axis=(-3, -2)))


def test_squares_lie_on_the_absolute_lattice_and_know_where_they_are():
    layer = lake_map(np.random.default_rng(0).integers(0, 3, (1, 40, 50)))["lake"]
    whole = count_pixels(COUNT, [layer, layer], pool=["time"], squares=squares_of(layer, 8, 8))
    part = layer.isel(y=slice(5, None), x=slice(3, None))
    cut = count_pixels(COUNT, [part, part], pool=["time"], squares=squares_of(part, 8, 8))
    inner = slice(1, -1)
    assert min(cut.sizes["y"], cut.sizes["x"]) > 3
    xr.testing.assert_identical(cut.isel(y=inner, x=inner), whole.sel(y=cut["y"][inner], x=cut["x"][inner]))
    step = whole.odc.geobox.resolution
    assert (step.x, step.y) == (80, -80)
    assert whole["x"].values[0] % 80 == 40


def test_dates_keep_their_order_and_sizes_of_squares_may_differ_by_axis():
    grid = GeoBox((4, 6), UTM.affine, UTM.crs)
    layer = lake_map(np.arange(24).reshape(4, 6) % 3, grid)["lake"]
    found = count_pixels(COUNT, [layer, layer], pool=(), squares=squares_of(layer, 2, 6))
    assert found.sizes == {"y": 2, "x": 2, "code": 6}  # x 497000 m lies two pixels past a square's edge
    assert int(found.isel(code=slice(3)).sum()) == 24


def test_the_same_counts_have_the_same_name():
    layer = lake_map(np.zeros((1, 4, 6)), chunks={"time": 1, "y": 2, "x": 3})["lake"]
    names = {count_pixels(COUNT, [layer, layer], pool=["y", "x"]).data.name for _ in range(2)}
    other = Reduction(codes, 4)
    assert len(names) == 1
    assert count_pixels(other, [layer, layer], pool=["y", "x"]).data.name not in names
    with dask.config.set(scheduler="sync"):
        assert int(count_pixels(other, [layer, layer], pool=["time", "y", "x"])[0]) == 24
