"""Any kernel, size, depth, leading dimension, alignment, flag and scalar, as hypothesis likes.

The list of cases in test_kernels.py is deliberate, and so may have a gap.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..support import Unavailable, miss
from .cases import AT_END, AT_START, Case, run
from .machines import Machines, listed_isas
from .problems import normal_problem, problem
from .worker import Kernel

small = st.integers(-9, 9)


@st.composite
def cases_of(draw: st.DrawFn, kernels: list[Kernel]) -> Case:
    """One call of one of some kernels."""
    kernel = draw(st.sampled_from(kernels))
    cx = kernel.dtype in "cz"
    scalar = st.builds(complex, small, small) if cx else small
    variant = (
        draw(st.none() | scalar),
        draw(st.none() | scalar),
        cx and draw(st.booleans()),
        kernel.paired and draw(st.booleans()),
    )
    exact = draw(st.booleans())
    itemsize = {"s": 4, "d": 8, "c": 8, "z": 16}[kernel.dtype]
    return (problem if exact else normal_problem)(
        kernel,
        draw(st.sampled_from(kernel.sizes())),
        draw(st.integers(0, 70)),
        variant,
        seed=draw(st.integers(0, 1000)),
        pads=draw(st.tuples(*[st.integers(0, 20)] * 3)),
        place=draw(st.tuples(*[st.sampled_from([AT_END, AT_START])] * 3)),
        shift=tuple(itemsize * draw(st.integers(0, 9)) for _ in range(3)),
    )


@pytest.mark.parametrize(("arch", "isa"), listed_isas(), ids=["-".join(pair) for pair in listed_isas()])
def test_any_call_is_right(machines: Machines, arch: str, isa: str) -> None:
    """What nobody thought of."""
    try:
        worker = machines.worker(arch, isa)
    except Unavailable as reason:
        miss(reason)
    kernels = [kernel for kernel in worker.kernels.values() if kernel.isa == isa]

    @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
    @given(case=cases_of(kernels))
    def any_call(case: Case) -> None:
        assert run(worker, [case]) == []

    any_call()
