"""Networks on TerraMind, against terratorch's own: two imports of it (about 20 s each) for all of these."""

from __future__ import annotations

import itertools
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

import xglof
from toys import raster
from xglof import ModelError, ModelInput, ModelSpec
from xglof.models.registry import get_spec
from xglof.models.terramind import TinyDemo, segmenter

pytestmark = pytest.mark.slow

SPEC = get_spec("terramind-tiny-demo")
BANDS = {"S2L2A": 12, "S1RTC": 2, "DEM": 1}
CRYO = ("S2L2A", "S1GRD", "DEM")
TINY: dict[str, Any] = {
    "size": "tiny",
    "modalities": tuple(BANDS),
    "indices": (2, 5, 8, 11),
    "decoder_channels": 32,
    "scale_modules": False,
    "num_classes": 16,
}
SMALL = TINY | {"size": "small", "modalities": CRYO, "num_classes": 1}
BASE = SMALL | {"size": "base", "scale_modules": True}
LARGE = BASE | {"size": "large", "indices": (5, 11, 17, 23), "decoder_channels": 256}


class Logits(nn.Module):
    """terratorch's network as one of ours: a tensor, whose channel axis stays."""

    def __init__(self, theirs: nn.Module) -> None:
        super().__init__()
        self.theirs = theirs

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        output: Tensor = self.theirs(dict(inputs)).output
        return output if output.ndim == 4 else output[:, None]


@pytest.fixture(scope="session")
def by_terratorch() -> Callable[..., nn.Module]:
    """Builds what ``segmenter`` builds of the same arguments, with terratorch's own factory."""
    precision = torch.get_float32_matmul_precision()
    from terratorch.models import EncoderDecoderFactory

    torch.set_float32_matmul_precision(precision)  # the import lowers it for the whole process

    def build(*, size: str, modalities: tuple[str, ...], indices: tuple[int, ...], **rest: Any) -> nn.Module:
        necks = [
            {"name": "SelectIndices", "indices": list(indices)},
            {"name": "ReshapeTokensToImage", "remove_cls_token": False},
            {"name": "LearnedInterpolateToPyramidal"},
        ]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*scale_modules is deprecated")
            network: nn.Module = EncoderDecoderFactory().build_model(
                task="segmentation",
                backbone=f"terramind_v1_{size}",
                backbone_pretrained=False,
                backbone_modalities=list(modalities),
                necks=necks,
                decoder="UperNetDecoder",
                decoder_channels=rest["decoder_channels"],
                decoder_scale_modules=rest["scale_modules"],
                num_classes=rest["num_classes"],
            )
        return network

    return build


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return SPEC.load("cpu")


@pytest.fixture(scope="module")
def cube() -> xr.Dataset:
    noise = raster(300, 280, modalities=("S2L2A", "S1RTC", "DEM"), times=1, left=500_370, top=3_100_410)
    for name, variable in noise.data_vars.items():
        if str(name).startswith("B"):
            noise[name] = variable * np.uint16(400)
    return noise.assign(vv=noise["vv"] * 4 - 12, vh=noise["vh"] * 4 - 18, dem=noise["dem"] * 50 + 4500)


def inputs(names: tuple[str, ...], batch: int = 2, shape: tuple[int, int] = (224, 224)) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    bands = BANDS | {"S1GRD": 2}
    return {name: torch.randn(batch, bands[name], *shape, generator=generator) for name in names}


