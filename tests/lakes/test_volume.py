"""Volumes: known numbers of each relation, units, ranges, laziness."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from xglof.errors import CubeError
from xglof.lakes.volume import DEFAULT_RELATIONS, RELATIONS, Relation, lake_volume

KM2 = 1e6
RANGED = Relation(
    "ranged_m2_m3", ((0.1, 1.4),), "m2", "m3", "a test", range_km2=(0.0035, 6), interval=(0.5, 3.0)
)


@pytest.mark.parametrize(
    ("name", "million_m3"),
    [
        ("huggel_2002_m2_m3", 34.4),
        ("cook_quincey_2015_m2_m3", 31.4),
        ("sakai_2012_km2_1e6m3", 43.2),
        ("evans_1986_m2_m3", 35.0),
        ("oconnor_2001_m2_m3", 171.6),
        ("fujita_2013_km2_1e6m3", 55.0),
    ],
)
def test_a_lake_of_one_square_kilometre_has_the_published_volume(name, million_m3):
    found = lake_volume(KM2, relations=[name])
    assert float(found["volume"].item()) / 1e6 == pytest.approx(million_m3, abs=0.05)
    assert float(found["band_lower"]) == float(found["band_upper"]) == found["volume"].item()


def test_every_relation_names_its_units_and_its_source():
    for name, relation in RELATIONS.items():
        assert name == relation.name
        assert name.endswith(f"_{relation.area_unit}_{relation.volume_unit}")
        assert relation.source
        assert "secondary" in relation.note


def test_the_relations_agree_within_a_factor_of_two_at_a_tenth_of_a_square_kilometre():
    # a coefficient that belongs to other units is off by thousands
    found = lake_volume(0.1 * KM2, relations=list(RELATIONS))["volume"].to_numpy() / 1e6
    assert found.min() > 1.0
    assert found.max() / found.min() < 3.5


def test_a_band_has_a_smallest_and_a_largest_over_the_relations():
    area = xr.DataArray([[0.02e6, 1e6], [np.nan, 4e6]], dims=("lake", "time"), attrs={"units": "m2"})
    found = lake_volume(area)
    assert found["volume"].dims == ("relation", "lake", "time")
    assert found["relation"].to_numpy().tolist() == [each.name for each in DEFAULT_RELATIONS]
    every = found["volume"].to_numpy()
    np.testing.assert_array_equal(found["band_lower"][0], every[:, 0].min(axis=0))
    np.testing.assert_array_equal(found["band_upper"][0], every[:, 0].max(axis=0))
    assert np.isnan(found["band_lower"][1, 0])
    assert np.isnan(every[:, 1, 0]).all()
    assert np.isnan(found["volume_lower"]).all()  # none of the papers' intervals is known here
    assert found["volume"].attrs["units"] == found["band_upper"].attrs["units"] == "m3"


@given(st.floats(1, 1e9), st.permutations(list(RELATIONS)))
def test_a_band_holds_every_relation_in_any_order(area, names):
    found = lake_volume(xr.DataArray(area, attrs={"units": "m2"}), relations=names)
    expected = [RELATIONS[name].volume_m3(area) for name in names]
    np.testing.assert_allclose(found["volume"], expected)
    assert found["band_lower"].item() == found["volume"].min().item()
    assert found["band_upper"].item() == found["volume"].max().item()


def test_a_relation_outside_its_range_is_left_out_with_a_word():
    areas = np.array([0.002, 0.0035, 1.0, 6.0, 6.1]) * KM2
    found = lake_volume(areas, relations=[RANGED, "huggel_2002_m2_m3"])
    ranged = found.sel(relation="ranged_m2_m3")
    assert np.isnan(ranged["volume"].to_numpy()).tolist() == [True, False, False, False, True]
    assert ranged["in_range"].to_numpy().tolist() == [0, 1, 1, 1, 0]
    assert ranged["note"].item() == "left out below and above its calibrated 0.0035 to 6 km2"
    huggel = found.sel(relation="huggel_2002_m2_m3")
    assert (huggel["in_range"] == 2).all()
    assert "range is not known" in huggel["note"].item()
    assert found["band_lower"][0] == huggel["volume"][0]  # it alone is left
    assert found["in_range"].dtype == np.uint8
    assert found["in_range"].attrs["flag_meanings"] == "outside inside unknown"


def test_a_published_interval_is_passed_on():
    found = lake_volume(KM2, relations=[RANGED])
    assert found["volume_lower"].item() == pytest.approx(0.5 * found["volume"].item())
    assert found["volume_upper"].item() == pytest.approx(3 * found["volume"].item())


def test_relations_of_unknown_range_can_be_left_out():
    found = lake_volume(KM2, relations=[RANGED, "sakai_2012_km2_1e6m3"], unknown_range="leave out")
    assert np.isnan(found["volume"].sel(relation="sakai_2012_km2_1e6m3"))
    assert found["note"].to_numpy()[1].startswith("left out: its calibrated range is not known")
    assert found["band_upper"].item() == found["volume"][0].item()
    alone = lake_volume(KM2, unknown_range="leave out")
    assert np.isnan(alone["band_lower"].item())


def test_a_band_of_a_series_tells_how_many_relations_it_rests_on_and_why_not_the_others(no_compute):
    area = da.from_array(np.array([[0.002, 1.0, 7.0], [np.nan, 0.0, 6.0]]) * KM2, chunks=(1, 3))
    series = xr.Dataset({"area": (("lake", "time"), area, {"units": "m2"})}, {"lake": ["a", "b"]})
    found = lake_volume(series, relations=[RANGED, "huggel_2002_m2_m3"], unknown_range="leave out")
    assert found.attrs["relations_in_band"] == 1
    told = dict(each.split(": ", 1) for each in found.attrs["relations_left_out"].split("; "))
    assert told["ranged_m2_m3"] == "left out below and above its calibrated 0.0035 to 6 km2"
    assert told["huggel_2002_m2_m3"] == "left out: its calibrated range is not known here"
    assert told["evans_1986_m2_m3"] == "not among the relations asked for"
    assert set(told) == {*RELATIONS, "ranged_m2_m3"}
    assert found["band_count"].dtype == np.uint8
    assert found["band_count"].chunks is not None


def test_a_band_is_empty_where_every_relation_is_left_out():
    area = np.array([0.002, 1.0, 7.0, np.nan, 0.0]) * KM2
    found = lake_volume(area, relations=[RANGED, "huggel_2002_m2_m3"], unknown_range="leave out")
    # a lake without water needs no range: both relations give 0
    assert found["band_count"].to_numpy().tolist() == [0, 1, 0, 0, 2]
    assert np.isnan(found["band_upper"]).to_numpy().tolist() == [True, False, True, True, False]
    assert lake_volume(area, relations=[RANGED, "huggel_2002_m2_m3"])["band_count"].to_numpy()[0] == 1


def test_a_bound_on_floods_enters_a_band_only_by_name():
    found = lake_volume(KM2)
    names = found["relation"].to_numpy().tolist()
    assert "fujita_2013_km2_1e6m3" not in names
    assert "flood" in found.attrs["relations_left_out"]
    assert found["band_upper"].item() == found["volume"].sel(relation="sakai_2012_km2_1e6m3").item()
    asked = lake_volume(KM2, relations=list(RELATIONS))
    assert asked.attrs == {"relations_in_band": 6, "relations_left_out": ""}
    assert asked["band_count"].item() == 6


def test_a_drained_lake_holds_nothing_and_an_unseen_one_is_unknown():
    found = lake_volume(xr.DataArray([0.0, np.nan], dims="lake", attrs={"units": "m2"}), relations=[RANGED])
    assert found["volume"].to_numpy()[0].tolist()[0] == 0.0
    assert np.isnan(found["volume"].to_numpy()[0, 1])
    assert found["in_range"].to_numpy().tolist() == [[1, 2]]


def test_a_series_keeps_its_coordinates_and_stays_lazy(no_compute):
    series = xr.Dataset(
        {"area": (("lake", "time"), da.full((2, 3), 1e6, chunks=(1, 3)), {"units": "m2"})},
        coords={"lake": ["a", "b"], "longitude": ("lake", [87.0, 88.0])},
    )
    found = lake_volume(series)
    assert all(found[name].chunks is not None for name in found)
    assert found["band_lower"].dims == ("lake", "time")
    assert found["longitude"].dims == ("lake",)


def test_a_lazy_band_equals_an_eager_one():
    values = np.array([0.0, 1e4, np.nan, 1e6, 2e7])
    lazy = lake_volume(xr.DataArray(da.from_array(values, chunks=2), dims="lake"), relations=[RANGED])
    xr.testing.assert_identical(
        lazy.compute(), lake_volume(xr.DataArray(values, dims="lake"), relations=[RANGED])
    )


@pytest.mark.parametrize(
    ("area", "relations", "message"),
    [
        (xr.DataArray(1.0, attrs={"units": "km2"}), None, "in 'km2'; expected 'm2'"),
        ([0.5, 4.3], None, "multiply km2 by 1e6"),
        ([-5.0, 1e6], None, "an area is -5 m2"),
        (xr.Dataset({"volume": 1.0}), None, "expected 'area'"),
        (1e6, ["huggel"], "no relation is called 'huggel'; known are huggel_2002_m2_m3"),
        (1e6, ["evans_1986_m2_m3"] * 2, "none twice"),
        (1e6, [], "at least one"),
    ],
)
def test_areas_and_relations_that_are_none_are_refused(area, relations, message):
    with pytest.raises(CubeError, match=message.replace("(", r"\(")):
        lake_volume(area, relations=relations)


def test_unknown_ways_with_ranges_are_refused():
    with pytest.raises(CubeError, match="'take' or 'leave out'"):
        lake_volume(1e6, unknown_range="drop")


def test_negative_areas_of_a_lazy_array_are_refused_when_computed():
    found = lake_volume(xr.DataArray(da.from_array(np.array([-1.0])), dims="lake"))
    with pytest.raises(CubeError, match="0 or more"):
        found.compute()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "mine"}, "does not name its units"),
        ({"area_unit": "ha"}, "areas can be in m2, km2"),
        ({"terms": ()}, "has no terms"),
        ({"range_km2": (2.0, 1.0)}, "range_km2 of relation"),
        ({"interval": (2.0, 1.0)}, "interval of relation"),
    ],
)
def test_relations_that_say_too_little_are_refused(changes, message):
    fine = {
        "name": "mine_m2_m3",
        "terms": ((1.0, 1.0),),
        "area_unit": "m2",
        "volume_unit": "m3",
        "source": "x",
    }
    with pytest.raises(CubeError, match=message):
        Relation(**{**fine, **changes})
