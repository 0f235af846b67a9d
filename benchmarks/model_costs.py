"""Write ``generator/costs/neon.txt``: cycles of NEON kernels as llvm-mca models them, where nobody has timed them.

    .venv/bin/python -m benchmarks.model_costs

The k loop and the code around it (beta = 0, whole turns) go through ``llvm-mca -mcpu=tsv110`` and
``-mcpu=neoverse-n1``, each many times over; the mean of both CPUs is kept, since one table serves both. llvm-mca takes
all operands to be in L1 and all branches to be foreseen. Nothing here was measured on a CPU.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence

from generator.cost import COST_FOLDER, once_of
from generator.files import write_atomically
from generator.generate import select
from generator.kernel import Kernel

CPUS = ("tsv110", "neoverse-n1")
CALL = 2.0  # cycles of the call and the taken jumps, which llvm-mca does not see
ITERATIONS = 20
HEADER = f"""\
# Cycles of one call of each NEON kernel, call + k step. Models, not measurements: the mean of llvm-mca's
# {" and ".join(CPUS)}, operands in L1, branches foreseen; {CALL:g} cycles for the call itself.
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
    """Model every kernel and write the table."""
    kernels = select("aarch64", ["neon"])
    parts = []
    for kernel in kernels:
        parts += [
            assembly(kernel, kernel.program.code[slice(*kernel.program.loop)]),
            assembly(kernel, once_of(kernel)[0]),
        ]
    rows = []
    modelled = [cycles(cpu, parts) for cpu in CPUS]
    for index, kernel in enumerate(kernels):
        turn, once = (sum(one[2 * index + which] for one in modelled) / len(CPUS) for which in (0, 1))
        step = turn / kernel.tile.unroll
        call = CALL + max(once / 4, once - once_of(kernel)[1] * turn)  # turns in it overlap with it where they wait
        rows.append(f"{kernel.name} {kernel.spec_hash} {call:.2f} {step:.3f}\n")
    write_atomically(COST_FOLDER / "neon.txt", HEADER + "".join(sorted(rows)))
    print(f"{len(rows)} kernels: {COST_FOLDER / 'neon.txt'}")


if __name__ == "__main__":
    main()
