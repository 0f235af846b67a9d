"""The definition of GEMM, computed by plain sums in wider arithmetic: shares no code with anything it judges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .cases import Case

Array = NDArray[Any]


def operands(case: Case) -> tuple[Array, Array]:
    """op(A), m x k, and op(B), k x n, conjugation included."""
    first, second = case.kernel.mode[0], case.kernel.mode[1]
    a = case.a if first == "n" else case.a.T
    b = case.b if second == "n" else case.b.T
    # A paired kernel's `swap` conjugates the operand that is not the vector: B when vectors run along m.
    if (first == "c") != (case.swap and case.kernel.vector_dim == 1):
        a = a.conj()
    if (second == "c") != (case.swap and case.kernel.vector_dim == 0):
        b = b.conj()
    return a, b


def expected_product(case: Case, exact: bool = True) -> Array:
    """alpha op(A) op(B) + beta C.

    `exact`: in double precision, which is exact for the small integers such cases hold; else in long double. Complex
    products use the plain formula, so that Inf and NaN go where BLAS sends them; some kernels are told that beta is 1,
    and add C as it is.
    """
    wide: Any
    if exact:
        wide = np.complex128 if case.a.dtype.kind == "c" else np.float64
    else:
        wide = np.clongdouble if case.a.dtype.kind == "c" else np.longdouble
    a, b = operands(case)
    with np.errstate(invalid="ignore"):
        product: Array = np.einsum("ip,pj->ij", a.astype(wide), b.astype(wide))
        if case.conj:
            product = product.conj()
        if case.alpha is not None:
            product = _scalar(case.alpha, case) * product
        if case.beta is not None:
            old = case.c.astype(wide)
            product = product + (old if case.beta == 1 and case.kernel.adds_old else _scalar(case.beta, case) * old)
    return product


def rounding_bound(case: Case) -> Array:
    """Elementwise bound on the error of any summation order: c (k+2) u |alpha| |A||B| + 3 c u |beta| |C|.

    c is 1, and 2 sqrt 2 for complex products. Underflow adds at most one smallest number a step.
    """
    info = np.finfo(case.a.dtype)
    unit = float(info.eps) / 2
    factor = 1.0 if case.a.dtype.kind != "c" else 2 * np.sqrt(2)
    a, b = operands(case)
    magnitude: Array = np.einsum("ip,pj->ij", np.abs(a).astype(np.float64), np.abs(b).astype(np.float64))
    alpha = 1.0 if case.alpha is None else abs(_scalar(case.alpha, case))
    bound: Array = factor * (case.k + 2) * unit * alpha * magnitude + (case.k + 2) * float(info.smallest_subnormal)
    if case.beta is not None:
        bound += 3 * factor * unit * abs(_scalar(case.beta, case)) * np.abs(case.c).astype(np.float64)
    return bound


def _scalar(value: complex, case: Case) -> Any:
    """A scalar as the kernel sees it: rounded to its type."""
    return case.a.dtype.type(value if case.a.dtype.kind == "c" else value.real)
