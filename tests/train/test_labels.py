"""Polygons and rasters become labels on a cube's own grid and dates, whatever they came as."""

from __future__ import annotations

import pickle

import dask
import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

import xglof
from label_cases import UTM, cube_on, drawn, lakes_on
from lake_maps import empty, lake_map, raising_scheduler
from xglof.errors import CubeError, TrainError
from xglof.train.labels import labels_of, rasterise

SUMMERS = ["2016-08-20", "2022-08-11", "2022-09-30"]
DATES = pd.to_datetime(["2016-09-01", "2022-09-01"])


def box(left: float, top: float, right: float, bottom: float) -> shapely.Polygon:
    """A rectangle in pixels of the grid."""
    (west, north), (east, south) = UTM.transform @ (left, top), UTM.transform @ (right, bottom)
    return shapely.box(west, south, east, north)


def frame(*shapes: shapely.Geometry, crs: str | None = "EPSG:32645", **columns) -> geopandas.GeoDataFrame:
    return geopandas.GeoDataFrame(columns, geometry=list(shapes), crs=crs)


@pytest.mark.parametrize("crs", [None, "EPSG:4326", "EPSG:32644", "ESRI:102025"])
def test_labels_equal_pixels_tried_one_by_one(crs: str | None) -> None:
    lakes = lakes_on(seed=4, crs=crs)
    label = rasterise(lakes, cube_on(chunks={"y": 17, "x": 33}))
    inside, near = drawn(lakes)
    assert label.dtype == np.uint8
    assert near.sum() < 20
    assert (label.values[~near] == inside[~near]).all()
    assert 300 < label.values.sum() < 4000


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(7, 60),
    columns=st.integers(7, 80),
    all_touched=st.booleans(),
)
def test_blocks_change_nothing(seed: int, rows: int, columns: int, all_touched: bool) -> None:
    lakes = lakes_on(seed=seed, crs="EPSG:4326")
    whole = rasterise(lakes, cube_on(), all_touched=all_touched)
    parts = rasterise(lakes, cube_on(chunks={"y": rows, "x": columns}), all_touched=all_touched)
    assert parts.chunks != whole.chunks or (rows, columns) == (60, 80)
    xr.testing.assert_identical(whole.compute(), parts.compute())


def test_all_touched_takes_every_pixel_that_a_polygon_enters() -> None:
    lakes = lakes_on(seed=2)
    label = rasterise(lakes, cube_on(), all_touched=True)
    union = shapely.union_all(lakes.geometry)
    entered = np.zeros(UTM.shape, bool)
    for row in range(60):
        for column in range(80):
            entered[row, column] = shapely.intersects(union, box(column, row, column + 1, row + 1))
    assert (label.values == entered).all()
    centres = rasterise(lakes, cube_on())
    assert label.values.sum() > 1.1 * centres.values.sum()
    assert (label.attrs["all_touched"], centres.attrs["all_touched"]) == (1, 0)


def test_an_edge_along_pixels_touches_one_side_of_it_after_a_way_through_another_crs() -> None:
    lakes = frame(box(10, 20, 15, 25), box(79, 59, 90, 70))
    for crs in ("EPSG:32645", "EPSG:4326", "EPSG:32644"):
        label = rasterise(lakes.to_crs(crs), cube_on(), all_touched=True)
        assert label.values.sum() == 26
        assert label.values[20:25, 10:15].all()


def test_labels_are_lazy_and_on_the_grid_of_the_cube() -> None:
    cube = cube_on(times=SUMMERS, chunks={"y": 25, "x": 40})
    with raising_scheduler():
        label = rasterise(lakes_on(), cube)
    assert label.chunks == ((25, 25, 10), (40, 40))
    assert label.odc.geobox == cube.odc.geobox
    assert label.attrs["source"] == "a GeoDataFrame of 6 rows"
    assert label.attrs["polygons"] == 6
    xr.testing.assert_equal(pickle.loads(pickle.dumps(label)), label)  # noqa: S301
    again = rasterise(lakes_on(), cube)
    assert again.data.name == label.data.name


def test_rows_that_run_north() -> None:
    lakes, cube = lakes_on(seed=3), cube_on()
    turned = cube.isel(y=slice(None, None, -1))
    assert turned.odc.geobox.transform.e > 0
    xr.testing.assert_equal(
        rasterise(lakes, turned).compute().isel(y=slice(None, None, -1)), rasterise(lakes, cube).compute()
    )
    assert (rasterise(lakes, turned)["y"] == turned["y"]).all()


