"""Known shifts, laid into scenes of two sensors that share nothing but where their edges are."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr
from scipy import ndimage
from scipy.spatial import cKDTree

from xglof.cube.flags import Flag
from xglof.cube.registration import image_shift, sensor_shift
from xglof.errors import CubeError

SIZE = 256
ORBITS = ("12", "121")


def fields(shift: tuple[float, float], *, size: int = SIZE, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Reflectance x 10,000 and radar power of the same fields, the radar displaced by (rows, columns).

    Each field has a reflectance and a backscatter of its own. The displacement is made in the Fourier
    domain, on a scene drawn larger than what is handed out.
    """
    rng = np.random.default_rng(seed)
    whole = size + 64
    corners = rng.uniform(0, whole, (whole**2 // 500, 2))
    pixels = np.indices((whole, whole)).reshape(2, -1).T
    field = cKDTree(corners).query(pixels)[1].reshape(whole, whole)
    optical = ndimage.gaussian_filter(rng.uniform(500, 3500, len(corners))[field], 0.8)
    power = ndimage.gaussian_filter(10 ** (rng.uniform(-18, -6, len(corners))[field] / 10), 0.8)
    moved = np.fft.ifft2(ndimage.fourier_shift(np.fft.fft2(power), shift)).real
    inner = np.s_[32 : 32 + size, 32 : 32 + size]
    return optical[inner], np.maximum(moved[inner], 1e-3)


def speckled(power: np.ndarray, seed: int) -> np.ndarray:
    """Decibels of power under the speckle of 4.4 looks, as ground-range products of the IW mode have it."""
    looks = 4.4
    return 10 * np.log10(power * np.random.default_rng(seed).gamma(looks, 1 / looks, power.shape))


def cube_of(shifts: list[tuple[float, float]], **changes: Any) -> xr.Dataset:
    """A cube of one pair a shift, orbits in turn, a new scene each."""
    size, resolution = changes.get("size", SIZE), changes.get("resolution", 10.0)
    affine = Affine(resolution, 0, 500_000, 0, -resolution, 3_100_000)
    grid = GeoBox((size, size), affine, changes.get("crs", "EPSG:32645"))
    scenes = [fields(shift, size=size, seed=number) for number, shift in enumerate(shifts)]
    planes = {
        "B08": np.stack([optical for optical, _ in scenes]).round().astype("uint16"),
        "vv": np.stack([speckled(power, 50 + n) for n, (_, power) in enumerate(scenes)]).astype("float32"),
        "vh": np.stack([speckled(power / 5, 90 + n) for n, (_, power) in enumerate(scenes)]).astype(
            "float32"
        ),
    }
    times = np.datetime64("2021-07-01", "ns") + np.arange(len(shifts)) * np.timedelta64(12, "D")
    cube = xr.Dataset({name: wrap_xr(plane, grid, time=times) for name, plane in planes.items()})
    orbits = np.array([ORBITS[n % 2] for n in range(len(shifts))], dtype=object)
    return cube.assign_coords(relative_orbit=("time", orbits))


def read_chip(kind: str, chip: str) -> np.ndarray:
    import rasterio

    if "XGLOF_SAMPLES" not in os.environ:
        pytest.skip("needs real chips: set XGLOF_SAMPLES to the folder of samples")
    with rasterio.open(f"{os.environ['XGLOF_SAMPLES']}/terramind/examples/{kind}/{chip}.tif") as source:
        return np.asarray(source.read(), dtype=np.float64)


def without_crs(cube: xr.Dataset) -> xr.Dataset:
    for variable in cube.variables.values():
        variable.encoding.pop("grid_mapping", None)
        variable.attrs.pop("grid_mapping", None)
    plain = cube.drop_vars("spatial_ref")
    return plain.assign_coords({name: (name, plain[name].values) for name in ("y", "x")})


@settings(max_examples=10, deadline=None)
@given(y=st.floats(-3.5, 3.5), x=st.floats(-3.5, 3.5), seed=st.integers(0, 99))
def test_a_shift_of_parts_of_a_pixel_is_found_under_speckle(y: float, x: float, seed: int) -> None:
    scenes = [fields((y, x), seed=4 * seed + number) for number in range(4)]
    found = image_shift(
        [np.log(a) for a, _ in scenes], [speckled(b, seed + n) for n, (_, b) in enumerate(scenes)]
    )
    assert abs(found.y - y) < 0.25
    assert abs(found.x - x) < 0.2


def test_it_agrees_with_an_exhaustive_search_over_whole_pixels() -> None:
    optical, power = fields((3, -2), seed=4)
    first, second = np.log(optical), speckled(power, 4)
    found = image_shift([first], [second], upsample=1)
    edges = [ndimage.gaussian_gradient_magnitude(image, 1.5) for image in (first, second)]
    scores = {
        (dy, dx): np.corrcoef(
            edges[0][8:-8, 8:-8].ravel(), np.roll(edges[1], (-dy, -dx), (0, 1))[8:-8, 8:-8].ravel()
        )[0, 1]
        for dy in range(-5, 6)
        for dx in range(-5, 6)
    }
    assert (found.y, found.x) == max(scores, key=scores.__getitem__) == (3, -2)


def test_several_blocks_tell_what_none_of_them_could() -> None:
    rng = np.random.default_rng(1)
    blocks = [fields((1.3, -0.7), size=96, seed=seed) for seed in range(30)]
    optical = [np.log(image) + rng.normal(0, 0.7, image.shape) for image, _ in blocks]
    radar = [10 * np.log10(power) + rng.normal(0, 7, power.shape) for _, power in blocks]
    alone = [image_shift([a], [b]) for a, b in zip(optical, radar, strict=True)]
    assert sum(np.isnan(one.y) for one in alone) > 15
    together = image_shift(optical, radar)
    assert abs(together.y - 1.3) < 0.2
    assert abs(together.x + 0.7) < 0.2


@pytest.mark.parametrize("seed", range(6))
def test_two_scenes_that_share_nothing_give_no_shift(seed: int) -> None:
    found = image_shift(
        [np.log(fields((0, 0), seed=seed)[0])], [speckled(fields((0, 0), seed=seed + 50)[1], 0)]
    )
    assert np.isnan([found.y, found.x, found.correlation]).all()


@pytest.mark.parametrize("seed", range(6))
def test_noise_gives_no_shift(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = image_shift([rng.normal(size=(SIZE, SIZE))], [rng.normal(size=(SIZE, SIZE))])
    assert np.isnan([found.y, found.x, found.correlation]).all()


def test_outlines_side_by_side_give_no_shift() -> None:
    row, column = np.indices((SIZE, SIZE)) // 4
    bars = np.where((column % 8) < 4, 7.0, 8.0) + 0 * row
    assert np.isnan(image_shift([bars], [np.roll(bars, 2, axis=1)]).x)


def test_nothing_to_see_gives_no_shift() -> None:
    optical, power = fields((0, 0))
    flat = np.full((SIZE, SIZE), 7.0)
    for other in (np.full((SIZE, SIZE), np.nan), flat):
        assert np.isnan(image_shift([np.log(optical)], [other]).y)
        assert np.isnan(image_shift([other], [speckled(power, 0)]).y)
    assert np.isnan(image_shift([flat], [flat]).y)


@pytest.mark.parametrize("y", [5.5, -6.0, 9.0])
def test_a_shift_beyond_the_search_is_not_told(y: float) -> None:
    optical, power = fields((y, 0))
    radar = speckled(power, 0)
    assert np.isnan(image_shift([np.log(optical)], [radar]).y)
    assert image_shift([np.log(optical)], [radar], max_shift_px=12).y == pytest.approx(y, abs=0.3)


@pytest.mark.parametrize("chip", ["38D_378R_2_3", "433D_629L_3_1", "609U_541L_3_0"])
def test_a_real_radar_image_displaced_is_found_displaced(chip: str) -> None:
    """Where the two lie as they came is not known; how far one is moved is."""
    optical, radar = (read_chip(kind, chip) for kind in ("S2L2A", "S1RTC"))
    first = np.log(np.maximum(optical[7], 100.0))
    second = np.clip(radar.mean(axis=0), -30, 10)
    before = image_shift([first], [second])
    after = image_shift([first], [ndimage.shift(second, (1.3, -0.7), order=3, mode="nearest")])
    assert after.y - before.y == pytest.approx(1.3, abs=0.15)
    assert after.x - before.x == pytest.approx(-0.7, abs=0.15)


def test_each_orbit_has_its_own_shift() -> None:
    shifts = [(0.1, -0.2), (2.4, -1.3)] * 3
    found = sensor_shift(cube_of(shifts))
    assert found["relative_orbit"].values.tolist() == list(ORBITS)
    np.testing.assert_allclose(found["shift_y"], [0.1, 2.4], atol=0.15)
    np.testing.assert_allclose(found["shift_x"], [-0.2, -1.3], atol=0.15)
    np.testing.assert_allclose(found["shift_y_m"], found["shift_y"] * -10)  # rows run south
    np.testing.assert_allclose(found["shift_x_m"], found["shift_x"] * 10)
    assert found["flagged"].values.tolist() == [0, 1]
    assert found["pairs"].values.tolist() == found["pairs_tried"].values.tolist() == [3, 3]
    assert found["pair_orbit"].values.tolist() == ["12"] * 3 + ["121"] * 3
    steps = [0, 2, 4, 1, 3, 5]
    np.testing.assert_allclose(found["pair_shift_y"], [shifts[step][0] for step in steps], atol=0.2)
    assert found["time"].values.tolist() == cube_of(shifts)["time"].values[steps].tolist()


def test_one_wrong_pair_does_not_move_the_median() -> None:
    found = sensor_shift(cube_of([(0, 0), (0, 0), (4, 4), (0, 0), (0.1, 0), (0, 0)]))
    assert abs(found["shift_y"].sel(relative_orbit="12").item()) < 0.2
    assert found["pair_shift_y"].max() > 3.5


def test_clouds_that_the_radar_does_not_see_are_left_out() -> None:
    cube = cube_of([(1.6, -2.2)], size=2 * SIZE)
    rng = np.random.default_rng(3)
    cloud = ndimage.gaussian_filter(rng.normal(size=(2 * SIZE, 2 * SIZE)), 12) > 0.01
    assert 0.2 < cloud.mean() < 0.5
    bright = cube["B08"].where(~cloud, 9000).astype("uint16")
    flags = xr.zeros_like(cube["B08"]).where(~cloud, int(Flag.cloud)).astype("uint16")
    found = sensor_shift(cube.assign(B08=bright, flags=flags))
    assert found["shift_y"].item() == pytest.approx(1.6, abs=0.2)
    assert found["shift_x"].item() == pytest.approx(-2.2, abs=0.2)


def test_holes_that_both_share_do_not_pull_the_shift_to_none() -> None:
    cube = cube_of([(2.4, -1.8)], size=2 * SIZE)
    rows, cols = np.indices((2 * SIZE, 2 * SIZE))
    hole = xr.DataArray((rows // 23 % 3 == 1) & (cols // 19 % 3 == 1), dims=("y", "x"))
    fills = {"B08": 0, "vv": np.nan, "vh": np.nan}
    found = sensor_shift(cube.assign({name: cube[name].where(~hole, fill) for name, fill in fills.items()}))
    assert found["shift_y"].item() == pytest.approx(2.4, abs=0.25)
    assert found["shift_x"].item() == pytest.approx(-1.8, abs=0.25)


@pytest.mark.parametrize("hidden", ["cloud", "s1_layover", "s1_nodata", "failed_read"])
def test_where_nothing_is_seen_nothing_is_told(hidden: str) -> None:
    cube = cube_of([(0, 0)])
    flags = xr.full_like(cube["B08"], int(Flag[hidden]))
    found = sensor_shift(cube.assign(flags=flags))
    assert np.isnan(found["shift_y"].item())
    assert np.isnan(found["shift_x_m"].item())
    assert (found["pairs"].item(), found["pairs_tried"].item(), found["flagged"].item()) == (0, 1, 255)


def test_lazy_and_loaded_cubes_agree_and_only_so_many_pairs_are_read() -> None:
    cube = cube_of([(0.5, 0.5)] * 6, size=2 * SIZE)
    read: list[int] = []

    def counted(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        if block_info:
            read.append(block_info[0]["array-location"][0][0])
        return block

    lazy = cube.chunk(time=1, y=200, x=300)
    lazy["B08"] = lazy["B08"].copy(data=lazy["B08"].data.map_blocks(counted, dtype="uint16"))
    found = sensor_shift(lazy, max_pairs=2)
    xr.testing.assert_identical(found, sensor_shift(cube, max_pairs=2))
    assert found["pairs_tried"].values.tolist() == [2, 2]
    assert set(read) == {0, 4, 1, 5}
    assert len(read) == 4 * 6  # 3 x 2 chunks of each step, once, though four blocks share them


def test_steps_without_radar_are_no_pairs() -> None:
    cube = cube_of([(0, 0), (0, 0)]).assign_coords(
        relative_orbit=("time", np.array(["", "12"], dtype=object))
    )
    found = sensor_shift(cube)
    assert found["relative_orbit"].values.tolist() == ["12"]
    assert found["pair_shift_y"].shape == (1,)


def test_metres_on_a_grid_in_degrees() -> None:
    cube = cube_of([(2, 2)], crs="EPSG:4326", resolution=1e-4)
    cube = cube.assign_coords(
        latitude=cube["latitude"] - 3_100_000 + 28, longitude=cube["longitude"] - 499_915
    )
    found = sensor_shift(cube)
    assert found["shift_y_m"].item() == pytest.approx(-found["shift_y"].item() * 11.132, rel=1e-3)
    assert found["shift_x_m"].item() == pytest.approx(found["shift_x"].item() * 9.83, rel=1e-2)


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda cube: cube.drop_vars("vh"), {}, "has no vh; open it with S2L2A and S1RTC"),
        (lambda cube: cube, {"reference": "B04"}, "has no B04"),
        (lambda cube: cube.drop_vars("relative_orbit"), {}, "has no relative_orbit along time"),
        (without_crs, {}, "has no CRS or a rotated grid"),
        (lambda cube: cube.isel(x=slice(0, 63)), {}, "has 128 x 63 pixels; a shift takes 64 x 64"),
        (lambda cube: cube, {"upsample": 0}, "give 1 or more each"),
        (lambda cube: cube, {"max_shift_px": 40}, "at most 16 px of shift"),
    ],
)
def test_cubes_that_cannot_be_measured(change: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(CubeError, match=message):
        sensor_shift(change(cube_of([(0, 0)], size=128)), **arguments)
