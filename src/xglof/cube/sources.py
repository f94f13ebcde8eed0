"""Archives of STAC items: a STAC API, a static catalogue on disk, or a list of items."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from xglof.cube.providers import PROVIDERS, Provider
from xglof.errors import CatalogError, CubeError

_TIMEOUT_S = 60
_RETRIES = 3
_REMOTE_SCHEMES = ("http", "https", "s3", "gs", "az", "abfs")


@dataclass(frozen=True, slots=True)
class Period:
    """A span of time, both ends included; ``None`` is open."""

    start: datetime | None = None
    end: datetime | None = None

    def holds(self, when: datetime) -> bool:
        """Whether a moment lies in the period."""
        return (self.start is None or when >= self.start) and (self.end is None or when <= self.end)

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
        return "/".join(o if t is None else t.strftime("%Y-%m-%dT%H:%M:%SZ") for o, t in ends)


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


@dataclass(frozen=True, slots=True)
class ItemArchive:
    """Items in memory: from a list or a static catalogue."""

    name: str
    items: tuple[Any, ...]
    root: Path | None = None
    provider: Provider | None = None
    searchable: bool = False

    def find(self, collections: Sequence[str], bounds: Sequence[float] | None, period: Period) -> list[Any]:
        """Items of some collections; neither bounds nor period narrow it."""
        return [item for item in self.items if item.collection_id in collections]


@dataclass(frozen=True, slots=True)
class ApiArchive:
    """A STAC API."""

    name: str
    client: Any
    root: str
    provider: Provider | None = None
    searchable: bool = True

    def find(self, collections: Sequence[str], bounds: Sequence[float] | None, period: Period) -> list[Any]:
        """Items that a search of the API returns, page by page."""
        with _connection_errors(self.name):
            search = self.client.search(
                collections=list(collections),
                bbox=bounds and list(bounds),
                datetime=period.interval,
                limit=250,
            )
            return list(search.items())


def open_archive(catalog: object) -> Archive:
    """The archive that ``catalog=`` names.

    Raises
    ------
    CatalogError
        An unknown name, a path without a catalogue, broken JSON, or an API that does not answer.
    """
    if isinstance(catalog, str) and catalog in PROVIDERS:
        provider = PROVIDERS[catalog]
        return _open_api(provider.name, provider.url, provider)
    if isinstance(catalog, str) and urlsplit(catalog).scheme in ("http", "https"):
        known = {provider.url.rstrip("/"): provider for provider in PROVIDERS.values()}
        return _open_api(catalog, catalog, known.get(catalog.rstrip("/")))
    if isinstance(catalog, (str, Path)):
        return _open_static(catalog)
    if isinstance(catalog, Iterable):
        return _from_items(catalog)
    raise CatalogError(f"catalog= is a {type(catalog).__name__}; {_EXPECTED}")


_EXPECTED = (
    f"expected one of {', '.join(map(repr, PROVIDERS))}, the URL of a STAC API, the path of a catalog.json "
    "or its folder, or a list of pystac items"
)


def _from_items(catalog: Iterable[object]) -> ItemArchive:
    import pystac

    items = tuple(catalog)
    for item in items:
        if not isinstance(item, pystac.Item):
            raise CatalogError(f"catalog= holds a {type(item).__name__}; expected pystac items only")
    if not items:
        raise CatalogError("catalog= is an empty list; expected at least one pystac item")
    return ItemArchive(f"{len(items)} items", items)


def _open_static(catalog: str | Path) -> ItemArchive:
    import pystac

    path = Path(catalog).expanduser()
    path = path / "catalog.json" if path.is_dir() else path
    if not path.is_file():
        raise CatalogError(f"catalog={str(catalog)!r} is neither a known archive nor a file; {_EXPECTED}")
    try:
        opened = pystac.Catalog.from_file(str(path.resolve()))
        items = tuple(opened.get_items(recursive=True))
    except _malformed(OSError, TypeError, AttributeError) as error:
        raise CatalogError(
            f"{path} cannot be read as a STAC catalogue ({type(error).__name__}: {error}); "
            "check that it and the files it links to are whole"
        ) from error
    return ItemArchive(opened.id, items, root=path.resolve().parent)


def _open_api(name: str, url: str, provider: Provider | None) -> ApiArchive:
    from pystac_client import Client
    from pystac_client.stac_api_io import StacApiIO

    with _connection_errors(name):
        client = Client.open(url, stac_io=StacApiIO(timeout=_TIMEOUT_S, max_retries=_RETRIES))
    return ApiArchive(name, client, url, provider)


def _malformed(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """What pystac raises when a document is not what it should be, and more."""
    import pystac

    return (pystac.STACError, pystac.STACTypeError, ValueError, KeyError, *more)


@contextmanager
def _connection_errors(name: str) -> Iterator[None]:
    """Turn what the HTTP stack raises into a CatalogError that names the archive."""
    import requests
    from pystac_client.exceptions import APIError

    try:
        yield
    except _malformed(APIError, requests.RequestException, OSError, NotImplementedError) as error:
        raise CatalogError(
            f"{name} did not answer as a STAC API ({type(error).__name__}: {error}); check the network, "
            "the proxy settings and the address, or open a catalogue on disk"
        ) from error


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
    scheme = urlsplit(href).scheme.lower()
    if scheme in _REMOTE_SCHEMES:
        return str(href)
    if isinstance(root, str):
        raise CatalogError(f"{where}: {href} is not a remote address, and {root} may not name local files")
    if scheme not in ("", "file"):
        raise CatalogError(f"{where}: {href} is of a kind that is not read; expected a file or http(s)")
    path = Path(href.removeprefix("file://")).resolve()
    if not path.is_relative_to(root):
        raise CatalogError(
            f"{where}: {path} lies outside the catalogue's folder {root}; copy the file into it or pass the "
            "items as a list, which are trusted as given"
        )
    return str(path)
