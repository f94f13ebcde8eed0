"""Foreign polygons, which cut pixels: shares of pixels, and the areas that come of them."""

from __future__ import annotations

import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lake_maps import UTM, empty, lake_map, raising_scheduler
from xglof.cube.flags import Flag
from xglof.lakes.area import lake_area
from xglof.lakes.footprints import home_parts, in_pixels, on_corners
from xglof.lakes.layer import pixel_metres
from xglof.lakes.zonal import covered_cells, covered_pixels

QUADS = st.lists(
    st.tuples(
        *(st.floats(-2, 12) for _ in range(2)), *(st.floats(0.2, 6) for _ in range(2)), st.floats(0, 3)
    ),
    min_size=1,
    max_size=4,
)


def turned(left, top, width, height, angle):
    """A rectangle in pixels, turned about its centre."""
    from shapely.affinity import rotate

    return rotate(shapely.box(left, top, left + width, top + height), angle, use_radians=True)


def on_ground(polygons):
    """Polygons in pixels to the grid's CRS."""
    matrix = UTM.transform
    return shapely.transform(polygons, lambda xy: xy * (matrix.a, matrix.e) + (matrix.c, matrix.f))


def inventory(polygons):
    """Polygons in pixels as somebody's inventory."""
    names = [f"lake {number}" for number in range(len(polygons))]
    return geopandas.GeoDataFrame(
        {"lake_id": names}, geometry=on_ground(np.array(polygons, object)), crs=UTM.crs.wkt
    )


@given(quads=QUADS, corner=st.tuples(st.integers(0, 5), st.integers(0, 5)))
@settings(max_examples=40, deadline=None)
def test_shares_are_those_of_an_intersection_with_each_pixel(quads, corner):
    polygons = np.array([turned(*quad) for quad in quads], object)
    shape = (5, 6)
    at, share = covered_pixels(polygons, corner, shape)
    assert share.dtype == np.float64
    assert (np.diff(at) > 0).all()
    found = np.zeros((len(polygons), *shape))
    found.ravel()[at] = share
    for number, polygon in enumerate(polygons):
        for y, x in np.ndindex(shape):
            pixel = shapely.box(corner[1] + x, corner[0] + y, corner[1] + x + 1, corner[0] + y + 1)
            assert found[number, y, x] == pytest.approx(shapely.intersection(polygon, pixel).area, abs=2e-6)


@given(quads=QUADS, seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None, phases=[Phase.explicit, Phase.generate])
def test_areas_are_sums_of_shares_whatever_the_chunks(quads, seed):
    """Of pixels that polygons cut, water goes to the smaller one; what was not observed is of both."""
    polygons = [turned(left + 20, top + 20, *rest) for left, top, *rest in quads]
    rng = np.random.default_rng(seed)
    values = rng.choice(np.array([0, 1, 255], "uint8"), (2, 60, 80))
    lakes = inventory(polygons)
    whole = lake_area(lake_map(values), lakes, buffer_px=0, min_observed=0).compute(scheduler="sync")
    with raising_scheduler():
        lazy = lake_area(
            lake_map(values, chunks={"time": 1, "y": 7, "x": 11}), lakes, buffer_px=0, min_observed=0
        )
    xr_close(lazy.compute(scheduler="sync"), whole)
    order = np.argsort([round(polygon.area, 6) for polygon in polygons], kind="stable")
    taken = shapely.Polygon()
    pixel = pixel_metres(UTM, whole["x"].values, whole["y"].values)[2]
    for number in order:
        whole_polygon = polygons[number]
        home, taken = whole_polygon.difference(taken), taken.union(whole_polygon)
        place = whole["lake"].values.tolist().index(f"lake {number}")
        for t in range(2):
            wet, unknown = covered(home, values[t] == 1), covered(whole_polygon, values[t] == 255)
            lower = whole["area_lower"].values[place, t] / pixel[place]
            upper = whole["area_upper"].values[place, t] / pixel[place]
            assert lower == pytest.approx(wet, abs=1e-4)
            assert upper == pytest.approx(wet + unknown, abs=1e-4)


def covered(polygon, mask):
    """Area in pixels of the part of a polygon that lies over the pixels of a mask."""
    left, top, right, bottom = (int(v) for v in np.floor(polygon.bounds)) if polygon.area else (0, 0, -1, -1)
    spots = [(y, x) for y in range(top, bottom + 1) for x in range(left, right + 1) if mask[y, x]]
    return sum(polygon.intersection(shapely.box(x, y, x + 1, y + 1)).area for y, x in spots)


def xr_close(found, expected):
    assert found["lake"].values.tolist() == expected["lake"].values.tolist()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-3, err_msg=name)


