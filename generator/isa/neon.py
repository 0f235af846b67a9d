"""ARMv8.0-A Advanced SIMD: 32 registers of 128 bits, multiplication by a lane of a register at no extra cost.

Complex numbers are kept split: ld2 and st2 take interleaved memory apart and put it together, so a k step is four
multiply-adds on whole registers (papers' tables for C and Z imply this form).  Only instructions of the ARMv8.0-A base
are used; nothing past the end of an operand is read.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..abi import offset
from ..ir import Imm, Instruction, Mem, Reg, Target, Vec
from ..registers import Pool
from . import neon_ops as op
from .base import (
    SECOND_CACHE,
    Code,
    Column,
    CWalker,
    Isa,
    LineOperand,
    PairLines,
    ScalarLines,
    ScalarOperand,
    TurnedBlock,
    VectorOperand,
)
from .neon_operands import (
    ColumnsOfC,
    ElementLines,
    KLanes,
    LanePairs,
    Lines,
    SideLanes,
    TurnedLines,
    TurnedPairs,
    Vectors,
)
from .turn import half_turn

__all__ = ["Neon", "NeonComplex", "NeonDouble", "NeonDoubleComplex", "NeonSingle"]


class Neon(Isa):
    """What the four types share."""

    name = "neon"
    arch = "aarch64"
    description = "ARMv8.0-A Advanced SIMD"
    cflags = ("-march=armv8-a",)
    template = "asm/gemm.c.j2"
    vector_registers = 32
    register_bytes = 16
    first_by_multiply = True

    @property
    def full(self) -> str:
        """Arrangement of a whole register."""
        return "4s" if self.dtype.real_bytes == 4 else "2d"

    @property
    def letter_of_lane(self) -> str:
        """Name of one lane."""
        return "s" if self.dtype.real_bytes == 4 else "d"

    @property
    def general_registers(self) -> Sequence[Reg]:
        # x0-x3 are left for the four parameters, x18 belongs to the platform; x19 and up cost their saving.
        return [Reg("x", number) for number in (*range(4, 18), *range(19, 29))]

    @property
    def vector_file(self) -> list[Reg]:
        # The low halves of v8-v15 belong to the caller: saving them costs instructions, so they come last.
        return [Reg("v", number) for number in (*range(16, 32), *range(8), *range(8, 16))]

    def columns(self, size: int, widths: str) -> list[Column]:
        return [Column(first, min(self.lanes, size - first), self.full) for first in range(0, size, self.lanes)]

    def show_register(self, register: Reg) -> str:
        return register.name or f"{register.file}{register.number}"

    def show(self, instruction: Instruction) -> str:
        return instruction.op.text.format(*(self._show(operand) for operand in instruction.operands))

    def _show(self, operand: object) -> str:
        match operand:
            case Reg(name=name, number=number):
                return f"%[{name}]" if name else f"x{number}"
            case Vec(reg=reg, view=view, lane=None) if view in ("q", "d", "s"):
                return f"{view}{reg.number}"
            case Vec(reg=reg, view=view) if view.startswith("."):
                return f"v{reg.number}{view}"
            case Vec(reg=reg, view=view, lane=None):
                return f"v{reg.number}.{view}"
            case Vec(reg=reg, view=view, lane=lane):
                return f"v{reg.number}.{view}[{lane}]"
            case Imm(value=value):
                return f"#{value}"
            case Target(label=label):
                return f".L{label}%="
            case Mem(base=base, post=None, disp=disp, index=None):
                return f"[{self._show(base)}, #{disp}]" if disp else f"[{self._show(base)}]"
            case Mem(base=base, post=None, index=Reg() as index):
                return f"[{self._show(base)}, {self._show(index)}]"
            case Mem(base=base, post=int() as step):
                return f"[{self._show(base)}], #{step}"
            case Mem(base=base, post=Reg() as step):
                return f"[{self._show(base)}], {self._show(step)}"
        raise TypeError(operand)

    # Addresses and control

    def load_arguments(self, wanted: Sequence[tuple[Reg, str]]) -> Code:
        """Fields of tw_args, neighbours two at a time."""
        code: Code = []
        rest = sorted(wanted, key=lambda pair: offset(pair[1]))
        while rest:
            register, field = rest.pop(0)
            place = Mem(self.args, 1, disp=offset(field))
            if rest and offset(rest[0][1]) == offset(field) + 8:
                other, other_field = rest.pop(0)
                code.append(Instruction(op.LDP_X, (register, other, place), f"{field}, {other_field}"))
            else:
                code.append(Instruction(op.LDR_X, (register, place), field))
        return code

    def constant(self, register: Reg, value: int) -> Code:
        return [Instruction(op.MOV, (register, Imm(value)))]

    def copy(self, register: Reg, source: Reg) -> Code:
        return [Instruction(op.MOV, (register, source))]

    def add(self, register: Reg, other: Reg | int) -> Code:
        return [Instruction(op.ADD, (register, register, other if isinstance(other, Reg) else Imm(other)))]

    def add_to(self, register: Reg, first: Reg, second: Reg | int) -> Code:
        """register = first + second."""
        return [Instruction(op.ADD, (register, first, second if isinstance(second, Reg) else Imm(second)))]

    def subtract_from(self, register: Reg, first: Reg, amount: int) -> Code:
        """register = first - amount."""
        return [Instruction(op.SUB, (register, first, Imm(amount)))]

    def jump(self, label: str) -> Code:
        return [Instruction(op.B, (Target(label),))]

    def jump_if_clear(self, register: Reg, bit: int, label: str) -> Code:
        return [Instruction(op.TBZ, (register, Imm(bit), Target(label)))]

    def jump_if_set(self, register: Reg, bit: int, label: str) -> Code:
        return [Instruction(op.TBNZ, (register, Imm(bit), Target(label)))]

    def count_down(self, register: Reg, amount: int, label: str, negative: bool) -> Code:
        jump = op.B_MI if negative else op.B_PL
        return [Instruction(op.SUBS, (register, register, Imm(amount))), Instruction(jump, (Target(label),))]

    def prefetch(self, place: Reg) -> Code:
        return [Instruction(op.PRFM, (Mem(place, 1),))]

    def fetch(self, place: Reg, ahead: int, further: int) -> Code:
        kind = op.PRFM_READ if ahead < SECOND_CACHE else op.PRFM_READ_SECOND
        return [Instruction(kind, (Mem(place, 1, disp=ahead),))]

    # Arithmetic

    def whole(self, register: Reg) -> Vec:
        """The register, all lanes."""
        return Vec(register, self.full, self.lanes)

    def lane(self, register: Reg, number: int) -> Vec:
        """One lane, as the second factor of a multiplication."""
        return Vec(register, self.letter_of_lane, self.lanes, number)

    def zero(self, register: Reg) -> Code:
        return [Instruction(op.MOVI, (Vec(register, "2d", self.lanes),))]

    def multiply(self, target: Reg, vector: Reg, factor: object, column: Column) -> Code:
        assert isinstance(factor, Vec)
        return [Instruction(op.FMUL, (self.whole(target), self.whole(vector), factor))]

    def multiply_add(self, target: Reg, vector: Reg, factor: object, column: Column, subtract: bool = False) -> Code:
        assert isinstance(factor, Vec)
        kind = op.FMLS if subtract else op.FMLA
        return [Instruction(kind, (self.whole(target), self.whole(vector), factor))]

    def negate(self, register: Reg, column: Column) -> Code:
        return [Instruction(op.FNEG, (self.whole(register), self.whole(register)))]

    def add_register(self, target: Reg, source: Reg, column: Column) -> Code:
        return [Instruction(op.FADD, (self.whole(target), self.whole(target), self.whole(source)))]

    def load_scalar(self, registers: Sequence[Reg], field: str, columns: Sequence[Column]) -> Code:
        return [
            Instruction(
                op.LDR, (Vec(register, self.letter_of_lane, 1), Mem(self.args, 1, disp=offset(field) + part * size))
            )
            for size in (self.dtype.real_bytes,)
            for part, register in enumerate(registers)
        ]

    def scalar_factor(self, register: Reg) -> object:
        return self.lane(register, 0)

    def reduce(self, rows: Sequence[Reg], target: Reg, pool: Pool) -> Code:
        """target's lane r = the sum of the lanes of rows[r]."""
        pairs = [(rows[number], rows[min(number + 1, len(rows) - 1)]) for number in range(0, len(rows), 2)]
        if self.lanes == 2:
            return [self._add_pairs(target, *pairs[0])]
        other = pool.one("sums")
        code = [self._add_pairs(target, *pairs[0])]
        second = target
        if len(pairs) == 2:
            code.append(self._add_pairs(other, *pairs[1]))
            second = other
        pool.give_back([other])
        return [*code, self._add_pairs(target, target, second)]

    def _add_pairs(self, target: Reg, first: Reg, second: Reg) -> Instruction:
        return Instruction(op.FADDP, (self.whole(target), self.whole(first), self.whole(second)))

    # Operands and C

    def line_operand(self, pool: Pool, general: Pool, base: Reg, stride: Reg, count: int, sets: int) -> LineOperand:
        return Lines(self, pool, general, base, stride, count, sets)

    def whole_factor(self, register: Reg) -> object:
        return self.whole(register)

    def vector_operand(
        self, pool: Pool, general: Pool, base: Reg, stride: Reg, columns: Sequence[Column], contiguous: bool, sets: int
    ) -> VectorOperand:
        if not contiguous and sum(column.span for column in columns) > 1:
            return self._pairs(pool, general, base, stride, columns, sets)
        # A single row contiguous along k is a column whose next step is the next element.
        return Vectors(self, pool, general, base, stride if contiguous else self.dtype.bytes, columns, sets)

    def _pairs(
        self, pool: Pool, general: Pool, base: Reg, stride: Reg, columns: Sequence[Column], sets: int
    ) -> VectorOperand:
        """Access to complex columns whose elements lie a stride apart."""
        return TurnedPairs(self, pool, general, base, stride, columns)

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
        kind = KLanes if k_contiguous else SideLanes
        return kind(self, pool, general, base, stride, count, sets)

    def c_walker(
        self,
        general: Pool,
        base: Reg,
        stride: Reg,
        columns: Sequence[Column],
        sums: Sequence[Sequence[tuple[Reg, ...]]],
        olds: Sequence[tuple[Reg, ...]],
    ) -> CWalker:
        return ColumnsOfC(self, general, base, stride, columns, sums, olds)

    def real(self) -> Neon:
        """The same ISA for the type of an element's real part."""
        return self if not self.dtype.complex else NeonSingle() if self.dtype.real_bytes == 4 else NeonDouble()

    # C summed transposed

    def piece(self, rows: int) -> Column:
        return Column(0, rows, self.full)

    def interleave(self, kind: str, target: Reg, first: Reg, second: Reg) -> Instruction:
        """Interleave elements or halves of two registers, as `turn` wants it."""
        zip_op = op.ZIP[kind]
        view = "2d" if kind.endswith("2") else self.full
        return Instruction(zip_op, tuple(Vec(register, view, self.lanes) for register in (target, first, second)))

    def turn_block(self, rows: Sequence[tuple[Reg, ...]], pool: Pool, column: Column) -> tuple[Code, TurnedBlock]:
        code: Code = []
        columns = []
        registers: list[Reg] = []
        for part in range(self.parts_per_column):
            turning, recipes, used = half_turn(
                [parts[part] for parts in rows], self.transposed_rows, pool, self.interleave
            )
            code += turning
            columns.append(recipes)
            registers += used
        return code, TurnedBlock(registers, columns)

    def column_of(self, block: TurnedBlock, position: int, pool: Pool, keep: bool) -> tuple[Code, tuple[Reg, ...]]:
        # st2 stores neighbours only, so the last interleaving puts both parts of a column side by side.
        parts = self.parts_per_column
        targets = pool.take(parts, "column", adjacent=parts)
        code: Code = []
        for target, recipes in zip(targets, block.columns, strict=True):
            recipe = recipes[position]
            assert isinstance(recipe, tuple)
            kind, first, second = recipe
            code.append(self.interleave(kind, target, first, second))
        return code, tuple(targets)


