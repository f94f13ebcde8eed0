"""Cast shadow against exact geometry and against a loop over pixels."""

import math

import numpy as np
import pytest

from xglof.cube.shadow import cast_shadow
from xglof.errors import CubeError


def naive_shadow(dem, azimuth, elevation, resolution, max_distance_m):
    """One pixel and one ray at a time, stopping at grid lines, linear between their two pixels."""
    rows, columns = dem.shape
    east, south = math.sin(math.radians(azimuth)), -math.cos(math.radians(azimuth))
    major = max(abs(east), abs(south))
    out = np.zeros(dem.shape, dtype=bool)
    for row in range(rows):
        for column in range(columns):
            step = 1
            while step * resolution / major <= max_distance_m + 1e-6:
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
                rise = step * resolution / major * math.tan(math.radians(elevation))
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
    assert abs(along.max() - reach) < 1.5 * resolution * math.sqrt(2)
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
