"""The simulated valley: seeds, water, seasons, radiometry."""

from datetime import UTC, date, datetime

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from xglof.bands import MODALITIES
from xglof.errors import CubeError
from xglof.simulate import Surface, render_optical, render_radar, true_lakes, valley
from xglof.simulate.elevation import observed_dem
from xglof.simulate.passes import sun_position
from xglof.simulate.states import drained_from, glacier, lake_numbers, surface_height

BAND = {name: index for index, name in enumerate(MODALITIES["S2L2A"].names)}


@pytest.fixture(scope="module")
def place():
    return valley(4, shape=(192, 200))


@pytest.fixture(scope="module")
def truth(place):
    return true_lakes(place)


def lake_of(place, kind):
    return next(lake for lake in place.lakes if lake.kind == kind)


def test_one_seed_gives_the_same_bytes_and_another_does_not(place, truth):
    again = valley(4, shape=(192, 200))
    xr.testing.assert_identical(true_lakes(again), truth)
    np.testing.assert_array_equal(render_optical(again, 3).dn, render_optical(place, 3).dn)
    np.testing.assert_array_equal(render_radar(again, 2).vv, render_radar(place, 2).vv)
    np.testing.assert_array_equal(observed_dem(again)[0], observed_dem(place)[0])
    other = valley(5, shape=(192, 200))
    assert other.character != place.character
    assert not np.array_equal(render_optical(other, 3).dn, render_optical(place, 3).dn)


def test_seeds_differ_in_height_and_place():
    drawn = [valley(seed, shape=(64, 64), crs=None, dates=["2022-08-01"]) for seed in range(12)]
    floors = [item.character.floor_m for item in drawn]
    assert max(floors) - min(floors) > 1500
    assert len({str(item.geobox.crs) for item in drawn}) > 2


def test_truth_lies_on_the_scene_grid(place, truth):
    assert truth.odc.geobox == place.geobox
    assert truth.odc.geobox.crs.to_epsg() == 32645
    assert truth.time.dtype == np.dtype("datetime64[ns]")
    np.testing.assert_array_equal(truth.lake, truth.lake_number > 0)
    assert truth.lake.dtype == np.uint8


@pytest.mark.parametrize("seed", [2, 300, 314, 322, 344])
def test_lakes_are_level_and_lower_than_their_shore(seed):
    from scipy.ndimage import binary_dilation

    drawn = valley(seed, shape=(128, 128), crs=None, dates=["2021-07-01", "2022-08-01"])
    heights, numbers, ice = surface_height(drawn, 0), lake_numbers(drawn, 0), glacier(drawn, 0)
    assert set(np.unique(numbers)) == {0, *(lake.number for lake in drawn.lakes)}
    for lake in drawn.lakes:
        here = numbers == lake.number
        np.testing.assert_allclose(heights[here], lake.level_m, atol=1e-3)
        shore = binary_dilation(here) & ~here & ~ice & (numbers == 0)
        assert heights[shore].min() > lake.level_m - 0.01  # no water stands on a slope


def test_one_lake_grows_one_drains_and_the_rest_stay(place, truth):
    counts = {lake.number: (truth.lake_number == lake.number).sum(["y", "x"]).values for lake in place.lakes}
    growing = counts[lake_of(place, "growing").number]
    assert (np.diff(growing) >= 0).all()
    assert growing[-1] > 1.3 * growing[0]
    draining, event = counts[lake_of(place, "draining").number], drained_from(place)
    assert 0 < event < len(place.optical)
    assert (draining[:event] == draining[0]).all()
    assert (draining[event:] < 0.6 * draining[0]).all()
    for lake in place.lakes:
        if lake.kind == "stable":
            assert set(counts[lake.number]) == {counts[lake.number][0]}


def test_drained_ground_is_bare_and_grown_water_was_ice(place, truth):
    event = drained_from(place)
    emptied = (truth.lake[event - 1] == 1) & (truth.lake[event] == 0)
    cover = truth.classes[event].where(emptied)
    assert int(emptied.sum()) > 10
    assert set(np.unique(cover)) - {np.nan} >= {int(Surface.wet_sediment)} or bool(
        (cover == Surface.snow).any()
    )
    inside = place.interior
    gained = ((truth.lake[-1] == 1) & (truth.lake[0] == 0)).values
    assert glacier(place, 0)[inside][gained].all()


