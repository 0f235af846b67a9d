"""Compile and call ``timing.c``: matrix products timed in loops of C, all rivals taking turns in one process."""

from __future__ import annotations

import ctypes
import hashlib
import math
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tilewright.generator.compile import Compiler, host_arch, temporary_beside

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent.parent / "build" / "bench"
LIBRARY = HERE.parent.parent / "build" / host_arch() / "lib" / "libtilewright.so.0"
CHUNK = 15e3  # nanoseconds between two readings of the clock: rarely interrupted, and the clock's cost does not show

KINDS = (
    "execute",
    "gemm",
    "cblas",
    "kernel",
    "turn_kernel",
    "sized",
    "dnnl",
    "tw_batch",
    "cblas_batch",
    "cblas_compute",
    "dnnl_compute",
    "tw_packed",
)


class Task(ctypes.Structure):
    """``bench_task`` of timing.c."""

    _fields_ = (
        ("kind", ctypes.c_int32),
        ("type", ctypes.c_int32),
        *((name, ctypes.c_int32) for name in ("m", "n", "k", "lda", "ldb", "ldc")),
        ("transa", ctypes.c_char),
        ("transb", ctypes.c_char),
        *((name, ctypes.c_void_p) for name in ("run", "plan", "turn", "a", "b", "c", "room")),
        *((name, ctypes.c_int64) for name in ("count", "stride_a", "stride_b", "stride_c")),
    )


def address(function: Any) -> int | None:
    """Return where a function of a loaded library lies."""
    return ctypes.cast(function, ctypes.c_void_p).value


def build(source: Path, name: str, command: Sequence[str], libraries: Sequence[str] = ()) -> Path:
    """Compile one source file to ``build/bench/NAME-<hash>.so`` unless it is there, and return its path.

    `command` is the compiler and its options, `libraries` what it is linked with.

    Raises
    ------
    RuntimeError
        With the end of what the compiler said.
    """
    version = subprocess.run([command[0], "--version"], capture_output=True, text=True, check=True).stdout
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), "")
    key = hashlib.sha256("\0".join([*command, *libraries, version, cpu, source.read_text()]).encode()).hexdigest()[:12]
    output = BUILD / f"{name}-{key}.so"
    if not output.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        with temporary_beside(output) as temporary:
            ran = subprocess.run(
                [*command, "-fPIC", "-shared", str(source), "-o", str(temporary), *libraries],
                capture_output=True,
                text=True,
            )
            if ran.returncode:
                raise RuntimeError(f"{' '.join(command)} {source}:\n" + "\n".join(ran.stderr.splitlines()[-15:]))
            os.replace(temporary, output)
    return output


class Timer:
    """The loops of timing.c, and the peak of the core they run on."""

    def __init__(self) -> None:
        flags = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread")
        self._lib = ctypes.CDLL(str(build(HERE / "timing.c", "timing", [*Compiler.find(host_arch()).command, *flags])))
        self._lib.bench_time.restype = self._lib.bench_peak.restype = self._lib.bench_read.restype = ctypes.c_double
        self._lib.bench_read.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_int]
        self._lib.bench_time.argtypes = [ctypes.POINTER(Task), ctypes.c_int64, ctypes.c_int]
        self._lib.bench_run.argtypes = [ctypes.POINTER(Task), ctypes.c_int64]
        self._lib.bench_peak.argtypes = [ctypes.c_int, ctypes.c_int]

    def run(self, task: Task) -> None:
        """Run a task once."""
        self._lib.bench_run(task, 1)

    def time(self, task: Task, calls: int, chunks: int) -> float:
        """Return the least nanoseconds a call over `chunks` chunks of `calls` calls."""
        return float(self._lib.bench_time(task, calls, chunks))

    def peak(self, dtype: str, chunks: int = 200) -> float:
        """Return the GFLOP/s of a loop of multiply-adds on registers."""
        return float(self._lib.bench_peak(ord(dtype), chunks))

    def bandwidth(self, at: int, size: int, threads: int, repeats: int) -> float:
        """Return the bytes a nanosecond at which so many threads read `size` bytes from address `at`."""
        return float(self._lib.bench_read(at, size, threads, repeats))


def interleave(
    timer: Timer,
    tasks: Mapping[str, Task | Callable[[], object]],
    *,
    rounds: int,
    budget: float,
    quiet: bool = False,
) -> dict[str, float]:
    """Return the least nanoseconds a call of each task, all of them taking turns in every round.

    Parameters
    ----------
    tasks : dict
        What to time: tasks of timing.c, or functions of Python, called once between two readings of the clock.
    rounds : int
        How often each has its turn; every second round goes through them backwards.
    budget : float
        Nanoseconds for each turn, at least one call.
    quiet : bool
        Before each turn wait until this process's other threads are asleep: some libraries' spin for a fifth of a
        second after their last call, and would take the next one's cores.
    """
    best = dict.fromkeys(tasks, math.inf)
    plan: dict[str, tuple[int, int]] = {}
    for name, task in tasks.items():
        once = _seconds(task) if callable(task) else timer.time(task, 1, 1)
        if not callable(task) and once < CHUNK:
            once = min(once, timer.time(task, 8, 2))
        calls = 1 if callable(task) else max(1, round(CHUNK / once))
        plan[name] = calls, max(1, min(400, round(budget / max(once * calls, 1))))
    for turn in range(rounds):
        for name in list(tasks)[:: 1 - 2 * (turn % 2)]:
            task, (calls, chunks) = tasks[name], plan[name]
            if quiet:
                calm()
                timer.run(task) if isinstance(task, Task) else task()  # wakes its own
            if callable(task):
                least = min(_seconds(task) for _ in range(chunks))
            else:
                least = timer.time(task, calls, chunks)
            best[name] = min(best[name], least)
    return best


def calm(most: float = 1.0) -> bool:
    """Sleep until this process has used no core for 20 ms; False if it still does after `most` seconds."""
    end = time.monotonic() + most
    while time.monotonic() < end:
        before = time.process_time_ns()
        time.sleep(0.02)
        if time.process_time_ns() - before < 2e6:
            return True
    return False


def _seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter_ns()
    function()
    return float(time.perf_counter_ns() - started)


def spread(threads: int) -> list[int]:
    """Let this process run on `threads` cores, no two of them threads of one; return them.

    Raises
    ------
    SystemExit
        There are fewer.
    """
    chosen: dict[str, int] = {}
    for core in sorted(os.sched_getaffinity(0)):
        path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
        chosen.setdefault(path.read_text() if path.exists() else str(core), core)
    cores = list(chosen.values())[:threads]
    if len(cores) < threads:
        raise SystemExit(f"{threads} threads: this process may use {len(cores)} cores")
    os.sched_setaffinity(0, cores)
    return cores


def pin(core: int | None = None) -> int:
    """Keep this process on one core, by default the one on which a short loop runs least disturbed; return it."""
    timer = Timer()
    cores = sorted(os.sched_getaffinity(0)) if core is None else [core]
    took: dict[int, float] = {}
    for each in cores:
        os.sched_setaffinity(0, [each])
        started = time.perf_counter()
        timer.peak("s", 300)
        took[each] = time.perf_counter() - started
    chosen = min(cores, key=lambda each: took[each])
    os.sched_setaffinity(0, [chosen])
    return chosen
