"""What build.py says when something is missing: one line, naming what and what to do."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest

from generator.compile import CompileError, host_arch
from generator.library import python_headers

from .conftest import FEW, Checkout


def refused(checkout: Checkout, *arguments: str, **environment: str) -> str:
    """Run build.py, which must refuse; return its one line."""
    code, _, complaint = checkout.run(*arguments, **environment)
    assert code != 0
    assert "Traceback" not in complaint
    return complaint.strip().splitlines()[-1]


def program(path: Path, text: str) -> str:
    """Write a shell script that stands in for a compiler."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_missing_compiler(built: Checkout, tmp_path: Path) -> None:
    line = refused(built, "compile", *FEW, PATH=str(tmp_path))
    assert line.startswith(f"build.py: no C compiler for {host_arch()}: looked for gcc, cc, clang.")
    assert "apt-get install gcc" in line


def test_named_compiler_is_not_there(built: Checkout) -> None:
    assert "looked for nothing-cc." in refused(built, "compile", *FEW, "--cc", "nothing-cc")
    assert "looked for other-cc." in refused(built, "compile", *FEW, CC="other-cc")


def test_too_old_compiler(built: Checkout, tmp_path: Path) -> None:
    old = program(
        tmp_path / "gcc-8", 'case "$*" in *--version*) echo "gcc (Debian) 8.3.0";; *) echo "version 8";; esac'
    )
    assert "is gcc 8; gcc >= 9 or clang >= 12 is needed" in refused(built, "compile", *FEW, "--cc", old)


def test_compiler_without_c_library(built: Checkout, tmp_path: Path) -> None:
    bare = program(
        tmp_path / "gcc", 'case "$*" in *--version*) echo "gcc 12";; *) echo "no stdlib.h" >&2; exit 1;; esac'
    )
    line = refused(built, "compile", *FEW, "--cc", bare)
    assert "stdlib.h is not found" in line
    assert "apt-get install libc6-dev" in line


def test_compiler_for_another_machine(built: Checkout) -> None:
    other = "aarch64" if host_arch() == "x86_64" else "x86_64"
    line = refused(built, "compile", "--target", other, "--isa", "scalar", "--cc", "gcc")
    assert f"gcc cannot compile for {other}: it does not compile for this architecture" in line


def test_compile_error_is_shown(own: Checkout) -> None:
    """The compiler's own words and the command, and the rest of the build can go on later."""
    source = own.root / "runtime" / "csrc" / "error.c"
    good = source.read_text()
    source.write_text("int broken(\n")
    code, _, complaint = own.run("compile", *FEW)
    assert code != 0
    assert "error.c" in complaint
    assert "error:" in complaint
    assert "Traceback" not in complaint
    source.write_text(good)
    own.build("compile", *FEW)


def test_missing_python_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(CompileError, match=r"Python\.h is missing.*apt-get install python3\.\d+-dev"):
        python_headers(host_arch(), tmp_path)


def test_missing_venv_module(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else object())
    with pytest.raises(script.BuildError, match=r"no module ensurepip.*apt-get install python3-venv"):
        script.make_environment(tmp_path / ".venv" / "bin" / "python", inside=False)
    assert not (tmp_path / ".venv").exists()


def test_foreign_environment_is_left_alone(checkout: Checkout) -> None:
    """Somebody's own .venv was filled, or erased where pip was not in it."""
    mine = checkout.root / ".venv" / "pyvenv.cfg"
    mine.parent.mkdir()
    mine.write_text("mine")
    for command in (["generate"], ["clean", "--all"]):
        process = checkout.start_plainly(*command)
        _, complaint = process.communicate(timeout=100)
        assert process.returncode == 1
        assert complaint.strip() == (
            f"build.py: {checkout.root}/.venv was not made by build.py: move it away, or give --no-venv to use the "
            "Python and packages at hand."
        )
        assert {path.name: path.read_text() for path in mine.parent.iterdir()} == {"pyvenv.cfg": "mine"}


