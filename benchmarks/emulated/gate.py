"""The gate: committed instruction counts of named calls; a change that makes one worse must change the file too."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from tilewright.generator.files import write_atomically

from .emulator import Case, Emulator
from .tools import version

__all__ = ["FILE", "WORSE", "cases", "compare", "run"]

FILE = Path(__file__).parent / "gate.json"
WORSE = 1.01
"""How much of the committed count is still accepted."""


def cases() -> list[Case]:
    """The named calls: main tiles and remainders of each type and mode, thin shapes, the fixed cost."""
    found = [Case("call", "s", "NN", 1, 1, 1), Case("call", "z", "NN", 1, 1, 1), Case("plan", "s", "NN", 1, 1, 1)]
    sizes = {"s": (5, 8, 13, 16, 48), "d": (5, 8, 13, 16, 48), "c": (8, 13, 24), "z": (8, 13)}
    for letter, sides in sizes.items():
        found += [Case("call", letter, mode, n, n, n) for mode in ("NN", "NT", "TN", "TT") for n in sides]
    found += [replace(case, way="fcma") for case in found if case.letter in "cz" and case.m > 1]
    return [*found, *(Case("call", letter, "NN", *shape) for letter in "sd" for shape in ((4, 64, 4), (64, 2, 16)))]


def compare(committed: dict[str, int], found: dict[str, int]) -> list[str]:
    """What is wrong, a line each: a count that is more than one per cent worse, a case that only one side has.

    Examples
    --------
    >>> compare({"call s NN 1 1 1": 100}, {"call s NN 1 1 1": 101})
    []
    >>> compare({"call s NN 1 1 1": 100}, {"call s NN 1 1 1": 102})
    ['call s NN 1 1 1: 102 instructions, 2.0 % more than the committed 100']
    """
    lines = [f"{name}: not in {FILE.name}" for name in found if name not in committed]
    lines += [f"{name}: in {FILE.name}, but no case" for name in committed if name not in found]
    for name, count in found.items():
        before = committed.get(name, count)
        if count > before * WORSE:
            lines.append(
                f"{name}: {count} instructions, {100 * (count / before - 1):.1f} % more than the committed {before}"
            )
    return lines


def run(emulator: Emulator, update: bool) -> str | int:
    """Count and compare, or write; what to exit with."""
    counts = emulator.count(cases())
    wrong = [f"{case}: {count.answer}" for case, count in counts.items() if count.answer != "ok"]
    if wrong:
        return "\n".join(wrong)
    found = {str(case): count.total for case, count in counts.items()}
    compiler = version(str(emulator.tools.cross))
    if update:
        text = json.dumps({"compiler": compiler, "instructions": found}, indent=1)
        write_atomically(FILE, text + "\n")
        print(f"{len(found)} counts written to {FILE}")
        return 0
    committed = json.loads(FILE.read_text())
    lines = compare(committed["instructions"], found)
    better = sum(found.get(name, count) < count for name, count in committed["instructions"].items())
    print(f"{len(found)} counts, {better} better than committed")
    if lines and compiler != committed["compiler"]:
        lines.append(f"(committed with {committed['compiler']}, this is {compiler})")
    return "\n".join([*lines, "see docs/neon.md: build.py bench neon --update-gate"]) if lines else 0
