"""The x86 instructions that kernels use, AVX and AVX-512 alike: how each prints (AT&T order) and what it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from ..ir import Instruction, Mem, Op, Reg, Target, Vec
from ..machine import Machine

__all__ = [
    "ADD",
    "AND",
    "BTL",
    "BTS",
    "FETCH",
    "JMP",
    "JNC",
    "JNS",
    "JS",
    "JZ",
    "KMOV",
    "KMOV_WORD",
    "LEA",
    "MOV",
    "MOV_LOAD",
    "PREFETCH",
    "PREFETCH_SECOND",
    "SUB",
    "TESTL",
    "VZEROUPPER",
    "FloatOps",
    "float_ops",
]


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


def _read_memory(machine: Machine, instruction: Instruction) -> None:
    _write(machine, instruction.operands[0], machine.memory[_address(machine, instruction.operands[1])])


def _arithmetic(sign: int) -> Callable[[Machine, Instruction], None]:
    def effect(machine: Machine, instruction: Instruction) -> None:
        target, other = instruction.operands
        machine.flag = machine.number(target) + sign * machine.number(other)
        _write(machine, target, machine.flag)

    return effect


def _branch(condition: Callable[[int], bool]) -> Callable[[Machine, Instruction], str | None]:
    def effect(machine: Machine, instruction: Instruction) -> str | None:
        return _go(instruction) if condition(machine.result()) else None

    return effect


def _test(machine: Machine, instruction: Instruction) -> None:
    register, bits = instruction.operands
    machine.flag = machine.number(register) & machine.number(bits)


def _bit_test(machine: Machine, instruction: Instruction) -> None:
    place, bit = instruction.operands
    machine.flag = machine.memory[_address(machine, place)] >> machine.number(bit) & 1


def _kmov(machine: Machine, instruction: Instruction) -> None:
    register, place = instruction.operands
    assert isinstance(register, Reg)
    machine.masks[register] = machine.memory[_address(machine, place)]


def _and(machine: Machine, instruction: Instruction) -> None:
    target, bits = instruction.operands
    machine.flag = machine.number(target) & machine.number(bits)
    _write(machine, target, machine.flag)


def _set_bit(machine: Machine, instruction: Instruction) -> None:
    target, bit = instruction.operands
    _write(machine, target, machine.number(target) | 1 << machine.number(bit) % 64)


def _kmov_word(machine: Machine, instruction: Instruction) -> None:
    register, source = instruction.operands
    assert isinstance(register, Reg)
    machine.masks[register] = machine.number(source) & 0xFFFF


def _lea(machine: Machine, instruction: Instruction) -> None:
    _write(machine, instruction.operands[0], _address(machine, instruction.operands[1]))


MOV = Op("mov    {1}, {0}", "wr", lambda m, i: _write(m, i.operands[0], m.number(i.operands[1])), "int")
MOV_LOAD = Op("mov    {1}, {0}", "wr", _read_memory, "int load")
ADD = Op("add    {1}, {0}", "mr", _arithmetic(1), "int")
SUB = Op("sub    {1}, {0}", "mr", _arithmetic(-1), "count")
AND = Op("and    {1}, {0}", "mr", _and, "count")
BTS = Op("bts    {1}, {0}", "mr", _set_bit, "int")
LEA = Op("lea    {1}, {0}", "wr", _lea, "int")
JMP = Op("jmp    {0}", "-", lambda m, i: _go(i), "branch")
JS = Op("js     {0}", "-", _branch(lambda result: result < 0), "branch")
JNS = Op("jns    {0}", "-", _branch(lambda result: result >= 0), "branch")
JZ = Op("jz     {0}", "-", _branch(lambda result: result == 0), "branch")
JNC = Op("jnc    {0}", "-", _branch(lambda result: result == 0), "branch")
TESTL = Op("test   {1}, {0:l}", "r-", _test, "count")
BTL = Op("btl    {1}, {0}", "r-", _bit_test, "count")
KMOV = Op("kmovw  {1}, {0}", "wr", _kmov, "load")
KMOV_WORD = Op("kmovw  {1:l}, {0}", "wr", _kmov_word, "int")
PREFETCH = Op("prefetchw {0}", "r", lambda m, i: None, "prefetch")
FETCH = Op("prefetcht0 {0}", "r", lambda m, i: None, "prefetch")
PREFETCH_SECOND = Op("prefetcht1 {0}", "r", lambda m, i: m.asked.append(_address(m, i.operands[0])), "prefetch")
VZEROUPPER = Op("vzeroupper", "", lambda m, i: None, "int")


def _live(machine: Machine, instruction: Instruction, lanes: int) -> list[bool]:
    if instruction.mask is None:
        return [True] * lanes
    bits = machine.masks[instruction.mask]
    return [bool(bits >> lane & 1) for lane in range(lanes)]


def _load(machine: Machine, instruction: Instruction) -> None:
    target, place = instruction.operands
    assert isinstance(place, Mem)
    address = machine.address(place)
    live = _live(machine, instruction, place.lanes)
    machine.set(target, [machine.memory[address + lane * machine.element] if on else 0 for lane, on in enumerate(live)])


def _store(machine: Machine, instruction: Instruction) -> None:
    place, source = instruction.operands
    assert isinstance(place, Mem)
    address = machine.address(place)
    values = machine.whole(source)[: place.lanes]
    for lane, (value, on) in enumerate(zip(values, _live(machine, instruction, place.lanes), strict=True)):
        if on:
            machine.store(address + lane * machine.element, [value])


def _mask_lanes(machine: Machine, operand: object, lanes: int) -> list[bool]:
    assert isinstance(operand, Vec)
    return [value < 0 for value in machine.vectors[operand.reg][:lanes]]


def _maskmov_load(machine: Machine, instruction: Instruction) -> None:
    target, mask, place = instruction.operands
    assert isinstance(place, Mem)
    address = machine.address(place)
    live = _mask_lanes(machine, mask, place.lanes)
    machine.set(target, [machine.memory[address + lane * machine.element] if on else 0 for lane, on in enumerate(live)])


def _maskmov_store(machine: Machine, instruction: Instruction) -> None:
    place, mask, source = instruction.operands
    assert isinstance(place, Mem)
    address = machine.address(place)
    live = _mask_lanes(machine, mask, place.lanes)
    for lane, (value, on) in enumerate(zip(machine.get(source), live, strict=True)):
        if on:
            machine.store(address + lane * machine.element, [value])


def _repeat(count: int) -> Callable[[Machine, Instruction], None]:
    """Broadcast `count` adjacent reals."""

    def effect(machine: Machine, instruction: Instruction) -> None:
        target, place = instruction.operands
        assert isinstance(target, Vec)
        values = machine.load(_address(machine, place), count)
        machine.set(target, values * (target.lanes // count))

    return effect


def _lanewise(function: Callable[..., int]) -> Callable[[Machine, Instruction], None]:
    def effect(machine: Machine, instruction: Instruction) -> None:
        target, *sources = instruction.operands
        machine.set(target, [function(*v) for v in zip(*(machine.get(source) for source in sources), strict=True)])

    return effect


def _multiply_add(machine: Machine, instruction: Instruction) -> None:
    target, first, second = instruction.operands
    columns = machine.get(target), machine.get(first), machine.get(second)
    machine.set(target, [c + x * y for c, x, y in zip(*columns, strict=True)])


def _multiply_subtract(machine: Machine, instruction: Instruction) -> None:
    target, first, second = instruction.operands
    columns = machine.get(target), machine.get(first), machine.get(second)
    machine.set(target, [c - x * y for c, x, y in zip(*columns, strict=True)])


def _multiply_add_subtract(machine: Machine, instruction: Instruction) -> None:
    """target = target * first, minus second in even lanes and plus second in odd ones."""
    target, first, second = instruction.operands
    columns = machine.get(target), machine.get(first), machine.get(second)
    machine.set(
        target,
        [c * x + (y if lane % 2 else -y) for lane, (c, x, y) in enumerate(zip(*columns, strict=True))],
    )


def _swap(machine: Machine, instruction: Instruction) -> None:
    """Exchange the two reals of each pair."""
    target, source = instruction.operands
    values = machine.get(source)
    machine.set(target, [values[lane ^ 1] for lane in range(len(values))])


def _blocks(values: Sequence[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(values[start : start + size]) for start in range(0, len(values), size)]


def _unpack(high: bool, group: int, block: int) -> Callable[[Machine, Instruction], None]:
    """Interleave groups of reals from the low or high halves of each 128-bit block."""

    def effect(machine: Machine, instruction: Instruction) -> None:
        target, first, second = instruction.operands
        result: list[int] = []
        for one, two in zip(_blocks(machine.get(first), block), _blocks(machine.get(second), block), strict=True):
            half = block // 2
            one, two = (one[half:], two[half:]) if high else (one[:half], two[:half])
            for x, y in zip(_blocks(one, group), _blocks(two, group), strict=True):
                result += [*x, *y]
        machine.set(target, result)

    return effect


def _insert(machine: Machine, instruction: Instruction) -> None:
    """Replace one 128-bit block of `source`; the new block comes from memory or a register."""
    target, number, block, source = instruction.operands
    values = list(machine.get(source))
    new = machine.get(block)
    start = machine.number(number) * len(new)
    values[start : start + len(new)] = new
    machine.set(target, values)


def _extract(machine: Machine, instruction: Instruction) -> None:
    target, number, source = instruction.operands
    assert isinstance(target, Vec)
    start = machine.number(number) * target.lanes
    machine.set(target, machine.whole(source)[start : start + target.lanes])


def _insert_one(machine: Machine, instruction: Instruction) -> None:
    """vinsertps from memory: one real into a lane of an xmm register."""
    target, lane, place, source = instruction.operands
    values = list(machine.get(source))
    values[machine.number(lane) >> 4] = machine.load(_address(machine, place), 1)[0]
    machine.set(target, values)


def _extract_one(machine: Machine, instruction: Instruction) -> None:
    place, lane, source = instruction.operands
    machine.store(_address(machine, place), [machine.get(source)[machine.number(lane)]])


@dataclass(frozen=True)
class FloatOps:
    """Vector instructions for one real type; operands come target first."""

    load: Op
    store: Op
    load_narrow: dict[int, Op]
    store_narrow: dict[int, Op]
    mask_load: Op
    mask_store: Op
    repeat: Op
    repeat_in_x: Op
    repeat_pair: Op
    repeat_pair_in_x: Op
    zero: Op
    multiply: Op
    multiply_add: Op
    multiply_subtract: Op
    multiply_add_subtract: Op
    add: Op
    swap: Op
    unpack: dict[str, Op]
    insert: Op
    extract: Op
    insert_wide: Op
    extract_wide: Op
    extract_half: Op
    insert_one: Op
    extract_one: Op


@cache
def float_ops(real_bytes: int) -> FloatOps:
    """The instructions for floats or doubles."""
    single = real_bytes == 4
    p, one, block = ("ps", "ss", 4) if single else ("pd", "sd", 2)
    pair_x = Op("vmovddup {1}, {0}", "wr", _repeat(2 if single else 1), "broadcast")
    wide = "32x4" if single else "64x2"
    low, high = (
        Op(f"vunpck{end}{p} {{2}}, {{1}}, {{0}}", "wrr", _unpack(end == "h", 1, block), "simd") for end in ("l", "h")
    )
    low2, high2 = (
        Op(f"vunpck{end}pd {{2}}, {{1}}, {{0}}", "wrr", _unpack(end == "h", block // 2, block), "simd")
        for end in ("l", "h")
    )
    narrow = {1: one, 2: "sd"} if single else {1: one}
    return FloatOps(
        load=Op(f"vmovu{p} {{1}}, {{0}}", "wr", _load, "load"),
        store=Op(f"vmovu{p} {{1}}, {{0}}", "rr", _store, "store"),
        load_narrow={n: Op(f"vmov{word} {{1}}, {{0}}", "wr", _load, "load") for n, word in narrow.items()},
        store_narrow={n: Op(f"vmov{word} {{1}}, {{0}}", "rr", _store, "store") for n, word in narrow.items()},
        mask_load=Op(f"vmaskmov{p} {{2}}, {{1}}, {{0}}", "wrr", _maskmov_load, "load"),
        mask_store=Op(f"vmaskmov{p} {{2}}, {{1}}, {{0}}", "rrr", _maskmov_store, "store"),
        repeat=Op(f"vbroadcast{one} {{1}}, {{0}}", "wr", _repeat(1), "broadcast"),
        repeat_in_x=Op("vbroadcastss {1}, {0}", "wr", _repeat(1), "broadcast") if single else pair_x,
        repeat_pair=Op("vbroadcastsd {1}, {0}", "wr", _repeat(2), "broadcast")
        if single
        else Op("vbroadcastf128 {1}, {0}", "wr", _repeat(2), "broadcast"),
        repeat_pair_in_x=pair_x if single else Op("vmovupd {1}, {0}", "wr", _repeat(2), "load"),
        zero=Op("vxorps {0}, {0}, {0}", "w", lambda m, i: m.set(i.operands[0], (0,) * m.lanes), "simd"),
        multiply=Op(f"vmul{p} {{2}}, {{1}}, {{0}}", "wrr", _lanewise(lambda x, y: x * y), "multiply"),
        multiply_add=Op(f"vfmadd231{p} {{2}}, {{1}}, {{0}}", "mrr", _multiply_add, "fma"),
        multiply_subtract=Op(f"vfnmadd231{p} {{2}}, {{1}}, {{0}}", "mrr", _multiply_subtract, "fma"),
        multiply_add_subtract=Op(f"vfmaddsub213{p} {{2}}, {{1}}, {{0}}", "mrr", _multiply_add_subtract, "fma"),
        add=Op(f"vadd{p} {{2}}, {{1}}, {{0}}", "wrr", _lanewise(lambda x, y: x + y), "simd"),
        swap=Op(f"vpermil{p} ${'0xb1' if single else '0x55'}, {{1}}, {{0}}", "wr", _swap, "simd"),
        unpack={"low": low, "high": high, "low2": low2, "high2": high2},
        insert=Op("vinsertf128 {1}, {2}, {3}, {0}", "w-rr", _insert, "simd"),
        extract=Op("vextractf128 {1}, {2}, {0}", "w-r", _extract, "simd"),
        insert_wide=Op(f"vinsertf{wide} {{1}}, {{2}}, {{3}}, {{0}}", "w-rr", _insert, "simd"),
        extract_wide=Op(f"vextractf{wide} {{1}}, {{2}}, {{0}}", "w-r", _extract, "simd"),
        extract_half=Op("vextractf64x4 {1}, {2}, {0}", "w-r", _extract, "simd"),
        insert_one=Op("vinsertps {1}, {2}, {3}, {0}", "w-rr", _insert_one, "load"),
        extract_one=Op("vextractps {1}, {2}, {0}", "r-r", _extract_one, "store"),
    )
