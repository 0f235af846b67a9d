"""Linear layers whose weights come from memory, beside torch, torch.compile and onnxruntime: ``build.py bench linear``.

y = x W^T in float32 for 1 to 576 tokens, one and two threads, each in a process of its own. A stack of equal layers,
larger than the caches, reads the same tokens (`harness/stacks.py`); its time is divided by their number. All ways take
turns in one process, the least of the rounds counts, and every element of every output is held against float64. The
floor of a layer is the larger of the time that its weight and tokens take to be read at the measured bandwidth, and of
its arithmetic at the measured peak.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness import THREADS, processes, rivals, stacks, timing  # first: sets every library's threads
from harness.report import load_pyplot, machine, table, write_json

import numpy as np  # isort: skip
import torch  # isort: skip

SHAPES = ("4096x4096", "11008x4096", "5632x2048", "1024x4096", "3072x768")  # outputs x inputs; the first is the goals'
TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 576)
FEWER = (1, 4, 16, 64, 256)  # for the layers behind the first: torch compiles for each number
MAIN = SHAPES[0]
GOALS = ((1, 1, 1.3), (2, 8, 3.0), (16, 64, 2.0), (128, 576, 1.4))  # tokens from, to; times as fast as torch eager
OURS = "tilewright"


@dataclass
class Cell:
    """One layer for some tokens, and what each way takes."""

    shape: str
    tokens: int
    threads: int
    layers: int
    ms: dict[str, float]
    floor: float
    """Milliseconds."""
    bound: str
    """What the floor is: "peak" or "memory"."""
    wrong: list[str] = field(default_factory=list)

    def ratio(self, name: str) -> float:
        """What a way takes over what ours does; NaN if either is not there."""
        return self.ms.get(name, float("nan")) / self.ms.get(OURS, float("nan"))

    @property
    def best(self) -> tuple[float, str]:
        """The least of torch.compile's and onnxruntime's milliseconds, and whose."""
        others = ("compile", "max-autotune", "onnxruntime")
        return min(((self.ms[name], name) for name in others if name in self.ms), default=(float("nan"), "-"))

    @property
    def percent(self) -> float:
        """The floor in per cent of what ours takes."""
        return 100 * self.floor / self.ms.get(OURS, float("nan"))

    def __str__(self) -> str:
        return f"{self.shape}, {self.tokens} tokens"


def main() -> None:
    """Measure, print, write."""
    options = read()
    if options.child:
        processes.answer(options.child, measure(options))
        return
    if options.from_json:
        parts = [json.loads(Path(path).read_text()) for path in options.from_json]
    else:
        if options.install_rivals:
            rivals.install()
        parts = [processes.run({"BENCH_THREADS": str(threads)}) for threads in options.threads]
    data = merged(parts)
    if options.json:
        write_json(options.json, data)
    cells = [Cell(**cell) for cell in data["cells"]]
    show_cells(cells)
    show_goals(cells)
    if options.figure:
        draw(options.figure, cells)
    if OURS in data["wrong"]:
        raise SystemExit("our own product is wrong")


def read() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="build.py bench linear", description=str(__doc__).partition("\n")[0])
    add = parser.add_argument
    add("--shapes", nargs="+", default=list(SHAPES), metavar="OUTxIN", help=f"layers (default: {' '.join(SHAPES)})")
    words = f"numbers of tokens (default: {' '.join(map(str, TOKENS))}; every second for the layers behind the first)"
    add("--tokens", nargs="+", type=int, help=words)
    add("--threads", nargs="+", type=int, default=[1, 2], help="numbers of threads (default: 1 2)")
    add("--ways", nargs="+", metavar="NAME", choices=list(stacks.WAYS), help="only these of " + ", ".join(stacks.WAYS))
    add("--rounds", type=int, default=7, help="turns of each way at each product (default 7)")
    add("--quick", action="store_true", help="one small layer, two numbers of tokens, no torch.compile")
    add("--install-rivals", action="store_true", help="install pyproject's extra `bench` first")
    add("--core", type=int, help="the core to run on, with one thread (default: the least disturbed)")
    add("--json", metavar="FILE", help="write everything measured")
    add("--figure", metavar="FILE", help="draw per cent of the floor (needs matplotlib)")
    add("--from-json", metavar="FILE", nargs="+", help="print what earlier runs wrote in place of measuring")
    add("--child", metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    for shape in options.shapes:
        if shape.count("x") != 1 or not all(side.isdigit() and int(side) > 0 for side in shape.split("x")):
            parser.error(f"--shapes {shape}: OUTxIN is wanted, as in {MAIN}")
    if options.quick:
        options.shapes, options.tokens, options.rounds = ["256x384"], [1, 5], 1
        options.ways = options.ways or ["torch", "onnxruntime", "product", OURS]
    options.ways = options.ways or list(stacks.WAYS)
    return options


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Check and time everything with this process's number of threads."""
    torch.set_grad_enabled(False)
    torch.set_num_threads(THREADS)
    cores = [timing.pin(options.core)] if THREADS == 1 else timing.spread(THREADS)
    timer, about = timing.Timer(), machine(cores[0])
    beyond = 1 << 20 if options.quick else stacks.BEYOND
    room = np.ones(beyond // 4, np.float32)
    bandwidth = timer.bandwidth(room.ctypes.data, room.nbytes, THREADS, 12)  # bytes a nanosecond
    peak = THREADS * timer.peak("s", 300)
    del room
    versions = stacks.versions()
    print(
        f"{about['cpu']}, {THREADS} thread(s) on cores {cores} of {about['cores']}, load {about['load']:.1f}; "
        f"{bandwidth:.1f} GB/s, {peak:.0f} GFLOP/s; {', '.join(map(' '.join, versions.items()))}",
        flush=True,
    )
    cells: list[Cell] = []
    absent: dict[str, str] = {}
    started = time.monotonic()
    for shape in options.shapes:
        outputs, inputs = map(int, shape.split("x"))
        stack = stacks.make(outputs, inputs, beyond)
        counts = options.tokens or (TOKENS if shape == MAIN else FEWER)
        x = np.random.default_rng(1).standard_normal((max(counts), inputs), dtype=np.float32)
        checked = stacks.Checked(stack, x)
        ways: dict[str, stacks.Way] = {}
        for name in options.ways:
            try:
                ways[name] = stacks.WAYS[name](stack)
            except (rivals.AbsentError, ImportError) as error:
                absent[name] = str(error)
        for tokens in counts:
            needed = 4 * (outputs * inputs + tokens * (outputs + inputs)), 2 * tokens * outputs * inputs
            least = needed[0] / bandwidth / 1e6, needed[1] / peak / 1e6
            cell = Cell(
                shape, tokens, THREADS, len(stack.layers), {}, max(least), ("memory", "peak")[least[1] > least[0]]
            )
            time_cell(cell, ways, np.ascontiguousarray(x[:tokens]), checked, timer, options)
            cells.append(cell)
            times = ", ".join(f"{name} {ms:.2f}" for name, ms in cell.ms.items())
            print(f"  {time.monotonic() - started:4.0f} s  {cell}: {times}, floor {cell.floor:.2f} ms", flush=True)
    here = {"versions": versions, "not_assessed": absent, "bandwidth": bandwidth, "peak": peak}
    return {
        "schema": 1,
        "machine": about,
        **{name: {f"{THREADS} thread(s)": value} for name, value in here.items()},
        "cells": [asdict(cell) for cell in cells],
        "wrong": sorted({name for cell in cells for name in cell.wrong}),
    }


def time_cell(
    cell: Cell, ways: dict[str, stacks.Way], x: Any, checked: stacks.Checked, timer: timing.Timer,
    options: argparse.Namespace,
) -> None:  # fmt: skip
    """Fill in who is wrong and what the others take."""
    runs: dict[str, stacks.Run] = {}
    for name, way in ways.items():
        run = way.run(x)
        if checked.excess(run()) <= 1:
            runs[name] = run
        else:
            cell.wrong.append(name)
            print(f"  WRONG, left out: {name} {cell}", flush=True)
    budget = 1e6 if options.quick else 3e7
    times = timing.interleave(timer, runs, rounds=options.rounds, budget=budget, quiet=THREADS > 1)
    cell.ms = {name: nanoseconds / cell.layers / 1e6 for name, nanoseconds in times.items()}


def merged(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Put the results of several processes or runs together; of the same layer and tokens the last one counts."""
    data = {**parts[0], "wrong": sorted({name for part in parts for name in part["wrong"]})}
    for name in ("versions", "not_assessed", "bandwidth", "peak"):
        data[name] = {where: value for part in parts for where, value in part[name].items()}
    cells = {(c["threads"], c["shape"], c["tokens"]): c for part in parts for c in part["cells"]}
    data["cells"] = list(cells.values())
    return data


# ---------------------------------------------------------------------------------------------------- printing


def show_cells(cells: Sequence[Cell]) -> None:
    """Print a line for every layer and number of tokens."""
    names = [name for name in stacks.WAYS if any(name in cell.ms for cell in cells)]
    rows = []
    for cell in cells:
        times = [f"{cell.ms[name]:.2f}" if name in cell.ms else "-" for name in names]
        best, whose = cell.best
        ratios = [_ratio(cell.ratio("torch")), f"{_ratio(best / cell.ms.get(OURS, float('nan')))} {whose}"]
        floor = f"{cell.floor:.2f} {cell.bound}"
        rows.append([str(cell.threads), cell.shape, str(cell.tokens), *times, floor, _per_cent(cell.percent), *ratios])
    header = ["threads", "out x in", "tokens", *names, "floor", "% of floor", "torch / ours", "best other / ours"]
    print(f"\nMilliseconds a layer; torch is eager\n\n{table(header, rows)}")


def _ratio(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"


def _per_cent(value: float) -> str:
    return "-" if value != value else f"{value:.0f}"


def show_goals(cells: Sequence[Cell]) -> None:
    """Print the project's goals beside the worst that was measured, at the first layer and at all of them."""
    rows = []
    for threads in sorted({cell.threads for cell in cells}):
        for which in dict.fromkeys((MAIN, "all")):
            here = [c for c in cells if c.threads == threads and which in (c.shape, "all") and OURS in c.ms]
            for low, high, goal in GOALS:
                chosen = [cell for cell in here if low <= cell.tokens <= high]
                what = f"torch eager / ours, {low} token" if low == high else f"torch eager / ours, {low}-{high} tokens"
                rows += line(threads, which, what, [against_torch(cell) for cell in chosen], goal)
            others = [(cell.best[0] / cell.ms[OURS], f"{cell} ({cell.best[1]})", "") for cell in here]
            rows += line(threads, which, "best of torch.compile and onnxruntime / ours", others, 1)
            rows += line(threads, which, "% of the floor", [(cell.percent, str(cell), "") for cell in here], 75)
            rows += line(threads, which, "must: faster than torch eager", [against_torch(cell) for cell in here], 1)
    header = ["threads", "layers", "what", "worst (wanted)", "at", "there, at the floor", "reached"]
    print("\ngoals\n\n" + table(header, rows))


def against_torch(cell: Cell) -> tuple[float, str, str]:
    """Return torch's time over ours, where, and over the floor: what nobody can surpass."""
    return cell.ratio("torch"), str(cell), _ratio(cell.ms.get("torch", float("nan")) / cell.floor)


def line(threads: int, which: str, what: str, found: Sequence[tuple[float, str, str]], goal: float) -> list[list[str]]:
    """Return the line of a goal in a list; nothing where nothing was measured for it."""
    known = [one for one in found if one[0] == one[0]]
    if not known:
        return []
    worst, where, possible = min(known)
    text = f"{worst:.0f}" if goal > 10 else f"{worst:.2f}"
    reached = sum(value >= goal for value, _, _ in known)
    return [[str(threads), which, what, f"{text} ({goal:g})", where, possible, f"{reached} of {len(known)}"]]


def draw(path: str, cells: Sequence[Cell]) -> None:
    """Draw per cent of the floor over tokens: a panel for each layer and number of threads, a line for each way.

    Raises
    ------
    SystemExit
        Without matplotlib.
    """
    pyplot = load_pyplot()
    shapes = list(dict.fromkeys(cell.shape for cell in cells))
    counts = sorted({cell.threads for cell in cells})
    names = [name for name in stacks.WAYS if any(name in cell.ms for cell in cells)]
    size = (1 + 3.2 * len(shapes), 1 + 2.8 * len(counts))
    drawing, panels = pyplot.subplots(len(counts), len(shapes), figsize=size, sharey=True, squeeze=False)
    for row, threads in zip(panels, counts, strict=True):
        for panel, shape in zip(row, shapes, strict=True):
            here = sorted((c for c in cells if (c.threads, c.shape) == (threads, shape)), key=lambda c: c.tokens)
            for color, name in enumerate(names):
                points = [(i, 100 * c.floor / c.ms[name]) for i, c in enumerate(here) if name in c.ms]
                style = {"color": "black", "linewidth": 2.2, "zorder": 9} if name == OURS else {"color": f"C{color}"}
                if points:
                    panel.plot(*zip(*points, strict=True), marker=".", label=name, **style)
            panel.set_title(f"{shape}, {threads} thread{'s' * (threads > 1)}", fontsize=9)
            panel.set_xticks(range(len(here)), [str(cell.tokens) for cell in here], fontsize=7)
            panel.set_ylim(0, 110)
            panel.grid(alpha=0.3)
    drawing.supxlabel("tokens")
    drawing.supylabel("per cent of the floor")
    handles: dict[str, Any] = {}
    for panel in panels.flat:
        handles.update(dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True)))
    drawing.legend(handles.values(), handles.keys(), loc="upper center", ncols=len(names), frameon=False)
    drawing.tight_layout(rect=(0, 0, 1, 0.95))
    drawing.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
