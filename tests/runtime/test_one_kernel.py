"""The runtime's C files with one kernel of our own: what no whole library can show."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import tilewright.runtime as tw

from ..support import ROOT, Unavailable, miss, tool

KERNEL = """
#include <stdio.h>
#include "internal.h"

static void one(const void *a, const void *b, void *c, const tw_args *args)
{
    const float *x = a, *y = b;
    float sum = 0, *z = c;
    for (int64_t p = 0; p < args->k; p++)
        sum += *(const float *)((const char *)x + p * args->lda) * y[p];
    sum *= args->flags & TW_FLAG_ALPHA ? args->alpha.s : 1;
    *z = sum + (args->flags & TW_FLAG_BETA ? args->beta.s * *z : 0);
}

const tw_kernel tw_kernels[] = {
    {.name = "one", .run = one, .isa = TW_ISA_SCALAR, .dtype = TW_S, .mode = TW_NN, .mr = 1, .nr = 1},
};
const int tw_kernel_count = 1;
const tw_cost_line tw_kernel_costs[1] = {0};
const char tw_kernel_digest[] = "0";
const tw_special tw_specials[1] = {0};
const int tw_special_count = 0;
const char tw_kernel_abi[24] = "0";
"""

SELFTEST = """
int main(void)
{
    tw_selftest_report report;
    int64_t wrong = tw_selftest(&report);
    printf("%d %s\\n", wrong != 0, report.failure);
    return 0;
}
"""

REFUSES = """
int __wrap_tw_select(int isa, int dtype, tw_operation a, tw_operation b, tw_steps steps, const tw_tiles **tiles,
                     int *mode, int *served_by)
{
    return tw_fail(TW_ERROR_KERNEL, "nothing at all");
}
"""

EARLY = """
static int early, product;
static float x = 3, y;
__attribute__((constructor(101))) static void before_the_library(void)
{
    product = tw_sgemm(TW_COL_MAJOR, 'N', 'N', 1, 1, 1, 1, &x, 1, &x, 1, 0, &y, 1);
    early = tw_isa_current();
}

int main(void)
{
    printf("%d %d %g %d %s\\n", early, product, y, tw_isa_current(), tw_isa_reason());
    return 0;
}
"""


def compiled(folder: Path, program: str, *options: str) -> Path:
    """A program of the runtime's files and the one kernel."""
    try:
        compiler = tool("cc", "gcc", "clang", why="for programs of the runtime's C files")
    except Unavailable as unavailable:
        miss(unavailable)
    (folder / "program.c").write_text(KERNEL + program)
    sources = sorted(str(path) for path in (ROOT / "runtime" / "csrc").glob("*.c"))
    include = Path(tw.info().library).resolve().parent.parent / "include"
    command = [compiler, "-std=c11", '-DTW_VERSION="0"', f"-I{ROOT / 'runtime' / 'csrc'}", f"-I{include}", *options]
    subprocess.run(
        [*command, *sources, str(folder / "program.c"), "-lpthread", "-o", str(folder / "program")], check=True
    )
    return folder / "program"


def run(program: Path, isa: str = "") -> str:
    environment = {**os.environ, "TILEWRIGHT_ISA": isa}
    return subprocess.run(
        [program], capture_output=True, text=True, timeout=60, check=True, env=environment
    ).stdout.strip()


def test_the_self_test_misses_no_kernels_that_were_not_built_and_all_that_were(tmp_path: Path) -> None:
    """A choice of kernels that always refuses, and a self-test that takes it for a small library."""
    assert run(compiled(tmp_path, SELFTEST)) == "0"
    refuses = compiled(tmp_path, SELFTEST + REFUSES, "-Wl,--wrap=tw_select")
    assert run(refuses).startswith("1 scalar sgemm column-major NN")


@pytest.mark.parametrize(
    ("isa", "printed"),
    [("", "0 0 9 0 best of those built"), ("scalar", "0 0 9 0 TILEWRIGHT_ISA"), ("avx2", "-1 100 0 -1 TILEWRIGHT_ISA")],
)
def test_the_environment_holds_before_our_constructor(isa: str, printed: str, tmp_path: Path) -> None:
    """Called by another library's constructor, which comes first: the best ISA, or a product with none at all."""
    assert run(compiled(tmp_path, EARLY), isa) == printed
