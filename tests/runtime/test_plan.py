"""Plans: what is fixed when they are made, that running does not change them, and the cache behind every entry."""

from __future__ import annotations

import gc
import os
import re
import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilewright.runtime as tw
from tilewright.runtime import plan as _plan
from tilewright.runtime._library import ffi, lib, text

from ..support import CI
from .problems import DTYPES, RUNNABLE, Array, forced, integers

ROW, COLUMN = lib.TW_ROW_MAJOR, lib.TW_COL_MAJOR
LETTERS = dict(zip(DTYPES, "sdcz", strict=True))
REALS = {"s": "float[2]", "d": "double[2]", "c": "float[2]", "z": "double[2]"}
SIZES = st.tuples(*[st.integers(0, 40)] * 3)


def make(
    dtype: np.dtype[Any], layout: int, trans: str, sizes: tuple[int, int, int], lds: tuple[int, int, int]
) -> tuple[int, Any]:
    """Call tw_gemm_plan_create; the status, and the plan, given back when nobody refers to it any more."""
    pointer = ffi.new("tw_gemm_plan **")
    status = lib.tw_gemm_plan_create(pointer, ord(LETTERS[dtype]), layout, *map(ord, trans), *sizes, *lds)
    return status, ffi.gc(pointer[0], lib.tw_gemm_plan_destroy) if pointer[0] else None


def address(x: Array) -> Any:
    return ffi.from_buffer("char[]", x if x.flags.c_contiguous else x.T)


def scalar(dtype: np.dtype[Any], value: complex) -> Any:
    return ffi.new(REALS[LETTERS[dtype]], (value.real, value.imag))


@pytest.mark.parametrize("isa", RUNNABLE)
@given(
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from([ROW, COLUMN]),
    trans=st.sampled_from(["NN", "NT", "TN", "TT", "CN", "nc", "CC"]),
    sizes=SIZES,
    scalars=st.lists(st.tuples(*[st.sampled_from([0, 1, -2, 1 + 2j])] * 2), min_size=1, max_size=4),
)
@settings(max_examples=150)
def test_one_plan_serves_any_scalars_one_after_the_other(
    isa: str, dtype: np.dtype[Any], layout: int, trans: str, sizes: tuple[int, int, int],
    scalars: list[tuple[complex, complex]],
) -> None:  # fmt: skip
    """Flags or alpha left in the plan by the run before; offsets of the other operand in a row-major call."""
    m, n, k = sizes
    rng = np.random.default_rng(3)
    a, b = (
        integers(rng, shape if op.upper() == "N" else shape[::-1], dtype)
        for op, shape in zip(trans, ((m, k), (k, n)), strict=True)
    )
    op_a, op_b = (
        x if op.upper() == "N" else x.T if op == "T" else x.conj().T for x, op in zip((a, b), trans, strict=True)
    )
    order: Any = "C" if layout == ROW else "F"
    lda, ldb, ldc = (max(1, x[layout == ROW]) for x in (a.shape, b.shape, (m, n)))
    with forced(isa):
        status, plan = make(dtype, layout, trans, sizes, (lda, ldb, ldc))
    assert status == lib.TW_OK
    x, y = (np.array(z, order=order) for z in (a, b))
    for alpha, beta in scalars:
        if dtype.kind == "f":
            alpha, beta = alpha.real, beta.real
        c = integers(rng, (m, n), dtype)
        z = np.array(c, order=order)
        assert lib.tw_gemm_plan_execute(
            plan, scalar(dtype, alpha), address(x), address(y), scalar(dtype, beta), address(z)
        ) == lib.TW_OK  # fmt: skip
        assert np.array_equal(z, alpha * (op_a @ op_b) + beta * c)
        assert lib.tw_gemm_execute(plan, address(x), address(y), address(z)) == lib.TW_OK
        assert np.array_equal(z, op_a @ op_b)


def test_wrong_arguments_and_pointers_are_refused() -> None:
    """A plan made from what tw_?gemm refuses; a NULL that a kernel would read; destroying nothing."""
    eight = (8, 8, 8)
    assert make(DTYPES[0], ROW, "NN", (8, -1, 8), eight) == (5, None)
    assert text(lib.tw_error_message()) == "tw_sgemm: n is -1; it must be 0 or more."
    assert make(DTYPES[0], ROW, "NN", (8, 8, 9), eight) == (9, None)
    pointer = ffi.new("tw_gemm_plan **")
    assert lib.tw_gemm_plan_create(pointer, ord("x"), ROW, 78, 78, *eight, *eight) == lib.TW_ERROR_TYPE
    assert text(lib.tw_error_message()) == "tw_gemm_plan_create: dtype is 120; it must be 's', 'd', 'c' or 'z'."
    _, plan = make(DTYPES[0], ROW, "NN", eight, eight)
    x = np.ones((8, 8), np.float32)
    for place, number in ((0, 8), (1, 10), (2, 13)):
        operands = [ffi.NULL if index == place else address(x) for index in range(3)]
        assert lib.tw_gemm_execute(plan, *operands) == number
    lib.tw_gemm_plan_destroy(ffi.NULL)


