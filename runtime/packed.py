"""Operands packed once: `Packed`."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import numpy as np

from ._library import ffi, lib, raise_for
from .arrays import KINDS, Array, Kind, operand
from .errors import PackedError, shown
from .huge_pages import HUGE_PAGE, fresh_memory
from .product import FLIPPED, OPERATIONS

__all__ = ["Packed", "pack"]

_LINE = 64
_HEADER = 128  # bytes before the panels
"""Bytes of a cache line, to which panels are aligned."""


class Packed:
    """An operand in the order in which kernels read it; what `Plan.pack` makes.

    It depends on the matrix, its dtype and the instruction set alone, so every plan that takes this operand on this
    side can use it, whatever the other operand's size and the number of threads. It can be pickled: what is written is
    bytes and a checksum, and reading it back runs no code but the check.

    Attributes
    ----------
    operand : "a" or "b"
    shape : (int, int)
        Of op(x).
    dtype : numpy.dtype
    """

    __slots__ = ("_bytes", "dtype", "operand", "shape")

    operand: str
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    _bytes: Array

    @property
    def nbytes(self) -> int:
        """Bytes it takes."""
        return int(self._bytes.nbytes)

    @property
    def pointer(self) -> Any:
        """C's pointer; valid as long as this object is."""
        return ffi.from_buffer(self._bytes)

    def __repr__(self) -> str:
        rows, columns = self.shape
        return f"<packed {self.operand}, {rows} x {columns}, {self.dtype.name}, {self.nbytes} bytes>"

    def __getstate__(self) -> tuple[str, tuple[int, int], str, bytes, int]:
        content = self._bytes.tobytes()
        return self.operand, self.shape, self.dtype.name, content, crc32(content)

    def __setstate__(self, state: Any) -> None:
        try:
            side, shape, name, content, checksum = state
            rows, columns = shape
            dtype = np.dtype(str(name))
            right = (
                side in ("a", "b")
                and dtype in KINDS
                and type(content) is bytes
                and type(rows) is int is type(columns)
                and min(rows, columns) >= 0
            )
        except (TypeError, ValueError):
            right = False
        if not right:
            raise PackedError("Packed: this pickle does not hold a packed operand; pack the matrix again.")
        _check(content)
        if len(content) != _HEADER + rows * columns * dtype.itemsize:
            raise PackedError(
                f"Packed: {rows} x {columns} of {name} are not {len(content)} bytes; pack the matrix again."
            )
        if crc32(content) != checksum:
            raise PackedError("Packed: the panels were edited or damaged on the way; pack the matrix again.")
        self._bytes = _room(len(content))
        self._bytes[:] = np.frombuffer(content, np.uint8)
        self.operand, self.shape, self.dtype = side, (rows, columns), dtype


def _room(size: int) -> Array:
    """Return that many bytes that begin at a cache line."""
    if size >= 2 * HUGE_PAGE:
        return np.frombuffer(fresh_memory(size, "pack"), np.uint8)
    room = np.empty(size + _LINE, np.uint8)
    first = -room.ctypes.data % _LINE
    return room[first : first + size]


def _check(content: Any) -> None:
    status = lib.tw_packed_check(ffi.from_buffer(content), len(content))
    if status:
        raise_for(status)


def pack(x: Array, side: str, trans: str, kind: Kind, alpha: Any) -> Packed:
    """Pack op(x) as operand `side` of row-major products, multiplied by what `alpha` points at.

    Raises
    ------
    MemoryError
        There is no room for a copy of `x`.
    """
    row_major, ld, pointer = operand(x, kind)
    rows, columns = x.shape if trans == "N" else x.shape[::-1]
    what = (
        kind.letter,
        lib.TW_ROW_MAJOR,
        ord(side.upper()),
        (OPERATIONS if row_major else FLIPPED)[trans],
        rows,
        columns,
    )
    size = ffi.new("int64_t *")
    status = lib.tw_pack_size(*what, size)
    if status:
        raise_for(status)
    packed = Packed()
    packed.operand, packed.shape, packed.dtype = side, (rows, columns), x.dtype
    packed._bytes = _room(size[0])
    status = lib.tw_pack(*what, alpha, pointer, ld, ffi.from_buffer(packed._bytes))
    if status:
        raise_for(status)
    return packed


def fits(value: object, name: str, shape: tuple[int, int], dtype: np.dtype[Any]) -> Any:
    """Return a pointer to a packed operand that fits; raise what is wrong with another."""
    if type(value) is not Packed:
        raise PackedError(
            f"plan: {name} is a {type(value).__name__} but this plan takes it packed; pass plan.pack({name})."
        )
    for what, found, wanted in (
        ("operand", value.operand, name), ("dtype", value.dtype, dtype), ("shape of op(x)", value.shape, shape),
    ):  # fmt: skip
        if found != wanted:
            raise PackedError(f"plan: {name} was packed with {what} {shown(found, str)} but the plan takes {wanted}.")
    return value.pointer
