"""Layover and radar shadow against slant ranges, and the look of Sentinel-1 against a flown orbit."""

import math

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xglof.cube.layover import IW_INCIDENCE_DEG, layover_and_shadow, layover_codes, radar_geometry
from xglof.errors import CubeError

#: Footprint of S1A_IW_GRDH_1SDV_20210809T173953, an ascending scene over France.
IW_SCENE = {
    "type": "Polygon",
    "coordinates": [
        [
            [1.512143, 46.03389],
            [4.85136, 46.436539],
            [5.188996, 44.938713],
            [1.937196, 44.536255],
            [1.512143, 46.03389],
        ]
    ],
}


def naive_codes(profile, incidence, spacing):
    """One profile, the radar at its left: slant ranges for layover, angles of sight for shadow."""
    i = math.radians(incidence)
    ground = np.arange(len(profile)) * spacing
    slant = ground * math.sin(i) - profile * math.cos(i)
    codes = []
    for here in range(len(profile)):
        nearer, farther = slice(None, here), slice(here + 1, None)
        laid_over = (slant[nearer] > slant[here]).any() or (slant[farther] < slant[here]).any()
        # cotangent of the angle from the vertical at which a point towards the radar is seen
        sight = (profile[nearer] - profile[here]) / (ground[here] - ground[nearer])
        codes.append(2 * laid_over + (sight > 1 / math.tan(i)).any())
    return np.array(codes)


@given(
    heights=st.lists(st.integers(0, 4000), min_size=2, max_size=24),
    incidence=st.sampled_from([23.3, 34.7, 41.9]),
    look=st.sampled_from([0, 90, 180, 270]),
)
def test_a_profile_agrees_with_its_slant_ranges(heights, incidence, look):
    profile = np.array(heights, dtype=np.float64) + 0.123
    picture = np.tile(profile, (3, 1))
    turns = {90: 0, 0: 1, 270: 2, 180: 3}[look]  # quarter turns to the left
    got = layover_codes(np.rot90(picture, turns).copy(), look, incidence, (100.0, 100.0))
    np.testing.assert_array_equal(np.rot90(got, -turns)[1], naive_codes(profile, incidence, 100.0))


def ridge(look, height, width, resolution=10.0, size=241):
    """A Gaussian ridge across the look, and the distance of each pixel behind its crest, metres."""
    row, column = np.mgrid[:size, :size] - size // 2
    behind = resolution * (column * math.sin(math.radians(look)) - row * math.cos(math.radians(look)))
    near = np.hypot(row, column) < size // 2 - 40
    return (height * np.exp(-(behind**2) / (2 * width**2))).astype("float32"), behind, near


@pytest.mark.parametrize("look", [0, 45, 80, 100, 225, 282])
def test_a_gentle_ridge_is_clear(look):
    height, width = 100.0, 120.0  # steepest at 26.8 degrees
    assert math.degrees(math.atan(height / width * math.exp(-0.5))) < 27
    dem, _, near = ridge(look, height, width)
    assert (layover_codes(dem, look, 30.0, (10.0, 10.0))[near] == 0).all()


@pytest.mark.parametrize("look", [0, 45, 80, 100, 225, 282])
@pytest.mark.parametrize(("height", "width", "incidence"), [(300.0, 160.0, 34.0), (500.0, 150.0, 43.0)])
def test_a_ridge_is_laid_over_where_its_slant_ranges_meet(look, height, width, incidence):
    dem, behind, near = ridge(look, height, width)
    codes = layover_codes(dem, look, incidence, (10.0, 10.0))
    i = math.radians(incidence)
    fine = np.arange(-1500, 1500, 0.25)
    slant = fine * math.sin(i) - height * np.exp(-(fine**2) / (2 * width**2)) * math.cos(i)
    farthest = np.maximum.accumulate(slant)
    nearest = np.minimum.accumulate(slant[::-1])[::-1]
    over = fine[(slant < farthest) | (slant > nearest)]  # actively and passively
    laid = behind[near & (codes >= 2)]
    assert abs(laid.min() - over[0]) <= 10
    assert abs(laid.max() - over[-1]) <= 10
    inside = near & (behind > over[0] + 10) & (behind < over[-1] - 10)
    assert (codes[inside] >= 2).all()
    # every slope that faces the radar and is steeper than the incidence is among them
    slope = np.degrees(np.arctan(np.gradient(height * np.exp(-(fine**2) / (2 * width**2)), fine)))
    assert over[0] < fine[slope > incidence].min() < fine[slope > incidence].max() < over[-1]


