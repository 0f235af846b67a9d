"""How NEON kernels reach A, B and C.

Pointers walk: loads add to them as they go where the instruction can, so that the loop has few additions.  Three elements
of a float column are a `d` load and a lane load; nothing reads past an operand's end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..ir import Instruction, Mem, Reg, Vec
from ..registers import Pool
from . import neon_ops as op
from .base import Code, Column, CWalker, Factor, LineOperand, ScalarOperand, VectorOperand
from .turn import turn

if TYPE_CHECKING:
    from .neon import Neon

__all__ = ["ColumnsOfC", "KLanes", "Lines", "PairColumnsOfC", "PairVectors", "SideLanes", "TurnedPairs", "Vectors"]

_SCALAR_VIEW = {4: "s", 8: "d", 16: "q"}


class _Run:
    """Reals side by side in memory: whole registers, then what is left by narrower loads.

    Three floats need a second pointer, eight bytes further on, because a lane load takes no displacement.
    """

    def __init__(self, isa: Neon, general: Pool, base: Reg, stride: Reg, reals: int, name: str) -> None:
        self.isa, self.base, self.stride = isa, base, stride
        self.spans = [min(isa.lanes, reals - first) for first in range(0, reals, isa.lanes)]
        self.tail = general.one(f"third of {name}") if self.spans[-1] == 3 else None
        self.tail_at = (len(self.spans) - 1) * 16 + 8

    def setup(self) -> Code:
        """Aim the second pointer."""
        return self.isa.add_to(self.tail, self.base, self.tail_at) if self.tail else []

    def access(self, registers: Sequence[Reg], numbers: Sequence[int], load: bool, walk: bool) -> Code:
        """Load or store pieces `numbers`; `walk` moves the second pointer on with the last."""
        code: Code = []
        pending = list(zip(numbers, registers, strict=True))
        while pending:
            number, register = pending.pop(0)
            span = self.spans[number]
            disp = number * 16
            if span == self.isa.lanes and pending and self.spans[pending[0][0]] == span and disp <= 1008:
                _, other = pending.pop(0)
                pair = (Vec(register, "q", span), Vec(other, "q", span), Mem(self.base, 2 * span, disp=disp))
                code.append(Instruction(op.LDP if load else op.STP, pair))
                continue
            width = 2 if span == 3 else span
            view = _SCALAR_VIEW[width * self.isa.dtype.real_bytes]
            place = Mem(self.base, width, disp=disp)
            code.append(Instruction(op.LDR if load else op.STR, (Vec(register, view, width), place)))
            if span == 3:
                assert self.tail is not None
                place = Mem(self.tail, 1, post=self.stride if walk else None)
                lane = op.lane_load(1, 2) if load else op.lane_store(1, 2)
                code.append(Instruction(lane, (Vec(register, ".s", 1, 2), place)))
        return code


class Vectors(VectorOperand):
    """Real columns side by side in memory, one step a stride further on."""

    def __init__(
        self, isa: Neon, pool: Pool, general: Pool, base: Reg, stride: Reg, columns: Sequence[Column], sets: int
    ) -> None:
        self.isa, self.base, self.stride = isa, base, stride
        name = base.name.upper()
        self.sets = [pool.take(len(columns), f"{name} set {number}") for number in range(sets)]
        self.run = _Run(isa, general, base, stride, sum(column.span for column in columns), base.name)

    def setup(self) -> Code:
        return self.run.setup()

    def load(self, step: int, steps: int) -> Code:
        registers = self.sets[step % len(self.sets)]
        code = self.run.access(registers, range(len(registers)), load=True, walk=True)
        return code + self.isa.add(self.base, self.stride)

    def parts(self, step: int, column: int) -> tuple[Reg, ...]:
        return (self.sets[step % len(self.sets)][column],)

    def advance(self, steps: int) -> Code:
        return []


class _PairRun:
    """Complex elements side by side: ld2 and st2, which have no displacement, so the pointer walks through them."""

    def __init__(self, isa: Neon, general: Pool, stride: Reg | int, spans: Sequence[int], name: str) -> None:
        self.isa, self.spans = isa, spans
        self.before_last = sum(self._bytes(span) for span in spans) - self._pieces(spans[-1])[-1][1]
        self.stride = stride
        self.back = general.one(f"rest of {name}'s stride") if self.before_last else stride

    def _bytes(self, span: int) -> int:
        return span * self.isa.dtype.bytes

    def _pieces(self, span: int) -> list[tuple[int, int]]:
        """Pieces of a column: (elements, bytes)."""
        parts = [2, 1] if span == 3 else [span]
        return [(part, self._bytes(part)) for part in parts]

    def setup(self) -> Code:
        """What is left of the stride after the pieces before the last."""
        if not isinstance(self.back, Reg) or not isinstance(self.stride, Reg) or self.back is self.stride:
            return []
        return self.isa.subtract_from(self.back, self.stride, self.before_last)

    def access(self, parts: Sequence[tuple[Reg, ...]], numbers: Sequence[int], base: Reg, load: bool) -> Code:
        """Load or store columns `numbers`, which follow each other; the last column's last piece goes to the next step."""
        code: Code = []
        for number, (real, imaginary) in zip(numbers, parts, strict=True):
            pieces = self._pieces(self.spans[number])
            for index, (count, size) in enumerate(pieces):
                last = number == len(self.spans) - 1 and index == len(pieces) - 1
                place = Mem(base, 2 * count, post=self.back if last else size)
                code.append(self._piece((real, imaginary), count, index, place, load))
        return code

    def _piece(self, registers: tuple[Reg, Reg], count: int, index: int, place: Mem, load: bool) -> Instruction:
        letter = self.isa.letter_of_lane
        if count == 1:
            lane = 2 * index
            if load and not index:
                views = tuple(self.isa.whole(register) for register in registers)
                return Instruction(op.LD2R, (*views, place))
            lanes = tuple(Vec(register, f".{letter}", 1, lane) for register in registers)
            return Instruction((op.lane_load if load else op.lane_store)(2, lane), (*lanes, place))
        views = tuple(Vec(register, f"{count}{letter}", count) for register in registers)
        return Instruction(op.LD2 if load else op.ST2, (*views, place))


