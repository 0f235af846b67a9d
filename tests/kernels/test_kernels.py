"""Every listed kernel of every ISA, against the definition of GEMM and between guard pages.

Each test sweeps the kernels of one ISA, type and mode; ``--kernel NAME`` narrows that down to one. In every call of
every test the callee-saved registers hold canaries, A, B and the arguments are read-only, scalars that the flags
leave out are NaN, and C is NaN when beta says that nobody reads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from ..support import Unavailable, miss
from .cases import ABSENT, AT_END, AT_START, SPARSE, Case, with_places
from .conftest import Sweep
from .machines import ARCHES, Machines, manifest
from .problems import DEPTHS, OLD_C, PLAIN, denormal_problem, normal_problem, poisoned_problems, problem, variants
from .worker import Kernel

ALL_END, ALL_START = (AT_END,) * 3, (AT_START,) * 3


def test_integer_products_are_exact(sweep: Sweep) -> None:
    """A wrong k tail, prologue, back edge or remainder mask changes an integer; no rounding excuses it.

    Every k around the unrolls, every size the kernel serves, twice; the flags take turns.
    """

    def cases(kernel: Kernel) -> Iterator[Case]:
        settings = variants(kernel)
        for s, size in enumerate(kernel.sizes()):
            for d, k in enumerate(DEPTHS):
                yield problem(kernel, size, k, settings[(s + d) % len(settings)], place=ALL_END)
                yield problem(kernel, size, k, settings[(s + d + 3) % len(settings)], place=ALL_START)

    sweep.check(cases)


def test_every_combination_of_flags(sweep: Sweep) -> None:
    """An epilogue that forgets alpha, beta, a conjugation or a sign of the pair, or reads a scalar it was not given."""

    def cases(kernel: Kernel) -> Iterator[Case]:
        for size, k, setting in product(kernel.sizes(), (0, 6), variants(kernel)):
            yield problem(kernel, size, k, setting)

    sweep.check(cases)


def test_nothing_outside_the_operands_is_touched(sweep: Sweep) -> None:
    """A whole vector loaded or stored where only part of it exists (flame/blis issue 635) hits a guard page."""

    def cases(kernel: Kernel) -> Iterator[Case]:
        for size, k in product(kernel.sizes(), (1, 2, 3, 4, 5, 9)):
            yield from with_places(problem(kernel, size, k, OLD_C), AT_END, AT_START)

    sweep.check(cases)


def test_leading_dimension_padding_is_nobodys(sweep: Sweep) -> None:
    """NaN in the padding of A or B must not spread (OpenBLAS issue 171), canaries in that of C must survive.

    Also leading dimensions that are odd, prime or much larger than the tile.
    """

    def cases(kernel: Kernel) -> Iterator[Case]:
        pads = ((1, 1, 1), (3, 7, 13), (40, 0, 37))
        for s, size in enumerate(kernel.sizes()):
            for d, k in enumerate((1, 3, 8)):
                setting = (None, 1 if (s + d) % 2 else None, False, False)
                case = problem(kernel, size, k, setting, pads=pads[(s + d) % 3])
                yield from with_places(case, AT_END, AT_START)

    sweep.check(cases)


def test_any_alignment_of_elements_will_do(sweep: Sweep) -> None:
    """An aligned vector load or store on a base that is only aligned to its element."""

    def cases(kernel: Kernel) -> Iterator[Case]:
        for elements in (1, 2, 3):
            case = problem(kernel, kernel.sizes()[0], 5, OLD_C, place=ALL_START)
            size = case.a.itemsize
            yield replace(case, shift=(elements * size, (elements + 1) * size, (elements + 2) * size))

    sweep.check(cases)


def test_beta_zero_does_not_read_c(sweep: Sweep) -> None:
    """A kernel that multiplies C by zero instead of skipping it lets old NaN and Inf through (OpenBLAS issue 2914)."""

    def cases(kernel: Kernel) -> Iterator[Case]:
        for size, k, old in product(kernel.sizes(), (0, 3), (np.nan, np.inf)):
            case = problem(kernel, size, k, (variants(kernel)[-1][0], None, False, False))
            case.c[...] = old
            yield case

    sweep.check(cases)


def test_k_zero_reads_neither_a_nor_b(sweep: Sweep) -> None:
    """A load before the loop's test of k. alpha = 0 is served by k = 0: A and B may then be any pointer."""

    def cases(kernel: Kernel) -> Iterator[Case]:
        for size, beta in product(kernel.sizes(), (None, 1, 3)):
            yield problem(kernel, size, 0, (None, beta, False, False), place=(ABSENT, ABSENT, AT_END))

    sweep.check(cases)


