"""Input that is wrong is refused by name, with what would be right, before any array changes."""

from __future__ import annotations

import tracemalloc
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import tilewright.runtime as tw
from tilewright.runtime.arrays import check_out
from tilewright.runtime.batch import _check_stack

# Both ways to C.
pytestmark = pytest.mark.usefixtures("way")

A, B, C = np.ones((8, 5)), np.ones((5, 4)), np.ones((8, 4))
OTHER = ">" if np.little_endian else "<"


def read_only(x: Any) -> Any:
    y = x.copy()
    y.flags.writeable = False
    return y


def same(rows: int, columns: int) -> Any:
    """A matrix whose elements are all the same one."""
    return np.lib.stride_tricks.as_strided(np.ones(1), (rows, columns), (0, 0))


CASES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "inner": (
        {"b": np.ones((6, 4))},
        tw.ShapeError,
        "gemm: a is (8, 5) but b is (6, 4): a's columns (5) must equal b's rows (6).",
    ),
    "inner transposed": (
        {"trans_a": "T"},
        tw.ShapeError,
        "gemm: a (trans_a='T') is (8, 5) but b is (5, 4): a's rows (8) must equal b's rows (5).",
    ),
    "inner both": (
        {"trans_b": "C"},
        tw.ShapeError,
        "gemm: a is (8, 5) but b (trans_b='C') is (5, 4): a's columns (5) must equal b's columns (4).",
    ),
    "out shape": (
        {"out": np.ones((4, 8))},
        tw.ShapeError,
        "gemm: out is (4, 8) but op(a) @ op(b) is (8, 4): out must be (8, 4).",
    ),
    "0-d": (
        {"a": np.array(3.0)},
        tw.ShapeError,
        "gemm: a has 0 dimensions, shape (), but must have 2: pass a.reshape(1, 1), or use alpha to multiply by a "
        "number.",
    ),
    "1-d": (
        {"b": np.ones(5)},
        tw.ShapeError,
        "gemm: b has 1 dimension, shape (5,), but must have 2: pass b[np.newaxis, :] for a row or b[:, np.newaxis] for "
        "a column.",
    ),
    "3-d": (
        {"a": np.ones((2, 8, 5))},
        tw.ShapeError,
        "gemm: a has 3 dimensions, shape (2, 8, 5), but must have 2: call gemm for each pair of matrices.",
    ),
    "out 1-d": ({"out": np.ones(32)}, tw.ShapeError, "gemm: out has 1 dimension, shape (32,), but must have 2"),
    "list": (
        {"a": [[1.0] * 5] * 8},
        tw.DtypeError,
        "gemm: a is of type list; pass an array of float32, float64, complex64 or complex128, for example "
        "np.asarray(a, dtype=np.float64).",
    ),
    "None": ({"b": None}, tw.DtypeError, "gemm: b is of type NoneType; pass an array of float32"),
    "object": (
        {"a": A.astype(object)},
        tw.DtypeError,
        "gemm: a has dtype object; it must be float32, float64, complex64 or complex128.",
    ),
    "half": ({"b": B.astype(np.float16)}, tw.DtypeError, "gemm: b has dtype float16; it must be float32"),
    "integers": ({"a": A.astype(np.int64)}, tw.DtypeError, "gemm: a has dtype int64; it must be float32"),
    "bool": ({"a": A.astype(bool)}, tw.DtypeError, "gemm: a has dtype bool; it must be float32"),
    "strings": ({"a": A.astype(str)}, tw.DtypeError, "it must be float32"),
    "long double": (
        {"a": A.astype(np.longdouble)},
        tw.DtypeError,
        f"gemm: a has dtype {np.dtype(np.longdouble)}; it must be float32",
    ),
    "records": (
        {"a": np.ones((8, 5), [("x", "f8")])},
        tw.DtypeError,
        "gemm: a has dtype [('x', '<f8')]; it must be float32",
    ),
    "mixed": (
        {"b": B.astype(np.float32)},
        tw.DtypeError,
        "gemm: a is float64 but b is float32: they must be the same, for example b.astype(a.dtype).",
    ),
    "mixed out": (
        {"out": C.astype(complex)},
        tw.DtypeError,
        "gemm: a is float64 but out is complex128: they must be the same",
    ),
    "out of integers": ({"out": C.astype(int)}, tw.DtypeError, "gemm: out has dtype int64; it must be float32"),
    "byte order": (
        {"a": A.astype(f"{OTHER}f8")},
        tw.DtypeError,
        f"gemm: a is float64 in non-native byte order ({OTHER}f8); pass a.astype(a.dtype.newbyteorder('=')).",
    ),
    "byte order of out": (
        {"out": C.astype(f"{OTHER}f8")},
        tw.DtypeError,
        "gemm: out is float64 in non-native byte order",
    ),
    "masked": (
        {"a": np.ma.masked_equal(A, 0)},
        tw.DtypeError,
        "gemm: a is a masked array, and a product has no mask; pass a.filled(0) or a.data.",
    ),
    "read-only": (
        {"out": read_only(C)},
        tw.LayoutError,
        "gemm: out is read-only; pass a writable array, for example np.array(out).",
    ),
    "read-only buffer": ({"out": memoryview(read_only(C))}, tw.LayoutError, "gemm: out is read-only"),
    "repeated out": (
        {"out": same(8, 4)},
        tw.OverlapError,
        "gemm: elements of out share memory with each other (shape (8, 4), strides (0, 0) bytes); pass an array "
        "whose elements are separate.",
    ),
    "alpha text": ({"alpha": "2"}, tw.ScalarError, "gemm: alpha is of type str; it must be a number."),
    "alpha None": ({"alpha": None}, tw.ScalarError, "gemm: alpha is of type NoneType; it must be a number."),
    "alpha array": (
        {"alpha": np.ones(3)},
        tw.ScalarError,
        "gemm: alpha is of type ndarray of shape (3,); pass alpha.item(); it must be a number.",
    ),
    "alpha decimal": ({"alpha": Decimal(2)}, tw.ScalarError, "gemm: alpha is of type Decimal; it must be a number."),
    "alpha complex": (
        {"alpha": 2j},
        tw.ScalarError,
        "gemm: alpha is complex (2j) but the arrays are real; pass alpha.real, or complex arrays.",
    ),
    "beta complex": ({"beta": np.complex64(1), "out": C.copy()}, tw.ScalarError, "gemm: beta is complex"),
    "beta text": ({"beta": b"0"}, tw.ScalarError, "gemm: beta is of type bytes; it must be a number."),
    "beta without out": (
        {"beta": 1, "out": None},
        tw.ArgumentError,
        "gemm: beta is 1 but there is no out for it to multiply; pass out, or leave beta at 0.",
    ),
    "trans_a": (
        {"trans_a": "H"},
        tw.ArgumentError,
        "gemm: trans_a is 'H'; it must be 'N', 'T' (transpose) or 'C' (conjugate transpose).",
    ),
    "trans_b": ({"trans_b": "n"}, tw.ArgumentError, "gemm: trans_b is 'n'; it must be 'N', 'T'"),
    "trans bool": ({"trans_a": True}, tw.ArgumentError, "gemm: trans_a is True; it must be 'N', 'T'"),
    "trans unhashable": ({"trans_b": ["N"]}, tw.ArgumentError, "gemm: trans_b is ['N']; it must be 'N', 'T'"),
}


