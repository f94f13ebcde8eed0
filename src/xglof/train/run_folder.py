"""The folder of a training: settings, curve, checkpoints, snapshots and the models that come out."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import torch

from xglof.errors import TrainError, XglofError

if TYPE_CHECKING:
    from lightning.fabric import Fabric

_CHECKPOINT = re.compile(r"step-(\d{8})\.ckpt")
_SNAPSHOT = re.compile(r"step-(\d{8})\.safetensors")
_PART = ".part"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where the files of a training lie.

    Attributes
    ----------
    path
        ``config.toml``, ``metrics.csv``, ``checkpoints/``, ``snapshots/``, ``tensorboard/``, at the end
        ``trained.json``, and the model folders ``best/`` and ``average/``.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The settings of the run, all defaults filled in: what marks the folder as a run's."""
        return self.path / "config.toml"

    @property
    def metrics(self) -> Path:
        """The curve, a row a step."""
        return self.path / "metrics.csv"

    @property
    def best(self) -> Path:
        """Model folder of the weights that scored best in validation."""
        return self.path / "best"

    @property
    def average(self) -> Path:
        """Model folder of the averaged weights."""
        return self.path / "average"

    def check(self, *, resume: bool) -> None:
        """Refuse a folder that can't be a run's.

        Raises
        ------
        TrainError
            It holds a run and ``resume`` is false, or holds something else.
        """
        if self.config.exists():
            if not resume:
                raise TrainError(
                    f"{self.path} holds a training already; resume it, choose another folder, or remove it"
                )
        elif self.path.exists() and not self._empty():
            raise TrainError(f"{self.path} is taken and is no folder of a training; choose another")

    def _empty(self) -> bool:
        """Nothing is in it but what a kill left of its first file."""
        return self.path.is_dir() and all(
            file.name == self.config.name + _PART for file in self.path.iterdir()
        )

    def begin(self, config_toml: str) -> None:
        """Make the folder and write the settings, where there is no checkpoint to go on from.

        What an attempt left that came to no checkpoint goes: it may be of other settings.

        Raises
        ------
        TrainError
            It could not be written.
        """
        if self.checkpoints():
            return
        self.write_text("config.toml", config_toml)
        with saying_what_stays("the folder of the run", self):
            for name in ("best", "average", "checkpoints", "snapshots", "tensorboard"):
                if (self.path / name).exists():
                    shutil.rmtree(self.path / name)
            self.metrics.unlink(missing_ok=True)

    def tidy(self, after: int) -> None:
        """Remove what a kill left half written, and snapshots of steps that come again.

        Parameters
        ----------
        after
            Step of the checkpoint that the run goes on from.
        """
        with saying_what_stays("the folder of the run", self):
            for folder in (self.path, self.path / "checkpoints", self.path / "snapshots"):
                for part in folder.glob("*" + _PART):
                    part.unlink()
            self.keep_snapshots([step for step, _ in self._snapshots() if step <= after])

    def write_text(self, name: str, text: str) -> None:
        """Write a small file whole or not at all."""
        with _written(self.path / name, "a file of the run", self) as file:
            file.write(text.encode())

    def checkpoints(self) -> list[tuple[int, Path]]:
        """Steps and files of the checkpoints, oldest first."""
        return _numbered(self.path / "checkpoints", _CHECKPOINT)

    def save_checkpoint(self, step: int, state: Mapping[str, Any], *, keep: int) -> None:
        """Write a checkpoint whole or not at all; older ones than the last ``keep`` go when it is written.

        Raises
        ------
        TrainError
            It could not be written, as on a full disk; the one before it stays.
        """
        path = self.path / "checkpoints" / f"step-{step:08d}.ckpt"
        with _written(path, f"the checkpoint of step {step}", self) as file:
            torch.save(dict(state), file)
        for _, old in self.checkpoints()[:-keep]:
            old.unlink()

    def last_checkpoint(self) -> dict[str, Any] | None:
        """The newest checkpoint, on the CPU; ``None`` where there is none.

        Raises
        ------
        TrainError
            There is one, and it can't be read.
        """
        found = self.checkpoints()
        if not found:
            return None
        path = found[-1][1]
        try:  # weights_only: a checkpoint can do nothing but hold numbers
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises what it met inside the archive
            raise TrainError(
                f"checkpoint {path} can't be read ({error}); remove it, and training goes on from the one "
                "before it"
            ) from error
        return state

    def save_snapshot(self, step: int, weights: Mapping[str, torch.Tensor]) -> None:
        """Write weights for the soup.

        Raises
        ------
        TrainError
            They could not be written.
        """
        from safetensors.torch import save

        with _written(self.snapshot(step), f"the snapshot of step {step}", self) as file:
            file.write(save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}))

    def snapshot(self, step: int) -> Path:
        """File of the snapshot of a step."""
        return self.path / "snapshots" / f"step-{step:08d}.safetensors"

    def keep_snapshots(self, steps: Sequence[int]) -> None:
        """Remove all snapshots but these."""
        for step, path in self._snapshots():
            if step not in steps:
                path.unlink()

    def _snapshots(self) -> list[tuple[int, Path]]:
        return _numbered(self.path / "snapshots", _SNAPSHOT)


def by_the_first(fabric: Fabric, write: Callable[[], object]) -> None:
    """Let the first process write; the others wait, and fail where it does.

    Parameters
    ----------
    fabric
        Launched; all its processes must come here.
    write
        What the first one does.

    Raises
    ------
    TrainError
        The first process could not write.
    """
    failed: XglofError | None = None
    if fabric.is_global_zero:
        try:
            write()
        except XglofError as error:
            failed = error
    said = fabric.broadcast(str(failed) if failed is not None else "")
    if failed is not None:
        raise failed
    if said:
        raise TrainError(said)


@contextmanager
def saying_what_stays(what: str, folder: RunFolder) -> Iterator[None]:
    """Turn a failed write into an error that says which checkpoint is good.

    Raises
    ------
    TrainError
        The block raised an ``OSError``, or what torch makes of one.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        first = error.__cause__ if isinstance(error.__cause__, OSError) else error
        full = isinstance(first, OSError) and first.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else str(error).partition("\n")[0]
        good = folder.checkpoints()
        stays = f"the checkpoint of step {good[-1][0]} is good" if good else "there is no checkpoint yet"
        raise TrainError(
            f"{what} could not be written to {folder.path}: {reason}; {stays}: make room and run the same "
            "training again, and it goes on from there"
        ) from error


@contextmanager
def _written(path: Path, what: str, folder: RunFolder) -> Iterator[BinaryIO]:
    """A file that takes its place when it is whole and on the disk."""
    part = path.with_name(path.name + _PART)
    with saying_what_stays(what, folder):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise


def _numbered(folder: Path, pattern: re.Pattern[str]) -> list[tuple[int, Path]]:
    matches = ((pattern.fullmatch(path.name), path) for path in folder.glob("*"))
    return sorted((int(match[1]), path) for match, path in matches if match)
