"""Small products beside every rival found here: ``python3 build.py bench small``.

One thread on one core, operands in cache, alpha = 1, beta = 0, plain row-major arrays, every call timed in a loop of C
(harness/timing.c). All libraries take turns in one process and the least time of many counts. What each computes is
checked element by element first; a wrong one is named and left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness import rivals, timing  # first: sets every library to one thread
from harness.options import parser
from harness.problem import CLASSES, MODES, SQUARES, Problem, Shape, shapes_beside_squares
from harness.report import figure, geometric_mean, machine, table, write_json

KINDS = ("rectangular", "thin", "short")
MUST = ("openblas", "mkl", "eigen", "blis")  # ahead of these everywhere, says the project
GOALS: tuple[tuple[str, str, tuple[str, ...], tuple[float, ...], float], ...] = (
    ("s NN, TN", "s", ("NN", "TN"), (1.5, 1.1, 1.15, 1.03), 0.95),
    ("d NN, TN", "d", ("NN", "TN"), (1.3, 1.2, 1.05, 1.0), 0.95),
    ("s NT, TT", "s", ("NT", "TT"), (3, 1.3, 1.3, 1.08), 1.0),
    ("d NT, TT", "d", ("NT", "TT"), (2, 1.35, 1.15, 1.05), 1.0),
    ("c all modes", "c", MODES, (2.5, 1.4, 1.15, 1.07), 0.97),
    ("z NN, TN, TT", "z", ("NN", "TN", "TT"), (2, 1.2, 1.04, 1.01), 0.97),
    ("z NT", "z", ("NT",), (2, 1.2, 1.04, 1.08), 0.97),
    ("rectangular, thin, k <= 3", "sdcz", MODES, (1.3, 1.3, 1.2, 1.1), 0.95),
)


@dataclass
class Cell:
    """One product and how fast each library is at it."""

    dtype: str
    mode: str
    shape: Shape
    gflops: dict[str, float]
    wrong: list[str] = field(default_factory=list)

    @property
    def group(self) -> str:
        """Its row of the tables: a size class, or the kind of shape."""
        return self.shape.size_class if self.shape.kind == "square" else self.shape.kind

    def data(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        m, n, k = self.shape
        size = {"m": m, "n": n, "k": k, "kind": self.shape.kind, "class": self.shape.size_class}
        return {"type": self.dtype, "mode": self.mode, **size, "gflops": self.gflops, "wrong": self.wrong}


@dataclass
class Contest:
    """Whom ours is held against, and by which of our entries."""

    title: str
    ours: str
    theirs: list[str]

    def best(self, cell: Cell) -> tuple[float, str]:
        """Return the best rival's GFLOP/s and name, 0 and "" where none was measured."""
        there = [name for name in self.theirs if name in cell.gflops]
        return max(((cell.gflops[name], name) for name in there), default=(0.0, ""))

    def ratio(self, cell: Cell) -> float | None:
        """Return ours over the best rival's."""
        best, _ = self.best(cell)
        return cell.gflops[self.ours] / best if best and self.ours in cell.gflops else None

    def ratios(self, cells: Iterable[Cell]) -> list[tuple[float, Cell]]:
        """Return the ratio of every cell that has one, worst first."""
        found = [(ratio, cell) for cell in cells if (ratio := self.ratio(cell)) is not None]
        return sorted(found, key=lambda pair: pair[0])

    def named(self, ratio: float, cell: Cell) -> str:
        """Return one cell in words."""
        side = str(cell.shape.m) if cell.shape.kind == "square" else str(cell.shape)
        return f"{ratio:.2f} at {side} ({self.best(cell)[1]})"


