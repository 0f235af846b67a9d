"""The harness sees what it should: each kernel of broken_kernels.c has one mistake, and exactly that is reported."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..support import Unavailable, miss
from .cases import ABSENT, AT_END, AT_START, SPARSE, Case, run, with_places
from .machines import ARCHES, broken_library, is_native, start
from .problems import denormal_problem, normal_problem, poisoned_problems, problem, variants
from .worker import Kernel, Worker

# Mistake -> what must be said of it. One of the alternatives where the architectures differ.
MISTAKES = {
    "reads_past_a": ["SIGSEGV: A accessed 0 bytes past its end"],
    "reads_before_b": ["SIGSEGV: B accessed 8 bytes before its start"],
    "writes_past_c": ["SIGSEGV: C accessed 0 bytes past its end"],
    "writes_before_c": ["bytes before C written"],
    "writes_a": ["SIGSEGV: A written at byte 0"],
    "writes_padding_of_c": ["padding between columns of C written"],
    "reads_padding_of_a": ["C[0, 0] is np.float64(nan)"],
    "reads_c_with_beta_zero": ["C[0, 0] is np.float64(nan)"],
    "reads_a_with_k_zero": ["A touched, which nobody may with k = 0"],
    "reads_past_args": ["SIGSEGV at args +128 bytes"],
    "ignores_alpha": ["6 of 6 elements wrong"],
    "multiplies_by_unset_alpha": ["C[0, 0] is np.float64(nan)"],
    "drops_last_odd_k": ["6 of 6 elements wrong"],
    "rounds_to_float": ["3 of 6 elements wrong"],
    "flushes_denormals": ["1 of 6 elements wrong"],
    "mixes_rows": ["C[1, 0] is np.float64(nan)"],
    "narrows_ld": ["sparse/sparse/sparse: SIGSEGV"],
    "changes_vector_register": ["register d8 not preserved", "upper halves of vector registers left dirty", "SIGILL"],
    "changes_general_register": ["register x19 not preserved", "register r12 not preserved"],
    "changes_rounding": ["register fpcr not preserved", "register mxcsr not preserved"],
    "illegal_instruction": ["SIGILL"],
    "never_returns": ["did not return"],
    "ends_the_process": ["killed the worker: exit status 3"],
}


@pytest.fixture(scope="module", params=ARCHES)
def broken(request: pytest.FixtureRequest) -> Iterator[Worker]:
    """A worker with the broken kernels, native or emulated."""
    arch = request.param
    try:
        worker = start(arch, broken_library(arch), emulated=not is_native(arch), patience=1)
    except Unavailable as reason:
        miss(reason)
    yield worker
    worker.close()


def cases(kernel: Kernel) -> Iterator[Case]:
    """A little of everything that test_kernels.py does."""
    size = kernel.sizes()[0]
    for k in (2, 3):
        yield from with_places(problem(kernel, size, k), AT_END, AT_START)
        yield from with_places(problem(kernel, size, k, variants(kernel)[-1], pads=(1, 2, 3)), AT_END, AT_START)
    yield problem(kernel, size, 0, place=(ABSENT, ABSENT, AT_END))
    yield problem(kernel, size, 4, place=(SPARSE, SPARSE, SPARSE))
    yield from poisoned_problems(kernel, size, 3)
    yield from (denormal_problem(kernel, size, 3, setting) for setting in variants(kernel))
    yield normal_problem(kernel, size, 64, variants(kernel)[0])


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_reported(broken: Worker, mistake: str) -> None:
    """A check that cannot fail: each is seen to fail here, once per architecture."""
    tried = list(cases(broken.kernels[f"broken_{mistake}"]))
    findings = run(broken, tried[:3] if mistake == "never_returns" else tried, most=100)
    assert any(words in finding for finding in findings for words in MISTAKES[mistake]), findings


def test_right_kernel_passes_after_all_that(broken: Worker) -> None:
    """A harness that cries wolf, or a worker that does not recover from what the others did to it."""
    assert run(broken, cases(broken.kernels["broken_nothing"])) == []
    assert set(broken.kernels) == {"broken_nothing", *(f"broken_{mistake}" for mistake in MISTAKES)}
