"""netlib's own testers of level 3 BLAS find no fault, and it is our functions that they call."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from ..conftest import cpu_isas
from ..kernels.machines import is_native
from ..support import Unavailable, miss
from . import netlib

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(1800)]

MACHINES = [("x86_64", "scalar"), ("x86_64", "avx2"), ("x86_64", "avx512"), ("aarch64", "scalar"), ("aarch64", "neon")]


RUNS = {1: ("silent", "counted", "larger"), 2: ("counted", "larger")}
"""By threads: a tester's own sizes and error exits, silently, which takes the shortest ways through our library, or
with each call counted; larger sizes, where threads may share a product."""


@pytest.mark.parametrize("threads", RUNS)
@pytest.mark.parametrize(("arch", "isa"), MACHINES)
def test_level_3(arch: str, isa: str, threads: int, tmp_path: Path, report: Callable[[str], None]) -> None:
    """Wrong arguments unnoticed or misnumbered; C written beyond its edge; an operation, layout or scalar mistaken."""
    native = is_native(arch)
    if native and isa not in cpu_isas():
        miss(f"this CPU lacks {isa}")
    if not native and arch == "x86_64":
        pytest.skip("no x86 is emulated: its testers run where there is one")
    for letter, fortran, kind in product(netlib.TYPES, (False, True), RUNS[threads]):
        folder = tmp_path / f"{letter}{fortran}{kind}"
        folder.mkdir()
        environment = {"TILEWRIGHT_ISA": isa, "TILEWRIGHT_NUM_THREADS": str(threads)}
        environment["TILEWRIGHT_VERBOSE"] = "1" if kind == "counted" else "0"
        errors = kind != "larger"
        try:
            result = netlib.run(
                arch, letter, fortran, folder, environment,
                sizes="" if errors else netlib.LARGER, errors=errors, scalars=native or errors,
            )  # fmt: skip
        except Unavailable as reason:
            miss(reason)
        symbol = f"{letter}gemm_" if fortran else f"cblas_{letter}gemm"
        name = symbol.removesuffix("_").upper() if fortran else symbol
        exits = [f"{name} PASSED THE TESTS OF ERROR-EXITS"] if errors else []
        assert result.verdicts[: len(exits)] == exits
        passed = result.verdicts[len(exits) :]
        assert len(passed) == (1 if fortran else 2)  # layouts
        assert all(line.startswith(f"{name} PASSED THE") and "COMPUTATIONAL TESTS" in line for line in passed)
        who = f"{arch} {isa}, {threads} thread{'s' * (threads > 1)}"
        if kind == "counted":
            assert result.calls(symbol) > result.counted > 0  # error exits are calls, too
            report(f"{who}: {symbol} was called {result.calls(symbol)} times")
        else:
            assert result.said == ""
        if kind != "silent":
            for line in result.verdicts:
                report(f"{who}{', sizes ' + netlib.LARGER if kind == 'larger' else ''}: {line}")
