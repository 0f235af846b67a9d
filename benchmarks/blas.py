"""Our BLAS library in place of others': ``python3 build.py bench blas``.

First numpy's ``np.matmul(a, b, out=c)`` with the library preloaded beside numpy as it is, each in a process of its
own, in turns, so that both see the same machine; the least of many rounds, one thread. Then what ``cblas_sgemm``
costs a C program on products so small that little else is left.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import subprocess
import sys
from typing import Any

from harness import rivals, timing  # first: sets every library to one thread
from harness.report import machine, table, write_json

from tilewright.generator.compile import Compiler, host_arch
from tilewright.runtime import cli

SQUARES = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 200, 256, 500, 1000, 2000)
SKINNY = ((2000, 8, 8), (8, 2000, 8), (8, 8, 2000), (20000, 16, 16), (16, 16, 20000), (1000, 4, 500), (4, 1000, 500))
SHAPES = [*((n, n, n) for n in SQUARES), *SKINNY]
ALTERNATING = {"4": (4,), "4 and 5": (4, 5), "1 to 12": tuple(range(1, 13))}
WORKER = """
import json, sys, time
import numpy as np
clock = time.perf_counter_ns
arrays = {}
for line in sys.stdin:
    dtype, m, n, k, nanoseconds = json.loads(line)
    if (dtype, m, n, k) not in arrays:
        random = np.random.default_rng(1)
        arrays.clear()
        arrays[dtype, m, n, k] = [random.standard_normal(shape).astype(dtype) for shape in ((m, k), (k, n))]
        if dtype in "FD":
            arrays[dtype, m, n, k] = [x + x.dtype.type(1j) * x[::-1] for x in arrays[dtype, m, n, k]]
        a, b = arrays[dtype, m, n, k]
        c = np.empty((m, n), dtype)
        np.matmul(a, b, out=c)
    begun = clock()
    np.matmul(a, b, out=c)
    calls = max(1, min(2000, int(20000 / max(1, clock() - begun))))
    best, end = 1e30, clock() + nanoseconds
    while True:
        begun = clock()
        for _ in range(calls):
            np.matmul(a, b, out=c)
        now = clock()
        best = min(best, (now - begun) / calls)
        if now > end:
            break
    print(json.dumps([best, float(abs(c).sum())]), flush=True)
