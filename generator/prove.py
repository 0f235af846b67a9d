"""Proofs: run every kernel's instructions on exact integers and compare with the definition of GEMM.

For each k up to three passes through the loop (its back edge is taken twice) and every rest, for every flag, and for
every live size of a masked column. Operands lie in memory with gaps between their columns; reading or writing a gap is
a fault, and so is reading C without the BETA flag.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .abi import ARGS, FLAGS, offset
from .dtypes import Dtype
from .files import write_atomically
from .kernel import Kernel
from .machine import Fault, Machine
from .small import LINE

__all__ = ["ProofError", "prove", "prove_all"]

Matrix = npt.NDArray[np.int64]

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
    count = most = 0
    for case in _cases(kernel):
        most = max(most, _run(kernel, case))
        count += 1
    if most < 3 and not kernel.tile.k:
        raise ProofError(f"{kernel.name}: the loop ran {most} times at most: its back edge is not proved")
    return count


def prove_all(kernels: Sequence[Kernel], cache: Path | None = None) -> tuple[int, int]:
    """Prove kernels whose instructions are not in `cache`; return (proved now, known already).

    The cache is keyed by the instructions and by this proof's own code, and is written even when a proof fails.
    """
    known: set[str] = set()
    if cache is not None and cache.exists():
        try:
            known = set(json.loads(cache.read_text()))
        except (ValueError, TypeError):
            known = set()
    keys = {_key(kernel): kernel for kernel in kernels}
    unknown = [key for key in keys if key not in known]
    done: set[str] = set()
    try:
        for key in unknown:
            prove(keys[key])
            done.add(key)
    finally:
        if cache is not None:
            write_atomically(cache, json.dumps(sorted((known & set(keys)) | done)))
    return len(unknown), len(keys) - len(unknown)


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
    turn = kernel.program.steps_a_turn
    longest = (kernel.program.turns_outside + 4) * turn - 1
    sizes = range(size - kernel.mask_span + 1, size + 1) if kernel.mask_span else [size]
    pairs = [False, True] if kernel.isa.paired and kernel.dtype.complex else [False]
    if tile.k:
        yield from _exact_cases(kernel, sizes, pairs)
        return
    for k in range(longest + 1):
        yield Case(k, 0, size, False)
    for conjugated in pairs:
        for flags in _flags(kernel):
            for k in (0, turn + 1):
                yield Case(k, flags, size, conjugated)
    for live in sizes:
        for flags in (0, FLAGS["BETA"][0]):
            yield Case(turn + 1, flags, live, False)


def _flags(kernel: Kernel) -> list[int]:
    """All that a kernel may be given: beta's being 1 is told to those alone that ask."""
    found = list(range(8 if kernel.dtype.complex else 4))
    beta, add = FLAGS["BETA"][0], FLAGS["ADD"][0]
    return found + [flags | add for flags in found if flags & beta and kernel.isa.adds_old]


def _exact_cases(kernel: Kernel, sizes: Sequence[int], pairs: Sequence[bool]) -> Iterator[Case]:
    """The one k there is, and none at all, which a kernel across a batch is not asked for."""
    tile = kernel.tile
    sizes = [live for live in sizes if all(ld in (0, max(ld, rows)) for ld, rows in _lines(kernel, live, tile.k))]
    for conjugated in pairs:
        for flags in _flags(kernel):
            for k in (tile.k,) if tile.batch else (tile.k, 0):
                yield Case(k, flags, sizes[-1], conjugated)
    for live in sizes:
        for flags in (0, FLAGS["BETA"][0]):
            yield Case(tile.k, flags, live, False)


def _lines(kernel: Kernel, live: int, k: int) -> list[tuple[int, int]]:
    """The leading dimension of each matrix that the kernel knows, or 0, and the length of its columns as stored."""
    tile = kernel.tile
    m, n = (tile.mr, live) if tile.transposed else (live, tile.nr)
    rows = (k if tile.mode.a_transposed else m, n if tile.mode.b_transposed else k, m)
    return list(zip(tile.lds, rows, strict=True))


