"""Products beyond tiles: every path through blocks, forced, on every ISA, type, layout and operation."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilewright.runtime as tw
from tilewright.runtime._library import ffi, lib, text

from .guarded import guarded
from .problems import DTYPES, RUNNABLE, forced, integers
from .test_c_api import COLUMN, ROW, as_called, call, stored

PATHS = ["blocked", "stream", "dot", "direct", "inner"]
SIZES = st.sampled_from([1, 2, 3, 7, 8, 9, 16, 23, 48, 49, 97, 130])


@contextmanager
def path(name: str) -> Iterator[None]:
    """Products that are new go this way inside the block, where it can serve them."""
    assert lib.tw_path_set(name.encode()) == lib.TW_OK
    try:
        yield
    finally:
        assert lib.tw_path_set(ffi.NULL) == lib.TW_OK


@contextmanager
def threads(number: int) -> Iterator[None]:
    """That many threads, for however little work."""
    before, share = tw.get_num_threads(), lib.tw_thread_share(0)
    tw.set_num_threads(number)
    try:
        yield
    finally:
        tw.set_num_threads(before)
        lib.tw_thread_share(share)


@pytest.mark.parametrize("isa", RUNNABLE)
@pytest.mark.parametrize("way", PATHS)
@given(
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from([ROW, COLUMN]),
    trans=st.tuples(*[st.sampled_from("NTCR")] * 2),
    sizes=st.tuples(SIZES, SIZES, st.sampled_from([1, 2, 5, 31, 33, 64, 257, 600])),
    padding=st.tuples(*[st.sampled_from([0, 1, 7])] * 3),
    scalars=st.tuples(*[st.sampled_from([0, 1, -2, 1 + 2j])] * 2),
    number=st.sampled_from([1, 2, 3]),
)
@settings(max_examples=25)
def test_every_path_is_exact(
    isa: str, way: str, dtype: np.dtype[Any], layout: int, trans: tuple[str, str], sizes: tuple[int, int, int],
    padding: tuple[int, int, int], scalars: tuple[complex, complex], number: int,
) -> None:  # fmt: skip
    """beta applied to every block of k; the last panel read at full width; C^T written where C belongs.

    Conjugation lost where an operand stays where it is; two threads that write one chunk; padding touched.
    """
    m, n, k = sizes
    rng = np.random.default_rng(7)
    alpha, beta = scalars if dtype.kind == "c" else (scalars[0].real, scalars[1].real)
    op_a, op_b, c0 = (integers(rng, shape, dtype) for shape in ((m, k), (k, n), (m, n)))
    a, b = as_called(op_a, trans[0]), as_called(op_b, trans[1])
    line = 1 if layout == ROW else 0
    lda, ldb, ldc = (max(1, x.shape[line]) + more for x, more in zip((a, b, c0), padding, strict=True))
    c = stored(c0 if beta else np.full_like(c0, np.nan), layout, ldc)
    wanted = stored((alpha * op_a @ op_b + beta * c0).astype(dtype), layout, ldc)
    with forced(isa), path(way), threads(number):
        status = call(
            layout, *trans, m, n, k, alpha, stored(a, layout, lda), lda, stored(b, layout, ldb), ldb, beta, c, ldc,
            dtype=dtype,
        )  # fmt: skip
    assert status == lib.TW_OK
    assert np.array_equal(c, wanted)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("way", PATHS)
def test_rounding_stays_within_its_bound(way: str, dtype: np.dtype[Any]) -> None:
    """Partial sums kept in C are rounded once a block: an error that grows with the blocks' number is another bug."""
    rng = np.random.default_rng(3)
    m, n, k = 70, 9, 5000
    a, b = (rng.standard_normal(shape) for shape in ((m, k), (k, n)))
    if dtype.kind == "c":
        a, b = a + 1j * rng.standard_normal(a.shape), b + 1j * rng.standard_normal(b.shape)
    a, b = a.astype(dtype), b.astype(dtype)
    wide: Any = np.clongdouble if dtype.kind == "c" else np.longdouble
    exact = a.astype(wide) @ b.astype(wide)
    unit = np.finfo(dtype).eps / 2 * (1 if dtype.kind == "f" else 2 * np.sqrt(2))
    bound = (k + 2) * unit * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64))
    for first, second in ((a, b), (np.asfortranarray(a), b), (a, np.asfortranarray(b))):
        with path(way):
            assert np.all(np.abs(tw.gemm(first, second) - exact) <= bound)


