"""Kernels by outer products: each k step multiplies columns of vectors by single elements.

    C[i, j] += op(A)[i, p] * op(B)[p, j]        for one p after another

The vector operand has two register sets that take turns ("ping-pong", templates M1 and M2 of IrGEMM, section 4), and
loads for a step stand between the multiplications of the step before.
"""

from __future__ import annotations

from dataclasses import replace

from ..ir import Instruction, Mem, Reg
from ..isa.base import SECOND_CACHE, Isa
from ..registers import OutOfRegisters, Pool
from ..schedule import interleave
from .batch import general_registers
from .epilogue import write_c
from .fixed import Arguments
from .loop import KLoop
from .tile import LINE, Program, Tile

__all__ = ["outer_product"]

Accumulators = list[list[tuple[Reg, ...]]]


def outer_product(isa: Isa, tile: Tile) -> Program:
    """Build the kernel.

    Raises
    ------
    OutOfRegisters
        When the tile does not fit the ISA.
    """
    wanted = [(2, 2), (2, 1), (1, 1)] if tile.sets == 2 else [(1, 2), (1, 1)]
    for sets in wanted[:-1]:
        try:
            return _Outer(isa, tile, sets).program
        except OutOfRegisters:
            continue
    return _Outer(isa, tile, wanted[-1]).program