"""


def main() -> None:
    """Measure, print, write."""
    options = parse()
    core = timing.pin(options.core)
    about = machine(core)
    found, absent = rivals.find(("openblas", "mkl", "blis"), [], "s")
    print(f"{about['cpu']}, core {core} of {about['cores']}, load {about['load']:.1f}")
    cells = numpy_cells(options)
    rows = [
        [
            cell["type"],
            "x".join(map(str, cell["shape"])),
            f"{cell['ours'] / 1e3:.2f}",
            f"{cell['numpy'] / 1e3:.2f}",
            f"{cell['ratio']:.2f}",
        ]
        for cell in cells
    ]
    print("\nnp.matmul(a, b, out=c), us a call: preloaded, as it is, and how many times faster\n")
    print(table(["type", "m x n x k", "preloaded", "numpy", "ratio"], rows))
    for letter in options.types:
        ratios = [cell["ratio"] for cell in cells if cell["type"] == letter]
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        behind = sum(ratio < 0.97 for ratio in ratios)
        print(f"{letter}: {mean:.2f} by geometric mean, {behind} of {len(ratios)} behind by more than 3 %")
    worst = min(cells, key=lambda cell: float(cell["ratio"]))
    print(f"worst: {worst['type']} {'x'.join(map(str, worst['shape']))}, {worst['ratio']:.2f}")
    costs = call_costs(found, options)
    print("\ncblas_sgemm from C, ns a call, squares that come in turns\n")
    print(table(["library", *ALTERNATING], [[name, *(f"{ns:.1f}" for ns in row)] for name, row in costs.items()]))
    for name, why in absent.items():
        print(f"  {name}: not assessed, {why}")
    if options.json:
        write_json(
            options.json, {"schema": 1, "machine": about, "cells": cells, "calls": costs, "not_assessed": absent}
        )


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="build.py bench blas", description=str(__doc__).partition("\n")[0])
    add = parser.add_argument
    add("--types", default="sdcz", help="of sdcz (default: all)")
    add("--quick", action="store_true", help="few shapes and rounds")
    add("--rounds", type=int, default=6, help="turns of each side at each shape (default 6)")
    add("--most", type=int, default=2000, help="no side longer than this (skinny shapes aside)")
    add("--core", type=int, help="the core to run on (default: the least disturbed)")
    add("--json", metavar="FILE", help="write everything measured")
    options = parser.parse_args()
    if not options.types or set(options.types) - set("sdcz"):
        parser.error(f"--types {options.types}: letters of sdcz are wanted")
    return options


class Numpy:
    """A Python that multiplies when it is told to."""

    def __init__(self, preload: str) -> None:
        slowing = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
        environment = {name: value for name, value in os.environ.items() if name not in slowing}
        environment |= {"LD_PRELOAD": preload} if preload else {}
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def best(self, letter: str, shape: tuple[int, int, int], milliseconds: float) -> tuple[float, float]:
        """Return the least nanoseconds of a product, and the sum of its result."""
        request = ["fdFD"["sdcz".index(letter)], *shape, milliseconds * 1e6]
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline())
        return answer[0], answer[1]


def numpy_cells(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time every shape on both sides."""
    sides = {"ours": Numpy(str(cli.blas_library())), "numpy": Numpy("")}
    shapes = SHAPES[1::6] if options.quick else SHAPES
    shapes = [shape for shape in shapes if max(shape) <= options.most or shape in SKINNY]
    cells = []
    for letter in options.types:
        for shape in shapes:
            best, sums = dict.fromkeys(sides, math.inf), {}
            for turn in range(2 if options.quick else options.rounds):
                for name in list(sides)[:: 1 - 2 * (turn % 2)]:
                    took, sums[name] = sides[name].best(letter, shape, 2 if options.quick else 15)
                    best[name] = min(best[name], took)
            if not math.isclose(sums["ours"], sums["numpy"], rel_tol=1e-4 if letter in "sc" else 1e-10):
                raise SystemExit(f"{letter} {shape}: the products differ: {sums}")
            ratio = best["numpy"] / best["ours"]
            cells.append({"type": letter, "shape": shape, **best, "ratio": ratio})
    for side in sides.values():
        side.process.terminate()
    return cells


def call_costs(found: list[rivals.Rival], options: argparse.Namespace) -> dict[str, list[float]]:
    """Nanoseconds a call of each library's cblas_sgemm."""
    compiler = [*Compiler.find(host_arch()).command, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"]
    timer = ctypes.CDLL(str(timing.build(timing.HERE / "call_cost.c", "call_cost", compiler)))
    timer.bench_call.restype = ctypes.c_double
    timer.bench_call.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int]
    entries: dict[str, Any] = {"tilewright": rivals.load(cli.blas_library()).cblas_sgemm}
    for rival in found:
        if isinstance(rival, rivals.Cblas):
            entries[rival.name] = getattr(rival.lib, f"{rival.prefix}cblas_sgemm")
    chunks = 200 if options.quick else 2000
    costs: dict[str, list[float]] = {name: [] for name in entries}
    for sizes in ALTERNATING.values():
        array = (ctypes.c_int * len(sizes))(*sizes)
        best = dict.fromkeys(entries, math.inf)
        for _ in range(3):
            for name, entry in entries.items():
                took = timer.bench_call(timing.address(entry), len(sizes), array, 1000, chunks)
                best[name] = min(best[name], took)
        for name, took in best.items():
            costs[name].append(took)
    return costs


if __name__ == "__main__":
    main()
