"""Searching a STAC API, and what is said when a catalogue cannot be read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xglof.cube.items import check_stated_crs
from xglof.cube.products import Provider
from xglof.errors import CatalogError

if TYPE_CHECKING:
    from xglof.cube.sources import Period

_TIMEOUT_S = 60
_RETRIES = 5
#: Items a page: Earth Search refuses answers above 6 MB, which 250 of its Sentinel-2 items exceed.
_PAGE = 100
_NAMED_COLLECTIONS = 20


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
                limit=_PAGE,
            )
            documents = list(search.items_as_dicts())
        return [self._item(document) for document in documents]

    def held_instead(self, collections: Sequence[str]) -> tuple[str, ...]:
        """Ids of some of its collections, where it says that it has none of those asked for."""
        if not self.client.conforms_to("COLLECTIONS"):
            return ()
        with _connection_errors(self.name):
            if any(self._has(name) for name in collections):
                return ()
            return tuple(held.id for held in islice(self.client.get_collections(), _NAMED_COLLECTIONS))

    def _has(self, collection: str) -> bool:
        from pystac_client.exceptions import APIError

        try:
            return self.client.get_collection(collection) is not None
        except APIError as error:  # from releases before 0.8 also where there is none
            if error.status_code != 404:
                raise
            return False

    def _item(self, document: dict[str, Any]) -> Any:
        try:
            return item_of(document, root=self.client)
        except malformed(TypeError, AttributeError) as error:
            name = document.get("id") if isinstance(document, dict) else document
            raise CatalogError(
                f"{self.name} returned the item {name!r}, which is broken ({type(error).__name__}: {error}); "
                "pass a list of the items without it as catalog="
            ) from error


def open_api(name: str, url: str, provider: Provider | None) -> ApiArchive:
    """The API at an address.

    Raises
    ------
    CatalogError
        It does not answer as a STAC API, or refuses to.
    """
    from pystac_client import Client
    from pystac_client.stac_api_io import StacApiIO
    from urllib3.util import Retry

    retries = Retry(
        total=_RETRIES,
        backoff_factor=0.5,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=None,  # a search is a POST that changes nothing
        raise_on_status=False,
    )
    with _connection_errors(name):
        client = Client.open(url, stac_io=StacApiIO(timeout=_TIMEOUT_S, max_retries=retries))
    return ApiArchive(name, client, public(url), provider)


def public(text: str) -> str:
    """A text without the logins and queries of the addresses in it, which may hold keys."""
    return re.sub(r"\?[^\s'\"<>()]+", "", re.sub(r"://[^/\s]*@", "://", text))


@contextmanager
def _connection_errors(name: str) -> Iterator[None]:
    """Turn what the HTTP stack raises into a CatalogError that names the archive."""
    import requests
    from pystac_client.exceptions import APIError

    try:
        yield
    except CatalogError:
        raise
    except malformed(APIError, requests.RequestException, OSError, NotImplementedError) as error:
        cause = _cause(error)
        text = public(str(cause))
        status = getattr(cause, "status_code", None)
        if status in (401, 403):
            raise CatalogError(
                f"{name} refused the request ({status}): a token or key is missing, wrong or expired; set "
                "the one it asks for and try again"
            ) from None  # its text may repeat the token
        if isinstance(status, int) and 400 <= status < 500 and status != 404:
            raise CatalogError(
                f"{name} refused the request ({status}): {text}; change what is asked for"
            ) from (cause if text == str(cause) else None)
        raise CatalogError(
            f"{name} did not answer as a STAC API ({type(cause).__name__}: {text}); check the "
            "network, the proxy settings and the address, or open a catalogue on disk"
        ) from (cause if text == str(cause) else None)


def item_of(document: dict[str, Any], root: Any | None = None) -> Any:
    """The pystac item of a document; raises one of :func:`malformed` for what is no item."""
    import pystac

    if not isinstance(document.get("id"), str):
        raise ValueError("it has no id")
    check_stated_crs(document)
    return pystac.Item.from_dict(document, root=root, preserve_dict=False)


def malformed(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """What pystac raises when a document is not what it should be, and more."""
    import pystac

    return (pystac.STACError, pystac.STACTypeError, ValueError, KeyError, *more)


@contextmanager
def unreadable(path: Path, what: str, reading: Sequence[str] = ()) -> Iterator[None]:
    """Turn what pystac, JSON and pyarrow raise into a CatalogError that names the file."""
    try:
        yield
    except CatalogError:
        raise
    except malformed(OSError, TypeError, AttributeError, NotImplementedError) as error:
        culprit = f"{reading[0]}: " if reading and reading[0] != str(path) else ""
        cause = _cause(error)
        raise CatalogError(
            f"{path} cannot be read as {what} ({culprit}{type(cause).__name__}: {cause}); "
            "check that it and the files it links to are whole"
        ) from error


def _cause(error: BaseException) -> BaseException:
    """What an error came from: pystac says of anything that a link does not resolve."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
