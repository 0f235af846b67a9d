"""What `info` and `selftest` say, and what importing costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import tilewright.runtime as tw
from tilewright.runtime._library import lib, text

from .problems import RUNNABLE, forced


def test_info_says_what_is_here() -> None:
    """A count of the wrong ISA, a library from elsewhere, a field nobody fills."""
    about = tw.info()
    assert about.version == tw.__version__
    assert about.isa in about.runnable
    assert set(about.runnable) <= set(about.kernels)
    assert sum(about.kernels.values()) == lib.tw_kernel_total()
    names = [text(lib.tw_kernel_name(index)) for index in range(lib.tw_kernel_total())]
    assert len(set(names)) == len(names)
    for isa, count in about.kernels.items():
        assert sum(name.partition("__")[2].startswith(isa) for name in names) == count
    library = Path(about.library)
    assert library.name.startswith("libtilewright.so")
    assert library.exists()
    for word in (
        about.version,
        about.compiler,
        about.cpu,
        *about.kernels,
        *map(str, about.kernels.values()),
        str(library),
    ):
        assert word in str(about)
    assert repr(about) == str(about)


def test_every_mode_of_every_isa_has_kernels_of_its_own() -> None:
    """A mode that scalar quietly serves, at a tenth of the speed."""
    for isa in RUNNABLE:
        with forced(isa):
            assert not tw.info().stand_ins, f"{isa} has no kernels for {tw.info().stand_ins}"


def test_the_self_test_runs_every_kernel_this_cpu_can() -> None:
    """Kernels listed and never run."""
    result = tw.selftest()
    assert result, str(result)
    about = tw.info()
    assert dict(result.run) == {isa: about.kernels[isa] for isa in about.runnable}
    assert set(result.skipped) == set(about.kernels) - set(about.runnable)
    assert result.products > 50 * sum(result.run.values())
    assert not result.mismatches
    assert not any(result.failed.values())
    assert "all exact" in str(result)


def test_importing_brings_no_torch_and_no_generator() -> None:
    """An import at the top that costs everybody seconds."""
    dear = {"torch", "transformers", "jinja2", "yaml", "hypothesis"}
    code = f"import sys, tilewright.runtime; print({dear} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "set()"
