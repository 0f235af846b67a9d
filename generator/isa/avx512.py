"""AVX-512 (F, VL, DQ): 32 registers of 512 bits, masks, and factors broadcast straight from memory."""

from __future__ import annotations

from collections.abc import Sequence

from ..abi import offset
from ..ir import Imm, Instruction, Mem, Reg, Target
from ..registers import Pool
from . import x86_ops as op
from .base import Code, Column
from .x86 import X86

__all__ = ["Avx512", "Avx512Complex", "Avx512Double", "Avx512DoubleComplex", "Avx512Single"]

_LIVE = Reg("k", 1)


class Avx512(X86):
    """What the four types share."""

    name = "avx512"
    description = "AVX-512 F, VL and DQ"
    cflags = ("-mavx512f", "-mavx512vl", "-mavx512dq", "-mno-vzeroupper")
    vector_registers = 32
    register_bytes = 64
    widths = "zyx"
    evex = True
    masks_steps = True

    def start(self, general: Pool, columns: Sequence[Column]) -> Code:
        if not columns[-1].masked:
            return []
        return [Instruction(op.KMOV, (_LIVE, Mem(self.args, 1, disp=offset("mask"))), "live lanes of the last column")]

    def live_steps(self, k: Reg, general: Pool, label: str) -> Code:
        (bits,) = general.take(1, "live steps")
        code = [
            Instruction(op.AND, (k, Imm(self.lanes - 1))),
            Instruction(op.JZ, (Target(label),)),
            Instruction(op.MOV, (bits, Imm(0))),
            Instruction(op.BTS, (bits, k)),
            Instruction(op.SUB, (bits, Imm(1))),
            Instruction(op.KMOV_WORD, (_LIVE, bits), "live steps"),
        ]
        general.give_back([bits])
        return code

    def load_live(self, register: Reg, place: Mem) -> Code:
        operands = (self.view(register, "z"), self._at(place, "z"))
        return [Instruction(self.ops.load, operands, mask=_LIVE, zeroing=True)]

    def masked_load(self, register: Reg, column: Column, place: Mem) -> Code:
        operands = (self.view(register, column.width), self._at(place, column.width))
        return [Instruction(self.ops.load, operands, mask=_LIVE, zeroing=True)]

    def masked_store(self, register: Reg, column: Column, place: Mem) -> Code:
        operands = (self._at(place, column.width), self.view(register, column.width))
        return [Instruction(self.ops.store, operands, mask=_LIVE)]


class Avx512Single(Avx512):
    """float32, sixteen lanes."""

    letter = "s"
    forms = frozenset({"outer", "dot", "lanes"})


class Avx512Double(Avx512):
    """float64, eight lanes."""

    letter = "d"
    forms = frozenset({"outer", "dot", "lanes"})


class Avx512Complex(Avx512):
    """complex64, eight elements."""

    letter = "c"


class Avx512DoubleComplex(Avx512):
    """complex128, four elements."""

    letter = "z"
