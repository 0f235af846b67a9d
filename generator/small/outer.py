"""Kernels by outer products: each k step multiplies columns of vectors by single elements.

    C[i, j] += op(A)[i, p] * op(B)[p, j]        for one p after another

The k loop is IAAT's (arXiv 2208.09822; templates I, M1, M2, E and SUB of the same group's IrGEMM, section 4): the
vector operand has two register sets that take turns ("ping-pong"), loads for a step stand between the multiplications
of the step before, and a turn of the loop is `unroll` steps.  What is left of k goes through halves of a turn, quarter
turns and so on, each loading exactly its own steps: the printed SUB of the papers loads one step too many for odd k.
"""

from __future__ import annotations

from ..ir import Instruction, Reg
from ..isa.base import Isa
from ..registers import OutOfRegisters, Pool
from ..schedule import interleave
from .epilogue import write_c
from .tile import Program, Tile

__all__ = ["outer_product"]

Accumulators = list[list[tuple[Reg, ...]]]


def outer_product(isa: Isa, tile: Tile) -> Program:
    """Build the kernel.

    Raises
    ------
    OutOfRegisters
        When the tile does not fit the ISA.
    """
    wanted = [(2, 2), (2, 1), (1, 1)] if tile.sets == 2 else [(1, 1)]
    for sets in wanted[:-1]:
        try:
            return _Outer(isa, tile, sets).program
        except OutOfRegisters:
            continue
    return _Outer(isa, tile, wanted[-1]).program