def test_dem_remembers_the_time_before(place, truth):
    dem, grid = observed_dem(place)
    assert grid.crs == "EPSG:4326"
    assert np.isfinite(dem).all()
    box, footprint = grid.boundingbox, place.geobox.extent.to_crs("EPSG:4326").boundingbox
    assert box.left <= footprint.left - 0.01
    assert box.top >= footprint.top + 0.01
    assert abs(grid.affine.a) * 3600 == pytest.approx(1)

    def sample(mask):
        rows, columns = np.nonzero(mask)
        x, y = place.geobox.affine * (columns + 0.5, rows + 0.5)
        from pyproj import Transformer

        lon, lat = Transformer.from_crs(32645, 4326, always_xy=True).transform(x, y)
        column, row = ~grid.affine * (np.array(lon), np.array(lat))
        return dem[row.astype(int), column.astype(int)]

    growing, draining = lake_of(place, "growing"), lake_of(place, "draining")
    gained = ((truth.lake_number[-1] == growing.number) & (truth.lake[0] == 0)).values
    assert np.median(sample(gained)) > growing.level_m + 4  # the old glacier
    full = (truth.lake_number[0] == draining.number).values
    assert np.median(np.abs(sample(full) - draining.level_m)) == pytest.approx(0, abs=1e-3)


def test_the_offset_follows_the_baseline_and_not_the_date(place):
    old = [view for view in place.optical if view.time < datetime(2022, 1, 25, tzinfo=UTC)]
    assert {view.offset for view in old} == {0, 1000}
    assert all(view.offset == 1000 for view in place.optical if view not in old)
    assert [view.baseline for view in old if view.offset] == ["05.00"]
    for index, view in enumerate(place.optical):
        dn = render_optical(place, index).dn
        known = dn[dn > 0]
        if view.offset:
            assert known.min() > 1000
        else:
            assert known.min() < 900
        assert known.max() <= 21_000


def test_numbers_are_known_but_in_the_swath_wedge(place):
    for index, view in enumerate(place.optical):
        scene = render_optical(place, index)
        nothing = (scene.dn == 0).all(axis=0)
        np.testing.assert_array_equal((scene.dn == 0).any(axis=0), nothing)
        np.testing.assert_array_equal(scene.scl == 0, nothing)
        assert nothing.any() == view.wedge
    assert sum(view.wedge for view in place.optical) == 1


def clear_summer(place):
    return next(i for i, v in enumerate(place.optical) if not v.winter and v.cloud_cover == 0 and not v.wedge)


def test_open_water_is_dark_in_the_short_wave_infrared(place, truth):
    index = clear_summer(place)
    dn = render_optical(place, index).dn.astype(float) - place.optical[index].offset
    water = truth.lake[index].values == 1
    land = np.isin(truth.classes[index], [Surface.debris, Surface.rock, Surface.meadow])
    assert np.median(dn[BAND["B11"]][water]) < 200
    assert np.median(dn[BAND["B11"]][land]) > 4 * np.median(dn[BAND["B11"]][water])
    assert np.median(dn[BAND["B03"]][water]) > np.median(dn[BAND["B11"]][water])


def test_winter_lakes_are_frozen_and_still_lakes(place, truth):
    winter = [i for i, view in enumerate(place.optical) if view.winter]
    assert len(winter) == 2
    for index in winter:
        assert set(np.unique(truth.classes[index].values[truth.lake[index] == 1])) == {Surface.lake_ice}
        assert place.optical[index].sun_elevation < 45


def test_calm_water_is_darker_than_land_for_the_radar(place):
    index = next(
        i for i, view in enumerate(place.radar) if view.wind < 0.5 and not place.optical[view.optical].winter
    )
    scene = render_radar(place, index)
    x, y = scene.geobox.affine * (0.5, 0.5)
    column, row = ~place.geobox.affine * (x, y)
    assert abs(row - 0.5 - round(row - 0.5)) > 0.1  # a fraction of a pixel off the optical grid
    numbers = lake_numbers(place, place.radar[index].optical)
    first = (place.margin + round(row), place.margin + round(column))
    part = numbers[first[0] : first[0] + scene.vv.shape[0], first[1] : first[1] + scene.vv.shape[1]]
    for image in (scene.vv, scene.vh):
        assert image.dtype == np.float32
        known = image[image != -32768]
        assert known.min() > 0
        water, land = image[(part > 0) & (image > 0)], image[(part == 0) & (image > 0)]
        assert 10 * np.log10(water.mean() / np.median(land)) < -3
    assert scene.vh[scene.vh > 0].mean() < scene.vv[scene.vv > 0].mean()


