"""The figure of `bench neon`: instructions by those of LIBXSMM's JIT over the side of squares."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .emulator import Case, Count

__all__ = ["draw"]

MODES = ("NN", "NT", "TN", "TT")


def draw(path: Path, counts: Mapping[Case, Count], published: Mapping[str, Any]) -> None:
    """Draw a panel for each type and mode: our call and OpenBLAS, by LIBXSMM's JIT (s, d) or by OpenBLAS (c, z).

    Raises
    ------
    SystemExit
        Without matplotlib.
    """
    try:
        importlib.import_module("matplotlib").use("Agg")
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        raise SystemExit("--figure needs matplotlib: python3 build.py bench small --install-rivals") from None
    letters = [letter for letter in "sdcz" if any(case.letter == letter for case in counts)]
    drawing, panels = pyplot.subplots(
        len(letters), 4, figsize=(13, 1 + 2.4 * len(letters)), sharex=True, sharey=True, squeeze=False
    )
    for row, letter in zip(panels, letters, strict=True):
        for panel, mode in zip(row, MODES, strict=True):
            found = _ways(letter, mode, counts)
            jit = published["sizes"]["libxsmm-jit"].get(f"{letter}_{mode.lower()}")
            base = dict(enumerate(jit, 1)) if jit else found.get("openblas", {})
            for way, style in (("call", {"color": "black", "linewidth": 2}), ("openblas", {"color": "C1"})):
                points = [(n, count / base[n]) for n, count in sorted(found.get(way, {}).items()) if n in base]
                if points:
                    panel.plot(*zip(*points, strict=True), label={"call": "tilewright"}.get(way, way), **style)
            panel.axhline(1, color="C0", linewidth=1, label="LIBXSMM's JIT (c, z: OpenBLAS)")
            panel.set_title(f"{letter} {mode}", fontsize=10)
            panel.set_ylim(0, 3)
            panel.grid(alpha=0.3)
    handles, names = panels[0][0].get_legend_handles_labels()
    drawing.supxlabel("side of the square matrices")
    drawing.supylabel("instructions of a warm call, ratio")
    drawing.legend(handles, names, loc="upper center", ncols=3, frameon=False)
    drawing.tight_layout(rect=(0, 0, 1, 0.96))
    drawing.savefig(path, dpi=90)


def _ways(letter: str, mode: str, counts: Mapping[Case, Count]) -> dict[str, dict[int, int]]:
    """Instructions by way and side of the squares."""
    found: dict[str, dict[int, int]] = {}
    for case, count in counts.items():
        if (case.letter, case.mode) == (letter, mode) and case.m == case.n == case.k and count.answer == "ok":
            found.setdefault(case.way, {})[case.n] = count.total
    return found