def gemm(x: Array, y: Array, z: Array) -> int:
    (m, k), n = x.shape, y.shape[1]
    x_, y_, z_ = (ffi.from_buffer("double[]", v) for v in (x, y, z))
    status: int = lib.tw_dgemm(ROW, 78, 78, m, n, k, 1, x_, k or 1, y_, n or 1, 0, z_, n or 1)
    return status


@given(sizes=st.lists(st.tuples(*[st.integers(1, 9)] * 3), min_size=2, max_size=12), isas=st.randoms())
@settings(max_examples=60)
def test_shapes_that_alternate_do_not_get_each_others_plan(sizes: list[tuple[int, int, int]], isas: Any) -> None:
    """A key that leaves out a size, a leading dimension, the type or the ISA; the last plan used for another shape."""
    rng = np.random.default_rng(0)
    for m, n, k in sizes * 2:
        x, y, z = integers(rng, (m, k), DTYPES[1]), integers(rng, (k, n), DTYPES[1]), np.full((m, n), np.nan)
        with forced(isas.choice(RUNNABLE)):
            assert gemm(x, y, z) == lib.TW_OK
        assert np.array_equal(z, x @ y)


def test_more_shapes_than_the_cache_holds_are_still_right() -> None:
    """A full table searched for ever, or a plan of another shape returned from it."""
    rng = np.random.default_rng(0)
    x, y = integers(rng, (24, 24), DTYPES[1]), integers(rng, (24, 24), DTYPES[1])
    z = np.empty((24, 24))
    pointers = [ffi.from_buffer("double[]", v) for v in (x, y, z)]
    for m in range(1, 19):
        for n in range(1, 19):
            for k in range(1, 19):
                assert lib.tw_dgemm(ROW, 78, 78, m, n, k, 1, pointers[0], 24, pointers[1], 24, 0, pointers[2], 24) == 0
                if (m + n + k) % 7 == 0:
                    assert np.array_equal(z[:m, :n], x[:m, :k] @ y[:k, :n])


