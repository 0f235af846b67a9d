"""The examples in topv's docstrings, run on the installed package.

pytest's own collection would import the folder again under its short name, and an operator of torch exists once.
"""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

from tilewright import topv

pytestmark = pytest.mark.topv
MODULES = ["tilewright.topv", *(f"tilewright.topv.{module.name}" for module in pkgutil.iter_modules(topv.__path__))]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    """An example that no longer runs, or says something else."""
    assert doctest.testmod(importlib.import_module(name)).failed == 0
