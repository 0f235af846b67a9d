"""Matrix products as data: operands in memory as the benchmarks lay them, the exact result's bound, and the check."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
DTYPES: dict[str, type[np.generic]] = {"s": np.float32, "d": np.float64, "c": np.complex64, "z": np.complex128}
MODES = ("NN", "NT", "TN", "TT")  # of A and B, row-major
CLASSES = ("1-8", "9-16", "17-32", "33-80")
SQUARES = (
    *range(1, 17),
    17,
    19,
    20,
    21,
    23,
    24,
    26,
    28,
    31,
    32,
    33,
    37,
    40,
    44,
    47,
    48,
    52,
    56,
    60,
    63,
    64,
    65,
    72,
    79,
    80,
)


class Shape(NamedTuple):
    """C is m x n, summed over k."""

    m: int
    n: int
    k: int

    def __str__(self) -> str:
        return f"{self.m}x{self.n}x{self.k}"

    @property
    def size(self) -> float:
        """The side of the cube of as many multiplications."""
        return float((self.m * self.n * self.k) ** (1 / 3))

    @property
    def size_class(self) -> str:
        """The column of the goal table.

        Examples
        --------
        >>> [Shape(n, n, n).size_class for n in (1, 8, 9, 80)], Shape(100, 2, 16).size_class
        (['1-8', '1-8', '9-16', '33-80'], '9-16')
        """
        return next(
            (name for name, top in zip(CLASSES, (8, 16, 32), strict=False) if self.size < top + 0.5), CLASSES[-1]
        )

    @property
    def kind(self) -> str:
        """The kind: square, thin (m or n in 1-3), short (k in 1-3) or rectangular."""
        if self.m == self.n == self.k:
            return "square"
        if min(self.m, self.n) <= 3:
            return "thin"
        return "short" if self.k <= 3 else "rectangular"


def shapes_beside_squares(seed: int = 20261123) -> list[Shape]:
    """Return the fixed list of 48 shapes that are not square: in every class four of each kind."""
    draw = random.Random(seed)
    shapes: list[Shape] = []
    for low, high in ((2.5, 8), (8.6, 16), (16.6, 32), (32.6, 80)):
        for kind in ("rectangular", "thin", "short"):
            wanted: list[Shape] = []
            while len(wanted) < 4:
                sizes = [round(2 ** draw.uniform(0 if kind != "rectangular" else 2, 7.9)) for _ in range(3)]
                if kind == "thin":
                    sizes[draw.randrange(2)] = draw.randint(1, 3)
                if kind == "short":
                    sizes[2] = draw.randint(1, 3)
                shape = Shape(*sizes)
                if shape.kind == kind and low <= shape.size <= high and shape not in wanted:
                    wanted.append(shape)
            shapes += wanted
    return shapes


@dataclass
class Problem:
    """One product, or `count` of them behind one another, with its operands in memory.

    Everything is row-major without gaps; each operand begins at a multiple of 64 bytes, one behind the other.
    """

    dtype: str
    mode: str
    shape: Shape
    count: int = 1

    def __post_init__(self) -> None:
        m, n, k = self.shape
        rows_a, rows_b = ((m, k), (k, m))[self.mode[0] == "T"], ((k, n), (n, k))[self.mode[1] == "T"]
        generator = np.random.default_rng(m * 10000 + n * 100 + k)
        sizes = [self.count * rows * columns for rows, columns in (rows_a, rows_b, (m, n))]
        item = np.dtype(DTYPES[self.dtype]).itemsize
        starts = [0]
        for size in sizes:
            starts.append(-(-(starts[-1] + size * item) // 64) * 64)
        memory = np.zeros(starts[-1] + 64, np.uint8)
        first = -memory.ctypes.data % 64
        arrays = [
            memory[first + start : first + start + size * item].view(DTYPES[self.dtype])
            for start, size in zip(starts, sizes, strict=False)
        ]
        lead = [self.count] if self.count > 1 else []
        self.a, self.b = arrays[0].reshape(*lead, *rows_a), arrays[1].reshape(*lead, *rows_b)
        self.c = arrays[2].reshape(*lead, m, n)
        for array in arrays[:2]:
            reals = array.view(np.float32 if self.dtype in "sc" else np.float64)
            reals[:] = generator.random(len(reals), reals.dtype) * 2 - 1
        self.lda, self.ldb, self.ldc = rows_a[1], rows_b[1], n
        self._reference: tuple[Array, Array] | None = None

    @property
    def flops(self) -> int:
        """Real operations of one product."""
        return (8 if self.dtype in "cz" else 2) * self.shape.m * self.shape.n * self.shape.k

    def operands(self) -> tuple[Array, Array]:
        """Return op(A) and op(B)."""
        return (
            self.a if self.mode[0] == "N" else self.a.swapaxes(-1, -2),
            self.b if self.mode[1] == "N" else self.b.swapaxes(-1, -2),
        )

    def excess(self) -> float:
        """Return the largest error in C over its bound c (k + 2) u |A| |B|, c = 1 or 2 sqrt 2; NaN if C holds any."""
        a, b = self.operands()
        if self._reference is None:
            wide = {"s": np.float64, "d": np.longdouble, "c": np.complex128, "z": np.clongdouble}[self.dtype]
            exact = a.astype(wide) @ b.astype(wide)
            factor = (2 * np.sqrt(2) if self.dtype in "cz" else 1) * (self.shape.k + 2)
            unit = 2.0 ** (-24 if self.dtype in "sc" else -53)
            self._reference = exact, factor * unit * (np.abs(a).astype(float) @ np.abs(b).astype(float))
        exact, bound = self._reference
        return float(np.max(np.abs(exact - self.c) / bound))
