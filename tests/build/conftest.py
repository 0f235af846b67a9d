"""A copy of the checkout to build in, and to break."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from generator.compile import host_arch

from ..support import ROOT

SOURCES = [  # where git is not there to say it
    "build.py",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "generator",
    "templates",
    "runtime",
    "topv",
    "benchmarks",
]
FEW = ("--target", host_arch(), "--isa", "scalar", "--only", "gemm_[sd]_nn_*")  # a library in two seconds


@dataclass
class Checkout:
    """A copy of the sources and what build.py makes of them with the Python that runs the tests."""

    root: Path

    @property
    def out(self) -> Path:
        """The host's part of build/."""
        return self.root / "build" / host_arch()

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start build.py, with the Python that runs the tests, in a process group of its own."""
        return self.start_plainly(*arguments, "--no-venv", **environment)

    def start_plainly(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start build.py without ``--no-venv``."""
        return subprocess.Popen(
            [sys.executable, str(self.root / "build.py"), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.root,
            env={**os.environ, **environment},
            start_new_session=True,
        )

    def build(self, *arguments: str, **environment: str) -> str:
        """Run build.py to its end, which must be a good one; return what it said."""
        code, said, complaint = self.run(*arguments, **environment)
        assert code == 0, complaint
        return said

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """Run build.py to its end; return exit status, stdout and stderr."""
        process = self.start(*arguments, **environment)
        said, complaint = process.communicate(timeout=240)
        return process.returncode, said, complaint

    def kill_when(self, happened: Callable[[], bool], *arguments: str) -> bool:
        """Start build.py and kill -9 it and all its children once `happened`; return whether it was still running."""
        process = self.start(*arguments)
        while process.poll() is None and not happened():
            time.sleep(0.002)
        running = process.poll() is None
        if running:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return running

    def contents(self) -> dict[str, bytes]:
        """Every file that was made, by name; not the records of what was made from what."""
        files = (path for path in self.out.rglob("*") if path.is_file())
        return {str(path.relative_to(self.out)): path.read_bytes() for path in files if path.name != "generated.json"}


def copy_sources(folder: Path) -> Checkout:
    """Copy what the repository holds or would after ``git add``, nothing that was made from it."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode == 0:
        for name in sorted({*listed.stdout.split("\0")} - {""}):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        return Checkout(folder)
    made = shutil.ignore_patterns("__pycache__", "*.so", "*.so.*")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=made)
        elif source.exists():
            shutil.copy(source, folder / name)
    return Checkout(folder)


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what all copies are made from: somebody may be editing while the tests run."""
    return copy_sources(tmp_path_factory.mktemp("sources")).root


@pytest.fixture
def checkout(sources: Path, tmp_path: Path) -> Checkout:
    """Return a checkout in which nothing was built yet."""
    shutil.copytree(sources, tmp_path, dirs_exist_ok=True)
    return Checkout(tmp_path)


@pytest.fixture(scope="session")
def built(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return a checkout with a small library, which no test changes."""
    checkout = Checkout(tmp_path_factory.mktemp("built"))
    shutil.copytree(sources, checkout.root, dirs_exist_ok=True)
    checkout.build("compile", *FEW)
    return checkout


@pytest.fixture
def own(built: Checkout, tmp_path: Path) -> Checkout:
    """Return a copy of `built`, to break."""
    shutil.copytree(built.root, tmp_path / "own", symlinks=True)
    return Checkout(tmp_path / "own")


@pytest.fixture
def script() -> ModuleType:
    """Return build.py as a module, to reach its functions."""
    spec = importlib.util.spec_from_file_location("build_script", ROOT / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
