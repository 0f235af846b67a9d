"""Every kernel of every ISA, interpreted on exact integers; and kernels broken on purpose, which must be found out."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from generator.ir import Imm, Mem
from generator.kernel import Kernel, kernels_of, spec_files
from generator.prove import ProofError, prove

GROUPS = [(path, letter) for path in spec_files() for letter in ("cz" if path.stem == "fcma" else "sdcz")]


@cache
def kernels(path: object, letter: str) -> list[Kernel]:
    return [kernel for kernel in kernels_of(path) if kernel.entry.letter == letter]  # type: ignore[arg-type]


@pytest.mark.parametrize(("path", "letter"), GROUPS, ids=[f"{path.stem}-{letter}" for path, letter in GROUPS])
def test_every_kernel_is_proved(path: object, letter: str) -> None:
    """A schedule, tail or epilogue that is wrong for some k, flag or live size; a read past an operand's end."""
    assert sum(prove(kernel) for kernel in kernels(path, letter)) > 0


SUBJECTS = [
    ("scalar", "gemm_s_nn_2x2__scalar"),
    ("neon", "gemm_s_nn_12x4__neon"),
    ("neon", "gemm_z_nc_3x2__neon"),
    ("neon", "gemm_d_tt_4x8__neon"),
    ("neon", "gemm_s_tn_3x4__neon"),
    ("neon", "gemm_c_cn_2x3__neon"),
    ("neon", "gemm_c_nn_1x7__neon"),
    ("neon", "gemm_c_tt_3x4__neon_paired"),
    ("neon", "gemm_z_tn_3x2__neon_paired"),
    ("fcma", "gemm_c_nc_3x2__fcma"),
    ("fcma", "gemm_c_tt_2x3__fcma"),
    ("fcma", "gemm_z_tn_2x2__fcma"),
    ("avx2", "gemm_d_nn_8x3_yym__avx2"),
    ("avx2", "gemm_c_tt_3x4_ym__avx2"),
    ("avx512", "gemm_s_tn_13x3__avx512"),
    ("avx512", "gemm_s_tn_2x3__avx512_dot"),
    ("avx2", "gemm_d_tn_1x4__avx2_dot"),
    ("avx512", "gemm_z_nn_8x2_zzm__avx512"),
    ("exact", "gemm_s_tn_2x2k2_y_ld2_2_2__avx2_lanes"),
]


def kernel_called(isa: str, name: str) -> Kernel:
    """A fresh copy: these tests change it."""
    (path,) = [path for path in spec_files() if path.stem == isa]
    (kernel,) = [kernel for kernel in kernels_of(path) if str(kernel.name) == name]
    return kernel


@pytest.mark.parametrize(("isa", "name"), SUBJECTS)
def test_each_missing_instruction_is_noticed(isa: str, name: str) -> None:
    """A proof that passes whatever the kernel does; an instruction that nothing depends on."""
    kernel = kernel_called(isa, name)
    code, listing = list(kernel.program.code), list(kernel.listing)
    unnoticed = []
    for position in range(len(code)):
        kernel.program.code = code[:position] + code[position + 1 :]
        try:
            prove(kernel)
        except ProofError:
            continue
        unnoticed.append(listing[position])
    # These change no result: vzeroupper saves what runs after the kernel from slow transitions, the jump skips a masked
    # rest of k that is empty.
    spare = {"vzeroupper", "jz .Lsums%="}
    assert {" ".join(line.split()) for line in unnoticed} <= spare
    assert len(unnoticed) <= 2


@pytest.mark.parametrize(("isa", "name"), SUBJECTS)
def test_each_shifted_access_is_noticed(isa: str, name: str) -> None:
    """A displacement that is off by one element: it must be a wrong result or a fault, in loads and stores alike."""
    kernel = kernel_called(isa, name)
    code = list(kernel.program.code)
    tried = 0
    for position, instruction in enumerate(code):
        for number, operand in enumerate(instruction.operands):
            if not isinstance(operand, Mem) or operand.base.name == "args" or instruction.op.kind == "int":
                continue
            moved = replace(operand, disp=operand.disp + kernel.dtype.real_bytes)
            operands = (*instruction.operands[:number], moved, *instruction.operands[number + 1 :])
            kernel.program.code = [*code[:position], replace(instruction, operands=operands), *code[position + 1 :]]
            tried += 1
            with pytest.raises(ProofError):
                prove(kernel)
    assert tried


def test_a_loop_without_end_is_noticed() -> None:
    """A counter that is never decremented would hang the proof instead of failing it."""
    kernel = kernel_called("neon", "gemm_s_nn_12x4__neon")
    kernel.program.code = [
        replace(instruction, operands=(*instruction.operands[:2], Imm(0)))
        if instruction.op.kind == "count"
        else instruction
        for instruction in kernel.program.code
    ]
    with pytest.raises(ProofError, match=r"does not end|C\[|nothing at"):
        prove(kernel)


def test_a_loop_that_does_not_repeat_is_noticed() -> None:
    """A proof whose k never takes the back edge: without it, these kernels would still pass."""
    for isa, name in SUBJECTS:
        kernel = kernel_called(isa, name)
        if kernel.program.loop[0] == kernel.program.loop[1]:  # all of k is written out
            continue
        back = kernel.program.loop[1] - 1
        kernel.program.code = kernel.program.code[:back] + kernel.program.code[back + 1 :]
        with pytest.raises(ProofError):
            prove(kernel)


@pytest.mark.parametrize("name", ["gemm_s_tn_8x3__avx512_dot_ahead", "gemm_d_tn_2x8__avx512_dot_ahead_paced"])
def test_lines_that_are_asked_for_are_those_that_follow(name: str) -> None:
    """Requests for this tile's own lines, or for none: nothing that is computed tells."""
    kernel = kernel_called("avx512", name)
    code = kernel.program.code
    asking = [number for number, text in enumerate(kernel.listing) if text.startswith("prefetch")]
    assert len(asking) == kernel.tile.nr
    for left_out in (asking[0], asking[-1]):
        kernel.program.code = code[:left_out] + code[left_out + 1 :]
        with pytest.raises(ProofError, match="asks for other places"):
            prove(kernel)


@pytest.mark.parametrize(("isa", "name"), [("neon", "gemm_s_nn_16x4__neon"), ("avx512", "gemm_d_nt_8x4_zm__avx512")])
def test_prefetch_of_c_is_a_variant_of_any_kernel(isa: str, name: str) -> None:
    """A spec option that nothing uses rots: it must be proved, named and printed."""
    plain = kernel_called(isa, name)
    kernel = Kernel(replace(plain.entry, tile=replace(plain.entry.tile, prefetch=True)))
    assert str(kernel.name) == f"{name}_prf"
    prove(kernel)
    fetched = [line for line in kernel.listing if line.startswith("prf") or line.startswith("prefetchw")]
    assert len(fetched) == kernel.tile.nr
