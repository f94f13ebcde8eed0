"""Rates of every parameter, and frozen blocks."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from xglof.errors import TrainError
from xglof.models.terramind import segmenter, tiny_demo
from xglof.train.optim import bare, freeze_blocks, optimiser, param_groups, plain_name

#: lr, multiplier and decay of the two published stages.
STAGE_A = (4e-5, 0.2, 0.85)
STAGE_B = (6e-5, 0.25, 0.9)


class Backbone(nn.Module):
    """Blocks of a transformer as other libraries name them."""

    def __init__(self, depth: int = 3) -> None:
        super().__init__()
        self.patch_embed = nn.Linear(4, 4)
        self.blocks = nn.Sequential(*(nn.Linear(4, 4) for _ in range(depth)))
        self.norm = nn.LayerNorm(4)


class Foreign(nn.Module):
    """Somebody's own network."""

    def __init__(self, depth: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 1)
        self.backbone = Backbone(depth)
        self.head = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        back = self.backbone
        return self.head(back.norm(back.blocks(back.patch_embed(x))))


@cache
def cryosentinel() -> nn.Module:
    """The published architecture, without numbers in it."""
    with torch.device("meta"):
        return segmenter(size="large", modalities=["S2L2A", "S1GRD", "DEM"])


@cache
def demo() -> nn.Module:
    return tiny_demo()


def rates(network: nn.Module, groups: list[dict]) -> dict[str, float]:
    """The rate of each parameter by name; fails where a parameter is in two groups."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found = [(names[id(p)], group["lr"]) for group in groups for p in group["params"]]
    assert len(found) == len(dict(found))
    return dict(found)


def published(name: str, lr: float, multiplier: float, decay: float, depth: int) -> float:
    """The rate that the recipe gives a parameter, from its name alone."""
    if block := re.match(r"encoder\.encoder\.(\d+)\.", name):
        return lr * multiplier * decay ** (depth - int(block[1]))
    return lr * multiplier * decay ** (depth + 1) if name.startswith("encoder.") else lr


@pytest.mark.parametrize("stage", [STAGE_A, STAGE_B])
def test_every_rate_of_cryosentinel_is_the_published_one(stage: tuple[float, float, float]) -> None:
    lr, multiplier, decay = stage
    network = cryosentinel()
    groups = param_groups(network, lr=lr, layer_decay=decay, backbone_multiplier=multiplier)
    found = rates(network, groups)
    assert sum(p.numel() for group in groups for p in group["params"]) == sum(
        p.numel() for p in network.parameters()
    )
    assert found == {
        name: pytest.approx(published(name, *stage, depth=24), rel=1e-12)
        for name, _ in network.named_parameters()
    }
    assert len({round(rate / lr, 9) for rate in found.values()}) == 26  # 24 blocks, embeddings, decoder


def test_shares_that_the_recipe_quotes() -> None:
    lr, multiplier, decay = STAGE_B
    found = rates(
        cryosentinel(),
        param_groups(cryosentinel(), lr=lr, layer_decay=decay, backbone_multiplier=multiplier),
    )
    for block, share in {23: 0.225, 15: 0.097, 6: 0.038, 0: 0.020}.items():
        assert found[f"encoder.encoder.{block}.attn.qkv.weight"] / lr == pytest.approx(share, abs=6e-4)
    assert found["encoder.encoder_embeddings.untok_dem@224.proj.weight"] / lr == pytest.approx(0.25 * 0.9**25)
    assert found["head.head.2.weight"] == found["neck.2.fpn1.0.weight"] == lr


def test_an_encoder_inside_of_another_network_is_found() -> None:
    found = rates(demo(), param_groups(demo(), lr=1.0, layer_decay=0.5))
    for name, rate in found.items():
        inner = name.removeprefix("core.") if name.startswith("core.") else "decoder"
        assert rate == published(inner, 1.0, 1.0, 0.5, depth=12), name
    assert len(found) == len(list(demo().parameters()))


class Part(nn.Module):
    """The parts that the encoder of any TerraMind has, whoever wrote the class."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder_embeddings = nn.ModuleDict({"dem": nn.Linear(2, 2)})
        self.encoder = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        self.encoder_norm = nn.LayerNorm(2)


def test_blocks_are_known_by_the_parts_of_the_encoder_not_by_its_class() -> None:
    network = nn.ModuleDict({"model": nn.ModuleDict({"encoder": Part()}), "head": nn.Linear(2, 1)})
    found = rates(network, param_groups(network, lr=1.0, layer_decay=0.5))
    expected = {"encoder_embeddings.dem": 0.125, "encoder.0": 0.25, "encoder.1": 0.5, "encoder_norm": 0.125}
    assert found == {
        f"{name}.{kind}": rate
        for name, rate in {f"model.encoder.{n}": r for n, r in expected.items()}.items() | {("head", 1.0)}
        for kind in ("weight", "bias")
    }


