"""How NEON kernels reach A, B and C.

Pointers walk: loads add to them as they go, so that loops have no additions.  Three elements of a float column are a
load of two and a lane load; nothing reads past an operand's end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..ir import Instruction, Mem, Reg, Vec
from ..registers import Pool
from . import neon_ops as op
from .base import Code, Column, CWalker, Factor, LineOperand, PairLines, ScalarLines, ScalarOperand, VectorOperand
from .turn import turn

if TYPE_CHECKING:
    from .neon import Neon

__all__ = [
    "ColumnsOfC",
    "ElementLines",
    "KLanes",
    "LanePairs",
    "Lines",
    "SideLanes",
    "TurnedLines",
    "TurnedPairs",
    "Vectors",
]

Columns = Sequence[tuple[Reg, ...]]

_SCALAR_VIEW = {4: "s", 8: "d", 16: "q"}


class _Walk:
    """Columns side by side in memory, reached by ld1/ld2 and st1/st2 whose pointer goes on as they run.

    The last access of a step adds what is left of the stride, so that no instruction is spent on addresses.  Whole
    registers that are neighbours in the file share one instruction, up to four of them.

    Parameters
    ----------
    stride : Reg or int
        Bytes from one step (or column of C) to the next.
    columns : sequence of Column
    registers : sequence of sequences of tuple of Reg
        Every list of columns (each a tuple of parts) this walk will load or store, in the order of `columns`.
    batch : int
        Columns accessed together at most.
    beside : _Walk, optional
        A walk of the same stride, whose register of the rest of it will do if it is the same.
    """

    def __init__(
        self,
        isa: Neon,
        general: Pool,
        base: Reg,
        stride: Reg | int,
        columns: Sequence[Column],
        registers: Sequence[Columns],
        batch: int = 4,
        beside: _Walk | None = None,
    ) -> None:
        self.isa, self.base, self.stride = isa, base, stride
        self.spans = spans = [column.span for column in columns]
        self.parts = isa.parts_per_column
        self.bytes = isa.dtype.real_bytes * self.parts
        self.groups: list[list[int]] = []
        for number, span in enumerate(spans):
            last = self.groups[-1] if self.groups else []
            joined = (
                last
                and self.parts == 1
                and span == spans[last[-1]] == isa.lanes
                and len(last) < min(4, batch)
                and number % batch
                and all(_neighbours(some[number - 1], some[number]) for some in registers)
            )
            if joined:
                last.append(number)
            else:
                self.groups.append([number])
        final = self.groups[-1]
        total = sum(spans) * self.bytes
        before_last = total - (len(final) * isa.lanes if len(final) > 1 else _pieces(spans[-1])[-1]) * self.bytes
        if isinstance(stride, Reg) and stride.file == "#":  # a panel: its steps follow each other without a gap
            stride = stride.number - before_last
        self.before_last = before_last if isinstance(stride, Reg) else 0
        self.shared = beside is not None and beside.before_last == self.before_last
        self.back = stride
        if beside is not None and self.shared:
            self.back = beside.back
        elif self.before_last:
            self.back = general.one(f"rest of {base.name or 'c'}'s stride")

    def setup(self) -> Code:
        """What is left of the stride after the accesses before the last."""
        if self.shared or not self.before_last or not isinstance(self.back, Reg) or not isinstance(self.stride, Reg):
            return []
        return self.isa.subtract_from(self.back, self.stride, self.before_last)

    def access(self, columns: Columns, load: bool, first: int = 0, stay: bool = False) -> Code:
        """Load or store `columns`, which are those from number `first` on; with `stay`, nothing comes after them."""
        code: Code = []
        for group in self.groups:
            if not first <= group[0] < first + len(columns):
                continue
            registers = [columns[number - first] for number in group]
            pieces = _pieces(self.spans[group[0]]) if len(group) == 1 else [self.isa.lanes]
            for index, lanes in enumerate(pieces):
                last = group is self.groups[-1] and index == len(pieces) - 1
                post = (None if stay else self.back) if last else lanes * len(group) * self.bytes
                flat = [register for parts in registers for register in parts]
                place = Mem(self.base, lanes * len(flat), post=post)
                code.append(self._piece(flat, lanes, 2 * index, place, load))
        return code

    def _piece(self, registers: Sequence[Reg], lanes: int, lane: int, place: Mem, load: bool) -> Instruction:
        letter = self.isa.letter_of_lane
        count = len(registers)
        if lanes == 1:
            if load and not lane:
                return Instruction(op.repeat(count), (*map(self.isa.whole, registers), place))
            views = tuple(Vec(register, f".{letter}", 1, lane) for register in registers)
            return Instruction((op.lane_load if load else op.lane_store)(count, lane), (*views, place))
        views = tuple(Vec(register, f"{lanes}{letter}", lanes) for register in registers)
        operation = (op.load if load else op.store)(count, interleaved=self.parts == 2)
        return Instruction(operation, (*views, place))


def _neighbours(before: tuple[Reg, ...], after: tuple[Reg, ...]) -> bool:
    return after[0].number == (before[-1].number + 1) % 32


def _pieces(span: int) -> list[int]:
    """Lanes of each access to a column: three elements are two and one."""
    return [2, 1] if span == 3 else [span]


class Vectors(VectorOperand):
    """Columns side by side in memory, one step a stride further on; complex ones are taken apart on the way."""

    def __init__(
        self, isa: Neon, pool: Pool, general: Pool, base: Reg, stride: Reg | int, columns: Sequence[Column], sets: int
    ) -> None:
        parts = isa.parts_per_column
        self.sets = []
        for number in range(sets):
            taken = pool.take_near(parts * len(columns), f"{base.name.upper()} set {number}", parts)
            self.sets.append([tuple(taken[parts * column :][:parts]) for column in range(len(columns))])
        self.walk = _Walk(isa, general, base, stride, columns, self.sets)

    def setup(self) -> Code:
        return self.walk.setup()

    def load(self, step: int, steps: int) -> Code:
        return self.walk.access(self.sets[step % len(self.sets)], load=True)

    def parts(self, step: int, column: int) -> tuple[Reg, ...]:
        return self.sets[step % len(self.sets)][column]

    def advance(self, steps: int) -> Code:
        return []


class TurnedPairs(VectorOperand):
    """complex64 columns whose elements lie a stride apart: a load of a row holds two k steps; rows become columns.

    Loads into lanes, as below, would be fewer instructions and twice the work on Neoverse N1.
    """

    def __init__(self, isa: Neon, pool: Pool, general: Pool, base: Reg, stride: Reg, columns: Sequence[Column]) -> None:
        self.isa, self.stride, self.columns = isa, stride, columns
        self.steps_a_load = 2
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


class LanePairs(VectorOperand):
    """complex128 columns whose elements lie a stride apart, each loaded into its lane.

    The first fills all lanes, so that nothing waits for what the registers held.
    """

    def __init__(
        self, isa: Neon, pool: Pool, general: Pool, base: Reg, stride: Reg, columns: Sequence[Column], sets: int
    ) -> None:
        self.isa, self.stride, self.columns = isa, stride, columns
        rows = sum(column.span for column in columns)
        self.lines = [base, *general.take(rows - 1, f"lines of {base.name}")]
        self.sets = []
        for number in range(sets):
            taken = pool.take(2 * len(columns), f"{base.name.upper()} set {number}", adjacent=2)
            self.sets.append([(taken[2 * column], taken[2 * column + 1]) for column in range(len(columns))])

    def setup(self) -> Code:
        code: Code = []
        for before, line in zip(self.lines, self.lines[1:], strict=False):
            code += self.isa.add_to(line, before, self.stride)
        return code

    def load(self, step: int, steps: int) -> Code:
        code: Code = []
        for column, pair in zip(self.columns, self.sets[step % len(self.sets)], strict=True):
            for row in range(column.span):
                place = Mem(self.lines[column.first + row], 2, post=self.isa.dtype.bytes)
                if row:
                    views = [Vec(register, f".{self.isa.letter_of_lane}", 1, row) for register in pair]
                    code.append(Instruction(op.lane_load(2, row), (*views, place)))
                else:
                    code.append(Instruction(op.repeat(2), (*map(self.isa.whole, pair), place)))
        return code

    def parts(self, step: int, column: int) -> tuple[Reg, ...]:
        return self.sets[step % len(self.sets)][column]

    def advance(self, steps: int) -> Code:
        return []


class _Lines:
    """Lines contiguous along k, a pointer each."""

    def __init__(self, isa: Neon, general: Pool, base: Reg, stride: Reg, count: int) -> None:
        self.isa, self.stride = isa, stride
        self.lines = [base, *general.take(count - 1, f"lines of {base.name}")]

    def setup(self) -> Code:
        """Aim the pointers."""
        code: Code = []
        for before, line in zip(self.lines, self.lines[1:], strict=False):
            code += self.isa.add_to(line, before, self.stride)
        return code

    def load_line(self, line: int, register: Reg, lanes: int) -> Instruction:
        """The next `lanes` reals of a line."""
        size = lanes * self.isa.dtype.real_bytes
        return Instruction(op.LDR, (Vec(register, _SCALAR_VIEW[size], lanes), Mem(self.lines[line], lanes, post=size)))


class _LineSets(_Lines):
    """Sets of registers, one for each line."""

    def __init__(self, isa: Neon, pool: Pool, general: Pool, base: Reg, stride: Reg, count: int, sets: int) -> None:
        super().__init__(isa, general, base, stride, count)
        self.sets = [pool.take(count, f"{base.name.upper()} set {number}") for number in range(sets)]

    def load_set(self, registers: Sequence[Reg], lanes: int) -> Code:
        """`lanes` reals of every line."""
        return [self.load_line(line, register, lanes) for line, register in enumerate(registers)]


class Lines(_LineSets, LineOperand):
    """Both operands of a dot product."""

    def load(self, number: int, width: int) -> Code:
        return self.load_set(self.sets[number % len(self.sets)], width)

    def register(self, number: int, line: int) -> Reg:
        return self.sets[number % len(self.sets)][line]


class KLanes(_LineSets, ScalarOperand):
    """Elements contiguous along k: a register a line holds several steps and is used lane by lane."""

    @property
    def steps_a_load(self) -> int:
        """k steps that a register holds."""
        return 16 // self.isa.dtype.bytes

    def load(self, step: int, steps: int) -> Code:
        if step % self.steps_a_load:
            return []
        rest, both = steps - step, len(self.sets) * self.steps_a_load
        if len(self.sets) == 2 and steps >= both:
            return [] if step % both else self._load_both()
        return self.load_set(self._set(step), min(self.steps_a_load, rest) * self.isa.dtype.reals)

    def _load_both(self) -> Code:
        """Two registers a line in one instruction."""
        lanes = self.isa.lanes
        return [
            Instruction(op.LDP, (Vec(one, "q", lanes), Vec(two, "q", lanes), Mem(line, 2 * lanes, post=32)))
            for line, one, two in zip(self.lines, *self.sets, strict=True)
        ]

    def _set(self, step: int) -> list[Reg]:
        return self.sets[step // self.steps_a_load % len(self.sets)]

    def factor(self, step: int, index: int, part: int) -> Factor:
        lane = step % self.steps_a_load * self.isa.dtype.reals + part
        return Factor(self.isa.lane(self._set(step)[index], lane))

    def advance(self, steps: int) -> Code:
        return []


class TurnedLines(_Lines, PairLines):
    """complex64 lines in twos: a load a line holds two steps, turned into a register a step."""

    def __init__(
        self, isa: Neon, pool: Pool, general: Pool, base: Reg, stride: Reg, count: int, groups: Sequence[range]
    ) -> None:
        super().__init__(isa, general, base, stride, count)
        self.groups = groups
        name = base.name.upper()
        self.steps = _in_turns(pool, groups, 2, f"{name} in twos")
        # A first line is free once it is turned, so groups share its register.  The second is turned where it was
        # loaded, unless there is no other set to compute from meanwhile.
        room = max(map(len, groups))
        self.firsts = pool.take(room, f"{name} lines") if count > 1 else []
        self.seconds = pool.take(room, f"{name} lines") if count > 1 and len(groups) == 1 else []

    def load_group(self, number: int, steps: int) -> Code:
        loads: Code = []
        turning: Code = []
        for place, unit in enumerate(self.groups[number]):
            now, later = self.steps[unit]
            second = self.seconds[place] if self.seconds else later
            if 2 * unit + 1 < len(self.lines):
                first = self.firsts[place]
                loads.append(self.load_line(2 * unit, first, 2 * steps))
                loads.append(self.load_line(2 * unit + 1, second, 2 * steps))
                turning.append(self.isa.interleave("low2", now, first, second))
            else:  # the other line's lanes have no meaning
                first = second = now
                loads.append(self.load_line(2 * unit, now, 2 * steps))
            if steps == 2:
                turning.append(self.isa.interleave("high2", later, first, second))
        return loads + turning

    def load(self, step: int, steps: int) -> Code:
        assert len(self.groups) == 1
        return [] if step % 2 else self.load_group(0, min(2, steps - step))

    def parts(self, step: int, column: int) -> tuple[Reg, ...]:
        return (self.steps[column][step % 2],)

    def advance(self, steps: int) -> Code:
        return []


class ElementLines(_Lines, ScalarLines):
    """complex64 lines: a load holds two steps' elements, used lane by lane."""

    def __init__(self, isa: Neon, pool: Pool, general: Pool, base: Reg, stride: Reg, groups: Sequence[range]) -> None:
        super().__init__(isa, general, base, stride, groups[-1].stop)
        self.groups = groups
        self.registers = _in_turns(pool, groups, 1, f"{base.name.upper()} lines")

    def load_group(self, number: int, steps: int) -> Code:
        return [self.load_line(line, self.registers[line][0], 2 * steps) for line in self.groups[number]]

    def load(self, step: int, steps: int) -> Code:
        assert len(self.groups) == 1
        return [] if step % 2 else self.load_group(0, min(2, steps - step))

    def factor(self, step: int, index: int, part: int) -> Factor:
        return Factor(self.isa.lane(self.registers[index][0], 2 * (step % 2) + part))

    def advance(self, steps: int) -> Code:
        return []


