from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from checkpoints import TOY, lightning, prefixed, saved, toy
from rich.console import Console

from xglof import ModelError, Weights
from xglof.models import convert, listing
from xglof.models.convert import Converted
from xglof.models.registry import names


def console() -> Console:
    return Console(file=io.StringIO(), width=80, markup=False, emoji=False, highlight=False)


def text(shown: Console) -> str:
    file = shown.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_every_model_is_listed_in_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    shown = console()
    listing.list_models(shown)
    lines = text(shown).splitlines()
    assert max(map(len, lines)) <= 80
    assert set(names()) <= set(lines)
    assert "not on this machine: xglof models fetch cryosentinel" in text(shown)
    assert "S2L2A?, S1RTC?, DEM?" in text(shown)


def test_what_was_converted_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = prefixed("model.", toy(1)) | {f"metric.{number}": torch.zeros(1) for number in range(5)}
    shadow = {"shadow": {"model.place": toy(2)["place"]}}
    content = lightning(state, callbacks={"EMA": shadow}, hyper_parameters={"stats": Path("x")})
    path = saved(content, tmp_path)
    monkeypatch.setattr(convert, "get_spec", lambda name: TOY)
    shown = console()
    listing.run_convert(shown, path, tmp_path / "model", model="toy", which="ema")
    told = " ".join(text(shown).split())
    for words in (
        "Lightning checkpoint soup.ckpt, their moving average",
        "also has the weights as trained last",
        "first.weight, first.bias, second.weight and 1 more (not averaged: the model's own)",
        "pathlib.PosixPath (no numbers; nothing of theirs ran)",
        f"Use it: xglof segment --model {tmp_path / 'model'}",
    ):
        assert words in told
    assert Weights.of(tmp_path / "model" / "weights.safetensors").sha256 in told
    assert "--trust" not in told
    shown = console()
    listing.run_convert(shown, path, tmp_path / "model", model="toy", trust=True)
    told = " ".join(text(shown).split())
    assert told.startswith("--trust: code that")
    assert "metric.0, metric.1, metric.2 and 2 more (not of the network)" in told


@pytest.mark.parametrize(
    ("new", "against", "words"),
    [
        (True, ["hub"], "against the Hub's record"),
        (True, [], "the Hub has no digest of it on record"),
        (False, ["sha256", "record"], "against the digest you gave, the earlier fetch"),
    ],
)
def test_what_was_fetched_is_told(
    new: bool, against: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = {
        "kind": "Lightning checkpoint", "name": "soup.ckpt", "which": "model", "sha256": "a" * 64,
        "commit": "c" * 40, "checked_against": against, "also_holds": [], "completed": [], "left_out": [],
        "stand_ins": [],
    }  # fmt: skip
    spec = TOY.with_weights(Weights("fetched:cryosentinel/weights.safetensors", "b" * 64))
    monkeypatch.setattr(convert, "fetch_model", lambda *a, **o: Converted(spec, tmp_path, source, new))
    shown = console()
    listing.run_fetch(shown, "cryosentinel")
    told = " ".join(text(shown).split())
    assert words in told
    assert "c" * 40 in told
    assert ("is here already" in told) is not new


def test_what_can_not_be_fetched_is_said_in_one_sentence() -> None:
    with pytest.raises(ModelError, match="has no weights on the Hub"):
        listing.run_fetch(console(), "water-index")
