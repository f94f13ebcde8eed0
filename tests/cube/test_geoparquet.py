from __future__ import annotations

import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pystac
import pytest

from tiny_catalog import GRID, Written, raw_band
from xglof.cube import open_cube
from xglof.cube.geoparquet import GeoParquetArchive
from xglof.cube.providers import PLANETARY_COMPUTER
from xglof.cube.sources import Period, open_archive, parse_period
from xglof.errors import CatalogError

arrow = pytest.importorskip("stac_geoparquet.arrow")


def _written(items: list[pystac.Item], path: Path) -> Path:
    documents = [
        item.to_dict(include_self_link=False, transform_hrefs=False) | {"links": []} for item in items
    ]
    arrow.to_parquet(arrow.parse_stac_items_to_arrow(documents), path)
    return path


@pytest.fixture
def table(written: Written, tmp_path: Path) -> Path:
    """The tiny catalogue as one table in its folder, its addresses relative to it."""
    root = tmp_path / "valley"
    shutil.copytree(written.root, root)
    items = list(pystac.Catalog.from_file(str(root / "catalog.json")).get_items())
    for item in items:
        for asset in item.assets.values():
            asset.href = "./" + str(Path(asset.get_absolute_href() or "").relative_to(root))
    return _written(items, root / "items.parquet")


def _ids(archive: Any, *collections: str, bounds: Any = None, period: str | None = None) -> set[str]:
    return {item.id for item in archive.find(collections, bounds, parse_period(period))}


def test_a_cube_equals_that_of_the_catalogue(table: Path, written: Written, no_compute: None) -> None:
    cube = open_cube(catalog=table, geobox=GRID, modalities=["S2L2A"])
    whole = open_cube(catalog=written.root, geobox=GRID, modalities=["S2L2A"])
    assert cube.s2_items.values.tolist() == whole.s2_items.values.tolist()
    read = cube.B03.compute(scheduler="synchronous")
    np.testing.assert_array_equal(read, whole.B03.compute(scheduler="synchronous"))
    np.testing.assert_array_equal(read[0], raw_band("B03"))
    assert cube.attrs["catalog"] == "items"


def test_each_item_has_its_own_assets_and_properties_only(table: Path, written: Written) -> None:
    archive = open_archive(str(table))
    assert isinstance(archive, GeoParquetArchive)
    fresh = {
        item.id: item for item in pystac.Catalog.from_file(str(written.root / "catalog.json")).get_items()
    }
    for collection in ("sentinel-2-l2a", "sentinel-1-rtc", "cop-dem-glo-30"):
        for item in archive.find([collection], None, Period()):
            other = fresh[item.id]
            assert set(item.assets) == set(other.assets)
            assert set(item.properties) == set(other.properties)
            assert item.datetime == other.datetime
            asset = next(iter(item.assets.values()))
            assert Path(asset.get_absolute_href() or "").is_file()


