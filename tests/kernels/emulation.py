"""An aarch64 Python under qemu: a folder of unpacked arm64 Debian packages and wheels; nothing is installed."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from emulated.packages import Unavailable as NotToBeHad
from emulated.packages import unpack, unpack_wheels

from ..support import BUILD, ROOT, Unavailable
from .machines import emulator

ARCH = "aarch64"
HOME = BUILD / "emulation"
DEBIAN_PACKAGES = ("python3-minimal", "libpython3-stdlib", "libstdc++6")
WHEELS = ("numpy", "cffi")


@dataclass(frozen=True)
class EmulatedPython:
    """An unpacked aarch64 system with a Python and numpy in it."""

    sysroot: Path
    site: Path
    package: Path | None = None

    def run(self, code: str, **environment: str) -> str:
        """Run code, on a CPU that has `TILEWRIGHT_ISA` or everything, and return what it prints.

        Raises AssertionError when it fails.
        """
        python = next((self.sysroot / "usr" / "bin").glob("python3.*"))
        path = [str(folder) for folder in (self.package, self.site) if folder]
        variables = {
            "PYTHONPATH": ":".join(path),
            "PYTHONHOME": str(self.sysroot / "usr"),
            "OPENBLAS_NUM_THREADS": "1",
            **environment,
        }
        guest = [argument for name, value in variables.items() for argument in ("-E", f"{name}={value}")]
        qemu, *options = emulator(ARCH, environment.get("TILEWRIGHT_ISA", "fcma"))
        options[options.index("-L") + 1] = str(self.sysroot)
        done = subprocess.run(
            [qemu, *options, *guest, str(python), "-c", code], capture_output=True, text=True, timeout=300
        )
        if done.returncode:
            raise AssertionError(f"emulated Python: exit status {done.returncode}\n{done.stderr[-4000:]}")
        return done.stdout


def is_there() -> bool:
    """Whether the aarch64 Python was made before, so that nothing need be downloaded."""
    stamp = HOME / "made-of"
    return stamp.exists() and stamp.read_text() == _key()


def emulated_python() -> EmulatedPython:
    """The aarch64 Python of `build/emulation`, made on first use (about 10 seconds, 32 MB of downloads).

    Raises
    ------
    Unavailable
        Not a Debian-like system, or no network.
    """
    ready = EmulatedPython(HOME / "sysroot", HOME / "site")
    BUILD.mkdir(exist_ok=True)
    with (BUILD / ".emulation.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another test process may be making it
        if not is_there():
            shutil.rmtree(HOME, ignore_errors=True)
            _unpack(ready)
            (HOME / "made-of").write_text(_key())
    return ready


def install_runtime(folder: Path) -> None:
    """Lay out `tilewright.runtime` as installed on aarch64: our Python files and the cross-compiled libraries."""
    runtime = folder / "tilewright" / "runtime"
    shutil.copytree(ROOT / "runtime", runtime, ignore=shutil.ignore_patterns("*.so*", "__pycache__", "csrc"))
    libraries = sorted((BUILD / ARCH / "lib").glob("*.so*"))
    if not any(path.name.startswith("_tilewright") for path in libraries):
        raise Unavailable(f"build/{ARCH}/lib holds no Python module; run: python3 build.py compile --target {ARCH}")
    for path in libraries:
        shutil.copy2(path, runtime / path.name)


def _key() -> str:
    return " ".join([*DEBIAN_PACKAGES, *_pins()])


def _pins() -> list[str]:
    return [f"{name}=={version(name)}" for name in WHEELS]


def _unpack(python: EmulatedPython) -> None:
    try:
        unpack(DEBIAN_PACKAGES, "arm64", python.sysroot)
        name = next((python.sysroot / "usr" / "bin").glob("python3.*")).name
        unpack_wheels(_pins(), python.site, name.removeprefix("python"))
    except NotToBeHad as reason:
        raise Unavailable(str(reason)) from reason
