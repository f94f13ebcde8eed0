from __future__ import annotations

import errno
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from lake_maps import UTM, lake_map
from xglof.errors import OutputError
from xglof.lakes import find_lakes, lake_area
from xglof.outputs import SUMMARY, new_folder, read_zarr, write_areas, write_lakes, write_zarr


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


def test_lakes_are_geoparquet(seg: xr.Dataset, tmp_path: Path) -> None:
    lakes = find_lakes(seg)
    write_lakes(lakes, tmp_path / "lakes.parquet")
    again = geopandas.read_parquet(tmp_path / "lakes.parquet")
    assert again.crs == UTM.crs.wkt
    assert again["time"].dtype == "datetime64[ns]"
    assert again.geometry.equals(lakes.geometry)


def test_areas_are_a_table_in_square_metres(seg: xr.Dataset, tmp_path: Path) -> None:
    areas = lake_area(seg).compute()
    write_areas(areas, tmp_path / "areas.csv")
    table = pd.read_csv(tmp_path / "areas.csv", parse_dates=["time"])
    assert list(table.columns[:8]) == [
        "lake", "time", "area_m2", "area_sigma_m2", "area_lower_m2", "area_upper_m2", "observed_fraction",
        "frozen_fraction",
    ]  # fmt: skip
    assert {"longitude", "latitude"} <= set(table.columns)
    assert table["time"].tolist() == [pd.Timestamp(time) for time in areas["time"].values]
    np.testing.assert_allclose(table["area_m2"], areas["area"].values[0], rtol=1e-7)
    np.testing.assert_allclose(table["area_m2"][0], 3000, rtol=2e-3)
    assert np.isnan(table["area_m2"][1])  # 20 of 30 pixels are less than the 70 % asked for
