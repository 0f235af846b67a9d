"""The scheduler, the allocator and the dead-code pass, on instructions made up for them."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.ir import Instruction, Op, Reg
from generator.kernel import kernels_of, spec_files
from generator.machine import Machine
from generator.names import KernelName, parse
from generator.registers import OutOfRegisters, Pool
from generator.schedule import interleave

from .. import papers

REGISTERS = [Reg("x", number) for number in range(5)]


def _mix(machine: Machine, instruction: Instruction) -> None:
    target, first, second = instruction.operands
    assert isinstance(target, Reg)
    machine.general[target] = (machine.number(first) * 31 + machine.number(second) * 17 + 7) % 1_000_003


MIX = Op("mix {0}, {1}, {2}", "wrr", _mix, "int")
registers = st.sampled_from(REGISTERS)
instructions = st.builds(lambda target, one, two: Instruction(MIX, (target, one, two)), registers, registers, registers)


def result(code: list[Instruction]) -> dict[Reg, int]:
    machine = Machine(1, 4, {}, set(), general={register: register.number for register in REGISTERS})
    machine.run(code)
    return machine.general


@given(
    st.lists(instructions, max_size=12),
    st.lists(instructions, max_size=8),
    st.sampled_from(["even", "threes", "front", "none"]),
)
def test_interleaving_changes_no_result(compute: list[Instruction], loads: list[Instruction], pattern: str) -> None:
    """A load moved above an instruction that still reads what it overwrites."""
    merged = interleave(compute, loads, pattern)
    assert Counter(map(id, merged)) == Counter(map(id, [*compute, *loads]))
    assert result(merged) == result([*compute, *loads])


def test_interleaving_spreads() -> None:
    """A scheduler that always leaves loads at the end would pass the test above."""
    compute = [Instruction(MIX, (REGISTERS[0], REGISTERS[0], REGISTERS[1])) for _ in range(8)]
    loads = [Instruction(MIX, (REGISTERS[2 + number], REGISTERS[1], REGISTERS[1])) for number in range(2)]
    places = {
        pattern: [interleave(compute, loads, pattern).index(load) for load in loads]
        for pattern in ("even", "threes", "front")
    }
    assert places == {"even": [0, 4], "threes": [1, 5], "front": [0, 1]}


@given(st.lists(st.integers(1, 4), max_size=8))
def test_pool_hands_out_nothing_twice(sizes: list[int]) -> None:
    """Two purposes that share a register."""
    pool = Pool([Reg("v", number) for number in range(16)])
    taken: list[Reg] = []
    for size in sizes:
        try:
            taken += pool.take(size, "x", adjacent=size)
        except OutOfRegisters:
            break
    assert len(set(taken)) == len(taken)


@given(
    st.builds(
        KernelName,
        st.just("gemm"),
        st.sampled_from("sdcz"),
        st.sampled_from(["nn", "nt", "tn", "tt", "nc", "cn", "tc"]),
        st.integers(1, 99),
        st.integers(1, 99),
        st.from_regex(r"(?:[zyx]{1,3}m?)?", fullmatch=True),
        st.sampled_from(["neon", "avx2", "avx512", "scalar"]),
        st.sampled_from([(), ("prf",)]),
    )
)
def test_names_round_trip(name: KernelName) -> None:
    """A name that reads back as another kernel."""
    assert parse(str(name)) == name


@pytest.mark.parametrize(("letter", "mode"), papers.MODES)
def test_neon_has_the_papers_tables(letter: str, mode: str) -> None:
    """A kernel of the papers' table that is missing: S_NN has 70, S_NT 124, S_TN 26, D_NN 50."""
    (path,) = [path for path in spec_files() if path.stem == "neon"]
    found = {(k.tile.mr, k.tile.nr) for k in kernels_of(path) if k.entry.letter == letter and k.tile.mode.name == mode}
    assert set(papers.tiles(letter, mode)) <= found


def test_the_papers_tables_are_the_papers() -> None:
    """A slip in the table that the test above compares with."""
    counts = {(letter, mode): len(papers.tiles(letter, mode)) for letter, mode in papers.MODES}
    assert [counts["s", mode] for mode in ("nn", "nt", "tn", "tt")] == [70, 124, 26, 70]
    assert [counts["d", mode] for mode in ("nn", "nt", "tn", "tt")] == [50, 60, 26, 50]
    assert [counts["c", mode] for mode in ("nn", "nt", "tn", "tt")] == [54, 52, 50, 54]
    assert {counts["z", mode] for mode in ("nn", "nt", "tn", "tt")} == {25}
