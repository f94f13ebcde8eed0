"""How a file of an archive is reached: signed late, tried again, never too many at once.

Every reading task carries an :class:`Access`. It is plain data: no token and no credential is in it, so none
can end in a graph, a log or a store. Tokens are asked for inside the task, and credentials are read from the
environment variables of the process that reads.
"""

from __future__ import annotations

import logging
import os
import random
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from threading import BoundedSemaphore, Lock
from time import sleep
from typing import Any, Literal, TypeVar

from xglof.errors import CatalogError

T = TypeVar("T")

#: Options of GDAL under which files are read; those that the process or an archive sets win.
READING_OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # a stalled transfer is cut by its speed: a limit on the whole would also cut large reads on slow lines
    "GDAL_HTTP_CONNECTTIMEOUT": "20",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
    "GDAL_HTTP_TIMEOUT": "300",
    # a short hiccup costs one range, not the whole read
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    # only serial ranges go through GDAL's cache: parallel ones fetch a block once for each cell it lies in
    "GDAL_HTTP_MULTIRANGE": "SERIAL",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "CPL_VSIL_CURL_CACHE_SIZE": str(128 * 2**20),
}

# GDAL's own threads cannot raise: a JPEG 2000 block that fails in one of them comes back as nodata
_ALWAYS = {"GDAL_NUM_THREADS": "1"}

_REMOTE = ("http://", "https://", "ftp://", "s3://", "gs://", "az://")
_NETWORK = ("/vsicurl", "/vsis3", "/vsigs", "/vsiaz", "/vsiadls", "/vsioss", "/vsiswift")
_RENEWALS = 2
_FIRST_PAUSE_S, _FIRST_PAUSE_THROTTLED_S, _LONGEST_PAUSE_S = 0.5, 2.0, 60.0

_REFUSED = frozenset({401, 403})
_THROTTLED = frozenset({429, 503})
_TRANSIENT_OF_4XX = frozenset({408, 416, 425, 429})  # 416: the file looked shorter than it is

_SECRET = re.compile(
    r"SECRET|TOKEN|PASSW|PRIVATE_KEY|HMAC|HEADER_FILE|SSLKEY|USERPWD|BEARER|ACCESS_KEY|_SAS\b|CONNECTION_STRING|HEADERS?$|COOKIE"
)
_QUERY = re.compile(r"\?[^\s'\"<>]*")
_LOGIN = re.compile(r"://[^/\s@]*@")
_STATUS = re.compile(r"(?:response|error|status)[ _]code\s*[:=]\s*(\d{3})", re.IGNORECASE)

_slots: dict[tuple[int, str, int], BoundedSemaphore] = {}
_renewing = Lock()
#: Files whose last read failed here. GDAL remembers a failed open and the short end of a cut transfer.
_failed: set[str] = set()


