"""Attributes of lakes: elevation, series, glaciers, ice, against numbers that are known beforehand."""

from __future__ import annotations

import dask.array as da
import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr
from pyproj import Geod

from lake_maps import UTM, empty, lake_map
from xglof.cube.flags import Flag, flag_attrs
from xglof.errors import CubeError
from xglof.lakes.attributes import lake_attributes
from xglof.lakes.export import write_lakes
from xglof.lakes.reading import date_places, read_windows, window_around
from xglof.lakes.review import REVIEW_FIELDS

DATES = pd.to_datetime(["2023-07-01", "2023-07-11"])
WEST, NORTH = 497_000, 3_080_000


def square(row, column, size=10):
    """Outline of a square of pixels of the test grid."""
    x, y = WEST + 10 * column, NORTH - 10 * row
    return shapely.box(x, y - 10 * size, x + 10 * size, y)


def table(*rows):
    """Tracked rows from (lake_id, step, outline)."""
    ids, steps, shapes = zip(*rows, strict=True)
    return geopandas.GeoDataFrame(
        {"time": DATES[list(steps)], "lake_id": list(ids)}, geometry=list(shapes), crs="EPSG:32645"
    )


LAKES = table(("a", 0, square(10, 10)), ("b", 0, square(30, 40)), ("a", 1, square(10, 10, 12)))


def dem(values=None, grid=UTM, **attrs):
    rows = np.arange(60, dtype="float32")[:, None]
    values = 4000 + rows + np.zeros((60, 80), "float32") if values is None else values
    return wrap_xr(values, grid).assign_attrs({"units": "m", "dem_epoch": "2011-2015", **attrs})


def test_rows_order_index_and_columns_stay():
    lakes = LAKES.set_index(pd.Index([7, 3, 5]))
    found = lake_attributes(lakes)
    assert found.index.tolist() == [7, 3, 5]
    assert found[list(lakes.columns)].equals(lakes)
    assert found.crs == lakes.crs
    assert found["elevation_m"].isna().all()
    assert found["glacier_distance_m"].isna().all()
    assert (found["contact"] == "unknown").all()
    assert (found[["sensors", "quality", "model", "model_sha256"]] == "").all(axis=None)
    for name, value in REVIEW_FIELDS.items():
        assert (found[name] == value).all()
    assert "elevation_m" not in lakes  # the table that came in is untouched


def test_a_review_that_is_there_stays():
    found = lake_attributes(LAKES.assign(name=["Imja", "", "Imja"]))
    assert found["name"].tolist() == ["Imja", "", "Imja"]


@pytest.mark.parametrize("lazy", [False, True])
def test_elevation_is_the_median_on_the_largest_outline(lazy):
    heights = dem()
    found = lake_attributes(LAKES, dem=heights.chunk({"y": 7, "x": 9}) if lazy else heights)
    # rows 10 to 21 of the larger outline of a, rows 30 to 39 of b
    assert found["elevation_m"].tolist() == [4015.5, 4034.5, 4015.5]
    assert found["elevation_m"].dtype == np.float64
    assert "2011-2015" in found.attrs["elevation_m"]


def test_elevation_passes_over_holes_in_the_dem_and_shores_that_are_high():
    values = np.full((60, 80), 5000, "float32")
    values[10:22, 10:22] = 4000
    values[10:12, 10:22] = np.nan
    values[12:14, 10:22] = 4900  # steep pixels at the shore
    found = lake_attributes(LAKES, dem=dem(values))
    assert found["elevation_m"].tolist() == [4000, 5000, 4000]


