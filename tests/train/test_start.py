"""What a training begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import learners
from xglof.errors import TrainError
from xglof.train.start import first_network, spec_of


def first_weights(folder: Path, **model: Any) -> dict[str, torch.Tensor]:
    config = learners.config(folder, folder, model=model)
    return first_network(config, spec_of(config)).state_dict()


def test_where_a_training_starts(tmp_path: Path) -> None:
    torch.manual_seed(7)
    state = learners.small().state_dict()
    torch.save({"state_dict": {f"model._orig_mod.{key}": v for key, v in state.items()}}, tmp_path / "a.ckpt")
    loaded = first_weights(tmp_path, start=str(tmp_path / "a.ckpt"))
    assert all(torch.equal(loaded[key], value) for key, value in state.items())

    random, again = first_weights(tmp_path), first_weights(tmp_path, start="random")
    assert all(torch.equal(random[key], again[key]) for key in random)
    radar = {"weight": state["radar.weight"], "bias": state["radar.bias"], "another.bias": state["head.bias"]}
    save_file(radar, tmp_path / "part.safetensors")
    start = str(tmp_path / "part.safetensors")
    part = first_weights(tmp_path, start=start, part="radar")
    assert torch.equal(part["radar.weight"], state["radar.weight"])
    assert torch.equal(part["head.weight"], random["head.weight"]), "the rest begins at random"
    with pytest.raises(TrainError, match=r"part\.safetensors lacks running_mean, running_var"):
        first_weights(tmp_path, start=start, part="norm")
    with pytest.raises(TrainError, match="no part 'rader'; it has radar, slope, norm"):
        first_weights(tmp_path, start=start, part="rader")


def test_a_part_begins_with_the_average_that_is_asked_for(tmp_path: Path) -> None:
    torch.manual_seed(7)
    state = learners.small().state_dict()
    average = {key: tensor + 1 for key, tensor in state.items() if "running" not in key and "num" not in key}
    shadow = {f"_orig_mod.{key}": tensor for key, tensor in average.items()}
    whole = {f"model._orig_mod.{key}": tensor for key, tensor in state.items()}
    torch.save({"state_dict": whole, "callbacks": {"EMA": {"shadow": shadow}}}, tmp_path / "both.ckpt")
    start = {"start": str(tmp_path / "both.ckpt"), "part": "norm"}
    for which, added in (("auto", 0), ("model", 0), ("ema", 1)):
        found = first_weights(tmp_path, **start, which=which)
        assert torch.equal(found["norm.weight"], state["norm.weight"] + added), which
        assert torch.equal(found["norm.running_var"], state["norm.running_var"]), "an average has no buffers"
    shadow = {"head.bias": state["head.bias"]}
    torch.save({"state_dict": whole, "callbacks": {"EMA": {"shadow": shadow}}}, tmp_path / "both.ckpt")
    with pytest.raises(TrainError, match=r"average in .*both\.ckpt has nothing of the part 'norm'"):
        first_weights(tmp_path, **start, which="ema")
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(TrainError, match="holds no 'ema' weights"):
        first_weights(tmp_path, start=str(tmp_path / "model.safetensors"), part="norm", which="ema")