def test_items_are_filtered_before_they_are_made(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = open_archive(table)
    made: list[int] = []
    to_items = arrow.stac_table_to_items
    monkeypatch.setattr(
        arrow, "stac_table_to_items", lambda rows: made.append(rows.num_rows) or to_items(rows)
    )
    assert _ids(archive, "cop-dem-glo-30") == {"dem"}
    assert _ids(archive, "sentinel-2-l2a", period="2021") == {"A"}
    assert _ids(archive, "sentinel-2-l2a", bounds=(0, 0, 1, 1)) == set()
    assert _ids(archive, "sentinel-1-rtc", bounds=(86, 28, 87, 29), period="2022-07-10/..") == {"R-late"}
    assert made == [1, 1, 0, 1]


def _item(name: str, bbox: list[float], when: datetime | None, **spans: Any) -> pystac.Item:
    west, south, east, north = bbox
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    item = pystac.Item(name, geometry, bbox, when, {}, collection="c", **spans)
    item.add_asset("data", pystac.Asset("https://example.org/a.tif"))
    return item


def test_bounds_over_the_date_line_and_spans_of_time(tmp_path: Path) -> None:
    begin, end = datetime(2022, 7, 1, tzinfo=UTC), datetime(2022, 7, 31, tzinfo=UTC)
    items = [
        _item("west", [-179.0, 50, -178, 51], begin),
        _item("across", [179.5, 50, -179.5, 51], begin),
        _item("month", [10, 50, 11, 51], None, start_datetime=begin, end_datetime=end),
    ]
    archive = open_archive(_written(items, tmp_path / "items.parquet"))
    assert _ids(archive, "c", bounds=(-180, 50, -178.5, 51)) == {"west", "across"}
    assert _ids(archive, "c", bounds=(-180, 52, -178.5, 53)) == set()
    assert _ids(archive, "c", bounds=(9, 49, 12, 52), period="2022-07-15") == {"month"}
    assert _ids(archive, "c", period="2022-08") == set()
    assert _ids(archive, "c") == {"west", "across", "month"}


def test_a_collection_that_the_table_does_not_hold(table: Path) -> None:
    said = r"DEM item: it has the collections sentinel-1-rtc, sentinel-2-l2a, and none of cop-dem-glo-30"
    rows = pq.read_table(table)
    keep = [name != "cop-dem-glo-30" for name in rows["collection"].to_pylist()]
    pq.write_table(rows.filter(pa.array(keep)), table)
    with pytest.raises(CatalogError, match=said):
        open_cube(catalog=table, geobox=GRID, modalities=["DEM"])


def test_a_provider_may_be_a_table(table: Path) -> None:
    from dataclasses import replace

    provider = replace(PLANETARY_COMPUTER, name="table", url=str(table), signing=None)
    archive = open_archive(provider)
    assert isinstance(archive, GeoParquetArchive)
    assert (archive.name, archive.provider, archive.root) == ("table", provider, table.parent)


def test_files_that_are_no_tables_of_items(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(CatalogError, match="cannot be read as a stac-geoparquet file"):
        open_archive(path)
    pq.write_table(pa.table({"id": ["a"], "geometry": [b""]}), path)
    with pytest.raises(CatalogError, match="has no column 'collection'; expected a stac-geoparquet file"):
        open_archive(path)
    columns = {"id": ["a"], "collection": ["c"], "geometry": [b""], "assets": [{"b": {"href": "x"}}]}
    pq.write_table(pa.table(columns), path)
    with pytest.raises(CatalogError, match="cannot be read as a stac-geoparquet file"):
        open_archive(path).find(["c"], None, Period())


def test_what_to_install(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = open_archive(table)
    monkeypatch.setitem(sys.modules, "stac_geoparquet.arrow", None)
    with pytest.raises(CatalogError, match=r'pip install "xglof\[geoparquet\]"'):
        archive.find(["sentinel-2-l2a"], None, Period())


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array(["2023-07-01T00:00:00Z"]), "string"),
        (pa.array([datetime(2023, 7, 1)], pa.timestamp("ms")), r"timestamp\[ms\]"),
    ],
    ids=["text", "naive"],
)
@pytest.mark.parametrize("name", ["datetime", "end_datetime"])
def test_moments_that_cannot_be_compared(tmp_path: Path, column: pa.Array, kind: str, name: str) -> None:
    path = _written([_item("a", [10, 50, 11, 51], datetime(2023, 7, 1, tzinfo=UTC))], tmp_path / "a.parquet")
    table = pq.read_table(path)
    if name in table.column_names:
        table = table.drop_columns([name])
    pq.write_table(table.append_column(name, column), path)
    with pytest.raises(CatalogError, match=f"has '{name}' as {kind}; expected timestamps with a time zone"):
        open_archive(path)


def test_a_column_of_moments_without_any(tmp_path: Path) -> None:
    path = _written([_item("a", [10, 50, 11, 51], datetime(2023, 7, 1, tzinfo=UTC))], tmp_path / "a.parquet")
    pq.write_table(pq.read_table(path).append_column("start_datetime", pa.nulls(1)), path)
    assert _ids(open_archive(path), "c", period="2023-07") == {"a"}
    assert _ids(open_archive(path), "c", period="2023-08") == set()


def test_rows_without_a_collection_are_found_and_refused_by_name(table: Path) -> None:
    rows = pq.read_table(table)
    place = rows.schema.get_field_index("collection")
    names = [None if name == "sentinel-2-l2a" else name for name in rows["collection"].to_pylist()]
    pq.write_table(rows.set_column(place, "collection", pa.array(names, pa.string())), table)
    with pytest.raises(CatalogError, match=r"S2L2A item: 6 found in .* \(6 without a collection\)"):
        open_cube(catalog=table, geobox=GRID, modalities=["S2L2A"])
    cube = open_cube(catalog=table, geobox=GRID, modalities=["DEM"])
    assert sum("without a collection" in text for text in cube.attrs["items_rejected"]) == 6
    pq.write_table(rows.set_column(place, "collection", pa.nulls(len(rows))), table)
    with pytest.raises(CatalogError, match=r"\(10 without a collection\)"):
        open_cube(catalog=table, geobox=GRID, modalities=["DEM"])
