"""Operands packed once: exact in every plan that takes them, refused wherever they do not belong."""

from __future__ import annotations

import os
import pickle
import pickletools
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilewright.runtime as tw
from tilewright.runtime import reuse, tuning
from tilewright.runtime._library import ffi, lib, text

from ..support import ROOT
from .guarded import guarded
from .problems import DTYPES, LAYOUTS, RUNNABLE, Array, forced, integers, place

SIZES = st.sampled_from([1, 2, 5, 8, 9, 17, 48, 50, 97, 250])
OPERATIONS: dict[str, Any] = {"N": lambda x: x, "T": lambda x: x.T, "C": lambda x: x.T.conj()}


@pytest.mark.parametrize("isa", RUNNABLE)
@given(
    dtype=st.sampled_from(DTYPES), sizes=st.tuples(SIZES, SIZES, st.sampled_from([1, 3, 40, 300])),
    trans=st.tuples(*[st.sampled_from("NTC")] * 2), side=st.sampled_from("ab"), layout=st.sampled_from(LAYOUTS),
    scalars=st.tuples(*[st.sampled_from([0, 1, -2, 2 - 1j])] * 3), copied=st.booleans(),
)  # fmt: skip
@settings(max_examples=60)
def test_a_packed_operand_is_exact_in_plans_of_any_other_size(
    isa: str, dtype: np.dtype[Any], sizes: tuple[int, int, int], trans: tuple[str, str], side: str, layout: str,
    scalars: tuple[complex, complex, complex], copied: bool,
) -> None:  # fmt: skip
    """Panels that depend on the other operand; alpha or conjugation lost, or applied twice; pointers in the bytes."""
    m, n, k = sizes
    alpha, beta, folded = scalars if dtype.kind == "c" else (x.real for x in scalars)
    rng = np.random.default_rng(17)
    a, b = integers(rng, (m, k), dtype), integers(rng, (k, n), dtype)
    as_stored = tuple(np.ascontiguousarray(OPERATIONS[t](x)) for t, x in zip(trans, (a, b), strict=True))
    with forced(isa):
        first = tw.skinny_plan(m, n, k, dtype, trans_a=trans[0], trans_b=trans[1], pack=side)
        packed = first.pack(place(as_stored[side == "b"], layout)[0], alpha=folded)
        if copied:
            packed = pickle.loads(pickle.dumps(packed))
        for other in (first.n if side == "a" else first.m, 1, 33):
            size = (m, other) if side == "a" else (other, n)
            x = a if side == "a" else integers(rng, (other, k), dtype)
            y = b if side == "b" else integers(rng, (k, other), dtype)
            plan = tw.skinny_plan(*size, k, dtype, trans_a=trans[0], trans_b=trans[1], pack=side, threads=2)
            seen_x, seen_y = (np.ascontiguousarray(OPERATIONS[t](z)) for t, z in zip(trans, (x, y), strict=True))
            out = integers(rng, size, dtype)
            wanted = alpha * folded * (x @ y) + beta * out
            plan(packed if side == "a" else seen_x, packed if side == "b" else seen_y, out, alpha=alpha, beta=beta)
            assert np.array_equal(out, wanted.astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("at_end", [True, False], ids=["end", "begin"])
def test_packing_and_panels_between_guard_pages(dtype: np.dtype[Any], at_end: bool) -> None:
    """A last panel padded to full width, written or read past the bytes that tw_pack_size asks for."""
    rng = np.random.default_rng(5)
    letter = ord("sdcz"[DTYPES.index(dtype)])
    for isa in RUNNABLE:
        for rows, columns in ((1, 1), (7, 5), (49, 33), (33, 49), (100, 17)):
            x = integers(rng, (rows, columns), dtype)
            source = guarded(x, at_end)
            with forced(isa):
                for operand in "AB":
                    what = letter, lib.TW_ROW_MAJOR, ord(operand), ord("N"), rows, columns
                    size = ffi.new("int64_t *")
                    assert lib.tw_pack_size(*what, size) == lib.TW_OK
                    room = guarded(np.zeros((size[0] // 4, 4), np.uint8).reshape(1, -1), at_end)
                    into = ffi.cast("void *", room.ctypes.data)
                    at = ffi.cast("void *", source.ctypes.data)
                    assert lib.tw_pack(*what, ffi.NULL, at, columns, into) == lib.TW_OK
                    assert lib.tw_packed_check(into, size[0]) == lib.TW_OK
                    if operand == "A":
                        made = ffi.new("tw_gemm_plan **")
                        other = guarded(integers(rng, (columns, 3), dtype), at_end)
                        out = guarded(np.zeros((rows, 3), dtype), at_end)
                        assert not lib.tw_skinny_plan_create(
                            made, letter, lib.TW_ROW_MAJOR, ord("N"), ord("N"), rows, 3, columns, 0, 3, 3, ord("A"), 9,
                            0, 0,
                        )  # fmt: skip
                        y, z = (ffi.cast("void *", array.ctypes.data) for array in (other, out))
                        assert not lib.tw_gemm_plan_execute_packed(made[0], ffi.NULL, into, y, ffi.NULL, z)
                        lib.tw_gemm_plan_destroy(made[0])
                        assert np.array_equal(out, x @ other)


@pytest.mark.parametrize("trans", "NTC")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_panels_of_an_operand_that_no_cache_holds(dtype: np.dtype[Any], trans: str) -> None:
    """What is written around the caches: lines beyond whole registers, steps beyond whole blocks, the second pass."""
    side = 1 + int(((13 << 20) / dtype.itemsize) ** 0.5)
    x = np.arange(side * side).reshape(side, side).astype(dtype)
    if dtype.kind == "c":
        x.imag = -x.real[::-1]
    stored = np.ascontiguousarray(OPERATIONS[trans](x))
    for isa in RUNNABLE:
        with forced(isa):
            content = tw.skinny_plan(side, 2, side, dtype, trans_a=trans, pack="a").pack(stored)._bytes
        width = int.from_bytes(content[14:16].tobytes(), sys.byteorder)
        whole = side // width * width
        wanted = x[:whole].reshape(-1, width, side).transpose(0, 2, 1).ravel(), x[whole:].T.ravel()
        assert np.array_equal(content[128:].view(dtype), np.concatenate(wanted))


@pytest.mark.parametrize("isa", RUNNABLE)
@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
@pytest.mark.parametrize("few", [1, 2, 3, 4])
def test_two_panels_at_once_are_added_once(isa: str, dtype: np.dtype[Any], few: int) -> None:
    """Two panels taken and one counted: every second one is added to C twice; the other panel sought a block away."""
    rng = np.random.default_rng(few)
    for n, k in ((245, 40), (481, 2500)):
        a, b, c = (integers(rng, shape, dtype) for shape in ((few, k), (k, n), (few, n)))
        with forced(isa):
            plan = tw.skinny_plan(few, n, k, dtype, pack="b")
            assert np.array_equal(plan(a, plan.pack(b), c.copy(), beta=2), a @ b + 2 * c)


def _plan(**changes: Any) -> tuple[Any, Array, Array]:
    rng = np.random.default_rng(1)
    plan = tw.skinny_plan(60, 4, 50, changes.pop("dtype", np.float32), pack="a", **changes)
    return plan, rng.standard_normal((60, 50)).astype(plan.dtype), rng.standard_normal((50, 4)).astype(plan.dtype)


def test_what_does_not_belong_is_refused_before_anything_is_written() -> None:
    """A product of another matrix's bytes, or a crash."""
    plan, a, b = _plan()
    packed = plan.pack(a)
    out = np.full((60, 4), 7, np.float32)
    wide, *_ = _plan(dtype=np.float64)
    other_side = tw.skinny_plan(50, 60, 60, np.float32, pack="b").pack(np.ones((60, 60), np.float32))
    longer = tw.skinny_plan(61, 4, 50, np.float32, pack="a").pack(np.ones((61, 50), np.float32))
    for wrong, words in (
        (a, "a is a ndarray but this plan takes it packed; pass plan.pack(a)"),
        (other_side, "a was packed with operand b but the plan takes a"),
        (longer, "a was packed with shape of op(x) (61, 50) but the plan takes (60, 50)"),
        (wide.pack(a.astype(np.float64)), "a was packed with dtype float64 but the plan takes float32"),
    ):
        with pytest.raises(tw.PackedError) as refused:
            plan(wrong, b, out)
        assert words in str(refused.value)
    with pytest.raises(tw.OverlapError):
        plan(packed, out.reshape(-1)[:200].reshape(50, 4), out)
    assert np.all(out == 7)
    with pytest.raises(tw.ShapeError):
        plan.pack(a[:, :-1])
    with pytest.raises(tw.DtypeError):
        plan.pack(a.astype(np.float64))
    if len(RUNNABLE) > 1:
        with forced(RUNNABLE[-1]):
            elsewhere = tw.skinny_plan(60, 4, 50, np.float32, pack="a")
        with pytest.raises(tw.PackedError, match=f"packed for {RUNNABLE[0]} but the plan runs on {RUNNABLE[-1]}"):
            elsewhere(packed, b, out)
    assert np.allclose(plan(packed, b), a @ b, atol=1e-4)


def test_damaged_pickles_are_refused() -> None:
    """Cut off, edited or foreign bytes that are multiplied with."""
    plan, a, _ = _plan()
    packed = plan.pack(a)
    side, shape, name, content, checksum = packed.__getstate__()
    edited_header = bytearray(content)
    edited_header[24] ^= 1
    edited_panel = bytearray(content)
    edited_panel[300] ^= 1
    newer = bytearray(content)
    newer[8] += 1
    for state, words in (
        ((side, shape, name, content[:-1], checksum), "cut off"),
        ((side, shape, name, content + b"x", checksum), "followed by something else"),
        ((side, shape, name, content[:100], checksum), "its header alone has 128"),
        ((side, shape, name, bytes(edited_header), checksum), "edited or damaged"),
        ((side, shape, name, bytes(edited_panel), checksum), "edited or damaged"),
        ((side, shape, name, bytes(newer), checksum), "another version"),
        ((side, shape, name, b"x" * 500, checksum), "not a packed operand"),
        ((side, shape, "int8", content, checksum), "does not hold a packed operand"),
        ((side, "60", name, content, checksum), "does not hold a packed operand"),
        ("nonsense", "does not hold a packed operand"),
    ):
        fresh = tw.Packed.__new__(tw.Packed)
        with pytest.raises(tw.PackedError) as refused:
            fresh.__setstate__(state)
        assert words in str(refused.value)
    whole = pickle.dumps(packed)
    with pytest.raises((pickle.UnpicklingError, EOFError)):
        pickle.loads(whole[: len(whole) // 2])


def test_a_pickle_holds_nothing_but_bytes() -> None:
    """A pickle that runs code when it is read."""
    plan, a, _ = _plan()
    named = {
        argument
        for operation, argument, _ in pickletools.genops(pickle.dumps(plan.pack(a), protocol=0))
        if operation.name == "GLOBAL"
    }
    assert named <= {"copy_reg _reconstructor", "copyreg _reconstructor", "copyreg __newobj__",
                     "tilewright.runtime.packed Packed", "__builtin__ object", "builtins object",
                     "_codecs encode"}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pack": "c"}, "pack is 'c'; it must be 'a', 'b', 'auto' or None"),
        ({"reuse": 0}, "reuse is 0; it must be an integer, 1 or more"),
        ({"threads": 0}, "threads is 0; it must be an integer, 1 or more"),
        ({"threads": 10**6}, "threads is 1000000; it must be 1 to 1024"),
        ({"threads": True}, "threads is True"),
        ({"reproducible": 2}, "reproducible is 2; it must be True, False or None"),
    ],
)
def test_options_outside_their_values(changes: dict[str, Any], words: str) -> None:
    """A wrong option that is taken for a default."""
    with pytest.raises(tw.ArgumentError) as refused:
        tw.skinny_plan(8, 8, 8, np.float32, **changes)
    assert words in str(refused.value)


def test_panels_are_as_wide_as_their_kernels() -> None:
    """Widths in panels.c and in specs/packed.yaml that differ: whole panels would go to kernels for edges."""
    names = [text(lib.tw_kernel_name(index)) for index in range(lib.tw_kernel_total())]
    tiles = {(name, *map(int, name.split("__")[0].rsplit("_", 1)[1].split("x"))) for name in names if "_packed" in name}
    for isa in (isa for isa in RUNNABLE if isa != "scalar"):
        for dtype, letter in zip(DTYPES, "sdcz", strict=True):
            with forced(isa):
                plan = tw.skinny_plan(300, 3, 300, dtype, pack="b", trans_b="T")
                header = bytes(plan.pack(np.ones((3, 300), dtype)).__getstate__()[3][:16])
            width = int.from_bytes(header[14:16], sys.byteorder)
            here = [tile for tile in tiles if f"_{letter}_" in tile[0] and f"__{isa}_" in tile[0]]
            mine = [(m, n, "_turned" in name) for name, m, n in here if "_twin" not in name]
            assert {m for name, m, _ in here if "_twin" in name} <= {2 * width}
            few = max(n for m, n, turned in mine if not turned)
            plain = {(width, lines, False) for lines in range(1, few + 1)}
            assert set(mine) == plain | {(lines, width, True) for lines in range(1, few + 1)}


def test_nothing_is_packed_where_nobody_measured() -> None:
    """A guess taken for knowledge; explain says what is missing."""
    plan = tw.skinny_plan(4000, 64, 4000, np.float32, reuse=10**9)
    assert plan.packs is None
    assert "was not measured: tune() does" in str(tw.explain(plan))


DECIDED = """
import sys, numpy as np, tilewright.runtime as tw
def packs(*what, threads=1, **rest): return tw.skinny_plan(*what, threads=threads, **rest).packs
s, far, near = np.float32, 8192, 512
assert packs(far, 64, far, s, reuse=1000) is None        # saves nothing
assert [packs(far, 4, far, s, reuse=r) for r in (7, 9)] == [None, "a"]    # pays after 4
assert packs(far, 3, far, s, reuse=9) == "a"             # between 2 and 4 lines
assert packs(4, far, far, s, reuse=9, trans_b="T") == "b"
assert packs(far, 4, far, s, reuse=9, trans_a="T") is None    # across k: measured to save nothing
assert packs(near, 4, near, s, reuse=19) is None and packs(near, 4, near, s, reuse=21) == "a"
assert packs(far, 600, far, s, reuse=10**6) is None      # in proportion beyond 256
assert packs(100, 4, far, s, reuse=10**9) is None and packs(far, 4, 100, s, reuse=10**9) is None   # not measured
assert packs(far, 4, far, np.float64, reuse=10**9) is None
assert packs(far, 4, far, s, threads=2, reuse=10**9) is None      # two threads: measured to save nothing
x = np.ones((near, near), s)
assert tw.skinny_plan(near, 64, near, s).pack(x) is x
how = tw.explain(tw.skinny_plan(far, 4, far, s, reuse=100, threads=1))
assert how.path == "packed" and how.blocks.formats[0] == "packed by plan.pack", how
assert np.isclose(how.blocks.payback, 4) and "pays after 4.0 products" in str(how)
assert np.isclose(how.blocks.seconds, far * far * 100e-12) and np.isclose(how.blocks.packing, far * far * 400e-12)
print(how.blocks.kernel)
"""


def test_packing_is_decided_by_what_was_measured(tmp_path: Path) -> None:
    """Packing that never pays, or one that is not done though it does; a cell taken for another; explain says which."""
    cells = {cell: [400_000, *[100_000, 100_000] * 9] for cell in reuse._cells()}
    for lines in range(3):  # 1, 2 and 4 lines: saves 100 of 200
        cells["s along far one"][1 + 2 * lines] = 200_000
        cells["s along near one"][1 + 2 * lines] = 140_000
    data = tuning.compiled_form(
        text(lib.tw_machine()), text(lib.tw_kernels_digest()), tuning._kernels(), {}, {},
        reuse.Packing(text(lib.tw_isa_name(lib.tw_isa_current())), cells),
    )  # fmt: skip
    assert lib.tw_tuning_check(data, len(data)) == lib.TW_OK
    environment = {**os.environ, "TILEWRIGHT_TUNING": str(tmp_path)}
    where = "from tilewright.runtime._library import *; print(text(lib.tw_tuning_path()))"
    run = partial(subprocess.run, env=environment, capture_output=True, text=True, cwd=ROOT)
    Path(run([sys.executable, "-c", where]).stdout.strip()).write_bytes(data)
    ran = run([sys.executable, "-c", DECIDED])
    assert ran.returncode == 0, ran.stderr
    assert "_packed" in ran.stdout or ran.stdout.strip() == "None"


def test_sizes_that_no_address_holds() -> None:
    """rows * columns that wraps round to a small allocation."""
    size = ffi.new("int64_t *")
    what = ord("d"), lib.TW_ROW_MAJOR, ord("A"), ord("N")
    assert lib.tw_pack_size(*what, 2**40, 2**40, size) == 6
    assert "beyond what an address can hold" in text(lib.tw_error_message())
    assert lib.tw_pack_size(*what, 2**31 + 1, 3, size) == lib.TW_OK
    assert size[0] == 128 + (2**31 + 1) * 24
    assert lib.tw_pack_size(*what, -1, 3, size) == 5
    assert lib.tw_pack(*what, 4, 4, ffi.NULL, size, 3, size) == 9
