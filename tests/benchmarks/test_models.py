"""`bench linear` and `bench vlm`: quick runs, wrong outputs, and what is said where something is not there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ..support import ROOT

pytestmark = pytest.mark.topv  # they need torch and transformers


def bench(name: str, output: Path, *arguments: str) -> tuple[str, Any]:
    """Run ``benchmarks/NAME.py`` and return what it printed and its JSON."""
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), f"--json={output}", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout, json.loads(output.read_text())


def test_linear_compares_and_says_what_is_reached(tmp_path: Path) -> None:
    """A way that is left out in silence, a time of nothing, a goal that nobody judges."""
    printed, data = bench("linear", tmp_path / "out.json", "--quick", "--threads", "1", "--ways", "torch", "tilewright")
    assert data["wrong"] == []
    assert [(cell["shape"], cell["tokens"]) for cell in data["cells"]] == [("256x384", 1), ("256x384", 5)]
    for cell in data["cells"]:
        assert set(cell["ms"]) == {"torch", "tilewright"}
        assert all(ms > 0 for ms in cell["ms"].values())
        assert cell["floor"] > 0
    for words in ("torch eager / ours, 1 token ", "torch eager / ours, 2-8 tokens", "% of the floor", "must:"):
        assert words in printed
    again, same = bench("linear", tmp_path / "again.json", "--from-json", str(tmp_path / "out.json"))
    assert same == data
    assert again[again.index("Milliseconds") :] == printed[printed.index("Milliseconds") :]


CHECK = """
import numpy as np
import torch
from harness import stacks
torch.set_grad_enabled(False)
stack = stacks.make(48, 64, 1 << 16)
x = np.random.default_rng(0).standard_normal((5, 64), dtype=np.float32)
checked = stacks.Checked(stack, x)
right = stacks.Eager(stack).run(x)
print(checked.excess([y.copy() for y in right()]) <= 1)
for layer, token, feature, error in ((0, 0, 0, 1e-3), (len(stack.layers) - 1, 4, 47, 1e-3), (1, 2, 3, np.nan)):
    outputs = [y.copy() for y in right()]
    outputs[layer][token, feature] += error
    print(checked.excess(outputs) <= 1)
print(checked.excess(right()[1:]) <= 1)
"""


def test_a_wrong_output_is_seen_wherever_it_is() -> None:
    """A check that averages, that skips NaN, or that misses the last token, the last feature or a whole layer."""
    command = [sys.executable, "-c", CHECK]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT / "benchmarks")
    assert ran.stdout.split() == ["True", "False", "False", "False", "False"]


@pytest.mark.timeout(600)  # five processes that import torch, beside whatever else runs
def test_vlm_compares_with_float64(tmp_path: Path) -> None:
    """A row held against another's reference; a difference lost when it is written; a row that fails in silence."""
    rows = ["torch", "packed", "packed, pruned 33%"]
    output = tmp_path / "out.json"
    printed, data = bench("vlm", output, "--quick", "--threads", "1", "--rows", *rows)
    assert data["failed"] == {}
    found = {row["row"]: row for row in data["rows"]}
    assert list(found) == rows
    for row in found.values():
        assert 0 < row["difference"] < 1e-5
        assert row["same token"] == row["tokens"] == 6
        assert row["kept otherwise"] == 0
        assert min(row["prefill"], row["decode"], row["decode together"], row["peak memory"]) > 0
    whole, pruned = found["packed"]["kv bytes"], found["packed, pruned 33%"]["kv bytes"]
    assert pruned < whole
    assert "prefill, packed and pruned to 33 %" in printed
    merged = bench("vlm", tmp_path / "merged.json", "--from-json", str(output), str(output))[1]
    assert merged["rows"] == data["rows"]
