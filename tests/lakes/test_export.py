"""Files of lake tables: what is written comes back, nothing is lost, nothing runs."""

from __future__ import annotations

import errno
import os

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from pandas.testing import assert_frame_equal

from xglof.errors import CubeError, OutputError
from xglof.lakes.export import check_place, write_aside, write_lakes


def lakes(comments=("=HYPERLINK(1)", "", "ice contact")):
    """Three lakes, one of two parts, with all kinds of columns."""
    parts = shapely.MultiPolygon([shapely.box(0, 0, 10, 10), shapely.box(20, 0, 30, 10)])
    return geopandas.GeoDataFrame(
        {
            "lake_id": ["GL087000E27000N", "GL087000E27000N", "GL087001E27000N"],
            "time": pd.to_datetime(["2023-07-01T00:00:00", "2023-07-11T10:20:30", None]),
            "area_m2": [100.0, np.nan, -1.5],
            "small": [True, False, True],
            "count": np.array([1, 2, 3]),
            "comment": list(comments),
        },
        geometry=[shapely.box(500_000, 3_000_000, 500_010, 3_000_010), parts, shapely.box(0, 0, 1, 1)],
        crs="EPSG:32645",
    )


@pytest.mark.parametrize(
    ("name", "read"), [("a.parquet", geopandas.read_parquet), ("a.GPKG", geopandas.read_file)]
)
def test_a_table_comes_back_as_it_was(tmp_path, name, read):
    table = lakes()
    assert write_lakes(table, tmp_path / name) == tmp_path / name
    back = read(tmp_path / name)
    assert back.crs == table.crs
    assert back["small"].dtype == bool
    assert shapely.equals(back.geometry.to_numpy(), table.geometry.to_numpy()).all()
    plain = [column for column in table if column != "geometry"]
    assert_frame_equal(
        pd.DataFrame(back[plain]).astype({"time": "datetime64[ns]"}), pd.DataFrame(table[plain])
    )
    assert os.listdir(tmp_path) == [name]


def test_geoparquet_keeps_dtypes_attributes_and_its_version(tmp_path):
    import json

    import pyarrow.parquet

    table = lakes().astype({"count": "uint8"})
    table.attrs = {"elevation_m": "median of the DEM of 2011"}
    write_lakes(table, tmp_path / "a.parquet")
    back = geopandas.read_parquet(tmp_path / "a.parquet")
    assert back.dtypes.equals(table.dtypes)
    assert back.attrs == table.attrs
    metadata = pyarrow.parquet.read_schema(tmp_path / "a.parquet").metadata
    assert json.loads(metadata[b"geo"])["version"] == "1.1.0"


@pytest.mark.parametrize("name", ["a.parquet", "a.gpkg", "a.csv"])
def test_an_empty_table_keeps_its_columns(tmp_path, name):
    write_lakes(lakes().iloc[:0], tmp_path / name)
    read = {
        ".parquet": geopandas.read_parquet,
        ".gpkg": geopandas.read_file,
        ".csv": pd.read_csv,
    }[(tmp_path / name).suffix]
    back = read(tmp_path / name)
    assert len(back) == 0
    assert set(lakes()) - {"geometry"} <= set(back)


def test_a_csv_has_points_and_no_outlines(tmp_path):
    write_lakes(lakes(), tmp_path / "a.csv")
    back = pd.read_csv(
        tmp_path / "a.csv", parse_dates=["time"], keep_default_na=False, na_values={"area_m2": ""}
    )
    assert "geometry" not in back
    assert back["longitude"][0] == pytest.approx(87.00005, abs=1e-4)
    assert back["latitude"][0] == pytest.approx(27.1227, abs=1e-3)
    assert back["time"].isna().tolist() == [False, False, True]
    assert back["time"][1] == pd.Timestamp("2023-07-11T10:20:30")
    assert back["area_m2"][2] == -1.5  # a number stays one
    assert np.isnan(back["area_m2"][1])


