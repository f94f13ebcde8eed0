from __future__ import annotations

import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from lake_maps import UTM, empty, lake_map, raising_scheduler
from xglof.cube.flags import Flag
from xglof.errors import CubeError
from xglof.evaluate.counts import confusion_counts
from xglof.lakes import find_lakes, lake_area
from xglof.lakes.footprints import glims_id
from xglof.lakes.layer import pixel_metres
from xglof.lakes.pixels import count_pixels


def two_lakes(times=3):
    values = empty(times)
    values[:, 10:20, 20:30] = 1
    values[:, 40:45, 50:60] = 1
    return values


def oracle(values, flags, geometry, buffer_px):
    """Every pixel by itself: its nearest footprint, and what is counted for it."""
    grid = UTM[: values.shape[1], : values.shape[2]]
    centres = [(x, y) for y in range(values.shape[1]) for x in range(values.shape[2])]
    label, core = {}, {}
    inside = {}
    for number, shape in enumerate(geometry):
        for x, y in centres:
            if shape.contains(shapely.Point(grid.transform * (x + 0.5, y + 0.5))):
                inside.setdefault(number, []).append((x, y))
    for x, y in centres:
        best = (buffer_px**2 + 1, -1)
        for number, pixels in inside.items():
            best = min(best, (min((x - a) ** 2 + (y - b) ** 2 for a, b in pixels), number))
        label[x, y] = best[1] if best[0] <= buffer_px**2 else -1
        core[x, y] = best[1] if best[0] == 0 else -1
    counts = np.zeros((len(geometry), len(values), 8), int)
    for t, step in enumerate(values):
        skipped = {(x, y): bool(flags[t, y, x] & Flag.not_requested) for x, y in centres}
        own = {at: label[at] if step[at[1], at[0]] == 1 and not skipped[at] else -1 for at in centres}
        for x, y in centres:
            if skipped[x, y]:
                counts[core[x, y], t, 5] += core[x, y] >= 0
                continue
            frozen = flags[t, y, x] & (Flag.snow | Flag.ice) and core[x, y] >= 0
            unknown = step[y, x] == 255 or (frozen and step[y, x] != 1)
            if label[x, y] >= 0:
                counts[label[x, y], t, :2] += [own[x, y] >= 0, bool(unknown)]
            if core[x, y] >= 0:
                counts[core[x, y], t, 2:5] += [1, bool(unknown), bool(frozen)]
            if own[x, y] >= 0:
                counts[own[x, y], t, 6] += sum(own.get((x + d, y), -1) != own[x, y] for d in (-1, 1))
                counts[own[x, y], t, 7] += sum(own.get((x, y + d), -1) != own[x, y] for d in (-1, 1))
    return counts


@given(
    seed=st.integers(0, 10_000),
    chunks=st.fixed_dictionaries(
        {"time": st.integers(1, 2), "y": st.integers(1, 14), "x": st.integers(1, 16)}
    ),
    buffer_px=st.integers(0, 4),
)
@settings(max_examples=25, deadline=None)
def test_counts_are_those_of_a_loop_whatever_the_chunks(seed, chunks, buffer_px):
    rng = np.random.default_rng(seed)
    values = rng.choice(np.array([0, 1, 255], "uint8"), (2, 14, 16), p=[0.5, 0.4, 0.1])
    bits = [0, Flag.snow, Flag.ice, Flag.cloud, Flag.not_requested, Flag.not_requested | Flag.ice]
    flags = rng.choice(np.array(bits, "uint16"), values.shape)
    corners = rng.integers(0, 12, (4, 2))
    boxes = [shapely.box(*(UTM.transform * (x, y + 3)), *(UTM.transform * (x + 3, y))) for x, y in corners]
    geometry = np.array(
        [boxes[i] for i in range(4) if all(not boxes[i].intersects(b) for b in boxes[:i])], object
    )
    seg = lake_map(values, flags=flags, chunks=chunks)
    with raising_scheduler():
        lazy = count_pixels(seg["lake"], seg["flags"], geometry, buffer_px=buffer_px)
    assert lazy.dims == ("lake", "time", "quantity")
    np.testing.assert_array_equal(lazy.compute(scheduler="sync"), oracle(values, flags, geometry, buffer_px))


def test_a_square_of_100_metres_has_the_published_area_and_sigma():
    series = lake_area(lake_map(two_lakes(), chunks={"time": 1, "y": 16, "x": 16})).compute()
    assert series["area"].dims == ("lake", "time")
    np.testing.assert_allclose(series["area"][0], 10_000, rtol=2e-3)
    np.testing.assert_allclose(series["area_sigma"][0], 1374.4, rtol=2e-3)
    np.testing.assert_allclose(series["area"][1], 5_000, rtol=2e-3)
    np.testing.assert_array_equal(series["area_lower"], series["area_upper"])
    assert (series["observed_fraction"] == 1).all()
    assert series["area"].attrs["units"] == "m2"
    assert series["area"].dtype == np.float64


