"""NEON without an ARM machine: instructions of whole calls counted under qemu, cycles modelled by llvm-mca.

    python3 build.py bench neon [--full] [--json FILE] [--figure FILE] [--types s d c z] [--modes NN NT TN TT]
                                [--sizes N ...] [--rivals openblas ...] [--mcpu tsv110 ...] [--gate] [--update-gate]

Every figure is of one warm call, column-major, alpha = beta = 1, one thread: our C API (`call`; `fcma`: c and z where
the CPU has FCMLA), a kept plan (`plan`), and where one kernel does the whole product, that kernel alone (`kernel`);
beside them OpenBLAS and Debian's arm64 packages in the same run, and libraries that were measured once
(benchmarks/emulated/published.json).  Counts are exact: two runs agree to the instruction.  Cycles are a model's:
operands in L1, branches foreseen.  docs/neon.md says more.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emulated import gate
from emulated.arm64 import WAYS, rivals
from emulated.emulator import CLASSES, Case, Count, Emulator, Rival
from emulated.models import cycles
from emulated.tools import MODELS, Tools, models, models_with, version
from harness.report import geometric_mean, table, write_json

PUBLISHED = Path(__file__).parent / "emulated" / "published.json"
SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 13, 16, 23, 32, 48, 64, 80)
SHAPES = (
    (4, 64, 4),
    (64, 4, 4),
    (4, 4, 64),
    (2, 64, 16),
    (64, 2, 16),
    (1, 48, 48),
    (48, 1, 48),
    (5, 7, 80),
    (80, 6, 6),
)
MODELLED = (4, 8, 13, 16, 23, 32, 48)
GOALS = {  # of (vector multiply-adds needed, two a cycle), per cent on tsv110 and neoverse-n1: issue "NEON first"
    "s": {48: (99, 92), 32: (97, 88), 16: (88, 66), 8: (48, 30)},
    "d": {48: (99, 88), 32: (98, 82), 16: (92, 68), 8: (58, 38)},
}


def main() -> None:
    """Count, model, print; write JSON and a figure if asked."""
    options = _options()
    tools = Tools.find()
    for line in tools.missing():
        print(line)
    if tools.mca:
        unknown = [cpu for cpu in options.mcpu if cpu not in models(tools.mca)]
        if unknown:
            raise SystemExit(
                f"--mcpu {' '.join(unknown)}: llvm-mca has no such core; it has {', '.join(models(tools.mca))}"
            )
    published = json.loads(PUBLISHED.read_text())
    if not tools.counts:
        print("\nWhat was measured once (instructions of a call):")
        print(_published_table(published))
        raise SystemExit(1)
    if options.gate or options.update_gate:
        raise SystemExit(gate.run(Emulator(tools, jobs=options.jobs), update=options.update_gate))
    others, reasons = rivals(options.rivals)
    others += _own_blas()
    emulator = Emulator(tools, others, options.jobs, keep=not options.fresh)
    shapes = [(n, n, n) for n in options.sizes] + ([] if options.squares else list(SHAPES))
    ways = ["call", "plan", "kernel", *(other.way for other in others)]
    cases = [
        Case(way, letter, mode, *shape)
        for letter in options.types
        for mode in options.modes
        for shape in shapes
        for way in (*ways, *(["fcma"] if letter in "cz" else []))
    ]
    counts = emulator.count(cases)
    modelled: dict[Case, dict[str, int]] = {}
    if tools.cycles and options.mcpu:
        modelled = _modelled(emulator, tools, options, counts)
    _print(options, counts, modelled, others, published, shapes)
    for line in reasons:
        print(line)
    if options.json:
        write_json(str(options.json), _data(tools, counts, modelled, others, published))
    if options.figure:
        from emulated.figure import draw

        draw(options.figure, counts, published)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="build.py bench neon", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--types", nargs="+", choices=list("sdcz"), default=list("sdcz"))
    parser.add_argument("--modes", nargs="+", choices=["NN", "NT", "TN", "TT"], default=["NN", "NT", "TN", "TT"])
    parser.add_argument("--sizes", nargs="+", type=int, help="sides of the squares, at most 256")
    parser.add_argument("--full", action="store_true", help="every side from 1 to 80")
    parser.add_argument("--squares", action="store_true", help="no thin and rectangular shapes")
    parser.add_argument("--quick", action="store_true", help="a few cases, no rivals: for tests")
    parser.add_argument("--rivals", nargs="*", choices=WAYS, default=list(WAYS))
    parser.add_argument(
        "--mcpu", nargs="*", default=list(MODELS), metavar="CORE", help="llvm-mca's models; none: no cycles"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--fresh", action="store_true", help="count again what earlier runs counted")
    parser.add_argument(
        "--gate", action="store_true", help="compare the committed counts, fail where one is 1 %% worse"
    )
    parser.add_argument("--update-gate", action="store_true", help="write them")
    options = parser.parse_args()
    if options.quick:
        options.types, options.modes, options.rivals = ["s"], ["NN"], []
    if not options.sizes:
        options.sizes = list(range(1, 81)) if options.full else [1, 8] if options.quick else list(SIZES)
    if min(options.sizes) < 1 or max(options.sizes) > 256:
        parser.error("--sizes: 1 to 256")
    return options


def _own_blas() -> list[Rival]:
    """Our BLAS library, where it is built."""
    path = Path(__file__).resolve().parents[1] / "build" / "aarch64" / "lib" / "libtilewright_blas.so"
    return [Rival("cblas", "tilewright's cblas_?gemm", path, "cblas_?gemm")] if path.exists() else []


def _modelled(
    emulator: Emulator, tools: Tools, options: argparse.Namespace, counts: Mapping[Case, Count]
) -> dict[Case, dict[str, int]]:
    """Cycles of calls, OpenBLAS's beside ours, at the sizes of `MODELLED`."""
    wanted = [
        case
        for case in counts
        if case.way in ("call", "fcma", "kernel", "openblas")
        and case.m == case.n == case.k
        and case.m in (MODELLED if not options.quick else (8,))
        and counts[case].answer == "ok"
    ]
    able = models_with(str(tools.mca), options.mcpu, "fcmla v0.4s, v1.4s, v2.4s, #90")
    found: dict[Case, dict[str, int]] = {}
    for isa, cpus in (("neon", options.mcpu), ("fcma", able)):
        alike = [case for case in wanted if case.isa == isa]
        if alike and cpus:
            traces = emulator.trace(alike)
            found |= cycles(tools, traces, cpus, options.jobs, emulator.folder / "cycles.json")
    return {case: found[case] for case in wanted if case in found}


