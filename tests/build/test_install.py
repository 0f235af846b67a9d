"""``build.py install``: what is there, what it exports, and that programs in C and C++ build on it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from generator.blas import ENTRIES
from generator.compile import host_arch
from generator.version import __version__

from ..support import BUILD, ROOT, Unavailable, miss, tool

EXAMPLES = ROOT / "docs" / "examples"
PACKAGES = {"plans": ["tilewright"], "rotations": ["tilewright_blas"], "spinors": ["tilewright", "tilewright_blas"]}
SAID = {
    "plans": "after 200 steps from state 0: 0.1667 0.1667 0.1667 0.1667 0.1667 0.1667\n",
    "rotations": "a quarter turn: (0, 1) (-1, 0), in the batch (0, 1) (-1, 0)\n",
    "spinors": "x y + y x = 0 0 0 0\nx y = i z: z = (1, 0; 0, -1)\n",
}


def output(*command: str | Path, **environment: str) -> str:
    """Run a program and return what it prints; -0 is 0."""
    ran = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    return ran.stdout.replace("-0", "0")


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder installed to, then moved: nothing in it may say where it was."""
    first = tmp_path_factory.mktemp("first") / "place"
    output(sys.executable, ROOT / "build.py", "install", "--no-venv", "--target", host_arch(), "--prefix", first)
    second = tmp_path_factory.mktemp("second") / "place"
    return Path(shutil.move(first, second))


def needed(*names: str) -> None:
    """Skip, or in CI fail, without these programs."""
    try:
        for name in names:
            tool(name, why="for a program that uses what was installed")
    except Unavailable as unavailable:
        miss(unavailable)


def test_files(prefix: Path) -> None:
    """A link to nowhere; a library that programs linked before would not find."""
    there = {str(path.relative_to(prefix)) for path in prefix.rglob("*") if not path.is_dir()}
    for name in ("tilewright", "tilewright_blas"):
        files = {f"lib/lib{name}.so{end}" for end in ("", ".0", f".{__version__}")} | {f"lib/pkgconfig/{name}.pc"}
        assert files <= there
        assert (prefix / f"lib/lib{name}.so").resolve() == prefix.resolve() / f"lib/lib{name}.so.{__version__}"
        said = output("readelf", "-d", prefix / f"lib/lib{name}.so")
        assert f"soname: [lib{name}.so.0]" in said
    assert {f"include/{name}.h" for name in ("tilewright", "tilewright_cblas", "tw_kernel")} <= there
    assert {f"lib/cmake/Tilewright/TilewrightConfig{end}.cmake" for end in ("", "Version")} <= there


@pytest.mark.parametrize("example", SAID)
def test_examples_through_pkg_config(prefix: Path, example: str, tmp_path: Path) -> None:
    """A flag that is missing from a .pc file; a header that C or C++ does not take."""
    needed("pkg-config", "cc", "c++", "readelf")
    (source,) = EXAMPLES.glob(f"{example}.c*")
    compiler = ["cc", "-std=c11"] if source.suffix == ".c" else ["c++", "-std=c++11"]
    flags = output("pkg-config", "--cflags", "--libs", *PACKAGES[example], PKG_CONFIG_PATH=str(prefix / "lib" / "pkgconfig"))
    warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    output(*compiler, *warnings, source, "-o", tmp_path / example, *flags.split(), "-lm")
    assert output(tmp_path / example, LD_LIBRARY_PATH=str(prefix / "lib")) == SAID[example]




def test_examples_through_cmake(prefix: Path, tmp_path: Path) -> None:
    """A CMake package that names a file which is not there."""
    needed("cmake", "make", "cc", "c++")
    output("cmake", "-S", EXAMPLES, "-B", tmp_path, f"-DCMAKE_PREFIX_PATH={prefix}")
    output("cmake", "--build", tmp_path)
    for example, said in SAID.items():
        assert output(tmp_path / example) == said


def exported(library: Path) -> set[str]:
    """Names that a shared library defines for others."""
    return {line.split()[-1] for line in output("nm", "-D", "--defined-only", library).splitlines()}


def declared(*headers: str) -> set[str]:
    """Names marked TW_API in headers of the runtime."""
    texts = [(ROOT / "runtime" / "csrc" / name).read_text() for name in headers]
    found = (re.findall(r"^TW_API [^;(]*?\b(tw_\w+)[(;]", text, re.M) for text in texts)
    return {name for names in found for name in names}


def test_symbols() -> None:
    """A helper that leaves the library and clashes with somebody's own; an entry that is declared and not there."""
    needed("nm")
    lib = BUILD / host_arch() / "lib"
    table = {"tw_kernels", "tw_kernel_count", "tw_specials", "tw_special_count"}  # generated
    assert exported(lib / "libtilewright.so") == declared("tilewright.h", "siblings.h") | table
    assert exported(lib / "libtilewright_blas.so") == {entry.symbol for entry in ENTRIES}
    for letter in "sdcz":  # what programs call, spelled out once
        names = {f"cblas_{letter}gemm", f"{letter}gemm_", f"cblas_{letter}gemm64_", f"{letter}gemm_64_"}
        scipy = {f"scipy_cblas_{letter}gemm64_", f"scipy_{letter}gemm_64_", f"scipy_{letter}gemm_"}
        batches = {f"cblas_{letter}gemm_batch", f"cblas_{letter}gemm_batch_strided", f"scipy_cblas_{letter}gemm"}
        assert names | scipy | batches <= exported(lib / "libtilewright_blas.so")
