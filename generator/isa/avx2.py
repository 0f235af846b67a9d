"""AVX2 with FMA: 16 registers of 256 bits; a masked column costs one of them for the mask."""

from __future__ import annotations

from collections.abc import Sequence

from ..abi import offset
from ..ir import Instruction, Mem, Reg, Vec
from ..registers import Pool
from . import x86_ops as op
from .base import Code, Column
from .x86 import X86

__all__ = ["Avx2", "Avx2Complex", "Avx2Double", "Avx2DoubleComplex", "Avx2Single"]


class Avx2(X86):
    """What the four types share."""

    name = "avx2"
    description = "AVX2 and FMA"
    cflags = ("-mavx2", "-mfma", "-mno-vzeroupper")
    vector_registers = 16
    register_bytes = 32
    widths = "yx"

    @property
    def _live(self) -> Reg:
        return self.vector_file[-1]

    def kept(self, columns: Sequence[Column]) -> set[Reg]:
        return super().kept(columns) | ({self._live} if columns[-1].masked else set())

    def start(self, general: Pool, columns: Sequence[Column]) -> Code:
        if not columns[-1].masked:
            return []
        place = general.one("lane mask")
        general.give_back([place])
        whole = self.view(self._live, "y")
        return [
            Instruction(op.MOV_LOAD, (place, Mem(self.args, 1, disp=offset("lanes"))), "live lanes of the last column"),
            Instruction(self.ops.load, (whole, Mem(place, whole.lanes))),
        ]

    def masked_load(self, register: Reg, column: Column, place: Mem) -> Code:
        views = self.view(register, column.width), self._mask(column), self._at(place, column.width)
        return [Instruction(self.ops.mask_load, views)]

    def masked_store(self, register: Reg, column: Column, place: Mem) -> Code:
        views = self._at(place, column.width), self._mask(column), self.view(register, column.width)
        return [Instruction(self.ops.mask_store, views)]

    def _mask(self, column: Column) -> Vec:
        return self.view(self._live, column.width)


class Avx2Single(Avx2):
    """float32, eight lanes."""

    letter = "s"
    forms = frozenset({"outer", "dot", "lanes"})


class Avx2Double(Avx2):
    """float64, four lanes."""

    letter = "d"
    forms = frozenset({"outer", "dot", "lanes"})


class Avx2Complex(Avx2):
    """complex64, four elements."""

    letter = "c"


class Avx2DoubleComplex(Avx2):
    """complex128, two elements."""

    letter = "z"