class PairVectors(VectorOperand):
    """Complex columns side by side, taken apart into real and imaginary registers."""

    def __init__(
        self, isa: Neon, pool: Pool, general: Pool, base: Reg, stride: Reg | int, columns: Sequence[Column], sets: int
    ) -> None:
        self.isa, self.base = isa, base
        name = base.name.upper()
        self.sets = []
        for number in range(sets):
            taken = pool.take(2 * len(columns), f"{name} set {number}", adjacent=2)
            self.sets.append([(taken[2 * column], taken[2 * column + 1]) for column in range(len(columns))])
        self.run = _PairRun(isa, general, stride, [column.span for column in columns], base.name)

    def setup(self) -> Code:
        return self.run.setup()

    def load(self, step: int, steps: int) -> Code:
        registers = self.sets[step % len(self.sets)]
        return self.run.access(registers, range(len(registers)), self.base, load=True)

    def parts(self, step: int, column: int) -> tuple[Reg, ...]:
        return self.sets[step % len(self.sets)][column]

    def advance(self, steps: int) -> Code:
        return []


class TurnedPairs(VectorOperand):
    """Complex columns whose elements lie a stride apart: each row is loaded along k and rows are turned into columns.

    A 16-byte load of a row holds two k steps of complex64 or one of complex128.
    """

    def __init__(
        self, isa: Neon, pool: Pool, general: Pool, base: Reg, stride: Reg, columns: Sequence[Column]
    ) -> None:
        self.isa, self.stride, self.columns = isa, stride, columns
        self.steps_a_load = 16 // isa.dtype.bytes
        rows = sum(column.span for column in columns)
        self.lines = [base, *general.take(rows - 1, f"lines of {base.name}")]
        self.pool = Pool(pool.take((isa.lanes + 1) * len(columns), f"{base.name.upper()} turned"))
        self.turned: list[list[Reg]] = []

    def setup(self) -> Code:
        code: Code = []
        for before, line in zip(self.lines, self.lines[1:], strict=False):
            code += self.isa.add_to(line, before, self.stride)
        return code

    def load(self, step: int, steps: int) -> Code:
        if step % self.steps_a_load:
            return []
        count = min(self.steps_a_load, steps)
        view = _SCALAR_VIEW[count * self.isa.dtype.bytes]
        lanes = 2 * count
        for registers in self.turned:
            self.pool.give_back(registers)
        self.turned = []
        code: Code = []
        for column in self.columns:
            rows = self.pool.take(column.span, "rows")
            for row, register in enumerate(rows):
                place = Mem(self.lines[column.first + row], lanes, post=lanes * self.isa.dtype.real_bytes)
                code.append(Instruction(op.LDR, (Vec(register, view, lanes), place)))
            turning, result = turn(rows, self.isa.lanes, self.pool, self.isa.interleave)
            code += turning
            self.turned.append(result)
        return code

    def parts(self, step: int, column: int) -> tuple[Reg, ...]:
        start = 2 * (step % self.steps_a_load)
        return tuple(self.turned[column][start : start + 2])

    def advance(self, steps: int) -> Code:
        return []