def test_nan_and_inf_reach_exactly_their_places(sweep: Sweep) -> None:
    """Lanes mixed up by a shuffle, a masked lane that leaks, or 0 * Inf where nothing should be multiplied."""

    def cases(kernel: Kernel) -> Iterator[Case]:
        sizes = kernel.sizes()
        for size, k in ((sizes[0], 1), (sizes[0], 7), (sizes[-1], 4)):
            yield from poisoned_problems(kernel, size, k)

    sweep.check(cases)


def test_nan_alpha_and_beta_reach_everything(sweep: Sweep) -> None:
    """A scalar skipped because it compares unequal to everything, or a branch on its value."""

    def cases(kernel: Kernel) -> Iterator[Case]:
        size = kernel.sizes()[-1]
        for setting in ((np.nan, None), (None, np.nan), (np.inf, 1), (-2, np.inf)):
            yield problem(kernel, size, 3, (*setting, False, False))

    sweep.check(cases)


def test_denormals_are_kept(sweep: Sweep) -> None:
    """Flush-to-zero switched on, or arithmetic that flushes (ARMv7-style): every denormal must come out to the bit."""

    def cases(kernel: Kernel) -> Iterator[Case]:
        settings = variants(kernel)
        for s, size in enumerate({kernel.sizes()[0], kernel.sizes()[-1]}):
            for k in (0, 1, 5):
                yield denormal_problem(kernel, size, k, settings[(s + k) % len(settings)])

    sweep.check(cases)


def test_rounding_errors_stay_within_the_bound(sweep: Sweep) -> None:
    """Arithmetic in too few bits (an estimate, a product rounded once too often): integers do not show it."""

    def cases(kernel: Kernel) -> Iterator[Case]:
        settings = variants(kernel)
        for k, setting in ((1, PLAIN), (23, settings[-1]), (64, settings[len(settings) // 2])):
            yield normal_problem(kernel, kernel.sizes()[0], k, setting)

    sweep.check(cases)


def test_columns_further_apart_than_32_bits_count(sweep: Sweep) -> None:
    """A leading dimension or an offset kept in 32 bits. Columns lie 2 GiB apart in sparse memory."""

    def cases(kernel: Kernel) -> Iterator[Case]:
        for variant in (PLAIN, OLD_C):
            yield problem(kernel, kernel.sizes()[0], 5, variant, place=(SPARSE, SPARSE, SPARSE))

    sweep.check(cases)


@pytest.mark.parametrize("arch", ARCHES)
def test_table_and_manifest_agree(machines: Machines, arch: str) -> None:
    """A kernel left out of the library, or a table whose tile or mask is not what was generated."""
    try:
        worker = machines.worker(arch, "scalar")
    except Unavailable as reason:
        miss(reason)
    keys = ("name", "isa", "dtype", "mode", "vector_dim", "mask_span", "paired", "mr", "nr")
    table = [tuple(getattr(kernel, key) for key in keys) for kernel in worker.kernels.values()]
    assert table == [tuple(kernel[key] for key in keys) for kernel in manifest(arch) if kernel["compiled"]]
