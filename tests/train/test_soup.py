"""Uniform means of several sets of weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from xglof.errors import TrainError
from xglof.train.soup import soup

Weights = dict[str, Tensor]


def weights(seed: int, **changes: Tensor) -> Weights:
    generator = torch.Generator().manual_seed(seed)
    return {
        "conv.weight": torch.randn(3, 2, generator=generator),
        "norm.running_var": torch.rand(3, generator=generator),
        "norm.num_batches_tracked": torch.tensor(seed),
        "table": torch.arange(4),
    } | changes


@settings(deadline=None, max_examples=40)
@given(number=st.integers(1, 7), scale=st.sampled_from([1e-8, 1.0, 1e8]), seed=st.integers(0, 99))
def test_a_soup_is_the_mean(number: int, scale: float, seed: int) -> None:
    arrays = np.random.default_rng(seed).normal(size=(number, 4, 3)).astype(np.float32) * np.float32(scale)
    found = soup([{"w": torch.from_numpy(array)} for array in arrays])["w"]
    assert found.dtype == torch.float32
    total = np.zeros((4, 3))
    for array in arrays:
        total += array
    assert np.array_equal(found.numpy(), (total / number).astype(np.float32))


def test_integers_are_kept_and_counts_are_those_of_the_last() -> None:
    found = soup([weights(3), weights(9), weights(5)])
    assert torch.equal(found["table"], torch.arange(4))
    assert found["norm.num_batches_tracked"].item() == 5
    assert found["table"].dtype == torch.int64
    with pytest.raises(TrainError, match="table holds integers that differ between member 0 and member 1"):
        soup([weights(0), weights(1, table=torch.arange(4) + 1)])


def test_files_folders_and_state_dicts_are_one_and_the_same(tmp_path: Path) -> None:
    members = [weights(seed) for seed in range(4)]
    save_file(members[0], tmp_path / "a.safetensors")
    (tmp_path / "model").mkdir()
    save_file(members[1], tmp_path / "model" / "weights.safetensors")
    compiled = {f"_orig_mod.{name}": tensor for name, tensor in members[2].items()}
    save_file(compiled, tmp_path / "c.safetensors")
    mixed = [
        tmp_path / "a.safetensors",
        str(tmp_path / "model"),
        tmp_path / "c.safetensors",
        {name.replace("conv", "conv._orig_mod"): tensor for name, tensor in members[3].items()},
    ]
    expected, found = soup(members), soup(mixed)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_soup_loads_into_the_network_and_is_no_view_of_its_members() -> None:
    torch.manual_seed(0)
    members = [nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)) for _ in range(3)]
    target = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    mixed = soup([member.state_dict() for member in members])
    target.load_state_dict(mixed)
    assert torch.equal(target[0].weight, torch.stack([m[0].weight.double() for m in members]).mean(0).float())
    before = mixed["1.num_batches_tracked"].clone()
    members[-1][1].num_batches_tracked += 1
    assert torch.equal(mixed["1.num_batches_tracked"], before)
    assert not any(tensor.requires_grad for tensor in mixed.values())


def test_half_precision_is_widened_and_double_kept() -> None:
    third = torch.tensor([1.0, 0.0, 0.0])
    found = soup([{"h": row.half(), "d": row.double()} for row in third])
    assert found["h"].dtype == torch.float32
    assert found["h"].item() == np.float32(1 / 3)
    assert found["d"].dtype == torch.float64
    assert found["d"].item() == 1 / 3


def test_members_of_other_networks_are_refused_with_their_keys() -> None:
    other = {f"extra.{index}": torch.zeros(1) for index in range(7)} | {
        "conv.weight": torch.zeros(2, 3),
        "table": torch.arange(4),
    }
    with pytest.raises(TrainError) as caught:
        soup([weights(0), weights(1), other])
    assert str(caught.value) == (
        "member 2 is of another network than member 0: lacks norm.running_var, norm.num_batches_tracked; "
        "has besides extra.0, extra.1, extra.2, extra.3, extra.4 and 2 more; "
        "differs in shape conv.weight (2, 3) for (3, 2)"
    )


def test_the_file_of_another_network_is_named(tmp_path: Path) -> None:
    save_file(weights(0), tmp_path / "a.safetensors")
    save_file({"conv.weight": torch.zeros(3, 2)}, tmp_path / "b.safetensors")
    with pytest.raises(TrainError, match=r"b\.safetensors is of another network than .*a\.safetensors"):
        soup([tmp_path / "a.safetensors", tmp_path / "b.safetensors"])


def test_a_number_that_is_not_finite_is_refused() -> None:
    bad = weights(1)
    bad["conv.weight"][1, 1] = torch.inf
    with pytest.raises(TrainError, match=r"conv\.weight of member 1 is not finite; leave that member out"):
        soup([weights(0), bad])


@pytest.mark.parametrize("cut", [0, 5, 60])
def test_a_damaged_file_is_named(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.safetensors"
    save_file(weights(0), path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(TrainError, match=r"a\.safetensors for the soup are no whole safetensors file"):
        soup([path])


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    torch.save(weights(0), tmp_path / "a.ckpt")
    with pytest.raises(TrainError, match="no whole safetensors file"):
        soup([tmp_path / "a.ckpt"])


def test_absent_files_and_empty_soups_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="are not there"):
        soup([weights(0), tmp_path / "none.safetensors"])
    with pytest.raises(TrainError, match="are not there"):
        soup([tmp_path])  # a folder without weights
    for nothing in ([], str(tmp_path), weights(0)):
        with pytest.raises(TrainError, match="made of a list"):
            soup(nothing)
