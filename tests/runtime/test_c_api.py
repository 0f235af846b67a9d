"""The C functions, called as C calls them: layouts, leading dimensions, wrong arguments, and programs in C and C++."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilewright.runtime as tw
from tilewright.runtime._library import ffi, lib, text

from ..support import Unavailable, miss, tool
from .problems import DTYPES, RUNNABLE, Array, forced, integers

ROW, COLUMN = lib.TW_ROW_MAJOR, lib.TW_COL_MAJOR
PREFIXES = dict(zip(DTYPES, "sdcz", strict=True))
CTYPES = {"s": "float", "d": "double", "c": "char", "z": "char"}


def call(
    layout: int, transa: str | int, transb: str | int, m: int, n: int, k: int, alpha: Any, a: Any, lda: int, b: Any,
    ldb: int, beta: Any, c: Any, ldc: int, dtype: np.dtype[Any] = DTYPES[1],
) -> int:  # fmt: skip
    """Call tw_?gemm with arrays, or None for NULL, in place of pointers."""
    letter = PREFIXES[dtype]

    def pointer(x: Any) -> Any:
        return ffi.NULL if x is None else ffi.from_buffer(f"{CTYPES[letter]}[]", x)

    def scalar(x: Any) -> Any:
        return x if letter in "sd" else ffi.new(f"{ {'c': 'float', 'z': 'double'}[letter] }[2]", (x.real, x.imag))

    letters = [ord(x) if isinstance(x, str) else x for x in (transa, transb)]
    function = getattr(lib, f"tw_{letter}gemm")
    status: int = function(
        layout, *letters, m, n, k, scalar(alpha), pointer(a), lda, pointer(b), ldb, scalar(beta), pointer(c), ldc
    )
    return status


def stored(values: Array, layout: int, ld: int) -> Array:
    """The lines of a matrix, `ld` elements apart, with 99 between them."""
    lines = values if layout == ROW else values.T
    padded = np.full((lines.shape[0], ld), 99, values.dtype)
    padded[:, : lines.shape[1]] = lines
    return padded


def as_called(x: Array, trans: str) -> Array:
    """What must be stored so that op of it is `x`."""
    ways: dict[str, Array] = {"N": x, "T": x.T, "C": x.T.conj(), "R": x.conj()}
    return ways[trans.upper()]


@pytest.mark.parametrize("isa", RUNNABLE)
@given(
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from([ROW, COLUMN]),
    trans=st.tuples(*[st.sampled_from("NTCRntcr")] * 2),
    sizes=st.tuples(*[st.integers(0, 40)] * 3),
    padding=st.tuples(*[st.integers(0, 9)] * 3),
    scalars=st.tuples(*[st.sampled_from([0, 1, -2, 1 + 2j])] * 2),
)
@settings(max_examples=200)
def test_any_layout_operation_and_leading_dimension(
    isa: str, dtype: np.dtype[Any], layout: int, trans: tuple[str, str], sizes: tuple[int, int, int], padding:
    tuple[int, int, int], scalars: tuple[complex, complex],
) -> None:  # fmt: skip
    """Operands swapped once too often for row-major; conjugation dropped by the swap; padding written to."""
    m, n, k = sizes
    rng = np.random.default_rng(5)
    alpha, beta = scalars if dtype.kind == "c" else (scalars[0].real, scalars[1].real)
    op_a, op_b, c0 = (integers(rng, shape, dtype) for shape in ((m, k), (k, n), (m, n)))
    a, b = as_called(op_a, trans[0]), as_called(op_b, trans[1])
    if dtype.kind == "f":
        a, b = a.real, b.real
    line = 1 if layout == ROW else 0
    lda, ldb, ldc = (max(1, x.shape[line]) + more for x, more in zip((a, b, c0), padding, strict=True))
    c = stored(c0, layout, ldc)
    wanted = stored((alpha * op_a @ op_b + beta * c0).astype(dtype), layout, ldc)
    with forced(isa):
        status = call(
            layout,
            *trans,
            m,
            n,
            k,
            alpha,
            stored(a, layout, lda),
            lda,
            stored(b, layout, ldb),
            ldb,
            beta,
            c,
            ldc,
            dtype=dtype,
        )
    assert status == lib.TW_OK
    assert np.array_equal(c, wanted)


WRONG: list[tuple[int, dict[str, Any], str]] = [
    (1, {"layout": 100}, "tw_dgemm: layout is 100; it must be TW_ROW_MAJOR (101) or TW_COL_MAJOR (102)."),
    (2, {"transa": "H"}, "tw_dgemm: transa is 72; it must be 'N', 'T', 'C' or 'R'."),
    (3, {"transb": 111}, "tw_dgemm: transb is 111; it must be 'N', 'T', 'C' or 'R'."),
    (3, {"transb": -1}, "tw_dgemm: transb is -1; it must be"),
    (4, {"m": -1}, "tw_dgemm: m is -1; it must be 0 or more."),
    (5, {"n": -(2**63)}, "tw_dgemm: n is -9223372036854775808; it must be 0 or more."),
    (6, {"k": -5}, "tw_dgemm: k is -5; it must be 0 or more."),
    (8, {"a": None}, "tw_dgemm: a is NULL but would be used."),
    (9, {"lda": 4}, "tw_dgemm: lda is 4 but a row as stored has 5 elements; lda must be at least 5."),
    (9, {"lda": 2**62}, "tw_dgemm: lda is 4611686018427387904, beyond 576460752303423487, what an address can hold."),
    (10, {"b": None}, "tw_dgemm: b is NULL but would be used."),
    (11, {"ldb": 3}, "tw_dgemm: ldb is 3 but a row as stored has 4 elements; ldb must be at least 4."),
    (11, {"transb": "T", "ldb": 4}, "tw_dgemm: ldb is 4 but a row as stored has 5 elements; ldb must be at least 5."),
    (
        11,
        {"layout": COLUMN, "lda": 6, "ldb": 4},
        "tw_dgemm: ldb is 4 but a column as stored has 5 elements; ldb must be at least 5.",
    ),
    (13, {"c": None}, "tw_dgemm: c is NULL but would be used."),
    (14, {"ldc": -1}, "tw_dgemm: ldc is -1 but a row as stored has 4 elements; ldc must be at least 4."),
    (14, {"m": 0, "n": 0, "ldc": 0}, "tw_dgemm: ldc is 0 but a row as stored has 0 elements; ldc must be at least 1."),
]


@pytest.mark.parametrize(("argument", "change", "message"), WRONG)
def test_a_wrong_argument_is_refused_by_number_and_nothing_is_written(
    argument: int, change: dict[str, Any], message: str
) -> None:
    """xerbla's argument numbers off by one, a check of the untransposed length, a store before the check."""
    c = np.full((6, 6), 7.0)
    arguments = {
        "layout": ROW, "transa": "N", "transb": "N", "m": 6, "n": 4, "k": 5, "alpha": 1.0, "a": np.ones(64), "lda": 5,
        "b": np.ones(64), "ldb": 4, "beta": 1.0, "c": c, "ldc": 6, **change,
    }  # fmt: skip
    assert call(**arguments) == argument
    assert text(lib.tw_error_message()).startswith(message)
    assert np.all(c == 7)


