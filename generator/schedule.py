"""Order of instructions: spreading loads between arithmetic without changing what is computed."""

from __future__ import annotations

from collections.abc import Sequence

from .ir import Instruction

__all__ = ["interleave"]


def interleave(
    compute: Sequence[Instruction], loads: Sequence[Instruction], pattern: str = "even"
) -> list[Instruction]:
    """Merge `loads`, wanted after `compute`, into it.

    Both keep their own order.  A load moves up only past instructions that neither read nor write what it writes and do
    not write what it reads, so the merged list computes what ``compute + loads`` computes; loads never pass stores
    because no list handed to this function has any.

    Parameters
    ----------
    compute, loads : sequences of Instruction
    pattern : {"even", "threes", "front", "none"}
        Spread the loads evenly; likewise, but behind one, four, seven ... of `compute`, so that loads of many parts
        begin a group of three that Neoverse N1 dispatches; put each as early as it may go; or leave them behind.

    Examples
    --------
    >>> interleave([], [])
    []
    """
    if pattern == "none" or not loads:
        return [*compute, *loads]
    merged: list[Instruction] = []
    placed = 0
    earliest = 0
    slots: list[int] = []
    for number, load in enumerate(loads):
        # One early: a load of several parts then begins a dispatch group of Neoverse N1 (d nt 8x4: 89 to 97 % there).
        wanted = 0 if pattern == "front" else max(0, (number * len(compute) - 1) // len(loads))
        earliest = max(earliest, wanted, _first_slot(load, compute))
        if pattern == "threes":
            earliest = min(len(compute), earliest + (1 - earliest) % 3)
        slots.append(earliest)
    for position in range(len(compute) + 1):
        while placed < len(loads) and slots[placed] == position:
            merged.append(loads[placed])
            placed += 1
        if position < len(compute):
            merged.append(compute[position])
    return merged


def _first_slot(load: Instruction, compute: Sequence[Instruction]) -> int:
    """The earliest position in `compute` before which `load` may stand."""
    reads, writes = load.reads(), load.writes()
    for position in range(len(compute) - 1, -1, -1):
        other = compute[position]
        if (other.reads() & writes) or (other.writes() & (reads | writes)):
            return position + 1
    return 0
