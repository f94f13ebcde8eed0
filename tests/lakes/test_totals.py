"""Totals over lakes, whose error follows from a rule that must be chosen."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
import xarray as xr
from rich.console import Console

from lake_maps import empty, lake_map, raising_scheduler
from xglof.cube.flags import Flag
from xglof.errors import CubeError
from xglof.lakes.area import lake_area
from xglof.lakes.polygons import find_lakes
from xglof.lakes.totals import total_area
from xglof.survey import _print_result, _summary


def example():
    """Three lakes on four dates: clear, one unobserved, one held by another, none measured."""
    nan = np.nan
    area = [[10, 10, 25, nan], [20, nan, nan, nan], [30, 30, 30, nan]]
    alone = [[1, 1, 1, 1], [1, 1, nan, 1], [1, 1, 1, 1]]
    series = {
        "area": area,
        "area_sigma": np.array([[3], [4], [12]]) * np.isfinite(area) + np.where(np.isfinite(area), 0, nan),
        "area_lower": [[10, 10, 25, 0], [20, 5, nan, 0], [30, 30, 30, nan]],
        "area_upper": [[10, 10, 25, 40], [20, 45, nan, 50], [30, 30, 30, nan]],
        "requested_fraction": alone,
    }
    dates = np.datetime64("2023-07-01", "ns") + np.arange(4) * np.timedelta64(10, "D")
    variables = {name: (("lake", "time"), np.array(values, float)) for name, values in series.items()}
    return xr.Dataset(variables, {"time": dates}, {"model": "simulated"})


def test_numbers():
    total = total_area(example(), combine="quadrature")
    assert total["area"].dims == ("time",)
    np.testing.assert_array_equal(total["area"], [60, 40, 55, np.nan])
    np.testing.assert_allclose(total["area_sigma"], [13, np.sqrt(9 + 144), np.sqrt(9 + 144), np.nan])
    np.testing.assert_array_equal(total["area_lower"], [60, 45, 55, 0])
    np.testing.assert_array_equal(total["area_upper"], [60, 85, 55, 90])
    assert total["lakes_measured"].values.tolist() == [3, 2, 2, 0]
    assert total["lakes_bounded"].values.tolist() == [3, 3, 2, 2]
    assert total["lakes_all"].values.tolist() == [3, 3, 2, 3]
    linear = total_area(example(), combine="linear")
    np.testing.assert_array_equal(linear["area_sigma"], [19, 15, 15, np.nan])
    assert linear.drop_vars("area_sigma").equals(total.drop_vars("area_sigma"))


def test_the_choice_is_written_with_its_meaning():
    attrs = {rule: total_area(example(), combine=rule).attrs for rule in ("quadrature", "linear")}
    assert attrs["quadrature"]["combine"] == "quadrature"
    assert "independent" in attrs["quadrature"]["combine_comment"]
    assert "correlated" in attrs["linear"]["combine_comment"]
    assert attrs["linear"]["model"] == "simulated"


def test_of_many_like_lakes_the_rules_differ_by_the_root_of_their_number():
    series = example().isel(lake=[0] * 400, time=[0])
    rules = [float(total_area(series, combine=rule)["area_sigma"][0]) for rule in ("quadrature", "linear")]
    assert rules == [60, 1200]


def test_the_repeat_scatter_is_summed_by_the_same_rule_and_no_unknown_one_is_left_out():
    series = example()
    series["sigma_repeat"] = series["area"] * 0 + xr.DataArray([3.0, 4.0, np.nan], dims="lake")
    total = total_area(series, combine="quadrature")
    assert total["sigma_repeat"].isnull().all()
    known = total_area(series.isel(lake=[0, 1]), combine="quadrature")
    np.testing.assert_array_equal(known["sigma_repeat"], [5, 3, 3, np.nan])
    assert "sigma_repeat" not in total_area(example(), combine="linear")


def test_a_real_series_lazily_with_and_without_time():
    values = empty(2)
    values[:, 10:20, 20:30] = 1
    values[:, 40:45, 50:60] = 1
    flags = np.zeros(values.shape, "uint16")
    flags[1, :, 55:] = Flag.not_requested
    series = lake_area(lake_map(values, flags=flags, chunks={"time": 1}))
    with raising_scheduler():
        total = total_area(series, combine="linear")
    np.testing.assert_allclose(total["area"], [15_000, 10_000], rtol=2e-3)
    np.testing.assert_allclose(total["area_upper"], [15_000, 10_000], rtol=2e-3)
    assert total["lakes_bounded"].values.tolist() == [2, 1]
    assert total["lakes_all"].values.tolist() == [2, 2]
    timeless = total_area(lake_area(lake_map(values[0])), combine="linear")
    assert timeless["area"].dims == ()
    assert float(timeless["area"]) == pytest.approx(15_000, rel=2e-3)


def test_no_lakes_have_no_area():
    total = total_area(lake_area(lake_map(empty(2))), combine="quadrature")
    for name in ("area", "area_sigma", "area_lower", "area_upper", "lakes_measured", "lakes_all"):
        assert total[name].values.tolist() == [0, 0], name
    linear = total_area(lake_area(lake_map(empty(2))), combine="linear")
    assert linear["area_sigma"].values.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("values", "bits", "areas"),
    [(empty(2), 0, [0, 0]), (np.ones((2, 9, 9)), Flag.not_requested, [None, None])],
    ids=["no lake", "a lake without bounds"],
)
def test_a_summary_is_json_with_lakes_and_without(values, bits, areas):
    lakes = find_lakes(lake_map(values))
    series = lake_area(lake_map(values, flags=np.full(values.shape, bits)), lakes)
    mapped = SimpleNamespace(
        areas=series,
        observed=xr.DataArray([1.0, np.nan], dims="time"),
        alerts=pandas.DataFrame(),
        cube=xr.Dataset(attrs={"catalog": "", "items_found": 1, "items_used": 1, "items_rejected": []}),
    )
    summary = _summary(mapped, SimpleNamespace(name="model", weights=None, caveat=""))
    told = json.loads(json.dumps(summary, allow_nan=False))["dates"]
    for name in ("area_km2", "upper_km2"):
        assert [row[name] for row in told] == areas
    _print_result(Console(file=io.StringIO()), summary, Path("run"))


def test_the_rule_must_be_said_and_known():
    with pytest.raises(TypeError, match="combine"):
        total_area(example())
    with pytest.raises(CubeError, match="'quadrature'"):
        total_area(example(), combine="sum")
    with pytest.raises(CubeError, match="area_lower, area_upper"):
        total_area(example().drop_vars(["area_lower", "area_upper"]), combine="linear")