@pytest.mark.parametrize("name", ["lakes.gpkg", "lakes.shp", "lakes.parquet", "lakes.geojson"])
def test_files_of_any_kind(name: str, tmp_path) -> None:
    lakes = lakes_on(crs="EPSG:4326")
    if name.endswith("parquet"):
        lakes.to_parquet(tmp_path / name)
    else:
        lakes.to_file(tmp_path / name)
    cube = cube_on()
    label = labels_of(tmp_path / name, cube)
    assert label.attrs["source"] == name
    assert (label.values == rasterise(lakes, cube).values).all()
    assert (labels_of(str(tmp_path / name), cube, all_touched=True).values >= label.values).all()


def test_far_away_polygons_do_no_harm() -> None:
    world = [shapely.box(-180, -90, -170, -80), shapely.box(86.99, 27, 87, 28), shapely.box(10, 46, 11, 47)]
    lakes = lakes_on(crs="EPSG:4326")
    all_of_them = geopandas.GeoDataFrame(geometry=[*world, *lakes.geometry], crs="EPSG:4326")
    label = rasterise(all_of_them, cube_on())
    assert label.attrs["polygons"] == 6
    assert (label.values == rasterise(lakes, cube_on()).values).all()


def test_a_cube_across_180_degrees() -> None:
    grid = GeoBox((60, 80), Affine(10, 0, 832_700, 0, -10, 4_500_000), "EPSG:32760")
    west, _, east, _ = grid.extent.to_crs("EPSG:4326").boundingbox.bbox
    assert (west, east) != (-180, 180)
    lakes = lakes_on(grid, seed=4)
    expected = rasterise(lakes, cube_on(grid)).values
    assert expected.sum() > 100
    degrees = lakes.to_crs("EPSG:4326")
    positive = degrees.set_geometry(
        shapely.transform(
            degrees.geometry.to_numpy(), lambda xy: np.column_stack([xy[:, 0] % 360, xy[:, 1]])
        ),
        crs="EPSG:4326",
    )
    assert (rasterise(degrees, cube_on(grid)).values == expected).all()
    assert (rasterise(positive, cube_on(grid)).values == expected).all()


def test_polygons_that_cross_themselves_are_repaired_and_counted() -> None:
    corners = [UTM.transform @ each for each in ((10, 10), (30, 30), (30, 10), (10, 30))]
    bow_tie = shapely.Polygon(corners)
    assert not bow_tie.is_valid
    label = rasterise(frame(bow_tie, box(50, 10, 54, 14)), cube_on())
    assert label.attrs["repaired"] == 1
    assert label.values[:, :40].sum() == pytest.approx(200, abs=25)
    assert label.values[20, 12] == label.values[20, 28] == 1  # both wings
    assert label.values[12, 20] == label.values[28, 20] == 0
    assert label.values[10:14, 50:54].all()


@pytest.mark.parametrize(
    ("lakes", "message"),
    [
        (frame(box(1, 1, 5, 5), crs=None), "has no CRS; set the one its numbers are in"),
        (
            frame(shapely.box(0, 0, 1, 1), crs="EPSG:4326"),
            r"none of a GeoDataFrame of 1 rows lies within the cube.*86\.9",
        ),
        (frame(box(1, 1, 5, 5), crs="EPSG:32644"), r"none of .*check the file and its CRS \(EPSG:32644\)"),
        (frame(), "none of a GeoDataFrame of 0 rows"),
        (frame(box(1, 1, 5, 5), shapely.Point(UTM.transform @ (3, 3))), "1 of 2 geometries are no polygons"),
        (frame(box(1, 1, 5, 5), None), "1 of 2 geometries are no polygons"),
        (frame(box(1, 1, 5, 5), shapely.Polygon()), "1 of 2 geometries are no polygons"),
        (frame(shapely.Polygon([UTM.transform @ (5, 5)] * 4)), "go around nothing"),
        (3, "polygons is a int; expected a GeoDataFrame"),
    ],
)
def test_polygons_that_are_no_labels(lakes: object, message: str) -> None:
    with pytest.raises(TrainError, match=message):
        rasterise(lakes, cube_on())


