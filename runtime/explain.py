"""How a product runs: `explain`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from ._library import ffi, lib, raise_for, text
from .plan import Plan

__all__ = ["Explanation", "Tile", "explain"]

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


@dataclass(frozen=True, repr=False)
class Explanation:
    """What `explain` found; ``str`` of it is for people."""

    product: str
    isa: str
    path: str
    """ "one kernel", "tiles", "walk" (more tiles than are listed beforehand) or "nothing to do"."""
    tiler: str
    shape: tuple[int, int]
    """Of the result."""
    tiles: tuple[Tile, ...]

    @property
    def nanoseconds(self) -> float:
        """Predicted time of the whole, operands in the first cache."""
        return sum(tile.nanoseconds for tile in self.tiles)

    def __str__(self) -> str:
        count = len(self.tiles)
        how = f", {count} tile{'' if count == 1 else 's'} cut by {self.tiler}, about {self.nanoseconds:.0f} ns"
        lines = [f"{self.product} on {self.isa}: {self.path}{how if count else ''}"]
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


def explain(m: int, n: int, k: int, dtype: Any, *, trans_a: str = "N", trans_b: str = "N") -> Explanation:
    """Say how ``gemm`` computes a product of C-ordered arrays: path, tiles and kernels, and the predicted time.

    Parameters
    ----------
    m, n, k, dtype, trans_a, trans_b
        As for `gemm_plan`.

    Returns
    -------
    Explanation
        Prints as a picture of the result and a list of the kernels.

    Examples
    --------
    >>> how = explain(13, 13, 13, "float32")
    >>> sum(tile.rows * tile.columns for tile in how.tiles)
    169
    """
    plan = Plan(m, n, k, dtype, trans_a, trans_b, None, None, None)
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
        product=f"{plan.dtype.name} {m} x {n} x {k} {trans_a}{trans_b}",
        isa=text(lib.tw_isa_name(lib.tw_gemm_plan_isa(handle))),
        path=text(lib.tw_gemm_plan_path(handle)),
        tiler="greedy" if text(lib.tw_gemm_plan_path(handle)) == "walk" else text(lib.tw_tiler_current()),
        shape=(m, n),
        tiles=tiles,
    )


def _key(tile: Tile) -> tuple[str, int, int, float]:
    return tile.kernel, tile.rows, tile.columns, tile.nanoseconds


def _letter(index: int) -> str:
    return chr(ord("a") + index % 26)
