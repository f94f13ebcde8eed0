from __future__ import annotations

import errno
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from counting_array import on_disk
from lake_maps import lake_map
from lake_series import area_series
from xglof.errors import OutputError
from xglof.lakes import find_alerts, flag_series, lake_area
from xglof.outputs import SUMMARY, new_folder, read_zarr, write_alerts, write_areas, write_zarr


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "run"
    with new_folder(target) as folder:
        (folder / "file").write_text("new")
        assert not target.exists()
    assert names(tmp_path) == ["deep", "er", "file", "run"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OutputError])
def test_a_failure_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def fill(target: Path) -> None:
        with new_folder(target) as folder:
            (folder / "half").write_text("half")
            raise error("stopped")

    with pytest.raises(error, match="stopped"):
        fill(tmp_path / "deep" / "er" / "run")
    assert names(tmp_path) == []


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    def fill(number: int) -> None:
        with new_folder(tmp_path / "run"):
            raise OSError(number, "from the system")

    with pytest.raises(OutputError, match="no space is left"):
        fill(errno.ENOSPC)
    with pytest.raises(OSError, match="from the system"):
        fill(errno.EIO)
    assert names(tmp_path) == []


def old_run(place: Path) -> Path:
    place.mkdir()
    (place / SUMMARY).write_text("{}")
    (place / "old").write_text("old")
    return place


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    run = old_run(tmp_path / "run")
    (tmp_path / "file").write_text("mine")
    for target, overwrite, message in (
        (run, False, "is there already"),
        (tmp_path / "file", False, "is there already"),
        (tmp_path / "file", True, "no run of xglof"),
        (tmp_path, True, "no run of xglof"),
        (tmp_path / "file" / "below", False, "can't write to"),
    ):
        with pytest.raises(OutputError, match=message), new_folder(target, overwrite=overwrite):
            pytest.fail("a folder was given")
    with pytest.raises(ValueError, match="stopped"), new_folder(run, overwrite=True):
        raise ValueError("stopped")
    assert names(tmp_path) == ["file", "old", "run", SUMMARY]


def test_a_run_and_an_empty_folder_are_replaced(tmp_path: Path) -> None:
    run = old_run(tmp_path / "run")
    with new_folder(run, overwrite=True) as folder:
        (folder / "new").write_text("new")
        assert (run / "old").read_text() == "old"
    assert names(tmp_path) == ["new", "run"]
    (tmp_path / "empty").mkdir()
    with new_folder(tmp_path / "empty") as folder:
        (folder / "new").write_text("new")
    assert names(tmp_path / "empty") == ["new"]


def test_another_run_that_was_quicker_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "run"
    with pytest.raises(OutputError, match="is there already"), new_folder(target):
        old_run(target)
    assert names(target) == ["old", SUMMARY]
    assert names(tmp_path) == ["old", "run", SUMMARY]


def test_the_old_run_comes_back_if_the_last_step_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = old_run(tmp_path / "run")
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(errno.EIO, "torn cable")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="torn cable"), new_folder(run, overwrite=True):
        pass
    assert names(tmp_path) == ["old", "run", SUMMARY]


def test_an_old_run_that_cannot_come_back_is_kept_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = old_run(tmp_path / "run")
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if target == run:
            raise OSError(errno.EIO, "torn cable")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with (
        pytest.raises(OutputError, match=r"torn cable.*move it back yourself") as caught,
        new_folder(run, overwrite=True) as folder,
    ):
        (folder / "new").write_text("new")
    kept = folder.parent / "old"
    assert f"kept in {kept}:" in str(caught.value)
    assert names(kept) == ["old", SUMMARY]
    assert names(tmp_path) == [folder.parent.name, "old", "old", SUMMARY]


@pytest.fixture
def seg() -> xr.Dataset:
    """A lake of 6 x 5 pixels on two dates, part of the second unobserved, with all that a cube carries."""
    lake = np.zeros((2, 40, 50), "uint8")
    lake[:, 10:16, 20:25] = 1
    lake[1, :12] = 255
    made = lake_map(lake, flags=np.zeros(lake.shape, "uint16"))
    probability = np.where(lake == 255, np.nan, lake).astype("float32")
    made["lake_probability"] = made["lake"].copy(data=probability)
    made["lake"].attrs = {"flag_values": np.array([0, 1, 255], "uint8"), "flag_meanings": "land lake none"}
    made = made.assign_coords(s2_items=("time", ["A", "B,C"]), sun=("time", [30.5, np.nan]))
    return made.assign_attrs(items_rejected=["D: cloud", "E: cloud"], threshold=0.5, simulated="yes")


