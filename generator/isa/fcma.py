"""FCMLA of ARMv8.3-A (Linux: fcma): complex numbers multiplied as they lie, two complex64 or one complex128 a register.

A product is two instructions, as many as split columns need for the same elements; what is spared is all around them:
nothing is taken apart by ld2 and put together by st2, columns are half as long, so that fewer lanes are empty, and
complex128 lies right for every mode whichever way it is stored. Everything else, and float32 and float64, is NEON's.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from ..abi import offset
from ..ir import Instruction, Mem, Reg, Vec
from ..registers import Pool
from . import neon_ops as op
from .base import Code, Column, CWalker, VectorOperand
from .neon import Neon
from .neon_operands import ColumnsOfC, KLanes, TurnedLines, Vectors

__all__ = ["Fcma", "FcmaComplex", "FcmaDoubleComplex"]


class Fcma(Neon):
    """What both types share."""

    name = "fcma"
    description = "ARMv8.3-A's FCMLA, for complex types; float32 and float64 as NEON"
    cflags = ("-march=armv8.3-a",)
    fused = True
    adds_old = True
    base = "neon"

    def columns(self, size: int, widths: str) -> list[Column]:
        span = self.column_span
        return [Column(first, min(span, size - first), self.full) for first in range(0, size, span)]

    def _reals(self, columns: Sequence[Column]) -> list[Column]:
        """Columns of as many reals."""
        reals = self.dtype.reals
        return [Column(reals * column.first, reals * column.span, column.width) for column in columns]

    def vector_operand(
        self, pool: Pool, general: Pool, base: Reg, stride: Reg, columns: Sequence[Column], contiguous: bool, sets: int
    ) -> VectorOperand:
        count = sum(column.span for column in columns)
        if contiguous or count == 1:
            step = stride if contiguous else self.dtype.bytes
            return Vectors(self.real(), pool, general, base, step, self._reals(columns), sets)
        return self._lines(pool, general, base, stride, count, sets)

    @abstractmethod
    def _lines(self, pool: Pool, general: Pool, base: Reg, stride: Reg, count: int, sets: int) -> VectorOperand:
        """Access to `count` lines that are contiguous along k."""

    def c_walker(
        self,
        general: Pool,
        base: Reg,
        stride: Reg,
        columns: Sequence[Column],
        sums: Sequence[Sequence[tuple[Reg, ...]]],
        olds: Sequence[tuple[Reg, ...]],
    ) -> CWalker:
        return ColumnsOfC(self.real(), general, base, stride, self._reals(columns), sums, olds)

    # alpha, beta and signs: the element in every pair of lanes

    def load_scalar(self, registers: Sequence[Reg], field: str, columns: Sequence[Column]) -> Code:
        (register,) = registers
        view = "d" if self.lanes == 4 else "q"
        code = [Instruction(op.LDR, (Vec(register, view, 2), Mem(self.args, 2, disp=offset(field))))]
        if self.lanes == 2 or field == "beta":  # which multiplies by number
            return code
        return [*code, self.interleave("low2", register, register, register)]

    def flip(self, register: Reg, signs: Reg, column: Column) -> Code:
        return [Instruction(op.FMUL, (self.whole(register), self.whole(register), self.whole(signs)))]

    def scale_fused(self, register: Reg, factor: Reg, temporary: Reg, column: Column) -> Code:
        operands = self.whole(temporary), self.whole(factor), self.whole(register)
        return [
            *self.zero(temporary),
            Instruction(op.FCMLA[1], operands),
            *self.multiply(register, register, self.lane(factor, 0), column),
            *self.add_register(register, temporary, column),
        ]


class FcmaComplex(Fcma):
    """complex64: two in a register, the scalar operand's by number."""

    letter = "c"

    def _lines(self, pool: Pool, general: Pool, base: Reg, stride: Reg, count: int, sets: int) -> VectorOperand:
        return TurnedLines(self, pool, general, base, stride, count, [range(-(-count // 2))])

    def multiply_fused(
        self, target: Reg, vector: Reg, factor: object, first: bool, conjugates: tuple[bool, bool]
    ) -> tuple[Code, Code]:
        assert isinstance(factor, Vec)
        assert factor.lane is not None
        element = Vec(factor.reg, factor.view, factor.lanes, factor.lane // 2)
        operands = self.whole(target), self.whole(vector), element
        begin = self.zero(target) if first else []
        turn = 3 if any(conjugates) else 1
        return [*begin, Instruction(op.FCMLA[0], operands)], [Instruction(op.FCMLA[turn], operands)]

    def conjugates_sums(self, conjugates: tuple[bool, bool]) -> bool:
        # Only the first factor can be conjugated, and only the second picked by number: v conj(s) = conj(conj(v) s).
        return conjugates[1]


class FcmaDoubleComplex(Fcma):
    """complex128: one in a register, so that either factor can come first and a sum begin with a multiplication."""

    letter = "z"
    turns = False

    def _lines(self, pool: Pool, general: Pool, base: Reg, stride: Reg, count: int, sets: int) -> VectorOperand:
        return _LinesOfColumns(self, pool, general, base, stride, count, sets)

    def multiply_fused(
        self, target: Reg, vector: Reg, factor: object, first: bool, conjugates: tuple[bool, bool]
    ) -> tuple[Code, Code]:
        assert isinstance(factor, Vec)
        one, two = (vector, factor.reg) if conjugates[0] else (factor.reg, vector)
        operands = self.whole(target), self.whole(one), self.whole(two)
        begin = (
            Instruction(op.FMUL, (*operands[::2], self.lane(one, 0))) if first else Instruction(op.FCMLA[0], operands)
        )
        return [begin], [Instruction(op.FCMLA[3 if any(conjugates) else 1], operands)]


class _LinesOfColumns(KLanes, VectorOperand):
    """complex128 lines contiguous along k: a load a step is a column of one element, with nothing to turn."""

    def parts(self, step: int, column: int) -> tuple[Reg, ...]:
        return (self._set(step)[column],)
