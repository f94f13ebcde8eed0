"""Layer-wise decay, running means, a soup and measured statistics together, from one seed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from xglof.train.average import ema, recalibrate_batch_norm, swa
from xglof.train.optim import optimiser, warmup_cosine
from xglof.train.soup import soup

STEPS = 24
SNAPSHOTS = (16, 20, 24)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads wait for each other over tensors as small as these, on a machine with other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Toy(nn.Module):
    """Residual blocks behind an embedding, and a decoder with a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.embedding = nn.Conv2d(2, 4, 3, padding=1)
        self.encoder.blocks = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.decoder = nn.Sequential(nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1))
        self.head = nn.Conv2d(8, 1, 1)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        x = self.encoder.embedding(inputs["S1RTC"])
        for block in self.encoder.blocks:
            x = x + torch.tanh(block(x))
        return self.head(self.decoder(x))


def chips(seed: int, step: int) -> tuple[dict[str, Tensor], Tensor]:
    """Noise in which a square is darker: a lake that can be found."""
    generator = torch.Generator().manual_seed(1000 * seed + step)
    lake = torch.zeros(4, 1, 12, 12)
    top, left = torch.randint(0, 6, (2,), generator=generator).tolist()
    lake[..., top : top + 6, left : left + 6] = 1
    return {"S1RTC": torch.randn(4, 2, 12, 12, generator=generator) - 3 * lake}, lake


class Run:
    """All that goes on from step to step, from a seed."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.seed, self.network = seed, Toy()
        adam = optimiser(
            self.network, lr=0.02, layer_decay=0.8, backbone_multiplier=0.5, blocks="encoder.blocks"
        )
        self.parts = {
            "network": self.network,
            "optimiser": adam,
            "schedule": warmup_cosine(adam, steps=STEPS, warmup=3, floor=0.1, floor_from=0.8),
            "ema": ema(self.network, decay=0.8),
            "swa": swa(self.network, steps=STEPS, start=0.5, every=2),
        }
        self.losses: list[float] = []
        self.trail: list[dict[str, Tensor]] = []

    def train(self, until: int) -> None:
        for step in range(len(self.losses), until):
            torch.manual_seed(1_000_000 * self.seed + step)  # of the dropout
            inputs, lake = chips(self.seed, step)
            loss = F.binary_cross_entropy_with_logits(self.network.train()(inputs), lake)
            self.parts["optimiser"].zero_grad()
            loss.backward()
            self.parts["optimiser"].step()
            self.parts["schedule"].step()
            for name in ("ema", "swa"):
                self.parts[name].update(self.network)
            self.losses.append(loss.item())
            self.trail.append({name: t.clone() for name, t in self.network.state_dict().items()})

    def saved(self) -> io.BytesIO:
        file = io.BytesIO()
        torch.save({name: part.state_dict() for name, part in self.parts.items()}, file)
        file.seek(0)
        return file

    def finish(self, folder: Path) -> dict[str, dict[str, Tensor]]:
        """The three averages with their own batch statistics, by way of files where there are files."""
        for step in SNAPSHOTS:
            save_file(self.trail[step - 1], folder / f"{step}.safetensors")
        mixed = Toy()
        mixed.load_state_dict(soup([folder / f"{step}.safetensors" for step in SNAPSHOTS]))
        networks = {"ema": self.parts["ema"].network, "swa": self.parts["swa"].network, "soup": mixed}
        for network in networks.values():
            recalibrate_batch_norm(network, (chips(self.seed, step)[0] for step in range(5)))
        return {name: network.state_dict() for name, network in networks.items()}


@cache
def whole(seed: int = 0) -> Run:
    run = Run(seed)
    run.train(STEPS)
    return run


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(t, second[name]) for name, t in first.items())


def test_a_seed_gives_the_same_averages_and_another_seed_others(tmp_path: Path) -> None:
    again, other = Run(0), Run(1)
    again.train(STEPS)
    other.train(STEPS)
    assert again.losses == whole().losses != other.losses
    results = []
    for number, run in enumerate((whole(), again, other)):
        (tmp_path / str(number)).mkdir()
        results.append(run.finish(tmp_path / str(number)))
    for name in ("ema", "swa", "soup"):
        assert same(results[0][name], results[1][name])
        assert not same(results[0][name], results[2][name])


@pytest.mark.parametrize("cut", [1, 13, 23])
def test_a_killed_and_resumed_run_ends_with_the_same_bits(tmp_path: Path, cut: int) -> None:
    begun, resumed = Run(0), Run(77)
    begun.train(cut)
    saved = torch.load(begun.saved(), weights_only=True)
    for name, part in resumed.parts.items():
        part.load_state_dict(saved[name])
    resumed.seed, resumed.losses, resumed.trail = 0, begun.losses, begun.trail
    resumed.train(STEPS)
    assert resumed.losses == whole().losses
    found, expected = resumed.finish(tmp_path), whole().finish(tmp_path)
    assert all(same(found[name], expected[name]) for name in expected)


def test_the_averages_are_those_of_the_trail(tmp_path: Path) -> None:
    found = whole().finish(tmp_path)
    for name, _ in Toy().named_parameters():
        trail = [weights[name].double().numpy() for weights in whole().trail]
        smooth = trail[0]
        for values in trail[1:]:
            smooth = 0.8 * smooth + 0.2 * values
        expected = {
            "ema": smooth,
            "swa": np.mean(trail[13::2], axis=0),  # after steps 14, 16, ... 24
            "soup": np.mean([trail[step - 1] for step in SNAPSHOTS], axis=0),
        }
        for average, values in expected.items():
            assert found[average][name].numpy() == pytest.approx(values, abs=1e-6), (average, name)


def test_layers_learn_at_their_rates_and_the_averages_have_learned(tmp_path: Path) -> None:
    assert whole().losses[-1] < 0.7 * whole().losses[0]
    rates = {group["name"]: group["lr"] for group in whole().parts["optimiser"].param_groups}
    # the run is over: all are at the floor, in the ratios that they began with
    assert rates["decoder"] == pytest.approx(0.002)
    for block in range(3):
        assert rates[f"block {block}"] == pytest.approx(0.002 * 0.5 * 0.8 ** (3 - block))
    assert rates["embeddings"] == pytest.approx(0.002 * 0.5 * 0.8**4)
    for weights in whole().finish(tmp_path).values():
        network = Toy().eval()
        network.load_state_dict(weights)
        inputs, lake = chips(99, 0)
        loss = F.binary_cross_entropy_with_logits(network(inputs), lake)
        assert loss < 0.7 * whole().losses[0]