def test_zarr_keeps_everything(seg: xr.Dataset, tmp_path: Path) -> None:
    again = write_zarr(seg.chunk(y=16, x=16), tmp_path / "seg.zarr")
    xr.testing.assert_identical(again.drop_vars("spatial_ref"), seg.drop_vars("spatial_ref"))
    assert again.odc.geobox == seg.odc.geobox
    assert {name: array.dtype for name, array in again.variables.items()} == {
        name: array.dtype for name, array in seg.variables.items()
    }
    assert again["lake"].chunks is not None
    assert again["s2_items"].chunks is None
    assert 255 in again["lake"].values
    assert np.isnan(again["lake_probability"].values[1, 0, 0])


def test_integers_get_no_fill_value(seg: xr.Dataset, tmp_path: Path) -> None:
    seg["lake"].encoding["_FillValue"] = 255  # as a file that it was once read from had it
    write_zarr(seg, tmp_path / "seg.zarr")
    raw = xr.open_zarr(tmp_path / "seg.zarr", mask_and_scale=False)
    assert "_FillValue" not in raw["lake"].attrs
    assert np.isnan(raw["lake_probability"].attrs["_FillValue"])
    assert raw["lake"].attrs["grid_mapping"] == "spatial_ref"
    assert read_zarr(tmp_path / "seg.zarr")["lake"].dtype == "uint8"


@st.composite
def cuts(draw: st.DrawFn, size: int) -> tuple[int, ...]:
    """Chunk sizes along a dim, as uneven as they come."""
    edges = sorted(draw(st.sets(st.integers(1, size - 1), max_size=4)) | {0, size})
    return tuple(np.diff(edges).tolist())


@given(
    chunks=st.fixed_dictionaries({"time": cuts(3), "y": cuts(13), "x": cuts(17)}),
    timed=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=10, deadline=None)
