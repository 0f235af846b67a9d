"""What an exact-size kernel knows beforehand: k, and leading dimensions where they are given."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..ir import Instruction, Reg
from ..isa.base import Isa
from ..registers import Pool
from .tile import Program, Tile

__all__ = ["Arguments", "add_exact_turns", "exact_turns"]


class Arguments:
    """k and the leading dimensions of a kernel: registers, or numbers of bytes where both tile and ISA allow.

    A number called "walk" is a panel's: the loop moves the pointer by it.
    """

    def __init__(self, isa: Isa, tile: Tile, general: Pool, names: tuple[str, ...]) -> None:
        self._isa = isa
        self._loads: list[tuple[Reg, str]] = []
        self._constants: list[Instruction] = []
        self.of: dict[str, Reg] = {}
        known = dict(zip(("lda", "ldb", "ldc"), tile.lds, strict=True))
        for name in names:
            size = known.get(name, 0) * isa.dtype.bytes
            if size and (isa.constant_strides or tile.on_panels):
                self.of[name] = Reg("#", size, "walk" if tile.on_panels else "")
                continue
            register = general.one(name)
            self.of[name] = register
            if size:
                self._constants += isa.constant(register, size)
            else:
                self._loads.append((register, name))

    def load(self, backwards: bool = False) -> list[Instruction]:
        """Fill the registers, in the order of their names or from the last on."""
        return self._isa.load_arguments(self._loads[:: -1 if backwards else 1]) + self._constants


def exact_turns(k: int, unroll: int) -> Iterator[int]:
    """Turns of `unroll` steps, then what is left of `k` in powers of two.

    Examples
    --------
    >>> list(exact_turns(7, 4))
    [4, 2, 1]
    """
    while k:
        steps = unroll
        while steps > k:
            steps //= 2
        yield steps
        k -= steps


def add_exact_turns(
    program: Program, k: Reg, clear: Callable[[], list[Instruction]], turn: Callable[[int, bool], list[Instruction]]
) -> None:
    """Add all of a known k without a loop, up to the label ``rest``, which the caller places.

    What the register `k` holds at run time still tells whether there is anything to sum.

    Parameters
    ----------
    program, k
    clear : callable
        All sums = 0.
    turn : callable
        So many steps; when True, they start the sums.
    """
    isa, tile = program.isa, program.tile
    by_multiply = tile.batch or isa.first_by_multiply
    if not by_multiply:
        program.add(clear(), isa.count_down(k, 1, "rest", negative=True))
    elif not tile.batch:  # which is not called where there is nothing to sum
        program.add(isa.count_down(k, 1, "main", negative=False))
        program.section("nothing to sum")
        program.add(clear(), isa.jump("rest"), isa.label("main"))
    program.section(f"{tile.k} steps")
    for number, steps in enumerate(exact_turns(tile.k, program.steps_a_turn)):
        program.add(turn(steps, by_multiply and number == 0))
