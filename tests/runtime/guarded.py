"""Matrices that begin or end where memory ends: whatever reads or writes beyond them stops the process."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy as np

from .problems import Array

_PAGE = mmap.PAGESIZE
_PROTECT = ctypes.CDLL(None, use_errno=True).mprotect


def guarded(values: Array, at_end: bool, ld: int | None = None) -> Array:
    """Copy a matrix row by row, `ld` elements apart, between two pages that nobody may touch.

    The last element stands before the second page, or the first behind the first one.
    """
    rows, columns = values.shape
    ld = columns if ld is None else ld
    item = values.dtype.itemsize
    size = ((rows - 1) * ld + columns) * item if values.size else 0
    inner = max(1, -(-size // _PAGE)) * _PAGE
    memory = mmap.mmap(-1, inner + 2 * _PAGE)
    whole = np.frombuffer(memory, np.uint8)
    for page in (0, inner + _PAGE):
        assert _PROTECT(ctypes.c_void_p(whole.ctypes.data + page), ctypes.c_size_t(_PAGE), 0) == 0
    first = _PAGE + (inner - size) // item * item if at_end else _PAGE
    strides: Any = (ld * item, item)
    matrix: Array = np.ndarray((rows, columns), values.dtype, memory, first, strides)
    matrix[...] = values
    return matrix