def test_both_forms_hold_what_was_written(chunks: dict[str, tuple[int, ...]], timed: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (3, 13, 17)
    made = lake_map(rng.choice([0, 1, 255], shape), flags=rng.integers(0, 2**16, shape))
    for name in ("lake_probability", "entropy"):
        made[name] = made["lake"].copy(data=with_gaps(rng, rng.random(shape, dtype="float32")))
    logit = with_gaps(rng, rng.normal(0, 15, (2, *shape)).astype("float32"))
    made["logit"] = (("class", *made["lake"].dims), logit, {"long_name": "blended logit"})
    made = made.assign_coords({"class": ["land", "lake"]}).chunk(chunks)
    if not timed:
        made = made.isel(time=0, drop=True)
    with tempfile.TemporaryDirectory() as folder:
        for compact in (False, True):
            again = write_zarr(made, f"{folder}/{compact}", compact=compact)
            assert again.odc.geobox == made.odc.geobox
            assert all(again[name].attrs == made[name].attrs for name in made.data_vars)
            for name in made.data_vars:
                assert again[name].dtype == made[name].dtype
                assert again[name].dims == made[name].dims
                bound = 0.0
                if compact and made[name].dtype == "float32":
                    bound = 0.5 / 1000 if name == "logit" else 1 / 500
                wanted = made[name].clip(-32.767, 32.767) if bound and name == "logit" else made[name]
                rounding = 2e-6 if bound else 0
                np.testing.assert_allclose(again[name], wanted, rtol=0, atol=bound + rounding)


def with_gaps(rng: np.random.Generator, values: Any) -> Any:
    return np.where(rng.random(values.shape) < 0.2, np.float32(np.nan), values)


def test_the_compact_form_is_packed_as_cf_says(seg: xr.Dataset, tmp_path: Path) -> None:
    seg["logit"] = seg["lake_probability"] * np.float32(100) - np.float32(50)
    seg["logit"][0, 0, :3] = [np.inf, -np.inf, 1.2344]
    write_zarr(seg, tmp_path / "seg.zarr", compact=True)
    raw = xr.open_zarr(tmp_path / "seg.zarr", mask_and_scale=False, decode_coords="all")
    assert {name: array.dtype.name for name, array in raw.data_vars.items()} == {
        "lake": "uint8", "flags": "uint16", "lake_probability": "uint8", "logit": "int16",
    }  # fmt: skip
    assert raw["lake_probability"].attrs["scale_factor"] == 1 / 250
    assert raw["lake_probability"].attrs["_FillValue"] == 255
    np.testing.assert_array_equal(
        raw["lake_probability"], np.where(seg["lake"] == 255, 255, 250 * seg["lake"])
    )
    assert raw["logit"][0, 0, :3].values.tolist() == [32767, -32767, 1234]
    assert raw["logit"][1, 0, 0] == raw["logit"].attrs["_FillValue"] == -32768
    decoded = xr.open_zarr(tmp_path / "seg.zarr")["lake_probability"]
    np.testing.assert_allclose(decoded, seg["lake_probability"])


@pytest.mark.parametrize(
    ("value", "fits"),
    [(np.float32(1) + np.finfo("float32").eps, True), (-1e-7, True)]
    + [(value, False) for value in (1.01, -0.5, np.inf)],
)
def test_what_does_not_fit_the_compact_form_is_refused(
    seg: xr.Dataset, tmp_path: Path, value: float, fits: bool
) -> None:
    seg["lake_probability"][0, 3, 4] = value
    if fits:
        again = write_zarr(seg, tmp_path / "seg.zarr", compact=True)
        assert float(again["lake_probability"][0, 3, 4]) == round(value)
        return
    with pytest.raises(OutputError, match=r"lake_probability holds .*, expected 0 to 1"):
        write_zarr(seg.chunk(y=7), tmp_path / "seg.zarr", compact=True)
    assert names(tmp_path) == []


def test_stored_chunks_are_even(seg: xr.Dataset, tmp_path: Path) -> None:
    even = write_zarr(seg.chunk(y=16, x=(20, 20, 10)), tmp_path / "even.zarr")
    assert even["lake"].chunks == ((2,), (16, 16, 8), (20, 20, 10))
    uneven = write_zarr(seg.chunk(time=1, y=(3, 16, 16, 5), x=(10, 40)), tmp_path / "uneven.zarr")
    assert uneven["lake"].chunks == ((1, 1), (16, 16, 8), (40, 10))
    long = xr.Dataset({"lake": (("y", "x"), da.zeros((3000, 4), chunks=((900, 2016, 84), 4), dtype="uint8"))})
    assert write_zarr(long, tmp_path / "long.zarr")["lake"].chunks == ((504,) * 5 + (480,), (4,))


def test_a_large_array_without_chunks_is_never_loaded_as_a_whole(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2, (2, 1500, 1100), dtype="uint8")
    grid = GeoBox.from_bbox((0, 0, 11_000, 15_000), "EPSG:32645", resolution=10)
    seg = lake_map(values, grid)
    seg["lake"], counting = on_disk(seg["lake"])
    again = write_zarr(seg, tmp_path / "seg.zarr")
    assert 0 < counting.largest <= 1008**2
    np.testing.assert_array_equal(again["lake"], values)


@pytest.mark.parametrize("name", ["spatial_ref", "crs"])
def test_a_geographic_grid_keeps_its_crs(tmp_path: Path, name: str) -> None:
    grid = GeoBox.from_bbox((86.0, 27.0, 86.05, 27.03), "EPSG:4326", resolution=1e-3)
    seg = lake_map(np.ones((30, 50)), grid).rename(spatial_ref=name)
    seg["lake"].encoding["grid_mapping"] = name
    again = write_zarr(seg, tmp_path / "seg.zarr")
    assert again["lake"].dims == ("latitude", "longitude")
    assert again.odc.geobox == grid
    assert again["lake"].odc.geobox == grid


def test_only_a_store_is_replaced_and_only_when_told(seg: xr.Dataset, tmp_path: Path) -> None:
    store, run = tmp_path / "seg.zarr", old_run(tmp_path / "run")
    first = write_zarr(seg, store)
    (tmp_path / "file").write_text("mine")
    other = seg.assign(lake=seg["lake"] * 0)
    for target, overwrite, message in (
        (store, False, r"is there already; give another folder or overwrite=True"),
        (run, False, "is there already"),
        (run, True, "no Zarr store"),
        (tmp_path, True, "no Zarr store"),
        (tmp_path / "file", True, "no Zarr store"),
        ("s3://bucket/seg.zarr", True, "is an address"),
    ):
        with pytest.raises(OutputError, match=message):
            write_zarr(other, target, overwrite=overwrite)
    assert read_zarr(store).identical(first)
    assert names(run) == ["old", SUMMARY]
    assert write_zarr(other, store, overwrite=True)["lake"].sum() == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "run", "seg.zarr"]


def test_a_path_without_a_store_is_refused(tmp_path: Path) -> None:
    old_run(tmp_path / "run")
    for name in ("none", "run", f"run/{SUMMARY}"):
        with pytest.raises(OutputError, match=f"{name} is no Zarr store; give a folder"):
            read_zarr(tmp_path / name)


