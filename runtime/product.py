"""One matrix product: `gemm`."""

from __future__ import annotations

from math import inf
from numbers import Complex, Real
from typing import Any

import numpy as np

from ._library import ffi, lib, raise_for
from .arrays import Array, Kind, check_out, check_two_dimensions, kind_of, matrix, operand, seen
from .errors import ArgumentError, DtypeError, ScalarError, ShapeError, shown

__all__ = ["FLIPPED", "OPERATIONS", "gemm", "is_operation", "scalar_of"]

# What to ask of C for an operand stored the way `out` is, and stored the other way, where its memory holds the
# transpose.
OPERATIONS = {trans: ord(trans) for trans in "NTC"}
FLIPPED = {"N": ord("T"), "T": ord("N"), "C": ord("R")}
_ROW_MAJOR, _COL_MAJOR = lib.TW_ROW_MAJOR, lib.TW_COL_MAJOR


def gemm(
    a: Any, b: Any, out: Any = None, *, alpha: complex = 1, beta: complex = 0, trans_a: str = "N", trans_b: str = "N"
) -> Any:
    """Compute ``alpha * op(a) @ op(b) + beta * out``.

    Parameters
    ----------
    a : array (m, k), or (k, m) when `trans_a` is "T" or "C"
        float32, float64, complex64 or complex128, as a numpy array or anything with the buffer protocol, ``__array__``
        or ``__dlpack__``. Rows or columns whose elements are adjacent and that do not overlap, such as transposed views
        and slices of either, are used in place; arrays of any other strides, or not aligned to their element, are
        copied once.
    b : array (k, n), or (n, k) when `trans_b` is "T" or "C"
        Same dtype as `a`.
    out : array (m, n), optional
        Same dtype. Written in place where `a` would be used in place; any other strides are written through a
        temporary. With ``beta=0`` it is not read, so NaN in it does not spread. It may share no element with `a` or
        `b`.
    alpha, beta : number
        Complex only for complex arrays. With ``alpha=0`` `a` and `b` are not read. `beta` other than 0 needs `out`.
        One beyond the range of the arrays' type is infinite, as 1e300 is for float32.
    trans_a, trans_b : "N", "T" or "C"
        op: the array itself, its transpose, its conjugate transpose (for real arrays the same as "T").

    Returns
    -------
    array (m, n)
        `out` if given, else a new C-ordered numpy array.

    Raises
    ------
    ShapeError, DtypeError, ScalarError, ArgumentError, LayoutError, OverlapError
        Before anything is written.
    IsaError
        ``TILEWRIGHT_ISA`` names an instruction set that was not built or that this CPU lacks.

    Notes
    -----
    The sum over k runs in order within a tile; which tiles are used depends on the shape and the CPU, so the last bits
    may too. Another thread must not change the arrays meanwhile: Python's lock is released during the product, save
    during small ones (mnk up to 64**3) where it costs more than it brings.

    Examples
    --------
    >>> import numpy as np
    >>> gemm(np.eye(2), np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([[1., 2.],
           [3., 4.]])

    >>> total = np.ones((2, 2))
    >>> x = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    >>> gemm(x, x, out=total, trans_b="T", alpha=2, beta=-1)
    array([[ 27.,  63.],
           [ 63., 153.]])
    """
    x = a if type(a) is np.ndarray else matrix(a, "a")
    y = b if type(b) is np.ndarray else matrix(b, "b")
    kind = kind_of(x, "a")
    if y.dtype != x.dtype:
        _refuse_dtype(x, y, "b")
    if x.ndim != 2 or y.ndim != 2:
        check_two_dimensions(x, "a")
        check_two_dimensions(y, "b")
    if not (is_operation(trans_a) and is_operation(trans_b)):
        _refuse_trans(trans_a, trans_b)
    m, k = x.shape if trans_a == "N" else x.shape[::-1]
    k_of_b, n = y.shape if trans_b == "N" else y.shape[::-1]
    if k != k_of_b:
        _refuse_shapes(x, y, trans_a, trans_b)
    scale = scalar_of(alpha, "alpha", kind)
    keep = scalar_of(beta, "beta", kind)

    if out is None:
        if beta != 0:
            raise ArgumentError(
                f"gemm: beta is {shown(beta)} but there is no out for it to multiply; pass out, or leave beta at 0."
            )
        target = np.empty((m, n), x.dtype)
    else:
        target = out if type(out) is np.ndarray else matrix(out, "out", write=True)
        if target.dtype != x.dtype:
            _refuse_dtype(x, target, "out")
        if target.shape != (m, n):
            check_two_dimensions(target, "out")
            raise ShapeError(f"gemm: out is {target.shape} but op(a) @ op(b) is {(m, n)}: out must be {(m, n)}.")
        check_out(target, (("a", x), ("b", y)))
    written, seen_c = target, seen(target, kind)
    if seen_c is None:
        written = np.array(target, order="C") if beta != 0 else np.empty((m, n), x.dtype)
        seen_c = operand(written, kind)
    row_major, ldc, c_pointer = seen_c
    op_a, lda, a_pointer = _arrange(x, trans_a, kind, row_major)
    op_b, ldb, b_pointer = _arrange(y, trans_b, kind, row_major)
    status = kind.gemm(
        _ROW_MAJOR if row_major else _COL_MAJOR,
        op_a,
        op_b,
        m,
        n,
        k,
        scale,
        a_pointer,
        lda,
        b_pointer,
        ldb,
        keep,
        c_pointer,
        ldc,
    )
    if status:
        raise_for(status)
    if written is not target:
        target[...] = written
    return target if out is None else out