@pytest.mark.parametrize("at_end", [True, False], ids=["end", "begin"])
@pytest.mark.parametrize("way", PATHS)
@pytest.mark.parametrize("isa", RUNNABLE)
def test_nothing_beyond_the_operands_is_touched(isa: str, way: str, at_end: bool) -> None:
    """A whole vector packed, or streamed, where a panel ends; a prefetch is not a read and may go there."""
    rng = np.random.default_rng(11)
    for dtype in DTYPES:
        for m, n, k in ((51, 7, 37), (3, 61, 33), (50, 49, 9)):
            for trans_a, trans_b in ("NN", "TN", "NT", "TT"):
                a, b, c = (integers(rng, shape, dtype) for shape in ((m, k), (k, n), (m, n)))
                stored_a = guarded(a if trans_a == "N" else a.T, at_end)
                stored_b = guarded(b if trans_b == "N" else b.T, at_end)
                out = guarded(c, at_end)
                with forced(isa), path(way):
                    tw.gemm(stored_a, stored_b, out, beta=2, trans_a=trans_a, trans_b=trans_b)
                assert np.array_equal(out, a @ b + 2 * c)


@pytest.mark.parametrize("few", [1, 2, 3, 4, 5, 8, 9, 16, 23])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_long_lines(dtype: str, few: int) -> None:
    """Kernels that ask ahead, from a cache (s) and paced, from memory (d), in one block of k and in several.

    Long lines left over where a tile's do not divide them, or short ones where bands do not; a block of k that begins
    in the wrong place of copied lines, which lie farther apart than they are long.
    """
    rng = np.random.default_rng(few)
    long = 1601
    for k in (1003, 6001) if few in (4, 8) else (1003,):
        a, b = (integers(rng, shape, np.dtype(dtype)) for shape in ((long, k), (k, few)))
        with path("dot"):
            assert tw.explain(long, few, k, dtype).path == "dot"
            assert np.array_equal(tw.gemm(a, b), a @ b)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("m", "n", "k"), [(389, 133, 2100), (1100, 101, 3002), (2200, 130, 64)])
def test_lines_where_they_are(m: int, n: int, k: int, dtype: np.dtype[Any], number: int) -> None:
    """Lines read in place, from a cache or, asked for ahead, from memory: blocks, chunks, panels that meet wrongly.

    A share of the lines asked for that is beyond all bounds; C^T where C was meant, with either side the longer.
    """
    rng = np.random.default_rng(m)
    a, b = (integers(rng, shape, dtype) for shape in ((m, k), (k, n)))
    exact = a @ b
    with path("direct"), threads(number):
        assert tw.explain(m, n, k, dtype).path == "direct"
        assert np.array_equal(tw.gemm(a, b), exact)
        assert np.array_equal(tw.gemm(a, np.asfortranarray(b)), exact)
        assert np.array_equal(tw.gemm(b, a, trans_a="T", trans_b="T"), exact.T)
        assert np.array_equal(tw.gemm(a, b, out=exact.copy(), beta=-1), np.zeros_like(exact))


def test_what_lies_along_k_is_not_packed() -> None:
    """A matrix as large as the other packed for nothing; a path whose kernels would have to turn all of C."""
    for trans_a, trans_b, way in (
        ("N", "N", "direct"),
        ("N", "T", "direct"),
        ("T", "N", "blocked"),
        ("T", "T", "blocked"),
    ):
        assert tw.explain(500, 500, 500, "float32", trans_a=trans_a, trans_b=trans_b).path == way


