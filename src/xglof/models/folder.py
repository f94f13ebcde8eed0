"""Model folders: a network's weights beside the complete spec that reads them.

``model.json`` holds the :class:`~xglof.models.spec.ModelSpec` and names the file of weights with its SHA-256.
A folder may come from a stranger, so reading one runs no code but the factories that ship with xglof.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from xglof._version import __version__
from xglof.errors import ModelError, OutputError
from xglof.models.checkpoint import fitted
from xglof.models.spec import ModelInput, ModelSpec
from xglof.models.weights import Weights, file_digest

if TYPE_CHECKING:
    from torch import Tensor, nn

#: What makes a folder a model folder.
MODEL_FILE = "model.json"
#: Its weights, as a rule; ``model.json`` has the last word.
WEIGHTS_FILE = "weights.safetensors"
#: The factories that ship with xglof: all that a folder may name without being allowed more.
FACTORIES = (
    "xglof.models.terramind:segmenter",
    "xglof.models.terramind:tiny_demo",
    "xglof.models.unet:build",
    "xglof.models.water_index:build",
)

_FORMAT, _VERSION = "xglof-model", 1
_ASIDE = ".writing-"
_OWN_NAME = re.compile(r"weights-[0-9a-f]{8}\.safetensors")


def write_model(
    spec: ModelSpec,
    network: nn.Module | Mapping[str, Tensor],
    folder: str | os.PathLike[str],
    *,
    extra: Mapping[str, object] | None = None,
    source: Mapping[str, object] | None = None,
) -> Path:
    """A model folder, which :func:`xglof.segment` takes as its ``model``.

    A folder that holds a model already gets the new one in its place. At every moment, also after a kill or
    on a full disk, ``model.json`` names a file of weights that is whole: the old one or the new one.

    Parameters
    ----------
    spec
        The model; its ``weights`` are left aside.
    network
        The network, or its tensors by name. What ``torch.compile``, data-parallel training and averages put
        before names (``_orig_mod.``, ``module.``) is taken off.
    folder
        Where to write; made where it is not there.
    extra
        More files to write beside, by name: a text as it is, anything else as JSON.
    source
        Where the weights come from, as JSON has it; kept in ``model.json`` (:func:`read_source`).

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    ModelError
        The tensors are not those of the spec's network, one is not finite, or a value of ``kwargs`` can't be
        written as JSON and read back equal.
    OutputError
        Nothing can be written there, or the disk is full.

    Examples
    --------
    >>> import tempfile
    >>> from xglof.models.registry import get_spec
    >>> spec = get_spec("terramind-tiny-demo")
    >>> folder = write_model(spec, spec.load(), tempfile.mkdtemp())
    >>> read_model(folder).inputs == spec.inputs
    True
    """
    place = Path(folder)
    state = fitted(spec, network if isinstance(network, Mapping) else network.state_dict())
    _check_finite(spec, state)
    _check_survives(spec)
    texts = {_file_name(name): _as_text(name, value) for name, value in (extra or {}).items()}
    if (place / WEIGHTS_FILE).exists() and not (place / MODEL_FILE).exists():
        raise OutputError(
            f"{place} holds {WEIGHTS_FILE} without a {MODEL_FILE}; choose another folder, or move that file"
        )
    with _writing(place):
        place.mkdir(parents=True, exist_ok=True)
        old = _weights_named(place)
        # what is there already stays whole until model.json names the new file
        name = f"weights-{os.urandom(4).hex()}.safetensors"
        digest = _put_weights(state, place / name)
        for extra_name, text in texts.items():
            _put_text(text, place / extra_name)
        document = _document_of(spec) | {"source": dict(source or {})}
        _put_document(document, name, digest, place)
        _take_usual_name(document, place, name, digest)
        _clean(place, old)
    return place


def read_model(path: str | os.PathLike[str], *, factories: Collection[str] = ()) -> ModelSpec:
    """The spec that a model folder holds, its weights among it; no network is made and no code run.

    Parameters
    ----------
    path
        The folder, or its ``model.json``.
    factories
        Factories beside those that ship with xglof (:data:`FACTORIES`) that it may name: in full
        (``"mine:build"``), or the beginning of several with a dot or colon at the end (``"mine."``). To name
        one is to run it when the network is made.

    Raises
    ------
    ModelError
        There is no model, it is damaged or of a newer xglof, its factory is not allowed, or it names weights
        outside the folder.
    """
    file = Path(path)
    if file.name != MODEL_FILE:
        file = file / MODEL_FILE
    document = _document(file)
    found = document["spec"]
    try:
        spec = _spec_of(found)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ModelError(f"{file} holds no sound model: {error}") from error
    _check_factory(file, spec.factory, factories)
    weights = document.get("weights")
    if weights is None:
        return spec
    try:
        name, sha256 = _file_name(str(weights["file"])), str(weights["sha256"])
    except (KeyError, TypeError) as error:
        raise ModelError(f"{file} names no weights with their SHA-256; write the model again") from error
    return spec.with_weights(Weights(str(file.parent.resolve() / name), sha256))


def read_source(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Where the weights of a model folder come from, as :func:`write_model` was told; empty if it was not.

    Raises
    ------
    ModelError
        There is no model, or it is damaged.
    """
    file = Path(path)
    found = _document(file if file.name == MODEL_FILE else file / MODEL_FILE).get("source")
    return found if isinstance(found, dict) else {}


