"""A batch in one call: the kernel's code once more for every problem, pointers a stride further on each time.

What a call costs (the jump there and back, masks, ``vzeroupper``) is paid once for all problems, and a core that runs
ahead finds the next problem's loads in the same stream of instructions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..ir import Instruction, Reg, written
from ..isa.base import Isa

if TYPE_CHECKING:
    from .tile import Program, Tile

__all__ = ["general_registers", "repeat"]

_KEPT = 4


def general_registers(isa: Isa, tile: Tile) -> list[Reg]:
    """General registers that a kernel may use for one problem."""
    registers = list(isa.general_registers)
    return registers[:-_KEPT] if tile.batch else registers


def repeat(program: Program) -> None:
    """Put the code for one problem, from ``program.body`` on, into a loop over problems."""
    isa, body = program.isa, program.code[program.body :]
    *registers, count = list(isa.general_registers)[-_KEPT:]
    program.general.purposes["problems left"] = [count]
    changed = written(body)
    fields = ("stride_a", "stride_b", "stride_c")
    before: list[Instruction] = isa.load_arguments([(count, "count")]) + isa.add(count, -1)
    after: list[Instruction] = []
    spare = list(isa.general_registers)[:3]
    for pointer, register, temporary, field in zip((isa.a, isa.b, isa.c), registers, spare, fields, strict=True):
        if pointer in changed:
            program.general.purposes[f"this problem's {pointer.name}"] = [register]
            before += isa.copy(register, pointer)
            after += isa.load_arguments([(temporary, field)]) + isa.add(register, temporary)
            after += isa.copy(pointer, register)
        else:
            program.general.purposes[field] = [register]
            before += isa.load_arguments([(register, field)])
            after += isa.add(pointer, register)
    again = isa.count_down(count, 1, "problem", negative=False)
    moved = len(before) + 1
    program.code[program.body :] = [*before, *isa.label("problem"), *body, *after, *again]
    program.sections = {
        position + (moved if position and position >= program.body else 0): title
        for position, title in program.sections.items()
    }
    program.loop = program.loop[0] + moved, program.loop[1] + moved
    program.sections[program.body + moved + len(body)] = "the next problem"
