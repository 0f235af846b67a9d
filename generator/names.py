"""The grammar of kernel names: one place that writes and reads them.

    gemm_s_nn_16x4__neon            op, type, mode, rows x columns of C, ISA
    gemm_s_nn_20x12_zxm__avx512     ... with vector columns: 512 (z), 256 (y), 128 (x) bits, the last masked (m)
    gemm_d_nt_8x4__neon_prf         ... with features of this variant
    gemm_s_nt_48x8_zzz__avx512_packed_fetch16384    ... on panels, asked for so many bytes ahead
    gemm_s_nn_8x6k6_ym__avx512      exact size: 6 k steps, no others
    gemm_s_nn_8x6k6_ym_ld6_6_6__avx512_batch    ... and leading dimensions (0: any); across a batch

The same word is the C symbol (with "tw_" before it), the file's stem, the key in the manifest, what a trace prints and
what a benchmark reports.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .dtypes import DTYPES, MODES

__all__ = ["FEATURES", "KernelName", "KernelNameError", "parse"]

FEATURES = {
    "dot": "by dot products, where an outer product of that size may stand beside it",
    "paired": "real and imaginary parts of the scalar operand multiply complex columns as they lie",
    "prf": "prefetches C before the k loop",
    "ahead": "asks within the k loop for the lines that the next tile reads",
    "paced": "... and reads A's vectors anew for every multiply-add, so that a core does not run far ahead",
    "batch": "a whole batch of problems in one call",
    "lanes": "the same, a problem a lane",
    "packed": "on panels: leading dimensions are the tile's own",
    "turned": "on panels: C is summed transposed",
    "fetch": "asks for the vector operand that many bytes before its turn",
    "twin": "on two panels, which come from two places at once",
    "share": "asks for other memory, that part of what it reads: the next panels, a tile a share",
    "steps": "that many k steps a turn of the loop, where the family has four",
    "front": "loads as early as they may stand",
}
"""What a feature means; a name may give it a number (``fetch16384``)."""

_PATTERN = re.compile(
    r"(?P<op>gemm)_(?P<dtype>[a-z])_(?P<mode>[a-z]{2})_(?P<mr>[1-9]\d*)x(?P<nr>[1-9]\d*)"
    r"(?:k(?P<k>[1-9]\d*))?(?:_(?P<widths>[zyx]+m?))?(?:_ld(?P<lds>\d+_\d+_\d+))?__(?P<isa>[a-z]+\d*)(?P<features>(?:_[a-z]+\d*)*)"
)


class KernelNameError(ValueError):
    """A word that is no kernel's name."""


@dataclass(frozen=True, slots=True)
class KernelName:
    """The parts of a kernel's name.

    Examples
    --------
    >>> str(KernelName("gemm", "s", "nn", 16, 4, "", "neon"))
    'gemm_s_nn_16x4__neon'
    >>> parse("gemm_s_nn_20x12_zxm__avx512").widths
    'zxm'
    """

    op: str
    dtype: str
    mode: str
    mr: int
    nr: int
    widths: str
    isa: str
    features: tuple[str, ...] = ()
    k: int = 0
    lds: tuple[int, int, int] = (0, 0, 0)

    def __str__(self) -> str:
        widths = f"_{self.widths}" if self.widths else ""
        features = "".join(f"_{feature}" for feature in self.features)
        k = f"k{self.k}" if self.k else ""
        lds = "_ld{}_{}_{}".format(*self.lds) if any(self.lds) else ""
        return f"{self.op}_{self.dtype}_{self.mode}_{self.mr}x{self.nr}{k}{widths}{lds}__{self.isa}{features}"

    @property
    def symbol(self) -> str:
        """The C function."""
        return f"tw_{self}"


def parse(name: str) -> KernelName:
    """Read a name.

    Raises
    ------
    KernelNameError
        When `name` does not follow the grammar, saying which part.

    Examples
    --------
    >>> parse("gemm_q_nn_4x4__neon")
    Traceback (most recent call last):
      ...
    generator.names.KernelNameError: gemm_q_nn_4x4__neon: type 'q' is none of s, d, c, z
    """
    match = _PATTERN.fullmatch(name)
    if match is None:
        raise KernelNameError(f"{name}: not a kernel name; one looks like gemm_s_nn_16x4__neon")
    if match["dtype"] not in DTYPES:
        raise KernelNameError(f"{name}: type {match['dtype']!r} is none of {', '.join(DTYPES)}")
    if match["mode"] not in MODES:
        raise KernelNameError(f"{name}: mode {match['mode']!r} is none of {', '.join(MODES)}")
    features = tuple(match["features"].split("_")[1:])
    unknown = [feature for feature in features if feature.rstrip("0123456789") not in FEATURES]
    if unknown:
        raise KernelNameError(f"{name}: feature {unknown[0]!r} is none of {', '.join(FEATURES)}")
    return KernelName(
        match["op"],
        match["dtype"],
        match["mode"],
        int(match["mr"]),
        int(match["nr"]),
        match["widths"] or "",
        match["isa"],
        features,
        int(match["k"] or 0),
        _three(match["lds"]),
    )


def _three(text: str | None) -> tuple[int, int, int]:
    first, second, third = map(int, (text or "0_0_0").split("_"))
    return first, second, third
