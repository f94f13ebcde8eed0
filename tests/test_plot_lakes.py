"""Maps with ids and veils, years side by side, true areas of tracked lakes, the interactive map."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
import xarray as xr
from geopandas.testing import assert_geodataframe_equal
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex

from lake_maps import lake_map
from xglof.cube.flags import Flag
from xglof.errors import CubeError
from xglof.lakes import find_lakes, lake_area
from xglof.lakes.tracking import track
from xglof.plot import explore, map_lakes, small_multiples
from xglof.plot.labels import write_names
from xglof.plot.maps import MODEL_COLOUR
from xglof.plot.summary import true_areas
from xglof.plot.years import FIRST_COLOUR, lake_window

DATES = np.array(
    ["2021-03-01", "2021-07-01", "2021-09-01", "2022-08-01", "2022-09-01", "2023-01-10"], "datetime64[ns]"
)


@pytest.fixture
def run():
    """A lake that grows by two columns a date and a small one beside it; cloud on the date of 2022-09."""
    lake = np.zeros((6, 60, 80), "uint8")
    for step in range(6):
        lake[step, 20:36, 20 : 30 + 2 * step] = 1
    lake[:, 50:54, 60:64] = 1
    flags = np.zeros(lake.shape, "uint16")
    flags[4, :40] = Flag.cloud
    lake[4, :40] = 255
    seg = lake_map(lake, flags=flags).assign_coords(time=DATES)
    band = seg["lake"].copy(data=np.where(lake == 1, 400, 1200).astype("uint16"))
    cube = xr.Dataset(dict.fromkeys(("B02", "B03", "B04"), band)).assign(flags=seg["flags"])
    return cube, seg, track(find_lakes(seg))


def outlines(ax, colour):
    return [c for c in ax.collections if isinstance(c, LineCollection) and to_hex(c.get_color()[0]) == colour]


def test_ids_are_written_level_with_their_lakes(run):
    cube, seg, lakes = run
    ax = map_lakes(cube, lakes, seg=seg, time=DATES[0], label=True)
    written = {text.get_text(): text for text in ax.texts if text.get_text().startswith("GL")}
    assert set(written) == set(lakes["lake_id"])
    for name, text in written.items():
        row = lakes[(lakes["lake_id"] == name) & (lakes["time"] == DATES[0])].geometry.iloc[0]
        assert row.contains(shapely.Point(np.multiply(text.xy, 1000)))
    name = str(lakes["lake_id"].iloc[-1])
    texts = [t.get_text() for t in map_lakes(cube, lakes, time=DATES[0], label=[name]).texts]
    assert [text for text in texts if text.startswith("GL")] == [name]
    with pytest.raises(CubeError, match="give those that track"):
        map_lakes(cube, lakes.drop(columns="lake_id"), time=DATES[0], label=True)


def test_names_do_not_overlap():
    from xglof.plot.maps import new_axes

    ax = new_axes(None, (7, 7))
    write_names(ax, [(f"lake {i}", x, 0.5 + 0.001 * i) for i, x in enumerate((0.4, 0.41, 0.42, 0.6, 0.61))])
    heights = sorted((text.xyann[0], text.xyann[1]) for text in ax.texts)
    left, right = ([y for x, y in heights if x == side] for side in (0.02, 0.98))
    assert len(left) == 3
    assert len(right) == 2
    assert np.diff(left).min() >= 0.06 - 1e-9
    write_names(ax, [("outside", 2.0, 0.5)])
    assert "outside" not in [text.get_text() for text in ax.texts]


def test_what_was_not_requested_is_veiled_but_not_hatched(run):
    cube, seg, lakes = run
    lake, flags = seg["lake"].values.copy(), seg["flags"].values.copy()
    lake[:, :, 70:] = 255
    flags[:, :, 70:] |= np.uint16(Flag.not_requested)
    seg = seg.assign(lake=seg["lake"].copy(data=lake), flags=seg["flags"].copy(data=flags))

    def hatches(date):
        ax = map_lakes(cube, lakes, seg=seg, time=date)
        veils = [c for c in ax.collections if not isinstance(c, LineCollection)]
        key = [text.get_text() for text in ax.figure.legends[0].get_texts()]
        return [c.hatches for c in veils], key

    assert hatches(DATES[0]) == ([[""]], ["mapped outline", "not requested"])
    assert hatches(DATES[4]) == ([[""], ["////"]], ["mapped outline", "unobserved", "not requested"])
    ax = map_lakes(cube, lakes, seg=seg[["lake"]], time=DATES[0])  # without flags all was requested
    assert [c.hatches for c in ax.collections if not isinstance(c, LineCollection)] == [["////"]]


def test_a_panel_a_year_shows_its_clearest_date_in_the_season(run):
    cube, seg, lakes = run
    figure = small_multiples(cube, lakes, seg)
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "2021-09-01",  # the latest of two clear ones; not March
        "2022-08-01",  # not the cloudy September
        "2023-01-10, outside the season",
    ]
    assert [len(outlines(ax, FIRST_COLOUR)) for ax in figure.axes] == [0, 1, 1]
    first = outlines(figure.axes[1], FIRST_COLOUR)[0].get_segments()
    solid = outlines(figure.axes[1], MODEL_COLOUR)[0].get_segments()
    east = [max(ring[:, 0].max() for ring in rings if ring[:, 0].max() < 497.55) for rings in (first, solid)]
    np.testing.assert_allclose(east, [497.34, 497.36])
    key = [text.get_text() for text in figure.legends[0].get_texts()]
    assert key == ["mapped outline", "outline of 2021-09-01", "unobserved"]
    assert len(small_multiples(cube, lakes, years=[2022]).axes) == 1


def test_years_of_one_lake_are_cut_to_a_window_around_all_its_outlines(run):
    cube, seg, lakes = run
    large = str(lakes.loc[lakes.geometry.area.idxmax(), "lake_id"])
    figure = small_multiples(cube, lakes, seg, lake=large)
    extents = {tuple(np.round([*ax.get_xlim(), *ax.get_ylim()], 3)) for ax in figure.axes}
    assert len(extents) == 1
    west, east, south, north = extents.pop()
    own = lakes[lakes["lake_id"] == large].total_bounds / 1000
    assert west < own[0]
    assert south < own[1]
    assert east > own[2]
    assert north > own[3]
    assert north - south < 0.6
    assert "GL" in figure.get_suptitle()
    window = lake_window(lakes.to_crs("EPSG:4326"), large, cube.odc.geobox)
    np.testing.assert_allclose(window, lake_window(lakes, large, cube.odc.geobox), atol=0.5)


def test_years_that_cannot_be_drawn_are_refused(run):
    cube, _, lakes = run
    with pytest.raises(CubeError, match="no date in"):
        small_multiples(cube, lakes, years=[1999])
    with pytest.raises(CubeError, match="no polygon has the lake_id 'x'"):
        small_multiples(cube, lakes, lake="x")
    with pytest.raises(CubeError, match="no time"):
        small_multiples(cube.isel(time=0), lakes)
    far = lakes.set_geometry(lakes.geometry.translate(1e5, 0))
    with pytest.raises(CubeError, match="outside the cube"):
        small_multiples(cube, far, lake=str(far["lake_id"].iloc[0]))


def test_a_part_that_split_off_has_its_own_true_area():
    lake = np.zeros((3, 60, 80), "uint8")
    lake[:, 20:30, 10:50] = 1
    lake[1:, 20:30, 35:40] = 0  # two parts from the second date on
    seg = lake_map(lake)
    lakes = track(find_lakes(seg))
    ts = lake_area(seg, lakes).compute()
    found = true_areas(lakes, find_lakes(seg), ts)
    parent, part = (lakes["lake_id"].iloc[0], lakes["lake_id"].iloc[2])
    assert parent != part
    np.testing.assert_allclose(found.sel(lake=parent) / 100, [400, 250, 250], rtol=2e-3)
    np.testing.assert_allclose(found.sel(lake=part) / 100, [0, 100, 100], rtol=2e-3)


def test_the_interactive_map_tells_in_words(run, monkeypatch):
    pytest.importorskip("folium", reason="folium is not installed")
    _, _, lakes = run
    before = lakes.copy()
    shown = explore(lakes, tiles=None)
    html = shown.get_root().render()
    assert "2021-07-01" in html
    assert str(lakes["lake_id"].iloc[0]) in html
    assert "area_km2" in html
    assert "1625097600" not in html  # dates as numbers
    assert_geodataframe_equal(lakes, before)
    assert explore(lakes, tiles=None, column="lake_id", legend=False) is not None
    with pytest.raises(CubeError, match="set_crs"):
        explore(lakes.set_crs(None, allow_override=True))
    monkeypatch.setattr("xglof.plot.interactive.find_spec", lambda name: None)
    with pytest.raises(CubeError, match="pip install folium mapclassify"):
        explore(lakes)


def test_degrees_have_windows_too():
    from odc.geo.geobox import GeoBox

    grid = GeoBox.from_bbox((86.9, 27.9, 86.94, 27.94), "EPSG:4326", resolution=0.0001)
    values = np.zeros((400, 400), "uint8")
    values[100:120, 100:110] = 1
    lakes = track(find_lakes(lake_map(values, grid)))
    west, south, east, north = lake_window(lakes, str(lakes["lake_id"].iloc[0]), grid)
    assert (east - west) * 98_500 > 350  # metres
    assert west < 86.91 < 86.911 < east
    assert south < 27.928 < 27.93 < north


def test_a_map_without_a_lake_is_drawn(run):
    cube, _, lakes = run
    ax = map_lakes(cube, lakes[:0], time=DATES[0], label=True)
    assert not outlines(ax, MODEL_COLOUR)[0].get_segments()
