"""Which instructions matter: those that lead to nothing are dropped before a kernel is printed or proved."""

from __future__ import annotations

from collections.abc import Sequence

from .ir import Instruction, Reg, Target

__all__ = ["needed"]

_REMOVABLE = frozenset({"int", "int load", "simd", "broadcast"})
_FIRST_BIT = {"x": 8, "v": 80, "k": 160}  # parameters have numbers below zero


def needed(code: Sequence[Instruction]) -> list[bool]:
    """Tell, for each instruction, whether anything depends on it.

    What is ever unneeded: a stride that a one-column tile does not use, a column of turned rows beyond the end of k.
    """
    reads = [_bits(instruction.reads()) for instruction in code]
    writes = [_bits(instruction.writes()) for instruction in code]
    keep = [True] * len(code)
    while True:
        live = _live_after(code, reads, writes, keep)
        dropped = [
            position
            for position, instruction in enumerate(code)
            if keep[position]
            and instruction.op.kind in _REMOVABLE
            and writes[position]
            and not writes[position] & live[position]
        ]
        if not dropped:
            return keep
        for position in dropped:
            keep[position] = False


def _bits(registers: set[Reg]) -> int:
    """Registers as a set of bits: sets of registers themselves made this the slowest part of generating."""
    bits = 0
    for register in registers:
        bits |= 1 << (_FIRST_BIT[register.file] + register.number)
    return bits


def _live_after(code: Sequence[Instruction], reads: list[int], writes: list[int], keep: list[bool]) -> list[int]:
    """Registers whose values are read later, after each instruction."""
    targets = [_target(instruction) for instruction in code]
    labels = {
        label: position
        for position, (instruction, label) in enumerate(zip(code, targets, strict=True))
        if instruction.op.kind == "label"
    }
    before = [0] * (len(code) + 1)
    after = [0] * len(code)
    changed = True
    while changed:
        changed = False
        for position in range(len(code) - 1, -1, -1):
            out = before[position + 1]
            if code[position].op.kind == "branch":
                label = targets[position]
                assert label is not None
                out = before[labels[label]] | (0 if _always(code[position]) else out)
            after[position] = out
            new = reads[position] | (out & ~writes[position]) if keep[position] else out
            if new != before[position]:
                before[position] = new
                changed = True
    return after


def _target(instruction: Instruction) -> str | None:
    last = instruction.operands[-1] if instruction.operands else None
    return last.label if isinstance(last, Target) else None


def _always(instruction: Instruction) -> bool:
    return instruction.op.text.split()[0] in ("b", "jmp", "goto")
