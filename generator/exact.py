"""Kernels of one size: a tile of the small family with k, and leading dimensions where they are given, built in.

``specs/exact.yaml`` says which ship; `runtime.specialize` makes them for its user's own shapes. A product that no one
tile covers is cut as ever: exact tiles gain nothing there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from .dtypes import DTYPES, MODES, Mode
from .isa.base import find
from .small.tile import Tile
from .spec import SPEC_FOLDER, Entry, Located, Reader

__all__ = ["MOST_STEPS", "dense_lds", "exact_entries", "exact_tile", "fewest_lanes", "tiles_of"]

MOST_STEPS = 64
"""The largest k that is unrolled: beyond it the loop's own cost is nothing, and the code would leave the cache."""

_ROW = {"isas", "types", "modes", "cubes", "sizes", "dense", "batch", "lanes", "columns", "fetch"}


def exact_tile(tile: Tile, k: int, lds: tuple[int, int, int] = (0, 0, 0), *, batch: bool = False) -> Tile:
    """Return a tile of the small family with a size built in.

    Examples
    --------
    >>> exact_tile(Tile(MODES["nn"], 4, 4), 4).k
    4
    """
    return replace(tile, k=k, lds=lds, batch=batch, pipeline=False, prefetch=False)


def fewest_lanes(isa: str, letter: str, mode: str, m: int, n: int) -> Tile | None:
    """Return the smallest tile of the shipped specs that does C[m x n], None where it takes several.

    Examples
    --------
    >>> tile = fewest_lanes("avx512", "s", "nn", 6, 6)
    >>> tile.widths, tile.nr
    ('ym', 6)
    """
    return _fewest(isa, letter, mode).get((m, n))


def tiles_of(isa: str, letter: str, mode: str) -> list[Tile]:
    """Return tiles whose size may be changed at will, largest first: those that no list of vector columns describes.

    Examples
    --------
    >>> [tile.widths for tile in tiles_of("neon", "d", "nn")][:1]
    ['']
    """
    tiles = {id(tile): tile for tile in _fewest(isa, letter, mode).values() if tile.form == "outer" and not tile.widths}
    return sorted(tiles.values(), key=lambda tile: -tile.mr * tile.nr)[:1]


@cache
def _fewest(isa: str, letter: str, mode: str) -> dict[tuple[int, int], Tile]:
    found: dict[tuple[int, int], Tile] = {}
    able = find(isa, letter)
    for entry in Reader(SPEC_FOLDER / f"{isa}.yaml").entries(letter):
        tile = able.sized(entry.tile)
        if tile.mode.name != mode or tile.ahead:
            continue
        last = able.columns(tile.vector_size, tile.widths)[-1]
        for less in range(last.span if last.masked else 1):
            size = (tile.mr, tile.nr - less) if tile.transposed else (tile.mr - less, tile.nr)
            other = found.get(size)
            if other is None or _waste(tile) < _waste(other):
                found[size] = tile
    return found


def _waste(tile: Tile) -> tuple[int, bool, bool]:
    """What makes one tile of a size worse than another: lanes, a mask, sums across lanes."""
    return tile.mr * tile.nr, tile.widths.endswith("m"), tile.form == "dot"


def dense_lds(mode: Mode, m: int, n: int, k: int) -> tuple[int, int, int]:
    """Return the leading dimensions of matrices without gaps, as stored.

    Examples
    --------
    >>> dense_lds(MODES["tn"], 2, 3, 4)
    (4, 4, 2)
    """
    return (k if mode.a_transposed else m, n if mode.b_transposed else k, m)


