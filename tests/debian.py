"""Debian packages of either architecture, downloaded and unpacked into a folder; nothing is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .support import Unavailable, tool

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Debian's names of ours."""


def run(command: Sequence[str | Path], what: str) -> None:
    """Run a program that needs the network.

    Raises
    ------
    Unavailable
        It failed; with its words.
    """
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    if done.returncode:
        raise Unavailable(f"{what}: {command[0]} says: {(done.stderr or done.stdout).strip()[-1000:]}")


def unpack(packages: Sequence[str], architecture: str, folder: Path) -> None:
    """Unpack packages and all they depend on, of Debian's `architecture`, into `folder`; run no package's scripts.

    apt resolves and downloads with a state of its own.

    Raises
    ------
    Unavailable
        Not a Debian-like system, or no network.
    """
    apt = tool("apt-get", why=f"to download {architecture} packages")
    extract = tool("dpkg-deb", why=f"to unpack {architecture} packages")
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
        command = [apt, "-qq", *(f"-o{name}={value}" for name, value in options.items())]
        run([*command, "update"], f"{architecture} package lists")
        install = [*command, "install", "-y", "--download-only", "--no-install-recommends", *packages]
        run(install, f"{architecture} packages")
        for package in sorted((cache / "archives").glob("*.deb")):
            run([extract, "-x", package, folder], package.name)


def unpacked(packages: Sequence[str], architecture: str, folder: Path) -> Path:
    """`unpack` unless that was done before; returns `folder`."""
    made_of = folder / "made-of"
    wanted = f"{architecture} {' '.join(packages)}"
    if not made_of.exists() or made_of.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        unpack(packages, architecture, folder)
        made_of.write_text(wanted)
    return folder
