"""Linear layers in C: exact on integers, activations within their stated errors, nothing touched that is not theirs."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilewright.runtime as tw
from tilewright.runtime._library import ffi, lib, text

from .guarded import guarded
from .problems import DTYPES, RUNNABLE, Array, forced, integers
from .test_batch_threads import threads

FLOAT = np.dtype(np.float32)
ROW = lib.TW_ROW_MAJOR
KINDS = {"none": 0, "relu": 1, "silu": 2, "gelu": 3, "gelu_tanh": 4}
SIZES = st.sampled_from([1, 2, 5, 8, 9, 17, 48, 50, 97, 200])


def packed(w: Array) -> Array:
    out, features = w.shape
    what = ord("s"), ROW, ord("B"), ord("T"), features, out
    size = ffi.new("int64_t *")
    assert lib.tw_pack_size(*what, size) == lib.TW_OK
    room = np.zeros(size[0] + 64, np.uint8)
    room = room[-room.ctypes.data % 64 :][: size[0]]
    assert lib.tw_pack(*what, ffi.NULL, at(w), max(features, 1), at(room)) == lib.TW_OK
    return room


def at(array: Array | None) -> Any:
    return ffi.NULL if array is None else ffi.cast("void *", array.ctypes.data)


def linear(
    x: Array, weight: Array, out: int, bias: Array | None = None, activation: int = 0, threads: int = 1, gap: int = 0
) -> Array:
    """Call tw_slinear with `gap` elements of 99 behind each row, which must stay."""
    tokens, features = x.shape
    wide_x = np.full((tokens, features + gap), 99, FLOAT)
    wide_x[:, :features] = x
    y = np.full((tokens, out + gap), np.nan if not gap else 99, FLOAT)
    y[:, :out] = np.nan
    status = lib.tw_slinear(
        tokens, out, features, at(wide_x), max(features + gap, 1), at(weight), at(bias), activation, threads, at(y),
        max(out + gap, 1),
    )  # fmt: skip
    assert status == lib.TW_OK, text(lib.tw_error_message())
    assert np.all(y[:, out:] == 99)
    return y[:, :out]


@pytest.mark.parametrize("isa", RUNNABLE)
@given(
    tokens=st.sampled_from([0, 1, 2, 3, 4, 5, 8, 9, 17, 33, 70]), out=SIZES,
    features=st.sampled_from([0, 1, 3, 40, 300, 1100]), biased=st.booleans(), relu=st.booleans(),
    threads=st.sampled_from([1, 2]), gap=st.sampled_from([0, 3]),
)  # fmt: skip
@settings(max_examples=60)
def test_exact_on_integers(
    isa: str, tokens: int, out: int, features: int, biased: bool, relu: bool, threads: int, gap: int
) -> None:
    """A tile finished twice, never, before its last block of k, or with its neighbour's bias."""
    rng = np.random.default_rng(3)
    x, w, b = (integers(rng, shape, FLOAT) for shape in ((tokens, features), (out, features), (1, out)))
    wanted = x.astype(float) @ w.T.astype(float) + (b if biased else 0)
    with forced(isa):
        got = linear(x, packed(w), out, b if biased else None, KINDS["relu" if relu else "none"], threads, gap)
    assert np.array_equal(got, np.maximum(wanted, 0) if relu else wanted)


def activations(z: Array, name: str) -> tuple[Array, Array]:
    """What an activation is, and the error that tilewright.h allows."""
    erfc = np.vectorize(math.erfc, otypes=[float])
    gated = np.sqrt(8 / np.pi) * (z + 0.044715 * z**3) if name == "gelu_tanh" else z
    with np.errstate(over="ignore"):
        share = 0.5 * erfc(-z / np.sqrt(2)) if name == "gelu" else 1 / (1 + np.exp(-gated))
    factor = {"silu": 4 + 0 * z, "gelu": 8 + z**2, "gelu_tanh": 4 + 4 * np.abs(gated)}[name]
    return z * share, factor * 2.0**-24 * np.abs(z * share) + 2.0**-110


