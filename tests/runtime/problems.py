"""Products to try, every way a matrix can lie in memory, what is right, and how far off is not wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

import tilewright.runtime as tw
from tilewright.runtime._library import ffi, lib

Array = NDArray[Any]

DTYPES = [np.dtype(name) for name in ("float32", "float64", "complex64", "complex128")]
RUNNABLE = tw.info().runnable
IN_PLACE = ("c", "f", "rows", "columns")
COPIED = ("reversed", "stepped", "turned", "field", "misaligned")
LAYOUTS = IN_PLACE + COPIED


@contextmanager
def forced(isa: str) -> Iterator[None]:
    """Products run on this ISA inside the block."""
    before = lib.tw_isa_current()
    assert lib.tw_isa_set(isa.encode()) == lib.TW_OK
    try:
        yield
    finally:
        assert lib.tw_isa_set(lib.tw_isa_name(before) if before >= 0 else ffi.NULL) == lib.TW_OK


def place(values: Array, layout: str) -> tuple[Array, Array]:
    """Lay a matrix out in memory among NaN; return it and all the bytes around it.

    The first four layouts have unit stride one way and are used where they lie; the others BLAS cannot describe.
    """
    rows, columns = values.shape
    dtype = values.dtype
    if layout == "misaligned":
        around = np.full(values.nbytes + 2 * dtype.itemsize, 0xFF, np.uint8)
        view = around[dtype.itemsize + 1 :][: values.nbytes].view(dtype).reshape(rows, columns)
    elif layout == "field":  # strides that are no multiple of the element
        records = np.full((rows + 1) * (columns + 2) * (dtype.itemsize + 3), 0xFF, np.uint8)
        around = records
        record = np.dtype([("before", "u1", 3), ("value", dtype)])
        view = records.view(record).reshape(rows + 1, columns + 2)["value"][:rows, 1 : columns + 1]
    else:
        order: Any = "F" if layout in ("f", "columns") else "C"
        exact = layout in ("c", "f")
        whole = np.full((rows, columns) if exact else (2 * rows + 3, 2 * columns + 3), np.nan, dtype, order=order)
        around = whole.reshape(-1, order="A").view(np.uint8)
        view = {
            "c": whole,
            "f": whole,
            "rows": whole[1 : rows + 1, 2 : columns + 2],
            "columns": whole[2 : rows + 2, 1 : columns + 1],
            "reversed": whole[1 : rows + 1, 2 : columns + 2][::-1],
            "stepped": whole[1 : 2 * rows + 1 : 2, 2 : 2 * columns + 2 : 2],
            "turned": whole[1 : rows + 1, 2 : columns + 2][:, ::-1],
        }[layout]
    view[...] = values
    assert view.shape == values.shape
    assert view.size == 0 or np.shares_memory(view, around)
    return view, around


def untouched(view: Array, around: Array, before: Array) -> bool:
    """Tell whether the bytes around `view` are what they were."""
    now = around.copy()
    inside = view.copy()
    view[...] = np.frombuffer(b"\x55" * view.dtype.itemsize, view.dtype)[0]
    mine = around == 0x55
    view[...] = inside
    return bool(np.array_equal(now[~mine], before[~mine]))


@dataclass
class Problem:
    """A product as a caller would ask for it."""

    a: Array
    b: Array
    c: Array
    """What `out` holds before."""
    options: dict[str, Any]

    @property
    def op_a(self) -> Array:
        return operation(self.a, self.options["trans_a"])

    @property
    def op_b(self) -> Array:
        return operation(self.b, self.options["trans_b"])

    def exact(self) -> Array:
        """The product in extended precision."""
        wide = np.clongdouble if self.c.dtype.kind == "c" else np.longdouble
        alpha, beta = self.options["alpha"], self.options["beta"]
        total: Array = np.zeros(self.c.shape, wide)
        if alpha != 0:
            total = wide(alpha) * (self.op_a.astype(wide) @ self.op_b.astype(wide))
        if beta != 0:
            total = total + wide(beta) * self.c.astype(wide)
        return total

    def bound(self) -> Array:
        """How far each element may be off: roundings times the sum of absolute values added (Higham 3.5)."""
        real = self.c.real.dtype
        unit = np.finfo(real).eps / 2
        k = self.op_a.shape[1]
        # A product of complex numbers is rounded up to 2 sqrt 2 times as coarsely as one of reals.
        coarse, keep = (2 * np.sqrt(2), 4) if self.c.dtype.kind == "c" else (1, 3)
        absolute = np.abs(self.op_a).astype(np.longdouble) @ np.abs(self.op_b).astype(np.longdouble)
        alpha, beta = abs(self.options["alpha"]), abs(self.options["beta"])
        tiny = np.finfo(real).smallest_subnormal * (k + 4) * (1 + alpha)
        return np.asarray(coarse * (k + 2) * unit * alpha * absolute + keep * unit * beta * np.abs(self.c) + tiny)

    def run(self, **more: Any) -> Array:
        result: Array = tw.gemm(self.a, self.b, **{**self.options, **more})
        return result


def operation(x: Array, trans: str) -> Array:
    """What BLAS calls op(x)."""
    result: Array = {"N": x, "T": x.T, "C": x.conj().T}[trans]
    return result


def assert_within_bound(found: Array, problem: Problem) -> None:
    """Every element, not a norm: one element 1000 roundings off must not hide among many."""
    error = np.abs(found - problem.exact())
    bound = problem.bound()
    wrong = np.argwhere(~(error <= bound))
    assert not len(wrong), (
        f"{len(wrong)} elements wrong, first {wrong[0]}: off {error[tuple(wrong[0])]}, {bound[tuple(wrong[0])]} allowed"
    )


def integers(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Small integers: every sum of products of them is exact."""
    values = rng.integers(-4, 5, shape).astype(dtype)
    if dtype.kind == "c":
        values += 1j * rng.integers(-4, 5, shape).astype(values.real.dtype)
    return values


