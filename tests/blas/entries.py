"""The BLAS library's functions, called from Python with arrays and whatever else one wants to try."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from generator.blas import ENTRIES, Entry
from generator.compile import host_arch

from ..support import BUILD

LIBRARY = BUILD / host_arch() / "lib" / "libtilewright_blas.so.0"
DTYPES: dict[str, Any] = {"s": np.float32, "d": np.float64, "c": np.complex64, "z": np.complex128}
OPERATIONS = {"N": 111, "T": 112, "C": 113}
ROW, COLUMN = 101, 102
Array = np.ndarray[Any, np.dtype[Any]]
library = ctypes.CDLL(str(LIBRARY))


def named(*functions: str) -> list[Entry]:
    """The entries of these kinds."""
    return [entry for entry in ENTRIES if entry.function in functions]


def pointer(x: Array | None) -> ctypes.c_void_p:
    """Where an array lies; None: NULL."""
    return ctypes.c_void_p(x.ctypes.data if x is not None else None)


def integer(entry: Entry, value: int) -> Any:
    """An integer of the entry's width."""
    return (ctypes.c_int32 if entry.width == 32 else ctypes.c_int64)(value)


def integers(entry: Entry, values: Sequence[int]) -> Array:
    """An array of them."""
    return np.array(values, np.int32 if entry.width == 32 else np.int64)


def scalar(entry: Entry, value: complex) -> Any:
    """A number as CBLAS wants it: by value, or complex ones by pointer."""
    if entry.letter in "cz":
        return np.array([value], DTYPES[entry.letter]).ctypes.data_as(ctypes.c_void_p)
    return (ctypes.c_float if entry.letter == "s" else ctypes.c_double)(value.real)


def gemm(
    entry: Entry, layout: int, transa: str | int, transb: str | int, m: int, n: int, k: int, alpha: complex,
    a: Array | None, lda: int, b: Array | None, ldb: int, beta: complex, c: Array | None, ldc: int,
) -> None:  # fmt: skip
    """Call a product by CBLAS's or Fortran's convention; a Fortran one is column-major whatever `layout` says."""
    function = getattr(library, entry.symbol)
    sizes = [integer(entry, value) for value in (m, n, k)]
    if entry.function == "fortran":
        letters = [ctypes.byref(ctypes.c_char(trans.encode() if isinstance(trans, str) else bytes([trans])))
                   for trans in (transa, transb)]  # fmt: skip
        numbers = [ctypes.byref(integer(entry, value)) for value in (lda, ldb, ldc)]
        first, second = (np.array([value], DTYPES[entry.letter] if entry.complex else float) for value in (alpha, beta))
        first, second = first.astype(DTYPES[entry.letter]), second.astype(DTYPES[entry.letter])
        function(
            *letters, *map(ctypes.byref, sizes), pointer(first), pointer(a), numbers[0], pointer(b), numbers[1],
            pointer(second), pointer(c), numbers[2],
        )  # fmt: skip
        return
    operations = [OPERATIONS[trans] if isinstance(trans, str) else trans for trans in (transa, transb)]
    function(
        layout, *operations, *sizes, scalar(entry, alpha), pointer(a), integer(entry, lda), pointer(b),
        integer(entry, ldb), scalar(entry, beta), pointer(c), integer(entry, ldc),
    )  # fmt: skip