@pytest.mark.parametrize("name", ["c", "z"])
def test_complex_scalars_that_are_null_are_refused(name: str) -> None:
    """alpha and beta come by pointer in the complex functions only."""
    function, one = getattr(lib, f"tw_{name}gemm"), ffi.new("double[2]", (1, 0))
    assert function(ROW, 78, 78, 1, 1, 1, ffi.NULL, ffi.NULL, 1, ffi.NULL, 1, one, ffi.NULL, 1) == 7
    assert function(ROW, 78, 78, 1, 1, 1, one, ffi.NULL, 1, ffi.NULL, 1, ffi.NULL, ffi.NULL, 1) == 12
    assert text(lib.tw_error_message()) == f"tw_{name}gemm: beta is NULL; it must point at two reals."


def test_what_is_not_used_may_be_null_and_of_any_size() -> None:
    """NULL refused where nothing is read; sizes beyond 32 bits, or their products beyond 64, walked or wrapped."""
    huge = 2**58
    c = np.ones((2, 3))
    assert call(ROW, "N", "N", 2, 3, huge, 0.0, None, huge, None, 3, 2.0, c, 3) == lib.TW_OK
    assert np.all(c == 2)
    assert call(ROW, "N", "N", 2, 3, 0, np.nan, None, 1, None, 3, 2.0, c, 3) == lib.TW_OK
    assert np.all(c == 4)
    assert call(ROW, "N", "N", huge, 0, huge, 1.0, None, huge, None, 1, 2.0, None, 1) == lib.TW_OK
    assert call(COLUMN, "N", "N", 0, huge, huge, 1.0, None, 1, None, huge, 2.0, None, 1) == lib.TW_OK
    assert call(ROW, "N", "N", huge, huge, 0, 1.0, None, huge, None, huge, 1.0, None, huge) == lib.TW_OK