def main() -> None:
    """Measure, print, write."""
    options = parse()
    if options.install_rivals:
        rivals.install()
    started = time.monotonic()
    ours: list[rivals.Rival] = [rivals.Tilewright("plan"), rivals.Tilewright("call")]
    others, absent = rivals.find(options.rivals, options.rival, options.types)
    core = timing.pin(options.core)  # after compilers have run, on all cores
    timer, about = timing.Timer(), machine(core)
    print(f"{about['cpu']}, core {core} of {about['cores']}, load {about['load']:.1f} at the start")
    for rival in (ours[0], *others):
        print(f"  {rival.name:12} {rival.version}")
    for name, why in absent.items():
        print(f"  {name:12} not assessed: {why}")
    shapes = chosen_shapes(options)
    peaks = {dtype: timer.peak(dtype, 1000) for dtype in options.types}
    cells: list[Cell] = []
    for dtype in options.types:
        for mode in options.modes:
            cells += [measure(timer, Problem(dtype, mode, shape), ours, others, options) for shape in shapes]
            peaks[dtype] = max(peaks[dtype], timer.peak(dtype, 300))
            for rival in ours:
                if isinstance(rival, rivals.Tilewright):
                    rival.forget()
            if not options.quiet:
                print(f"  {dtype} {mode}: {time.monotonic() - started:.0f} s", flush=True)
    plan, must, call = contests(others)
    summaries = {contest.title: summarise(contest, cells, peaks) for contest in (plan, must, call)}
    goals = goal_rows(plan, cells)
    if not options.quiet:
        show(options, cells, peaks, (plan, must, call), goals)
    if options.json:
        known = {rival.name: rival.version for rival in (*ours, *others)}
        wrong = sorted({name for cell in cells for name in cell.wrong})
        write_json(
            options.json,
            {
                "schema": 1,
                "machine": about,
                "peaks": peaks,
                "libraries": known,
                "not_assessed": absent,
                "wrong": wrong,
                "cells": [cell.data() for cell in cells],
                "summary": summaries,
                "goals": goals,
                "seconds": time.monotonic() - started,
            },
        )
    if options.figure:
        figure(options.figure, [cell.data() for cell in cells], peaks)
    if any(name in ("tilewright", "tw_gemm") for cell in cells for name in cell.wrong):
        raise SystemExit("our own product is wrong; runtime.selftest() names the kernel")


def parse() -> argparse.Namespace:
    """Read the command line."""
    made = parser("small", __doc__, rounds=6, modes=MODES)
    add = made.add_argument
    add("--shapes", nargs="+", metavar="MxNxK", help="only these; one number is a square")
    add("--budget", type=float, default=1.0, metavar="MS", help="milliseconds a turn (default 1)")
    add("--figure", metavar="FILE", help="draw per cent of peak over size (needs matplotlib)")
    add("--worst", type=int, default=30, help="how many of the worst cells to list (default 30)")
    add("--quiet", action="store_true", help="print versions only")
    options = made.parse_args()
    if options.quick:
        options.rounds, options.budget = 2, 0.2
    return options


def chosen_shapes(options: argparse.Namespace) -> list[Shape]:
    """Return the products to measure."""
    if options.shapes:
        sizes = [[int(number) for number in text.split("x")] for text in options.shapes]
        return [Shape(*(size * 3 if len(size) == 1 else size)) for size in sizes]
    if options.quick:
        return [*(Shape(n, n, n) for n in (1, 4, 8, 13, 24, 33)), Shape(2, 9, 30), Shape(20, 17, 3), Shape(5, 40, 12)]
    return [*(Shape(n, n, n) for n in SQUARES), *shapes_beside_squares()]


def measure(
    timer: timing.Timer,
    problem: Problem,
    ours: Sequence[rivals.Rival],
    others: Sequence[rivals.Rival],
    options: argparse.Namespace,
) -> Cell:
    """Check and time every library at one product."""
    tasks: dict[str, timing.Task] = {}
    wrong = []
    for rival in (*ours, *others):
        task = rival.task(problem)
        if task is None:
            continue
        problem.c[:] = float("nan")
        timer.run(task)
        if problem.excess() <= 1:
            tasks[rival.name] = task
        else:
            wrong.append(rival.name)
            print(f"  WRONG, left out: {rival.name} {problem.dtype} {problem.mode} {problem.shape}", flush=True)
    times = timing.interleave(timer, tasks, rounds=options.rounds, budget=options.budget * 1e6)
    speeds = {name: problem.flops / nanoseconds for name, nanoseconds in times.items()}
    return Cell(problem.dtype, problem.mode, problem.shape, speeds, wrong)


# -------------------------------------------------------------------------------------------------- comparing


def contests(others: Sequence[rivals.Rival]) -> tuple[Contest, Contest, Contest]:
    """Return our plan against everything, against those that must be behind, and our plain call against theirs."""
    must = [rival.name for rival in others if rival.family in MUST]
    plain = [rival.name for rival in others if rival.plain]
    return (
        Contest("tw_gemm_execute against the best of all", "tilewright", [rival.name for rival in others]),
        Contest("tw_gemm_execute against OpenBLAS, MKL, Eigen, BLIS", "tilewright", must),
        Contest("tw_?gemm against plain entries", "tw_gemm", plain),
    )


