"""Batches: every product of a stack is right wherever its matrices lie, and none is touched where one is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilewright.runtime as tw
from tilewright.runtime._library import ffi, lib, text

from .problems import DTYPES, RUNNABLE, Array, forced, integers
from .test_plan import make

LEADS = st.lists(st.integers(0, 3), max_size=3).map(tuple)


def stack(rng: np.random.Generator, lead: tuple[int, ...], shape: tuple[int, int], dtype: np.dtype[Any]) -> Array:
    flat = integers(rng, (int(np.prod(lead, dtype=int)) * shape[0], shape[1]), dtype)
    return np.asarray(flat.reshape(*lead, *shape))


def laid_out(x: Array, how: str) -> Array:
    """The same values, otherwise in memory."""
    if how == "last first":  # matrices by columns
        return np.asarray(np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2))
    if how == "interleaved":  # the stack runs fastest: BLAS can describe no matrix
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0) if x.ndim > 2 else x
    if how == "reversed":
        return x[::-1].copy()[::-1] if x.ndim > 2 else x
    if how == "sliced":
        wide = np.full((*x.shape[:-2], x.shape[-2] + 2, x.shape[-1] + 3), 77, x.dtype)
        wide[..., 1:-1, 2:-1] = x
        return wide[..., 1:-1, 2:-1]
    if how == "swapped":  # no one stride goes through the stack
        return np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1) if x.ndim > 3 else x
    return x


HOWS = st.sampled_from(["plain", "last first", "interleaved", "reversed", "sliced", "swapped"])


@pytest.mark.parametrize("isa", RUNNABLE)
@given(
    dtype=st.sampled_from(DTYPES),
    lead=LEADS,
    dropped=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    ones=st.tuples(st.integers(0, 7), st.integers(0, 7)),
    sizes=st.tuples(*[st.integers(0, 12)] * 3),
    trans=st.tuples(st.sampled_from("NTC"), st.sampled_from("NTC")),
    hows=st.tuples(HOWS, HOWS, HOWS),
    scalars=st.tuples(st.sampled_from([0, 1, -2]), st.sampled_from([0, 1, 3])),
)
@settings(max_examples=150)
def test_stacks_broadcast_as_matmul_does(
    isa: str, dtype: np.dtype[Any], lead: tuple[int, ...], dropped: tuple[int, int], ones: tuple[int, int],
    sizes: tuple[int, int, int], trans: tuple[str, str], hows: tuple[str, str, str], scalars: tuple[int, int],
) -> None:  # fmt: skip
    """A stride of one operand used for another; a broadcast dimension stepped through; products left out at the end."""
    m, n, k = sizes
    rng = np.random.default_rng(1)
    operands = []
    for shape, op, drop, one, how in zip(((m, k), (k, n)), trans, dropped, ones, hows, strict=False):
        own = tuple(1 if one >> axis & 1 else size for axis, size in enumerate(lead))[drop:]
        operands.append(laid_out(stack(rng, own, shape if op == "N" else shape[::-1], dtype), how))
    a, b = operands
    op_a, op_b = (
        x if op == "N" else x.swapaxes(-1, -2) if op == "T" else x.conj().swapaxes(-1, -2)
        for x, op in zip(operands, trans, strict=True)
    )
    product = op_a @ op_b
    c = stack(rng, product.shape[:-2], (m, n), dtype)
    out = laid_out(c, hows[2])
    out = out if out.base is not None or out is not c else out.copy()
    alpha, beta = scalars
    with forced(isa):
        wanted = alpha * product + beta * c
        result = tw.gemm_batch(a, b, out, alpha=alpha, beta=beta, trans_a=trans[0], trans_b=trans[1])
        assert result is out
        assert np.array_equal(out, wanted)
        assert np.array_equal(tw.gemm_batch(a, b, trans_a=trans[0], trans_b=trans[1]), product)


REFUSED: list[tuple[Any, Any, dict[str, Any], type[Exception], str]] = [
    (np.ones((2, 3, 4)), np.ones((2, 5, 6)), {}, tw.ShapeError, "columns must equal the second's rows"),
    (np.ones((2, 3, 4)), np.ones((3, 4, 6)), {}, tw.ShapeError, "cannot be broadcast together"),
    (np.ones((2, 3, 4)), np.ones((4, 6), np.float32), {}, tw.DtypeError, "they must be the same"),
    (np.ones((2, 3, 4)), np.ones(4), {}, tw.ShapeError, "two dimensions or more"),
    (np.ones((2, 3, 4)), np.ones((4, 6)), {"beta": 1}, tw.ArgumentError, "no out"),
    (np.ones((2, 3, 4)), np.ones((4, 6)), {"trans_a": "H"}, tw.ArgumentError, "trans_a is 'H'"),
    (np.ones((2, 3, 4)), np.ones((4, 6)), {"out": np.ones((3, 6))}, tw.ShapeError, r"the products are \(2, 3, 6\)"),
    (np.ones((2, 3, 4)), np.ones((4, 6)), {"alpha": 1j}, tw.ScalarError, "alpha is complex"),
    (
        np.ones((2, 3, 4)), np.ones((4, 6)), {"out": np.broadcast_to(np.ones((3, 6)), (2, 3, 6))},
        tw.LayoutError, "read-only",
    ),
    (
        np.ones((2, 3, 4)), np.ones((4, 6)),
        {"out": np.lib.stride_tricks.as_strided(np.ones(40), (2, 3, 6), (8 * 17, 48, 8))},
        tw.OverlapError, "share memory with each other",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b", "options", "error", "words"), REFUSED)
def test_what_does_not_fit_is_refused(
    a: Any, b: Any, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    """Half a batch written before the error; an out whose matrices overlap."""
    with pytest.raises(error, match=words):
        tw.gemm_batch(a, b, **options)


def test_out_that_shares_memory_with_an_operand_is_refused() -> None:
    """A matrix of the batch overwritten before another product reads it."""
    whole = np.ones((4, 3, 3))
    with pytest.raises(tw.OverlapError, match="shares memory with b"):
        tw.gemm_batch(np.ones((2, 3, 3)), whole[1:3], whole[::2])
    assert np.all(whole == 1)
    tw.gemm_batch(whole[:2], np.ones((3, 3)), whole[2:])
    assert np.all(whole[2:] == 3)


@given(counts=st.lists(st.integers(0, 4), max_size=4), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_groups_of_mixed_sizes(counts: list[int], seed: int) -> None:
    """Pointers counted from the start of the batch in place of the group; one group's scalars used for the next."""
    rng = np.random.default_rng(seed)
    plans, wanted, alphas = [], [], []
    a: list[Array] = []
    b: list[Array] = []
    c: list[Array] = []
    for count in counts:
        m, n, k = (int(size) for size in rng.integers(1, 20, 3))
        plans.append(make(DTYPES[1], lib.TW_ROW_MAJOR, "NN", (m, n, k), (k, n, n))[1])
        alphas.append(ffi.new("double *", int(rng.integers(0, 3))))
        for _ in range(count):
            x, y, z = (integers(rng, shape, DTYPES[1]) for shape in ((m, k), (k, n), (m, n)))
            for arrays, array in ((a, x), (b, y), (c, z)):
                arrays.append(array)
            wanted.append(alphas[-1][0] * (x @ y) + z)
    one = ffi.new("double *", 1)
    lists = [ffi.new("void *[]", [ffi.from_buffer(x) for x in arrays]) for arrays in (a, b, c)]
    status = lib.tw_gemm_batch_groups(
        len(counts), ffi.new("tw_gemm_plan *[]", plans), counts, ffi.new("void *[]", alphas), lists[0], lists[1],
        ffi.new("void *[]", [one] * len(counts)), lists[2],
    )  # fmt: skip
    assert status == lib.TW_OK
    assert all(np.array_equal(found, right) for found, right in zip(c, wanted, strict=True))


