"""Sentinel-1 GRD to sigma nought, from annotations written here with numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xglof.cube.calibration import SIGMA0_FLOOR, SigmaNoughtTable, calibrate_grd, read_calibration
from xglof.cube.harmonise import to_db
from xglof.errors import CatalogError

RECORDS = (("0", "0 40 100", "300 340 400"), ("100", "0 40 100", "500 540 600"))


def annotation(path: Path, records: tuple[tuple[str, str, str], ...] = RECORDS, before: str = "") -> Path:
    """An annotation as the product specification lays it out, less what is not read."""
    vectors = "".join(
        f"<calibrationVector><azimuthTime>2021-07-01T12:00:0{number}.0</azimuthTime><line>{line}</line>"
        f'<pixel count="{len(pixels.split())}">{pixels}</pixel>'
        f'<sigmaNought count="{len(table.split())}">{table}</sigmaNought>'
        f"<gamma>1 1 1</gamma><dn>1 1 1</dn></calibrationVector>"
        for number, (line, pixels, table) in enumerate(records)
    )
    path.write_text(
        f'<?xml version="1.0" encoding="UTF-8"?>{before}<calibration>'
        "<adsHeader><missionId>S1A</missionId><polarisation>VV</polarisation></adsHeader>"
        "<calibrationInformation><absoluteCalibrationConstant>1.4</absoluteCalibrationConstant>"
        f'</calibrationInformation><calibrationVectorList count="{len(records)}">{vectors}'
        "</calibrationVectorList></calibration>"
    )
    return path


def test_the_table_between_its_entries(tmp_path: Path) -> None:
    table = read_calibration(annotation(tmp_path / "a.xml"))
    assert table.polarisation == "VV"
    # 300 + pixel + 2 * line inside, held beyond
    got = table.at(np.array([0, 25, 100, 140]), np.array([0, 20, 70, 130]))
    expected = [[300, 320, 370, 400], [350, 370, 420, 450], [500, 520, 570, 600], [500, 520, 570, 600]]
    np.testing.assert_allclose(got, expected)


def test_records_with_columns_of_their_own(tmp_path: Path) -> None:
    records = (("-3", "0 100", "300 400"), ("97", "0 10 100", "500 600 600"))
    table = read_calibration(annotation(tmp_path / "a.xml", records))
    np.testing.assert_allclose(
        table.at(np.array([-3, 47, 97]), np.array([5, 50])), [[305, 350], [427.5, 475], [550, 600]]
    )


@given(
    st.lists(st.floats(1, 900), min_size=6, max_size=6),
    st.floats(-5, 45),
    st.floats(-5, 25),
)
def test_interpolation_is_bilinear(entries: list[float], line: float, pixel: float) -> None:
    values = np.array(entries).reshape(3, 2)
    table = SigmaNoughtTable("VV", np.array([0.0, 10.0, 40.0]), np.array([0.0, 20.0]), values)
    row, column = min(max(line, 0), 40), min(max(pixel, 0), 20) / 20
    first = 0 if row < 10 else 1
    down = row / 10 if row < 10 else (row - 10) / 30
    upper, lower = (a * (1 - column) + b * column for a, b in (values[first], values[first + 1]))
    assert table.at(np.array([line]), np.array([pixel]))[0, 0] == pytest.approx(
        upper * (1 - down) + lower * down
    )


def test_sigma_nought_of_known_numbers(tmp_path: Path) -> None:
    table = read_calibration(annotation(tmp_path / "a.xml")).at(np.array([0, 100]), np.array([0, 100]))
    numbers = np.array([[30, 0], [50, 600]], dtype="uint16")
    sigma0 = calibrate_grd(numbers, table)
    assert sigma0.dtype == np.float32
    # the absolute calibration constant is in the table already
    np.testing.assert_allclose(sigma0, [[0.01, np.nan], [0.01, 1.0]], rtol=1e-6)
    np.testing.assert_allclose(to_db(sigma0), [[-20, np.nan], [-20, 0]], atol=1e-4)


def test_noise_is_taken_off_and_dark_water_stays_observed() -> None:
    numbers = np.array([0, 50, 30, 10], dtype="uint16")
    noise = np.array([900.0, 900, 900, 900])
    sigma0 = calibrate_grd(numbers, np.full(4, 100.0), noise)
    np.testing.assert_allclose(sigma0, [np.nan, 0.16, SIGMA0_FLOOR, SIGMA0_FLOOR], rtol=1e-6)
    assert np.isfinite(to_db(sigma0)).tolist() == [False, True, True, True]


def test_large_numbers_do_not_wrap() -> None:
    assert calibrate_grd(np.array([60_000], dtype="uint16"), np.array([600.0])) == 10_000


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ((), "lists no calibrationVector"),
        ((("0", "0 40", "300 340 400"),), "do not go together"),
        ((("0", "", ""),), "do not go together"),
        ((("0", "0 40 40", "300 340 400"),), "do not go together"),
        ((("0", "0 40", "300 x"),), "could not convert"),
        ((("0", "0 40", "300 0"),), "is not above 0"),
        ((("0", "0 40", "300 nan"),), "is not above 0"),
        ((("9", "0 40", "300 1"), ("9", "0 40", "300 1")), "lines do not increase"),
        ((("", "0 40", "300 1"),), "no calibration annotation"),
    ],
)
def test_annotations_that_hold_no_table(
    tmp_path: Path, records: tuple[tuple[str, str, str], ...], message: str
) -> None:
    with pytest.raises(
        CatalogError, match=f"{message}.*pass the product's|no calibration annotation"
    ) as caught:
        read_calibration(annotation(tmp_path / "a.xml", records))
    assert message in str(caught.value)


def test_a_document_type_is_refused_before_its_entities_are_read(tmp_path: Path) -> None:
    bomb = "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>]>"
    with pytest.raises(CatalogError, match="declares a document type"):
        read_calibration(annotation(tmp_path / "a.xml", before=bomb))
    wide = annotation(tmp_path / "b.xml", before=bomb).read_text().replace("UTF-8", "UTF-16")
    (tmp_path / "b.xml").write_text(wide, encoding="utf-16")
    with pytest.raises(CatalogError, match="declares a document type"):
        read_calibration(tmp_path / "b.xml")


@pytest.mark.parametrize("text", ["", "<calibration>", "no xml"])
def test_files_that_are_no_xml(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.xml"
    path.write_text(text)
    with pytest.raises(CatalogError, match="can't be read as XML"):
        read_calibration(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="can't be read as XML"):
        read_calibration(tmp_path / "none.xml")
