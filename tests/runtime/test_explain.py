"""What explain and TILEWRIGHT_VERBOSE say is what runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tilewright.runtime as tw

from .problems import DTYPES, RUNNABLE, forced


@pytest.mark.parametrize("isa", RUNNABLE)
@given(
    dtype=st.sampled_from(DTYPES),
    sizes=st.tuples(*[st.integers(0, 90)] * 3),
    trans=st.tuples(st.sampled_from("NTC"), st.sampled_from("NTC")),
)
def test_the_tiles_cover_the_result(
    isa: str, dtype: np.dtype[Any], sizes: tuple[int, int, int], trans: tuple[str, str]
) -> None:
    """Rows and columns exchanged once too often; another tiling than the one that runs."""
    with forced(isa):
        how = tw.explain(*sizes, dtype, trans_a=trans[0], trans_b=trans[1])
    covered = np.zeros(sizes[:2], int)
    for tile in how.tiles:
        covered[tile.row : tile.row + tile.rows, tile.column : tile.column + tile.columns] += 1
        assert f"__{isa}" in tile.kernel
        assert tile.nanoseconds > 0
    assert np.all(covered == 1)
    assert how.path == {0: "nothing to do", 1: "one kernel"}.get(len(how.tiles), how.path)
    lines = str(how).splitlines()
    assert how.isa == isa
    assert all(len(line) <= 120 for line in lines)
    drawn = [line for line in lines[2:] if line.startswith("  ")][: min(sizes[0], 24)]
    if how.tiles:
        assert all(len(line) == 2 + min(sizes[1], 64) and " " not in line[2:] for line in drawn)


PROGRAM = """
import numpy as np, tilewright.runtime as tw
x = np.ones((7, 7), np.float32)
for _ in range(3):
    tw.gemm(x, x)
tw.gemm_batch(np.ones((5, 2, 2)), np.ones((2, 2)))
run = tw.gemm_plan(4, 4, 4, np.float64).bind(*np.ones((3, 4, 4)))
run(), run()
"""


@pytest.mark.parametrize("level", ["", "0", "1", "2"])
def test_verbose_says_what_ran(level: str) -> None:
    """A product that goes past the count: the last plan, a bound one, a batch; words where none were asked for."""
    environment = {**os.environ, "TILEWRIGHT_VERBOSE": level}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert ran.stdout == ""
    lines = ran.stderr.splitlines()
    summary = [
        "tilewright: 3 x sgemm row-major NN m=7 n=7 k=7 lda=7 ldb=7 ldc=7: one kernel",
        "tilewright: 5 x dgemm row-major NN m=2 n=2 k=2 lda=2 ldb=2 ldc=2: one kernel",
        "tilewright: 2 x dgemm row-major NN m=4 n=4 k=4 lda=4 ldb=4 ldc=4: one kernel",
    ]
    if level in ("", "0"):
        assert lines == []
        return
    timed = [re.fullmatch(r"(.*), (\d+\.\d{3}) ms", line) for line in lines[-3:]]
    assert [match and match[1] for match in timed] == summary
    assert all(0 <= float(match[2]) < 1000 for match in timed if match)
    each = lines[:-3]
    calls = [int(match[1]) for line in each if (match := re.match(r"tilewright: (\d+) x ", line))]
    assert len(calls) == len(each)
    assert sum(calls) == (10 if level == "2" else 0)  # a batch is a line where one kernel does it in one call
    if each:
        assert each[0].startswith(
            "tilewright: 1 x sgemm row-major NN m=7 n=7 k=7 lda=7 ldb=7 ldc=7: one kernel, 1 tile gemm_s_"
        )
