"""What build.py makes: the same from the same, only what is asked for, and nothing twice."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from types import ModuleType

import pytest

from generator import ISAS
from generator.compile import Compiler, host_arch, symbol_sizes
from generator.outputs import read_manifest

from ..support import miss
from .conftest import FEW, Checkout


def test_nothing_changed_touches_nothing(built: Checkout) -> None:
    """A second run rewrites no file (time stamps included) and says so."""
    before = {path: path.lstat().st_mtime_ns for path in built.root.rglob("*") if "__pycache__" not in path.parts}
    said = built.build("compile", *FEW)
    after = {path: path.lstat().st_mtime_ns for path in built.root.rglob("*") if "__pycache__" not in path.parts}
    assert after == before
    assert said.count("nothing changed") == 2


def test_same_input_same_bytes(built: Checkout, checkout: Checkout) -> None:
    """Another folder, another time, one job instead of several: the same sources, objects, library and manifest."""
    checkout.build("compile", *FEW, "--jobs", "1")
    assert checkout.contents() == built.contents()


def test_no_path_of_this_machine(built: Checkout) -> None:
    """Neither sources nor library say where they were made."""
    for name, content in built.contents().items():
        assert str(built.root).encode() not in content, name


def test_change_compiles_only_what_it_touches(own: Checkout) -> None:
    """A changed C file costs one unit; the kernels' objects stay."""
    with (own.root / "runtime" / "csrc" / "error.c").open("a") as file:
        file.write("/* changed */\n")
    kernels = {path: path.stat().st_mtime_ns for path in own.out.glob("obj/scalar-*.o")}
    assert re.search(r" 1 of \d+ units", own.build("compile", *FEW))
    assert {path: path.stat().st_mtime_ns for path in own.out.glob("obj/scalar-*.o")} == kernels


def test_manifest_says_what_was_compiled(built: Checkout) -> None:
    """Names, "compiled" and sizes agree with the library itself."""
    kernels = read_manifest(built.out)["kernels"]
    sizes = symbol_sizes(built.out / "lib" / "libtilewright.so")
    assert kernels
    for kernel in kernels:
        assert kernel["compiled"] is True
        assert kernel["code_bytes"] == sizes[f"tw_{kernel['name']}"] > 16