@pytest.mark.parametrize("name", ["nodata", "_FillValue"])
@pytest.mark.parametrize("lazy", [False, True])
def test_nodata_of_a_dem_is_no_height(name, lazy):
    values = np.full((60, 80), 4000, "int16")
    values[10:20, 10:22] = -32768  # most of lake a
    values[30:40, 40:50] = -32768  # all of lake b
    heights = dem(values, **{name: -32768})
    found = lake_attributes(LAKES, dem=heights.chunk({"y": 7, "x": 9}) if lazy else heights)["elevation_m"]
    assert found.to_numpy()[[0, 2]].tolist() == [4000, 4000]
    assert np.isnan(found.to_numpy()[1])


def test_elevation_of_a_dem_on_another_grid_and_turned_south_up():
    coarse = GeoBox.from_bbox(UTM.boundingbox.to_crs("EPSG:4326").bbox, "EPSG:4326", resolution=0.0003)
    values = np.full(coarse.shape, 4100, "float32")
    found = lake_attributes(LAKES, dem=dem(values, coarse))
    assert found["elevation_m"].tolist() == [4100] * 3
    turned = dem().isel(y=slice(None, None, -1))
    assert lake_attributes(LAKES, dem=turned)["elevation_m"].tolist() == [4015.5, 4034.5, 4015.5]


def test_a_lake_smaller_than_a_pixel_takes_the_pixel_it_lies_in_and_one_outside_none():
    tiny = shapely.box(WEST + 101, NORTH - 104, WEST + 103, NORTH - 102)  # no pixel's centre
    lakes = table(("a", 0, tiny), ("b", 0, square(-500, -500)))
    assert lake_attributes(lakes, dem=dem())["elevation_m"].to_numpy()[0] == 4010
    assert np.isnan(lake_attributes(lakes, dem=dem())["elevation_m"].to_numpy()[1])


def flagged_series():
    shape, dims = (2, 2), ("lake", "time")
    flags = {
        "flag_masks": np.array([1, 2, 4], "uint16"),
        "flag_meanings": "suspect outlier partial",
    }
    sensors = {"flag_values": np.array([0, 1, 2, 3], "uint8"), "flag_meanings": "unknown s1 s2 s1_and_s2"}
    return xr.Dataset(
        {
            "area": (dims, da.from_array(np.array([[1e4, 2e4], [3e4, np.nan]]), chunks=1)),
            "area_sigma": (dims, np.full(shape, 5.0)),
            "quality": (dims, np.array([[3, 0], [4, 0]], "uint16"), flags),
            "sensors": (dims, np.array([[1, 3], [2, 0]], "uint8"), sensors),
        },
        coords={"lake": ["b", "a"], "time": DATES},
        attrs={"model": "water-index", "model_sha256": ""},
    )


def test_a_series_is_joined_by_lake_and_date():
    found = lake_attributes(LAKES, flagged_series())
    assert found["lake_area_m2"].to_numpy()[[0, 1]].tolist() == [3e4, 1e4]
    assert np.isnan(found["lake_area_m2"].to_numpy()[2])
    assert found["lake_area_sigma_m2"].tolist() == [5.0] * 3
    assert found["lake_area_lower_m2"].isna().all()  # the series has none
    assert found["quality"].tolist() == ["partial", "suspect outlier", ""]
    assert found["sensors"].tolist() == ["s2", "s1", "unknown"]
    assert (found["model"] == "water-index").all()


def test_rows_that_the_series_does_not_have_are_empty():
    found = lake_attributes(LAKES, flagged_series().isel(time=[0], lake=[1]))
    assert found["lake_area_m2"].isna().tolist() == [False, True, True]
    assert found["sensors"].tolist() == ["s2", "", ""]


AREAS = [3e4, 1e4, np.nan]


@pytest.mark.parametrize(
    "moved",
    [
        lambda dates: dates.dt.tz_localize("UTC"),
        lambda dates: dates.dt.tz_localize("UTC").dt.tz_convert("Asia/Kathmandu"),
        lambda dates: dates + pd.Timedelta("1ns"),
        lambda dates: dates - pd.Timedelta("1ms"),
        lambda dates: dates.dt.as_unit("ms"),
    ],
)
def test_dates_of_other_software_are_the_same_dates(moved):
    lakes = LAKES.assign(time=moved(LAKES["time"]))
    found = lake_attributes(lakes, flagged_series().isel(time=[1, 0]), seg=mapped())
    np.testing.assert_array_equal(found["lake_area_m2"], AREAS)
    assert found["contact"].tolist() == ["no contact"] * 3
    assert found["time"].equals(lakes["time"])