@pytest.mark.parametrize("look", [0, 45, 80, 225, 282])
def test_a_back_slope_is_hidden_where_it_is_steeper_than_the_sight(look):
    height, width, incidence = 500.0, 150.0, 43.0  # back slope to 63.7 degrees, sight at 47
    dem, behind, near = ridge(look, height, width)
    hidden = near & np.isin(layover_codes(dem, look, incidence, (10.0, 10.0)), (1, 3))
    cot = 1 / math.tan(math.radians(incidence))
    fine = np.arange(-1500, 1500, 0.25)
    profile = height * np.exp(-(fine**2) / (2 * width**2))
    line = profile + cot * fine  # a point is hidden where something nearer has more of it
    dark = fine[line < np.maximum.accumulate(line)]
    step = 10 / max(abs(math.sin(math.radians(look))), abs(math.cos(math.radians(look))))
    assert abs(behind[hidden].min() - dark[0]) <= step
    assert abs(behind[hidden].max() - dark[-1]) <= step
    steep = np.degrees(np.arctan(-np.gradient(profile, fine))) > 90 - incidence
    assert dark[0] - 1 < fine[steep].min()
    assert fine[steep].max() < dark[-1]


def _rough(rows=40, columns=30, margin=10):
    rng = np.random.default_rng(4)
    return rng.uniform(0, 5000, (rows + 2 * margin, columns + 2 * margin)).astype("float32")


@pytest.mark.parametrize("chunks", [((40,), (30,)), ((7, 33), (5,) * 6), ((4,) * 10, (29, 1))])
def test_blocks_change_nothing(chunks, no_compute):
    dem = _rough()
    dem[25, 20] = np.nan
    look, incidence = [79.5, 281.0, 79.5, np.nan, 80.0], [35.0, 41.5, 35.0, 40.0, np.nan]
    lazy = layover_and_shadow(
        da.from_array(dem, chunks=17), 10, (-600.0, 600.0), look, incidence, ((2, 3), *chunks)
    )
    assert lazy.dtype == np.uint8
    assert lazy.chunks == ((2, 3), *chunks)
    got = lazy.compute(scheduler="synchronous")
    for step in range(3):
        whole = layover_codes(dem, look[step], incidence[step], (600.0, 600.0), 10)
        np.testing.assert_array_equal(got[step], whole)
    assert set(np.unique(got[0])) == {0, 1, 2, 3, 255}
    assert got[0, 15, 10] == 255
    assert (got[3:] == 255).all()
    marched = [key for key in lazy.__dask_graph__() if isinstance(key, tuple) and "march_block" in key[0]]
    assert len({key[1] for key in marched}) == 4  # the third step is the first


def test_a_mirrored_grid_is_seen_from_the_same_side():
    dem, chunks = _rough(), ((1,), (20, 20), (30,))
    plain = layover_and_shadow(da.from_array(dem), 10, (-600.0, 600.0), [79.0], [36.0], chunks).compute()
    turned = layover_and_shadow(
        da.from_array(dem[::-1].copy()), 10, (600.0, 600.0), [79.0], [36.0], chunks
    ).compute()
    np.testing.assert_array_equal(turned[:, ::-1], plain)


def test_degrees_are_marched_in_metres():
    """At 60 degrees north a pixel of a degree grid is half as wide as high: as steep as half the distance."""
    size = 1 / 1200
    latitude = 60.0 - size * (np.arange(31) + 0.5)
    margin = 110
    column = np.arange(31 + 2 * margin) - 15 - margin
    profile = 260.0 * np.exp(-(column**2) / (2 * 3.2**2))  # a width of 149 m on the ground
    dem = da.from_array(np.tile(profile.astype("float32"), (31 + 2 * margin, 1)))
    chunks = ((1,), (31,), (31,))
    codes = layover_and_shadow(
        dem, margin, (-size, size), [90.0], [40.0], chunks, latitude=latitude
    ).compute()
    assert (codes[0, 10] == naive_codes(profile, 40.0, 46.5)[margin:-margin]).all()
    assert (codes >= 2).any()
    assert not (naive_codes(profile, 40.0, 92.8) >= 2).any()  # as if a degree were as long everywhere


@pytest.mark.parametrize("angle", [0.0, 90.0, -5.0])
def test_an_impossible_incidence_is_refused(angle):
    with pytest.raises(CubeError, match="expected degrees between 0 and 90"):
        layover_and_shadow(da.zeros((22, 22)), 10, (-600.0, 600.0), [80.0], [angle], ((1,), (2,), (2,)))


