"""Where things are, and what to do when something a test needs is not there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
CI = os.environ.get("TILEWRIGHT_CI") == "1"


class Unavailable(Exception):
    """A tool or build product is missing; the message says what to do about it."""


def miss(reason: str | Unavailable) -> NoReturn:
    """Skip the test for a reason, or fail it where nothing may be missing (``TILEWRIGHT_CI=1``)."""
    if CI:
        pytest.fail(f"{reason} (and TILEWRIGHT_CI=1 allows no skips)", pytrace=False)
    pytest.skip(str(reason))


def tool(*names: str, why: str) -> str:
    """Path of the first of some programs that is installed.

    Raises
    ------
    Unavailable
        Naming the programs and what they are needed for.
    """
    for name in names:
        if path := shutil.which(name):
            return path
    raise Unavailable(f"{' or '.join(names)} not found: needed {why}")
