"""numpy's and scipy's own tests pass with our library preloaded, and it is our functions that they call."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from generator.compile import host_arch

from ..conftest import cpu_isas
from ..support import BUILD, miss

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(900)]

LIBRARY = BUILD / host_arch() / "lib" / "libtilewright_blas.so.0"
SUITES = {
    "numpy dot and matmul": ("numpy._core.tests.test_multiarray", "-k", "(TestDot or TestMatmul) and not huge"),
    "numpy.linalg": ("numpy.linalg",),
    "scipy BLAS": ("scipy.linalg.tests.test_blas",),
}
SYMBOLS = {
    "numpy dot and matmul": "scipy_cblas_{}gemm64_",
    "numpy.linalg": "scipy_cblas_{}gemm64_",
    "scipy BLAS": "scipy_{}gemm_",
}


@pytest.mark.parametrize("isa", sorted(cpu_isas()))
@pytest.mark.parametrize("suite", SUITES)
def test_suite(suite: str, isa: str, tmp_path: Path, report: Callable[[str], None]) -> None:
    """Integers of the wrong width, since numpy's are of 64 bits and scipy's of 32; a name that numpy does not call."""
    if find_spec("scipy") is None:
        miss("scipy is not installed: pip install --editable .[dev]")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")  # not ours
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(tmp_path / "pytest.ini")]
    environment = {**os.environ, "LD_PRELOAD": str(LIBRARY), "TILEWRIGHT_ISA": isa, "TILEWRIGHT_VERBOSE": "1"}
    ran = subprocess.run(
        [*command, "--pyargs", *SUITES[suite]], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert ran.returncode == 0, ran.stdout[-4000:]
    calls = dict(re.findall(r"tilewright: (\w+): (\d+) calls", ran.stderr))
    for letter in "sdcz":
        assert int(calls[SYMBOLS[suite].format(letter)]) > 0
    report(f"{suite}, {isa}: {ran.stdout.splitlines()[-1]}")
    report(f"{suite}, {isa}: " + ", ".join(f"{count} x {symbol}" for symbol, count in calls.items()))
