"""What a person sees of a training while it runs: a bar on a terminal, lines anywhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

#: How records begin in which Lightning says what is no news. It logs them under either name.
_SAID_ELSEWHERE = (
    "You are using a CUDA device",  # advises to give up float32 precision
    "-----",  # a banner about processes
    "Initializing distributed",
)
_LOGGERS = (
    "lightning.fabric.utilities.rank_zero",
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities.distributed",
)


class _Unsaid(logging.Filter):
    """Drops what is said elsewhere."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to keep a record."""
        return not record.getMessage().startswith(_SAID_ELSEWHERE)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Leave out what Lightning advertises; its warnings, and whatever else it says, are kept."""
    unsaid = _Unsaid()
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(unsaid)
    try:
        yield
    finally:
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(unsaid)


class Telling:
    """The steps of a training, told to a person.

    Parameters
    ----------
    console
        Where to; ``None`` for nowhere.
    steps
        Of the whole training.
    done
        Steps that an earlier run has taken.
    """

    def __init__(self, console: Console | None, steps: int, done: int) -> None:
        self._console, self._steps, self._first = console, steps, done
        self._begin, self._now = time.perf_counter(), done
        self._bar: Progress | None = None
        if console is not None and console.is_terminal:
            columns = (TextColumn("{task.description:<40}"), BarColumn(), MofNCompleteColumn())
            self._bar = Progress(*columns, TimeRemainingColumn(), console=console)
            self._task = self._bar.add_task("training", total=steps, completed=done)

    def __enter__(self) -> Telling:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *details: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def seconds_a_step(self) -> float:
        """Mean of this run, validation and all."""
        return (time.perf_counter() - self._begin) / max(self._now - self._first, 1)

    def step(self, done: int, loss: float) -> None:
        """One step more."""
        self._now = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=f"training, loss {loss:.4f}")

    def mark(self, done: int, values: Mapping[str, float]) -> None:
        """A line about a step that was validated."""
        numbers = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in values.items())
        pace = self.seconds_a_step
        left = (self._steps - done) * pace / 60
        self.say(f"step {done} of {self._steps}: {numbers}, {pace:.2f} s a step, {left:.0f} min left")

    def say(self, text: str) -> None:
        """A line."""
        if self._console is not None:
            (self._bar.console if self._bar is not None else self._console).print(text, soft_wrap=True)
