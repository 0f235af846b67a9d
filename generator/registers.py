"""Register allocation: pools that hand out registers, remember what each is for, and never hand out one twice."""

from __future__ import annotations

from collections.abc import Sequence

from .ir import Reg

__all__ = ["OutOfRegisters", "Pool"]


class OutOfRegisters(Exception):
    """A tile needs more registers than the ISA has."""

    def __init__(self, wanted: int, purpose: str, taken: dict[str, list[Reg]], total: int) -> None:
        held = " + ".join(f"{len(registers)} for {name}" for name, registers in taken.items()) or "none"
        super().__init__(f"{wanted} more registers for {purpose} after {held}; there are {total}")
        self.needed = wanted + sum(map(len, taken.values()))


class Pool:
    """Registers of one file, handed out in order.

    Examples
    --------
    >>> pool = Pool([Reg("v", n) for n in range(4)])
    >>> [register.number for register in pool.take(3, "C")]
    [0, 1, 2]
    >>> pool.take(2, "A")
    Traceback (most recent call last):
      ...
    generator.registers.OutOfRegisters: 2 more registers for A after 3 for C; there are 4
    """

    def __init__(self, registers: Sequence[Reg]) -> None:
        self.free = list(registers)
        self.order = {register: position for position, register in enumerate(self.free)}
        self.total = len(self.free)
        self.purposes: dict[str, list[Reg]] = {}

    def take(self, count: int, purpose: str, adjacent: int = 1) -> list[Reg]:
        """`count` registers, in groups of `adjacent` consecutive ones."""
        taken: list[Reg] = []
        free = list(self.free)
        for _ in range(count // adjacent):
            start = self._run(adjacent)
            if start is None:
                self.free = free
                raise OutOfRegisters(count, purpose, self.purposes, self.total)
            taken += self.free[start : start + adjacent]
            del self.free[start : start + adjacent]
        self.purposes.setdefault(purpose, []).extend(taken)
        return taken

    def take_near(self, count: int, purpose: str, adjacent: int) -> list[Reg]:
        """As `take`, all of them neighbours if there is such a run, else only groups of `adjacent`."""
        run = self._run(count)
        return self.take(count, purpose, count if run is not None else adjacent)

    def one(self, purpose: str) -> Reg:
        """One register."""
        return self.take(1, purpose)[0]

    def give_back(self, registers: Sequence[Reg]) -> None:
        """Make registers free again; the map keeps what they were for."""
        for register in registers:
            self.order.setdefault(register, len(self.order))
        self.free = sorted({*self.free, *registers}, key=self.order.__getitem__)

    def clone(self) -> Pool:
        """The same free registers again, for code that runs instead of what this pool serves, not beside it."""
        other = Pool(self.free)
        other.order = dict(self.order)
        other.total = self.total
        return other

    def _run(self, length: int) -> int | None:
        for start in range(len(self.free) - length + 1):
            numbers = [register.number for register in self.free[start : start + length]]
            if numbers == list(range(numbers[0], numbers[0] + length)):
                return start
        return None
