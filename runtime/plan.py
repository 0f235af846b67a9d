"""Products made ready: `gemm_plan`."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ._calls import BOUND, run_plan
from ._library import ffi, lib, raise_for
from .arrays import KINDS, Array, Kind, check_out, matrix
from .errors import ArgumentError, DtypeError, LayoutError, ShapeError, shown
from .packed import Packed, fits
from .packed import pack as pack_operand
from .product import OPERATIONS, is_operation, scalar_of

__all__ = ["Options", "Plan", "gemm_plan", "make_plan", "pointer_to"]

_LONGEST = 2**63 - 1  # bytes that an address can hold
_RUN = int(ffi.cast("intptr_t", ffi.addressof(lib, "tw_gemm_bound_run")))
_EXECUTE = int(ffi.cast("intptr_t", ffi.addressof(lib, "tw_gemm_plan_execute")))


def gemm_plan(
    m: int, n: int, k: int, dtype: Any, *, trans_a: str = "N", trans_b: str = "N",
    lda: int | None = None, ldb: int | None = None, ldc: int | None = None,
) -> Plan:  # fmt: skip
    """Make a product of one shape ready, to be run many times.

    Parameters
    ----------
    m, n, k : int
        op(a) is (m, k), op(b) is (k, n), out is (m, n).
    dtype : dtype
        float32, float64, complex64 or complex128.
    trans_a, trans_b : "N", "T" or "C"
        As for `gemm`: with "T" or "C" a is (k, m), b is (n, k).
    lda, ldb, ldc : int, optional
        Elements from one row of a, b and out to the next; by default the arrays are C-contiguous.

    Returns
    -------
    Plan
        ``plan(a, b, out)`` runs it; ``plan.bind(a, b, out)`` returns a function that runs it on these arrays without
        any look-up. It stays with the instruction set that was current when it was made.

    Raises
    ------
    ArgumentError, DtypeError, IsaError

    Examples
    --------
    >>> import numpy as np
    >>> plan = gemm_plan(2, 2, 3, np.float64, trans_b="T")
    >>> x = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    >>> plan(x, x)
    array([[14., 32.],
           [32., 77.]])
    >>> out = np.empty((2, 2))
    >>> run = plan.bind(x, x, out)
    >>> x[:] = 1
    >>> run()
    0
    >>> out
    array([[3., 3.],
           [3., 3.]])
    """
    return Plan(m, n, k, dtype, trans_a, trans_b, lda, ldb, ldc)


class Options(NamedTuple):
    """What `skinny_plan` adds, as C takes it."""

    pack: str
    reuse: int
    threads: int
    reproducible: bool


class Plan:
    """What `gemm_plan` and `skinny_plan` make.

    It is not changed by running, so threads may share it; `handle` is C's pointer. `packs` is the operand that it takes
    packed, "a" or "b", or None.
    """

    __slots__ = ("_a", "_b", "_c", "_kind", "_record", "dtype", "handle", "k", "m", "n", "packs", "trans_a", "trans_b")

    def __init__(
        self, m: int, n: int, k: int, dtype: Any, trans_a: str, trans_b: str,
        lda: int | None, ldb: int | None, ldc: int | None, options: Options | None = None,
    ) -> None:  # fmt: skip
        for name, size in (("m", m), ("n", n), ("k", k)):
            if not issubclass(type(size), int | np.integer) or not 0 <= size <= _LONGEST // 16:
                raise ArgumentError(
                    f"gemm_plan: {name} is {shown(size)}; it must be an integer from 0 to 2^59 - 1; more is beyond "
                    "what an address can hold."
                )
        for name, trans in (("trans_a", trans_a), ("trans_b", trans_b)):
            if not is_operation(trans):
                raise ArgumentError(
                    f"gemm_plan: {name} is {shown(trans)}; it must be 'N', 'T' (transpose) or 'C' (conjugate "
                    "transpose)."
                )
        try:
            self.dtype = np.dtype(dtype)
            self._kind = KINDS[self.dtype]
        except Exception:
            raise DtypeError(
                f"gemm_plan: dtype is {shown(dtype)}; it must be float32, float64, complex64 or complex128."
            ) from None
        self.m, self.n, self.k, self.trans_a, self.trans_b = m, n, k, trans_a, trans_b
        self._a = _Operand("a", (m, k) if trans_a == "N" else (k, m), lda, self._kind)
        self._b = _Operand("b", (k, n) if trans_b == "N" else (n, k), ldb, self._kind)
        self._c = _Operand("out", (m, n), ldc, self._kind)
        operations = OPERATIONS[trans_a], OPERATIONS[trans_b]
        self.handle = make_plan(
            self._kind, lib.TW_ROW_MAJOR, operations, (m, n, k), (self._a.ld, self._b.ld, self._c.ld), options
        )
        self.packs = {ord("A"): "a", ord("B"): "b"}.get(lib.tw_gemm_plan_packed(self.handle))
        places = [number for place in (self._a, self._b, self._c) for number in (*place.shape, place.ld)]
        self._record = struct.pack(  # `planned` in _planned.h
            "14q", _EXECUTE, int(ffi.cast("intptr_t", self.handle)), *places, self._kind.letter,
            ord(self.packs or "\0"), self._large
        )  # fmt: skip

    def pack(self, x: Any, *, alpha: complex = 1) -> Any:
        """Pack the operand `packs`, multiplied by `alpha`; where there is none, return `x` itself.

        Parameters
        ----------
        x : array
            Of the shape that the plan takes, in any layout of rows or columns.

        Returns
        -------
        Packed

        Raises
        ------
        ShapeError, DtypeError, ScalarError, ArgumentError
        MemoryError
            There is no room for a copy of `x`.
        """
        if self.packs is None:
            if alpha != 1:
                raise ArgumentError("plan: this plan packs nothing, so alpha cannot be packed; pass it to the plan.")
            return x
        place, trans = (self._a, self.trans_a) if self.packs == "a" else (self._b, self.trans_b)
        array = matrix(x, self.packs)
        if array.dtype != self.dtype or array.shape != place.shape:
            place.refuse(array)
        return pack_operand(array, self.packs, trans, self._kind, pointer_to(alpha, "alpha", self._kind, 1))

    def __call__(self, a: Any, b: Any, out: Any = None, *, alpha: complex = 1, beta: complex = 0) -> Any:
        """Compute ``alpha * op(a) @ op(b) + beta * out`` and return it: `out`, or a new C-ordered array.

        Raises
        ------
        ShapeError, DtypeError, LayoutError, OverlapError, ScalarError, ArgumentError
            The arrays are not what the plan was made for; before anything is written.
        """
        if out is None:
            if beta != 0:
                raise ArgumentError(
                    f"plan: beta is {shown(beta)} but there is no out for it to multiply; pass out, or leave beta at 0."
                )
            out = self._c.new()
        if run_plan(self._record, Packed, a, b, out, alpha, beta):
            return out
        status = lib.tw_gemm_plan_execute(self.handle, *self._seen(a, b, out, alpha, beta))
        if status:
            raise_for(status)
        return out

    def bind(self, a: Any, b: Any, out: Any, *, alpha: complex = 1, beta: complex = 0) -> Callable[[], int]:
        """Return a function without arguments that computes ``out = alpha * op(a) @ op(b) + beta * out``.

        It is a `_fast.Bound` where the extension was built, else a `functools.partial` over cffi, which takes longer.
        It returns 0, keeps the arrays alive and reads what they hold when it is called; arrays and scalars are checked
        here, once. Raises what calling the plan raises.
        """
        one, x, y, zero, z = self._seen(a, b, out, alpha, beta)
        bound = ffi.new("tw_gemm_bound *", {"plan": self.handle, "alpha": one, "a": x, "b": y, "beta": zero, "c": z})
        keep = self, a, b, out, one, x, y, zero, z, bound  # C holds pointers, which keep nothing alive
        if BOUND is not None:
            return BOUND(_RUN, int(ffi.cast("intptr_t", bound)), keep, 0, raise_for, self._large)
        run = partial(lib.tw_gemm_bound_run, bound)
        run.__dict__["keeps"] = keep
        return run

    @property
    def _large(self) -> bool:
        """Whether Python's lock is released, as by gemm."""
        return float(self.m) * float(self.n) * float(self.k) > 64.0**3

    @property
    def kind(self) -> Kind:
        """The type, as C knows it."""
        return self._kind

    @property
    def lds(self) -> tuple[int, int, int]:
        """Leading dimensions of a, b and out, in elements."""
        return self._a.ld, self._b.ld, self._c.ld

    def __repr__(self) -> str:
        operations = "".join((self.trans_a, self.trans_b))
        return f"<gemm plan {self.m} x {self.n} x {self.k}, {self.dtype.name}, {operations}>"

    def _seen(self, a: Any, b: Any, out: Any, alpha: complex, beta: complex) -> tuple[Any, Any, Any, Any, Any]:
        if self.packs is None:
            x, y, z = self._a.see(a), self._b.see(b), self._c.see(out)
            check_out(out, (("a", a), ("b", b)))
        else:
            x = fits(a, "a", (self.m, self.k), self.dtype) if self.packs == "a" else self._a.see(a)
            y = fits(b, "b", (self.k, self.n), self.dtype) if self.packs == "b" else self._b.see(b)
            z = self._c.see(out)
            check_out(out, (("b", b),) if self.packs == "a" else (("a", a),))
        return pointer_to(alpha, "alpha", self._kind, 1), x, y, pointer_to(beta, "beta", self._kind, 0), z


