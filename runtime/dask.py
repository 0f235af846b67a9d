"""Tall-and-skinny products of dask arrays: dask schedules, blocks are multiplied here.

An optional part: ``pip install tilewright[dask]``. The arrays are chunked along their long dimension alone, so that
every block is one product; what is short is sent to each worker once and packed there, for the worker's own CPU.

>>> import dask.array as da
>>> x = da.ones((1000, 8), chunks=(300, -1))
>>> product(x, np.eye(8)[:, :3])
dask.array<rows, shape=(1000, 3), dtype=float64, chunksize=(300, 3), chunktype=numpy.ndarray>
>>> gram(x).compute()[0, 0]
np.float64(1000.0)

Workers of several threads multiply several blocks at once, so each product needs one thread: set
``TILEWRIGHT_NUM_THREADS=1`` where distributed sets those of other libraries, in its configuration
``distributed.nanny.pre-spawn-environ``. A worker with one thread may use more.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np

try:
    import dask
    import dask.array as da
except ImportError as error:
    raise ImportError(f"tilewright.runtime.dask needs dask ({error}): pip install 'tilewright[dask]'.") from error

from ._calls import gemm
from .arrays import KINDS, Array, kind_of, matrix
from .errors import ArgumentError, DtypeError, LayoutError, ShapeError
from .packed import Packed
from .plan import Plan
from .skinny import skinny_plan

__all__ = ["gram", "product"]

_AXES = ("rows", "columns")
_SPLIT = 8  # sums of so many blocks are added at a time


def product(a: Any, b: Any) -> Any:
    """Return ``a @ b`` as a dask array, not computed yet, of which at least one operand is a dask array.

    Parameters
    ----------
    a : array (m, k)
        A dask array in blocks of whole rows, m being long; or, where `b` is one too and k is long, in blocks of whole
        columns; or any array that `gemm` takes.
    b : array (k, n)
        A dask array in blocks of whole columns, n being long; or, where `a` is one too, of whole rows; or any array.
        An array that is no dask array is copied here, sent to every worker once and packed there: change it later, and
        the product stays what it was.

    Returns
    -------
    dask array (m, n)
        In blocks as the long dimension is; one block where k is long.

    Raises
    ------
    ShapeError, DtypeError, ArgumentError
    LayoutError
        A dask array in other blocks; it says how to rechunk.

    Examples
    --------
    >>> import dask.array as da
    >>> x = da.arange(12.0, chunks=6).reshape(6, 2)
    >>> product(x, np.array([[1.0], [10.0]])).compute().ravel()
    array([ 10.,  32.,  54.,  76.,  98., 120.])
    >>> product(x.T, x).compute()
    array([[220., 250.],
           [250., 286.]])
    """
    if not isinstance(a, da.Array) and not isinstance(b, da.Array):
        raise ArgumentError("dask.product: neither a nor b is a dask array; tilewright.runtime.gemm multiplies others.")
    x, y = _operand(a, "a"), _operand(b, "b")
    _check("product", x, y)
    if x.shape[1] != y.shape[0] and not np.isnan(x.shape[1] + y.shape[0]):
        raise ShapeError(f"dask.product: a is {x.shape} but b is {y.shape}: a's columns must equal b's rows.")
    if isinstance(x, da.Array) and isinstance(y, da.Array):
        _one_block("product", x, "a", 0, "where both are dask arrays and a's columns are many")
        _one_block("product", y, "b", 1, "where both are dask arrays and b's rows are many")
        _same_blocks("product", x, "a", 1, y, "b", 0)
        return _sum(da.blockwise(_inner, "kij", x, "ik", y, "kj", **_each(x.dtype, 3), adjust_chunks={"k": 1}))
    if isinstance(x, da.Array):
        _one_block("product", x, "a", 1, "where a's rows are many")
        columns = {"new_axes": {"j": y.shape[1]}}
        b = _everywhere(_Short(np.array(y), "b"))
        return da.blockwise(_rows, "ij", x, "ik", **columns, b=b, concatenate=True, **_each(x.dtype, 2))
    _one_block("product", y, "b", 0, "where b's columns are many")
    rows = {"new_axes": {"i": x.shape[0]}}
    a = _everywhere(_Short(np.array(x), "a"))
    return da.blockwise(_columns, "ij", y, "kj", **rows, a=a, concatenate=True, **_each(x.dtype, 2))


def gram(x: Any, y: Any = None) -> Any:
    """Return ``x^H y``, with `x` for `y` where that is not given, as a dask array of one block, not computed yet.

    Each block of rows is multiplied where it lies; the sums of blocks travel, not the blocks.

    Parameters
    ----------
    x : dask array (long, m)
        In blocks of whole rows.
    y : dask array (long, n), optional
        In the same blocks of rows.

    Returns
    -------
    dask array (m, n)

    Raises
    ------
    ShapeError, DtypeError, ArgumentError
    LayoutError
        Other blocks; it says how to rechunk.

    Examples
    --------
    >>> import dask.array as da
    >>> gram(da.ones((7, 2), chunks=(3, -1))).compute()
    array([[7., 7.],
           [7., 7.]])
    """
    other = x if y is None else y
    for name, array in (("x", x), ("y", other)):
        if not isinstance(array, da.Array):
            raise ArgumentError(f"dask.gram: {name} is a {type(array).__name__}; it must be a dask array.")
        _operand(array, name, "gram")
    _check("gram", x, other, ("x", "y"))
    if x.shape[0] != other.shape[0] and not np.isnan(x.shape[0] + other.shape[0]):
        raise ShapeError(f"dask.gram: x is {x.shape} but y is {other.shape}: they must have as many rows.")
    _one_block("gram", x, "x", 1, "of a Gram matrix")
    _one_block("gram", other, "y", 1, "of a Gram matrix")
    _same_blocks("gram", x, "x", 0, other, "y", 0)
    return _sum(da.blockwise(_outer, "kij", x, "ki", other, "kj", **_each(x.dtype, 3), adjust_chunks={"k": 1}))


# ---- What workers do with a block ----


class _Short:
    """The operand that all blocks share. It travels as it is, for workers may have other instruction sets."""

    def __init__(self, array: Array, side: Literal["a", "b"]) -> None:
        self.array, self.side = array, side
        self._packed: Packed | None = None

    def __reduce__(self) -> Any:
        return _Short, (self.array, self.side)

    def packed(self) -> Packed:
        """Pack it, once in each process."""
        if self._packed is None:
            m, n = (self.array.shape[0], 1) if self.side == "a" else (1, self.array.shape[1])
            k = self.array.shape[self.side == "a"]
            self._packed = skinny_plan(m, n, k, self.array.dtype, pack=self.side).pack(self.array)
        return self._packed


@lru_cache(64)
def _plan(m: int, n: int, k: int, dtype: np.dtype[Any], pack: str, trans: str) -> Plan:
    """Return the plan of blocks of one size, whose other operand comes packed."""
    side = "b" if pack == "a" else "a"
    return skinny_plan(m, n, k, dtype, pack=pack, **{f"trans_{side}": trans})  # type: ignore[arg-type]


def _seen(block: Array) -> tuple[Array, str]:
    """Return a block as a plan takes it, and the operation that makes it what it was."""
    matrix(block, "a block")  # a mask would be lost
    if block.flags.f_contiguous and not block.flags.c_contiguous:
        return block.T, "T"
    return np.ascontiguousarray(block), "N"


def _rows(block: Array, b: _Short) -> Any:
    x, trans = _seen(block)
    k, n = b.array.shape
    return _plan(block.shape[0], n, k, block.dtype, "b", trans)(x, b.packed())


def _columns(block: Array, a: _Short) -> Any:
    x, trans = _seen(block)
    m, k = a.array.shape
    return _plan(m, block.shape[1], k, block.dtype, "a", trans)(a.packed(), x)


def _inner(a: Array, b: Array) -> Any:
    return gemm(a, b)[np.newaxis]


def _outer(x: Array, y: Array) -> Any:
    return gemm(x, y, trans_a="C")[np.newaxis]


# ---- Building the graph ----


def _each(dtype: np.dtype[Any], dimensions: int) -> dict[str, Any]:
    """Return what every use of blockwise is told."""
    return {"dtype": dtype, "meta": np.empty((0,) * dimensions, dtype), "align_arrays": False}


def _sum(parts: Any) -> Any:
    return parts.sum(axis=0, dtype=parts.dtype, split_every=_SPLIT)


def _everywhere(short: _Short) -> Any:
    """Return the operand as part of a graph: on every worker of this process's client, if it has one, sent once."""
    try:
        from distributed import default_client

        client = default_client()
    except (ImportError, ValueError):  # no distributed, no client: the graph carries it
        return dask.delayed(short, traverse=False)
    return dask.delayed(client.scatter(short, broadcast=True))


