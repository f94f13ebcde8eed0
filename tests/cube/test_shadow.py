"""Cast shadow against exact geometry and against a loop over pixels."""

import math

import dask.array as da
import numpy as np
import pytest

from xglof.cube.marching import BAND_DEG, GridOnGround, pixel_size_m
from xglof.cube.shadow import SHADOW_DISTANCE_M, cast_shadow, terrain_shadow
from xglof.errors import CubeError


def naive_shadow(dem, azimuth, elevation, resolution, max_distance_m):
    """One pixel and one ray at a time, stopping at grid lines, linear between their two pixels."""
    rows, columns = dem.shape
    down, across = resolution if isinstance(resolution, tuple) else (resolution, resolution)
    # pixels that a metre along the ray crosses
    east, south = math.sin(math.radians(azimuth)) / across, -math.cos(math.radians(azimuth)) / down
    major = max(abs(east), abs(south))
    out = np.zeros(dem.shape, dtype=bool)
    for row in range(rows):
        for column in range(columns):
            step = 1
            while step / major <= max_distance_m + 1e-6:
                y, x = row + step * south / major, column + step * east / major
                y, x = round(y, 9), round(x, 9)
                corners = [
                    (r, c, (1 - abs(y - r)) * (1 - abs(x - c)))
                    for r in {math.floor(y), math.ceil(y)}
                    for c in {math.floor(x), math.ceil(x)}
                ]
                if any(not (0 <= r < rows and 0 <= c < columns) for r, c, _ in corners):
                    break
                terrain = sum(dem[r, c] * weight for r, c, weight in corners)
                rise = step / major * math.tan(math.radians(elevation))
                if terrain - dem[row, column] > rise:
                    out[row, column] = True
                step += 1
    return out


def rough_ground(shape, seed=0):
    rng = np.random.default_rng(seed)
    dem = np.cumsum(np.cumsum(rng.normal(0, 1, shape), axis=0), axis=1)
    return (dem / dem.std() * 60).astype(np.float64)


@pytest.mark.parametrize("azimuth", [0, 37.5, 90, 135, 161.3, 180, 225, 270, 359])
def test_agrees_with_a_loop_over_pixels(azimuth):
    dem = rough_ground((23, 31))
    got = cast_shadow(dem, azimuth=azimuth, elevation=20, resolution=10, max_distance_m=120)
    expected = naive_shadow(dem, azimuth, 20, 10, 120)
    assert got.any()
    assert not got.all()
    # a ray that touches a ridge within rounding may fall either way
    assert (got != expected).mean() < 0.002


@pytest.mark.parametrize("azimuth", [0, 30, 90, 135, 222.2, 300])
def test_pixels_that_are_not_square_agree_with_the_loop(azimuth):
    dem = rough_ground((23, 31), seed=5)
    got = cast_shadow(dem, azimuth=azimuth, elevation=20, resolution=(30.9, 15.5), max_distance_m=250)
    expected = naive_shadow(dem, azimuth, 20, (30.9, 15.5), 250)
    assert 0.02 < got.mean() < 0.98
    assert (got != expected).mean() < 0.002


@pytest.mark.parametrize("azimuth", [0, 45, 90, 120, 180, 210, 270, 315])
def test_a_thin_ridge_shades_its_height_over_the_tangent(azimuth):
    height, width, elevation, resolution, size = 200.0, 20.0, 25.0, 10.0, 161
    east, north = math.sin(math.radians(azimuth)), math.cos(math.radians(azimuth))
    row, column = np.mgrid[:size, :size] - size // 2
    toward = resolution * (column * east - row * north)
    dem = height * np.exp(-(toward**2) / (2 * width**2))
    shade = cast_shadow(dem, azimuth=azimuth, elevation=elevation, resolution=resolution, max_distance_m=1500)
    length = -toward[shade & (np.hypot(row, column) < 60)]
    assert abs(length.max() - height / math.tan(math.radians(elevation))) <= resolution


