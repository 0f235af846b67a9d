"""Nothing is read or written where it should not be, and nothing relies on what C leaves undefined."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from generator.compile import host_arch

from ..conformance import netlib
from ..conftest import cpu_isas
from ..support import BUILD, ROOT, Unavailable, miss, tool
from .instrumented import CHECKS, ENVIRONMENT, libraries, runtime_of

pytestmark = [pytest.mark.sanitizers, pytest.mark.timeout(1200)]

HERE = Path(__file__).parent
QUICK = ("test_plan.py", "test_batch.py", "test_bound.py", "test_c_api.py", "test_bad_input.py")


def program(folder: Path, lib: Path, *flags: str) -> Path:
    """Compile everything.c with the libraries of a folder."""
    try:
        compiler = tool("cc", "gcc", why="for a program to be watched")
    except Unavailable as unavailable:
        miss(unavailable)
    include = BUILD / host_arch() / "include"
    warnings = ("-Wall", "-Wextra", "-Werror")
    names = [str(lib / f"{name}.so.0") for name in ("libtilewright_blas", "libtilewright")]
    output = folder / "everything"
    command = [compiler, "-std=c11", *warnings, *flags, f"-I{include}", str(HERE / "everything.c"), "-o", str(output)]
    subprocess.run([*command, *names, f"-Wl,-rpath,{lib}"], check=True)
    return output


def run(*command: str | Path, **environment: str) -> str:
    """Run a program under watch; what it printed, with the tool's words where it found something."""
    variables = {**os.environ, **ENVIRONMENT, **environment}
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=variables, cwd=ROOT)
    assert ran.returncode == 0, f"{ran.stdout[-3000:]}\n{ran.stderr[-6000:]}"
    return ran.stdout


@pytest.fixture(scope="module")
def instrumented() -> Path:
    """The folder of the instrumented libraries."""
    try:
        return libraries()
    except Unavailable as unavailable:
        miss(unavailable)


@pytest.mark.parametrize("isa", sorted(cpu_isas()))
def test_both_libraries(instrumented: Path, isa: str, tmp_path: Path) -> None:
    """An element beyond a matrix read by packing, planning or a portable kernel; a shift or sum that overflows."""
    watched = program(tmp_path, instrumented, *CHECKS)
    said = run(watched, "selftest", TILEWRIGHT_ISA=isa, ASAN_OPTIONS="detect_leaks=1")
    assert said == f"{isa}: 0 wrong\n"
    assert run(watched, TILEWRIGHT_ISA=isa, TILEWRIGHT_NUM_THREADS="2", TILEWRIGHT_VERBOSE="2") == said


def test_a_fault_is_found(instrumented: Path, tmp_path: Path) -> None:
    """Libraries that are not instrumented at all: a matrix shorter than its sizes say must be noticed inside ours."""
    source = tmp_path / "fault.c"
    source.write_text(
        "#include <stdlib.h>\n#include <tilewright.h>\n"
        "int main(void) { float *x = malloc(15 * sizeof *x), c[16];\n"
        "    for (int i = 0; i < 15; i++) x[i] = 1;\n"
        "    return tw_sgemm(101, 'N', 'N', 4, 4, 4, 1, x, 4, x, 4, 0, c, 4); }\n"
    )
    include, library = BUILD / host_arch() / "include", instrumented / "libtilewright.so.0"
    output = tmp_path / "fault"
    command = ["cc", *CHECKS, f"-I{include}", source, "-o", output, library, f"-Wl,-rpath,{instrumented}"]
    subprocess.run(list(map(str, command)), check=True)
    environment = {**os.environ, **ENVIRONMENT, "TILEWRIGHT_ISA": "scalar"}
    ran = subprocess.run([str(output)], capture_output=True, text=True, env=environment)
    assert ran.returncode != 0
    assert "heap-buffer-overflow" in ran.stderr


@pytest.mark.parametrize("letter", "sdcz")
def test_netlib(instrumented: Path, letter: str, tmp_path: Path) -> None:
    """What the testers' wrong arguments and zero sizes lead to."""
    library = instrumented / "libtilewright_blas.so.0"
    try:
        preload = {"LD_PRELOAD": f"{runtime_of()}:{library}", **ENVIRONMENT}
        for fortran in (False, True):
            folder = tmp_path / str(fortran)
            folder.mkdir()
            result = netlib.run(host_arch(), letter, fortran, folder, preload, sizes="0 1 3 8 17 33", scalars=False)
            assert sum("PASSED" in line for line in result.verdicts) == (2 if fortran else 3)
    except Unavailable as unavailable:
        miss(unavailable)


def test_runtime_from_python(instrumented: Path) -> None:
    """The runtime's own tests on the instrumented library, in a Python that is not instrumented."""
    try:
        preload = str(runtime_of())
    except Unavailable as unavailable:
        miss(unavailable)
    tests = [str(ROOT / "tests" / "runtime" / name) for name in QUICK]
    leave = "not programs and not fork and not memory and not threads and not thread"
    said = run(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", "-k", leave, *tests,
        LD_PRELOAD=preload, LD_LIBRARY_PATH=str(instrumented), TILEWRIGHT_CI="0",
    )  # fmt: skip
    assert " passed" in said


@pytest.mark.parametrize("isa", ["avx2", "scalar"])
def test_valgrind(isa: str, tmp_path: Path) -> None:
    """A value that nobody wrote decides something, or is stored; what compilers' instruments do not see in assembly.

    valgrind knows no AVX-512, and hides it from the library.
    """
    try:
        valgrind = tool("valgrind", why="to watch the assembly kernels")
    except Unavailable as unavailable:
        miss(unavailable)
    if isa not in cpu_isas():
        miss(f"this CPU lacks {isa}")
    watched = program(tmp_path, BUILD / host_arch() / "lib", "-O1", "-g")
    options = ("--quiet", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite")
    assert run(valgrind, *options, watched, "selftest", TILEWRIGHT_ISA=isa) == f"{isa}: 0 wrong\n"