class _Lines:
    """Lines contiguous along k, a pointer each."""

    def __init__(
        self, isa: Neon, pool: Pool, general: Pool, base: Reg, stride: Reg, count: int, sets: int
    ) -> None:
        self.isa, self.stride = isa, stride
        self.lines = [base, *general.take(count - 1, f"lines of {base.name}")]
        self.sets = [pool.take(count, f"{base.name.upper()} set {number}") for number in range(sets)]

    def setup(self) -> Code:
        """Aim the pointers."""
        code: Code = []
        for before, line in zip(self.lines, self.lines[1:], strict=False):
            code += self.isa.add_to(line, before, self.stride)
        return code

    def load_set(self, registers: Sequence[Reg], lanes: int) -> Code:
        """`lanes` reals of every line."""
        size = lanes * self.isa.dtype.real_bytes
        return [
            Instruction(op.LDR, (Vec(register, _SCALAR_VIEW[size], lanes), Mem(line, lanes, post=size)))
            for line, register in zip(self.lines, registers, strict=True)
        ]


class Lines(_Lines, LineOperand):
    """Both operands of a dot product."""

    def load(self, number: int, width: int) -> Code:
        return self.load_set(self.sets[number % len(self.sets)], width)

    def register(self, number: int, line: int) -> Reg:
        return self.sets[number % len(self.sets)][line]


class KLanes(_Lines, ScalarOperand):
    """Elements contiguous along k: a register a line holds several steps and is used lane by lane."""

    @property
    def steps_a_load(self) -> int:
        """k steps that a register holds."""
        return 16 // self.isa.dtype.bytes

    def load(self, step: int, steps: int) -> Code:
        if step % self.steps_a_load:
            return []
        return self.load_set(self._set(step), min(self.steps_a_load, steps) * self.isa.dtype.reals)

    def _set(self, step: int) -> list[Reg]:
        return self.sets[step // self.steps_a_load % len(self.sets)]

    def factor(self, step: int, index: int, part: int) -> Factor:
        lane = step % self.steps_a_load * self.isa.dtype.reals + part
        return Factor(self.isa.lane(self._set(step)[index], lane))

    def advance(self, steps: int) -> Code:
        return []


class SideLanes(ScalarOperand):
    """Elements of one step side by side: registers hold several of them."""

    def __init__(
        self, isa: Neon, pool: Pool, general: Pool, base: Reg, stride: Reg, count: int, sets: int
    ) -> None:
        self.isa, self.base, self.stride = isa, base, stride
        reals = count * isa.dtype.reals
        self.run = _Run(isa, general, base, stride, reals, base.name)
        size = len(self.run.spans)
        self.sets = [pool.take(size, f"{base.name.upper()} set {number}") for number in range(sets)]

    def setup(self) -> Code:
        return self.run.setup()

    def load(self, step: int, steps: int) -> Code:
        registers = self.sets[step % len(self.sets)]
        code = self.run.access(registers, range(len(registers)), load=True, walk=True)
        return code + self.isa.add(self.base, self.stride)

    def factor(self, step: int, index: int, part: int) -> Factor:
        number, lane = divmod(index * self.isa.dtype.reals + part, self.isa.lanes)
        return Factor(self.isa.lane(self.sets[step % len(self.sets)][number], lane))

    def advance(self, steps: int) -> Code:
        return []


class ColumnsOfC(CWalker):
    """Real C: registers one after another, a pointer that goes from column to column."""

    def __init__(
        self, isa: Neon, general: Pool, base: Reg, stride: Reg, columns: Sequence[Column], reads: bool
    ) -> None:
        self.isa, self.base, self.stride = isa, base, stride
        self.run = _Run(isa, general, base, stride, sum(column.span for column in columns), "c")

    def setup(self) -> Code:
        return self.run.setup()

    def load(self, numbers: Sequence[int], parts: Sequence[tuple[Reg, ...]]) -> Code:
        return self.run.access([register for (register,) in parts], numbers, load=True, walk=False)

    def store(self, parts: Sequence[tuple[Reg, ...]]) -> Code:
        return self.run.access([register for (register,) in parts], range(len(parts)), load=False, walk=True)

    def next(self) -> Code:
        return self.isa.add(self.base, self.stride)


class PairColumnsOfC(CWalker):
    """Complex C: one pointer walks with the stores, another with the loads of old values."""

    def __init__(
        self, isa: Neon, general: Pool, base: Reg, stride: Reg, columns: Sequence[Column], reads: bool
    ) -> None:
        self.isa, self.base = isa, base
        self.reader = general.one("old C") if reads else base
        self.reads = reads
        self.run = _PairRun(isa, general, stride, [column.span for column in columns], "c")

    def setup(self) -> Code:
        return self.run.setup() + (self.isa.copy(self.reader, self.base) if self.reads else [])

    def load(self, numbers: Sequence[int], parts: Sequence[tuple[Reg, ...]]) -> Code:
        return self.run.access(parts, numbers, self.reader, load=True)

    def store(self, parts: Sequence[tuple[Reg, ...]]) -> Code:
        return self.run.access(parts, range(len(parts)), self.base, load=False)

    def next(self) -> Code:
        return []
