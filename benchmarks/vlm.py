"""A vision-language model on this CPU, as it comes, compiled, packed, pruned: ``python3 build.py bench vlm``.

LLaVA's classes with random weights (`llava/model.py`): 576 visual tokens and 41 words in, 64 tokens decoded, for one
sequence and for four. Every row is measured in a process of its own, with one thread and with two, on the same tokens;
its logits are held against float64's, whole or pruned alike. Time is the least of the rounds, for tokens that of each
step, added up; memory is the process's peak, loading included.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import THREADS, processes, rivals, timing  # first: sets every library's threads
from harness.report import load_pyplot, machine, table, write_json
from llava import reference
from llava.model import TINY, Size, following, prompt
from llava.ways import WAYS, keep_of

import numpy as np  # isort: skip
import torch  # isort: skip

ROWS = 4  # sequences decoded together
TIMES = ("prefill", "decode", "decode together")  # seconds
GOALS = (
    ("packed", "prefill", 1.3, "prefill, packed"),
    ("packed, pruned 33%", "prefill", 3.0, "prefill, packed and pruned to 33 %"),
    ("packed", "decode", 1.3, "decode, one sequence, packed"),
    ("packed", "decode together", 2.5, f"decode, {ROWS} sequences, packed"),
)


def main() -> None:
    """Measure, print, write."""
    options = read()
    if options.child:
        processes.answer(options.child, refer(options) if options.reference else measure(options, options.rows[0]))
        return
    if options.from_json:
        data = merged([json.loads(Path(path).read_text()) for path in options.from_json])
    else:
        if options.install_rivals:
            rivals.install()
        data = measure_all(options)
    if options.json:
        write_json(options.json, data)
    show(data)
    show_goals(data)
    if options.figure:
        draw(options.figure, data)


def read() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="build.py bench vlm", description=str(__doc__).partition("\n")[0])
    add = parser.add_argument
    add("--rows", nargs="+", default=list(WAYS), choices=list(WAYS), metavar="ROW",
        help=f"only these of: {'; '.join(WAYS)}".replace("%", "%%"))  # fmt: skip
    add("--threads", nargs="+", type=int, default=[1, 2], help="numbers of threads (default: 1 2)")
    add("--rounds", type=int, default=2, help="how often everything is measured (default 2)")
    add("--layers", type=int, default=Size().layers, help=f"of the decoder (default {Size().layers})")
    add("--quick", action="store_true", help="a tiny model, once, without torch.compile")
    add("--install-rivals", action="store_true", help="install pyproject's extra `bench` first")
    add("--core", type=int, help="the core to run on, with one thread (default: the least disturbed)")
    add("--json", metavar="FILE", help="write everything measured, anew after every row")
    add("--figure", metavar="FILE", help="draw times (needs matplotlib)")
    add("--from-json", metavar="FILE", nargs="+", help="print what earlier runs wrote: of each time the least")
    add("--child", metavar="FILE", help=argparse.SUPPRESS)
    add("--reference", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.rounds = 1
        if options.rows == list(WAYS):
            options.rows = ["torch", "onnxruntime", "packed", "packed, pruned 33%"]
    options.size = TINY if options.quick else Size(layers=options.layers)
    return options


def measure_all(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every row with every number of threads, writing what there is after each."""
    size, started = options.size, time.monotonic()
    print(estimate(options), flush=True)
    if not reference.there(size, timing.BUILD):
        processes.run({"BENCH_THREADS": str(max(options.threads))}, "--reference")
    data: dict[str, Any] = {"schema": 1, "size": vars(size), "rows": [], "failed": {}}
    for threads in options.threads:
        for name in options.rows:
            try:
                row = processes.run({"BENCH_THREADS": str(threads)}, "--rows", name)
            except SystemExit as error:
                row = {"failed": str(error)}
            if "failed" in row:
                data["failed"][f"{name}, {threads} thread(s)"] = row["failed"]
                print(f"  {name}, {threads} thread(s): not assessed: {row['failed']}", flush=True)
                continue
            data["machine"] = row.pop("machine")
            data["rows"].append(row)
            words = ", ".join(f"{part} {row[part]:.2f} s" for part in TIMES)
            print(f"  {time.monotonic() - started:4.0f} s  {name}, {threads} thread(s): {words}", flush=True)
            if options.json:
                write_json(options.json, data)
    return data


