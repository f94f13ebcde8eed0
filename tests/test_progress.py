from __future__ import annotations

import io

import dask.array as da
import pytest
from dask.base import compute
from rich.console import Console

from xglof.progress import TaskProgress, open_console


def test_total_and_done_agree() -> None:
    console = Console(file=io.StringIO(), width=80)
    numbers = da.arange(100, chunks=10)
    with TaskProgress("adding", console) as progress:
        compute(numbers.sum(), optimize_graph=False)
        first = progress.total
        assert progress.done == first >= 10
        compute(numbers + 1, numbers * 2)  # a second computation under the same bar
    assert progress.done == progress.total > first
    (da.arange(100, chunks=10) + 1).compute()
    assert progress.done == progress.total  # the bar is closed
    assert f"{progress.done}/{progress.total}" in console.file.getvalue()  # type: ignore[attr-defined]


def fail(block: object) -> object:
    raise ValueError("broken block")


def test_a_failure_closes_the_bar() -> None:
    console = Console(file=io.StringIO(), width=80)
    progress = TaskProgress("failing", console)
    broken = da.arange(10, chunks=5).map_blocks(fail, dtype=int, meta=da.arange(1)._meta)
    with pytest.raises(ValueError, match="broken block"), progress:
        broken.compute()
    assert 0 < progress.total > progress.done
    assert "failing" in console.file.getvalue()  # type: ignore[attr-defined]


def test_text_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    open_console().print("/data/[red]/2023:smile: [x]")
    assert capsys.readouterr().out == "/data/[red]/2023:smile: [x]\n"
