"""Instructions as data: what a kernel is before it is text.

An `Instruction` is an operation applied to operands.  The same objects are printed by the templates and executed by
`generator.machine`, so what was proved is what is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .machine import Machine

__all__ = ["Imm", "Instruction", "Mem", "Op", "Reg", "Target", "Vec", "written"]


@dataclass(frozen=True, slots=True)
class Reg:
    """A register: `file` is "v" (vector), "x" (general) or "k" (mask); parameters are general registers with a name.

    "#" is none: a number that stands where a general register could, which only ISAs that say so can use.
    """

    file: Literal["v", "x", "k", "#"]
    number: int
    name: str = ""

    def __hash__(self) -> int:
        # Proofs look registers up millions of times; the generated hash of three fields was their slowest part.
        return self.number


@dataclass(frozen=True, slots=True)
class Vec:
    """A vector register seen through `view`, an ISA's own word: "4s", "d", "z".  `lane` picks one and repeats it."""

    reg: Reg
    view: str
    lanes: int
    lane: int | None = None


@dataclass(frozen=True, slots=True)
class Mem:
    """Memory at ``base + index * scale + disp`` bytes, `lanes` real elements long.

    ``post`` is added to the base register after the access (AArch64); `broadcast` repeats one element (AVX-512).
    """

    base: Reg
    lanes: int
    index: Reg | None = None
    scale: int = 1
    disp: int = 0
    post: int | Reg | None = None
    broadcast: bool = False


@dataclass(frozen=True, slots=True)
class Imm:
    """A constant in the instruction."""

    value: int


@dataclass(frozen=True, slots=True)
class Target:
    """A label, or a jump to it."""

    label: str


Operand = Reg | Vec | Mem | Imm | Target


@dataclass(frozen=True, slots=True)
class Op:
    """One operation of an ISA.

    Parameters
    ----------
    text : str
        How it prints; ``{0}``, ``{1}`` ... are the operands as the ISA writes them.
    roles : str
        One letter an operand: ``r`` read, ``w`` written, ``m`` both, ``-`` neither.  Address registers are always read.
    effect : callable
        What it does to a `generator.machine.Machine`; returns the label to go on at, or None.
    kind : str
        How the header counts it ("fma", "load", "store", ...).
    """

    text: str
    roles: str
    effect: Callable[..., str | None]
    kind: str


@dataclass(frozen=True, slots=True)
class Instruction:
    """An operation and its operands, with a word on why it is there."""

    op: Op
    operands: tuple[Operand, ...]
    comment: str = ""
    mask: Reg | None = None
    zeroing: bool = field(default=False)

    def run(self, machine: Machine) -> str | None:
        """Execute on `machine`."""
        return self.op.effect(machine, self)

    def reads(self) -> set[Reg]:
        """Registers whose old value matters."""
        found = {self.mask} if self.mask else set()
        for role, operand in zip(self.op.roles, self.operands, strict=True):
            if isinstance(operand, Mem):
                found |= {operand.base} | ({operand.index} if operand.index else set())
                if isinstance(operand.post, Reg):
                    found.add(operand.post)
            elif role in "rm" or (role == "w" and self.mask and not self.zeroing):
                found |= _registers(operand)
        return {register for register in found if register is not None}

    def writes(self) -> set[Reg]:
        """Registers that change."""
        found: set[Reg] = set()
        for role, operand in zip(self.op.roles, self.operands, strict=True):
            if isinstance(operand, Mem):
                if operand.post is not None:
                    found.add(operand.base)
            elif role in "wm":
                found |= _registers(operand)
        return found


def _registers(operand: Operand) -> set[Reg]:
    if isinstance(operand, Reg):
        return {operand}
    if isinstance(operand, Vec):
        return {operand.reg}
    return set()


def written(instructions: Iterable[Instruction]) -> set[Reg]:
    """Every register that a list of instructions changes: the asm's clobbers and outputs."""
    return set().union(*(instruction.writes() for instruction in instructions))
