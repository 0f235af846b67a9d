"""Products whose larger operand was packed before: ours, MKL's ``cblas_?gemm_pack`` and oneDNN's ``sgemm_pack``."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import THREADS, timing
from .problem import Array, Problem
from .rivals import Cblas, Onednn, Rival, Tilewright, new_task
from .timing import Task, address

USES = (1, 2, 10, 100)
ROW_MAJOR, AHEAD = 101, {"A": 161, "B": 162}  # CBLAS's numbers
DNNL = "_ZN4dnnl4impl3cpu"  # not its C interface, but what its libraries of 2.x export


class Ready(NamedTuple):
    """A packed product: how to pack again, and the task that uses it."""

    pack: Callable[[], object]
    use: Task
    keeps: Array


class Times(NamedTuple):
    """Nanoseconds to pack once, and for each use; and from how many uses on our planner would pack (0: never)."""

    pack: float
    use: float
    planned_from: int = 0


def measure(
    problem: Problem, timer: timing.Timer, ours: Tilewright, others: Sequence[Rival], rounds: int
) -> dict[str, Times]:
    """Return each library's times at one problem; a library without such an entry, or with a wrong one, is left out."""
    which = "A" if problem.a.size >= problem.b.size else "B"
    makers: dict[str, Callable[[Problem, str], Ready | None]] = {"tilewright": lambda p, w: _ours(ours, p, w)}
    for rival in others:
        if rival.family == "mkl" and isinstance(rival, Cblas):
            makers["mkl"] = lambda p, w, lib=rival.lib: _mkl(lib, p, w)  # type: ignore[misc]
        elif isinstance(rival, Onednn):
            makers["onednn"] = lambda p, w, lib=rival.lib: _onednn(lib, p, w)  # type: ignore[misc]
    ready: dict[str, Ready] = {}
    for name, make in makers.items():
        made = make(problem, which)
        if made is None:
            continue
        problem.c[:] = float("nan")
        made.pack()
        timer.run(made.use)
        if problem.excess() <= 1:
            ready[name] = made
        else:
            print(f"  WRONG, left out: {name}, packed, {problem.dtype} {problem.mode} {problem.shape}", flush=True)
    quiet = THREADS > 1
    uses = timing.interleave(timer, {n: r.use for n, r in ready.items()}, rounds=rounds, budget=2e7, quiet=quiet)
    packs = timing.interleave(timer, {n: r.pack for n, r in ready.items()}, rounds=rounds, budget=2e7, quiet=quiet)
    planned = next((uses for uses in USES if _planned(ours, problem, uses)), 0) if "tilewright" in ready else 0
    return {name: Times(packs[name], uses[name], planned if name == "tilewright" else 0) for name in ready}


def _room(size: int) -> Array:
    """Return memory at a multiple of 64."""
    memory = np.zeros(size + 64, np.uint8)
    return memory[-memory.ctypes.data % 64 :][:size]


def _task(problem: Problem, kind: str, run: Any, which: str, packed: Array) -> Task:
    task = new_task(problem, kind, address(run))
    if which == "A":
        task.a, task.transa = packed.ctypes.data, b"P"
    else:
        task.b, task.transb = packed.ctypes.data, b"P"
    return task


def _plan(ours: Tilewright, problem: Problem, pack: str, uses: int) -> ctypes.c_void_p:
    plan = ctypes.c_void_p()
    numbers = [ctypes.c_int64(x) for x in (*problem.shape, problem.lda, problem.ldb, problem.ldc)]
    letters = [ord(letter) for letter in problem.mode]
    more = ord(pack), ctypes.c_int64(uses), THREADS, 0
    create = ours.lib.tw_skinny_plan_create
    if create(ctypes.byref(plan), ord(problem.dtype), ROW_MAJOR, *letters, *numbers, *more):
        raise RuntimeError(ours.lib.tw_error_message().decode())
    return plan