def _flown(state, nadir_latitude, off_nadir_deg):
    """What a right-looking satellite sees at one moment, with vectors: place, look azimuth, incidence."""
    turn, period = 7.292115e-5, 12 * 86400 / 175
    inclination, radius, orbit = math.radians(98.18), 6371e3, 7071e3
    phase = math.asin(math.sin(math.radians(nadir_latitude)) / math.sin(inclination))
    phase = phase if state == "ascending" else math.pi - phase

    def at(seconds):
        u = phase + 2 * math.pi / period * seconds
        x, y = math.cos(u), math.sin(u) * math.cos(inclination)
        spin = -turn * seconds  # the Earth turns under the orbit
        return orbit * np.array(
            [
                x * math.cos(spin) - y * math.sin(spin),
                x * math.sin(spin) + y * math.cos(spin),
                math.sin(u) * math.sin(inclination),
            ]
        )

    here, moving = at(0.0), at(0.5) - at(-0.5)
    right = np.cross(moving, here)
    right /= np.linalg.norm(right)
    beam = -here / orbit * math.cos(math.radians(off_nadir_deg)) + right * math.sin(
        math.radians(off_nadir_deg)
    )
    half = here @ beam
    place = here + beam * (-half - math.sqrt(half**2 - (orbit**2 - radius**2)))
    up = place / radius
    east = np.cross([0, 0, 1.0], up)
    east /= np.linalg.norm(east)
    north = np.cross(up, east)
    look = math.degrees(math.atan2(beam @ east, beam @ north)) % 360
    incidence = math.degrees(math.acos(-(beam @ up)))
    return math.degrees(math.asin(up[2])), math.degrees(math.atan2(place[1], place[0])), look, incidence


@pytest.mark.parametrize("state", ["ascending", "descending"])
@pytest.mark.parametrize("latitude", [-60.0, -33.0, 0.0, 27.9, 46.5, 63.0, 72.0])
@pytest.mark.parametrize("off_nadir", [27.0, 33.0, 39.5])
def test_the_look_is_that_of_a_flown_orbit(state, latitude, off_nadir):
    here, there, look, incidence = _flown(state, latitude, off_nadir)
    got = radar_geometry(state, incidence, None, (there, here))
    assert abs((got[0] - look + 180) % 360 - 180) <= 0.5
    assert abs(got[1] - incidence) <= 0.25


@pytest.mark.parametrize("stated", [None, 38.3])
def test_a_real_scene_gives_its_own_look_and_the_whole_swath(stated):
    centre = radar_geometry("ascending", stated, IW_SCENE, (3.37, 45.49))
    assert centre[0] == pytest.approx(80.15, abs=0.5)  # the bearing of the scene's own long edges
    assert centre[1] == pytest.approx(38.3, abs=0.5)
    near = radar_geometry("ascending", stated, IW_SCENE, (1.75, 45.3))[1]
    far = radar_geometry("ascending", stated, IW_SCENE, (5.0, 45.65))[1]
    assert near == pytest.approx(IW_INCIDENCE_DEG[0], abs=2)
    assert far == pytest.approx(IW_INCIDENCE_DEG[1], abs=2)
    assert far - near > 14


def test_what_was_flown_is_found_again_across_the_antimeridian():
    middle = _flown("descending", 52.0, 34.0)
    ring = []
    for off, ahead in [(27.0, 1), (40.0, 1), (40.0, -1), (27.0, -1)]:
        where = _flown("descending", 52.0 + 0.8 * ahead, off)
        ring.append([(where[1] - middle[1] + 180.0 + 180) % 360 - 180, where[0]])
    assert max(x for x, _ in ring) - min(x for x, _ in ring) > 300  # some corners lie on the other side
    footprint = {"type": "MultiPolygon", "coordinates": [[[*ring, ring[0]]]]}
    for off in (30.0, 34.0, 38.0):
        place = _flown("descending", 52.0, off)
        point = ((place[1] - middle[1] + 360) % 360 - 180.0, place[0])
        stated = radar_geometry("descending", middle[3], footprint, point)
        assert stated[0] == pytest.approx(place[2], abs=0.75)
        assert stated[1] == pytest.approx(place[3], abs=1)
        assert radar_geometry("descending", None, footprint, point)[1] == pytest.approx(place[3], abs=2)


@pytest.mark.parametrize(
    ("state", "incidence", "footprint", "point"),
    [
        (None, 38.0, IW_SCENE, (3.4, 45.5)),
        ("", 38.0, None, (3.4, 45.5)),
        ("ascending", None, None, (3.4, 45.5)),
        ("ascending", math.nan, None, (3.4, 45.5)),
        ("ascending", 38.0, IW_SCENE, (9.0, 45.5)),
        (
            "ascending",
            None,
            {"type": "Polygon", "coordinates": [[[3, 45], [4, 45], [4, 46], [3, 46], [3, 45]]]},
            (3.5, 45.5),
        ),
        ("ascending", 38.0, None, (3.4, 89.0)),
    ],
    ids=["no orbit", "empty orbit", "nothing", "nan", "outside", "not a swath", "pole"],
)
def test_what_cannot_be_known_is_unknown(state, incidence, footprint, point):
    assert all(map(math.isnan, radar_geometry(state, incidence, footprint, point)))


def test_a_small_footprint_keeps_the_stated_incidence():
    from shapely.geometry import box

    look, incidence = radar_geometry("ascending", 37.12, box(86.9, 27.8, 86.95, 27.85), (86.93, 27.82))
    assert (look, incidence) == (79.5, 37.0)


def test_a_line_is_no_footprint():
    with pytest.raises(CubeError, match="expected a GeoJSON polygon"):
        radar_geometry("ascending", 38.0, {"type": "Point", "coordinates": [1, 2]}, (1.0, 2.0))
