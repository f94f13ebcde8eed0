"""The terminal: text as it is, and a progress bar over the tasks of Dask's own schedulers."""

from __future__ import annotations

from typing import Any

from dask.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


def open_console(*, stderr: bool = False) -> Console:
    """A console that prints paths and names as they are: brackets are no markup, numbers are not coloured."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


class TaskProgress(Callback):
    """Shows the tasks done of all computations inside a ``with`` block.

    Parameters
    ----------
    label
        What is going on, in a few words.
    console
        Where to draw; on anything but a terminal one line is left at the end.
    """

    def __init__(self, label: str, console: Console) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        columns = (
            TextColumn("{task.description:<32}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._bar = Progress(*columns, console=console)
        self._task = self._bar.add_task(label, total=None)

    @property
    def done(self) -> int:
        """Tasks that have ended."""
        return int(self._bar.tasks[0].completed)

    @property
    def total(self) -> int:
        """Tasks of the computations begun so far."""
        return int(self._bar.tasks[0].total or 0)

    def __enter__(self) -> TaskProgress:
        self._bar.start()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *details: Any) -> None:
        super().__exit__(*details)  # type: ignore[no-untyped-call]
        self._bar.stop()

    def _start_state(self, graph: Any, state: dict[str, Any]) -> None:
        new = sum(len(state[name]) for name in ("ready", "waiting", "running"))
        self._bar.update(self._task, total=self.total + new)

    def _posttask(self, key: Any, result: Any, graph: Any, state: Any, worker: Any) -> None:
        self._bar.advance(self._task)
