"""Train ``terramind-tiny-demo`` on simulated valleys, from fixed seeds, on a CPU.

Three steps, each of which picks up where it was cut off::

    python scripts/train_demo.py prepare WORK
    python scripts/train_demo.py train WORK
    python scripts/train_demo.py evaluate WORK

``prepare`` simulates the valleys, writes each as a catalogue and reads it back through ``open_cube``, so
that the network learns from what it will be given. ``train`` writes
``WORK/terramind-tiny-demo.safetensors`` in half precision. ``evaluate`` segments valleys of seeds that were
never trained on, with the file just written, and prints what the model card quotes. Everything here is
simulated: the model is a demonstration.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

import xglof
from xglof.engine.stage import observed_pixels, standardise
from xglof.models.registry import DEMO_TRAINING_SEEDS, TINY_DEMO, WATER_INDEX

HELD_OUT_SEEDS = range(9000, 9006)
SCENE = (448, 448)
SPEC = TINY_DEMO.with_weights(None)
STEPS, BATCH, SEED = 800, 8, 20261121
PEAK_LR, WEIGHT_DECAY, EMA, SETTLING = 1e-3, 0.05, 0.99, 60
#: Share of windows drawn about a lake pixel, and about a frozen one among these.
LAKE_SHARE, FROZEN_SHARE = 0.7, 0.2
#: A lake pixel brighter than this in blue (reflectance x 10,000) is ice or snow.
FROZEN_BLUE = 2500
#: Chance that a batch goes without a modality, so that the network learns to do without.
DROP = {"S1RTC": 0.15, "S2L2A": 0.10, "DEM": 0.10}


def simulate_cube(seed: int, work: Path) -> tuple[Any, Any]:
    """Cube and true lake map of a simulated valley, through a catalogue on disk."""
    folder = work / f"catalog-{seed}"
    if not (folder / "catalog.json").exists():
        xglof.simulate.write_catalog(xglof.simulate.valley(seed, shape=SCENE, crs=None), folder)
    truth, _ = xglof.simulate.read_truth(folder)
    grid = truth.odc.geobox
    cube = xglof.open_cube(catalog=folder, geobox=grid)
    return cube, truth["lake"].sel(time=cube["time"])


def prepare_one(seed: int, work: Path) -> int:
    """Write one valley as arrays: standardised inputs in half precision, observed pixels, truth."""
    target = work / f"scene-{seed}.npz"
    if target.exists():
        return seed
    import dask

    dask.config.set(scheduler="sync")
    cube, lake = simulate_cube(seed, work)
    cube = cube.compute()
    planes = {str(name): torch.from_numpy(variable.values) for name, variable in cube.data_vars.items()}
    staged = {source: standardise(source, planes) for source in SPEC.inputs}
    observed = observed_pixels(SPEC, {s: seen for s, (_, seen) in staged.items()}, planes["flags"])
    # half precision holds reflectance and decibels, but elevation only to 4 m: that would terrace the slopes
    inputs = {
        s.modality: values.numpy().astype(np.float16 if s.has_time else np.float32)
        for s, (values, _) in staged.items()
    }
    seen = {f"{s.modality}-seen": mask.numpy() for s, (_, mask) in staged.items()}
    part = target.with_suffix(".part.npz")
    np.savez(part, **inputs, **seen, observed=observed.numpy(), lake=lake.values)
    part.rename(target)
    shutil.rmtree(work / f"catalog-{seed}")
    return seed


def prepare(work: Path) -> None:
    """Write every training valley, two at a time."""
    work.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    with ProcessPoolExecutor(2) as pool:
        for done, _ in enumerate(
            pool.map(prepare_one, DEMO_TRAINING_SEEDS, [work] * len(DEMO_TRAINING_SEEDS)), 1
        ):
            print(
                f"{done}/{len(DEMO_TRAINING_SEEDS)} valleys, {time.perf_counter() - begin:.0f} s", flush=True
            )


@dataclass(frozen=True, slots=True)
class Scene:
    """One valley in memory: inputs (T, C, Y, X) by modality, masks and truth (T, Y, X)."""

    inputs: dict[str, npt.NDArray[np.floating[Any]]]
    seen: dict[str, npt.NDArray[np.bool_]]
    observed: npt.NDArray[np.bool_]
    lake: npt.NDArray[np.uint8]
    lake_pixels: npt.NDArray[np.int64]
    frozen_pixels: npt.NDArray[np.int64]

    @classmethod
    def read(cls, path: Path) -> Scene:
        """Read what :func:`prepare_one` wrote."""
        with np.load(path) as file:
            names = [source.modality for source in SPEC.inputs]
            inputs = {name: file[name] for name in names}
            lake, observed = file["lake"], file["observed"]
            pixels = np.argwhere((lake == 1) & observed)
            blue = inputs["S2L2A"][:, 1][tuple(pixels.T)].astype(np.float32)
            frozen = blue * SPEC.inputs[0].std[1] + SPEC.inputs[0].mean[1] > FROZEN_BLUE
            seen = {name: file[f"{name}-seen"] for name in names}
            return cls(inputs, seen, observed, lake, pixels, pixels[frozen])


def draw_chip(scenes: list[Scene], rng: np.random.Generator) -> dict[str, npt.NDArray[Any]]:
    """A window at any place and date, more often about a lake or a frozen one, turned and jittered."""
    scene = scenes[rng.integers(len(scenes))]
    times, height, width = scene.lake.shape
    side = SPEC.window
    chance = rng.random()
    about = scene.frozen_pixels if chance < FROZEN_SHARE else scene.lake_pixels
    if chance < LAKE_SHARE and len(about):
        t, y, x = about[rng.integers(len(about))]
        top, left = y - rng.integers(side), x - rng.integers(side)
    else:
        t, top, left = rng.integers(times), rng.integers(height), rng.integers(width)
    top, left = int(np.clip(top, 0, height - side)), int(np.clip(left, 0, width - side))
    area = (..., slice(top, top + side), slice(left, left + side))
    chip = {
        name: values[t if len(values) > 1 else 0][area].astype(np.float32)
        for name, values in scene.inputs.items()
    }
    chip["observed"] = scene.observed[t][area]
    chip["lake"] = scene.lake[t][area]
    chip["S1RTC-share"] = scene.seen["S1RTC"][t][area].mean()
    return jitter(turn(chip, rng), rng)


def turn(chip: dict[str, npt.NDArray[Any]], rng: np.random.Generator) -> dict[str, npt.NDArray[Any]]:
    """One of the eight turns and flips of a square."""
    quarter, flip = int(rng.integers(4)), rng.random() < 0.5

    def apply(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if np.ndim(array) < 2:
            return array
        array = np.rot90(array, quarter, axes=(-2, -1))
        return np.ascontiguousarray(array[..., ::-1] if flip else array)

    return {name: apply(array) for name, array in chip.items()}


def jitter(chip: dict[str, npt.NDArray[Any]], rng: np.random.Generator) -> dict[str, npt.NDArray[Any]]:
    """Small errors of calibration and atmosphere, and another height above the sea."""
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (SPEC.inputs[0].mean, SPEC.inputs[0].std))
    gain = rng.normal(1, 0.05) * rng.normal(1, 0.02, (12, 1, 1))
    shift = rng.normal(0, 40) + rng.normal(0, 15, (12, 1, 1))
    chip["S2L2A"] = (((chip["S2L2A"] * std + mean) * gain + shift - mean) / std).astype(np.float32)
    chip["S1RTC"] = chip["S1RTC"] + rng.normal(0, 0.15, (2, 1, 1)).astype(np.float32)
    chip["DEM"] = chip["DEM"] + np.float32(rng.uniform(-3, 1))
    return chip


def draw_batch(
    scenes: list[Scene], rng: np.random.Generator, drop: Mapping[str, float] = DROP
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Inputs, truth and observed pixels of a batch, at times without a modality."""
    chips = [draw_chip(scenes, rng) for _ in range(BATCH)]
    names = [source.modality for source in SPEC.inputs]
    dropped = {name for name in names if rng.random() < drop.get(name, 0)}
    if min(chip["S1RTC-share"] for chip in chips) < SPEC.min_share and drop and rng.random() < 0.5:
        dropped.add("S1RTC")
    if {"S1RTC", "S2L2A"} <= dropped:
        dropped.discard("S2L2A")
    inputs = {
        name: torch.from_numpy(np.stack([c[name] for c in chips])) for name in names if name not in dropped
    }
    lake = torch.from_numpy(np.stack([chip["lake"] for chip in chips])).float()
    observed = torch.from_numpy(np.stack([chip["observed"] for chip in chips]))
    return inputs, lake, observed


