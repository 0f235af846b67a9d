"""What AVX-512 and AVX2 share: walking addresses by index registers, tiles made of vector columns of several widths.

The four parameters stay where the calling convention puts them (rdi, rsi, rdx, rcx), so a kernel moves no register
before it starts.  Complex numbers are kept interleaved; re(s) v and im(s) v are summed apart and combined once.
"""

from __future__ import annotations

import itertools
import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from ..abi import offset
from ..ir import Imm, Instruction, Mem, Op, Reg, Target, Vec
from ..registers import Pool
from . import x86_ops as op
from .base import (
    SECOND_CACHE,
    Code,
    Column,
    CWalker,
    Isa,
    LineOperand,
    LinesAhead,
    NearLines,
    ProblemOperand,
    ScalarOperand,
    TurnedBlock,
    VectorOperand,
)
from .turn import Interleave, turn
from .x86_operands import (
    ColumnsOfC,
    DotLines,
    DotLinesAhead,
    LineScalars,
    NearDotLines,
    Problems,
    SideScalars,
    TurnedVectors,
    TwinVectors,
    Vectors,
)

if TYPE_CHECKING:
    from ..small.tile import Tile

__all__ = ["X86"]

_NAMES = ("rax", "r8", "r9", "r10", "r11", "rbx", "r12", "r13", "r14", "r15")
_WORDS = {"rax": "eax", "rbx": "ebx", **{f"r{n}": f"r{n}d" for n in range(8, 16)}}
_PARAMETERS = {"a": ("D", "rdi"), "b": ("S", "rsi"), "c": ("d", "rdx"), "args": ("c", "rcx")}
BYTES = {"x": 16, "y": 32, "z": 64}