def is_model_folder(path: str | os.PathLike[str]) -> bool:
    """Whether there is a ``model.json``."""
    return (Path(path) / MODEL_FILE).is_file()


def _document(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        inside = [name for name in ("average", "best") if (file.parent / name / MODEL_FILE).is_file()]
        hint = "give one that xglof train, xglof models convert or write_model made"
        if inside:
            hint = f"it is a run of xglof train, so give {' or '.join(str(file.parent / n) for n in inside)}"
        raise ModelError(f"{file.parent} holds no {MODEL_FILE}, so it is no model folder; {hint}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file} can't be read: {error}; write the model again") from error
    if not isinstance(document, dict) or document.get("format") != _FORMAT or "spec" not in document:
        raise ModelError(f"{file} is no model of xglof: it has no format {_FORMAT!r} and spec")
    if document.get("version") != _VERSION:
        raise ModelError(
            f"{file} has version {document.get('version')!r} of the format and this xglof reads {_VERSION}; "
            f"it was written by xglof {document.get('xglof')!r}"
        )
    return document


def _spec_of(found: dict[str, Any]) -> ModelSpec:
    inputs = tuple(ModelInput(**_known(ModelInput, source)) for source in found["inputs"])
    return ModelSpec(**_known(ModelSpec, found) | {"inputs": inputs})


def _known(kind: type, found: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)} - {"weights"}
    if unknown := sorted(set(found) - names):
        raise ModelError(f"unknown {', '.join(unknown)}; a {kind.__name__} has {', '.join(sorted(names))}")
    return {name: _tuples(value) if isinstance(value, list) else value for name, value in found.items()}


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _check_factory(file: Path, factory: str, allowed: Collection[str]) -> None:
    if factory in FACTORIES or factory in allowed:
        return
    if any(factory.startswith(name) for name in allowed if name.endswith((".", ":"))):
        return
    raise ModelError(
        f"{file} wants the factory {factory!r} run, which is none of xglof's models; if you trust its "
        f"author, pass the spec that xglof.read_model(path, factories=[{factory!r}]) gives"
    )


def _file_name(name: str) -> str:
    """A name that stays inside the folder it is met in.

    Links are followed: in the Hub's cache every file is one, and the digest tells whether it is the right.
    """
    plain = PurePath(name).name == name and "\\" not in name and ":" not in name
    if not plain or name.startswith(".") or not name:
        raise ModelError(f"{name!r} is no plain file name: a model folder names only files within itself")
    return name


def _check_finite(spec: ModelSpec, state: Mapping[str, Tensor]) -> None:
    wrong = [
        name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()
    ]
    if wrong:
        raise ModelError(
            f"weights of {spec.name!r} are not finite in {len(wrong)} tensors, such as {wrong[0]}; the "
            "training diverged, so take an earlier checkpoint"
        )


