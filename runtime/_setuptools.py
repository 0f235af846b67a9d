"""What pip runs (pyproject.toml, tool.setuptools.cmdclass): build.py makes the library, setuptools packs it.

Loaded by path, before anything is compiled; never imported by the package.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build" / platform.machine()


class Build(build):
    """Pack in a folder of its own: build/ is build.py's, and what an older version left there must not be packed."""

    def initialize_options(self) -> None:
        super().initialize_options()
        self._folder = tempfile.TemporaryDirectory(prefix="tilewright-")
        self.build_base = self._folder.name


class BuildExtension(build_ext):
    """Let build.py make the library and the Python module, then put them side by side into the package.

    Editable installs need no copy: build.py links them into runtime/. When build.py makes `.venv` it installs the
    project first and compiles afterwards; then it sets ``TILEWRIGHT_SKIP_COMPILE``. ``TILEWRIGHT_BUILD_OPTIONS`` holds
    more options for build.py: ``--isa avx2 scalar`` is quicker to build.
    """

    def run(self) -> None:
        if not os.environ.get("TILEWRIGHT_SKIP_COMPILE"):
            options = ["--no-venv", "--no-werror", "--target", OUT.name]
            options += shlex.split(os.environ.get("TILEWRIGHT_BUILD_OPTIONS", ""))
            code = subprocess.call([sys.executable, str(ROOT / "build.py"), "compile", *options])
            if code:
                sys.exit(code)  # build.py has said why, in a line
        if not self.inplace:
            package = Path(self.build_lib, "tilewright", "runtime")
            for source, folder in self._files():
                (package / folder).mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, package / folder)

    def _files(self) -> list[tuple[Path, str]]:
        lib = OUT / "lib"
        libraries = [*sorted(lib.glob("libtilewright*.so.*")), *sorted(lib.glob("*.abi3.so"))]
        return [
            *((path, "") for path in libraries),
            *((path, "include") for path in sorted((OUT / "include").glob("*.h"))),
        ]

    def get_outputs(self) -> list[str]:
        return [str(Path(self.build_lib, "tilewright", "runtime", folder, path.name)) for path, folder in self._files()]

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    def get_source_files(self) -> list[str]:
        """For the source distribution: what building needs beside the packages' own files."""
        return [
            "build.py",
            *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "runtime").rglob("*.[ch]"))),
        ]
