"""Products for which one operand, or its last rows, are turned first; rows of C that are taken as columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilewright.runtime as tw

from .problems import DTYPES, IN_PLACE, RUNNABLE, forced, integers, operation, place, untouched

X86 = [isa for isa in RUNNABLE if isa.startswith("avx")] or RUNNABLE  # elsewhere nothing is turned, and all of it holds


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, int, int, str]:
    """m, n, k and transpositions (row-major) on both sides of every threshold of turn.c."""
    kind = draw(st.sampled_from(["few steps", "thin", "last rows", "row"]))
    long = draw(st.integers(20, 70))
    if kind == "few steps":
        k = draw(st.integers(1, 9))
        return draw(st.integers(10, 14 * k)), draw(st.integers(10, 40)), k, draw(st.sampled_from(["NT", "TT", "NC"]))
    if kind == "thin":
        thin, wide = draw(st.integers(1, 4)), draw(st.integers(10, 40))
        return (wide, thin, long, "NN") if draw(st.booleans()) else (thin, wide, long, "TT")
    if kind == "last rows":
        return draw(st.integers(10, 40)), 8 * draw(st.integers(0, 4)) + draw(st.integers(1, 4)), long, "NN"
    trans = draw(st.sampled_from(["NN", "NT", "TN", "TC", "CN", "CC", "TT"]))
    return (*draw(st.sampled_from([(1, long), (long, 1)])), draw(st.integers(1, 40)), trans)


@pytest.mark.parametrize("isa", X86)
@given(
    shape=shapes(),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**16),
    scalars=st.tuples(st.sampled_from([1, 1, 0, -2]), st.sampled_from([0, 0, 1, 3])),
    layouts=st.tuples(*[st.sampled_from(IN_PLACE)] * 3),
)
@settings(max_examples=200)
def test_turned_products_are_exact(
    isa: str,
    shape: tuple[int, int, int, str],
    dtype: np.dtype[Any],
    seed: int,
    scalars: tuple[int, int],
    layouts: tuple[str, str, str],
) -> None:
    """A panel read with the matrix's leading dimension, the last rows at the wrong place, alpha used twice."""
    m, n, k, trans = shape
    rng = np.random.default_rng(seed)
    a = integers(rng, (m, k) if trans[0] == "N" else (k, m), dtype)
    b = integers(rng, (k, n) if trans[1] == "N" else (n, k), dtype)
    c = integers(rng, (m, n), dtype)
    alpha, beta = scalars
    expected = alpha * (operation(a, trans[0]) @ operation(b, trans[1])) + beta * c
    if beta == 0:
        c[...] = np.nan
    (a, _), (b, _), (out, around) = (place(x, layout) for x, layout in zip((a, b, c), layouts, strict=True))
    before = around.copy()
    with forced(isa):
        tw.gemm(a, b, out=out, alpha=alpha, beta=beta, trans_a=trans[0], trans_b=trans[1])
    assert np.array_equal(out, expected)
    assert untouched(out, around, before)


@pytest.mark.parametrize("isa", X86)
@pytest.mark.parametrize("trans", ["NN", "NT", "TT"])
@pytest.mark.parametrize(("m", "n", "k"), [(30, 33, 40), (40, 40, 3), (20, 3, 60), (3, 20, 60)])
@pytest.mark.parametrize("beta", [0, 1])
def test_batches_and_plans_turn_each_product(isa: str, trans: str, m: int, n: int, k: int, beta: int) -> None:
    """Arguments that the last rows' kernels leave changed for the next product of a batch."""
    rng = np.random.default_rng(m * n + k)
    dtype = np.dtype("float32")
    a = np.stack([integers(rng, (m, k) if trans[0] == "N" else (k, m), dtype) for _ in range(5)])
    b = np.stack([integers(rng, (k, n) if trans[1] == "N" else (n, k), dtype) for _ in range(5)])
    out = np.stack([integers(rng, (m, n), dtype) for _ in range(5)])
    expected = np.stack(
        [operation(x, trans[0]) @ operation(y, trans[1]) + beta * z for x, y, z in zip(a, b, out, strict=True)]
    )
    with forced(isa):
        plan = tw.gemm_plan(m, n, k, dtype, trans_a=trans[0], trans_b=trans[1])
        each = out.copy()
        for index in range(5):
            plan(a[index], b[index], each[index], beta=beta)
        tw.gemm_batch(a, b, out=out, trans_a=trans[0], trans_b=trans[1], beta=beta)
    assert np.array_equal(each, expected)
    assert np.array_equal(out, expected)


@pytest.mark.parametrize("isa", X86)
def test_the_last_rows_are_among_the_tiles(isa: str) -> None:
    """An explanation that leaves out what another part of the plan computes, or says it twice."""
    with forced(isa):
        how = tw.explain(40, 33, 64, np.float32)
    covered = np.zeros((40, 33), int)
    for tile in how.tiles:
        covered[tile.row : tile.row + tile.rows, tile.column : tile.column + tile.columns] += 1
    assert np.all(covered == 1)
    if isa == "avx512":
        assert any("_tn_" in tile.kernel for tile in how.tiles)