def _document_of(spec: ModelSpec) -> dict[str, Any]:
    value = asdict(replace(spec, weights=None))
    del value["weights"]
    value["kwargs"] = dict(spec.kwargs)
    return {"format": _FORMAT, "version": _VERSION, "xglof": __version__, "spec": value}


def _put_document(document: dict[str, Any], name: str, digest: str, place: Path) -> None:
    whole = document | {"weights": {"file": name, "sha256": digest}}
    _put_text(json.dumps(whole, indent=1, allow_nan=False) + "\n", place / MODEL_FILE)


def _check_survives(spec: ModelSpec) -> None:
    """Refuse what JSON would change: better now than when the training is over and read back."""
    bare = replace(spec, weights=None)
    try:
        back = _spec_of(json.loads(json.dumps(_document_of(spec), allow_nan=False))["spec"])
    except (TypeError, ValueError) as error:
        raise ModelError(f"model {spec.name!r} can't be written as JSON: {error}") from error
    if back != bare:
        odd = [
            field.name
            for field in fields(ModelSpec)
            if getattr(back, field.name) != getattr(bare, field.name)
        ]
        raise ModelError(
            f"{', '.join(odd)} of model {spec.name!r} would not come back from JSON as they are; use "
            "numbers, texts, booleans, None and tuples of them"
        )


def _as_text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, indent=1) + "\n"
    except (TypeError, ValueError) as error:
        raise ModelError(f"extra file {name!r} is neither a text nor what JSON can hold: {error}") from error


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            _remove_aside(place)
        reason = getattr(error, "strerror", None) or error
        raise OutputError(
            f"the model can't be written to {place}: {reason}; what was there before is kept, give another "
            "folder or free some space"
        ) from error


def _weights_named(place: Path) -> str | None:
    """The file of weights that a folder's ``model.json`` names, if it has one."""
    try:
        return str(json.loads((place / MODEL_FILE).read_text(encoding="utf-8"))["weights"]["file"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _put_weights(state: Mapping[str, Tensor], file: Path) -> str:
    """Write tensors aside, then under their name; their SHA-256."""
    from safetensors.torch import save_file

    aside = _aside(file.parent)
    aside.touch()
    mode = aside.stat().st_mode  # as the user's umask has it; safetensors keeps its files to the owner
    save_file({name: _on_its_own(value) for name, value in state.items()}, aside)
    aside.chmod(mode)
    digest = file_digest(aside)
    _settle(aside, file)
    return digest


def _on_its_own(value: Tensor) -> Tensor:
    """A tensor that shares no memory with another: safetensors refuses those."""
    value = value.detach().cpu()
    whole = value.is_contiguous() and value.untyped_storage().nbytes() == value.nbytes
    return value if whole else value.clone().contiguous()


def _put_text(text: str, file: Path) -> None:
    aside = _aside(file.parent)
    aside.write_text(text, encoding="utf-8")
    _settle(aside, file)


def _aside(place: Path) -> Path:
    return place / f"{_ASIDE}{os.urandom(4).hex()}"


def _settle(aside: Path, file: Path) -> None:
    """On the disk first, then under its name: a name never stands for half a file."""
    with aside.open("rb") as written:
        os.fsync(written.fileno())
    aside.replace(file)


def _take_usual_name(document: dict[str, Any], place: Path, name: str, digest: str) -> None:
    """Give new weights the usual name, by a second one first: ``model.json`` is right at every moment."""
    link = _aside(place)
    try:
        os.link(place / name, link)
    except OSError:  # no such links on this disk: the unusual name stays
        return
    link.replace(place / WEIGHTS_FILE)
    _put_document(document, WEIGHTS_FILE, digest, place)


def _clean(place: Path, old: str | None) -> None:
    """Remove the weights that were named before, and what a killed writer left, but no file of the user."""
    named = _weights_named(place)
    for file in place.glob("weights*.safetensors"):
        if file.name != named and (file.name == old or _OWN_NAME.fullmatch(file.name)):
            file.unlink(missing_ok=True)
    _remove_aside(place)


def _remove_aside(place: Path) -> None:
    for file in place.glob(f"{_ASIDE}*"):
        file.unlink(missing_ok=True)
