"""The curve of a training: a table, and TensorBoard's events."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from typing import Any

from xglof.train.run_folder import RunFolder, saying_what_stays


class Curve:
    """The table of a run, a row a step, which holds nothing that depends on time or machine.

    Parameters
    ----------
    folder
        Of the run.
    columns
        After ``step``.
    after
        Step of the checkpoint that the run goes on from: rows of later steps are dropped, for they come
        again.
    """

    def __init__(self, folder: RunFolder, columns: Sequence[str], *, after: int) -> None:
        self._folder = folder
        self._columns = ("step", *columns)
        text = folder.metrics.read_text(encoding="utf-8") if folder.metrics.exists() else ""
        kept = [line for line in text.splitlines(keepends=True)[1:] if self._whole(line, after)]
        folder.write_text("metrics.csv", ",".join(self._columns) + "\n" + "".join(kept))

    def _whole(self, line: str, after: int) -> bool:
        """Whether a row stays: one that a full disk tore does not."""
        cells = line.split(",")
        whole = line.endswith("\n") and len(cells) == len(self._columns) and cells[0].isdigit()
        return whole and int(cells[0]) <= after

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Write the row of a step; columns without a value are empty.

        Raises
        ------
        TrainError
            It could not be written.
        """
        row = {"step": step} | {name: repr(float(value)) for name, value in values.items()}
        with (
            saying_what_stays("the curve", self._folder),
            self._folder.metrics.open("a", newline="", encoding="utf-8") as file,
        ):
            csv.DictWriter(file, self._columns, restval="", lineterminator="\n").writerow(row)


class Board:
    """What TensorBoard shows of a run, where it is installed; nothing else.

    Parameters
    ----------
    folder
        Of the run.
    after
        As for :class:`Curve`.
    """

    def __init__(self, folder: RunFolder, *, after: int) -> None:
        from lightning.fabric.loggers.tensorboard import TensorBoardLogger

        self._folder = folder
        self._logger: Any = None
        try:  # purge_step: what a killed run showed of later steps goes
            self._logger = TensorBoardLogger(
                folder.path, name="tensorboard", version="", default_hp_metric=False, purge_step=after + 1
            )
        except ModuleNotFoundError:
            return

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Show the values of a step.

        Raises
        ------
        TrainError
            They could not be written.
        """
        if self._logger is not None:
            named = {name.replace("_", "/", 1): value for name, value in values.items()}
            with saying_what_stays("the curve for TensorBoard", self._folder):
                self._logger.log_metrics(named, step)

    def close(self) -> None:
        """Write what is left."""
        if self._logger is not None:
            self._logger.finalize("done")
