"""The ways to C (extension, cffi, and the rules they both leave the rest to) are one function; none of them leaks."""

from __future__ import annotations

import contextlib
import doctest
import gc
import importlib.util
import inspect
import itertools
import pickle
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilewright.runtime as tw
from tilewright.runtime import _calls, _library, _quick, product

from .problems import COPIED, DTYPES, IN_PLACE, LAYOUTS, integers, place
from .test_fuzz import arrays, junk, numbers, transpositions

pytestmark = pytest.mark.usefixtures("way")

WAYS: list[Callable[..., Any]] = [product.gemm, _quick.gemm, _calls.gemm]
A, B = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)


def outcome(gemm: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, ...]:
    """What a call returns, writes and raises; `out` is afterwards what it was before."""
    out: Any = arguments[2] if len(arguments) > 2 else options.get("out")
    before = out.copy() if isinstance(out, np.ndarray) else None
    try:
        result = gemm(*arguments, **options)
    except Exception as error:
        return type(error), str(error)
    seen = np.asarray(result)
    found = result is out, type(result), seen.dtype, seen.shape, seen.strides, seen.tobytes()
    if before is not None:
        out[...] = before
    return found


# ---------------------------------------------------------------------------------------------- one function


@given(
    operands=st.tuples(arrays() | junk, arrays() | junk),
    out=st.none() | arrays() | arrays() | junk,
    share=st.sampled_from(["no"] * 6 + ["a", "b"]),
    options=st.fixed_dictionaries(
        {}, optional={"alpha": numbers, "beta": numbers, "trans_a": transpositions, "trans_b": transpositions}
    ),
)
@settings(max_examples=600)
def test_all_ways_give_the_same_result_or_error(
    operands: tuple[Any, Any], out: Any, share: str, options: dict[str, Any]
) -> None:
    """A check that one way makes and another does not, or a message of its own."""
    a, b = operands
    out = {"no": out, "a": a, "b": b}[share]
    first, *others = (outcome(gemm, (a, b, out), options) for gemm in WAYS)
    for other in others:
        assert repr(other) == repr(first)


