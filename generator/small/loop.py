"""The k loop that forms share: IAAT's templates (arXiv 2208.09822; IrGEMM, section 4).

A turn of the loop is `unroll` steps.  With `pipeline`, turns load for the next one: loads, I, M ..., E.  What is left
of k goes through halves of a turn, quarter turns and so on, each loading exactly its own steps: the printed SUB of the
papers loads one step too many for odd k.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from ..ir import Instruction, Reg
from ..isa.base import Isa
from .fixed import add_exact_turns
from .tile import Program, Tile

__all__ = ["KLoop"]


class KLoop(ABC):
    """A form with turns; it says what a turn is, this class says in which order they come."""

    isa: Isa
    tile: Tile
    program: Program
    k: Reg

    @abstractmethod
    def _clear(self) -> list[Instruction]:
        """All sums = 0."""

    @abstractmethod
    def _begin(self, steps: int) -> list[Instruction]:
        """Loads that stand before a turn of `steps`."""

    @abstractmethod
    def _turn(self, steps: int, first: bool = False, loaded: bool = False, ahead: bool = False) -> list[Instruction]:
        """`steps` k steps.

        With `first` they start the sums, with `loaded` the loads of `_begin` are done, with `ahead` those of the next
        turn are among these instructions.
        """

    def _add_loop(self) -> None:
        """All turns, from the choice of the first to the rest of k."""
        if self.tile.k:
            add_exact_turns(self.program, self.k, self._clear, self._turn)
            self.program.section("the sums")
            self.program.add(self.isa.label("rest"))
            return
        isa, program, unroll = self.isa, self.program, self.tile.unroll
        program.turns_outside = int(isa.first_by_multiply) + int(self.tile.pipeline)
        if isa.first_by_multiply:
            self._add_few_steps()
        else:
            program.add(self._clear(), isa.count_down(self.k, unroll, "rest", negative=True))
        if self.tile.pipeline:
            self._add_pipelined_turns()
        else:
            self._add_turns()
        program.section("rest of k")
        program.add(isa.label("rest"))
        steps = unroll // 2
        while steps:
            skip = f"skip{steps}"
            program.add(isa.jump_if_clear(self.k, steps.bit_length() - 1, skip))
            program.add(self._turn(steps), isa.label(skip))
            steps //= 2

    def _add_few_steps(self) -> None:
        """Less than a turn: half of one may start the sums as well; they are cleared only for less than that."""
        isa, program, unroll = self.isa, self.program, self.tile.unroll
        program.add(isa.count_down(self.k, unroll, "main", negative=False))
        program.section(f"fewer than {unroll} steps" if unroll > 1 else "no steps")
        half, after = unroll // 2, "rest"
        if half:
            after = f"skip{half}"
            program.add(isa.jump_if_clear(self.k, half.bit_length() - 1, "few"))
            program.add(self._turn(half, first=True), isa.jump(after), isa.label("few"))
        program.add(self._clear(), isa.jump(after), isa.label("main"))

    def _add_turns(self) -> None:
        """Turns that load for themselves."""
        isa, program, unroll = self.isa, self.program, self.tile.unroll
        if isa.first_by_multiply:
            program.section("first turn (I)")
            program.add(self._turn(unroll, first=True), isa.count_down(self.k, unroll, "rest", negative=True))
        program.section(f"k loop, {unroll} steps a turn")
        start = len(program.code)
        program.add(isa.label("loop"), self._turn(unroll), isa.count_down(self.k, unroll, "loop", negative=False))
        program.loop = (start, len(program.code))

    def _add_pipelined_turns(self) -> None:
        """Turns that load for the next one: loads, I, M ..., E; or loads and one turn that is both first and last."""
        isa, program, unroll = self.isa, self.program, self.tile.unroll
        program.section("loads for the first turn")
        program.add(self._begin(unroll))
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
