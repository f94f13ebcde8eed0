"""The examples of the docstrings run, offline."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import xglof

MODULES = [module.name for module in pkgutil.walk_packages(xglof.__path__, "xglof.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name), extraglobs={"xglof": xglof}).failed == 0


def test_examples_are_found() -> None:
    finder = doctest.DocTestFinder()
    counts = {n: sum(len(t.examples) for t in finder.find(importlib.import_module(n))) for n in MODULES}
    assert counts["xglof.engine.apply"] > 5
    assert sum(counts.values()) > 15