class NeonSingle(Neon):
    """float32, four lanes."""

    letter = "s"
    forms = frozenset({"outer", "dot"})


class NeonDouble(Neon):
    """float64, two lanes."""

    letter = "d"
    forms = frozenset({"outer", "dot"})


class NeonComplex(Neon):
    """complex64: four elements in two registers."""

    letter = "c"
    forms = frozenset({"outer", "quad", "paired"})
    adds_old = True

    def pair_vector(self, pool: Pool, general: Pool, base: Reg, stride: Reg) -> VectorOperand:
        real = self.real()
        return Vectors(real, pool, general, base, stride, real.columns(4, ""), sets=2)

    def pair_lines(
        self, pool: Pool, general: Pool, base: Reg, stride: Reg, count: int, groups: Sequence[range]
    ) -> PairLines:
        return TurnedLines(self, pool, general, base, stride, count, groups)

    def scalar_lines(self, pool: Pool, general: Pool, base: Reg, stride: Reg, groups: Sequence[range]) -> ScalarLines:
        return ElementLines(self, pool, general, base, stride, groups)

    def join_products(
        self, sums: Sequence[tuple[Reg, Reg]], pool: Pool, conjugate_vector: bool, conjugate_scalar: bool
    ) -> Code:
        """Four products of four elements each, by real (r) and imaginary (i) part of vector and scalar."""
        (real, imaginary), (real2, imaginary2) = sums[0], sums[-1]
        rr, ir = pool.take(2, "products")
        pool.give_back([rr, ir])
        ii, ri = real, imaginary
        code = [
            (op.UZP1, rr, real, real2),
            (op.UZP2, ir, real, real2),
            (op.UZP2, ii, imaginary, imaginary2),
            (op.UZP1, ri, imaginary, imaginary2),
            (op.FSUB if conjugate_vector == conjugate_scalar else op.FADD, real, rr, ii),
        ]
        if conjugate_scalar:
            code.append((op.FSUB, imaginary, ir, ri))
        else:
            code.append((op.FSUB if conjugate_vector else op.FADD, imaginary, ri, ir))
        return [Instruction(kind, tuple(map(self.whole, registers))) for kind, *registers in code]

    def upper_half(self, target: Reg, source: Reg) -> Code:
        return [self.interleave("high2", target, source, source)]


class NeonDoubleComplex(Neon):
    """complex128: two elements in two registers."""

    letter = "z"
    forms = frozenset({"outer", "paired"})
    adds_old = True

    def _pairs(
        self, pool: Pool, general: Pool, base: Reg, stride: Reg, columns: Sequence[Column], sets: int
    ) -> VectorOperand:
        return LanePairs(self, pool, general, base, stride, columns, sets)