def test_chunks_are_those_of_the_store_or_as_told(seg: xr.Dataset, tmp_path: Path) -> None:
    stored = write_zarr(seg.chunk(time=1, y=16, x=50), tmp_path / "seg.zarr")["lake"].chunks
    assert stored == ((1, 1), (16, 16, 8), (50,))
    assert read_zarr(tmp_path / "seg.zarr", chunks="stored")["lake"].chunks == stored
    told = read_zarr(tmp_path / "seg.zarr", chunks={"y": 32, "x": 50})
    assert told["lake"].chunks == ((1, 1), (32, 8), (50,))
    assert read_zarr(tmp_path / "seg.zarr", chunks=None)["lake"].chunks is None


def test_a_store_can_be_replaced_by_what_is_read_from_it(seg: xr.Dataset, tmp_path: Path) -> None:
    first = write_zarr(seg.chunk(y=16), tmp_path / "seg.zarr")
    again = write_zarr(first.isel(y=slice(None, None, -1)), tmp_path / "seg.zarr", overwrite=True)
    np.testing.assert_array_equal(again["lake"], seg["lake"][:, ::-1])
    assert again.odc.geobox == seg.isel(y=slice(None, None, -1)).odc.geobox


def test_blocks_that_are_still_written_when_one_fails_leave_nothing(tmp_path: Path) -> None:
    failed = threading.Event()

    def fail_or_linger(block: Any, block_info: Any = None) -> Any:
        if block_info and block_info[0]["chunk-location"] == (0, 0):
            failed.set()
            raise ValueError("torn cable")
        if block_info and failed.wait(10):
            time.sleep(0.3)  # until the failure has reached the caller
        return block

    data = da.map_blocks(fail_or_linger, da.ones((8, 8), chunks=4, dtype="uint8"), dtype="uint8")
    with (
        dask.config.set(scheduler="threads", num_workers=4),
        pytest.raises(ValueError, match="torn cable"),
    ):
        write_zarr(xr.Dataset({"lake": (("y", "x"), data)}), tmp_path / "seg.zarr")
    time.sleep(0.6)
    assert names(tmp_path) == []


def test_a_block_that_fails_leaves_the_store_that_was_there(seg: xr.Dataset, tmp_path: Path) -> None:
    def fail(block: Any, block_info: Any = None) -> Any:
        if block_info and block_info[0]["chunk-location"] == (1, 1, 0):
            raise ValueError("torn cable")
        return block

    first = write_zarr(seg, tmp_path / "seg.zarr")
    chunked = seg.chunk(time=1, y=16, x=50)
    broken = chunked.assign(
        lake=chunked["lake"].copy(data=da.map_blocks(fail, chunked["lake"].data, dtype="uint8"))
    )
    for target in ("seg.zarr", "other.zarr"):
        with pytest.raises(ValueError, match="torn cable"):
            write_zarr(broken, tmp_path / target, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["seg.zarr"]
    assert read_zarr(tmp_path / "seg.zarr").identical(first)


def test_areas_are_a_table_with_units_and_flags_in_words(seg: xr.Dataset, tmp_path: Path) -> None:
    areas = flag_series(lake_area(seg)).compute()
    write_areas(areas, tmp_path / "areas.csv")
    table = pd.read_csv(tmp_path / "areas.csv", parse_dates=["time"], keep_default_na=False, na_values=[""])
    assert list(table.columns[:6]) == [
        "lake", "time", "area_m2", "area_sigma_m2", "perimeter_m", "area_lower_m2",
    ]  # fmt: skip
    assert {"longitude", "latitude", "sigma_repeat_m2", "observed_fraction"} <= set(table.columns)
    assert table["time"].tolist() == [pd.Timestamp(time) for time in areas["time"].values]
    np.testing.assert_allclose(table["area_m2"], areas["area"].values[0], rtol=1e-7)
    np.testing.assert_allclose(table["area_m2"][0], 3000, rtol=2e-3)
    assert np.isnan(table["area_m2"][1])  # 20 of 30 pixels are less than the 70 % asked for
    assert table["quality"].fillna("").tolist() == ["", "partial"]
    assert set(table["sensors"]) == {"unknown"}
    assert table["part_of"].tolist() == table["lake"].tolist()


def test_alerts_are_a_table(tmp_path: Path) -> None:
    alerts = find_alerts(area_series([[100.0] * 6 + [40.0] * 3], sigma=2.0))
    write_alerts(alerts, tmp_path / "alerts.csv")
    table = pd.read_csv(tmp_path / "alerts.csv", parse_dates=["first_changed"])
    assert table["kind"].tolist() == ["drainage"]
    assert table["first_changed"].tolist() == alerts["first_changed"].tolist()