def summarise(contest: Contest, cells: Sequence[Cell], peaks: dict[str, float]) -> list[dict[str, Any]]:
    """Return a row for every type, mode and group."""
    rows: list[dict[str, Any]] = []
    places = dict.fromkeys((cell.dtype, cell.mode) for cell in cells)
    for dtype, mode in places:
        for group in (*CLASSES, *KINDS):
            here = [cell for cell in cells if (cell.dtype, cell.mode, cell.group) == (dtype, mode, group)]
            if not here:
                continue
            ratios = contest.ratios(here)
            row: dict[str, Any] = {"type": dtype, "mode": mode, "group": group, "cells": len(here)}
            mine = [cell.gflops[contest.ours] for cell in here if contest.ours in cell.gflops]
            row["ours_percent"] = 100 * geometric_mean(mine) / peaks[dtype]
            row["best_percent"] = 100 * geometric_mean(contest.best(cell)[0] for _, cell in ratios) / peaks[dtype]
            row["ratio"] = geometric_mean(ratio for ratio, _ in ratios)
            row["below_1"] = sum(ratio < 1 for ratio, _ in ratios)
            row["worst"] = contest.named(*ratios[0]) if ratios else "-"
            rows.append(row)
    return rows


def goal_rows(contest: Contest, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Return the goal table filled: for every row and size class what was wanted, what there is, and the worst cell."""
    rows = []
    for name, dtypes, modes, wanted, floor in GOALS:
        square = len(dtypes) == 1
        cells_here = [
            c for c in cells if c.dtype in dtypes and c.mode in modes and (c.shape.kind == "square") == square
        ]
        row: dict[str, Any] = {"row": name, "floor": floor}
        for size, goal in zip(CLASSES, wanted, strict=True):
            ratios = contest.ratios(cell for cell in cells_here if cell.shape.size_class == size)
            row[size] = {"goal": goal, "ratio": geometric_mean(ratio for ratio, _ in ratios)}
        low = [
            (ratio, cell)
            for ratio, cell in contest.ratios(cells_here)
            if ratio < (0.8 if name == "d NN, TN" and cell.shape.m == 2 else floor)
        ]
        row["below_floor"] = [f"{cell.dtype} {cell.mode} {contest.named(ratio, cell)}" for ratio, cell in low]
        row["measured"] = len(contest.ratios(cells_here))
        rows.append(row)
    return rows


# --------------------------------------------------------------------------------------------------- printing


def show(
    options: argparse.Namespace,
    cells: Sequence[Cell],
    peaks: dict[str, float],
    all_contests: Sequence[Contest],
    goals: Sequence[dict[str, Any]],
) -> None:
    """Print the tables."""
    print(
        "\npeak of one core, register-only multiply-adds, GFLOP/s: " + str({t: round(p, 1) for t, p in peaks.items()})
    )
    for contest in all_contests:
        rows = [
            [
                f"{row['type']} {row['mode']}",
                row["group"],
                f"{row['ours_percent']:.0f}",
                f"{row['best_percent']:.0f}",
                f"{row['ratio']:.2f}",
                f"{row['below_1']} of {row['cells']}",
                row["worst"],
            ]
            for row in summarise(contest, cells, peaks)
        ]
        header = ["type, mode", "sizes", "ours, % of peak", "best rival, %", "ratio", "below 1", "worst"]
        print(f"\n{contest.title}: geometric means\n\n{table(header, rows)}")
    print("\ngoals: ratio to the best rival, geometric mean (wanted)\n")
    header = ["", *CLASSES, "below the floor", "worst"]
    print(table(header, [goal_line(row) for row in goals]))
    plan = all_contests[0]
    print(f"\nworst {options.worst} of {len(cells)}\n")
    worst = [
        [
            f"{cell.dtype} {cell.mode}",
            str(cell.shape),
            f"{cell.gflops['tilewright']:.1f}",
            f"{100 * cell.gflops['tilewright'] / peaks[cell.dtype]:.0f}",
            "{:.1f} {}".format(*plan.best(cell)),
            f"{ratio:.2f}",
        ]
        for ratio, cell in plan.ratios(cells)[: options.worst]
    ]
    print(table(["type, mode", "shape", "GFLOP/s", "% of peak", "best rival", "ratio"], worst))
    fours = [cell for cell in cells if (cell.dtype, cell.mode, cell.shape) == ("s", "NN", Shape(4, 4, 4))]
    for cell in fours:
        times = sorted((128 / speed, name) for name, speed in cell.gflops.items())
        print("\nns a call, s NN 4x4x4: " + ", ".join(f"{name} {nanoseconds:.1f}" for nanoseconds, name in times))


def goal_line(row: dict[str, Any]) -> list[str]:
    """Return one line of the goal table."""

    def cell(entry: dict[str, float]) -> str:
        if not entry["ratio"] > 0:
            return "not assessed"
        return f"{entry['ratio']:.2f} ({entry['goal']:g}{'' if entry['ratio'] >= entry['goal'] else ', not reached'})"

    low = row["below_floor"]
    return [row["row"], *(cell(row[size]) for size in CLASSES), f"{len(low)} of {row['measured']}", (low or ["-"])[0]]


if __name__ == "__main__":
    main()
