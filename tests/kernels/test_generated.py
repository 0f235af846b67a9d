"""The generated text: golden files, the same bytes every time, names that can be read back, asm contracts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from generator.names import KernelNameError, parse

from ..support import BUILD, ROOT, Unavailable, miss, tool
from .asm_text import assembler_text, complaints
from .machines import ARCHES, is_native, listed, manifest
from .showcase import SHOWCASE

# What an ISA promises to need, in the assembler's words.
PROMISES = {
    "avx2": "generic64+avx2+fma",
    "avx512": "generic64+avx512f+avx512vl+avx512dq+fma",
    "neon": "armv8-a+simd",
    "fcma": "armv8-a+simd+compnum",
}
HOME_OF = {"scalar": "x86_64", "avx2": "x86_64", "avx512": "x86_64", "neon": "aarch64", "fcma": "aarch64"}


def generate(out: Path, arch: str, *options: str, hash_seed: str = "0") -> dict[str, bytes]:
    """Run the generator in a process of its own; everything it wrote, by path."""
    command = [sys.executable, "-m", "generator", "generate", "--arch", arch, "--out", str(out), *options]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": hash_seed})
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def source(arch: str, name: str) -> str:
    """The generated C of a kernel of the build."""
    return (BUILD / arch / "generated" / parse(name).isa / f"{name}.c").read_text()


@pytest.mark.parametrize("name", SHOWCASE)
def test_showcase_is_golden(name: str, golden: Callable[[str, str], None], tmp_path: Path) -> None:
    """A change of the generator that was not meant to change code. The golden file shows what a meant one does."""
    isa = parse(name).isa
    files = generate(tmp_path, HOME_OF[isa], "--isa", isa, "--only", name)
    golden(f"{name}.c", files[f"generated/{isa}/{name}.c"].decode())


@pytest.mark.parametrize("arch", ARCHES)
def test_same_input_same_bytes(arch: str, tmp_path: Path) -> None:
    """The order of a set or dict, a date, a path or a host name in what is generated."""
    names = [name for name in SHOWCASE if HOME_OF[parse(name).isa] == arch]
    options = [word for name in [*names, "gemm_d_t?_4x?__*"] for word in ("--only", name)]
    first, second = (generate(tmp_path / seed, arch, *options, hash_seed=seed) for seed in ("1", "2"))
    assert len(first) > len(names)
    assert first == second
    said = b"".join(first.values())
    assert str(ROOT).encode() not in said
    assert str(tmp_path).encode() not in said


@pytest.mark.parametrize("arch", ARCHES)
def test_every_name_reads_back(arch: str) -> None:
    """A name that the grammar writes and cannot read, or a manifest that says something else than the name."""
    for kernel in listed(arch):
        name = parse(kernel["name"])
        assert str(name) == kernel["name"]
        for key in ("isa", "dtype", "mode", "mr", "nr"):
            assert getattr(name, key) == kernel[key]
        assert name.widths.endswith("m") == bool(kernel["mask_span"])


@pytest.mark.parametrize(
    "word",
    ["", "gemm_q_nn_4x4__neon", "gemm_s_nn_04x4__neon", "gemm_s_xy_4x4__neon", "gemm_s_nn_4x4", "gemm_s_nn_4x4__neon_"],
)
def test_wrong_names_are_refused(word: str) -> None:
    """A parser that accepts what no kernel is called."""
    with pytest.raises(KernelNameError, match=word or None):
        parse(word)


@pytest.mark.parametrize("arch", ARCHES)
def test_asm_contracts_hold(arch: str) -> None:
    """A clobber forgotten or an input overwritten works until the compiler inlines (OpenBLAS issues 5536 and 6009)."""
    asm_kernels = [kernel["name"] for kernel in listed(arch) if kernel["isa"] != "scalar"]
    if not asm_kernels:
        miss(f"no asm kernels are listed for {arch}; run: python3 build.py generate")
    findings = [f"{name}: {words}" for name in asm_kernels for words in complaints(source(arch, name))]
    assert not findings, "\n".join(["", *findings[:20]])


@pytest.mark.parametrize("isa", PROMISES)
def test_no_instruction_beyond_the_isa(isa: str) -> None:
    """An AVX-512BW instruction, or a 17th register in AVX2, runs on this CPU and not on the user's."""
    arch = HOME_OF[isa]
    names = [kernel["name"] for kernel in listed(arch) if kernel["isa"] == isa]
    try:
        names_of_it = [f"{arch}-linux-gnu-as", *(["as"] if is_native(arch) else [])]
        assembler = tool(*names_of_it, why="to assemble with nothing but the ISA allowed")
    except Unavailable as reason:
        miss(reason)
    if not names:
        miss(f"no {isa} kernels are listed; run: python3 build.py generate")

    def assemble(text: str) -> str:
        command = [assembler, f"-march={PROMISES[isa]}", "-o", os.devnull, "-"]
        return subprocess.run(command, input=text, capture_output=True, text=True).stderr

    beyond = "smmla v0.4s, v1.16b, v2.16b" if arch == "aarch64" else "vpaddb %zmm0, %zmm1, %zmm2"
    assert "Error" in assemble(f"{beyond}\n"), "the assembler does not check"
    said = assemble(assembler_text([source(arch, name) for name in names]))
    assert "Error" not in said, said[:2000]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"v8", ', "", "v8 is used and not a clobber"),
        ('"v8", ', '"v8", "x17", ', "x17 is a clobber and not used"),
        ("fmul   v16.2d, v0.2d, v4.d[0]", "fmul   v16.2d, v0.2d, v33.d[0]", "v33 is used and not a clobber"),
        ("ldr    x6", "ldr    x18", "x18 is not ours to use"),
        ('"cc", "memory", ', "", '"memory" is not a clobber'),
        ('[b] "+&r"(b)', '[b] "+r"(b)', "b is changed and not an in/out operand"),
        ("[%[args], #16]", "[%[args]], #16", "args is changed and not an in/out operand"),
        (".Lmain%=", ".Lmain", "label .Lmain is not unique"),
        ("b.pl   .Lmain%=", "b.pl   .Lmian%=", "jump to .Lmian%=, which is nowhere"),
        ("b.pl   .Lmain%=", "b.pl   1f     ", "label 1f is not unique"),
    ],
)
def test_broken_contracts_are_seen(old: str, new: str, said: str) -> None:
    """The check above, seen to fail: each rule is broken once in a kernel that is right."""
    text = (ROOT / "tests" / "golden" / "gemm_z_nc_4x4__neon.c").read_text()
    assert old in text
    assert not list(complaints(text))
    assert any(said in words for words in complaints(text.replace(old, new)))


def test_native_manifest_is_there() -> None:
    """All of the above loops over the manifest: an empty one would pass."""
    if not any(manifest(arch) for arch in ARCHES if is_native(arch)):
        miss("nothing is built; run: python3 build.py")
