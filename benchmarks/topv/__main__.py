"""Visual-token pruning on a model trained here: ``python3 build.py bench topv``, with ``--full`` for docs/topv.md.

For every seed, without and with distractors: accuracy by question type and coverage of the digits, for every selector
of `topv` and every share of tokens kept; paired differences with bootstrap intervals; ablations of the method.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

import data
import model as models
from evaluate import (
    KEEPS,
    Asked,
    Select,
    answer,
    ask,
    by_attention,
    choose,
    conditions,
    coverage,
    foreground,
    named,
    through_prune,
)
from report import Cell, Results, document, figure, summary

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SEEDS = (1, 2, 3)
ROW_SUM: dict[str, Any] = {"beta": 0.0, "epsilon": 0.02, "reduce": "row_sum"}
SELECTORS: dict[str, Select] = {
    "topv": named("topv"),
    "topv, recovery 20 %": named("topv", 0.2),
    "topv, row sum": named("topv", **ROW_SUM),
    "topv, literal": named("literal"),
    **{name: named(name) for name in ("random", "uniform", "norm", "-norm", "v2drop", "tome", "divprune")},
}
ABLATIONS: dict[str, Select] = {
    "no feature term (alpha 0)": named("topv", alpha=0.0),
    "no spatial term (beta 0)": named("topv", beta=0.0),
    "no central term (gamma 0)": named("topv", gamma=0.0),
    "central term doubled (gamma 2)": named("topv", gamma=2.0),
    "tokens not normalised": named("topv", normalize=False),
    "squared distance": named("topv", squared=True),
    "epsilon 0.005": named("topv", epsilon=0.005),
    "epsilon 0.02": named("topv", epsilon=0.02),
    "epsilon 0.1": named("topv", epsilon=0.1),
    "Sinkhorn, 3 iterations, columns last": named("topv", mode="sinkhorn"),
    "Sinkhorn, 3 iterations, rows last": named("topv", mode="sinkhorn", last="rows"),
    "unbalanced, rho 0.1": named("topv", mode="unbalanced"),
    "targets after the whole layer": named("topv", target="output"),
    "distinctiveness-weighted row sum": named("topv", reduce="distinct"),
    "row sum, all three terms": named("topv", reduce="row_sum"),
    "row sum, no spatial term, epsilon 0.02": named("topv", **ROW_SUM),
    "the same, no central term": named("topv", **{**ROW_SUM, "gamma": 0.0}),
    "recovery, half of the budget": named("topv", 0.5),
}


def measure(seed: int, distractors: bool, scenes: int, keeps: Sequence[float], ablate: bool) -> Iterator[Cell]:
    """Yield every measurement of one checkpoint in one kind of scene."""
    model = models.load(seed)
    pictures = data.scenes("test", scenes, 500 + seed, distractors)
    asked = ask(model, pictures, 2, seed)
    where: dict[str, Any] = {"seed": seed, "distractors": distractors}

    def cell(name: str, keep: float, right: torch.Tensor, kept: torch.Tensor | None, of: Asked = asked) -> Cell:
        share = coverage(of, kept) if kept is not None else None
        return Cell(
            **where, name=name, keep=keep, right=right.view(scenes, -1).numpy(), types=asked.types, coverage=share
        )

    for name, right in conditions(model, asked):
        yield cell(name, float(name != "none"), torch.from_numpy(right), None)
    for keep in keeps:
        for name, select in {**SELECTORS, "foreground first": foreground(asked)}.items():
            image, kept = choose(asked, keep, select)
            yield cell(name, keep, answer(model, asked, image, kept), kept)
        alone, image, kept = by_attention(asked, keep)
        yield cell("fastv", keep, answer(model, alone, image, kept), kept)
    if ablate:
        for keep in (0.22, 0.11):
            for name, select in ABLATIONS.items():
                image, kept = choose(asked, keep, select)
                yield cell(f"ablation: {name}", keep, answer(model, asked, image, kept), kept)
        for layer in (0, 1, 3, 4):
            earlier = ask(model, pictures, 2, seed, layer)
            for keep in (0.22, 0.11):
                for name in ("topv", "random", "divprune"):
                    image, kept = choose(earlier, keep, SELECTORS[name])
                    yield cell(f"layer {layer}: {name}", keep, answer(model, earlier, image, kept), kept, earlier)


def agreement(seed: int, scenes: int, keep: float) -> dict[str, int]:
    """Compare answers through `topv.prune` with those that the short way gives."""
    model = models.load(seed)
    asked = ask(model, data.scenes("test", scenes, 500 + seed, True), 2, seed)
    short = answer(model, asked, *choose(asked, keep, SELECTORS["topv"]))
    slow = through_prune(model, asked, keep, "topv", scenes)
    return {"asked": slow.numel(), "agree": int((slow == short).sum())}


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="build.py bench topv", description=__doc__)
    parser.add_argument("--full", action="store_true", help="150 scenes of each kind; all of docs/topv.md")
    parser.add_argument("--quick", action="store_true", help="one seed, ten scenes, 33 and 11 %%: what a test runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--scenes", type=int, help="of each kind; 8 questions each")
    parser.add_argument("--json", type=Path, help="write all that was measured here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    scenes = options.scenes or (150 if options.full else 10 if options.quick else 60)
    seeds = options.seeds[:1] if options.quick else options.seeds
    keeps = (0.33, 0.11) if options.quick else KEEPS
    started = time.monotonic()
    cells: list[Cell] = []
    for seed in seeds:
        for distractors in (False, True):
            cells += measure(seed, distractors, scenes, keeps, options.full and seed == seeds[0])
            print(
                f"seed {seed}, distractors {distractors}: {time.monotonic() - started:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    results = Results(cells)
    print(summary(results))
    if options.full:
        print(document(results))
        figure(results, ROOT / "docs" / "topv-benchmark.png")
    if options.json:
        content: dict[str, Any] = {
            "scenes": scenes,
            "questions": scenes * 8,
            "prune": agreement(seeds[0], 2 if options.quick else 20, 0.22),
            "cells": [c.plain() for c in cells],
        }
        options.json.write_text(json.dumps(content, indent=1))
    if not options.quick:  # what it costs and saves, on a larger model without training
        sys.exit(subprocess.call([sys.executable, str(ROOT / "benchmarks" / "topv_cost.py")], cwd=ROOT))


if __name__ == "__main__":
    main()
