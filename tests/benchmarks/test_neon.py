"""`bench neon`: counts that are exact, a gate that closes, and what happens where a tool is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from emulated import gate
from emulated.emulator import Case, Emulator
from emulated.tools import Tools, models, version

from ..support import BUILD, ROOT, miss

CASES = [
    Case("call", "s", "NN", 5, 5, 5),
    Case("plan", "d", "TN", 8, 7, 9),
    Case("kernel", "c", "NT", 8, 4, 3),
    Case("call", "z", "TT", 20, 20, 20),
    Case("fcma", "z", "TN", 9, 9, 9),
]


@pytest.fixture(scope="module")
def tools() -> Tools:
    found = Tools.find()
    if not found.cycles:
        miss("; ".join(found.missing()))
    if not (BUILD / "aarch64" / "lib" / "libtilewright.so").exists():
        miss("nothing built for aarch64; run: python3 build.py compile --target aarch64")
    return found


def bench(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"PATH": path} if path is not None else {})}
    command = [sys.executable, str(ROOT / "benchmarks" / "neon.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_two_runs_agree_to_the_instruction(tools: Tools) -> None:
    """Counts that depend on addresses, the environment or time would make the gate a lottery."""
    once = Emulator(tools, jobs=1, keep=False).count(CASES)
    again = Emulator(tools, jobs=2, keep=False).count(reversed(CASES))
    assert all(count.answer == "ok" for count in once.values())
    assert {str(case): count.classes for case, count in once.items()} == {
        str(case): again[case].classes for case in CASES
    }


def test_the_count_is_what_ran(tools: Tools) -> None:
    """A class that misses instructions, or a trace that is not what was counted."""
    emulator = Emulator(tools, jobs=1, keep=False)
    counts, traces = emulator.count(CASES), emulator.trace(CASES)
    for case in CASES:
        assert counts[case].total == len(traces[case])
        assert counts[case].classes["fma"] + counts[case].classes["multiply"] >= case.needed


def test_gate(tools: Tools) -> None:
    """Somebody made a call more than 1 % longer: build.py bench neon --update-gate says so in the commit."""
    committed = json.loads(gate.FILE.read_text())
    assert 55 <= len(committed["instructions"]) <= 90
    if version(str(tools.cross)) != committed["compiler"]:
        pytest.skip(f"the committed counts are of {committed['compiler']}")
    assert gate.run(Emulator(tools), update=False) == 0


def test_fcma_takes_fewer_instructions() -> None:
    """What is chosen where the CPU has it must be worth it."""
    committed = json.loads(gate.FILE.read_text())["instructions"]
    ratios = [count / committed[name.replace("fcma", "call")] for name, count in committed.items() if "fcma" in name]
    assert len(ratios) >= 16
    assert sum(ratios) / len(ratios) < 0.97
    assert max(ratios) < 1.1


def test_gate_closes() -> None:
    names = {str(case): 1000 for case in gate.cases()}
    first = next(iter(names))
    assert gate.compare(names, names) == []
    assert gate.compare(names, {**names, first: 1011}) == [
        f"{first}: 1011 instructions, 1.1 % more than the committed 1000"
    ]
    assert gate.compare({}, {first: 1}) == [f"{first}: not in gate.json"]
    assert gate.compare({first: 1}, {}) == [f"{first}: in gate.json, but no case"]


def test_bench_prints_and_writes(tools: Tools, tmp_path: Path) -> None:
    out = tmp_path / "neon.json"
    done = bench("--quick", f"--json={out}", "--mcpu", "tsv110", "neoverse-n1")
    assert done.returncode == 0, done.stderr
    assert "sgemm NN: instructions of a call, by class" in done.stdout
    data = json.loads(out.read_text())
    calls = {(c["m"], c["n"], c["k"]): c for c in data["cases"] if c["way"] == "call"}
    eight = calls[8, 8, 8]
    assert eight["needed"] == 128
    assert eight["instructions"] == sum(eight["classes"].values()) > 128
    assert 64 < eight["cycles"]["tsv110"] < eight["instructions"]


def test_unknown_core_is_refused_with_the_list(tools: Tools) -> None:
    done = bench("--quick", "--mcpu", "neoverse-n1", "pentium")
    assert done.returncode != 0
    assert "--mcpu pentium: llvm-mca has no such core; it has" in done.stderr
    assert "tsv110" in done.stderr


def test_models_are_known(tools: Tools) -> None:
    assert {"tsv110", "neoverse-n1", "neoverse-v1"} <= set(models(str(tools.mca)))


def test_without_tools_it_says_which_package_and_shows_what_it_can(tmp_path: Path) -> None:
    """A traceback, or silence, where qemu or the compiler is missing."""
    done = bench("--quick", path=str(tmp_path))
    assert done.returncode != 0
    for words in ("qemu-aarch64 is missing (package qemu-user)", "(package llvm-22)", "libxsmm-jit"):
        assert words in done.stdout
    assert "Traceback" not in done.stderr
