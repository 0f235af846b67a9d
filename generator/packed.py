"""Kernels on panels, for what is packed: tall-and-skinny products and large ones.

Their tables are AutoTSMM's (arXiv 2208.08088; IrGEMM, IEEE TPDS 2024, table 2): one family for each type, since packing
removes the modes, with variants in unroll, order of loads and prefetch distance among which a machine is asked
(`runtime.tuning`). The panel of the packed operand fills vectors, whichever side of the product it stands on: C is
summed transposed where it is B. A panel is as wide as the tile, so a step's address is a constant and no register holds
a leading dimension. What is narrower than a panel, at the end of a matrix, the small family does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .dtypes import DTYPES, MODES
from .isa.base import find
from .small.tile import Tile
from .spec import Entry, Located, Reader

__all__ = ["UNROLL", "packed_entries"]

UNROLL = 4
"""k steps a turn of the loop, unless a variant says otherwise."""

_VARIANT = {
    "fetch": range(0, 16385, 64),
    "unroll": (1, 2, 4, 8),
    "interleave": ("even", "front"),
    "turned": (True, False),
    "twin": (True, False),
    "share": range(1, 17),
}
_ROW = {"isa", "types", "width", "lines", "variants"}


def packed_entries(reader: Reader) -> Iterator[Entry]:
    """Kernels that a spec of family packed asks for.

    Raises
    ------
    SpecError
        Naming file and line.
    """
    root = reader.root
    reader.keys(root, {"schema", "family", "panels"}, required={"panels"})
    if not isinstance(root["panels"], list):
        reader.fail(root, "panels", "panels must be a list of {isa, types, width, lines, variants}")
    for row in root["panels"]:
        if not isinstance(row, Located):
            reader.fail(root, "panels", f"{row!r} is no mapping with isa, types, width, lines and variants")
        reader.keys(row, {*_ROW, "pipeline"}, _ROW)
        if type(row.get("pipeline", False)) is not bool:
            reader.fail(row, "pipeline", f"pipeline must be bool, not {row['pipeline']!r}")
        if row["isa"] not in reader.isa_names:
            reader.fail(row, "isa", f"isa {row['isa']!r} is unknown; there are {', '.join(reader.isa_names)}")
        for key in ("width", "lines"):
            if type(row[key]) is not int or not 1 <= row[key] <= 64:
                reader.fail(row, key, f"{key} is {row[key]!r}; it must be a number from 1 to 64")
        for letter in row["types"]:
            if letter not in DTYPES:
                reader.fail(row, "types", f"type {letter!r} is none of {', '.join(DTYPES)}")
            for variant in _variants(reader, row):
                yield from _kernels(row, letter, variant, f"{reader.label}:{row.line}")


def _variants(reader: Reader, row: Located) -> Iterator[dict[str, Any]]:
    if not isinstance(row["variants"], list) or not all(isinstance(variant, Located) for variant in row["variants"]):
        reader.fail(
            row, "variants", "variants must be a list of {fetch, unroll, interleave, turned, twin, share, lines}"
        )
    for variant in row["variants"]:
        reader.keys(variant, {*_VARIANT, "lines"}, set())
        for key, value in variant.items():
            if key == "lines":
                two = isinstance(value, list) and len(value) == 2 and all(type(number) is int for number in value)
                if not two or not 1 <= value[0] <= value[1]:
                    reader.fail(variant, key, f"lines is {value!r}; it must be [least, most], from 1 on")
            elif value not in _VARIANT[key]:
                choice = "a multiple of 64 up to 16384" if key == "fetch" else f"one of {_VARIANT[key]}"
                reader.fail(variant, key, f"{key} is {value!r}; it must be {choice}")
        yield dict(variant)


def _kernels(row: Located, letter: str, variant: dict[str, Any], where: str) -> Iterator[Entry]:
    """One variant: all numbers of lines of the other operand that it is for, on either side (`turned`) or only as B.

    A twin has two panels of rows, whose steps are as far apart as it is told: a harness that knows of none gives it one
    matrix.
    """
    twin = variant.get("twin", False)
    turned = variant.pop("turned", not twin and not variant.get("share")) and find(row["isa"], letter).turns
    least, most = variant.pop("lines", (1, row["lines"]))
    options = {"unroll": UNROLL, "pipeline": row.get("pipeline", False), **variant}
    for lines in range(least, min(most, row["lines"]) + 1):
        for transposed in (False, True) if turned else (False,):
            m, n = (lines, row["width"]) if transposed else (row["width"] * (1 + twin), lines)
            lds = (0 if twin else m, n, 0)
            tile = Tile(MODES["nt"], m, n, transposed=transposed, lds=lds, **options)
            yield Entry(row["isa"], "packed", letter, tile, where)