def _in_turns(pool: Pool, groups: Sequence[range], each: int, purpose: str) -> list[tuple[Reg, ...]]:
    """`each` registers for every number in `groups`, which alternate between two sets."""
    sets = [[tuple(pool.take(each, purpose)) for _ in groups[0]] for _ in groups[:2]]
    return [sets[number % 2][place] for number, group in enumerate(groups) for place in range(len(group))]


class SideLanes(ScalarOperand):
    """Elements of one step side by side: registers hold several of them."""

    def __init__(self, isa: Neon, pool: Pool, general: Pool, base: Reg, stride: Reg, count: int, sets: int) -> None:
        self.isa = isa
        columns = isa.real().columns(count * isa.dtype.reals, "")
        self.sets = [
            [(register,) for register in pool.take_near(len(columns), f"{base.name.upper()} set {number}", 1)]
            for number in range(sets)
        ]
        self.walk = _Walk(isa.real(), general, base, stride, columns, self.sets)

    def setup(self) -> Code:
        return self.walk.setup()

    def load(self, step: int, steps: int) -> Code:
        return self.walk.access(self.sets[step % len(self.sets)], load=True)

    def factor(self, step: int, index: int, part: int) -> Factor:
        number, lane = divmod(index * self.isa.dtype.reals + part, self.isa.lanes)
        (register,) = self.sets[step % len(self.sets)][number]
        return Factor(self.isa.lane(register, lane))

    def advance(self, steps: int) -> Code:
        return []


