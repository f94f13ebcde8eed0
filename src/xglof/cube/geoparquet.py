"""Catalogues as stac-geoparquet files: one table of items, filtered before any item is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xglof.cube.products import Provider
from xglof.cube.stac_api import item_of, unreadable
from xglof.errors import CatalogError

if TYPE_CHECKING:
    from xglof.cube.sources import Period

_MOMENTS = ("datetime", "start_datetime", "end_datetime")


@dataclass(frozen=True, slots=True)
class GeoParquetArchive:
    """A stac-geoparquet file on disk."""

    name: str
    path: Path
    provider: Provider | None = None
    searchable: bool = False

    @property
    def root(self) -> Path:
        """Folder that assets on disk may not leave."""
        return self.path.parent

    def find(self, collections: Sequence[str], bounds: Sequence[float] | None, period: Period) -> list[Any]:
        """Items of some collections or of none whose bounds meet the bounds, in the period.

        Raises
        ------
        CatalogError
            A row that is no STAC item, or stac-geoparquet is not installed.
        """
        to_items = _stac_table_to_items()
        with self._readable():
            table = self._dataset().to_table(filter=self._filter(collections, bounds, period))
            table = table.drop_columns([name for name in _MOMENTS if name in self._empty_columns()])
            documents = [_without_nulls(document) for document in to_items(table)]
            items = [item_of(document) for document in documents]
        for item in items:
            if item.get_self_href() is None:  # relative addresses start from the file
                item.set_self_href(str(self.path))
        return items

    def held_instead(self, collections: Sequence[str]) -> tuple[str, ...]:
        """Ids of the collections that the file has, where it has none of those asked for."""
        with self._readable():
            column = self._dataset().to_table(columns=["collection"])["collection"]
            held = tuple(sorted(text for text in column.unique().to_pylist() if text))
        return () if set(held) & set(collections) else held

    def check(self) -> GeoParquetArchive:
        """The archive itself, once its columns are known to be those of items.

        Raises
        ------
        CatalogError
            The file is no stac-geoparquet file, or its moments are no timestamps with a time zone.
        """
        import pyarrow.types as kinds

        with self._readable():
            schema = self._dataset().schema
        absent = [name for name in ("id", "collection", "geometry", "assets") if name not in schema.names]
        if absent:
            raise CatalogError(
                f"{self.path} has no column {absent[0]!r}; expected a stac-geoparquet file of STAC items"
            )
        for name in _MOMENTS:
            kind = schema.field(name).type if name in schema.names else None
            if kind is None or kinds.is_null(kind) or (kinds.is_timestamp(kind) and kind.tz):
                continue
            raise CatalogError(
                f"{self.path} has {name!r} as {kind}; expected timestamps with a time zone. Write the file "
                "with stac_geoparquet.arrow.to_parquet"
            )
        return self

    def _dataset(self) -> Any:
        import pyarrow.dataset

        return pyarrow.dataset.dataset(self.path, format="parquet")

    def _empty_columns(self) -> list[str]:
        """Columns of nothing but nulls, which have no type that could be compared or converted."""
        import pyarrow.types as kinds

        return [field.name for field in self._dataset().schema if kinds.is_null(field.type)]

    def _filter(self, collections: Sequence[str], bounds: Sequence[float] | None, period: Period) -> Any:
        import pyarrow.compute as pc

        empty = self._empty_columns()
        names = [name for name in self._dataset().schema.names if name not in empty]
        chosen = ~pc.is_valid(pc.field("collection"))
        if "collection" in names:
            chosen |= pc.field("collection").isin(list(collections))
        if bounds is not None and "bbox" in names:
            west, south, east, north = bounds
            box = {edge: pc.field("bbox", edge) for edge in ("xmin", "ymin", "xmax", "ymax")}
            along = (box["xmin"] <= east) & (box["xmax"] >= west)
            over_the_date_line = box["xmin"] > box["xmax"]
            across = (box["ymin"] <= north) & (box["ymax"] >= south)
            chosen &= (along | over_the_date_line) & across | ~pc.is_valid(box["xmin"])
        begins = [pc.field(name) for name in ("start_datetime", "datetime") if name in names]
        ends = [pc.field(name) for name in ("end_datetime", "datetime", "start_datetime") if name in names]
        if period.start is not None and ends:
            chosen &= pc.coalesce(*ends) >= period.start
        if period.end is not None and begins:
            chosen &= pc.coalesce(*begins) <= period.end
        return chosen

    def _readable(self) -> Any:
        return unreadable(self.path, "a stac-geoparquet file")


def _stac_table_to_items() -> Any:
    try:
        from stac_geoparquet.arrow import stac_table_to_items
    except ImportError as error:
        raise CatalogError(
            "reading a stac-geoparquet file needs the package stac-geoparquet; install it: "
            'pip install "xglof[geoparquet]"'
        ) from error
    return stac_table_to_items


def _without_nulls(document: dict[str, Any]) -> dict[str, Any]:
    """A row as the item that was written: a table gives every item the fields and assets of all of them."""
    assets = {
        name: {key: value for key, value in asset.items() if value is not None}
        for name, asset in document["assets"].items()
        if asset is not None and asset.get("href") is not None
    }
    properties = document["properties"]
    kept = {k: v for k, v in properties.items() if v is not None or k == "datetime"}
    return document | {"assets": assets, "properties": {"datetime": None} | kept}
