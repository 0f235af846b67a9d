"""Parts of a benchmark in processes of their own: libraries read their settings, and memory's peak counts, once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def run(environment: Mapping[str, str], *arguments: str) -> Any:
    """Run this program again with ``--child FILE`` and `arguments` added, and return what it answered.

    Raises
    ------
    SystemExit
        It failed, or answered nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "answer.json"
        command = [sys.executable, *sys.argv, *arguments, "--child", str(output)]
        code = subprocess.run(command, env={**os.environ, **environment}).returncode
        if code or not output.exists():
            settings = ", ".join(f"{name}={value}" for name, value in environment.items())
            raise SystemExit(f"the process with {' '.join([settings, *arguments])} failed (exit status {code})")
        return json.loads(output.read_text())


def answer(path: str, data: Any) -> None:
    """Answer `run`."""
    Path(path).write_text(json.dumps(data))
