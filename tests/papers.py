"""IrGEMM's table 3 (IEEE TPDS 2024): the papers' NEON tiles, {mr: largest nr} by type and mode, smaller nr too."""

from __future__ import annotations

_REAL = {4: 4, 3: 5, 2: 7, 1: 10}
_Z = {4: 4, 3: 4, 2: 7, 1: 10}
_TABLE: dict[tuple[str, str], dict[int, int]] = {
    ("s", "nn"): {16: 4, 12: 6, 8: 8, 4: 13, 3: 13, 2: 13, 1: 13},
    ("s", "nt"): {16: 4, 12: 8, 8: 8, 4: 20, 3: 24, 2: 28, 1: 32},
    ("s", "tn"): _REAL,
    ("d", "nn"): {8: 4, 4: 8, 3: 8, 2: 15, 1: 15},
    ("d", "nt"): {8: 4, 4: 8, 3: 8, 2: 20, 1: 20},
    ("d", "tn"): _REAL,
    ("c", "nn"): {8: 4, 4: 9, 3: 9, 2: 12, 1: 20},
    ("c", "nt"): {8: 4, 4: 8, 3: 8, 2: 12, 1: 20},
    ("c", "tn"): {4: 9, 3: 9, 2: 12, 1: 20},
    ("z", "nn"): _Z,
    ("z", "nt"): _Z,
    ("z", "tn"): _Z,
}
MODES = [(letter, mode) for letter in "sdcz" for mode in ("nn", "nt", "tn", "tt")]


def tiles(letter: str, mode: str) -> list[tuple[int, int]]:
    """All (mr, nr) of a cell; TT is NN with m and n exchanged."""
    table = _TABLE[letter, "nn" if mode == "tt" else mode]
    found = [(mr, nr) for mr, most in table.items() for nr in range(1, most + 1)]
    return sorted((nr, mr) for mr, nr in found) if mode == "tt" else sorted(found)
