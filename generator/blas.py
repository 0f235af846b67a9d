"""The functions of ``libtilewright_blas.so`` as data: names, types, widths of integers; `templates/blas/` prints them.

One product under many names, since everybody who built a BLAS chose their own: CBLAS and Fortran, 32-bit and 64-bit
integers (ILP64), and the ``scipy_`` that PyPI's numpy and scipy put before theirs so that nobody else's answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from textwrap import wrap

from .dtypes import DTYPES
from .render import render

__all__ = ["ENTRIES", "FUNCTIONS", "Entry", "entries_source", "header"]

# What cblas_xgemm, cblas_xgemm_batch, ... are called here, and how each name is made: by prefix and width of integers.
_CBLAS = {
    ("", 32): ("cblas_{}",),
    ("", 64): ("cblas_{}64_", "cblas_{}_64"),
    ("scipy_", 32): ("scipy_cblas_{}",),
    ("scipy_", 64): ("scipy_cblas_{}64_",),
}
_FORTRAN = {
    ("", 32): ("{}_",),
    ("", 64): ("{}_64_", "{}_64"),
    ("scipy_", 32): ("scipy_{}_",),
    ("scipy_", 64): ("scipy_{}_64_",),
}
FUNCTIONS = {
    "gemm": _CBLAS,
    "fortran": _FORTRAN,
    "batch": _CBLAS,
    "batch_strided": _CBLAS,
    "pack_get_size": _CBLAS,
    "pack": _CBLAS,
    "compute": _CBLAS,
}
"""What there is, and what it is called."""


@dataclass(frozen=True)
class Entry:
    """One exported function.

    Parameters
    ----------
    symbol : str
        Its name.
    routine : str
        What error handlers are told: the name without decoration, as the reference library gives it.
    function : str
        A key of `FUNCTIONS`.
    letter : str
        Its type, of BLAS's s, d, c and z.
    width : int
        Bits of its integers.
    """

    symbol: str
    routine: str
    function: str
    letter: str
    width: int

    @property
    def integer(self) -> str:
        """C's type of its integers."""
        return f"int{self.width}_t"

    @property
    def real(self) -> str:
        """C's type of a real number of its type."""
        return DTYPES[self.letter].real_c

    @property
    def complex(self) -> bool:
        """Whether it is c or z."""
        return DTYPES[self.letter].complex

    @property
    def prototype(self) -> str:
        """C's declaration, without the semicolon: lines of at most 120 columns."""
        result = "size_t" if self.function == "pack_get_size" else "void"
        text = f"TW_API {result} {self.symbol}({self.parameters})"
        return "\n".join(wrap(text, 116, subsequent_indent="    ", break_long_words=False))

    @property
    def parameters(self) -> str:
        """Its parameters as C declares them."""
        return ", ".join(self._parameters())

    @property
    def arguments(self) -> str:
        """Their names."""
        return ", ".join(re.split(r"[ *]", parameter)[-1] for parameter in self._parameters())

    def _parameters(self) -> list[str]:
        i = self.integer
        element = "void" if self.complex else self.real
        matrix, result = f"const {element} *", f"{element} *"
        ops = ["CBLAS_LAYOUT layout", "CBLAS_TRANSPOSE transa", "CBLAS_TRANSPOSE transb"]
        sizes = [f"{i} m", f"{i} n", f"{i} k"]
        scalar = "const void *" if self.complex else f"{self.real} "  # complex numbers come by pointer
        if self.function == "fortran":
            number = f"const {i} *"
            return [
                *("const char *transa", "const char *transb", f"{number}m", f"{number}n", f"{number}k"),
                *(f"const {self.real} *alpha", f"{matrix}a", f"{number}lda", f"{matrix}b", f"{number}ldb"),
                *(f"const {self.real} *beta", f"{result}c", f"{number}ldc"),
            ]
        if self.function == "batch":
            numbers, op = f"const {i} *", "const CBLAS_TRANSPOSE *"
            return [
                *(ops[0], f"{op}transa", f"{op}transb", f"{numbers}m", f"{numbers}n", f"{numbers}k"),
                *(f"{matrix}alpha", f"{matrix}*a", f"{numbers}lda", f"{matrix}*b", f"{numbers}ldb"),
                *(f"{matrix}beta", f"{result}*c", f"{numbers}ldc", f"{i} groups", f"{numbers}counts"),
            ]
        if self.function == "pack_get_size":
            return ["CBLAS_IDENTIFIER identifier", *sizes]
        if self.function == "pack":
            which = [ops[0], "CBLAS_IDENTIFIER identifier", "CBLAS_TRANSPOSE trans"]
            return [*which, *sizes, f"{scalar}alpha", f"{matrix}x", f"{i} ld", f"{result}packed"]
        if self.function == "compute":
            return [
                *(ops[0], f"{i} transa", f"{i} transb", *sizes, f"{matrix}a", f"{i} lda", f"{matrix}b", f"{i} ldb"),
                *(f"{scalar}beta", f"{result}c", f"{i} ldc"),
            ]
        if self.function == "batch_strided":
            return [
                *(*ops, *sizes, f"{scalar}alpha", f"{matrix}a", f"{i} lda", f"{i} stridea", f"{matrix}b"),
                *(f"{i} ldb", f"{i} strideb", f"{scalar}beta", f"{result}c", f"{i} ldc", f"{i} stridec", f"{i} count"),
            ]
        return [
            *(*ops, *sizes, f"{scalar}alpha", f"{matrix}a", f"{i} lda", f"{matrix}b", f"{i} ldb"),
            *(f"{scalar}beta", f"{result}c", f"{i} ldc"),
        ]


def _entries() -> list[Entry]:
    entries = []
    for (function, names), letter in product(FUNCTIONS.items(), DTYPES):
        stem = f"{letter}gemm" if function in ("gemm", "fortran") else f"{letter}gemm_{function}"
        routine = f"{stem.upper()} " if function == "fortran" else f"cblas_{stem}"  # Fortran's: blanks to six letters
        for (_, width), patterns in names.items():
            entries += [Entry(pattern.format(stem), routine, function, letter, width) for pattern in patterns]
    return entries


ENTRIES = _entries()
"""All of them; in C an entry is its index here."""


def entries_source() -> str:
    """The C file of all entries: each finds its thread's last plans by its arguments, or hands over to blas.c.

    Examples
    --------
    >>> "void scipy_cblas_dgemm64_(" in entries_source()
    True
    """
    return render("blas/entries.c.j2", entries=ENTRIES)


def header() -> str:
    """tilewright_cblas.h: what C and C++ programs include."""
    declared = [entry for entry in ENTRIES if entry.symbol.startswith("cblas_") and not entry.symbol.endswith("64_")]
    functions = {name: [entry for entry in declared if entry.function == name] for name in FUNCTIONS}
    return render("blas/tilewright_cblas.h.j2", functions=functions)