def test_half_a_pixel_counts_half_and_the_perimeter_is_the_outlines():
    values = empty(1)
    values[0, 10:30, 10:40] = 1
    square = inventory([shapely.box(12.5, 15.25, 22.5, 25.25)])
    series = lake_area(lake_map(values, flags=np.zeros(values.shape)), square, buffer_px=0)
    width, height, pixel = (v[0] for v in pixel_metres(UTM, series["x"].values, series["y"].values))
    assert float(series["area"][0, 0] / pixel) == pytest.approx(100, rel=1e-6)
    assert float(series["perimeter"][0, 0]) == pytest.approx(20 * width + 20 * height, rel=1e-6)
    assert float(series["observed_fraction"][0, 0]) == 1
    # with a buffer the centres decide, as on the grid's own outlines
    centres = lake_area(lake_map(values, flags=np.zeros(values.shape)), square, buffer_px=1)
    assert float(centres["area"][0, 0] / pixel) == pytest.approx(12 * 12 - 4)


def test_shares_hold_for_flags_and_probabilities_too():
    values = empty(1)
    values[0] = 1
    flags = np.zeros(values.shape, "uint16")
    flags[0, :, :15] = Flag.snow
    flags[0, :, 15:18] = Flag.ice | Flag.s1_used
    flags[0, :, 18:20] = Flag.not_requested
    seg = lake_map(values, flags=flags)
    seg["lake_probability"] = seg["lake"].copy(data=np.full(values.shape, 0.75, "float32"))
    lake = inventory([shapely.box(14.5, 10.5, 20.5, 12.5)])  # half, three, two and half a column
    series = lake_area(seg, lake, buffer_px=0, min_observed=0.1, fractional=True).isel(lake=0, time=0)
    assert float(series["requested_fraction"]) == pytest.approx(4 / 6)
    assert float(series["observed_fraction"]) == pytest.approx(3.5 / 4)
    assert float(series["frozen_fraction"]) == pytest.approx(3.5 / 4)
    assert float(series["s1_fraction"]) == pytest.approx(3 / 3.5)
    assert float(series["area_fractional"] / series["area"]) == pytest.approx(0.75)


def test_a_home_without_its_smaller_kin():
    large, small, inside = shapely.box(0, 0, 10, 4), shapely.box(6, 0, 12, 4), shapely.box(7, 1, 8, 2)
    parts = home_parts(np.array([inside, small, large], object))
    assert shapely.area(parts).tolist() == [1, 23, 24]
    assert shapely.union_all(parts).equals(shapely.union(large, small))


def test_a_footprint_that_smaller_ones_cover_has_no_water_but_is_observed():
    whole, halves = shapely.box(10.5, 10.5, 14.5, 12.5), [(10.5, 12.5), (12.5, 14.5)]
    lakes = inventory([whole, *(shapely.box(a, 10.5, b, 12.5) for a, b in halves)])
    series = lake_area(lake_map(np.ones((60, 80))), lakes, buffer_px=0)
    areas = series["area"].sel(lake=["lake 0", "lake 1", "lake 2"])
    np.testing.assert_allclose(areas / 100.08, [0, 4, 4], rtol=1e-4)


def test_cells_know_their_cores_and_what_is_at_home_in_them():
    large, small, middle = shapely.box(0, 0, 4.5, 1), shapely.box(3.5, 0, 4.5, 1), shapely.box(1, 0, 2.25, 1)
    both = np.array([small, large], object)
    cells = covered_cells(both, np.array([small, middle], object), home_parts(both), (0, 0), (1, 5))
    assert cells.home.tolist() == [0, 0, 1, 1, 1, 1, 1]
    assert cells.at.tolist() == [3, 4, 0, 1, 2, 3, 4]
    assert cells.reach.tolist() == [0.5, 0.5, 1, 1, 1, 1, 0.5]
    assert cells.core.tolist() == [0.5, 0.5, 0, 1, 0.25, 0, 0]
    assert cells.own.tolist() == [0.5, 0.5, 1, 1, 1, 0.5, 0]


def test_outlines_of_the_grid_itself_are_no_foreign_ones():
    own = on_ground(np.array([shapely.box(3, 4, 5, 9)], object))
    assert on_corners(in_pixels(own, UTM))
    lonlat = geopandas.GeoSeries(own, crs=UTM.crs.wkt).to_crs("EPSG:4326").to_crs(UTM.crs.wkt)
    assert on_corners(in_pixels(lonlat.to_numpy(), UTM))
    assert not on_corners(in_pixels(on_ground(np.array([shapely.box(3, 4, 5.01, 9)], object)), UTM))
