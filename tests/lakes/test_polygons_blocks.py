"""Lakes across the borders of blocks and tiles."""

from __future__ import annotations

from itertools import product

import dask.array as da
import numpy as np
import pytest
import shapely
from odc.geo.geobox import Affine, GeoBox
from odc.geo.xr import wrap_xr

from counting_array import on_disk
from lake_maps import UTM, empty, lake_map, raising_scheduler
from xglof.errors import CubeError
from xglof.lakes.outlines import outline_lakes
from xglof.lakes.polygons import find_lakes

BLOCK = 10


def blocked(values, grid=UTM):
    return lake_map(values, grid, chunks={"y": BLOCK, "x": BLOCK})


def test_a_lake_over_the_corner_of_four_blocks_is_one_polygon():
    values = empty()
    values[8:13, 7:12] = 1
    lakes = find_lakes(blocked(values))
    assert lakes.geom_type.tolist() == ["Polygon"]
    west, north = 497_000 + 70, 3_080_000 - 80
    assert lakes.geometry[0].equals_exact(
        shapely.normalize(shapely.box(west, north - 50, west + 50, north)), 0
    ) or (len(lakes.geometry[0].exterior.coords) == 5 and lakes.geometry[0].area == 2500)


@pytest.mark.parametrize("pixels", [[(9, 9), (10, 10)], [(9, 10), (10, 9)]])
def test_pixels_that_meet_at_the_corner_of_four_blocks_are_one_lake(pixels):
    values = empty()
    values[tuple(np.transpose(pixels))] = 1
    lakes = find_lakes(blocked(values))
    assert lakes.geom_type.tolist() == ["MultiPolygon"]
    assert lakes.geometry[0].area == 200


def test_an_island_over_a_border_is_one_hole():
    values = empty()
    values[3:17, 3:17] = 1
    values[8:12, 8:12] = 0
    lakes = find_lakes(blocked(values))
    assert len(lakes.geometry[0].interiors) == 1
    assert lakes.geometry[0].area == 100 * (14**2 - 4**2)


def test_a_lake_that_winds_through_blocks_is_one_wherever_it_is_joined():
    values = empty()
    values[5, 5:35] = values[25, 5:35] = values[5:26, 34] = 1  # the arms meet three blocks further east
    lakes = find_lakes(blocked(values))
    assert len(lakes) == 1
    assert lakes.geometry[0].area == 100 * (30 + 30 + 19)


@pytest.mark.parametrize("dark", [(8, 10), (9, 10), (10, 10), (10, 9), (10, 8)])
def test_what_is_unobserved_beyond_a_border_is_a_neighbour(dark):
    values = empty()
    values[9, 9] = 1
    values[dark] = 255
    assert find_lakes(blocked(values)).touches_unobserved.tolist() == [True]
    values[dark] = 0
    values[dark[0] + 1, dark[1] + 1] = 255  # a pixel further
    near = max(dark[0] - 8, dark[1] - 8) <= 1
    assert find_lakes(blocked(values)).touches_unobserved.tolist() == [near]


def test_a_lake_is_kept_by_its_whole_area_not_by_that_of_its_pieces():
    values = empty()
    values[9:11, 9:11] = 1  # a pixel in each of four blocks
    values[30, 30] = 1
    lakes = find_lakes(blocked(values), min_area=300)
    assert lakes.geometry.area.tolist() == [400]


def test_a_block_is_read_once_and_without_its_neighbours():
    values = np.ones((2, 60, 80), "uint8")
    seen = []

    def read(part, block_id=None):
        seen.append((block_id, part.shape))
        return part

    source = da.from_array(values, chunks=(1, 20, 40)).map_blocks(
        read, dtype="uint8", meta=np.empty((0,) * 3, "uint8")
    )
    seg = lake_map(values)
    lakes = find_lakes(seg["lake"].copy(data=source))
    assert lakes.geometry.area.tolist() == [480_000, 480_000]
    assert sorted(seen) == [(each, (1, 20, 40)) for each in product(range(2), range(3), range(2))]


def test_a_map_without_chunks_is_read_in_blocks():
    grid = GeoBox((2500, 30), UTM.affine, UTM.crs)
    values = np.zeros(grid.shape, "uint8")
    values[2000:2030, 5:9] = 1
    layer, disk = on_disk(wrap_xr(values, grid))
    assert find_lakes(layer.rename("lake")).geometry.area.tolist() == [12_000]
    assert disk.largest == 2016 * 30


def test_what_a_block_hands_on_holds_no_pixels_but_those_of_its_rim():
    values = np.ones((40, 50), "uint8")
    values[:, -1] = 255
    found = outline_lakes(values, top=-7, left=100)
    assert len(found.rim_row) == 49 + 49 + 38
    assert (found.rim_row.min(), found.rim_row.max(), found.rim_column.min(), found.rim_column.max()) == (
        -7, 32, 100, 148,
    )  # fmt: skip
    assert (found.unobserved_column == 149).all()
    assert sorted(found.unobserved_row) == list(range(-7, 33))
    assert found.parts[0].equals(shapely.box(100, -7, 149, 33))
    assert found.near_unobserved.tolist() == [True]


def test_other_values_are_met_in_the_task_that_reads_them():
    values = np.stack([empty(), empty()])
    values[1, 45, 45] = 7
    with pytest.raises(CubeError, match=r"holds \[7\]"):
        find_lakes(blocked(values))


# tiles


