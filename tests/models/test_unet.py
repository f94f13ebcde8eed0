from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from xglof import ModelError
from xglof.models.registry import get_spec
from xglof.models.unet import build

BANDS = {"S2L2A": 12, "S1RTC": 2, "DEM": 1}
SMALL = "mobilenet_v2"


def given(*names: str, side: int = 32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(2, BANDS[name], side, side, generator=generator) for name in names}


class Planes(nn.Module):
    """Hands on what it is given."""

    def forward(self, planes: Tensor) -> Tensor:
        return planes


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return build(modalities=tuple(BANDS), encoder=SMALL).eval()


def test_any_set_of_modalities_gives_logits(network: nn.Module) -> None:
    outputs = []
    for count in range(1, 4):
        for names in itertools.combinations(BANDS, count):
            with torch.inference_mode():
                outputs.append(network(given(*names)))
            assert outputs[-1].shape == (2, 1, 32, 32)
    assert all(not torch.equal(*pair) for pair in itertools.combinations(outputs, 2))


def test_what_is_absent_is_zeros_and_a_plane_that_says_so(network: nn.Module) -> None:
    network.core, core = Planes(), network.core
    try:
        inputs = given("DEM", "S2L2A")
        planes = network(inputs)
    finally:
        network.core = core
    assert planes.shape == (2, 15 + 3, 32, 32)
    assert torch.equal(planes[:, :12], inputs["S2L2A"])
    assert not planes[:, 12:14].any()
    assert torch.equal(planes[:, 14:15], inputs["DEM"])
    assert planes[:, 15:].amin((0, 2, 3)).tolist() == planes[:, 15:].amax((0, 2, 3)).tolist() == [1, 0, 1]


def test_radar_alone_needs_no_such_plane() -> None:
    network = build(modalities=["S1RTC"], encoder=SMALL, num_classes=3, architecture="UnetPlusPlus").eval()
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    assert first.in_channels == 2
    with torch.inference_mode():
        assert network(given("S1RTC")).shape == (2, 3, 32, 32)
    with pytest.raises(ModelError, match=r"takes any of S1RTC, and was given \('DEM',\)"):
        network(given("DEM"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"modalities": "S2L2A"}, "pass a list"),
        ({"modalities": []}, "pass a list"),
        ({"modalities": ["DEM", "DEM"]}, "each of them once"),
        ({"modalities": ["S3"]}, "no such modality: S3"),
        ({"modalities": ["DEM"], "architecture": "hub"}, "none of Unet"),
        ({"modalities": ["DEM"], "encoder": "resnet9000"}, "no encoder 'resnet9000'"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        build(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["unet-resnet34", "unet-efficientnet-b3-s1"])
def test_the_shipped_ones_take_a_window(name: str) -> None:
    spec = get_spec(name)
    assert spec.window % 32 == 0
    network = spec.build().train()
    network(given(*(source.modality for source in spec.inputs))).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
