"""Every benchmark explains its options."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("program", ["large.py", "linear.py", "neon.py", "skinny.py", "vlm.py"])
def test_help_is_printed(program: str) -> None:
    """A per cent sign in a help text, which argparse takes for a format and fails on only when help is asked for."""
    run = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / program, "--help"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("usage: ")
