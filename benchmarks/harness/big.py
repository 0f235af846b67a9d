"""Large products held against every rival: measured with one thread and with several, as per cent of the roofline.

Each number of threads has a process of its own, since libraries read theirs when they are loaded. The roofline of a
product is the least of the cores' peak and of what its operands, each counted once, allow at the speed at which as many
threads read as many bytes again and again: from a cache where they fit into one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import THREADS, rivals, timing
from .options import parser
from .packed import USES, Times
from .packed import measure as measure_packed
from .problem import Array, Problem, Shape
from .report import geometric_mean, load_pyplot, machine, table, write_json

PLAIN = ("openblas", "mkl", "blis", "eigen", "onednn")


class Job(NamedTuple):
    """A product to measure and the group in whose mean it counts."""

    group: str
    dtype: str
    mode: str
    shape: Shape


@dataclass
class Cell:
    """One product, and how fast each library is at it."""

    group: str
    dtype: str
    mode: str
    shape: Shape
    threads: int
    gflops: dict[str, float]
    roofline: float
    """GFLOP/s."""
    bound: str
    """What the roofline is: "peak" or "memory"."""
    wrong: list[str] = field(default_factory=list)
    packed: dict[str, Times] = field(default_factory=dict)

    @property
    def best(self) -> tuple[float, str]:
        """The best rival's GFLOP/s and name; 0 and "-" where there is none."""
        return max(((speed, name) for name, speed in self.gflops.items() if name != "tilewright"), default=(0.0, "-"))

    @property
    def ratio(self) -> float:
        """Ours over the best rival's; NaN without one."""
        best, ours = self.best[0], self.gflops.get("tilewright", 0.0)
        return ours / best if best and ours else float("nan")

    @property
    def percent(self) -> float:
        """Ours in per cent of the roofline."""
        return 100 * self.gflops.get("tilewright", 0.0) / self.roofline

    def __str__(self) -> str:
        return f"{self.dtype} {self.mode} {self.shape}"


