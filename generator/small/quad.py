"""Kernels for one or two complex rows or columns: the four products of real and imaginary parts are summed apart.

    C[i, j] = (rr - ii) + (ri + ir) i        with rr = sum over p of re(v) re(s), ii = sum of im(v) im(s), ...

Split columns waste half or more of each register where C is so narrow, and the papers' 2x12 and 1x20 do not fit.  Here
a register holds two elements v, v' of the vector operand, interleaved; re(s) (v, v') and im(s) (v, v') are summed as
they are, two multiply-adds for two elements of C, and made split columns once, after the k loop.  So an element of C is
the share of one register, whichever side is the narrow one:

- two rows (columns) and many columns (rows): v and v' are the rows' elements, s those of each column;
- one row (column): s is its element, v and v' those of two columns (rows) at a time.

The narrow side stays in registers for a turn.  The other, contiguous along k, passes through a few: `groups` of its
lines are loaded, two steps at once, while the group before is multiplied.
"""

from __future__ import annotations

import itertools

from ..ir import Instruction, Reg
from ..isa.base import GroupedLines, Isa, ScalarOperand, VectorOperand
from ..registers import OutOfRegisters, Pool
from ..schedule import interleave
from .batch import general_registers
from .epilogue import write_c
from .fixed import Arguments
from .loop import KLoop
from .tile import Program, Tile

__all__ = ["quad_product"]

_LARGEST_GROUP = 4


def quad_product(isa: Isa, tile: Tile) -> Program:
    """Build the kernel.

    Raises
    ------
    OutOfRegisters
        When the tile does not fit the ISA.
    """
    for size in range(_LARGEST_GROUP, 1, -1):
        try:
            return _Quad(isa, tile, size).program
        except OutOfRegisters:
            continue
    return _Quad(isa, tile, 1).program


