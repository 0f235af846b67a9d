"""Libraries of arm64 to measure beside ours: from Debian's packages and PyPI's wheels."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from .emulator import Rival
from .packages import Unavailable, unpack, unpack_wheels

__all__ = ["WAYS", "rivals"]

ROOT = Path(__file__).resolve().parents[2]

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
            folder = _once(home / package, partial(unpack, [package], "arm64"))
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
