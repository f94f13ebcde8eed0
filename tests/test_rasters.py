from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from counting_array import on_disk
from lake_maps import UTM, lake_map
from xglof import rasters
from xglof.cube.flags import flag_attrs
from xglof.errors import CubeError, OutputError
from xglof.outputs import write_zarr
from xglof.rasters import write_cogs

ATTRS = {
    "Conventions": "CF-1.11",
    "model": "water-index",
    "model_sha256": "ab12",
    "numerics": "cpu AVX2; torch 2.8",
    "threshold": 0.5,
}


def segmentation(shape: tuple[int, ...] = (2, 40, 50), grid: GeoBox = UTM, seed: int = 0) -> xr.Dataset:
    """All layers that a segmentation can have, at random, a tenth of them unobserved."""
    rng = np.random.default_rng(seed)
    hidden = rng.random(shape) < 0.1
    lake = np.where(hidden, 255, rng.integers(0, 2, shape))
    seg = lake_map(lake, grid, flags=rng.integers(0, 2**15, shape))
    seg["lake"].attrs = {
        "long_name": "lake map",
        "flag_values": np.array([0, 1, 255], "uint8"),
        "nodata": 255,
    }
    seg["lake"].attrs["flag_meanings"] = "land lake unobserved"
    seg["flags"].attrs = flag_attrs()
    for name in ("lake_probability", "entropy", "tile_mismatch"):
        values = np.where(hidden, np.float32(np.nan), rng.random(shape, dtype="float32"))
        seg[name] = seg["lake"].copy(data=values)
        seg[name].attrs = {"long_name": f"its {name}", "units": "1"}
    logit = np.where(hidden, np.nan, rng.normal(0, 5, (2, *shape)).clip(-32, 32)).astype("float32")
    seg["logit"] = (("class", *seg["lake"].dims), logit, {"long_name": "blended logit", "units": "1"})
    seg["classes"] = seg["lake"].copy(data=np.where(hidden, 255, rng.integers(0, 3, shape)).astype("uint8"))
    return seg.assign_coords({"class": ["land", "lake"]}).assign_attrs(ATTRS)


def read(path: Path) -> np.ndarray:
    """All bands in physical units, NaN where masked."""
    with rasterio.open(path) as file:
        values = np.stack([file.read(n) * file.scales[n - 1] + file.offsets[n - 1] for n in file.indexes])
        masks = np.stack([file.read_masks(n) for n in file.indexes])
    return np.where(masks == 0, np.nan, values)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 30), st.integers(2, 30)),
    block=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    compact=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=12, deadline=None)
def test_files_hold_what_the_segmentation_does(
    shape: tuple[int, int, int], block: tuple[int, int], compact: bool, seed: int
) -> None:
    seg = segmentation(shape, seed=seed)
    ends = {dim: (first, size - first) if first < size else (size,) for dim, first, size in zip(
        ("y", "x"), block, shape[1:], strict=True)}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        paths = write_cogs(seg.chunk({"time": 1, **ends}), Path(folder) / "cogs", compact=compact)
        assert [path.parent.name for path in paths] == ["cogs"] * len(paths)
        for name, layer in seg.data_vars.items():
            for step in range(shape[0]):
                found = read(Path(folder) / "cogs" / f"{name}_202307{1 + 10 * step:02}.tif")
                wanted = layer.isel(time=step).values.astype("float64")
                wanted = wanted if name == "logit" else wanted[np.newaxis]
                if name in ("lake", "classes"):
                    wanted[wanted == 255] = np.nan
                bound = 0.0
                if compact and layer.dtype.kind == "f":
                    bound = (0.0005 if name == "logit" else 0.002) + 2e-6
                np.testing.assert_allclose(found, wanted, rtol=0, atol=bound)


def test_a_file_says_what_it_is(tmp_path: Path) -> None:
    seg = segmentation().chunk(time=1, y=16, x=16)
    paths = write_cogs(seg, tmp_path / "cogs")
    assert len(paths) == 2 * len(seg.data_vars)
    assert files(tmp_path) == sorted(f"cogs/{path.name}" for path in paths)
    opened = {path.stem.removesuffix("_20230711"): rasterio.open(path) for path in paths if "11" in path.stem}
    kinds = {name: (file.dtypes[0], file.nodata, file.scales[0]) for name, file in opened.items()}
    share = ("uint8", 255, 0.004)
    assert kinds == {
        "lake": ("uint8", 255, 1),
        "classes": ("uint8", 255, 1),
        "flags": ("uint16", None, 1),
        "lake_probability": share,
        "entropy": share,
        "tile_mismatch": share,
        "logit": ("int16", -32768, 0.001),
    }
    for name, file in opened.items():
        assert file.crs.to_epsg() == 32645
        assert file.transform == UTM.affine
        tags = file.tags()
        assert tags["TIFFTAG_SOFTWARE"].startswith("xglof ")
        assert {key: tags[key] for key in ATTRS if key != "Conventions"} == {
            key: str(value) for key, value in ATTRS.items() if key != "Conventions"
        }
        assert "Conventions" not in tags
        assert tags["time"] == "2023-07-11T00:00:00"
        assert tags["long_name"] == seg[name].attrs["long_name"]
        assert file.units[0] == (tags.get("units") or None) == seg[name].attrs.get("units")
    assert opened["logit"].descriptions == ("land", "lake")
    assert opened["lake"].descriptions == ("lake map",)
    assert opened["lake"].tags()["flag_values"] == "0 1 255"
    assert opened["lake"].tags()["flag_meanings"] == "land lake unobserved"
    assert opened["flags"].tags()["flag_masks"].split()[:3] == ["1", "2", "4"]
    for file in opened.values():
        file.close()


