"""Arrays as C sees them: what is accepted, how it lies in memory, what shares memory with what."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._library import ffi, lib
from .errors import DtypeError, LayoutError, OverlapError, ShapeError, shown

__all__ = [
    "KINDS",
    "Array",
    "Kind",
    "Seen",
    "check_out",
    "check_two_dimensions",
    "kind_of",
    "matrix",
    "operand",
    "seen",
]

Array = NDArray[Any]
Seen = tuple[bool, int, Any]
"""A matrix as BLAS sees it: is it row-major, leading dimension in elements, a C pointer that keeps its memory alive."""


class Kind(NamedTuple):
    """One of the four element types."""

    letter: int
    """BLAS's letter."""
    gemm: Any
    """The C function."""
    size: int
    """Bytes an element."""
    elements: Any
    """The C type to see a buffer as."""
    pair: Any
    """Complex types: the C type of alpha and beta; real ones: None."""


# Looked up once: gemm's own time is a few of these look-ups.
_from_buffer, _may_share_memory = ffi.from_buffer, np.may_share_memory

_VOID, _FLOAT, _DOUBLE = (ffi.typeof(name) for name in ("char[]", "float[]", "double[]"))

KINDS: dict[np.dtype[Any], Kind] = {
    np.dtype(np.float32): Kind(ord("s"), lib.tw_sgemm, 4, _FLOAT, None),
    np.dtype(np.float64): Kind(ord("d"), lib.tw_dgemm, 8, _DOUBLE, None),
    np.dtype(np.complex64): Kind(ord("c"), lib.tw_cgemm, 8, _VOID, ffi.typeof("float[2]")),
    np.dtype(np.complex128): Kind(ord("z"), lib.tw_zgemm, 16, _VOID, ffi.typeof("double[2]")),
}
"""By native dtype; one of the other byte order is another key, so it is not found."""

_WORK: Any = 10_000  # far beyond what two views of one matrix need; a crafted pair is taken to overlap
_TYPES = "float32, float64, complex64 or complex128"


def matrix(value: object, name: str, *, write: bool = False) -> Array:
    """Return `value` as a plain numpy array, on the same memory.

    Numpy arrays and their subclasses, anything with the buffer protocol, and objects with ``__array__`` or
    ``__dlpack__``. Lists are refused, since to copy one costs more than most products.

    Parameters
    ----------
    value : object
    name : str
        The argument's name, for messages.
    write : bool
        Is it to be written to? Then an object that hands out copies is refused, since the result would be lost.

    Raises
    ------
    DtypeError
        Not an array.
    LayoutError
        To be written to, but only a copy of it is to be had.

    Examples
    --------
    >>> from array import array
    >>> matrix(memoryview(array("d", [1.0, 2.0])).cast("B").cast("d", (1, 2)), "a")
    array([[1., 2.]])
    """
    own = type(value)  # isinstance would ask the object too, whose __class__ may raise
    if issubclass(own, np.ma.MaskedArray):
        raise DtypeError(
            f"gemm: {name} is a masked array, and a product has no mask; pass {name}.filled(0) or {name}.data."
        )
    try:
        if issubclass(own, np.ndarray | np.generic):
            return np.asarray(value)
        try:
            return np.asarray(memoryview(value))  # type: ignore[arg-type]
        except TypeError:
            pass
        if any(hasattr(own, way) for way in ("__array__", "__array_interface__", "__array_struct__")):
            array = np.asarray(value)
            # Two views of one memory share it; two copies do not.
            if write and array.size and not np.may_share_memory(array, np.asarray(value)):
                raise LayoutError(f"gemm: {name} ({_type(value)}) gives only a copy of itself; pass a numpy array.")
            return array
        if hasattr(own, "__dlpack__"):
            return np.from_dlpack(value)  # type: ignore[arg-type]
    except LayoutError:
        raise
    except Exception as error:
        raise DtypeError(
            f"gemm: {name} ({_type(value)}) cannot be seen as an array ({shown(error, str)}); "
            f"pass a numpy array of {_TYPES}."
        ) from error
    raise DtypeError(
        f"gemm: {name} is of type {_type(value)}; pass an array of {_TYPES}, for example "
        f"np.asarray({name}, dtype=np.float64)."
    )


def _type(value: object) -> str:
    return type(value).__name__


def kind_of(array: Array, name: str) -> Kind:
    """Return the kind of `array`'s elements.

    Raises
    ------
    DtypeError
        Another type, or one of the four in the other byte order.
    """
    kind = KINDS.get(array.dtype)
    if kind is not None:
        return kind
    native = array.dtype.newbyteorder("=") if array.dtype.kind in "fc" else None  # not every type has one
    if native is not None and native in KINDS:
        raise DtypeError(
            f"gemm: {name} is {native.name} in non-native byte order ({array.dtype.str}); "
            f"pass {name}.astype({name}.dtype.newbyteorder('='))."
        )
    raise DtypeError(f"gemm: {name} has dtype {array.dtype}; it must be {_TYPES}.")


