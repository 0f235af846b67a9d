"""Debian packages and wheels of another architecture, unpacked into a folder: nothing is installed, no script run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

__all__ = ["ARCHITECTURES", "Unavailable", "unpack", "unpack_wheels"]

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Debian's names of ours."""

_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")


class Unavailable(Exception):
    """What is to be unpacked cannot be had here; the message says why."""


def unpack(packages: Sequence[str], architecture: str, folder: Path) -> None:
    """Unpack packages and all they depend on, of Debian's `architecture`, into `folder`.

    apt resolves and downloads with a state of its own.

    Raises
    ------
    Unavailable
        Not a Debian-like system, or no network.
    """
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise Unavailable(f"{program} is not here, to download and unpack {architecture} packages")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".apt-") as home:
        state, cache = Path(home, "state"), Path(home, "cache")
        for place in (state / "lists" / "partial", cache / "archives" / "partial"):
            place.mkdir(parents=True)
        (state / "status").touch()
        options = {
            "APT::Architecture": architecture,
            "APT::Architectures::": architecture,
            "APT::Sandbox::User": "",
            "Debug::NoLocking": "1",
            "Dir::Cache": cache,
            "Dir::State": state,
            "Dir::State::status": state / "status",
        }
        command = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
        _run([*command, "update"], f"{architecture} package lists")
        install = [*command, "install", "-y", "--download-only", "--no-install-recommends", *packages]
        _run(install, f"{architecture} packages")
        for package in sorted((cache / "archives").glob("*.deb")):
            _run(["dpkg-deb", "-x", package, folder], package.name)


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
