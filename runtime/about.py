"""What is here and whether it works: `info` and `selftest`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from ._calls import CALLS
from ._library import ffi, lib, raise_for, text

__all__ = ["Info", "SelfTest", "info", "selftest"]


def _isas() -> dict[str, int]:
    """Names of the instruction sets this version knows and their numbers in C, best first."""
    return {text(lib.tw_isa_name(isa)): isa for isa in reversed(range(lib.tw_isa_count()))}


@dataclass(frozen=True, repr=False)
class Info:
    """What `info` found; ``str`` of it is for people."""

    version: str
    library: str
    """The file that holds the kernels."""
    compiler: str
    cpu: str
    isa: str | None
    """The instruction set that products use; None: none, and `reason` says why."""
    reason: str
    kernels: Mapping[str, int]
    """Kernels of each instruction set that was built, best first."""
    runnable: tuple[str, ...]
    """Of these, what this CPU can run."""
    stand_ins: Mapping[str, str]
    """Products, like "c tt", that another instruction set's kernels serve because `isa` has none for them."""
    calls: str
    """How calls from Python reach C: "extension", or "cffi" and why."""
    threads: int | None
    """How many a call may use; None: ``TILEWRIGHT_NUM_THREADS`` is no such number, and every product says so."""
    tuning: str
    """What the costs of kernels come from: "measured: " and a file, or "defaults: " and why."""

    def __str__(self) -> str:
        built = ", ".join(
            f"{isa} ({count} kernels{'' if isa in self.runnable else ', this CPU lacks it'})"
            for isa, count in self.kernels.items()
        )
        lines = {
            "library": self.library,
            "compiler": self.compiler,
            "cpu": self.cpu,
            "built": built or "no kernels",
            "isa": f"{self.isa} ({self.reason})" if self.isa else f"none: {self.reason}",
            "calls": self.calls,
            "threads": str(self.threads) if self.threads else "none: TILEWRIGHT_NUM_THREADS is no number of threads",
            "tuning": self.tuning,
        }
        if self.stand_ins:
            lines["stand-ins"] = ", ".join(f"{what} by {isa}" for what, isa in self.stand_ins.items())
        return f"tilewright {self.version}\n" + "\n".join(f"  {name:10} {value}" for name, value in lines.items())

    __repr__ = __str__


def info() -> Info:
    """Return what this library is, what it can run here and which instruction set it uses, and why.

    Returns
    -------
    Info
        Prints as a few lines. Also where ``TILEWRIGHT_ISA`` cannot be used: then `Info.isa` is None and `Info.reason`
        says why.

    Examples
    --------
    >>> about = info()
    >>> about.isa in about.runnable
    True
    """
    isas = _isas()
    kernels = {name: count for name, isa in isas.items() if (count := lib.tw_isa_kernels(isa))}
    threads, current = lib.tw_get_num_threads(), lib.tw_isa_current()  # the second's message is the one needed
    isa = None if current < 0 else text(lib.tw_isa_name(current))
    return Info(
        version=text(lib.tw_version()),
        library=text(lib.tw_library_path()),
        compiler=text(lib.tw_compiler()),
        cpu=text(lib.tw_cpu_name()),
        isa=isa,
        reason=text(lib.tw_error_message() if isa is None else lib.tw_isa_reason()),
        kernels=kernels,
        runnable=tuple(name for name in kernels if lib.tw_isa_supported(isas[name])),
        stand_ins={} if isa is None else _stand_ins(current),
        calls=CALLS,
        threads=threads if threads > 0 else None,
        tuning=text(lib.tw_tuning_status()),
    )


def _stand_ins(current: int) -> dict[str, str]:
    found = {}
    for dtype, trans_a, trans_b in product("sdcz", "NTC", "NTC"):
        if dtype in "sd" and "C" in (trans_a, trans_b):
            continue  # for real types the same as T
        serving = lib.tw_isa_serving(ord(dtype), ord(trans_a), ord(trans_b))
        if serving != current:
            found[f"{dtype} {trans_a}{trans_b}".lower()] = text(lib.tw_isa_name(serving)) if serving >= 0 else "nothing"
    return found


@dataclass(frozen=True, repr=False)
class SelfTest:
    """What `selftest` found; true if everything was right, and ``str`` of it is for people."""

    run: Mapping[str, int]
    """Kernels run, by instruction set."""
    skipped: Mapping[str, int]
    """Kernels of instruction sets that this CPU lacks."""
    failed: Mapping[str, int]
    """Kernels that computed something wrong."""
    products: int
    """Products compared."""
    mismatches: int
    """Of these, not exactly right."""
    failure: str
    """The first of them; "" if there was none."""

    def __bool__(self) -> bool:
        return not self.failure

    def __str__(self) -> str:
        lines = [f"  {isa:10} {count} kernels run, {self.failed[isa]} wrong" for isa, count in self.run.items()]
        lines += [f"  {isa:10} {count} kernels not run: this CPU lacks it" for isa, count in self.skipped.items()]
        verdict = f"first wrong: {self.failure}" if self.failure else "all exact"
        return "\n".join(
            [f"tilewright self-test: {self.products} products, {self.mismatches} wrong; {verdict}", *lines]
        )

    __repr__ = __str__


def selftest() -> SelfTest:
    """Run every kernel this CPU can execute and compare each element with plain C, exactly.

    Each kernel runs at several sizes and depths, with and without beta, with the conjugations it knows and canaries
    around C; then products of every type, layout and transposition run through every instruction set. Takes about a
    second.

    Returns
    -------
    SelfTest
        True where everything was right; prints as a few lines.

    Examples
    --------
    >>> bool(selftest())
    True
    """
    report = ffi.new("tw_selftest_report *")
    if lib.tw_selftest(report) < 0:
        raise_for(lib.TW_ERROR_MEMORY)
    listed = {name: isa for name, isa in _isas().items() if report.listed[isa]}
    return SelfTest(
        run={name: report.run[isa] for name, isa in listed.items() if report.run[isa]},
        skipped={name: report.listed[isa] for name, isa in listed.items() if not report.run[isa]},
        failed={name: report.failed[isa] for name, isa in listed.items()},
        products=report.products,
        mismatches=report.mismatches,
        failure=text(report.failure),
    )
