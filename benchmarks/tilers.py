"""Compare the tilers on square products of every type and transposition: ``python3 build.py bench tilers``.

Times are the least of many rounds in turns, operands in cache, over batches in C. Printed: time with each tiler over
time with the default, geometric means by size, and the size at which the default does worst against the best of them.
"""

from __future__ import annotations

import argparse
import math
import time
from itertools import product

import numpy as np

from tilewright import runtime
from tilewright.runtime._library import ffi, lib

TILERS = ("measured", "greedy", "paper", "rebalance")
CLASSES = ((2, 8), (9, 16), (17, 32), (33, 80))
DTYPES = ("float32", "float64", "complex64", "complex128")


def times(size: int, dtype: str, trans_a: str, trans_b: str, rounds: int) -> list[float]:
    """Return nanoseconds a product for each tiler."""
    arrays = [np.ones((size, size), dtype) for _ in range(3)]
    count = max(4, min(200, 200_000 // size**3))
    pointers = [ffi.new("void *[]", [ffi.cast("void *", x.ctypes.data)] * count) for x in arrays]
    plans = []
    for tiler in TILERS:
        lib.tw_tiler_set(tiler.encode())
        plans.append(runtime.gemm_plan(size, size, size, dtype, trans_a=trans_a, trans_b=trans_b))
    lib.tw_tiler_set(ffi.NULL)
    best = [math.inf] * len(plans)
    for _ in range(rounds):
        for index, plan in enumerate(plans):
            started = time.perf_counter_ns()
            lib.tw_gemm_batch(plan.handle, count, ffi.NULL, pointers[0], pointers[1], ffi.NULL, pointers[2])
            best[index] = min(best[index], (time.perf_counter_ns() - started) / count)
    return best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--step", type=int, default=5, help="between sizes beyond 33")
    options = parser.parse_args()
    about = runtime.info()
    sizes = [*range(2, 33), *range(33, 81, options.step)]
    print(f"{about.isa} on {about.cpu}: time / time with {TILERS[0]}, row-major squares\n")
    print("| product | tiler | " + " | ".join(f"{low}-{high}" for low, high in CLASSES) + " | least, at |")
    print("| --- " * (len(CLASSES) + 3) + "|")
    for dtype, trans in product(DTYPES, ("NN", "NT", "TN", "TT")):
        found = {size: times(size, dtype, trans[0], trans[1], options.rounds) for size in sizes}
        for index, tiler in enumerate(TILERS[1:], 1):
            ratios = {size: took[index] / took[0] for size, took in found.items()}
            means = []
            for low, high in CLASSES:
                logs = [math.log(ratio) for size, ratio in ratios.items() if low <= size <= high]
                means.append(f"{math.exp(sum(logs) / len(logs)):.2f}")
            worst = min(ratios, key=lambda size: ratios[size])
            print(f"| {dtype} {trans} | {tiler} | {' | '.join(means)} | {ratios[worst]:.2f}, {worst} |", flush=True)


if __name__ == "__main__":
    main()
