"""How files are reached: every misbehaviour of a server is got over or said, and no token gets out."""

from __future__ import annotations

import logging
import multiprocessing
import pickle
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace

import cloudpickle
import dask
import numpy as np
import pytest
import rasterio
from affine import Affine
from dask.base import tokenize
from rasterio.windows import Window

from cog_server import CogServer, blocks_of, serve_cogs
from xglof.cube import access as access_module
from xglof.cube.access import Access, is_remote, without_query
from xglof.errors import CatalogError

SIZE, BLOCK = 600, 128
QUICK = (("GDAL_HTTP_MAX_RETRY", "0"),)
IMPATIENT = (*QUICK, ("GDAL_HTTP_TIMEOUT", "0.25"))
FAULTS = ("429", "503", "500", "slow", "cut", "truncated")
#: Healthy requests before a fault: it hits the look at the file's size, its header, its blocks.
PLACES = [("a.tif", 0), ("a.tif", 1), ("a.tif", 2), ("j.jp2", 0), ("j.jp2", 1), ("j.jp2", 2), ("j.jp2", 3)]
PLAIN = Access("plain", environment=QUICK)
SIGNED = Access("signed", environment=QUICK, signing="planetary-computer")


@pytest.fixture(scope="module")
def raw() -> np.ndarray:
    return np.random.default_rng(7).integers(1, 10_000, (SIZE, SIZE), dtype=np.uint16)


@pytest.fixture(scope="module")
def folder(raw: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``a.tif``, a COG with overviews, and ``j.jp2``, a lossless JPEG 2000 of the same numbers."""
    root = tmp_path_factory.mktemp("cogs")
    grid = {"crs": "EPSG:32645", "transform": Affine(10, 0, 5e5, 0, -10, 3.1e6), "dtype": "uint16"}
    shape = {"width": SIZE, "height": SIZE, "count": 1, "nodata": 0}
    cog = {"driver": "COG", "compress": "deflate", "blocksize": BLOCK}
    jp2 = {"driver": "JP2OpenJPEG", "QUALITY": 100, "REVERSIBLE": "YES"}
    jp2 |= {"BLOCKXSIZE": BLOCK, "BLOCKYSIZE": BLOCK}
    for name, form in (("a.tif", cog), ("j.jp2", jp2)):
        with rasterio.open(root / name, "w", **grid, **shape, **form) as file:
            file.write(raw, 1)
    return root


@pytest.fixture
def server(folder: Path) -> Iterator[CogServer]:
    with serve_cogs(folder) as running:
        yield running


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were asked for; none is made."""
    asked: list[float] = []
    monkeypatch.setattr(access_module, "sleep", asked.append)
    return asked


class Signer:
    """A stand-in for the signing package: its token is cached until it is dropped."""

    def __init__(self, server: CogServer) -> None:
        self.server, self.uses, self.given = server, float("inf"), 0
        self.cache: dict[str, SimpleNamespace] = {}

    def sign(self, href: str) -> str:
        if "container" not in self.cache:
            self.given += 1
            self.cache["container"] = SimpleNamespace(token=self.server.token(uses=self.uses))
        return f"{href}?{self.cache['container'].token}"


@pytest.fixture
def signer(server: CogServer, monkeypatch: pytest.MonkeyPatch) -> Signer:
    stand_in = Signer(server)
    package, sas = ModuleType("planetary_computer"), ModuleType("planetary_computer.sas")
    package.sign, package.sas = stand_in.sign, sas  # type: ignore[attr-defined]
    sas.TOKEN_CACHE = stand_in.cache  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "planetary_computer", package)
    monkeypatch.setitem(sys.modules, "planetary_computer.sas", sas)
    return stand_in


def read_all(address: str) -> np.ndarray:
    with rasterio.open(address, sharing=False) as file:
        return file.read(1)


