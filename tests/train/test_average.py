"""Running means of weights, and batch statistics measured again."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from xglof.errors import TrainError
from xglof.train.average import RunningAverage, ema, recalibrate_batch_norm, swa


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads wait for each other over tensors as small as these, on a machine with other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Net(nn.Module):
    """Convolutions with batch norms; tables and counts of integers among the buffers."""

    table: Tensor
    scale: Tensor
    scratch: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.5)
        self.second, self.norm2 = nn.Conv2d(3, 1, 1), nn.BatchNorm2d(1, momentum=0.3)
        self.register_buffer("table", torch.arange(50))
        self.register_buffer("scale", torch.ones(2, dtype=torch.float64))
        self.register_buffer("scratch", torch.zeros(1), persistent=False)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        deep = self.drop(F.relu(self.norm1(self.first(inputs["S1RTC"]))))
        return self.norm2(self.second(deep))


def filled(value: float) -> nn.Module:
    network = Net()
    with torch.no_grad():
        for tensor in [*network.parameters(), network.scale, network.norm1.running_mean]:
            tensor.fill_(value)
    return network


def fed(average: RunningAverage, values: list[float]) -> RunningAverage:
    for value in values:
        average.update(filled(value))
    return average


def stepping(network: nn.Module, steps: int) -> Iterator[nn.Module]:
    """The same network with other numbers each time, and another count of batches."""
    generator = torch.Generator().manual_seed(5)
    for _ in range(steps):
        with torch.no_grad():
            for tensor in [*network.parameters(), network.norm1.running_var, network.scratch]:
                tensor.add_(torch.randn(tensor.shape, generator=generator))
            network.norm1.num_batches_tracked += 1
        yield network


@settings(deadline=None, max_examples=40)
@given(values=st.lists(st.floats(-100, 100), min_size=1, max_size=12), decay=st.floats(0, 0.9999))
def test_an_exponential_mean_equals_the_loop(values: list[float], decay: float) -> None:
    mean = fed(ema(filled(7.0), decay=decay), values).network
    expected = values[0]
    for value in values[1:]:
        expected = decay * expected + (1 - decay) * value
    for tensor in (*mean.parameters(), mean.scale, mean.norm1.running_mean):
        assert tensor.numpy() == pytest.approx(np.full(tensor.shape, expected), rel=1e-5, abs=1e-4)


@settings(deadline=None, max_examples=40)
@given(
    steps=st.integers(1, 25),
    start=st.floats(0, 0.99),
    every=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_an_even_mean_holds_the_last_part_of_the_run(steps: int, start: float, every: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=steps).astype(np.float32)
    average = fed(swa(filled(7.0), steps=steps, start=start, every=every), values.tolist())
    taken = [number for number in range(steps, 0, -every) if number > start * steps]
    assert (average.count, average.seen) == (len(taken), steps)
    expected = np.mean([values[number - 1] for number in taken], dtype=np.float64)
    assert average.network.first.bias.numpy() == pytest.approx(np.full(3, expected), abs=1e-6)


def test_the_published_stage_averages_its_last_eighteen_epochs() -> None:
    average = swa(filled(0.0), steps=30 * 4, start=0.4, every=4)
    taken = []
    for step in range(120):
        before = average.count
        average.update(filled(0.0))
        taken += [step + 1] * (average.count - before)
    assert taken == list(range(13 * 4, 121, 4))


@pytest.mark.parametrize("kind", [lambda n: ema(n, decay=0.9), lambda n: swa(n, steps=9, start=0)])
def test_integers_stay_what_they_are(kind: Callable[[nn.Module], RunningAverage]) -> None:
    network = Net()
    average = kind(network)
    for _ in stepping(network, 9):
        average.update(network)
    # torch's own EMA cuts 3 x .9 + 3 x .1 to 2, and its SWA refuses integers
    assert torch.equal(average.network.table, torch.arange(50))
    assert average.network.norm1.num_batches_tracked.item() == 9


def test_buffers_may_follow_the_network() -> None:
    values = [1.0, 5.0, 7.0]
    mean = fed(ema(filled(0.0), decay=0.5, buffers="follow"), values).network
    assert mean.scale.tolist() == [7, 7]
    assert mean.first.bias.tolist() == [(1 + 5) / 4 + 7 / 2] * 3


def test_the_average_is_a_network_of_its_own() -> None:
    network = Net()
    average = ema(network, decay=0.9)
    list(map(average.update, stepping(network, 3)))
    before = copy.deepcopy(average.network.state_dict())
    for tensor in [*network.parameters(), *network.buffers()]:
        tensor.detach().zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in average.network.state_dict().items())
    assert not average.network.training
    assert network.training
    assert not any(p.requires_grad for p in average.network.parameters())
    assert all(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("cut", [0, 1, 6, 11])
@pytest.mark.parametrize(
    "kind", [lambda n: ema(n, decay=0.97), lambda n: swa(n, steps=12, start=0.4, every=2)], ids=["ema", "swa"]
)
def test_a_resumed_average_ends_with_the_same_bits(
    kind: Callable[[nn.Module], RunningAverage], cut: int
) -> None:
    network = filled(1.0)
    whole, begun = kind(network), kind(network)
    for step, _ in enumerate(stepping(network, 12)):
        if step == cut:
            file = io.BytesIO()
            torch.save(begun.state_dict(), file)
            file.seek(0)
            begun = kind(filled(-3.0))
            begun.load_state_dict(torch.load(file, weights_only=True))
        whole.update(network)
        begun.update(network)
    assert (whole.count, whole.seen) == (begun.count, begun.seen)
    assert whole.count > 1
    found = [*begun.network.parameters(), *begun.network.buffers()]  # also those that no file holds
    for tensor, expected in zip(found, [*whole.network.parameters(), *whole.network.buffers()], strict=True):
        assert torch.equal(tensor, expected)


def test_a_compiled_network_is_averaged_under_its_own_names() -> None:
    network = Net()
    wrapped = torch.compile(network, backend="eager")
    average, plain = ema(wrapped, decay=0.9), ema(network, decay=0.9)
    for _ in stepping(network, 3):
        average.update(wrapped)
        plain.update(network)
    assert average.state_dict()["network"].keys() == network.state_dict().keys()
    for name, tensor in plain.network.state_dict().items():
        assert torch.equal(tensor, average.network.state_dict()[name])


def test_parts_that_were_compiled_by_themselves_are_averaged() -> None:
    network = nn.ModuleDict({"a": nn.Linear(1, 1)})
    average = ema(network, decay=0.5)
    network["a"] = torch.compile(network["a"], backend="eager")
    for value in (0.0, 1.0):
        nn.init.constant_(network["a"].weight, value)
        average.update(network)
    assert average.network["a"].weight.item() == 0.5
    compiled = ema(network, decay=0.5)
    compiled.update(network)
    assert compiled.network["a"].weight.item() == 1


def test_another_network_is_refused() -> None:
    average = ema(nn.Linear(2, 2), decay=0.9)
    with pytest.raises(TrainError, match=r"another network.*lacks bias"):
        average.update(nn.Linear(2, 2, bias=False))
    with pytest.raises(TrainError, match=r"differs in shape weight \(2, 3\) for \(2, 2\)"):
        average.update(nn.Linear(3, 2))
    with pytest.raises(TrainError, match="is of another network"):
        average.load_state_dict(ema(nn.Linear(3, 2), decay=0.9).state_dict())
    assert average.seen == 0


def test_half_precision_is_refused() -> None:
    with pytest.raises(TrainError, match=r"first\.weight is torch\.bfloat16.*mixed precision"):
        ema(Net().bfloat16(), decay=0.999)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ema(Net(), decay=1.0),
        lambda: ema(Net(), decay=float("nan")),
        lambda: swa(Net(), steps=0),
        lambda: swa(Net(), steps=5, start=1.0),
        lambda: swa(Net(), steps=5, every=0),
    ],
)
def test_averages_of_nothing_are_refused(make: Callable[[], RunningAverage]) -> None:
    with pytest.raises(TrainError, match="must be"):
        make()


def test_an_average_that_has_not_begun_is_said() -> None:
    average = swa(Net(), steps=4, start=0.5)
    average.update(Net())
    with pytest.raises(TrainError, match="nothing has been averaged after 1 updates"):
        _ = average.network


def batches(number: int = 5, seed: int = 0) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        {"S1RTC": 3 + (index + 1) * torch.randn(4, 2, 6, 5, generator=generator)} for index in range(number)
    ]


def plain_statistics(network: Net, inputs: list[dict[str, Tensor]]) -> list[np.ndarray]:
    """Means of the batches' means and unbiased variances of both layers, in float64 by hand."""
    rows: list[list[np.ndarray]] = [[], [], [], []]
    network = copy.deepcopy(network).double()
    for batch in inputs:
        x = network.first(batch["S1RTC"].double()).detach().numpy()
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
        rows[0].append(mean)
        rows[1].append(x.var((0, 2, 3), ddof=1))
        x = (x - mean[:, None, None]) / np.sqrt(variance + network.norm1.eps)[:, None, None]
        gain, shift = (p.detach().numpy()[:, None, None] for p in network.norm1.parameters())
        x = np.maximum(x * gain + shift, 0)  # no dropout: inference has none
        x = network.second(torch.from_numpy(x)).detach().numpy()
        rows[2].append(x.mean((0, 2, 3)))
        rows[3].append(x.var((0, 2, 3), ddof=1))
    return [np.mean(row, axis=0) for row in rows]


