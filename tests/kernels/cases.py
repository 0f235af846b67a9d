"""One call of one kernel: its data, what must come out, and where its operands lie."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .reference import expected_product, rounding_bound
from .worker import CALL, HALF_BYTES, HALF_CALLS, OPERANDS, STARTED, Answer, Kernel, Worker, WorkerDied

Array = NDArray[Any]

DTYPES: dict[str, np.dtype[Any]] = {
    "s": np.dtype(np.float32),
    "d": np.dtype(np.float64),
    "c": np.dtype(np.complex64),
    "z": np.dtype(np.complex128),
}
AT_END, AT_START, ABSENT, SPARSE = range(4)
ALPHA, BETA, CONJ, ADD = 1, 2, 4, 8

# Bits of ld padding. A and B: quiet NaN, so that a read spreads. C: signalling NaN, which arithmetic would turn quiet.
LARGEST = 1 << 18  # bytes in an operand: half of what the worker has room for
NAN_BYTE = 0xFF
CANARY: dict[int, Any] = {4: np.uint32(0x7FA5A5A5), 8: np.uint64(0x7FF4A5A5A5A5A5A5)}
UNSET = b"\xff" * 16  # a scalar the flags tell the kernel to leave alone: NaN


@dataclass(frozen=True, slots=True)
class Case:
    """C = alpha op(A) op(B) + beta C for one kernel, with placement.

    `a`, `b`, `c` are as stored (column-major outside of numpy): `a` is m x k, or k x m where the mode transposes it.
    `alpha` or `beta` of None: the flag is not set and the kernel must not look at the scalar (nor, for beta, at C).
    `swap` conjugates one operand (paired kernels only); `conj` conjugates the product.
    """

    kernel: Kernel
    m: int
    n: int
    k: int
    a: Array
    b: Array
    c: Array
    alpha: complex | None = None
    beta: complex | None = None
    conj: bool = False
    swap: bool = False
    pads: tuple[int, int, int] = (0, 0, 0)
    place: tuple[int, int, int] = (AT_END, AT_END, AT_END)
    shift: tuple[int, int, int] = (0, 0, 0)
    exact: bool = True

    def __str__(self) -> str:
        words = [f"{self.kernel.name}: m={self.m} n={self.n} k={self.k}"]
        words += [
            f"{name}={value}" for name, value in (("alpha", self.alpha), ("beta", self.beta)) if value is not None
        ]
        words += [name for name in ("conj", "swap") if getattr(self, name)]
        if any(self.pads):
            words.append(f"ld padding {self.pads}")
        places = ("end", "start", "absent", "sparse")
        words.append("/".join(places[p] for p in self.place))
        if any(self.shift):
            words.append(f"shifted {self.shift} bytes")
        return " ".join(words)

    @property
    def flags(self) -> int:
        """The `flags` word of tw_args."""
        scaled = ALPHA * (self.alpha is not None) | BETA * (self.beta is not None)
        return scaled | CONJ * self.conj | ADD * (self.beta == 1)

    def live(self) -> int:
        """Elements of the last vector column that are really there."""
        full, now = (self.kernel.mr, self.m) if self.kernel.vector_dim == 0 else (self.kernel.nr, self.n)
        return self.kernel.mask_span - (full - now)


@dataclass(slots=True)
class Laid:
    """A case whose images lie in shared memory; `c` is the image of C, one row a column, padding at the row's end."""

    case: Case
    c: Array


def _scalar(value: complex | None, dtype: np.dtype[Any]) -> bytes:
    if value is None:
        return UNSET
    return np.array(value if dtype.kind == "c" else value.real, dtype).tobytes().ljust(16, b"\xff")


def _mask_and_lanes(case: Case) -> tuple[int, bytes]:
    kernel = case.kernel
    if not kernel.mask_span:
        return 0, b""
    lanes = (b"\xff" * (case.live() * DTYPES[kernel.dtype].itemsize)).ljust(32, b"\0") if kernel.isa == "avx2" else b""
    return (1 << (case.live() * (2 if kernel.dtype in "cz" else 1))) - 1, lanes


def _image(worker: Worker, at: int, stored: Array, pad: int, is_c: bool) -> Array:
    """Copy a stored matrix to shared memory with `pad` elements between columns; one row a column."""
    rows, cols = stored.shape
    size = (rows + pad) * cols * stored.itemsize
    raw = worker.bytes[at : at + size]
    if pad and is_c:
        canary = CANARY[stored.real.itemsize]
        raw.view(canary.dtype)[:] = canary
    elif pad:
        raw[:] = NAN_BYTE
    image = raw.view(stored.dtype).reshape(cols, rows + pad)
    image[:, :rows] = stored.T
    return image


