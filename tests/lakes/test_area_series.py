"""What goes along with the areas: probabilities, resolution, coordinates and attributes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake_maps import UTM, empty, lake_map, raising_scheduler
from xglof.lakes.area import lake_area
from xglof.lakes.layer import pixel_metres
from xglof.lakes.polygons import find_lakes
from xglof.lakes.tracking import track


def two_lakes(times=3):
    values = empty(times)
    values[:, 10:20, 20:30] = 1
    values[:, 40:45, 50:60] = 1
    return values


def likely_map(seed, chunks=None):
    rng = np.random.default_rng(seed)
    values = two_lakes()
    values[:, 12:15, 22] = 255
    seg = lake_map(values)
    likely = np.where(values == 255, np.nan, 0.8 * values + 0.2 * rng.random(values.shape))
    seg = seg.assign(lake_probability=seg["lake"].copy(data=likely.astype("float32")))
    return seg if chunks is None else seg.chunk(chunks)


def test_the_fractional_area_is_the_sum_of_probabilities():
    seg = likely_map(1)
    series = lake_area(seg, fractional=True, buffer_px=0)
    pixel = pixel_metres(UTM, series["x"].values, series["y"].values)[2]
    likely = seg["lake_probability"].values
    north = np.nansum(likely[:, 10:20, 20:30], axis=(1, 2))
    south = likely[:, 40:45, 50:60].sum(axis=(1, 2))
    np.testing.assert_allclose(
        series["area_fractional"], np.stack([north, south]) * pixel[:, None], rtol=1e-6
    )
    wider = lake_area(seg, fractional=True)  # land in the buffer has a probability too
    assert (wider["area_fractional"] > series["area_fractional"]).all()
    assert "area_fractional" not in lake_area(seg)


def test_where_there_is_no_point_value_there_is_no_fractional_area_either():
    lakes = track(find_lakes(lake_map(two_lakes())))
    series = lake_area(likely_map(1), lakes, fractional=True, min_observed=0.98)
    assert series["area"][0].isnull().all()
    assert series["area_fractional"][0].isnull().all()
    assert series["area_fractional"][1].notnull().all()


@given(
    seed=st.integers(0, 1000),
    chunks=st.fixed_dictionaries(
        {"time": st.integers(1, 3), "y": st.integers(5, 60), "x": st.integers(5, 80)}
    ),
)
@settings(max_examples=10, deadline=None)
def test_chunks_change_no_bit(seed, chunks):
    lakes = track(find_lakes(likely_map(seed)))
    whole = lake_area(likely_map(seed), lakes, fractional=True).compute(scheduler="sync")
    with raising_scheduler():
        lazy = lake_area(likely_map(seed, chunks), lakes, fractional=True)
    assert lazy.compute(scheduler="sync").identical(whole)


def test_the_coarser_resolution_decides_the_error_and_is_written_down():
    seg = lake_map(two_lakes())
    fine, coarse = lake_area(seg), lake_area(seg.assign_attrs(effective_resolution_m=20))
    np.testing.assert_allclose(coarse["area_sigma"] / fine["area_sigma"], 2, rtol=1e-3)
    assert coarse.attrs["effective_resolution_m"] == 20
    assert "effective_resolution_m" not in fine.attrs
    own = lake_area(seg.assign_attrs(effective_resolution_m=20), resolution_m=40)
    np.testing.assert_allclose(own["area_sigma"] / fine["area_sigma"], 4, rtol=1e-3)
    assert own.attrs["effective_resolution_m"] == 40
    assert "sigma_repeat" in fine["area_sigma"].attrs["comment"]


def test_the_coordinates_of_every_date_stay():
    seg = lake_map(two_lakes(), chunks={"time": 1}).assign_coords(
        orbit_state=("time", ["ascending", "descending", ""], {"long_name": "orbit"}),
        s1_gap_days=("time", [1.0, np.nan, -2.0]),
        platform="S2",
        row=("y", np.arange(60)),
    )
    lakes = track(find_lakes(seg))
    for each in (seg, seg["lake"]):
        series = lake_area(each, lakes)
        assert series["orbit_state"].values.tolist() == ["ascending", "descending", ""]
        assert series["orbit_state"].attrs == {"long_name": "orbit"}
        np.testing.assert_array_equal(series["s1_gap_days"], [1, np.nan, -2])
        assert set(series.coords) == {
            *("lake", "time", "longitude", "latitude", "x", "y", "orbit_state", "s1_gap_days")
        }
    late_first = lake_area(seg.isel(time=[2, 0, 1]), lakes)
    assert late_first["orbit_state"].values.tolist() == ["", "ascending", "descending"]


def test_the_model_and_the_composite_stay_with_the_series():
    told = {"model": "simulated", "model_sha256": "ab", "threshold": 0.4}
    made = {"composite": "median", "composite_window": "month"}
    seg = lake_map(two_lakes()).assign_attrs(**told, **made, nodata=0)
    assert lake_area(seg).attrs == {**told, **made, "min_observed": 0.7, "buffer_px": 2}


def test_every_variable_says_what_it_is():
    series = lake_area(likely_map(0), fractional=True)
    for name in series.variables:
        if name not in ("time", "x", "y"):
            assert series[name].attrs["long_name"], name
    assert {name: each.attrs["units"] for name, each in series.items() if name != "part_of"} == {
        **dict.fromkeys(["area", "area_sigma", "area_lower", "area_upper", "area_fractional"], "m2"),
        "perimeter": "m",
        **{f"{name}_fraction": "1" for name in ("observed", "frozen", "requested", "s1", "s2")},
    }
    for name in series["area"].attrs["ancillary_variables"].split():
        assert name in series


def test_without_time_every_lake_holds_itself():
    values = two_lakes(2)
    series = lake_area(lake_map(values[0]), track(find_lakes(lake_map(values))))
    assert series["part_of"].dims == ("lake",)
    assert series["part_of"].values.tolist() == [0, 1]
    assert series["area"].values == pytest.approx([10_000, 5_000], rel=2e-3)