def test_255_is_masked_also_where_the_attributes_were_lost(tmp_path: Path) -> None:
    seg = segmentation()[["lake"]]
    seg["lake"].attrs.clear()
    path = write_cogs(seg.isel(time=0, drop=True), tmp_path / "cogs")[0]
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.dataset_mask() == 0, seg["lake"][0] == 255)


def test_the_exact_form_is_float32(tmp_path: Path) -> None:
    for path in write_cogs(segmentation()[["lake_probability", "logit"]], tmp_path / "cogs", compact=False):
        with rasterio.open(path) as file:
            assert set(file.dtypes) == {"float32"}
            assert np.isnan(file.nodata)
            assert set(file.scales) == {1}


@pytest.mark.parametrize("turn", [("y",), ("x",), ("y", "x")])
def test_rows_run_south_and_columns_east_in_any_order(tmp_path: Path, turn: tuple[str, ...]) -> None:
    seg = segmentation()[["lake", "logit"]]
    turned = seg.isel({dim: slice(None, None, -1) for dim in turn}).transpose("x", "class", "y", "time")
    for name, given_map in (("plain", seg), ("turned", turned)):
        write_cogs(given_map, tmp_path / name)
    for path in (tmp_path / "plain").iterdir():
        with rasterio.open(path) as one, rasterio.open(tmp_path / "turned" / path.name) as other:
            assert one.transform == other.transform == UTM.affine
            np.testing.assert_array_equal(one.read(), other.read())


def test_a_geographic_grid_without_time(tmp_path: Path) -> None:
    grid = GeoBox.from_bbox((86.0, 27.0, 86.05, 27.04), "EPSG:4326", resolution=1e-3)
    seg = segmentation(grid=grid).isel(time=0, drop=True)
    assert seg["lake"].dims == ("latitude", "longitude")
    paths = write_cogs(seg[["lake", "entropy"]], tmp_path / "cogs")
    assert [path.name for path in paths] == ["lake.tif", "entropy.tif"]
    with rasterio.open(paths[0]) as file:
        assert file.crs.to_epsg() == 4326
        assert file.bounds == pytest.approx((86.0, 27.0, 86.05, 27.04))
        np.testing.assert_array_equal(file.read(1), seg["lake"])


def test_steps_of_one_day_are_named_by_the_second(tmp_path: Path) -> None:
    seg = segmentation((3, 4, 5))[["lake"]]
    times = np.array(["2023-07-01T04:30:12", "2023-07-01T16:02:59.9", "2023-07-02"], "datetime64[ns]")
    seg = seg.assign_coords(time=times)
    paths = write_cogs(seg, tmp_path / "cogs")
    assert [path.name for path in paths] == [
        "lake_20230701T043012.tif", "lake_20230701T160259.tif", "lake_20230702.tif",
    ]  # fmt: skip
    for path, step in zip(paths, seg["lake"], strict=True):
        with rasterio.open(path) as file:
            np.testing.assert_array_equal(file.read(1), step)
    assert [path.name for path in write_cogs(seg.isel(time=1), tmp_path / "one")] == ["lake_20230701.tif"]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[xr.Dataset, Path]:
    """A map of several tiles, half of it unobserved in a chequer, and its files."""
    grid = GeoBox.from_bbox((0, 0, 11_000, 13_000), "EPSG:32645", resolution=10)
    seg = segmentation((1, 1300, 1100), grid)[["lake", "flags", "lake_probability"]]
    chequer = np.indices((1300, 1100)).sum(axis=0) % 2 == 0
    seg["lake_probability"] = seg["lake_probability"].copy(
        data=np.where(chequer, np.nan, np.where(np.arange(1100) < 600, 0.2, 0.8)).astype("float32")[None]
    )
    folder = tmp_path_factory.mktemp("large") / "cogs"
    write_cogs(seg.chunk(y=(100, 600, 600), x=(500, 600)), folder)
    return seg, folder