@pytest.mark.parametrize("how", FAULTS)
@pytest.mark.parametrize(("name", "after"), PLACES)
def test_passing_faults_lose_nothing(
    server: CogServer, raw: np.ndarray, name: str, how: str, after: int
) -> None:
    server.fail(name, how=how, times=2, after=after)
    access = Access("plain", environment=IMPATIENT if how == "slow" else QUICK)
    assert np.array_equal(access.attempt(read_all, f"{server.url}/{name}"), raw)
    assert server.faults == 2


@pytest.mark.parametrize("how", FAULTS)
@pytest.mark.parametrize(("name", "after"), PLACES)
def test_lasting_faults_are_said_without_the_token(
    server: CogServer, raw: np.ndarray, pauses: list[float], name: str, how: str, after: int
) -> None:
    server.fail(name, how=how, after=after)
    few = Access("plain", environment=IMPATIENT if how == "slow" else QUICK, attempts=3)
    href = f"{server.url}/{name}?sig=SECRET"
    with pytest.raises(CatalogError, match=f"/{name} of plain could not be read after 3 attempts") as failed:
        few.attempt(read_all, href)
    assert "SECRET" not in str(failed.value)
    assert failed.value.__context__ is None  # rasterio's error holds the address
    assert len(pauses) == 2
    server.heal()
    once = Access("plain", environment=QUICK, attempts=1)
    assert np.array_equal(once.attempt(read_all, href), raw), "GDAL's memory of the failure is passed by"


def test_pauses_grow_and_are_longer_for_a_throttling_server(server: CogServer, pauses: list[float]) -> None:
    for how in ("500", "429"):
        server.heal()
        server.fail("a.tif", how=how, method="HEAD")
        with pytest.raises(CatalogError, match=f"HTTP {how}"):
            PLAIN.attempt(read_all, f"{server.url}/a.tif")
    plain, throttled = np.array(pauses[:4]), np.array(pauses[4:])
    bounds = 0.5 * 2.0 ** np.arange(4)
    assert (plain >= bounds / 2).all()
    assert (plain <= bounds).all()
    assert (throttled >= 2 * bounds).all()
    assert (throttled <= 4 * bounds).all()


def test_a_naive_retry_would_fail(server: CogServer) -> None:
    server.fail("a.tif", how="503", times=1)
    with rasterio.Env(**dict(QUICK)):
        for _ in range(2):
            with pytest.raises(rasterio.errors.RasterioIOError, match="503"):
                read_all(f"{server.url}/a.tif")
    assert len(server.requested("a.tif")) == 1


def test_a_file_that_is_not_there_is_asked_for_once(
    server: CogServer, raw: np.ndarray, pauses: list[float]
) -> None:
    server.fail("a.tif", how="404")
    with pytest.raises(CatalogError, match=r"after 1 attempt \(HTTP 404\); search the archive again"):
        PLAIN.attempt(read_all, f"{server.url}/a.tif")
    assert len(server.requested("a.tif")) == 1
    assert pauses == []
    server.heal()
    assert np.array_equal(PLAIN.attempt(read_all, f"{server.url}/a.tif"), raw)


def test_refused_credentials_are_not_tried_again(server: CogServer, pauses: list[float]) -> None:
    server.fail("a.tif", how="403-expired")
    with pytest.raises(CatalogError, match=r"HTTP 403.*credentials as environment variables"):
        PLAIN.attempt(read_all, f"{server.url}/a.tif")
    assert len(server.requested("a.tif")) == 1
    assert pauses == []


@pytest.mark.parametrize("uses", [0, 1, 2])
def test_a_token_that_runs_out_is_renewed(
    server: CogServer, signer: Signer, raw: np.ndarray, uses: int
) -> None:
    signer.uses = uses
    first = signer.sign("")  # held by another task until it is of no more use
    signer.uses = float("inf")
    assert np.array_equal(SIGNED.attempt(read_all, f"{server.url}/a.tif"), raw)
    assert signer.given == 2
    assert first not in signer.sign("")