@pytest.mark.parametrize(("m", "n"), [(20000, 4), (4, 20000), (20000, 64), (64, 20000), (1500, 1500)])
@pytest.mark.parametrize("trans", ["NN", "NT", "TN", "TT"])
def test_few_steps(trans: str, m: int, n: int) -> None:
    """Products of few steps, an operand read across where it lies: a k step that is taken for an element of a line."""
    rng = np.random.default_rng(m)
    for k in (3, 8, 16, 40):
        a, b = (integers(rng, shape, np.dtype("float32")) for shape in ((m, k), (k, n)))
        stored_a, stored_b = a if trans[0] == "N" else a.T.copy(), b if trans[1] == "N" else b.T.copy()
        assert np.array_equal(tw.gemm(stored_a, stored_b, trans_a=trans[0], trans_b=trans[1]), a @ b)


def test_few_steps_turn_no_large_c() -> None:
    """C^T of a product of few steps, eight times as slow as the product itself: a chunk of it would need memory."""
    tall = tw.explain(20000, 64, 8, "float32", trans_a="T")
    assert (tall.path, tall.blocks.memory if tall.blocks else 0) == ("direct", 64 * 8 * 4)
    assert tw.explain(64, 20000, 8, "float32", trans_b="T").path == "blocked"


def test_an_explanation_says_what_is_not_packed() -> None:
    """An operand that lies along k shown as packed at each call."""
    assert "a where it is" in str(tw.explain(500, 500, 500, "float32"))


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_column(dtype: np.dtype[Any], number: int) -> None:
    """A piece of y, or steps of k, left over where kernels' do not divide them; from memory (s, d) and from a cache.

    The imaginary part of C computed with the real part's line, a conjugation lost or made twice, alpha on one of both
    lines, beta that is no real number; C written beyond a chunk, or where its elements do not follow one another.
    """
    rng = np.random.default_rng(9)
    scalars = (1, 0), (1, 1), (-2, 3), *([(1 - 2j, 2 + 1j)] if dtype.kind == "c" else [])
    far = 1 if dtype.kind == "c" else 3
    for m, k in ((1601, 1003 * far), (70, 6007)):
        stored, x, y = (integers(rng, shape, dtype) for shape in ((m, k), (k, 1), (m, 1)))
        for op, along in (("N", True), ("C", True), ("N", False), ("C", False)):
            wanted = (stored.conj() if op == "C" else stored) @ x
            a = stored if along else np.asfortranarray(stored)  # read along k, or across
            for alpha, beta in scalars if m > 100 else scalars[-1:]:
                for row in (False, True):  # M = 1: the transposed product, in a row with gaps and in a column with gaps
                    memory = np.full((m, 3), -7, dtype)
                    out = memory[:, 1:2]
                    out[:] = y if beta else np.nan
                    with threads(number):
                        if row:
                            b = a.T if op == "N" else a
                            tw.gemm(x.T, b, out.T, alpha=alpha, beta=beta, trans_b=op)
                        else:
                            tw.gemm(a if op == "N" else a.T, x, out, alpha=alpha, beta=beta, trans_a=op)
                    assert np.array_equal(out, (alpha * wanted + beta * (y if beta else 0)).astype(dtype))
                    assert np.all(memory[:, ::2] == -7)


