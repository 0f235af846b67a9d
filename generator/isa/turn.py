"""Turning rows into columns within 128 bits, by interleaving: the same six steps on NEON and on x86.

With four rows r0..r3 of four elements, `low` and `high` interleave single elements of two registers and `low2`, `high2`
pairs of them; registers wider than 128 bits do the same in each 128-bit part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..ir import Instruction, Reg
from ..registers import Pool

__all__ = ["Interleave", "Recipe", "half_turn", "turn"]

Interleave = Callable[[str, Reg, Reg, Reg], Instruction]
Recipe = tuple[str, Reg, Reg]
"""How a column comes about: the last interleaving and its two sources."""


def turn(rows: Sequence[Reg], size: int, pool: Pool, emit: Interleave) -> tuple[list[Instruction], list[Reg]]:
    """Turn up to `size` rows; missing rows leave their lanes of the result without meaning.

    Parameters
    ----------
    rows : sequence of Reg
        Go back to the pool, unless the result uses them.
    size : {1, 2, 4}
        Elements in 128 bits.
    pool : Pool
        Gives what else is needed: at most two registers for four rows.
    emit : callable
        ``emit(kind, target, first, second)`` with kind "low", "high" (elements) or "low2", "high2" (64-bit halves).

    Returns
    -------
    code, columns
        `size` registers; lanes of column c are element c of each row.
    """
    if size == 1:
        return [], list(rows)
    if size == 2:
        first, second = rows[0], rows[-1]
        (low,) = pool.take(1, "turned")
        high = second if len(rows) == 2 else pool.one("turned")
        code = [emit("low2", low, first, second), emit("high2", high, first, second)]
        pool.give_back([first])
        return code, [low, high]
    if len(rows) <= 2:
        return _turn_two(rows, pool, emit)
    r0, r1, r2 = rows[:3]
    last = rows[-1]
    r3 = last if len(rows) == 4 else pool.one("turned")
    spare = pool.one("turned")
    code = [
        emit("low", spare, r0, r1),
        emit("high", r1, r0, r1),
        emit("low", r0, r2, last),
        emit("high", r3, r2, last),
        emit("low2", r2, spare, r0),
        emit("high2", r0, spare, r0),
        emit("low2", spare, r1, r3),
        emit("high2", r3, r1, r3),
    ]
    pool.give_back([r1])
    return code, [r2, r0, spare, r3]


def _turn_two(rows: Sequence[Reg], pool: Pool, emit: Interleave) -> tuple[list[Instruction], list[Reg]]:
    first, second = rows[0], rows[-1]
    low, other = pool.take(2, "turned")
    high = second if len(rows) == 2 else pool.one("turned")
    code = [
        emit("low", low, first, second),
        emit("high", high, first, second),
        emit("high2", first, low, low),
        emit("high2", other, high, high),
    ]
    return code, [low, first, high, other]


def half_turn(
    rows: Sequence[Reg], size: int, pool: Pool, emit: Interleave
) -> tuple[list[Instruction], list[Recipe], list[Reg]]:
    """Turn up to `size` rows but for the last step, so that each column can be made where it is wanted.

    Parameters
    ----------
    rows, size, pool, emit
        As in `turn`, with size 2 or 4.

    Returns
    -------
    code, recipes, registers
        A recipe a column, and the registers that the recipes read.
    """
    last = rows[-1]
    if size == 2:
        return [], [("low2", rows[0], last), ("high2", rows[0], last)], list(rows)
    first, second = rows[0], rows[min(1, len(rows) - 1)]
    spare = pool.one("turned")
    code = [emit("low", spare, first, second), emit("high", second, first, second)]
    pairs = [(spare, spare), (second, second)]
    if len(rows) > 2:
        code += [emit("low", first, rows[2], last), emit("high", last, rows[2], last)]
        pairs = [(spare, first), (second, last)]
    recipes = [(kind, x, y) for x, y in pairs for kind in ("low2", "high2")]
    return code, recipes, [*rows, spare]
