"""Counts of pixels by lake: a loop is the oracle, graphs stay lazy and small."""

from __future__ import annotations

import dask.array as da
import geopandas
import numpy as np
import odc.geo.xr
import shapely
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from counting_array import on_disk
from lake_maps import UTM, empty, lake_map, raising_scheduler
from xglof.cube.flags import Flag
from xglof.lakes.area import lake_area
from xglof.lakes.footprints import Footprints, Outlines, footprints
from xglof.lakes.pixels import count_pixels
from xglof.lakes.polygons import find_lakes
from xglof.lakes.tally import QUANTITIES
from xglof.lakes.tracking import track

SHAPE = (14, 16)
TIMES = lake_map(empty(3))["time"].values.astype(np.int64)


def lakes_at(geometry, core=None, outlines=()):
    """Footprints named a, b, c in the order of the geometries; outlines are of a lake, a time and a shape."""
    nowhere = np.zeros(len(geometry))
    ids = [chr(ord("a") + number) for number in range(len(geometry))]
    shapes = np.array(geometry, object)
    lake, time, shape = zip(*outlines, strict=True) if outlines else ((), (), ())
    dated = Outlines(
        np.array(lake, np.intp), np.array(time, np.int64), np.array(shape, object), np.zeros(len(lake), bool)
    )
    cores = shapes if core is None else np.array(core, object)
    return Footprints(ids, shapes, cores, nowhere, nowhere, nowhere, nowhere, dated)


def box(left, top, width, height):
    """Rectangle of pixels."""
    return shapely.box(*(UTM.transform * (left, top + height)), *(UTM.transform * (left + width, top)))


def covers(shape):
    """Pixels whose centres lie in a polygon."""
    x, y = np.meshgrid(np.arange(SHAPE[1]) + 0.5, np.arange(SHAPE[0]) + 0.5)
    return shapely.contains_xy(shape, *(UTM.transform * (x, y)))