@pytest.mark.parametrize("azimuth", [0, 45, 90, 120, 180, 210, 270, 315])
def test_a_gaussian_ridge_shades_as_far_as_its_tangent_reaches(azimuth):
    height, width, elevation, resolution, size = 200.0, 60.0, 25.0, 10.0, 201
    east, north = math.sin(math.radians(azimuth)), math.cos(math.radians(azimuth))
    row, column = np.mgrid[:size, :size]
    toward = (column - size // 2) * resolution * east - (row - size // 2) * resolution * north
    dem = height * np.exp(-(toward**2) / (2 * width**2))
    shade = cast_shadow(dem, azimuth=azimuth, elevation=elevation, resolution=resolution, max_distance_m=1500)

    slope = math.tan(math.radians(elevation))
    fine = np.linspace(-5 * width, 5 * width, 200_001)
    profile = height * np.exp(-(fine**2) / (2 * width**2))
    reach = float(np.max(profile - slope * fine) / slope)  # where the grazing ray meets the plain
    near = np.hypot(row - size // 2, column - size // 2) < 80
    along = -toward[shade & near]  # distance behind the crest
    assert abs(along.max() - reach) <= resolution
    assert along.min() > -resolution  # the side towards the sun is lit
    behind = near & (-toward > width) & (-toward < reach - 1.5 * resolution)
    assert shade[behind].all()


def test_only_pixels_within_the_distance_count_whatever_the_origin():
    dem = rough_ground((90, 80), seed=3).astype(np.float32)
    options = {"azimuth": 141.0, "elevation": 12.0, "resolution": 10.0, "max_distance_m": 155.0}
    whole = cast_shadow(dem, **options)
    halo = math.ceil(155 / 10)
    for top, left in [(20, 17), (33, 25), (40, 41)]:
        part = cast_shadow(dem[top - halo : top + 20 + halo, left - halo : left + 20 + halo], **options)
        expected = whole[top : top + 20, left : left + 20]
        np.testing.assert_array_equal(part[halo : halo + 20, halo : halo + 20], expected)


def test_nan_neither_casts_nor_receives():
    dem = np.zeros((5, 12))
    dem[:, 8] = 50.0
    options = {"azimuth": 90, "elevation": 30, "resolution": 10, "max_distance_m": 100}
    full = cast_shadow(dem, **options)
    assert full[2, 7]
    dem[2, 8] = np.nan
    dem[3, 6] = np.nan
    holed = cast_shadow(dem, **options)
    assert not holed[2].any()
    assert not holed[3, 6]
    np.testing.assert_array_equal(holed[[0, 1, 4]], full[[0, 1, 4]])


def test_sun_below_the_horizon_leaves_all_dark_and_zenith_nothing():
    dem = rough_ground((9, 9))
    dem[4, 4] = np.nan
    night = cast_shadow(dem, azimuth=10, elevation=-1, resolution=10, max_distance_m=50)
    np.testing.assert_array_equal(night, np.isfinite(dem))
    assert not cast_shadow(dem, azimuth=10, elevation=90, resolution=10, max_distance_m=50).any()


@pytest.mark.parametrize(
    ("dem", "changes"),
    [
        (np.zeros((3, 3), dtype=int), {}),
        (np.zeros(3), {}),
        (np.zeros((3, 3)), {"resolution": 0}),
        (np.zeros((3, 3)), {"azimuth": float("nan")}),
        (np.zeros((3, 3)), {"max_distance_m": -1}),
    ],
)
def test_refuses_what_it_cannot_mean(dem, changes):
    options = {"azimuth": 90, "elevation": 30, "resolution": 10, "max_distance_m": 50} | changes
    with pytest.raises(CubeError, match=r"expected|finite"):
        cast_shadow(dem, **options)


def test_a_margin_casts_shadow_and_gets_no_answer() -> None:
    dem = np.random.default_rng(3).normal(0, 30, (60, 70)).astype("float32")
    options = {"azimuth": 137.0, "elevation": 25.0, "resolution": 10.0, "max_distance_m": 150.0}
    whole = cast_shadow(dem, **options)
    np.testing.assert_array_equal(cast_shadow(dem, **options, margin_px=15), whole[15:-15, 15:-15])
    with pytest.raises(CubeError, match="margin_px"):
        cast_shadow(dem, **options, margin_px=31)


def test_strips_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    dem = rough_ground((70, 50), seed=7).astype("float32")
    options = {"azimuth": 201.0, "elevation": 18.0, "resolution": 10.0, "max_distance_m": 200.0}
    plain = cast_shadow(dem, **options, margin_px=3)
    for rows in (1, 7, 1000):
        monkeypatch.setattr("xglof.cube.shadow._STRIP_ROWS", rows)
        np.testing.assert_array_equal(cast_shadow(dem, **options, margin_px=3), plain)


@pytest.mark.parametrize("azimuth", [20, 90, 135, 180, 225, 315])
def test_slopes_that_hillshade_leaves_dark_are_in_shadow(azimuth):
    xrspatial = pytest.importorskip("xrspatial", reason="xarray-spatial is not installed")
    xr = pytest.importorskip("xarray")
    row, column = np.mgrid[:81, :81] - 40.0
    hill = 40 * np.exp(-(row**2 + column**2) / (2 * 12.0**2))  # in pixels: hillshade knows no pixel size
    light = xrspatial.hillshade(
        xr.DataArray(hill, dims=("y", "x")), azimuth=azimuth, angle_altitude=35
    ).values
    shade = cast_shadow(hill, azimuth=azimuth, elevation=35, resolution=1.0, max_distance_m=60)
    away = light < 0.5  # half is a ray along the ground, less is ground turned from the sun
    assert away.sum() > 50
    assert shade[away].mean() > 0.95
    east, south = math.sin(math.radians(azimuth)), -math.cos(math.radians(azimuth))
    toward = column * east + row * south
    brightest = np.unravel_index(np.nanargmax(light), light.shape)
    assert toward[brightest] > 0
    assert not shade[brightest]
    assert toward[shade].mean() < -10


def _degrees(shape, north=60.0, size=1 / 360):
    """Rows of a geographic grid, with the margin that it needs, and a rough DEM over both."""
    ground = GridOnGround((-size, size), north - size * (np.arange(shape[0]) + 0.5))
    margin = ground.margin_px()
    rng = np.random.default_rng(11)
    return (
        ground,
        margin,
        rng.uniform(0, 3000, (shape[0] + 2 * margin, shape[1] + 2 * margin)).astype("float32"),
    )


@pytest.mark.parametrize("chunks", [((40,), (30,)), ((7, 33), (5,) * 6), ((1,) * 40, (30,))])
def test_degrees_give_one_shadow_however_they_are_cut(chunks, no_compute):
    ground, margin, dem = _degrees((40, 30))
    assert margin > 7  # the halo is larger than some blocks
    assert len(np.unique(np.floor(ground.latitude / BAND_DEG))) > 2
    lazy = terrain_shadow(
        da.from_array(dem, chunks=23),
        margin,
        ground.resolution,
        [130.0],
        [25.0],
        ((1,), *chunks),
        latitude=ground.latitude,
    )
    got = lazy.compute(scheduler="synchronous")[0]
    for row, latitude in enumerate(ground.latitude):
        middle = (math.floor(latitude / BAND_DEG) + 0.5) * BAND_DEG
        expected = cast_shadow(
            dem[row : row + 2 * margin + 1],
            azimuth=130,
            elevation=25,
            resolution=pixel_size_m(ground.resolution, middle),
            max_distance_m=SHADOW_DISTANCE_M,
            margin_px=margin,
        )
        np.testing.assert_array_equal(got[row], expected[0])
    assert 0.1 < got.mean() < 0.9


@pytest.mark.parametrize(("north", "azimuth"), [(1.0, 90), (60.0, 90), (60.0, 180), (-45.0, 0), (60.0, 270)])
def test_a_ridge_on_a_geographic_grid_shades_metres_not_degrees(north, azimuth):
    size, height, elevation = 1 / 1200, 800.0, 30.0
    ground = GridOnGround((-size, size), north - size * (np.arange(81) + 0.5))
    margin = ground.margin_px()
    row, column = np.mgrid[: 81 + 2 * margin, : 81 + 2 * margin] - (40 + margin)
    down, across = pixel_size_m(ground.resolution, north)
    distance = column * across if azimuth in (90, 270) else row * down
    dem = (height * np.exp(-(distance**2) / (2 * 60.0**2))).astype("float32")
    chunks = ((1,), (40, 41), (81,))
    shade = terrain_shadow(
        da.from_array(dem),
        margin,
        ground.resolution,
        [azimuth],
        [elevation],
        chunks,
        latitude=ground.latitude,
    ).compute()[0]
    inner = (slice(margin, -margin), slice(margin, -margin))
    reach = np.abs(distance[inner][shade]).max()
    assert abs(reach - height / math.tan(math.radians(elevation))) <= (
        across if azimuth in (90, 270) else down
    )
    side = {0: row, 90: -column, 180: -row, 270: column}[azimuth][inner]
    assert side[shade].mean() > 0  # away from the sun


def test_a_margin_that_is_too_short_is_refused():
    dem = da.zeros((40, 40), dtype="float32")
    with pytest.raises(CubeError, match=r"reaches 10 px \(4000 m\).*5000 m"):
        terrain_shadow(dem, 10, (-400.0, 400.0), [10.0], [10.0], ((1,), (20,), (20,)))


def test_steps_under_one_sun_share_their_tasks():
    dem = da.from_array(np.random.default_rng(2).uniform(0, 4000, (40, 40)).astype("float32"))
    sun = ([130.0, 140.0, 130.0, np.nan, np.nan], [20.0, 25.0, 20.0, 20.0, np.nan])
    shadow = terrain_shadow(dem, 10, (-600.0, 600.0), *sun, ((2, 3), (20,), (20,)))
    marched = [key for key in shadow.__dask_graph__() if "march_block" in str(key)]
    assert len({key[1] for key in marched if isinstance(key, tuple)}) == 4
    got = shadow.compute()
    np.testing.assert_array_equal(got[0], got[2])
    assert (got[0] != got[1]).any()
    assert not got[3:].any()


def test_true_azimuths_are_turned_to_grid_north():
    dem = da.from_array(np.random.default_rng(2).uniform(0, 4000, (40, 40)).astype("float32"))
    grid = (dem, 10, (-600.0, 600.0))
    chunks = ((1,), (20,), (20,))
    turned = terrain_shadow(*grid, [130.0], [20.0], chunks, convergence=-2.5).compute()
    np.testing.assert_array_equal(turned, terrain_shadow(*grid, [132.5], [20.0], chunks).compute())
    assert (turned != terrain_shadow(*grid, [130.0], [20.0], chunks).compute()).any()


@pytest.mark.parametrize(
    ("code", "lon", "lat"), [(32645, 84.2, 60.0), (32645, 89.9, 28.0), (32719, -71.5, -50.0)]
)
def test_convergence_is_the_bearing_of_grid_north(code, lon, lat):
    import pyproj
    from odc.geo.geobox import GeoBox

    crs = pyproj.CRS(code)
    x, y = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    ground = GridOnGround.of(
        GeoBox.from_bbox((x - 500, y - 500, x + 500, y + 500), crs.to_epsg(), resolution=10)
    )
    back = pyproj.Transformer.from_crs(crs, 4326, always_xy=True)
    bearing, _, _ = pyproj.Geod(ellps="WGS84").inv(*back.transform(x, y), *back.transform(x, y + 1000))
    assert abs(ground.convergence - bearing) <= 0.26
    assert ground.convergence % 0.5 == 0
    assert ground.resolution == (-10, 10)
    assert ground.margin_px() == 500


def test_a_grid_in_feet_or_degrees_is_measured_in_metres():
    from odc.geo.geobox import GeoBox

    feet = GridOnGround.of(GeoBox.from_bbox((6e5, 2e5, 7e5, 3e5), "EPSG:2263", resolution=100))
    assert feet.resolution[1] == pytest.approx(30.48, rel=1e-4)
    degrees = GridOnGround.of(GeoBox.from_bbox((85, 60, 85.2, 60.1), "EPSG:4326", resolution=0.001))
    assert degrees.latitude[0] == pytest.approx(60.0995)
    assert degrees.margin_px() * degrees.finest_m >= SHADOW_DISTANCE_M
    assert degrees.finest_m == pytest.approx(55.6, rel=1e-2)
    rotated = GeoBox.from_bbox((85, 60, 85.2, 60.1), "EPSG:4326", resolution=0.001).rotate(20)
    with pytest.raises(CubeError, match="rotated"):
        GridOnGround.of(rotated)
