"""Every function of the BLAS library multiplies as its name says, and reports what BLAS would."""

from __future__ import annotations

import ctypes
import mmap
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.blas import Entry

from .entries import COLUMN, DTYPES, OPERATIONS, ROW, Array, gemm, integer, integers, library, named, pointer, scalar

GEMMS = named("gemm", "fortran")
NORESERVE = 0x4000  # Linux's MAP_NORESERVE
SIZES = st.tuples(*[st.integers(0, 19)] * 3)
SCALARS = st.sampled_from([0, 1, -2, 3 + 1j])


def whole(random: np.random.Generator, shape: tuple[int, ...], letter: str) -> Array:
    """Small integers, so that every product is exact."""
    values: Array = random.integers(-9, 10, shape) + (1j * random.integers(-9, 10, shape) if letter in "cz" else 0)
    return np.asarray(values, DTYPES[letter])


def operated(x: Array, trans: str) -> Array:
    result: Array = {"N": x, "T": x.T, "C": x.conj().T}[trans]
    return result


def laid_out(x: Array, layout: int, ld: int) -> Array:
    """The memory of a matrix, lines `ld` apart, 99 between them."""
    lines = x if layout == ROW else x.T
    padded = np.full((max(1, lines.shape[0]), ld), 99, x.dtype)
    padded[: lines.shape[0], : lines.shape[1]] = lines
    return padded


@pytest.mark.parametrize("entry", GEMMS, ids=lambda entry: entry.symbol)
@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_gemm(entry: Entry, data: st.DataObject) -> None:
    """An argument in another's place; integers of the wrong width; a slot that answers for another shape, layout or op.

    Shapes come again and again: repeated calls take another way than the first.
    """
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    layout = COLUMN if entry.function == "fortran" else data.draw(st.sampled_from([ROW, COLUMN]))
    calls = data.draw(
        st.lists(st.tuples(SIZES, st.sampled_from("NTC"), st.sampled_from("NTC")), min_size=1, max_size=3)
    )
    more = data.draw(st.integers(0, 3))
    for (m, n, k), transa, transb in calls * 3:
        alpha, beta = data.draw(SCALARS), data.draw(SCALARS)
        if entry.letter in "sd":
            alpha, beta = alpha.real, beta.real
        a = whole(random, (m, k) if transa == "N" else (k, m), entry.letter)
        b = whole(random, (k, n) if transb == "N" else (n, k), entry.letter)
        c = whole(random, (m, n), entry.letter)
        lds = [max(1, x.shape[layout == ROW]) + more for x in (a, b, c)]
        memory = [laid_out(x, layout, ld) for x, ld in zip((a, b, c), lds, strict=True)]
        wanted = laid_out(alpha * (operated(a, transa) @ operated(b, transb)) + beta * c, layout, lds[2])
        letters = [x.lower() if more == 1 and entry.function == "fortran" else x for x in (transa, transb)]
        gemm(
            entry, layout, letters[0], letters[1], m, n, k, alpha, memory[0], lds[0], memory[1], lds[1], beta,
            memory[2], lds[2],
        )  # fmt: skip
        assert np.array_equal(memory[2], wanted)


@pytest.mark.parametrize("entry", GEMMS, ids=lambda entry: entry.symbol)
def test_thin_products_come_out_the_same_again(entry: Entry) -> None:
    """Operands exchanged from the second call on, where the plan takes a row of C as a column."""
    random = np.random.default_rng(7)
    layouts = [COLUMN] if entry.function == "fortran" else [ROW, COLUMN]
    shapes = product(layouts, (1, 2), (1, 2, 5), (1, 3), "NTC", "NTC")
    for layout, m, n, k, transa, transb in shapes:
        a = whole(random, (m, k) if transa == "N" else (k, m), entry.letter)
        b = whole(random, (k, n) if transb == "N" else (n, k), entry.letter)
        lds = [max(1, x.shape[layout == ROW]) for x in (a, b, np.empty((m, n)))]
        x, y = laid_out(a, layout, lds[0]), laid_out(b, layout, lds[1])
        wanted = laid_out(operated(a, transa) @ operated(b, transb), layout, lds[2])
        for _ in range(3):
            c = np.full_like(wanted, 99)
            gemm(entry, layout, transa, transb, m, n, k, 1, x, lds[0], y, lds[1], 0, c, lds[2])
            assert np.array_equal(c, wanted), (layout, m, n, k, transa, transb)