def compiled(network: nn.Module) -> nn.Module:
    return torch.compile(network, backend="eager")


def compiled_inside(network: nn.Module) -> nn.Module:
    """The encoder and each of its blocks compiled by itself, the usual way for large networks."""
    for index, block in enumerate(network.encoder.encoder):
        network.encoder.encoder[index] = torch.compile(block, backend="eager")
    network.encoder = torch.compile(network.encoder, backend="eager")
    return network


def parallel(network: nn.Module) -> nn.Module:
    return nn.DataParallel(network)


def parallel_compiled(network: nn.Module) -> nn.Module:
    return torch.compile(parallel(compiled(network)), backend="eager")


def small(size: str = "tiny") -> nn.Module:
    with torch.device("meta"):
        return segmenter(size=size, modalities=["DEM"], decoder_channels=4)


@pytest.mark.parametrize("wrap", [compiled, compiled_inside, parallel, parallel_compiled])
def test_wrappers_change_no_rate(wrap: Callable[[nn.Module], nn.Module]) -> None:
    settings = {"lr": 1.0, "layer_decay": 0.5, "backbone_multiplier": 0.5, "freeze": 2}
    plain, wrapped = small(), wrap(small())
    expected = param_groups(plain, **settings)
    found = param_groups(wrapped, **settings)
    assert any(plain_name(name) != name for name, _ in wrapped.named_parameters()) or wrap is parallel
    key = ["name", "lr", "weight_decay"]
    assert [[g[k] for k in key] for g in found] == [[g[k] for k in key] for g in expected]
    assert [[p.shape for p in g["params"]] for g in found] == [
        [p.shape for p in g["params"]] for g in expected
    ]


def test_distributed_networks_are_looked_through() -> None:
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        network = Foreign()
        wrapped = torch.compile(nn.parallel.DistributedDataParallel(network), backend="eager")
        assert bare(wrapped) is network
        settings = {"lr": 1.0, "layer_decay": 0.5, "blocks": "backbone.blocks"}
        assert rates(network, param_groups(wrapped, **settings)) == rates(
            network, param_groups(network, **settings)
        )
    finally:
        torch.distributed.destroy_process_group()


def test_a_network_of_ones_own_names_its_blocks() -> None:
    network = Foreign()
    found = rates(network, param_groups(network, lr=1.0, layer_decay=0.5, blocks="backbone.blocks"))
    expected = {
        "stem": 1.0,
        "backbone.patch_embed": 0.0625,
        "backbone.blocks.0": 0.125,
        "backbone.blocks.1": 0.25,
        "backbone.blocks.2": 0.5,
        "backbone.norm": 0.0625,
        "head": 1.0,
    }
    assert found == {f"{n}.{kind}": rate for n, rate in expected.items() for kind in ("weight", "bias")}


def test_the_encoder_may_be_more_than_what_holds_the_blocks() -> None:
    network = nn.ModuleDict({"net": Foreign(), "head": nn.Linear(1, 1)})
    where = {"blocks": "net.backbone.blocks", "encoder": "net"}
    found = rates(network, param_groups(network, lr=1.0, layer_decay=0.5, **where))
    assert found["net.stem.weight"] == found["net.head.weight"] == 0.0625
    assert found["head.weight"] == 1.0


def test_blocks_right_under_the_network_are_the_encoder_by_themselves() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)))
    found = rates(network, param_groups(network, lr=1.0, layer_decay=0.5, blocks="1"))
    # what has no parameters is no block
    assert found == {"0.weight": 1, "0.bias": 1, "1.0.weight": 0.25, "1.0.bias": 0.25} | {
        "1.2.weight": 0.5,
        "1.2.bias": 0.5,
    }


def test_a_network_without_blocks_learns_at_one_rate() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1))
    (group,) = param_groups(network, lr=0.1, decayed="all")
    assert group["lr"] == 0.1
    assert list(map(id, group["params"])) == list(map(id, network.parameters()))
    for settings in ({"layer_decay": 0.9}, {"backbone_multiplier": 0.1}):
        with pytest.raises(TrainError, match="name its blocks"):
            param_groups(network, lr=0.1, **settings)
    with pytest.raises(TrainError, match="no blocks that are known"):
        param_groups(network, lr=0.1, freeze=1)


def test_vectors_have_no_weight_decay_unless_all_have() -> None:
    network = demo()
    names = {id(p): name for name, p in network.named_parameters()}
    groups = param_groups(network, lr=1.0, weight_decay=0.05)
    spared = {names[id(p)] for g in groups if g["weight_decay"] == 0 for p in g["params"]}
    assert {g["weight_decay"] for g in groups} == {0, 0.05}
    assert spared == {name for name, p in network.named_parameters() if p.ndim < 2}
    # what the published code spares by its words is spared as well
    assert spared >= {name for name in names.values() if re.search(r"bias|norm\.weight", name)}
    assert {g["weight_decay"] for g in param_groups(network, lr=1.0, weight_decay=0.05, decayed="all")} == {
        0.05
    }
    assert len({g["name"] for g in groups}) == len(groups)


