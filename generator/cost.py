"""What a kernel costs when nobody has timed it: cycles of one call, ``call + k step``.

Two sources, the better first:

- ``generator/costs/<isa>.txt``: cycles from llvm-mca's model of a CPU, by ``benchmarks/model_costs.py``. An entry
  counts only for the very instructions it was made for (the kernel's hash).
- a reckoning from the instructions themselves: how many of each kind, over how many of them a cycle takes.

Both serve to compare kernels of one instruction set, type and mode, until ``build.py tune`` has measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .ir import Instruction, Mem
from .kernel import Kernel

__all__ = ["COST_FOLDER", "Cost", "cost_of", "once_of"]

COST_FOLDER = Path(__file__).resolve().parent / "costs"

_LEFT_OUT = ("fewer than", "first and last turn", "P = alpha P", "C = P + C", "C = P + beta C")
_CALL = 2.0
"""Cycles of a call and its return, and of the jumps on the way."""

_ONCE = 0.4
_CHAIN = 0.35
"""How much shows of the code around the loop and of multiply-adds that wait for each other: a core runs ahead into the
next tile meanwhile. With `_CALL` fitted to times of 2944 AVX2 and AVX-512 kernels on Zen 5 (k = 4, 16, 64), where the
reckoning then spreads by a factor of 1.1 to 1.15, 1.8 at worst."""


@dataclass(frozen=True)
class Cost:
    """Cycles: ``call + k * step``."""

    call: float
    step: float


@dataclass(frozen=True)
class Core:
    """What a core does in a cycle; `latency` is of a multiply-add."""

    multiplies: float
    loads: float
    shuffles: float
    stores: float
    width: float
    latency: float


CORES = {
    "neon": Core(multiplies=2, loads=2, shuffles=2, stores=1, width=4, latency=4),
    "fcma": Core(multiplies=2, loads=2, shuffles=2, stores=1, width=4, latency=4),
    "avx2": Core(multiplies=2, loads=2, shuffles=2, stores=1, width=6, latency=4),
    "avx512": Core(multiplies=2, loads=2, shuffles=2, stores=1, width=6, latency=4),
    "scalar": Core(multiplies=1, loads=2, shuffles=2, stores=1, width=4, latency=4),
}


def cost_of(kernel: Kernel) -> Cost:
    """Return the kernel's cost, from the table of its instruction set if it is there, else reckoned.

    Examples
    --------
    >>> from .generate import select
    >>> cost_of(select("aarch64", only=["gemm_s_nn_8x4__neon"])[0]).step >= 4  # eight multiply-adds, two a cycle
    True
    """
    listed = _listed(kernel.isa.name).get(str(kernel.name))
    if listed is not None and listed[0] == kernel.spec_hash:
        return listed[1]
    return reckoned(kernel)


def reckoned(kernel: Kernel) -> Cost:
    """Return the cost by counting instructions."""
    core, program = CORES[kernel.isa.name], kernel.program
    turn = program.code[slice(*program.loop)]
    unroll = kernel.tile.unroll if turn else 1
    step = max(_cycles(core, turn), _CHAIN * _chain(core, turn)) / unroll
    once, turns = once_of(kernel)
    call = _CALL + _ONCE * max(0.0, _cycles(core, once) - turns * unroll * step)
    return Cost(call, max(step, 0.1))


def once_of(kernel: Kernel) -> tuple[list[Instruction], int]:
    """Return what runs once in a call with beta = 0 and whole turns of the loop, and how many turns are among it."""
    program = kernel.program
    titles = sorted(program.sections.items())
    once: list[Instruction] = []
    turns = 0
    for (first, title), (after, _) in zip(titles, [*titles[1:], (len(program.code), "")], strict=True):
        part = [(at, program.code[at]) for at in range(first, after) if not program.loop[0] <= at < program.loop[1]]
        if title.startswith(_LEFT_OUT):
            continue
        if title == "rest of k":
            part = [(at, i) for at, i in part if i.op.kind in ("branch", "label", "count")]
        turns += title.startswith(("first turn", "last turn"))
        once += [instruction for _, instruction in part]
    return once, turns


def _cycles(core: Core, code: list[Instruction]) -> float:
    """Cycles in which a core with nothing to wait for does these."""
    counts = {"loads": 0.0, "multiplies": 0.0, "shuffles": 0.0, "stores": 0.0, "width": 0.0}
    for instruction in code:
        kind = instruction.op.kind
        if kind == "label":
            continue
        counts["width"] += 1
        if kind == "store":
            counts["stores"] += 1
        elif any(isinstance(operand, Mem) for operand in instruction.operands):
            counts["loads"] += 1
        if kind in ("fma", "multiply"):
            counts["multiplies"] += 1
        elif kind == "simd":
            counts["shuffles"] += 1
    return max(count / float(getattr(core, name)) for name, count in counts.items())


def _chain(core: Core, turn: list[Instruction]) -> float:
    """Cycles of a turn in which the longest run of multiply-adds into one register waits for itself."""
    lengths: dict[object, int] = {}
    for instruction in turn:
        if instruction.op.kind == "fma":
            for register in instruction.writes():
                lengths[register] = lengths.get(register, 0) + 1
    return core.latency * max(lengths.values(), default=0)


@cache
def _listed(isa: str) -> dict[str, tuple[str, Cost]]:
    try:
        lines = (COST_FOLDER / f"{isa}.txt").read_text().splitlines()
    except OSError:
        return {}
    rows = (line.split() for line in lines if not line.startswith("#"))
    return {name: (spec_hash, Cost(float(call), float(step))) for name, spec_hash, call, step in rows}
