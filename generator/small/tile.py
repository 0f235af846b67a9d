"""What a kernel of the small family is asked to do, and the program that does it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..abi import FLAGS
from ..dtypes import Mode
from ..ir import Instruction, Reg
from ..isa.base import Column, Isa
from ..liveness import needed
from ..registers import Pool
from .batch import repeat

__all__ = ["FLAG_ADD", "FLAG_ALPHA", "FLAG_BETA", "FLAG_CONJ", "LINE", "Program", "Tile"]

LINE = 64
"""Bytes of a cache line."""

FLAG_ALPHA, FLAG_BETA, FLAG_CONJ, FLAG_ADD = (FLAGS[name][0].bit_length() - 1 for name in FLAGS)
"""Numbers of the bits of tw_args.flags."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One kernel's work: which tile of C, in which mode, and how to go about it.

    Parameters
    ----------
    mode : Mode
    mr, nr : int
        Rows and columns of C.
    form : {"outer", "dot", "quad", "paired"}
        Outer products of vectors and elements, dot products with vectors along k, sums of the four products of real
        and imaginary parts, or outer products of complex columns as they lie (on ISAs that know other ways).
    transposed : bool
        Vectors run along n: C is summed transposed and turned round when it is stored.
    widths : str
        The vector columns, where the ISA leaves a choice ("zzm").
    unroll : int
        k steps in a turn of the loop, a power of two.
    pipeline : bool
        Load for the next turn while this one computes.
    sets : int
        Register sets of the vector operand; two make ping-pong.
    interleave : {"even", "threes", "front", "none"}
    prefetch : bool
        Touch C before the loop.
    ahead : bool
        While the loop runs, ask for the lines of B that the next tile along n will read: those `nr` further on.
    paced : bool
        The same, and A's vectors are read anew by every multiply-add.
    k : int
        So many k steps and no others, unrolled: an exact-size kernel; 0: any, known at run time.
    lds : (int, int, int)
        Leading dimensions of A, B and C in elements; 0: known at run time. Where `k` is not known, only those of
        panels: A's and B's, as wide as the tile.
    batch : bool
        A whole batch of problems in one call, a stride apart.
    fetch : int
        Ask for the vector operand so many bytes before its turn; 0: leave that to the hardware.
    twin : bool
        Rows are those of two panels, which come from two places in memory at once: hardware follows both.
    share : int
        Ask for other memory, one `share`-th as much as the vector operand has: as many such tiles bring what the next
        ones read. 0: for none.
    """

    mode: Mode
    mr: int
    nr: int
    form: str = "outer"
    transposed: bool = False
    widths: str = ""
    unroll: int = 4
    pipeline: bool = False
    sets: int = 2
    interleave: str = "even"
    prefetch: bool = False
    # Not in repr, which is part of `Kernel.spec_hash`: names say these, and measured costs are kept by that hash.
    k: int = field(default=0, repr=False)
    lds: tuple[int, int, int] = field(default=(0, 0, 0), repr=False)
    batch: bool = field(default=False, repr=False)
    ahead: bool = field(default=False, repr=False)
    paced: bool = field(default=False, repr=False)
    fetch: int = field(default=0, repr=False)
    twin: bool = field(default=False, repr=False)
    share: int = field(default=0, repr=False)

    @property
    def on_panels(self) -> bool:
        """Whether both operands are panels: what a k step needs lies side by side, steps one behind the other."""
        return not self.k and self.lds[1] > 0

    def lines_asked(self, element: int) -> int:
        """Cache lines of other memory that a turn of the loop asks for, elements having so many bytes."""
        return -(-self.unroll * self.vector_size * element // (LINE * self.share)) if self.share else 0

    @property
    def vector_size(self) -> int:
        """Elements along the vector dimension."""
        return self.nr if self.transposed else self.mr

    @property
    def scalar_size(self) -> int:
        """Elements along the other dimension."""
        return self.mr if self.transposed else self.nr

    @property
    def vector_along_k(self) -> bool:
        """Whether lines of the vector operand are contiguous along k, as stored."""
        return not self.mode.b_transposed if self.transposed else self.mode.a_transposed

    @property
    def scalar_along_k(self) -> bool:
        """Whether lines of the scalar operand are."""
        return self.mode.a_transposed if self.transposed else not self.mode.b_transposed

    @property
    def narrow(self) -> bool:
        """Whether quad can do it: one or two elements on one side, lines that are contiguous along k on the other."""
        if self.vector_along_k and self.scalar_size == 1:
            return True
        return self.scalar_along_k and self.vector_size <= 2 and (self.vector_size == 2 or self.vector_along_k)


@dataclass(slots=True)
class Program:
    """A kernel as instructions, with what its header tells.

    `sections` are titles by the position of the instruction they stand before; `loop` is where the k loop lies, and
    `turns_outside` how many turns run before or after it once k is long enough; from `body` on everything is one
    problem's.
    """

    isa: Isa
    tile: Tile
    columns: Sequence[Column]
    vectors: Pool
    general: Pool
    code: list[Instruction] = field(default_factory=list)
    sections: dict[int, str] = field(default_factory=dict)
    loop: tuple[int, int] = (0, 0)
    turns_outside: int = 0
    body: int = 0

    @property
    def conjugates(self) -> tuple[bool, bool]:
        """Whether elements of the vector operand, and of the scalar operand, are conjugated."""
        a, b = self.tile.mode.conjugates
        return (b, a) if self.tile.transposed else (a, b)

    @property
    def conjugate_sums(self) -> bool:
        """Whether the k loop sums the product's conjugate."""
        return self.isa.conjugates_sums(self.conjugates)

    @property
    def steps_a_turn(self) -> int:
        """k steps in a turn of the loop: a dot product takes at least a whole vector of them."""
        return max(self.tile.unroll, self.isa.lanes if self.tile.form == "dot" else 1)

    def section(self, title: str) -> None:
        """Everything added from here on belongs to a section of this name."""
        self.sections[len(self.code)] = title

    def add(self, *parts: Sequence[Instruction]) -> None:
        """Append instructions."""
        for part in parts:
            self.code.extend(part)

    def finish(self) -> None:
        """End the kernel, and drop instructions that nothing depends on."""
        if self.tile.batch:
            repeat(self)
        self.add(self.isa.finish(self.code))
        keep = needed(self.code)
        moved = [0, *itertools.accumulate(keep)]
        self.sections = {moved[position]: title for position, title in self.sections.items()}
        self.loop = moved[self.loop[0]], moved[self.loop[1]]
        self.code = list(itertools.compress(self.code, keep))

    def per_turn(self) -> dict[str, int]:
        """How many instructions of each kind a turn of the loop has."""
        counts: dict[str, int] = {}
        for instruction in self.code[slice(*self.loop)]:
            if instruction.op.kind != "label":
                counts[instruction.op.kind] = counts.get(instruction.op.kind, 0) + 1
        return counts

    def named(self) -> tuple[Reg, Reg, Reg, Reg]:
        """The four parameters' registers."""
        return self.isa.a, self.isa.b, self.isa.c, self.isa.args
