"""The tiler: what every strategy must keep, and the values that IrGEMM's algorithm has on its own tables."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tilewright.runtime as tw
from tilewright.runtime._library import ffi, lib, text

from .. import papers
from .problems import DTYPES, RUNNABLE, forced
from .test_plan import gemm

TILERS = ("measured", "paper", "greedy", "rebalance")
Tile = tuple[int, int, int, int]


def cut(tiler: str, sizes: list[tuple[int, int]], m: int, n: int, k: int = 16) -> list[Tile] | int:
    """Tiles (i, j, m, n) of C[m x n], or the number C returned in place of a count."""
    tiles = ffi.new("int[1024]")
    flat = [extent for size in sizes for extent in size]
    count: int = lib.tw_tile_sizes(tiler.encode(), len(sizes), flat, m, n, k, tiles)
    if count < 0:
        return count
    return [(tiles[4 * i], tiles[4 * i + 1], tiles[4 * i + 2], tiles[4 * i + 3]) for i in range(count)]


def total(tiles: list[Tile] | int) -> int:
    assert isinstance(tiles, list)
    return sum(m + n for _, _, m, n in tiles)


GOLDEN = {
    ("s", "nn"): {5: 15, 8: 16, 15: 72, 16: 64, 17: 97, 23: 147, 32: 256, 33: 310, 64: 1024, 80: 1600},
    ("s", "nt"): {15: 57, 16: 60, 17: 92, 23: 132, 32: 224, 64: 880, 80: 1360},
    ("s", "tn"): {8: 32, 15: 117, 16: 128},
    ("d", "nn"): {8: 24, 15: 90, 16: 96, 32: 384, 64: 1536, 80: 2400},
}


@pytest.mark.parametrize(("dtype", "mode"), GOLDEN)
def test_golden_values_of_the_papers_algorithm(dtype: str, mode: str) -> None:
    """The misprint in line 19 of IrGEMM's Algorithm 2; an exact fit that does not end the search."""
    sizes = papers.tiles(dtype, mode)
    for size, least in GOLDEN[dtype, mode].items():
        assert total(cut("paper", sizes, size, size)) == least, size


SIZES = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), max_size=8).map(lambda more: [(1, 1), *more])


@pytest.mark.parametrize("tiler", TILERS)
@given(sizes=SIZES, m=st.integers(1, 24), n=st.integers(1, 24), k=st.integers(0, 100))
@settings(max_examples=200)
def test_tiles_cover_c_once_with_kernels_that_there_are(
    tiler: str, sizes: list[tuple[int, int]], m: int, n: int, k: int
) -> None:
    """A gap, an overlap, a tile for which there is no kernel."""
    tiles = cut(tiler, sizes, m, n, k)
    if tiles == -1:
        return  # more than a plan lists: walked
    assert isinstance(tiles, list)
    covered = np.zeros((m, n), int)
    for i, j, rows, columns in tiles:
        assert (rows, columns) in sizes
        assert i + rows <= m
        assert j + columns <= n
        covered[i : i + rows, j : j + columns] += 1
    assert np.all(covered == 1)


@given(sizes=SIZES, m=st.integers(1, 24), n=st.integers(1, 24))
@settings(max_examples=200)
def test_the_papers_tiling_is_never_worse_than_the_walk_by_its_own_measure(
    sizes: list[tuple[int, int]], m: int, n: int
) -> None:
    """A search that misses what a plain rule finds."""
    fixed, found = cut("greedy", sizes, m, n), cut("paper", sizes, m, n)
    if fixed != -1:
        assert (m, n) in sizes or total(found) <= total(fixed)


@pytest.mark.parametrize("tiler", TILERS)
@pytest.mark.parametrize("isa", RUNNABLE)
def test_products_are_exact_whatever_the_tiler(tiler: str, isa: str) -> None:
    """Offsets of tiles that no other strategy makes."""
    rng = np.random.default_rng(0)
    try:
        assert lib.tw_tiler_set(tiler.encode()) == lib.TW_OK
        assert text(lib.tw_tiler_current()) == tiler
        for _ in range(60):
            m, n, k = (int(size) for size in rng.integers(1, 90, 3))
            x, y = rng.integers(-4, 5, (m, k)).astype(float), rng.integers(-4, 5, (k, n)).astype(float)
            z = np.full((m, n), np.nan)
            with forced(isa):
                assert gemm(x, y, z) == lib.TW_OK
            assert np.array_equal(z, x @ y), (m, n, k)
    finally:
        assert lib.tw_tiler_set(ffi.NULL) == lib.TW_OK


@pytest.mark.parametrize("isa", RUNNABLE)
@given(
    dtype=st.sampled_from(DTYPES),
    trans=st.tuples(st.sampled_from("NT"), st.sampled_from("NT")),
    m=st.integers(1, 90),
    n=st.integers(1, 90),
    k=st.integers(0, 90),
)
@settings(max_examples=100)
def test_the_default_is_never_worse_than_fixed_rules_by_its_own_measure(
    isa: str, dtype: np.dtype[Any], trans: tuple[str, str], m: int, n: int, k: int
) -> None:
    """A search that misses what a plain rule finds; a cost that the search does not use.

    The search also counts what is in no tile's price: 0.7 ns from tile to tile, and operands beyond the first cache.
    """
    assume(max(m, n) * k * dtype.itemsize <= 52 << 10)
    predicted = {}
    try:
        for tiler in ("measured", "greedy", "rebalance"):
            assert lib.tw_tiler_set(tiler.encode()) == lib.TW_OK
            with forced(isa):
                predicted[tiler] = tw.explain(m, n, k, dtype, trans_a=trans[0], trans_b=trans[1])
    finally:
        assert lib.tw_tiler_set(ffi.NULL) == lib.TW_OK
    if predicted["measured"].path != "walk":
        costs = {tiler: how.nanoseconds + 0.7 * len(how.tiles) for tiler, how in predicted.items()}
        assert costs["measured"] <= min(costs.values()) * (1 + 1e-5)


def test_a_new_shape_is_planned_within_a_millisecond() -> None:
    """A search over all cuts in the first call of a shape."""
    plan = ffi.new("tw_gemm_plan **")
    for letter in b"sdcz":
        for m, n in ((80, 80), (79, 81), (5, 500), (128, 77), (300, 300), (2000, 3)):
            took: list[float] = []
            for _ in range(20):
                started = time.perf_counter()
                assert lib.tw_gemm_plan_create(plan, letter, 101, 78, 78, m, n, 33, 33, n, n) == lib.TW_OK
                took.append(time.perf_counter() - started)
                lib.tw_gemm_plan_destroy(plan[0])
            assert min(took) < 1e-3, (chr(letter), m, n, min(took))


def test_unknown_tilers_are_refused() -> None:
    """A misspelt strategy measured under another's name."""
    assert lib.tw_tiler_set(b"best") == lib.TW_ERROR_TILER
    assert text(lib.tw_error_message()).startswith("tw_tiler_set: best: there is no such tiler; there are measured")
    assert cut("best", [(1, 1)], 2, 2) == -lib.TW_ERROR_TILER
    assert cut("paper", [(2, 2)], 3, 3) == -lib.TW_ERROR_KERNEL
    code = "import numpy as np, tilewright.runtime as tw; tw.gemm(np.eye(2), np.eye(2))"
    environment: dict[str, Any] = {**os.environ, "TILEWRIGHT_TILER": "fastest"}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 1
    assert "TILEWRIGHT_TILER=fastest: there is no such tiler; there are measured, paper, greedy" in ran.stderr