def drawn() -> Net:
    torch.manual_seed(3)
    network = Net()
    network.norm1.running_var.fill_(9.0)
    for parameter in network.norm1.parameters():
        nn.init.uniform_(parameter, 0.5, 2)
    return network


@pytest.mark.parametrize("wrapped", [False, True])
def test_statistics_are_the_plain_means_over_the_batches(wrapped: bool) -> None:
    network = drawn()
    expected = plain_statistics(network, batches())
    given = torch.compile(network, backend="eager") if wrapped else network
    assert recalibrate_batch_norm(given, iter(batches())) == 5
    found = [s for norm in (network.norm1, network.norm2) for s in (norm.running_mean, norm.running_var)]
    for tensor, values in zip(found, expected, strict=True):
        assert tensor.numpy() == pytest.approx(values, rel=1e-5, abs=1e-6)
    assert network.norm1.num_batches_tracked.item() == 5


def test_all_but_the_statistics_is_left_as_it_was() -> None:
    network = drawn()
    network.norm2.eval()
    network.norm1.momentum = None
    statistics = {name for name in network.state_dict() if "running" in name or "num_batches" in name}
    before = copy.deepcopy(network)
    recalibrate_batch_norm(network, batches())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before.state_dict()[name]) == (name not in statistics), name
    assert [m.training for m in network.modules()] == [m.training for m in before.modules()]
    assert (network.norm1.momentum, network.norm2.momentum) == (None, 0.3)
    assert all(p.requires_grad and p.grad is None for p in network.parameters())


