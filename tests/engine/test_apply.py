from __future__ import annotations

import pickle
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_zeros
from xarray.backends import BackendArray
from xarray.core.indexing import LazilyIndexedArray

import xglof
from counting_array import on_disk
from toys import raster, spec
from xglof.cube.flags import Flag


def segment(cube: Any, **options: Any) -> Any:
    return xglof.segment(cube, **{"model": spec("context"), "device": "cpu"} | options)


@pytest.mark.usefixtures("no_compute")
def test_building_a_graph_computes_nothing() -> None:
    cube = raster(50, 60).chunk({"x": 30})
    seg = segment(cube, chunks=20)
    assert seg["lake"].chunks == ((2,), (20, 20, 10), (20, 20, 20))
    assert cube.glof.segment(model="water-index", device="cpu")["lake"].chunks is not None


def test_the_contract_of_the_output() -> None:
    cube = raster(30, 40)
    seg = segment(cube).compute()
    assert {name: str(v.dtype) for name, v in seg.data_vars.items()} == {
        "lake_probability": "float32",
        "lake": "uint8",
        "flags": "uint16",
    }
    assert seg.odc.geobox == cube.odc.geobox
    assert seg["lake"].attrs["nodata"] == 255
    assert "_FillValue" not in seg["lake"].attrs
    assert seg["flags"].attrs["flag_meanings"].split()[0] == "s2_nodata"
    assert seg.attrs["model"] == "context"
    assert "batch 4" in seg.attrs["numerics"]
    probability = seg["lake_probability"].values
    np.testing.assert_array_equal(seg["lake"].values, (probability >= 0.5).astype("uint8"))


def test_equal_requests_have_equal_names_and_others_do_not() -> None:
    cube = raster(40, 40).chunk({"x": 20})

    def name(**options: Any) -> str:
        return str(segment(cube, **options)["lake_probability"].data.name)

    assert name() == name()
    assert len({name(), name(overlap=0.25), name(batch_size=8), name(tta="flip")}) == 4


def test_blocks_lie_on_the_lattice_of_the_grid() -> None:
    seg = segment(raster(50, 60, left=500_070), chunks=20)
    assert seg["lake"].chunks[2] == (13, 20, 20, 7)


def test_the_graph_holds_no_weights_and_few_tasks() -> None:
    cube = raster(600, 600, times=1).chunk({"x": 100, "y": 100, "time": 1})
    seg = segment(cube, chunks=100, model=spec("context", kwargs={"side": 16, "classes": 1}))
    graph = seg["lake_probability"].data.__dask_graph__()
    layer = next(graph.layers[name] for name in graph.layers if name.startswith("segment-"))
    assert len(layer) <= 10 * 36 + 1
    assert len(pickle.dumps(dict(layer))) < 1_000_000 + 2_000 * 36


def test_the_effective_resolution_is_that_of_the_coarsest_band_that_decides() -> None:
    both = raster(20, 20, modalities=("S2L2A", "S1RTC"))
    visible = xglof.ModelInput("S2L2A", mean=[0], std=[1], bands=["B03"])
    optics = xglof.ModelSpec("visible", "toys:bits", [visible], window=16)
    assert segment(both).attrs["effective_resolution_m"] == 20
    assert "effective_resolution_m" not in segment(both, model=optics).attrs


