"""netlib's testers of level 3, from Debian's libblas-test: where they are, what they read, what they print.

`xdcblat3` and its like test CBLAS in both layouts, `xblat3d` and its like Fortran's names. Each multiplies every
combination of sizes, operations and scalars in its input, surrounds matrices with rogue values, compares with its own
product element by element and, where asked, hands in every wrong argument there is.
"""

from __future__ import annotations

import fcntl
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ..debian import ARCHITECTURES, unpacked
from ..kernels.machines import emulator, is_native
from ..support import BUILD

PACKAGES = ("libblas-test", "libblas3")
TYPES = "sdcz"
LARGER = "0 1 4 7 8 17 32 33 64"
"""Sizes on both sides of tiles and vectors; the testers take nine, none above 65."""


def place(arch: str) -> Path:
    """The folder that holds the testers, their input and the reference BLAS, downloaded on first use.

    Raises
    ------
    Unavailable
        They cannot be had here.
    """
    BUILD.mkdir(exist_ok=True)
    with (BUILD / ".conformance.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another test process may be at it
        return unpacked(PACKAGES, ARCHITECTURES[arch], BUILD / "conformance" / arch)


@dataclass(frozen=True)
class Result:
    """What a tester printed, and what our library did at its end."""

    printed: str
    said: str
    """On stderr."""

    @property
    def verdicts(self) -> list[str]:
        """The tester's lines on gemm, in its own words."""
        return [
            " ".join(line.split()) for line in self.printed.splitlines() if "gemm" in line.lower() and "TEST" in line
        ]

    @property
    def counted(self) -> int:
        """Computational calls, by the tester's count."""
        return sum(int(number) for number in re.findall(r"gemm.*PASSED.*\(\s*(\d+) CALLS\)", self.printed, re.I))

    def calls(self, symbol: str) -> int:
        """Calls of one of our symbols, by our count."""
        return sum(int(number) for number in re.findall(rf"tilewright: {symbol}: (\d+) calls", self.said))


def tester_input(text: str, *, sizes: str, errors: bool, scalars: bool) -> str:
    """A tester's input, of gemm alone.

    Parameters
    ----------
    text : str
        The input that comes with it.
    sizes : str
        Values of m, n and k; "": as they are.
    errors : bool
        Whether to test error exits.
    scalars : bool
        All values of alpha and beta, or the last of each.
    """
    lines = [line for line in text.splitlines() if "T PUT F" not in line or "gemm" in line.lower()]
    for index, line in enumerate(lines):
        if "TO TEST ERROR EXITS" in line:
            lines[index] = "T" if errors else "F"
        elif "OUTPUT FILE" in line and "SUMMARY" in line and "UNIT" not in line:
            lines[index] = "'summary'"
        elif "NUMBER OF VALUES OF N" in line and sizes:
            lines[index : index + 2] = [str(len(sizes.split())), sizes]
        elif re.search("NUMBER OF VALUES OF (ALPHA|BETA)", line) and not scalars:
            lines[index : index + 2] = ["1", lines[index + 1].partition("VALUES")[0].split()[-1]]
    return "\n".join(lines) + "\n"


def run(
    arch: str, letter: str, fortran: bool, folder: Path, environment: dict[str, str], *,
    sizes: str = "", errors: bool = True, scalars: bool = True,
) -> Result:  # fmt: skip
    """Run one tester in an empty folder with our library preloaded."""
    root, triplet = place(arch), f"{arch}-linux-gnu"
    tests = root / "usr" / "lib" / triplet / "blas"
    program = tests / (f"xblat3{letter}" if fortran else f"x{letter}cblat3")
    given = (tests / (f"{letter}blat3.in" if fortran else f"{letter}in3")).read_text()
    library = BUILD / arch / "lib" / "libtilewright_blas.so.0"
    preload = {"LD_PRELOAD": str(library), "LD_LIBRARY_PATH": f"{tests}:{tests.parent}", **environment}
    if is_native(arch):
        command = [str(program)]
    else:
        qemu, *options = emulator(arch)
        options[options.index("-L") + 1] = str(root)
        preload["LD_LIBRARY_PATH"] = f"/usr/lib/{triplet}/blas"
        guest = [word for name, value in preload.items() for word in ("-E", f"{name}={value}")]
        command, preload = [qemu, *options, *guest, str(program)], {}
    text = tester_input(given, sizes=sizes, errors=errors, scalars=scalars)
    done = subprocess.run(command, input=text, capture_output=True, text=True, cwd=folder, env=preload, timeout=900)
    summary = folder / "summary"
    printed = done.stdout + (summary.read_text() if summary.exists() else "")
    assert done.returncode == 0, f"{program.name}: exit status {done.returncode}\n{printed}\n{done.stderr[-2000:]}"
    return Result(printed, done.stderr)
