"""A quick run of each benchmark, held against a right and a wrong BLAS compiled here and against nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tilewright.generator.compile import Compiler, CompilerMissingError, host_arch

from ..support import ROOT, miss

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two libraries of CBLAS symbols: one right, with a prefix, and one with an error in C's last element."""
    try:
        compiler = Compiler.find(host_arch())
    except CompilerMissingError as error:
        miss(str(error))
    folder = tmp_path_factory.mktemp("cblas")
    made = {}
    for name, prefix, wrong in (("right", "my_", "0"), ("wrong", "", "1e-3")):
        made[name] = folder / f"lib{name}.so"
        options = [f"-DNAME(x)={prefix}cblas_##x", f"-DERROR={wrong}", "-O2", "-Wall", "-Wextra", "-Werror"]
        command = [*compiler.command, *options, "-fPIC", "-shared", str(HERE / "cblas.c"), "-o", str(made[name])]
        subprocess.run(command, check=True)
    return made


def bench(name: str, *arguments: str) -> tuple[str, Any]:
    """Run ``benchmarks/NAME.py --quick`` and return what it printed and its JSON."""
    output = ROOT / "build" / "bench" / f"test-{name}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--quick", f"--json={output}", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout, json.loads(output.read_text())


def test_small_compares_and_leaves_a_wrong_rival_out(libraries: dict[str, Path]) -> None:
    chosen = ("--types", "sz", "--modes", "NN", "TN", "--rivals")
    more = ("--rival", f"good={libraries['right']}:my_", "--rival", f"bad={libraries['wrong']}")
    printed, data = bench("small", *chosen, *more)
    assert {"machine", "peaks", "libraries", "not_assessed", "cells", "summary", "goals"} <= data.keys()
    assert set(data["libraries"]) == {"tilewright", "tw_gemm", "good", "bad"}
    assert data["wrong"] == ["bad"]
    assert "WRONG, left out: bad s NN 8x8x8" in printed
    for cell in data["cells"]:
        assert set(cell["gflops"]) == {"tilewright", "tw_gemm", "good"}
        assert all(speed > 0 for speed in cell["gflops"].values())
    summary = data["summary"]["tw_gemm_execute against the best of all"]
    assert {(row["type"], row["mode"]) for row in summary} == {("s", "NN"), ("s", "TN"), ("z", "NN"), ("z", "TN")}
    assert all(row["ratio"] > 0 and "good" in row["worst"] for row in summary)


def test_small_without_rivals_says_not_assessed() -> None:
    printed, data = bench("small", "--types", "d", "--modes", "NT", "--rivals")
    assert "not assessed" in printed
    assert all(row["1-8"]["ratio"] is None for row in data["goals"])


def test_a_rival_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "small.py"), "--quick", "--rivals", "--rival", "x=./none.so"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 1
    assert "--rival x=./none.so" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_batch_compares_and_leaves_a_wrong_rival_out(libraries: dict[str, Path]) -> None:
    more = ("--rival", f"good={libraries['right']}:my_", "--rival", f"bad={libraries['wrong']}")
    _, data = bench("batch", "--types", "sc", "--rivals", *more)
    for cell in data["cells"]:
        assert set(cell["gflops"]) == {"tilewright", "good"}
        assert cell["wrong"] == ["bad"]


def test_python_times_every_way_of_calling() -> None:
    _, data = bench("python", "--types", "s")
    for cell in data["cells"]:
        ways = {name.partition(",")[0] for name in cell["ns"]}
        assert {"gemm(out=)", "plan()", "bound()", "numpy matmul(out=)", "numpy dot(out=)"} <= ways
        assert all(ns > 0 for ns in cell["ns"].values())


@pytest.mark.parametrize(("name", "types"), [("skinny", "sd"), ("large", "dz")])
def test_large_products_compare_and_leave_a_wrong_rival_out(name: str, types: str, libraries: dict[str, Path]) -> None:
    """A sum checked so loosely that an error in C's last element passes; a number of threads measured as another."""
    more = ("--rival", f"good={libraries['right']}:my_", "--rival", f"bad={libraries['wrong']}")
    threads = [str(count) for count in (1, 2)[: len(os.sched_getaffinity(0))]]
    printed, data = bench(name, "--types", types, "--threads", *threads, "--rivals", *more)
    assert data["wrong"] == ["bad"]
    assert {str(cell["threads"]) for cell in data["cells"]} == set(threads)
    for cell in data["cells"]:
        assert set(cell["gflops"]) == {"tilewright", "good"}
        assert cell["gflops"]["tilewright"] > 0
        assert cell["roofline"] > 0
    assert "goal" in printed


def test_threads_shows_where_two_pay() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core")
    _, data = bench("threads", "--types", "d")
    assert [cell["count"] for cell in data["cells"]] == [2 ** (i + 1) for i in range(len(data["cells"]))]
    assert all(cell[name] > 0 for cell in data["cells"] for name in ("one", "awake", "asleep", "chosen"))


def test_blas_compares_numpy_with_itself_preloaded() -> None:
    """A worker that measures the same library twice, or a product that differs."""
    printed, data = bench("blas", "--types", "dz", "--most", "200")
    assert {cell["type"] for cell in data["cells"]} == {"d", "z"}
    assert all(cell["ours"] > 0 and cell["numpy"] > 0 for cell in data["cells"])
    assert all(0 < ns < 1e5 for row in data["calls"].values() for ns in row)
    assert "tilewright" in data["calls"]
    assert "worst: " in printed


def test_panels_times_every_variant() -> None:
    """A variant whose name is taken apart wrongly, or a place that is not measured."""
    printed, data = bench("panels", "--types", "z")
    names = [name for name in data["kernels"] if name.startswith("gemm_z_")]
    assert names
    assert len(data["variants"]) == len(names)
    assert all(row["gflops_near"] > 0 and row["gb_far"] > 0 and row["type"] == "z" for row in data["variants"])
    assert data["packing"] is None
    assert f"{data['isa']}; a sum reads " in printed
