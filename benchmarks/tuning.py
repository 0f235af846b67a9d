"""What measured times of kernels are worth: products cut by them, by the shipped defaults and by the paper's objective.

    python3 build.py bench tuning            after python3 build.py tune

Each process has one source of times, so processes take turns; the least time of each product counts. The first table
says how far predicted times of kernels lie from measured ones, the second what choosing by them gains.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cffi import FFI

from generator.compile import Compiler, host_arch
from runtime._library import ffi, lib, text

SHAPES = [
    (7, 7),
    (9, 9),
    (13, 13),
    (17, 17),
    (20, 20),
    (23, 23),
    (33, 33),
    (47, 47),
    (9, 31),
    (31, 9),
    (3, 40),
    (40, 3),
]
SIZES = [(m, n, k) for m, n in SHAPES for k in (4, 16, 64)]
FORMS = [(dtype, trans) for dtype in "sdcz" for trans in ("NN", "NT", "TN", "TT")]
TURNS = 3
TIMER = """
#include <time.h>
#include "tilewright.h"
double time_plan(int (*execute)(const tw_gemm_plan *, const void *, const void *, void *), const tw_gemm_plan *plan,
                 const void *a, const void *b, void *c, int calls, int rounds)
{
    double best = 1e300;
    for (int round = 0; round < rounds; round++) {
        struct timespec t, u;
        clock_gettime(CLOCK_MONOTONIC, &t);
        for (int call = 0; call < calls; call++)
            execute(plan, a, b, c);
        clock_gettime(CLOCK_MONOTONIC, &u);
        double passed = (u.tv_sec - t.tv_sec) * 1e9 + (u.tv_nsec - t.tv_nsec);
        best = passed < best ? passed : best;
    }
    return best / calls;
}
"""


def time_products(timer: str, tilers: Sequence[str]) -> dict[str, float]:
    """Return nanoseconds of every product, and what was predicted, in this process."""
    own = FFI()
    own.cdef("double time_plan(void *, void *, void *, void *, void *, int, int);")
    library: Any = own.dlopen(timer)
    memory = [own.new("char[]", 1 << 20) for _ in range(3)]
    execute = own.cast("void *", int(ffi.cast("uintptr_t", ffi.addressof(lib, "tw_gemm_execute"))))
    found = {}
    for dtype, trans in FORMS:
        for m, n, k in SIZES:
            for tiler in tilers:
                lib.tw_tiler_set(tiler.encode())
                plan = ffi.new("tw_gemm_plan **")
                lda, ldb = (k if trans[0] == "N" else m), (n if trans[1] == "N" else k)
                if lib.tw_gemm_plan_create(plan, ord(dtype), 101, ord(trans[0]), ord(trans[1]), m, n, k, lda, ldb, n):
                    raise SystemExit(text(lib.tw_error_message()))
                arguments = (execute, own.cast("void *", int(ffi.cast("uintptr_t", plan[0]))), *memory)
                once = library.time_plan(*arguments, 20, 2)
                calls = max(1, int(6000 / max(once, 1.0)))
                found[f"{dtype} {trans} {m} {n} {k} {tiler}"] = library.time_plan(*arguments, calls, 12)
                lib.tw_gemm_plan_destroy(plan[0])
    return found


def child(folder: str, timer: str, tilers: str) -> dict[str, float]:
    """Return what `time_products` finds in a process with that tuning folder."""
    command = [sys.executable, "-m", "benchmarks.tuning", timer, tilers]
    ran = subprocess.run(command, env={**os.environ, "TILEWRIGHT_TUNING": folder}, stdout=subprocess.PIPE, check=True)
    answer: dict[str, float] = json.loads(ran.stdout)
    return answer


def costs(folder: str) -> dict[str, list[float]]:
    """Return what kernels of the current instruction set are thought to cost in a process with that tuning folder."""
    code = (
        "import json; from runtime._library import lib, text\n"
        "isa = text(lib.tw_isa_name(lib.tw_isa_current()))\n"
        "names = [text(lib.tw_kernel_name(i)) for i in range(lib.tw_kernel_total())]\n"
        "print(json.dumps({n: [lib.tw_kernel_cost(n.encode(), k) for k in (4, 16, 64)] for n in names if isa in n}))"
    )
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, env={**os.environ, "TILEWRIGHT_TUNING": folder}, stdout=subprocess.PIPE, check=True)
    answer: dict[str, list[float]] = json.loads(ran.stdout)
    return answer


def mean(values: Sequence[float]) -> float:
    """Return the geometric mean."""
    return math.exp(statistics.fmean(map(math.log, values)))


def main() -> None:
    """Compare and print both tables."""
    status = text(lib.tw_tuning_status())
    if not status.startswith("measured"):
        raise SystemExit(f"no times to compare with ({status}): run python3 build.py tune first")
    folder = str(Path(text(lib.tw_tuning_path())).parent)
    print(f"{text(lib.tw_machine())}\n{status}\n")
    default, measured = costs("off"), costs(folder)
    print("default costs over measured ones, each type and mode scaled to a mean of 1: spread (1 sigma), worst\n")
    for dtype in "sdcz":
        row = []
        for mode in ("nn", "nt", "tn", "tt"):
            names = [name for name in measured if name.startswith(f"gemm_{dtype}_{mode}")]
            logs = [math.log(d / m) for name in names for d, m in zip(default[name], measured[name], strict=True)]
            middle = statistics.fmean(logs)
            worst = max(abs(log - middle) for log in logs)
            row.append(f"{mode} {math.exp(statistics.pstdev(logs)):.2f}, {math.exp(worst):.2f}")
        print(f"  {dtype}    " + "     ".join(row))
    with tempfile.TemporaryDirectory() as scratch:
        timer = Path(scratch) / "timer.so"
        (Path(scratch) / "timer.c").write_text(TIMER)
        include = Path(text(lib.tw_library_path())).resolve().parent.parent / "include"
        command = [*Compiler.find(host_arch()).command, "-O2", "-D_GNU_SOURCE", "-fPIC", "-shared", f"-I{include}"]
        subprocess.run([*command, str(timer.with_suffix(".c")), "-o", str(timer)], check=True)
        least: dict[str, float] = {}
        for _ in range(TURNS):
            for source, tilers in ((folder, "measured,paper"), ("off", "measured")):
                for name, value in child(source, str(timer), tilers).items():
                    key = name if source != "off" else name.replace("measured", "default")
                    least[key] = min(value, least.get(key, math.inf))
    print("\ntime of products cut by measured times, ratio to the same cut by ...: mean, best, worst\n")
    for dtype in "sdcz":
        for trans in ("NN", "NT", "TN", "TT"):
            row = []
            for other in ("default", "paper"):
                ratios = {
                    key: least[key] / least[key.replace("measured", other)]
                    for key in least
                    if key.startswith(f"{dtype} {trans} ") and key.endswith("measured")
                }
                slowest = max(ratios, key=lambda key: ratios[key])
                row.append(f"{other} {mean([*ratios.values()]):.3f}, {min(ratios.values()):.2f}, {ratios[slowest]:.2f} "
                           f"({'x'.join(slowest.split()[2:5])})")  # fmt: skip
            print(f"  {dtype} {trans}   " + "     ".join(row))
    for other in ("default", "paper"):
        every = [least[key] / least[key.replace("measured", other)] for key in least if key.endswith("measured")]
        print(f"\nall {len(every)}: {mean(every):.3f} of the time with {other}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(time_products(sys.argv[1], sys.argv[2].split(","))))
    else:
        main()
