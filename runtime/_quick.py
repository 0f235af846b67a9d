"""`gemm` through cffi for what calls mostly are: plain arrays, used where they lie. All else is `product.gemm`'s.

It does what the extension's gemm does (``_fast.c``), with C's part in ``_arrays.h``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import product
from ._library import lib
from .arrays import Array

__all__ = ["gemm"]

# Looked up once: gemm's own time is a few of these look-ups.
_ndarray = np.ndarray
_product, _with_options = lib.tw_gemm_arrays, lib.tw_gemm_arrays_options
_OPERATIONS = {trans: ord(trans) for trans in "NTC"}
_NUMBERS = (int, float)
_ZERO, _ONE, _N = 0, 1, "N"  # small integers and single letters are always the same objects


def gemm(
    a: Any, b: Any, out: Any = None, *, alpha: complex = 1, beta: complex = 0, trans_a: str = "N", trans_b: str = "N"
) -> Any:
    # C reads the arrays at these addresses, so they must be arrays, and referred to from here until it is done.
    if type(a) is _ndarray and type(b) is _ndarray:
        target = _new(a, b, trans_a, trans_b, beta) if out is None else out
        if type(target) is _ndarray:
            if trans_a is _N and trans_b is _N and alpha is _ONE and beta is _ZERO:
                if _product(id(a), id(b), id(target)) == 0:
                    return target
            elif type(alpha) in _NUMBERS and type(beta) in _NUMBERS:  # cffi would take all that float() takes
                try:
                    op_a, op_b = _OPERATIONS[trans_a], _OPERATIONS[trans_b]
                    if _with_options(id(a), id(b), id(target), op_a, op_b, alpha, beta) == 0:
                        return target
                except (KeyError, TypeError, OverflowError):
                    pass  # there is no such operation, nor can there be; alpha or beta is beyond a double
    return product.gemm(a, b, out, alpha=alpha, beta=beta, trans_a=trans_a, trans_b=trans_b)


gemm.__doc__ = product.gemm.__doc__
if __package__:
    gemm.__module__ = __package__  # where everybody finds it


def _new(a: Array, b: Array, trans_a: object, trans_b: object, beta: object) -> Array | None:
    """Return memory for the product; None where the arguments do not fit or there is not enough."""
    if a.ndim != 2 or b.ndim != 2 or type(beta) not in _NUMBERS or beta != 0:
        return None
    m, k = a.shape if trans_a is _N else a.shape[::-1]
    k_of_b, n = b.shape if trans_b is _N else b.shape[::-1]
    if k != k_of_b:
        return None
    try:
        return np.empty((m, n), a.dtype)
    except (MemoryError, ValueError):
        return None
