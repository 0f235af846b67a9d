"""Portable C99: the oracle and the fallback.  One element is one vector, an instruction is a statement."""

from __future__ import annotations

from collections.abc import Sequence

from ..abi import offset
from ..ir import Imm, Instruction, Mem, Op, Reg, Target, Vec
from ..machine import Machine
from ..registers import Pool
from .base import Code, Column, CWalker, Factor, Isa, ScalarOperand, VectorOperand

__all__ = ["ScalarComplex", "ScalarDouble", "ScalarDoubleComplex", "ScalarSingle"]


def _load(machine: Machine, instruction: Instruction) -> None:
    machine.set(instruction.operands[0], machine.get(instruction.operands[1]))


def _store(machine: Machine, instruction: Instruction) -> None:
    place, value = instruction.operands
    assert isinstance(place, Mem)
    machine.store(machine.address(place), machine.get(value))


def _argument(machine: Machine, instruction: Instruction) -> None:
    register, place = instruction.operands
    assert isinstance(register, Reg)
    assert isinstance(place, Mem)
    machine.general[register] = machine.memory[machine.address(place)]


def _copy(machine: Machine, instruction: Instruction) -> None:
    target, source = instruction.operands
    assert isinstance(target, Reg)
    machine.general[target] = machine.number(source)


def _add(machine: Machine, instruction: Instruction) -> None:
    target, other = instruction.operands
    assert isinstance(target, Reg)
    machine.general[target] += machine.number(other)


def _go(instruction: Instruction) -> str:
    target = instruction.operands[-1]
    assert isinstance(target, Target)
    return target.label


def _jump(machine: Machine, instruction: Instruction) -> str:
    return _go(instruction)


def _jump_if_clear(machine: Machine, instruction: Instruction) -> str | None:
    register, bit, _ = instruction.operands
    return None if machine.number(register) >> machine.number(bit) & 1 else _go(instruction)


def _count_down(machine: Machine, instruction: Instruction) -> str | None:
    _add_negative(machine, instruction)
    return _go(instruction) if machine.number(instruction.operands[0]) < 0 else None


def _count_on(machine: Machine, instruction: Instruction) -> str | None:
    _add_negative(machine, instruction)
    return _go(instruction) if machine.number(instruction.operands[0]) >= 0 else None


def _add_negative(machine: Machine, instruction: Instruction) -> None:
    register, amount, _ = instruction.operands
    assert isinstance(register, Reg)
    machine.general[register] -= machine.number(amount)


def _arithmetic(sign: int | None) -> object:
    """target = a * b without a sign, else target += sign * a * b."""

    def effect(machine: Machine, instruction: Instruction) -> None:
        target, first, second = instruction.operands
        product = machine.get(first)[0] * machine.get(second)[0]
        machine.set(target, (product if sign is None else machine.get(target)[0] + sign * product,))

    return effect


LOAD = Op("{0} = {1};", "wr", _load, "load")
STORE = Op("{0} = {1};", "rr", _store, "store")
ARGUMENT = Op("{0} = {1};", "wr", _argument, "int load")
COPY = Op("{0} = {1};", "wr", _copy, "int")
ADD = Op("{0} += {1};", "mr", _add, "int")
JUMP = Op("goto {0};", "-", _jump, "branch")
JUMP_IF_CLEAR = Op("if (!({0} >> {1} & 1)) goto {2};", "r--", _jump_if_clear, "branch")
COUNT_DOWN = Op("if (({0} -= {1}) < 0) goto {2};", "m--", _count_down, "branch")
COUNT_ON = Op("if (({0} -= {1}) >= 0) goto {2};", "m--", _count_on, "branch")
ZERO = Op("{0} = 0;", "w", lambda m, i: m.set(i.operands[0], (0,)), "simd")
NEGATE = Op("{0} = -{1};", "wr", lambda m, i: m.set(i.operands[0], (-m.get(i.operands[1])[0],)), "simd")
ADD_VALUE = Op(
    "{0} += {1};", "mr", lambda m, i: m.set(i.operands[0], (m.get(i.operands[0])[0] + m.get(i.operands[1])[0],)), "simd"
)
MULTIPLY = Op("{0} = {1} * {2};", "wrr", _arithmetic(None), "multiply")  # type: ignore[arg-type]
MULTIPLY_ADD = Op("{0} += {1} * {2};", "mrr", _arithmetic(1), "fma")  # type: ignore[arg-type]
MULTIPLY_SUBTRACT = Op("{0} -= {1} * {2};", "mrr", _arithmetic(-1), "fma")  # type: ignore[arg-type]