def test_a_network_without_batch_norm_is_not_run() -> None:
    def never() -> Iterator[dict[str, Tensor]]:
        raise AssertionError("a batch was read")
        yield {}

    network = nn.Sequential(nn.Linear(1, 1), nn.LayerNorm(1), nn.BatchNorm1d(1, track_running_stats=False))
    assert recalibrate_batch_norm(network, never()) == 0
    assert network.training


class Branches(nn.Module):
    """A batch norm for each modality."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleDict({name: nn.BatchNorm2d(1) for name in ("S1RTC", "DEM")})

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return torch.cat([self.norms[name](x[:, :1]) for name, x in inputs.items()])


def test_a_layer_that_no_batch_reaches_keeps_its_statistics() -> None:
    network = Branches()
    network.norms["DEM"].running_mean.fill_(2.5)
    recalibrate_batch_norm(network, batches(2))
    assert network.norms["DEM"].running_mean.item() == 2.5
    assert network.norms["S1RTC"].running_mean.item() == pytest.approx(
        np.mean([b["S1RTC"][:, 0].mean() for b in batches(2)]), rel=1e-5
    )


def broken() -> Iterator[dict[str, Tensor]]:
    yield from batches(2)
    raise OSError("the disk is gone")


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (lambda: [], TrainError, "no batch"),
        (broken, OSError, "the disk is gone"),
        (lambda: [{"S1RTC": torch.full((2, 2, 4, 4), torch.nan)}], TrainError, "norm1 normalises are not"),
        (lambda: [{"S1RTC": torch.ones(1, 2, 3, 3)}], TrainError, "a batch of one chip"),
        (lambda: [*batches(1), {"S1RTC": torch.ones(1, 3, 3, 3)}], RuntimeError, "to have 2 channels"),
    ],
)
def test_a_failure_leaves_everything_as_it_was(
    inputs: Callable, error: type[Exception], message: str
) -> None:
    network = drawn()
    before = copy.deepcopy(network)
    with pytest.raises(error, match=message):
        recalibrate_batch_norm(network, inputs())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before.state_dict()[name]), name
    assert [m.training for m in network.modules()] == [m.training for m in before.modules()]
    assert (network.norm1.momentum, network.norm2.momentum) == (0.1, 0.3)
