"""The configs in the repository: each is read whole, and its model and losses can be had."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from xglof.train.config import read_config
from xglof.train.losses import compose
from xglof.train.start import spec_of

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_config_is_read_and_its_parts_go_together(path: Path) -> None:
    config = read_config(path)
    assert config.name == path.stem
    assert Path(config.out) == CONFIGS.parent / "runs" / path.stem
    # its weights are not here: a file that is stands for them
    start = config.model.start if config.model.start in ("", "random", "own") else str(path)
    spec = spec_of(replace(config, model=replace(config.model, start=start)))
    config.augment.check(spec)
    taken = {source.modality for source in spec.inputs}
    assert {*config.augment.jitter, *config.augment.noise, *config.augment.drop} <= taken
    assert compose(config.loss.weights).weights == config.loss.weights


def test_both_stages_of_cryosentinel_share_a_split() -> None:
    first, second = (read_config(CONFIGS / f"cryosentinel-stage-{stage}.toml") for stage in "ab")
    assert Path(second.model.start) == Path(first.out) / "average"
    assert Path(second.split.file) == Path(second.model.start) / "split.json"
