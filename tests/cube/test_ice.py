"""Snow, ice and frozen lakes against reflectances, climates and lakes of known kind."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_zeros

from xglof.cube.ice import air_temperature, frozen_prior, latitude_of, snow_and_ice

# B03, B08, B11 (reflectance x 10,000) as the literature has them, and what they are
SPECTRA = {
    "fresh snow": (9500, 9000, 1200, "snow"),
    "old snow": (7500, 6000, 500, "snow"),
    "bare glacier ice": (5000, 3300, 200, "ice"),
    "white lake ice": (4000, 2600, 300, "ice"),
    "dirty ice at the limit": (2800, 2000, 1200, "ice"),  # NDSI 0.4 exactly
    "clear water": (500, 150, 60, ""),
    "milky lake": (2200, 1200, 250, ""),  # Hall's 0.11 in the near infrared would make it snow
    "debris": (1500, 2000, 2600, ""),
    "grass": (900, 3500, 2000, ""),
    "cloud of droplets": (7000, 7200, 5200, ""),
    "shaded snow": (900, 700, 60, ""),
    "nodata": (0, 0, 0, ""),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_known_spectra(name):
    *spectrum, kind = SPECTRA[name]
    snow, ice = snow_and_ice(*(np.array([value], dtype="uint16") for value in spectrum))
    assert (snow.item(), ice.item()) == (kind == "snow", kind == "ice")


@pytest.mark.parametrize(
    ("near_infrared", "expected"), [(250, (False, False)), (1999, (False, False)), (2000, (False, True))]
)
def test_what_a_classification_calls_snow_is_told_by_the_near_infrared_too(near_infrared, expected):
    pixel = [np.array([value], dtype="uint16") for value in (900, near_infrared, 1500)]  # not by its NDSI
    snow, ice = snow_and_ice(*pixel, np.array([True]))
    assert (snow.item(), ice.item()) == expected
    assert not np.any(snow_and_ice(*pixel, np.array([False])))


@given(st.tuples(*[st.integers(0, 65535)] * 3))
def test_the_index_is_exact_and_nothing_wraps(spectrum):
    green, near, short = spectrum
    snow, ice = snow_and_ice(*(np.array([value], dtype="uint16") for value in spectrum))
    frozen = min(green, short) > 0 and near >= 2000 and 10 * (green - short) >= 4 * (green + short)
    assert (snow | ice).item() == frozen
    assert not (snow & ice).any()
    assert snow.item() == (frozen and near >= 4000)


def test_the_climate_has_its_known_steps():
    """Zonal means of Pierrehumbert (2010, ch. 7): from the equator to 60 degrees in winter and summer."""

    def at(latitude, day):
        return float(air_temperature(0.0, latitude, day))

    assert at(0, 20) == pytest.approx(26, abs=0.5)
    assert at(0, 20) - at(60, 20) == pytest.approx(39, abs=1)
    assert at(0, 201) - at(60, 201) == pytest.approx(12, abs=1)
    assert at(0, 201) - at(-60, 201) == pytest.approx(26, abs=2)
    assert at(0, 20) - at(-60, 20) == pytest.approx(22, abs=2)
    assert float(air_temperature(2000.0, 0, 20)) == pytest.approx(at(0, 20) - 11, abs=0.01)


# elevation, latitude, months frozen beyond doubt, months open beyond doubt
LAKES = {
    "Imja, Nepal": (5010, 27.9, (1, 2, 3), (6, 7, 8, 9, 10)),
    "Rongbuk, Tibet": (5600, 28.1, (1, 2, 3), (7, 8, 9)),
    "Rara, Nepal, warm monomictic": (2990, 29.5, (), range(1, 13)),
    "Thun, Switzerland": (558, 46.7, (), range(1, 13)),
    "St Moritz, Switzerland": (1768, 46.5, (1, 2, 3), (7, 8, 9, 10)),
    "Rhone glacier lake, Switzerland": (2210, 46.6, (1, 2, 3, 4), (7, 8, 9)),
    "Merzbacher, Kyrgyzstan": (3300, 42.2, (1, 2, 3, 4), (7, 8, 9)),
    "Russell lake, Greenland": (430, 67.1, (1, 2, 3, 4), (8,)),
    "Palcacocha, Peru": (4562, -9.4, (), range(1, 13)),
    "Lago Argentino": (187, -50.3, (), range(1, 13)),
}


@pytest.mark.parametrize("lake", LAKES)
def test_known_lakes(lake):
    elevation, latitude, frozen, opened = LAKES[lake]
    prior = frozen_prior(elevation, latitude, np.arange(1, 13) * 30.4 - 15)
    assert all(prior[month - 1] for month in frozen)
    assert not any(prior[month - 1] for month in opened)


DAYS = np.arange(1, 367)


@pytest.mark.parametrize("elevation", [5000, 5150, 5300, 5400, 5500, 5600, 5700, 7000])
def test_no_elevation_of_the_himalaya_is_frozen_in_the_warm_season(elevation):
    frozen = frozen_prior(float(elevation), 28.3, DAYS)
    assert not frozen[120:335].any()  # May to November
    assert frozen[:100].all()


def test_floods_on_days_that_climate_alone_would_call_frozen():
    south_lhonak, birendra = (5200.0, 27.91, 276), (3640.0, 28.55, 112)  # 3 October 2023, 21 April 2024
    for lake in (south_lhonak, birendra):
        assert not frozen_prior(*lake)


@pytest.mark.parametrize("latitude", [-28.3, -33.0, -47.0])
@pytest.mark.parametrize("elevation", [5000.0, 5700.0])
def test_the_south_has_its_winter_in_july(latitude, elevation):
    frozen = frozen_prior(elevation, latitude, DAYS)
    assert not frozen[304:].any()  # November to December
    assert not frozen[:171].any()  # to 20 June
    assert frozen[212:243].all()  # August


@given(st.floats(-15, 15), st.integers(1, 366), st.floats(0, 6000))
def test_the_tropics_have_no_winter(latitude, day, elevation):
    assert not frozen_prior(elevation, latitude, day)


@given(st.floats(0, 85), st.floats(0, 9000))
def test_no_place_is_frozen_for_more_than_a_third_of_the_year(latitude, elevation):
    for side in (1, -1):
        assert frozen_prior(elevation, side * latitude, DAYS).sum() <= 123


def test_the_prior_broadcasts_and_leaves_the_unknown_alone():
    elevation = np.array([[500.0, 6500.0, np.nan]], dtype="float32")
    prior = frozen_prior(elevation, np.float32(28), np.array([15, 196]).reshape(2, 1, 1))
    assert prior.dtype == bool
    assert prior.tolist() == [[[False, True, False]], [[False, False, False]]]


@given(st.floats(-80, 80), st.integers(1, 366), st.floats(0, 6000))
def test_what_is_frozen_stays_so_farther_up(latitude, day, elevation):
    low, high = frozen_prior(np.array([elevation, elevation + 500.0]), latitude, day)
    assert high or not low


@pytest.mark.parametrize("crs", ["EPSG:32645", "EPSG:4326", "EPSG:3413"])
def test_latitude_is_near_and_the_same_in_every_cube(crs, no_compute):
    bounds, size = {
        "EPSG:32645": ((500_000, 3_080_000, 560_000, 3_130_000), 100),
        "EPSG:4326": ((86.5, 27.6, 87.1, 28.2), 0.001),
        "EPSG:3413": ((-200_000, -2_300_000, -150_000, -2_240_000), 100),
    }[crs]
    whole = GeoBox.from_bbox(bounds, crs, resolution=size)
    part = whole[130:400, 55:321]
    layers = {}
    for name, geobox, chunks in (("whole", whole, -1), ("part", part, 64)):
        dem = xr_zeros(geobox, "float32", chunks=(chunks, chunks))
        layers[name] = latitude_of(xr.Dataset({"dem": dem}), dem)
        assert layers[name].chunksizes == dem.chunksizes
    got = {name: layer.compute(scheduler="synchronous").values for name, layer in layers.items()}
    np.testing.assert_array_equal(got["part"], got["whole"][130:400, 55:321])
    y, x = (whole.coordinates[dim].values for dim in whole.dimensions)
    import pyproj

    back = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    exact = back.transform(*np.meshgrid(x, y))[1]
    assert np.abs(got["whole"] - exact).max() < 0.12
    assert len(np.unique(got["whole"])) > 3
