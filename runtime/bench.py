"""A first look: products on real input, checked element by element, beside numpy. ``tilewright bench``.

Both sides are called from Python with `out` given, so small sizes measure the calls as much as the kernels.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from . import gemm, info

SLOWING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""Settings that make numpy's BLAS slower than it is."""

SHAPES = [  # op(a) is m x k, op(b) is k x n
    ("float32", 8, 8, 8, "N"),
    ("float32", 32, 32, 32, "N"),
    ("float32", 32, 32, 32, "T"),
    ("float64", 16, 16, 16, "N"),
    ("float64", 48, 48, 48, "N"),
    ("complex64", 24, 24, 24, "N"),
    ("complex128", 24, 24, 24, "N"),
    ("float64", 5, 7, 400, "N"),
]
Matrix = np.ndarray[Any, np.dtype[Any]]
ROUNDS = 7
SECONDS = 0.006


def main() -> None:
    """Check and time every shape; exit with 1 where a product is wrong."""
    if any(name in os.environ for name in SLOWING):  # read when numpy was loaded, so begin again
        environment = {name: value for name, value in os.environ.items() if name not in SLOWING}
        os.execve(sys.executable, [sys.executable, "-m", "tilewright.runtime.bench"], environment)
    random = np.random.default_rng(1)
    about = info()
    print(f"\nGFLOP/s, {about.isa} on {about.cpu}, the best of {ROUNDS} rounds\n")
    print(f"{'type':12}{'m':>5}{'n':>5}{'k':>5}  {'product':10}{'tilewright':>11}{'numpy':>9}{'ratio':>7}")
    wrong = []
    for dtype, m, n, k, trans in SHAPES:
        a = sample(random, (m, k), dtype)
        b = sample(random, (n, k) if trans == "T" else (k, n), dtype)
        ours, theirs = np.full((m, n), np.nan, dtype), np.empty((m, n), dtype)
        right = b.T if trans == "T" else b
        times = best_times(
            partial(gemm, a, b, ours, trans_b=trans),
            partial(np.matmul, a, right, out=theirs),
        )
        if not (excess(a, right, ours) <= 1):
            wrong.append(f"{dtype} {m} x {n} x {k} {trans}")
        flops = (8 if np.iscomplexobj(a) else 2) * m * n * k
        speed = [flops / seconds / 1e9 for seconds in times]
        product = "a @ b.T" if trans == "T" else "a @ b"
        print(f"{dtype:12}{m:5}{n:5}{k:5}  {product:10}{speed[0]:11.1f}{speed[1]:9.1f}{speed[0] / speed[1]:7.2f}")
    if wrong:
        raise SystemExit(f"wrong products: {', '.join(wrong)}; tilewright selftest names the kernel")
    print("\nevery element within its error bound")


def sample(random: np.random.Generator, shape: tuple[int, int], dtype: str) -> Matrix:
    """Return an array of normally distributed numbers."""
    values = random.standard_normal((2, *shape))
    numbers: Matrix = values[0] + 1j * values[1] if dtype.startswith("complex") else values[0]
    return numbers.astype(dtype)


def excess(a: Matrix, b: Matrix, product: Matrix) -> float:
    """Return the largest error over its elementwise bound ``c (k + 2) u |a| |b|``; NaN if anything is NaN."""
    wide = np.clongdouble if np.iscomplexobj(a) else np.longdouble
    error = np.abs(a.astype(wide) @ b.astype(wide) - product)
    factor = (2 * np.sqrt(2) if np.iscomplexobj(a) else 1) * (a.shape[1] + 2)
    unit = np.finfo(product.dtype).eps / 2
    return float(np.max(error / (factor * unit * (np.abs(a).astype(float) @ np.abs(b).astype(float)))))


def best_times(*calls: Callable[[], object]) -> list[float]:
    """Return the best seconds a call of each, taking turns so that all see the same machine."""
    best = [float("inf")] * len(calls)
    counts = [max(1, int(SECONDS / max(seconds_of(call, 3), 1e-9))) for call in calls]
    for _ in range(ROUNDS):
        for index, call in enumerate(calls):
            best[index] = min(best[index], seconds_of(call, counts[index]))
    return best


def seconds_of(call: Callable[[], object], count: int) -> float:
    """Return the mean seconds of `count` calls."""
    started = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - started) / count


if __name__ == "__main__":
    main()
