"""What a product costs from Python: ``python3 build.py bench python``.

Nanoseconds a call with the result's array given, ours beside numpy, scipy and torch, one thread. The least of many
rounds in which all take turns; the interpreter's loop is in it and printed. Ours goes through the extension where that
was built and is then measured a second time, in a process with ``TILEWRIGHT_PURE=1``, through cffi.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import timeit
from typing import Any

from harness import rivals, timing  # first: sets every library to one thread
from harness.options import parser
from harness.problem import DTYPES, Array, Problem, Shape
from harness.report import machine, table, write_json

from tilewright import runtime

SIZES = (2, 4, 8, 16, 32)
OURS = {"gemm(out=)": "gemm(a, b, c)", "plan()": "plan(a, b, c)", "bound()": "bound()"}


def main() -> None:
    """Measure, print, write."""
    options = parse()
    if options.install_rivals:
        rivals.install()
    core = timing.pin(options.core)
    about, way = machine(core), str(getattr(runtime.info(), "calls", "cffi"))
    versions, absent, packages = found() if not options.ours else ({}, {}, {})
    cells = [measure(dtype, n, packages, way, options) for dtype in options.types for n in options.sizes]
    if options.ours:
        print(json.dumps(cells))
        return
    if way == "extension":
        command = [sys.executable, __file__, "--ours", f"--types={options.types}", f"--rounds={options.rounds}"]
        command += ["--core", str(core), "--sizes", *map(str, options.sizes)]
        environment = {**os.environ, "TILEWRIGHT_PURE": "1"}
        ran = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        for cell, pure in zip(cells, json.loads(ran.stdout), strict=True):
            cell["ns"] |= {name.replace(pure["way"], "cffi"): ns for name, ns in pure["ns"].items() if name != "pass"}
    versions = {"tilewright": f"{runtime.__version__}, calls by {way}", "python": about["python"]} | versions
    print(f"{about['cpu']}, core {core} of {about['cores']}, load {about['load']:.1f}")
    for name, version in versions.items():
        print(f"  {name:12} {version}")
    for name, why in absent.items():
        print(f"  {name:12} not assessed: {why}")
    names = list(dict.fromkeys(name for cell in cells for name in cell["ns"]))
    rows = [
        [cell["type"], str(cell["n"]), *(f"{cell['ns'][name]:.0f}" if name in cell["ns"] else "-" for name in names)]
        for cell in cells
    ]
    print(f"\nns a call, the least of {options.rounds} rounds\n\n{table(['type', 'n', *names], rows)}")
    if options.json:
        write_json(
            options.json,
            {"schema": 1, "machine": about, "libraries": versions, "not_assessed": absent, "cells": cells},
        )


def parse() -> argparse.Namespace:
    """Read the command line."""
    made = parser("python", __doc__, rounds=40, rivals=False)
    made.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), help="sides of the squares")
    made.add_argument("--ours", action="store_true", help="print ours alone, as JSON")
    options = made.parse_args()
    if options.quick:
        options.rounds, options.sizes = 2, [2, 8]
    return options


def found() -> tuple[dict[str, str], dict[str, str], dict[str, Any]]:
    """Return versions of the packages that are here, why others are not, and what expressions need of them."""
    numpy = importlib.import_module("numpy")
    versions: dict[str, str] = {"numpy": numpy.__version__}
    absent: dict[str, str] = {}
    packages: dict[str, Any] = {"matmul": numpy.matmul, "dot": numpy.dot}
    for name, module in (("scipy", "scipy.linalg.blas"), ("torch", "torch")):
        try:
            packages[name] = importlib.import_module(module)
            versions[name] = str(importlib.import_module(name).__version__)
        except ImportError as error:
            absent[name] = f"{error} (PyPI: pyproject's extra `bench`)"
    if "torch" in packages:
        packages["torch"].set_num_threads(1)
    return versions, absent, packages


def measure(dtype: str, n: int, packages: dict[str, Any], way: str, options: argparse.Namespace) -> dict[str, Any]:
    """Check and time everybody at one size."""
    problem = Problem(dtype, "NN", Shape(n, n, n))
    a, b, c = problem.a, problem.b, problem.c
    plan = runtime.gemm_plan(n, n, n, DTYPES[dtype])
    around: dict[str, Any] = {"a": a, "b": b, "c": c, "gemm": runtime.gemm, "plan": plan, "bound": plan.bind(a, b, c)}
    around |= packages
    calls = {"pass": "pass", **{f"{name}, {way}": call for name, call in OURS.items()}}
    if "matmul" in packages:
        calls |= {"numpy matmul(out=)": "matmul(a, b, out=c)", "numpy dot(out=)": "dot(a, b, out=c)"}
    if "scipy" in packages:  # Fortran-ordered, as it wants them: C' = B' A', written in place
        around |= {"at": a.T, "bt": b.T, "ct": c.T, "scipy_gemm": getattr(packages["scipy"], f"{dtype}gemm")}
        calls["scipy gemm(c=)"] = "scipy_gemm(1, bt, at, 0, ct, overwrite_c=1)"
    if "torch" in packages:
        around |= {f"t{name}": packages["torch"].from_numpy(array) for name, array in (("a", a), ("b", b), ("c", c))}
        around["mm"] = packages["torch"].mm
        calls["torch mm(out=)"] = "mm(ta, tb, out=tc)"
    best: dict[str, float] = {}
    timers: dict[str, tuple[timeit.Timer, int]] = {}
    for name, call in calls.items():
        check(name, call, around, problem)
        timer = timeit.Timer(call, globals=around)
        once = max(min(timer.timeit(20) for _ in range(3)) / 20, 1e-9)
        timers[name] = timer, max(20, int(4e-4 / once))
        best[name] = float("inf")
    for _ in range(options.rounds):
        for name, (timer, count) in timers.items():
            best[name] = min(best[name], timer.timeit(count) / count * 1e9)
    return {"type": dtype, "n": n, "way": way, "ns": best}


def check(name: str, call: str, around: dict[str, Any], problem: Problem) -> None:
    """Stop at a wrong product."""
    c: Array = problem.c
    c[:] = float("nan") if name != "scipy gemm(c=)" else 0  # scipy multiplies what was there by beta
    eval(compile(call, name, "eval") if call != "pass" else "None", around)
    if call != "pass" and not problem.excess() <= 1:
        raise SystemExit(f"{name} is wrong at {problem.dtype} {problem.shape}")


if __name__ == "__main__":
    main()