def subsets(names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for count in range(1, len(names) + 1):
        yield from itertools.combinations(names, count)


def shapes(network: nn.Module) -> list[tuple[str, torch.Size, torch.dtype]]:
    return [(name, tensor.shape, tensor.dtype) for name, tensor in network.state_dict().items()]


def stir(network: nn.Module) -> None:
    """Move every number, so that a norm, a bias or a position that one network left out would show."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator)
            tensor.add_(noise if name.endswith("running_var") else (noise - 0.5) * 0.06)


def pair(
    by_terratorch: Callable[..., nn.Module], arguments: dict[str, Any], **changes: Any
) -> tuple[nn.Module, nn.Module]:
    """Terratorch's network and ours, with the same stirred weights, in evaluation mode."""
    theirs, ours = by_terratorch(**(arguments | changes)), segmenter(**(arguments | changes))
    stir(theirs)
    ours.load_state_dict(theirs.state_dict())
    return Logits(theirs).eval(), ours.eval()


@torch.inference_mode()
def assert_same_bits(theirs: nn.Module, ours: nn.Module, given: dict[str, Tensor]) -> None:
    expected, found = theirs(given), ours(given)
    assert expected.std() > 1e-3  # or there would be nothing to tell apart
    assert torch.equal(found, expected), tuple(given)


@pytest.fixture(params=["highest", "medium"])
def precision(request: pytest.FixtureRequest) -> Iterator[None]:
    """How far torch may round within matrix products: its default, and what an import of terratorch sets."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(request.param)
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("precision")
def test_the_demo_loads_its_weights_and_gives_the_bits_of_terratorch(
    network: nn.Module, by_terratorch: Callable[..., nn.Module]
) -> None:
    core = by_terratorch(**TINY)
    assert shapes(network.get_submodule("core")) == shapes(core)
    reference = TinyDemo(core, TINY["num_classes"])
    assert SPEC.weights is not None
    SPEC.weights.load_into(reference)
    reference.core = Logits(reference.core)
    reference.eval()
    for names in subsets(tuple(BANDS)):
        assert_same_bits(reference, network, inputs(names))


@pytest.mark.parametrize(
    ("arguments", "changes", "shape"),
    [
        (TINY, {}, (2, 224, 224)),
        (SMALL, {}, (2, 224, 224)),
        (SMALL, {"scale_modules": True}, (2, 224, 224)),
        (SMALL, {"num_classes": 3, "indices": (0, 3, 3, 10)}, (1, 256, 256)),
        (BASE, {}, (2, 128, 128)),
        (BASE, {"scale_modules": False, "modalities": ("DEM", "S2L2A")}, (1, 224, 224)),
    ],
    ids=["tiny", "small", "small-scaled", "one-of-256-px", "base-scaled", "base-one"],
)
def test_segmenters_give_the_bits_of_terratorch(
    by_terratorch: Callable[..., nn.Module],
    arguments: dict[str, Any],
    changes: dict[str, Any],
    shape: tuple[int, int, int],
) -> None:
    theirs, ours = pair(by_terratorch, arguments, **changes)
    for names in subsets((arguments | changes)["modalities"]):
        assert_same_bits(theirs, ours, inputs(names, shape[0], shape[1:]))


@pytest.mark.parametrize("shape", [(240, 240), (224, 288), (100, 75)])
def test_sides_that_are_padded_give_the_bits_of_terratorch(
    by_terratorch: Callable[..., nn.Module], shape: tuple[int, int]
) -> None:
    theirs, ours = pair(by_terratorch, TINY)
    assert_same_bits(theirs, ours, inputs(tuple(BANDS), 2, shape))


@pytest.mark.parametrize("arguments", [TINY, BASE], ids=["tiny", "base"])
def test_a_seed_gives_the_start_that_terratorch_gives(
    by_terratorch: Callable[..., nn.Module], arguments: dict[str, Any]
) -> None:
    torch.manual_seed(7)
    theirs = by_terratorch(**arguments).state_dict()
    torch.manual_seed(7)
    ours = segmenter(**arguments).state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_in_training_it_follows_terratorch(by_terratorch: Callable[..., nn.Module]) -> None:
    theirs, ours = pair(by_terratorch, TINY)
    given = inputs(tuple(BANDS), 2, (64, 64))
    outputs = [network.train()(given) for network in (theirs, ours)]
    assert torch.equal(*outputs)
    for output in outputs:
        output.square().mean().backward()
    found = dict(ours.named_parameters())
    for name, parameter in theirs.get_submodule("theirs").named_parameters():
        assert parameter.grad is not None
        # sums of gradients run in another order
        tolerance = 1e-4 * float(parameter.grad.abs().max())
        torch.testing.assert_close(found[name].grad, parameter.grad, rtol=0, atol=tolerance)
    theirs_after, ours_after = theirs.get_submodule("theirs").state_dict(), ours.state_dict()
    assert all(torch.equal(ours_after[name], theirs_after[name]) for name in theirs_after)  # batch statistics


@pytest.mark.parametrize("arguments", [BASE | {"decoder_channels": 256}, LARGE], ids=["base", "large"])
def test_the_large_ones_have_the_weights_of_terratorch(
    by_terratorch: Callable[..., nn.Module], arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # terratorch reads numbers off a linspace, which a tensor without numbers can't give
    monkeypatch.setattr(torch, "linspace", partial(torch.linspace, device="cpu"))
    with torch.device("meta"):
        theirs, ours = by_terratorch(**arguments), segmenter(**arguments)
    assert shapes(ours) == shapes(theirs)
    if arguments is LARGE:
        assert sum(p.numel() for p in ours.parameters()) == pytest.approx(321.58e6, rel=1e-4)  # CryoSentinel


def test_it_needs_no_terratorch_and_leaves_it_to_the_user() -> None:
    code = """
import sys, threading, torch
from xglof.models.registry import TINY_DEMO
given = {"S2L2A": torch.zeros(2, 12, 64, 64), "DEM": torch.zeros(2, 1, 64, 64)}
before = TINY_DEMO.load("cpu")(given)
loaded = [name for name in sys.modules if name.split(".")[0] == "terratorch"]
assert not loaded, loaded
errors = []
def use():
    try:
        import terratorch
        terratorch.models.EncoderDecoderFactory()
    except BaseException as error:
        errors.append(error)
user = threading.Thread(target=use)
user.start()
builds = 0
while user.is_alive() or not builds:
    TINY_DEMO.build().eval()(given)
    builds += 1
    user.join(0.5)
assert not errors, errors
import terratorch
assert terratorch.models.EncoderDecoderFactory.__module__ == "terratorch.models.encoder_decoder_factory"
torch.set_float32_matmul_precision("highest")  # the import lowers it for the whole process
assert torch.equal(TINY_DEMO.load("cpu")(given), before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_spec_of_a_user_names_the_segmenter() -> None:
    model = ModelSpec(
        name="mine",
        factory="xglof.models.terramind:segmenter",
        kwargs={"size": "tiny", "modalities": ["DEM", "S1GRD"], "decoder_channels": 8, "num_classes": 2},
        inputs=(ModelInput("DEM", (0,), (1,)), ModelInput("S1GRD", (0, 0), (1, 1), optional=True)),
        classes=("land", "lake"),
    )
    network = model.load("cpu")
    given = inputs(("DEM", "S1GRD"), 2, (64, 64))
    with torch.inference_mode():
        both = network(given)
        assert both.shape == (2, 2, 64, 64)
        assert torch.equal(network(dict(reversed(given.items()))), both)
        assert network({"DEM": given["DEM"]}).shape == both.shape


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": "huge"}, "no size 'huge'; there are tiny, small, base, large"),
        ({"modalities": ("S2L2A", "S2L1C")}, "takes no S2L1C"),
        ({"modalities": ()}, "at least one"),
        ({"modalities": ("DEM", "DEM")}, "each of them once"),
        ({"modalities": "DEM"}, "pass a list"),
        ({"indices": (2, 5, 8)}, "4 blocks out of 0 to 11"),
        ({"indices": (2, 5, 8, 12)}, "4 blocks out of 0 to 11"),
        ({"decoder_channels": 0}, "decoder_channels 0"),
        ({"num_classes": 0}, "num_classes 0"),
    ],
)
def test_a_segmenter_that_can_not_be_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        segmenter(**(TINY | changes))