def test_a_shared_parameter_is_in_one_group() -> None:
    network = Foreign()
    network.head.weight = network.backbone.patch_embed.weight
    groups = param_groups(network, lr=1.0, layer_decay=0.5, blocks="backbone.blocks")
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(map(id, network.parameters()))


def test_frozen_parameters_are_in_no_group() -> None:
    network = small()
    groups = param_groups(network, lr=1.0, layer_decay=0.5, freeze=5)
    still = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert still == {
        name
        for name, _ in network.named_parameters()
        if name.startswith("encoder.encoder_embeddings.") or re.match(r"encoder\.encoder\.[0-4]\.", name)
    }
    assert rates(network, groups).keys() == dict(network.named_parameters()).keys() - still
    assert network.encoder.encoder_norm.weight.requires_grad  # it comes after the blocks
    lowest = min(group["lr"] for group in groups if group["name"].startswith("block"))
    assert lowest == 0.5**7


def test_what_a_user_froze_stays_frozen() -> None:
    network = Foreign()
    network.stem.requires_grad_(False)
    groups = param_groups(network, lr=1.0, freeze=1, blocks="backbone.blocks")
    assert not network.stem.weight.requires_grad
    assert "stem.weight" not in rates(network, groups)


@pytest.mark.parametrize("count", [-1, 4])
def test_more_blocks_than_there_are_cannot_be_frozen(count: int) -> None:
    with pytest.raises(TrainError, match=f"can't freeze {count} blocks of a network with 3 blocks"):
        freeze_blocks(Foreign(), count, blocks="backbone.blocks")


def test_nothing_left_to_learn_is_said() -> None:
    with pytest.raises(TrainError, match="no parameter of the network takes a gradient"):
        param_groups(nn.Linear(1, 1).requires_grad_(False), lr=1.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0.0}, "lr 0.0 must be above 0"),
        ({"lr": math.nan}, "lr nan must be above 0"),
        ({"weight_decay": -1.0}, "weight_decay -1.0"),
        ({"layer_decay": 1.5}, "layer_decay 1.5"),
        ({"layer_decay": 0.0}, "layer_decay 0.0"),
        ({"backbone_multiplier": 0.0}, "freeze blocks to stop them"),
        ({"blocks": "backbone.layers"}, "no part 'backbone.layers'; backbone has patch_embed, blocks, norm"),
        ({"blocks": "back"}, "no part 'back'; the network has stem, backbone, head"),
        ({"blocks": "head"}, "no children with parameters"),
        ({"encoder": "backbone"}, "without its blocks"),
        ({"blocks": "backbone.blocks", "encoder": "head"}, "no part of the encoder 'head'"),
        ({"betas": (0.9,)}, "must be two numbers"),
        ({"betas": (0.9, 1.0)}, "from 0 to below 1"),
    ],
)
def test_bad_settings_are_refused_before_anything_changes(settings: dict, message: str) -> None:
    network = Foreign()
    with pytest.raises(TrainError, match=re.escape(message)):
        optimiser(network, **{"lr": 1.0, "freeze": 0} | settings)
    assert all(p.requires_grad for p in network.parameters())


def test_two_encoders_are_not_guessed_between() -> None:
    network = nn.ModuleDict({"a": Part(), "b": Part()})
    with pytest.raises(TrainError, match=r"several encoders; pass one of a\.encoder, b\.encoder as blocks"):
        param_groups(network, lr=1.0)
    assert rates(network, param_groups(network, lr=1.0, layer_decay=0.5, blocks="b.encoder"))[
        "a.encoder.0.weight"
    ] == pytest.approx(1.0)


def test_the_first_step_of_adam_moves_each_part_by_its_rate() -> None:
    torch.manual_seed(0)
    network = Foreign()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    adam = optimiser(network, lr=1e-2, weight_decay=0, layer_decay=0.5, blocks="backbone.blocks", freeze=1)
    expected = rates(network, adam.param_groups)
    for p in network.parameters():
        p.grad = torch.ones_like(p) if p.requires_grad else None
    adam.step()
    for name, p in network.named_parameters():
        moved = (before[name] - p.detach()).abs()
        assert torch.allclose(moved, torch.full_like(moved, expected.get(name, 0.0)), atol=1e-7), name


def test_weight_decay_shrinks_matrices_alone() -> None:
    network = nn.Linear(2, 2)
    nn.init.ones_(network.weight)
    nn.init.ones_(network.bias)
    adam = optimiser(network, lr=0.1, weight_decay=0.5, betas=(0.5, 0.6))
    assert [group["betas"] for group in adam.param_groups] == [(0.5, 0.6)] * 2
    for p in network.parameters():
        p.grad = torch.zeros_like(p)
    adam.step()
    assert network.weight.detach().flatten().tolist() == pytest.approx([0.95] * 4)
    assert network.bias.tolist() == [1, 1]