@pytest.mark.parametrize("left", [None, "", "installing"])
def test_environment_stopped_at_its_first_file_is_ours(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str | None
) -> None:
    """`python -m venv` killed in the middle leaves files; the stamp was only written after it."""
    venv = tmp_path / ".venv"
    monkeypatch.setattr(script, "VENV", venv)
    if left is not None:
        venv.mkdir()
        (venv / ".tilewright").write_text(left)
        (venv / "lib").mkdir()

    def stopped(*_: object) -> None:
        assert {path.name for path in venv.iterdir()} == {".tilewright"}
        (venv / "bin").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "run", stopped)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            script.make_environment(venv / "bin" / "python", inside=False)
        script.refuse_foreign_environment()


def test_file_in_the_way(checkout: Checkout) -> None:
    (checkout.root / "build").touch()
    line = f"build.py: {checkout.root}/build: a file where a folder should be; move it away."
    assert refused(checkout, "compile", *FEW) == line
    assert refused(checkout, "clean") == line


@pytest.mark.parametrize("name", ["lib/libtilewright.so.0", "include/tilewright.h", "obj/kernel-table.o"])
def test_folder_in_the_way(own: Checkout, name: str) -> None:
    (own.out / name).unlink()
    (own.out / name).mkdir()
    line = f"build.py: {own.out / name}: a folder where a file should be; move it away."
    assert refused(own, "compile", *FEW) == line


def test_file_in_the_way_of_the_generator(own: Checkout) -> None:
    shutil.rmtree(own.out / "generated")
    (own.out / "generated").touch()
    line = refused(own, "compile", *FEW)
    assert line.startswith("build.py: python -m generator generate failed: ")
    assert f"{own.out}/generated" in line


def test_full_disk(own: Checkout) -> None:
    """The system's error names no file; a limit on their size stands in for the disk."""
    header = own.out / "include" / "tilewright.h"
    header.unlink()
    code = "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (99, 99)); "
    code += "runpy.run_path('build.py', run_name='__main__')"
    command = [sys.executable, "-c", code, "compile", *FEW, "--no-venv"]
    ran = subprocess.run(command, cwd=own.root, capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr.strip() == f"build.py: {header}: File too large."
    own.build("compile", *FEW)


def test_system_error_in_a_line(script: ModuleType) -> None:
    """A tree that may not be written to, for one: tests run as root may write everywhere."""
    assert script.explain(PermissionError(13, "Permission denied", "/x/.lock")) == "/x/.lock: Permission denied."
    assert script.explain(OSError(5, "Input/output error", "/x/.a.tmp", None, "/x/a")) == "/x/a: Input/output error."
    assert script.explain(OSError("strange")) == "strange."


def test_too_old_python(checkout: Checkout) -> None:
    """The check comes before anything that an old Python cannot even import."""
    pretend = "import sys; sys.version_info = (3, 9, 1, 'final', 0); exec(open('build.py').read())"
    ran = subprocess.run([sys.executable, "-c", pretend], cwd=checkout.root, capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr.strip() == "build.py: Python 3.10 or newer is needed, this is 3.9; try python3.12"


def test_unknown_isa(built: Checkout) -> None:
    line = refused(built, "compile", "--isa", "sve")
    assert line.startswith("build.py: --isa sve: there is no such instruction set; there are ")
    assert "scalar" in line


def test_unknown_kernel(built: Checkout) -> None:
    line = refused(built, "generate", "--only", "gemm_s_nn_4x5__scalr")
    assert "--only gemm_s_nn_4x5__scalr: no kernel is called that; there are gemm_s_nn_4x" in line


def test_unknown_option_and_benchmark(built: Checkout) -> None:
    assert "--fast is not an option; python3 build.py compile --help" in refused(built, "compile", "--fast")
    assert "give one of" in refused(built, "bench", "nothing")


def test_python_m_build_is_loud(checkout: Checkout) -> None:
    """A top-level build.py hides PyPA's build, which would have made a wheel: exit 0 and nothing made is a trap."""
    for arguments in ([], ["--wheel"]):
        ran = subprocess.run(
            [sys.executable, "-m", "build", *arguments], cwd=checkout.root, capture_output=True, text=True
        )
        assert ran.returncode == 1
        assert "pip wheel ." in ran.stderr
