"""Fixtures that every folder of tests shares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dask
import pytest


def _refuse(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("something was computed while a graph was built")


@pytest.fixture
def no_compute() -> Iterator[None]:
    """Make any Dask computation fail while the fixture is active."""
    with dask.config.set(scheduler=_refuse):
        yield