class ColumnsOfC(CWalker):
    """C: one pointer walks with the stores, another with the loads of old values, which so wait for no store."""

    def __init__(
        self,
        isa: Neon,
        general: Pool,
        base: Reg,
        stride: Reg,
        columns: Sequence[Column],
        sums: Sequence[Columns],
        olds: Columns,
    ) -> None:
        self.isa, self.base = isa, base
        self.columns, self.stored = len(sums), 0  # of which the last moves no pointer: one part less on Neoverse N1
        self.writer = _Walk(isa, general, base, stride, columns, sums)
        self.reader = None
        if olds:
            batches = [olds[number % len(olds)] for number in range(len(columns))]
            reader = general.one("old C")
            self.reader = _Walk(isa, general, reader, stride, columns, [batches], len(olds), self.writer)

    def setup(self) -> Code:
        code = self.writer.setup()
        if self.reader:
            code += self.reader.setup() + self.isa.copy(self.reader.base, self.base)
        return code

    def load(self, first: int, olds: Columns) -> Code:
        assert self.reader is not None
        return self.reader.access(olds, load=True, first=first, stay=self.stored + 1 == self.columns)

    def store(self, sums: Columns) -> Code:
        self.stored += 1
        return self.writer.access(sums, load=False, stay=self.stored == self.columns)

    def next(self) -> Code:
        return []
