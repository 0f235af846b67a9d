"""Tall-and-skinny products beside every rival found here: ``python3 build.py bench skinny``.

alpha = 1, beta = 0, plain row-major arrays through `tw_?gemm` and everybody's plain entry, one and two threads; every
element checked; per cent of the roofline (`harness/big.py`). Shapes are M x N x K: C is M x N. Of complex types
only the last group.
"""

from __future__ import annotations

import argparse

from harness import big  # first: sets every library's threads
from harness.big import Cell, Job
from harness.packed import USES
from harness.problem import Shape
from harness.report import geometric_mean, table

WIDTHS = (1, 2, 4, 8, 16, 32, 64, 128, 240)
TALL = ((10**6, 16, 16), (10**6, 4, 4), (10**6, 8, 32), (10**5, 64, 32), (10**5, 32, 64), (10**5, 3, 240),
        (10**5, 240, 3), (10**5, 128, 128))  # fmt: skip
INNER = ((16, 16, 10**6), (64, 64, 10**5), (8, 128, 10**5), (4, 4, 10**6), (32, 32, 10**5))
SQUARE, LONG, SUM, FLAT, OTHER, ONE = "M = K", "M huge", "K huge, TN", "M small", "other modes", "one column or row"
ROOFLINE = {2: 85, 4: 75, 8: 65}  # per cent wanted at M = K >= 4096


def main() -> None:
    """Measure, print, write."""
    options = big.read("skinny", __doc__, types="sdcz")
    cells = big.cells_of(data := big.run(options, jobs(options), lambda job: is_packed(job, options.full)))
    big.show_cells(cells)
    big.show_packed(cells)
    big.show_groups(cells)
    show_goals(cells)
    if options.figure:
        big.draw(options.figure, cells)
    if "tilewright" in data["wrong"]:
        raise SystemExit("our own product is wrong")


def jobs(options: argparse.Namespace) -> list[Job]:
    """Return the products to measure."""
    if options.quick:
        shapes = ((SQUARE, "NN", (256, 4, 256)), (LONG, "NN", (20000, 4, 4)), (SUM, "TN", (8, 8, 2000)))
        return [Job(group, dtype, mode, Shape(*shape)) for dtype in options.types for group, mode, shape in shapes]
    found: list[Job] = []
    for dtype in options.types:
        if dtype in "cz":
            continue
        for side in (1024, 4096, 10000):
            for n in WIDTHS:
                if options.full or side < 10000 or n in (1, 2, 4, 8, 16):
                    found.append(Job(SQUARE, dtype, "NN", Shape(side, n, side)))
        found += [Job(LONG, dtype, "NN", Shape(*shape)) for shape in TALL]
        found += [Job(SUM, dtype, "TN", Shape(*shape)) for shape in INNER]
        side = 4096
        found += [Job(FLAT, dtype, "NN", Shape(m, side, side)) for m in ((1, 2, 8, 32) if options.full else (8, 32))]
        for mode in ("NT", "TN", "TT"):
            found += [Job(OTHER, dtype, mode, Shape(side, n, side)) for n in ((2, 8, 32) if options.full else (8,))]
    for dtype in options.types:
        found += [Job(ONE, dtype, mode, Shape(side, 1, side)) for side in (1024, 4096) for mode in ("NN", "TN")]
        found += [Job(ONE, dtype, mode, Shape(1, 4096, 4096)) for mode in ("NN", "NT")]
        found += [Job(ONE, dtype, "NN", Shape(1024, 4, 1024))] if dtype in "cz" else []
    return [job for job in found if not options.groups or job.group in options.groups]


def is_packed(job: Job, full: bool) -> bool:
    """Tell whether the product is also measured with its larger operand packed."""
    m, n, _ = job.shape
    return job.group == SQUARE and job.mode == "NN" and (full or (m < 10000 and n in (1, 4, 16, 64, 240)))


def show_goals(cells: list[Cell]) -> None:
    """Print the project's goals beside what was measured."""
    rows = []
    for threads in sorted({cell.threads for cell in cells}):
        for dtype in dict.fromkeys(cell.dtype for cell in cells):
            here = [cell for cell in cells if (cell.threads, cell.dtype) == (threads, dtype)]
            for group, goal in ((SQUARE, 1.15), (LONG, 1.2), (ONE, 0.95)):
                ratios = sorted(
                    (cell.ratio, str(cell.shape)) for cell in here if cell.group == group and cell.ratio > 0
                )
                if ratios:
                    row = f"{group}: ratio to the best rival", geometric_mean(r for r, _ in ratios), goal
                    rows.append(line(threads, dtype, *row, "{:.2f} at {}".format(*ratios[0])))
            for group, goal, which in ((LONG, 85.0, "memory"), (SUM, 70.0, "")):
                chosen = [cell for cell in here if cell.group == group and (not which or cell.bound == which)]
                if chosen:
                    worst = min(chosen, key=lambda cell: cell.percent)
                    what = f"{group}: least % of roofline{', memory-bound' if which else ''}"
                    rows.append(line(threads, dtype, what, worst.percent, goal, str(worst.shape)))
            packed = [(found[USES[-1]], str(cell.shape)) for cell in here if (found := gains(cell))]
            if packed:
                what = f"packed by the planner for {USES[-1]} uses: over one-shot"
                mean = geometric_mean(ratio for ratio, _ in packed)
                rows.append(line(threads, dtype, what, mean, 1.3, "{:.2f} at {}".format(*min(packed))))
                least = min((g, f"{cell.shape}, {uses} uses") for cell in here for uses, g in gains(cell).items())
                rows.append(
                    line(threads, dtype, "packed by the planner: least over one-shot", least[0], 0.98, least[1])
                )
            for n, goal in ROOFLINE.items():
                chosen = [cell for cell in here if cell.group == SQUARE and cell.shape.n == n and cell.shape.m >= 4096]
                for cell in chosen:
                    what = f"N = {n}, M = K = {cell.shape.m}: % of roofline"
                    rows.append(line(threads, dtype, what, cell.percent, goal, ""))
    print("\ngoals\n\n" + table(["threads", "type", "what", "measured (wanted)", "worst"], rows))


def gains(cell: Cell) -> dict[int, float]:
    """Return our one-shot time over that with packing, for the numbers of uses at which the planner packs."""
    times = cell.packed.get("tilewright")
    if times is None or not times.planned_from or "tilewright" not in cell.gflops:
        return {}
    m, n, k = cell.shape
    one = 2 * m * n * k / cell.gflops["tilewright"]
    return {uses: one / (times.pack / uses + times.use) for uses in USES if uses >= times.planned_from}


def line(threads: int, dtype: str, what: str, found: float, goal: float, worst: str) -> list[str]:
    """Return one line of the table of goals."""
    text = f"{found:.2f}" if goal < 10 else f"{found:.0f}"
    return [str(threads), dtype, what, f"{text} ({goal:g}{'' if found >= goal else ', not reached'})", worst]


if __name__ == "__main__":
    main()
