"""Time every kernel on this machine, so that products are cut into the tiles that are fastest here: `tune`.

Two files below ``TILEWRIGHT_TUNING`` or the user's data folder, named after the machine: ``.json`` is the record (times
by kernel, for each set of kernels that was timed here), ``.tuning`` is what the C library reads (its format:
``csrc/tuning.c``). Both appear by rename; a lock keeps two processes from timing at once. What an interruption leaves
is taken up again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ._library import ffi, lib, raise_for, text
from .errors import TuningError
from .reuse import Packing, measure_packing

__all__ = ["Tuning", "tune", "tuning_status"]

STEPS = (1, 4, 16, 64)
"""Values of k that kernels are timed at; `csrc/tuning.c` draws lines between them."""

PLACES = (1 << 19, 3 << 24)
"""Bytes of panels that kernels on panels are timed with, for 64 steps: out of the second cache, and from memory."""

QUICK, FULL = 30.0, 300.0
"""Seconds that are not exceeded."""

_ROUND = {False: 50e-6, True: 1e-3}
"""Seconds for one time, quick and full."""

_PASSES = {False: 4, True: 12}
"""Times taken of each, far apart: a neighbour that disturbs one does not disturb all."""

_FORMAT = 3
_KEPT = 4  # sets of kernels in the record
_PANEL_STEPS = {PLACES[0]: 512, PLACES[1]: 4096}
"""k that kernels on panels are timed with: from memory as long as a layer's, or the other operand would lie nearer than
it does in a product."""
_SAVE_EVERY = 3.0  # seconds

Progress = Callable[[int, int], None]


@dataclass(repr=False)
class Tuning:
    """What `tune` did; ``str`` of it is for people."""

    machine: str
    kernels: str
    """The digest of the kernels in the library."""
    path: Path
    """What the C library reads."""
    times: dict[str, list[int]] = field(default_factory=dict)
    """Picoseconds at each of `STEPS`, by kernel; of those on panels for 64 steps at each of `PLACES`."""
    passes: dict[str, int] = field(default_factory=dict)
    """How often each was timed."""
    wrong: dict[str, str] = field(default_factory=dict)
    """Kernels that compute a wrong product, and so have no time."""
    runnable: int = 0
    """Kernels that this CPU can run."""
    seconds: float = 0.0
    """What this call took."""
    timed: int = 0
    """Kernels that this call timed."""
    packing: Packing = field(default_factory=Packing)
    """What packing takes and saves."""

    def __str__(self) -> str:
        missing = self.runnable - len(self.times) - len(self.wrong)
        lines = [
            f"{len(self.times)} of {self.runnable} kernels have times, {self.timed} taken now in {self.seconds:.1f} s",
            f"machine  {self.machine}",
            f"file     {self.path}",
        ]
        if not self.packing.cells:
            lines.append("packing  not measured: nothing is packed unless it is asked for; tune() again goes on")
        if missing:
            lines.append(f"missing  {missing}: estimated from the others; tune() again goes on")
        lines += [f"wrong    {why}" for why in self.wrong.values()]
        return "\n".join(lines)

    __repr__ = __str__


def tuning_status() -> str:
    """Return what kernels' costs come from: "measured: ..." or "defaults: ..." and why.

    Examples
    --------
    >>> tuning_status().partition(":")[0] in ("measured", "defaults")
    True
    """
    return text(lib.tw_tuning_status())


def fit(times: list[int]) -> tuple[float, float]:
    """Return the (call, step) whose ``call + k step`` comes relatively closest to times at `STEPS`.

    Examples
    --------
    >>> fit([11, 14, 26, 74])
    (10.0, 1.0)
    """
    # Weighted least squares, each point by the inverse of its square; two unknowns.
    weights = [1.0 / t**2 for t in times]
    s0, s1, s2, t0, t1 = (
        sum(w * value for w, value in zip(weights, values, strict=True))
        for values in (
            [1.0] * len(STEPS),
            STEPS,
            [k * k for k in STEPS],
            times,
            [k * t for k, t in zip(STEPS, times, strict=True)],
        )
    )
    step = (s0 * t1 - s1 * t0) / (s0 * s2 - s1 * s1)
    return round((t0 - step * s1) / s0, 6), round(step, 6)


def tune(seconds: float | None = None, *, full: bool = False, progress: Progress | None = None) -> Tuning:
    """Time the kernels that this CPU can run and leave the times where the library finds them.

    Each kernel is compared with plain C first, exactly; one that computes something wrong gets no time. Kernels that
    were timed before are not timed again, and where `seconds` do not suffice for all, the rest are estimated from those
    timed and the next call goes on. Last it is measured what packing an operand takes and what it saves. Plans made
    before keep their kernels; those made later, here too, go by the new times.

    Parameters
    ----------
    seconds : float, optional
        What not to exceed, about: 30, or 300 if `full`.
    full : bool
        More and longer repetitions, also of kernels that have times.
    progress : function(done, total), optional
        Called as kernels are timed.

    Returns
    -------
    Tuning
        Prints as a few lines.

    Raises
    ------
    TuningError
        There is nowhere to write, or nothing that this CPU can run.
    """
    started = time.monotonic()
    limit = (FULL if full else QUICK) if seconds is None else float(seconds)
    if not limit >= 0:
        raise TuningError(f"tune: seconds is {seconds}; it must be 0 or more.")
    name = text(lib.tw_tuning_path())
    if not name:
        raise TuningError(
            f"tune: nowhere to write, {tuning_status().partition(': ')[2]}; set TILEWRIGHT_TUNING to a folder."
        )
    path = Path(name)
    result = Tuning(text(lib.tw_machine()), text(lib.tw_kernels_digest()), path)
    kernels = _kernels()
    isas = {text(lib.tw_isa_name(isa)) for isa in range(lib.tw_isa_count()) if lib.tw_isa_supported(isa)}
    runnable = [kernel for kernel in kernels if kernel.rpartition("__")[2].partition("_")[0] in isas]
    result.runnable = len(runnable)
    if not runnable:
        raise TuningError("tune: no kernel in this library can run on this CPU.")
    with _locked(path):
        record = _read(path.with_suffix(".json"), result.machine)
        before = record["kernels"].get(result.kernels, {})
        _take(result, before, set(runnable))
        limits = _Limits(limit, started + limit, full)
        try:
            _time_all(result, runnable, limits, progress, lambda: _write(result, record))
            _write(result, record)
            lib.tw_tuning_renew()
            if full or not result.packing.cells:
                result.packing = measure_packing(limits.end) or result.packing
        finally:  # also when interrupted
            result.seconds = time.monotonic() - started
            _write(result, record)
            lib.tw_tuning_renew()
    return result


@dataclass
class _Limits:
    seconds: float
    end: float
    full: bool


def _time_all(
    result: Tuning, runnable: list[str], limits: _Limits, progress: Progress | None, save: Callable[[], None]
) -> None:
    """Fill in what is missing, a pass over all kernels after the other, until the time is up."""
    best = text(lib.tw_isa_name(lib.tw_isa_current())) if lib.tw_isa_current() >= 0 else ""
    order = sorted(runnable)
    random.Random(0).shuffle(order)  # so that those timed are a fair sample of those that are not
    order.sort(key=lambda kernel: not kernel.endswith(f"__{best}"))
    total, done, saved = _PASSES[limits.full] * len(order), 0, time.monotonic()
    fresh: set[str] = set()
    for turn in range(1, _PASSES[limits.full] + 1):
        for kernel in order:
            done += 1
            if result.passes.get(kernel, 0) >= turn or kernel in result.wrong:
                continue
            now = time.monotonic()
            if now >= limits.end and (fresh or limits.seconds == 0):  # each call gets on, if only a little
                return
            _time_one(result, kernel, _ROUND[limits.full])
            fresh.add(kernel)
            result.timed = len(fresh)
            if progress:
                progress(done, total)
            if now > saved + _SAVE_EVERY:
                save()
                saved = now


def on_panels(kernel: str) -> bool:
    """Tell whether a kernel of this name works on panels.

    Examples
    --------
    >>> on_panels("gemm_s_nt_48x8__avx512_packed_fetch16384"), on_panels("gemm_s_nt_48x8_zzz__avx512")
    (True, False)
    """
    return "packed" in kernel.rpartition("__")[2].split("_")


@cache
def _panels() -> Any:
    """Memory to read panels from, all of it written."""
    return np.ones(PLACES[-1] // 8)


def time_on_panels(kernel: str, size: int, nanoseconds: Any) -> int:
    """Time 64 steps of a kernel on panels of that many bytes; the first turn brings what fits into the cache."""
    least, k = float("inf"), _PANEL_STEPS[size]
    for _ in range(5 if size == PLACES[0] else 1):
        status: int = lib.tw_panel_kernel_time(kernel.encode(), ffi.from_buffer(_panels()), size, k, nanoseconds)
        if status != lib.TW_OK:
            return status
        least = min(least, nanoseconds[0] * 64 / k)
    nanoseconds[0] = least
    return status


def _time_one(result: Tuning, kernel: str, seconds: float) -> None:
    nanoseconds = ffi.new("double *")
    times = []
    for point in PLACES if on_panels(kernel) else STEPS:
        if on_panels(kernel):
            status = time_on_panels(kernel, point, nanoseconds)
        else:
            status = lib.tw_kernel_time(kernel.encode(), 0, 0, point, seconds, nanoseconds)
        if status == lib.TW_ERROR_WRONG:
            result.wrong[kernel] = text(lib.tw_error_message())
            result.times.pop(kernel, None)
            return
        if status != lib.TW_OK:
            raise_for(status)
        times.append(max(1, round(nanoseconds[0] * 1000)))
    before = result.times.get(kernel, times)
    result.times[kernel] = [min(pair) for pair in zip(before, times, strict=True)]
    result.passes[kernel] = result.passes.get(kernel, 0) + 1


def _kernels() -> list[str]:
    return [text(lib.tw_kernel_name(index)) for index in range(lib.tw_kernel_total())]


# ---------------------------------------------------------------------------------------------------- files


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait until no other process is tuning; the system drops the lock however this process ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path.with_suffix(".lock"), "a")  # noqa: SIM115 - closed below
    except OSError as error:
        raise TuningError(f"tune: cannot write to {path.parent}: {error.strerror}.") from None
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(path: Path, machine: str) -> dict[str, Any]:
    """Return the record; an empty one where there is none or it is not this machine's, or nobody can read it."""
    empty: dict[str, Any] = {"format": _FORMAT, "machine": machine, "kernels": {}}
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return empty
    usable = (
        isinstance(record, dict)
        and record.get("format") == _FORMAT
        and record.get("machine") == machine
        and isinstance(record.get("kernels"), dict)
    )
    return record if usable else empty