def test_one_kernel_alone() -> None:
    """What tests call instead of gemm: wrong sizes and names refused, the mask set for every size within reach."""
    names = [text(lib.tw_kernel_name(index)) for index in range(lib.tw_kernel_total())]
    assert lib.tw_kernel_name(len(names)) == lib.tw_kernel_name(-1) == ffi.NULL
    one, zero = ffi.new("double[2]", (1, 0)), ffi.new("double[2]")
    nothing = (0, 0, one, ffi.NULL, 1, ffi.NULL, 1, zero, ffi.NULL, 1)
    assert lib.tw_run_kernel(b"gemm_s_nn_0x0__none", 1, 1, 1, *nothing) == lib.TW_ERROR_KERNEL
    assert text(lib.tw_error_message()) == "tw_run_kernel: no kernel is called gemm_s_nn_0x0__none."
    name = next(name for name in names if name.endswith("__scalar") and name.startswith("gemm_d_nn"))
    assert lib.tw_run_kernel(name.encode(), 0, 1, 1, *nothing) == lib.TW_ERROR_KERNEL
    assert f"{name} does m = " in text(lib.tw_error_message())
    assert lib.tw_run_kernel(name.encode(), 1, 1, 1, 1, *nothing[1:]) == lib.TW_ERROR_KERNEL
    missing = set(names) - {name for name in names if name.partition("__")[2].split("_")[0] in RUNNABLE}
    for name in sorted(missing)[:1]:
        assert lib.tw_run_kernel(name.encode(), 1, 1, 1, *nothing) == lib.TW_ERROR_ISA


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"name": ffi.NULL}, lib.TW_ERROR_KERNEL, "tw_run_kernel: name is NULL."),
        ({"alpha": ffi.NULL}, 7, "tw_run_kernel: alpha is NULL; it must point at one number."),
        ({"a": ffi.NULL}, 8, "tw_run_kernel: a is NULL but would be used."),
        ({"lda": 0}, 9, "tw_run_kernel: lda is 0; it must be 1 to 576460752303423487."),
        ({"b": ffi.NULL}, 10, "tw_run_kernel: b is NULL but would be used."),
        ({"ldb": 1}, 11, "tw_run_kernel: ldb is 1; it must be 2 to 576460752303423487."),
        ({"beta": ffi.NULL}, 12, "tw_run_kernel: beta is NULL; it must point at one number."),
        ({"c": ffi.NULL}, 13, "tw_run_kernel: c is NULL but would be used."),
        ({"ldc": -(2**61)}, 14, "tw_run_kernel: ldc is -2305843009213693952; it must be 1 to 576460752303423487."),
    ],
)
def test_one_kernel_alone_refuses_what_it_would_crash_on(change: dict[str, Any], status: int, words: str) -> None:
    """A NULL read by a kernel; a store terabytes before C."""
    x, one, zero = (ffi.new("double[64]", [value]) for value in (3.0, 1.0, 0.0))
    y = ffi.new("double[64]")
    arguments = {
        "name": b"gemm_d_nn_1x1__scalar", "m": 1, "n": 1, "k": 2, "conj_a": 0, "conj_b": 0, "alpha": one, "a": x,
        "lda": 1, "b": x, "ldb": 2, "beta": zero, "c": y, "ldc": 1,
    }  # fmt: skip
    assert lib.tw_run_kernel(*arguments.values()) == lib.TW_OK
    assert y[0] == 9
    assert lib.tw_run_kernel(*{**arguments, **change}.values()) == status
    assert text(lib.tw_error_message()) == words
    unread = {"alpha": zero, "a": ffi.NULL, "b": ffi.NULL}
    assert lib.tw_run_kernel(*{**arguments, **unread}.values()) == lib.TW_OK
    assert y[0] == 0


@pytest.mark.parametrize("arguments", [(120, 78, 78), (115, 72, 78), (0, 78, 78)])
def test_asking_who_serves_nonsense_is_refused(arguments: tuple[int, int, int]) -> None:
    """An index beyond a table of four types."""
    assert lib.tw_isa_serving(*arguments) == -1
    assert text(lib.tw_error_message()).startswith("tw_isa_serving: dtype must be")