# ---- Refusing what does not fit ----


def _operand(array: Any, name: str, function: str = "product") -> Any:
    if not isinstance(array, da.Array):
        x = matrix(array, name)
        kind_of(x, name)
        array = x
    if array.ndim != 2:
        raise ShapeError(f"dask.{function}: {name} has shape {array.shape}; it must have two dimensions.")
    if array.dtype not in KINDS:
        raise DtypeError(
            f"dask.{function}: {name} has dtype {array.dtype}; it must be float32, float64, complex64 or complex128."
        )
    return array


def _check(function: str, x: Any, y: Any, names: Sequence[str] = ("a", "b")) -> None:
    if x.dtype != y.dtype:
        raise DtypeError(
            f"dask.{function}: {names[0]} is {x.dtype} but {names[1]} is {y.dtype}: they must be the same."
        )


def _one_block(function: str, array: Any, name: str, axis: int, where: str) -> None:
    blocks = array.numblocks[axis]
    if blocks != 1:
        raise LayoutError(
            f"dask.{function}: {name}'s {_AXES[axis]} are cut into {blocks} blocks, but {where} every block must hold "
            f"whole {_AXES[1 - axis]}; pass {name}.rechunk({{{axis}: -1, {1 - axis}: 'auto'}})."
        )


def _same_blocks(function: str, x: Any, first: str, axis: int, y: Any, second: str, other: int) -> None:
    if x is y:
        return
    mine, theirs = x.chunks[axis], y.chunks[other]
    for name, chunks in ((first, mine), (second, theirs)):
        if np.isnan(sum(chunks)):
            raise LayoutError(
                f"dask.{function}: the sizes of {name}'s blocks are not known; call {name}.compute_chunk_sizes() first."
            )
    if mine != theirs:
        raise LayoutError(
            f"dask.{function}: {first}'s {_AXES[axis]} are cut into blocks of {_shown(mine)} but {second}'s "
            f"{_AXES[other]} into blocks of {_shown(theirs)}: they must be the same; pass "
            f"{second}.rechunk({{{other}: {first}.chunks[{axis}]}})."
        )


def _shown(chunks: Sequence[int]) -> str:
    return str(tuple(chunks)) if len(chunks) <= 4 else f"({', '.join(map(str, chunks[:4]))}, ...)"
