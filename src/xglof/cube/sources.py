"""Archives of STAC items: a STAC API, files on disk, or a list of items."""

from __future__ import annotations

import json
import re
from calendar import monthrange
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from xglof.cube.geoparquet import GeoParquetArchive
from xglof.cube.items import check_stated_crs
from xglof.cube.profiles import read_profile
from xglof.cube.providers import PROVIDERS, Provider
from xglof.cube.stac_api import item_of, malformed, open_api, public, unreadable
from xglof.errors import CatalogError, CubeError

_REMOTE_SCHEMES = ("http", "https", "s3", "gs", "az", "abfs")


@dataclass(frozen=True, slots=True)
class Period:
    """A span of time, both ends included; ``None`` is open."""

    start: datetime | None = None
    end: datetime | None = None

    def holds(self, when: datetime) -> bool:
        """Whether a moment lies in the period."""
        return (self.start is None or when >= self.start) and (self.end is None or when <= self.end)

    def meets(self, start: datetime, end: datetime) -> bool:
        """Whether any of a span lies in the period, ends included."""
        return (self.start is None or end >= self.start) and (self.end is None or start <= self.end)

    def widened(self, days: float) -> Period:
        """The period with ``days`` more on both sides."""
        margin = timedelta(days=days)
        return Period(self.start and self.start - margin, self.end and self.end + margin)

    @property
    def interval(self) -> str | None:
        """RFC 3339 interval as a STAC API takes it; ``None`` when both ends are open."""
        if self.start is None and self.end is None:
            return None
        ends = (("..", self.start), ("..", self.end))
        # fractions too: an item of the last half second of a day belongs to the day
        return "/".join(o if t is None else t.isoformat().replace("+00:00", "Z") for o, t in ends)


def parse_period(time: str | None) -> Period:
    """The period that a STAC-style text names.

    Parameters
    ----------
    time
        A year, month, day or moment (``"2023-07"``), or two of them joined by ``/`` (``"2023-07/2023-09"``,
        whole units included); ``..`` leaves an end open. ``None`` is all time. UTC.

    Raises
    ------
    CubeError
        The text is no such period, or it is reversed.
    """
    if time is None:
        return Period()
    parts = time.split("/") if isinstance(time, str) else []
    if len(parts) not in (1, 2):
        raise CubeError(f"time={time!r} is not understood; expected a text such as '2023-07/2023-09'")
    start, end = (_span(part.strip(), time) for part in (parts[0], parts[-1]))
    period = Period(start[0], end[1])
    if period.start and period.end and period.start > period.end:
        raise CubeError(f"time={time!r} is reversed: it ends before it starts")
    return period


