"""The Hub, by a stand-in on this machine: what is downloaded, checked, kept and refused."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import COMMIT, Hub, serve
from huggingface_hub import constants
from safetensors.torch import save

import toys
from xglof import ModelError, Weights
from xglof.models import convert, hub, registry
from xglof.models.convert import fetch_model
from xglof.models.folder import read_source
from xglof.models.hub import HubFile, fetched_folder, resolve_commit
from xglof.models.registry import get_spec

REPO, FILE = "owner/some-lakes", "run_1/checkpoints/soup.ckpt"
TOKEN = "hf_" + "S" * 34
SPEC = toys.spec("context", weights=Weights("fetched:toy-lakes/weights.safetensors", ""))


def soup(seed: int = 1) -> bytes:
    state = {f"model.{name}": tensor + seed for name, tensor in SPEC.build().state_dict().items()}
    file = io.BytesIO()
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.5"}, file)
    return file.getvalue()


def safetensors() -> bytes:
    return save(dict(SPEC.build().state_dict()))


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with one repository; cache and data folder are empty."""
    here = Hub(REPO, {FILE: soup(), "weights.safetensors": safetensors()})
    with serve(here) as url:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield here


@pytest.fixture
def toy_lakes(monkeypatch: pytest.MonkeyPatch) -> str:
    """A model of the registry whose weights are on the Hub."""
    name = "toy-lakes"
    spec = toys.spec("context", name=name, weights=SPEC.weights)
    monkeypatch.setitem(registry._SPECS, name, spec)
    monkeypatch.setattr(registry, "HUB_SOURCES", {name: (REPO, FILE)})
    monkeypatch.setattr(convert, "HUB_SOURCES", {name: (REPO, FILE)})
    monkeypatch.setattr("xglof.models.folder.FACTORIES", ("toys:context",))
    return name


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def downloads(served: Hub) -> int:
    return sum(asked.startswith("GET") and "/resolve/" in asked for asked in served.asked)


def weights(served: Hub, **changes: str) -> Weights:
    digest = hashlib.sha256(served.files["weights.safetensors"]).hexdigest()
    return Weights(**{"uri": f"hf://{REPO}/weights.safetensors@{COMMIT}", "sha256": digest} | changes)


def test_weights_on_the_hub_are_downloaded_once(served: Hub, offline: Callable[[], None]) -> None:
    spec = toys.spec("context", name="hub", weights=weights(served))
    assert spec.weights is not None
    with pytest.raises(ModelError, match="has not been downloaded yet"):
        spec.weights.path  # noqa: B018
    network = spec.load()
    assert torch.equal(network.state_dict()["place"], SPEC.build().state_dict()["place"])
    asked = len(served.asked)
    offline()
    spec.weights.check()
    assert (downloads(served), len(served.asked)) == (1, asked)


def test_another_digest_is_refused(served: Hub) -> None:
    with pytest.raises(ModelError, match=r"have SHA-256 .*, expected 0000"):
        weights(served, sha256="0" * 64).check()


@pytest.mark.parametrize(
    "uri",
    [
        f"hf://{REPO}/weights.safetensors@main",
        f"hf://{REPO}/weights.safetensors",
        f"hf://{REPO}/weights.safetensors@{COMMIT[:12]}",
        f"hf://{REPO}/weights.safetensors@{COMMIT.upper()}",
    ],
)
def test_a_branch_is_no_commit(uri: str) -> None:
    with pytest.raises(ModelError, match=r"is no commit; give its 40|names no file"):
        Weights(uri, "0" * 64)


@pytest.mark.parametrize("address", ["owner/x", "x", "owner/x/../y", "owner/x//y", "a b/c/d", "owner/x/.git"])
def test_an_address_that_names_no_file_is_refused(address: str) -> None:
    with pytest.raises(ModelError, match="names no file on the Hub"):
        Weights(f"hf://{address}@{COMMIT}", "0" * 64)