class X86(Isa):
    """AVX and up."""

    arch = "x86_64"
    template = "asm/gemm.c.j2"
    paired = True
    names_dots = True
    widths: ClassVar[str]
    """Widths of vector columns there are, widest first."""
    evex: ClassVar[bool] = False
    """AVX-512's encoding: sixteen more registers, and factors broadcast from memory inside a multiplication."""
    constant_strides: ClassVar[bool] = True
    asks_ahead = True
    asks_others = True
    most_steps: ClassVar[int] = 4

    def __init__(self) -> None:
        super().__init__()
        self.ops = op.float_ops(self.dtype.real_bytes)

    # Shape

    def width_lanes(self, width: str) -> int:
        """Reals in a register of a width."""
        return BYTES[width] // self.dtype.real_bytes

    def width_span(self, width: str) -> int:
        """Elements in a register of a width."""
        return BYTES[width] // self.dtype.bytes

    @property
    def general_registers(self) -> Sequence[Reg]:
        return [Reg("x", number) for number in range(len(_NAMES))]

    def refusal(self, tile: Tile) -> str | None:
        if tile.form == "dot" and tile.mr > 8:
            return "it adds up the sums of at most eight rows"
        return super().refusal(tile)

    def has_columns(self, widths: object) -> bool:
        return isinstance(widths, str) and re.fullmatch(f"[{self.widths}]+m?", widths) is not None

    def sized(self, tile: Tile) -> Tile:
        if not tile.widths or tile.form == "lanes":
            return tile
        size = sum(self.width_span(width) for width in tile.widths.rstrip("m"))
        return replace(tile, nr=size) if tile.transposed else replace(tile, mr=size)

    def columns(self, size: int, widths: str) -> list[Column]:
        names = widths.rstrip("m") or self._cut(size)
        columns = []
        first = 0
        for number, width in enumerate(names):
            span = min(self.width_span(width), size - first)
            columns.append(Column(first, span, width, widths.endswith("m") and number == len(names) - 1))
            first += span
        return columns

    def _cut(self, size: int) -> str:
        """Widest columns first; what is left goes into the narrowest that holds it."""
        widest = self.width_span(self.widths[0])
        names = self.widths[0] * (size // widest)
        rest = size % widest
        if rest:
            names += next(width for width in reversed(self.widths) if self.width_span(width) >= rest)
        return names

    def partial(self, column: Column) -> bool:
        """Whether a column is shorter than its register, by a number known here."""
        return not column.masked and column.span < self.width_span(column.width)

    # Text

    def show_register(self, register: Reg) -> str:
        if register.name:
            return _PARAMETERS[register.name][1]
        if register.file == "x":
            return _NAMES[register.number]
        return f"{'k' if register.file == 'k' else 'xmm'}{register.number}"

    def constraint(self, parameter: Reg) -> str:
        return _PARAMETERS[parameter.name][0]

    def operands(self, changed: set[Reg], code: Sequence[Instruction]) -> dict[str, str]:
        if code[-1].op is op.VZEROUPPER:  # it changes all of the first sixteen
            changed = changed | {Reg("v", number) for number in range(16)}
        return super().operands(changed, code)

    def show(self, instruction: Instruction) -> str:
        words = [_Word(self._show(operand), operand) for operand in instruction.operands]
        if instruction.mask is not None:
            mask = f"%{{%%{self.show_register(instruction.mask)}%}}"
            words[0] = _Word(words[0] + mask + ("%{z%}" if instruction.zeroing else ""), instruction.operands[0])
        return instruction.op.text.format(*words)

    def _show(self, operand: object) -> str:
        match operand:
            case Reg(name=name) if name:
                return f"%[{name}]"
            case Reg():
                return f"%%{self.show_register(operand)}"
            case Vec(reg=reg, view=view):
                return f"%%{view}mm{reg.number}"
            case Imm(value=value):
                return f"${value}"
            case Target(label=label):
                return f".L{label}%="
            case Mem(base=base, index=index, scale=scale, disp=disp, broadcast=broadcast, lanes=lanes):
                inside = self._show(base) + (f", {self._show(index)}, {scale}" if index else "")
                repeated = f"%{{1to{lanes}%}}" if broadcast else ""
                return f"{disp or ''}({inside}){repeated}"
        raise TypeError(operand)

    # Addresses and control

    def load_arguments(self, wanted: Sequence[tuple[Reg, str]]) -> Code:
        return [
            Instruction(op.MOV_LOAD, (register, Mem(self.args, 1, disp=offset(field))), field)
            for register, field in wanted
        ]

    def copy(self, register: Reg, source: Reg) -> Code:
        return [Instruction(op.MOV, (register, source))]

    def add(self, register: Reg, other: Reg | int) -> Code:
        return [Instruction(op.ADD, (register, other if isinstance(other, Reg) else Imm(other)))]

    def constant(self, register: Reg, value: int) -> Code:
        return [Instruction(op.MOV, (register, Imm(value)))]

    def lea(self, register: Reg, base: Reg, index: Reg, scale: int) -> Code:
        """register = base + index * scale."""
        return [Instruction(op.LEA, (register, Mem(base, 1, index=index, scale=scale)))]

    def jump(self, label: str) -> Code:
        return [Instruction(op.JMP, (Target(label),))]

    def jump_if_clear(self, register: Reg, bit: int, label: str) -> Code:
        return [Instruction(op.TESTL, (register, Imm(1 << bit))), Instruction(op.JZ, (Target(label),))]

    def jump_if_dead(self, position: int, label: str) -> Code:
        place = Mem(self.args, 1, disp=offset("mask"))
        return [
            Instruction(op.BTL, (place, Imm(position * self.dtype.reals))),
            Instruction(op.JNC, (Target(label),)),
        ]

    def count_down(self, register: Reg, amount: int, label: str, negative: bool) -> Code:
        jump = op.JS if negative else op.JNS
        return [Instruction(op.SUB, (register, Imm(amount))), Instruction(jump, (Target(label),))]

    def prefetch(self, place: Reg) -> Code:
        return [Instruction(op.PREFETCH, (Mem(place, 1),))]

    def fetch(self, place: Reg, ahead: int, further: int) -> Code:
        kind = op.FETCH if ahead < SECOND_CACHE else op.PREFETCH_SECOND
        return [Instruction(kind, (Mem(place, 1, disp=ahead + further),))]

    def ask(self, place: Mem) -> Code:
        """Bring the cache line of a place into the second cache."""
        return [Instruction(op.PREFETCH_SECOND, (place,))]

    def ask_second(self, place: Reg, further: int) -> Code:
        return self.ask(Mem(place, 1, disp=further))

    def finish(self, code: Sequence[Instruction]) -> Code:
        # What writes 128 bits clears those above, so code of such instructions alone leaves nothing to clear.
        wide = any(isinstance(operand, Vec) and operand.view != "x" for i in code for operand in i.operands)
        return [Instruction(op.VZEROUPPER, ())] if wide else []

    # Arithmetic

    def view(self, register: Reg, width: str) -> Vec:
        """A register seen at a width."""
        return Vec(register, width, self.width_lanes(width))

    def narrow(self, vector: Vec, width: str) -> Vec:
        """The same register at another width."""
        return self.view(vector.reg, width)

    def factor_at(self, factor: object, column: Column) -> Vec | Mem:
        """A factor at a column's width."""
        if isinstance(factor, Mem):
            return replace(factor, lanes=self.width_lanes(column.width))
        assert isinstance(factor, Vec)
        return self.narrow(factor, column.width)

    def _apply(self, operation: Op, column: Column, *registers: Reg) -> Instruction:
        return Instruction(operation, tuple(self.view(register, column.width) for register in registers))

    def zero(self, register: Reg) -> Code:
        return [Instruction(self.ops.zero, (self.view(register, "x"),))]

    def multiply(self, target: Reg, vector: Reg, factor: object, column: Column) -> Code:
        views = self.view(target, column.width), self.view(vector, column.width), self.factor_at(factor, column)
        return [Instruction(self.ops.multiply, views)]

    def multiply_add(self, target: Reg, vector: Reg, factor: object, column: Column, subtract: bool = False) -> Code:
        views = self.view(target, column.width), self.view(vector, column.width), self.factor_at(factor, column)
        return [Instruction(self.ops.multiply_subtract if subtract else self.ops.multiply_add, views)]

    def negate(self, register: Reg, column: Column) -> Code:
        raise self._lacks("split complex columns")

    def add_register(self, target: Reg, source: Reg, column: Column) -> Code:
        return [self._apply(self.ops.add, column, target, target, source)]

    def combine(self, first: Reg, second: Reg, pair: Reg, column: Column) -> Code:
        return [
            self._apply(self.ops.swap, column, second, second),
            self._apply(self.ops.multiply_add, column, first, second, pair),
        ]

    def flip(self, register: Reg, signs: Reg, column: Column) -> Code:
        return [self._apply(self.ops.multiply, column, register, register, signs)]

    def scale_pairs(self, register: Reg, factor: Sequence[Reg], temporary: Reg, column: Column) -> Code:
        real, imaginary = factor
        return [
            self._apply(self.ops.swap, column, temporary, register),
            self._apply(self.ops.multiply, column, temporary, temporary, imaginary),
            self._apply(self.ops.multiply_add_subtract, column, register, real, temporary),
        ]

    def load_scalar(self, registers: Sequence[Reg], field: str, columns: Sequence[Column]) -> Code:
        width = max((column.width for column in columns), key=BYTES.__getitem__)
        pair = field in ("pair", "flip")
        if pair:
            operation = self.ops.repeat_pair_in_x if width == "x" else self._repeat_pair()
        else:
            operation = self.ops.repeat_in_x if width == "x" else self.ops.repeat
        return [
            Instruction(
                operation,
                (
                    self.view(register, width),
                    Mem(self.args, 2 if pair else 1, disp=offset(field) + part * self.dtype.real_bytes),
                ),
            )
            for part, register in enumerate(registers)
        ]

    def _repeat_pair(self) -> Op:
        """Broadcast of two reals to a wide register."""
        if self.dtype.real_bytes == 4:
            return self.ops.repeat_pair
        return replace(self.ops.repeat_pair, text=f"vbroadcastf{'64x2' if self.evex else '128'} {{1}}, {{0}}")

    def scalar_factor(self, register: Reg) -> object:
        return self.view(register, self.widths[0])

    # Whole and partial columns in memory

    def load_column(self, register: Reg, column: Column, place: Mem) -> Code:
        """A column of the vector operand or of C."""
        if column.masked:
            return self.masked_load(register, column, place)
        if not self.partial(column):
            return [Instruction(self.ops.load, (self.view(register, column.width), self._at(place, column.width)))]
        return self.load_blocks(register, column.width, column.span * self.dtype.reals, place, self.scratch)

    def store_column(self, register: Reg, column: Column, place: Mem) -> Code:
        """A column of C."""
        if column.masked:
            return self.masked_store(register, column, place)
        if not self.partial(column):
            return [Instruction(self.ops.store, (self._at(place, column.width), self.view(register, column.width)))]
        code: Code = []
        block = self.width_lanes("x")
        for number, start in enumerate(range(0, column.span * self.dtype.reals, block)):
            count = min(block, column.span * self.dtype.reals - start)
            source = register
            if number:
                code += self.extract_block(self.scratch, register, number, column.width)
                source = self.scratch
            code += self.store_reals(source, count, replace(place, disp=place.disp + number * 16))
        return code

    def load_blocks(self, register: Reg, width: str, reals: int, place: Mem, scratch: Reg) -> Code:
        """Fewer reals than a register holds, 128 bits at a time."""
        code: Code = []
        block = self.width_lanes("x")
        for number, start in enumerate(range(0, reals, block)):
            count = min(block, reals - start)
            code += self.load_block(
                register, width, number, count, replace(place, disp=place.disp + number * 16), scratch
            )
        return code

    def load_block(self, register: Reg, width: str, number: int, count: int, place: Mem, scratch: Reg) -> Code:
        """`count` reals into 128-bit block `number`; block 0 clears the blocks above."""
        if not number:
            return self.load_reals(register, count, place)
        insert = self.ops.insert_wide if self.evex else self.ops.insert
        whole = self.view(register, width)
        if count == self.width_lanes("x"):
            return [Instruction(insert, (whole, Imm(number), self._at(place, "x"), whole))]
        return [
            *self.load_reals(scratch, count, place),
            Instruction(insert, (whole, Imm(number), self.view(scratch, "x"), whole)),
        ]

    def load_adjacent(self, register: Reg, reals: int, place: Mem) -> Code:
        """A power of two of reals, in one load; lanes above are cleared."""
        for width in self.widths:
            if self.width_lanes(width) == reals:
                return [Instruction(self.ops.load, (self.view(register, width), self._at(place, width)))]
        return self.load_reals(register, reals, place)

    def load_reals(self, register: Reg, count: int, place: Mem) -> Code:
        """One to four reals into the low 128 bits."""
        target = self.view(register, "x")
        if count == self.width_lanes("x"):
            return [Instruction(self.ops.load, (target, self._at(place, "x")))]
        if count == 3:
            third = replace(place, lanes=1, disp=place.disp + 2 * self.dtype.real_bytes)
            return [
                *self.load_reals(register, 2, place),
                Instruction(self.ops.insert_one, (target, Imm(0x20), third, target)),
            ]
        return [Instruction(self.ops.load_narrow[count], (target, replace(place, lanes=count)))]

    def store_reals(self, register: Reg, count: int, place: Mem) -> Code:
        """One to four reals from the low 128 bits."""
        source = self.view(register, "x")
        if count == self.width_lanes("x"):
            return [Instruction(self.ops.store, (self._at(place, "x"), source))]
        if count == 3:
            third = replace(place, lanes=1, disp=place.disp + 2 * self.dtype.real_bytes)
            return [
                *self.store_reals(register, 2, place),
                Instruction(self.ops.extract_one, (third, Imm(2), source)),
            ]
        return [Instruction(self.ops.store_narrow[count], (replace(place, lanes=count), source))]

    def extract_block(self, target: Reg, source: Reg, number: int, width: str) -> Code:
        """A 128-bit block of a wide register."""
        extract = self.ops.extract_wide if self.evex else self.ops.extract
        return [Instruction(extract, (self.view(target, "x"), Imm(number), self.view(source, width)))]

    def _at(self, place: Mem, width: str) -> Mem:
        return replace(place, lanes=self.width_lanes(width))

    @abstractmethod
    def masked_load(self, register: Reg, column: Column, place: Mem) -> Code:
        """The live part of a masked column; nothing beyond it is read."""

    @abstractmethod
    def masked_store(self, register: Reg, column: Column, place: Mem) -> Code:
        """The live part of a masked column."""

    @property
    def scratch(self) -> Reg:
        """The register kept for partial columns."""
        return self.vector_file[-1]

    def kept(self, columns: Sequence[Column]) -> set[Reg]:
        return {self.scratch} if any(self.partial(column) for column in columns) else set()

    # Dot products

    def load_live(self, register: Reg, place: Mem) -> Code:
        """The steps that `live_steps` noted, zero beyond them."""
        raise self._lacks("masked steps")

    @property
    def full_width(self) -> str:
        return self.widths[0]

    def line_operand(self, pool: Pool, general: Pool, base: Reg, stride: Reg, count: int, sets: int) -> LineOperand:
        return DotLines(self, pool, general, base, stride, count, sets)

    def lines_ahead(self, pool: Pool, general: Pool, base: Reg, stride: Reg, count: int) -> LinesAhead:
        return DotLinesAhead(self, pool, general, base, stride, count, 1)

    def near_lines(self, pool: Pool, general: Pool, base: Reg, stride: Reg, count: int) -> NearLines:
        return NearDotLines(self, pool, general, base, stride, count)

    def whole_factor(self, register: Reg) -> object:
        return self.view(register, self.widths[0])

    def dot_columns(self, size: int) -> list[Column]:
        rows = self.width_lanes("x")
        return [Column(first, min(rows, size - first), "x") for first in range(0, size, rows)]

    def reduce(self, rows: Sequence[Reg], target: Reg, pool: Pool) -> Code:
        """As many rows as 128 bits have lanes: interleaved and added, they fold together."""
        (temporary,) = pool.take(1, "sums")
        code: Code = []
        width = self.widths[0]
        if len(rows) == 1:
            code += self._fold(rows[0], temporary)
            width = "x"

        def merge(kinds: tuple[str, str], first: Reg, second: Reg) -> None:
            """first = the halves of first and second, interleaved in both ways and added."""
            emit = self.interleaver(width)
            code.extend([emit(kinds[0], temporary, first, second), emit(kinds[1], first, first, second)])
            code.append(self._apply(self.ops.add, Column(0, 0, width), first, first, temporary))

        if self.width_lanes("x") == 4:
            merge(("low", "high"), rows[0], rows[min(1, len(rows) - 1)])
            if len(rows) > 2:
                merge(("low", "high"), rows[2], rows[-1])
                merge(("low2", "high2"), rows[0], rows[2])
            else:
                merge(("low2", "high2"), rows[0], rows[0])
        else:
            merge(("low2", "high2"), rows[0], rows[-1])
        if len(rows) > 1:
            code += self._fold(rows[0], temporary)
        if target != rows[0]:
            raise ValueError("the sums of rows take the place of the first")
        pool.give_back([temporary])
        return code

    def _fold(self, register: Reg, temporary: Reg) -> Code:
        """Add upper halves to lower ones until 128 bits are left."""
        code: Code = []
        for width, half in itertools.pairwise(self.widths):
            code.append(self._upper_half(temporary, register, width))
            code.append(self._apply(self.ops.add, Column(0, 0, half), register, register, temporary))
        return code

    def _upper_half(self, target: Reg, source: Reg, width: str) -> Instruction:
        if width == "y":
            (extract,) = self.extract_block(target, source, 1, width)
            return extract
        views = self.view(target, "y"), Imm(1), self.view(source, width)
        return Instruction(self.ops.extract_half, views)

    # Lanes as problems

    def problems(self, tile: Tile) -> int:
        return self.width_span(tile.widths)

    def problem_operand(self, pool: Pool, general: Pool, base: Reg, stride: Reg, column: Column) -> ProblemOperand:
        return Problems(self, pool, general, base, stride, column)

    def walk(self, register: Reg, stride: Reg, number: int) -> Code:
        return self.lea(register, register, stride, number)

    # Operands and C

    def vector_operand(
        self, pool: Pool, general: Pool, base: Reg, stride: Reg, columns: Sequence[Column], contiguous: bool, sets: int
    ) -> VectorOperand:
        if contiguous:
            return Vectors(self, pool, general, base, stride, columns, sets)
        return TurnedVectors(self, pool, general, base, stride, columns)

    def twin_operand(
        self, pool: Pool, general: Pool, base: Reg, stride: Reg, columns: Sequence[Column], sets: int
    ) -> VectorOperand:
        return TwinVectors(self, pool, general, base, stride, columns, sets)

    def scalar_operand(
        self,
        pool: Pool,
        general: Pool,
        base: Reg,
        stride: Reg,
        count: int,
        k_contiguous: bool,
        columns: int,
        sets: int,
    ) -> ScalarOperand:
        kind = LineScalars if k_contiguous else SideScalars
        return kind(self, pool, general, base, stride, count, columns, sets)

    def c_walker(
        self,
        general: Pool,
        base: Reg,
        stride: Reg,
        columns: Sequence[Column],
        sums: Sequence[Sequence[tuple[Reg, ...]]],
        olds: Sequence[tuple[Reg, ...]],
    ) -> CWalker:
        return ColumnsOfC(self, base, stride, columns)

    # C summed transposed

    def piece(self, rows: int) -> Column:
        return Column(0, rows, "x")

    def turn_block(self, rows: Sequence[tuple[Reg, ...]], pool: Pool, column: Column) -> tuple[Code, TurnedBlock]:
        code, columns = turn(
            [register for (register,) in rows], self.transposed_rows, pool, self.interleaver(column.width)
        )
        return code, TurnedBlock(columns, [columns])

    def interleaver(self, width: str) -> Interleave:
        """`turn`'s way to interleave registers of a width."""

        def emit(kind: str, target: Reg, first: Reg, second: Reg) -> Instruction:
            return Instruction(self.ops.unpack[kind], tuple(self.view(r, width) for r in (target, first, second)))

        return emit

    def column_of(self, block: TurnedBlock, position: int, pool: Pool, keep: bool) -> tuple[Code, tuple[Reg, ...]]:
        number, row = divmod(position, self.transposed_rows)
        source = block.registers[row]
        if not number and not keep:
            return [], (source,)
        target = pool.one("block")
        return self.extract_block(target, source, number, "z" if number > 1 else "y"), (target,)


class _Word(str):
    """An operand's text; ``{0:l}`` asks for the low 32 bits of a general register."""

    def __new__(cls, text: str, operand: object) -> _Word:
        word = super().__new__(cls, text)
        word.operand = operand
        return word

    operand: object

    def __format__(self, spec: str) -> str:
        if spec == "l" and isinstance(self.operand, Reg):
            return f"%%{_WORDS[_NAMES[self.operand.number]]}"
        return str(self)
