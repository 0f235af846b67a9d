"""How a product runs: `explain`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from ._library import ffi, lib, raise_for, text
from .plan import Plan

__all__ = ["Blocks", "Explanation", "Tile", "explain"]

_COLUMNS, _ROWS = 64, 24  # of the picture


@dataclass(frozen=True)
class Tile:
    """A part of the result and the kernel that computes it."""

    row: int
    column: int
    rows: int
    columns: int
    kernel: str
    nanoseconds: float
    """Predicted."""


@dataclass(frozen=True)
class Blocks:
    """How a product that does not fit the caches goes through them."""

    split: str
    """The operand, "a" or "b", that is cut into chunks, one a thread at a time."""
    chunk: int
    """Rows of op(a) or columns of op(b) in a chunk."""
    kc: int
    """Steps of k in a block."""
    threads: int
    parts: int
    """Parts of k that are summed apart and added up."""
    formats: tuple[str, str]
    """How a and b lie meanwhile: "packed by plan.pack", "packed at each call", "copied" line by line, "where it is"."""
    memory: int
    """Bytes needed beside the operands."""
    kernel: str | None
    """What computes a tile of whole panels; None: several kernels do, or neither operand is in panels."""
    seconds: float | None
    """A product is thought to take; None: nobody measured (`tune`), or nothing like it."""
    packing: float | None
    """Seconds that packing the operand that may be packed is thought to take; None likewise."""
    payback: float | None
    """Products after which packing has paid; None: it never does, or nobody knows."""

    def __str__(self) -> str:
        x, y = self.formats
        pays = "never pays" if self.payback is None else f"pays after {self.payback:.1f} products"
        if self.seconds is None or self.packing is None:
            costs = "what packing saves was not measured: tune() does, for operands of 192 lines of 128 and more"
        else:
            costs = f"about {self.seconds * 1e3:.3g} ms; packing takes about {self.packing * 1e3:.3g} ms and {pays}"
        parts = f", k in {self.parts} parts" if self.parts > 1 else ""
        return "\n".join(
            (
                f"  {self.split} in chunks of {self.chunk}, k in blocks of {self.kc}{parts}; threads: {self.threads}",
                f"  a {x}, b {y}; {self.memory} bytes beside them",
                *([f"  whole panels by {self.kernel}"] if self.kernel else []),
                f"  {costs}",
            )
        )


@dataclass(frozen=True, repr=False)
class Explanation:
    """What `explain` found; ``str`` of it is for people."""

    product: str
    isa: str
    path: str
    """ "one kernel", "tiles", "walk" (more tiles than are listed beforehand) or "nothing to do"; with blocks:
    "blocked", "stream", "dot", "direct", "inner" or "packed"."""
    tiler: str
    shape: tuple[int, int]
    """Of the result."""
    tiles: tuple[Tile, ...]
    blocks: Blocks | None = None
    """Of a product that goes through blocks."""

    @property
    def nanoseconds(self) -> float:
        """Predicted time of the whole, operands in the first cache."""
        return sum(tile.nanoseconds for tile in self.tiles)

    def __str__(self) -> str:
        count = len(self.tiles)
        how = f", {count} tile{'' if count == 1 else 's'} cut by {self.tiler}, about {self.nanoseconds:.0f} ns"
        lines = [f"{self.product} on {self.isa}: {self.path}{how if count else ''}"]
        if self.blocks is not None:
            lines.append(str(self.blocks))
        kernels = Counter((tile.kernel, tile.rows, tile.columns, tile.nanoseconds) for tile in self.tiles)
        letters = {key: _letter(index) for index, key in enumerate(kernels)}
        lines += self._picture({tile: letters[_key(tile)] for tile in self.tiles})
        for (kernel, rows, columns, cost), times in kernels.items():
            letter = letters[kernel, rows, columns, cost]
            lines.append(f"  {letter}  {times:3} x {f'{rows} x {columns}':9} {kernel}, about {cost:.0f} ns each")
        return "\n".join(lines)

    __repr__ = __str__

    def _picture(self, letters: dict[Tile, str]) -> list[str]:
        """Draw the result, an element a letter where there is room; neighbours differ in case."""
        if not letters:
            return []
        across, down = (min(size, most) for size, most in zip(self.shape[::-1], (_COLUMNS, _ROWS), strict=True))
        picture = [[" "] * across for _ in range(down)]
        tops = {row: index for index, row in enumerate(sorted({tile.row for tile in letters}))}
        lefts = {column: index for index, column in enumerate(sorted({tile.column for tile in letters}))}
        rows = [index * self.shape[0] // down for index in range(down)]
        columns = [index * self.shape[1] // across for index in range(across)]
        for tile, letter in letters.items():
            drawn = letter.upper() if (tops[tile.row] + lefts[tile.column]) % 2 else letter
            for y, row in enumerate(rows):
                for x, column in enumerate(columns):
                    if 0 <= row - tile.row < tile.rows and 0 <= column - tile.column < tile.columns:
                        picture[y][x] = drawn
        return ["", *("  " + "".join(line) for line in picture), ""]


def explain(
    m: int | Plan, n: int = 0, k: int = 0, dtype: Any = None, *, trans_a: str = "N", trans_b: str = "N"
) -> Explanation:
    """Say how ``gemm`` computes a product of C-ordered arrays, or how a plan does: path, tiles, blocks, predicted time.

    Parameters
    ----------
    m : int or Plan
        A plan says the rest.
    n, k, dtype, trans_a, trans_b
        As for `gemm_plan`.

    Returns
    -------
    Explanation
        Prints as a picture of the result and a list of the kernels, or as the blocks.

    Examples
    --------
    >>> how = explain(13, 13, 13, "float32")
    >>> sum(tile.rows * tile.columns for tile in how.tiles)
    169
    >>> explain(4000, 4, 4000, "float32").blocks.split
    'a'
    """
    plan = m if type(m) is Plan else Plan(m, n, k, dtype, trans_a, trans_b, None, None, None)  # type: ignore[arg-type]
    handle = plan.handle
    count = lib.tw_gemm_plan_tiles(handle, 0, ffi.NULL)
    found = ffi.new("tw_gemm_tile[]", max(1, count))
    if count < 0 or lib.tw_gemm_plan_tiles(handle, count, found) < 0:
        raise_for(lib.TW_ERROR_MEMORY)
    # Row-major products are computed as their transpose.
    tiles = tuple(
        Tile(tile.j, tile.i, tile.n, tile.m, text(tile.kernel), tile.nanoseconds)
        for tile in (found[index] for index in range(count))
    )
    return Explanation(
        product=f"{plan.dtype.name} {plan.m} x {plan.n} x {plan.k} {plan.trans_a}{plan.trans_b}",
        isa=text(lib.tw_isa_name(lib.tw_gemm_plan_isa(handle))),
        path=text(lib.tw_gemm_plan_path(handle)),
        tiler="greedy" if text(lib.tw_gemm_plan_path(handle)) == "walk" else text(lib.tw_tiler_current()),
        shape=(plan.m, plan.n),
        tiles=tiles,
        blocks=_blocks(handle),
    )


_FORMATS = {b"g": "packed by plan.pack", b"p": "packed at each call", b"c": "copied", b"d": "where it is"}


def _blocks(handle: Any) -> Blocks | None:
    blocks = ffi.new("tw_plan_blocks *")
    lib.tw_gemm_plan_blocks(handle, blocks)
    if blocks.kc == 0:
        return None
    return Blocks(
        split=chr(blocks.split).lower(),
        chunk=blocks.chunk,
        kc=blocks.kc,
        threads=blocks.threads,
        parts=blocks.parts,
        formats=(_FORMATS[blocks.format_a], _FORMATS[blocks.format_b]),
        memory=blocks.memory,
        kernel=None if blocks.kernel == ffi.NULL else text(blocks.kernel),
        seconds=blocks.seconds if blocks.known else None,
        packing=blocks.packing if blocks.known else None,
        payback=blocks.payback if blocks.payback >= 0 else None,
    )


def _key(tile: Tile) -> tuple[str, int, int, float]:
    return tile.kernel, tile.rows, tile.columns, tile.nanoseconds


def _letter(index: int) -> str:
    return chr(ord("a") + index % 26)
