"""What kernels for one size gain: ``python3 build.py bench specialize``.

Each shape by plans that use kernels for any size, then by plans that use kernels for this one (those that ship, or made
by `tilewright.runtime.specialize`), beside LIBXSMM's, which are made for one size too. Alone, its operands in the first
cache, and as a dense strided batch of `CACHE` bytes; one thread, beta = 0, checked, all taking turns in one process.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("TILEWRIGHT_CACHE", tempfile.mkdtemp(prefix="tilewright-bench-"))

from harness import rivals, timing  # first: sets every library to one thread
from harness.problem import DTYPES, MODES, Problem, Shape
from harness.report import geometric_mean, machine, table, write_json

import tilewright.runtime as tw
from tilewright.runtime._library import lib

CACHE = 256 << 10  # bytes of a batch: in a second-level cache
CUBES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16)
OTHERS = (
    (6, 3, 9),
    (3, 3, 6),
    (4, 2, 4),
    (2, 4, 8),
    (1, 4, 4),
    (12, 4, 3),
    (6, 6, 3),
    (13, 5, 7),
    (16, 8, 4),
    (20, 20, 5),
)
ALONE, BATCH = "alone", "batch"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="build.py bench specialize", description=str(__doc__).partition("\n")[0])
    add = parser.add_argument
    add("--types", default="sdcz", help="of sdcz (default: all)")
    add("--modes", nargs="+", default=["NN"], choices=MODES, help="row-major names (default: NN)")
    add("--quick", action="store_true", help="few shapes, little time for each")
    add("--core", type=int, help="the core to run on (default: the least disturbed)")
    add("--json", metavar="FILE", help="write everything measured")
    options = parser.parse_args()
    shapes = [Shape(n, n, n) for n in CUBES] + [Shape(*sizes) for sizes in OTHERS]
    if options.quick:
        shapes = [Shape(3, 3, 3), Shape(6, 3, 9)]
    ours = rivals.Tilewright("plan")
    others, absent = rivals.find(["libxsmm"], [], options.types)
    plain = {(dtype, mode, shape): tasks(ours, dtype, mode, shape, use=False)
             for dtype in options.types for mode in options.modes for shape in shapes}  # fmt: skip
    made = tw.specialize([(*shape, DTYPES[dtype], mode) for dtype, mode, shape in plain])
    core = timing.pin(options.core)
    timer, about = timing.Timer(), machine(core)
    print(f"{about['cpu']}, core {core} of {about['cores']}, load {about['load']:.1f} at the start")
    for rival in (ours, *others):
        print(f"  {rival.name:12} {rival.version}")
    for name, why in absent.items():
        print(f"  {name:12} not assessed: {why}")
    print(
        f"  specialize: {'made' if made.compiled else 'found'} in {made.seconds:.1f} s, {len(made.products)} products"
    )
    cells = []
    for (key, before), product in zip(plain.items(), made.products, strict=True):
        after = tasks(ours, *key, use=True)
        for place in (ALONE, BATCH):
            cells.append(measure(timer, key, place, before[place], after[place], others, options.quick))
            cells[-1]["kernel"] = product.batch if place == BATCH else ", ".join(product.kernels)
    show(cells)
    if options.json:
        write_json(options.json, {"schema": 1, "machine": about, "cells": cells})


Timed = tuple[Problem, timing.Task]


def tasks(ours: rivals.Tilewright, dtype: str, mode: str, shape: Shape, *, use: bool) -> dict[str, Timed]:
    """Return problem and task of a product and of a batch of it, by plans made with or without kernels for one size."""
    lib.tw_special_use(use)
    m, n, k = shape
    size = (m * k + k * n + m * n) * DTYPES[dtype]().itemsize
    found = {}
    for place, count in ((ALONE, 1), (BATCH, max(16, CACHE // size))):
        problem = Problem(dtype, mode, shape, count)
        task = ours.task(problem)
        assert task is not None
        found[place] = problem, task
    lib.tw_special_use(1)
    return found


def measure(
    timer: timing.Timer,
    key: tuple[str, str, Shape],
    place: str,
    before: Timed,
    after: Timed,
    others: Sequence[rivals.Rival],
    quick: bool,
) -> dict[str, Any]:
    """Check and time everybody at one shape; nanoseconds a product."""
    dtype, mode, shape = key
    run: dict[str, timing.Task] = {}
    rival = [(other.name, (before[0], task)) for other in others if (task := other.task(before[0])) is not None]
    for name, (problem, task) in [("any size", before), ("this size", after), *rival]:
        problem.c[:] = float("nan")
        timer.run(task)
        if problem.excess() <= 1:
            run[name] = task
        else:
            print(f"  WRONG, left out: {name} {dtype} {mode} {place} {shape}")
    times = timing.interleave(timer, run, rounds=2 if quick else 4, budget=0.3e6 if quick else 4e6)
    return {"type": dtype, "mode": mode, "shape": str(shape), "size": shape.size, "place": place,
            "ns": {name: time / before[0].count for name, time in times.items()}}  # fmt: skip


def show(cells: Sequence[dict[str, Any]]) -> None:
    """Print a line a cell, then means by size."""
    rows, gains = [], dict[tuple[str, str, str], list[tuple[float, str]]]()
    for cell in cells:
        ns = cell["ns"]
        gain = ns["any size"] / ns["this size"]
        rival = ns.get("libxsmm")
        group = next(name for name, top in (("1-4", 4.5), ("5-8", 8.5), ("9 and up", 1e9)) if cell["size"] < top)
        gains.setdefault((f"{cell['type']} {cell['mode']}", cell["place"], group), []).append((gain, cell["shape"]))
        rows.append([f"{cell['type']} {cell['mode']}", cell["shape"], cell["place"], f"{ns['any size']:.2f}",
                     f"{ns['this size']:.2f}", f"{gain:.2f}", f"{rival:.2f}" if rival else "-",
                     f"{rival / ns['this size']:.2f}" if rival else "-", cell["kernel"] or "-"])  # fmt: skip
    print(
        "\nnanoseconds a product; gain of kernels for this size over kernels for any; LIBXSMM's time, and over ours\n"
    )
    header = ["type, mode", "shape", "where", "any size", "this size", "gain", "libxsmm", "ratio", "kernel"]
    print(table(header, rows))
    means = [[*key, f"{geometric_mean(gain for gain, _ in found):.2f}", "{:.2f} at {}".format(*min(found))]
             for key, found in gains.items()]  # fmt: skip
    print("\n" + table(["type, mode", "where", "cube root of mnk", "gain, geometric mean", "worst"], means))


if __name__ == "__main__":
    main()
