"""Complex numbers on NEON as they lie in memory: columns of two complex64 or one complex128, nothing taken apart.

FCMLA multiplies them so (`fcma`). Without it there is the *paired* form: re(s) v and im(s) v are summed apart, each by
one multiplication by a lane, and made one column after the k loop,

    C = re(s) v + (-1, 1) swap(im(s) v)

as x86 does. It takes twice the registers for its sums and two instructions more for each register of C. It spares what
splitting takes: ld2, which on Kunpeng 920 and Neoverse N1 works on the pipes that multiply, turning of lines that are
contiguous along k (z), and lanes that are empty where the vector dimension is odd.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from ..abi import offset
from ..ir import Imm, Instruction, Mem, Reg, Vec
from ..registers import Pool
from . import neon_ops as op
from .base import Code, Column, CWalker, VectorOperand
from .neon import Neon, NeonComplex, NeonDoubleComplex
from .neon_operands import ColumnsOfC, KLanes, TurnedLines, Vectors

__all__ = ["Interleaved", "InterleavedComplex", "InterleavedDoubleComplex"]


class Interleaved(Neon):
    """Columns, operands and C."""

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

    def flip(self, register: Reg, signs: Reg, column: Column) -> Code:
        return [Instruction(op.FMUL, (self.whole(register), self.whole(register), self.whole(signs)))]

    def _element(self, register: Reg, field: str) -> Code:
        """A complex number of tw_args, once."""
        view = "d" if self.lanes == 4 else "q"
        return [Instruction(op.LDR, (Vec(register, view, 2), Mem(self.args, 2, disp=offset(field))))]

    def _twice(self, register: Reg) -> Code:
        """Repeat it over the register."""
        return [] if self.lanes == 2 else [self.interleave("low2", register, register, register)]


class InterleavedComplex(Interleaved):
    """complex64: two in a register."""

    def _lines(self, pool: Pool, general: Pool, base: Reg, stride: Reg, count: int, sets: int) -> VectorOperand:
        return TurnedLines(self, pool, general, base, stride, count, [range(-(-count // 2))])


class InterleavedDoubleComplex(Interleaved):
    """complex128: one in a register, so that lines along k need no turning."""

    turns = False

    def _lines(self, pool: Pool, general: Pool, base: Reg, stride: Reg, count: int, sets: int) -> VectorOperand:
        return _LinesOfColumns(self, pool, general, base, stride, count, sets)


class _LinesOfColumns(KLanes, VectorOperand):
    """complex128 lines contiguous along k: a load a step is a column of one element, with nothing to turn."""

    def parts(self, step: int, column: int) -> tuple[Reg, ...]:
        return (self._set(step)[column],)


class _Paired(Interleaved):
    """What both types share of the paired form."""

    paired = True
    parts_apart = True

    def load_scalar(self, registers: Sequence[Reg], field: str, columns: Sequence[Column]) -> Code:
        if field in ("pair", "flip"):
            (register,) = registers
            return self._element(register, field) + self._twice(register)
        # alpha and beta: the real part once, and the imaginary one as `scale_pairs` wants it, (-im, im).
        real, imaginary = registers
        places = [Mem(self.args, 1, disp=offset(field) + part * self.dtype.real_bytes) for part in (0, 1)]
        return [
            Instruction(op.LDR, (Vec(imaginary, self.letter_of_lane, 1), places[1])),
            Instruction(op.FNEG, (self.whole(real), self.whole(imaginary))),
            self.interleave("low", imaginary, real, imaginary),
            *self._twice(imaginary),
            Instruction(op.LDR, (Vec(real, self.letter_of_lane, 1), places[0])),
        ]

    def combine(self, first: Reg, second: Reg, pair: Reg, column: Column) -> Code:
        return [self._swap(second, second), *self.multiply_add(first, second, self.whole(pair), column)]

    def scale_pairs(self, register: Reg, factor: Sequence[Reg], temporary: Reg, column: Column) -> Code:
        real, imaginary = factor
        return [
            self._swap(temporary, register),
            *self.multiply(register, register, self.lane(real, 0), column),
            *self.multiply_add(register, temporary, self.whole(imaginary), column),
        ]

    @abstractmethod
    def _swap(self, target: Reg, source: Reg) -> Instruction:
        """target = source, real and imaginary parts exchanged."""


class _PairedComplex(_Paired, InterleavedComplex, NeonComplex):
    def _swap(self, target: Reg, source: Reg) -> Instruction:
        return Instruction(op.REV64, (self.whole(target), self.whole(source)))


class _PairedDoubleComplex(_Paired, InterleavedDoubleComplex, NeonDoubleComplex):
    def _swap(self, target: Reg, source: Reg) -> Instruction:
        views = [Vec(register, "16b", self.lanes) for register in (target, source, source)]
        return Instruction(op.EXT, (*views, Imm(8)))


NeonComplex.variants = {"paired": _PairedComplex}
NeonDoubleComplex.variants = {"paired": _PairedDoubleComplex}
