"""What the benchmarks print and write: means, tables, the machine, JSON, a figure."""

from __future__ import annotations

import importlib
import json
import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .problem import MODES


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean, NaN of nothing.

    Examples
    --------
    >>> geometric_mean([1, 4]), geometric_mean([])
    (2.0, nan)
    """
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table that Markdown and people read.

    Examples
    --------
    >>> print(table(["n", "ns"], [["8", "12.5"]]))
    | n | ns   |
    | - | ---- |
    | 8 | 12.5 |
    """
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def machine(core: int) -> dict[str, Any]:
    """Return what the numbers were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return {
        "cpu": name,
        "arch": platform.machine(),
        "cores": os.cpu_count(),
        "core": core,
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
    }


def write_json(path: str, data: Mapping[str, Any]) -> None:
    """Write a result; NaN, which JSON lacks, becomes null."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): clean(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [clean(item) for item in value]
        if isinstance(value, float):
            return float(f"{value:.6g}") if math.isfinite(value) else None
        return value

    Path(path).write_text(json.dumps(clean(data), indent=1) + "\n")


def load_pyplot() -> Any:
    """Return matplotlib's pyplot, for files alone.

    Raises
    ------
    SystemExit
        Without matplotlib.
    """
    try:
        importlib.import_module("matplotlib").use("Agg")
        return importlib.import_module("matplotlib.pyplot")
    except ImportError:
        raise SystemExit("--figure needs matplotlib: --install-rivals brings it") from None


def figure(path: str, cells: Sequence[Mapping[str, Any]], peaks: Mapping[str, float]) -> None:
    """Draw per cent of peak over the side of squares, a panel for each type and mode and a line for each library.

    Raises
    ------
    SystemExit
        Without matplotlib.
    """
    pyplot = load_pyplot()
    squares = [cell for cell in cells if cell["kind"] == "square"]
    dtypes = [dtype for dtype in "sdcz" if any(cell["type"] == dtype for cell in squares)]
    modes = [mode for mode in MODES if any(cell["mode"] == mode for cell in squares)]
    names = list(dict.fromkeys(name for cell in squares for name in cell["gflops"] if name != "tw_gemm"))
    size = (1 + 3.4 * len(modes), 1 + 2.5 * len(dtypes))
    drawing, panels = pyplot.subplots(len(dtypes), len(modes), figsize=size, sharex=True, sharey=True, squeeze=False)
    for row, dtype in zip(panels, dtypes, strict=True):
        for panel, mode in zip(row, modes, strict=True):
            here = sorted((c for c in squares if (c["type"], c["mode"]) == (dtype, mode)), key=lambda c: int(c["m"]))
            for color, name in enumerate(names):
                points = [(c["m"], 100 * c["gflops"][name] / peaks[dtype]) for c in here if name in c["gflops"]]
                ours = name == "tilewright"
                style = (
                    {"color": "black", "linewidth": 2.2, "zorder": 9}
                    if ours
                    else {"color": f"C{color}", "linewidth": 1}
                )
                marker = {"marker": ".", "linestyle": "none"} if name == "eigen-fixed" else {}
                if points:
                    panel.plot(*zip(*points, strict=True), label=name, **style, **marker)
            panel.set_title(f"{dtype} {mode}", fontsize=10)
            panel.set_ylim(0, 102)
            panel.grid(alpha=0.3)
    drawing.supxlabel("side of the square matrices")
    drawing.supylabel("per cent of one core's peak")
    handles: dict[str, Any] = {}
    for panel in panels.flat:
        handles.update(dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True)))
    drawing.legend(handles.values(), handles.keys(), loc="upper center", ncols=len(names), frameon=False)
    drawing.tight_layout(rect=(0, 0, 1, 0.96))
    drawing.savefig(path, dpi=110)