def distances(inside):
    """Square of the distance from each pixel to the next of a footprint."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    far = [(y - b) ** 2 + (x - a) ** 2 for b, a in np.argwhere(inside)]
    return np.min(far, axis=0) if far else np.full(SHAPE, 9999)


def water_labels(far, size, held, shown, buffer_px):
    """Lake that has the water of each pixel at a date, -1 for none, by a loop."""
    label = np.full(SHAPE, -1)
    for at in np.ndindex(*SHAPE):
        home = min(size, key=lambda n: (far[n][at], size.index(n)))
        if far[home][at] <= buffer_px**2:
            outlines = [n for n in size if n in shown and shown[n][at]]
            label[at] = outlines[0] if outlines else held[home]
    return label


def oracle(values, flags, probability, found, held, buffer_px):
    """Every pixel by itself: the lake that has its water, and the lakes that reach it."""
    geometry = found.geometry
    size = sorted(range(len(geometry)), key=lambda n: (round(geometry[n].area, 3), n))
    far, core = (
        [get(covers(each)) for each in of] for get, of in ((distances, geometry), (np.array, found.core))
    )
    counts = np.zeros((len(geometry), len(values), len(QUANTITIES)))
    of = found.outlines
    for t, step in enumerate(values):
        shown = {
            n: covers(g) for n, when, g in zip(of.lake, of.time, of.geometry, strict=True) if when == TIMES[t]
        }
        label, wet = water_labels(far, size, held[:, t], shown, buffer_px), {}
        for y, x in np.ndindex(*SHAPE):
            bits, lake = int(flags[t, y, x]), step[y, x] == 1
            snow, ice, asked = bool(bits & Flag.snow), bool(bits & Flag.ice), not bits & Flag.not_requested

            def unknown(inside, y=y, x=x, lake=lake, snow=snow, ice=ice, step=step):
                return step[y, x] == 255 or (snow and (inside or lake)) or (ice and inside and not lake)

            if label[y, x] >= 0 and asked and not unknown(min(each[y, x] for each in far) == 0):
                likely = round(float(probability[t, y, x]) * 2**24)
                counts[label[y, x], t, :2] += [lake, likely]
                if lake:
                    wet[y, x] = label[y, x]
            for n in range(len(geometry)):
                own = np.flatnonzero(held[:, t] == n)
                near = min((far[k][y, x] for k in own), default=9999)
                inside, stable = near == 0, any(core[k][y, x] for k in own)
                if near <= buffer_px**2:
                    hidden = asked and unknown(inside)
                    seen = stable and asked and not hidden
                    sensors = [seen and bool(bits & flag) for flag in (Flag.s1_used, Flag.s2_used)]
                    extent = [hidden, inside and asked, inside and not asked, stable and asked]
                    kinds = [stable and hidden, stable and asked and (snow or ice), stable and not asked]
                    counts[n, t, 4:] += [*extent, *kinds, *sensors]
        for (y, x), lake in wet.items():
            counts[lake, t, 2] += sum(wet.get((y, x + d)) != lake for d in (-1, 1))
            counts[lake, t, 3] += sum(wet.get((y + d, x)) != lake for d in (-1, 1))
    return counts


@given(
    seed=st.integers(0, 10_000),
    chunks=st.fixed_dictionaries(
        {"time": st.integers(1, 3), "y": st.integers(1, 14), "x": st.integers(1, 16)}
    ),
    buffer_px=st.integers(0, 3),
)
@settings(max_examples=25, deadline=None)
def test_counts_are_those_of_a_loop_whatever_the_chunks(seed, chunks, buffer_px):
    rng = np.random.default_rng(seed)
    values = rng.choice(np.array([0, 1, 255], "uint8"), (3, *SHAPE), p=[0.4, 0.5, 0.1])
    bits = [0, Flag.snow, Flag.ice, Flag.cloud, Flag.not_requested, Flag.not_requested | Flag.ice]
    flags = rng.choice(np.array(bits, "uint16"), values.shape)
    flags |= rng.choice(np.array([0, Flag.s1_used, Flag.s2_used], "uint16"), values.shape)
    corners = [(*rng.integers(0, 11, 2), *rng.integers(1, 6, 2)) for _ in range(4)]  # some overlap
    geometry = [box(*each) for each in corners]
    core = [box(left, top, rng.integers(1, wide + 1), tall) for left, top, wide, tall in corners]
    held = np.arange(4)[:, None] + np.zeros(3, int)
    held[1, 1], held[2, 1:], held[3, 2] = 0, 3, 0
    held[2, 2] = 0  # by way of the fourth
    outlines = [
        (n, TIMES[t], box(corners[n][0], corners[n][1], corners[n][2], rng.integers(1, corners[n][3] + 1)))
        for n, t in np.argwhere((held == np.arange(4)[:, None]) & (rng.random((4, 3)) < 0.6))
    ]
    found = lakes_at(geometry, core, outlines)
    seg = lake_map(values, flags=flags)
    likely = rng.random(values.shape, "float32")
    likely[values == 255] = np.nan
    seg["lake_probability"] = seg["lake"].copy(data=likely)
    seg = seg.chunk(chunks)
    with raising_scheduler():
        lazy = count_pixels(
            seg["lake"],
            found,
            held,
            buffer_px=buffer_px,
            flags=seg["flags"],
            probability=seg["lake_probability"],
        )
    assert lazy.dims == ("lake", "time", "quantity")
    expected = oracle(values, flags, likely, found, held, buffer_px)
    np.testing.assert_array_equal(lazy.compute(scheduler="sync"), expected)


def test_an_edge_between_homes_of_one_lake_is_no_edge_even_between_blocks():
    """The eastern home begins where the western one and its block end."""
    values = empty(2, (6, 12))
    values[:, 2:4, 2:10] = 1
    geometry = [box(2, 2, 4, 2), box(6, 2, 4, 2)]
    held = np.array([[0, 0], [1, 0]])
    for chunks in ({}, {"x": 6}, {"x": 1, "y": 3}):
        seg = lake_map(values, chunks={"time": 1, **chunks})
        counts = count_pixels(seg["lake"], lakes_at(geometry), held, buffer_px=0).compute(scheduler="sync")
        edges = counts.sel(quantity=["wet", "upright_edges", "level_edges"]).values.tolist()
        assert edges == [[[8, 4, 8], [16, 4, 16]], [[8, 4, 8], [0, 0, 0]]]


def two_lakes(times=3):
    values = empty(times)
    values[:, 10:20, 20:30] = 1
    values[:, 40:45, 50:60] = 1
    return values


def test_nothing_is_computed_before_it_is_asked_for_and_then_only_blocks_with_lakes():
    lakes = track(find_lakes(lake_map(two_lakes())))
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


def large_map(times, size=20_000, block=2_000):
    """Lazy map of water everywhere, and a list of the places of the blocks that were made."""
    made = []

    def water(block_info=None):
        made.append(tuple(block_info[None]["chunk-location"]))
        return np.ones(block_info[None]["chunk-shape"], "uint8")

    across = (block,) * (size // block)
    data = da.map_blocks(water, chunks=((1,) * times, across, across), meta=np.empty((0, 0, 0), "uint8"))
    grid = GeoBox((size, size), UTM.transform, UTM.crs)
    dates = np.datetime64("2023-01-08", "ns") + np.arange(times) * np.timedelta64(15, "D")
    coords = {**odc.geo.xr.xr_coords(grid), "time": dates}
    return xr.Dataset({"lake": (("time", "y", "x"), data)}, coords), made


def squares(places, width=20):
    """Tracked square lakes of some pixels' width, by column and row of their north-western corner."""
    shapes = [box(left, top, width, width) for left, top in places]
    return track(geopandas.GeoDataFrame(geometry=shapes, crs=UTM.crs.wkt))