def test_a_table_that_was_in_a_geopackage_finds_its_dates(tmp_path):
    series = flagged_series()
    fine = series["time"].to_numpy() + np.array([1_999_999, 123_456_789], "timedelta64[ns]")
    lakes = LAKES.assign(time=LAKES["time"].map(dict(zip(DATES, pd.DatetimeIndex(fine), strict=True))))
    back = geopandas.read_file(write_lakes(lakes, tmp_path / "a.gpkg"))
    assert (back["time"].to_numpy() != lakes["time"].to_numpy()).all()  # it keeps milliseconds
    found = lake_attributes(back, series.assign_coords(time=fine))
    np.testing.assert_array_equal(found["lake_area_m2"], AREAS)


def test_places_of_dates_are_those_of_a_naive_search():
    rng = np.random.default_rng(4)
    times = np.datetime64("2023-07-01", "ns") + rng.choice(10**4, 50, replace=False) * np.timedelta64(3, "ms")
    dates = np.append(rng.choice(times, 80) + rng.integers(-2_000_000, 2_000_000, 80), np.datetime64("NaT"))
    near = np.abs(dates[:, None] - times) <= np.timedelta64(1, "ms")
    expected = np.where(near.any(1), near.argmax(1), -1)
    assert 10 < (expected < 0).sum() < 70
    np.testing.assert_array_equal(date_places(pd.DatetimeIndex(times), dates), expected)
    assert date_places(pd.DatetimeIndex([]), dates).tolist() == [-1] * 81
    with pytest.raises(CubeError, match="2023-07-01 00:00:00 occurs twice"):
        date_places(DATES[[0, 1, 0]], dates)


def test_a_series_without_time_is_joined_by_lake():
    series = flagged_series().isel(time=0, drop=True)
    assert lake_attributes(LAKES, series)["lake_area_m2"].tolist() == [3e4, 1e4, 3e4]


def test_the_distance_to_a_glacier_is_geodesic_and_zero_where_they_touch():
    # one 1 km east of lake b along its parallel, in degrees, and one that shares an edge with lake a
    geod = Geod(ellps="WGS84")
    edge = geopandas.GeoSeries([shapely.Point(WEST + 500, NORTH - 350)], crs="EPSG:32645").to_crs(4326)[0]
    east = geod.fwd(edge.x, edge.y, 90, 1000)
    lower = geod.fwd(east[0], east[1], 180, 2000)
    upper = geod.fwd(east[0], east[1], 0, 2000)
    strip = shapely.Polygon([lower[:2], upper[:2], (upper[0] + 0.01, upper[1]), (lower[0] + 0.01, lower[1])])
    glaciers = geopandas.GeoDataFrame(geometry=[strip], crs="EPSG:4326")
    found = lake_attributes(LAKES, glaciers=glaciers)["glacier_distance_m"]
    assert found[1] == pytest.approx(1000, abs=1)
    assert found[0] == pytest.approx(1300, abs=5)
    touching = geopandas.GeoDataFrame(geometry=[square(10, 0), square(30, 40, 5)], crs="EPSG:32645")
    both = pd.concat([touching.to_crs(4326), glaciers])
    assert lake_attributes(LAKES, glaciers=both)["glacier_distance_m"].to_numpy() == pytest.approx(
        0, abs=0.01
    )


