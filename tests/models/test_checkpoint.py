"""Checkpoints in the forms that trainers leave them in, made here: the published ones were never at hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import TINY, TOY, assert_equal, learned, lightning, numbers, prefixed, saved, taken, toy
from safetensors.torch import save_file
from torch import Tensor, nn

from xglof import ModelError
from xglof.models.checkpoint import fit_checkpoint, read_checkpoint
from xglof.models.convert import convert_checkpoint
from xglof.models.folder import read_source
from xglof.models.registry import CRYOSENTINEL, get_spec


@pytest.mark.parametrize("prefix", ["model.", "model._orig_mod."])
def test_the_published_form_is_loaded_strictly(prefix: str, tmp_path: Path) -> None:
    path = saved(lightning(prefixed(prefix, numbers(1))), tmp_path)
    converted = convert_checkpoint(path, tmp_path / "model", model=TINY)
    network = TINY.build()
    assert converted.spec.weights is not None
    converted.spec.weights.load_into(network)
    assert_equal(dict(network.state_dict()), numbers(1))
    assert converted.source["which"] == "model"
    assert read_source(tmp_path / "model") == converted.source


@pytest.mark.parametrize("prefix", ["_orig_mod.model.", "model.module.", "network.", "net._orig_mod.", ""])
def test_other_prefixes_come_off(prefix: str, tmp_path: Path) -> None:
    assert_equal(taken(saved(lightning(prefixed(prefix, toy(1))), tmp_path), spec=TOY), toy(1))


@pytest.mark.parametrize("prefix", ["model.", "model._orig_mod."])
def test_the_average_of_a_callback_is_completed_by_the_model(prefix: str, tmp_path: Path) -> None:
    shadow = prefixed(prefix, {name: numbers(2)[name] for name in numbers(2) if name in learned()})
    ema = {"decay": 0.999, "shadow": shadow, "initialised": True}
    path = saved(lightning(prefixed(prefix, numbers(1)), callbacks={"EMA": ema}), tmp_path)
    fixed = [name for name in numbers(1) if name not in learned()]
    assert any("running_mean" in name for name in fixed)
    assert any("pos_emb" in name for name in fixed)
    expected = numbers(2) | {name: numbers(1)[name] for name in fixed}
    assert_equal(taken(path, "ema"), expected)
    assert fit_checkpoint(TINY, read_checkpoint(path), "ema").completed == tuple(fixed)
    assert_equal(taken(path), numbers(1))  # what the training's own loader loads
    source = convert_checkpoint(path, tmp_path / "model", model=TINY, which="ema").source
    assert (source["which"], source["also_holds"], source["completed"]) == ("ema", ["model"], fixed)


def averaged_by_lightning() -> dict[str, object]:
    return lightning(
        prefixed("model.", toy(2)),
        current_model_state=prefixed("model.", toy(1)),
        averaging_state={"n_averaged": torch.tensor(4)},
    )


@pytest.mark.parametrize(
    "content",
    [
        lambda: lightning(toy(1), callbacks={"EMACallback": {"ema_state_dict": toy(2)}}),
        lambda: lightning(toy(1), callbacks={"ema{'decay': 0.9}": toy(2)}),
        lambda: {"model": toy(1), "model_ema": toy(2)},
        lambda: {"model_state_dict": toy(1), "ema_state_dict": prefixed("module.", toy(2))},
        lambda: {"state_dict": toy(1), "ema": {"shadow": toy(2), "num_updates": 3}},
        lambda: lightning(prefixed("model.", toy(1)) | prefixed("ema_model.module.", toy(2))),
        averaged_by_lightning,
    ],
)
def test_averages_are_found_wherever_trainers_keep_them(
    content: Callable[[], object], tmp_path: Path
) -> None:
    path = saved(content(), tmp_path)
    assert_equal(taken(path, "model", TOY), toy(1))
    assert_equal(taken(path, "ema", TOY), toy(2))
    assert_equal(taken(path, "auto", TOY), toy(2 if content is averaged_by_lightning else 1))


def test_a_state_and_a_safetensors_file_are_taken_too(tmp_path: Path) -> None:
    assert_equal(taken(saved(toy(1), tmp_path), spec=TOY), toy(1))
    save_file(prefixed("model.", toy(1)), tmp_path / "x.safetensors")
    assert_equal(taken(tmp_path / "x.safetensors", spec=TOY), toy(1))


@pytest.mark.parametrize("shadow", [None, {}])
def test_an_average_that_is_not_there_is_named(shadow: object, tmp_path: Path) -> None:
    path = saved(lightning(toy(1), callbacks={"EMA": {"shadow": shadow}}), tmp_path)
    with pytest.raises(ModelError, match="holds no 'ema' weights; take which='model'"):
        taken(path, "ema", TOY)
    with pytest.raises(ModelError, match="which is 'best'"):
        taken(path, "best", TOY)  # type: ignore[arg-type]


def test_an_average_alone_is_taken(tmp_path: Path) -> None:
    path = saved({"ema_state_dict": toy(2)}, tmp_path)
    assert_equal(taken(path, "auto", TOY), toy(2))
    with pytest.raises(ModelError, match="holds no 'model' weights"):
        taken(path, "model", TOY)


def test_losses_and_metrics_are_left_out_and_named(tmp_path: Path) -> None:
    state = prefixed("model.", toy(1)) | {"loss_fn.weight": torch.zeros(1), "iou.count": torch.zeros(1)}
    found = fit_checkpoint(TOY, read_checkpoint(saved(lightning(state), tmp_path)))
    assert_equal(found.state, toy(1))
    assert found.left_out == ("loss_fn.weight", "iou.count")


@pytest.mark.slow
def test_the_network_of_321_million_weights_is_filled_key_by_key(tmp_path: Path) -> None:
    network = CRYOSENTINEL.build()
    expected = network.state_dict()
    for name in (
        "encoder.encoder.0.attn.qkv.weight",
        "encoder.encoder_embeddings.untok_sen2l2a@224.proj.weight",
    ):
        assert name in expected  # as CryoSentinel's code has them
    assert sum(parameter.numel() for parameter in network.parameters()) == 321_582_273
    # one number a tensor, seen as many: a checkpoint of all names and shapes in a file of a few hundred kB
    state = {name: torch.full((), 0.5).expand(tensor.shape) for name, tensor in expected.items()}
    shadow = {"model._orig_mod." + name: state[name] for name, _ in network.named_parameters()}
    content = lightning(prefixed("model._orig_mod.", state), callbacks={"EMA": {"shadow": shadow}})
    checkpoint = read_checkpoint(saved(content, tmp_path))
    for which in ("model", "ema"):
        found = fit_checkpoint(CRYOSENTINEL, checkpoint, which)
        assert not network.load_state_dict(found.state, strict=True, assign=True).missing_keys
        assert not found.left_out


def test_the_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    path = saved(lightning(prefixed("model.", numbers(1))), tmp_path)
    with pytest.raises(ModelError, match="not those of 'terramind-small'") as raised:
        convert_checkpoint(path, tmp_path / "model", model="terramind-small")
    assert "of another shape: encoder." in str(raised.value)
    with pytest.raises(ModelError, match=r"5 missing: place.* 2 unexpected: odd"):
        taken(saved(lightning({"odd.a": torch.zeros(1), "odd.b": torch.zeros(1)}), tmp_path), spec=TOY)
    assert not (tmp_path / "model").exists()


def test_missing_and_unexpected_tensors_are_listed_and_shortened(tmp_path: Path) -> None:
    state = dict(numbers(1))
    gone = [name for name in state if ".attn." in name]
    for name in gone:
        state[name + "_renamed"] = state.pop(name)
    with pytest.raises(ModelError) as raised:
        taken(saved(lightning(prefixed("model.", state)), tmp_path))
    text = str(raised.value)
    assert f"{len(gone)} missing: {', '.join(gone[:5])} and {len(gone) - 5} more" in text
    assert f"{len(gone)} unexpected: {gone[0]}_renamed" in text
    assert len(text) < 900


def test_a_tensor_that_is_no_tensor_is_missing(tmp_path: Path) -> None:
    state = toy(1) | {"place": np.zeros(3)}
    with pytest.raises(ModelError, match="1 missing: place"):
        taken(saved(lightning(state), tmp_path), spec=TOY)


def test_two_networks_under_the_same_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="two networks"):
        taken(saved(prefixed("module.", toy(1)) | toy(2), tmp_path), spec=TOY)


@pytest.mark.parametrize("size", [0, 3, 200, 0.5, 0.99])
def test_a_file_that_was_cut_is_refused(size: float, tmp_path: Path) -> None:
    path = saved(lightning(toy(1)), tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(size * len(data)) if 0 < size < 1 else int(size)])
    with pytest.raises(ModelError, match=r"no checkpoint of PyTorch, or a damaged one"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [([1, 2], "holds a list"), ({"epoch": 3}, "holds no tensors"), (torch.zeros(3), "holds a Tensor")],
)
def test_a_file_without_weights_is_refused(content: object, words: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=words):
        read_checkpoint(saved(content, tmp_path))


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.ckpt is not there"):
        read_checkpoint(tmp_path / "gone.ckpt")
    (tmp_path / "x.safetensors").write_bytes(b"12345678" * 9)
    with pytest.raises(ModelError, match="no whole safetensors file"):
        read_checkpoint(tmp_path / "x.safetensors")


@pytest.mark.filterwarnings("ignore")  # of Lightning, about a training of one step
def test_what_lightning_itself_saves_of_a_compiled_network(tmp_path: Path) -> None:
    import lightning
    from lightning.pytorch.callbacks import Callback

    class Module(lightning.LightningModule):
        def __init__(self, stats: Path) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.model = torch.compile(TOY.build(), backend="eager")
            self.loss_fn = nn.BCEWithLogitsLoss(pos_weight=torch.ones(1))

        def training_step(self, batch: Tensor, number: int) -> Tensor:
            return sum(parameter.square().sum() for parameter in self.model.parameters())

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=0.1)

    class EMA(Callback):
        state_key = "EMA"

        def on_train_batch_end(self, trainer: Any, pl_module: nn.Module, *rest: Any) -> None:
            self.shadow = {name: p.detach() * 2 for name, p in pl_module.named_parameters()}

        def state_dict(self) -> dict[str, Any]:
            return {"decay": 0.999, "shadow": self.shadow, "initialised": True}

    trainer = lightning.Trainer(
        max_steps=1, callbacks=[EMA()], accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    module = Module(Path("stats.json"))
    trainer.fit(module, torch.utils.data.DataLoader([torch.zeros(1)]))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    trained_last = {name.removeprefix("_orig_mod."): t for name, t in module.model.state_dict().items()}
    checkpoint = read_checkpoint(tmp_path / "last.ckpt")
    assert checkpoint.kind == "Lightning checkpoint"
    assert "pathlib.PosixPath" in checkpoint.stand_ins
    found = fit_checkpoint(TOY, checkpoint, "model")
    assert_equal(found.state, trained_last)
    assert found.left_out == ("loss_fn.pos_weight",)
    assert_equal(
        fit_checkpoint(TOY, checkpoint, "ema").state, {name: t * 2 for name, t in trained_last.items()}
    )


def test_untrained_models_are_no_weights() -> None:
    with pytest.raises(ModelError, match="no trained weights"):
        get_spec("terramind-large").load()