class _Operand:
    """What an array must be to be used with a plan."""

    __slots__ = ("dtype", "elements", "ld", "name", "shape", "strides")

    def __init__(self, name: str, shape: tuple[int, int], ld: int | None, kind: Kind) -> None:
        letter = {"a": "a", "b": "b", "out": "c"}[name]
        if ld is None:
            ld = shape[1] or 1
        elif not issubclass(type(ld), int | np.integer) or not max(1, shape[1]) <= ld <= _LONGEST // kind.size:
            raise ArgumentError(
                f"gemm_plan: ld{letter} is {shown(ld)} but a row of {name} has {shape[1]} elements; ld{letter} must be "
                f"an integer of at least {max(1, shape[1])}."
            )
        self.name, self.shape, self.ld, self.elements = name, shape, ld, kind.elements
        self.strides = (ld * kind.size, kind.size)
        self.dtype = next(dtype for dtype, other in KINDS.items() if other is kind)

    def new(self) -> Array:
        """Return a new array that fits."""
        return np.empty((self.shape[0], self.ld), self.dtype)[:, : self.shape[1]]

    def see(self, x: Any) -> Any:
        """Return a pointer to an array that fits; raise what is wrong with another."""
        if not (type(x) is np.ndarray and x.dtype == self.dtype and x.shape == self.shape):
            self.refuse(x)
        if not x.flags.aligned:
            raise LayoutError(f"plan: {self.name} is not aligned to its elements; pass {self.name}.copy().")
        if x.size == 0:
            return ffi.NULL
        if x.strides != self.strides:
            # Strides of a dimension with a single element mean nothing.
            for extent, found, wanted in zip(self.shape, x.strides, self.strides, strict=True):
                if extent > 1 and found != wanted:
                    letter = "c" if self.name == "out" else self.name
                    raise LayoutError(
                        f"plan: {self.name} has strides {x.strides} bytes but the plan was made for {self.strides}; "
                        f"pass np.ascontiguousarray({self.name}), or make the plan with ld{letter}."
                    )
        return ffi.from_buffer(self.elements, x if x.flags.c_contiguous else x[:1])

    def refuse(self, x: Any) -> None:
        """Raise what is wrong with it."""
        if not issubclass(type(x), np.ndarray):
            raise DtypeError(f"plan: {self.name} is of type {type(x).__name__}; it must be a numpy array.")
        if x.dtype != self.dtype:
            raise DtypeError(f"plan: {self.name} has dtype {x.dtype} but the plan was made for {self.dtype}.")
        if x.shape != self.shape:
            raise ShapeError(f"plan: {self.name} is {x.shape} but the plan was made for {self.shape}.")
        raise DtypeError(f"plan: {self.name} is a {type(x).__name__}; pass np.asarray({self.name}).")


def make_plan(
    kind: Kind, layout: int, operations: tuple[int, int], sizes: tuple[int, int, int], lds: tuple[int, int, int],
    options: Options | None = None,
) -> Any:  # fmt: skip
    """Return a C plan that is given back when nobody refers to it any more."""
    made = ffi.new("tw_gemm_plan **")
    what = made, kind.letter, layout, *operations, *sizes, *lds
    if options is None:
        status = lib.tw_gemm_plan_create(*what)
    else:
        flags = lib.TW_PLAN_REPRODUCIBLE if options.reproducible else 0
        status = lib.tw_skinny_plan_create(*what, ord(options.pack), options.reuse, options.threads, flags)
    if status:
        raise_for(status)
    return ffi.gc(made[0], lib.tw_gemm_plan_destroy)


def pointer_to(value: complex, name: str, kind: Kind, default: int) -> Any:
    """Return alpha or beta as plans take it: a pointer, NULL where it is what NULL stands for."""
    number = scalar_of(value, name, kind)
    if kind.pair is None:
        return ffi.NULL if number == default else ffi.new("float *" if kind.size == 4 else "double *", number)
    return ffi.NULL if value == default else number