def test_own_names_of_bands_are_understood() -> None:
    cube = raster(20, 20)
    renamed = segment(cube.rename(vv="VV", vh="VH"))
    np.testing.assert_array_equal(renamed["lake"].values, segment(cube)["lake"].values)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"overlap": 0.95}, "overlap is 0.95"),
        ({"overlap": -0.1}, "overlap is -0.1"),
        ({"batch_size": 1}, "at least 2"),
        ({"threshold": 0}, "threshold is 0"),
        ({"tta": "rotate"}, "tta is 'rotate'"),
        ({"chunks": 0}, "chunks is 0"),
        ({"chunks": (5,)}, r"chunks is \(5,\)"),
        ({"chunks": {"z": 5}}, "chunks names z; the dims are time, y, x"),
        ({"chunks": {"x": 0}}, "chunks is {'x': 0}"),
        ({"output": "area"}, "output is 'area'; give one or more of probability, logit"),
        ({"output": ()}, "output is empty"),
        ({"memory_budget": "much"}, "memory_budget is 'much'"),
        ({"memory_budget": 0}, "memory_budget is 0"),
        ({"batch_size": 4.5}, "batch_size is 4.5"),
        ({"overlap": "0.5"}, "overlap is '0.5'"),
        ({"output": None}, "output is None"),
        ({"device": None}, "device is None"),
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"device": "cuda:99"}, "is not there"),
        ({"model": "no-such"}, "water-index"),
    ],
)
def test_arguments_out_of_range_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(xglof.ModelError, match=words):
        segment(raster(20, 20), **options)


def test_a_missing_band_is_named() -> None:
    with pytest.raises(xglof.CubeError, match="needs vh of S1RTC"):
        segment(raster(20, 20).drop_vars("vh"))


def test_a_dem_alone_observes_nothing() -> None:
    cube = raster(20, 20, modalities=("DEM",), times=None)
    with pytest.raises(xglof.CubeError, match="observes nothing"):
        segment(cube, model="water-index")


def test_no_crs_is_refused() -> None:
    bare = raster(20, 20).drop_vars(["spatial_ref", "y", "x"])
    with pytest.raises(xglof.CubeError, match="no CRS"):
        segment(bare)


def test_a_rotated_grid_is_refused() -> None:
    grid = GeoBox(
        (20, 20), Affine.translation(500_000, 3_100_000) * Affine.rotation(20) * Affine.scale(10, -10), 32645
    )
    cube = xr_zeros(grid, "float32").to_dataset(name="vv").assign(vh=lambda d: d["vv"])
    with pytest.raises(xglof.CubeError, match="rotated"):
        segment(cube)


def test_another_axis_order_is_refused() -> None:
    with pytest.raises(xglof.CubeError, match="transpose"):
        segment(raster(20, 20).transpose("time", "x", "y"))


def test_a_sensor_without_time_in_a_cube_with_time_is_refused() -> None:
    cube = raster(20, 20, modalities=("S1RTC", "S2L2A"))
    cube["vv"], cube["vh"] = cube["vv"].isel(time=0, drop=True), cube["vh"].isel(time=0, drop=True)
    with pytest.raises(xglof.CubeError, match="no time"):
        segment(cube)


class OnDisk(BackendArray):  # type: ignore[no-untyped-call]
    """A variable of a file that must not be read yet."""

    shape, dtype = (2, 20, 20), np.dtype("float32")

    def __getitem__(self, key: object) -> np.ndarray:
        raise AssertionError("read while the graph is built")


def test_a_file_opened_without_dask_is_not_read() -> None:
    cube = raster(20, 20)
    cube["vv"] = xr.Variable(cube["vv"].dims, LazilyIndexedArray(OnDisk()))
    seg = segment(cube)
    with pytest.raises(AssertionError, match="while the graph"):
        seg["lake"].compute()


def test_weights_are_checked_before_a_graph_is_built() -> None:
    with pytest.raises(xglof.ModelError, match="are not there"):
        segment(raster(20, 20), model=spec("context", weights=xglof.Weights("gone.safetensors", "0" * 64)))


def test_variables_that_the_model_does_not_take_may_have_any_dims() -> None:
    cube = raster(20, 20)
    bare = segment(cube)
    cube["texture"] = (("layer", "y", "x"), np.zeros((3, 20, 20)))
    cube["scores"] = (("layer",), np.zeros(3))
    xr.testing.assert_identical(segment(cube), bare)