def is_operation(trans: object) -> bool:
    """Tell whether it is "N", "T" or "C"; the object is not asked for its class, which may raise."""
    return issubclass(type(trans), str) and trans in OPERATIONS


def _arrange(x: Array, trans: str, kind: Kind, row_major: bool) -> tuple[int, int, Any]:
    """Return operation, leading dimension and pointer of `x` for C, where `out` is stored as `row_major` says."""
    x_row_major, ld, pointer = operand(x, kind)
    return (OPERATIONS if x_row_major == row_major else FLIPPED)[trans], ld, pointer


def scalar_of(value: complex, name: str, kind: Kind) -> Any:
    """Return alpha or beta as C takes it: a float, or for complex types two reals."""
    if kind.pair is None and type(value) in (int, float):
        return _convert(float, value, name)
    own: type = type(value)  # isinstance would ask the object too, whose __class__ may raise
    if not issubclass(own, Complex):
        hint = f" of shape {np.shape(value)}; pass {name}.item()" if issubclass(own, np.ndarray) else ""
        raise ScalarError(f"gemm: {name} is of type {own.__name__}{hint}; it must be a number.")
    if kind.pair is None:
        if not issubclass(own, Real):
            raise ScalarError(
                f"gemm: {name} is complex ({shown(value)}) but the arrays are real; pass {name}.real, or complex "
                "arrays."
            )
        return _convert(float, value, name)
    number = _convert(complex, value, name)
    return ffi.new(kind.pair, (number.real, number.imag))


def _convert(to: Any, value: Any, name: str) -> Any:
    try:
        try:
            return to(value)
        except OverflowError:
            return to(inf if value > 0 else -inf)  # as for float32 what only a double can hold
    except Exception as error:
        why = shown(error, str)
        raise ScalarError(f"gemm: {name} ({type(value).__name__}) is not usable as a number: {why}.") from error


def _refuse_dtype(x: Array, other: Array, name: str) -> None:
    kind_of(other, name)
    raise DtypeError(
        f"gemm: a is {x.dtype} but {name} is {other.dtype}: they must be the same, for example {name}.astype(a.dtype)."
    )


def _refuse_trans(trans_a: object, trans_b: object) -> None:
    name, value = ("trans_b", trans_b) if is_operation(trans_a) else ("trans_a", trans_a)
    raise ArgumentError(
        f"gemm: {name} is {shown(value)}; it must be 'N', 'T' (transpose) or 'C' (conjugate transpose)."
    )


def _refuse_shapes(x: Array, y: Array, trans_a: str, trans_b: str) -> None:
    """Say which dimensions do not meet, in terms of the arrays as they were passed."""
    what_a, axis_a = ("a", "columns") if trans_a == "N" else (f"a (trans_a={trans_a!r})", "rows")
    what_b, axis_b = ("b", "rows") if trans_b == "N" else (f"b (trans_b={trans_b!r})", "columns")
    k_a, k_b = x.shape[trans_a == "N"], y.shape[trans_b != "N"]
    raise ShapeError(
        f"gemm: {what_a} is {x.shape} but {what_b} is {y.shape}: a's {axis_a} ({k_a}) must equal b's {axis_b} ({k_b})."
    )
