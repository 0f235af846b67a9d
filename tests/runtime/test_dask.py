"""Products of dask arrays: right in any blocks, refused in the wrong ones, what is short sent to each worker once."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilewright.runtime as tw

from ..support import miss
from .problems import DTYPES, Array, forced, integers

try:
    import dask
    import dask.array as da
    import distributed

    from tilewright.runtime import dask as tilewright_dask
except ImportError as error:
    miss(f"{error}: pyproject's extra `dev` has it")


@st.composite
def cut(draw: st.DrawFn, most: int = 40) -> tuple[int, ...]:
    """Sizes of blocks, empty ones too."""
    return tuple(draw(st.lists(st.integers(0, most), min_size=1, max_size=5)))


@given(rows=cut(), k=st.integers(1, 9), n=st.integers(1, 9), dtype=st.sampled_from(DTYPES), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_products_in_any_blocks(rows: tuple[int, ...], k: int, n: int, dtype: np.dtype[Any], seed: int) -> None:
    """A block multiplied by another's columns; a sum over blocks that leaves one out, or of the wrong type."""
    rng = np.random.default_rng(seed)
    long = sum(rows)
    x, y, w = integers(rng, (long, k), dtype), integers(rng, (long, n), dtype), integers(rng, (k, n), dtype)
    tall, other = da.from_array(x, chunks=(rows, -1)), da.from_array(y, chunks=(rows, -1))
    with dask.config.set(scheduler="synchronous"):
        for lazy, exact in (
            (tilewright_dask.product(tall, w), x @ w),
            (tilewright_dask.product(w.T, tall.T), w.T @ x.T),
            (tilewright_dask.product(tall.T, other), x.T @ y),
            (tilewright_dask.gram(tall), x.conj().T @ x),
            (tilewright_dask.gram(tall, other), x.conj().T @ y),
        ):
            assert lazy.shape == exact.shape
            found = lazy.compute()
            assert found.dtype == dtype == lazy.dtype
            assert np.array_equal(found, exact)


X = np.ones((12, 4))
TALL, BOTH = da.from_array(X, chunks=(5, -1)), da.from_array(X, chunks=(5, 3))
OTHER = TALL.rechunk((6, -1))
UNKNOWN = TALL[TALL[:, 0] > 0]
W = np.ones((4, 2))
REFUSED: list[tuple[Any, type[Exception], str]] = [
    (lambda: tilewright_dask.product(X, W), tw.ArgumentError, "neither a nor b is a dask array"),
    (lambda: tilewright_dask.product(BOTH, W), tw.LayoutError, r"a's columns are cut into 2 .*a\.rechunk\(\{1: -1, 0"),
    (lambda: tilewright_dask.product(W.T, BOTH.T), tw.LayoutError, r"b's rows are cut into 2 .*b\.rechunk\(\{0: -1, 1"),
    (lambda: tilewright_dask.product(TALL, da.from_array(W)), tw.LayoutError, r"a's rows are .*a\.rechunk\(\{0: -1"),
    (lambda: tilewright_dask.product(TALL, X), tw.ShapeError, r"a is \(12, 4\) but b is \(12, 4\): a's columns"),
    (lambda: tilewright_dask.product(TALL, W.astype("f4")), tw.DtypeError, "a is float64 but b is float32"),
    (lambda: tilewright_dask.product(TALL.astype(int), W), tw.DtypeError, "a has dtype int64; it must be"),
    (lambda: tilewright_dask.product(TALL[:, 0], W), tw.ShapeError, r"a has shape \(12,\); it must have two"),
    (lambda: tilewright_dask.product(TALL.T, OTHER), tw.LayoutError, r"pass b\.rechunk\(\{0: a\.chunks\[1\]\}\)"),
    (lambda: tilewright_dask.gram(X), tw.ArgumentError, "x is a ndarray; it must be a dask array"),
    (lambda: tilewright_dask.gram(BOTH), tw.LayoutError, r"x's columns are cut into 2 .*x\.rechunk\(\{1: -1, 0: 'a"),
    (lambda: tilewright_dask.gram(TALL, TALL[:9]), tw.ShapeError, "as many rows"),
    (lambda: tilewright_dask.gram(UNKNOWN, TALL), tw.LayoutError, r"x\.compute_chunk_sizes\(\)"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "error", "words"), REFUSED)
def test_what_does_not_fit_is_refused(make: Any, error: type[Exception], words: str) -> None:
    """An error from inside a worker, hours later; one that does not say how to rechunk."""
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize("number", range(3))
def test_the_advice_helps(number: int) -> None:
    """A rechunk that leads to the next error."""
    good = BOTH.rechunk({1: -1, 0: "auto"})
    lazy = (tilewright_dask.product(good, W), tilewright_dask.gram(good), tilewright_dask.product(W.T, good.T))[number]
    exact = (X @ W, X.T @ X, W.T @ X.T)[number]
    assert np.array_equal(lazy.compute(scheduler="synchronous"), exact)


def test_blocks_of_unknown_size_may_be_multiplied() -> None:
    """Rows chosen by what they hold, whose number nobody knows yet."""
    assert np.array_equal(tilewright_dask.product(UNKNOWN, W).compute(scheduler="synchronous"), X @ W)
    assert np.array_equal(tilewright_dask.gram(UNKNOWN).compute(scheduler="synchronous"), X.T @ X)


def test_workers_pack_for_their_own_cpu() -> None:
    """Panels made for the client's instruction set, which a worker without it cannot use."""
    with dask.config.set(scheduler="synchronous"):
        lazy = pickle.loads(pickle.dumps(tilewright_dask.product(TALL, W)))
        tilewright_dask._plan.cache_clear()
        with forced("scalar"):
            assert np.array_equal(lazy.compute(), X @ W)
        tilewright_dask._plan.cache_clear()


def test_without_dask_the_message_says_what_to_install() -> None:
    """An ImportError that names a module nobody asked for; dask imported by everybody."""
    code = "import sys, tilewright.runtime; assert 'dask' not in sys.modules; sys.modules['dask'] = None\n"
    code += "try:\n    import tilewright.runtime.dask\nexcept ImportError as error: print(error)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "pip install 'tilewright[dask]'" in ran.stdout


# ---- On a cluster of processes ----


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    settings = {"distributed.nanny.pre-spawn-environ.TILEWRIGHT_NUM_THREADS": 1}
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def random(rows: int, columns: int) -> Array:
    return np.random.default_rng(0).integers(-9, 9, (rows, columns)).astype(np.float64)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_on_a_cluster_the_short_operand_is_sent_to_each_worker_once(client: Any) -> None:
    """The operand packed into every task of the graph; workers that have it not and fetch it for every block."""
    x, w = random(4000, 300), random(300, 500)
    tall = client.persist(da.from_array(x, chunks=(250, -1)))
    distributed.wait(tall)
    before = set(client.who_has())
    lazy = tilewright_dask.product(tall, w)
    holders = {key: who for key, who in client.who_has().items() if key not in before}
    assert [len(who) for who in holders.values()] == [2]
    assert len(distributed.protocol.pickle.dumps(lazy.dask)) < w.nbytes / 4
    assert np.array_equal(lazy.compute(), x @ w)
    assert np.array_equal(tilewright_dask.gram(tall).compute(), x.T @ x)
    assert client.run(tw.get_num_threads) == dict.fromkeys(client.scheduler_info()["workers"], 1)
