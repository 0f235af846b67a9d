"""Many products of one shape: `gemm_batch`."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from ._library import ffi, lib, raise_for
from .arrays import Array, Kind, check_out, kind_of, matrix, seen
from .errors import ArgumentError, DtypeError, OverlapError, ShapeError, shown
from .plan import make_plan, pointer_to
from .product import FLIPPED, OPERATIONS, is_operation

__all__ = ["gemm_batch"]

_WORK: Any = 10_000  # as for gemm: far beyond what views of one array need


def gemm_batch(
    a: Any, b: Any, out: Any = None, *, alpha: complex = 1, beta: complex = 0, trans_a: str = "N", trans_b: str = "N"
) -> Any:
    """Compute ``alpha * op(a) @ op(b) + beta * out`` for stacks of matrices.

    The last two dimensions are the matrices; those before them are broadcast against each other as `numpy.matmul` does.

    Parameters
    ----------
    a : array (..., m, k), or (..., k, m) when `trans_a` is "T" or "C"
        float32, float64, complex64 or complex128. Used in place where the matrices have rows or columns of adjacent
        elements, whatever the strides between them; else copied once.
    b : array (..., k, n), or (..., n, k) when `trans_b` is "T" or "C"
        Same dtype as `a`.
    out : array (..., m, n), optional
        Same dtype, of exactly the broadcast shape. With ``beta=0`` it is not read. It may share no element with `a` or
        `b`, nor its matrices with each other.
    alpha, beta : number
        For all products.
    trans_a, trans_b : "N", "T" or "C"
        op, of each matrix.

    Returns
    -------
    array (..., m, n)
        `out` if given, else a new C-ordered array.

    Raises
    ------
    ShapeError, DtypeError, ScalarError, ArgumentError, LayoutError, OverlapError
        Before anything is written.

    Examples
    --------
    >>> import numpy as np
    >>> points = np.arange(12.0).reshape(3, 2, 2)
    >>> gemm_batch(points, np.eye(2)).shape
    (3, 2, 2)
    >>> bool(np.all(gemm_batch(points, points, trans_b="T") == points @ points.transpose(0, 2, 1)))
    True
    """
    for name, trans in (("trans_a", trans_a), ("trans_b", trans_b)):
        if not is_operation(trans):
            raise ArgumentError(
                f"gemm_batch: {name} is {shown(trans)}; it must be 'N', 'T' (transpose) or 'C' (conjugate transpose)."
            )
    x, y = matrix(a, "a"), matrix(b, "b")
    kind = kind_of(x, "a")
    _check(x, y, "b")
    m, k = x.shape[-2:] if trans_a == "N" else x.shape[:-3:-1]
    k_of_b, n = y.shape[-2:] if trans_b == "N" else y.shape[:-3:-1]
    if k != k_of_b:
        raise ShapeError(
            f"gemm_batch: op(a) is {(m, k)} but op(b) is {(k_of_b, n)} (a is {x.shape}, trans_a={trans_a!r}; b is "
            f"{y.shape}, trans_b={trans_b!r}): the first's columns must equal the second's rows."
        )
    try:
        lead = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    except ValueError:
        raise ShapeError(
            f"gemm_batch: a is {x.shape} but b is {y.shape}: the dimensions before the last two, {x.shape[:-2]} and "
            f"{y.shape[:-2]}, cannot be broadcast together."
        ) from None
    one, zero = pointer_to(alpha, "alpha", kind, 1), pointer_to(beta, "beta", kind, 0)
    if out is None:
        if beta != 0:
            raise ArgumentError(
                f"gemm_batch: beta is {shown(beta)} but there is no out for it to multiply; pass out, or "
                "leave beta at 0."
            )
        target = np.empty((*lead, m, n), x.dtype)
    else:
        target = matrix(out, "out", write=True)
        _check(x, target, "out")
        if target.shape != (*lead, m, n):
            raise ShapeError(f"gemm_batch: out is {target.shape} but the products are {(*lead, m, n)}.")
        _check_stack(target, x, y)
    if target.size:
        written = target
        c = _Stack.of(target, lead, kind)
        if c is None:
            written = np.array(target, order="C")
            c = _Stack.of(written, lead, kind)
            assert c is not None
        _run((x, trans_a), (y, trans_b), c, (m, n, k), kind, lead, one, zero)
        if written is not target:
            target[...] = written
    return target if out is None else out


class _Stack:
    """Matrices of one shape as BLAS sees each of them, and where each begins."""

    def __init__(self, array: Array, view: tuple[bool, int, Any], lead: tuple[int, ...]) -> None:
        self.row_major, self.ld, _ = view
        self.array = array  # keeps the memory
        self.address = array.ctypes.data
        self.strides = np.broadcast_to(array, (*lead, *array.shape[-2:])).strides[:-2]

    @classmethod
    def of(cls, array: Array, lead: tuple[int, ...], kind: Kind) -> _Stack | None:
        """Return the matrices, or None where BLAS cannot describe them."""
        if not array.flags.aligned:
            return None
        # One of them will do: they all have the same strides. An empty one has no elements to be seen.
        first = array[(0,) * (array.ndim - 2)] if array.size else np.empty(array.shape[-2:], array.dtype)
        view = seen(first, kind)
        return None if view is None else cls(array, view, lead)

    def pointers(self, lead: tuple[int, ...]) -> Array:
        """Return the address of each matrix."""
        at = np.array(self.address, np.intp)
        for size, stride in zip(lead, self.strides, strict=True):
            at = at[..., np.newaxis] + np.arange(size, dtype=np.intp) * stride
        return np.ascontiguousarray(at.reshape(-1))


def _run(
    a: tuple[Array, str], b: tuple[Array, str], c: _Stack, sizes: tuple[int, int, int], kind: Kind,
    lead: tuple[int, ...], one: Any, zero: Any,
) -> None:  # fmt: skip
    x, op_a = _arrange(*a, c.row_major, lead, kind)
    y, op_b = _arrange(*b, c.row_major, lead, kind)
    layout = lib.TW_ROW_MAJOR if c.row_major else lib.TW_COL_MAJOR
    plan = make_plan(kind, layout, (op_a, op_b), sizes, (x.ld, y.ld, c.ld))
    strides = _collapse(lead, (x.strides, y.strides, c.strides))
    if strides is not None and all(stride % kind.size == 0 for stride in strides):
        steps = [stride // kind.size for stride in strides]
        at = [ffi.cast("char *", stack.address) for stack in (x, y, c)]
        count = int(np.prod(lead, dtype=np.int64))
        status = lib.tw_gemm_batch_strided(plan, count, one, at[0], steps[0], at[1], steps[1], zero, at[2], steps[2])
    else:
        each = [stack.pointers(lead) for stack in (x, y, c)]
        p, q, r = (ffi.cast("void **", pointers.ctypes.data) for pointers in each)
        status = lib.tw_gemm_batch(plan, len(each[2]), one, p, q, zero, r)
    if status:
        raise_for(status)


def _arrange(x: Array, trans: str, row_major: bool, lead: tuple[int, ...], kind: Kind) -> tuple[_Stack, int]:
    """Return the matrices, copied where BLAS cannot describe them, and the operation where C is stored `row_major`."""
    stack = _Stack.of(x, lead, kind) or _Stack.of(np.array(x, order="C"), lead, kind)
    assert stack is not None
    return stack, (OPERATIONS if stack.row_major == row_major else FLIPPED)[trans]


def _collapse(lead: tuple[int, ...], strides: tuple[tuple[int, ...], ...]) -> tuple[int, ...] | None:
    """Return each array's one stride over all its matrices; None: no one stride steps through an array.

    Examples
    --------
    >>> _collapse((2, 3), ((96, 32), (0, 0), (24, 8)))
    (32, 0, 8)
    >>> _collapse((2, 3), ((96, 32), (32, 0), (24, 8))) is None
    True
    """
    dimensions = [(size, steps) for size, steps in zip(lead, zip(*strides, strict=True), strict=True) if size != 1]
    if not dimensions:
        return (0,) * len(strides)
    for (_, outer), (size, inner) in pairwise(dimensions):
        if outer != tuple(size * step for step in inner):
            return None
    return dimensions[-1][1]


def _check(x: Array, other: Array, name: str) -> None:
    kind_of(other, name)
    if other.dtype != x.dtype:
        raise DtypeError(f"gemm_batch: a is {x.dtype} but {name} is {other.dtype}: they must be the same.")
    for array, which in ((x, "a"), (other, name)):
        if array.ndim < 2:
            raise ShapeError(f"gemm_batch: {which} has shape {array.shape}; it must have two dimensions or more.")


def _check_stack(out: Array, x: Array, y: Array) -> None:
    """Raise unless `out` may be written to."""
    flat = out if out.ndim == 2 else out.reshape(-1, out.shape[-1]) if out.size and out.flags.c_contiguous else out
    if flat.ndim == 2:
        check_out(flat, (("a", x), ("b", y)))
        return
    check_out(np.empty((0, 0), out.dtype) if out.flags.writeable else out, ())
    for name, operand in (("a", x), ("b", y)):
        if np.may_share_memory(out, operand):
            try:
                shares = np.shares_memory(out, operand, max_work=_WORK)
            except Exception:  # too hard: taken to share
                shares = True
            if shares:
                raise OverlapError(
                    f"gemm_batch: out shares memory with {name}, which is still read while out is written."
                )
    if _overlaps_itself(out):
        raise OverlapError(
            f"gemm_batch: elements of out share memory with each other (shape {out.shape}, strides "
            f"{out.strides} bytes)."
        )


def _overlaps_itself(array: Array) -> bool:
    """Tell whether two elements share a byte."""
    reach = array.itemsize
    dimensions = sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1)
    if array.size == 0 or all(stride >= reach for stride, n in _reaches(dimensions, reach)):
        return False
    if array.size * reach > sum(stride * (n - 1) for stride, n in dimensions) + reach:
        return True  # more than there is room for
    at = np.zeros(1, np.int64)
    for stride, n in dimensions:  # interleaved, or not: compare every address
        at = (at[:, np.newaxis] + np.arange(n, dtype=np.int64) * stride).reshape(-1)
    at.sort()
    return bool(np.any(np.diff(at) < reach))


def _reaches(dimensions: list[tuple[int, int]], reach: int) -> list[tuple[int, int]]:
    """Return, for each dimension from the innermost, its stride less what the inner ones cover beyond one element."""
    covered, found = 0, []
    for stride, n in dimensions:
        found.append((stride - covered, n))
        covered += stride * (n - 1)
    return found
