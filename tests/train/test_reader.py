from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from chip_cubes import in_file
from xglof.engine.lattice import reflect
from xglof.train import stored
from xglof.train.reader import BlockCache, Key, RasterReader, Want, Window, runs_of
from xglof.train.stored import stored_edges


@given(st.integers(1, 30), st.integers(1, 40), st.data())
def test_runs_are_the_reflection_in_pieces(size: int, full: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(1 - size, full - 1))
    shown = np.full(size, -1)
    for run in runs_of(start, size, full):
        pixels = np.arange(run.begin, run.end)[:: -1 if run.reflected else 1]
        shown[run.target : run.target + len(pixels)] = pixels
    np.testing.assert_array_equal(shown, reflect(np.arange(start, start + size), full))


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 59), st.integers(1, 60), st.booleans())
def test_blocks_of_a_part_are_those_of_the_file(
    size: int, chunk: int, begin: int, count: int, turned: bool
) -> None:
    begin = min(begin, size - 1)
    array = xr.DataArray(np.tile(np.arange(size), (2, 3, 1)), dims=("time", "y", "x"))
    part = in_file(array, (1, 3, chunk)).isel(x=slice(begin, begin + count))
    part = part.isel(x=slice(None, None, -1)) if turned else part
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "_LEAST_PX", 1)
        times, rows, edges = stored_edges(part.variable)
    assert (times, rows) == ((0, 1, 2), (0, 3))
    assert edges[0] == 0
    assert edges[-1] == part.sizes["x"]
    blocks = [set((part.values[0, 0, low:high] // chunk).tolist()) for low, high in pairwise(edges)]
    assert all(len(block) == 1 for block in blocks)  # each is one chunk of the file
    assert len(set.union(*blocks)) == len(blocks)  # and no chunk is in two


def test_small_chunks_are_read_together_and_unchunked_files_in_pieces() -> None:
    array = xr.DataArray(np.zeros((1, 700, 1200), "uint8"), dims=("time", "y", "x"))
    assert stored_edges(in_file(array, (1, 100, 2000)).variable)[1:] == ((0, 300, 600, 700), (0, 1200))
    plain = in_file(array, (1, 1, 1))
    plain.encoding.clear()
    assert stored_edges(plain.variable) == ((0, 1), (0, 512, 700), (0, 512, 1024, 1200))


def arrays_of(size: int, *names: str, seed: int = 0) -> dict[str, xr.DataArray]:
    rng = np.random.default_rng(seed)
    return {
        name: xr.DataArray(rng.integers(0, 99, (2, size, size)).astype("uint16"), dims=("time", "y", "x"))
        for name in names
    }


def cut(
    reader: RasterReader, cache: BlockCache, window: Window, size: int, names: set[str]
) -> dict[str, Any]:
    parts = reader.parts(window, size, names)
    into = {name: np.empty((size, size), "uint16") for name in names}
    reader.put(parts, into, cache.fetch(reader.wants(parts, names)))
    return into


def test_a_window_reads_the_blocks_that_it_touches_and_no_other() -> None:
    log: list[tuple[Any, ...]] = []
    arrays = arrays_of(900, "B02", "B03")
    files = {name: in_file(array, (1, 300, 300), name=name, log=log) for name, array in arrays.items()}
    reader, cache = RasterReader(0, files, {}), BlockCache(1 << 30)
    found = cut(reader, cache, Window(1, 280, 580), 64, {"B03"})
    np.testing.assert_array_equal(found["B03"], arrays["B03"].values[1, 280:344, 580:644])
    spans = {
        ((0, 300), (300, 600)),
        ((0, 300), (600, 900)),
        ((300, 600), (300, 600)),
        ((300, 600), (600, 900)),
    }
    assert {(entry[0], *entry[-2:]) for entry in log} == {("B03", *span) for span in spans}
    cut(reader, cache, Window(1, 310, 610), 64, {"B03"})
    assert len(log) == 4  # held


@pytest.mark.parametrize("how", ["memory", "file", "dask"])
def test_what_a_file_has_for_nodata_becomes_ours(how: str) -> None:
    (array,) = arrays_of(40, "B02").values()
    stored_as = {"memory": array, "file": in_file(array, (1, 20, 20)), "dask": array.chunk({"y": 13})}[how]
    reader = RasterReader(0, {"B02": stored_as}, {"B02": (7.0, 0.0)})
    found = cut(reader, BlockCache(1 << 20), Window(0, -5, 3), 32, {"B02"})["B02"]
    rows, cols = reflect(np.arange(-5, 27), 40), reflect(np.arange(3, 35), 40)
    expected = array.values[0][np.ix_(rows, cols)]
    np.testing.assert_array_equal(found, np.where(expected == 7, 0, expected))
    assert (array.values == 7).any()  # the user's own array is left as it was


def test_variables_of_a_dask_cube_share_their_work() -> None:
    base = arrays_of(40, "B02")["B02"].chunk({"time": 1, "y": 20})
    calls = []

    def counted(block: np.ndarray) -> np.ndarray:
        calls.append(block.shape)
        return block

    shared = base.copy(data=base.data.map_blocks(counted, dtype="uint16", meta=np.empty((0, 0, 0), "uint16")))
    reader = RasterReader(0, {"B02": shared, "B03": shared + np.uint16(1)}, {})
    found = cut(reader, BlockCache(1 << 20), Window(0, 0, 0), 16, {"B02", "B03"})
    np.testing.assert_array_equal(found["B03"], found["B02"] + 1)
    assert calls == [(1, 20, 40)]


def key(number: int, *, still: bool = False) -> Key:
    return 0, 0, (number, 0) if still else (number, 0, 0)


@pytest.mark.parametrize("together", [False, True])
def test_a_block_is_read_once_by_however_many_threads(together: bool) -> None:
    cache, reads = BlockCache(1 << 20), []
    gate = threading.Barrier(4)

    def ask(first: int) -> list[int]:
        def read(number: int, names: list[str]) -> dict[str, np.ndarray]:
            reads.extend((number, name) for name in names)
            return {name: np.full(4, number) for name in names}

        order = [(first + i) % 8 for i in range(8)]
        gate.wait()
        found = cache.fetch({key(i): Want(["B02", "B03"], partial(read, i), together) for i in order})
        return [int(found[key(i)]["B03"][0]) for i in range(8)]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(ask, range(4)))
    assert results == [list(range(8))] * 4
    assert sorted(reads) == [(number, name) for number in range(8) for name in ("B02", "B03")]


def test_threads_share_the_variables_of_a_block() -> None:
    cache, reading = BlockCache(1 << 20), threading.Barrier(2, timeout=20)

    def read(names: list[str]) -> dict[str, np.ndarray]:
        reading.wait()  # passes only where two threads read at the same time
        return {name: np.zeros(4) for name in names}

    with ThreadPoolExecutor(2) as pool:
        want = {key(0): Want(["B02", "B03", "B04", "B05"], read, together=False)}
        found = list(pool.map(cache.fetch, [want, want]))
    assert all(set(each[key(0)]) == {"B02", "B03", "B04", "B05"} for each in found)


def test_the_cache_keeps_to_its_bytes_and_to_what_was_used_last() -> None:
    cache, reads = BlockCache(1000), []

    def ask(number: int, *, still: bool = False, size: int = 300) -> None:
        def read(names: list[str]) -> dict[str, np.ndarray]:
            reads.append(number)
            return {name: np.zeros(size, "uint8") for name in names}

        cache.fetch({key(number, still=still): Want(["B02"], read, together=False)})
        assert cache.nbytes <= 1000

    ask(9, still=True, size=100)
    for number in (0, 1, 2, 0, 3, 0):
        ask(number)
    assert reads == [9, 0, 1, 2, 3]
    ask(1)  # was used longest ago, and had to go
    ask(9, still=True)  # what has no time stays
    assert reads == [9, 0, 1, 2, 3, 1]
    for number in range(20, 30):
        ask(number, still=True)  # but does not take all
    ask(40)
    ask(41)
    ask(40)
    assert reads[-2:] == [40, 41]


def test_a_failed_read_is_told_to_all_who_wait_and_tried_again() -> None:
    cache, tries, waiting = BlockCache(1000), [], threading.Event()

    def fail(names: list[str]) -> dict[str, np.ndarray]:
        tries.append(names)
        waiting.wait(5)
        raise OSError("the disk is gone")

    want = Want(["B02", "B03"], fail, together=True)
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(cache.fetch, {key(0): want})]
        while not tries:
            pass
        futures.append(pool.submit(cache.fetch, {key(0): want}))
        waiting.set()
        for future in futures:
            with pytest.raises(OSError, match="the disk is gone"):
                future.result()
    again = Want(["B02"], lambda names: {name: np.zeros(3) for name in names}, together=True)
    assert cache.fetch({key(0): again})[key(0)]["B02"].shape == (3,)
