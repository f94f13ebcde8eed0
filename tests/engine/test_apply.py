from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_zeros

import xglof
from toys import raster, spec


def segment(cube: Any, **options: Any) -> Any:
    return xglof.segment(cube, **{"model": spec("context"), "device": "cpu"} | options)


@pytest.mark.usefixtures("no_compute")
def test_building_a_graph_computes_nothing() -> None:
    cube = raster(50, 60).chunk({"x": 30})
    seg = segment(cube, chunks=20)
    assert seg["lake"].chunks == ((1, 1), (20, 20, 10), (20, 20, 20))
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
