"""Dot products of lines that come from memory: a tile asks for the lines of the next one while it reads its own.

Hardware follows a line once it is being read, and stops where it ends or a page does; here memory has something to do
all the time.  What is asked for goes to the second cache: the first has room for few lines under way.

B's lines are the long ones; their vectors are loaded once.  A's stay in a cache.  Where arithmetic takes longer than
memory they are loaded once as well.  Where it does not, a core runs so far ahead (this is the likely cause) that
requests fill that room, and loads that would find their lines in the second cache wait behind them.  A tile that is
`paced` therefore reads A's vectors anew for every multiply-add: as many loads as multiply-adds cost little, and there
is a limit to how many a core has under way.  Zen 4, docs/skinny.md: 8 x 3 is 1.5 times as fast paced, from memory.
"""

from __future__ import annotations

from ..ir import Instruction, Reg
from ..isa.base import Column, Isa
from ..schedule import interleave
from .dot import DotProduct
from .tile import Program, Tile

__all__ = ["dot_product_ahead"]


def dot_product_ahead(isa: Isa, tile: Tile) -> Program:
    """Build the kernel.

    Raises
    ------
    OutOfRegisters
        When the tile does not fit the ISA.
    """
    return _Ahead(isa, tile, 1).program


class _Ahead(DotProduct):
    def _take_lines(self, lda: Reg, ldb: Reg, sets: int) -> None:
        isa, tile = self.isa, self.tile
        self.right = self.far = isa.lines_ahead(self.vectors, self.general, isa.b, ldb, tile.nr)
        self.left = self.near = isa.near_lines(self.vectors, self.general, isa.a, lda, tile.mr)

    def _turn(self, steps: int, first: bool = False) -> list[Instruction]:
        width = min(steps, self.isa.lanes)
        whole = width == self.isa.lanes
        code: list[Instruction] = []
        for number in range(steps // width):
            code += self.far.load(number, width)
            begin = first and number == 0
            if whole and self.tile.paced:
                compute = self._from_memory(number, begin)
            else:
                compute = self._line_by_line(self.near.load(number, width), number, begin)
            code += interleave(compute, self.far.ask(number) if whole else [], self.tile.interleave)
        return code + self.near.advance(steps) + self.far.advance(steps)

    def _live_turn(self) -> list[Instruction]:
        return self.far.load_live() + self._line_by_line(self.near.load_live(), 0, first=False)

    def _from_memory(self, number: int, first: bool) -> list[Instruction]:
        code: list[Instruction] = []
        for line in range(self.tile.mr):
            code += self._products(line, self.near.factor(number, line), number, first)
        return code

    def _line_by_line(self, loads: list[Instruction], number: int, first: bool) -> list[Instruction]:
        code: list[Instruction] = []
        for line, load in enumerate(loads):
            factor = self.isa.whole_factor(self.near.register(number, line))
            code += [load, *self._products(line, factor, number, first)]
        return code

    def _products(self, line: int, factor: object, number: int, first: bool) -> list[Instruction]:
        """One of A's lines times all of B's."""
        code: list[Instruction] = []
        column = Column(0, self.isa.lanes, self.isa.full_width)
        start = self.isa.multiply if first else self.isa.multiply_add
        for j, sums in enumerate(self.sums):
            code += start(sums[line], self.far.register(number, j), factor, column)
        return code