@pytest.mark.parametrize("entry", named("batch_strided"), ids=lambda entry: entry.symbol)
def test_batch_strided(entry: Entry) -> None:
    """Strides in bytes, or one matrix's stride taken for another's."""
    random = np.random.default_rng(1)
    m, n, k, count = 3, 5, 4, 7
    a, b, c = whole(random, (count, m, k), entry.letter), whole(random, (k, n), entry.letter), np.ones((count, 2, m, n))
    c = c.astype(DTYPES[entry.letter])
    i = [integer(entry, value) for value in (m, n, k, k, m * k, n, 0, n, 2 * m * n, count)]
    getattr(library, entry.symbol)(
        ROW, 111, 111, *i[:3], scalar(entry, 2), pointer(a), i[3], i[4], pointer(b), i[5], i[6], scalar(entry, 3),
        pointer(c), i[7], i[8], i[9],
    )  # fmt: skip
    assert np.array_equal(c[:, 0], 2 * (a @ b) + 3)
    assert np.array_equal(c[:, 1], np.ones((count, m, n)))


@pytest.mark.parametrize("entry", named("batch"), ids=lambda entry: entry.symbol)
def test_batch_in_groups(entry: Entry) -> None:
    """A group that takes the scalars, sizes or pointers of another; one of no products."""
    random = np.random.default_rng(2)
    groups = [(4, 3, 2, "N", "T", 2, 1, 3), (1, 1, 1, "N", "N", 1, 0, 0), (2, 6, 5, "T", "N", -1, 2, 4)]
    matrices: list[tuple[Array, Array, Array, Array]] = []
    for m, n, k, transa, transb, alpha, beta, count in groups:
        for _ in range(count):
            a = whole(random, (m, k) if transa == "N" else (k, m), entry.letter)
            b = whole(random, (k, n) if transb == "N" else (n, k), entry.letter)
            c = whole(random, (m, n), entry.letter)
            matrices.append((a, b, c, alpha * (operated(a, transa) @ operated(b, transb)) + beta * c))
    columns = list(zip(*groups, strict=True))
    sizes = [integers(entry, column) for column in columns[:3]]
    operations = [np.array([OPERATIONS[trans] for trans in column], np.int32) for column in columns[3:5]]
    scalars = [np.array(column, DTYPES[entry.letter]) for column in columns[5:7]]
    lda = integers(entry, [group[2] if group[3] == "N" else group[0] for group in groups])
    ldb = integers(entry, [group[1] if group[4] == "N" else group[2] for group in groups])
    counts = integers(entry, columns[7])
    pointers = [(ctypes.c_void_p * len(matrices))(*(row[x].ctypes.data for row in matrices)) for x in range(3)]
    getattr(library, entry.symbol)(
        ROW, *map(pointer, operations), *map(pointer, [*sizes, scalars[0]]), pointers[0], pointer(lda), pointers[1],
        pointer(ldb), pointer(scalars[1]), pointers[2], pointer(sizes[1]), integer(entry, len(groups)), pointer(counts),
    )  # fmt: skip
    for _, _, c, wanted in matrices:
        assert np.array_equal(c, wanted)