class _Outer(KLoop):
    """One attempt, with so many register sets for the vector and the scalar operand."""

    def __init__(self, isa: Isa, tile: Tile, sets: tuple[int, int]) -> None:
        self.isa, self.tile = isa, tile
        columns = isa.columns(tile.vector_size, tile.widths)
        vectors = Pool([register for register in isa.vector_file if register not in isa.kept(columns)])
        general = Pool(general_registers(isa, tile))
        self.program = Program(isa, tile, columns, vectors, general)
        parts = isa.parts_per_accumulator
        pairs = 2 if isa.split else 1
        each = len(columns) * parts
        sums = [vectors.take_near(each, "C", adjacent=pairs) for _ in range(tile.scalar_size)]
        # A column's parts side by side; or all columns' first parts, which then become C and are stored together.
        apart = len(columns) if isa.parts_apart else 1
        self.accumulators: Accumulators = [
            [tuple(registers[column if apart > 1 else column * parts :: apart][:parts]) for registers in sums]
            for column in range(len(columns))
        ]
        self.arguments = Arguments(isa, tile, general, ("k", "lda", "ldb"))
        self.k, lda, ldb = self.arguments.of.values()
        a_contiguous, b_contiguous = not tile.mode.a_transposed, tile.mode.b_transposed
        operands = [(isa.a, lda, a_contiguous), (isa.b, ldb, b_contiguous)]
        if tile.transposed:
            operands.reverse()
        (base, stride, contiguous), (other, other_stride, other_contiguous) = operands
        if tile.twin:
            self.vector = isa.twin_operand(vectors, general, base, stride, columns, sets[0])
        else:
            self.vector = isa.vector_operand(vectors, general, base, stride, columns, contiguous, sets[0])
        self.scalar = isa.scalar_operand(
            vectors, general, other, other_stride, tile.scalar_size, not other_contiguous, len(columns), sets[1]
        )
        self.asked = general.one("what is asked for") if tile.share else None
        self._build()

    def _build(self) -> None:
        isa, program = self.isa, self.program
        program.section("setup")
        start = isa.start(program.general, program.columns)
        if self.tile.batch:  # once for all problems
            program.add(start)
            program.body = len(program.code)
            program.add(self.arguments.load())
        else:
            program.add(self.arguments.load(), start)
        if self.tile.prefetch:
            program.add(self._prefetch())
        program.add(self.vector.setup(), self.scalar.setup())
        if self.asked:
            program.add(isa.load_arguments([(self.asked, "far")]), isa.add(self.asked, isa.a))
        self._add_loop()
        write_c(program, self.accumulators, self._spare())
        program.finish()

    def _begin(self, steps: int) -> list[Instruction]:
        return self._loads(0, steps)

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
        vectors, scalars = self.vector.load(step, steps), self.scalar.load(step, steps)
        # A single set of vectors is free last, and would keep the others' loads behind all multiplications.
        loads = scalars + vectors if self.tile.interleave == "threes" else vectors + scalars
        return loads + self._fetches(vectors, step, steps)

    def _fetches(self, vectors: list[Instruction], step: int, steps: int) -> list[Instruction]:
        """Ask for the cache lines that begin in this step's part of a turn, so far ahead; not in what is left of k.

        Where steps are columns of a matrix, for what lies so far behind each vector in its column.
        """
        tile, isa = self.tile, self.isa
        if steps < tile.unroll:
            return []
        if self.asked:
            number = tile.lines_asked(isa.dtype.bytes)
            return [
                instruction
                for line in range(number)
                if line * steps // number == step
                for instruction in isa.ask_second(self.asked, line * LINE)
            ]
        if not tile.fetch:
            return []
        if not tile.on_panels:
            places = [operand for load in vectors for operand in load.operands if isinstance(operand, Mem)]
            return [
                Instruction(request.op, (replace(place, lanes=1, disp=place.disp + tile.fetch),))
                for place in places
                for request in isa.fetch(place.base, SECOND_CACHE, 0)
            ]
        size = tile.vector_size * isa.dtype.bytes
        base = isa.b if tile.transposed else isa.a
        lines = range(-(-step * size // LINE), -(-(step + 1) * size // LINE))
        return [instruction for line in lines for instruction in isa.fetch(base, tile.fetch, line * LINE)]

    def _advance(self, steps: int) -> list[Instruction]:
        code = self.vector.advance(steps) + self.scalar.advance(steps)
        if self.asked and steps == self.tile.unroll:
            code += self.isa.add(self.asked, self.tile.lines_asked(self.isa.dtype.bytes) * LINE)
        return code

    def _multiply(self, step: int, first: bool) -> list[Instruction]:
        if self.isa.split:
            return self._multiply_split(step, first)
        if self.isa.fused:
            return self._multiply_fused(step, first)
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
        """(vr + i vi) (sr + i si), either conjugated: the first halves of all sums, then the second, far apart.

        What is subtracted comes second; else re(a) im(b) comes before im(a) re(b), whichever of them fills vectors, so
        that elements have the same bits where C is summed transposed.
        """
        isa = self.isa
        vector_conjugated, scalar_conjugated = self.program.conjugates
        vi_first = scalar_conjugated or (self.tile.transposed and not vector_conjugated)
        begin: list[Instruction] = []
        end: list[Instruction] = []
        for index in range(self.tile.scalar_size):
            real, imaginary = (self.scalar.factor(step, index, part) for part in (0, 1))
            begin += real.before + imaginary.before
            sr, si = real.operand, imaginary.operand
            for number, column in enumerate(self.program.columns):
                vr, vi = self.vector.parts(step, number)
                cr, ci = self.accumulators[number][index]
                begin_ci, end_ci = ((vi, sr), (vr, si)) if vi_first else ((vr, si), (vi, sr))
                start = isa.multiply if first else isa.multiply_add
                begin += start(cr, vr, sr, column) + start(ci, *begin_ci, column)
                end += isa.multiply_add(cr, vi, si, column, subtract=vector_conjugated == scalar_conjugated)
                end += isa.multiply_add(ci, *end_ci, column, subtract=vector_conjugated or scalar_conjugated)
        return begin + end

    def _multiply_fused(self, step: int, first: bool) -> list[Instruction]:
        """Complex products in two halves: the first of all sums, then the second, far apart."""
        isa, conjugates = self.isa, self.program.conjugates
        begin: list[Instruction] = []
        end: list[Instruction] = []
        for index in range(self.tile.scalar_size):
            factor = self.scalar.factor(step, index, 0)
            begin += factor.before
            for number in range(len(self.program.columns)):
                (vector,) = self.vector.parts(step, number)
                (target,) = self.accumulators[number][index]
                halves = isa.multiply_fused(target, vector, factor.operand, first, conjugates)
                begin += halves[0]
                end += halves[1]
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