def test_threads_share_a_plan_and_the_cache() -> None:
    """Per-call arguments kept in the plan; a half-made plan seen by another thread."""
    rng = np.random.default_rng(0)
    x, y = integers(rng, (50, 37), DTYPES[1]), integers(rng, (37, 41), DTYPES[1])
    _, plan = make(DTYPES[1], ROW, "NN", (50, 41, 37), (37, 41, 41))
    wrong: list[str] = []
    start = threading.Barrier(4)

    def work(number: int) -> None:
        mine = np.random.default_rng(number)
        start.wait()
        for turn in range(200):
            alpha = float(number + 1)
            z = np.full((50, 41), np.nan)
            lib.tw_gemm_plan_execute(plan, scalar(DTYPES[1], alpha), address(x), address(y), ffi.NULL, address(z))
            m, n, k = (int(size) for size in mine.integers(1, 60, 3))
            v, w, u = integers(mine, (m, k), DTYPES[1]), integers(mine, (k, n), DTYPES[1]), np.full((m, n), np.nan)
            if gemm(v, w, u) or not np.array_equal(u, v @ w) or not np.array_equal(z, alpha * (x @ y)):
                wrong.append(f"thread {number}, turn {turn}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_plans_work_in_a_child_made_by_fork() -> None:
    """A lock or a thread-local cache that fork leaves in a state where the child hangs or crashes."""
    rng = np.random.default_rng(0)
    x, y, z = integers(rng, (9, 7), DTYPES[1]), integers(rng, (7, 5), DTYPES[1]), np.full((9, 5), np.nan)
    _, plan = make(DTYPES[1], ROW, "NN", (9, 5, 7), (7, 5, 5))
    assert gemm(x, y, z) == lib.TW_OK
    child = os.fork()
    if child == 0:
        z[:] = np.nan
        right = lib.tw_gemm_execute(plan, address(x), address(y), address(z)) == 0 and np.array_equal(z, x @ y)
        v, w, u = np.ones((13, 3)), np.ones((3, 17)), np.empty((13, 17))
        os._exit(0 if right and gemm(v, w, u) == 0 and np.all(u == 3) else 1)
    assert os.waitpid(child, 0)[1] == 0


@given(
    dtype=st.sampled_from(DTYPES),
    sizes=SIZES,
    trans=st.tuples(st.sampled_from("NTC"), st.sampled_from("NTC")),
    padding=st.tuples(*[st.integers(0, 5)] * 3),
    scalars=st.tuples(st.sampled_from([0, 1, -2]), st.sampled_from([0, 1, 3])),
)
@settings(max_examples=150)
def test_plans_from_python_called_and_bound(
    dtype: np.dtype[Any], sizes: tuple[int, int, int], trans: tuple[str, str], padding: tuple[int, int, int],
    scalars: tuple[int, int],
) -> None:  # fmt: skip
    """Bound memory given back while C still points at it; a leading dimension of one array used for another."""
    m, n, k = sizes
    rng = np.random.default_rng(2)

    def padded(shape: tuple[int, int], more: int) -> tuple[Array, int]:
        wide = integers(rng, (shape[0], max(1, shape[1]) + more), dtype)
        return wide[:, : shape[1]], wide.shape[1]

    a, lda = padded((m, k) if trans[0] == "N" else (k, m), padding[0])
    b, ldb = padded((k, n) if trans[1] == "N" else (n, k), padding[1])
    c, ldc = padded((m, n), padding[2])
    op_a, op_b = (x if op == "N" else x.T if op == "T" else x.conj().T for x, op in zip((a, b), trans, strict=True))
    plan = tw.gemm_plan(m, n, k, dtype, trans_a=trans[0], trans_b=trans[1], lda=lda, ldb=ldb, ldc=ldc)
    alpha, beta = scalars
    wanted = alpha * (op_a @ op_b) + beta * c
    bound = plan.bind(a, b, c, alpha=alpha, beta=beta)
    assert np.array_equal(plan(a, b), op_a @ op_b)
    out = c.base.copy()[:, :n] if c.base is not None else c.copy()
    assert plan(a, b, out, alpha=alpha, beta=beta) is out
    assert np.array_equal(out, wanted)
    del plan, a, b, op_a, op_b
    gc.collect()
    assert bound() == 0
    assert np.array_equal(c, wanted)


FITS = {"a": np.ones((4, 3)), "b": np.ones((3, 5)), "out": np.zeros((4, 5))}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"a": np.ones((3, 4))}, tw.ShapeError, r"plan: a is (3, 4) but the plan was made for (4, 3)."),
        ({"b": np.ones((3, 5), np.float32)}, tw.DtypeError, "plan: b has dtype float32 but the plan was made"),
        ({"a": np.ones((4, 6))[:, ::2]}, tw.LayoutError, "plan: a has strides (48, 16) bytes but the plan was"),
        ({"out": np.ones((5, 4)).T}, tw.LayoutError, "plan: out has strides (8, 32) bytes"),
        ({"a": [[1.0]]}, tw.DtypeError, "plan: a is of type list; it must be a numpy array."),
        ({"out": np.broadcast_to(np.ones(5), (4, 5))}, tw.LayoutError, "plan: out has strides"),
        ({"beta": "x"}, tw.ScalarError, "beta is of type str"),
        ({"alpha": 1j}, tw.ScalarError, "alpha is complex"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_a_plan_are_refused(change: dict[str, Any], error: type[Exception], words: str) -> None:
    """C reading beyond an array that is smaller than the plan's; a layout the plan does not know."""
    plan = tw.gemm_plan(4, 5, 3, np.float64)
    before = FITS["out"].copy()
    for way in (plan, plan.bind):
        with pytest.raises(error, match=re.escape(words)):
            way(**{**FITS, **change})
    assert np.array_equal(FITS["out"], before)


@pytest.mark.parametrize("sizes", [(2**40, 2**40, 1), (2**40, 1, 2**40), (1, 2**62, 3), (2**40,) * 3])
def test_sizes_whose_products_overflow_are_refused(sizes: tuple[int, int, int]) -> None:
    """Blocks and tasks reckoned from 64 bits that have wrapped."""
    for make in (tw.gemm_plan, tw.skinny_plan):
        with pytest.raises(tw.ArgumentError, match="beyond what an address can hold"):
            make(*sizes, np.float32)


@pytest.mark.parametrize("pack", [None, "a", "b"])
def test_the_extension_runs_a_plan_in_the_common_case(pack: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call by the way of rules and messages, 3 us each; or none, and what is wrong with one is unsaid."""
    if _plan.BOUND is None:
        (pytest.fail if CI else pytest.skip)(f"calls go through {tw.info().calls}")
    plan = tw.skinny_plan(30, 5, 7, np.float64, pack=pack)
    a, b = np.ones((30, 7)), np.ones((7, 5))
    x, y = (plan.pack(a) if pack == "a" else a), (plan.pack(b) if pack == "b" else b)
    monkeypatch.setattr(_plan.Plan, "_seen", lambda *_: pytest.fail("this goes by the rules"))
    out = np.ones((30, 5))
    assert plan(x, y, out, alpha=2, beta=3.0) is out
    assert np.all(out == 17)
    assert np.all(plan(x, y) == 7)
    monkeypatch.undo()
    for wrong in (out.astype(np.float32), out[:, ::-1], np.ones((30, 6))[:, :5], np.ones((5, 30)).T, out[:29], None):
        for place in range(3):
            if wrong is None and place == 2:
                continue
            with pytest.raises(tw.TilewrightError):
                plan(*(wrong if i == place else given for i, given in enumerate((x, y, out))))


def test_out_of_a_plan_must_be_writable_and_separate() -> None:
    """An operand overwritten while it is read."""
    plan = tw.gemm_plan(3, 3, 3, np.float64)
    x = np.ones((3, 3))
    with pytest.raises(tw.OverlapError):
        plan(x, np.ones((3, 3)), x)
    y = np.ones((3, 3))
    y.flags.writeable = False
    with pytest.raises(tw.LayoutError, match="read-only"):
        plan.bind(x, x, y)
    with pytest.raises(tw.ArgumentError, match="no out"):
        plan(x, x, beta=1)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"m": -1}, tw.ArgumentError),
        ({"m": 2.0}, tw.ArgumentError),
        ({"n": 2**63}, tw.ArgumentError),
        ({"dtype": "int32"}, tw.DtypeError),
        ({"dtype": "nonsense"}, tw.DtypeError),
        ({"trans_b": "R"}, tw.ArgumentError),
        ({"lda": 2}, tw.ArgumentError),
        ({"ldc": 2**61}, tw.ArgumentError),
    ],
)
def test_plans_of_what_cannot_be_are_refused(arguments: dict[str, Any], error: type[Exception]) -> None:
    """A size that wraps in C; a plan for a type without kernels."""
    with pytest.raises(error, match="gemm_plan: "):
        tw.gemm_plan(**{"m": 3, "n": 3, "k": 3, "dtype": np.float64, **arguments})


@pytest.fixture(params=["extension", "cffi"])
def bound_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let `Plan.bind` bind this way."""
    if request.param == "cffi":
        monkeypatch.setattr(_plan, "BOUND", None)
    elif _plan.BOUND is None:
        (pytest.fail if CI else pytest.skip)(f"calls go through {tw.info().calls}")
    return str(request.param)


@pytest.mark.parametrize("size", [8, 70])
@pytest.mark.parametrize("dtype", DTYPES)
def test_bound_products_are_the_same_both_ways(bound_by: str, size: int, dtype: np.dtype[Any]) -> None:
    """Another return value where the extension was built; arrays or scalars given back while C points at them."""
    rng = np.random.default_rng(5)
    a, b, c = (integers(rng, (size, size), dtype) for _ in range(3))
    wanted = [a @ b, 2 * (a @ b) + 3 * c, c.copy()]
    out = np.full_like(c, np.nan)
    plan = tw.gemm_plan(size, size, size, dtype)
    runs = [plan.bind(a, b, out), plan.bind(a, b, c, alpha=2, beta=3)]
    assert (type(runs[0]).__name__ == "Bound") == (bound_by == "extension")
    empty = tw.gemm_plan(size, 0, size, dtype).bind(a, b[:, :0].copy(), c[:, :0].copy())
    unread = tw.gemm_plan(size, size, 0, dtype).bind(a[:, :0].copy(), b[:0].copy(), wanted[2], beta=0)
    del plan, a, b
    gc.collect()
    for run in (*runs, empty, unread):
        assert run() == 0
        with pytest.raises(TypeError):
            run(1)
    assert np.array_equal(out, wanted[0])
    assert np.array_equal(c, wanted[1])
    assert not np.any(wanted[2])


def test_a_bound_product_of_many_elements_releases_the_lock(bound_by: str) -> None:
    """Every other thread of the program stopped by one large product."""
    x = np.ones((900, 900))
    run = tw.gemm_plan(900, 900, 900, float).bind(x, x, np.empty_like(x))
    ran = threading.Event()
    turns = []

    def count() -> None:
        while not ran.is_set():
            turns.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        for _ in range(20):  # on a busy machine the other thread may have no core to run on
            start = time.perf_counter()
            run()
            end = time.perf_counter()
            if sum(start < turn < end for turn in turns) >= 3:
                return
        pytest.fail("no other thread ran during any of 20 bound products of 900 x 900 matrices")
    finally:
        ran.set()
        thread.join()