def test_an_address_is_read_and_written() -> None:
    uri = f"hf://{REPO}/{FILE}@{COMMIT}"
    assert HubFile.of(uri) == HubFile(REPO, FILE, COMMIT)
    assert HubFile.of(uri).uri == uri


def test_offline_without_a_cache_says_so(served: Hub, offline: Callable[[], None]) -> None:
    offline()
    with pytest.raises(ModelError, match="the Hub can't be reached; go online once"):
        weights(served).check()
    with pytest.raises(ModelError, match="the Hub can't be reached"):
        resolve_commit(REPO)


def test_what_is_not_there_is_named(served: Hub) -> None:
    with pytest.raises(ModelError, match=r"has no gone\.safetensors at 0123"):
        Weights(f"hf://{REPO}/gone.safetensors@{COMMIT}", "0" * 64).check()
    with pytest.raises(ModelError, match="has no revision 'v9' in owner/some-lakes"):
        resolve_commit(REPO, "v9")
    assert resolve_commit(REPO) == COMMIT
    assert resolve_commit("no/where", COMMIT) == COMMIT  # one already


def no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let huggingface_hub try again at once."""
    quick = types.SimpleNamespace(**vars(time) | {"sleep": lambda seconds: None})
    monkeypatch.setattr("huggingface_hub.file_download.time", quick)


def test_a_download_that_is_cut_leaves_nothing_behind(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    no_sleep(monkeypatch)
    served.cut = 500
    with pytest.raises(ModelError, match=r"can't be had from the Hub"):
        weights(served).check()
    served.cut = None
    weights(served).check()


def test_a_half_file_on_the_hub_is_refused_by_its_digest(served: Hub) -> None:
    good = weights(served)
    served.files["weights.safetensors"] = served.files["weights.safetensors"][:-100]
    with pytest.raises(ModelError, match="SHA-256"):
        good.check()


def test_no_token_is_shown(
    served: Hub,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    no_sleep(monkeypatch)
    caplog.set_level(logging.DEBUG)
    weights(served).check()
    assert f"Bearer {TOKEN}" in served.tokens  # it is sent, by huggingface_hub
    served.files["odd.safetensors"], served.cut = b"1" * 100, 5
    texts = []
    for name in ("gone.safetensors", "odd.safetensors"):
        with pytest.raises(ModelError) as raised:
            HubFile(REPO, name, COMMIT).download()
        texts.append(str(raised.getrepr(style="long", showlocals=False)))
    monkeypatch.setattr(
        "huggingface_hub.hf_hub_download",
        lambda *a, **o: (_ for _ in ()).throw(OSError(f"bad header {TOKEN}")),
    )
    with pytest.raises(ModelError, match=r"bad header hf_\*\*\*") as raised:
        HubFile(REPO, "x", COMMIT).download()
    texts.append(str(raised.getrepr(style="short")))
    assert not any(TOKEN in text for text in [*texts, caplog.text, *capfd.readouterr()])


def test_fetched_weights_are_pinned_from_then_on(
    served: Hub, toy_lakes: str, offline: Callable[[], None]
) -> None:
    with pytest.raises(ModelError, match="xglof models fetch toy-lakes"):
        get_spec(toy_lakes).load()
    fetched = fetch_model(toy_lakes)
    assert fetched.new
    assert fetched.source["commit"] == COMMIT
    assert fetched.source["checked_against"] == ["hub"]
    assert fetched.folder == fetched_folder(toy_lakes)
    spec = get_spec(toy_lakes)
    assert spec == fetched.spec
    assert spec.weights is not None
    assert spec.weights.uri == "fetched:toy-lakes/weights.safetensors"
    expected = SPEC.build().state_dict()["place"] + 1
    assert torch.equal(spec.load().state_dict()["place"], expected)
    served.commit, served.files[FILE] = "f" * 40, soup(2)  # the branch moves on
    offline()
    again = fetch_model(toy_lakes)
    assert not again.new
    assert again.source["commit"] == COMMIT
    assert torch.equal(get_spec(toy_lakes).load().state_dict()["place"], expected)


def test_another_revision_is_fetched_when_it_is_asked_for(served: Hub, toy_lakes: str) -> None:
    fetch_model(toy_lakes)
    served.commit, served.files[FILE] = "f" * 40, soup(2)
    assert fetch_model(toy_lakes, revision="main").source["commit"] == "f" * 40
    assert torch.equal(
        get_spec(toy_lakes).load().state_dict()["place"], SPEC.build().state_dict()["place"] + 2
    )


def test_spoilt_weights_are_fetched_again_and_must_be_the_same(served: Hub, toy_lakes: str) -> None:
    folder = fetch_model(toy_lakes).folder
    (folder / "weights.safetensors").write_bytes(b"spoilt")
    kept = get_spec(toy_lakes).weights
    assert kept is not None
    with pytest.raises(ModelError, match="SHA-256"):
        kept.check()
    again = fetch_model(toy_lakes)
    assert again.new
    assert again.source["checked_against"] == ["record", "hub"]
    assert downloads(served) == 1  # it was in the cache
    kept.check()


def test_a_file_that_is_not_the_recorded_one_is_refused(
    served: Hub, toy_lakes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fetch_model(toy_lakes).folder
    before = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(b"spoilt")
    served.files[FILE] = soup(2)  # under the same commit: a Hub that lies
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "another"))
    with pytest.raises(ModelError, match=r"as fetched before\)"):
        fetch_model(toy_lakes)
    served.files[FILE] = soup(1)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "a third"))
    fetch_model(toy_lakes)
    assert (folder / "weights.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"recorded": "1" * 64}, r"expected 1111.*as the Hub has it on record"),
        ({}, r"expected 2222.*as you gave it"),
    ],
)
def test_digests_that_are_known_must_agree(
    served: Hub, toy_lakes: str, changes: dict[str, str], words: str
) -> None:
    served.recorded = changes.get("recorded")
    given = None if changes else "2" * 64
    with pytest.raises(ModelError, match=words):
        fetch_model(toy_lakes, sha256=given)
    assert not fetched_folder(toy_lakes).exists()


def test_a_commit_in_the_cache_is_fetched_offline(
    served: Hub, toy_lakes: str, offline: Callable[[], None]
) -> None:
    HubFile(REPO, FILE, COMMIT).download()
    offline()
    assert fetch_model(toy_lakes, revision=COMMIT).source["checked_against"] == []


def test_a_checkpoint_that_runs_code_is_not_fetched(served: Hub, toy_lakes: str, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    file = io.BytesIO()
    torch.save({"state_dict": {}, "x": Payload()}, file)
    served.files[FILE] = file.getvalue()
    with pytest.raises(ModelError, match=r"posix\.system"):
        fetch_model(toy_lakes)
    assert not (tmp_path / "ran").exists()
    assert not fetched_folder(toy_lakes).exists()


def test_a_spoilt_record_is_as_good_as_none(served: Hub, toy_lakes: str) -> None:
    folder = fetch_model(toy_lakes).folder
    (folder / "model.json").write_text("{")
    with pytest.raises(ModelError, match="not on this machine"):
        get_spec(toy_lakes).load()
    assert fetch_model(toy_lakes).new
    assert json.dumps(read_source(folder)["commit"]) == f'"{COMMIT}"'


def test_only_models_with_a_source_are_fetched() -> None:
    with pytest.raises(ModelError, match="no weights on the Hub; there is cryosentinel"):
        fetch_model("water-index")


def test_the_data_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hub.data_folder() == tmp_path / ".local" / "share" / "xglof"


@pytest.mark.parametrize("uri", ["fetched:../x", "fetched:a/../../x", "fetched:a", "fetched:/etc/passwd"])
def test_fetched_files_stay_in_their_folder(uri: str) -> None:
    with pytest.raises(ModelError, match="is not of the form"):
        Weights(uri, "0" * 64).check()