def loss_of(logit: Tensor, lake: Tensor, observed: Tensor) -> Tensor:
    """Cross entropy and Dice over the observed pixels of a batch."""
    logit, lake = logit[:, 0][observed], lake[observed]
    probability = torch.sigmoid(logit)
    dice = 1 - (2 * (probability * lake).sum() + 1) / (probability.sum() + lake.sum() + 1)
    weight = torch.tensor(2.0)  # lakes are a few per cent of the pixels
    return F.binary_cross_entropy_with_logits(logit, lake, pos_weight=weight) + dice


def train(work: Path) -> None:
    """Train from the fixed seed; a checkpoint every 100 steps lets a cut run go on."""
    scenes = [Scene.read(work / f"scene-{seed}.npz") for seed in DEMO_TRAINING_SEEDS]
    torch.manual_seed(SEED)
    network = SPEC.build().train()
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(EMA), use_buffers=True
    )
    optimiser = torch.optim.AdamW(network.parameters(), lr=PEAK_LR, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_LR, total_steps=STEPS, pct_start=0.1)
    state = {"network": network, "average": average, "optimiser": optimiser, "schedule": schedule}
    checkpoint, first = work / "checkpoint.pt", 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        first = saved.pop("step")
        for name, part in state.items():
            part.load_state_dict(saved[name])
    begin, running = time.perf_counter(), 0.0
    for step in range(first, STEPS):
        inputs, lake, observed = draw_batch(scenes, np.random.default_rng([SEED, step]))
        loss = loss_of(network(inputs), lake, observed)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        average.update_parameters(network)
        now = float(loss.detach())
        running = 0.98 * running + 0.02 * now if step > first else now
        if (step + 1) % 100 == 0 or step + 1 == STEPS:
            print(f"step {step + 1}: loss {running:.4f}, {time.perf_counter() - begin:.0f} s", flush=True)
            torch.save(
                {name: part.state_dict() for name, part in state.items()} | {"step": step + 1}, checkpoint
            )
    settle_norms(average.module, scenes)
    write_weights(average.module, work / "terramind-tiny-demo.safetensors")


