"""Batches of cubes beside every rival found here: ``python3 build.py bench batch``.

Dense strided batches, one thread, beta = 0: `tw_gemm_batch_strided` against MKL's batched entry, loops in C over
LIBXSMM's kernels, OpenBLAS, BLIS and Eigen, and the stacked products of numpy and torch. In cache (all three operands
together take `CACHE` bytes) and from memory (`MEMORY` bytes). Every product is checked element by element; a wrong
rival is left out.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from harness import rivals, timing  # first: sets every library to one thread
from harness.options import parser
from harness.problem import Problem, Shape
from harness.report import geometric_mean, machine, table, write_json

CACHE = 256 << 10  # bytes: in a second-level cache
MEMORY = 96 << 20  # bytes: in no cache of one core
SIZES = (*range(2, 17), 24, 32)
GROUPS = (("2-5", 2, 5), ("6-8", 6, 8), ("9-16", 9, 16), ("24-32", 24, 32))


def main() -> None:
    """Measure, print, write."""
    options = parse()
    if options.install_rivals:
        rivals.install()
    ours = rivals.Tilewright("plan")
    others, absent = rivals.find(options.rivals, options.rival, options.types)
    python = python_rivals(options.rivals, absent)
    core = timing.pin(options.core)  # after compilers have run, on all cores
    timer, about = timing.Timer(), machine(core)
    print(f"{about['cpu']}, core {core} of {about['cores']}, load {about['load']:.1f} at the start")
    versions = {rival.name: rival.version for rival in (ours, *others)}
    versions |= {name: version for name, (version, _) in python.items()}
    for name, version in versions.items():
        print(f"  {name:12} {version}")
    for name, why in absent.items():
        print(f"  {name:12} not assessed: {why}")
    peaks = {dtype: timer.peak(dtype, 1000) for dtype in options.types}
    cells: list[dict[str, Any]] = []
    for dtype in options.types:
        for mode in options.modes:
            for place, room in (("cache", CACHE), ("memory", MEMORY)):
                if place not in options.places:
                    continue
                for n in options.sizes:
                    size = 3 * n * n * {"s": 4, "d": 8, "c": 8, "z": 16}[dtype]
                    problem = Problem(dtype, mode, Shape(n, n, n), max(2, room // size))
                    cells.append(measure(timer, problem, place, ours, others, python, options))
                ours.forget()
    show(cells, peaks)
    if options.json:
        data = {"schema": 1, "machine": about, "peaks": peaks, "libraries": versions, "not_assessed": absent}
        write_json(options.json, {**data, "cells": cells})


def parse() -> argparse.Namespace:
    """Read the command line."""
    made = parser("batch", __doc__, rounds=4, modes=["NN"])
    made.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), help="sides of the cubes")
    made.add_argument("--places", nargs="+", choices=("cache", "memory"), default=["cache", "memory"])
    options = made.parse_args()
    if options.quick:
        options.rounds, options.sizes, options.places = 2, [3, 8], ["cache"]
    return options


Stacked = Callable[[Problem], Callable[[], object]]


def python_rivals(names: Sequence[str] | None, absent: dict[str, str]) -> dict[str, tuple[str, Stacked]]:
    """Return numpy's and torch's stacked products, each as (version, function that makes the call of a problem)."""
    found: dict[str, tuple[str, Stacked]] = {}
    if names is not None:
        return found
    numpy = importlib.import_module("numpy")

    def matmul(problem: Problem) -> Callable[[], object]:
        a, b = problem.operands()
        return partial(numpy.matmul, a, b, out=problem.c)

    found["numpy"] = numpy.__version__, matmul
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        absent["torch"] = f"{error} (PyPI: pyproject's extra `bench`)"
        return found
    torch.set_num_threads(1)

    def bmm(problem: Problem) -> Callable[[], object]:
        a, b = (torch.from_numpy(operand) for operand in problem.operands())
        return partial(torch.bmm, a, b, out=torch.from_numpy(problem.c))

    found["torch"] = torch.__version__, bmm
    return found


def measure(
    timer: timing.Timer,
    problem: Problem,
    place: str,
    ours: rivals.Tilewright,
    others: Sequence[rivals.Rival],
    python: dict[str, tuple[str, Stacked]],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Check and time everybody at one batch; in GFLOP/s."""
    tasks: dict[str, timing.Task | Callable[[], object]] = {}
    wrong = []
    candidates = {rival.name: rival.task(problem) for rival in (ours, *others)}
    calls = {name: make(problem) for name, (_, make) in python.items()}
    for name, task in {**candidates, **calls}.items():
        if task is None:
            continue
        problem.c[:] = float("nan")
        timer.run(task) if isinstance(task, timing.Task) else task()
        if problem.excess() <= 1:
            tasks[name] = task
        else:
            wrong.append(name)
            print(f"  WRONG, left out: {name} {problem.dtype} {problem.mode} {problem.count} of {problem.shape}")
    budget = 0.3e6 if options.quick else 4e6
    times = timing.interleave(timer, tasks, rounds=options.rounds, budget=budget)
    flops = problem.flops * problem.count
    cell = {"type": problem.dtype, "mode": problem.mode, "place": place, "n": problem.shape.n, "count": problem.count}
    speeds = {name: flops / nanoseconds for name, nanoseconds in times.items()}
    moved = sum(array.nbytes for array in (problem.a, problem.b, problem.c))
    return {
        **cell,
        "gflops": speeds,
        "bytes_a_ns": moved / times[ours.name] if ours.name in times else 0,
        "wrong": wrong,
    }


def show(cells: Sequence[dict[str, Any]], peaks: dict[str, float]) -> None:
    """Print a line a batch, then means by size."""
    names = list(dict.fromkeys(name for cell in cells for name in cell["gflops"]))
    rows = []
    ratios: dict[tuple[str, str, str, str], list[tuple[float, str]]] = {}
    for cell in cells:
        speeds = cell["gflops"]
        best, rival = max(((speed, name) for name, speed in speeds.items() if name != "tilewright"), default=(0.0, "-"))
        ratio = speeds["tilewright"] / best if best else float("nan")
        group = next((name for name, low, high in GROUPS if low <= cell["n"] <= high), "other")
        if best:
            key = (cell["type"], cell["mode"], cell["place"], group)
            ratios.setdefault(key, []).append((ratio, f"{ratio:.2f} at {cell['n']} ({rival})"))
        place = f"{cell['place']}, {cell['count']}"
        values = [f"{speeds[name]:.1f}" if name in speeds else "-" for name in names]
        bandwidth = f"{cell['bytes_a_ns']:.1f}"
        rows.append(
            [f"{cell['type']} {cell['mode']}", str(cell["n"]), place, *values, f"{ratio:.2f}", rival, bandwidth]
        )
    print("\npeak of one core, GFLOP/s: " + str({dtype: round(peak, 1) for dtype, peak in peaks.items()}))
    print("\nGFLOP/s; ratio of ours to the best rival; GB/s of ours, each operand counted once\n")
    print(table(["type, mode", "n", "where, count", *names, "ratio", "best rival", "GB/s"], rows))
    means = [
        [f"{dtype} {mode}", place, group, f"{geometric_mean(ratio for ratio, _ in found):.2f}", min(found)[1]]
        for (dtype, mode, place, group), found in ratios.items()
    ]
    print("\n" + table(["type, mode", "where", "sizes", "ratio, geometric mean", "worst"], means))


if __name__ == "__main__":
    main()