@pytest.mark.parametrize(("letter", "few"), [("c", 1), ("c", 7), ("z", 3)])
def test_complex_lines_as_pairs_of_real_ones(letter: str, few: int) -> None:
    """They go that way at all, by `auto`; with both operands conjugated, and several lines whose parts could mix."""
    rng = np.random.default_rng(few)
    dtype = np.dtype(np.complex64 if letter == "c" else np.complex128)
    a, b, c = (integers(rng, shape, dtype) for shape in ((901, 700), (few, 700), (901, few)))
    with forced("avx512") if "avx512" in RUNNABLE else path("dot"):
        assert tw.explain(901, few, 700, dtype, trans_b="T").path == "dot"
        for trans_a, trans_b in (("N", "T"), ("C", "T"), ("N", "C"), ("C", "C")):
            out = c.copy()
            tw.gemm(a if trans_a == "N" else a.T, b, out, alpha=2 - 1j, beta=1j, trans_a=trans_a, trans_b=trans_b)
            op_a, op_b = a.conj() if trans_a == "C" else a, b.conj().T if trans_b == "C" else b.T
            assert np.array_equal(out, (2 - 1j) * (op_a @ op_b) + 1j * c)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(("n", "k"), [(32, 3), (33, 40), (100, 8), (128, 70), (127, 16), (128, 16)])
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_large_c(dtype: str, n: int, k: int, number: int) -> None:
    """C written around the caches: what lies beside it in the first and last cache line, and where pieces meet.

    beta, for which C must be read; rows that do not follow one another, so that plain stores must do.
    """
    rng = np.random.default_rng(n)
    item = np.dtype(dtype).itemsize
    m = 13 * 2**20 // (n * item) + 5
    a, b = (integers(rng, shape, np.dtype(dtype)) for shape in ((m, k), (k, n)))
    exact = a @ b
    memory = np.full(m * (n + 1) + 64, -7, dtype)
    with threads(number):
        for first in (1, 3):
            c = memory[first : first + m * n].reshape(m, n)
            c[:] = np.nan
            tw.gemm(a, b, out=c)
            assert np.array_equal(c, exact)
            tw.gemm(a, b, out=c, beta=2)
            assert np.array_equal(c, 3 * exact)
            assert np.all(memory[:first] == -7)
            assert np.all(memory[first + m * n :] == -7)
            memory[:] = -7
        wide = memory[: m * (n + 1)].reshape(m, n + 1)
        tw.gemm(a, b, out=wide[:, :n])
    assert np.array_equal(wide[:, :n], exact)
    assert np.all(wide[:, n] == -7)


@pytest.mark.parametrize("way", ["auto", *PATHS])
def test_a_path_is_what_it_is_called(way: str) -> None:
    """Tests of a path that all went another way."""
    shapes = {"dot": (200, 4, 300), "stream": (4, 200, 300), "direct": (200, 9, 300), "inner": (8, 8, 5000)}
    m, n, k = shapes.get(way, (300, 300, 300))
    with path(way):
        assert tw.explain(m, n, k, "float64").path == ("direct" if way == "auto" else way)
    assert lib.tw_path_set(b"sideways") == lib.TW_ERROR_TILER
    assert text(lib.tw_error_message()).startswith("tw_path_set: sideways: there is no such path")


@pytest.mark.parametrize("way", PATHS)
def test_leading_dimensions_beyond_32_bits(way: str) -> None:
    """Offsets computed in int: lines 2 GB and more apart."""
    apart, lines, item = 2**31 + 4096, 4, 8
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    raw = np.frombuffer(mmap.mmap(-1, apart * lines, flags), np.float64)
    far = np.lib.stride_tricks.as_strided(raw, (lines, 40), (apart, item))
    rng = np.random.default_rng(2)
    values, other = integers(rng, (lines, 40), np.dtype(np.float64)), integers(rng, (40, 9), np.dtype(np.float64))
    far[...] = values
    with path(way):
        assert np.array_equal(tw.gemm(far, other), values @ other)
        assert np.array_equal(tw.gemm(other, far, trans_a="T", trans_b="T"), (values @ other).T)