def test_a_large_file_is_cloud_optimised(large: tuple[xr.Dataset, Path]) -> None:
    seg, folder = large
    for path in folder.iterdir():
        with rasterio.open(path) as file:
            assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert file.profile["tiled"]
            assert file.block_shapes == [(512, 512)]
            assert file.overviews(1) == [2, 4]
        name = path.stem.removesuffix("_20230701")
        if name != "lake_probability":
            with rasterio.open(path) as file:
                np.testing.assert_array_equal(file.read(1), seg[name][0])


def test_overviews_pick_integers_and_average_what_is_observed(large: tuple[xr.Dataset, Path]) -> None:
    seg, folder = large
    for name in ("lake", "flags"):
        with rasterio.open(folder / f"{name}_20230701.tif", overview_level=0) as file:
            small = file.read(1)
        picks = [seg[name][0, row::2, column::2].values for row in (0, 1) for column in (0, 1)]
        assert any(np.array_equal(small, pick) for pick in picks)
    with rasterio.open(folder / "lake_probability_20230701.tif", overview_level=0) as file:
        # two of every four pixels are nodata, and have no part in the mean
        np.testing.assert_array_equal(
            file.read(1), np.where(np.arange(550) < 300, 50, 200) + np.zeros((650, 1))
        )


def test_each_block_is_computed_once_by_any_scheduler(tmp_path: Path) -> None:
    seen: list[tuple[int, ...]] = []

    def note(block: Any, block_info: Any = None) -> Any:
        if block_info:
            seen.append(tuple(block_info[0]["chunk-location"]))
        return block

    written = {}
    for scheduler in ("sync", "threads"):
        seg = segmentation()[["lake", "lake_probability"]].chunk(time=1, y=(7, 16, 17), x=(30, 20))
        lake = da.map_blocks(note, seg["lake"].data, dtype="uint8", meta=np.empty((0, 0, 0), "uint8"))
        seg["lake"] = seg["lake"].copy(data=lake)
        seen.clear()
        with dask.config.set(scheduler=scheduler):
            paths = write_cogs(seg, tmp_path / scheduler)
        assert sorted(seen) == sorted(np.ndindex(2, 3, 2))
        written[scheduler] = {path.name: path.read_bytes() for path in paths}
    assert written["sync"] == written["threads"]


def test_no_raster_is_ever_loaded_as_a_whole(tmp_path: Path) -> None:
    grid = GeoBox.from_bbox((0, 0, 11_000, 23_000), "EPSG:32645", resolution=10)
    seg = lake_map(np.random.default_rng(0).integers(0, 2, (2300, 1100)), grid)
    seg["lake"], counting = on_disk(seg["lake"])
    path = write_cogs(seg, tmp_path / "cogs")[0]
    assert 0 < counting.largest <= 1008**2
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), counting.values)
    # and from the store to the file
    stored, counting = on_disk(seg["lake"])
    rasters._write_draft(stored, tmp_path / "draft.tif", {})
    assert 0 < counting.largest <= 2048 * 1100
    with rasterio.open(tmp_path / "draft.tif") as file:
        np.testing.assert_array_equal(file.read(1), counting.values)


