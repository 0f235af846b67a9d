"""What the CPU can run is found out from the CPU: shown on emulated ones that lack what this one has."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

import tilewright.runtime as tw

from ..support import Unavailable, miss, tool
from .problems import RUNNABLE

PROGRAM = """
#include <tilewright.h>
#include <stdio.h>

int main(void)
{
    float x = 3, y = 0;
    int status = tw_sgemm(TW_ROW_MAJOR, 'N', 'N', 1, 1, 1, 1, &x, 1, &x, 1, 0, &y, 1);
    printf("%d %g %s\\n", status, y, tw_isa_current() < 0 ? tw_error_message() : tw_isa_name(tw_isa_current()));
    return 0;
}
"""


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """An emulator of x86-64 CPUs, and a program for it."""
    if platform.machine() != "x86_64":
        pytest.skip("the emulated CPUs are x86-64 ones, this machine is not")
    try:
        emulator = tool("qemu-x86_64", "qemu-x86_64-static", why="to be a CPU without AVX-512 or AVX2")
        compiler = tool("cc", "gcc", "clang", why="for a program that uses the C API")
    except Unavailable as unavailable:
        miss(unavailable)
    folder = tmp_path_factory.mktemp("cpu")
    library = Path(tw.info().library).resolve()
    (folder / "program.c").write_text(PROGRAM)
    command = [compiler, f"-I{library.parent.parent / 'include'}", str(folder / "program.c"), str(library)]
    subprocess.run([*command, f"-Wl,-rpath,{library.parent}", "-o", str(folder / "program")], check=True)
    return emulator, folder / "program"


def run(emulated: tuple[str, Path], cpu: str, isa: str = "") -> str:
    emulator, program = emulated
    command = [emulator, "-cpu", cpu, "-E", f"TILEWRIGHT_ISA={isa}", str(program)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.strip()


@pytest.mark.parametrize(("cpu", "best"), [("Nehalem", "scalar"), ("Haswell", "avx2")])
def test_the_best_that_an_older_cpu_can_run_is_used(emulated: tuple[str, Path], cpu: str, best: str) -> None:
    """An illegal instruction on the first older machine; wide vectors that the CPU has left unused."""
    assert run(emulated, cpu) == f"0 9 {best}"


@pytest.mark.parametrize(
    ("cpu", "isa", "rest"),
    [("Nehalem", "avx2", "scalar"), ("Nehalem", "avx512", "scalar"), ("Haswell", "avx512", "avx2, scalar")],
)
def test_asking_for_what_the_cpu_lacks_is_an_error(emulated: tuple[str, Path], cpu: str, isa: str, rest: str) -> None:
    """An illegal instruction, or something else run in its place."""
    assert run(emulated, cpu, isa) == f"100 0 TILEWRIGHT_ISA={isa}: this CPU lacks it; this machine can run {rest}."


def test_what_linux_says_about_this_cpu_agrees() -> None:
    """A bit of CPUID misread."""
    words = set(Path("/proc/cpuinfo").read_text().split())
    needs = {
        "avx512": {"avx512f", "avx512dq", "avx512vl"},
        "avx2": {"avx2", "fma"},
        "neon": {"asimd"},
        "fcma": {"asimd", "fcma"},
        "scalar": set[str](),
    }
    for isa in tw.info().kernels:
        assert (isa in RUNNABLE) == (needs[isa] <= words)
