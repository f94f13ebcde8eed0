from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import Affine, GeoBox

from lake_maps import empty, lake_map
from xglof.cube.flags import Flag
from xglof.errors import CubeError
from xglof.evaluate import add_boundary_shares, score_boundary

COUNTS = ("mapped_hit", "mapped_miss", "true_hit", "true_miss")


def shore(cells, seen):
    """Lake pixels with land at one of four sides, pixel by pixel."""
    found = set()
    height, width = cells.shape
    for y, x in zip(*np.nonzero((cells == 1) & seen), strict=True):
        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= v < height and 0 <= u < width and seen[v, u] and cells[v, u] == 0:
                found.add((int(y), int(x)))
    return found


def oracle(mapped, actual, reach, asked=None):
    """Hits and misses of two shores of one date, every pixel against every other."""
    seen = (mapped != 255) & (actual != 255) & (True if asked is None else asked)
    height, width = mapped.shape
    ring = range(-int(reach) - 1, int(reach) + 2)
    blind = {
        (y, x)
        for y in range(-3 - int(reach), height + 3 + int(reach))
        for x in range(-3 - int(reach), width + 3 + int(reach))
        if not (0 <= y < height and 0 <= x < width and seen[y, x])
    }
    unknown = blind | {(y + v, x + u) for y, x in blind for v, u in ((-1, 0), (1, 0), (0, -1), (0, 1))}

    def near(place, others):
        return any(
            np.hypot(v, u) <= reach and (place[0] + v, place[1] + u) in others for v in ring for u in ring
        )

    counts = []
    shores = shore(mapped, seen), shore(actual, seen)
    for own, other in (shores, shores[::-1]):
        answers = [near(place, other) for place in own if not near(place, unknown)]
        counts += [sum(answers), len(answers) - sum(answers)]
    return counts


