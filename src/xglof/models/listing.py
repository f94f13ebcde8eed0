"""What ``xglof models`` and its commands print, in 80 columns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from xglof.errors import ModelError
from xglof.models.hub import FETCHED
from xglof.models.registry import HUB_SOURCES, get_spec, names
from xglof.models.weights import UNTRAINED

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from xglof.models.checkpoint import Which
    from xglof.models.convert import Converted
    from xglof.models.spec import ModelSpec

_NAMED = 3


def list_models(console: Console) -> None:
    """Print the models that ship with xglof, what they take and whether they are ready."""
    from rich.text import Text

    for name in names():
        spec = get_spec(name)
        told = {"is": spec.summary, "takes": _takes(spec), "weights": _state(spec)}
        table = _table()
        for what, text in (told | {"caveat": spec.caveat, "licence": spec.licence}).items():
            if text:
                table.add_row(what, text)
        console.print(Text(name, "bold"))
        console.print(table)
    console.print("?: may be left out; one that observes is needed (Sentinel-2 or Sentinel-1).")
    console.print("The folder of a trained or converted model is a model, too: give its path.")


def _table() -> Table:
    from rich.table import Table

    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True, min_width=8)
    table.add_column(overflow="fold")
    return table


def _takes(spec: ModelSpec) -> str:
    return ", ".join(source.modality + "?" * source.optional for source in spec.inputs)


def _state(spec: ModelSpec) -> str:
    if spec.weights is None:
        return "none needed"
    if spec.weights == UNTRAINED:
        return "random, for training"
    if spec.weights.uri.startswith(FETCHED):
        there = spec.weights.sha256 and spec.weights.path.is_file()
        return "fetched" if there else f"not on this machine: xglof models fetch {spec.name}"
    return "with xglof"


def run_convert(
    console: Console, checkpoint: Path, out: Path, *, model: str, which: Which = "auto", trust: bool = False
) -> None:
    """Convert a checkpoint to a model folder and print what was found in it (``xglof models convert``).

    Raises
    ------
    ModelError, OutputError
        As :func:`~xglof.models.convert.convert_checkpoint`.
    """
    from xglof.models.convert import convert_checkpoint

    if trust:
        console.print(
            f"--trust: code that {checkpoint} may hold is run.", style="bold yellow", soft_wrap=True
        )
    with console.status(f"converting {checkpoint.name}"):
        converted = convert_checkpoint(checkpoint, out, model=model, which=which, trust=trust)
    _print_converted(console, converted)


def run_fetch(
    console: Console,
    name: str,
    *,
    revision: str | None = None,
    sha256: str | None = None,
    which: Which = "auto",
    trust: bool = False,
) -> None:
    """Download and convert the weights of a model once and print where they are (``xglof models fetch``).

    Raises
    ------
    ModelError, OutputError
        As :func:`~xglof.models.convert.fetch_model`.
    """
    from xglof.models.convert import fetch_model

    if name in HUB_SOURCES:
        console.print(f"Hub: {HUB_SOURCES[name][0]}", soft_wrap=True)
    converted = fetch_model(name, revision=revision, sha256=sha256, which=which, trust=trust)
    if not converted.new:
        console.print(f"{name} is here already, and whole.")
    _print_converted(console, converted, fetched=True)


def _print_converted(console: Console, converted: Converted, *, fetched: bool = False) -> None:
    source, weights = converted.source, converted.spec.weights
    if weights is None:
        raise ModelError(f"{converted.folder} holds no weights")
    table = _table()
    rows = {
        "model": converted.spec.name,
        "folder": str(converted.folder),
        "from": f"{source['kind']} {source['name']}, {_WHICH[source['which']]}",
        "commit": source.get("commit", ""),
        "of file": source["sha256"],
        "sha256": weights.sha256,
        "checked": _checked(source) if fetched else "",
        "also has": ", ".join(_WHICH[name] for name in source["also_holds"]),
        "filled in": _some(source["completed"], "not averaged: the model's own"),
        "left out": _some(source["left_out"], "not of the network"),
        "not read": _some(source["stand_ins"], "no numbers; nothing of theirs ran"),
    }
    for what, text in rows.items():
        if text:
            table.add_row(what, text)
    console.print(table)
    use = converted.spec.name if fetched else converted.folder
    console.print(f"Use it: xglof segment --model {use} ...", soft_wrap=True)


_WHICH = {"model": "the weights as trained last", "ema": "their moving average"}


def _checked(source: dict[str, Any]) -> str:
    against = source.get("checked_against", [])
    words = {"sha256": "the digest you gave", "record": "the earlier fetch", "hub": "the Hub's record"}
    if not against:
        return "against nothing: the Hub has no digest of it on record; kept for later loads"
    return "against " + ", ".join(words[name] for name in against)


def _some(found: list[str], why: str) -> str:
    if not found:
        return ""
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"{', '.join(found[:_NAMED])}{more} ({why})"