class exact_entries:  # noqa: N801 - a function in all but name
    """Kernels that a spec of family exact asks for.

    Raises
    ------
    SpecError
        A size is none, or no tile of that instruction set covers it.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def __iter__(self) -> Iterator[Entry]:
        root, reader = self.reader.root, self.reader
        reader.keys(root, {"schema", "family", "sizes"}, required={"sizes"})
        if not isinstance(root["sizes"], list):
            reader.fail(root, "sizes", "sizes must be a list of {isas, types, modes, cubes or sizes}")
        for row in root["sizes"]:
            if not isinstance(row, Located):
                reader.fail(root, "sizes", f"{row!r} is no mapping with isas, types, modes and cubes or sizes")
            yield from self._row(row)

    def _row(self, row: Located) -> Iterator[Entry]:
        reader = self.reader
        reader.keys(row, _ROW, required={"isas", "types", "modes"})
        if ("cubes" in row) == ("sizes" in row):
            reader.fail(row, "modes", "give one of cubes (sides) and sizes ([m, n, k] each)")
        sizes = [[side] * 3 for side in self._list(row, "cubes")] if "cubes" in row else self._list(row, "sizes")
        for size in sizes:
            if not isinstance(size, list) or len(size) != 3 or not all(type(x) is int and x > 0 for x in size):
                reader.fail(row, "sizes" if "sizes" in row else "cubes", f"{size!r} is no size: [m, n, k], 1 or more")
            if size[2] > MOST_STEPS:
                reader.fail(row, "sizes" if "sizes" in row else "cubes", f"k = {size[2]} is beyond {MOST_STEPS}")
        names = self._list(row, "isas"), self._list(row, "types"), self._list(row, "modes")
        for isa, letter, mode, (m, n, k) in itertools.product(*names, sizes):
            yield self._entry(row, isa, letter, mode, (m, n, k))

    def _list(self, row: Located, key: str) -> list[Any]:
        value = list(row[key]) if key == "types" and isinstance(row[key], str) else row[key]
        known = {"isas": self.reader.isa_names, "types": list(DTYPES), "modes": list(MODES)}.get(key)
        if not isinstance(value, list):
            self.reader.fail(row, key, f"{key} must be a list, not {value!r}")
        for item in value if known else ():
            if item not in (known or ()):
                self.reader.fail(row, key, f"{item!r} is none of {', '.join(known or ())}")
        return list(value)

    def _entry(self, row: Located, isa: str, letter: str, mode: str, size: Sequence[int]) -> Entry:
        m, n, k = size
        lds = dense_lds(MODES[mode], m, n, k) if row.get("dense") or row.get("lanes") else (0, 0, 0)
        batch = bool(row.get("batch") or row.get("lanes"))
        family, where = "batch" if batch else "exact", f"{self.reader.label}:{row.line}"
        if row.get("lanes"):
            tile = Tile(MODES[mode], m, n, form="lanes", widths=row["lanes"], k=k, lds=lds, batch=True)
            if "lanes" not in find(isa, letter).forms or not find(isa, letter).has_columns(tile.widths):
                self.reader.fail(row, "lanes", f"{isa} has no kernels of {letter} across lanes of {row['lanes']!r}")
            return Entry(isa, family, letter, tile, where)
        if "fetch" in row and "columns" not in row:
            self.reader.fail(row, "fetch", "fetch is for tiles that columns describe")
        if "columns" in row:
            return Entry(isa, family, letter, self._wide(row, isa, letter, mode, size, batch), where)
        shipped = fewest_lanes(isa, letter, mode, m, n)
        tiles = [shipped] if shipped else [replace(tile, mr=m, nr=n) for tile in tiles_of(isa, letter, mode)]
        if not tiles:
            self.reader.fail(row, "modes", f"{isa} has no tile of {letter} {mode} {m}x{n}, and a size takes one")
        return Entry(isa, family, letter, exact_tile(tiles[0], k, lds, batch=batch), where)

    def _wide(self, row: Located, isa: str, letter: str, mode: str, size: Sequence[int], batch: bool) -> Tile:
        """A tile wider than any that ships for every k."""
        m, n, k = size
        able = find(isa, letter)
        if not able.has_columns(row["columns"]):
            self.reader.fail(row, "columns", f"{isa} has no vector columns called {row['columns']!r}")
        tile = able.sized(Tile(MODES[mode], m, n, widths=row["columns"]))
        if tile.mr != m:
            self.reader.fail(row, "columns", f"{row['columns']} are {tile.mr} elements of {letter}, not {m}")
        fetch = row.get("fetch", 0)
        if type(fetch) is not int or not 0 <= fetch <= 16384 or fetch % 64:
            self.reader.fail(row, "fetch", f"fetch is {fetch!r}; it must be a multiple of 64 up to 16384")
        return replace(exact_tile(tile, k, batch=batch), fetch=fetch)