def _lay(worker: Worker, half: int, i: int, at: int, case: Case) -> tuple[int, Laid]:
    fields: list[int | bytes] = []
    lds = []
    image = worker.bytes
    for which, stored in enumerate((case.a, case.b, case.c)):
        rows, cols = stored.shape
        pad, size = case.pads[which], stored.itemsize
        image = _image(worker, at, stored, pad, which == 2)
        ld = (rows + pad) * size
        assert cols * ld <= LARGEST, f"{case}: operand too large for the worker"
        lds.append(worker.sparse_ld if case.place[which] == SPARSE else ld)
        fields += [at, rows * size, cols, ld, case.place[which], case.shift[which]]
        at += -(-cols * ld // 64) * 64
    kernel, dtype = case.kernel, case.a.dtype
    mask, lanes = _mask_and_lanes(case)
    pair = _scalar(complex(1, -1) if case.swap else complex(-1, 1), dtype) if kernel.paired else UNSET
    conjugates = case.conj or (kernel.isa, kernel.mode) == ("fcma", "nc")  # whose sums are the product's conjugate
    flip = _scalar(complex(1, -1), dtype) if conjugates else UNSET
    fields += [kernel.index, bool(lanes), case.k, *lds, case.flags, mask, 0, 0]
    worker.put(half, i, *fields, _scalar(case.alpha, dtype), _scalar(case.beta, dtype), pair, flip, lanes)
    return at, Laid(case, image)


def _trap_words(worker: Worker, case: Case, answer: Answer) -> str:
    if answer.trap == STARTED:
        return f"killed the worker: {worker.last_words}"
    if answer.trap == -1:
        return "did not return"
    name = signal.Signals(answer.trap).name
    if answer.trap not in (signal.SIGSEGV, signal.SIGBUS):
        return name
    if answer.operand >= len(OPERANDS):
        hint = "" if answer.offset else " (x86 says so of misaligned vector accesses)"
        return f"{name} at address {answer.offset & (1 << 64) - 1:#x}{hint}"
    where = OPERANDS[answer.operand]
    if answer.operand > 2:
        return f"{name} at {where} {answer.offset:+} bytes"
    if case.place[answer.operand] == ABSENT:
        return f"{name}: {where} touched, which nobody may with k = 0"
    stored = (case.a, case.b, case.c)[answer.operand]
    rows, cols = stored.shape
    span = ((cols - 1) * (rows + case.pads[answer.operand]) + rows) * stored.itemsize if stored.size else 0
    if answer.offset < 0:
        return f"{name}: {where} accessed {-answer.offset} bytes before its start"
    if answer.offset >= span:
        return f"{name}: {where} accessed {answer.offset - span} bytes past its end"
    return f"{name}: {where} written at byte {answer.offset}"


def _same(got: Array, expected: Array) -> Array:
    """Elementwise equality of real or complex arrays in which NaN equals NaN."""
    equal: Array = got == expected
    if not equal.all():
        parts = ((got.real, expected.real), (got.imag, expected.imag))
        equal = np.logical_and(*[(g == e) | (np.isnan(g) & np.isnan(e)) for g, e in parts])
    return equal


def judge(worker: Worker, laid: Laid, answer: Answer) -> str | None:
    """Say what is wrong with a call that has returned, or None."""
    case = laid.case
    if answer.trap:
        return f"{case}: {_trap_words(worker, case, answer)}"
    if damage := worker.describe_damage(answer.damage, case.kernel):
        return f"{case}: {damage}"
    got = laid.c[:, : case.m].T
    if case.pads[2]:
        padding = np.ascontiguousarray(laid.c[:, case.m :])
        canary = CANARY[padding.real.itemsize]
        if (padding.view(canary.dtype) != canary).any():
            return f"{case}: padding between columns of C written"
    expected = expected_product(case, exact=case.exact)
    if case.exact:
        good = _same(got, expected)
    else:
        good = np.abs(got - expected) <= rounding_bound(case)
    if good.all():
        return None
    i, j = (int(x) for x in np.argwhere(~good)[0])
    count = f"{(~good).sum()} of {good.size} elements wrong"
    return f"{case}: C[{i}, {j}] is {got[i, j]!r}, should be {expected[i, j]!r} ({count})"


def _batches(worker: Worker, cases: Iterable[Case]) -> Iterator[tuple[int, list[Laid]]]:
    half, at, batch = 0, 0, list[Laid]()
    for case in cases:
        if not batch:
            at = half * HALF_BYTES + HALF_CALLS * CALL.size
        at, laid = _lay(worker, half, len(batch), at, case)
        batch.append(laid)
        if len(batch) == HALF_CALLS or at > (half + 1) * HALF_BYTES - (1 << 20):
            yield half, batch
            half, batch = 1 - half, []
    if batch:
        yield half, batch


def execute(worker: Worker, cases: Iterable[Case]) -> Generator[tuple[Laid, Answer], None, None]:
    """Run cases and give each with its answer, while its image of C is still there to be looked at.

    One half of the shared memory runs while the other is prepared and its results are used. A case that kills the
    worker is given with `STARTED` in its answer; what followed it in its batch is not run.
    """
    flying: tuple[int, list[Laid]] | None = None

    def landed(half: int, batch: list[Laid]) -> list[tuple[Laid, Answer]]:
        try:
            worker.wait()
        except WorkerDied:
            ran = [worker.answer(half, i) for i in range(len(batch))]
            last = next((i for i, answer in enumerate(ran) if answer.trap == STARTED), len(batch) - 1)
            return list(zip(batch[: last + 1], ran, strict=False))
        return [(laid, worker.answer(half, i)) for i, laid in enumerate(batch)]

    try:
        for half, batch in _batches(worker, cases):
            done = landed(*flying) if flying else []
            flying = None
            worker.submit(half, len(batch))
            flying = half, batch
            yield from done
        done = landed(*flying) if flying else []
        flying = None
        yield from done
    finally:  # the caller has seen enough
        if flying:
            landed(*flying)


def run(worker: Worker, cases: Iterable[Case], most: int = 8) -> list[str]:
    """Run cases and say what was wrong, `most` findings at the most."""
    with closing(execute(worker, cases)) as results:
        findings = (judge(worker, laid, answer) for laid, answer in results)
        return list(islice(filter(None, findings), most))


def check(worker: Worker, cases: Iterable[Case]) -> None:
    """Fail with what `run` found."""
    findings = run(worker, cases)
    assert not findings, "\n".join(["", *findings])


def with_places(case: Case, *places: int) -> Iterator[Case]:
    """The case with all three operands at each of some places in turn."""
    for place in places:
        yield replace(case, place=(place, place, place))
