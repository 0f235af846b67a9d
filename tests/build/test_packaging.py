"""Wheels, editable installs, source distributions and build.py's own environment, each in a fresh place."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from generator.compile import host_arch

from ..support import BUILD, ROOT
from .conftest import Checkout

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PRODUCT = """
import numpy as np
from tilewright import runtime
a, b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
assert (runtime.gemm(a, b) == a @ b).all()
print(runtime.__file__, runtime.info().calls)
"""
GENERATE = "import sys; from tilewright.generator.__main__ import main; sys.exit(main())"


def python_of(folder: Path) -> str:
    """Make a virtual environment with nothing in it and return its Python."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    return str(folder / "bin" / "python")


def output(*command: str, cwd: Path) -> str:
    """Run a program, away from the checkout's own packages; return what it printed."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture
def whole(checkout: Checkout) -> Checkout:
    """Return a checkout with everything that was built for the host: nothing in it depends on where it lies."""
    shutil.copytree(BUILD / host_arch(), checkout.out, symlinks=True)
    return checkout


def names(folder: str, pattern: str) -> set[str]:
    """Return files of a source folder."""
    found = (path for path in (ROOT / folder).rglob(pattern) if "__pycache__" not in path.parts)
    return {f"tilewright/{path.relative_to(ROOT)}" for path in found}


def test_wheel(whole: Checkout, tmp_path: Path) -> None:
    """The wheel holds library, module, generator and templates; it multiplies and generates where nothing else is."""
    output(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path / "w"), ".", cwd=whole.root)
    (wheel,) = (tmp_path / "w").iterdir()
    assert f"cp310-abi3-linux_{host_arch()}" in wheel.name
    held = set(zipfile.ZipFile(wheel).namelist())
    for pattern in ("*.py", "*.yaml", "*.j2", "py.typed"):
        for folder in ("generator", "templates", "runtime", "topv"):
            assert names(folder, pattern) <= held
    compiled = ("libtilewright.so.0", "libtilewright_blas.so.0", "_tilewright.abi3.so", "_fast.abi3.so")
    assert {f"tilewright/runtime/{name}" for name in compiled} <= held
    headers = ("tilewright.h", "tilewright_cblas.h", "tw_kernel.h")
    assert {f"tilewright/runtime/include/{name}" for name in headers} <= held
    assert {name.split("/")[0] for name in held if ".dist-info" not in name} == {"tilewright"}

    python = python_of(tmp_path / "venv")
    output(python, "-m", "pip", "install", "-q", str(wheel), cwd=tmp_path)
    said = output(python, "-c", PRODUCT, cwd=tmp_path)
    assert str(tmp_path / "venv") in said
    assert said.endswith(" extension\n")
    tilewright = str(tmp_path / "venv" / "bin" / "tilewright")
    assert str(tmp_path / "venv") in output(tilewright, "info", cwd=tmp_path)
    code = "import ctypes; ctypes.CDLL(None).scipy_cblas_dgemm64_; print('ours')"
    assert output(tilewright, "run", python, "-c", code, cwd=tmp_path) == "ours\n"
    only = ["--arch", host_arch(), "--out", str(tmp_path / "out"), "--only", "gemm_s_nn_4x4__scalar"]
    output(python, "-c", GENERATE, "generate", *only, cwd=tmp_path)
    made = tmp_path / "out" / "generated" / "scalar" / "gemm_s_nn_4x4__scalar.c"
    assert made.read_bytes() == (BUILD / host_arch() / "generated" / "scalar" / made.name).read_bytes()


def test_editable_install(whole: Checkout, tmp_path: Path) -> None:
    """What runs is the checkout's own file, with a library that was built for it."""
    python = python_of(tmp_path / "venv")
    output(python, "-m", "pip", "install", "-q", "-e", str(whole.root), cwd=tmp_path)
    assert str(whole.root / "runtime" / "__init__.py") in output(python, "-c", PRODUCT, cwd=tmp_path)
    output(python, "-c", "import runtime; runtime.info()", cwd=whole.root)


def source_distribution(checkout: Checkout, folder: Path) -> Path:
    """Make one and return it."""
    make = "import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"
    return folder / output(sys.executable, "-c", make, str(folder), cwd=checkout.root).splitlines()[-1]


@pytest.mark.parametrize("source", ["checkout", "distribution"])
def test_install_where_nothing_was_built(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """Only what build-system.requires names is there; few kernels, to be quick, and warnings that are no errors."""
    with (checkout.root / "runtime" / "csrc" / "error.c").open("a") as file:
        file.write("static int not_used;\n")
    (tmp_path / "empty").mkdir()
    place = checkout.root if source == "checkout" else source_distribution(checkout, tmp_path)
    monkeypatch.setenv("TILEWRIGHT_BUILD_OPTIONS", "--isa scalar --only gemm_[sd]_nn_*")
    python = python_of(tmp_path / "venv")
    output(python, "-m", "pip", "install", "-q", str(place), cwd=tmp_path / "empty")
    assert str(tmp_path / "venv") in output(python, "-c", PRODUCT, cwd=tmp_path / "empty")
    fast = "import tilewright.runtime._fast as fast; print(fast.__file__)"
    assert str(tmp_path / "venv") in output(python, "-c", fast, cwd=tmp_path / "empty")


def test_source_distribution(checkout: Checkout, tmp_path: Path) -> None:
    """All that a build needs is in it; nothing that was built."""
    with tarfile.open(source_distribution(checkout, tmp_path)) as archive:
        held = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    needed = [
        path
        for path in checkout.root.rglob("*")
        if path.is_file() and path.suffix in (".py", ".yaml", ".j2", ".c", ".h")
    ]
    folders = ("generator", "templates", "runtime")
    inputs = {
        str(path.relative_to(checkout.root)) for path in needed if path.relative_to(checkout.root).parts[0] in folders
    }
    assert inputs | {"build.py", "pyproject.toml", "LICENSE", "README.md"} <= held
    assert not [name for name in held if name.endswith(".so") or name.startswith("build/")]


def test_environment_left_half_made_is_made_anew(checkout: Checkout) -> None:
    """Killed in the middle of pip install: a package may be there in part and pip would call it installed."""
    base = getattr(sys, "_base_executable", sys.executable)
    command = [base, "build.py", "generate", "--target", host_arch(), "--only", "gemm_s_nn_4x4__scalar"]
    state = checkout.root / ".venv" / ".tilewright"
    process = subprocess.Popen(command, cwd=checkout.root, stdout=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None and not (state.exists() and state.read_text() == "installing"):
        time.sleep(0.05)
    time.sleep(2)
    os.killpg(process.pid, 9)
    process.wait()
    assert state.read_text() == "installing"
    assert "environment: making .venv" in output(*command, cwd=checkout.root)
    assert "environment" not in output(*command, cwd=checkout.root)
