"""Kernels on panels, variant by variant, and what packing saves: ``python3 build.py bench panels``.

A kernel multiplies panels that lie one after the other: of half a megabyte, again and again (from the second cache:
GFLOP/s), and of 48 MB, once (from memory: GB/s of the panels that fill vectors). The least of several turns, all
variants of a tile taking turns. Beside them the speed at which a plain sum reads the same memory. Then products with an
operand packed and where it lies, as `tune` measures them, on one thread and on all. Operands are whole panels. Last,
whether the planner is right: M = K = 1024 and 4096, N from 1 to 240, the larger operand packed into new memory and used
R times against as many products with it where it lies, and where ``pack="auto"`` packs (with the tuning file in use).
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from typing import Any

import numpy as np

import tilewright.runtime as tw
from tilewright.runtime import reuse, tuning
from tilewright.runtime._library import ffi, lib, text

TURNS = 9
BYTES = {"s": 4, "d": 8, "c": 8, "z": 16}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--types", default="sdcz", help="letters of the types")
    parser.add_argument("--json", metavar="FILE", help="write what was measured")
    parser.add_argument("--quick", action="store_true", help="fewer turns and types: whether it runs")
    options = parser.parse_args()
    types = options.types[: 1 if options.quick else None]
    isa = text(lib.tw_isa_name(lib.tw_isa_current()))
    panels = np.ones(tuning.PLACES[-1] // 8)
    print(f"{text(lib.tw_machine())}, {isa}; a sum reads {read_speed(panels):.1f} GB/s from memory\n", flush=True)
    variants = [row for letter in types for row in time_variants(isa, letter, 1 if options.quick else TURNS)]
    show_variants(variants)
    packing = reuse.measure_packing(time.monotonic() + (0 if options.quick else 600))
    if packing is not None:
        show_packing(packing)
    if not options.quick:
        for letter in types:
            show_choices(letter)
    if options.json:
        with open(options.json, "w") as file:
            found = {"isa": isa, "kernels": kernels_on_panels(isa), "variants": variants}
            json.dump({**found, "packing": packing and packing.record()}, file, indent=1)


def read_speed(memory: Any) -> float:
    """Gigabytes a second at which numpy adds up an array."""
    best = float("inf")
    for _ in range(TURNS):
        start = time.perf_counter()
        memory.sum()
        best = min(best, time.perf_counter() - start)
    return float(memory.nbytes / best * 1e-9)


def kernels_on_panels(isa: str) -> list[str]:
    """Name the kernels of an instruction set that have the packed operand on the vectors' side."""
    names = [text(lib.tw_kernel_name(index)) for index in range(lib.tw_kernel_total())]
    return [name for name in names if tuning.on_panels(name) and f"__{isa}_" in name and "_turned" not in name]


def time_variants(isa: str, letter: str, turns: int) -> list[dict[str, Any]]:
    """Time all kernels on panels of a type."""
    names = [name for name in kernels_on_panels(isa) if name.startswith(f"gemm_{letter}_")]
    nanoseconds = ffi.new("double *")
    k, least = 64, {(name, place): float("inf") for name in names for place in tuning.PLACES}
    for _ in range(turns):
        for (name, place), before in least.items():
            if tuning.time_on_panels(name, place, nanoseconds):
                raise RuntimeError(text(lib.tw_error_message()))
            least[name, place] = min(before, nanoseconds[0])
    rows = []
    for name in names:
        width, lines = map(int, name.split("__")[0].rsplit("_", 1)[1].split("x"))
        near, far = (least[name, place] for place in tuning.PLACES)
        flops = 2 * width * lines * k * (4 if letter in "cz" else 1)
        variant = name.split("_packed")[1].strip("_") or "plain"
        rows.append(
            {
                "type": letter,
                "lines": lines,
                "variant": variant,
                "gflops_near": round(flops / near, 1),
                "gb_far": round(width * k * BYTES[letter] / far, 1),
            }
        )
    return rows


def show_variants(rows: list[dict[str, Any]]) -> None:
    """Print a table of tiles, a column a variant; the fastest of each place is marked."""
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    print("| type | lines | " + " | ".join(f"{variant}: GFLOP/s, GB/s" for variant in variants) + " |")
    print("| --- | --- |" + " --- |" * len(variants))
    for letter, lines in dict.fromkeys((row["type"], row["lines"]) for row in rows):
        here = {row["variant"]: row for row in rows if (row["type"], row["lines"]) == (letter, lines)}
        best = [max(row[key] for row in here.values()) for key in ("gflops_near", "gb_far")]
        cells = [
            ", ".join(
                f"{here[variant][key]}{'*' if here[variant][key] == most else ''}"
                for key, most in zip(("gflops_near", "gb_far"), best, strict=True)
            )
            if variant in here
            else "-"
            for variant in variants
        ]
        print(f"| {letter} | {lines} | " + " | ".join(cells) + " |", flush=True)


def show_packing(packing: reuse.Packing) -> None:
    """Print how much faster products are with the operand packed, and after how many packing has paid."""
    print("\n| type, lies, where | packing, GB/s | " + " | ".join(f"{n}" for n in reuse.LINES) + " |")
    print("| --- | --- |" + " --- |" * len(reuse.LINES))
    for cell, (pack, *uses) in packing.cells.items():
        ratios = []
        for lies, packed in zip(uses[::2], uses[1::2], strict=True):
            pays = f" ({pack / (lies - packed):.0f})" if lies > 1.03 * packed else ""
            ratios.append(f"{lies / packed:.2f}{pays}")
        print(f"| {cell} | {BYTES[cell[0]] * 1e6 / pack:.1f} | " + " | ".join(ratios) + " |")


def show_choices(letter: str) -> None:
    """Print what packing gains for R uses, pack included, and mark where the planner packs."""
    dtype = np.dtype({"s": "f4", "d": "f8", "c": "c8", "z": "c16"}[letter])
    print(f"\n{letter}, {tw.get_num_threads()} thread(s): over one-shot; * the planner packs")
    chosen = []
    for side in (1024, 4096):
        a = np.ones((side, side), dtype)
        for n in (1, 2, 4, 8, 16, 32, 64, 128, 240):
            b, out = np.ones((side, n), dtype), np.empty((side, n), dtype)
            packing, plain = (tw.skinny_plan(side, n, side, dtype, pack=pack) for pack in ("a", None))
            packed = packing.pack(a)
            times = [float("inf")] * 3
            for _ in range(TURNS):
                runs = partial(plain, a, b, out), partial(packing, packed, b, out), partial(packing.pack, a)
                for number, run in enumerate(runs):
                    start = time.perf_counter()
                    run()
                    times[number] = min(times[number], time.perf_counter() - start)
            words = []
            for uses in (2, 10, 100):
                gain = times[0] / (times[1] + times[2] / uses)
                packs = tw.skinny_plan(side, n, side, dtype, reuse=uses).packs is not None
                words.append(f"R = {uses}: {gain:.2f}{'*' if packs else ''}")
                chosen += [gain] if packs else []
            print(f"  {side} x {n} x {side}: " + ", ".join(words), flush=True)
    print(f"  where the planner packs: {min(chosen):.2f} to {max(chosen):.2f}" if chosen else "  it never packs")


if __name__ == "__main__":
    main()