class _Quad(KLoop):
    """One attempt, with groups of at most so many lines, or twos of them."""

    def __init__(self, isa: Isa, tile: Tile, group: int) -> None:
        self.isa, self.tile = isa, tile
        vectors, general = Pool(isa.vector_file), Pool(general_registers(isa, tile))
        self.program = Program(isa, tile, isa.columns(tile.vector_size, tile.widths), vectors, general)
        self.pairs = -(-tile.vector_size // 2)
        self.sums = [
            [(first, second) for first, second in [vectors.take(2, "C", adjacent=2) for _ in range(self.pairs)]]
            for _ in range(tile.scalar_size)
        ]
        self.arguments = Arguments(isa, tile, general, ("k", "lda", "ldb"))
        self.k, lda, ldb = self.arguments.of.values()
        operands = [(isa.a, lda), (isa.b, ldb)]
        if tile.transposed:
            operands.reverse()
        (base, stride), (other, other_stride) = operands
        self.vector: VectorOperand
        self.scalar: ScalarOperand
        self.lines: GroupedLines
        self.kept: VectorOperand | ScalarOperand
        self.vector_lines = tile.vector_along_k and tile.scalar_size == 1
        if self.vector_lines:
            sets = 1 if tile.scalar_along_k else 2
            self.kept = self.scalar = isa.scalar_operand(
                vectors, general, other, other_stride, 1, tile.scalar_along_k, 1, sets
            )
            self.groups = _groups(self.pairs, group)
            self.lines = self.vector = isa.pair_lines(vectors, general, base, stride, tile.vector_size, self.groups)
        else:
            if tile.vector_along_k:
                self.vector = isa.pair_lines(vectors, general, base, stride, tile.vector_size, [range(1)])
            else:
                self.vector = isa.pair_vector(vectors, general, base, stride)
            self.kept = self.vector
            self.groups = _groups(tile.scalar_size, group)
            self.lines = self.scalar = isa.scalar_lines(vectors, general, other, other_stride, self.groups)
        self._build()

    def _build(self) -> None:
        isa, program = self.isa, self.program
        program.section("setup")
        program.add(self.arguments.load(), self.vector.setup(), self.scalar.setup())
        self._add_loop()
        program.section("real and imaginary parts of the sums")
        held = {register for pairs in self.sums for pair in pairs for register in pair}
        spare = Pool([register for register in isa.vector_file if register not in held])
        write_c(program, self._joined(spare), spare)
        program.finish()

    def _begin(self, steps: int) -> list[Instruction]:
        return self._loads(0, 0, steps)

    def _turn(self, steps: int, first: bool = False, loaded: bool = False, ahead: bool = False) -> list[Instruction]:
        """`steps` k steps, two at a time: a group is loaded between the multiplications of the one before."""
        stages = [(step, group) for step in range(0, steps, 2) for group in range(len(self.groups))]
        code = [] if loaded else self._begin(steps)
        for number, (start, group) in enumerate(stages):
            compute: list[Instruction] = []
            for step in range(start, min(start + 2, steps)):
                compute += self._multiply(step, self.groups[group], first and step == 0)
            if number + 1 < len(stages):
                following = self._loads(*stages[number + 1], steps)
            else:
                following = self.kept.advance(steps) + (self._begin(steps) if ahead else [])
            code += interleave(compute, following, self.tile.interleave)
        return code

    def _loads(self, start: int, group: int, steps: int) -> list[Instruction]:
        """A group's loads; with the first also the narrow side's."""
        two = range(start, min(start + 2, steps))
        code = self.lines.load_group(group, len(two))
        if group == 0:
            code += [instruction for step in two for instruction in self.kept.load(step, steps)]
        return code

    def _multiply(self, step: int, units: range, first: bool) -> list[Instruction]:
        isa, column = self.isa, self.program.columns[0]
        start = isa.multiply if first else isa.multiply_add
        code: list[Instruction] = []
        for unit in units:
            index, pair = (0, unit) if self.vector_lines else (unit, 0)
            (vector,) = self.vector.parts(step, pair)
            for part, target in enumerate(self.sums[index][pair]):
                factor = self.scalar.factor(step, index, part)
                code += [*factor.before, *start(target, vector, factor.operand, column)]
        return code

    def _clear(self) -> list[Instruction]:
        registers = [register for pairs in self.sums for pair in pairs for register in pair]
        return [instruction for register in registers for instruction in self.isa.zero(register)]

    def _joined(self, spare: Pool) -> list[list[tuple[Reg, ...]]]:
        """Split columns, two pairs a column; where C has but one, of two indices at a time, then taken apart."""
        isa, program = self.isa, self.program
        vector, scalar = program.conjugates
        accumulators: list[list[tuple[Reg, ...]]] = [[] for _ in program.columns]
        if self.pairs == 1:
            for start in range(0, self.tile.scalar_size, 2):
                sums = [pairs[0] for pairs in self.sums[start : start + 2]]
                program.add(isa.join_products(sums, spare, vector, scalar))
                for target, source in zip(*reversed(sums), strict=True) if len(sums) == 2 else ():
                    program.add(isa.upper_half(target, source))
                accumulators[0] += sums
            return accumulators
        for pairs in self.sums:
            for number in range(len(program.columns)):
                sums = pairs[2 * number : 2 * number + 2]
                program.add(isa.join_products(sums, spare, vector, scalar))
                accumulators[number].append(sums[0])
                spare.give_back([register for pair in sums[1:] for register in pair])
        return accumulators


def _groups(count: int, size: int) -> list[range]:
    """`count` numbers in groups of at most `size`, an even number of groups so that two register sets come out even."""
    if count == 1:
        return [range(1)]
    number = 2 * -(-count // (2 * min(size, -(-count // 2))))
    each, more = divmod(count, number)
    starts = [group * each + min(group, more) for group in range(number + 1)]
    return [range(start, stop) for start, stop in itertools.pairwise(starts) if start < stop]
