"""What was measured, as tables and a figure."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model import ASK

RIVALS = ("random", "uniform", "norm", "-norm", "fastv", "divprune")
SCENES = {False: "digits alone", True: "digits and distractors"}


@dataclass(frozen=True)
class Cell:
    """One selector at one share of tokens, for one seed and kind of scene.

    Attributes
    ----------
    right : bool (scenes, questions)
    types : int64 (questions,)
        Index into `model.ASK`.
    coverage : float64 (scenes,) or None
        Share of the digits' patches that were kept; None where each question has its own tokens.
    """

    seed: int
    distractors: bool
    name: str
    keep: float
    right: npt.NDArray[np.bool_]
    types: npt.NDArray[np.int64]
    coverage: npt.NDArray[np.float64] | None

    def plain(self) -> dict[str, Any]:
        """Return it for JSON, averaged over scenes."""
        return {
            "seed": self.seed,
            "distractors": self.distractors,
            "name": self.name,
            "keep": self.keep,
            "accuracy": round(float(self.right.mean()), 4),
            "by type": dict(zip(ASK, [round(share, 4) for share in self.by_type()], strict=True)),
            "coverage": None if self.coverage is None else round(float(self.coverage.mean()), 4),
        }

    def by_type(self) -> list[float]:
        """Return the accuracy of each question type."""
        return [float(self.right[:, self.types == kind].mean()) for kind in range(len(ASK))]

    def of_scenes(self) -> npt.NDArray[np.float64]:
        """Return each scene's accuracy: what a bootstrap draws from."""
        return self.right.mean(1, dtype=np.float64)


@dataclass
class Results:
    """All cells, found by what they are."""

    cells: Sequence[Cell]
    found: dict[tuple[int, bool, str, float], Cell] = field(init=False)

    def __post_init__(self) -> None:
        self.found = {(c.seed, c.distractors, c.name, c.keep): c for c in self.cells}
        self.seeds = sorted({c.seed for c in self.cells})
        self.names = list(dict.fromkeys(c.name for c in self.cells))
        self.keeps = sorted({c.keep for c in self.cells if 0 < c.keep < 1}, reverse=True)

    def of(self, distractors: bool, name: str, keep: float) -> list[Cell]:
        """Return the cells of the seeds for which it was measured: ablations are of the first seed."""
        return [c for c in self.cells if (c.distractors, c.name, c.keep) == (distractors, name, keep)]

    def mean(self, distractors: bool, name: str, keep: float) -> float:
        """Return the accuracy, mean over seeds."""
        return float(np.mean([cell.right.mean() for cell in self.of(distractors, name, keep)]))

    def types(self, distractors: bool, name: str, keep: float) -> list[float]:
        """Return the accuracy of each question type, mean over seeds."""
        by_type = np.mean([cell.by_type() for cell in self.of(distractors, name, keep)], 0)
        return [float(share) for share in by_type]

    def covered(self, distractors: bool, name: str, keep: float) -> str:
        """Return the digits' coverage in percent, mean over seeds."""
        shares = [cell.coverage for cell in self.of(distractors, name, keep)]
        return "-" if any(share is None for share in shares) else f"{100 * np.mean(np.stack(shares)):.0f}"  # type: ignore[arg-type]

    def against(self, seed: int, distractors: bool, rival: str, keep: float) -> tuple[float, float, float]:
        """Return TopV's accuracy minus a rival's, paired by scene, and the 95 % bootstrap interval."""
        ours, theirs = (self.found[seed, distractors, name, keep].of_scenes() for name in ("topv", rival))
        return bounds(ours - theirs)


def bounds(difference: npt.NDArray[np.float64], draws: int = 2000) -> tuple[float, float, float]:
    """Return the mean of paired differences, one a scene, and its 95 % bootstrap interval over scenes."""
    at = np.random.default_rng(0).integers(0, len(difference), (draws, len(difference)))
    low, high = np.percentile(difference[at].mean(1), [2.5, 97.5])
    return float(difference.mean()), float(low), float(high)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def percent(share: float) -> str:
    """Return 0.915 as 91.5."""
    return f"{100 * share:.1f}"


def selectors(results: Results) -> list[str]:
    """Return the names that were measured at every share of tokens."""
    special = ("full", "shuffled", "none")
    return [name for name in results.names if name not in special and ":" not in name]