def _take(result: Tuning, before: Mapping[str, Any], kernels: set[str]) -> None:
    """Take over times of an earlier run, each only if it is whole."""
    if not isinstance(before, dict) or not isinstance(before.get("times"), dict):
        return
    for kernel, entry in before["times"].items():
        if kernel not in kernels or not isinstance(entry, dict):
            continue
        times, passes = entry.get("picoseconds"), entry.get("passes")
        points = PLACES if on_panels(kernel) else STEPS
        if not isinstance(times, list) or len(times) != len(points) or type(passes) is not int or passes <= 0:
            continue
        if all(type(value) is int and 0 < value < 10**10 for value in times):
            result.times[kernel], result.passes[kernel] = times, passes
    result.packing = Packing.read(before.get("packing"))


def _write(result: Tuning, record: dict[str, Any]) -> None:
    """Write the record, then what C reads."""
    entry = {
        "steps": list(STEPS),
        "times": {
            kernel: {
                "picoseconds": times,
                "passes": result.passes[kernel],
                **({} if on_panels(kernel) else {"fit": dict(zip(("call", "step"), fit(times), strict=True))}),
            }
            for kernel, times in sorted(result.times.items())
        },
        "wrong": result.wrong,
        "packing": result.packing.record(),
    }
    others = [item for item in record["kernels"].items() if item[0] != result.kernels]
    record["kernels"] = dict([*others[1 - _KEPT :], (result.kernels, entry)])
    compiled = compiled_form(result.machine, result.kernels, _kernels(), result.times, result.wrong, result.packing)
    status = lib.tw_tuning_check(compiled, len(compiled))
    if status != lib.TW_OK:  # a newline in the machine's name, say: better none than one that is refused
        raise TuningError(f"tune: the library would refuse what was written: {text(lib.tw_error_message())}")
    _replace(result.path.with_suffix(".json"), json.dumps(record, separators=(",", ":")).encode() + b"\n")
    _replace(result.path, compiled)


