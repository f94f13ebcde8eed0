from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from chip_cubes import SPEC, Inference, in_file, labelled
from toys import WINDOW, raster, spec
from xglof.cube.flags import Flag
from xglof.errors import CubeError, TrainError
from xglof.train import counting
from xglof.train.sampling import chips

UTM44 = {"crs": "EPSG:32644", "left": 400_070, "top": 3_300_110}
COLUMNS = {
    "chip_id": "O", "source": "int32", "time": "<M8[ns]", "step": "int64", "row": "int64", "col": "int64",
    "longitude": "float64", "latitude": "float64", "side_m": "float64", "lake_fraction": "float32",
    "valid_fraction": "float32", "lake_ids": "O", "modalities": "O", "walk": "int64", "block": "int64",
    "hardness": "float32", "fold": "O",
}  # fmt: skip


def inside(row: int, col: int, shape: tuple[int, int]) -> tuple[slice, slice]:
    return slice(max(row, 0), min(row + WINDOW, shape[0])), slice(max(col, 0), min(col + WINDOW, shape[1]))


def expected(
    cube: xr.Dataset, label: xr.DataArray, stride: int, min_valid: float, mask: Any = True
) -> dict[Any, Any]:
    """By step, row and column: valid pixels, lake pixels and modalities, one window after the other."""
    inference = Inference(cube, SPEC, WINDOW, stride)
    seen = {each.source.modality: each.observed.numpy() for each in inference.staged.modalities}
    edge = inference.y.extent(0, inference.y.size)[0], inference.x.extent(0, inference.x.size)[0]
    sensors = [np.broadcast_to(seen[name], seen["S2L2A"].shape) for name in ("S2L2A", "S1RTC")]
    bad = sum(int(Flag[name]) for name in SPEC.unobserved_when)
    clear = True if "flags" not in cube else (cube["flags"].values.reshape(-1, *label.shape[-2:]) & bad) == 0
    labels = np.broadcast_to(label.values, (*sensors[0].shape[:1], *label.shape[-2:]))
    height, width = label.shape[-2:]
    own = np.s_[:, -edge[0] : height - edge[0], -edge[1] : width - edge[1]]
    valid = (
        (labels != 255) & (sensors[0][own] | sensors[1][own]) & clear & np.broadcast_to(mask, labels.shape)
    )
    found = {}
    for place, modalities in inference.modalities().items():
        part = (place[0], *inside(*place[1:], (height, width)))
        count = int(valid[part].sum())
        if count >= max(min_valid * WINDOW**2, 1):
            found[place] = count, int((labels[part][valid[part]] == 1).sum()), modalities
    return found


def counted(index: pd.DataFrame) -> dict[Any, Any]:
    return {
        (row.step, row.row, row.col): (
            round(row.valid_fraction * WINDOW**2),
            round(row.lake_fraction * round(row.valid_fraction * WINDOW**2)),
            row.modalities,
        )
        for row in index.itertuples()
    }


@pytest.mark.parametrize(("seed", "flags", "min_valid"), [(0, True, 0), (1, False, 0.4), (2, True, 0.4)])
def test_the_index_counts_what_a_loop_over_windows_counts(seed: int, flags: bool, min_valid: float) -> None:
    cube, label = labelled(45, 37, seed=seed, flags=flags, left=500_070, top=3_100_110)
    dem = cube["dem"].fillna(0) > -0.5
    source = chips(
        in_file(cube, (1, 20, 14)), label=label, model=SPEC, stride=6, min_valid=min_valid, where=dem
    )
    assert counted(source.index) == expected(cube, label, 6, min_valid, dem.values)
    dasky = chips(
        cube.chunk({"time": 1, "y": 11, "x": 20}),
        label=label.chunk({"time": 2, "y": 9}),
        model=SPEC,
        stride=6,
        min_valid=min_valid,
        where=lambda cube: cube["dem"].fillna(0) > -0.5,
    )
    order = ["step", "row", "col"]
    both = [
        each.index.sort_values(order, ignore_index=True).drop(columns=["walk", "block"])
        for each in (source, dasky)
    ]
    pd.testing.assert_frame_equal(*both)


def foreign(cube: xr.Dataset) -> xr.Dataset:
    """The cube with other nodata, stated in the attributes; the DEM in whole numbers."""
    held = {
        "B03": (cube["B03"].astype("int16").where(cube["B03"] != 0, -1), -1),
        "vv": (cube["vv"].fillna(-9999), -9999),
        "dem": (cube["dem"].fillna(-32768).astype("int16"), -32768),
    }
    return cube.assign({name: array.assign_attrs(nodata=value) for name, (array, value) in held.items()})


