from __future__ import annotations

import itertools
import json
import os
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import toys
import xglof
from xglof import ModelError, ModelSpec, OutputError, Weights
from xglof.models.folder import FACTORIES, is_model_folder, read_model, read_source, write_model
from xglof.models.registry import CRYOSENTINEL, TINY_DEMO, WATER_INDEX, get_spec, names

TOYS = ("toys:",)
SPEC = toys.spec("context", kwargs={"side": 32}, window=32, resolution=10.0, caveat="a toy", window_bytes=7)


def same_numbers(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    states = first.state_dict(), second.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(tensor, states[1][name]) for name, tensor in states[0].items()
    )


def moved(by: float) -> torch.nn.Module:
    network = SPEC.build()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += by
    return network


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads((folder / "model.json").read_text())
    change(document)
    (folder / "model.json").write_text(json.dumps(document))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(SPEC, moved(1), tmp_path / "model")


def test_a_folder_gives_back_the_spec_and_the_numbers(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "weights.safetensors"]
    found = read_model(folder, factories=TOYS)
    assert found.with_weights(None) == SPEC
    assert (found.summary, found.window_bytes) == (SPEC.summary, 7)  # no part of comparisons
    assert found.weights == Weights.of(folder / "weights.safetensors")
    assert same_numbers(found.load(), moved(1))
    assert read_model(folder / "model.json", factories=TOYS) == found
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1  # who may read one may read all
    assert is_model_folder(folder)
    assert not is_model_folder(folder.parent)


@pytest.mark.parametrize("name", [*names()])
def test_every_shipped_spec_survives(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xglof.models.folder.fitted", lambda spec, state: dict(state))
    spec = get_spec(name)
    found = read_model(write_model(spec, {}, tmp_path))
    assert found.with_weights(None) == spec.with_weights(None)
    assert {source.modality: source.clip for source in found.inputs} == {
        source.modality: source.clip for source in spec.inputs
    }


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=VALUES, mean=st.floats(-1e6, 1e6), clip=st.none() | st.tuples(st.floats(-9, 0), st.floats(1, 9))
)
def test_any_numbers_and_texts_survive(
    tmp_path: Path, values: object, mean: float, clip: tuple[float, float] | None
) -> None:
    source = xglof.ModelInput("S1RTC", mean=(mean, mean / 3), std=(1, 0.1), clip=clip)
    spec = replace(toys.spec("constant", kwargs={"values": values}), inputs=(source,))
    found = read_model(write_model(spec, {}, tmp_path), factories=TOYS)
    assert found.with_weights(None) == spec
    assert repr(found.kwargs) == repr(spec.kwargs)  # 1, 1.0 and True are equal, and no more


@pytest.mark.parametrize("value", [frozenset({1}), float("nan"), b"bytes", complex(1)])
def test_what_json_can_not_hold_is_refused_before_anything_is_written(value: object, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="JSON"):
        write_model(toys.spec("constant", kwargs={"values": value}), {}, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_folder_is_a_model_by_its_path(tmp_path: Path) -> None:
    spec = replace(get_spec("terramind-tiny"), window=64)
    torch.manual_seed(3)
    network = spec.build()
    folder = write_model(spec, network, tmp_path / "model", extra={"split.json": {"salt": "a"}})
    assert json.loads((folder / "split.json").read_text()) == {"salt": "a"}
    cube = toys.raster(40, 36, times=1)
    seg = xglof.segment(cube, model=str(folder), device="cpu").compute()
    same = spec.with_weights(Weights.of(folder / "weights.safetensors"))
    xr.testing.assert_identical(seg, xglof.segment(cube, model=same, device="cpu").compute())
    assert np.isfinite(seg["lake_probability"]).all()
    assert get_spec(folder) == get_spec(str(folder / "model.json")) == read_model(folder)


def test_a_folder_that_moves_takes_its_weights_along(folder: Path) -> None:
    there = folder.rename(folder.with_name("elsewhere"))
    assert same_numbers(read_model(there, factories=TOYS).load(), moved(1))


@pytest.mark.parametrize("name", ["gone/model", "./gone", "gone/model.json"])
def test_a_path_without_a_model_is_named(name: str) -> None:
    with pytest.raises(ModelError, match=r"holds no model\.json"):
        get_spec(name)


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module.", "model."]
)
def test_a_wrapped_network_is_written_under_its_own_names(prefix: str, tmp_path: Path) -> None:
    state = {prefix + name: tensor for name, tensor in moved(1).state_dict().items()}
    assert same_numbers(read_model(write_model(SPEC, state, tmp_path), factories=TOYS).load(), moved(1))