def check_two_dimensions(array: Array, name: str) -> None:
    """Raise `ShapeError`, with what to write instead, unless `array` is a matrix."""
    if array.ndim == 2:
        return
    fix = {
        0: f"pass {name}.reshape(1, 1), or use alpha to multiply by a number",
        1: f"pass {name}[np.newaxis, :] for a row or {name}[:, np.newaxis] for a column",
    }.get(array.ndim, "call gemm for each pair of matrices")
    dimensions = f"{array.ndim} dimension{'' if array.ndim == 1 else 's'}"
    raise ShapeError(f"gemm: {name} has {dimensions}, shape {array.shape}, but must have 2: {fix}.")


def seen(array: Array, kind: Kind) -> Seen | None:
    """Return a matrix as BLAS sees it; None: no leading dimension can describe its strides, or it is not aligned.

    Strides of dimensions with a single element mean nothing, so they are not looked at.

    Parameters
    ----------
    array : array (rows, columns)
    kind : Kind
        Of its elements.

    Examples
    --------
    >>> x = np.zeros((5, 8))
    >>> for view in x, x.T, x[:, :3], x[:, ::2], x[::-1]:
    ...     print((seen(view, KINDS[x.dtype]) or (None, None))[:2])
    (True, 8)
    (False, 8)
    (True, 8)
    (None, None)
    (None, None)
    """
    flags = array.flags
    if not flags.aligned:
        return None
    if flags.c_contiguous:
        return True, array.shape[1] or 1, _from_buffer(kind.elements, array)
    size = kind.size
    rows, columns = array.shape
    down, along = array.strides
    # Python's buffers must be contiguous; the first row or column of what BLAS can see is, and C takes it from there.
    if (along == size or columns <= 1) and (rows <= 1 or (down >= columns * size and down > 0 and down % size == 0)):
        return True, (down // size if rows > 1 else columns or 1), _from_buffer(kind.elements, array[:1])
    if (down == size or rows <= 1) and (columns <= 1 or (along >= rows * size and along > 0 and along % size == 0)):
        return False, (along // size if columns > 1 else rows or 1), _from_buffer(kind.elements, array.T[:1])
    return None


def operand(array: Array, kind: Kind) -> Seen:
    """Return a matrix as BLAS sees it, or a C-ordered copy where it cannot."""
    view = seen(array, kind) or seen(np.array(array, order="C"), kind)
    assert view is not None
    return view


def check_out(out: Array, operands: tuple[tuple[str, Array], ...]) -> None:
    """Raise unless `out` may be written to without changing an operand or itself.

    Raises
    ------
    LayoutError
        Read-only.
    OverlapError
        Shares elements with an operand, or two of its own elements share memory. Whether views of one array share an
        element is an integer problem; where it is not solved within a set amount of work they are taken to share.
    """
    flags = out.flags
    if not flags.writeable:
        raise LayoutError("gemm: out is read-only; pass a writable array, for example np.array(out).")
    for name, operand in operands:
        if _may_share_memory(out, operand) and _may_share_memory(out, operand, max_work=_WORK):
            raise OverlapError(
                f"gemm: out shares memory with {name}, which is still read while out is written; pass a separate out, "
                f"or {name}.copy()."
            )
    if not flags.c_contiguous and _overlaps_itself(out):
        raise OverlapError(
            f"gemm: elements of out share memory with each other (shape {out.shape}, strides {out.strides} bytes); "
            "pass an array whose elements are separate."
        )


def _overlaps_itself(array: Array) -> bool:
    """Tell whether two elements of a matrix share a byte."""
    size = array.itemsize
    (short, count), (long, lines) = sorted(
        (abs(stride), n) for stride, n in zip(array.strides, array.shape, strict=True)
    )
    if array.size == 0 or (count == 1 and lines == 1):
        return False
    if lines == 1 or count == 1:
        return (short if lines == 1 else long) < size
    if short < size:
        return True
    if long >= short * (count - 1) + size:
        return False  # each line ends before the next begins
    # Interleaved. Elements i lines and j places apart are |i long - j short| bytes apart; too near for some j where
    # i long + size - 1, modulo short, is below 2 size - 1. How many such i are there, besides i = 0?
    most = min(lines - 1, (short * (count - 1) + size - 1) // long)
    near = _floors(most + 1, short, long, size - 1) - _floors(most + 1, short, long, -size)
    return near > 1


def _floors(n: int, m: int, a: int, b: int) -> int:
    """Return the sum of (a i + b) // m over i from 0 to n - 1, in as many steps as Euclid takes for a and m.

    Examples
    --------
    >>> _floors(5, 3, 2, -1) == sum((2 * i - 1) // 3 for i in range(5))
    True
    """
    total = 0
    while True:
        total += n * (n - 1) // 2 * (a // m) + n * (b // m)
        a, b = a % m, b % m
        top = a * n + b
        if top < m:
            return total
        n, b, m, a = top // m, top % m, a, m  # the points below the line, counted along the other axis