class Scalar(Isa):
    """Portable C, one real number a register."""

    name = "scalar"
    arch = None
    description = "portable C99"
    # Contraction would round differently from the other ISAs' proofs; GCC 12's vectoriser reads a row too far here.
    cflags = ("-ffp-contract=off", "-fno-tree-vectorize")
    template = "scalar/gemm.c.j2"
    turns = False
    vector_registers = 64

    @property
    def register_bytes(self) -> int:  # type: ignore[override]
        """A register holds one real number."""
        return self.dtype.real_bytes

    @property
    def general_registers(self) -> Sequence[Reg]:
        return [Reg("x", number) for number in range(64)]

    def columns(self, size: int, widths: str) -> list[Column]:
        return [Column(number, 1, "") for number in range(size)]

    def show_register(self, register: Reg) -> str:
        return register.name or f"{register.file}{register.number}"

    def show(self, instruction: Instruction) -> str:
        if instruction.op.kind == "label":  # C wants a statement after a label
            return f"{self._show(instruction.operands[0])}:;"
        return instruction.op.text.format(*(self._show(operand) for operand in instruction.operands))

    def _show(self, operand: object) -> str:
        match operand:
            case Reg():
                return self.show_register(operand)
            case Vec(reg=register):
                return self.show_register(register)
            case Imm(value=value):
                return str(value)
            case Target(label=label):
                return label
            case Mem(base=base, disp=disp):
                kind = "int64_t" if base.name == "args" and disp < offset("alpha") else self.dtype.real_c
                place = self.show_register(base) + (f" + {disp}" if disp else "")
                return f"*({kind} *)({place})"
        raise TypeError(operand)

    # Addresses and control

    def load_arguments(self, wanted: Sequence[tuple[Reg, str]]) -> Code:
        return [
            Instruction(ARGUMENT, (register, Mem(self.args, 1, disp=offset(field))), field)
            for register, field in wanted
        ]

    def constant(self, register: Reg, value: int) -> Code:
        return [Instruction(COPY, (register, Imm(value)))]

    def copy(self, register: Reg, source: Reg) -> Code:
        return [Instruction(COPY, (register, source))]

    def add(self, register: Reg, other: Reg | int) -> Code:
        if isinstance(other, Reg) and other.file == "#":
            other = other.number
        return [Instruction(ADD, (register, other if isinstance(other, Reg) else Imm(other)))]

    def jump(self, label: str) -> Code:
        return [Instruction(JUMP, (Target(label),))]

    def jump_if_clear(self, register: Reg, bit: int, label: str) -> Code:
        return [Instruction(JUMP_IF_CLEAR, (register, Imm(bit), Target(label)))]

    def count_down(self, register: Reg, amount: int, label: str, negative: bool) -> Code:
        return [Instruction(COUNT_DOWN if negative else COUNT_ON, (register, Imm(amount), Target(label)))]

    def prefetch(self, place: Reg) -> Code:
        return []

    def fetch(self, place: Reg, ahead: int, further: int) -> Code:
        return []

    # Arithmetic

    def _value(self, register: Reg) -> Vec:
        return Vec(register, "", 1)

    def zero(self, register: Reg) -> Code:
        return [Instruction(ZERO, (self._value(register),))]

    def multiply(self, target: Reg, vector: Reg, factor: object, column: Column) -> Code:
        assert isinstance(factor, Vec)
        return [Instruction(MULTIPLY, (self._value(target), self._value(vector), factor))]

    def multiply_add(self, target: Reg, vector: Reg, factor: object, column: Column, subtract: bool = False) -> Code:
        assert isinstance(factor, Vec)
        op = MULTIPLY_SUBTRACT if subtract else MULTIPLY_ADD
        return [Instruction(op, (self._value(target), self._value(vector), factor))]

    def negate(self, register: Reg, column: Column) -> Code:
        return [Instruction(NEGATE, (self._value(register), self._value(register)))]

    def add_register(self, target: Reg, source: Reg, column: Column) -> Code:
        return [Instruction(ADD_VALUE, (self._value(target), self._value(source)))]

    def load_scalar(self, registers: Sequence[Reg], field: str, columns: Sequence[Column]) -> Code:
        return [
            self.load_real(register, self.args, offset(field) + part * self.dtype.real_bytes)
            for part, register in enumerate(registers)
        ]

    def scalar_factor(self, register: Reg) -> object:
        return self._value(register)

    def load_real(self, register: Reg, base: Reg, disp: int) -> Instruction:
        """One real number."""
        return Instruction(LOAD, (self._value(register), Mem(base, 1, disp=disp)))

    def store_real(self, register: Reg, base: Reg, disp: int) -> Instruction:
        """One real number."""
        return Instruction(STORE, (Mem(base, 1, disp=disp), self._value(register)))

    # Operands and C

    def vector_operand(
        self, pool: Pool, general: Pool, base: Reg, stride: Reg, columns: Sequence[Column], contiguous: bool, sets: int
    ) -> VectorOperand:
        return _Elements(self, pool, general, base, stride, len(columns), contiguous)

    def scalar_operand(
        self,
        pool: Pool,
        general: Pool,
        base: Reg,
        stride: Reg,
        count: int,
        k_contiguous: bool,
        columns: int,
        sets: int,
    ) -> ScalarOperand:
        return _Elements(self, pool, general, base, stride, count, not k_contiguous)

    def c_walker(
        self,
        general: Pool,
        base: Reg,
        stride: Reg,
        columns: Sequence[Column],
        sums: Sequence[Sequence[tuple[Reg, ...]]],
        olds: Sequence[tuple[Reg, ...]],
    ) -> CWalker:
        return _CWalker(self, base, stride)


