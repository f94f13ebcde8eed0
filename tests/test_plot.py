from __future__ import annotations

import subprocess
import sys

import geopandas
import numpy as np
import pytest
import xarray as xr

from lake_maps import UTM, lake_map
from xglof.cube.flags import Flag
from xglof.errors import CubeError
from xglof.lakes import find_alerts, find_lakes, lake_area
from xglof.plot import area_series, map_lakes, overview, true_colour
from xglof.plot.labels import spread
from xglof.plot.summary import true_areas


@pytest.fixture
def run():
    """A simulated run: a lake that grows, one that drains after the fourth date, some cloud and ice."""
    truth = np.zeros((6, 60, 80), "uint8")
    for step in range(6):
        truth[step, 10:25, 10 : 20 + 3 * step] = 1
    truth[:4, 40:52, 50:66] = 1
    truth[4:, 48:52, 50:54] = 1
    flags = np.zeros(truth.shape, "uint16")
    flags[1, :, 45:] = Flag.cloud
    flags[5, 40:52, 50:66] = Flag.ice
    lake = np.where(flags & Flag.cloud, 255, truth).astype("uint8")
    seg = lake_map(lake, flags=flags)
    probability = np.where(lake == 255, np.nan, 0.1 + 0.8 * truth).astype("float32")
    seg["lake_probability"] = seg["lake"].copy(data=probability)
    ground = np.random.default_rng(0).integers(800, 1600, truth.shape)
    reflectance = np.where(truth == 1, 400, ground)
    reflectance[:, :3] = 0
    bands = {name: seg["lake"].copy(data=(reflectance * f).astype("uint16")) for name, f in BANDS.items()}
    cube = xr.Dataset(bands).assign(flags=seg["flags"])
    return cube, seg, find_lakes(lake_map(truth))


BANDS = {"B02": 1.0, "B03": 0.9, "B04": 0.8}


def texts(figure):
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text)]


def test_true_colour_is_stretched_the_same_for_every_scene(run):
    step = run[0].isel(time=0)
    ax = true_colour(step)
    image = np.asarray(ax.images[0].get_array())
    assert image.shape == (60, 80, 3)
    np.testing.assert_allclose(image[0, 0], 0.87)  # no data
    red = step["B04"].values[30, 5] / 10_000
    np.testing.assert_allclose(image[30, 5, 0], (red / 0.3) ** (1 / 1.4))
    np.testing.assert_allclose(ax.images[0].get_extent(), [497.0, 497.8, 3079.4, 3080.0])
    assert ax.get_xlabel() == "easting, km"
    assert "100 m" in texts(ax.figure)


def test_true_colour_is_north_up_and_reads_aliases(run):
    step = run[0].isel(time=0).rename(B04="red", B03="green", B02="blue")
    turned = true_colour(step.isel(y=slice(None, None, -1)))
    np.testing.assert_array_equal(turned.images[0].get_array(), true_colour(step).images[0].get_array())


def test_true_colour_refuses_what_it_cannot_draw(run):
    with pytest.raises(CubeError, match="missing: B03"):
        true_colour(run[0].isel(time=0).drop_vars("B03"))
    with pytest.raises(CubeError, match="one date"):
        true_colour(run[0])


def test_outlines_lie_on_the_lakes_of_the_date(run):
    from matplotlib.collections import LineCollection

    cube, seg, truth = run
    lakes = find_lakes(seg)
    date = cube["time"].values[1]
    ax = map_lakes(cube, lakes.to_crs("EPSG:4326"), truth, seg, date)
    mapped, true = (c for c in ax.collections if isinstance(c, LineCollection))
    assert len(mapped.get_segments()) == 1  # the other is under cloud
    assert len(true.get_segments()) == 2
    x, y = mapped.get_segments()[0].T
    np.testing.assert_allclose(
        [x.min(), x.max(), y.min(), y.max()], [497.1, 497.23, 3079.75, 3079.9], atol=1e-5
    )
    assert len(ax.collections) == 3  # and the hatching
    np.testing.assert_allclose(ax.get_xlim(), [497.0, 497.8])


def test_a_map_needs_one_date_that_is_there(run):
    cube, seg, truth = run
    assert map_lakes(cube, truth, time="2023-07-11", seg=seg).images
    assert map_lakes(cube.isel(time=[2]), truth).images
    for time, message in (
        (None, "6 observations"),
        ("2023-07", "4 observations"),
        ("2020-01-01", "expected one of"),
    ):
        with pytest.raises(CubeError, match=message):
            map_lakes(cube, truth, time=time)
    bare = geopandas.GeoDataFrame(geometry=truth.geometry.to_numpy())
    with pytest.raises(CubeError, match="set_crs"):
        map_lakes(cube, bare, time=cube["time"].values[0])


def test_a_series_draws_values_bounds_and_gaps(run):
    _, seg, _ = run
    ts = lake_area(seg).compute()
    drained = str(ts["lake"].values[1])
    ax = area_series(ts, truth=ts["area"], emphasise=drained)
    assert ax.get_ylabel() == "lake area, km²"
    markers = {
        line.get_marker(): line.get_xydata() for line in ax.lines if line.get_markerfacecolor() == "white"
    }
    frozen, unseen = (
        [
            xy
            for line in ax.lines
            if line.get_marker() == m and line.get_markerfacecolor() == "white"
            for xy in line.get_xydata()
        ]
        for m in "so"
    )
    assert set(markers) == {"s", "o"}
    assert len(frozen) == 1  # the drained lake at the last date
    assert len(unseen) == 1  # and under cloud at the second
    label = next(t for t in ax.texts if t.get_text() == drained)
    assert label.get_fontweight() == "bold"


