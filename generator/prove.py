"""Proofs: run every kernel's instructions on exact integers and compare with the definition of GEMM.

For each k from 0 to three turns of the loop and a bit (the back edge is taken twice), for every flag, and for every
live size of a masked column.  Operands lie in memory with gaps between their columns; reading or writing a gap is a
fault, and so is reading C without the BETA flag.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .abi import ARGS, FLAGS, offset
from .dtypes import Dtype
from .kernel import Kernel
from .machine import Fault, Machine

__all__ = ["ProofError", "prove", "prove_all"]

Number = tuple[int, int]
Matrix = dict[tuple[int, int], Number]

_PLACES = {"a": 1 << 20, "b": 2 << 20, "c": 3 << 20, "args": 4 << 20, "lanes": 5 << 20}
_SCALAR_VALUES = {"alpha": (3, -2), "beta": (-5, 7)}


class ProofError(Exception):
    """A kernel does not compute what it should."""


@dataclass(frozen=True)
class Case:
    """One run of a kernel."""

    k: int
    flags: int
    live: int
    conjugated: bool

    def __str__(self) -> str:
        names = [name for name, (bit, _) in FLAGS.items() if self.flags & bit]
        return f"k={self.k}, flags {'+'.join(names) or 'none'}, {self.live} along the vectors, pair {self.conjugated}"


def prove(kernel: Kernel) -> int:
    """Run `kernel` in every case; return how many there were.

    Raises
    ------
    ProofError
        Naming the kernel, the case and the first wrong element or the fault.
    """
    count = 0
    for case in _cases(kernel):
        _run(kernel, case)
        count += 1
    return count


def prove_all(kernels: Iterable[Kernel], cache: Path | None = None) -> tuple[int, int]:
    """Prove kernels whose instructions are not in `cache`; return (proved now, known already).

    The cache is keyed by the instructions and by this proof's own code, and is written even when a proof fails.
    """
    known: set[str] = set()
    if cache is not None and cache.exists():
        try:
            known = set(json.loads(cache.read_text()))
        except (ValueError, TypeError):
            known = set()
    found: set[str] = set()
    proved = skipped = 0
    try:
        for kernel in kernels:
            key = _key(kernel)
            if key in known:
                skipped += 1
            else:
                prove(kernel)
                proved += 1
            found.add(key)
    finally:
        if cache is not None:
            cache.parent.mkdir(parents=True, exist_ok=True)
            temporary = cache.with_suffix(".tmp")
            temporary.write_text(json.dumps(sorted(known | found)))
            temporary.replace(cache)
    return proved, skipped


def _key(kernel: Kernel) -> str:
    return hashlib.sha256(f"{_code_hash()}{kernel.spec_hash}".encode()).hexdigest()[:24]


def _code_hash() -> str:
    global _CODE
    if not _CODE:
        here = Path(__file__).parent
        files = [here / "prove.py", here / "machine.py", here / "ir.py", *sorted((here / "isa").glob("*.py"))]
        _CODE = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    return _CODE


_CODE = ""


def _cases(kernel: Kernel) -> Iterator[Case]:
    tile = kernel.tile
    size = tile.vector_size
    turn = max(tile.unroll, kernel.isa.lanes if tile.form == "dot" else 1)
    longest = 3 * turn + 1
    sizes = range(size - kernel.mask_span + 1, size + 1) if kernel.mask_span else [size]
    pairs = [False, True] if kernel.isa.paired and kernel.dtype.complex else [False]
    for k in range(longest + 1):
        yield Case(k, 0, size, False)
    for conjugated in pairs:
        for flags in range(8 if kernel.dtype.complex else 4):
            for k in (0, turn + 1):
                yield Case(k, flags, size, conjugated)
    for live in sizes:
        for flags in (0, FLAGS["BETA"][0]):
            yield Case(turn + 1, flags, live, False)


def _run(kernel: Kernel, case: Case) -> None:
    tile, dtype = kernel.tile, kernel.dtype
    m, n = (tile.mr, case.live) if tile.transposed else (case.live, tile.nr)
    seed = int(hashlib.sha256(f"{kernel.name}{case}".encode()).hexdigest()[:8], 16)
    numbers = random.Random(seed)
    a_shape = (case.k, m) if tile.mode.a_transposed else (m, case.k)
    b_shape = (n, case.k) if tile.mode.b_transposed else (case.k, n)
    memory: dict[int, int] = {}
    matrices: dict[str, Matrix] = {}
    strides: dict[str, int] = {}
    for name, (rows, columns) in {"a": a_shape, "b": b_shape, "c": (m, n)}.items():
        strides[name] = (rows + 3) * dtype.bytes
        matrices[name] = {
            (i, j): (numbers.randint(-9, 9), numbers.randint(-9, 9) if dtype.complex else 0)
            for i in range(rows)
            for j in range(columns)
        }
        if name != "c" or case.flags & FLAGS["BETA"][0]:
            for (i, j), parts in matrices[name].items():
                for part in range(dtype.reals):
                    memory[_place(name, i, j, part, strides, dtype)] = parts[part]
    writable = {_place("c", i, j, part, strides, dtype) for i, j in matrices["c"] for part in range(dtype.reals)}
    _set_arguments(kernel, case, strides, memory)
    machine = Machine(kernel.isa.lanes, dtype.real_bytes, memory, writable)
    for register in (kernel.isa.a, kernel.isa.b, kernel.isa.c, kernel.isa.args):
        machine.general[register] = _PLACES[register.name]
    try:
        machine.run(kernel.program.code)
    except Fault as fault:
        raise ProofError(f"{kernel.name}: {case}: {fault}") from fault
    for (i, j), value in _expected(kernel, case, m, n, matrices).items():
        found = tuple(memory.get(_place("c", i, j, part, strides, dtype)) for part in range(dtype.reals))
        if found != value[: dtype.reals]:
            raise ProofError(f"{kernel.name}: {case}: C[{i},{j}] is {found}, should be {value[: dtype.reals]}")


def _place(name: str, i: int, j: int, part: int, strides: dict[str, int], dtype: Dtype) -> int:
    return _PLACES[name] + j * strides[name] + i * dtype.bytes + part * dtype.real_bytes


def _set_arguments(kernel: Kernel, case: Case, strides: dict[str, int], memory: dict[int, int]) -> None:
    dtype = kernel.dtype
    base = _PLACES["args"]
    dead = kernel.tile.vector_size - case.live
    lanes = (kernel.mask_span - dead) * dtype.reals
    fields = {
        "k": case.k,
        "lda": strides["a"],
        "ldb": strides["b"],
        "ldc": strides["c"],
        "flags": case.flags,
        "mask": (1 << lanes) - 1,
        "lanes": _PLACES["lanes"],
    }
    for name, value in fields.items():
        memory[base + offset(name)] = value
    for lane in range(32 // dtype.real_bytes):
        memory[_PLACES["lanes"] + lane * dtype.real_bytes] = -1 if lane < lanes else 0
    pair = (1, -1) if case.conjugated else (-1, 1)
    for name, parts in {**_SCALAR_VALUES, "pair": pair, "flip": (1, -1)}.items():
        for part in range(dtype.reals):
            memory[base + offset(name) + part * dtype.real_bytes] = parts[part]
    assert set(fields) | {"alpha", "beta", "pair", "flip", "reserved"} == set(ARGS)


def _expected(kernel: Kernel, case: Case, m: int, n: int, matrices: dict[str, Matrix]) -> Matrix:
    mode = kernel.tile.mode
    conjugate_a, conjugate_b = mode.conjugates
    if case.conjugated:
        # The pair (1, -1) conjugates the operand that is not the vector operand.
        conjugate_a, conjugate_b = (True, False) if kernel.tile.transposed else (False, True)
    result: Matrix = {}
    for i in range(m):
        for j in range(n):
            total = (0, 0)
            for p in range(case.k):
                a = matrices["a"][(p, i) if mode.a_transposed else (i, p)]
                b = matrices["b"][(j, p) if mode.b_transposed else (p, j)]
                total = _sum(total, _product(_conjugate(a, conjugate_a), _conjugate(b, conjugate_b)))
            total = _conjugate(total, bool(case.flags & FLAGS["CONJ"][0]))
            alpha, beta = (
                value if kernel.dtype.complex else (value[0], 0)
                for value in (_SCALAR_VALUES["alpha"], _SCALAR_VALUES["beta"])
            )
            if case.flags & FLAGS["ALPHA"][0]:
                total = _product(alpha, total)
            if case.flags & FLAGS["BETA"][0]:
                total = _sum(total, _product(beta, matrices["c"][i, j]))
            result[i, j] = total
    return result


def _sum(x: Number, y: Number) -> Number:
    return x[0] + y[0], x[1] + y[1]


def _product(x: Number, y: Number) -> Number:
    return x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0]


def _conjugate(x: Number, yes: bool) -> Number:
    return (x[0], -x[1]) if yes else x