@pytest.mark.parametrize("flags", [True, False])
def test_nodata_that_a_variable_states_is_nodata(flags: bool) -> None:
    cube, label = labelled(45, 37, seed=4, flags=flags)
    cube["dem"] = (cube["dem"] * 100).round()
    cube["B03"] = cube["B03"].astype("int16")
    options: dict[str, Any] = {"label": label, "model": SPEC, "stride": 6, "min_valid": 0.2}
    plain = chips(cube, **options)
    block = {"time": 1, "y": 11, "x": 20}
    for other in (foreign(cube), in_file(foreign(cube), (1, 20, 14)), foreign(cube).chunk(block)):
        source = chips(other, **options)
        columns = ["chip_id", "valid_fraction", "lake_fraction", "modalities"]
        pd.testing.assert_frame_equal(
            *(each.index[columns].sort_values("chip_id", ignore_index=True) for each in (source, plain))
        )
        rows = [row for row, held in enumerate(source.index["modalities"]) if "DEM" in held][:1]
        same = plain.index.index[plain.index["chip_id"] == source.index["chip_id"][rows[0]]].tolist()
        found, wanted = source.read(rows).planes, plain.read(same).planes
        assert found["dem"].dtype == torch.float32
        for name in ("dem", "B03", "vv"):
            torch.testing.assert_close(found[name], wanted[name], equal_nan=True, rtol=0, atol=0)


def test_where_all_is_well_flags_spare_the_bands() -> None:
    cube, label = labelled(40, 40, seed=3)
    cube["B03"].values[:] = 5
    cube["flags"].values[:] = np.where(np.isnan(cube["vv"].values), int(Flag.s1_nodata), 0)
    log: list[tuple[Any, ...]] = []
    source = chips(in_file(cube, (1, 40, 40), log=log), label=label, model=SPEC, stride=8, min_valid=0)
    assert {entry[0] for entry in log} == {"flags", "dem"}
    assert counted(source.index) == expected(cube, label, 8, 0)
    log.clear()
    cube["flags"].attrs.pop("cloud_mask")  # somebody else's flags
    chips(in_file(cube, (1, 40, 40), log=log), label=label, model=SPEC, stride=8)
    assert {entry[0] for entry in log} >= {"B01", "vv"}


def test_the_index_is_complete_and_in_reading_order() -> None:
    first, lake = labelled(40, 37, left=500_070, top=3_100_110)
    second, other = labelled(33, 50, seed=1, times=3, **UTM44)
    source = chips([first, second], label=[lake, other], model=SPEC, min_valid=0.3)
    index = source.index
    assert dict(index.dtypes.astype(str).replace("object", "O")) == {
        name: {"<M8[ns]": "datetime64[ns]"}.get(kind, kind) for name, kind in COLUMNS.items()
    }
    assert index["chip_id"].is_unique
    assert index["block"].is_monotonic_increasing
    assert index["walk"].is_monotonic_increasing
    assert set(index["source"]) == {0, 1}
    assert (index["fold"] == "").all()
    assert index["hardness"].isna().all()
    for number, cube in enumerate((first, second)):
        own = index[index["source"] == number]
        np.testing.assert_array_equal(own["time"], cube["time"].values[own["step"]])


def test_places_on_the_ground_are_those_of_pyproj() -> None:
    from pyproj import Geod, Transformer

    cube, label = labelled(40, 37, left=500_070, top=3_100_110)
    index = chips(cube, label=label, model=SPEC, min_valid=0).index
    to_degrees = Transformer.from_crs("EPSG:32645", "EPSG:4326", always_xy=True)
    x, y = 500_070 + 10 * (index["col"] + 8), 3_100_110 - 10 * (index["row"] + 8)
    longitude, latitude = to_degrees.transform(x, y)
    np.testing.assert_allclose(index["longitude"], longitude, rtol=0, atol=1e-12)
    np.testing.assert_allclose(index["latitude"], latitude, rtol=0, atol=1e-12)
    west, east = (to_degrees.transform(x + sign * 80, y) for sign in (-1, 1))
    across = Geod(ellps="WGS84").inv(*west, *east)[2]
    assert (index["side_m"] >= across - 1e-6).all()
    assert (index["side_m"] < 161).all()


def test_a_geographic_grid_of_south_up_rows_without_time() -> None:
    grid = {"crs": "EPSG:4326", "left": 86.9, "top": 27.9, "resolution": 0.0001}
    cube, label = labelled(40, 37, times=None, **grid)
    index = chips(cube, label=label, model=SPEC, min_valid=0).index
    assert index["time"].isna().all()
    turned = {"latitude": slice(None, None, -1)}
    same = chips(cube.isel(turned), label=label.isel(turned), model=SPEC, min_valid=0).index
    pd.testing.assert_frame_equal(index, same)
    # a degree of longitude is shorter than one of latitude, which is the longer side
    assert index["side_m"].between(177, 178).all()


def test_a_label_without_dates_holds_for_all() -> None:
    cube, label = labelled(40, 37)
    still = label.isel(time=0, drop=True)
    index = chips(cube, label=still, model=SPEC, stride=8, min_valid=0).index
    assert counted(index) == expected(cube, still, 8, 0)