def test_small_lakes_are_drawn_in_square_metres_and_many_are_grey():
    values = np.zeros((2, 60, 80), "uint8")
    values[:, 2:50:6, 2:70:9] = 1
    ts = lake_area(lake_map(values), buffer_px=1).compute()
    ax = area_series(ts)
    assert ax.get_ylabel() == "lake area, m²"
    assert f"grey: {ts.sizes['lake'] - 6} smaller lakes" in texts(ax.figure)
    with pytest.raises(CubeError, match="no lake 'x'"):
        area_series(ts, emphasise="x")
    with pytest.raises(CubeError, match="no time"):
        area_series(ts.isel(time=0))


@pytest.mark.parametrize("empty", ["lakes", "times"])
def test_series_without_lakes_or_dates_are_drawn_empty(run, empty):
    ts = lake_area(run[1]).compute()
    assert area_series(ts.isel({"lake" if empty == "lakes" else "time": slice(0, 0)})).get_ylabel()


def test_labels_keep_their_distance_and_their_order():
    heights = spread([0.0, 0.0, 0.01, 0.5, 0.99, 1.0], 0.1)
    assert (np.diff(heights) >= 0.1 - 1e-12).all()
    assert heights[3] == 0.5
    assert heights[0] >= 0
    assert heights[-1] <= 1


def test_true_areas_are_those_of_the_lakes_they_cover(run):
    _, seg, truth = run
    lakes = find_lakes(seg)
    ts = lake_area(seg, lakes).compute()
    found = true_areas(lakes, truth.to_crs("EPSG:4326"), ts)
    assert found["lake"].values.tolist() == ts["lake"].values.tolist()
    np.testing.assert_allclose(found[0] / found[0, 0], np.arange(10, 26, 3) / 10, rtol=1e-5)
    np.testing.assert_allclose(found[1] / found[1, 0], [1, 1, 1, 1, 1 / 12, 1 / 12], rtol=1e-5)
    seconds = ts.assign_coords(time=ts["time"].values.astype("datetime64[s]"))
    np.testing.assert_array_equal(true_areas(lakes, truth, seconds), true_areas(lakes, truth, ts))
    assert true_areas(lakes, truth.drop(columns="area_m2"), ts) is None


def test_the_overview_shows_the_clearest_alert_and_its_caveat(run, tmp_path):
    cube, seg, truth = run
    lakes = find_lakes(seg)
    ts = lake_area(seg, lakes).compute()
    caveat = "demonstration model trained on simulated scenes"
    path = tmp_path / "overview.png"
    alerts = find_alerts(ts)
    figure = overview(
        cube,
        seg,
        lakes,
        ts,
        truth_lakes=truth,
        path=path,
        alerts=alerts,
        title="Simulated valley",
        caveat=caveat,
    )
    written = texts(figure)
    assert any(caveat in text for text in written)
    assert "2023-07-31, before the drainage" in written
    assert "2023-08-10, after the drainage" in written
    assert any("drainage, provisional, between 2023-07-31 and 2023-08-10" in text for text in written)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert int.from_bytes(path.read_bytes()[16:20], "big") == 1600


def test_the_overview_without_an_alert_or_truth_shows_first_and_last(run):
    cube, seg, _ = run
    part = {"time": slice(0, 3)}
    seg = seg.isel(part)
    lakes = find_lakes(seg)
    figure = overview(cube.isel(part), seg, lakes, lake_area(seg, lakes))
    written = texts(figure)
    assert "true outline" not in written
    assert "2023-07-01" in written


def test_without_optical_bands_radar_is_the_ground(run):
    _, seg, lakes = run
    decibels = np.where(seg["lake"] == 1, -20, -5).astype("float32")
    decibels[:, :, :4] = np.nan
    radar = xr.Dataset({"VV": seg["lake"].copy(data=decibels)})
    ax = map_lakes(radar, lakes, time="2023-07-01")
    image = np.asarray(ax.images[0].get_array())
    np.testing.assert_allclose(image[30, 0], 0.87)  # no data
    np.testing.assert_allclose([image[30, 30], image[15, 15]], [0.8, 0.2], rtol=1e-6)  # of -25 to 0 dB
    assert "over radar (VV)" in " ".join(texts(overview(radar, seg, lakes, lake_area(seg, lakes))))


def test_without_any_picture_the_ground_is_plain(run):
    cube, seg, lakes = run
    figure = overview(cube[["flags"]], seg, lakes, lake_area(seg, lakes))
    assert "no picture of the ground" in " ".join(texts(figure))
    assert np.unique(np.asarray(figure.axes[0].images[0].get_array())) == [0.87]
    with pytest.raises(CubeError, match="no variable with a grid"):
        map_lakes(xr.Dataset({"sun": 3.0}), lakes)


def test_degrees_are_drawn_in_proportion():
    from odc.geo.geobox import GeoBox

    grid = GeoBox.from_bbox((86.9, 59.9, 87.0, 60.0), "EPSG:4326", resolution=0.01)
    step = lake_map(np.ones((10, 10)), grid)["lake"].astype("uint16")
    ax = true_colour(xr.Dataset(dict.fromkeys(BANDS, step)))
    assert ax.get_xlabel() == "longitude, °E"
    assert ax.get_aspect() == pytest.approx(2, rel=0.01)  # a degree of longitude is half as long at 60 N


def test_large_scenes_are_thinned_before_they_are_read():
    step = lake_map(np.ones((10, 2500)), UTM.zoom_to((10, 2500)))["lake"].astype("uint16")
    assert true_colour(xr.Dataset(dict.fromkeys(BANDS, step))).images[0].get_array().shape == (4, 834, 3)


def test_drawing_leaves_pyplot_alone():
    code = "import sys, xglof.plot; print('matplotlib.pyplot' in sys.modules, 'matplotlib' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]
