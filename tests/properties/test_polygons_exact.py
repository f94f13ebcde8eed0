"""Polygons of lakes against naive oracles, and the same to the bit however the map is cut."""

from __future__ import annotations

from itertools import pairwise

import dask
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from odc.geo.geobox import Affine, GeoBox

from lake_maps import UTM, lake_map
from xglof.lakes.polygons import find_lakes

WEST, NORTH, SIZE = 497_000, 3_080_000, 10
UNCOVERED = 7  # no tile holds the pixel

#: Whole numbers of pixels from the origin, a part of a pixel beside them, and degrees.
GRIDS = (
    UTM,
    GeoBox((60, 80), Affine(10, 0, 497_003.7, 0, -10, 3_080_001.3), "EPSG:32645"),
    GeoBox((60, 80), Affine(1 / 3600, 0, 86.93, 0, -1 / 3600, 27.81), "EPSG:4326"),
    GeoBox((60, 80), Affine(10, 0, -300, 0, -10, 200), "EPSG:6933"),
)

sizes = st.integers(1, 9)
pixels = st.sampled_from(
    [1, 0, 255, 1, 1, 0]
)  # mostly lake and land: outlines that touch themselves are common
steps = hnp.arrays(np.uint8, st.tuples(sizes, sizes), elements=pixels)
maps = hnp.arrays(np.uint8, st.tuples(st.integers(1, 3), sizes, sizes), elements=pixels)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def around(y, x):
    return [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]


def flood(wet):
    """Oracle: lists of 8-connected pixels, by their first pixel in reading order."""
    left, groups = set(map(tuple, np.argwhere(wet).tolist())), []
    for first in sorted(left):
        stack = [first] if first in left else []
        left.discard(first)
        group = list(stack)
        while stack:
            for at in around(*stack.pop()):
                if at in left:
                    left.remove(at)
                    stack.append(at)
                    group.append(at)
        if group:
            groups.append(group)
    return groups


def boxes(group):
    """Oracle: the union of the squares of pixels."""
    corners = [(WEST + SIZE * x, NORTH - SIZE * y) for y, x in group]
    return shapely.union_all([shapely.box(x, y - SIZE, x + SIZE, y) for x, y in corners])


def cuts(size):
    """Chunks of an axis."""
    ends = st.sets(st.integers(1, size), max_size=size).map(lambda inner: sorted({0, size, *inner}))
    return ends.map(lambda found: tuple(np.diff(found).tolist()))


def chunks_of(shape):
    return st.tuples(*(cuts(size) for size in shape))


def assert_same(one, other):
    assert one.drop(columns="geometry").equals(other.drop(columns="geometry"))
    assert one.geometry.to_wkb().tolist() == other.geometry.to_wkb().tolist()
    assert one.crs == other.crs


@given(st.data(), steps)
@settings(max_examples=100, deadline=None)
def test_lakes_are_the_eight_connected_pixels(data, values):
    chunks = data.draw(chunks_of(values.shape))
    lakes = find_lakes(lake_map(values, chunks=dict(zip(("y", "x"), chunks, strict=True))))
    groups = flood(values == 1)
    assert len(lakes) == len(groups)
    wet = set(map(tuple, np.argwhere(values == 1).tolist()))
    for row, group in zip(lakes.itertuples(), groups, strict=True):
        shape = row.geometry
        assert shape.is_valid
        assert shape.equals(boxes(group))
        assert shape.area == SIZE**2 * len(group)
        edges = sum(
            (y + dy, x + dx) not in wet for y, x in group for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
        )
        assert shape.length == SIZE * edges
        near = {at for y, x in group for at in around(y, x)}
        inside = [(y, x) for y, x in near if 0 <= y < values.shape[0] and 0 <= x < values.shape[1]]
        assert row.touches_unobserved == any(values[at] == 255 for at in inside)
        assert row.touches_edge == (len(inside) < len(near))


@given(st.data(), steps)
@settings(max_examples=60, deadline=None)
def test_rings_turn_at_every_vertex_and_run_the_right_way(data, values):
    chunks = data.draw(chunks_of(values.shape))
    for part in find_lakes(
        lake_map(values, chunks=dict(zip(("y", "x"), chunks, strict=True)))
    ).geometry.explode():
        assert part.exterior.is_ccw
        assert not any(ring.is_ccw for ring in part.interiors)
        for ring in (part.exterior, *part.interiors):
            corners = np.array(ring.coords)
            moves = np.diff(np.vstack([corners, corners[1]]), axis=0)
            assert (np.count_nonzero(moves, axis=1) == 1).all()
            assert ((moves[1:] != 0) != (moves[:-1] != 0)).all()
            assert (corners % SIZE == 0).all()


@given(st.data(), maps, st.sampled_from(GRIDS))
@settings(max_examples=60, deadline=None)
def test_the_bits_do_not_depend_on_chunks(data, values, grid):
    seg = lake_map(values, grid)
    chunks = data.draw(chunks_of(values.shape))
    assert_same(find_lakes(seg), find_lakes(seg.chunk(dict(zip(seg["lake"].dims, chunks, strict=True)))))


@given(steps)
@settings(max_examples=20, deadline=None)
def test_the_bits_do_not_depend_on_chunks_even_of_one_pixel(values):
    seg = lake_map(values)
    assert_same(find_lakes(seg), find_lakes(seg.chunk(y=1, x=1)))


@given(st.data(), maps, st.sampled_from(GRIDS))
@settings(max_examples=40, deadline=None)
def test_the_bits_do_not_depend_on_tiles(data, values, grid):
    _, *areas = data.draw(chunks_of(values.shape))
    tiles = [lake_map(values[:, y, x], grid[y, x]) for y, x in squares(*areas)]
    assert_same(find_lakes(lake_map(values, grid)), find_lakes(data.draw(st.permutations(tiles))))


def squares(heights, widths):
    rows, columns = (np.cumsum((0, *each)).tolist() for each in (heights, widths))
    return [(slice(*y), slice(*x)) for y in pairwise(rows) for x in pairwise(columns)]


@given(st.data(), maps)
@settings(max_examples=50, deadline=None)
def test_a_date_has_the_lakes_of_the_tiles_that_hold_it(data, values):
    _, *areas = data.draw(chunks_of(values.shape))
    held, tiles = np.full(values.shape, UNCOVERED, np.uint8), []
    for y, x in squares(*areas):
        steps = sorted(data.draw(st.sets(st.integers(0, len(values) - 1))))
        held[steps, y, x] = values[steps, y, x]
        whole = lake_map(values[:, y, x], UTM[y, x])
        tiles.append(whole.isel(time=steps))
    lakes = find_lakes(tiles)
    times = whole["time"].values
    for time, step in zip(times, held, strict=True):
        rows, groups = lakes[lakes.time == time], flood(step == 1)
        assert len(rows) == len(groups)
        walled = np.pad(step, 1, constant_values=UNCOVERED)
        for row, group in zip(rows.itertuples(), groups, strict=True):
            assert row.geometry.equals(boxes(group))
            near = {walled[y + 1, x + 1] for at in group for y, x in around(*at)}
            assert row.touches_unobserved == (255 in near)
            assert row.touches_edge == (UNCOVERED in near)