def test_hardness_is_the_mean_score_of_the_land_that_counts() -> None:
    cube, label = labelled(40, 37, flags=False)
    cube["B03"].values[:] = 5
    rng = np.random.default_rng(0)
    scores = cube["vv"].copy(data=rng.random(cube["vv"].shape, dtype="float32"))
    scores.values[:, ::3] = np.nan
    index = chips(cube.chunk({"y": 17}), label=label, model=SPEC, stride=8, min_valid=0, scores=scores).index
    for row in index.itertuples():
        part = (row.step, *inside(row.row, row.col, (40, 37)))
        land = scores.values[part][label.values[part] == 0].astype(float)
        np.testing.assert_allclose(
            row.hardness, np.nanmean(land) if np.isfinite(land).any() else np.nan, rtol=1e-6
        )


def test_random_chips_are_drawn_from_all_valid_places(monkeypatch: pytest.MonkeyPatch) -> None:
    cube, label = labelled(60, 60, flags=False)
    options: dict[str, Any] = {"label": label, "model": SPEC, "stride": 4, "sampling": "random"}
    every = chips(cube, label=label, model=SPEC, stride=4).index
    some = chips(cube, count=30, seed=5, **options).index
    again = chips(cube.chunk({"y": 20}), count=30, seed=5, **options).index
    other = chips(cube, count=30, seed=6, **options).index
    monkeypatch.setattr(counting, "_WINDOWS", 1)  # one time step at a time
    stepwise = chips(cube, count=30, seed=5, **options).index
    pd.testing.assert_frame_equal(some, stepwise)
    assert set(some["step"]) == {0, 1}
    assert len(some) == some["chip_id"].nunique() == 30
    assert set(some["chip_id"]) < set(every["chip_id"])
    assert set(some["chip_id"]) == set(again["chip_id"]) != set(other["chip_id"])
    with pytest.raises(TrainError, match=f"count is 9999 and {len(every)} places are valid"):
        chips(cube, count=9999, **options)


def test_lakes_are_named_by_their_polygons() -> None:
    import geopandas
    import shapely

    cube, label = labelled(64, 64, flags=False)
    lake = shapely.box(500_200, 3_099_700, 500_290, 3_099_790)
    lakes = geopandas.GeoDataFrame({"lake_id": ["imja"]}, geometry=[lake], crs="EPSG:32645").to_crs(4326)
    index = chips(cube, label=label, model=SPEC, stride=16, lakes=lakes, min_valid=0).index
    over = (
        (index["col"] * 10 <= 290) & (index["col"] * 10 + 160 >= 200)
        & (index["row"] * 10 <= 300) & (index["row"] * 10 + 160 >= 210)
    )  # fmt: skip
    assert over.any()
    assert not over.all()
    assert (index["lake_ids"] == np.where(over, "imja", "")).all()
    burned = chips(cube, label=lakes, model=SPEC, stride=16, min_valid=0).index
    pd.testing.assert_series_equal(burned["lake_ids"], index["lake_ids"])
    assert (burned["lake_fraction"] > 0).sum() > 0


def test_bad_input_is_refused_before_anything_is_read() -> None:
    cube, label = labelled(40, 37)
    log: list[tuple[Any, ...]] = []
    stored = in_file(cube, (1, 40, 37), log=log)
    for options, message in (
        ({"stride": 0}, "stride is 0"),
        ({"size": 20}, "multiple of 16"),
        ({"min_valid": 1.5}, "min_valid is 1.5"),
        ({"sampling": "dense"}, "sampling is 'dense'"),
        ({"sampling": "random"}, "say how many"),
        ({"count": 0}, "count is 0"),
        ({"scores": label}, "scores are uint8"),
        ({"scores": cube["vv"].isel(x=slice(5))}, "scores lie on another grid"),
        ({"lakes": ["a", "b"]}, "as many inventories"),
    ):
        with pytest.raises(TrainError, match=message):
            chips(stored, **{"label": label, "model": SPEC} | options)
    with pytest.raises(TrainError, match=r"cube 1 of 2: the label .*does not cover the cube"):
        chips([stored, stored], label=[label, label.isel(x=slice(5))], model=SPEC)
    with pytest.raises(TrainError, match="2 cubes need a list of as many for label"):
        chips([stored, stored], label=label, model=SPEC)
    with pytest.raises(TrainError, match="no cube"):
        chips([], label=[], model=SPEC)
    with pytest.raises(CubeError, match="where is float32"):
        chips(stored, label=label, model=SPEC, where=cube["dem"])
    assert not log


def test_what_cannot_be_trained_on_is_told() -> None:
    cube, label = labelled(40, 37)
    with pytest.raises(TrainError, match=r"no square of 16 px .* in 1 cubes of 2,960 pixels"):
        chips(cube, label=xr.full_like(label, 255), model=SPEC)
    wrong = label.copy(data=np.where(label == 1, 7, label.values).astype("uint8"))
    with pytest.raises(TrainError, match="the label holds 7"):
        chips(cube, label=in_file(wrong, (1, 40, 37)), model=SPEC)
    grd = raster(40, 37, modalities=("S1GRD",))
    for name in ("vv", "vh"):
        grd[name].attrs["product"] = "GRD sigma0"
    both = replace(spec("bits", ("S1RTC",)), factory="xglof.models.terramind:segmenter")
    with pytest.raises(CubeError, match=r"cube 1 of 2: .*S1GRD"):
        chips([cube, grd], label=[label, label], model=both)
