"""The kernel ABI as data: fields of ``tw_args`` and the codes of the kernel table.

`templates/tw_kernel.h.j2` prints these; the offsets are checked by the C compiler through static assertions.
"""

from __future__ import annotations

__all__ = ["ARGS", "BATCH", "DTYPE_CODES", "FAMILY_CODES", "FLAGS", "ISA_CODES", "MODE_CODES", "offset"]

ARGS: dict[str, tuple[str, int, str]] = {
    "k": ("int64_t", 8, "steps of the sum"),
    "lda": ("int64_t", 8, "bytes from one column of A as stored to the next"),
    "ldb": ("int64_t", 8, "the same for B"),
    "ldc": ("int64_t", 8, "the same for C"),
    "flags": ("uint64_t", 8, "TW_FLAG_..."),
    "mask": ("uint64_t", 8, "masked tiles: a bit for each live real lane of the last vector column"),
    "lanes": (
        "const void *",
        8,
        "masked tiles on AVX2: the same as 32 bytes of lanes, all ones where live, besides the mask",
    ),
    "far": (
        "int64_t",
        8,
        "twin kernels: how much further the second panel lies than beside the first; those that share: from A to what "
        "they ask for",
    ),
    "alpha": ("tw_scalar", 16, "read under TW_FLAG_ALPHA"),
    "beta": ("tw_scalar", 16, "read under TW_FLAG_BETA"),
    "pair": ("tw_scalar", 16, "paired complex kernels: (-1, 1), or (1, -1) when one operand of the two is conjugated"),
    "flip": (
        "tw_scalar",
        16,
        "complex: (1, -1), read under TW_FLAG_CONJ; where sums are kept as conjugates, without it",
    ),
}
"""Type, size in bytes and meaning of each field, in order."""

BATCH: dict[str, tuple[str, int, str]] = {
    "count": ("int64_t", 8, "problems, at least 1"),
    "stride_a": ("int64_t", 8, "bytes from one problem's A to the next"),
    "stride_b": ("int64_t", 8, "the same for B"),
    "stride_c": ("int64_t", 8, "the same for C"),
}
"""What kernels across a batch are told besides, behind ``tw_args``."""

FLAGS = {
    "ALPHA": (1, "P = alpha P"),
    "BETA": (2, "P = P + beta C; without it C is not read"),
    "CONJ": (4, "P = conj(P), before alpha"),
    "ADD": (8, "with TW_FLAG_BETA: beta is 1"),
}
ISA_CODES = {"scalar": 0, "neon": 1, "avx2": 2, "avx512": 3, "fcma": 4}
DTYPE_CODES = {"s": 0, "d": 1, "c": 2, "z": 3}
MODE_CODES = {"nn": 0, "nt": 1, "tn": 2, "tt": 3, "nc": 4, "cn": 5, "tc": 6}
FAMILY_CODES = {"small": 0, "packed": 1, "exact": 2, "batch": 3, "ahead": 4, "paced": 5}


def offset(field: str) -> int:
    """Bytes from the start of ``tw_args`` to a field of it, or of what follows it in a batch.

    Examples
    --------
    >>> offset("k"), offset("alpha"), offset("count")
    (0, 64, 128)
    """
    total = 0
    for name, (_, size, _) in {**ARGS, **BATCH}.items():
        if name == field:
            return total
        total += size
    raise KeyError(field)
