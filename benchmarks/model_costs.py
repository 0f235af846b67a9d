"""Write ``generator/costs/{neon,fcma}.txt``: cycles of ARM's kernels as llvm-mca models them, not measured ones.

    .venv/bin/python -m benchmarks.model_costs     # what is in the tables for the very same instructions stays

What is modelled is what runs: the instructions that a kernel executes for beta = 1, in their order, with the dozen of
its caller that go from one tile of a plan to the next, tile after tile.  Tiles of `STEPS` k steps go through
``llvm-mca``'s models of two CPUs that run such kernels; the line through both times is kept, and of both CPUs the mean,
since one table serves both.  llvm-mca takes all operands to be in L1 and all branches to be foreseen.  Nothing here was
measured on a CPU.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from generator.abi import FLAGS, offset
from generator.cost import COST_FOLDER
from generator.files import write_atomically
from generator.generate import select
from generator.ir import Instruction, Target
from generator.kernel import Kernel
from generator.machine import Machine

CPUS = {"neon": ("tsv110", "neoverse-n1"), "fcma": ("tsv110", "neoverse-v1")}  # Neoverse N1 has no FCMLA
STEPS = (4, 20)  # in which tiles of many steps and of few are told apart; whole turns of all loops
TILES = 4
CALLER = """\
ldp x0, x1, [x19, #8]
ldr x2, [x19, #24]
ldr x3, [x19, #56]
add x2, x22, x2
ldr x5, [x19], #64
add x0, x20, x0
add x1, x21, x1
add x3, x23, x3
blr x5
{kernel}
ret
cmp x24, x19
b.ne #8"""  # as tw_plan_run_ready is compiled
HEADER = """\
# Cycles of one call of each kernel of {isa}, call + k step. Models, not measurements: the mean of llvm-mca's
# {cpus}, of tiles one after another, beta = 1, operands in L1, branches foreseen.
# Made by benchmarks/model_costs.py; do not edit.
# name, hash of its instructions, call, step
"""


class _Anything(set[int]):
    """All addresses."""

    def __contains__(self, item: object) -> bool:
        return True


def executed(kernel: Kernel, k: int) -> list[Instruction]:
    """Return the instructions that run in a product of `k` steps with beta = 1, on zeros."""
    isa, code, bases = kernel.isa, kernel.program.code, {"a": 1 << 20, "b": 2 << 20, "c": 3 << 20, "args": 4 << 20}
    fields = {"k": k, "flags": FLAGS["BETA"][0] | FLAGS["ADD"][0], "lda": 4096, "ldb": 4096, "ldc": 4096}
    memory: dict[int, int] = defaultdict(int)
    memory.update({bases["args"] + offset(name): value for name, value in fields.items()})
    machine = Machine(isa.lanes, kernel.dtype.real_bytes, memory, _Anything())
    machine.vectors = defaultdict(lambda: (0,) * isa.lanes)
    machine.general = {register: bases[register.name] for register in (isa.a, isa.b, isa.c, isa.args)}
    labels = {
        operand.label: at
        for at, instruction in enumerate(code)
        for operand in instruction.operands
        if instruction.op.kind == "label" and isinstance(operand, Target)
    }
    found, position = [], 0
    while position < len(code):
        instruction = code[position]
        target = instruction.run(machine)
        position = position + 1 if target is None else labels[target]
        if instruction.op.kind != "label":
            found.append(instruction)
    return found


def assembly(kernel: Kernel, part: Sequence[Instruction]) -> str:
    """Return instructions as an assembler takes them, between those that save what the caller's registers held."""
    names = {"a": "x0", "b": "x1", "c": "x2", "args": "x3"}
    lines = []
    for instruction in part:
        text = re.sub(r"\.L\w+%=", "#8", kernel.isa.show(instruction))
        lines.append(re.sub(r"%\[(\w+)\]", lambda found: names[found[1]], text))
    used = {register for instruction in kernel.program.code for register in instruction.writes()}
    saved = sorted(f"d{r.number}" for r in used if r.file == "v" and 8 <= r.number <= 15)
    saved += sorted(f"x{r.number}" for r in used if r.file == "x" and r.number >= 19)
    pairs = [(one, saved[min(at + 1, len(saved) - 1)]) for at, one in enumerate(saved) if at % 2 == 0]
    pairs = [(one, other) for one, other in pairs if one[0] == other[0] and one != other] + [
        (one, "") for one, other in pairs if one[0] != other[0] or one == other
    ]
    store, load = (
        [
            f"{op}p {one}, {other}, [sp, #{16 * at}]" if other else f"{op}r {one}, [sp, #{16 * at}]"
            for at, (one, other) in enumerate(pairs)
        ]
        for op in ("st", "ld")
    )
    return CALLER.format(kernel="\n".join([*store, *lines, *load]))


def cycles(cpu: str, parts: Sequence[str], times: int = TILES) -> list[float]:
    """Return cycles of one pass through each part, as llvm-mca's `cpu` does them, so many times one after another."""
    tool = shutil.which("llvm-mca-22") or "llvm-mca"
    text = "".join(f"# LLVM-MCA-BEGIN p{n}\n{part}\n# LLVM-MCA-END p{n}\n" for n, part in enumerate(parts))
    command = [tool, "-mtriple=aarch64-linux-gnu", f"-mcpu={cpu}", f"-iterations={times}", "-call-latency=1"]
    command += ["-instruction-info=false", "-resource-pressure=false"]
    ran = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    found = [int(value) / times for value in re.findall(r"^Total Cycles:\s+(\d+)", ran.stdout, re.MULTILINE)]
    if len(found) != len(parts):
        sys.exit(f"llvm-mca {cpu}: {len(found)} answers to {len(parts)} questions\n{ran.stderr[:2000]}")
    return found


def main() -> None:
    """Write both tables."""
    for isa, cpus in CPUS.items():
        write(isa, cpus)


def write(isa: str, cpus: Sequence[str]) -> None:
    """Model every kernel of an instruction set and write the table."""
    path, header = COST_FOLDER / f"{isa}.txt", HEADER.format(isa=isa, cpus=" and ".join(cpus))
    text = path.read_text() if path.exists() else ""
    known = text.removeprefix(header).splitlines() if text.startswith(header) else []
    rows = {tuple(row.split()[:2]): row for row in known}
    kernels = [kernel for kernel in select("aarch64", [isa]) if not kernel.tile.k]  # those of one size have no line
    wanted = {(str(kernel.name), kernel.spec_hash): kernel for kernel in kernels}
    rest = [key for key in wanted if key not in rows]
    parts = [assembly(wanted[key], executed(wanted[key], k)) for key in rest for k in STEPS]
    with ThreadPoolExecutor(len(cpus)) as pool:
        modelled = list(pool.map(lambda cpu: cycles(cpu, parts) if parts else [], cpus))
    for number, key in enumerate(rest):
        few, many = (sum(one[2 * number + which] for one in modelled) / len(cpus) for which in (0, 1))
        step = (many - few) / (STEPS[1] - STEPS[0])
        rows[key] = f"{' '.join(key)} {few - STEPS[0] * step:.2f} {step:.3f}"
    write_atomically(path, header + "".join(f"{row}\n" for row in sorted(rows[key] for key in wanted)))
    print(f"{len(wanted)} kernels, {len(rest)} modelled now: {path}")


if __name__ == "__main__":
    main()
