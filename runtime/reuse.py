"""What packing an operand takes and saves on this machine: `measure_packing`, the last part of `tune`.

For each type, an operand that lies across or along k, in a cache or in memory, one thread or as many as are allowed,
and 1, 2, 4 ... 256 lines of the other one: the product with the operand where it lies, the same with it packed, and
packing it. Products of any number of lines are reckoned from these (`csrc/skinny.c`), and so is whether packing pays:
nothing there is guessed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ._library import ffi, lib, raise_for, text
from .huge_pages import fresh_memory

__all__ = ["Packing", "measure_packing"]

LINES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Lines of the other operand, `TW_USES` of them."""

WAYS = 6
"""Raised whenever `csrc/route.c` sends products another way, or packing changes: what was measured is void then."""

CACHED, STREAMED, LESS = (4 << 20, 800), (48 << 20, 2000), (16 << 20, 2000)
"""Bytes of the operand and its k, no power of two: in the last cache, beyond it, and with more than a few lines."""

_FEW, _MANY = 16, 64
"""With more than many lines arithmetic takes longer than memory by far: what the cached operand took does for both."""

_DTYPES = {"s": np.float32, "d": np.float64, "c": np.complex64, "z": np.complex128}
_NUMBERS = 1 + 2 * len(LINES)


@dataclass
class Packing:
    """Picoseconds for 1000 elements: to pack them, then for each of `LINES` the product where they lie, and packed."""

    isa: str = ""
    cells: dict[str, list[int]] = field(default_factory=dict)
    """By "type order place threads": "s along far one"."""

    def lines(self) -> list[str]:
        """Return the lines that `csrc/tuning.c` reads.

        Examples
        --------
        >>> Packing().lines()
        ['packing -']
        """
        if not self.cells:
            return ["packing -"]
        return [f"packing {self.isa}", *(" ".join(map(str, self.cells.get(cell, "-"))) for cell in _cells())]

    def record(self) -> dict[str, Any]:
        """Return what the record keeps."""
        return {"isa": self.isa, "ways": WAYS, "lines": list(LINES), "picoseconds": self.cells}

    @classmethod
    def read(cls, record: Any) -> Packing:
        """Return what a record kept, if it is whole; else nothing.

        Examples
        --------
        >>> Packing.read({"isa": "avx2", "picoseconds": 3})
        Packing(isa='', cells={})
        """
        known = {text(lib.tw_isa_name(isa)) for isa in range(lib.tw_isa_count())}
        if not isinstance(record, dict) or record.get("isa") not in known:
            return cls()
        if (record.get("ways"), record.get("lines")) != (WAYS, list(LINES)):
            return cls()
        cells = record.get("picoseconds")
        if not isinstance(cells, dict) or not all(_whole(cells.get(cell)) for cell in _cells() if "one" in cell):
            return cls()
        return cls(record["isa"], {cell: cells[cell] for cell in _cells() if _whole(cells.get(cell))})


def _whole(numbers: Any) -> bool:
    return (
        isinstance(numbers, list)
        and len(numbers) == _NUMBERS
        and all(type(number) is int and 0 < number < 10**10 for number in numbers)
    )


def _cells() -> Iterator[str]:
    """Every cell, in the order of the file."""
    for letter in _DTYPES:
        for order in ("across", "along"):
            for place in ("near", "far"):
                yield from (f"{letter} {order} {place} {threads}" for threads in ("one", "all"))


def measure_packing(end: float) -> Packing | None:
    """Measure all cells with the instruction set in use; None where time (`time.monotonic`) is over before."""
    most = lib.tw_get_num_threads()
    if lib.tw_isa_current() < 0 or most < 1:
        return None
    found = Packing(text(lib.tw_isa_name(lib.tw_isa_current())))
    try:
        for cell in _cells():
            letter, order, place, threads = cell.split()
            if threads == "all" and most == 1:
                continue
            if time.monotonic() >= end:
                return None
            _do(lib.tw_set_num_threads(1 if threads == "one" else most))
            near = found.cells.get(f"{letter} {order} near {threads}")
            found.cells[cell] = _measure(letter, order == "along", place, near)
    finally:
        _do(lib.tw_set_num_threads(most))
    return found


class _Operand:
    """op(A) of row-major products, `size` bytes of it: along k as stored, or across."""

    def __init__(self, letter: str, along: bool, size: int, k: int) -> None:
        self.dtype = np.dtype(_DTYPES[letter])
        self.m, self.k = size // self.dtype.itemsize // k, k
        self.stored = np.ones((self.m, k) if along else (k, self.m), self.dtype)
        self.letter, self.trans = ord(letter), ord("N" if along else "T")
        self.what = self.letter, lib.TW_ROW_MAJOR, ord("A"), self.trans, self.m, k
        self.bytes = ffi.new("int64_t *")
        _do(lib.tw_pack_size(*self.what, self.bytes))
        self.packed = self.pack()

    def pack(self) -> Any:
        """Return it packed, in new memory, as whoever packs once does."""
        into = ffi.from_buffer(fresh_memory(self.bytes[0], "tune"))
        _do(lib.tw_pack(*self.what, ffi.NULL, ffi.from_buffer(self.stored), self.stored.shape[1], into))
        return into

    def products(self, n: int) -> list[float]:
        """Picoseconds for 1000 elements of products with n lines, where it lies and packed."""
        b, c = np.ones((self.k, n), self.dtype), np.empty((self.m, n), self.dtype)
        return [self._product(n, pack, b, c) * 1e6 / (self.m * self.k) for pack in "NA"]

    def _product(self, n: int, pack: str, b: Any, c: Any) -> float:
        plan = ffi.new("tw_gemm_plan **")
        sizes = self.m, n, self.k, self.stored.shape[1], n, n
        _do(lib.tw_skinny_plan_create(plan, *self.what[:2], self.trans, ord("N"), *sizes, ord(pack), 1, 0, 0))
        x, y, z = self.packed if pack == "A" else ffi.from_buffer(self.stored), ffi.from_buffer(b), ffi.from_buffer(c)
        try:
            return _least(lambda: _do(lib.tw_gemm_plan_execute_packed(plan[0], ffi.NULL, x, y, ffi.NULL, z)))
        finally:
            lib.tw_gemm_plan_destroy(plan[0])


def _measure(letter: str, along: bool, place: str, near: list[int] | None) -> list[int]:
    """Measure one cell; `near` is that of the cached operand."""
    whole = _Operand(letter, along, *(CACHED if place == "near" else STREAMED))
    less = whole if place == "near" else _Operand(letter, along, *LESS)
    numbers = [_least(whole.pack) * 1e6 / (whole.m * whole.k)]
    for number, n in enumerate(LINES):
        if place == "far" and near is not None and n > _MANY:
            numbers += near[1 + 2 * number :][:2]
        else:
            numbers += (whole if n <= _FEW else less).products(n)
    return [max(1, round(picoseconds)) for picoseconds in numbers]


def _least(run: Callable[[], object]) -> float:
    """Nanoseconds of the fastest of some runs, after one that nobody looks at."""
    run()
    least, begun, runs = float("inf"), time.perf_counter_ns(), 0
    while runs < 3 or (runs < 20 and time.perf_counter_ns() - begun < 3e6):
        start = time.perf_counter_ns()
        run()
        least = min(least, time.perf_counter_ns() - start)
        runs += 1
    return least


def _do(status: int) -> None:
    if status:
        raise_for(status)