def compiled_form(
    machine: str,
    digest: str,
    kernels: list[str],
    times: Mapping[str, list[int]],
    wrong: Mapping[str, str],
    packing: Packing | None = None,
) -> bytes:
    r"""Return what `csrc/tuning.c` reads.

    Examples
    --------
    >>> compiled_form("toy", "0123456789abcdef", ["a", "b"], {"a": [10, 20, 30, 40]}, {"b": "wrong"}).splitlines()[3:5]
    [b'10 20 30 40', b'!']
    """
    lines = [f"tilewright tuning {_FORMAT}", f"machine {machine}", f"kernels {digest} {len(kernels)}"]
    for kernel in kernels:
        known = times.get(kernel)
        lines.append("!" if kernel in wrong else " ".join(map(str, known)) if known else "-")
    body = ("\n".join([*lines, *(packing or Packing()).lines()]) + "\n").encode()
    return body + b"end %016x\n" % checksum(body)


def checksum(data: bytes) -> int:
    """Return the 64-bit FNV-1a hash.

    Examples
    --------
    >>> hex(checksum(b"a"))
    '0xaf63dc4c8601ec8c'
    """
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def _replace(path: Path, data: bytes) -> None:
    """Let the file appear whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise TuningError(f"tune: cannot write {path}: {error.strerror}.") from None
