"""What an exact-size kernel knows beforehand: k, and leading dimensions where they are given."""

from __future__ import annotations

from collections.abc import Iterator

from ..ir import Instruction, Reg
from ..isa.base import Isa
from ..registers import Pool
from .tile import Tile

__all__ = ["Arguments", "exact_turns"]


class Arguments:
    """k and the leading dimensions of a kernel: registers, or numbers of bytes where both tile and ISA allow."""

    def __init__(self, isa: Isa, tile: Tile, general: Pool, names: tuple[str, ...]) -> None:
        self._isa = isa
        self._loads: list[tuple[Reg, str]] = []
        self._constants: list[Instruction] = []
        self.of: dict[str, Reg] = {}
        known = dict(zip(("lda", "ldb", "ldc"), tile.lds, strict=True))
        for name in names:
            size = known.get(name, 0) * isa.dtype.bytes
            if size and isa.constant_strides:
                self.of[name] = Reg("#", size)
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