@pytest.mark.parametrize("entry", named("pack"), ids=lambda entry: entry.symbol)
@pytest.mark.parametrize("operand", "AB")
def test_packed_operands(entry: Entry, operand: str, capfd: pytest.CaptureFixture[str]) -> None:
    """An alpha used twice or not at all; rows and columns mistaken; an operation applied again to what was packed."""
    random = np.random.default_rng(3)
    names = ("gemm_compute", "gemm_pack_get_size")
    other = {name: getattr(library, entry.symbol.replace("gemm_pack", name)) for name in names}
    other["gemm_pack_get_size"].restype = ctypes.c_size_t
    for layout, trans, (m, n, k) in [(ROW, "N", (7, 40, 30)), (COLUMN, "T", (65, 6, 33)), (ROW, "C", (30, 31, 1))]:
        a, b, c = (whole(random, shape, entry.letter) for shape in ((m, k), (k, n), (m, n)))
        wanted = 2 * (a @ b) + 3 * c
        held = operated(a if operand == "A" else b, trans)  # its op is the operand
        sizes = [integer(entry, value) for value in (m, n, k)]
        identifier = 161 if operand == "A" else 162
        packed = np.full(other["gemm_pack_get_size"](identifier, *sizes) + 64, 0x55, np.uint8)
        start = -packed.ctypes.data % 16
        size = len(packed) - 64
        place = packed[start : start + size]
        memory = laid_out(held, layout, held.shape[layout == ROW] + 1)
        getattr(library, entry.symbol)(
            layout, identifier, OPERATIONS[trans], *sizes, scalar(entry, 2), pointer(memory),
            integer(entry, memory.shape[1]), pointer(place),
        )  # fmt: skip
        assert (packed[start + size :] == 0x55).all()
        x, y, z = (laid_out(matrix, layout, matrix.shape[layout == ROW]) for matrix in (a, b, c))
        x, y = (place, y) if operand == "A" else (x, place)
        ops = [integer(entry, 151 if name == operand else 111) for name in "AB"]
        lds = [integer(entry, matrix.shape[layout == ROW]) for matrix in (a, b, c)]
        other["gemm_compute"](
            layout, *ops, *sizes, pointer(x), lds[0], pointer(y), lds[1], scalar(entry, 3), pointer(z), lds[2]
        )
        assert np.array_equal(z, laid_out(wanted, layout, wanted.shape[layout == ROW]))
        assert capfd.readouterr().err == ""
        place[8] ^= 1  # a damaged header
        other["gemm_compute"](
            layout, *ops, *sizes, pointer(x), lds[0], pointer(y), lds[1], scalar(entry, 3), pointer(z), lds[2]
        )
        assert (
            f"gemm_compute{entry.symbol.partition('_pack')[2]}: argument {7 if operand == 'A' else 9} is illegal"
            in capfd.readouterr().err
        )


def test_wrong_packing(capfd: pytest.CaptureFixture[str]) -> None:
    """Numbers of tw_pack's arguments in place of the entry's own."""
    x, i, d = np.ones(64), ctypes.c_int32, ctypes.c_double

    def said() -> str:
        return str(capfd.readouterr().err).partition(" is illegal")[0].rpartition(" ")[2]

    library.cblas_dgemm_pack_get_size.restype = ctypes.c_size_t
    for arguments, number in [((0, 2, 2, 2), 1), ((161, -1, 2, 2), 2), ((162, 2, -1, 2), 3), ((162, 2, 2, -1), 4)]:
        assert library.cblas_dgemm_pack_get_size(*arguments) == 0
        assert said() == str(number)
    right = {"layout": ROW, "identifier": 161, "trans": 111, "m": i(2), "n": i(2), "k": i(3), "alpha": d(1),
             "x": pointer(x), "ld": i(3), "packed": pointer(np.zeros(64))}  # fmt: skip
    wrong = [
        ("layout", 0, 1),
        ("identifier", 163, 2),
        ("trans", 0, 3),
        ("m", i(-1), 4),
        ("k", i(-1), 6),
        ("ld", i(2), 9),
    ]
    for name, value, number in [*wrong, ("x", pointer(None), 8), ("packed", pointer(None), 10)]:
        library.cblas_dgemm_pack(*{**right, name: value}.values())
        assert said() == str(number), name
    compute = {"layout": ROW, "transa": i(111), "transb": i(111), "m": i(2), "n": i(2), "k": i(2), "a": pointer(x),
               "lda": i(2), "b": pointer(x), "ldb": i(2), "beta": d(0), "c": pointer(np.zeros(4)),
               "ldc": i(2)}  # fmt: skip
    library.cblas_dgemm_compute(*compute.values())
    assert said() == ""
    for name, value, number in [
        ("transa", i(9), 2),
        ("m", i(-1), 4),
        ("lda", i(1), 8),
        ("ldb", i(1), 10),
        ("ldc", i(1), 13),
    ]:
        library.cblas_dgemm_compute(*{**compute, name: value}.values())
        assert said() == str(number), name
    library.cblas_dgemm_compute(*{**compute, "transa": i(151), "transb": i(151)}.values())
    assert said() == "3"