def test_a_band_without_the_spatial_dims_is_refused() -> None:
    cube = raster(20, 20).drop_vars("vv")
    cube["vv"] = (("time",), np.zeros(2))
    with pytest.raises(xglof.CubeError, match=r"'vv' has dims \('time',\)"):
        segment(cube)


def test_an_alias_beside_a_coordinate_of_the_bands_name_is_left_alone() -> None:
    cube = raster(20, 20).rename(vv="VV").assign_coords(vv=("time", [1, 2]))
    with pytest.raises(xglof.CubeError, match="dims"):
        segment(cube)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "int64"])
def test_flags_of_any_whole_type_come_out_as_uint16(dtype: str) -> None:
    cube = raster(20, 20)
    cube["flags"] = (("time", "y", "x"), np.full((2, 20, 20), Flag.cloud, dtype))
    seg = segment(cube).compute()
    assert seg["flags"].dtype == np.uint16
    assert np.all(seg["lake"] == 255)


@pytest.mark.parametrize(("dtype", "meanings"), [("float32", None), ("uint16", "fill dilated_cloud cirrus")])
def test_flags_that_are_no_bits_of_ours_are_refused(dtype: str, meanings: str | None) -> None:
    cube = raster(20, 20)
    attrs = {} if meanings is None else {"flag_meanings": meanings}
    cube["flags"] = (("time", "y", "x"), np.zeros((2, 20, 20), dtype), attrs)
    with pytest.raises(xglof.CubeError, match=f"flags is {dtype}"):
        segment(cube)


def test_a_band_with_a_nodata_of_its_own_is_unobserved_there() -> None:
    cube = raster(20, 20)
    cube["vv"].values[:, :5] = -32768
    assert not np.any(segment(cube)["lake"] == 255)
    cube["vv"].attrs["nodata"] = -32768.0
    lake = segment(cube)["lake"].values
    assert np.all(lake[:, :5] == 255)
    assert not np.any(lake[:, 5:] == 255)


@pytest.mark.parametrize(
    ("crs", "resolution", "fits"),
    [
        ("EPSG:32645", 10, True),
        ("EPSG:32645", 12, True),
        ("EPSG:32645", 30, False),
        ("EPSG:4326", 0.0001, True),
        ("EPSG:4326", 0.0003, False),
    ],
)
def test_pixels_of_another_size_than_the_models_are_refused(crs: str, resolution: float, fits: bool) -> None:
    left, top = (86.9, 27.9) if crs == "EPSG:4326" else (500_000, 3_100_000)
    cube = raster(20, 20, crs=crs, resolution=resolution, left=left, top=top)
    model = spec("context", resolution=10)
    if fits:
        assert segment(cube, model=model)["lake"].shape == (2, 20, 20)
    else:
        with pytest.raises(xglof.CubeError, match="made for 10 m"):
            segment(cube, model=model)


def test_the_numerics_key_names_the_device_and_the_build() -> None:
    import torch

    numerics = segment(raster(20, 20)).attrs["numerics"]
    assert f"{torch.backends.cpu.get_cpu_capability()}; torch {torch.__version__};" in numerics
    assert numerics.endswith("; float32; batch 4; threads 1; tta None")


def test_backscatter_that_is_not_in_decibels_is_refused() -> None:
    cube = raster(20, 20)
    cube["vv"].attrs["units"] = "1"  # what a plain odc.stac.load of linear power says
    with pytest.raises(xglof.CubeError, match="expected 'dB'"):
        segment(cube)


def test_a_mask_that_is_none_is_refused() -> None:
    cube = raster(20, 30, modalities=("S1RTC", "DEM"))
    mask = cube["dem"] > 0
    segment(cube, where=mask)
    shifted = raster(20, 30, modalities=("DEM",), left=500_010)["dem"] > 0
    times = xr.concat(
        [mask, mask], xr.DataArray(cube["time"].values + np.timedelta64(1, "D"), dims="time", name="time")
    )
    for wrong, words in (
        (mask.values, "where is ndarray; expected a boolean DataArray"),
        (cube["dem"], "where is float32"),
        (mask.T, r"where has dims \('x', 'y'\)"),
        (shifted, "where lies on another grid: 20 x 30 pixels of 10 from"),
        (mask.isel(x=slice(1, None)), "where lies on another grid"),
        (times, "other times than the cube"),
        (xr.DataArray(mask.values, dims=mask.dims), "the mask has no CRS"),
    ):
        with pytest.raises(xglof.CubeError, match=words):
            segment(cube, where=wrong)