def two_tiles():
    """A lake over the border of two tiles, and one that touches nothing."""
    values = np.zeros((3, 20, 40), "uint8")
    values[:, 5:8, 15:25] = 1
    values[:, 12, 30] = 1
    return values, lake_map(values[:, :, :20], UTM[:20, :20]), lake_map(values[:, :, 20:], UTM[:20, 20:40])


def test_tiles_give_the_lakes_of_the_whole():
    values, west, east = two_tiles()
    whole = find_lakes(lake_map(values))
    for tiles in ([west, east], (east["lake"], west.chunk(time=2))):
        assert find_lakes(tiles).equals(whole)
    assert whole.geometry.area.tolist() == [3000, 100] * 3
    assert not whole.touches_edge.any()


def test_a_date_of_one_tile_alone_ends_at_its_edge():
    _, west, east = two_tiles()
    times = west["time"].values
    lakes = find_lakes([west.isel(time=[0, 1]), east.isel(time=[1, 2])])
    assert (lakes.time == times[[0, 1, 1, 2, 2]]).all()
    assert lakes.geometry.area.tolist() == [1500, 3000, 100, 1500, 100]
    assert lakes.touches_edge.tolist() == [True, False, False, True, False]


def test_a_lake_at_a_corner_that_no_tile_covers_touches_the_edge():
    values = empty(shape=(20, 20))
    values[9, 9] = 1
    quarters = [(slice(0, 10), slice(0, 10)), (slice(0, 10), slice(10, 20)), (slice(10, 20), slice(0, 10))]
    tiles = [lake_map(values[at], UTM[at]) for at in quarters]
    assert find_lakes(tiles).touches_edge.tolist() == [True]
    last = slice(10, 20), slice(10, 20)
    assert find_lakes([*tiles, lake_map(values[last], UTM[last])]).touches_edge.tolist() == [False]


def test_a_lake_in_two_tiles_has_the_error_of_the_coarser():
    _, west, east = two_tiles()
    fine = find_lakes([west, east]).area_sigma_m2
    coarse = find_lakes([west.assign_attrs(effective_resolution_m=20), east]).area_sigma_m2
    assert (coarse / fine).round(2).tolist() == [2, 1] * 3


def test_tiles_without_dates_are_joined_too():
    _, west, east = two_tiles()
    lakes = find_lakes([tile.isel(time=0, drop=True) for tile in (west, east)])
    assert lakes.geometry.area.tolist() == [3000, 100]
    assert lakes.time.isna().all()


def moved(tile, by_px=(0, 0), step=10.0, crs="EPSG:32645"):
    """The same numbers elsewhere."""
    affine = tile["lake"].odc.geobox.affine
    place = Affine(step, 0, affine.c + 10 * by_px[1], 0, -step, affine.f - 10 * by_px[0])
    return lake_map(tile["lake"].values, GeoBox(tile["lake"].shape[-2:], place, crs))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crs": "EPSG:32644"}, r"seg\[1\] is in EPSG:32644 and seg\[0\] in EPSG:32645; .* reproject"),
        ({"step": 20.0}, r"pixels of seg\[1\] measure 20 x 20 and those of seg\[0\] 10 x 10 .* resample"),
        ({"by_px": (0.25, 30)}, r"seg\[1\] lie 0.25 rows and 0 columns beside .* resample"),
        (
            {"by_px": (0, -1)},
            r"seg\[1\] lies over seg\[0\] on \(20, 1\) pixels at 2023-07-01T00:00:00; .*isel",
        ),
    ],
)
def test_tiles_that_do_not_fit_are_refused_before_computing(change, message):
    _, west, east = two_tiles()
    with raising_scheduler(), pytest.raises(CubeError, match=message):
        find_lakes([west, moved(east, **change)])


def test_tiles_may_share_pixels_at_different_dates():
    values, west, _ = two_tiles()
    lakes = find_lakes([west.isel(time=[0]), lake_map(values).isel(time=[1])])
    assert lakes.geometry.area.tolist() == [1500, 3000, 100]


@pytest.mark.parametrize("phase", [0.25, 0.9989, 0.9999])
def test_pixel_lines_a_rounding_apart_join_wherever_they_lie(phase):
    _, west, east = two_tiles()  # a tile may begin just above a whole pixel and the next just below it
    lakes = find_lakes([moved(west, by_px=(-phase, phase)), moved(east, by_px=(-phase - 3e-4, phase + 3e-4))])
    assert lakes.geometry.area.round(3).tolist() == [3000, 100] * 3
    assert lakes.total_bounds[0] == pytest.approx(497_000 + 150 + 10 * phase, abs=0.01)


def test_pixel_lines_a_rounding_apart_are_the_same():
    values, west, east = two_tiles()
    lakes = find_lakes([west, moved(east, by_px=(4e-4, -4e-4))])
    assert lakes.geometry.to_wkb().equals(find_lakes(lake_map(values)).geometry.to_wkb())


def test_tiles_must_all_have_dates_or_none():
    _, west, east = two_tiles()
    with pytest.raises(CubeError, match=r"seg\[0\] has the dim 'time' and seg\[1\] has not"):
        find_lakes([west, east.isel(time=0)])


def test_a_sequence_of_something_else_is_refused():
    with pytest.raises(CubeError, match="no segmentation"):
        find_lakes([])
    with pytest.raises(CubeError, match="holds a str"):
        find_lakes(["west.zarr"])