@given(
    dtype=st.sampled_from(DTYPES),
    sizes=st.tuples(*[st.integers(0, 9)] * 3),
    trans=st.tuples(*[st.sampled_from("NTC")] * 2),
    layouts=st.tuples(*[st.sampled_from(IN_PLACE * 3 + LAYOUTS)] * 3),
    with_out=st.booleans(),
    alpha=st.sampled_from([1, 1, 2, -0.5, np.float64(3), True, 1j, 2 + 0j, np.float32(2), 10**400]),
    beta=st.sampled_from([0, 0, 1, 0.0, -0.0, 1.5, np.nan, 1j, np.complex128(2)]),
)
@settings(max_examples=1000)
def test_all_ways_give_the_same_bits(
    dtype: np.dtype[Any],
    sizes: tuple[int, int, int],
    trans: tuple[str, str],
    layouts: tuple[str, str, str],
    with_out: bool,
    alpha: Any,
    beta: Any,
) -> None:
    """An operand taken for its transpose, a scalar dropped, a leading dimension of the wrong stride."""
    m, n, k = sizes
    rng = np.random.default_rng(sum(sizes))
    shapes = ((m, k) if trans[0] == "N" else (k, m), (k, n) if trans[1] == "N" else (n, k), (m, n))
    a, b, c = (place(integers(rng, shape, dtype), at)[0] for shape, at in zip(shapes, layouts, strict=True))
    options = {"alpha": alpha, "beta": beta, "trans_a": trans[0], "trans_b": trans[1]}
    first, *others = (outcome(gemm, (a, b, c if with_out else None), options) for gemm in WAYS)
    for other in others:
        assert repr(other) == repr(first)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((), {}),
        ((A,), {}),
        ((A, B, None, 1), {}),
        ((A, B), {"c": 1}),
        ((A, B), {"a": A}),
        ((A, B, None), {"out": None}),
        ((A,), {"b": B}),
        ((), {"b": B, "a": A}),
        ((), {"b": B, "a": A, "out": np.ones((2, 4))}),
        ((A, B), {"alpha": 2, "out": None, "trans_a": "N"}),
        ((A, B), {"transa": "N"}),
        ((A, B.T), {"trans_b": b"T".decode()}),
        ((A, B.T), {"trans_b": np.str_("T")}),
        ((np.zeros((2**40, 0)), np.zeros((0, 2**40))), {}),
    ],
    ids=repr,
)
def test_arguments_bind_as_the_signature_says(arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    """A C function that takes an unknown, a double or a missing argument for another one."""
    first, *others = (outcome(gemm, arguments, options) for gemm in WAYS)
    assert others == [first, first]


def test_keyword_names_built_at_run_time_are_found() -> None:
    """Names compared by address alone: those that nobody interned are then unknown."""
    name = "".join(["tra", "ns_b"])
    assert np.array_equal(tw.gemm(A, B.T, **{name: "T"}), A @ B)


def test_gemm_is_one_documented_function() -> None:
    """A C function without signature, help or examples."""
    assert (tw.gemm.__name__, tw.gemm.__qualname__) == ("gemm", "gemm")
    assert inspect.getdoc(tw.gemm) == inspect.getdoc(product.gemm)
    bare = [(x.name, x.kind, x.default) for x in inspect.signature(product.gemm).parameters.values()]
    assert [(x.name, x.kind, x.default) for x in inspect.signature(tw.gemm).parameters.values()] == bare
    examples = doctest.DocTestFinder().find(tw.gemm, "gemm", globs={"gemm": tw.gemm})
    assert sum(len(test.examples) for test in examples) >= 4
    runner = doctest.DocTestRunner()
    for test in examples:
        assert not runner.run(test).failed


def test_gemm_can_be_sent_to_another_process(way: str) -> None:
    """multiprocessing.Pool.starmap(gemm, ...), where pickle finds another object under its name."""
    if tw.info().calls.startswith("cffi") == (way == "cffi"):
        assert pickle.loads(pickle.dumps(tw.gemm)) is tw.gemm


# ---------------------------------------------------------------------------------------------- which way


def in_another_process(code: str, **environment: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", code], env={**environment}, capture_output=True, text=True, timeout=60, check=True
    )
    return ran.stdout.strip()


USED = (
    "; import numpy as np; x = tw.gemm(np.eye(2), np.eye(2)).sum()"
    "; print(tw.info().calls, '/', 'tilewright.runtime._fast' in sys.modules, x)"
)


def test_tilewright_pure_forces_cffi() -> None:
    """A switch that is read and not obeyed."""
    said = in_another_process("import sys, tilewright.runtime as tw" + USED, TILEWRIGHT_PURE="1")
    assert said == "cffi (TILEWRIGHT_PURE) / False 2.0"
    assert "TILEWRIGHT_PURE" not in in_another_process(
        "import sys, tilewright.runtime as tw" + USED, TILEWRIGHT_PURE="0"
    )


def test_without_the_extension_calls_go_through_cffi_and_info_says_why() -> None:
    """An import error for what is optional, or silence about it."""
    gone = "import sys; sys.modules['tilewright.runtime._fast'] = None; import tilewright.runtime as tw"
    said = in_another_process(gone + USED)
    assert said.startswith("cffi (no extension: ")
    assert said.endswith("2.0")


def unused(*_: Any, **__: Any) -> Any:
    raise AssertionError("handed over")


def another_extension(function: Callable[..., Any]) -> Any:
    """The extension again, as a module of its own, before a function of our own."""
    spec = importlib.util.find_spec("tilewright.runtime._fast")
    if spec is None or spec.origin is None:
        pytest.skip("the extension was not built")
    spec = importlib.util.spec_from_file_location("another._fast", spec.origin)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.accelerate(function, "gemm()\n--\n\n", "nowhere")


COMMON: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("plain", (A, B), {}),
    ("out", (A, B, np.empty((2, 4))), {}),
    ("scaled", (A, B), {"out": np.ones((2, 4)), "alpha": 2.0, "beta": 1}),
    ("transposed", (A, B.copy("F").T), {"trans_b": "T"}),
    ("F-ordered", (A.copy("F"), B, np.empty((2, 4), order="F")), {}),
    ("rows", (np.ones((5, 9))[1:3, 2:5], B), {}),
    ("conjugated", (A.astype("c8"), B.T.astype("c8", order="C")), {"trans_b": "C"}),
    ("real C", (A.copy("F").T, B), {"trans_a": "C"}),
    ("empty", (A[:0], B), {}),
]