def floats(rng: np.random.Generator, shape: tuple[int, int], dtype: np.dtype[Any]) -> Array:
    """Numbers of either sign over some orders of magnitude, so that cancellation happens."""
    values = (rng.standard_normal(shape) * 2.0 ** rng.integers(-8, 9, shape)).astype(dtype)
    if dtype.kind == "c":
        values += (1j * rng.standard_normal(shape)).astype(dtype)
    return values


def scalars(dtype: np.dtype[Any]) -> st.SearchStrategy[Any]:
    """Alpha and beta: the values that are special, and others. All exact in float32."""
    real: list[Any] = [0, 1, -1, 2.0, 0.5, -0.375]
    return st.sampled_from([*real, 1j, 0.5 - 2j, -1 + 0.25j] if dtype.kind == "c" else real)


@st.composite
def problems(draw: st.DrawFn, most: int = 40, exact: bool = False, dtypes: list[np.dtype[Any]] = DTYPES) -> Problem:
    """Products of any type, shape, transposition and scalars; `exact`: of integers."""
    dtype = draw(st.sampled_from(dtypes))
    size = st.integers(0, most)
    m, n, k = draw(size), draw(size), draw(size)
    trans_a, trans_b = draw(st.sampled_from("NTC")), draw(st.sampled_from("NTC"))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    fill = integers if exact else floats
    return Problem(
        a=fill(rng, (m, k) if trans_a == "N" else (k, m), dtype),
        b=fill(rng, (k, n) if trans_b == "N" else (n, k), dtype),
        c=fill(rng, (m, n), dtype),
        options={
            "alpha": draw(scalars(dtype)) if not exact else draw(st.sampled_from([0, 1, -2])),
            "beta": draw(scalars(dtype)) if not exact else draw(st.sampled_from([0, 1, 3])),
            "trans_a": trans_a,
            "trans_b": trans_b,
        },
    )
