"""Kernels by dot products: vectors run along k in both operands and are summed across at the end.

    C[i, j] = sum over lanes of (op(A)[i, p..] * op(B)[p.., j])        for one vector of p after another

The form of IAAT's TN kernels: both operands are contiguous along k, so no load is strided, at the price of small tiles
(every element of C is a register) and a reduction.  Real types only; on x86 for up to eight rows, which fill no vector.
"""

from __future__ import annotations

from ..ir import Instruction, Reg
from ..isa.base import Column, Isa
from ..registers import OutOfRegisters, Pool
from ..schedule import interleave
from .batch import general_registers
from .epilogue import write_c
from .fixed import Arguments, add_exact_turns
from .tile import Program, Tile

__all__ = ["DotProduct", "dot_product"]


def dot_product(isa: Isa, tile: Tile) -> Program:
    """Build the kernel.

    Raises
    ------
    OutOfRegisters
        When the tile does not fit the ISA.
    """
    try:
        return DotProduct(isa, tile, tile.sets).program
    except OutOfRegisters:
        return DotProduct(isa, tile, 1).program


class DotProduct:
    """The kernel as it is built."""

    def __init__(self, isa: Isa, tile: Tile, sets: int) -> None:
        self.isa, self.tile = isa, tile
        columns = isa.dot_columns(tile.mr)
        self.vectors = Pool([register for register in isa.vector_file if register not in isa.kept(columns)])
        self.general = general = Pool(general_registers(isa, tile))
        self.program = Program(isa, tile, columns, self.vectors, general)
        self.arguments = Arguments(isa, tile, general, ("k", "lda", "ldb"))
        self.k, lda, ldb = self.arguments.of.values()
        self.sums = [self.vectors.take(tile.mr, "C") for _ in range(tile.nr)]
        self._take_lines(lda, ldb, sets)
        self._build()

    def _take_lines(self, lda: Reg, ldb: Reg, sets: int) -> None:
        isa, tile = self.isa, self.tile
        self.left = isa.line_operand(self.vectors, self.general, isa.a, lda, tile.mr, sets)
        self.right = isa.line_operand(self.vectors, self.general, isa.b, ldb, tile.nr, sets)

    def _build(self) -> None:
        program = self.program
        program.section("setup")
        program.add(self.arguments.load(), self.left.setup(), self.right.setup())
        if self.tile.k:
            add_exact_turns(program, self.k, self._clear, self._turn)
            program.add(self.isa.label("rest"))
        else:
            self._add_loop()
        program.section("sums across lanes")
        self._finish()

    def _add_loop(self) -> None:
        isa, program = self.isa, self.program
        unroll = program.steps_a_turn
        program.turns_outside = int(isa.first_by_multiply)
        if isa.first_by_multiply:
            program.add(isa.count_down(self.k, unroll, "main", negative=False))
            program.section(f"fewer than {unroll} steps")
            program.add(self._clear(), isa.jump("rest"))
            program.section("first turn")
            program.add(isa.label("main"), self._turn(unroll, first=True))
        else:
            program.add(self._clear())
        program.add(isa.count_down(self.k, unroll, "rest", negative=True))
        program.section(f"k loop, {unroll} steps a turn")
        start = len(program.code)
        program.add(isa.label("loop"), self._turn(unroll), isa.count_down(self.k, unroll, "loop", negative=False))
        program.loop = (start, len(program.code))
        program.section("rest of k")
        program.add(isa.label("rest"))
        if isa.masks_steps:
            program.add(isa.live_steps(self.k, self.general, "sums"))
            program.add(self._live_turn(), isa.label("sums"))
        else:
            self._add_rest(unroll // 2)

    def _add_rest(self, steps: int) -> None:
        """Half a turn, a quarter and so on, as the bits of what is left of k say."""
        isa, program = self.isa, self.program
        while steps:
            program.add(isa.jump_if_clear(self.k, steps.bit_length() - 1, f"skip{steps}"))
            program.add(self._turn(steps), isa.label(f"skip{steps}"))
            steps //= 2

    def _turn(self, steps: int, first: bool = False) -> list[Instruction]:
        width = min(steps, self.isa.lanes)
        count = steps // width
        code = self._loads(0, width)
        for number in range(count):
            compute = self._multiply(number, first and number == 0)
            following = self._loads(number + 1, width) if number + 1 < count else []
            code += interleave(compute, following, self.tile.interleave)
        return code + self.left.advance(steps) + self.right.advance(steps)

    def _live_turn(self) -> list[Instruction]:
        """The steps that are left, all at once."""
        return self.left.load_live() + self.right.load_live() + self._multiply(0, first=False)

    def _loads(self, number: int, width: int) -> list[Instruction]:
        return self.left.load(number, width) + self.right.load(number, width)

    def _multiply(self, number: int, first: bool) -> list[Instruction]:
        code: list[Instruction] = []
        column = Column(0, self.isa.lanes, self.isa.full_width)
        start = self.isa.multiply if first else self.isa.multiply_add
        for j, sums in enumerate(self.sums):
            factor = self.isa.whole_factor(self.right.register(number, j))
            for i, target in enumerate(sums):
                code += start(target, self.left.register(number, i), factor, column)
        return code

    def _clear(self) -> list[Instruction]:
        return [instruction for sums in self.sums for register in sums for instruction in self.isa.zero(register)]

    def _finish(self) -> None:
        """One register a vector column: lanes of it are the sums of the rows' registers."""
        isa, program = self.isa, self.program
        held = [register for sums in self.sums for register in sums]
        held += isa.kept(program.columns)
        spare = Pool([register for register in isa.vector_file if register not in held])
        accumulators: list[list[tuple[Reg, ...]]] = [[] for _ in program.columns]
        for sums in self.sums:
            for number, column in enumerate(program.columns):
                rows = sums[column.first : column.first + column.span]
                program.add(isa.reduce(rows, rows[0], spare))
                accumulators[number].append((rows[0],))
                spare.give_back(rows[1:])
        write_c(program, accumulators, spare)
        program.finish()
