"""Which instruction set products use: the best, or the one that was asked for, or a clear error."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import tilewright.runtime as tw
from tilewright.runtime._library import ffi, lib, raise_for, text

from .problems import RUNNABLE, forced

PRODUCT = """
import numpy as np, tilewright.runtime as tw
for dtype in "fdFD":
    x = np.arange(-200, 199, dtype=dtype).reshape(21, 19) * (1 if dtype in "fd" else 1 + 2j)
    for trans in "NTC":
        y = {"N": x, "T": x.T, "C": x.conj().T}[trans]
        assert np.array_equal(tw.gemm(y, x, trans_a=trans, trans_b="T"), x @ x.T)
print(tw.info().isa, tw.info().reason)
"""


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("isa", RUNNABLE)
def test_the_environment_forces_an_isa(isa: str) -> None:
    """A variable read after the choice was made, or products that go on with the best."""
    ran = python(PRODUCT, TILEWRIGHT_ISA=isa)
    assert (ran.returncode, ran.stdout.strip()) == (0, f"{isa} TILEWRIGHT_ISA"), ran.stderr


def test_without_a_wish_the_best_is_used() -> None:
    """An empty variable, as shells set it, taken for a name; scalar chosen where there is better."""
    for value in ({}, {"TILEWRIGHT_ISA": ""}):
        environment = {name: text for name, text in os.environ.items() if name != "TILEWRIGHT_ISA"}
        ran = subprocess.run(
            [sys.executable, "-c", PRODUCT], env={**environment, **value}, capture_output=True, text=True, timeout=120
        )
        assert ran.stdout.strip() == f"{RUNNABLE[0]} best of those built", ran.stderr


@pytest.mark.parametrize("isa", ["sve", "AVX2", "neon" if "neon" not in RUNNABLE else "avx2", "x" * 5000, "%s%n"])
def test_an_isa_that_is_not_there_is_an_error_and_not_replaced(isa: str) -> None:
    """A silent fallback, which makes every comparison of ISAs a lie; a crash in the message."""
    ran = python(
        "import numpy as np, tilewright.runtime as tw; print(tw.info()); tw.gemm(np.eye(2), np.eye(2))",
        TILEWRIGHT_ISA=isa,
    )
    assert ran.returncode == 1
    reason = f"TILEWRIGHT_ISA={isa[:40]}: not built; this machine can run {', '.join(RUNNABLE)}."
    assert f"none: {reason}" in ran.stdout
    assert ran.stderr.strip().endswith(f"IsaError: {reason}")


def test_the_self_test_runs_whatever_was_asked_for() -> None:
    """A self-test of nothing, which passes."""
    code = "import tilewright.runtime as tw; result = tw.selftest(); print(bool(result), *result.run)"
    assert python(code, TILEWRIGHT_ISA="scalar").stdout.split() == ["True", *RUNNABLE]


def test_setting_an_isa_that_is_not_there_changes_nothing() -> None:
    """Half a change."""
    with forced(RUNNABLE[-1]):
        assert lib.tw_isa_set(b"sve") == lib.TW_ERROR_ISA
        assert text(lib.tw_error_message()) == f"tw_isa_set=sve: not built; this machine can run {', '.join(RUNNABLE)}."
        assert tw.info().isa == RUNNABLE[-1]
        assert tw.info().reason == "tw_isa_set"
    assert lib.tw_isa_set(ffi.NULL) == lib.TW_OK
    assert tw.info().isa == RUNNABLE[0]


def test_names_and_numbers_of_isas_agree() -> None:
    """An index beyond the last."""
    names = [lib.tw_isa_name(isa) for isa in range(lib.tw_isa_count())]
    assert all(name != ffi.NULL for name in names)
    assert lib.tw_isa_name(lib.tw_isa_count()) == lib.tw_isa_name(-1) == ffi.NULL
    assert not lib.tw_isa_supported(-1)
    assert not lib.tw_isa_supported(lib.tw_isa_count())
    assert text(names[lib.tw_isa_best()]) == RUNNABLE[0]


@pytest.mark.parametrize(
    ("status", "error"),
    [("TW_ERROR_ISA", tw.IsaError), ("TW_ERROR_KERNEL", tw.IsaError), ("TW_ERROR_MEMORY", MemoryError)],
)
def test_every_status_of_c_is_an_exception(status: str, error: type[Exception]) -> None:
    """A status that Python takes for success."""
    with pytest.raises(error):
        raise_for(getattr(lib, status))
    with pytest.raises(tw.TilewrightError):
        raise_for(9)


@pytest.mark.parametrize("isa", RUNNABLE)
@pytest.mark.parametrize("dtype", "fdFD")
def test_isas_agree_on_integers(isa: str, dtype: Any) -> None:
    """One ISA's own idea of a mode or of conjugation."""
    rng = np.random.default_rng(4)
    x = rng.integers(-9, 9, (37, 23)).astype(dtype)
    if dtype in "FD":
        x = x + 1j * x[::-1]
    with forced("scalar"):
        wanted = [
            tw.gemm(p, q, trans_a=s, trans_b=t)
            for p, q, s, t in ((x, x, "N", "C"), (x, x, "C", "N"), (x.T, x, "C", "C"), (x.T, x, "N", "N"))
        ]
    with forced(isa):
        found = [
            tw.gemm(p, q, trans_a=s, trans_b=t)
            for p, q, s, t in ((x, x, "N", "C"), (x, x, "C", "N"), (x.T, x, "C", "C"), (x.T, x, "N", "N"))
        ]
    assert all(np.array_equal(p, q) for p, q in zip(found, wanted, strict=True))


THREADS = """
import threading, numpy as np, tilewright.runtime as tw
start, wrong = threading.Barrier(8), []
def work(seed):
    rng = np.random.default_rng(seed)
    start.wait()
    for turn in range(50):
        dtype, trans = "fdFD"[(seed + turn) % 4], "NTC"[turn % 3]
        x = rng.integers(-4, 5, (31, 17)).astype(dtype)
        y = {"N": x.T, "T": x, "C": x.conj()}[trans]
        if not np.array_equal(tw.gemm(x, y, trans_b=trans), x @ x.T):
            wrong.append((seed, turn))
threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
print("wrong", wrong)
"""


def test_threads_that_come_first_together_agree() -> None:
    """A table of tiles seen half made, by the threads that did not make it."""
    for _ in range(3):
        assert python(THREADS).stdout.strip() == "wrong []"