_PROBLEMS = 3
"""In a batch that is run: the first, one between, the last; of each where several are computed together."""

_INTEGERS = [number for number in range(-9, 10) if number]


def _run(kernel: Kernel, case: Case) -> int:
    """Run one case and compare; return how often the loop was passed."""
    tile, dtype = kernel.tile, kernel.dtype
    m, n = (tile.mr, case.live) if tile.transposed else (case.live, tile.nr)
    numbers = np.random.default_rng(int(hashlib.sha256(f"{kernel.name}{case}".encode()).hexdigest()[:8], 16))
    shapes = {
        "a": (case.k, m) if tile.mode.a_transposed else (m, case.k),
        "b": (n, case.k) if tile.mode.b_transposed else (case.k, n),
        "c": (m, n),
    }
    # Each matrix has a stride of its own, so that one used for another is noticed.
    strides = {
        name: (ld or shapes[name][0] + gap) * dtype.bytes
        for name, ld, gap in zip(("a", "b", "c"), tile.lds, (3, 11, 29), strict=True)
    }
    count = _PROBLEMS * kernel.lanes if tile.batch else 1
    steps = {name: shapes[name][1] * strides[name] + gap * dtype.bytes for name, gap in (("a", 5), ("b", 2), ("c", 7))}
    problems = []
    memory: dict[int, int] = {}
    for number in range(count):
        # No zeros: an instruction that only multiplies by one could be missing.
        matrices = {name: numbers.choice(_INTEGERS, (*shape, dtype.reals)) for name, shape in shapes.items()}
        places = {
            name: _places(name, shape, strides[name], dtype, number * steps[name]) for name, shape in shapes.items()
        }
        if tile.twin:
            half = m // 2 * case.k * dtype.reals
            places["a"] = places["a"][:half] + [place + _far(kernel) for place in places["a"][half:]]
        for name in ("a", "b", "c") if case.flags & FLAGS["BETA"][0] else ("a", "b"):
            memory.update(zip(places[name], matrices[name].ravel().tolist(), strict=True))
        problems.append((matrices, places["c"]))
    _set_arguments(kernel, case, strides, memory)
    batch = {"count": count, **{f"stride_{name}": step for name, step in steps.items()}} if tile.batch else {}
    memory.update({_PLACES["args"] + offset(name): value for name, value in batch.items()})
    writable = {place for _, places in problems for place in places}
    machine = Machine(kernel.isa.lanes, dtype.real_bytes, memory, writable)
    for register in (kernel.isa.a, kernel.isa.b, kernel.isa.c, kernel.isa.args):
        machine.general[register] = _PLACES[register.name]
    try:
        machine.run(kernel.program.code)
    except Fault as fault:
        raise ProofError(f"{kernel.name}: {case}: {fault}") from fault
    if tile.ahead and sorted(machine.asked) != _further(kernel, case, strides["b"]):
        raise ProofError(f"{kernel.name}: {case}: it asks for other places than whole vectors of the lines that follow")
    if tile.share and machine.asked != _shared(kernel, case):
        raise ProofError(f"{kernel.name}: {case}: it asks for other lines than its share, one after the other")
    for matrices, where in problems:
        for number, (place, value) in enumerate(zip(where, _expected(kernel, case, matrices), strict=True)):
            found = memory.get(place)
            if found != value:
                i, j = divmod(number // dtype.reals, n)
                part = ("", " (imaginary part)")[number % dtype.reals]
                raise ProofError(f"{kernel.name}: {case}: C[{i},{j}]{part} is {found}, should be {value}")
    return machine.passed.get("loop", 0)


def _further(kernel: Kernel, case: Case, stride: int) -> list[int]:
    """Where the lines of B that follow the tile's have their whole vectors."""
    lanes, nr = kernel.isa.lanes, kernel.tile.nr
    starts = range(0, case.k // lanes * lanes, lanes)
    return [_PLACES["b"] + j * stride + p * kernel.dtype.bytes for j in range(nr, 2 * nr) for p in starts]


def _far(kernel: Kernel) -> int:
    """What ``tw_args.far`` holds: nothing lies there, unless a second panel does."""
    return (_PLACES["b"] - _PLACES["a"]) // 2 if kernel.tile.twin else _PLACES["lanes"]


def _shared(kernel: Kernel, case: Case) -> list[int]:
    """The lines that a tile asks for: so many with every whole turn."""
    count = case.k // kernel.tile.unroll * kernel.tile.lines_asked(kernel.dtype.bytes)
    return [_PLACES["a"] + _far(kernel) + line * LINE for line in range(count)]


def _places(name: str, shape: tuple[int, int], stride: int, dtype: Dtype, further: int) -> list[int]:
    """Addresses of a matrix's reals, in the order of a C array (row, column, part)."""
    base = _PLACES[name] + further
    return [
        base + j * stride + i * dtype.bytes + part * dtype.real_bytes
        for i in range(shape[0])
        for j in range(shape[1])
        for part in range(dtype.reals)
    ]


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
        "far": _far(kernel),
    }
    for name, value in fields.items():
        memory[base + offset(name)] = value
    for lane in range(32 // dtype.real_bytes):
        memory[_PLACES["lanes"] + lane * dtype.real_bytes] = -1 if lane < lanes else 0
    pair = (1, -1) if case.conjugated else (-1, 1)
    for name, parts in {**_SCALAR_VALUES, "pair": pair, "flip": (1, -1)}.items():
        for part in range(dtype.reals):
            memory[base + offset(name) + part * dtype.real_bytes] = parts[part]
    assert set(fields) | {"alpha", "beta", "pair", "flip"} == set(ARGS)


def _expected(kernel: Kernel, case: Case, matrices: dict[str, Matrix]) -> list[int]:
    """C's reals, in the order of a C array."""
    mode = kernel.tile.mode
    conjugate_a, conjugate_b = mode.conjugates
    if case.conjugated:
        # The pair (1, -1) conjugates the operand that is not the vector operand.
        conjugate_a, conjugate_b = (True, False) if kernel.tile.transposed else (False, True)
    a = _operand(matrices["a"], mode.a_transposed, conjugate_a)
    b = _operand(matrices["b"], mode.b_transposed, conjugate_b)
    total = _product(a, b, np.matmul)
    if case.flags & FLAGS["CONJ"][0]:
        total = total[0], -total[1]
    if case.flags & FLAGS["ALPHA"][0]:
        total = _product(_scalar(kernel.dtype, "alpha"), total, np.multiply)
    if case.flags & FLAGS["BETA"][0]:
        old = _operand(matrices["c"], False, False)
        if not case.flags & FLAGS["ADD"][0]:  # else what lies at beta is not 1, so that a kernel that reads it is wrong
            old = _product(_scalar(kernel.dtype, "beta"), old, np.multiply)
        total = total[0] + old[0], total[1] + old[1]
    found: list[int] = np.stack(total[: kernel.dtype.reals], axis=-1).ravel().tolist()
    return found


def _operand(matrix: Matrix, transposed: bool, conjugated: bool) -> tuple[Matrix, Matrix]:
    """Real and imaginary part of op(matrix)."""
    real = matrix[..., 0]
    imaginary = matrix[..., 1] if matrix.shape[-1] == 2 else np.zeros_like(real)
    real, imaginary = (real.T, imaginary.T) if transposed else (real, imaginary)
    return real, -imaginary if conjugated else imaginary


def _scalar(dtype: Dtype, name: str) -> tuple[Matrix, Matrix]:
    real, imaginary = _SCALAR_VALUES[name]
    return np.array(real), np.array(imaginary if dtype.complex else 0)


def _product(
    x: tuple[Matrix, Matrix], y: tuple[Matrix, Matrix], times: Callable[[Matrix, Matrix], Matrix]
) -> tuple[Matrix, Matrix]:
    return times(x[0], y[0]) - times(x[1], y[1]), times(x[0], y[1]) + times(x[1], y[0])
