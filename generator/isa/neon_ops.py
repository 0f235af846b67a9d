"""The AArch64 instructions that kernels use: how each prints and what it does."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from ..ir import Instruction, Mem, Op, Reg, Target, Vec
from ..machine import Fault, Machine

__all__: list[str] = []


def _go(instruction: Instruction) -> str:
    target = instruction.operands[-1]
    assert isinstance(target, Target)
    return target.label


def _address(machine: Machine, operand: object) -> int:
    assert isinstance(operand, Mem)
    return machine.address(operand)


def _write(machine: Machine, register: object, value: int) -> None:
    assert isinstance(register, Reg)
    machine.general[register] = value


def _ldr_x(machine: Machine, instruction: Instruction) -> None:
    *registers, place = instruction.operands
    address = _address(machine, place)
    for number, register in enumerate(registers):
        _write(machine, register, machine.memory[address + 8 * number])


def _add(sign: int, flags: bool = False) -> Callable[[Machine, Instruction], None]:
    def effect(machine: Machine, instruction: Instruction) -> None:
        target, first, second = instruction.operands
        result = machine.number(first) + sign * machine.number(second)
        _write(machine, target, result)
        if flags:
            machine.flag = result

    return effect


def _branch(condition: Callable[[int], bool]) -> Callable[[Machine, Instruction], str | None]:
    def effect(machine: Machine, instruction: Instruction) -> str | None:
        return _go(instruction) if condition(machine.result()) else None

    return effect


def _test_bit(wanted: int) -> Callable[[Machine, Instruction], str | None]:
    def effect(machine: Machine, instruction: Instruction) -> str | None:
        register, bit, _ = instruction.operands
        return _go(instruction) if machine.number(register) >> machine.number(bit) & 1 == wanted else None

    return effect


def _load(machine: Machine, instruction: Instruction) -> None:
    """ldr, ldp and ld1: registers one after another in memory."""
    registers = _lanes(instruction.operands) if instruction.op.text.startswith("ld1") else instruction.operands[:-1]
    address = _address(machine, instruction.operands[-1])
    for register in registers:
        assert isinstance(register, Vec)
        machine.set(register, machine.load(address, register.lanes))
        address += register.lanes * machine.element


def _store(machine: Machine, instruction: Instruction) -> None:
    registers = _lanes(instruction.operands) if instruction.op.text.startswith("st1") else instruction.operands[:-1]
    address = _address(machine, instruction.operands[-1])
    for register in registers:
        assert isinstance(register, Vec)
        machine.store(address, machine.get(register))
        address += register.lanes * machine.element


def _lanes(operands: Sequence[object]) -> list[Vec]:
    vectors = [operand for operand in operands if isinstance(operand, Vec)]
    for one, next_one in itertools.pairwise(vectors):
        if next_one.reg.number != (one.reg.number + 1) % 32:
            raise Fault(
                f"v{one.reg.number} and v{next_one.reg.number} are no neighbours, as a list of registers must be"
            )
    return vectors


def _load_structures(machine: Machine, instruction: Instruction) -> None:
    """ld2: every second element to each register."""
    vectors = _lanes(instruction.operands)
    address = _address(machine, instruction.operands[-1])
    values = machine.load(address, vectors[0].lanes * len(vectors))
    for number, vector in enumerate(vectors):
        machine.set(vector, values[number :: len(vectors)])


def _store_structures(machine: Machine, instruction: Instruction) -> None:
    vectors = _lanes(instruction.operands)
    address = _address(machine, instruction.operands[-1])
    columns = [machine.get(vector) for vector in vectors]
    machine.store(address, [value for group in zip(*columns, strict=True) for value in group])


def _load_lane(machine: Machine, instruction: Instruction) -> None:
    """ld1 and ld2 to one lane; the others stay."""
    vectors = _lanes(instruction.operands)
    values = machine.load(_address(machine, instruction.operands[-1]), len(vectors))
    for vector, value in zip(vectors, values, strict=True):
        assert vector.lane is not None
        old = list(machine.vectors[vector.reg])
        old[vector.lane] = value
        machine.vectors[vector.reg] = tuple(old)


def _store_lane(machine: Machine, instruction: Instruction) -> None:
    vectors = _lanes(instruction.operands)
    values = [machine.vectors[vector.reg][vector.lane or 0] for vector in vectors]
    machine.store(_address(machine, instruction.operands[-1]), values)


def _load_repeat(machine: Machine, instruction: Instruction) -> None:
    """ld1r and ld2r: one structure to every lane."""
    vectors = _lanes(instruction.operands)
    values = machine.load(_address(machine, instruction.operands[-1]), len(vectors))
    for vector, value in zip(vectors, values, strict=True):
        machine.set(vector, (value,) * vector.lanes)


def _product(sign: int | None) -> Callable[[Machine, Instruction], None]:
    def effect(machine: Machine, instruction: Instruction) -> None:
        target, first, second = instruction.operands
        products = [x * y for x, y in zip(machine.get(first), machine.get(second), strict=True)]
        if sign is not None:
            products = [c + sign * p for c, p in zip(machine.get(target), products, strict=True)]
        machine.set(target, products)

    return effect


def _faddp(machine: Machine, instruction: Instruction) -> None:
    target, first, second = instruction.operands
    both = machine.get(first) + machine.get(second)
    machine.set(target, [both[lane] + both[lane + 1] for lane in range(0, len(both), 2)])


def _zip(high: bool, halves: bool) -> Callable[[Machine, Instruction], None]:
    def effect(machine: Machine, instruction: Instruction) -> None:
        target, first, second = instruction.operands
        one, two = machine.whole(first), machine.whole(second)
        half = len(one) // 2
        one, two = (one[half:], two[half:]) if high else (one[:half], two[:half])
        if halves:
            machine.set(target, one + two)
        else:
            machine.set(target, [value for pair in zip(one, two, strict=True) for value in pair])

    return effect


def _uzp(start: int) -> Callable[[Machine, Instruction], None]:
    def effect(machine: Machine, instruction: Instruction) -> None:
        target, first, second = instruction.operands
        machine.set(target, (machine.get(first) + machine.get(second))[start::2])

    return effect


LDR_X = Op("ldr    {0}, {1}", "wr", _ldr_x, "int load")
LDP_X = Op("ldp    {0}, {1}, {2}", "wwr", _ldr_x, "int load")
MOV = Op("mov    {0}, {1}", "wr", lambda m, i: _write(m, i.operands[0], m.number(i.operands[1])), "int")
ADD = Op("add    {0}, {1}, {2}", "wrr", _add(1), "int")
SUB = Op("sub    {0}, {1}, {2}", "wrr", _add(-1), "int")
SUBS = Op("subs   {0}, {1}, {2}", "wrr", _add(-1, flags=True), "count")
B = Op("b      {0}", "-", lambda m, i: _go(i), "branch")
B_MI = Op("b.mi   {0}", "-", _branch(lambda result: result < 0), "branch")
B_PL = Op("b.pl   {0}", "-", _branch(lambda result: result >= 0), "branch")
TBZ = Op("tbz    {0}, {1}, {2}", "r--", _test_bit(0), "branch")
TBNZ = Op("tbnz   {0}, {1}, {2}", "r--", _test_bit(1), "branch")
PRFM = Op("prfm   pstl1keep, {0}", "r", lambda m, i: None, "prefetch")
PRFM_READ = Op("prfm   pldl1keep, {0}", "r", lambda m, i: None, "prefetch")
PRFM_READ_SECOND = Op("prfm   pldl2keep, {0}", "r", lambda m, i: None, "prefetch")

LDR = Op("ldr    {0}, {1}", "wr", _load, "load")
LDP = Op("ldp    {0}, {1}, {2}", "wwr", _load, "load")
STR = Op("str    {0}, {1}", "rr", _store, "store")
STP = Op("stp    {0}, {1}, {2}", "rrr", _store, "store")

FMUL = Op("fmul   {0}, {1}, {2}", "wrr", _product(None), "multiply")
FMLA = Op("fmla   {0}, {1}, {2}", "mrr", _product(1), "fma")
FMLS = Op("fmls   {0}, {1}, {2}", "mrr", _product(-1), "fma")


def _lanewise(function: Callable[..., int]) -> Callable[[Machine, Instruction], None]:
    def effect(machine: Machine, instruction: Instruction) -> None:
        target, *sources = instruction.operands
        machine.set(target, [function(*v) for v in zip(*(machine.get(source) for source in sources), strict=True)])

    return effect


FADD = Op("fadd   {0}, {1}, {2}", "wrr", _lanewise(lambda x, y: x + y), "simd")
FSUB = Op("fsub   {0}, {1}, {2}", "wrr", _lanewise(lambda x, y: x - y), "simd")
FNEG = Op("fneg   {0}, {1}", "wr", _lanewise(lambda x: -x), "simd")
FADDP = Op("faddp  {0}, {1}, {2}", "wrr", _faddp, "simd")
MOVI = Op("movi   {0}, #0", "w", lambda m, i: m.set(i.operands[0], (0,) * m.lanes), "simd")
ZIP = {
    "low": Op("zip1   {0}, {1}, {2}", "wrr", _zip(high=False, halves=False), "simd"),
    "high": Op("zip2   {0}, {1}, {2}", "wrr", _zip(high=True, halves=False), "simd"),
    "low2": Op("zip1   {0}, {1}, {2}", "wrr", _zip(high=False, halves=True), "simd"),
    "high2": Op("zip2   {0}, {1}, {2}", "wrr", _zip(high=True, halves=True), "simd"),
}


def _reverse_pairs(machine: Machine, instruction: Instruction) -> None:
    """rev64 of two lanes in 64 bits, ext by half a register of two: neighbours change places."""
    target, source = instruction.operands[:2]
    values = machine.whole(source)
    machine.set(target, [values[lane ^ 1] for lane in range(len(values))])


REV64 = Op("rev64  {0}, {1}", "wr", _reverse_pairs, "simd")
EXT = Op("ext    {0}, {1}, {2}, {3}", "wrr-", _reverse_pairs, "simd")


def _rotated(turns: int) -> Callable[[Machine, Instruction], None]:
    """fcmla: real parts of the first factor times the second, or imaginary parts times that turned by 90 degrees."""

    def effect(machine: Machine, instruction: Instruction) -> None:
        target, first, second = instruction.operands
        assert isinstance(second, Vec)
        vector, factor, sums = machine.get(first), machine.whole(second), list(machine.get(target))
        for lane in range(0, len(sums), 2):
            at = lane if second.lane is None else 2 * second.lane
            re, im = factor[at : at + 2]
            one, other = ((re, im), (-im, re), (-re, -im), (im, -re))[turns]
            sums[lane] += vector[lane + turns % 2] * one
            sums[lane + 1] += vector[lane + turns % 2] * other
        machine.set(target, sums)

    return effect


FCMLA = {turns: Op(f"fcmla  {{0}}, {{1}}, {{2}}, #{90 * turns}", "mrr", _rotated(turns), "fma") for turns in (0, 1, 3)}
"""By quarter turns: 0 and 1 together add x y, 0 and 3 conj(x) y."""

UZP1 = Op("uzp1   {0}, {1}, {2}", "wrr", _uzp(0), "simd")
UZP2 = Op("uzp2   {0}, {1}, {2}", "wrr", _uzp(1), "simd")


def load(count: int, interleaved: bool) -> Op:
    """ld1 of `count` registers one after another, or ld2 of two interleaved ones."""
    effect = _load_structures if interleaved else _load
    return Op(f"ld{2 if interleaved else 1}    {{{{{_names(count)}}}}}, {{{count}}}", "w" * count + "r", effect, "load")


def store(count: int, interleaved: bool) -> Op:
    """st1 or st2, likewise."""
    effect = _store_structures if interleaved else _store
    return Op(
        f"st{2 if interleaved else 1}    {{{{{_names(count)}}}}}, {{{count}}}", "r" * count + "r", effect, "store"
    )


def repeat(count: int) -> Op:
    """ld1r or ld2r: one structure to every lane."""
    return Op(f"ld{count}r   {{{{{_names(count)}}}}}, {{{count}}}", "w" * count + "r", _load_repeat, "load")


def lane_load(count: int, lane: int) -> Op:
    """ld1 or ld2 to one lane of `count` registers."""
    return Op(f"ld{count}    {{{{{_names(count)}}}}}[{lane}], {{{count}}}", "m" * count + "r", _load_lane, "load")


def lane_store(count: int, lane: int) -> Op:
    """st1 or st2 of one lane of `count` registers."""
    return Op(f"st{count}    {{{{{_names(count)}}}}}[{lane}], {{{count}}}", "r" * count + "r", _store_lane, "store")


def _names(count: int) -> str:
    return ", ".join(f"{{{number}}}" for number in range(count))
