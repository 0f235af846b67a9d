"""Kernels across problems: lane l of every register belongs to problem l of as many as there are lanes.

    C_l[i, j] = sum over p of A_l[i, p] * B_l[p, j]        one multiply-add for all l

For products so small that their rows fill no register. The matrices are without gaps, a stride apart: each is a run of
elements, so that problems are rows, their elements columns, and what turns rows into columns elsewhere (`isa.turn`)
gathers an element of all problems here, and scatters it again where C is stored.
"""

from __future__ import annotations

from dataclasses import replace

from ..ir import Instruction, Reg
from ..isa.base import Column, Isa
from ..registers import Pool
from .epilogue import write_c
from .tile import Program, Tile

__all__ = ["lanes_product"]


def lanes_product(isa: Isa, tile: Tile) -> Program:
    """Build the kernel.

    Raises
    ------
    OutOfRegisters
        When the elements of a problem do not fit the ISA.
    """
    return _Lanes(isa, tile).program


class _Lanes:
    def __init__(self, isa: Isa, tile: Tile) -> None:
        self.isa, self.tile = isa, tile
        self.problems = isa.problems(tile)
        column = Column(0, self.problems, tile.widths)
        vectors, general = Pool(isa.vector_file), Pool(isa.general_registers)
        # What is stored is a matrix of C's elements by problems, its columns a problem apart.
        seen = replace(
            tile, mr=tile.mr * tile.nr, nr=self.problems, transposed=True, lds=(0, 0, 0), batch=False, form="outer"
        )
        self.program = Program(isa, seen, [column], vectors, general)
        self.count = general.one("problems left")
        strides = general.take(2, "strides")
        self.vectors = vectors
        self.a, self.b = (
            isa.problem_operand(vectors, general, base, stride, column)
            for base, stride in zip((isa.a, isa.b), strides, strict=True)
        )
        self.loads = list(zip([self.count, *strides], ("count", "stride_a", "stride_b"), strict=True))
        self._build()

    def _build(self) -> None:
        isa, program, tile = self.isa, self.program, self.tile
        program.section("setup")
        program.add(isa.load_arguments(self.loads), isa.add(self.count, -self.problems))
        program.add(self.a.setup(), self.b.setup(), isa.label("problem"))
        program.section(f"elements of {self.problems} problems")
        code_a, a = self.a.load(tile.mr * tile.k)
        code_b, b = self.b.load(tile.k * tile.nr)
        program.add(code_a, code_b)
        program.section(f"{tile.k} steps")
        sums = self.vectors.take(tile.mr * tile.nr, "C")
        for step in range(tile.k):
            program.add(self._multiply(step, a, b, sums))
        self.vectors.give_back([*a, *b])
        spare = Pool([register for register in isa.vector_file if register not in sums])
        general = Pool(program.general.free)
        write_c(program, [[(register,) for register in sums]], spare, general, "stride_c")
        program.section("the next problems")
        stride = general.one("stride_c")
        program.add(isa.load_arguments([(stride, "stride_c")]), isa.walk(isa.c, stride, self.problems))
        program.add(self.a.advance(), self.b.advance())
        program.add(isa.count_down(self.count, self.problems, "problem", negative=False))
        program.finish()

    def _multiply(self, step: int, a: list[Reg], b: list[Reg], sums: list[Reg]) -> list[Instruction]:
        isa, tile = self.isa, self.tile
        column = self.program.columns[0]
        start = isa.multiply_add if step else isa.multiply
        code: list[Instruction] = []
        for j in range(tile.nr):
            for i in range(tile.mr):
                left = a[i * tile.k + step if tile.mode.a_transposed else step * tile.mr + i]
                right = b[step * tile.nr + j if tile.mode.b_transposed else j * tile.k + step]
                code += start(sums[j * tile.mr + i], left, isa.whole_factor(right), column)
        return code