def test_files_that_are_no_labels(tmp_path) -> None:
    with pytest.raises(TrainError, match="there is no file"):
        labels_of(tmp_path / "absent.gpkg", cube_on())
    for name in ("torn.gpkg", "torn.parquet"):
        (tmp_path / name).write_bytes(b"not what it says")
        with pytest.raises(TrainError, match="can't be read as polygons"):
            labels_of(tmp_path / name, cube_on())
    pd.DataFrame({"a": [1]}).to_csv(tmp_path / "table.csv")
    with pytest.raises(TrainError, match="without geometries"):
        labels_of(tmp_path / "table.csv", cube_on())


def test_each_date_takes_the_nearest_inventory_or_is_ignored() -> None:
    lakes = frame(box(0, 0, 4, 4), box(10, 10, 20, 20), seen=DATES)
    cube = cube_on(times=[*SUMMERS, "2019-08-01"], chunks={"time": 2, "y": 30})
    with raising_scheduler():
        label = rasterise(lakes, cube, dates="seen", tolerance="45D")
    assert label.dims == ("time", "y", "x")
    assert (label["time"] == cube["time"]).all()
    values = label.values
    assert values[0].sum() == 16
    assert values[1].sum() == values[2].sum() == 100
    assert (values[3] == 255).all()
    assert label.attrs["ignored_dates"] == 1
    words = rasterise(lakes.assign(seen=["2016-09-01", "2022-09-01"]), cube, dates="seen", tolerance="45D")
    assert (words.values == values).all()


def test_a_lake_that_drained_is_land_at_the_dates_of_the_inventory_that_lack_it() -> None:
    """The inventory of 2022 has no lake within the cube: it says that there is none, and is not silent."""
    far = shapely.box(600_000, 3_080_000, 600_100, 3_080_100)
    lakes = frame(box(10, 10, 20, 20), far, seen=DATES)
    cube = cube_on(times=["2016-08-20", "2022-08-11", "2019-08-01"], chunks={"y": 30})
    label = rasterise(lakes, cube, dates="seen", tolerance="10000D")
    assert label.values.sum(axis=(1, 2)).tolist() == [100, 0, 100]
    assert (label.attrs["lakeless_dates"], label.attrs["ignored_dates"]) == (1, 0)
    silent = frame(box(10, 10, 20, 20), far, seen=[DATES[0], pd.NaT])
    again = rasterise(silent, cube, dates="seen", tolerance="10000D")
    assert again.values.sum(axis=(1, 2)).tolist() == [100, 100, 100]
    near = rasterise(lakes, cube, dates="seen", tolerance="45D")
    assert [np.unique(each).tolist() for each in near.values] == [[0, 1], [0], [255]]


@pytest.mark.parametrize(
    ("columns", "arguments", "message"),
    [
        ({"seen": DATES}, {"dates": "seen"}, "needs tolerance="),
        ({"seen": DATES}, {"tolerance": "45D"}, "without dates="),
        ({"seen": DATES}, {"dates": "date", "tolerance": "45D"}, "no column 'date', but seen, geometry"),
        ({"seen": [2016, 2022]}, {"dates": "seen", "tolerance": "45D"}, "holds numbers such as 2016"),
        ({"seen": ["early", "late"]}, {"dates": "seen", "tolerance": "45D"}, "holds no dates"),
        (
            {"seen": [None, DATES[0]]},
            {"dates": "seen", "tolerance": "45D"},
            "1 polygons within the cube have no",
        ),
        ({"seen": DATES}, {"dates": "seen", "tolerance": "2D"}, r"no date of .* is within 2D of one"),
    ],
)
def test_dates_that_are_none(columns: dict, arguments: dict, message: str) -> None:
    lakes = frame(box(0, 0, 4, 4), box(10, 10, 20, 20), **columns)
    with pytest.raises(TrainError, match=message):
        rasterise(lakes, cube_on(times=SUMMERS), **arguments)


def test_dates_need_a_cube_with_time() -> None:
    with pytest.raises(TrainError, match="needs a cube with 'time'"):
        rasterise(frame(box(0, 0, 4, 4), seen=DATES[:1]), cube_on(), dates="seen", tolerance="45D")


