"""What a call costs from Python: nanoseconds for small products with `out` given, both our ways, numpy, scipy.

The least of many repetitions, taken in turns; the interpreter's loop (a few ns) is in it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import timeit
from typing import Any

import numpy as np

from tilewright.runtime import _calls, _quick, info

ROUNDS, CALLS = 60, 3000


def blas() -> Any:
    """Return scipy's BLAS functions; None: scipy is not there."""
    try:
        return importlib.import_module("scipy.linalg.blas")
    except ImportError:
        return None


def calls_of(dtype: str, scipy: Any) -> dict[str, str]:
    """Return what is timed: expressions of a, b, out and the functions."""
    there = {"numpy matmul": "matmul(a, b, out=out)", "gemm, cffi": "cffi(a, b, out=out)"}
    if scipy:
        letter = {"float32": "s", "float64": "d", "complex64": "c", "complex128": "z"}[dtype]
        there["scipy gemm c="] = f"{letter}gemm(1, bt, at, 0, ct, overwrite_c=1)"  # F-ordered, as it wants them
    if info().calls == "extension":
        there |= {"gemm, extension": "extension(a, b, out=out)", "gemm, extension, new": "extension(a, b)"}
    return there


def main() -> None:
    """Time 8 x 8 x 8 of every type, and other sizes of float32."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="write the times there too")
    options = parser.parse_args()
    about = info()
    scipy = blas()
    functions = {"matmul": np.matmul, "cffi": _quick.gemm, "extension": _calls.gemm}
    functions |= {name: getattr(scipy, name) for name in ("sgemm", "dgemm", "cgemm", "zgemm") if scipy}
    results: list[dict[str, Any]] = []
    print(f"\nns a call, {about.isa} on {about.cpu}, calls by {about.calls}; the least of {ROUNDS} rounds\n")
    cases = [(n, "float32") for n in (4, 8, 16, 32)] + [(8, t) for t in ("float64", "complex64", "complex128")]
    for n, dtype in cases:
        a, b, out = (np.ones((n, n), dtype) for _ in range(3))
        around = {"a": a, "b": b, "out": out, "at": a.T, "bt": b.T, "ct": out.T, **functions}
        timers = {name: timeit.Timer(call, globals=around) for name, call in calls_of(dtype, scipy).items()}
        best = dict.fromkeys(timers, float("inf"))
        for _ in range(ROUNDS):
            for name, timer in timers.items():
                best[name] = min(best[name], timer.timeit(CALLS) / CALLS * 1e9)
        if not results:
            print(f"{'type':12}{'n':>4}" + "".join(f"{name:>22}" for name in best))
        print(f"{dtype:12}{n:4}" + "".join(f"{ns:22.0f}" for ns in best.values()))
        results.append({"dtype": dtype, "n": n, "ns": best})
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"cpu": about.cpu, "isa": about.isa, "calls": about.calls, "times": results}, file, indent=1)


if __name__ == "__main__":
    main()