def test_the_distance_equals_a_naive_search_over_all_glaciers():
    rng = np.random.default_rng(3)
    spots = rng.uniform([400_000, 3_000_000], [600_000, 3_200_000], (40, 2))
    glaciers = geopandas.GeoDataFrame(geometry=shapely.buffer(shapely.points(spots), 800), crs="EPSG:32645")
    found = lake_attributes(LAKES, glaciers=glaciers)["glacier_distance_m"].to_numpy()
    naive = [min(shape.distance(glacier) for glacier in glaciers.geometry) for shape in LAKES.geometry]
    np.testing.assert_allclose(found, naive, rtol=2e-3)  # UTM itself is 0.04% off


def test_a_glacier_at_the_antipode_is_not_near():
    antipode = geopandas.GeoDataFrame(geometry=[shapely.box(-95, -29, -91, -26)], crs="EPSG:4326")
    assert lake_attributes(LAKES, glaciers=antipode)["glacier_distance_m"].isna().all()
    assert lake_attributes(LAKES, glaciers=antipode.iloc[:0])["glacier_distance_m"].isna().all()


def mapped(flags=0, lake_step=None):
    """Segmentation of the two dates with the lakes of the table, seen by Sentinel-2."""
    values = empty(2)
    values[:, 10:20, 10:20] = 1
    values[:, 30:40, 40:50] = 1
    values[1, 10:22, 10:22] = 1
    bits = np.full(values.shape, Flag.s2_used.value, "uint16") | np.uint16(flags)
    seg = lake_map(values, flags=bits)
    seg["flags"].attrs = flag_attrs()
    return seg


def contact(seg, lakes=LAKES):
    return lake_attributes(lakes, seg=seg)["contact"].tolist()


def test_ice_next_to_the_outline_on_the_same_date_is_contact():
    seg = mapped()
    seg["flags"][0, 15, 21] |= Flag.ice.value  # two pixels from lake a, at the first date only
    assert contact(seg) == ["ice contact", "no contact", "no contact"]
    assert contact(seg.chunk({"time": 1, "y": 9, "x": 11})) == ["ice contact", "no contact", "no contact"]
    moved = mapped()
    moved["flags"][0, 15, 22] |= Flag.ice.value  # three pixels: beyond its reach
    assert contact(moved) == ["no contact"] * 3


def test_ice_that_floats_on_the_lake_is_no_contact():
    seg = mapped()
    seg["flags"][:, 12:18, 12:18] |= Flag.ice.value
    assert contact(seg) == ["no contact"] * 3


@pytest.mark.parametrize("flag", [Flag.snow, Flag.cloud, Flag.failed_read])
def test_what_was_hidden_is_unknown_but_ice_that_was_seen_is_seen(flag):
    seg = mapped()
    seg["flags"][0, 15, 21] |= flag.value
    assert contact(seg) == ["unknown", "no contact", "no contact"]
    seg["flags"][0, 14, 21] |= Flag.ice.value
    assert contact(seg)[0] == "ice contact"


def test_ice_that_only_the_season_tells_of_is_not_seen():
    seg = mapped()
    seg["flags"][:] = Flag.s1_used.value | Flag.ice.value
    assert contact(seg) == ["unknown"] * 3


def test_a_lake_at_the_edge_of_the_grid_is_unknown_and_so_is_a_date_without_a_map():
    lakes = table(("a", 0, square(1, 10)), ("b", 0, square(500, 500)))
    values = empty(1)
    values[0, 1:11, 10:20] = 1
    seg = lake_map(values, flags=np.full(values.shape, Flag.s2_used.value))
    assert contact(seg, lakes) == ["unknown", "unknown"]
    assert contact(mapped().isel(time=[1]), LAKES) == ["unknown", "unknown", "no contact"]
    assert contact(mapped().drop_vars("flags")) == ["unknown"] * 3