def settle_norms(network: torch.nn.Module, scenes: list[Scene]) -> None:
    """Measure the batch statistics again, for the averaged weights; radar alone is missing at times."""
    norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over the batches
    network.train()
    with torch.no_grad():
        for batch in range(SETTLING):
            rng = np.random.default_rng([SEED, 1, batch])
            network(draw_batch(scenes, rng, drop={"S1RTC": DROP["S1RTC"]})[0])
    network.eval()


def write_weights(network: torch.nn.Module, path: Path) -> None:
    """Write the floating-point tensors in half precision, aside and then renamed."""
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in network.state_dict().items()
    }
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata={"trained_on": "simulated valleys (xglof.simulate)"})
    part.rename(path)


def evaluate(work: Path) -> None:
    """Scores on held-out simulated valleys, pooled and a valley."""
    weights = xglof.Weights.of(work / "terramind-tiny-demo.safetensors")
    models = {"terramind-tiny-demo": TINY_DEMO.with_weights(weights), "water-index": WATER_INDEX}
    table: dict[str, Any] = {"sha256": weights.sha256, "valleys": {}}
    pooled = dict.fromkeys(models, np.zeros(3))
    for seed in HELD_OUT_SEEDS:
        cube, lake = simulate_cube(seed, work)
        row = {}
        for name, spec in models.items():
            scores = xglof.evaluate.score(xglof.segment(cube, model=spec), lake).compute()
            row[name] = round(float(scores["iou"]), 4)
            pooled[name] = pooled[name] + np.array([float(scores[count]) for count in ("tp", "fp", "fn")])
        table["valleys"][seed] = row
        print(seed, row, flush=True)
    for name, (tp, fp, fn) in pooled.items():
        table[name] = {
            "iou": round(tp / (tp + fp + fn), 4),
            "precision": round(tp / (tp + fp), 4),
            "recall": round(tp / (tp + fn), 4),
        }
    print(json.dumps(table, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train terramind-tiny-demo on simulated valleys.")
    parser.add_argument("step", choices=("prepare", "train", "evaluate"))
    parser.add_argument("work", type=Path, help="folder for the valleys, the checkpoint and the weights")
    arguments = parser.parse_args()
    {"prepare": prepare, "train": train, "evaluate": evaluate}[arguments.step](arguments.work)
