"""No Python input crashes: whatever is passed, gemm returns the product or raises one of its own errors."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilewright.runtime as tw

from .problems import LAYOUTS, operation, place

# Both ways to C.
pytestmark = pytest.mark.usefixtures("way")

NAMES = ["f4", "f8", "c8", "c16", "f2", "i4", "u1", "?", "O", ">f8", ">c8", "U1", "M8[s]", "V7"]
FOUR = ["f4", "f8", "c8", "c16"]


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    """Mostly matrices that fit together, of odd strides; sometimes of other types and dimensions."""
    dtype = np.dtype(draw(st.sampled_from(FOUR * 5 + NAMES)))
    shape = tuple(draw(st.lists(st.sampled_from([0, 1, 2, 3, 3, 3, 4]), min_size=0, max_size=3) | st.just([3, 3])))
    x = np.zeros(shape, dtype)
    if dtype.kind in "fciu":
        x += (np.arange(x.size).reshape(shape) % 5).astype(dtype)
    if len(shape) == 2 and dtype.kind in "fc" and dtype.isnative and dtype.itemsize > 2:
        x, _ = place(x, draw(st.sampled_from(LAYOUTS)))
        change = draw(st.sampled_from(["none"] * 4 + ["broadcast", "read-only", "transpose", "slide"]))
        if change == "broadcast" and x.size:
            x = np.broadcast_to(x[:1], x.shape)
        elif change == "read-only":
            x.flags.writeable = False
        elif change == "transpose":
            x = x.T
        elif change == "slide" and x.size > 5:
            x = np.lib.stride_tricks.sliding_window_view(x.ravel(), 3)
    return x


junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=3),
    st.binary(max_size=40),
    st.binary(max_size=40).map(lambda content: memoryview(content)),
    st.lists(st.floats(), max_size=3),
    st.fractions(),
    st.decimals(),
    st.sampled_from(
        [
            object(),
            type,
            np.float64,
            np.float32(2),
            np.int8(3),
            np.array(1.5),
            np.array([2.0]),
            Fraction(1, 3),
            np.ma.masked,
        ]
    ),
)
numbers = st.one_of(st.sampled_from([0, 1, -1, 0.5, 1j, np.nan, np.inf, -0.0, np.float32(2), np.complex64(1j)]), junk)
transpositions = st.one_of(st.sampled_from("NTC"), junk)


@given(
    operands=st.tuples(arrays() | junk, arrays() | junk),
    out=st.none() | arrays() | junk,
    share=st.sampled_from(["no"] * 6 + ["a", "b"]),
    options=st.fixed_dictionaries(
        {}, optional={"alpha": numbers, "beta": numbers, "trans_a": transpositions, "trans_b": transpositions}
    ),
)
@settings(max_examples=1500)
def test_any_call_returns_the_product_or_raises_one_of_our_errors(
    operands: tuple[Any, Any], out: Any, share: str, options: dict[str, Any]
) -> None:
    """A segmentation fault, an assertion, or another library's exception."""
    a, b = operands
    out = {"no": out, "a": a, "b": b}[share]
    before = np.array(out) if isinstance(out, np.ndarray) else None
    message = None
    try:
        result = tw.gemm(a, b, out, **options)
    except tw.TilewrightError as error:
        message = str(error)
    if message is not None:
        assert message.startswith("gemm: ")
        assert message.endswith(".")
        return
    assert result is out or out is None
    assert type(result) is np.ndarray
    assert result.dtype == a.dtype
    x, y = (operation(np.asarray(z), options.get(name, "N")) for z, name in ((a, "trans_a"), (b, "trans_b")))
    alpha, beta = (complex(options.get(name, default)) for name, default in (("alpha", 1), ("beta", 0)))
    assert result.shape == (x.shape[0], y.shape[1])
    if abs(alpha) < 1e9 and abs(beta) < 1e9:  # neither NaN nor what may overflow
        wanted = alpha * (x.astype(complex) @ y.astype(complex)) + (beta * before if before is not None and beta else 0)
        assert np.allclose(result, wanted, rtol=1e-5, atol=1e-5 * (1 + abs(alpha) + abs(beta)))


@given(
    dtype=st.sampled_from(FOUR),
    sizes=st.tuples(*[st.integers(0, 9)] * 3),
    trans=st.tuples(*[st.sampled_from("NTC")] * 2),
    where=st.tuples(
        *[st.tuples(st.integers(0, 60), st.sampled_from([-12, -1, 1, 2, 7, 9, 10, 12]), st.booleans())] * 3
    ),
    beta=st.sampled_from([0, 2]),
)
@settings(max_examples=1500)
def test_views_of_one_buffer_never_change_what_is_read(
    dtype: str, sizes: tuple[int, int, int], trans: tuple[str, str], where: tuple[tuple[int, int, bool], ...], beta: int
) -> None:
    """An overlap that the check misses: A or B changed by the product, or the product wrong because of it."""
    m, n, k = sizes
    memory = (np.arange(400) % 7 - 3).astype(dtype)
    before = memory.copy()
    shapes = ((m, k) if trans[0] == "N" else (k, m), (k, n) if trans[1] == "N" else (n, k), (m, n))
    views = [windowed(memory, shape, *place) for shape, place in zip(shapes, where, strict=True)]
    a, b, out = views
    copies = [view.copy() for view in views]
    options = {"trans_a": trans[0], "trans_b": trans[1]}
    try:
        tw.gemm(a, b, out=out, beta=beta, **options)
    except tw.OverlapError:
        assert np.array_equal(memory, before)
        return
    assert np.array_equal(a, copies[0])
    assert np.array_equal(b, copies[1])
    assert np.array_equal(out, tw.gemm(copies[0], copies[1], **options) + beta * copies[2])


def windowed(memory: Any, shape: tuple[int, int], offset: int, stride: int, turned: bool) -> Any:
    """A matrix in the middle of `memory` with one stride of one element and another of `stride`, either way round."""
    size = memory.itemsize
    strides = (stride * size, size)
    if turned:
        strides = strides[::-1]
    return np.lib.stride_tricks.as_strided(memory[140 + offset :], shape, strides)
