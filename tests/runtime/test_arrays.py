"""Which arrays gemm takes, which it copies, and that what it writes arrives."""

from __future__ import annotations

import array
import ctypes
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tilewright.runtime as tw
from tilewright.runtime import arrays

from .problems import COPIED, DTYPES, IN_PLACE, LAYOUTS, Array, integers, place

# Both ways to C.
pytestmark = pytest.mark.usefixtures("way")

LISTED = [pytest.param(layout, layout in IN_PLACE, id=layout) for layout in LAYOUTS]


@pytest.mark.parametrize(("layout", "in_place"), LISTED)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_unit_strides_are_used_where_they_lie_and_others_are_copied(
    layout: str, in_place: bool, dtype: np.dtype[Any]
) -> None:
    """A transposed view or a slice that is copied at every call; a layout taken for one that BLAS can describe."""
    x, _ = place(integers(np.random.default_rng(0), (4, 6), dtype), layout)
    seen = arrays.seen(x, arrays.kind_of(x, "x"))
    assert (seen is not None) == in_place
    if seen is not None:
        row_major, ld, pointer = seen
        along, down = sorted(x.strides)
        assert (along, down) == (dtype.itemsize, ld * dtype.itemsize)
        assert row_major == (x.strides[1] == along)
        assert int(arrays.ffi.cast("intptr_t", pointer)) == x.__array_interface__["data"][0]


@given(
    rows=st.integers(0, 3),
    columns=st.integers(0, 3),
    order=st.sampled_from("CF"),
    dtype=st.sampled_from(DTYPES),
    data=st.data(),
)
def test_strides_of_single_rows_and_columns_mean_nothing(
    rows: int, columns: int, order: Any, dtype: np.dtype[Any], data: st.DataObject
) -> None:
    """numpy lets strides of dimensions of length 0 and 1 be anything: no leading dimension to follow."""
    x = integers(np.random.default_rng(1), (rows, columns), dtype).copy(order=order)
    anything = st.sampled_from([0, -8, 1, 7, 2**40, dtype.itemsize])
    strides = [data.draw(anything) if size <= 1 else stride for size, stride in zip(x.shape, x.strides, strict=True)]
    odd = np.lib.stride_tricks.as_strided(x, x.shape, strides)
    assert np.array_equal(tw.gemm(odd, odd, trans_b="T"), x @ x.T)
    out = np.lib.stride_tricks.as_strided(np.zeros_like(x), x.shape, strides)
    assert np.array_equal(tw.gemm(np.eye(rows, dtype=dtype), odd, out=out), x)


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (4, 0)])
def test_empty_slices_are_matrices_too(shape: tuple[int, int]) -> None:
    """The address of an array without elements."""
    big = np.ones((9, 9))
    x = big[4 : 4 + shape[0], 3 : 3 + shape[1]]
    assert np.array_equal(tw.gemm(x, x, trans_b="T"), x @ x.T)
    assert np.array_equal(tw.gemm(x, x, trans_a="T"), x.T @ x)


def test_broadcast_and_sliding_operands_are_read_as_they_look() -> None:
    """A stride of 0, or lines that overlap, taken for a leading dimension."""
    row = np.arange(5.0)
    stacked = np.broadcast_to(row, (3, 5))
    windows = np.lib.stride_tricks.sliding_window_view(np.arange(7.0), 3)
    assert np.array_equal(tw.gemm(stacked, windows), stacked @ windows)
    assert np.array_equal(tw.gemm(windows.T, stacked.T), windows.T @ stacked.T)


@pytest.mark.parametrize("layout", COPIED)
def test_out_of_any_strides_is_filled_and_returned(layout: str) -> None:
    """A temporary that is never written back, or returned in place of out."""
    rng = np.random.default_rng(2)
    a, b, c = (integers(rng, shape, np.dtype(np.float64)) for shape in ((4, 3), (3, 6), (4, 6)))
    out, _ = place(c, layout)
    assert tw.gemm(a, b, out=out, alpha=2, beta=3) is out
    assert np.array_equal(out, 2 * a @ b + 3 * c)


