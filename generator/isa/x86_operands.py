"""How x86 kernels reach A, B and C.

A step's address is a base plus a multiple of the stride that addressing can form (0, 1, 2, 3 and 4 strides, with one
register holding three), so that four steps need one addition, and five columns share a base register.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..ir import Instruction, Mem, Reg
from ..registers import Pool
from .base import (
    Code,
    Column,
    CWalker,
    Factor,
    LineOperand,
    LinesAhead,
    NearLines,
    ProblemOperand,
    ScalarOperand,
    VectorOperand,
)
from .turn import turn

if TYPE_CHECKING:
    from .x86 import X86

__all__ = [
    "ColumnsOfC",
    "DotLines",
    "DotLinesAhead",
    "LineScalars",
    "NearDotLines",
    "Problems",
    "SideScalars",
    "TurnedVectors",
    "TwinVectors",
    "Vectors",
]

_LINES_A_BASE = 5


class _Strides:
    """base + number * stride for small numbers, in one addressing mode; where the stride is known, for any."""

    def __init__(self, isa: X86, general: Pool, stride: Reg, most: int, name: str) -> None:
        self.isa, self.stride = isa, stride
        self.known = stride.number if stride.file == "#" else 0
        self.walks = stride.name == "walk"
        self.triple = general.one(f"3 strides of {name}") if most >= 3 and not self.known else None
        self.moved = 0

    def setup(self) -> Code:
        """Form three strides."""
        return self.isa.lea(self.triple, self.stride, self.stride, 2) if self.triple else []

    def at(self, base: Reg, number: int, lanes: int, disp: int) -> Mem:
        """Memory `number` strides and `disp` bytes after a base."""
        if self.known:
            return Mem(base, lanes, disp=self.moved + number * self.known + disp)
        if not number:
            return Mem(base, lanes, disp=disp)
        if number == 3:
            return Mem(base, lanes, index=self.triple, disp=disp)
        return Mem(base, lanes, index=self.stride, scale=number, disp=disp)

    def advance(self, base: Reg, number: int) -> Code:
        """base += number * stride, for 1, 2, 3, 4 or 8; where the stride is known, later addresses are further on."""
        if self.walks:
            return self.isa.add(base, number * self.known)
        if self.known:
            self.moved += number * self.known
            return []
        if number == 1:
            return self.isa.add(base, self.stride)
        if number == 3:
            assert self.triple is not None
            return self.isa.add(base, self.triple)
        return self.isa.lea(base, base, self.stride, number)


class _Lines:
    """Lines contiguous along k, a stride apart: five of them share a base register."""

    def __init__(
        self, isa: X86, general: Pool, base: Reg, stride: Reg, count: int, strides: _Strides | None = None
    ) -> None:
        self.isa, self.count = isa, count
        name = base.name
        self.strides = strides or _Strides(isa, general, stride, min(count - 1, _LINES_A_BASE - 1), name)
        extra = 0 if self.strides.known else (count - 1) // _LINES_A_BASE
        self.bases = [base, *general.take(extra, f"lines of {name}" if name else "lines ahead")]

    def setup(self) -> Code:
        """Aim the base registers."""
        return self.strides.setup() + self.aim()

    def aim(self) -> Code:
        """Aim the base registers but the first."""
        code: Code = []
        for before, base in zip(self.bases, self.bases[1:], strict=False):
            code += self.isa.lea(base, before, self.strides.stride, 4)
            code += self.isa.add(base, self.strides.stride)
        return code

    def at(self, line: int, lanes: int, disp: int) -> Mem:
        """Memory `disp` bytes along a line."""
        if self.strides.known:
            return self.strides.at(self.bases[0], line, lanes, disp)
        base, number = divmod(line, _LINES_A_BASE)
        return self.strides.at(self.bases[base], number, lanes, disp)

    def advance(self, steps: int) -> Code:
        """Move all lines on by k steps."""
        if self.strides.known:
            self.strides.moved += steps * self.isa.dtype.bytes
            return []
        return [instruction for base in self.bases for instruction in self.isa.add(base, steps * self.isa.dtype.bytes)]


class Vectors(VectorOperand):
    """Columns side by side in memory, one step a stride further on."""

    def __init__(
        self, isa: X86, pool: Pool, general: Pool, base: Reg, stride: Reg, columns: Sequence[Column], sets: int
    ) -> None:
        self.isa, self.base, self.columns = isa, base, columns
        self.strides = _Strides(isa, general, stride, isa.most_steps - 1, base.name)
        name = base.name.upper()
        self.sets = [pool.take(len(columns), f"{name} set {number}") for number in range(sets)]

    def setup(self) -> Code:
        return self.strides.setup()

    def load(self, step: int, steps: int) -> Code:
        code: Code = []
        for number, register in enumerate(self.sets[step % len(self.sets)]):
            column = self.columns[number]
            place = self.strides.at(self._base_of(number), step, 1, column.first * self.isa.dtype.bytes)
            code += self.isa.load_column(register, column, place)
        return code

    def _base_of(self, column: int) -> Reg:
        return self.base

    def parts(self, step: int, column: int) -> tuple[Reg, ...]:
        return (self.sets[step % len(self.sets)][column],)

    def advance(self, steps: int) -> Code:
        return self.strides.advance(self.base, steps)


class TwinVectors(Vectors):
    """The same for two panels: the second half of the columns lies further on, as ``tw_args`` says."""

    def __init__(
        self, isa: X86, pool: Pool, general: Pool, base: Reg, stride: Reg, columns: Sequence[Column], sets: int
    ) -> None:
        super().__init__(isa, pool, general, base, stride, columns, sets)
        self.second = general.one("second panel")

    def setup(self) -> Code:
        code = self.isa.load_arguments([(self.second, "far")]) + self.isa.add(self.second, self.base)
        return code + super().setup()

    def _base_of(self, column: int) -> Reg:
        return self.second if 2 * column >= len(self.columns) else self.base

    def advance(self, steps: int) -> Code:
        return super().advance(steps) + self.strides.advance(self.second, steps)


class TurnedVectors(VectorOperand):
    """Columns whose elements lie a stride apart: rows are loaded along k, 128 bits each, and turned into columns.

    128-bit block q of register r takes row q * R + r, where R elements fill 128 bits; turning R registers within their
    blocks then gives R steps, each with its rows in order.
    """

    def __init__(self, isa: X86, pool: Pool, general: Pool, base: Reg, stride: Reg, columns: Sequence[Column]) -> None:
        self.isa, self.columns = isa, columns
        self.steps_a_load = isa.transposed_rows
        self.lines = _Lines(isa, general, base, stride, sum(column.span for column in columns))
        spare = 0 if self.steps_a_load == 1 else 1
        self.pool = Pool(pool.take(self.steps_a_load * len(columns) + spare, f"{base.name.upper()} turned"))
        self.scratch = pool.one("scratch")
        self.turned: list[list[Reg]] = []

    def setup(self) -> Code:
        return self.lines.setup()

    def load(self, step: int, steps: int) -> Code:
        isa, rows_a_block = self.isa, self.steps_a_load
        if step % rows_a_block:
            return []
        count = min(rows_a_block, steps) * isa.dtype.reals
        for registers in self.turned:
            self.pool.give_back(registers)
        self.turned = []
        code: Code = []
        for column in self.columns:
            registers = self.pool.take(min(rows_a_block, column.span), "rows")
            for row in range(column.span):
                block, number = divmod(row, rows_a_block)
                place = self.lines.at(column.first + row, 1, step * isa.dtype.bytes)
                code += isa.load_block(registers[number], column.width, block, count, place, self.scratch)
            turning, result = turn(registers, rows_a_block, self.pool, isa.interleaver(column.width))
            code += turning
            self.turned.append(result)
        return code

    def parts(self, step: int, column: int) -> tuple[Reg, ...]:
        return (self.turned[column][step % self.steps_a_load],)

    def advance(self, steps: int) -> Code:
        return self.lines.advance(steps)


class Problems(ProblemOperand):
    """Problems are rows that are loaded 128 bits at a time and turned, as `TurnedVectors` does it with lines."""

    def __init__(self, isa: X86, pool: Pool, general: Pool, base: Reg, stride: Reg, column: Column) -> None:
        self.isa, self.pool, self.column = isa, pool, column
        self.lines = _Lines(isa, general, base, stride, column.span)

    def setup(self) -> Code:
        return self.lines.setup()

    def load(self, count: int) -> tuple[Code, list[Reg]]:
        isa, width, rows = self.isa, self.column.width, self.isa.transposed_rows
        scratch = self.pool.one("scratch")
        code: Code = []
        found: list[Reg] = []
        for first in range(0, count, rows):
            registers = self.pool.take(rows, "elements")
            live = min(rows, count - first)
            for problem in range(self.column.span):
                block, number = divmod(problem, rows)
                place = self.lines.at(problem, 1, first * isa.dtype.bytes)
                code += isa.load_block(registers[number], width, block, live, place, scratch)
            turning, result = turn(registers, rows, self.pool, isa.interleaver(width))
            code += turning
            found += result[:live]
            self.pool.give_back(result[live:])
        self.pool.give_back([scratch])
        return code, found

    def advance(self) -> Code:
        steps = self.lines.strides
        return [instruction for base in self.lines.bases for instruction in steps.advance(base, self.column.span)]


class DotLines(LineOperand):
    """Lines of a dot product: a register each, the last steps by narrower loads."""

    def __init__(self, isa: X86, pool: Pool, general: Pool, base: Reg, stride: Reg, count: int, sets: int) -> None:
        self.isa = isa
        self.lines = _Lines(isa, general, base, stride, count)
        self.sets = [pool.take(count, f"{base.name.upper()} set {number}") for number in range(sets)]

    def setup(self) -> Code:
        return self.lines.setup()

    def load(self, number: int, width: int) -> Code:
        code: Code = []
        for line in range(self.lines.count):
            place = self.lines.at(line, width, number * self.isa.register_bytes)
            code += self.isa.load_adjacent(self.register(number, line), width, place)
        return code

    def load_live(self) -> Code:
        code: Code = []
        for line in range(self.lines.count):
            code += self.isa.load_live(self.register(0, line), self.lines.at(line, 1, 0))
        return code

    def register(self, number: int, line: int) -> Reg:
        return self.sets[number % len(self.sets)][line]

    def advance(self, steps: int) -> Code:
        return self.lines.advance(steps)


class DotLinesAhead(DotLines, LinesAhead):
    """The same, and the addresses of as many lines that follow."""

    def __init__(self, isa: X86, pool: Pool, general: Pool, base: Reg, stride: Reg, count: int, sets: int) -> None:
        super().__init__(isa, pool, general, base, stride, count, sets)
        self.further = _Lines(isa, general, general.one("lines ahead"), stride, count, self.lines.strides)

    def setup(self) -> Code:
        isa, stride, (first, *_) = self.isa, self.lines.strides.stride, self.further.bases
        code = super().setup() + isa.copy(first, self.lines.bases[0])
        for _ in range(self.lines.count // 4):
            code += isa.lea(first, first, stride, 4)
        for _ in range(self.lines.count % 4):
            code += isa.add(first, stride)
        return code + self.further.aim()

    def ask(self, number: int) -> Code:
        code: Code = []
        for line in range(self.lines.count):
            code += self.isa.ask(self.further.at(line, 1, number * self.isa.register_bytes))
        return code

    def advance(self, steps: int) -> Code:
        return super().advance(steps) + self.further.advance(steps)


class NearDotLines(DotLines, NearLines):
    """Lines that share what registers there are."""

    def __init__(self, isa: X86, pool: Pool, general: Pool, base: Reg, stride: Reg, count: int) -> None:
        self.isa = isa
        self.lines = _Lines(isa, general, base, stride, count)
        registers = pool.take(max(1, min(count, len(pool.free))), base.name.upper())
        self.sets = [[registers[line % len(registers)] for line in range(count)]]

    def factor(self, number: int, line: int) -> Mem:
        return self.lines.at(line, self.isa.lanes, number * self.isa.register_bytes)


class _Broadcasts:
    """Factors: straight from memory where one column uses them and the ISA can, else through a register."""

    def __init__(self, isa: X86, pool: Pool, columns: int, sets: int) -> None:
        self.isa = isa
        self.registers = [] if columns == 1 and isa.evex else pool.take(sets, "broadcast")
        self.turns = 0

    def factor(self, place: Mem, number: int) -> Factor:
        """The real at a place; `number` chooses among the registers."""
        if not self.registers:
            return Factor(Mem(place.base, 1, place.index, place.scale, place.disp, broadcast=True))
        register = self.registers[number % len(self.registers)]
        target = self.isa.view(register, self.isa.widths[0])
        repeat = self.isa.ops.repeat_in_x if target.view == "x" else self.isa.ops.repeat
        return Factor(target, (Instruction(repeat, (target, place)),))


class LineScalars(ScalarOperand):
    """Elements contiguous along k."""

    def __init__(
        self, isa: X86, pool: Pool, general: Pool, base: Reg, stride: Reg, count: int, columns: int, sets: int
    ) -> None:
        self.isa = isa
        self.lines = _Lines(isa, general, base, stride, count)
        self.broadcasts = _Broadcasts(isa, pool, columns, sets)

    def setup(self) -> Code:
        return self.lines.setup()

    def load(self, step: int, steps: int) -> Code:
        return []

    def factor(self, step: int, index: int, part: int) -> Factor:
        disp = step * self.isa.dtype.bytes + part * self.isa.dtype.real_bytes
        return self.broadcasts.factor(self.lines.at(index, 1, disp), index * self.isa.dtype.reals + part)

    def advance(self, steps: int) -> Code:
        return self.lines.advance(steps)


class SideScalars(ScalarOperand):
    """Elements of one step side by side, one step a stride further on."""

    def __init__(
        self, isa: X86, pool: Pool, general: Pool, base: Reg, stride: Reg, count: int, columns: int, sets: int
    ) -> None:
        self.isa, self.base = isa, base
        self.strides = _Strides(isa, general, stride, isa.most_steps - 1, base.name)
        self.broadcasts = _Broadcasts(isa, pool, columns, sets)

    def setup(self) -> Code:
        return self.strides.setup()

    def load(self, step: int, steps: int) -> Code:
        return []

    def factor(self, step: int, index: int, part: int) -> Factor:
        disp = index * self.isa.dtype.bytes + part * self.isa.dtype.real_bytes
        return self.broadcasts.factor(self.strides.at(self.base, step, 1, disp), index * self.isa.dtype.reals + part)

    def advance(self, steps: int) -> Code:
        return self.strides.advance(self.base, steps)


class ColumnsOfC(CWalker):
    """A pointer that goes from column to column."""

    def __init__(self, isa: X86, base: Reg, stride: Reg, columns: Sequence[Column]) -> None:
        self.isa, self.base, self.columns = isa, base, columns
        self.stride, self.known, self.moved = stride, stride.file == "#", 0

    def setup(self) -> Code:
        return []

    def load(self, first: int, olds: Sequence[tuple[Reg, ...]]) -> Code:
        code: Code = []
        for number, (register,) in enumerate(olds, first):
            code += self.isa.load_column(register, self.columns[number], self._place(number))
        return code

    def store(self, sums: Sequence[tuple[Reg, ...]]) -> Code:
        code: Code = []
        for number, (register,) in enumerate(sums):
            code += self.isa.store_column(register, self.columns[number], self._place(number))
        return code

    def next(self) -> Code:
        if self.known:
            self.moved += self.stride.number
            return []
        return self.isa.add(self.base, self.stride)

    def _place(self, number: int) -> Mem:
        return Mem(self.base, 1, disp=self.moved + self.columns[number].first * self.isa.dtype.bytes)
