"""FCMLA of ARMv8.3-A (Linux: fcma): complex numbers multiplied as they lie, two complex64 or one complex128 a register.

A product is two instructions, as many as split columns need for the same elements; what is spared is all around them:
nothing is taken apart by ld2 and put together by st2, columns are half as long, so that fewer lanes are empty, and
complex128 lies right for every mode whichever way it is stored. Everything else, and float32 and float64, is NEON's.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..ir import Instruction, Reg, Vec
from . import neon_ops as op
from .base import Code, Column
from .neon_interleaved import Interleaved, InterleavedComplex, InterleavedDoubleComplex

__all__ = ["Fcma", "FcmaComplex", "FcmaDoubleComplex"]


class Fcma(Interleaved):
    """What both types share."""

    name = "fcma"
    description = "ARMv8.3-A's FCMLA, for complex types; float32 and float64 as NEON"
    cflags = ("-march=armv8.3-a",)
    fused = True
    adds_old = True
    base = "neon"

    # alpha, beta and signs: the element in every pair of lanes

    def load_scalar(self, registers: Sequence[Reg], field: str, columns: Sequence[Column]) -> Code:
        (register,) = registers
        return self._element(register, field) + ([] if field == "beta" else self._twice(register))

    def scale_fused(self, register: Reg, factor: Reg, temporary: Reg, column: Column) -> Code:
        operands = self.whole(temporary), self.whole(factor), self.whole(register)
        return [
            *self.zero(temporary),
            Instruction(op.FCMLA[1], operands),
            *self.multiply(register, register, self.lane(factor, 0), column),
            *self.add_register(register, temporary, column),
        ]


class FcmaComplex(Fcma, InterleavedComplex):
    """complex64: two in a register, the scalar operand's by number."""

    letter = "c"

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


class FcmaDoubleComplex(Fcma, InterleavedDoubleComplex):
    """complex128: one in a register, so that either factor can come first and a sum begin with a multiplication."""

    letter = "z"

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
