"""The runtime over kernel tables made for the test: gaps, kernels that are wrong, ISAs without kernels.

The C of the runtime is compiled with a small table of plain C kernels and loaded beside the real library.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cffi import FFI
from hypothesis import given, settings
from hypothesis import strategies as st

import tilewright.runtime as tw

from ..support import ROOT, Unavailable, miss, tool

CSRC = ROOT / "runtime" / "csrc"
ROW = 101

KERNEL = """
static void {name}(const void *a, const void *b, void *c, const tw_args *args)
{{
    for (int j = 0; j < {n}; j++)
        for (int i = 0; i < {m}; i++) {{
            double sum = 0, *out = (double *)((char *)c + j * args->ldc) + i;
            for (int64_t p = 0; p < args->k; p++)
                sum += ((const double *)((const char *)a + {a}))[0] * ((const double *)((const char *)b + {b}))[0];
            sum *= args->flags & TW_FLAG_ALPHA ? args->alpha.d : 1;
            *out = sum {wrong} + (args->flags & TW_FLAG_BETA ? args->beta.d * *out : 0);
        }}
}}
"""


def table(kernels: list[dict[str, Any]]) -> str:
    """C of a table of kernels for d: isa, mode, mr, nr, and where wanted span, vector_dim, wrong."""
    code, rows = ['#include "tw_kernel.h"'], []
    for kernel in kernels:
        isa, mode, mr, nr, span, along = (
            kernel.get(key, 0) for key in ("isa", "mode", "mr", "nr", "span", "vector_dim")
        )
        name = f"gemm_d_{mode}_{mr}x{nr}_{span}__{isa}"
        live = f"- {span} + __builtin_popcountll(args->mask)" if span else ""
        first, second = "8 * {0} + {1} * args->ld{2}", "8 * {1} + {0} * args->ld{2}"
        code.append(
            KERNEL.format(
                name=name,
                m=f"{mr} {live if along == 0 else ''}",
                n=f"{nr} {live if along == 1 else ''}",
                a=(first if mode[0] == "n" else second).format("i", "p", "a"),
                b=(first if mode[1] == "n" else second).format("p", "j", "b"),
                wrong=kernel.get("wrong", ""),
            )
        )
        rows.append(
            f'{{.name = "{name}", .run = {name}, .isa = TW_ISA_{isa.upper()}, .dtype = TW_D, '
            f".mode = TW_{mode.upper()}, "
            f".family = TW_SMALL, .vector_dim = {along}, .mask_span = {span}, .mr = {mr}, .nr = {nr}}},"
        )
    code += [
        "const tw_kernel tw_kernels[] = {",
        *rows,
        "};",
        "const int tw_kernel_count = sizeof tw_kernels / sizeof *tw_kernels;",
        f"const tw_cost_line tw_kernel_costs[{len(rows)}];",
        'const char tw_kernel_digest[] = "0123456789abcdef";',
        "const tw_special tw_specials[1] = {0};",
        "const int tw_special_count = 0;",
        'const char tw_kernel_abi[24] = "0";',
    ]
    return "\n".join(code)


class Library:
    """The runtime over a table, loaded."""

    def __init__(self, path: Path) -> None:
        from runtime._cdef import HEADER, declarations

        self.ffi = FFI()
        self.ffi.cdef(declarations(HEADER.read_text()))
        self.lib: Any = self.ffi.dlopen(str(path))

    def text(self, pointer: Any) -> str:
        content = self.ffi.string(pointer)
        assert isinstance(content, bytes)
        return content.decode()

    def message(self) -> str:
        return self.text(self.lib.tw_error_message())

    def gemm(self, a: Any, b: Any, c: Any, transa: str = "N", transb: str = "N") -> int:
        """C = op(A) op(B), row-major; the status."""
        (m, k), n = (a.shape if transa == "N" else a.shape[::-1]), c.shape[1]
        x, y, z = (self.ffi.from_buffer("double[]", operand) for operand in (a, b, c))
        trans = ord(transa), ord(transb)
        status: int = self.lib.tw_dgemm(ROW, *trans, m, n, k, 1, x, a.shape[1], y, b.shape[1], 0, z, n)
        return status


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[dict[str, Any]]], Library]:
    """Compile the runtime over a table."""
    include = Path(tw.info().library).resolve().parent.parent / "include"

    def compile_and_load(kernels: list[dict[str, Any]]) -> Library:
        try:
            compiler = tool("gcc", "clang", why="to compile the runtime over a table of the test's own")
        except Unavailable as unavailable:
            miss(unavailable)
        folder = tmp_path_factory.mktemp("table")
        (folder / "kernel_table.c").write_text(table(kernels))
        sources = [folder / "kernel_table.c", *sorted(CSRC.glob("*.c"))]
        command = [compiler, "-std=c11", "-O1", "-fPIC", "-shared", f"-I{include}", '-DTW_VERSION="test"']
        subprocess.run([*command, *map(str, sources), "-o", str(folder / "lib.so")], check=True)
        return Library(folder / "lib.so")

    return compile_and_load


MODES = ("nn", "nt", "tn", "tt")
ONES = [{"isa": "scalar", "mode": mode, "mr": 1, "nr": 1} for mode in MODES]
OPERANDS = st.tuples(*[st.integers(1, 30)] * 3)


def check(library: Library, m: int, n: int, k: int, transa: str = "N", transb: str = "N") -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(-4, 5, (m, k)).astype(float), rng.integers(-4, 5, (k, n)).astype(float)
    c = np.full((m, n), np.nan)
    x, y = (v if trans == "N" else np.ascontiguousarray(v.T) for v, trans in ((a, transa), (b, transb)))
    assert library.gemm(x, y, c, transa, transb) == 0, library.message()
    assert np.array_equal(c, a @ b)


def test_tables_with_gaps_still_cover_every_shape(build: Callable[[list[dict[str, Any]]], Library]) -> None:
    """Sizes that no kernel does exactly, as NEON's tables leave them; masked kernels that reach down only so far."""
    library = build(
        [
            *(
                {"isa": "scalar", "mode": "nn", "mr": mr, "nr": nr}
                for mr, most in ((1, 3), (2, 7), (5, 2))
                for nr in range(1, most + 1)
            ),
            *({"isa": "scalar", "mode": "nt", "mr": mr, "nr": nr} for mr in (1, 4) for nr in (1, 2, 8)),
            *({"isa": "scalar", "mode": "tn", "mr": mr, "nr": nr, "span": 4} for mr in (4, 8) for nr in (1, 3)),
            *(
                {"isa": "scalar", "mode": "tt", "mr": mr, "nr": nr, "span": 8, "vector_dim": 1}
                for mr in (1, 6)
                for nr in (8, 16)
            ),
            {"isa": "scalar", "mode": "tt", "mr": 4, "nr": 90},  # beyond what the tables of tiles hold
        ]
    )

    @given(sizes=OPERANDS, trans=st.tuples(*[st.sampled_from("NT")] * 2))
    @settings(max_examples=300, deadline=None)
    def cover(sizes: tuple[int, int, int], trans: tuple[str, str]) -> None:
        check(library, *sizes, *trans)

    cover()
    for mode in (("N", "N"), ("N", "T"), ("T", "N"), ("T", "T")):
        check(library, 131, 197, 3, *mode)
    assert library.lib.tw_selftest(library.ffi.NULL) == 0