@pytest.mark.parametrize("isa", RUNNABLE)
@pytest.mark.parametrize("name", ["silu", "gelu", "gelu_tanh"])
def test_activations_against_float64(isa: str, name: str) -> None:
    """A wrong digit of a polynomial, cancellation on the negative side, an overflow. Without features y is act(b)."""
    rng = np.random.default_rng(4)
    scales = np.array([1e-30, 1e-3, 0.1, 1, 5, 20])
    z = np.concatenate([np.linspace(-95, 95, 5003), (rng.standard_normal((2000, 1)) * scales).ravel()]).astype(FLOAT)
    with forced(isa):
        got = linear(np.empty((1, 0), FLOAT), packed(np.empty((len(z), 0), FLOAT)), len(z), z, KINDS[name])
    exact, allowed = activations(z.astype(float), name)
    off = np.abs(got[0] - exact) > allowed
    assert not off.any(), (z[off][:5], got[0][off][:5], exact[off][:5])


@pytest.mark.parametrize("name", KINDS)
def test_special_values(name: str) -> None:
    """NaN that a comparison turns into a number; infinity clamped to a large one."""
    z = np.array([np.nan, np.inf, -np.inf, 0, 3e38, -3e38] * 4, FLOAT)
    with np.errstate(invalid="ignore"):
        got = linear(np.ones((2, 1), FLOAT), packed(z[:, None]), len(z), None, KINDS[name])
    gone = {"none": -np.inf, "relu": 0.0}.get(name, np.nan)
    least = -3e38 if name == "none" else 0
    wanted = np.array([np.nan, np.inf, gone, 0, 3e38, least] * 4, FLOAT)
    assert np.array_equal(got, np.stack([wanted] * 2), equal_nan=True)


@given(tokens=st.integers(1, 40), out=st.integers(1, 120), features=st.integers(1, 700))
@settings(max_examples=50)
def test_within_the_elementwise_bound(tokens: int, out: int, features: int) -> None:
    """A bias added in the wrong block of k loses more than its own rounding; (k + 3) u (|x| |w| + |b|)."""
    rng = np.random.default_rng(tokens)
    x, w = rng.standard_normal((tokens, features)).astype(FLOAT), rng.standard_normal((out, features)).astype(FLOAT)
    b = rng.standard_normal(out).astype(FLOAT)
    got = linear(x, packed(w), out, b)
    exact = x.astype(float) @ w.T.astype(float) + b
    bound = (features + 3) * 2.0**-24 * (np.abs(x).astype(float) @ np.abs(w).T.astype(float) + np.abs(b))
    assert np.all(np.abs(got - exact) <= bound)


@pytest.mark.parametrize("at_end", [True, False], ids=["end", "begin"])
def test_between_guard_pages(at_end: bool) -> None:
    """Eight lanes of bias or y read where three are left; two panels at once where one is left."""
    rng = np.random.default_rng(5)
    for isa in RUNNABLE:
        for tokens, out, features in ((1, 1, 1), (3, 49, 17), (9, 33, 300), (60, 7, 20), (2, 250, 9), (17, 250, 30)):
            x, w = integers(rng, (tokens, features), FLOAT), integers(rng, (out, features), FLOAT)
            b = integers(rng, (1, out), FLOAT)
            near_x, near_b = guarded(x, at_end), guarded(b, at_end)
            y = guarded(np.zeros((tokens, out), FLOAT), at_end)
            with forced(isa):
                room = packed(w)
                weight = guarded(room.reshape(1, -1).view(np.float32), at_end)
                status = lib.tw_slinear(
                    tokens, out, features, at(near_x), features, at(weight), at(near_b), 1, 1, at(y), out
                )
            assert status == lib.TW_OK
            assert np.array_equal(y, np.maximum(x @ w.T + b, 0))


@pytest.mark.parametrize("isa", RUNNABLE)
@pytest.mark.parametrize("tokens", [1, 4, 8, 17, 40, 130])
def test_weights_that_come_from_memory(isa: str, tokens: int) -> None:
    """The second of two panels taken from where the first goes on; a pair of them given to two threads."""
    rng = np.random.default_rng(tokens)
    for out, features in ((245, 2500), (1000, 70), (48, 1030)):
        x, w = integers(rng, (tokens, features), FLOAT), integers(rng, (out, features), FLOAT)
        b = integers(rng, (1, out), FLOAT)
        with forced(isa), threads(3):
            room = packed(w)
            for most in (1, 2, 3):
                got = linear(x, room, out, b, KINDS["relu"], most)
                assert np.array_equal(got, np.maximum(x @ w.T + b, 0)), (out, features, most)