def _print(
    options: argparse.Namespace,
    counts: Mapping[Case, Count],
    modelled: Mapping[Case, Mapping[str, int]],
    others: Sequence[Rival],
    published: Mapping[str, Any],
    shapes: Sequence[tuple[int, int, int]],
) -> None:
    for case, count in counts.items():
        if count.answer != "ok" and count.answer != "more than one tile":
            print(f"LEFT OUT: {case}: {count.answer}")
    for letter in options.types:
        for mode in options.modes:
            print(f"\n{letter}gemm {mode}: instructions of a call, by class; x: by vector multiply-adds needed\n")
            print(_count_table(letter, mode, counts, others, published, shapes))
    if modelled:
        print("\nModel cycles of a call (% of the multiply-adds needed at two a cycle; on neoverse-v1 four)\n")
        print(_cycle_table(modelled, counts, options.mcpu))
    print(f"\nGeometric means over the squares of this run\n\n{_summary(options, counts, published)}")
    fixed = _fixed(counts)
    if fixed:
        print(f"\nFixed cost of a warm call: {fixed} instructions more than the kernel called by pointer")
    if modelled:
        print(f"\nGoals, model cycles\n\n{_goals(modelled)}")


def _count_table(
    letter: str,
    mode: str,
    counts: Mapping[Case, Count],
    others: Sequence[Rival],
    published: Mapping[str, Any],
    shapes: Sequence[tuple[int, int, int]],
) -> str:
    classes = [name for name in CLASSES if name != "sve"]
    jit = _list(published, "libxsmm-jit", letter, mode)
    ways = [*(["fcma"] if letter in "cz" else []), "plan", "kernel", *(other.way for other in others)]
    header = ["m n k", "needed", "call", "x", *classes, *ways]
    rows = []
    for m, n, k in shapes:
        case = Case("call", letter, mode, m, n, k)
        count = counts[case]
        row = [
            str(n) if m == n == k else f"{m} {n} {k}",
            str(case.needed),
            _total(count),
            f"{count.total / case.needed:.2f}",
        ]
        row += [str(count.classes.get(name, 0)) for name in classes]
        row += [_total(counts[Case(way, letter, mode, m, n, k)]) for way in ways]
        rows.append([*row, str(jit[n - 1]) if jit and m == n == k and n <= len(jit) else "-"])
    return table([*header, "libxsmm-jit"], rows)


