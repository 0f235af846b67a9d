"""Large, regular products beside OpenBLAS, MKL, BLIS and the others: ``python3 build.py bench large``.

alpha = 1, beta = 0, plain row-major arrays through `tw_?gemm` and everybody's plain entry, one and two threads; every
element checked (`harness/big.py`). TopV's similarity matrices, 576 x 4096 times its transpose, are among them.
"""

from __future__ import annotations

import argparse

from harness import big  # first: sets every library's threads
from harness.big import Job
from harness.problem import Shape
from harness.report import geometric_mean, table

GOAL = {"s": 0.97, "d": 0.97, "c": 1.0, "z": 1.0}
AGAINST = ("openblas", "mkl", "blis")


def main() -> None:
    """Measure, print, write."""
    options = big.read("large", __doc__, types="sdcz")
    cells = big.cells_of(data := big.run(options, jobs(options)))
    big.show_cells(cells)
    big.show_groups(cells)
    rows = []
    for threads in sorted({cell.threads for cell in cells}):
        for dtype in dict.fromkeys(cell.dtype for cell in cells):
            ratios = sorted(
                (cell.gflops.get("tilewright", 0.0) / max(rivals), str(cell))
                for cell in cells
                if (cell.threads, cell.dtype) == (threads, dtype)
                and (rivals := [cell.gflops[name] for name in AGAINST if name in cell.gflops])
            )
            if ratios:
                mean, (worst, where) = geometric_mean(max(ratio, 1e-9) for ratio, _ in ratios), ratios[0]
                reached = "" if mean >= GOAL[dtype] else ", not reached"
                rows.append([f"{threads}", dtype, f"{mean:.2f} ({GOAL[dtype]:g}{reached})", f"{worst:.2f} at {where}"])
    print("\ngoal: ratio to the best of OpenBLAS, MKL and BLIS, geometric mean (wanted)\n")
    print(table(["threads", "type", "ratio", "worst"], rows))
    if options.figure:
        big.draw(options.figure, cells)
    if "tilewright" in data["wrong"]:
        raise SystemExit("our own product is wrong")


def jobs(options: argparse.Namespace) -> list[Job]:
    """Return the products to measure."""
    if options.quick:
        return [Job("squares", dtype, "NN", Shape(200, 200, 200)) for dtype in options.types]
    found: list[Job] = []
    for dtype in options.types:
        sides = {"s": (500, 512, 768, 1000, 1024, 1500, 2000), "d": (500, 512, 768, 1000, 1500, 2000)}
        few = (500, 1000, 2000) if options.full else (500, 1000)
        found += [Job("squares", dtype, "NN", Shape(n, n, n)) for n in sides.get(dtype, few)]
        found += [Job("other modes", dtype, mode, Shape(1000, 1000, 1000)) for mode in ("NT", "TN", "TT")]
        found.append(Job("other shapes", dtype, "NT", Shape(576, 576, 4096)))
        found.append(Job("other shapes", dtype, "NN", Shape(700, 1300, 900)))
        if options.full:
            found += [Job("other shapes", dtype, "NN", Shape(*s)) for s in ((1600, 320, 2400), (333, 3000, 777))]
            found += [Job("squares", dtype, "NN", Shape(n, n, n)) for n in (640, 1200, 1777)]
    return [job for job in found if not options.groups or job.group in options.groups]


if __name__ == "__main__":
    main()