@given(st.data())
@settings(max_examples=6, deadline=None)
def test_hits_and_misses_are_those_of_a_loop_in_any_chunks(data):
    shape = data.draw(st.tuples(st.integers(1, 2), st.integers(1, 12), st.integers(1, 12)))
    chunks = [data.draw(st.integers(1, size)) for size in shape]
    reach = data.draw(st.sampled_from([0, 1, 1.5, 2, 3]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    mapped, actual = (rng.choice([0, 1, 255], shape, p=[0.5, 0.48, 0.02]) for _ in range(2))
    flags = np.where(rng.random(shape) < 0.02, Flag.not_requested.value, 0)
    seg, truth = lake_map(mapped, flags=flags), lake_map(actual)
    want = [oracle(*each, reach) for each in zip(np.where(flags > 0, 255, mapped), actual, strict=True)]
    names = dict(zip(("time", "y", "x"), chunks, strict=True))
    for given_map in (seg, seg.chunk(names)):
        found = score_boundary(given_map, truth, tolerance_m=10 * reach, dim=("y", "x"))
        assert np.stack([found[name].values for name in COUNTS], 1).tolist() == want


def test_a_shore_aside_by_less_than_the_tolerance_hits():
    true, aside = empty(), empty()
    true[20:40, 20:40], aside[20:40, 22:42] = 1, 1
    seg, truth = lake_map(aside), lake_map(true)
    assert float(score_boundary(seg, truth, tolerance_m=20)["boundary_f1"]) == 1
    near = score_boundary(seg, truth, tolerance_m=10)
    assert int(near["mapped_hit"] + near["mapped_miss"]) == 4 * 20 - 4
    assert 0 < float(near["boundary_f1"]) < 1
    assert float(score_boundary(truth, truth, tolerance_m=0)["boundary_f1"]) == 1


@pytest.mark.parametrize("turn", [False, True])
def test_a_block_sees_the_land_beyond_a_shore_at_the_tolerance(turn):
    """The true shore lies two pixels before the border of a block, the land that makes it one further on."""
    mapped, true = np.zeros((2, 30, 30), "uint8")
    mapped[:, 12:], true[:, 10:] = 1, 1
    pair = [lake_map(each.T if turn else each) for each in (mapped, true)]
    cut = pair[0].chunk(y=12 if turn else 30, x=30 if turn else 12)
    found = score_boundary(cut, pair[1], tolerance_m=20)
    xr.testing.assert_identical(found.compute(), score_boundary(*pair, tolerance_m=20))
    assert (int(found["mapped_hit"]), int(found["mapped_miss"])) == (30 - 2 * 3, 0)


def test_the_tolerance_is_in_metres_on_the_ground():
    """At 60 degrees a degree of longitude is half as long as one of latitude."""
    grid = GeoBox((40, 40), Affine(0.001, 0, 80, 0, -0.001, 60), "EPSG:4326")
    true, east, south = np.zeros((3, 40, 40), "uint8")
    true[10:20, 10:20], east[10:20, 11:21], south[11:21, 10:20] = 1, 1, 1
    truth = lake_map(true, grid)
    for moved, metres in ((east, 56.0), (south, 111.5)):
        far = score_boundary(lake_map(moved, grid), truth, tolerance_m=metres + 2)
        near = score_boundary(lake_map(moved, grid), truth, tolerance_m=metres - 2)
        assert float(far["boundary_f1"]) == 1
        assert float(near["boundary_f1"]) < 1


def test_no_shore_scores_nothing_and_an_absent_one_zero():
    lake = empty()
    lake[20:30, 20:30] = 1
    nothing = score_boundary(lake_map(empty()), lake_map(empty()))
    missed = score_boundary(lake_map(empty()), lake_map(lake))
    names = ("boundary_f1", "boundary_precision", "boundary_recall")
    assert all(np.isnan(float(nothing[name])) for name in names)
    assert np.isnan(float(missed["boundary_precision"]))
    assert float(missed["boundary_recall"]) == 0
    assert float(missed["boundary_f1"]) == 0
    assert float(score_boundary(lake_map(lake), lake_map(empty()))["boundary_f1"]) == 0
    other = empty()
    other[40:50, 50:60] = 1
    assert float(score_boundary(lake_map(other), lake_map(lake))["boundary_f1"]) == 0


def test_a_shore_beside_what_was_not_seen_counts_nowhere():
    lake, cut = empty(), empty()
    lake[20:30, 20:30] = 1
    cut[:] = lake
    cut[:, 25:] = 255
    found = score_boundary(lake_map(cut), lake_map(lake), tolerance_m=20)
    # rows 20 to 29 of column 20, and the two other sides up to four pixels from the gap
    assert int(found["true_hit"]) == 10 + 2 * 1
    assert int(found["true_miss"]) == 0
    edge = np.ones((1, 30, 30))
    assert int(score_boundary(lake_map(edge), lake_map(edge))["true_hit"]) == 0


def shores_under(cloud, mapped, true):
    """Score of two maps, of which the first does not see what lies under a cloud."""
    return score_boundary(lake_map(np.where(cloud, 255, mapped)), lake_map(true), tolerance_m=20)


def test_a_cloud_beside_the_partner_of_a_shore_makes_no_miss():
    """Two columns apart all shores hit; a cloud that begins at the true shore hides what makes it one."""
    true, mapped = empty(), empty()
    true[20:40, 20:42], mapped[20:40, 20:40] = 1, 1
    cloud = np.zeros(true.shape, bool)
    for first in range(25, 50):
        cloud[:] = False
        cloud[:, first:] = True
        for pair in ((mapped, true), (true, mapped), (true, true)):
            assert float(shores_under(cloud, *pair)["boundary_f1"]) == 1, first


@given(st.integers(0, 999))
@settings(max_examples=15, deadline=None)
def test_a_cloud_takes_shores_away_and_changes_none(seed):
    rng = np.random.default_rng(seed)
    true = np.kron(rng.choice([0, 1], (6, 8), p=[0.6, 0.4]), np.ones((10, 10)))
    mapped, cloud = np.roll(true, (2, 1), axis=(0, 1)), np.kron(rng.random((6, 8)) < 0.2, np.ones((10, 10)))
    clear, hidden = (shores_under(each, mapped, true) for each in (0 * cloud, cloud))
    assert all(int(hidden[name]) <= int(clear[name]) for name in COUNTS)


def test_a_shore_that_hits_an_undecided_one_is_not_scored_zero():
    counts = {"mapped_hit": 0, "mapped_miss": 0, "true_hit": 3, "true_miss": 0}
    found = add_boundary_shares(xr.Dataset(counts))
    assert float(found["boundary_recall"]) == 1
    assert np.isnan(found["boundary_f1"])


def test_counts_of_dates_add_up():
    rng = np.random.default_rng(0)
    seg, truth = (lake_map(rng.choice([0, 1], (3, 20, 20), p=[0.7, 0.3])) for _ in range(2))
    by_date, whole = score_boundary(seg, truth, dim=("y", "x")), score_boundary(seg, truth)
    summed = add_boundary_shares(by_date[[*COUNTS]].sum("time"))
    xr.testing.assert_equal(summed, whole)


@pytest.mark.usefixtures("no_compute")
def test_nothing_is_computed():
    seg = lake_map(np.ones((2, 12, 12)), chunks={"time": 1, "y": 6, "x": 6})
    assert score_boundary(seg, seg)["boundary_f1"].chunks is not None


def test_no_tolerance_is_refused():
    seg = lake_map(np.ones((4, 4)))
    for metres in (-1.0, np.nan):
        with pytest.raises(CubeError, match="expected metres"):
            score_boundary(seg, seg, tolerance_m=metres)