@dataclass(frozen=True, slots=True)
class Access:
    """How the files of one archive are read.

    Attributes
    ----------
    name
        Of the archive; reads of equal name share its limit.
    signing
        Who signs addresses: ``"planetary-computer"``, or ``None`` for none.
    environment
        Options of GDAL, such as ``(("AWS_VIRTUAL_HOSTING", "FALSE"),)``. Never secrets.
    concurrency
        The most reads at once in one process; ``None`` for no limit.
    attempts
        How often a read is tried before it fails.

    Raises
    ------
    CatalogError
        A secret among the options, or a limit below 1.

    Examples
    --------
    >>> Access("cdse", environment=(("AWS_VIRTUAL_HOSTING", "FALSE"),), concurrency=4)  # doctest: +ELLIPSIS
    Access(name='cdse', signing=None, environment=(('AWS_VIRTUAL_HOSTING', 'FALSE'),), concurrency=4, ...)
    """

    name: str
    signing: Literal["planetary-computer"] | None = None
    environment: tuple[tuple[str, str], ...] = ()
    concurrency: int | None = None
    attempts: int = 5

    def __post_init__(self) -> None:
        secret = sorted(key for key, _ in self.environment if _SECRET.search(key.upper()))
        if secret:
            raise CatalogError(
                f"{', '.join(secret)} among the options of {self.name} would end in every graph; "
                f"expected no secrets here: set them as environment variables of the processes that read"
            )
        if self.attempts < 1 or (self.concurrency is not None and self.concurrency < 1):
            raise CatalogError(
                f"{self.name} is to be read with attempts={self.attempts} and "
                f"concurrency={self.concurrency}; expected both to be 1 or more, or concurrency=None"
            )
        if self.signing not in (None, "planetary-computer"):
            raise CatalogError(
                f"{self.name} is to be signed by {self.signing!r}; expected 'planetary-computer' or None"
            )

    def attempt(self, read: Callable[[str], T], href: str) -> T:
        """What ``read`` returns, called with the address under which a file can be read now.

        A read over the network that fails is tried again after a pause that doubles each time, past what GDAL
        remembers of the failure. A refused token is renewed first. What cannot get better fails at once: a
        file that is not there, refused credentials, a file on disk. GDAL does not pass on ``Retry-After``; a
        server that asks for patience (429, 503) is given longer pauses instead.

        Parameters
        ----------
        read
            Opens the address with rasterio, reads and closes it. May be called several times.
        href
            Unsigned address or path. ``s3://`` is read by GDAL itself, with the process's credentials.

        Raises
        ------
        CatalogError
            The file could not be read; the text holds neither token nor query.
        """
        failures = renewals = 0
        remote, allowed = is_remote(href), self.attempts if is_remote(href) else 1
        address = self.address(href)
        while True:
            outcome = self._once(read, address, remote=remote)
            if not isinstance(outcome, _Failure):
                return outcome
            failures += 1
            if outcome.kind == "refused" and self.signing and renewals < _RENEWALS:
                renewals += 1
                address = self._renewed(href, address)
                continue
            if outcome.kind != "transient" or failures - renewals >= allowed:
                break
            sleep(_pause_s(failures - renewals, throttled=outcome.status in _THROTTLED))
            address = self.address(href)
        tried = f"{failures} attempt{'s'[: failures > 1]} ({outcome.reason})"
        advice = _advice(outcome, self, remote=remote)
        raise CatalogError(f"{without_query(href)} of {self.name} could not be read after {tried}; {advice}")

    @contextmanager
    def environment_of_reading(self, *, cached: bool = True) -> Iterator[None]:
        """Block in which GDAL has the options of the archive, whatever machine it runs on.

        Parameters
        ----------
        cached
            ``False`` to neither use nor keep what GDAL remembers of files that it opened.
        """
        import rasterio
        from rasterio.session import DummySession

        options = {key: value for key, value in READING_OPTIONS.items() if key not in os.environ}
        options |= dict(self.environment) | _ALWAYS
        if not cached:
            options["CPL_VSIL_CURL_NON_CACHED"] = ":".join(f"{prefix}/" for prefix in _NETWORK)
        # without a session of rasterio's own, GDAL itself looks up credentials in the environment variables
        with rasterio.Env(DummySession(), **options):
            yield

    def _once(self, read: Callable[[str], T], address: str, *, remote: bool) -> T | _Failure:
        from rasterio._err import CPLE_BaseError  # rasterio lets it through from some reads
        from rasterio.errors import RasterBlockError, RasterioIOError, WarpOperationError

        _scrub_logs()
        place = without_query(address)
        try:
            with (
                self._slot() if remote else nullcontext(),
                self.environment_of_reading(cached=place not in _failed),
            ):
                value = read(address)
        except (RasterioIOError, RasterBlockError, WarpOperationError, CPLE_BaseError) as error:
            _failed.add(place)
            return _failure(error)
        _failed.discard(place)
        return value

    def _slot(self) -> AbstractContextManager[Any]:
        if self.concurrency is None:
            return nullcontext()
        # by process too: a fork must not inherit slots that its parent's threads hold
        key = (os.getpid(), self.name, self.concurrency)
        return _slots.setdefault(key, BoundedSemaphore(self.concurrency))

    def address(self, href: str) -> str:
        """Where a file can be read now, signed if need be: not to be kept, for it may hold a token."""
        if self.signing == "planetary-computer" and is_remote(href):
            return _sign(self.name, href)
        # rasterio would look for credentials with boto3, and hold them
        return "/vsis3/" + href.removeprefix("s3://") if href.startswith("s3://") else href

    def _renewed(self, href: str, refused: str) -> str:
        """A newly signed address; the threads that hold the same refused token ask for one together."""
        with _renewing:
            address = self.address(href)
            if address == refused:
                _drop_token(refused)
                address = self.address(href)
        return address


