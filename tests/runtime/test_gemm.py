"""gemm computes what it says: any shape, type, transposition, scalars and strides, on every ISA of this CPU."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilewright.runtime as tw

from .problems import (
    DTYPES,
    IN_PLACE,
    LAYOUTS,
    RUNNABLE,
    Problem,
    assert_within_bound,
    floats,
    forced,
    integers,
    operation,
    place,
    problems,
    untouched,
)

# Both ways to C.
pytestmark = pytest.mark.usefixtures("way")

layouts = st.sampled_from(LAYOUTS)


@pytest.mark.parametrize("isa", RUNNABLE)
@given(problem=problems(), layout_a=layouts, layout_b=layouts, layout_c=layouts)
@settings(max_examples=150)
def test_every_element_is_within_the_bound_and_nothing_else_changes(
    isa: str, problem: Problem, layout_a: str, layout_b: str, layout_c: str
) -> None:
    """A tile at the wrong offset, one leading dimension taken for another, a store past the end, an operand changed."""
    c0 = problem.c
    a, around_a = place(problem.a, layout_a)
    b, around_b = place(problem.b, layout_b)
    c, around_c = place(c0, layout_c)
    before_a, before_b, before_c = around_a.copy(), around_b.copy(), around_c.copy()
    with forced(isa):
        returned = tw.gemm(a, b, out=c, **problem.options)
    assert returned is c
    assert_within_bound(c, problem)
    assert untouched(c, around_c, before_c)
    assert np.array_equal(around_a, before_a)
    assert np.array_equal(around_b, before_b)


@pytest.mark.parametrize("isa", RUNNABLE)
@given(problem=problems(exact=True), layout_c=layouts)
@settings(max_examples=150)
def test_integers_are_exact(isa: str, problem: Problem, layout_c: str) -> None:
    """What a tolerance hides: one k step too few, a tile added twice, 2e-15 off in one element."""
    c, _ = place(problem.c, layout_c)
    with forced(isa):
        problem.run(out=c)
    assert np.array_equal(c, problem.exact())


@pytest.mark.parametrize("isa", RUNNABLE)
@given(problem=problems(most=300, exact=True))
@settings(max_examples=8)
def test_larger_integers_are_exact(isa: str, problem: Problem) -> None:
    """Remainders that only come after many tiles."""
    c = problem.c.copy()
    with forced(isa):
        problem.run(out=c)
    assert np.array_equal(c, problem.exact().astype(c.dtype))


@given(problem=problems())
def test_without_out_a_new_c_ordered_array_is_returned(problem: Problem) -> None:
    """An uninitialised or transposed result."""
    problem.options["beta"] = 0
    result = problem.run()
    assert type(result) is np.ndarray
    assert result.flags.c_contiguous
    assert result.dtype == problem.a.dtype
    assert_within_bound(result, problem)


@given(problem=problems(), layout_c=layouts)
def test_the_same_call_gives_the_same_bits(problem: Problem, layout_c: str) -> None:
    """Reading a register or a lane that nobody set."""
    first, _ = place(problem.c, layout_c)
    second, _ = place(problem.c, layout_c)
    problem.run(out=first)
    problem.run(out=second)
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("isa", RUNNABLE)
@given(problem=problems(most=24), layout_c=layouts)
def test_beta_zero_does_not_read_out(isa: str, problem: Problem, layout_c: str) -> None:
    """A kernel, or a temporary, that multiplies old NaN by zero (OpenBLAS issue 2914)."""
    problem.options["beta"] = 0
    out, _ = place(np.full_like(problem.c, np.nan), layout_c)
    with forced(isa):
        problem.run(out=out)
    assert_within_bound(out, problem)


@pytest.mark.parametrize("isa", RUNNABLE)
@given(problem=problems(most=24))
def test_alpha_zero_does_not_read_the_operands(isa: str, problem: Problem) -> None:
    """0 * NaN added to C."""
    problem.options["alpha"] = 0
    wanted = problem.exact()
    problem.a[...] = np.nan
    problem.b[...] = np.inf
    out = problem.c.copy()
    with forced(isa):
        problem.run(out=out)
    assert np.allclose(out, wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize("isa", RUNNABLE)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_no_steps_scale_out_and_no_elements_do_nothing(isa: str, dtype: np.dtype[Any]) -> None:
    """k = 0 that runs one step; m = 0 or n = 0 that divides by it or touches memory."""
    with forced(isa):
        out = np.full((5, 7), 3, dtype)
        assert np.array_equal(
            tw.gemm(np.zeros((5, 0), dtype), np.zeros((0, 7), dtype), out=out, beta=2), np.full((5, 7), 6, dtype)
        )
        assert np.array_equal(tw.gemm(np.zeros((5, 0), dtype), np.zeros((0, 7), dtype)), np.zeros((5, 7), dtype))
        for m, n in ((0, 7), (5, 0), (0, 0)):
            assert tw.gemm(np.ones((m, 3), dtype), np.ones((3, n), dtype)).shape == (m, n)


@pytest.mark.parametrize("isa", RUNNABLE)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@given(
    dtype=st.sampled_from(DTYPES),
    shape=st.tuples(*[st.integers(1, 24)] * 3),
    trans=st.tuples(*[st.sampled_from("NTC")] * 2),
    side=st.sampled_from("ab"),
    data=st.data(),
)
@settings(max_examples=40)
def test_nan_and_inf_reach_their_row_or_column_and_no_other(
    isa: str,
    value: float,
    dtype: np.dtype[Any],
    shape: tuple[int, int, int],
    trans: tuple[str, str],
    side: str,
    data: st.DataObject,
) -> None:
    """A masked lane that multiplies what it should not, or drops what it should have."""
    m, n, k = shape
    rng = np.random.default_rng(1)
    a = np.abs(floats(rng, (m, k), dtype).real).astype(dtype) + 1
    b = np.abs(floats(rng, (k, n), dtype).real).astype(dtype) + 1
    with forced(isa):
        clean = tw.gemm(operation(a, trans[0]), operation(b, trans[1]), trans_a=trans[0], trans_b=trans[1])
        i, p, j = data.draw(st.integers(0, m - 1)), data.draw(st.integers(0, k - 1)), data.draw(st.integers(0, n - 1))
        if side == "a":
            a[i, p] = value
            hit = np.zeros((m, n), bool)
            hit[i] = True
        else:
            b[p, j] = value
            hit = np.zeros((m, n), bool)
            hit[:, j] = True
        found = tw.gemm(operation(a, trans[0]), operation(b, trans[1]), trans_a=trans[0], trans_b=trans[1])
    assert np.array_equal(~np.isfinite(found), hit)
    assert np.array_equal(found[~hit], clean[~hit])
    if not np.isnan(value) and dtype.kind == "f":
        assert np.all(found[hit] == value)


@pytest.mark.parametrize("isa", RUNNABLE)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scalar", ["alpha", "beta"])
def test_nan_in_alpha_or_beta_reaches_everything(isa: str, dtype: np.dtype[Any], scalar: str) -> None:
    """Comparing NaN with 0 or 1 the wrong way round, and skipping the multiplication."""
    a = np.ones((5, 3), dtype)
    options = {"alpha": 1, "beta": 1, scalar: np.nan}
    with forced(isa):
        assert np.isnan(tw.gemm(a, a, out=np.ones((5, 5), dtype), trans_b="T", **options)).all()


@pytest.mark.parametrize("isa", RUNNABLE)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_subnormal_numbers_keep_every_bit(isa: str, dtype: np.dtype[Any]) -> None:
    """Flush-to-zero switched on (tract issue 2596), or a product formed where it underflows."""
    rng = np.random.default_rng(2)
    smallest = np.finfo(dtype).smallest_subnormal
    a = integers(rng, (19, 11), dtype) * smallest
    with forced(isa):
        assert np.array_equal(tw.gemm(a, np.eye(11, dtype=dtype)), a)
        out = a.copy()
        tw.gemm(np.zeros((19, 1), dtype), np.zeros((1, 11), dtype), out=out, beta=3)
        assert np.array_equal(out, a * 3)


@pytest.mark.parametrize("isa", RUNNABLE)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_long_k_is_walked_to_its_end(isa: str, dtype: np.dtype[Any]) -> None:
    """A step counter narrower than the address it moves."""
    k = 70_001
    a, b = np.ones((3, k), dtype), np.ones((k, 2), dtype)
    with forced(isa):
        assert np.array_equal(tw.gemm(a, b), np.full((3, 2), k, dtype))


@pytest.mark.parametrize("isa", RUNNABLE)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_lines_more_than_two_gigabytes_apart(isa: str, dtype: np.dtype[Any]) -> None:
    """A leading dimension or an offset kept in 32 bits; the memory between the lines does not exist."""
    no_reserve = 0x4000  # MAP_NORESERVE, which Python does not name before 3.13
    stride, count, flags = 2**31 + 4096, 3, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve
    raw = np.frombuffer(mmap.mmap(-1, stride * count, flags), dtype)
    far = np.lib.stride_tricks.as_strided(raw, (count, 5), (stride, dtype.itemsize), writeable=True)
    near = integers(np.random.default_rng(3), (count, 5), dtype)
    far[...] = near
    with forced(isa):
        for x, y in ((far, near.T), (near, far.T), (far.T, near), (near.T, far)):
            assert np.array_equal(tw.gemm(x, y), near @ near.T if x.shape[0] == count else near.T @ near)
        assert np.array_equal(tw.gemm(np.eye(count, dtype=dtype), near, out=far, beta=1), 2 * near)


@given(problem=problems(most=12), layout_a=st.sampled_from(IN_PLACE), layout_b=st.sampled_from(IN_PLACE))
def test_overlapping_operands_are_fine(problem: Problem, layout_a: str, layout_b: str) -> None:
    """A check for overlap that also refuses a with b, which are only read."""
    a, _ = place(problem.a, layout_a)
    assert np.allclose(
        tw.gemm(a, a, trans_b="C"), a @ a.conj().T, rtol=1e-4, atol=1e-3 * (1 + np.abs(a).max(initial=0)) ** 2
    )