def test_an_address_signed_before_is_signed_anew(server: CogServer, signer: Signer, raw: np.ndarray) -> None:
    stale = signer.sign(f"{server.url}/a.tif")
    server.expire()
    signer.cache.clear()
    assert np.array_equal(SIGNED.attempt(read_all, stale), raw)
    assert server.requested("a.tif", status=403) == []


def test_a_token_that_is_always_refused_is_given_up(
    server: CogServer, signer: Signer, pauses: list[float]
) -> None:
    server.fail("a.tif", how="403-expired")
    with pytest.raises(
        CatalogError, match=r"HTTP 403\); check this machine's clock and the account"
    ) as failed:
        SIGNED.attempt(read_all, f"{server.url}/a.tif")
    assert "SECRET" not in str(failed.value)
    assert (signer.given, pauses) == (3, [])


def test_threads_with_one_refused_token_ask_for_one_new_token(
    server: CogServer, signer: Signer, raw: np.ndarray
) -> None:
    server.token()
    refused = SIGNED.address(f"{server.url}/a.tif")
    server.expire()
    with ThreadPoolExecutor(8) as pool:
        renewed = set(pool.map(lambda _: SIGNED._renewed(f"{server.url}/a.tif", refused), range(8)))
    assert signer.given == 2
    assert len(renewed) == 1


def test_the_real_signing_package_forgets_a_refused_token() -> None:
    sas = pytest.importorskip("planetary_computer.sas")
    token = sas.SASToken(**{"token": "se=2099&sig=SECRET", "msft:expiry": "2099-01-01T00:00:00Z"})
    endpoint = sas.Settings.get().sas_url
    kept, dropped = f"{endpoint}/other/container", f"{endpoint}/account/container"
    sas.TOKEN_CACHE[dropped] = token
    sas.TOKEN_CACHE[kept] = token.model_copy(update={"token": "se=2099&sig=OTHER"})
    try:
        address = SIGNED.address("https://account.blob.core.windows.net/container/B02.tif")
        assert address.endswith("B02.tif?se=2099&sig=SECRET")
        access_module._drop_token(address)
        assert dropped not in sas.TOKEN_CACHE
        assert kept in sas.TOKEN_CACHE
    finally:
        sas.TOKEN_CACHE.clear()


def test_a_missing_signing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "planetary_computer", None)
    with pytest.raises(CatalogError, match=r'pip install "xglof\[planetary-computer\]"'):
        SIGNED.attempt(read_all, "https://account.blob.core.windows.net/container/B02.tif")