# --------------------------------------------------------------------------------------------------- bad input

WRONG: list[
    tuple[dict[str, Any], int]
] = [  # what is wrong, and its number for CBLAS; Fortran's, without a layout, is one less
    ({"transa": 0}, 2),
    ({"transb": ord("R")}, 3),
    ({"m": -1}, 4),
    ({"n": -(2**31)}, 5),
    ({"k": -1}, 6),
    ({"lda": 3}, 9),
    ({"lda": -4}, 9),
    ({"ldb": 0}, 11),
    ({"ldc": 3}, 14),
    ({"a": None}, 8),
    ({"b": None}, 10),
    ({"c": None}, 13),
]


@pytest.mark.parametrize("entry", GEMMS, ids=lambda entry: entry.symbol)
def test_wrong_argument(entry: Entry, capfd: pytest.CaptureFixture[str]) -> None:
    """One unnoticed, misnumbered, or noticed after something was written; also where its shape was seen before."""
    x = np.ones((4, 4), DTYPES[entry.letter])
    c = np.full((4, 4), 7, x.dtype)
    arguments: dict[str, Any] = {
        "layout": COLUMN, "transa": "N", "transb": "N", "m": 4, "n": 4, "k": 4, "alpha": 1, "a": x, "lda": 4, "b": x,
        "ldb": 4, "beta": 0, "c": c, "ldc": 4,
    }  # fmt: skip
    for change, number in WRONG * 2:  # the second time the right call's slot is there
        c[:] = 7
        gemm(entry, **{**arguments, **change})
        assert (c == 7).all()
        told = number - 1 if entry.function == "fortran" else number
        assert f"tilewright: {entry.symbol}: argument {told} is illegal: " in capfd.readouterr().err
        gemm(entry, **arguments)
        assert (c == 4).all()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("entry", named("gemm"), ids=lambda entry: entry.symbol)
def test_wrong_layout(entry: Entry, capfd: pytest.CaptureFixture[str]) -> None:
    x = np.ones((2, 2), DTYPES[entry.letter])
    gemm(entry, 100, "N", "N", 2, 2, 2, 1, x, 2, x, 2, 0, x, 2)
    assert f"{entry.symbol}: argument 1 is illegal" in capfd.readouterr().err


def test_wrong_batches(capfd: pytest.CaptureFixture[str]) -> None:
    """Numbers of a single product's arguments, where strides shift them; a count below 0."""
    x = np.ones(8)
    i, d = ctypes.c_int32, ctypes.c_double

    def strided(**change: Any) -> str:
        arguments = {"layout": ROW, "transa": 111, "transb": 111, "m": i(2), "n": i(2), "k": i(2), "alpha": d(1),
                     "a": pointer(x), "lda": i(2), "stridea": i(0), "b": pointer(x), "ldb": i(2), "strideb": i(0),
                     "beta": d(0), "c": pointer(np.zeros(8)), "ldc": i(2), "stridec": i(4), "count": i(2)}  # fmt: skip
        library.cblas_dgemm_batch_strided(*{**arguments, **change}.values())
        return str(capfd.readouterr().err).partition(" is illegal")[0].rpartition(" ")[2]

    assert strided() == ""
    null = ctypes.c_void_p()
    wrong = [("transb", 0, 3), ("k", i(-1), 6), ("a", null, 8), ("lda", i(1), 9), ("b", null, 11), ("ldb", i(1), 12)]
    for name, value, number in [
        *wrong,
        ("c", null, 15),
        ("ldc", i(1), 16),
        ("stridec", i(0), 17),
        ("count", i(-1), 18),
    ]:
        assert strided(**{name: value}) == str(number), name
    none = [ctypes.c_void_p()] * 13
    library.cblas_dgemm_batch(ROW, *none, i(-1), none[0])
    assert "argument 15 is illegal" in capfd.readouterr().err
    library.cblas_dgemm_batch(ROW, *none, i(0), none[0])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("entry", GEMMS, ids=lambda entry: entry.symbol)