def test_inputs_that_do_not_fit_are_refused(network: nn.Module) -> None:
    core = network.get_submodule("core")
    given = inputs(("S2L2A", "DEM"), 2, (64, 64))
    with pytest.raises(ModelError, match=r"any of S2L2A, S1RTC, DEM, and was given \(\)"):
        core({})
    with pytest.raises(ModelError, match=r"given \('S1GRD',\)"):
        core(inputs(("S1GRD",), 2, (64, 64)))
    with pytest.raises(
        ModelError, match=r"S2L2A has the shape \(2, 11, 64, 64\), expected \(2, 12, 64, 64\)"
    ):
        core({"S2L2A": given["S2L2A"][:, :11]})
    with pytest.raises(ModelError, match=r"DEM has the shape \(2, 1, 32, 64\)"):
        core(given | {"DEM": given["DEM"][:, :, :32]})


@pytest.mark.parametrize("names", list(subsets(tuple(BANDS))))
def test_any_set_of_modalities_gives_one_logit(network: nn.Module, names: tuple[str, ...]) -> None:
    with torch.inference_mode():
        logits = network(inputs(names))
    assert logits.shape == (2, 1, 224, 224)
    assert torch.isfinite(logits).all()


def test_the_order_in_which_modalities_come_changes_no_bit(network: nn.Module) -> None:
    given = inputs(tuple(BANDS))
    with torch.inference_mode():
        assert torch.equal(network(given), network(dict(reversed(given.items()))))


def test_the_encoder_is_terramind_tiny(network: nn.Module) -> None:
    encoder = network.get_submodule("core.encoder")
    assert len(encoder.get_submodule("encoder")) == 12
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(6.07e6, rel=0.01)


def test_the_weights_are_half_precision_and_small() -> None:
    from safetensors import safe_open

    assert SPEC.weights is not None
    assert SPEC.weights.path.stat().st_size <= 20e6
    with safe_open(SPEC.weights.path, "pt") as file:
        dtypes = {file.get_tensor(name).dtype for name in file.keys() if "num_batches" not in name}  # noqa: SIM118
    assert dtypes == {torch.float16}


def test_three_chunkings_and_a_sub_area_give_the_same_bits(cube: xr.Dataset) -> None:
    whole = xglof.segment(cube, model=SPEC, device="cpu").compute()
    for chunks in (280, 130, (97, 211)):
        cut = xglof.segment(cube, model=SPEC, device="cpu", chunks=chunks).compute()
        xr.testing.assert_identical(cut, whole)
    part = {"y": slice(0, None), "x": slice(20, None)}
    inner = {"x": slice(224, None)}
    sub = xglof.segment(cube.isel(part), model=SPEC, device="cpu").compute()
    xr.testing.assert_identical(sub.isel(inner), whole.isel(part).isel(inner))


def test_a_cube_of_one_sensor_is_served(cube: xr.Dataset) -> None:
    seg = xglof.segment(cube[["vv", "vh"]].isel(y=slice(0, 60), x=slice(0, 60)), model=SPEC, device="cpu")
    assert not seg["lake_probability"].isnull().any()
    assert np.unique(seg["flags"]).tolist() == [int(xglof.cube.flags.Flag.s1_used)]
