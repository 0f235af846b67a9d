"""Plans for products with a long and a short side, and for matrices that are used again: `skinny_plan`."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import ArgumentError, shown
from .plan import Options, Plan

__all__ = ["skinny_plan"]

_PACKS = {"a": "A", "b": "B", "auto": "?", None: "N"}


def skinny_plan(
    m: int, n: int, k: int, dtype: Any, *, trans_a: str = "N", trans_b: str = "N", pack: str | None = "auto",
    reuse: int = 1, threads: int | None = None, reproducible: bool | None = None,
    lda: int | None = None, ldb: int | None = None, ldc: int | None = None,
) -> Plan:  # fmt: skip
    """Make a product ready in which one matrix is used many times, so that it is worth packing once.

    Parameters
    ----------
    m, n, k, dtype, trans_a, trans_b, lda, ldb, ldc
        As for `gemm_plan`. The leading dimension of a packed operand is not looked at.
    pack : "a", "b", "auto" or None
        The operand that will come packed. "auto": the larger one, if packing has paid within half of `reuse` products,
        as far as `tune` measured that on this machine; else none.
    reuse : int
        How many products one packed operand will serve.
    threads : int, optional
        At most so many; by default as many as `set_num_threads` allows when the plan runs.
    reproducible : bool, optional
        Every element gets the same bits whatever tile computes it, on however many threads and whatever the other rows
        and columns are: k is summed in order, in blocks of 256. By default as ``TILEWRIGHT_REPRODUCIBLE`` says. It
        costs what dot products and a k split among threads bring, most where few rows or columns meet a large matrix,
        and small products are packed. Not across instruction sets; nor, of complex numbers on ARM and by portable
        kernels, for C stored by rows and by columns.

    Returns
    -------
    Plan
        ``packed = plan.pack(x)`` packs the operand ``plan.packs``, and ``plan(packed, y, out=...)`` (or
        ``plan(x, packed)``) uses it; where ``plan.packs`` is None, `pack` returns x itself: one program serves both.

    Raises
    ------
    ArgumentError, DtypeError, IsaError

    Notes
    -----
    After AutoTSMM [1]_: packing is taken out of the product, blocks follow from cache sizes and shape.

    References
    ----------
    .. [1] "AutoTSMM: An Auto-tuning Framework for Building High-Performance Tall-and-Skinny Matrix-Matrix
       Multiplication on CPUs", arXiv:2208.08088.

    Examples
    --------
    >>> import numpy as np
    >>> plan = skinny_plan(3, 2, 2, np.float64, pack="a", reuse=100)
    >>> weights = plan.pack(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    >>> plan(weights, np.eye(2))
    array([[1., 2.],
           [3., 4.],
           [5., 6.]])
    """
    if not (pack is None or (issubclass(type(pack), str) and pack in _PACKS)):
        raise ArgumentError(f"skinny_plan: pack is {shown(pack)}; it must be 'a', 'b', 'auto' or None.")
    for name, value in (("reuse", reuse), ("threads", 1 if threads is None else threads)):
        if not issubclass(type(value), int | np.integer) or issubclass(type(value), bool) or value < 1:
            raise ArgumentError(f"skinny_plan: {name} is {shown(value)}; it must be an integer, 1 or more.")
    if threads is not None and threads > 1024:
        raise ArgumentError(f"skinny_plan: threads is {threads}; it must be 1 to 1024.")
    if reproducible is not None and type(reproducible) is not bool:
        raise ArgumentError(f"skinny_plan: reproducible is {shown(reproducible)}; it must be True, False or None.")
    options = Options(_PACKS[pack], min(int(reuse), 2**62), threads or 0, bool(reproducible))
    return Plan(m, n, k, dtype, trans_a, trans_b, lda, ldb, ldc, options)