def _planned(ours: Tilewright, problem: Problem, uses: int) -> bool:
    plan = _plan(ours, problem, "?", uses)
    packed = bool(ours.lib.tw_gemm_plan_packed(plan))
    ours.lib.tw_gemm_plan_destroy(plan)
    return packed


def _ours(ours: Tilewright, problem: Problem, which: str) -> Ready | None:
    lib, (m, n, k) = ours.lib, problem.shape
    trans = problem.mode[which == "B"]
    x, ld = (problem.a, problem.lda) if which == "A" else (problem.b, problem.ldb)
    sizes = [ctypes.c_int64(size) for size in ((m, k) if which == "A" else (k, n))]
    what = ord(problem.dtype), ROW_MAJOR, ord(which), ord(trans), *sizes
    size = ctypes.c_int64()
    if lib.tw_pack_size(*what, ctypes.byref(size)):
        raise RuntimeError(lib.tw_error_message().decode())
    packed = _room(size.value)
    to = ctypes.c_void_p(x.ctypes.data), ctypes.c_int64(ld), ctypes.c_void_p(packed.ctypes.data)
    task = _task(problem, "tw_packed", lib.tw_gemm_plan_execute_packed, which, packed)
    plan = ours.keep(_plan(ours, problem, which, USES[-1]))
    task.plan = plan
    return Ready(lambda: lib.tw_pack(*what, None, *to), task, packed)


def _mkl(lib: Any, problem: Problem, which: str) -> Ready | None:
    if problem.dtype not in "sd":
        return None
    name = f"cblas_{problem.dtype}gemm"
    real = ctypes.c_float if problem.dtype == "s" else ctypes.c_double
    size = getattr(lib, f"{name}_pack_get_size")
    size.restype = ctypes.c_size_t
    packed = _room(size(AHEAD[which], *problem.shape))
    x, ld = (problem.a, problem.lda) if which == "A" else (problem.b, problem.ldb)
    trans = 111 if problem.mode[which == "B"] == "N" else 112
    pack, to = getattr(lib, f"{name}_pack"), (ctypes.c_void_p(x.ctypes.data), ld, ctypes.c_void_p(packed.ctypes.data))
    task = _task(problem, "cblas_compute", getattr(lib, f"{name}_compute"), which, packed)
    return Ready(lambda: pack(ROW_MAJOR, AHEAD[which], trans, *problem.shape, real(1), *to), task, packed)


def _onednn(lib: Any, problem: Problem, which: str) -> Ready | None:
    names = {name: f"{DNNL}{len('sgemm_' + name)}sgemm_{name}E{types}" for name, types in (
        ("pack_get_size", "PKcS3_S3_PKlS5_S5_S5_S5_PmPb"), ("pack", "PKcS3_S3_PKlS5_S5_S5_S5_PKfPf"),
        ("compute", "PKcS3_PKlS5_S5_PKfS5_S7_S5_S7_PfS5_"))}  # fmt: skip
    if problem.dtype != "s" or not all(hasattr(lib, name) for name in names.values()):
        return None
    m, n, k = problem.shape  # column-major: operands and their names change places
    letter = ctypes.c_char_p(b"B" if which == "A" else b"A")
    letters = [ctypes.c_char_p(problem.mode[1].encode()), ctypes.c_char_p(problem.mode[0].encode())]
    sizes = [ctypes.byref(ctypes.c_int64(x)) for x in (n, m, k, problem.ldb, problem.lda)]
    size, worth = ctypes.c_size_t(), ctypes.c_bool()
    getattr(lib, names["pack_get_size"])(letter, *letters, *sizes, ctypes.byref(size), ctypes.byref(worth))
    if not worth.value:
        return None  # it would not pack this one
    packed = _room(size.value)
    x = problem.a if which == "A" else problem.b
    to = ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(packed.ctypes.data)
    pack = getattr(lib, names["pack"])
    task = _task(problem, "dnnl_compute", getattr(lib, names["compute"]), which, packed)
    return Ready(lambda: pack(letter, *letters, *sizes, *to), task, packed)
