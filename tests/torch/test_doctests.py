"""The examples of the runtime's modules that need torch, run on the installed package.

pytest's own collection would import the folder again under its short name, and an operator of torch exists once.
"""

from __future__ import annotations

import doctest
import importlib

import pytest

pytestmark = pytest.mark.topv


@pytest.mark.parametrize("name", ["torch", "torch_fuse", "torch_linear", "torch_op"])
def test_examples(name: str) -> None:
    """An example that no longer runs, or says something else."""
    module = importlib.import_module(f"tilewright.runtime.{name}")
    assert doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0