def test_tensors_that_share_memory_are_written(tmp_path: Path) -> None:
    everything = torch.arange(20_000.0)
    state, start = {}, 0
    for name, tensor in SPEC.build().state_dict().items():
        state[name] = everything[start : start + tensor.numel()].view(tensor.shape)
        start += tensor.numel() // 2
    written = read_model(write_model(SPEC, state, tmp_path), factories=TOYS).load().state_dict()
    assert all(torch.equal(written[name], tensor) for name, tensor in state.items())


def test_to_write_changes_no_random_number_that_follows(tmp_path: Path) -> None:
    network, before = moved(0), torch.get_rng_state()
    write_model(replace(SPEC, name="another"), network, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_tensors_of_another_network_are_refused(tmp_path: Path) -> None:
    state = SPEC.build().state_dict()
    del state["place"]
    state["first.bias"] = torch.zeros(7)
    state |= {f"odd.{number}": torch.zeros(1) for number in range(9)}
    with pytest.raises(ModelError) as raised:
        write_model(SPEC, state, tmp_path / "model")
    for words in ("1 missing: place", "9 unexpected: odd.0", "and 4 more", "first.bias (7,) for (6,)"):
        assert words in str(raised.value)
    assert not (tmp_path / "model").exists()


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not finite in 5 tensors"):
        write_model(SPEC, moved(float("nan")), tmp_path)
    assert not list(tmp_path.iterdir())


class Killed(BaseException):
    """The process ends here."""


def test_a_kill_at_any_moment_leaves_the_old_model_or_the_new(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = {name: getattr(os, name) for name in ("replace", "link", "unlink", "rename")}
    seen = set()
    for moment in itertools.count():
        write_model(SPEC, moved(1), folder)
        left = moment

        def step(name: str, *arguments: Any, **options: Any) -> None:
            nonlocal left
            for does in (False, True):  # killed before it, or after it
                if does:
                    steps[name](*arguments, **options)
                left -= 1
                if left < 0:
                    raise Killed

        for name in steps:
            monkeypatch.setattr(os, name, lambda *a, _name=name, **o: step(_name, *a, **o))
        try:
            write_model(SPEC, moved(2), folder, extra={"training.json": {}})
            killed = False
        except Killed:
            killed = True
        monkeypatch.undo()
        found = read_model(folder, factories=TOYS)
        assert found.weights is not None
        found.weights.check()
        seen.add(next(by for by in (1, 2) if same_numbers(found.load(), moved(by))))
        if not killed:
            break
    assert moment > 8
    assert seen == {1, 2}
    write_model(SPEC, moved(3), folder)  # and it cleans up after the killed ones
    assert sorted(path.name for path in folder.iterdir()) == [
        "model.json",
        "training.json",
        "weights.safetensors",
    ]


def test_a_full_disk_leaves_the_old_model(folder: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, hard))  # the system refuses to write on
    try:
        with pytest.raises(OutputError, match="can't be written to"):
            write_model(SPEC, moved(2), folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "weights.safetensors"]
    assert same_numbers(read_model(folder, factories=TOYS).load(), moved(1))


def test_without_links_the_unusual_name_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    for by in (2, 3, 4):
        write_model(SPEC, moved(by), folder)
        assert same_numbers(read_model(folder, factories=TOYS).load(), moved(by))
        assert len(list(folder.iterdir())) == 2


def test_files_of_the_user_stay(folder: Path, tmp_path: Path) -> None:
    for name in ("weights-april.safetensors", "weights_2021.safetensors", "notes.txt"):
        (folder / name).write_text("mine")
    write_model(SPEC, moved(2), folder)
    kept = sorted(path.name for path in folder.iterdir())
    assert kept == [
        "model.json",
        "notes.txt",
        *(f"weights{end}.safetensors" for end in ("-april", "", "_2021")),
    ]
    (tmp_path / "weights.safetensors").write_text("mine")
    with pytest.raises(
        OutputError, match=r"holds weights\.safetensors without a model\.json; choose another"
    ):
        write_model(SPEC, moved(2), tmp_path)
    assert (tmp_path / "weights.safetensors").read_text() == "mine"


def test_a_run_points_to_its_models(folder: Path) -> None:
    run = folder.parent / "run"
    (run / "average").mkdir(parents=True)
    (run / "average" / "model.json").write_text("{}")
    with pytest.raises(ModelError, match=r"it is a run of xglof train, so give .*run/average"):
        read_model(run)


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "model").touch()
    with pytest.raises(OutputError, match="model"):
        write_model(SPEC, moved(0), tmp_path / "model")