def test_of_a_year_of_a_mountain_range_only_the_blocks_with_lakes_are_read():
    seg, made = large_map(times=24)
    with raising_scheduler():
        series = lake_area(seg, squares([(15_990, 4_100), (300, 12_500)]))
    assert made == []
    area = series["area"].compute(scheduler="sync")
    np.testing.assert_allclose(area, 24 * 24 * 100 - 12 * 100, rtol=3e-3)  # the buffer has round corners
    assert set(made) == {(t, *at) for t in range(24) for at in [(2, 7), (2, 8), (6, 0)]}
    assert len(made) == 24 * 3  # once each


def test_tasks_grow_with_blocks_that_hold_lakes_not_with_lakes():
    seg, _ = large_map(times=6)
    corners = [(2_100 + 60 * (n % 30), 4_100 + 60 * (n // 30)) for n in range(300)]  # all in one block

    def size(places):
        area = lake_area(seg, squares(places))["area"]
        return len(area.data.__dask_optimize__(area.data.dask, area.data.__dask_keys__()))

    few = size(corners[:2])
    assert size(corners) == few
    assert few < size([corners[0], (18_100, 18_100)]) < 2 * few


def test_a_file_that_is_no_dask_array_is_read_in_blocks():
    seg = lake_map(two_lakes(2))
    lakes = track(find_lakes(seg))
    seg["lake"], reads = on_disk(seg["lake"])
    assert lake_area(seg, lakes)["area"].compute().notnull().all()
    assert reads.largest <= 60 * 80


def test_the_last_row_of_a_block_waits_for_no_block_without_lakes():
    """A lake that ends with its block needs nothing of the next."""
    seg, made = large_map(times=1)
    lake_area(seg, squares([(1_000, 1_980)]), buffer_px=0)["area"].compute(scheduler="sync")
    assert made == [(0, 0, 0)]


def test_two_segmentations_of_the_same_arrays_at_other_places_or_dates_are_two_graphs():
    seg = lake_map(two_lakes(), chunks={"time": 1})
    lakes = track(find_lakes(seg))
    found = footprints(lakes, UTM.crs)
    moved = seg.assign_coords(x=seg["x"] + 100)
    later = seg.assign_coords(time=seg["time"] + np.timedelta64(1, "D"))
    held = np.arange(2)[:, None] + np.zeros(3, int)
    counts = [count_pixels(each["lake"], found, held, buffer_px=0) for each in (seg, moved, later, seg)]
    assert [each.data.name == counts[0].data.name for each in counts] == [True, False, False, True]
    wet = [each.sel(quantity="wet").values.tolist() for each in counts]
    assert wet == [[[100] * 3, [50] * 3], [[0] * 3, [0] * 3], [[100] * 3, [50] * 3], [[100] * 3, [50] * 3]]


def test_only_lakes_in_reach_of_others_take_the_polygons_of_every_date_along():
    seg, _ = large_map(times=6)
    apart, near = squares([(2_100, 4_100), (2_200, 4_100)]), squares([(2_100, 4_100), (2_123, 4_100)])
    shown = []
    for lakes in (apart, near):
        dated = geopandas.GeoDataFrame(
            {"time": np.repeat(seg["time"].values, 2), "lake_id": [*lakes["lake_id"]] * 6},
            geometry=[*lakes.geometry] * 6,
            crs=lakes.crs,
        )
        graph = lake_area(seg, dated)["area"].data.dask
        counting = [task[0] for key, task in graph.items() if str(key[0]).startswith("counts-")]
        shown.append(
            [0 if each.keywords["shown"] is None else len(each.keywords["shown"].step) for each in counting]
        )
    assert shown == [[0] * 6, [2] * 6]