@dataclass(frozen=True, slots=True)
class _Failure:
    kind: Literal["final", "refused", "transient"]
    status: int | None
    reason: str


def is_remote(href: str) -> bool:
    """Whether a file is read over the network."""
    return href.startswith((*_REMOTE, *_NETWORK))


def without_query(text: str) -> str:
    """An address, or a text that holds some, without the parts that may be secret.

    Examples
    --------
    >>> without_query("https://host/B02.tif?sig=SECRET")
    'https://host/B02.tif'
    """
    return _LOGIN.sub("://", _QUERY.sub("", text))


def _failure(error: BaseException) -> _Failure:
    """What an error of rasterio says, with the causes that it carries."""
    texts: list[str] = []
    cause: BaseException | None = error
    seen: set[int] = set()  # causes may go round in a circle
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        texts.append(without_query(str(cause)))
        cause = cause.__cause__ or cause.__context__
    found = _STATUS.search(" ".join(texts))
    if found is None:
        reason = texts[-1].strip().rstrip(".")
        return _Failure("refused" if "credential" in reason.lower() else "transient", None, reason)
    status = int(found[1])
    kind: Literal["final", "refused", "transient"] = "transient"
    if status in _REFUSED:
        kind = "refused"
    elif 400 <= status < 500 and status not in _TRANSIENT_OF_4XX:
        kind = "final"
    return _Failure(kind, status, f"HTTP {status}")


def _advice(failure: _Failure, access: Access, *, remote: bool) -> str:
    if not remote:
        return "check that the file is there and whole"
    if failure.kind == "final":
        return "search the archive again, since the item may have changed"
    if failure.kind == "transient":
        return "try again later or with fewer simultaneous reads"
    if access.signing:
        return "check this machine's clock and the account with the archive"
    return "set the archive's credentials as environment variables of the processes that read"


def _pause_s(failures: int, *, throttled: bool) -> float:
    first = _FIRST_PAUSE_THROTTLED_S if throttled else _FIRST_PAUSE_S
    # jitter, so that tasks which failed together do not come back together
    pause = min(_LONGEST_PAUSE_S, first * 2.0 ** (failures - 1))
    return pause * random.SystemRandom().uniform(0.5, 1.0)


def _sign(name: str, href: str) -> str:
    try:
        import planetary_computer
    except ImportError as error:
        raise CatalogError(
            f"{name} needs signed addresses; install the package that signs them: "
            'pip install "xglof[planetary-computer]"'
        ) from error
    import requests

    try:
        # an address that was signed before is signed anew: its token may have run out
        signed: str = planetary_computer.sign(without_query(href))
    except requests.RequestException as error:
        problem = type(error).__name__
    else:
        return signed
    raise CatalogError(
        f"{name} gave no token for {without_query(href)} ({problem}); "
        f"expected one from its signing service: check the network and try again later"
    )


def _drop_token(refused: str) -> None:
    """Let the signing package forget a token, which it would else give out until shortly before its end."""
    from planetary_computer import sas

    for key, token in list(sas.TOKEN_CACHE.items()):
        if refused.endswith(token.token):
            sas.TOKEN_CACHE.pop(key, None)


class _WithoutQuery(logging.Filter):
    """Cuts the queries of addresses, which may be tokens, out of what the readers log."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true, with the record's text changed where it holds a query."""
        text = record.getMessage()
        if "?" in text or "@" in text:
            record.msg, record.args = without_query(text), ()
        return True


_without_query_filter = _WithoutQuery()
_READERS = (
    "rasterio", "rasterio._base", "rasterio._env", "rasterio._err", "rasterio._io", "rasterio._warp",
    "rasterio.env", "rasterio.session", "rasterio.warp", "odc.loader._rio",
)  # fmt: skip


def _scrub_logs() -> None:
    for name in _READERS:
        logging.getLogger(name).addFilter(_without_query_filter)