@pytest.mark.parametrize("kind", DTYPES, ids=str)
@given(lines=SIZES, k=st.sampled_from([1, 3, 40, 300]), in_place=st.booleans())
@settings(max_examples=40)
def test_unpacking_gives_the_same_bits(kind: np.dtype[Any], lines: int, k: int, in_place: bool) -> None:
    """A last panel turned at full width; NaN quietened or -0 lost on the way."""
    rng = np.random.default_rng(6)
    x = rng.integers(0, 256, lines * k * kind.itemsize, np.uint8).view(kind).reshape(lines, k)
    for isa in RUNNABLE:
        with forced(isa):
            what = ord("sdcz"[DTYPES.index(kind)]), ROW, ord("A"), ord("N")
            room = np.zeros(128 + x.nbytes, np.uint8)
            assert lib.tw_pack(*what, lines, k, ffi.NULL, at(x), k, at(room)) == lib.TW_OK
            back = room[128:] if in_place else np.zeros(x.nbytes, np.uint8)
            assert lib.tw_unpack(at(room), len(room), at(back)) == lib.TW_OK
            assert back.tobytes() == x.tobytes()


def test_any_number_of_threads_gives_the_same_bits() -> None:
    """Threads that finish each other's tiles, or cut k."""
    rng = np.random.default_rng(7)
    w, x = rng.standard_normal((700, 900)).astype(FLOAT), rng.standard_normal((40, 900)).astype(FLOAT)
    b, weight, before = rng.standard_normal(700).astype(FLOAT), packed(w), tw.get_num_threads()
    tw.set_num_threads(4)
    try:
        for tokens in (1, 7, 40):
            ways = [linear(x[:tokens], weight, 700, b, KINDS["silu"], threads) for threads in (1, 2, 3, 0)]
            assert all(np.array_equal(ways[0], way) for way in ways)
    finally:
        tw.set_num_threads(before)


def test_wrong_arguments_are_refused_before_anything_is_written() -> None:
    """Each by its number, in words; y as it was."""
    x, w, y = np.ones((2, 3), FLOAT), packed(np.ones((4, 3), FLOAT)), np.full((2, 4), 7, FLOAT)
    right: dict[str, Any] = {
        "tokens": 2, "out": 4, "in": 3, "x": at(x), "ldx": 3, "packed": at(w), "bias": ffi.NULL, "activation": 0,
        "threads": 1, "y": at(y), "ldy": 4,
    }  # fmt: skip
    edited = w.copy()
    edited[24] ^= 1
    other = packed(np.ones((3, 4), FLOAT))
    wrongs: list[tuple[str, Any, int, str]] = [
        ("tokens", -1, 1, "tokens is -1; it must be 0 or more"), ("out", -1, 2, "out is -1"), ("in", -1, 3, "in is -1"),
        ("x", ffi.NULL, 4, "x is NULL"), ("ldx", 2, 5, "ldx is 2; it must be 3 or more"),
        ("tokens", 2**62, 1, "beyond what an address can hold"),
        ("packed", ffi.NULL, 6, "packed is NULL"), ("activation", 5, 8, "activation is 5; it must be"),
        ("activation", -1, 8, "activation is -1"), ("threads", -1, lib.TW_ERROR_THREADS, "-1 threads; it must be 1 to"),
        ("y", ffi.NULL, 10, "y is NULL"), ("ldy", 3, 11, "ldy is 3; it must be 4 or more"),
        ("packed", at(other), lib.TW_ERROR_PACKED, "has 3 lines of 4 steps but the plan takes"),
        ("packed", at(edited), lib.TW_ERROR_PACKED, "was edited or damaged"),
    ]  # fmt: skip
    for name, value, status, words in wrongs:
        assert lib.tw_slinear(*{**right, name: value}.values()) == status, name
        assert words in text(lib.tw_error_message())
    assert np.all(y == 7)
    assert lib.tw_unpack(at(edited), len(edited), at(y)) == lib.TW_ERROR_PACKED
    assert lib.tw_unpack(at(w), len(w), ffi.NULL) == 3
    assert lib.tw_slinear(*right.values()) == lib.TW_OK
    assert np.all(y == 3)


def test_verbose_counts_them() -> None:
    """A product that no trace shows."""
    code = (
        "from tests.runtime.test_linear import *\n"
        "for _ in range(3): linear(np.ones((2, 60), FLOAT), packed(np.ones((70, 60), FLOAT)), 70)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "TILEWRIGHT_VERBOSE": "1"}, capture_output=True, text=True,
        check=True,
    ).stderr  # fmt: skip
    assert "3 x sgemm row-major NT m=2 n=70 k=60" in said
    assert "packed" in said