def test_pointers_that_are_not_used_may_be_null(entry: Entry, capfd: pytest.CaptureFixture[str]) -> None:
    """A NULL refused, or read, where sizes or scalars leave nothing to do with it."""
    for m, n, k in [(0, 3, 3), (3, 0, 3), (0, 0, 0)]:
        gemm(entry, COLUMN, "N", "N", m, n, k, 1, None, 3, None, 3, 1, None, 3)
    c = np.full((3, 3), 5, DTYPES[entry.letter])
    gemm(entry, COLUMN, "N", "N", 3, 3, 0, 1, None, 3, None, 3, 2, c, 3)
    assert (c == 10).all()
    gemm(entry, COLUMN, "N", "N", 3, 3, 3, 0, None, 3, None, 3, 0, c, 3)
    assert (c == 0).all()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("symbol", ["cblas_sgemm", "cblas_sgemm64_", "sgemm_"])
def test_offsets_beyond_32_bits(symbol: str) -> None:
    """A leading dimension times a column, in 32 bits: memory before A, or nobody's."""
    (entry,) = (entry for entry in GEMMS if entry.symbol == symbol)
    ld = 2**31 - 1
    try:
        memory = mmap.mmap(-1, 4 * (2 * ld + 2), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE)
    except OSError as error:
        pytest.skip(f"this system does not lend 16 GB that nobody touches: {error}")
    a = np.frombuffer(memory, np.float32)
    a[[0, 1, ld, ld + 1, 2 * ld, 2 * ld + 1]] = [1, 2, 3, 4, 5, 6]  # columns of a 2 x 3 matrix
    b, c = np.eye(3, dtype=np.float32), np.zeros((3, 2), np.float32)
    gemm(entry, COLUMN, "N", "N", 2, 3, 3, 1, a, ld, b, 3, 0, c, 2)
    assert c.ravel().tolist() == [1, 2, 3, 4, 5, 6]


def test_sizes_beyond_32_bits(capfd: pytest.CaptureFixture[str]) -> None:
    """A product of sizes that overflows; a size cut to its lower half, which would be 0 or a slot's."""
    (entry,) = (entry for entry in GEMMS if entry.symbol == "cblas_dgemm_64")
    large = 2**40
    gemm(entry, COLUMN, "N", "N", large, 0, large, 1, None, large, None, large, 0, None, large)
    gemm(entry, COLUMN, "N", "N", 0, large, large, 1, None, 1, None, large, 0, None, 1)
    assert capfd.readouterr().err == ""
    x, c = np.full(4, 2.0), np.zeros(1)
    gemm(entry, COLUMN, "N", "N", 1, 1, 4, 1, x, 1, x, 4, 0, c, 1)
    gemm(entry, COLUMN, "N", "N", 1, 1, 4 + 2**32, 1, x, 1, x, 4, 0, c, 1)
    assert "argument 11 is illegal" in capfd.readouterr().err
    gemm(entry, COLUMN, "N", "N", 1, 1, 4, 1, x, 1, x, 4 + 2**32, 1, c, 1)
    gemm(entry, COLUMN, "N", "N", 1, 1, 4, 1, x, 1, x, 4 + 2**32, 1, c, 1)
    assert c[0] == 48