@pytest.mark.parametrize(("arguments", "options"), [case[1:] for case in COMMON], ids=[case[0] for case in COMMON])
def test_the_common_case_is_taken_wholly(
    way: str, arguments: tuple[Any, ...], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fast path that quietly never is: the right result at twenty times the time."""
    monkeypatch.setattr(product, "gemm", unused)
    gemm = another_extension(unused) if way == "extension" else tw.gemm
    gemm(*arguments, **options)


@pytest.mark.parametrize("layout", COPIED)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_what_is_not_used_where_it_lies_is_handed_over(
    way: str, layout: str, which: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elements that are not aligned: right on x86 by luck, undefined in C."""

    def record(*_: Any, **__: Any) -> str:
        return "handed over"

    monkeypatch.setattr(product, "gemm", record)
    gemm = another_extension(record) if way == "extension" else tw.gemm
    three = [np.ones((3, 3)) for _ in range(3)]
    three[which] = place(three[which], layout)[0]
    assert gemm(*three) == "handed over"


def test_all_else_is_handed_over_untouched() -> None:
    """An argument lost, defaulted or converted on the way to the function that would refuse it."""
    calls: list[Any] = []

    def record(*arguments: Any, **options: Any) -> str:
        calls.append((arguments, options))
        return "handed over"

    gemm = another_extension(record)
    for arguments, options in (
        ((1, 2), {}),
        ((A, B, 3), {"alpha": 4}),
        ((A,), {"x": 5}),
        ((), {}),
        ((A[:, ::-1], B), {"trans_a": "N"}),
    ):
        assert gemm(*arguments, **options) == "handed over"
        handed, named = calls.pop()
        assert all(x is y for x, y in itertools.zip_longest(handed, arguments))
        assert named == options
    with pytest.raises(TypeError, match="this was done before"):
        gemm.__self__.accelerate(record, "", "")


# ------------------------------------------------------------------------------------------- what it leaves


CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "new": ((A, B), {}),
    "out": ((A, B, np.empty((2, 4))), {"alpha": 2.5, "trans_a": "N"}),
    "complex": ((A.astype(complex), B.astype(complex)), {"alpha": 2j, "beta": 0.5, "out": np.ones((2, 4), complex)}),
    "copied": ((A[:, ::-1], B[::-1]), {}),
    "shape error": ((A, A), {}),
    "type error": ((A, "b"), {}),
    "overlap": ((A[:2, :2], A[:2, :2], A[:2, :2]), {}),
    "huge int": ((A, B), {"alpha": 10**400}),
    "unknown": ((A, B), {"c": 0}),
    "too large": ((np.zeros((2**40, 0)), np.zeros((0, 2**40))), {}),
}


@pytest.mark.parametrize("call", CALLS)
def test_calls_leave_no_references_and_no_memory(call: str) -> None:
    """A reference too many is memory that is never given back; one too few is a crash some time later."""
    arguments, options = CALLS[call]
    watched = [*arguments, *options.values(), None, A.dtype, np.ndarray, float, tw.gemm]

    def repeat(times: int) -> None:
        for _ in itertools.repeat(None, times):
            with contextlib.suppress(TypeError, ValueError, MemoryError):
                tw.gemm(*arguments, **options)

    repeat(20)
    gc.collect()
    before = [sys.getrefcount(x) for x in watched]
    tracemalloc.start()
    try:
        repeat(10)
        gc.collect()
        memory = tracemalloc.get_traced_memory()[0]
        repeat(400)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < memory + 4000
    finally:
        tracemalloc.stop()
    after = [sys.getrefcount(x) for x in watched]
    assert all(abs(x - y) < 20 for x, y in zip(before, after, strict=True)), (before, after)


def test_a_new_result_belongs_to_the_caller_alone() -> None:
    """A result that something still refers to is never freed; one that nothing owns is freed twice."""
    result = tw.gemm(A, B)
    assert sys.getrefcount(result) == 2
    assert result.flags.owndata
    assert result.base is None
    out = np.empty((2, 4))
    count = sys.getrefcount(out)
    assert tw.gemm(A, B, out) is out
    assert sys.getrefcount(out) == count


def test_other_threads_run_during_a_large_product() -> None:
    """Python's lock held for milliseconds: everything else in the process stands still."""
    x = np.ones((900, 900))
    stamps: list[float] = []
    stop = threading.Event()

    def stamp() -> None:
        while not stop.is_set():
            stamps.append(time.perf_counter())
            time.sleep(0.0002)

    thread = threading.Thread(target=stamp)
    thread.start()
    try:
        for _ in range(20):
            began = time.perf_counter()
            tw.gemm(x, x)
            ended = time.perf_counter()
            if sum(began < at < ended for at in stamps) >= 3:
                return
        pytest.fail("no other thread ran during any of 20 products of 900 x 900 matrices")
    finally:
        stop.set()
        thread.join()


def test_threads_may_call_at_once() -> None:
    """State of a call kept in a static variable."""
    x = integers(np.random.default_rng(0), (70, 70), np.dtype(np.float64))
    wanted, wrong = x @ x.T, []

    def work() -> None:
        for size in itertools.islice(itertools.cycle([3, 70, 20]), 300):
            part = x[:size]
            if not np.array_equal(tw.gemm(part, part, trans_b="T"), wanted[:size, :size]):
                wrong.append(size)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_library_is_the_same_both_ways(way: str) -> None:
    """The extension linked with another copy of libtilewright.so: ISA and tables set in one, used in another."""
    current = _library.text(_library.lib.tw_isa_name(_library.lib.tw_isa_current()))
    a = integers(np.random.default_rng(1), (9, 9), np.dtype(np.float32)) / np.float32(3)
    seen = set()
    for isa in tw.info().runnable:
        assert _library.lib.tw_isa_set(isa.encode()) == 0
        seen.add(tw.gemm(a, a).tobytes())
        assert tw.gemm(a, a).tobytes() == product.gemm(a, a).tobytes(), way
    assert _library.lib.tw_isa_set(current.encode()) == 0
