"""Debian's arm64 packages and aarch64 wheels, unpacked into a folder: nothing is installed, no script of theirs run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from .emulator import Rival

__all__ = ["WAYS", "Unavailable", "rivals", "unpack_packages", "unpack_wheels"]

ROOT = Path(__file__).resolve().parents[2]

_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")


class Unavailable(Exception):
    """What is to be unpacked cannot be had here; the message says why."""


def unpack_packages(packages: Sequence[str], folder: Path) -> None:
    """Let apt resolve and download for arm64 alone, with a state of its own, and unpack into `folder`.

    Raises
    ------
    Unavailable
        Not a Debian-like system, or no network.
    """
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise Unavailable(f"{program} is not here, to download and unpack arm64 packages")
    apt = folder.with_name(folder.name + ".apt")
    shutil.rmtree(apt, ignore_errors=True)
    state, cache = apt / "state", apt / "cache"
    for path in (state / "lists" / "partial", cache / "archives" / "partial", folder):
        path.mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures::": "arm64",
        "APT::Sandbox::User": "",
        "Debug::NoLocking": "1",
        "Dir::Cache": cache,
        "Dir::State": state,
        "Dir::State::status": state / "status",
    }
    command = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    try:
        _run([*command, "update"], "arm64 package lists")
        _run([*command, "install", "-y", "--download-only", "--no-install-recommends", *packages], "arm64 packages")
        for package in (cache / "archives").glob("*.deb"):
            _run(["dpkg-deb", "-x", package, folder], package.name)
    finally:
        shutil.rmtree(apt, ignore_errors=True)


def unpack_wheels(requirements: Sequence[str], folder: Path, python: str = "") -> None:
    """Unpack aarch64 wheels into `folder`; `python` ("3.11") where they depend on it.

    Raises
    ------
    Unavailable
        When pip cannot find or fetch one.
    """
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-compile",
    ]
    wanted = [*([f"--python-version={python}"] if python else []), "--only-binary=:all:", f"--target={folder}"]
    _run([*pip, *wanted, *(f"--platform={name}" for name in _PLATFORMS), *requirements], "aarch64 wheels")


WAYS = ("openblas", "openblas-cblas", "openblas-debian", "blis-debian")
"""Libraries that can be measured in the same run."""

_DEBIAN = {
    "openblas-debian": ("libopenblas0-serial", "openblas-serial/libblas.so.3", "OpenBLAS, Debian"),
    "blis-debian": ("libblis4-serial", "blis-serial/libblas.so.3", "BLIS, Debian"),
}


def rivals(wanted: Sequence[str]) -> tuple[list[Rival], list[str]]:
    """Those of `WAYS` that can be had, downloaded at first; and why others cannot."""
    home = ROOT / "build" / "bench" / "neon" / "rivals"
    found: list[Rival] = []
    reasons: list[str] = []
    if any(way in ("openblas", "openblas-cblas") for way in wanted):
        pin = _pin("scipy-openblas32")
        try:
            folder = _once(home / pin.replace("==", "-"), partial(unpack_wheels, [pin]))
            path = folder / "scipy_openblas32" / "lib" / "libscipy_openblas.so"
            title = "OpenBLAS " + ".".join(pin.partition("==")[2].split(".")[:3])
            for way, symbol in (("openblas", "scipy_?gemm_"), ("openblas-cblas", "scipy_cblas_?gemm")):
                if way in wanted:
                    found.append(Rival(way, title, path, symbol))
        except Unavailable as reason:
            reasons.append(f"openblas: not assessed: {reason}")
    for way, (package, file, title) in _DEBIAN.items():
        if way not in wanted:
            continue
        try:
            folder = _once(home / package, partial(unpack_packages, [package]))
            libraries = folder / "usr" / "lib" / "aarch64-linux-gnu"
            found.append(Rival(way, title, libraries / file, "?gemm_", (libraries,)))
        except Unavailable as reason:
            reasons.append(f"{way}: not assessed: {reason}")
    return found, reasons


def _once(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder, made by ``make(folder)`` unless it is there."""
    if not folder.exists():
        fresh = folder.with_name(folder.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        make(fresh)
        fresh.rename(folder)
    return folder


def _pin(name: str) -> str:
    """What pyproject.toml says of a package."""
    found = re.search(rf'"({name}==[\w.]+)', (ROOT / "pyproject.toml").read_text())
    assert found, name
    return found[1]


def _run(command: Sequence[str | Path], what: str) -> None:
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        check=False,
    )
    if done.returncode:
        raise Unavailable(f"{what}: {Path(command[0]).name} says: {(done.stderr or done.stdout).strip()[-1000:]}")