def some_map(steps: int | None = None, seed: int = 1) -> np.ndarray:
    values = empty(steps)
    values[:] = np.random.default_rng(seed).choice([0, 1, 255], values.shape, p=[0.6, 0.3, 0.1])
    return values


@pytest.mark.parametrize("chunks", [None, {"y": 20, "x": 30}])
def test_a_raster_of_lakes_is_taken_as_it_is(chunks: dict | None) -> None:
    truth = lake_map(some_map(3), chunks=chunks)
    cube = cube_on(times=truth["time"].values[1:], chunks={"y": 30}).isel(y=slice(10, 50), x=slice(7, 60))
    with raising_scheduler():
        label = labels_of(truth, cube)
    assert label.odc.geobox == cube.odc.geobox
    assert (label.values == some_map(3)[1:, 10:50, 7:60]).all()
    assert (labels_of(truth["lake"], cube).values == label.values).all()
    turned = cube.isel(y=slice(None, None, -1))
    assert (labels_of(truth, turned).values == label.values[:, ::-1]).all()
    assert (labels_of(truth == 1, cube).values == (label.values == 1)).all()


def test_a_raster_without_time_holds_for_all_dates() -> None:
    label = labels_of(lake_map(some_map()), cube_on(times=SUMMERS))
    assert label.dims == ("y", "x")
    one = labels_of(lake_map(some_map(2)), cube_on(times=["2023-07-11"]).isel(time=0))
    assert (one.values == some_map(2)[1]).all()


def test_a_store_is_opened_as_the_cube_is(tmp_path) -> None:
    truth = lake_map(some_map(2), chunks={"y": 20, "x": 30})
    xglof.write_zarr(truth, tmp_path / "lake.zarr")
    cube = cube_on(times=truth["time"].values)
    with raising_scheduler():
        in_dask = labels_of(tmp_path / "lake.zarr", cube.chunk())
        in_file = labels_of(str(tmp_path / "lake.zarr"), cube)
    assert in_dask.chunks is not None
    assert in_file.chunks is None
    assert not in_file.variable._in_memory
    for label in (in_dask, in_file):
        assert (label.values == some_map(2)).all()


def test_a_raster_elsewhere_is_refused() -> None:
    truth = lake_map(some_map())
    other = GeoBox((60, 80), Affine(10, 0, 497_005, 0, -10, 3_080_000), "EPSG:32645")
    with pytest.raises(TrainError, match=r"label\.odc\.reproject\(cube\.odc\.geobox, resampling='nearest'\)"):
        labels_of(truth, cube_on(other))
    elsewhere = GeoBox(UTM.shape, UTM.transform, "EPSG:32644")
    with pytest.raises(TrainError, match=r"EPSG:32645.* is not the cube's \(EPSG:32644"):
        labels_of(truth, cube_on(elsewhere))
    coarse = GeoBox((30, 40), Affine(20, 0, 497_000, 0, -20, 3_080_000), "EPSG:32645")
    with pytest.raises(TrainError, match="20 wide"):
        labels_of(truth, cube_on(coarse))
    beside = GeoBox((60, 80), Affine(10, 0, 497_100, 0, -10, 3_080_000), "EPSG:32645")
    with pytest.raises(TrainError, match="does not cover the cube"):
        labels_of(truth, cube_on(beside))


def test_dates_that_are_not_labelled_are_named() -> None:
    with pytest.raises(TrainError, match=r"lacks 2 of the cube's 3 dates \(2016-08-20"):
        labels_of(lake_map(some_map(1), first="2022-08-11"), cube_on(times=SUMMERS))
    with pytest.raises(TrainError, match="the label has dates and the cube none"):
        labels_of(lake_map(some_map(2)), cube_on())


def test_other_values_and_layers_are_refused() -> None:
    values = some_map()
    values[3, 4] = 7
    with pytest.raises(CubeError, match=r"holds \[7\]"):
        labels_of(lake_map(values), cube_on())
    lazily = labels_of(lake_map(values, chunks={"y": 20}), cube_on())
    with pytest.raises(CubeError, match=r"holds \[7\]"), dask.config.set(scheduler="sync"):
        lazily.compute()
    with pytest.raises(CubeError, match="expected 'lake'"):
        labels_of(lake_map(some_map()).rename(lake="water"), cube_on())
    with pytest.raises(CubeError, match="expected uint8"):
        labels_of(lake_map(some_map()).astype("float32"), cube_on())