def test_no_memory_is_an_error_and_c_stays() -> None:
    """C half written, or a crash, when there is no room for panels."""
    import subprocess
    import sys

    program = """
import resource, numpy as np, tilewright.runtime as tw
from tilewright.runtime._library import lib
lib.tw_path_set(b"blocked")
tw.set_num_threads(1)
a = np.ones((2600, 2600)); b = np.ones((2600, 2600)); c = np.full((2600, 2600), 7.0)
tw.gemm(a[:9, :9], b[:9, :9])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (8 << 20), resource.RLIM_INFINITY))
try:
    tw.gemm(a, b, out=c)
except MemoryError as error:
    print(np.all(c == 7), str(error).startswith("out of memory: "))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "True True\n", run.stderr


@pytest.mark.parametrize("isa", RUNNABLE)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("beta", [0, 0.3])
def test_reproducible_products_do_not_depend_on_neighbours_or_threads(
    isa: str, dtype: np.dtype[Any], beta: float
) -> None:
    """A dot product, a split of k, a block length chosen by shape, beta C added last: other bits beside other rows."""
    rng = np.random.default_rng(13)
    k = 700
    a = rng.standard_normal((150, k)).astype(dtype)
    b = rng.standard_normal((k, 60)).astype(dtype)
    if dtype.kind == "c":
        a, b = (a + 1j * a[::-1]).astype(dtype), (b + 1j * b[::-1]).astype(dtype)
    c = rng.standard_normal((150, 60)).astype(dtype)
    with forced(isa):
        whole = tw.skinny_plan(150, 60, k, dtype, pack=None, reproducible=True)(a, b, c.copy(), beta=beta)
        for rows, columns, number in ((1, 1, 1), (2, 60, 2), (150, 1, 2), (17, 9, 3), (49, 30, 1)):
            x, y = np.ascontiguousarray(a[:rows]), np.ascontiguousarray(b[:, :columns])
            plans: list[Any] = [
                tw.skinny_plan(rows, columns, k, dtype, pack=pack, reproducible=True) for pack in (None, "a", "b")
            ]
            with threads(number):
                for plan in plans:
                    first = plan.pack(x) if plan.packs == "a" else x
                    second = plan.pack(y) if plan.packs == "b" else y
                    out = np.ascontiguousarray(c[:rows, :columns])
                    out = plan(first, second, out.copy(), beta=beta)
                    assert np.array_equal(out, whole[:rows, :columns])


def test_reproducible_by_environment() -> None:
    """TILEWRIGHT_REPRODUCIBLE that nobody reads."""
    import os
    import subprocess
    import sys

    program = "import tilewright.runtime as tw; print(tw.explain(3000, 4, 3000, 'float32').path)"
    for value, wanted in (("1", "blocked"), ("0", "dot"), ("", "dot")):
        run = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True,
            env={**os.environ, "TILEWRIGHT_REPRODUCIBLE": value},
        )  # fmt: skip
        assert run.stdout == f"{wanted}\n"


def test_one_thread_takes_tiles_further() -> None:
    """A product of 200 x 200 on one thread packed for nothing; or tiles where lines crowd in few sets of the cache."""
    paths = {}
    for number in (1, 2):
        with threads(number):
            lib.tw_thread_share(25000.0)
            for ld in (200, 1024):
                plan = tw.gemm_plan(200, 200, 200, np.float32, lda=ld, ldb=ld, ldc=ld)
                paths[number, ld] = tw.explain(plan).path
    assert paths == {(1, 200): "tiles", (1, 1024): "direct", (2, 200): "direct", (2, 1024): "direct"}
    alone = tw.skinny_plan(200, 200, 200, np.float32, pack=None, threads=1)
    assert tw.explain(alone).path == "tiles"


EXTENT = st.one_of(st.integers(1, 300), st.sampled_from([1000, 4096, 10**5, 10**6]))


@given(
    dtype=st.sampled_from(DTYPES), sizes=st.tuples(EXTENT, EXTENT, EXTENT),
    trans=st.tuples(*[st.sampled_from("NTC")] * 2), pack=st.sampled_from([None, "a", "b"]),
    number=st.sampled_from([1, 2, 5]), same=st.booleans(), way=st.sampled_from(["auto", *PATHS]),
)  # fmt: skip
@settings(max_examples=400)
def test_memory_beside_the_matrices_is_bounded(
    dtype: np.dtype[Any], sizes: tuple[int, int, int], trans: tuple[str, str], pack: str | None, number: int,
    same: bool, way: str,
) -> None:  # fmt: skip
    """A chunk of C^T, or a block, that grows with the matrix: at most one packed operand, and 2 MB for each thread."""
    m, n, k = sizes
    with threads(number), path(way):
        plan = tw.skinny_plan(m, n, k, dtype, trans_a=trans[0], trans_b=trans[1], pack=pack, reproducible=same)
        blocks = tw.explain(plan).blocks
    if blocks is not None:
        whole = [size * k * dtype.itemsize for size, x in zip((m, n), blocks.formats, strict=True)
                 if x in ("packed at each call", "copied")]  # fmt: skip
        assert blocks.memory <= max(whole, default=0) + number * (2 << 20)