def test_damaged_weights_are_refused(folder: Path) -> None:
    file = folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\0\0")
    with pytest.raises(ModelError, match="SHA-256"):
        read_model(folder, factories=TOYS).load()


def test_the_source_is_kept_with_the_weights(tmp_path: Path) -> None:
    write_model(SPEC, moved(1), tmp_path, source={"commit": "a"})
    assert read_source(tmp_path) == {"commit": "a"}


@pytest.mark.parametrize(
    "factory",
    [
        "os:system",
        "toys:context",
        "xglof.models.convert:convert_checkpoint",  # of xglof, and yet it can do more than make a network
        "xglof.demo:run_demo",
        "xglof.models.terramind:torch",
    ],
)
def test_a_strangers_folder_runs_no_code(folder: Path, factory: str) -> None:
    edit(folder, lambda document: document["spec"].update(factory=factory, kwargs={"command": "false"}))
    with pytest.raises(ModelError, match="wants the factory"):
        get_spec(folder)
    assert read_model(folder, factories=[factory]).factory == factory
    assert read_model(folder, factories=[factory.partition(":")[0] + ":"]).factory == factory
    with pytest.raises(ModelError, match="wants the factory"):
        read_model(folder, factories=[factory[:-1]])  # no beginning of a name without its dot or colon


def test_every_factory_of_the_shipped_models_is_known() -> None:
    assert {get_spec(name).factory for name in names()} == set(FACTORIES)


@pytest.mark.parametrize("name", ["../weights.safetensors", "/etc/passwd", "a/b", "..", "", ".x", "C:\\x", 7])
def test_weights_stay_inside_the_folder(folder: Path, name: object) -> None:
    edit(folder, lambda document: document["weights"].update(file=name))
    if name == 7:  # a plain name, of no file
        with pytest.raises(ModelError, match="are not there"):
            read_model(folder, factories=TOYS).load()
        return
    with pytest.raises(ModelError, match="no plain file name"):
        read_model(folder, factories=TOYS)


@pytest.mark.parametrize("name", ["../split.json", "/split.json", "a/b.json"])
def test_extra_files_stay_inside_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no plain file name"):
        write_model(SPEC, moved(0), tmp_path / "model", extra={name: "text"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda document: document.update(version=2), "version 2"),
        (lambda document: document.update(format="other"), "no model of xglof"),
        (lambda document: document["spec"].update(colour="red"), "unknown colour"),
        (lambda document: document["spec"]["inputs"][0].update(scale=2), "unknown scale"),
        (lambda document: document["spec"].pop("inputs"), "inputs"),
        (lambda document: document["spec"].update(inputs=3), "no sound model"),
        (lambda document: document["spec"].update(window="wide"), "no sound model"),
        (lambda document: document["spec"].update(window=-1), "no sound model"),
        (lambda document: document["weights"].pop("sha256"), "names no weights"),
        (lambda document: document.update(spec=[]), "no sound model"),
    ],
)
def test_a_document_that_is_not_sound_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    edit(folder, change)
    with pytest.raises(ModelError, match=words):
        read_model(folder, factories=TOYS)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "null", '"text"', "\xff"])
def test_a_file_that_is_no_document_is_refused(folder: Path, text: str) -> None:
    (folder / "model.json").write_bytes(text.encode("latin1"))
    with pytest.raises(ModelError, match=r"model\.json"):
        read_model(folder)


def test_weights_that_are_a_pickle_are_refused(folder: Path) -> None:
    file = folder / "weights.safetensors"
    file.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    edit(folder, lambda document: document["weights"].update(sha256=Weights.of(file).sha256))
    with pytest.raises(ModelError, match="do not fit"):
        read_model(folder, factories=TOYS).load()


def test_a_model_without_numbers_has_a_folder_too(tmp_path: Path) -> None:
    found: ModelSpec = read_model(write_model(WATER_INDEX, WATER_INDEX.build(), tmp_path))
    assert found.with_weights(None) == WATER_INDEX
    found.load()


def test_half_precision_is_kept(tmp_path: Path) -> None:
    state = {name: tensor.half() for name, tensor in SPEC.build().state_dict().items()}
    folder = write_model(SPEC, state, tmp_path)
    from safetensors.torch import load_file

    assert {tensor.dtype for tensor in load_file(folder / "weights.safetensors").values()} == {torch.float16}
    assert {tensor.dtype for tensor in read_model(folder, factories=TOYS).load().state_dict().values()} == {
        torch.float32
    }


def test_specs_of_one_name_stay_apart() -> None:
    assert get_spec("cryosentinel").with_weights(None) == CRYOSENTINEL.with_weights(None)
    assert get_spec("terramind-tiny-demo") is TINY_DEMO