def test_a_signing_service_that_fails_is_said(signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    def refuse(href: str) -> str:
        raise requests.ConnectionError("SECRET")

    monkeypatch.setattr(sys.modules["planetary_computer"], "sign", refuse)
    with pytest.raises(CatalogError, match=r"gave no token for http://h/a.tif \(ConnectionError\)") as failed:
        SIGNED.attempt(read_all, "http://h/a.tif")
    assert "SECRET" not in str(failed.value)


def test_the_token_gets_nowhere(
    server: CogServer, signer: Signer, raw: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.fail("a.tif", how="429", times=3, after=1)
    server.fail("a.tif", how="cut", times=2, after=4)
    lazy = dask.delayed(SIGNED.attempt)(read_all, f"{server.url}/a.tif")
    assert np.array_equal(lazy.compute(scheduler="sync"), raw)
    server.fail("a.tif", how="503")
    with pytest.raises(CatalogError):
        SIGNED.attempt(read_all, f"{server.url}/a.tif")
    assert any("SECRET" in request.query for request in server.requests)
    assert any("a.tif" in record.getMessage() for record in caplog.records)
    assert "SECRET" not in caplog.text
    assert "SECRET" not in repr(SIGNED)
    assert b"SECRET" not in pickle.dumps(SIGNED)
    assert b"SECRET" not in cloudpickle.dumps(dict(lazy.dask))


def test_equal_values_have_one_token_wherever_they_are() -> None:
    again = pickle.loads(pickle.dumps(SIGNED))  # noqa: S301 - our own bytes
    assert again == SIGNED
    assert tokenize(again) == tokenize(SIGNED)
    assert tokenize(SIGNED) != tokenize(PLAIN)


def test_credentials_come_from_the_process_that_reads(
    server: CogServer, raw: np.ndarray, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "SECRET-ID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET-KEY")
    monkeypatch.setattr(server, "root", server.root.parent)
    place = (("AWS_S3_ENDPOINT", server.url.removeprefix("http://")), ("AWS_HTTPS", "NO"))
    bucket = Access("cdse", environment=(*QUICK, *place, ("AWS_VIRTUAL_HOSTING", "FALSE")))
    folder = next(path.name for path in server.root.iterdir() if (path / "j.jp2").is_file())
    server.fail("*", how="503", times=2)
    assert np.array_equal(bucket.attempt(read_all, f"s3://{folder}/j.jp2"), raw)
    assert "SECRET" not in caplog.text + repr(bucket)


def test_lacking_credentials_are_said_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pauses: list[float]
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    nowhere = Access("cdse", environment=(("AWS_S3_ENDPOINT", "127.0.0.1:9"), ("AWS_HTTPS", "NO")))
    with pytest.raises(CatalogError, match=r"after 1 attempt .*credentials as environment variables"):
        nowhere.attempt(read_all, "s3://eodata/B02.jp2")
    assert pauses == []


def test_never_more_reads_at_once_than_allowed(server: CogServer, raw: np.ndarray) -> None:
    pair, lock, inside = threading.Barrier(2, timeout=60), threading.Lock(), [0, 0]

    def read(address: str) -> np.ndarray:
        with lock:
            inside[0] += 1
            inside[1] = max(inside)
        pair.wait()  # two must be in here together, or this times out
        values = read_all(address)
        pair.wait()
        with lock:
            inside[0] -= 1
        return values

    def task(number: int) -> np.ndarray:
        limited = Access("limited", concurrency=2, environment=QUICK)
        return limited.attempt(read, f"{server.url}/a.tif?{number}")

    with ThreadPoolExecutor(6) as pool:
        assert all(np.array_equal(values, raw) for values in pool.map(task, range(6)))
    assert inside == [0, 2]
    assert server.busiest <= 2


def test_reads_are_not_limited_unless_asked(server: CogServer) -> None:
    together = threading.Barrier(6, timeout=60)
    with ThreadPoolExecutor(6) as pool:
        reads = [pool.submit(PLAIN.attempt, lambda _: together.wait(), server.url) for _ in range(6)]
        assert sorted(read.result() for read in reads) == list(range(6))


def test_a_pause_holds_no_slot(server: CogServer, raw: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = Access("alone", concurrency=1, environment=QUICK)
    seen = []

    def sleep(_: float) -> None:
        server.heal()
        with ThreadPoolExecutor(1) as pool:
            seen.append(pool.submit(alone.attempt, read_all, f"{server.url}/a.tif").result(timeout=60))

    monkeypatch.setattr(access_module, "sleep", sleep)
    server.fail("a.tif", how="503")
    assert np.array_equal(alone.attempt(read_all, f"{server.url}/a.tif"), raw)
    assert np.array_equal(seen[0], raw)


def test_a_fork_inherits_no_slot_that_its_parent_holds() -> None:
    alone = Access("forked", concurrency=1)

    def fork(_: str) -> int | None:
        child = multiprocessing.get_context("fork").Process(
            target=alone.attempt, args=(len, "http://127.0.0.1/a.tif")
        )
        child.start()
        child.join(timeout=60)
        child.kill()
        return child.exitcode

    assert alone.attempt(fork, "http://127.0.0.1/a.tif") == 0


def test_a_healthy_file_is_read_once(server: CogServer, folder: Path, raw: np.ndarray) -> None:
    """Cells that cut through blocks, each with its own open, as reading tasks do."""
    cell = 200

    def read(row: int, column: int) -> np.ndarray:
        def window(address: str) -> np.ndarray:
            with rasterio.open(address, sharing=False) as file:
                return file.read(1, window=Window(column, row, cell, cell))

        return PLAIN.attempt(window, f"{server.url}/a.tif")

    for row in range(0, SIZE, cell):
        for column in range(0, SIZE, cell):
            assert np.array_equal(read(row, column), raw[row : row + cell, column : column + cell])
    touches = server.block_touches("a.tif")
    assert touches.keys() == blocks_of(folder / "a.tif").keys()
    full = np.array([times for (level, _, _), times in touches.items() if level == 0])
    assert full.size == 25
    assert full.min() == 1
    assert full.max() <= 1.3
    requests = server.requested("a.tif")
    assert sum(request.method == "HEAD" for request in requests) == 1
    assert sum(request.span is not None and request.span[0] == 0 for request in requests) == 1


def test_files_on_disk_are_tried_once(
    folder: Path, raw: np.ndarray, tmp_path: Path, pauses: list[float]
) -> None:
    limited = Access("folder", concurrency=1, signing="planetary-computer")
    assert np.array_equal(limited.attempt(read_all, str(folder / "a.tif")), raw)
    for name in ("a.tif", "j.jp2"):
        short = tmp_path / name
        content = (folder / name).read_bytes()
        short.write_bytes(content[: len(content) // 2])
        with pytest.raises(
            CatalogError, match=r"after 1 attempt \(.*\); check that the file is there and whole"
        ):
            limited.attempt(read_all, str(short))
    assert pauses == []


def test_other_errors_pass_unchanged(server: CogServer, pauses: list[float]) -> None:
    def read(address: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        PLAIN.attempt(read, f"{server.url}/a.tif")
    assert pauses == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"environment": (("AWS_SECRET_ACCESS_KEY", "x"),)}, "AWS_SECRET_ACCESS_KEY among the options of a"),
        ({"environment": (("GDAL_HTTP_HEADERS", "x"),)}, "GDAL_HTTP_HEADERS among the options"),
        ({"concurrency": 0}, "concurrency=0; expected both to be 1 or more"),
        ({"attempts": 0}, "attempts=0"),
        ({"signing": "someone"}, "expected 'planetary-computer' or None"),
    ],
)
def test_wrong_values_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(CatalogError, match=said) as failed:
        Access("a", **wrong)
    assert "'x'" not in str(failed.value)


def test_options_of_the_archive_win_over_the_process_and_both_over_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from rasterio.env import getenv

    monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "11")
    monkeypatch.setenv("GDAL_NUM_THREADS", "ALL_CPUS")
    with Access("a", environment=(("GDAL_HTTP_MAX_RETRY", "9"),)).environment_of_reading():
        options = getenv()
    assert "GDAL_HTTP_TIMEOUT" not in options  # GDAL takes it from the process
    assert options["GDAL_HTTP_MAX_RETRY"] in (9, "9")
    assert options["GDAL_DISABLE_READDIR_ON_OPEN"] == "EMPTY_DIR"
    assert options["GDAL_NUM_THREADS"] in (1, "1")


def test_addresses_and_texts_lose_what_may_be_secret() -> None:
    assert without_query("https://me:pw@h/a.tif?sig=S%2B,s and 'b.tif?sig=T', band 1") == (
        "https://h/a.tif and 'b.tif', band 1"
    )
    assert [is_remote(href) for href in ("https://h/a", "s3://b/a", "/vsis3/b/a", "/data/a", "a.tif")] == [
        True, True, True, False, False,
    ]  # fmt: skip