PROGRAM = """
#include <tilewright.h>
#include <tw_kernel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ours in place of libc's, to count; __libc_* are glibc's own. */
static long allocations;
#ifdef __cplusplus
extern "C" {
#endif
extern void *__libc_malloc(size_t size), *__libc_calloc(size_t count, size_t size);
void *malloc(size_t size) { allocations++; return __libc_malloc(size); }
void *calloc(size_t count, size_t size) { allocations++; return __libc_calloc(count, size); }
#ifdef __cplusplus
}
#endif

int main(void)
{
    float a[2 * 3] = {1, 2, 3, 4, 5, 6}, b[3 * 2] = {1, 0, 0, 1, 1, 1}, c[2 * 2];
    if (tw_sgemm(TW_ROW_MAJOR, 'N', 'N', 2, 2, 3, 1, a, 3, b, 2, 0, c, 2) != TW_OK)
        puts(tw_error_message());
    printf("%g %g %g %g\\n", c[0], c[1], c[2], c[3]);

    double one[2] = {1, 0}, i[2] = {0, 1}, z[2] = {3, 4}, result[2] = {9, 9};
    if (tw_zgemm(TW_COL_MAJOR, 'C', 'N', 1, 1, 1, one, i, 1, z, 1, one, result, 1) != TW_OK)
        puts(tw_error_message());
    printf("%g %g\\n", result[0], result[1]);

    long before = 0;
    for (int round = 0; round < 2; round++) {
        before = allocations;
        for (int n = 1; n < 1000; n += 37) {
            static float x[1000 * 3], y[3 * 1000], out[1000 * 1000];
            tw_sgemm(TW_ROW_MAJOR, 'N', 'N', n, n, 3, 2, x, 3, y, n, 0, out, n);
        }
    }
    printf("%ld allocations\\n", allocations - before);

    printf("%d %s\\n", tw_sgemm(TW_ROW_MAJOR, 'N', 'N', -1, 2, 3, 1, a, 3, b, 2, 0, c, 2), tw_error_message());
    const struct tw_kernel *kernel = tw_find_kernel(tw_kernel_name(0));
    printf("%d ", kernel != NULL && strcmp(kernel->name, tw_kernel_name(0)) == 0);
    printf("%d\\n", tw_find_kernel("none") == NULL && tw_find_kernel(NULL) == NULL);
    return tw_selftest(NULL) != 0;
}
"""


@pytest.mark.parametrize("compiler", ["cc -std=c99", "c++ -std=c++11 -x c++"])
def test_programs_in_c_and_cplusplus(compiler: str, tmp_path: Path) -> None:
    """A header that needs another before it, or C11; memory allocated by a warm product of any size."""
    try:
        command, *options = [tool(compiler.split()[0], why="for a program that uses the C API"), *compiler.split()[1:]]
    except Unavailable as unavailable:
        miss(unavailable)
    library = Path(tw.info().library).resolve()
    include = library.parent.parent / "include"
    (tmp_path / "program.c").write_text(PROGRAM)
    subprocess.run(
        [
            command, *options, "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{include}",
            str(tmp_path / "program.c"), "-o", str(tmp_path / "program"), "-x", "none", str(library),
        ],
        check=True,
    )  # fmt: skip
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library.parent)}
    ran = subprocess.run(
        [tmp_path / "program"], capture_output=True, text=True, timeout=120, env=environment, check=True
    )
    assert ran.stdout.splitlines() == [
        "4 5 10 11",
        "13 6",
        "0 allocations",
        "4 tw_sgemm: m is -1; it must be 0 or more.",
        "1 1",
    ]


def test_a_plan_that_is_not_there_is_refused() -> None:
    """NULL where a plan is wanted, as a program passes that did not look at what making one returned."""
    none, x = ffi.NULL, ffi.new("float[4]")
    pointers = ffi.new("void *[1]", [x])
    bound = ffi.new("tw_gemm_bound *", {"plan": none, "a": x, "b": x, "c": x})
    one = ffi.new("float *", 1)
    calls: list[Callable[[], int]] = [
        lambda: lib.tw_gemm_execute(none, x, x, x),
        lambda: lib.tw_gemm_plan_execute(none, one, x, x, one, x),
        lambda: lib.tw_gemm_bound_run(bound),
        lambda: lib.tw_gemm_bound_run(none),
        lambda: lib.tw_gemm_batch_strided(none, 1, none, x, 0, x, 0, none, x, 0),
        lambda: lib.tw_gemm_batch(none, 1, none, pointers, pointers, none, pointers),
    ]
    for call_it in calls:
        assert call_it() == lib.TW_ERROR_PLAN
        assert "the plan is NULL" in text(lib.tw_error_message())
    assert lib.tw_gemm_plan_tiles(none, 0, ffi.NULL) < 0
    assert lib.tw_gemm_plan_isa(none) < 0
    assert text(lib.tw_gemm_plan_path(none)) == "no plan"
    assert lib.tw_gemm_plan_many(none) == ffi.NULL
    lib.tw_gemm_plan_destroy(none)