def test_symbol_sizes_agree_with_nm(built: Checkout) -> None:
    """Our reading of the ELF symbol table against binutils'."""
    if shutil.which("nm") is None:
        miss("nm (binutils) is not there to compare with")
    library = str(built.out / "lib" / "libtilewright.so")
    listed = subprocess.run(["nm", "-S", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    expected = {name: int(size, 16) for size, name in re.findall(r"^\w+ (\w+) [TtRr] (\w+)$", listed, re.M)}
    assert {name: size for name, size in symbol_sizes(Path(library)).items() if name in expected} == expected
    assert len(expected) > 30


def test_library_exports_the_interface_only(built: Checkout) -> None:
    """Kernels are reached through the table; nothing but tw_ names is visible to a program that links us."""
    library = ctypes.CDLL(str(built.out / "lib" / "libtilewright.so"))
    kernel = read_manifest(built.out)["kernels"][0]["name"]
    assert not hasattr(library, f"tw_{kernel}")
    assert ctypes.c_int.in_dll(library, "tw_kernel_count").value == len(read_manifest(built.out)["kernels"])
    assert library.tw_isa_count() > 0


def test_only_isa_groups_get_isa_flags(checkout: Checkout, tmp_path: Path) -> None:
    """Common code compiled with -mavx2 dies with SIGILL on older CPUs (OpenBLAS issue 4945)."""
    log = tmp_path / "commands"
    wrapper = tmp_path / "cc"
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec gcc "$@"\n')
    wrapper.chmod(0o755)
    checkout.build(
        "compile", "--target", host_arch(), "--only", "gemm_s_nn_4x*", "gemm_s_nn_16x*", "--cc", str(wrapper)
    )
    compiled = [line.split() for line in log.read_text().splitlines() if " -c " in line]
    seen = set()
    for command in compiled:
        unit = command[command.index("-c") + 1]
        isa = unit.partition("-")[0]
        seen.add(isa)
        machine = {flag for flag in command if flag.startswith("-m")}
        assert machine == {flag for flag in (ISAS[isa].cflags if isa in ISAS else ()) if flag.startswith("-m")}, unit
    assert seen >= {"scalar", "runtime", "kernel", "python"}


def test_clang_builds_it_too(checkout: Checkout) -> None:
    """The second compiler, under the same -Werror."""
    clang = next((name for name in ("clang", "clang-22") if shutil.which(name)), None)
    if clang is None:
        miss("no clang")
    said = checkout.build("compile", *FEW, "--cc", str(clang))
    assert "clang version" in said


def test_without_numpys_headers_the_extension_is_left_out(own: Checkout, tmp_path: Path) -> None:
    """A build that fails for want of what is optional, or leaves an extension of other sources behind."""
    there = [own.out / "lib" / "_fast.abi3.so", own.root / "runtime" / "_fast.abi3.so"]
    assert all(path.exists() for path in there)
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").touch()
    said = own.build("compile", *FEW, PYTHONPATH=str(tmp_path))
    (line,) = (line for line in said.splitlines() if "the extension is left out" in line)
    assert "has no numpy 2, whose headers it needs" in line
    assert not any(path.exists() or path.is_symlink() for path in there)
    assert "left out" not in own.build("compile", *FEW)
    assert all(path.exists() for path in there)


def test_an_extension_that_does_not_compile_is_left_out(own: Checkout) -> None:
    """Headers of a Python or numpy to come, on which it fails: the library is as good without it."""
    source = own.root / "runtime" / "_fast.c"
    source.write_text("#error not with this numpy\n")
    said = own.build("compile", *FEW)
    (line,) = (line for line in said.splitlines() if "the extension is left out" in line)
    assert "not with this numpy" in line
    assert not (own.root / "runtime" / "_fast.abi3.so").is_symlink()


@pytest.mark.skipif(host_arch() == "aarch64", reason="the host is aarch64: nothing to cross-compile")
def test_cross_build(checkout: Checkout) -> None:
    """--target aarch64 makes an aarch64 library and Python modules and leaves the host's links alone."""
    if shutil.which("aarch64-linux-gnu-gcc") is None:
        miss("no aarch64-linux-gnu-gcc")
    checkout.build("compile", "--target", "aarch64", "--isa", "neon", "--only", "gemm_s_nn_4x*")
    for name in ("libtilewright.so", "_tilewright.abi3.so", "_fast.abi3.so"):
        header = (checkout.root / "build" / "aarch64" / "lib" / name).read_bytes()[:20]
        assert header[18:20] == b"\xb7\x00"  # EM_AARCH64
    assert not (checkout.root / "runtime" / "libtilewright.so.0").exists()
    assert not checkout.out.exists()


def test_clean_leaves_only_sources(checkout: Checkout) -> None:
    """Clean takes away all that a build added."""
    before = {path for path in checkout.root.rglob("*") if "__pycache__" not in path.parts}
    checkout.build("compile", *FEW)
    checkout.build("clean")
    after = {path for path in checkout.root.rglob("*") if "__pycache__" not in path.parts}
    assert after - before == {checkout.root / "build", checkout.root / "build" / ".lock"}


def test_info(built: Checkout) -> None:
    """Info names version, compiler and what was compiled."""
    said = built.build("info", "--target", host_arch())
    count = len(json.loads((built.out / "manifest.json").read_text())["kernels"])
    assert Compiler.find(host_arch()).version in said
    assert re.search(rf"scalar +{count} kernels, {count} compiled", said)


def test_failure_begins_nothing_new(script: ModuleType) -> None:
    """Items cancelled after a failure were waited for: the build hung for ever."""
    begun: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        time.sleep(0.1)
        raise ValueError(item)

    with pytest.raises(ValueError, match="1"):
        script.each("work", work, [1, 2, 3, 4, 5], 1)
    assert len(begun) < 4


def test_warnings_are_errors_in_our_builds_only(own: Checkout) -> None:
    """A warning of the next compiler must not break ``pip install``; the objects are the same with and without."""
    with (own.root / "runtime" / "csrc" / "error.c").open("a") as file:
        file.write("static int not_used;\n")
    assert own.run("compile", *FEW)[0] != 0
    assert " 1 of " in own.build("compile", *FEW, "--no-werror")
    assert own.build("compile", *FEW).count("nothing changed") == 2


def test_warnings_are_no_errors_in_a_source_distribution(own: Checkout) -> None:
    """There build.py is used by users."""
    with (own.root / "runtime" / "csrc" / "error.c").open("a") as file:
        file.write("static int not_used;\n")
    (own.root / "PKG-INFO").touch()
    own.build("compile", *FEW)


def test_benchmarks_run_the_checkout(own: Checkout, tmp_path: Path) -> None:
    """Not what is installed, be it another checkout or a release."""
    installed = tmp_path / "site" / "tilewright" / "runtime" / "__init__.py"
    installed.parent.mkdir(parents=True)
    installed.touch()
    (own.root / "benchmarks" / "where.py").write_text("from tilewright import runtime\nprint(runtime.__file__)\n")
    said = own.build("bench", "where", *FEW, PYTHONPATH=str(installed.parents[2]))
    assert Path(said.splitlines()[-1]).resolve() == (own.root / "runtime" / "__init__.py").resolve()


def test_show_prints_one_kernel(built: Checkout) -> None:
    """``generate --only`` to look at one kernel deletes every other source."""
    before = {path for path in built.root.rglob("*") if "__pycache__" not in path.parts}
    for name in ("gemm_s_nn_4x4__scalar", "gemm_d_nn_4x4__neon"):
        assert f"tw_{name}(" in built.build("show", name)
    source = built.out / "generated" / "scalar" / "gemm_s_nn_4x4__scalar.c"
    assert built.build("show", source.stem) == source.read_text()
    assert {path for path in built.root.rglob("*") if "__pycache__" not in path.parts} == before


@pytest.mark.parametrize("command", ["clean", "info"])
def test_no_environment_is_made_for(own: Checkout, command: str) -> None:
    """To delete what was built took a minute of pip install first."""
    process = own.start_plainly(command)
    said, complaint = process.communicate(timeout=60)
    assert process.returncode == 0, complaint
    assert not (own.root / ".venv").exists()
    assert own.out.exists() == (command == "info")
    assert command == "clean" or re.search(r"scalar +\d+ kernels", said)


def test_environment_is_kept_while_it_fits(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of .venv changes with the pins and with the interpreter, not from run to run."""
    python = tmp_path / "python"
    python.symlink_to("/usr/bin/env")
    key = script.environment_key(python)
    assert script.environment_key(python) == key
    python.unlink()
    python.symlink_to(os.path.realpath("/bin/sh"))
    assert script.environment_key(python) != key