def test_c_batches_check_everything_first() -> None:
    """A NULL found when half of the batch is written; a negative count; every product to one place."""
    _, plan = make(DTYPES[1], lib.TW_ROW_MAJOR, "NN", (2, 2, 2), (2, 2, 2))
    x, y, z = np.ones((2, 2)), np.ones((2, 2)), np.zeros((2, 2))
    p, q, r = (ffi.from_buffer("char[]", v) for v in (x, y, z))
    null = ffi.NULL
    a, b, c = ffi.new("void *[]", [p, p]), ffi.new("void *[]", [q, null]), ffi.new("void *[]", [r, r])
    assert lib.tw_gemm_batch(plan, 2, null, a, b, null, c) == 10
    assert text(lib.tw_error_message()) == "tw_gemm_batch (dgemm): b[1] is NULL but would be used."
    assert lib.tw_gemm_batch(plan, -1, null, a, b, null, c) == lib.TW_ERROR_BATCH
    assert lib.tw_gemm_batch_strided(plan, 2, null, p, 0, q, 0, null, r, 0) == lib.TW_ERROR_BATCH
    assert lib.tw_gemm_batch_strided(plan, -3, null, p, 0, q, 0, null, r, 0) == lib.TW_ERROR_BATCH
    assert lib.tw_gemm_batch_strided(plan, 2, null, null, 0, q, 0, null, r, 4) == 8
    assert np.all(z == 0)
    assert lib.tw_gemm_batch_strided(plan, 0, null, null, 0, null, 0, null, null, 0) == lib.TW_OK
    assert lib.tw_gemm_batch_strided(plan, 1, null, p, 0, q, 0, null, r, 0) == lib.TW_OK
    assert np.all(z == 2)