class _Outer:
    """One attempt, with so many register sets for the vector and the scalar operand."""

    def __init__(self, isa: Isa, tile: Tile, sets: tuple[int, int]) -> None:
        self.isa, self.tile = isa, tile
        columns = isa.columns(tile.vector_size, tile.widths)
        vectors = Pool([register for register in isa.vector_file if register not in isa.kept(columns)])
        general = Pool(isa.general_registers)
        self.program = Program(isa, tile, columns, vectors, general)
        parts = isa.parts_per_accumulator
        pairs = 2 if isa.split else 1
        each = len(columns) * parts
        sums = [vectors.take_near(each, "C", adjacent=pairs) for _ in range(tile.scalar_size)]
        self.accumulators: Accumulators = [
            [tuple(registers[column * parts :][:parts]) for registers in sums] for column in range(len(columns))
        ]
        self.k = general.one("k")
        self.lda, self.ldb = general.one("lda"), general.one("ldb")
        a_contiguous, b_contiguous = not tile.mode.a_transposed, tile.mode.b_transposed
        operands = [(isa.a, self.lda, a_contiguous), (isa.b, self.ldb, b_contiguous)]
        if tile.transposed:
            operands.reverse()
        (base, stride, contiguous), (other, other_stride, other_contiguous) = operands
        self.vector = isa.vector_operand(vectors, general, base, stride, columns, contiguous, sets[0])
        self.scalar = isa.scalar_operand(
            vectors, general, other, other_stride, tile.scalar_size, not other_contiguous, len(columns), sets[1]
        )
        self._build()

    def _build(self) -> None:
        isa, program, unroll = self.isa, self.program, self.tile.unroll
        program.section("setup")
        program.add(isa.load_arguments([(self.k, "k"), (self.lda, "lda"), (self.ldb, "ldb")]))
        program.add(isa.start(program.general, program.columns))
        if self.tile.prefetch:
            program.add(self._prefetch())
        program.add(self.vector.setup(), self.scalar.setup())
        if isa.first_by_multiply:
            program.add(isa.count_down(self.k, unroll, "main", negative=False))
            program.section(f"fewer than {unroll} steps" if unroll > 1 else "no steps")
            program.add(self._clear(), isa.jump("rest"), isa.label("main"))
        else:
            program.add(self._clear(), isa.count_down(self.k, unroll, "rest", negative=True))
        if self.tile.pipeline:
            self._pipelined_loop()
        else:
            self._loop()
        program.section("rest of k")
        program.add(isa.label("rest"))
        steps = unroll // 2
        while steps:
            skip = f"skip{steps}"
            program.add(isa.jump_if_clear(self.k, steps.bit_length() - 1, skip))
            program.add(self._turn(steps), isa.label(skip))
            steps //= 2
        write_c(program, self.accumulators, self._spare())
        program.add(isa.finish())
        program.finish()

    def _loop(self) -> None:
        """Turns that load for themselves."""
        isa, program, unroll = self.isa, self.program, self.tile.unroll
        if isa.first_by_multiply:
            program.section("first turn (I)")
            program.add(self._turn(unroll, first=True), isa.count_down(self.k, unroll, "rest", negative=True))
        program.section(f"k loop, {unroll} steps a turn")
        start = len(program.code)
        program.add(isa.label("loop"), self._turn(unroll), isa.count_down(self.k, unroll, "loop", negative=False))
        program.loop = (start, len(program.code))

    def _pipelined_loop(self) -> None:
        """Turns that load for the next one: loads, I, M ..., E; or loads and one turn that is both first and last."""
        isa, program, unroll = self.isa, self.program, self.tile.unroll
        program.section("loads for the first turn")
        program.add(self._loads(0, unroll))
        if isa.first_by_multiply:
            program.add(isa.count_down(self.k, unroll, "only", negative=True))
            program.section("first turn (I), loading for the next")
            program.add(self._turn(unroll, first=True, loaded=True, ahead=True))
        program.add(isa.count_down(self.k, unroll, "last", negative=True))
        program.section(f"k loop (M), {unroll} steps a turn, loading for the next")
        start = len(program.code)
        program.add(isa.label("loop"), self._turn(unroll, loaded=True, ahead=True))
        program.add(isa.count_down(self.k, unroll, "loop", negative=False))
        program.loop = (start, len(program.code))
        program.section("last turn (E)")
        program.add(isa.label("last"), self._turn(unroll, loaded=True))
        if isa.first_by_multiply:
            program.add(isa.jump("rest"))
            program.section("first and last turn (I and E)")
            program.add(isa.label("only"), self._turn(unroll, first=True, loaded=True))

    def _turn(self, steps: int, first: bool = False, loaded: bool = False, ahead: bool = False) -> list[Instruction]:
        """`steps` k steps: loads of a step stand between the multiplications of the one before."""
        code = [] if loaded else self._loads(0, steps)
        for step in range(steps):
            compute = self._multiply(step, first and step == 0)
            if step + 1 < steps:
                following = self._loads(step + 1, steps)
            else:
                following = self._advance(steps) + (self._loads(0, steps) if ahead else [])
            code += interleave(compute, following, self.tile.interleave)
        return code

    def _loads(self, step: int, steps: int) -> list[Instruction]:
        return self.vector.load(step, steps) + self.scalar.load(step, steps)

    def _advance(self, steps: int) -> list[Instruction]:
        return self.vector.advance(steps) + self.scalar.advance(steps)

    def _multiply(self, step: int, first: bool) -> list[Instruction]:
        if self.isa.split:
            return self._multiply_split(step, first)
        code: list[Instruction] = []
        for index in range(self.tile.scalar_size):
            for part in range(self.isa.dtype.reals):
                factor = self.scalar.factor(step, index, part)
                code += factor.before
                for number, column in enumerate(self.program.columns):
                    (vector,) = self.vector.parts(step, number)
                    target = self.accumulators[number][index][part]
                    if first:
                        code += self.isa.multiply(target, vector, factor.operand, column)
                    else:
                        code += self.isa.multiply_add(target, vector, factor.operand, column)
        return code

    def _multiply_split(self, step: int, first: bool) -> list[Instruction]:
        """(vr + i vi) (sr + i si), either conjugated: the first halves of all sums, then the second, far apart."""
        isa = self.isa
        conjugate_a, conjugate_b = self.tile.mode.conjugates
        vector_conjugated = conjugate_b if self.tile.transposed else conjugate_a
        scalar_conjugated = conjugate_a if self.tile.transposed else conjugate_b
        begin: list[Instruction] = []
        end: list[Instruction] = []
        for index in range(self.tile.scalar_size):
            real, imaginary = (self.scalar.factor(step, index, part) for part in (0, 1))
            begin += real.before + imaginary.before
            sr, si = real.operand, imaginary.operand
            for number, column in enumerate(self.program.columns):
                vr, vi = self.vector.parts(step, number)
                cr, ci = self.accumulators[number][index]
                begin_ci, end_ci = ((vi, sr), (vr, si)) if scalar_conjugated else ((vr, si), (vi, sr))
                start = isa.multiply if first else isa.multiply_add
                begin += start(cr, vr, sr, column) + start(ci, *begin_ci, column)
                end += isa.multiply_add(cr, vi, si, column, subtract=vector_conjugated == scalar_conjugated)
                end += isa.multiply_add(ci, *end_ci, column, subtract=vector_conjugated or scalar_conjugated)
        return begin + end

    def _clear(self) -> list[Instruction]:
        return [
            instruction
            for column in self.accumulators
            for parts in column
            for register in parts
            for instruction in self.isa.zero(register)
        ]

    def _prefetch(self) -> list[Instruction]:
        ldc, place = self.program.general.take(2, "C ahead")
        code = self.isa.load_arguments([(ldc, "ldc")]) + self.isa.copy(place, self.isa.c)
        for column in range(self.tile.nr):
            code += self.isa.prefetch(place) + (self.isa.add(place, ldc) if column + 1 < self.tile.nr else [])
        self.program.general.give_back([ldc, place])
        return code

    def _spare(self) -> Pool:
        """Vector registers that are free once the sums are complete."""
        held = {register for column in self.accumulators for parts in column for register in parts}
        held |= self.isa.kept(self.program.columns)
        return Pool([register for register in self.isa.vector_file if register not in held])
