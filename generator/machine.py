"""An interpreter for kernels: runs the instruction list on exact Python integers.

Every address that a kernel may touch is listed beforehand; any other access, a read of a register that was never
written and a jump to nowhere are faults.  Values are Python integers, so a result is equal or wrong, never close.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .ir import Imm, Instruction, Mem, Operand, Reg, Target, Vec

__all__ = ["Fault", "Machine"]

_LONGEST_RUN = 200_000


class Fault(Exception):
    """A kernel did what it must not: touched memory outside its operands, read an unwritten register, never ended."""


@dataclass
class Machine:
    """Registers and memory while a kernel runs.

    Parameters
    ----------
    lanes : int
        Real elements in a full vector register.
    element : int
        Bytes of a real element.
    memory : dict of int to int
        Value of each readable element by its address.
    writable : set of int
        Addresses that may be stored to.
    """

    lanes: int
    element: int
    memory: dict[int, int]
    writable: set[int]
    general: dict[Reg, int] = field(default_factory=dict)
    vectors: dict[Reg, tuple[int, ...]] = field(default_factory=dict)
    masks: dict[Reg, int] = field(default_factory=dict)
    flag: int | None = None
    executed: int = 0
    asked: list[int] = field(default_factory=list)
    passed: dict[str, int] = field(default_factory=dict)

    def run(self, program: Sequence[Instruction]) -> None:
        """Execute `program` from its first instruction until it falls off the end."""
        labels = {
            operand.label: position
            for position, instruction in enumerate(program)
            for operand in instruction.operands
            if instruction.op.kind == "label" and isinstance(operand, Target)
        }
        position = 0
        while position < len(program):
            self.executed += 1
            if self.executed > _LONGEST_RUN:
                raise Fault("the kernel does not end")
            instruction = program[position]
            if instruction.op.kind == "label":
                label = instruction.operands[0]
                assert isinstance(label, Target)
                self.passed[label.label] = self.passed.get(label.label, 0) + 1
            try:
                target = instruction.run(self)
            except KeyError as missing:
                raise Fault(f"{instruction.op.text}: nothing at {missing.args[0]}") from missing
            if target is None:
                position += 1
            elif target in labels:
                position = labels[target]
            else:
                raise Fault(f"{instruction.op.text}: no label {target}")

    def address(self, place: Mem) -> int:
        """Address of a memory operand, moving its base register on when it is post-indexed."""
        base = self.general[place.base]
        index = self.general[place.index] * place.scale if place.index else 0
        if place.post is not None:
            step = self.general[place.post] if isinstance(place.post, Reg) else place.post
            self.general[place.base] = base + step
        return base + index + place.disp

    def load(self, address: int, lanes: int) -> tuple[int, ...]:
        """Read `lanes` adjacent elements."""
        return tuple(self.memory[address + lane * self.element] for lane in range(lanes))

    def store(self, address: int, values: Sequence[int]) -> None:
        """Write adjacent elements."""
        for lane, value in enumerate(values):
            place = address + lane * self.element
            if place not in self.writable:
                raise Fault(f"a store to {place}, which is not the kernel's to write")
            self.memory[place] = value

    def get(self, operand: Operand) -> tuple[int, ...]:
        """Value of a vector operand, or of a memory operand used in place of one."""
        if isinstance(operand, Vec):
            value = self.vectors[operand.reg]
            if operand.lane is not None:
                return (value[operand.lane],) * self.lanes
            return value[: operand.lanes]
        if isinstance(operand, Mem):
            if operand.broadcast:
                return self.load(self.address(operand), 1) * operand.lanes
            return self.load(self.address(operand), operand.lanes)
        raise Fault(f"{operand} is no vector")

    def set(self, operand: Operand, values: Sequence[int]) -> None:
        """Write a vector register; lanes above the view become zero, as on NEON and with VEX and EVEX encodings."""
        if not isinstance(operand, Vec):
            raise Fault(f"{operand} is no vector register")
        self.vectors[operand.reg] = tuple(values) + (0,) * (self.lanes - len(values))

    def whole(self, operand: Operand) -> tuple[int, ...]:
        """All lanes of a vector register, whatever the view."""
        if not isinstance(operand, Vec):
            raise Fault(f"{operand} is no vector register")
        return self.vectors[operand.reg]

    def result(self) -> int:
        """What the flags say of: the last result that set them."""
        if self.flag is None:
            raise Fault("a conditional jump before anything set the flags")
        return self.flag

    def number(self, operand: Operand) -> int:
        """Value of a general register or a constant."""
        if isinstance(operand, Reg):
            return self.general[operand]
        if isinstance(operand, Imm):
            return operand.value
        raise Fault(f"{operand} is no general register")