def test_areas_agree_with_the_polygons():
    values = empty(1)
    values[0, 10:30, 20:50] = 1
    values[0, 15:20, 30:35] = 0
    seg = lake_map(values)
    lakes, series = find_lakes(seg), lake_area(seg)
    assert float(series["area"][0, 0]) == pytest.approx(lakes.area_m2[0], rel=1e-5)
    assert float(series["area_sigma"][0, 0]) == pytest.approx(lakes.area_sigma_m2[0], rel=1e-5)


def test_ids_say_where_a_lake_is():
    series = lake_area(lake_map(two_lakes()))
    ids = series["lake"].values.tolist()
    assert ids == [
        glims_id(*p) for p in zip(series["longitude"].values, series["latitude"].values, strict=True)
    ]
    assert series["x"].values.tolist() == [497_250, 497_550]
    assert series["y"].values.tolist() == [3_080_000 - 150, 3_080_000 - 425]
    assert (np.diff(series["latitude"]) < 0).all()


def test_glims_ids_of_every_quadrant():
    assert glims_id(87.9452, 27.7811) == "GL087945E27781N"
    assert glims_id(-72.5, -50.0004) == "GL287500E50000S"
    assert glims_id(-0.0001, 5) == "GL000000E05000N"


def test_lakes_at_one_thousandth_of_a_degree_get_suffixes():
    values = empty(1)
    values[0, 10, 10] = values[0, 10, 12] = values[0, 12, 10] = 1
    ids = lake_area(lake_map(values), buffer_px=0)["lake"].values.tolist()
    assert ids == [ids[0], f"{ids[0]}-2", f"{ids[0]}-3"]


def test_polygons_of_all_dates_that_touch_are_one_lake():
    values = empty(3)
    values[0, 10:20, 10:20] = 1
    values[1, 10:20, 18:30] = 1
    values[2, 10:20, 28:40] = 1  # touches the first by way of the second only
    seg = lake_map(values)
    lakes = find_lakes(seg)
    series = lake_area(seg, lakes)
    assert series.sizes["lake"] == 1
    shuffled = lakes.sample(frac=1, random_state=3).reset_index(drop=True)
    assert lake_area(seg, shuffled).identical(series)
    np.testing.assert_allclose(series["area"][0] / series["area"][0, 0], [1, 1.2, 1.2])


def test_ids_and_areas_hold_for_polygons_in_another_crs():
    seg = lake_map(two_lakes())
    lakes = find_lakes(seg)
    here, there = lake_area(seg, lakes), lake_area(seg, lakes.to_crs("EPSG:4326"))
    assert here["lake"].values.tolist() == there["lake"].values.tolist()
    np.testing.assert_allclose(here["area"], there["area"], rtol=1e-9)


def test_growth_into_the_buffer_counts():
    values = two_lakes(2)
    seg = lake_map(values)
    lakes = find_lakes(seg.isel(time=[0]))
    values[1, 10:20, 30:34] = 1
    grown = lake_area(lake_map(values), lakes)
    np.testing.assert_allclose(grown["area"][0, 1] / grown["area"][0, 0], 1.2)
    fixed = lake_area(lake_map(values), lakes, buffer_px=0)
    assert (fixed["area"][0, 1] == fixed["area"][0, 0]).all()


def test_unobserved_gives_bounds_and_too_much_of_it_no_area():
    values = two_lakes(4)
    values[1, 10:12, 20:30] = 255
    values[2, 10:15, 20:30] = 255
    values[3] = 255
    series = lake_area(lake_map(values))
    pixel = float(pixel_metres(UTM, series["x"].values, series["y"].values)[2][0])
    np.testing.assert_allclose(series["observed_fraction"][0], [1, 0.8, 0.5, 0])
    np.testing.assert_allclose(series["area"][0] / pixel, [100, 80, np.nan, np.nan])
    np.testing.assert_allclose(series["area_lower"][0] / pixel, [100, 80, 50, 0])
    # all that is within two pixels of the square: 14 x 14 less four corners of three pixels
    np.testing.assert_allclose(series["area_upper"][0] / pixel, [100, 100, 100, 14 * 14 - 4 * 3])
    assert series["area_sigma"][0].isnull().values.tolist() == [False, False, True, True]