class BigProblem(Problem):
    """A problem whose reference is affordable: numpy's product in twice the precision, or in the same for d and z.

    There a sample of rows and columns, the first and last among them, is also computed in long double. The operands
    are random, of both signs: even summed one after the other, an element's error has a deviation of 0.4 u times the
    norms of A's row and B's column, whatever k. The bound is 8 u times these (k + 2 where that is less; 2 sqrt 2 times
    that for complex types), twice as wide where the reference errs too.
    """

    def excess(self) -> float:
        """Return the largest error in C over its bound; NaN if C holds any."""
        a, b = self.operands()
        narrow = self.dtype in "sc"
        if self._reference is None:
            wide = np.complex128 if self.dtype in "cz" else np.float64
            factor = (2 * np.sqrt(2) if self.dtype in "cz" else 1) * min(8, self.shape.k + 2) * (1 if narrow else 2)
            norms = [np.sqrt(_squares(x)) for x in (a, b.T)]
            exact = np.empty(self.c.shape, wide)
            right, step = b.astype(wide), max(1, (1 << 24) // max(1, self.shape.k))
            for row in range(0, self.shape.m, step):
                exact[row : row + step] = a[row : row + step].astype(wide) @ right
            unit = 2.0 ** (-24 if narrow else -53)
            self._reference = exact, factor * unit * norms[0][:, np.newaxis] * norms[1]
        exact, bound = self._reference
        found = float(np.max(np.abs(exact - self.c) / bound))
        if narrow or not found <= 1:
            return found
        count = 16 if self.shape.k <= 20000 else 3
        rows, columns = (np.unique(np.linspace(0, size - 1, count).astype(int)) for size in self.c.shape)
        long = np.clongdouble if self.dtype == "z" else np.longdouble
        sample = a[rows].astype(long) @ b[:, columns].astype(long)
        place = np.ix_(rows, columns)
        return max(found, float(np.max(np.abs(sample - self.c[place]) / bound[place])))


def _squares(x: Array) -> Array:
    """Return the sum of squares of each row."""
    step, total = max(1, (1 << 22) // max(1, x.shape[1])), np.empty(x.shape[0])
    for row in range(0, x.shape[0], step):
        part = np.abs(x[row : row + step]).astype(np.float64)
        total[row : row + step] = np.einsum("ij,ij->i", part, part)
    return total


def read(name: str, about: str | None, **more: Any) -> argparse.Namespace:
    """Read the command line of a benchmark of large products."""
    made = parser(name, about, rounds=3, **more)
    add = made.add_argument
    add("--threads", nargs="+", type=int, default=[1, 2], help="numbers of threads (default: 1 2)")
    add("--full", action="store_true", help="every product: many minutes")
    add("--groups", nargs="+", metavar="GROUP", help="only these groups of products")
    add("--figure", metavar="FILE", help="draw per cent of the roofline (needs matplotlib)")
    add("--from-json", metavar="FILE", nargs="+", help="print what earlier runs wrote in place of measuring")
    add("--child", metavar="FILE", help=argparse.SUPPRESS)
    options = made.parse_args()
    if options.quick:
        options.rounds = 1
    return options


def run(
    options: argparse.Namespace, jobs: Sequence[Job], packed: Callable[[Job], bool] = lambda job: False
) -> dict[str, Any]:
    """Measure `jobs`, a process for each number of threads; return what JSON has. Such a process itself ends here."""
    if options.child:
        Path(options.child).write_text(json.dumps(_measure_all(options, jobs, packed)))
        sys.exit(0)
    if options.from_json:
        parts = [json.loads(Path(path).read_text()) for path in options.from_json]
    else:
        if options.install_rivals:
            rivals.install()
        parts = []
        for threads in options.threads:
            with tempfile.TemporaryDirectory() as folder:
                output = str(Path(folder) / "cells.json")
                command = [sys.executable, *sys.argv, "--child", output]
                environment = {**os.environ, "BENCH_THREADS": str(threads)}
                if subprocess.run(command, env=environment).returncode:
                    raise SystemExit(f"the process with {threads} threads failed")
                parts.append(json.loads(Path(output).read_text()))
    data = {**parts[0], "cells": [cell for part in parts for cell in part["cells"]]}
    data["wrong"] = sorted({name for cell in data["cells"] for name in cell["wrong"]})
    for part in parts:
        data["libraries"] |= part["libraries"]
        data["peaks"] |= part["peaks"]
        data["not_assessed"] |= part["not_assessed"]
    if options.json:
        write_json(options.json, data)
    return data


def cells_of(data: dict[str, Any]) -> list[Cell]:
    """Return the cells of a result."""
    return [
        Cell(**{**cell, "shape": Shape(*cell["shape"]), "packed": {n: Times(*t) for n, t in cell["packed"].items()}})
        for cell in data["cells"]
    ]


def _measure_all(options: argparse.Namespace, jobs: Sequence[Job], packed: Callable[[Job], bool]) -> dict[str, Any]:
    started = time.monotonic()
    ours = rivals.Tilewright("call")
    ours.name = "tilewright"
    names = [name for name in options.rivals if name in PLAIN] if options.rivals is not None else list(PLAIN)
    others, absent = rivals.find(names, options.rival, options.types)
    if THREADS == 1:
        cores = [timing.pin(options.core)]
    else:
        cores = timing.spread(THREADS)
    timer, about = timing.Timer(), machine(cores[0])
    print(f"{about['cpu']}, {THREADS} thread(s) on cores {cores} of {about['cores']}, load {about['load']:.1f}")
    for rival in (ours, *others):
        print(f"  {rival.name:12} {rival.version}")
    for name, why in absent.items():
        print(f"  {name:12} not assessed: {why}")
    peaks = {dtype: THREADS * timer.peak(dtype, 300) for dtype in options.types}
    cells = []
    for job in jobs:
        cells.append(_measure(job, timer, peaks[job.dtype], ours, others, packed, options))
        cell = cells[-1]
        speeds = ", ".join(f"{name} {speed:.1f}" for name, speed in cell.gflops.items())
        took = time.monotonic() - started
        print(f"  {took:4.0f} s  {cell}: {speeds} ({cell.percent:.0f} % of the roofline)", flush=True)
    versions = {rival.name: rival.version for rival in (ours, *others)}
    return {
        "schema": 1,
        "machine": about,
        "peaks": {f"{dtype}, {THREADS} thread(s)": peak for dtype, peak in peaks.items()},
        "libraries": {f"{name}, {THREADS} thread(s)": version for name, version in versions.items()},
        "not_assessed": {f"{name}, {THREADS} thread(s)": why for name, why in absent.items()},
        "cells": [asdict(cell) for cell in cells],
    }


def _measure(
    job: Job, timer: timing.Timer, peak: float, ours: rivals.Tilewright, others: Sequence[rivals.Rival],
    packed: Callable[[Job], bool], options: argparse.Namespace,
) -> Cell:  # fmt: skip
    """Check and time every library at one product."""
    problem = BigProblem(job.dtype, job.mode, job.shape)
    size = sum(array.nbytes for array in (problem.a, problem.b, problem.c))
    problem.c[:] = float(
        "nan"
    )  # or its pages are all the system's one page of zeros, which is read from the first cache
    allowed = problem.flops / size * timer.bandwidth(problem.a.ctypes.data, size, THREADS, max(6, (1 << 28) // size))
    tasks: dict[str, timing.Task] = {}
    wrong = []
    for rival in (ours, *others):
        task = rival.task(problem)
        if task is None:
            continue
        problem.c[:] = float("nan")
        timer.run(task)
        if problem.excess() <= 1:
            tasks[rival.name] = task
        else:
            wrong.append(rival.name)
            print(f"  WRONG, left out: {rival.name} {job.dtype} {job.mode} {job.shape}", flush=True)
    budget = 1e6 if options.quick else 3e7
    times = timing.interleave(timer, tasks, rounds=options.rounds, budget=budget, quiet=THREADS > 1)
    speeds = {name: problem.flops / nanoseconds for name, nanoseconds in times.items()}
    bound = "memory" if allowed < peak else "peak"
    cell = Cell(job.group, job.dtype, job.mode, job.shape, THREADS, speeds, min(peak, allowed), bound, wrong)
    if packed(job):
        cell.packed = measure_packed(problem, timer, ours, others, options.rounds)
        ours.forget()
    return cell


# ---------------------------------------------------------------------------------------------------- printing


def show_cells(cells: Sequence[Cell]) -> None:
    """Print a line for every product."""
    names = list(dict.fromkeys(name for cell in cells for name in cell.gflops))
    rows = []
    for cell in cells:
        speeds = [f"{cell.gflops[name]:.1f}" if name in cell.gflops else "-" for name in names]
        best = f"{100 * cell.best[0] / cell.roofline:.0f}"
        rows.append([str(cell.threads), str(cell), *speeds, f"{cell.roofline:.1f} {cell.bound}", f"{cell.percent:.0f}"])
        rows[-1] += [best, f"{cell.ratio:.2f}", cell.best[1]]
    header = ["threads", "product", *names, "roofline", "ours, % of it", "best rival, %", "ratio", "best rival"]
    print(f"\nGFLOP/s, and what the roofline is\n\n{table(header, rows)}")


def show_groups(cells: Iterable[Cell]) -> None:
    """Print means of ratio and roofline for every number of threads, type and group, with the worst product."""
    groups: dict[tuple[int, str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.threads, cell.dtype, cell.group), []).append(cell)
    rows = []
    for (threads, dtype, group), here in groups.items():
        compared = sorted((cell for cell in here if cell.ratio > 0), key=lambda cell: cell.ratio)
        mean = geometric_mean(cell.ratio for cell in compared)
        worst = f"{compared[0].ratio:.2f} at {compared[0].mode} {compared[0].shape} ({compared[0].best[1]})"
        percent = geometric_mean(max(cell.percent, 1e-9) for cell in here)
        below = f"{sum(cell.ratio < 0.95 for cell in compared)} of {len(here)}"
        rows.append([str(threads), dtype, group, f"{percent:.0f}", f"{mean:.2f}", below, worst if compared else "-"])
    header = ["threads", "type", "group", "ours, % of roofline", "ratio to best rival", "below 0.95", "worst"]
    print(f"\nGeometric means\n\n{table(header, rows)}")


def show_packed(cells: Iterable[Cell]) -> None:
    """Print what packing the larger operand once is worth over so many uses, beside one-shot products."""
    rows = []
    for cell in cells:
        flops = (8 if cell.dtype in "cz" else 2) * float(np.prod(cell.shape))
        for name, times in cell.packed.items():
            ratios = [f"{flops / cell.gflops[name] / (times.pack / uses + times.use):.2f}" for uses in USES]
            planned = (str(times.planned_from) if times.planned_from else "never") if name == "tilewright" else ""
            took = [f"{times.pack / 1e6:.2f}", f"{times.use / 1e6:.3f}"]
            percent = f"{100 * flops / times.use / cell.roofline:.0f}"
            rows.append([str(cell.threads), str(cell), name, *took, percent, *ratios, planned])
    if rows:
        header = [
            "threads",
            "product",
            "library",
            "packing, ms",
            "use, ms",
            "% of roofline",
            *(f"{u} uses" for u in USES),
        ]
        print("\nThe larger operand packed once: one-shot time over (packing / uses + use)\n")
        print(table([*header, "planner packs from"], rows))


def draw(path: str, cells: Sequence[Cell]) -> None:
    """Draw per cent of the roofline: a panel for each group, type and number of threads, a line for each library.

    Raises
    ------
    SystemExit
        Without matplotlib.
    """
    pyplot = load_pyplot()
    groups = list(dict.fromkeys(cell.group for cell in cells))
    lines = list(dict.fromkeys((cell.dtype, cell.threads) for cell in cells))
    names = list(dict.fromkeys(name for cell in cells for name in cell.gflops))
    size = (1 + 4 * len(groups), 1 + 3 * len(lines))
    drawing, panels = pyplot.subplots(len(lines), len(groups), figsize=size, sharey=True, squeeze=False)
    for row, (dtype, threads) in zip(panels, lines, strict=True):
        for panel, group in zip(row, groups, strict=True):
            here = [cell for cell in cells if (cell.dtype, cell.threads, cell.group) == (dtype, threads, group)]
            for color, name in enumerate(names):
                points = [(i, 100 * c.gflops[name] / c.roofline) for i, c in enumerate(here) if name in c.gflops]
                ours = name == "tilewright"
                style = {"color": "black", "linewidth": 2.2, "zorder": 9} if ours else {"color": f"C{color}"}
                if points:
                    panel.plot(*zip(*points, strict=True), marker=".", label=name, **style)
            panel.set_title(f"{dtype}, {threads} thread{'s' * (threads > 1)}: {group}", fontsize=9)
            labels = [f"{cell.mode} {cell.shape}" for cell in here]
            panel.set_xticks(range(len(here)), labels, rotation=90, fontsize=6)
            panel.set_ylim(0, 125)
            panel.grid(alpha=0.3)
    drawing.supylabel("per cent of the roofline")
    handles: dict[str, Any] = {}
    for panel in panels.flat:
        handles.update(dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True)))
    drawing.legend(handles.values(), handles.keys(), loc="upper center", ncols=len(names), frameon=False)
    drawing.tight_layout(rect=(0, 0, 1, 0.97))
    drawing.savefig(path, dpi=70)