def _span(text: str, whole: str) -> tuple[datetime | None, datetime | None]:
    """First and last moment of the unit of time that a text names."""
    if text in ("", "..") and "/" in whole:
        return None, None
    match = re.fullmatch(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?", text)
    try:
        if match is None:
            if "T" not in text.upper():  # fromisoformat reads 20230715 as its first moment
                raise ValueError(f"{text!r} is no year, month, day or moment")
            moment = datetime.fromisoformat(text)
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
            return moment, moment
        year, month, day = (None if group is None else int(group) for group in match.groups())
        last_month = month or 12
        last_day = day or monthrange(int(year or 0), last_month)[1]
        first = datetime(int(year or 0), month or 1, day or 1, tzinfo=UTC)
        return first, datetime(int(year or 0), last_month, last_day, 23, 59, 59, 999999, tzinfo=UTC)
    except ValueError as error:
        raise CubeError(
            f"time={whole!r} is not understood ({error}); expected a text such as '2023-07/2023-09'"
        ) from error


class Archive(Protocol):
    """Something that gives STAC items."""

    @property
    def name(self) -> str:
        """For attributes and messages."""

    @property
    def provider(self) -> Provider | None:
        """Its profile; ``None`` when the items must tell."""

    @property
    def root(self) -> Path | str | None:
        """Folder or API that assets may not leave; ``None`` trusts them as given."""

    @property
    def searchable(self) -> bool:
        """Whether a search needs an area."""

    def find(self, collections: Sequence[str], bounds: Sequence[float] | None, period: Period) -> list[Any]:
        """Items of some collections; it may return more than the bounds and the period ask for."""

    def held_instead(self, collections: Sequence[str]) -> tuple[str, ...]:
        """Ids of collections that it has, where it has none of those asked for; else, or unsaid, none."""


@dataclass(frozen=True, slots=True)
class ItemArchive:
    """Items in memory: from a list, a static catalogue or an ItemCollection."""

    name: str
    items: tuple[Any, ...]
    root: Path | None = None
    provider: Provider | None = None
    searchable: bool = False

    def find(self, collections: Sequence[str], bounds: Sequence[float] | None, period: Period) -> list[Any]:
        """Items of some collections or of none; neither bounds nor period narrow it."""
        return [item for item in self.items if item.collection_id in (None, *collections)]

    def held_instead(self, collections: Sequence[str]) -> tuple[str, ...]:
        """Ids of its collections, where none of those asked for is among them."""
        held = sorted({str(item.collection_id) for item in self.items})
        return () if set(held) & set(collections) else tuple(held)


def open_archive(catalog: object) -> Archive:
    """The archive that ``catalog=`` names.

    Raises
    ------
    CatalogError
        An unknown name, a path without a catalogue, broken JSON, a wrong profile, or an API that does not
        answer or refuses.
    """
    if isinstance(catalog, str) and catalog in PROVIDERS:
        return _open_provider(PROVIDERS[catalog])
    if isinstance(catalog, Provider):
        return _open_provider(catalog)
    if isinstance(catalog, str) and _is_url(catalog):
        known = {provider.url.rstrip("/"): provider for provider in PROVIDERS.values()}
        return open_api(public(catalog), catalog, known.get(catalog.rstrip("/")))
    if isinstance(catalog, (str, Path)):
        if Path(catalog).suffix.lower() == ".toml":
            return _open_provider(read_profile(catalog))
        return _open_path(catalog, None)
    if isinstance(catalog, Iterable):
        return _from_items(catalog)
    raise CatalogError(f"catalog= is a {type(catalog).__name__}; {_EXPECTED}")


_EXPECTED = (
    f"expected one of {', '.join(map(repr, PROVIDERS))}, the URL of a STAC API, the path of a catalog.json "
    "or its folder, of an ItemCollection, a stac-geoparquet file or a .toml profile, a Provider, or a list "
    "of pystac items"
)


def _is_url(text: str) -> bool:
    return urlsplit(text).scheme in ("http", "https")


def _open_provider(provider: Provider) -> Archive:
    if _is_url(provider.url):
        return open_api(provider.name, provider.url, provider)
    return _open_path(provider.url, provider)


def _from_items(catalog: Iterable[object]) -> ItemArchive:
    import pystac

    items = tuple(catalog)
    for item in items:
        if not isinstance(item, pystac.Item):
            raise CatalogError(f"catalog= holds a {type(item).__name__}; expected pystac items only")
    if not items:
        raise CatalogError("catalog= is an empty list; expected at least one pystac item")
    return ItemArchive(f"{len(items)} items", items, provider=_provider_of(items))


def _provider_of(items: Sequence[Any]) -> Provider | None:
    """The known archive whose API all items link to: a search's result is read as the archive's own."""
    for provider in PROVIDERS.values():
        home = provider.url.rstrip("/") + "/"
        if all(any(str(link.target).startswith(home) for link in _plain_links(item)) for item in items):
            return provider
    return None


def _plain_links(item: Any) -> list[Any]:
    return [link for link in item.links if isinstance(link.target, str)]


def _open_path(catalog: str | Path, provider: Provider | None) -> Archive:
    path = Path(catalog).expanduser()
    path = path / "catalog.json" if path.is_dir() else path
    if not path.is_file():
        raise CatalogError(f"catalog={str(catalog)!r} is neither a known archive nor a file; {_EXPECTED}")
    path = path.resolve()
    if path.suffix.lower() in (".parquet", ".geoparquet"):
        return GeoParquetArchive(provider.name if provider else path.stem, path, provider).check()
    with unreadable(path, "a STAC catalogue"):
        document = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(document, dict) and document.get("type") in ("FeatureCollection", "Feature"):
        items, name = _items_of_features(path, document), path.stem
        provider = provider or _provider_of(items)
    else:
        items, name = _items_of_catalog(path)
    return ItemArchive(provider.name if provider else name, items, path.parent, provider)


def _items_of_catalog(path: Path) -> tuple[tuple[Any, ...], str]:
    import pystac
    from pystac.stac_io import DefaultStacIO

    reading = [str(path)]  # the file that was read last, for the message

    class NamingIO(DefaultStacIO):  # type: ignore[misc, unused-ignore]
        def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
            reading[0] = str(source)
            text = str(super().read_text(source, *args, **kwargs))
            if "proj:epsg" in text and "proj:code" in text:
                check_stated_crs(json.loads(text))
            return text

    with unreadable(path, "a STAC catalogue", reading):
        opened = pystac.Catalog.from_file(str(path), stac_io=NamingIO())
        items = []
        for item in opened.get_items(recursive=True):
            if not isinstance(item.id, str):
                raise ValueError("it has no id")
            items.append(item)
        return tuple(items), str(opened.id)


def _items_of_features(path: Path, document: dict[str, Any]) -> tuple[Any, ...]:
    features = document.get("features") if document["type"] == "FeatureCollection" else [document]
    with unreadable(path, "a STAC ItemCollection"):
        if not isinstance(features, list) or not features:
            raise ValueError("it holds no items")
        items = []
        for number, feature in enumerate(features, 1):
            try:
                items.append(item_of(feature))
            except malformed(TypeError, AttributeError) as error:
                text = f"item {number} of {len(features)}: {type(error).__name__}: {error}"
                raise ValueError(text) from None
    for item in items:
        if item.get_self_href() is None:  # relative addresses start from the file
            item.set_self_href(str(path))
    return tuple(items)


def asset_href(item: Any, asset_name: str, root: Path | str | None) -> str:
    """Where an asset's file lies, checked to stay inside what the catalogue may name.

    Parameters
    ----------
    item
        The pystac item.
    asset_name
        Key of the asset.
    root
        Folder of a static catalogue: files must lie under it, symbolic links resolved. URL of an API: files
        must be remote. ``None``: as given.

    Raises
    ------
    CatalogError
        The path leaves the root, or the address is of a kind that is not read.
    """
    href = item.assets[asset_name].get_absolute_href()
    where = f"item {item.id}, asset {asset_name!r}"
    if href is None:
        raise CatalogError(f"{where}: its relative path has no base; set the item's self href")
    if root is None:
        return str(href)
    shown, scheme = public(str(href)), urlsplit(href).scheme.lower()
    if scheme in _REMOTE_SCHEMES:
        return str(href)
    if isinstance(root, str):
        raise CatalogError(f"{where}: {shown} is not a remote address, and {root} may not name local files")
    if scheme not in ("", "file"):
        raise CatalogError(f"{where}: {shown} is of a kind that is not read; expected a file or http(s)")
    path = Path(href.removeprefix("file://")).resolve()
    if not path.is_relative_to(root):
        outside = Path(shown.removeprefix("file://")).resolve()
        raise CatalogError(
            f"{where}: {outside} lies outside the catalogue's folder {root}; copy the file into it or pass "
            "the items as a list, which are trusted as given"
        )
    return str(path)