def test_frozen_and_snowed_in_is_unobserved_never_no_lake():
    values = two_lakes(3)
    values[1:, 10:20, 20:30] = 0
    flags = np.zeros(values.shape, "uint16")
    flags[1] = Flag.ice
    series = lake_area(lake_map(values, flags=flags))
    assert np.isnan(series["area"][0, 1])
    assert series["frozen_fraction"][0].values.tolist() == [0, 1, 0]
    assert series["area_lower"][0, 1] == 0
    assert series["area_upper"][0, 1] == series["area_upper"][0, 0]
    assert series["area"][0, 2] == 0  # without ice it is gone
    # a lake that the model sees through its ice is measured, and its ice is still said
    assert series["frozen_fraction"][1].values.tolist() == [0, 1, 0]
    assert series["area"][1, 1] == series["area"][1, 0]
    unknown = lake_area(lake_map(values))
    assert unknown["frozen_fraction"].isnull().all()
    assert unknown["area"][0, 1] == 0


def test_a_lake_of_which_a_part_was_requested_does_not_shrink():
    """A mask that changes with time cuts a lake that does not change."""
    values = two_lakes(4)
    flags = np.zeros(values.shape, "uint16")
    lakes = find_lakes(lake_map(values).isel(time=[0]))
    for step, edge in enumerate(
        (30, 28, 25, 20)
    ):  # all, 80 %, half and nothing of the first, little of the other
        values[step, :, edge:] = 255 if step else values[step, :, edge:]
        flags[step, :, edge:] = Flag.not_requested if step else 0
    values[1, 10:12, 20:28] = 255
    flags[2, 11, 21] = Flag.not_requested
    pixel = float(
        pixel_metres(UTM, *(lakes.geometry.centroid.get_coordinates()[n].values for n in "xy"))[2][0]
    )
    series = lake_area(lake_map(values, flags=flags), lakes, min_observed=0.64)
    np.testing.assert_allclose(series["requested_fraction"], [[1, 0.8, 0.49, 0], [1, 0, 0, 0]])
    np.testing.assert_allclose(series["observed_fraction"], [[1, 0.8, 1, np.nan], [1, *[np.nan] * 3]])
    np.testing.assert_allclose(series["area"][0] / pixel, [100, 64, np.nan, np.nan], rtol=1e-4)
    assert series["area_sigma"][0].isnull().values.tolist() == [False, False, True, True]
    for bound in ("area_lower", "area_upper"):
        np.testing.assert_allclose(series[bound][0] / pixel, [100, np.nan, np.nan, np.nan], rtol=1e-4)
    # four fifths of the four fifths that were asked for are less than 70 % of the lake
    assert lake_area(lake_map(values, flags=flags), lakes)["area"][0, 1:].isnull().all()
    assert (lake_area(lake_map(values), lakes)["requested_fraction"] == 1).all()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64"])
def test_flags_of_any_whole_type_mean_the_same(dtype):
    values = two_lakes(2)
    values[1, 10:20, 20:30] = 0
    flags = np.zeros(values.shape, "uint16")
    flags[1] = Flag.ice
    if dtype != "uint8":  # which has no such bit
        flags[0, 40:42] = Flag.not_requested
    seg = lake_map(values, flags=flags, chunks={"time": 1})
    other = seg.assign(flags=seg["flags"].astype(dtype))
    lakes = find_lakes(seg)
    assert lake_area(other, lakes).compute().identical(lake_area(seg, lakes).compute())
    assert confusion_counts(other, seg).identical(confusion_counts(seg, seg))


def test_what_was_not_requested_is_no_part_of_a_lake():
    values = two_lakes(3)
    flags = np.zeros(values.shape, "uint16")
    seg = lake_map(values, flags=flags)
    values[1, 10:14, 20:30] = 255  # not observed, though asked for
    values[1:, :, 25:] = 255
    flags[1:, :, 25:] = Flag.not_requested
    flags[2] = Flag.not_requested
    values[2] = 255
    series = lake_area(lake_map(values, flags=flags), find_lakes(seg.isel(time=[0])), min_observed=0.5)
    pixel = float(pixel_metres(UTM, series["x"].values, series["y"].values)[2][0])
    np.testing.assert_allclose(series["observed_fraction"], [[1, 0.6, np.nan], [1, np.nan, np.nan]])
    np.testing.assert_allclose(series["frozen_fraction"], [[0, 0, np.nan], [0, np.nan, np.nan]])
    np.testing.assert_allclose(series["requested_fraction"], [[1, 0.5, 0], [1, 0, 0]])
    areas = series[["area", "area_lower", "area_upper", "area_sigma"]].to_array() / pixel
    assert areas.isel(time=[1, 2]).isnull().all()
    some = lake_area(lake_map(values, flags=flags), find_lakes(seg.isel(time=[0])), min_observed=0.3)
    np.testing.assert_allclose(some["area"][0] / pixel, [100, 30, np.nan])
    without = lake_area(lake_map(values), find_lakes(seg.isel(time=[0])))
    np.testing.assert_allclose(without["observed_fraction"], [[1, 0.3, 0], [1, 0, 0]])


