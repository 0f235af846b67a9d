"""Options, markers and fixtures of all tests.

Markers: ``slow`` (minutes in all), ``emulation`` (needs downloaded arm64 packages), ``conformance`` (test suites of
others, some downloaded), ``sanitizers`` (instrumented builds, valgrind), all of which CI runs; ``topv`` (needs torch,
transformers); ``isa(name)`` (skipped where the CPU lacks it). ``TILEWRIGHT_CI=1`` turns every skip for a missing tool
into a failure.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from difflib import unified_diff
from pathlib import Path

import pytest

from .conformance.summary import ConformanceSummary
from .kernels.summary import KernelSummary
from .support import ROOT

os.environ["TILEWRIGHT_TUNING"] = "off"  # tests see the tiles of every machine, and leave nothing in the user's folder

GOLDEN = ROOT / "tests" / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of our own."""
    group = parser.getgroup("tilewright")
    group.addoption(
        "--update-golden", action="store_true", help="write the golden files of tests/golden/ instead of comparing"
    )
    group.addoption(
        "--kernel", action="append", default=[], metavar="NAME", help="sweep only kernels of this name or pattern"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Markers, and the table of kernels listed, run and skipped at the end."""
    config.addinivalue_line("markers", "slow: takes tens of seconds; deselect with -m 'not slow'")
    config.addinivalue_line("markers", "emulation: runs an aarch64 Python under qemu, from packages it downloads")
    config.addinivalue_line("markers", "conformance: runs test suites of others on the BLAS library")
    config.addinivalue_line("markers", "sanitizers: runs the C code under ASan, UBSan or valgrind")
    config.addinivalue_line("markers", "topv: pruning of visual tokens; needs torch and transformers")
    config.addinivalue_line("markers", "isa(name): needs a CPU with this ISA")
    config.pluginmanager.register(KernelSummary(config), "tilewright-kernels")
    config.pluginmanager.register(ConformanceSummary(), "tilewright-conformance")


def pytest_collection_finish() -> None:
    """Leave what imports and collection made, torch's modules among it, out of every later garbage collection."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked ``isa(name)`` where the CPU lacks it."""
    for mark in item.iter_markers("isa"):
        if mark.args[0] not in cpu_isas():
            pytest.skip(f"this CPU lacks {mark.args[0]}")


def cpu_isas() -> frozenset[str]:
    """The ISAs this CPU executes, as Linux reports it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split()}
    needs = {
        "neon": {"asimd"},
        "fcma": {"asimd", "fcma"},
        "avx2": {"avx2", "fma"},
        "avx512": {"avx512f", "avx512vl", "avx512dq"},
    }
    return frozenset(["scalar", *(isa for isa, wanted in needs.items() if wanted <= flags)])


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare text with ``tests/golden/<name>``; ``--update-golden`` writes it instead."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert path.exists(), f"{path} does not exist; make it with --update-golden and read it before committing"
        difference = list(
            unified_diff(path.read_text().splitlines(), text.splitlines(), "golden", "now", lineterm="", n=1)
        )
        if difference:
            said = "\n".join(difference[:40])
            pytest.fail(
                f"{path} differs; if that is meant, --update-golden and read the difference\n{said}", pytrace=False
            )

    return compare
