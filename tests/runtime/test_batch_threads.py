"""Batches divided among threads: every product once, the same bits as with one thread."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilewright.runtime as tw
from tilewright.runtime._library import ffi, lib, text

from .problems import DTYPES, Array
from .test_plan import make


@contextmanager
def threads(number: int, share: float = 0) -> Iterator[None]:
    """So many threads, however little there is to do for each."""
    before, least = tw.get_num_threads(), lib.tw_thread_share(share)
    try:
        tw.set_num_threads(number)
        yield
    finally:
        tw.set_num_threads(before)
        lib.tw_thread_share(least)


def some(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    x = rng.standard_normal(shape)
    return np.asarray(x + 1j * rng.standard_normal(shape) if dtype.kind == "c" else x, dtype)


@given(
    dtype=st.sampled_from(DTYPES),
    lead=st.sampled_from([(0,), (1,), (2,), (7,), (64,), (300,), (3, 5), (5, 1, 9)]),
    sizes=st.tuples(*[st.integers(1, 20)] * 3),
    broadcast=st.booleans(),
    apart=st.booleans(),
    number=st.integers(2, 9),
)
@settings(max_examples=120)
def test_stacks_are_the_same_with_any_number_of_threads(
    dtype: np.dtype[Any], lead: tuple[int, ...], sizes: tuple[int, int, int], broadcast: bool, apart: bool, number: int
) -> None:
    """A product left out or run twice where parts meet (beta shows it); one thread's arguments used by another."""
    m, n, k = sizes
    rng = np.random.default_rng(5)
    a, b, c = (some(rng, (*lead, *shape), dtype) for shape in ((m, k), (k, n), (m, n)))
    if broadcast:
        b = some(rng, (k, n), dtype)
    if apart:  # no one stride: pointers
        wide = some(rng, (*lead[:-1], lead[-1] + 1, m, k), dtype)
        wide[..., :-1, :, :] = a
        a = wide[..., :-1, :, :]
    with threads(1):
        wanted = tw.gemm_batch(a, b, c.copy(), alpha=3, beta=-2)
    with threads(number):
        assert np.array_equal(tw.gemm_batch(a, b, c.copy(), alpha=3, beta=-2), wanted)


@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    nothing=st.integers(0, 9),
    number=st.integers(2, 9),
    seed=st.integers(0, 99),
)
@settings(max_examples=80)
def test_groups_are_the_same_with_any_number_of_threads(
    counts: list[int], nothing: int, number: int, seed: int
) -> None:
    """A part that begins in one group and ends in another; groups of nothing to do, or of nothing read."""
    rng = np.random.default_rng(seed)
    plans, alphas, betas = [], [], []
    operands: list[tuple[Array, Array, Array]] = []
    for group, count in enumerate(counts):
        m, n, k = (int(size) for size in rng.integers(1, 30, 3))
        plans.append(make(DTYPES[1], lib.TW_ROW_MAJOR, "NN", (m, n, k), (k, n, n))[1])
        alphas.append(ffi.new("double *", 0.0 if group == nothing else 1.5))
        betas.append(ffi.new("double *", float(rng.integers(0, 3))))
        for _ in range(count):
            operands.append((some(rng, (m, k), DTYPES[1]), some(rng, (k, n), DTYPES[1]), some(rng, (m, n), DTYPES[1])))

    def run() -> list[Array]:
        outs = [c.copy() for _, _, c in operands]
        lists = [
            ffi.new("void *[]", [ffi.from_buffer(x) for x in arrays])
            for arrays in ([a for a, _, _ in operands], [b for _, b, _ in operands], outs)
        ]
        p, q = ffi.new("void *[]", alphas), ffi.new("void *[]", betas)
        status = lib.tw_gemm_batch_groups(
            len(counts), ffi.new("tw_gemm_plan *[]", plans), counts, p, lists[0], lists[1], q, lists[2]
        )
        assert status == lib.TW_OK
        return outs

    with threads(1):
        wanted = run()
    with threads(number):
        assert all(np.array_equal(x, y) for x, y in zip(run(), wanted, strict=True))