def test_a_class_of_ice_is_taken_before_the_flags():
    seg = mapped(Flag.cloud.value)
    classes = np.zeros((2, 60, 80), "uint8")
    classes[0, 15, 20] = 2
    classes[1, 25, 45] = 255
    classes[1, 23, 15] = 255
    seg["classes"] = seg["lake"].copy(data=classes)
    seg["classes"].attrs = {
        "flag_values": np.array([0, 1, 2, 255], "uint8"),
        "flag_meanings": "land lake glacier_ice unobserved",
    }
    assert contact(seg) == ["ice contact", "no contact", "unknown"]


def test_a_map_without_time_speaks_of_every_row():
    seg = mapped().isel(time=1, drop=True)
    seg["flags"][15, 23] |= Flag.ice.value
    assert contact(seg, LAKES.iloc[[2]]) == ["ice contact"]


def test_an_empty_table_has_all_columns():
    found = lake_attributes(LAKES.iloc[:0], flagged_series(), seg=mapped(), dem=dem(), glaciers=LAKES)
    assert len(found) == 0
    assert {"elevation_m", "sensors", "glacier_distance_m", "contact", "comment"} <= set(found)


@pytest.mark.parametrize(
    ("lakes", "kwargs", "message"),
    [
        (LAKES.drop(columns="lake_id"), {}, "no lake_id; run track"),
        (LAKES.set_crs(None, allow_override=True), {}, "no CRS"),
        (LAKES, {"dem": dem(units="dm")}, "expected metres"),
        (LAKES, {"dem": dem().expand_dims("time")}, "expected rows and columns only"),
        (LAKES, {"series": flagged_series().assign_coords(lake=["x", "y"])}, "no lake of the table"),
        (LAKES.assign(time=pd.Timestamp("2020-01-01")), {"series": flagged_series()}, "no date of the table"),
        (LAKES, {"glaciers": LAKES.set_crs(None, allow_override=True)}, "glaciers have no CRS"),
        (
            table(("a", 0, square(0, 0)), ("b", 0, shapely.box(500_000, 9e6, 500_010, 9_000_010))),
            {"glaciers": LAKES},
            "split them by region",
        ),
    ],
)
def test_inputs_that_are_none_are_refused(lakes, kwargs, message):
    with pytest.raises(CubeError, match=message):
        lake_attributes(lakes, kwargs.pop("series", None), **kwargs)


@pytest.mark.parametrize("margin", [0, 2])
def test_a_window_holds_every_pixel_that_a_box_touches_and_a_margin(margin):
    rng = np.random.default_rng(5)
    corners = rng.uniform([WEST - 200, NORTH - 900], [WEST + 1000, NORTH + 100], (200, 2))
    for x, y in corners.round(1):
        wide, high = rng.uniform(1, 90, 2)
        rows, columns = window_around(UTM, (x, y, x + wide, y + high), margin)
        for found, size, low, top in (
            (columns, 80, (x - WEST) / 10, (x + wide - WEST) / 10),
            (rows, 60, (NORTH - y - high) / 10, (NORTH - y) / 10),
        ):
            pixels = np.arange(size)
            touched = pixels[(pixels + 1 + margin > low) & (pixels - margin < top)]
            assert np.array_equal(pixels[found], touched)


def test_windows_of_a_lazy_layer_are_those_of_the_same_layer_in_memory():
    rng = np.random.default_rng(2)
    layers = rng.integers(0, 9, (2, 60, 2100), dtype="uint8")
    starts = rng.integers(0, [50, 2080], (60, 2))
    windows = [(slice(int(r), int(r) + 7), slice(int(c), int(c) + 20)) for r, c in starts]
    windows.append((slice(60, 60), slice(2100, 2100)))  # beyond the edge there is nothing
    lazy = [da.from_array(layer, chunks=(13, 500)) for layer in layers]
    for found, window in zip(read_windows(lazy, windows), windows, strict=True):
        for part, layer in zip(found, layers, strict=True):
            np.testing.assert_array_equal(part, layer[window])
    assert read_windows(lazy, []) == []
