"""Checkpoints into model folders: from a file at hand, or once from the Hugging Face Hub."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xglof.errors import ModelError
from xglof.models.checkpoint import Which, fit_checkpoint, read_checkpoint
from xglof.models.folder import read_model, read_source, write_model
from xglof.models.hub import HubFile, fetched_folder, resolve_commit
from xglof.models.registry import HUB_SOURCES, get_spec
from xglof.models.spec import ModelSpec
from xglof.models.weights import file_digest

_WHERE = {"sha256": "as you gave it", "record": "as fetched before", "hub": "as the Hub has it on record"}


@dataclass(frozen=True, slots=True)
class Converted:
    """A model folder and what it was made of.

    Attributes
    ----------
    spec
        The model, with its weights.
    folder
        Where it is.
    source
        As :func:`~xglof.models.folder.read_source` returns it: file, SHA-256, ``which`` weights were taken,
        what was left out; of a fetched model repository and commit, too.
    new
        Whether it was made now; a fetched model is made once.
    """

    spec: ModelSpec
    folder: Path
    source: dict[str, Any]
    new: bool = True


def convert_checkpoint(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | ModelSpec,
    which: Which = "auto",
    trust: bool = False,
) -> Converted:
    """A model folder made of a checkpoint, which :func:`xglof.segment` takes as its ``model``.

    Parameters
    ----------
    path
        A Lightning or PyTorch checkpoint, or a safetensors file. Names in it may begin with ``model.``,
        ``model._orig_mod.`` (``torch.compile``), ``module.`` and their like.
    out
        The folder to write.
    model
        The model whose weights these are: a name of ``xglof models``, a model folder or a spec.
    which
        ``"model"`` for the weights as trained last, ``"ema"`` for their moving average, which may be kept in
        a callback; ``"auto"`` for what the training's own loader would load.
    trust
        Run code that the file may hold. Without it no code is run; objects beside the weights are not read.

    Raises
    ------
    ModelError
        The file is damaged, needs to run code to be read, or does not hold every tensor of the model and no
        other.
    OutputError
        Nothing can be written there.
    """
    spec = model if isinstance(model, ModelSpec) else get_spec(model)
    return _convert(Path(path), Path(out), spec, which, trust, {})


def _convert(
    file: Path, out: Path, spec: ModelSpec, which: Which, trust: bool, origin: dict[str, Any]
) -> Converted:
    checkpoint = read_checkpoint(file, trust=trust)
    found = fit_checkpoint(spec, checkpoint, which)
    chosen = checkpoint.choose(which)
    source: dict[str, Any] = origin | {
        "name": file.name,
        "sha256": file_digest(file),
        "kind": checkpoint.kind,
        "which": chosen,
        "also_holds": [name for name in ("model", "ema") if name != chosen and getattr(checkpoint, name)],
        "completed": list(found.completed),
        "left_out": list(found.left_out),
        "stand_ins": list(checkpoint.stand_ins),
        "trusted": trust,
    }
    folder = write_model(spec, found.state, out, source=source)
    return Converted(read_model(folder, factories=[spec.factory]), folder, source)


def fetch_model(
    name: str,
    *,
    revision: str | None = None,
    sha256: str | None = None,
    which: Which = "auto",
    trust: bool = False,
) -> Converted:
    """A model of ``xglof models`` whose weights are on the Hub, downloaded and converted once.

    The first time, ``revision`` is resolved to a commit; commit and digests are kept beside the weights, in
    :func:`~xglof.models.hub.fetched_folder`. From then on the same commit and the same numbers are used,
    checked at every load, until another ``revision`` is asked for.

    Parameters
    ----------
    name
        A model with a source on the Hub.
    revision
        Commit, tag or branch; the commit on record by default, or ``main`` the first time.
    sha256
        What the downloaded file must have, where you know it from its author.
    which, trust
        As for :func:`convert_checkpoint`.

    Raises
    ------
    ModelError
        There is no source, the Hub can't be reached, or the file is not the one on record there, here or in
        ``sha256``; and as :func:`convert_checkpoint`.
    """
    if name not in HUB_SOURCES:
        known = ", ".join(HUB_SOURCES)
        raise ModelError(f"model {name!r} has no weights on the Hub; there is {known}")
    folder = fetched_folder(name)
    record = _record(folder)
    commit = resolve_commit(HUB_SOURCES[name][0], revision) if revision else record.get("commit")
    if commit is None:
        commit = resolve_commit(HUB_SOURCES[name][0])
    same = record.get("commit") == commit
    asked = sha256 in (None, record.get("sha256")) and which in ("auto", record.get("which"))
    if same and asked and (done := _whole(name)) is not None:
        return Converted(done, folder, record, new=False)
    file = HubFile(*HUB_SOURCES[name], commit)
    downloaded = file.download()
    recorded = str(record["sha256"]) if same else None
    checked = _check_digest(file, file_digest(downloaded), sha256, recorded)
    origin = {"repo": file.repo, "file": file.file, "commit": commit, "checked_against": checked}
    converted = _convert(downloaded, folder, get_spec(name), which, trust, origin)
    return replace(converted, spec=get_spec(name))


def _record(folder: Path) -> dict[str, Any]:
    """What is known of an earlier fetch; nothing where there was none, or it is damaged."""
    try:
        return read_source(folder)
    except ModelError:
        return {}


def _whole(name: str) -> ModelSpec | None:
    """The fetched model, if its weights are there and the recorded ones."""
    spec = get_spec(name)
    try:
        if spec.weights is not None:
            spec.weights.check()
    except ModelError:
        return None
    return spec


def _check_digest(file: HubFile, found: str, given: str | None, recorded: str | None) -> list[str]:
    """Which digests that are known of a downloaded file agree with its own; raises where one does not."""
    try:
        on_hub = file.recorded_sha256()
    except ModelError:  # offline with the file in the cache
        on_hub = None
    known = {"sha256": given, "record": recorded, "hub": on_hub}
    for where, expected in known.items():
        if expected is not None and expected.lower() != found:
            raise ModelError(
                f"{file.uri} has SHA-256 {found}, expected {expected} ({_WHERE[where]}); check the expected "
                f"one, else remove {os.path.realpath(file.path)} and fetch again, and ask its author if that "
                "does not help"
            )
    return [where for where, expected in known.items() if expected is not None]
