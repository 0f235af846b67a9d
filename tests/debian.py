"""Debian packages of either architecture for tests: downloaded, unpacked into a folder, kept; nothing is installed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from emulated import packages as other

from .support import Unavailable

ARCHITECTURES = other.ARCHITECTURES


def unpacked(packages: Sequence[str], architecture: str, folder: Path) -> Path:
    """Packages and all they depend on, unpacked unless that was done before; returns `folder`.

    Raises
    ------
    Unavailable
        Not a Debian-like system, or no network.
    """
    made_of = folder / "made-of"
    wanted = f"{architecture} {' '.join(packages)}"
    if not made_of.exists() or made_of.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        try:
            other.unpack(packages, architecture, folder)
        except other.Unavailable as reason:
            raise Unavailable(str(reason)) from reason
        made_of.write_text(wanted)
    return folder
