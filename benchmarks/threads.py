"""From where on two threads are faster than one: ``python3 build.py bench threads``.

Strided batches of ever more products. One thread; two, the second still awake from the call before; two, the second
asleep, as it is when calls come rarely. Medians, for what an awakening takes varies. `tw_thread_share`, 25 us for each
thread by default, is what a batch must be foreseen to take for there to be two; its choice is the last column.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import time
from typing import Any

from harness import rivals, timing  # first: sets every library to one thread
from harness.options import parser
from harness.problem import Problem, Shape
from harness.report import machine, table, write_json

SIZES = (4, 8, 16, 32, 64)
LONGEST = 6e5  # nanoseconds of one thread's time: beyond it there is no question
ASLEEP = 3e-4  # seconds between calls, in which a thread has gone to sleep


def main() -> None:
    """Measure, print, write."""
    options = parse()
    ours, timer, about = rivals.Tilewright("plan"), timing.Timer(), machine(-1)
    library = ctypes.CDLL(str(timing.LIBRARY))
    library.tw_thread_share.argtypes, library.tw_thread_share.restype = [ctypes.c_double], ctypes.c_double
    share = library.tw_thread_share(-1)
    cores = len(os.sched_getaffinity(0))
    print(f"{about['cpu']}, {cores} cores, load {about['load']:.1f}, {ours.version}, share {share / 1000:.0f} us")
    if cores < 2:
        raise SystemExit("two cores are needed")
    cells = []
    for dtype in options.types:
        for n in options.sizes:
            count, one = 2, 0.0
            while one < (2e4 if options.quick else LONGEST):
                problem = Problem(dtype, "NN", Shape(n, n, n), count)  # tasks hold its addresses, not its memory
                task = ours.task(problem)
                assert task is not None
                cells.append(measure(timer, library, task, share, options))
                cells[-1] |= {"type": dtype, "n": n, "count": count}
                one, count = cells[-1]["one"], count * 2
            ours.forget()
    show(cells)
    if options.json:
        write_json(options.json, {"schema": 1, "machine": about, "share": share, "cells": cells})


def parse() -> argparse.Namespace:
    """Read the command line."""
    made = parser("threads", __doc__, rounds=60, types="sd", rivals=False)
    made.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), help="sides of the cubes")
    options = made.parse_args()
    if options.quick:
        options.rounds, options.sizes = 5, [8]
    return options


def measure(
    timer: timing.Timer, library: Any, task: timing.Task, share: float, options: argparse.Namespace
) -> dict[str, Any]:
    """Return medians, in nanoseconds a call, and whether there would be two threads by themselves."""
    found: dict[str, list[float]] = {name: [] for name in ("one", "awake", "asleep", "chosen")}
    for _ in range(options.rounds):
        for name, threads, least in (("one", 1, share), ("awake", 2, 0.0), ("asleep", 2, 0.0), ("chosen", 2, share)):
            library.tw_set_num_threads(threads)
            library.tw_thread_share(least)
            for _ in range(3):
                timer.time(task, 1, 1)
            if name == "asleep":
                time.sleep(ASLEEP)
            found[name] += [timer.time(task, 1, 1) for _ in range(1 if name == "asleep" else 5)]
    library.tw_thread_share(share)
    return {name: statistics.median(times) for name, times in found.items()}


def show(cells: list[dict[str, Any]]) -> None:
    """Print a line a batch."""
    rows = []
    for cell in cells:
        one = cell["one"]
        ratios = [f"{one / cell[name]:.2f}" for name in ("awake", "asleep", "chosen")]
        rows.append([cell["type"], str(cell["n"]), str(cell["count"]), f"{one / 1000:.1f}", *ratios])
    print("\none thread in us, and how many times faster two are, medians\n")
    print(table(["type", "n", "count", "one, us", "awake", "asleep", "as chosen"], rows))


if __name__ == "__main__":
    main()
