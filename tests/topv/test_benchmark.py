"""The benchmark's checkpoints are what docs/topv.md says they are, and its short cut is what `topv.prune` does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ..support import ROOT

pytestmark = pytest.mark.topv
FOLDER = ROOT / "benchmarks" / "topv"


@pytest.mark.timeout(900)  # a dozen seconds on an idle core
def test_a_checkpoint_answers_as_reported_and_agrees_with_prune(tmp_path: Path) -> None:
    """A checkpoint, a scene or a selector that changed unnoticed makes the committed tables untrue."""
    output = tmp_path / "topv.json"
    command = [sys.executable, str(FOLDER), "--quick", f"--json={output}"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    measured = json.loads(output.read_text())
    found = {(c["distractors"], c["name"], c["keep"]): c["accuracy"] for c in measured["cells"]}
    expected = json.loads((FOLDER / "checkpoints" / "quick.json").read_text())
    slack = 2 / measured["questions"]  # two answers: another CPU sums in another order
    for cell in expected["cells"]:
        key = cell["distractors"], cell["name"], cell["keep"]
        assert found[key] == pytest.approx(cell["accuracy"], abs=slack), key
    assert measured["prune"] == {"asked": 16, "agree": 16}