def test_a_mask_is_turned_with_its_cube() -> None:
    cube = raster(40, 50, modalities=("S1RTC", "DEM"))
    where = cube["dem"] > 0
    upright = segment(cube, where=where)
    turn = {"y": slice(None, None, -1)}
    xr.testing.assert_identical(segment(cube.isel(turn), where=where.isel(turn)).isel(turn), upright)


def test_a_mask_is_lazy(no_compute: None) -> None:
    cube = raster(20, 30, modalities=("S1RTC", "DEM")).chunk()
    assert segment(cube, where=cube["dem"] > 0)["lake"].chunks is not None


def test_a_block_reads_no_more_than_its_windows_see() -> None:
    cube = raster(200, 200, times=3, left=0, top=0)
    (vv, first), (vh, second) = on_disk(cube["vv"]), on_disk(cube["vh"])
    seg = segment(cube.assign(vv=vv, vh=vh), chunks={"time": 1, "y": 64, "x": 64})
    assert (first.largest, second.largest) == (0, 0)
    seg["lake"][1, 64:128, 64:128].compute()
    assert (first.largest, second.largest) == ((64 + 2 * 8) ** 2,) * 2  # half a window on every side
    expected = segment(cube)["lake_probability"].compute()
    xr.testing.assert_identical(seg["lake_probability"].compute(), expected)


def test_dates_of_a_small_raster_share_a_block() -> None:
    assert segment(raster(20, 20, times=30))["lake"].chunks[0] == (2,) * 15
    assert segment(raster(200, 200, times=3))["lake"].chunks[0] == (1, 1, 1)
    lazy = raster(20, 20, times=7).chunk({"time": 5})
    assert segment(lazy)["lake"].chunks[0] == (2, 2, 2, 1)


def test_a_raster_that_fits_a_block_is_one_whatever_its_phase() -> None:
    assert segment(raster(15, 12, left=500_070, top=3_100_110), chunks=20)["lake"].chunks[1:] == (
        (15,),
        (12,),
    )


def test_no_sliver_is_left_beside_a_block() -> None:
    def rows(height: int, **options: Any) -> Any:
        return segment(raster(height, 4, times=1, left=0, top=0), **options)["lake"].chunks[1]

    assert rows(2048) == (2048,)
    assert rows(2300) == (2016, 284)
    assert rows(2048, chunks=2016) == (2016, 32)


def test_a_memory_budget_is_kept_or_refused_in_numbers() -> None:
    cube = raster(2300, 2300, times=1, left=0, top=0)
    known = spec("context", window_bytes=10_000_000)
    assert segment(cube, model=known)["lake"].chunks[1] == (2016, 284)
    smaller = segment(cube, model=known, memory_budget="150 MB")
    assert smaller["lake"].chunks[1][0] in {224, 336, 448, 672}
    with pytest.raises(
        xglof.ModelError, match=r"takes about .* GB, .* memory_budget is 0.15 GB; pass smaller chunks"
    ):
        segment(cube, model=known, memory_budget="150 MB", chunks=2016, batch_size=2)
    with pytest.raises(xglof.ModelError, match=r"pass batch_size=\d+, which is another numerics key"):
        segment(cube, model=known, memory_budget="150 MB", batch_size=64)
    with pytest.raises(xglof.ModelError, match="does not say what memory a window takes"):
        segment(cube, memory_budget="1 GB")


