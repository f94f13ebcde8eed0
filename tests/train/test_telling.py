"""What a person sees of a training."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from xglof.train.telling import Telling, quiet_lightning


def test_a_bar_on_a_terminal_and_lines_elsewhere() -> None:
    seen = {}
    for terminal in (True, False):
        file = io.StringIO()
        console = Console(file=file, force_terminal=terminal, width=120)
        with Telling(console, steps=10, done=4) as telling:
            telling.step(5, 0.25)
            telling.mark(5, {"loss": 0.25, "validation_IoU": 0.5})
        seen[terminal] = file.getvalue()
    assert "5/10" in seen[True]
    assert seen[False].startswith("step 5 of 10: loss 0.2500, validation IoU 0.5000, ")
    assert len(seen[False].splitlines()) == 1


def test_a_quiet_one_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with Telling(None, steps=2, done=0) as telling:
        telling.step(1, 0.5)
        telling.mark(1, {"loss": 0.5})
    assert capfd.readouterr() == ("", "")


def test_only_what_lightning_advertises_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    with caplog.at_level(logging.INFO, logger=logger.name):
        with quiet_lightning():
            logger.info("You are using a CUDA device ('H100') that has Tensor Cores. To properly utilize")
            logger.info("-" * 100 + "\ndistributed_backend=nccl")
            logger.warning("The GPU is on fire")
        logger.info("-----")
    assert caplog.messages == ["The GPU is on fire", "-----"]