def test_radar_passes_follow_the_optical_ones_but_one(place):
    gaps = [
        min(abs((radar.time - view.time).total_seconds()) / 86400 for radar in place.radar)
        for view in place.optical
    ]
    assert sum(gap > 7 for gap in gaps) == 1
    assert sorted(gaps)[-2] < 6
    assert {view.orbit_state for view in place.radar} == {"ascending", "descending"}


def test_cloud_shadow_falls_away_from_the_sun(place):
    from xglof.simulate.optical import _clouds

    rng = np.random.default_rng(0)
    azimuth, elevation = np.radians(135.0), 40.0  # a morning in the north: the sun stands in the south-east
    cloud, shade = _clouds(place, rng, 0.2, azimuth, elevation)
    scores = {}
    for rows in range(-120, 121, 5):
        for columns in range(-120, 121, 5):
            moved = np.roll(cloud, (rows, columns), axis=(0, 1))
            scores[rows, columns] = float((moved * shade).sum())
    rows, columns = max(scores, key=scores.__getitem__)
    assert rows < 0  # north
    assert columns < 0  # west


@pytest.mark.parametrize(
    ("time", "longitude", "latitude", "azimuth", "elevation"),
    [
        # equinox at noon on the equator, and the solstice noon at 45 north: 90 - 45 + 23.44
        (datetime(2021, 6, 21, 12, 2, tzinfo=UTC), 0.0, 45.0, 180.0, 68.44),
        (datetime(2021, 12, 21, 11, 58, tzinfo=UTC), 0.0, 45.0, 180.0, 21.56),
        (datetime(2021, 6, 21, 12, 2, tzinfo=UTC), 0.0, -30.0, 0.0, 36.56),
    ],
)
def test_sun_stands_where_almanacs_say(time, longitude, latitude, azimuth, elevation):
    got = sun_position(time, longitude, latitude)
    assert abs((got[0] - azimuth + 180) % 360 - 180) < 1.0
    assert got[1] == pytest.approx(elevation, abs=0.15)


def test_morning_sun_of_the_north_stands_in_the_south_east(place):
    assert all(80 < view.sun_azimuth < 180 for view in place.optical)


def test_takes_a_dem_and_dates_of_ones_own():
    geobox = GeoBox((130, 120), Affine(10, 0, 500_000, 0, -10, 5_100_000), "EPSG:32632")
    y, x = np.mgrid[:130, :120].astype(np.float32)
    ground = 2000 + 3 * np.abs(x - 60) + y + 5 * np.sin(x / 7) * np.cos(y / 9)
    dem = xr.DataArray(ground.astype(np.float32), dims=("y", "x"), coords=xr_coords(geobox))
    place = valley(1, dem=dem, dates=["2021-07-01", date(2022, 8, 3), "2023-08-01"])
    assert place.geobox == geobox
    assert [view.time.date() for view in place.optical] == [
        date(2021, 7, 1),
        date(2022, 8, 3),
        date(2023, 8, 1),
    ]
    truth = true_lakes(place)
    assert int(truth.lake[0].sum()) > 20
    rest = place.terrain.bed[place.interior] - ground
    assert (rest == 0).mean() > 0.2  # away from the basins the ground is what was given
    turned = valley(1, dem=dem.transpose("x", "y"), dates=["2021-07-01", date(2022, 8, 3), "2023-08-01"])
    np.testing.assert_array_equal(turned.terrain.bed, place.terrain.bed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crs": "EPSG:4326"}, "in metres"),
        ({"shape": (20, 20)}, "64 px"),
        ({"dates": []}, "one or more"),
        ({"dates": ["2021-07-01", "2021-07-01"]}, "different days"),
    ],
)
def test_refuses_what_it_cannot_build(options, message):
    with pytest.raises(CubeError, match=message):
        valley(0, **({"shape": (64, 64)} | options))


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"crs": "EPSG:nope"}, "expected such as EPSG:32645"),
        ({"dates": ["summer"]}, "can't be read"),
    ],
)
def test_what_cannot_be_read_is_named(wish, words):
    with pytest.raises(CubeError, match=words):
        valley(**{"shape": (64, 64)} | wish)