def test_small_batches_use_one_thread() -> None:
    """A pool woken for a microsecond's work."""
    x = np.ones((10, 4, 4))
    code = "import os; import numpy as np; import tilewright.runtime as tw; x = np.ones(({count}, 16, 16));"
    code += "tw.gemm_batch(x, x); print(len(os.listdir('/proc/self/task')))"
    environment = {**os.environ, "TILEWRIGHT_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1"}
    for count, wanted in ((10, "1"), (20000, "2")):
        command = [sys.executable, "-c", code.format(count=count)]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
        assert ran.stdout.strip() == wanted, ran.stderr
    assert np.all(tw.gemm_batch(x, x) == 4)


@given(
    count=st.integers(1, 7),
    stride=st.integers(-30, 30),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    more=st.integers(0, 12),
    layout=st.sampled_from([lib.TW_ROW_MAJOR, lib.TW_COL_MAJOR]),
)
@settings(max_examples=400)
def test_strided_batches_whose_products_overlap_are_refused(
    count: int, stride: int, sizes: tuple[int, int], more: int, layout: int
) -> None:
    """Products written over each other, by threads in any order; matrices between one another's rows taken for such."""
    m, n = sizes
    rows, length = sizes if layout == lib.TW_ROW_MAJOR else sizes[::-1]
    ld = length + more
    at = [i * stride + r * ld + column for i in range(count) for r in range(rows) for column in range(length)]
    overlaps = len(set(at)) < len(at)
    memory = np.full(2 * 30 * 7 + 200, -1.0)
    first = 30 * 7 + 50
    _, plan = make(DTYPES[1], layout, "NN", (m, n, 1), (1, n, ld) if layout == lib.TW_ROW_MAJOR else (m, 1, ld))
    one = np.ones(8)
    x, c = ffi.from_buffer("double[]", one), ffi.from_buffer("double[]", memory)
    with threads(3):
        status = lib.tw_gemm_batch_strided(plan, count, ffi.NULL, x, 0, x, 0, ffi.NULL, c + first, stride)
    assert status == (lib.TW_ERROR_BATCH if overlaps else lib.TW_OK)
    if overlaps:
        assert np.all(memory == -1)
        assert "overlap" in text(lib.tw_error_message()) or stride == 0
    else:
        assert set(np.flatnonzero(memory == 1) - first) == set(at)


@pytest.mark.parametrize("number", [2, 5])
def test_a_batch_within_a_thread_of_ones_own(number: int) -> None:
    """Callers that share one pool: each gets its own products, none waits for ever."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((300, 9, 9)), rng.standard_normal((300, 9, 9))
    wanted = tw.gemm_batch(a, b)
    with threads(number), ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda turn: tw.gemm_batch(a, b, alpha=1 + turn % 2), range(120)))
    assert all(np.array_equal(x, wanted * (1 + turn % 2)) for turn, x in enumerate(found))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_children_made_by_fork_during_a_batch_have_threads_of_their_own() -> None:
    """A child that waits for workers which only its parent has (OpenBLAS issue 343 is of this kind)."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((400, 9, 9))
    wanted = tw.gemm_batch(a, a)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            tw.gemm_batch(a, a)

    with threads(3):
        worker = threading.Thread(target=work)
        worker.start()
        try:
            for _ in range(10):
                child = os.fork()
                if child == 0:
                    signal.alarm(20)
                    right = all(np.array_equal(tw.gemm_batch(a, a), wanted) for _ in range(3))
                    os._exit(0 if right and len(os.listdir("/proc/self/task")) == 3 else 1)
                assert os.waitpid(child, 0)[1] == 0
        finally:
            stop.set()
            worker.join()