def accuracy(results: Results, distractors: bool) -> str:
    """Return accuracy and coverage, mean over seeds, of every selector."""
    head = [
        "",
        *(f"{100 * keep:.0f} %" for keep in results.keeps),
        "coverage at " + " / ".join(f"{100 * keep:.0f}" for keep in results.keeps[-3:]) + " %",
    ]
    rows = []
    for name, keep in (("full", 1.0), ("shuffled", 1.0), ("none", 0.0)):
        rows.append([name, percent(results.mean(distractors, name, keep)), *[""] * len(results.keeps)])
    for name in selectors(results):
        shares = [percent(results.mean(distractors, name, keep)) for keep in results.keeps]
        covered = " / ".join(results.covered(distractors, name, keep) for keep in results.keeps[-3:])
        rows.append([name, *shares, covered])
    return table(head, rows)


def by_type(results: Results, distractors: bool) -> str:
    """Return accuracy by question type, mean over seeds: at/where/colour/exists."""

    def cell(name: str, keep: float) -> str:
        return "/".join(f"{100 * share:.0f}" for share in results.types(distractors, name, keep))

    rows = [[name, cell(name, keep), *[""] * (len(results.keeps) - 1)] for name, keep in CONDITIONS]
    rows += [[name, *(cell(name, keep) for keep in results.keeps)] for name in selectors(results)]
    return table(["", *(f"{100 * keep:.0f} %" for keep in results.keeps)], rows)


CONDITIONS = (("full", 1.0), ("shuffled", 1.0), ("none", 0.0))


def differences(results: Results) -> str:
    """Return TopV minus each rival, by seed, with intervals."""
    rows = []
    for distractors in SCENES:
        for keep in results.keeps[-3:]:
            for seed in results.seeds:
                row = [f"{SCENES[distractors]}, {100 * keep:.0f} %, seed {seed}"]
                for rival in RIVALS:
                    mean, low, high = (100 * x for x in results.against(seed, distractors, rival, keep))
                    mark = "" if low > 0 else " *"
                    row.append(f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]{mark}")
                rows.append(row)
    return table(["TopV minus", *RIVALS], rows)


def ablations(results: Results) -> str:
    """Return the ablations: the method with one thing changed, for the first seed."""
    first = Results([cell for cell in results.cells if cell.seed == results.seeds[0]])
    columns = [(distractors, keep) for distractors in SCENES for keep in results.keeps[-2:]]
    head = ["", *(f"{SCENES[distractors]}, {100 * keep:.0f} %" for distractors, keep in columns)]
    changed = [name for name in results.names if ":" in name]
    rows = []
    for name in ["topv", *changed]:
        shares = [
            f"{percent(first.mean(distractors, name, keep))} ({first.covered(distractors, name, keep)})"
            for distractors, keep in columns
        ]
        rows.append([name.removeprefix("ablation: "), *shares])
    return table(head, rows)


def summary(results: Results) -> str:
    """Return what a person wants to see first."""
    parts = []
    for distractors, title in SCENES.items():
        parts += [
            f"Accuracy in percent, {title}, mean of {len(results.seeds)} seeds",
            accuracy(results, distractors),
            "",
        ]
    return "\n".join(parts)


def document(results: Results) -> str:
    """Return the tables of docs/topv.md."""
    parts = []
    for distractors, title in SCENES.items():
        parts += [f"**{title}, by question type: at / where / colour / exists**", "", by_type(results, distractors), ""]
    parts += [
        "**TopV minus rivals, points, with 95 % intervals; * includes zero or less**",
        "",
        differences(results),
        "",
    ]
    parts += [f"**Ablations, seed {results.seeds[0]}: accuracy (coverage)**", "", ablations(results), ""]
    return "\n".join(parts)


def figure(results: Results, path: Path) -> None:
    """Draw accuracy over the share of tokens kept."""
    importlib.import_module("matplotlib").use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    colours = {"topv": "#c1272d", "random": "#888888", "uniform": "#444444", "norm": "#b8860b", "-norm": "#8f6fc0",
               "fastv": "#2a7f3f", "divprune": "#1f6fb4", "v2drop": "#d2691e", "tome": "#e377c2"}  # fmt: skip
    drawing, axes = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True)
    for axis, (distractors, title) in zip(axes, SCENES.items(), strict=True):
        for name, colour in colours.items():
            shares = [100 * results.mean(distractors, name, keep) for keep in results.keeps]
            width = 2.4 if name == "topv" else 1.2
            axis.plot([100 * keep for keep in results.keeps], shares, "o-", ms=3, lw=width, color=colour, label=name)
        for name, keep in CONDITIONS:
            axis.axhline(100 * results.mean(distractors, name, keep), ls=":", lw=1, color="black")
            axis.annotate(name, (76, 100 * results.mean(distractors, name, keep)), fontsize=7, va="bottom")
        axis.set(title=title, xlabel="visual tokens kept behind layer 2, %", xlim=(80, 8))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(f"accuracy, %, mean of {len(results.seeds)} seeds")
    axes[1].legend(fontsize=7, ncols=2)
    drawing.tight_layout()
    drawing.savefig(path, dpi=110)