def test_entropy_needs_probabilities() -> None:
    with pytest.raises(xglof.ModelError, match="have no entropy"):
        segment(raster(20, 20), model=spec("context", activation="identity"), output="entropy")


def test_ten_tasks_a_block_at_most_for_all_that_is_written() -> None:
    import dask

    cube = raster(600, 600, times=1)
    (together,) = dask.optimize(segment(cube.chunk({"x": 100, "y": 100, "time": 1}), chunks=100))
    ours = [key for key in dict(together.__dask_graph__()) if "vv-" not in str(key) and "vh-" not in str(key)]
    assert len(ours) <= 10 * 36 + 2


def test_an_empty_cube_is_named() -> None:
    cube = raster(20, 30)
    for empty, dim in ((cube.isel(time=slice(0)), "time"), (cube.isel(y=slice(0)), "y")):
        with pytest.raises(xglof.CubeError, match=f"the cube has nothing along {dim}"):
            segment(empty)


def test_every_band_of_a_sensor_needs_its_time() -> None:
    cube = raster(20, 30)
    cube["vh"] = cube["vh"].isel(time=0, drop=True)
    with pytest.raises(xglof.CubeError, match="S1RTC has no time"):
        segment(cube)


def test_a_mask_by_time_needs_no_coordinate_where_the_cube_has_none() -> None:
    cube = raster(20, 30).drop_vars("time")
    assert segment(cube, where=cube["vv"] > 0)["lake"].shape == (2, 20, 30)
    with pytest.raises(xglof.CubeError, match="other times"):
        segment(raster(20, 30), where=cube["vv"] > 0)


def test_a_nodata_that_is_no_number_is_named() -> None:
    cube = raster(20, 30)
    cube["vv"].attrs["nodata"] = "none"
    with pytest.raises(xglof.CubeError, match="vv has the nodata 'none'"):
        segment(cube)


def test_names_of_the_users_own_tasks_are_not_mistaken_for_ours() -> None:
    import dask

    cube = raster(20, 30, times=1)
    expected = segment(cube)["lake_probability"].compute()
    made = dask.delayed(lambda: cube["vv"].values)(dask_key_name="vv")
    lazy = cube.assign(vv=(cube["vv"].dims, da.from_delayed(made, cube["vv"].shape, "float32")))
    rows = dask.delayed(lambda: cube["vh"].values)(dask_key_name="rows")
    lazy = lazy.assign(vh=(cube["vh"].dims, da.from_delayed(rows, cube["vh"].shape, "float32")))
    np.testing.assert_array_equal(segment(lazy, chunks=8)["lake_probability"], expected)


@pytest.mark.parametrize("side", [100, 50, 33, 25, 130])
def test_few_tasks_a_block_for_chunks_of_any_size(side: int) -> None:
    cube = raster(600, 600, times=1, left=0, top=0).chunk({"x": side, "y": side, "time": 1})
    seg = segment(cube, chunks=100)
    graph = seg["lake_probability"].data.__dask_graph__()
    layer = next(graph.layers[name] for name in graph.layers if name.startswith("segment-"))
    assert len(layer) <= 9 * 36 + 1
    part = seg["lake_probability"][:, 150:260, 80:210]
    xr.testing.assert_identical(
        part.compute(), segment(cube.compute())["lake_probability"][:, 150:260, 80:210]
    )


def test_a_nodata_of_a_file_is_replaced_as_it_is_read() -> None:
    cube = raster(200, 200, times=1, left=0, top=0)
    cube["vv"].values[:, :90, 30:] = -32768
    expected = segment(cube.assign(vv=cube["vv"].where(cube["vv"] != -32768)))["lake_probability"].compute()
    vv, counting = on_disk(cube["vv"].assign_attrs(nodata=-32768))
    seg = segment(cube.assign(vv=vv), chunks=64)["lake_probability"]
    assert counting.largest == 0
    np.testing.assert_array_equal(seg, expected)
    assert counting.largest == (64 + 2 * 8) ** 2