def estimate(options: argparse.Namespace) -> str:
    """Say about how long it will take: at 60 GFLOP/s a thread and 15 GB/s, and minutes for what is compiled."""
    size, seconds = options.size, 0.0
    for threads in options.threads:
        for name in options.rows:
            prefill = 2 * size.weights * size.prompt / 6e10 / threads
            steps = 2.5 * size.new * 4 * size.weights / 1.5e10
            seconds += 15 + (2 * options.rounds + 1) * prefill + options.rounds * steps
            seconds += {"compile": 150, "max-autotune": 300}.get(name, 0)
    count = len(options.rows) * len(options.threads)
    gigabytes = 4 * size.weights / 1e9
    return f"{count} rows, decoder's matrices of {gigabytes:.1f} GB, about {max(1, round(seconds / 60))} minutes"


def refer(options: argparse.Namespace) -> dict[str, Any]:
    """Compute the references in this process."""
    torch.set_num_threads(THREADS)
    reference.compute(options.size, timing.BUILD)
    return {}


def measure(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """Measure one row in this process."""
    size = options.size
    torch.set_grad_enabled(False)
    torch.set_num_threads(THREADS)
    core = timing.pin(options.core) if THREADS == 1 else timing.spread(THREADS)[0]
    about = {**machine(core), "torch": torch.__version__}
    try:
        way = WAYS[name](size)
    except (rivals.AbsentError, ImportError) as error:
        return {"failed": str(error)}
    inputs, tokens = prompt(size), following(size)
    batches = {rows: tokens[:, None, None].repeat(1, rows, 1) for rows in (1, ROWS)}  # one layout: graphs depend on it

    def round() -> tuple[dict[int, Any], dict[int, float], dict[int, list[float]], int]:
        """Prefill and decode for one row and for several; return logits, both times and the cache's size."""
        logits: dict[int, Any] = {}
        first: dict[int, float] = {}
        steps: dict[int, list[float]] = {}
        for rows in (1, ROWS):
            begun = time.perf_counter()
            found, cache = way.prefill(inputs)
            first[rows] = time.perf_counter() - begun
            held = way.nbytes(cache)
            cache = way.widen(cache, rows) if rows > 1 else cache
            answers, steps[rows] = [found.expand(rows, -1).numpy().copy()], []
            for token in batches[rows]:
                begun = time.perf_counter()
                found = way.step(token, cache)
                steps[rows].append(time.perf_counter() - begun)
                answers.append(found.numpy().copy())
            logits[rows] = np.stack(answers)
        return logits, first, steps, held

    def first_calls() -> None:
        """Let everything be made that is made on the way: graphs, plans, buffers."""
        _, cache = way.prefill(inputs)
        for rows in (1, ROWS):
            cache = way.widen(cache, rows) if rows > 1 else cache
            for token in batches[rows][:2]:
                way.step(token, cache)

    way.spend("first calls", first_calls)
    rounds = [round() for _ in range(options.rounds)]
    logits, _, _, held = rounds[-1]
    prefill = min(took for _, first, _, _ in rounds for took in first.values())
    seconds = {rows: sum(map(min, zip(*(steps[rows] for _, _, steps, _ in rounds), strict=True))) for rows in (1, ROWS)}
    exact, kept = reference.logits(size, keep_of(name), timing.BUILD)
    mine = way.kept()
    return {
        "row": name, "threads": THREADS, "keep": keep_of(name), "prefill": prefill,
        "decode": seconds[1], "decode together": seconds[ROWS],
        "peak memory": peak_memory(), "kv bytes": held, "ready": way.ready,
        "difference": max(float(np.max(np.abs(found - exact[:, np.newaxis]))) for found in logits.values()),
        "same token": min(int(np.sum(found[:, 0].argmax(1) == exact.argmax(1))) for found in logits.values()),
        "tokens": len(exact), "largest logit": float(np.abs(exact).max()),
        "kept otherwise": 0 if mine is None else len(np.setdiff1d(mine[mine < size.prompt], kept)),
        "machine": about,
    }  # fmt: skip


def peak_memory() -> int:
    """Return the most bytes of memory that this process has held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def merged(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Put the results of several runs together: of each time the least, of differences the largest.

    Raises
    ------
    SystemExit
        They are of models of different sizes.
    """
    if any(part["size"] != parts[0]["size"] for part in parts):
        raise SystemExit("--from-json: these runs are of models of different sizes")
    data = {**parts[-1], "failed": {}}
    rows: dict[tuple[int, str], dict[str, Any]] = {}
    for part in parts:
        for row in part["rows"]:
            seen = rows.setdefault((row["threads"], row["row"]), dict(row))
            seen |= {name: min(seen[name], row[name]) for name in (*TIMES, "peak memory", "same token")}
            seen |= {name: max(seen[name], row[name]) for name in ("difference", "kept otherwise")}
        data["failed"] |= part["failed"]
    order = list(WAYS)
    data["rows"] = sorted(rows.values(), key=lambda row: (row["threads"], order.index(row["row"])))
    return data


# ---------------------------------------------------------------------------------------------------- printing


def show(data: dict[str, Any]) -> None:
    """Print a table for every number of threads."""
    size = Size(**data["size"])
    shape = f"{size.layers} layers, {size.hidden} wide, {size.visual} visual tokens and {size.words} words"
    for threads in sorted({row["threads"] for row in data["rows"]}):
        here = [row for row in data["rows"] if row["threads"] == threads]
        stock = next((row for row in here if row["row"] == "torch"), None)
        lines = []
        for row in here:
            cells = [row["row"]]
            for part, count in zip(TIMES, (size.prompt, size.new, ROWS * size.new), strict=True):
                faster = f" ({stock[part] / row[part]:.2f})" if stock else ""
                cells += [f"{row[part]:.2f}{faster}", f"{count / row[part]:.1f}"]
            cells += [f"{row['peak memory'] / 1e9:.2f}", f"{row['kv bytes'] / 1e6:.1f}", f"{row['difference']:.1e}",
                      f"{row['same token']} of {row['tokens']}", str(row["kept otherwise"])]  # fmt: skip
            lines.append(cells)
        header = ["", "prefill, s", "tokens/s", f"{size.new} tokens, s", "tokens/s",
                  f"{ROWS} x {size.new} tokens, s", "tokens/s", "peak memory, GB", "KV cache, MB",
                  "largest difference", "same token", "kept otherwise"]  # fmt: skip
        print(f"\n{threads} thread{'s' * (threads > 1)}; {shape}; in brackets: times as fast as torch\n")
        print(table(header, lines))
    for name, why in data["failed"].items():
        print(f"\n{name}: not assessed: {why}")


def show_goals(data: dict[str, Any]) -> None:
    """Print the project's goals beside what was measured."""
    found = {(row["threads"], row["row"]): row for row in data["rows"]}
    lines = []
    for threads in sorted({threads for threads, _ in found}):
        stock = found.get((threads, "torch"))
        for name, part, goal, words in GOALS:
            ours = found.get((threads, name))
            if stock and ours:
                ratio = stock[part] / ours[part]
                state = "reached" if ratio >= goal else "not reached"
                lines.append([str(threads), words, f"{ratio:.2f}", f"{goal:g}", state])
    if lines:
        print("\ngoals: times as fast as torch eager\n")
        print(table(["threads", "what", "measured", "wanted", ""], lines))


def draw(path: str, data: dict[str, Any]) -> None:
    """Draw the time of prefill and decoding, a panel for each and for each number of threads, a bar for each row.

    Raises
    ------
    SystemExit
        Without matplotlib.
    """
    pyplot = load_pyplot()
    counts = sorted({row["threads"] for row in data["rows"]})
    size = 13, 1 + 2.8 * len(counts)
    drawing, panels = pyplot.subplots(len(counts), len(TIMES), figsize=size, squeeze=False)
    titles = "prefill", "decode, one sequence", f"decode, {ROWS} sequences"
    for line, threads in zip(panels, counts, strict=True):
        here = [row for row in data["rows"] if row["threads"] == threads]
        for panel, part, title in zip(line, TIMES, titles, strict=True):
            ours = ["black" if "packed" in row["row"] else "C0" for row in here]
            bars = panel.barh([row["row"] for row in here], [row[part] for row in here], color=ours)
            panel.bar_label(bars, fmt="%.1f", padding=2, fontsize=7)
            panel.set_title(f"{title}, {threads} thread{'s' * (threads > 1)}, seconds", fontsize=9)
            panel.margins(x=0.12)
            panel.invert_yaxis()
            panel.tick_params(labelsize=7)
        for panel in line[1:]:
            panel.set_yticklabels([])
    drawing.tight_layout()
    drawing.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
