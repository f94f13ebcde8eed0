"""What lake_area refuses, and when."""

from __future__ import annotations

import geopandas
import numpy as np
import pytest
import shapely

from lake_maps import empty, lake_map, raising_scheduler
from xglof.errors import CubeError
from xglof.lakes.area import lake_area
from xglof.lakes.polygons import find_lakes
from xglof.lakes.tracking import track


def two_lakes(times=3):
    values = empty(times)
    values[:, 10:20, 20:30] = 1
    values[:, 40:45, 50:60] = 1
    return values


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
    "wish",
    [
        *({"buffer_px": wrong} for wrong in (-1, 0.5, "two", None, np.nan, np.inf)),
        *({"min_observed": wrong} for wrong in (2, "most")),
        {"resolution_m": -1},
    ],
)
def test_numbers_out_of_range_are_refused(wish):
    with pytest.raises(CubeError, match=next(iter(wish))):
        lake_area(lake_map(two_lakes()), **wish)


def test_tiles_are_told_what_to_do_with():
    seg = lake_map(two_lakes())
    for tiles in ([seg], (seg, seg), None):
        with pytest.raises(CubeError, match=r"put tiles together .* or measure tile by tile"):
            lake_area(tiles)


def test_a_number_that_is_none_is_shown_as_it_came():
    with pytest.raises(CubeError, match="buffer_px is '2'; expected whole pixels"):
        lake_area(lake_map(two_lakes()), buffer_px="2")


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


def test_rows_without_an_id_are_refused():
    seg = lake_map(two_lakes())
    lakes = track(find_lakes(seg))
    with pytest.raises(CubeError, match="1 of 6 rows have no lake_id"):
        lake_area(seg, lakes.assign(lake_id=[None, *lakes["lake_id"][1:]]))


def test_footprints_need_ids():
    from xglof.lakes.footprints import footprints

    lakes = find_lakes(lake_map(two_lakes()))
    with pytest.raises(CubeError, match="track"):
        footprints(lakes, lakes.crs)


def with_probability(values, likely, **kwargs):
    seg = lake_map(values, **kwargs)
    return seg.assign(lake_probability=seg["lake"].copy(data=np.broadcast_to(likely, seg["lake"].shape)))


def test_a_missing_probability_is_told_before_a_graph_is_built():
    seg = lake_map(two_lakes(), chunks={"y": 20})
    lakes = track(find_lakes(seg))
    with raising_scheduler():
        with pytest.raises(CubeError, match="'lake_probability'"):
            lake_area(seg, lakes, fractional=True)
        with pytest.raises(CubeError, match="'lake_probability'"):
            lake_area(seg["lake"], lakes, fractional=True)
        whole = with_probability(two_lakes(), np.uint8(1))
        with pytest.raises(CubeError, match="uint8; expected floating point"):
            lake_area(whole, lakes, fractional=True)
        flat = with_probability(two_lakes(), np.float32(1))
        flat["lake_probability"] = flat["lake_probability"].isel(time=0, drop=True)
        with pytest.raises(CubeError, match="dims"):
            lake_area(flat, lakes, fractional=True)


@pytest.mark.parametrize("wrong", [-0.01, 1.01, np.nan, np.inf])
def test_a_probability_that_is_none_is_told_in_the_task(wrong):
    likely = np.ones((3, 60, 80), "float32")
    likely[1, 12, 22] = wrong
    seg = with_probability(two_lakes(), likely, chunks={"time": 1})
    lakes = track(find_lakes(seg))
    with raising_scheduler():
        lazy = lake_area(seg, lakes, fractional=True)
    with pytest.raises(CubeError, match="expected 0 to 1"):
        lazy.compute(scheduler="sync")
    lazy.isel(time=[0, 2]).compute(scheduler="sync")


def test_other_values_than_those_of_a_lake_layer_are_told_in_the_task():
    values = two_lakes()
    lakes = track(find_lakes(lake_map(values)))
    values[0, 12, 22] = 3
    with pytest.raises(CubeError, match="0, 1 and 255"):
        lake_area(lake_map(values), lakes).compute()