def test_only_files_of_ours_are_replaced_and_only_when_told(tmp_path: Path) -> None:
    seg = segmentation()[["lake"]]
    folder = tmp_path / "cogs"
    paths = write_cogs(seg, folder)
    before = {path: path.read_bytes() for path in paths}
    with pytest.raises(OutputError, match="is there already; give another folder or overwrite=True"):
        write_cogs(seg, folder)
    stranger = tmp_path / "stranger.tif"
    with rasterio.open(stranger, "w", driver="GTiff", height=2, width=2, count=1, dtype="uint8",
                       transform=UTM.affine) as file:  # fmt: skip
        file.write(np.ones((1, 2, 2), "uint8"))
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "broken.tif").write_text("mine")
    for name in ("stranger.tif", "notes.txt", "broken.tif"):
        shutil.copy(tmp_path / name, folder / name)
        with pytest.raises(OutputError, match="no folder of GeoTIFFs of xglof"):
            write_cogs(seg, folder, overwrite=True)
        (folder / name).unlink()
    (folder / "deeper").mkdir()
    with pytest.raises(OutputError, match="no folder of GeoTIFFs of xglof"):
        write_cogs(seg, folder, overwrite=True)
    (folder / "deeper").rmdir()
    with pytest.raises(OutputError, match="no folder of GeoTIFFs of xglof"):
        write_cogs(seg, stranger, overwrite=True)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    (folder / f"{paths[0].name}.aux.xml").write_text("statistics of a viewer")
    again = write_cogs(seg.isel(time=[1]), folder, overwrite=True)
    assert files(folder) == [path.name for path in again] == ["lake_20230711.tif"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            rasterio.errors.RasterioIOError("no room"),
            (OutputError, r"can't write lake_20230711.tif: no room"),
        ),
        (KeyboardInterrupt("stopped"), (KeyboardInterrupt, "stopped")),
    ],
)
def test_a_failure_half_way_keeps_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, told: tuple[Any, str]
) -> None:
    seg = segmentation()[["lake"]]
    first = {path: path.read_bytes() for path in write_cogs(seg, tmp_path / "cogs")}
    copied = rasterio.shutil.copy

    def failing(draft: Path, path: Path, **options: Any) -> None:
        if "11" in path.name:
            raise error
        copied(draft, path, **options)

    monkeypatch.setattr(rasterio.shutil, "copy", failing)
    for target in ("cogs", "deep/other"):
        with pytest.raises(told[0], match=told[1]):
            write_cogs(seg * 0, tmp_path / target, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["cogs"]
    assert {path: path.read_bytes() for path in (tmp_path / "cogs").iterdir()} == first


_CUT_SHORT = """
import resource, sys
from pathlib import Path
from xglof.errors import OutputError
from xglof.outputs import read_zarr
from xglof.rasters import write_cogs

folder = Path(sys.argv[1])
seg = read_zarr(folder / "seg.zarr")
whole = write_cogs(seg, folder / "whole")[0].read_bytes()
for missing in (1, 4, 500, 3000, 30_000, 100_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) - missing, resource.RLIM_INFINITY))
    try:
        print(missing, "written", write_cogs(seg, folder / "cogs")[0].read_bytes() == whole)
    except OutputError as error:
        print(missing, error)
print(sorted(path.name for path in folder.iterdir()))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit to files' sizes")
def test_a_file_that_the_system_cuts_short_is_refused(tmp_path: Path) -> None:
    """GDAL keeps an error of its last flush to itself; a limit to files' sizes is a disk that is full."""
    grid = GeoBox.from_bbox((0, 0, 6_000, 7_000), "EPSG:32645", resolution=10)
    write_zarr(segmentation((1, 700, 600), grid)[["flags"]].chunk(y=200, x=200), tmp_path / "seg.zarr")
    command = [sys.executable, "-c", _CUT_SHORT, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    *lines, left = run.stdout.splitlines()
    assert len(lines) == 6
    for line in lines:
        assert "flags_20230701.tif" in line
        assert line.endswith("see that the disk has space left")
    assert left == "['seg.zarr', 'whole']"


def test_a_file_that_holds_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seg = segmentation()[["logit"]]
    copied = rasterio.shutil.copy

    def torn(draft: Path, path: Path, **options: Any) -> None:
        with rasterio.open(draft, "r+") as file:
            band = file.read(2)
            band[-1, -1] += 1
            file.write(band, 2)
        copied(draft, path, **options)

    monkeypatch.setattr(rasterio.shutil, "copy", torn)
    for compact in (True, False):
        with pytest.raises(OutputError, match=r"logit_20230701.tif does not hold what was written to it"):
            write_cogs(seg.fillna(0), tmp_path / "cogs", compact=compact)
    assert list(tmp_path.iterdir()) == []


def test_a_block_that_fails_leaves_nothing(tmp_path: Path) -> None:
    seg = segmentation()[["lake_probability"]] + 2
    with pytest.raises(OutputError, match="expected 0 to 1"):
        write_cogs(seg.chunk(y=7), tmp_path / "deep" / "cogs")
    assert list(tmp_path.iterdir()) == []


def test_what_no_file_can_hold_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    seg = segmentation((2, 4, 5))[["lake"]].chunk(y=2)
    day = np.array(["2023-07-01", "2023-07-01"], "datetime64[ns]")
    wrong = {
        "no variables": seg[[]],
        "no CRS": seg.drop_vars("spatial_ref"),
        "dims": seg.expand_dims(model=2, member=3),
        "drop or convert": seg.assign(lake=seg["lake"] > 1),
        "named 20230701T000000": seg.assign_coords(time=day),
        "has gaps": seg.assign_coords(time=[day[0], np.datetime64("NaT")]),
        "expected dates": seg.assign_coords(time=[1, 2]),
        "no coordinate of dates": seg.drop_vars("time"),
        "no time step is left": seg.isel(time=slice(0, 0)),
    }

    def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise AssertionError("something was computed")

    with dask.config.set(scheduler=refuse):
        for message, given_map in wrong.items():
            with pytest.raises(CubeError, match=message):
                write_cogs(given_map, tmp_path / "cogs")
        with pytest.raises(OutputError, match="is an address"):
            write_cogs(seg, "s3://bucket/cogs")
    assert list(tmp_path.iterdir()) == []