def test_what_has_the_buffer_protocol_is_an_array() -> None:
    """Memory that is not numpy's: refused, or copied where it was to be written."""
    values = array.array("d", range(6))
    a = memoryview(values).cast("B").cast("d", (2, 3))
    out = (ctypes.c_double * 2 * 2)()
    assert tw.gemm(a, a, out=out, trans_b="T") is out
    assert [list(row) for row in out] == [[5.0, 14.0], [14.0, 50.0]]


class OnlyArray:
    """Has ``__array__`` and nothing else, as a torch tensor or a pandas frame may."""

    def __init__(self, values: Array, copies: bool = False) -> None:
        self.values, self.copies = values, copies

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self.values.copy() if self.copies else self.values


class OnlyDlpack:
    """Has ``__dlpack__`` and nothing else."""

    def __init__(self, values: Array) -> None:
        self.values = values

    def __dlpack__(self, **options: Any) -> Any:
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def test_objects_that_give_an_array_are_arrays() -> None:
    """A result written into a copy that nobody will see."""
    x = np.arange(4.0).reshape(2, 2)
    assert np.array_equal(tw.gemm(OnlyArray(x), OnlyDlpack(x)), x @ x)
    out = OnlyArray(np.zeros((2, 2)))
    assert tw.gemm(x, x, out=out) is out
    assert np.array_equal(out.values, x @ x)
    with pytest.raises(tw.LayoutError, match=r"out \(OnlyArray\) gives only a copy of itself; pass a numpy array"):
        tw.gemm(x, x, out=OnlyArray(np.zeros((2, 2)), copies=True))


def test_subclasses_of_ndarray_are_seen_as_plain_arrays() -> None:
    """np.matrix, whose ``*`` and shapes differ; np.memmap."""
    with pytest.warns(PendingDeprecationWarning):
        x = np.matrix([[1.0, 2.0], [3.0, 4.0]])
    result = tw.gemm(x, x)
    assert type(result) is np.ndarray
    assert np.array_equal(result, np.asarray(x) @ np.asarray(x))


def test_out_beside_an_operand_in_the_same_memory_is_no_overlap() -> None:
    """Bounds that cross though no element is shared: columns of one matrix, rows taken in turn."""
    whole = integers(np.random.default_rng(3), (6, 12), np.dtype(np.float64))
    left, right = whole[:, :6], whole[:, 6:]
    wanted = left @ left
    assert np.array_equal(tw.gemm(left, left, out=right), wanted)
    even, odd = whole[::2, :3], whole[1::2, :3]
    wanted = even @ even
    assert np.array_equal(tw.gemm(even, even, out=odd), wanted)


def test_interleaved_elements_of_out_are_no_overlap() -> None:
    """Strides of 2 and 3 elements cross without meeting."""
    memory = np.zeros(8)
    out = np.lib.stride_tricks.as_strided(memory, (2, 2), (24, 16))
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert np.array_equal(tw.gemm(x, np.eye(2), out=out), x)
    assert np.array_equal(memory[[0, 2, 3, 5]], [1, 2, 3, 4])


@given(shape=st.tuples(*[st.integers(1, 6)] * 2), strides=st.tuples(*[st.integers(-30, 30)] * 2))
def test_the_rule_for_self_overlap_is_the_definition(shape: tuple[int, int], strides: tuple[int, int]) -> None:
    """A shortcut that is wrong for negative, equal or interleaved strides."""
    first = 200  # bytes before the first element: enough for any of the strides
    memory = np.zeros(400, np.uint8)
    x = np.lib.stride_tricks.as_strided(memory[first : first + 8].view(np.float64), shape, strides)
    starts = [i * strides[0] + j * strides[1] for i in range(shape[0]) for j in range(shape[1])]
    truly = any(abs(p - q) < 8 for at, p in enumerate(starts) for q in starts[:at])
    assert arrays._overlaps_itself(x) == truly