@pytest.mark.parametrize(("change", "error", "message"), CASES.values(), ids=CASES)
def test_the_error_names_the_culprit_and_nothing_changes(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    """A check that is missing, comes after the first store, or blames the wrong argument."""
    arguments: dict[str, Any] = {"a": A, "b": B, "out": np.full((8, 4), 7.0), **change}
    before = {name: x.tobytes() for name, x in arguments.items() if isinstance(x, np.ndarray)}
    with pytest.raises(error) as caught:
        tw.gemm(**arguments)
    assert message in str(caught.value)
    assert isinstance(caught.value, tw.TilewrightError)
    assert {name: x.tobytes() for name, x in arguments.items() if isinstance(x, np.ndarray)} == before


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("beta", [0, 1])
def test_out_that_shares_elements_with_an_operand_is_refused(name: str, beta: int) -> None:
    """C written while A is still read: right for one tile, wrong for two."""
    memory = np.arange(72.0)
    square = np.eye(6)
    shared = memory[:36].reshape(6, 6)
    others = {"a": square, "b": square, name: shared}
    for out in (shared, shared.T, shared[::-1], memory[35:71].reshape(6, 6), memory[:72:2].reshape(6, 6)):
        before = memory.copy()
        with pytest.raises(
            tw.OverlapError, match=f"gemm: out shares memory with {name}, .*; pass a separate out, or {name}.copy"
        ):
            tw.gemm(others["a"], others["b"], out=out, beta=beta)
        assert np.array_equal(memory, before)


def test_errors_are_caught_by_those_who_know_only_the_builtins() -> None:
    """A base class lost in a refactoring."""
    assert issubclass(tw.ShapeError, ValueError)
    assert issubclass(tw.OverlapError, ValueError)
    assert issubclass(tw.LayoutError, ValueError)
    assert issubclass(tw.ArgumentError, ValueError)
    assert issubclass(tw.DtypeError, TypeError)
    assert issubclass(tw.ScalarError, TypeError)
    assert issubclass(tw.IsaError, RuntimeError)


class Hostile:
    """Raises from wherever it is asked to be an array or a number."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("no array today")


def test_an_object_that_fails_to_be_an_array_is_named() -> None:
    """Somebody else's exception, without a word on which argument it was."""
    with pytest.raises(
        tw.DtypeError, match=r"gemm: a \(Hostile\) cannot be seen as an array \(no array today\)"
    ) as caught:
        tw.gemm(Hostile(), B)
    assert isinstance(caught.value.__cause__, RuntimeError)


class Unspeakable:
    """Its repr raises, and so does every question about its class."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("no class")


@pytest.mark.parametrize("name", ["a", "b", "out", "alpha", "beta", "trans_a", "trans_b"])
def test_an_object_that_cannot_be_shown_is_refused_all_the_same(name: str) -> None:
    """The exception of a repr or a class in place of ours."""
    arguments: dict[str, Any] = {"a": A, "b": B, "out": C.copy(), name: Unspeakable()}
    for call in (tw.gemm, tw.gemm_batch, tw.gemm_plan(8, 4, 5, np.float64)):
        if not (isinstance(call, tw.Plan) and name.startswith("trans")):
            with pytest.raises(tw.TilewrightError, match=f"{name} .*Unspeakable"):
                call(**arguments)


def test_a_plan_of_what_cannot_be_shown_is_refused() -> None:
    """As above."""
    fits: dict[str, Any] = {"m": 1, "n": 1, "k": 1, "dtype": float}
    for name in ("m", "dtype", "trans_a", "ldb"):
        with pytest.raises(tw.TilewrightError, match=f"{name} is .*Unspeakable"):
            tw.gemm_plan(**{**fits, name: Unspeakable()})


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="numpy before 2.0 has no such type")
@pytest.mark.parametrize("name", ["a", "b", "out"])
def test_strings_of_any_length_are_refused(name: str) -> None:
    """A type without a byte order, asked for it."""
    strings = np.full((8, 5), "x", np.dtypes.StringDType())
    with pytest.raises(tw.DtypeError, match=f"gemm: {name} has dtype StringDType"):
        tw.gemm(**{"a": A, "b": B, "out": C.copy(), name: strings})


@pytest.mark.parametrize("dtype", "fdFD")
@pytest.mark.parametrize("sign", [1, -1])
def test_a_scalar_beyond_the_type_is_infinite(dtype: Any, sign: int) -> None:
    """One large number refused and another taken."""
    x = np.eye(2, dtype=dtype)[:, :1]
    for large in (10**400, Fraction(10**400), np.longdouble("1e400") if np.finfo("g").max > 1e400 else 10**400):
        result = tw.gemm(x[:1], x[:1], alpha=sign * large)
        assert result.real[0, 0] == sign * np.inf
    if dtype in "fF":
        assert tw.gemm(x[:1], x[:1], alpha=sign * 1e300).real[0, 0] == sign * np.inf
        assert tw.gemm(x[:1], x[:1], alpha=sign * 10**300).real[0, 0] == sign * np.inf


def test_out_of_many_interleaved_lines_is_checked_in_little_memory() -> None:
    """A list of all lines: gigabytes for an answer of one bit."""
    memory = np.zeros(2**24)
    tracemalloc.start()
    interleaved = np.lib.stride_tricks.as_strided(memory, (2**22, 2), (16, 56))
    repeated = np.lib.stride_tricks.as_strided(memory, (2**22, 3), (16, 32))
    repeats = np.lib.stride_tricks.as_strided(memory, (2**9, 2**9, 2**9), (8, 16, 24))
    check_out(interleaved, ())
    for out in (repeated, repeats):
        with pytest.raises(tw.OverlapError, match="elements of out share memory with each other"):
            check_out(out, ()) if out.ndim == 2 else _check_stack(out, A, B)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**20
