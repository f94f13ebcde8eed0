from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from toys import spec
from xglof import ModelError, ModelInput, ModelSpec, Weights
from xglof.models.registry import get_spec, names
from xglof.models.weights import UNTRAINED


@pytest.fixture
def saved(tmp_path: Path) -> Weights:
    path = tmp_path / "toy.safetensors"
    save_file({name: t.half().contiguous() for name, t in spec("context").build().state_dict().items()}, path)
    return Weights.of(path)


def test_weights_are_loaded_widened_and_frozen(saved: Weights) -> None:
    model = spec("context", weights=saved)
    network = model.load("cpu")
    assert network is model.load("cpu")
    assert not network.training
    for name, tensor in network.state_dict().items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, spec("context").build().state_dict()[name], atol=1e-3, rtol=1e-3)
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_damaged_weights_are_refused(saved: Weights) -> None:
    data = bytearray(saved.path.read_bytes())
    data[-1] ^= 1
    saved.path.write_bytes(bytes(data))
    with pytest.raises(ModelError, match="SHA-256"):
        spec("context", weights=saved).load()


def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.safetensors"
    path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    weights = Weights(str(path), hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(ModelError, match="do not fit"):
        spec("context", weights=weights).load()


def test_weights_of_another_network_are_refused(saved: Weights) -> None:
    with pytest.raises(ModelError, match="do not fit"):
        spec("context", weights=saved, kwargs={"classes": 2}, classes=("land", "lake")).load()


def test_absent_weights_are_named() -> None:
    with pytest.raises(ModelError, match=r"gone\.safetensors are not there"):
        spec("context", weights=Weights("gone.safetensors", "0" * 64)).load()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"factory": "no_colon"}, "not of the form"),
        ({"window": 100}, "multiple of 16"),
        ({"multiple_of": 0}, "multiple of 0"),
        ({"activation": "softmax"}, "softmax among one class"),
        ({"min_share": 2}, "min_share is 2"),
        ({"kwargs": {"necks": [{"name": "SelectIndices"}]}}, "can't be hashed"),
        ({"inputs": spec("context").inputs * 2}, "takes vh, vv twice"),
        ({"classes": ("water",)}, "hold no 'lake'"),
        ({"activation": "relu"}, "activation"),
        ({"unobserved_when": ("fog",)}, "no such flag: fog"),
        ({"inputs": (ModelInput("DEM", (0,), (1,)),)}, "no modality that observes"),
    ],
)
def test_a_spec_is_checked_when_it_is_made(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        spec("context", **changes)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("S3", (0,), (1,)), "'S3' is unknown"),
        (("DEM", (0, 1), (1, 1)), "as many"),
        (("DEM", (0,), (0,)), "above 0"),
        (("DEM", (0,), (1,), ("height",)), "no band height"),
    ],
)
def test_an_input_is_checked_when_it_is_made(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        ModelInput(*arguments)


def test_a_factory_that_is_not_there_is_named() -> None:
    model = ModelSpec(
        name="gone", factory="toys:gone", inputs=(ModelInput("DEM", (0,), (1,)), *spec("bits").inputs)
    )
    with pytest.raises(ModelError, match="toys:gone"):
        model.load()


def test_specs_are_values() -> None:
    first, second = (
        spec("constant", kwargs={"values": [1.0, 2.0]}),
        spec("constant", kwargs={"values": (1.0, 2.0)}),
    )
    assert first == second
    assert hash(first) == hash(second)


@pytest.mark.parametrize("name", names())
def test_shipped_specs_are_sound(name: str) -> None:
    model = get_spec(name)
    assert model.name == name
    assert model.licence
    assert model.summary
    if model.weights == UNTRAINED:
        with pytest.raises(ModelError, match="no trained weights"):
            model.weights.check()
        return
    assert model.caveat
    if model.weights is not None and not model.weights.uri.startswith("fetched:"):
        model.weights.check()


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ModelError, match="terramind-tiny-demo, water-index"):
        get_spec("terramind-huge")