def _total(count: Count) -> str:
    return str(count.total) if count.answer == "ok" else "-"


def _list(published: Mapping[str, Any], name: str, letter: str, mode: str) -> list[int]:
    found: list[int] = published["sizes"][name].get(f"{letter}_{mode.lower()}", [])
    return found


def _cycle_table(modelled: Mapping[Case, Mapping[str, int]], counts: Mapping[Case, Count], cpus: Sequence[str]) -> str:
    rows = []
    for case, found in modelled.items():
        cells = [
            f"{found[cpu]} ({100 * case.needed / (4 if cpu == 'neoverse-v1' else 2) / found[cpu]:.0f}%)"
            if cpu in found
            else "-"
            for cpu in cpus
        ]
        rows.append([case.letter, case.mode, str(case.n), case.way, str(counts[case].total), *cells])
    return table(["type", "mode", "n", "what", "instructions", *cpus], rows)


def _summary(options: argparse.Namespace, counts: Mapping[Case, Count], published: Mapping[str, Any]) -> str:
    """Our call's instructions by the best of the others."""
    rows = []
    for letter, way in [(letter, way) for letter in options.types for way in ("call", "fcma")]:
        for mode in options.modes if way == "call" or letter in "cz" else ():
            ours = {n: counts[Case(way, letter, mode, n, n, n)].total for n in options.sizes}
            jit = _list(published, "libxsmm-jit", letter, mode)
            blas = _list(published, "openblas", letter, mode)
            cells = []
            for theirs in (
                {n: jit[n - 1] for n in ours if n <= len(jit)},
                {n: blas[n - 1] for n in ours if n <= len(blas)},
                {
                    n: counts[case].total
                    for n in ours
                    if (case := Case("openblas", letter, mode, n, n, n)) in counts and counts[case].answer == "ok"
                },
            ):
                ratios = {n: ours[n] / theirs[n] for n in theirs}
                worst = max(ratios, key=lambda n: ratios[n], default=0)
                cells.append(
                    f"{geometric_mean(ratios.values()):.3f}, worst {ratios[worst]:.2f} at {worst}" if ratios else "-"
                )
            rows.append([letter, mode, way, *cells])
    return table(
        ["type", "mode", "ours", "by libxsmm-jit, published", "by openblas, published", "by openblas, this run"], rows
    )


def _fixed(counts: Mapping[Case, Count]) -> dict[str, int]:
    """Instructions of a call less those of its kernel, by type; the most over the cases at hand."""
    found: dict[str, int] = {}
    for case, count in counts.items():
        alone = counts.get(Case("kernel", case.letter, case.mode, case.m, case.n, case.k))
        if case.way == "call" and alone is not None and alone.answer == "ok":
            found[case.letter] = max(found.get(case.letter, 0), count.total - alone.total)
    return found


def _goals(modelled: Mapping[Case, Mapping[str, int]]) -> str:
    rows = []
    for letter, sizes in GOALS.items():
        for n, goals in sizes.items():
            found = modelled.get(Case("call", letter, "NN", n, n, n), {})
            cells = [
                f"{100 * Case('call', letter, 'NN', n, n, n).needed / 2 / found[cpu]:.1f} of {goal}"
                for cpu, goal in zip(MODELS, goals, strict=False)
                if cpu in found
            ]
            if cells:
                rows.append([letter, str(n), *cells])
    return table(["type", "n", *MODELS[:2]], rows)


def _published_table(published: Mapping[str, Any]) -> str:
    rows = [
        [name, key, *(str(values[n - 1]) for n in SIZES)]
        for name, lists in published["sizes"].items()
        for key, values in lists.items()
    ]
    return table(["library", "type, mode", *map(str, SIZES)], rows)


def _data(
    tools: Tools,
    counts: Mapping[Case, Count],
    modelled: Mapping[Case, Mapping[str, int]],
    others: Sequence[Rival],
    published: Mapping[str, Any],
) -> dict[str, Any]:
    programs = [tools.qemu, tools.cross, tools.mca]
    return {
        "tools": [version(program) for program in programs if program],
        "libraries": {other.way: other.title for other in others},
        "cases": [
            {
                "way": case.way,
                "type": case.letter,
                "mode": case.mode,
                "m": case.m,
                "n": case.n,
                "k": case.k,
                "answer": count.answer,
                "needed": case.needed,
                "instructions": count.total,
                "classes": count.classes,
                "cycles": modelled.get(case, {}),
            }
            for case, count in counts.items()
        ],
        "published": published,
    }


if __name__ == "__main__":
    main()
