"""Write ``generator/costs/{neon,fcma}.txt``: cycles of ARM's kernels as llvm-mca models them, not measured ones.

    .venv/bin/python -m benchmarks.model_costs

The k loop and the code around it (beta = 0, whole turns) go through ``llvm-mca``'s models of two CPUs that run such
kernels, each many times over; the mean of both is kept, since one table serves both. llvm-mca takes all operands to be
in L1 and all branches to be foreseen. Nothing here was measured on a CPU.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from generator.cost import COST_FOLDER, once_of
from generator.files import write_atomically
from generator.generate import select
from generator.kernel import Kernel

CPUS = {"neon": ("tsv110", "neoverse-n1"), "fcma": ("tsv110", "neoverse-v1")}  # Neoverse N1 has no FCMLA
CALL = 6.0  # cycles of the taken jumps and of the caller's dozen instructions a kernel, which llvm-mca does not see
ITERATIONS = 20
HEADER = """\
# Cycles of one call of each kernel of {isa}, call + k step. Models, not measurements: the mean of llvm-mca's
# {cpus}, operands in L1, branches foreseen; {call:g} cycles for the call itself.
# Made by benchmarks/model_costs.py; do not edit.
# name, hash of its instructions, call, step
"""


def assembly(kernel: Kernel, part: Sequence[object]) -> str:
    """Return instructions as an assembler takes them, without jumps and labels."""
    by_identity = {id(i): text for i, text in zip(kernel.program.code, kernel.listing, strict=True)}
    lines = [by_identity[id(i)] for i in part if getattr(i, "op").kind not in ("branch", "label")]  # noqa: B009
    names = {"a": "x0", "b": "x1", "c": "x2", "args": "x3"}
    return "\n".join(re.sub(r"%\[(\w+)\]", lambda found: names[found[1]], line) for line in lines)


def cycles(cpu: str, parts: Sequence[str]) -> list[float]:
    """Return cycles of one pass through each part, as llvm-mca's `cpu` does them."""
    tool = shutil.which("llvm-mca-22") or "llvm-mca"
    text = "".join(f"# LLVM-MCA-BEGIN p{n}\n{part}\n# LLVM-MCA-END p{n}\n" for n, part in enumerate(parts))
    command = [tool, "-mtriple=aarch64-linux-gnu", f"-mcpu={cpu}", f"-iterations={ITERATIONS}"]
    command += ["-instruction-info=false", "-resource-pressure=false"]
    ran = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    found = [int(value) / ITERATIONS for value in re.findall(r"^Total Cycles:\s+(\d+)", ran.stdout, re.MULTILINE)]
    if len(found) != len(parts):
        sys.exit(f"llvm-mca {cpu}: {len(found)} answers to {len(parts)} questions\n{ran.stderr[:2000]}")
    return found


def main() -> None:
    """Write both tables."""
    for isa, cpus in CPUS.items():
        write(isa, cpus)


def write(isa: str, cpus: Sequence[str]) -> None:
    """Model every kernel of an instruction set and write the table."""
    kernels = [kernel for kernel in select("aarch64", [isa]) if not kernel.tile.k]  # those of one size have no loop
    parts = []
    for kernel in kernels:
        parts += [
            assembly(kernel, kernel.program.code[slice(*kernel.program.loop)]),
            assembly(kernel, once_of(kernel)[0]),
        ]
    rows = []
    with ThreadPoolExecutor(len(cpus)) as pool:
        modelled = list(pool.map(lambda cpu: cycles(cpu, parts), cpus))
    for index, kernel in enumerate(kernels):
        turn, once = (sum(one[2 * index + which] for one in modelled) / len(cpus) for which in (0, 1))
        step = turn / kernel.tile.unroll
        call = CALL + max(once / 4, once - once_of(kernel)[1] * turn)  # turns in it overlap with it where they wait
        rows.append(f"{kernel.name} {kernel.spec_hash} {call:.2f} {step:.3f}\n")
    path = COST_FOLDER / f"{isa}.txt"
    write_atomically(path, HEADER.format(isa=isa, cpus=" and ".join(cpus), call=CALL) + "".join(sorted(rows)))
    print(f"{len(rows)} kernels: {path}")


if __name__ == "__main__":
    main()