def test_what_lies_outside_the_grid_is_unobserved():
    seg = lake_map(two_lakes())
    part = lake_area(seg.isel(x=slice(0, 25)), find_lakes(seg))
    np.testing.assert_allclose(part["observed_fraction"][0], 0.5)
    np.testing.assert_allclose(part["area_upper"][0], 10_000, rtol=2e-3)
    assert part["area_upper"][1].isnull().all()
    assert part["area_lower"][1].isnull().all()


def test_without_time_the_areas_have_no_time():
    series = lake_area(lake_map(two_lakes()[0]))
    assert series["area"].dims == ("lake",)
    np.testing.assert_allclose(series["area"], [10_000, 5_000], rtol=2e-3)


def test_storage_order_of_the_axes_does_not_matter():
    seg = lake_map(two_lakes(), flags=np.zeros((3, 60, 80)), chunks={"y": 17, "x": 23})
    lakes = find_lakes(seg)
    turned = lake_area(seg.isel(y=slice(None, None, -1)).transpose("x", "time", "y"), lakes)
    assert turned.compute().equals(lake_area(seg, lakes).compute())


def test_nothing_is_computed_before_it_is_asked_for_and_then_only_blocks_with_lakes():
    import dask.array as da

    lakes = find_lakes(lake_map(two_lakes()))
    read = []

    def block(values, block_info=None):
        read.append(tuple(block_info[None]["chunk-location"]))
        return values

    seg = lake_map(two_lakes(), flags=np.zeros((3, 60, 80)), chunks={"time": 1, "y": 20, "x": 20})
    seg["lake"] = seg["lake"].copy(
        data=da.map_blocks(block, seg["lake"].data, dtype="uint8", meta=np.empty((0, 0, 0), "uint8"))
    )
    with raising_scheduler():
        series = lake_area(seg, lakes, buffer_px=0)
    assert read == []
    series.compute(scheduler="sync")
    assert sorted(read) == sorted((t, *at) for t in range(3) for at in [(0, 1), (2, 2)])


def test_no_lakes_give_an_empty_series():
    series = lake_area(lake_map(empty(2))).compute()
    assert dict(series.sizes) == {"lake": 0, "time": 2}
    nothing = lake_map(two_lakes()).isel(time=slice(0, 0))
    assert lake_area(nothing, find_lakes(lake_map(two_lakes()))).sizes == {"lake": 2, "time": 0}


def test_the_model_stays_with_the_series():
    seg = lake_map(two_lakes()).assign_attrs(model="simulated", nodata=0)
    assert lake_area(seg).attrs == {"model": "simulated", "min_observed": 0.7, "buffer_px": 2}


def test_bad_polygons_are_refused():
    seg = lake_map(two_lakes())
    bow = shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])
    for shape, message in ((shapely.Point(0, 0), "no polygons"), (None, "no polygons"), (bow, "invalid")):
        with pytest.raises(CubeError, match=message):
            lake_area(seg, geopandas.GeoDataFrame(geometry=[shape], crs="EPSG:32645"))
    with pytest.raises(CubeError, match="set_crs"):
        lake_area(seg, geopandas.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)]))
    with pytest.raises(CubeError, match="GeoDataFrame"):
        lake_area(seg, [shapely.box(0, 0, 1, 1)])


@pytest.mark.parametrize(
    "wish", [{"buffer_px": -1}, {"buffer_px": 0.5}, {"min_observed": 2}, {"resolution_m": -1}]
)
def test_numbers_out_of_range_are_refused(wish):
    with pytest.raises(CubeError, match=next(iter(wish))):
        lake_area(lake_map(two_lakes()), **wish)


def test_bad_cubes_are_refused():
    seg = lake_map(two_lakes(), flags=np.zeros((3, 60, 80)))
    with pytest.raises(CubeError, match="twice"):
        lake_area(seg.isel(time=[0, 1, 1]))
    with pytest.raises(CubeError, match="no CRS"):
        lake_area(seg.drop_vars("spatial_ref"))
    with pytest.raises(CubeError, match="uint16"):
        lake_area(seg.assign(flags=seg["flags"].astype("float32")))
    with pytest.raises(CubeError, match="meanings 'clear cloudy'"):
        lake_area(seg.assign(flags=seg["flags"].assign_attrs(flag_meanings="clear cloudy")))
    with pytest.raises(CubeError, match="dims"):
        lake_area(seg.assign(flags=seg["flags"].isel(time=0, drop=True)))