def test_a_text_that_a_spreadsheet_would_run_does_not_run(tmp_path):
    bad = ["=cmd|' /C calc'!A0", "+1", "-1+2", "@SUM(A1)", "\tx", "\rx", "fine - really", ""]
    table = lakes().iloc[[0] * len(bad)].assign(comment=bad, lake_id="=1")
    write_lakes(table, tmp_path / "a.csv")
    back = pd.read_csv(tmp_path / "a.csv", keep_default_na=False, lineterminator="\n")
    expected = [f"'{text}" for text in bad[:6]] + bad[6:]
    assert back["comment"].tolist() == expected
    assert (back["lake_id"] == "'=1").all()
    assert table["comment"].tolist() == bad  # the table itself is untouched


@pytest.mark.parametrize("name", ["a.parquet", "a.gpkg", "a.csv"])
def test_nothing_is_replaced_unless_asked(tmp_path, name):
    write_lakes(lakes(), tmp_path / name)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(OutputError, match="is there already; pass overwrite=True"):
        write_lakes(lakes().iloc[:1], tmp_path / name)
    assert (tmp_path / name).read_bytes() == before
    write_lakes(lakes().iloc[:1], tmp_path / name, overwrite=True)
    assert (tmp_path / name).read_bytes() != before
    assert os.listdir(tmp_path) == [name]


def test_a_geopackage_keeps_its_other_layers(tmp_path):
    path = tmp_path / "a.gpkg"
    write_lakes(lakes(), path, layer="reviewed")
    write_lakes(lakes().iloc[:1], path, layer="new")  # adding is no overwriting
    write_lakes(lakes().iloc[:2], path, layer="new", overwrite=True)
    assert len(geopandas.read_file(path, layer="reviewed")) == 3
    assert len(geopandas.read_file(path, layer="new")) == 2


@pytest.mark.parametrize("name", ["a.parquet", "a.gpkg", "a.csv"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, name, monkeypatch):
    write_lakes(lakes(), tmp_path / name)
    before = (tmp_path / name).read_bytes()

    def fail(*_args):
        raise RuntimeError("power cut")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(RuntimeError, match="power cut"):
        write_lakes(lakes().iloc[:1], tmp_path / name, overwrite=True)
    assert (tmp_path / name).read_bytes() == before
    assert os.listdir(tmp_path) == [name]


def test_another_that_was_quicker_is_not_replaced(tmp_path):
    path = tmp_path / "a.txt"

    def slow(aside):
        aside.write_text("mine")
        path.write_text("theirs")

    with pytest.raises(OutputError, match="is there already"):
        write_aside(path, slow)
    assert path.read_text() == "theirs"
    assert write_aside(path, slow, overwrite=True) == path
    assert path.read_text() == "mine"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_place_is_refused_before_the_work(tmp_path):
    (tmp_path / "a.txt").write_text("theirs")
    assert check_place(tmp_path / "a.txt", overwrite=True) == tmp_path / "a.txt"
    with pytest.raises(OutputError, match="is there already"):
        write_aside(tmp_path / "a.txt", pytest.fail)


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, OutputError), (errno.EIO, OSError)])
def test_a_full_disk_is_told_and_other_faults_pass(tmp_path, number, kind):
    def fail(aside):
        raise OSError(number, os.strerror(number))

    with pytest.raises(kind) as caught:
        write_aside(tmp_path / "a.txt", fail)
    assert type(caught.value) is kind
    assert os.listdir(tmp_path) == []


def test_a_file_that_is_no_geopackage_is_left_alone(tmp_path):
    (tmp_path / "a.gpkg").write_text("notes")
    with pytest.raises(OutputError, match="can't be read as a GeoPackage"):
        write_lakes(lakes(), tmp_path / "a.gpkg", overwrite=True)
    assert (tmp_path / "a.gpkg").read_text() == "notes"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.shp", "ends in '.shp'; known are .gpkg, .parquet, .csv"),
        ("a", "ends in ''; known are"),
        ("missing/a.csv", "is not there; make it first"),
        ("folder.csv", "is a folder"),
        ("s3://bucket/a.csv", "is an address"),
    ],
)
def test_places_that_are_none_are_refused(tmp_path, name, message):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OutputError, match=message):
        write_lakes(lakes(), name if "://" in name else tmp_path / name)


def test_tables_that_are_none_are_refused(tmp_path):
    with pytest.raises(CubeError, match="expected a GeoDataFrame"):
        write_lakes(pd.DataFrame(), tmp_path / "a.csv")
    with pytest.raises(CubeError, match="no CRS"):
        write_lakes(lakes().set_crs(None, allow_override=True), tmp_path / "a.csv")
