"""The data of the tests: small integers, normal numbers, denormals, one NaN; and the settings a kernel must obey."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cases import AT_END, DTYPES, SPARSE, Case
from .worker import Kernel

Array = NDArray[Any]

# None, every remainder of the unrolls in use (2, 4, 8) after none, one and two turns of the loop, and some more turns.
DEPTHS = (*range(18), 23, 32, 33)

Variant = tuple[complex | None, complex | None, bool, bool]
PLAIN: Variant = (None, None, False, False)  # C = op(A) op(B)
OLD_C: Variant = (None, 1, False, False)  # C = op(A) op(B) + C

_rng = np.random.default_rng(20240229)
# Small and never zero, so that every sum of a case is exact in float32 and a NaN or Inf meets no 0.
_INTEGERS = _rng.choice(np.array([*range(-8, 0), *range(1, 9)], np.float64), 1 << 16)
_NORMALS = _rng.standard_normal(1 << 16)


def _take(pool: Array, start: int, rows: int, cols: int, letter: str) -> Array:
    """A rows x cols matrix of a type from the numbers of a pool at `start`, stored column after column."""
    dtype = DTYPES[letter]
    count = rows * cols * (2 if letter in "cz" else 1)
    start %= len(pool) - count
    real = np.float32 if letter in "sc" else np.float64
    flat: Array = pool[start : start + count].astype(real).view(dtype)
    stored: Array = flat.reshape(cols, rows).T
    return stored


def variants(kernel: Kernel) -> list[Variant]:
    """Every combination of (alpha, beta, conj, swap) the kernel must obey, with integer scalars."""
    cx = kernel.dtype in "cz"
    alphas = (None, 2 - 3j) if cx else (None, -2)
    betas = (None, 1, -1 + 2j) if cx else (None, 1, 3)
    return list(product(alphas, betas, (False, True) if cx else (False,), (False, True) if kernel.paired else (False,)))


def problem(
    kernel: Kernel,
    size: tuple[int, int],
    k: int,
    variant: Variant = PLAIN,
    pool: Array = _INTEGERS,
    seed: int = 0,
    **settings: Any,
) -> Case:
    """A case with data that the arguments determine; C holds NaN when beta says that nobody reads it.

    Panels have no gaps between their steps, whatever `settings` say.
    """
    if kernel.on_panels:
        pads, places = settings.get("pads", (0, 0, 0)), settings.get("place", (AT_END,) * 3)
        settings["pads"] = (0, 0, pads[2])
        settings["place"] = (*(AT_END if place == SPARSE else place for place in places[:2]), places[2])
    m, n = size
    a_shape = (m, k) if kernel.mode[0] == "n" else (k, m)
    b_shape = (k, n) if kernel.mode[1] == "n" else (n, k)
    alpha, beta, conj, swap = variant
    start = ((seed * 131 + m) * 137 + n) * 139 + k
    a, b = (_take(pool, start + skip, *shape, kernel.dtype) for skip, shape in ((0, a_shape), (10007, b_shape)))
    if beta is None:
        c = np.empty((m, n), DTYPES[kernel.dtype])
        c.fill(np.nan)
    else:
        c = _take(pool, start + 20011, m, n, kernel.dtype)
    return Case(kernel, m, n, k, a, b, c, alpha, beta, conj, swap, **settings)


def normal_problem(kernel: Kernel, size: tuple[int, int], k: int, variant: Variant, **settings: Any) -> Case:
    """Normally distributed data, for the rounding bound."""
    return problem(kernel, size, k, variant, _NORMALS, exact=False, **settings)


def denormal_problem(kernel: Kernel, size: tuple[int, int], k: int, variant: Variant) -> Case:
    """A and C are integers times the smallest denormal, B and the scalars integers: every result is exact."""
    case = problem(kernel, size, k, variant)
    tiny = np.finfo(case.a.dtype).smallest_subnormal
    case.a[...] *= tiny
    if variant[1] is not None:
        case.c[...] *= tiny
    return case


def poisoned_problems(kernel: Kernel, size: tuple[int, int], k: int) -> Iterator[Case]:
    """One NaN or Inf: in every row of op(A), every column of op(B), some places of C. The rest of C must stay exact."""
    m, n = size
    places = (
        [("a", i, i % k) for i in range(m)]
        + [("b", j % k, j) for j in range(n)]
        + [("c", i, i % n) for i in range(0, m, 3)]
    )
    for (which, i, j), poison in zip(places, cycle((np.nan, np.inf, -np.inf)), strict=False):
        case = problem(kernel, size, k, OLD_C if which == "c" else PLAIN)
        stored: Array = getattr(case, which)
        transposed = which != "c" and kernel.mode["ab".index(which)] != "n"
        stored[(j, i) if transposed else (i, j)] = poison
        yield case
