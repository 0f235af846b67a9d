"""The end of every kernel: from sums in registers to C in memory.

    P = the sums;   if CONJ: P = conj(P);   if ALPHA: P = alpha P;   if BETA: P = P + beta C;   C = P

Each step is one predicted branch on tw_args.flags, so alpha, beta and conjugation cost nothing in the k loop, and C is
never read without BETA. Where a complex beta is 1 (ADD), instruction sets that know that flag multiply nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..ir import Instruction, Reg
from ..isa.base import Column
from ..registers import Pool
from .batch import general_registers
from .fixed import Arguments
from .tile import FLAG_ADD, FLAG_ALPHA, FLAG_BETA, FLAG_CONJ, Program

__all__ = ["write_c"]

Accumulators = list[list[tuple[Reg, ...]]]


def write_c(
    program: Program, accumulators: Accumulators, spare: Pool, general: Pool | None = None, stride: str = "ldc"
) -> None:
    """Add the epilogue for ``accumulators[column][index]``, using the vector registers in `spare`.

    `general` are the general registers it may use, by default all that there are; `stride` is the argument that says
    how far apart columns of C lie.
    """
    isa, tile = program.isa, program.tile
    general = (general or Pool(general_registers(isa, tile))).clone()
    arguments = Arguments(isa, tile, general, ("flags", stride))
    flags, ldc = arguments.of.values()
    program.section("P = alpha P")
    program.add(arguments.load(backwards=True))
    if isa.dtype.complex and isa.paired:
        accumulators = _combine(program, accumulators, spare)
    if isa.dtype.complex:
        # Sums that are conjugates already are put right without the flag, and left with it.
        unless = isa.jump_if_set if program.conjugate_sums else isa.jump_if_clear
        program.add(unless(flags, FLAG_CONJ, "alpha"))
        program.add(_conjugate(program, accumulators, spare))
        program.add(isa.label("alpha"))
    program.add(isa.jump_if_clear(flags, FLAG_ALPHA, "beta"))
    program.add(_scale(program, accumulators, spare))
    program.add(isa.label("beta"), isa.jump_if_clear(flags, FLAG_BETA, "store"))
    write = _write_transposed if tile.transposed else _write_direct
    if isa.adds_old:
        program.add(isa.jump_if_clear(flags, FLAG_ADD, "scaled"))
        program.section("C = P + C")
        write(program, accumulators, spare.clone(), general.clone(), ldc, _PlainC)
        program.add(isa.jump("done"), isa.label("scaled"))
    program.section("C = P + beta C")
    write(program, accumulators, spare.clone(), general.clone(), ldc, _ScaledC)
    program.add(isa.jump("done"))
    program.section("C = P")
    program.add(isa.label("store"))
    write(program, accumulators, spare.clone(), general.clone(), ldc, None)
    program.add(isa.label("done"))


def _combine(program: Program, accumulators: Accumulators, spare: Pool) -> Accumulators:
    """re(s) v and im(s) v become s v."""
    isa = program.isa
    (pair,) = spare.take(1, "pair")
    program.add(isa.load_scalar([pair], "pair", program.columns))
    freed: list[Reg] = []
    for number, column in enumerate(program.columns):
        for first, second in accumulators[number]:
            program.add(isa.combine(first, second, pair, column))
            freed.append(second)
    spare.give_back([pair, *freed])
    return [[(first,) for first, _ in column] for column in accumulators]


def _conjugate(program: Program, accumulators: Accumulators, spare: Pool) -> list[Instruction]:
    isa = program.isa
    code: list[Instruction] = []
    signs = None
    if not isa.split:
        (signs,) = spare.take(1, "signs")
        code += isa.load_scalar([signs], "flip", program.columns)
    for number, column in enumerate(program.columns):
        for parts in accumulators[number]:
            code += isa.flip(parts[0], signs, column) if signs else isa.negate(parts[1], column)
    if signs:
        spare.give_back([signs])
    return code


def _scale(program: Program, accumulators: Accumulators, spare: Pool) -> list[Instruction]:
    isa = program.isa
    alpha = spare.take(isa.parts_per_scalar, "alpha")
    code = isa.load_scalar(alpha, "alpha", program.columns)
    temporary = spare.one("scratch") if isa.dtype.complex else None
    for number, column in enumerate(program.columns):
        for parts in accumulators[number]:
            code += _multiply(program, parts, alpha, temporary, column)
    spare.give_back([*alpha, *([temporary] if temporary else [])])
    return code


def _multiply(
    program: Program, parts: tuple[Reg, ...], factor: Sequence[Reg], temporary: Reg | None, column: Column
) -> list[Instruction]:
    """parts *= factor."""
    isa = program.isa
    if temporary is None:
        return isa.multiply(parts[0], parts[0], isa.scalar_factor(factor[0]), column)
    if isa.paired:
        return isa.scale_pairs(parts[0], factor, temporary, column)
    if isa.fused:
        return isa.scale_fused(parts[0], factor[0], temporary, column)
    real, imaginary = (isa.scalar_factor(register) for register in factor)
    cr, ci = parts
    code = isa.multiply(temporary, cr, imaginary, column)
    code += isa.multiply(cr, cr, real, column) + isa.multiply_add(cr, ci, imaginary, column, subtract=True)
    return code + isa.multiply(ci, ci, real, column) + isa.add_register(ci, temporary, column)


class _PlainC:
    """Registers for old values of C, and P += C."""

    kind = "plain"

    def __init__(self, program: Program, pool: Pool, columns: int) -> None:
        self.isa = isa = program.isa
        self._take_beta(pool)
        parts = isa.parts_per_column
        room = max(1, min(columns, (len(pool.free) - isa.transposed_rows) // parts))
        taken = pool.take_near(room * parts, "old C", adjacent=parts)
        self.registers = [tuple(taken[number * parts :][:parts]) for number in range(room)]

    def _take_beta(self, pool: Pool) -> None:
        """Take registers for what C is multiplied by."""

    def load_beta(self, columns: Sequence[Column]) -> list[Instruction]:
        """Repeat beta over its registers."""
        return []

    def add(self, parts: tuple[Reg, ...], old: tuple[Reg, ...], column: Column) -> list[Instruction]:
        """parts += old."""
        pairs = zip(parts, old, strict=True)
        return [instruction for part, value in pairs for instruction in self.isa.add_register(part, value, column)]


class _ScaledC(_PlainC):
    """The same for P += beta C."""

    kind = "old"

    def _take_beta(self, pool: Pool) -> None:
        isa = self.isa
        self.beta = pool.take(isa.parts_per_scalar, "beta")
        self.scratch = pool.one("scratch") if isa.dtype.complex and isa.paired else None

    def load_beta(self, columns: Sequence[Column]) -> list[Instruction]:
        return self.isa.load_scalar(self.beta, "beta", columns)

    def add(self, parts: tuple[Reg, ...], old: tuple[Reg, ...], column: Column) -> list[Instruction]:
        """parts += beta * old."""
        isa = self.isa
        if self.scratch is not None:
            return isa.scale_pairs(old[0], self.beta, self.scratch, column) + isa.add_register(parts[0], old[0], column)
        factors = [isa.scalar_factor(register) for register in self.beta]
        if not isa.dtype.complex:
            return isa.multiply_add(parts[0], old[0], factors[0], column)
        if isa.fused:
            begin, end = isa.multiply_fused(parts[0], old[0], factors[0], first=False, conjugates=(False, False))
            return begin + end
        real, imaginary = factors
        code = isa.multiply_add(parts[0], old[0], real, column) + isa.multiply_add(parts[1], old[0], imaginary, column)
        code += isa.multiply_add(parts[0], old[1], imaginary, column, subtract=True)
        return code + isa.multiply_add(parts[1], old[1], real, column)


def _write_direct(
    program: Program, accumulators: Accumulators, pool: Pool, general: Pool, ldc: Reg, kind: type[_PlainC] | None
) -> None:
    """Vectors run along m: each column of C is a column of registers."""
    isa, columns = program.isa, program.columns
    old = kind(program, pool, len(columns)) if kind else None
    sums = [[accumulators[number][index] for number in range(len(columns))] for index in range(program.tile.nr)]
    walker = isa.c_walker(general, isa.c, ldc, columns, sums, old.registers if old else [])
    program.add(walker.setup(), old.load_beta(columns) if old else [])
    for index, parts in enumerate(sums):
        if old:
            for start in range(0, len(columns), len(old.registers)):
                values = old.registers[: len(columns) - start]
                program.add(walker.load(start, values))
                for number, value in enumerate(values, start):
                    program.add(old.add(parts[number], value, columns[number]))
        program.add(walker.store(parts), walker.next() if index + 1 < program.tile.nr else [])


def _write_transposed(
    program: Program, accumulators: Accumulators, pool: Pool, general: Pool, ldc: Reg, kind: type[_PlainC] | None
) -> None:
    """Vectors run along n: blocks of registers are turned round, then each holds a piece of a column of C."""
    isa, tile = program.isa, program.tile
    block = isa.transposed_rows
    old = kind(program, pool, 1) if kind else None
    program.add(old.load_beta([isa.piece(block)]) if old else [])
    for start in range(0, tile.mr, block):
        rows = min(block, tile.mr - start)
        piece = isa.piece(rows)
        registers = general.clone()
        place = registers.one("C block")
        program.add(isa.copy(place, isa.c), isa.add(place, start * isa.dtype.bytes) if start else [])
        walker = isa.c_walker(registers, place, ldc, [piece], [], old.registers if old else [])
        program.add(walker.setup())
        end = f"{old.kind if old else 'new'}{start}"
        for number, column in enumerate(program.columns):
            group = accumulators[number][start : start + rows]
            code, turned = isa.turn_block(group, pool, column)
            program.add(code)
            for position in range(column.span):
                if column.masked and position:
                    program.add(isa.jump_if_dead(position, end))
                code, parts = isa.column_of(turned, position, pool, keep=old is not None)
                program.add(code)
                if old:
                    program.add(walker.load(0, old.registers), old.add(parts, old.registers[0], piece))
                last = position + 1 == column.span and number + 1 == len(program.columns)
                program.add(walker.store([parts]), [] if last else walker.next())
                pool.give_back([register for register in parts if register not in turned.registers])
            pool.give_back(turned.registers)
        if program.columns[-1].masked:
            program.add(isa.label(end))