class _Elements(VectorOperand, ScalarOperand):
    """`count` elements a step: side by side, or each on a line of its own along k."""

    def __init__(
        self, isa: Scalar, pool: Pool, general: Pool, base: Reg, stride: Reg, count: int, adjacent: bool
    ) -> None:
        self.isa, self.base, self.stride, self.count, self.adjacent = isa, base, stride, count, adjacent
        reals = isa.dtype.reals
        taken = pool.take(count * reals, base.name.upper())
        self.registers = [tuple(taken[number * reals :][:reals]) for number in range(count)]
        self.lines = [base] if adjacent else [base, *general.take(count - 1, f"lines of {base.name}")]

    def setup(self) -> Code:
        code: Code = []
        for before, line in zip(self.lines, self.lines[1:], strict=False):
            code += self.isa.copy(line, before) + self.isa.add(line, self.stride)
        return code

    def load(self, step: int, steps: int) -> Code:
        size, real = self.isa.dtype.bytes, self.isa.dtype.real_bytes
        code: Code = []
        for number, parts in enumerate(self.registers):
            line, disp = (self.base, number * size) if self.adjacent else (self.lines[number], 0)
            code += [self.isa.load_real(register, line, disp + part * real) for part, register in enumerate(parts)]
        for line in self.lines:
            code += self.isa.add(line, self.stride if self.adjacent else size)
        return code

    def parts(self, step: int, column: int) -> tuple[Reg, ...]:
        return self.registers[column]

    def factor(self, step: int, index: int, part: int) -> Factor:
        return Factor(self.isa._value(self.registers[index][part]))

    def advance(self, steps: int) -> Code:
        return []


class _CWalker(CWalker):
    """One pointer that goes from column to column."""

    def __init__(self, isa: Scalar, base: Reg, stride: Reg) -> None:
        self.isa, self.base, self.stride = isa, base, stride

    def setup(self) -> Code:
        return []

    def load(self, first: int, olds: Sequence[tuple[Reg, ...]]) -> Code:
        return [
            self.isa.load_real(register, self.base, self._disp(number, part))
            for number, registers in enumerate(olds, first)
            for part, register in enumerate(registers)
        ]

    def store(self, sums: Sequence[tuple[Reg, ...]]) -> Code:
        return [
            self.isa.store_real(register, self.base, self._disp(number, part))
            for number, registers in enumerate(sums)
            for part, register in enumerate(registers)
        ]

    def next(self) -> Code:
        return self.isa.add(self.base, self.stride)

    def _disp(self, number: int, part: int) -> int:
        return number * self.isa.dtype.bytes + part * self.isa.dtype.real_bytes


class ScalarSingle(Scalar):
    """One float."""

    letter = "s"


class ScalarDouble(Scalar):
    """One double."""

    letter = "d"


class ScalarComplex(Scalar):
    """One float complex, its parts in registers of their own."""

    letter = "c"


class ScalarDoubleComplex(Scalar):
    """One double complex, its parts in registers of their own."""

    letter = "z"