def test_a_mode_without_kernels_is_served_by_scalar_and_says_so(
    build: Callable[[list[dict[str, Any]]], Library],
) -> None:
    """A crash, or an error, where some kernels were left out; a stand-in that nobody can see."""
    best = tw.info().runnable[0]
    library = build(
        [*ONES, {"isa": best, "mode": "nn", "mr": 2, "nr": 2}, {"isa": best, "mode": "tt", "mr": 1, "nr": 1}]
    )
    names = [library.text(library.lib.tw_isa_name(isa)) for isa in range(library.lib.tw_isa_count())]
    assert names[library.lib.tw_isa_current()] == best
    check(library, 5, 4, 3)
    check(library, 5, 4, 3, "T", "T")
    serving = {mode: names[library.lib.tw_isa_serving(ord("d"), *map(ord, mode.upper()))] for mode in MODES}
    # nn has a kernel, but one that covers even sizes only.
    assert serving == {"nn": "scalar", "nt": "scalar", "tn": "scalar", "tt": best}


def test_a_product_that_nothing_serves_is_an_error(build: Callable[[list[dict[str, Any]]], Library]) -> None:
    """A NULL kernel called; C half written."""
    library = build(ONES[:2])
    c = np.full((3, 3), 7.0)
    assert library.gemm(np.eye(3), np.eye(3), c, "N", "T") == 101
    assert library.message() == (
        "tw_dgemm: scalar has no kernels for transa 'T', transb 'N' (column-major), and no scalar ones stand in; build "
        "all of them, or in place of 'R' pass a conjugated copy."
    )
    assert np.all(c == 7)
    assert library.lib.tw_isa_serving(ord("d"), ord("T"), ord("T")) == -1
    assert library.lib.tw_selftest(library.ffi.NULL) == 0  # what is there is right


def test_a_library_for_another_machine_says_so(build: Callable[[list[dict[str, Any]]], Library]) -> None:
    """An illegal instruction, or scalar kernels that are not there."""
    foreign = next(isa for isa in ("neon", "avx512", "avx2") if isa not in tw.info().runnable)
    library = build([{"isa": foreign, "mode": "nn", "mr": 1, "nr": 1}])
    assert library.lib.tw_isa_current() == library.lib.tw_isa_best() == -1
    assert library.gemm(np.eye(2), np.eye(2), np.eye(2)) == 100
    assert library.message() == f"no ISA can be used: built is {foreign}, and this machine can run none of it."
    assert library.lib.tw_isa_set(foreign.encode()) == 100
    assert library.message() == f"tw_isa_set={foreign}: this CPU lacks it; this machine can run nothing."


@pytest.mark.parametrize(
    "fault",
    [
        {"mr": 3, "nr": 2, "wrong": "+ (args->k == 17)"},
        {"mr": 4, "nr": 2, "span": 4, "wrong": "+ (i == 0 && (args->mask & 15) == 1)"},
        {"mr": 2, "nr": 3, "wrong": "+ (args->flags == (TW_FLAG_ALPHA | TW_FLAG_BETA))"},
        {"mr": 2, "nr": 2, "wrong": "+ 0; out[j == 1 ? 2 : 0] = sum"},
    ],
    ids=["depth", "mask", "scalars", "padding"],
)
def test_the_self_test_finds_and_names_a_wrong_kernel(
    build: Callable[[list[dict[str, Any]]], Library], fault: dict[str, Any]
) -> None:
    """A self-test that passes whatever the kernels do."""
    library = build([*ONES, {"isa": "scalar", "mode": "nn", **fault}])
    report: Any = library.ffi.new("tw_selftest_report *")
    assert library.lib.tw_selftest(report) == report.mismatches > 0
    scalar = 0
    assert report.run[scalar] == 5
    assert report.failed[scalar] == 1
    name = f"gemm_d_nn_{fault['mr']}x{fault['nr']}_{fault.get('span', 0)}__scalar"
    assert library.text(report.failure).startswith(f"{name}: m ")
